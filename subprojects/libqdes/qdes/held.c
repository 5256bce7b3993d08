/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Datagrams, opened, whose senders still have to prove that they are there.
 *
 * Their bytes lie one after the other in the order of the entries; a gap stays
 * until room is asked for.
 */

#include "qdes/held.h"

#include <string.h>

#include "qdes/bytes.h"

struct QdesHeldStore {
    QdesHeld all[QDES_HELD_MAX];
    unsigned n;
    unsigned n_ready;
    size_t used;                /* bytes, gaps among them */
    uint8_t *bytes;             /* NULL: nothing was ever held */
};

QdesHeldStore *qdes_held_new(void)
{
    return g_new0(QdesHeldStore, 1);
}

void qdes_held_free(QdesHeldStore *store)
{
    if (store->bytes) {
        qdes_wipe(store->bytes, QDES_HELD_BYTES);
        g_free(store->bytes);
    }
    g_free(store);
}

static bool has_room(const QdesHeldStore *store, size_t size)
{
    return store->n < QDES_HELD_MAX && size <= QDES_HELD_BYTES - store->used;
}

static void close_gaps(QdesHeldStore *store)
{
    QdesHeld *held;

    store->used = 0;
    for (held = store->all; held < store->all + store->n; held++) {
        held->data = memmove(store->bytes + store->used, held->data,
                             held->size);
        store->used += held->size;
    }
}

bool qdes_held_add(QdesHeldStore *store, const QdesHeld *held)
{
    QdesHeld *copy;

    if (!store->bytes) {
        store->bytes = g_malloc(QDES_HELD_BYTES);
    }
    if (!has_room(store, held->size)) {
        close_gaps(store);
        if (!has_room(store, held->size)) {
            return false;
        }
    }
    copy = &store->all[store->n++];
    *copy = *held;
    copy->state = QDES_HELD_WAITING;
    copy->data = memcpy(store->bytes + store->used, held->data, held->size);
    store->used += held->size;
    return true;
}

void qdes_held_make_ready(QdesHeldStore *store, uint64_t session)
{
    QdesHeld *held;

    for (held = store->all; held < store->all + store->n; held++) {
        if (held->head.session == session &&
            held->state == QDES_HELD_WAITING) {
            held->state = QDES_HELD_READY;
            store->n_ready++;
        }
    }
}

const QdesHeld *qdes_held_take(QdesHeldStore *store, const QdesHeld *like)
{
    QdesHeld *held;

    for (held = store->all; store->n_ready && held < store->all + store->n;
         held++) {
        if (held->state == QDES_HELD_READY &&
            (!like || held->by_group == like->by_group)) {
            held->state = QDES_HELD_TAKEN;
            store->n_ready--;
            return held;
        }
    }
    return NULL;
}

/* Remove those in @state which came no later than @before. */
static unsigned remove_all(QdesHeldStore *store, QdesHeldState state,
                           int64_t before)
{
    unsigned removed;
    unsigned n = 0;
    unsigned i;

    for (i = 0; i < store->n; i++) {
        if (store->all[i].state != state || store->all[i].when > before) {
            store->all[n++] = store->all[i];
        }
    }
    removed = store->n - n;
    store->n = n;
    if (n == 0) {
        store->used = 0;
    }
    return removed;
}

void qdes_held_remove_taken(QdesHeldStore *store)
{
    remove_all(store, QDES_HELD_TAKEN, INT64_MAX);
}

unsigned qdes_held_expire(QdesHeldStore *store, int64_t before)
{
    return remove_all(store, QDES_HELD_WAITING, before);
}

unsigned qdes_held_size(const QdesHeldStore *store)
{
    return store->n;
}
