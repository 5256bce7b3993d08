/* SPDX-License-Identifier: GPL-2.0-or-later */
/* segment: each rule by an example, then all of them at random. */

#include "packets.h"
#include "unit.h"

#include "qdes/segment.h"

#define PIECES_MAX 40
#define FRAMES_MAX 1024

/* A frame to be cut, and what came of it. */
typedef struct Cut {
    uint8_t frame[PACKET_MAX];
    size_t size;
    QdesVnet vnet;
    size_t max_frame;
    bool partial;
    size_t splits[PIECES_MAX];  /* where pieces begin, in order */
    int n_splits;

    QdesSegmentResult result;
    bool is_partial;
    size_t frame_size;
    unsigned frames;
    size_t sizes[FRAMES_MAX];   /* of the frames */
    uint8_t out[2 * PACKET_MAX]; /* the frames, joined */
} Cut;

static const Packet tcp4 = { PACKET_DEFAULT };
static const Packet tcp6 = { PACKET_DEFAULT, .v6 = true };
static const Packet udp4 = { PACKET_DEFAULT, .udp = true };
static const Packet udp6 = { PACKET_DEFAULT, .udp = true, .v6 = true };

static size_t l4_of(const Packet *p)
{
    return 14 + 4 * p->tags + (p->v6 ? 40 + p->ext : 20 + p->ip_options);
}

static size_t headers_of(const Packet *p)
{
    return l4_of(p) + (p->udp ? 8 : 20 + p->options_size);
}

static Cut *cut_new(const Packet *p, uint16_t gso_size)
{
    Cut *cut = g_new0(Cut, 1);

    cut->size = packet_write(p, cut->frame);
    cut->max_frame = PACKET_MAX;
    cut->vnet.csum_start = l4_of(p);
    cut->vnet.csum_offset = p->udp ? 6 : 16;
    cut->vnet.needs_csum = p->csum == PACKET_PARTIAL;
    if (gso_size) {
        cut->vnet.gso = p->udp ? QDES_GSO_UDP
                               : p->v6 ? QDES_GSO_TCP6 : QDES_GSO_TCP4;
        cut->vnet.gso_size = gso_size;
    }
    return cut;
}

/* Each piece has memory of its own, for the sanitizer to see its end. */
static void cut_run(Cut *cut)
{
    struct iovec iov[PIECES_MAX + 1], payload[PIECES_MAX + 1];
    size_t at = 0, end, size;
    int count = 0, i, j, needed;
    uint8_t *headers, *out = cut->out;
    unsigned before;
    QdesSegmenter s;

    for (i = 0; i <= cut->n_splits; i++) {
        end = i < cut->n_splits ? cut->splits[i] : cut->size;
        iov[i].iov_len = end - at;
        iov[i].iov_base = g_memdup2(cut->frame + at, end - at);
        at = end;
    }
    memset(&s, 0xa5, sizeof(s));
    cut->result = qdes_segment_begin(&s, &cut->vnet, iov, cut->n_splits + 1,
                                     cut->size, cut->max_frame, cut->partial,
                                     0);
    cut->frames = 0;
    if (cut->result == QDES_SEGMENT_CUT) {
        cut->is_partial = s.partial;
        cut->frame_size = s.frame_size;
        ck_assert_uint_gt(s.frames, 0);
        ck_assert_uint_le(s.headers_size, QDES_HEADERS_MAX);
        headers = g_malloc(s.headers_size);
        while (s.frames > 0) {
            before = s.frames;
            /* One frame now and then with too little room first. */
            needed = before % 8 == 1 ? 0 : PIECES_MAX;
            while ((size = qdes_segment_next(&s, headers, payload, needed,
                                             &count)) == 0) {
                ck_assert_uint_eq(s.frames, before);
                ck_assert_int_le(++needed, PIECES_MAX);
            }
            ck_assert_int_le(count, needed);
            ck_assert_uint_eq(s.frames, before - 1);
            ck_assert_uint_le(out + size - cut->out, sizeof(cut->out));
            ck_assert_uint_lt(cut->frames, FRAMES_MAX);
            memcpy(out, headers, s.headers_size);
            at = s.headers_size;
            for (j = 0; j < count; j++) {
                ck_assert_uint_gt(payload[j].iov_len, 0);
                memcpy(out + at, payload[j].iov_base, payload[j].iov_len);
                at += payload[j].iov_len;
            }
            ck_assert_uint_eq(at, size);
            cut->sizes[cut->frames++] = size;
            out += size;
        }
        g_free(headers);
    }
    for (i = 0; i <= cut->n_splits; i++) {
        g_free(iov[i].iov_base);
    }
}

