# SPDX-License-Identifier: GPL-2.0-or-later
"""Underlays that lose, double, reorder, and take less than expected.

A veth is no wire: it takes a train of datagrams whole, and so a filter that
drops one packet of a hundred would drop trains.  All underlays here have
senders that cannot do that: the kernel cuts trains before they leave, each
packet is one datagram or a fragment of one, and luck is each one's own.
"""

import re
import statistics
import time

import pytest
from packets import seeded
from procs import wait_for
from relay import RELAY, Wire, no_offloads
from streams import Streams

UNDERLAYS = pytest.mark.parametrize('mcast', ['239.192.81.68', '[ff15::5144]'],
                                    ids=['ipv4', 'ipv6'])
# Seconds in which a second HELLO comes, should the first get lost.
HELLOS = 15
INNER = [('10.81.0.1', '10.81.0.2'), ('fd81::1', 'fd81::2')]


def set_up(ports, mtu=None):
    for number, port in enumerate(ports, 1):
        port.configure(f'10.81.0.{number}/24', f'fd81::{number}/64')
        if mtu:
            port.host.ip(f'link set {port.tap} mtu {mtu}')
    for port in ports:
        port.wait_peers(1, HELLOS)
    meet(ports[0].host, '10.81.0.2')
    meet(ports[0].host, 'fd81::2')


def meet(host, address):
    """Until both know where the other is, which takes luck on a bad wire."""
    wait_for(lambda: host.ping(address, count=1, interval=1, deadline=1), 10,
             f'{host} to reach {address}')


def both_ways(hosts, inner=INNER):
    """(client, server, address) in both directions, of each family."""
    a, b = hosts
    return [way for first, second in inner
            for way in ((a, b, second), (b, a, first))]


@UNDERLAYS
@pytest.mark.parametrize('faults', [
    {'drop': 1}, {'duplicate': 5}, {'reorder': 2},
    {'drop': 0.5, 'duplicate': 1, 'reorder': 1}],
    ids=['loss', 'copies', 'disorder', 'all'])
def test_streams_survive(net, tap, mcast, faults):
    """Both directions, inner IPv4 and IPv6 at once: alone, then four each."""
    rnd = seeded()
    wire = Wire(net, rnd.number, **faults)
    ports = [tap(host, mcast=mcast) for host in wire.hosts]
    set_up(ports)
    before = [port.counters for port in ports]
    ways = both_ways(wire.hosts)
    Streams(ways, 3 << 20, 1, rnd.number).finish()
    Streams(ways, 1 << 20, 4, rnd.number).finish()
    # That it was as bad as that, and the fast path in use.
    seen = wire.faults()
    assert seen['udp'] > 10000
    for fault, percent in faults.items():
        # A factor of two; or what luck has of few, once in 10^10 times.
        about = seen['udp'] * percent / 100
        luck = 6.5 * about ** 0.5
        assert (min(about / 2, about - luck) < seen[fault] <
                max(about * 2, about + luck + 10)), (fault, seen)
    for port, then in zip(ports, before):
        assert port.changes(then)['tx-trains'] > 0
        assert port.changes(then)['rx-superframes'] > 0


LOSS = """
table inet loss {
    chain input {
        type filter hook input priority 0;
        iifname "eth0" meta l4proto udp numgen random mod 100 < 1 counter drop
    }
}
"""


def dropped(host):
    rules = host.run('nft list table inet loss').stdout
    return int(re.search(r'counter packets (\d+)', rules)[1])


@UNDERLAYS
def test_loss_costs_no_more_than_on_the_plain_path(net, tap, mcast):
    """One datagram of a hundred is dropped: never a whole train for one."""
    rnd = seeded()
    hosts = net.hosts(2)
    for host in hosts:
        no_offloads(host, 'eth0')
    fast = [tap(host, mcast=mcast) for host in hosts]
    plain = [tap(host, 'tap1', netid=1, mcast=mcast, vnet_hdr='off',
                 gso='off') for host in hosts]
    for number, (a, b) in enumerate(zip(fast, plain), 1):
        a.configure(f'10.81.0.{number}/24')
        b.configure(f'10.82.0.{number}/24')
    for ports, target in (fast, '10.81.0.2'), (plain, '10.82.0.2'):
        ports[0].wait_peers(1, HELLOS)
        ports[1].wait_peers(1, HELLOS)
        meet(hosts[0], target)
    for host in hosts:
        host.nft(LOSS)
    seconds = {'10.81.0.2': [], '10.82.0.2': []}
    for _ in range(7):
        for target, found in seconds.items():
            streams = Streams([(*hosts, target)], 8 << 20, 2, rnd.number)
            found.append(streams.finish())
    assert min(dropped(host) for host in hosts) > 20
    fast, plain = map(statistics.median, seconds.values())
    # Luck and other load are large here: what is looked for is a factor.
    assert fast < 1.5 * plain, seconds


