# SPDX-License-Identifier: GPL-2.0-or-later
"""Wrong packets: dropped, each counted under its own name, said nowhere."""

import os
import socket
import struct
import time

import pytest
import qdeswire
from frames import BROADCAST, PacketSocket, frame, mac, marker
from procs import wait_for
from stations import Station, WirePeer, endpoint

NETID = 42      # that of the test vectors


def checksum(data):
    total = sum(struct.unpack(f'>{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total ^ 0xffff


def ip_udp(source, destination, payload):
    """An IPv4 packet with UDP (without its checksum) from anywhere."""
    length = 28 + len(payload)
    ip = struct.pack('>BBHHHBBH4s4s', 0x45, 0, length, 0, 0, 9, 17, 0,
                     socket.inet_aton(source[0]),
                     socket.inet_aton(destination[0]))
    ip = ip[:10] + struct.pack('>H', checksum(ip)) + ip[12:]
    return ip + struct.pack('>HHHH', source[1], destination[1],
                            length - 20, 0) + payload


class Target(Station):
    """A station that is shot at, and its reaction."""

    def __init__(self, make, host, **options):
        super().__init__(make, host, netid=NETID, **options)
        self.lines = 0

    def begin(self):
        self.before = self.counters
        self.lines = len(self.process.log.splitlines())

    def read(self, count):
        """Wait until COUNT datagrams were read; return what changed."""
        def done():
            changes = self.changes(self.before)
            return (changes.get('rx-datagrams', 0) -
                    changes.get('rx-hello', 0) >= count) and changes
        return wait_for(done, 20, lambda: f'{count} datagrams, changed: '
                        f'{self.changes(self.before)}', interval=0.05)

    def said(self):
        """Log lines since begin()."""
        return self.process.log.splitlines()[self.lines:]


@pytest.fixture
def duel(net, tap):
    hosts = net.hosts(2)
    return Target(tap, hosts[0]), hosts


@pytest.fixture
def attacker(duel):
    return WirePeer(duel[1][1], NETID)


# What a user should hear of, once.
SAID = {'bad-version': 'version 0 of the protocol', 'sealed': 'no key'}


BAD = [v for v in qdeswire.load_vectors() if v['result'] != 'ok']
# IPv4 does not carry them, but IPv6 does; see the test for it below.
TOO_LONG = [v for v in BAD if len(v['bytes']) > 65507]


@pytest.mark.parametrize('result', sorted(set(qdeswire.COUNTERS) -
                                          {'frame-long'}))
def test_vectors_are_counted_by_name(duel, attacker, result):
    target = duel[0]
    vectors = [v for v in BAD if v['result'] == result
               and v not in TOO_LONG and v.get('netid', NETID) == NETID]
    assert vectors
    if result in SAID:
        target.logs.expect(SAID[result])
    start = target.process.log
    for vector in vectors:
        target.begin()
        for _ in range(3):
            attacker.send(vector['bytes'], target.address)
        changes = target.read(3)
        assert changes[qdeswire.COUNTERS[result]] == 3, \
            f'{vector["name"]}: {changes}'
        assert 'rx-frames' not in changes
        assert 'peers-added' not in changes
    assert not target.peers
    target.silent()
    said = target.process.log[len(start):].splitlines()
    assert len(said) == (result in SAID), said


def test_vectors_by_the_group(duel, attacker):
    """The kernel drops floods of other networks, and whatever looks so."""
    target = duel[0]
    for text in SAID.values():
        target.logs.expect(text)
    for vector in BAD:
        if vector in TOO_LONG:
            continue
        counter = qdeswire.COUNTERS[vector['result']]
        other = vector['bytes'][4:8] != NETID.to_bytes(4, 'big')
        if other and vector['result'] not in ('short', 'bad-magic',
                                              'bad-version'):
            counter = 'rx-drop-kernel'
        before = target.counters
        attacker.send(vector['bytes'])
        wait_for(lambda: target.changes(before).get(counter, 0) >= 1,
                 what=f'{vector["name"]} to be counted as {counter}')
    target.silent()
    assert not target.peers


def test_frames_over_the_limit(net, tap):
    """Only IPv6 carries datagrams that are too long."""
    hosts = net.hosts(2)
    target = Target(tap, hosts[0], mcast='[ff15::5144]')
    attacker = WirePeer(hosts[1], NETID, v6=True)
    assert TOO_LONG
    for vector in TOO_LONG:
        target.begin()
        attacker.send(vector['bytes'], target.address)
        changes = target.read(1)
        assert changes[qdeswire.COUNTERS[vector['result']]] == 1, changes
    target.silent()


def test_good_vectors_are_taken(net, tap):
    """The other side of the coin, by the same way."""
    hosts = net.hosts(2)
    target = Target(tap, hosts[0])
    for vector in qdeswire.load_vectors():
        if vector['result'] != 'ok' or vector['netid'] != NETID:
            continue
        attacker = WirePeer(hosts[1], NETID)
        before = target.counters
        attacker.send(vector['bytes'], target.address)
        counter = {'data': 'rx-frames', 'hello': 'rx-hello',
                   'bye': 'rx-bye', 'echo': 'rx-echo',
                   'echo-reply': 'rx-echo-reply',
                   'peers': 'rx-peers'}[vector['type']]

        def taken():
            return target.changes(before).get(counter)
        assert wait_for(taken, what=f'{vector["name"]}: {counter}') == 1
        if vector['type'] == 'hello':
            name = vector['hello'].get('name', '')
            peers = [p for p in target.peers
                     if p['address'] == attacker.address]
            assert [p['name'] for p in peers] == [name], vector['name']
            attacker.bye(instance=int(vector['hello']['instance'], 16))
            target.wait_count('peers-bye', before['peers-bye'] + 1)
        attacker.close()


def test_other_netid_by_unicast(duel, attacker):
    target = duel[0]
    target.begin()
    attacker.netid = NETID + 1
    attacker.data(BROADCAST, mac(1), to=target.address)
    attacker.hello(to=target.address)
    changes = target.read(2)
    assert changes['rx-drop-netid'] == 2
    target.silent()
    assert not target.said()


def test_source_of_a_group_or_zero(duel, attacker):
    target = duel[0]
    sources = [BROADCAST, '01:00:5e:00:00:01', '33:33:00:00:00:01',
               '00:00:00:00:00:00']
    target.begin()
    for source in sources:
        attacker.data(BROADCAST, source, to=target.address)
        attacker.data(BROADCAST, source)
    changes = target.read(2 * len(sources))
    assert changes['rx-drop-source'] == 2 * len(sources), changes
    target.silent()
    assert not set(sources) & set(target.fdb)


def test_datagrams_without_a_byte(duel, attacker):
    """recv() says 0, which is no end of anything."""
    target = duel[0]
    target.begin()
    for _ in range(10):
        attacker.send(b'', target.address)
        attacker.send(b'')
    changes = wait_for(
        lambda: (c := target.changes(target.before)).get('rx-drop-short', 0) +
        c.get('rx-drop-kernel', 0) == 20 and c)
    assert changes['rx-drop-short'] >= 10
    target.expect(attacker.data(BROADCAST, mac(1)))
    attacker.hello()
    target.wait_peers(1)
    attacker.bye()
    wait_for(lambda: not target.peers)


def blast(sock, destination, datagram, count):
    """Send COUNT datagrams as fast as can be."""
    for _ in range(count):
        sock.sendto(datagram, destination)


@pytest.mark.parametrize('by_group', [False, True],
                         ids=['unicast', 'group'])
def test_full_rate(duel, attacker, by_group):
    """100000 wrong packets cost a counter each, and no line in the log."""
    target = duel[0]
    for text in SAID.values():
        target.logs.expect(text)
    kinds = ['short', 'bad-magic', 'bad-version', 'bad-type', 'bad-flags',
             'sealed', 'frame-short', 'bad-tlv']
    target.begin()
    to = attacker.group if by_group else endpoint(target.address)
    count = 100000 // len(kinds)
    for kind in kinds:
        vector = next(v for v in BAD if v['result'] == kind
                      and v.get('netid', NETID) == NETID)
        blast(attacker.sock, to, vector['bytes'], count)
    total = count * len(kinds)

    def counted():
        changes = target.changes(target.before)
        drops = {n: v for n, v in changes.items()
                 if n.startswith('rx-drop-')}
        return sum(drops.values()) >= total and drops
    drops = wait_for(counted, 20, lambda: f'{total} drops: '
                     f'{target.changes(target.before)}', interval=0.1)
    assert sum(drops.values()) == total, drops
    # Those that waited for the reader were read, under their own names.
    names = {qdeswire.COUNTERS[kind] for kind in kinds}
    assert set(drops) <= names | {'rx-drop-kernel'}
    if not by_group:
        assert set(drops) >= names
    assert len(target.said()) <= 2, target.said()
    # And it serves on as if nothing had been.
    target.expect(attacker.data(BROADCAST, mac(1)))
    target.send(mac(1), mac(2))
    assert target.process.memory() < 64 << 20


def test_noise(duel, attacker):
    """Random bytes, some behind a sound header."""
    target = duel[0]
    # One noise in some thousand begins like another version's header.
    target.logs.allow('version [0-9]+ of the protocol')
    target.begin()
    address = target.address
    for number in range(3000):
        noise = os.urandom(number % 1500)
        if number % 2:
            noise = qdeswire.header(number % 16, NETID) + noise
        if number % 32 != 1:    # no DATA, which would be taken
            attacker.send(noise, address)
        if number % 50 == 0:
            time.sleep(0.001)
    target.expect(attacker.data(BROADCAST, mac(1), to=target.address))
    assert len(target.said()) <= 2


def test_hello_flood_is_bounded(net, tap):
    """Endpoints that say HELLO and are never heard again fill no memory."""
    hosts = net.hosts(2)
    target = Target(tap, hosts[0])
    target.logs.expect('more than 16384 peers')
    # Addresses from nowhere, written on the wire as they are.
    wire = PacketSocket(hosts[1], 'eth0')
    hosts[0].sysctl('net.ipv4.conf.all.rp_filter', 0)
    hosts[0].sysctl('net.ipv4.conf.eth0.rp_filter', 0)
    there = mac_of(hosts[0])
    here = mac_of(hosts[1])
    to = endpoint(target.address)
    old = WirePeer(hosts[1], NETID)
    # It must not be forgotten for its silence, however long this takes.
    old.hello(to=target.address, hold_time=600)
    target.wait_peers(1)
    target.expect(old.data(BROADCAST, mac(1)))
    assert mac(1) in target.fdb
    before = target.process.memory()
    count = 17000
    for number in range(count):
        hello = qdeswire.encode(qdeswire.Hello(NETID, number + 1,
                                               name=f'ghost{number}',
                                               hold_time=600))
        source = (f'10.80.0.{10 + number % 200}', 1024 + number // 200)
        wire.send(frame(there, here, ip_udp(source, to, hello), 0x0800))
        if number % 384 == 383:
            target.wait_count('rx-hello', 1 + number + 1)
    target.wait_count('rx-hello', 1 + count)
    counters = target.counters
    assert counters['peers-added'] == 1 + count
    assert len(target.peers) == 16384
    assert counters['peers-evicted'] == 1 + count - 16384
    # Who was pushed out has taken its addresses along.
    assert mac(1) not in target.fdb
    assert counters['fdb-flushed'] == 1
    # Most of it is what status takes for so many.
    assert target.process.memory() - before < 96 << 20
    # A living peer is still met.
    peer = WirePeer(hosts[1], NETID)
    peer.hello()
    wait_for(lambda: target.peer_named('wire'))


def test_answers_to_newcomers_are_bounded(net, tap):
    """Invented newcomers do not make a port shower others with HELLOs."""
    hosts = net.hosts(2)
    target = Target(tap, hosts[0])
    wire = PacketSocket(hosts[1], 'eth0')
    here = mac_of(hosts[1])
    target.begin()
    start = time.monotonic()
    for number in range(500):
        hello = qdeswire.encode(qdeswire.Hello(
            NETID, number + 1, padded=qdeswire.HELLO_PADDED))
        packet = ip_udp((f'10.80.0.{10 + number % 200}', 1024 + number),
                        ('239.192.81.68', 20804), hello)
        wire.send(frame('01:00:5e:40:51:44', here, packet, 0x0800))
        if number % 64 == 63:
            target.wait_count('rx-hello', number + 1)
    target.wait_count('rx-hello', 500)
    sent = target.changes(target.before)
    sent = sent['tx-hello'] + sent.get('tx-control-errors', 0)
    assert 16 <= sent <= 16 * (time.monotonic() - start + 2)


def mac_of(host):
    with host.entered():
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(('eth0', 0))
            return ':'.join(f'{b:02x}' for b in sock.getsockname()[4])


def test_spoofed_own_source(net, tap):
    """Datagrams that pretend to come from the port itself."""
    hosts = net.hosts(2)
    for name in 'all', 'eth0':
        hosts[0].sysctl(f'net.ipv4.conf.{name}.rp_filter', 0)
        hosts[0].sysctl(f'net.ipv4.conf.{name}.accept_local', 1)
    target = Target(tap, hosts[0])
    wire = PacketSocket(hosts[1], 'eth0')
    there, here = mac_of(hosts[0]), mac_of(hosts[1])
    own = endpoint(target.address)
    data = qdeswire.encode(qdeswire.Data(NETID, frame(
        BROADCAST, mac(66), marker())))
    # By the same way, another source is heard: this way of shooting works.
    target.begin()
    wire.send(frame(there, here, ip_udp(('10.80.0.99', own[1]), own, data),
                    0x0800))
    assert target.read(1)['rx-frames'] == 1
    target.begin()
    for _ in range(10):
        wire.send(frame(there, here, ip_udp(own, own, data), 0x0800))
    changes = target.read(10)
    assert changes['rx-drop-own'] == 10
    target.begin()
    for _ in range(10):
        wire.send(frame('01:00:5e:40:51:44', here,
                        ip_udp(own, ('239.192.81.68', 20804), data), 0x0800))
    wait_for(lambda: (c := target.changes(target.before)).get(
        'rx-drop-own', 0) + c.get('rx-drop-kernel', 0) == 10)
    assert len(target.socket.pending()) == 1
    assert target.count('rx-frames') == 1
    assert len(target.peers) == 1
    assert not target.said()


def test_address_storm_is_not_said(duel, attacker):
    """MAC addresses that jump about are counted, not told one by one."""
    target, hosts = duel
    other = WirePeer(hosts[1], NETID)
    attacker.prove(target)
    other.prove(target)
    target.begin()
    address = target.address
    for number in range(2000):
        peer = (attacker, other)[number % 2]
        peer.data(BROADCAST, mac(7), to=address)
        if number % 64 == 63:
            target.wait_count('rx-frames',
                              target.before['rx-frames'] + number - 30)
    target.read(2000)
    assert target.changes(target.before)['fdb-moved'] >= 1900
    assert len(target.said()) <= 3, target.said()
    target.socket.pending()
