/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libqdes' segmenter and coalescer as a filter, for tests to compare them
 * with the kernel's: frame-cutter cut|merge SEED
 *
 * It reads jobs from stdin and answers each on stdout; numbers are of this
 * host's byte order, a virtio_net_hdr is of 10 bytes and little-endian.
 *
 * cut    job: u32 max_frame, u8 partial, vnet, frame
 *        answer: u8 QdesSegmentResult, u32 n, n frames.  Checksums are
 *        finished, by the library's means for a receiver where @partial.
 * merge  job: u8 features (tcp4 tcp6 udp4 udp6 ecn, from bit 0 on), u32 n,
 *        n times: u8 partial, frame
 *        answer: u32 n, n times: vnet, frame
 * frame  u32 size, that many bytes
 *
 * SEED tells into which pieces frames to be cut are split, as a guest's
 * memory may be.
 */

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qdes/coalesce.h"
#include "qdes/config.h"
#include "qdes/segment.h"

#define FRAME_MAX 70000         /* bytes */
#define BATCH_MAX 1024          /* frames to merge */
#define PIECES_MAX 24
#define OUT_PIECES (PIECES_MAX + 1)

static void die(const char *text)
{
    fprintf(stderr, "frame-cutter: %s\n", text);
    exit(1);
}

static bool get(void *to, size_t size)
{
    size_t got = fread(to, 1, size, stdin);

    if (got != size && (got > 0 || ferror(stdin))) {
        die("half a job");
    }
    return got == size;
}

static void need(void *to, size_t size)
{
    if (size > 0 && !get(to, size)) {
        die("half a job");
    }
}

static void put(const void *from, size_t size)
{
    if (fwrite(from, 1, size, stdout) != size) {
        die("cannot write");
    }
}

static uint32_t need_number(uint32_t max)
{
    uint32_t n;

    need(&n, sizeof(n));
    if (n > max) {
        die("a number is too large");
    }
    return n;
}

static void put_number(uint32_t n)
{
    put(&n, sizeof(n));
}

/* Each piece has memory of its own, for a sanitizer to see its end. */
static int split(GRand *rnd, const uint8_t *frame, uint32_t size,
                 struct iovec *iov)
{
    int n = g_rand_int_range(rnd, 1, PIECES_MAX + 1);
    uint32_t at = 0;
    uint32_t part, wish;
    int i;

    for (i = 0; i < n; i++) {
        part = size - at;
        if (i < n - 1) {
            /* Headers in small pieces, payload in larger ones. */
            wish = g_rand_int_range(rnd, 0, at < 120 ? 40 : 9000);
            part = MIN(part, wish);
        }
        iov[i].iov_base = g_memdup2(frame + at, part);
        iov[i].iov_len = part;
        at += part;
    }
    return n;
}

static void put_frames(QdesSegmenter *s)
{
    static uint8_t frame[FRAME_MAX];
    struct iovec payload[OUT_PIECES];
    uint8_t *end;
    size_t size;
    int count;
    int i;

    put_number(s->frames);
    while (s->frames > 0) {
        size = qdes_segment_next(s, frame, payload, OUT_PIECES, &count);
        if (size == 0) {
            die("a frame of more pieces than there are");
        }
        end = frame + s->headers_size;
        for (i = 0; i < count; i++) {
            memcpy(end, payload[i].iov_base, payload[i].iov_len);
            end += payload[i].iov_len;
        }
        if (end != frame + size) {
            die("the pieces of a frame are not of its size");
        }
        if (s->partial && !qdes_packet_finish(frame, size)) {
            die("a checksum that nobody can finish");
        }
        put_number(size);
        put(frame, size);
    }
}

/* Superframes, each cut by what its receiver knows of it. */
static void put_frames_of_superframes(QdesSegmenter *s)
{
    static uint8_t super[FRAME_MAX], frame[FRAME_MAX];
    g_autoptr(GByteArray) out = g_byte_array_new();
    struct iovec payload[OUT_PIECES];
    uint16_t segment_size = s->segment_size;
    uint32_t n = 0;
    uint32_t number;
    QdesSegmenter again;
    struct iovec iov;
    QdesVnet vnet;
    size_t size, at;
    int count, i;
    bool v6;

    while (s->frames > 0) {
        size = qdes_segment_next(s, super, payload, OUT_PIECES, &count);
        for (i = 0, at = s->headers_size; i < count; i++) {
            memcpy(super + at, payload[i].iov_base, payload[i].iov_len);
            at += payload[i].iov_len;
        }
        iov = (struct iovec) { super, size };
        if (size == 0 || at != size ||
            !qdes_segment_describe(&vnet, &v6, super, size, segment_size) ||
            qdes_segment_begin(&again, &vnet, &iov, 1, size, QDES_FRAME_MAX,
                               false, 0) != QDES_SEGMENT_CUT) {
            die("a superframe that nobody takes");
        }
        for (; again.frames > 0; n++) {
            number = qdes_segment_next(&again, frame, payload, 1, &count);
            if (count) {
                memcpy(frame + again.headers_size, payload[0].iov_base,
                       payload[0].iov_len);
            }
            g_byte_array_append(out, (uint8_t *)&number, sizeof(number));
            g_byte_array_append(out, frame, number);
        }
    }
    put_number(n);
    put(out->data, out->len);
}

