/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What tests of offloads between ports share: samples of what a guest hands
 * over with what it stands for, peers made of a socket, and sockets that fail
 * when a test wants it
 *
 * sendmsg() and sendmmsg() are wrapped by the linker (see meson.build).
 */

#ifndef QDES_OFFLOAD_PORT_H
#define QDES_OFFLOAD_PORT_H

#include "fabric-port.h"
#include "packets.h"

#include <errno.h>

#include "qdes/coalesce.h"
#include "qdes/eth.h"

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103         /* Linux 4.18 */
#endif

#define VNET 12                 /* bytes of the virtio_net_hdr of a port */
#define MAX_FRAMES 2048

/* What the wrapped calls do, and have done. */
static struct {
    int err;                    /* fail with this, 0: do not */
    int after;                  /* datagrams, counting trains as one */
    bool only_trains;
    int times;                  /* that it fails; -1: always */
    int trains;                 /* that were sent with UDP_SEGMENT */
    int calls;
} fault;

ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
int __real_sendmmsg(int fd, struct mmsghdr *msg, unsigned n, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *msg, unsigned n, int flags);

static inline bool fails(const struct msghdr *msg)
{
    if (!fault.err || (fault.only_trains && !msg->msg_control)) {
        return false;
    }
    if (fault.after > 0) {
        fault.after--;
        return false;
    }
    if (fault.times == 0) {
        return false;
    }
    fault.times -= fault.times > 0;
    errno = fault.err;
    return true;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    fault.calls++;
    return fails(msg) ? -1 : __real_sendmsg(fd, msg, flags);
}

int __wrap_sendmmsg(int fd, struct mmsghdr *msg, unsigned n, int flags)
{
    unsigned i;

    fault.calls++;
    for (i = 0; i < n; i++) {
        if (fails(&msg[i].msg_hdr)) {
            return i ? (int)i : -1;
        }
        fault.trains += msg[i].msg_hdr.msg_control != NULL;
        if (__real_sendmmsg(fd, &msg[i], 1, flags) != 1) {
            return i ? (int)i : -1;
        }
    }
    return n;
}

static inline void setup(void)
{
    choose_group();
    memset(&fault, 0, sizeof(fault));
}

static const QdesPort all_offloads = {
    .vnet_size = VNET,
    .csum = true, .tso4 = true, .tso6 = true, .ecn = true,
    .uso4 = true, .uso6 = true,
};

/* What a test sends, and the frames that it stands for. */
typedef struct Sample {
    uint8_t vnet_and_frame[VNET + PACKET_MAX];
    size_t size;                /* bytes, without the header */
    QdesVnet vnet;
    unsigned n;
    size_t sizes[MAX_FRAMES];
    uint8_t frames[4 * PACKET_MAX];
} Sample;

static Sample sample;

static inline uint8_t *sample_frame(void)
{
    return sample.vnet_and_frame + VNET;
}

/* A superframe of @p, cut to @gso_size; 0: a frame with partial checksum. */
static inline void make(Packet *p, size_t gso_size)
{
    QdesVnet *v = &sample.vnet;
    size_t l3;

    p->csum = PACKET_PARTIAL;
    sample.size = packet_write(p, sample_frame());
    l3 = naive_l3(sample_frame());
    *v = (QdesVnet) {
        .needs_csum = true,
        .csum_start = l3 + (p->v6 ? 40 + p->ext : 20 + p->ip_options),
        .csum_offset = p->udp ? 6 : 16,
        .gso = gso_size == 0 ? QDES_GSO_NONE : p->udp ? QDES_GSO_UDP :
               p->v6 ? QDES_GSO_TCP6 : QDES_GSO_TCP4,
        .gso_size = gso_size,
    };
    qdes_vnet_encode(v, sample.vnet_and_frame, VNET, false);
    if (!gso_size) {
        v->gso_size = p->payload;
        v->gso = p->udp ? QDES_GSO_UDP : QDES_GSO_TCP4;
    }
    sample.n = naive_segment(sample_frame(), sample.size, v, sample.frames,
                             sample.sizes);
    v->gso_size = gso_size;
}

static inline bool send_sample(Port *p)
{
    struct iovec iov = { sample.vnet_and_frame, VNET + sample.size };

    return qdes_fabric_send(p->fabric, &iov, 1, now);
}

