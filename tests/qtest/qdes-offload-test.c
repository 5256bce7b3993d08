/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest of -netdev qdes: offloads
 *
 * A Station sends and receives plain datagrams; the virtio-net driver at the
 * other end agrees with its device on offloads, or does not.  What the wire
 * carries has to be whole frames always, and what the driver gets has to be
 * what it has agreed to, at any time.
 */

#include "qemu/osdep.h"
#include <netinet/in.h>
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qdes-lib.h"

#define BIT(n) (1ull << (n))
#define DRIVER (NIC_PLAIN | BIT(VIRTIO_NET_F_CTRL_VQ) | \
                BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
#define ACCEPT_CSUM BIT(VIRTIO_NET_F_GUEST_CSUM)
#define ACCEPT_TSO4 BIT(VIRTIO_NET_F_GUEST_TSO4)
#define ACCEPT_TSO6 BIT(VIRTIO_NET_F_GUEST_TSO6)
#define ACCEPT_USO4 BIT(GUEST_USO4)
#define ACCEPT_USO6 BIT(GUEST_USO6)
#define ACCEPT_ALL (ACCEPT_CSUM | ACCEPT_TSO4 | ACCEPT_TSO6 | \
                    ACCEPT_USO4 | ACCEPT_USO6)
#define GSO_UDP_L4 5            /* virtio 1.2, 5.1.6 */

#define SEGMENT 1400            /* bytes of payload */
#define SEGMENTS 20
#define FIRST_SEQ 0xfffff000    /* wraps around in the midst of it all */

#define IP_OFFSET 14
#define ACK 0x10
#define PSH 0x08
#define FIN 0x01

/* --- Packets ------------------------------------------------------------ */

typedef struct Flow {
    const char *name;
    bool v6;
    bool udp;
    uint64_t accept;            /* what a driver needs for superframes of it */
    uint64_t host;              /* what a device has to offer for them */
    uint8_t gso_type;
} Flow;

static const Flow flows[] = {
    {
        .name = "tcp4",
        .accept = ACCEPT_CSUM | ACCEPT_TSO4,
        .host = BIT(VIRTIO_NET_F_HOST_TSO4),
        .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
    }, {
        .name = "tcp6",
        .v6 = true,
        .accept = ACCEPT_CSUM | ACCEPT_TSO6,
        .host = BIT(VIRTIO_NET_F_HOST_TSO6),
        .gso_type = VIRTIO_NET_HDR_GSO_TCPV6,
    }, {
        .name = "udp4",
        .udp = true,
        .accept = ACCEPT_CSUM | ACCEPT_USO4,
        .host = BIT(HOST_USO),
        .gso_type = GSO_UDP_L4,
    }, {
        .name = "udp6",
        .v6 = true,
        .udp = true,
        .accept = ACCEPT_CSUM | ACCEPT_USO6,
        .host = BIT(HOST_USO),
        .gso_type = GSO_UDP_L4,
    },
};

static size_t l4_offset(const Flow *flow)
{
    return IP_OFFSET + (flow->v6 ? 40 : 20);
}

static size_t csum_offset(const Flow *flow)
{
    return flow->udp ? 6 : 16;
}

static size_t headers_size(const Flow *flow)
{
    return l4_offset(flow) + (flow->udp ? 8 : 20);
}

/* The byte at @offset of a flow. */
static uint8_t pattern(size_t offset)
{
    return offset * 7 + offset / 251;
}

