# SPDX-License-Identifier: GPL-2.0-or-later
"""Who gets a frame, and who does not: learning, flooding, ageing, limits.

Three hosts on one switch, with a TAP that carries nothing but the frames of
the test.
"""

import time

import pytest
from frames import BROADCAST, PacketSocket, mac
from procs import wait_for
from stations import Station

ETH_P_IP = 0x0800


@pytest.fixture
def three(net, tap):
    """Make three stations; options are those of the first one."""
    def make(**options):
        hosts = net.hosts(3)
        return [Station(tap, hosts[0], **options), Station(tap, hosts[1]),
                Station(tap, hosts[2])]
    return make


def test_unicast_reaches_its_owner_alone(three):
    """The promise of QDES, counted at the third port and on its wire."""
    a, b, c = three()
    wire = PacketSocket(c.host, 'eth0', ETH_P_IP)
    b.speak(mac(2), a)
    c.socket.pending()

    # What is flooded is there for C to see: this way of looking works.
    data = a.send(BROADCAST, mac(1))
    b.expect(data)
    c.expect(data)
    assert any(data in packet for packet in wire.pending())

    heard, before = c.heard(), a.counters
    private = []
    for size in [60, 1400] * 100:
        private.append(a.send(mac(2), mac(1), size))
        b.expect(private[-1])
        # The way back is as private.
        private.append(b.send(mac(1), mac(2), size))
        a.expect(private[-1])
    assert c.heard() == heard
    packets = b''.join(wire.pending())
    assert not any(data in packets for data in private)
    assert a.changes(before)['tx-unicast'] == 200
    assert 'tx-flooded' not in a.changes(before)
    c.silent()


def test_unknown_unicast_is_flooded(three):
    a, b, c = three()
    data = a.send(mac(77), mac(1))
    b.expect(data)
    c.expect(data)
    assert a.count('tx-flooded') == 1


def test_unknown_unicast_dropped(three):
    a, b, c = three(unknown_unicast='drop')
    dropped = a.send(mac(77), mac(1))
    for destination in BROADCAST, '01:80:c2:00:00:21':
        a.send(destination, mac(1))
    last = a.send(BROADCAST, mac(1))
    b.expect(last)
    c.expect(last)
    assert a.count('tx-drop-unknown') == 1
    assert a.count('tx-flooded') == 3
    assert b.count('rx-frames') == c.count('rx-frames') == 3
    # As soon as the owner is known, it gets its frames.
    b.send(BROADCAST, mac(77))
    a.wait_mac(mac(77))
    b.expect(a.send(mac(77), mac(1)))
    assert a.count('tx-drop-unknown') == 1
    assert dropped not in c.socket.pending()


def test_learning_off(three):
    a, b, c = three(learning='off')
    b.speak(mac(2), a)
    assert mac(2) not in a.fdb
    data = a.send(mac(2), mac(1))
    b.expect(data)
    c.expect(data)
    assert a.count('tx-flooded') == 1
    assert a.count('fdb-learned') == 0


def test_frames_between_local_addresses_stay_here(three):
    """Behind a port there may be a bridge, which has delivered them."""
    a, b, _ = three()
    a.speak(mac(1), b)
    a.speak(mac(2), b)
    before = a.counters
    a.send(mac(1), mac(2))
    last = a.send(BROADCAST, mac(2))
    b.expect(last)
    assert a.changes(before)['tx-drop-local'] == 1
    assert b.count('rx-frames') == 3


def test_ageing(three):
    """What speaks stays, what is silent is forgotten, then flooded to."""
    a, b, c = three(ageing=10)
    start = time.monotonic()
    b.speak(mac(2), a)
    b.speak(mac(3), a)
    while time.monotonic() < start + 8:
        b.speak(mac(3), a)
        assert mac(2) in a.fdb
        time.sleep(0.5)
    wait_for(lambda: mac(2) not in a.fdb, 6)
    assert time.monotonic() > start + 10
    assert mac(3) in a.fdb
    a.wait_count('fdb-aged', 1)
    c.socket.pending()
    data = a.send(mac(2), mac(1))
    c.expect(data)
    b.expect(data)
    heard = c.heard()
    b.expect(a.send(mac(3), mac(1)))
    assert c.heard() == heard


def test_full_table_evicts_from_the_greediest(three):
    """A peer that invents addresses pushes out its own, nobody else's."""
    a, b, c = three(max_macs=16)
    c.speak(mac(3), a)
    greedy = [mac(1000 + n) for n in range(200)]
    for address in greedy:
        b.send(BROADCAST, address)
    a.expect(b.send(BROADCAST, greedy[-1]))
    # None gets more than half, so that there is room for others.
    fdb = a.fdb
    assert set(fdb) == {mac(3), *greedy[-8:]}
    counters = a.counters
    assert counters['fdb-learned'] == 201
    assert counters['fdb-evicted'] == 192
    assert {p['name']: p['macs'] for p in a.peers} == {b.name: 8, c.name: 1}
    b.socket.pending()
    c.expect(a.send(mac(3), mac(3000)))
    b.silent()
    assert a.count('tx-unicast') == 1


def test_address_moves_to_another_port(three):
    a, b, c = three()
    b.speak(mac(5), a)
    assert a.fdb[mac(5)]['peer'] == b.address
    c.speak(mac(5), a)
    entry = a.fdb[mac(5)]
    assert entry['peer'] == c.address
    assert entry['moves'] == 1
    assert a.count('fdb-moved') == 1
    b.socket.pending()
    c.expect(a.send(mac(5), mac(1)))
    b.silent()
    # And home again, which is not taken for two with one address.
    b.speak(mac(5), a)
    b.expect(a.send(mac(5), mac(1)))
    assert a.fdb[mac(5)]['moves'] == 2


