/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A seeded mix of 64 bits
 *
 * The finalizer of SplitMix64 (Steele, Lea, Flood: "Fast Splittable
 * Pseudorandom Number Generators", 2014).  A bijection, so no key is lost;
 * with a random seed xor'ed in first, a sender cannot aim at one bucket.
 */

#ifndef QDES_HASH_H
#define QDES_HASH_H

#include <stdint.h>

static inline uint64_t qdes_hash_mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ULL;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

#endif
