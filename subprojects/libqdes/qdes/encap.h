/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Encapsulations: all in which one differs from another
 *
 *   qdes    our own (docs/protocol.md)
 *   vxlan   RFC 7348: kernels, switches, EVPN; all peers have one UDP port
 *   vxvde   the same header, as VDE's plug of that name has it: each peer is
 *           where its datagrams come from
 *
 * Each has a header of QDES_WIRE_HEADER_SIZE bytes: a first word that tells
 * that it is one, a second one with the network ID.  VXLAN's has room for
 * nothing else: no control messages, so that a peer is known by its frames
 * alone; no unfinished checksums, no superframes, no sealing.
 *
 * Static, and pure.
 */

#ifndef QDES_ENCAP_H
#define QDES_ENCAP_H

#include "qdes/wire.h"

typedef struct QdesEncapsulation {
    const char *name;           /* as the user writes it */
    const char *title;          /* as texts have it */
    const char *group;          /* the default for mcast= */
    uint16_t port;
    uint32_t netid;             /* the default */
    uint32_t max_netid;

    /*
     * There are HELLO and BYE, and all that peers agree on by them; without,
     * who sends valid frames is a peer.
     */
    bool control;

    /*
     * Every peer takes frames at the fabric's UDP port, whatever port it
     * sends from; so does this one.
     */
    bool one_port;

    /*
     * Does a checksum that is the sum of the pseudo-header lack the rest?
     * Kernels leave it to the network card, and where there is none up to the
     * peer (between network namespaces) it comes so, and nothing tells.
     */
    bool guess_partial;

    /* For filters: a sound header's first word has @head in @head_mask, its
     * second one @netid_shift bits behind the network ID. */
    uint32_t head_mask;
    uint32_t head;
    uint8_t netid_shift;

    /* Write the header of a DATA datagram; @flags are QDES_WIRE_FLAG_*, 0
     * where peers have not agreed on more. */
    void (*encode)(uint8_t data[QDES_WIRE_HEADER_SIZE], uint8_t flags,
                   uint32_t netid);

    /* As qdes_wire_decode(). */
    QdesWireResult (*decode)(QdesWireHeader *header, const uint8_t *data,
                             size_t size);
} QdesEncapsulation;

extern const QdesEncapsulation qdes_encap_qdes;
extern const QdesEncapsulation qdes_encap_vxlan;
extern const QdesEncapsulation qdes_encap_vxvde;

/* The one of this name, or NULL. */
const QdesEncapsulation *qdes_encap_find(const char *name);

#endif
