/* SPDX-License-Identifier: GPL-2.0-or-later */
/* coalesce: what waits, in which order it leaves, and in what form */

#include "coalesce-kinds.h"

static const QdesCoalesceFeatures no_features;

/* A coalescer, and frames that live as long. */
typedef struct Queue {
    QdesCoalescer *c;
    GPtrArray *frames;
} Queue;

static Queue queue_new(const QdesCoalesceFeatures *features)
{
    Queue q = { qdes_coalescer_new(), g_ptr_array_new_with_free_func(g_free) };

    qdes_coalesce_set_features(q.c, features);
    return q;
}

static void queue_free(Queue *q)
{
    qdes_coalescer_free(q->c);
    g_ptr_array_free(q->frames, true);
}

static QdesCoalesceResult queue_add(Queue *q, const Packet *p)
{
    uint8_t *frame = g_malloc(PACKET_MAX);
    size_t size = packet_write(p, frame);

    g_ptr_array_add(q->frames, frame);
    return qdes_coalesce_add(q->c, frame, size, is_partial(p), 0);
}

/* How many frames the first superframe is made of; it is popped.  0: there is
 * none. */
static unsigned queue_pop(Queue *q)
{
    QdesSuperframe *s = qdes_coalesce_first(q->c);
    unsigned frames = s ? s->frames : 0;

    if (s) {
        qdes_coalesce_pop(q->c);
    }
    return frames;
}

/* A superframe of other features' time is not appended to. */
START_TEST(test_features_change)
{
    Packet p = packet_of(TCP4);
    Queue q = queue_new(&all_features);

    queue_add(&q, &p);
    p = packet_after(&p);
    queue_add(&q, &p);
    qdes_coalesce_set_features(q.c, &no_features);
    p = packet_after(&p);
    queue_add(&q, &p);
    qdes_coalesce_set_features(q.c, &all_features);
    p = packet_after(&p);
    queue_add(&q, &p);
    p = packet_after(&p);
    queue_add(&q, &p);
    ck_assert_uint_eq(queue_pop(&q), 2);
    ck_assert_uint_eq(queue_pop(&q), 1);
    ck_assert_uint_eq(queue_pop(&q), 2);
    ck_assert_uint_eq(queue_pop(&q), 0);
    queue_free(&q);
}
END_TEST

START_TEST(test_ecn_change)
{
    QdesCoalesceFeatures features = all_features;
    Packet p = packet_of(TCP4);
    Queue q = queue_new(&features);

    p.flags |= PACKET_CWR;
    queue_add(&q, &p);
    features.ecn = false;
    qdes_coalesce_set_features(q.c, &features);
    p = packet_after(&p);
    p.flags = PACKET_ACK;
    queue_add(&q, &p);
    ck_assert_uint_eq(queue_pop(&q), 1);
    ck_assert_uint_eq(queue_pop(&q), 1);
    queue_free(&q);
}
END_TEST

/* Finished and unfinished ones do not mix, later in the flow, too. */
START_TEST(test_partial_and_full)
{
    Kind kind = _i;
    Packet p = packet_of(kind);
    Queue q = queue_new(&all_features);
    int i;

    for (i = 0; i < 9; i++) {
        p.csum = i / 3 % 2 ? PACKET_PARTIAL : PACKET_FULL;
        queue_add(&q, &p);
        p = packet_after(&p);
    }
    for (i = 0; i < 3; i++) {
        ck_assert_uint_eq(queue_pop(&q), 3);
    }
    ck_assert_uint_eq(queue_pop(&q), 0);
    queue_free(&q);
}
END_TEST

