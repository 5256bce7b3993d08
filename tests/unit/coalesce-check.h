/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What must hold of the coalescer for whatever frames it is given
 *
 * coalesce_check() hands frames to a coalescer, cuts what comes out, naively
 * and by the segmenter, and compares that with what went in: of each flow the
 * same frames in the same order, nothing merged across what is not
 * understood, all bytes the same but IPv4 identifications that mean nothing.
 */

#ifndef QDES_COALESCE_CHECK_H
#define QDES_COALESCE_CHECK_H

#include "packets.h"

#include "qdes/coalesce.h"
#include "qdes/segment.h"

#define CHECK_FRAMES_MAX 512

typedef struct CheckFrame {
    const uint8_t *frame;
    size_t size;
    bool partial;
    bool last;                  /* of its batch */
} CheckFrame;

typedef struct Check {
    const CheckFrame *in;
    const QdesCoalesceFeatures *features;
    QdesPacket packet[CHECK_FRAMES_MAX];
    bool known[CHECK_FRAMES_MAX];
    bool gone[CHECK_FRAMES_MAX]; /* came out, or was refused */
    unsigned added;
    unsigned superframes;       /* that came out, of several frames each */
    uint8_t whole[PACKET_MAX];
    uint8_t cut[PACKET_MAX + QDES_COALESCE_FRAMES * QDES_HEADERS_MAX];
    uint8_t a[PACKET_MAX], b[PACKET_MAX];
} Check;

static inline bool check_same_flow(const uint8_t *a, const QdesPacket *pa,
                                   const uint8_t *b, const QdesPacket *pb)
{
    return pa->v6 == pb->v6 && pa->proto == pb->proto &&
           memcmp(a + pa->l4, b + pb->l4, 4) == 0 &&
           (pa->v6 ? memcmp(a + pa->l3 + 8, b + pb->l3 + 8, 32) == 0
                   : memcmp(a + pa->l3 + 12, b + pb->l3 + 12, 8) == 0);
}

/* A copy with the checksum finished, in the one form of zero. */
static inline void check_finish(uint8_t *copy, const uint8_t *frame,
                                size_t size, const QdesPacket *p,
                                bool partial)
{
    uint8_t *l4 = copy + p->l4;
    uint8_t *field = l4 + (p->proto == IPPROTO_UDP ? 6 : 16);
    uint16_t sum;

    memcpy(copy, frame, size);
    if (partial) {
        sum = ~naive_fold(naive_sum(l4, p->end - p->l4));
        naive_put16(field, sum ? sum : 0xffff);
    } else if (p->proto == IPPROTO_TCP && naive_get16(field) == 0) {
        naive_put16(field, 0xffff);
    }
}

/* Is @frame, finished, what came in as number @i? */
static inline bool check_same(Check *k, unsigned i, const uint8_t *frame,
                              size_t size, bool merged)
{
    const QdesPacket *p = &k->packet[i];
    const CheckFrame *in = &k->in[i];

    if (size != in->size) {
        return false;
    }
    if (!k->known[i]) {
        return memcmp(frame, in->frame, size) == 0;
    }
    check_finish(k->a, frame, size, p, false);
    check_finish(k->b, in->frame, size, p, in->partial);
    if (merged && !p->v6 && (in->frame[p->l3 + 6] & 0x40)) {
        memset(k->a + p->l3 + 4, 0, 2);
        memset(k->b + p->l3 + 4, 0, 2);
        memset(k->a + p->l3 + 10, 0, 2);
        memset(k->b + p->l3 + 10, 0, 2);
    }
    return memcmp(k->a, k->b, size) == 0;
}

/* The number of the frame that has to be next after those that are gone, of
 * all or of the flow that @frame belongs to; -1: there is none. */
static inline int check_next(const Check *k, const uint8_t *frame, size_t size)
{
    QdesPacket p;
    bool known = qdes_packet_find(&p, frame, size, size, false);
    unsigned i;

    for (i = 0; i < k->added; i++) {
        if (k->gone[i]) {
            continue;
        }
        if (!known || !k->known[i]) {
            return known == k->known[i] ? (int)i : -1;
        }
        if (check_same_flow(frame, &p, k->in[i].frame, &k->packet[i])) {
            return i;
        }
    }
    return -1;
}

