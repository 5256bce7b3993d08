/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The fabric: one port of a distributed Ethernet switch. */

#include "qdes/fabric.h"

#include <errno.h>
#include <string.h>

#include "qdes/eth.h"
#include "qdes/fabric-private.h"
#include "qdes/snapshot.h"

#define MAX_IOV 64              /* pieces of a frame; more are joined first */
#define SETTLE_MS 200           /* interfaces change in bursts: look once */

void qdes_fabric_say(QdesFabric *f, QdesLogLevel level,
                                    const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    f->host->log(f->opaque, level, text);
}

bool qdes_fabric_first(QdesFabric *f, QdesSaid what)
{
    bool is_first = !(f->said & what);

    f->said |= what;
    return is_first;
}

void qdes_fabric_arm(QdesFabric *f, int64_t when)
{
    if (when < f->timer) {
        f->timer = when;
        f->host->set_timer(f->opaque, when);
    }
}

static void watch(QdesFabric *f)
{
    int read = f->paused ? QDES_WATCH_NONE : QDES_WATCH_READ;
    int write = f->blocked ? QDES_WATCH_WRITE : QDES_WATCH_NONE;

    f->host->watch(f->opaque, qdes_underlay_group_fd(f->underlay), read);
    f->host->watch(f->opaque, qdes_underlay_unicast_fd(f->underlay),
                   read | write);
}

/* From the port to the underlay */

/* The address @mac of this side was heard from @slot, and is here again. */
static void check_duplicate(QdesFabric *f, const uint8_t *mac,
                            uint32_t slot, int64_t now)
{
    unsigned claims = qdes_claims_count(&f->claims, mac, now);
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);
    char addr[QDES_ADDR_STRLEN];
    char text[QDES_MAC_STRLEN];

    if (claims > 0) {
        QDES_COUNT(&f->stats, mac_duplicate);
    }
    if (claims > 1 && qdes_fabric_first(f, QDES_SAID_DUPLICATE)) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "duplicate MAC address %s: used here and by the peer "
                        "%s (%s); give each guest an address of its own",
                        qdes_mac_format(mac, text), peer->name,
                        qdes_addr_format(&peer->addr, addr));
    }
}

static void learn(QdesFabric *f, const uint8_t *mac, uint32_t owner,
                  int64_t now)
{
    uint32_t old_owner = QDES_FDB_LOCAL;

    if (!f->config.learning) {
        return;
    }
    switch (qdes_fdb_learn(f->fdb, mac, owner, now, &old_owner)) {
    case QDES_FDB_REFRESHED:
        break;
    case QDES_FDB_LEARNED:
        qdes_fabric_arm(f, now + QDES_TICK_MS);
        break;
    case QDES_FDB_MOVED:
        if (old_owner == QDES_FDB_LOCAL) {
            qdes_claims_add(&f->claims, mac, now);
        } else if (owner == QDES_FDB_LOCAL) {
            check_duplicate(f, mac, old_owner, now);
        }
        break;
    }
}

typedef enum Way {
    WAY_DROP,                   /* counted already */
    WAY_FLOOD,
    WAY_PEER,
} Way;

static Way find_way(QdesFabric *f, const uint8_t *dst, int64_t now,
                    uint32_t *slot)
{
    const QdesFdbEntry *entry;

    if (qdes_mac_is_group(dst)) {
        return WAY_FLOOD;
    }
    entry = qdes_fdb_lookup(f->fdb, dst, now);
    if (!entry) {
        if (!f->config.flood_unknown) {
            QDES_COUNT(&f->stats, tx_drop_unknown);
            return WAY_DROP;
        }
        return WAY_FLOOD;
    }
    if (entry->owner == QDES_FDB_LOCAL) {
        QDES_COUNT(&f->stats, tx_drop_local);
        return WAY_DROP;
    }
    *slot = entry->owner;
    return WAY_PEER;
}

