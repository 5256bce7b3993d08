/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nonces: a keyed hash of endpoint and time, and the end of that time. */

#include "qdes/nonce.h"

#include "qdes/bytes.h"
#include "qdes/siphash.h"

#define UNIT_US 100
#define TIME_BITS 20
#define TIME_MASK ((UINT64_C(1) << TIME_BITS) - 1)

static uint64_t nonce_at(const uint64_t key[2], const QdesAddr *addr,
                         uint64_t units)
{
    const uint64_t words[] = {
        qdes_get_be64(addr->ip), qdes_get_be64(addr->ip + 8),
        (uint64_t)addr->port << 32 | addr->scope, units,
    };

    return (qdes_siphash(key, words, G_N_ELEMENTS(words)) & ~TIME_MASK) |
           (units & TIME_MASK);
}

uint64_t qdes_nonce_make(const uint64_t key[2], const QdesAddr *to,
                         int64_t now_us)
{
    return nonce_at(key, to, now_us / UNIT_US);
}

bool qdes_nonce_check(const uint64_t key[2], const QdesAddr *from,
                      int64_t now_us, uint64_t nonce, int64_t *age_us)
{
    uint64_t units = now_us / UNIT_US;
    uint64_t age = (units - nonce) & TIME_MASK;

    if (age > QDES_NONCE_MS * 1000 / UNIT_US || age > units ||
        nonce_at(key, from, units - age) != nonce) {
        return false;
    }
    *age_us = age * UNIT_US;
    return true;
}
