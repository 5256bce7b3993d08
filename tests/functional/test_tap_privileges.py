# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may run qdes-tap, and what it may still do once the TAP is open."""

import json
import os
import stat
import tempfile

import pytest
import taptool
from frames import BROADCAST, PacketSocket, frame, mac, marker
from procs import wait_for
from stations import Station
from taptool import AS_NOBODY, NOBODY, PublicCopy, mount_wrap, proc_status

# LeakSanitizer cannot look at a process that has changed its user.
NO_LEAK_CHECK = {'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') +
                 ':detect_leaks=0'}


@pytest.fixture
def host(net):
    return net.hosts(1)[0]


@pytest.fixture
def public(net):
    """A copy of qdes-tap that every user can run."""
    with tempfile.TemporaryDirectory(prefix='qdes-', dir='/tmp') as directory:
        yield PublicCopy(directory)


def assert_powerless(pid, uid, bounding=True):
    """No thread has a capability, nor a way to get one."""
    threads = os.listdir(f'/proc/{pid}/task')
    for thread in threads:
        status = proc_status(pid, thread)
        sets = ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']
        for name in sets + (['CapBnd'] if bounding else []):
            assert int(status[name], 16) == 0, (thread, name, status[name])
        assert status['NoNewPrivs'] == '1'
        assert status['Uid'].split() == [str(uid)] * 4
        assert status['Gid'].split() == [str(uid)] * 4
    return len(threads)


def test_root_loses_its_capabilities(host):
    control = f'{host.network.run_dir}/c'
    process = taptool.start(host, '--tap', 'tap0', '--control', control,
                            '--pcap', os.devnull)
    taptool.status(control)
    # The capture's and the JSON's threads among them.
    assert assert_powerless(process.pid, 0) > 1
    assert process.stop() == 0
    assert not os.path.exists(control)


def test_user(net, tap, public):
    """All that is opened after the TAP belongs to that user."""
    hosts = net.hosts(2)
    control, pcap = public.path('control'), public.path('pcap')
    process = taptool.start(
        hosts[0], '--tap', 'tap0', '--user', 'nobody', '--control', control,
        '--pcap', pcap, env=NO_LEAK_CHECK,
        wrap=['setpriv', '--groups=4,5,6'])
    assert_powerless(process.pid, NOBODY)
    assert proc_status(process.pid)['Groups'] == ''
    for path in control, pcap:
        assert os.stat(path).st_uid == NOBODY
        assert os.stat(path).st_gid == NOBODY
    # It is a port like any other.
    hosts[0].ip('addr add 10.81.0.1/24 dev tap0')
    tap(hosts[1]).configure('10.81.0.2/24')
    hosts[0].assert_ping('10.81.0.2')
    assert 'tap0' in taptool.status(control)
    assert process.stop() == 0
    assert not os.path.exists(control)
    assert 'tap0' not in taptool.links(hosts[0])


def test_user_cannot_write_where_root_could(host, public):
    os.chmod(public.files, 0o755)
    for option in 'control', 'pcap':
        path = public.path('file')
        done = taptool.run(host, '--tap', 'tap0', '--user', 'nobody',
                           f'--{option}', path, env=NO_LEAK_CHECK)
        assert done.returncode == 1
        assert f'--{option}={path}: ' in done.stderr
        assert 'Permission denied' in done.stderr
        assert not os.path.exists(path)


def test_control_socket_is_private(host):
    control = f'{host.network.run_dir}/c'
    process = taptool.start(host, '--tap', 'tap0', '--control', control,
                            wrap=['sh', '-c', 'umask 0; exec "$@"', 'sh'])
    mode = os.stat(control).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert process.stop() == 0


def test_no_root_with_an_own_device(net, tap, public):
    hosts = net.hosts(2)
    hosts[0].ip(f'tuntap add dev tap0 mode tap user {NOBODY}',
                'link set tap0 up')
    control, pcap = public.path('control'), public.path('pcap')
    process = taptool.start(
        hosts[0], '--tap', 'tap0', '--control', control, '--pcap', pcap,
        wrap=AS_NOBODY, program=public.program)
    assert_powerless(process.pid, NOBODY, bounding=False)
    other = Station(tap, hosts[1])
    other.wait_peers(1)
    hosts[0].ip('addr add 10.81.0.1/24 dev tap0')
    other.configure('10.81.0.2/24')
    hosts[0].assert_ping('10.81.0.2')
    assert process.stop() == 0
    assert 'tap0' in taptool.links(hosts[0])
    assert os.stat(pcap).st_size > 500