/* Count a frame that the socket would not take. */
static void count_error(QdesFabric *f, int err)
{
    switch (err) {
    case ENODEV:
        QDES_COUNT(&f->stats, tx_drop_no_group);
        break;
    case ENOBUFS:
    case ENOMEM:
        QDES_COUNT(&f->stats, tx_drop_nobufs);
        break;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL:
        QDES_COUNT(&f->stats, tx_drop_unreachable);
        break;
    case EPERM:
    case EACCES:
        QDES_COUNT(&f->stats, tx_drop_denied);
        if (qdes_fabric_first(f, QDES_SAID_DENIED)) {
            qdes_fabric_say(f, QDES_LOG_WARNING,
                            "a firewall of this host forbids sending; such "
                            "frames are dropped (tx-drop-denied)");
        }
        break;
    case EMSGSIZE:
        QDES_COUNT(&f->stats, tx_drop_too_big);
        break;
    default:
        QDES_COUNT(&f->stats, tx_drop_error);
        break;
    }
}

static bool is_unreachable(int err)
{
    return err == ENETUNREACH || err == EHOSTUNREACH || err == ECONNREFUSED;
}

bool qdes_fabric_may_be_late(int err)
{
    return err != EAGAIN && err != ENOBUFS && err != ENOMEM &&
           err != EPERM && err != ENODEV;
}

/*
 * The socket cannot reach the peer to which @dst was found to lead, and this
 * was no error of an earlier datagram: the peer is as good as gone, and the
 * frame may find its way by the group.
 */
static void lose_way(QdesFabric *f, const uint8_t *dst, uint32_t slot,
                     int64_t now)
{
    const QdesFdbEntry *entry = qdes_fdb_lookup(f->fdb, dst, now);

    if (entry && entry->owner == slot) {
        QDES_COUNT(&f->stats, peers_unreachable);
        qdes_fabric_forget(f, slot);
    }
}

/*
 * Look up and send.  A socket also reports errors of earlier datagrams: after
 * the first error, what they tell is taken note of and the frame gets a second
 * try.  If that shows its peer itself to be out of reach, the third floods.
 * Returns false when the socket is full.
 */
static bool forward(QdesFabric *f, const QdesEthHeader *eth,
                    const struct iovec *iov, int iovcnt, size_t size,
                    int64_t now)
{
    uint32_t slot = QDES_PEER_NONE;
    int ret = 0;
    int try;
    Way way;

    for (try = 0; try < 3; try++) {
        way = find_way(f, eth->dst, now, &slot);
        if (way == WAY_DROP) {
            return true;
        }
        if (way == WAY_PEER) {
            ret = qdes_underlay_send(f->underlay,
                                     &qdes_peers_get(f->peers, slot)->addr,
                                     iov, iovcnt);
        } else {
            ret = qdes_underlay_flood(f->underlay, iov, iovcnt);
        }
        if (ret == 0) {
            if (way == WAY_PEER) {
                QDES_COUNT(&f->stats, tx_unicast);
            } else {
                QDES_COUNT(&f->stats, tx_flooded);
            }
            QDES_COUNT_ADD(&f->stats, tx_bytes, size);
            return true;
        }
        if (ret == -EAGAIN) {
            return false;
        }
        if (!qdes_fabric_may_be_late(-ret)) {
            break;
        }
        qdes_fabric_forget_unreachable(f);
        if (try == 1 && way == WAY_PEER && is_unreachable(-ret)) {
            lose_way(f, eth->dst, slot, now);
        }
    }
    count_error(f, -ret);
    return true;
}