/* @partial: 0, 1, or 2 for superframes of a random size in between. */
static void cut(GRand *rnd)
{
    static uint8_t frame[FRAME_MAX];
    uint8_t header[QDES_VNET_MIN];
    struct iovec iov[PIECES_MAX];
    uint32_t max_frame, size;
    QdesSegmenter s;
    QdesVnet vnet;
    uint8_t partial;
    uint8_t result;
    int n, i;

    while (get(&max_frame, sizeof(max_frame))) {
        need(&partial, 1);
        need(header, sizeof(header));
        size = need_number(FRAME_MAX);
        need(frame, size);
        qdes_vnet_decode(&vnet, header, false);
        n = split(rnd, frame, size, iov);
        result = qdes_segment_begin(&s, &vnet, iov, n, size, max_frame,
                                    partial, partial == 2 ?
                                    g_rand_int_range(rnd, 100, 65498) : 0);
        put(&result, 1);
        switch (result) {
        case QDES_SEGMENT_CUT:
            if (s.segment_size) {
                put_frames_of_superframes(&s);
            } else {
                put_frames(&s);
            }
            break;
        case QDES_SEGMENT_WHOLE:
            put_number(1);
            put_number(size);
            put(frame, size);
            break;
        default:
            put_number(0);
            break;
        }
        for (i = 0; i < n; i++) {
            g_free(iov[i].iov_base);
        }
        fflush(stdout);
    }
}

static void keep_first(QdesCoalescer *c, GByteArray *out, uint32_t *n)
{
    QdesSuperframe *super = qdes_coalesce_first(c);
    uint8_t header[QDES_VNET_MIN];
    uint32_t size = super->size;
    int i;

    qdes_vnet_encode(&super->vnet, header, sizeof(header), false);
    g_byte_array_append(out, header, sizeof(header));
    g_byte_array_append(out, (uint8_t *)&size, sizeof(size));
    for (i = 1; i < super->iovcnt; i++) {
        g_byte_array_append(out, super->iov[i].iov_base,
                            super->iov[i].iov_len);
        size -= super->iov[i].iov_len;
    }
    if (size != 0) {
        die("the pieces of a superframe are not of its size");
    }
    qdes_coalesce_pop(c);
    (*n)++;
}

static void merge(void)
{
    QdesCoalescer *c = qdes_coalescer_new();
    GByteArray *out = g_byte_array_new();
    uint8_t *frames[BATCH_MAX];
    QdesCoalesceFeatures features;
    QdesCoalesceResult result;
    uint8_t mask, partial;
    uint32_t count, size, i, n;

    while (get(&mask, 1)) {
        features = (QdesCoalesceFeatures) {
            .tcp4 = mask & 1,
            .tcp6 = mask & 2,
            .udp4 = mask & 4,
            .udp6 = mask & 8,
            .ecn = mask & 16,
        };
        qdes_coalesce_set_features(c, &features);
        count = need_number(BATCH_MAX);
        n = 0;
        for (i = 0; i < count; i++) {
            need(&partial, 1);
            size = need_number(FRAME_MAX);
            frames[i] = g_malloc(size);
            need(frames[i], size);
            while ((result = qdes_coalesce_add(c, frames[i], size, partial, 0)) ==
                   QDES_COALESCE_FULL) {
                keep_first(c, out, &n);
            }
            if (result != QDES_COALESCE_TAKEN) {
                die("a frame was not taken");
            }
        }
        while (qdes_coalesce_first(c)) {
            keep_first(c, out, &n);
        }
        put_number(n);
        put(out->data, out->len);
        fflush(stdout);
        g_byte_array_set_size(out, 0);
        for (i = 0; i < count; i++) {
            g_free(frames[i]);
        }
    }
    g_byte_array_unref(out);
    qdes_coalescer_free(c);
}

int main(int argc, char **argv)
{
    GRand *rnd;

    if (argc != 3) {
        die("usage: frame-cutter cut|merge SEED");
    }
    if (strcmp(argv[1], "merge") == 0) {
        merge();
    } else if (strcmp(argv[1], "cut") == 0) {
        rnd = g_rand_new_with_seed(strtoul(argv[2], NULL, 10));
        cut(rnd);
        g_rand_free(rnd);
    } else {
        die("neither cut nor merge");
    }
    return 0;
}
