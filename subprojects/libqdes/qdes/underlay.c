/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Underlay: where the group is joined, which addresses are ours, and what goes
 * out and comes in, by calls that every host has.
 */

#include "qdes/underlay-io.h"
#include "qdes/underlay-sockets.h"

#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "qdes/encap.h"

#define IPV4_HEADERS (20 + 8)   /* bytes, with UDP's */
#define IPV6_HEADERS (40 + 8)
#define MIN_MTU 576             /* bytes; less than that is an error */
#define UNKNOWN_MTU 1280        /* bytes; what IPv6 asks of every link */

struct QdesUnderlay {
    QdesConfig config;
    const QdesUnderlayOs *os;
    bool v4;                    /* the group's family */
    QdesSockets sockets;
    int monitor_fd;
    uint32_t group_drops, unicast_drops; /* of the kernel, as seen last */
    uint64_t drops;
    QdesNetif netif;
    bool joined;
    GArray *own;                /* QdesAddr, all addresses of this host, with
                                   port 1 if their interface is running */
    QdesUnderlayIo io;
};

QdesUnderlay *qdes_underlay_new(const QdesConfig *config, const QdesHost *host,
                                void *opaque, GError **errp)
{
    QdesUnderlay *u = g_new0(QdesUnderlay, 1);

    u->config = *config;
    u->v4 = qdes_addr_is_v4(&config->group);
    u->monitor_fd = -1;
    u->own = g_array_new(false, false, sizeof(QdesAddr));
    u->os = &qdes_underlay_plain;
#ifdef __linux__
    if (!config->plain_io) {
        u->os = &qdes_underlay_linux;
    }
#endif
    if (!qdes_sockets_open(&u->sockets, &u->config, u->os, errp)) {
        qdes_underlay_free(u);
        return NULL;
    }
    qdes_sockets_set_buffers(&u->sockets, config, u->os, host, opaque);
    u->io.dual = u->config.dual;
    u->io.os = u->os;
    u->io.rx = g_malloc(QDES_RX_BATCH * QDES_RX_STRIDE);
    u->os->io_open(&u->io, u->sockets.unicast, u->sockets.group,
                   config->gso);
    /* Watch first, look afterwards: so no change falls in between. */
    u->monitor_fd = u->os->monitor_open();
    qdes_underlay_refresh(u);
    return u;
}

void qdes_underlay_free(QdesUnderlay *u)
{
    if (!u) {
        return;
    }
    if (u->io.rx) {
        u->os->io_close(&u->io);
        g_free(u->io.rx);
    }
    qdes_sockets_close(&u->sockets);
    if (u->monitor_fd >= 0) {
        close(u->monitor_fd);
    }
    g_array_free(u->own, true);
    g_free(u);
}

int qdes_underlay_group_fd(const QdesUnderlay *u)
{
    return u->sockets.group;
}

int qdes_underlay_unicast_fd(const QdesUnderlay *u)
{
    return u->sockets.unicast;
}

int qdes_underlay_monitor_fd(const QdesUnderlay *u)
{
    return u->monitor_fd;
}

static bool change_membership(QdesUnderlay *u, int option, unsigned index)
{
    struct group_req req = { .gr_interface = index };

    qdes_addr_to_sockaddr(&u->config.group, &req.gr_group);
    return setsockopt(u->sockets.group, u->v4 ? IPPROTO_IP : IPPROTO_IPV6,
                      option, &req, sizeof(req)) == 0;
}

static bool send_by(QdesUnderlay *u, int index)
{
    struct ip_mreqn mreqn = { .imr_ifindex = index };

    if (u->v4) {
        return setsockopt(u->sockets.unicast, IPPROTO_IP, IP_MULTICAST_IF,
                          &mreqn, sizeof(mreqn)) == 0;
    }
    return setsockopt(u->sockets.unicast, IPPROTO_IPV6, IPV6_MULTICAST_IF,
                      &index, sizeof(index)) == 0;
}

static void filter_group(QdesUnderlay *u, unsigned index)
{
    u->os->filter_group(u->sockets.group, &u->config, &u->sockets.bound,
                        index);
}

static bool join(QdesUnderlay *u, unsigned index)
{
    QdesAddr group = u->config.group;

    filter_group(u, index);
    if (!change_membership(u, MCAST_JOIN_GROUP, index)) {
        return false;
    }
    if (!send_by(u, index)) {
        change_membership(u, MCAST_LEAVE_GROUP, index);
        return false;
    }
    if (qdes_addr_needs_scope(&group)) {
        group.scope = index;
    }
    u->io.group_len = qdes_underlay_io_sockaddr(&u->io, &group, &u->io.group);
    return true;
}

