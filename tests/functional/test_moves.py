# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers that die, move, and are parted while traffic flows.

Each test has a fabric with connections that must not notice what happens to
others, and must go on through what happens to their own ends.
"""

import signal
import socket
import time

import pytest
import qdeswire
from frames import BROADCAST, mac
from nat import Home
from procs import PATIENCE, wait_for
from stations import Station, WirePeer
from streams import Paced

HOLD = 30               # seconds: of peers in a fabric as small as these
CALM = 0.8              # a gap that a busy machine makes, with a retransmission
                        # or two (0.2 s, 0.4 s); a lost way costs seconds
GUEST = mac(0x77)       # a MAC address that only the test's frames have

REACH = pytest.mark.parametrize('way', ['group', 'ipv4', 'ipv6'])


def inner(number):
    return f'10.81.0.{number}'


def join(tap, host, way, first, number, **options):
    """A station on a host, which knows the fabric's first host."""
    if way != 'group':
        options.setdefault('mcast', 'off')
        if host is not first:
            options.setdefault('peer', [first.address6 if way == 'ipv6' else
                                        first.address])
    station = Station(tap, host, **options)
    station.port.configure(f'{inner(number)}/24')
    return station


def know_all(stations, deadline=25):
    """All are alive for all, and get floods: one way or the other."""
    for station in stations:
        for other in stations:
            if other is not station:
                wait_for(lambda s=station, o=other: any(
                    p['name'] == o.name and p['state'] == 'alive' and
                    (p['copy'] or p['by-group']) for p in s.peers), deadline,
                    lambda s=station, o=other: f'{s} knows {o}: {s.peers}')


def fabric(net, tap, way, count, **options):
    hosts = net.hosts(count)
    stations = [join(tap, host, way, hosts[0], number, **options)
                for number, host in enumerate(hosts, 1)]
    know_all(stations)
    return stations


def streams(a, number_a, b, number_b):
    """One in each direction."""
    a.host.assert_ping(inner(number_b), count=1)
    return [Paced(a.host, b.host, inner(number_b)),
            Paced(b.host, a.host, inner(number_a))]


def where(station, address=GUEST):
    """The name of the peer that has it, None: it is not known."""
    entry = station.fdb.get(address)
    if not entry:
        return None
    if entry['local']:
        return 'here'
    return {p['address']: p['name'] for p in station.peers}.get(entry['peer'])


# --- Death ------------------------------------------------------------------

@REACH
def test_killed_peer_disturbs_nobody(net, tap, way):
    """With an ICMP error, its MAC addresses flood with the next frame."""
    a, b, c = fabric(net, tap, way, 3)
    c.speak(GUEST, a)
    wait_for(lambda: where(a) == c.name)
    flows = streams(a, 1, b, 2)
    for flow in flows:
        flow.forget()
    c.process.kill()
    b.socket.pending()
    begin = time.monotonic()
    a.send(GUEST, mac(1))
    wait_for(lambda: where(a) is None, 1)
    b.expect(a.send(GUEST, mac(1)), 1)
    assert time.monotonic() - begin < 2 * PATIENCE
    for flow in flows:
        flow.wait_progress(1 << 20)
        assert flow.gap < CALM * PATIENCE, flow.gap
    for flow in flows:
        flow.finish()


