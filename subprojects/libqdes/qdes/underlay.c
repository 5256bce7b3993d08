/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Underlay: the UDP sockets of a port, by calls that every host has. */

#include "qdes/underlay-io.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "qdes/encap.h"

#define DEFAULT_RCVBUF (4 << 20) /* bytes: dozens of trains in flight */
#define IPV4_HEADERS (20 + 8)   /* bytes, with UDP's */
#define IPV6_HEADERS (40 + 8)
#define MIN_MTU 576             /* bytes; less than that is an error */
#define UNKNOWN_MTU 1280        /* bytes; what IPv6 asks of every link */
#define IOV_PIECES 128          /* of one datagram */

enum { GROUP, UNICAST, N_SOCKETS };

struct QdesUnderlay {
    QdesConfig config;
    const QdesUnderlayOs *os;
    bool v4;                    /* the group's family */
    int fd[N_SOCKETS];
    int monitor_fd;
    uint32_t drops_seen[N_SOCKETS];
    uint64_t drops;
    QdesNetif netif;
    bool joined;
    QdesAddr bound;             /* of the unicast socket */
    GArray *own;                /* QdesAddr, all addresses of this host, with
                                   port 1 if their interface is running */
    QdesUnderlayIo io;
};

static bool system_error(GError **errp, const char *option, const char *value,
                         const char *what)
{
    int err = errno;

    g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM, "%s=%s: %s: %s", option,
                value, what, g_strerror(err));
    return false;
}

static int level(const QdesUnderlay *u)
{
    return u->v4 ? IPPROTO_IP : IPPROTO_IPV6;
}

static bool set_int(int fd, int at, int option, int value)
{
    return setsockopt(fd, at, option, &value, sizeof(value)) == 0;
}

static int open_socket(bool v4, bool dual)
{
    int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);

    if (fd >= 0) {
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        if (!v4) {
            set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, !dual);
        }
    }
    return fd;
}

static bool open_group(QdesUnderlay *u, GError **errp)
{
    QdesAddr addr = u->config.group;
    char text[QDES_ADDR_STRLEN];
    struct sockaddr_storage ss;
    socklen_t len;
    int fd;

    qdes_addr_format(&addr, text);
    fd = u->fd[GROUP] = open_socket(u->v4, false);
    if (fd < 0) {
        return system_error(errp, "mcast", text, "cannot open a socket");
    }
    set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
#if defined(SO_REUSEPORT) && !defined(__linux__)
    /* On BSDs, sharing a multicast port takes this one. */
    set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
#endif
    u->os->prepare_group(fd, u->v4);
    if (qdes_addr_needs_scope(&addr)) {
        /* Bound to such a group, a socket would be tied to one interface. */
        addr = qdes_addr_any(false, addr.port);
    }
    len = qdes_addr_to_sockaddr(&addr, &ss);
    if (bind(fd, (struct sockaddr *)&ss, len) == 0) {
        return true;
    }
    if (errno == EADDRINUSE) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM,
                    "mcast=%s: UDP port %u is held by a program that does "
                    "not share it; end it or choose another port", text,
                    addr.port);
        return false;
    }
    return system_error(errp, "mcast", text, "cannot bind to it");
}

/* A socket can be bound to one, but only connected with SO_BROADCAST. */
bool qdes_underlay_is_broadcast(const QdesAddr *addr)
{
    struct sockaddr_storage ss;
    QdesAddr to = *addr;
    socklen_t len;
    bool ret;
    int fd;

    to.port = 9;                /* none is sent to, but 0 is no port */
    len = qdes_addr_to_sockaddr(&to, &ss);
    fd = socket(ss.ss_family, SOCK_DGRAM, 0);
    ret = fd >= 0 && qdes_addr_is_v4(addr) &&
          connect(fd, (struct sockaddr *)&ss, len) < 0 && errno == EACCES;
    if (fd >= 0) {
        close(fd);
    }
    return ret;
}