/* Of what had a slot before, nothing is left. */
START_TEST(test_slots_are_used_again)
{
    Packet tcp = packet_of(TCP4);
    Packet udp = packet_of(UDP4);
    Queue q = queue_new(&all_features);
    int i;

    for (i = 0; i < 3 * QDES_COALESCE_QUEUE; i++) {
        queue_add(&q, &tcp);
        tcp = packet_after(&tcp);
        tcp.flags = PACKET_ACK | PACKET_PSH;
        queue_add(&q, &tcp);
        ck_assert_uint_eq(queue_pop(&q), 2);
        tcp = packet_after(&tcp);
        tcp.flags = PACKET_ACK;
        queue_add(&q, &tcp);
        /* Not looked at before. */
        qdes_coalesce_pop(q.c);
        tcp = packet_after(&tcp);
    }
    for (i = 0; i < QDES_COALESCE_FRAMES; i++) {
        queue_add(&q, &udp);
        udp = packet_after(&udp);
    }
    ck_assert_uint_eq(queue_pop(&q), QDES_COALESCE_FRAMES);
    ck_assert_uint_eq(queue_pop(&q), 0);
    queue_free(&q);
}
END_TEST

/* After a shorter frame, PSH and FIN comes another superframe. */
START_TEST(test_closing)
{
    static const uint8_t flags[] = {
        0, PACKET_PSH, PACKET_FIN, PACKET_FIN | PACKET_PSH,
    };
    Packet p = packet_of(TCP6);
    Queue q = queue_new(&all_features);
    int i;

    for (i = 0; i < 12; i++) {
        p.payload = i == 2 ? 50 : 100;
        p.flags = PACKET_ACK | (i % 3 == 2 ? flags[i / 3] : 0);
        ck_assert_int_eq(queue_add(&q, &p), QDES_COALESCE_TAKEN);
        p = packet_after(&p);
    }
    for (i = 0; i < 4; i++) {
        QdesSuperframe *s = qdes_coalesce_first(q.c);
        const uint8_t *headers = s->iov[1].iov_base;

        ck_assert_uint_eq(s->frames, 3);
        ck_assert_uint_eq(headers[14 + 40 + 13], PACKET_ACK | flags[i]);
        qdes_coalesce_pop(q.c);
    }
    ck_assert_ptr_null(qdes_coalesce_first(q.c));

    /* A frame longer than the others begins a new one. */
    for (i = 0; i < 6; i++) {
        p.payload = i < 3 ? 100 : 101;
        p.flags = PACKET_ACK;
        queue_add(&q, &p);
        p = packet_after(&p);
    }
    ck_assert_uint_eq(queue_pop(&q), 3);
    ck_assert_uint_eq(queue_pop(&q), 3);
    queue_free(&q);
}
END_TEST

/* What cannot be merged, still is in its place in the flow. */
START_TEST(test_order_in_flow)
{
    Packet p = packet_of(TCP4);
    Queue q = queue_new(&all_features);
    Packet ack;
    int i;

    for (i = 0; i < 4; i++) {
        queue_add(&q, &p);
        p = packet_after(&p);
        queue_add(&q, &p);
        p = packet_after(&p);
        ack = p;
        ack.payload = 0;
        ack.padding = i;
        ack.host = 1 + (i == 1); /* another flow */
        ack.csum = i == 2 ? PACKET_WRONG : PACKET_FULL;
        queue_add(&q, &ack);
    }
    ck_assert_uint_eq(queue_pop(&q), 2);
    ck_assert_uint_eq(queue_pop(&q), 1);
    ck_assert_uint_eq(queue_pop(&q), 4);
    ck_assert_uint_eq(queue_pop(&q), 1);
    ck_assert_uint_eq(queue_pop(&q), 1);
    ck_assert_uint_eq(queue_pop(&q), 2);
    ck_assert_uint_eq(queue_pop(&q), 1);
    ck_assert_uint_eq(queue_pop(&q), 0);
    queue_free(&q);
}
END_TEST

/* Frames of several flows find theirs; nothing passes a frame that is not
 * understood. */
START_TEST(test_interleaved)
{
    static const uint8_t arp[42] = { [12] = 0x08, 0x06 };
    Queue q = queue_new(&all_features);
    Packet p[6];
    int i, round;

    for (i = 0; i < 6; i++) {
        p[i] = packet_of(i % KINDS);
        p[i].host = i;
    }
    for (round = 0; round < 10; round++) {
        for (i = 0; i < 6; i++) {
            ck_assert_int_eq(queue_add(&q, &p[i]), QDES_COALESCE_TAKEN);
            p[i] = packet_after(&p[i]);
        }
        if (round == 6) {
            qdes_coalesce_add(q.c, arp, sizeof(arp), false, 0);
        }
    }
    for (i = 0; i < 6; i++) {
        ck_assert_uint_eq(queue_pop(&q), 7);
    }
    ck_assert_ptr_eq(qdes_coalesce_first(q.c)->iov[1].iov_base, arp);
    ck_assert_uint_eq(queue_pop(&q), 1);
    for (i = 0; i < 6; i++) {
        ck_assert_uint_eq(queue_pop(&q), 3);
    }
    ck_assert_uint_eq(queue_pop(&q), 0);
    queue_free(&q);
}
END_TEST

