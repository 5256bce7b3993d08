# SPDX-License-Identifier: GPL-2.0-or-later
"""Superframes that cross the underlay whole: on one host, on jumbo frames."""

import socket
import threading

import pytest
import qdeswire
from superframes import packets
from test_guest_offload import copy
from traffic import tcp_transfer, udp_exchange

JUMBO = 9000
SUPERFRAME = 4
ETH_P_ALL = 3


class Sniffer(threading.Thread):
    """Keeps the SUPERFRAME datagrams that pass an interface."""

    def __init__(self, host, interface):
        super().__init__(daemon=True)
        self.found, self.ended = [], False
        self.socket = host.socket(socket.AF_PACKET, socket.SOCK_RAW,
                                  socket.htons(ETH_P_ALL))
        self.socket.bind((interface, ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.settimeout(0.1)
        self.start()

    def run(self):
        while not self.ended:
            try:
                data = self.socket.recv(70000)
            except TimeoutError:
                continue
            # Ethernet, IPv4, UDP.
            datagram = data[14 + 20 + 8:]
            if data[12:14] == b'\x08\0' and data[23] == socket.IPPROTO_UDP \
                    and datagram[:3] == b'\x51\x44\x10' \
                    and datagram[3] & SUPERFRAME:
                self.found.append(datagram)

    def stop(self):
        self.ended = True
        self.join()
        self.socket.close()
        return self.found


def underlay(host):
    """The name of the interface that the underlay is on."""
    route = host.run('ip -o route get 239.1.2.3').stdout.split()
    return route[route.index('dev') + 1]


def pair(net, tap, **options):
    """Two ports on jumbo frames; datagrams leave one by one."""
    hosts = net.hosts(2, JUMBO)
    here, there = ({name: value[n] for name, value in options.items()}
                   for n in range(2))
    ports = [tap(hosts[0], gso='off', **here),
             tap(hosts[1], gso='off', **there)]
    for number, port in enumerate(ports, 1):
        port.configure(f'10.81.0.{number}/24', f'fd81::{number}/64')
    for port in ports:
        port.wait_peers(1)
    return hosts, ports


def dropped(port):
    return [name for name, value in port.counters.items()
            if value and name in ('tx-drop-offload', 'rx-drop-superframe',
                                  'rx-drop-csum', 'rx-drop-port',
                                  'tx-drop-too-big')]


@pytest.mark.parametrize('vnet_hdr', ['on', 'off'])
@pytest.mark.parametrize('address', ['10.81.0.2', 'fd81::2'],
                         ids=['ipv4', 'ipv6'])
def test_jumbo_underlay(net, tap, address, vnet_hdr):
    """Several packets in each datagram; one who takes none gets them cut."""
    hosts, ports = pair(net, tap, vnet_hdr=('on', vnet_hdr))
    sniffer = Sniffer(hosts[1], underlay(hosts[1]))
    tcp_transfer(*hosts, address, 8 << 20)
    found = sniffer.stop()
    assert len(found) > 10
    assert max(len(data) for data in found) <= JUMBO - 28
    most = 0
    for data in found:
        inside = packets(qdeswire.decode(data))
        assert max(len(packet) for packet in inside) <= 14 + 1500
        most = max(most, len(inside))
    assert most == 6
    tcp_transfer(*hosts[::-1], address[:-1] + '1', 4 << 20)
    udp_exchange(*hosts, address, [1, 1000, 1472, 30001])
    assert not dropped(ports[0]) and not dropped(ports[1])


@pytest.mark.parametrize('here, there', [('on', 'off'), ('off', 'on')])
def test_one_side_without(net, tap, here, there):
    """No superframe is on the wire, and all arrives."""
    hosts, ports = pair(net, tap, superframes=(here, there))
    sniffer = Sniffer(hosts[1], underlay(hosts[1]))
    tcp_transfer(*hosts, '10.81.0.2', 4 << 20)
    tcp_transfer(*hosts[::-1], '10.81.0.1', 4 << 20)
    assert sniffer.stop() == []
    assert not dropped(ports[0]) and not dropped(ports[1])


@pytest.mark.parametrize('options', ['', ',superframes=off', ',vnet-hdr=off'],
                         ids=['both', 'one', 'no-offloads'])
def test_guests_on_one_host(net, boot, options):
    """A file crosses in both directions, whatever the other side does."""
    host = net.hosts(1)[0]
    guests = [boot(host, ['qdes'], name='a', addresses=['10.82.0.1/24']),
              boot(host, ['qdes' + options], name='b',
                   addresses=['10.82.0.2/24'])]
    for number, guest in enumerate(guests, 1):
        guest.wait_ready()
        guest.addresses = [f'10.82.0.{number}']
    before = guests[0].port.counters
    copy(*guests)
    # A file of 4 MiB in whole superframes, or in packets of 1448 bytes.
    sent = guests[0].port.changes(before)['tx-unicast']
    assert (sent < 2000) == (options != ',superframes=off'), sent
    copy(*guests[::-1])
    for guest in guests:
        assert not dropped(guest.port)
