/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The loop guard: two ports of one fabric on one LAN.
 *
 *   qdes_fabric_suspect(), tick -> qdes_fabric_guard() -> send_probe()
 *   qdes_fabric_send() -> qdes_fabric_take_probe() -> reconsider()
 */

#include "qdes/fabric-private.h"

#include "qdes/probe.h"

/* After a loop was found: all have blocked that had to, and what still was on
 * its way has arrived. */
#define RELEARN_MS 200

#define ECHO_MS 1000            /* between two to the one that blocks us */
#define MAX_CHECKS 64           /* of probes, in a second */
#define MAX_MARKS 20000         /* of peers that are made, in a second */

static bool guards(const QdesFabric *f)
{
    return f->config.loop_guard && f->link_up;
}

/* The peer of @instance, or NULL. */
static const QdesPeer *find_peer(const QdesFabric *f, uint64_t instance)
{
    uint32_t slot = qdes_peers_find_alive(f->peers, instance);

    return slot == QDES_PEER_NONE ? NULL : qdes_peers_get(f->peers, slot);
}

static bool is_peer(uint64_t instance, void *opaque)
{
    return find_peer(opaque, instance) != NULL;
}

/* Make the mark of the peer in @slot when it is needed first.  Whoever invents
 * peers must not keep us busy with that. */
static void make_mark(QdesFabric *f, uint32_t slot, int64_t now)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);

    if (!peer->mark && qdes_storm_allows(&f->loop.marks, now)) {
        qdes_storm_charge(&f->loop.marks, 1);
        qdes_peers_set_mark(f->peers, slot, qdes_probe_mark(peer->instance));
    }
}

/* The peer that sent @probe, or NULL. */
static const QdesPeer *find_sender(QdesFabric *f, const QdesProbe *probe,
                                   int64_t now)
{
    uint32_t slot = QDES_PEER_NONE;
    const QdesPeer *peer;

    while ((slot = qdes_peers_next(f->peers, slot)) != QDES_PEER_NONE) {
        peer = qdes_peers_get(f->peers, slot);
        if (peer->alive && peer->instance) {
            make_mark(f, slot, now);
            if (peer->mark == probe->mark &&
                qdes_probe_is_of(probe, peer->instance)) {
                return peer;
            }
        }
    }
    return NULL;
}

/* The peer at @f->loop.addr is to go on, this port not. */
static void block(QdesFabric *f, int64_t now)
{
    char addr[QDES_ADDR_STRLEN];

    QDES_COUNT(&f->stats, loop_blocked);
    qdes_fabric_send_queue(f, now);
    f->loop.blocked = true;
    /* What it learned of late came in circles.  Peers have learned from that,
     * too: to leave and to come back makes them forget. */
    qdes_fdb_flush(f->fdb);
    if (f->portsec) {
        qdes_portsec_forget(f->portsec, NULL);
    }
    qdes_fabric_say_bye(f);
    qdes_fabric_say_hello(f, now);
    qdes_fabric_say(f, QDES_LOG_WARNING,
                    "loop: this port, %s, and the peer %s (%s) are on the "
                    "same LAN. This port is blocked, or frames would circle "
                    "for ever; take one of the two off that LAN",
                    f->config.name, f->loop.name,
                    qdes_addr_format(&f->loop.addr, addr));
}

static void unblock(QdesFabric *f)
{
    f->loop.blocked = false;
    if (f->link_up) {
        qdes_fabric_say(f, QDES_LOG_INFO, "no loop with %s any more: frames "
                        "pass again", f->loop.name);
    }
}

/* Block, or block no more, as what was heard says. */
static void reconsider(QdesFabric *f, int64_t now)
{
    uint64_t lower = 0;
    const QdesPeer *peer = NULL;

    if (guards(f)) {
        lower = qdes_guard_find(&f->loop.guard, f->instance, now, is_peer, f);
    }
    if (lower) {
        peer = find_peer(f, lower);
    }
    if (peer) {
        /* Also where another one has come in its place. */
        g_strlcpy(f->loop.name, peer->name, sizeof(f->loop.name));
        f->loop.addr = peer->addr;
    }
    if (peer && !f->loop.blocked) {
        block(f, now);
        f->host->changed(f->opaque);
    } else if (!peer && f->loop.blocked) {
        unblock(f);
        f->host->changed(f->opaque);
    }
}

void qdes_fabric_suspect(QdesFabric *f, int64_t now)
{
    if (guards(f)) {
        qdes_fabric_arm(f, qdes_guard_suspect(&f->loop.guard, now));
    }
}

/* In a sealed network, nobody on the LAN learns its number either. */
static bool is_ours(const QdesFabric *f, uint32_t netid)
{
    return f->sealing ? qdes_sealing_is_probe_id(f, netid)
                      : netid == f->config.netid;
}

