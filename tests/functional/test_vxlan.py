# SPDX-License-Identifier: GPL-2.0-or-later
"""encap=vxlan and encap=vxvde, with kernels, Open vSwitch, VDE, and QEMU's own
netdev for that.

In each fabric, who has number N is 10.81.0.N and fd81::N inside.
"""

from ipaddress import ip_address

import pytest
import taptool
from dnsserver import A, DnsServer
from frames import BROADCAST, PacketSocket, frame, mac, marker
from guest import Guest
from guests import QDES_GUEST
from procs import wait_for
from traffic import tcp_transfer, udp_exchange
from vteps import EvpnVtep, KernelVtep, OpenVswitch, Vde, configure

STOCK_QEMU = '/usr/bin/qemu-system-x86_64'
GROUP, GROUP6 = '239.1.2.3', 'ff15::77'
SIZE = 4 << 20                  # bytes of TCP


@pytest.fixture
def port(tap):
    """Start a qdes-tap that has a number: port(host, 3, encap=...)."""
    def make(host, number, **options):
        options.setdefault('encap', 'vxlan')
        options.setdefault('netid', 5)
        made = tap(host, **options)
        configure(host, made.tap, number, up=False)
        made.mac = mac(number)
        return made
    return make


def both_ways(one, number, other, other_number, size=SIZE):
    """Pings, UDP and TCP between two hosts of the fabric, IPv4 and IPv6."""
    for prefix in '10.81.0.', 'fd81::':
        here, there = f'{prefix}{number:x}', f'{prefix}{other_number:x}'
        one.assert_ping(there)
        one.assert_ping(there, size=1472)
        one.assert_ping(there, size=9000)
        udp_exchange(one, other, there, (1, 1000, 1472, 5000))
        tcp_transfer(one, other, there, size)
        tcp_transfer(other, one, here, size)


@pytest.mark.parametrize('group, vni, udp_port', [
    (GROUP, 5, 4789), (GROUP6, 0xffffff, 4789), (GROUP, 0, 8472),
    (GROUP6, 1, 8472)], ids=['v4', 'v6-vni-ffffff', 'v4-8472', 'v6-8472'])
def test_kernel_by_multicast(net, port, group, vni, udp_port):
    one, two, three = net.hosts(3)
    kernel = KernelVtep(one, vni, 1, group=group, dev='eth0',
                        dstport=udp_port)
    text = f'[{group}]' if ':' in group else group
    mcast = f'{text}:{udp_port}' if udp_port != 4789 else text
    a = port(two, 2, netid=vni, mcast=mcast)
    b = port(three, 3, netid=vni, mcast=mcast, plain_io=True)
    both_ways(one, 1, two, 2)
    both_ways(two, 2, three, 3)
    both_ways(one, 1, three, 3)

    # All are where they are, at the fabric's port.
    def address(host):
        text = host.address6 if ':' in group else host.address
        return str(ip_address(text))

    def where(host):
        text = address(host)
        return f'[{text}]:{udp_port}' if ':' in text else f'{text}:{udp_port}'
    assert a.address == where(two)
    assert a.fdb[kernel.mac]['peer'] == where(one)
    assert a.fdb[b.mac]['peer'] == where(three)
    assert kernel.where(a.mac) == address(two)
    assert {(p['address'], p['state']) for p in a.peers} == \
        {(where(one), 'alive'), (where(three), 'alive')}
    status = a.status()
    assert status['encap'] == 'vxlan'
    # Unicast went to one, superframes in both directions, and no message.
    counters = a.counters
    assert counters['tx-unicast'] > 100 > counters['tx-flooded']
    assert counters['tx-superframes'] and counters['rx-superframes']
    assert counters['tx-trains']
    assert counters['tx-hello'] == counters['tx-bye'] == 0
    assert not {n: v for n, v in counters.items()
                if n.startswith('rx-drop') and n != 'rx-drop-kernel' and v}
    assert b.count('tx-trains') == 0


