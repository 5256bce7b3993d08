/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Segmentation: a superframe is cut into frames.
 *
 * What is the same in all frames is worked out once: the headers, with zeros
 * in the fields that change, and the sums over them.
 */

#include "qdes/segment.h"

#include <glib.h>
#include <netinet/in.h>
#include <string.h>

#include "qdes/bytes.h"
#include "qdes/csum.h"
#include "qdes/eth.h"

enum {
    IP_PACKET_MAX = 65535,      /* IPv4: with its header; IPv6: without */

    IP4_LENGTH = 2,             /* offsets from the IP header on */
    IP4_ID = 4,
    IP4_CSUM = 10,
    IP6_LENGTH = 4,
    IP6_HEADER_SIZE = 40,

    UDP_LENGTH = 4,             /* offsets from the UDP or TCP header on */
    TCP_SEQ = 4,
    TCP_FLAGS = 13,
    TCP_URGENT = 18,

    FIN = 0x01,
    SYN = 0x02,
    RST = 0x04,
    PSH = 0x08,
    URG = 0x20,
    CWR = 0x80,
};

/* A place in the pieces of a frame; may be at the end of a piece. */
typedef struct Place {
    const struct iovec *iov;
    size_t offset;
} Place;

/* Move over @size bytes, which must be there. */
static Place advance(Place place, size_t size)
{
    while (size > place.iov->iov_len - place.offset) {
        size -= place.iov->iov_len - place.offset;
        place.iov++;
        place.offset = 0;
    }
    place.offset += size;
    return place;
}

/*
 * The next piece of at most *@size bytes, which is taken off *@size; not
 * empty as long as that is not 0.
 */
static struct iovec next_piece(Place *place, size_t *size)
{
    struct iovec piece;

    while (place->offset == place->iov->iov_len) {
        place->iov++;
        place->offset = 0;
    }
    piece.iov_base = (uint8_t *)place->iov->iov_base + place->offset;
    piece.iov_len = MIN(place->iov->iov_len - place->offset, *size);
    place->offset += piece.iov_len;
    *size -= piece.iov_len;
    return piece;
}

/* Sum over pieces of any size: one at an odd offset has its bytes swapped. */
typedef struct Sum {
    uint64_t sum;
    bool odd;
} Sum;

static void sum_add(Sum *sum, const struct iovec *piece)
{
    uint16_t part;

    if (sum->odd) {
        part = qdes_csum_fold(qdes_csum_add(0, piece->iov_base,
                                            piece->iov_len));
        sum->sum += GUINT16_SWAP_LE_BE(part);
    } else {
        sum->sum = qdes_csum_add(sum->sum, piece->iov_base, piece->iov_len);
    }
    sum->odd ^= piece->iov_len & 1;
}

/* @sum and that of the @size bytes at @offset of the frame in @iov, folded. */
static uint16_t sum_range(uint16_t sum, const struct iovec *iov,
                          size_t offset, size_t size)
{
    Place place = { iov, 0 };
    Sum total = { sum, false };
    struct iovec piece;

    if (size > 0) {
        place = advance(place, offset);
    }
    while (size > 0) {
        piece = next_piece(&place, &size);
        sum_add(&total, &piece);
    }
    return qdes_csum_fold(total.sum);
}

static bool is_tcp(const QdesPacket *packet)
{
    return packet->proto == IPPROTO_TCP;
}

static uint8_t tcp_flags(const QdesSegmenter *s)
{
    return s->headers[s->packet.l4 + TCP_FLAGS];
}

static void set_payload(QdesSegmenter *s, const struct iovec *iov,
                        size_t headers_size, size_t payload_size)
{
    Place place = advance((Place) { iov, 0 }, headers_size);

    s->iov = place.iov;
    s->iov_offset = place.offset;
    s->headers_size = headers_size;
    s->left = payload_size;
}

/* One frame of @size bytes: the headers are good as they are. */
static QdesSegmentResult begin_plain(QdesSegmenter *s,
                                     const struct iovec *iov,
                                     size_t headers_size, size_t size,
                                     bool partial)
{
    set_payload(s, iov, headers_size, size - headers_size);
    s->plain = true;
    s->partial = partial;
    s->segment_size = 0;
    s->gso_size = s->left;
    s->frame_size = size;
    s->frames = 1;
    return QDES_SEGMENT_CUT;
}

