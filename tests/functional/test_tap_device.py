# SPDX-License-Identifier: GPL-2.0-or-later
"""The TAP device: made, found, shared, taken away; and the program's end."""

import array
import fcntl
import os
import signal
import socket
import struct

import pytest
import taptool
from frames import BROADCAST, mac
from procs import wait_for
from stations import Station
from traffic import tcp_transfer

TUNSETIFF = 0x400454ca
TUNSETPERSIST = 0x400454cb
TUNSETOFFLOAD = 0x400454d0
IFF_TUN = 0x0001
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 = 1, 2, 4
SIOCETHTOOL = 0x8946
ETHTOOL_GTSO = 0x1e


@pytest.fixture
def host(net):
    return net.hosts(1)[0]


def open_tun(host, name, flags):
    with host.entered():
        fd = os.open('/dev/net/tun', os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(fd, TUNSETIFF,
                    struct.pack('16sH22x', name.encode(), flags))
    return fd


def segments_tcp(host, name):
    """Does the kernel hand TCP superframes to this interface?"""
    value = array.array('I', [ETHTOOL_GTSO, 0])
    fcntl.ioctl(host.socket(), SIOCETHTOOL,
                struct.pack('16sP', name.encode(), value.buffer_info()[0]))
    return bool(value[1])


def test_new_device_is_up_and_vanishes(host):
    process = taptool.start(host, '--tap', 'tap0')
    assert 'tap0 (new) is ready' in process.log
    assert taptool.is_up(host, 'tap0')
    assert process.stop() == 0
    assert 'tap0' not in taptool.links(host)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT,
                                    signal.SIGHUP])
def test_signals_end_it_cleanly(net, tap, number):
    """With a BYE: the other port knows at once."""
    hosts = net.hosts(2)
    other = tap(hosts[0])
    control = f'{net.run_dir}/c'
    process = taptool.start(hosts[1], '--tap', 'tap0', '--control', control)
    other.wait_peers(1)
    assert process.stop(number) == 0
    other.wait_count('peers-bye', 1, 1)
    assert other.peers == []
    assert not os.path.exists(control)


def test_nohup(host):
    process = taptool.start(host, '--tap', 'tap0', wrap=['nohup'])
    process.send(signal.SIGHUP)
    # The next signal is only taken when the one before has been.
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    assert 'Hangup' not in process.log
    assert 'Terminated' in process.log


def test_sigkill_leaves_nothing_of_the_device(host):
    process = taptool.start(host, '--tap', 'tap0')
    process.kill()
    wait_for(lambda: 'tap0' not in taptool.links(host))


def test_persistent_device_stays(host):
    host.ip('tuntap add dev tap0 mode tap',
            'link set tap0 address 02:00:00:00:00:77 mtu 1400',
            'addr add 10.9.9.9/24 dev tap0')
    assert not taptool.is_up(host, 'tap0')
    for _ in range(2):
        process = taptool.start(host, '--tap', 'tap0')
        assert '(new)' not in process.log
        assert taptool.is_up(host, 'tap0')
        assert process.stop() == 0
        link = taptool.links(host)['tap0']
        assert link['address'] == '02:00:00:00:00:77'
        assert link['mtu'] == 1400
        assert link['linkinfo']['info_data']['persist'] is True
        assert '10.9.9.9' in host.run('ip addr show tap0').stdout


def test_kernel_chooses_the_number(host):
    host.ip('tuntap add dev tap0 mode tap')
    control = f'{host.network.run_dir}/c'
    process = taptool.start(host, '--tap', 'tap%d', '--control', control)
    assert 'tap1 (new) is ready' in process.log
    assert taptool.status(control).startswith('tap1:\n')
    assert process.stop() == 0


def test_device_in_use(host):
    process = taptool.start(host, '--tap', 'tap0')
    line = taptool.refused(host, '--tap', 'tap0')
    assert '--tap=tap0: in use by another program' in line
    assert process.stop() == 0


def test_not_a_tap_device(host):
    host.ip('tuntap add dev tun0 mode tun')
    for name in 'eth0', 'tun0':
        before = taptool.links(host)[name]
        line = taptool.refused(host, '--tap', name)
        assert f'--tap={name}: this interface exists but is not a TAP' in line
        assert taptool.links(host)[name] == before


def test_multi_queue_device(net, tap):
    """It was made by somebody else; one queue is enough."""
    hosts = net.hosts(2)
    hosts[0].ip('tuntap add dev tap0 mode tap multi_queue')
    a, b = Station(tap, hosts[0]), Station(tap, hosts[1])
    b.expect(a.send(BROADCAST, mac(1)))
    a.expect(b.send(BROADCAST, mac(2)))
    assert 'several queues' in a.process.log


