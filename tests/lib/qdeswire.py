# SPDX-License-Identifier: GPL-2.0-or-later
"""The QDES protocol, version 1, written from docs/protocol.md alone.

The tests' other half: what libqdes sends is read by this module, and the
other way round.  It shares no code with libqdes, so a misunderstanding of the
protocol shows as a failed test.

    decode(datagram) -> Data | Hello | Bye | Echo | EchoReply | Request | Peers,
                        or raises Drop with the reason
    encode(message)  -> datagram

What a Data's frame stands for, when it is a superframe, is superframes.py's.

The reasons are the results of docs/protocol.md; load_vectors() reads the
datagrams that say what is what.
"""

import dataclasses
import ipaddress
import json
import struct
from pathlib import Path

MAGIC = 0x5144
VERSION = 1
PORT = 20804
GROUP_V4 = '239.192.81.68'
GROUP_V6 = 'ff15::5144'

HEADER_SIZE = 8
SUPERFRAME_SIZE = 10    # header and Segment size
FRAME_MIN = 14
FRAME_MAX = 65499
SUPERFRAME_MAX = 65497
CONTROL_MAX = 1200
NAME_MAX = 63
ECHO_SIZE = 96
ENTRY_SIZE = 26
KNOWN_MAX = 900          # bytes of a filter
BUCKETS = 64
RELAY_MAX = 64          # instances in a RELAY-FOR
HELLO_PADDED = 224      # what a HELLO to the group is padded to

TYPES = {0: 'DATA', 1: 'HELLO', 2: 'BYE', 3: 'ECHO', 4: 'ECHO-REPLY',
         5: 'PEERS', 6: 'CHALLENGE', 7: 'RESPONSE'}
(TYPE_DATA, TYPE_HELLO, TYPE_BYE, TYPE_ECHO, TYPE_ECHO_REPLY,
 TYPE_PEERS, TYPE_CHALLENGE, TYPE_RESPONSE) = range(8)

FLAGS = {0x01: 'CSUM_PARTIAL', 0x02: 'SEALED', 0x04: 'SUPERFRAME',
         0x08: 'RELAYED'}
FLAG_CSUM_PARTIAL, FLAG_SEALED, FLAG_SUPERFRAME, FLAG_RELAYED = FLAGS
CAPABILITIES = {0x00000001: 'CSUM_PARTIAL', 0x00000002: 'SUPERFRAME',
                0x00000004: 'ECHO', 0x00000008: 'RELAY'}
CAP_CSUM_PARTIAL, CAP_SUPERFRAME, CAP_ECHO, CAP_RELAY = CAPABILITIES

TLVS = {1: 'INSTANCE', 2: 'CAPABILITIES', 3: 'MTU', 4: 'NAME', 5: 'HOLD-TIME',
        6: 'PEERS', 7: 'NONCE', 8: 'OBSERVED', 9: 'PADDING',
        10: 'GROUP-HEARD', 11: 'DIGEST', 12: 'RELAY-FOR', 13: 'KNOWN',
        16: 'SESSION', 17: 'KEYS', 18: 'AGE', 19: 'NUMBERS'}
(TLV_INSTANCE, TLV_CAPABILITIES, TLV_MTU, TLV_NAME, TLV_HOLD_TIME, TLV_PEERS,
 TLV_NONCE, TLV_OBSERVED, TLV_PADDING, TLV_GROUP_HEARD, TLV_DIGEST,
 TLV_RELAY_FOR, TLV_KNOWN, TLV_SESSION, TLV_KEYS, TLV_AGE,
 TLV_NUMBERS) = TLVS

# Result -> counter of the receiver; 'ok' has one for each message type.
COUNTERS = {
    'short': 'rx-drop-short',
    'bad-magic': 'rx-drop-magic',
    'bad-version': 'rx-drop-version',
    'bad-type': 'rx-drop-type',
    'bad-flags': 'rx-drop-flags',
    'sealed': 'rx-drop-sealed',
    'frame-short': 'rx-drop-frame-short',
    'frame-long': 'rx-drop-frame-long',
    'bad-tlv': 'rx-drop-tlv',
}
RESULTS = ['ok', *COUNTERS]

