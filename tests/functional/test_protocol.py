# SPDX-License-Identifier: GPL-2.0-or-later
"""The protocol: its page, its vectors and its two implementations agree.

libqdes itself is checked against the vectors by tests/unit/test-wire.c.
"""

import dataclasses
import os
import random
import re
import struct
from pathlib import Path

import pytest

import packets
import qdeswire
import superframes
from qdeswire import Bye, Data, Drop, Echo, EchoReply, Hello, Peers, Request

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs/protocol.md').read_text(encoding='utf-8')
QDES = ROOT / 'subprojects/libqdes/qdes'
VECTORS = qdeswire.load_vectors()
BY_NAME = {v['name']: v for v in VECTORS}

MEMBERS = {'name', 'why', 'hex', 'repeat', 'result', 'needs', 'type', 'netid',
           'frame-size', 'segment-size', 'packets', 'hello', 'canonical',
           'echo', 'entries', 'digest', 'known',
           'bytes'}
HELLO_MEMBERS = {'instance', 'capabilities', 'mtu', 'name', 'hold-time',
                 'group-heard', 'relay-for'}
SOUND = {'ok', 'sealed', 'frame-short', 'frame-long', 'bad-tlv'}


def is_superframe(vector):
    return vector['bytes'][3:4] in (b'\5', b'\x0d')


def frame_offset(vector):
    """Where the frame of DATA begins that is sound."""
    return 10 if is_superframe(vector) else 8


def vectors(*results):
    chosen = [v for v in VECTORS if not results or v['result'] in results]
    assert chosen
    return pytest.mark.parametrize('vector', chosen,
                                   ids=[v['name'] for v in chosen])


def section(title):
    """The text below a heading of the page."""
    found = re.search(rf'^## {re.escape(title)}\n(.*?)(?=^## |\Z)', PAGE,
                      re.MULTILINE | re.DOTALL)
    assert found, f'docs/protocol.md has no section {title}'
    return found.group(1)


def rows(title, header):
    """The rows of the table of a section whose first header cell is this."""
    table, found = [], False
    for line in section(title).splitlines():
        cells = [c.strip().strip('*`') for c in line.strip('|').split('|')]
        if not line.startswith('|'):
            if found:
                return table
        elif found:
            if set(cells[0]) - set('-'):
                table.append(cells)
        elif cells[0] == header:
            found = True
    assert found, f'{title} has no table that begins with {header}'
    return table


def defines(*names):
    """Numbers (and texts) that libqdes' headers define."""
    text = ''.join((QDES / name).read_text() for name in
                   ('candidates.h', 'config.h', 'control.h', 'fabric.h',
                    'segment.h', 'wire.h'))
    found = []
    for name in names:
        match = re.search(rf'(?:#define {name} +|^ +{name} = )"?([\w.:]+)',
                          text, re.MULTILINE)
        assert match, f'{name} is not defined'
        value = match.group(1)
        found.append(int(value, 0) if re.fullmatch(r'0x\w+|\d+', value)
                     else value)
    return found


# The file of the vectors

def test_vectors_are_well_formed():
    assert len(BY_NAME) == len(VECTORS), 'a name twice'
    for vector in VECTORS:
        assert set(vector) <= MEMBERS, vector['name']
        assert vector['why'] and re.fullmatch('[a-z0-9-]+', vector['name'])
        assert vector['result'] in qdeswire.RESULTS, vector['name']
        sound = vector['result'] in SOUND
        assert ('netid' in vector, 'type' in vector) == (sound, sound), \
            vector['name']
        assert vector.get('needs', 'seal') in ('seal', 'csum-partial',
                                               'superframe', 'relayed')
        assert (vector.get('needs') == 'superframe') == (
            sound and is_superframe(vector))
        assert vector.get('canonical', True) is True
        taken = vector['result'] == 'ok'
        is_data = vector.get('type') == 'data'
        assert ('frame-size' in vector) == (taken and is_data)
        for member in 'segment-size', 'packets':
            assert (member in vector) == (taken and is_superframe(vector))
        kinds = {'hello': ['hello'], 'bye': ['hello'], 'echo': ['echo'],
                 'echo-reply': ['echo'], 'peers': ['entries', 'digest']}
        found = {'hello', 'echo', 'entries', 'digest'} & set(vector)
        assert len(found) == (taken and not is_data)
        assert found <= set(kinds.get(vector.get('type'), []))
        hello = vector.get('hello', {'instance': '0' * 16})
        assert set(hello) <= HELLO_MEMBERS
        assert re.fullmatch('[0-9a-f]{16}', hello['instance'])