void qdes_fabric_take_probe(QdesFabric *f, const struct iovec *iov, int iovcnt,
                            int64_t now)
{
    uint8_t data[QDES_PROBE_SIZE];
    QdesProbe probe;
    const QdesPeer *sender;
    size_t size = qdes_eth_head(data, sizeof(data), iov, iovcnt);

    qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_probe);
    if (!guards(f) || !qdes_probe_decode(&probe, data, size) ||
        !is_ours(f, probe.netid) ||
        probe.mark == f->loop.mark ||
        !qdes_storm_allows(&f->loop.checks, now)) {
        return;
    }
    qdes_storm_charge(&f->loop.checks, 1);
    if (probe.asks) {
        /* Also to those that are not known: their HELLO may come late. */
        qdes_fabric_arm(f, qdes_guard_answer(&f->loop.guard, now));
    }
    sender = find_sender(f, &probe, now);
    if (sender) {
        QDES_COUNT(&f->stats, loop_heard);
        if (qdes_guard_hear(&f->loop.guard, sender->instance, now)) {
            f->loop.relearn_at = now + RELEARN_MS;
            qdes_fabric_arm(f, f->loop.relearn_at);
        }
        if (sender->instance > f->instance &&
            qdes_fabric_first(f, QDES_SAID_LOOP)) {
            qdes_fabric_say(f, QDES_LOG_WARNING,
                            "loop: this port, %s, and the peer %s are on the "
                            "same LAN. The peer is to block; take one of the "
                            "two off that LAN",
                            f->config.name, sender->name);
        }
        reconsider(f, now);
    }
}

void qdes_fabric_guard_lost(QdesFabric *f)
{
    if (f->loop.blocked) {
        qdes_fabric_arm(f, 0);
    }
}

/*
 * While frames circled, stations of the LAN were heard from the fabric, and
 * those of the fabric on the LAN.  Who says nothing more would stay there.
 */
static void relearn(QdesFabric *f)
{
    f->loop.relearn_at = 0;
    qdes_fdb_flush_owner(f->fdb, QDES_FDB_LOCAL);
    if (f->host->relearn) {
        f->host->relearn(f->opaque);
    }
}

/* Whoever is killed says no BYE; but its host says that it is gone. */
static void watch_winner(QdesFabric *f, int64_t now)
{
    QdesAddr to = f->loop.addr;
    uint32_t slot = qdes_peers_find(f->peers, &to);

    if (now >= f->loop.next_echo) {
        f->loop.next_echo = now + ECHO_MS;
        /* Its HELLO may be forged. */
        if (!f->paused && slot != QDES_PEER_NONE &&
            (qdes_peers_get(f->peers, slot)->proven ||
             qdes_candidates_pay(f->mesh.candidates, &to, QDES_ECHO_SIZE))) {
            qdes_fabric_send_echo(f, &to, now);
        }
    }
    qdes_fabric_arm(f, f->loop.next_echo);
}

static void send_probe(QdesFabric *f, int64_t now)
{
    QdesVnet vnet = { .needs_csum = false };
    QdesProbe probe = {
        .netid = f->sealing ? qdes_sealing_probe_id(f) : f->config.netid,
        .asks = f->loop.guard.asks,
        .nonce = f->host->random(f->opaque),
    };
    uint8_t data[QDES_PROBE_SIZE];
    struct iovec iov[2] = { [1] = { data, sizeof(data) } };
    QdesDelivery delivery;

    qdes_probe_encode(data, &probe, f->instance);
    delivery = qdes_fabric_deliver(f, &vnet, iov, 2, sizeof(data), 0);
    if (delivery != QDES_REFUSED) {
        QDES_COUNT(&f->stats, loop_probes);
    }
    if (delivery == QDES_DELIVERED_FULL) {
        qdes_fabric_pause(f, now);
        qdes_fabric_watch(f);
    }
}

void qdes_fabric_guard(QdesFabric *f, int64_t now)
{
    if (!f->config.loop_guard) {
        return;
    }
    if (!f->link_up) {
        qdes_guard_forget(&f->loop.guard);
    } else if (now >= f->loop.guard.next) {
        /* A port that is full gets it with the next turn. */
        if (!f->paused) {
            send_probe(f, now);
        }
        qdes_guard_sent(&f->loop.guard, now);
    }
    reconsider(f, now);
    if (f->loop.blocked) {
        watch_winner(f, now);
    }
    if (f->link_up && f->loop.relearn_at) {
        if (now >= f->loop.relearn_at) {
            relearn(f);
        } else {
            qdes_fabric_arm(f, f->loop.relearn_at);
        }
    }
    if (f->link_up) {
        qdes_fabric_arm(f, f->loop.guard.next);
    }
}

void qdes_fabric_guard_init(QdesFabric *f, int64_t now)
{
    f->loop.mark = qdes_probe_mark(f->instance);
    qdes_storm_init(&f->loop.checks, MAX_CHECKS, now);
    qdes_storm_init(&f->loop.marks, MAX_MARKS, now);
    qdes_fabric_suspect(f, now);
}
