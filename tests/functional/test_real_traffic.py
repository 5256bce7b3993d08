# SPDX-License-Identifier: GPL-2.0-or-later
"""What two ports really send, read by the Wireshark dissector."""

import signal
import time

import dissect
import pytest
import qdeswire
from stations import endpoint

pytestmark = pytest.mark.skipif(bool(dissect.why_not()),
                                reason=str(dissect.why_not()))

DATA, HELLO, BYE = '0', '1', '2'


def frames(port):
    return port.count('tx-frames') + port.count('rx-frames')


def wait_quiet(*ports):
    """Wait until no port has sent or got a frame for a while."""
    seen = None
    while seen != (seen := [frames(port) for port in ports]):
        time.sleep(0.3)


@pytest.mark.parametrize('options', [{}, {'mcast': '[ff15::5144]'}],
                         ids=['ipv4', 'ipv6'])
def test_capture_of_a_conversation(net, tap, options):
    """Start, ARP, ping in three sizes, IPv6 inside, and the end."""
    one, two = net.hosts(2)
    capture = one.capture('eth0', 'udp or ip[6:2]&0x1fff!=0 or ip6[6]==44',
                          'conversation')
    a = tap(one, netid=42, name='Ä/port', **options)
    b = tap(two, netid=42, **options)
    a.wait_peers(1)
    a.configure('10.81.0.1/24', 'fd81::1/64')
    b.configure('10.81.0.2/24', 'fd81::2/64')
    one.assert_ping('10.81.0.2', count=3)
    one.assert_ping('10.81.0.2', count=3, size=1472)
    one.assert_ping('10.81.0.2', count=3, size=9000)
    one.assert_ping('fd81::2', count=3)
    # From here on nobody says anything by himself.
    for host in one, two:
        host.sysctl('net.ipv6.conf.tap0.disable_ipv6', 1)
    wait_quiet(a, b)
    endpoints = {p.name: endpoint(p.address) for p in (a, b)}
    sent = {p.name: p.counters for p in (a, b)}
    a.stop()
    b.stop()
    # In the capture once what was sent later is there too.
    capture.stop(signal.SIGINT)

    packets = dissect.dissect(
        capture.pcap, ['icmp.type', 'icmpv6.type', 'arp.opcode', 'udp.srcport',
                       'udp.dstport', 'udp.checksum', '_ws.malformed'])
    messages = [p for p in packets if 'qdes' in p['protocols']]
    assert len(messages) == len([p for p in packets
                                 if 'udp' in p['protocols']]), \
        [p['info'] for p in packets if 'qdes' not in p['protocols']]
    for message in messages:
        assert message['qdes.netid'] == ['42']
        assert message['qdes.version'] == ['1']
        assert 'qdes.malformed' not in message, message
        assert '_ws.malformed' not in message, message
        # It may be left to the interface, but not be left out.
        assert message['udp.checksum'][0] != '0x0000', message

    def count(condition):
        return sum(1 for m in messages if condition(m))

    def by(name):
        return lambda m: int(m['udp.srcport'][0]) == endpoints[name][1]

    for name, counters in sent.items():
        mine = [m for m in messages if by(name)(m)]
        types = [m['qdes.type'][0] for m in mine]
        assert types[0] == HELLO
        assert types[-1] == BYE
        assert types.count(HELLO) == counters['tx-hello']
        assert types.count(BYE) == 1
        # Floods go to the group's port, unicast to that of the peer.
        to = [int(m['udp.dstport'][0]) for m in mine
              if m['qdes.type'] == [DATA]]
        other = next(e[1] for n, e in endpoints.items() if n != name)
        assert to.count(qdeswire.PORT) == counters['tx-flooded'] > 0
        assert to.count(other) == counters['tx-unicast'] > 0
        assert len(to) == counters['tx-frames']
        names = {m['qdes.name'][0] for m in mine if 'qdes.name' in m}
        assert names == {name}
    assert count(lambda m: m.get('icmp.type') == ['8']) == 9
    assert count(lambda m: m.get('icmp.type') == ['0']) == 9
    assert count(lambda m: m.get('icmpv6.type') == ['128']) == 3
    assert count(lambda m: m.get('icmpv6.type') == ['129']) == 3
    assert count(lambda m: 'arp.opcode' in m) >= 2
