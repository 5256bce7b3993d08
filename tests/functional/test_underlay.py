# SPDX-License-Identifier: GPL-2.0-or-later
"""Networks that change, and networks that are hardly there."""

import os
import shutil
import socket
import subprocess
import tempfile
import time

import netns
import pytest
from frames import BROADCAST, PacketSocket, mac
from ports import QDES_TAP
from procs import PATIENCE, wait_for
from stations import Station, WirePeer

IPV6 = {'mcast': '[ff15::5144]'}
FAMILIES = pytest.mark.parametrize('options', [{}, IPV6],
                                   ids=['ipv4', 'ipv6'])

# A change of interfaces has to be noticed and repaired within so many seconds.
REPAIR = 3


def assert_traffic(a, b, deadline=REPAIR, number=0):
    """Within DEADLINE seconds, floods and unicast cross in both directions.

    Frames may be lost before that, never after.
    """
    here, there = mac(100 + number), mac(200 + number)
    end = time.monotonic() + deadline * PATIENCE
    while True:
        a.socket.pending()
        b.socket.pending()
        try:
            b.expect(a.send(BROADCAST, here), 0.2)
            a.expect(b.send(BROADCAST, there), 0.2)
            break
        except AssertionError:
            if time.monotonic() > end:
                raise
    for _ in range(5):
        b.expect(a.send(there, here))
        a.expect(b.send(here, there))
        b.expect(a.send(BROADCAST, here))
        a.expect(b.send(BROADCAST, there))


def lose(station, frames=5):
    """Frames that the station floods go nowhere, but each is counted.

    Returns the counters, other than tx-frames, and by how much they grew.
    """
    before = station.counters
    for _ in range(frames):
        station.send(BROADCAST, mac(1))

    def counted():
        changes = station.changes(before)
        return changes.get('tx-frames') == frames and changes
    changes = wait_for(counted, what='frames to be counted')
    return {n: v for n, v in changes.items() if n.startswith('tx-drop-')}


@pytest.fixture
def pair(net, tap):
    """Make two stations on two hosts; options are those of both."""
    def make(first=None, **options):
        hosts = net.hosts(2)
        return (Station(tap, hosts[0], **options, **(first or {})),
                Station(tap, hosts[1], **options))
    return make


def wait_route_lost(station, options):
    """IPv4 falls back to loopback, which IPv6 multicast cannot use."""
    if options:
        station.logs.expect('no interface can join the group')
        wait_for(lambda: station.status()['iface'] == '', REPAIR)
    else:
        station.logs.expect('no route for the group .* on lo')
        wait_for(lambda: station.status()['loopback'], REPAIR)


@FAMILIES
def test_interface_down_and_up(pair, options):
    a, b = pair(**options)
    assert_traffic(a, b)
    # Down, an interface loses its routes; what set them up does so again.
    a.host.ip('link set eth0 down')
    wait_route_lost(a, options)
    a.send(BROADCAST, mac(1))
    a.host.ip('link set eth0 up', 'route add default dev eth0',
              f'addr replace {a.host.address6}/64 dev eth0 nodad')
    assert_traffic(a, b, number=1)
    wait_for(lambda: a.status()['iface'] == 'eth0')
    assert a.count('rejoined') == (1 if options else 2)
    assert len(a.peers) == 1
    assert len(b.peers) == 1


@FAMILIES
def test_named_interface_down_and_up(pair, options):
    """The port stays with the interface that its user has named."""
    a, b = pair({'iface': 'eth0'}, **options)
    assert_traffic(a, b)
    a.host.ip('link set eth0 down')
    # A frame may still leave while the interface goes down.
    wait_for(lambda: sum(lose(a).values()) == 5)
    assert lose(a) == {'tx-drop-unreachable': 5}
    assert a.status()['iface'] == 'eth0'
    a.host.ip('link set eth0 up', 'route add default dev eth0',
              f'addr replace {a.host.address6}/64 dev eth0 nodad')
    assert_traffic(a, b, number=1)


@FAMILIES
@pytest.mark.parametrize('first', [{}, {'iface': 'eth0'}],
                         ids=['by-route', 'iface'])
