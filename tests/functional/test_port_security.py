# SPDX-License-Identifier: GPL-2.0-or-later
"""Which MAC addresses a port may send from, and which its peers may not.

Stations play what is behind a port; a host on the same switch is the attacker.
"""

import time

import pytest
from frames import BROADCAST, PacketSocket, mac
from ports import QDES_TAP
from procs import wait_for
from stations import Station, WirePeer

NOT_SEALED = 'this fabric is not sealed: '


@pytest.fixture(name='two')
def fixture_two(net, tap):
    """two(**OPTIONS): a Station with these options, one without any."""
    hosts = net.hosts(2)

    def make(**options):
        stations = [Station(tap, hosts[0], **options), Station(tap, hosts[1])]
        for station in stations:
            station.wait_peers(1)
        return stations
    return make


def violates(station):
    station.logs.expect('warning: port security: ')


def test_only_what_is_listed(two):
    a, b = two(mac=[mac(1), mac(2)])
    violates(a)
    for _ in range(3):
        a.send(BROADCAST, mac(7))
        a.send(mac(9), mac(7))
    b.expect(a.send(BROADCAST, mac(1)))
    b.expect(a.send(BROADCAST, mac(2)))
    assert mac(7) not in a.fdb
    assert mac(7) not in b.fdb
    assert a.count('tx-drop-mac') == 6
    # Said once, with the address and the counter.
    lines = [line for line in a.process.log.splitlines()
             if 'port security' in line]
    assert len(lines) == 1
    assert mac(7) in lines[0] and 'tx-drop-mac' in lines[0]
    assert a.status()['port-security'] == {
        'mac': [mac(1), mac(2)], 'max-local-macs': 2, 'local-macs': 2,
        'mac-violation': 'drop'}
    assert 'port-security' not in b.status()


def test_what_the_kernel_sends_itself(net, tap):
    """The TAP's own address listed, a host is a member like any other."""
    hosts = net.hosts(2)
    own = '02:51:00:00:77:01'
    a = tap(hosts[0], mac=own).configure('10.7.0.1/24', mac_address=own)
    b = tap(hosts[1]).configure('10.7.0.2/24')
    b.wait_peers(1)
    hosts[0].run(['ping', '-c', '1', '-W', '5', '10.7.0.2'])
    assert a.count('tx-drop-mac') == 0
    assert b.fdb[own]['peer'] == a.address
    # Another one, as by a guest gone wild.
    violates(a)
    a.configure(mac_address=mac(0x7702))
    hosts[0].run(['ping', '-c', '1', '-W', '1', '10.7.0.2'], check=False)
    wait_for(lambda: a.count('tx-drop-mac') > 0)
    assert mac(0x7702) not in b.fdb


def test_the_first_ones(two):
    a, b = two(max_local_macs=2, ageing=10)
    violates(a)
    b.expect(a.send(BROADCAST, mac(1)))
    begin = time.monotonic()
    b.expect(a.send(BROADCAST, mac(2)))
    refused = [a.send(BROADCAST, mac(3))]

    # An address that goes on speaking keeps its place, a silent one loses it.
    def takes_the_place():
        data = a.send(BROADCAST, mac(3))
        b.expect(a.send(BROADCAST, mac(1)))
        if mac(3) in b.fdb:
            return True
        refused.append(data)
        return False
    wait_for(takes_the_place, 15, interval=0.2)
    assert time.monotonic() - begin > 9.9
    assert a.status()['port-security']['local-macs'] == 2
    before = a.count('tx-drop-mac')
    assert before == len(refused)
    a.send(BROADCAST, mac(2))
    b.expect(a.send(BROADCAST, mac(1)))
    assert a.count('tx-drop-mac') == before + 1
    # Something else is plugged in.
    a.host.ip('link set tap0 down')
    wait_for(lambda: not a.status()['link-up'])
    a.host.ip('link set tap0 up')
    wait_for(lambda: a.status()['link-up'])
    a.socket = PacketSocket(a.host, a.tap)
    b.wait_peers(1)
    b.expect(a.send(BROADCAST, mac(11)))
    b.expect(a.send(BROADCAST, mac(12)))
    assert a.count('tx-drop-mac') == before + 1


def test_learn_none(two):
    """What is not allowed passes, and leaves no trace on its own side."""
    a, b = two(mac=mac(1), mac_violation='learn-none')
    violates(a)
    b.speak(mac(5), a)
    b.expect(a.send(BROADCAST, mac(1)))
    # It does not draw what b has, here.
    b.expect(a.send(BROADCAST, mac(5)))
    b.expect(a.send(BROADCAST, mac(6)))
    assert a.fdb[mac(5)]['peer'] == b.address
    assert mac(6) not in a.fdb
    assert a.count('tx-unlearned') == 2
    assert a.count('tx-drop-mac') == 0


def test_a_spoofer(net, tap):
    """A peer that sends from our address is not heard, nor learned."""
    hosts = net.hosts(2)
    a = Station(tap, hosts[0], mac=mac(1))
    thief = WirePeer(hosts[1])
    thief.hello()
    thief.prove(a)
    thief.data(BROADCAST, mac(1))
    thief.data(mac(1), mac(1), to=a.address)
    a.expect(thief.data(BROADCAST, mac(9)))
    counters = a.counters
    assert counters['rx-drop-spoofed'] == 2
    assert counters['rx-frames'] == 1
    assert mac(1) not in a.fdb
    a.send(BROADCAST, mac(1))
    thief.data(BROADCAST, mac(1))
    a.expect(thief.data(BROADCAST, mac(9)))
    assert a.count('fdb-moved') == 0
    assert a.fdb[mac(1)]['local']
    # Where it is not listed, the address goes to the thief: that is what
    # the option is for.
    b = Station(tap, hosts[0], 'tap1')
    thief.hello()
    thief.prove(b)
    thief.data(BROADCAST, mac(2))
    b.wait_mac(mac(2))
    # Used in turn, it is said.
    a.logs.expect(f'warning: duplicate MAC address {mac(1)}')

    def in_turn():
        a.send(BROADCAST, mac(1))
        thief.data(BROADCAST, mac(1))
        return a.count('mac-duplicate') > 1
    wait_for(in_turn, 5, interval=0.05)
    wait_for(lambda: 'duplicate MAC' in a.process.log)
    thief.close()


def test_listed_and_static(two):
    """One address cannot be said to be at two places."""
    a, b = two(mac=mac(1))
    done = a.host.run([QDES_TAP, 'fdb-add', '--control', a.control, '--mac',
                       mac(1), '--peer', b.address], check=False)
    assert done.returncode == 1
    assert f'mac={mac(1)}: ' in done.stdout
    # It is here, though it was never heard.
    a.send(mac(1), mac(1))
    a.wait_count('tx-drop-local', 1)


@pytest.mark.parametrize('localaddr, says', [(None, 1), ('127.0.0.1', 0)])
def test_not_sealed_is_said_once(net, tap, localaddr, says):
    host = net.hosts(1)[0]
    host.ip('link set lo up')
    port = tap(host, **({'localaddr': localaddr} if localaddr else {}))
    lines = [line for line in port.process.log.splitlines()
             if NOT_SEALED in line]
    assert len(lines) == says
    assert not any('warning' in line for line in lines)