/* Cut a packet, with the sum of its pseudo-header in the checksum field. */
static Cut *cut_packet(const Packet *like, size_t payload, uint16_t gso_size,
                       size_t max_frame)
{
    Packet p = *like;
    Cut *cut;

    p.payload = payload;
    p.csum = PACKET_PARTIAL;
    cut = cut_new(&p, gso_size);
    cut->max_frame = max_frame;
    cut_run(cut);
    return cut;
}

static const uint8_t *cut_frame(const Cut *cut, unsigned n)
{
    size_t at = 0;
    unsigned i;

    ck_assert_uint_lt(n, cut->frames);
    for (i = 0; i < n; i++) {
        at += cut->sizes[i];
    }
    return cut->out + at;
}

/* What came out is what was expected, with checksums as @cut has them. */
static void check_frames(const Cut *cut, const uint8_t *expected,
                         const size_t *sizes, unsigned n, size_t l4)
{
    const uint8_t *out = cut->out;
    uint8_t copy[PACKET_MAX];
    QdesPacket packet;
    unsigned i;

    ck_assert_int_eq(cut->result, QDES_SEGMENT_CUT);
    ck_assert_uint_eq(cut->frames, n);
    for (i = 0; i < n; i++) {
        ck_assert_uint_eq(cut->sizes[i], sizes[i]);
        if (i + 1 < n) {
            ck_assert_uint_eq(cut->sizes[i], cut->frame_size);
        } else {
            ck_assert_uint_le(cut->sizes[i], cut->frame_size);
        }
        memcpy(copy, expected, sizes[i]);
        ck_assert(qdes_packet_find(&packet, out, sizes[i], sizes[i], false));
        ck_assert_uint_eq(packet.l4, l4);
        ck_assert_uint_eq(packet.end, sizes[i]);
        if (cut->is_partial) {
            naive_put16(copy + l4 + (packet.proto == IPPROTO_UDP ? 6 : 16),
                        naive_pseudo(copy + naive_l3(copy), packet.proto,
                                     sizes[i] - l4));
        }
        ck_assert_mem_eq(out, copy, sizes[i]);
        out += sizes[i];
        expected += sizes[i];
    }
}

START_TEST(test_tcp)
{
    Packet p = tcp4;
    const uint8_t *frame;
    unsigned i;
    Cut *cut;

    p.seq = 0xfffffff0;
    p.id = 0xffff;
    p.flags = PACKET_ACK | PACKET_PSH | PACKET_FIN | PACKET_CWR | PACKET_ECE;
    cut = cut_packet(&p, 250, 100, 1500);
    ck_assert_int_eq(cut->result, QDES_SEGMENT_CUT);
    ck_assert_uint_eq(cut->frames, 3);
    ck_assert_uint_eq(cut->frame_size, 154);
    ck_assert(!cut->is_partial);
    for (i = 0; i < 3; i++) {
        static const size_t sizes[] = { 154, 154, 104 };
        static const uint16_t ids[] = { 0xffff, 0, 1 };
        static const uint32_t seqs[] = { 0xfffffff0, 0x54, 0xb8 };
        static const uint8_t flags[] = {
            PACKET_ACK | PACKET_ECE | PACKET_CWR,
            PACKET_ACK | PACKET_ECE,
            PACKET_ACK | PACKET_ECE | PACKET_PSH | PACKET_FIN,
        };

        frame = cut_frame(cut, i);
        ck_assert_uint_eq(cut->sizes[i], sizes[i]);
        ck_assert_uint_eq(naive_get16(frame + 16), sizes[i] - 14);
        ck_assert_uint_eq(naive_get16(frame + 18), ids[i]);
        ck_assert_uint_eq(naive_fold(naive_sum(frame + 14, 20)), 0xffff);
        ck_assert_uint_eq(naive_get32(frame + 38), seqs[i]);
        ck_assert_uint_eq(frame[47], flags[i]);
        ck_assert_uint_eq(naive_fold(naive_pseudo(frame + 14, IPPROTO_TCP,
                                                  sizes[i] - 34) +
                                     naive_sum(frame + 34, sizes[i] - 34)),
                          0xffff);
        ck_assert_mem_eq(frame + 54, cut->frame + 54 + i * 100,
                         sizes[i] - 54);
    }
    g_free(cut);
}
END_TEST

