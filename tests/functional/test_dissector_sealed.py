# SPDX-License-Identifier: GPL-2.0-or-later
"""The Wireshark dissector opens what is sealed, given the secret."""

import os
from pathlib import Path

import pytest

import dissect
import qdesseal
from qdesseal import Key
from test_dissector import GUIDE, packet_v4, write_pcap

KEYS, DATAGRAMS = qdesseal.load_vectors()
SOUND = [d for d in DATAGRAMS if d['result'] == 'ok']


def has_luaossl():
    return any(Path(f'/usr/lib/{folder}/lua').exists() and
               any(Path(f'/usr/lib/{folder}/lua').rglob('_openssl.so'))
               for folder in os.listdir('/usr/lib'))


pytestmark = pytest.mark.skipif(
    bool(dissect.why_not()) or not has_luaossl(),
    reason=str(dissect.why_not() or 'needs the package lua-luaossl'))


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    """A folder that tshark, as nobody, can read: captures and secrets."""
    folder = tmp_path_factory.mktemp('sealed')
    for path in [folder, *folder.parents]:
        if path.stat().st_uid == os.getuid() and path != Path('/'):
            path.chmod(path.stat().st_mode | 0o055)
        if path.name.startswith('pytest-of'):
            break
    for key in KEYS:
        path = folder / f'{key["name"]}.key'
        path.write_bytes(bytes.fromhex(key['secret']) + b'\n')
        path.chmod(0o644)
    for name, member in ('sealed', 'sealed'), ('plain', 'plain'):
        write_pcap(folder / f'{name}.pcap',
                   [packet_v4(bytes.fromhex(d[member])) for d in SOUND])
    return folder


def preferences(lab, *names, netids='0,7,40-42,4294967295'):
    files = ','.join(str(lab / f'{name}.key') for name in names)
    return ['-o', f'qdes.secret_files:{files}',
            '-o', f'qdes.secret_netids:{netids}']


ALL = [k['name'] for k in KEYS]
OUTER = ('qdes.magic', 'qdes.version', 'qdes.type', 'qdes.flags', 'qdes.netid')


def test_opened_like_plain(lab):
    """What is inside shows just as if it had never been sealed."""
    opened = dissect.dissect(lab / 'sealed.pcap',
                             options=preferences(lab, *ALL))
    plain = dissect.dissect(lab / 'plain.pcap')
    assert len(opened) == len(plain) == len(SOUND)
    for vector, a, b in zip(SOUND, opened, plain):
        if vector['name'] in ('challenge', 'response'):
            continue            # sealed only
        key = next(k for k in KEYS if k['name'] == vector['key'])
        assert a['info'] == b['info'] + ' [Sealed]', vector['name']
        assert a['protocols'] == b['protocols']
        assert a['qdes.opened.netid'] == [str(key['netid'])]
        for name, values in b.items():
            if name.startswith('qdes.') and not name.startswith(OUTER):
                assert a[name] == values, (vector['name'], name)


def test_sealed_only(lab):
    """What is of no use in a fabric without a secret."""
    packets = dict(zip((d['name'] for d in SOUND), dissect.dissect(
        lab / 'sealed.pcap', options=preferences(lab, *ALL))))
    challenge, response = packets['challenge'], packets['response']
    assert challenge['info'] == (
        'CHALLENGE netid=42 nonce=8877665544332211 '
        'session=7766554433221100 age=1000 ms [Sealed]')
    assert int(challenge['qdes.asked_session'][0], 0) == 0x7766554433221100
    assert challenge['qdes.age'] == ['1000']
    assert response['info'] == (
        'RESPONSE netid=42 nonce=8877665544332211 numbers=80, 1 [Sealed]')
    assert response['qdes.numbers.unicast'] == ['80']
    assert response['qdes.numbers.flooded'] == ['1']
    key = next(k for k in KEYS if k['name'] == 'netid-42')
    assert [int(i, 16) for i in packets['hello-keys']['qdes.key_id']] == \
        [int(key['key-id'], 16), 0xdeadbeef]


def test_head_is_for_everyone(lab):
    for vector, packet in zip(SOUND, dissect.dissect(lab / 'sealed.pcap')):
        key = next(k for k in KEYS if k['name'] == vector['key'])
        assert int(packet['qdes.netid'][0]) == int(key['pseudonym'], 16)
        assert int(packet['qdes.session'][0], 0) == int(vector['session'], 16)
        assert int(packet['qdes.packet_number'][0]) == vector['number']
        assert (packet['qdes.flooded'][0] in ('1', 'True')) == \
            vector['flooded']
        assert 'qdes.opened.netid' not in packet
        assert '[Sealed]' not in packet['info']


@pytest.mark.parametrize('names, netids', [
    (['binary'], '42'),         # the wrong secret
    (['netid-42'], '41,43'),    # the wrong network
])
def test_wrong_key(lab, names, netids):
    packets = dissect.dissect(lab / 'sealed.pcap', fields=['_ws.expert.message'],
                              options=preferences(lab, *names, netids=netids))
    for packet in packets:
        assert 'qdes.opened.netid' not in packet
        assert any('none of the secrets' in text
                   for text in packet['_ws.expert.message'])


@pytest.mark.parametrize('netids, text', [
    ('forty', '"forty" is no network ID'),
    ('9-7', '"9-7" is no network ID'),
    ('4294967296', '"4294967296" is no network ID'),
    ('0-65536', 'more than 65536 network IDs'),
])
def test_wrong_preference(lab, netids, text):
    packets = dissect.dissect(
        lab / 'sealed.pcap', fields=['_ws.expert.message'],
        options=preferences(lab, 'netid-42', netids=netids))
    assert any(text in said for said in packets[0]['_ws.expert.message'])


def test_no_such_file(lab):
    packets = dissect.dissect(lab / 'sealed.pcap',
                              fields=['_ws.expert.message'],
                              options=preferences(lab, 'nowhere'))
    assert any('nowhere.key' in said
               for said in packets[0]['_ws.expert.message'])


def test_cut_capture(lab, tmp_path):
    """What the capture holds only a part of stays sealed."""
    vector = next(d for d in SOUND if d['name'] == 'data-full')
    packet = packet_v4(bytes.fromhex(vector['sealed']))
    cut = write_pcap(tmp_path / 'cut.pcap', [packet, packet],
                     keep=[100, len(packet)])
    packets = dissect.dissect(cut, options=preferences(lab, *ALL))
    assert 'qdes.opened.netid' not in packets[0]
    assert packets[1]['qdes.opened.netid'] == ['42']


def test_guide_tells_the_preferences():
    for name in ('qdes.secret_files', 'qdes.secret_netids', 'lua-luaossl'):
        assert name in GUIDE


def test_another_key_is_another_pseudonym():
    """The dissector tells keys by it, as receivers do."""
    found = {Key(bytes.fromhex(k['secret']), k['netid']).pseudonym
             for k in KEYS}
    assert len(found) == len(KEYS)
