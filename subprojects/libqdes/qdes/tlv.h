/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * TLVs: what control messages consist of
 *
 * A type and a length of 16 bits each, then the value; no padding between.
 *
 * Reading goes by rules, one for each type that means something in a message:
 * what docs/protocol.md demands of them is demanded here, of all messages
 * alike.  What has no rule is skipped.
 *
 * Reading never leaves the bytes that it is given, whatever is in them.
 * Writing is into buffers whose size the caller has proved to do.
 *
 * Pure.  Values that were read point into the caller's buffer.
 */

#ifndef QDES_TLV_H
#define QDES_TLV_H

#include <stdbool.h>
#include <stddef.h>

#include "qdes/bytes.h"

#define QDES_TLV_HEADER_SIZE 4  /* bytes */

typedef struct QdesTlvRule {
    uint16_t type;
    uint16_t min, max;          /* bytes of its value, ... */
    uint16_t unit;              /* ... and of what they are a multiple; 0: of
                                   nothing */
    bool mandatory;
} QdesTlvRule;

typedef struct QdesTlv {
    const uint8_t *value;       /* NULL: it is not there */
    size_t size;                /* bytes of its value */
} QdesTlv;

/*
 * Read the TLVs in the @size bytes at @data into @tlvs, one for each of the
 * @n @rules.  Returns false, and leaves them undefined, when one is cut, one
 * that has a rule breaks it or comes twice, or a mandatory one is missing.
 */
bool qdes_tlv_read(QdesTlv *tlvs, const QdesTlvRule *rules, size_t n,
                   const uint8_t *data, size_t size);

/* Write type and length at @p; returns where the value goes. */
static inline uint8_t *qdes_tlv_put(uint8_t *p, unsigned type, size_t size)
{
    qdes_put_be16(p, type);
    qdes_put_be16(p + 2, size);
    return p + QDES_TLV_HEADER_SIZE;
}

#endif
