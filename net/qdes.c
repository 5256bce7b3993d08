/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -netdev qdes: a port of a distributed Ethernet switch
 *
 * A thin adapter.  The switch is libqdes; this file lends it QEMU's main
 * loop, clock, randomness and log, and carries frames between it and the
 * peer of the netdev (a NIC or a hub port):
 *
 *   peer -> net_qdes_receive_iov() -> qdes_fabric_send()
 *   qdes_fabric_ready() -> net_qdes_deliver() -> peer
 *
 * Both directions can come to a halt, and neither drops a frame for it:
 *
 * - The socket is full: net_qdes_receive_iov() returns 0, which leaves the
 *   frame in the netdev's queue, until net_qdes_has_room() flushes the queue.
 * - The peer is full or the VM is stopped: QEMU queues the one frame at hand,
 *   and the fabric reads nothing more until net_qdes_sent().  What arrives
 *   meanwhile waits in the kernel, as far as the socket's buffer goes.
 *
 * A fabric must not be called from within its own callbacks, but QEMU's net
 * layer does call back: a hub, for instance, can return slirp's answer before
 * the delivery of the question has ended.  So all that may come at such a
 * time is left to a bottom half.
 */

#include "qemu/osdep.h"
#include "crypto/random.h"
#include "net/clients.h"
#include "net/eth.h"
#include "net/qdes.h"
#include "net/qdes-compat.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/iov.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"

typedef struct QdesState QdesState;

/* A descriptor that the fabric wants watched. */
typedef struct QdesWatched {
    QdesState *s;
    int fd;
    QLIST_ENTRY(QdesWatched) next;
} QdesWatched;

struct QdesState {
    NetClientState nc;
    QdesFabric *fabric;         /* NULL: not yet open, or deleted */
    QEMUTimer *timer;
    QEMUBH *bh;
    QLIST_HEAD(, QdesWatched) watched;
    bool link_up;               /* as the fabric was told last */
    bool delivering;            /* inside qdes_fabric_ready() */
    bool resume;                /* for the bottom half: the peer has room */
    bool flush;                 /* for the bottom half: the fabric has room */
};

static int64_t net_qdes_now(void)
{
    return qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
}

/* Leave what the flags say to the bottom half. */
static void net_qdes_defer(QdesState *s)
{
    if (s->bh) {
        qemu_bh_schedule(s->bh);
    }
}

/*
 * A port is up when nothing on its way to the guest is down.  Of the peer's
 * state QEMU tells nothing in some cases (a NIC with its link down is
 * unplugged and another one plugged in), so it is looked up whenever
 * something happens.
 */
static void net_qdes_sync_link(QdesState *s)
{
    bool up = !s->nc.link_down && !(s->nc.peer && s->nc.peer->link_down);

    if (up != s->link_up) {
        s->link_up = up;
        qdes_fabric_set_link(s->fabric, up, net_qdes_now());
    }
}

/* Leave the fabric.  Can be called twice. */
static void net_qdes_shutdown(QdesState *s)
{
    qdes_fabric_free(s->fabric);
    s->fabric = NULL;
    timer_free(s->timer);
    s->timer = NULL;
    if (s->bh) {
        qemu_bh_delete(s->bh);
        s->bh = NULL;
    }
}

/* The netdev may have been deleted with no word to us: go then. */
static bool net_qdes_is_gone(QdesState *s)
{
    if (qdes_compat_is_deleted(&s->nc)) {
        net_qdes_shutdown(s);
        return true;
    }
    return false;
}

static void net_qdes_bh(void *opaque)
{
    QdesState *s = opaque;

    if (net_qdes_is_gone(s)) {
        return;
    }
    net_qdes_sync_link(s);
    if (s->resume) {
        s->resume = false;
        qdes_fabric_resume(s->fabric, net_qdes_now());
    }
    if (s->flush) {
        s->flush = false;
        qemu_flush_queued_packets(&s->nc);
    }
}

static void net_qdes_tick(void *opaque)
{
    QdesState *s = opaque;

    if (net_qdes_is_gone(s)) {
        return;
    }
    net_qdes_sync_link(s);
    qdes_fabric_tick(s->fabric, net_qdes_now());
}

