/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Relay: who is to get whose frames by way of this port
 *
 * A port that cannot reach another asks somebody who reaches both to send on
 * to it what the other floods or sends to it.  This is the relay's table: of
 * pairs of an asker, the slot of a peer, and the instance whose frames it
 * wants.  Nobody gets what it did not ask for.
 *
 * A peer's list replaces its last one, and holds until a time that comes with
 * it.  Whoever removes a peer calls qdes_relay_forget() before its slot is
 * used again.
 *
 * Limits and fairness: QDES_WIRE_RELAY_MAX pairs of one asker,
 * QDES_RELAY_PAIRS in all; the table being full, lists that are out of date
 * make room, and no others.
 *
 * Cost: to look up takes constant time, and as much again for each who asked
 * for the same instance.  All memory is taken at creation.
 *
 * Pure: times are milliseconds of the caller's monotonic clock.
 */

#ifndef QDES_RELAY_H
#define QDES_RELAY_H

#include <stdbool.h>
#include <stdint.h>

typedef struct QdesRelay QdesRelay;

#define QDES_RELAY_PAIRS 4096
#define QDES_RELAY_NOBODY 0     /* no asker */

/* Askers are numbers from 1 to @max_askers. */
QdesRelay *qdes_relay_new(uint32_t max_askers, uint64_t seed);
void qdes_relay_free(QdesRelay *relay);

/*
 * @asker wants the frames of the @n @instances until @until, and no others.
 * Returns how many of them there was no room for.
 */
unsigned qdes_relay_ask(QdesRelay *relay, uint32_t asker,
                        const uint64_t *instances, unsigned n, int64_t until,
                        int64_t now);

/* @asker is gone, or wants nothing. */
void qdes_relay_forget(QdesRelay *relay, uint32_t asker);

/*
 * The next who wants the frames of @instance, QDES_RELAY_NOBODY after the
 * last; begin with *@at 0.  Not to be gone on with when qdes_relay_changes()
 * has another value than it had at the beginning.
 */
uint32_t qdes_relay_next(const QdesRelay *relay, uint64_t instance,
                         uint32_t *at, int64_t now);
uint32_t qdes_relay_changes(const QdesRelay *relay);

/* How many pairs there are. */
uint32_t qdes_relay_size(const QdesRelay *relay);

#endif
