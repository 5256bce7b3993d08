/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fuzzers share: where random bytes would hardly ever get far, a
 * fuzzer's input is a program
 *
 * Random bytes are hardly ever two frames of one flow.  So an input is read
 * as a list of changes to packets that fit together, to any field, and to any
 * byte of what is then written; or as a list of what happens to a port.
 */

#ifndef QDES_FUZZ_H
#define QDES_FUZZ_H

#include <stdio.h>
#include <stdlib.h>

#include "../unit/packets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is left of the input; all zeros follow it. */
typedef struct Input {
    const uint8_t *data;
    size_t size;
} Input;

static inline uint8_t input_byte(Input *in)
{
    if (in->size == 0) {
        return 0;
    }
    in->size--;
    return *in->data++;
}

static inline uint16_t input_u16(Input *in)
{
    uint8_t high = input_byte(in);

    return high << 8 | input_byte(in);
}

/* Some bytes of the input itself, at most @max, at *@data; returns how many. */
static inline size_t input_bytes(Input *in, const uint8_t **data, size_t max)
{
    size_t size = input_u16(in) % (max + 1);

    size = MIN(size, in->size);
    *data = in->data;
    in->data += size;
    in->size -= size;
    return size;
}

static inline void fuzz_failed(const char *what)
{
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

static inline void fuzz_check(bool ok, const char *what)
{
    if (!ok) {
        fuzz_failed(what);
    }
}

/* A copy in memory of its own, past which the sanitizer sees reads. */
static inline uint8_t *fuzz_copy(const void *data, size_t size)
{
    uint8_t *copy = g_malloc(MAX(size, 1));

    if (size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

/* Change a field of @p as the input says. */
static inline void input_change(Input *in, Packet *p, uint8_t field)
{
    uint16_t value = input_u16(in);

    switch (field % 26) {
    case 0:
        p->payload = value % 2000;
        break;
    case 1:
        p->payload = value;
        break;
    case 2:
        p->seq = (uint32_t)value << 16 | (value >> 8);
        break;
    case 3:
        p->seq += (int16_t)value;
        break;
    case 4:
        p->flags = value;
        break;
    case 5:
        p->csum = value % 5;
        break;
    case 6:
        p->padding = value % 64;
        break;
    case 7:
        p->tags = value % 3;
        break;
    case 8:
        p->vid = value;
        break;
    case 9:
        p->v6 = value & 1;
        break;
    case 10:
        p->udp = value & 1;
        break;
    case 11:
        p->tos = value;
        break;
    case 12:
        p->label = value & 0xfffff;
        break;
    case 13:
        p->ttl = value;
        break;
    case 14:
        p->id = value;
        break;
    case 15:
        p->frag = value;
        break;
    case 16:
        p->ip_options = value % 11 * 4;
        break;
    case 17:
        p->ext = value % 8 * 8;
        break;
    case 18:
        p->wrong_ip_sum = value & 1;
        break;
    case 19:
        p->host = value;
        break;
    case 20:
        p->port = value;
        break;
    case 21:
        p->ack = value;
        break;
    case 22:
        p->window = value;
        break;
    case 23:
        p->urgent = value;
        break;
    case 24:
        p->options_size = value % 11 * 4;
        break;
    case 25:
        p->options[value % 40] = value >> 8;
        break;
    }
}

/* Change bytes of a frame as the input says. */
static inline void input_poke(Input *in, uint8_t *frame, size_t size)
{
    unsigned n = 1 + input_byte(in) % 4;

    while (n-- > 0) {
        frame[input_byte(in) % size] = input_byte(in);
    }
}

#endif