static inline bool check_is_accepted(const Check *k, const QdesVnet *vnet,
                                     const QdesPacket *p)
{
    if (p->proto == IPPROTO_UDP) {
        return vnet->gso == QDES_GSO_UDP &&
               (p->v6 ? k->features->udp6 : k->features->udp4) && !vnet->ecn;
    }
    return vnet->gso == (p->v6 ? QDES_GSO_TCP6 : QDES_GSO_TCP4) &&
           (p->v6 ? k->features->tcp6 : k->features->tcp4) &&
           (!vnet->ecn || k->features->ecn);
}

/* Does the segmenter make of @s the @n frames that are joined in k->cut? */
static inline bool check_segmenter(Check *k, const QdesSuperframe *s,
                                   const size_t *sizes, unsigned n)
{
    struct iovec payload[1 + QDES_COALESCE_FRAMES];
    const uint8_t *cut = k->cut;
    QdesSegmenter segmenter;
    size_t size, at;
    unsigned i;
    int j, count;

    if (qdes_segment_begin(&segmenter, &s->vnet, s->iov + 1, s->iovcnt - 1,
                           s->size, SIZE_MAX, false, 0) != QDES_SEGMENT_CUT ||
        segmenter.frames != n) {
        return false;
    }
    for (i = 0; i < n; i++) {
        size = qdes_segment_next(&segmenter, k->a, payload,
                                 G_N_ELEMENTS(payload), &count);
        if (size != sizes[i]) {
            return false;
        }
        at = segmenter.headers_size;
        for (j = 0; j < count; j++) {
            memcpy(k->a + at, payload[j].iov_base, payload[j].iov_len);
            at += payload[j].iov_len;
        }
        if (memcmp(k->a, cut, size) != 0) {
            return false;
        }
        cut += size;
    }
    return true;
}

static inline const char *check_one(Check *k, const QdesSuperframe *s)
{
    static const QdesVnet nothing;
    int i = check_next(k, k->whole, s->size);
    const QdesVnet *v = &s->vnet;

    if (i < 0) {
        return "a frame came out of order";
    }
    k->gone[i] = true;
    if (!v->needs_csum) {
        return memcmp(v, &nothing, sizeof(*v)) != 0
               ? "a frame that lacks nothing has a virtio_net_hdr"
               : k->in[i].partial && k->packet[i].end == s->size
               ? "an unfinished frame became a finished one"
               : !check_same(k, i, k->whole, s->size, false)
               ? "a frame changed" : NULL;
    }
    if (!k->in[i].partial || v->gso || v->gso_size || v->ecn ||
        v->csum_valid || v->csum_start != k->packet[i].l4 ||
        v->csum_start + v->csum_offset !=
        qdes_packet_csum_field(&k->packet[i]) ||
        k->packet[i].end != s->size) {
        return "an unfinished frame's virtio_net_hdr is wrong";
    }
    if (s->size != k->in[i].size ||
        memcmp(k->whole, k->in[i].frame, s->size) != 0) {
        return "an unfinished frame changed";
    }
    check_finish(k->cut, k->whole, s->size, &k->packet[i], true);
    return check_segmenter(k, s, &s->size, 1) ? NULL
           : "the segmenter makes something else of an unfinished frame";
}

