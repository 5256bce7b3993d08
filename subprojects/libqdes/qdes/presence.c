/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The coming and going of peers and interfaces: HELLO, BYE, silence, joins. */

#include "qdes/fabric-private.h"

#include <errno.h>

/*
 * HELLOs to newcomers, in a second.  One to an address that nobody has takes
 * room in the socket for as long as the kernel asks for its owner, some three
 * seconds: they must never fill it, or frames would wait for invented peers.
 */
#define MAX_ANSWERS 16

#define DEPARTED_MS 2000        /* how long frames may arrive after a BYE */

/* Peers */

void qdes_fabric_forget(QdesFabric *f, uint32_t slot)
{
    qdes_fdb_flush_owner(f->fdb, slot);
    qdes_peers_remove(f->peers, slot);
}

void qdes_fabric_forget_unreachable(QdesFabric *f)
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
            qdes_fabric_forget(f, slot);
        }
    }
}

void qdes_fabric_expire(QdesFabric *f, int64_t now)
{
    uint32_t slot = QDES_PEER_NONE;

    while ((slot = qdes_peers_next(f->peers, slot)) != QDES_PEER_NONE) {
        if (qdes_peers_is_expired(f->peers, slot, now)) {
            QDES_COUNT(&f->stats, peers_expired);
            qdes_fabric_forget(f, slot);
        }
    }
}

static bool has_departed(const QdesFabric *f, const QdesAddr *addr,
                         int64_t now)
{
    int i;

    for (i = 0; i < QDES_DEPARTED; i++) {
        if (f->departed[i].when &&
            now - f->departed[i].when < DEPARTED_MS &&
            qdes_addr_equal(&f->departed[i].addr, addr)) {
            return true;
        }
    }
    return false;
}

static void remember_departed(QdesFabric *f, const QdesAddr *addr,
                              int64_t now)
{
    unsigned i = f->next_departed++ % QDES_DEPARTED;

    f->departed[i].addr = *addr;
    f->departed[i].when = now;
}

/* It is back. */
static void forget_departed(QdesFabric *f, const QdesAddr *addr)
{
    int i;

    for (i = 0; i < QDES_DEPARTED; i++) {
        if (qdes_addr_equal(&f->departed[i].addr, addr)) {
            f->departed[i].when = 0;
        }
    }
}

/* Count the news about a peer that was just heard. */
static uint32_t note_heard(QdesFabric *f, const QdesAddr *from, int64_t now)
{
    bool added, evicted;
    uint32_t slot = qdes_peers_heard(f->peers, from, now, &added, &evicted);

    if (evicted) {
        QDES_COUNT(&f->stats, peers_evicted);
        qdes_fdb_flush_owner(f->fdb, slot);
        if (qdes_fabric_first(f, QDES_SAID_PEERS_FULL)) {
            qdes_fabric_say(f, QDES_LOG_WARNING,
                            "more than %d peers: those heard longest ago are "
                            "forgotten, and frames to them are flooded",
                            QDES_MAX_PEERS);
        }
    }
    if (added) {
        QDES_COUNT(&f->stats, peers_added);
        if (!f->config.encap->control) {
            qdes_peers_presume_alive(f->peers, slot, f->config.ageing_ms);
        }
        qdes_fabric_arm(f, now + QDES_TICK_MS);
    }
    return slot;
}

uint32_t qdes_fabric_hear(QdesFabric *f, const QdesAddr *from, int64_t now)
{
    uint32_t slot = qdes_peers_find(f->peers, from);

    if (slot == QDES_PEER_NONE && has_departed(f, from, now)) {
        return QDES_PEER_NONE;
    }
    return note_heard(f, from, now);
}

/* HELLO and BYE */

static void send_control(QdesFabric *f, QdesWireType type, const QdesAddr *to)
{
    QdesWireHello hello = {
        .instance = f->instance,
        .capabilities = QDES_WIRE_CAP_CSUM_PARTIAL |
                        (f->config.superframes ?
                         QDES_WIRE_CAP_SUPERFRAME : 0),
        .mtu = QDES_FRAME_MAX,
        .hold_time = QDES_HOLD_MS / 1000,
    };
    uint8_t data[QDES_WIRE_HELLO_SIZE];
    int ret = -EAGAIN;
    size_t size;
    int try;

    if (!f->config.encap->control) {
        return;
    }
    g_strlcpy(hello.name, f->config.name, sizeof(hello.name));
    size = qdes_wire_encode_hello(data, type, f->config.netid, &hello);
    /* The first error may be one of an earlier datagram. */
    for (try = 0; try < 2; try++) {
        ret = qdes_underlay_send_one(f->underlay, to, data, size);
        if (ret == 0 || !qdes_fabric_may_be_late(-ret)) {
            break;
        }
        qdes_fabric_forget_unreachable(f);
    }
    if (ret < 0) {
        QDES_COUNT(&f->stats, tx_control_errors);
    } else if (type == QDES_WIRE_HELLO) {
        QDES_COUNT(&f->stats, tx_hello);
    } else {
        QDES_COUNT(&f->stats, tx_bye);
    }
}

