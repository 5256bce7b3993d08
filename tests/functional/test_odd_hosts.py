# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts that are set up in unusual ways, and neighbours that mean no good."""

import random
import socket
import struct
import time

import qdeswire
from frames import BROADCAST, mac
from procs import wait_for
from stations import Station
from taptool import refused


def test_one_address_for_all_interfaces(net, tap):
    """A routed host has its address on lo; the route names the interface."""
    near, far = net.hosts(2)
    near.ip('addr add 10.99.0.1/32 dev lo',
            'route replace default dev eth0 src 10.99.0.1')
    far.ip('route add 10.99.0.1/32 dev eth0')
    a, b = Station(tap, near, localaddr='0.0.0.0'), Station(tap, far)
    assert a.status()['iface'] == 'eth0'
    assert a.status()['loopback'] is False
    a.speak(mac(1), b)
    b.speak(mac(2), a)


def test_the_same_address_on_two_interfaces(net, tap):
    host = net.host('h', net.switch(), net.switch(), default_route=False)
    host.ip('addr flush dev eth0', 'addr flush dev eth1',
            'addr add 10.80.9.1/32 dev eth0', 'addr add 10.80.9.1/32 dev eth1',
            'route add default dev eth1 src 10.80.9.1')
    assert Station(tap, host).status()['iface'] == 'eth1'


def test_address_shown_is_the_one_that_peers_see(net, tap):
    """To a group of the link, IPv6 sends from an address of the link."""
    near, far = net.hosts(2)
    a, b = [Station(tap, host, mcast='[ff12::77]', iface='eth0')
            for host in (near, far)]
    b.wait_peers(1)
    assert a.address.startswith('[fe80::')
    assert b.peer_named(a.name)['address'] == a.address


def test_any_loopback_address(net, tap):
    """Only 127.0.0.1 is listed, but all of 127.0.0.0/8 is the host's."""
    host = net.host('alone')
    a, b = [Station(tap, host, f'tap{n}', localaddr=f'127.0.0.{7 + n}:5000')
            for n in range(2)]
    a.wait_peers(1)
    assert a.status()['iface'] == 'lo'
    a.speak(mac(1), b)
    b.expect(a.send(mac(2), mac(1)))


def test_addresses_that_cannot_be_sent_from(net):
    host = net.host('h', net.switch())
    for args, what in (
            (['--localaddr', '127.0.0.1', '--iface', 'eth0'],
             '--localaddr=127.0.0.1: nothing is sent from there by iface=eth0'),
            (['--localaddr', '10.80.0.255'],
             '--localaddr=10.80.0.255: a broadcast address'),
            (['--localaddr', '255.255.255.255'],
             '--localaddr=255.255.255.255: a broadcast address'),
            (['--localaddr', 'fe80::1', '--mcast', 'ff15::1'],
             "--localaddr=fe80::1: a link-local address is one interface's")):
        assert refused(host, '--tap', 'tap0', *args).startswith(what)


def test_interface_forgets_its_groups(net, tap):
    """An MTU too small for IPv6 takes all of IPv6 off an interface."""
    near, far = net.hosts(2)
    a, b = [Station(tap, host, mcast='[ff15::5144]', iface='eth0')
            for host in (near, far)]
    b.speak(mac(2), a)
    near.ip('link set eth0 mtu 1000')
    a.logs.expect('no interface can join the group')
    wait_for(lambda: a.status()['iface'] == '')
    near.ip('link set eth0 mtu 1500')
    near.enable_ipv6('eth0')
    near.ip(f'addr replace {near.address6}/64 dev eth0 nodad')
    wait_for(lambda: a.status()['iface'] == 'eth0')
    b.speak(mac(2), a)


def test_full_queue_makes_no_copies(net, tap):
    """What the interface has no room for, the host's own ports get once."""
    host = net.host('h', net.switch())
    # Of a train, tbf drops what it has no room for without a word.
    a, b = Station(tap, host, gso='off'), Station(tap, host, 'tap1')
    a.wait_peers(1)
    host.run('tc qdisc add dev eth0 root tbf rate 8kbit burst 1600 limit 1600')
    frames = [a.send(BROADCAST, mac(1), 1000) for _ in range(40)]
    for data in frames:
        b.expect(data)
    assert a.count('tx-drop-nobufs') > 20
    b.speak(mac(2), a)
    assert not set(b.socket.pending()) & set(frames)


def spoofed_hello(sender, source):
    """A HELLO that SOURCE, a host that there is not, seems to have sent."""
    udp = qdeswire.encode(qdeswire.Hello(0, random.randrange(1, 1 << 64),
                                         name='nobody'))
    udp = struct.pack('>HHHH', 4242, qdeswire.PORT, 8 + len(udp), 0) + udp
    packet = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 0, 0, 1,
                         socket.IPPROTO_UDP, 0, socket.inet_aton(source),
                         socket.inet_aton(qdeswire.GROUP_V4))
    sender.sendto(packet + udp, (qdeswire.GROUP_V4, 0))


def test_invented_peers_do_not_block(net, tap):
    """Answers to nobody wait for ARP; frames must not wait with them."""
    near, far, bad = net.hosts(3)
    a, b = Station(tap, near), Station(tap, far)
    a.wait_peers(1)
    sender = bad.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    number = 0
    end = time.monotonic() + 6
    while time.monotonic() < end:
        for _ in range(50):
            number += 1
            spoofed_hello(sender, f'10.80.{1 + number // 250 % 250}.'
                                  f'{1 + number % 250}')
        data = a.send(BROADCAST, mac(1))
        b.expect(data, 2)
    assert a.count('tx-blocked') == 0
    assert number > 500
    for port in a, b:
        port.logs.allow('more than 16384 peers')
