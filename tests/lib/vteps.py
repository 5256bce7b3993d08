# SPDX-License-Identifier: GPL-2.0-or-later
"""Other people's ends of a VXLAN fabric: kernel, Open vSwitch, VDE.

Each is an interface of a host that has the fabric behind it, as a port's TAP.
"""

import json
import os
from pathlib import Path

from frames import mac
from netns import command
from procs import wait_for

SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema'


def configure(host, interface, number, up=True):
    """The interface's addresses, all of which tell NUMBER."""
    host.enable_ipv6(interface)
    host.ip(f'link set {interface} address {mac(number)}',
            f'addr add 10.81.0.{number}/24 dev {interface}',
            f'addr add fd81::{number:x}/64 dev {interface} nodad',
            *([f'link set {interface} up'] if up else []))


class KernelVtep:
    """A kernel's vxlan device; OPTIONS are those of ip-link(8)."""

    def __init__(self, host, vni, number, name='vx0', **options):
        self.host = host
        self.name = name
        self.mac = mac(number)
        options.setdefault('dstport', 4789)
        text = ' '.join(f'{k} {v}' for k, v in options.items())
        host.ip(f'link add {name} type vxlan id {vni} {text}')
        configure(host, name, number)

    def flood_to(self, *addresses):
        """Head-end replication: copies of what is flooded go there."""
        for address in addresses:
            self.host.run(f'bridge fdb append 00:00:00:00:00:00 dev '
                          f'{self.name} dst {address}')

    def where(self, address):
        """Behind whom the device has learned a MAC address."""
        done = self.host.run(['bridge', '-j', 'fdb', 'show', 'dev',
                              self.name])
        for entry in json.loads(done.stdout):
            if entry['mac'] == address and 'dst' in entry:
                return entry['dst']
        return None


class Frr:
    """zebra and bgpd of a host, as FRR's service runs them."""

    def __init__(self, host, bgp=()):
        """BGP: lines of bgpd's configuration."""
        self.host = host
        # The daemons give up root, and go on in this folder.
        Path(host.network.run_dir).chmod(0o755)
        self.dir = Path(host.network.run_dir, f'frr{host.number}')
        self.dir.mkdir()
        self.dir.chmod(0o777)
        self._start('zebra', ())
        wait_for((self.dir / 'zserv').exists, 10,
                 lambda: f'zebra: {host.network.processes[-1].log}')
        self._start('bgpd', bgp)

    def _start(self, daemon, lines):
        config = self.dir / f'{daemon}.conf'
        config.write_text(''.join(f'{line}\n' for line in lines))
        self.host.start([f'/usr/lib/frr/{daemon}', '-f', config, '-i',
                         self.dir / f'{daemon}.pid', '-z', self.dir / 'zserv',
                         '--vty_socket', self.dir, '-u', 'frr', '-g', 'frr',
                         '-P', 0, '--log', 'stdout'], daemon)
        wait_for((self.dir / f'{daemon}.vty').exists, 10,
                 lambda: f'{daemon}: {self.host.network.processes[-1].log}')

    def vtysh(self, *args):
        """As vtysh(8) is called where there is one FRR for all."""
        return self.host.run(['vtysh', '--vty_socket', self.dir, *args])