def test_offloads_of_the_last_user_are_off(net, tap):
    """What a persistent TAP was asked for before must not come to us."""
    hosts = net.hosts(2)
    hosts[0].ip('tuntap add dev tap0 mode tap')
    fd = open_tun(hosts[0], 'tap0', IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
    fcntl.ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)
    assert segments_tcp(hosts[0], 'tap0')
    os.close(fd)
    a, b = [tap(h, vnet_hdr='off', gso='off') for h in hosts]
    assert not segments_tcp(hosts[0], 'tap0')
    a.configure('10.81.0.1/24')
    b.configure('10.81.0.2/24')
    capture = hosts[0].capture('eth0', 'udp and greater 1600')
    tcp_transfer(hosts[0], hosts[1], '10.81.0.2', 1 << 20)
    capture.stop()
    assert capture.wait_log(r'(\d+) packets? captured')[1] == '0'


def test_deleted_device_ends_the_program(host):
    control = f'{host.network.run_dir}/c'
    process = taptool.start(host, '--tap', 'tap0', '--control', control)
    host.ip('link del tap0')
    assert process.wait() == 1
    lines = [line for line in process.log.splitlines() if 'deleted' in line]
    assert len(lines) == 1
    assert 'tap0' in lines[0]
    assert not os.path.exists(control)


def test_link_down_and_up(net, tap):
    """Down: peers are told, nothing passes; up: everything is back."""
    hosts = net.hosts(2)
    a, b = Station(tap, hosts[0]), Station(tap, hosts[1])
    a.wait_peers(1)
    b.wait_peers(1)
    b.speak(mac(2), a)
    for number in 1, 2:
        byes = b.count('peers-bye')
        hosts[0].ip('link set tap0 down')
        b.wait_count('peers-bye', byes + 1, 2)
        assert a.status()['link-up'] is False
        b.send(BROADCAST, mac(2))
        a.wait_count('rx-drop-link', number)
        hosts[0].ip('link set tap0 up')
        b.wait_peers(1, 2)
        # The test's own socket was told as well.
        assert a.socket.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        assert a.status()['link-up'] is True
        a.expect(b.send(BROADCAST, mac(2)))
        b.expect(a.send(BROADCAST, mac(1)))
    assert a.process.log.count('tap0 is down') == 2


def test_renamed_device(host):
    process = taptool.start(host, '--tap', 'tap0')
    host.ip('link set tap0 down')
    process.wait_log('tap0 is down')
    host.ip('link set tap0 name uplink0', 'link set uplink0 up')
    process.wait_log('uplink0 is up')
    assert process.stop() == 0


def test_device_in_another_namespace(net, tap):
    """The guest's side of the TAP may live in a container."""
    hosts = net.hosts(2)
    a, b = tap(hosts[0]), Station(tap, hosts[1])
    container = net.namespace('container')
    hosts[0].ip(f'link set tap0 netns {container.full_name}')
    container.ip('link set tap0 up', 'addr add 10.81.0.1/24 dev tap0')
    b.configure('10.81.0.2/24')
    hosts[1].assert_ping('10.81.0.1')
    assert a.alive


def test_large_frames(net, tap):
    hosts = net.hosts(2)
    a, b = tap(hosts[0]), tap(hosts[1])
    a.configure('10.81.0.1/24')
    b.configure('10.81.0.2/24')
    for host in hosts:
        host.ip('link set tap0 mtu 65000')
    hosts[0].assert_ping('10.81.0.2', size=60000)
    # Over the limit of the fabric: dropped, counted, and nothing else.
    for host in hosts:
        host.ip('link set tap0 mtu 65521')
    before = a.counters
    assert not hosts[0].ping('10.81.0.2', size=65490, count=1, deadline=1)
    assert a.changes(before)['tx-drop-long'] >= 1
    hosts[0].assert_ping('10.81.0.2')


def test_slow_underlay_holds_the_sender_back(net, tap):
    """A full socket is no reason to drop, nor to burn the processor."""
    hosts = net.hosts(2)
    a = tap(hosts[0], sndbuf=16384)
    b = tap(hosts[1])
    a.configure('10.81.0.1/24')
    b.configure('10.81.0.2/24')
    hosts[0].assert_ping('10.81.0.2')
    hosts[0].run('tc qdisc add dev eth0 root tbf rate 8mbit burst 10k '
                 'limit 10m')
    before, cpu = a.counters, a.process.cpu_seconds()
    tcp_transfer(hosts[0], hosts[1], '10.81.0.2', 2 << 20)
    changes = a.changes(before)
    assert changes['tx-blocked'] > 10
    dropped = {n: v for n, v in changes.items() if n.startswith('tx-drop')}
    assert not dropped
    assert a.process.cpu_seconds() - cpu < 1


def test_traffic_does_not_starve_signals_and_status(net, tap):
    hosts = net.hosts(2)
    # On a fast host, that is more than the port would send.
    a, b = Station(tap, hosts[0]), tap(hosts[1], storm_control='off')
    flood = hosts[1].start(
        ['/usr/bin/python3', '-c', '''
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('tap0', 0))
f = bytes.fromhex('ffffffffffff 025100000009 88b5') + bytes(100)
while True:
    try:
        s.send(f)
    except OSError:
        pass
'''], 'flood')
    a.wait_count('rx-frames', 1000)
    for _ in range(20):
        assert a.try_status()
    a.stop()
    flood.kill()
    assert b.alive