def test_datagrams_are_vxlan(net, port):
    """What leaves is as RFC 7348 has it, as a dissector reads it."""
    one, two = net.hosts(2)
    capture = one.capture('eth0', 'udp port 4789', 'vxlan')
    port(one, 1, mcast=GROUP, netid=0xabcdef)
    port(two, 2, mcast=GROUP, netid=0xabcdef)
    both_ways(one, 1, two, 2, 100000)
    capture.stop()
    def tshark(*args):
        done = one.run(['tshark', '-r', capture.pcap, '-o',
                        'tcp.check_checksum:TRUE', '-o',
                        'udp.check_checksum:TRUE', '-T', 'fields', *args])
        return [line for line in done.stdout.splitlines()
                if line.startswith('0x')]

    headers = tshark('-e', 'vxlan.flags', '-e', 'vxlan.vni')
    assert len(headers) > 50
    assert set(headers) == {f'0x0800\t{0xabcdef}'}
    # Of what came by the wire; what left here has its outer checksum not yet.
    bad = tshark('-Y', f'ip.src=={two.address} and '
                 '(tcp.checksum.status==0 or _ws.malformed)', '-e',
                 'vxlan.flags', '-e', 'frame.number', '-e',
                 'tcp.checksum.status', '-e', 'frame.protocols')
    # Bytes drawn by lot, at a port drawn by lot, may be taken for anything.
    known = set('eth ethertype arp ip ipv6 ipv6.fraghdr udp vxlan tcp icmp '
                'icmpv6 data'.split())
    bad = [line for line in bad
           if '0' in line.split('\t')[2].split(',') or
           known.issuperset(line.split('\t')[3].split(':'))]
    assert not bad
    assert len(tshark('-Y', 'tcp.checksum.status==1', '-e',
                      'vxlan.flags')) > 20


def test_kernel_with_static_entries(net, port):
    """A kernel that copies floods to who it was told, and no group."""
    one, two, three = net.hosts(3)
    kernel = KernelVtep(one, 5, 1, dev='eth0')
    kernel.flood_to(two.address, three.address)
    a = port(two, 2, mcast=GROUP)
    b = port(three, 3, mcast=GROUP)
    both_ways(one, 1, two, 2)
    both_ways(one, 1, three, 3)
    both_ways(two, 2, three, 3)
    assert a.fdb[kernel.mac]['peer'] == b.fdb[kernel.mac]['peer'] == \
        f'{one.address}:4789'


def test_networks_are_apart(net, port):
    one, two, three = net.hosts(3)
    KernelVtep(one, 5, 1, group=GROUP, dev='eth0')
    same = port(two, 2, mcast=GROUP, netid=5)
    other = port(three, 3, mcast=GROUP, netid=6)
    one.assert_ping('10.81.0.2')
    assert not one.ping('10.81.0.3', count=1, deadline=1)
    assert same.count('rx-frames') and not other.count('rx-frames')
    assert other.count('rx-drop-kernel') > 0
    assert other.peers == []


def test_moves_and_ageing(net, port):
    """A MAC address moves from one kernel to another, and one dies."""
    one, two, three = net.hosts(3)
    KernelVtep(one, 5, 1, group=GROUP, dev='eth0')
    KernelVtep(two, 5, 2, group=GROUP, dev='eth0')
    watcher = port(three, 3, mcast=GROUP, ageing=10)
    three.assert_ping('10.81.0.1')
    three.assert_ping('10.81.0.2')
    roaming = mac(77)
    for host, where in (one, one), (two, two), (one, one):
        here = PacketSocket(host, 'vx0')
        here.send(frame(BROADCAST, roaming, marker()))
        wait_for(lambda w=where: watcher.peer_of(roaming) ==
                 f'{w.address}:4789', 5, lambda: watcher.fdb)
    assert watcher.fdb[roaming]['moves'] == 2

    # Silence for the time that MACs age, and it is gone with all of them.
    flooded = watcher.count('tx-flooded')
    one.ip('link set vx0 down')
    wait_for(lambda: f'{one.address}:4789' not in
             [p['address'] for p in watcher.peers], 20,
             lambda: watcher.peers)
    assert not watcher.fdb.get(roaming)
    PacketSocket(three, 'tap0').send(frame(roaming, watcher.mac, marker()))
    watcher.wait_count('tx-flooded', flooded + 1)


