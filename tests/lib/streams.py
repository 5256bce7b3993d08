# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP connections side by side, in any direction, whose every byte counts."""

import hashlib
import random
import socket
import threading
import time

from procs import PATIENCE, wait_for
from traffic import family_of

# Around the limits of segments, and of what is written at once.
PIECES = [1, 100, 1448, 1449, 20000, 70000, 1 << 18]


class Stream(threading.Thread):
    """SIZE random bytes from one host to another, in pieces of any size.

    With a size of None, it goes on until it is told to end.
    """

    def __init__(self, client, server, address, size, seed, timeout):
        super().__init__(daemon=True)
        self.size = size
        self.received = 0
        self.ending = False
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
        sent = 0
        while sent != self.size and not self.ending:
            start = self.rnd.randrange(len(pool))
            data = pool[start:start + self.rnd.choice(PIECES)]
            if self.size is not None:
                data = data[:self.size - sent]
            digest.update(data)
            self.sock.sendall(data)
            sent += len(data)
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
                    self.received += len(data)
                sock.sendall(digest.hexdigest().encode())
        except OSError as error:
            self.error = error


class Streams:
    """COUNT of them to each (client, server, address) of WAYS, at once."""

    def __init__(self, ways, size, count=1, seed=0, timeout=30):
        self.timeout = timeout * PATIENCE
        self.streams = [Stream(*way, size, seed * 100 + i * 10 + j,
                               self.timeout)
                        for i, way in enumerate(ways) for j in range(count)]
        for stream in self.streams:
            stream.start()

    def assert_progress(self, size=1 << 20, deadline=10):
        """Within DEADLINE seconds, each gets SIZE bytes further."""
        before = [s.received for s in self.streams]
        wait_for(lambda: all(s.received >= b + size or not s.is_alive()
                             for s, b in zip(self.streams, before)), deadline,
                 lambda: 'streams to go on: they got '
                 f'{[s.received - b for s, b in zip(self.streams, before)]}')
        assert all(s.is_alive() for s in self.streams)

    def finish(self):
        """Wait for all; fails unless each got what was sent."""
        for stream in self.streams:
            stream.ending = stream.size is None
        end = time.monotonic() + self.timeout
        for stream in self.streams:
            stream.join(max(0.1, end - time.monotonic()))
            assert not stream.is_alive(), 'a stream does not end'
            assert stream.error is None, stream.error
        return max(s.seconds for s in self.streams)


class Paced(threading.Thread):
    """A TCP connection that sends a little each millisecond, so that none of
    it is lost unless somebody loses it; and when its bytes came.

    Its end is not waited for when it is told to end: sockets close.
    """

    PIECE = 4000                # bytes

    def __init__(self, client, server, address, timeout=60):
        super().__init__(daemon=True)
        family = family_of(address)
        self.error = None
        self.received = 0
        self.ending = False
        self.largest = 0        # seconds without a byte
        self.last = time.monotonic()
        self.listener = server.socket(family, socket.SOCK_STREAM)
        self.listener.bind((address, 0))
        self.listener.listen(1)
        self.sock = client.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout * PATIENCE)
        self.sock.connect(self.listener.getsockname())
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(timeout * PATIENCE)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.start()
        self.reader.start()
        self.wait_progress()

    def run(self):
        try:
            while not self.ending:
                self.sock.sendall(bytes(self.PIECE))
                time.sleep(0.001)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.error = error

    def _read(self):
        try:
            while data := self.peer.recv(1 << 16):
                now = time.monotonic()
                self.largest = max(self.largest, now - self.last)
                self.last = now
                self.received += len(data)
        except OSError as error:
            self.error = error

    def forget(self):
        """What was is not counted."""
        self.largest = 0
        self.last = time.monotonic()

    @property
    def gap(self):
        """The longest time without a byte, of now too."""
        return max(self.largest, time.monotonic() - self.last)

    def wait_progress(self, size=20000, deadline=10):
        before = self.received
        wait_for(lambda: self.received >= before + size or self.error,
                 deadline, lambda: f'bytes; none for {self.gap} s')
        assert self.error is None, self.error

    def finish(self):
        self.ending = True
        self.join(10)
        self.reader.join(10 * PATIENCE)
        assert not self.reader.is_alive(), 'a stream does not end'
        assert self.error is None, self.error
        self.sock.close()
        self.peer.close()
