# SPDX-License-Identifier: GPL-2.0-or-later
"""Sealed datagrams, written from docs/protocol.md alone.

The tests' other half, as qdeswire.py is for what is not sealed.  Its ciphers
are OpenSSL's, by way of python3-cryptography, where libqdes has GnuTLS: a
mistake in one shows as a difference.

    key = Key(secret, netid)
    sealed = key.seal(plain, session, number, flooded=False)
    plain = key.open(sealed)             raises BadSeal

PLAIN is the datagram as it would be without SEALED, with the true network ID.
"""

import dataclasses
import json
import struct
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import (AESGCM,
                                                         ChaCha20Poly1305)
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

SALT = b'QDES sealed fabric, version 1'
SECRET_MIN, SECRET_MAX = 16, 4096
FLAG_SEALED = 0x02
HEADER_SIZE = 8
HEAD_SIZE = 24          # header, session, packet number
TAG_SIZE = 16
OVERHEAD = 32
SEALED_MIN = HEAD_SIZE + TAG_SIZE
FLOODED = 1 << 63       # of a packet number
VECTORS = Path(__file__).resolve().parents[2] / 'docs/protocol/sealed.json'


class BadSeal(Exception):
    """What a receiver drops as rx-drop-seal."""


def expand(key, info, size):
    """HKDF-Expand (RFC 5869) with SHA-256."""
    return HKDFExpand(hashes.SHA256(), size, info).derive(key)


@dataclasses.dataclass
class Head:
    """What stands before the ciphertext, readable for everyone."""
    type: int
    flags: int
    pseudonym: int
    session: int
    flooded: bool
    number: int


def read_head(sealed):
    if len(sealed) < SEALED_MIN:
        raise BadSeal(f'{len(sealed)} bytes')
    magic, version_type, flags, pseudonym, session, number = \
        struct.unpack_from('>HBBIQQ', sealed)
    if magic != 0x5144 or version_type >> 4 != 1 or not flags & FLAG_SEALED:
        raise BadSeal('not sealed')
    return Head(version_type & 0xf, flags, pseudonym, session,
                bool(number & FLOODED), number & ~FLOODED)


class Key:
    """What comes of a secret, for one network."""

    def __init__(self, secret, netid):
        if not SECRET_MIN <= len(secret) <= SECRET_MAX:
            raise ValueError(f'a secret of {len(secret)} bytes')
        extract = hmac.HMAC(SALT, hashes.SHA256())
        extract.update(secret)
        self.netid = netid
        self.prk = extract.finalize()
        self.network = expand(self.prk,
                              b'qdes network' + struct.pack('>I', netid), 32)
        self.pseudonym = int.from_bytes(
            expand(self.network, b'qdes pseudonym', 4), 'big')
        self.id = int.from_bytes(expand(self.network, b'qdes key id', 4),
                                 'big')

    def session(self, session):
        """The key and the IV of a session."""
        both = expand(self.network,
                      b'qdes session' + struct.pack('>Q', session), 44)
        return both[:32], both[32:]

    def _cipher(self, session, number):
        key, iv = self.session(session)
        nonce = bytes(a ^ b for a, b in
                      zip(iv, bytes(4) + struct.pack('>Q', number)))
        return (ChaCha20Poly1305 if session & 1 else AESGCM)(key), nonce

    def seal(self, plain, session, number, flooded=False):
        magic, version_type, flags, netid = struct.unpack_from('>HBBI', plain)
        assert netid == self.netid and not flags & FLAG_SEALED
        number |= FLOODED if flooded else 0
        head = struct.pack('>HBBIQQ', magic, version_type,
                           flags | FLAG_SEALED, self.pseudonym, session,
                           number)
        cipher, nonce = self._cipher(session, number)
        return head + cipher.encrypt(nonce, plain[HEADER_SIZE:], head)

    def open(self, sealed):
        head = read_head(sealed)
        if head.pseudonym != self.pseudonym:
            raise BadSeal(f'pseudonym {head.pseudonym:08x}')
        number = head.number | (FLOODED if head.flooded else 0)
        cipher, nonce = self._cipher(head.session, number)
        try:
            payload = cipher.decrypt(nonce, sealed[HEAD_SIZE:],
                                     sealed[:HEAD_SIZE])
        except InvalidTag:
            raise BadSeal('the tag is wrong') from None
        return (sealed[:3] + bytes([head.flags & ~FLAG_SEALED]) +
                struct.pack('>I', self.netid) + payload)


def load_vectors():
    """The keys and the datagrams of docs/protocol/sealed.json."""
    found = json.loads(VECTORS.read_text(encoding='utf-8'))
    return found['keys'], found['datagrams']
