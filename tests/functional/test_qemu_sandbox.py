# SPDX-License-Identifier: GPL-2.0-or-later
"""-netdev qdes in QEMU's own sandbox, as libvirt and careful users start it.

What is outside its list of system calls is QEMU's end by SIGSYS, so a port
that does all that a port does, and lives, has asked for nothing more.

    h1: QEMU, sandboxed    h2: qdes-tap
"""

import subprocess

import pytest
from dnsserver import A, SRV, DnsServer
from guests import QDES_QEMU
from procs import wait_for
from taptool import proc_status, run

SANDBOX = ['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,'
           'resourcecontrol=deny']


@pytest.fixture(autouse=True)
def needs_seccomp(boot):
    """A QEMU that was built without has no such option."""
    done = subprocess.run([QDES_QEMU, '-help'], stdout=subprocess.PIPE,
                          text=True, timeout=60, check=True)
    if '-sandbox on' not in done.stdout:
        pytest.skip(f'{QDES_QEMU} is built without libseccomp')


def assert_sandboxed(guest):
    """By now: QEMU does that after its netdevs are made."""
    status = proc_status(guest.process.popen.pid)
    assert status['NoNewPrivs'] == '1'
    assert status['Seccomp'] == '2'


def seeds(port):
    return {seed['peer']: seed for seed in port.status()['seeds']}


def test_sealed_in_the_sandbox(net, tap, boot, tmp_path):
    """GnuTLS has all that it needs, also for keys that come later."""
    h1, h2 = net.hosts(2)
    keys = []
    for name in 'old', 'new':
        keys.append(tmp_path / name)
        keys[-1].write_text(f'the {name} secret, for all')
        keys[-1].chmod(0o600)
    station = tap(h2, secret_file=keys[0]).configure('10.82.0.2/24')
    guest = boot(h1, ['qdes,secret=old'], addresses=['10.82.0.1/24'],
                 extra=[*SANDBOX, '-object', f'secret,id=old,file={keys[0]}'])
    guest.wait_ready()
    assert_sandboxed(guest)
    guest.port.wait_peers(1)
    guest.assert_ping('10.82.0.2')
    guest.qmp('object-add', qom_type='secret', id='new', file=str(keys[1]))
    guest.qmp('qdes-set-secret', id='net0', secret='new', secret_old='old')
    for secrets in ['--secret-old-file', keys[0]], []:
        done = run(h2, 'set-secret', '--control', station.control,
                   '--secret-file', keys[1], *secrets)
        assert done.returncode == 0, done.stderr
        guest.assert_ping('10.82.0.2')
    assert_sandboxed(guest)
    guest.quit()


@pytest.mark.parametrize('options', ['', ',vnet-hdr=off,gso=off'],
                         ids=['fast', 'plain'])
def test_everything_in_the_sandbox(net, tap, boot, options):
    h1, h2 = net.hosts(2)
    dns = DnsServer(h1)
    dns.set('tap.test', A, 5, [h2.address])
    station = tap(h2, localaddr=f'{h2.address}:20805').configure(
        '10.82.0.2/24')
    guest = boot(h1, ['qdes,peers.0=tap.test:20805' + options],
                 addresses=['10.82.0.1/24'], extra=SANDBOX)
    guest.wait_ready()
    assert_sandboxed(guest)
    port = guest.port

    # The thread that looks names up, when it starts and again.
    wait_for(lambda: seeds(port)['tap.test:20805']['state'] == 'resolved', 15)
    asked = dns.count('tap.test', A)
    port.wait_peers(1)
    guest.assert_ping('10.82.0.2')
    wait_for(lambda: dns.count('tap.test', A) > asked, 30)

    # All that can be changed while it runs.
    dns.set('_qdes._udp.svc.test', SRV, 60, [('tap.test', 20805)])
    guest.qmp('qdes-peer-add', id='net0', peer='_qdes._udp.svc.test')
    wait_for(lambda: seeds(port)['_qdes._udp.svc.test']['state'] ==
             'resolved', 15)
    guest.qmp('qdes-peer-del', id='net0', peer='_qdes._udp.svc.test')
    guest.qmp('qdes-fdb-add', id='net0', mac='52:54:00:00:00:77',
              peer=f'{h2.address}:20805')
    guest.qmp('qdes-fdb-flush', id='net0', static=True)
    assert 'tap0' in guest.hmp('info qdes')

    # Interfaces come and go: netlink, other sockets, the group anew.
    guest.logs.expect('no route for the group .* joined on lo')
    h1.ip('link set eth0 down')
    wait_for(lambda: port.status()['loopback'], 15)
    h1.ip('link set eth0 up', 'route add default dev eth0')
    wait_for(lambda: not port.status()['loopback'], 15)
    guest.wait_ping('10.82.0.2', 20)

    # Netdevs, too.
    guest.qmp('netdev_add', type='qdes', id='hot', netid=7,
              peers=['tap.test:20806'])
    wait_for(lambda: any(i['id'] == 'hot' and
                         i['seeds'][0]['state'] == 'resolved'
                         for i in guest.qmp('query-qdes')), 15)
    guest.qmp('netdev_del', id='hot')
    guest.qmp('set_link', name='net0', up=False)
    guest.qmp('set_link', name='net0', up=True)
    guest.wait_ping('10.82.0.2', 20)
    station.wait_peers(1)
    assert_sandboxed(guest)
    guest.quit()