/* Cut up to s->packet.end, @packets of @gso_size bytes into each frame. */
static QdesSegmentResult begin_cut(QdesSegmenter *s, const struct iovec *iov,
                                   size_t gso_size, unsigned packets,
                                   bool partial)
{
    const QdesPacket *packet = &s->packet;
    uint8_t *ip = s->headers + packet->l3;
    uint8_t *l4 = s->headers + packet->l4;

    set_payload(s, iov, packet->payload, packet->end - packet->payload);
    s->plain = false;
    s->partial = partial;
    s->segment_size = packets > 1 ? gso_size : 0;
    s->packets = packets;
    s->gso_size = MIN(gso_size * packets, s->left);
    s->frame_size = s->headers_size + s->gso_size;
    s->frames = s->left ? (s->left - 1) / s->gso_size + 1 : 1;

    if (is_tcp(packet)) {
        s->seq = qdes_get_be32(l4 + TCP_SEQ);
        s->flags = tcp_flags(s);
        s->urgent = qdes_get_be16(l4 + TCP_URGENT);
    }
    qdes_put_be16(s->headers + qdes_packet_csum_field(packet), 0);
    s->pseudo_sum = qdes_packet_pseudo_sum(packet, s->headers, 0);

    if (!packet->v6) {
        s->id = qdes_get_be16(ip + IP4_ID);
        qdes_put_be16(ip + IP4_LENGTH, 0);
        qdes_put_be16(ip + IP4_ID, 0);
        qdes_put_be16(ip + IP4_CSUM, 0);
        s->ip_sum = qdes_csum_add(0, ip, (ip[0] & 0xf) * 4);
    }
    return QDES_SEGMENT_CUT;
}

/* The largest payload that the length in an IP header can tell of. */
static size_t ip_room(const QdesPacket *packet)
{
    return IP_PACKET_MAX + (packet->v6 ? IP6_HEADER_SIZE : 0) -
           (packet->payload - packet->l3);
}

static bool is_gso_of(uint8_t gso, const QdesPacket *packet)
{
    switch (gso) {
    case QDES_GSO_TCP4:
        return is_tcp(packet) && !packet->v6;
    case QDES_GSO_TCP6:
        return is_tcp(packet) && packet->v6;
    case QDES_GSO_UDP:
        return !is_tcp(packet);
    default:
        return false;
    }
}

/* Is the checksum that @vnet asks for that of the packet that was found? */
static bool is_csum_of(const QdesVnet *vnet, const QdesPacket *packet)
{
    return vnet->csum_start == packet->l4 &&
           vnet->csum_start + vnet->csum_offset ==
           qdes_packet_csum_field(packet);
}

/* Packets of @gso_size bytes in each frame: as many as go in. */
static unsigned packets_in_frame(const QdesPacket *packet, size_t gso_size,
                                 size_t max_super)
{
    size_t room;

    if (max_super <= packet->payload) {
        return 1;
    }
    room = MIN(max_super - packet->payload, ip_room(packet)) / gso_size;
    return CLAMP(room, 1, QDES_SEGMENT_PACKETS);
}

static QdesSegmentResult begin_superframe(QdesSegmenter *s,
                                          const QdesVnet *vnet,
                                          const struct iovec *iov,
                                          size_t head_size, size_t size,
                                          size_t max_frame, bool partial,
                                          size_t max_super)
{
    const QdesPacket *packet = &s->packet;
    size_t gso_size = vnet->gso_size;
    unsigned packets = 1;
    size_t payload_size;

    if (gso_size == 0 ||
        !qdes_packet_find(&s->packet, s->headers, head_size, size, true) ||
        !is_gso_of(vnet->gso, packet) ||
        (vnet->needs_csum && !is_csum_of(vnet, packet))) {
        return QDES_SEGMENT_BAD;
    }
    payload_size = packet->end - packet->payload;
    if (is_tcp(packet) && tcp_flags(s) & (SYN | RST)) {
        if (payload_size > gso_size) {
            return QDES_SEGMENT_BAD;
        }
    } else if (is_tcp(packet)) {
        gso_size = MIN(gso_size, ip_room(packet));
        if (max_frame > packet->payload) {
            gso_size = MIN(gso_size, max_frame - packet->payload);
        }
    }
    if (MIN(gso_size, payload_size) > ip_room(packet)) {
        return QDES_SEGMENT_BAD;
    }
    if (payload_size > gso_size) {
        packets = packets_in_frame(packet, gso_size, max_super);
    }
    return begin_cut(s, iov, gso_size, packets, partial);
}

