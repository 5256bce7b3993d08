# SPDX-License-Identifier: GPL-2.0-or-later
"""Real guests on one fabric, each with another network card, and a TAP.

    h1: guest with virtio-net-pci   10.81.0.1   fd81::1
    h2: guest with e1000            10.81.0.2   fd81::2
    h3: guest with rtl8139          10.81.0.3   fd81::3
    h4: qdes-tap                    10.81.0.9   fd81::9
"""

import os
import re
import signal
import socket
import time

import dissect
import pytest
from frames import BROADCAST, PacketSocket, frame, mac, marker
from guest import QMPError
from procs import wait_for
from stations import Station

CARDS = ['virtio-net-pci', 'e1000', 'rtl8139']
PAIRS = pytest.mark.parametrize('here, there', [(0, 1), (1, 2), (2, 0)],
                                ids=['virtio-e1000', 'e1000-rtl8139',
                                     'rtl8139-virtio'])


class Lab:
    def __init__(self, net, make_tap, boot):
        hosts = net.hosts(4)
        self.net = net
        self.guests = [boot(host, nic=card, name=card, addresses=[
            f'10.81.0.{n}/24,fd81::{n}/64'])
            for n, (host, card) in enumerate(zip(hosts, CARDS), 1)]
        self.far = hosts[3]
        self.make_tap = make_tap
        self.tap = make_tap(self.far).configure('10.81.0.9/24', 'fd81::9/64')
        for guest in self.guests:
            guest.wait_ready()

    def __getitem__(self, number):
        return self.guests[number]


@pytest.fixture(scope='module')
def lab(module_net, module_tap, module_boot):
    return Lab(module_net, module_tap, module_boot)


@PAIRS
def test_ping(lab, here, there):
    for size in 56, 1472, 1473, 8000, 60000:
        lab[here].assert_ping(f'10.81.0.{there + 1}', size=size)


@PAIRS
def test_ping6(lab, here, there):
    for size in 56, 1452, 1453, 60000:
        lab[here].assert_ping(f'fd81::{there + 1}', size=size)


@PAIRS
def test_file_by_tcp(lab, here, there):
    """A file crosses, and its SHA-256 is the same on both sides."""
    job = lab[there].background('socat -u TCP-LISTEN:5000 CREATE:/tmp/got')
    lab[there].wait_until('netstat -ltn | grep -q :5000')
    sent = lab[here].check(
        'dd if=/dev/urandom of=/tmp/file bs=64k count=64 2>/dev/null; '
        'sha256sum </tmp/file; '
        f'socat -u FILE:/tmp/file TCP:10.81.0.{there + 1}:5000', timeout=60)
    assert lab[there].wait_for(job)[0] == 0
    got = lab[there].check('sha256sum </tmp/got; wc -c </tmp/got')
    assert got == sent + '4194304\n'


@PAIRS
def test_large_udp(lab, here, there):
    job = lab[there].background(
        'socat -u -b 65507 UDP-RECVFROM:5001 CREATE:/tmp/got')
    lab[there].wait_until('netstat -lun | grep -q :5001')
    sent = lab[here].check(
        'head -c 60000 /dev/urandom >/tmp/file; sha256sum </tmp/file; '
        'socat -u -b 65507 FILE:/tmp/file '
        f'UDP-SENDTO:10.81.0.{there + 1}:5001')
    assert lab[there].wait_for(job)[0] == 0
    assert lab[there].check('sha256sum </tmp/got') == sent


@pytest.mark.parametrize('number', range(3), ids=CARDS)
def test_guest_and_tap(lab, number):
    address, address6 = f'10.81.0.{number + 1}', f'fd81::{number + 1}'
    guest = lab[number]
    lab.far.assert_ping(address, size=60000)
    lab.far.assert_ping(address6, size=60000)
    guest.assert_ping('10.81.0.9')
    guest.assert_ping('fd81::9')
    # A file in each direction, by a server in the guest.
    job = guest.background('socat TCP6-LISTEN:7,ipv6only=0 PIPE')
    guest.wait_until('netstat -ltn | grep -q :7')
    data = os.urandom(1 << 20)
    with lab.far.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
        sock.connect((address6, 7))
        got = b''
        for start in range(0, len(data), 1 << 15):
            sock.sendall(data[start:start + (1 << 15)])
            while len(got) < start + (1 << 15):
                got += sock.recv(1 << 16)
        assert got == data
    guest.wait_for(job)


