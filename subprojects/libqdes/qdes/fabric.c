/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The fabric: one port of a distributed Ethernet switch. */

#include "qdes/fabric.h"

#include <errno.h>
#include <string.h>

#include "qdes/eth.h"
#include "qdes/fdb.h"
#include "qdes/peer.h"
#include "qdes/status.h"
#include "qdes/underlay.h"
#include "qdes/wire.h"

#define MAX_IOV 64              /* pieces of a frame; more are joined first */
#define TICK_MS 1000            /* how late ageing and expiry may be noticed */
#define SETTLE_MS 200           /* interfaces change in bursts: look once */
#define DUPLICATE_MS 10000      /* claimed elsewhere, used here again */
#define MAX_ANSWERS 64          /* HELLOs to newcomers, in a second */
#define N_LOST 16               /* own MAC addresses claimed of late */
#define RX_SIZE 65536           /* bytes, no datagram is larger */

/* What is said at most once. */
typedef enum Said {
    SAID_DUPLICATE = 1 << 0,
    SAID_VERSION = 1 << 1,
    SAID_SEALED = 1 << 2,
    SAID_DENIED = 1 << 3,
    SAID_PEERS_FULL = 1 << 4,
} Said;

/* A MAC address of this side that a peer claimed. */
typedef struct LostMac {
    uint8_t mac[QDES_MAC_SIZE];
    unsigned claims;            /* 0: the entry is free */
    int64_t when;               /* of the last claim */
} LostMac;

struct QdesFabric {
    QdesConfig config;
    const QdesHost *host;
    void *opaque;
    QdesUnderlay *underlay;
    QdesFdb *fdb;
    QdesPeers *peers;
    QdesStats stats;
    uint64_t instance;
    unsigned said;

    bool link_up;
    bool paused;                /* the port is full */
    bool blocked;               /* the unicast socket is full */
    int64_t paused_at;

    int64_t answers_from;       /* the second that answers are counted in */
    unsigned answers;

    int64_t next_hello;
    int64_t refresh_at;
    int64_t timer;              /* what the host was told */

    LostMac lost[N_LOST];
    unsigned next_lost;

    uint8_t header[QDES_WIRE_HEADER_SIZE]; /* of each DATA datagram */
    uint8_t rx[RX_SIZE];
    uint8_t tx[QDES_FRAME_MAX]; /* a frame in too many pieces, joined */
};

static void G_GNUC_PRINTF(3, 4) say(QdesFabric *f, QdesLogLevel level,
                                    const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    f->host->log(f->opaque, level, text);
}

/* Is this the first time? */
static bool first(QdesFabric *f, Said what)
{
    bool is_first = !(f->said & what);

    f->said |= what;
    return is_first;
}

/* Have qdes_fabric_tick() called at @when at the latest. */
static void arm(QdesFabric *f, int64_t when)
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

/* Peers */

static void forget_peer(QdesFabric *f, uint32_t slot)
{
    qdes_fdb_flush_owner(f->fdb, slot);
    qdes_peers_remove(f->peers, slot);
}

/* Forget all peers that the network has reported unreachable. */
static void forget_unreachable(QdesFabric *f)
{
    QdesAddr addr;
    uint32_t slot;
    int i;

    for (i = 0; i < QDES_BUDGET; i++) {
        if (!qdes_underlay_unreachable(f->underlay, &addr)) {
            return;
        }
        slot = qdes_peers_find(f->peers, &addr);
        if (slot != QDES_PEER_NONE) {
            QDES_COUNT(&f->stats, peers_unreachable);
            forget_peer(f, slot);
        }
    }
}

static void expire_peers(QdesFabric *f, int64_t now)
{
    uint32_t slot = QDES_PEER_NONE;

    while ((slot = qdes_peers_next(f->peers, slot)) != QDES_PEER_NONE) {
        if (qdes_peers_is_expired(f->peers, slot, now)) {
            QDES_COUNT(&f->stats, peers_expired);
            forget_peer(f, slot);
        }
    }
}

/* Something valid came from @from; returns its slot. */
static uint32_t hear(QdesFabric *f, const QdesAddr *from, int64_t now)
{
    bool added, evicted;
    uint32_t slot = qdes_peers_heard(f->peers, from, now, &added, &evicted);

    if (evicted) {
        QDES_COUNT(&f->stats, peers_evicted);
        qdes_fdb_flush_owner(f->fdb, slot);
        if (first(f, SAID_PEERS_FULL)) {
            say(f, QDES_LOG_WARNING, "more than %d peers: those heard longest "
                "ago are forgotten, and frames to them are flooded",
                QDES_MAX_PEERS);
        }
    }
    if (added) {
        QDES_COUNT(&f->stats, peers_added);
        arm(f, now + TICK_MS);
    }
    return slot;
}