def test_interface_recreated(pair, options, first):
    """The interface goes and another one with its name comes."""
    a, b = pair(first, **options)
    assert_traffic(a, b)
    a.host.ip('link del eth0')
    if first:
        a.logs.expect('no interface can join the group')
        wait_for(lambda: a.status()['iface'] == '', REPAIR)
        assert lose(a) == {'tx-drop-no-group': 5}
    else:
        wait_route_lost(a, options)
    switch = a.host.network.namespaces[0]
    a.host.addresses, a.host.addresses6 = [], []
    a.host.connect(switch)
    a.host.ip('route add default dev eth0')
    assert_traffic(a, b, number=1)
    wait_for(lambda: a.status()['iface'] == 'eth0')
    assert a.count('rejoined') >= 1
    assert a.status()['loopback'] is False


@FAMILIES
def test_address_changes(pair, options):
    """A lease ends: peers meet the port at its new address."""
    a, b = pair(**options)
    assert_traffic(a, b)
    old = a.address
    a.host.ip(f'addr del {a.host.address}/24 dev eth0',
              f'addr del {a.host.address6}/64 dev eth0',
              'addr add 10.80.0.77/24 dev eth0',
              'addr add fd80::77/64 dev eth0 nodad')
    a.host.ip('route replace default dev eth0')
    a.logs.allow('no route for the group|no interface can join')
    wait_for(lambda: a.address != old, REPAIR)
    assert_traffic(a, b, number=1)
    new = a.address
    assert '10.80.0.77' in new or 'fd80::77' in new
    # The peer's table follows.
    wait_for(lambda: b.peer_of(mac(101)) == new)
    assert b.peer_named(a.name)
    wait_for(lambda: new in [p['address'] for p in b.peers
                             if p['state'] == 'alive'], 2)


def test_no_route_for_multicast(net, tap):
    """Ports of the host talk by loopback until there is a route."""
    switch = net.switch()
    far = Station(tap, net.host('far', switch))
    lost = net.host('lost', switch, default_route=False)
    a, b = [Station(tap, lost, f'tap{n}') for n in range(2)]
    for port in a, b:
        port.process.wait_log('no route for the group 239.192.81.68:20804')
        status = port.status()
        assert status['loopback'] is True
        assert status['iface'] == 'lo'
        port.logs.expect('no route for the group')
    a.wait_peers(1)
    assert_traffic(a, b)
    far.silent()
    lost.ip('route add 239.192.81.68/32 dev eth0')
    for port in a, b:
        wait_for(lambda p=port: not p.status()['loopback'], REPAIR)
        assert port.status()['iface'] == 'eth0'
        assert port.count('rejoined') == 1
    assert_traffic(a, far, number=1)
    assert_traffic(b, far, number=2)
    assert_traffic(a, b, number=3)


def test_only_loopback(net, tap):
    """A machine with nothing but lo, such as a sandbox for builds."""
    host = net.host('alone')
    a, b, c = [Station(tap, host, f'tap{n}') for n in range(3)]
    for port in a, b, c:
        port.logs.expect('no route for the group .* joined on lo')
        assert port.status()['loopback'] is True
        assert port.status()['iface'] == 'lo'
        port.wait_peers(2)
    assert_traffic(a, b)
    heard = c.heard()
    b.expect(a.send(mac(200), mac(100)))
    assert c.heard() == heard
    # By the group and by unicast, they are the same.
    for port in a, b, c:
        wait_for(lambda p=port: all(x['proven'] for x in p.peers))
        assert len(port.peers) == 2
        assert not any(x['copy'] for x in port.peers)


def test_only_loopback_and_ipv6(net, tap):
    """Linux has no IPv6 multicast on lo; the port says what would work."""
    host = net.host('alone')
    a = Station(tap, host, 'tap9', **IPV6)
    a.logs.expect('no interface can join the group .* an IPv4 group')
    assert a.status()['iface'] == ''
    assert a.status()['loopback'] is False
    assert lose(a) == {'tx-drop-no-group': 5}


def test_machine_gets_its_first_network(net, tap):
    host = net.host('early')
    a = Station(tap, host)
    a.logs.expect('no route for the group')
    switch = net.switch()
    b = Station(tap, net.host('far', switch))
    host.connect(switch)
    host.ip('route add default dev eth0')
    assert_traffic(a, b)
    assert a.status()['iface'] == 'eth0'
    assert a.count('rejoined') >= 1


