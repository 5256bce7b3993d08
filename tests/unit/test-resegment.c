/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * segment: superframes cut to smaller ones, and those to packets
 *
 * To cut twice gives byte for byte what to cut once does.
 */

#include "packets.h"
#include "unit.h"

#include "qdes/segment.h"

#define FRAMES_MAX 4096

/* Frames, joined. */
typedef struct Frames {
    unsigned n;
    size_t sizes[FRAMES_MAX];
    uint8_t bytes[4 * PACKET_MAX];
    size_t size;
    size_t headers_size;
    uint16_t segment_size;
} Frames;

static size_t l4_of(const Packet *p)
{
    return 14 + 4 * p->tags + (p->v6 ? 40 + p->ext : 20 + p->ip_options);
}

static size_t headers_of(const Packet *p)
{
    return l4_of(p) + (p->udp ? 8 : 20 + p->options_size);
}

static QdesVnet vnet_of(const Packet *p, uint16_t gso_size)
{
    return (QdesVnet) {
        .needs_csum = true,
        .csum_start = l4_of(p),
        .csum_offset = p->udp ? 6 : 16,
        .gso = p->udp ? QDES_GSO_UDP : p->v6 ? QDES_GSO_TCP6 : QDES_GSO_TCP4,
        .gso_size = gso_size,
    };
}

/* Cut a frame, and add what comes of it to @out. */
static QdesSegmentResult cut(Frames *out, const uint8_t *frame, size_t size,
                             const QdesVnet *vnet, size_t max_frame,
                             bool partial, size_t max_super)
{
    /* Of exactly its size, for the sanitizer to see its end. */
    g_autofree uint8_t *copy = g_memdup2(frame, size);
    struct iovec iov = { copy, size };
    struct iovec payload[2];
    QdesSegmentResult result;
    QdesSegmenter s;
    uint8_t *at;
    size_t got;
    int count;

    result = qdes_segment_begin(&s, vnet, &iov, 1, size, max_frame, partial,
                                max_super);
    if (result != QDES_SEGMENT_CUT) {
        return result;
    }
    out->headers_size = s.headers_size;
    out->segment_size = s.segment_size;
    ck_assert(!max_super || !partial || s.partial);
    while (s.frames > 0) {
        at = out->bytes + out->size;
        got = qdes_segment_next(&s, at, payload, 2, &count);
        ck_assert_int_le(count, 1);
        ck_assert_uint_eq(got, s.headers_size +
                               (count ? payload[0].iov_len : 0));
        if (count) {
            memcpy(at + s.headers_size, payload[0].iov_base,
                   payload[0].iov_len);
        }
        ck_assert_uint_lt(out->n, FRAMES_MAX);
        out->sizes[out->n++] = got;
        out->size += got;
    }
    return result;
}

/* As a receiver does it: only the frame and its segment size are known. */
static void cut_again(Frames *out, const Frames *super)
{
    const uint8_t *frame = super->bytes;
    QdesVnet vnet;
    unsigned i;
    bool v6;

    for (i = 0; i < super->n; i++) {
        ck_assert(qdes_segment_describe(&vnet, &v6, frame, super->sizes[i],
                                        super->segment_size));
        ck_assert_int_eq(cut(out, frame, super->sizes[i], &vnet, SIZE_MAX,
                             false, 0), QDES_SEGMENT_CUT);
        frame += super->sizes[i];
    }
}

/* Without URG, the urgent pointer means nothing: it is what was left of it. */
static void forget_urgent(Frames *frames, const Packet *p)
{
    uint8_t *tcp = frames->bytes + l4_of(p);
    unsigned i;

    for (i = 0; i < frames->n && !p->udp; i++) {
        if (!(tcp[13] & PACKET_URG)) {
            naive_put16(tcp + 18, 0);
            naive_put16(tcp + 16, 0);
        }
        tcp += frames->sizes[i];
    }
}