/* All ports of a host have the same UDP port: only their addresses differ. */
static void port_in_use(QdesUnderlay *u, GError **errp)
{
    QdesAddr local = u->config.local;
    uint16_t port = local.port;
    char text[QDES_ADDR_STRLEN];

    local.port = 0;
    g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM,
                "localaddr=%s: UDP port %u, at which encap=%s takes frames, is "
                "held here already: by another port, or by a vxlan device of "
                "the kernel. Ports share it when each has a localaddr= of its "
                "own (such as one more address of the interface); a kernel's "
                "device does not: give another port by mcast=ADDR:PORT, or "
                "use a network namespace",
                qdes_addr_format(&local, text), port, u->config.encap->name);
}

static bool set_ttl(QdesUnderlay *u, int fd)
{
    return !u->config.has_group ||
           set_int(fd, level(u), u->v4 ? IP_MULTICAST_TTL
                                       : IPV6_MULTICAST_HOPS, u->config.ttl);
}

/*
 * A socket of both families, if asked for and if this host has such: without
 * IPv6, or where an IPv6 socket sends to no IPv4 group, it is one of IPv4.
 */
static int open_sender(QdesUnderlay *u)
{
    QdesConfig *c = &u->config;
    bool v4 = qdes_addr_is_v4(&c->local);
    int fd = open_socket(v4, c->dual);

    if (c->dual && (fd < 0 || !set_ttl(u, fd))) {
        if (fd >= 0) {
            close(fd);
        }
        v4 = u->v4 || !c->has_group;
        c->dual = false;
        c->local = qdes_addr_any(v4, c->local.port);
        fd = open_socket(v4, false);
    }
    u->io.dual = c->dual;
    u->io.os = u->os;
    if (fd >= 0) {
        u->os->prepare_unicast(fd, v4 || c->dual, !v4);
    }
    return fd;
}

static int bind_to(int fd, const QdesAddr *local)
{
    struct sockaddr_storage ss;
    socklen_t len = qdes_addr_to_sockaddr(local, &ss);

    return bind(fd, (struct sockaddr *)&ss, len);
}

/*
 * A port without a group is to be found where others list it: at the usual
 * port if that is free.
 */
static int bind_unicast(const QdesUnderlay *u, int fd)
{
    QdesAddr local = u->config.local;

    if (!u->config.has_group && !local.port) {
        local.port = u->config.encap->port;
        if (bind_to(fd, &local) == 0) {
            /* Only groups' sockets share it: what is bound to be alone, as
             * this was, is refused. */
            set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
            return 0;
        }
    }
    return bind_to(fd, &u->config.local);
}

static bool open_unicast(QdesUnderlay *u, GError **errp)
{
    char text[QDES_ADDR_STRLEN];
    struct sockaddr_storage ss;
    socklen_t len;
    int fd;

    qdes_addr_format(&u->config.local, text);
    fd = u->fd[UNICAST] = open_sender(u);
    if (fd < 0) {
        return system_error(errp, "localaddr", text, "cannot open a socket");
    }
    if (!set_ttl(u, fd)) {
        return system_error(errp, "localaddr", text, "cannot set the TTL");
    }
    if (bind_unicast(u, fd) < 0) {
        switch (errno) {
        case EADDRNOTAVAIL:
            g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM,
                        "localaddr=%s: not an address of this host; "
                        "'ip address' lists them", text);
            return false;
        case EADDRINUSE:
            if (u->config.encap->one_port) {
                port_in_use(u, errp);
                return false;
            }
            g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM,
                        "localaddr=%s: UDP port %u is in use; choose another "
                        "or leave it out", text, u->config.local.port);
            return false;
        default:
            return system_error(errp, "localaddr", text, "cannot bind to it");
        }
    }
    if (qdes_underlay_is_broadcast(&u->config.local)) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM,
                    "localaddr=%s: a broadcast address, which nobody can "
                    "answer to; give an address of this host", text);
        return false;
    }
    if (u->config.encap->one_port) {
        /* Groups' sockets may have it from now on. */
        set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    }
    len = sizeof(ss);
    if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0 ||
        !qdes_addr_from_sockaddr(&u->bound, (struct sockaddr *)&ss)) {
        return system_error(errp, "localaddr", text, "cannot be read back");
    }
    return true;
}

