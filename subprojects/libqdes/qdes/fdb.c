/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * FDB: a chained hash over an array of entries, with three lists through it:
 * all entries by age, each owner's entries by age, and the unused ones.
 * Owners with the same number of entries are on one list, so that one with
 * the most is found without a search.
 *
 * What was never used is 0, so that making a table touches none of its memory:
 * numbers in the hash are slots + 1, and lists of owners, and of counts, begin
 * to be lists with the first of their members.
 */

#include "qdes/fdb.h"

#include <glib.h>
#include <string.h>

#include "qdes/chain.h"
#include "qdes/hash.h"

typedef struct Owner {
    QdesChain entries;          /* oldest first */
    uint32_t count;
} Owner;

struct QdesFdb {
    uint64_t seed;
    int64_t ageing_ms;
    uint32_t max_entries;
    uint32_t max_per_owner;
    uint32_t max_owners;
    uint32_t size;
    uint32_t fresh;             /* slots from here on were never used */
    QdesFdbTotals totals;

    QdesFdbEntry *entries;
    uint32_t *buckets;          /* first slot of each hash chain, plus 1 */
    uint32_t bucket_mask;
    uint32_t *hash_next;        /* slots plus 1 */
    QdesLink *age_links;
    QdesLink *owner_links;      /* of an unused slot: the list of those */
    QdesChain by_age;
    QdesChain unused;

    Owner *owners;
    QdesLink *count_links;      /* through owners */
    QdesChain *by_count;        /* owners with so many entries, from 1 on */
    uint32_t n_counts;          /* the last of those lists that was used */
    uint32_t max_count;         /* the largest number that an owner has */
};

QdesFdb *qdes_fdb_new(uint32_t max_entries, uint32_t max_owners,
                      int64_t ageing_ms, uint64_t seed)
{
    QdesFdb *fdb = g_new0(QdesFdb, 1);
    uint32_t n_buckets = 1;

    g_assert(max_entries > 0 && max_owners > 0 && ageing_ms > 0);
    while (n_buckets < max_entries) {
        n_buckets *= 2;
    }
    fdb->seed = seed;
    fdb->ageing_ms = ageing_ms;
    fdb->max_entries = max_entries;
    fdb->max_per_owner = MAX(max_entries / 2, 1);
    fdb->max_owners = max_owners;
    fdb->entries = g_new0(QdesFdbEntry, max_entries);
    fdb->buckets = g_new0(uint32_t, n_buckets);
    fdb->bucket_mask = n_buckets - 1;
    fdb->hash_next = g_new0(uint32_t, max_entries);
    fdb->age_links = g_new0(QdesLink, max_entries);
    fdb->owner_links = g_new0(QdesLink, max_entries);
    fdb->by_age = QDES_CHAIN_EMPTY;
    fdb->unused = QDES_CHAIN_EMPTY;
    fdb->owners = g_new0(Owner, max_owners);
    fdb->count_links = g_new0(QdesLink, max_owners);
    fdb->by_count = g_new0(QdesChain, fdb->max_per_owner + 1);
    return fdb;
}

void qdes_fdb_free(QdesFdb *fdb)
{
    if (!fdb) {
        return;
    }
    g_free(fdb->by_count);
    g_free(fdb->count_links);
    g_free(fdb->owners);
    g_free(fdb->owner_links);
    g_free(fdb->age_links);
    g_free(fdb->hash_next);
    g_free(fdb->buckets);
    g_free(fdb->entries);
    g_free(fdb);
}

static uint32_t *bucket_of(const QdesFdb *fdb, const uint8_t *mac)
{
    uint64_t key = 0;

    memcpy(&key, mac, QDES_MAC_SIZE);
    return &fdb->buckets[qdes_hash_mix(key ^ fdb->seed) & fdb->bucket_mask];
}

static uint32_t find(const QdesFdb *fdb, const uint8_t *mac)
{
    uint32_t next = *bucket_of(fdb, mac);

    while (next && memcmp(fdb->entries[next - 1].mac, mac,
                          QDES_MAC_SIZE) != 0) {
        next = fdb->hash_next[next - 1];
    }
    return next ? next - 1 : QDES_CHAIN_NIL;
}

