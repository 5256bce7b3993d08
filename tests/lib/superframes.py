# SPDX-License-Identifier: GPL-2.0-or-later
"""What SUPERFRAME and CSUM_PARTIAL stand for, from docs/protocol.md alone.

    packets(data) -> the frames of a qdeswire.Data for somebody who agreed to
                     neither, or raises Bad with the counter of the receiver

Like qdeswire.py, it shares no code with libqdes.
"""

import dataclasses
import struct

from packets import CWR, FIN, PSH, TCP, UDP, checksum, ones_sum

SYN, RST, URG = 0x02, 0x04, 0x20
HEADERS_MAX = 256       # bytes before the payload
PACKETS_MAX = 128
EXTENSIONS = (0, 43, 60)
ROUTING = 43


class Bad(Exception):
    """A flagged frame that a receiver drops.

    REASON is 'frame' if CSUM_PARTIAL alone would not help it.
    """

    def __init__(self, counter, text, reason='superframe'):
        super().__init__(f'{counter}: {text}')
        self.counter = counter
        self.reason = reason


@dataclasses.dataclass
class Place:
    """Where the parts of a frame begin, and where its IP packet ends."""
    v6: bool
    proto: int
    l3: int
    l4: int
    payload: int
    end: int

    @property
    def checksum(self):
        return self.l4 + (6 if self.proto == UDP else 16)


def _number(frame, at, size=2):
    if at + size > len(frame):
        raise ValueError(f'no {size} bytes at {at}')
    return int.from_bytes(frame[at:at + size], 'big')


def find(frame):
    """The Place of the frame's TCP or UDP; ValueError: none to be flagged."""
    l3 = 14
    while _number(frame, l3 - 2) in (0x8100, 0x88a8):
        l3 += 4
        if l3 > 14 + 2 * 4:
            raise ValueError('more than two VLAN tags')
    kind, version = _number(frame, l3 - 2), _number(frame, l3, 1) >> 4
    if (kind, version) == (0x0800, 4):
        l4 = l3 + (frame[l3] & 15) * 4
        end = l3 + _number(frame, l3 + 2)
        if l4 < l3 + 20 or _number(frame, l3 + 6) & 0x3fff:
            raise ValueError('a header that is too short, or a fragment')
        proto = _number(frame, l3 + 9, 1)
    elif (kind, version) == (0x86dd, 6):
        l4 = l3 + 40
        end = l4 + _number(frame, l3 + 4)
        proto = _number(frame, l3 + 6, 1)
        while proto in EXTENSIONS:
            if proto == ROUTING and _number(frame, l4 + 3, 1):
                raise ValueError('segments left')
            proto, l4 = (_number(frame, l4, 1),
                         l4 + (_number(frame, l4 + 1, 1) + 1) * 8)
    else:
        raise ValueError('no IP')
    if end > len(frame):
        raise ValueError('the IP packet is not whole')
    if proto == TCP:
        size = (_number(frame, l4 + 12, 1) >> 4) * 4
    elif proto == UDP:
        size = 8
        if _number(frame, l4 + 4) != end - l4:
            raise ValueError('not the length of the rest')
    else:
        raise ValueError('neither TCP nor UDP')
    payload = l4 + size
    if size < (20 if proto == TCP else 8) or payload > min(end, HEADERS_MAX):
        raise ValueError('no place for the header')
    return Place(kind == 0x86dd, proto, l3, l4, payload, end)


def _finish(frame, place):
    """FRAME with its checksum finished."""
    out = bytearray(frame)
    total = checksum(bytes(out[place.l4:place.end]))
    struct.pack_into('>H', out, place.checksum, total)
    return bytes(out)


def _cut(frame, place, offset, payload, number, last):
    """Packet NUMBER, whose payload is at OFFSET in that of the whole."""
    out = bytearray(frame[:place.payload] + payload)
    end = len(out)
    if place.v6:
        struct.pack_into('>H', out, place.l3 + 4, end - place.l3 - 40)
    else:
        struct.pack_into('>H', out, place.l3 + 2, end - place.l3)
        ident = _number(frame, place.l3 + 4) + number
        struct.pack_into('>H', out, place.l3 + 4, ident & 0xffff)
        out[place.l3 + 10:place.l3 + 12] = b'\0\0'
        struct.pack_into('>H', out, place.l3 + 10,
                         ~ones_sum(bytes(out[place.l3:place.l4])) & 0xffff)
    if place.proto == UDP:
        struct.pack_into('>H', out, place.l4 + 4, end - place.l4)
    else:
        sequence = _number(frame, place.l4 + 4, 4) + offset
        struct.pack_into('>I', out, place.l4 + 4, sequence & 0xffffffff)
        flags = out[place.l4 + 13]
        if not last:
            flags &= ~(FIN | PSH)
        if number:
            flags &= ~CWR
        if flags & URG:
            urgent = _number(frame, place.l4 + 18) - offset
            if urgent > 0 or not number:
                struct.pack_into('>H', out, place.l4 + 18, urgent)
            else:
                flags &= ~URG
        out[place.l4 + 13] = flags
    addresses = out[place.l3 + (8 if place.v6 else 12):][:32 if place.v6 else 8]
    pseudo = addresses + struct.pack('>II', end - place.l4, place.proto)
    struct.pack_into('>H', out, place.checksum, ones_sum(bytes(pseudo)))
    return _finish(out, dataclasses.replace(place, end=end))


def packets(data):
    """The frames that DATA stands for, each with all it needs."""
    if not data.csum_partial:
        return [data.frame]
    counter = ('rx-drop-csum' if data.segment_size is None else
               'rx-drop-superframe')
    try:
        place = find(data.frame)
    except ValueError as error:
        raise Bad(counter, str(error), 'frame') from None
    if data.segment_size is None:
        return [_finish(data.frame, place)]
    size, payload = data.segment_size, data.frame[place.payload:]
    if place.end != len(data.frame):
        raise Bad(counter, 'something follows the IP packet')
    if not size:
        raise Bad(counter, 'Segment size 0')
    offsets = list(range(0, len(payload), size)) or [0]
    if len(offsets) == 1:
        return [_finish(data.frame, place)]
    if len(offsets) > PACKETS_MAX:
        raise Bad(counter, f'{len(offsets)} packets')
    if place.proto == TCP and data.frame[place.l4 + 13] & (SYN | RST):
        raise Bad(counter, 'SYN or RST')
    return [_cut(data.frame, place, at, payload[at:at + size], number,
                 at == offsets[-1])
            for number, at in enumerate(offsets)]