START_TEST(test_udp)
{
    const uint8_t *frame;
    unsigned i;
    Cut *cut = cut_packet(&udp6, 25, 10, 1500);

    ck_assert_uint_eq(cut->frames, 3);
    for (i = 0; i < 3; i++) {
        frame = cut_frame(cut, i);
        ck_assert_uint_eq(naive_get16(frame + 18), i < 2 ? 18 : 13);
        ck_assert_uint_eq(naive_get16(frame + 58), i < 2 ? 18 : 13);
        ck_assert_mem_eq(frame + 62, cut->frame + 62 + i * 10,
                         i < 2 ? 10 : 5);
    }
    g_free(cut);
}
END_TEST

/* A sum of 0 is written as 0xffff: 0 means that there is none. */
START_TEST(test_udp_zero)
{
    Packet p = udp4;
    Cut *cut;
    uint16_t sum;

    p.payload = 24;
    p.csum = PACKET_NO_CSUM;
    cut = cut_new(&p, 12);
    sum = naive_fold(naive_pseudo(cut->frame + 14, IPPROTO_UDP, 20) +
                     naive_sum(cut->frame + 34, 4) + 20 +
                     naive_sum(cut->frame + 42, 10));
    naive_put16(cut->frame + 52, 0xffff - sum);
    cut_run(cut);
    ck_assert_uint_eq(cut->frames, 2);
    ck_assert_uint_eq(naive_get16(cut_frame(cut, 0) + 40), 0xffff);
    ck_assert_uint_ne(naive_get16(cut_frame(cut, 1) + 40), 0xffff);
    g_free(cut);
}
END_TEST

START_TEST(test_partial)
{
    const Packet *packets[] = { &tcp4, &tcp6, &udp4, &udp6 };
    size_t l4, field;
    unsigned i, j;
    Packet p;
    Cut *cut;

    for (i = 0; i < 4; i++) {
        p = *packets[i];
        p.payload = 250;
        p.csum = PACKET_PARTIAL;
        cut = cut_new(&p, 100);
        cut->partial = true;
        cut_run(cut);
        ck_assert(cut->is_partial);
        ck_assert_uint_eq(cut->frames, 3);
        l4 = l4_of(&p);
        field = l4 + (p.udp ? 6 : 16);
        for (j = 0; j < 3; j++) {
            const uint8_t *frame = cut_frame(cut, j);

            ck_assert_uint_eq(naive_get16(frame + field),
                              naive_pseudo(frame + 14, p.udp ? 17 : 6,
                                           cut->sizes[j] - l4));
        }
        g_free(cut);
    }
}
END_TEST

/* The urgent pointer is relative to a frame's own sequence number. */
START_TEST(test_urgent)
{
    uint16_t ends[] = { 200, 201 };
    Packet p = tcp4;
    const uint8_t *frame;
    unsigned i, j;
    Cut *cut;

    p.flags = PACKET_ACK | PACKET_URG;
    for (i = 0; i < 2; i++) {
        p.urgent = ends[i];
        cut = cut_packet(&p, 500, 100, 1500);
        ck_assert_uint_eq(cut->frames, 5);
        for (j = 0; j < 5; j++) {
            frame = cut_frame(cut, j);
            if (j * 100 < ends[i]) {
                ck_assert_uint_eq(frame[47], p.flags);
                ck_assert_uint_eq(naive_get16(frame + 52), ends[i] - j * 100);
            } else {
                ck_assert_uint_eq(frame[47], PACKET_ACK);
            }
        }
        g_free(cut);
    }
}
END_TEST

