# SPDX-License-Identifier: GPL-2.0-or-later
"""The hosts, ports and stations of a soak run, and all that befalls them.

    station s1 ... s6       a namespace: MAC and IP addresses, and a cable that
       |                    goes from host to host as a guest that migrates
    bridge br0  of host     with the port's TAP device      guests vm1, vm2
       |                                                         |
    qdes-tap                sealed; group and listed peers,     QEMU
       |                    listed alone, IPv6, behind NAT       |
       |                                                         |
    underlay                a switch, and a router for the one at home

A kill of a port ends nothing that a station does, so no connection between
stations may ever break.  A guest dies with its port, and its connections, but of
nothing else.
"""

import os
import random
import socket
import subprocess
import time
from ipaddress import ip_address
from pathlib import Path

import plan
from flows import Echo, Pair, Traffic
from frames import BROADCAST, PacketSocket, frame, mac, mac_bytes, marker
from guests import Machine
from nat import Home
from ports import QDES_TAP, Registry, TapPort
from stations import endpoint

PORT = 20804
MOVE_PAUSE = 11         # seconds: who goes to and fro in 10 s is a duplicate
ETH_P_ARP = 0x806

# Whom all others list; three in a group; one that lists the first by IPv6; one
# behind NAT.
SPECS = [plan.Host('hub', fixed=True), plan.Host('g1'), plan.Host('g2'),
         plan.Host('g3'), plan.Host('six'), plan.Host('home', nat=True)]
# One in the group, and one that only lists the first.
GUESTS = [plan.Host('vm1', guest=True), plan.Host('vm2', guest=True)]
STATIONS = [f's{n}' for n in range(1, 7)]
FLOWS = 6

# What a port may say of what is done to it.
EXPECTED = [
    r'no interface can join the group',
    r'no route for the group .*: joined on lo',
    r'a firewall of this host forbids sending',
]
# To one that moves while the secret changes, others may send by one that it has
# not yet, or no longer.
REKEYED = [r"warning: .* sends what this port's secret does not open"]


class Station:
    """A host behind a port, which keeps its addresses wherever it goes."""

    def __init__(self, fleet, number):
        self.fleet = fleet
        self.name = f's{number}'
        self.mac = mac(0x5000 + number)
        self.address = f'10.81.0.{number}'
        self.address6 = f'fd81::{number}'
        self.place = None
        self.moved = float('-inf')
        self.space = fleet.net.namespace(self.name)
        self.cable = f'v-{self.name}'
        self.space.ip(f'link add eth0 type veth peer name {self.cable}',
                      f'link set eth0 address {self.mac}')
        self.space.enable_ipv6('eth0')
        # As a guest's card: its addresses stay while the cable is moved.
        self.space.sysctl('net.ipv6.conf.eth0.keep_addr_on_down', 1)
        self.space.ip('link set eth0 up',
                      f'addr add {self.address}/24 dev eth0',
                      f'addr add {self.address6}/64 dev eth0 nodad')
        self.socket = PacketSocket(self.space, 'eth0')

    def __repr__(self):
        return self.name

    def plug(self, node):
        """Into a host's bridge, from wherever it is."""
        old = self.place.host if self.place else self.space
        old.ip(f'link set {self.cable} netns {node.host.full_name}')
        node.host.ip(f'link set {self.cable} master br0 up')
        if self.place:
            self.moved = time.monotonic()
        self.place = node
        self.announce()

    def announce(self):
        """As QEMU does for a guest that has migrated."""
        address = socket.inet_aton(self.address)
        body = (bytes.fromhex('0001080006040001') + mac_bytes(self.mac) +
                address + bytes(6) + address)
        for _ in range(3):
            self.socket.send(frame(BROADCAST, self.mac, body, ETH_P_ARP))

    def shout(self):
        """A broadcast that nobody has sent before."""
        data = frame(BROADCAST, self.mac, marker())
        self.socket.send(data)
        return data

    def ping(self, address):
        return self.space.ping(address, count=1, deadline=2)

    @property
    def last_ping(self):
        return self.space.last_ping


