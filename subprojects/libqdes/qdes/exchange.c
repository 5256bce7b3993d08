/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ECHO, ECHO-REPLY and PEERS that come in: who is proven by them, and who is
 * told of.  What goes out by itself is mesh.c's.
 */

#include "qdes/fabric-private.h"

#include "qdes/gossip.h"

#define MAX_REPLIES 500         /* ECHO-REPLYs in a second, to strangers */
#define MAX_PEER_REPLIES 5000   /* to proven peers */
#define MAX_UNASKED 10          /* lists that nobody asked for, in a second */
#define GREET_MS 1000           /* from one HELLO to another, to one who sees
                                   us move */
#define ASKED_MS 5000           /* what comes after this, was not asked for */
#define MAX_LISTS 100           /* PEERS with a list, in a second; in one answer
                                   as many as the asker has room for: */
#define LISTS_EACH \
    ((QDES_CANDIDATES_EACH + QDES_ENTRIES_MAX - 1) / QDES_ENTRIES_MAX)
#define LISTS_BUSY (MAX_LISTS / 2) /* from here on, only one in an answer */
#define MAX_ASKED 50            /* questions looked into, in a second: each
                                   goes through all peers */

bool qdes_rate_take(QdesRate *rate, unsigned max, int64_t now)
{
    if (now - rate->from >= 1000 || now < rate->from) {
        rate->from = now;
        rate->n = 0;
    }
    if (rate->n >= max) {
        return false;
    }
    rate->n++;
    return true;
}

/* May an ECHO-REPLY of @bytes go to @to?  Strangers, who may be many and
 * invented, do not use up what peers get. */
static bool may_reply(QdesFabric *f, const QdesAddr *to, size_t bytes,
                      int64_t now)
{
    uint32_t slot = qdes_peers_find(f->peers, to);

    if (slot != QDES_PEER_NONE && qdes_peers_get(f->peers, slot)->proven) {
        return qdes_rate_take(&f->mesh.peer_replies, MAX_PEER_REPLIES, now);
    }
    return qdes_rate_take(&f->mesh.replies, MAX_REPLIES, now) &&
           qdes_candidates_pay(f->mesh.candidates, to, bytes);
}

void qdes_fabric_credit(QdesFabric *f, const QdesAddr *from, size_t bytes,
                        int64_t now)
{
    qdes_candidates_heard(f->mesh.candidates, from, bytes, now);
    qdes_fabric_arm_mesh(f, now);
}

/* How the peer in @slot sees us. */
static void note_observed(QdesFabric *f, uint32_t slot,
                          const QdesAddr *observed, int64_t now)
{
    uint32_t seen = qdes_addr_hash(observed, f->mesh.key[0]) | 1;
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);
    uint32_t before = peer->observed;

    f->mesh.behind_nat = !qdes_underlay_is_own(f->underlay, observed);
    qdes_peers_set_observed(f->peers, slot, seen);
    if (before && before != seen && now - peer->greeted >= GREET_MS) {
        /* Somebody new, from there. */
        qdes_fabric_greet(f, slot, now);
    }
}

static void take_echo(QdesFabric *f, const QdesEcho *echo,
                      const QdesAddr *from, size_t bytes, int64_t now)
{
    QdesEcho reply = { .nonce = echo->nonce, .observed = *from };
    uint32_t slot = qdes_peers_find(f->peers, from);
    uint8_t data[QDES_ECHO_SIZE];
    size_t size;

    if (slot != QDES_PEER_NONE) {
        qdes_fabric_hear_again(f, from, now);
    }
    if (!f->link_up) {
        return;
    }
    if (slot == QDES_PEER_NONE || !qdes_peers_get(f->peers, slot)->proven) {
        qdes_fabric_credit(f, from, bytes, now);
    }
    size = qdes_control_encode_echo(data, QDES_WIRE_ECHO_REPLY,
                                    f->config.netid, &reply);
    if (!may_reply(f, from, size, now)) {
        QDES_COUNT(&f->stats, echo_unanswered);
    } else if (qdes_fabric_send_control(f, from, data, size)) {
        QDES_COUNT(&f->stats, tx_echo_reply);
    }
    /* It may have found us behind another mapping of our NAT before we did. */
    slot = qdes_peers_find(f->peers, from);
    if (slot != QDES_PEER_NONE && qdes_peers_get(f->peers, slot)->proven &&
        !qdes_underlay_is_own(f->underlay, &echo->observed)) {
        note_observed(f, slot, &echo->observed, now);
    }
}

static void take_reply(QdesFabric *f, const QdesEcho *echo,
                       const QdesAddr *from, int64_t now)
{
    int64_t age_us;
    uint32_t slot;

    if (!qdes_nonce_check(f->mesh.key, from, qdes_fabric_now_us(f, now),
                          echo->nonce, &age_us)) {
        QDES_COUNT(&f->stats, echo_stray);
        return;
    }
    slot = qdes_fabric_take_proof(f, from, age_us, now);
    if (slot != QDES_PEER_NONE) {
        note_observed(f, slot, &echo->observed, now);
    }
}

