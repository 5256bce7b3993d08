/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Gossip: what two peers tell each other about all the others
 *
 * One sends a digest of whom it knows, the other finds the buckets that differ
 * and lists whom it knows of them.  Two that know the same tell each other
 * nothing more.
 *
 * Whom a port tells of: peers that are proven and alive, without the partner
 * itself, and whose address means something to the partner: loopback ones
 * only to one on loopback, link-local ones only to one on the same link.  The
 * digest is made for a partner too, so that where both know the same, both
 * have the same digest.
 *
 * Pure.
 */

#ifndef QDES_GOSSIP_H
#define QDES_GOSSIP_H

#include "qdes/control.h"
#include "qdes/peer.h"

/* The bucket that a peer with this instance is in. */
unsigned qdes_gossip_bucket(uint64_t instance);

/* What an entry adds to its bucket: FNV-1a of its bytes in a list. */
uint32_t qdes_gossip_hash(const QdesEntry *entry);

/* Does an entry for @addr mean something to somebody at @partner? */
bool qdes_gossip_fits(const QdesAddr *addr, const QdesAddr *partner);

/* Fill @digest for the peer in slot @partner. */
void qdes_gossip_digest(QdesDigest *digest, const QdesPeers *peers,
                        uint32_t partner);

/* The buckets that differ, a bit for each. */
uint64_t qdes_gossip_differ(const QdesDigest *a, const QdesDigest *b);

/*
 * List up to @max of whom to tell the peer in slot @partner about, out of
 * @buckets, from the slot after *@slot on (begin with QDES_PEER_NONE), which
 * becomes that of the last one listed.  Returns their number; 0: no more.
 */
unsigned qdes_gossip_list(const QdesPeers *peers, uint32_t partner,
                          uint64_t buckets, uint32_t *slot,
                          QdesEntry *entries, unsigned max);

#endif