/* How many frames, and how large, for which room. */
START_TEST(test_sizes)
{
    static const struct {
        const Packet *packet;
        size_t payload;
        uint16_t gso_size;
        size_t max_frame;
        unsigned frames;
        size_t frame_size;
    } cases[] = {
        { &tcp4, 3000, 1448, 1502, 3, 1502 },
        { &tcp4, 3000, 1448, 1501, 3, 1501 },
        { &tcp4, 3000, 1448, 1054, 3, 1054 },
        { &tcp4, 3000, 1448, 1053, 4, 1053 },
        { &tcp4, 2896, 1448, 1502, 2, 1502 },
        { &tcp4, 1448, 1448, 1502, 1, 1502 },
        { &tcp4, 1447, 1448, 1502, 1, 1501 },
        { &tcp4, 1, 1448, 1502, 1, 55 },
        { &tcp4, 0, 1448, 1502, 1, 54 },
        { &tcp4, 100, 10, 55, 100, 55 },
        /* No room for any payload: as its sender wanted it. */
        { &tcp4, 100, 10, 54, 10, 64 },
        { &tcp4, 100, 10, 0, 10, 64 },
        { &tcp6, 3000, 1428, 1502, 3, 1502 },
        { &tcp6, 3000, 1428, 1074, 3, 1074 },
        { &udp4, 3000, 1472, 1514, 3, 1514 },
        { &udp4, 3000, 1472, 1000, 3, 1514 },
        { &udp6, 3000, 1000, 10, 3, 1062 },
        { &udp6, 999, 1000, 10, 1, 1061 },
        /* What IP can tell of, and no more. */
        { &tcp4, 65530, 65535, PACKET_MAX, 2, 65549 },
        { &tcp6, 65530, 65535, PACKET_MAX, 2, 65589 },
        { &udp6, 65527, 65535, PACKET_MAX, 1, 65589 },
        { &udp4, 65508, 65507, PACKET_MAX, 2, 65549 },
    };
    size_t i;
    Cut *cut;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        cut = cut_packet(cases[i].packet, cases[i].payload, cases[i].gso_size,
                         cases[i].max_frame);
        ck_assert_int_eq(cut->result, QDES_SEGMENT_CUT);
        ck_assert_uint_eq(cut->frames, cases[i].frames);
        ck_assert_uint_eq(cut->frame_size, cases[i].frame_size);
        g_free(cut);
    }
}
END_TEST

/* One byte of payload in each frame is legal. */
START_TEST(test_one_byte)
{
    struct iovec iov, payload[2];
    uint8_t headers[QDES_HEADERS_MAX];
    unsigned frames = 0;
    QdesSegmenter s;
    Packet p = tcp4;
    int count;
    Cut *cut;

    p.payload = 65481;
    cut = cut_new(&p, 1);
    iov.iov_base = cut->frame;
    iov.iov_len = cut->size;
    ck_assert_int_eq(qdes_segment_begin(&s, &cut->vnet, &iov, 1, cut->size,
                                        1500, false, 0), QDES_SEGMENT_CUT);
    ck_assert_uint_eq(s.frames, 65481);
    while (s.frames > 0) {
        ck_assert_uint_eq(qdes_segment_next(&s, headers, payload, 2, &count),
                          55);
        ck_assert_int_eq(count, 1);
        ck_assert_uint_eq(naive_get32(headers + 38), p.seq + frames);
        ck_assert_uint_eq(naive_get16(headers + 18), frames);
        frames++;
    }
    ck_assert_uint_eq(frames, 65481);
    g_free(cut);
}
END_TEST

static QdesSegmentResult result_of(Cut *cut)
{
    QdesSegmentResult result;

    cut_run(cut);
    result = cut->result;
    g_free(cut);
    return result;
}