void qdes_fabric_say_hello(QdesFabric *f, int64_t now)
{
    /* Up to 10 % earlier or later, lest the ports of a rig fall in step. */
    int64_t jitter = f->host->random(f->opaque) % (QDES_HELLO_MS / 5);

    if (f->link_up && f->config.has_group) {
        send_control(f, QDES_WIRE_HELLO, NULL);
    }
    f->next_hello = now + QDES_HELLO_MS - QDES_HELLO_MS / 10 + jitter;
    qdes_fabric_arm(f, f->next_hello);
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
    uint32_t slot = note_heard(f, from, now);
    QdesPeerNews news = qdes_peers_hello(f->peers, slot, hello);

    if (news != QDES_PEER_SAME) {
        forget_departed(f, from);
    }
    if (news == QDES_PEER_RESTARTED) {
        qdes_fdb_flush_owner(f->fdb, slot);
    }
    /* Only what came by the group is answered, so that an answer never is. */
    if (news != QDES_PEER_SAME && by_group && f->link_up) {
        answer(f, from, now);
    }
}

static void take_bye(QdesFabric *f, const QdesWireHello *bye,
                     const QdesAddr *from, int64_t now)
{
    uint32_t slot = qdes_peers_find(f->peers, from);
    const QdesPeer *peer;

    if (slot == QDES_PEER_NONE) {
        return;
    }
    peer = qdes_peers_get(f->peers, slot);
    if (!peer->alive || peer->instance == bye->instance) {
        QDES_COUNT(&f->stats, peers_bye);
        remember_departed(f, from, now);
        qdes_fabric_forget(f, slot);
    }
}

void qdes_fabric_say_bye(QdesFabric *f)
{
    if (f->config.has_group) {
        send_control(f, QDES_WIRE_BYE, NULL);
    }
}

void qdes_fabric_take_control(QdesFabric *f, const QdesWireHeader *header,
                              const QdesAddr *from, bool by_group,
                              int64_t now)
{
    QdesWireHello hello;

    if (qdes_wire_decode_hello(&hello, header) != QDES_WIRE_OK) {
        QDES_COUNT(&f->stats, rx_drop_tlv);
    } else if (header->type == QDES_WIRE_HELLO) {
        QDES_COUNT(&f->stats, rx_hello);
        take_hello(f, &hello, from, by_group, now);
    } else {
        QDES_COUNT(&f->stats, rx_bye);
        take_bye(f, &hello, from, now);
    }
}

/* Interfaces */

void qdes_fabric_report_group(QdesFabric *f)
{
    const QdesNetif *netif = qdes_underlay_netif(f->underlay);
    QdesAddr local = qdes_underlay_local(f->underlay);
    char group[QDES_ADDR_STRLEN];
    char from[QDES_ADDR_STRLEN];

    qdes_addr_format(&f->config.group, group);
    qdes_addr_format(&local, from);
    if (!f->config.has_group) {
        qdes_fabric_say(f, QDES_LOG_INFO, "no group; peers find this port at "
                        "%s", from);
    } else if (!netif->index) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "no interface can join the group %s now; waiting for "
                        "one%s",
                        group, qdes_addr_is_v4(&f->config.group) ? "" :
                        " (for peers on this host only, an IPv4 group needs "
                        "none)");
    } else if (netif->fallback) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "no route for the group %s: joined on %s, for peers "
                        "on this host only; add a route or give iface=",
                        group, netif->name);
    } else {
        qdes_fabric_say(f, QDES_LOG_INFO,
                        "joined the group %s on %s, from %s",
                        group, netif->name, from);
    }
}

void qdes_fabric_refresh(QdesFabric *f, int64_t now)
{
    QdesRefresh result = qdes_underlay_refresh(f->underlay);

    f->refresh_at = INT64_MAX;
    f->paths++;
    if (result == QDES_REFRESH_SAME) {
        return;
    }
    if (result == QDES_REFRESH_JOINED) {
        QDES_COUNT(&f->stats, rejoined);
    }
    if (result != QDES_REFRESH_HOST) {
        qdes_fabric_report_group(f);
    }
    f->host->changed(f->opaque);
    qdes_fabric_say_hello(f, now);
}
