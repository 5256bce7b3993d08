# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of qdes-tap: help, manual, and every way to be wrong."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import taptool
from ports import QDES_TAP
from procs import wait_for

ROOT = Path(__file__).resolve().parents[2]
MAN = ROOT / 'docs/qdes-tap.1'
UNIT = ROOT / 'tools/qdes-tap/qdes-tap@.service'
QAPI = ROOT / 'qapi/qdes.json'


@pytest.fixture(autouse=True)
def _built():
    if not os.access(QDES_TAP, os.X_OK):
        pytest.skip(f'{QDES_TAP} is not built (or set QDES_TAP)')


@pytest.fixture
def host(net):
    return net.hosts(1)[0]


def tool(*args):
    return subprocess.run([QDES_TAP, *args], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=30, check=False)


SUBCOMMANDS = ['status', 'fdb-add', 'fdb-del', 'fdb-flush', 'peer-add',
               'peer-del', 'set-secret']


def section_of(text, name, head):
    """The part of TEXT behind HEAD of a sub-command, or before all of them."""
    if name is None:
        return text.partition(head.format(SUBCOMMANDS[0]))[0]
    text = text.partition(head.format(name))[2]
    return text.partition(head.partition('{')[0])[0]


def help_options(section=None):
    """The options that --help lists, of a sub-command or of the port."""
    text = section_of(tool('--help').stdout, section, '\nqdes-tap {}:\n')
    return set(re.findall(r'^  (--[a-z-]+)', text, re.MULTILINE))


def man_options(section=None):
    """The options that have a paragraph of their own in the man page."""
    text = MAN.read_text(encoding='utf-8').replace('\\-', '-')
    text = text.partition('\n.SH OPTIONS\n')[2].partition('\n.SH ')[0]
    text = section_of(text, section, '\n.SS qdes-tap {}\n')
    return set(re.findall(r'^\.TP\n\.[BIR]+ "?(--[a-z-]+)', text,
                          re.MULTILINE))


def test_help():
    for args in (['--help'], ['-h'], ['status', '--help'],
                 ['fdb-flush', '--help'], ['--help', '--tap']):
        done = tool(*args)
        if args[-1] == '--tap':
            assert done.returncode == 2
            continue
        assert done.returncode == 0
        assert done.stderr == ''
        assert 'Usage: qdes-tap --tap NAME' in done.stdout
        assert max(map(len, done.stdout.splitlines())) < 80


def test_version():
    done = tool('--version')
    assert done.returncode == 0
    version = re.search(r"project\('qdes', 'c',\s+version: '([^']+)'",
                        (ROOT / 'meson.build').read_text())[1]
    assert done.stdout == f'qdes-tap {version}\n'


def test_help_that_cannot_be_written():
    with open('/dev/full', 'w', encoding='ascii') as full:
        done = subprocess.run([QDES_TAP, '--help'], stdout=full, text=True,
                              stderr=subprocess.PIPE, timeout=30, check=False)
    assert done.returncode == 1
    assert 'No space left' in done.stderr


@pytest.mark.parametrize('section', [None, *SUBCOMMANDS])
def test_manual_has_every_option(section):
    options = help_options(section)
    assert len(options) > 10 if section is None else 1
    assert options - {'--help'} == man_options(section) - {'--help'}


def test_options_are_those_of_the_netdev():
    """What -netdev qdes has, qdes-tap has under the same name."""
    struct = QAPI.read_text().partition("'struct': 'NetdevQdesOptions'")[2]
    struct = struct.partition('} }')[0]
    netdev = {'--' + name for name in re.findall(r"'\*([a-z-]+)':", struct)}
    assert len(netdev) > 10
    # A list there, an option to be repeated here.
    netdev = netdev - {'--peers'} | {'--peer'}
    # Objects there, files here.
    netdev = {f'{name}-file' if name.startswith('--secret') else name
              for name in netdev}
    assert netdev <= help_options()