/* As if there were no segmenter at all. */
START_TEST(test_whole)
{
    static const uint8_t uncut[] = { PACKET_SYN, PACKET_RST, PACKET_URG };
    Packet p = tcp4;
    size_t i;
    Cut *cut;

    ck_assert_int_eq(result_of(cut_new(&p, 0)), QDES_SEGMENT_WHOLE);
    p.payload = 2000;
    cut = cut_new(&p, 0);
    cut->max_frame = cut->size;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_WHOLE);

    /* Too long for its path, and nothing that may be done about it. */
    cut = cut_new(&p, 0);
    cut->max_frame = 1000;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_CUT);
    cut = cut_new(&p, 0);
    cut->max_frame = 54;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_WHOLE);
    for (i = 0; i < sizeof(uncut); i++) {
        p.flags = PACKET_ACK | uncut[i];
        cut = cut_new(&p, 0);
        cut->max_frame = 1000;
        ck_assert_int_eq(result_of(cut), QDES_SEGMENT_WHOLE);
    }
    p.flags = PACKET_ACK;
    p.frag = 0x2000;
    cut = cut_new(&p, 0);
    cut->max_frame = 1000;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_WHOLE);
    p.frag = 0;
    p.udp = true;
    cut = cut_new(&p, 0);
    cut->max_frame = 1000;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_WHOLE);

    /* Too long only by what is behind the packet. */
    p.udp = false;
    p.padding = 9;
    cut = cut_new(&p, 0);
    cut->max_frame = cut->size - 9;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_WHOLE);
    p.padding = 0;

    /* Broken already, which the receiver shall see. */
    p.csum = PACKET_WRONG;
    cut = cut_new(&p, 0);
    cut->max_frame = 1000;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_WHOLE);
    p.csum = PACKET_FULL;
    p.wrong_ip_sum = true;
    cut = cut_new(&p, 0);
    cut->max_frame = 1000;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_WHOLE);
    p.wrong_ip_sum = false;
    cut = cut_new(&p, 0);
    cut->max_frame = 1000;
    cut->frame[cut->size - 1] ^= 1;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_WHOLE);
}
END_TEST

/* A TCP segment that is too long, though its sender did not know. */
START_TEST(test_recut)
{
    size_t sizes[4];
    uint8_t expected[PACKET_MAX];
    QdesVnet vnet;
    int partial, unfinished, v6;
    Packet p;
    Cut *cut;

    for (v6 = 0; v6 < 2; v6++) {
        for (unfinished = 0; unfinished < 2; unfinished++) {
            for (partial = 0; partial < 2; partial++) {
                p = v6 ? tcp6 : tcp4;
                p.payload = 3001;
                p.flags = PACKET_ACK | PACKET_PSH;
                p.csum = unfinished ? PACKET_PARTIAL : PACKET_FULL;
                cut = cut_new(&p, 0);
                cut->max_frame = headers_of(&p) + 1001;
                cut->partial = partial;
                cut_run(cut);
                vnet = cut->vnet;
                vnet.gso_size = 1001;
                vnet.gso = QDES_GSO_TCP4;
                ck_assert_uint_eq(naive_segment(cut->frame, cut->size, &vnet,
                                                expected, sizes), 3);
                ck_assert_int_eq(cut->is_partial, partial);
                check_frames(cut, expected, sizes, 3, l4_of(&p));
                g_free(cut);
            }
        }
    }

    /* A checksum elsewhere: nothing is known of the one that TCP has. */
    p = tcp4;
    p.payload = 1500;
    cut = cut_new(&p, 0);
    cut->max_frame = 1000;
    cut->vnet.needs_csum = true;
    cut->vnet.csum_start = 60;
    cut_run(cut);
    ck_assert_uint_eq(cut->frames, 1);
    ck_assert_uint_eq(cut->sizes[0], cut->size);
    g_free(cut);

    /* What is behind the packet is no payload. */
    p = tcp4;
    p.payload = 1500;
    p.padding = 100;
    cut = cut_new(&p, 0);
    cut->max_frame = 1054;
    cut_run(cut);
    ck_assert_uint_eq(cut->frames, 2);
    ck_assert_uint_eq(cut->sizes[0] + cut->sizes[1], 2 * 54 + 1500);
    g_free(cut);
}
END_TEST

