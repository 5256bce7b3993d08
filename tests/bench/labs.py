# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benchmark compares: each kind, and how its lab is set up.

A lab is made anew for each round and kind, and vanishes with it.  There are
four forms:

    hosts    two namespaces joined by a veth pair (the underlay, 10.9.0.0/24);
             what is measured joins tap0 of one to tap0 of the other (the
             overlay, 10.8.0.0/24)
    many     the same with qdes-tap, and a crowd that the ports have heard
    guests   two guests in one namespace, on one host
    flood    many ports, half of them in each of two such namespaces
"""

import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

import frames
import qdeswire
from guest import Guest, GuestError
from netns import Network, command
from procs import wait_for

GROUP = '239.1.1.1'
NETID = 42
FAR = '10.8.0.2'            # the receiver's address on the overlay
CROWD_PEERS, CROWD_MACS = 1000, 10000

# Packages that have the programs.
PACKAGES = {'vde_plug': 'vdeplug', 'fastd': 'fastd',
            'qemu-system-x86_64': 'qemu-system-x86'}
ROOT = Path(__file__).resolve().parents[2]
INSTALL = 'scripts/install-deps --for=bench'


def shown(path):
    """A path for people: from the root of the tree, if it is in there."""
    try:
        return str(Path(path).resolve().relative_to(ROOT))
    except ValueError:
        return str(path)


class LabError(Exception):
    """What was to be measured could not be set up."""


class Programs:
    """Where the programs are, and what they are able to do."""

    def __init__(self, qdes_tap, qdes_qemu, peer_qemu, guest, qdes_args,
                 netdev_args, underlay_mtu):
        self.qdes_tap, self.qdes_qemu = qdes_tap, qdes_qemu
        self.guest = Path(guest)
        self.qdes_args, self.netdev_args = qdes_args, netdev_args
        self.underlay_mtu = underlay_mtu
        self.peer_qemu = peer_qemu or shutil.which('qemu-system-x86_64')
        self._texts = {}

    def text(self, *argv):
        """What a program prints; '' when it does not run."""
        if argv not in self._texts:
            try:
                self._texts[argv] = command(argv, check=False).stdout
            except OSError:
                self._texts[argv] = ''
        return self._texts[argv]

    def tap_has(self, option):
        return f'  --{option} ' in self.text(self.qdes_tap, '--help')

    def qemu_has(self, qemu, netdev):
        return netdev in self.text(qemu, '-netdev', 'help').split()

    # Why something cannot be measured; None if it can.

    def no_tap(self, *options):
        if not os.access(self.qdes_tap, os.X_OK):
            return (f'{shown(self.qdes_tap)} is not built: ./configure, '
                    'ninja -C build')
        for option in options:
            if not self.tap_has(option):
                return f'not built: this qdes-tap has no --{option}'
        return None

    def no_program(self, name):
        if shutil.which(name):
            return None
        return f'missing: package {PACKAGES[name]} ({INSTALL})'

    def no_vxvde(self):
        if not list(Path('/usr/lib').glob('*/vdeplug/libvdeplug_vxvde.so')):
            return f'missing: package libvdeplug2 ({INSTALL})'
        return self.no_program('vde_plug')

    def no_own_qemu(self, netdev='socket'):
        if not os.access(self.qdes_qemu, os.X_OK):
            return (f'{shown(self.qdes_qemu)} is not built: ./configure, '
                    'ninja -C build')
        if not self.qemu_has(self.qdes_qemu, netdev):
            return f'missing: {shown(self.qdes_qemu)} without -netdev {netdev}'
        return None

    def no_peer_qemu(self, netdev):
        if not self.peer_qemu:
            return f'missing: package qemu-system-x86 ({INSTALL})'
        if not self.qemu_has(self.peer_qemu, netdev):
            return f'missing: {self.peer_qemu} without -netdev {netdev}'
        return None

    def no_guest(self, netdev):
        if not (self.guest / 'vmlinux').exists():
            return (f'missing: no guest in {shown(self.guest)} '
                    '(tests/guest/build)')
        if netdev == 'vde':
            return self.no_vxvde() or self.no_peer_qemu(netdev)
        return self.no_own_qemu(netdev)


class Lab:
    """Namespaces, and what runs in them; close() removes all of it."""

    def __init__(self, programs, log_dir, label):
        self.programs = programs
        self.label = label
        self.forwarders = []        # process IDs of what carries the frames
        self.next_port = 5201
        self.log_dir = os.path.join(log_dir, label)
        os.makedirs(self.log_dir, exist_ok=True)
        self.network = Network(self.log_dir)

    def close(self):
        self.network.close()

    def underlay(self):
        """The two hosts and the wire between them."""
        self.a = self.network.namespace('a')
        self.b = self.network.namespace('b')
        command(['ip', 'link', 'add', 'va', 'netns', self.a.full_name, 'type',
                 'veth', 'peer', 'name', 'vb', 'netns', self.b.full_name])
        for host, link, number in (self.a, 'va', 1), (self.b, 'vb', 2):
            host.ip(f'link set {link} mtu {self.programs.underlay_mtu} up',
                    f'addr add 10.9.0.{number}/24 dev {link}',
                    f'route add 224.0.0.0/4 dev {link}')
        self.hosts = (self.a, self.b)

    def forward(self, host, argv, label):
        process = host.start(argv, label)
        self.forwarders.append(process.pid)
        return process

    def check(self):
        """Raise when the lab is not what it was made as."""
        for process in self.network.processes:
            if process.pid in self.forwarders and not process.running:
                raise LabError(f'{os.path.basename(process.argv[4])} ended: '
                               f'{process.log.strip()[-300:]}')

    def has_link(self, host, name):
        self.check()
        return not command(['ip', '-n', host.full_name, 'link', 'show', name],
                           check=False).returncode

    def overlay(self, mtu, device='tap0'):
        """Addresses for the overlay, and the first frames across it."""
        for number, host in enumerate(self.hosts, 1):
            wait_for(lambda h=host: self.has_link(h, device), 10,
                     f'{device} to appear')
            change = f' mtu {mtu}' if mtu else ''
            host.ip(f'link set {device}{change} up',
                    f'addr add 10.8.0.{number}/24 dev {device}')
        self.wait_ping(FAR)

    def wait_ping(self, address):
        def answered():
            self.check()
            return self.a.ping(address, count=2, deadline=1, interval=0.01)
        wait_for(answered, 15, f'an answer to a ping from {address}')

    def port(self):
        """A TCP and UDP port that nothing in this lab has used."""
        self.next_port += 1
        return self.next_port

    def received(self):
        """Bytes that have come to the receiver's end of the overlay."""
        done = command(['ip', '-n', self.b.full_name, '-j', '-s', 'link',
                        'show', self.device])
        return json.loads(done.stdout)[0]['stats64']['rx']['bytes']


