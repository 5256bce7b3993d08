/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Datagrams, opened, whose senders still have to prove that they are there
 *
 * Each waits for its session.  When that is accepted, its datagrams are ready;
 * they are taken in the order in which they came, and stay where they are until
 * what was taken is removed.  Invariant: nothing is added or expires between
 * that.
 *
 * Bounds: QDES_HELD_MAX datagrams of QDES_HELD_BYTES in all; what has no room
 * is refused.
 *
 * Ownership: everything is copied in; what is taken belongs to the store.
 *
 * Pure: times are milliseconds of the caller's monotonic clock.
 */

#ifndef QDES_HELD_H
#define QDES_HELD_H

#include "qdes/addr.h"
#include "qdes/seal.h"

#define QDES_HELD_MAX 128       /* datagrams */
#define QDES_HELD_BYTES (256 * 1024)

typedef enum QdesHeldState {
    QDES_HELD_WAITING,
    QDES_HELD_READY,
    QDES_HELD_TAKEN,
} QdesHeldState;

typedef struct QdesHeld {
    QdesSealHead head;
    QdesAddr from, at;          /* as QdesRxTrain has them */
    bool by_group;
    int64_t when;               /* ms, when it came */
    uint8_t *data;
    size_t size;
    QdesHeldState state;
} QdesHeld;

typedef struct QdesHeldStore QdesHeldStore;

QdesHeldStore *qdes_held_new(void);

/* What it holds is wiped. */
void qdes_held_free(QdesHeldStore *store);

/* Hold a copy of @held and its data.  Returns false when there is no room. */
bool qdes_held_add(QdesHeldStore *store, const QdesHeld *held);

/* @session is accepted. */
void qdes_held_make_ready(QdesHeldStore *store, uint64_t session);

/*
 * Take the first one that is ready; given @like, one that came by the same
 * socket as that.  Returns NULL where there is none.
 */
const QdesHeld *qdes_held_take(QdesHeldStore *store, const QdesHeld *like);

void qdes_held_remove_taken(QdesHeldStore *store);

/* Remove what waits since @before or longer.  Returns how many those were. */
unsigned qdes_held_expire(QdesHeldStore *store, int64_t before);

unsigned qdes_held_size(const QdesHeldStore *store);

#endif