@pytest.fixture
def homes(net):
    """A host with two networks, and one neighbour in each.

        left -- eth0 | middle | eth1 -- right
    """
    left, right = net.switch(), net.switch()
    return (net.host('left', left), net.host('middle', left, right),
            net.host('right', right))


@FAMILIES
def test_multi_homed_by_interface(homes, tap, options):
    left, middle, right = homes
    a = Station(tap, left, **options)
    b = Station(tap, right, **options)
    m = Station(tap, middle, iface='eth1', **options)
    assert_traffic(m, b)
    a.silent()
    assert m.status()['iface'] == 'eth1'
    assert len(m.peers) == 1
    assert not a.peers


def test_link_local_group_and_address(homes, tap):
    """Groups and addresses that mean something on one link only."""
    left, middle, right = homes
    options = {'mcast': '[ff12::77]:4711'}
    a = Station(tap, left, iface='eth0', **options)
    b = Station(tap, right, iface='eth0', **options)
    m = Station(tap, middle, iface='eth1', **options)
    assert_traffic(m, b)
    with middle.entered(), open('/proc/net/if_inet6',
                                encoding='ascii') as file:
        local = next(socket.inet_ntop(socket.AF_INET6,
                                      bytes.fromhex(line.split()[0]))
                     for line in file
                     if line.startswith('fe80') and 'eth0' in line)
    n = Station(tap, middle, 'tap1', localaddr=f'{local}%eth0', iface='eth0',
                **options)
    assert_traffic(n, a, number=1)
    assert a.peer_named(n.name)['address'].startswith(f'[{local}%eth0]:')
    assert len(a.peers) == len(b.peers) == 1


def test_two_link_local_groups_on_one_port(net, tap):
    """Their sockets are bound to no group, but hear their own one only."""
    hosts = net.hosts(2)
    groups = ['[ff12::77]:4711', '[ff12::78]:4711']
    a, b = [Station(tap, hosts[0], f'tap{n}', mcast=group, iface='eth0')
            for n, group in enumerate(groups)]
    c, d = [Station(tap, hosts[1], f'tap{n}', mcast=group, iface='eth0')
            for n, group in enumerate(groups)]
    assert_traffic(a, c)
    assert_traffic(b, d, number=1)
    for port in a, b, c, d:
        assert len(port.peers) == 1
    assert not set(a.fdb) & set(b.fdb)


def test_multi_homed_by_route(homes, tap):
    left, middle, right = homes
    a, b = Station(tap, left), Station(tap, right)
    m = Station(tap, middle)
    assert_traffic(m, a)
    b.silent()
    assert m.status()['iface'] == 'eth0'
    assert not b.peers


@FAMILIES
def test_multi_homed_by_address(homes, tap, options):
    left, middle, right = homes
    local = middle.addresses6[1] if options else middle.addresses[1]
    a = Station(tap, left, **options)
    b = Station(tap, right, **options)
    m = Station(tap, middle, localaddr=local, **options)
    assert_traffic(m, b)
    a.silent()
    assert m.status()['iface'] == 'eth1'
    assert local in m.address


@FAMILIES
def test_ports_on_both_networks_of_a_host(homes, tap, options):
    """What one network floods is not heard by the port on the other one."""
    left, middle, right = homes
    a = Station(tap, left, **options)
    b = Station(tap, right, **options)
    to_left = Station(tap, middle, 'tap0', iface='eth0', **options)
    to_right = Station(tap, middle, 'tap1', iface='eth1', **options)
    assert_traffic(to_left, a)
    b.silent()
    data = a.send(BROADCAST, mac(1))
    to_left.expect(data)
    last = b.send(BROADCAST, mac(2))
    to_right.expect(last)
    assert data not in to_right.socket.pending()
    assert mac(1) not in to_right.fdb


