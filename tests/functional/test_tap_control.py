# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket of qdes-tap, its clients, and hostile ones."""

import contextlib
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest
import taptool
from frames import BROADCAST, PacketSocket, frame, mac
from ports import QDES_TAP, unbalanced
from procs import wait_for
from taptool import Client

CLIENTS = 16            # CONTROL_CLIENTS
TIMEOUT = 10            # CONTROL_TIMEOUT_MS
REQUEST_MAX = 12288
# AddressSanitizer keeps what was freed for long: let memory be comparable.
NO_QUARANTINE = {'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') +
                 ':quarantine_size_mb=1'}
QUERY = b'{"execute": "query-qdes"}\n'


@pytest.fixture
def host(net):
    return net.hosts(1)[0]


@pytest.fixture
def control(host):
    return f'{host.network.run_dir}/c'


@pytest.fixture
def port(host, control):
    """A running qdes-tap; it has to survive the test and end well."""
    process = taptool.start(host, '--tap', 'tap0', '--control', control,
                            env=NO_QUARANTINE)
    yield process
    assert process.running
    with Client(control) as client:
        assert not unbalanced(client.ask()['return']['counters'])
    assert process.stop() == 0
    assert not os.path.exists(control)
    assert 'warning' not in process.log


def test_socket_of_a_dead_process_is_replaced(host, control):
    process = taptool.start(host, '--tap', 'tap0', '--control', control)
    process.kill()
    assert os.path.exists(control)
    done = taptool.run(host, 'status', '--control', control)
    assert done.returncode == 1
    assert f'--control={control}: nobody listens there' in done.stderr
    wait_for(lambda: 'tap0' not in taptool.links(host))
    process = taptool.start(host, '--tap', 'tap0', '--control', control)
    taptool.status(control)
    assert process.stop() == 0
    assert not os.path.exists(control)


def test_path_in_use(host, control, port):
    line = taptool.refused(host, '--tap', 'tap1', '--control', control)
    assert f'--control={control}: in use: another program listens' in line
    assert 'tap1' not in taptool.links(host)
    taptool.status(control)


@pytest.mark.parametrize('make', [
    lambda path: open(path, 'w', encoding='ascii').write('precious'),
    os.mkdir, os.mkfifo, lambda path: os.symlink('/nonexistent', path)],
    ids=['file', 'directory', 'fifo', 'symlink'])
def test_path_that_is_no_socket(host, control, make):
    make(control)
    before = os.lstat(control)
    line = taptool.refused(host, '--tap', 'tap0', '--control', control)
    assert f'--control={control}: in use: ' in line
    assert 'not a socket' in line
    assert os.lstat(control) == before


@pytest.mark.parametrize('path, text', [
    ('', '1 to 107 bytes'), ('/tmp/' + 'x' * 103, '1 to 107 bytes'),
    ('/nonexistent/c', 'No such file'), ('/proc/c', 'directory'),
    ('/dev/null/c', 'Not a directory')])
def test_path_that_cannot_be(host, path, text):
    line = taptool.refused(host, '--tap', 'tap0', '--control', path)
    assert line.startswith(f'--control={path}: ')
    assert text in line


def test_socket_of_somebody_else_stays(host, control):
    """At exit only what is still ours is removed."""
    process = taptool.start(host, '--tap', 'tap0', '--control', control)
    os.unlink(control)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(control)
        assert process.stop() == 0
    assert os.path.exists(control)


def test_two_starts_race_for_a_stale_socket(host, control):
    """Exactly one gets it, whatever the order."""
    for _ in range(10):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(control)
        racers = [taptool.start(host, '--tap', f'tap{n}', '--control',
                                control, ready=False) for n in range(4)]
        wait_for(lambda r=racers: sum(p.running for p in r) == 1 and
                 sum('is ready' in p.log for p in r) == 1, 10)
        winner = next(p for p in racers if p.running)
        for racer in racers:
            if racer is not winner:
                assert racer.wait() == 1
                assert 'in use' in racer.log
        taptool.status(control)
        assert winner.stop() == 0


def test_query(port, control, host):
    with Client(control) as client:
        status = client.ask()['return']
        assert set(status) == {
            'id', 'name', 'netid', 'encap', 'local', 'group', 'iface',
            'loopback', 'link-up', 'paused', 'vnet-hdr', 'gso', 'seeds',
            'peers', 'relay', 'relay-pairs', 'unreachable',
            'fdb', 'counters'}
        assert status['id'] == 'tap0'
        assert status['local'].startswith(f'{host.address}:')
        # The next question on the same connection.
        assert client.ask()['return']['local'] == status['local']
        text = client.ask('info-qdes')['return']
        assert text.startswith('tap0:\n')
        assert status['local'] in text