def test_address_moves_here(three):
    """A guest that migrates to this host takes its address along."""
    a, b, c = three()
    b.speak(mac(5), a)
    a.speak(mac(5), c)
    assert a.fdb[mac(5)]['local']
    b.wait_mac(mac(5))
    assert b.fdb[mac(5)]['peer'] == a.address
    assert a.count('mac-duplicate') == 0


def test_duplicate_address_is_said_once(three):
    """Two guests with QEMU's default address are the classic."""
    a, b, _ = three()
    twin = '52:54:00:12:34:56'
    for port in a, b:
        port.logs.expect(f'duplicate MAC address {twin}')
    for _ in range(10):
        a.speak(twin, b)
        b.speak(twin, a)
    wait_for(lambda: a.count('mac-duplicate') >= 9)
    lines = [line for line in a.process.log.splitlines() if twin in line]
    assert len(lines) == 1, lines
    assert b.address in lines[0]
    assert b.name in lines[0]


def test_two_netids_on_one_group(net, tap):
    """Networks on one group do not see each other, nor pay for it."""
    hosts = net.hosts(4)
    a, b = Station(tap, hosts[0], netid=1), Station(tap, hosts[1], netid=1)
    c = Station(tap, hosts[2], netid=2)
    d = Station(tap, hosts[3], netid=2)
    for one, other in (a, b), (c, d):
        one.wait_peers(1)
        assert one.peers[0]['name'] == other.name
    before = c.counters
    for _ in range(50):
        b.expect(a.send(BROADCAST, mac(1)))
    c.expect(d.send(BROADCAST, mac(1)))
    c.silent()
    d.silent()
    assert c.count('rx-frames') - before['rx-frames'] == 1
    assert c.count('rx-drop-netid') == before['rx-drop-netid']
    assert c.count('rx-drop-kernel') - before['rx-drop-kernel'] >= 50
    assert c.fdb[mac(1)]['peer'] == d.address
    assert len(c.peers) == 1


def test_ports_of_one_host(net, tap):
    """They share the group's UDP port, and are full members all the same."""
    hosts = net.hosts(2)
    ports = [Station(tap, hosts[0], f'tap{n}') for n in range(3)]
    far = Station(tap, hosts[1])
    everybody = [*ports, far]
    for port in everybody:
        port.wait_peers(3)
    for number, port in enumerate(everybody):
        data = port.send(BROADCAST, mac(number))
        for other in everybody:
            if other is not port:
                other.expect(data)
    for port in everybody:
        port.silent()
        assert port.count('rx-frames') == 3
    heard = ports[2].heard(), far.heard()
    for _ in range(20):
        ports[1].expect(ports[0].send(mac(1), mac(0)))
        ports[0].expect(ports[1].send(mac(0), mac(1)))
    assert (ports[2].heard(), far.heard()) == heard
    ports[2].expect(far.send(mac(2), mac(3)))
    assert ports[0].count('mac-duplicate') == 0


class Bridge:
    """A bridge on a TAP, with guests (namespaces) behind it."""

    def __init__(self, net, host, tap='tap0'):
        self.net = net
        self.host = host
        host.ip('link add br0 type bridge forward_delay 0 stp_state 0 '
                'mcast_snooping 0', 'link set br0 up',
                f'link set {tap} master br0')

    def add(self, name, number):
        """Attach a guest; its MAC and IP address end in NUMBER."""
        guest = self.net.namespace(f'{name}-{self.host.name}')
        self.host.ip(f'link add {name} type veth peer name eth0 netns '
                     f'{guest.full_name}', f'link set {name} master br0 up')
        guest.ip(f'link set eth0 address {mac(number)} up',
                 f'addr add 10.82.0.{number}/24 dev eth0')
        return guest

    def remove(self, name):
        self.host.ip(f'link del {name}')


def test_bridges_behind_the_taps(net, tap):
    hosts = net.hosts(2)
    a, b = tap(hosts[0]), tap(hosts[1])
    left, right = Bridge(net, hosts[0]), Bridge(net, hosts[1])
    guests = [left.add(f'g{n}', n) for n in (11, 12, 13)]
    guests += [right.add(f'g{n}', n) for n in (21, 22)]
    for guest in guests:
        for number in 11, 12, 13, 21, 22:
            guest.assert_ping(f'10.82.0.{number}', count=1)
    assert b.peer_named(a.name)['macs'] >= 3
    assert a.peer_named(b.name)['macs'] >= 2
    for number in 11, 12, 13:
        assert b.fdb[mac(number)]['peer'] == a.address
        assert a.fdb[mac(number)]['local']
    # What a bridge switches by itself does not enter the fabric.
    before = a.counters
    guests[0].assert_ping('10.82.0.12', count=20)
    changes = a.changes(before)
    assert changes.get('tx-frames', 0) < 10, changes


def test_guest_moves_to_another_bridge(net, tap):
    """Its first frame from the new place takes its address along."""
    hosts = net.hosts(3)
    ports = [tap(host) for host in hosts]
    bridges = [Bridge(net, host) for host in hosts]
    fixed = bridges[2].add('fixed', 33)
    bridges[0].add('mover', 11)
    fixed.assert_ping('10.82.0.11', count=1)
    assert ports[2].fdb[mac(11)]['peer'] == ports[0].address
    bridges[0].remove('mover')
    moved = bridges[1].add('mover', 11)
    moved.assert_ping('10.82.0.33', count=1)
    assert ports[2].fdb[mac(11)]['peer'] == ports[1].address
    fixed.assert_ping('10.82.0.11')
