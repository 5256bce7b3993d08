/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Detours: an array, looked through from its beginning. */

#include "qdes/detour.h"

#include "qdes/bytes.h"
#include "qdes/hash.h"

uint32_t qdes_detour_score(uint64_t one, uint64_t other, uint64_t relay)
{
    uint8_t bytes[16];

    qdes_put_be64(bytes, one ^ other);
    qdes_put_be64(bytes + 8, relay);
    return qdes_hash_fnv(bytes, sizeof(bytes));
}

QdesDetour *qdes_detours_find(QdesDetours *d, uint64_t instance)
{
    unsigned i;

    for (i = 0; i < d->n; i++) {
        if (d->all[i].instance == instance) {
            return &d->all[i];
        }
    }
    return NULL;
}

bool qdes_detours_miss(QdesDetours *d, uint64_t instance, const QdesAddr *addr)
{
    if (qdes_detours_find(d, instance) || d->n == QDES_DETOURS_MAX) {
        return false;
    }
    d->all[d->n++] = (QdesDetour) {
        .instance = instance, .addr = *addr, .told = d->round,
    };
    return true;
}

uint64_t qdes_detours_told(QdesDetours *d, uint64_t self, uint64_t instance,
                           const QdesAddr *addr, uint64_t relay)
{
    QdesDetour *detour = qdes_detours_find(d, instance);
    uint64_t before;

    if (!detour) {
        return 0;
    }
    detour->told = d->round;
    detour->addr = *addr;
    before = detour->relay;
    if (relay && relay != before &&
        (!before || qdes_detour_score(self, instance, relay) >
                    qdes_detour_score(self, instance, before))) {
        detour->relay = relay;
    }
    if (relay && relay == detour->relay) {
        detour->vouched = d->round;
    }
    return before;
}

void qdes_detours_remove(QdesDetours *d, QdesDetour *detour)
{
    *detour = d->all[--d->n];
}

unsigned qdes_detours_list(const QdesDetours *d, uint64_t relay,
                           uint64_t *instances, unsigned max)
{
    unsigned n = 0;
    unsigned i;

    for (i = 0; i < d->n && n < max; i++) {
        if (d->all[i].relay == relay) {
            instances[n++] = d->all[i].instance;
        }
    }
    return n;
}