def test_no_root_and_the_device_is_down(net, tap, public):
    """It cannot be set up, so that is said; once it is up, all is well."""
    hosts = net.hosts(2)
    hosts[0].ip(f'tuntap add dev tap0 mode tap user {NOBODY}')
    control = public.path('control')
    process = taptool.start(hosts[0], '--tap', 'tap0', '--control', control,
                            wrap=AS_NOBODY, program=public.program)
    assert 'warning: tap0 is down' in process.log
    assert 'sudo ip link set tap0 up' in process.log
    assert 'link down' in taptool.status(control)
    other = Station(tap, hosts[1])
    hosts[0].ip('link set tap0 up')
    other.wait_peers(1)
    process.wait_log('tap0 is up')
    other.speak(mac(1), PacketSocket(hosts[0], 'tap0'))
    assert process.stop() == 0


@pytest.mark.parametrize('before, texts', [
    ([], ['no such device', 'sudo ip tuntap add dev tap0 mode tap user']),
    (['tuntap add dev tap0 mode tap user 1'], ['another user']),
    (['tuntap add dev tap0 mode tap user 0'], ['another user']),
])
def test_no_root_and_no_device(host, public, before, texts):
    host.ip(*before)
    line = taptool.refused(host, '--tap', 'tap0', wrap=AS_NOBODY,
                           program=public.program)
    assert line.startswith('--tap=tap0: ')
    for text in texts:
        assert text in line


def test_no_root_but_the_capability(host, public):
    """As the service starts it: it never was root."""
    wrap = [*AS_NOBODY, '--inh-caps=+net_admin', '--ambient-caps=+net_admin']
    control = public.path('control')
    process = taptool.start(host, '--tap', 'tap0', '--control', control,
                            wrap=wrap, program=public.program)
    assert taptool.is_up(host, 'tap0')
    assert_powerless(process.pid, NOBODY, bounding=False)
    taptool.status(control)
    assert process.stop() == 0
    assert 'tap0' not in taptool.links(host)


def test_no_permission_for_the_driver(host, public):
    wrap = [*AS_NOBODY]
    wrap[wrap.index('-ec') + 1] = wrap[wrap.index('-ec') + 1].replace(
        '-m 666', '-m 600')
    line = taptool.refused(host, '--tap', 'tap0', wrap=wrap,
                           program=public.program)
    assert '--tap=tap0: cannot open /dev/net/tun: no permission' in line


def test_no_driver(host):
    for wrap in (mount_wrap('mount -t tmpfs tmpfs /dev/net'),
                 # A device node that no driver is behind.
                 mount_wrap('mount -t tmpfs tmpfs /dev/net\n'
                            'mknod /dev/net/tun c 10 254')):
        line = taptool.refused(host, '--tap', 'tap0', wrap=wrap)
        assert '--tap=tap0: cannot open /dev/net/tun: ' in line
        assert 'sudo modprobe tun' in line


def test_user_takes_root(host, public):
    line = taptool.refused(host, '--tap', 'tap0', '--user', 'root',
                           wrap=AS_NOBODY, program=public.program)
    assert '--user=root: only root' in line


def test_low_ports_are_for_root(host):
    """Opened before the capabilities go, but after the user has changed."""
    address = f'{host.address}:77'
    process = taptool.start(host, '--tap', 'tap0', '--localaddr', address)
    assert process.stop() == 0
    host.sysctl('net.ipv4.ip_unprivileged_port_start', 1024)
    done = taptool.run(host, '--tap', 'tap0', '--localaddr', address,
                       '--user', 'nobody', env=NO_LEAK_CHECK)
    assert done.returncode == 1
    assert f'--localaddr={address}: ' in done.stderr
    assert 'Permission denied' in done.stderr


def test_rejoins_without_privileges(net, tap, public):
    hosts = net.hosts(2)
    control = public.path('control')
    process = taptool.start(hosts[0], '--tap', 'tap0', '--user', 'nobody',
                            '--control', control, env=NO_LEAK_CHECK)
    process_socket = PacketSocket(hosts[0], 'tap0')
    other = Station(tap, hosts[1])

    def on_loopback():
        return json.loads(taptool.status(control, '--json'))['loopback']
    hosts[0].ip('link set eth0 down')
    wait_for(on_loopback, 10)
    hosts[0].ip('link set eth0 up', 'route add default dev eth0')
    wait_for(lambda: not on_loopback(), 10)
    other.speak(mac(2), process_socket)
    data = frame(BROADCAST, mac(1), marker())
    process_socket.send(data)
    other.expect(data)
    assert process.stop() == 0
