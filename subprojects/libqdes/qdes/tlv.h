/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * TLVs: what control messages consist of
 *
 * A type and a length of 16 bits each, then the value; no padding between.
 *
 * Invariant of reading: @next and @left never leave the buffer that the reader
 * was begun with, whatever is in it.  Writing is into buffers whose size the
 * caller has proved to do.
 *
 * Pure.
 */

#ifndef QDES_TLV_H
#define QDES_TLV_H

#include <stdbool.h>
#include <stddef.h>

#include "qdes/bytes.h"

#define QDES_TLV_HEADER_SIZE 4  /* bytes */

typedef struct QdesTlv {
    const uint8_t *next;        /* where the next one begins */
    size_t left;                /* bytes from there on */
    unsigned type;              /* of the one that was read last */
    const uint8_t *value;
    size_t size;                /* bytes of its value */
} QdesTlv;

/* Read one.  Returns false when it does not fit into what is left. */
static inline bool qdes_tlv_read(QdesTlv *tlv)
{
    if (tlv->left < QDES_TLV_HEADER_SIZE) {
        return false;
    }
    tlv->type = qdes_get_be16(tlv->next);
    tlv->size = qdes_get_be16(tlv->next + 2);
    tlv->value = tlv->next + QDES_TLV_HEADER_SIZE;
    tlv->left -= QDES_TLV_HEADER_SIZE;
    if (tlv->size > tlv->left) {
        return false;
    }
    tlv->next = tlv->value + tlv->size;
    tlv->left -= tlv->size;
    return true;
}

/* Write type and length at @p; returns where the value goes. */
static inline uint8_t *qdes_tlv_put(uint8_t *p, unsigned type, size_t size)
{
    qdes_put_be16(p, type);
    qdes_put_be16(p + 2, size);
    return p + QDES_TLV_HEADER_SIZE;
}

#endif