# The path's MTU

def fragments(*hosts):
    """How many fragments these have sent or received until now."""
    total = 0
    for host in hosts:
        text = host.run('cat /proc/net/snmp /proc/net/snmp6').stdout
        names, values = re.findall(r'^Ip: (.*)', text, re.MULTILINE)
        found = dict(zip(names.split(), values.split()))
        found.update(re.findall(r'^(\w+)\s+(\d+)$', text, re.MULTILINE))
        total += sum(int(found[name]) for name in (
            'FragCreates', 'ReasmReqds', 'Ip6FragCreates', 'Ip6ReasmReqds'))
    return total


def wait_no_fragments(streams, *hosts):
    """Streams go on, and soon not one more is sent.

    Soon means sooner than by the next HELLO, with which all is asked for anew.
    """
    def settled():
        before = fragments(*hosts)
        streams.assert_progress(2 << 20)
        return fragments(*hosts) == before
    wait_for(settled, 4, 'fragments to end')


def count_lengths(host, *lengths):
    """Count the UDP packets that come in, by what IP's length is above."""
    rules = '\n'.join(f'meta l4proto udp meta length > {n} counter '
                      f'comment "above {n}"' for n in lengths)
    host.nft('table inet lengths {\nchain input {\n type filter hook '
             f'prerouting priority -500;\n{rules}\n}}\n}}\n')


def longer_than(host, length):
    rules = host.run('nft list table inet lengths').stdout
    return int(re.search(rf'counter packets (\d+) .*above {length}"',
                         rules)[1])


@UNDERLAYS
@pytest.mark.parametrize('clamp', ['on', 'off'])
@pytest.mark.parametrize('here, there', [
    ({}, {}), ({'vnet_hdr': 'off'}, {'vnet_hdr': 'off'}),
    ({'vnet_hdr': 'off'}, {}), ({'plain_io': True}, {'plain_io': True})],
    ids=['fast', 'no-header', 'one-header', 'plain'])
def test_tcp_is_never_fragmented(net, tap, mcast, clamp, here, there):
    """Both MTUs are 1500: TCP is told, or else cut, to what fits."""
    rnd = seeded()
    hosts = net.hosts(2)
    ports = [tap(host, mcast=mcast, mss_clamp=clamp, **options)
             for host, options in zip(hosts, (here, there))]
    set_up(ports)
    Streams(both_ways(hosts), 2 << 20, 2, rnd.number).finish()
    assert fragments(*hosts) == 0
    assert (ports[0].count('tx-mss-clamped') > 0) == (clamp == 'on')
    # That they would have been noticed.
    hosts[0].assert_ping('10.81.0.2', size=1472, count=1, interval=1)
    assert fragments(*hosts) > 0


@UNDERLAYS
def test_jumbo_underlay_is_used_to_the_full(net, tap, mcast):
    rnd = seeded()
    mtu = 9000 - (40 if '[' in mcast else 20) - 8 - 8 - 14
    hosts = net.hosts(2, mtu=9000)
    for host in hosts:
        no_offloads(host, 'eth0')
        count_lengths(host, 8999, 9000)
    set_up([tap(host, mcast=mcast) for host in hosts], mtu)
    size = 8 << 20
    Streams(both_ways(hosts), size, 1, rnd.number).finish()
    assert fragments(*hosts) == 0
    for host in hosts:
        # Each stream ends with a shorter one, and begins with few bytes.
        assert longer_than(host, 8999) > 0.7 * 2 * size / 9000
        assert longer_than(host, 9000) == 0
    # And no byte more fits.
    for host in hosts:
        host.ip(f'link set tap0 mtu {mtu + 1}')
    hosts[0].assert_ping('10.81.0.2', size=mtu - 28, count=1, interval=1)
    assert fragments(*hosts) == 0
    hosts[0].assert_ping('10.81.0.2', size=mtu - 27, count=1, interval=1)
    assert fragments(*hosts) > 0


