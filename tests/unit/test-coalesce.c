/* SPDX-License-Identifier: GPL-2.0-or-later */
/* coalesce: which two frames become one superframe, each rule by an example */

#include "coalesce-kinds.h"
#include "coalesce-check.h"

static const QdesCoalesceFeatures no_features;

/* What becomes of two frames: 1 or 2 superframes, which are checked. */
static unsigned pair(const QdesCoalesceFeatures *features, const Packet *a,
                     const Packet *b)
{
    uint8_t *buf = g_malloc(2 * PACKET_MAX);
    CheckFrame in[2] = {
        { buf, packet_write(a, buf), is_partial(a) },
        { buf + PACKET_MAX, packet_write(b, buf + PACKET_MAX), is_partial(b) },
    };
    const char *failure;
    unsigned merged;

    failure = coalesce_check(in, 2, features, &merged);
    ck_assert_msg(!failure, "%s", failure);
    g_free(buf);
    return 2 - merged;
}

/* @first changes frame a, @second the frame b that follows a. */
#define PAIR(features, n, kind, first, second) do {                        \
        Packet a = packet_of(kind);                                        \
        Packet b;                                                          \
        first;                                                             \
        b = packet_after(&a);                                              \
        second;                                                            \
        ck_assert_msg(pair(features, &a, &b) == (n),                       \
                      "not %u superframes: %s; %s", n, #first, #second);   \
    } while (0)

#define TOGETHER(kind, first, second) \
    PAIR(&all_features, 1U, kind, first, second)
#define APART(kind, first, second) \
    PAIR(&all_features, 2U, kind, first, second)

START_TEST(test_all_kinds)
{
    Kind kind = _i;

    TOGETHER(kind, (void)0, (void)0);
    APART(kind, (void)0, b.mac = 1);
    TOGETHER(kind, a.tags = 1, (void)0);
    TOGETHER(kind, a.tags = 2, (void)0);
    APART(kind, (void)0, b.tags = 1);
    APART(kind, a.tags = 2, b.tags = 1);
    APART(kind, a.tags = 1, b.vid = 1);
    TOGETHER(kind, a.tos = 3, (void)0);
    APART(kind, (void)0, b.tos = 3);
    APART(kind, (void)0, b.ttl = 63);
    APART(kind, (void)0, b.host = 2);
    APART(kind, (void)0, b.port = 2);
    APART(kind, (void)0, b.udp = !a.udp);
    APART(kind, (void)0, b.v6 = !a.v6);

    TOGETHER(kind, (void)0, b.payload = 1);
    TOGETHER(kind, (void)0, b.payload = 99);
    TOGETHER(kind, a.payload = 1, (void)0);
    APART(kind, (void)0, b.payload = 101);
    APART(kind, (void)0, b.payload = 0);
    APART(kind, a.payload = 0, b.payload = 1);
    APART(kind, a.payload = 0, (void)0);
    APART(kind, a.padding = 1, b.padding = 0);
    APART(kind, (void)0, b.padding = 1);
    APART(kind, a.padding = 3, (void)0);

    TOGETHER(kind, a.csum = PACKET_PARTIAL, (void)0);
    APART(kind, a.csum = PACKET_PARTIAL, b.csum = PACKET_FULL);
    APART(kind, (void)0, b.csum = PACKET_PARTIAL);
    APART(kind, a.csum = PACKET_WRONG, b.csum = PACKET_FULL);
    APART(kind, (void)0, b.csum = PACKET_WRONG);
    APART(kind, a.csum = PACKET_WRONG, (void)0);
    APART(kind, a.csum = PACKET_WRONG_PARTIAL, b.csum = PACKET_PARTIAL);
    APART(kind, a.csum = PACKET_PARTIAL, b.csum = PACKET_WRONG_PARTIAL);
    APART(kind, a.csum = PACKET_PARTIAL; a.padding = 1, (void)0);
}
END_TEST

