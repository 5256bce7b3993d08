# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP connections that go on for minutes, whose every byte is checked.

What each side sends is a pattern that is known at every offset, so that a
byte that is lost, changed, doubled, or in the wrong place is seen as it comes,
and where.  One thread moves all of them, a little at a time: they are to be
there all the time, not to fill the machine.
"""

import errno
import random
import selectors
import socket
import threading
import time

# Around the limits of segments and of superframes.
PIECES = [1, 100, 1448, 1449, 20000, 65536, 100000]
PAUSE = (0.005, 0.06)       # seconds between pieces
POOL = (1 << 20) + 7        # a period that fits no buffer
RETRY = 0.2                 # seconds until a connection is tried again
PENDING = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK)


class Broken(Exception):
    """A connection ended, or brought other bytes than were sent."""


class Pattern:
    """Bytes that are known at every offset."""

    def __init__(self, seed):
        self.pool = random.Random(seed).randbytes(POOL)
        self.pool += self.pool[:1 << 19]

    def at(self, offset, size):
        start = offset % POOL
        return self.pool[start:start + size]


class Side:
    """One end of a connection."""

    def __init__(self, sock, pattern):
        self.sock = sock
        self.pattern = pattern
        self.sent = 0
        self.received = 0
        self.due = 0.0
        self.shut = False
        self.ended = False
        self.other = None
        self.last = time.monotonic()
        self.stall = 0.0        # the longest time without a byte

    def read(self):
        while not self.ended:
            try:
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                return
            if not data:
                self.ended = True
                return
            want = self.other.pattern.at(self.received, len(data))
            if data != want:
                first = next(i for i, (a, b) in enumerate(zip(data, want))
                             if a != b)
                raise Broken(f'other bytes than were sent, from '
                             f'{self.received + first} on')
            self.received += len(data)
            now = time.monotonic()
            self.stall = max(self.stall, now - self.last)
            self.last = now

    def write(self, rnd, now, ending):
        if self.shut or (now < self.due and not ending):
            return
        if ending:
            self.sock.shutdown(socket.SHUT_WR)
            self.shut = True
            return
        self.due = now + rnd.uniform(*PAUSE)
        try:
            self.sent += self.sock.send(
                self.pattern.at(self.sent, rnd.choice(PIECES)))
        except BlockingIOError:
            pass


class Flow:
    """A connection of a station, and each side of it that is here."""

    def __init__(self, name, client, address, seed):
        self.name = name
        self.client, self.address = client, address
        self.family = socket.AF_INET6 if ':' in address else socket.AF_INET
        self.rnd = random.Random(seed)
        self.patterns = [Pattern(f'{seed}/{i}') for i in range(2)]
        self.ending = False
        self.lost = False       # whoever is at its other end is no more
        self.done = False
        self.error = None
        self.sides = []
        self.sock = None
        self.tried = 0.0

    @property
    def received(self):
        return [side.received for side in self.sides] or [0, 0]

    @property
    def stall(self):
        now = time.monotonic()
        return max((max(s.stall, 0 if self.done else now - s.last)
                    for s in self.sides), default=0)

    def _connect(self, now):
        """Set the sides as soon as they are connected."""
        raise NotImplementedError

    def _open(self, now, where):
        """The way there may be down: a connection is tried until it is."""
        if self.sock is None:
            if now < self.tried + RETRY:
                return False
            self.tried = now
            self.sock = self.client.socket(self.family, socket.SOCK_STREAM)
            self.sock.setblocking(False)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY,
                                 self.rnd.randrange(2))
        error = self.sock.connect_ex(where)
        if error not in (0, errno.EISCONN, *PENDING):
            self.sock.close()
            self.sock = None
        return error in (0, errno.EISCONN)

    def step(self, now):
        if self.lost:
            self.done = True
            return
        if not self.sides:
            self._connect(now)
            return
        for side in self.sides:
            side.write(self.rnd, now, self.ending)
            side.read()
            if side.ended and not self.ending:
                raise Broken('it ended by itself')
        if all(side.ended for side in self.sides):
            for side in self.sides:
                if side.received != side.other.sent:
                    raise Broken(f'{side.other.sent} bytes were sent, '
                                 f'{side.received} came')
            self.done = True

    def close(self):
        for sock in [self.sock, *(s.sock for s in self.sides)]:
            if sock:
                sock.close()


class Pair(Flow):
    """Between two stations; both send."""

    def __init__(self, name, client, server, address, seed):
        super().__init__(name, client, address, seed)
        self.listener = server.socket(self.family, socket.SOCK_STREAM)
        self.listener.setblocking(False)
        self.listener.bind((address, 0))
        self.listener.listen(4)

    def _connect(self, now):
        if not self._open(now, self.listener.getsockname()):
            return
        try:
            peer, whose = self.listener.accept()
        except BlockingIOError:
            return
        if whose != self.sock.getsockname():
            peer.close()
            return
        peer.setblocking(False)
        here, there = (Side(s, p) for s, p in zip((self.sock, peer),
                                                  self.patterns))
        here.other, there.other = there, here
        self.sides = [here, there]

    def close(self):
        super().close()
        self.listener.close()


class Echo(Flow):
    """To a guest, which sends back what it gets."""

    PORT = 7
    SERVER = f'socat TCP6-LISTEN:{PORT},ipv6only=0,fork EXEC:cat,nofork'

    def _connect(self, now):
        if self._open(now, (self.address, self.PORT)):
            side = Side(self.sock, self.patterns[0])
            side.other = side
            self.sides = [side]


class Traffic(threading.Thread):
    """All connections that there are."""

    def __init__(self):
        super().__init__(daemon=True)
        self.lock = threading.Lock()
        self.flows = []
        self.closed = False
        self.total = 0              # bytes of connections that are over
        self.connections = 0
        self.worst = 0.0            # the longest time without a byte

    def add(self, flow):
        with self.lock:
            self.flows.append(flow)
            self.connections += 1

    def drop(self, flow):
        """One that is over."""
        with self.lock:
            self.flows.remove(flow)
        self.total += sum(flow.received)
        self.worst = max(self.worst, flow.stall)
        flow.close()

    def stop(self):
        self.closed = True
        if self.is_alive():
            self.join(10)

    def run(self):
        while not self.closed:
            with self.lock:
                flows = [f for f in self.flows if not f.error and not f.done]
            selector = selectors.DefaultSelector()
            for flow in flows:
                for side in flow.sides:
                    if not side.ended:
                        selector.register(side.sock, selectors.EVENT_READ)
            # A pause, or processor time would be all that this tests.
            time.sleep(0.002)
            selector.select(0.01)
            selector.close()
            now = time.monotonic()
            for flow in flows:
                try:
                    flow.step(now)
                except (OSError, Broken) as error:
                    flow.error = error
