/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Peers: who is in the fabric
 *
 * A peer is a UDP endpoint that sent something valid.  Each has a slot, a
 * number from 1 to @max_peers that stands for it (in the FDB, as owner) until
 * it is removed.  A peer is first "heard" (frames only) and becomes "alive"
 * with its first HELLO, which tells its instance, name and hold time.  (Where
 * nobody says HELLO, frames have to do: qdes_peers_presume_alive().)
 *
 * Liveness: a peer from which nothing valid came for its hold time is gone.
 *
 * Limits and fairness: at most @max_peers.  A new peer takes the place of the
 * one heard longest ago among those that never said HELLO, and only where
 * there is none, of the one heard longest ago.  So invented sources push out
 * each other before they push out a port that takes part.
 *
 * The table never touches the FDB: whoever removes a peer, or is told by
 * qdes_peers_heard() that one was evicted, flushes its MAC addresses.
 *
 * Cost: constant time but for qdes_peers_next().  All memory is taken at
 * creation.
 *
 * Pure: times are milliseconds of the caller's monotonic clock.
 */

#ifndef QDES_PEER_H
#define QDES_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "qdes/wire.h"

typedef struct QdesPeers QdesPeers;

#define QDES_PEER_NONE 0        /* no slot */
#define QDES_PEER_MIN_HOLD 3    /* seconds */
#define QDES_PEER_MAX_HOLD 600  /* seconds */
#define QDES_PEER_MIN_MTU 576   /* bytes; less would have a superframe be cut
                                   into thousands of frames */

typedef struct QdesPeer {
    QdesAddr addr;
    bool alive;                 /* said HELLO, or is presumed to be; else
                                   the next three are 0 */
    uint64_t instance;
    uint32_t capabilities;
    uint32_t mtu;               /* bytes of the largest frame, 0: not said */
    char name[QDES_NAME_MAX + 1];
    int64_t hold_ms;
    int64_t heard;              /* ms, when heard last */
    uint32_t room;              /* bytes of the longest datagram that its path
                                   carries whole */
    uint32_t room_as_of;        /* when that was found; the caller's count */
    bool copy;                  /* floods reach it only by unicast copies */
} QdesPeer;

typedef enum QdesPeerNews {
    QDES_PEER_SAME,             /* nothing that was not known */
    QDES_PEER_MET,              /* its first HELLO */
    QDES_PEER_RESTARTED,        /* another instance at the same endpoint */
} QdesPeerNews;

QdesPeers *qdes_peers_new(uint32_t max_peers, uint64_t seed);
void qdes_peers_free(QdesPeers *peers);

/* The slot of @addr, or QDES_PEER_NONE. */
uint32_t qdes_peers_find(const QdesPeers *peers, const QdesAddr *addr);

/*
 * Something valid came from @addr.  Returns its slot; *@added tells whether
 * the peer is new.  When the table was full, *@evicted is set, and the slot
 * had another peer before.
 */
uint32_t qdes_peers_heard(QdesPeers *peers, const QdesAddr *addr, int64_t now,
                          bool *added, bool *evicted);

/* The peer in @slot said HELLO. */
QdesPeerNews qdes_peers_hello(QdesPeers *peers, uint32_t slot,
                              const QdesWireHello *hello);

/* The peer in @slot will not say HELLO: it counts as alive, and is gone after
 * @hold_ms of silence. */
void qdes_peers_presume_alive(QdesPeers *peers, uint32_t slot,
                              int64_t hold_ms);

/* The peer in @slot, which is in use. */
const QdesPeer *qdes_peers_get(const QdesPeers *peers, uint32_t slot);

/* The path to the peer in @slot carries @room bytes; @as_of is kept with it,
 * and 0 for a new peer. */
void qdes_peers_set_room(QdesPeers *peers, uint32_t slot, uint32_t room,
                         uint32_t as_of);

/* Whether the peer in @slot gets copies of what is flooded; not when new. */
void qdes_peers_set_copy(QdesPeers *peers, uint32_t slot, bool copy);

/*
 * The next slot after @slot that gets copies, QDES_PEER_NONE after the last;
 * begin with QDES_PEER_NONE.  Who serves them in this order serves nobody
 * twice, though peers come and go in the meantime.
 */
uint32_t qdes_peers_next_copy(const QdesPeers *peers, uint32_t slot);

/* How many get copies. */
uint32_t qdes_peers_copies(const QdesPeers *peers);

void qdes_peers_remove(QdesPeers *peers, uint32_t slot);

/* Has the peer in @slot been silent for its hold time? */
bool qdes_peers_is_expired(const QdesPeers *peers, uint32_t slot,
                           int64_t now);

/* Nobody could be heard for @ms: count that time for nobody. */
void qdes_peers_excuse(QdesPeers *peers, int64_t ms);

/* The slot in use after @slot, QDES_PEER_NONE after the last; begin with
 * QDES_PEER_NONE.  The current one may be removed on the way. */
uint32_t qdes_peers_next(const QdesPeers *peers, uint32_t slot);

uint32_t qdes_peers_size(const QdesPeers *peers);

#endif
