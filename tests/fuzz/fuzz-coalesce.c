/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing the coalescer: what comes out, cut again, is what went in.
 */

#include "fuzz.h"
#include "../unit/coalesce-check.h"

#define FLOWS 4
#define FRAMES 200

enum {
    OP_FLOW = 3,                /* which flow's next frame */
    OP_LAST = 1 << 2,           /* it ends its batch */
    OP_CHANGE = 1 << 3,         /* a field of this frame */
    OP_CHANGE_FLOW = 1 << 4,    /* a field of all frames from here on */
    OP_POKE = 1 << 5,
    OP_RAW = 1 << 6,            /* no packet: bytes of the input */
    OP_AGAIN = 1 << 7,          /* so many frames more, all the same way */
};

typedef struct Frames {
    uint8_t *buf[FRAMES];       /* each of exactly its frame's size */
    CheckFrame frame[FRAMES];
    unsigned n;
} Frames;

static void add(Frames *f, const uint8_t *frame, size_t size, bool partial,
                bool last)
{
    f->buf[f->n] = g_malloc(size);
    memcpy(f->buf[f->n], frame, size);
    f->frame[f->n] = (CheckFrame) { f->buf[f->n], size, partial, last };
    f->n++;
}

static void add_raw(Frames *f, Input *in, uint8_t *buf, uint8_t op)
{
    size_t size = 14 + input_byte(in);
    size_t i;

    for (i = 0; i < size; i++) {
        buf[i] = input_byte(in);
    }
    add(f, buf, size, op & OP_CHANGE, op & OP_LAST);
}

static void add_packets(Frames *f, Input *in, uint8_t *buf, uint8_t op,
                        Packet *flow)
{
    unsigned more = op & OP_AGAIN ? input_byte(in) % 70 : 0;
    Packet p;
    size_t size;

    if (op & OP_CHANGE_FLOW) {
        input_change(in, flow, input_byte(in));
    }
    do {
        p = *flow;
        if (op & OP_CHANGE) {
            input_change(in, &p, input_byte(in));
        }
        flow->seq = p.seq + p.payload;
        flow->id++;
        size = packet_write(&p, buf);
        if (op & OP_POKE) {
            input_poke(in, buf, size);
        }
        add(f, buf, size, p.csum == PACKET_PARTIAL ||
            p.csum == PACKET_WRONG_PARTIAL, op & OP_LAST);
        op &= ~(OP_CHANGE | OP_POKE);
    } while (f->n < FRAMES && more-- > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = { data, size };
    uint8_t bits = input_byte(&in);
    QdesCoalesceFeatures features = {
        .tcp4 = !(bits & 1), .tcp6 = !(bits & 2), .udp4 = !(bits & 4),
        .udp6 = !(bits & 8), .ecn = !(bits & 16),
    };
    Packet flow[FLOWS] = {
        { PACKET_DEFAULT },
        { PACKET_DEFAULT, .v6 = true },
        { PACKET_DEFAULT, .csum = PACKET_PARTIAL },
        { PACKET_DEFAULT, .udp = true },
    };
    uint8_t *buf = g_malloc(PACKET_MAX);
    Frames *f = g_new0(Frames, 1);
    const char *failure;
    unsigned merged, i;
    uint8_t op;

    while (in.size > 0 && f->n < FRAMES) {
        op = input_byte(&in);
        if (op & OP_RAW) {
            add_raw(f, &in, buf, op);
        } else {
            add_packets(f, &in, buf, op, &flow[op & OP_FLOW]);
        }
    }
    failure = coalesce_check(f->frame, f->n, &features, &merged);
    if (failure) {
        fuzz_failed(failure);
    }
    for (i = 0; i < f->n; i++) {
        g_free(f->buf[i]);
    }
    g_free(f);
    g_free(buf);
    return 0;
}