/* HELLO and BYE */

static void send_control(QdesFabric *f, QdesWireType type, const QdesAddr *to)
{
    QdesWireHello hello = {
        .instance = f->instance,
        .mtu = QDES_FRAME_MAX,
        .hold_time = QDES_HOLD_MS / 1000,
    };
    uint8_t data[QDES_WIRE_HELLO_SIZE];
    struct iovec iov = { .iov_base = data };
    int ret;

    g_strlcpy(hello.name, f->config.name, sizeof(hello.name));
    iov.iov_len = qdes_wire_encode_hello(data, type, f->config.netid, &hello);
    ret = to ? qdes_underlay_send(f->underlay, to, &iov, 1)
             : qdes_underlay_flood(f->underlay, &iov, 1);
    if (ret < 0) {
        QDES_COUNT(&f->stats, tx_control_errors);
    } else if (type == QDES_WIRE_HELLO) {
        QDES_COUNT(&f->stats, tx_hello);
    } else {
        QDES_COUNT(&f->stats, tx_bye);
    }
}

static void say_hello(QdesFabric *f, int64_t now)
{
    /* Up to 10 % earlier or later, lest the ports of a rig fall in step. */
    int64_t jitter = f->host->random(f->opaque) % (QDES_HELLO_MS / 5);

    if (f->link_up) {
        send_control(f, QDES_WIRE_HELLO, NULL);
    }
    f->next_hello = now + QDES_HELLO_MS - QDES_HELLO_MS / 10 + jitter;
    arm(f, f->next_hello);
}

/*
 * Tell a newcomer who is here.  Where very many come at once, or somebody
 * invents them, the next HELLO to all has to do.
 */
static void answer(QdesFabric *f, const QdesAddr *to, int64_t now)
{
    if (now - f->answers_from >= 1000) {
        f->answers_from = now;
        f->answers = 0;
    }
    if (f->answers < MAX_ANSWERS) {
        f->answers++;
        send_control(f, QDES_WIRE_HELLO, to);
    }
}

static void take_hello(QdesFabric *f, const QdesWireHello *hello,
                       const QdesAddr *from, bool by_group, int64_t now)
{
    uint32_t slot = hear(f, from, now);
    QdesPeerNews news = qdes_peers_hello(f->peers, slot, hello);

    if (news == QDES_PEER_RESTARTED) {
        qdes_fdb_flush_owner(f->fdb, slot);
    }
    /* Only what came by the group is answered, so that an answer never is. */
    if (news != QDES_PEER_SAME && by_group && f->link_up) {
        answer(f, from, now);
    }
}

static void take_bye(QdesFabric *f, const QdesWireHello *bye,
                     const QdesAddr *from)
{
    uint32_t slot = qdes_peers_find(f->peers, from);
    const QdesPeer *peer;

    if (slot == QDES_PEER_NONE) {
        return;
    }
    peer = qdes_peers_get(f->peers, slot);
    if (!peer->alive || peer->instance == bye->instance) {
        QDES_COUNT(&f->stats, peers_bye);
        forget_peer(f, slot);
    }
}

/* Interfaces */

static void report_group(QdesFabric *f)
{
    const QdesNetif *netif = qdes_underlay_netif(f->underlay);
    QdesAddr local = qdes_underlay_local(f->underlay);
    char group[QDES_ADDR_STRLEN];
    char from[QDES_ADDR_STRLEN];

    qdes_addr_format(&f->config.group, group);
    qdes_addr_format(&local, from);
    if (!netif->index) {
        say(f, QDES_LOG_WARNING, "no interface can join the group %s now; "
            "waiting for one%s", group,
            qdes_addr_is_v4(&f->config.group) ? "" :
            " (for peers on this host only, an IPv4 group needs none)");
    } else if (netif->fallback) {
        say(f, QDES_LOG_WARNING, "no route for the group %s: joined on %s, "
            "for peers on this host only; add a route or give iface=", group,
            netif->name);
    } else {
        say(f, QDES_LOG_INFO, "joined the group %s on %s, from %s", group,
            netif->name, from);
    }
}