uint32_t qdes_fabric_take_proof(QdesFabric *f, const QdesAddr *from,
                                int64_t age_us, int64_t now)
{
    uint32_t slot = qdes_fabric_hear_again(f, from, now);
    const QdesPeer *peer;

    if (slot == QDES_PEER_NONE) {
        return slot;
    }
    peer = qdes_peers_get(f->peers, slot);
    if (peer->alive) {
        qdes_candidates_remove(f->mesh.candidates, from);
    }
    /* The nonce may have been sent when it was no peer yet. */
    if (peer->echo_open || !peer->rtt_us) {
        qdes_peers_echo_returned(f->peers, slot, age_us);
    }
    if (!qdes_peers_prove(f->peers, slot, now)) {
        return slot;
    }
    QDES_COUNT(&f->stats, peers_proven);
    qdes_candidates_reward(f->mesh.candidates);
    qdes_candidates_answered(f->mesh.candidates, from);
    qdes_peers_set_seed(f->peers, slot, qdes_seeds_has(f->seeds, from));
    qdes_peers_decide_copy(f->peers, slot, now, qdes_fabric_has_group(f));
    qdes_fabric_note_proven(f, slot, now);
    if (f->link_up && (!peer->alive || !qdes_fabric_has_group(f) ||
                       !qdes_peers_is_reached(f->peers, slot, now))) {
        qdes_fabric_greet(f, slot, now);
        slot = qdes_peers_find(f->peers, from);
    }
    return slot;
}

/* Tell the peer in @slot of those in @buckets that it does not know, beginning
 * anywhere. */
static void send_lists(QdesFabric *f, uint32_t slot, uint64_t buckets,
                       const QdesKnown *known, int64_t now)
{
    QdesAddr to = qdes_peers_get(f->peers, slot)->addr;
    uint32_t begin = f->host->random(f->opaque) %
                     (qdes_peers_size(f->peers) + 1);
    QdesEntry entries[QDES_ENTRIES_MAX];
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    uint32_t next = begin;
    bool again = false;
    unsigned n;
    int i, most;

    /* Where all ask one, it is better to tell each a few; they go on. */
    most = f->mesh.lists.n > LISTS_BUSY ? 1 : LISTS_EACH;
    for (i = 0; i < most; i++) {
        if (again && next >= begin) {
            return;
        }
        n = qdes_gossip_list(f->peers, slot, buckets, known, &next, entries,
                             QDES_ENTRIES_MAX);
        if (n < QDES_ENTRIES_MAX && !again) {
            again = true;
            next = QDES_PEER_NONE;
            n += qdes_gossip_list(f->peers, slot, buckets, known, &next,
                                  entries + n, QDES_ENTRIES_MAX - n);
        }
        if (n == 0) {
            return;
        }
        if (!qdes_rate_take(&f->mesh.lists, MAX_LISTS, now)) {
            QDES_COUNT(&f->stats, peers_unanswered);
            return;
        }
        if (!qdes_fabric_send_control(f, &to, data, qdes_control_encode_list(
                data, f->config.netid, entries, n)) ||
            qdes_peers_find(f->peers, &to) != slot) {
            return;
        }
        QDES_COUNT(&f->stats, tx_peers);
    }
}

static void take_request(QdesFabric *f, uint32_t slot,
                         const QdesPeersMessage *message, int64_t now)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);
    QdesDigest ours;
    uint64_t differ;

    if (!f->link_up) {
        return;
    }
    if ((peer->answered && now - peer->answered < QDES_ANSWER_EVERY_MS) ||
        !qdes_rate_take(&f->mesh.asked, MAX_ASKED, now)) {
        QDES_COUNT(&f->stats, peers_unanswered);
        return;
    }
    qdes_peers_set_answered(f->peers, slot, now);
    qdes_gossip_digest(&ours, f->peers, slot);
    differ = qdes_gossip_differ(&ours, &message->digest);
    if (differ) {
        send_lists(f, slot, differ, &message->known, now);
    }
}

/* Can @addr, told by somebody at @teller, be a port's? */
static bool is_plausible(const QdesFabric *f, const QdesAddr *addr,
                         const QdesAddr *teller)
{
    return addr->port != 0 && qdes_seed_is_host(addr) &&
           qdes_gossip_fits(addr, teller) &&
           !qdes_underlay_is_own(f->underlay, addr);
}

/* Is @instance known where it is?  Who is silent there may be somewhere else,
 * and behind a NAT we are not told so by itself. */
