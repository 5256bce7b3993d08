# SPDX-License-Identifier: GPL-2.0-or-later
"""qdes-tap's offloads: what the TAP shows of them, and that all arrives."""

import fcntl
import os
import re
import socket
import struct
import threading

import pytest
import taptool
from frames import BROADCAST, mac
from procs import wait_for
from stations import Station
from traffic import tcp_transfer, udp_exchange

TUNSETIFF = 0x400454ca
TUNSETOFFLOAD = 0x400454d0
TUNSETVNETHDRSZ = 0x400454d8
IFF_TAP = 0x0002
IFF_MULTI_QUEUE = 0x0100
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 = 1, 2, 4
UDP_SEGMENT = 103

OFFLOADS = {'tx-checksum-ip-generic', 'tx-tcp-segmentation',
            'tx-tcp6-segmentation', 'tx-tcp-ecn-segmentation',
            'tx-udp-segmentation'}

# Around the limits of one frame, of copying, and of IP.
SIZES = [1, 2, 17, 18, 19, 63, 64, 999, 1471, 1472, 1473, 2001, 2960, 2961,
         8999, 30001, 65507]


def open_tun(host, name, flags):
    with host.entered():
        fd = os.open('/dev/net/tun', os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF,
                    struct.pack('16sH22x', name.encode(),
                                IFF_TAP | IFF_NO_PI | flags))
    return fd


def offloads(host, name='tap0'):
    """Those of OFFLOADS that the device has."""
    text = host.run(f'ethtool -k {name}').stdout
    return set(re.findall(r'^\s*(\S+): on', text, re.MULTILINE)) & OFFLOADS


def has_header(host, name='tap0'):
    return taptool.links(host)[name]['linkinfo']['info_data']['vnet_hdr']


def kernel_has_uso(host):
    """TUN_F_USO4 and TUN_F_USO6: Linux 6.2."""
    fd = open_tun(host, 'probe', IFF_VNET_HDR)
    try:
        fcntl.ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | 0x60)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def pair(net, tap, a=None, b=None, **both):
    hosts = net.hosts(2)
    ports = [tap(hosts[0], **both, **(a or {})),
             tap(hosts[1], **both, **(b or {}))]
    for number, port in enumerate(ports, 1):
        port.configure(f'10.81.0.{number}/24', f'fd81::{number}/64')
    ports[0].wait_peers(1)
    ports[1].wait_peers(1)
    return hosts, ports