def test_unplugged_peer_disturbs_nobody(net, tap):
    """No ICMP tells: silence does.  In a group, and without."""
    fabrics = [fabric(net, tap, way, 3) for way in ('group', 'ipv4')]
    flows = []
    for a, b, c in fabrics:
        c.speak(GUEST, a)
        wait_for(lambda: where(a) == c.name)
        for near in a, b:
            # The neighbour table stays silent as well.
            near.host.ip(f'neigh replace {c.host.address} lladdr '
                         f'02:00:00:00:00:99 dev eth0 nud permanent')
        flows += streams(a, 1, b, 2)
    for flow in flows:
        flow.forget()
    for _, _, c in fabrics:
        c.logs.allow('.*')
        c.host.ip('link set eth0 down')
    heard = [(a.peer_named(c.name)['last-heard-ms'] / 1000, time.monotonic())
             for a, _, c in fabrics]
    begin = time.monotonic()
    waiting = list(fabrics)
    lost = {}
    while waiting:
        for stations, (ago, then) in zip(fabrics, heard):
            a, _, c = stations
            peer = a.peer_named(c.name)
            if peer:
                ago += time.monotonic() - then
                assert abs(peer['last-heard-ms'] / 1000 - ago) < PATIENCE
                lost[a] = peer['echo-sent'], peer['echo-lost']
        assert time.monotonic() - begin < HOLD + 5 * PATIENCE, waiting
        for stations in list(waiting):
            a, b, _ = stations
            b.socket.pending()
            try:
                b.expect(a.send(GUEST, mac(1)), 0.1)
                waiting.remove(stations)
            except AssertionError:
                pass
    for flow in flows:
        flow.wait_progress()
        assert flow.gap < CALM * PATIENCE, flow.gap
        flow.finish()
    for a, b, c in fabrics:
        # One in each interval; the last one had no successor yet.
        sent, missed = lost[a]
        assert 1 <= missed <= 3 and missed < sent, lost
        assert a.count('peers-expired') == 1
        for near in a, b:
            near.host.ip(f'neigh del {c.host.address} dev eth0')
        c.host.ip('link set eth0 up', 'route replace default dev eth0')
    for stations in fabrics:
        know_all(stations, 5)
        a, _, c = stations
        a.host.assert_ping(inner(3), count=1)


# --- Addresses --------------------------------------------------------------

@REACH
@pytest.mark.parametrize('taken', [False, True], ids=['free', 'taken'])
def test_renumbered_peer(net, tap, way, taken):
    """A lease ends, and somebody else who is silent may get the address: the
    flows of the peer go on at its new one."""
    a, b, c = fabric(net, tap, way, 3)
    b.speak(GUEST, a)
    flows = streams(a, 1, b, 2) + streams(a, 1, c, 3)
    old, old6 = b.host.address, b.host.address6
    if taken:
        c.host.nft('table inet t { chain in { type filter hook input priority '
                   f'0; ip daddr {old} drop; ip6 daddr {old6} drop; }}; }}')
    for flow in flows:
        flow.forget()
    b.host.ip(f'addr del {old}/24 dev eth0', f'addr del {old6}/64 dev eth0',
              'addr add 10.80.0.99/24 dev eth0',
              'addr add fd80:0::99/64 dev eth0 nodad',
              'route replace default dev eth0')
    if taken:
        c.host.ip(f'addr add {old}/24 dev eth0',
                  f'addr add {old6}/64 dev eth0 nodad')
        a.host.ip('neigh flush dev eth0')
    new = 'fd80::99' if way == 'ipv6' else '10.80.0.99'
    wait_for(lambda: new in a.peer_of(b.mac), 5,
             lambda: f'{b} at {new}: {a.status()}')
    for flow in flows[:2]:
        flow.wait_progress(1 << 20)
        assert flow.gap < 3 * PATIENCE, flow.gap
    # An ICMP error from the old address may have come first: then it is
    # forgotten, and flooded to.
    assert GUEST not in (fdb := a.fdb) or new in fdb[GUEST]['peer'], fdb
    b.socket.pending()
    b.expect(a.send(GUEST, mac(1)))
    # One endpoint alone gets copies.
    for other in a, c:
        assert sum(p['copy'] for p in other.peers
                   if p['name'] == b.name) <= 1
    data = a.send(BROADCAST, mac(1))
    b.expect(data)
    assert data not in b.socket.pending()
    for flow in flows:
        flow.finish()


