/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Storm control: a bucket of tokens. */

#include "qdes/storm.h"

#include <glib.h>

#define TOKEN 1000              /* a rate per second, counted in ms */

void qdes_storm_init(QdesStorm *storm, uint32_t rate, int64_t now)
{
    g_assert(rate <= QDES_STORM_MAX);
    storm->rate = rate;
    storm->tokens = (int64_t)rate * TOKEN;
    storm->as_of = now;
}

bool qdes_storm_allows(QdesStorm *storm, int64_t now)
{
    int64_t full = (int64_t)storm->rate * TOKEN;
    int64_t elapsed;

    if (!storm->rate) {
        return true;
    }
    /* A clock that goes back brings nothing, and takes nothing. */
    elapsed = MAX(now - storm->as_of, 0);
    storm->as_of = now;
    if (elapsed >= (full - storm->tokens) / storm->rate + 1) {
        storm->tokens = full;
    } else {
        storm->tokens = MIN(storm->tokens + elapsed * storm->rate, full);
    }
    return storm->tokens >= TOKEN;
}

void qdes_storm_charge(QdesStorm *storm, uint32_t frames)
{
    if (storm->rate) {
        storm->tokens -= (int64_t)frames * TOKEN;
    }
}