@FAMILIES
def test_own_frames_never_come_back(net, tap, options):
    """Two interfaces in one network: floods leave by one, enter by the
    other, and are known as the port's own."""
    switch = net.switch()
    host = net.host('twice', switch, switch)
    far = net.host('far', switch)
    for name in 'all', 'eth0', 'eth1':
        host.sysctl(f'net.ipv4.conf.{name}.rp_filter', 0)
        host.sysctl(f'net.ipv4.conf.{name}.accept_local', 1)
    ports = [Station(tap, host, iface='eth0', **options),
             Station(tap, far, **options),
             Station(tap, host, 'tap1', iface='eth1', **options)]
    a, b, other = ports
    for number, port in enumerate(ports):
        for _ in range(20):
            data = port.send(BROADCAST, mac(number))
            for listener in ports:
                if listener is not port:
                    listener.expect(data)
    for port in ports:
        port.silent()
        assert port.count('rx-frames') == 40, port
        assert port.count('mac-duplicate') == 0
    assert a.fdb[mac(0)]['local']
    # A host with two addresses may be known at both.
    assert len({peer['name'] for peer in a.peers}) == 2


def test_frames_of_a_forwarding_bridge_do_not_return(net, tap):
    """What comes from the fabric is not sent into it again."""
    hosts = net.hosts(3)
    stations = [Station(tap, host) for host in hosts]
    a, b, c = stations
    data = a.send(BROADCAST, mac(1))
    b.expect(data)
    c.expect(data)
    assert b.count('tx-frames') == c.count('tx-frames') == 0
    a.silent()


def test_firewall_forbids_to_send(pair):
    """EPERM is a lost frame, no more."""
    a, b = pair()
    assert_traffic(a, b)
    a.host.nft('table inet t { chain out { type filter hook output '
               'priority 0; udp dport 20804 drop; }; }')
    a.logs.expect('a firewall of this host forbids sending')
    dropped = lose(a)
    assert dropped == {'tx-drop-denied': 5}
    # Unicast has another port, and is not forbidden.
    b.expect(a.send(mac(200), mac(100)))
    a.host.nft('flush ruleset')
    assert_traffic(a, b, number=1)


def test_firewall_rejects(pair):
    """Its ICMP message comes to the port, but not from the peer."""
    a, b = pair()
    assert_traffic(a, b)
    a.host.nft('table inet t { chain out { type filter hook output '
               'priority 0; udp sport != 20804 meta l4proto udp reject; }; }')
    a.logs.expect('a firewall of this host forbids sending')
    before = a.counters
    for _ in range(20):
        a.send(mac(200), mac(100))
        a.send(BROADCAST, mac(100))

    def counted():
        return a.changes(before).get('tx-frames') == 40
    wait_for(counted)
    assert a.changes(before)['tx-drop-denied'] == 40
    a.host.nft('flush ruleset')
    assert_traffic(a, b, number=1)


def test_firewall_of_the_peer_rejects(pair):
    """A peer that cannot be reached by unicast is still flooded to."""
    a, b = pair()
    assert_traffic(a, b)
    _, port = b.address.rsplit(':', 1)
    b.host.nft('table inet t { chain in { type filter hook input '
               f'priority 0; udp dport {port} reject; }}; }}')
    b.socket.pending()

    def arrives():
        a.send(mac(200), mac(100))
        return b.socket.pending()
    wait_for(arrives, REPAIR, 'a frame to come out of the black hole',
             interval=0.1)
    assert a.count('peers-unreachable') >= 1
    b.host.nft('flush ruleset')
    assert_traffic(a, b)


def test_peer_without_a_route(pair):
    """ENETUNREACH for a peer costs no frame: it goes by the group."""
    a, b = pair()
    assert_traffic(a, b)
    before = a.counters
    a.host.ip(f'route add unreachable {b.host.address}/32')
    for _ in range(5):
        b.expect(a.send(mac(200), mac(100)))
    changes = a.changes(before)
    assert changes['tx-flooded'] == 5
    assert changes['peers-unreachable'] == 1
    a.host.ip(f'route del unreachable {b.host.address}/32')
    assert_traffic(a, b)
    assert a.count('peers-unreachable') == 1


