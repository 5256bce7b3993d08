/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames for tests, and what the library does to frames done again, naively
 *
 * A Packet says what is in a TCP or UDP frame; packet_write() writes it.  The
 * bytes of the payload follow from the sequence number, so that each byte of
 * a stream is where it belongs or is noticed.
 *
 * The naive functions share no code with the library, and are as simple as
 * possible.
 */

#ifndef QDES_PACKETS_H
#define QDES_PACKETS_H

#include <glib.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "qdes/vnet.h"

#define PACKET_MAX 70000        /* bytes: more than any frame has */

#define PACKET_FIN 0x01
#define PACKET_SYN 0x02
#define PACKET_RST 0x04
#define PACKET_PSH 0x08
#define PACKET_ACK 0x10
#define PACKET_URG 0x20
#define PACKET_ECE 0x40
#define PACKET_CWR 0x80

typedef enum PacketCsum {
    PACKET_FULL,
    PACKET_PARTIAL,             /* the field has the pseudo-header's sum */
    PACKET_WRONG,               /* finished, but one too much */
    PACKET_WRONG_PARTIAL,
    PACKET_NO_CSUM,             /* the field is 0 */
} PacketCsum;

typedef struct Packet {
    uint8_t mac;                /* last byte of both MAC addresses */
    unsigned tags;              /* VLAN tags, 0 to 2 */
    uint16_t vid;
    bool v6;
    uint8_t tos;                /* or traffic class */
    uint32_t label;             /* IPv6 flow label */
    uint8_t ttl;
    uint16_t id;
    uint16_t frag;              /* flags and offset; 0x4000 is DF */
    unsigned ip_options;        /* bytes, a multiple of 4, all zero */
    unsigned ext;               /* bytes of hop-by-hop options, of 8 */
    bool wrong_ip_sum;
    uint8_t host;               /* last byte of the source's address */
    bool udp;
    uint16_t port;              /* the source's */
    uint32_t seq;               /* UDP: of the payload's first byte */
    uint32_t ack;
    uint8_t flags;
    uint8_t reserved;           /* the four bits behind the header's size */
    uint16_t window;
    uint16_t urgent;
    uint8_t options[40];        /* TCP */
    unsigned options_size;      /* a multiple of 4 */
    size_t payload;             /* bytes */
    size_t padding;             /* bytes of 0xee behind */
    PacketCsum csum;
} Packet;

/* A TCP segment in the middle of a stream. */
#define PACKET_DEFAULT \
    .ttl = 64, .frag = 0x4000, .host = 1, .port = 1000, .seq = 1000, \
    .ack = 77, .flags = PACKET_ACK, .window = 500, .payload = 100

static inline void naive_put16(uint8_t *p, unsigned v)
{
    p[0] = v >> 8;
    p[1] = v;
}

static inline void naive_put32(uint8_t *p, uint32_t v)
{
    naive_put16(p, v >> 16);
    naive_put16(p + 2, v & 0xffff);
}

static inline unsigned naive_get16(const uint8_t *p)
{
    return p[0] << 8 | p[1];
}

static inline uint32_t naive_get32(const uint8_t *p)
{
    return (uint32_t)naive_get16(p) << 16 | naive_get16(p + 2);
}

/* Not folded, not inverted. */
static inline uint64_t naive_sum(const uint8_t *p, size_t size)
{
    uint64_t sum = 0;
    size_t i;

    for (i = 0; i < size; i++) {
        sum += i % 2 ? p[i] : p[i] << 8;
    }
    return sum;
}

