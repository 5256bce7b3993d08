/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Gossip: what two peers tell each other about all the others
 *
 * One sends a digest of whom it knows, the other finds the buckets that differ
 * and lists whom it knows of them.  Two that know the same tell each other
 * nothing more.  That finds the few that one lacks.  Where it lacks many, a
 * filter goes with the digest, and only those that it does not find in it are
 * listed; where one datagram cannot hold a filter of all, one after the other
 * is of a part of them.
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

/* In how many parts to divide the peers, so that a filter of each fits into a
 * datagram. */
unsigned qdes_gossip_parts(const QdesPeers *peers);

/*
 * Fill @known, whose part and salt are set, with a filter of whom the peer in
 * slot @partner would be told of; @bits is where, and has to stay.
 */
void qdes_gossip_known(QdesKnown *known, uint8_t bits[QDES_KNOWN_MAX],
                       const QdesPeers *peers, uint32_t partner);

/* Is @entry in the part that @known is about, and surely not in its filter? */
bool qdes_gossip_is_news(const QdesKnown *known, const QdesEntry *entry);

/*
 * List up to @max of whom to tell the peer in slot @partner about, out of
 * @buckets and as far as @known says that they are news, from the slot after
 * *@slot on (begin with QDES_PEER_NONE), which becomes that of the last one
 * listed.  Returns their number; 0: no more.
 */
unsigned qdes_gossip_list(const QdesPeers *peers, uint32_t partner,
                          uint64_t buckets, const QdesKnown *known,
                          uint32_t *slot, QdesEntry *entries, unsigned max);

#endif
