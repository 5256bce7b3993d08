/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Storm control: how many frames a port may flood
 *
 * A bucket of tokens.  It gains @rate tokens a second, as long as it has less
 * than that; each frame that is flooded costs one.  So @rate frames may come
 * at once, and as many in each second after.  What is made of several frames,
 * a superframe, passes as a whole when there is one token, and is paid for
 * when it has passed: the bucket may owe.
 *
 * A plain value.  Times are milliseconds of the caller's monotonic clock.
 */

#ifndef QDES_STORM_H
#define QDES_STORM_H

#include <stdbool.h>
#include <stdint.h>

#define QDES_STORM_MAX 10000000 /* frames per second */

typedef struct QdesStorm {
    uint32_t rate;              /* frames per second, 0: no limit */
    int64_t tokens;             /* thousandths of one */
    int64_t as_of;              /* ms, when they were counted last */
} QdesStorm;

/* A full bucket; @rate 0 limits nothing. */
void qdes_storm_init(QdesStorm *storm, uint32_t rate, int64_t now);

/* May a frame be flooded? */
bool qdes_storm_allows(QdesStorm *storm, int64_t now);

/* @frames were. */
void qdes_storm_charge(QdesStorm *storm, uint32_t frames);

#endif
