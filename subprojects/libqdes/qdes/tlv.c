/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TLVs: read as the rules of a message say. */

#include "qdes/tlv.h"

/* Take what has @type and @size bytes at @value, if there is a rule for it. */
static bool take(QdesTlv *tlvs, const QdesTlvRule *rules, size_t n,
                 unsigned type, const uint8_t *value, size_t size)
{
    size_t i;

    for (i = 0; i < n && rules[i].type != type; i++) {
    }
    if (i == n) {
        return true;
    }
    if (tlvs[i].value || size < rules[i].min || size > rules[i].max ||
        (rules[i].unit && size % rules[i].unit)) {
        return false;
    }
    tlvs[i] = (QdesTlv) { value, size };
    return true;
}

bool qdes_tlv_read(QdesTlv *tlvs, const QdesTlvRule *rules, size_t n,
                   const uint8_t *data, size_t size)
{
    size_t length;
    size_t i;

    for (i = 0; i < n; i++) {
        tlvs[i] = (QdesTlv) { NULL, 0 };
    }
    while (size > 0) {
        if (size < QDES_TLV_HEADER_SIZE) {
            return false;
        }
        length = qdes_get_be16(data + 2);
        if (length > size - QDES_TLV_HEADER_SIZE ||
            !take(tlvs, rules, n, qdes_get_be16(data),
                  data + QDES_TLV_HEADER_SIZE, length)) {
            return false;
        }
        data += QDES_TLV_HEADER_SIZE + length;
        size -= QDES_TLV_HEADER_SIZE + length;
    }
    for (i = 0; i < n; i++) {
        if (rules[i].mandatory && !tlvs[i].value) {
            return false;
        }
    }
    return true;
}
