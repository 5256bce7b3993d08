/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SipHash-2-4, a keyed hash for short messages
 *
 * Jean-Philippe Aumasson and Daniel J. Bernstein, "SipHash: a fast short-input
 * PRF", 2012.  Unlike hash.h's mix, its results can be shown to strangers:
 * nobody finds the key from them, nor the result for another message.
 *
 * Pure.  The message is given in words of 64 bits, so that its bytes mean the
 * same on every host.
 */

#ifndef QDES_SIPHASH_H
#define QDES_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

static inline void qdes_sip_rounds(uint64_t v[4], int rounds)
{
    while (rounds-- > 0) {
        v[0] += v[1];
        v[1] = (v[1] << 13 | v[1] >> 51) ^ v[0];
        v[0] = v[0] << 32 | v[0] >> 32;
        v[2] += v[3];
        v[3] = (v[3] << 16 | v[3] >> 48) ^ v[2];
        v[0] += v[3];
        v[3] = (v[3] << 21 | v[3] >> 43) ^ v[0];
        v[2] += v[1];
        v[1] = (v[1] << 17 | v[1] >> 47) ^ v[2];
        v[2] = v[2] << 32 | v[2] >> 32;
    }
}

/* The hash of @n words; a message of whole words, 8 * @n bytes. */
static inline uint64_t qdes_siphash(const uint64_t key[2],
                                    const uint64_t *words, size_t n)
{
    uint64_t v[4] = {
        key[0] ^ 0x736f6d6570736575ULL, key[1] ^ 0x646f72616e646f6dULL,
        key[0] ^ 0x6c7967656e657261ULL, key[1] ^ 0x7465646279746573ULL,
    };
    uint64_t last = (uint64_t)n << 59;
    size_t i;

    for (i = 0; i <= n; i++) {
        uint64_t word = i < n ? words[i] : last;

        v[3] ^= word;
        qdes_sip_rounds(v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    qdes_sip_rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
