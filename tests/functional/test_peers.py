# SPDX-License-Identifier: GPL-2.0-or-later
"""Listed peers: names and how they are looked up, and the sockets for them."""

import socket
import time
from pathlib import Path

import pytest
from dnsserver import A, AAAA, SRV, DnsServer
from procs import PATIENCE, wait_for
from taptool import refused, run

PORT = 20804


def seeds(port):
    """What was listed -> what is known of it."""
    return {seed['peer']: seed for seed in port.status()['seeds']}


def addresses(port, peer):
    return set(seeds(port)[peer]['addresses'])


def wait_seed(port, peer, deadline=10, **expected):
    def there():
        seed = seeds(port)[peer]
        return seed if expected.items() <= seed.items() else None
    return wait_for(there, deadline,
                    lambda: f'{expected}, but it is {seeds(port)}')


def threads(port):
    """The names of its threads."""
    tasks = Path(f'/proc/{port.process.pid}/task')
    return {(task / 'comm').read_text().strip() for task in tasks.iterdir()}


def with_name_server(net, name):
    """A host with a name server, which is all that it can reach."""
    host = net.host(name)
    host.sysctl('net.ipv6.conf.lo.disable_ipv6', 0)
    host.dns = DnsServer(host)
    return host


@pytest.fixture
def host(net):
    return with_name_server(net, 'h')


def off(tap, host, *peers, **options):
    return tap(host, mcast='off', peer=list(peers), **options)


def test_addresses(host, tap):
    port = off(tap, host, '10.0.0.1', '10.0.0.2:7', 'fd00::1', '[fd00::2]:7',
               '10.0.0.1:20804')
    assert {n: s['addresses'] for n, s in seeds(port).items()} == {
        '10.0.0.1': ['10.0.0.1:20804'], '10.0.0.2:7': ['10.0.0.2:7'],
        'fd00::1': ['[fd00::1]:20804'], '[fd00::2]:7': ['[fd00::2]:7']}
    assert {s['state'] for s in seeds(port).values()} == {'resolved'}
    port.process.wait_log('peer 10.0.0.1:20804: listed already')
    assert port.status()['group'] == ''
    assert port.address == '[::]:20804'
    # Nothing is looked up, so nobody is there to look up.
    assert host.dns.asked == []
    assert 'qdes-resolver' not in threads(port)


def test_link_local_with_scope(net, tap):
    host = net.host('h', net.switch())
    port = off(tap, host, 'fe80::1%eth0')
    assert addresses(port, 'fe80::1%eth0') == {'[fe80::1%eth0]:20804'}
    text = refused(host, '--tap', 'tap1', '--mcast', 'off', '--peer',
                   'fe80::1')
    assert 'needs its interface' in text, text


def test_name_has_all_its_addresses(host, tap):
    host.dns.set('pool.test', A, 60, [f'10.0.0.{n}' for n in range(1, 4)])
    host.dns.set('pool.test', AAAA, 60, ['fd00::1', 'fd00::2'])
    host.dns.set('one.test', A, 60, ['10.0.1.1'])
    port = off(tap, host, 'Pool.test:9', 'one.test', 'inhosts')
    wait_seed(port, 'Pool.test:9', state='resolved')
    assert addresses(port, 'Pool.test:9') == {
        '10.0.0.1:9', '10.0.0.2:9', '10.0.0.3:9', '[fd00::1]:9',
        '[fd00::2]:9'}
    wait_seed(port, 'one.test', state='resolved',
              addresses=[f'10.0.1.1:{PORT}'])
    assert 'qdes-resolver' in threads(port)
    # The system's ways are asked, not DNS alone.
    wait_seed(port, 'inhosts', state='resolved',
              addresses=[f'10.9.8.7:{PORT}'])


def test_wrong_family_is_not_asked_for(host, tap):
    host.dns.set('pool.test', A, 60, ['10.0.0.1'])
    host.dns.set('pool.test', AAAA, 60, ['fd00::1'])
    port = off(tap, host, 'pool.test', localaddr='127.0.0.1')
    wait_seed(port, 'pool.test', state='resolved',
              addresses=[f'10.0.0.1:{PORT}'])
    assert host.dns.count('pool.test', AAAA) == 0


def test_looked_up_again_when_it_expires(host, tap):
    """Not before; and what has changed is taken as it is."""
    host.dns.set('pool.test', A, 6, ['10.0.0.1', '10.0.0.2'])
    port = off(tap, host, 'pool.test', localaddr='127.0.0.1')
    wait_seed(port, 'pool.test', state='resolved')
    asked = host.dns.count('pool.test')
    # Once for the addresses, once for how long they are good.
    assert asked == 2
    begin = time.monotonic()
    host.dns.set('pool.test', A, 300, ['10.0.0.2', '10.0.0.3'])
    wait_for(lambda: addresses(port, 'pool.test') ==
             {f'10.0.0.2:{PORT}', f'10.0.0.3:{PORT}'}, 12)
    assert time.monotonic() - begin > 4
    assert host.dns.count('pool.test') == 2 * asked


