/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Peers: two chained hashes over an array, and lists by time of hearing. */

#include "qdes/peer.h"

#include <string.h>

#include "qdes/chain.h"
#include "qdes/hash.h"

typedef struct Slot {
    QdesPeer peer;
    bool used;
    bool has_instance;          /* it is in the hash by instance */
} Slot;

/* The lists, in the order in which their peers give way. */
enum { HEARD, ALIVE, PROVEN, SEED, N_LISTS };

struct QdesPeers {
    uint64_t seed;
    uint32_t max_peers;
    uint32_t size;
    uint32_t end;               /* slots from here on were never used */
    int64_t patience;           /* ms; the least hold time that counts */
    uint32_t copies;            /* peers that get copies of floods */
    uint64_t *copy;             /* a bit for each slot: those */
    Slot *slots;                /* 0 is never used */
    uint32_t *buckets;
    uint32_t bucket_mask;
    uint32_t *hash_next;
    uint32_t *instances;        /* buckets, as many */
    uint32_t *instance_next;
    QdesLink *links;            /* of by_heard[] and unused */
    QdesChain by_heard[N_LISTS]; /* oldest first */
    QdesChain unused;
};

QdesPeers *qdes_peers_new(uint32_t max_peers, uint64_t seed)
{
    QdesPeers *peers = g_new0(QdesPeers, 1);
    uint32_t n_buckets = 1;

    g_assert(max_peers > 0);
    while (n_buckets < max_peers) {
        n_buckets *= 2;
    }
    peers->seed = seed;
    peers->max_peers = max_peers;
    peers->end = 1;
    peers->slots = g_new0(Slot, max_peers + 1);
    peers->copy = g_new0(uint64_t, max_peers / 64 + 1);
    peers->buckets = g_new0(uint32_t, n_buckets);
    peers->bucket_mask = n_buckets - 1;
    peers->hash_next = g_new0(uint32_t, max_peers + 1);
    peers->instances = g_new0(uint32_t, n_buckets);
    peers->instance_next = g_new0(uint32_t, max_peers + 1);
    peers->links = g_new0(QdesLink, max_peers + 1);
    peers->by_heard[HEARD] = QDES_CHAIN_EMPTY;
    peers->by_heard[ALIVE] = QDES_CHAIN_EMPTY;
    peers->by_heard[PROVEN] = QDES_CHAIN_EMPTY;
    peers->by_heard[SEED] = QDES_CHAIN_EMPTY;
    peers->unused = QDES_CHAIN_EMPTY;
    return peers;
}

void qdes_peers_free(QdesPeers *peers)
{
    if (!peers) {
        return;
    }
    g_free(peers->links);
    g_free(peers->instance_next);
    g_free(peers->instances);
    g_free(peers->hash_next);
    g_free(peers->buckets);
    g_free(peers->copy);
    g_free(peers->slots);
    g_free(peers);
}

static uint32_t *bucket_of(const QdesPeers *peers, const QdesAddr *addr)
{
    return &peers->buckets[qdes_addr_hash(addr, peers->seed) &
                           peers->bucket_mask];
}

uint32_t qdes_peers_find(const QdesPeers *peers, const QdesAddr *addr)
{
    uint32_t slot = *bucket_of(peers, addr);

    while (slot != QDES_PEER_NONE &&
           !qdes_addr_equal(&peers->slots[slot].peer.addr, addr)) {
        slot = peers->hash_next[slot];
    }
    return slot;
}

static QdesChain *chain_of(QdesPeers *peers, uint32_t slot)
{
    const QdesPeer *peer = &peers->slots[slot].peer;

    return &peers->by_heard[peer->seed ? SEED : peer->proven ? PROVEN :
                            peer->alive ? ALIVE : HEARD];
}

/* The list of the peer in @slot is about to change, or has changed. */
static void leave_list(QdesPeers *peers, uint32_t slot)
{
    qdes_chain_remove(chain_of(peers, slot), peers->links, slot);
}

static void enter_list(QdesPeers *peers, uint32_t slot)
{
    qdes_chain_append(chain_of(peers, slot), peers->links, slot);
}

