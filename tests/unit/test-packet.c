/* SPDX-License-Identifier: GPL-2.0-or-later */
/* packet: what is found in frames, what is not, and sums. */

#include "unit.h"

#include "qdes/bytes.h"
#include "qdes/packet.h"

#define FRAME_MAX 512

/* A frame under construction. */
typedef struct Frame {
    uint8_t data[FRAME_MAX];
    size_t size;
    size_t ip, l4;
} Frame;

static uint8_t *put(Frame *f, size_t size)
{
    uint8_t *p = f->data + f->size;

    f->size += size;
    ck_assert_uint_le(f->size, FRAME_MAX);
    memset(p, 0, size);
    return p;
}

static void put_type(Frame *f, uint16_t type)
{
    qdes_put_be16(put(f, 2), type);
}

static void begin(Frame *f, int tags)
{
    f->size = 0;
    memset(put(f, 12), 0x52, 12);
    while (tags-- > 0) {
        put_type(f, tags ? 0x88a8 : 0x8100);
        put_type(f, 42);
    }
}

static void put_ip4(Frame *f, size_t options, uint8_t proto)
{
    uint8_t *ip;

    put_type(f, 0x0800);
    f->ip = f->size;
    ip = put(f, 20 + options);
    ip[0] = 0x40 | (20 + options) / 4;
    ip[9] = proto;
    memcpy(ip + 12, "\x0a\0\0\1\x0a\0\0\2", 8);
    f->l4 = f->size;
}

