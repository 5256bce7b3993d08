/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fabric: superframes that stay whole on the wire, between ports and sockets
 * that take them or not
 *
 * What is delivered and what is on the wire is cut here, naively, and
 * compared with the packets that were meant.
 */

#include "offload-port.h"

#include "qdes/segment.h"

#define HEADER QDES_WIRE_SUPERFRAME_SIZE
#define CAP_CSUM QDES_WIRE_CAP_CSUM_PARTIAL
#define CAP_SUPER QDES_WIRE_CAP_SUPERFRAME
#define CAPS (CAP_CSUM | CAP_SUPER)

enum { N_KINDS = G_N_ELEMENTS(kinds), CRUMBS = N_KINDS - 1 };

static Port *open_port(const char *name, bool superframes)
{
    QdesOptions options = { .name = name, .has_superframes = true,
                            .superframes = superframes };

    return port_open_with(&options, false);
}

/* As many packets as the frame stands for. */
static unsigned packets_in(const uint8_t *data, size_t size, size_t vnet_size)
{
    QdesVnet vnet = { 0 };
    QdesPacket packet;

    if (vnet_size) {
        qdes_vnet_decode(&vnet, data, false);
        data += vnet_size;
        size -= vnet_size;
    }
    if (!vnet.gso) {
        return 1;
    }
    ck_assert(qdes_packet_find(&packet, data, size, size, false));
    ck_assert_uint_eq(packet.end, size);
    return (size - packet.payload - 1) / vnet.gso_size + 1;
}

static unsigned packets_at(Port *p, size_t vnet_size)
{
    const uint8_t *data;
    unsigned n = 0;
    size_t size;
    guint i;

    for (i = 0; i < p->frames->len; i++) {
        data = g_bytes_get_data(p->frames->pdata[i], &size);
        n += packets_in(data, size, vnet_size);
    }
    return n;
}

/* The datagrams of which the sample is on loopback. */
static unsigned datagrams(bool superframes)
{
    size_t gso_size = sample.vnet.gso_size;
    size_t room;
    unsigned packets;

    if (!superframes || sample.n == 1) {
        return sample.n;
    }
    room = 65507 - HEADER - (sample.sizes[0] - gso_size);
    packets = MIN(room / gso_size, QDES_SEGMENT_PACKETS);
    return (sample.n - 1) / packets + 1;
}

/* Send the sample from the first port; it comes to the second. */
static void pass_sample(Port **ports, size_t vnet_size, bool superframes)
{
    uint64_t before = C(ports[1], rx_datagrams);

    g_ptr_array_set_size(ports[1]->frames, 0);
    ck_assert(send_sample(ports[0]));
    qdes_fabric_flush(ports[0]->fabric, now);
    WAIT(ports, 2, packets_at(ports[1], vnet_size) >= sample.n);
    expect(ports[1], vnet_size);
    ck_assert_uint_eq(C(ports[1], rx_datagrams) - before,
                      datagrams(superframes));
}

enum { OURS_OFF = 1, THEIRS_OFF = 2, OURS_PLAIN = 4, THEIRS_PLAIN = 8,
       THEIRS_NO_VNET = 16, ALL_WAYS = 32 };