bool qdes_fabric_send(QdesFabric *f, const struct iovec *iov, int iovcnt,
                      int64_t now)
{
    struct iovec out[1 + MAX_IOV];
    QdesEthHeader eth;
    size_t size = qdes_eth_peek(&eth, iov, iovcnt);
    size_t part;
    int i;

    if (!f->link_up || size < QDES_FRAME_MIN || size > QDES_FRAME_MAX) {
        QDES_COUNT(&f->stats, tx_frames);
        if (!f->link_up) {
            QDES_COUNT(&f->stats, tx_drop_link);
        } else if (size < QDES_FRAME_MIN) {
            QDES_COUNT(&f->stats, tx_drop_short);
        } else {
            QDES_COUNT(&f->stats, tx_drop_long);
        }
        return true;
    }
    if (qdes_mac_is_source(eth.src)) {
        learn(f, eth.src, QDES_FDB_LOCAL, now);
    }

    out[0].iov_base = f->header;
    out[0].iov_len = sizeof(f->header);
    if (iovcnt <= MAX_IOV) {
        memcpy(&out[1], iov, iovcnt * sizeof(*iov));
    } else {
        for (i = 0, part = 0; i < iovcnt; part += iov[i++].iov_len) {
            memcpy(f->tx + part, iov[i].iov_base, iov[i].iov_len);
        }
        out[1].iov_base = f->tx;
        out[1].iov_len = size;
        iovcnt = 1;
    }
    if (!forward(f, &eth, out, 1 + iovcnt, size, now)) {
        QDES_COUNT(&f->stats, tx_blocked);
        f->blocked = true;
        watch(f);
        return false;
    }
    QDES_COUNT(&f->stats, tx_frames);
    return true;
}

void qdes_fabric_set_port(QdesFabric *f, const QdesPort *port)
{
    f->port = *port;
}

void qdes_fabric_flush(QdesFabric *f, int64_t now)
{
}

/* From the underlay to the port */

static void take_frame(QdesFabric *f, const uint8_t *frame, size_t size,
                       const QdesAddr *from, int64_t now)
{
    const QdesEthHeader *eth = (const QdesEthHeader *)frame;
    struct iovec iov = { .iov_base = (void *)frame, .iov_len = size };
    uint32_t slot;

    if (!qdes_mac_is_source(eth->src)) {
        QDES_COUNT(&f->stats, rx_drop_source);
        return;
    }
    slot = qdes_fabric_hear(f, from, now);
    if (slot != QDES_PEER_NONE) {
        learn(f, eth->src, slot, now);
    }
    if (!f->link_up) {
        QDES_COUNT(&f->stats, rx_drop_link);
        return;
    }
    switch (f->host->deliver(f->opaque, &iov, 1, size)) {
    case QDES_REFUSED:
        QDES_COUNT(&f->stats, rx_drop_port);
        return;
    case QDES_DELIVERED_FULL:
        QDES_COUNT(&f->stats, rx_paused);
        f->paused = true;
        f->paused_at = now;
        break;
    case QDES_DELIVERED:
        break;
    }
    QDES_COUNT(&f->stats, rx_frames);
    QDES_COUNT_ADD(&f->stats, rx_bytes, size);
}

static void say_version(QdesFabric *f, const QdesAddr *from, unsigned version)
{
    char text[QDES_ADDR_STRLEN];

    if (qdes_fabric_first(f, QDES_SAID_VERSION)) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "%s speaks version %u of the protocol, this port %d: "
                        "nothing passes between them",
                        qdes_addr_format(from, text), version,
                        QDES_WIRE_VERSION);
    }
}

static void say_sealed(QdesFabric *f, const QdesAddr *from)
{
    char text[QDES_ADDR_STRLEN];

    if (qdes_fabric_first(f, QDES_SAID_SEALED)) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "%s seals what it sends, and this port has no key: "
                        "nothing passes between them",
                        qdes_addr_format(from, text));
    }
}

