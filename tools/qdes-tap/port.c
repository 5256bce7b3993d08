/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "port.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "linkwatch.h"
#include "log.h"
#include "notify.h"
#include "tapoffload.h"

#define PORT_BUDGET 64              /* frames from the TAP for each event */
#define PORT_BURST_US 20            /* frames of a burst follow faster */
#define PORT_FRAME_ROOM 65664       /* bytes: IP's largest packet, Ethernet
                                       with VLAN tags, virtio_net_hdr */
#define PORT_UNPLUGGED_MS 2000      /* at most; the kernel tells of links once
                                       a second, if it has much to tell */
#define PORT_RETRY_MS 1000          /* after a read that should not fail */

struct Port {
    Loop *loop;
    Tap *tap;
    Capture *capture;
    QdesFabric *fabric;
    LoopTimer *tick;
    LoopTimer *retry;
    LoopTimer *summary;         /* tells systemd about the new one */
    LinkWatch *link;
    LoopTimer *plug;            /* sets the carrier again */
    bool unplugged;             /* it is away for a moment */
    bool link_up;
    bool gone;
    bool read_warned;
    bool accepts_less;          /* than the fabric was told */
    int64_t sent_at;            /* us: when frames of the TAP left last */
    size_t kept;                /* bytes in @frame that wait for room */
    uint8_t frame[PORT_FRAME_ROOM];
};

static void port_tap_ready(void *opaque, int fd, int events, int64_t now);

static void port_read_tap(Port *port, bool on)
{
    loop_watch(port->loop, port->tap->fd,
               on ? QDES_WATCH_READ : QDES_WATCH_NONE, port_tap_ready, port);
}

static void port_gone(Port *port)
{
    if (!port->gone) {
        port->gone = true;
        log_error("%s was deleted; the port ends", port->tap->name);
        port_read_tap(port, false);
        loop_quit(port->loop, 1);
    }
}

/* The bridge has noticed, or had the time to. */
static void port_plug(void *opaque, int64_t now)
{
    Port *port = opaque;

    if (port->unplugged) {
        port->unplugged = false;
        tap_set_carrier(port->tap, true);
    }
}

/* Look how the TAP's link is, and pass it on. */
static void port_check_link(Port *port, int64_t now)
{
    TapState state = tap_state(port->tap);
    bool up = state == TAP_UP;

    if (state == TAP_GONE) {
        port_gone(port);
        return;
    }
    if (port->unplugged && !tap_has_carrier(port->tap)) {
        port_plug(port, now);
    }
    if (up == port->link_up) {
        /* It may have been put into a bridge, or another one that it is in. */
        qdes_fabric_suspect(port->fabric, now);
        return;
    }
    port->link_up = up;
    if (up) {
        log_info("%s is up", port->tap->name);
    } else {
        log_info("%s is down, no frame passes until: sudo ip link set %s up",
                 port->tap->name, port->tap->name);
    }
    qdes_fabric_set_link(port->fabric, up, now);
}

static void port_link_changed(void *opaque, int64_t now)
{
    port_check_link(opaque, now);
}

/* Returns false when the frame has to wait. */
static bool port_send(Port *port, const struct iovec *iov, int64_t now)
{
    port->kept = qdes_fabric_send(port->fabric, iov, 1, now) ? 0 : iov->iov_len;
    return port->kept == 0;
}

/* Reading failed for another reason than that there is nothing to read. */
static void port_read_failed(Port *port, int err, int64_t now)
{
    if (tap_state(port->tap) == TAP_GONE) {
        port_gone(port);
        return;
    }
    if (!port->read_warned) {
        log_warning("reading from %s failed: %s; it is tried again every "
                    "second", port->tap->name, g_strerror(err));
        port->read_warned = true;
    }
    port_read_tap(port, false);
    loop_timer_set(port->retry, now + PORT_RETRY_MS);
}