@pytest.mark.parametrize('command', [
    ['man', '--warnings', '--local-file', '--encoding=UTF-8'],
    ['mandoc', '-T', 'lint', '-W', 'style']])
def test_manual_renders(command):
    if not shutil.which(command[0]):
        pytest.skip(f'needs the program {command[0]}')
    done = subprocess.run([*command, MAN], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=30, check=False, text=True,
                          env={**os.environ, 'MANWIDTH': '80'})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ''
    if command[0] == 'mandoc':
        assert done.stdout == ''
    else:
        assert 'QDES-TAP(1)' in done.stdout


def test_unit_file_uses_options_that_exist():
    text = UNIT.read_text()
    line = re.search(r'^ExecStart=qdes-tap (.*)$', text, re.MULTILINE)[1]
    options = re.findall(r'--[a-z-]+', line)
    assert options
    assert set(options) <= help_options()
    example = re.search(r'^#   QDES_TAP_OPTIONS=(.*)$', text, re.MULTILINE)[1]
    assert set(re.findall(r'--[a-z-]+', example)) <= help_options()


def test_unit_file_is_valid(tmp_path):
    if not shutil.which('systemd-analyze'):
        pytest.skip('needs the program systemd-analyze')
    unit = tmp_path / 'qdes-tap@tap0.service'
    text = UNIT.read_text()
    # What is looked up in the system is not installed here.
    text = text.replace('ExecStart=qdes-tap ', f'ExecStart={QDES_TAP} ')
    text = text.replace('Documentation=', '#')
    unit.write_text(text)
    done = subprocess.run(['systemd-analyze', 'verify', unit], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=60, check=False)
    # Other units of this machine are none of our business.
    wrong = [line for line in done.stdout.splitlines() if 'qdes' in line]
    assert not wrong, done.stdout
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize('args, text', [
    ([], '--tap'),
    (['tap0'], 'tap0'),
    (['--tap'], '--tap'),
    (['--tap', 'tap0', '--bogus'], '--bogus'),
    (['--tap', 'tap0', '--netid'], '--netid'),
    (['--tap', 'tap0', 'tap1'], 'tap1'),
    (['--tap', 'tap0', '--pcap-filter', 'arp'], '--pcap-filter=arp'),
    (['status', '--tap', 'tap0'], '--tap'),
    (['status', 'tap0'], 'tap0'),
    (['fdb-add', '--peer', '192.0.2.1:1'], '--mac'),
    (['peer-add'], '--peer'),
    (['peer-del'], '--peer'),
    (['set-secret'], '--secret-file'),
    (['fdb-del'], '--mac'),
    (['fdb-flush', 'tap0'], 'tap0'),
])
def test_wrong_usage(host, args, text):
    line = taptool.refused(host, *args, status=2)
    assert text in line
    assert line.endswith('; see qdes-tap --help')
    assert 'tap0' not in taptool.links(host)