static void input(QdesFabric *f, const uint8_t *data, size_t size,
                  const QdesAddr *from, bool by_group, int64_t now)
{
    QdesWireHeader header;
    QdesWireResult result = qdes_wire_decode(&header, data, size);

    QDES_COUNT(&f->stats, rx_datagrams);
    switch (result) {
    case QDES_WIRE_SHORT:
        QDES_COUNT(&f->stats, rx_drop_short);
        return;
    case QDES_WIRE_BAD_MAGIC:
        QDES_COUNT(&f->stats, rx_drop_magic);
        return;
    case QDES_WIRE_BAD_VERSION:
        QDES_COUNT(&f->stats, rx_drop_version);
        say_version(f, from, data[2] >> 4);
        return;
    case QDES_WIRE_BAD_TYPE:
        QDES_COUNT(&f->stats, rx_drop_type);
        return;
    case QDES_WIRE_BAD_FLAGS:
        QDES_COUNT(&f->stats, rx_drop_flags);
        return;
    case QDES_WIRE_SEALED:
        QDES_COUNT(&f->stats, rx_drop_sealed);
        say_sealed(f, from);
        return;
    case QDES_WIRE_OK:
    case QDES_WIRE_FRAME_SHORT:
    case QDES_WIRE_FRAME_LONG:
    case QDES_WIRE_BAD_TLV:
        break;
    }

    if (header.netid != f->config.netid) {
        QDES_COUNT(&f->stats, rx_drop_netid);
    } else if (qdes_underlay_is_own(f->underlay, from)) {
        QDES_COUNT(&f->stats, rx_drop_own);
    } else if (result == QDES_WIRE_FRAME_SHORT) {
        QDES_COUNT(&f->stats, rx_drop_frame_short);
    } else if (result == QDES_WIRE_FRAME_LONG) {
        QDES_COUNT(&f->stats, rx_drop_frame_long);
    } else if (result == QDES_WIRE_BAD_TLV) {
        QDES_COUNT(&f->stats, rx_drop_tlv);
    } else if (header.type == QDES_WIRE_DATA) {
        take_frame(f, header.payload, header.payload_size, from, now);
    } else {
        qdes_fabric_take_control(f, &header, from, by_group, now);
    }
}

static void receive(QdesFabric *f, int fd, int64_t now)
{
    bool by_group = fd == qdes_underlay_group_fd(f->underlay);
    QdesAddr from;
    ssize_t size;
    int i;

    for (i = 0; i < QDES_BUDGET && !f->paused; i++) {
        size = qdes_underlay_receive(fd, f->rx, sizeof(f->rx), &from);
        if (size >= 0) {
            input(f, f->rx, size, &from, by_group, now);
            continue;
        }
        if (size != -EAGAIN) {
            QDES_COUNT(&f->stats, rx_errors);
        }
        /* An error of an earlier datagram may be all that woke us up. */
        if (!by_group && (size != -EAGAIN || i == 0)) {
            qdes_fabric_forget_unreachable(f);
        }
        if (size == -EAGAIN) {
            break;
        }
    }
    if (f->paused) {
        watch(f);
    }
}

void qdes_fabric_ready(QdesFabric *f, int fd, int events, int64_t now)
{
    if (fd == qdes_underlay_monitor_fd(f->underlay)) {
        qdes_underlay_drain_monitor(f->underlay);
        f->refresh_at = MIN(f->refresh_at, now + SETTLE_MS);
        qdes_fabric_arm(f, f->refresh_at);
        return;
    }
    if ((events & QDES_WATCH_READ) && !f->paused) {
        receive(f, fd, now);
    }
    if ((events & QDES_WATCH_WRITE) && f->blocked) {
        f->blocked = false;
        watch(f);
        f->host->writable(f->opaque);
    }
}

void qdes_fabric_resume(QdesFabric *f, int64_t now)
{
    if (f->paused) {
        f->paused = false;
        qdes_peers_excuse(f->peers, now - f->paused_at);
        watch(f);
    }
}

/* Life */

