/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Doubly linked lists of array slots
 *
 * The tables that the network can fill (FDB, peers) are arrays of fixed size;
 * their lists link slots by index, so that nothing is allocated per entry and
 * an entry can be on several lists.  QDES_CHAIN_NIL is no slot.
 *
 * @links is the array of one list's links, one for each slot of the table;
 * a slot is on at most one of the lists that share @links.
 */

#ifndef QDES_CHAIN_H
#define QDES_CHAIN_H

#include <stdint.h>

#define QDES_CHAIN_NIL UINT32_MAX

typedef struct QdesLink {
    uint32_t prev, next;
} QdesLink;

typedef struct QdesChain {
    uint32_t head, tail;
} QdesChain;

#define QDES_CHAIN_EMPTY ((QdesChain) { QDES_CHAIN_NIL, QDES_CHAIN_NIL })

static inline void qdes_chain_append(QdesChain *chain, QdesLink *links,
                                     uint32_t slot)
{
    links[slot].prev = chain->tail;
    links[slot].next = QDES_CHAIN_NIL;
    if (chain->tail == QDES_CHAIN_NIL) {
        chain->head = slot;
    } else {
        links[chain->tail].next = slot;
    }
    chain->tail = slot;
}

static inline void qdes_chain_remove(QdesChain *chain, QdesLink *links,
                                     uint32_t slot)
{
    uint32_t prev = links[slot].prev;
    uint32_t next = links[slot].next;

    if (prev == QDES_CHAIN_NIL) {
        chain->head = next;
    } else {
        links[prev].next = next;
    }
    if (next == QDES_CHAIN_NIL) {
        chain->tail = prev;
    } else {
        links[next].prev = prev;
    }
}

/* Make @slot the last, as the one used most recently. */
static inline void qdes_chain_touch(QdesChain *chain, QdesLink *links,
                                    uint32_t slot)
{
    if (chain->tail != slot) {
        qdes_chain_remove(chain, links, slot);
        qdes_chain_append(chain, links, slot);
    }
}

#endif