HELLO_INTERVAL = 10     # seconds
HOLD_DEFAULT = 30       # seconds
HOLD_MIN, HOLD_MAX = 3, 600

VECTORS = Path(__file__).resolve().parents[2] / 'docs/protocol/vectors.json'


class Drop(Exception):
    """A datagram that a receiver drops; RESULT is the reason."""

    def __init__(self, result, text, type=None, netid=None):
        super().__init__(f'{result}: {text}')
        assert result in COUNTERS
        self.result = result
        self.type = type        # known when the header is sound
        self.netid = netid


@dataclasses.dataclass
class Data:
    """One Ethernet frame; with a segment size, a superframe."""
    netid: int
    frame: bytes
    csum_partial: bool = False
    segment_size: int | None = None
    relayed: bool = False

    type = TYPE_DATA


@dataclasses.dataclass
class Hello:
    """A port that is there.  0 and '' stand for TLVs that are absent."""
    netid: int
    instance: int
    capabilities: int = 0
    mtu: int = 0
    name: str = ''
    hold_time: int = 0
    group_heard: bool | None = None
    relay_for: list = dataclasses.field(default_factory=list)
    padded: int = dataclasses.field(default=0, compare=False)

    type = TYPE_HELLO

    @property
    def hold_seconds(self):
        """After how many silent seconds the sender is forgotten."""
        return min(max(self.hold_time or HOLD_DEFAULT, HOLD_MIN), HOLD_MAX)


@dataclasses.dataclass
class Bye:
    """A port that ends."""
    netid: int
    instance: int

    type = TYPE_BYE


@dataclasses.dataclass
class Echo:
    """Are you there, at the endpoint OBSERVED, an (address, port)?"""
    netid: int
    nonce: int
    observed: tuple

    type = TYPE_ECHO


@dataclasses.dataclass
class EchoReply:
    """The nonce comes back to where it came from, OBSERVED."""
    netid: int
    nonce: int
    observed: tuple

    type = TYPE_ECHO_REPLY