def test_route_that_drops(pair):
    """An error that nobody foresaw (EINVAL) is a lost frame as well."""
    a, b = pair()
    assert_traffic(a, b)
    before = a.counters
    a.host.ip(f'route add blackhole {b.host.address}/32')
    for _ in range(5):
        a.send(mac(200), mac(100))
    b.expect(a.send(BROADCAST, mac(100)))
    changes = a.changes(before)
    assert changes['tx-drop-error'] == 5
    a.host.ip(f'route del blackhole {b.host.address}/32')
    assert_traffic(a, b)


def test_full_queue_of_the_interface(pair):
    """ENOBUFS: the frame is lost and counted, the port goes on.

    Without trains, as a queue that loses a part of one says nothing of it.
    """
    a, b = pair(gso='off')
    assert_traffic(a, b)
    a.host.run('tc qdisc add dev eth0 root tbf rate 8kbit burst 2000 '
               'limit 2000')
    before = a.counters
    for _ in range(100):
        a.send(BROADCAST, mac(100), size=1400)
    wait_for(lambda: a.changes(before).get('tx-frames') == 100)
    changes = a.changes(before)
    assert changes['tx-drop-nobufs'] >= 90, changes
    a.host.run('tc qdisc del dev eth0 root')
    assert_traffic(a, b, number=1)


def test_small_path(net, tap):
    """Frames over the underlay's MTU are cut by IP, in both families."""
    for options in {}, IPV6:
        switch = net.switch(mtu=1280)
        a, b = [Station(tap, net.host(f'{name}{switch.subnet}', switch),
                        **options) for name in 'ab']
        assert_traffic(a, b)
        b.expect(a.send(mac(200), mac(100), size=1514))
        b.expect(a.send(BROADCAST, mac(100), size=1514))


def test_path_mtu_shrinks(pair):
    """The interface gets a smaller MTU while traffic flows."""
    for a, b in pair(), pair(**IPV6):
        assert_traffic(a, b)
        b.expect(a.send(mac(200), mac(100), size=1400))
        a.host.ip('link set eth0 mtu 1280')
        b.host.ip('link set eth0 mtu 1280')
        a.send(mac(200), mac(100), size=1400)
        b.socket.pending()
        b.expect(a.send(mac(200), mac(100), size=1400))
        assert_traffic(a, b)


def test_too_big_from_a_router_is_no_death(net, tap):
    """A host unreachable message about one peer does not harm others."""
    hosts = net.hosts(3)
    a, b, c = [Station(tap, host) for host in hosts]
    b.speak(mac(2), a)
    c.speak(mac(3), a)
    # The peer's host vanishes: ARP fails, the kernel says EHOSTUNREACH.
    hosts[1].ip('link set eth0 down')
    b.logs.expect('no route for the group')
    hosts[0].ip('neigh flush dev eth0')
    a.send(mac(2), mac(1))
    a.wait_count('peers-unreachable', 1, deadline=8)
    assert mac(2) not in a.fdb
    c.socket.pending()
    c.expect(a.send(mac(3), mac(1)))
    c.expect(a.send(mac(2), mac(1)))


def test_multicast_with_snooping(net, tap):
    """A switch that looks at IGMP and MLD still brings floods to ports."""
    for options in {}, IPV6:
        switch = net.switch()
        switch.ip('link set br0 type bridge mcast_snooping 1 '
                  'mcast_querier 1')
        a, b = [Station(tap, net.host(f'{name}{switch.subnet}', switch),
                        **options) for name in 'ab']
        assert_traffic(a, b)


def test_group_port_taken_by_another_program(net, tap):
    """A socket that shares the port by SO_REUSEADDR is shared with; one
    that does not is an error that names option and port."""
    host = net.hosts(1)[0]
    sock = host.socket()
    sock.bind(('', 20804))
    port = tap(host, ready=False)
    assert port.process.wait() != 0
    assert '20804' in port.process.log
    assert 'mcast' in port.process.log
    port.logs.allow('')


def test_wrong_interface_is_an_error(net, tap):
    host = net.hosts(1)[0]
    port = tap(host, ready=False, iface='eth7')
    assert port.process.wait() != 0
    assert 'iface=eth7' in port.process.log
    port.logs.allow('')


