# SPDX-License-Identifier: GPL-2.0-or-later
"""A port under attack: a flood at the rate of one core, and what it costs.

Three ports and an enemy on one switch:

    target   the port that is attacked; serves the other two
    friend   sends TCP to the target all the time
    other    its datagrams, and the friend's, are recorded for replay
    enemy    no port: tests/lib/flood.c, from invented addresses

siege() returns a Report, having checked what must hold at any rate: all that
the kernel counted is in the port's counters, to the last datagram.
"""

import dataclasses
import re
import socket
import struct
import time
from pathlib import Path

import qdeswire
from ports import QDES_TAP
from procs import wait_for
from streams import Streams

FLOOD = Path(QDES_TAP).parents[2] / 'tests/unit/flood'
NETWORK = '10.80.0.0'           # the underlay's, and of invented senders
PLAIN = ['random', 'replay', 'flip', 'cut', 'checksum']
SEALED = [*PLAIN, 'session']
WARM_UP = 0.5                   # seconds, until TCP has its pace
PACKET_OUTGOING = 4
ETH_P_ALL = 3

# What the flood makes any port say, once.
FULL = re.compile(r'more than \d+ peers')
SAID = [r'speaks version \d+', 'and this port has no key',
        'does not seal what it sends', 'secret does not open', FULL.pattern]

COUNT = """
table inet count {
    counter heard { }
    counter hostile { }
    # A bit flipped in a recorded ping makes it UDP, in the port's frames.
    chain inside {
        type filter hook prerouting priority -300;
        iifname "tap0" meta l4proto udp drop
    }
    chain input {
        type filter hook input priority 0;
        meta l4proto udp counter name heard
        meta l4proto udp ip saddr 10.80.0.0/16 ip saddr != 10.80.0.0/24 \
            counter name hostile
    }
}
"""


@dataclasses.dataclass
class Report:
    """What a siege() found."""
    sent: dict                  # kind -> datagrams
    rate: float                 # datagrams a second
    megabits: float             # a second, with IP headers
    heard: int                  # UDP datagrams at the target's kernel
    hostile: int                # of those, from invented addresses
    counted: int                # by the port
    dropped: int                # of those, dropped by the kernel
    before: float               # bytes a second of TCP
    during: float
    after: float
    memory: int                 # bytes that the port grew, after warming up
    resident: int               # bytes at the end
    log: int                    # bytes that it wrote
    changes: dict               # of its counters

    @property
    def share(self):
        return self.during / self.before

    def __str__(self):
        kinds = ', '.join(f'{n} {kind}' for kind, n in self.sent.items() if n)
        drops = ', '.join(
            f'{name[8:]} {n}' for name, n in sorted(
                self.changes.items(), key=lambda item: -item[1])
            if name.startswith('rx-drop-'))
        return (f'sent: {kinds}\n'
                f'rate: {self.rate / 1e3:.0f} 000 datagrams/s, '
                f'{self.megabits:.0f} Mb/s\n'
                f'heard: {self.heard} UDP datagrams, {self.hostile} of them '
                f'hostile; counted: {self.counted}, of which the kernel '
                f'dropped {self.dropped}\n'
                f'drops: {drops}\n'
                f'TCP: {self.before * 8e-6:.0f} Mb/s before, '
                f'{self.during * 8e-6:.0f} during ({self.share:.0%}), '
                f'{self.after * 8e-6:.0f} after\n'
                f'memory: {self.resident >> 10} KiB, '
                f'{self.memory >> 10} KiB more than at its start\n'
                f'log: {self.log} bytes')


def record(host, actions, count=64):
    """Payloads of UDP datagrams that a host hears while ACTIONS run."""
    sock = host.socket(socket.AF_PACKET, socket.SOCK_DGRAM,
                       socket.htons(ETH_P_ALL))
    sock.bind(('eth0', ETH_P_ALL))
    sock.setblocking(False)
    found = []

    def read():
        try:
            while True:
                packet, (_, proto, kind, _, _) = sock.recvfrom(1 << 16)
                if (proto != 0x0800 or kind == PACKET_OUTGOING or
                        packet[9] != socket.IPPROTO_UDP):
                    continue
                start = (packet[0] & 15) * 4 + 8
                if len(packet) - start <= 1472:
                    found.append(packet[start:])
        except BlockingIOError:
            pass
    for action in actions:
        action()
        read()
    assert len(found) >= count, f'only {len(found)} datagrams were recorded'
    sock.close()
    return found


def write_templates(path, datagrams):
    with open(path, 'wb') as file:
        for data in datagrams:
            file.write(struct.pack('>H', len(data)) + data)


def udp_counts(host):
    """What the kernel counts of UDP in the namespace of a host."""
    lines = [line.split() for line in
             host.run('cat /proc/net/snmp').stdout.splitlines()
             if line.startswith('Udp:')]
    counts = dict(zip(lines[0][1:], map(int, lines[1][1:])))
    text = host.run('nft list counters table inet count').stdout
    counts.update((name, int(n)) for name, n in re.findall(
        r'counter (\w+) {\s+packets (\d+)', text))
    return {name: n for name, n in counts.items()
            if name not in ('OutDatagrams', 'SndbufErrors')}