/* Full is full for new entries; what fits into an old one is taken. */
START_TEST(test_full)
{
    Queue q = queue_new(&all_features);
    Packet p = packet_of(TCP4);
    Packet other = packet_of(TCP6);
    Packet late;
    int i;

    for (i = 0; i < 3 * QDES_COALESCE_QUEUE; i++) {
        ck_assert_int_eq(queue_add(&q, &p), i < QDES_COALESCE_QUEUE ?
                         QDES_COALESCE_TAKEN : QDES_COALESCE_FULL);
        if (i >= QDES_COALESCE_QUEUE) {
            ck_assert_uint_eq(queue_pop(&q), 1);
            ck_assert_int_eq(queue_add(&q, &p), QDES_COALESCE_TAKEN);
        }
        p.port++;
    }
    p.port--;
    p = packet_after(&p);
    ck_assert_int_eq(queue_add(&q, &p), QDES_COALESCE_TAKEN);
    ck_assert_int_eq(queue_add(&q, &other), QDES_COALESCE_FULL);

    /* A frame that found no room has closed its flow's, and stays behind. */
    p = packet_after(&p);
    late = p;
    late.ack++;
    ck_assert_int_eq(queue_add(&q, &late), QDES_COALESCE_FULL);
    ck_assert_int_eq(queue_add(&q, &p), QDES_COALESCE_FULL);
    for (i = 1; i < QDES_COALESCE_QUEUE; i++) {
        ck_assert_uint_eq(queue_pop(&q), 1);
    }
    ck_assert_uint_eq(queue_pop(&q), 2);
    ck_assert_uint_eq(queue_pop(&q), 0);
    queue_free(&q);
}
END_TEST

/* What is about to leave is not appended to. */
START_TEST(test_first_is_closed)
{
    Queue q = queue_new(&all_features);
    Packet p = packet_of(UDP4);
    QdesSuperframe *s;
    char mine;

    ck_assert_ptr_null(qdes_coalesce_first(q.c));
    queue_add(&q, &p);
    p = packet_after(&p);
    queue_add(&q, &p);
    s = qdes_coalesce_first(q.c);
    s->iov[0] = (struct iovec) { &mine, 1 };
    p = packet_after(&p);
    queue_add(&q, &p);
    ck_assert_ptr_eq(qdes_coalesce_first(q.c), s);
    ck_assert_ptr_eq(s->iov[0].iov_base, &mine);
    ck_assert_uint_eq(queue_pop(&q), 2);
    ck_assert_uint_eq(qdes_coalesce_first(q.c)->iov[0].iov_len, 0);
    ck_assert_uint_eq(queue_pop(&q), 1);
    ck_assert_uint_eq(queue_pop(&q), 0);
    queue_free(&q);
}
END_TEST

START_TEST(test_limits)
{
    Kind kind = _i;
    Queue q = queue_new(&all_features);
    Packet p = packet_of(kind);
    size_t headers = tagged_headers(&p);
    unsigned i, n;

    for (i = 0; i < 2 * QDES_COALESCE_FRAMES + 1; i++) {
        queue_add(&q, &p);
        p = packet_after(&p);
    }
    ck_assert_uint_eq(queue_pop(&q), QDES_COALESCE_FRAMES);
    ck_assert_uint_eq(queue_pop(&q), QDES_COALESCE_FRAMES);
    ck_assert_uint_eq(queue_pop(&q), 1);

    p.tags = 2;
    p.payload = 1400;
    n = (QDES_COALESCE_MAX - headers) / p.payload;
    for (i = 0; i < n + 1; i++) {
        queue_add(&q, &p);
        p = packet_after(&p);
    }
    ck_assert_uint_eq(queue_pop(&q), n);
    ck_assert_uint_eq(queue_pop(&q), 1);
    queue_free(&q);
}
END_TEST

