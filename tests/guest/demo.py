#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The second half of scripts/demo: two guests on one fabric."""

import argparse
import contextlib
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from guest import GUEST_DIR, Guest, GuestError, pick_accel

ROOT = Path(__file__).resolve().parent.parent.parent
QEMU = ROOT / 'build/qemu-system-x86_64'

# Whom root's guests run as, to show that they need no privileges.
NOBODY = 'nobody'

FILE_MIB = 16
ADDRESSES = {'alice': '10.77.0.1', 'bob': '10.77.0.2'}


class Steps:
    """Numbered steps, each with what came of it and how long it took."""

    def __init__(self, number, begin):
        self.number, self.begin, self.began = number, begin, begin

    def start(self, title):
        self.number += 1
        self.began = time.time()
        print(f'\n[{self.number}] {title}', flush=True)

    @staticmethod
    def note(text):
        print('    ' + text.rstrip().replace('\n', '\n    '), flush=True)

    def done(self, text):
        self.note(f'ok: {text} ({time.time() - self.began:.1f} s)')

    def total(self):
        seconds = round(time.time() - self.begin)
        return f'{seconds // 60} min {seconds % 60} s' if seconds >= 60 \
            else f'{seconds} s'


def readable_by(user, path):
    return subprocess.run(
        ['setpriv', f'--reuid={user}', f'--regid={user_group(user)}',
         '--clear-groups', 'test', '-r', str(path)],
        check=False).returncode == 0