def test_failure_keeps_what_was_known(net, tap):
    """Three name servers fail, each in its own way: all is waited for at the
    same time."""
    ports = {}
    for mode in 'silent', 'servfail', 'nxdomain':
        host = with_name_server(net, mode)
        host.dns.set('pool.test', A, 5, ['10.0.0.1'])
        port = off(tap, host, 'pool.test', localaddr='127.0.0.1')
        wait_seed(port, 'pool.test', state='resolved')
        host.dns.mode = mode
        port.logs.expect('peer pool.test: .*; it is looked up again from time '
                         'to time, and what was known stays')
        ports[host] = port
    asked = {}
    for host, port in ports.items():
        failing = wait_seed(port, 'pool.test', 15, state='failing')
        assert failing['addresses'] == [f'10.0.0.1:{PORT}']
        assert failing['error']
        asked[host] = host.dns.count('pool.test')
    for host, port in ports.items():
        wait_for(lambda h=host: h.dns.count('pool.test') > asked[h], 15)
        assert addresses(port, 'pool.test') == {f'10.0.0.1:{PORT}'}
        host.dns.mode = 'answer'
        host.dns.set('pool.test', A, 60, ['10.0.0.9'])
    for port in ports.values():
        wait_seed(port, 'pool.test', 30, state='resolved',
                  addresses=[f'10.0.0.9:{PORT}'])
        log = port.process.log
        assert log.count('looked up again') == 1, log
        assert log.count('peer pool.test: found now, at 1 addresses') == 1, log


def test_name_that_is_not_there_yet(host, tap):
    port = off(tap, host, 'late.test')
    port.logs.expect('peer late.test: .*; it is looked up again')
    assert wait_seed(port, 'late.test', state='failing')['addresses'] == []
    host.dns.set('late.test', A, 60, ['10.0.0.1'])
    wait_seed(port, 'late.test', 15, state='resolved')


@pytest.mark.parametrize('glue', [True, False])
def test_service(host, tap, glue):
    host.dns.glue = glue
    name = '_qdes._udp.svc.test'
    host.dns.set(name, SRV, 60, [('a.test', 7), ('b.test', 8), ('a.test', 9),
                                 ('gone.test', 10)])
    host.dns.set('a.test', A, 60, ['10.0.0.1', '10.0.0.2'])
    host.dns.set('b.test', A, 60, ['10.0.0.3'])
    host.dns.set('b.test', AAAA, 60, ['fd00::3'])
    port = off(tap, host, name)
    wait_seed(port, name, state='resolved')
    assert addresses(port, name) == {
        '10.0.0.1:7', '10.0.0.2:7', '10.0.0.1:9', '10.0.0.2:9', '10.0.0.3:8',
        '[fd00::3]:8'}
    assert bool(host.dns.count('a.test')) != glue


def test_service_is_looked_up_again(host, tap):
    """A target that cannot be asked for now takes nothing away."""
    name = '_qdes._udp.svc.test'
    host.dns.set(name, SRV, 5, [('a.test', 7), ('b.test', 7)])
    host.dns.set('a.test', A, 60, ['10.0.0.1'])
    host.dns.set('b.test', A, 60, ['10.0.0.2'])
    port = off(tap, host, name, localaddr='127.0.0.1')
    wait_seed(port, name, state='resolved',
              addresses=['10.0.0.1:7', '10.0.0.2:7'])
    host.dns.set(name, SRV, 5, [('b.test', 8)])
    wait_seed(port, name, addresses=['10.0.0.2:8'])


def test_thousands_of_addresses(host, tap):
    """More than fit a datagram: by TCP.  And more than there is room for."""
    names = [f'pool{n}.test' for n in range(5)]
    for number, name in enumerate(names):
        host.dns.set(name, A, 600,
                     [f'10.{1 + number}.{n // 250}.{n % 250}'
                      for n in range(4000)])
    port = off(tap, host, *names, localaddr='127.0.0.1')
    port.logs.expect(': 3616 of its addresses are too many')
    for name in names:
        wait_seed(port, name, 30, state='resolved')
    assert host.dns.by_tcp
    known = [len(addresses(port, name)) for name in names]
    assert sorted(known) == [384, 4000, 4000, 4000, 4000]


