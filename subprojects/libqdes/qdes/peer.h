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
 * Proof: a peer is "proven" once it returned a nonce; all others may be
 * somebody's invention, and are not to be sent more than came from them.
 *
 * Reach: floods by the group reach a peer that we hear by the group, or that
 * tells us that it hears us so.  One that they do not reach gets copies by
 * unicast, if it is proven and alive; of several endpoints with one instance
 * only one does: one that the group reaches, else the one proven last.
 *
 * Limits and fairness: at most @max_peers.  A new peer takes the place of the
 * one heard longest ago among those that never said HELLO; where there is
 * none, among those that said it; then among the proven; seeds come last.  So
 * invented sources push out each other before they push out a port that takes
 * part.  At most QDES_PEER_ENDPOINTS count as one instance, the proven first:
 * who comes after them gets no copies.
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
#define QDES_PEER_SETTLE_MS 1000 /* a new peer gets no copies for so long, as
                                   long as the group may reach it */
#define QDES_PEER_ENDPOINTS 16  /* that count as one instance */
#define QDES_PEER_MIN_HOLD 3    /* seconds */
#define QDES_PEER_MAX_HOLD 600  /* seconds */
#define QDES_PEER_MAX_RTT 60000000 /* microseconds */
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
    unsigned n_keys;            /* that it accepts; 0: it did not say */
    uint32_t keys[QDES_WIRE_KEYS_MAX];
    uint32_t heard_key;         /* that it used last, as far as that matters */
    uint64_t mark;              /* of its probes; 0: not looked for yet */
    int64_t hold_ms;
    int64_t heard;              /* ms, when heard last */
    uint32_t room;              /* bytes of the longest datagram that its path
                                   carries whole */
    uint32_t room_as_of;        /* when that was found; the caller's count */
    QdesAddr at;                /* the address of ours that it sends to, and
                                   so is sent to from; ::, not known */
    int64_t at_heard;           /* ms, when that was so last */
    bool copy;                  /* floods reach it only by unicast copies */

    bool seed;                  /* the user listed it */
    bool proven;                /* it returned a nonce */
    int64_t proven_since;       /* ms, when it did so first */
    int64_t met;                /* ms, when heard first */
    int64_t heard_group;        /* ms, when heard last by the group; 0: never */
    QdesGroupHeard told;        /* what it said last of our HELLOs to all */
    int64_t told_at;            /* ms */
    uint32_t rtt_us, rtt_var_us; /* smoothed as in RFC 6298; 0: unknown */
    uint32_t echo_sent;         /* ECHOs to it */
    uint32_t echo_lost;         /* those of them that another followed before a
                                   reply came */
    bool echo_open;             /* the last one has no reply yet */
    uint32_t observed;          /* a hash of how it sees us, 0: unknown */
    int64_t greeted;            /* ms, our last HELLO to it alone; 0: none */
    int64_t answered;           /* ms, our last list to it; 0: none */
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

/* The peer in @slot, which was just heard, said HELLO. */
QdesPeerNews qdes_peers_hello(QdesPeers *peers, uint32_t slot,
                              const QdesWireHello *hello);

/*
 * The peer in @slot will not say HELLO: it counts as alive and proven, and is
 * gone after @hold_ms of silence.  It gets copies if it is a seed that was
 * not heard by the group since it joined or left that.
 */
void qdes_peers_presume_alive(QdesPeers *peers, uint32_t slot, int64_t hold_ms,
                              int64_t now);

/* The peer in @slot, which is in use. */
const QdesPeer *qdes_peers_get(const QdesPeers *peers, uint32_t slot);

/* The path to the peer in @slot carries @room bytes; @as_of is kept with it,
 * and 0 for a new peer. */
void qdes_peers_set_room(QdesPeers *peers, uint32_t slot, uint32_t room,
                         uint32_t as_of);

/* The address of ours from which to send to the peer in @slot; NULL: nobody
 * knows, or it is gone. */
const QdesAddr *qdes_peers_at(const QdesPeers *peers, uint32_t slot);

/* The peer in @slot sends to our address @at, NULL: nobody knows. */
void qdes_peers_set_at(QdesPeers *peers, uint32_t slot, const QdesAddr *at,
                       int64_t now);

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

/*
 * Some of what the rule for copies goes by has changed for the peer in @slot,
 * or time has passed: set anew who of its instance gets them.  @group: this
 * port has a group.
 */
void qdes_peers_decide_copy(QdesPeers *peers, uint32_t slot, int64_t now,
                            bool group);

/* Do floods by the group reach the peer in @slot, as far as is known? */
bool qdes_peers_is_reached(const QdesPeers *peers, uint32_t slot, int64_t now);

/* Is the peer in @slot heard by the group? */
bool qdes_peers_hears_group(const QdesPeers *peers, uint32_t slot,
                            int64_t now);

/* The peer in @slot was just heard by the group; @now 0: it has left that. */
void qdes_peers_heard_group(QdesPeers *peers, uint32_t slot, int64_t now);

/* The peer in @slot returned a nonce.  Returns whether it is the first. */
bool qdes_peers_prove(QdesPeers *peers, uint32_t slot, int64_t now);

/* An alive peer with this instance, one that is proven, too; QDES_PEER_NONE. */
uint32_t qdes_peers_find_alive(const QdesPeers *peers, uint64_t instance);
uint32_t qdes_peers_find_instance(const QdesPeers *peers, uint64_t instance);

/* The next peer after @slot with the instance of the one in @self, itself left
 * out; QDES_PEER_NONE after the last, and to begin with. */
uint32_t qdes_peers_next_same(const QdesPeers *peers, uint32_t self,
                              uint32_t slot);

/* An ECHO went to the peer in @slot; its reply came, after @rtt_us. */
void qdes_peers_echo_sent(QdesPeers *peers, uint32_t slot);
void qdes_peers_echo_returned(QdesPeers *peers, uint32_t slot,
                              uint32_t rtt_us);

/* The peer in @slot is listed by the user, or not any longer. */
void qdes_peers_set_seed(QdesPeers *peers, uint32_t slot, bool seed);

/* Take note of how the peer in @slot sees us. */
void qdes_peers_set_observed(QdesPeers *peers, uint32_t slot,
                             uint32_t observed);

/* Take note of when the peer in @slot was sent a HELLO of its own, a list. */
void qdes_peers_set_greeted(QdesPeers *peers, uint32_t slot, int64_t now);
void qdes_peers_set_answered(QdesPeers *peers, uint32_t slot, int64_t now);

/* What the peer in @slot sends is sealed by the key with this ID. */
void qdes_peers_set_heard_key(QdesPeers *peers, uint32_t slot, uint32_t key);

/* What its probes bear, which goes when its instance is another one. */
void qdes_peers_set_mark(QdesPeers *peers, uint32_t slot, uint64_t mark);

void qdes_peers_remove(QdesPeers *peers, uint32_t slot);

/*
 * Nobody's hold time counts as less than @ms.  In a large fabric intervals are
 * long, and who joined while it was small has announced what is too short.
 */
void qdes_peers_set_patience(QdesPeers *peers, int64_t ms);

/* When the peer in @slot has been silent for its hold time, if nothing comes
 * until then. */
int64_t qdes_peers_expiry(const QdesPeers *peers, uint32_t slot);

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
