# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts and networks made of network namespaces.

A Network is a set of hosts and switches that a test makes and that vanishes
with it:

    host a          switch (a bridge)          host b
    eth0 ------------ port | port ------------ eth0
    10.80.0.1/24                               10.80.0.2/24
    fd80:0::1/64                               fd80:0::2/64

All of a run's namespaces and folders are called qdes-PID-..., with the process
ID of the run: two runs do not meet, and what a killed run has left is known by
its dead process and removed by the next one.
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from procs import Process, wait_for

CLONE_NEWNET = 0x40000000
NETNS_DIR = '/run/netns'
ETC_DIR = '/etc/netns'
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f'setns: {os.strerror(error)}')


def command(argv, check=True, timeout=60, stdin=None):
    """Run a program to its end; its output is text."""
    done = subprocess.run([str(a) for a in argv], input=stdin, text=True,
                          stdin=None if stdin else subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=timeout, errors='replace',
                          env={**os.environ, 'LC_ALL': 'C'})
    if check and done.returncode:
        raise AssertionError(f'{" ".join(done.args)}: exit status '
                             f'{done.returncode}\n{done.stdout}')
    return done


def remove_namespace(name):
    """End what runs in a namespace of ours, and remove it."""
    pids = command(['ip', 'netns', 'pids', name], check=False)
    if pids.returncode == 0:
        for pid in pids.stdout.split():
            with contextlib.suppress(ValueError, ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    command(['ip', 'netns', 'del', name], check=False)
    shutil.rmtree(f'{ETC_DIR}/{name}', ignore_errors=True)


def namespaces(pid=None):
    """The namespaces of test runs (of the run PID) that exist now."""
    regex = re.compile(rf'qdes-{pid if pid is not None else "[0-9]+"}-')
    try:
        return [n for n in sorted(os.listdir(NETNS_DIR)) if regex.match(n)]
    except FileNotFoundError:
        return []


def run_dirs(pid=None):
    """The folders for Unix sockets that test runs have now."""
    own = '[0-9]*' if pid is None else pid
    return sorted(Path(tempfile.gettempdir()).glob(f'qdes-{own}-*'))


def sweep(pid=None):
    """Remove what run PID has left, or what all dead runs have."""
    def is_due(name):
        owner = name.split('-')[1]
        return owner.isdigit() and (pid is not None or
                                    not os.path.exists(f'/proc/{owner}'))
    for name in namespaces(pid):
        if is_due(name):
            remove_namespace(name)
    for path in run_dirs(pid):
        if is_due(path.name):
            shutil.rmtree(path, ignore_errors=True)


class Namespace:
    """A network namespace with only lo, which is up."""

    def __init__(self, network, name):
        self.network = network
        self.name = name
        # Names may come twice in a network, numbers do not.
        self.number = len(network.namespaces)
        self.full_name = f'{network.prefix}{self.number}-{name}'
        self.path = f'{NETNS_DIR}/{self.full_name}'
        command(['ip', 'netns', 'add', self.full_name])
        network.namespaces.append(self)
        # IPv6 appears on an interface only where a test asks for it: its
        # router solicitations and MLD reports would spoil exact counts.
        self.sysctl('net.ipv6.conf.default.disable_ipv6', 1)
        self.sysctl('net.ipv6.conf.default.accept_dad', 0)
        self.ip('link set lo up')

    def __repr__(self):
        return self.name

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is in the namespace for a while."""
        own = os.open('/proc/thread-self/ns/net', os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _setns(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _setns(own)
        finally:
            os.close(own)

    def etc(self, name, text):
        """What programs of the namespace that start now find as /etc/NAME."""
        folder = Path(ETC_DIR, self.full_name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding='ascii')

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_DGRAM, proto=0):
        """A socket of this namespace, for use by the test itself."""
        with self.entered():
            sock = socket.socket(family, kind, proto)
        sock.settimeout(10)
        self.network.sockets.append(sock)
        return sock

    def sysctl(self, key, value):
        path = '/proc/sys/' + key.replace('.', '/')
        with self.entered(), open(path, 'w', encoding='ascii') as file:
            file.write(str(value))

    def run(self, argv, check=True, timeout=60, stdin=None):
        """Run a program (a list, or text without quoting) to its end."""
        if isinstance(argv, str):
            argv = argv.split()
        return command(['ip', 'netns', 'exec', self.full_name, *argv],
                       check, timeout, stdin)

    def ip(self, *lines, check=True):
        """Run ip(8) commands, in one process."""
        return command(['ip', '-n', self.full_name, '-batch', '-'],
                       check, stdin='\n'.join(lines) + '\n')

    def start(self, argv, label, env=None, **kwargs):
        """Start a program that runs beside the test."""
        log = self.network.log_path(f'{self.name}-{label}')
        process = Process(['ip', 'netns', 'exec', self.full_name, *argv],
                          log, env, **kwargs)
        self.network.processes.append(process)
        return process

    def nft(self, rules):
        self.run(['nft', '-f', '-'], stdin=rules)

    def enable_ipv6(self, interface):
        self.sysctl(f'net.ipv6.conf.{interface}.accept_dad', 0)
        self.sysctl(f'net.ipv6.conf.{interface}.router_solicitations', 0)
        self.sysctl(f'net.ipv6.conf.{interface}.disable_ipv6', 0)

    def ping(self, address, count=3, size=56, deadline=10, interval=0.05,
             extra=()):
        """True when all of COUNT pings were answered, each once."""
        done = self.run(['ping', '-n', '-c', count, '-s', size, '-i',
                         interval, '-w', deadline, *extra, address],
                        check=False, timeout=deadline + 20)
        self.last_ping = done.stdout
        # Until the last answer is there, it goes on to send.
        answers = re.findall(r' icmp_seq=(\d+) ttl', done.stdout)
        return (len(answers) >= count and sorted(map(int, answers)) ==
                list(range(1, len(answers) + 1)))

    def assert_ping(self, address, **kwargs):
        assert self.ping(address, **kwargs), \
            f'{self} pings {address}:\n{self.last_ping}'

    def capture(self, interface, expression='', label='tcpdump'):
        """Record a pcap of INTERFACE until the returned one is stopped."""
        pcap = self.network.log_path(f'{self.name}-{label}', '.pcap')
        process = self.start(
            ['tcpdump', '-Z', 'root', '-n', '-U', '-i', interface, '-s', '0',
             '--immediate-mode', '-w', pcap, *expression.split()], label)
        process.pcap = pcap
        process.wait_log(r'listening on')
        return process


class Host(Namespace):
    """A host: eth0, eth1, ... each on a switch, or none at all."""

    def __init__(self, network, name, switches, default_route=True):
        super().__init__(network, name)
        self.addresses = []
        self.addresses6 = []
        for switch in switches:
            self.connect(switch)
        if switches and default_route:
            self.ip('route add default dev eth0')

    @property
    def address(self):
        return self.addresses[0]

    @property
    def address6(self):
        return self.addresses6[0]

    def connect(self, switch, number=None):
        """Plug a new interface into SWITCH; returns its name."""
        interface = f'eth{len(self.addresses) if number is None else number}'
        port = switch.new_port()
        command(['ip', '-batch', '-'], stdin=f'link add {interface} netns '
                f'{self.full_name} mtu {switch.mtu} type veth peer name '
                f'{port} netns {switch.full_name} mtu {switch.mtu}\n')
        switch.ip(f'link set {port} master br0 up')
        self.enable_ipv6(interface)
        index = switch.next_host()
        address = f'10.80.{switch.subnet}.{index}'
        address6 = f'fd80:{switch.subnet}::{index:x}'
        self.ip(f'link set {interface} up',
                f'addr add {address}/24 dev {interface}',
                f'addr add {address6}/64 dev {interface} nodad')
        self.addresses.append(address)
        self.addresses6.append(address6)
        return interface


class Switch(Namespace):
    """A bridge, in a namespace of its own, that joins hosts."""

    def __init__(self, network, number, mtu):
        super().__init__(network, f'sw{number}')
        self.subnet = number
        self.mtu = mtu
        self.ports = 0
        self.hosts = 0
        self.ip('link add br0 type bridge forward_delay 0 stp_state 0 '
                'mcast_snooping 0', f'link set br0 mtu {mtu} up')

    def new_port(self):
        self.ports += 1
        return f'p{self.ports}'

    def next_host(self):
        self.hosts += 1
        return self.hosts


class Network:
    """All that one test makes; close() removes it whatever happened."""

    runs = 0

    def __init__(self, log_dir):
        Network.runs += 1
        self.prefix = f'qdes-{os.getpid()}-{Network.runs}-'
        self.log_dir = log_dir
        # For Unix sockets, whose paths have to be short.
        self.run_dir = tempfile.mkdtemp(prefix=self.prefix)
        self.namespaces = []
        self.processes = []
        self.sockets = []
        self.on_close = []
        self.logs = 0
        self.switches = 0

    def log_path(self, label, suffix='.log'):
        self.logs += 1
        return os.path.join(self.log_dir, f'{self.logs:02}-{label}{suffix}')

    def namespace(self, name):
        return Namespace(self, name)

    def switch(self, mtu=1500):
        switch = Switch(self, self.switches, mtu)
        self.switches += 1
        return switch

    def host(self, name, *switches, **kwargs):
        return Host(self, name, switches, **kwargs)

    def hosts(self, count, mtu=1500):
        """COUNT hosts on one switch, called h1, h2, ..."""
        switch = self.switch(mtu)
        return [self.host(f'h{i + 1}', switch) for i in range(count)]

    def close(self):
        for sock in self.sockets:
            sock.close()
        for action in self.on_close:
            action()
        for process in self.processes:
            if process.running:
                process.ended_by_test = True
                process.send(signal.SIGCONT)
                process.send(signal.SIGTERM)
        for process in self.processes:
            with contextlib.suppress(AssertionError):
                wait_for(lambda p=process: not p.running, 3)
            process.kill()
        for namespace in reversed(self.namespaces):
            remove_namespace(namespace.full_name)
        self.namespaces = []
        shutil.rmtree(self.run_dir, ignore_errors=True)
