/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fabric: everything at once, at random
 *
 * One port, whose guest sends what it likes and takes frames or not; peers
 * that come and go, say anything, and send trains of anything; a socket that
 * fails every now and then.  After each step the books balance and the port
 * got nothing that it did not accept; after the storm, frames pass as before.
 *
 * sendmsg() and sendmmsg() are wrapped by the linker (see meson.build).
 */

#include "fabric-port.h"
#include "packets.h"

#include <errno.h>

#include "qdes/segment.h"

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103         /* Linux 4.18 */
#endif

#define STEPS 4000
#define N_PEERS 5
#define N_MACS 8                /* whoever uses them: they move a lot */
#define TRAIN_MAX 30            /* datagrams */

static GRand *rng;
static int trouble;             /* one call in so many fails; 0: none */

ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
int __real_sendmmsg(int fd, struct mmsghdr *msg, unsigned n, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *msg, unsigned n, int flags);

/* At least 0, less than @n. */
static int below(int n)
{
    return g_rand_int_range(rng, 0, n);
}

static bool fails(void)
{
    static const int errors[] = { EAGAIN, EAGAIN, ENOBUFS, EMSGSIZE, EINVAL,
                                  EPERM, EHOSTUNREACH, ECONNREFUSED,
                                  ENETUNREACH, EIO };

    if (!trouble || below(trouble)) {
        return false;
    }
    errno = errors[below(G_N_ELEMENTS(errors))];
    return true;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    return fails() ? -1 : __real_sendmsg(fd, msg, flags);
}

int __wrap_sendmmsg(int fd, struct mmsghdr *msg, unsigned n, int flags)
{
    if (trouble) {
        n = 1 + below(n);
    }
    return fails() ? -1 : __real_sendmmsg(fd, msg, n, flags);
}

/* A packet of any kind, with a virtio_net_hdr in front; returns its size
 * without that. */
static size_t write_any(uint8_t *vnet_and_frame, size_t vnet_size, int gso,
                        size_t payload)
{
    uint8_t *frame = vnet_and_frame + vnet_size;
    Packet p = { PACKET_DEFAULT };
    QdesVnet vnet = { 0 };
    size_t size;

    p.mac = below(N_MACS);
    p.tags = below(8) ? 0 : 1 + below(2);
    p.v6 = below(2);
    p.udp = below(3) == 0;
    p.ip_options = below(10) || p.v6 ? 0 : 8;
    p.payload = payload;
    p.padding = below(10) ? 0 : 7;
    p.flags |= below(5) ? 0 : below(256);
    p.csum = below(3) ? PACKET_FULL : below(PACKET_NO_CSUM + 1);
    if (gso || below(2)) {
        p.csum = PACKET_PARTIAL;
        vnet.needs_csum = true;
        vnet.csum_start = 14 + 4 * p.tags + (p.v6 ? 40 : 20 + p.ip_options);
        vnet.csum_offset = p.udp ? 6 : 16;
    }
    if (gso) {
        vnet.gso = p.udp ? QDES_GSO_UDP : p.v6 ? QDES_GSO_TCP6
                                               : QDES_GSO_TCP4;
        vnet.gso_size = gso;
    }
    size = packet_write(&p, frame);
    if (!below(10)) {
        memset(frame, 0xff, 6);
    }
    if (!below(10)) {
        frame[below(MIN(size, 80))] = below(256);
    }
    if (!below(20)) {
        size = below(MIN(size, 100));
    }
    if (vnet_size) {
        qdes_vnet_encode(&vnet, vnet_and_frame, vnet_size, false);
        if (!below(10)) {
            vnet_and_frame[below(QDES_VNET_MIN)] = below(256);
        }
    }
    return size;
}

/* The guest sends a frame, in pieces. */
static void guest_sends(Port *p, const QdesPort *port)
{
    static uint8_t frame[QDES_VNET_MAX + PACKET_MAX];
    struct iovec iov[80] = { 0 };
    int gso = 0;
    size_t payload = below(2000);
    int most = 1 + below(G_N_ELEMENTS(iov));
    size_t offset = 0;
    size_t size;
    int n = 0;

    if (port->vnet_size && below(3) == 0) {
        payload = below(65000);
        gso = 40 + below(below(2) ? 1500 : 20000);
    }
    size = port->vnet_size + write_any(frame, port->vnet_size, gso, payload);
    while (n < most - 1 && offset < size) {
        iov[n].iov_base = frame + offset;
        iov[n].iov_len = below(MIN(size - offset, 100) + 1);
        offset += iov[n++].iov_len;
    }
    iov[n].iov_base = frame + offset;
    iov[n++].iov_len = size - offset;
    qdes_fabric_send(p->fabric, iov, n, now);
}

