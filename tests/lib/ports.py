# SPDX-License-Identifier: GPL-2.0-or-later
"""Ports of a fabric as tests see them: their status, and their books.

What QEMU (QMP query-qdes) and qdes-tap (its control socket) say has one form,
so a test asks both in the same way.
"""

import json
import os
import re
import subprocess
from pathlib import Path

from frames import mac
from procs import LogCheck, wait_for

ROOT = Path(__file__).resolve().parents[2]
STATS = ROOT / 'subprojects/libqdes/qdes/stats.def'
QDES_TAP = os.environ.get('QDES_TAP', str(ROOT / 'build/tools/qdes-tap/'
                                          'qdes-tap'))


def counter_groups():
    """Counter name -> group, from the one table that defines them."""
    found = re.findall(r'^QDES_COUNTER\((\w+),\s*(\w+)', STATS.read_text(),
                       re.MULTILINE)
    return {name.replace('_', '-'): group for name, group in found}


def unbalanced(counters):
    """Return what is wrong with a port's books, as a list of texts."""
    groups = counter_groups()
    wrong = []
    if set(groups) != set(counters):
        wrong.append('counters differ from stats.def: '
                     f'{sorted(set(groups) ^ set(counters))}')
    for side in ('TX', 'RX'):
        into = {n: v for n, v in counters.items()
                if groups.get(n) == f'{side}_IN'}
        out = {n: v for n, v in counters.items()
               if groups.get(n) == f'{side}_OUT' and v}
        if sum(into.values()) != sum(out.values()):
            wrong.append(f'{into} is not the sum of {out}, which is '
                         f'{sum(out.values())}')
    return wrong


class Port:
    """A port that can tell its status; subclasses know how to ask."""

    def __init__(self, label):
        self.label = label

    def __repr__(self):
        return self.label

    def status(self):
        raise NotImplementedError

    @property
    def counters(self):
        return self.status()['counters']

    def count(self, name):
        return self.counters[name]

    @property
    def fdb(self):
        """MAC -> entry."""
        return {e['mac']: e for e in self.status()['fdb']}

    def peer_of(self, address):
        """The endpoint that has ADDRESS; '' for a local or unknown one.

        For conditions to wait for: what an ICMP error or a BYE removes is not
        there for a moment, and learned anew.
        """
        return self.fdb.get(address, {}).get('peer', '')

    @property
    def peers(self):
        return self.status()['peers']

    @property
    def address(self):
        return self.status()['local']

    def peer_named(self, name):
        for peer in self.peers:
            if peer['name'] == name:
                return peer
        return None

    def wait_peers(self, count, deadline=5.0):
        """Wait until exactly COUNT peers have said HELLO."""
        wait_for(lambda: sum(p['state'] == 'alive' for p in self.peers) ==
                 count, deadline,
                 lambda: f'{count} peers of {self}, there: {self.peers}')

    def wait_count(self, name, value, deadline=5.0):
        """Wait until the counter NAME is at least VALUE."""
        wait_for(lambda: self.count(name) >= value, deadline,
                 lambda: f'{name} of {self} to be {value}: {self.counters}')

    def wait_mac(self, address, deadline=5.0):
        """Wait until ADDRESS is in the FDB and return its entry."""
        return wait_for(lambda: self.fdb.get(address), deadline,
                        lambda: f'{address} in the FDB of {self}: {self.fdb}')

    def changes(self, before):
        """Counters that differ from those in BEFORE, and by how much."""
        return {n: v - before[n] for n, v in self.counters.items()
                if v != before[n]}


class TapPort(Port):
    """A qdes-tap in a namespace."""

    number = 0

    def __init__(self, registry, host, tap='tap0', **options):
        """OPTIONS are qdes-tap's own, with '_' for '-'; True for flags.

        A list is for an option that is given several times.
        """
        super().__init__(f'{host.name}/{tap}')
        TapPort.number += 1
        self.host = host
        self.tap = tap
        self.control = f'{host.network.run_dir}/{host.number}-{tap}'
        options.setdefault('name', f'{host.name}-{tap}')
        argv = [QDES_TAP, '--tap', tap, '--control', self.control]
        for key, value in options.items():
            for each in value if isinstance(value, list) else [value]:
                argv.append('--' + key.replace('_', '-'))
                if each is not True:
                    argv.append(str(each))
        self.process = host.start(argv, f'qdes-{tap}')
        self.logs = LogCheck(self.process, str(self))
        self.name = options['name']
        self.mac = mac(TapPort.number)
        registry.add(self)

    def wait_ready(self):
        def ready():
            assert self.process.running, \
                f'{self} ended at once:\n{self.process.log}'
            return os.path.exists(self.control) and self.try_status()
        wait_for(ready, 10, lambda: f'{self} to be ready: {self.process.log}')
        return self

    def try_status(self):
        done = subprocess.run(
            [QDES_TAP, 'status', '--json', '--control', self.control],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=10)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def status(self):
        status = self.try_status()
        assert status is not None, \
            f'{self} does not answer:\n{self.process.log}'
        return status

    def configure(self, address=None, address6=None, mac_address=None):
        """Give the TAP a MAC address and IP addresses (with a prefix)."""
        self.mac = mac_address or self.mac
        lines = [f'link set {self.tap} address {self.mac}']
        if address:
            lines.append(f'addr add {address} dev {self.tap}')
        if address6:
            self.host.enable_ipv6(self.tap)
            lines.append(f'addr add {address6} dev {self.tap} nodad')
        self.host.ip(*lines)
        return self

    @property
    def alive(self):
        return self.process.running

    @property
    def died(self):
        return not self.process.running and not self.process.ended_by_test

    def books(self):
        return {str(self): self.counters}

    def stop(self):
        """End the port as its user would; it has to end well."""
        wrong = unbalanced(self.counters)
        status = self.process.stop()
        assert not wrong, f'{self}: {wrong}'
        assert status == 0, f'{self} ended with {status}: {self.process.log}'
        assert not os.path.exists(self.control), f'{self.control} is left'


class Registry:
    """Every program with ports, to be checked after each test.

    Each has a process, a log check, alive and died, and books(): counters by
    the name of a port.
    """

    def __init__(self):
        self.programs = []

    def add(self, program):
        self.programs.append(program)

    def check(self):
        """Return what is wrong with any of the programs, as texts."""
        wrong = []
        for program in self.programs:
            if program.died:
                wrong.append(f'{program} ended by itself, status '
                             f'{program.process.popen.returncode}')
            wrong += program.logs.check()
            if program.alive:
                # Whatever goes wrong while asking is a finding too.
                try:
                    wrong += [f'{name}: {text}'
                              for name, counters in program.books().items()
                              for text in unbalanced(counters)]
                except Exception as error:  # pylint: disable=broad-except
                    wrong.append(f'{program}: {error}')
        return wrong