def test_port_unreachable(net, port):
    """A kernel that has no vxlan device any more says so by ICMP."""
    one, two = net.hosts(2)
    KernelVtep(one, 5, 1, group=GROUP, dev='eth0')
    a = port(two, 2, mcast=GROUP)
    two.assert_ping('10.81.0.1')
    one.ip('link del vx0')
    PacketSocket(two, 'tap0').send(frame(mac(1), a.mac, marker()))
    a.wait_count('peers-unreachable', 1)
    assert a.peers == []


def test_two_ports_of_a_host(net, port):
    """Each with an address of its own; what a second one without is told."""
    one, two = net.hosts(2)
    one.ip('addr add 10.80.0.101/24 dev eth0')
    KernelVtep(two, 5, 2, group=GROUP, dev='eth0')
    a = port(one, 1, mcast=GROUP, localaddr=one.address)
    for args in (), ('--localaddr', one.address):
        text = taptool.refused(one, '--tap', 'tap9', '--encap', 'vxlan',
                               '--netid', '5', '--mcast', GROUP, *args)
        assert text.startswith(
            f'--localaddr={one.address if args else "0.0.0.0"}: UDP port 4789, '
            'at which encap=vxlan takes frames, is held here already')
        assert 'localaddr= of its own' in text
    b = port(one, 3, tap='tap1', mcast=GROUP, localaddr='10.80.0.101')
    here, there = PacketSocket(one, 'tap0'), PacketSocket(one, 'tap1')
    far = PacketSocket(two, 'vx0')
    for sender, receivers in ((here, (there, far)), (there, (here, far)),
                              (far, (here, there))):
        data = frame(BROADCAST, mac(50), marker())
        sender.send(data)
        for receiver in receivers:
            receiver.expect(data)
    # Unicast between the two, and to the one that it is for.
    data = frame(a.mac, mac(51), marker())
    here.send(frame(BROADCAST, a.mac, marker()))
    b.wait_mac(a.mac)
    there.send(data)
    here.expect(data)
    assert b.count('tx-unicast') == 1
    assert a.count('rx-drop-own') == b.count('rx-drop-own') == 0


def test_kernel_on_the_same_host(net):
    """Who has a vxlan device of the kernel already is told what to do."""
    one, = net.hosts(1)
    KernelVtep(one, 5, 1, group=GROUP, dev='eth0')
    for args in (), ('--localaddr', one.address):
        text = taptool.refused(one, '--tap', 'tap0', '--encap', 'vxlan',
                               '--mcast', GROUP, *args)
        assert 'vxlan device of the kernel' in text
        assert 'mcast=ADDR:PORT' in text
    process = taptool.start(one, '--tap', 'tap0', '--encap', 'vxlan',
                            '--mcast', f'{GROUP}:4790')
    assert process.stop() == 0


def test_what_cannot_be_carried(net):
    one, = net.hosts(1)
    for encap in 'vxlan', 'vxvde':
        text = taptool.refused(one, '--tap', 'tap0', '--encap', encap,
                               '--superframes', 'on')
        assert text.startswith('--superframes=on: ') and 'encap=qdes' in text
        text = taptool.refused(one, '--tap', 'tap0', '--encap', encap,
                               '--loop-guard', 'on')
        assert text.startswith('--loop-guard=on: ') and 'encap=qdes' in text
        text = taptool.refused(one, '--tap', 'tap0', '--encap', encap,
                               '--netid', 1 << 24)
        assert text.startswith(f'--netid={1 << 24}: ') and '24 bits' in text


# VDE


@pytest.mark.parametrize('url, options', [
    ('vxvde://', {}),
    (f'vxvde://{GROUP}/port=5000/vni=42',
     {'mcast': f'{GROUP}:5000', 'netid': 42}),
    (f'vxvde://{GROUP6}/v6/vni=16777215',
     {'mcast': f'[{GROUP6}]', 'netid': 16777215})],
    ids=['defaults', 'port-vni', 'v6'])
