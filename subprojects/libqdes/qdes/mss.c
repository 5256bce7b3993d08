/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* MSS clamp: TCP is told what the path carries. */

#include "qdes/mss.h"

#include <netinet/in.h>

#include "qdes/bytes.h"
#include "qdes/csum.h"
#include "qdes/packet.h"

#define TCP_HEADER_SIZE 20      /* bytes, without options */
#define TCP_FLAGS 13            /* offset in the header */
#define TCP_SYN 0x02
#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_MSS 2
#define OPTION_MSS_SIZE 4

/* The least MSS that every host has to accept, less some; RFC 9293, 3.7.1. */
#define MIN_MSS 256u

/* Write a new value; words that the checksum covers may begin at odd bytes. */
static void replace(uint8_t *frame, const QdesPacket *packet, size_t at,
                    uint16_t mss, bool partial)
{
    uint8_t *csum = frame + qdes_packet_csum_field(packet);
    uint16_t from = qdes_get_be16(frame + at);
    uint16_t to = mss;

    qdes_put_be16(frame + at, mss);
    if (partial) {
        return;                 /* the pseudo-header is the same */
    }
    if ((at - packet->l4) & 1) {
        from = GUINT16_SWAP_LE_BE(from);
        to = GUINT16_SWAP_LE_BE(to);
    }
    qdes_put_be16(csum, qdes_csum_update(qdes_get_be16(csum), from, to));
}

bool qdes_mss_clamp(uint8_t *frame, size_t size, size_t max_frame,
                    bool partial)
{
    QdesPacket packet;
    size_t fits;
    size_t at;

    if (!qdes_packet_find(&packet, frame, size, size, false) ||
        packet.proto != IPPROTO_TCP ||
        !(frame[packet.l4 + TCP_FLAGS] & TCP_SYN) ||
        max_frame < packet.l4 + TCP_HEADER_SIZE + MIN_MSS) {
        return false;
    }
    fits = max_frame - packet.l4 - TCP_HEADER_SIZE;
    for (at = packet.l4 + TCP_HEADER_SIZE; at + 1 < packet.payload;) {
        if (frame[at] == OPTION_END) {
            break;
        }
        if (frame[at] == OPTION_NOP) {
            at++;
            continue;
        }
        if (frame[at] == OPTION_MSS) {
            if (frame[at + 1] != OPTION_MSS_SIZE ||
                at + OPTION_MSS_SIZE > packet.payload ||
                qdes_get_be16(frame + at + 2) <= fits) {
                return false;
            }
            replace(frame, &packet, at + 2, fits, partial);
            return true;
        }
        if (frame[at + 1] < 2) {
            break;
        }
        at += frame[at + 1];
    }
    return false;
}
