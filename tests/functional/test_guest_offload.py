# SPDX-License-Identifier: GPL-2.0-or-later
"""Real guests with and without offloads: all bytes arrive, and no guest gets
a frame that it has not agreed to.

    h1: virtio-net-pci                   10.81.0.1   fd81::1
    h2: virtio-net-pci                   10.81.0.2   fd81::2
    h3: virtio-net-pci, vnet-hdr=off     10.81.0.3   fd81::3
    h4: e1000e                           10.81.0.4   fd81::4
    h5: e1000                            10.81.0.5   fd81::5
"""

import pytest
from procs import wait_for

GUESTS = {
    'virtio': ('virtio-net-pci', ''),
    'other': ('virtio-net-pci', ''),
    'off': ('virtio-net-pci', ',vnet-hdr=off'),
    'e1000e': ('e1000e', ''),
    'e1000': ('e1000', ''),
}
PAIRS = [('virtio', 'other'), ('virtio', 'off'), ('virtio', 'e1000e'),
         ('virtio', 'e1000'), ('off', 'e1000e'), ('e1000e', 'e1000')]
MTU = 1500
MIB = 4


class Lab:
    def __init__(self, net, boot):
        self.guests = {}
        hosts = net.hosts(len(GUESTS))
        for n, (name, (card, options)) in enumerate(GUESTS.items(), 1):
            self.guests[name] = boot(
                hosts[n - 1], ['qdes' + options], nic=card, name=name,
                addresses=[f'10.81.0.{n}/24,fd81::{n}/64'])
        for number, guest in enumerate(self.guests.values(), 1):
            guest.wait_ready()
            guest.addresses = [f'10.81.0.{number}', f'fd81::{number}']
            # What the device hands over is what tcpdump shall see.
            guest.check('ethtool -K eth0 gro off')

    def __getitem__(self, name):
        return self.guests[name]


@pytest.fixture(scope='module')
def lab(module_net, module_boot):
    return Lab(module_net, module_boot)


class LargeFrames:
    """Counts the frames that come to a guest and are over its MTU."""

    def __init__(self, guest):
        self.guest = guest
        self.job = guest.background(
            f'tcpdump -Z root -i eth0 -Q in -w /tmp/large -U greater {MTU + 15} '
            '2>/tmp/tcpdump.log')
        guest.wait_until('grep -q "listening on" /tmp/tcpdump.log')

    def count(self):
        self.guest.check('killall tcpdump')
        self.guest.wait_for(self.job)
        return int(self.guest.check(
            'tcpdump -Z root -n -r /tmp/large 2>/dev/null | wc -l'))


def copy(source, target, v6=False, size=MIB):
    """A file crosses, and its SHA-256 is the same on both sides."""
    family = 'TCP6' if v6 else 'TCP4'
    address = target.addresses[v6]
    if v6:
        address = f'[{address}]'
    job = target.background(
        f'socat -u -b 262144 {family}-LISTEN:5000,reuseaddr - '
        '| tee /tmp/got | sha256sum')
    target.wait_until('netstat -ltn | grep -q :5000')
    sent = source.check(
        f'dd if=/dev/urandom of=/tmp/file bs=64k count={16 * size} '
        '2>/dev/null; sha256sum </tmp/file; '
        f'socat -u -b 262144 FILE:/tmp/file {family}:{address}:5000',
        timeout=60)
    status, got = target.wait_for(job)
    assert status == 0
    assert got == sent
    assert target.check('wc -c </tmp/got') == f'{size << 20}\n'
    target.check('rm /tmp/got')


@pytest.mark.parametrize('v6', [False, True], ids=['ipv4', 'ipv6'])
@pytest.mark.parametrize('names', PAIRS, ids='-'.join)
def test_tcp(lab, names, v6):
    """Both ways between guests with different offloads."""
    one, two = (lab[name] for name in names)
    for source, target in (one, two), (two, one):
        before = target.port.counters
        large = LargeFrames(target)
        copy(source, target, v6)
        changes = target.port.changes(before)
        if target.name in ('virtio', 'other'):
            assert changes['rx-superframes'] > 0
            assert large.count() > 0
        else:
            assert changes.get('rx-superframes', 0) == 0
            assert large.count() == 0
        assert changes.get('rx-drop-port', 0) == 0


@pytest.mark.parametrize('name, sends', [('virtio', True), ('e1000e', True),
                                         ('off', False), ('e1000', False)])
def test_superframes_sent(lab, name, sends):
    """A guest that has segmentation left to its card sends superframes."""
    before = lab[name].port.counters
    copy(lab[name], lab['other'])
    changes = lab[name].port.changes(before)
    assert (changes.get('tx-superframes', 0) > 0) == sends, changes
    assert changes.get('tx-drop-offload', 0) == 0