def test_static_entries(port, control):
    with Client(control) as client:
        assert client.ask('qdes-fdb-add', mac='02:00:00:00:00:01',
                          peer='192.0.2.1:4000') == {'return': {}}
        assert client.ask('qdes-fdb-add',
                          mac='02-00-00-00-00-FE') == {'return': {}}
        assert client.ask()['return']['fdb'] == [
            {'mac': '02:00:00:00:00:01', 'local': False, 'static': True,
             'peer': '192.0.2.1:4000', 'age-ms': 0, 'moves': 0},
            {'mac': '02:00:00:00:00:fe', 'local': True, 'static': True,
             'age-ms': 0, 'moves': 0}]
        text = client.ask('info-qdes')['return']
        assert re.search(r'02:00:00:00:00:01 at 192.0.2.1:4000 +static', text)
        assert client.ask('qdes-fdb-flush') == {'return': {'flushed': 0}}
        assert client.ask('qdes-fdb-del',
                          mac='02:00:00:00:00:fe') == {'return': {}}
        assert client.ask('qdes-fdb-flush', peer='192.0.2.1:4000',
                          static=True) == {'return': {'flushed': 1}}
        for command, arguments, text in [
                ('qdes-fdb-add', {'mac': 'x'}, 'mac=x: not a MAC address'),
                ('qdes-fdb-del', {'mac': '02:00:00:00:00:fe'},
                 'no such static entry'),
                ('qdes-fdb-flush', {'peer': '239.1.1.1:1'}, 'endpoint')]:
            error = client.ask(command, **arguments)['error']
            assert error['class'] == 'GenericError'
            assert text in error['desc']
        assert client.ask()['return']['fdb'] == []


def test_fdb_commands(port, control, host):
    def tool(*args, status=0):
        done = taptool.run(host, *args, '--control', control)
        assert done.returncode == status, done
        return done
    sock = PacketSocket(host, 'tap0')
    sock.send(frame(BROADCAST, mac(1)))
    wait_for(lambda: mac(1) in taptool.status(control))
    tool('fdb-add', '--mac', mac(2), '--peer', f'{host.address}:9')
    tool('fdb-add', '--mac', mac(3))
    assert f'{mac(2)} at {host.address}:9' in taptool.status(control)
    done = tool('fdb-flush')
    assert done.stdout == '1 MAC addresses forgotten\n'
    assert mac(1) not in taptool.status(control)
    done = tool('fdb-del', '--mac', mac(3))
    assert done.stdout == done.stderr == ''
    done = tool('fdb-del', '--mac', mac(3), status=1)
    assert f'--control={control}: mac={mac(3)}: ' in done.stderr
    assert tool('fdb-flush', '--mac', mac(2)).stdout.startswith('0 ')
    assert tool('fdb-flush', '--mac', mac(2),
                '--static').stdout.startswith('1 ')
    done = tool('fdb-add', '--mac', '\udcff', status=1)
    assert 'UTF-8' in done.stderr


def test_peer_commands(port, control, host):
    """What was listed while the port runs, and what is wrong with it."""
    def tool(*args, status=0):
        done = taptool.run(host, *args, '--control', control)
        assert done.returncode == status, done
        return done
    with Client(control) as client:
        def listed():
            return {seed['peer']: seed['addresses']
                    for seed in client.ask()['return']['seeds']}
        assert listed() == {}
        assert client.ask('qdes-peer-add', peer='127.0.0.9') == {'return': {}}
        tool('peer-add', '--peer', '127.0.0.9:7')
        tool('peer-add', '--peer', '127.0.0.9:20804')
        assert listed() == {'127.0.0.9': ['127.0.0.9:20804'],
                            '127.0.0.9:7': ['127.0.0.9:7']}
        assert '127.0.0.9:7 resolved' in taptool.status(control)
        tool('peer-del', '--peer', '127.0.0.9:7')
        assert client.ask('qdes-peer-del',
                          peer='127.0.0.9:20804') == {'return': {}}
        assert listed() == {}
        for command, peer, text in [
                ('qdes-peer-add', 'h:0', 'peer h:0: '),
                ('qdes-peer-add', '239.1.1.1', 'multicast'),
                ('qdes-peer-add', '2001:db8::1', 'localaddr=[::]'),
                ('qdes-peer-del', '127.0.0.9', 'not listed')]:
            error = client.ask(command, peer=peer)['error']
            assert error['class'] == 'GenericError'
            assert text in error['desc']
        error = client.ask('qdes-peer-add')['error']
        assert error['desc'] == "qdes-peer-add: the argument 'peer' is missing"
    done = tool('peer-del', '--peer', '127.0.0.9', status=1)
    assert f'--control={control}: peer 127.0.0.9: not listed' in done.stderr


def test_status_command(port, control):
    assert json.loads(taptool.status(control, '--json'))['id'] == 'tap0'
    assert taptool.status(control).startswith('tap0:\n')


