# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/soak for some seconds, and that it is what it says it is."""

import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from ports import ROOT
from procs import PATIENCE

import netns

SOAK = ROOT / 'tests/soak/soak.py'
SECONDS = 10        # of events
LIMIT = 240         # seconds, with what it takes until all is well


def run(*args):
    return subprocess.run([SOAK, *args], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=LIMIT * PATIENCE, check=False)


# The network is made for what it skips, should it have to.
@pytest.mark.parametrize('seed', ['--seed=5', None], ids=['fixed', 'random'])
def test_soak(net, tap, seed):
    done = run(f'--seconds={SECONDS}', *([seed] if seed else []))
    print(done.stdout)
    assert done.returncode == 0, done.stdout[:8000]
    assert 'all is well again' in done.stdout
    assert re.search(r'^soak: passed; again with --seed=\w+ --guests=on$',
                     done.stdout, re.M)


def test_plan_follows_from_the_seed():
    first, again, other = [run('--plan', f'--seed={s}').stdout
                           for s in ('x', 'x', 'y')]
    assert first == again
    assert first.splitlines()[1:] != other.splitlines()[1:]
    for kind in ('kill', 'stop', 'unplug', 'cable', 'silent', 'firewall',
                 'tapdown', 'pair', 'renumber', 'remap', 'move', 'rekey',
                 'peer', 'flush', 'reconnect'):
        assert re.search(rf'^ +[0-9.]+  {kind}\b', first, re.M), first


@pytest.mark.parametrize('number, word', [
    (signal.SIGTERM, 'seed'), (signal.SIGINT, 'hosts hub'),
    (signal.SIGINT, 'well')], ids=['at-once', 'begun', 'under-way'])
def test_interrupted_leaves_nothing(net, tap, number, word):
    process = subprocess.Popen([SOAK, '--seconds=60'], text=True,
                               stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
    timer = threading.Timer(LIMIT * PATIENCE, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            if word in line:
                break
        process.send_signal(number)
        output = process.stdout.read()
    finally:
        process.kill()
        process.wait()
        timer.cancel()
    assert process.returncode == 130, output
    assert 'interrupted' in output
    assert netns.namespaces(process.pid) == []
    assert netns.run_dirs(process.pid) == []


def test_finds_a_broken_byte(net):
    """What the streams are judged by does judge."""
    sys.path.insert(0, str(SOAK.parent))
    from flows import Pair, Traffic
    host = net.host('alone')
    flow = Pair('f', host, host, '127.0.0.1', 1)
    traffic = Traffic()
    traffic.add(flow)
    traffic.start()
    net.on_close.append(traffic.stop)
    end = time.monotonic() + 10 * PATIENCE
    while min(flow.received) < 100000:
        assert time.monotonic() < end and not flow.error, flow.error
        time.sleep(0.01)
    flow.sides[0].sock.sendall(b'?')
    while not flow.error:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert 'other bytes than were sent' in str(flow.error)
