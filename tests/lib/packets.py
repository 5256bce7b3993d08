# SPDX-License-Identifier: GPL-2.0-or-later
"""Random TCP, UDP and other frames, superframes, and their virtio_net_hdr.

Shares no code with the library.  A seed makes the same frames each time:
QDES_SEED in the environment repeats what a failed test printed.
"""

import os
import random
import struct
from dataclasses import dataclass, field

from frames import mac_bytes

GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP, GSO_ECN = 0, 1, 4, 5, 0x80
NEEDS_CSUM = 1
TCP, UDP = 6, 17
FIN, PSH, ACK, ECE, CWR = 0x01, 0x08, 0x10, 0x40, 0x80
DF = 0x4000


def seeded():
    """A source of randomness; what it began with is printed."""
    seed = int(os.environ.get('QDES_SEED') or random.randrange(1 << 32))
    print(f'repeat with QDES_SEED={seed}')
    rnd = random.Random(seed)
    rnd.number = seed
    return rnd


def ones_sum(data):
    """RFC 1071: folded, not inverted."""
    if len(data) % 2:
        data += b'\0'
    value = int.from_bytes(data, 'big')
    return value % 0xffff or (0xffff if value else 0)


def checksum(data):
    """As a field of UDP, where 0 stands for none at all, or of TCP."""
    return ~ones_sum(data) & 0xffff or 0xffff


@dataclass
class Vnet:
    """A virtio_net_hdr of 10 bytes, little-endian."""

    flags: int = 0
    gso: int = GSO_NONE
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0

    def __bytes__(self):
        return struct.pack('<BBHHHH', self.flags, self.gso, self.hdr_len,
                           self.gso_size, self.csum_start, self.csum_offset)


