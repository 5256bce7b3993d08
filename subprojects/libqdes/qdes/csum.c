/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The Internet checksum (RFC 1071). */

#include "qdes/csum.h"

#include <glib.h>
#include <string.h>

static inline uint64_t load64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* 2^32 is 1 modulo 65535, so the halves of a word may be summed apart. */
static inline uint64_t low(uint64_t v)
{
    return v & UINT32_MAX;
}

static inline uint64_t high(uint64_t v)
{
    return v >> 32;
}

/*
 * Words are summed in the host's order, eight bytes at a time; as the carries
 * go round, swapping the bytes of the sum at the end does what swapping them
 * in each word would have done (RFC 1071, 2.B).  Four sums that do not wait
 * for each other keep the adders busy; none can overflow below 32 GiB.
 */
uint64_t qdes_csum_add(uint64_t sum, const void *data, size_t size)
{
    const uint8_t *p = data;
    uint64_t a = 0, b = 0, c = 0, d = 0;
    uint64_t v;
    uint32_t word32;
    uint16_t word = 0;

    for (; size >= 64; size -= 64, p += 64) {
        v = load64(p);
        a += low(v);
        b += high(v);
        v = load64(p + 8);
        c += low(v);
        d += high(v);
        v = load64(p + 16);
        a += low(v);
        b += high(v);
        v = load64(p + 24);
        c += low(v);
        d += high(v);
        v = load64(p + 32);
        a += low(v);
        b += high(v);
        v = load64(p + 40);
        c += low(v);
        d += high(v);
        v = load64(p + 48);
        a += low(v);
        b += high(v);
        v = load64(p + 56);
        c += low(v);
        d += high(v);
    }
    for (; size >= 8; size -= 8, p += 8) {
        v = load64(p);
        a += low(v);
        b += high(v);
    }
    if (size & 4) {
        memcpy(&word32, p, sizeof(word32));
        a += word32;
        p += 4;
    }
    if (size & 2) {
        memcpy(&word, p, sizeof(word));
        b += word;
        p += 2;
    }
    if (size & 1) {
        word = 0;
        memcpy(&word, p, 1);
        c += word;
    }
    word = qdes_csum_fold(a + b + c + d);
    return sum + GUINT16_FROM_BE(word);
}

uint16_t qdes_csum_fold(uint64_t sum)
{
    sum = low(sum) + high(sum);
    sum = low(sum) + high(sum);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

uint16_t qdes_csum_finish(uint64_t sum)
{
    uint16_t field = ~qdes_csum_fold(sum);

    return field ? field : 0xffff;
}

uint16_t qdes_csum_update(uint16_t field, uint16_t from, uint16_t to)
{
    return ~qdes_csum_fold((uint64_t)(uint16_t)~field + (uint16_t)~from + to);
}
