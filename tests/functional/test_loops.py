# SPDX-License-Identifier: GPL-2.0-or-later
"""Several ports of one fabric on one LAN, and what keeps it from melting.

A LAN is a Linux bridge with a station, a veth whose other end only the test
uses.  The ports' TAPs are put into the bridge.  Another host has a port that
is on no LAN, and counts what comes by the fabric.
"""

import time
from pathlib import Path

import pytest
from frames import (BROADCAST, ETH_P_ALL, ETH_P_TEST, PacketSocket, frame, mac,
                    mac_bytes, marker)
from procs import PATIENCE, wait_for
from stations import Station

PROBE = 0x88b6
PROBE_GROUP = '03:51:44:45:53:01'
BRIDGE = 'type bridge forward_delay 0 stp_state 0 mcast_snooping 0'


class Lan:
    """A bridge in a namespace, and a station on it."""

    def __init__(self, host):
        self.host = host
        host.ip(f'link add br0 {BRIDGE}', 'link set br0 up',
                'link add sta0 type veth peer name sta1',
                'link set sta1 master br0 up', 'link set sta0 up')
        self.station = PacketSocket(host, 'sta0')

    def plug(self, port):
        self.host.ip(f'link set {port.tap} master br0')

    def unplug(self, port):
        self.host.ip(f'link set {port.tap} nomaster')

    def send(self, dst, src, payload=None):
        data = frame(dst, src, payload or marker())
        self.station.send(data)
        return data


def blocked(ports):
    return [port for port in ports if 'blocked-by-loop' in port.status()]


def wait_blocked(ports, count, deadline=3.0):
    """Wait until COUNT of them are blocked; returns the others."""
    wait_for(lambda: len(blocked(ports)) == count, deadline,
             lambda: f'{count} of {ports} to be blocked, but '
             f'{blocked(ports)} are')
    shut = blocked(ports)
    return [port for port in ports if port not in shut]


def allow_loops(*ports):
    for port in ports:
        port.logs.allow('warning: loop: ')
        port.logs.allow('warning: more than 100000 broadcast')
        # The address of a station that is heard here and there.
        port.logs.allow('warning: duplicate MAC address ')


def copies(socket, data, seconds):
    """How often DATA is heard, until SECONDS after the first time."""
    socket.expect(data)
    end = time.monotonic() + seconds
    count = 1
    while (left := end - time.monotonic()) > 0:
        count += socket.receive(left) == data
    return count


@pytest.fixture(name='lan')
def fixture_lan(net):
    """A host with a LAN, and another one, on one switch."""
    hosts = net.hosts(2)
    return Lan(hosts[0]), hosts[1]


def test_two_ports_without_guard(lan, tap):
    """What the guard is for: one broadcast fills the network for ever."""
    lan, other = lan
    remote = Station(tap, other)
    ports = [tap(lan.host, f'tap{n}', loop_guard='off') for n in range(2)]
    for port in ports:
        port.wait_peers(2)
        # It learns the same address here and there.
        port.logs.allow('warning: ')
        lan.plug(port)
    data = lan.send(BROADCAST, mac(1))
    remote.expect(data)
    try:
        wait_for(lambda: remote.count('rx-frames') > 500, 5)
        before = remote.count('rx-frames')
        wait_for(lambda: remote.count('rx-frames') > before + 500, 5)
    finally:
        ports[0].process.kill()
    assert not blocked(ports[1:])
    assert ports[1].count('loop-probes') == 0


@pytest.mark.parametrize('count', [2, 4])
def test_one_port_is_left(lan, tap, count):
    """They are plugged in one by one, and there is traffic from the start."""
    lan, other = lan
    remote = Station(tap, other)
    ports = [tap(lan.host, f'tap{n}') for n in range(count)]
    for port in ports:
        port.wait_peers(count)
    allow_loops(*ports)
    for port in ports:
        lan.plug(port)
        lan.send(BROADCAST, mac(1))
    left, = wait_blocked(ports, count - 1)
    # The storm is over: each frame goes once, both ways.
    remote.socket.pending()
    wait_for(lambda: not remote.socket.pending(), 2, interval=0.2)
    before = remote.counters
    for _ in range(10):
        data = lan.send(BROADCAST, mac(1))
        assert copies(remote.socket, data, 0.1) == 1
    assert remote.changes(before)['rx-frames'] == 10
    lan.station.pending()
    for _ in range(10):
        data = remote.send(BROADCAST, mac(2))
        assert copies(lan.station, data, 0.1) == 1
    # Also to one address, which the blocked ones have not.
    data = remote.send(mac(1), mac(2))
    assert copies(lan.station, data, 0.3) == 1
    assert remote.fdb[mac(1)]['peer'] == left.address
    for port in blocked(ports):
        wait_for(lambda p=port: p.status().get('blocked-by-loop') ==
                 left.name)
        assert port.count('loop-blocked') == 1
        assert port.count('tx-drop-loop') >= 10
        assert port.count('rx-drop-loop') >= 10
        lines = [line for line in port.process.log.splitlines()
                 if 'warning: loop: ' in line]
        assert all(port.name in line for line in lines)
        assert any('This port is blocked' in line for line in lines)
    # No probe has ever come through the fabric.
    assert remote.count('rx-drop-probe') == 0


