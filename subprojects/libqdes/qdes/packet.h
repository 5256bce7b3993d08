/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Packets: where the headers of an Ethernet frame are
 *
 * Finds TCP and UDP in a frame: behind up to two VLAN tags (802.1Q, 802.1ad),
 * an IPv4 header with options, or an IPv6 header with hop-by-hop, routing and
 * destination options.  Whatever is not wholly understood (fragments, other
 * protocols, source routes not yet at their end, lengths that contradict each
 * other, headers longer than QDES_HEADERS_MAX) is no packet, and is to be
 * carried as it is.
 *
 * Here are also the sums (RFC 1071) over the pseudo-headers (RFC 9293, RFC
 * 768, RFC 8200) of what was found.
 *
 * Pure; never reads past what it is given.
 */

#ifndef QDES_PACKET_H
#define QDES_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qdes/addr.h"

#define QDES_HEADERS_MAX 256    /* bytes from the frame's first to payload */

/* Offsets are from the first byte of the frame. */
typedef struct QdesPacket {
    bool v6;
    uint8_t proto;              /* IPPROTO_TCP or IPPROTO_UDP */
    uint16_t l3;                /* the IP header */
    uint16_t l4;                /* the TCP or UDP header */
    uint16_t payload;           /* what follows that */
    uint32_t end;               /* of the payload; the rest is padding */
} QdesPacket;

/*
 * Look into a frame of @size bytes, of which the first @head_size are at
 * @head: all of them, or at least QDES_HEADERS_MAX.  With @superframe, the
 * lengths in the IP and UDP headers are not looked at (they need not be
 * those of the whole), and the payload ends with the frame.
 */
bool qdes_packet_find(QdesPacket *packet, const uint8_t *head,
                      size_t head_size, size_t size, bool superframe);

#define QDES_ENDS_MAX 96        /* bytes of a frame that tell its ends */

/*
 * From where to where goes the UDP datagram that a frame brings, or the first
 * fragment of?  Its first bytes are at @head: all of them, or QDES_ENDS_MAX.
 * Returns false where it brings none, or is cut short.
 */
bool qdes_packet_ends(QdesAddr *from, QdesAddr *to, const uint8_t *head,
                      size_t size);

/* Offset of the checksum field in the frame. */
uint16_t qdes_packet_csum_field(const QdesPacket *packet);

/*
 * The sum of the pseudo-header for @l4_size bytes of TCP or UDP, header
 * included: folded, not inverted, as it stands in an unfinished checksum
 * field.
 */
uint16_t qdes_packet_pseudo_sum(const QdesPacket *packet, const uint8_t *head,
                                size_t l4_size);

/*
 * Is the checksum of a whole frame of @size bytes, TCP or UDP, the sum of the
 * pseudo-header?  Then it is unfinished, or so seldom happens to be right that
 * to take it for unfinished does no harm: finished anew, it is the same.
 */
bool qdes_packet_is_partial(const uint8_t *frame, size_t size);

/*
 * Finish the checksum of a whole frame of @size bytes, of which the field
 * holds the sum of the pseudo-header.  False, and nothing is written: it is
 * neither TCP nor UDP.
 */
bool qdes_packet_finish(uint8_t *frame, size_t size);

#endif
