# SPDX-License-Identifier: GPL-2.0-or-later
"""Homes behind NAT, and the internet between them.

    inside (10.80.1.0/24)        router            internet (10.80.0.0/24)
    host eth0 ---------------- eth1   eth0 ------------------- public host

How a router treats UDP (RFC 4787):

    port-restricted   one port outside for each one inside, if it is free;
                      lets in who was sent to: what Linux and most homes do
    full-cone         the port outside lets everybody in, as with a port
                      that was mapped by hand or by UPnP
    symmetric         another port outside for each destination
"""

import os
import socket
import struct

UDP_PORT = 20804                # that full-cone maps to the host inside

# linux/netfilter/nfnetlink_conntrack.h: to delete without a tuple is to flush.
NETLINK_NETFILTER = 12
CT_DELETE = 1 << 8 | 2
NLM_F_REQUEST_ACK = 5


def rules(kind, inside):
    masquerade = 'masquerade'
    mapping = ''
    if kind == 'symmetric':
        masquerade = 'masquerade random,fully-random'
    elif kind == 'full-cone':
        mapping = f'iif eth0 udp dport {UDP_PORT} dnat to {inside}'
    else:
        assert kind == 'port-restricted', kind
    # What nobody asked for is dropped unseen: a connection that is noted
    # could take the port that the other direction needs.
    return f'''
table ip home {{
    chain in {{
        type filter hook input priority 0; policy accept;
        iif eth0 ct state new drop
    }}
    chain through {{
        type filter hook forward priority 0; policy accept;
        iif eth0 ct state new ct status & dnat == 0 drop
    }}
    chain before {{
        type nat hook prerouting priority -100; policy accept;
        {mapping}
    }}
    chain after {{
        type nat hook postrouting priority 100; policy accept;
        oif eth0 {masquerade}
    }}
}}
'''


class Home:
    """A host behind a router of a kind; .host is inside."""

    def __init__(self, net, internet, kind, name):
        switch = net.switch()
        # The inside first, so that its eth1 is on the router's own network.
        self.router = net.host(f'{name}-router', internet, switch,
                               default_route=False)
        self.host = net.host(name, switch, default_route=False)
        self.router.sysctl('net.ipv4.ip_forward', 1)
        self.host.ip(f'route add default via {self.router.addresses[1]}')
        self.router.nft(rules(kind, self.host.address))

    @property
    def address(self):
        """What the internet sees."""
        return self.router.addresses[0]

    def forget(self, ports=None):
        """The router restarts: all mappings are gone, and new ones get one of
        the PORTS ('41000-41999') if that is said."""
        if ports:
            self.router.nft('flush chain ip home after\n'
                            'table ip home { chain after { oif eth0 '
                            f'meta l4proto udp masquerade to :{ports}; }}; }}')
        sock = self.router.socket(socket.AF_NETLINK, socket.SOCK_RAW,
                                  NETLINK_NETFILTER)
        sock.send(struct.pack('=IHHIIBBH', 20, CT_DELETE, NLM_F_REQUEST_ACK,
                              1, 0, socket.AF_UNSPEC, 0, 0))
        error = struct.unpack_from('=i', sock.recv(4096), 16)[0]
        assert error == 0, os.strerror(-error)
