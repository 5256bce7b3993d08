# SPDX-License-Identifier: GPL-2.0-or-later
"""What -netdev qdes adds to QEMU: its files, and lines in QEMU's own.

A table, for scripts/qemu-overlay to apply.  What versions of QEMU differ in
is here, as several ways for one hook.
"""

from typing import NamedTuple

# Each stands in QEMU where it stands here.
LINKS = [
    'net/qdes.c',
    'net/qdes.h',
    'net/qdes-compat.h',
    'net/qdes-monitor.c',
    'qapi/qdes.json',
    'subprojects/libqdes',
    'tests/qtest/qdes-lib.c',
    'tests/qtest/qdes-lib.h',
    'tests/qtest/qdes-offload-test.c',
    'tests/qtest/qdes-options-test.c',
    'tests/qtest/qdes-run-test.c',
    'tests/qtest/qdes-seal-test.c',
    'tests/qtest/qdes-test.c',
]


class Way(NamedTuple):
    """One way to hook in: an anchor, and the lines to add beside it."""
    anchor: str
    text: str
    given: str = ''             # only in a file that has this line


class Hook(NamedTuple):
    """Lines to add to a file."""
    file: str
    place: str                  # 'before' or 'after' the anchor
    ways: tuple                 # for different versions of QEMU; first fits


def hook(file, place, anchor, text):
    """A hook that is the same in all versions."""
    return Hook(file, place, (Way(anchor, text),))