@dataclass
class Packet:
    """A TCP or UDP packet in a frame; or a superframe, or a part of one."""

    dst: str = '02:51:00:00:00:02'
    src: str = '02:51:00:00:00:01'
    tags: list = field(default_factory=list)    # (EtherType, TCI)
    v6: bool = False
    hosts: bytes = b'\1\2'                      # last bytes of the addresses
    tos: int = 0
    label: int = 0
    ttl: int = 64
    id: int = 0
    frag: int = DF
    ip_options: bytes = b''
    extensions: list = field(default_factory=list)  # (type, data from byte 2)
    proto: int = TCP
    ports: tuple = (1000, 2000)
    seq: int = 0
    ack: int = 0
    flags: int = ACK
    reserved: int = 0
    window: int = 500
    options: bytes = b''
    payload: bytes = b''

    @property
    def l3(self):
        return 14 + 4 * len(self.tags)

    @property
    def l4(self):
        if self.v6:
            return self.l3 + 40 + sum(2 + len(e[1]) for e in self.extensions)
        return self.l3 + 20 + len(self.ip_options)

    @property
    def headers(self):
        """Bytes before the payload."""
        return self.l4 + (8 if self.proto == UDP else 20 + len(self.options))

    @property
    def gso(self):
        return (GSO_UDP if self.proto == UDP else
                GSO_TCP6 if self.v6 else GSO_TCP4)

    def vnet(self, gso_size=0, needs_csum=True):
        vnet = Vnet()
        if needs_csum:
            vnet = Vnet(flags=NEEDS_CSUM, hdr_len=self.headers,
                        csum_start=self.l4,
                        csum_offset=6 if self.proto == UDP else 16)
        if gso_size:
            vnet.gso = self.gso
            if self.proto == TCP and self.flags & CWR:
                vnet.gso |= GSO_ECN
            vnet.gso_size = gso_size
            vnet.hdr_len = self.headers
        return vnet

    def encode(self, partial=False):
        """The frame; @partial: only the pseudo-header is summed up."""
        eth = mac_bytes(self.dst) + mac_bytes(self.src)
        for ethertype, tci in self.tags:
            eth += struct.pack('>HH', ethertype, tci)
        l4_size = self.headers - self.l4 + len(self.payload)
        if self.v6:
            source, target = [b'\xfd' + bytes(14) + bytes([h])
                              for h in self.hosts]
            kinds = [e[0] for e in self.extensions] + [self.proto]
            ip = struct.pack('>IHBB', 6 << 28 | self.tos << 20 | self.label,
                             self.headers - self.l3 - 40 + len(self.payload),
                             kinds[0], self.ttl) + source + target
            for following, (_, data) in zip(kinds[1:], self.extensions):
                ip += bytes([following, (2 + len(data)) // 8 - 1]) + data
            eth += b'\x86\xdd'
        else:
            source, target = [bytes([10, 0, 0, h]) for h in self.hosts]
            size = 20 + len(self.ip_options)
            ip = struct.pack('>BBHHHBBH', 0x40 | size // 4, self.tos,
                             size + l4_size, self.id, self.frag, self.ttl,
                             self.proto, 0) + source + target
            ip += self.ip_options
            ip = (ip[:10] + struct.pack('>H', ~ones_sum(ip) & 0xffff) +
                  ip[12:])
            eth += b'\x08\0'
        pseudo = source + target + struct.pack('>II', l4_size, self.proto)
        ports = struct.pack('>HH', *self.ports)
        if self.proto == UDP:
            before, after = ports + struct.pack('>H', l4_size), b''
        else:
            before = ports + struct.pack(
                '>IIBBH', self.seq & 0xffffffff, self.ack,
                (20 + len(self.options)) << 2 | self.reserved, self.flags,
                self.window)
            after = b'\0\0' + self.options
        if partial:
            total = ones_sum(pseudo)
        else:
            total = checksum(pseudo + before + b'\0\0' + after + self.payload)
        return (eth + ip + before + struct.pack('>H', total) + after +
                self.payload)


def _ip_options(rnd):
    """Router alerts, a timestamp, and padding: in all of what is cut."""
    options = rnd.choice([b'', b'', b'\x94\x04\0\0', b'\x01' * 8,
                          b'\x44\x0c\x05\x01' + rnd.randbytes(8),
                          b'\x94\x04\0\0' * 10])
    return options


def _extensions(rnd):
    """Hop-by-hop, destination options, and a route that is at its end."""
    found = []
    if rnd.random() < 0.4:
        for kind in rnd.sample([0, 60, 43], rnd.randrange(1, 3)):
            if kind == 43:
                found.append((43, b'\x02\0' + bytes(4) + bytes(15) + b'\2'))
            else:
                found.append((kind, rnd.choice([b'\x01\x04' + bytes(4),
                                                b'\x01\x0c' + bytes(12)])))
        found.sort(key=lambda e: e[0] != 0)     # hop-by-hop comes first
    return found


def _tcp_options(rnd):
    return rnd.choice([b'', b'\x01\x01\x08\x0a' + rnd.randbytes(8),
                       b'\x01\x01\x05\x0a' + rnd.randbytes(8),
                       b'\x01\x01\x08\x0a' + rnd.randbytes(8) +
                       b'\x01\x01\x05\x12' + rnd.randbytes(16),
                       b'\x01' * 4, b'\x01' * 40])


def random_packet(rnd):
    """Without payload."""
    p = Packet(v6=rnd.random() < 0.5, proto=rnd.choice([TCP, TCP, UDP]),
               hosts=rnd.randbytes(2), tos=rnd.choice([0, 2, 3, 0xb8]),
               ttl=rnd.randrange(1, 256),
               id=rnd.choice([0, 0xfffe, rnd.randrange(1 << 16)]),
               frag=rnd.choice([0, DF]),
               ports=(rnd.randrange(1, 1 << 16), rnd.randrange(1, 1 << 16)),
               seq=rnd.choice([0xffffff00, rnd.randrange(1 << 32)]),
               ack=rnd.randrange(1 << 32), window=rnd.randrange(1 << 16),
               flags=ACK | rnd.choice([0, PSH, FIN, PSH | FIN]) |
               rnd.choice([0, 0, ECE, CWR, ECE | CWR]),
               label=rnd.randrange(1 << 20), reserved=rnd.choice([0, 0, 1]))
    if rnd.random() < 0.3:
        p.tags = [(rnd.choice([0x8100, 0x88a8]), rnd.randrange(1, 4095))
                  for _ in range(rnd.randint(1, 2))]
    if p.v6:
        p.extensions = _extensions(rnd)
    else:
        p.ip_options = _ip_options(rnd)
    if p.proto == TCP:
        p.options = _tcp_options(rnd)
    return p


def random_superframe(rnd, largest=65535, frames=128, uso=True):
    """(packet, gso_size), such as one of at most so many frames.

    Linux takes no more of UDP (UDP_MAX_SEGMENTS).
    """
    p = random_packet(rnd)
    if not uso:
        p.proto = TCP
    room = largest - (p.headers - p.l3)
    size = rnd.choice([rnd.randint(2, 200), rnd.randint(2, 9000),
                       rnd.randint(2, room), room])
    gso_size = rnd.choice([1, 8, 18, 536, 1000, 1200, 1400, 1440, 1448, 1460,
                           1472, 8948, rnd.randint(1, 1500),
                           rnd.randint(1, 9000)])
    gso_size = max(gso_size, (size - 1) // frames + 1)
    if rnd.random() < 0.3:
        size = min(room, max(1, round(size / gso_size)) * gso_size)
    p.payload = rnd.randbytes(size)
    return p, gso_size


def flow_of(frame):
    """What tells the frame's flow: all frames of one keep their order.

    None where it cannot be told; fragments belong to no flow, either.
    """
    l3 = 14
    while frame[l3 - 2:l3] in (b'\x81\0', b'\x88\xa8'):
        l3 += 4
    kind = frame[l3 - 2:l3]
    if kind == b'\x08\0' and frame[l3] >> 4 == 4:
        l4 = l3 + (frame[l3] & 15) * 4
        if int.from_bytes(frame[l3 + 6:l3 + 8], 'big') & 0x3fff:
            return None
        return frame[l3 + 9], frame[l3 + 12:l3 + 20], frame[l4:l4 + 4]
    if kind == b'\x86\xdd' and frame[l3 + 6] in (TCP, UDP):
        return (frame[l3 + 6], frame[l3 + 8:l3 + 40],
                frame[l3 + 40:l3 + 44])
    return None


def meaning(frame):
    """The frame without what has no meaning to its receiver.

    An IPv4 identification says nothing in a packet with DF (RFC 6864), and
    the header's checksum, if it is right, follows from the rest.  A TCP
    checksum of 0 and one of 0xffff are the same number.
    """
    l3 = 14
    while frame[l3 - 2:l3] in (b'\x81\0', b'\x88\xa8'):
        l3 += 4
    out = bytearray(frame)
    proto, l4 = None, l3 + 40
    if frame[l3 - 2:l3] == b'\x08\0' and frame[l3] >> 4 == 4:
        proto, l4 = frame[l3 + 9], l3 + (frame[l3] & 15) * 4
        if (int.from_bytes(frame[l3 + 6:l3 + 8], 'big') & 0x7fff == DF and
                ones_sum(frame[l3:l4]) == 0xffff):
            out[l3 + 4:l3 + 6] = b'\0\0'
            out[l3 + 10:l3 + 12] = b'\0\0'
    elif frame[l3 - 2:l3] == b'\x86\xdd':
        proto = frame[l3 + 6]
        for _ in range(8):
            if proto in (0, 43, 60):
                proto, l4 = frame[l4], l4 + (frame[l4 + 1] + 1) * 8
    if proto == TCP and out[l4 + 16:l4 + 18] == b'\xff\xff':
        out[l4 + 16:l4 + 18] = b'\0\0'
    return bytes(out)