class EvpnVtep:
    """
    A kernel's vxlan device that FRR programs, by what its peers tell by BGP.

    The device learns nothing by itself.  The host's interface v1 is on a
    bridge with it, as a guest's would be.
    """

    name = 'v1'

    def __init__(self, host, vni, others, number):
        self.host = host
        self.mac = mac(number)
        host.ip('link add br0 type bridge forward_delay 0 mcast_snooping 0',
                f'link add vx0 type vxlan id {vni} local {host.address} '
                'dstport 4789 nolearning dev eth0',
                'link add v1 type veth peer name v0',
                'link set vx0 master br0', 'link set v0 master br0 up',
                'link set vx0 type bridge_slave learning off',
                'link set br0 up', 'link set vx0 up')
        configure(host, 'v1', number)
        neighbors = [f' neighbor {o.address} {text}' for o in others
                     for text in ('remote-as 65000', 'timers connect 1')]
        activate = [f'  neighbor {o.address} activate' for o in others]
        Frr(host, [
            'router bgp 65000', f' bgp router-id {host.address}',
            ' no bgp default ipv4-unicast', *neighbors,
            ' address-family l2vpn evpn', *activate, '  advertise-all-vni',
            ' exit-address-family'])

    def list_port(self, port, address):
        """A port, which speaks no BGP, is told of by static entries."""
        self.host.run('bridge fdb append 00:00:00:00:00:00 dev vx0 dst '
                      f'{address}')
        self.host.run(f'bridge fdb add {port.mac} dev vx0 dst {address}')

    def knows(self, address):
        return address in self.host.run('bridge fdb show dev vx0').stdout


class Vde:
    """vde_plug(1) between a VDE network and a new TAP."""

    def __init__(self, host, url, number, name='vde0'):
        self.host = host
        self.name = name
        self.mac = mac(number)
        host.ip(f'tuntap add dev {name} mode tap')
        configure(host, name, number)
        self.process = host.start(['vde_plug', url, f'tap://{name}'], 'vde')
        wait_for(lambda: 'LOWER_UP' in host.run(f'ip link show {name}').stdout,
                 5, lambda: f'vde_plug {url}: {self.process.log}')


class OpenVswitch:
    """
    An Open vSwitch in user space, without the machine's own.

    Its bridge "phy" takes over the host's eth0 and address, so that it sends
    by it what its tunnels make; "int" is the switch, and the host's interface
    on it.
    """

    def __init__(self, host, switch, vni, remotes, number, port=4789):
        self.host = host
        # It reads what comes without what tells of unfinished checksums, and
        # drops such: a network card would have finished them.
        for i in range(1, switch.ports + 1):
            switch.run(f'ethtool -K p{i} tx off')
        self.name = 'int'
        self.mac = mac(number)
        self.dir = Path(host.network.run_dir, f'ovs{host.number}')
        self.dir.mkdir()
        self.env = {**os.environ, 'OVS_RUNDIR': str(self.dir),
                    'OVS_LOGDIR': str(self.dir), 'OVS_DBDIR': str(self.dir)}
        command(['ovsdb-tool', 'create', self.dir / 'conf.db', SCHEMA])
        self.db = host.start(
            ['ovsdb-server', self.dir / 'conf.db', '--pidfile', '--no-chdir',
             f'--remote=punix:{self.dir}/db.sock'], 'ovsdb', env=self.env)
        wait_for(lambda: (self.dir / 'db.sock').exists(), 10,
                 lambda: f'ovsdb-server: {self.db.log}')
        self.switch = host.start(
            ['ovs-vswitchd', f'unix:{self.dir}/db.sock', '--pidfile',
             '--no-chdir'], 'ovs', env=self.env)
        address = host.address
        host.ip(f'addr del {address}/24 dev eth0')
        self.vsctl('init')
        self.vsctl('add-br phy -- set bridge phy datapath_type=netdev -- '
                   'add-port phy eth0')
        host.ip(f'addr add {address}/24 dev phy', 'link set phy up',
                'route add default dev phy')
        self.vsctl('add-br int -- set bridge int datapath_type=netdev '
                   f'other-config:hwaddr={self.mac}')
        for i, remote in enumerate(remotes):
            self.vsctl(f'add-port int vx{i} -- set interface vx{i} '
                       f'type=vxlan options:remote_ip={remote} '
                       f'options:key={vni} options:dst_port={port}')
        # The far ends hear each other by themselves, not through it.
        for i in range(len(remotes)):
            self.vsctl(f'set port vx{i} protected=true')
        configure(host, 'int', number)

    def vsctl(self, text):
        return command(['ovs-vsctl', f'--db=unix:{self.dir}/db.sock',
                        '--timeout=20', *text.split()])