HOOKS = [
    # --- QAPI: the types, -netdev's list of backends ----------------------
    # Before net.json, as the union Netdev there needs the struct from here,
    # and with the heading of its part of the manual, as versions write it.
    Hook('qapi/qapi-schema.json', 'before', (Way("""\
{ 'include': 'net.json' }
""", """\
##
# ***********
# QDES netdev
# ***********
##
{ 'include': 'qdes.json' }
""", given="# Introduction\n"), Way("""\
{ 'include': 'net.json' }
""", """\
##
# = QDES netdev
##
{ 'include': 'qdes.json' }
""", given="# = Introduction\n"))),
    hook('qapi/net.json', 'after', """\
{ 'include': 'sockets.json' }
""", """\
{ 'include': 'qdes.json' }
"""),
    hook('qapi/net.json', 'before', """\
            { 'name': 'vmnet-host', 'if': 'CONFIG_VMNET' },
""", """\
            { 'name': 'qdes', 'if': 'CONFIG_QDES' },
"""),
    hook('qapi/net.json', 'before', """\
    'vmnet-host': { 'type': 'NetdevVmnetHostOptions',
""", """\
    'qdes':     { 'type': 'NetdevQdesOptions',
                  'if': 'CONFIG_QDES' },
"""),
    # Its members are documented in words up to 7.2, as members after.
    Hook('qapi/net.json', 'before', (Way("""\
# Since: 2.7
##
{ 'enum': 'NetClientDriver',
""", """\
# @qdes: since 11.1
#
"""), Way("""\
#        @dgram since 7.2
##
{ 'enum': 'NetClientDriver',
""", """\
#        @qdes since 11.1
"""))),
    hook('qapi/meson.build', 'after', """\
  'pragma',
""", """\
  'qdes',
"""),

    # --- The list of backends ---------------------------------------------
    hook('net/clients.h', 'after', """\
int net_init_dgram(const Netdev *netdev, const char *name,
                   NetClientState *peer, Error **errp);
""", """\

#ifdef CONFIG_QDES
int net_init_qdes(const Netdev *netdev, const char *name,
                  NetClientState *peer, Error **errp);
#endif
"""),
    hook('net/net.c', 'after', """\
        [NET_CLIENT_DRIVER_HUBPORT]   = net_init_hubport,
""", """\
#ifdef CONFIG_QDES
        [NET_CLIENT_DRIVER_QDES]      = net_init_qdes,
#endif
"""),
    hook('net/net.c', 'after', """\
        "hubport",
""", """\
#ifdef CONFIG_QDES
        "qdes",
#endif
"""),
    # Without it, a hub with a NIC and a qdes netdev is said to lead nowhere.
    hook('net/hub.c', 'before', """\
            case NET_CLIENT_DRIVER_VHOST_USER:
""", """\
#ifdef CONFIG_QDES
            case NET_CLIENT_DRIVER_QDES:
#endif
"""),
    # Lists and nested members in options: key.0=value, key.member=value.
    hook('net/net.c', 'after', """\
    is_modern = !g_strcmp0(type, "stream") || !g_strcmp0(type, "dgram");
""", """\
#ifdef CONFIG_QDES
    is_modern = is_modern || !g_strcmp0(type, "qdes");
#endif
"""),

    # --- Build --------------------------------------------------------------
    Hook('net/meson.build', 'after', (Way("""\
system_ss.add(when: slirp, if_true: files('slirp.c'))
""", """\
system_ss.add(when: libqdes, if_true: files('qdes.c', 'qdes-monitor.c'))
"""), Way("""\
softmmu_ss.add(when: slirp, if_true: files('slirp.c'))
""", """\
softmmu_ss.add(when: libqdes, if_true: files('qdes.c', 'qdes-monitor.c'))
"""))),
    hook('meson.build', 'after', """\
config_host_data.set('CONFIG_L2TPV3', have_l2tpv3)
""", """\

have_qdes = have_system and host_machine.system() != 'windows'
config_host_data.set('CONFIG_QDES', have_qdes)
"""),
    hook('meson.build', 'before', """\
vhost_user = not_found
""", """\
libqdes = not_found
if have_qdes
  libqdes = subproject('libqdes').get_variable('libqdes_dep')
endif

"""),
    hook('meson.build', 'after', """\
summary_info += {'l2tpv3 support':    have_l2tpv3}
""", """\
summary_info += {'QDES support':      have_qdes}
"""),

    # --- Command line help and manual -------------------------------------
    hook('qemu-options.hx', 'before', """\
    "-netdev hubport,id=str,hubid=n[,netdev=nd]\\n"
""", """\
#ifdef CONFIG_QDES
    "-netdev qdes,id=str[,mcast=addr[:port]|off][,peers.0=host[:port]]\\n"
    "         [,netid=n][,localaddr=addr[:port]]\\n"
    "         [,iface=name][,ttl=n][,encap=qdes|vxlan|vxvde][,name=text]\\n"
    "         [,ageing=seconds][,max-macs=n][,learning=on|off]\\n"
    "         [,unknown-unicast=flood|drop]\\n"
    "         [,storm-control=n|off][,loop-guard=on|off][,mac.0=mac]\\n"
    "         [,max-local-macs=n][,mac-violation=drop|learn-none][,mss-clamp=on|off]\\n"
    "         [,vnet-hdr=on|off][,gso=on|off][,superframes=on|off][,relay=on|off]\\n"
    "         [,sndbuf=size][,rcvbuf=size]\\n"
    "         [,secret=id[,secret-old=id][,cipher=name]]\\n"
    "                configure a network backend that is a port of a distributed\\n"
    "                Ethernet switch, together with all others of the same multicast\\n"
    "                group 'addr:port' (default=239.192.81.68:20804) and network ID 'n'\\n"
    "                (default=0); needs no privileges\\n"
    "                use 'peers.0=host', 'peers.1=host' ... for those that the group does\\n"
    "                not reach, by address or name, and 'mcast=off' for no group\\n"
    "                use 'localaddr=addr' or 'iface=name' to choose the network interface\\n"
    "                (default=the one with a route to the group)\\n"
    "                use 'ttl=n' to let floods take n hops (default=1)\\n"
    "                use 'encap=vxlan' to be one of a VXLAN fabric of kernels and\\n"
    "                switches, 'encap=vxvde' to be one with VDE's vxvde://\\n"
    "                use 'name=text' for how other ports show this one\\n"
    "                (default=the name of the guest, or str)\\n"
    "                use 'ageing=seconds' to forget MAC addresses that are not heard\\n"
    "                (default=300), 'max-macs=n' to bound their number (default=32768),\\n"
    "                'learning=off' to flood everything, 'unknown-unicast=drop' to\\n"
    "                flood no unicast\\n"
    "                use 'storm-control=n' to flood no more than n frames per second\\n"
    "                (default=100000), 'loop-guard=on' where the guest bridges\\n"
    "                use 'mac.0=mac', 'mac.1=mac' ... for the MAC addresses that the\\n"
    "                guest may send from and peers may not, 'max-local-macs=n' to bound\\n"
    "                their number; 'mac-violation=learn-none' has frames of others pass\\n"
    "                without being learned (default=drop)\\n"
    "                use 'mss-clamp=off' to leave alone what TCP connections agree on,\\n"
    "                'vnet-hdr=off' to offer the guest no offloads, 'gso=off' to send\\n"
    "                and receive each datagram by itself, 'superframes=off' to cut\\n"
    "                superframes even where the path carries more than the guest's MTU\\n"
    "                use 'relay=on' to pass frames between peers that cannot reach\\n"
    "                each other\\n"
    "                use 'sndbuf=size' and 'rcvbuf=size' for the sockets' buffers\\n"
    "                use 'secret=id' of an -object secret to seal everything,\\n"
    "                'secret-old=id' while it is changed\\n"
#endif
"""),
    hook('qemu-options.hx', 'after', """\
    "-nic [tap|bridge|"
""", """\
#ifdef CONFIG_QDES
    "qdes|"
#endif
"""),
    hook('qemu-options.hx', 'after', """\
    "bridge|"
""", """\
#ifdef CONFIG_QDES
    "qdes|"
#endif
"""),
    hook('qemu-options.hx', 'before', """\
``-netdev hubport,id=id,hubid=hubid[,netdev=nd]``
""", """\
``-netdev qdes,id=id[,mcast=addr[:port]|off][,peers.0=host[:port]][,netid=n][,localaddr=addr[:port]][,iface=name][,ttl=n][,encap=qdes|vxlan|vxvde][,name=text][,ageing=seconds][,max-macs=n][,learning=on|off][,unknown-unicast=flood|drop][,storm-control=n|off][,loop-guard=on|off][,mac.0=mac][,max-local-macs=n][,mac-violation=drop|learn-none][,mss-clamp=on|off][,vnet-hdr=on|off][,gso=on|off][,superframes=on|off][,relay=on|off][,sndbuf=size][,rcvbuf=size][,secret=id[,secret-old=id][,cipher=name]]``
    Configure a network backend that is a port of a QDES fabric, an
    Ethernet switch without a switch in the middle. All ports with the
    same group and network ID are on one network, whether on one host
    or on many: a frame that no port is known for goes to the multicast
    group, and once it is known which port has a MAC address, frames to
    it go there alone. It needs no privileges and no set-up of the host.

    ``mcast=addr[:port]``
        Multicast group, IPv4 or [IPv6], or off. Default is
        239.192.81.68:20804.

    ``peers.0=host[:port]``, ``peers.1=host[:port]``, ...
        Ports that the group does not reach, by address or by a DNS name,
        which stands for all its addresses, or by ``_service._udp.name``,
        whose SRV records tell hosts and ports. With ``-nic`` and
        ``-net``, write ``peers=host``, several times if need be.

    ``netid=n``
        Network ID, 0 to 4294967295. Ports with another one are not
        heard. It separates networks, and does not protect them: whoever
        can send to a port can use any. Default is 0.

    ``localaddr=addr[:port]``
        Address of the host that everything is sent from, and that
        unicast is received at. It chooses the network interface, too.
        Default is what the route to the group says, and any port.

    ``iface=name``
        Network interface to join the group on.

    ``ttl=n``
        Hops that what goes to the group may take. Default is 1, which
        does not leave the local network.

    ``encap=qdes|vxlan|vxvde``
        How frames are wrapped in UDP. With ``vxlan`` (RFC 7348), the
        port is one of a fabric of kernels' vxlan devices, Open vSwitch
        and others; the default group is 239.192.81.68:4789, the network
        ID is the VNI, up to 16777215, and several ports on one host need
        a ``localaddr`` each. With ``vxvde``, it meets VDE's
        ``vxvde://``; the default group is 239.0.0.1:14789, the default
        network ID 1. Default is qdes.

    ``name=text``
        How other ports show this one. Default is the name of the guest
        (``-name``) or, without, the id of the netdev.

    ``ageing=seconds``
        Time after which a MAC address that was not heard is forgotten.
        Default is 300.

    ``max-macs=n``
        MAC addresses that are remembered at most, those of peers and of
        the guest. Default is 32768.

    ``learning=on|off``
        With off, everything is flooded. Default is on.

    ``unknown-unicast=flood|drop``
        What to do with a frame to a unicast MAC address that was not
        learned. Default is flood.

    ``storm-control=n|off``
        How many frames per second the guest can send to all, or to a
        MAC address that nobody is known to have. The rest is dropped
        and counted. Default is 100000, or off with ``learning=off``.

    ``loop-guard=on|off``
        With on, probes are sent to the guest, to find out whether it
        bridges this network to another port of the same one. One of
        the two is blocked then. Default is off, as few guests bridge.

    ``mac.0=mac``, ``mac.1=mac``, ...
        MAC addresses that the guest may send from. They are here
        whatever is heard: a peer's frame from one of them is dropped.
        Not with ``-nic``, where ``mac`` is that of the NIC. Default is
        any.

    ``max-local-macs=n``
        How many MAC addresses the guest may send from at a time: those
        of ``mac``, and beside them those that it used first. Default is
        no limit, or only those of ``mac``.

    ``mac-violation=drop|learn-none``
        What to do with frames of the guest from other MAC addresses:
        drop them, or let them pass and learn nothing of them. Default
        is drop.

    ``mss-clamp=on|off``
        When a TCP connection is opened, have both sides agree on
        segments that fit into one packet of the path between the
        ports. Default is on.

    ``vnet-hdr=on|off``
        Offer checksum and segmentation offloads to the guest, if its
        NIC has them: frames pass with a virtio_net_hdr, up to 64 KiB at
        once. Default is on. From there, a guest with virtio-net can
        only migrate to a port that has them on, too.

    ``gso=on|off``
        Let the kernel send and receive many datagrams of one size at
        once (UDP GSO and GRO), where it can. Default is on.

    ``superframes=on|off``
        Where the path between two ports carries more than the guest's
        MTU, as loopback and jumbo frames do, leave whole what TCP and
        UDP offloads put together. Default is on; with ``vxlan`` and
        ``vxvde``, which cannot carry that, off.

    ``relay=on|off``
        Pass frames between peers that cannot reach each other, as two
        behind symmetric NATs, when both ask for it. Default is off.

    ``sndbuf=size``, ``rcvbuf=size``
        Size of the sockets' buffers. Default is the system's for sending,
        and 4 MiB or as much as the system grants for receiving.

    ``secret=id``
        The ID of a secret object, of 16 to 4096 bytes. Everything is
        encrypted and authenticated by it: only ports that have the same
        one hear each other.

    ``secret-old=id``
        The one that ``secret`` replaces, while other ports have no
        other. The monitor command ``qdes-set-secret`` changes both.

    ``cipher=auto|aes-256-gcm|chacha20-poly1305``
        What to encrypt by. Default is auto: AES where the processor has
        instructions for it. Others are understood either way.

    The monitor commands ``info qdes`` and ``query-qdes`` show the other
    ports, where each MAC address is, and what was dropped and why;
    ``qdes-fdb-add``, ``qdes-fdb-del`` and ``qdes-fdb-flush`` change where
    MAC addresses are, ``qdes-peer-add`` and ``qdes-peer-del`` the list of
    peers.

    Example:

    .. parsed-literal::

        # two guests on one network, on one host or on two of a LAN
        |qemu_system| linux.img \\\\
                         -device virtio-net-pci,netdev=n1,mac=52:54:00:12:34:56 \\\\
                         -netdev qdes,id=n1,netid=42
        |qemu_system| linux.img \\\\
                         -device virtio-net-pci,netdev=n1,mac=52:54:00:12:34:57 \\\\
                         -netdev qdes,id=n1,netid=42

"""),

    # --- Monitor --------------------------------------------------------------
    hook('include/monitor/hmp.h', 'after', """\
void hmp_info_iothreads(Monitor *mon, const QDict *qdict);
""", """\
void hmp_info_qdes(Monitor *mon, const QDict *qdict);
"""),
    hook('hmp-commands-info.hx', 'after', """\
SRST
  ``info network``
    Show the network state.
ERST
""", """\

#if defined(CONFIG_QDES)
    {
        .name       = "qdes",
        .args_type  = "",
        .params     = "",
        .help       = "show the ports, MAC addresses and counters of each "
                      "qdes netdev",
        .cmd        = hmp_info_qdes,
    },
#endif

SRST
  ``info qdes``
    Show what each netdev of type qdes knows of the other ports of its
    network, where each MAC address is, and its counters.
ERST
"""),

    # --- Tests, maintainers -------------------------------------------------
    hook('tests/qtest/meson.build', 'before', """\
qtests_x86_64 = qtests_i386
""", """\
if have_qdes
  qdes_qtests = ['qdes-test', 'qdes-offload-test', 'qdes-options-test',
                 'qdes-run-test', 'qdes-seal-test']
  qtests_i386 += qdes_qtests
  foreach test : qdes_qtests
    slow_qtests += {test: 120}
  endforeach
endif

"""),
    hook('tests/qtest/meson.build', 'before', """\
foreach dir : target_dirs
""", """\
if have_qdes
  foreach test : qdes_qtests
    qtests += {test: files('qdes-lib.c')}
  endforeach
endif

"""),
    hook('MAINTAINERS', 'before', """\
Host Memory Backends
""", """\
QDES network backend
L: qemu-devel@nongnu.org
S: Maintained
F: net/qdes*
F: qapi/qdes.json
F: subprojects/libqdes/
F: tests/qtest/qdes-*

"""),
]
