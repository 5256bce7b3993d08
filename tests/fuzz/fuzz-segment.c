/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing the segmenter: what is cut holds together, is what a naive
 * segmenter makes of it, and can be coalesced again.  What is cut to smaller
 * superframes is cut by who gets them to what it would have been cut to at
 * once; and anything at all may come as a superframe.
 */

#include "fuzz.h"
#include "../unit/coalesce-check.h"

#include "qdes/config.h"
#include "qdes/segment.h"

#define FRAMES 300              /* more are not looked at */
#define PIECES 8

enum {
    OP_V6 = 1 << 0,
    OP_UDP = 1 << 1,
    OP_CSUM = 1 << 2,           /* unfinished */
    OP_GSO = 1 << 3,            /* a superframe */
    OP_PARTIAL = 1 << 4,        /* unfinished checksums are accepted */
    OP_CHANGE = 1 << 5,
    OP_POKE = 1 << 6,           /* of the frame */
    OP_POKE_VNET = 1 << 7,
};

/* A frame to be cut, and what came of it. */
typedef struct Cut {
    QdesVnet vnet;
    uint8_t whole[PACKET_MAX];
    size_t size;
    uint8_t *piece[PIECES];     /* each of exactly its size */
    struct iovec iov[PIECES];
    int iovcnt;
    size_t max_frame;
    QdesSegmenter s;

    unsigned frames;
    uint8_t *frame[FRAMES];
    size_t sizes[FRAMES];
} Cut;

static void check(bool ok, const char *what)
{
    if (!ok) {
        fuzz_failed(what);
    }
}

static void make_frame(Cut *k, Input *in, uint8_t op)
{
    Packet p = { PACKET_DEFAULT };
    unsigned n;

    p.v6 = op & OP_V6;
    p.udp = op & OP_UDP;
    p.csum = op & OP_CSUM ? PACKET_PARTIAL : PACKET_FULL;
    p.payload = input_u16(in);
    for (n = op & OP_CHANGE ? 1 + input_byte(in) % 4 : 0; n > 0; n--) {
        input_change(in, &p, input_byte(in));
    }
    k->size = packet_write(&p, k->whole);
    if (op & OP_POKE) {
        input_poke(in, k->whole, k->size);
    }

    k->vnet.gso_size = input_u16(in);
    k->vnet.needs_csum = op & OP_CSUM;
    if (op & OP_GSO) {
        k->vnet.gso = p.udp ? QDES_GSO_UDP
                            : p.v6 ? QDES_GSO_TCP6 : QDES_GSO_TCP4;
    }
    k->vnet.csum_start = 14 + 4 * p.tags +
                         (p.v6 ? 40 + p.ext : 20 + p.ip_options);
    k->vnet.csum_offset = p.udp ? 6 : 16;
    if (op & OP_POKE_VNET) {
        switch (input_byte(in) % 5) {
        case 0:
            k->vnet.csum_start = input_u16(in);
            break;
        case 1:
            k->vnet.csum_offset = input_u16(in);
            break;
        case 2:
            k->vnet.gso = input_byte(in);
            break;
        case 3:
            k->vnet.needs_csum ^= true;
            break;
        case 4:
            /* The same field, of something else. */
            n = input_byte(in);
            k->vnet.csum_start += n;
            k->vnet.csum_offset -= n;
            break;
        }
    }
}

/* Some of the pieces may be empty. */
static void make_pieces(Cut *k, Input *in)
{
    int n = 1 + input_byte(in) % PIECES;
    size_t done = 0;
    size_t size;
    int i;

    for (i = 0; i < n; i++) {
        size = input_byte(in);
        if (size & 1) {
            size = input_u16(in);
        }
        if (size > k->size - done || i + 1 == n) {
            size = k->size - done;
        }
        k->piece[i] = g_malloc(MAX(size, 1));
        memcpy(k->piece[i], k->whole + done, size);
        k->iov[i] = (struct iovec) { k->piece[i], size };
        done += size;
    }
    k->iovcnt = n;
}

/* The sizes that matter, and any. */
static size_t make_max_frame(Input *in)
{
    static const size_t sizes[] = { SIZE_MAX, 65549, 1514, 1518, 600, 60, 0 };
    unsigned n = input_byte(in);

    return n < G_N_ELEMENTS(sizes) ? sizes[n] : input_u16(in);
}

