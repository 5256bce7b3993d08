/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Packets: where the headers of an Ethernet frame are. */

#include "qdes/packet.h"

#include <glib.h>
#include <netinet/in.h>
#include <string.h>

#include "qdes/bytes.h"
#include "qdes/csum.h"
#include "qdes/eth.h"

enum {
    ETHERTYPE_IP4 = 0x0800,
    ETHERTYPE_IP6 = 0x86dd,
    ETHERTYPE_CTAG = 0x8100,
    ETHERTYPE_STAG = 0x88a8,

    VLAN_TAG_SIZE = 4,
    VLAN_TAGS_MAX = 2,
    IP4_HEADER_MIN = 20,
    IP4_FRAGMENT = 0x3fff,      /* "more fragments", and the offset */
    IP4_OFFSET = 0x1fff,
    IP6_HEADER_SIZE = 40,
    IP6_EXTENSION_MIN = 8,
    IP6_OFFSET = 0xfff8,
    TCP_HEADER_MIN = 20,
    TCP_CSUM = 16,
    UDP_HEADER_SIZE = 8,
    UDP_CSUM = 6,
};

/*
 * The finders below set what they know in @packet and its @end.  @limit is
 * how far the headers may be read, never past the frame's end.
 */

static bool find_ip4(QdesPacket *packet, const uint8_t *head, size_t limit,
                     bool superframe)
{
    const uint8_t *ip = head + packet->l3;
    size_t at = packet->l3;
    size_t header_size, total;

    if (at + IP4_HEADER_MIN > limit || ip[0] >> 4 != 4) {
        return false;
    }
    header_size = (ip[0] & 0xf) * 4;
    if (header_size < IP4_HEADER_MIN ||
        at + header_size > limit ||
        (qdes_get_be16(ip + 6) & IP4_FRAGMENT)) {
        return false;
    }
    if (!superframe) {
        total = qdes_get_be16(ip + 2);
        if (total < header_size || at + total > packet->end) {
            return false;
        }
        packet->end = at + total;
    }
    packet->v6 = false;
    packet->proto = ip[9];
    packet->l4 = at + header_size;
    return true;
}

static bool find_ip6(QdesPacket *packet, const uint8_t *head, size_t limit,
                     bool superframe)
{
    const uint8_t *ip = head + packet->l3;
    size_t at = packet->l3 + IP6_HEADER_SIZE;
    size_t payload_size;
    uint8_t next;

    if (at > limit || ip[0] >> 4 != 6) {
        return false;
    }
    if (!superframe) {
        payload_size = qdes_get_be16(ip + 4);
        if (at + payload_size > packet->end) {
            return false;
        }
        packet->end = at + payload_size;
    }
    next = ip[6];
    while (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING ||
           next == IPPROTO_DSTOPTS) {
        if (at + IP6_EXTENSION_MIN > limit) {
            return false;
        }
        /* On its way to a waypoint, the pseudo-header is not of what is in
         * the IPv6 header, but of the final destination (RFC 8200, 8.1). */
        if (next == IPPROTO_ROUTING && head[at + 3] != 0) {
            return false;
        }
        next = head[at];
        at += (head[at + 1] + 1) * 8;
    }
    packet->v6 = true;
    packet->proto = next;
    packet->l4 = at;
    return true;
}

static bool find_l4(QdesPacket *packet, const uint8_t *head, size_t limit,
                    bool superframe)
{
    size_t at = packet->l4;
    size_t header_size;

    limit = MIN(limit, packet->end);
    switch (packet->proto) {
    case IPPROTO_TCP:
        if (at + TCP_HEADER_MIN > limit) {
            return false;
        }
        header_size = (head[at + 12] >> 4) * 4;
        if (header_size < TCP_HEADER_MIN) {
            return false;
        }
        break;
    case IPPROTO_UDP:
        header_size = UDP_HEADER_SIZE;
        if (at + header_size > limit ||
            (!superframe &&
             at + qdes_get_be16(head + at + 4) != packet->end)) {
            return false;
        }
        break;
    default:
        return false;
    }
    if (at + header_size > limit) {
        return false;
    }
    packet->payload = at + header_size;
    return true;
}

/* The EtherType behind VLAN tags, and where what follows it is; 0: there is
 * none. */
