/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Static entries: MAC addresses whose place the user has said
 *
 * A dictionary from MAC address to the endpoint of a peer, or to this side of
 * the port.  It stands before the FDB: what is here is not learned, and so is
 * never aged, moved or evicted.  An entry names an endpoint, not a peer: it
 * outlives the peer and waits for one that is not known yet.
 *
 * Limits: QDES_STATICS_MAX entries, all of their memory in the table itself.
 * To look up takes constant time, and none where there are no entries; to
 * change the table takes time in proportion to its size.
 *
 * Pure.
 */

#ifndef QDES_STATICS_H
#define QDES_STATICS_H

#include "qdes/addr.h"
#include "qdes/eth.h"

#define QDES_STATICS_MAX 1024   /* entries */
#define QDES_STATICS_BUCKETS 2048

typedef struct QdesStatic {
    uint8_t mac[QDES_MAC_SIZE];
    bool local;                 /* on this side; no @peer then */
    QdesAddr peer;
} QdesStatic;

typedef struct QdesStatics {
    uint64_t seed;
    unsigned size;
    QdesStatic entries[QDES_STATICS_MAX]; /* the first @size of them */
    uint16_t buckets[QDES_STATICS_BUCKETS]; /* index + 1, 0: none */
    uint16_t next[QDES_STATICS_MAX]; /* in its bucket, index + 1 */
} QdesStatics;

/* An empty table. */
QdesStatics *qdes_statics_new(uint64_t seed);
void qdes_statics_free(QdesStatics *statics);

/* Put @entry in, in place of one of the same MAC address.  Returns false when
 * the table is full. */
bool qdes_statics_put(QdesStatics *statics, const QdesStatic *entry);

/* Take the entry of @mac out.  Returns false when there is none. */
bool qdes_statics_remove(QdesStatics *statics,
                         const uint8_t mac[QDES_MAC_SIZE]);

/*
 * Take out all entries that lead to @peer; NULL: all there are.  Returns their
 * number.
 */
unsigned qdes_statics_flush(QdesStatics *statics, const QdesAddr *peer);

/* For qdes_statics_find(), in a table that has entries. */
const QdesStatic *qdes_statics_search(const QdesStatics *statics,
                                      const uint8_t mac[QDES_MAC_SIZE]);

/* The entry of @mac, or NULL; valid until the table changes. */
static inline const QdesStatic *
qdes_statics_find(const QdesStatics *statics, const uint8_t mac[QDES_MAC_SIZE])
{
    return statics->size ? qdes_statics_search(statics, mac) : NULL;
}

#endif