static void put_ip6(Frame *f, uint8_t next)
{
    uint8_t *ip;

    put_type(f, 0x86dd);
    f->ip = f->size;
    ip = put(f, 40);
    ip[0] = 0x60;
    ip[6] = next;
    memcpy(ip + 8, "\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    memcpy(ip + 24, "\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\2", 16);
    f->l4 = f->size;
}

/* An extension header of @size bytes, with @next behind it. */
static uint8_t *put_extension(Frame *f, uint8_t next, size_t size)
{
    uint8_t *p = put(f, size);

    p[0] = next;
    p[1] = size / 8 - 1;
    f->l4 = f->size;
    return p;
}

static void put_tcp(Frame *f, size_t options, size_t payload)
{
    uint8_t *tcp = put(f, 20 + options);

    tcp[12] = (20 + options) / 4 << 4;
    memset(put(f, payload), 0x77, payload);
}

static void put_udp(Frame *f, size_t payload)
{
    uint8_t *udp = put(f, 8);

    qdes_put_be16(udp + 4, 8 + payload);
    memset(put(f, payload), 0x77, payload);
}

/* Write the length of the IP packet that ends here. */
static void end(Frame *f)
{
    uint8_t *ip = f->data + f->ip;

    if (ip[0] >> 4 == 4) {
        qdes_put_be16(ip + 2, f->size - f->ip);
    } else {
        qdes_put_be16(ip + 4, f->size - f->ip - 40);
    }
}

/* From memory that ends where the frame does, for the sanitizer to see. */
static bool find_of(QdesPacket *packet, const Frame *f, size_t size,
                    bool superframe)
{
    uint8_t *copy = g_memdup2(f->data, size);
    bool found;

    memset(packet, 0xa5, sizeof(*packet));
    found = qdes_packet_find(packet, copy, size, size, superframe);
    g_free(copy);
    return found;
}

static bool find(QdesPacket *packet, const Frame *f)
{
    return find_of(packet, f, f->size, false);
}

START_TEST(test_tcp4)
{
    QdesPacket packet;
    size_t options, size;
    int tags;
    Frame f;

    for (tags = 0; tags <= 2; tags++) {
        for (options = 0; options <= 40; options += 4) {
            begin(&f, tags);
            put_ip4(&f, options, 6);
            put_tcp(&f, 40 - options, 100);
            end(&f);
            ck_assert(find(&packet, &f));
            ck_assert(!packet.v6);
            ck_assert_uint_eq(packet.proto, 6);
            ck_assert_uint_eq(packet.l3, 14 + 4 * tags);
            ck_assert_uint_eq(packet.l4, f.l4);
            ck_assert_uint_eq(packet.payload, f.size - 100);
            ck_assert_uint_eq(packet.end, f.size);
            ck_assert_uint_eq(qdes_packet_csum_field(&packet), f.l4 + 16);
            for (size = 0; size < f.size; size++) {
                ck_assert(!find_of(&packet, &f, size, false));
            }
        }
    }
    begin(&f, 3);
    put_ip4(&f, 0, 6);
    put_tcp(&f, 0, 1);
    end(&f);
    ck_assert(!find(&packet, &f));
}
END_TEST

START_TEST(test_udp6)
{
    QdesPacket packet;
    size_t size;
    Frame f;

    begin(&f, 0);
    put_ip6(&f, 0);
    put_extension(&f, 60, 8);
    put_extension(&f, 43, 16);
    put_extension(&f, 43, 24);
    put_extension(&f, 17, 24);
    put_udp(&f, 33);
    end(&f);
    ck_assert(find(&packet, &f));
    ck_assert(packet.v6);
    ck_assert_uint_eq(packet.proto, 17);
    ck_assert_uint_eq(packet.l3, 14);
    ck_assert_uint_eq(packet.l4, f.l4);
    ck_assert_uint_eq(packet.payload, f.l4 + 8);
    ck_assert_uint_eq(packet.end, f.size);
    ck_assert_uint_eq(qdes_packet_csum_field(&packet), f.l4 + 6);
    for (size = 0; size < f.size; size++) {
        ck_assert(!find_of(&packet, &f, size, false));
    }

    /* A source route that still has somewhere to go. */
    f.data[f.ip + 40 + 8 + 16 + 3] = 1;
    ck_assert(!find(&packet, &f));
}
END_TEST

START_TEST(test_padding)
{
    QdesPacket packet;
    Frame f;

    begin(&f, 0);
    put_ip4(&f, 0, 6);
    put_tcp(&f, 0, 2);
    end(&f);
    memset(put(&f, 4), 0xee, 4);
    ck_assert(find(&packet, &f));
    ck_assert_uint_eq(packet.payload, 54);
    ck_assert_uint_eq(packet.end, 56);
    ck_assert(find_of(&packet, &f, f.size, true));
    ck_assert_uint_eq(packet.end, 60);
}
END_TEST

START_TEST(test_none)
{
    static const uint8_t protos[] = { 1, 2, 44, 47, 50, 51, 58, 59, 132 };
    QdesPacket packet;
    uint8_t *p;
    size_t i;
    Frame f;

    for (i = 0; i < sizeof(protos); i++) {
        begin(&f, 0);
        put_ip4(&f, 0, protos[i]);
        put_tcp(&f, 0, 10);
        end(&f);
        ck_assert(!find(&packet, &f));
        begin(&f, 0);
        put_ip6(&f, protos[i]);
        put_tcp(&f, 0, 10);
        end(&f);
        ck_assert(!find(&packet, &f));
        ck_assert(!find_of(&packet, &f, f.size, true));
    }

    /* Not IP, or not the version that the type says. */
    begin(&f, 0);
    put_ip4(&f, 0, 6);
    put_tcp(&f, 0, 10);
    end(&f);
    f.data[13] = 6;
    ck_assert(!find(&packet, &f));
    f.data[13] = 0;
    ck_assert(find(&packet, &f));
    f.data[f.ip] = 0x55;
    ck_assert(!find(&packet, &f));
    f.data[f.ip] = 0x44;
    ck_assert(!find(&packet, &f));

    /* The TCP header is too small, or larger than the packet. */
    f.data[f.ip] = 0x45;
    f.data[f.l4 + 12] = 0x40;
    ck_assert(!find(&packet, &f));
    f.data[f.l4 + 12] = 0x70;
    ck_assert(find(&packet, &f));
    ck_assert_uint_eq(packet.payload, f.l4 + 28);
    f.data[f.l4 + 12] = 0x80;
    ck_assert(!find(&packet, &f));

    /* Fragments: the first, the last; DF is none. */
    f.data[f.l4 + 12] = 0x50;
    p = f.data + f.ip + 6;
    p[0] = 0x20;
    ck_assert(!find(&packet, &f));
    p[0] = 0;
    p[1] = 1;
    ck_assert(!find(&packet, &f));
    p[0] = 0x40;
    p[1] = 0;
    ck_assert(find(&packet, &f));

    /* IPv4's total length. */
    p = f.data + f.ip + 2;
    qdes_put_be16(p, f.size - f.ip + 1);
    ck_assert(!find(&packet, &f));
    ck_assert(find_of(&packet, &f, f.size, true));
    qdes_put_be16(p, 39);
    ck_assert(!find(&packet, &f));
    qdes_put_be16(p, 19);
    ck_assert(!find(&packet, &f));
    qdes_put_be16(p, 40);
    ck_assert(find(&packet, &f));
    ck_assert_uint_eq(packet.end, packet.payload);
}
END_TEST

START_TEST(test_udp_length)
{
    QdesPacket packet;
    int i;
    Frame f;

    begin(&f, 0);
    put_ip4(&f, 0, 17);
    put_udp(&f, 10);
    end(&f);
    for (i = 0; i < 100; i++) {
        qdes_put_be16(f.data + f.l4 + 4, i);
        ck_assert_int_eq(find(&packet, &f), i == 18);
        ck_assert(find_of(&packet, &f, f.size, true));
    }
}
END_TEST

/* Headers end within QDES_HEADERS_MAX, however long the frame is. */
START_TEST(test_headers_max)
{
    QdesPacket packet;
    size_t size;
    Frame f;

    for (size = 8; size <= 320; size += 8) {
        begin(&f, 0);
        put_ip6(&f, 60);
        put_extension(&f, 17, size);
        put_udp(&f, 100);
        end(&f);
        ck_assert_int_eq(find(&packet, &f),
                         f.l4 + 8 <= QDES_HEADERS_MAX);
    }

    /* No more than that need be at hand. */
    begin(&f, 0);
    put_ip4(&f, 0, 6);
    put_tcp(&f, 0, 400);
    end(&f);
    ck_assert(qdes_packet_find(&packet, f.data, QDES_HEADERS_MAX, f.size,
                               false));
    ck_assert_uint_eq(packet.end, f.size);

    /* Destination options without end. */
    begin(&f, 0);
    put_ip6(&f, 60);
    memset(put(&f, 400), 60, 400);
    end(&f);
    ck_assert(!find(&packet, &f));
    memset(f.data + f.ip + 40, 0, 400);
    ck_assert(!find(&packet, &f));
}
END_TEST

/* Whatever the bytes are: in bounds, and in order. */
START_TEST(test_noise)
{
    GRand *rand = unit_rand("packet noise");
    int found = 0, round;
    size_t i, size;
    QdesPacket packet;
    bool superframe;
    Frame f;

    for (round = 0; round < 50000; round++) {
        begin(&f, g_rand_int_range(rand, 0, 4));
        if (g_rand_boolean(rand)) {
            put_ip4(&f, 4 * g_rand_int_range(rand, 0, 3),
                    g_rand_boolean(rand) ? 6 : 17);
        } else {
            put_ip6(&f, g_rand_boolean(rand) ? 60 : 6);
        }
        put_extension(&f, g_rand_boolean(rand) ? 6 : 17,
                      8 * g_rand_int_range(rand, 1, 4));
        put_tcp(&f, 0, g_rand_int_range(rand, 0, 60));
        end(&f);
        for (i = g_rand_int_range(rand, 0, 4); i > 0; i--) {
            f.data[g_rand_int_range(rand, 12, f.size)] = g_rand_int(rand);
        }
        size = g_rand_int_range(rand, 0, f.size + 1);
        size = g_rand_boolean(rand) ? f.size : size;
        superframe = g_rand_boolean(rand);
        if (find_of(&packet, &f, size, superframe)) {
            found++;
            ck_assert(packet.proto == 6 || packet.proto == 17);
            ck_assert_uint_ge(packet.l3, 14);
            ck_assert_uint_ge(packet.l4, packet.l3 + (packet.v6 ? 40 : 20));
            ck_assert_uint_ge(packet.payload,
                              packet.l4 + (packet.proto == 6 ? 20 : 8));
            ck_assert_uint_le(packet.payload, QDES_HEADERS_MAX);
            ck_assert_uint_le(packet.payload, packet.end);
            ck_assert_uint_le(packet.end, size);
        }
    }
    ck_assert_int_gt(found, 1000);
    g_rand_free(rand);
}
END_TEST

static uint32_t naive_sum(uint32_t sum, const uint8_t *data, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++) {
        sum += i % 2 ? data[i] : data[i] << 8;
    }
    while (sum > 0xffff) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

/* A datagram whose sums were worked out by hand. */
START_TEST(test_by_hand)
{
    static const uint8_t frame[] = {
        0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x52, 0x54, 0x00, 0x65, 0x43, 0x21,
        0x08, 0x00, 0x45, 0x00, 0x00, 0x20, 0x00, 0x01, 0x00, 0x00, 0x40, 0x11,
        0x66, 0xca, 0x0a, 0x00, 0x00, 0x01, 0x0a, 0x00, 0x00, 0x02, 0x04, 0x00,
        0x00, 0x35, 0x00, 0x0c, 0x00, 0x00, 'q', 'd', 'e', 's',
    };
    uint8_t copy[sizeof(frame)];
    QdesPacket packet;
    uint16_t pseudo, csum;

    ck_assert(qdes_packet_find(&packet, frame, sizeof(frame), sizeof(frame),
                               false));
    pseudo = qdes_packet_pseudo_sum(&packet, frame, 12);
    /* 0a00 + 0001 + 0a00 + 0002 + 0011 + 000c */
    ck_assert_uint_eq(pseudo, 0x1420);
    memcpy(copy, frame, sizeof(frame));
    qdes_put_be16(copy + 40, pseudo);
    ck_assert(qdes_packet_finish(copy, sizeof(copy)));
    csum = qdes_get_be16(copy + 40);
    /* 1420 + 0400 + 0035 + 000c + 7164 + 6573 = ef38 */
    ck_assert_uint_eq(csum, 0xffff - 0xef38);
    qdes_put_be16(copy + 40, 0);
    ck_assert_mem_eq(copy, frame, sizeof(frame));
}
END_TEST

START_TEST(test_finish)
{
    GRand *rand = unit_rand("packet finish");
    uint8_t *ip, *l4, *field;
    int round, zeros = 0;
    QdesPacket packet;
    uint8_t pseudo[40];
    size_t i, l4_size, pad, pseudo_size;
    uint16_t sum;
    Frame f;

    for (round = 0; round < 5000; round++) {
        bool v6 = g_rand_boolean(rand);
        bool tcp = g_rand_boolean(rand);

        begin(&f, g_rand_int_range(rand, 0, 3));
        if (v6) {
            put_ip6(&f, tcp ? 6 : 17);
        } else {
            put_ip4(&f, 0, tcp ? 6 : 17);
        }
        if (tcp) {
            put_tcp(&f, 0, g_rand_int_range(rand, 2, 100));
        } else {
            put_udp(&f, g_rand_int_range(rand, 2, 100));
        }
        end(&f);
        l4_size = f.size - f.l4;
        ip = f.data + f.ip;
        l4 = f.data + f.l4;
        for (i = 0; i < 8; i++) {
            ip[12 + i] = g_rand_int(rand);
        }
        for (i = tcp ? 20 : 8; i < l4_size; i++) {
            l4[i] = g_rand_int(rand);
        }
        pad = g_rand_int_range(rand, 0, 5);
        memset(put(&f, pad), 0xff, pad);

        memset(pseudo, 0, sizeof(pseudo));
        pseudo_size = v6 ? 40 : 12;
        if (v6) {
            memcpy(pseudo, ip + 8, 32);
        } else {
            memcpy(pseudo, ip + 12, 8);
        }
        pseudo[v6 ? 34 : 10] = l4_size >> 8;
        pseudo[v6 ? 35 : 11] = l4_size;
        pseudo[v6 ? 39 : 9] = tcp ? 6 : 17;

        ck_assert(find(&packet, &f));
        field = f.data + qdes_packet_csum_field(&packet);
        sum = naive_sum(0, pseudo, pseudo_size);
        ck_assert_uint_eq(qdes_packet_pseudo_sum(&packet, f.data, l4_size),
                          sum);
        if (round % 10 == 0) {
            /* Choose the last word so that the checksum comes out as 0. */
            i = (l4_size - 2) & ~(size_t)1;
            qdes_put_be16(l4 + i, 0);
            qdes_put_be16(l4 + i, 0xffff - naive_sum(sum, l4, l4_size));
        }
        qdes_put_be16(field, sum);
        ck_assert(qdes_packet_finish(f.data, f.size));
        zeros += qdes_get_be16(field) == 0xffff;
        ck_assert_uint_ne(qdes_get_be16(field), 0);
        ck_assert_uint_eq(naive_sum(sum, l4, l4_size), 0xffff);
    }
    ck_assert_int_ge(zeros, 500);

    /* Neither TCP nor UDP: left as it is. */
    begin(&f, 0);
    put_ip4(&f, 0, 1);
    put_tcp(&f, 0, 10);
    end(&f);
    ck_assert(!qdes_packet_finish(f.data, f.size));
    ck_assert_uint_eq(naive_sum(0, f.data + f.l4 + 16, 4), 0);
    g_rand_free(rand);
}
END_TEST

static void ck_ends(const Frame *f, const char *want)
{
    char texts[2][QDES_ADDR_STRLEN] = { "none", "" };
    QdesAddr ends[2];
    size_t size;
    int i;

    if (qdes_packet_ends(&ends[0], &ends[1], f->data, f->size)) {
        for (i = 0; i < 2; i++) {
            qdes_addr_format(&ends[i], texts[i]);
        }
        ck_assert_uint_eq(ends[1].port, 7);
        ck_assert(strchr(texts[1], '2'));
    }
    ck_assert_str_eq(texts[0], want);
    /* Cut short, it is the same or nothing. */
    for (size = 0; size < f->size; size++) {
        uint8_t *copy = g_memdup2(f->data, size);

        if (qdes_packet_ends(&ends[0], &ends[1], copy, size)) {
            ck_assert_str_eq(qdes_addr_format(&ends[0], texts[0]), want);
            ck_assert_uint_eq(ends[1].port, 7);
        }
        g_free(copy);
    }
}

/* Eight bytes of UDP's header. */
static void put_udp_ports(Frame *f)
{
    uint8_t *udp = put(f, 8);

    qdes_put_be16(udp, 20804);
    qdes_put_be16(udp + 2, 7);
}

/* The ends of a datagram, also of one in fragments. */
START_TEST(test_ends)
{
    Frame f;

    begin(&f, _i);
    put_ip4(&f, 8 * _i, 17);
    put_udp_ports(&f);
    ck_ends(&f, "10.0.0.1:20804");
    qdes_put_be16(f.data + f.ip + 6, 0x2000);
    ck_ends(&f, "10.0.0.1:20804");
    qdes_put_be16(f.data + f.ip + 6, 0x2001);
    ck_ends(&f, "none");
    qdes_put_be16(f.data + f.ip + 6, 0x4000);
    ck_ends(&f, "10.0.0.1:20804");
    f.data[f.ip + 9] = 6;
    ck_ends(&f, "none");

    begin(&f, _i);
    put_ip6(&f, 17);
    put_udp_ports(&f);
    ck_ends(&f, "[fe80::1]:20804");

    begin(&f, _i);
    put_ip6(&f, 44);
    put(&f, 8)[0] = 17;
    put_udp_ports(&f);
    ck_ends(&f, "[fe80::1]:20804");
    qdes_put_be16(f.data + f.l4 + 2, 1);        /* more follow */
    ck_ends(&f, "[fe80::1]:20804");
    qdes_put_be16(f.data + f.l4 + 2, 8);
    ck_ends(&f, "none");

    begin(&f, _i);
    put_type(&f, 0x0806);
    put(&f, 46);
    ck_ends(&f, "none");
    begin(&f, 3);
    put_ip4(&f, 0, 17);
    put(&f, 8);
    ck_ends(&f, "none");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("packet");
    TCase *tc = tcase_create("packet");

    tcase_add_test(tc, test_tcp4);
    tcase_add_test(tc, test_udp6);
    tcase_add_test(tc, test_padding);
    tcase_add_test(tc, test_none);
    tcase_add_test(tc, test_udp_length);
    tcase_add_test(tc, test_headers_max);
    tcase_add_test(tc, test_noise);
    tcase_add_test(tc, test_by_hand);
    tcase_add_test(tc, test_finish);
    tcase_add_loop_test(tc, test_ends, 0, 3);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
