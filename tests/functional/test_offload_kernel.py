# SPDX-License-Identifier: GPL-2.0-or-later
"""What QDES cuts and merges, against what the kernel itself makes of it.

The reference is a TAP without offloads: whatever is to leave by it, the
kernel has to segment and sum up first (tests/lib/kernelcut.py).  The random
frames of each test can be had again by the seed that it prints.
"""

import contextlib
import os
import re
import socket
import struct
import subprocess
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from frames import ETH_P_TEST, frame, mac, marker
from kernelcut import KernelCut, OwnTap, add_bridge
from packets import (ACK, CWR, DF, ECE, FIN, NEEDS_CSUM, PSH, TCP, UDP, Vnet,
                     checksum, flow_of, meaning, random_packet,
                     random_superframe, seeded)
from ports import QDES_TAP
from procs import PATIENCE
from streams import Streams
from traffic import family_of

CUTTER = Path(QDES_TAP).parents[2] / 'tests/unit/frame-cutter'
WHOLE, CUT = 0, 1               # QdesSegmentResult
ALL_FEATURES = 0x1f
SO_RCVBUFFORCE = 33
UDP_SEGMENT = 103


class Cutter:
    """libqdes, as tests/lib/frame-cutter.c shows it."""

    def __init__(self, mode, seed):
        self.process = subprocess.Popen(
            [CUTTER, mode, str(seed)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)

    def _number(self, size=4):
        data = self.process.stdout.read(size)
        assert len(data) == size, 'frame-cutter ended'
        return int.from_bytes(data, 'little')

    def _frame(self):
        return self.process.stdout.read(self._number())

    def cut(self, data, vnet, max_frame, partial):
        """(result, frames)"""
        self.process.stdin.write(struct.pack('<IB', max_frame, partial) +
                                 bytes(vnet) + struct.pack('<I', len(data)) +
                                 data)
        self.process.stdin.flush()
        result = self._number(1)
        return result, [self._frame() for _ in range(self._number())]

    def merge(self, frames, features=ALL_FEATURES):
        """FRAMES are (partial, frame); gives (virtio_net_hdr, frame)."""
        self.process.stdin.write(
            struct.pack('<BI', features, len(frames)) +
            b''.join(struct.pack('<BI', partial, len(data)) + data
                     for partial, data in frames))
        self.process.stdin.flush()
        return [(self.process.stdout.read(10), self._frame())
                for _ in range(self._number())]

    def close(self):
        self.process.stdin.close()
        status = self.process.wait(10)
        self.process.stdout.close()
        assert status == 0


@pytest.fixture
def cutter():
    if not CUTTER.exists():
        pytest.skip(f'{CUTTER} is not built')
    with contextlib.ExitStack() as stack:
        def make(mode, seed):
            made = Cutter(mode, seed)
            stack.callback(made.close)
            return made
        yield make


@pytest.fixture
def kernel(net):
    if not os.path.exists('/dev/net/tun'):
        pytest.skip('needs /dev/net/tun')
    return KernelCut(net)


def difference(what, ours, kernels):
    """The first difference between two lists of frames, or None."""
    for number, (a, b) in enumerate(zip(ours, kernels)):
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y),
                      min(len(a), len(b)))
            return (f'{what}: frame {number} of {len(ours)}, {len(a)} bytes '
                    f'here, {len(b)} there, differs at {at}:\n'
                    f'{a[:160].hex()}\n{b[:160].hex()}')
    if len(ours) != len(kernels):
        return f'{what}: {len(ours)} frames here, {len(kernels)} there'
    return None



def assert_same(what, ours, kernels):
    if ours != kernels:
        # Identifications count here, so only checksums may be made equal.
        wrong = difference(what, ours, kernels)
        if len(ours) == len(kernels):
            for a, b in zip(ours, kernels):
                assert a == b or tcp_zero(a, b), wrong
        else:
            raise AssertionError(wrong)


def tcp_zero(a, b):
    """Do the frames differ in nothing but which zero TCP's checksum is?"""
    differs = [i for i, (x, y) in enumerate(zip(a, b)) if x != y]
    return (len(a) == len(b) and len(differs) == 2 and
            differs[0] + 1 == differs[1] and
            {a[differs[0]:differs[1] + 1], b[differs[0]:differs[1] + 1]} ==
            {b'\0\0', b'\xff\xff'} and meaning(a) == meaning(b))