/* Byte by byte, of three frames. */
START_TEST(test_headers)
{
    Kind kind = _i;
    Packet p = packet_of(kind);
    uint8_t frame[3][PACKET_MAX];
    size_t size[3];
    QdesCoalescer *c = qdes_coalescer_new();
    uint8_t expected[256];
    QdesSuperframe *s;
    size_t l3, l4, head;
    unsigned i;

    qdes_coalesce_set_features(c, &all_features);
    p.tags = 1;
    p.vid = 5;
    p.id = 0xfffe;
    p.frag = 0;
    p.payload = 1448;
    p.options_size = p.udp ? 0 : 12;
    p.flags |= PACKET_CWR;
    for (i = 0; i < 3; i++) {
        if (i == 1) {
            p.flags &= ~PACKET_CWR;
        } else if (i == 2) {
            p.flags |= PACKET_PSH | PACKET_FIN;
            p.payload = 11;
        }
        size[i] = packet_write(&p, frame[i]);
        ck_assert_int_eq(qdes_coalesce_add(c, frame[i], size[i], false, 0),
                         QDES_COALESCE_TAKEN);
        p = packet_after(&p);
    }
    l3 = 18;
    l4 = l3 + (p.v6 ? 40 : 20);
    head = l4 + (p.udp ? 8 : 32);

    s = qdes_coalesce_first(c);
    ck_assert_uint_eq(s->frames, 3);
    ck_assert_uint_eq(s->size, head + 2 * 1448 + 11);
    ck_assert_uint_eq(s->frame_bytes, s->size + 2 * head);
    ck_assert_int_eq(s->iovcnt, 5);
    ck_assert_uint_eq(s->iov[0].iov_len, 0);
    ck_assert_uint_eq(s->iov[1].iov_len, head);
    for (i = 0; i < 3; i++) {
        ck_assert_ptr_eq(s->iov[2 + i].iov_base, frame[i] + head);
        ck_assert_uint_eq(s->iov[2 + i].iov_len, size[i] - head);
    }
    ck_assert(s->vnet.needs_csum && !s->vnet.csum_valid);
    ck_assert_uint_eq(s->vnet.gso, kind == TCP4 ? QDES_GSO_TCP4 :
                      kind == TCP6 ? QDES_GSO_TCP6 : QDES_GSO_UDP);
    ck_assert_uint_eq(s->vnet.ecn, !p.udp);
    ck_assert_uint_eq(s->vnet.gso_size, 1448);
    ck_assert_uint_eq(s->vnet.csum_start, l4);
    ck_assert_uint_eq(s->vnet.csum_offset, p.udp ? 6 : 16);
    ck_assert_uint_eq(s->vnet.hdr_len, head);

    memcpy(expected, frame[0], head);
    if (p.v6) {
        naive_put16(expected + l3 + 4, s->size - l4);
    } else {
        naive_put16(expected + l3 + 2, s->size - l3);
        naive_put16(expected + l3 + 10, 0);
        naive_put16(expected + l3 + 10,
                    (uint16_t)~naive_fold(naive_sum(expected + l3, 20)));
    }
    if (p.udp) {
        naive_put16(expected + l4 + 4, s->size - l4);
        naive_put16(expected + l4 + 6,
                    naive_pseudo(expected + l3, 17, s->size - l4));
    } else {
        expected[l4 + 13] = PACKET_ACK | PACKET_CWR | PACKET_PSH | PACKET_FIN;
        naive_put16(expected + l4 + 16,
                    naive_pseudo(expected + l3, 6, s->size - l4));
    }
    ck_assert_mem_eq(s->iov[1].iov_base, expected, head);
    qdes_coalescer_free(c);
}
END_TEST

