/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Nonces: a keyed hash of endpoint and time, and the end of that time. */

#include "qdes/nonce.h"

#include <string.h>
#include <gnutls/crypto.h>

#include "qdes/bytes.h"

#define UNIT_US 100
#define TIME_BITS 20
#define TIME_MASK ((UINT64_C(1) << TIME_BITS) - 1)

static uint64_t nonce_at(const uint64_t key[2], const QdesAddr *addr,
                         uint64_t units)
{
    uint8_t message[16 + 2 + 4 + 8];
    uint8_t secret[16];
    uint8_t digest[32];
    int ret;

    qdes_put_be64(secret, key[0]);
    qdes_put_be64(secret + 8, key[1]);
    memcpy(message, addr->ip, 16);
    qdes_put_be16(message + 16, addr->port);
    qdes_put_be32(message + 18, addr->scope);
    qdes_put_be64(message + 22, units);
    ret = gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, sizeof(secret), message,
                           sizeof(message), digest);
    /* Only a library without SHA-256 fails, and GnuTLS refuses to start so. */
    g_assert(ret == 0);
    return (qdes_get_be64(digest) & ~TIME_MASK) | (units & TIME_MASK);
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