static Frames *frames_new(void)
{
    return g_new0(Frames, 1);
}

/*
 * Cut the packet to superframes of at most @max_super bytes, and those to
 * packets.  Returns how many there are in each superframe, 0: it was none.
 */
static unsigned check_twice(const Packet *p, uint16_t gso_size,
                            size_t max_frame, size_t max_super)
{
    g_autofree uint8_t *frame = g_malloc(PACKET_MAX);
    g_autofree Frames *once = frames_new();
    g_autofree Frames *super = frames_new();
    g_autofree Frames *twice = frames_new();
    QdesVnet vnet = vnet_of(p, gso_size);
    size_t size = packet_write(p, frame);
    size_t part;
    unsigned packets = 0;
    unsigned i;

    ck_assert_int_eq(cut(once, frame, size, &vnet, max_frame, false, 0),
                     QDES_SEGMENT_CUT);
    ck_assert_int_eq(cut(super, frame, size, &vnet, max_frame, true,
                         max_super), QDES_SEGMENT_CUT);
    if (!super->segment_size) {
        ck_assert_uint_eq(super->n, once->n);
        return 0;
    }
    ck_assert_uint_eq(super->headers_size, headers_of(p));
    for (i = 0; i < super->n; i++) {
        part = super->sizes[i] - super->headers_size;
        ck_assert_uint_le(super->sizes[i], max_super);
        if (i + 1 < super->n) {
            ck_assert_uint_eq(part % super->segment_size, 0);
            ck_assert_uint_eq(super->sizes[i], super->sizes[0]);
        }
        part = (part - 1) / super->segment_size + 1;
        packets = MAX(packets, part);
    }
    ck_assert_uint_le(packets, QDES_SEGMENT_PACKETS);
    ck_assert_uint_gt(packets, 1);
    cut_again(twice, super);
    ck_assert_uint_eq(twice->n, once->n);
    for (i = 0; i < once->n; i++) {
        ck_assert_uint_eq(twice->sizes[i], once->sizes[i]);
    }
    if (p->flags & PACKET_URG) {
        forget_urgent(once, p);
        forget_urgent(twice, p);
    }
    ck_assert_mem_eq(twice->bytes, once->bytes, once->size);
    return packets;
}

/* How many packets go into a superframe: each edge from both sides. */
START_TEST(test_edges)
{
    static const struct {
        bool udp, v6;
        size_t payload;
        uint16_t gso_size;
        size_t max_frame, max_super;
        unsigned packets;
    } cases[] = {
        { false, false, 3000, 1000, 1500, 54 + 3000, 3 },
        { false, false, 3000, 1000, 1500, 54 + 2999, 2 },
        { false, false, 3000, 1000, 1500, 54 + 2000, 2 },
        { false, false, 3000, 1000, 1500, 54 + 1999, 0 },
        { false, false, 3000, 1000, 1500, 54, 0 },
        { false, false, 3000, 1000, 1500, 10, 0 },
        { false, false, 3000, 1000, 1500, 0, 0 },
        { false, false, 1000, 1000, 1500, 60000, 0 },
        { false, false, 1001, 1000, 1500, 60000, 2 },
        { false, false, 1, 1000, 1500, 60000, 0 },
        { false, false, 1280, 10, 1500, 60000, 128 },
        { false, false, 1281, 10, 1500, 60000, 128 },
        { false, false, 129, 1, 1500, 60000, 128 },
        /* TCP's packets fit their own path as well. */
        { false, false, 3000, 1448, 1054, 60000, 3 },
        { false, true, 3000, 1428, 1074, 60000, 3 },
        /* UDP's are what their sender made them. */
        { true, false, 3000, 1472, 600, 60000, 3 },
        { true, true, 3000, 1000, 600, 62 + 2000, 2 },
        /* What IP can tell of. */
        { false, false, 65495, 13099, 60000, SIZE_MAX, 5 },
        { false, false, 65496, 13099, 60000, SIZE_MAX, 5 },
        { true, false, 65507, 13102, 60000, SIZE_MAX, 4 },
        { true, true, 65527, 13106, 60000, SIZE_MAX, 4 },
    };
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        Packet p = { PACKET_DEFAULT, .udp = cases[i].udp, .v6 = cases[i].v6,
                     .csum = PACKET_PARTIAL };

        p.payload = cases[i].payload;
        ck_assert_msg(check_twice(&p, cases[i].gso_size, cases[i].max_frame,
                                  cases[i].max_super) == cases[i].packets,
                      "case %zu", i);
    }
}
END_TEST