/* The addresses of this host, or whether they can be used, are others than
 * they were in @was. */
static bool host_changed(const QdesUnderlay *u, const GArray *was)
{
    const QdesAddr *now = (const QdesAddr *)u->own->data;
    guint i;

    if (was->len != u->own->len) {
        return true;
    }
    for (i = 0; i < was->len; i++) {
        if (!qdes_addr_equal(&now[i], &g_array_index(was, QdesAddr, i))) {
            return true;
        }
    }
    return false;
}

static QdesRefresh refresh_group(QdesUnderlay *u, QdesNetif *netif)
{
    bool was_joined = u->joined;

    if (qdes_netif_equal(netif, &u->netif) && was_joined) {
        u->netif.mtu = netif->mtu;
        return QDES_REFRESH_SAME;
    }
    if (was_joined) {
        change_membership(u, MCAST_LEAVE_GROUP, u->netif.index);
    }
    if (was_joined && netif->index == u->netif.index &&
        join(u, netif->index)) {
        /*
         * Joined anew all the same: an interface may lose its groups together
         * with its addresses, and switches may have to hear of a new one.
         */
        u->netif = *netif;
        return QDES_REFRESH_ADDRESS;
    }
    u->joined = netif->index && join(u, netif->index);
    if (!u->joined) {
        u->io.group_len = 0;
        /* Not to be found equal next time, when joining may work. */
        memset(netif, 0, sizeof(*netif));
        netif->addr = qdes_addr_any(u->v4, 0);
    }
    u->netif = *netif;
    return u->joined ? QDES_REFRESH_JOINED :
           was_joined ? QDES_REFRESH_LOST : QDES_REFRESH_SAME;
}

/*
 * Where peers may send to one address or another of this host, what goes back
 * has to come from the same one: firewalls and NATs let in nothing else.
 * Loopback's own addresses, and those of a link, are no choice.
 */
static bool has_choice(const QdesUnderlay *u)
{
    unsigned v4 = 0, v6 = 0;
    const QdesAddr *addr;
    guint i;

    for (i = 0; i < u->own->len; i++) {
        addr = &g_array_index(u->own, QdesAddr, i);
        if (!qdes_addr_is_loopback(addr) && !qdes_addr_needs_scope(addr)) {
            *(qdes_addr_is_v4(addr) ? &v4 : &v6) += 1;
        }
    }
    return qdes_addr_is_any(&u->sockets.bound) && (v4 > 1 || v6 > 1);
}

static void watch_choice(QdesUnderlay *u)
{
    bool choice = has_choice(u);

    if (choice != u->io.tells_at) {
        u->io.tells_at = choice;
        u->os->tell_at(u->sockets.unicast,
                       !qdes_addr_is_v4(&u->sockets.bound), choice);
    }
}

/*
 * From an interface that has lost its addresses, Linux sends to IPv4 groups
 * with those of any other, such as that of the port's own TAP device: peers
 * would look for us there.
 */
static void choose_group_source(QdesUnderlay *u)
{
    u->io.group_from = qdes_addr_any(u->v4, 0);
    if (u->v4 && u->joined && qdes_addr_is_any(&u->sockets.bound)) {
        u->io.group_from = u->netif.addr;
    }
}

QdesRefresh qdes_underlay_refresh(QdesUnderlay *u)
{
    GArray *was = u->own;
    QdesRefresh result = QDES_REFRESH_SAME;
    QdesNetif netif;
    bool known;

    u->own = g_array_new(false, false, sizeof(QdesAddr));
    known = qdes_netif_find(&netif, &u->config,
                            u->config.has_group ?
                            u->os->group_route(&u->config.group) : 0, u->own);
    if (!known && was->len) {
        g_array_free(u->own, true);
        u->own = was;
        return QDES_REFRESH_UNKNOWN;
    }
    watch_choice(u);
    if (u->config.has_group) {
        result = refresh_group(u, &netif);
        choose_group_source(u);
    } else {
        u->netif = netif;
    }
    if (result == QDES_REFRESH_SAME && was->len && host_changed(u, was)) {
        result = u->config.dual || !u->config.has_group
                 ? QDES_REFRESH_HOST : QDES_REFRESH_ELSEWHERE;
    }
    g_array_free(was, true);
    return result;
}

void qdes_underlay_set_pseudonyms(QdesUnderlay *u, const uint32_t *pseudonyms,
                                  unsigned n)
{
    g_assert(n <= QDES_PSEUDONYMS_MAX);
    memcpy(u->config.pseudonyms, pseudonyms, n * sizeof(*pseudonyms));
    u->config.n_pseudonyms = n;
    if (u->joined) {
        filter_group(u, u->netif.index);
    }
}

