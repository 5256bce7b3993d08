# SPDX-License-Identifier: GPL-2.0-or-later
"""qdes-tap --pcap: what crosses the port, and never at the port's cost."""

import os
import pty
import struct
import subprocess
import time

import pytest
import taptool
from frames import BROADCAST, ETH_P_TEST, PacketSocket, frame, mac, marker
from procs import wait_for
from stations import Station

ETH_P_ARP = 0x0806
NANOSECONDS = 0xa1b23c4d
LINKTYPE_ETHERNET = 1


def parse_pcap(data, whole=True):
    """(seconds, frame) of every record, the last one in full if WHOLE."""
    if not whole and len(data) < 24:
        return []
    magic, _, _, _, _, _, linktype = struct.unpack_from('=IHHiIII', data)
    assert magic == NANOSECONDS
    assert linktype == LINKTYPE_ETHERNET
    records = []
    at = 24
    while at < len(data):
        if not whole and len(data) < at + 16:
            break
        seconds, nanoseconds, size, full = struct.unpack_from('=IIII', data,
                                                              at)
        assert size == full
        assert nanoseconds < 10**9
        at += 16
        if not whole and len(data) < at + size:
            break
        assert at + size <= len(data), 'half a record'
        records.append((seconds + nanoseconds / 1e9, data[at:at + size]))
        at += size
    return records


def frames_of(data, ethertype=ETH_P_TEST, whole=True):
    """Only frames of the test: hosts have something to say by themselves."""
    return [f for _, f in parse_pcap(data, whole)
            if f[12:14] == struct.pack('>H', ethertype)]


def live(path, ethertype=ETH_P_TEST):
    """The frames that are in a growing file by now."""
    return frames_of(path.read_bytes(), ethertype, whole=False)


class Port:
    """A qdes-tap with a capture, and a socket at its TAP."""

    def __init__(self, host, *args, **kwargs):
        self.control = f'{host.network.run_dir}/c'
        self.process = taptool.start(host, '--tap', 'tap0', '--control',
                                     self.control, *args, **kwargs)
        self.socket = PacketSocket(host, 'tap0')

    def send(self, ethertype=ETH_P_TEST, size=60):
        data = frame(BROADCAST, mac(1), marker(), ethertype, size)
        self.socket.send(data)
        return data


@pytest.fixture
def hosts(net):
    return net.hosts(2)


def test_both_directions_once_each(hosts, tap, tmp_path):
    path = tmp_path / 'pcap'
    other = Station(tap, hosts[1])
    start = time.time()
    port = Port(hosts[0], '--pcap', path)
    expected = []
    for number in range(50):
        data = port.send(size=60 + 29 * number)
        other.expect(data)
        answer = other.send(mac(1), mac(2))
        port.socket.expect(answer)
        expected += [data, answer]
    # It is in the file at once, not only at the end.
    wait_for(lambda: live(path) == expected)
    assert port.process.stop() == 0
    assert frames_of(path.read_bytes()) == expected
    times = [t for t, _ in parse_pcap(path.read_bytes())]
    assert times == sorted(times)
    assert start - 1 < times[0] < times[-1] < time.time() + 1
    assert 'left out: 0' in port.process.log


def test_what_is_refused_is_not_captured(hosts, tap, tmp_path):
    """A frame that the TAP did not take has not crossed the port."""
    path = tmp_path / 'pcap'
    other = Station(tap, hosts[1])
    port = Port(hosts[0], '--pcap', path)
    hosts[0].ip('link set tap0 down')
    port.process.wait_log('tap0 is down')
    refused = other.send(BROADCAST, mac(2))
    hosts[0].ip('link set tap0 up')
    port.process.wait_log('tap0 is up')
    taken = other.send(BROADCAST, mac(2))
    wait_for(lambda: taken in live(path))
    assert port.process.stop() == 0
    assert refused not in frames_of(path.read_bytes())


def test_filter(hosts, tmp_path):
    path = tmp_path / 'pcap'
    port = Port(hosts[0], '--pcap', path, '--pcap-filter',
                f'arp or (ether proto {ETH_P_TEST} and greater 1000)')
    port.send()
    big = port.send(size=1200)
    arp = port.send(ETH_P_ARP)
    port.send()
    wait_for(lambda: live(path, ETH_P_ARP) == [arp])
    assert port.process.stop() == 0
    assert frames_of(path.read_bytes()) == [big]


def test_old_file_is_replaced_only_when_the_port_starts(hosts, tmp_path):
    path = tmp_path / 'pcap'
    path.write_text('an older capture')
    taptool.refused(hosts[0], '--tap', 'eth0', '--pcap', path)
    taptool.refused(hosts[0], '--tap', 'tap0', '--pcap', path, '--localaddr',
                    '192.0.2.1')
    assert path.read_text() == 'an older capture'
    port = Port(hosts[0], '--pcap', path)
    assert port.process.stop() == 0
    parse_pcap(path.read_bytes())


class Reader:
    """Reads the stdout of a qdes-tap as a program behind a pipe would."""

    def __init__(self):
        self.fd, self.end = os.pipe()
        self.data = b''

    def started(self):
        os.close(self.end)
        os.set_blocking(self.fd, False)

    def read(self):
        try:
            while data := os.read(self.fd, 1 << 20):
                self.data += data
        except BlockingIOError:
            pass
        return self.data

    def frames(self):
        """What has come; the last record may be on its way."""
        return frames_of(self.read(), whole=False)

    def close(self):
        os.close(self.fd)


