/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The coming and going of peers: HELLO, BYE, silence. */

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

/* The peer in @slot is another one, or gone. */
static void forget_what_is_at(QdesFabric *f, uint32_t slot)
{
    qdes_fdb_flush_owner(f->fdb, slot);
    qdes_candidates_teller_gone(f->mesh.candidates, slot);
    f->rx.src = NULL;           /* what is read now may be from there */
    if (f->relay) {
        qdes_relay_forget(f->relay, slot);
    }
}

void qdes_fabric_forget(QdesFabric *f, uint32_t slot)
{
    uint64_t instance = qdes_peers_get(f->peers, slot)->instance;

    forget_what_is_at(f, slot);
    qdes_peers_remove(f->peers, slot);
    qdes_fabric_guard_lost(f);
    qdes_fabric_lose_relay(f, instance);
}

/*
 * It went without BYE: the underlay may be parted, and come together again.
 * Those of the group are heard then without our doing.
 */
static void remember_silent(QdesFabric *f, uint32_t slot)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);

    if (f->config.encap->control && peer->proven && !peer->heard_group) {
        qdes_candidates_remember(f->mesh.candidates, &peer->addr,
                                 peer->heard);
    }
}

void qdes_fabric_lose(QdesFabric *f, uint32_t slot)
{
    remember_silent(f, slot);
    QDES_COUNT(&f->stats, peers_unreachable);
    qdes_fabric_forget(f, slot);
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
            qdes_fabric_lose(f, slot);
        }
    }
}

/* A peer is new, or its hold time. */
static void watch_expiry(QdesFabric *f, uint32_t slot)
{
    f->next_expiry = MIN(f->next_expiry, qdes_peers_expiry(f->peers, slot));
}

void qdes_fabric_expire(QdesFabric *f, int64_t now)
{
    uint32_t slot = QDES_PEER_NONE;
    const QdesPeer *peer;

    f->next_expiry = INT64_MAX;
    while ((slot = qdes_peers_next(f->peers, slot)) != QDES_PEER_NONE) {
        peer = qdes_peers_get(f->peers, slot);
        if (peer->seed && !f->config.encap->control) {
            /* It is not asked for signs of life, and may have nothing to say
             * as long as it is a seed. */
            f->next_expiry = MIN(f->next_expiry, now + peer->hold_ms);
        } else if (qdes_peers_is_expired(f->peers, slot, now)) {
            QDES_COUNT(&f->stats, peers_expired);
            remember_silent(f, slot);
            qdes_fabric_forget(f, slot);
        } else {
            watch_expiry(f, slot);
        }
    }
}

bool qdes_fabric_has_departed(const QdesFabric *f, const QdesAddr *addr,
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
        forget_what_is_at(f, slot);
        qdes_fabric_guard_lost(f);
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
            qdes_peers_presume_alive(f->peers, slot, f->config.ageing_ms,
                                     now);
        }
        watch_expiry(f, slot);
        qdes_fabric_arm(f, now + QDES_TICK_MS);
    }
    return slot;
}

void qdes_fabric_presume_seed(QdesFabric *f, const QdesAddr *addr, int64_t now)
{
    uint32_t slot = note_heard(f, addr, now);

    qdes_peers_set_seed(f->peers, slot, true);
    qdes_peers_decide_copy(f->peers, slot, now, qdes_fabric_has_group(f));
}

/*
 * The address of ours to which what is worked off now was sent; NULL: it does
 * not matter here, or cannot be known.
 */
static const QdesAddr *sent_at(const QdesFabric *f)
{
    const QdesRxTrain *train = f->rx.train;

    return train && !f->rx.by_group && qdes_addr_is_set(&train->at) ?
           &train->at : NULL;
}

/*
 * What goes to the peer in @slot shall come from where it sends to, as nothing
 * else passes its firewall.  If it knows several addresses of ours, its frames
 * tell which one it uses; to the others it only says HELLO from time to time.
 */
static void note_at(QdesFabric *f, uint32_t slot, bool is_frame, int64_t now)
{
    const QdesAddr *at = sent_at(f);
    const QdesPeer *peer;

    if (!at) {
        return;
    }
    peer = qdes_peers_get(f->peers, slot);
    if (qdes_addr_equal(&peer->at, at) ||
        ((is_frame || !qdes_addr_is_set(&peer->at) ||
          now - peer->at_heard >= QDES_HOLD_MS) &&
         qdes_underlay_sends_from(f->underlay, at))) {
        qdes_peers_set_at(f->peers, slot, at, now);
    }
}

