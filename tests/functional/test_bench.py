# SPDX-License-Identifier: GPL-2.0-or-later
"""tests/bench/compare, made as short as can be: it has to work, not to be
right about how fast anything is."""

import json
import os
import signal
import subprocess

import netns
import pytest
from ports import QDES_TAP, ROOT
from procs import PATIENCE, wait_for

COMPARE = ROOT / 'tests/bench/compare'
SHORT = ['--rounds=1', '--seconds=1', '--pings=50', '--bursts=1']


def compare(*args):
    """Run it; what it says to a program, and to people."""
    return subprocess.run(
        [COMPARE, f'--qdes-tap={QDES_TAP}', *SHORT, *args],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, timeout=60 * PATIENCE, check=False)


@pytest.fixture
def before(net, tap):
    """Skips where there is nothing to measure with; then, what was there."""
    del tap
    return netns.namespaces(), netns.run_dirs(), net


def pids(namespace):
    return netns.command(['ip', 'netns', 'pids', namespace],
                         check=False).stdout.split()


def nothing_left(before):
    """Others may run tests here too: what is left would be of the dead."""
    spaces, folders, _ = before
    new = (set(netns.namespaces()) | {d.name for d in netns.run_dirs()}) - \
        set(spaces) - {d.name for d in folders}
    return not [n for n in new
                if not os.path.exists(f'/proc/{n.split("-")[1]}')]


def test_measures(before, tmp_path):
    """Every measure gives figures, in every form there is."""
    path = tmp_path / 'all.json'
    done = compare('--only=veth,qdes,flood-qdes-10',
                   f'--json={path}', f'--output={tmp_path}')
    assert done.returncode == 0, done.stderr
    result = json.loads(path.read_text())
    got = {(s['kind'], s['measure']): s['values'] for s in result['samples']}
    measures = {m for kind, m in got if kind == 'qdes'}
    assert measures == {'tcp', 'tcp4', 'bidir', 'small', 'rtt', 'rtt-load',
                        'rtt-same'}
    assert {m for kind, m in got if kind == 'veth'} == measures
    for values in got.values():
        assert all(v >= 0 for v in values.values()), values
    for measure in 'tcp', 'tcp4', 'bidir':
        assert got['qdes', measure]['gbps'] > 0.01
        assert got['qdes', measure]['cpu_per_gb'] > 0
        assert 'cpu_per_gb' not in got['veth', measure]
    assert got['qdes', 'small']['kpps'] > 0.1
    assert got['qdes', 'rtt']['median_us'] <= got['qdes', 'rtt']['p99_us']
    assert got['flood-qdes-10', 'flood']['delivered_percent'] > 1
    assert result['machine']['cores'] and result['versions']['iperf3']
    # The text and the plot are made of the same.
    assert (tmp_path / 'result.md').read_text().endswith(done.stdout)
    assert 'vxvde: not asked for' in done.stdout
    if 'no plot' not in done.stderr:
        assert '<svg' in (tmp_path / 'result.svg').read_text()
    again = subprocess.run([COMPARE, f'--from={path}'], text=True, check=True,
                           stdout=subprocess.PIPE)
    assert again.stdout == done.stdout
    assert nothing_left(before)


def test_failures_are_shown(before, tmp_path):
    """What does not work has its reason in the result, and in the end."""
    path = tmp_path / 'failed.json'
    done = compare('--only=veth,qdes,hub-qdes', '--measure=rtt',
                   '--qdes-tap=/bin/false', '--qemu=/nowhere/qemu',
                   f'--json={path}')
    assert done.returncode == 1
    assert '1 of 2 measurements failed' in done.stderr
    assert '/nowhere/qemu is not built' in done.stdout
    assert 'failed: false ended' in done.stdout
    result = json.loads(path.read_text())
    assert ['error' in s for s in result['samples']] == [False, True]
    assert nothing_left(before)


def test_ended_early(before, tmp_path):
    """A signal ends it soon; what there is is shown, nothing is left."""
    del before
    log = tmp_path / 'stderr'
    with open(log, 'w', encoding='utf-8') as err:
        process = subprocess.Popen(
            [COMPARE, f'--qdes-tap={QDES_TAP}', '--only=qdes',
             '--measure=tcp', '--rounds=9', '--seconds=100'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err,
            text=True)
    try:
        # In the middle of a measurement: a port and iperf3 in each host.
        wait_for(lambda: [len(pids(n)) for n in
                          netns.namespaces(process.pid)] == [2, 2], 20,
                 lambda: f'its programs: {log.read_text()}')
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20 * PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1, log.read_text()
    assert 'ended early' in out
    assert not netns.namespaces(process.pid)
    assert not netns.run_dirs(process.pid)


@pytest.mark.parametrize('args, text', [
    (['--only=nothing'], '--only=nothing: choose from veth'),
    (['--measure=speed'], '--measure=speed: choose from tcp'),
    (['--rounds=0'], '0: use a whole number from 1'),
    (['--plot=bars.gif'], 'has to end with .svg or .png'),
])
def test_wrong_options(args, text):
    done = compare(*args)
    assert done.returncode == 2
    assert text in done.stderr