@REACH
def test_renumbered_peer_says_goodbye(net, tap, way):
    """It is gone from where it was before, too."""
    a, b, c = fabric(net, tap, way, 3)
    old, old6 = b.host.address, b.host.address6
    b.host.ip(f'addr del {old}/24 dev eth0', f'addr del {old6}/64 dev eth0',
              'addr add 10.80.0.99/24 dev eth0',
              'addr add fd80:0::99/64 dev eth0 nodad',
              'route replace default dev eth0')
    new = 'fd80::99' if way == 'ipv6' else '10.80.0.99'
    for near in a, c:
        wait_for(lambda n=near: any(
            p['name'] == b.name and new in p['address'] and p['proven']
            for p in n.peers), 5, lambda n=near: f'{b} at {new}: {n.peers}')
    b.stop()
    for near in a, c:
        wait_for(lambda n=near: not n.peer_named(b.name), 2,
                 lambda n=near: f'{b} to be gone: {n.peers}')
        assert near.count('peers-bye') >= 1


@REACH
def test_first_frame_moves_a_mac_address(net, tap, way):
    """A guest goes from one peer to another, under the others' traffic."""
    a, b, c = fabric(net, tap, way, 3)
    b.speak(GUEST, a)
    wait_for(lambda: where(a) == b.name)
    flows = streams(a, 1, b, 2)
    for number in range(10):
        guest = mac(0x80 + number)
        b.speak(guest, a)
        wait_for(lambda g=guest: where(a, g) == b.name)
        c.speak(guest, a)
        wait_for(lambda g=guest: where(b, g) == c.name)
        c.expect(a.send(guest, mac(1)))
        c.expect(b.send(guest, mac(2)))
    for flow in flows:
        assert flow.gap < CALM * PATIENCE, flow.gap
        flow.finish()


def test_floods_leave_from_their_interface(net, tap):
    """Where that has lost its address, Linux would take the TAP's, and peers
    would look for the port inside of the fabric."""
    a, b = fabric(net, tap, 'group', 2)
    b.logs.allow('no route for the group')
    address = b.host.address
    for _ in range(20):
        before = b.count('tx-frames')
        b.port.process.send(signal.SIGSTOP)
        b.host.ip(f'addr del {address}/24 dev eth0')
        for _ in range(5):
            b.send(BROADCAST, GUEST)
        b.port.process.send(signal.SIGCONT)
        wait_for(lambda n=before + 5: b.count('tx-frames') >= n)
        b.host.ip(f'addr add {address}/24 dev eth0',
                  'route replace default dev eth0')
        wait_for(lambda: address in b.status()['local'])
    a.expect(b.send(BROADCAST, GUEST))
    assert [p['address'].rpartition(':')[0] for p in a.peers] == [address]


def test_nat_mapping_changes(net, tap):
    """The router restarts and draws other ports, twice."""
    internet = net.switch()
    public = net.host('public', internet)
    home = Home(net, internet, 'port-restricted', 'home')
    a = join(tap, public, 'ipv4', public, 1)
    b = join(tap, home.host, 'ipv4', public, 2)
    know_all([a, b])
    flows = streams(a, 1, b, 2)
    for ports in '41000-41999', '42000-42999':
        for flow in flows:
            flow.forget()
        home.forget(ports)
        begin = time.monotonic()
        sent = []
        heard = []
        wait = 2
        while wait:
            assert time.monotonic() - begin < HOLD * PATIENCE, a.status()
            data = a.send(BROADCAST, mac(1))
            sent.append(data)
            time.sleep(0.05)
            heard += [f for f in b.socket.pending() if f in sent]
            wait -= data in heard and all(f.received for f in flows)
        for flow in flows:
            flow.wait_progress(1 << 20, HOLD)
            assert flow.gap < HOLD * PATIENCE, flow.gap
        heard += b.socket.pending()
        assert len(set(heard)) == len(heard), 'a frame came twice'
        there = wait_for(lambda: a.peer_of(b.mac))
        mapped = int(there.rpartition(':')[2])
        low, high = map(int, ports.split('-'))
        assert low <= mapped <= high
    for flow in flows:
        flow.finish()