static uint32_t hear_again(QdesFabric *f, const QdesAddr *from, bool is_frame,
                           int64_t now)
{
    uint32_t slot;

    if (qdes_peers_find(f->peers, from) == QDES_PEER_NONE &&
        qdes_fabric_has_departed(f, from, now)) {
        return QDES_PEER_NONE;
    }
    slot = note_heard(f, from, now);
    note_at(f, slot, is_frame, now);
    return slot;
}

uint32_t qdes_fabric_hear_again(QdesFabric *f, const QdesAddr *from,
                                int64_t now)
{
    return hear_again(f, from, false, now);
}

/* Is it worth while to send an ECHO to the peer in @slot, to prove it? */
static bool answers_echo(const QdesFabric *f, uint32_t slot)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);

    return !peer->alive || peer->capabilities & QDES_WIRE_CAP_ECHO;
}

static void hear_by_group(QdesFabric *f, uint32_t slot, int64_t now)
{
    bool was_heard = qdes_peers_hears_group(f->peers, slot, now);

    qdes_peers_heard_group(f->peers, slot, now);
    if (!was_heard) {
        qdes_peers_decide_copy(f->peers, slot, now, qdes_fabric_has_group(f));
    }
}

uint32_t qdes_fabric_hear(QdesFabric *f, const QdesAddr *from, bool by_group,
                          size_t bytes, int64_t now, bool *teaches)
{
    uint32_t slot = hear_again(f, from, true, now);

    *teaches = false;
    if (slot == QDES_PEER_NONE) {
        return slot;
    }
    if (by_group) {
        hear_by_group(f, slot, now);
    }
    /* Who cannot seal can still send again, from anywhere, what was. */
    *teaches = qdes_peers_get(f->peers, slot)->proven ||
               (!f->sealing && qdes_peers_hears_group(f->peers, slot, now));
    if (!qdes_peers_get(f->peers, slot)->proven && answers_echo(f, slot)) {
        qdes_fabric_credit(f, from, bytes, now);
    }
    return slot;
}

void qdes_fabric_hear_copy(QdesFabric *f, uint32_t slot, int64_t now)
{
    const QdesPeer *peer;

    if (f->config.encap->control || slot == QDES_PEER_NONE) {
        return;
    }
    /* One who uses both ways sends both at once. */
    peer = qdes_peers_get(f->peers, slot);
    if (peer->heard_group && now - peer->heard_group >= QDES_PEER_SETTLE_MS) {
        qdes_peers_heard_group(f->peers, slot, 0);
        qdes_peers_decide_copy(f->peers, slot, now, qdes_fabric_has_group(f));
    }
}

/* HELLO and BYE */

/* An answer comes from where the question was sent to. */
static const QdesAddr *control_from(const QdesFabric *f, const QdesAddr *to)
{
    const QdesAddr *at = sent_at(f);

    if (!to) {
        return NULL;
    }
    return at && qdes_addr_equal(to, &f->rx.train->from) &&
           qdes_underlay_sends_from(f->underlay, at) ? at :
           qdes_peers_at(f->peers, qdes_peers_find(f->peers, to));
}

bool qdes_fabric_send_control(QdesFabric *f, const QdesAddr *to,
                              const uint8_t *data, size_t size)
{
    if (!f->config.encap->control) {
        return false;
    }
    return f->sealing ? qdes_sealing_send_control(f, to, data, size)
                      : qdes_fabric_send_datagram(f, to, data, size);
}

bool qdes_fabric_send_datagram(QdesFabric *f, const QdesAddr *to,
                               const uint8_t *data, size_t size)
{
    const QdesAddr *from = control_from(f, to);
    int ret = -EAGAIN;
    int try;

    /* The first error may be one of an earlier datagram. */
    for (try = 0; try < 3; try++) {
        ret = qdes_underlay_send_one(f->underlay, to, from, data, size);
        if (ret == 0 || !qdes_fabric_may_be_late(-ret)) {
            break;
        }
        qdes_fabric_forget_unreachable(f);
        if (try == 1) {
            if (!from) {
                break;
            }
            from = NULL;        /* it may have left this host */
        }
    }
    if (ret < 0) {
        QDES_COUNT(&f->stats, tx_control_errors);
    }
    return ret == 0;
}