@pytest.mark.parametrize('feature', ['tx-checksumming', 'tso'])
def test_sender_without(lab, feature):
    """What the guest's own stack does, the port leaves as it is."""
    short = {'tx-checksumming': 'tx', 'tso': 'tso'}[feature]
    one, two = lab['virtio'], lab['other']
    one.check(f'ethtool -K eth0 {short} off')
    try:
        before = one.port.counters
        copy(one, two)
        copy(one, lab['off'])
        assert one.port.changes(before).get('tx-superframes', 0) == 0
    finally:
        one.check('ethtool -K eth0 tx on tso on')
    before = one.port.counters
    copy(one, two)
    assert one.port.changes(before)['tx-superframes'] > 0


class Stream:
    """One guest sends to another all the time, and begins anew if it has to."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        self.jobs = [
            (target, self._forever(target, 'socat -u -b 262144 '
                                   'TCP4-LISTEN:5001,reuseaddr /dev/null')),
            (source, self._forever(source, 'socat -u -b 262144 /dev/zero '
                                   f'TCP4:{target.addresses[0]}:5001'))]

    @staticmethod
    def _forever(guest, command):
        guest.check('touch /tmp/stream')
        return guest.background(f'while [ -e /tmp/stream ]; do {command}; '
                                'usleep 100000; done')

    def wait_flowing(self):
        before = self.target.port.count('rx-bytes')
        wait_for(lambda: self.target.port.count('rx-bytes') >
                 before + (1 << 20), 20)

    def stop(self):
        for guest, _ in self.jobs:
            guest.check('rm -f /tmp/stream')
        for guest, job in self.jobs:
            guest.run('killall socat')
            guest.wait_for(job)


@pytest.fixture
def stream(lab):
    stream = Stream(lab['virtio'], lab['other'])
    stream.wait_flowing()
    yield stream
    stream.stop()


def test_receiver_changes_its_mind(lab, stream):
    """The guest's driver stops and starts to accept superframes."""
    guest = stream.target
    for _ in range(3):
        guest.check('ethtool -K eth0 rx-gro-hw off')
        large = LargeFrames(guest)
        before = guest.port.counters
        stream.wait_flowing()
        assert large.count() == 0
        assert guest.port.changes(before).get('rx-superframes', 0) == 0
        guest.check('ethtool -K eth0 rx-gro-hw on')
        before = guest.port.counters
        stream.wait_flowing()
        assert guest.port.changes(before)['rx-superframes'] > 0
    copy(lab['off'], guest)


def test_driver_taken_away(lab, stream):
    """The guest's driver goes, and comes again, while frames arrive."""
    guest = stream.target
    driver = '/sys/bus/virtio/drivers/virtio_net'
    device = guest.check('basename $(readlink /sys/class/net/eth0/device)')
    for _ in range(3):
        guest.check(f'echo {device.strip()} >{driver}/unbind')
        guest.check('killall socat')
        guest.check(f'echo {device.strip()} >{driver}/bind')
        guest.check('ip link set eth0 up; '
                    f'ip addr add {guest.addresses[0]}/24 dev eth0; '
                    f'ip addr add {guest.addresses[1]}/64 dev eth0; '
                    'ethtool -K eth0 gro off')
        guest.wait_ping('10.81.0.1', 10)
        stream.wait_flowing()
    copy(lab['virtio'], guest)
    copy(guest, lab['virtio'])


@pytest.mark.parametrize('card', [
    'virtio-net-pci,disable-modern=on,mrg_rxbuf=off',
    'virtio-net-pci,mrg_rxbuf=off',
    'virtio-net-pci,hash=on,rss=on',
    'virtio-net-pci,packed=on,guest_csum=off',
    'virtio-net-pci,csum=off',
], ids=['10-bytes', 'unmerged', '20-bytes', 'no-rx', 'no-tx'])
def test_headers(net, boot, card):
    """Cards whose virtio_net_hdr is longer, shorter, or says less."""
    hosts = net.hosts(2)
    pair = [boot(host, nic=card, name=f'{name}',
                 addresses=[f'10.82.0.{n}/24'])
            for n, (host, name) in enumerate(zip(hosts, 'ab'), 1)]
    for number, guest in enumerate(pair, 1):
        guest.wait_ready()
        guest.addresses = [f'10.82.0.{number}']
    for source, target in pair, pair[::-1]:
        before = target.port.counters
        copy(source, target)
        got, sent = target.port.changes(before), source.port.counters
        assert (got.get('rx-superframes', 0) > 0) == \
            (',guest_csum=off' not in card)
        assert (sent['tx-superframes'] > 0) == (',csum=off' not in card)
        assert got.get('rx-drop-port', 0) == 0