START_TEST(test_tcp)
{
    Kind kind = _i ? TCP6 : TCP4;

    APART(kind, (void)0, b.seq++);
    APART(kind, (void)0, b.seq--);
    APART(kind, (void)0, b.seq = a.seq);
    TOGETHER(kind, a.seq = 0xffffffce, (void)0);
    TOGETHER(kind, a.seq = 0xffffff9c, ck_assert_uint_eq(b.seq, 0));
    APART(kind, (void)0, b.ack++);
    APART(kind, (void)0, b.window++);
    APART(kind, (void)0, b.urgent++);

    /* The last may push or end the stream, others may not. */
    TOGETHER(kind, (void)0, b.flags |= PACKET_PSH);
    TOGETHER(kind, (void)0, b.flags |= PACKET_FIN);
    TOGETHER(kind, (void)0, b.flags |= PACKET_FIN | PACKET_PSH);
    APART(kind, a.flags |= PACKET_PSH, b.flags = PACKET_ACK);
    APART(kind, a.flags |= PACKET_PSH, (void)0);
    APART(kind, a.flags |= PACKET_FIN, b.flags = PACKET_ACK);
    APART(kind, (void)0, b.flags |= PACKET_FIN; b.payload = 0);

    APART(kind, (void)0, b.flags |= PACKET_URG);
    APART(kind, a.flags |= PACKET_URG, (void)0);
    APART(kind, (void)0, b.flags |= PACKET_SYN);
    APART(kind, a.flags |= PACKET_SYN, (void)0);
    APART(kind, (void)0, b.flags |= PACKET_RST);
    APART(kind, a.flags |= PACKET_RST, (void)0);
    APART(kind, a.flags = 0, (void)0);
    APART(kind, (void)0, b.flags = 0);

    /* ECE is in all or in none, CWR in the first. */
    TOGETHER(kind, a.flags |= PACKET_ECE, (void)0);
    APART(kind, a.flags |= PACKET_ECE, b.flags = PACKET_ACK);
    APART(kind, (void)0, b.flags |= PACKET_ECE);
    TOGETHER(kind, a.flags |= PACKET_CWR, b.flags = PACKET_ACK);
    TOGETHER(kind, a.flags |= PACKET_CWR | PACKET_ECE, b.flags ^= PACKET_CWR);
    APART(kind, a.flags |= PACKET_CWR, (void)0);
    APART(kind, (void)0, b.flags |= PACKET_CWR);
    TOGETHER(kind, a.reserved = 1, (void)0);
    APART(kind, (void)0, b.reserved = 1);

    /* As timestamps are. */
    TOGETHER(kind, a.options_size = 12; a.options[11] = 7, (void)0);
    TOGETHER(kind, a.options_size = 40; a.options[39] = 7, (void)0);
    APART(kind, a.options_size = 12, b.options[0] = 1);
    APART(kind, a.options_size = 12, b.options[11] = 1);
    APART(kind, a.options_size = 40, b.options[39] = 1);
    APART(kind, a.options_size = 12, b.options_size = 0);
    APART(kind, a.options_size = 12, b.options_size = 8);
    APART(kind, (void)0, b.options_size = 4);
}
END_TEST

START_TEST(test_udp)
{
    Kind kind = _i ? UDP6 : UDP4;

    APART(kind, a.csum = PACKET_NO_CSUM, (void)0);
    APART(kind, (void)0, b.csum = PACKET_NO_CSUM);
    APART(kind, a.csum = PACKET_NO_CSUM, b.csum = PACKET_FULL);

    /* Also where 0 happens to be the sum. */
    APART(kind, a.port = zero_sum_port(kind); a.csum = PACKET_NO_CSUM,
          b.seq = a.seq);
    TOGETHER(kind, a.port = zero_sum_port(kind), (void)0);
}
END_TEST