def user_group(user):
    return subprocess.run(['id', '-g', user], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


@contextlib.contextmanager
def within_reach(user):
    """QEMU and the images, where the user can read them: a repository in
    root's home is for root only, so they are copied then."""
    if user is None or readable_by(user, GUEST_DIR / 'initrd'):
        yield QEMU, GUEST_DIR
        return
    with tempfile.TemporaryDirectory(prefix='qdes-demo-') as place:
        os.chmod(place, 0o755)
        build = QEMU.resolve().parent
        shutil.copy(QEMU.resolve(), place)
        shutil.copytree(build / 'qemu-bundle', f'{place}/qemu-bundle',
                        symlinks=True)
        for name in ('vmlinux', 'initrd'):
            shutil.copy(GUEST_DIR / name, place)
        yield Path(place) / QEMU.name, Path(place)


def by_hand(guest):
    """The command line that starts this guest in a terminal."""
    args = guest.boot_args() + guest.network_args()
    # As on paper: one option per line, and the paths of the repository.
    lines = [shlex.quote(str(QEMU))]
    for arg in args:
        arg = arg.replace(str(guest.images), str(GUEST_DIR))
        if arg.startswith('-') and arg != '-nodefaults':
            lines.append(arg)
        else:
            lines[-1] += ' ' + shlex.quote(arg)
    lines = [line.replace('-display none', '-nographic') for line in lines]
    lines.append('-serial mon:stdio')
    return ' \\\n    '.join(lines)


def rate(seconds):
    return f'{FILE_MIB * 8 * 1.048576 / seconds:.0f} Mb/s'


def talk(steps, alice, bob):
    """What two hosts on one network can be expected to do."""
    steps.start('alice pings bob')
    output = alice.check(f'ping -c 5 -i 0.2 {ADDRESSES["bob"]}')
    steps.note(output.strip())
    lost = re.search(r'(\d+)% packet loss', output)[1]
    if lost != '0':
        raise GuestError(f'{lost}% of the pings were lost')
    steps.done('5 of 5 answered')

    steps.start(f'A file of {FILE_MIB} MiB from alice to bob, over TCP')
    receive = bob.background(
        'socat -u TCP-LISTEN:5000,reuseaddr CREATE:/tmp/file')
    bob.wait_until('netstat -ltn | grep -q :5000')
    alice.check('dd if=/dev/urandom of=/tmp/file bs=1M '
                f'count={FILE_MIB}', 120)
    began = time.time()
    alice.check(f'socat -u FILE:/tmp/file TCP:{ADDRESSES["bob"]}:5000', 120)
    status, output = bob.wait_for(receive, 120)
    took = time.time() - began
    if status:
        raise GuestError(f'bob did not get the file:\n{output}')
    sums = [guest.check('sha256sum </tmp/file', 60).split()[0]
            for guest in (alice, bob)]
    for guest, digest in zip((alice, bob), sums):
        steps.note(f'{guest.name:5} sha256 {digest}')
    if sums[0] != sums[1]:
        raise GuestError('the file arrived changed')
    steps.done(f'the same at both ends, {rate(took)}')

    steps.start('What alice\'s port knows now ("info qdes" in QEMU\'s monitor)')
    steps.note(alice.hmp('info qdes'))


def consoles(steps, guests):
    """Both consoles side by side, until the user has enough."""
    steps.start('Over to you')
    steps.note('Left is alice, right is bob. Try: ping bob\n'
               'Click on a console or type Ctrl-B and an arrow key to change '
               'sides.\nTo end it: Ctrl-B, then d.')
    input('    Press Enter to go there. ')
    # A server of its own, and none of the user's settings.
    tmux = ['tmux', '-S', f'{guests[0].workdir}/tmux', '-f', '/dev/null']
    env = {key: value for key, value in os.environ.items() if key != 'TMUX'}

    def run(*args):
        return subprocess.run(tmux + list(args), env=env, check=True,
                              text=True, stdout=subprocess.PIPE).stdout

    size = os.get_terminal_size()
    commands = [f'exec socat -,raw,echo=0 UNIX-CONNECT:{guest.console}'
                for guest in guests]
    try:
        run('new-session', '-d', '-x', str(size.columns),
            '-y', str(size.lines - 1), commands[0], ';',
            'set', '-g', 'mouse', 'on', ';',
            'set', '-g', 'status-left', ' alice | bob ', ';',
            'set', '-g', 'status-right', ' end: Ctrl-B d ', ';',
            'split-window', '-h', commands[1], ';', 'select-pane', '-t', '0')
        for i, guest in enumerate(guests):
            rows, columns = run('display', '-p', '-t', str(i),
                                '#{pane_height} #{pane_width}').split()
            guest.run(f'stty -F /dev/ttyS0 rows {rows} cols {columns}')
            # A prompt, as the first one was printed to nobody.
            run('send-keys', '-t', str(i), 'Enter')
        subprocess.run(tmux + ['attach'], env=env, check=False)
    finally:
        subprocess.run(tmux + ['kill-server'], env=env, check=False,
                       stderr=subprocess.DEVNULL)
    steps.done('back again')


def demo(steps, shell):
    user = NOBODY if os.geteuid() == 0 else None
    with contextlib.ExitStack() as stack:
        qemu, images = stack.enter_context(within_reach(user))
        steps.start('Does KVM work here? A guest is started to see')
        accel, why = pick_accel(qemu, user=user, images=images)
        steps.done('yes' if accel == 'kvm' else
                   f'no, so the guests are emulated (slower): {why}')

        # On the loopback interface, and with a network ID of this run's own:
        # the demo bothers nobody, nor does another demo bother it.
        netdev = ('qdes,mcast=239.192.81.68:20804,'
                  f'netid={random.randrange(1, 1 << 32)},localaddr=127.0.0.1')
        steps.start('Two guests boot, as user '
                    f'{user or os.environ.get("USER", os.geteuid())}')
        places = [stack.enter_context(tempfile.TemporaryDirectory(
            prefix='qdes-demo-')) for _ in ADDRESSES]
        guests = [
            Guest(qemu, [netdev], name=name, addresses=[address + '/24'],
                  accel=accel, user=user, images=images, workdir=place,
                  console=f'{place}/console' if shell else None)
            for (name, address), place in zip(ADDRESSES.items(), places)]
        for guest in guests:
            stack.callback(guest.stop)
            guest.start()
        for guest in guests:
            guest.wait_ready()
            hosts = '\\n'.join(f'{address} {name}'
                               for name, address in ADDRESSES.items())
            guest.check(f"echo -e '{hosts}' >>/etc/hosts")
            steps.note(f'{guest.name} is up: {ADDRESSES[guest.name]}, QEMU '
                       f'process {guest.pid}')
        steps.done(f'both on "-netdev {netdev}"')

        talk(steps, *guests)
        if shell:
            consoles(steps, guests)

    print('\nThe same by hand, in two terminals; the guests go away with '
          '"poweroff":\n')
    for guest in guests:
        print(by_hand(guest) + '\n')
    print('Without localaddr=127.0.0.1, they find each other between the '
          'machines of a LAN, too.')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--steps', type=int, default=0)
    parser.add_argument('--begin', type=int, default=0)
    parser.add_argument('--shell', action='store_true')
    args = parser.parse_args()
    steps = Steps(args.steps, args.begin / 1e6 or time.time())
    # However it is told to stop, it ends the guests first.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        demo(steps, args.shell)
    except KeyboardInterrupt:
        print(f'\nstopped in step {steps.number}', file=sys.stderr)
        sys.exit(130)
    except (GuestError, OSError, subprocess.CalledProcessError) as err:
        print(f'\nFAILED in step {steps.number} after {steps.total()}: {err}',
              file=sys.stderr)
        sys.exit(1)
    print(f'\nPASSED: two guests, one fabric, no privileges. '
          f'{steps.number} steps in {steps.total()}.')


if __name__ == '__main__':
    main()