def test_lookup_stops_nobody(net, tap):
    """While a name server is silent, frames pass as ever, and the end comes
    at once."""
    a, b = net.hosts(2)
    for host in (a, b):
        host.dns = DnsServer(host)
    a.dns.mode = 'silent'
    port = tap(a, peer=[f'n{n}.test' for n in range(20)])
    other = tap(b)
    port.configure('10.0.0.1/24')
    other.configure('10.0.0.2/24')
    wait_for(lambda: a.dns.asked)
    port.logs.allow('it is looked up again')
    a.assert_ping('10.0.0.2', count=40, deadline=10)
    rtt = float(a.last_ping.splitlines()[-1].split('/')[-2])
    assert rtt < 100 * PATIENCE, a.last_ping
    pending = [s for s in seeds(port).values() if s['state'] == 'pending']
    assert pending, 'the name server was not waited for'
    begin = time.monotonic()
    port.stop()
    assert time.monotonic() - begin < 0.9 * PATIENCE


# --- Sockets ----------------------------------------------------------------

def test_usual_port(net, tap):
    """A port without a group is where others look for it, if that is free;
    and it leaves room for those that have a group."""
    host = net.host('h', net.switch())
    first = tap(host, mcast='off')
    assert first.address == f'[::]:{PORT}'
    second = tap(host, 'tap1', mcast='off')
    assert second.address.startswith('[::]:')
    assert second.address != first.address
    grouped = tap(host, 'tap2')
    assert grouped.status()['group'] == f'239.192.81.68:{PORT}'
    third = tap(host, 'tap3', mcast='off', localaddr='127.0.0.5:20999')
    assert third.address == '127.0.0.5:20999'
    fourth = tap(host, 'tap4', mcast='off', localaddr='[::]:20998')
    assert fourth.address == '[::]:20998'


def test_no_ipv6_in_this_kernel(net, tap):
    """Where IPv6 is off, what has no address of it is bound all the same."""
    host = net.host('h')
    port = tap(host, mcast='off', peer=['127.0.0.2'])
    assert port.address == f'[::]:{PORT}'


def test_floods_of_others_are_not_heard(net, tap):
    """A socket at the usual port takes nothing that is for the group."""
    a, b = net.hosts(2)
    alone = tap(a, mcast='off')
    grouped = tap(a, 'tap1')
    other = tap(b)
    grouped.wait_peers(1)
    other.wait_peers(1)
    assert alone.count('rx-datagrams') == 0


REFUSALS = [
    (['--peer', 'h:0'], '--peer=h:0: '),
    (['--peer', 'h', '--peer', '239.1.1.1'], '--peer=239.1.1.1: '),
    (['--peer', '255.255.255.255'], 'is a broadcast address'),
    (['--peer', '10.80.0.255'], 'is a broadcast address'),
    (['--peer', '10.0.0.1', '--localaddr', 'fd80:0::1'], 'IPv6 address'),
    (['--peer', 'fd00::1', '--localaddr', '10.80.0.1'], 'IPv4 address'),
    (['--iface', 'eth0'], 'with mcast=off'),
    (['--ttl', '3'], 'with mcast=off'),
    ([f'--peer=n{n}' for n in range(10000)],
     '--peer: 10000 are listed, at most 1024 can be; list a DNS name whose '
     'addresses they are'),
]


@pytest.mark.parametrize('args,text', REFUSALS, ids=lambda v: str(v)[:20])
def test_refused(net, args, text):
    host = net.host('h', net.switch())
    said = refused(host, '--tap', 'tap0', '--mcast', 'off', *args)
    assert text in said, said


def test_itself_is_left_alone(net, tap):
    host = net.host('h', net.switch())
    port = tap(host, mcast='off', peer=['10.80.0.1', 'fd80:0::1', '10.80.0.2'])
    for peer in ('10.80.0.1', 'fd80:0::1'):
        port.process.wait_log(f'peer {peer}: this port itself')
    assert 'peer 10.80.0.2' not in port.process.log


# --- Fabrics of listed peers ------------------------------------------------

def listed(net, tap, count, options=None, **more):
    """COUNT hosts whose ports know each other by one name, which stands for
    all of them, with the addresses that OPTIONS say: 4, 6, or both."""
    hosts = net.hosts(count)
    family = options or (4, 6)
    ports = []
    for number, host in enumerate(hosts, 1):
        dns = DnsServer(host)
        if 4 in family:
            dns.set('pool.test', A, 60, [h.address for h in hosts])
        if 6 in family:
            dns.set('pool.test', AAAA, 60, [h.address6 for h in hosts])
        port = tap(host, mcast='off', peer='pool.test', **more)
        ports.append(port.configure(f'10.0.0.{number}/24'))
    return ports