def test_renumbered_peer_of_one_behind_nat(net, tap):
    """What it sends to the NAT from its new address is not let in: who is
    behind that learns of it from others, and before the hold time is over."""
    internet = net.switch()
    public, moves = net.host('public', internet), net.host('moves', internet)
    home = Home(net, internet, 'port-restricted', 'home')
    a, b, c = stations = [join(tap, host, 'ipv4', public, number)
                          for number, host in enumerate(
                              [public, moves, home.host], 1)]
    know_all(stations)
    flows = streams(b, 2, c, 3)
    old = moves.address
    # The router has no other way to tell that the address is nobody's.
    home.router.nft('table inet quiet { chain out { type filter hook output '
                    'priority 0; meta l4proto icmp drop; }; }')
    moves.ip(f'addr del {old}/24 dev eth0', 'addr add 10.80.0.99/24 dev eth0',
             'route replace default dev eth0')
    wait_for(lambda: any('10.80.0.99' in p['address'] and p['copy']
                         for p in c.peers), HOLD, c.status)
    assert c.count('peers-expired') == 0
    b.expect(c.send(BROADCAST, mac(3)))
    b.expect(c.send(mac(2), mac(3)))
    for flow in flows:
        flow.wait_progress(1 << 20, 2 * HOLD)
        flow.finish()


# --- Hosts with several addresses -------------------------------------------

FIREWALL = '''
table inet t {
    chain in {
        type filter hook input priority 0
        ct state new meta l4proto udp drop
    }
}
'''


@pytest.mark.parametrize('way', ['ipv4', 'ipv6'])
@pytest.mark.parametrize('kind', ['trains', 'singly', 'sealed'])
def test_answers_come_from_where_was_asked(net, tap, tmp_path, way, kind):
    """A firewall or NAT lets in nothing else: neither ECHOs, nor frames."""
    options = {'gso': 'off'} if kind == 'singly' else {}
    if kind == 'sealed':
        options['secret_file'] = tmp_path / 'secret'
        options['secret_file'].write_text('a secret that nobody guesses')
        options['secret_file'].chmod(0o600)
    hosts = net.hosts(2)
    many, asker = hosts
    many.ip('addr add 10.80.0.50/24 dev eth0',
            'addr add fd80:0::50/64 dev eth0 nodad')
    second = 'fd80::50' if way == 'ipv6' else '10.80.0.50'
    asker.nft(FIREWALL)
    m = join(tap, many, way, many, 1, **options)
    a = join(tap, asker, way, many, 2, peer=second, **options)
    know_all([m, a], 5)
    assert [second in p['address'] for p in a.peers] == [True], a.peers
    flows = streams(m, 1, a, 2)
    for flow in flows:
        flow.wait_progress(4 << 20)
        flow.finish()
    assert len(a.peers) == 1 and second in a.peers[0]['address']
    a.expect(m.send(BROADCAST, GUEST))
    a.expect(m.send(a.port.mac, GUEST, size=1514))
    for station in m, a:
        station.host.ip('link set tap0 mtu 9000')
    a.expect(m.send(a.port.mac, GUEST, size=9000))
    # The address goes: what is left has to do, and says so.
    a.host.nft('flush ruleset')
    prefix = '64' if way == 'ipv6' else '24'
    many.ip(f'addr del {second}/{prefix} dev eth0')
    a.expect(m.send(a.port.mac, GUEST))
    wait_for(lambda: second not in a.peer_of(GUEST), 5)
    m.expect(a.send(GUEST, a.port.mac))


# --- Interfaces and families ------------------------------------------------

def trio(net, tap, way='ipv4', third=None):
    """The first one is listed by the others, which it introduces."""
    hosts = net.hosts(3)
    a, b = [join(tap, host, way, hosts[0], number)
            for number, host in enumerate(hosts[:2], 1)]
    c = join(tap, hosts[2], way, hosts[0], 3, **(third(hosts[2]) if third else
                                                 {}))
    know_all([a, b, c])
    return a, b, c


def assert_goes_on(flows, deadline=10):
    """TCP tries again at longer and longer intervals."""
    for flow in flows:
        flow.wait_progress(1 << 20, deadline)


