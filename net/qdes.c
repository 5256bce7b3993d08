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
 * Frames that the peer sends leave in batches, by a bottom half after all that
 * one turn of the main loop had to send.
 *
 * A NIC that has offloads agrees with its guest on their use, and has frames
 * pass with a virtio_net_hdr (net_qdes_set_port()).  What the guest does not
 * accept, it never gets: also not what came before it changed its mind, and
 * not if another NIC is plugged in, of which QEMU says nothing.
 *
 * Both directions can come to a halt, and neither drops a frame for it:
 *
 * - The socket is full: net_qdes_receive_iov() returns 0, which leaves the
 *   frame in the netdev's queue, until net_qdes_has_room() flushes the queue.
 * - The peer is full or the VM is stopped: QEMU queues the one frame at hand,
 *   and the fabric hands over nothing more until net_qdes_sent().  What
 *   arrives meanwhile waits in the kernel, as far as the socket's buffer goes.
 *
 * A fabric must not be called from within its own callbacks, but QEMU's net
 * layer does call back: a hub, for instance, can return slirp's answer before
 * the delivery of the question has ended.  So all that may come at such a
 * time is left to a bottom half.
 */

#include "qemu/osdep.h"
#include "crypto/random.h"
#include "crypto/secret_common.h"
#include "net/clients.h"
#include "net/eth.h"
#include "net/qdes.h"
#include "net/qdes-compat.h"
#include "net/queue.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/iov.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qdes/vnet.h"
#include "standard-headers/linux/virtio_net.h"

/* QEMU loses what is longer without a word. */
QEMU_BUILD_BUG_ON(QDES_VNET_MAX + QDES_SUPERFRAME_MAX > NET_BUFSIZE);

/* Frames of one burst follow each other faster than this. */
#define NET_QDES_BURST_NS 20000

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
    bool delivering;            /* inside the fabric: it must not be called */
    /* For the bottom half. */
    bool batch;                 /* frames wait to leave the fabric */
    int64_t flushed_at;         /* ns: when a frame was last sent at once */
    bool room;                  /* the fabric has room for frames again */
    bool resume;                /* the peer has room again */
    bool set_port;              /* the fabric has to be told of @port */
    /* Offloads. */
    bool vnet_hdr;              /* option */
    QdesPort port;              /* as agreed with the NIC */
    NetClientState *peer;       /* this NIC: compared, not used */
    const NetClientInfo *peer_info;
    /* The frame that was handed over last, unless it came in one piece. */
    size_t waiting;             /* bytes of it, as long as the peer queues it */
    size_t again;               /* bytes of it, if it has to be sent again */
    uint8_t buf[NET_BUFSIZE];
};

int64_t net_qdes_now(void)
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

/* Have what was sent leave. */
static void net_qdes_flush(QdesState *s)
{
    if (s->batch) {
        s->batch = false;
        qdes_fabric_flush(s->fabric, net_qdes_now());
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
        net_qdes_flush(s);
        qdes_fabric_set_link(s->fabric, up, net_qdes_now());
    }
}