/* May the TCP segment that was found be cut, though its sender did not ask? */
static bool may_cut(const QdesSegmenter *s, const QdesVnet *vnet,
                    const struct iovec *iov)
{
    const QdesPacket *packet = &s->packet;
    const uint8_t *ip = s->headers + packet->l3;
    size_t l4_size = packet->end - packet->l4;
    uint16_t pseudo;

    if (!is_tcp(packet) || tcp_flags(s) & (SYN | RST | URG)) {
        return false;
    }
    if (!packet->v6 &&
        qdes_csum_fold(qdes_csum_add(0, ip, (ip[0] & 0xf) * 4)) != 0xffff) {
        return false;
    }
    if (vnet->needs_csum) {
        return is_csum_of(vnet, packet);
    }
    pseudo = qdes_packet_pseudo_sum(packet, s->headers, l4_size);
    return sum_range(pseudo, iov, packet->l4, l4_size) == 0xffff;
}

static QdesSegmentResult begin_frame(QdesSegmenter *s, const QdesVnet *vnet,
                                     const struct iovec *iov,
                                     size_t head_size, size_t size,
                                     size_t max_frame, bool partial)
{
    const QdesPacket *packet = &s->packet;
    size_t field = vnet->csum_start + vnet->csum_offset;
    size_t headers_size = field + 2;
    size_t end = size;
    bool found = qdes_packet_find(&s->packet, s->headers, head_size, size,
                                  false);

    if (found && packet->end > max_frame && max_frame > packet->payload &&
        may_cut(s, vnet, iov)) {
        return begin_cut(s, iov, max_frame - packet->payload, 1, partial);
    }
    if (!vnet->needs_csum) {
        return QDES_SEGMENT_WHOLE;
    }
    if (found && is_csum_of(vnet, packet)) {
        headers_size = packet->payload;
        end = packet->end;
        if (partial) {
            return begin_plain(s, iov, headers_size, size, true);
        }
    } else if (headers_size > QDES_HEADERS_MAX) {
        return QDES_SEGMENT_BAD;
    }
    qdes_put_be16(s->headers + field,
                  qdes_csum_finish(sum_range(0, iov, vnet->csum_start,
                                             end - vnet->csum_start)));
    return begin_plain(s, iov, headers_size, size, false);
}

QdesSegmentResult qdes_segment_begin(QdesSegmenter *s, const QdesVnet *vnet,
                                     const struct iovec *iov, int iovcnt,
                                     size_t size, size_t max_frame,
                                     bool partial, size_t max_super)
{
    size_t head_size;

    if (iovcnt < 1 ||
        (vnet->needs_csum &&
         (size_t)vnet->csum_start + vnet->csum_offset + 2 > size)) {
        return QDES_SEGMENT_BAD;
    }
    head_size = qdes_eth_head(s->headers, MIN(size, QDES_HEADERS_MAX), iov,
                              iovcnt);
    if (vnet->gso != QDES_GSO_NONE) {
        return begin_superframe(s, vnet, iov, head_size, size, max_frame,
                                partial, partial ? max_super : 0);
    }
    return begin_frame(s, vnet, iov, head_size, size, max_frame, partial);
}