def test_vectors_differ():
    seen = {}
    for vector in VECTORS:
        other = seen.setdefault(vector['bytes'], vector['name'])
        assert other == vector['name'], (other, vector['name'])


def test_vectors_cover_the_protocol():
    def some(result, **match):
        return [v for v in VECTORS if v['result'] == result and
                all(v.get(k) == x for k, x in match.items())]

    for result in qdeswire.RESULTS:
        assert some(result), result
    header = [(v['bytes'][2] >> 4, v['bytes'][2] & 15, v['bytes'][3])
              for v in VECTORS if len(v['bytes']) >= 8 and
              v['bytes'][:2] == b'QD']
    for number in range(16):
        assert number in [h[0] for h in header], f'version {number}'
        assert number in [h[1] for h in header if h[0] == 1], f'type {number}'
    for bit in range(8):
        assert 1 << bit in [h[2] for h in header if h[0] == 1], f'bit {bit}'
    assert {len(v['bytes']) for v in some('short')} == set(range(8))
    short = {n: {len(v['bytes']) - n for v in some('frame-short')
                 if frame_offset(v) == n} for n in (8, 10)}
    assert short[8] == set(range(14))
    assert short[10] >= {-2, -1, 0, 13}
    sizes = {n: {v['frame-size'] for v in some('ok', type='data')
                 if frame_offset(v) == n} for n in (8, 10)}
    assert {14, 65499} <= sizes[8]
    assert max(sizes[10]) == 65497
    assert 65498 in {len(v['bytes']) - 10 for v in some('frame-long')
                     if is_superframe(v)}
    taken = some('ok', needs='superframe')
    assert {(p.v6, p.proto) for p in (
        superframes.find(v['bytes'][10:]) for v in taken)} == {
            (v6, proto) for v6 in (False, True)
            for proto in (packets.TCP, packets.UDP)}
    assert {1, 2, 3, 128} <= {v['packets'] for v in taken}
    assert {1, 65535} <= {v['segment-size'] for v in taken}
    netids = {v['netid'] for v in some('ok')}
    assert {0, 0xffffffff} <= netids
    for name in ('hello-full', 'bye', 'echo', 'echo-reply', 'peers-list',
                 'peers-request', 'hello-group-heard', 'hello-relay-for',
                 'data-relayed'):
        assert some('ok', name=name, canonical=True)
    hellos = [v['hello'] for v in some('ok', type='hello')]
    for member in HELLO_MEMBERS:
        assert any(member in h for h in hellos)
        assert some('bad-tlv', name=f'tlv-{member}-twice')
        assert some('bad-tlv', name=f'tlv-{member}-cut')
        assert some('bad-tlv', name=f'tlv-{member}-empty')


# The Python implementation and the vectors

def text_of(endpoint):
    """An endpoint as the vectors have it."""
    address, port = endpoint[:2]
    if not port:
        return address
    return f'[{address}]:{port}' if ':' in address else f'{address}:{port}'


def test_digest_of_the_list():
    entries = qdeswire.decode(BY_NAME['peers-list']['bytes']).entries
    asked = qdeswire.decode(BY_NAME['peers-request']['bytes'])
    assert qdeswire.make_digest(entries) == asked.digest


