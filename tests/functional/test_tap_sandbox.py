# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left to a running qdes-tap, and to its helper: next to nothing.

That calls beyond the list are the end of the process is a unit test's matter
(tests/unit/test-tap-sandbox.c).  All other functional tests run in the
sandbox, too.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
import taptool
from dnsserver import A, DnsServer
from ports import QDES_TAP, ROOT
from procs import wait_for
from taptool import AS_NOBODY, NOBODY, PublicCopy, proc_status

UNIT = ROOT / 'tools/qdes-tap/qdes-tap@.service'
REFUSE = ROOT / 'tests/lib/refuse.py'
NO_LEAK_CHECK = {'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') +
                 ':detect_leaks=0'}
# AddressSanitizer needs /proc, so it has no Landlock and no empty root.
SANITIZED = b'__asan_init' in Path(QDES_TAP).read_bytes() \
    if os.path.exists(QDES_TAP) else False


@pytest.fixture
def host(net):
    return net.hosts(1)[0]


@pytest.fixture
def public(net):
    """A copy of qdes-tap that every user can run."""
    with tempfile.TemporaryDirectory(prefix='qdes-', dir='/tmp') as directory:
        yield PublicCopy(directory)


def refusing(public, *calls):
    """Run a program where these calls are refused."""
    copy = public.path('refuse.py')
    if not os.path.exists(copy):
        shutil.copy(REFUSE, copy)
    return ['/usr/bin/python3', copy, ','.join(calls)]


def helper_of(pid):
    """The process ID of the helper; None: there is none."""
    children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    assert len(children) <= 1
    return int(children[0]) if children else None


def assert_confined(pid):
    """Every thread of it."""
    for thread in os.listdir(f'/proc/{pid}/task'):
        status = proc_status(pid, thread)
        assert status['Seccomp'] == '2'
        assert status['NoNewPrivs'] == '1'
        for name in 'CapInh', 'CapPrm', 'CapEff', 'CapAmb':
            assert int(status[name], 16) == 0, (name, status[name])


def namespaces(pid):
    return {name: os.readlink(f'/proc/{pid}/ns/{name}')
            for name in ('ipc', 'mnt', 'net', 'user', 'uts')}


def sandbox_line(process):
    lines = [line for line in process.log.splitlines() if 'sandbox' in line]
    assert len(lines) == 1, process.log
    return lines[0]


def start(host, public, user, wrap=(), **kwargs):
    """A port with everything that a port can have; the test's user is root,
    or has become nobody before or after the start."""
    options = ['--tap', 'tap0', '--control', public.path('control'), '--pcap',
               public.path('pcap'), '--peer', 'localhost:9']
    if user == 'own device':
        host.ip(f'tuntap add dev tap0 mode tap user {NOBODY}',
                'link set tap0 up')
        wrap = [*AS_NOBODY, *wrap]
    elif user == '--user':
        options += ['--user', 'nobody']
    return taptool.start(host, *options, wrap=wrap, program=public.program,
                         env=NO_LEAK_CHECK, **kwargs)


@pytest.mark.parametrize('user', ['root', '--user', 'own device'])
def test_confined(host, public, user):
    DnsServer(host)
    process = start(host, public, user)
    control = public.path('control')
    status = json.loads(taptool.status(control, '--json'))
    assert status['id'] == 'tap0'
    wait_for(lambda: json.loads(taptool.status(control, '--json'))
             ['seeds'][0]['state'] == 'resolved')
    helper = helper_of(process.pid)
    for pid in process.pid, helper:
        assert_confined(pid)
    # The threads of the capture, the status and the lookups are there.
    assert len(os.listdir(f'/proc/{process.pid}/task')) > 3

    line = sandbox_line(process)
    assert 'system call filter' in line
    assert 'own namespaces' in line
    assert 'not granted: own' not in line and 'warning' not in line
    here, there = namespaces(helper), namespaces(process.pid)
    assert here['net'] == there['net']
    assert here['ipc'] != there['ipc'] and here['uts'] != there['uts']
    assert (here['user'] != there['user']) == (user == 'own device')
    if not SANITIZED:
        assert here['mnt'] != there['mnt']
        assert os.listdir(f'/proc/{process.pid}/root/') == []
        assert os.readlink(f'/proc/{process.pid}/cwd') == '/'

    # The helper has nothing of the port's.
    files = {os.readlink(f'/proc/{helper}/fd/{fd}').split(':')[0]
             for fd in os.listdir(f'/proc/{helper}/fd')}
    assert files == {'/dev/null', process.log_path, 'socket'}
    assert len(os.listdir(f'/proc/{helper}/fd')) == 4

    assert process.stop() == 0
    assert not os.path.exists(control)
    assert not os.path.exists(f'/proc/{helper}')


def test_no_helper_where_nothing_is_for_it(host):
    process = taptool.start(host, '--tap', 'tap0')
    assert helper_of(process.pid) is None
    assert_confined(process.pid)
    assert process.stop() == 0


