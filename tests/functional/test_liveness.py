# SPDX-License-Identifier: GPL-2.0-or-later
"""Ports that come, go, crash and freeze: nothing stays pointed at the dead."""

import signal
import socket
import time

import pytest
import qdeswire
from frames import BROADCAST, mac
from procs import PATIENCE, wait_for
from stations import Station, WirePeer, endpoint

# Seconds for what takes none but on a busy machine: HELLOs come every 10 s,
# and a peer that is silent is forgotten after 30 s.
AT_ONCE = 3


@pytest.fixture
def three(net, tap):
    hosts = net.hosts(3)
    return [Station(tap, host) for host in hosts]


@pytest.fixture
def wire(net, tap):
    """A station, and a peer that the test plays, on another host."""
    hosts = net.hosts(2)
    return Station(tap, hosts[0]), WirePeer(hosts[1])


def test_a_new_port_knows_all_at_once(net, tap):
    """It need not wait for the others' next HELLO."""
    hosts = net.hosts(4)
    old = [tap(host) for host in hosts[:3]]
    for port in old:
        port.wait_peers(2)
    new = tap(hosts[3])
    new.wait_peers(3, deadline=AT_ONCE)
    for port in old:
        port.wait_peers(3, deadline=AT_ONCE)


def test_hello_is_answered_once(wire):
    a, peer = wire
    peer.hello()
    message, by_group = peer.expect_message(qdeswire.Hello)
    assert not by_group
    assert message.name == a.name
    assert message.sender == endpoint(a.address)
    assert message.hold_time == 30
    assert message.mtu == qdeswire.FRAME_MAX
    # Known, or by unicast: no answer, or two ports would never stop.
    peer.hello()
    peer.hello(to=a.address)
    a.wait_count('rx-hello', 3)
    peer.instance += 1
    peer.hello(to=a.address)
    a.wait_count('rx-hello', 4)
    assert peer.receive(0.5, [peer.sock]) is None
    # A new one by the group is.
    peer.instance += 1
    peer.hello()
    assert peer.expect_message(qdeswire.Hello)[0].instance == message.instance


def test_hello_and_bye_of_a_port(net, tap):
    hosts = net.hosts(2)
    peer = WirePeer(hosts[1], netid=7)
    a = tap(hosts[0], netid=7, name='some port')
    hello, by_group = peer.expect_message(qdeswire.Hello)
    assert by_group
    assert hello.name == 'some port'
    assert hello.netid == 7
    a.stop()
    bye, by_group = peer.expect_message(qdeswire.Bye)
    assert by_group
    assert bye.instance == hello.instance


def test_bye_forgets_at_once(three):
    a, b, c = three
    b.speak(mac(2), a)
    assert a.fdb[mac(2)]['peer'] == b.address
    b.stop()
    wait_for(lambda: len(a.peers) == 1, AT_ONCE)
    assert mac(2) not in a.fdb
    counters = a.counters
    assert counters['peers-bye'] == 1
    assert counters['rx-bye'] == 1
    assert counters['fdb-flushed'] == 1
    c.socket.pending()
    c.expect(a.send(mac(2), mac(1)))
    assert a.count('tx-flooded') == 1


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_port_well(wire, number):
    a, peer = wire
    assert a.process.stop(number, deadline=3) == 0
    peer.expect_message(qdeswire.Bye)


def test_bye_of_another_instance_means_nothing(wire):
    a, peer = wire
    peer.hello()
    a.wait_peers(1)
    peer.bye(instance=peer.instance ^ 1)
    a.wait_count('rx-bye', 1)
    assert len(a.peers) == 1
    assert a.count('peers-bye') == 0
    peer.bye()
    wait_for(lambda: not a.peers, AT_ONCE)
    assert a.count('peers-bye') == 1


def test_data_alone_makes_a_peer_heard(wire):
    a, peer = wire
    a.expect(peer.data(BROADCAST, mac(2)))
    assert [p['state'] for p in a.peers] == ['heard']
    assert a.peers[0]['address'] == peer.address
    peer.hello()
    a.wait_peers(1)
    assert a.peers[0]['name'] == 'wire'
    assert mac(2) in a.fdb
    assert not peer.expect(a.send(mac(2), mac(1)))


def test_another_instance_is_a_restarted_port(wire):
    a, peer = wire
    peer.hello()
    a.expect(peer.data(BROADCAST, mac(2)))
    peer.instance += 1
    peer.hello()
    wait_for(lambda: mac(2) not in a.fdb, AT_ONCE)
    assert a.count('fdb-flushed') == 1
    assert peer.expect(a.send(mac(2), mac(1))), 'not flooded'


@pytest.mark.parametrize('options', [{}, {'mcast': '[ff15::5144]'}],
                         ids=['ipv4', 'ipv6'])
def test_killed_peer_is_found_out_by_icmp(net, tap, options):
    """One frame is lost to the dead port; the next one floods."""
    a, b, c = [Station(tap, host, **options) for host in net.hosts(3)]
    b.speak(mac(2), a)
    b.process.kill()
    c.socket.pending()
    before = a.count('tx-unicast')
    first = a.send(mac(2), mac(1))
    a.wait_count('peers-unreachable', 1, deadline=AT_ONCE)
    lost = a.count('tx-unicast') > before
    assert a.peer_named(b.name) is None
    assert mac(2) not in a.fdb
    assert a.count('fdb-flushed') == 1
    if lost:
        c.silent()
    else:
        c.expect(first)     # an ECHO had met the dead port before
    c.expect(a.send(mac(2), mac(1)))


def restart(station, tap, **options):
    """Kill the station's port and start another one for the same TAP."""
    station.process.kill()
    return Station(tap, station.host, **options)