/* Only a checksum is wanted. */
START_TEST(test_finish)
{
    const Packet *packets[] = { &tcp4, &tcp6, &udp4, &udp6 };
    int i, partial, padded;
    uint8_t expected[PACKET_MAX];
    Packet p;
    Cut *cut;

    for (i = 0; i < 4; i++) {
        for (partial = 0; partial < 2; partial++) {
            for (padded = 0; padded < 2; padded++) {
                p = *packets[i];
                p.payload = 33;
                p.padding = padded ? 5 : 0;
                p.csum = PACKET_PARTIAL;
                cut = cut_new(&p, 0);
                cut->partial = partial;
                /* Too long or not: UDP is never cut, TCP is made to fit. */
                cut->max_frame = p.udp ? 60 : cut->size;
                cut_run(cut);
                p.csum = partial ? PACKET_PARTIAL : PACKET_FULL;
                ck_assert_uint_eq(packet_write(&p, expected), cut->size);
                ck_assert_int_eq(cut->result, QDES_SEGMENT_CUT);
                ck_assert_int_eq(cut->is_partial, partial);
                ck_assert_uint_eq(cut->frames, 1);
                ck_assert_uint_eq(cut->sizes[0], cut->size);
                ck_assert_uint_eq(cut->frame_size, cut->size);
                ck_assert_mem_eq(cut->out, expected, cut->size);
                g_free(cut);
            }
        }
    }
}
END_TEST

/* A checksum of what the segmenter knows nothing about. */
START_TEST(test_finish_generic)
{
    uint8_t expected[PACKET_MAX];
    uint16_t start, offset, sum;
    Cut *cut;

    for (start = 14; start < 260; start++) {
        for (offset = 0; offset < 20; offset++) {
            cut = cut_packet(&udp4, 300, 0, 1500);
            cut->vnet.csum_start = start;
            cut->vnet.csum_offset = offset;
            if (start == 34 && offset == 6) {
                g_free(cut);
                continue;
            }
            /* Whoever takes partial ones knows TCP and UDP only. */
            cut->partial = start & 1;
            cut_run(cut);
            if (start + offset + 2 > QDES_HEADERS_MAX) {
                ck_assert_int_eq(cut->result, QDES_SEGMENT_BAD);
            } else {
                memcpy(expected, cut->frame, cut->size);
                sum = ~naive_fold(naive_sum(cut->frame + start,
                                            cut->size - start));
                naive_put16(expected + start + offset, sum ? sum : 0xffff);
                ck_assert_int_eq(cut->result, QDES_SEGMENT_CUT);
                ck_assert(!cut->is_partial);
                ck_assert_uint_eq(cut->frames, 1);
                ck_assert_uint_eq(cut->sizes[0], cut->size);
                ck_assert_mem_eq(cut->out, expected, cut->size);
            }
            g_free(cut);
        }
    }

    /* Sums up to 0, and at the frame's very end. */
    cut = cut_packet(&udp4, 40, 0, 1500);
    memset(cut->frame, 0, cut->size);
    cut->vnet.csum_start = cut->size - 4;
    cut->vnet.csum_offset = 2;
    naive_put16(cut->frame + cut->size - 4, 0xffff);
    cut_run(cut);
    ck_assert_int_eq(cut->result, QDES_SEGMENT_CUT);
    ck_assert_uint_eq(naive_get16(cut->out + cut->size - 2), 0xffff);
    g_free(cut);
}
END_TEST