static void refresh(QdesFabric *f, int64_t now)
{
    QdesRefresh result = qdes_underlay_refresh(f->underlay);

    f->refresh_at = INT64_MAX;
    if (result == QDES_REFRESH_SAME) {
        return;
    }
    if (result == QDES_REFRESH_JOINED) {
        QDES_COUNT(&f->stats, rejoined);
    }
    report_group(f);
    f->host->changed(f->opaque);
    say_hello(f, now);
}

/* From the port to the underlay */

/* The claims on @mac of the last seconds, or NULL. */
static LostMac *find_lost(QdesFabric *f, const uint8_t *mac, int64_t now)
{
    LostMac *lost;
    int i;

    for (i = 0; i < N_LOST; i++) {
        lost = &f->lost[i];
        if (lost->claims && memcmp(lost->mac, mac, QDES_MAC_SIZE) == 0 &&
            now - lost->when < DUPLICATE_MS) {
            return lost;
        }
    }
    return NULL;
}

static void remember_lost(QdesFabric *f, const uint8_t *mac, int64_t now)
{
    LostMac *lost = find_lost(f, mac, now);

    if (!lost) {
        lost = &f->lost[f->next_lost++ % N_LOST];
        memcpy(lost->mac, mac, QDES_MAC_SIZE);
        lost->claims = 0;
    }
    lost->claims++;
    lost->when = now;
}

/*
 * A MAC address that a peer claimed is used here again.  Once is what a guest
 * does that moves back, and what happens to one that comes: frames that it
 * sent from its old place may have waited here until it went on.  Again
 * within so short a time, it is two guests with the same address.
 */