def test_restarted_peer_gets_traffic_with_its_first_frame(three, tap):
    """A crashed port's address is not lost: it is where it is heard."""
    a, b, c = three
    b.speak(mac(2), a)
    old = b.address
    new = restart(b, tap)
    assert new.address != old
    new.send(BROADCAST, mac(2))
    # The first one may meet the dead port: it is waited for what it finds
    # there, which the second one must not.
    a.send(mac(2), mac(1))
    if new.socket.receive(AT_ONCE * PATIENCE) is None:
        new.expect(a.send(mac(2), mac(1)), AT_ONCE)
    assert a.fdb[mac(2)]['peer'] == new.address


def test_silent_restarted_peer_gets_traffic_too(three, tap):
    """It says nothing, but frames to it meet its predecessor's grave."""
    a, b, _ = three
    b.speak(mac(2), a)
    new = restart(b, tap)
    def arrives():
        a.send(mac(2), mac(1))
        return new.socket.pending()
    wait_for(arrives, AT_ONCE)
    assert a.count('peers-unreachable') == 1


def test_restarted_on_the_same_endpoint(net, tap):
    hosts = net.hosts(2)
    a = Station(tap, hosts[0])
    options = {'localaddr': f'{hosts[1].address}:4242'}
    b = Station(tap, hosts[1], **options)
    b.speak(mac(2), a)
    assert a.fdb[mac(2)]['peer'] == f'{hosts[1].address}:4242'
    new = restart(b, tap, **options)
    # Its HELLO has another instance: what was known of it is void.
    wait_for(lambda: mac(2) not in a.fdb, AT_ONCE)
    assert a.count('fdb-flushed') == 1
    new.expect(a.send(mac(2), mac(1)))
    assert len(a.peers) == 1


def test_ping_survives_a_crash(net, tap):
    """The same for a user: a kill -9 costs about a second of traffic."""
    hosts = net.hosts(2)
    a, b = tap(hosts[0]), tap(hosts[1])
    a.configure('10.81.0.1/24')
    b.configure('10.81.0.2/24')
    hosts[0].assert_ping('10.81.0.2')
    b.process.kill()
    assert not hosts[0].ping('10.81.0.2', count=1, deadline=1)
    start = time.monotonic()
    tap(hosts[1]).configure('10.81.0.2/24', mac_address=b.mac)
    hosts[1].assert_ping('10.81.0.1', count=1)
    hosts[0].assert_ping('10.81.0.2', count=1)
    assert time.monotonic() < start + 3 + AT_ONCE * PATIENCE


def test_hold_time_of_a_peer(wire):
    """It says 3 s, so it is forgotten after 3 s of silence."""
    a, peer = wire
    peer.hello(hold_time=3)
    a.expect(peer.data(BROADCAST, mac(2)))
    start = time.monotonic()
    said = start
    while said < start + 4:
        time.sleep(0.2)
        assert a.peers
        said = time.monotonic()
        a.expect(peer.data(BROADCAST, mac(2)))
    wait_for(lambda: not a.peers, 4 + AT_ONCE)
    assert time.monotonic() - said > 2.9
    assert a.count('peers-expired') == 1
    assert mac(2) not in a.fdb
    assert peer.expect(a.send(mac(2), mac(1))), 'not flooded'


def test_hold_time_is_clamped(wire):
    a, peer = wire
    start = time.monotonic()
    peer.hello(hold_time=1)
    a.wait_peers(1)
    wait_for(lambda: not a.peers, 4 + AT_ONCE)
    assert time.monotonic() - start > 2.9


def test_frozen_peer(three):
    """A port that hangs (no ICMP tells) is forgotten after 30 s, and is back
    with its next word."""
    a, b, c = three
    for port in three:
        port.wait_peers(2)
    b.speak(mac(2), a)
    start = time.monotonic()
    b.process.send(signal.SIGSTOP)
    try:
        before = a.counters
        wait_for(lambda: a.peer_named(b.name) is None, 40, interval=0.2)
        assert 28 < time.monotonic() - start < 31 + AT_ONCE * PATIENCE
        assert mac(2) not in a.fdb
        changes = a.changes(before)
        assert changes['peers-expired'] == 1
        assert 2 <= changes['tx-hello'] <= 5
        assert a.peer_named(c.name), 'it goes on saying HELLO'
        c.socket.pending()
        c.expect(a.send(mac(2), mac(1)))
    finally:
        b.process.send(signal.SIGCONT)
    b.speak(mac(2), a)
    assert a.fdb[mac(2)]['peer'] == b.address
    b.expect(a.send(mac(2), mac(1)))
    wait_for(lambda: a.peer_named(b.name), 12)


def test_ports_that_come_and_go(net, tap):
    """Twenty starts and ends leave nothing behind in the others' tables."""
    hosts = net.hosts(3)
    a = Station(tap, hosts[0])
    for number in range(20):
        host = hosts[1 + number % 2]
        b = Station(tap, host)
        b.speak(mac(2), a)
        b.expect(a.send(mac(2), mac(1)))
        b.stop() if number % 3 else b.process.kill()
    counters = a.counters
    assert counters['peers-added'] == 20
    assert counters['peers-bye'] == 13
    a.send(mac(2), mac(1))
    left = [p for p in a.peers if p['macs']]
    assert not left


def test_tap_of_a_dead_process_is_free(net, tap):
    """After a SIGKILL the same command line works again at once."""
    host = net.hosts(1)[0]
    a = tap(host)
    a.process.kill()
    tap(host)
    with host.entered():
        assert 'tap0' in [name for _, name in socket.if_nameindex()]