/* Who takes no unfinished checksums, takes no superframes. */
START_TEST(test_needs_partial)
{
    g_autofree uint8_t *frame = g_malloc(PACKET_MAX);
    g_autofree Frames *out = frames_new();
    Packet p = { PACKET_DEFAULT, .csum = PACKET_PARTIAL };
    QdesVnet vnet;
    size_t size;

    p.payload = 3000;
    vnet = vnet_of(&p, 1000);
    size = packet_write(&p, frame);
    ck_assert_int_eq(cut(out, frame, size, &vnet, 1500, false, 60000),
                     QDES_SEGMENT_CUT);
    ck_assert_uint_eq(out->n, 3);
    ck_assert_uint_eq(out->segment_size, 0);

    /* Nor is a frame made one that its sender did not make one. */
    memset(out, 0, sizeof(*out));
    vnet.gso = QDES_GSO_NONE;
    ck_assert_int_eq(cut(out, frame, size, &vnet, 1054, true, 60000),
                     QDES_SEGMENT_CUT);
    ck_assert_uint_eq(out->n, 3);
    ck_assert_uint_eq(out->segment_size, 0);
}
END_TEST

START_TEST(test_random)
{
    GRand *rand = unit_rand("resegment random");
    unsigned packets, many = 0;
    size_t gso_size, edge;
    int round;
    Packet p;

    for (round = 0; round < 3000; round++) {
        packet_random(&p, rand);
        p.flags |= g_rand_int(rand) & PACKET_URG;
        p.urgent = g_rand_int_range(rand, 0, 8000);
        p.payload = g_rand_int_range(rand, 1,
                                     g_rand_int_range(rand, 0, 4) ? 5000
                                                                  : 65000);
        gso_size = 1 + p.payload / g_rand_int_range(rand, 1, 300);
        edge = headers_of(&p) + gso_size * g_rand_int_range(rand, 1, 140) +
               g_rand_int_range(rand, -2, 3);
        packets = check_twice(&p, gso_size,
                              headers_of(&p) + gso_size +
                              g_rand_int_range(rand, 0, 100), edge);
        many += packets > 1;
    }
    ck_assert_uint_gt(many, 1000);
    g_rand_free(rand);
}
END_TEST

/* What comes from somewhere, with a segment size */

typedef struct Came {
    uint8_t frame[PACKET_MAX];
    size_t size;
    QdesVnet vnet;
    bool v6;
} Came;

static bool describe(Came *came, const Packet *p, uint16_t segment_size)
{
    g_autofree uint8_t *copy = NULL;

    came->size = packet_write(p, came->frame);
    copy = g_memdup2(came->frame, came->size);
    memset(&came->vnet, 0xa5, sizeof(came->vnet));
    return qdes_segment_describe(&came->vnet, &came->v6, copy, came->size,
                                 segment_size);
}

