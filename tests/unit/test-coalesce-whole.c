/* SPDX-License-Identifier: GPL-2.0-or-later */
/* coalesce: superframes that came whole, among frames that are to be merged */

#include "unit.h"
#include "packets.h"

#include "qdes/coalesce.h"

#define ROUNDS 2000
#define FRAMES (4 * QDES_COALESCE_QUEUE)

static const QdesCoalesceFeatures all_features = {
    true, true, true, true, true,
};

static const QdesVnet described = {
    .needs_csum = true, .gso = QDES_GSO_TCP4, .gso_size = 50,
    .csum_start = 34, .csum_offset = 16, .hdr_len = 54,
};

/* Frames of one TCP stream, and a coalescer for them. */
typedef struct Stream {
    QdesCoalescer *c;
    Packet next;
    uint8_t buf[FRAMES][256];
    unsigned n;
} Stream;

static Stream *stream_new(void)
{
    Stream *s = g_new0(Stream, 1);

    s->c = qdes_coalescer_new();
    s->next = (Packet) { PACKET_DEFAULT, .csum = PACKET_PARTIAL };
    qdes_coalesce_set_features(s->c, &all_features);
    return s;
}

static void stream_free(Stream *s)
{
    qdes_coalescer_free(s->c);
    g_free(s);
}

/* The next 100 bytes of the stream. */
static QdesCoalesceResult add(Stream *s, bool whole)
{
    uint8_t *frame = s->buf[s->n % FRAMES];
    size_t size = packet_write(&s->next, frame);
    QdesCoalesceResult result;

    if (whole) {
        result = qdes_coalesce_add_whole(s->c, frame, size, &described, false,
                                         7);
    } else {
        result = qdes_coalesce_add(s->c, frame, size, true, 0);
    }
    if (result == QDES_COALESCE_TAKEN) {
        s->next.seq += s->next.payload;
        s->next.id++;
        s->n++;
    }
    return result;
}

/* Does the one frame number @n leave next, as it came? */
static void expect_whole(Stream *s, unsigned n)
{
    QdesSuperframe *first = qdes_coalesce_first(s->c);

    ck_assert_ptr_nonnull(first);
    ck_assert_uint_eq(first->frames, 1);
    ck_assert_int_eq(first->iovcnt, 2);
    ck_assert_ptr_eq(first->iov[1].iov_base, s->buf[n % FRAMES]);
    ck_assert_uint_eq(first->iov[1].iov_len, 154);
    ck_assert_uint_eq(first->size, 154);
    ck_assert_uint_eq(first->frame_bytes, 154);
    ck_assert_uint_eq(first->headroom, 7);
    ck_assert_mem_eq(&first->vnet, &described, sizeof(described));
    ck_assert(!first->v6);
    qdes_coalesce_pop(s->c);
}

/* Do @frames leave next, as one, the first of which is number @n? */
static void expect_merged(Stream *s, unsigned n, unsigned frames)
{
    QdesSuperframe *first = qdes_coalesce_first(s->c);
    uint32_t seq;

    ck_assert_ptr_nonnull(first);
    ck_assert_uint_eq(first->frames, frames);
    ck_assert_uint_eq(first->vnet.gso_size, frames > 1 ? 100 : 0);
    seq = naive_get32((uint8_t *)first->iov[1].iov_base + 38);
    ck_assert_uint_eq(seq, 1000 + 100 * n);
    qdes_coalesce_pop(s->c);
}

START_TEST(test_order)
{
    Stream *s = stream_new();
    unsigned i;

    /* 2 merged, 1 whole, 2 merged, 2 whole, 1. */
    for (i = 0; i < 8; i++) {
        ck_assert_int_eq(add(s, i == 2 || i == 5 || i == 6),
                         QDES_COALESCE_TAKEN);
    }
    expect_merged(s, 0, 2);
    expect_whole(s, 2);
    expect_merged(s, 3, 2);
    expect_whole(s, 5);
    expect_whole(s, 6);
    expect_merged(s, 7, 1);
    ck_assert_ptr_null(qdes_coalesce_first(s->c));
    stream_free(s);
}
END_TEST

/* Another flow is not led past it, either. */
START_TEST(test_closes_all)
{
    Stream *s = stream_new();
    Packet mine;

    ck_assert_int_eq(add(s, false), QDES_COALESCE_TAKEN);
    mine = s->next;
    s->next.port++;
    ck_assert_int_eq(add(s, true), QDES_COALESCE_TAKEN);
    s->next = mine;
    ck_assert_int_eq(add(s, false), QDES_COALESCE_TAKEN);
    expect_merged(s, 0, 1);
    expect_whole(s, 1);
    expect_merged(s, 1, 1);
    ck_assert_ptr_null(qdes_coalesce_first(s->c));
    stream_free(s);
}
END_TEST

START_TEST(test_full)
{
    Stream *s = stream_new();
    unsigned i;

    for (i = 0; i < QDES_COALESCE_QUEUE; i++) {
        ck_assert_int_eq(add(s, true), QDES_COALESCE_TAKEN);
    }
    ck_assert_int_eq(add(s, true), QDES_COALESCE_FULL);
    ck_assert_int_eq(add(s, false), QDES_COALESCE_FULL);
    expect_whole(s, 0);
    ck_assert_int_eq(add(s, true), QDES_COALESCE_TAKEN);
    ck_assert_int_eq(add(s, true), QDES_COALESCE_FULL);
    for (i = 1; i <= QDES_COALESCE_QUEUE; i++) {
        expect_whole(s, i);
    }
    ck_assert_ptr_null(qdes_coalesce_first(s->c));
    stream_free(s);
}
END_TEST

/* Any mixture, popped at any time: what went in, in order. */
START_TEST(test_random)
{
    GRand *rand = unit_rand("coalesce whole");
    bool whole[FRAMES] = { false };
    Stream *s = stream_new();
    QdesSuperframe *first;
    unsigned left = 0;          /* the number of the next to leave */
    bool is_whole;
    int round;

    for (round = 0; round < ROUNDS; round++) {
        is_whole = g_rand_int_range(rand, 0, 3) == 0;
        whole[s->n % FRAMES] = is_whole;
        if (s->n - left < FRAMES - 1 && g_rand_int_range(rand, 0, 3)) {
            ck_assert_int_ne(add(s, is_whole), QDES_COALESCE_BAD);
            continue;
        }
        first = qdes_coalesce_first(s->c);
        if (!first) {
            ck_assert_uint_eq(left, s->n);
        } else if (whole[left % FRAMES]) {
            expect_whole(s, left++);
        } else {
            ck_assert_uint_ge(first->frames, 1);
            for (unsigned i = 0; i < first->frames; i++) {
                ck_assert(!whole[(left + i) % FRAMES]);
            }
            left += first->frames;
            expect_merged(s, left - first->frames, first->frames);
        }
    }
    ck_assert_uint_gt(left, 100);
    stream_free(s);
    g_rand_free(rand);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("coalesce-whole");
    TCase *tc = tcase_create("coalesce-whole");

    tcase_add_test(tc, test_order);
    tcase_add_test(tc, test_closes_all);
    tcase_add_test(tc, test_full);
    tcase_add_test(tc, test_random);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
