/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Nonces that need no memory
 *
 * The nonce of an ECHO is made of the time and a keyed hash (HMAC-SHA-256, by
 * GnuTLS) of that time and of the endpoint that it is sent to.  Whoever
 * returns it has received it there, and when it was sent can be read from it:
 * there is no table of ECHOs that wait for their replies, which somebody could
 * fill.
 *
 *   44 bits of hash | 20 bits of time, in units of 100 us
 *
 * So a guess succeeds once in 2^44.  A nonce holds for QDES_NONCE_MS.
 *
 * Pure.
 */

#ifndef QDES_NONCE_H
#define QDES_NONCE_H

#include "qdes/addr.h"

#define QDES_NONCE_MS 60000     /* how long a nonce can be returned */

/* A nonce for @to.  @now_us is the caller's monotonic clock. */
uint64_t qdes_nonce_make(const uint64_t key[2], const QdesAddr *to,
                         int64_t now_us);

/*
 * Was @nonce made for @from, of late?  Then *@age_us is how long ago, to
 * 100 us.
 */
bool qdes_nonce_check(const uint64_t key[2], const QdesAddr *from,
                      int64_t now_us, uint64_t nonce, int64_t *age_us);

#endif