@pytest.mark.parametrize('data', [
    b'\n', b'x\n', b'{}\n', b'[]\n', b'{"execute": 1}\n', b'\0\n',
    b'\xff\xfe\n', b'{"execute": "quit"}\n', b'{"execute": "query-qdes"\n',
    b'{"execute": "query-qdes", "arguments": {"mac": "x"}}\n',
    b'{"execute": "qdes-fdb-add"}\n',
    b'{"execute": "qdes-fdb-add", "arguments": {"mac": "x"}}\n',
    b'[' * 4000 + b'\n'])
def test_wrong_requests_are_answered(port, control, data):
    with Client(control) as client:
        client.send(data)
        answer = client.receive()
        assert set(answer) == {'error'}
        assert set(answer['error']) == {'class', 'desc'}
        # And the connection goes on.
        assert 'return' in client.ask()


def test_requests_in_any_pieces(port, control):
    with Client(control) as client:
        for byte in QUERY:
            client.send(bytes([byte]))
        assert 'return' in client.receive()
        # Many at once, more than fit into the buffer for one.
        client.send(QUERY * 500)
        for _ in range(500):
            assert client.receive()['return']['id'] == 'tap0'
        # The last one without a newline, from a client that only listens on.
        client.send(b'{"execute": "nothing"}\n' + QUERY[:-1])
        client.sock.shutdown(socket.SHUT_WR)
        assert client.receive()['error']['class'] == 'CommandNotFound'
        assert 'return' in client.receive()
        assert client.receive() is None


def test_long_request(port, control):
    with Client(control) as client:
        client.send(b' ' * (REQUEST_MAX - len(QUERY)) + QUERY)
        assert 'return' in client.receive()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.send(b' ' * 1000000 + QUERY)
        assert 'too long' in client.receive()['error']['desc']
        assert client.receive() is None


def test_garbage(port, control):
    rng = random.Random(0x5144)
    for _ in range(50):
        with Client(control) as client:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.send(rng.randbytes(rng.randrange(1, 20000)))
                client.sock.shutdown(socket.SHUT_WR)
            while (answer := client.receive()) is not None:
                assert 'error' in answer
    taptool.status(control)


def test_clients_that_leave(port, control):
    """Before the answer, during it, and with one that they do not read."""
    for number in range(100):
        with Client(control) as client:
            client.send(QUERY * (number % 5))
            if number % 3 and number % 5:
                client.sock.recv(10)
    taptool.status(control)


def test_hundred_connections(port, control):
    """Too many are told so, and those who have come first are served."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(control)) for _ in range(100)]
        for client in clients[:CLIENTS]:
            assert 'return' in client.ask()
        for client in clients[CLIENTS:]:
            answer = client.receive()
            assert 'too many clients' in answer['error']['desc']
            assert client.receive() is None
        done = subprocess.run([QDES_TAP, 'status', '--control', control],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=30, check=False)
        assert done.returncode == 1
        assert 'too many clients' in done.stderr
        descriptors = len(os.listdir(f'/proc/{port.pid}/fd'))
        assert descriptors < 50

    def is_served():
        # Until the port has seen that the others are gone, it is one too many.
        with Client(control) as client, \
                contextlib.suppress(BrokenPipeError, ConnectionResetError):
            return 'return' in (client.ask() or {})
        return False
    wait_for(is_served)


def fill_fdb(host, control, count):
    """Be heard with COUNT addresses at the port's TAP."""
    sock = PacketSocket(host, 'tap0')
    # As many at a time as fit into the queue of the TAP.
    for start in range(0, count, 500):
        end = min(start + 500, count)
        for number in range(start, end):
            sock.send(frame(BROADCAST, mac(number)))
        with Client(control) as client:
            wait_for(lambda c=client, n=end:
                     c.ask()['return']['counters']['tx-frames'] >= n)


def test_stuck_clients_are_closed(port, control, host):
    """Each kind of stuck client, all at once, while others are served."""
    fill_fdb(host, control, 4000)
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        def client():
            return stack.enter_context(Client(control))
        silent = [client() for _ in range(3)]
        slow = client()
        half = client()
        half.send(QUERY[:-5])
        greedy = [client() for _ in range(5)]
        for one in greedy:
            # It asks and asks, and reads nothing: answers are large.
            one.sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    one.sock.send(QUERY)
        memory = port.memory()
        while time.monotonic() < start + TIMEOUT - 2:
            assert len(json.loads(taptool.status(control, '--json'))
                       ['fdb']) >= 4000
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                slow.send(b' ')
            time.sleep(0.5)
        for one in [*silent, slow, half]:
            assert one.receive() is None
        assert start + TIMEOUT - 0.1 < time.monotonic() < start + TIMEOUT + 5
        for one in greedy:
            poll = select.poll()
            poll.register(one.sock, 0)
            wait_for(lambda p=poll: p.poll(0), 5)
            # What was on its way is there still, but not the whole answer.
            one.sock.settimeout(10)
            with pytest.raises(AssertionError, match='half an answer'):
                one.receive()
        assert port.memory() < memory + (100 << 20)