/* Write a HELLO of ours; returns its bytes. */
static size_t make_hello(QdesFabric *f, uint8_t data[QDES_WIRE_HELLO_SIZE],
                         QdesGroupHeard group_heard)
{
    QdesWireHello hello = {
        .instance = f->instance,
        .capabilities = QDES_WIRE_CAP_CSUM_PARTIAL | QDES_WIRE_CAP_ECHO |
                        (f->config.superframes ?
                         QDES_WIRE_CAP_SUPERFRAME : 0) |
                        (qdes_fabric_relays(f) ? QDES_WIRE_CAP_RELAY : 0),
        .mtu = QDES_FRAME_MAX - f->overhead,
        .hold_time = QDES_HOLDS * qdes_fabric_interval(f) / 1000,
        .group_heard = group_heard,
    };

    g_strlcpy(hello.name, f->config.name, sizeof(hello.name));
    if (f->sealing) {
        qdes_sealing_fill_hello(f, &hello);
    }
    return qdes_wire_encode_hello(data, QDES_WIRE_HELLO, f->config.netid,
                                  &hello);
}

void qdes_fabric_send_hello(QdesFabric *f, const QdesAddr *to, bool asks,
                            QdesGroupHeard group_heard)
{
    uint64_t instances[QDES_WIRE_RELAY_MAX];
    uint8_t data[QDES_WIRE_HELLO_MAX];
    size_t size = make_hello(f, data, group_heard);
    uint32_t slot = to ? qdes_peers_find(f->peers, to) : QDES_PEER_NONE;
    unsigned n;

    if (asks) {
        /* Longer than an answer and an ECHO, so that both may be sent. */
        size = qdes_wire_pad(data, size, QDES_WIRE_HELLO_PADDED);
    } else if (slot != QDES_PEER_NONE &&
               (n = qdes_fabric_list_detours(f, slot, instances)) > 0) {
        size = qdes_wire_add_relay_for(data, size, instances, n);
    }
    if (qdes_fabric_send_control(f, to, data, size)) {
        QDES_COUNT(&f->stats, tx_hello);
    }
}

void qdes_fabric_say_hello(QdesFabric *f, int64_t now)
{
    if (f->link_up && f->config.has_group) {
        qdes_fabric_send_hello(f, NULL, true, QDES_GROUP_UNSAID);
    }
    f->next_hello = now + qdes_fabric_jitter(f, QDES_HELLO_MS);
    qdes_fabric_arm(f, f->next_hello);
}

/*
 * Tell a newcomer who is here.  Where very many come at once, or somebody
 * invents them, the next HELLO to all has to do; and where its own was so
 * short that an answer would be longer.
 */
static void answer(QdesFabric *f, uint32_t slot, int64_t now)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);
    uint8_t data[QDES_WIRE_HELLO_SIZE];

    if (!qdes_rate_take(&f->answers, MAX_ANSWERS, now) ||
        (!peer->proven &&
         !qdes_candidates_pay(f->mesh.candidates, &peer->addr,
                              make_hello(f, data, QDES_GROUP_HEARD)))) {
        QDES_COUNT(&f->stats, hello_unanswered);
        return;
    }
    qdes_fabric_greet(f, slot, now);
}

static void take_hello(QdesFabric *f, const QdesWireHello *hello,
                       const QdesAddr *from, bool by_group, size_t bytes,
                       int64_t now)
{
    uint32_t slot = note_heard(f, from, now);
    uint64_t before = qdes_peers_get(f->peers, slot)->instance;
    QdesPeerNews news = qdes_peers_hello(f->peers, slot, hello);
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);
    bool is_missed = peer->told != QDES_GROUP_HEARD &&
                     !qdes_peers_hears_group(f->peers, slot, now);

    note_at(f, slot, false, now);
    watch_expiry(f, slot);
    if (f->sealing) {
        qdes_sealing_note_hello(f, slot);
    }
    if (news != QDES_PEER_SAME) {
        forget_departed(f, from);
    }
    if (news == QDES_PEER_RESTARTED) {
        forget_what_is_at(f, slot);
        qdes_fabric_guard_lost(f);
        qdes_fabric_lose_relay(f, before);
    }
    if (by_group) {
        qdes_peers_heard_group(f->peers, slot, now);
    } else {
        qdes_fabric_take_relay_for(f, slot, hello, now);
    }
    qdes_peers_decide_copy(f->peers, slot, now, qdes_fabric_has_group(f));
    if (!peer->proven) {
        qdes_candidates_heard(f->mesh.candidates, from, bytes, now);
    } else {
        qdes_candidates_remove(f->mesh.candidates, from);
        if (news != QDES_PEER_SAME) {
            qdes_fabric_note_proven(f, slot, now);
        }
    }
    /*
     * What came by unicast is not answered, so that an answer never is; but
     * for one that was restarted, which cannot know us any more, and one that
     * has forgotten us, which we did not notice.
     */
    if (f->link_up &&
        (by_group ? news != QDES_PEER_SAME || is_missed :
         peer->proven && (news == QDES_PEER_RESTARTED ||
                          (news == QDES_PEER_SAME &&
                           bytes >= QDES_WIRE_HELLO_PADDED)))) {
        answer(f, slot, now);
    }
    slot = qdes_peers_find(f->peers, from);
    if (slot != QDES_PEER_NONE && !answers_echo(f, slot)) {
        qdes_candidates_remove(f->mesh.candidates, from);
    }
    qdes_fabric_arm_mesh(f, now);
}