def pace(stream, seconds):
    """Bytes a second that arrive meanwhile."""
    start, before = time.monotonic(), stream.received
    time.sleep(seconds)
    return (stream.received - before) / (time.monotonic() - start)


def snapshot(target):
    """The kernel's counts and the port's, of one moment when all is quiet."""
    calm = []

    def steady():
        kernel = udp_counts(target.host)
        counters = target.counters
        calm.append((time.monotonic(), kernel, counters['rx-datagrams']))
        # A second is how long a sealed datagram may wait for a proof.
        since = [at for at, *what in calm if what == list(calm[-1][1:])]
        return (calm[-1][0] - since[0] > 1.2 and
                udp_counts(target.host) == kernel and (kernel, counters))
    return wait_for(steady, 60, lambda: f'{target} to come to rest: {calm[-1]}',
                    interval=0.05)


def set_up(tap, hosts, secret_path=None, **options):
    """Three ports for a siege(), by tap(host, **options)."""
    options.setdefault('netid', 42)
    if secret_path:
        secret_path.write_text('a secret that nobody guesses')
        secret_path.chmod(0o600)
        options['secret_file'] = secret_path
    ports = [tap(host, **options) for host in hosts]
    for number, port in enumerate(ports, 1):
        port.configure(f'10.81.0.{number}/24')
    for port in ports:
        port.wait_peers(2)
        for text in SAID:
            port.logs.allow(text)
    return ports


def bad_vectors():
    return [v['bytes'] for v in qdeswire.load_vectors()
            if v['result'] != 'ok' and len(v['bytes']) <= 1472]


def siege(ports, enemy, kinds, seconds, seed, folder):
    """Flood the first of three PORTS, which have 10.81.0.1 to .3."""
    target, friend, other = ports
    host = target.host
    path = Path(folder, 'templates')
    write_templates(path, record(host, [
        *(lambda size=size, port=port: port.host.assert_ping(
            '10.81.0.1', count=5, size=size, interval=0.01)
          for size in range(0, 1300, 100) for port in (friend, other)),
        *(lambda: other.host.ping('10.81.0.77', count=1, deadline=1)
          for _ in range(2)),
    ]) + bad_vectors())
    host.nft(COUNT)
    log = len(target.process.log)
    kernel, counters = snapshot(target)
    streams = Streams([(friend.host, host, '10.81.0.1')], None, 1, seed, 120)
    stream = streams.streams[0]
    wait_for(lambda: stream.received, 10, 'TCP to begin')
    time.sleep(WARM_UP)
    before = pace(stream, 2)
    address, _, number = target.address.rpartition(':')
    flood = enemy.start([FLOOD, address, number, seconds, seed, NETWORK, path,
                         *kinds], 'flood')
    # The first part is for tables to fill, that of peers as fast as they are
    # invented; to ask for its size would take memory, too.
    started, received = time.monotonic(), stream.received
    time.sleep(seconds / 4)
    if 'session' not in kinds:
        wait_for(lambda: FULL.search(target.process.log) or not flood.running,
                 seconds + 60, 'the table of peers to be full')
    memory = target.process.memory()
    assert flood.wait(seconds + 60) == 0, flood.log
    during = (stream.received - received) / (time.monotonic() - started)
    resident = target.process.memory()
    sent = {name: int(n) for name, n in
            re.findall(r'^(\w+) (\d+)$', flood.log, re.MULTILINE)}
    size, ms = sent.pop('bytes'), sent.pop('ms')
    received = stream.received
    wait_for(lambda: stream.received > received + (1 << 20), 20,
             'TCP to go on after the flood')
    time.sleep(WARM_UP)
    after = pace(stream, 2)
    streams.finish()
    kernel_end, counters_end = snapshot(target)
    kernel = {name: n - kernel[name] for name, n in kernel_end.items()}
    changes = {name: n - counters[name] for name, n in counters_end.items()
               if n != counters[name]}
    report = Report(
        sent=sent, rate=sum(sent.values()) * 1000 / ms,
        megabits=size * 8e-3 / ms, heard=kernel['heard'],
        hostile=kernel['hostile'],
        counted=changes['rx-datagrams'] + changes.get('rx-drop-kernel', 0),
        dropped=changes.get('rx-drop-kernel', 0), before=before,
        during=during, after=after, memory=resident - memory,
        resident=resident, log=len(target.process.log) - log,
        changes=changes)
    print(report)
    check(report, kernel)
    return report


def check(report, kernel):
    """What must hold at any rate."""
    total = sum(report.sent.values())
    assert total * 0.5 <= report.hostile <= total, \
        f'of {total} datagrams {report.hostile} came as far as the target'
    assert kernel['NoPorts'] == kernel['IgnoredMulti'] == 0, kernel
    assert kernel['InDatagrams'] + kernel['InErrors'] == report.heard, kernel
    assert report.changes['rx-datagrams'] == kernel['InDatagrams'], \
        (report.changes, kernel)
    assert report.dropped == kernel['InErrors'], (report.changes, kernel)
    # Whoever was there is where he was.
    for name in 'fdb-moved', 'fdb-flushed', 'fdb-evicted':
        assert name not in report.changes, report.changes
    assert report.memory < 1 << 20, f'{report.memory} bytes more'
    assert report.log < 4096, f'{report.log} bytes of log'