static inline const char *check_many(Check *k, const QdesSuperframe *s)
{
    const QdesVnet *v = &s->vnet;
    size_t sizes[QDES_COALESCE_FRAMES];
    const uint8_t *cut = k->cut;
    size_t bytes = 0;
    QdesPacket p;
    unsigned i, n;
    int next;

    k->superframes++;
    /* Its own lengths are those of the whole. */
    if (s->frames > QDES_COALESCE_FRAMES || s->size > QDES_COALESCE_MAX ||
        !qdes_packet_find(&p, k->whole, s->size, s->size, false) ||
        p.end != s->size) {
        return "a superframe's lengths are wrong";
    }
    if (!check_is_accepted(k, v, &p) || !v->needs_csum || v->csum_valid ||
        v->csum_start != p.l4 || v->hdr_len != p.payload ||
        v->csum_start + v->csum_offset != qdes_packet_csum_field(&p) ||
        v->gso_size == 0 ||
        (s->size - p.payload - 1) / v->gso_size + 1 != s->frames) {
        return "a superframe's virtio_net_hdr is wrong";
    }
    if (naive_get16(k->whole + v->csum_start + v->csum_offset) !=
        naive_pseudo(k->whole + p.l3, p.proto, s->size - p.l4) ||
        (!p.v6 && naive_fold(naive_sum(k->whole + p.l3, 20)) != 0xffff)) {
        return "a superframe's sums are wrong";
    }
    if (p.proto == IPPROTO_TCP &&
        v->ecn != !!(k->whole[p.l4 + 13] & PACKET_CWR)) {
        return "a superframe's CWR is not told";
    }
    n = naive_segment(k->whole, s->size, v, k->cut, sizes);
    for (i = 0; i < n; i++) {
        next = check_next(k, cut, sizes[i]);
        if (next < 0) {
            return "a frame came out of order, cut from a superframe";
        }
        k->gone[next] = true;
        if (!check_same(k, next, cut, sizes[i], true)) {
            return "a frame changed, cut from a superframe";
        }
        bytes += sizes[i];
        cut += sizes[i];
    }
    if (bytes != s->frame_bytes) {
        return "a superframe's frame_bytes are wrong";
    }
    return check_segmenter(k, s, sizes, n) ? NULL
           : "the segmenter makes something else of a superframe";
}

static inline const char *check_take(Check *k, QdesCoalescer *c)
{
    QdesSuperframe *s = qdes_coalesce_first(c);
    const char *failure;
    size_t size = 0;
    int i;

    if (s->iov[0].iov_len != 0 || s->iovcnt < 2 ||
        s->iovcnt > (int)G_N_ELEMENTS(s->iov) || s->size > PACKET_MAX) {
        return "an iovec is wrong";
    }
    for (i = 1; i < s->iovcnt; i++) {
        if (size + s->iov[i].iov_len > s->size) {
            return "an iovec is too long";
        }
        memcpy(k->whole + size, s->iov[i].iov_base, s->iov[i].iov_len);
        size += s->iov[i].iov_len;
    }
    if (size != s->size || s->frames == 0) {
        return "a superframe's size is not that of its iovec";
    }
    if (qdes_coalesce_first(c) != s) {
        return "the first one changes";
    }
    failure = s->frames == 1 ? check_one(k, s) : check_many(k, s);
    qdes_coalesce_pop(c);
    return failure;
}

/*
 * Coalesce @n frames, at most CHECK_FRAMES_MAX.  Returns what is wrong, or
 * NULL; *@superframes is the number of those made of several frames.
 */
static inline const char *coalesce_check(const CheckFrame *in, unsigned n,
                                         const QdesCoalesceFeatures *features,
                                         unsigned *superframes)
{
    QdesCoalescer *c = qdes_coalescer_new();
    Check *k = g_new(Check, 1);
    const char *failure = NULL;
    QdesCoalesceResult result;
    unsigned i, j;
    bool last;

    k->in = in;
    k->features = features;
    k->superframes = 0;
    memset(k->gone, 0, sizeof(k->gone));
    qdes_coalesce_set_features(c, features);
    for (i = 0; i < n && !failure; i++) {
        k->added = i;
        k->known[i] = qdes_packet_find(&k->packet[i], in[i].frame, in[i].size,
                                       in[i].size, false);
        do {
            result = qdes_coalesce_add(c, in[i].frame, in[i].size,
                                       in[i].partial, 0);
            if (result == QDES_COALESCE_FULL) {
                failure = check_take(k, c);
            }
        } while (result == QDES_COALESCE_FULL && !failure);
        if ((result == QDES_COALESCE_BAD) !=
            (in[i].partial && !k->known[i])) {
            failure = "the wrong frame is bad";
        }
        k->gone[i] = result == QDES_COALESCE_BAD;
        k->added = i + 1;
        last = in[i].last || i + 1 == n;
        while (last && !failure && qdes_coalesce_first(c)) {
            failure = check_take(k, c);
        }
        for (j = 0; last && j <= i && !failure; j++) {
            failure = k->gone[j] ? NULL : "a frame is missing";
        }
    }
    *superframes = k->superframes;
    g_free(k);
    qdes_coalescer_free(c);
    return failure;
}

#endif