class HostLab(Lab):
    """Two hosts and an overlay between them."""

    def __init__(self, *args):
        super().__init__(*args)
        self.far, self.device = FAR, 'tap0'

    # Each of these makes one kind of overlay.

    def veth(self):
        self.underlay()
        self.far, self.device = '10.9.0.2', 'vb'
        self.wait_ping(self.far)

    def vxlan(self):
        self.underlay()
        self.device = 'vx0'
        for host, link in zip(self.hosts, ('va', 'vb')):
            host.ip(f'link add vx0 type vxlan id {NETID} dev {link} '
                    f'group {GROUP} dstport 4789')
        self.overlay(None, 'vx0')

    def qdes(self, *options):
        self.underlay()
        for host in self.hosts:
            self.forward(host, [self.programs.qdes_tap, '--tap', 'tap0',
                                '--mcast', f'{GROUP}:20804',
                                '--netid', NETID, *options,
                                *self.programs.qdes_args], 'qdes-tap')
        self.overlay(1500)

    def vxvde(self):
        self.underlay()
        for host in self.hosts:
            self.forward(host, ['vde_plug', 'tap://tap0', f'vxvde://{GROUP}'],
                         'vde_plug')
        self.overlay(1450)

    def hub(self, qemu, netdev, mtu):
        """QEMUs without a machine: a TAP and a netdev on one hub."""
        self.underlay()
        for host in self.hosts:
            host.ip('tuntap add tap0 mode tap')
            self.forward(host, [
                qemu, '-machine', 'none', '-nodefaults', '-display', 'none',
                '-netdev', 'tap,id=t,ifname=tap0,script=no,downscript=no',
                '-netdev', f'{netdev},id=s',
                '-netdev', 'hubport,id=h1,hubid=0,netdev=t',
                '-netdev', 'hubport,id=h2,hubid=0,netdev=s'], 'qemu')
        self.overlay(mtu)

    def hub_socket(self):
        self.hub(self.programs.qdes_qemu, f'socket,mcast={GROUP}:5555', 1450)

    def hub_vde(self):
        self.hub(self.programs.peer_qemu, f'vde,sock=vxvde://{GROUP}', 1450)

    def hub_qdes(self):
        self.hub(self.programs.qdes_qemu, qdes_netdev(self.programs), 1500)

    def qdes_sealed(self, *options):
        path = os.path.join(self.log_dir, 'secret')
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                  'w', encoding='ascii') as file:
            file.write(secrets.token_hex(32))
        self.qdes(f'--secret-file={path}', *options)

    def fastd(self, method='null'):
        self.underlay()
        keys = []
        for _ in range(2):
            words = command(['fastd', '--generate-key']).stdout.split()
            keys.append((words[words.index('Secret:') + 1],
                         words[words.index('Public:') + 1]))
        for me, host in enumerate(self.hosts):
            other = 1 - me
            # If both call, they may end up with one session each, and open
            # nothing of the other's.
            remote = f'remote 10.9.0.{other + 1}:9000; ' if me else ''
            path = os.path.join(self.log_dir, f'fastd{me}.conf')
            with open(path, 'w', encoding='ascii') as file:
                file.write(f'''log level warn;
mode tap; interface "tap0"; mtu 1426; method "{method}";
bind 10.9.0.{me + 1}:9000;
secret "{keys[me][0]}";
peer "other" {{ key "{keys[other][1]}"; {remote}}}
''')
            self.forward(host, ['fastd', '-c', path], 'fastd')
        self.overlay(1426)