def udp_burst(client, server, address, size, count):
    """COUNT datagrams in one call (UDP_SEGMENT); each arrives, in order."""
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    there, here = server.socket(family), client.socket(family)
    there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    there.bind((address, 0))
    here.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
    data = os.urandom(size * (count - 1) + size // 2 + 1)
    here.sendto(data, there.getsockname())
    for start in range(0, len(data), size):
        assert there.recv(70000) == data[start:start + size]
    there.close()
    here.close()


@pytest.fixture
def host(net):
    return net.hosts(1)[0]


def test_device_shows_the_offloads(host):
    expected = OFFLOADS
    if not kernel_has_uso(host):
        expected = OFFLOADS - {'tx-udp-segmentation'}
    process = taptool.start(host, '--tap', 'tap0')
    assert has_header(host)
    assert offloads(host) == expected
    assert process.stop() == 0


def test_off_is_off(host):
    process = taptool.start(host, '--tap', 'tap0', '--vnet-hdr=off')
    assert not has_header(host)
    assert offloads(host) == set()
    assert process.stop() == 0


@pytest.mark.parametrize('gso', ['on', 'off'])
@pytest.mark.parametrize('there', ['on', 'off'])
@pytest.mark.parametrize('here', ['on', 'off'])
def test_all_arrives(net, tap, here, there, gso):
    """Between ports with and without a header, in both directions."""
    hosts, _ = pair(net, tap, {'vnet_hdr': here}, {'vnet_hdr': there},
                    gso=gso)
    for client, server, number in (*hosts, 2), (*hosts[::-1], 1):
        for address in f'10.81.0.{number}', f'fd81::{number}':
            tcp_transfer(client, server, address, 4 << 20)
            udp_exchange(client, server, address, SIZES)
            udp_burst(client, server, address, 1000, 40)
            udp_burst(client, server, address, 1448, 2)
            udp_burst(client, server, address, 18, 64)


def superframes(host, interface='tap0'):
    return host.capture(interface, 'greater 2000', 'super')


def count(capture):
    capture.stop()
    return int(capture.wait_log(r'(\d+) packets? captured')[1])


@pytest.mark.parametrize('here, there, crossing',
                         [('on', 'on', (True, True)),
                          ('on', 'off', (True, False)),
                          ('off', 'on', (False, True)),
                          ('off', 'off', (False, False))])
def test_superframes_cross_where_they_may(net, tap, here, there, crossing):
    hosts, _ = pair(net, tap, {'vnet_hdr': here}, {'vnet_hdr': there})
    captures = [superframes(h) for h in hosts]
    tcp_transfer(*hosts, '10.81.0.2', 8 << 20)
    assert tuple(count(c) > 0 for c in captures) == crossing


def test_udp_superframes_cross(net, tap):
    hosts, _ = pair(net, tap)
    if not kernel_has_uso(hosts[0]):
        pytest.skip('needs USO in the TAP, Linux 6.2')
    captures = [superframes(h) for h in hosts]
    udp_burst(*hosts, '10.81.0.2', 1000, 40)
    udp_burst(*hosts, 'fd81::2', 1000, 40)
    assert count(captures[0]) == 2
    assert count(captures[1]) > 0


@pytest.mark.parametrize('mtu', [576, 1280, 9000, 65521])
def test_mtus(net, tap, mtu):
    hosts, _ = pair(net, tap)
    for host in hosts:
        host.ip(f'link set tap0 mtu {mtu}')
    tcp_transfer(*hosts, '10.81.0.2', 4 << 20)
    tcp_transfer(*hosts[::-1], '10.81.0.1', 4 << 20)
    udp_exchange(*hosts, '10.81.0.2', SIZES[:-1])


def test_ecn(net, tap):
    """Congestion is told by marks, in superframes as in frames."""
    hosts, ports = pair(net, tap)
    for host in hosts:
        host.sysctl('net.ipv4.tcp_ecn', 1)
    tcp_transfer(*hosts, '10.81.0.2', 8 << 20)
    tcp_transfer(*hosts[::-1], '10.81.0.1', 8 << 20)
    assert not [name for name, value in ports[0].counters.items()
                if value and name in ('tx-drop-offload', 'rx-drop-csum',
                                      'rx-drop-port')]


def test_many_flows_at_once(net, tap):
    """What is coalesced side by side does not get mixed up."""
    hosts, _ = pair(net, tap)
    errors = []

    def carry(client, server, address):
        try:
            for _ in range(3):
                tcp_transfer(client, server, address, 2 << 20)
        except BaseException as error:  # pylint: disable=broad-except
            errors.append(error)
    threads = [threading.Thread(target=carry, args=args)
               for args in [(*hosts, '10.81.0.2'), (*hosts, 'fd81::2'),
                            (*hosts[::-1], '10.81.0.1'),
                            (*hosts[::-1], 'fd81::1')] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_link_that_goes_down_under_load(net, tap):
    """What waits is dropped and counted, and all is well after that."""
    hosts, ports = pair(net, tap)
    stop = threading.Event()
    errors = []

    def carry():
        try:
            while not stop.is_set():
                tcp_transfer(*hosts, '10.81.0.2', 4 << 20)
        except BaseException as error:  # pylint: disable=broad-except
            errors.append(error)
    thread = threading.Thread(target=carry)
    thread.start()
    try:
        for _ in range(5):
            before = ports[1].count('rx-frames')
            ports[1].wait_count('rx-frames', before + 1000)
            hosts[1].ip('link set tap0 down', 'link set tap0 up')
    finally:
        stop.set()
        thread.join()
    assert not errors
    wait_for(lambda: ports[1].status()['link-up'])


def test_in_a_bridge(net, tap):
    """Behind the TAP is a machine that knows of no offloads."""
    hosts, _ = pair(net, tap)
    machine = net.namespace('machine')
    hosts[1].ip('addr flush dev tap0', 'link add br0 type bridge',
                'link set tap0 master br0', 'link set br0 up',
                f'link add v0 type veth peer name eth0 netns '
                f'{machine.full_name}', 'link set v0 master br0 up')
    machine.ip('link set eth0 up', 'addr add 10.81.0.2/24 dev eth0')
    machine.run('ethtool -K eth0 tx off rx off tso off gso off gro off')
    wait_for(lambda: hosts[0].ping('10.81.0.2', count=1, deadline=1))
    for client, server, number in ((hosts[0], machine, 2),
                                   (machine, hosts[0], 1)):
        tcp_transfer(client, server, f'10.81.0.{number}', 4 << 20)
        udp_exchange(client, server, f'10.81.0.{number}', SIZES)


# A device that others have used, and will use.

def test_device_that_stays_has_no_offloads(host):
    """Whoever comes next may have never heard of superframes."""
    host.ip('tuntap add dev tap0 mode tap')
    for _ in range(2):
        process = taptool.start(host, '--tap', 'tap0')
        assert {'tx-tcp-segmentation', 'tx-tcp6-segmentation'} \
            <= offloads(host)
        assert process.stop() == 0
        assert offloads(host) == set()


@pytest.mark.parametrize('here', ['on', 'off'])
@pytest.mark.parametrize('header', [None, 10, 12, 20])
def test_device_that_somebody_had(net, tap, here, header):
    """The header of its last user was another one, or none."""
    hosts = net.hosts(2)
    hosts[0].ip('tuntap add dev tap0 mode tap')
    fd = open_tun(hosts[0], 'tap0', IFF_VNET_HDR if header else 0)
    if header:
        fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack('i', header))
        fcntl.ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4)
    os.close(fd)
    a, b = tap(hosts[0], vnet_hdr=here), tap(hosts[1])
    assert has_header(hosts[0]) == (here == 'on')
    a.configure('10.81.0.1/24')
    b.configure('10.81.0.2/24')
    tcp_transfer(*hosts, '10.81.0.2', 2 << 20)
    tcp_transfer(*hosts[::-1], '10.81.0.1', 2 << 20)