def test_stdout_carries_only_the_pcap(hosts):
    reader = Reader()
    port = Port(hosts[0], '--pcap', '-', stdout=reader.end)
    reader.started()
    # The header comes before any frame: a reader wants to see it.
    wait_for(lambda: len(reader.read()) >= 24)
    sent = [port.send() for _ in range(20)]
    wait_for(lambda: reader.frames() == sent)
    assert os.readlink(f'/proc/{port.process.pid}/fd/1') == '/dev/null'
    assert port.process.stop() == 0
    os.set_blocking(reader.fd, True)
    assert frames_of(reader.read()) == sent
    reader.close()


def test_closed_pipe_ends_the_capture_not_the_port(hosts, tap):
    other = Station(tap, hosts[1])
    reader = Reader()
    port = Port(hosts[0], '--pcap', '-', stdout=reader.end)
    reader.started()
    other.expect(port.send())
    wait_for(reader.frames)
    reader.close()
    for _ in range(20):
        other.expect(port.send())
        port.socket.expect(other.send(mac(1), mac(2)))
    port.process.wait_log('capture to stdout ends: Broken pipe')
    for _ in range(20):
        other.expect(port.send())
    assert port.process.stop() == 0
    assert port.process.log.count('capture') == 1


def test_full_disk_ends_the_capture_not_the_port(hosts, tap, tmp_path):
    other = Station(tap, hosts[1])
    wrap = taptool.mount_wrap(f'mount -t tmpfs -o size=64k tmpfs {tmp_path}')
    port = Port(hosts[0], '--pcap', tmp_path / 'pcap', wrap=wrap)
    for _ in range(100):
        other.expect(port.send(size=1500))
    port.process.wait_log('ends: No space left on device')
    for _ in range(20):
        other.expect(port.send())
        port.socket.expect(other.send(mac(1), mac(2)))
    assert port.process.stop() == 0
    assert port.process.log.count('capture') == 1


def test_stuck_reader_does_not_stop_the_port(hosts, tap):
    """Memory is bounded, frames pass, and the end is not delayed for long."""
    other = Station(tap, hosts[1])
    reader = Reader()
    port = Port(hosts[0], '--pcap', '-', stdout=reader.end)
    reader.started()
    hosts[0].ip('link set tap0 mtu 9000')
    memory = port.process.memory()
    slowest = 0
    count = 0
    while 'reader is too slow' not in port.process.log:
        start = time.monotonic()
        for _ in range(100):
            count += 1
            other.expect(port.send(size=9000))
        slowest = max(slowest, time.monotonic() - start)
        assert count < 10000
    for _ in range(1000):
        other.expect(port.send(size=9000))
    assert slowest < 2
    assert port.process.memory() - memory < 30 << 20
    assert port.process.log.count('reader is too slow') == 1
    # The reader wakes up: it gets whole frames, and new ones from then on.
    wait_for(lambda: len(reader.frames()) > 900)
    last = port.send()
    wait_for(lambda: last in reader.frames())
    # And stops again: the program ends all the same.
    for _ in range(100):
        other.expect(port.send(size=9000))
    start = time.monotonic()
    assert port.process.stop() == 0
    assert time.monotonic() - start < 8
    assert 'nobody reads the last frames' in port.process.log
    reader.close()


def test_fifo(hosts, tmp_path):
    path = tmp_path / 'fifo'
    os.mkfifo(path)
    line = taptool.refused(hosts[0], '--tap', 'tap0', '--pcap', path)
    assert f'--pcap={path}: ' in line
    assert 'start the program that reads it first' in line
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    port = Port(hosts[0], '--pcap', path)
    sent = port.send()
    data = b''

    def arrived():
        nonlocal data
        try:
            data += os.read(reader, 1 << 16)
        except BlockingIOError:
            pass
        return sent in data
    wait_for(arrived)
    assert port.process.stop() == 0
    os.close(reader)


def test_terminal_is_refused(hosts):
    master, slave = pty.openpty()
    done = taptool.run(hosts[0], '--tap', 'tap0', '--pcap', '-', stdout=slave)
    os.close(slave)
    os.close(master)
    assert done.returncode == 1
    assert '--pcap=-: stdout is a terminal' in done.stderr


@pytest.mark.parametrize('path, text', [
    ('/nonexistent/pcap', 'No such file'), ('/tmp', 'Is a directory')])
def test_file_that_cannot_be_written(hosts, path, text):
    line = taptool.refused(hosts[0], '--tap', 'tap0', '--pcap', path)
    assert line.startswith(f'--pcap={path}: ')
    assert text in line


def test_tcpdump_reads_along(hosts, tmp_path):
    """As one types it: qdes-tap --pcap - | tcpdump -r -"""
    pipe = subprocess.Popen(
        ['tcpdump', '-Z', 'root', '-n', '-l', '-r', '-', 'arp'],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True)
    try:
        port = Port(hosts[0], '--pcap', '-', '--pcap-filter', 'arp',
                    stdout=pipe.stdin)
        pipe.stdin.close()
        hosts[0].ip('addr add 10.81.0.1/24 dev tap0')
        hosts[0].ping('10.81.0.2', count=1, deadline=1)
        line = pipe.stdout.readline()
        assert 'Request who-has 10.81.0.2 tell 10.81.0.1' in line
        assert port.process.stop() == 0
        pipe.stdout.read()
        assert pipe.wait(10) == 0
    finally:
        pipe.kill()
        pipe.wait()
        pipe.stdout.close()