static uint32_t *instance_bucket(const QdesPeers *peers, uint64_t instance)
{
    return &peers->instances[qdes_hash_mix(instance ^ peers->seed) &
                             peers->bucket_mask];
}

static void drop_instance(QdesPeers *peers, uint32_t slot)
{
    uint32_t *next;

    if (!peers->slots[slot].has_instance) {
        return;
    }
    next = instance_bucket(peers, peers->slots[slot].peer.instance);
    while (*next != slot) {
        next = &peers->instance_next[*next];
    }
    *next = peers->instance_next[slot];
    peers->slots[slot].has_instance = false;
}

/*
 * May one more peer say that it is @instance?  Where too many do, the one that
 * said so longest ago and is not proven gives way.
 */
static bool make_place(QdesPeers *peers, uint64_t instance)
{
    uint32_t i = *instance_bucket(peers, instance);
    uint32_t unproven = QDES_PEER_NONE;
    unsigned n = 0;

    for (; i != QDES_PEER_NONE; i = peers->instance_next[i]) {
        if (peers->slots[i].peer.instance == instance) {
            n++;
            if (!peers->slots[i].peer.proven) {
                unproven = i;
            }
        }
    }
    if (n < QDES_PEER_ENDPOINTS) {
        return true;
    }
    if (unproven != QDES_PEER_NONE) {
        qdes_peers_set_copy(peers, unproven, false);
        drop_instance(peers, unproven);
    }
    return unproven != QDES_PEER_NONE;
}

static void set_instance(QdesPeers *peers, uint32_t slot, uint64_t instance)
{
    uint32_t *bucket = instance_bucket(peers, instance);

    if (peers->slots[slot].peer.instance != instance) {
        peers->slots[slot].peer.instance = instance;
        peers->slots[slot].peer.mark = 0;
    }
    if (!make_place(peers, instance)) {
        return;
    }
    peers->instance_next[slot] = *bucket;
    *bucket = slot;
    peers->slots[slot].has_instance = true;
}

void qdes_peers_set_room(QdesPeers *peers, uint32_t slot, uint32_t room,
                         uint32_t as_of)
{
    peers->slots[slot].peer.room = room;
    peers->slots[slot].peer.room_as_of = as_of;
}

void qdes_peers_set_copy(QdesPeers *peers, uint32_t slot, bool copy)
{
    QdesPeer *peer = &peers->slots[slot].peer;

    if (peer->copy != copy) {
        peer->copy = copy;
        peers->copy[slot / 64] ^= (uint64_t)1 << (slot % 64);
        peers->copies += copy ? 1 : -1;
    }
}

uint32_t qdes_peers_next_copy(const QdesPeers *peers, uint32_t slot)
{
    uint32_t word = ++slot / 64;
    uint64_t set;

    if (slot >= peers->end) {
        return QDES_PEER_NONE;
    }
    set = peers->copy[word] & ~(uint64_t)0 << (slot % 64);
    while (set == 0) {
        if (++word > (peers->end - 1) / 64) {
            return QDES_PEER_NONE;
        }
        set = peers->copy[word];
    }
    return word * 64 + __builtin_ctzll(set);
}

uint32_t qdes_peers_copies(const QdesPeers *peers)
{
    return peers->copies;
}

void qdes_peers_remove(QdesPeers *peers, uint32_t slot)
{
    uint32_t *next = bucket_of(peers, &peers->slots[slot].peer.addr);

    g_assert(peers->slots[slot].used);
    qdes_peers_set_copy(peers, slot, false);
    while (*next != slot) {
        next = &peers->hash_next[*next];
    }
    *next = peers->hash_next[slot];
    drop_instance(peers, slot);
    leave_list(peers, slot);
    qdes_chain_append(&peers->unused, peers->links, slot);
    peers->slots[slot].used = false;
    peers->size--;
}

static uint32_t take_slot(QdesPeers *peers, bool *evicted)
{
    uint32_t slot;
    int list;

    *evicted = peers->size == peers->max_peers;
    if (*evicted) {
        for (list = HEARD; peers->by_heard[list].head == QDES_CHAIN_NIL;
             list++) {
        }
        qdes_peers_remove(peers, peers->by_heard[list].head);
    }
    slot = peers->unused.head;
    if (slot == QDES_CHAIN_NIL) {
        return peers->end++;
    }
    qdes_chain_remove(&peers->unused, peers->links, slot);
    return slot;
}