/* A frame alone is passed on as it is; what it lacks is told. */
START_TEST(test_single)
{
    Kind kind = _i;
    Packet p = packet_of(kind);
    size_t l4 = 14 + (p.v6 ? 40 : 20);
    QdesCoalescer *c = qdes_coalescer_new();
    QdesVnet nothing = { 0 };
    uint8_t frame[PACKET_MAX];
    uint8_t copy[PACKET_MAX];
    QdesSuperframe *s;
    size_t size, head;
    int i;

    for (i = 0; i < 4; i++) {
        qdes_coalesce_set_features(c, i & 1 ? &all_features : &no_features);
        p.csum = i & 2 ? PACKET_PARTIAL : PACKET_WRONG;
        size = packet_write(&p, frame);
        qdes_coalesce_add(c, frame, size, i & 2, 0);
        s = qdes_coalesce_first(c);
        ck_assert_uint_eq(s->frames, 1);
        ck_assert_uint_eq(s->size, size);
        ck_assert_uint_eq(s->frame_bytes, size);
        ck_assert_int_eq(s->iovcnt, 2);
        ck_assert_ptr_eq(s->iov[1].iov_base, frame);
        ck_assert_uint_eq(s->iov[1].iov_len, size);
        if (i & 2) {
            ck_assert(s->vnet.needs_csum);
            ck_assert_uint_eq(s->vnet.gso, QDES_GSO_NONE);
            ck_assert_uint_eq(s->vnet.gso_size, 0);
            ck_assert_uint_eq(s->vnet.csum_start, l4);
            ck_assert_uint_eq(s->vnet.csum_offset, p.udp ? 6 : 16);
        } else {
            ck_assert_mem_eq(&s->vnet, &nothing, sizeof(nothing));
        }
        qdes_coalesce_pop(c);
    }

    /* Padding is no part of what is summed up. */
    p.port = zero_sum_port(kind);
    p.padding = 7;
    size = packet_write(&p, frame);
    qdes_coalesce_add(c, frame, size, true, 0);
    s = qdes_coalesce_first(c);
    ck_assert_uint_eq(s->size, size);
    ck_assert_int_eq(s->iovcnt, 3);
    ck_assert_mem_eq(&s->vnet, &nothing, sizeof(nothing));
    p.csum = PACKET_FULL;
    packet_write(&p, copy);
    head = size - 107;
    ck_assert_uint_eq(s->iov[1].iov_len, head);
    ck_assert_mem_eq(s->iov[1].iov_base, copy, head);
    ck_assert_ptr_eq(s->iov[2].iov_base, frame + head);
    ck_assert_uint_eq(s->iov[2].iov_len, 107);
    qdes_coalescer_free(c);
    qdes_coalescer_free(NULL);
}
END_TEST

START_TEST(test_bad)
{
    static const uint8_t arp[42] = { [12] = 0x08, 0x06 };
    Queue q = queue_new(&all_features);
    Packet p = packet_of(TCP4);

    ck_assert_int_eq(qdes_coalesce_add(q.c, arp, sizeof(arp), true, 0),
                     QDES_COALESCE_BAD);
    ck_assert_ptr_null(qdes_coalesce_first(q.c));

    /* It leaves no trace. */
    queue_add(&q, &p);
    qdes_coalesce_add(q.c, arp, sizeof(arp), true, 0);
    p = packet_after(&p);
    queue_add(&q, &p);
    ck_assert_uint_eq(queue_pop(&q), 2);
    ck_assert_uint_eq(queue_pop(&q), 0);
    queue_free(&q);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("coalesce-queue");
    TCase *tc = tcase_create("coalesce-queue");

    tcase_add_test(tc, test_features_change);
    tcase_add_test(tc, test_ecn_change);
    tcase_add_loop_test(tc, test_partial_and_full, 0, KINDS);
    tcase_add_test(tc, test_slots_are_used_again);
    tcase_add_test(tc, test_closing);
    tcase_add_test(tc, test_order_in_flow);
    tcase_add_test(tc, test_interleaved);
    tcase_add_test(tc, test_full);
    tcase_add_test(tc, test_first_is_closed);
    tcase_add_loop_test(tc, test_limits, 0, KINDS);
    tcase_add_loop_test(tc, test_headers, 0, KINDS);
    tcase_add_loop_test(tc, test_single, 0, KINDS);
    tcase_add_test(tc, test_bad);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
