/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Relay: an array of pairs, a chained hash by instance, a list per asker. */

#include "qdes/relay.h"

#include <glib.h>

#include "qdes/hash.h"
#include "qdes/wire.h"

#define BUCKETS 1024
#define NIL 0                   /* no pair */

typedef struct Pair {
    uint64_t instance;
    uint32_t asker;
    uint32_t hash_next;
    uint32_t next;              /* of the same asker, or unused */
} Pair;

struct QdesRelay {
    uint64_t seed;
    uint32_t max_askers;
    uint32_t size;
    uint32_t changes;
    uint32_t unused;
    uint32_t buckets[BUCKETS];
    Pair pairs[QDES_RELAY_PAIRS + 1]; /* 0 is never used */
    uint32_t *first;            /* of each asker */
    int64_t *until;             /* ms, of each asker's list */
};

QdesRelay *qdes_relay_new(uint32_t max_askers, uint64_t seed)
{
    QdesRelay *relay = g_new0(QdesRelay, 1);
    uint32_t i;

    relay->seed = seed;
    relay->max_askers = max_askers;
    relay->first = g_new0(uint32_t, max_askers + 1);
    relay->until = g_new0(int64_t, max_askers + 1);
    for (i = QDES_RELAY_PAIRS; i > NIL; i--) {
        relay->pairs[i].next = relay->unused;
        relay->unused = i;
    }
    return relay;
}

void qdes_relay_free(QdesRelay *relay)
{
    if (relay) {
        g_free(relay->until);
        g_free(relay->first);
        g_free(relay);
    }
}

static uint32_t bucket_of(const QdesRelay *relay, uint64_t instance)
{
    return qdes_hash_mix(instance ^ relay->seed) % BUCKETS;
}

void qdes_relay_forget(QdesRelay *relay, uint32_t asker)
{
    uint32_t i = relay->first[asker];
    uint32_t following;
    uint32_t *link;

    if (i != NIL) {
        relay->changes++;
    }
    for (; i != NIL; i = following) {
        following = relay->pairs[i].next;
        link = &relay->buckets[bucket_of(relay, relay->pairs[i].instance)];
        while (*link != i) {
            link = &relay->pairs[*link].hash_next;
        }
        *link = relay->pairs[i].hash_next;
        relay->pairs[i].next = relay->unused;
        relay->unused = i;
        relay->size--;
    }
    relay->first[asker] = NIL;
}

static void drop_outdated(QdesRelay *relay, int64_t now)
{
    uint32_t asker;

    for (asker = 1; asker <= relay->max_askers; asker++) {
        if (relay->first[asker] != NIL && relay->until[asker] <= now) {
            qdes_relay_forget(relay, asker);
        }
    }
}

/* Nobody is to get a frame twice because he asked for it twice. */
static bool has_asked(const QdesRelay *relay, uint32_t asker,
                      uint64_t instance)
{
    uint32_t i = relay->first[asker];

    while (i != NIL && relay->pairs[i].instance != instance) {
        i = relay->pairs[i].next;
    }
    return i != NIL;
}

unsigned qdes_relay_ask(QdesRelay *relay, uint32_t asker,
                        const uint64_t *instances, unsigned n, int64_t until,
                        int64_t now)
{
    unsigned refused = 0;
    uint32_t *bucket;
    unsigned i;
    Pair *pair;

    g_assert(asker != QDES_RELAY_NOBODY && asker <= relay->max_askers &&
             n <= QDES_WIRE_RELAY_MAX);
    qdes_relay_forget(relay, asker);
    if (relay->size + n > QDES_RELAY_PAIRS) {
        drop_outdated(relay, now);
    }
    relay->until[asker] = until;
    relay->changes++;
    for (i = 0; i < n; i++) {
        if (instances[i] == 0 || has_asked(relay, asker, instances[i])) {
            continue;
        }
        if (relay->unused == NIL) {
            refused++;
            continue;
        }
        pair = &relay->pairs[relay->unused];
        bucket = &relay->buckets[bucket_of(relay, instances[i])];
        pair->instance = instances[i];
        pair->asker = asker;
        pair->hash_next = *bucket;
        *bucket = relay->unused;
        relay->unused = pair->next;
        pair->next = relay->first[asker];
        relay->first[asker] = *bucket;
        relay->size++;
    }
    return refused;
}

uint32_t qdes_relay_next(const QdesRelay *relay, uint64_t instance,
                         uint32_t *at, int64_t now)
{
    uint32_t i = *at == NIL ? relay->buckets[bucket_of(relay, instance)]
                            : relay->pairs[*at].hash_next;
    const Pair *pair;

    for (; i != NIL; i = pair->hash_next) {
        pair = &relay->pairs[i];
        if (pair->instance == instance && relay->until[pair->asker] > now) {
            *at = i;
            return pair->asker;
        }
    }
    return QDES_RELAY_NOBODY;
}

uint32_t qdes_relay_changes(const QdesRelay *relay)
{
    return relay->changes;
}

uint32_t qdes_relay_size(const QdesRelay *relay)
{
    return relay->size;
}
