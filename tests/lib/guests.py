# SPDX-License-Identifier: GPL-2.0-or-later
"""Real guests as hosts of a test's network: QEMU runs in a namespace.

QEMU has no privilege at all, as when an ordinary user starts it: it runs
with an empty set of capabilities, so that not even root's are left.
"""

import os
import re
from pathlib import Path

from guest import GUEST_DIR, Guest
from ports import ROOT, Port
from procs import LogCheck, Process, wait_for

QDES_QEMU = os.environ.get('QDES_QEMU',
                           str(ROOT / 'build/qemu/qemu-system-x86_64'))
QDES_GUEST = Path(os.environ.get('QDES_GUEST', GUEST_DIR))


def why_not():
    """Why no guest can be started here; None if one can."""
    if not os.access(QDES_QEMU, os.X_OK):
        return f'{QDES_QEMU} is not built (or set QDES_QEMU)'
    if not (QDES_GUEST / 'vmlinux').exists():
        return (f'no guest in {QDES_GUEST}: tests/guest/build makes it '
                '(or set QDES_GUEST)')
    return None


class QemuProcess(Process):
    """The QEMU of a guest, as tests look at programs."""

    def __init__(self, guest):
        # pylint: disable=super-init-not-called
        self.popen = guest.process
        self.argv = list(guest.process.args)
        self.log_path = guest.qemu_log
        self.ended_by_test = False


class GuestPort(Port):
    """One qdes netdev of a guest."""

    def __init__(self, machine, netdev):
        super().__init__(f'{machine.name}/{netdev}')
        self.machine = machine
        self.netdev = netdev

    def status(self):
        for info in self.machine.guest.qmp('query-qdes'):
            if info['id'] == self.netdev:
                return info
        raise AssertionError(f'query-qdes does not know {self.netdev}')


class Machine:
    """A guest on a host, with a port for each of its cards net0, net1..."""

    count = 0

    def __init__(self, network, host, netdevs=('qdes',), **options):
        Machine.count += 1
        self.host = host
        self.network = network
        self.name = options.pop('name', f'vm{Machine.count}')
        # Logs may be where QEMU gets to with root's capabilities only; it
        # inherits them open.
        wrapper = Path(network.run_dir, f'qemu{Machine.count}')
        wrapper.write_text('#!/bin/sh\nexec setpriv --bounding-set=-all '
                           f'--inh-caps=-all -- {QDES_QEMU} "$@"\n')
        wrapper.chmod(0o755)
        workdir = Path(network.run_dir, f'guest{Machine.count}')
        self.guest = Guest(wrapper, netdevs, name=self.name,
                           netns=host.full_name, workdir=workdir,
                           images=QDES_GUEST, **options)
        network.on_close.append(self.guest.stop)
        self.guest.start()
        self.process = QemuProcess(self.guest)
        self.logs = LogCheck(self.process, self.name)
        network.processes.append(self.process)
        self.ports = [GuestPort(self, f'net{i}') for i in range(len(netdevs))]
        network.registry.add(self)

    def __repr__(self):
        return self.name

    def __getattr__(self, name):
        return getattr(self.guest, name)

    @property
    def port(self):
        return self.ports[0]

    @property
    def mac(self):
        return self.guest.macs[0]

    @property
    def alive(self):
        return self.process.running

    @property
    def died(self):
        return not self.alive and not self.process.ended_by_test

    def books(self):
        """The counters of every qdes netdev there is, by name."""
        return {f'{self}/{info["id"]}': info['counters']
                for info in self.guest.qmp('query-qdes')}

    def quit(self):
        """End QEMU as its user would."""
        self.process.ended_by_test = True
        self.guest.qmp('quit')
        assert self.guest.wait_exit() == 0

    # The same words as those of a namespace.

    def ping(self, address, count=3, size=56, wait=5):
        """True when all of COUNT pings were answered, each once."""
        _, self.last_ping = self.guest.run(
            f'ping -q -c {count} -i 0.1 -s {size} -W {wait} {address}')
        return bool(re.search(rf'{count} packets transmitted, {count} packets'
                              r' received, 0% packet loss', self.last_ping))

    def assert_ping(self, address, **kwargs):
        assert self.ping(address, **kwargs), \
            f'{self} pings {address}:\n{self.last_ping}'

    def wait_ping(self, address, deadline):
        """Wait until a ping is answered."""
        wait_for(lambda: self.ping(address, count=1), deadline,
                 lambda: f'{self} to reach {address}: {self.last_ping}')