/* Frames pass as @port says from now on, and frames that wait, too. */
static void net_qdes_set_port(QdesState *s, const QdesPort *port)
{
    const struct virtio_net_hdr *hdr = (const void *)s->buf;
    QdesPort old = s->port;
    size_t size = s->waiting ?: s->again;

    if (old.vnet_size == port->vnet_size &&
        old.vnet_big_endian == port->vnet_big_endian &&
        old.csum == port->csum &&
        old.tso4 == port->tso4 && old.tso6 == port->tso6 &&
        old.ecn == port->ecn &&
        old.uso4 == port->uso4 && old.uso6 == port->uso6) {
        return;
    }
    s->port = *port;
    if (size) {
        /* A frame that lacks nothing is good for all; others are lost. */
        bool whole = !(hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
                     hdr->gso_type == VIRTIO_NET_HDR_GSO_NONE;

        qemu_purge_queued_packets(&s->nc);
        s->again = 0;
        if (whole && port->vnet_size) {
            size -= old.vnet_size;
            memmove(s->buf + port->vnet_size, s->buf + old.vnet_size, size);
            memset(s->buf, 0, port->vnet_size);
            s->again = port->vnet_size + size;
        }
    }
    if (s->delivering) {
        s->set_port = true;
        net_qdes_defer(s);
    } else if (s->fabric) {
        qdes_fabric_set_port(s->fabric, port);
    }
}

/*
 * Another NIC may be plugged in with no word to us.  One that knows of
 * offloads says so before it sends anything; until then there are none.
 */
static void net_qdes_sync_peer(QdesState *s)
{
    NetClientState *peer = s->nc.peer;
    QdesPort none = { };

    if (peer == s->peer && (!peer || peer->info == s->peer_info)) {
        return;
    }
    if (s->port.vnet_size) {
        /* What the old one left in our queue is not what we expect now. */
        qemu_net_queue_purge(s->nc.incoming_queue, s->peer);
    }
    s->peer = peer;
    s->peer_info = peer ? peer->info : NULL;
    s->nc.vnet_hdr_len = 0;
    s->waiting = 0;
    s->again = 0;
    net_qdes_set_port(s, &none);
}

/* Look at all that QEMU does not tell.  Not while delivering. */
static void net_qdes_sync(QdesState *s)
{
    net_qdes_sync_peer(s);
    net_qdes_sync_link(s);
}

/* Leave the fabric.  Can be called twice. */
static void net_qdes_shutdown(QdesState *s)
{
    if (s->fabric) {
        net_qdes_flush(s);
    }
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

/* The peer has dealt with the frame that it had to queue. */
static void net_qdes_sent(NetClientState *nc, ssize_t size)
{
    QdesState *s = DO_UPCAST(QdesState, nc, nc);

    s->waiting = 0;
    s->resume = true;
    net_qdes_defer(s);
}

/* Returns 0 if the peer has to queue the frame; net_qdes_sent() follows. */
static ssize_t net_qdes_hand_over(QdesState *s, const uint8_t *frame,
                                  size_t size)
{
    return qemu_send_packet_async(&s->nc, frame, size, net_qdes_sent);
}

static void net_qdes_bh(void *opaque)
{
    QdesState *s = opaque;

    if (net_qdes_is_gone(s)) {
        return;
    }
    net_qdes_flush(s);
    if (s->set_port) {
        s->set_port = false;
        qdes_fabric_set_port(s->fabric, &s->port);
    }
    net_qdes_sync(s);
    if (s->again) {
        size_t size = s->again;

        s->again = 0;
        if (net_qdes_hand_over(s, s->buf, size) == 0) {
            s->waiting = size;
            s->resume = false;
        }
    }
    if (s->resume) {
        s->resume = false;
        s->delivering = true;
        qdes_fabric_resume(s->fabric, net_qdes_now());
        s->delivering = false;
    }
    if (s->room) {
        s->room = false;
        qemu_flush_queued_packets(&s->nc);
    }
}

static void net_qdes_tick(void *opaque)
{
    QdesState *s = opaque;

    if (net_qdes_is_gone(s)) {
        return;
    }
    net_qdes_sync(s);
    s->delivering = true;       /* the loop guard's probes */
    qdes_fabric_tick(s->fabric, net_qdes_now());
    s->delivering = false;
}

static void net_qdes_ready(QdesWatched *watched, int events)
{
    QdesState *s = watched->s;
    int fd = watched->fd;       /* the fabric may stop watching it */

    if (net_qdes_is_gone(s)) {
        return;
    }
    net_qdes_sync(s);
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

/*
 * No NIC that has frames pass with a virtio_net_hdr can make use of pieces:
 * what is in pieces is put together here, in a buffer that is there already.
 */
static QdesDelivery net_qdes_deliver(void *opaque, const struct iovec *iov,
                                     int iovcnt, size_t size)
{
    QdesState *s = opaque;
    const uint8_t *frame = iov->iov_base;
    size_t least = s->port.vnet_size + ETH_ZLEN;
    bool pad = size < least && net_peer_needs_padding(&s->nc);
    ssize_t sent;

    if (!s->nc.peer || s->set_port) {
        return QDES_REFUSED;
    }
    if (iovcnt > 1 || pad) {
        assert(size <= sizeof(s->buf));
        iov_to_buf(iov, iovcnt, 0, s->buf, size);
        frame = s->buf;
        if (pad) {
            memset(s->buf + size, 0, least - size);
            size = least;
        }
    }
    sent = net_qdes_hand_over(s, frame, size);
    if (sent == 0) {
        if (s->port.vnet_size && frame != s->buf) {
            /* It may have to change: net_qdes_set_port(). */
            memcpy(s->buf, frame, size);
        }
        s->waiting = s->port.vnet_size ? size : 0;
        return QDES_DELIVERED_FULL;
    }
    return sent < 0 ? QDES_REFUSED : QDES_DELIVERED;
}

static void net_qdes_has_room(void *opaque)
{
    QdesState *s = opaque;

    s->room = true;
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
    } else if (s->fabric || level == QDES_LOG_NOTICE) {
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

static int64_t net_qdes_now_us(void *opaque)
{
    return qemu_clock_get_us(QEMU_CLOCK_REALTIME);
}

static const QdesHost net_qdes_host = {
    .deliver = net_qdes_deliver,
    .writable = net_qdes_has_room,
    .watch = net_qdes_watch,
    .set_timer = net_qdes_set_timer,
    .log = net_qdes_log,
    .changed = net_qdes_changed,
    .random = net_qdes_random,
    .now_us = net_qdes_now_us,
};

/*
 * A frame is the first of a batch.  If the one before it is a while ago, it
 * likely is the only one: to have it wait for the bottom half would cost more
 * than the call that is saved if it is not.
 */
static void net_qdes_flush_or_defer(QdesState *s)
{
    int64_t now = get_clock();

    s->batch = true;
    if (now - s->flushed_at > NET_QDES_BURST_NS) {
        net_qdes_flush(s);
        s->flushed_at = get_clock();
    } else {
        net_qdes_defer(s);
    }
}

static ssize_t net_qdes_receive_iov(NetClientState *nc,
                                    const struct iovec *iov, int iovcnt)
{
    QdesState *s = DO_UPCAST(QdesState, nc, nc);

    if (s->delivering) {
        net_qdes_has_room(s);
        return 0;
    }
    if (s->fabric) {
        net_qdes_sync(s);
        if (!qdes_fabric_send(s->fabric, iov, iovcnt, net_qdes_now())) {
            return 0;
        }
        if (!s->batch && qdes_fabric_has_batch(s->fabric)) {
            net_qdes_flush_or_defer(s);
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

static bool net_qdes_has_vnet_hdr(NetClientState *nc)
{
    return DO_UPCAST(QdesState, nc, nc)->vnet_hdr;
}

static bool net_qdes_has_vnet_hdr_len(NetClientState *nc, int len)
{
    return net_qdes_has_vnet_hdr(nc) &&
           len >= QDES_VNET_MIN && len <= QDES_VNET_MAX;
}

/*
 * From now on, frames in both directions begin with a virtio_net_hdr of @len
 * bytes.  A NIC calls this when it is plugged in and when its driver begins or
 * ends; which offloads the driver accepts, it says only afterwards.
 */
static void net_qdes_set_vnet_hdr_len(NetClientState *nc, int len)
{
    QdesState *s = DO_UPCAST(QdesState, nc, nc);
    QdesPort port = {
        .vnet_size = len,
        .vnet_big_endian = HOST_BIG_ENDIAN,
    };

    net_qdes_sync_peer(s);
    nc->vnet_hdr_len = len;
    net_qdes_set_port(s, &port);
}

static void net_qdes_set_big_endian(NetClientState *nc, bool big_endian)
{
    QdesState *s = DO_UPCAST(QdesState, nc, nc);
    QdesPort port = s->port;

    port.vnet_big_endian = big_endian;
    net_qdes_set_port(s, &port);
}

static int net_qdes_set_vnet_le(NetClientState *nc, bool enable)
{
    net_qdes_set_big_endian(nc, !enable && HOST_BIG_ENDIAN);
    return 0;
}

static int net_qdes_set_vnet_be(NetClientState *nc, bool enable)
{
    net_qdes_set_big_endian(nc, enable || HOST_BIG_ENDIAN);
    return 0;
}

/* What the guest accepts. */
static void net_qdes_set_offload(NetClientState *nc, const NetOffloads *ol)
{
    QdesState *s = DO_UPCAST(QdesState, nc, nc);
    QdesPort port = s->port;

    port.csum = ol->csum;
    port.tso4 = ol->csum && ol->tso4;
    port.tso6 = ol->csum && ol->tso6;
    port.ecn = ol->csum && ol->ecn;
    port.uso4 = ol->csum && ol->uso4;
    port.uso6 = ol->csum && ol->uso6;
    net_qdes_set_port(s, &port);
}

QDES_COMPAT_OFFLOADS(net_qdes_set_offload)

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
    .has_vnet_hdr = net_qdes_has_vnet_hdr,
    .has_vnet_hdr_len = net_qdes_has_vnet_hdr_len,
    .set_vnet_hdr_len = net_qdes_set_vnet_hdr_len,
    .set_vnet_le = net_qdes_set_vnet_le,
    .set_vnet_be = net_qdes_set_vnet_be,
    QDES_COMPAT_OFFLOAD_HOOKS(net_qdes_has_vnet_hdr, net_qdes_set_offload)
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

/* An array of the strings in @list, which it borrows. */
static const char **net_qdes_strings(const strList *list, size_t *n)
{
    GPtrArray *array = g_ptr_array_new();

    for (; list; list = list->next) {
        g_ptr_array_add(array, list->value);
    }
    *n = array->len;
    return (const char **)g_ptr_array_free(array, false);
}

QdesFabric *net_qdes_find(const char *id, Error **errp)
{
    NetClientState *nc = qemu_find_netdev(id);
    QdesState *s;

    if (!nc || nc->info != &net_qdes_info) {
        error_setg(errp, "id=%s: there is no qdes netdev of this name; "
                   "query-qdes lists them", id);
        return NULL;
    }
    s = DO_UPCAST(QdesState, nc, nc);
    if (!s->fabric) {
        error_setg(errp, "id=%s: the netdev is being deleted", id);
    }
    return s->fabric;
}

bool net_qdes_get_secret(QdesSecret *secret, const char *option,
                         const char *id, Error **errp)
{
    Error *err = NULL;
    uint8_t *data;
    size_t size;

    *secret = (QdesSecret) { .data = NULL };
    if (!id) {
        return true;
    }
    if (qcrypto_secret_lookup(id, &data, &size, &err) < 0) {
        error_setg(errp, "%s=%s: %s; give the id of an -object "
                   "secret,id=ID,file=FILE", option, id, error_get_pretty(err));
        error_free(err);
        return false;
    }
    *secret = (QdesSecret) { .data = data, .size = size, .name = id };
    return true;
}

void net_qdes_free_secret(QdesSecret *secret)
{
    void *data = (void *)secret->data;

    if (data) {
        qdes_wipe(data, secret->size);
        g_free(data);
    }
    *secret = (QdesSecret) { .data = NULL };
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
        .storm_control = opts->storm_control,
        .has_loop_guard = opts->has_loop_guard,
        .loop_guard = opts->loop_guard,
        .has_max_local_macs = opts->has_max_local_macs,
        .max_local_macs = opts->max_local_macs,
        .mac_violation = opts->has_mac_violation
                         ? QdesMacViolation_str(opts->mac_violation) : NULL,
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
        .has_mss_clamp = opts->has_mss_clamp,
        .mss_clamp = opts->mss_clamp,
        .has_vnet_hdr = opts->has_vnet_hdr,
        .vnet_hdr = opts->vnet_hdr,
        .has_relay = opts->has_relay,
        .relay = opts->relay,
        .has_superframes = opts->has_superframes,
        .superframes = opts->superframes,
        .has_gso = opts->has_gso,
        .gso = opts->gso,
        .has_sndbuf = opts->has_sndbuf,
        .sndbuf = MIN(opts->sndbuf, INT64_MAX),
        .has_rcvbuf = opts->has_rcvbuf,
        .rcvbuf = MIN(opts->rcvbuf, INT64_MAX),
        .cipher = opts->cipher,
        .default_name = qemu_get_vm_name() ?: name,
    };
    g_autofree const char **peers = NULL;
    g_autofree const char **macs = NULL;
    g_autoptr(GError) err = NULL;
    NetClientState *nc;
    QdesConfig config;
    QdesState *s;
    int ret = -1;

    options.peers = peers = net_qdes_strings(opts->peers, &options.n_peers);
    if (!net_qdes_get_secret(&options.secret, "secret", opts->secret, errp) ||
        !net_qdes_get_secret(&options.secret_old, "secret-old",
                             opts->secret_old, errp)) {
        goto out;
    }
    options.macs = macs = net_qdes_strings(opts->mac, &options.n_macs);
    if (!qdes_config_init(&config, &options, &err)) {
        error_setg(errp, "%s", err->message);
        goto out;
    }

    nc = qemu_new_net_client(&net_qdes_info, peer, "qdes", name);
    s = DO_UPCAST(QdesState, nc, nc);
    QLIST_INIT(&s->watched);
    s->link_up = true;
    s->vnet_hdr = config.vnet_hdr;
    s->timer = timer_new_ms(QEMU_CLOCK_REALTIME, net_qdes_tick, s);
    s->bh = qemu_bh_new(net_qdes_bh, s);
    s->fabric = qdes_fabric_new(&config, &net_qdes_host, s, net_qdes_now(),
                                &err);
    if (!s->fabric) {
        error_setg(errp, "%s", err->message);
        qemu_del_net_client(nc);
        goto out;
    }
    net_qdes_changed(s);
    ret = 0;

out:
    net_qdes_free_secret(&options.secret);
    net_qdes_free_secret(&options.secret_old);
    return ret;
}
