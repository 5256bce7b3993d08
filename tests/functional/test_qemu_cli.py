# SPDX-License-Identifier: GPL-2.0-or-later
"""-netdev qdes on QEMU's command line: what is said there, and what is not."""

import os

import pytest
from guests import QDES_QEMU

LOCAL = 'localaddr=127.0.0.1'
QUIT = '{"execute": "qmp_capabilities"} {"execute": "quit"}'


@pytest.fixture(name='said')
def fixture_said(net):
    """said(OPTIONS): start QEMU, end it; returns what it wrote to stderr."""
    if not os.access(QDES_QEMU, os.X_OK):
        pytest.skip(f'{QDES_QEMU} is not built (or set QDES_QEMU)')
    host = net.namespace('host')

    def run(*options, status=0):
        done = host.run(
            [QDES_QEMU, '-machine', 'pc', '-accel', 'tcg', '-nodefaults', '-S',
             '-display', 'none', '-qmp', 'stdio', *options],
            stdin=QUIT, check=False)
        assert done.returncode == status, done.stdout
        # AddressSanitizer has its own to say of QEMU's coroutines.
        return [line for line in done.stdout.splitlines()
                if line.strip() and not line.startswith('{"')
                and "WARNING: ASan doesn't fully support" not in line]
    return run


@pytest.mark.parametrize('options', [
    ['-netdev', f'qdes,id=n,{LOCAL}', '-device', 'e1000,netdev=n'],
    ['-nic', f'qdes,{LOCAL},model=virtio-net-pci'],
    ['-net', 'nic', '-net', f'qdes,{LOCAL}'],
    ['-netdev', f'qdes,id=n,{LOCAL}', '-netdev',
     'hubport,id=h0,hubid=0,netdev=n', '-netdev', 'hubport,id=h1,hubid=0',
     '-device', 'e1000,netdev=h1'],
], ids=['netdev', 'nic', 'net', 'hubport'])
def test_nothing_to_say(said, options):
    assert said(*options) == []


@pytest.mark.parametrize('option', ['-netdev', '-nic', '-net'])
def test_one_line_for_a_bad_value(said, option):
    name = '' if option == '-nic' else 'id=n,'
    text = f'qdes,{name}ttl=256'
    lines = said(option, text, status=1)
    assert len(lines) == 1
    assert lines[0].endswith(f': {option} {text}: ttl=256: must be 1 to 255 '
                             'hops')


def test_one_line_for_a_buffer_not_granted(said):
    lines = said('-netdev', f'qdes,id=n,{LOCAL},rcvbuf=1G', '-device',
                 'e1000,netdev=n')
    assert len(lines) == 1
    assert 'warning: netdev n: rcvbuf=1073741824: the system' in lines[0]