static bool open_sockets(QdesUnderlay *u, GError **errp)
{
    if (u->config.encap->one_port) {
        /* Who has the fabric's UDP port already, though with groups' sockets,
         * is noticed by one that does not share it yet. */
        return open_unicast(u, errp) &&
               (!u->config.has_group || open_group(u, errp));
    }
    return (!u->config.has_group || open_group(u, errp)) &&
           open_unicast(u, errp);
}

/*
 * Of the sockets from @first on, @bytes or else @otherwise; what is asked for
 * and not granted is said once.
 */
static void set_buffers(QdesUnderlay *u, const char *name, int first,
                        int option, int bytes, int otherwise,
                        const QdesHost *host, void *opaque)
{
    bool said = bytes > 0;
    int granted;
    int i;

    bytes = granted = bytes ? bytes : otherwise;
    for (i = first; bytes && i < N_SOCKETS; i++) {
        if (u->fd[i] >= 0) {
            granted = MIN(granted,
                          u->os->set_buffer(u->fd[i], option, bytes));
        }
    }
    if (said && granted < bytes) {
        g_autofree char *text =
            g_strdup_printf("%s=%d: the system grants %d bytes; its limit is "
                            "net.core.%cmem_max", name, bytes, granted,
                            option == SO_SNDBUF ? 'w' : 'r');
        host->log(opaque, QDES_LOG_WARNING, text);
    }
}

QdesUnderlay *qdes_underlay_new(const QdesConfig *config, const QdesHost *host,
                                void *opaque, GError **errp)
{
    QdesUnderlay *u = g_new0(QdesUnderlay, 1);

    u->config = *config;
    u->v4 = qdes_addr_is_v4(&config->group);
    u->fd[GROUP] = u->fd[UNICAST] = u->monitor_fd = -1;
    u->own = g_array_new(false, false, sizeof(QdesAddr));
    u->os = &qdes_underlay_plain;
#ifdef __linux__
    if (!config->plain_io) {
        u->os = &qdes_underlay_linux;
    }
#endif
    if (!open_sockets(u, errp)) {
        qdes_underlay_free(u);
        return NULL;
    }
    set_buffers(u, "sndbuf", UNICAST, SO_SNDBUF, config->sndbuf, 0, host,
                opaque);
    set_buffers(u, "rcvbuf", GROUP, SO_RCVBUF, config->rcvbuf,
                DEFAULT_RCVBUF, host, opaque);
    u->io.rx = g_malloc(QDES_RX_BATCH * QDES_RX_STRIDE);
    u->os->io_open(&u->io, u->fd[UNICAST], u->fd[GROUP], config->gso);
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
    if (u->fd[GROUP] >= 0) {
        close(u->fd[GROUP]);
    }
    if (u->fd[UNICAST] >= 0) {
        close(u->fd[UNICAST]);
    }
    if (u->monitor_fd >= 0) {
        close(u->monitor_fd);
    }
    g_array_free(u->own, true);
    g_free(u);
}

int qdes_underlay_group_fd(const QdesUnderlay *u)
{
    return u->fd[GROUP];
}

int qdes_underlay_unicast_fd(const QdesUnderlay *u)
{
    return u->fd[UNICAST];
}

int qdes_underlay_monitor_fd(const QdesUnderlay *u)
{
    return u->monitor_fd;
}

/* As the unicast socket takes it. */
static socklen_t to_sockaddr(const QdesUnderlayIo *io, const QdesAddr *addr,
                             struct sockaddr_storage *ss)
{
    return io->dual ? qdes_addr_to_sockaddr6(addr, ss)
                    : qdes_addr_to_sockaddr(addr, ss);
}

static bool change_membership(QdesUnderlay *u, int option, unsigned index)
{
    struct group_req req = { .gr_interface = index };

    qdes_addr_to_sockaddr(&u->config.group, &req.gr_group);
    return setsockopt(u->fd[GROUP], level(u), option, &req, sizeof(req)) == 0;
}

