/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Coalescing: each rule by an example; and random traffic, of which the
 * superframes are cut again.
 */

#include "unit.h"
#include "coalesce-check.h"

static const QdesCoalesceFeatures all_features = {
    true, true, true, true, true,
};

static const QdesCoalesceFeatures no_features;

typedef enum Kind { TCP4, UDP4, TCP6, UDP6, KINDS } Kind;

static Packet packet_of(Kind kind)
{
    Packet p = { PACKET_DEFAULT };

    p.v6 = kind >= TCP6;
    p.udp = kind == UDP4 || kind == UDP6;
    return p;
}

/* The one that follows. */
static Packet packet_after(const Packet *p)
{
    Packet next = *p;

    next.seq += p->payload;
    next.id++;
    return next;
}

static bool is_partial(const Packet *p)
{
    return p->csum == PACKET_PARTIAL || p->csum == PACKET_WRONG_PARTIAL;
}

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

/* The source port with which the checksum of a default packet is 0. */
static uint16_t zero_sum_port(Kind kind)
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
    size_t headers = 14 + 8 + (p.v6 ? 40 : 20) + (p.udp ? 8 : 20);
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

    /* To the byte. */
    n = QDES_COALESCE_MAX - headers - 40000;
    TOGETHER(kind, a.tags = 2; a.payload = 40000, b.payload = n);
    APART(kind, a.tags = 2; a.payload = 40000, b.payload = n + 1);
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

/* Random traffic. */

#define FLOWS 8

static int dice(GRand *rand, int sides)
{
    return g_rand_int_range(rand, 0, sides);
}

static Packet random_flow(GRand *rand, int i)
{
    static const unsigned sizes[] = { 1, 2, 7, 100, 536, 1448, 9000 };
    Packet p = packet_of(dice(rand, KINDS));
    unsigned n;

    p.host = 1 + dice(rand, 2);
    p.port = 1000 + i / 2;
    p.tags = dice(rand, 4) ? 0 : 1 + dice(rand, 2);
    p.vid = dice(rand, 2);
    p.id = g_rand_int(rand);
    p.frag = dice(rand, 2) ? 0x4000 : 0;
    p.seq = g_rand_int(rand);
    p.payload = sizes[dice(rand, G_N_ELEMENTS(sizes))];
    p.csum = dice(rand, 2) ? PACKET_PARTIAL : PACKET_FULL;
    p.options_size = p.udp ? 0 : 4 * dice(rand, 5);
    for (n = 0; n < p.options_size; n++) {
        p.options[n] = g_rand_int(rand);
    }
    return p;
}

/* Something is unusual about one frame, or about all that follow. */
static void disturb(GRand *rand, Packet *flow, Packet *p)
{
    Packet *q = dice(rand, 2) ? flow : p;

    switch (dice(rand, 24)) {
    case 0:
        p->payload = 0;
        break;
    case 1:
        p->payload = 1 + dice(rand, p->payload + 5);
        break;
    case 2:
        p->padding = dice(rand, 40);
        break;
    case 3:
        p->csum = dice(rand, 5);
        break;
    case 4:
        p->flags = g_rand_int(rand);
        break;
    case 5:
        p->flags |= PACKET_PSH;
        break;
    case 6:
        p->flags |= PACKET_FIN;
        break;
    case 7:
        p->flags |= PACKET_CWR;
        break;
    case 8:
        q->flags ^= PACKET_ECE;
        break;
    case 9:
        q->ttl ^= 1;
        break;
    case 10:
        q->tos ^= 3;
        break;
    case 11:
        q->label ^= 0x80001;
        break;
    case 12:
        q->ack++;
        break;
    case 13:
        q->window++;
        break;
    case 14:
        q->options[dice(rand, 40)]++;
        break;
    case 15:
        q->options_size = p->udp ? 0 : 4 * dice(rand, 11);
        break;
    case 16:
        q->frag ^= 0x4000;
        break;
    case 17:
        p->frag = g_rand_int(rand);
        break;
    case 18:
        q->id = g_rand_int(rand);
        break;
    case 19:
        p->ip_options = 4 * dice(rand, 11);
        break;
    case 20:
        p->ext = 8 * dice(rand, 4);
        break;
    case 21:
        p->wrong_ip_sum = true;
        break;
    case 22:
        q->mac ^= 1;
        break;
    case 23:
        q->vid ^= 1;
        break;
    }
}

/* Frames as they arrive: some are lost, come twice, or overtake others. */
static unsigned random_traffic(GRand *rand, CheckFrame *in, uint8_t *buf)
{
    unsigned n = 1 + dice(rand, 160);
    unsigned flows = 1 + dice(rand, FLOWS);
    int trouble = dice(rand, 3) ? 1 + dice(rand, 30) : 1 << 20;
    int burst = 1 + dice(rand, 40);
    Packet flow[FLOWS];
    CheckFrame swapped;
    unsigned i, j, f = 0;
    uint8_t *frame;
    Packet p;

    for (i = 0; i < flows; i++) {
        flow[i] = random_flow(rand, i);
    }
    for (i = 0; i < n; i++) {
        if (dice(rand, burst) == 0) {
            f = dice(rand, flows);
        }
        p = flow[f];
        flow[f] = packet_after(&p);
        if (dice(rand, trouble) == 0) {
            disturb(rand, &flow[f], &p);
            flow[f].seq = p.seq + p.payload;
        }
        in[i].frame = buf;
        in[i].size = packet_write(&p, buf);
        in[i].partial = is_partial(&p);
        in[i].last = dice(rand, 100) == 0;
        frame = buf;
        buf += in[i].size;
        switch (dice(rand, trouble + 5)) {
        case 0:
            flow[f].seq += p.payload;
            break;
        case 1:
            flow[f] = p;
            break;
        case 2:
            j = dice(rand, i + 1);
            swapped = in[i];
            in[i] = in[j];
            in[j] = swapped;
            break;
        case 3:
            /* Nothing that is understood. */
            frame[naive_l3(frame) - 2] ^= 0x40;
            break;
        }
    }
    return n;
}

START_TEST(test_random)
{
    GRand *rand = unit_rand("test_random");
    uint8_t *buf = g_malloc(CHECK_FRAMES_MAX * 9200);
    CheckFrame in[CHECK_FRAMES_MAX];
    QdesCoalesceFeatures features;
    unsigned frames = 0, merged = 0;
    unsigned n, superframes;
    const char *failure;
    int round;

    for (round = 0; round < 3000; round++) {
        n = random_traffic(rand, in, buf);
        features = all_features;
        if (dice(rand, 4) == 0) {
            features.tcp4 = dice(rand, 2);
            features.tcp6 = dice(rand, 2);
            features.udp4 = dice(rand, 2);
            features.udp6 = dice(rand, 2);
            features.ecn = dice(rand, 2);
        }
        failure = coalesce_check(in, n, &features, &superframes);
        ck_assert_msg(!failure, "round %d: %s", round, failure);
        frames += n;
        merged += superframes;
    }
    /* It is not that nothing was ever merged. */
    ck_assert_uint_gt(merged, frames / 40);
    g_free(buf);
    g_rand_free(rand);
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
    tcase_add_test(tc, test_random);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
