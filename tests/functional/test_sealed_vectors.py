# SPDX-License-Identifier: GPL-2.0-or-later
"""Sealed datagrams: docs/protocol/sealed.json and tests/lib/qdesseal.py agree.

libqdes itself is checked against the file by tests/unit/test-seal-vectors.c.
"""

import hashlib
import hmac

import pytest

import qdesseal
from qdesseal import BadSeal, Key

KEYS, DATAGRAMS = qdesseal.load_vectors()
BY_NAME = {k['name']: Key(bytes.fromhex(k['secret']), k['netid'])
           for k in KEYS}
SOUND = [d for d in DATAGRAMS if d['result'] == 'ok']


def named(found):
    return pytest.mark.parametrize('vector', found,
                                   ids=[v['name'] for v in found])


def hkdf(secret, info, size):
    """RFC 5869 by the standard library: a third opinion."""
    out = block = b''
    for i in range(1, 256):
        block = hmac.digest(secret, block + info + bytes([i]), hashlib.sha256)
        out += block
        if len(out) >= size:
            return out[:size]
    raise ValueError(size)


@named(KEYS)
def test_keys(vector):
    netid = vector['netid'].to_bytes(4, 'big')
    prk = hmac.digest(qdesseal.SALT, bytes.fromhex(vector['secret']),
                      hashlib.sha256)
    network = hkdf(prk, b'qdes network' + netid, 32)
    key = BY_NAME[vector['name']]
    assert prk.hex() == vector['prk'] == key.prk.hex()
    assert network.hex() == vector['network-key'] == key.network.hex()
    assert hkdf(network, b'qdes pseudonym', 4).hex() == vector['pseudonym']
    assert hkdf(network, b'qdes key id', 4).hex() == vector['key-id']
    assert f'{key.pseudonym:08x}' == vector['pseudonym']
    assert f'{key.id:08x}' == vector['key-id']
    for session in vector['sessions']:
        both = hkdf(network,
                    b'qdes session' + bytes.fromhex(session['session']), 44)
        number = int(session['session'], 16)
        assert both == b''.join(key.session(number))
        assert both[:32].hex() == session['key']
        assert both[32:].hex() == session['iv']
        assert session['cipher'] == ('chacha20-poly1305' if number & 1 else
                                     'aes-256-gcm')


@named(DATAGRAMS)
def test_open(vector):
    sealed = bytes.fromhex(vector['sealed'])
    key = BY_NAME[vector['key']]
    if vector['result'] == 'ok':
        assert key.open(sealed).hex() == vector['plain']
        head = qdesseal.read_head(sealed)
        assert f'{head.session:016x}' == vector['session']
        assert head.number == vector['number']
        assert head.flooded == vector['flooded']
    else:
        assert vector['result'] == 'bad-seal'
        with pytest.raises(BadSeal):
            key.open(sealed)


@named(SOUND)
def test_seal(vector):
    sealed = BY_NAME[vector['key']].seal(
        bytes.fromhex(vector['plain']), int(vector['session'], 16),
        vector['number'], vector['flooded'])
    assert sealed.hex() == vector['sealed']
    assert len(sealed) == len(vector['plain']) // 2 + qdesseal.OVERHEAD


def test_every_byte_counts():
    """Nothing of a datagram can be changed without anybody noticing."""
    vector = next(d for d in DATAGRAMS if d['name'] == 'data-aes')
    sealed = bytes.fromhex(vector['sealed'])
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 0x10
        with pytest.raises(BadSeal):
            BY_NAME[vector['key']].open(bytes(changed))


def test_another_network_opens_nothing():
    """Nor does the same secret, where the network ID is another one."""
    for vector in SOUND:
        for name, key in BY_NAME.items():
            if name != vector['key']:
                with pytest.raises(BadSeal):
                    key.open(bytes.fromhex(vector['sealed']))


def test_nothing_in_the_clear():
    """Neither the network ID nor a MAC address is on the wire."""
    for vector in SOUND:
        sealed = bytes.fromhex(vector['sealed'])
        plain = bytes.fromhex(vector['plain'])
        assert sealed[4:8] != plain[4:8]
        for at in range(8, len(plain) - 5):
            if any(plain[at:at + 6]):
                assert plain[at:at + 6] not in sealed