static int open_any(Port *p)
{
    QdesStatus *status = qdes_fabric_status(p->fabric, now);
    struct sockaddr_storage ss;
    socklen_t len = qdes_addr_to_sockaddr(&status->local, &ss);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&ss, len), 0);
    qdes_status_free(status);
    trust(p, fd);
    return fd;
}

static void peer_says(int fd)
{
    static const uint32_t mtus[] = { 0, 1, 500, 1000, 1514, 9000, 65499,
                                     UINT32_MAX };
    QdesWireHello hello = {
        .instance = 1 + below(2),
        .capabilities = below(4),
        .mtu = mtus[below(G_N_ELEMENTS(mtus))],
        .hold_time = below(10),
    };
    uint8_t data[QDES_WIRE_HELLO_SIZE];
    size_t size;

    size = qdes_wire_encode_hello(data, below(3) ? QDES_WIRE_HELLO
                                                 : QDES_WIRE_BYE, 0, &hello);
    if (!below(10)) {
        data[below(size)] ^= 1 << below(8);
    }
    send(fd, data, size, 0);
}

/* Frames of one flow, or any; of one size but the last; a train or not. */
static void peer_sends(int fd)
{
    static uint8_t train[TRAIN_MAX * 2048];
    bool one_flow = below(2);
    int n = 1 + below(TRAIN_MAX);
    size_t payload = below(1000);
    size_t size = 0;
    int segment = 0;
    Packet p = { PACKET_DEFAULT, .mac = below(N_MACS), .v6 = below(2),
                 .udp = below(3) == 0, .id = 1,
                 .csum = below(2) ? PACKET_PARTIAL : PACKET_FULL };
    uint8_t *at = train;
    bool super;
    int head;
    int i;

    for (i = 0; i < n; i++) {
        /* Whether it can be one or not. */
        super = below(4) == 0;
        head = super ? QDES_WIRE_SUPERFRAME_SIZE : QDES_WIRE_HEADER_SIZE;
        qdes_wire_encode_header(at, QDES_WIRE_DATA,
                                one_flow && p.csum == PACKET_PARTIAL, 0);
        if (super) {
            qdes_wire_encode_superframe(at, 0, below(2) ? below(50)
                                                        : below(1000), 0);
        }
        if (one_flow) {
            p.payload = payload;
            size = packet_write(&p, at + head) + head;
            p.seq += payload;
            p.id++;
        } else {
            size = write_any(at + head, 0, 0, payload) + head;
        }
        if (below(30)) {
            /* To whom the guest may answer. */
            memcpy(at + head + 6, "\x52\x54\x00\x00\x01", 5);
        } else {
            at[below(8)] ^= 1 << below(8);
        }
        if (segment && size > (size_t)segment) {
            size = segment;
        }
        at += size;
        if (i == 0) {
            segment = size;
        } else if (size < (size_t)segment) {
            break;
        }
        if ((size_t)(at - train) + size > 65000) {
            break;
        }
    }
    if (below(4)) {
        setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment));
        send(fd, train, at - train, 0);
        segment = 0;
        setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment));
    } else {
        send(fd, train, below(segment + 1), 0);
    }
}

static void any_port(QdesPort *port)
{
    bool vnet = below(4);

    *port = (QdesPort) {
        .vnet_size = vnet ? QDES_VNET_MIN + 2 * below(2) : 0,
        .csum = below(4), .tso4 = below(4), .tso6 = below(4),
        .ecn = below(4), .uso4 = below(4), .uso6 = below(4),
    };
}

/* What came to the port is what it accepts. */
static void check_delivered(Port *p, const QdesPort *port)
{
    const uint8_t *data;
    QdesVnet vnet;
    size_t payload;
    size_t size;
    bool v6;
    guint i;

    for (i = 0; i < p->frames->len; i++) {
        data = g_bytes_get_data(p->frames->pdata[i], &size);
        ck_assert_uint_ge(size, port->vnet_size + QDES_FRAME_MIN);
        ck_assert_uint_le(size, port->vnet_size + QDES_SUPERFRAME_MAX);
        if (!port->vnet_size) {
            continue;
        }
        qdes_vnet_decode(&vnet, data, false);
        data += port->vnet_size;
        size -= port->vnet_size;
        ck_assert(port->csum || !vnet.needs_csum);
        ck_assert(!vnet.needs_csum ||
                  vnet.csum_start + vnet.csum_offset + 2U <= size);
        if (vnet.gso == QDES_GSO_NONE) {
            continue;
        }
        ck_assert(vnet.needs_csum);
        v6 = data[naive_l3(data)] >> 4 == 6;
        switch (vnet.gso) {
        case QDES_GSO_TCP4:
            ck_assert(port->tso4 && !v6);
            break;
        case QDES_GSO_TCP6:
            ck_assert(port->tso6 && v6);
            break;
        default:
            ck_assert_uint_eq(vnet.gso, QDES_GSO_UDP);
            ck_assert(v6 ? port->uso6 : port->uso4);
            break;
        }
        ck_assert(port->ecn || !vnet.ecn);
        ck_assert_uint_gt(vnet.gso_size, 0);
        /* The bytes of the headers, which nobody but this test reads. */
        payload = size - (data[2 - (int)port->vnet_size] |
                          data[3 - (int)port->vnet_size] << 8);
        ck_assert_uint_gt(payload, vnet.gso_size);
        ck_assert_uint_le(payload,
                          (size_t)vnet.gso_size * QDES_SEGMENT_PACKETS);
    }
    g_ptr_array_set_size(p->frames, 0);
}

