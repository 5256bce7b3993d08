# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/networks.md: what is written there is typed here, and works.

Each section has hosts with the addresses that it names.  A line "alice$ …" or
"alice# …" is typed on the host alice; guests are 10.8.0.N, N being the last
byte of their MAC address, and so are the TAPs that the page gives addresses.
"""

import re
import shlex

import pytest
from dnsserver import A, SRV, DnsServer
from guests import Machine
from nat import Home
from ports import QDES_TAP, ROOT
from procs import wait_for

PAGE = ROOT / 'docs/networks.md'
TYPED = re.compile(r'    (\w+)([$#]) (.*)')


def sections():
    """Title -> list of (host, command) of the page."""
    found = {}
    title = None
    for line in PAGE.read_text(encoding='utf-8').splitlines():
        if line.startswith('## '):
            title = line[3:]
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
                             'Two homes', 'Kubernetes', 'VXLAN'}


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


@pytest.mark.parametrize('kinds', [('port-restricted', 'port-restricted'),
                                   ('full-cone', 'symmetric')])
def test_two_homes(place, kinds):
    internet = place.net.switch()
    public = place.net.host('public', internet)
    # One more address than that which routes prefer to answer from.
    public.ip('addr add 198.51.100.7/24 dev eth0')
    place.hosts['public'] = public
    for name, kind in zip(('alice', 'bob'), kinds):
        home = Home(place.net, internet, kind, name)
        home.router.ip('route add 198.51.100.0/24 dev eth0')
        place.hosts[name] = home.host
    place.type_section('Two homes')
    place.assert_all_reach_all(60)
