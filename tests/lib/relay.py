#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A wire with faults: relay.py --seed N [OPTION]... IFACE IFACE

Passes Ethernet frames between two interfaces, and drops, doubles, reorders or
delays some of those that carry UDP, fragments of such included; ARP and the
like pass unharmed.  With --group-only, just multicast is passed, and the rest
is left to the kernel's routing.

The wire is between network cards that offload nothing but checksums, which it
passes on unfinished: whoever uses it has to see to it that no train and no
superframe comes here whole, or one fault would hit all of it (no_offloads()).
"""

import argparse
import heapq
import json
import random
import select
import signal
import socket
import sys
import time
from pathlib import Path

RELAY = Path(__file__).resolve()
ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
VNET_SIZE = 10
SO_RCVBUFFORCE = 33
ROOM = 70000


def no_offloads(namespace, interface):
    """What leaves by it are packets as on a wire.

    A veth takes trains and superframes whole, as its other end may take them,
    so that whatever looks at packets there sees many as one.
    """
    # But for checksums: older kernels send no trains without.
    namespace.run(f'ethtool -K {interface} tso off gso off gro off')
    # Not there in older kernels, which do not offload it either.
    namespace.run(f'ethtool -K {interface} tx-udp-segmentation off',
                  check=False)


class Wire:
    """Two hosts, and the namespace of a relay between them.

    h1 eth0 --- left (relay) right --- eth0 h2
    """

    def __init__(self, net, seed, **faults):
        self.hosts = [net.host('h1'), net.host('h2')]
        self.relay = net.namespace('relay')
        for number, (host, end) in enumerate(zip(self.hosts,
                                                 ('left', 'right')), 1):
            host.ip(f'link add eth0 type veth peer name {end} netns '
                    f'{self.relay.full_name}')
            host.enable_ipv6('eth0')
            host.addresses.append(f'10.80.0.{number}')
            host.addresses6.append(f'fd80::{number}')
            host.ip('link set eth0 up',
                    f'addr add {host.address}/24 dev eth0',
                    f'addr add {host.address6}/64 dev eth0 nodad',
                    'route add default dev eth0')
            self.relay.ip(f'link set {end} up')
            no_offloads(host, 'eth0')
            no_offloads(self.relay, end)
        options = [f'--{k}={v}' for k, v in faults.items()]
        self.process = self.relay.start(
            ['/usr/bin/python3', RELAY, '--seed', seed, *options,
             'left', 'right'], 'relay')
        self.process.wait_log('ready')

    def faults(self):
        """End the relay; how many frames it passed, dropped, ..."""
        self.process.stop()
        return json.loads(self.process.log.splitlines()[-1])


def is_udp(frame):
    """Over IP, in one piece or as a fragment; no VLAN tags."""
    frame = frame[VNET_SIZE:VNET_SIZE + 60]
    if frame[12:14] == b'\x08\0':
        return frame[23] == 17
    return frame[12:14] == b'\x86\xdd' and (
        frame[20] == 17 or (frame[20] == 44 and frame[54] == 17))


class End:
    """One side, whose frames come and go by it."""

    def __init__(self, name):
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        self.sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        # Before each frame comes a virtio_net_hdr, and is given back.
        self.sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.sock.bind((name, ETH_P_ALL))
        self.sock.setblocking(False)

    def fileno(self):
        return self.sock.fileno()

    def send(self, frame):
        try:
            self.sock.send(frame)
        except OSError:
            pass        # too long for this side: a switch would drop it, too


class Relay:
    """Frames between two Ends, and those that are on their way."""

    def __init__(self, args):
        self.args = args
        self.rnd = random.Random(args.seed)
        self.ends = [End(args.left), End(args.right)]
        self.later = []         # (when, number, end, frame)
        self.number = 0
        self.count = dict.fromkeys(['udp', 'drop', 'duplicate', 'reorder'], 0)

    def keep(self, end, frame, seconds):
        self.number += 1
        heapq.heappush(self.later, (time.monotonic() + seconds, self.number,
                                    end, frame))

    def take(self, frame, end):
        """Pass one frame on, or not."""
        args, rnd = self.args, self.rnd
        if args.group_only:
            if frame[VNET_SIZE] & 1 and is_udp(frame):
                self.ends[end].send(frame)
            return
        if not is_udp(frame):
            self.ends[end].send(frame)
            return
        self.count['udp'] += 1
        if rnd.random() * 100 < args.drop:
            self.count['drop'] += 1
            return
        copies = 1
        if rnd.random() * 100 < args.duplicate:
            self.count['duplicate'] += 1
            copies = 2
        for _ in range(copies):
            if rnd.random() * 100 < args.reorder:
                self.count['reorder'] += 1
                self.keep(end, frame, rnd.random() * args.late / 1000)
            else:
                self.ends[end].send(frame)

    def run(self):
        while True:
            timeout = None
            if self.later:
                timeout = max(0, self.later[0][0] - time.monotonic())
            for end in select.select(self.ends, [], [], timeout)[0]:
                to = 1 - self.ends.index(end)
                for _ in range(64):
                    try:
                        self.take(end.sock.recv(ROOM), to)
                    except BlockingIOError:
                        break
            now = time.monotonic()
            while self.later and self.later[0][0] <= now:
                _, _, to, frame = heapq.heappop(self.later)
                self.ends[to].send(frame)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--seed', type=int, required=True)
    for name in 'drop', 'duplicate', 'reorder':
        parser.add_argument(f'--{name}', type=float, default=0,
                            help='of a hundred datagrams')
    parser.add_argument('--late', type=float, default=3,
                        help='milliseconds that a reordered one is late')
    parser.add_argument('--group-only', action='store_true')
    parser.add_argument('left')
    parser.add_argument('right')
    relay = Relay(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    print('ready', flush=True)
    try:
        relay.run()
    finally:
        print(json.dumps(relay.count), flush=True)


if __name__ == '__main__':
    main()
