/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing what looks into single frames: Ethernet, IP, TCP and UDP, MSS,
 * probes, virtio_net_hdr.  Nothing is read or written outside of the frame,
 * and what is found agrees with itself.
 */

#include "fuzz.h"

#include "qdes/config.h"
#include "qdes/eth.h"
#include "qdes/mss.h"
#include "qdes/packet.h"
#include "qdes/probe.h"
#include "qdes/vnet.h"

#define OP_RAW 1
#define OP_POKE 2

static size_t make_frame(Input *in, uint8_t *buf)
{
    static const uint8_t mss[] = { 2, 4, 0xff, 0xff };
    Packet p = { PACKET_DEFAULT };
    uint8_t op = input_byte(in);
    unsigned n;
    size_t size;

    if (op & OP_RAW) {
        size = MIN(in->size, 2048);
        memcpy(buf, in->data, size);
        in->data += size;
        in->size -= size;
        return size;
    }
    p.flags = PACKET_SYN;
    p.options_size = sizeof(mss);
    memcpy(p.options, mss, sizeof(mss));
    for (n = (op >> 2) % 8; n > 0; n--) {
        input_change(in, &p, input_byte(in));
    }
    size = packet_write(&p, buf);
    if (op & OP_POKE) {
        input_poke(in, buf, size);
    }
    return size;
}

static void check_found(const uint8_t *frame, size_t size, bool superframe)
{
    QdesPacket p, again;
    uint8_t head[QDES_HEADERS_MAX];
    uint8_t *copy;

    if (!qdes_packet_find(&p, frame, size, size, superframe)) {
        return;
    }
    fuzz_check(p.l3 >= QDES_ETH_HEADER_SIZE && p.l4 >= p.l3 + 20 &&
               p.payload >= p.l4 + 8 && p.payload <= p.end &&
               p.end <= size && p.payload <= QDES_HEADERS_MAX,
               "a packet is not in its frame");
    fuzz_check(qdes_packet_csum_field(&p) + 2U <= p.payload,
               "a checksum is not in the headers");
    if (size > sizeof(head)) {
        /* The headers tell the same without the rest. */
        memcpy(head, frame, sizeof(head));
        fuzz_check(qdes_packet_find(&again, head, sizeof(head), size,
                                    superframe) && again.l4 == p.l4 &&
                   again.payload == p.payload && again.end == p.end,
                   "the headers alone tell something else");
    }
    if (!superframe) {
        copy = fuzz_copy(frame, size);
        naive_put16(copy + qdes_packet_csum_field(&p),
                    qdes_packet_pseudo_sum(&p, copy, p.end - p.l4));
        fuzz_check(qdes_packet_is_partial(copy, size),
                   "an unfinished checksum is not known as such");
        fuzz_check(qdes_packet_finish(copy, size), "it cannot be finished");
        fuzz_check(naive_fold(qdes_packet_pseudo_sum(&p, copy, p.end - p.l4) +
                              naive_sum(copy + p.l4, p.end - p.l4)) == 0xffff,
                   "a finished checksum is wrong");
        g_free(copy);
    }
}

static void check_mss(const uint8_t *frame, size_t size, size_t max_frame,
                      bool partial)
{
    uint8_t *copy = fuzz_copy(frame, size);
    unsigned changed = 0;
    size_t i;

    if (qdes_mss_clamp(copy, size, max_frame, partial)) {
        for (i = 0; i < size; i++) {
            changed += copy[i] != frame[i];
        }
        fuzz_check(changed > 0 && changed <= 4, "more than the MSS changed");
        fuzz_check(!qdes_mss_clamp(copy, size, max_frame, partial),
                   "an MSS is lowered twice");
    } else {
        fuzz_check(size == 0 || memcmp(copy, frame, size) == 0,
                   "a frame changed");
    }
    g_free(copy);
}

static void check_probe(const uint8_t *frame, size_t size)
{
    uint8_t data[QDES_PROBE_SIZE];
    QdesProbe probe, again;

    if (!qdes_probe_decode(&probe, frame, size)) {
        return;
    }
    qdes_probe_encode(data, &probe, 5);
    fuzz_check(qdes_probe_decode(&again, data, sizeof(data)) &&
               again.netid == probe.netid && again.nonce == probe.nonce &&
               again.asks == probe.asks && qdes_probe_is_of(&again, 5),
               "a probe changed");
}

/* The bytes that are enough to tell are enough. */
static void check_ends(const uint8_t *frame, size_t size)
{
    size_t head_size = MIN(size, QDES_ENDS_MAX);
    uint8_t *head = fuzz_copy(frame, head_size);
    QdesAddr a[2], b[2];
    bool found = qdes_packet_ends(&a[0], &a[1], frame, size);

    fuzz_check(qdes_packet_ends(&b[0], &b[1], head, head_size) == found &&
               (!found || (qdes_addr_equal(&a[0], &b[0]) &&
                           qdes_addr_equal(&a[1], &b[1]))),
               "other ends in the first bytes");
    g_free(head);
}

/* In two pieces it is what it is in one. */
static void check_eth(const uint8_t *frame, size_t size, size_t cut)
{
    struct iovec iov[2];
    uint8_t *a = fuzz_copy(frame, MIN(cut, size));
    uint8_t *b = fuzz_copy(frame + MIN(cut, size), size - MIN(cut, size));
    QdesEthHeader header;

    iov[0] = (struct iovec) { a, MIN(cut, size) };
    iov[1] = (struct iovec) { b, size - MIN(cut, size) };
    fuzz_check(qdes_eth_peek(&header, iov, 2) == size, "a frame's size");
    fuzz_check(size < sizeof(header) ||
               memcmp(&header, frame, sizeof(header)) == 0,
               "a frame's header");
    g_free(a);
    g_free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = { data, size };
    uint8_t *buf = g_malloc0(PACKET_MAX);
    uint8_t bits = input_byte(&in);
    size_t max_frame = input_u16(&in);
    size_t frame_size = make_frame(&in, buf);
    uint8_t *frame = fuzz_copy(buf, frame_size);
    QdesVnet vnet;

    if (frame_size >= QDES_FRAME_MIN) {
        check_found(frame, frame_size, bits & 1);
        check_mss(frame, frame_size, max_frame, bits & 2);
        qdes_packet_is_partial(frame, frame_size);
    }
    check_probe(frame, frame_size);
    check_ends(frame, frame_size);
    check_eth(frame, frame_size, bits >> 2);
    if (frame_size >= QDES_VNET_MIN) {
        qdes_vnet_decode(&vnet, frame, bits & 4);
    }
    g_free(frame);
    g_free(buf);
    return 0;
}