def qdes_netdev(programs):
    more = ''.join(f',{arg}' for arg in programs.netdev_args)
    return f'qdes,mcast={GROUP}:20804,netid={NETID}{more}'


class ManyLab(HostLab):
    """Two ports that have heard nobody else, or a crowd.

    The crowd is datagrams in the wire format, from a socket for each peer:
    a HELLO, and frames from ten MAC addresses.  The sockets stay, so that
    nobody takes the peers for gone.
    """

    def __init__(self, *args):
        super().__init__(*args)
        self.crowd = False

    def check(self):
        super().check()
        if self.crowd and self.not_heard():
            raise LabError(f'of the crowd, {self.not_heard()}')

    def few(self):
        self.qdes('--max-macs', 4 * CROWD_MACS, *self.controls())

    def many(self):
        self.few()
        sockets = []
        for number in range(CROWD_PEERS):
            sock = self.a.socket()
            sock.bind(('10.9.0.1', 0))
            with self.a.entered():
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF,
                                socket.inet_aton('10.9.0.1'))
            # Never read: its queue may be as small as can be.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            sockets.append((number, random.randrange(1, 1 << 64), sock))
        end = time.monotonic() + 60
        missing = True
        while missing:
            if time.monotonic() > end:
                raise LabError(f'the crowd is not all heard: {missing}')
            for start in range(0, CROWD_PEERS, 10):
                for number, instance, sock in sockets[start:start + 10]:
                    self.speak(number, instance, sock)
                time.sleep(0.01)        # the pace of a network, not of a loop
            missing = self.not_heard()
        self.crowd = True

    def speak(self, number, instance, sock):
        to = (GROUP, qdeswire.PORT)
        sock.sendto(qdeswire.encode(qdeswire.Hello(
            NETID, instance, name=f'crowd {number}', hold_time=600)), to)
        each = CROWD_MACS // CROWD_PEERS
        for index in range(each):
            data = frames.frame(frames.BROADCAST,
                                frames.mac(number * each + index))
            sock.sendto(qdeswire.encode(qdeswire.Data(NETID, data)), to)

    def controls(self):
        """Options that let status() ask; no control in the other labs."""
        self.control = f'{self.network.run_dir}/control'
        return ['--control', self.control + '-%s']

    def qdes(self, *options):
        self.underlay()
        for name, host in zip('ab', self.hosts):
            mine = [str(o).replace('%s', name) for o in options]
            self.forward(host, [self.programs.qdes_tap, '--tap', 'tap0',
                                '--mcast', f'{GROUP}:20804',
                                '--netid', NETID, *mine,
                                *self.programs.qdes_args], 'qdes-tap')
        self.overlay(1500)

    def not_heard(self):
        """What the two ports have not learned yet, '' when all is there."""
        for name in 'ab':
            done = subprocess.run(
                [self.programs.qdes_tap, 'status', '--json', '--control',
                 f'{self.control}-{name}'], stdout=subprocess.PIPE,
                stdin=subprocess.DEVNULL, timeout=30, check=True)
            status = json.loads(done.stdout)
            macs, peers = len(status['fdb']), len(status['peers'])
            if macs < CROWD_MACS or peers < CROWD_PEERS:
                return f'port {name} knows {macs} MACs, {peers} peers'
        return ''


