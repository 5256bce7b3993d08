# SPDX-License-Identifier: GPL-2.0-or-later
"""Fabrics without multicast: one peer is known, all others are told of."""

import select
import time

from frames import BROADCAST, mac
from procs import PATIENCE, wait_for
from stations import Station, WirePeer

COUNT = 10
INTERVAL = 10           # seconds, of HELLOs in a fabric as small as these


def fabric(make, hosts, **options):
    """A port on each host; all but the first have that as their peer."""
    return [make(host, mcast='off',
                 **({'peer': [hosts[0].address]} if number else {}),
                 **options)
            for number, host in enumerate(hosts)]


def test_ten_find_each_other(net, tap):
    hosts = net.hosts(COUNT)
    start = time.monotonic()
    ports = fabric(tap, hosts)
    for number, port in enumerate(ports, 1):
        port.configure(f'10.81.0.{number}/24')
    for port in ports:
        port.wait_peers(COUNT - 1, deadline=2 * INTERVAL)
        wait_for(lambda p=port: all(peer['copy'] for peer in p.peers),
                 what=f'copies of {port} to all')
    assert time.monotonic() - start < (2 * INTERVAL + 5) * PATIENCE
    for number, host in enumerate(hosts):
        for other in range(COUNT):
            if other != number:
                host.assert_ping(f'10.81.0.{other + 1}', count=1)
    for port in ports:
        for peer in port.peers:
            assert peer['proven'] and peer['copy'] and not peer['by-group']
            assert 0 < peer['rtt-us'] < 10_000_000
            assert peer['seed'] == (peer['name'] == ports[0].name and
                                    port is not ports[0])
        assert len({peer['address'] for peer in port.peers}) == COUNT - 1

    # One leaves, one is killed.
    gone = ports.pop()
    gone.stop()
    for port in ports:
        port.wait_peers(COUNT - 2)
    ports.pop().process.kill()
    for port in ports:
        port.wait_peers(COUNT - 3, deadline=3 * INTERVAL + 5)


def test_floods_come_once(net, tap):
    """Some share a group as well; nobody gets anything twice."""
    hosts = net.hosts(3)
    a = Station(tap, hosts[0], peer=[hosts[2].address])
    b = Station(tap, hosts[1])
    c = Station(tap, hosts[2], mcast='off')
    for station in a, b, c:
        station.wait_peers(2, deadline=2 * INTERVAL)
    wait_for(lambda: all((here.peer_named(there.name) or {}).get('copy')
                         for here, there in ((c, a), (c, b), (a, c), (b, c))),
             what='copies where they belong')
    assert not a.peer_named(b.name)['copy']
    assert a.peer_named(b.name)['by-group']
    for sender, others in (a, (b, c)), (b, (a, c)), (c, (a, b)):
        data = sender.send(BROADCAST, mac(1 + hosts.index(sender.host)))
        for other in others:
            other.expect(data)
            other.silent()


def test_nobody_is_learned_unproven(net, tap):
    """Frames from where no ECHO is answered are delivered, that is all."""
    hosts = net.hosts(2)
    port = Station(tap, hosts[0], mcast='off')
    wire = WirePeer(hosts[1])
    wire.answers = False
    to = f'{hosts[0].address}:20804'
    for _ in range(5):
        port.expect(wire.data(BROADCAST, mac(7), to=to))
    sent = 5 * (8 + 60)
    assert mac(7) not in port.fdb
    assert port.count('rx-unproven') == 5
    received = 0
    while wire.sock in wire_ready(wire):
        received += len(wire.sock.recv(2000))
    assert 96 <= received <= sent
    wire.answers = True
    wire.data(BROADCAST, mac(7), to=to)
    wire.data(BROADCAST, mac(7), to=to)

    def learned():
        wire.receive(0.2)
        wire.data(BROADCAST, mac(7), to=to)
        return mac(7) in port.fdb
    wait_for(learned, deadline=10, what='an ECHO that is answered')


def wire_ready(wire):
    return select.select([wire.sock], [], [], 0.5)[0]