def test_unicast_between_guests_is_private(lab):
    """The third guest's QEMU reads none of the others' conversation."""
    lab[0].assert_ping('10.81.0.2')
    third = lab[2].port
    before, mine = third.counters, lab[0].port.counters
    lab[0].assert_ping('10.81.0.2', count=20)
    changes = third.changes(before)
    heard = changes.get('rx-datagrams', 0) - changes.get('rx-hello', 0)
    # Guests may ask for addresses anew, by broadcast, but not much.
    assert heard <= 4, changes
    assert lab[0].port.changes(mine)['tx-unicast'] >= 20


def test_status_of_a_guest(lab):
    for guest in lab.guests:
        guest.wait_ping('10.81.0.9', 5)
        port = guest.port
        wait_for(lambda p=port: len(p.peers) == 3)
        status = port.status()
        assert status['id'] == 'net0'
        assert status['name'] == guest.name
        assert status['iface'] == 'eth0'
        assert status['link-up'] is True
        names = {p['name'] for p in status['peers']}
        assert names == {lab.tap.name, *CARDS} - {guest.name}
        assert port.fdb[guest.mac]['local'] is True
        assert port.fdb[lab.tap.mac]['peer'] == lab.tap.address
        assert lab.tap.fdb[guest.mac]['peer'] == port.address
        text = guest.hmp('info qdes')
        assert 'net0' in text
        assert port.address in text
        assert lab.tap.name in text
        assert lab.tap.mac in text
        text = guest.hmp('info network')
        assert 'type=qdes' in text
        assert port.address in text


def test_qemu_has_no_privilege(lab):
    for guest in lab.guests:
        with open(f'/proc/{guest.pid}/status', encoding='ascii') as file:
            assert 'CapEff:\t0000000000000000' in file.read()


def test_link_down_and_up(lab):
    """Unplugged, a guest is forgotten by its peers; plugged in, it is met."""
    guest = lab[0]
    port = guest.port
    guest.assert_ping('10.81.0.9')
    before = port.counters
    guest.qmp('set_link', name='net0', up=False)
    wait_for(lambda: not lab.tap.peer_named(guest.name), 2)
    assert guest.mac not in lab.tap.fdb
    assert port.status()['link-up'] is False
    assert 'link down' in guest.hmp('info network')
    assert port.changes(before)['tx-bye'] == 1
    assert not guest.ping('10.81.0.9', count=1, wait=1)
    guest.qmp('set_link', name='net0', up=True)
    wait_for(lambda: lab.tap.peer_named(guest.name), 2)
    assert port.status()['link-up'] is True
    guest.wait_ping('10.81.0.9', 5)
    assert 'link down' not in guest.hmp('info network')


def test_card_unplugged(lab):
    """The same by the card's name: the guest sees no carrier."""
    guest = lab[1]
    guest.qmp('set_link', name='nic0', up=False)
    guest.wait_until('[ "$(cat /sys/class/net/eth0/carrier)" = 0 ]')
    guest.qmp('set_link', name='nic0', up=True)
    guest.wait_until('[ "$(cat /sys/class/net/eth0/carrier)" = 1 ]')
    guest.wait_ping('10.81.0.9', 5)


def test_filter_dump(lab, tmp_path):
    """QEMU's own capture, and what tshark reads in it."""
    if dissect.why_not():
        pytest.skip(dissect.why_not())
    guest = lab[1]
    pcap = tmp_path / 'dump'
    guest.qmp('object-add', qom_type='filter-dump', id='dump', netdev='net0',
              file=str(pcap))
    guest.check('ip neigh flush dev eth0')
    guest.assert_ping('10.81.0.9', count=5, size=1000)
    guest.qmp('object-del', id='dump')
    packets = dissect.dissect(pcap, ['icmp.type', 'arp.opcode', 'eth.src'])
    types = [p.get('icmp.type') for p in packets]
    assert types.count(['8']) == 5
    assert types.count(['0']) == 5
    assert ['1'] in [p.get('arp.opcode') for p in packets]
    assert {a for p in packets for a in p['eth.src']} >= \
        {guest.mac, lab.tap.mac}


def flood(sock, data, seconds):
    """Send a frame as fast as can be; returns how often."""
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        for _ in range(50):
            sock.send(data)
        count += 50
    return count