def test_vde(net, tap, url, options):
    one, two, three = net.hosts(3)
    vde = Vde(one, url, 1)
    a = tap(two, encap='vxvde', **options)
    b = tap(three, encap='vxvde', **options)
    configure(two, 'tap0', 2)
    configure(three, 'tap0', 3)
    both_ways(one, 1, two, 2)
    both_ways(two, 2, three, 3)
    # Answers go where it sends from, which is not the group's port.
    address = a.fdb[vde.mac]['peer']
    assert address == b.fdb[vde.mac]['peer']
    assert not address.endswith((':14789', ':5000'))
    assert a.count('tx-unicast') > 100 > a.count('tx-flooded')
    assert a.status()['encap'] == 'vxvde'
    assert a.status()['netid'] == options.get('netid', 1)


def test_qemu_by_vde(net, tap):
    """The distribution's QEMU, which knows nothing of us."""
    one, two = net.hosts(2)
    a = tap(one, encap='vxvde')
    configure(one, 'tap0', 1)
    guest = Guest(STOCK_QEMU, ['vde,sock=vxvde://'], name='stock',
                  netns=two.full_name, images=QDES_GUEST,
                  addresses=['10.81.0.2/24'])
    net.on_close.append(guest.stop)
    guest.start()
    guest.wait_ready()
    one.assert_ping('10.81.0.2', deadline=20)
    one.assert_ping('10.81.0.2', size=1472)
    status, output = guest.run('ping -c 3 -i 0.1 10.81.0.1')
    assert status == 0, output
    assert a.fdb[guest.macs[0]]['peer'].startswith(two.address)


# Open vSwitch


def test_open_vswitch(net, port):
    # It neither cuts nor joins IP packets.
    switch = net.switch(1600)
    one, two, three = (net.host(f'h{i}', switch) for i in (1, 2, 3))
    a = port(two, 2, mcast=GROUP)
    port(three, 3, mcast=GROUP)
    ovs = OpenVswitch(one, switch, 5, [two.address, three.address], 1)
    wait_for(lambda: one.ping('10.81.0.2', count=1, deadline=1), 20)
    both_ways(one, 1, two, 2)
    both_ways(one, 1, three, 3)
    both_ways(two, 2, three, 3)
    assert a.fdb[ovs.mac]['peer'] == f'{one.address}:4789'


# Without multicast


def wait_copies(port, count):
    """Wait until COUNT peers get copies of floods."""
    wait_for(lambda: sum(p['copy'] for p in port.peers) == count, 5,
             lambda: f'{count} peers of {port} get copies: {port.peers}')


@pytest.mark.parametrize('v6', [False, True], ids=['v4', 'v6'])
def test_head_end_replication(net, port, v6):
    """Kernels with static entries, ports with lists, and no group at all."""
    def address(host):
        return str(ip_address(host.address6 if v6 else host.address))

    hosts = one, two, three, four = net.hosts(4)
    for number, host in enumerate((one, two), 1):
        kernel = KernelVtep(host, 5, number, local=address(host), dev='eth0')
        kernel.flood_to(*(address(h) for h in hosts if h is not host))
    ports = []
    for number, host in enumerate((three, four), 3):
        others = [address(h) for h in hosts if h is not host]
        ports.append(port(host, number, mcast='off', peer=others))
    for a in ports:
        wait_copies(a, 3)
        assert all(p['state'] == 'alive' and p['seed'] for p in a.peers)
    both_ways(one, 1, three, 3)
    both_ways(three, 3, four, 4)
    both_ways(four, 4, two, 2)
    # A broadcast comes to each once, and goes back to nobody.
    sockets = [PacketSocket(h, i) for h, i in
               zip(hosts, ('vx0', 'vx0', 'tap0', 'tap0'))]
    for i, sender in enumerate(sockets):
        data = frame(BROADCAST, mac(50 + i), marker())
        sender.send(data)
        for receiver in sockets:
            if receiver is not sender:
                receiver.expect(data)
                assert data not in receiver.pending()
    assert not any(data in s.pending() for s in sockets)
    a = ports[0]
    assert a.count('tx-copies') >= 3 and a.count('tx-copy-errors') == 0
    # A seed lives though it says nothing: longer than MACs do, see ageing.
    assert a.count('tx-hello') == a.count('tx-echo') == 0