static bool is_old(const QdesFdb *fdb, uint32_t slot, int64_t now)
{
    return now - fdb->entries[slot].heard >= fdb->ageing_ms;
}

/* Put an owner that has @owner->count entries now on the list of its like. */
static void recount(QdesFdb *fdb, uint32_t owner, int step)
{
    Owner *o = &fdb->owners[owner];

    if (o->count) {
        qdes_chain_remove(&fdb->by_count[o->count], fdb->count_links, owner);
    }
    o->count += step;
    if (o->count > fdb->n_counts) {
        fdb->by_count[++fdb->n_counts] = QDES_CHAIN_EMPTY;
    }
    if (o->count) {
        qdes_chain_append(&fdb->by_count[o->count], fdb->count_links, owner);
    }
    fdb->max_count = MAX(fdb->max_count, o->count);
    /* Counts change by one, so the next smaller is never far. */
    while (fdb->max_count &&
           fdb->by_count[fdb->max_count].head == QDES_CHAIN_NIL) {
        fdb->max_count--;
    }
}

static void attach(QdesFdb *fdb, uint32_t slot, uint32_t owner)
{
    fdb->entries[slot].owner = owner;
    if (!fdb->owners[owner].count) {
        fdb->owners[owner].entries = QDES_CHAIN_EMPTY;
    }
    qdes_chain_append(&fdb->owners[owner].entries, fdb->owner_links, slot);
    recount(fdb, owner, 1);
}

static void detach(QdesFdb *fdb, uint32_t slot)
{
    uint32_t owner = fdb->entries[slot].owner;

    qdes_chain_remove(&fdb->owners[owner].entries, fdb->owner_links, slot);
    recount(fdb, owner, -1);
}

static void forget(QdesFdb *fdb, uint32_t slot)
{
    uint32_t *next = bucket_of(fdb, fdb->entries[slot].mac);

    while (*next != slot + 1) {
        next = &fdb->hash_next[*next - 1];
    }
    *next = fdb->hash_next[slot];
    qdes_chain_remove(&fdb->by_age, fdb->age_links, slot);
    detach(fdb, slot);
    qdes_chain_append(&fdb->unused, fdb->owner_links, slot);
    fdb->size--;
}

/*
 * Make room for one more entry of @owner.  Where it has as many as any other,
 * it is the one that wants more than its share.
 */
static void make_room(QdesFdb *fdb, uint32_t owner, bool new_entry)
{
    uint32_t count = fdb->owners[owner].count;
    uint32_t victim;

    if (count >= fdb->max_per_owner) {
        victim = owner;
    } else if (new_entry && fdb->size >= fdb->max_entries) {
        victim = count == fdb->max_count ? owner :
                 fdb->by_count[fdb->max_count].head;
    } else {
        return;
    }
    forget(fdb, fdb->owners[victim].entries.head);
    fdb->totals.evicted++;
}

static uint32_t take_slot(QdesFdb *fdb)
{
    uint32_t slot = fdb->unused.head;

    if (slot == QDES_CHAIN_NIL) {
        return fdb->fresh++;
    }
    qdes_chain_remove(&fdb->unused, fdb->owner_links, slot);
    return slot;
}

static void learn_new(QdesFdb *fdb, const uint8_t *mac, uint32_t owner,
                      int64_t now)
{
    uint32_t *bucket = bucket_of(fdb, mac);
    uint32_t slot;

    make_room(fdb, owner, true);
    slot = take_slot(fdb);
    memcpy(fdb->entries[slot].mac, mac, QDES_MAC_SIZE);
    fdb->entries[slot].moves = 0;
    fdb->entries[slot].heard = now;
    fdb->hash_next[slot] = *bucket;
    *bucket = slot + 1;
    qdes_chain_append(&fdb->by_age, fdb->age_links, slot);
    attach(fdb, slot, owner);
    fdb->size++;
    fdb->totals.learned++;
}

static void move(QdesFdb *fdb, uint32_t slot, uint32_t owner, int64_t now)
{
    /* First away from the old owner: it may be the only entry there is. */
    detach(fdb, slot);
    make_room(fdb, owner, false);
    attach(fdb, slot, owner);
    fdb->entries[slot].moves++;
    fdb->entries[slot].heard = now;
    qdes_chain_touch(&fdb->by_age, fdb->age_links, slot);
    fdb->totals.moved++;
}