static void port_retry(void *opaque, int64_t now)
{
    Port *port = opaque;

    if (port->kept == 0) {
        port_read_tap(port, true);
    }
}

/* Read frames, at most @max, and put them into the fabric's batch. */
static void port_take_frames(Port *port, int max, int64_t now)
{
    struct iovec iov = { .iov_base = port->frame };
    ssize_t size;
    int i;

    for (i = 0; i < max; i++) {
        size = tap_read(port->tap, port->frame, sizeof(port->frame));
        if (size < 0) {
            if (errno != EAGAIN) {
                port_read_failed(port, errno, now);
            }
            return;
        }
        iov.iov_len = size;
        if (port->capture) {
            capture_frame(port->capture, &iov, 1, port->tap->port.vnet_size);
        }
        if (!port_send(port, &iov, now)) {
            port_read_tap(port, false);
            return;
        }
    }
}

static void port_tap_ready(void *opaque, int fd, int events, int64_t now)
{
    Port *port = opaque;
    bool burst = g_get_monotonic_time() - port->sent_at < PORT_BURST_US;

    /*
     * A frame that comes a while after the last one likely is alone: it leaves
     * at once, and whether there are more the loop finds out, too.
     */
    port_take_frames(port, burst ? PORT_BUDGET : 1, now);
    qdes_fabric_flush(port->fabric, now);
    port->sent_at = g_get_monotonic_time();
}

static void port_fabric_ready(void *opaque, int fd, int events, int64_t now)
{
    Port *port = opaque;

    qdes_fabric_ready(port->fabric, fd, events, now);
    if (port->accepts_less) {
        port->accepts_less = false;
        log_info("%s refuses UDP superframes; they are cut from now on",
                 port->tap->name);
        qdes_fabric_set_port(port->fabric, &port->tap->port);
    }
    /* it may have let a frame in that had to wait */
    qdes_fabric_flush(port->fabric, now);
}

static void port_tick(void *opaque, int64_t now)
{
    Port *port = opaque;

    qdes_fabric_tick(port->fabric, now);
}

static void port_tell_systemd(void *opaque, int64_t now)
{
    Port *port = opaque;
    char *summary = qdes_fabric_summary(port->fabric);

    notify_status(summary);
    g_free(summary);
}

/* QdesHost */

static QdesDelivery host_deliver(void *opaque, const struct iovec *iov,
                                 int iovcnt, size_t size)
{
    Port *port = opaque;
    QdesPort *accepts = &port->tap->port;

    if (!tap_write(port->tap, iov, iovcnt)) {
        if (accepts->vnet_size &&
            tap_offload_refused(accepts, iov->iov_base, errno)) {
            port->accepts_less = true;
        }
        return QDES_REFUSED;
    }
    if (port->capture) {
        capture_frame(port->capture, iov, iovcnt, accepts->vnet_size);
    }
    return QDES_DELIVERED;
}

static void host_writable(void *opaque)
{
    Port *port = opaque;
    struct iovec iov = { .iov_base = port->frame, .iov_len = port->kept };

    if (port->kept == 0 || port_send(port, &iov, loop_now())) {
        port_read_tap(port, true);
    }
}

static void host_watch(void *opaque, int fd, int events)
{
    Port *port = opaque;

    loop_watch(port->loop, fd, events, port_fabric_ready, port);
}

static void host_set_timer(void *opaque, int64_t deadline)
{
    Port *port = opaque;

    loop_timer_set(port->tick, deadline);
}

static void host_log(void *opaque, QdesLogLevel level, const char *text)
{
    if (level == QDES_LOG_WARNING) {
        log_warning("%s", text);
    } else {
        log_info("%s", text);
    }
}

static void host_changed(void *opaque)
{
    Port *port = opaque;

    /* once for all changes of this turn, when the fabric's call is over */
    loop_timer_set(port->summary, 0);
}