# What is wrong with a value, and what the message has to say besides it.
BAD_VALUES = [
    ('tap', '', '1 to 15'),
    ('tap', 'sixteen-chars-xy', '1 to 15'),
    ('tap', 'a/b', 'letters'),
    ('tap', 'a b', 'letters'),
    ('tap', '..', 'letters'),
    ('tap', 'tap%s', '%d'),
    ('netid', '4294967296', '4294967295'),
    ('netid', '-1', '4294967295'),
    ('netid', '99999999999999999999', 'too large'),
    ('netid', 'x', 'number'),
    ('netid', '', 'number'),
    ('netid', '010', 'number'),
    ('ttl', '0', '1 to 255'),
    ('ttl', '256', '1 to 255'),
    ('mcast', '10.0.0.1', 'multicast'),
    ('mcast', '239.1.1.1:0', 'port'),
    ('mcast', '239.1.1.1:65536', 'port'),
    ('mcast', 'bogus', 'address'),
    ('mcast', '', 'address'),
    ('mcast', 'ff15::1:20804:', 'address'),
    ('localaddr', 'bogus', 'address'),
    ('localaddr', '239.1.1.1', 'multicast'),
    ('localaddr', '::1', 'IPv4'),
    ('localaddr', '192.0.2.77', 'address'),
    ('iface', 'nosuch0', 'no such interface'),
    ('iface', '', 'interface'),
    ('encap', 'gre', 'vxlan'),
    ('name', '', '63'),
    ('name', 'x' * 64, '63'),
    ('ageing', '9', '10 to'),
    ('ageing', '1000001', '1000000'),
    ('max-macs', '0', '1 to'),
    ('max-macs', '1048577', '1048576'),
    ('learning', 'yes', 'on or off'),
    ('unknown-unicast', 'bogus', 'flood or drop'),
    ('storm-control', '0', 'off, or 1 to 10000000'),
    ('storm-control', 'all', 'off'),
    ('loop-guard', '1', 'on or off'),
    ('max-local-macs', '0', '1 to 65536'),
    ('mac-violation', 'drop', 'max-local-macs'),
    ('sndbuf', '1', '4096'),
    ('sndbuf', '2147483648', '1073741824'),
    ('rcvbuf', 'big', 'number'),
    ('user', 'no-such-user', 'no such user'),
    ('pcap-filter', 'bogus or', 'pcap-filter(7)'),
]


@pytest.mark.parametrize('name, value, remedy', BAD_VALUES)
def test_bad_value(host, tmp_path, name, value, remedy):
    """One message with option, value, remedy; and nothing was begun."""
    control, pcap = tmp_path / 'c', tmp_path / 'p'
    options = {'tap': 'tap0', 'control': control, 'pcap': pcap, name: value}
    line = taptool.refused(host, *(f'--{n}={v}' for n, v in options.items()))
    assert f'--{name}={value}: ' in line
    assert remedy in line
    assert set(taptool.links(host)) == {'lo', 'eth0'}
    assert not control.exists()
    assert not pcap.exists()


def test_bad_mac(host):
    line = taptool.refused(host, '--tap', 'tap0', '--mac', '02:00:00:00:00:01',
                           '--mac', '02:00:00:00:00:1')
    assert line.startswith('--mac=02:00:00:00:00:1: not a MAC address; give')
    assert 'max-local-macs=1: 2 MAC addresses are listed' in taptool.refused(
        host, '--tap', 'tap0', '--mac', '02:00:00:00:00:01', '--mac',
        '02:00:00:00:00:02', '--max-local-macs', '1')


def test_conflicts_between_options(host):
    assert '--unknown-unicast=drop' in taptool.refused(
        host, '--tap', 'tap0', '--unknown-unicast', 'drop', '--learning',
        'off')
    host.ip('tuntap add dev tap0 mode tap')
    assert '--iface=tap0' in taptool.refused(
        host, '--tap', 'tap0', '--iface', 'tap0')


def test_closed_standard_files(host, tmp_path):
    """Sockets must not get the numbers of stdin, stdout and stderr."""
    control = f'{host.network.run_dir}/c'
    process = taptool.start(
        host, '--tap', 'tap0', '--control', control, ready=False,
        wrap=['sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh'])
    wait_for(lambda: os.path.exists(control) and
             taptool.status(control), 10)
    for number in range(3):
        assert os.readlink(f'/proc/{process.pid}/fd/{number}') == '/dev/null'
    assert process.stop() == 0


def test_quiet(host):
    control = f'{host.network.run_dir}/c'
    process = taptool.start(host, '--tap', 'tap0', '--quiet', '--control',
                            control, ready=False)
    wait_for(lambda: os.path.exists(control), 10)
    taptool.status(control)
    assert process.stop() == 0
    assert process.log == ''


def test_default_name(host):
    control = f'{host.network.run_dir}/c'
    wrap = ['unshare', '--uts', 'sh', '-ec', 'hostname box; exec "$@"', 'sh']
    process = taptool.start(host, '--tap', 'tap7', '--control', control,
                            wrap=wrap)
    assert 'name box:tap7,' in taptool.status(control)
    assert process.stop() == 0


