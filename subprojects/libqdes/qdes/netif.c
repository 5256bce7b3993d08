/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Interfaces: which one has the group, and which addresses are ours. */

#include "qdes/netif.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool interface_addr(QdesAddr *addr, const struct ifaddrs *ifa)
{
    return ifa->ifa_addr && qdes_addr_from_sockaddr(addr, ifa->ifa_addr);
}

static void set_name(QdesNetif *netif, const char *name)
{
    netif->index = if_nametoindex(name);
    if (netif->index) {
        g_strlcpy(netif->name, name, sizeof(netif->name));
    }
}

static void find_by_addr(QdesNetif *netif, const struct ifaddrs *all,
                         const QdesAddr *wanted)
{
    const struct ifaddrs *ifa;
    QdesAddr addr;

    for (ifa = all; ifa; ifa = ifa->ifa_next) {
        if (interface_addr(&addr, ifa) && qdes_addr_same_host(&addr, wanted)) {
            set_name(netif, ifa->ifa_name);
            return;
        }
    }
}

/*
 * Connecting a UDP socket sends nothing; it makes the kernel look up its
 * route and choose the source address, which tells the interface.
 */
static void find_by_route(QdesNetif *netif, const struct ifaddrs *all,
                          const QdesAddr *group)
{
    struct sockaddr_storage ss;
    socklen_t len = qdes_addr_to_sockaddr(group, &ss);
    int fd = socket(ss.ss_family, SOCK_DGRAM, 0);
    QdesAddr addr;

    if (fd < 0) {
        return;
    }
    if (connect(fd, (struct sockaddr *)&ss, len) == 0) {
        len = sizeof(ss);
        if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
            qdes_addr_from_sockaddr(&addr, (struct sockaddr *)&ss)) {
            find_by_addr(netif, all, &addr);
        }
    }
    close(fd);
}

static void set_index(QdesNetif *netif, unsigned index)
{
    if (if_indextoname(index, netif->name)) {
        netif->index = index;
    }
}

static void find_loopback(QdesNetif *netif, const struct ifaddrs *all)
{
    const struct ifaddrs *ifa;

    for (ifa = all; ifa; ifa = ifa->ifa_next) {
        if ((ifa->ifa_flags & IFF_LOOPBACK) && (ifa->ifa_flags & IFF_UP)) {
            set_name(netif, ifa->ifa_name);
            return;
        }
    }
}

/*
 * What the group sees as source of what is sent to it by the very interface;
 * false when nothing can be sent that way.
 */
static bool find_source(QdesAddr *source, const QdesNetif *netif,
                        const QdesAddr *group)
{
    struct ip_mreqn mreqn = { .imr_ifindex = netif->index };
    bool v4 = qdes_addr_is_v4(group);
    QdesAddr to = *group;
    struct sockaddr_storage ss;
    socklen_t len;
    bool ok;
    int fd;

    to.scope = qdes_addr_needs_scope(group) ? netif->index : 0;
    len = qdes_addr_to_sockaddr(&to, &ss);
    fd = socket(ss.ss_family, SOCK_DGRAM, 0);
    if (fd < 0) {
        return false;
    }
    ok = (v4 ? setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &mreqn,
                          sizeof(mreqn))
             : setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &netif->index,
                          sizeof(netif->index))) == 0 &&
         connect(fd, (struct sockaddr *)&ss, len) == 0;
    len = sizeof(ss);
    ok = ok && getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
         qdes_addr_from_sockaddr(source, (struct sockaddr *)&ss);
    close(fd);
    source->port = 0;
    if (ok && qdes_addr_needs_scope(source)) {
        source->scope = netif->index;
    }
    return ok;
}

/*
 * Is there a route for the group through the very interface?  IPv4 needs none
 * when the interface is given; IPv6 does, and on loopback it exists only where
 * root has made one: without it every frame would be lost.
 */
static bool has_route(const QdesNetif *netif, const QdesAddr *group)
{
    QdesAddr source;

    return qdes_addr_is_v4(group) || find_source(&source, netif, group);
}