@dataclasses.dataclass
class Known:
    """Whom the asker knows of a part of all: a Bloom filter, as bytes."""
    parts: int
    part: int
    salt: int
    filter: bytes

    def is_news(self, entry):
        """Is the entry in the part, and surely not in the filter?"""
        parts = max(self.parts, 1)
        if (entry[2] >> 32) % parts != self.part:
            return False
        return not all(self.filter[bit // 8] >> bit % 8 & 1
                       for bit in self.bits(entry, self.salt,
                                            len(self.filter)))

    @staticmethod
    def bits(entry, salt, size):
        number = hash_entry(*entry) ^ salt
        for _ in range(4):
            number = (number ^ number >> 16) * 0x7feb352d & 0xffffffff
            number = (number ^ number >> 15) * 0x846ca68b & 0xffffffff
            number ^= number >> 16
            yield number % (8 * size)


@dataclasses.dataclass
class Request:
    """A PEERS that asks; DIGEST is a list of numbers."""
    netid: int
    digest: list
    known: Known | None = None

    type = TYPE_PEERS


@dataclasses.dataclass
class Peers:
    """A PEERS that tells; ENTRIES are (address, port, instance)."""
    netid: int
    entries: list

    type = TYPE_PEERS


def pack_endpoint(address, port):
    address = ipaddress.ip_address(address)
    if address.version == 4:
        address = ipaddress.IPv6Address(bytes(10) + b'\xff\xff' +
                                        address.packed)
    return address.packed + struct.pack('>H', port)


def unpack_endpoint(value):
    address = ipaddress.IPv6Address(value[:16])
    return (str(address.ipv4_mapped or address),
            int.from_bytes(value[16:18], 'big'))


def hash_entry(address, port, instance):
    number = 0x811c9dc5
    for byte in pack_endpoint(address, port) + struct.pack('>Q', instance):
        number = (number ^ byte) * 0x01000193 & 0xffffffff
    return number


def make_digest(entries):
    """The digest of a list of (address, port, instance)."""
    digest = [0] * BUCKETS
    for entry in entries:
        digest[entry[2] % BUCKETS] ^= hash_entry(*entry)
    return digest


def make_known(entries, size, parts=1, part=0, salt=0):
    """The filter, of SIZE bytes, of those of a list that are in the part."""
    filter = bytearray(size)
    for entry in entries:
        if (entry[2] >> 32) % parts == part:
            for bit in Known.bits(entry, salt, size):
                filter[bit // 8] |= 1 << bit % 8
    return Known(parts, part, salt, bytes(filter))


def header(type, netid, flags=0, version=VERSION, magic=MAGIC):
    """Any header, wrong ones too."""
    return struct.pack('>HBBI', magic, version << 4 | type, flags, netid)


def tlv(type, value, length=None):
    """Any TLV; LENGTH is for those that lie about it."""
    if length is None:
        length = len(value)
    return struct.pack('>HH', type, length) + value


def encode(message):
    """Return the datagram of a message."""
    if message.type == TYPE_DATA:
        flags = FLAG_CSUM_PARTIAL if message.csum_partial else 0
        flags |= FLAG_RELAYED if message.relayed else 0
        size = b''
        if message.segment_size is not None:
            flags |= FLAG_SUPERFRAME
            size = struct.pack('>H', message.segment_size)
        return header(TYPE_DATA, message.netid, flags) + size + message.frame
    out = header(message.type, message.netid)
    if message.type in (TYPE_ECHO, TYPE_ECHO_REPLY):
        out += tlv(TLV_NONCE, struct.pack('>Q', message.nonce))
        out += tlv(TLV_OBSERVED, pack_endpoint(*message.observed))
        if message.type == TYPE_ECHO:
            out += tlv(TLV_PADDING, bytes(ECHO_SIZE - 4 - len(out)))
        return out
    if isinstance(message, Request):
        out += tlv(TLV_DIGEST, struct.pack('>64I', *message.digest))
        if message.known:
            known = message.known
            out += tlv(TLV_KNOWN, struct.pack(
                '>BBI', known.parts, known.part, known.salt) + known.filter)
        return out
    if isinstance(message, Peers):
        return out + tlv(TLV_PEERS, b''.join(
            pack_endpoint(address, port) + struct.pack('>Q', instance)
            for address, port, instance in message.entries))
    out += tlv(TLV_INSTANCE, struct.pack('>Q', message.instance))
    if message.type == TYPE_BYE:
        return out
    if message.capabilities:
        out += tlv(TLV_CAPABILITIES, struct.pack('>I', message.capabilities))
    if message.mtu:
        out += tlv(TLV_MTU, struct.pack('>I', message.mtu))
    if message.name:
        out += tlv(TLV_NAME, message.name.encode())
    if message.hold_time:
        out += tlv(TLV_HOLD_TIME, struct.pack('>H', message.hold_time))
    if message.group_heard is not None:
        out += tlv(TLV_GROUP_HEARD, bytes([message.group_heard]))
    if message.relay_for:
        out += tlv(TLV_RELAY_FOR, struct.pack(
            f'>{len(message.relay_for)}Q', *message.relay_for))
    if message.padded:
        out += tlv(TLV_PADDING, bytes(message.padded - len(out) - 4))
    return out


def _sequence_length(data):
    """Length of the well-formed UTF-8 sequence that DATA begins with, or 0.

    By the grammar of RFC 3629, section 4, and not by Python's decoder, of
    which one would have to know what it does with each kind of error.
    """
    first, rest = data[0], data[1:4]
    if first < 0x80:
        return 1
    low, high = 0x80, 0xbf
    if 0xc2 <= first <= 0xdf:
        more = 1
    elif 0xe0 <= first <= 0xef:
        more = 2
        low = 0xa0 if first == 0xe0 else low
        high = 0x9f if first == 0xed else high
    elif 0xf0 <= first <= 0xf4:
        more = 3
        low = 0x90 if first == 0xf0 else low
        high = 0x8f if first == 0xf4 else high
    else:
        return 0
    if len(rest) < more or not low <= rest[0] <= high:
        return 0
    if any(not 0x80 <= byte <= 0xbf for byte in rest[1:more]):
        return 0
    return 1 + more


def clean_name(value):
    """What a receiver shows of a NAME."""
    out = ''
    while value:
        size = _sequence_length(value)
        char = value[:size].decode() if size else '?'
        if ord(char) < 0x20 or 0x7f <= ord(char) <= 0x9f:
            char = '?'
        out += char
        value = value[size or 1:]
    return out


def split_tlvs(payload):
    """Return [(type, value)]; raises ValueError where they do not fit."""
    found = []
    while payload:
        if len(payload) < 4:
            raise ValueError(f'{len(payload)} bytes where a TLV begins')
        type, length = struct.unpack_from('>HH', payload)
        value = payload[4:4 + length]
        if len(value) < length:
            raise ValueError(f'TLV {type} with Length {length}, but '
                             f'{len(value)} bytes left')
        found.append((type, value))
        payload = payload[4 + length:]
    return found


_LENGTHS = {TLV_INSTANCE: range(8, 9), TLV_CAPABILITIES: range(4, 5),
            TLV_MTU: range(4, 5), TLV_NAME: range(1, NAME_MAX + 1),
            TLV_HOLD_TIME: range(2, 3), TLV_GROUP_HEARD: range(1, 2),
            TLV_RELAY_FOR: range(8, 8 * RELAY_MAX + 1, 8),
            TLV_KEYS: range(4, 9, 4)}
_ECHO_LENGTHS = {TLV_NONCE: range(8, 9), TLV_OBSERVED: range(18, 19)}
_PEERS_LENGTHS = {TLV_PEERS: range(ENTRY_SIZE, CONTROL_MAX, ENTRY_SIZE),
                  TLV_DIGEST: range(256, 257),
                  TLV_KNOWN: range(7, 6 + KNOWN_MAX + 1)}


def _well_formed(payload, lengths):
    """{type: value} of the TLVs in LENGTHS."""
    known = {}
    for type, value in split_tlvs(payload):
        if type not in lengths:
            continue
        if type in known:
            raise ValueError(f'{TLVS[type]} twice')
        if len(value) not in lengths[type]:
            raise ValueError(f'{TLVS[type]} with {len(value)} bytes')
        known[type] = value
    return known


def _decode_echo(type, netid, payload):
    if type == TYPE_ECHO and HEADER_SIZE + len(payload) < ECHO_SIZE:
        raise ValueError(f'ECHO of {HEADER_SIZE + len(payload)} bytes')
    known = _well_formed(payload, _ECHO_LENGTHS)
    if len(known) != 2:
        raise ValueError('NONCE or OBSERVED missing')
    return (Echo if type == TYPE_ECHO else EchoReply)(
        netid, int.from_bytes(known[TLV_NONCE], 'big'),
        unpack_endpoint(known[TLV_OBSERVED]))


def _decode_peers(netid, payload):
    known = _well_formed(payload, _PEERS_LENGTHS)
    if (TLV_PEERS in known) == (TLV_DIGEST in known):
        raise ValueError('not one PEERS or DIGEST')
    if TLV_DIGEST in known:
        filter = known.get(TLV_KNOWN)
        return Request(netid, list(struct.unpack('>64I', known[TLV_DIGEST])),
                       filter and Known(*struct.unpack('>BBI', filter[:6]),
                                        filter[6:]))
    if TLV_KNOWN in known:
        raise ValueError('KNOWN without DIGEST')
    value = known[TLV_PEERS]
    return Peers(netid, [
        (*unpack_endpoint(value[at:]),
         int.from_bytes(value[at + 18:at + ENTRY_SIZE], 'big'))
        for at in range(0, len(value), ENTRY_SIZE)])


def _known_tlvs(payload):
    """The TLVs of a HELLO or BYE."""
    known = _well_formed(payload, _LENGTHS)
    if not any(known.get(TLV_INSTANCE, b'')):
        raise ValueError('INSTANCE missing or 0')
    return known


def decode(datagram):
    """Return the message; raises Drop for all else."""
    if len(datagram) < HEADER_SIZE:
        raise Drop('short', f'{len(datagram)} bytes')
    magic, version_type, flags, netid = struct.unpack_from('>HBBI', datagram)
    version, type = version_type >> 4, version_type & 0xf
    if magic != MAGIC:
        raise Drop('bad-magic', f'{magic:#06x}')
    if version != VERSION:
        raise Drop('bad-version', f'{version}')
    if type > (TYPE_RESPONSE if flags & FLAG_SEALED else TYPE_PEERS):
        raise Drop('bad-type', f'{type} ({TYPES.get(type, "unassigned")})')
    allowed = FLAG_SEALED
    if type == TYPE_DATA:
        allowed |= FLAG_CSUM_PARTIAL | FLAG_RELAYED
        if flags & FLAG_CSUM_PARTIAL:
            allowed |= FLAG_SUPERFRAME
    if flags & ~allowed:
        raise Drop('bad-flags', f'{flags:#04x}')
    if flags & FLAG_SEALED:
        raise Drop('sealed', 'no key', type, netid)
    payload = datagram[HEADER_SIZE:]
    if type == TYPE_DATA:
        segment_size, longest = None, FRAME_MAX
        if flags & FLAG_SUPERFRAME:
            segment_size = int.from_bytes(payload[:2], 'big')
            payload, longest = payload[2:], SUPERFRAME_MAX
        if len(payload) < FRAME_MIN:
            raise Drop('frame-short', f'{len(payload)} bytes', type, netid)
        if len(payload) > longest:
            raise Drop('frame-long', f'{len(payload)} bytes', type, netid)
        return Data(netid, payload, bool(flags & FLAG_CSUM_PARTIAL),
                    segment_size, bool(flags & FLAG_RELAYED))
    if len(datagram) > CONTROL_MAX:
        raise Drop('bad-tlv', f'a message of {len(datagram)} bytes', type,
                   netid)
    try:
        if type in (TYPE_ECHO, TYPE_ECHO_REPLY):
            return _decode_echo(type, netid, payload)
        if type == TYPE_PEERS:
            return _decode_peers(netid, payload)
        known = _known_tlvs(payload)
    except ValueError as error:
        raise Drop('bad-tlv', str(error), type, netid) from None

    def number(tlv_type):
        return int.from_bytes(known.get(tlv_type, b''), 'big')

    if type == TYPE_BYE:
        return Bye(netid, number(TLV_INSTANCE))
    return Hello(netid, number(TLV_INSTANCE),
                 capabilities=number(TLV_CAPABILITIES),
                 mtu=number(TLV_MTU),
                 name=clean_name(known.get(TLV_NAME, b'')),
                 hold_time=number(TLV_HOLD_TIME),
                 group_heard=bool(number(TLV_GROUP_HEARD))
                 if TLV_GROUP_HEARD in known else None,
                 relay_for=[n for n, in struct.iter_unpack(
                     '>Q', known.get(TLV_RELAY_FOR, b''))])


def vector_bytes(vector):
    """The datagram of a test vector."""
    repeat = vector.get('repeat', {'byte': '', 'count': 0})
    return (bytes.fromhex(vector['hex']) +
            bytes.fromhex(repeat['byte']) * repeat['count'])


def load_vectors():
    """All test vectors, each with its datagram as 'bytes'."""
    vectors = json.loads(VECTORS.read_text(encoding='utf-8'))['vectors']
    for vector in vectors:
        vector['bytes'] = vector_bytes(vector)
    return vectors