@pytest.mark.parametrize('number', range(3), ids=CARDS)
def test_stopped_guest_under_a_flood(lab, number):
    """It holds back what its guest cannot take: no memory, no busy loop."""
    guest, port = lab[number], lab[number].port
    guest.assert_ping('10.81.0.9')
    sock = PacketSocket(lab.far, 'tap0')
    data = frame(guest.mac, lab.tap.mac, marker(), size=1400)
    guest.qmp('stop')
    try:
        flood(sock, data, 0.5)
        wait_for(lambda: port.status()['paused'])
        memory = guest.process.memory()
        cpu = guest.process.thread_cpu_seconds()
        start = time.monotonic()
        count = flood(sock, data, 2)
        spent = time.monotonic() - start
        cpu = guest.process.thread_cpu_seconds() - cpu
        assert count > 2000
        assert cpu < 0.2 * spent, f'{cpu} s of {spent} s'
        grown = guest.process.memory() - memory
        assert grown < 4 << 20, f'{grown} bytes more'
        assert port.count('rx-paused') >= 1
    finally:
        guest.qmp('cont')
    wait_for(lambda: not port.status()['paused'])
    guest.wait_ping('10.81.0.9', 10)
    lab.far.assert_ping(f'10.81.0.{number + 1}')


def test_running_guest_under_a_flood(lab):
    """More than an emulated card can take is lost, and counted."""
    guest, port = lab[1], lab[1].port
    guest.assert_ping('10.81.0.9')
    sock = PacketSocket(lab.far, 'tap0')
    memory = guest.process.memory()
    before, sent = port.counters, lab.tap.count('tx-unicast')
    flood(sock, frame(guest.mac, lab.tap.mac, marker(), size=60), 2)
    # What still waits in full queues keeps the first ping out.
    wait_for(lambda: lab.far.ping('10.81.0.2', count=1, deadline=1), 20)
    lab.far.assert_ping('10.81.0.2')
    sent = lab.tap.count('tx-unicast') - sent
    changes = port.changes(before)
    # The kernel may lose some before they come to the socket, and a train that
    # it drops counts as one.
    assert changes['rx-drop-kernel'] > 0
    assert (changes['rx-datagrams'] + 64 * changes['rx-drop-kernel'] >
            0.8 * sent), changes
    assert guest.process.memory() - memory < 16 << 20


@pytest.fixture
def hotplug(lab):
    """The virtio guest, and what is left in it is removed afterwards."""
    guest = lab[0]
    yield guest
    for device in [d['qdev_id'] for d in guest.qmp('query-pci')[0]['devices']
                   if d['qdev_id'].startswith('hot')]:
        unplug(guest, device)
    for line in guest.hmp('info network').splitlines():
        match = re.match(r'[ \\]*(hot\w+): ', line)
        if match and 'type=nic' not in line:
            try:
                guest.qmp('netdev_del', id=match[1])
            except QMPError:
                pass


def plug(guest, netdev, number, address):
    """Give the guest another card; returns what it calls it."""
    cards = guest.check('ls /sys/class/net').split()
    guest.qmp('device_add', driver='virtio-net-pci', netdev=netdev,
              id=f'hotnic{number}', mac=mac(7000 + number), romfile='')
    new = guest.wait_until(
        f'for i in /sys/class/net/*; do grep -q {mac(7000 + number)} '
        '$i/address && echo ${i##*/} && exit 0; done; exit 1').strip()
    assert new not in cards
    guest.check(f'ip link set {new} up; ip addr add {address} dev {new}')
    return new


def unplug(guest, device):
    guest.qmp('device_del', id=device)
    guest.wait_event('DEVICE_DELETED')


def test_two_networks_in_one_guest(lab, hotplug):
    """Netdevs added at run time, each in a network of its own."""
    guest = hotplug
    taps = []
    for number in 5, 6:
        guest.qmp('netdev_add', type='qdes', id=f'hot{number}', netid=number,
                  name=f'hot {number}')
        plug(guest, f'hot{number}', number, f'10.8{number}.0.1/24')
        tap = lab.make_tap(lab.far, f'tap{number}', netid=number)
        taps.append(tap.configure(f'10.8{number}.0.9/24'))
    for number, tap in zip((5, 6), taps):
        guest.wait_ping(f'10.8{number}.0.9', 5)
        lab.far.assert_ping(f'10.8{number}.0.1')
        assert [p['name'] for p in tap.peers] == [f'hot {number}']
        assert mac(7000 + number) in tap.fdb
    ids = {info['id'] for info in guest.qmp('query-qdes')}
    assert ids == {'net0', 'hot5', 'hot6'}
    # The first network goes on, and is not heard by the others.
    guest.assert_ping('10.81.0.9')
    for number, tap in zip((5, 6), taps):
        assert set(tap.fdb) == {tap.mac, mac(7000 + number)}
    for number, tap in zip((5, 6), taps):
        unplug(guest, f'hotnic{number}')
        guest.qmp('netdev_del', id=f'hot{number}')
        wait_for(lambda t=tap: not t.peers, 2)
        assert tap.count('peers-bye') == 1
        tap.stop()
    assert [i['id'] for i in guest.qmp('query-qdes')] == ['net0']


