/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Peers: a chained hash over an array, and two lists by time of hearing. */

#include "qdes/peer.h"

#include <string.h>

#include "qdes/chain.h"

typedef struct Slot {
    QdesPeer peer;
    bool used;
} Slot;

struct QdesPeers {
    uint64_t seed;
    uint32_t max_peers;
    uint32_t size;
    uint32_t end;               /* slots from here on were never used */
    uint32_t copies;            /* peers that get copies of floods */
    uint64_t *copy;             /* a bit for each slot: those */
    Slot *slots;                /* 0 is never used */
    uint32_t *buckets;
    uint32_t bucket_mask;
    uint32_t *hash_next;
    QdesLink *links;            /* of by_heard[] and unused */
    QdesChain by_heard[2];      /* oldest first; index: alive */
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
    peers->links = g_new0(QdesLink, max_peers + 1);
    peers->by_heard[false] = QDES_CHAIN_EMPTY;
    peers->by_heard[true] = QDES_CHAIN_EMPTY;
    peers->unused = QDES_CHAIN_EMPTY;
    return peers;
}

void qdes_peers_free(QdesPeers *peers)
{
    if (!peers) {
        return;
    }
    g_free(peers->links);
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
    return &peers->by_heard[peers->slots[slot].peer.alive];
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
    qdes_chain_remove(chain_of(peers, slot), peers->links, slot);
    qdes_chain_append(&peers->unused, peers->links, slot);
    peers->slots[slot].used = false;
    peers->size--;
}

static uint32_t take_slot(QdesPeers *peers, bool *evicted)
{
    uint32_t slot;

    *evicted = peers->size == peers->max_peers;
    if (*evicted) {
        slot = peers->by_heard[false].head;
        if (slot == QDES_CHAIN_NIL) {
            slot = peers->by_heard[true].head;
        }
        qdes_peers_remove(peers, slot);
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
        },
    };
    peers->hash_next[slot] = *bucket;
    *bucket = slot;
    qdes_chain_append(&peers->by_heard[false], peers->links, slot);
    peers->size++;
    return slot;
}

static void make_alive(QdesPeers *peers, uint32_t slot)
{
    g_assert(peers->slots[slot].used && !peers->slots[slot].peer.alive);
    qdes_chain_remove(&peers->by_heard[false], peers->links, slot);
    qdes_chain_append(&peers->by_heard[true], peers->links, slot);
    peers->slots[slot].peer.alive = true;
}

void qdes_peers_presume_alive(QdesPeers *peers, uint32_t slot, int64_t hold_ms)
{
    make_alive(peers, slot);
    peers->slots[slot].peer.hold_ms = hold_ms;
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
    peer->instance = hello->instance;
    peer->capabilities = hello->capabilities;
    peer->mtu = 0;
    if (hello->mtu) {
        peer->mtu = CLAMP(hello->mtu, QDES_PEER_MIN_MTU, QDES_FRAME_MAX);
    }
    g_strlcpy(peer->name, hello->name, sizeof(peer->name));
    peer->hold_ms = QDES_HOLD_MS;
    if (hello->hold_time) {
        peer->hold_ms = 1000 * CLAMP(hello->hold_time, QDES_PEER_MIN_HOLD,
                                     QDES_PEER_MAX_HOLD);
    }
    return news;
}

const QdesPeer *qdes_peers_get(const QdesPeers *peers, uint32_t slot)
{
    g_assert(slot < peers->end && peers->slots[slot].used);
    return &peers->slots[slot].peer;
}

bool qdes_peers_is_expired(const QdesPeers *peers, uint32_t slot, int64_t now)
{
    const QdesPeer *peer = qdes_peers_get(peers, slot);

    return now - peer->heard >= peer->hold_ms;
}

void qdes_peers_excuse(QdesPeers *peers, int64_t ms)
{
    uint32_t slot;

    if (ms == 0) {
        return;                 /* as a rule: the port is full for less */
    }
    for (slot = 1; slot < peers->end; slot++) {
        peers->slots[slot].peer.heard += ms;
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