class GuestLab(Lab):
    """Two guests in one namespace."""

    def __init__(self, *args):
        super().__init__(*args)
        self.far = FAR
        self.guests = []

    def check(self):
        super().check()
        for guest in self.guests:
            if not guest.alive:
                raise LabError(f'{guest.name} ended: {guest.logs(5)}')

    def boot(self, netdevs, nic='virtio-net-pci', qemu=None):
        for number, netdev in enumerate(netdevs, 1):
            guest = Guest(qemu or self.programs.qdes_qemu, [netdev], nic=nic,
                          name=f'vm{number}',
                          addresses=[f'10.8.0.{number}/24'],
                          netns=self.host.full_name,
                          workdir=os.path.join(self.log_dir, f'vm{number}'),
                          images=self.programs.guest)
            self.network.on_close.append(guest.stop)
            guest.start()
            self.guests.append(guest)
            self.forwarders.append(guest.pid)
        for guest in self.guests:
            guest.wait_ready()
        self.guests[0].wait_until(f'ping -q -c 2 -i 0.1 -W 1 {FAR}', 15)
        self.warm_up()

    def warm_up(self):
        """What the guests do for the first time, QEMU has to translate."""
        here, there = self.guests
        job = there.background('iperf3 -s -1')
        there.wait_until('netstat -ltn | grep -q :5201')
        here.check(f'iperf3 -c {FAR} -t 1')
        there.wait_for(job)

    def wire(self):
        """One host; its own multicast stays on loopback."""
        self.host = self.network.namespace('host')
        self.host.ip('route add 224.0.0.0/4 dev lo')

    def qdes(self, nic='virtio-net-pci'):
        self.wire()
        self.boot([qdes_netdev(self.programs)] * 2, nic)

    def socket(self, nic='virtio-net-pci'):
        self.wire()
        self.boot([f'socket,mcast={GROUP}:5555'] * 2, nic)

    def vde(self, nic='virtio-net-pci'):
        self.wire()
        self.boot([f'vde,sock=vxvde://{GROUP}'] * 2, nic,
                  self.programs.peer_qemu)

    def bridge(self):
        self.wire()
        self.host.ip('link add br0 type bridge forward_delay 0 stp_state 0 '
                     'mcast_snooping 0', 'link set br0 up')
        for name in 'tap1', 'tap2':
            self.host.ip(f'tuntap add {name} mode tap vnet_hdr',
                         f'link set {name} master br0 up')
        self.boot([f'tap,ifname=tap{n},script=no,downscript=no,vhost=off'
                   for n in (1, 2)])