def test_loopback_is_used_to_the_full(net, tap):
    """Between two ports of one host: lo takes datagrams of 64 KiB."""
    rnd = seeded()
    host = net.host('h1')
    ends = [net.namespace('e1'), net.namespace('e2')]
    count_lengths(host, 65000)
    for number, end in enumerate(ends, 1):
        port = tap(host, f'tap{number}')
        port.logs.expect('no route for the group .* on lo')
        host.ip(f'link set tap{number} netns {end.full_name}')
        end.ip(f'link set tap{number} mtu 65485 up',
               f'addr add 10.81.0.{number}/24 dev tap{number}')
    meet(ends[0], '10.81.0.2')
    size = 16 << 20
    Streams(both_ways(ends, INNER[:1]), size, 1, rnd.number).finish()
    assert fragments(host) == 0
    assert longer_than(host, 65000) > 0.5 * 2 * size / 65535


@UNDERLAYS
@pytest.mark.parametrize('gso', ['on', 'off'])
def test_mtu_changes_under_way(net, tap, mcast, gso):
    """Smaller and larger again: streams go on, and need no fragments."""
    rnd = seeded()
    hosts = net.hosts(2)
    set_up([tap(host, mcast=mcast, gso=gso) for host in hosts])
    streams = Streams(both_ways(hosts), None, 1, rnd.number)
    streams.assert_progress()
    assert fragments(*hosts) == 0
    for mtu in 1400, 1300, 1500:
        for host in hosts:
            host.ip(f'link set eth0 mtu {mtu}')
        wait_no_fragments(streams, *hosts)
    streams.finish()


@UNDERLAYS
@pytest.mark.parametrize('gso', ['on', 'off'])
def test_route_with_an_mtu(net, tap, mcast, gso):
    """A route tells the path's MTU, from the start or under way."""
    rnd = seeded()
    hosts = net.hosts(2)
    for host in hosts:
        no_offloads(host, 'eth0')
        count_lengths(host, 1200, 1300)

    def set_route(host, other, mtu):
        address = other.address6 if '[' in mcast else other.address
        host.ip(f'route replace {address} dev eth0 mtu {mtu}')
    set_route(*hosts, 1300)
    # Without the clamp, which would have both sides send less.
    set_up([tap(host, mcast=mcast, mss_clamp='off', gso=gso)
            for host in hosts])
    streams = Streams(both_ways(hosts), None, 1, rnd.number)
    streams.assert_progress()
    assert fragments(*hosts) == 0
    assert longer_than(hosts[1], 1300) == 0
    assert longer_than(hosts[1], 1200) > 1000
    assert longer_than(hosts[0], 1300) > 1000
    set_route(*hosts[::-1], 1300)
    wait_no_fragments(streams, *hosts)
    before = longer_than(hosts[0], 1300)
    streams.assert_progress()
    assert longer_than(hosts[0], 1300) == before
    streams.finish()


@pytest.mark.parametrize('gso', ['on', 'off'])
def test_router_with_a_smaller_mtu(net, tap, gso):
    """ICMPv6 "packet too big" from the way is heeded: TCP is cut to fit."""
    rnd = seeded()
    switches = [net.switch(), net.switch()]
    router = net.host('router', *switches, default_route=False)
    router.sysctl('net.ipv6.conf.all.forwarding', 1)
    hosts = [net.host('h1', switches[0]), net.host('h2', switches[1])]
    for host, via in zip(hosts, router.addresses6):
        no_offloads(host, 'eth0')
        host.ip(f'route add default via {via} dev eth0')
    # The kernel does not route multicast by itself.
    router.start(['/usr/bin/python3', RELAY, '--seed', rnd.number,
                  '--group-only', 'eth0', 'eth1'],
                 'relay').wait_log('ready')
    # Without the clamp, with which nobody would send that much.
    set_up([tap(host, mcast='[ff15::5144]', mss_clamp='off', gso=gso)
            for host in hosts])
    streams = Streams(both_ways(hosts), None, 1, rnd.number)
    streams.assert_progress()
    assert fragments(*hosts) == 0
    # Until the port on h1 has looked what its addresses and routes are: then
    # there is nothing but ICMP to tell it.
    time.sleep(1)
    router.ip('link set eth1 mtu 1380')
    hosts[1].ip('link set eth0 mtu 1380')
    wait_no_fragments(streams, *hosts)
    streams.finish()
    text = router.run('cat /proc/net/snmp6').stdout
    assert int(re.search(r'Icmp6OutPktTooBigs\s+(\d+)', text)[1]) > 0