static inline uint16_t naive_fold(uint64_t sum)
{
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

/* @ip is an IP header without routing header. */
static inline uint16_t naive_pseudo(const uint8_t *ip, uint8_t proto,
                                    size_t l4_size)
{
    bool v6 = ip[0] >> 4 == 6;

    return naive_fold(naive_sum(v6 ? ip + 8 : ip + 12, v6 ? 32 : 8) + proto +
                      (l4_size >> 16) + (l4_size & 0xffff));
}

/* The checksum of what is at @l4, where the field does not count. */
static inline uint16_t naive_csum(const uint8_t *ip, uint8_t *l4,
                                  uint8_t proto, size_t l4_size)
{
    uint8_t *field = l4 + (proto == IPPROTO_UDP ? 6 : 16);
    uint8_t saved[2];
    uint16_t sum;

    memcpy(saved, field, 2);
    memset(field, 0, 2);
    sum = ~naive_fold(naive_pseudo(ip, proto, l4_size) +
                      naive_sum(l4, l4_size));
    memcpy(field, saved, 2);
    return sum ? sum : 0xffff;
}

static inline uint8_t packet_byte(uint32_t seq)
{
    return (seq * 2654435761U) >> 24;
}

/* Where the IP header of a frame with up to two VLAN tags is. */
static inline size_t naive_l3(const uint8_t *frame)
{
    size_t l3 = 14;

    while (naive_get16(frame + l3 - 2) == 0x8100 ||
           naive_get16(frame + l3 - 2) == 0x88a8) {
        l3 += 4;
    }
    return l3;
}

/* Write the frame to @buf, which has room for it.  Returns its size. */
static inline size_t packet_write(const Packet *p, uint8_t *buf)
{
    size_t l4_size = (p->udp ? 8 : 20 + p->options_size) + p->payload;
    uint8_t proto = p->udp ? IPPROTO_UDP : IPPROTO_TCP;
    uint8_t *ip, *l4, *field;
    size_t pos = 12;
    size_t i;

    memset(buf, 0, 14 + 8 + 60 + 60);
    memcpy(buf, "\x52\x54\x00\x00\x01", 5);
    memcpy(buf + 6, "\x52\x54\x00\x00\x02", 5);
    buf[5] = buf[11] = p->mac;
    for (i = 0; i < p->tags; i++) {
        naive_put16(buf + pos, i + 1 < p->tags ? 0x88a8 : 0x8100);
        naive_put16(buf + pos + 2, p->vid + i);
        pos += 4;
    }
    naive_put16(buf + pos, p->v6 ? 0x86dd : 0x0800);
    ip = buf + pos + 2;
    if (p->v6) {
        naive_put32(ip, 6U << 28 | (uint32_t)p->tos << 20 | p->label);
        naive_put16(ip + 4, p->ext + l4_size);
        ip[6] = p->ext ? 0 : proto;
        ip[7] = p->ttl;
        ip[8] = ip[24] = 0xfd;
        ip[23] = p->host;
        ip[39] = 99;
        l4 = ip + 40 + p->ext;
        if (p->ext) {
            /* Padding options of up to 8 bytes. */
            ip[40] = proto;
            ip[41] = p->ext / 8 - 1;
            for (i = 2; i < p->ext; i += i == 2 ? 6 : 8) {
                ip[40 + i] = 1;
                ip[40 + i + 1] = i == 2 ? 4 : 6;
            }
        }
    } else {
        ip[0] = 0x45 + p->ip_options / 4;
        ip[1] = p->tos;
        naive_put16(ip + 2, 20 + p->ip_options + l4_size);
        naive_put16(ip + 4, p->id);
        naive_put16(ip + 6, p->frag);
        ip[8] = p->ttl;
        ip[9] = proto;
        ip[12] = ip[16] = 10;
        ip[15] = p->host;
        ip[19] = 99;
        l4 = ip + 20 + p->ip_options;
        naive_put16(ip + 10, (uint16_t)~naive_fold(naive_sum(ip, l4 - ip)));
        ip[10] ^= p->wrong_ip_sum;
    }

    naive_put16(l4, p->port);
    naive_put16(l4 + 2, 5001);
    if (p->udp) {
        naive_put16(l4 + 4, l4_size);
        field = l4 + 6;
    } else {
        naive_put32(l4 + 4, p->seq);
        naive_put32(l4 + 8, p->ack);
        l4[12] = (5 + p->options_size / 4) << 4 | p->reserved;
        l4[13] = p->flags;
        naive_put16(l4 + 14, p->window);
        naive_put16(l4 + 18, p->urgent);
        memcpy(l4 + 20, p->options, p->options_size);
        field = l4 + 16;
    }
    for (i = 0; i < p->payload; i++) {
        l4[l4_size - p->payload + i] = packet_byte(p->seq + i);
    }
    switch (p->csum) {
    case PACKET_FULL:
    case PACKET_WRONG:
        naive_put16(field, naive_csum(ip, l4, proto, l4_size));
        break;
    case PACKET_PARTIAL:
    case PACKET_WRONG_PARTIAL:
        naive_put16(field, naive_pseudo(ip, proto, l4_size));
        break;
    case PACKET_NO_CSUM:
        naive_put16(field, 0);
        break;
    }
    field[1] ^= p->csum == PACKET_WRONG || p->csum == PACKET_WRONG_PARTIAL;
    memset(l4 + l4_size, 0xee, p->padding);
    return l4 + l4_size + p->padding - buf;
}

/*
 * Cut a superframe of @size bytes into frames with finished checksums, joined
 * in @out: their sizes in bytes in @sizes.  Returns their number.
 */
static inline unsigned naive_segment(const uint8_t *frame, size_t size,
                                     const QdesVnet *vnet, uint8_t *out,
                                     size_t *sizes)
{
    size_t l3 = naive_l3(frame);
    size_t l4 = vnet->csum_start;
    bool v6 = frame[l3] >> 4 == 6;
    bool udp = vnet->gso == QDES_GSO_UDP;
    uint8_t proto = udp ? IPPROTO_UDP : IPPROTO_TCP;
    size_t head = l4 + (udp ? 8 : frame[l4 + 12] / 16 * 4);
    size_t left = size - head;
    size_t done = 0;
    unsigned n = 0;
    size_t part;

    while (left > 0) {
        part = MIN(left, vnet->gso_size);
        memcpy(out, frame, head);
        memcpy(out + head, frame + head + done, part);
        if (v6) {
            naive_put16(out + l3 + 4, head - l3 - 40 + part);
        } else {
            naive_put16(out + l3 + 2, head - l3 + part);
            naive_put16(out + l3 + 4, naive_get16(frame + l3 + 4) + n);
            naive_put16(out + l3 + 10, 0);
            naive_put16(out + l3 + 10,
                        (uint16_t)~naive_fold(naive_sum(out + l3, l4 - l3)));
        }
        if (udp) {
            naive_put16(out + l4 + 4, 8 + part);
        } else {
            naive_put32(out + l4 + 4, naive_get32(frame + l4 + 4) + done);
            if (n > 0) {
                out[l4 + 13] &= ~PACKET_CWR;
            }
            if (part < left) {
                out[l4 + 13] &= ~(PACKET_FIN | PACKET_PSH);
            }
        }
        naive_put16(out + l4 + (udp ? 6 : 16),
                    naive_csum(out + l3, out + l4, proto, head - l4 + part));
        sizes[n++] = head + part;
        out += head + part;
        done += part;
        left -= part;
    }
    return n;
}

/* Anything but its payload: numbers that wrap are drawn near their end, too. */
static inline void packet_random(Packet *p, GRand *rand)
{
    size_t i;

    *p = (Packet) { PACKET_DEFAULT, .csum = PACKET_PARTIAL };
    p->tags = g_rand_int_range(rand, 0, 3);
    p->vid = g_rand_int_range(rand, 0, 4000);
    p->v6 = g_rand_boolean(rand);
    p->udp = g_rand_boolean(rand);
    p->tos = g_rand_int(rand);
    p->label = g_rand_int_range(rand, 0, 1 << 20);
    p->id = g_rand_int(rand);
    if (g_rand_boolean(rand)) {
        p->id |= 0xfff0;
    }
    p->frag = g_rand_boolean(rand) ? 0x4000 : 0;
    p->ip_options = 4 * g_rand_int_range(rand, 0, 11);
    p->ext = 8 * g_rand_int_range(rand, 0, 9);
    p->seq = g_rand_boolean(rand) ? 0xffffff00 : g_rand_int(rand);
    p->ack = g_rand_int(rand);
    p->flags = (g_rand_int(rand) & (PACKET_FIN | PACKET_PSH | PACKET_ECE |
                                    PACKET_CWR)) | PACKET_ACK;
    p->reserved = g_rand_int_range(rand, 0, 16);
    p->window = g_rand_int(rand);
    p->options_size = 4 * g_rand_int_range(rand, 0, 11);
    for (i = 0; i < p->options_size; i++) {
        p->options[i] = g_rand_int(rand);
    }
}

#endif