static void net_qdes_ready(QdesWatched *watched, int events)
{
    QdesState *s = watched->s;
    int fd = watched->fd;       /* the fabric may stop watching it */

    if (net_qdes_is_gone(s)) {
        return;
    }
    net_qdes_sync_link(s);
    s->delivering = true;
    qdes_fabric_ready(s->fabric, fd, events, net_qdes_now());
    s->delivering = false;
}

static void net_qdes_readable(void *opaque)
{
    net_qdes_ready(opaque, QDES_WATCH_READ);
}

static void net_qdes_writable(void *opaque)
{
    net_qdes_ready(opaque, QDES_WATCH_WRITE);
}

/* The peer took the frame for which net_qdes_deliver() said FULL. */
static void net_qdes_sent(NetClientState *nc, ssize_t size)
{
    QdesState *s = DO_UPCAST(QdesState, nc, nc);

    s->resume = true;
    net_qdes_defer(s);
}

static QdesDelivery net_qdes_deliver(void *opaque, const struct iovec *iov,
                                     int iovcnt, size_t size)
{
    QdesState *s = opaque;
    const uint8_t *frame = iov->iov_base;
    uint8_t padded[ETH_ZLEN];
    size_t padded_size = sizeof(padded);
    ssize_t sent;

    if (!s->nc.peer) {
        return QDES_REFUSED;
    }
    if (net_peer_needs_padding(&s->nc) &&
        eth_pad_short_frame(padded, &padded_size, frame, size)) {
        frame = padded;
        size = padded_size;
    }
    sent = qemu_send_packet_async(&s->nc, frame, size, net_qdes_sent);
    if (sent == 0) {
        return QDES_DELIVERED_FULL;
    }
    return sent < 0 ? QDES_REFUSED : QDES_DELIVERED;
}

static void net_qdes_has_room(void *opaque)
{
    QdesState *s = opaque;

    s->flush = true;
    net_qdes_defer(s);
}

static void net_qdes_watch(void *opaque, int fd, int events)
{
    QdesState *s = opaque;
    QdesWatched *watched;

    QLIST_FOREACH(watched, &s->watched, next) {
        if (watched->fd == fd) {
            break;
        }
    }
    if (!events) {
        qemu_set_fd_handler(fd, NULL, NULL, NULL);
        if (watched) {
            QLIST_REMOVE(watched, next);
            g_free(watched);
        }
        return;
    }
    if (!watched) {
        watched = g_new0(QdesWatched, 1);
        watched->s = s;
        watched->fd = fd;
        QLIST_INSERT_HEAD(&s->watched, watched, next);
    }
    qemu_set_fd_handler(fd,
                        events & QDES_WATCH_READ ? net_qdes_readable : NULL,
                        events & QDES_WATCH_WRITE ? net_qdes_writable : NULL,
                        watched);
}

static void net_qdes_set_timer(void *opaque, int64_t deadline)
{
    QdesState *s = opaque;

    timer_mod(s->timer, deadline);
}

static void net_qdes_log(void *opaque, QdesLogLevel level, const char *text)
{
    QdesState *s = opaque;

    if (level == QDES_LOG_WARNING) {
        warn_report("netdev %s: %s", s->nc.name, text);
    } else if (s->fabric) {
        /* That a port opens as it should is for "info network" to tell. */
        info_report("netdev %s: %s", s->nc.name, text);
    }
}

static void net_qdes_changed(void *opaque)
{
    QdesState *s = opaque;
    g_autofree char *summary = NULL;

    if (s->fabric) {
        summary = qdes_fabric_summary(s->fabric);
        qemu_set_info_str(&s->nc, "%s", summary);
    }
}

static uint64_t net_qdes_random(void *opaque)
{
    uint64_t value;

    /* Not the guest's generator: -seed must not make tables foreseeable. */
    qcrypto_random_bytes(&value, sizeof(value), &error_abort);
    return value;
}

static const QdesHost net_qdes_host = {
    .deliver = net_qdes_deliver,
    .writable = net_qdes_has_room,
    .watch = net_qdes_watch,
    .set_timer = net_qdes_set_timer,
    .log = net_qdes_log,
    .changed = net_qdes_changed,
    .random = net_qdes_random,
};