static void forget_departing(QdesFabric *f, uint32_t slot, int64_t now)
{
    QdesAddr addr = qdes_peers_get(f->peers, slot)->addr;

    QDES_COUNT(&f->stats, peers_bye);
    remember_departed(f, &addr, now);
    qdes_candidates_remove(f->mesh.candidates, &addr);
    qdes_fabric_forget(f, slot);
}

static void take_bye(QdesFabric *f, const QdesWireHello *bye,
                     const QdesAddr *from, int64_t now)
{
    uint32_t slot = qdes_peers_find(f->peers, from);
    const QdesPeer *peer;
    bool is_proven = false;

    if (slot == QDES_PEER_NONE) {
        return;
    }
    peer = qdes_peers_get(f->peers, slot);
    if (!peer->alive || peer->instance == bye->instance) {
        is_proven = peer->alive && peer->proven;
        forget_departing(f, slot, now);
    }
    /*
     * Where it was before it moved, it cannot say goodbye any more, and would
     * be believed, and told of, until its hold time ends.
     */
    while (is_proven && (slot = qdes_peers_find_alive(f->peers,
                                                      bye->instance)) !=
           QDES_PEER_NONE) {
        forget_departing(f, slot, now);
    }
}

/* To all: those that the group reaches, and each of the others. */
void qdes_fabric_say_bye(QdesFabric *f)
{
    QdesWireHello bye = { .instance = f->instance };
    uint8_t data[QDES_WIRE_HELLO_SIZE];
    size_t size = qdes_wire_encode_hello(data, QDES_WIRE_BYE,
                                         f->config.netid, &bye);
    uint32_t slot = QDES_PEER_NONE;
    const QdesPeer *peer;
    QdesAddr to;

    if (f->config.has_group &&
        qdes_fabric_send_control(f, NULL, data, size)) {
        QDES_COUNT(&f->stats, tx_bye);
    }
    while ((slot = qdes_peers_next(f->peers, slot)) != QDES_PEER_NONE) {
        peer = qdes_peers_get(f->peers, slot);
        if (peer->greeted && peer->proven &&
            !qdes_peers_is_reached(f->peers, slot, peer->heard)) {
            to = peer->addr;
            if (qdes_fabric_send_control(f, &to, data, size)) {
                QDES_COUNT(&f->stats, tx_bye);
            }
        }
    }
}

void qdes_fabric_take_control(QdesFabric *f, const QdesWireHeader *header,
                              const QdesAddr *from, bool by_group,
                              int64_t now)
{
    size_t bytes = QDES_WIRE_HEADER_SIZE + header->payload_size;
    QdesWireHello hello;

    if (header->type >= QDES_WIRE_ECHO) {
        qdes_fabric_take_exchange(f, header, from, now);
    } else if (qdes_wire_decode_hello(&hello, header) != QDES_WIRE_OK) {
        QDES_COUNT(&f->stats, rx_drop_tlv);
    } else if (hello.instance == f->instance) {
        /* Brought back by a NAT, or a seed that is this port itself. */
        QDES_COUNT(&f->stats, rx_drop_own);
    } else if (header->type == QDES_WIRE_HELLO) {
        QDES_COUNT(&f->stats, rx_hello);
        take_hello(f, &hello, from, by_group, bytes, now);
    } else {
        QDES_COUNT(&f->stats, rx_bye);
        take_bye(f, &hello, from, now);
    }
}
