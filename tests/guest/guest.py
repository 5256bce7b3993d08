# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot the test guest in QEMU and run commands in it.

    with Guest(qemu, ['qdes,netid=7'], addresses=['10.77.0.1/24']) as one:
        status, output = one.run('ping -c 1 10.77.0.2')

A Guest owns one QEMU process.  It talks to QEMU (QMP) and to the agent in
the guest over socket pairs the process inherits, so there are no socket
files, no ports to choose and nothing to connect to too early, and it does
not matter as which user or in which network namespace QEMU runs.  QEMU dies
with the thread that started it, however that ends.

Every wait has a deadline; on a slow machine, or with sanitizers, set
QDES_PATIENCE=3 to have three times as long everywhere.
"""

import base64
import collections
import hashlib
import json
import os
import pwd
import select
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

GUEST_DIR = Path(__file__).resolve().parent.parent.parent / '.cache' / 'guest'

PATIENCE = float(os.environ.get('QDES_PATIENCE', '1'))

NICS = ('virtio-net-pci', 'e1000', 'e1000e', 'rtl8139')

KERNEL_ARGS = 'console=ttyS0 quiet panic=-1 mitigations=off'


class GuestError(Exception):
    """The guest, or its QEMU, did not do what it should."""


class QMPError(GuestError):
    """QMP answered with an error."""

    def __init__(self, error):
        super().__init__(f'{error["class"]}: {error["desc"]}')
        self.error_class = error['class']
        self.desc = error['desc']


def deadline_in(seconds):
    return time.monotonic() + seconds * PATIENCE


class Line:
    """One end of a socket pair, read line by line with a deadline."""

    def __init__(self, what):
        self.what = what
        self.sock, self.far = socket.socketpair()
        self.buffer = b''

    def close(self):
        self.sock.close()
        self.far.close()

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError as err:
            raise GuestError(f'{self.what}: {err}') from err

    def read(self, deadline):
        """The next line, or None when the deadline passes first."""
        while b'\n' not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                return None
            try:
                data = self.sock.recv(65536)
            except ConnectionError:
                data = b''
            if not data:
                raise GuestError(f'{self.what}: closed by QEMU')
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b'\n')
        return line


class Guest:
    """A guest with network cards on the given netdevs.

    qemu       path of qemu-system-x86_64
    netdevs    one string per card, as for -netdev but without an id; the
               ids are net0, net1…, the cards nic0, nic1…
    nic        model of the cards, or a list with one per card
    addresses  one string per card: what tests/guest/init takes for
               qdes.ethN, such as '10.77.0.1/24,fd77::1/64,mtu=1400';
               None leaves a card down
    macs       one per card; None leaves the choice (always the same) to
               QEMU; by default each guest name has its own
    name       for logs, the host name in the guest, and QEMU's -name
    accel      'tcg' or 'kvm', see pick_accel()
    netns      name of the network namespace to run QEMU in (needs root)
    user       name of the user to run QEMU as (needs root)
    incoming   wait for a migration instead of booting, see migrate_to()
    console    path of a Unix socket that QEMU opens for the console; the
               log is written anyway
    extra      further arguments for QEMU
    workdir    where the logs go; by default a temporary folder, removed
               when the guest stops
    """

    # pylint: disable=too-many-instance-attributes

    def __init__(self, qemu, netdevs=(), *, nic='virtio-net-pci',
                 addresses=(), macs=(), name='guest', memory=192,
                 accel='tcg', machine='pc', netns=None, user=None,
                 incoming=False, console=None, extra=(), append='',
                 workdir=None, images=GUEST_DIR):
        self.qemu = str(qemu)
        self.name = name
        self.netdevs = list(netdevs)
        self.nics = [nic] * len(self.netdevs) if isinstance(nic, str) \
            else list(nic)
        self.addresses = list(addresses)
        self.macs = list(macs) or [self._mac(i)
                                   for i in range(len(self.netdevs))]
        self.memory, self.accel, self.machine = memory, accel, machine
        self.netns, self.user = netns, user
        self.incoming, self.console = incoming, console
        self.extra, self.append = list(extra), append
        self.images = Path(images)
        self._own_workdir = workdir is None
        self.workdir = Path(workdir or tempfile.mkdtemp(prefix='qdes-'))
        self.workdir.mkdir(parents=True, exist_ok=True)
        if user:
            entry = pwd.getpwnam(user)
            os.chown(self.workdir, entry.pw_uid, entry.pw_gid)
        self.console_log = self.workdir / f'{name}.console'
        self.qemu_log = self.workdir / f'{name}.qemu'
        self.events = collections.deque()
        self.process = None
        self._ready = False
        self._qmp_on = False
        self._last_id = 0
        self._agent = self._monitor = None

    def _mac(self, index):
        digest = hashlib.sha256(f'{self.name}/{index}'.encode()).digest()
        return '52:54:00:' + ':'.join(f'{b:02x}' for b in digest[:3])

    # --- The command line ---------------------------------------------------

    def network_args(self):
        """The part of the command line that is about the network."""
        args = []
        for i, netdev in enumerate(self.netdevs):
            args += ['-netdev', f'{netdev},id=net{i}']
            device = f'{self.nics[i]},netdev=net{i},id=nic{i}'
            if i < len(self.macs) and self.macs[i]:
                device += f',mac={self.macs[i]}'
            # No boot ROM: nobody boots over the network here.
            args += ['-device', device + ',romfile=']
        return args

    def boot_args(self):
        """The part that is about the machine and what it boots."""
        words = [KERNEL_ARGS, f'qdes.name={self.name}']
        words += [f'qdes.eth{i}={what}'
                  for i, what in enumerate(self.addresses)
                  if what is not None]
        return ['-name', self.name, '-machine', self.machine,
                '-accel', self.accel,
                '-cpu', 'host' if self.accel == 'kvm' else 'max',
                '-m', str(self.memory), '-nodefaults', '-display', 'none',
                '-no-reboot', '-kernel', str(self.images / 'vmlinux'),
                '-initrd', str(self.images / 'initrd'),
                '-append', ' '.join(words + [self.append]).strip()]

    def _channel_args(self):
        if self.console:
            console = (f'socket,id=console,path={self.console},server=on,'
                       f'wait=off,logfile={self.console_log}')
        else:
            console = 'stdio,id=console,signal=off'
        args = ['-chardev', console, '-serial', 'chardev:console',
                '-chardev', f'socket,id=agent,fd={self._agent.far.fileno()}',
                '-serial', 'chardev:agent',
                '-chardev', f'socket,id=qmp,fd={self._monitor.far.fileno()}',
                '-mon', 'chardev=qmp,mode=control']
        if self.incoming:
            args += ['-incoming', 'defer']
        return args

    def _prefix(self):
        prefix = []
        if self.netns:
            prefix += ['ip', 'netns', 'exec', self.netns]
        prefix += ['setpriv', '--pdeathsig', 'KILL']
        if self.user:
            entry = pwd.getpwnam(self.user)
            prefix += [f'--reuid={entry.pw_uid}', f'--regid={entry.pw_gid}']
            # As a user who may use KVM where there is a group for that.
            group = os.stat('/dev/kvm').st_gid if self.accel == 'kvm' else 0
            prefix += [f'--groups={group}' if group else '--clear-groups']
        return prefix + ['--']

    # --- Life ---------------------------------------------------------------

    def __enter__(self):
        self.start()
        try:
            if not self.incoming:
                self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Start QEMU; the guest boots on its own, see wait_ready()."""
        self._agent = Line(f'{self.name}: command line of the guest')
        self._monitor = Line(f'{self.name}: QMP')
        fds = (self._agent.far.fileno(), self._monitor.far.fileno())
        args = (self._prefix() + [self.qemu] + self.boot_args()
                + self._channel_args() + self.network_args() + self.extra)
        # pylint: disable=consider-using-with
        with open(self.console_log, 'wb') as out, \
                open(self.qemu_log, 'wb') as err:
            if self.user:
                # With a console socket QEMU opens its log by name.
                os.fchown(out.fileno(), pwd.getpwnam(self.user).pw_uid, -1)
            self.process = subprocess.Popen(
                args, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                pass_fds=fds)
        self._agent.far.close()
        self._monitor.far.close()
        return self

    @property
    def pid(self):
        return self.process.pid

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def logs(self, lines=15):
        """The last lines of both logs, for messages."""
        text = ''
        for path in (self.qemu_log, self.console_log):
            if path.exists():
                tail = path.read_text(errors='replace').splitlines()[-lines:]
                text += f'--- {path.name}\n' + '\n'.join(tail) + '\n'
        return text

    def fail(self, text):
        """Raise, with what QEMU and the guest had to say."""
        if self.process is not None and self.process.poll() is not None:
            text += f' (QEMU ended with status {self.process.returncode})'
        raise GuestError(f'{self.name}: {text}\n{self.logs()}')

    def wait_ready(self, seconds=60):
        """Wait until the guest is up: cards configured, commands taken."""
        deadline = deadline_in(seconds)
        while not self._ready:
            try:
                line = self._agent.read(deadline)
            except GuestError:
                self.wait_exit()
                self.fail('QEMU ended before the guest was up')
            if line is None:
                self.fail(f'not up after {seconds * PATIENCE:.0f} seconds')
            self._ready = line.strip() == b'qdes 0 exit 0'
        return self

    def wait_exit(self, seconds=10):
        """Wait for QEMU to end by itself; its exit status."""
        try:
            return self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            return self.fail('QEMU does not end')

    def kill(self):
        """End QEMU the hard way, with no chance to say goodbye."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """End QEMU as a user would; safe at any time, and again."""
        if self.alive:
            try:
                self.qmp('quit', timeout=5)
                self.process.wait(5 * PATIENCE)
            except (GuestError, subprocess.TimeoutExpired):
                self.process.terminate()
                try:
                    self.process.wait(2 * PATIENCE)
                except subprocess.TimeoutExpired:
                    self.kill()
        for line in (self._agent, self._monitor):
            if line:
                line.close()
        if self._own_workdir:
            shutil.rmtree(self.workdir, ignore_errors=True)

    # --- Commands in the guest ----------------------------------------------

    def run(self, command, timeout=30):
        """Run a shell command in the guest: (exit status, output).

        Both output streams are in the output.  After timeout seconds the
        command is killed, with status 143."""
        self.wait_ready()
        self._last_id += 1
        tag = f'qdes {self._last_id} '.encode()
        seconds = max(1, round(timeout * PATIENCE))
        code = base64.b64encode(command.encode()).decode()
        # The guest does the killing; beyond that it is the guest that hangs.
        deadline = time.monotonic() + seconds + 20 * PATIENCE
        output = None
        try:
            self._agent.send(f'{self._last_id} {seconds} {code}\n'.encode())
            while True:
                line = self._agent.read(deadline)
                if line is None:
                    self.fail(f'no answer to: {command}')
                line = line.strip()
                if line == tag + b'output':
                    output = []
                elif line.startswith(tag + b'exit ') and output is not None:
                    text = base64.b64decode(b''.join(output))
                    return int(line.split()[-1]), text.decode(
                        errors='replace')
                elif output is not None:
                    output.append(line)
        except GuestError as err:
            if self.alive:
                raise
            return self.fail(f'{err}, while running: {command}')

    def check(self, command, timeout=30):
        """The same, for commands that have to succeed: their output."""
        status, output = self.run(command, timeout)
        if status:
            raise GuestError(f'{self.name}: "{command}" ended with status '
                             f'{status}:\n{output}')
        return output

    def background(self, command):
        """Start a command and leave it running; a handle for wait_for()."""
        self._last_id += 1
        base = f'/tmp/job{self._last_id}'
        self.check(f"cat >{base}.sh <<'QDES_END'\n{command}\nQDES_END\n"
                   f'{{ sh {base}.sh >{base}.out 2>&1; '
                   f'echo $? >{base}.tmp; mv {base}.tmp {base}.status; }} '
                   '</dev/null >/dev/null 2>&1 &')
        return base

    def wait_for(self, job, timeout=30):
        """Wait for a background() command: (exit status, output)."""
        seconds = max(1, round(timeout * PATIENCE))
        status, _ = self.run(
            f'n={seconds * 10}; while [ ! -e {job}.status ]; do '
            '[ $((n -= 1)) -gt 0 ] || exit 1; usleep 100000; done',
            timeout + 10)
        output = self.check(f'cat {job}.out')
        if status:
            raise GuestError(f'{self.name}: still running after {seconds} '
                             f'seconds, having printed:\n{output}')
        return int(self.check(f'cat {job}.status')), output

    def wait_until(self, command, timeout=30):
        """Run a command again and again until it succeeds: its output."""
        deadline = deadline_in(timeout)
        while True:
            status, output = self.run(command, timeout)
            if status == 0:
                return output
            if time.monotonic() > deadline:
                raise GuestError(f'{self.name}: "{command}" does not '
                                 f'succeed (status {status}):\n{output}')
            time.sleep(0.1)

    # --- QMP ----------------------------------------------------------------

    def _message(self, deadline):
        line = self._monitor.read(deadline)
        return None if line is None else json.loads(line)

    def qmp(self, command, timeout=20, **arguments):
        """A QMP command: what it returns.

        Where QMP has a '-' in a name write '_'."""
        deadline = deadline_in(timeout)
        if not self._qmp_on and command != 'qmp_capabilities':
            self.qmp('qmp_capabilities', timeout)
            self._qmp_on = True
        message = {'execute': command}
        if arguments:
            message['arguments'] = {key.replace('_', '-'): value
                                    for key, value in arguments.items()}
        self._monitor.send(json.dumps(message).encode() + b'\n')
        while True:
            answer = self._message(deadline)
            if answer is None:
                self.fail(f'no answer to QMP command {command}')
            if 'event' in answer:
                self.events.append(answer)
            elif 'error' in answer:
                raise QMPError(answer['error'])
            elif 'return' in answer:
                return answer['return']

    def hmp(self, line, timeout=20):
        """A command of the human monitor: what it prints."""
        return self.qmp('human-monitor-command', timeout,
                        command_line=line).replace('\r\n', '\n')

    def wait_event(self, name, timeout=20):
        """The next QMP event of that name, be it here already or not."""
        deadline = deadline_in(timeout)
        while True:
            for event in self.events:
                if event['event'] == name:
                    self.events.remove(event)
                    return event
            message = self._message(deadline)
            if message is None:
                self.fail(f'no QMP event {name}')
            if 'event' in message:
                self.events.append(message)

    def migrate_to(self, other, timeout=60):
        """Move the running guest into another Guest's QEMU, which was made
        with incoming=True and has been started."""
        path = f'unix:{other.workdir}/migration'
        other.qmp('migrate-incoming', uri=path)
        self.qmp('migrate', uri=path)
        deadline = deadline_in(timeout)
        while True:
            state = self.qmp('query-migrate').get('status')
            if state == 'completed':
                break
            if state in ('failed', 'cancelled'):
                self.fail(f'migration {state}')
            if time.monotonic() > deadline:
                self.fail(f'migration still {state}')
            time.sleep(0.05)
        while other.qmp('query-status')['status'] != 'running':
            if time.monotonic() > deadline:
                other.fail('not running after migration')
            time.sleep(0.02)
        # It is up already, and said so to its former QEMU.
        other._ready = True     # pylint: disable=protected-access
        return other


def pick_accel(qemu, user=None, images=GUEST_DIR, seconds=6):
    """'kvm' where a guest really starts with it, else 'tcg', and why.

    That /dev/kvm is there and opens says little: in nested machines its
    guests may never run a single instruction.  So one is booted."""
    if not os.path.exists('/dev/kvm'):
        return 'tcg', 'there is no /dev/kvm'
    trial = Guest(qemu, name='trial', accel='kvm', user=user, images=images)
    try:
        trial.start()
        trial.wait_ready(seconds)
        return 'kvm', 'a guest started with it'
    except GuestError:
        if trial.alive:
            return 'tcg', ('/dev/kvm is there, but a guest did not start '
                           f'in {seconds * PATIENCE:.0f} seconds')
        log = trial.qemu_log.read_text(errors='replace').strip()
        reason = log.splitlines()[0].partition(': ')[2] if log else ''
        return 'tcg', f'KVM does not work here: {reason or "QEMU gave up"}'
    finally:
        trial.stop()