class Node:
    """A host with a port that comes and goes, in one life after the other."""

    def __init__(self, fleet, host, spec, home=None, **options):
        self.fleet, self.host, self.spec = fleet, host, spec
        self.home = home
        self.router = home.router if home else None
        # The switch's end of the last cable that was put into it.
        self.plug = f'p{fleet.internet.ports}'
        self.options = options
        self.name = spec.name
        self.secrets = (fleet.secrets[0], None)
        self.lives = []
        self.listed = set()     # peers that it was told of
        self.renumbered = 0
        self.former = set()     # addresses that it had

    def __repr__(self):
        return self.name

    @property
    def port(self):
        return self.lives[-1]

    @property
    def running(self):
        return bool(self.lives) and self.port.process.running

    @property
    def is_relay(self):
        return 'relay' in self.options

    def may_miss(self, other):
        """One is known by IPv6 to all, the other has none."""
        return {self.name, other.name} == {'six', 'home'}

    def start(self):
        self.launch()
        self.ready()

    def kill(self):
        self.port.process.kill()

    def stop(self):
        self.port.stop()

    def set_secrets(self, new, old):
        """Also of a port that is dead now: its configuration has changed."""
        self.secrets = new, old
        if self.running:
            self.change_secrets(new, old)

    def restore(self):
        """All that a host loses with its link."""
        lines = [f'addr replace {a}/24 dev eth0' for a in self.host.addresses]
        lines += [f'addr replace {a}/64 dev eth0 nodad'
                  for a in self.host.addresses6]
        gateway = (f'via {self.router.addresses[1]} ' if self.router else '')
        self.host.ip('link set eth0 up', *lines,
                     f'route replace default {gateway}dev eth0')

    def owns(self, text, local):
        """Is that an endpoint of the port, which says LOCAL of itself?"""
        address, number = endpoint(text)
        if self.router:
            return address == self.router.addresses[0]
        own = [str(ip_address(a))
               for a in self.host.addresses + self.host.addresses6]
        return number == endpoint(local)[1] and address in own

    def left(self, text):
        """Has it been there, before it got another address?"""
        return endpoint(text)[0] in self.former


class TapNode(Node):
    """Each life is a TapPort, with stations behind a bridge."""

    def __init__(self, fleet, host, spec, home=None, **options):
        super().__init__(fleet, host, spec, home, **options)
        host.ip('link add br0 type bridge forward_delay 0 stp_state 0 '
                'mcast_snooping 0', 'link set br0 up')

    def launch(self):
        new, old = self.secrets
        options = dict(self.options, secret_file=new)
        if old:
            options['secret_old_file'] = old
        port = TapPort(self.fleet.registry, self.host, 'tap0', netid=42,
                       name=self.name, **options)
        port.memories = []
        self.lives.append(port)

    def ready(self):
        self.port.wait_ready()
        self.host.ip('link set tap0 master br0')

    def ask(self, *args):
        """Run a command of qdes-tap on the port."""
        done = subprocess.run(
            [QDES_TAP, *map(str, args), '--control', self.port.control],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=30, check=False)
        assert done.returncode == 0, f'{self}: {args}: {done.stderr}'

    def change_secrets(self, new, old):
        args = ['--secret-old-file', old] if old else []
        self.ask('set-secret', '--secret-file', new, *args)

    def add_peer(self, peer):
        self.ask('peer-add', '--peer', peer)

    def del_peer(self, peer):
        self.ask('peer-del', '--peer', peer)

    def flush(self, address):
        self.ask('fdb-flush', *(['--mac', address] if address else []))

    def set_link(self, state):
        self.host.ip(f'link set tap0 {state}')


class GuestLife(Machine):
    """A guest, from its boot to its end, as ports are looked at."""

    def status(self):
        return self.port.status()

    def stop(self):
        self.quit()


class GuestNode(Node):
    """Each life is a guest: its port, and the one station behind that."""

    NETDEV = 'net0'

    def __init__(self, fleet, host, spec, **options):
        super().__init__(fleet, host, spec, **options)
        number = 101 + len(fleet.guests)
        self.mac = mac(0x5000 + number)
        self.address = f'10.81.0.{number}'
        self.address6 = f'fd81::{number}'
        self.place = self       # it stays
        self.known = {}         # the secrets of this life, by their files
        self.flow = None

    def _know(self, path):
        """The ID of a secret's object, and whether it is a new one."""
        is_new = path not in self.known
        return self.known.setdefault(path, f's{len(self.known)}'), is_new

    def launch(self):
        self.known = {}
        words, extra = ['qdes', 'netid=42', f'name={self.name}'], []
        words += [f'{key}={value}' for key, value in self.options.items()]
        for option, path in zip(('secret', 'secret-old'), self.secrets):
            if path:
                name, _ = self._know(path)
                words.append(f'{option}={name}')
                extra += ['-object', f'secret,id={name},file={path}']
        life = GuestLife(self.fleet.net, self.host, [','.join(words)],
                         name=self.name, macs=[self.mac], extra=extra,
                         addresses=[f'{self.address}/24,{self.address6}/64'])
        life.memories = []
        self.lives.append(life)

    def ready(self):
        self.port.wait_ready()
        self.port.background(Echo.SERVER)

    def start(self):
        super().start()
        self.talk()

    def talk(self):
        """One connection for as long as the guest lives."""
        self.flow = self.fleet.connect_guest(self)

    def _be_gone(self, how):
        self.flow.lost = True
        life = self.port
        how()
        life.guest.stop()       # which is over; its lines are closed

    def kill(self):
        self._be_gone(super().kill)

    def stop(self):
        self._be_gone(super().stop)

    def qmp(self, command, **arguments):
        self.port.guest.qmp(command, id=self.NETDEV, **arguments)

    def change_secrets(self, new, old):
        names = {}
        for option, path in ('secret', new), ('secret_old', old):
            if path:
                names[option], is_new = self._know(path)
                if is_new:
                    self.port.guest.qmp('object-add', qom_type='secret',
                                        id=names[option], file=str(path))
        self.qmp('qdes-set-secret', **names)

    def add_peer(self, peer):
        self.qmp('qdes-peer-add', peer=peer)

    def del_peer(self, peer):
        self.qmp('qdes-peer-del', peer=peer)

    def flush(self, address):
        self.qmp('qdes-fdb-flush', **({'mac': address} if address else {}))

    def set_link(self, state):
        self.port.guest.qmp('set_link', name=self.NETDEV, up=state == 'up')

    def announce(self):
        self.port.check(f'arping -U -c 1 -I eth0 {self.address}')

    def ping(self, address):
        return self.port.ping(address, count=1, wait=2)

    @property
    def last_ping(self):
        return self.port.last_ping