uint32_t qdes_peers_heard(QdesPeers *peers, const QdesAddr *addr, int64_t now,
                          bool *added, bool *evicted)
{
    uint32_t slot = qdes_peers_find(peers, addr);
    uint32_t *bucket;

    *evicted = false;
    *added = slot == QDES_PEER_NONE;
    if (!*added) {
        peers->slots[slot].peer.heard = now;
        qdes_chain_touch(chain_of(peers, slot), peers->links, slot);
        return slot;
    }

    slot = take_slot(peers, evicted);
    bucket = bucket_of(peers, addr);
    peers->slots[slot] = (Slot) {
        .used = true,
        .peer = {
            .addr = *addr,
            .hold_ms = QDES_HOLD_MS,
            .heard = now,
            .met = now,
        },
    };
    peers->hash_next[slot] = *bucket;
    *bucket = slot;
    enter_list(peers, slot);
    peers->size++;
    return slot;
}

static void make_alive(QdesPeers *peers, uint32_t slot)
{
    g_assert(peers->slots[slot].used && !peers->slots[slot].peer.alive);
    leave_list(peers, slot);
    peers->slots[slot].peer.alive = true;
    enter_list(peers, slot);
}

void qdes_peers_presume_alive(QdesPeers *peers, uint32_t slot, int64_t hold_ms,
                              int64_t now)
{
    make_alive(peers, slot);
    qdes_peers_prove(peers, slot, now);
    peers->slots[slot].peer.hold_ms = hold_ms;
}

const QdesAddr *qdes_peers_at(const QdesPeers *peers, uint32_t slot)
{
    const Slot *s = &peers->slots[slot];

    return slot != QDES_PEER_NONE && s->used &&
           qdes_addr_is_set(&s->peer.at) ? &s->peer.at : NULL;
}

void qdes_peers_set_at(QdesPeers *peers, uint32_t slot, const QdesAddr *at,
                       int64_t now)
{
    QdesPeer *peer = &peers->slots[slot].peer;

    peer->at = at ? *at : (QdesAddr) { .port = 0 };
    peer->at_heard = now;
}

QdesPeerNews qdes_peers_hello(QdesPeers *peers, uint32_t slot,
                              const QdesWireHello *hello)
{
    QdesPeer *peer = &peers->slots[slot].peer;
    QdesPeerNews news = QDES_PEER_SAME;

    g_assert(peers->slots[slot].used);
    if (!peer->alive) {
        news = QDES_PEER_MET;
        make_alive(peers, slot);
    } else if (peer->instance != hello->instance) {
        news = QDES_PEER_RESTARTED;
    }
    drop_instance(peers, slot);
    set_instance(peers, slot, hello->instance);
    peer->capabilities = hello->capabilities;
    peer->mtu = 0;
    if (hello->mtu) {
        peer->mtu = CLAMP(hello->mtu, QDES_PEER_MIN_MTU, QDES_FRAME_MAX);
    }
    peer->n_keys = hello->n_keys;
    memcpy(peer->keys, hello->keys, sizeof(peer->keys));
    g_strlcpy(peer->name, hello->name, sizeof(peer->name));
    peer->hold_ms = QDES_HOLD_MS;
    if (hello->hold_time) {
        peer->hold_ms = 1000 * CLAMP(hello->hold_time, QDES_PEER_MIN_HOLD,
                                     QDES_PEER_MAX_HOLD);
    }
    if (news == QDES_PEER_RESTARTED) {
        peer->told = QDES_GROUP_UNSAID;
    }
    if (hello->group_heard != QDES_GROUP_UNSAID) {
        peer->told = hello->group_heard;
        peer->told_at = peer->heard;
    }
    return news;
}

bool qdes_peers_hears_group(const QdesPeers *peers, uint32_t slot, int64_t now)
{
    const QdesPeer *peer = &peers->slots[slot].peer;

    /* HELLOs to all come at their own interval, whatever the hold time is. */
    return peer->heard_group &&
           now - peer->heard_group < MIN(peer->hold_ms, QDES_HOLD_MS);
}