/* Either side can do without. */
START_TEST(test_pairs)
{
    QdesOptions a = { .name = "a", .has_superframes = true,
                      .superframes = !(_i & OURS_OFF) };
    QdesOptions b = { .name = "b", .has_superframes = true,
                      .superframes = !(_i & THEIRS_OFF) };
    size_t vnet = _i & THEIRS_NO_VNET ? 0 : VNET;
    bool superframes = !(_i & (OURS_OFF | THEIRS_OFF));
    Port *ports[2];
    int i;

    ports[0] = port_open_with(&a, _i & OURS_PLAIN);
    ports[1] = port_open_with(&b, _i & THEIRS_PLAIN);
    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    if (vnet) {
        qdes_fabric_set_port(ports[1]->fabric, &all_offloads);
    }
    meet(ports[0], ports[1], vnet);
    for (i = 0; i < N_KINDS; i++) {
        make_kind(i);
        pass_sample(ports, vnet, superframes);
        if (vnet && superframes) {
            ck_assert_uint_eq(ports[1]->frames->len, datagrams(true));
        }
    }
    ck_assert_uint_eq(C(ports[0], tx_superframes), 7);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

enum { CSUM = 1, TSO4 = 2, TSO6 = 4, ECN = 8, USO4 = 16, USO6 = 32,
       ALL_FEATURES = 64 };

static bool accepts(int features, const QdesVnet *vnet, bool v6)
{
    switch (vnet->gso) {
    case QDES_GSO_NONE:
        return !vnet->needs_csum || features & CSUM;
    case QDES_GSO_TCP4:
        return features & CSUM && features & TSO4 &&
               (features & ECN || !vnet->ecn);
    case QDES_GSO_TCP6:
        return features & CSUM && features & TSO6 &&
               (features & ECN || !vnet->ecn);
    default:
        return features & CSUM && features & (v6 ? USO6 : USO4);
    }
}

/* A port gets only what it accepts, and that in one piece. */
START_TEST(test_features)
{
    const QdesPort port = {
        .vnet_size = VNET, .csum = _i & CSUM, .tso4 = _i & TSO4,
        .tso6 = _i & TSO6, .ecn = _i & ECN, .uso4 = _i & USO4,
        .uso6 = _i & USO6,
    };
    Port *ports[] = { open_port("a", true), open_port("b", true) };
    const uint8_t *data;
    QdesVnet vnet;
    guint j;
    int i, cwr;
    bool v6;

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    qdes_fabric_set_port(ports[1]->fabric, &port);
    meet(ports[0], ports[1], VNET);
    for (i = 0; i < 2 * N_KINDS; i++) {
        cwr = i % 2 && !kinds[i / 2].udp;
        make_kind_flags(i / 2, PACKET_ACK | PACKET_PSH |
                               (cwr ? PACKET_CWR : 0));
        pass_sample(ports, VNET, true);
        for (j = 0; j < ports[1]->frames->len; j++) {
            data = g_bytes_get_data(ports[1]->frames->pdata[j], NULL);
            qdes_vnet_decode(&vnet, data, false);
            v6 = kinds[i / 2].v6;
            ck_assert(accepts(_i, &vnet, v6));
            ck_assert_int_eq(vnet.ecn, vnet.gso && cwr && j == 0);
        }
        vnet = sample.vnet;
        vnet.ecn = cwr;
        if (accepts(_i, &vnet, kinds[i / 2].v6)) {
            ck_assert_uint_eq(ports[1]->frames->len, datagrams(true));
        }
    }
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* To the group, to nobody in particular: packets. */
START_TEST(test_flood)
{
    Port *ports[] = { open_port("a", true), open_port("b", true) };

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    WAIT(ports, 2, C(ports[0], rx_hello) && C(ports[1], rx_hello));
    make_kind(4);
    ck_assert(send_sample(ports[0]));
    WAIT(ports, 2, packets_at(ports[1], 0) == sample.n);
    expect(ports[1], 0);
    ck_assert_uint_eq(C(ports[0], tx_flooded), sample.n);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* On the wire */

/* The datagram is one or more packets of the sample from number *@done on. */
static void expect_datagram(const uint8_t *data, size_t size, bool superframe,
                            bool partial, unsigned *done, const uint8_t **want)
{
    static size_t sizes[MAX_FRAMES];
    g_autofree uint8_t *cut = g_malloc(4 * PACKET_MAX);
    uint8_t *at = cut;
    QdesWireHeader header;
    QdesVnet vnet;
    unsigned i, n = 1;
    bool v6;

    ck_assert_int_eq(qdes_wire_decode(&header, data, size), QDES_WIRE_OK);
    ck_assert_int_eq(header.superframe, superframe);
    ck_assert_int_eq(header.csum_partial, partial);
    sizes[0] = header.payload_size;
    memcpy(cut, header.payload, header.payload_size);
    if (superframe) {
        ck_assert_uint_eq(header.segment_size, sample.vnet.gso_size);
        ck_assert(qdes_segment_describe(&vnet, &v6, header.payload,
                                        header.payload_size,
                                        header.segment_size));
        /* The last one may have a single packet left. */
        vnet.gso = vnet.csum_offset == 6 ? QDES_GSO_UDP : QDES_GSO_TCP4;
        vnet.gso_size = header.segment_size;
        n = naive_segment(header.payload, header.payload_size, &vnet, cut,
                          sizes);
    } else if (partial) {
        ck_assert(qdes_packet_finish(cut, sizes[0]));
    }
    for (i = 0; i < n; at += sizes[i++]) {
        ck_assert_uint_lt(*done, sample.n);
        ck_assert_uint_eq(sizes[i], sample.sizes[*done]);
        ck_assert_mem_eq(at, *want, sizes[i]);
        *want += sample.sizes[(*done)++];
    }
}

/* Read the sample from a socket, in at most @max bytes each.  Returns the
 * number of datagrams. */
static unsigned read_sample(int fd, bool superframe, bool partial, size_t max)
{
    static uint8_t data[65536];
    const uint8_t *want = sample.frames;
    unsigned done = 0;
    unsigned n = 0;
    ssize_t size;

    while (done < sample.n) {
        size = recv(fd, data, sizeof(data), 0);
        ck_assert_int_gt(size, 0);
        ck_assert_int_le(size, max);
        expect_datagram(data, size, superframe, partial, &done, &want);
        n++;
    }
    return n;
}

/* Superframes go only to who announced that, and unfinished checksums. */
START_TEST(test_capabilities)
{
    Port *port = open_port("a", true);
    int fd = open_peer(port, _i, 0);
    bool partial = _i & CAP_CSUM;
    bool superframe;
    int i;

    qdes_fabric_set_port(port->fabric, &all_offloads);
    for (i = 0; i < N_KINDS; i++) {
        make_kind(i);
        ck_assert(send_sample(port));
        qdes_fabric_flush(port->fabric, now);
        superframe = _i == CAPS && sample.n > 1;
        if (i == CRUMBS && !superframe) {
            continue;           /* more than the socket has room for */
        }
        ck_assert_uint_eq(read_sample(fd, superframe, partial, 65507),
                          datagrams(superframe));
    }
    close(fd);
    port_close(port);
}
END_TEST

/* As many packets as the peer's MTU has room for; one alone is none. */
START_TEST(test_peer_mtu)
{
    static const struct {
        uint32_t mtu;
        bool superframe;
        unsigned datagrams;
    } cases[] = {
        { 1502, false, 42 },
        { 54 + 2 * 1448 + 1, false, 42 },
        { 54 + 2 * 1448 + 2, true, 21 },
        { 54 + 3 * 1448 + 1, true, 21 },
        { 54 + 3 * 1448 + 2, true, 14 },
        { 9000, true, 7 },
        { 60056, true, 2 },
        { 54 + 42 * 1448 + 2, true, 1 },
        { UINT32_MAX, true, 1 },
        { UINT32_MAX - 7, true, 1 },
    };
    Port *port = open_port("a", true);
    int fd = open_peer(port, CAPS, cases[_i].mtu);

    qdes_fabric_set_port(port->fabric, &all_offloads);
    make_kind(0);
    ck_assert(send_sample(port));
    ck_assert_uint_eq(read_sample(fd, cases[_i].superframe, true,
                                  (size_t)cases[_i].mtu + 8),
                      cases[_i].datagrams);
    close(fd);
    port_close(port);
}
END_TEST

/* Less than anybody has means the least that is taken for true. */
START_TEST(test_absurd_mtu)
{
    static const uint32_t mtus[] = { 1, 2, 14, 55 };
    static uint8_t data[65536];
    Port *port = open_port("a", true);
    int fd = open_peer(port, CAPS, mtus[_i]);
    size_t left;
    ssize_t size;

    qdes_fabric_set_port(port->fabric, &all_offloads);
    make_kind(0);
    ck_assert(send_sample(port));
    for (left = 60000; left > 0; left -= size - 8 - 54) {
        size = recv(fd, data, sizeof(data), 0);
        ck_assert_int_gt(size, 8 + 54);
        ck_assert_int_le(size, 8 + 576);
        ck_assert_uint_eq(data[3], QDES_WIRE_FLAG_CSUM_PARTIAL);
    }
    close(fd);
    port_close(port);
}
END_TEST

/* In the queue */

static void say_hello(Port *port, int fd, QdesWireType type,
                      uint32_t capabilities)
{
    QdesWireHello hello = { .instance = 7, .capabilities = capabilities };
    uint8_t data[QDES_WIRE_HELLO_SIZE];
    size_t size = qdes_wire_encode_hello(data, type, 0, &hello);
    uint64_t before = C(port, rx_hello) + C(port, rx_bye);

    ck_assert_int_eq(send(fd, data, size, 0), size);
    WAIT(&port, 1, C(port, rx_hello) + C(port, rx_bye) > before);
}

/*
 * Superframes wait for room in the socket; meanwhile their peer goes, or
 * takes them no more: nobody else was known to.
 */
START_TEST(test_way_is_lost_in_queue)
{
    static const struct {
        QdesWireType type;
        uint32_t capabilities;
        bool lost;
    } cases[] = {
        { QDES_WIRE_HELLO, CAPS, false },
        { QDES_WIRE_HELLO, CAP_CSUM, true },
        { QDES_WIRE_HELLO, CAP_SUPER, true },
        { QDES_WIRE_HELLO, 0, true },
        { QDES_WIRE_BYE, 0, true },
    };
    enum { SENT = 3, ALL = 8 };
    QdesOptions options = { .name = "a", .has_gso = true };
    Port *port = port_open_with(&options, false);
    int fd = open_peer(port, CAPS, 0);
    const uint8_t *want = sample.frames;
    static uint8_t data[65536];
    unsigned done = 0;
    ssize_t size;
    int i;

    qdes_fabric_set_port(port->fabric, &all_offloads);
    make_kind(CRUMBS);
    ck_assert_uint_eq(datagrams(true), ALL);
    fault.err = EAGAIN;
    fault.after = SENT;
    fault.times = -1;
    ck_assert(send_sample(port));
    ck_assert_uint_eq(C(port, tx_unicast), SENT);
    ck_assert_uint_eq(C(port, tx_blocked), 1);
    /* What comes to be written is full still. */
    say_hello(port, fd, cases[_i].type, cases[_i].capabilities);
    fault.err = 0;
    WAIT(&port, 1, port->writable == 1);
    for (i = 0; i < (cases[_i].lost ? SENT : ALL); i++) {
        size = recv(fd, data, sizeof(data), 0);
        expect_datagram(data, size, true, true, &done, &want);
    }
    size = recv(fd, data, sizeof(data), MSG_DONTWAIT);
    while (size > 0 && data[2] != 0x10) {
        size = recv(fd, data, sizeof(data), MSG_DONTWAIT); /* HELLOs */
    }
    ck_assert_int_lt(size, 0);
    ck_assert_uint_eq(C(port, tx_unicast), cases[_i].lost ? SENT : ALL);
    ck_assert_uint_eq(C(port, tx_drop_unreachable),
                      cases[_i].lost ? ALL - SENT : 0);
    ck_assert_uint_eq(C(port, tx_flooded), 0);
    close(fd);
    port_close(port);
}
END_TEST

/* Full, at any time: nothing is lost, comes twice or in another order. */
START_TEST(test_blocked)
{
    QdesOptions options = { .name = "a", .has_gso = true, .gso = _i > 0 };
    Port *ports[] = { port_open_with(&options, _i == 2),
                      open_port("b", true) };
    int i, after, writable_before;

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    qdes_fabric_set_port(ports[1]->fabric, &all_offloads);
    meet(ports[0], ports[1], VNET);
    for (i = 0; i < N_KINDS; i++) {
        for (after = 0; after < (i == CRUMBS ? 9 : 2); after++) {
            make_kind(i);
            g_ptr_array_set_size(ports[1]->frames, 0);
            fault.err = EAGAIN;
            fault.after = after;
            fault.times = -1;
            writable_before = ports[0]->writable;
            if (!send_sample(ports[0])) {
                fault.err = 0;
                WAIT(ports, 2, ports[0]->writable > writable_before);
                ck_assert(send_sample(ports[0]));
            }
            fault.err = 0;
            qdes_fabric_flush(ports[0]->fabric, now);
            WAIT(ports, 2, packets_at(ports[1], VNET) >= sample.n);
            expect(ports[1], VNET);
        }
    }
    ck_assert_uint_eq(C(ports[0], tx_drop_nobufs), 0);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* An error costs the datagram that it is about. */
START_TEST(test_error)
{
    QdesOptions options = { .name = "a", .has_gso = true };
    Port *ports[] = { port_open_with(&options, false), open_port("b", true) };

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    meet(ports[0], ports[1], 0);
    make_kind(CRUMBS);
    fault.err = EPERM;
    fault.after = 2;
    fault.times = 2;
    ck_assert(send_sample(ports[0]));
    ck_assert_uint_eq(C(ports[0], tx_drop_denied), 2);
    WAIT(ports, 2, packets_at(ports[1], 0) == sample.n - 2 * 128);
    ck_assert_uint_eq(C(ports[1], rx_frames), 6);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* The peer turns out to be gone: what is under way floods, as packets. */
START_TEST(test_peer_unreachable)
{
    Port *ports[] = { open_port("a", true), open_port("b", true) };

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    meet(ports[0], ports[1], 0);
    make_kind(0);
    fault.err = EHOSTUNREACH;
    fault.times = 2;
    ck_assert(send_sample(ports[0]));
    WAIT(ports, 2, packets_at(ports[1], 0) == sample.n);
    expect(ports[1], 0);
    ck_assert_uint_eq(C(ports[0], tx_flooded), sample.n);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* The port becomes full in the midst of a cut */

/* A port that takes no superframe got the first packet of kind 2, and is
 * full. */
static void begin_cut(Port **ports, const QdesPort *port)
{
    ports[0] = open_port("a", true);
    ports[1] = open_port("b", true);
    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    qdes_fabric_set_port(ports[1]->fabric, port);
    meet(ports[0], ports[1], port->vnet_size);
    ports[1]->verdict = QDES_DELIVERED_FULL;
    make_kind(2);
    ck_assert_uint_eq(sample.n, 20);
    ck_assert(send_sample(ports[0]));
    WAIT(ports, 2, ports[1]->frames->len == 1);
    serve(ports, 2);
    ck_assert_uint_eq(ports[1]->frames->len, 1);
}

static void end_cut(Port **ports)
{
    port_close(ports[0]);
    port_close(ports[1]);
}

START_TEST(test_full)
{
    Port *ports[2];
    unsigned i;

    begin_cut(ports, &(QdesPort) { 0 });
    for (i = 2; i <= sample.n; i++) {
        /* Not in the books before it is through. */
        ck_assert_uint_eq(C(ports[1], rx_frames), 0);
        qdes_fabric_resume(ports[1]->fabric, now);
        ck_assert_uint_eq(ports[1]->frames->len, i);
        ck_assert_uint_eq(C(ports[1], rx_paused), i);
    }
    expect(ports[1], 0);
    ck_assert_uint_eq(C(ports[1], rx_frames), 1);
    ports[1]->verdict = QDES_DELIVERED;
    qdes_fabric_resume(ports[1]->fabric, now);
    ck_assert_uint_eq(ports[1]->frames->len, sample.n);
    pass_sample(ports, 0, true);
    end_cut(ports);
}
END_TEST

/* It gets the rest as it wants it by now. */
START_TEST(test_port_changes_in_cut)
{
    static const QdesPort bare = { .vnet_size = VNET };
    Port *ports[2];
    size_t vnet;
    GBytes *first;

    begin_cut(ports, _i & 1 ? &bare : &(QdesPort) { 0 });
    vnet = _i & 1 ? VNET : 0;
    if (_i & 2) {
        qdes_fabric_set_port(ports[1]->fabric, &(QdesPort) { 0 });
    } else {
        qdes_fabric_set_port(ports[1]->fabric, &all_offloads);
    }
    /* The first one, in the form that the rest has. */
    first = g_bytes_new_from_bytes(ports[1]->frames->pdata[0], vnet,
                                   sample.sizes[0]);
    ck_assert_mem_eq(g_bytes_get_data(first, NULL), sample.frames,
                     sample.sizes[0]);
    g_bytes_unref(first);
    if (!(_i & 2)) {
        uint8_t data[VNET + 2048] = { 0 };

        memcpy(data + VNET, sample.frames, sample.sizes[0]);
        first = g_bytes_new(data, VNET + sample.sizes[0]);
    } else {
        first = g_bytes_new(sample.frames, sample.sizes[0]);
    }
    g_bytes_unref(ports[1]->frames->pdata[0]);
    ports[1]->frames->pdata[0] = first;

    ports[1]->verdict = QDES_DELIVERED;
    qdes_fabric_resume(ports[1]->fabric, now);
    ck_assert_uint_eq(ports[1]->frames->len, sample.n);
    expect(ports[1], _i & 2 ? 0 : VNET);
    ck_assert_uint_eq(C(ports[1], rx_frames), 1);
    end_cut(ports);
}
END_TEST

START_TEST(test_link_down_in_cut)
{
    Port *ports[2];

    begin_cut(ports, &(QdesPort) { 0 });
    qdes_fabric_set_link(ports[1]->fabric, false, now);
    qdes_fabric_resume(ports[1]->fabric, now);
    ck_assert_uint_eq(ports[1]->frames->len, 1);
    ck_assert_uint_eq(C(ports[1], rx_drop_link), 1);
    ports[1]->verdict = QDES_DELIVERED;
    qdes_fabric_set_link(ports[1]->fabric, true, now);
    qdes_fabric_resume(ports[1]->fabric, now);
    ck_assert_uint_eq(ports[1]->frames->len, 1);
    end_cut(ports);
}
END_TEST

START_TEST(test_refused_in_cut)
{
    Port *ports[2];

    begin_cut(ports, &(QdesPort) { 0 });
    ports[1]->verdict = QDES_REFUSED;
    qdes_fabric_resume(ports[1]->fabric, now);
    ck_assert_uint_eq(ports[1]->frames->len, 1);
    ck_assert_uint_eq(C(ports[1], rx_drop_port), 1);
    ck_assert_uint_eq(C(ports[1], rx_frames), 0);
    ports[1]->verdict = QDES_DELIVERED;
    pass_sample(ports, 0, true);
    end_cut(ports);
}
END_TEST

/* The sanitizers see if anything of it stays. */
START_TEST(test_end_in_cut)
{
    Port *ports[2];

    begin_cut(ports, &(QdesPort) { 0 });
    end_cut(ports);
}
END_TEST

/* From a socket */

/* The sample as a datagram; returns its size. */
static size_t write_datagram(uint8_t *data, bool superframe)
{
    if (!superframe) {
        qdes_wire_encode_header(data, QDES_WIRE_DATA,
                                QDES_WIRE_FLAG_CSUM_PARTIAL, 0);
        memcpy(data + 8, sample_frame(), sample.size);
        return 8 + sample.size;
    }
    qdes_wire_encode_superframe(data, 0, sample.vnet.gso_size, 0);
    memcpy(data + HEADER, sample_frame(), sample.size);
    return HEADER + sample.size;
}

/*
 * Superframes and others in one train, to a port that takes one packet at a
 * time: all that is in them, in order.
 */
START_TEST(test_train)
{
    enum { N = 40, SIZE = HEADER + 54 + 1000 };
    Port *port = open_port("a", true);
    int fd = open_peer(port, CAPS, 0);
    const QdesPort ports[] = {
        { .vnet_size = 0 }, { .vnet_size = VNET },
        { .vnet_size = VNET, .csum = true }, all_offloads,
    };
    size_t vnet_size = ports[_i].vnet_size;
    g_autofree uint8_t *train = g_malloc(N * SIZE);
    g_autoptr(GByteArray) want = g_byte_array_new();
    g_autoptr(GByteArray) got = g_byte_array_new();
    GRand *rand = unit_rand("test_train");
    Packet p = { PACKET_DEFAULT, .mac = 7 };
    static size_t sizes[MAX_FRAMES];
    g_autofree uint8_t *cut = g_malloc(4 * PACKET_MAX);
    unsigned packets = 0;
    int segment = SIZE;
    const uint8_t *data;
    QdesVnet vnet = { 0 };
    unsigned i, j, n;
    size_t size, bytes;
    bool superframe;

    qdes_fabric_set_port(port->fabric, &ports[_i]);
    for (i = 0; i < N; i++) {
        superframe = g_rand_int_range(rand, 0, 3);
        p.payload = superframe ? 1000 : 1002;
        make(&p, superframe ? g_rand_int_range(rand, 50, 1001) : 0);
        ck_assert_uint_eq(write_datagram(train + i * SIZE, superframe), SIZE);
        for (j = 0, bytes = 0; j < sample.n; j++) {
            bytes += sample.sizes[j];
        }
        g_byte_array_append(want, sample.frames, bytes);
        packets += sample.n;
        p.seq += p.payload;
        p.id += sample.n;
    }
    g_ptr_array_set_size(port->frames, 0);
    port->verdict = QDES_DELIVERED_FULL;
    if (setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)) == 0) {
        ck_assert_int_eq(send(fd, train, N * SIZE, 0), N * SIZE);
    } else {
        for (i = 0; i < N; i++) {
            ck_assert_int_eq(send(fd, train + i * SIZE, SIZE, 0), SIZE);
        }
    }
    for (n = 1; packets_at(port, vnet_size) < packets; n++) {
        WAIT(&port, 1, port->frames->len >= n);
        serve(&port, 1);
        ck_assert_uint_eq(port->frames->len, n);
        qdes_fabric_resume(port->fabric, now);
    }
    for (i = 0; i < port->frames->len; i++) {
        data = g_bytes_get_data(port->frames->pdata[i], &size);
        if (vnet_size) {
            qdes_vnet_decode(&vnet, data, false);
        }
        data += vnet_size;
        size -= vnet_size;
        if (vnet.gso) {
            n = naive_segment(data, size, &vnet, cut, sizes);
            for (j = 0, bytes = 0; j < n; j++) {
                bytes += sizes[j];
            }
            g_byte_array_append(got, cut, bytes);
            continue;
        }
        memcpy(cut, data, size);
        ck_assert(!vnet.needs_csum || qdes_packet_finish(cut, size));
        g_byte_array_append(got, cut, size);
    }
    ck_assert_uint_eq(got->len, want->len);
    ck_assert_mem_eq(got->data, want->data, want->len);
    ck_assert_uint_eq(C(port, rx_frames), 1 + N);
    close(fd);
    port_close(port);
    g_rand_free(rand);
}
END_TEST

/* A superframe that is none: dropped, counted, and nothing learned of it. */
START_TEST(test_hostile)
{
    static const struct {
        const char *what;
        uint16_t segment_size;
        size_t payload, padding;
        uint16_t frag;
        uint8_t flags;
        int at;                 /* of the frame, where a byte is changed */
        uint8_t to;
    } cases[] = {
        { "no segment size", 0, 100, 0, 0, PACKET_ACK, 0, 0x52 },
        { "padding", 50, 100, 1, 0, PACKET_ACK, 0, 0x52 },
        { "a fragment", 50, 100, 0, 0x2000, PACKET_ACK, 0, 0x52 },
        { "a fragment's end", 50, 100, 0, 0x0001, PACKET_ACK, 0, 0x52 },
        { "129 packets", 10, 1281, 0, 0, PACKET_ACK, 0, 0x52 },
        { "SYN", 50, 51, 0, 0, PACKET_SYN, 0, 0x52 },
        { "RST", 50, 51, 0, 0, PACKET_RST, 0, 0x52 },
        { "ARP", 50, 100, 0, 0, PACKET_ACK, 13, 0x06 },
        { "SCTP", 50, 100, 0, 0, PACKET_ACK, 23, 132 },
        { "IP options of no size", 50, 100, 0, 0, PACKET_ACK, 14, 0x41 },
        { "no TCP header", 50, 100, 0, 0, PACKET_ACK, 46, 0x40 },
        { "a length past the end", 50, 100, 0, 0, PACKET_ACK, 16, 1 },
        { "a length before the end", 50, 100, 0, 0, PACKET_ACK, 17, 100 },
    };
    const QdesPort ports[] = { { .vnet_size = 0 }, all_offloads };
    uint8_t data[HEADER + 2048];
    Port *port = open_port("a", true);
    int fd = open_peer(port, CAPS, 0);
    uint64_t learned = C(port, fdb_learned);
    size_t i, size;

    qdes_fabric_set_port(port->fabric, &ports[_i]);
    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        Packet p = { PACKET_DEFAULT, .mac = 99, .csum = PACKET_PARTIAL };

        p.payload = cases[i].payload;
        p.padding = cases[i].padding;
        p.frag = cases[i].frag;
        p.flags = cases[i].flags;
        qdes_wire_encode_superframe(data, 0, cases[i].segment_size, 0);
        size = HEADER + packet_write(&p, data + HEADER);
        data[HEADER + cases[i].at] = cases[i].to;
        ck_assert_int_eq(send(fd, data, size, 0), size);
        WAIT(&port, 1, C(port, rx_datagrams) == 2 + i + 1);
        ck_assert_msg(C(port, rx_drop_superframe) == i + 1, "%s",
                      cases[i].what);
    }
    ck_assert_uint_eq(C(port, fdb_learned), learned);
    ck_assert_uint_eq(port->frames->len, 1);

    /* A good one; the frame's source is a group, then. */
    data[HEADER + 17] = 140;
    data[HEADER + 6] = 0x53;
    ck_assert_int_eq(send(fd, data, size, 0), size);
    WAIT(&port, 1, C(port, rx_drop_source) == 1);
    data[HEADER + 6] = 0x52;
    ck_assert_int_eq(send(fd, data, size, 0), size);
    WAIT(&port, 1, C(port, rx_frames) == 2);
    ck_assert_uint_eq(C(port, fdb_learned), learned + 1);
    close(fd);
    port_close(port);
}
END_TEST

/* One packet, or none, that says SUPERFRAME all the same. */
START_TEST(test_single)
{
    static const uint16_t segment_sizes[] = { 100, 101, 65535 };
    const QdesPort ports[] = { { .vnet_size = 0 }, { .vnet_size = VNET },
                               all_offloads };
    Port *port = open_port("a", true);
    int fd = open_peer(port, CAPS, 0);
    uint8_t data[HEADER + 2048];
    Packet p = { PACKET_DEFAULT, .mac = 7 };
    size_t i, size;

    qdes_fabric_set_port(port->fabric, &ports[_i]);
    for (i = 0; i < 2 * G_N_ELEMENTS(segment_sizes); i++) {
        g_ptr_array_set_size(port->frames, 0);
        p.payload = i % 2 ? 0 : 100;
        make(&p, 0);
        if (i % 2) {
            /* Naively, nothing is cut to nothing. */
            p.csum = PACKET_FULL;
            sample.sizes[0] = packet_write(&p, sample.frames);
            sample.n = 1;
        }
        sample.vnet.gso_size = segment_sizes[i / 2];
        size = write_datagram(data, true);
        ck_assert_int_eq(send(fd, data, size, 0), size);
        WAIT(&port, 1, port->frames->len == 1);
        expect(port, ports[_i].vnet_size);
    }
    ck_assert_uint_eq(C(port, rx_superframes), 0);
    close(fd);
    port_close(port);
}
END_TEST

/* Anything, to a port that is now and then full, and changes. */
START_TEST(test_random)
{
    GRand *rand = unit_rand("test_random");
    Port *ports[] = { open_port("a", true), open_port("b", true) };
    QdesPort port = { .vnet_size = VNET };
    Packet p = { PACKET_DEFAULT };
    int64_t end;
    int round;

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    qdes_fabric_set_port(ports[1]->fabric, &port);
    meet(ports[0], ports[1], VNET);
    for (round = 0; round < 300; round++) {
        p.mac = 7;
        p.v6 = g_rand_boolean(rand);
        p.udp = g_rand_boolean(rand);
        p.tags = g_rand_int_range(rand, 0, 3);
        p.ip_options = p.v6 ? 0 : 4 * g_rand_int_range(rand, 0, 11);
        p.ext = p.v6 ? 8 * g_rand_int_range(rand, 0, 5) : 0;
        p.options_size = 4 * g_rand_int_range(rand, 0, 11);
        p.id = g_rand_int(rand);
        p.seq = g_rand_int(rand);
        p.flags = PACKET_ACK | (g_rand_int(rand) &
                                (PACKET_FIN | PACKET_PSH | PACKET_ECE |
                                 PACKET_CWR));
        p.payload = g_rand_int_range(rand, 1, round % 4 ? 5000 : 65000);
        make(&p, MIN(p.payload / g_rand_int_range(rand, 1, 200) + 1, 16000));
        port.csum = g_rand_int_range(rand, 0, 4);
        port.tso4 = g_rand_boolean(rand);
        port.tso6 = g_rand_boolean(rand);
        port.ecn = g_rand_boolean(rand);
        port.uso4 = g_rand_boolean(rand);
        port.uso6 = g_rand_boolean(rand);
        qdes_fabric_set_port(ports[1]->fabric, &port);
        g_ptr_array_set_size(ports[1]->frames, 0);
        ck_assert(send_sample(ports[0]));
        qdes_fabric_flush(ports[0]->fabric, now);
        end = g_get_monotonic_time() + WAIT_S * G_USEC_PER_SEC;
        while (packets_at(ports[1], VNET) < sample.n) {
            ck_assert_int_lt(g_get_monotonic_time(), end);
            ports[1]->verdict = g_rand_boolean(rand) ? QDES_DELIVERED_FULL
                                                     : QDES_DELIVERED;
            qdes_fabric_resume(ports[1]->fabric, now);
            serve(ports, 2);
        }
        expect(ports[1], VNET);
        ports[1]->verdict = QDES_DELIVERED;
        qdes_fabric_resume(ports[1]->fabric, now);
    }
    ck_assert_uint_gt(C(ports[1], rx_superframes), 10);
    ck_assert_uint_eq(C(ports[0], tx_unicast), C(ports[1], rx_frames));
    port_close(ports[0]);
    port_close(ports[1]);
    g_rand_free(rand);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("superframe");
    TCase *tc = tcase_create("superframe");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_loop_test(tc, test_pairs, 0, ALL_WAYS);
    tcase_add_loop_test(tc, test_features, 0, ALL_FEATURES);
    tcase_add_test(tc, test_flood);
    tcase_add_loop_test(tc, test_capabilities, 0, 4);
    tcase_add_loop_test(tc, test_peer_mtu, 0, 10);
    tcase_add_loop_test(tc, test_absurd_mtu, 0, 4);
    tcase_add_loop_test(tc, test_way_is_lost_in_queue, 0, 5);
    tcase_add_loop_test(tc, test_blocked, 0, 3);
    tcase_add_test(tc, test_error);
    tcase_add_test(tc, test_peer_unreachable);
    tcase_add_test(tc, test_full);
    tcase_add_loop_test(tc, test_port_changes_in_cut, 0, 4);
    tcase_add_test(tc, test_link_down_in_cut);
    tcase_add_test(tc, test_refused_in_cut);
    tcase_add_test(tc, test_end_in_cut);
    tcase_add_loop_test(tc, test_train, 0, 4);
    tcase_add_loop_test(tc, test_hostile, 0, 2);
    tcase_add_loop_test(tc, test_single, 0, 3);
    tcase_add_test(tc, test_random);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