@pytest.mark.parametrize('way', ['ipv4', 'ipv6'])
def test_interface_goes_and_comes(net, tap, way):
    """All find the host again at once, also those that nobody listed."""
    a, b, c = trio(net, tap, way)
    flows = streams(b, 2, c, 3) + streams(a, 1, b, 2)
    c.host.ip('link set eth0 down')
    # What was read after that may have made one anew: heard, and no more.
    wait_for(lambda: not any(peer['proven'] or peer['macs']
                             for peer in c.peers), 5, lambda: str(c.peers))
    for flow in flows[2:]:
        flow.forget()
        flow.wait_progress(1 << 20)
        assert flow.gap < CALM * PATIENCE
    c.host.ip('link set eth0 up', 'route replace default dev eth0',
              f'addr replace {c.host.address6}/64 dev eth0 nodad')
    know_all([a, b, c], 4)
    assert_goes_on(flows)
    for flow in flows:
        flow.finish()


@pytest.mark.parametrize('way', ['ipv4', 'ipv6'])
def test_local_address_goes_and_comes(net, tap, way):
    """A socket that is bound to it is good again as soon as it is back."""
    a, b, c = trio(net, tap, way, lambda host: {
        'localaddr': host.address6 if way == 'ipv6' else host.address})
    flows = streams(b, 2, c, 3) + streams(a, 1, b, 2)
    own = (f'{c.host.address6}/64 dev eth0 nodad' if way == 'ipv6' else
           f'{c.host.address}/24 dev eth0')
    c.host.ip(f'addr del {own.removesuffix(" nodad")}')
    # What was read after that may have made one anew, for a hold time.
    wait_for(lambda: not c.peers, 15 + HOLD, lambda: str(c.peers))
    for flow in flows[2:]:
        flow.forget()
        flow.wait_progress(1 << 20)
        assert flow.gap < CALM * PATIENCE
    c.host.ip(f'addr add {own}', 'route replace default dev eth0')
    know_all([a, b, c], 10)
    assert_goes_on(flows, 90)
    for flow in flows:
        flow.finish()


def link_local(host, interface='eth0'):
    with host.entered(), open('/proc/net/if_inet6', encoding='ascii') as file:
        return next(socket.inet_ntop(socket.AF_INET6,
                                     bytes.fromhex(line.split()[0]))
                    for line in file
                    if line.startswith('fe80') and interface in line)


def test_link_local_peers(net, tap):
    """They introduce each other on the one link, and an interface that comes
    back under its name is the same to the user, with another index."""
    switch = net.switch()
    hosts = [net.host(f'h{n}', switch) for n in range(3)]
    for host in hosts:
        host.ip('addr flush dev eth0 scope global')
    there = f'[{link_local(hosts[0])}%eth0]:20804'
    a, b, c = [Station(tap, host, mcast='off',
                       **({'peer': there} if host is not hosts[0] else {}))
               for host in hosts]
    for number, port in enumerate((a, b, c), 1):
        port.port.configure(f'{inner(number)}/24')
    know_all([a, b, c])
    for port in a, b, c:
        for peer in port.peers:
            assert peer['address'].startswith('[fe80:')
            assert '%eth0]' in peer['address']
    flows = streams(b, 2, c, 3)
    hosts[2].ip('link del eth0')
    hosts[2].connect(switch, 0)
    hosts[2].ip('addr flush dev eth0 scope global')
    wait_for(lambda: there in [p['address'] for p in c.peers
                               if p['state'] == 'alive'], 5,
             lambda: str(c.status()))
    assert_goes_on(flows, 20)
    c.expect(a.send(BROADCAST, mac(1)))
    for flow in flows:
        flow.finish()


