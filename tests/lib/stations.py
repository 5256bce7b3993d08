# SPDX-License-Identifier: GPL-2.0-or-later
"""The two ends of a fabric that tests play themselves.

A Station is a real port, a qdes-tap, whose TAP a test feeds frame by frame.
A WirePeer is no port at all: it is two UDP sockets that say what the test
wants, true to the protocol or not.
"""

import random
import select
import socket
import struct
import time

import qdeswire
from frames import BROADCAST, PacketSocket, frame, marker
from procs import PATIENCE


class Station:
    """A port, and a packet socket on its TAP."""

    def __init__(self, make, host, tap='tap0', **options):
        self.host = host
        self.port = make(host, tap, **options)
        self.socket = PacketSocket(host, tap)

    def __getattr__(self, name):
        return getattr(self.port, name)

    def send(self, dst, src, size=60):
        """Send a frame that nobody has sent before, and return it."""
        data = frame(dst, src, marker(), size=size)
        self.socket.send(data)
        return data

    def speak(self, address, listener):
        """Be heard with ADDRESS; LISTENER confirms it."""
        listener.expect(self.send(BROADCAST, address))

    def expect(self, data, timeout=5.0):
        self.socket.expect(data, timeout)

    def silent(self):
        """Assert that no frame is there that was not asked for."""
        assert not self.socket.pending()

    def heard(self):
        """Datagrams read, but for what ports say of themselves."""
        counters = self.counters
        return counters['rx-datagrams'] - sum(
            counters[f'rx-{kind}'] for kind in ('hello', 'echo', 'echo-reply',
                                                'peers'))


class WirePeer:
    """Speaks the wire format from an endpoint of its own."""

    def __init__(self, host, netid=0, interface='eth0', v6=False, name='wire',
                 port=0):
        self.netid = netid
        self.name = name
        self.answers = True     # each ECHO, as it is read
        self.instance = random.randrange(1, 1 << 64)
        self.sock, self.group_sock = [
            host.socket(socket.AF_INET6 if v6 else socket.AF_INET)
            for _ in range(2)]
        with host.entered():
            index = socket.if_nametoindex(interface)
        if v6:
            self.group = (qdeswire.GROUP_V6, qdeswire.PORT, 0, index)
            membership = (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                          socket.inet_pton(socket.AF_INET6, self.group[0]) +
                          struct.pack('i', index))
            local = host.address6
        else:
            self.group = (qdeswire.GROUP_V4, qdeswire.PORT)
            membership = (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                          struct.pack('4s4si',
                                      socket.inet_aton(self.group[0]),
                                      bytes(4), index))
            local = host.address
        self.group_sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.group_sock.bind(self.group)
        self.group_sock.setsockopt(*membership)
        self.sock.bind((local, port))
        host_text = f'[{local}]' if v6 else local
        self.address = f'{host_text}:{self.sock.getsockname()[1]}'

    def send(self, datagram, to=None):
        """Send a DATAGRAM, or a message of qdeswire, to a port or to all."""
        if not isinstance(datagram, bytes):
            datagram = qdeswire.encode(datagram)
        self.sock.sendto(datagram, endpoint(to) if to else self.group)

    def hello(self, to=None, **values):
        if to is None:
            # Else there is no answer.
            values.setdefault('padded', qdeswire.HELLO_PADDED)
        self.send(qdeswire.Hello(self.netid, self.instance, name=self.name,
                                 **values), to)

    def bye(self, to=None, instance=None):
        self.send(qdeswire.Bye(self.netid, instance or self.instance), to)

    def prove(self, port):
        """Have PORT believe that this endpoint is where it is."""
        before = port.counters['peers-proven']
        self.hello(to=port.address, padded=qdeswire.HELLO_PADDED,
                   capabilities=qdeswire.CAP_ECHO)
        end = time.monotonic() + 10 * PATIENCE
        while port.counters['peers-proven'] == before:
            assert time.monotonic() < end, 'no ECHO came'
            self.receive(0.1)

    def data(self, dst, src, to=None, size=60):
        """Send a frame that nobody has sent before, and return it."""
        data = frame(dst, src, marker(), size=size)
        self.send(qdeswire.Data(self.netid, data), to)
        return data

    def receive(self, timeout=5.0, sockets=None):
        """(message, came by the group) or None; own floods are left out."""
        sockets = sockets or [self.sock, self.group_sock]
        own = self.sock.getsockname()[:2]
        end = time.monotonic() + timeout
        while True:
            left = max(0, end - time.monotonic())
            ready = select.select(sockets, [], [], left)[0]
            if not ready:
                return None
            datagram, sender = ready[0].recvfrom(70000)
            if sender[:2] == own:
                continue
            message = qdeswire.decode(datagram)
            message.sender = sender[:2]
            if isinstance(message, qdeswire.Echo) and self.answers:
                self.sock.sendto(qdeswire.encode(qdeswire.EchoReply(
                    message.netid, message.nonce, sender[:2])), sender)
                continue
            return message, ready[0] is self.group_sock

    def expect(self, data, timeout=5.0):
        """Wait for a frame; return True if it came by the group."""
        timeout *= PATIENCE
        end = time.monotonic() + timeout
        while True:
            got = self.receive(max(0, end - time.monotonic()))
            assert got is not None, f'no {data[:40].hex()} within {timeout} s'
            if isinstance(got[0], qdeswire.Data) and got[0].frame == data:
                return got[1]

    def expect_message(self, kind, timeout=5.0):
        """Wait for a message of this class; return it and how it came."""
        timeout *= PATIENCE
        end = time.monotonic() + timeout
        while True:
            got = self.receive(max(0, end - time.monotonic()))
            assert got is not None, f'no {kind.__name__} within {timeout} s'
            if isinstance(got[0], kind):
                return got

    def close(self):
        self.sock.close()
        self.group_sock.close()


def endpoint(text):
    """('10.80.0.1', 4242) of "10.80.0.1:4242" or "[fd80::1]:4242"."""
    if isinstance(text, tuple):
        return text
    host, _, port = text.rpartition(':')
    return host.strip('[]'), int(port)