def test_seed_may_be_silent(net, port):
    """It gets copies though it never was heard; gone, it is tried again."""
    one, two = net.hosts(2)
    a = port(one, 1, mcast='off', peer=two.address, ageing=10)
    wait_copies(a, 1)
    sender = PacketSocket(one, 'tap0')
    data = frame(BROADCAST, a.mac, marker())
    sender.send(data)
    a.wait_count('peers-unreachable', 1)        # nobody listens there
    listener = two.socket()
    listener.bind((two.address, 4789))
    wait_for(lambda: any(p['copy'] for p in a.peers), 20, lambda: a.peers)
    sender.send(data)
    wait_for(lambda: listener.recv(2000)[8:] == data, 5)
    # Longer than others may be silent.
    peer = wait_for(lambda: next((p for p in a.peers if
                                  p['last-heard-ms'] > 12000), None), 30,
                    lambda: a.peers)
    assert peer['seed'] and peer['copy']
    assert a.count('peers-expired') == 0


def test_group_and_list(net, port):
    """Who has the group gets no copies; who is listed does, and each frame
    comes once."""
    hosts = one, two, three, four = net.hosts(4)
    KernelVtep(one, 5, 1, group=GROUP, dev='eth0')
    static = KernelVtep(two, 5, 2, dev='eth0')
    others = [h.address for h in hosts if h is not two]
    static.flood_to(*others)
    a = port(three, 3, mcast=GROUP, peer=two.address)
    port(four, 4, mcast=GROUP, peer=two.address)
    wait_copies(a, 1)
    both_ways(three, 3, one, 1)
    both_ways(three, 3, two, 2)
    both_ways(three, 3, four, 4)
    sockets = [PacketSocket(h, i) for h, i in
               zip(hosts, ('vx0', 'vx0', 'tap0', 'tap0'))]
    data = frame(BROADCAST, mac(50), marker())
    sockets[2].send(data)
    for receiver in sockets[0], sockets[1], sockets[3]:
        receiver.expect(data)
        assert data not in receiver.pending()
    assert {p['address'] for p in a.peers if p['copy']} == \
        {f'{two.address}:4789'}


def test_peers_have_the_port_of_the_fabric(net, port):
    one, two = net.hosts(2)
    for peer in f'{two.address}:5000', '_vxlan._udp.example.org':
        text = taptool.refused(one, '--tap', 'tap0', '--encap', 'vxlan',
                               '--mcast', 'off', '--peer', peer)
        assert 'has a port of its own' in text and '4789' in text, text
    a = port(one, 1, mcast='off', localaddr=f'{one.address}:5000',
             peer=two.address)
    wait_copies(a, 1)
    assert a.address == f'{one.address}:5000'
    assert a.peers[0]['address'] == f'{two.address}:5000'


def test_one_list_for_all(net, port):
    """A name that has all members, who lists himself and others twice; and
    who is struck off while it runs."""
    hosts = net.hosts(3)
    ports = []
    for number, host in enumerate(hosts, 1):
        DnsServer(host).set('pool.test', A, 60, [h.address for h in hosts])
        ports.append(port(host, number, mcast='off', peer=[
            'pool.test', hosts[0].address, hosts[0].address]))
    for a in ports:
        wait_copies(a, 2)
        assert a.host.address not in [
            p['address'].split(':')[0] for p in a.peers]
    for here, there in ((0, 1), (1, 2), (2, 0)):
        hosts[here].assert_ping(f'10.81.0.{there + 1}')
    sockets = [PacketSocket(h, 'tap0') for h in hosts]
    for i, sender in enumerate(sockets):
        data = frame(BROADCAST, mac(50 + i), marker())
        sender.send(data)
        for receiver in sockets:
            if receiver is not sender:
                receiver.expect(data)
        assert not any(data in s.pending() for s in sockets)

    def change(command, peer):
        taptool.run(hosts[2], command, '--peer', peer, '--control',
                    ports[2].control)
    change('peer-del', 'pool.test')
    wait_copies(ports[2], 1)                # the one that is listed twice
    change('peer-del', hosts[0].address)
    wait_copies(ports[2], 0)
    data = frame(BROADCAST, mac(60), marker())
    sockets[2].send(data)
    change('peer-add', hosts[1].address)
    wait_copies(ports[2], 1)
    last = frame(BROADCAST, mac(60), marker())
    sockets[2].send(last)
    heard = []

    def has_come():
        heard.extend(f for s in sockets[:2] for f in s.pending())
        return last in heard
    wait_for(has_come)
    assert data not in heard and heard.count(last) == 1


