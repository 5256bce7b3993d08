# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hosts, one TAP each: whatever Ethernet carries crosses the fabric.

    host h1                                     host h2
    tap0 10.81.0.1 -- qdes-tap -- eth0 | eth0 -- qdes-tap -- tap0 10.81.0.2
"""

import signal

import pytest
from frames import BROADCAST, PacketSocket, frame, mac, marker
from traffic import tcp_transfer, udp_exchange

# Ethernet headers are not part of a TAP's MTU: the longest frame is 65499.
LONGEST_MTU = 65499 - 14


class Pair:
    def __init__(self, net, make, **options):
        self.one, self.two = net.hosts(2)
        self.a = make(self.one, **options)
        self.b = make(self.two, **options)
        self.a.configure('10.81.0.1/24', 'fd81::1/64')
        self.b.configure('10.81.0.2/24', 'fd81::2/64')


@pytest.fixture(scope='module', params=[
    {}, {'mcast': '239.1.2.3:5555', 'netid': 4294967295, 'ttl': 3},
    {'mcast': '[ff15::5144]:20804', 'netid': 42}],
    ids=['ipv4', 'ipv4-own-group', 'ipv6'])
def pair(request, module_net, module_tap):
    return Pair(module_net, module_tap, **request.param)


@pytest.mark.parametrize('size', [0, 56, 1472, 1473, 8000, 60000])
def test_ping(pair, size):
    """Sizes over 1472 are fragmented, by the hosts inside and outside."""
    pair.one.assert_ping('10.81.0.2', size=size)
    pair.two.assert_ping('10.81.0.1', size=size)


@pytest.mark.parametrize('size', [56, 1452, 1453, 60000])
def test_ping6(pair, size):
    pair.one.assert_ping('fd81::2', size=size)
    pair.two.assert_ping('fd81::1', size=size)


def test_tcp(pair):
    tcp_transfer(pair.one, pair.two, '10.81.0.2')
    tcp_transfer(pair.two, pair.one, '10.81.0.1')


def test_tcp_over_ipv6(pair):
    tcp_transfer(pair.one, pair.two, 'fd81::2')
    tcp_transfer(pair.two, pair.one, 'fd81::1')


@pytest.mark.parametrize('address', ['10.81.0.2', 'fd81::2'])
def test_udp_of_all_sizes(pair, address):
    udp_exchange(pair.one, pair.two, address,
                 [0, 1, 100, 1471, 1472, 1473, 2000, 9000, 30000, 60000])


def test_unicast_is_sent_to_the_peer_alone(pair):
    """Once both are learned, nothing of a conversation is flooded."""
    pair.one.assert_ping('10.81.0.2', count=1)
    before = pair.a.counters
    pair.one.assert_ping('10.81.0.2', count=20)
    changes = pair.a.changes(before)
    assert changes['tx-unicast'] >= 20
    # The hosts themselves say a word to all now and then, by IPv6.
    assert changes.get('tx-flooded', 0) < 5, changes


def test_peers_know_each_other(pair):
    for here, there in (pair.a, pair.b), (pair.b, pair.a):
        here.wait_peers(1)
        peer = here.peer_named(there.name)
        assert peer['address'] == there.address
        assert here.fdb[there.mac]['peer'] == there.address
        assert here.fdb[here.mac]['local']
        assert not there.fdb[there.mac].get('peer')


def test_status_of_a_port(pair):
    status = pair.a.status()
    assert status['name'] == pair.a.name
    assert status['encap'] == 'qdes'
    assert status['iface'] == 'eth0'
    assert status['loopback'] is False
    assert status['link-up'] is True
    assert status['paused'] is False
    options = pair.a.process.argv
    if '--netid' in options:
        netid = options[options.index('--netid') + 1]
        group = options[options.index('--mcast') + 1]
        assert status['netid'] == int(netid)
        assert status['group'] == group
    else:
        assert status['netid'] == 0
        assert status['group'] == '239.192.81.68:20804'


@pytest.fixture
def jumbo(pair):
    pair.one.ip(f'link set tap0 mtu {LONGEST_MTU}')
    pair.two.ip(f'link set tap0 mtu {LONGEST_MTU}')
    yield pair
    pair.one.ip('link set tap0 mtu 1500')
    pair.two.ip('link set tap0 mtu 1500')


def test_frames_up_to_the_limit(jumbo):
    """One frame of 65499 bytes is one datagram; one byte more is dropped."""
    here, there = (PacketSocket(h, 'tap0') for h in (jumbo.one, jumbo.two))
    for size in 14, 59, 60, 1514, 1515, 9000, 65498, 65499:
        data = frame(jumbo.b.mac, jumbo.a.mac, marker()[:size - 14],
                     size=size)
        here.send(data)
        there.expect(data)
    jumbo.one.assert_ping('10.81.0.2', size=LONGEST_MTU - 28,
                          extra=('-M', 'do'))


def test_too_long_frames_are_counted(jumbo):
    # The TAP takes a VLAN tag more than its MTU; no other frame is so long.
    here, there = (PacketSocket(h, 'tap0') for h in (jumbo.one, jumbo.two))
    before = jumbo.a.counters
    here.send(frame(jumbo.b.mac, jumbo.a.mac, b'\0\1\x88\xb5', 0x8100,
                    size=65500))
    here.send(frame(jumbo.b.mac, jumbo.a.mac, marker(), size=60))
    assert there.receive() is not None
    assert jumbo.a.changes(before)['tx-drop-long'] == 1
    assert not there.pending()


def test_every_byte_of_a_tagged_frame(pair):
    """The fabric does not look behind the addresses."""
    wire = pair.two.capture('tap0', label='vlan')
    socket = PacketSocket(pair.one, 'tap0')
    data = frame(pair.b.mac, pair.a.mac, b'\x20\x07\x88\xb5' + marker(),
                 0x8100, size=128)
    before = pair.b.count('rx-frames')
    socket.send(data)
    pair.b.wait_count('rx-frames', before + 1)
    wire.stop(signal.SIGINT)
    with open(wire.pcap, 'rb') as file:
        assert data in file.read()


def test_broadcast_and_multicast_are_flooded(pair):
    here, there = (PacketSocket(h, 'tap0') for h in (pair.one, pair.two))
    for destination in (BROADCAST, '01:00:5e:01:02:03', '33:33:00:00:00:01'):
        before = pair.a.counters
        data = frame(destination, mac(99), marker())
        here.send(data)
        there.expect(data)
        assert pair.a.changes(before)['tx-flooded'] == 1


def test_nothing_comes_back(pair):
    """A port's own floods do not return to it."""
    here, there = (PacketSocket(h, 'tap0') for h in (pair.one, pair.two))
    before = pair.a.counters
    data = [frame(BROADCAST, pair.a.mac, marker()) for _ in range(10)]
    for one in data:
        here.send(one)
    for one in data:
        there.expect(one)
    changes = pair.a.changes(before)
    assert 'rx-frames' not in changes, changes
    assert not here.pending()