bool qdes_segment_describe(QdesVnet *vnet, bool *v6, const uint8_t *frame,
                           size_t size, uint16_t segment_size)
{
    QdesPacket packet;
    size_t payload_size;
    uint8_t flags = 0;

    if (segment_size == 0 ||
        !qdes_packet_find(&packet, frame, size, size, false) ||
        packet.end != size) {
        return false;
    }
    payload_size = packet.end - packet.payload;
    if (is_tcp(&packet)) {
        flags = frame[packet.l4 + TCP_FLAGS];
    }
    *v6 = packet.v6;
    *vnet = (QdesVnet) {
        .needs_csum = true,
        .csum_start = packet.l4,
        .csum_offset = qdes_packet_csum_field(&packet) - packet.l4,
        .hdr_len = packet.payload,
    };
    if (payload_size <= segment_size) {
        return true;
    }
    if ((payload_size - 1) / segment_size >= QDES_SEGMENT_PACKETS ||
        flags & (SYN | RST)) {
        return false;
    }
    vnet->gso_size = segment_size;
    vnet->ecn = flags & CWR;
    vnet->gso = !is_tcp(&packet) ? QDES_GSO_UDP :
                packet.v6 ? QDES_GSO_TCP6 : QDES_GSO_TCP4;
    return true;
}

static void write_tcp(QdesSegmenter *s, uint8_t *tcp, size_t payload_size)
{
    uint8_t flags = s->flags;

    if (s->frames > 1) {
        flags &= ~(FIN | PSH);
    }
    qdes_put_be32(tcp + TCP_SEQ, s->seq);
    tcp[TCP_FLAGS] = flags;
    if (flags & URG) {
        qdes_put_be16(tcp + TCP_URGENT, s->urgent);
        if (s->urgent > payload_size) {
            s->urgent -= payload_size;
        } else {
            s->urgent = 0;
            s->flags &= ~URG;
        }
    }
    s->flags &= ~CWR;
    s->seq += payload_size;
}

static void write_ip(QdesSegmenter *s, uint8_t *ip, size_t ip_size)
{
    if (s->packet.v6) {
        qdes_put_be16(ip + IP6_LENGTH, ip_size - IP6_HEADER_SIZE);
        return;
    }
    qdes_put_be16(ip + IP4_LENGTH, ip_size);
    qdes_put_be16(ip + IP4_ID, s->id);
    qdes_put_be16(ip + IP4_CSUM, ~qdes_csum_fold(s->ip_sum + ip_size + s->id));
    s->id += s->packets;
}

static void write_headers(QdesSegmenter *s, uint8_t *headers,
                          const struct iovec *payload, int count,
                          size_t payload_size)
{
    const QdesPacket *packet = &s->packet;
    size_t l4_header_size = packet->payload - packet->l4;
    size_t l4_size = l4_header_size + payload_size;
    Sum sum = { s->pseudo_sum + l4_size, false };
    uint8_t *field = headers + qdes_packet_csum_field(packet);
    uint8_t *l4 = headers + packet->l4;
    int i;

    write_ip(s, headers + packet->l3, packet->l4 - packet->l3 + l4_size);
    if (is_tcp(packet)) {
        write_tcp(s, l4, payload_size);
    } else {
        qdes_put_be16(l4 + UDP_LENGTH, l4_size);
    }
    if (s->partial) {
        qdes_put_be16(field, qdes_csum_fold(sum.sum));
        return;
    }
    sum.sum = qdes_csum_add(sum.sum, l4, l4_header_size);
    for (i = 0; i < count; i++) {
        sum_add(&sum, &payload[i]);
    }
    qdes_put_be16(field, qdes_csum_finish(sum.sum));
}

size_t qdes_segment_next(QdesSegmenter *s, uint8_t *headers,
                         struct iovec *payload, int max, int *count)
{
    size_t payload_size = MIN(s->left, s->gso_size);
    size_t left = payload_size;
    Place place = { s->iov, s->iov_offset };

    g_assert(s->frames > 0);
    for (*count = 0; left > 0; (*count)++) {
        if (*count == max) {
            return 0;
        }
        payload[*count] = next_piece(&place, &left);
    }
    s->iov = place.iov;
    s->iov_offset = place.offset;
    s->left -= payload_size;

    memcpy(headers, s->headers, s->headers_size);
    if (!s->plain) {
        write_headers(s, headers, payload, *count, payload_size);
    }
    s->frames--;
    return s->headers_size + payload_size;
}
