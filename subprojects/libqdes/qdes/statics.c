/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Static entries: a chained hash over an array without gaps, made anew with
 * each change, which only users make.
 */

#include "qdes/statics.h"

#include <glib.h>
#include <string.h>

#include "qdes/hash.h"

static unsigned bucket_of(const QdesStatics *statics, const uint8_t *mac)
{
    uint64_t key = 0;

    memcpy(&key, mac, QDES_MAC_SIZE);
    return qdes_hash_mix(key ^ statics->seed) % QDES_STATICS_BUCKETS;
}

static void index_anew(QdesStatics *statics)
{
    unsigned bucket;
    unsigned i;

    memset(statics->buckets, 0, sizeof(statics->buckets));
    for (i = 0; i < statics->size; i++) {
        bucket = bucket_of(statics, statics->entries[i].mac);
        statics->next[i] = statics->buckets[bucket];
        statics->buckets[bucket] = i + 1;
    }
}

QdesStatics *qdes_statics_new(uint64_t seed)
{
    QdesStatics *statics = g_new0(QdesStatics, 1);

    statics->seed = seed;
    return statics;
}

void qdes_statics_free(QdesStatics *statics)
{
    g_free(statics);
}

const QdesStatic *qdes_statics_search(const QdesStatics *statics,
                                      const uint8_t mac[QDES_MAC_SIZE])
{
    unsigned i = statics->buckets[bucket_of(statics, mac)];

    while (i && memcmp(statics->entries[i - 1].mac, mac,
                       QDES_MAC_SIZE) != 0) {
        i = statics->next[i - 1];
    }
    return i ? &statics->entries[i - 1] : NULL;
}

bool qdes_statics_put(QdesStatics *statics, const QdesStatic *entry)
{
    const QdesStatic *old = qdes_statics_find(statics, entry->mac);

    if (old) {
        statics->entries[old - statics->entries] = *entry;
        return true;
    }
    if (statics->size == QDES_STATICS_MAX) {
        return false;
    }
    statics->entries[statics->size++] = *entry;
    index_anew(statics);
    return true;
}

bool qdes_statics_remove(QdesStatics *statics,
                         const uint8_t mac[QDES_MAC_SIZE])
{
    const QdesStatic *entry = qdes_statics_find(statics, mac);

    if (!entry) {
        return false;
    }
    statics->entries[entry - statics->entries] =
        statics->entries[--statics->size];
    index_anew(statics);
    return true;
}

unsigned qdes_statics_flush(QdesStatics *statics, const QdesAddr *peer)
{
    unsigned before = statics->size;
    unsigned kept = 0;
    unsigned i;

    for (i = 0; i < before; i++) {
        const QdesStatic *entry = &statics->entries[i];

        if (peer && (entry->local || !qdes_addr_equal(&entry->peer, peer))) {
            statics->entries[kept++] = *entry;
        }
    }
    statics->size = kept;
    index_anew(statics);
    return before - kept;
}
