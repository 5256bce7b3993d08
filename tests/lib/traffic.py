# SPDX-License-Identifier: GPL-2.0-or-later
"""Traffic between two namespaces, whose every byte is checked."""

import hashlib
import os
import socket
import threading
import time


def family_of(address):
    return socket.AF_INET6 if ':' in address else socket.AF_INET


class TcpReceiver:
    """Takes one TCP connection and hashes what comes until its end."""

    def __init__(self, namespace, address, port=0):
        self.listener = namespace.socket(family_of(address),
                                         socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen(1)
        self.port = self.listener.getsockname()[1]
        self.hash = hashlib.sha256()
        self.size = 0
        self.error = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            connection, _ = self.listener.accept()
            with connection:
                connection.settimeout(30)
                while data := connection.recv(1 << 18):
                    self.hash.update(data)
                    self.size += len(data)
        except OSError as error:
            self.error = error

    def result(self, timeout=30):
        """(bytes, SHA-256) of all that came."""
        self.thread.join(timeout)
        assert not self.thread.is_alive(), f'only {self.size} bytes came'
        assert self.error is None, self.error
        return self.size, self.hash.hexdigest()


def tcp_transfer(client, server, address, size=8 << 20):
    """Send SIZE random bytes to the server by TCP; they arrive unharmed."""
    receiver = TcpReceiver(server, address)
    data = os.urandom(size)
    sock = client.socket(family_of(address), socket.SOCK_STREAM)
    sock.settimeout(30)
    with sock:
        sock.connect((address, receiver.port))
        sock.sendall(data)
    assert receiver.result() == (size, hashlib.sha256(data).hexdigest())


def udp_exchange(client, server, address, sizes):
    """Datagrams of these SIZES go to the server and back, unharmed."""
    family = family_of(address)
    there, here = server.socket(family), client.socket(family)
    there.bind((address, 0))
    for size in sizes:
        data = os.urandom(size)
        here.sendto(data, there.getsockname())
        got, sender = there.recvfrom(70000)
        assert got == data, f'{size} bytes came as {len(got)} others'
        there.sendto(got, sender)
        assert here.recv(70000) == data
    there.close()
    here.close()


class Dialogue:
    """A TCP connection to an echo server, with something said all the time.

    Every line that was sent has to come back, in order.
    """

    def __init__(self, namespace, address, port):
        self.sock = namespace.socket(family_of(address), socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect((address, port))
        self.going = True
        self.lines = 0
        self.longest = 0
        self.error = None
        self.thread = threading.Thread(target=self._talk, daemon=True)
        self.thread.start()

    def _talk(self):
        try:
            with self.sock, self.sock.makefile('rb') as answers:
                while self.going:
                    line = f'line {self.lines}\n'.encode()
                    start = time.monotonic()
                    self.sock.sendall(line)
                    answer = answers.readline()
                    assert answer == line, f'{line!r} came as {answer!r}'
                    self.longest = max(self.longest,
                                       time.monotonic() - start)
                    self.lines += 1
                    time.sleep(0.01)
        except (OSError, AssertionError) as error:
            self.error = error

    def finish(self):
        self.going = False
        self.thread.join(25)
        assert not self.thread.is_alive()
        assert self.error is None, self.error
