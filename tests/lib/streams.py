# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP connections side by side, in any direction, whose every byte counts."""

import hashlib
import random
import socket
import threading
import time

from traffic import family_of

# Around the limits of segments, and of what is written at once.
PIECES = [1, 100, 1448, 1449, 20000, 70000, 1 << 18]


class Stream(threading.Thread):
    """SIZE random bytes from one host to another, in pieces of any size."""

    def __init__(self, client, server, address, size, seed, timeout):
        super().__init__(daemon=True)
        self.size = size
        self.rnd = random.Random(seed)
        self.error = None
        self.seconds = None
        family = family_of(address)
        self.listener = server.socket(family, socket.SOCK_STREAM)
        self.listener.settimeout(timeout)
        self.listener.bind((address, 0))
        self.listener.listen(1)
        self.sock = client.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.receiver = threading.Thread(target=self._receive, daemon=True)

    def run(self):
        try:
            self._send()
        except (OSError, AssertionError) as error:
            self.error = error
        finally:
            self.sock.close()
            self.listener.close()

    def _send(self):
        # Some bytes, again and again from anywhere: random ones take time.
        pool = self.rnd.randbytes(1 << 20)
        self.receiver.start()
        digest = hashlib.sha256()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY,
                             self.rnd.randrange(2))
        self.sock.connect(self.listener.getsockname())
        begin = time.monotonic()
        left = self.size
        while left:
            start = self.rnd.randrange(len(pool))
            data = pool[start:start + min(left, self.rnd.choice(PIECES))]
            digest.update(data)
            self.sock.sendall(data)
            left -= len(data)
        self.sock.shutdown(socket.SHUT_WR)
        answer = self.sock.recv(100)
        self.seconds = time.monotonic() - begin
        assert answer.decode() == digest.hexdigest(), \
            f'other bytes came than were sent: {answer}'

    def _receive(self):
        digest = hashlib.sha256()
        try:
            sock, _ = self.listener.accept()
            with sock:
                sock.settimeout(self.listener.gettimeout())
                while data := sock.recv(1 << 18):
                    digest.update(data)
                sock.sendall(digest.hexdigest().encode())
        except OSError as error:
            self.error = error


class Streams:
    """COUNT of them to each (client, server, address) of WAYS, at once."""

    def __init__(self, ways, size, count=1, seed=0, timeout=30):
        self.timeout = timeout
        self.streams = [Stream(*way, size, seed * 100 + i * 10 + j, timeout)
                        for i, way in enumerate(ways) for j in range(count)]
        for stream in self.streams:
            stream.start()

    @property
    def running(self):
        return any(s.is_alive() for s in self.streams)

    def finish(self):
        """Wait for all; fails unless each got what was sent."""
        end = time.monotonic() + self.timeout
        for stream in self.streams:
            stream.join(max(0.1, end - time.monotonic()))
            assert not stream.is_alive(), 'a stream does not end'
            assert stream.error is None, stream.error
        return max(s.seconds for s in self.streams)
