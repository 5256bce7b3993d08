# SPDX-License-Identifier: GPL-2.0-or-later
"""A name server that answers as a test wants it to, by UDP and TCP.

It counts what it is asked, so that a test sees how often that is.  An answer
that is too long for UDP is marked as truncated there, as RFC 1035 has it.
"""

import contextlib
import socket
import struct
import threading

A, AAAA, SRV = 1, 28, 33
TYPES = {A: 'A', AAAA: 'AAAA', SRV: 'SRV'}
UDP_MAX = 512
NXDOMAIN, SERVFAIL = 3, 2


def encode_name(name):
    labels = name.rstrip('.').split('.')
    return b''.join(bytes([len(label)]) + label.encode()
                    for label in labels) + b'\0'


def decode_question(query):
    """(name, type, the bytes of the question)."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    kind, = struct.unpack_from('>H', query, at + 1)
    return '.'.join(labels), kind, query[12:at + 5]


class DnsServer:
    """The server of the name space HOST, on 127.0.0.1.

    mode is 'answer', 'silent', 'servfail' or 'nxdomain', for all names.
    """

    def __init__(self, host):
        self.host = host
        self.records = {}           # (name, type) -> (ttl, list of values)
        self.mode = 'answer'
        self.glue = True            # SRV answers bring the addresses along
        self.asked = []             # (name, type), in order
        self.by_tcp = 0
        host.etc('resolv.conf', 'nameserver 127.0.0.1\n'
                 'options timeout:1 attempts:1\n')
        host.etc('nsswitch.conf', 'hosts: files dns\n')
        host.etc('hosts', '127.0.0.1 localhost\n10.9.8.7 inhosts\n')
        self.udp = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tcp = host.socket(socket.AF_INET, socket.SOCK_STREAM)
        for sock in (self.udp, self.tcp):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(('127.0.0.1', 53))
            sock.settimeout(0.2)
        self.tcp.listen(8)
        self.ended = False
        self.threads = [threading.Thread(target=target, daemon=True)
                        for target in (self._serve_udp, self._serve_tcp)]
        for thread in self.threads:
            thread.start()
        host.network.on_close.append(self.close)

    def close(self):
        self.ended = True
        for thread in self.threads:
            thread.join(5)

    def set(self, name, kind, ttl, values):
        """A: '10.0.0.1', AAAA: 'fd00::1', SRV: (target, port)."""
        self.records[(name, kind)] = (ttl, values)

    def count(self, name, kind=None):
        return sum(n == name and kind in (None, k) for n, k in self.asked)

    @staticmethod
    def _data(kind, value):
        if kind == SRV:
            target, port = value
            return struct.pack('>HHH', 1, 1, port) + encode_name(target)
        return socket.inet_pton(
            socket.AF_INET if kind == A else socket.AF_INET6, value)

    def _record(self, owner, kind, ttl, value):
        data = self._data(kind, value)
        return owner + struct.pack('>HHIH', kind, 1, ttl, len(data)) + data

    def _answer(self, query):
        """The whole answer; None: there is none."""
        name, kind, question = decode_question(query)
        self.asked.append((name, kind))
        if self.mode == 'silent':
            return None
        ttl, values = self.records.get((name, kind), (0, []))
        code = {'servfail': SERVFAIL, 'nxdomain': NXDOMAIN}.get(self.mode, 0)
        if code:
            values = []
        elif not any(n == name for n, _ in self.records):
            code = NXDOMAIN
        answers = [self._record(b'\xc0\x0c', kind, ttl, v) for v in values]
        extra = []
        if kind == SRV and self.glue:
            for target, _port in values:
                for glue in (A, AAAA):
                    glue_ttl, found = self.records.get((target, glue),
                                                       (0, []))
                    extra += [self._record(encode_name(target), glue,
                                           glue_ttl, v) for v in found]
        head = struct.pack('>HHHHHH', struct.unpack_from('>H', query)[0],
                           0x8580 | code, 1, len(answers), 0, len(extra))
        return head + question + b''.join(answers + extra)

    def _serve_udp(self):
        while not self.ended:
            try:
                query, peer = self.udp.recvfrom(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            answer = self._answer(query)
            if answer and len(answer) > UDP_MAX:
                _, _, question = decode_question(query)
                answer = (answer[:2] + struct.pack('>HHHHH', 0x8780, 1, 0, 0,
                                                   0) + question)
            if answer:
                with contextlib.suppress(OSError):
                    self.udp.sendto(answer, peer)

    def _serve_tcp(self):
        while not self.ended:
            try:
                sock, _ = self.tcp.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            with sock, contextlib.suppress(OSError, struct.error):
                sock.settimeout(2)
                size, = struct.unpack('>H', sock.recv(2))
                answer = self._answer(sock.recv(size))
                self.by_tcp += 1
                if answer:
                    sock.sendall(struct.pack('>H', len(answer)) + answer)
