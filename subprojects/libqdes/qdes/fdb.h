/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * FDB: which MAC address is behind whom
 *
 * A dictionary from MAC address to owner.  An owner is a small number: a slot
 * of the peer table, or QDES_FDB_LOCAL for this side of the port.  The FDB
 * does not know what an owner is; whoever removes a peer flushes its entries
 * with qdes_fdb_flush_owner() before the number is used again.
 *
 * Learning (IEEE 802.1Q-2018, 8.7): an entry is made or refreshed by each
 * frame that comes from its address, moves at once when the address is heard
 * elsewhere, and ages out when it has not been heard for the ageing time.
 *
 * Limits and fairness: the table holds at most @max_entries, and no owner
 * more than half of them (but at least one).  A new address of an owner that
 * has its share takes the place of that owner's own oldest.  When the whole
 * table is full, the oldest entry of the owner with the most entries goes;
 * the owner of the new one gives way where it is among those with the most.
 * So whoever floods the table with invented addresses pushes out its own,
 * and the traffic of the others is not turned into flooding.  Also where it
 * poses as many: of N owners, none that has @max_entries / N entries or fewer
 * ever loses one to another's (as it would have to have more than any owner
 * that asks for room, and so more than the average).
 *
 * Invariants: the entries of all owners sum to the size; in the order of age
 * the entry heard longest ago comes first; an entry past the ageing time is
 * never found, even before qdes_fdb_age() removes it.
 *
 * Cost: all operations but move_owner, flush, age and foreach take constant
 * time.  All memory is taken at creation: about 52 bytes for each possible
 * entry, which the system backs as it is used.  The hash is seeded, so that a
 * sender cannot aim at one bucket.
 *
 * Pure: times are milliseconds of the caller's monotonic clock, and must not
 * go back.
 */

#ifndef QDES_FDB_H
#define QDES_FDB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qdes/eth.h"

typedef struct QdesFdb QdesFdb;

#define QDES_FDB_LOCAL 0        /* the owner on this side of the port */

/* How exact the time of hearing is kept, in milliseconds: refreshing an entry
 * more often would only cost. */
#define QDES_FDB_GRANULARITY_MS 100

typedef enum QdesFdbChange {
    QDES_FDB_REFRESHED,         /* known, and where it was */
    QDES_FDB_LEARNED,           /* new */
    QDES_FDB_MOVED,             /* known, but elsewhere */
} QdesFdbChange;

/* What has happened to entries so far.  The table's size is what was learned
 * less what was forgotten in one of three ways. */
typedef struct QdesFdbTotals {
    uint64_t learned, moved;
    uint64_t aged, evicted, flushed;
} QdesFdbTotals;

typedef struct QdesFdbEntry {
    uint8_t mac[QDES_MAC_SIZE];
    uint32_t owner;
    uint32_t moves;             /* times that the owner changed */
    int64_t heard;              /* ms, when heard last */
} QdesFdbEntry;

/*
 * Owners are numbers below @max_owners.  @max_entries is at least 1,
 * @ageing_ms more than 0.
 */
QdesFdb *qdes_fdb_new(uint32_t max_entries, uint32_t max_owners,
                      int64_t ageing_ms, uint64_t seed);
void qdes_fdb_free(QdesFdb *fdb);

/*
 * A frame from @mac came by way of @owner.  @mac must be fit as a source.
 * When the entry moved, *@old_owner is where it was.
 */
QdesFdbChange qdes_fdb_learn(QdesFdb *fdb, const uint8_t mac[QDES_MAC_SIZE],
                             uint32_t owner, int64_t now,
                             uint32_t *old_owner);

/* The entry of @mac, or NULL; valid until the next call that changes the
 * table. */
const QdesFdbEntry *qdes_fdb_lookup(const QdesFdb *fdb,
                                    const uint8_t mac[QDES_MAC_SIZE],
                                    int64_t now);

/* Forget all entries of @owner.  Returns their number. */
size_t qdes_fdb_flush_owner(QdesFdb *fdb, uint32_t owner);

/* All that is behind the owner @from is behind @to from now on. */
void qdes_fdb_move_owner(QdesFdb *fdb, uint32_t from, uint32_t to);

/* Forget the entry of @mac.  Returns whether there was one. */
bool qdes_fdb_flush_mac(QdesFdb *fdb, const uint8_t mac[QDES_MAC_SIZE]);

/* Forget all entries.  Returns their number. */
size_t qdes_fdb_flush(QdesFdb *fdb);

/* Forget all entries past the ageing time.  Returns their number. */
size_t qdes_fdb_age(QdesFdb *fdb, int64_t now);

const QdesFdbTotals *qdes_fdb_totals(const QdesFdb *fdb);

/* Entries in all, and of one owner. */
size_t qdes_fdb_size(const QdesFdb *fdb);
size_t qdes_fdb_owner_size(const QdesFdb *fdb, uint32_t owner);

/* Call @fn for each entry not past the ageing time, oldest first; @fn must
 * not change the table. */
void qdes_fdb_foreach(const QdesFdb *fdb, int64_t now,
                      void (*fn)(const QdesFdbEntry *entry, void *opaque),
                      void *opaque);

#endif