START_TEST(test_describe)
{
    g_autofree Came *came = g_new0(Came, 1);
    bool v6 = _i & 1, udp = _i & 2, cwr = _i & 4;
    Packet p = { PACKET_DEFAULT, .v6 = v6, .udp = udp, .tags = 2,
                 .csum = PACKET_PARTIAL };
    QdesVnet want;

    p.flags |= cwr ? PACKET_CWR : 0;
    p.payload = 1000;
    want = vnet_of(&p, 300);
    ck_assert(describe(came, &p, 300));
    ck_assert_int_eq(came->v6, v6);
    ck_assert(came->vnet.needs_csum && !came->vnet.csum_valid);
    ck_assert_uint_eq(came->vnet.csum_start, want.csum_start);
    ck_assert_uint_eq(came->vnet.csum_offset, want.csum_offset);
    ck_assert_uint_eq(came->vnet.hdr_len, headers_of(&p));
    ck_assert_uint_eq(came->vnet.gso, want.gso);
    ck_assert_uint_eq(came->vnet.gso_size, 300);
    ck_assert_int_eq(came->vnet.ecn, cwr && !udp);

    /* No more than one packet: nothing is to be cut. */
    ck_assert(describe(came, &p, 1000));
    ck_assert_uint_eq(came->vnet.gso, QDES_GSO_NONE);
    ck_assert(came->vnet.needs_csum && !came->vnet.ecn);
    ck_assert_uint_eq(came->vnet.csum_start, want.csum_start);
    ck_assert(describe(came, &p, 999));
    ck_assert_uint_eq(came->vnet.gso, want.gso);
    ck_assert(describe(came, &p, 65535));
    ck_assert_uint_eq(came->vnet.gso, QDES_GSO_NONE);
    p.payload = 0;
    ck_assert(describe(came, &p, 1));
    ck_assert_uint_eq(came->vnet.gso, QDES_GSO_NONE);
    p.payload = 128 * 7;
    ck_assert(describe(came, &p, 7));
}
END_TEST

START_TEST(test_describe_refuses)
{
    g_autofree Came *came = g_new0(Came, 1);
    bool v6 = _i & 1, udp = _i & 2;
    const Packet good = { PACKET_DEFAULT, .v6 = v6, .udp = udp,
                          .csum = PACKET_PARTIAL };
    static const uint8_t flags[] = { PACKET_SYN, PACKET_RST,
                                     PACKET_SYN | PACKET_ACK };
    Packet p = good;
    bool got;
    size_t i;

    p.payload = 128 * 7;
    ck_assert(describe(came, &p, 7));
    ck_assert(!describe(came, &p, 0));
    p.payload++;
    ck_assert(!describe(came, &p, 7));
    p.payload = 65000;
    ck_assert(!describe(came, &p, 1));
    p = good;
    p.padding = 1;
    ck_assert(!describe(came, &p, 50));
    if (!v6) {
        p = good;
        p.frag = 0x2000;
        ck_assert(!describe(came, &p, 50));
        p.frag = 0x0001;
        ck_assert(!describe(came, &p, 50));
    }
    for (i = 0; i < G_N_ELEMENTS(flags) && !udp; i++) {
        p = good;
        p.flags = flags[i];
        ck_assert(!describe(came, &p, 99));
        ck_assert(describe(came, &p, 100));
    }
    /* Neither TCP nor UDP; and headers that are not all there. */
    p = good;
    ck_assert(describe(came, &p, 50));
    for (i = 0; i < came->size; i++) {
        g_autofree uint8_t *part = g_memdup2(came->frame, i);

        ck_assert(!qdes_segment_describe(&came->vnet, &came->v6, part, i, 50));
    }
    came->frame[v6 ? 20 : 23] = 132;
    got = qdes_segment_describe(&came->vnet, &came->v6, came->frame,
                                came->size, 50);
    ck_assert(!got);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resegment");
    TCase *tc = tcase_create("resegment");

    tcase_add_test(tc, test_edges);
    tcase_add_test(tc, test_needs_partial);
    tcase_add_test(tc, test_random);
    tcase_add_loop_test(tc, test_describe, 0, 8);
    tcase_add_loop_test(tc, test_describe_refuses, 0, 4);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