@pytest.mark.parametrize('here', ['on', 'off'])
def test_device_with_several_queues(net, tap, here):
    hosts = net.hosts(2)
    hosts[0].ip('tuntap add dev tap0 mode tap multi_queue')
    a, b = tap(hosts[0], vnet_hdr=here), tap(hosts[1])
    assert has_header(hosts[0]) == (here == 'on')
    a.configure('10.81.0.1/24')
    b.configure('10.81.0.2/24')
    tcp_transfer(*hosts, '10.81.0.2', 2 << 20)
    tcp_transfer(*hosts[::-1], '10.81.0.1', 2 << 20)


@pytest.mark.parametrize('header', [None, 12])
def test_device_that_is_shared(net, tap, header):
    """Somebody else's queue stays as it is: frames keep their form."""
    hosts = net.hosts(2)
    hosts[0].ip('tuntap add dev tap0 mode tap multi_queue',
                'link set tap0 up')
    fd = open_tun(hosts[0], 'tap0', IFF_MULTI_QUEUE |
                  (IFF_VNET_HDR if header else 0))
    if header:
        fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack('i', header))
        fcntl.ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO6)
    before = offloads(hosts[0])
    a, b = Station(tap, hosts[0]), Station(tap, hosts[1])
    assert 'several queues' in a.process.log
    assert has_header(hosts[0]) == (header is not None)
    assert offloads(hosts[0]) == before
    a.expect(b.send(BROADCAST, mac(2)))
    # The kernel spreads flows over the queues: what goes to ours arrives,
    # what goes to the other one has the form that was asked for there.
    sent = [a.send(BROADCAST, mac(1)) for _ in range(50)]
    sizes = set()
    while True:
        try:
            data = os.read(fd, 70000)
        except BlockingIOError:
            break
        if data[header or 0:] in sent:
            sizes.add(len(data))
    assert sizes <= {60 + (header or 0)}
    a.stop()
    assert offloads(hosts[0]) == before
    assert has_header(hosts[0]) == (header is not None)
    os.close(fd)


def test_owner_without_privileges(net, tmp_path):
    """Offloads take no root, only the device does."""
    host = net.hosts(1)[0]
    copy = taptool.PublicCopy(str(tmp_path))
    host.ip(f'tuntap add dev tap0 mode tap user {taptool.NOBODY}',
            'link set tap0 up')
    process = taptool.start(host, '--tap', 'tap0', wrap=taptool.AS_NOBODY,
                            program=copy.program)
    assert 'tx-tcp-segmentation' in offloads(host)
    assert process.stop() == 0
    assert offloads(host) == set()


# The capture

def test_capture_has_superframes_but_no_header(net, tap, tmp_path):
    """All of a transfer is in it, byte for byte; tcpdump agrees."""
    path = tmp_path / 'pcap'
    hosts, _ = pair(net, tap, {'pcap': path, 'pcap_filter': 'tcp'})
    tcp_transfer(*hosts, '10.81.0.2', 1 << 20)

    def captured():
        text = hosts[0].run(['tcpdump', '-Z', 'root', '-n', '-e', '-r',
                             path, 'tcp'], check=False).stdout
        lengths = [int(n) for n in
                   re.findall(r'> 10\.81\.0\.2\.\d+: .*, length (\d+)', text)]
        return lengths if sum(lengths) >= 1 << 20 else None
    lengths = wait_for(captured)
    assert max(lengths) > 2000
    # The MAC addresses stand where they have to.
    text = hosts[0].run(['tcpdump', '-Z', 'root', '-n', '-e', '-r', path,
                         'ip dst 10.81.0.2']).stdout
    assert all(' > 10.81.0.2.' in line for line in text.splitlines()
               if 'ethertype IPv4' in line)


@pytest.mark.parametrize('here', ['on', 'off'])
def test_captured_frames_are_whole(net, tap, here):
    """In both directions, whatever the device has before its frames."""
    hosts = net.hosts(2)
    path = f'{net.run_dir}/pcap'
    a = Station(tap, hosts[0], vnet_hdr=here, pcap=path)
    b = Station(tap, hosts[1])
    expected = []
    for size in 60, 61, 500, 1514:
        expected.append(a.send(BROADCAST, mac(1), size=size))
        b.expect(expected[-1])
        expected.append(b.send(BROADCAST, mac(2), size=size))
        a.expect(expected[-1])

    def whole():
        data = open(path, 'rb').read()
        return all(e in data for e in expected)
    wait_for(whole)
