/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Counters: names, groups, and the two sums. */

#include "qdes/stats.h"

#include <glib.h>

static const struct {
    const char *id;
    const char *help;
    QdesCounterGroup group;
} counters[] = {
#define QDES_COUNTER(name, group, help) \
    { #name, help, QDES_COUNTER_GROUP_##group },
#include "qdes/stats.def"
#undef QDES_COUNTER
};

const char *qdes_counter_name(QdesCounter counter)
{
    g_autofree char *name = g_strdup(counters[counter].id);

    return g_intern_string(g_strdelimit(name, "_", '-'));
}

const char *qdes_counter_help(QdesCounter counter)
{
    return counters[counter].help;
}

QdesCounterGroup qdes_counter_group(QdesCounter counter)
{
    return counters[counter].group;
}

bool qdes_stats_balanced(const QdesStats *stats)
{
    uint64_t sum[QDES_COUNTER_GROUP_NOTE + 1] = { 0 };
    int i;

    for (i = 0; i < QDES_COUNTER__MAX; i++) {
        sum[counters[i].group] += stats->value[i];
    }
    return sum[QDES_COUNTER_GROUP_TX_IN] == sum[QDES_COUNTER_GROUP_TX_OUT] &&
           sum[QDES_COUNTER_GROUP_RX_IN] == sum[QDES_COUNTER_GROUP_RX_OUT];
}