static ssize_t net_qdes_receive_iov(NetClientState *nc,
                                    const struct iovec *iov, int iovcnt)
{
    QdesState *s = DO_UPCAST(QdesState, nc, nc);

    if (s->delivering) {
        net_qdes_has_room(s);
        return 0;
    }
    if (s->fabric) {
        net_qdes_sync_link(s);
        if (!qdes_fabric_send(s->fabric, iov, iovcnt, net_qdes_now())) {
            return 0;
        }
    }
    /* 0 would say that it was not taken, and a guest can send 0 bytes. */
    return MAX(iov_size(iov, iovcnt), 1);
}

static ssize_t net_qdes_receive(NetClientState *nc, const uint8_t *buf,
                                size_t size)
{
    struct iovec iov = {
        .iov_base = (void *)buf,
        .iov_len = size,
    };

    return net_qdes_receive_iov(nc, &iov, 1);
}

/*
 * set_link calls this between its changes to the netdev and to the NIC, or
 * after both: what it comes to shows only later.
 */
static void net_qdes_link_status_changed(NetClientState *nc)
{
    net_qdes_defer(DO_UPCAST(QdesState, nc, nc));
}

static void net_qdes_cleanup(NetClientState *nc)
{
    qemu_purge_queued_packets(nc);
    net_qdes_shutdown(DO_UPCAST(QdesState, nc, nc));
}

static NetClientInfo net_qdes_info = {
    .type = NET_CLIENT_DRIVER_QDES,
    .size = sizeof(QdesState),
    .receive = net_qdes_receive,
    .receive_iov = net_qdes_receive_iov,
    .link_status_changed = net_qdes_link_status_changed,
    .cleanup = net_qdes_cleanup,
};

QdesStatus *net_qdes_status(NetClientState *nc)
{
    QdesState *s;

    if (nc->info != &net_qdes_info) {
        return NULL;
    }
    s = DO_UPCAST(QdesState, nc, nc);
    return s->fabric ? qdes_fabric_status(s->fabric, net_qdes_now()) : NULL;
}

int net_init_qdes(const Netdev *netdev, const char *name,
                  NetClientState *peer, Error **errp)
{
    const NetdevQdesOptions *opts = &netdev->u.qdes;
    QdesOptions options = {
        .mcast = opts->mcast,
        .localaddr = opts->localaddr,
        .iface = opts->iface,
        .encap = opts->has_encap ? QdesEncap_str(opts->encap) : NULL,
        .name = opts->name,
        .unknown_unicast = opts->has_unknown_unicast
                           ? QdesUnknownUnicast_str(opts->unknown_unicast)
                           : NULL,
        .has_netid = opts->has_netid,
        .netid = opts->netid,
        .has_ttl = opts->has_ttl,
        .ttl = opts->ttl,
        .has_ageing = opts->has_ageing,
        .ageing = opts->ageing,
        .has_max_macs = opts->has_max_macs,
        .max_macs = opts->max_macs,
        .has_learning = opts->has_learning,
        .learning = opts->learning,
        .has_sndbuf = opts->has_sndbuf,
        .sndbuf = MIN(opts->sndbuf, INT64_MAX),
        .has_rcvbuf = opts->has_rcvbuf,
        .rcvbuf = MIN(opts->rcvbuf, INT64_MAX),
        .default_name = qemu_get_vm_name() ?: name,
    };
    g_autoptr(GError) err = NULL;
    NetClientState *nc;
    QdesConfig config;
    QdesState *s;

    if (!qdes_config_init(&config, &options, &err)) {
        error_setg(errp, "%s", err->message);
        return -1;
    }

    nc = qemu_new_net_client(&net_qdes_info, peer, "qdes", name);
    s = DO_UPCAST(QdesState, nc, nc);
    QLIST_INIT(&s->watched);
    s->link_up = true;
    s->timer = timer_new_ms(QEMU_CLOCK_REALTIME, net_qdes_tick, s);
    s->bh = qemu_bh_new(net_qdes_bh, s);
    s->fabric = qdes_fabric_new(&config, &net_qdes_host, s, net_qdes_now(),
                                &err);
    if (!s->fabric) {
        error_setg(errp, "%s", err->message);
        qemu_del_net_client(nc);
        return -1;
    }
    net_qdes_changed(s);
    return 0;
}