void qdes_underlay_drain_monitor(QdesUnderlay *u)
{
    u->os->monitor_drain(u->monitor_fd);
}

const QdesNetif *qdes_underlay_netif(const QdesUnderlay *u)
{
    return &u->netif;
}

QdesAddr qdes_underlay_local(const QdesUnderlay *u)
{
    QdesAddr local = u->sockets.bound;

    if (qdes_addr_is_any(&local)) {
        local = u->netif.addr;
        local.port = u->sockets.bound.port;
    }
    return local;
}

int qdes_underlay_send(QdesUnderlay *u, QdesTrain *trains, int n)
{
    return u->os->send(&u->io, u->sockets.unicast, trains, n);
}

int qdes_underlay_send_one(QdesUnderlay *u, const QdesAddr *to,
                           const QdesAddr *from, const void *data,
                           size_t size)
{
    struct iovec iov = { .iov_base = (void *)data, .iov_len = size };
    QdesTrain train = {
        .flood = !to,
        .from = from,
        .iov = &iov,
        .iovcnt = 1,
        .size = size,
        .segment = size,
    };

    if (to) {
        train.to = *to;
    }
    return qdes_underlay_io_send_each(&u->io, u->sockets.unicast, &train);
}

int qdes_underlay_receive(QdesUnderlay *u, int fd, QdesRxTrain *trains,
                          int max, bool *more)
{
    static const uint8_t loopback[4] = { 127, 0, 0, 1 };
    int n = u->os->receive(&u->io, fd, trains, max, more);
    int i;

    for (i = 0; i < n; i++) {
        if (qdes_addr_is_v4(&trains[i].from) &&
            qdes_addr_is_any(&trains[i].from)) {
            /*
             * A host with no address but loopback's sends to groups so, and
             * by unicast from that; it is one endpoint all the same.
             */
            memcpy(trains[i].from.ip + 12, loopback, sizeof(loopback));
        }
        if (u->config.encap->one_port) {
            trains[i].from.port = u->sockets.bound.port;
        }
    }
    return n;
}

size_t qdes_underlay_room(const QdesUnderlay *u, const QdesAddr *to)
{
    bool v4 = to ? qdes_addr_is_v4(to) : u->v4;
    int headers = v4 ? IPV4_HEADERS : IPV6_HEADERS;
    int mtu = to ? u->os->path_mtu(to) : 0;

    if (mtu <= 0) {
        mtu = u->netif.mtu > 0 ? u->netif.mtu : UNKNOWN_MTU;
    }
    return MIN(MAX(mtu, MIN_MTU), 65535) - headers;
}

bool qdes_underlay_segments(const QdesUnderlay *u)
{
    return u->io.segment;
}

bool qdes_underlay_reaches(const QdesUnderlay *u, const QdesAddr *addr)
{
    return qdes_config_reaches(&u->config, addr);
}

bool qdes_underlay_sends_from(const QdesUnderlay *u, const QdesAddr *addr)
{
    const QdesAddr *own = (const QdesAddr *)u->own->data;
    guint i;

    for (i = 0; i < u->own->len; i++) {
        if (own[i].port && qdes_addr_same_host(addr, &own[i])) {
            return true;
        }
    }
    return false;
}

bool qdes_underlay_is_own(const QdesUnderlay *u, const QdesAddr *from)
{
    const QdesAddr *own = (const QdesAddr *)u->own->data;
    guint i;

    if (from->port != u->sockets.bound.port) {
        return false;
    }
    if (!qdes_addr_is_any(&u->sockets.bound)) {
        return qdes_addr_same_host(from, &u->sockets.bound);
    }
    for (i = 0; i < u->own->len; i++) {
        if (qdes_addr_same_host(from, &own[i])) {
            return true;
        }
    }
    return false;
}

bool qdes_underlay_unreachable(QdesUnderlay *u, QdesAddr *peer)
{
    return u->os->unreachable(u->sockets.unicast, peer);
}

static void count_drops(QdesUnderlay *u, int fd, uint32_t *seen)
{
    uint32_t now = u->os->drops(fd);

    u->drops += (uint32_t)(now - *seen);
    *seen = now;
}

uint64_t qdes_underlay_drops(QdesUnderlay *u)
{
    if (u->config.has_group) {
        count_drops(u, u->sockets.group, &u->group_drops);
    }
    count_drops(u, u->sockets.unicast, &u->unicast_drops);
    return u->drops;
}
