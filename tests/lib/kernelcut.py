# SPDX-License-Identifier: GPL-2.0-or-later
"""TAP devices that a test itself reads and writes, and the kernel between.

What the kernel's own segmentation makes of a superframe is seen where there
is no way but to segment: on a TAP without offloads.

    the test -> in0 (virtio_net_hdr) -> br0 -> out0 (nothing) -> the test
"""

import contextlib
import fcntl
import functools
import os
import select
import struct
import time

from frames import ETH_P_TEST, frame, marker
from packets import UDP, Packet, Vnet

TUNSETIFF = 0x400454ca
TUNSETVNETHDRSZ = 0x400454d8
TUNSETVNETLE = 0x400454dc
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
MTU = 65521         # bytes, the most that a TAP has
ROOM = 70000


class OwnTap:
    """A TAP whose user is the test: the kernel's side is as HEADER says."""

    def __init__(self, namespace, name, header=False, bridge=None, mtu=MTU):
        with namespace.entered():
            self.fd = os.open('/dev/net/tun',
                              os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        namespace.network.on_close.append(self.close)
        flags = IFF_TAP | IFF_NO_PI | (IFF_VNET_HDR if header else 0)
        fcntl.ioctl(self.fd, TUNSETIFF,
                    struct.pack('16sH22x', name.encode(), flags))
        if header:
            fcntl.ioctl(self.fd, TUNSETVNETHDRSZ, struct.pack('i', 10))
            fcntl.ioctl(self.fd, TUNSETVNETLE, struct.pack('i', 1))
        self.header = header
        # As many frames as may come out of a few superframes.
        namespace.ip(f'link set {name} mtu {mtu} txqueuelen 10000' +
                     (f' master {bridge}' if bridge else ''),
                     f'link set {name} up')

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def write(self, data, vnet=None):
        if self.header:
            data = bytes(vnet or Vnet()) + data
        assert os.write(self.fd, data) == len(data)

    def read(self, timeout=5.0):
        """The next frame, or None after TIMEOUT seconds without one."""
        end = time.monotonic() + timeout
        while True:
            try:
                return os.read(self.fd, ROOM)[10 if self.header else 0:]
            except BlockingIOError:
                left = end - time.monotonic()
                if left <= 0 or not select.select([self.fd], [], [],
                                                  left)[0]:
                    return None

    def read_until(self, last, timeout=5.0):
        """All frames before this one."""
        found = []
        while True:
            data = self.read(timeout)
            assert data is not None, \
                f'no {last[:40].hex()} after {len(found)} frames'
            if data == last:
                return found
            found.append(data)

    def read_some(self, count, timeout=5.0):
        """COUNT frames, or fewer when none comes for TIMEOUT seconds."""
        found = []
        while len(found) < count:
            data = self.read(timeout)
            if data is None:
                break
            found.append(data)
        return found


def add_bridge(namespace, name='br0', mtu=MTU):
    # Where netfilter looks into what is bridged, it drops what it dislikes.
    for version in 'ip', 'ip6':
        with contextlib.suppress(OSError):
            namespace.sysctl(f'net.bridge.bridge-nf-call-{version}tables', 0)
    namespace.ip(f'link add {name} type bridge forward_delay 0 stp_state 0 '
                 'mcast_snooping 0', f'link set {name} mtu {mtu} up')


class KernelCut:
    """The kernel as the reference."""

    def __init__(self, net):
        namespace = net.namespace('kernel')
        add_bridge(namespace)
        self.into = OwnTap(namespace, 'in0', header=True, bridge='br0')
        self.out = OwnTap(namespace, 'out0', bridge='br0')

    @functools.cached_property
    def has_uso(self):
        """Does the kernel take superframes of UDP?  Linux 6.2 and later."""
        p = Packet(proto=UDP, payload=bytes(100))
        try:
            return len(self.cut(p.encode(partial=True), p.vnet(50))) == 2
        except OSError:
            return False

    def cut(self, data, vnet):
        """What the kernel makes of a frame and its virtio_net_hdr."""
        last = frame('02:51:ff:00:00:02', '02:51:ff:00:00:01', marker(),
                     ETH_P_TEST)
        self.into.write(data, vnet)
        self.into.write(last)
        return self.out.read_until(last)