def test_little_passes_before(lan, tap):
    """Nobody waits for the guard, but a loop is found within its first turns.
    """
    lan, other = lan
    remote = Station(tap, other)
    ports = [tap(lan.host, f'tap{n}') for n in range(2)]
    for port in ports:
        port.wait_peers(2)
        lan.plug(port)
    allow_loops(*ports)
    before = remote.count('rx-frames')
    for _ in range(100):
        lan.send(BROADCAST, mac(1))
        time.sleep(0.01)
    wait_blocked(ports, 1)
    # Without, it would be some ten thousand; the shortest time between two
    # probes is 20 ms.
    assert remote.count('rx-frames') - before < 100 + 2000 * PATIENCE


def test_loop_that_nobody_told_of(net, tap):
    """Two LANs are joined where no port can see it: a frame that comes back
    gives it away, also in the midst of a storm."""
    hosts = net.hosts(3)
    lans = [Lan(host) for host in hosts[:2]]
    remote = Station(tap, hosts[2])
    ports = [tap(lan.host, 'tap0') for lan in lans]
    allow_loops(*ports)
    for lan, port in zip(lans, ports):
        port.wait_peers(2)
        lan.plug(port)
    # The probes of the start are over.
    for port in ports:
        wait_for(lambda p=port: p.count('loop-probes') >= 4, 5)
    assert not blocked(ports)
    # Each has a station that speaks now, and then no more.
    for number, lan in enumerate(lans):
        remote.expect(lan.send(BROADCAST, mac(20 + number)))
    # The cable: a veth, one end in each LAN's bridge.
    hosts[0].ip(f'link add cable type veth peer name cable netns '
                f'{hosts[1].full_name}')
    for host in hosts[:2]:
        host.ip('link set cable master br0')
    hosts[0].ip('link set cable up')
    hosts[1].ip('link set cable up')
    begun = time.monotonic()
    for number in range(5):
        lans[0].send(BROADCAST, mac(number))
        lans[1].send(BROADCAST, mac(10 + number))
    left, = wait_blocked(ports, 1, 2)
    assert time.monotonic() - begun < 2 * PATIENCE
    wait_for(lambda: not remote.socket.pending(), 2, interval=0.2)
    # Nothing points to the one that is blocked.  (What becomes of it on a LAN
    # of several bridges is for them to know.)
    heard = PacketSocket(left.host, left.tap, ETH_P_ALL)
    for number in range(2):
        data = remote.send(mac(20 + number), mac(2))
        assert copies(heard, data, 0.3) == 1
    data = lans[0].send(BROADCAST, mac(1))
    assert copies(remote.socket, data, 0.3) == 1
    data = lans[1].send(BROADCAST, mac(11))
    assert copies(remote.socket, data, 0.3) == 1
    assert remote.fdb[mac(1)]['peer'] == left.address


def three_on(lan, tap):
    """Three ports on one LAN: all of them, and the one that is left."""
    ports = [tap(lan.host, f'tap{n}') for n in range(3)]
    allow_loops(*ports)
    for port in ports:
        port.wait_peers(3)
        lan.plug(port)
    left, = wait_blocked(ports, 2)
    return ports, left


def test_the_other_takes_over_at_once(lan, tap):
    """The one that is left says BYE: by its end, and by its link."""
    lan, other = lan
    remote = Station(tap, other)
    ports, left = three_on(lan, tap)
    left.stop()
    ports.remove(left)
    left, = wait_blocked(ports, 1)
    remote.expect(lan.send(BROADCAST, mac(1)))
    lan.host.ip(f'link set {left.tap} down')
    ports.remove(left)
    assert wait_blocked(ports, 0) == ports
    data = lan.send(BROADCAST, mac(1))
    assert copies(remote.socket, data, 0.3) == 1
    # It is back, and one of the two is left as before.
    lan.host.ip(f'link set {left.tap} up')
    wait_blocked([left, *ports], 1)


def test_killed_and_unplugged(lan, tap):
    """Of one that is killed, its host tells.  Of a cable nobody says anything:
    the probes are missed, within three intervals."""
    lan, other = lan
    remote = Station(tap, other)
    ports, left = three_on(lan, tap)
    left.process.kill()
    ports.remove(left)
    wait_blocked(ports, 1, 3)
    assert sum(port.count('peers-unreachable') for port in ports) >= 1
    lan.unplug(ports[0])
    assert len(wait_blocked(ports, 0, 40)) == 2
    data = lan.send(BROADCAST, mac(1))
    assert copies(remote.socket, data, 0.3) == 1
    station = PacketSocket(lan.host, ports[0].tap)
    data = frame(BROADCAST, mac(2), marker())
    station.send(data)
    remote.expect(data)