def test_netdev_del_with_traffic(lab, hotplug):
    """The netdev goes while frames flow in both directions."""
    guest = hotplug
    tap = Station(lab.make_tap, lab.far, 'tap7', netid=7)
    tap.port.configure('10.87.0.9/24')
    memory = None
    for number in range(3):
        guest.qmp('netdev_add', type='qdes', id='hot7', netid=7)
        card = plug(guest, 'hot7', 70 + number, '10.87.0.1/24')
        guest.wait_ping('10.87.0.9', 5)
        job = guest.background('ping -q -A -c 9999 -s 1400 10.87.0.9')
        flood(tap.socket, frame(mac(7070 + number), tap.mac, marker()), 0.2)
        guest.qmp('netdev_del', id='hot7')
        flood(tap.socket, frame(BROADCAST, tap.mac, marker()), 0.1)
        wait_for(lambda: not tap.peers, 2)
        unplug(guest, f'hotnic{70 + number}')
        guest.check('killall ping')
        guest.wait_for(job)
        assert card not in guest.check('ls /sys/class/net').split()
        memory = memory or guest.process.memory()
    assert guest.process.memory() - memory < 8 << 20
    guest.assert_ping('10.81.0.9')
    tap.stop()


def test_hubport(lab, hotplug):
    """A hub in QEMU with a card and two fabrics on it."""
    guest = hotplug
    taps = []
    for number in 8, 9:
        guest.qmp('netdev_add', type='qdes', id=f'hot{number}', netid=number)
        guest.qmp('netdev_add', type='hubport', id=f'hotport{number}',
                  hubid=0, netdev=f'hot{number}')
        tap = lab.make_tap(lab.far, f'tap{number}', netid=number)
        taps.append(tap)
    guest.qmp('netdev_add', type='hubport', id='hotcard', hubid=0)
    plug(guest, 'hotcard', 8, '10.88.0.1/24')
    # The hub joins both networks: what one side says, the other hears.
    others = [lab.net.namespace(f'behind{n}') for n in (8, 9)]
    for number, (tap, other) in enumerate(zip(taps, others), 2):
        lab.far.ip(f'link set {tap.tap} netns {other.full_name}')
        other.ip(f'link set {tap.tap} up',
                 f'addr add 10.88.0.{number}/24 dev {tap.tap}')
    for number, tap in enumerate(taps, 2):
        guest.wait_ping(f'10.88.0.{number}', 5)
    others[0].assert_ping('10.88.0.3')
    others[1].assert_ping('10.88.0.1')
    unplug(guest, 'hotnic8')
    for name in 'hotcard', 'hotport8', 'hotport9', 'hot8', 'hot9':
        guest.qmp('netdev_del', id=name)
    for tap in taps:
        wait_for(lambda t=tap: not t.peers, 2)
        tap.stop()


def test_wrong_netdev_leaves_the_guest_alone(lab, hotplug):
    for options, text in (({'mcast': '10.0.0.1'}, '10.0.0.1'),
                          ({'iface': 'eth77'}, 'eth77'),
                          ({'ttl': 256}, 'ttl'),
                          ({'netid': 4294967296}, 'netid')):
        with pytest.raises(QMPError, match=text):
            hotplug.qmp('netdev_add', type='qdes', id='hot1', **options)
    assert len(hotplug.qmp('query-qdes')) == 1
    hotplug.assert_ping('10.81.0.9')


def test_killed_guest_is_forgotten(lab):
    """The last test of these guests: one is killed, one is quit."""
    victim, other = lab[2], lab[1]
    victim.assert_ping('10.81.0.9')
    before = lab.tap.counters
    victim.process.kill()
    lab.far.ping('10.81.0.3', count=1, deadline=1)
    wait_for(lambda: not lab.tap.peer_named(victim.name))
    assert lab.tap.changes(before)['peers-unreachable'] == 1
    other.quit()
    wait_for(lambda: not lab.tap.peer_named(other.name), 2)
    assert lab.tap.changes(before)['peers-bye'] == 1
    lab[0].assert_ping('10.81.0.9')
