/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Probes: the loop guard's frames
 *
 * A probe leaves a port on the side where its guest or LAN is, never into the
 * fabric.  Who hears it there sits on the same LAN.  docs/protocol.md has the
 * layout.
 *
 * It does not name its sender's instance: it proves to know it, by HMACs (RFC
 * 2104) with the instance as the key.  Instances travel only in HELLO and BYE,
 * so what sits on the LAN alone can neither make a probe nor learn from one
 * how to.  The mark, an HMAC that is always the same, tells ports of the fabric
 * which of the instances they know to try; the proof is another one in each.
 *
 * Pure.
 */

#ifndef QDES_PROBE_H
#define QDES_PROBE_H

#include <string.h>

#include "qdes/eth.h"

#define QDES_PROBE_SIZE 60      /* bytes: Ethernet's shortest frame */
#define QDES_PROBE_PROVEN 32    /* the first of them, which the proof covers */

/* Where probes go: a group that bridges forward, and that is not to be used
 * for anything else. */
static const uint8_t qdes_probe_group[QDES_MAC_SIZE] = {
    0x03, 'Q', 'D', 'E', 'S', 0x01
};

/* Is a frame to @dst a probe, or something that pretends to be one? */
static inline bool qdes_probe_is(const uint8_t *dst)
{
    return qdes_mac_is_group(dst) &&
           memcmp(dst, qdes_probe_group, QDES_MAC_SIZE) == 0;
}

typedef struct QdesProbe {
    uint32_t netid;
    bool asks;                  /* who hears it shall send one at once */
    uint64_t nonce;             /* another one in each */

    /* Of one that was decoded. */
    uint64_t mark;              /* its source address */
    uint64_t proof;             /* that its sender knows its instance */
    uint8_t proven[QDES_PROBE_PROVEN];
} QdesProbe;

/* The address that probes of @instance come from, 48 bits as a number; never
 * 0.  It costs an HMAC. */
uint64_t qdes_probe_mark(uint64_t instance);

/* Write the probe of @instance. */
void qdes_probe_encode(uint8_t data[QDES_PROBE_SIZE], const QdesProbe *probe,
                       uint64_t instance);

/* Returns false when there is no probe in @data. */
bool qdes_probe_decode(QdesProbe *probe, const uint8_t *data, size_t size);

/* Was it made with @instance?  It costs an HMAC. */
bool qdes_probe_is_of(const QdesProbe *probe, uint64_t instance);

#endif
