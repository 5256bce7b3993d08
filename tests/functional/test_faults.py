# SPDX-License-Identifier: GPL-2.0-or-later
"""What the system refuses, and what it takes away while a port runs.

A port that starts either ends with one line that says why and leaves nothing,
or does without and works.  strace(1) has the kernel refuse one call of a kind
after the other, until a run is left in which none was refused.

Not here, as other tests have it: ENOBUFS (test_underlay.py), a full disk
(test_tap_capture.py), a frozen port (test_liveness.py), clocks (the unit test
of that name), layers of the sandbox that cannot be had (test_tap_sandbox.py).
"""

import os
import re
import signal

import pytest
import taptool
from procs import TROUBLE, wait_for
from streams import Streams

MAX_CALLS = 60
# What a port says that does without something.
DOES_WITHOUT = re.compile(
    r'sandbox=off|no route for the group|tap0 is down, and setting it up failed|cannot watch the link|'
    r'no interface can join the group|capture to .* ends:|cannot empty it|'
    r'reading from tap0 failed|receive buffer')
# From the loader, before the program's first line.
LOADER = re.compile(r'error while loading shared libraries|cannot allocate '
                    r'memory in static TLS|cannot create .*segment')
# GLib's way: whoever has no memory for a few bytes has no memory to say more.
GLIB = re.compile(r'failed to allocate \d+ bytes')

CALLS = {
    'socket': 'EMFILE', 'bind': 'ENOMEM', 'setsockopt': 'ENOMEM',
    'getsockopt': 'ENOBUFS', 'getsockname': 'ENOBUFS', 'listen': 'ENOMEM',
    'ioctl': 'ENOMEM', 'epoll_create1': 'EMFILE', 'epoll_ctl': 'ENOSPC',
    'signalfd4': 'EMFILE', 'eventfd2': 'EMFILE', 'clone3': 'EAGAIN',
    'ftruncate': 'EIO', 'sendto': 'ENOBUFS', 'sendmsg': 'ENOBUFS',
    'sendmmsg': 'ENOBUFS', 'recvmsg': 'ENOMEM', 'recvmmsg': 'ENOMEM',
    'epoll_wait': 'EINTR',
}
# Those that a port can do without altogether, so that it always starts.
ALWAYS_STARTS = {'getsockopt', 'clone3', 'ftruncate', 'sendto', 'sendmsg',
                 'sendmmsg', 'recvmsg', 'recvmmsg', 'epoll_wait'}
# Not called by each libc, kernel, or run.
MAYBE_NEVER = {'sendmmsg', 'clone3', 'recvmmsg'}


class Starter:
    """Starts a port with all that it can have, again and again."""

    def __init__(self, host, folder):
        self.host = host
        self.control = f'{host.network.run_dir}/control'
        secret = folder / 'secret'
        secret.write_text('a secret that nobody guesses')
        secret.chmod(0o600)
        self.args = ['--tap', 'tap0', '--control', self.control, '--pcap',
                     folder / 'pcap', '--secret-file', secret, '--peer',
                     '127.0.0.1:7777']

    def run(self, wrap, *args):
        """Start it under the command WRAP, end it if it runs; returns how it
        ended, its log, and whether it was ready."""
        process = taptool.start(
            self.host, *self.args, *args, wrap=wrap, ready=False,
            env={'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') +
                 ':detect_leaks=0'})
        ready = wait_for(
            lambda: 'is ready' in process.log or
            (not process.running and 'ended'), 20,
            lambda: f'an end: {process.log}') is True
        status = process.stop() if ready else process.wait(10)
        assert set(taptool.links(self.host)) == {'lo', 'eth0'}, process.log
        return status, process.log, ready

    def judge(self, status, log, ready):
        lines = [line for line in log.splitlines()
                 if TROUBLE.search(line) and not DOES_WITHOUT.search(line)]
        assert status == (0 if ready else 1), (status, log)
        assert 'assert' not in log, log
        assert not os.path.exists(self.control), log
        if ready:
            assert not lines, log
        else:
            told = [line for line in log.splitlines()
                    if line.startswith('qdes-tap: ') and
                    not DOES_WITHOUT.search(line)]
            assert told, log


@pytest.fixture
def starter(net, tmp_path):
    return Starter(net.hosts(1)[0], tmp_path)


@pytest.mark.parametrize('call', CALLS)
def test_call_is_refused(starter, tmp_path, call):
    """The first, the second, ... of all calls of a kind fails."""
    trace = tmp_path / 'trace'
    started = []
    for when in range(1, MAX_CALLS):
        outcome = starter.run(
            ['strace', '-D', '-f', '-o', trace, '-e', f'trace={call}', '-e',
             f'inject={call}:error={CALLS[call]}:when={when}'],
            '--sandbox', 'off')
        if '(INJECTED)' not in trace.read_text():
            assert outcome[2], outcome[1]
            break
        starter.judge(*outcome)
        started.append(outcome[2])
    else:
        raise AssertionError(f'{call} is called without end')
    assert started or call in MAYBE_NEVER
    if call in ALWAYS_STARTS:
        assert all(started)
    else:
        assert not all(started)