class FloodLab(Lab):
    """Many ports; the first one's frames go to all others."""

    def __init__(self, *args):
        super().__init__(*args)
        self.ports = []             # (host, TAP)

    def start(self, count, argv):
        self.underlay()
        for number in range(count):
            host = self.hosts[number * 2 // count]
            tap = f'tap{number}'
            self.forward(host, argv(tap), tap)
            self.ports.append((host, tap))
        up = {host: [] for host in self.hosts}
        for host, tap in self.ports:
            up[host].append(f'link set {tap} up')

        def there():
            self.check()
            return all(set(t for h, t in self.ports if h is host) <=
                       set(self.heard(host)) for host in self.hosts)
        wait_for(there, 30, 'the TAPs of all ports')
        for host, lines in up.items():
            host.ip(*lines)
        self.sender = frames.PacketSocket(self.hosts[0], 'tap0')
        self.frame = frames.frame(frames.BROADCAST, frames.mac(1))

        def all_hear():
            self.sender.send(self.frame)
            return all(count for tap, count in self.counts().items()
                       if tap != 'tap0')
        wait_for(all_hear, 30, 'a broadcast to come to every port',
                 interval=0.2)
        # What is still on its way does not count.
        last = None
        while last != (last := self.counts()):
            time.sleep(0.2)

    def heard(self, host):
        """Frames that each TAP of a host has brought from the fabric."""
        done = command(['ip', '-n', host.full_name, '-j', '-s', 'link'])
        return {link['ifname']: link['stats64']['rx']['packets']
                for link in json.loads(done.stdout)
                if link['ifname'].startswith('tap')}

    def counts(self):
        return {tap: count for host in self.hosts
                for tap, count in self.heard(host).items()}

    def qdes(self, count):
        # Probes would be counted as frames that have come.
        quiet = (['--loop-guard=off'] if self.programs.tap_has('loop-guard')
                 else [])
        self.start(count, lambda tap: [
            self.programs.qdes_tap, '--tap', tap, '--mcast', f'{GROUP}:20804',
            '--netid', NETID, *quiet, *self.programs.qdes_args])

    def vxvde(self, count):
        self.start(count, lambda tap: ['vde_plug', f'tap://{tap}',
                                       f'vxvde://{GROUP}'])


class Kind:
    """One thing to compare: its name, lab, measures, and what it needs."""

    def __init__(self, name, title, lab, setup, measures, needs=None):
        self.name, self.title = name, title
        self.lab, self.setup = lab, setup
        self.measures = measures.split()
        self.needs = needs or (lambda p: None)

    def make(self, programs, log_dir, label):
        """A lab of this kind, ready to be measured."""
        lab = self.lab(programs, log_dir, label)
        try:
            self.setup(lab)
        except BaseException as error:
            lab.close()
            if isinstance(error, (AssertionError, GuestError, OSError,
                                  subprocess.SubprocessError)):
                raise LabError(str(error)) from error
            raise
        return lab


ALL = 'tcp tcp4 bidir small rtt rtt-load rtt-same'
SHORT = 'tcp small rtt'

KINDS = [
    Kind('veth', 'the underlay itself (veth)', HostLab, HostLab.veth, ALL),
    Kind('vxlan', 'kernel VXLAN', HostLab, HostLab.vxlan, ALL),
    Kind('qdes', 'qdes-tap', HostLab, HostLab.qdes, ALL,
         lambda p: p.no_tap()),
    Kind('qdes-gso-off', 'qdes-tap --gso=off', HostLab,
         lambda lab: lab.qdes('--gso=off'), SHORT, lambda p: p.no_tap('gso')),
    Kind('qdes-vnet-off', 'qdes-tap --vnet-hdr=off', HostLab,
         lambda lab: lab.qdes('--vnet-hdr=off'), SHORT,
         lambda p: p.no_tap('vnet-hdr')),
    Kind('qdes-plain', 'qdes-tap --plain-io', HostLab,
         lambda lab: lab.qdes('--plain-io'), SHORT,
         lambda p: p.no_tap('plain-io')),
    Kind('vxvde', 'vde_plug tap:// vxvde://', HostLab, HostLab.vxvde, ALL,
         lambda p: p.no_vxvde()),
    Kind('fastd', 'fastd, method null', HostLab, HostLab.fastd, SHORT,
         lambda p: p.no_program('fastd')),
    Kind('qdes-sealed', 'qdes-tap --secret-file', HostLab,
         HostLab.qdes_sealed, ALL, lambda p: p.no_tap('secret-file')),
    Kind('qdes-sealed-chacha', 'the same by ChaCha20-Poly1305', HostLab,
         lambda lab: lab.qdes_sealed('--cipher=chacha20-poly1305'), SHORT,
         lambda p: p.no_tap('secret-file')),
    Kind('fastd-sealed', 'fastd, method aes128-ctr+umac', HostLab,
         lambda lab: lab.fastd('aes128-ctr+umac'), SHORT,
         lambda p: p.no_program('fastd')),
    Kind('hub-qdes', 'QEMU -netdev qdes, hub, TAP', HostLab,
         HostLab.hub_qdes, SHORT, lambda p: p.no_own_qemu('qdes')),
    Kind('hub-socket', 'QEMU -netdev socket,mcast, hub, TAP', HostLab,
         HostLab.hub_socket, SHORT, lambda p: p.no_own_qemu()),
    Kind('hub-vde', 'QEMU -netdev vde (vxvde), hub, TAP', HostLab,
         HostLab.hub_vde, SHORT,
         lambda p: p.no_vxvde() or p.no_peer_qemu('vde')),
    Kind('many-1', 'qdes-tap that knows one peer', ManyLab, ManyLab.few,
         'tcp small', lambda p: p.no_tap()),
    Kind('many-1000', f'qdes-tap that knows {CROWD_PEERS} peers, '
         f'{CROWD_MACS} MACs', ManyLab, ManyLab.many, 'tcp small',
         lambda p: p.no_tap()),
    Kind('guest-qdes', 'guests, -netdev qdes', GuestLab, GuestLab.qdes,
         'tcp tcp4 bidir small rtt', lambda p: p.no_guest('qdes')),
    Kind('guest-bridge', 'guests, TAP + bridge', GuestLab, GuestLab.bridge,
         'tcp tcp4 bidir small rtt', lambda p: p.no_guest('tap')),
    Kind('guest-socket', 'guests, -netdev socket,mcast', GuestLab,
         GuestLab.socket, 'tcp tcp4 bidir small rtt',
         lambda p: p.no_guest('socket')),
    Kind('guest-vde', 'guests, -netdev vde (vxvde)', GuestLab, GuestLab.vde,
         'tcp small', lambda p: p.no_guest('vde')),
    Kind('guest-qdes-notso', 'guests without TSO, -netdev qdes', GuestLab,
         lambda lab: lab.qdes('virtio-net-pci,host_tso4=off,host_tso6=off,'
                              'guest_tso4=off,guest_tso6=off'),
         'tcp', lambda p: p.no_guest('qdes')),
    Kind('guest-qdes-e1000', 'guests with e1000, -netdev qdes', GuestLab,
         lambda lab: lab.qdes('e1000'), 'tcp', lambda p: p.no_guest('qdes')),
    Kind('guest-socket-e1000', 'guests with e1000, -netdev socket,mcast',
         GuestLab, lambda lab: lab.socket('e1000'), 'tcp',
         lambda p: p.no_guest('socket')),
    Kind('guest-vde-e1000', 'guests with e1000, -netdev vde (vxvde)',
         GuestLab, lambda lab: lab.vde('e1000'), 'tcp',
         lambda p: p.no_guest('vde')),
]
for _count in 10, 100:
    KINDS += [
        Kind(f'flood-qdes-{_count}', f'{_count} ports of qdes-tap', FloodLab,
             lambda lab, n=_count: lab.qdes(n), 'flood',
             lambda p: p.no_tap()),
        Kind(f'flood-vxvde-{_count}', f'{_count} ports of vxvde', FloodLab,
             lambda lab, n=_count: lab.vxvde(n), 'flood',
             lambda p: p.no_vxvde()),
    ]