def test_filter_of_the_list():
    entries = qdeswire.decode(BY_NAME['peers-list']['bytes']).entries
    known = qdeswire.decode(BY_NAME['peers-known']['bytes']).known
    assert known == qdeswire.make_known(entries, len(known.filter),
                                        known.parts, known.part, known.salt)
    assert not any(known.is_news(entry) for entry in entries)
    there = [entry for entry in entries
             if (entry[2] >> 32) % known.parts == known.part]
    assert len(there) == 1
    address, port, instance = there[0]
    assert known.is_news((address, port + 1, instance))
    assert not known.is_news((address, port, instance + (1 << 32)))


@vectors()
def test_decode(vector):
    if vector['result'] != 'ok':
        with pytest.raises(Drop) as drop:
            qdeswire.decode(vector['bytes'])
        assert drop.value.result == vector['result']
        if 'type' in vector:
            assert qdeswire.TYPES[drop.value.type].lower() == vector['type']
        assert drop.value.netid == vector.get('netid')
        return
    message = qdeswire.decode(vector['bytes'])
    assert qdeswire.TYPES[message.type].lower() == vector['type']
    assert message.netid == vector['netid']
    if vector['type'] == 'data':
        assert len(message.frame) == vector['frame-size']
        assert message.frame == vector['bytes'][frame_offset(vector):]
        assert message.csum_partial == bool(vector['bytes'][3] & 1)
        assert message.segment_size == vector.get('segment-size')
        assert message.relayed == bool(vector['bytes'][3] & 8)
        return
    if 'echo' in vector:
        assert message.nonce == int(vector['echo']['nonce'], 16)
        assert text_of(message.observed) == vector['echo']['observed']
        return
    if 'entries' in vector:
        assert vector['entries'] == [
            {'endpoint': text_of(entry), 'instance': f'{entry[2]:016x}'}
            for entry in message.entries]
        return
    if 'digest' in vector:
        assert vector['digest'] == {
            str(number): f'{value:08x}'
            for number, value in enumerate(message.digest) if value}
        known = message.known
        assert vector.get('known') == (known and {
            'parts': known.parts, 'part': known.part,
            'salt': f'{known.salt:08x}', 'size': len(known.filter),
            'bits': [bit for bit in range(8 * len(known.filter))
                     if known.filter[bit // 8] >> bit % 8 & 1]})
        return
    want = vector['hello']
    assert message.instance == int(want['instance'], 16)
    if vector['type'] == 'hello':
        assert message.capabilities == want.get('capabilities', 0)
        assert message.mtu == want.get('mtu', 0)
        assert message.name == want.get('name', '')
        assert message.hold_time == want.get('hold-time', 0)
        assert message.group_heard == want.get('group-heard')
        assert [f'{n:016x}' for n in message.relay_for] == want.get(
            'relay-for', [])


@vectors('ok')
def test_round_trip(vector):
    message = qdeswire.decode(vector['bytes'])
    again = qdeswire.encode(message)
    assert qdeswire.decode(again) == message
    assert (again == vector['bytes']) or not vector.get('canonical')


@vectors('ok')
def test_every_truncation(vector):
    """A cut DATA is a shorter one; a cut control message is malformed unless
    the cut falls between two TLVs, the mandatory ones before it."""
    data = vector['bytes']
    ends = set()
    if vector['type'] != 'data':
        needs = {'echo': [{7, 8}], 'echo-reply': [{7, 8}],
                 'peers': [{6}, {11}]}.get(vector['type'], [{1}])
        at, seen = 8, set()
        while at < len(data):
            seen.add(int.from_bytes(data[at:at + 2], 'big'))
            at += 4 + int.from_bytes(data[at + 2:at + 4], 'big')
            if any(need <= seen for need in needs) and (
                    vector['type'] != 'echo' or at >= 96):
                ends.add(at)
    for size in {*range(min(len(data), 300)), len(data) - 1}:
        if size < 8:
            want = 'short'
        elif vector['type'] == 'data':
            start = frame_offset(vector)
            want = 'frame-short' if size < start + 14 else 'ok'
        else:
            want = 'ok' if size in ends else 'bad-tlv'
        try:
            qdeswire.decode(data[:size])
            result = 'ok'
        except Drop as drop:
            result = drop.result
        assert result == want, f'{size} of {len(data)} bytes'


def test_random_messages():
    seed = int(os.environ.get('QDES_SEED', random.randrange(1 << 32)))
    print(f'QDES_SEED={seed}')
    rng = random.Random(seed)
    for _ in range(2000):
        netid = rng.choice([0, 0xffffffff, rng.getrandbits(32)])
        instance = rng.getrandbits(64) or 1
        frame = rng.randbytes(rng.randrange(14, 1600))
        message = rng.choice([
            Data(netid, frame, rng.random() < 0.5,
                 relayed=rng.random() < 0.5),
            Data(netid, frame, True, rng.getrandbits(16),
                 rng.random() < 0.5),
            Bye(netid, instance),
            Echo(netid, instance, ('192.0.2.1', rng.getrandbits(16))),
            EchoReply(netid, instance, ('2001:db8::1', rng.getrandbits(16))),
            Request(netid, [rng.getrandbits(32) for _ in range(64)]),
            Peers(netid, [(f'10.0.0.{i}', i, rng.getrandbits(64))
                          for i in range(rng.randrange(1, 46))]),
            Hello(netid, instance, rng.getrandbits(rng.choice([0, 1, 32])),
                  rng.getrandbits(rng.choice([0, 16, 32])),
                  ''.join(rng.choices('ab z~\u00a0\u00ffß桥🐧',
                                      k=rng.randrange(16))),
                  rng.getrandbits(rng.choice([0, 16])),
                  rng.choice([None, False, True]),
                  [rng.getrandbits(64)
                   for _ in range(rng.choice([0, 1, 64]))])])
        assert qdeswire.decode(qdeswire.encode(message)) == message


def test_flag_combinations():
    """Every value of the Flags field, with every type that is defined."""
    body = bytes.fromhex('0001 0008 0123456789abcdef') + bytes(20)
    for type in (qdeswire.TYPE_DATA, qdeswire.TYPE_HELLO, qdeswire.TYPE_BYE):
        good = [0, 1, 5, 8, 9, 13] if type == qdeswire.TYPE_DATA else [0]
        for flags in range(256):
            try:
                message = qdeswire.decode(
                    qdeswire.header(type, 0, flags) +
                    (body if type == qdeswire.TYPE_DATA else body[:12]))
                assert flags in good
            except Drop as drop:
                assert drop.result == (
                    'sealed' if flags & 2 and flags & ~2 in good else
                    'bad-flags')
                continue
            if type == qdeswire.TYPE_DATA:
                assert message.csum_partial == bool(flags & 1)
                assert message.segment_size == (1 if flags & 4 else None)
                assert message.relayed == bool(flags & 8)


# Superframes, and what they stand for

@pytest.mark.parametrize('vector', [
    pytest.param(v, id=v['name']) for v in VECTORS
    if v['result'] == 'ok' and v['bytes'][3] & 1])
def test_vectors_packets(vector):
    """Flagged frames are of the kind that is to be flagged, their field
    holds the right sum, and nothing is lost in between the packets."""
    data = qdeswire.decode(vector['bytes'])
    whole = superframes.find(data.frame)
    cut = superframes.packets(data)
    assert len(cut) == vector.get('packets', 1)
    size = data.segment_size or len(data.frame)
    joined = b''
    for frame in cut:
        place = superframes.find(frame)
        assert place.payload == whole.payload and place.end == len(frame)
        assert finished(frame, place)
        payload = frame[place.payload:]
        assert len(payload) == size or frame is cut[-1]
        joined += payload
    assert joined == data.frame[whole.payload:whole.end]


def finished(frame, place):
    """Is every checksum of the frame right?"""
    source, target = ((8, 24), (24, 40)) if place.v6 else ((12, 16), (16, 20))
    l3, l4 = frame[place.l3:place.l4], frame[place.l4:place.end]
    pseudo = (l3[slice(*source)] + l3[slice(*target)] +
              len(l4).to_bytes(4, 'big') + place.proto.to_bytes(4, 'big'))
    return (packets.ones_sum(pseudo + l4) == 0xffff and
            (place.v6 or packets.ones_sum(l3) == 0xffff))


def test_random_superframes():
    """Packets in full, made one by one, are what the whole is cut into."""
    rng = packets.seeded()
    seen = set()
    # The rarest kind of eight is one of 25.
    for _ in range(600):
        # As long as it may be, but for its Ethernet header with tags.
        whole, size = packets.random_superframe(rng, largest=65475)
        data = Data(1, whole.encode(partial=True), True, size)
        want = []
        for at in range(0, len(whole.payload), size):
            last = at + size >= len(whole.payload)
            lost = 0 if last else packets.FIN | packets.PSH
            lost |= packets.CWR if at else 0
            want.append(dataclasses.replace(
                whole, id=(whole.id + at // size) & 0xffff,
                seq=whole.seq + at, flags=whole.flags & ~lost,
                payload=whole.payload[at:at + size]).encode())
        assert len(data.frame) <= qdeswire.SUPERFRAME_MAX
        assert qdeswire.decode(qdeswire.encode(data)) == data
        assert superframes.packets(data) == want
        seen.add((whole.v6, whole.proto, len(want) > 1))
    assert len(seen) == 8


def test_urgent_data():
    data = qdeswire.decode(BY_NAME['superframe-urgent']['bytes'])
    l4 = superframes.find(data.frame).l4
    seen = [(frame[l4 + 13] & superframes.URG,
             int.from_bytes(frame[l4 + 18:l4 + 20], 'big'))
            for frame in superframes.packets(data)]
    assert seen[:2] == [(superframes.URG, 13), (superframes.URG, 3)]
    assert seen[2][0] == 0 and len(seen) == 3


TCP = packets.Packet(payload=bytes(300))
UDP = packets.Packet(proto=packets.UDP, payload=bytes(300))
ROUTE = (43, b'\x02\1' + bytes(20))


def altered(packet, change=None, **values):
    frame = bytearray(dataclasses.replace(packet, **values).encode(True))
    return bytes(change(frame) or frame) if change else bytes(frame)


@pytest.mark.parametrize('frame, size', [
    (altered(TCP), 0),
    (altered(UDP), 0),
    (altered(TCP, payload=bytes(129)), 1),
    (altered(UDP, v6=True, payload=bytes(1025)), 8),
    (altered(TCP, flags=packets.ACK | superframes.SYN), 100),
    (altered(TCP, v6=True, flags=superframes.RST), 299),
    (altered(TCP, lambda f: f + b'\0'), 100),          # padding
    (altered(TCP, lambda f: f[:-1]), 100),
    (altered(TCP, frag=0x2000), 100),
    (altered(TCP, frag=1), 100),
    (altered(TCP, tags=[(0x8100, 1)] * 3), 100),
    (altered(TCP, v6=True, extensions=[ROUTE]), 100),
    (altered(TCP, proto=1), 100),
    (altered(UDP, lambda f: f.__setitem__(39, 0)), 100),    # its length
    (bytes.fromhex('020000000002 020000000001 88b5') + bytes(300), 100),
])
def test_no_superframes(frame, size):
    """What a receiver drops, though the wire format is kept."""
    data = qdeswire.decode(qdeswire.encode(Data(1, frame, True, size)))
    with pytest.raises(superframes.Bad) as bad:
        superframes.packets(data)
    assert bad.value.counter == 'rx-drop-superframe'
    # Where the frame is the reason, that of CSUM_PARTIAL is the same.
    data = Data(1, frame, True)
    if bad.value.reason == 'frame':
        with pytest.raises(superframes.Bad) as bad:
            superframes.packets(data)
        assert bad.value.counter == 'rx-drop-csum'
    else:
        assert superframes.packets(data)


def test_clean_name_against_pythons_decoder():
    """Python's decoder too finds each ill-formed byte, if asked so."""
    for size in (1, 2, 3):
        for number in range(0, 1 << 8 * size, 1 if size < 3 else 251):
            raw = number.to_bytes(size, 'big')
            want = ''.join('?' if 0xdc80 <= ord(c) <= 0xdcff or ord(c) < 32 or
                           127 <= ord(c) < 160 else c
                           for c in raw.decode(errors='surrogateescape'))
            assert qdeswire.clean_name(raw) == want, raw


@pytest.mark.parametrize('said, counts', [(0, 30), (1, 3), (3, 3), (30, 30),
                                          (600, 600), (601, 600)])
def test_hold_time(said, counts):
    assert Hello(0, 1, hold_time=said).hold_seconds == counts


# The page and everything else

def test_page_types():
    names = {int(n): name for n, name, *_ in rows('Message types', 'type')
             if name}
    assert names == qdeswire.TYPES
    defined = {int(r[0]) for r in rows('Message types', 'type')
               if r[3] == 'defined'}
    taken = {v['type'] for v in VECTORS if v['result'] == 'ok'}
    assert {names[n].lower() for n in defined} == taken
    assert defines(*(f'QDES_WIRE_{names[n].replace("-", "_")}'
                     for n in sorted(defined))) == sorted(defined)


def test_page_flags():
    flags = {int(bit, 16): name for bit, name, _ in rows('Flags', 'bit')
             if name}
    assert flags == qdeswire.FLAGS
    for bit, name in flags.items():
        assert defines(f'QDES_WIRE_FLAG_{name}') == [bit]


def test_page_capabilities():
    text = [r[3] for r in rows('Control messages and TLVs', 'type')
            if r[1] == 'CAPABILITIES'][0]
    bits = {int(bit, 16): name for bit, name in re.findall(
        r'\((0x[0-9a-f]{8})\): (?:DATA with|messages|the sender is a) (\w+)',
        text)}
    assert bits == qdeswire.CAPABILITIES
    assert bits == {1 << int(n): bits[1 << int(n)]
                    for n in re.findall(r'bit (\d+)', text)}
    for bit, name in bits.items():
        assert defines(f'QDES_WIRE_CAP_{name}') == [bit]


def test_page_superframes():
    assert rows('DATA', 'field')[0][:3] == ['Segment size', '8', '16 bits']
    most, = defines('QDES_SEGMENT_PACKETS')
    assert most == superframes.PACKETS_MAX
    text = ' '.join(PAGE.split())
    assert f'There are at most {most}.' in text
    assert f'more than {most} packets' in text
    size, = defines('QDES_WIRE_SUPERFRAME_SIZE')
    assert size == qdeswire.SUPERFRAME_SIZE
    assert (qdeswire.SUPERFRAME_MAX - qdeswire.FRAME_MAX ==
            qdeswire.HEADER_SIZE - size)
    assert f'({qdeswire.FRAME_MIN} to {qdeswire.SUPERFRAME_MAX} bytes)' in text


def test_page_tlvs():
    table = rows('Control messages and TLVs', 'type')
    assert {int(r[0]): r[1] for r in table} == qdeswire.TLVS
    for number, name, length, _ in table:
        if not length:
            continue
        constant = name.replace('-', '_')
        assert defines(f'QDES_WIRE_TLV_{constant}') == [int(number)]
        if number not in '1 2 3 4 5 10'.split():
            continue
        shortest, _, longest = length.partition(' to ')
        for size in range(66):
            message = (qdeswire.header(qdeswire.TYPE_HELLO, 0) +
                       qdeswire.tlv(int(number), b'x' * size))
            if number != '1':
                message += qdeswire.tlv(1, b'12345678')
            if int(shortest) <= size <= int(longest or shortest):
                qdeswire.decode(message)
            else:
                with pytest.raises(Drop):
                    qdeswire.decode(message)


def test_page_echo_and_peers():
    text = ' '.join(PAGE.split())
    echo, reply, buckets, entry, most = defines(
        'QDES_ECHO_SIZE', 'QDES_ECHO_REPLY_SIZE', 'QDES_DIGEST_BUCKETS',
        'QDES_ENTRY_SIZE', 'QDES_ENTRIES_MAX')
    assert f'An ECHO has exactly {echo} bytes' in text
    assert echo == qdeswire.ECHO_SIZE
    assert f'as OBSERVED; it has {reply} bytes' in text
    assert len(qdeswire.encode(EchoReply(0, 1, ('::', 1)))) == reply
    assert f'{buckets} buckets of 32 bits' in text
    assert f'| 6 | PEERS | {entry} to {entry * most} |' in text
    assert (buckets, entry) == (qdeswire.BUCKETS, qdeswire.ENTRY_SIZE)
    known, = defines('QDES_KNOWN_MAX')
    assert known == qdeswire.KNOWN_MAX
    assert f'| 13 | KNOWN | 7 to {6 + known} |' in text
    tries, = defines('QDES_CANDIDATE_TRIES')
    assert f'no more than {tries} each time' in text
    padded, = defines('QDES_WIRE_HELLO_PADDED')
    assert padded == qdeswire.HELLO_PADDED
    assert f'pad them to {padded} bytes' in text


def score(one, other, relay):
    """How good a relay is for two instances, as the page has it."""
    number = 0x811c9dc5
    for byte in struct.pack('>QQ', one ^ other, relay):
        number = (number ^ byte) * 0x01000193 & 0xffffffff
    return number


def test_page_relays():
    most, = defines('QDES_WIRE_RELAY_MAX')
    assert most == qdeswire.RELAY_MAX
    text = ' '.join(section('Relays').split())
    assert f'missed instances for which it is chosen, {most} at most' in text
    assert f'| 12 | RELAY-FOR | 8 to {8 * most}, a multiple of 8 |' in PAGE
    quick, = defines('QDES_CANDIDATE_QUICK')
    assert f'the first {["five"][quick - 5]} ECHOs of rule 20' in text
    example = bytes.fromhex(''.join(re.findall(
        r'^    ((?:[0-9a-f]{2} +)+)', section('Relays'),
        re.MULTILINE)))
    assert qdeswire.decode(example) == Hello(
        42, 0x0123456789abcdef, relay_for=[0x1122334455667788])
    # libqdes has the same number: tests/unit/test-relay.c.
    assert score(1, 2, 3) == score(2, 1, 3) == 0x088edae5


def test_page_results_and_counters():
    table = rows('Receiver rules', 'result')
    counters = {r[0]: r[2].strip('`') for r in table if r[0] not in ('', 'ok')}
    assert counters == qdeswire.COUNTERS
    assert list(counters) == list(qdeswire.COUNTERS), 'another order'
    stats = re.findall(r'QDES_COUNTER\((\w+)', (QDES / 'stats.def').read_text())
    stats = {name.replace('_', '-') for name in stats}
    named = set(re.findall(r'`((?:rx|tx)-[a-z-]+)`', PAGE))
    assert len(named) > 10 and named <= stats, named - stats
    enum = re.search(r'typedef enum QdesWireResult {(.*?)}',
                     (QDES / 'wire.h').read_text(), re.DOTALL).group(1)
    enum = re.findall(r'QDES_WIRE_(\w+)', enum)
    assert {e.lower().replace('_', '-') for e in enum} == {'ok', *counters}


def test_page_defaults():
    default = {r[0]: r[1] for r in rows('Datagrams', 'default')}
    port, group, ttl = defines('QDES_DEFAULT_PORT', 'QDES_DEFAULT_GROUP',
                               'QDES_DEFAULT_TTL')
    assert int(default['UDP port'].split()[0]) == port == qdeswire.PORT
    assert default['group, IPv4'].split()[0] == group == qdeswire.GROUP_V4
    assert default['group, IPv6'].split()[0] == qdeswire.GROUP_V6
    assert int(default['multicast TTL or hop limit']) == ttl


def test_page_limits():
    text = ' '.join(PAGE.split())
    frame_min, frame_max, control, name = defines(
        'QDES_FRAME_MIN', 'QDES_FRAME_MAX', 'QDES_WIRE_CONTROL_MAX',
        'QDES_NAME_MAX')
    assert f'({frame_min} to {frame_max} bytes)' in text
    assert f'it is longer than {control} bytes, header included' in text
    assert f'| 4 | NAME | 1 to {name} |' in text
    assert (frame_min, frame_max, control, name) == (
        qdeswire.FRAME_MIN, qdeswire.FRAME_MAX, qdeswire.CONTROL_MAX,
        qdeswire.NAME_MAX)


def test_page_timers():
    timer = {r[0]: r[1] for r in rows('Peers: state and timers', 'timer')}
    hello_ms, hold_ms, ageing = defines('QDES_HELLO_MS', 'QDES_HOLD_MS',
                                        'QDES_DEFAULT_AGEING')
    assert timer['HELLO interval'].startswith(f'{hello_ms // 1000} s')
    assert hello_ms == qdeswire.HELLO_INTERVAL * 1000
    assert (f'{hold_ms // 1000} s if it did not say; not less than '
            f'{qdeswire.HOLD_MIN} s, not more than {qdeswire.HOLD_MAX} s'
            ) in timer['hold time']
    assert hold_ms == qdeswire.HOLD_DEFAULT * 1000
    assert timer['ageing of a MAC address that is not heard'].startswith(
        f'{ageing} s')


def test_page_overhead():
    """The table of overheads is what its own rows add up to."""
    table = [[int(c.strip('*') or 0) for c in r[1:]]
             for r in rows('Overhead and MTU', '')]
    (ip, udp, qdes, seal, frame, ethernet, packet, mtu, mtu_vlan, under,
     under_vlan) = table
    for col in range(4):
        assert frame[col] == ip[col] + udp[col] + qdes[col] + seal[col]
        assert packet[col] == frame[col] + ethernet[col]
        assert mtu[col] == 1500 - packet[col] == mtu_vlan[col] + 4
        assert under[col] == 1500 + packet[col] == under_vlan[col] - 4
    assert qdes[0] == qdeswire.HEADER_SIZE


def test_page_example():
    def example(title):
        lines = re.findall(r'^    ((?: *[0-9a-f]{2} +)+)(?:\S|$)',
                           section(title).replace('\n', ' \n'),
                           re.MULTILINE)
        return bytes.fromhex(''.join(lines))

    assert (example('Control messages and TLVs') ==
            BY_NAME['hello-example']['bytes'])
    echo = example('ECHO and PEERS')
    assert BY_NAME['echo']['bytes'] == echo + bytes(96 - len(echo))
    assert len(echo) > 46


def test_page_links():
    titles = re.findall(r'^##+ (.*)', PAGE, re.MULTILINE)
    anchors = {re.sub(r'[^a-z -]', '', t.lower()).replace(' ', '-')
               for t in titles}
    for target in re.findall(r'\]\(([^)]+)\)', PAGE):
        if target.startswith('#'):
            assert target[1:] in anchors, target
        else:
            assert (ROOT / 'docs' / target).exists(), target