START_TEST(test_bad)
{
    static const uint8_t unknown[] = { 2, 3, 6, 7, 0x21, 0x41, 0x7f };
    Packet p = tcp4;
    size_t i;
    Cut *cut;

    p.payload = 1000;
    p.csum = PACKET_PARTIAL;
    ck_assert_int_eq(result_of(cut_new(&p, 500)), QDES_SEGMENT_CUT);
    for (i = 0; i < sizeof(unknown); i++) {
        cut = cut_new(&p, 500);
        cut->vnet.gso = unknown[i];
        ck_assert_int_eq(result_of(cut), QDES_SEGMENT_BAD);
    }
    cut = cut_new(&p, 500);
    cut->vnet.gso = QDES_GSO_TCP6;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_BAD);
    cut = cut_new(&p, 500);
    cut->vnet.gso = QDES_GSO_UDP;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_BAD);
    cut = cut_new(&p, 500);
    cut->vnet.gso_size = 0;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_BAD);
    cut = cut_new(&p, 500);
    cut->vnet.csum_start++;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_BAD);
    cut = cut_new(&p, 500);
    cut->vnet.csum_offset = 6;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_BAD);
    cut = cut_new(&p, 500);
    cut->frame[14] = 0x65;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_BAD);

    /* Headers that are not all there. */
    for (i = 1; i < 54; i++) {
        cut = cut_new(&p, 500);
        cut->size = i;
        ck_assert_int_eq(result_of(cut), QDES_SEGMENT_BAD);
        cut = cut_new(&p, 500);
        cut->size = i;
        cut->vnet.needs_csum = false;
        ck_assert_int_eq(result_of(cut), QDES_SEGMENT_BAD);
    }

    /* A checksum outside of the frame. */
    cut = cut_new(&p, 0);
    cut->vnet.csum_offset = cut->size - 34 - 1;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_BAD);
    cut = cut_new(&p, 0);
    cut->vnet.csum_start = 0xffff;
    cut->vnet.csum_offset = 0xffff;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_BAD);
    cut = cut_new(&p, 0);
    cut->size = 51;
    ck_assert_int_eq(result_of(cut), QDES_SEGMENT_BAD);

    /* There is but one SYN, and one RST. */
    p.flags = PACKET_SYN;
    ck_assert_int_eq(result_of(cut_new(&p, 999)), QDES_SEGMENT_BAD);
    ck_assert_int_eq(result_of(cut_new(&p, 1000)), QDES_SEGMENT_CUT);
    p.flags = PACKET_RST;
    ck_assert_int_eq(result_of(cut_new(&p, 999)), QDES_SEGMENT_BAD);

    /* A datagram too long for IP. */
    p = udp4;
    p.payload = 65508;
    ck_assert_int_eq(result_of(cut_new(&p, 65508)), QDES_SEGMENT_BAD);
    p.v6 = true;
    p.payload = 65528;
    ck_assert_int_eq(result_of(cut_new(&p, 65528)), QDES_SEGMENT_BAD);

    /* Nothing at all. */
    cut = cut_new(&p, 0);
    ck_assert_int_eq(qdes_segment_begin(&(QdesSegmenter) { .frames = 0 },
                                        &cut->vnet, NULL, 0, 0, 1500, false, 0),
                     QDES_SEGMENT_BAD);
    g_free(cut);
}
END_TEST

static int by_size(const void *a, const void *b)
{
    size_t x = *(const size_t *)a;
    size_t y = *(const size_t *)b;

    return (x > y) - (x < y);
}

static void random_splits(GRand *rand, Cut *cut)
{
    int i;

    cut->n_splits = g_rand_int_range(rand, 0, 12);
    for (i = 0; i < cut->n_splits; i++) {
        cut->splits[i] = g_rand_int_range(rand, 0,
                                          g_rand_boolean(rand)
                                          ? (int)cut->size + 1
                                          : MIN((int)cut->size, 100));
        if (i > 0 && g_rand_int_range(rand, 0, 5) == 0) {
            cut->splits[i] = cut->splits[i - 1];
        }
    }
    qsort(cut->splits, cut->n_splits, sizeof(cut->splits[0]), by_size);
}

