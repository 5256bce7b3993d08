# SPDX-License-Identifier: GPL-2.0-or-later
"""The Wireshark dissector, on the protocol's vectors and on broken ones.

Captures of real traffic are dissected by the tests that make the traffic.
"""

import collections
import ipaddress
import os
import random
import re
import socket
import struct
from pathlib import Path

import pytest

import dissect
import qdeswire
from qdeswire import Drop

pytestmark = pytest.mark.skipif(bool(dissect.why_not()),
                                reason=str(dissect.why_not()))

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / 'docs/wireshark.md').read_text(encoding='utf-8')
VECTORS = qdeswire.load_vectors()
BY_NAME = {v['name']: v for v in VECTORS}
PORT = qdeswire.PORT
OTHER_PORT = 40000      # nothing is registered there

LINKTYPE_RAW = 101
V4 = socket.inet_aton('10.0.0.1'), socket.inet_aton(qdeswire.GROUP_V4)
V6 = (socket.inet_pton(socket.AF_INET6, 'fd00::1'),
      socket.inet_pton(socket.AF_INET6, qdeswire.GROUP_V6))


def checksum(data):
    data += b'\0' * (len(data) % 2)
    total = sum(struct.unpack(f'>{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def udp(payload, port, addresses):
    """A UDP datagram from PORT to PORT."""
    size = 8 + len(payload)
    header = struct.pack('>HHH', port, port, size)
    pseudo = b''.join(addresses) + struct.pack('>II', size,
                                               socket.IPPROTO_UDP)
    return (header + struct.pack('>H', checksum(pseudo + header + b'\0\0' +
                                                payload) or 0xffff) + payload)


def ipv4(payload, ident=0, offset=0, more=False):
    head = struct.pack('>BBHHHBBH', 0x45, 0, 20 + len(payload), ident,
                       more << 13 | offset // 8, 1, socket.IPPROTO_UDP, 0)
    head += b''.join(V4)
    return head[:10] + struct.pack('>H', checksum(head)) + head[12:] + payload


def ipv6(payload):
    return (struct.pack('>IHBB', 6 << 28, len(payload), socket.IPPROTO_UDP, 1)
            + b''.join(V6) + payload)


def packet_v4(payload, port=PORT):
    return ipv4(udp(payload, port, V4))


def packet_v6(payload, port=PORT):
    return ipv6(udp(payload, port, V6))


def write_pcap(path, packets, keep=()):
    """A capture file; KEEP: how many bytes of each packet, if not all."""
    with open(path, 'wb') as file:
        file.write(struct.pack('>IHHiIII', 0xa1b2c3d4, 2, 4, 0, 0, 262144,
                               LINKTYPE_RAW))
        for number, packet in enumerate(packets):
            kept = packet[:keep[number]] if keep else packet
            file.write(struct.pack('>IIII', 1700000000, number, len(kept),
                                   len(packet)) + kept)
    return path


def malformed(datagram):
    """What qdes.malformed has to be: the reason for which a receiver that
    has all optional parts drops the datagram, as far as it can be seen from
    outside."""
    try:
        qdeswire.decode(datagram)
    except Drop as drop:
        if drop.result == 'sealed':
            return None
        return drop.result
    return None


def by_heuristic(datagram):
    """Is the datagram to be recognised on any port?"""
    if malformed(datagram):
        return False
    return not datagram[3] & qdeswire.FLAG_SEALED or len(datagram) >= 40


def numbers(values):
    return [int(v, 0) for v in values]


def flag(packet, name):
    """A boolean field; versions of tshark differ in how they write it."""
    values = packet[name]
    assert all(v in ('0', '1', 'False', 'True') for v in values)
    return [v in ('1', 'True') for v in values]


def check_header(packet, datagram):
    """The outermost QDES header, field by field, as far as it is sound."""
    shown = {name: values[0] for name, values in packet.items()
             if name.startswith('qdes.')}
    reason = malformed(datagram)
    if reason == 'short':
        assert 'qdes.magic' not in shown
        return
    magic, version_type, flags, netid = struct.unpack_from('>HBBI', datagram)
    assert int(shown['qdes.magic'], 0) == magic
    assert ('qdes.version' in shown) == (reason != 'bad-magic')
    if reason == 'bad-magic':
        return
    assert int(shown['qdes.version']) == version_type >> 4
    assert ('qdes.type' in shown) == (reason != 'bad-version')
    if reason == 'bad-version':
        return
    assert int(shown['qdes.type']) == version_type & 0xf
    assert int(shown['qdes.flags'], 0) == flags
    assert flag(packet, 'qdes.flags.csum_partial')[0] == bool(flags & 1)
    assert flag(packet, 'qdes.flags.sealed')[0] == bool(flags & 2)
    assert flag(packet, 'qdes.flags.superframe')[0] == bool(flags & 4)
    assert flag(packet, 'qdes.flags.relayed')[0] == bool(flags & 8)
    assert int(shown['qdes.flags.reserved'], 0) == flags >> 4
    assert int(shown['qdes.netid']) == netid


def check_hello(packet, message):
    """The values of a HELLO (of a BYE: its instance) that is taken."""
    assert numbers(packet['qdes.instance']) == [message.instance]
    assert f'netid={message.netid}' in packet['info']
    assert f'instance={message.instance:016x}' in packet['info']
    if message.type == qdeswire.TYPE_BYE:
        return
    for name in 'capabilities', 'mtu', 'hold_time':
        value = getattr(message, name)
        assert numbers(packet.get(f'qdes.{name}', ['0'])) == [value]
    assert packet.get('qdes.name', ['']) == [message.name]
    if message.name:
        assert packet['info'].startswith(f'HELLO name={message.name} netid=')
    if message.capabilities:
        assert flag(packet, 'qdes.capabilities.csum_partial') == [
            bool(message.capabilities & 1)]
        assert flag(packet, 'qdes.capabilities.superframe') == [
            bool(message.capabilities & 2)]
        assert flag(packet, 'qdes.capabilities.echo') == [
            bool(message.capabilities & 4)]
        assert flag(packet, 'qdes.capabilities.relay') == [
            bool(message.capabilities & 8)]
        assert numbers(packet['qdes.capabilities.reserved']) == [
            message.capabilities >> 4]


def check_control(packet, message):
    """The values of any control message that is taken."""
    if message.type in (qdeswire.TYPE_ECHO, qdeswire.TYPE_ECHO_REPLY):
        assert numbers(packet['qdes.nonce']) == [message.nonce]
        assert ipaddress.ip_address(packet['qdes.observed'][0]).packed == (
            qdeswire.pack_endpoint(*message.observed)[:16])
        assert numbers(packet['qdes.observed.port']) == [message.observed[1]]
        assert f'nonce={message.nonce:016x}' in packet['info']
    elif isinstance(message, qdeswire.Request):
        shown = bytes.fromhex(packet['qdes.digest'][0].replace(':', ''))
        assert struct.pack('>64I', *message.digest).startswith(shown)
        assert len(shown) > 20
        if message.known:
            known = message.known
            assert numbers(packet['qdes.known.parts']) == [known.parts]
            assert numbers(packet['qdes.known.part']) == [known.part]
            assert numbers(packet['qdes.known.salt']) == [known.salt]
            shown = bytes.fromhex(
                packet['qdes.known.filter'][0].replace(':', ''))
            assert known.filter.startswith(shown)
            assert f'part {known.part} of {known.parts}' in packet['info']
    elif isinstance(message, qdeswire.Peers):
        assert numbers(packet['qdes.entry.port']) == [
            port for _, port, _ in message.entries]
        assert numbers(packet['qdes.entry.instance']) == [
            instance for _, _, instance in message.entries]
        assert [ipaddress.ip_address(a).packed
                for a in packet['qdes.entry.address']] == [
                    qdeswire.pack_endpoint(a, p)[:16]
                    for a, p, _ in message.entries]
    else:
        check_hello(packet, message)
        if message.type == qdeswire.TYPE_HELLO:
            assert [bool(n) for n in numbers(
                packet.get('qdes.group_heard', []))] == [
                    h for h in [message.group_heard] if h is not None]
            assert numbers(packet.get('qdes.relay_for', [])) == (
                message.relay_for)


def check_packet(packet, datagram):
    """All that the dissector has to say of a datagram."""
    reason = malformed(datagram)
    assert packet.get('qdes.malformed', [None])[0] == reason
    if reason:
        assert 'qdes.expert.malformed' in packet
        assert 'Malformed' in packet['info']
    else:
        assert 'qdes.expert.malformed' not in packet
    check_header(packet, datagram)
    if reason and reason not in ('frame-short', 'frame-long'):
        return
    if datagram[3] & qdeswire.FLAG_SEALED:
        check_sealed(packet, datagram)
    elif datagram[2] & 0xf == qdeswire.TYPE_DATA:
        start = 10 if datagram[3] & qdeswire.FLAG_SUPERFRAME else 8
        assert int(packet['qdes.frame.length'][0]) == max(
            0, len(datagram) - start)
        size = numbers(packet.get('qdes.segment_size', []))[:1]
        if start == 10 and len(datagram) >= 10:
            assert size == [struct.unpack_from('>H', datagram, 8)[0]]
        else:
            assert not size or 'qdes' in packet['protocols'][
                packet['protocols'].index('qdes') + 1:]
        inner = packet['protocols'][packet['protocols'].index('qdes') + 1:]
        assert inner[:1] == ([] if reason else ['eth'])
        if reason and len(datagram) > start:
            shown = bytes.fromhex(packet['qdes.frame'][0].replace(':', ''))
            # tshark cuts what is very long.
            assert datagram[start:].startswith(shown) and shown
    else:
        tlvs = qdeswire.split_tlvs(datagram[8:])
        assert numbers(packet['qdes.tlv.type']) == [t for t, _ in tlvs]
        assert numbers(packet['qdes.tlv.length']) == [len(v) for _, v in tlvs]
        check_control(packet, qdeswire.decode(datagram))


def check_sealed(packet, datagram):
    assert 'sealed' in packet['info']
    assert 'eth' not in packet['protocols']
    assert ('qdes.expert.odd' in packet) == (len(datagram) < 40)
    assert ('qdes.session' in packet) == (len(datagram) >= 40)
    if len(datagram) < 40:
        return
    session, number = struct.unpack_from('>QQ', datagram, 8)
    assert numbers(packet['qdes.session']) == [session]
    assert numbers(packet['qdes.packet_number']) == [number & ~(1 << 63)]
    assert flag(packet, 'qdes.flooded') == [bool(number >> 63)]
    shown = {name: bytes.fromhex(packet.get(name, [''])[0].replace(':', ''))
             for name in ('qdes.ciphertext', 'qdes.tag')}
    assert shown['qdes.ciphertext'] == datagram[24:-16]
    assert shown['qdes.tag'] == datagram[-16:]


# The vectors

def fits(datagram, make):
    """IPv4 cannot carry the very longest datagrams, IPv6 can."""
    return len(datagram) <= (65507 if make is packet_v4 else 65527)


@pytest.fixture(scope='module')
def dissected(tmp_path_factory):
    """{(vector, maker of packets, port): packet} for all vectors."""
    keys, packets = [], []
    for vector in VECTORS:
        for make in packet_v4, packet_v6:
            for port in PORT, OTHER_PORT:
                if fits(vector['bytes'], make):
                    keys.append((vector['name'], make, port))
                    packets.append(make(vector['bytes'], port))
    path = write_pcap(tmp_path_factory.mktemp('vectors') / 'a.pcap', packets)
    return dict(zip(keys, dissect.dissect(path), strict=True))


@pytest.mark.parametrize('vector', VECTORS, ids=[v['name'] for v in VECTORS])
def test_vector(vector, dissected):
    data = vector['bytes']
    seen = 0
    assert malformed(data) == {'ok': None, 'sealed': None}.get(
        vector['result'], vector['result'])
    for make in packet_v4, packet_v6:
        if not fits(data, make):
            continue
        seen += 1
        known = dissected[vector['name'], make, PORT]
        other = dissected[vector['name'], make, OTHER_PORT]
        # Wireshark asks nobody about a datagram without bytes.
        assert ('qdes' in known['protocols']) == bool(data)
        if data:
            check_packet(known, data)
        assert ('qdes' in other['protocols']) == by_heuristic(data)
        if by_heuristic(data):
            check_packet(other, data)
    assert seen


def test_inner_protocols(dissected):
    def inner(name):
        protocols = dissected[name, packet_v4, PORT]['protocols']
        return protocols[protocols.index('qdes') + 1:]

    assert inner('data-arp') == ['eth', 'ethertype', 'arp']
    assert inner('data-vlan')[:5] == ['eth', 'ethertype', 'vlan', 'ethertype',
                                      'ip']
    assert 'icmpv6' in inner('data-ipv6-multicast')
    assert 'stp' in inner('data-llc')
    for name, want in [('tcp4', ['ip', 'tcp']), ('tcp6', ['ipv6', 'tcp']),
                       ('udp4', ['ip', 'udp']), ('udp6', ['ipv6', 'udp']),
                       ('max', ['ip', 'tcp']), ('qinq', ['vlan', 'tcp'])]:
        assert set(want) <= set(inner(f'superframe-{name}')), name
    assert inner('data-nested').count('qdes') == 1
    assert dissected['data-nested', packet_v4, PORT]['qdes.netid'] == ['42',
                                                                       '7']


def test_reasons_are_explained(dissected, tmp_path):
    """The expert information names what is wrong, on the right TLV."""
    names = ['tlv-mtu-3', 'tlv-name-64', 'tlv-unknown-cut', 'frame-short-13',
             'version-2', 'tlv-no-instance', 'superframe-short-size-1',
             'superframe-short-13', 'superframe-alone', 'superframe-hello']
    path = write_pcap(tmp_path / 'a.pcap',
                      [packet_v4(BY_NAME[n]['bytes']) for n in names])
    with open(path, 'rb') as file:
        text = dissect.run('-r', '-', '-T', 'fields', '-e',
                           '_ws.expert.message', stdin=file)
    for line, want in zip(text.splitlines(), [
            'bad-tlv: MTU has Length 3', 'bad-tlv: NAME has Length 64',
            'bad-tlv: TLV 4660 has Length 5, but 4 bytes left',
            'frame-short: A frame of 13 bytes; 14 to 65499 are allowed',
            'bad-version: Version is 2, not 1',
            'bad-tlv: INSTANCE is missing',
            'frame-short: Segment size is not whole',
            'frame-short: A frame of 13 bytes; 14 to 65497 are allowed',
            'bad-flags: SUPERFRAME is only for DATA with CSUM_PARTIAL',
            'bad-flags: CSUM_PARTIAL is for DATA only'], strict=True):
        assert want in line


# Broken, cut and hostile datagrams

def seed():
    number = int(os.environ.get('QDES_SEED', random.randrange(1 << 32)))
    print(f'QDES_SEED={number}')
    return random.Random(number)


def mutate(rng, data):
    """DATA with up to three bytes changed, inserted or removed."""
    data = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        if rng.random() < 0.5:
            at = min(at, rng.randrange(2, 24))      # headers matter most
        what = rng.choice(['change', 'change', 'insert', 'remove', 'cut'])
        if what == 'change' and at < len(data):
            data[at] = rng.choice([0, 1, 0xff, rng.randrange(256),
                                   data[at] ^ 1 << rng.randrange(8)])
        elif what == 'insert':
            data[at:at] = rng.randbytes(rng.randrange(1, 5))
        elif what == 'remove':
            del data[at:at + rng.randrange(1, 5)]
        elif what == 'cut' and rng.random() < 0.3:
            del data[at:]
    return bytes(data)


def test_random_mutations(tmp_path):
    """The dissector says of each what the Python implementation says."""
    rng = seed()
    small = [v['bytes'] for v in VECTORS if 0 < len(v['bytes']) < 2000 and
             v['name'] != 'data-nested']
    datagrams = [mutate(rng, rng.choice(small)) for _ in range(2500)]
    datagrams = [d for d in datagrams if d]
    for port in PORT, OTHER_PORT:
        path = write_pcap(tmp_path / f'{port}.pcap',
                          [packet_v4(d, port) for d in datagrams])
        reasons = collections.Counter()
        for data, packet in zip(datagrams, dissect.dissect(path),
                                strict=True):
            shown = 'qdes' in packet['protocols']
            assert shown == (port == PORT or by_heuristic(data)), data.hex()
            if shown:
                try:
                    check_packet(packet, data)
                except AssertionError as error:
                    raise AssertionError(f'{data.hex()}: {packet}') from error
                reasons[malformed(data)] += 1
        assert reasons[None] > 100
        assert len(reasons) > 5 or port == OTHER_PORT


def test_other_traffic_is_left_alone(tmp_path):
    """Noise on other ports, some of it with the right magic."""
    rng = seed()
    datagrams = [rng.choice([b'', b'QD', b'QD\x10\0', b'QD\x11\0',
                             b'QD\x12\0']) +
                 rng.randbytes(rng.choice([rng.randrange(40), 300]))
                 for _ in range(1500)]
    path = write_pcap(tmp_path / 'a.pcap',
                      [packet_v4(d, OTHER_PORT) for d in datagrams])
    for data, packet in zip(datagrams, dissect.dissect(path), strict=True):
        assert ('qdes' in packet['protocols']) == by_heuristic(data), (
            data.hex())


def test_cut_captures(tmp_path):
    """A capture that keeps only the first bytes of packets: what is missing
    is not called malformed."""
    names = ['hello-full', 'data-vlan', 'data-llc', 'data-ipv6-multicast',
             'data-nested', 'sealed-data', 'bye', 'frame-short-13',
             'tlv-mtu-cut', 'short-5', 'superframe-tcp4', 'superframe-udp6',
             'superframe-short-13']
    cases = [(name, size) for name in names
             for size in range(len(BY_NAME[name]['bytes']) + 1)]
    for port in PORT, OTHER_PORT:
        path = write_pcap(tmp_path / f'{port}.pcap',
                          [packet_v4(BY_NAME[n]['bytes'], port)
                           for n, _ in cases], [28 + s for _, s in cases])
        packets = dissect.dissect(path, fields=['_ws.malformed'])
        for (name, size), packet in zip(cases, packets, strict=True):
            data = BY_NAME[name]['bytes']
            what = f'{size} of {len(data)} bytes of {name}: {packet}'
            reason = malformed(data)
            # What is inside of a cut frame may be called malformed, by
            # Wireshark and by the dissector itself.
            cut = 'qdes.expert.cut' in packet
            if not (cut and name == 'data-nested'):
                assert packet.get('qdes.malformed', [reason]) == [reason], what
            assert '_ws.malformed' not in packet or reason or cut, what
            start = 10 if data[3:4] in (b'\5', b'\x0d') else 8
            if (port == PORT and data[2:3] == b'\x10' and not reason and
                    not data[3] & qdeswire.FLAG_SEALED and size >= 8):
                assert cut == (size < len(data)) or name == 'data-nested'
                assert ('eth' in packet['protocols']) == (size >= start + 14)
                if name.startswith('superframe-'):
                    assert ('qdes.segment_size' in packet) == (size >= 10)
            if port == PORT and size >= 8:
                assert packet['qdes.netid'][0] == '42', what
            if size == len(data) and (port == PORT or by_heuristic(data)):
                check_packet(packet, data)


def test_deep_nesting(tmp_path):
    """As many levels of QDES in QDES as a datagram holds."""
    data = BY_NAME['data-arp']['bytes']
    levels = 1
    while len(data) + 50 <= 65000:
        data = (qdeswire.header(qdeswire.TYPE_DATA, levels) +
                bytes.fromhex('020000000002 020000000001 0800') +
                packet_v4(data))
        levels += 1
    assert levels > 1000
    path = write_pcap(tmp_path / 'a.pcap', [packet_v4(data)] * 2)
    for packet in dissect.dissect(path, fields=['_ws.malformed']):
        assert packet['protocols'].count('qdes') == 9
        assert 'qdes.expert.odd' in packet and '_ws.malformed' not in packet


def test_ip_fragments(tmp_path):
    """A full frame on an underlay with MTU 1500, as docs/protocol.md has it."""
    data = udp(BY_NAME['data-1514']['bytes'], PORT, V4)
    path = write_pcap(tmp_path / 'a.pcap', [
        ipv4(data[:1480], ident=7, more=True),
        ipv4(data[1480:], ident=7, offset=1480)])
    assert [os.path.getsize(path) - 24 - 32] == [1500 + 70]
    first, last = dissect.dissect(path)
    assert 'qdes' not in first['protocols']
    assert last['qdes.frame.length'] == ['1514']
    assert last['protocols'][-3:] == ['eth', 'ethertype', 'data']


# Preferences, filters, installation: what docs/wireshark.md says

@pytest.fixture
def two_ports(tmp_path):
    """A sound HELLO and a malformed one, on PORT and on OTHER_PORT."""
    return write_pcap(tmp_path / 'a.pcap', [
        packet_v4(BY_NAME[name]['bytes'], port)
        for port in (PORT, OTHER_PORT)
        for name in ('hello-full', 'tlv-none')])


@pytest.mark.parametrize('options, want', [
    ([], [True, True, True, False]),
    (['-o', f'qdes.port:{OTHER_PORT}'], [True, False, True, True]),
    (['-o', f'qdes.port:{PORT},{OTHER_PORT - 1}-{OTHER_PORT + 1}'],
     [True, True, True, True]),
    (['-o', 'qdes.port:'], [True, False, True, False]),
    (['-d', f'udp.port=={OTHER_PORT},qdes'], [True, True, True, True]),
    (['--disable-heuristic', 'qdes_udp'], [True, True, False, False]),
    (['--disable-protocol', 'qdes'], [False, False, False, False]),
])
def test_options(two_ports, options, want):
    packets = dissect.dissect(two_ports, options=options)
    assert ['qdes' in p['protocols'] for p in packets] == want


def table_of(title):
    body = GUIDE.split(f'\n## {title}\n')[1].split('\n## ')[0]
    cells = [line.split(' | ')[0] for line in body.splitlines()
             if line.startswith('| `')]
    assert cells
    return [code for cell in cells for code in re.findall(r'`([^`]+)`', cell)]


def test_guide_names_every_field():
    names, _ = dissect.known_fields()
    assert sorted(table_of('Fields')) == sorted(names)


def test_guide_has_true_filters(dissected, tmp_path):
    """Each is accepted, and matches some vectors, but not all."""
    frame = bytes.fromhex('525400123456 020000000001 0800') + bytes(1600)
    packets = [packet_v4(v['bytes']) for v in VECTORS
               if v['bytes'] and fits(v['bytes'], packet_v4)]
    packets += [packet_v4(qdeswire.encode(message)) for message in [
        qdeswire.Data(42, frame),
        qdeswire.Hello(42, 2, mtu=1400, hold_time=60)]]
    packets.append(packet_v4(b'other', OTHER_PORT))
    path = write_pcap(tmp_path / 'a.pcap', packets)
    for text in table_of('Filters'):
        matched = dissect.dissect(path, options=['-Y', text])
        assert 0 < len(matched) < len(packets), text


def test_guide_command_for_hellos(two_ports):
    args = re.search(r'^    tshark -r fabric.pcap (.*)$', GUIDE,
                     re.MULTILINE).group(1).replace("'qdes.type == 1'",
                                                    'qdes.type==1').split()
    with open(two_ports, 'rb') as file:
        lines = dissect.run('-r', '-', *args, stdin=file).splitlines()
    assert lines[0].split('\t') == ['10.0.0.1', str(PORT), '42', 'vm1']


def test_installed_as_the_guide_says(two_ports):
    assert re.search(r'cp scripts/wireshark/qdes.lua '
                     r'~/.local/lib/wireshark/plugins/', GUIDE)
    with open(two_ports, 'rb') as file:
        text = dissect.run('-r', '-', '-Y', 'qdes.name == "vm1"', stdin=file,
                           plugin=True)
    assert text.count('HELLO name=vm1 netid=42') == 2