def test_evpn(net, port):
    """Two VTEPs that FRR runs, and a port that is listed there."""
    one, two, three = net.hosts(3, 1600)
    left = EvpnVtep(one, 5, [two], 1)
    right = EvpnVtep(two, 5, [one], 2)
    a = port(three, 3, mcast='off', peer=[one.address, two.address])
    for vtep in left, right:
        vtep.list_port(a, three.address)
    # They tell each other of what they have, by BGP.
    for here, there in ((left, right), (right, left)):
        PacketSocket(there.host, there.name).send(
            frame(BROADCAST, there.mac, marker()))
        wait_for(lambda h=here, t=there: h.knows(t.mac), 30,
                 lambda h=here: h.host.run('bridge fdb show').stdout)
    both_ways(one, 1, two, 2)
    both_ways(three, 3, one, 1)
    both_ways(two, 2, three, 3)
    assert a.fdb[left.mac]['peer'] == f'{one.address}:4789'
    assert a.fdb[right.mac]['peer'] == f'{two.address}:4789'


def test_mixed_fabric(net, port, tap):
    """All kinds in one, and VDE's behind a bridge of two TAPs.

        1 kernel, with the group        4 Open vSwitch, with a list
        2 qdes-tap, with the group      5 vde_plug, and 6 qdes-tap, vxvde
          and a list                      behind the bridge of
        3 the same, plain sockets       7 two qdes-taps: vxlan, and vxvde
    """
    switch = net.switch(1600)
    hosts = [net.host(f'h{i}', switch) for i in range(1, 8)]
    group = [hosts[i - 1] for i in (1, 2, 3, 7)]
    ovs = hosts[3]
    kernel = KernelVtep(hosts[0], 5, 1, group=GROUP, dev='eth0')
    kernel.flood_to(ovs.address)
    port(hosts[1], 2, mcast=GROUP, peer=ovs.address)
    port(hosts[2], 3, mcast=GROUP, peer=ovs.address, plain_io=True)
    OpenVswitch(ovs, switch, 5, [h.address for h in group], 4)
    Vde(hosts[4], 'vxvde://', 5)
    tap(hosts[5], encap='vxvde')
    configure(hosts[5], 'tap0', 6)
    inner = tap(hosts[6], encap='vxlan', netid=5, mcast=GROUP,
                peer=ovs.address)
    tap(hosts[6], tap='tap1', encap='vxvde')
    hosts[6].ip('link add br0 type bridge forward_delay 0 mcast_snooping 0',
                'link set tap0 master br0', 'link set tap1 master br0')
    configure(hosts[6], 'br0', 7)
    for here in range(1, 8):
        for there in range(here + 1, 8):
            wait_for(lambda h=here, t=there: hosts[h - 1].ping(
                f'10.81.0.{t}', count=1, deadline=1), 10,
                lambda: f'{here} to reach {there}')
    for here, there in ((1, 2), (2, 4), (4, 5), (5, 1), (6, 2), (7, 4),
                        (3, 6)):
        one, other = hosts[here - 1], hosts[there - 1]
        tcp_transfer(one, other, f'10.81.0.{there}', 1 << 20)
        tcp_transfer(other, one, f'10.81.0.{here}', 1 << 20)
    # Who has something to say is heard once by each.
    names = ['vx0', 'tap0', 'tap0', 'int', 'vde0', 'tap0', 'br0']
    sockets = [PacketSocket(h, n) for h, n in zip(hosts, names)]
    for i, sender in enumerate(sockets):
        data = frame(BROADCAST, mac(50 + i), marker())
        sender.send(data)
        for receiver in sockets:
            if receiver is not sender:
                receiver.expect(data)
                assert data not in receiver.pending(), (sender, receiver)
    assert inner.status()['encap'] == 'vxlan'