def test_no_descriptors(starter):
    """RLIMIT_NOFILE: one more each time, until it starts without a word."""
    for limit in range(3, 40):
        status, log, ready = starter.run(['prlimit', f'--nofile={limit}'])
        if LOADER.search(log):
            continue
        if ready and not DOES_WITHOUT.search(log) and 'warning' not in log:
            break
        if not ready:
            assert status == 1 and log.count('qdes-tap: ') >= 1, (status, log)
            assert 'assert' not in log, log
        assert not os.path.exists(starter.control), log
    else:
        raise AssertionError(f'it does not start with {limit}: {log}')
    assert limit > 10


def test_no_memory(starter):
    """RLIMIT_AS: more and more, until it starts.

    A library may say so, or GLib, which ends the process there and then
    (SIGTRAP or SIGABRT); nothing runs on into the void.
    """
    ends = []
    for mebibytes in range(4, 400, 4):
        status, log, ready = starter.run(
            ['prlimit', f'--as={mebibytes << 20}'], '--sandbox', 'off')
        if ready:
            assert status == 0
            break
        assert status != 0
        if 'AddressSanitizer' in log:
            pytest.skip('AddressSanitizer takes terabytes of address space')
        if status < 0:
            assert -status in (signal.SIGTRAP, signal.SIGABRT), (status, log)
            assert GLIB.search(log), log
        else:
            assert log.strip(), f'status {status}, and not a word'
        ends.append(status)
        # Whoever is killed cannot tidy up.
        if os.path.exists(starter.control):
            assert status < 0, log
            os.unlink(starter.control)
    else:
        raise AssertionError(f'it does not start: {log}')
    assert ends


@pytest.fixture
def pair(net, tap):
    switch = net.switch()
    hosts = [net.host(name, switch) for name in ('h1', 'h2')]
    ports = [tap(host) for host in hosts]
    for number, port in enumerate(ports, 1):
        port.configure(f'10.81.0.{number}/24')
    for port in ports:
        port.wait_peers(1)
    return switch, ports


def test_underlay_interface_is_removed(pair):
    """Under traffic; and another one takes its place: TCP gets over it."""
    switch, ports = pair
    a, b = ports
    streams = Streams([(a.host, b.host, '10.81.0.2'),
                       (b.host, a.host, '10.81.0.1')], None, timeout=60)
    streams.assert_progress()
    for port in ports:
        port.logs.allow('the group')
        port.logs.allow('no route')
    a.host.ip('link del eth0')
    wait_for(lambda: a.count('tx-drop-unreachable') +
             a.count('tx-drop-no-group') + a.count('tx-copy-errors') > 0, 20,
             lambda: f'drops: {a.counters}')
    a.host.connect(switch, 0)
    a.host.ip('route add default dev eth0')
    streams.assert_progress(deadline=40)
    streams.finish()
    for port in ports:
        assert len(port.process.log) < 4096, port.process.log


def test_tap_is_removed_under_traffic(pair):
    """The port says so once, tells its peers, and ends."""
    _, (a, b) = pair
    streams = Streams([(b.host, a.host, '10.81.0.1')], None, timeout=20)
    streams.assert_progress()
    a.logs.expect('tap0 was deleted')
    a.process.ended_by_test = True
    a.host.ip('link del tap0')
    assert a.process.wait() == 1
    assert a.process.log.count('was deleted') == 1
    assert not os.path.exists(a.control)
    wait_for(lambda: not b.peers, 5, 'its BYE')
    for stream in streams.streams:
        stream.ending = True


def test_descriptors_run_out_while_it_runs(pair):
    """Clients of the control socket wait; the port serves its peers."""
    _, (a, b) = pair
    b.host.assert_ping('10.81.0.1')
    fds = len(os.listdir(f'/proc/{port_pid(a)}/fd'))
    a.host.run(['prlimit', '--pid', port_pid(a), f'--nofile={fds}:'])
    client = None
    try:
        client = taptool.Client(a.control)
        client.sock.settimeout(0.5)
        client.send(b'{"execute": "query-qdes"}\n')
        with pytest.raises(TimeoutError):
            client.receive()
        b.host.assert_ping('10.81.0.1', count=20)
        used = a.process.cpu_seconds()
        b.host.assert_ping('10.81.0.1', count=20, interval=0.05)
        assert a.process.cpu_seconds() - used < 0.5, 'it spins'
    finally:
        a.host.run(['prlimit', '--pid', port_pid(a), '--nofile=1024:'])
    client.sock.settimeout(10)
    assert client.receive()
    client.sock.close()
    b.host.assert_ping('10.81.0.1')


def port_pid(port):
    return port.process.pid