static uint16_t find_l3(const uint8_t *head, size_t limit, size_t *l3)
{
    size_t at = QDES_ETH_HEADER_SIZE;
    uint16_t type;
    int tags = 0;

    if (at > limit) {
        return 0;
    }
    type = qdes_get_be16(head + at - 2);
    while (type == ETHERTYPE_CTAG || type == ETHERTYPE_STAG) {
        if (++tags > VLAN_TAGS_MAX || at + VLAN_TAG_SIZE > limit) {
            return 0;
        }
        at += VLAN_TAG_SIZE;
        type = qdes_get_be16(head + at - 2);
    }
    *l3 = at;
    return type;
}

bool qdes_packet_ends(QdesAddr *from, QdesAddr *to, const uint8_t *head,
                      size_t size)
{
    const uint8_t *ip;
    uint8_t next;
    uint16_t type;
    size_t l3, l4;
    bool v4;

    type = find_l3(head, size, &l3);
    v4 = type == ETHERTYPE_IP4;
    if ((!v4 && type != ETHERTYPE_IP6) ||
        l3 + (v4 ? IP4_HEADER_MIN : IP6_HEADER_SIZE) > size) {
        return false;
    }
    ip = head + l3;
    if (v4) {
        next = qdes_get_be16(ip + 6) & IP4_OFFSET ? 0 : ip[9];
        l4 = l3 + (ip[0] & 0xf) * 4;
    } else {
        next = ip[6];
        l4 = l3 + IP6_HEADER_SIZE;
        if (next == IPPROTO_FRAGMENT && l4 + IP6_EXTENSION_MIN <= size &&
            !(qdes_get_be16(head + l4 + 2) & IP6_OFFSET)) {
            next = head[l4];
            l4 += IP6_EXTENSION_MIN;
        }
    }
    if (next != IPPROTO_UDP || l4 + 4 > size) {
        return false;
    }
    *from = qdes_addr_any(true, qdes_get_be16(head + l4));
    *to = qdes_addr_any(true, qdes_get_be16(head + l4 + 2));
    if (v4) {
        memcpy(from->ip + 12, ip + 12, 4);
        memcpy(to->ip + 12, ip + 16, 4);
    } else {
        memcpy(from->ip, ip + 8, 16);
        memcpy(to->ip, ip + 24, 16);
    }
    return true;
}

bool qdes_packet_find(QdesPacket *packet, const uint8_t *head,
                      size_t head_size, size_t size, bool superframe)
{
    size_t limit = MIN(MIN(head_size, size), QDES_HEADERS_MAX);
    uint16_t type;
    size_t l3;

    type = find_l3(head, limit, &l3);
    if (!type) {
        return false;
    }
    packet->l3 = l3;
    packet->end = size;
    switch (type) {
    case ETHERTYPE_IP4:
        return find_ip4(packet, head, limit, superframe) &&
               find_l4(packet, head, limit, superframe);
    case ETHERTYPE_IP6:
        return find_ip6(packet, head, limit, superframe) &&
               find_l4(packet, head, limit, superframe);
    default:
        return false;
    }
}

uint16_t qdes_packet_csum_field(const QdesPacket *packet)
{
    return packet->l4 + (packet->proto == IPPROTO_TCP ? TCP_CSUM : UDP_CSUM);
}

uint16_t qdes_packet_pseudo_sum(const QdesPacket *packet, const uint8_t *head,
                                size_t l4_size)
{
    const uint8_t *ip = head + packet->l3;
    uint64_t sum = (uint64_t)l4_size + packet->proto;

    sum = packet->v6 ? qdes_csum_add(sum, ip + 8, 32)
                     : qdes_csum_add(sum, ip + 12, 8);
    return qdes_csum_fold(sum);
}

bool qdes_packet_is_partial(const uint8_t *frame, size_t size)
{
    QdesPacket packet;

    return qdes_packet_find(&packet, frame, size, size, false) &&
           qdes_get_be16(frame + qdes_packet_csum_field(&packet)) ==
           qdes_packet_pseudo_sum(&packet, frame, packet.end - packet.l4);
}

bool qdes_packet_finish(uint8_t *frame, size_t size)
{
    QdesPacket packet;
    uint64_t sum;

    if (!qdes_packet_find(&packet, frame, size, size, false)) {
        return false;
    }
    sum = qdes_csum_add(0, frame + packet.l4, packet.end - packet.l4);
    qdes_put_be16(frame + qdes_packet_csum_field(&packet),
                  qdes_csum_finish(sum));
    return true;
}