START_TEST(test_random)
{
    GRand *rand = unit_rand("segment random");
    uint8_t *expected = g_malloc(2 * PACKET_MAX);
    size_t *sizes = g_new(size_t, FRAMES_MAX);
    unsigned many = 0, n;
    bool superframe;
    QdesVnet vnet;
    size_t gso_size, room;
    int round;
    Packet p;
    Cut *cut;

    for (round = 0; round < 3000; round++) {
        packet_random(&p, rand);
        p.payload = g_rand_int_range(rand, 1,
                                     g_rand_boolean(rand) ? 300 : 8000);
        superframe = p.udp || g_rand_int_range(rand, 0, 4) > 0;
        gso_size = g_rand_int_range(rand, p.payload / 64 + 1,
                                    p.payload / (round % 4 + 1) + 100);
        p.csum = g_rand_boolean(rand) ? PACKET_PARTIAL : PACKET_FULL;
        cut = cut_new(&p, superframe ? gso_size : 0);
        cut->vnet.ecn = g_rand_boolean(rand);
        cut->vnet.csum_valid = g_rand_boolean(rand);
        cut->partial = g_rand_boolean(rand);
        cut->max_frame = headers_of(&p) +
                         g_rand_int_range(rand, p.payload / 64 + 1, 9000);
        if (!superframe) {
            if (p.payload < 64) {
                p.payload = 64;
            }
            cut->size = packet_write(&p, cut->frame);
            cut->max_frame = headers_of(&p) + gso_size % (p.payload - 1) + 1;
            gso_size = p.payload;
        }
        random_splits(rand, cut);

        room = cut->max_frame - headers_of(&p);
        vnet = cut->vnet;
        vnet.gso = p.udp ? QDES_GSO_UDP : QDES_GSO_TCP4;
        vnet.gso_size = p.udp ? gso_size : MIN(gso_size, room);
        /* Not more than there is room for in the test. */
        if (p.payload / vnet.gso_size > 65) {
            vnet.gso_size = p.payload / 65 + 1;
            cut->max_frame = headers_of(&p) + vnet.gso_size;
        }
        cut_run(cut);
        ck_assert_int_eq(cut->is_partial, cut->partial);
        n = naive_segment(cut->frame, cut->size, &vnet, expected, sizes);
        check_frames(cut, expected, sizes, n, l4_of(&p));
        many += n > 1;
        g_free(cut);
    }
    ck_assert_uint_gt(many, 1000);
    g_free(expected);
    g_free(sizes);
    g_rand_free(rand);
}
END_TEST

/* Whatever a port says of whatever frame: in bounds, and an end to it. */
START_TEST(test_noise)
{
    GRand *rand = unit_rand("segment noise");
    int results[3] = { 0 };
    int i, round;
    Packet p;
    Cut *cut;

    for (round = 0; round < 5000; round++) {
        packet_random(&p, rand);
        p.payload = g_rand_int_range(rand, 1,
                                     g_rand_boolean(rand) ? 300 : 8000);
        p.payload = g_rand_int_range(rand, 0, 400);
        p.csum = g_rand_int_range(rand, 0, 5);
        cut = cut_new(&p, g_rand_boolean(rand) ? 0
                          : g_rand_int_range(rand, 1, 500));
        cut->max_frame = g_rand_int_range(rand, 0, 1000);
        cut->partial = g_rand_boolean(rand);
        if (g_rand_boolean(rand)) {
            cut->vnet.needs_csum = g_rand_boolean(rand);
            cut->vnet.csum_start += g_rand_int_range(rand, -3, 4);
            cut->vnet.csum_offset = g_rand_int_range(rand, 0, 50);
            if (g_rand_boolean(rand)) {
                cut->vnet.csum_offset = g_rand_int(rand);
            }
        }
        for (i = g_rand_int_range(rand, 0, 5); i > 0; i--) {
            cut->frame[g_rand_int_range(rand, 12, 100)] = g_rand_int(rand);
        }
        if (g_rand_boolean(rand)) {
            cut->size = g_rand_int_range(rand, 1, cut->size + 1);
        }
        random_splits(rand, cut);
        cut_run(cut);
        results[cut->result]++;
        g_free(cut);
    }
    for (i = 0; i < 3; i++) {
        ck_assert_int_gt(results[i], 100);
    }
    g_rand_free(rand);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("segment");
    TCase *tc = tcase_create("segment");

    tcase_add_test(tc, test_tcp);
    tcase_add_test(tc, test_udp);
    tcase_add_test(tc, test_udp_zero);
    tcase_add_test(tc, test_partial);
    tcase_add_test(tc, test_urgent);
    tcase_add_test(tc, test_sizes);
    tcase_add_test(tc, test_one_byte);
    tcase_add_test(tc, test_whole);
    tcase_add_test(tc, test_recut);
    tcase_add_test(tc, test_finish);
    tcase_add_test(tc, test_finish_generic);
    tcase_add_test(tc, test_bad);
    tcase_add_test(tc, test_random);
    tcase_add_test(tc, test_noise);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