bool qdes_peers_is_reached(const QdesPeers *peers, uint32_t slot, int64_t now)
{
    const QdesPeer *peer = &peers->slots[slot].peer;

    if (peer->told == QDES_GROUP_NOT_HEARD) {
        return false;
    }
    return qdes_peers_hears_group(peers, slot, now) ||
           (peer->told == QDES_GROUP_HEARD &&
            now - peer->told_at < peer->hold_ms);
}

void qdes_peers_heard_group(QdesPeers *peers, uint32_t slot, int64_t now)
{
    peers->slots[slot].peer.heard_group = now;
}

bool qdes_peers_prove(QdesPeers *peers, uint32_t slot, int64_t now)
{
    QdesPeer *peer = &peers->slots[slot].peer;
    bool is_first = !peer->proven;

    if (is_first) {
        leave_list(peers, slot);
        peer->proven = true;
        peer->proven_since = now;
        enter_list(peers, slot);
        if (peer->instance && !peers->slots[slot].has_instance) {
            set_instance(peers, slot, peer->instance);
        }
    }
    return is_first;
}

/* Has @slot's endpoint a better claim to the copies than @other's? */
static bool is_preferred(const QdesPeers *peers, uint32_t slot,
                         uint32_t other, int64_t now)
{
    bool reached = qdes_peers_is_reached(peers, slot, now);

    if (other == QDES_PEER_NONE) {
        return true;
    }
    if (reached != qdes_peers_is_reached(peers, other, now)) {
        return reached;
    }
    return peers->slots[slot].peer.proven_since >
           peers->slots[other].peer.proven_since;
}

static bool can_have_copies(const QdesPeers *peers, uint32_t slot,
                            uint64_t instance)
{
    const QdesPeer *peer = &peers->slots[slot].peer;

    return peer->proven && peer->alive && peer->instance == instance;
}

static bool needs_copies(const QdesPeers *peers, uint32_t slot, int64_t now,
                         bool group)
{
    const QdesPeer *peer = &peers->slots[slot].peer;

    if (!group || peer->told == QDES_GROUP_NOT_HEARD) {
        return true;
    }
    return !qdes_peers_is_reached(peers, slot, now) &&
           now - peer->met >= QDES_PEER_SETTLE_MS;
}

void qdes_peers_decide_copy(QdesPeers *peers, uint32_t slot, int64_t now,
                            bool group)
{
    const QdesPeer *peer = &peers->slots[slot].peer;
    uint64_t instance = peer->instance;
    uint32_t chosen = QDES_PEER_NONE;
    uint32_t first, i;

    if (!peers->slots[slot].has_instance) {
        /* It may be one of those that never say HELLO. */
        qdes_peers_set_copy(peers, slot, peer->seed && peer->proven &&
                            peer->alive && !(group && peer->heard_group));
        return;
    }
    first = *instance_bucket(peers, instance);
    for (i = first; i != QDES_PEER_NONE; i = peers->instance_next[i]) {
        if (can_have_copies(peers, i, instance) &&
            is_preferred(peers, i, chosen, now)) {
            chosen = i;
        }
    }
    for (i = first; i != QDES_PEER_NONE; i = peers->instance_next[i]) {
        if (peers->slots[i].peer.instance == instance) {
            qdes_peers_set_copy(peers, i, i == chosen &&
                                needs_copies(peers, i, now, group));
        }
    }
}

uint32_t qdes_peers_find_alive(const QdesPeers *peers, uint64_t instance)
{
    uint32_t slot = *instance_bucket(peers, instance);

    /* Whoever has an instance said HELLO. */
    while (slot != QDES_PEER_NONE &&
           peers->slots[slot].peer.instance != instance) {
        slot = peers->instance_next[slot];
    }
    return slot;
}

uint32_t qdes_peers_find_instance(const QdesPeers *peers, uint64_t instance)
{
    uint32_t slot = *instance_bucket(peers, instance);

    while (slot != QDES_PEER_NONE &&
           !can_have_copies(peers, slot, instance)) {
        slot = peers->instance_next[slot];
    }
    return slot;
}