def test_status_does_not_stop_traffic(net, tap):
    hosts = net.hosts(2)
    a, b = tap(hosts[0], max_macs=100000), tap(hosts[1])
    a.configure('10.81.0.1/24')
    b.configure('10.81.0.2/24')
    fill_fdb(hosts[0], a.control, 20000)
    ended = threading.Event()

    def ask():
        while not ended.is_set():
            with Client(a.control) as client:
                assert len(client.ask()['return']['fdb']) >= 20000
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        hosts[1].assert_ping('10.81.0.1', count=30, interval=0.02)
        slowest = float(hosts[1].last_ping.rpartition('= ')[2].split('/')[2])
    finally:
        ended.set()
        thread.join()
    assert slowest < 500, hosts[1].last_ping


# qdes-tap status

def ask_at(path, *args, wrap=(), env=None):
    return subprocess.run([*wrap, QDES_TAP, 'status', *args,
                           *(['--control', path] if path else [])],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=30,
                          env={**os.environ, **(env or {})}, check=False)


@pytest.mark.parametrize('path, text', [
    ('/nonexistent/socket', 'there is no such socket'),
    ('/dev/null', 'nobody listens'), ('x' * 200, 'File name too long')])
def test_status_of_nothing(path, text):
    done = ask_at(path)
    assert done.returncode == 1
    assert done.stdout == ''
    assert f'--control={path}: {text}' in done.stderr


class FakePort:
    """Somebody else's socket, which answers as the test wants."""

    def __init__(self, path, answer):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(8)
        self.answer = answer
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(self.answer)


@pytest.mark.parametrize('answer, text', [
    (b'', 'Connection reset'),
    (b'{"return": {', 'Connection reset'),
    (b'SSH-2.0-OpenSSH\r\n', 'makes no sense'),
    (b'\xff\n', 'makes no sense'),
    (b'{}\n', 'makes no sense'),
    (b'[]\n', 'makes no sense'),
    (b'{"return": 7}\n', 'makes no sense'),
    (b'{"return": []}\n', 'makes no sense'),
    (b'{"error": 7}\n', 'makes no sense'),
    (b'{"error": {"desc": 7}}\n', 'makes no sense'),
    (b'{"error": {"class": "x", "desc": "no luck"}}\n', 'no luck')])
def test_status_of_something_else(tmp_path, answer, text):
    directory = tempfile.mkdtemp(prefix='qdes-', dir='/tmp')
    try:
        path = f'{directory}/s'
        FakePort(path, answer)
        for args in [], ['--json']:
            done = ask_at(path, *args)
            assert done.returncode == 1
            assert done.stdout == ''
            assert f'--control={path}: ' in done.stderr
            assert text in done.stderr
            assert len(done.stderr.splitlines()) == 1
    finally:
        shutil.rmtree(directory)


def test_status_of_a_frozen_port(port, control):
    port.send(signal.SIGSTOP)
    start = time.monotonic()
    done = ask_at(control)
    port.send(signal.SIGCONT)
    assert done.returncode == 1
    assert 'no answer' in done.stderr
    assert 9 < time.monotonic() - start < 15


def test_status_that_cannot_be_written(port, control):
    with open('/dev/full', 'w', encoding='ascii') as full:
        done = subprocess.run([QDES_TAP, 'status', '--control', control],
                              stdout=full, stderr=subprocess.PIPE, text=True,
                              timeout=30, check=False)
    assert done.returncode == 1
    assert 'No space left' in done.stderr


def test_status_finds_the_only_port(net):
    """In the directories where services and users have their sockets."""
    host = net.hosts(1)[0]
    runtime = net.run_dir
    # A /run without other ports, whatever runs on this machine.
    wrap = taptool.mount_wrap('mount -t tmpfs tmpfs /run')
    env = {'XDG_RUNTIME_DIR': runtime}

    def status():
        return ask_at(None, wrap=wrap, env=env)
    done = status()
    assert done.returncode == 1
    assert '--control PATH' in done.stderr
    processes = []
    for name in 'tap0', 'tap1':
        os.makedirs(f'{runtime}/qdes-tap/{name}')
        processes.append(taptool.start(
            host, '--tap', name, '--control',
            f'{runtime}/qdes-tap/{name}/control'))
        done = status()
        if name == 'tap0':
            assert done.returncode == 0
            assert done.stdout.startswith('tap0:\n')
    assert done.returncode == 1
    for name in 'tap0', 'tap1':
        assert f'{runtime}/qdes-tap/{name}/control' in done.stderr
    for process in processes:
        assert process.stop() == 0
