/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Counters: what a port has done, and why it dropped what it dropped
 *
 * The table stats.def names every counter once; this module turns it into an
 * index, names and help texts.  A counter never goes back while its port
 * lives.  Each counter belongs to a group, and two sums hold whenever no call
 * into the fabric is under way (qdes_stats_balanced()): every frame that came
 * from the port, and every datagram that came from the sockets, is accounted
 * for in exactly one counter.
 *
 * Pure.  A QdesStats is a plain value and may be copied.
 */

#ifndef QDES_STATS_H
#define QDES_STATS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum QdesCounter {
#define QDES_COUNTER(name, group, help) QDES_COUNTER_##name,
#include "qdes/stats.def"
#undef QDES_COUNTER
    QDES_COUNTER__MAX
} QdesCounter;

typedef enum QdesCounterGroup {
    QDES_COUNTER_GROUP_TX_IN,
    QDES_COUNTER_GROUP_TX_OUT,
    QDES_COUNTER_GROUP_RX_IN,
    QDES_COUNTER_GROUP_RX_OUT,
    QDES_COUNTER_GROUP_NOTE,
} QdesCounterGroup;

typedef struct QdesStats {
    uint64_t value[QDES_COUNTER__MAX];
} QdesStats;

#define QDES_COUNT(stats, name) ((stats)->value[QDES_COUNTER_##name]++)
#define QDES_COUNT_ADD(stats, name, n) \
    ((stats)->value[QDES_COUNTER_##name] += (n))

/* The name with '-' between words, as QMP and JSON have it; static. */
const char *qdes_counter_name(QdesCounter counter);

/* One line for people; static. */
const char *qdes_counter_help(QdesCounter counter);

QdesCounterGroup qdes_counter_group(QdesCounter counter);

/* Do both sums hold? */
bool qdes_stats_balanced(const QdesStats *stats);

#endif