def test_ready_line(host):
    process = taptool.start(host, '--tap', 'tap0', '--netid', '0x2a',
                            '--name', 'me')
    line = process.wait_log('.* is ready.*')[0]
    for text in ('tap0', 'network ID 42', '"me"', '239.192.81.68:20804',
                 'on eth0', host.address + ':'):
        assert text in line
    assert process.stop() == 0


def test_options_reach_the_fabric(host):
    control = f'{host.network.run_dir}/c'
    process = taptool.start(
        host, '--tap', 'tap0', '--control', control, '--mcast',
        '239.1.2.3:4567', '--netid', '4294967295', '--name', 'näme',
        '--localaddr', f'{host.address}:4568', '--iface', 'eth0', '--ttl',
        '5', '--encap', 'qdes', '--ageing', '20', '--max-macs', '9',
        '--sndbuf', '64k', '--rcvbuf', '64k', '--plain-io')
    with taptool.Client(control) as client:
        status = client.ask()['return']
    assert status['group'] == '239.1.2.3:4567'
    assert status['netid'] == 4294967295
    assert status['name'] == 'näme'
    assert status['local'] == f'{host.address}:4568'
    assert status['iface'] == 'eth0'
    assert process.stop() == 0


def test_two_programs_on_one_local_port(host):
    process = taptool.start(host, '--tap', 'tap0', '--localaddr',
                            f'{host.address}:4568')
    line = taptool.refused(host, '--tap', 'tap1', '--localaddr',
                           f'{host.address}:4568')
    assert f'localaddr={host.address}:4568' in line
    assert 'tap1' not in taptool.links(host)
    assert process.stop() == 0


def notify_socket(directory):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(f'{directory}/notify')
    sock.settimeout(10)
    return sock


def next_notice(sock, name):
    """Wait for the next message that sets NAME, and return it as a dict."""
    while True:
        text = sock.recv(4096).decode()
        notice = dict(line.split('=', 1) for line in text.splitlines())
        if name in notice:
            return notice


def test_systemd_is_told(host):
    """Ready means: the device is up, and the port works."""
    directory = host.network.run_dir
    with notify_socket(directory) as sock:
        process = taptool.start(
            host, '--tap', 'tap0', '--control', f'{directory}/c', ready=False,
            env={'NOTIFY_SOCKET': f'{directory}/notify'})
        notice = next_notice(sock, 'READY')
        assert notice['READY'] == '1'
        assert '239.192.81.68:20804' in notice['STATUS']
        assert taptool.is_up(host, 'tap0')
        taptool.status(f'{directory}/c')

        # What changes is told too.
        host.ip('link set tap0 down')
        assert next_notice(sock, 'STATUS')['STATUS'] != notice['STATUS']
        host.ip('link set tap0 up')
        assert next_notice(sock, 'STATUS')['STATUS'] == notice['STATUS']

        process.send(15)
        assert next_notice(sock, 'STOPPING')['STOPPING'] == '1'
        assert process.stop() == 0


def test_a_failed_start_is_never_ready(host):
    directory = host.network.run_dir
    with notify_socket(directory) as sock:
        done = taptool.run(host, '--tap', 'eth0',
                           env={'NOTIFY_SOCKET': f'{directory}/notify'})
        assert done.returncode == 1
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            next_notice(sock, 'READY')


def test_journal_gets_priorities(host, tmp_path):
    log = tmp_path / 'journal'
    with open(log, 'wb') as file:
        st = os.fstat(file.fileno())
        for stream, pattern in ((f'{st.st_dev}:{st.st_ino}', r'<3>--tap=eth0'),
                                ('1:2', r'qdes-tap: --tap=eth0')):
            file.truncate(0)
            file.seek(0)
            subprocess.run(taptool.argv(host, ['--tap', 'eth0']), stderr=file,
                           stdin=subprocess.DEVNULL, timeout=30, check=False,
                           env={**os.environ, 'JOURNAL_STREAM': stream})
            assert re.match(pattern, log.read_text())