static void take_frames(Cut *k, int few)
{
    uint8_t *headers = g_malloc(k->s.headers_size);
    struct iovec payload[PIECES];
    unsigned left;
    size_t size, at;
    int count, i;

    while (k->s.frames > 0 && k->frames < FRAMES) {
        left = k->s.frames;
        size = qdes_segment_next(&k->s, headers, payload, few, &count);
        if (size == 0) {
            check(k->s.frames == left, "a frame is lost");
            size = qdes_segment_next(&k->s, headers, payload, PIECES, &count);
        }
        check(size > 0 && k->s.frames == left - 1, "a frame is not taken");
        check(size == k->s.frame_size ||
              (k->s.frames == 0 && size < k->s.frame_size),
              "a frame has the wrong size");

        k->frame[k->frames] = g_malloc(size);
        k->sizes[k->frames] = size;
        memcpy(k->frame[k->frames], headers, k->s.headers_size);
        at = k->s.headers_size;
        for (i = 0; i < count; i++) {
            check(payload[i].iov_len > 0, "a piece is empty");
            check(at + payload[i].iov_len <= size, "pieces are too long");
            memcpy(k->frame[k->frames] + at, payload[i].iov_base,
                   payload[i].iov_len);
            at += payload[i].iov_len;
        }
        check(at == size, "pieces are too short");
        k->frames++;
    }
    g_free(headers);
}

/* What is said of the whole packet: its own end, or that of the frame. */
static bool find(const Cut *k, QdesPacket *p)
{
    return qdes_packet_find(p, k->whole, k->size, k->size,
                            k->vnet.gso != QDES_GSO_NONE);
}

/* Nothing but the checksum may have changed. */
static void check_plain(Cut *k)
{
    size_t field = k->vnet.csum_start + k->vnet.csum_offset;
    size_t end = k->size;
    QdesPacket p;
    uint16_t sum;

    check(k->frames == 1 && k->sizes[0] == k->size, "a frame changed size");
    check(k->vnet.needs_csum, "a frame that lacked nothing was cut");
    if (find(k, &p) && p.l4 == k->vnet.csum_start &&
        qdes_packet_csum_field(&p) == field) {
        end = p.end;
    } else {
        check(!k->s.partial, "nobody can finish this checksum");
    }
    if (!k->s.partial) {
        sum = ~naive_fold(naive_sum(k->whole + k->vnet.csum_start,
                                    end - k->vnet.csum_start));
        naive_put16(k->whole + field, sum ? sum : 0xffff);
    }
    check(memcmp(k->whole, k->frame[0], k->size) == 0, "a frame changed");
}

/* Each frame alone is a good one. */
static void check_frame(Cut *k, unsigned i, const QdesPacket *whole)
{
    uint8_t *frame = k->frame[i];
    QdesPacket p;
    uint16_t field, sum;

    check(qdes_packet_find(&p, frame, k->sizes[i], k->sizes[i], false),
          "a frame is no packet");
    check(p.end == k->sizes[i] && p.payload == whole->payload &&
          p.l4 == whole->l4 && p.proto == whole->proto,
          "a frame's lengths are wrong");
    /* Some cannot be cut smaller than they came. */
    check(k->sizes[i] <= k->max_frame || k->max_frame <= p.payload ||
          p.proto == IPPROTO_UDP ||
          (k->frames == 1 &&
           frame[p.l4 + 13] & (PACKET_SYN | PACKET_RST)),
          "a frame is too large");
    if (!p.v6) {
        check(naive_fold(naive_sum(frame + p.l3, p.l4 - p.l3)) == 0xffff,
              "a frame's IPv4 checksum is wrong");
    }
    field = naive_get16(frame + qdes_packet_csum_field(&p));
    sum = naive_pseudo(frame + p.l3, p.proto, p.end - p.l4);
    if (k->s.partial) {
        check(field == sum, "a frame's unfinished checksum is wrong");
    } else {
        check(field != 0 &&
              naive_fold(sum + naive_sum(frame + p.l4, p.end - p.l4)) ==
              0xffff, "a frame's checksum is wrong");
    }
}

/* Cut a superframe as its receiver does, by what came with it.  Returns the
 * size of the packets, which are joined in @out; 0: it is none. */