static bool is_loopback(const QdesNetif *netif, const struct ifaddrs *all)
{
    const struct ifaddrs *ifa;

    for (ifa = all; ifa; ifa = ifa->ifa_next) {
        if (strcmp(ifa->ifa_name, netif->name) == 0) {
            return ifa->ifa_flags & IFF_LOOPBACK;
        }
    }
    return false;
}

/* Returns false when there is no descriptor to ask with. */
static bool set_mtu(QdesNetif *netif)
{
    struct ifreq ifr = { .ifr_mtu = 0 };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    if (fd < 0) {
        return false;
    }
    g_strlcpy(ifr.ifr_name, netif->name, sizeof(ifr.ifr_name));
    if (netif->index && ioctl(fd, SIOCGIFMTU, &ifr) == 0) {
        netif->mtu = ifr.ifr_mtu;
    }
    close(fd);
    return true;
}

/* What peers see, or an address of the interface that they can use, if any. */
static void set_addr(QdesNetif *netif, const struct ifaddrs *all,
                     const QdesConfig *config)
{
    bool v4 = qdes_addr_is_v4(&config->group);
    const struct ifaddrs *ifa;
    QdesAddr addr;

    netif->addr = config->local;
    netif->addr.port = 0;
    if (!qdes_addr_is_any(&netif->addr) || !netif->index ||
        !config->has_group) {
        return;
    }
    if (find_source(&addr, netif, &config->group) &&
        !qdes_addr_is_any(&addr)) {
        netif->addr = addr;
        return;
    }
    for (ifa = all; ifa; ifa = ifa->ifa_next) {
        if (strcmp(ifa->ifa_name, netif->name) == 0 &&
            interface_addr(&addr, ifa) && qdes_addr_is_v4(&addr) == v4) {
            netif->addr = addr;
            if (!addr.scope) {
                return;
            }
        }
    }
}

static bool is_running(const struct ifaddrs *ifa)
{
    return (ifa->ifa_flags & IFF_UP) && (ifa->ifa_flags & IFF_RUNNING);
}

bool qdes_netif_find(QdesNetif *netif, const QdesConfig *config, int route,
                     GArray *own)
{
    struct ifaddrs *all = NULL;
    const struct ifaddrs *ifa;
    QdesAddr addr;
    bool known;

    memset(netif, 0, sizeof(*netif));
    known = getifaddrs(&all) == 0;
    if (!known) {
        all = NULL;
    }
    if (!config->has_group) {
        find_by_addr(netif, all, &config->local);
    } else if (config->iface[0]) {
        set_name(netif, config->iface);
    } else if (!qdes_addr_is_any(&config->local)) {
        find_by_addr(netif, all, &config->local);
        if (!netif->index && qdes_addr_is_loopback(&config->local)) {
            /* All of 127.0.0.0/8 is this host's, though one is listed. */
            find_loopback(netif, all);
        }
    } else {
        if (route > 0) {
            set_index(netif, route);
        } else if (route < 0) {
            find_by_route(netif, all, &config->group);
        }
        if (!netif->index) {
            find_loopback(netif, all);
            netif->fallback = netif->index != 0;
        }
    }
    if (config->has_group && is_loopback(netif, all) &&
        !has_route(netif, &config->group)) {
        memset(netif, 0, sizeof(*netif));
    }
    set_addr(netif, all, config);
    known = set_mtu(netif) && known;
    g_array_set_size(own, 0);
    for (ifa = all; ifa; ifa = ifa->ifa_next) {
        if (interface_addr(&addr, ifa)) {
            addr.port = is_running(ifa);
            g_array_append_val(own, addr);
        }
    }
    if (all) {
        freeifaddrs(all);
    }
    return known;
}

bool qdes_netif_equal(const QdesNetif *a, const QdesNetif *b)
{
    return a->index == b->index && strcmp(a->name, b->name) == 0 &&
           a->fallback == b->fallback &&
           qdes_addr_same_host(&a->addr, &b->addr);
}