void qdes_fabric_tick(QdesFabric *f, int64_t now)
{
    f->timer = INT64_MAX;
    if (now >= f->refresh_at) {
        qdes_fabric_refresh(f, now);
    }
    if (now >= f->next_hello) {
        qdes_fabric_refresh(f, now);
        qdes_fabric_say_hello(f, now);
    }
    if (!f->paused) {
        qdes_fabric_expire(f, now);
    }
    qdes_fdb_age(f->fdb, now);

    qdes_fabric_arm(f, f->next_hello);
    qdes_fabric_arm(f, f->refresh_at);
    if (qdes_peers_size(f->peers) || qdes_fdb_size(f->fdb)) {
        qdes_fabric_arm(f, now + QDES_TICK_MS);
    }
}

void qdes_fabric_set_link(QdesFabric *f, bool up, int64_t now)
{
    if (up == f->link_up) {
        return;
    }
    if (!up) {
        qdes_fabric_say_bye(f);
    }
    f->link_up = up;
    if (up) {
        qdes_fabric_say_hello(f, now);
    }
    f->host->changed(f->opaque);
}

QdesFabric *qdes_fabric_new(const QdesConfig *config, const QdesHost *host,
                            void *opaque, int64_t now, GError **errp)
{
    QdesUnderlay *underlay = qdes_underlay_new(config, host, opaque, errp);
    QdesFabric *f;

    if (!underlay) {
        return NULL;
    }
    f = g_new0(QdesFabric, 1);
    f->config = *config;
    f->host = host;
    f->opaque = opaque;
    f->underlay = underlay;
    f->fdb = qdes_fdb_new(config->max_macs, QDES_MAX_PEERS + 1,
                          config->ageing_ms, host->random(opaque));
    f->peers = qdes_peers_new(QDES_MAX_PEERS, host->random(opaque));
    f->instance = host->random(opaque) | 1; /* 0 is no instance */
    f->link_up = true;
    f->timer = INT64_MAX;
    f->refresh_at = INT64_MAX;
    qdes_wire_encode_header(f->header, QDES_WIRE_DATA, config->netid);

    qdes_fabric_report_group(f);
    watch(f);
    if (qdes_underlay_monitor_fd(underlay) >= 0) {
        host->watch(opaque, qdes_underlay_monitor_fd(underlay),
                    QDES_WATCH_READ);
    }
    qdes_fabric_say_hello(f, now);
    return f;
}

void qdes_fabric_free(QdesFabric *f)
{
    int monitor_fd;

    if (!f) {
        return;
    }
    if (f->link_up) {
        qdes_fabric_say_bye(f);
    }
    f->host->watch(f->opaque, qdes_underlay_group_fd(f->underlay),
                   QDES_WATCH_NONE);
    f->host->watch(f->opaque, qdes_underlay_unicast_fd(f->underlay),
                   QDES_WATCH_NONE);
    monitor_fd = qdes_underlay_monitor_fd(f->underlay);
    if (monitor_fd >= 0) {
        f->host->watch(f->opaque, monitor_fd, QDES_WATCH_NONE);
    }
    qdes_underlay_free(f->underlay);
    qdes_peers_free(f->peers);
    qdes_fdb_free(f->fdb);
    g_free(f);
}

/* Status */

char *qdes_fabric_summary(const QdesFabric *f)
{
    const QdesNetif *netif = qdes_underlay_netif(f->underlay);
    QdesAddr local = qdes_underlay_local(f->underlay);
    char group[QDES_ADDR_STRLEN];
    char from[QDES_ADDR_STRLEN];

    return g_strdup_printf("qdes: netid=%u, group %s on %s, local %s%s",
                           f->config.netid,
                           qdes_addr_format(&f->config.group, group),
                           netif->index ? netif->name : "no interface",
                           qdes_addr_format(&local, from),
                           f->link_up ? "" : ", link down");
}

QdesStatus *qdes_fabric_status(const QdesFabric *f, int64_t now)
{
    QdesStatus *status = qdes_status_new(&f->config, f->underlay, f->peers,
                                         f->fdb, &f->stats, now);

    status->link_up = f->link_up;
    status->paused = f->paused;
    return status;
}
