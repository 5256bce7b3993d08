# SPDX-License-Identifier: GPL-2.0-or-later
"""valgrind's memcheck has nothing to say, nor is memory lost.

Unlike AddressSanitizer it sees what was never written before it is read.
"""

import os
import random
import socket
import subprocess

import pytest
import taptool
from frames import mac
from ports import QDES_TAP, ROOT
from procs import wait_for
from traffic import tcp_transfer

MEMCHECK = ['valgrind', '-q', '--error-exitcode=99', '--leak-check=full',
            '--errors-for-leak-kinds=definite,indirect',
            '--show-leak-kinds=definite,indirect',
            f'--suppressions={ROOT}/tests/lib/valgrind.supp']
UNIT = os.path.join(os.path.dirname(QDES_TAP), '../../tests/unit')
# Among them they go through all of what a port does; about 15 s.
UNIT_TESTS = ['clock', 'config', 'fabric', 'gossip', 'secure-port',
              'seal-vectors', 'tap-loop', 'tap-options', 'tap-request', 'vnet']


@pytest.fixture(autouse=True)
def plain_build():
    libraries = subprocess.run(['ldd', QDES_TAP], stdout=subprocess.PIPE,
                               text=True, check=True).stdout
    if 'libasan' in libraries or 'libtsan' in libraries:
        pytest.skip('built with a sanitizer, which valgrind cannot run')


@pytest.mark.parametrize('name', UNIT_TESTS)
def test_unit(name):
    vectors = ROOT / 'docs/protocol'
    done = subprocess.run(
        [*MEMCHECK, f'{UNIT}/test-{name}'], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=100, errors='replace', check=False,
        env={**os.environ, 'CK_FORK': 'no', 'CK_DEFAULT_TIMEOUT': '600',
             'QDES_VECTORS': str(vectors / 'vectors.json'),
             'QDES_SEALED_VECTORS': str(vectors / 'sealed.json')})
    assert done.returncode == 0, done.stdout
    assert 'not ok' not in done.stdout, done.stdout


@pytest.mark.parametrize('sealed', [False, True], ids=['plain', 'sealed'])
def test_session(net, tap, tmp_path, sealed):
    """A port from its start to its end, with all that it can do."""
    options, args = {}, []
    if sealed:
        secret = tmp_path / 'secret'
        secret.write_text('a secret that nobody guesses')
        secret.chmod(0o600)
        options['secret_file'] = secret
        args = ['--secret-file', secret]
    here, there = net.hosts(2)
    other = tap(there, **options)
    other.configure('10.81.0.2/24')
    control = f'{net.run_dir}/control'
    process = here.start(
        [*MEMCHECK, QDES_TAP, '--tap', 'tap0', '--control', control, '--pcap',
         tmp_path / 'pcap', '--sandbox', 'off', '--peer', there.address, '--mac',
         mac(77), *args], 'valgrind')
    process.wait_log('is ready', 60)
    here.ip(f'link set tap0 address {mac(77)}', 'addr add 10.81.0.1/24 dev tap0')
    other.wait_peers(1, 20)
    for size in 0, 1400, 1473, 8000:
        here.assert_ping('10.81.0.2', size=size)
    tcp_transfer(here, there, '10.81.0.2', 1 << 20)
    tcp_transfer(there, here, '10.81.0.1', 1 << 20)
    # What nobody should send.
    rnd = random.Random(81)
    with taptool.Client(control) as client:
        status = client.ask()['return']
        address, _, port = status['local'].rpartition(':')
        noise = there.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for size in range(0, 1400, 7):
            noise.sendto(b'QD' + rnd.randbytes(size), (address, int(port)))
            noise.sendto(b'QD\x10' + rnd.randbytes(size), (address, int(port)))
        wait_for(lambda: client.ask()['return']['counters']['rx-datagrams'] >=
                 status['counters']['rx-datagrams'] + 400, 20, 'the noise')
        assert 'error' in client.ask('no-such-thing')
        client.send(b'{"execute": \n')
        assert 'error' in client.receive()
    assert 'frames' in taptool.status(control)
    here.ip('link set tap0 down')
    process.wait_log('is down', 20)
    here.ip('link set tap0 up')
    process.wait_log('is up', 20)
    here.assert_ping('10.81.0.2')
    other.logs.allow('speaks version')
    assert process.stop(deadline=30) == 0, process.log
    assert '==' not in process.log, process.log
