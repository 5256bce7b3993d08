# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/networks.md: what is written there is typed here, and works.

Each section has hosts with the addresses that it names.  A line "alice$ …" or
"alice# …" is typed on the host alice; guests are 10.8.0.N, N being the last
byte of their MAC address, and so are the TAPs that the page gives addresses.
"""

import re
import shlex
import time

import pytest
from dnsserver import A, SRV, DnsServer
from frames import PacketSocket
from guests import Machine
from nat import Home
from ports import QDES_TAP, ROOT
from procs import wait_for
from vteps import Frr

PAGE = ROOT / 'docs/networks.md'
TYPED = re.compile(r'    (\w+)([$#]) (.*)')


def sections():
    """Title -> list of (host, command) of the page."""
    found = {}
    title = None
    for line in PAGE.read_text(encoding='utf-8').splitlines():
        if line.startswith(('## ', '### ')):
            title = line.lstrip('# ')
        match = TYPED.fullmatch(line)
        if match:
            found.setdefault(title, []).append((match[1], match[3]))
    return found


SECTIONS = sections()


class Place:
    """The hosts of a section, and what was typed there."""

    def __init__(self, net, boot):
        self.net, self.boot = net, boot
        self.hosts = {}
        self.frr = {}                   # host -> its service
        self.ends = {}                  # address in the fabric -> who has it

    def lan(self, *names, multicast=True):
        """Hosts 192.0.2.1, 192.0.2.2, ... on one switch."""
        switch = self.net.switch()
        for number, name in enumerate(names, 1):
            host = self.net.host(name, switch)
            host.ip(f'addr add 192.0.2.{number}/24 dev eth0')
            if not multicast:
                host.nft('table ip no { chain out { type filter hook output '
                         'priority 0; ip daddr 224.0.0.0/4 drop; }; }')
            self.hosts[name] = host

    def type(self, host, line):
        words = shlex.split(line)
        where = self.hosts[host]
        if words[0] == 'qdes-tap':
            where.start([QDES_TAP, *words[1:]],
                        'qdes-tap').wait_log(r'is ready', 10)
        elif words[0] == 'qemu-system-x86_64':
            number = int(words[-1][-2:], 16)
            address = f'10.8.0.{number}'
            self.ends[address] = self.boot(where, netdevs=(), extra=words[1:],
                                           addresses=[f'{address}/24'])
        elif words[0] == 'vtysh':
            self.frr[host].vtysh(*words[1:])
        else:
            where.run(words)
            match = re.fullmatch(r'ip address add (10\.8\.0\.\d+)/24 .*', line)
            if match:
                self.ends[match[1]] = where

    def type_section(self, title, hosts=None):
        for host, line in SECTIONS[title]:
            if hosts is None or host in hosts:
                self.type(host, line)

    def assert_all_reach_all(self, seconds=30):
        for end in self.ends.values():
            if isinstance(end, Machine):
                end.wait_ready()
        for here, end in self.ends.items():
            for there in self.ends:
                if there != here:
                    wait_for(lambda e=end, a=there: e.ping(a, count=1),
                             seconds)


@pytest.fixture
def place(net, boot):
    return Place(net, boot)


def test_all_sections_are_typed():
    assert set(SECTIONS) == {'One host', 'A LAN', 'Wi-Fi', 'A cloud',
                             'Two homes', 'Two homes with a relay',
                             'Kubernetes', 'VXLAN', 'EVPN',
                             'EVPN by one of its hosts', 'EVPN without BGP'}


def test_one_host(place):
    place.hosts['alice'] = place.net.host('alice')
    place.type_section('One host')
    place.assert_all_reach_all()


@pytest.mark.parametrize('title', ['A LAN', 'VXLAN'])
def test_with_multicast(place, title):
    place.lan('alice', 'bob', 'carol')
    place.type_section(title)
    assert len(place.ends) == 3
    place.assert_all_reach_all()


@pytest.mark.parametrize('title', ['Wi-Fi', 'A cloud'])
def test_without_multicast(place, title):
    place.lan('alice', 'bob', 'carol', multicast=False)
    place.type_section(title)
    assert len(place.ends) == 3
    place.assert_all_reach_all()


SERVICE = 'fabric.default.svc.cluster.local'


def test_kubernetes(place):
    """Three pods with a TAP each, and one with a guest; then one more."""
    names = ['pod1', 'pod2', 'pod3', 'pod4', 'pod5']
    place.lan(*names, multicast=False)
    servers = {n: DnsServer(place.hosts[n]) for n in names}
    (_, tap), (_, guest) = SECTIONS['Kubernetes']

    def listed(count):
        for server in servers.values():
            server.set(SERVICE, A, 5,
                       [f'192.0.2.{n}' for n in range(1, count + 1)])

    def join(number, line):
        place.hosts['pod'] = place.hosts[f'pod{number}']
        place.type('pod', line)
        if line == tap:
            place.hosts['pod'].ip(f'addr add 10.8.0.{number}/24 dev tap0')
            place.ends[f'10.8.0.{number}'] = place.hosts['pod']

    listed(4)
    for number in (1, 2, 3):
        join(number, tap)
    join(4, guest)
    place.assert_all_reach_all()
    listed(5)
    join(5, tap)
    place.assert_all_reach_all()


def test_service_records(place):
    """As the page says of SRV: each member may have a port of its own."""
    record = re.search(r'`--peer (_qdes\._udp\.\S+)`',
                       PAGE.read_text(encoding='utf-8'))[1]
    place.lan('pod1', 'pod2', multicast=False)
    for number in (1, 2):
        host = place.hosts[f'pod{number}']
        server = DnsServer(host)
        server.set(record, SRV, 60, [(f'pod{n}.{SERVICE}', 7000 + n)
                                     for n in (1, 2)])
        for n in (1, 2):
            server.set(f'pod{n}.{SERVICE}', A, 60, [f'192.0.2.{n}'])
        place.type(f'pod{number}', 'qdes-tap --tap tap0 --mcast off '
                   f'--localaddr 192.0.2.{number}:{7000 + number} '
                   f'--peer {record}')
        host.ip(f'addr add 10.8.0.{number}/24 dev tap0')
        place.ends[f'10.8.0.{number}'] = host
    place.assert_all_reach_all()


def two_homes(place, kinds, title='Two homes'):
    """Type that section, with routers of these kinds; returns them."""
    routers = []
    internet = place.net.switch()
    public = place.net.host('public', internet)
    # One more address than that which routes prefer to answer from.
    public.ip('addr add 198.51.100.7/24 dev eth0')
    place.hosts['public'] = public
    for name, kind in zip(('alice', 'bob'), kinds):
        home = Home(place.net, internet, kind, name)
        home.router.ip('route add 198.51.100.0/24 dev eth0')
        place.hosts[name] = home.host
        routers.append(home.router)
    place.type_section(title)
    place.assert_all_reach_all(60)
    return routers


@pytest.mark.parametrize('kinds', [('port-restricted', 'port-restricted'),
                                   ('full-cone', 'port-restricted'),
                                   ('full-cone', 'symmetric')])
def test_two_homes(place, kinds):
    two_homes(place, kinds)


@pytest.mark.parametrize('kinds', [('symmetric', 'symmetric'),
                                   ('port-restricted', 'symmetric')])
def test_two_homes_with_a_relay(place, kinds):
    two_homes(place, kinds, 'Two homes with a relay')


def test_mappings_are_kept_open(place):
    """Routers forget soon, and nobody has anything to say for longer."""
    for router in two_homes(place, ('port-restricted', 'port-restricted')):
        for name in ('udp_timeout', 'udp_timeout_stream'):
            router.sysctl(f'net.netfilter.nf_conntrack_{name}', 15)
    alice, bob = place.hosts['alice'], place.hosts['bob']
    quiet = PacketSocket(alice, 'tap0')
    quiet.pending()
    end = time.monotonic() + 40
    while time.monotonic() < end:
        quiet.receive(end - time.monotonic())
    # Not only by the copies that floods are: the neighbour is known.
    for here, there in ((alice, '10.8.0.2'), (bob, '10.8.0.1')):
        assert here.ping(there, count=1, deadline=2), here.last_ping


def has_by_bgp(host, address):
    """Has FRR told the kernel where a MAC address is?"""
    fdb = host.run('bridge fdb show dev vxlan7').stdout
    return any(line.startswith(address) and 'extern_learn' in line
               for line in fdb.splitlines())


@pytest.mark.parametrize('way', ['EVPN by one of its hosts',
                                 'EVPN without BGP'])
def test_evpn(place, way):
    place.lan('alice', 'bob', 'carol', 'dave')
    for name in ('alice', 'bob'):
        place.frr[name] = Frr(place.hosts[name])
    place.type_section('EVPN')
    alice, bob = place.hosts['alice'], place.hosts['bob']
    # By BGP they know of each other, and where to send floods.
    for host, other in ((alice, 2), (bob, 1)):
        wait_for(lambda h=host, o=other: f'dst 192.0.2.{o}' in
                 h.run('bridge fdb show dev vxlan7').stdout, 60,
                 lambda: 'what EVPN tells the kernel')
    place.type_section(way)
    assert len(place.ends) == 4
    place.assert_all_reach_all()
    if way == 'EVPN by one of its hosts':
        # Who is in our fabric is announced, as at Alice's.
        wait_for(lambda: has_by_bgp(bob, '52:54:00:00:00:04'), 30)