static bool is_there(const QdesFabric *f, uint64_t instance, int64_t now)
{
    uint32_t slot = qdes_peers_find_instance(f->peers, instance);

    return slot != QDES_PEER_NONE &&
           !qdes_peers_is_silent(f->peers, slot, now);
}

/* Returns whether there is anything new about it. */
static bool take_entry(QdesFabric *f, uint32_t teller, QdesEntry *entry,
                       int64_t now)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, teller);
    bool is_missed;
    uint32_t slot;

    if (qdes_addr_needs_scope(&entry->addr)) {
        entry->addr.scope = peer->addr.scope;
    }
    if (entry->instance == f->instance || entry->instance == 0 ||
        !is_plausible(f, &entry->addr, &peer->addr)) {
        QDES_COUNT(&f->stats, candidates_refused);
        return false;
    }
    slot = qdes_peers_find(f->peers, &entry->addr);
    if ((slot != QDES_PEER_NONE && qdes_peers_get(f->peers, slot)->proven) ||
        is_there(f, entry->instance, now) ||
        qdes_fabric_has_departed(f, &entry->addr, now)) {
        return false;
    }
    is_missed = qdes_fabric_told_of_missed(f, teller, entry, now);
    if (!qdes_underlay_reaches(f->underlay, &entry->addr)) {
        QDES_COUNT(&f->stats, candidates_refused);
        qdes_fabric_miss(f, entry->instance, &entry->addr, now);
        return false;
    }
    if (!qdes_candidates_told(f->mesh.candidates, &entry->addr,
                              entry->instance, teller, now)) {
        QDES_COUNT(&f->stats, candidates_refused);
    }
    return !is_missed;
}

/* To look into a list takes time, which who sends them at will must not take
 * from us: is it the answer to a request, or one of few? */
static bool may_tell(QdesFabric *f, uint32_t slot, int64_t now)
{
    QdesMesh *mesh = &f->mesh;

    if (slot == mesh->asked_slot && now - mesh->asked_at < ASKED_MS &&
        mesh->lists_due > 0) {
        mesh->lists_due--;
        return true;
    }
    return qdes_rate_take(&mesh->unasked, MAX_UNASKED, now);
}

static void take_peers(QdesFabric *f, const QdesPeersMessage *message,
                       const QdesAddr *from, size_t bytes, int64_t now)
{
    uint32_t slot = qdes_peers_find(f->peers, from);
    bool is_news = false;
    QdesEntry entry;
    unsigned i;

    if (slot == QDES_PEER_NONE || !qdes_peers_get(f->peers, slot)->proven) {
        QDES_COUNT(&f->stats, peers_unanswered);
        qdes_fabric_credit(f, from, bytes, now);
        return;
    }
    qdes_fabric_hear_again(f, from, now);
    if (message->is_request) {
        take_request(f, slot, message, now);
        return;
    }
    if (!may_tell(f, slot, now)) {
        QDES_COUNT_ADD(&f->stats, candidates_refused, message->n_entries);
        return;
    }
    for (i = 0; i < message->n_entries; i++) {
        entry = qdes_control_entry(message, i);
        is_news |= take_entry(f, slot, &entry, now);
    }
    if (is_news) {
        qdes_fabric_note_list(f, now);
    }
}

/* Did this port itself send it, and a NAT brought it back? */
static bool is_own_echo(const QdesFabric *f, const QdesEcho *echo,
                        int64_t now)
{
    int64_t age_us;

    return qdes_nonce_check(f->mesh.key, &echo->observed,
                            qdes_fabric_now_us(f, now), echo->nonce, &age_us);
}

void qdes_fabric_take_exchange(QdesFabric *f, const QdesWireHeader *header,
                               const QdesAddr *from, int64_t now)
{
    size_t bytes = QDES_WIRE_HEADER_SIZE + header->payload_size;
    QdesPeersMessage message;
    QdesEcho echo;

    if (header->type == QDES_WIRE_PEERS) {
        if (qdes_control_decode_peers(&message, header) != QDES_WIRE_OK) {
            QDES_COUNT(&f->stats, rx_drop_tlv);
            return;
        }
        QDES_COUNT(&f->stats, rx_peers);
        take_peers(f, &message, from, bytes, now);
        return;
    }
    if (qdes_control_decode_echo(&echo, header) != QDES_WIRE_OK) {
        QDES_COUNT(&f->stats, rx_drop_tlv);
    } else if (header->type == QDES_WIRE_ECHO_REPLY) {
        QDES_COUNT(&f->stats, rx_echo_reply);
        take_reply(f, &echo, from, now);
    } else if (is_own_echo(f, &echo, now)) {
        QDES_COUNT(&f->stats, rx_drop_own);
    } else {
        QDES_COUNT(&f->stats, rx_echo);
        take_echo(f, &echo, from, bytes, now);
    }
}