static uint32_t sum_up(uint32_t sum, const uint8_t *p, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++) {
        sum += i % 2 ? p[i] : p[i] << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

/* The sum over the pseudo-header of a packet of @size bytes. */
static uint16_t pseudo_sum(const Flow *flow, const uint8_t *frame, size_t size)
{
    uint32_t sum = (flow->udp ? IPPROTO_UDP : IPPROTO_TCP) + size -
                   l4_offset(flow);

    return flow->v6 ? sum_up(sum, frame + IP_OFFSET + 8, 32)
                    : sum_up(sum, frame + IP_OFFSET + 12, 8);
}

static uint16_t full_sum(const Flow *flow, const uint8_t *frame, size_t size)
{
    return sum_up(pseudo_sum(flow, frame, size), frame + l4_offset(flow),
                  size - l4_offset(flow));
}

/*
 * Bytes @offset to @offset + @size of @flow in one packet, from @src to @dst.
 * @finished: with its checksum, else with the sum of the pseudo-header.
 */
static Frame *make_packet(const Flow *flow, const uint8_t *dst,
                          const uint8_t *src, size_t offset, size_t size,
                          int tcp_flags, bool finished)
{
    Frame *frame = g_new0(Frame, 1);
    uint8_t *ip = frame->data + IP_OFFSET;
    uint8_t *l4 = frame->data + l4_offset(flow);
    uint8_t *payload = frame->data + headers_size(flow);
    size_t l4_size = headers_size(flow) - l4_offset(flow) + size;
    uint16_t sum;
    size_t i;

    frame->size = headers_size(flow) + size;
    g_assert_cmpuint(frame->size, <=, FRAME_MAX);
    memcpy(frame->data, dst, 6);
    memcpy(frame->data + 6, src, 6);
    if (flow->v6) {
        stw_be_p(frame->data + 12, 0x86dd);
        ip[0] = 0x60;
        stw_be_p(ip + 4, l4_size);
        ip[6] = flow->udp ? IPPROTO_UDP : IPPROTO_TCP;
        ip[7] = 64;
        memcpy(ip + 8, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
        memcpy(ip + 24, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2", 16);
    } else {
        stw_be_p(frame->data + 12, 0x0800);
        ip[0] = 0x45;
        stw_be_p(ip + 2, 20 + l4_size);
        stw_be_p(ip + 4, 1000 + offset / SEGMENT);
        ip[6] = 0x40;           /* DF */
        ip[8] = 64;
        ip[9] = flow->udp ? IPPROTO_UDP : IPPROTO_TCP;
        memcpy(ip + 12, "\x0a\0\0\1\x0a\0\0\2", 8);
        stw_be_p(ip + 10, ~sum_up(0, ip, 20));
    }
    stw_be_p(l4, 5001);
    stw_be_p(l4 + 2, 5002);
    if (flow->udp) {
        stw_be_p(l4 + 4, l4_size);
    } else {
        stl_be_p(l4 + 4, FIRST_SEQ + offset);
        stl_be_p(l4 + 8, 1);
        l4[12] = 0x50;
        l4[13] = tcp_flags;
        stw_be_p(l4 + 14, 1000);
    }
    for (i = 0; i < size; i++) {
        payload[i] = pattern(offset + i);
    }
    sum = pseudo_sum(flow, frame->data, frame->size);
    stw_be_p(l4 + csum_offset(flow), sum);
    if (finished) {
        stw_be_p(l4 + csum_offset(flow), 0);
        sum = ~full_sum(flow, frame->data, frame->size);
        stw_be_p(l4 + csum_offset(flow), sum ?: 0xffff);
    }
    return frame;
}

/*
 * A packet that came has to be one that make_packet() could have made, from
 * @offset on.  Returns the bytes of its payload.
 */
static size_t check_packet(const Flow *flow, const uint8_t *dst,
                           const uint8_t *src, size_t offset,
                           const uint8_t *data, size_t size)
{
    const uint8_t *ip = data + IP_OFFSET;
    const uint8_t *l4 = data + l4_offset(flow);
    size_t i;

    g_assert_cmpuint(size, >, headers_size(flow));
    g_assert_cmpmem(data, 6, dst, 6);
    g_assert_cmpmem(data + 6, 6, src, 6);
    if (flow->v6) {
        g_assert_cmphex(lduw_be_p(data + 12), ==, 0x86dd);
        g_assert_cmpuint(lduw_be_p(ip + 4), ==, size - l4_offset(flow));
    } else {
        g_assert_cmphex(lduw_be_p(data + 12), ==, 0x0800);
        g_assert_cmpuint(lduw_be_p(ip + 2), ==, size - IP_OFFSET);
        g_assert_cmphex(sum_up(0, ip, 20), ==, 0xffff);
    }
    g_assert_cmpuint(lduw_be_p(l4), ==, 5001);
    if (flow->udp) {
        g_assert_cmpuint(lduw_be_p(l4 + 4), ==, size - l4_offset(flow));
    } else {
        g_assert_cmphex((uint32_t)ldl_be_p(l4 + 4), ==,
                        (uint32_t)(FIRST_SEQ + offset));
    }
    for (i = headers_size(flow); i < size; i++, offset++) {
        g_assert_cmphex(data[i], ==, pattern(offset));
    }
    return size - headers_size(flow);
}

static void assert_finished(const Flow *flow, const uint8_t *data, size_t size)
{
    g_assert_cmphex(full_sum(flow, data, size), ==, 0xffff);
}

static void assert_unfinished(const Flow *flow, const uint8_t *data,
                              size_t size)
{
    g_assert_cmphex(lduw_be_p(data + l4_offset(flow) + csum_offset(flow)), ==,
                    pseudo_sum(flow, data, size));
}

/* --- From the wire to the driver ---------------------------------------- */

static void send_segments(Station *st, const Flow *flow)
{
    int i;

    for (i = 0; i < SEGMENTS; i++) {
        g_autofree Frame *frame = make_packet(flow, mac_guest, mac_a,
                                              i * SEGMENT, SEGMENT, ACK, true);

        station_frame(st, NULL, frame);
    }
}

/*
 * Have the port find frames of @flow all at once: they wait while the VM is
 * stopped, behind one that is no packet.
 */
static void send_together(Station *st, QTestState *qts, const Flow *flow)
{
    g_autofree Frame *frame = make_frame(mac_guest, mac_a, 1, 60);

    QMP(qts, "{ 'execute': 'stop' }");
    station_frame(st, NULL, frame);
    WAIT_FOR(port_flag(qts, "q0", "paused"));
    send_segments(st, flow);
    QMP(qts, "{ 'execute': 'cont' }");
}

/* The header before a superframe has to tell how to cut it. */
static void check_header(const Flow *flow, const struct virtio_net_hdr *header)
{
    g_assert_cmphex(header->gso_type, ==, flow->gso_type);
    g_assert_cmphex(header->flags, ==, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    g_assert_cmpuint(lduw_le_p(&header->gso_size), ==, SEGMENT);
    g_assert_cmpuint(lduw_le_p(&header->csum_start), ==, l4_offset(flow));
    g_assert_cmpuint(lduw_le_p(&header->csum_offset), ==, csum_offset(flow));
    g_assert_cmpuint(lduw_le_p(&header->hdr_len), ==, headers_size(flow));
}

/* What send_together() sent has to come; returns in how many pieces. */
static int expect_segments(Nic *nic, const Flow *flow, bool superframes)
{
    g_autofree uint8_t *data = g_malloc(FRAME_MAX);
    struct virtio_net_hdr_mrg_rxbuf header;
    size_t offset = 0;
    size_t size, payload;
    int n = 0;

    while (offset < SEGMENTS * SEGMENT) {
        size = nic_receive_with(nic, &header, data, FRAME_MAX);
        payload = check_packet(flow, mac_guest, mac_a, offset, data, size);
        offset += payload;
        if (header.hdr.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
            g_assert(superframes);
            g_assert_cmpuint(payload, >, SEGMENT);
            check_header(flow, &header.hdr);
            assert_unfinished(flow, data, size);
        } else {
            g_assert_cmpuint(payload, ==, SEGMENT);
            g_assert_cmphex(header.hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, ==,
                            0);
            assert_finished(flow, data, size);
        }
        n++;
    }
    g_assert_cmpuint(offset, ==, SEGMENTS * SEGMENT);
    return n;
}

static void receive_flow(Nic *nic, Station *st, const Flow *flow,
                         bool superframes)
{
    g_autofree Frame *first = make_frame(mac_guest, mac_a, 1, 60);
    int n;

    nic_fill(nic, 64);
    send_together(st, nic->qts, flow);
    nic_expect(nic, first);
    n = expect_segments(nic, flow, superframes);
    if (superframes) {
        g_assert_cmpint(n, <, SEGMENTS);
    } else {
        g_assert_cmpint(n, ==, SEGMENTS);
    }
}

static QTestState *start(const Fabric *fabric, const char *options, Nic **nic)
{
    QTestState *qts;

    if (!has_pc_and("virtio-net-pci")) {
        return NULL;
    }
    qts = pc_start(fabric, 7, options, "virtio-net-pci", "");
    *nic = nic_new(qts);
    return qts;
}

static void stop(QTestState *qts, Nic *nic)
{
    assert_books(qts, "q0");
    nic_free(nic);
    qtest_quit(qts);
}

/* A driver gets superframes of the kinds that it accepts, and no others. */
static void test_receive(const void *opaque)
{
    static const uint64_t accepted[] = {
        0,
        ACCEPT_CSUM,
        ACCEPT_CSUM | ACCEPT_TSO4,
        ACCEPT_CSUM | ACCEPT_TSO6,
        ACCEPT_CSUM | ACCEPT_USO4,
        ACCEPT_CSUM | ACCEPT_USO6,
        ACCEPT_ALL,
    };
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    QTestState *qts;
    Nic *nic;
    int i, j;

    qts = start(fabric, opaque, &nic);
    if (!qts) {
        goto out;
    }
    /* Also without resets in between, as far as it goes. */
    for (i = 0; i < ARRAY_SIZE(accepted); i++) {
        uint64_t accept;

        nic_drive(nic, DRIVER | accepted[i]);
        accept = accepted[i] & nic->offered;
        for (j = 0; j < ARRAY_SIZE(flows); j++) {
            receive_flow(nic, a, &flows[j],
                         flows[j].accept == (flows[j].accept & accept));
        }
        nic_undrive(nic);
    }
    g_assert_cmpuint(port_count(qts, "q0", "rx-superframes"), >, 0);
    stop(qts, nic);
out:
    station_free(a);
    fabric_free(fabric);
}

/* With vnet-hdr=off there is nothing to agree upon. */
static void test_off(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree Frame *out = make_frame(mac_all, mac_guest, 2, 1000);
    QTestState *qts;
    Nic *nic;
    int i;

    qts = start(fabric, ",vnet-hdr=off", &nic);
    if (!qts) {
        goto out;
    }
    nic_drive(nic, DRIVER | ACCEPT_ALL | NIC_OFFLOADS);
    g_assert_cmphex(nic->offered & NIC_OFFLOADS, ==, 0);
    for (i = 0; i < ARRAY_SIZE(flows); i++) {
        receive_flow(nic, a, &flows[i], false);
    }
    nic_send(nic, out);
    station_expect(a, a->group_fd, out);
    g_assert_cmpuint(port_count(qts, "q0", "rx-superframes"), ==, 0);
    stop(qts, nic);
out:
    station_free(a);
    fabric_free(fabric);
}

/* What is offered is all there is, but fragmentation of UDP. */
static void test_offered(void)
{
    Fabric *fabric = fabric_new();
    uint64_t uso = BIT(HOST_USO) | ACCEPT_USO4 | ACCEPT_USO6;
    QTestState *qts;
    Nic *nic;

    qts = start(fabric, "", &nic);
    if (qts) {
        nic_drive(nic, DRIVER);
        g_assert_cmphex(nic->offered & NIC_OFFLOADS & ~uso, ==,
                        NIC_OFFLOADS & ~uso);
        g_assert((nic->offered & uso) == 0 || (nic->offered & uso) == uso);
        g_assert_cmphex(nic->offered & (BIT(VIRTIO_NET_F_HOST_UFO) |
                                        BIT(VIRTIO_NET_F_GUEST_UFO)), ==, 0);
        stop(qts, nic);
    }
    fabric_free(fabric);
}

/* --- From the driver to the wire ---------------------------------------- */

static struct virtio_net_hdr make_header(const Flow *flow, uint8_t gso_type,
                                         uint16_t gso_size)
{
    struct virtio_net_hdr header = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = gso_type,
    };

    stw_le_p(&header.gso_size, gso_size);
    stw_le_p(&header.hdr_len, headers_size(flow));
    stw_le_p(&header.csum_start, l4_offset(flow));
    stw_le_p(&header.csum_offset, csum_offset(flow));
    return header;
}

/* @size bytes of @flow have to come in frames with SEGMENT bytes each. */
static void expect_cut(Station *st, int fd, const uint8_t *dst,
                       const Flow *flow, size_t size)
{
    g_autofree Datagram *dg = g_new(Datagram, 1);
    size_t offset = 0;

    while (offset < size) {
        const uint8_t *flags = dg->buf + HEADER_SIZE + l4_offset(flow) + 13;
        size_t payload;

        station_wait(st, fd, DATA, dg);
        payload = check_packet(flow, dst, mac_guest, offset, dg->payload,
                               dg->size);
        offset += payload;
        g_assert_cmpuint(payload, ==, offset < size || size % SEGMENT == 0
                                      ? SEGMENT : size % SEGMENT);
        if (!flow->udp) {
            g_assert_cmphex(*flags, ==, offset < size ? ACK : ACK | PSH | FIN);
        }
        if (dg->flags & FLAG_CSUM_PARTIAL) {
            assert_unfinished(flow, dg->payload, dg->size);
        } else {
            assert_finished(flow, dg->payload, dg->size);
        }
    }
    g_assert_cmpuint(offset, ==, size);
    g_assert_cmphex(dg->flags, ==, st->capabilities & CAP_CSUM_PARTIAL &&
                                   fd == st->fd ? FLAG_CSUM_PARTIAL : 0);
}

/* Superframes and unfinished checksums, to one peer and to all. */
static void test_send(const void *opaque)
{
    static const size_t sizes[] = { 1, SEGMENT, SEGMENT + 1, 10 * SEGMENT,
                                    45 * SEGMENT + 77 };
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    Station *b = station_new(fabric, 7, "b");
    g_autofree Frame *from_a = make_frame(mac_all, mac_a, 1, 60);
    g_autofree Frame *from_b = make_frame(mac_all, mac_b, 1, 60);
    QTestState *qts;
    Nic *nic;
    int i, j;

    qts = start(fabric, opaque, &nic);
    if (!qts) {
        goto out;
    }
    nic_drive(nic, DRIVER | NIC_OFFLOADS);
    nic_fill(nic, 8);
    b->capabilities = CAP_CSUM_PARTIAL;
    station_control(a, NULL, HELLO);
    station_control(b, NULL, HELLO);
    station_frame(a, NULL, from_a);
    nic_expect(nic, from_a);
    station_expect(b, b->group_fd, from_a);
    station_frame(b, NULL, from_b);
    nic_expect(nic, from_b);
    station_expect(a, a->group_fd, from_b);

    for (i = 0; i < ARRAY_SIZE(flows); i++) {
        const Flow *flow = &flows[i];

        for (j = 0; j < ARRAY_SIZE(sizes); j++) {
            size_t size = sizes[j];
            bool super = size > SEGMENT;
            struct virtio_net_hdr header = make_header(
                flow, super ? flow->gso_type : VIRTIO_NET_HDR_GSO_NONE,
                super ? SEGMENT : 0);
            const uint8_t *const dsts[] = { mac_a, mac_b, mac_all };
            int k;

            if (super && !(nic->offered & flow->host)) {
                continue;
            }
            for (k = 0; k < ARRAY_SIZE(dsts); k++) {
                g_autofree Frame *frame = make_packet(
                    flow, dsts[k], mac_guest, 0, size, ACK | PSH | FIN, false);

                nic_send_with(nic, &header, frame->data, frame->size);
                if (dsts[k] == mac_all) {
                    expect_cut(a, a->group_fd, mac_all, flow, size);
                    expect_cut(b, b->group_fd, mac_all, flow, size);
                } else if (dsts[k] == mac_a) {
                    expect_cut(a, a->fd, mac_a, flow, size);
                } else {
                    expect_cut(b, b->fd, mac_b, flow, size);
                }
            }
        }
    }
    g_assert_cmpuint(port_count(qts, "q0", "tx-superframes"), >=, 18);
    stop(qts, nic);
out:
    station_free(a);
    station_free(b);
    fabric_free(fabric);
}

/* A peer that takes superframes gets them in one piece; others do not. */
static void test_send_whole(const void *opaque)
{
    bool on = !*(const char *)opaque;
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree Frame *from_a = make_frame(mac_all, mac_a, 1, 60);
    g_autofree Datagram *dg = g_new(Datagram, 1);
    const size_t size = 40 * SEGMENT + 77;
    QTestState *qts;
    Nic *nic;
    int i;

    qts = start(fabric, opaque, &nic);
    if (!qts) {
        goto out;
    }
    nic_drive(nic, DRIVER | NIC_OFFLOADS);
    nic_fill(nic, 8);
    a->capabilities = CAP_CSUM_PARTIAL | CAP_SUPERFRAME;
    station_control(a, NULL, HELLO);
    station_frame(a, NULL, from_a);
    nic_expect(nic, from_a);
    for (i = 0; i < ARRAY_SIZE(flows); i++) {
        const Flow *flow = &flows[i];
        struct virtio_net_hdr header = make_header(flow, flow->gso_type,
                                                   SEGMENT);
        g_autofree Frame *frame = make_packet(flow, mac_a, mac_guest, 0, size,
                                              ACK | PSH | FIN, false);

        if (!(nic->offered & flow->host)) {
            continue;
        }
        nic_send_with(nic, &header, frame->data, frame->size);
        if (!on) {
            expect_cut(a, a->fd, mac_a, flow, size);
            continue;
        }
        station_wait(a, a->fd, DATA, dg);
        g_assert_cmphex(dg->flags, ==, FLAG_CSUM_PARTIAL | FLAG_SUPERFRAME);
        g_assert_cmpuint(dg->segment_size, ==, SEGMENT);
        g_assert_cmpmem(dg->payload, dg->size, frame->data, frame->size);
    }
    stop(qts, nic);
out:
    station_free(a);
    fabric_free(fabric);
}

/* What came whole goes on so to a driver that accepts it; else it is cut. */
static void test_receive_whole(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree uint8_t *data = g_malloc(FRAME_MAX);
    struct virtio_net_hdr_mrg_rxbuf header;
    struct sockaddr_in to;
    QTestState *qts;
    size_t size;
    Nic *nic;
    int i, whole;

    qts = start(fabric, "", &nic);
    if (!qts) {
        goto out;
    }
    to = port_endpoint(qts, "q0");
    for (whole = 0; whole < 2; whole++) {
        nic_drive(nic, DRIVER | (whole ? ACCEPT_ALL : 0));
        for (i = 0; i < ARRAY_SIZE(flows); i++) {
            const Flow *flow = &flows[i];
            g_autofree Frame *frame = make_packet(flow, mac_guest, mac_a, 0,
                                                  SEGMENTS * SEGMENT, ACK,
                                                  false);

            nic_fill(nic, 64);
            station_superframe(a, &to, frame, SEGMENT);
            if (!whole ||
                flow->accept != (flow->accept & nic->offered)) {
                g_assert_cmpint(expect_segments(nic, flow, false), ==,
                                SEGMENTS);
                continue;
            }
            size = nic_receive_with(nic, &header, data, FRAME_MAX);
            g_assert_cmpmem(data, size, frame->data, frame->size);
            check_header(flow, &header.hdr);
        }
        nic_undrive(nic);
    }
    g_assert_cmpuint(port_count(qts, "q0", "rx-frames"), ==,
                     2 * ARRAY_SIZE(flows));
    stop(qts, nic);
out:
    station_free(a);
    fabric_free(fabric);
}

/* Headers that contradict their frames: dropped, counted, and no harm done. */
static void test_send_bad(void)
{
    const Flow *flow = &flows[0];
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree Frame *good = make_frame(mac_all, mac_guest, 1, 60);
    g_autofree Frame *frame = make_packet(flow, mac_all, mac_guest, 0, 5000,
                                          ACK, false);
    struct virtio_net_hdr bad[] = {
        make_header(flow, VIRTIO_NET_HDR_GSO_TCPV4, 0),
        make_header(flow, VIRTIO_NET_HDR_GSO_TCPV6, 1000),
        make_header(flow, VIRTIO_NET_HDR_GSO_UDP, 1000),
        make_header(flow, GSO_UDP_L4, 1000),
        make_header(flow, 0x42, 1000),
        make_header(flow, VIRTIO_NET_HDR_GSO_NONE, 0),
        make_header(flow, VIRTIO_NET_HDR_GSO_NONE, 0),
    };
    QTestState *qts;
    Nic *nic;
    int i;

    qts = start(fabric, "", &nic);
    if (!qts) {
        goto out;
    }
    nic_drive(nic, DRIVER | NIC_OFFLOADS);
    stw_le_p(&bad[5].csum_start, frame->size);
    stw_le_p(&bad[6].csum_offset, 0xffff);
    for (i = 0; i < ARRAY_SIZE(bad); i++) {
        nic_send_with(nic, &bad[i], frame->data, frame->size);
        g_assert_cmpuint(port_count(qts, "q0", "tx-drop-offload"), ==, i + 1);
        nic_send(nic, good);
        station_expect(a, a->group_fd, good);
    }
    /* Shorter than the header, no frame behind it, less than a frame. */
    nic_send_with(nic, NULL, frame->data, 1);
    nic_send_with(nic, NULL, frame->data, 13);
    nic_send(nic, good);
    station_expect(a, a->group_fd, good);
    g_assert_cmpuint(port_count(qts, "q0", "tx-drop-short"), ==, 2);
    stop(qts, nic);
out:
    station_free(a);
    fabric_free(fabric);
}

/* --- Changes of mind ---------------------------------------------------- */

/* Have a superframe wait for a driver that has given its device no buffers. */
static void leave_waiting(Station *st, QTestState *qts)
{
    uint64_t before = port_count(qts, "q0", "rx-superframes");
    uint64_t pauses = port_count(qts, "q0", "rx-paused");
    g_autofree Frame *first = make_frame(mac_guest, mac_b, 1, 60);

    QMP(qts, "{ 'execute': 'stop' }");
    station_frame(st, NULL, first);
    WAIT_FOR(port_flag(qts, "q0", "paused"));
    send_segments(st, &flows[0]);
    QMP(qts, "{ 'execute': 'cont' }");
    /* The first has a buffer; the superframe is the next one to be tried. */
    WAIT_FOR(port_count(qts, "q0", "rx-paused") > pauses + 1);
    g_assert_cmpuint(port_count(qts, "q0", "rx-superframes"), ==, before + 1);
}

/* Frames are plain, and @last is the last of them. */
static void expect_plain_until(Nic *nic, const Frame *last)
{
    struct virtio_net_hdr_mrg_rxbuf header;
    uint8_t data[NIC_BUFFER];
    size_t size;

    do {
        size = nic_receive_with(nic, &header, data, sizeof(data));
        g_assert_cmphex(header.hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, ==, 0);
        g_assert_cmphex(header.hdr.gso_type, ==, VIRTIO_NET_HDR_GSO_NONE);
    } while (size == SEGMENT + headers_size(&flows[0]));
    assert_frame(last, data, size);
}

/*
 * A superframe waits for a driver's buffers, and the driver is replaced by one
 * that does not want it: it is never seen again, and no other comes.
 */
static void test_reset(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree Frame *in = make_frame(mac_guest, mac_a, 5, 100);
    g_autofree Frame *first = make_frame(mac_guest, mac_b, 1, 60);
    QTestState *qts;
    Nic *nic;
    int round;

    qts = start(fabric, "", &nic);
    if (!qts) {
        goto out;
    }
    for (round = 0; round < 2; round++) {
        nic_drive(nic, DRIVER | ACCEPT_ALL);
        nic_fill(nic, 1);
        leave_waiting(a, qts);
        nic_expect(nic, first);
        nic_undrive(nic);

        nic_drive(nic, DRIVER | (round ? ACCEPT_CSUM : 0));
        nic_fill(nic, 64);
        WAIT_FOR(!port_flag(qts, "q0", "paused"));
        station_frame(a, NULL, in);
        expect_plain_until(nic, in);
        receive_flow(nic, a, &flows[0], false);
        nic_undrive(nic);
    }
    stop(qts, nic);
out:
    station_free(a);
    fabric_free(fabric);
}

/* The same for a driver that changes its mind, as ethtool -K has it. */
static void test_switch(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree Frame *in = make_frame(mac_guest, mac_a, 5, 100);
    g_autofree Frame *first = make_frame(mac_guest, mac_b, 1, 60);
    QTestState *qts;
    Nic *nic;
    int i;

    qts = start(fabric, "", &nic);
    if (!qts) {
        goto out;
    }
    nic_drive(nic, DRIVER | ACCEPT_ALL);
    nic_fill(nic, 1);
    leave_waiting(a, qts);
    nic_expect(nic, first);
    nic_set_offloads(nic, ACCEPT_CSUM | ACCEPT_TSO6);
    nic_fill(nic, 64);
    WAIT_FOR(!port_flag(qts, "q0", "paused"));
    station_frame(a, NULL, in);
    expect_plain_until(nic, in);
    for (i = 0; i < 3; i++) {
        receive_flow(nic, a, &flows[0], false);
        receive_flow(nic, a, &flows[1], true);
        nic_set_offloads(nic, 0);
        receive_flow(nic, a, &flows[0], false);
        receive_flow(nic, a, &flows[1], false);
        nic_set_offloads(nic, ACCEPT_CSUM | ACCEPT_TSO4);
        receive_flow(nic, a, &flows[0], true);
        receive_flow(nic, a, &flows[1], false);
        nic_set_offloads(nic, ACCEPT_CSUM | ACCEPT_TSO6);
    }
    stop(qts, nic);
out:
    station_free(a);
    fabric_free(fabric);
}

/*
 * What waits for a driver gets the header that the driver is used to, not the
 * one that the device had when it came.
 */
static void test_wait_for_driver(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree Frame *early = make_frame(mac_guest, mac_a, 1,
                                         SEGMENT + headers_size(&flows[0]));
    g_autofree Frame *last = make_frame(mac_guest, mac_a, 2, 300);
    QTestState *qts;
    Nic *nic;
    int i;

    qts = start(fabric, "", &nic);
    if (!qts) {
        goto out;
    }
    for (i = 0; i < 4; i++) {
        station_frame(a, NULL, early);
        WAIT_FOR(port_flag(qts, "q0", "paused"));
        station_frame(a, NULL, early);
        station_frame(a, NULL, last);
        nic_drive(nic, DRIVER | (i % 2 ? 0 : ACCEPT_ALL));
        nic_fill(nic, 16);
        /* QEMU itself drops the first one, at the driver's start. */
        expect_plain_until(nic, last);
        WAIT_FOR(!port_flag(qts, "q0", "paused"));
        nic_undrive(nic);
        QMP(qts, "{ 'execute': 'system_reset' }");
        qtest_qmp_eventwait(qts, "RESET");
    }
    stop(qts, nic);
out:
    station_free(a);
    fabric_free(fabric);
}

/* A guest takes what it has agreed upon along. */
static void test_migration(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree char *dir = g_dir_make_tmp("qdes-test-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "migrate", NULL);
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    g_autofree char *incoming = g_strdup_printf("-incoming %s", uri);
    QTestState *from, *to;
    Nic *nic;

    from = start(fabric, "", &nic);
    if (!from) {
        goto out;
    }
    nic_drive(nic, DRIVER | ACCEPT_CSUM | ACCEPT_TSO4);
    receive_flow(nic, a, &flows[0], true);
    receive_flow(nic, a, &flows[1], false);

    to = pc_start(fabric, 7, "", "virtio-net-pci", incoming);
    QMP(from, "{ 'execute': 'migrate', 'arguments': { 'uri': %s } }", uri);
    qtest_qmp_eventwait(from, "STOP");
    qtest_qmp_eventwait(to, "RESUME");
    nic->qts = nic->bus->qts = to;
    qtest_quit(from);

    receive_flow(nic, a, &flows[0], true);
    receive_flow(nic, a, &flows[1], false);
    stop(to, nic);
    unlink(path);
out:
    rmdir(dir);
    station_free(a);
    fabric_free(fabric);
}

/* --- Other NICs --------------------------------------------------------- */

enum {                          /* registers of an 8254x */
    E_RCTL = 0x100, E_TCTL = 0x400,
    E_RDBAL = 0x2800, E_RDBAH = 0x2804, E_RDLEN = 0x2808, E_RDH = 0x2810,
    E_RDT = 0x2818,
    E_TDBAL = 0x3800, E_TDBAH = 0x3804, E_TDLEN = 0x3808, E_TDH = 0x3810,
    E_TDT = 0x3818,
};

#define E_RING 64               /* descriptors */
#define E_BUFFER 2048
#define E_DONE 1                /* status of a descriptor */

/* A small driver for e1000 and e1000e. */
typedef struct Intel {
    Nic *nic;
    QPCIDevice *dev;
    QPCIBar bar;
    uint64_t rx, tx;            /* rings */
    uint64_t buffers, out;
    unsigned next_rx, next_tx;
} Intel;

static void intel_drive(Intel *e, Nic *nic)
{
    int i;

    e->nic = nic;
    e->dev = qpci_device_find(nic->bus, QPCI_DEVFN(NIC_SLOT, 0));
    g_assert(e->dev);
    qpci_device_enable(e->dev);
    e->bar = qpci_iomap(e->dev, 0, NULL);
    e->rx = guest_alloc(&nic->alloc, 16 * E_RING);
    e->tx = guest_alloc(&nic->alloc, 16 * E_RING);
    e->buffers = guest_alloc(&nic->alloc, E_BUFFER * E_RING);
    e->out = guest_alloc(&nic->alloc, FRAME_MAX);
    e->next_rx = 0;
    e->next_tx = 0;
    qtest_memset(nic->qts, e->rx, 0, 16 * E_RING);
    for (i = 0; i < E_RING; i++) {
        qtest_writeq(nic->qts, e->rx + 16 * i, e->buffers + E_BUFFER * i);
    }
    qpci_io_writel(e->dev, e->bar, E_TDBAL, e->tx);
    qpci_io_writel(e->dev, e->bar, E_TDBAH, e->tx >> 32);
    qpci_io_writel(e->dev, e->bar, E_TDLEN, 16 * E_RING);
    qpci_io_writel(e->dev, e->bar, E_TDH, 0);
    qpci_io_writel(e->dev, e->bar, E_TDT, 0);
    qpci_io_writel(e->dev, e->bar, E_TCTL, 0x2);
    qpci_io_writel(e->dev, e->bar, E_RDBAL, e->rx);
    qpci_io_writel(e->dev, e->bar, E_RDBAH, e->rx >> 32);
    qpci_io_writel(e->dev, e->bar, E_RDLEN, 16 * E_RING);
    qpci_io_writel(e->dev, e->bar, E_RDH, 0);
    qpci_io_writel(e->dev, e->bar, E_RDT, E_RING - 1);
    /* Enabled, all addresses, without the checksum at the end; an e1000 waits
     * a second after that. */
    qpci_io_writel(e->dev, e->bar, E_RCTL, 0x0400801a);
    qtest_clock_step(nic->qts, 2 * 1000000000ll);
}

static void intel_undrive(Intel *e)
{
    qpci_iounmap(e->dev, e->bar);
    g_free(e->dev);
    guest_free(&e->nic->alloc, e->rx);
    guest_free(&e->nic->alloc, e->tx);
    guest_free(&e->nic->alloc, e->buffers);
    guest_free(&e->nic->alloc, e->out);
}

static void intel_put(Intel *e, uint64_t first, uint64_t second)
{
    uint64_t at = e->tx + 16 * e->next_tx;

    qtest_writeq(e->nic->qts, at, first);
    qtest_writeq(e->nic->qts, at + 8, second);
    e->next_tx = (e->next_tx + 1) % E_RING;
}

/* Have the device take what was put there. */
static void intel_go(Intel *e)
{
    unsigned last = (e->next_tx + E_RING - 1) % E_RING;

    qpci_io_writel(e->dev, e->bar, E_TDT, e->next_tx);
    WAIT_FOR(qtest_readb(e->nic->qts, e->tx + 16 * last + 12) & E_DONE);
}

static void intel_send(Intel *e, const Frame *frame)
{
    qtest_memwrite(e->nic->qts, e->out, frame->data, frame->size);
    /* End of packet, with a checksum at the end, report it. */
    intel_put(e, e->out, frame->size | 0x0b << 24);
    intel_go(e);
}

/* Send a frame with TCP over IPv4 to be cut into segments. */
static void intel_send_tso(Intel *e, const Frame *frame)
{
    const Flow *flow = &flows[0];
    uint64_t headers = headers_size(flow);
    uint64_t l4 = l4_offset(flow);

    uint16_t sum = pseudo_sum(flow, frame->data, l4);

    /* The device puts in the lengths, and sums them up. */
    qtest_memwrite(e->nic->qts, e->out, frame->data, frame->size);
    qtest_writew(e->nic->qts, e->out + IP_OFFSET + 2, 0);
    qtest_writew(e->nic->qts, e->out + IP_OFFSET + 10, 0);
    qtest_writew(e->nic->qts, e->out + l4 + csum_offset(flow),
                 cpu_to_be16(sum));
    intel_put(e, IP_OFFSET | (IP_OFFSET + 10) << 8 | (l4 - 1) << 16 |
                 l4 << 32 | (l4 + csum_offset(flow)) << 40,
              (frame->size - headers) | 0x27ull << 24 | headers << 40 |
              (uint64_t)SEGMENT << 48);
    intel_put(e, e->out, frame->size | 1 << 20 | 0x2full << 24 | 3ull << 40);
    intel_go(e);
}

static size_t intel_receive(Intel *e, uint8_t *data)
{
    uint64_t at = e->rx + 16 * e->next_rx;
    size_t size;

    WAIT_FOR(qtest_readb(e->nic->qts, at + 12) & E_DONE);
    size = qtest_readw(e->nic->qts, at + 8);
    g_assert_cmpuint(size, <=, E_BUFFER);
    qtest_memread(e->nic->qts, e->buffers + E_BUFFER * e->next_rx, data, size);
    qtest_writeb(e->nic->qts, at + 12, 0);
    qpci_io_writel(e->dev, e->bar, E_RDT, e->next_rx);
    e->next_rx = (e->next_rx + 1) % E_RING;
    return size;
}

static void intel_expect(Intel *e, const Frame *frame)
{
    uint8_t data[E_BUFFER];
    size_t size = intel_receive(e, data);

    g_assert_cmpuint(size, >=, 60);
    g_assert_cmpuint(size, ==, MAX(frame->size, 60));
    g_assert_cmpmem(data, frame->size, frame->data, frame->size);
    g_assert(buffer_is_zero(data + frame->size, size - frame->size));
}

static void intel_exchange(Intel *e, Station *a)
{
    g_autofree Frame *out = make_frame(mac_a, mac_guest, 1, 1000);
    g_autofree Frame *in = make_frame(mac_guest, mac_a, 2, 1000);
    g_autofree Frame *tiny = make_frame(mac_guest, mac_a, 3, 18);
    g_autofree Frame *first = make_frame(mac_guest, mac_a, 1, 60);
    g_autofree Frame *big = make_packet(&flows[0], mac_a, mac_guest, 0,
                                        20 * SEGMENT + 5, ACK | PSH | FIN,
                                        false);
    size_t offset = 0;

    station_frame(a, NULL, in);
    intel_expect(e, in);
    station_frame(a, NULL, tiny);
    intel_expect(e, tiny);
    intel_send(e, out);
    station_expect(a, a->fd, out);
    intel_send_tso(e, big);
    expect_cut(a, a->fd, mac_a, &flows[0], 20 * SEGMENT + 5);

    send_together(a, e->nic->qts, &flows[0]);
    intel_expect(e, first);
    while (offset < SEGMENTS * SEGMENT) {
        uint8_t data[E_BUFFER];
        size_t size = intel_receive(e, data);

        g_assert_cmpuint(check_packet(&flows[0], mac_guest, mac_a, offset,
                                      data, size), ==, SEGMENT);
        assert_finished(&flows[0], data, size);
        offset += SEGMENT;
    }
}

static void plug(QTestState *qts, const char *model)
{
    qtest_qmp_device_add(qts, model, "n1", "{ 'netdev': 'q0', 'addr': %s, "
                         "'mac': '52:54:00:12:34:56' }",
                         stringify(NIC_SLOT));
}

/*
 * Another model of NIC at the same netdev knows nothing of what the one before
 * agreed upon.
 */
static void test_models(void)
{
    static const char *const models[] = { "e1000", "e1000e", "e1000" };
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    QTestState *qts;
    uint64_t before;
    Intel e;
    Nic *nic;
    int i;

    qts = start(fabric, "", &nic);
    if (!qts) {
        goto out;
    }
    station_control(a, NULL, HELLO);
    nic_drive(nic, DRIVER | ACCEPT_ALL | NIC_OFFLOADS);
    receive_flow(nic, a, &flows[0], true);
    nic_undrive(nic);
    qpci_unplug_acpi_device_test(qts, "n0", NIC_SLOT);

    for (i = 0; i < ARRAY_SIZE(models); i++) {
        if (!qtest_has_device(models[i])) {
            continue;
        }
        plug(qts, models[i]);
        intel_drive(&e, nic);
        intel_exchange(&e, a);
        intel_undrive(&e);
        qpci_unplug_acpi_device_test(qts, "n1", NIC_SLOT);

        plug(qts, "virtio-net-pci");
        nic_drive(nic, DRIVER | ACCEPT_ALL);
        receive_flow(nic, a, &flows[0], true);
        /* Pulled while a superframe waits for it. */
        nic_undrive(nic);
        nic_drive(nic, DRIVER | ACCEPT_ALL);
        nic_fill(nic, 1);
        before = port_count(qts, "q0", "rx-datagrams");
        leave_waiting(a, qts);
        nic_undrive(nic);
        qpci_unplug_acpi_device_test(qts, "n1", NIC_SLOT);
        /* What else waited has nobody to go to. */
        WAIT_FOR(port_count(qts, "q0", "rx-datagrams") ==
                 before + 1 + SEGMENTS);
    }
    stop(qts, nic);
out:
    station_free(a);
    fabric_free(fabric);
}

/* QEMU announces a guest's address by a frame of its own, with no header. */
static void test_announce(void)
{
    static const char *const models[] = { "virtio-net-pci", "vmxnet3", "igb",
                                          "e1000e", "e1000", "rtl8139" };
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree Datagram *dg = g_new(Datagram, 1);
    g_autofree Frame *in = make_frame(mac_guest, mac_a, 1, 300);
    QTestState *qts;
    int i;

    for (i = 0; i < ARRAY_SIZE(models); i++) {
        if (!qtest_has_machine("pc") || !qtest_has_device(models[i])) {
            continue;
        }
        qts = pc_start(fabric, 7, "", models[i], "");
        /* A frame for a guest that does not listen yet does no harm. */
        station_frame(a, NULL, in);
        QMP(qts, "{ 'execute': 'announce-self', 'arguments': { "
            "'initial': 50, 'max': 50, 'rounds': 1, 'step': 0 } }");
        station_wait(a, a->group_fd, DATA, dg);
        g_assert_cmpuint(dg->size, >=, 42);
        g_assert_cmpuint(dg->size, <=, 64);
        g_assert_cmpmem(dg->payload, 6, mac_all, 6);
        g_assert_cmpmem(dg->payload + 6, 6, mac_guest, 6);
        g_assert_cmphex(lduw_be_p(dg->payload + 12), ==, 0x8035); /* RARP */
        QMP(qts, "{ 'execute': 'system_reset' }");
        qtest_qmp_eventwait(qts, "RESET");
        assert_books(qts, "q0");
        qtest_quit(qts);
    }
    station_free(a);
    fabric_free(fabric);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("/qdes/offload/offered", test_offered);
    qtest_add_func("/qdes/offload/off", test_off);
    qtest_add_data_func("/qdes/offload/receive/gso", "", test_receive);
    qtest_add_data_func("/qdes/offload/receive/plain", ",gso=off",
                        test_receive);
    qtest_add_data_func("/qdes/offload/send/gso", "", test_send);
    qtest_add_data_func("/qdes/offload/send/plain", ",gso=off", test_send);
    qtest_add_data_func("/qdes/offload/whole/send", "", test_send_whole);
    qtest_add_data_func("/qdes/offload/whole/off", ",superframes=off",
                        test_send_whole);
    qtest_add_func("/qdes/offload/whole/receive", test_receive_whole);
    qtest_add_func("/qdes/offload/send/bad", test_send_bad);
    qtest_add_func("/qdes/offload/change/reset", test_reset);
    qtest_add_func("/qdes/offload/change/switch", test_switch);
    qtest_add_func("/qdes/offload/change/wait-for-driver",
                   test_wait_for_driver);
    qtest_add_func("/qdes/offload/change/migration", test_migration);
    qtest_add_func("/qdes/offload/change/models", test_models);
    qtest_add_func("/qdes/offload/announce", test_announce);

    return g_test_run();
}
