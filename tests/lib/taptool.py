# SPDX-License-Identifier: GPL-2.0-or-later
"""qdes-tap as a program: its command line, exit status, and what it leaves.

For what it does as a port, see ports.TapPort.
"""

import json
import os
import shutil
import socket
import subprocess

from ports import QDES_TAP

NOBODY = 65534


def argv(host, args, wrap=(), program=QDES_TAP):
    return [str(a) for a in ('ip', 'netns', 'exec', host.full_name, *wrap,
                             program, *args)]


def run(host, *args, wrap=(), program=QDES_TAP, env=None, **kwargs):
    """Run qdes-tap to its end; gives returncode, stdout and stderr."""
    kwargs.setdefault('stdout', subprocess.PIPE)
    return subprocess.run(
        argv(host, args, wrap, program), stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, errors='replace', timeout=30,
        env={**os.environ, 'LC_ALL': 'C', **(env or {})}, **kwargs)


def start(host, *args, wrap=(), program=QDES_TAP, ready=True, **kwargs):
    """Start qdes-tap in a namespace, and wait until it says it is ready."""
    process = host.start([*wrap, program, *args], 'qdes-tap', **kwargs)
    if ready:
        process.wait_log(r'is ready', 10)
    return process


def refused(host, *args, status=1, wrap=(), program=QDES_TAP):
    """The program ends at once, with one line that says why; returns it."""
    done = run(host, *args, wrap=wrap, program=program)
    assert done.returncode == status, done
    assert done.stdout == ''
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith('qdes-tap: '), lines
    return lines[0].removeprefix('qdes-tap: ')


def links(host):
    """Name -> what ip(8) tells of it, of all interfaces of a host."""
    done = host.run('ip -j -d link')
    return {link['ifname']: link for link in json.loads(done.stdout)}


def is_up(host, interface):
    return 'UP' in links(host)[interface]['flags']


def status(path, *args, program=QDES_TAP):
    """What "qdes-tap status" says about the port at PATH."""
    done = subprocess.run([program, 'status', '--control', path, *args],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=30,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Client:
    """A client of the control socket that does what the test wants."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path)         # waits while the queue is full
        self.sock.settimeout(10)
        self.buffer = b''

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def receive(self):
        """The next answer, or None when the port has closed."""
        while b'\n' not in self.buffer:
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionResetError:
                data = b''
            if not data:
                assert not self.buffer, f'half an answer: {self.buffer}'
                return None
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b'\n')
        return json.loads(line)

    def ask(self, command='query-qdes', **arguments):
        request = {'execute': command}
        if arguments:
            request['arguments'] = arguments
        self.send(json.dumps(request).encode() + b'\n')
        return self.receive()


def proc_status(pid, thread=None):
    """The fields of /proc/PID/status as a dict of texts."""
    path = f'/proc/{pid}/status'
    if thread:
        path = f'/proc/{pid}/task/{thread}/status'
    with open(path, encoding='ascii') as file:
        return {name: value.strip() for name, _, value in
                (line.partition(':') for line in file)}


def mount_wrap(script):
    """Run the program after a shell SCRIPT, in a mount namespace."""
    return ['unshare', '--mount', 'sh', '-ec', script + '\nexec "$@"', 'sh']


# A user who may use /dev/net/tun, as it is on most systems.
AS_NOBODY = mount_wrap(f'''
    mount -t tmpfs -o mode=755 tmpfs /dev/net
    mknod -m 666 /dev/net/tun c 10 200
    set -- setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups "$@"''')


class PublicCopy:
    """The program, and room for files, where every user can reach them."""

    def __init__(self, directory):
        os.chmod(directory, 0o755)
        self.program = os.path.join(directory, 'qdes-tap')
        shutil.copy(QDES_TAP, self.program)
        os.chmod(self.program, 0o755)
        self.files = os.path.join(directory, 'files')
        os.mkdir(self.files)
        os.chmod(self.files, 0o777)

    def path(self, name):
        return os.path.join(self.files, name)
