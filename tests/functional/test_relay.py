# SPDX-License-Identifier: GPL-2.0-or-later
"""Ports that cannot reach each other, and the relay between them.

Two routers that take another port for each destination leave no way between
what is behind them; to a public host both find one.
"""

import time

import pytest

from frames import BROADCAST, mac
from nat import Home
from procs import wait_for
from stations import Station, endpoint
from traffic import tcp_transfer

FOUND = 60          # seconds until two ports have found their relay
INTERVAL = 10       # seconds, of HELLOs
SIZE = 2 << 20      # bytes of TCP


class Homes:
    """Public ports, and some behind symmetric NATs that know all of them."""

    def __init__(self, net, tap, *homes, secret_file=None, **publics):
        internet = net.switch()
        common = {'mcast': 'off'}
        if secret_file:
            common['secret_file'] = secret_file
        self.publics = [Station(tap, net.host(name, internet), **common,
                                **options)
                        for name, options in publics.items()]
        known = [p.host.address for p in self.publics]
        self.homes = [Station(tap, Home(net, internet, 'symmetric', name).host,
                              peer=known, **common) for name in homes]
        for number, port in enumerate(self.publics + self.homes, 1):
            port.configure(f'10.81.0.{number}/24')
            port.inside = f'10.81.0.{number}'
        for port in self.publics + self.homes:
            port.wait_peers(len(known) - (port in self.publics) +
                            (len(homes) if port in self.publics else 0),
                            deadline=3 * INTERVAL)

    def relay_of(self, home):
        """The public port by which HOME reaches all others, or None."""
        missed = home.status()['unreachable']
        relays = {entry.get('relay') for entry in missed}
        if len(missed) != len(self.homes) - 1 or len(relays) != 1:
            return None
        relay = relays.pop()
        return next((port for port in self.publics if relay and
                     port.host.address == endpoint(relay)[0]), None)

    def wait_relay(self, pairs):
        """Wait until all homes have the same relay, and return it."""
        def agreed():
            relays = {self.relay_of(home) for home in self.homes}
            relay = relays.pop()
            return relay if relay and not relays and \
                relay.status()['relay-pairs'] == pairs else None
        return wait_for(agreed, FOUND, lambda: 'a relay; there is ' + str(
            [home.status()['unreachable'] for home in self.homes]))


def assert_passes(here, there):
    here.host.assert_ping(there.inside)
    tcp_transfer(here.host, there.host, there.inside, SIZE)


@pytest.mark.parametrize('sealed', [False, True], ids=['plain', 'sealed'])
def test_symmetric_to_symmetric(net, tap, tmp_path, sealed):
    secret = tmp_path / 'secret'
    secret.write_text('opened and sealed anew by each relay')
    secret.chmod(0o600)
    homes = Homes(net, tap, 'alice', 'bob', public={'relay': 'on'},
                  secret_file=secret if sealed else None)
    alice, bob = homes.homes
    public = homes.wait_relay(2)
    assert public.status()['relay'] and not alice.status()['relay']
    for here, there in (alice, bob), (bob, alice):
        assert_passes(here, there)
        assert_passes(here, public)
        assert there.mac in here.fdb
        assert here.fdb[there.mac]['peer'] == here.fdb[public.mac]['peer']

    # What has an owner goes there, and not to the relay's own port.
    before = public.counters
    alice.host.assert_ping(bob.inside, count=20)
    changes = public.changes(before)
    assert changes['rx-relayed'] >= 40 and changes['relay-frames'] >= 40
    assert changes.get('rx-frames', 0) < 20

    # Each gets a flood once, however it comes, and nobody his own.
    for sender in alice, bob, public:
        data = sender.send(BROADCAST, sender.mac)
        for other in {alice, bob, public} - {sender}:
            other.expect(data)
    time.sleep(0.2)
    for port in alice, bob, public:
        port.silent()
        assert port.count('relay-errors') == 0
        assert port.count('relay-refused') == 0