/* A bridge has no other way to be told, but from who has its rights. */
static void host_relearn(void *opaque)
{
    Port *port = opaque;

    if (port->link && !port->unplugged && tap_is_bridged(port->tap) &&
        tap_set_carrier(port->tap, false)) {
        port->unplugged = true;
        loop_timer_set(port->plug, loop_now() + PORT_UNPLUGGED_MS);
        log_info("the bridge of %s is made to learn anew where everybody is",
                 port->tap->name);
    }
}

static uint64_t host_random(void *opaque)
{
    uint64_t value;
    ssize_t ret;

    do {
        ret = getrandom(&value, sizeof(value), 0);
    } while (ret < 0 && errno == EINTR);
    g_assert(ret == sizeof(value));
    return value;
}

static int64_t host_now_us(void *opaque)
{
    return g_get_monotonic_time();
}

static const QdesHost port_host = {
    .deliver = host_deliver,
    .writable = host_writable,
    .watch = host_watch,
    .set_timer = host_set_timer,
    .log = host_log,
    .changed = host_changed,
    .random = host_random,
    .relearn = host_relearn,
    .now_us = host_now_us,
};

Port *port_new(Loop *loop, Tap *tap, Capture *capture,
               const QdesConfig *config, GError **errp)
{
    Port *port = g_new0(Port, 1);
    int64_t now = loop_now();

    port->loop = loop;
    port->tap = tap;
    port->capture = capture;
    port->link_up = true;
    port->tick = loop_timer_new(loop, port_tick, port);
    port->retry = loop_timer_new(loop, port_retry, port);
    port->summary = loop_timer_new(loop, port_tell_systemd, port);
    port->plug = loop_timer_new(loop, port_plug, port);
    port->fabric = qdes_fabric_new(config, &port_host, port, now, errp);
    if (!port->fabric) {
        port_free(port);
        return NULL;
    }
    qdes_fabric_set_port(port->fabric, &tap->port);
    port->link = link_watch_new(loop, port_link_changed, port);
    if (!port->link) {
        log_warning("cannot watch the link of %s: %s; when it is set down, "
                    "peers are not told", tap->name, g_strerror(errno));
    }
    port_check_link(port, now);
    port_read_tap(port, true);
    return port;
}

QdesStatus *port_status(Port *port)
{
    return qdes_fabric_status(port->fabric, loop_now());
}

bool port_change(Port *port, const Request *request, size_t *n, GError **errp)
{
    QdesFlush flush = {
        .mac = request->mac,
        .peer = request->peer,
        .statics = request->statics,
    };

    switch (request->command) {
    case REQUEST_FDB_ADD:
        return qdes_fabric_add_fdb(port->fabric, request->mac, request->peer,
                                   errp);
    case REQUEST_FDB_DEL:
        return qdes_fabric_del_fdb(port->fabric, request->mac, errp);
    case REQUEST_FDB_FLUSH:
        return qdes_fabric_flush_fdb(port->fabric, &flush, n, errp);
    case REQUEST_PEER_ADD:
        return qdes_fabric_add_peer(port->fabric, request->peer, loop_now(),
                                    errp);
    case REQUEST_PEER_DEL:
        return qdes_fabric_del_peer(port->fabric, request->peer, loop_now(),
                                    errp);
    case REQUEST_SET_SECRET:
        return qdes_fabric_set_secrets(port->fabric, &request->secret,
                                       &request->secret_old, loop_now(),
                                       errp);
    default:
        g_assert_not_reached();
    }
}

char *port_summary(Port *port)
{
    return qdes_fabric_summary(port->fabric);
}

void port_free(Port *port)
{
    if (!port) {
        return;
    }
    port_read_tap(port, false);
    link_watch_free(port->link);
    qdes_fabric_free(port->fabric);
    loop_timer_free(port->tick);
    loop_timer_free(port->retry);
    loop_timer_free(port->summary);
    loop_timer_free(port->plug);
    g_free(port);
}