class Fleet:
    """All of it, and what can be done to it."""

    def __init__(self, net, seed, with_guests):
        self.net = net
        self.rnd = random.Random(f'{seed}/fleet')
        self.registry = net.registry = Registry()
        self.secrets = [self._secret() for _ in range(2)]
        self.internet = net.switch()
        self.nodes = []
        self.guests = []
        self._nodes()
        if with_guests:
            self._guests()
        self.by_name = {node.name: node for node in self.nodes}
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.ready()
        self.stations = [Station(self, n + 1) for n in range(len(STATIONS))]
        for number, station in enumerate(self.stations):
            station.plug(self.nodes[number % len(self.nodes)])
        self.station = {s.name: s for s in self.stations}
        self.traffic = Traffic()
        # First of all, while what it talks to is there.
        net.on_close.append(self.traffic.stop)
        self.flows = []
        for number in range(FLOWS):
            self.flows.append(None)
            pair = self.rnd.sample(self.stations, 2)
            self.connect(number, *pair, 4 + 2 * (number % 2))
        for guest in self.guests:
            guest.talk()
        self.traffic.start()

    def _nodes(self):
        net, hub = self.net, self.net.host('hub', self.internet)
        listed = f'{hub.address}:{PORT}'

        def add(host, home=None, **options):
            spec = SPECS[len(self.nodes)]
            assert spec.name == host.name
            self.nodes.append(TapNode(self, host, spec, home, **options))
        # Whom all others know; and who passes on what cannot pass directly.
        add(hub, mcast='off', relay='on')
        for name in 'g1', 'g2', 'g3':
            add(net.host(name, self.internet), peer=listed)
        add(net.host('six', self.internet), mcast='off',
            peer=f'[{hub.address6}]:{PORT}')
        home = Home(net, self.internet, 'port-restricted', 'home')
        add(home.host, home, mcast='off', peer=listed)

    def _guests(self):
        listed = {'peers.0': f'{self.nodes[0].host.address}:{PORT}'}
        for spec, options in zip(GUESTS, ({}, {'mcast': 'off'})):
            host = self.net.host(spec.name, self.internet)
            node = GuestNode(self, host, spec, **options, **listed)
            self.guests.append(node)
            self.nodes.append(node)

    def _secret(self):
        path = Path(self.net.run_dir, f'secret{time.monotonic_ns()}')
        path.touch(0o600)
        path.write_text(os.urandom(32).hex())
        return path

    def connect(self, number, here, there, family):
        old = self.flows[number]
        if old:
            old.ending = True       # and is looked at until it has ended
        address = there.address6 if family == 6 else there.address
        flow = Pair(f'{here} to {there} by IPv{family}', here.space,
                    there.space, address, self.rnd.random())
        self.flows[number] = flow
        self.traffic.add(flow)

    def connect_guest(self, guest):
        here = self.rnd.choice(self.stations)
        address = self.rnd.choice([guest.address, guest.address6])
        flow = Echo(f'{here} to {guest} at {address}', here.space, address,
                    self.rnd.random())
        self.traffic.add(flow)
        return flow

    # --- Events: each does it, and returns how it ends, or None --------------

    def event(self, event):
        """Make it happen.  Returns what ends it, as (seconds, what, how)."""
        node = self.by_name.get(event.host)
        return getattr(self, f'_{event.kind}')(node, event)

    def _kill(self, node, event):
        node.kill()
        return [(event.seconds, f'{node} is started', node.start)]

    def _stop(self, node, event):
        node.stop()
        return [(event.seconds, f'{node} is started', node.start)]

    def _unplug(self, node, event):
        """Its addresses and routes are gone."""
        node.host.ip('link set eth0 down')
        return [(event.seconds, f'{node} has its link', node.restore)]

    def _cable(self, node, event):
        """No carrier; the addresses stay."""
        plug = node.plug
        self.internet.ip(f'link set {plug} down')
        return [(event.seconds, f'{node} has its cable', lambda:
                 self.internet.ip(f'link set {plug} up'))]

    def _silent(self, node, event):
        """Somewhere on the way, nobody says so."""
        plug = node.plug
        self.internet.ip(f'link set {plug} nomaster')
        return [(event.seconds, f'{node} is reached', lambda:
                 self.internet.ip(f'link set {plug} master br0 up'))]

    def _drop(self, node, rules):
        node.host.nft('table inet soak {\n' + rules + '\n}')

    def _pass(self, *nodes):
        for node in nodes:
            node.host.nft('delete table inet soak')

    def _firewall(self, node, event):
        """What is sent fails at once."""
        self._drop(node, '\n'.join(
            f'chain {name} {{ type filter hook {name} priority 0; '
            'meta l4proto udp drop; }' for name in ('input', 'output')))
        return [(event.seconds, f'{node} has no firewall', lambda:
                 self._pass(node))]

    def _pair(self, node, event):
        """Two do not hear each other; all others hear both."""
        other = self.by_name[event.args[0]]
        for here, there in (node, other), (other, node):
            self._drop(here, 'chain input { type filter hook input priority '
                       f'0; ip saddr {there.host.address} drop; '
                       f'ip6 saddr {there.host.address6} drop; }}')
        return [(event.seconds, f'{node} and {other} hear each other',
                 lambda: self._pass(node, other))]

    def _tapdown(self, node, event):
        """On the side of its stations."""
        node.set_link('down')
        return [(event.seconds, f'{node} has its link up', lambda:
                 node.set_link('up'))]

    def _renumber(self, node, event):
        old, old6 = node.host.address, node.host.address6
        node.renumbered += 1
        node.former |= {str(ip_address(old)), str(ip_address(old6))}
        number = 100 + 20 * self.nodes.index(node) + node.renumbered % 20
        node.host.addresses[0] = f'10.80.0.{number}'
        node.host.addresses6[0] = f'fd80::{number:x}'
        node.host.ip(f'addr del {old}/24 dev eth0',
                     f'addr del {old6}/64 dev eth0')
        node.restore()
        return []

    def _remap(self, node, event):
        node.home.forget()
        return []

    def _move(self, node, event):
        """Not while it would look like two that have one address."""
        station, node = self.station[event.args[0]], \
            self.by_name[event.args[1]]
        if (time.monotonic() - station.moved < MOVE_PAUSE or
                station.place is node):
            return None
        station.plug(node)
        return []

    def _rekey(self, node, event):
        """All get the new secret beside the old one, then it alone."""
        old = self.secrets[0]
        new = self._secret()
        self.secrets = [new, old]
        order = [self.by_name[name] for name in event.args[0].split(',')]
        step = max(event.seconds, 1) / len(order) / 2
        ends = []
        for phase, secrets in enumerate(((new, old), (new, None))):
            for number, each in enumerate(order):
                ends.append((step * (phase * len(order) + number),
                             f'{each} has the new secret' +
                             (' alone' if phase else ''),
                             lambda e=each, s=secrets: e.set_secrets(*s)))
        return ends

    def _peer(self, node, event):
        hub = self.nodes[0].host
        peer = {'listed': f'{self.by_name["six"].host.address}:{PORT}',
                'listed6': f'[{hub.address6}]:{PORT}',
                'nobody': f'10.80.0.250:{PORT}'}[event.args[0]]
        if not node.running or peer in node.listed:
            return None
        port = node.port
        node.add_peer(peer)
        node.listed.add(peer)

        def end():
            node.listed.discard(peer)
            if node.port is port and node.running:
                node.del_peer(peer)
        return [(event.seconds, f'{node} has {peer} no more', end)]

    def _flush(self, node, event):
        if not node.running:
            return None
        what = event.args[0]
        node.flush(None if what == 'all' else self.station[what].mac)
        return []

    def _reconnect(self, node, event):
        number, here, there, family = event.args
        self.connect(number, self.station[here], self.station[there], family)
        return []