static void check_books(Port *p)
{
    QdesStatus *status = qdes_fabric_status(p->fabric, now);

    ck_assert(qdes_stats_balanced(&status->counters));
    qdes_status_free(status);
}

static void step(Port *p, QdesPort *port, int *fds)
{
    static uint8_t data[65536];
    int peer = below(N_PEERS);
    int i;

    switch (below(24)) {
    case 0:
        close(fds[peer]);
        fds[peer] = open_any(p);
        break;
    case 1:
        qdes_fabric_set_link(p->fabric, below(8) > 0, now);
        break;
    case 2:
        any_port(port);
        qdes_fabric_set_port(p->fabric, port);
        break;
    case 3:
        now += below(500);
        qdes_fabric_tick(p->fabric, now);
        break;
    case 4:
    case 5:
        peer_says(fds[peer]);
        break;
    case 6:
    case 7:
    case 8:
        qdes_fabric_resume(p->fabric, now);
        break;
    case 9:
        p->verdict = below(5) == 0 ? QDES_REFUSED :
                     below(2) ? QDES_DELIVERED_FULL : QDES_DELIVERED;
        break;
    case 10:
    case 11:
    case 12:
        qdes_fabric_flush(p->fabric, now);
        break;
    case 13:
    case 14:
    case 15:
    case 16:
        if (below(2)) {
            trust(p, fds[peer]);
        }
        peer_sends(fds[peer]);
        break;
    default:
        guest_sends(p, port);
        break;
    }
    if (below(2)) {
        serve(&p, 1);
    }
    for (i = 0; i < N_PEERS; i++) {
        while (recv(fds[i], data, sizeof(data), 0) >= 0) {
        }
    }
}

START_TEST(test_storm)
{
    QdesOptions options = {
        .name = "a",
        .unknown_unicast = _i == 1 ? "drop" : NULL,
        .has_max_macs = _i == 2, .max_macs = 4,
    };
    Port *p = port_open_with(&options, _i == 3);
    uint8_t frame[60] = { 0 };
    struct iovec iov = { frame, sizeof(frame) };
    static uint8_t data[65536];
    QdesPort port = { 0 };
    int fds[N_PEERS];
    int i;

    rng = unit_rand("test_storm");
    for (i = 0; i < N_PEERS; i++) {
        fds[i] = open_any(p);
    }
    trouble = 20;
    for (i = 0; i < STEPS; i++) {
        step(p, &port, fds);
        check_delivered(p, &port);
        check_books(p);
    }

    /* Frames pass, in both directions. */
    trouble = 0;
    p->verdict = QDES_DELIVERED;
    qdes_fabric_set_link(p->fabric, true, now);
    port = (QdesPort) { 0 };
    qdes_fabric_set_port(p->fabric, &port);
    qdes_fabric_resume(p->fabric, now);
    for (i = 0; i < N_PEERS; i++) {
        close(fds[i]);
    }
    fds[0] = open_any(p);
    qdes_wire_encode_header(data, QDES_WIRE_DATA, 0, 0);
    memset(data + 8, 0xff, 6);
    memcpy(data + 14, "\x52\x54\x00\x00\x77\x01", 6);
    memset(data + 20, 0, 48);
    ck_assert_int_eq(send(fds[0], data, 68, 0), 68);
    WAIT(&p, 1, p->frames->len > 0 &&
         memcmp((const uint8_t *)g_bytes_get_data(
             p->frames->pdata[p->frames->len - 1], NULL) + 6, data + 14,
             6) == 0);
    memcpy(frame, data + 14, 6);
    memcpy(frame + 6, "\x52\x54\x00\x00\x77\x02", 6);
    WAIT(&p, 1, qdes_fabric_send(p->fabric, &iov, 1, now));
    qdes_fabric_flush(p->fabric, now);
    WAIT(&p, 1, recv(fds[0], data, sizeof(data), 0) == 68);
    ck_assert_mem_eq(data + 8, frame, sizeof(frame));
    close(fds[0]);
    port_close(p);
    g_rand_free(rng);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("storm");
    TCase *tc = tcase_create("storm");

    tcase_add_checked_fixture(tc, choose_group, NULL);
    tcase_add_loop_test(tc, test_storm, 0, 4);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
