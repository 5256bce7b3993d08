/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Claims: MAC addresses of this side that peers claimed of late
 *
 * A peer that sends from a MAC address of this side claims it.  A guest that
 * moves away makes one claim and is not heard here again; one that moves here
 * may make one too, by frames of its old place that were read late.  Two
 * guests with one address claim it in turn, again and again.  So the number
 * of claims within the last seconds tells them apart.
 *
 * Limits: the QDES_CLAIMS addresses claimed last.  A plain value, to be
 * zeroed before use; times are milliseconds of the caller's clock.
 */

#ifndef QDES_CLAIMS_H
#define QDES_CLAIMS_H

#include "qdes/eth.h"

#define QDES_CLAIMS 16          /* addresses */
#define QDES_CLAIM_MS 10000     /* a claim counts for so long */

typedef struct QdesClaims {
    struct {
        uint8_t mac[QDES_MAC_SIZE];
        unsigned count;         /* 0: not in use */
        int64_t last;           /* ms */
    } address[QDES_CLAIMS];
    unsigned next;
} QdesClaims;

/* A peer claimed @mac. */
void qdes_claims_add(QdesClaims *claims, const uint8_t mac[QDES_MAC_SIZE],
                     int64_t now);

/* How often it was claimed, each time within QDES_CLAIM_MS of the next. */
unsigned qdes_claims_count(const QdesClaims *claims,
                           const uint8_t mac[QDES_MAC_SIZE], int64_t now);

#endif
