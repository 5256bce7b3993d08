# SPDX-License-Identifier: GPL-2.0-or-later
"""Ethernet frames, and a packet socket that puts them on an interface."""

import os
import select
import socket
import struct
import time

from procs import PATIENCE

ETH_P_ALL = 3
ETH_P_TEST = 0x88b5     # IEEE 802: for local experiments
PACKET_OUTGOING = 4
BROADCAST = 'ff:ff:ff:ff:ff:ff'


def mac_bytes(text):
    return bytes.fromhex(text.replace(':', ''))


def mac_text(data):
    return ':'.join(f'{b:02x}' for b in data)


def mac(number):
    """A locally administered unicast address with NUMBER in it."""
    return mac_text(b'\x02\x51' + struct.pack('>I', number))


def frame(dst, src, payload=b'', ethertype=ETH_P_TEST, size=60):
    """A frame, padded to SIZE bytes."""
    data = (mac_bytes(dst) + mac_bytes(src) + struct.pack('>H', ethertype) +
            payload)
    return data.ljust(size, b'\0')


class PacketSocket:
    """Sends frames out of an interface, and hears what comes in by it.

    Only frames of the test's own Ethernet type are heard, unless ETHERTYPE
    says otherwise; none that this host itself sent.
    """

    def __init__(self, namespace, interface, ethertype=ETH_P_TEST):
        self.sock = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        with namespace.entered():
            self.sock.bind((interface, ethertype))

    def send(self, data):
        self.sock.send(data)

    def receive(self, timeout=5.0):
        """The next frame, or None after TIMEOUT seconds without one."""
        end = time.monotonic() + timeout
        while True:
            left = max(0, end - time.monotonic())
            if not select.select([self.sock], [], [], left)[0]:
                return None
            data, address = self.sock.recvfrom(70000)
            if address[2] != PACKET_OUTGOING:
                return data

    def pending(self):
        """All frames that are there now."""
        frames = []
        while True:
            data = self.receive(0)
            if data is None:
                return frames
            frames.append(data)

    def expect(self, data, timeout=5.0):
        """Wait for exactly this frame; others before it are passed over."""
        timeout *= PATIENCE
        end = time.monotonic() + timeout
        heard = []
        while True:
            got = self.receive(max(0, end - time.monotonic()))
            assert got is not None, (f'no {data[:40].hex()} within {timeout} '
                                     f's, but {[h[:40].hex() for h in heard]}')
            if got == data:
                return
            heard.append(got)


def marker():
    """A payload that nothing else has."""
    return b'qdes test ' + os.urandom(16)