def test_three_homes(net, tap):
    """All floods reach all, once; unicast only whom it is for."""
    homes = Homes(net, tap, 'alice', 'bob', 'carol', public={'relay': 'on'})
    homes.wait_relay(6)
    ports = homes.homes + homes.publics
    for sender in ports:
        data = sender.send(BROADCAST, sender.mac)
        for other in ports:
            if other is not sender:
                other.expect(data)
    alice, bob, carol, _ = ports
    wait_for(lambda: carol.mac in alice.fdb, what='carol in alice\'s FDB')
    alice.socket.pending()
    data = alice.send(carol.mac, alice.mac)
    carol.expect(data)
    data = bob.send(mac(99), bob.mac)       # which nobody has
    for other in alice, carol, ports[3]:
        other.expect(data)
    for port in ports:
        port.silent()


def test_off(net, tap):
    """Nobody relays who was not told to: all else works."""
    homes = Homes(net, tap, 'alice', 'bob', public={})
    alice, bob = homes.homes
    public, = homes.publics
    wait_for(lambda: alice.status()['unreachable'] and
             bob.status()['unreachable'], FOUND, 'both to miss the other')
    assert not public.status()['relay']
    for here, there in (alice, bob), (bob, alice):
        entry, = here.status()['unreachable']
        assert 'relay' not in entry and len(entry['instance']) == 16
        assert_passes(here, public)
        assert not here.host.ping(there.inside, count=3)
        assert there.mac not in here.fdb
    for name in 'relay-frames', 'rx-relayed', 'relay-refused':
        assert public.count(name) == 0


def test_relay_killed(net, tap):
    """Another one takes over; what needs none is not disturbed."""
    homes = Homes(net, tap, 'alice', 'bob', one={'relay': 'on'},
                  two={'relay': 'on'}, three={})
    alice, bob = homes.homes
    first = homes.wait_relay(2)
    assert_passes(alice, bob)
    second = next(p for p in homes.publics[:2] if p is not first)
    third = homes.publics[2]
    assert second.status()['relay-pairs'] == 0
    first.process.kill()
    for port in second, third, alice, bob:
        assert_passes(port, third if port is not third else alice)
    assert homes.wait_relay(2) is second
    wait_for(lambda: alice.host.ping(bob.inside, count=1), 10)
    assert_passes(alice, bob)
    assert_passes(bob, alice)
    second.process.kill()
    wait_for(lambda: all('relay' not in entry for home in homes.homes
                         for entry in home.status()['unreachable']),
             4 * INTERVAL, 'no relay')
    assert_passes(alice, third)


def assert_relayed(left, right, relay):
    """Both reach the other by the relay, at once."""
    for port in left, right:
        port.wait_peers(1, deadline=2 * INTERVAL)
    wait_for(lambda: relay.status()['relay-pairs'] == 2, FOUND,
             'both to ask')
    wait_for(lambda: left.host.ping(right.inside, count=1), 10)
    assert_passes(left, right)
    assert_passes(right, left)
    assert relay.count('relay-errors') == 0


def trio(tap, hosts, options):
    """Stations on these hosts, with addresses."""
    ports = []
    for number, (host, values) in enumerate(zip(hosts, options), 1):
        port = Station(tap, host, mcast='off', **values)
        port.inside = f'10.81.0.{number}'
        port.configure(f'{port.inside}/24')
        ports.append(port)
    return ports


def test_no_common_network(net, tap):
    """The relay is on two networks, of which one carries more at once."""
    wide, narrow = net.switch(mtu=9000), net.switch()
    middle = net.host('middle', wide, narrow, default_route=False)
    left = net.host('left', wide, default_route=False)
    right = net.host('right', narrow, default_route=False)
    relay, left, right = trio(tap, (middle, left, right), (
        {'relay': 'on'}, {'peer': [middle.addresses[0]]},
        {'peer': [middle.addresses[1]]}))
    assert_relayed(left, right, relay)
    # What came whole was cut for the narrow one.
    before = relay.counters
    tcp_transfer(left.host, right.host, right.inside, SIZE)
    changes = relay.changes(before)
    assert changes['relay-frames'] > 1.5 * changes['rx-relayed'], changes
    assert changes['tx-trains'] > 10


def test_no_common_family(net, tap):
    hosts = net.hosts(3)
    relay, left, right = trio(tap, hosts, (
        {'relay': 'on'},
        {'peer': [hosts[0].address], 'localaddr': hosts[1].address},
        {'peer': [f'[{hosts[0].address6}]'],
         'localaddr': f'[{hosts[2].address6}]'}))
    assert_relayed(left, right, relay)
    assert left.wait_mac(right.mac)['peer'] == f'{hosts[0].address}:20804'