static size_t receive(const uint8_t *frame, size_t size,
                      uint16_t segment_size, uint8_t *out)
{
    uint8_t headers[QDES_HEADERS_MAX];
    uint8_t *copy = g_malloc(size);
    struct iovec iov = { copy, size };
    struct iovec payload = { NULL, 0 };
    QdesSegmenter s;
    QdesVnet vnet;
    size_t done = 0;
    size_t part;
    int count;
    bool v6;

    memcpy(copy, frame, size);
    if (!qdes_segment_describe(&vnet, &v6, copy, size, segment_size)) {
        g_free(copy);
        return 0;
    }
    check(vnet.needs_csum && vnet.csum_start + vnet.csum_offset + 2U <= size,
          "a checksum is outside of the frame");
    check(qdes_segment_begin(&s, &vnet, &iov, 1, size, QDES_FRAME_MAX, false,
                             0) == QDES_SEGMENT_CUT, "it cannot be cut");
    check(s.frames <= QDES_SEGMENT_PACKETS, "it is too many packets");
    while (s.frames > 0) {
        part = qdes_segment_next(&s, headers, &payload, 1, &count);
        check(part > 0 && part <= size, "a packet has the wrong size");
        memcpy(out + done, headers, s.headers_size);
        if (count) {
            memcpy(out + done + s.headers_size, payload.iov_base,
                   payload.iov_len);
        }
        done += part;
    }
    g_free(copy);
    return done;
}

/* Without URG, the urgent pointer means nothing. */
static bool has_urgent(const Cut *k)
{
    QdesPacket p;

    return find(k, &p) && p.proto == IPPROTO_TCP &&
           k->whole[p.l4 + 13] & PACKET_URG;
}

/* To cut to superframes, and those to packets, is to cut once. */
static void check_twice(Cut *k, size_t max_super)
{
    uint8_t headers[QDES_HEADERS_MAX];
    struct iovec payload[PIECES];
    uint8_t *twice = g_malloc(4 * PACKET_MAX);
    uint8_t *super = g_malloc(PACKET_MAX);
    QdesSegmenter s;
    size_t done = 0;
    size_t size, at, part;
    unsigned i;
    int count, j;

    check(qdes_segment_begin(&s, &k->vnet, k->iov, k->iovcnt, k->size,
                             k->max_frame, true, max_super) ==
          QDES_SEGMENT_CUT, "with superframes, it is not cut");
    while (s.segment_size && s.frames > 0 && done < 2 * PACKET_MAX) {
        size = qdes_segment_next(&s, headers, payload, PIECES, &count);
        check(size > 0 && size <= max_super, "a superframe is too long");
        memcpy(super, headers, s.headers_size);
        for (j = 0, at = s.headers_size; j < count; j++) {
            memcpy(super + at, payload[j].iov_base, payload[j].iov_len);
            at += payload[j].iov_len;
        }
        check(at == size, "a superframe's pieces are not its size");
        part = receive(super, size, s.segment_size, twice + done);
        check(part > 0, "nobody takes this superframe");
        done += part;
    }
    for (i = 0, at = 0; i < k->frames && at + k->sizes[i] <= done; i++) {
        check(memcmp(twice + at, k->frame[i], k->sizes[i]) == 0,
              "cut twice, a frame differs");
        at += k->sizes[i];
    }
    g_free(twice);
    g_free(super);
}

