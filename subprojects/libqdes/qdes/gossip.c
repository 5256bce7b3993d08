/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Gossip: digests and filters of whom a port knows, and lists of what differs.
 */

#include "qdes/gossip.h"

#include <string.h>

#include "qdes/hash.h"

#define PART_SIZE 720           /* peers; a byte for each, and some to spare,
                                   as parts are not of one size */
#define FILTER_BITS 4           /* of each peer: one of 40 is found in error */

unsigned qdes_gossip_bucket(uint64_t instance)
{
    return instance % QDES_DIGEST_BUCKETS;
}

uint32_t qdes_gossip_hash(const QdesEntry *entry)
{
    uint8_t bytes[QDES_ENTRY_SIZE];

    qdes_control_put_entry(bytes, entry);
    return qdes_hash_fnv(bytes, sizeof(bytes));
}

bool qdes_gossip_fits(const QdesAddr *addr, const QdesAddr *partner)
{
    if (qdes_addr_is_loopback(addr)) {
        return qdes_addr_is_loopback(partner);
    }
    return !qdes_addr_needs_scope(addr) || addr->scope == partner->scope;
}

/* The entry of the peer in @slot for @partner; false: it gets none. */
static bool entry_of(QdesEntry *entry, const QdesPeers *peers, uint32_t slot,
                     uint32_t partner)
{
    const QdesPeer *peer = qdes_peers_get(peers, slot);

    if (!peer->proven || !peer->alive || slot == partner ||
        !qdes_gossip_fits(&peer->addr,
                          &qdes_peers_get(peers, partner)->addr)) {
        return false;
    }
    entry->addr = peer->addr;
    entry->addr.scope = 0;
    entry->instance = peer->instance;
    return true;
}

void qdes_gossip_digest(QdesDigest *digest, const QdesPeers *peers,
                        uint32_t partner)
{
    uint32_t slot = QDES_PEER_NONE;
    QdesEntry entry;

    memset(digest, 0, sizeof(*digest));
    while ((slot = qdes_peers_next(peers, slot)) != QDES_PEER_NONE) {
        if (entry_of(&entry, peers, slot, partner)) {
            digest->bucket[qdes_gossip_bucket(entry.instance)] ^=
                qdes_gossip_hash(&entry);
        }
    }
}

uint64_t qdes_gossip_differ(const QdesDigest *a, const QdesDigest *b)
{
    uint64_t differ = 0;
    int i;

    for (i = 0; i < QDES_DIGEST_BUCKETS; i++) {
        if (a->bucket[i] != b->bucket[i]) {
            differ |= UINT64_C(1) << i;
        }
    }
    return differ;
}

unsigned qdes_gossip_parts(const QdesPeers *peers)
{
    return qdes_peers_size(peers) / PART_SIZE + 1;
}

static bool is_in_part(const QdesKnown *known, uint64_t instance)
{
    return (instance >> 32) % MAX(known->parts, 1) == known->part;
}

/* The bits of an entry follow from each other. */
static uint32_t next_bit(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7feb352d;
    x = (x ^ x >> 15) * 0x846ca68b;
    return x ^ x >> 16;
}

void qdes_gossip_known(QdesKnown *known, uint8_t bits[QDES_KNOWN_MAX],
                       const QdesPeers *peers, uint32_t partner)
{
    uint32_t slot = QDES_PEER_NONE;
    QdesEntry entry;
    uint32_t x;
    int i;

    known->size = MIN(qdes_peers_size(peers) / MAX(known->parts, 1) + 1,
                      QDES_KNOWN_MAX);
    known->bits = bits;
    memset(bits, 0, known->size);
    while ((slot = qdes_peers_next(peers, slot)) != QDES_PEER_NONE) {
        if (is_in_part(known, qdes_peers_get(peers, slot)->instance) &&
            entry_of(&entry, peers, slot, partner)) {
            x = qdes_gossip_hash(&entry) ^ known->salt;
            for (i = 0; i < FILTER_BITS; i++) {
                x = next_bit(x);
                bits[x / 8 % known->size] |= 1 << x % 8;
            }
        }
    }
}

bool qdes_gossip_is_news(const QdesKnown *known, const QdesEntry *entry)
{
    uint32_t x;
    int i;

    if (!is_in_part(known, entry->instance)) {
        return false;
    }
    x = qdes_gossip_hash(entry) ^ known->salt;
    for (i = 0; i < FILTER_BITS; i++) {
        x = next_bit(x);
        if (!(known->bits[x / 8 % known->size] & 1 << x % 8)) {
            return true;
        }
    }
    return false;
}

unsigned qdes_gossip_list(const QdesPeers *peers, uint32_t partner,
                          uint64_t buckets, const QdesKnown *known,
                          uint32_t *slot, QdesEntry *entries, unsigned max)
{
    uint32_t next = *slot;
    unsigned n = 0;

    while (n < max &&
           (next = qdes_peers_next(peers, next)) != QDES_PEER_NONE) {
        if (buckets >> qdes_gossip_bucket(
                qdes_peers_get(peers, next)->instance) & 1 &&
            entry_of(&entries[n], peers, next, partner) &&
            (!known->size || qdes_gossip_is_news(known, &entries[n]))) {
            *slot = next;
            n++;
        }
    }
    return n;
}
