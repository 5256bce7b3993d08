/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Gossip: digests of whom a port knows, and lists of what differs. */

#include "qdes/gossip.h"

#include <string.h>

unsigned qdes_gossip_bucket(uint64_t instance)
{
    return instance % QDES_DIGEST_BUCKETS;
}

uint32_t qdes_gossip_hash(const QdesEntry *entry)
{
    uint8_t bytes[QDES_ENTRY_SIZE];
    uint32_t hash = 0x811c9dc5;
    int i;

    qdes_control_put_entry(bytes, entry);
    for (i = 0; i < QDES_ENTRY_SIZE; i++) {
        hash = (hash ^ bytes[i]) * 0x01000193;
    }
    return hash;
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

unsigned qdes_gossip_list(const QdesPeers *peers, uint32_t partner,
                          uint64_t buckets, uint32_t *slot,
                          QdesEntry *entries, unsigned max)
{
    uint32_t next = *slot;
    unsigned n = 0;

    while (n < max &&
           (next = qdes_peers_next(peers, next)) != QDES_PEER_NONE) {
        if (buckets >> qdes_gossip_bucket(
                qdes_peers_get(peers, next)->instance) & 1 &&
            entry_of(&entries[n], peers, next, partner)) {
            *slot = next;
            n++;
        }
    }
    return n;
}