static void check_duplicate(QdesFabric *f, const uint8_t *mac,
                            uint32_t slot, int64_t now)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);
    const LostMac *lost = find_lost(f, mac, now);
    char addr[QDES_ADDR_STRLEN];
    char text[QDES_MAC_STRLEN];

    if (!lost) {
        return;
    }
    QDES_COUNT(&f->stats, mac_duplicate);
    if (lost->claims > 1 && first(f, SAID_DUPLICATE)) {
        say(f, QDES_LOG_WARNING, "duplicate MAC address %s: used here and by "
            "the peer %s (%s); give each guest an address of its own",
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
        arm(f, now + TICK_MS);
        break;
    case QDES_FDB_MOVED:
        if (old_owner == QDES_FDB_LOCAL) {
            remember_lost(f, mac, now);
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
        if (first(f, SAID_DENIED)) {
            say(f, QDES_LOG_WARNING, "a firewall of this host forbids "
                "sending; such frames are dropped (tx-drop-denied)");
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
        forget_peer(f, slot);
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
        forget_unreachable(f);
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

/* From the underlay to the port */

static void take_frame(QdesFabric *f, const uint8_t *frame, size_t size,
                       const QdesAddr *from, int64_t now)
{
    const QdesEthHeader *eth = (const QdesEthHeader *)frame;
    uint32_t slot;

    if (!qdes_mac_is_source(eth->src)) {
        QDES_COUNT(&f->stats, rx_drop_source);
        return;
    }
    slot = hear(f, from, now);
    learn(f, eth->src, slot, now);
    if (!f->link_up) {
        QDES_COUNT(&f->stats, rx_drop_link);
        return;
    }
    switch (f->host->deliver(f->opaque, frame, size)) {
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

static void take_control(QdesFabric *f, const QdesWireHeader *header,
                         const QdesAddr *from, bool by_group, int64_t now)
{
    QdesWireHello hello;

    if (qdes_wire_decode_hello(&hello, header) != QDES_WIRE_OK) {
        QDES_COUNT(&f->stats, rx_drop_tlv);
    } else if (header->type == QDES_WIRE_HELLO) {
        QDES_COUNT(&f->stats, rx_hello);
        take_hello(f, &hello, from, by_group, now);
    } else {
        QDES_COUNT(&f->stats, rx_bye);
        take_bye(f, &hello, from);
    }
}

static void say_version(QdesFabric *f, const QdesAddr *from, unsigned version)
{
    char text[QDES_ADDR_STRLEN];

    if (first(f, SAID_VERSION)) {
        say(f, QDES_LOG_WARNING, "%s speaks version %u of the protocol, this "
            "port %d: nothing passes between them",
            qdes_addr_format(from, text), version, QDES_WIRE_VERSION);
    }
}

static void say_sealed(QdesFabric *f, const QdesAddr *from)
{
    char text[QDES_ADDR_STRLEN];

    if (first(f, SAID_SEALED)) {
        say(f, QDES_LOG_WARNING, "%s seals what it sends, and this port has "
            "no key: nothing passes between them",
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
        take_control(f, &header, from, by_group, now);
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
            forget_unreachable(f);
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
        arm(f, f->refresh_at);
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
        refresh(f, now);
    }
    if (now >= f->next_hello) {
        refresh(f, now);
        say_hello(f, now);
    }
    if (!f->paused) {
        expire_peers(f, now);
    }
    qdes_fdb_age(f->fdb, now);

    arm(f, f->next_hello);
    arm(f, f->refresh_at);
    if (qdes_peers_size(f->peers) || qdes_fdb_size(f->fdb)) {
        arm(f, now + TICK_MS);
    }
}

void qdes_fabric_set_link(QdesFabric *f, bool up, int64_t now)
{
    if (up == f->link_up) {
        return;
    }
    if (!up) {
        send_control(f, QDES_WIRE_BYE, NULL);
    }
    f->link_up = up;
    if (up) {
        say_hello(f, now);
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

    report_group(f);
    watch(f);
    if (qdes_underlay_monitor_fd(underlay) >= 0) {
        host->watch(opaque, qdes_underlay_monitor_fd(underlay),
                    QDES_WATCH_READ);
    }
    say_hello(f, now);
    return f;
}

void qdes_fabric_free(QdesFabric *f)
{
    int monitor_fd;

    if (!f) {
        return;
    }
    if (f->link_up) {
        send_control(f, QDES_WIRE_BYE, NULL);
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

typedef struct Snapshot {
    const QdesFabric *fabric;
    QdesStatus *status;
    int64_t now;
} Snapshot;

static void copy_entry(const QdesFdbEntry *entry, void *opaque)
{
    Snapshot *snap = opaque;
    QdesStatusMac *mac = &snap->status->fdb[snap->status->n_macs++];

    memcpy(mac->mac, entry->mac, sizeof(mac->mac));
    mac->local = entry->owner == QDES_FDB_LOCAL;
    if (!mac->local) {
        mac->peer = qdes_peers_get(snap->fabric->peers, entry->owner)->addr;
    }
    mac->age_ms = snap->now - entry->heard;
    mac->moves = entry->moves;
}

static void copy_peers(Snapshot *snap)
{
    const QdesFabric *f = snap->fabric;
    QdesStatusPeer *out = snap->status->peers;
    uint32_t slot = QDES_PEER_NONE;
    const QdesPeer *peer;

    while ((slot = qdes_peers_next(f->peers, slot)) != QDES_PEER_NONE) {
        peer = qdes_peers_get(f->peers, slot);
        g_strlcpy(out->name, peer->name, sizeof(out->name));
        out->address = peer->addr;
        out->hello = peer->alive;
        out->last_heard_ms = snap->now - peer->heard;
        out->macs = qdes_fdb_owner_size(f->fdb, slot);
        out++;
    }
}

static void copy_counters(const QdesFabric *f, QdesStats *stats)
{
    const QdesFdbTotals *totals = qdes_fdb_totals(f->fdb);

    *stats = f->stats;
    QDES_COUNT_ADD(stats, fdb_learned, totals->learned);
    QDES_COUNT_ADD(stats, fdb_moved, totals->moved);
    QDES_COUNT_ADD(stats, fdb_aged, totals->aged);
    QDES_COUNT_ADD(stats, fdb_evicted, totals->evicted);
    QDES_COUNT_ADD(stats, fdb_flushed, totals->flushed);
    QDES_COUNT_ADD(stats, rx_drop_kernel, qdes_underlay_drops(f->underlay));
}

QdesStatus *qdes_fabric_status(const QdesFabric *f, int64_t now)
{
    const QdesNetif *netif = qdes_underlay_netif(f->underlay);
    QdesStatus *status = g_new0(QdesStatus, 1);
    Snapshot snap = { .fabric = f, .status = status, .now = now };

    g_strlcpy(status->name, f->config.name, sizeof(status->name));
    status->netid = f->config.netid;
    status->encap = "qdes";
    status->local = qdes_underlay_local(f->underlay);
    status->group = f->config.group;
    g_strlcpy(status->iface, netif->name, sizeof(status->iface));
    status->loopback = netif->fallback;
    status->link_up = f->link_up;
    status->paused = f->paused;
    status->n_peers = qdes_peers_size(f->peers);
    status->peers = g_new0(QdesStatusPeer, status->n_peers);
    copy_peers(&snap);
    status->fdb = g_new0(QdesStatusMac, qdes_fdb_size(f->fdb));
    qdes_fdb_foreach(f->fdb, now, copy_entry, &snap);
    copy_counters(f, &status->counters);
    qdes_status_sort(status);
    return status;
}
