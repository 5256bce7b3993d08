/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Port security: which MAC addresses are on this side of the port
 *
 * A set of addresses that a frame from the port may have as its source: those
 * that the user listed, and beside them those that were heard first, up to a
 * number.  What is listed is on this side whatever is heard: nothing is
 * learned of it from a peer, and a peer's frame from it is a spoof, or of a
 * second station with this address.  What was heard may move to a peer, as
 * without port security; it keeps its place here until it was silent for the
 * ageing time, or all that was heard is forgotten.
 *
 * The table has a memory of its own, beside the FDB's: that may be off, may
 * evict what is on this side, and follows a peer that claims an address.
 *
 * Limits: QDES_PORTSEC_LISTED listed addresses, a limit of up to
 * QDES_PORTSEC_MAX.  All memory is taken at creation: 8 bytes for each listed
 * address, some 110 for each other one.  To check an address takes constant
 * time, and a few steps for those that are listed.
 *
 * Pure: times are milliseconds of the caller's monotonic clock.
 */

#ifndef QDES_PORTSEC_H
#define QDES_PORTSEC_H

#include "qdes/eth.h"

#define QDES_PORTSEC_LISTED 1024 /* addresses */
#define QDES_PORTSEC_MAX 65536  /* addresses, listed or heard */

typedef struct QdesPortsec QdesPortsec;

typedef enum QdesPortsecVerdict {
    QDES_PORTSEC_VIOLATION,     /* not one of this side, and no place left */
    QDES_PORTSEC_ALLOWED,
    QDES_PORTSEC_BACK,          /* allowed, listed, and heard here for the
                                   first time after a peer claimed it */
} QdesPortsecVerdict;

typedef enum QdesPortsecClaim {
    QDES_PORTSEC_FREE,          /* not listed: a peer may have it */
    QDES_PORTSEC_SPOOFED,       /* listed */
    QDES_PORTSEC_CONTESTED,     /* the same, and heard here since the last
                                   claim */
} QdesPortsecClaim;

/*
 * Of the @n addresses in @listed, each of which is fit as a source, and of @max
 * in all; @max 0: only those.
 */
QdesPortsec *qdes_portsec_new(const uint8_t (*listed)[QDES_MAC_SIZE],
                              unsigned n, uint32_t max, int64_t ageing_ms,
                              uint64_t seed);
void qdes_portsec_free(QdesPortsec *portsec);

/* A frame from the port has @mac as its source. */
QdesPortsecVerdict qdes_portsec_check(QdesPortsec *portsec,
                                      const uint8_t mac[QDES_MAC_SIZE],
                                      int64_t now);

/* A frame from a peer has @mac as its source. */
QdesPortsecClaim qdes_portsec_claim(QdesPortsec *portsec,
                                    const uint8_t mac[QDES_MAC_SIZE]);

bool qdes_portsec_lists(const QdesPortsec *portsec,
                        const uint8_t mac[QDES_MAC_SIZE]);

/* Forget @mac, if it was heard; NULL: all that was. */
void qdes_portsec_forget(QdesPortsec *portsec,
                         const uint8_t mac[QDES_MAC_SIZE]);

/* How many addresses there may be, and how many there are: those listed, and
 * those heard within the ageing time. */
uint32_t qdes_portsec_max(const QdesPortsec *portsec);
uint32_t qdes_portsec_size(const QdesPortsec *portsec, int64_t now);

/* The listed addresses, each once, in their order. */
unsigned qdes_portsec_n_listed(const QdesPortsec *portsec);
const uint8_t *qdes_portsec_listed(const QdesPortsec *portsec, unsigned i);

#endif