def places(lan, address):
    """The bridge's ports that it has learned ADDRESS at."""
    lines = lan.host.run('bridge fdb show br br0').stdout.splitlines()
    return [line.split()[2] for line in lines if line.startswith(address)]


@pytest.mark.parametrize('privileged', [True, False])
def test_silent_stations_are_found(lan, tap, privileged):
    """While frames circle, they are heard on the wrong side.  Then they are
    silent."""
    lan, other = lan
    remote = Station(tap, other)
    options = {}
    if not privileged:
        options['user'] = 'nobody'
        Path(lan.host.network.run_dir).chmod(0o777)     # its control socket
    ports = [tap(lan.host, f'tap{n}', **options) for n in range(2)]
    allow_loops(*ports)
    for port in ports:
        port.wait_peers(2)
        lan.plug(port)
    lan.send(BROADCAST, mac(1))
    remote.send(BROADCAST, mac(2))
    left, = wait_blocked(ports, 1)
    wait_for(lambda: all('made to learn anew' in p.process.log
                         for p in ports), 3)
    taps = {port.tap for port in ports}
    wait_for(lambda: not taps.intersection(places(lan, mac(1))) and
             not places(lan, mac(2)), 3, lambda: lan.host.run(
                 'bridge fdb show br br0').stdout)
    lan.station.pending()
    data = remote.send(mac(1), mac(3))
    assert copies(lan.station, data, 0.5) == 1
    # One of the fabric is not on this side of the port.
    assert left.fdb.get(mac(2), {}).get('peer') != 'local'
    remote.socket.pending()
    data = lan.send(mac(2), mac(1))
    assert copies(remote.socket, data, 0.5) == 1


def test_bridge_with_stp_is_left_alone(lan, tap):
    """It would be silent for half a minute."""
    lan, _ = lan
    lan.host.ip('link set br0 type bridge stp_state 1 forward_delay 200')
    ports = [tap(lan.host, f'tap{n}') for n in range(2)]
    # STP would break the loop itself, if it heard its messages come back.
    lan.host.nft('table netdev no { chain bpdu { type filter hook ingress '
                 'devices = { tap0, tap1 } priority 0; '
                 'ether daddr 01:80:c2:00:00:00 drop; }; }')
    allow_loops(*ports)
    for port in ports:
        port.wait_peers(1)
        lan.plug(port)
    wait_for(lambda: lan.host.run('bridge link show').stdout.count(
        'state forwarding') == 3, 20)
    lan.send(BROADCAST, mac(1))
    wait_blocked(ports, 1)
    # Longer than it takes without STP.
    time.sleep(1)
    for port in ports:
        assert 'made to learn anew' not in port.process.log
    assert lan.host.run('bridge link show').stdout.count(
        'state forwarding') == 3


def test_probes_are_few_and_stay_outside(net, tap):
    """What is seen of them on a TAP, and that nobody can pass one on."""
    a, b = [Station(tap, host) for host in net.hosts(2)]
    probes = PacketSocket(a.host, 'tap0', PROBE)
    # The intervals double: there is no seventh within six seconds.
    wait_for(lambda: a.count('loop-probes') >= 4, 5)
    seen = probes.pending()
    assert 1 <= len(seen) <= 6
    assert all(data[:6] == mac_bytes(PROBE_GROUP) for data in seen)
    assert len({data[6:12] for data in seen}) == 1
    last = frame(BROADCAST, mac(1), marker())
    a.socket.send(frame(PROBE_GROUP, mac(1), b'QDLP', PROBE))
    a.socket.send(frame(PROBE_GROUP, mac(1), b'', ETH_P_TEST, 1000))
    a.socket.send(last)
    b.expect(last)
    b.silent()
    assert a.count('tx-drop-probe') == 2
    assert b.count('rx-frames') == 1
    assert mac(1) in a.fdb


def test_storm_control(net, tap):
    hosts = net.hosts(2)
    a, b = Station(tap, hosts[0], storm_control=50), Station(tap, hosts[1])
    a.logs.expect('warning: more than 50 broadcast, multicast and unknown')
    b.speak(mac(2), a)
    begun = time.monotonic()
    for number in range(1000):
        a.send(BROADCAST if number % 2 else mac(77), mac(1))
        if number % 100 == 0:
            b.expect(a.send(mac(2), mac(1)))
    a.wait_count('tx-frames', 1010)
    spent = time.monotonic() - begun
    counters = a.counters
    assert counters['tx-unicast'] == 10
    assert 50 <= counters['tx-flooded'] <= 50 + 50 * (spent + 0.1)
    assert counters['tx-drop-storm'] == 1000 - counters['tx-flooded']
    assert a.process.log.count('warning: more than') == 1
    # And it has an end.
    said = []

    def passes():
        said.append(a.send(BROADCAST, mac(1)))
        return any(data in said for data in b.socket.pending())
    wait_for(passes, interval=0.1)