def test_cut_as_the_kernel_does(kernel, cutter):
    """Superframes of all kinds; some are cut to a smaller size, too.

    Where the library cuts TCP smaller than its sender asked for, so does the
    kernel when it is asked for that size.
    """
    rnd = seeded()
    ours = cutter('cut', rnd.number)
    cut = 0
    for number in range(1500):
        p, gso_size = random_superframe(rnd, uso=kernel.has_uso)
        needs_csum = p.proto == UDP or rnd.random() < 0.8
        data = p.encode(partial=needs_csum)
        vnet = p.vnet(gso_size, needs_csum)
        max_frame = rnd.choice([len(data), 65535, 1464, 1444, 8964,
                                rnd.randint(p.headers + 300, 9000)])
        asked = replace(vnet)
        if p.proto == TCP:
            asked.gso_size = min(gso_size, max_frame - p.headers)
        if len(p.payload) <= asked.gso_size:
            # Of one frame: the kernel loses it where it has TCP options.
            asked.gso = asked.gso_size = 0
        result, frames = ours.cut(data, vnet, max_frame, rnd.randrange(3))
        assert result == CUT, f'{number}: {p}, {gso_size}'
        assert_same(f'{number}: {vnet}, {max_frame}', frames,
                    kernel.cut(data, asked))
        cut += len(frames) > 1
    assert cut > 1000


def test_cut_long_segments_as_the_kernel_does(kernel, cutter):
    """Single TCP segments that are too long for the path."""
    rnd = seeded()
    ours = cutter('cut', rnd.number)
    for number in range(300):
        p = random_packet(rnd)
        p = replace(p, proto=TCP, payload=rnd.randbytes(
            rnd.choice([1460, 8948, rnd.randint(1000, 60000)])))
        needs_csum = rnd.random() < 0.5
        max_frame = rnd.randint(p.headers + 300,
                                p.headers + len(p.payload) - 1)
        result, frames = ours.cut(p.encode(partial=needs_csum),
                                  p.vnet(0, needs_csum), max_frame,
                                  rnd.random() < 0.5)
        assert result == CUT
        assert_same(f'{number}: {max_frame}', frames,
                    kernel.cut(p.encode(partial=True),
                               p.vnet(max_frame - p.headers)))


def random_other(rnd):
    """A frame of something else, and a checksum to be made anywhere in it."""
    size = rnd.choice([60, 61, rnd.randint(60, 1514), rnd.randint(60, 9000)])
    # The kernel refuses what begins where an IP header would be.
    start = rnd.randrange(34, min(size - 4, 200))
    return (frame(mac(2), mac(1), rnd.randbytes(size - 14), 0x88b6, size),
            Vnet(flags=NEEDS_CSUM, hdr_len=start + 4, csum_start=start,
                 csum_offset=rnd.choice([0, 2])))


def test_finished_as_by_the_kernel(kernel, cutter):
    """Frames that lack only their checksum, of known kinds and of none."""
    rnd = seeded()
    ours = cutter('cut', rnd.number)
    for number in range(1500):
        if rnd.random() < 0.3:
            data, vnet = random_other(rnd)
        else:
            p = random_packet(rnd)
            p.payload = rnd.randbytes(rnd.choice([0, 1, 2, 3,
                                                  rnd.randrange(1500),
                                                  rnd.randrange(9000)]))
            data, vnet = p.encode(partial=True).ljust(60, b'\0'), p.vnet()
        if rnd.random() < 0.1:
            vnet = Vnet()
        result, frames = ours.cut(data, vnet, 65535, rnd.random() < 0.5)
        assert result == (CUT if vnet.flags else WHOLE)
        assert_same(f'{number}: {vnet}', frames, kernel.cut(data, vnet))