uint32_t qdes_peers_next_same(const QdesPeers *peers, uint32_t self,
                              uint32_t slot)
{
    uint64_t instance = peers->slots[self].peer.instance;

    if (!peers->slots[self].has_instance) {
        return QDES_PEER_NONE;
    }
    do {
        slot = slot == QDES_PEER_NONE ? *instance_bucket(peers, instance)
                                      : peers->instance_next[slot];
    } while (slot != QDES_PEER_NONE &&
             (slot == self || peers->slots[slot].peer.instance != instance));
    return slot;
}

void qdes_peers_echo_sent(QdesPeers *peers, uint32_t slot)
{
    QdesPeer *peer = &peers->slots[slot].peer;

    peer->echo_sent++;
    peer->echo_lost += peer->echo_open;
    peer->echo_open = true;
}

void qdes_peers_echo_returned(QdesPeers *peers, uint32_t slot, uint32_t rtt_us)
{
    QdesPeer *peer = &peers->slots[slot].peer;
    uint32_t diff;

    peer->echo_open = false;
    rtt_us = CLAMP(rtt_us, 1, QDES_PEER_MAX_RTT);
    if (!peer->rtt_us) {
        peer->rtt_us = rtt_us;
        peer->rtt_var_us = rtt_us / 2;
        return;
    }
    diff = MAX(rtt_us, peer->rtt_us) - MIN(rtt_us, peer->rtt_us);
    peer->rtt_var_us = (3 * peer->rtt_var_us + diff) / 4;
    peer->rtt_us = MAX((7 * peer->rtt_us + rtt_us) / 8, 1);
}

void qdes_peers_set_seed(QdesPeers *peers, uint32_t slot, bool seed)
{
    if (peers->slots[slot].peer.seed != seed) {
        leave_list(peers, slot);
        peers->slots[slot].peer.seed = seed;
        enter_list(peers, slot);
    }
}

void qdes_peers_set_greeted(QdesPeers *peers, uint32_t slot, int64_t now)
{
    peers->slots[slot].peer.greeted = now;
}

void qdes_peers_set_answered(QdesPeers *peers, uint32_t slot, int64_t now)
{
    peers->slots[slot].peer.answered = now;
}

void qdes_peers_set_heard_key(QdesPeers *peers, uint32_t slot, uint32_t key)
{
    peers->slots[slot].peer.heard_key = key;
}

void qdes_peers_set_mark(QdesPeers *peers, uint32_t slot, uint64_t mark)
{
    peers->slots[slot].peer.mark = mark;
}

void qdes_peers_set_observed(QdesPeers *peers, uint32_t slot,
                             uint32_t observed)
{
    peers->slots[slot].peer.observed = observed;
}

const QdesPeer *qdes_peers_get(const QdesPeers *peers, uint32_t slot)
{
    g_assert(slot < peers->end && peers->slots[slot].used);
    return &peers->slots[slot].peer;
}

void qdes_peers_set_patience(QdesPeers *peers, int64_t ms)
{
    peers->patience = ms;
}

int64_t qdes_peers_expiry(const QdesPeers *peers, uint32_t slot)
{
    const QdesPeer *peer = qdes_peers_get(peers, slot);

    return peer->heard + MAX(peer->hold_ms, peers->patience);
}

bool qdes_peers_is_expired(const QdesPeers *peers, uint32_t slot, int64_t now)
{
    return now >= qdes_peers_expiry(peers, slot);
}

void qdes_peers_excuse(QdesPeers *peers, int64_t ms)
{
    uint32_t slot;

    if (ms == 0) {
        return;                 /* as a rule: the port is full for less */
    }
    for (slot = 1; slot < peers->end; slot++) {
        QdesPeer *peer = &peers->slots[slot].peer;

        peer->heard += ms;
        peer->told_at += ms;
        if (peer->heard_group) {
            peer->heard_group += ms;
        }
    }
}

uint32_t qdes_peers_next(const QdesPeers *peers, uint32_t slot)
{
    for (slot++; slot < peers->end; slot++) {
        if (peers->slots[slot].used) {
            return slot;
        }
    }
    return QDES_PEER_NONE;
}

uint32_t qdes_peers_size(const QdesPeers *peers)
{
    return peers->size;
}