/* @b is known to @a as the owner of the destination, and by its HELLO. */
static inline void meet(Port *a, Port *b, int vnet)
{
    uint8_t frame[60] = { 0 };
    uint8_t before[VNET] = { 0 };
    struct iovec iov[] = { { before, vnet }, { frame, sizeof(frame) } };
    Port *ports[] = { a, b };

    memset(frame, 0xff, 6);
    memcpy(frame + 6, "\x52\x54\x00\x00\x01\x07", 6);
    WAIT(ports, 2, C(a, rx_hello) && C(b, rx_hello));
    ck_assert(qdes_fabric_send(b->fabric, iov, 2, now));
    qdes_fabric_flush(b->fabric, now);
    WAIT(ports, 2, C(a, rx_frames) == 1);
    g_ptr_array_set_size(a->frames, 0);
    g_ptr_array_set_size(b->frames, 0);
}

/*
 * What @p got from frame number @first on, cut where it is a superframe, are
 * the sample's frames.  Checksums are finished for the comparison.
 */
static inline void expect(Port *p, size_t vnet_size)
{
    g_autofree uint8_t *cut = g_malloc(4 * PACKET_MAX);
    static size_t sizes[MAX_FRAMES];
    const uint8_t *want = sample.frames;
    unsigned done = 0;
    const uint8_t *data;
    uint8_t *at;
    QdesVnet vnet = { 0 };
    size_t size;
    unsigned i, j, n;

    for (i = 0; i < p->frames->len; i++) {
        data = g_bytes_get_data(p->frames->pdata[i], &size);
        if (vnet_size) {
            qdes_vnet_decode(&vnet, data, false);
            data += vnet_size;
            size -= vnet_size;
        }
        if (vnet.gso) {
            ck_assert(vnet.needs_csum);
            n = naive_segment(data, size, &vnet, cut, sizes);
        } else {
            n = 1;
            sizes[0] = size;
            memcpy(cut, data, size);
            if (vnet.needs_csum) {
                ck_assert(qdes_packet_finish(cut, size));
            }
        }
        for (j = 0, at = cut; j < n; at += sizes[j++]) {
            ck_assert_uint_lt(done, sample.n);
            ck_assert_uint_eq(sizes[j], sample.sizes[done]);
            ck_assert_mem_eq(at, want, sizes[j]);
            want += sample.sizes[done++];
        }
    }
    ck_assert_uint_eq(done, sample.n);
}

/* All kinds of what may be sent. */
static const struct {
    bool v6, udp;
    unsigned tags;
    size_t payload, gso_size;
} kinds[] = {
    { false, false, 0, 60000, 1448 },
    { true, false, 0, 60000, 1428 },
    { false, true, 0, 20000, 1000 },
    { true, true, 0, 1000, 17 },
    { false, false, 1, 3000, 1448 },
    { true, false, 2, 65000, 8000 },
    { false, false, 0, 100, 0 },
    { false, true, 0, 18, 0 },
    { true, true, 1, 3000, 0 },
    { false, false, 0, 100, 1448 },
    { false, false, 0, 1000, 1 },
};

static inline void make_kind_flags(int i, uint8_t flags)
{
    Packet p = {
        PACKET_DEFAULT,
        .mac = 7,
        .v6 = kinds[i].v6,
        .udp = kinds[i].udp,
        .tags = kinds[i].tags,
    };

    p.flags = flags;
    p.payload = kinds[i].payload;
    make(&p, kinds[i].gso_size);
}

static inline void make_kind(int i)
{
    make_kind_flags(i, PACKET_ACK);
}

/* A socket of the test that is a peer: it says HELLO with @capabilities. */
static inline int open_peer(Port *p, uint32_t capabilities, uint32_t mtu)
{
    QdesStatus *status = qdes_fabric_status(p->fabric, now);
    QdesWireHello hello = { .instance = 7, .capabilities = capabilities,
                            .mtu = mtu };
    uint8_t data[QDES_WIRE_HELLO_SIZE];
    uint8_t frame[QDES_WIRE_HEADER_SIZE + 60] = { 0 };
    struct sockaddr_storage ss;
    socklen_t len = qdes_addr_to_sockaddr(&status->local, &ss);
    struct timeval patience = { .tv_sec = WAIT_S };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    size_t size = qdes_wire_encode_hello(data, QDES_WIRE_HELLO, 0, &hello);

    qdes_wire_encode_header(frame, QDES_WIRE_DATA, 0, 0);
    memset(frame + 8, 0xff, 6);
    memcpy(frame + 14, "\x52\x54\x00\x00\x01\x07", 6);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&ss, len), 0);
    ck_assert_int_eq(send(fd, data, size, 0), size);
    ck_assert_int_eq(send(fd, frame, sizeof(frame), 0), sizeof(frame));
    WAIT(&p, 1, C(p, rx_frames) == 1);
    qdes_status_free(status);
    return fd;
}

#endif