class Flow:
    """Goes on frame by frame, with now and then something odd."""

    def __init__(self, rnd, number):
        self.rnd = rnd
        self.p = random_packet(rnd)
        self.p = replace(self.p, hosts=bytes([number, 200]), flags=ACK,
                         extensions=[], ip_options=b'', reserved=0)
        self.partial = rnd.random() < 0.5
        self.size = rnd.choice([18, 100, 1000, 1400, 1448, 2000, 8948])
        self.next_id = self.p.id
        self.longest = 9000

    def burst(self):
        """A train, as it would leave one sender: (partial, frame)s."""
        rnd = self.rnd
        frames = []
        count = rnd.choice([1, 2, 3, 10, 45, 64])
        for i in range(min(count, 60000 // self.size + 1)):
            last = i == count - 1
            size = rnd.randint(1, self.size) if last else self.size
            p = replace(self.p, id=self.next_id, payload=rnd.randbytes(size))
            if p.proto == TCP:
                if last:
                    p.flags |= rnd.choice([0, PSH, PSH, FIN])
                if i == 0:
                    p.flags |= rnd.choice([0, 0, 0, CWR])
                self.p.seq += size
            partial = self.partial
            if rnd.random() < 0.03:
                p, partial = self.odd(p, partial)
            self.next_id = (self.next_id + 1) % (1 << 16)
            data = p.encode(partial)
            frames.append((partial, data if partial else
                           self.damaged(data)))
        return frames

    def odd(self, p, partial):
        rnd = self.rnd
        change = rnd.choice(['seq', 'ack', 'window', 'flags', 'ttl', 'tos',
                             'payload', 'empty', 'options', 'ip', 'id',
                             'frag', 'partial', 'tags', 'repeat'])
        if change == 'payload':
            p.payload = rnd.randbytes(rnd.randint(1, self.longest))
        elif change == 'empty':
            p.payload = b''
        elif change == 'flags':
            p.flags ^= rnd.choice([FIN, PSH, ECE, CWR, 0x02, 0x04, 0x20])
        elif change == 'options' and p.proto == TCP:
            p.options = b'\x01\x01\x08\x0a' + rnd.randbytes(8)
        elif change == 'ip' and not p.v6:
            p.ip_options = b'\x94\x04\0\0'
        elif change == 'frag' and not p.v6:
            # A fragment has no checksum of its own to be left unfinished.
            p.frag, partial = rnd.choice([0x2000, 100]), False
        elif change == 'partial':
            partial = not partial
        elif change == 'tags':
            p.tags = [(0x8100, rnd.randrange(4096))]
        elif change in ('seq', 'ack', 'window', 'tos', 'id', 'ttl'):
            most = {'seq': 1 << 32, 'ack': 1 << 32, 'tos': 256,
                    'ttl': 256}.get(change, 1 << 16)
            setattr(p, change, rnd.randrange(1, most))
        return p, partial

    def damaged(self, data):
        """Now and then a bit is wrong, which nothing may put right."""
        rnd = self.rnd
        if rnd.random() < 0.03:
            data = bytearray(data)
            end = rnd.choice([len(data), self.p.headers])
            data[rnd.randrange(self.p.l3, end)] ^= 1 << rnd.randrange(8)
            data = bytes(data)
        return data


def finished(partial, data):
    """What a partial frame is with its checksum: sum over what is there."""
    if not partial:
        return data
    l3 = 14
    while data[l3 - 2:l3] in (b'\x81\0', b'\x88\xa8'):
        l3 += 4
    v6 = data[l3] >> 4 == 6
    l4 = l3 + (40 if v6 else (data[l3] & 15) * 4)
    proto = data[l3 + 6] if v6 else data[l3 + 9]
    at = l4 + (6 if proto == UDP else 16)
    return data[:at] + struct.pack('>H', checksum(data[l4:])) + data[at + 2:]


def by_flow(frames):
    flows = defaultdict(list)
    for data in frames:
        flows[flow_of(data)].append(meaning(data))
    return flows


def assert_same_meaning(what, got, sent):
    """Each flow has the same frames in the same order, byte for byte."""
    got, sent = by_flow(got), by_flow(sent)
    assert set(got) == set(sent), what
    for flow, frames in sent.items():
        wrong = difference(f'{what}, flow {flow}', got[flow], frames)
        assert not wrong, wrong


def random_batch(rnd, flows):
    """Bursts of some flows, one after the other, or mixed up."""
    bursts = [flow.burst() for flow in rnd.sample(flows, rnd.randint(
        1, min(4, len(flows))))]
    batch = []
    mixed = rnd.random() < 0.5
    while bursts:
        burst = rnd.choice(bursts) if mixed else bursts[0]
        batch.append(burst.pop(0))
        bursts = [b for b in bursts if b]
    return batch


@pytest.mark.parametrize('features', [ALL_FEATURES, 0x0f, 0x03, 0x0c, 0])
def test_merged_means_the_same(kernel, cutter, features):
    """What is merged and then cut by the kernel is what it was before."""
    rnd = seeded()
    ours = cutter('merge', rnd.number)
    flows = [Flow(rnd, number) for number in range(40)]
    supers = 0
    for number in range(150):
        batch = random_batch(rnd, flows)
        merged = ours.merge(batch, features)
        got = [f for vnet, data in merged for f in kernel.cut(data, vnet)]
        assert_same_meaning(f'batch {number}', got,
                            [finished(*f) for f in batch])
        supers += sum(vnet[1] != 0 for vnet, _ in merged)
    # That it merges at all.
    if features:
        assert supers > 30
    else:
        assert supers == 0


# End to end: the same by way of two ports, their sockets and an underlay.

UNDERLAYS = pytest.mark.parametrize('mcast', ['239.192.81.68', '[ff15::5144]'],
                                    ids=['ipv4', 'ipv6'])
HERE, THERE = mac(0xa), mac(0xb)
# Seconds in which a second HELLO comes, should the first get lost.
HELLOS = 15


def port_room(mcast):
    """Bytes of the longest frame that fits a datagram of the underlay."""
    return 1500 - (48 if '[' in mcast else 28) - 8


def sendable(rnd, kernel, room, dst):
    """(superframe, virtio_net_hdr, frames that a port has to make of it)"""
    # All of one has to fit the socket's buffer.
    p, gso_size = random_superframe(rnd, 60000, frames=64, uso=kernel.has_uso)
    p = replace(p, src=HERE, dst=dst)
    if (p.tags or p.extensions or p.ip_options or p.reserved or
            p.flags & CWR or (p.frag != DF and not p.v6)):
        # Of such, the kernel may cut some before they come to the port,
        # which would then have to cut single frames.
        gso_size = min(gso_size, room - p.headers)
        p.payload = p.payload[:63 * gso_size]
    data = p.encode(partial=True)
    asked, vnet = p.vnet(gso_size), p.vnet(gso_size)
    if p.proto == TCP:
        asked.gso_size = min(gso_size, room - p.headers)
    for header in asked, vnet:
        if len(p.payload) <= header.gso_size:
            header.gso = header.gso_size = 0
    return data, vnet, kernel.cut(data, asked)


class Path:
    """From a TAP of the test's own to another, through two ports.

    a: in0 -> br0 -> tap0 -> qdes-tap ~~~ qdes-tap -> tap0 -> br0 -> out0: b
    """

    def __init__(self, net, tap, into=False, out=False, here=None, there=None,
                 **both):
        self.hosts = net.hosts(2)
        # No frame may be lost because a reader was slow.
        both['rcvbuf'] = '8M'
        # The guard's probes are frames that nobody here sent.
        both.setdefault('loop_guard', 'off')
        self.ports = [tap(self.hosts[0], **both, **(here or {})),
                      tap(self.hosts[1], **both, **(there or {}))]
        for host in self.hosts:
            add_bridge(host)
            host.ip('link set tap0 mtu 65521 txqueuelen 10000 master br0')
        self.into = OwnTap(self.hosts[0], 'in0', header=into, bridge='br0')
        self.out = OwnTap(self.hosts[1], 'out0', header=out, bridge='br0')
        for port in self.ports:
            port.wait_peers(1, HELLOS)

    def meet(self):
        """Let the bridges and the ports learn where HERE and THERE are."""
        for src, dst, into, out in ((HERE, 'ff:ff:ff:ff:ff:ff', self.into,
                                     self.out),
                                    (THERE, HERE, self.out, self.into)):
            data = frame(dst, src, marker(), ETH_P_TEST)
            into.write(data)
            out.read_until(data)
        self.ports[0].wait_mac(THERE)
        self.ports[1].wait_mac(HERE)


@UNDERLAYS
@pytest.mark.parametrize('way', ['unicast', 'flood'])
def test_superframes_cross_as_the_kernel_cuts_them(net, tap, kernel, mcast,
                                                   way):
    """The last port takes no offloads: its TAP sees frames."""
    rnd = seeded()
    path = Path(net, tap, into=True, there={'vnet_hdr': 'off'}, mcast=mcast)
    path.meet()
    before = path.ports[0].counters
    cut = 0
    for number in range(100):
        dst = THERE if way == 'unicast' else mac(rnd.randrange(1000, 2000))
        data, vnet, expected = sendable(rnd, kernel, port_room(mcast), dst)
        path.into.write(data, vnet)
        assert_same(f'{number}: {vnet}, {path.ports[0].changes(before)}',
                    path.out.read_some(len(expected)), expected)
        cut += len(expected) > 1
    assert cut > 40
    changes = path.ports[0].changes(before)
    assert changes.get('tx-superframes', 0) > 0
    assert changes.get('tx-trains', 0) > 0


@pytest.fixture
def one_processor():
    """For a wire that keeps the order: veth's ends queue by processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@UNDERLAYS
@pytest.mark.parametrize('gso', ['on', 'off'])
def test_nothing_is_lost_on_a_slow_underlay(one_processor, net, tap, kernel,
                                            mcast, gso):
    """The socket fills up, again and again in the midst of superframes."""
    rnd = seeded()
    path = Path(net, tap, into=True, here={'sndbuf': '16k'},
                there={'vnet_hdr': 'off'}, mcast=mcast, gso=gso)
    path.meet()
    if path.hosts[0].run('tc qdisc add dev eth0 root tbf rate 300mbit burst '
                         '100k limit 16m', check=False).returncode:
        pytest.skip('needs the queueing discipline tbf (sch_tbf)')
    before = path.ports[0].counters
    sent = []
    for _ in range(60):
        data, vnet, expected = sendable(rnd, kernel, port_room(mcast), THERE)
        path.into.write(data, vnet)
        sent += expected
    assert_same(f'{path.ports[0].changes(before)}',
                path.out.read_some(len(sent)), sent)
    changes = path.ports[0].changes(before)
    assert changes['tx-blocked'] > 10
    assert changes['tx-unicast'] == changes['tx-frames']


@UNDERLAYS
def test_frames_cross_and_mean_the_same(net, tap, mcast):
    """Single frames are merged by the last port, and cut by the kernel."""
    rnd = seeded()
    path = Path(net, tap, here={'vnet_hdr': 'off'}, mcast=mcast)
    path.meet()
    flows = [Flow(rnd, number) for number in range(20)]
    for flow in flows:
        flow.p = replace(flow.p, src=HERE, dst=THERE)
        # What would be too long for the underlay would be cut.
        flow.longest = 1300
        flow.size = min(flow.size, flow.longest)
        flow.partial = False
    for number in range(60):
        batch = [finished(*f) for f in random_batch(rnd, flows)]
        for data in batch:
            path.into.write(data)
        assert_same_meaning(f'batch {number}',
                            path.out.read_some(len(batch)), batch)
    assert path.ports[1].counters['rx-superframes'] > 0


@pytest.mark.parametrize('here', ['on', 'off'])
def test_sockets_get_what_was_sent(net, tap, here):
    """Datagrams keep their bounds and streams their bytes, all at once."""
    rnd = seeded()
    hosts = net.hosts(2)
    # No datagram may be lost because a reader was slow.
    ports = [tap(hosts[0], vnet_hdr=here), tap(hosts[1], rcvbuf='8M')]
    for number, port in enumerate(ports, 1):
        port.configure(f'10.81.0.{number}/24', f'fd81::{number}/64')
        port.host.ip('link set tap0 txqueuelen 10000')
    for address in '10.81.0.2', 'fd81::2':
        hosts[0].assert_ping(address, count=1, interval=1)
        family = family_of(address)
        pairs = []
        total = lost = 0
        for _ in range(4):
            there, client = hosts[1].socket(family), hosts[0].socket(family)
            there.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
            there.bind((address, 0))
            client.connect(there.getsockname())
            pairs.append((client, there, []))
        streams = Streams([(*hosts, address)], 4 << 20, 3, rnd.number)
        for _ in range(40):
            for client, there, sent in pairs:
                size = rnd.choice([18, 18, 1000, 1400, rnd.randrange(3000)])
                for _ in range(rnd.choice([1, 2, 10, 20])):
                    sent.append(rnd.randbytes(max(0, size - rnd.choice(
                        [0, 0, 0, 0, 0, 1, 7]))))
                    client.send(sent[-1])
            for client, there, sent in pairs:
                total += len(sent)
                lost += receive_in_order(there, sent)
        streams.finish()
        for client, there, _ in pairs:
            assert wait_quiet(there)
        # Next to streams that take all they can get, queues may overflow.
        assert lost <= total // 50


def receive_in_order(sock, sent):
    """Each datagram that comes is the next of SENT, or one after lost ones.

    Empties SENT, and returns how many of it were lost.
    """
    lost = 0
    sock.settimeout(PATIENCE)
    while sent:
        try:
            data = sock.recv(70000)
        except TimeoutError:
            lost += len(sent)
            sent.clear()
            break
        while sent and sent[0] != data:
            sent.pop(0)
            lost += 1
        assert sent, f'{len(data)} bytes that nobody sent, or late ones'
        sent.pop(0)
    return lost


def wait_quiet(sock):
    """Nothing comes that nobody sent."""
    sock.settimeout(0.05)
    try:
        return sock.recv(70000) is None
    except TimeoutError:
        return True


# Order, and waiting

def sequence_numbers(sock, quiet=0.5):
    """Those of all datagrams that come, until none does for a while."""
    sock.settimeout(quiet)
    found = []
    try:
        while True:
            found.append(int.from_bytes(sock.recv(4), 'big'))
    except TimeoutError:
        return found


@pytest.mark.parametrize('here, there', [('on', 'on'), ('on', 'off'),
                                         ('off', 'on')])
def test_a_flow_keeps_its_order(net, tap, here, there):
    """At full rate, of changing sizes, through every batch; loss may be.

    Superframes pass the batch by, which must not let them overtake it.
    """
    rnd = seeded()
    hosts = net.hosts(2)
    ports = [tap(hosts[0], vnet_hdr=here), tap(hosts[1], vnet_hdr=there)]
    cpus = sorted(os.sched_getaffinity(0))
    for number, port in enumerate(ports, 1):
        port.configure(f'10.81.0.{number}/24', f'fd81::{number}/64')
        # The kernel's queues are of a CPU each: who moves overtakes himself.
        os.sched_setaffinity(port.process.pid, {cpus[number % len(cpus)]})
    for address in '10.81.0.2', 'fd81::2':
        hosts[0].assert_ping(address, count=1, interval=1)
        receiver = hosts[1].socket(family_of(address))
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        receiver.bind((address, 0))
        sender = hosts[0].socket(family_of(address))
        sender.connect(receiver.getsockname())
        sent = 0
        for _ in range(1500):
            # In one call: one datagram, or many with UDP_SEGMENT.
            size = rnd.choice([18, 18, 64, 500, 1000, 1400])
            count = rnd.choice([1, 1, 1, 2, 10, 40])
            data = b''.join((sent + i).to_bytes(4, 'big') + bytes(size - 4)
                            for i in range(count))
            sender.sendmsg([data], [(socket.IPPROTO_UDP, UDP_SEGMENT,
                                     struct.pack('H', size))]
                           if count > 1 else [])
            sent += count
        found = sequence_numbers(receiver)
        assert len(found) > sent // 10
        assert found == sorted(set(found)), 'reordered, or doubled'


@pytest.mark.parametrize('here', ['on', 'off'])
def test_a_lone_packet_leaves_at_once(net, tap, here):
    """Nobody waits for a batch to fill: not for a timer's shortest time."""
    hosts = net.hosts(2)
    for number, host in enumerate(hosts, 1):
        tap(host, vnet_hdr=here).configure(f'10.81.0.{number}/24')
    hosts[0].assert_ping('10.81.0.2')
    done = hosts[0].run('ping -n -c 20 -i 0.1 10.81.0.2')
    times = sorted(float(t) for t in re.findall(r'time=([\d.]+) ms',
                                                done.stdout))
    assert len(times) == 20
    # Some 0.1 ms when the machine has nothing else to do.
    assert times[10] < 4 * PATIENCE, times
