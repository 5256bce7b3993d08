# SPDX-License-Identifier: GPL-2.0-or-later
"""Sealed fabrics of qdes-tap: the files, the wire, and a change of secrets."""

import os

import pytest
from procs import wait_for
from taptool import refused, run, start
from traffic import tcp_transfer

SECRETS = ['the first of two secrets\n', 'the other of two secrets']


@pytest.fixture
def secrets(tmp_path):
    paths = []
    for i, secret in enumerate(SECRETS):
        path = tmp_path / f'secret{i}'
        path.write_text(secret)
        path.chmod(0o600)
        paths.append(path)
    return paths


@pytest.fixture
def host(net):
    return net.hosts(1)[0]


def sealed_ports(net, tap, secrets, count, **options):
    ports = [tap(host, secret_file=secrets[0], netid=42, **options)
             for host in net.hosts(count)]
    for i, port in enumerate(ports, 1):
        port.configure(f'10.81.0.{i}/24')
    for port in ports:
        port.wait_peers(count - 1)
    return ports


@pytest.mark.parametrize('options', [
    {}, {'cipher': 'chacha20-poly1305'}, {'superframes': 'off'},
    {'gso': 'off'}, {'vnet_hdr': 'off'}],
    ids=['default', 'chacha', 'no-superframes', 'no-gso', 'no-vnet-hdr'])
def test_traffic(net, tap, secrets, options):
    a, b = sealed_ports(net, tap, secrets, 2, **options)
    for size in 0, 56, 1400, 1473, 8000, 60000:
        a.host.assert_ping('10.81.0.2', size=size)
    tcp_transfer(a.host, b.host, '10.81.0.2')
    tcp_transfer(b.host, a.host, '10.81.0.1')
    seal = a.status()['seal']
    assert seal['sessions'] == 1
    assert seal['key'] == b.status()['seal']['key']
    assert 'old-key' not in seal
    if 'cipher' in options:
        assert seal['cipher'] == options['cipher']
    for port in a, b:
        assert port.count('rx-drop-seal') == 0
        assert port.count('rx-drop-plain') == 0


def test_nothing_is_readable(net, tap, secrets):
    """Neither what is inside, nor the network ID."""
    a, b = sealed_ports(net, tap, secrets, 2)
    capture = a.host.capture('eth0', 'udp')
    a.host.run(['ping', '-c', '20', '-i', '0.05', '-p', '5ea1ed5ea1ed',
                '10.81.0.2'])
    capture.stop()
    with open(capture.pcap, 'rb') as file:
        data = file.read()
    assert data.count(b'QD\x10\x02') >= 20      # DATA, sealed
    assert b'QD\x10\x00' not in data
    assert bytes.fromhex('5ea1ed5ea1ed') not in data
    assert (42).to_bytes(4, 'big') not in [
        data[i + 4:i + 8] for i in range(len(data)) if
        data[i:i + 2] == b'QD']
    assert b.mac.encode() not in data


def test_change_of_secrets(net, tap, secrets):
    """Nobody notices."""
    ports = sealed_ports(net, tap, secrets, 3)
    ping = ports[0].host.start(
        ['ping', '-i', '0.02', '-W', '2', '-c', '400', '-q', '10.81.0.2'],
        'ping')
    old = ports[0].status()['seal']['key']
    for rest in ['--secret-old-file', secrets[0]], []:
        for port in ports:
            done = run(port.host, 'set-secret', '--secret-file', secrets[1],
                       *rest, '--control', port.control)
            assert done.returncode == 0, done.stderr
            ports[2].host.assert_ping('10.81.0.1', count=5)
        wait_for(lambda: all(not port.status()['seal']['flooding-old']
                             for port in ports))
    assert ping.wait(30) == 0
    ping.wait_log(r'400 received', 5)
    for port in ports:
        seal = port.status()['seal']
        assert seal['key'] != old
        assert 'old-key' not in seal
        assert port.count('peers-expired') == 0


def test_apart(net, tap, secrets):
    """A port without the secret, or with another one, is not there."""
    hosts = net.hosts(3)
    a = tap(hosts[0], secret_file=secrets[0])
    b = tap(hosts[1], secret_file=secrets[1])
    c = tap(hosts[2])
    a.logs.expect('warning: .* does not seal what it sends')
    b.logs.expect('warning: .* does not seal what it sends')
    for i, port in enumerate((a, b, c), 1):
        port.configure(f'10.81.0.{i}/24')
    for port, address in (a, '10.81.0.2'), (b, '10.81.0.3'), (c, '10.81.0.1'):
        port.host.ping(address, count=2, deadline=1)
    wait_for(lambda: a.count('rx-drop-plain') and c.count('rx-drop-kernel'))
    assert [p.status()['peers'] for p in (a, b, c)] == [[], [], []]


def test_refused(host, tmp_path, secrets):
    short = tmp_path / 'short'
    short.write_text('not enough')
    short.chmod(0o600)
    line = refused(host, '--tap', 'tap0', '--secret-file', short)
    assert line == (f'--secret-file={short}: has 10 bytes, must have 16 to '
                    '4096; make one with head -c 32 /dev/urandom | base64')
    line = refused(host, '--tap', 'tap0', '--secret-file', tmp_path / 'none')
    assert 'No such file' in line
    long = tmp_path / 'long'
    long.write_text(5000 * 'x')
    long.chmod(0o600)
    line = refused(host, '--tap', 'tap0', '--secret-file', long)
    assert line.startswith(f'--secret-file={long}: has more than 4096 bytes')
    line = refused(host, '--tap', 'tap0', '--secret-old-file', secrets[0])
    assert line.startswith(f'--secret-old-file={secrets[0]}: there is no new ')
    same = ('--secret-file', secrets[0], '--secret-old-file', secrets[0])
    for args in ('--tap', 'tap0'), ('set-secret',):
        line = refused(host, *args, *same)
        assert line == (f'--secret-old-file={secrets[0]}: is the same as the '
                        'new secret; leave it out')
    line = refused(host, '--tap', 'tap0', '--encap', 'vxlan',
                   '--secret-file', secrets[0])
    assert line.startswith(f'--secret-file={secrets[0]}: VXLAN cannot be '
                           'sealed; ')
    line = refused(host, '--tap', 'tap0', '--cipher', 'aes-256-gcm')
    assert 'without a secret nothing is sealed' in line
    line = refused(host, '--tap', 'tap0', '--cipher', 'rot13',
                   '--secret-file', secrets[0])
    assert 'cipher=rot13' in line


def test_file_of_all(host, secrets):
    """It is said, not refused: the harm is done."""
    secrets[0].chmod(0o644)
    process = start(host, '--tap', 'tap0', '--secret-file', secrets[0])
    process.wait_log(r'others than its owner can get at it', 5)
    assert SECRETS[0].strip().encode() not in open(
        f'/proc/{process.pid}/cmdline', 'rb').read()
    assert os.path.exists(secrets[0])