START_TEST(test_ipv4)
{
    Kind kind = _i ? UDP4 : TCP4;

    /* Identifications matter where there may be fragments. */
    TOGETHER(kind, a.frag = 0, (void)0);
    TOGETHER(kind, a.frag = 0; a.id = 0xffff, (void)0);
    APART(kind, a.frag = 0, b.id = a.id);
    APART(kind, a.frag = 0, b.id++);
    TOGETHER(kind, (void)0, b.id = a.id);
    TOGETHER(kind, (void)0, b.id += 7);
    APART(kind, a.frag = 0, b.frag = 0x4000);
    APART(kind, a.frag = 0x4000, b.frag = 0);
    /* Two changes that leave the header's checksum as it is. */
    APART(kind, (void)0, b.frag = 0; b.ttl += 64; b.id = a.id + 1);
    APART(kind, a.ttl = 0, b.tos = 255; b.ttl = 255);
    APART(kind, a.frag = 0xc000, (void)0);
    APART(kind, (void)0, b.frag = 0xc000);
    APART(kind, a.frag = 0x2000, (void)0);
    APART(kind, (void)0, b.frag = 0x4001);

    APART(kind, a.ip_options = 4, (void)0);
    APART(kind, (void)0, b.ip_options = 4);
    APART(kind, a.ip_options = 4, b.ip_options = 0);
    APART(kind, a.wrong_ip_sum = true, (void)0);
    APART(kind, a.wrong_ip_sum = true, b.wrong_ip_sum = false);
    APART(kind, (void)0, b.wrong_ip_sum = true);
    APART(kind, a.csum = PACKET_PARTIAL, b.wrong_ip_sum = true);
}
END_TEST

START_TEST(test_ipv6)
{
    Kind kind = _i ? UDP6 : TCP6;

    TOGETHER(kind, a.label = 0xabcde, (void)0);
    APART(kind, (void)0, b.label = 1);
    APART(kind, a.ext = 8, (void)0);
    APART(kind, a.ext = 8, b.ext = 0);
    APART(kind, (void)0, b.ext = 16);
}
END_TEST

START_TEST(test_features)
{
    QdesCoalesceFeatures features = { 0 };
    Kind kind;

    for (kind = 0; kind < KINDS; kind++) {
        features = no_features;
        PAIR(&features, 2U, kind, (void)0, (void)0);
        features.tcp4 = kind == TCP4;
        features.tcp6 = kind == TCP6;
        features.udp4 = kind == UDP4;
        features.udp6 = kind == UDP6;
        PAIR(&features, 1U, kind, (void)0, (void)0);
        features.tcp4 = !features.tcp4;
        features.tcp6 = !features.tcp6;
        features.udp4 = !features.udp4;
        features.udp6 = !features.udp6;
        PAIR(&features, 2U, kind, (void)0, (void)0);
        PAIR(&features, 2U, kind, a.csum = PACKET_PARTIAL, (void)0);
    }
    features = (QdesCoalesceFeatures) { true, true, true, true, false };
    PAIR(&features, 2U, TCP4, a.flags |= PACKET_CWR, b.flags = PACKET_ACK);
    PAIR(&features, 1U, TCP4, a.flags |= PACKET_ECE, (void)0);
}
END_TEST

/* The longest one, to the byte. */
START_TEST(test_longest)
{
    Kind kind = _i;
    Packet p = packet_of(kind);
    size_t rest = QDES_COALESCE_MAX - tagged_headers(&p) - 40000;

    TOGETHER(kind, a.tags = 2; a.payload = 40000, b.payload = rest);
    APART(kind, a.tags = 2; a.payload = 40000, b.payload = rest + 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("coalesce");
    TCase *tc = tcase_create("coalesce");

    tcase_add_loop_test(tc, test_all_kinds, 0, KINDS);
    tcase_add_loop_test(tc, test_tcp, 0, 2);
    tcase_add_loop_test(tc, test_udp, 0, 2);
    tcase_add_loop_test(tc, test_ipv4, 0, 2);
    tcase_add_loop_test(tc, test_ipv6, 0, 2);
    tcase_add_test(tc, test_features);
    tcase_add_loop_test(tc, test_longest, 0, KINDS);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