static void check_cut(Cut *k)
{
    size_t *sizes = g_new(size_t, PACKET_MAX);
    uint8_t *naive = NULL;
    uint8_t *a = g_malloc(PACKET_MAX);
    QdesVnet vnet = { 0 };
    QdesPacket p;
    size_t done, part;
    unsigned i, n;

    check(find(k, &p), "no packet was cut");
    check(p.payload == k->s.headers_size, "the headers' size is wrong");
    check(!k->vnet.needs_csum ||
          (k->vnet.csum_start == p.l4 && k->vnet.csum_start +
           k->vnet.csum_offset == qdes_packet_csum_field(&p)),
          "a frame was cut whose checksum is elsewhere");
    done = p.payload;
    for (i = 0; i < k->frames; i++) {
        check_frame(k, i, &p);
        part = k->sizes[i] - p.payload;
        check(done + part <= p.end &&
              memcmp(k->whole + done, k->frame[i] + p.payload, part) == 0,
              "payload changed");
        done += part;
    }
    check(k->s.frames > 0 || done == p.end, "payload is missing");

    /* Urgent data goes on being so in a way of its own. */
    vnet.gso_size = k->s.frame_size - p.payload;
    if (k->s.frames == 0 && vnet.gso_size > 0 &&
        !(p.proto == IPPROTO_TCP && k->whole[p.l4 + 13] & PACKET_URG)) {
        vnet.csum_start = p.l4;
        vnet.gso = p.proto == IPPROTO_UDP ? QDES_GSO_UDP : QDES_GSO_TCP4;
        naive = g_malloc(p.end + k->frames * QDES_HEADERS_MAX);
        n = naive_segment(k->whole, p.end, &vnet, naive, sizes);
        check(n == k->frames, "naively, there are more or fewer frames");
        for (i = 0, done = 0; i < n; done += sizes[i++]) {
            check(sizes[i] == k->sizes[i], "naively, sizes differ");
            check_finish(a, k->frame[i], sizes[i], &p, false);
            if (k->s.partial) {
                naive_put16(a + qdes_packet_csum_field(&p),
                            naive_csum(a + p.l3, a + p.l4, p.proto,
                                       sizes[i] - p.l4));
            }
            check(memcmp(a, naive + done, sizes[i]) == 0,
                  "naively, a frame differs");
        }
    }
    g_free(a);
    g_free(naive);
    g_free(sizes);
}

/* The first ones, as a receiver would have them. */
static void check_coalesced(const Cut *k)
{
    static const QdesCoalesceFeatures features = {
        true, true, true, true, true,
    };
    CheckFrame in[QDES_COALESCE_FRAMES];
    unsigned n = MIN(k->frames, QDES_COALESCE_FRAMES);
    const char *failure;
    unsigned i, merged;

    for (i = 0; i < n; i++) {
        in[i] = (CheckFrame) { k->frame[i], k->sizes[i], k->s.partial };
    }
    failure = coalesce_check(in, n, &features, &merged);
    check(!failure, failure);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = { data, size };
    Cut *k = g_new0(Cut, 1);
    uint8_t op = input_byte(&in);
    int few = input_byte(&in) % PIECES;
    QdesSegmentResult result;
    uint8_t *came;
    unsigned i;

    make_frame(k, &in, op);
    /* It may come from anywhere, too. */
    came = g_malloc(4 * PACKET_MAX);
    receive(k->whole, MIN(k->size, QDES_FRAME_MAX), k->vnet.gso_size, came);
    g_free(came);
    make_pieces(k, &in);
    k->max_frame = make_max_frame(&in);
    result = qdes_segment_begin(&k->s, &k->vnet, k->iov, k->iovcnt, k->size,
                                k->max_frame, op & OP_PARTIAL, 0);
    switch (result) {
    case QDES_SEGMENT_WHOLE:
        check(!k->vnet.needs_csum && k->vnet.gso == QDES_GSO_NONE,
              "a frame that lacks something is left whole");
        break;
    case QDES_SEGMENT_BAD:
        check(op & (OP_CHANGE | OP_POKE | OP_POKE_VNET) ||
              (op & OP_GSO && k->vnet.gso_size == 0) ||
              (op & OP_UDP && k->vnet.gso_size > 65535 - 28),
              "a good frame is bad");
        check(k->vnet.needs_csum || k->vnet.gso != QDES_GSO_NONE,
              "a frame that lacks nothing is bad");
        break;
    case QDES_SEGMENT_CUT:
        check(op & OP_PARTIAL || !k->s.partial, "not accepted: unfinished");
        take_frames(k, few);
        if (k->vnet.gso != QDES_GSO_NONE || k->frames > 1) {
            check_cut(k);
            check_coalesced(k);
            if (!(op & OP_PARTIAL) && !has_urgent(k)) {
                check_twice(k, k->max_frame == 0 ? PACKET_MAX :
                               input_u16(&in));
            }
        } else {
            check_plain(k);
        }
        break;
    }
    for (i = 0; i < k->frames; i++) {
        g_free(k->frame[i]);
    }
    for (i = 0; i < (unsigned)k->iovcnt; i++) {
        g_free(k->piece[i]);
    }
    g_free(k);
    return 0;
}
