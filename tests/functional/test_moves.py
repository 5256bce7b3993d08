# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers that die, move, and are parted while traffic flows.

Each test has a fabric with connections that must not notice what happens to
others, and must go on through what happens to their own ends.
"""

import time

import pytest
from frames import BROADCAST, mac
from nat import Home
from procs import PATIENCE, wait_for
from stations import Station, WirePeer
from streams import Paced

HOLD = 30               # seconds: of peers in a fabric as small as these
CALM = 0.15             # a gap that TCP makes by itself (its shortest
                        # retransmission timeout is 0.2 s)
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
    before = [flow.retransmitted for flow in flows]
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
    assert [flow.retransmitted for flow in flows] == before
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
    begin = time.monotonic()
    for _, _, c in fabrics:
        c.logs.allow('.*')
        c.host.ip('link set eth0 down')
    waiting = list(fabrics)
    while waiting:
        assert time.monotonic() - begin < (HOLD + 2) * PATIENCE, waiting
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
    wait_for(lambda: new in a.fdb[b.mac]['peer'], 5,
             lambda: f'{b} at {new}: {a.status()}')
    for flow in flows[:2]:
        flow.wait_progress(1 << 20)
        assert flow.gap < 3 * PATIENCE, flow.gap
    assert new in a.fdb[GUEST]['peer'], a.fdb
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
        mapped = int(a.fdb[b.mac]['peer'].rpartition(':')[2])
        low, high = map(int, ports.split('-'))
        assert low <= mapped <= high
    print('gaps', [flow.gap for flow in flows], time.monotonic() - begin)
    for flow in flows:
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
@pytest.mark.parametrize('options', [{}, {'gso': 'off'}],
                         ids=['trains', 'singly'])
def test_answers_come_from_where_was_asked(net, tap, way, options):
    """A firewall or NAT lets in nothing else: neither ECHOs, nor frames."""
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
    # The address goes: what is left has to do, and says so.
    a.host.nft('flush ruleset')
    prefix = '64' if way == 'ipv6' else '24'
    many.ip(f'addr del {second}/{prefix} dev eth0')
    a.expect(m.send(a.port.mac, GUEST))
    wait_for(lambda: second not in a.fdb[GUEST]['peer'], 5)
    m.expect(a.send(GUEST, a.port.mac))