QdesFdbChange qdes_fdb_learn(QdesFdb *fdb, const uint8_t mac[QDES_MAC_SIZE],
                             uint32_t owner, int64_t now, uint32_t *old_owner)
{
    uint32_t slot = find(fdb, mac);
    QdesFdbEntry *entry;

    g_assert(owner < fdb->max_owners);
    if (slot != QDES_CHAIN_NIL && is_old(fdb, slot, now)) {
        /* What has aged out is not known: to hear it again is no move. */
        forget(fdb, slot);
        fdb->totals.aged++;
        slot = QDES_CHAIN_NIL;
    }
    if (slot == QDES_CHAIN_NIL) {
        learn_new(fdb, mac, owner, now);
        return QDES_FDB_LEARNED;
    }
    entry = &fdb->entries[slot];
    if (entry->owner != owner) {
        *old_owner = entry->owner;
        move(fdb, slot, owner, now);
        return QDES_FDB_MOVED;
    }
    if (now - entry->heard >= QDES_FDB_GRANULARITY_MS) {
        entry->heard = now;
        qdes_chain_touch(&fdb->by_age, fdb->age_links, slot);
        qdes_chain_touch(&fdb->owners[owner].entries, fdb->owner_links, slot);
    }
    return QDES_FDB_REFRESHED;
}

const QdesFdbEntry *qdes_fdb_lookup(const QdesFdb *fdb,
                                    const uint8_t mac[QDES_MAC_SIZE],
                                    int64_t now)
{
    uint32_t slot = find(fdb, mac);

    if (slot == QDES_CHAIN_NIL || is_old(fdb, slot, now)) {
        return NULL;
    }
    return &fdb->entries[slot];
}

void qdes_fdb_move_owner(QdesFdb *fdb, uint32_t from, uint32_t to)
{
    uint32_t slot;

    g_assert(from != to);
    while (fdb->owners[from].count) {
        slot = fdb->owners[from].entries.head;
        detach(fdb, slot);
        make_room(fdb, to, false);
        attach(fdb, slot, to);
        fdb->entries[slot].moves++;
        fdb->totals.moved++;
    }
}

size_t qdes_fdb_flush_owner(QdesFdb *fdb, uint32_t owner)
{
    size_t n = 0;

    while (fdb->owners[owner].count) {
        forget(fdb, fdb->owners[owner].entries.head);
        n++;
    }
    fdb->totals.flushed += n;
    return n;
}

bool qdes_fdb_flush_mac(QdesFdb *fdb, const uint8_t mac[QDES_MAC_SIZE])
{
    uint32_t slot = find(fdb, mac);

    if (slot == QDES_CHAIN_NIL) {
        return false;
    }
    forget(fdb, slot);
    fdb->totals.flushed++;
    return true;
}

size_t qdes_fdb_flush(QdesFdb *fdb)
{
    size_t n = fdb->size;

    while (fdb->by_age.head != QDES_CHAIN_NIL) {
        forget(fdb, fdb->by_age.head);
    }
    fdb->totals.flushed += n;
    return n;
}

size_t qdes_fdb_age(QdesFdb *fdb, int64_t now)
{
    size_t n = 0;

    while (fdb->by_age.head != QDES_CHAIN_NIL &&
           is_old(fdb, fdb->by_age.head, now)) {
        forget(fdb, fdb->by_age.head);
        n++;
    }
    fdb->totals.aged += n;
    return n;
}

const QdesFdbTotals *qdes_fdb_totals(const QdesFdb *fdb)
{
    return &fdb->totals;
}

size_t qdes_fdb_size(const QdesFdb *fdb)
{
    return fdb->size;
}

size_t qdes_fdb_owner_size(const QdesFdb *fdb, uint32_t owner)
{
    return fdb->owners[owner].count;
}

void qdes_fdb_foreach(const QdesFdb *fdb, int64_t now,
                      void (*fn)(const QdesFdbEntry *entry, void *opaque),
                      void *opaque)
{
    uint32_t slot;

    for (slot = fdb->by_age.head; slot != QDES_CHAIN_NIL;
         slot = fdb->age_links[slot].next) {
        if (!is_old(fdb, slot, now)) {
            fn(&fdb->entries[slot], opaque);
        }
    }
}
