/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets of each kind that is merged, for the tests of coalescing. */

#ifndef QDES_COALESCE_KINDS_H
#define QDES_COALESCE_KINDS_H

#include "unit.h"
#include "packets.h"

#include "qdes/coalesce.h"

static const QdesCoalesceFeatures all_features = {
    true, true, true, true, true,
};

typedef enum Kind { TCP4, UDP4, TCP6, UDP6, KINDS } Kind;

static inline Packet packet_of(Kind kind)
{
    Packet p = { PACKET_DEFAULT };

    p.v6 = kind >= TCP6;
    p.udp = kind == UDP4 || kind == UDP6;
    return p;
}

/* The one that follows. */
static inline Packet packet_after(const Packet *p)
{
    Packet next = *p;

    next.seq += p->payload;
    next.id++;
    return next;
}

static inline bool is_partial(const Packet *p)
{
    return p->csum == PACKET_PARTIAL || p->csum == PACKET_WRONG_PARTIAL;
}

/* The source port with which the checksum of a default packet is 0. */
static inline uint16_t zero_sum_port(Kind kind)
{
    Packet p = packet_of(kind);
    uint8_t frame[PACKET_MAX];
    size_t l4 = 14 + (p.v6 ? 40 : 20);

    for (p.port = 1; p.port != 0; p.port++) {
        packet_write(&p, frame);
        if (naive_get16(frame + l4 + (p.udp ? 6 : 16)) == 0xffff) {
            break;
        }
    }
    ck_assert_uint_ne(p.port, 0);
    return p.port;
}

/* Bytes of its headers, with two VLAN tags. */
static inline size_t tagged_headers(const Packet *p)
{
    return 14 + 8 + (p->v6 ? 40 : 20) + (p->udp ? 8 : 20);
}

#endif