@pytest.mark.parametrize('family', [(4,), (6,), (4, 6)], ids=str)
@pytest.mark.parametrize('plain', [False, True], ids=['linux', 'plain'])
def test_fabric_by_name(net, tap, family, plain):
    ports = listed(net, tap, 3, family,
                   **({'plain_io': True} if plain else {}))
    for port in ports:
        # An endpoint for each way, and not one that is the port itself.
        wait_for(lambda p=port: len([s for s in p.peers
                                     if s['state'] == 'alive']) ==
                 2 * len(family), 10, lambda p=port: str(p.peers))
    for number in (2, 3):
        ports[0].host.assert_ping(f'10.0.0.{number}', count=5)
    ports[1].host.assert_ping('10.0.0.3', count=5)
    for port in ports:
        assert port.count('tx-control-errors') == 0


@pytest.mark.parametrize('family', [4, 6])
def test_killed_peer_is_forgotten_at_once(net, tap, family):
    """One socket hears of both families' ICMP errors."""
    ports = listed(net, tap, 2, (family,))
    for port in ports:
        port.wait_peers(1)
    ports[0].host.assert_ping('10.0.0.2')
    ports[1].process.kill()
    ports[0].host.ping('10.0.0.2', count=3, deadline=1)
    ports[0].wait_count('peers-unreachable', 1)
    assert not [p for p in ports[0].peers if p['state'] == 'alive']


@pytest.mark.parametrize('family', [4, 6])
def test_path_mtu_by_family(net, tap, family):
    """Full segments fit: headers are as long as the peer's family has them."""
    ports = listed(net, tap, 2, (family,))
    for port in ports:
        port.wait_peers(1)
    for port in ports:
        port.process.wait_log('is ready')
    capture = ports[0].host.capture('eth0', 'udp or ip6 proto 44 or '
                                    '(ip[6:2] & 0x3fff != 0)')
    server = ports[1].host.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.bind(('10.0.0.2', 5001))
    server.listen()
    client = ports[0].host.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.connect(('10.0.0.2', 5001))
    with server.accept()[0] as sock:
        sock.settimeout(10)
        for _ in range(50):
            client.sendall(bytes(20000))
            left = 20000
            while left:
                left -= len(sock.recv(left))
    capture.stop()
    shown = ports[0].host.run(['tcpdump', '-n', '-r', capture.pcap,
                               'ip6 proto 44 or (ip[6:2] & 0x3fff != 0)'])
    assert 'frag' not in shown.stdout, shown.stdout[:2000]
    assert ports[0].count('tx-bytes') > 1000000


@pytest.mark.parametrize('way', ['ipv4', 'ipv6'])
def test_peer_inside_of_the_fabric(net, tap, way):
    """A route to it leads through the TAP: what is sent to it there must not
    be carried to it by itself, again and again."""
    hosts = net.hosts(2)
    a, b = (tap(host, mcast='off', peer=hosts[1 - n].address).configure(
        f'10.77.0.{n + 1}/24', f'fd77::{n + 1}/64')
            for n, host in enumerate(hosts))
    inside = '10.77.0.2' if way == 'ipv4' else '[fd77::2]'
    other = '10.77.0.2' if way == 'ipv6' else 'fd77::2'
    for port in a, b:
        port.wait_peers(1)
        port.logs.allow('is reached by this fabric itself')
    hosts[0].assert_ping(other)
    number = b.status()['local'].rpartition(':')[2]
    run(hosts[0], 'peer-add', '--peer', f'{inside}:{number}', '--control',
        a.control)
    a.wait_count('tx-drop-own', 1)
    # Before it knew that the address is its own, it may have gone there.
    wait_for(lambda: hosts[0].ping(other, count=1), 2)
    before = a.count('tx-frames')
    for _ in range(3):
        hosts[0].assert_ping(other, count=5)
    # Beside those, questions for the peer that cannot be there.
    assert a.count('tx-frames') - before < 100
    wait_for(lambda: 'or the list of peers' in a.process.log)
    run(hosts[0], 'peer-del', '--peer', f'{inside}:{number}', '--control',
        a.control)


def test_added_while_it_runs(net, tap):
    """And struck off again, which leaves alone who is there."""
    hosts = net.hosts(2)
    a, b = (tap(host, mcast='off') for host in hosts)
    run(hosts[0], 'peer-add', '--peer', hosts[1].address6, '--control',
        a.control)
    a.wait_peers(1)
    b.wait_peers(1)
    run(hosts[0], 'peer-del', '--peer', hosts[1].address6, '--control',
        a.control)
    assert seeds(a) == {}
    a.wait_peers(1)
