# SPDX-License-Identifier: GPL-2.0-or-later
"""Superframes on the wire: a qdes-tap and a peer that tests/lib plays."""

import dataclasses
import socket
import struct

import packets
import pytest
import qdeswire
import superframes
from frames import BROADCAST, PacketSocket, mac, mac_bytes
from packets import ACK, PSH, TCP, UDP, Packet
from procs import wait_for
from qdeswire import Data
from stations import WirePeer

ETH_P_ALL = 3
SOL_PACKET, PACKET_VNET_HDR = 263, 15
PEER, GUEST = mac(0x7001), mac(0x7002)
BOTH = qdeswire.CAP_CSUM_PARTIAL | qdeswire.CAP_SUPERFRAME


def to_guest(packet):
    return dataclasses.replace(packet, dst=GUEST, src=PEER, tags=[])


@pytest.fixture
def cutter(net, tap):
    """(port whose TAP takes no offloads, peer, socket on the TAP)"""
    hosts = net.hosts(2)
    port = tap(hosts[0], vnet_hdr='off')
    return port, WirePeer(hosts[1]), PacketSocket(hosts[0], 'tap0', ETH_P_ALL)


def receive(tap_socket, count):
    """So many frames of the peer; the kernel's own are passed over."""
    found = []
    while len(found) < count:
        frame = tap_socket.receive()
        assert frame is not None, f'only {len(found)} of {count} frames'
        if frame[6:12] == mac_bytes(PEER):
            found.append(frame)
    return found


def test_cut_for_a_port_without_offloads(cutter):
    port, peer, tap_socket = cutter
    rng = packets.seeded()
    for _ in range(150):
        whole, size = packets.random_superframe(rng, largest=65483)
        data = Data(0, to_guest(whole).encode(partial=True), True, size)
        peer.send(data, port.address)
        want = superframes.packets(data)
        assert receive(tap_socket, len(want)) == want
    assert port.counters['rx-frames'] == 150
    assert port.counters['rx-drop-superframe'] == 0


def test_no_superframes(cutter):
    port, peer, tap_socket = cutter
    tcp, udp = [to_guest(Packet(proto=p, payload=bytes(300)))
                for p in (TCP, UDP)]
    bad = [(tcp.encode(True), 0), (udp.encode(True), 2),
           (tcp.encode(True) + b'\0', 100), (tcp.encode(True)[:-1], 100),
           (dataclasses.replace(tcp, flags=0x12).encode(True), 299),
           (dataclasses.replace(tcp, flags=0x04, v6=True).encode(True), 100),
           (dataclasses.replace(udp, frag=0x2000).encode(True), 100),
           (dataclasses.replace(udp, proto=1).encode(True), 100)]
    for number, (frame, size) in enumerate(bad, 1):
        data = Data(0, frame, True, size)
        with pytest.raises(superframes.Bad):
            superframes.packets(data)
        peer.send(data, port.address)
        port.wait_count('rx-drop-superframe', number)
    # The frame's source is looked at first.
    group = dataclasses.replace(tcp, src=BROADCAST).encode(True)
    peer.send(Data(0, group, True, 0), port.address)
    port.wait_count('rx-drop-source', 1)
    assert port.counters['rx-drop-superframe'] == len(bad)
    assert port.counters['rx-frames'] == 0
    assert PEER not in port.fdb
    # One that is right is taken by the same way.
    peer.send(Data(0, tcp.encode(True), True, 300), port.address)
    assert receive(tap_socket, 1) == [tcp.encode()]


@pytest.mark.parametrize('mtu, capabilities, option, whole', [
    (9000, BOTH, 'on', True),
    (9000, BOTH, 'off', False),
    (9000, qdeswire.CAP_CSUM_PARTIAL, 'on', False),
    (9000, qdeswire.CAP_SUPERFRAME, 'on', False),
    (9000, 0, 'on', False),
    (1500, BOTH, 'on', False),          # nothing to be saved
])
def test_sent_only_to_who_takes_it(net, tap, mtu, capabilities, option,
                                   whole):
    """And whatever the form, it stands for the same packets."""
    hosts = net.hosts(2, mtu=mtu)
    port = tap(hosts[0], superframes=option)
    guest = PacketSocket(hosts[0], 'tap0', ETH_P_ALL)
    guest.sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, struct.pack('i', 1))
    peer = WirePeer(hosts[1])
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    peer.hello(port.address, capabilities=capabilities, mtu=65499)
    wait_for(lambda: port.counters['rx-hello'], what='the HELLO')
    peer.data(BROADCAST, PEER, port.address)
    port.wait_mac(PEER)
    packet = Packet(dst=PEER, src=GUEST, id=0xfff8, seq=0xffffff00,
                    flags=ACK | PSH, payload=bytes(range(256)) * 120)
    size = 1200
    want = superframes.packets(Data(0, packet.encode(True), True, size))
    assert len(want) == 26
    guest.sock.send(bytes(packet.vnet(size)) + packet.encode(True))
    got, forms, longest = [], set(), 0
    while len(got) < len(want):
        message, flood = peer.expect_message(Data)
        if message.frame[6:12] != mac_bytes(GUEST):
            continue
        assert not flood
        forms.add(message.segment_size)
        longest = max(longest, len(qdeswire.encode(message)) + 28)
        got += superframes.packets(message)
    assert got == want
    assert longest <= mtu
    if whole:
        # Six packets and more in 9000 bytes; the rest may be a single one.
        assert size in forms and forms <= {None, size}
        assert longest > 7 * size
    else:
        assert forms == {None}