static bool send_by(QdesUnderlay *u, int index)
{
    struct ip_mreqn mreqn = { .imr_ifindex = index };

    if (u->v4) {
        return setsockopt(u->fd[UNICAST], IPPROTO_IP, IP_MULTICAST_IF, &mreqn,
                          sizeof(mreqn)) == 0;
    }
    return set_int(u->fd[UNICAST], IPPROTO_IPV6, IPV6_MULTICAST_IF, index);
}

static bool join(QdesUnderlay *u, unsigned index)
{
    QdesAddr group = u->config.group;

    u->os->filter_group(u->fd[GROUP], &u->config, &u->bound, index);
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
    u->io.group_len = to_sockaddr(&u->io, &group, &u->io.group);
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
    return qdes_addr_is_any(&u->bound) && (v4 > 1 || v6 > 1);
}

static void watch_choice(QdesUnderlay *u)
{
    bool choice = has_choice(u);

    if (choice != u->io.tells_at) {
        u->io.tells_at = choice;
        u->os->tell_at(u->fd[UNICAST], !qdes_addr_is_v4(&u->bound), choice);
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
        u->os->filter_group(u->fd[GROUP], &u->config, &u->bound,
                            u->netif.index);
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
    QdesAddr local = u->bound;

    if (qdes_addr_is_any(&local)) {
        local = u->netif.addr;
        local.port = u->bound.port;
    }
    return local;
}

socklen_t qdes_underlay_io_to(const QdesUnderlayIo *io, const QdesTrain *train,
                              struct sockaddr_storage *to)
{
    if (train->flood) {
        memcpy(to, &io->group, sizeof(*to));
        return io->group_len;
    }
    return to_sockaddr(io, &train->to, to);
}

size_t qdes_underlay_io_from(const QdesUnderlayIo *io, const QdesTrain *train,
                             struct msghdr *msg, size_t used)
{
    return train->from
           ? io->os->put_from(msg, used, io->dual ||
                              !qdes_addr_is_v4(&train->to), train->from)
           : used;
}

int qdes_underlay_io_send_each(QdesUnderlayIo *io, int fd, QdesTrain *train)
{
    struct sockaddr_storage to;
    struct iovec iov[IOV_PIECES];
    union {
        struct cmsghdr align;
        char buf[QDES_CONTROL_SIZE];
    } control;
    struct msghdr msg = {
        .msg_name = &to,
        .msg_namelen = qdes_underlay_io_to(io, train, &to),
        .msg_iov = iov,
        .msg_control = &control,
    };
    size_t size;
    ssize_t ret;
    int pieces;

    if (msg.msg_namelen == 0) {
        train->failed = train->size - train->sent;
        return -ENODEV;
    }
    msg.msg_controllen = qdes_underlay_io_from(io, train, &msg, 0);
    if (!msg.msg_controllen) {
        msg.msg_control = NULL;
    }
    while (train->sent < train->size) {
        size = train->failed = MIN(train->segment, train->size - train->sent);
        pieces = qdes_train_slice(train, train->sent, size, iov, IOV_PIECES);
        g_assert(pieces > 0);
        msg.msg_iovlen = pieces;
        do {
            ret = sendmsg(fd, &msg, 0);
        } while (ret < 0 && errno == EINTR);
        if (ret < 0) {
            return -errno;
        }
        train->sent += size;
    }
    return 0;
}

int qdes_underlay_send(QdesUnderlay *u, QdesTrain *trains, int n)
{
    return u->os->send(&u->io, u->fd[UNICAST], trains, n);
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
    return qdes_underlay_io_send_each(&u->io, u->fd[UNICAST], &train);
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
            trains[i].from.port = u->bound.port;
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

    if (from->port != u->bound.port) {
        return false;
    }
    if (!qdes_addr_is_any(&u->bound)) {
        return qdes_addr_same_host(from, &u->bound);
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
    return u->os->unreachable(u->fd[UNICAST], peer);
}

uint64_t qdes_underlay_drops(QdesUnderlay *u)
{
    uint32_t now;
    int i;

    for (i = u->fd[GROUP] >= 0 ? GROUP : UNICAST; i < N_SOCKETS; i++) {
        now = u->os->drops(u->fd[i]);
        u->drops += (uint32_t)(now - u->drops_seen[i]);
        u->drops_seen[i] = now;
    }
    return u->drops;
}