@pytest.mark.parametrize('user', ['root', 'own device'])
@pytest.mark.parametrize('calls, kept, lost', [
    (['unshare'], ['Landlock', 'system call filter'],
     ['own namespaces (Operation not permitted)']),
    (['landlock_create_ruleset'], ['own namespaces', 'system call filter'],
     ['Landlock (Operation not permitted)']),
    (['seccomp', 'prctl'], ['own namespaces', 'Landlock'],
     ['system call filter (']),
    (['unshare', 'landlock_create_ruleset', 'seccomp', 'prctl'], ['nothing'],
     ['own namespaces (Operation', 'system call filter (']),
], ids=['unshare', 'landlock', 'seccomp', 'all'])
def test_what_is_refused_is_said(host, public, user, calls, kept, lost):
    """In a container that grants less, it is a port all the same."""
    process = start(host, public, user, refusing(public, *calls))
    line = sandbox_line(process)
    for text in kept + lost:
        if not (SANITIZED and 'Landlock' in text):
            assert text in line
    if 'seccomp' in calls:
        assert line.startswith('qdes-tap: warning: sandbox: no ')
        assert all(line.index(text) > line.index('have: ')
                   for text in kept if text in line)
    elif not (SANITIZED and 'landlock_create_ruleset' in calls):
        assert line.startswith('qdes-tap: sandbox: ')
        assert line.index(lost[0]) > line.index('not granted: ')
    assert proc_status(process.pid)['NoNewPrivs'] == '1'
    assert int(proc_status(process.pid)['CapEff'], 16) == 0
    control = public.path('control')
    assert 'tap0' in taptool.status(control)
    assert process.stop() == 0
    assert not os.path.exists(control)


def test_off(host, public):
    """It is said, also with --quiet, and the rest is as ever."""
    control = public.path('control')
    process = taptool.start(host, '--tap', 'tap0', '--control', control,
                            '--peer', 'localhost:9', '--sandbox', 'off',
                            '--quiet', ready=False)
    wait_for(lambda: os.path.exists(control))
    assert 'tap0' in taptool.status(control)
    assert sandbox_line(process).startswith(
        'qdes-tap: warning: --sandbox=off: ')
    assert helper_of(process.pid) is None
    status = proc_status(process.pid)
    assert status['Seccomp'] == '0'
    assert status['NoNewPrivs'] == '1'
    assert int(status['CapEff'], 16) == 0
    assert process.stop() == 0
    assert not os.path.exists(control)


def test_log(host, public):
    control = public.path('control')
    process = taptool.start(host, '--tap', 'tap0', '--control', control,
                            '--sandbox', 'log')
    assert 'system calls logged' in sandbox_line(process)
    assert_confined(process.pid)
    assert_confined(helper_of(process.pid))
    assert process.stop() == 0
    assert not os.path.exists(control)


@pytest.mark.parametrize('value', ['', 'yes', 'none'])
def test_wrong_value(host, value):
    line = taptool.refused(host, '--tap', 'tap0', '--sandbox', value)
    assert line == f'--sandbox={value}: give on, off, or log'


def test_the_helper_ends_with_the_port(host, public):
    """Also with one that cannot say so; and it holds nothing of it."""
    process = start(host, public, 'root')
    helper = helper_of(process.pid)
    process.kill()
    wait_for(lambda: not os.path.exists(f'/proc/{helper}'))
    wait_for(lambda: 'tap0' not in taptool.links(host))


def test_the_port_lives_on_without_its_helper(host, public):
    DnsServer(host).set('pool.test', A, 5, ['10.0.0.1'])
    control = public.path('control')
    process = taptool.start(host, '--tap', 'tap0', '--control', control,
                            '--peer', 'pool.test')

    def seed():
        return json.loads(taptool.status(control, '--json'))['seeds'][0]
    wait_for(lambda: seed()['state'] == 'resolved')
    os.kill(helper_of(process.pid), signal.SIGKILL)
    wait_for(lambda: seed()['state'] == 'failing', 20)
    # What was known stays.
    assert seed()['addresses'] == ['10.0.0.1:20804']
    process.wait_log('warning: peer pool.test: the process that looks names '
                     'up has ended; restart the port')
    assert process.stop() == 0
    assert 'warning: the control socket stays' in process.log
    os.unlink(control)


# The unit for systemd

def unit_command(setting, tap):
    """What systemd would run for this setting of the unit."""
    text = UNIT.read_text()
    found = re.search(rf"^{setting}=\+sh -(e?c) '(.*?)' sh %i$", text,
                      re.MULTILINE | re.DOTALL)
    script = found[2].replace('\\\n', ' ').replace('$$', '$')
    return ['sh', f'-{found[1]}', script.replace('%%', '%'), 'sh', tap]


@pytest.mark.parametrize('before, stays', [
    ((), False), (('tuntap add dev tap0 mode tap',), True)],
    ids=['new', 'existing'])
def test_service_has_no_capability(host, public, before, stays):
    """The device is made for it, or is there; all else it does itself."""
    host.ip(*before)
    runtime = public.path('run')
    os.mkdir(runtime)
    os.chown(runtime, NOBODY, NOBODY)
    env = ['env', f'RUNTIME_DIRECTORY={runtime}']
    # As "ip netns exec" does, with the /sys of the namespace.
    host.run([*env, *unit_command('ExecStartPre', 'tap0')])
    assert taptool.is_up(host, 'tap0')
    process = taptool.start(
        host, '--tap', 'tap0', '--control', f'{runtime}/control',
        program=public.program, env=NO_LEAK_CHECK,
        wrap=[*AS_NOBODY, '--bounding-set=-all', '--no-new-privs',
              *refusing(public, 'unshare')])
    assert_confined(process.pid)
    assert 'tap0' in taptool.status(f'{runtime}/control')
    assert process.stop() == 0
    host.run([*env, *unit_command('ExecStopPost', 'tap0')])
    assert ('tap0' in taptool.links(host)) == stays


def test_service_scores_well(tmp_path):
    if not shutil.which('systemd-analyze'):
        pytest.skip('needs the program systemd-analyze')
    unit = tmp_path / UNIT.name
    shutil.copy(UNIT, unit)
    done = subprocess.run(
        ['systemd-analyze', 'security', '--offline=true', '--threshold=14',
         unit], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    exposure = re.search(r'Overall exposure level for \S+: ([0-9.]+)',
                         done.stdout)
    assert float(exposure[1]) < 1.5
