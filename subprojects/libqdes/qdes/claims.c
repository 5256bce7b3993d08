/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Claims: a short ring that is searched from end to end. */

#include "qdes/claims.h"

#include <string.h>

/* The place of @mac, or QDES_CLAIMS. */
static unsigned find(const QdesClaims *claims, const uint8_t *mac, int64_t now)
{
    unsigned i;

    for (i = 0; i < QDES_CLAIMS; i++) {
        if (claims->address[i].count &&
            memcmp(claims->address[i].mac, mac, QDES_MAC_SIZE) == 0 &&
            now - claims->address[i].last < QDES_CLAIM_MS) {
            break;
        }
    }
    return i;
}

void qdes_claims_add(QdesClaims *claims, const uint8_t mac[QDES_MAC_SIZE],
                     int64_t now)
{
    unsigned i = find(claims, mac, now);

    if (i == QDES_CLAIMS) {
        i = claims->next;
        claims->next = (i + 1) % QDES_CLAIMS;
        memcpy(claims->address[i].mac, mac, QDES_MAC_SIZE);
        claims->address[i].count = 0;
    }
    claims->address[i].count++;
    claims->address[i].last = now;
}

unsigned qdes_claims_count(const QdesClaims *claims,
                           const uint8_t mac[QDES_MAC_SIZE], int64_t now)
{
    unsigned i = find(claims, mac, now);

    return i == QDES_CLAIMS ? 0 : claims->address[i].count;
}
