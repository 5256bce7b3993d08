/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hashes: one for tables, one that the protocol has
 *
 * A table's is the finalizer of SplitMix64 (Steele, Lea, Flood: "Fast
 * Splittable Pseudorandom Number Generators", 2014).  A bijection, so no key
 * is lost; with a random seed xor'ed in first, a sender cannot aim at one
 * bucket.
 *
 * The protocol's is FNV-1a of 32 bits, which everybody knows beforehand.
 */

#ifndef QDES_HASH_H
#define QDES_HASH_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t qdes_hash_mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ULL;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

static inline uint32_t qdes_hash_fnv(const uint8_t *bytes, size_t n)
{
    uint32_t hash = 0x811c9dc5;

    while (n-- > 0) {
        hash = (hash ^ *bytes++) * 0x01000193;
    }
    return hash;
}

#endif
