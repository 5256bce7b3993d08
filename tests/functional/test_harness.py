# SPDX-License-Identifier: GPL-2.0-or-later
"""The harness itself: networks, cleaning up, and the checks that bite."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import netns
import pytest
from frames import BROADCAST, PacketSocket, frame, mac, marker
from ports import counter_groups, unbalanced
from procs import LogCheck, Process, wait_for
from traffic import tcp_transfer, udp_exchange

LIB = Path(netns.__file__).parent


def ended(pid):
    """The process is gone, or only waits for its parent to notice."""
    try:
        stat = Path(f'/proc/{pid}/stat').read_text(encoding='ascii')
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(')')[2].split()[0] == 'Z'


def test_two_hosts_reach_each_other(net):
    one, two = net.hosts(2)
    one.assert_ping(two.address)
    two.assert_ping(one.address6)
    tcp_transfer(one, two, two.address6, 1 << 20)
    udp_exchange(two, one, one.address, [0, 1, 60000])


def test_host_without_a_route_for_multicast(net):
    switch = net.switch()
    other = net.host('other', switch)
    lost = net.host('lost', switch, default_route=False)
    lost.assert_ping(other.address)
    route = lost.run('ip route get 239.192.81.68', check=False)
    assert route.returncode != 0
    assert other.run('ip route get 239.192.81.68').returncode == 0


def test_multi_homed_host(net):
    left, right = net.switch(), net.switch()
    middle = net.host('middle', left, right)
    one, two = net.host('one', left), net.host('two', right)
    middle.assert_ping(one.address)
    middle.assert_ping(two.address)
    assert not one.ping(two.address, count=1, deadline=1)


def test_kernel_vxlan_carries_frames(net):
    """The topology carries UDP multicast, as a kernel tunnel proves."""
    hosts = net.hosts(3)
    for number, host in enumerate(hosts, 1):
        host.ip('link add tap0 type vxlan id 7 group 239.192.81.68 '
                'dev eth0 dstport 20804',
                f'link set tap0 address {mac(number)} up',
                f'addr add 10.81.0.{number}/24 dev tap0')
    hosts[0].assert_ping('10.81.0.2')
    hosts[2].assert_ping('10.81.0.1')
    sockets = [PacketSocket(host, 'tap0') for host in hosts]
    flooded = frame(BROADCAST, mac(1), marker())
    sockets[0].send(flooded)
    sockets[1].expect(flooded)
    sockets[2].expect(flooded)
    assert not sockets[0].pending()


def test_capture_sees_traffic(net):
    one, two = net.hosts(2)
    capture = two.capture('eth0', 'icmp')
    one.assert_ping(two.address, count=5)
    capture.stop(signal.SIGINT)
    text = two.run(['tcpdump', '-nr', capture.pcap]).stdout
    assert text.count('echo request') == 5


def test_run_leaves_nothing_behind(net, tmp_path):
    network = netns.Network(str(tmp_path))
    host = network.hosts(1)[0]
    process = host.start(['sleep', '1000'], 'sleep')
    assert process.running
    names = [n.full_name for n in network.namespaces]
    assert set(names) <= set(netns.namespaces())
    network.close()
    assert not process.running
    assert not set(names) & set(netns.namespaces())
    assert not Path(network.run_dir).exists()
    assert Path(net.run_dir).exists()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM,
                                    signal.SIGKILL])
def test_interrupted_run_is_cleaned_up(net, tmp_path, number):
    """Whatever ends a run: its programs end, its namespaces vanish."""
    (tmp_path / 'test_sleeps.py').write_text(
        'def test_sleeps(net):\n'
        '    host = net.hosts(1)[0]\n'
        '    process = host.start(["sleep", "1000"], "sleep")\n'
        '    print(f"pid {process.pid}", flush=True)\n'
        '    import time\n'
        '    time.sleep(1000)\n')
    run = Process([sys.executable, '-m', 'pytest', '-s', '-p', 'conftest',
                   '-p', 'no:cacheprovider', tmp_path], tmp_path / 'log',
                  env={'PYTHONPATH': str(Path(__file__).parent)})
    pid = int(run.wait_log(r'pid (\d+)', 20)[1])
    assert netns.namespaces(run.pid)
    run.stop(number)
    wait_for(lambda: ended(pid))
    if number == signal.SIGKILL:
        assert netns.namespaces(run.pid)
        netns.sweep()
    assert not netns.namespaces(run.pid)
    assert not netns.run_dirs(run.pid)


def test_program_dies_with_the_run():
    """Even when the run cannot clean up."""
    script = ('import procs, time, sys\n'
              'p = procs.Process(["sleep", "1000"], "/dev/null")\n'
              'print(p.pid, flush=True)\n'
              'time.sleep(1000)\n')
    with subprocess.Popen([sys.executable, '-c', script], text=True,
                          stdout=subprocess.PIPE, cwd=LIB) as run:
        pid = int(run.stdout.readline())
        assert not ended(pid)
        run.kill()
    wait_for(lambda: ended(pid))


def books(**counters):
    return {name: counters.get(name.replace('-', '_'), 0)
            for name in counter_groups()}


def test_books_that_balance():
    assert counter_groups()['tx-frames'] == 'TX_IN'
    assert not unbalanced(books())
    assert not unbalanced(books(tx_frames=3, tx_unicast=1, tx_flooded=1,
                                tx_drop_link=1, rx_datagrams=2, rx_hello=1,
                                rx_drop_own=1, rx_drop_kernel=7))


@pytest.mark.parametrize('counters', [
    {'tx_frames': 1}, {'tx_unicast': 1}, {'rx_datagrams': 1},
    {'rx_bye': 1}, {'rx_datagrams': 1, 'rx_drop_kernel': 1}])
def test_books_that_do_not_balance(counters):
    assert unbalanced(books(**counters))


def test_books_with_an_unknown_counter():
    assert unbalanced({**books(), 'tx-surprise': 0})


def test_log_check(tmp_path):
    log = tmp_path / 'log'
    process = Process(['sh', '-c', 'cat'], log, stdin=subprocess.PIPE)

    def say(text):
        process.popen.stdin.write(text.encode() + b'\n')
        process.popen.stdin.flush()
        process.wait_log(text)

    check = LogCheck(process, 'cat')
    say('joined 239.192.81.68 on eth0')
    assert not check.check()
    say('warning: duplicate MAC')
    assert check.check() == ['cat said unexpectedly: warning: duplicate MAC']
    assert not check.check()
    check.expect('full disk')
    say('warning: full disk')
    assert not check.check()
    check.expect('never said')
    assert check.check() == ['cat did not say: never said']
    process.kill()


def test_wait_for_gives_up():
    start = time.monotonic()
    with pytest.raises(AssertionError, match='in vain for the moon'):
        wait_for(lambda: False, 0.1, 'the moon')
    assert time.monotonic() - start < 2
