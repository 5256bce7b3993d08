/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SipHash-2-4. */

#include "qdes/siphash.h"

static uint64_t rotate(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static void round_of(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

static void absorb(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    round_of(v);
    round_of(v);
    v[0] ^= word;
}

uint64_t qdes_siphash(uint64_t k0, uint64_t k1, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint64_t v[4] = {
        k0 ^ 0x736f6d6570736575ULL, k1 ^ 0x646f72616e646f6dULL,
        k0 ^ 0x6c7967656e657261ULL, k1 ^ 0x7465646279746573ULL,
    };
    uint64_t word = 0;
    size_t i;

    for (i = 0; i < size; i++) {
        word |= (uint64_t)bytes[i] << 8 * (i % 8);
        if (i % 8 == 7) {
            absorb(v, word);
            word = 0;
        }
    }
    absorb(v, word | (uint64_t)size << 56);
    v[2] ^= 0xff;
    for (i = 0; i < 4; i++) {
        round_of(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