def test_dual_stack_and_single(net, tap):
    """Those of one family meet all who speak it; those of both get no frame
    twice."""
    hosts = net.hosts(4)
    a, d = hosts[0], hosts[3]
    stations = a, four, six, d = [
        Station(tap, a, mcast='off'),
        Station(tap, hosts[1], mcast='off', localaddr='0.0.0.0:20804',
                peer=a.address),
        Station(tap, hosts[2], mcast='off', localaddr='[fd80:0::3]:20804',
                peer=a.address6),
        Station(tap, d, mcast='off', peer=[a.address, a.address6])]
    know_all([a, four, d])
    know_all([a, six, d])
    assert {p['name'] for p in four.peers} == {a.name, d.name}
    assert {p['name'] for p in six.peers} == {a.name, d.name}
    assert all('[' not in p['address'] for p in four.peers)
    assert all('[fd80:' in p['address'] for p in six.peers)
    for number, sender in enumerate(stations):
        data = sender.send(BROADCAST, mac(1 + number))
        for other in stations:
            if other is not sender and {other, sender} != {four, six}:
                other.expect(data)
        for other in stations:
            other.silent()


# --- Split and heal ---------------------------------------------------------

def test_split_and_heal(net, tap):
    """A network in two parts becomes one again; meanwhile some have come and
    gone, the one that all have listed too, and guests have moved."""
    fabrics = []
    stays, goes = mac(0x91), mac(0x92)
    for way in 'group', 'ipv4':
        switch = net.switch()
        hosts = [net.host(f'{way}{n}', switch) for n in range(5)]
        stations = [join(tap, host, way, hosts[0], number)
                    for number, host in enumerate(hosts[:4], 1)]
        fabrics.append((way, switch, hosts, stations))
    for _, switch, hosts, (a, b, c, d) in fabrics:
        know_all([a, b, c, d])
        d.speak(stays, c)
        d.speak(goes, c)
        wait_for(lambda c=c, d=d: where(c, stays) == where(c, goes) == d.name)
        switch.ip('link add br1 type bridge forward_delay 0 stp_state 0 '
                  'mcast_snooping 0', 'link set br1 up',
                  *[f'link set p{n} master br1' for n in (3, 4, 5)])
    latecomers = []
    for way, switch, hosts, (a, b, c, d) in fabrics:
        # The guest's old port has died, and so has the first of all ports.
        b.speak(goes, a)
        d.process.kill()
        a.stop()
        e = join(tap, hosts[4], way, hosts[2], 5)
        latecomers.append(e)
        know_all([c, e])
        wait_for(lambda c=c: where(c, goes) is None or c.send(goes, mac(3)) and
                 False, 5)
    for (_, _, _, (a, b, c, d)), e in zip(fabrics, latecomers):
        for port, others in (b, (c, e)), (c, (b,)):
            wait_for(lambda p=port, o=others: not any(
                x['name'] in [y.name for y in o] for x in p.peers), HOLD + 5)
    for _, switch, _, _ in fabrics:
        switch.ip(*[f'link set p{n} master br0' for n in (3, 4, 5)])
    for (_, _, _, (a, b, c, d)), e in zip(fabrics, latecomers):
        know_all([b, c, e], 40)
        for port in c, e:
            b.expect(port.send(goes, port.mac))
        b.speak(stays, c)
        b.expect(c.send(stays, c.mac))
        for here, there in (b, 3), (c, 5), (b, 5):
            here.host.assert_ping(inner(there), count=1)


# --- What the status says ---------------------------------------------------

def test_round_trip_time(net, tap):
    """As long as the ECHO's reply takes."""
    hosts = net.hosts(2)
    a = Station(tap, hosts[0])
    peer = WirePeer(hosts[1])
    peer.answers = False
    begin = time.monotonic()
    peer.hello(capabilities=qdeswire.CAP_ECHO)
    echo, _ = peer.expect_message(qdeswire.Echo)
    time.sleep(0.2)
    peer.send(qdeswire.EchoReply(echo.netid, echo.nonce, echo.sender),
              echo.sender)
    wait_for(lambda: a.peer_named('wire')['rtt-us'])
    status = a.peer_named('wire')
    took = time.monotonic() - begin
    assert 200_000 <= status['rtt-us'] < 1_000_000 * took
    assert status['rtt-var-us'] == status['rtt-us'] // 2
    assert status['echo-sent'] == 1 and status['echo-lost'] == 0
    assert status['last-heard-ms'] < 1000 * PATIENCE