def test_wire_is_as_documented(net, tap):
    """TTL, source port and group, seen on the wire."""
    hosts = net.hosts(2)
    wire = PacketSocket(hosts[1], 'eth0', 0x0800)
    a = Station(tap, hosts[0], ttl=7)
    peer = WirePeer(hosts[1])
    data = a.send(BROADCAST, mac(1))
    peer.expect(data)
    packet = wait_for(lambda: next((p for p in wire.pending() if data in p),
                                   None))
    assert packet[:6] == bytes.fromhex('01005e405144')
    assert packet[14 + 8] == 7
    assert packet[14 + 16:14 + 20] == socket.inet_aton('239.192.81.68')
    assert int.from_bytes(packet[34:36], 'big') == \
        int(a.address.rsplit(':', 1)[1])
    assert packet[36:38] == (20804).to_bytes(2, 'big')


@FAMILIES
def test_plain_sockets(net, tap, options):
    """Without all that only Linux has, a port is a port all the same."""
    options = {**options, 'plain_io': True, 'netid': 1}
    hosts = net.hosts(3)
    a, b = [Station(tap, host, **options) for host in hosts[:2]]
    c = Station(tap, hosts[2], **{**options, 'netid': 2})
    near = Station(tap, hosts[0], 'tap1', **options)
    for port in a, b, near:
        port.wait_peers(2)
    assert_traffic(a, b)
    assert_traffic(a, near, number=1)
    assert_traffic(near, b, number=2)
    for size in 1514, 9000, 60000:
        hosts[0].ip('link set tap0 mtu 65000')
        hosts[1].ip('link set tap0 mtu 65000')
        b.expect(a.send(BROADCAST, mac(100), size=size))
        b.expect(a.send(mac(200), mac(100), size=size))
    # What the kernel does not drop, the port does.
    c.silent()
    assert not c.peers
    assert c.count('rx-frames') == 0
    assert c.count('rx-drop-netid') > 20
    assert a.count('rx-drop-own') > 5
    # BYE needs no help of the kernel; a dead port is told by its silence.
    b.stop()
    wait_for(lambda: len(a.peers) == 1)


def test_socket_buffers(net, tap):
    """Both sockets get what was asked for."""
    host = net.hosts(1)[0]
    a = tap(host, rcvbuf=1 << 20, sndbuf=1 << 19)
    sockets = host.run(['ss', '-uanmO']).stdout.splitlines()
    port = a.address.rpartition(':')[2]
    own = [line for line in sockets if f':{port} ' in line]
    group = [line for line in sockets if '239.192.81.68:20804' in line]
    assert len(own) == len(group) == 1, sockets
    assert f'rb{2 << 20}' in own[0]
    assert f'tb{2 << 19}' in own[0]
    assert f'rb{2 << 20}' in group[0]


USER = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups']


def test_without_any_privilege(net, tmp_path):
    """A user in a sandbox of his own: a TAP, lo, and nothing else."""
    if subprocess.run([*USER, 'unshare', '-Urn', 'true'],
                      check=False).returncode:
        pytest.skip('the kernel gives users no namespaces')
    # The user gets into neither the repository nor the log directory.
    home = tempfile.mkdtemp(prefix=net.prefix)
    try:
        os.chown(home, 65534, 65534)
        qdes_tap = shutil.copy(QDES_TAP, home)
        script = (
            'set -e\n'
            'ip link set lo up\n'
            f'{qdes_tap} --tap tap0 --control {home}/control &\n'
            'for i in $(seq 100); do\n'
            f'    {qdes_tap} status --json --control {home}/control '
            '2>/dev/null && break\n'
            '    sleep 0.05\n'
            'done\n'
            'ip link show up dev tap0\n'
            'kill $!\n'
            'wait $!\n')
        # On most systems everybody may open this device; here it is so.
        os.mknod(f'{home}/tun', 0o20666, os.makedev(10, 200))
        os.chmod(f'{home}/tun', 0o666)
        done = netns.command(
            ['unshare', '--mount', 'sh', '-c', 'mount --bind "$1" '
             '/dev/net/tun; shift; exec "$@"', 'sh', f'{home}/tun',
             *USER, 'unshare', '-Urn', 'sh', '-c', script], check=False)
    finally:
        shutil.rmtree(home)
    assert done.returncode == 0, done.stdout
    assert '"loopback"' in done.stdout, done.stdout
    assert 'tap0' in done.stdout, done.stdout
