/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The loop guard's memory: whose probes were heard, and when to send one
 *
 * Of all ports of a fabric that sit on one LAN, all but the one with the
 * lowest instance have to block.  Each decides by itself: it blocks while it
 * has heard a lower instance of late.
 *
 * When to send: at once when something may have changed, then at intervals
 * that double up to QDES_GUARD_MS.  What asks for a probe at once gets one
 * each QDES_GUARD_MIN_MS at the most.
 *
 * Limits: the QDES_GUARD_HEARD lowest instances.  A plain value, to be zeroed
 * before use; times are milliseconds of the caller's monotonic clock.
 */

#ifndef QDES_GUARD_H
#define QDES_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#define QDES_GUARD_HEARD 16     /* ports */
#define QDES_GUARD_MS 10000     /* from one probe to the next */
#define QDES_GUARD_FIRST_MS 100 /* the first of the intervals that double */
#define QDES_GUARD_MIN_MS 20    /* the shortest time between two */
#define QDES_GUARD_HOLD_MS (3 * QDES_GUARD_MS) /* what was heard counts */

typedef struct QdesGuard {
    struct {
        uint64_t instance;      /* 0: not in use */
        int64_t when;           /* ms */
    } heard[QDES_GUARD_HEARD];
    bool sent;                  /* has any been? */
    int64_t last;               /* ms, when one was sent */
    int64_t next;               /* ms, when one is due */
    int64_t interval;           /* ms, from @next to the one after it */
    bool asks;                  /* the next ones shall be answered */
} QdesGuard;

/* A probe of @instance was heard on this port's side.  Returns whether that is
 * news. */
bool qdes_guard_hear(QdesGuard *guard, uint64_t instance, int64_t now);

/* Forget who was heard. */
void qdes_guard_forget(QdesGuard *guard);

/*
 * The lowest instance below @own that was heard within QDES_GUARD_HOLD_MS and
 * of which @is_there says that it is in the fabric; 0: none.
 */
uint64_t qdes_guard_find(const QdesGuard *guard, uint64_t own, int64_t now,
                         bool (*is_there)(uint64_t instance, void *opaque),
                         void *opaque);

/*
 * Something may have changed: probes that ask are due, until the interval is
 * the longest.  Returns when the first is.
 */
int64_t qdes_guard_suspect(QdesGuard *guard, int64_t now);

/* Somebody asked: a probe is due.  Returns when. */
int64_t qdes_guard_answer(QdesGuard *guard, int64_t now);

/* A probe was sent.  Returns when the next one is due. */
int64_t qdes_guard_sent(QdesGuard *guard, int64_t now);

#endif
