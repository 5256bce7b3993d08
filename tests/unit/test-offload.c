/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fabric: superframes that are cut and put together again, unfinished
 * checksums and trains, between ports with and without a virtio_net_hdr
 *
 * On loopback, superframes would stay whole, of which test-superframe.c is:
 * here ports are told to cut them.
 */

#include "offload-port.h"

/* A port that sends no superframes. */
static Port *open_cutting(const char *name)
{
    QdesOptions options = { .name = name, .has_superframes = true };

    return port_open_with(&options, false);
}

enum { OURS_PLAIN = 1, OURS_NO_GSO = 2, THEIRS_PLAIN = 4, THEIRS_NO_GSO = 8,
       THEIRS_NO_VNET = 16, ALL_WAYS = 32 };

/* Everything passes between all kinds of ports. */
START_TEST(test_pairs)
{
    QdesOptions a = { .name = "a", .has_superframes = true, .has_gso = true,
                      .gso = !(_i & OURS_NO_GSO) };
    QdesOptions b = { .name = "b", .has_gso = true,
                      .gso = !(_i & THEIRS_NO_GSO) };
    size_t vnet = _i & THEIRS_NO_VNET ? 0 : VNET;
    Port *ports[2];
    uint64_t frames;
    size_t i;

    ports[0] = port_open_with(&a, _i & OURS_PLAIN);
    ports[1] = port_open_with(&b, _i & THEIRS_PLAIN);
    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    if (vnet) {
        qdes_fabric_set_port(ports[1]->fabric, &all_offloads);
    }
    meet(ports[0], ports[1], vnet);
    for (i = 0; i < G_N_ELEMENTS(kinds); i++) {
        make_kind(i);
        frames = C(ports[1], rx_frames);
        ck_assert(send_sample(ports[0]));
        qdes_fabric_flush(ports[0]->fabric, now);
        WAIT(ports, 2, C(ports[1], rx_frames) == frames + sample.n);
        expect(ports[1], vnet);
        if (vnet && !(_i & ~OURS_PLAIN) && sample.n > 1 && sample.n < 50) {
            /* One datagram more or less to a read is no matter. */
            ck_assert_uint_le(ports[1]->frames->len, 4);
        }
        g_ptr_array_set_size(ports[1]->frames, 0);
    }
    ck_assert_uint_eq(C(ports[0], tx_superframes), 7);
    ck_assert_int_eq(C(ports[0], tx_trains) > 0,
                     !(_i & (OURS_PLAIN | OURS_NO_GSO)));
    ck_assert_int_eq(fault.trains > 0,
                     !(_i & (OURS_PLAIN | OURS_NO_GSO)));
    ck_assert_int_eq(C(ports[1], rx_superframes) > 0, vnet != 0);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* A port gets only what it accepts. */
START_TEST(test_features)
{
    static const QdesPort none = { .vnet_size = VNET };
    static const QdesPort csum = { .vnet_size = VNET, .csum = true };
    static const QdesPort tso4 = { .vnet_size = VNET, .csum = true,
                                   .tso4 = true };
    static const QdesPort no_csum = { .vnet_size = VNET, .tso4 = true,
                                      .tso6 = true, .uso4 = true };
    static const QdesPort *const accepted[] = { &none, &csum, &tso4,
                                                &no_csum };
    const QdesPort *port = accepted[_i];
    Port *ports[] = { open_cutting("a"), port_open("b") };
    const uint8_t *data;
    uint64_t frames;
    QdesVnet vnet;
    unsigned i, j;

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    qdes_fabric_set_port(ports[1]->fabric, port);
    meet(ports[0], ports[1], VNET);
    for (i = 0; i < G_N_ELEMENTS(kinds); i++) {
        make_kind(i);
        frames = C(ports[1], rx_frames);
        ck_assert(send_sample(ports[0]));
        qdes_fabric_flush(ports[0]->fabric, now);
        WAIT(ports, 2, C(ports[1], rx_frames) == frames + sample.n);
        expect(ports[1], VNET);
        for (j = 0; j < ports[1]->frames->len; j++) {
            data = g_bytes_get_data(ports[1]->frames->pdata[j], NULL);
            qdes_vnet_decode(&vnet, data, false);
            ck_assert(port->csum || !vnet.needs_csum);
            ck_assert(vnet.gso == QDES_GSO_NONE ||
                      (port == &tso4 && vnet.gso == QDES_GSO_TCP4));
        }
        g_ptr_array_set_size(ports[1]->frames, 0);
    }
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* What comes from a port and contradicts itself is dropped and counted. */
START_TEST(test_bad_vnet)
{
    static const QdesVnet bad[] = {
        { .needs_csum = true, .csum_start = 1000, .csum_offset = 16 },
        { .needs_csum = true, .csum_start = 34, .csum_offset = 65535 },
        { .gso = QDES_GSO_TCP4, .gso_size = 0 },
        { .gso = QDES_GSO_TCP6, .gso_size = 100 },
        { .gso = QDES_GSO_UDP, .gso_size = 100 },
        { .gso = 3, .gso_size = 100 },
        { .gso = 99, .gso_size = 100 },
    };
    Packet p = { PACKET_DEFAULT };
    Port *port = port_open("a");
    size_t i;

    p.payload = 500;
    qdes_fabric_set_port(port->fabric, &all_offloads);
    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        make(&p, 100);
        qdes_vnet_encode(&bad[i], sample.vnet_and_frame, VNET, false);
        ck_assert(send_sample(port));
        ck_assert_uint_eq(C(port, tx_drop_offload), i + 1);
    }
    sample.size = 13;
    ck_assert(send_sample(port));
    ck_assert_uint_eq(C(port, tx_drop_short), 1);
    sample.size = 0;
    ck_assert(send_sample(port));
    ck_assert_uint_eq(C(port, tx_drop_short), 2);
    port_close(port);
}
END_TEST

/* Checksums stay unfinished only for peers that announced it. */
START_TEST(test_capabilities)
{
    Port *port = port_open("a");
    int fd = open_peer(port, _i ? 1 : 0, 0);
    static uint8_t data[65536];
    const uint8_t *want;
    ssize_t size;
    size_t i;
    unsigned j;

    qdes_fabric_set_port(port->fabric, &all_offloads);
    for (i = 0; i < G_N_ELEMENTS(kinds) - 1; i++) {
        make_kind(i);
        ck_assert(send_sample(port));
        qdes_fabric_flush(port->fabric, now);
        want = sample.frames;
        for (j = 0; j < sample.n; j++) {
            size = recv(fd, data, sizeof(data), 0);
            ck_assert_int_eq(size, 8 + (ssize_t)sample.sizes[j]);
            ck_assert_uint_eq(data[3], _i ? 1 : 0);
            if (_i) {
                ck_assert(memcmp(data + 8, want, size - 8) != 0);
                ck_assert(qdes_packet_finish(data + 8, size - 8));
            }
            ck_assert_mem_eq(data + 8, want, size - 8);
            want += sample.sizes[j];
        }
    }
    close(fd);
    port_close(port);
}
END_TEST

/* TCP is cut, and told, to fit what the peer takes. */
START_TEST(test_peer_mtu)
{
    static const uint8_t mss[] = { 2, 4, 0x05, 0xb4 };
    Port *port = port_open("a");
    int fd = open_peer(port, 1, 1000);
    uint8_t data[2048];
    Packet p = { PACKET_DEFAULT, .mac = 7 };
    size_t got;
    ssize_t size;

    p.payload = 5000;
    qdes_fabric_set_port(port->fabric, &all_offloads);
    make(&p, 1448);
    ck_assert(send_sample(port));
    qdes_fabric_flush(port->fabric, now);
    for (got = 0; got < 5000; got += size - 8 - 54) {
        size = recv(fd, data, sizeof(data), 0);
        ck_assert_int_gt(size, 8 + 54);
        ck_assert_int_le(size, 8 + 1000);
        ck_assert_mem_eq(data + 8 + 54, sample_frame() + 54 + got,
                         size - 8 - 54);
    }
    /* A single segment, its checksum finished. */
    p.payload = 1448;
    make(&p, 0);
    memcpy(sample_frame(), sample.frames, sample.size);
    memset(sample.vnet_and_frame, 0, VNET);
    ck_assert(send_sample(port));
    qdes_fabric_flush(port->fabric, now);
    for (got = 0; got < 1448; got += size - 8 - 54) {
        size = recv(fd, data, sizeof(data), 0);
        ck_assert_int_gt(size, 8 + 54);
        ck_assert_int_le(size, 8 + 1000);
    }
    p.payload = 0;
    p.flags = PACKET_SYN;
    memcpy(p.options, mss, sizeof(mss));
    p.options_size = sizeof(mss);
    make(&p, 0);
    memset(sample.vnet_and_frame, 0, VNET);
    ck_assert(send_sample(port));
    qdes_fabric_flush(port->fabric, now);
    size = recv(fd, data, sizeof(data), 0);
    ck_assert_int_eq(size, 8 + 58);
    ck_assert_uint_eq(naive_get16(data + 8 + 54 + 2), 1000 - 54);
    ck_assert_uint_eq(C(port, tx_mss_clamped), 1);
    close(fd);
    port_close(port);
}
END_TEST

/* A frame that says CSUM_PARTIAL must be one that can be finished. */
START_TEST(test_bad_partial)
{
    Port *port = port_open("a");
    int fd = open_peer(port, 1, 0);
    uint8_t data[QDES_WIRE_HEADER_SIZE + 60] = { 0 };

    if (_i) {
        qdes_fabric_set_port(port->fabric, &all_offloads);
    }
    qdes_wire_encode_header(data, QDES_WIRE_DATA, QDES_WIRE_FLAG_CSUM_PARTIAL,
                            0);
    memcpy(data + 14, "\x52\x54\x00\x00\x01\x07", 6);
    ck_assert_int_eq(send(fd, data, sizeof(data), 0), sizeof(data));
    WAIT(&port, 1, C(port, rx_drop_csum) == 1);
    close(fd);
    port_close(port);
}
END_TEST

/* A port that is full gets the rest when it has room, in order. */
START_TEST(test_full)
{
    Port *ports[] = { open_cutting("a"), port_open("b") };
    unsigned i;

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    meet(ports[0], ports[1], 0);
    ports[1]->verdict = QDES_DELIVERED_FULL;
    make_kind(2);
    ck_assert(send_sample(ports[0]));
    qdes_fabric_flush(ports[0]->fabric, now);
    for (i = 1; i <= sample.n; i++) {
        WAIT(ports, 2, ports[1]->frames->len == i);
        serve(ports, 2);
        ck_assert_uint_eq(ports[1]->frames->len, i);
        ck_assert_uint_eq(C(ports[1], rx_paused), i);
        qdes_fabric_resume(ports[1]->fabric, now);
    }
    expect(ports[1], 0);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* What waits for a port that is now another is not given to that. */
START_TEST(test_port_changes)
{
    Port *ports[] = { open_cutting("a"), port_open("b") };

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    qdes_fabric_set_port(ports[1]->fabric, &all_offloads);
    meet(ports[0], ports[1], VNET);
    ports[1]->verdict = QDES_DELIVERED_FULL;
    make_kind(4);
    ck_assert(send_sample(ports[0]));
    make_kind(2);
    ck_assert(send_sample(ports[0]));
    qdes_fabric_flush(ports[0]->fabric, now);
    WAIT(ports, 2, ports[1]->frames->len == 1);
    qdes_fabric_set_port(ports[1]->fabric, &(QdesPort) { 0 });
    ports[1]->verdict = QDES_DELIVERED;
    qdes_fabric_resume(ports[1]->fabric, now);
    WAIT(ports, 2, C(ports[1], rx_frames) + C(ports[1], rx_drop_port) >= 23);
    g_ptr_array_remove_index(ports[1]->frames, 0);
    if (ports[1]->frames->len) {
        expect(ports[1], 0);
    }
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* What lacks nothing is good for every port. */
START_TEST(test_plain_frames_outlive_change)
{
    Port *ports[] = { open_cutting("a"), port_open("b") };
    uint8_t frame[VNET + 60] = { 0 };
    struct iovec iov = { frame, sizeof(frame) };
    int i;

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    qdes_fabric_set_port(ports[1]->fabric, &all_offloads);
    meet(ports[0], ports[1], VNET);
    ports[1]->verdict = QDES_DELIVERED_FULL;
    memset(frame + VNET, 0xff, 6);
    memcpy(frame + VNET + 6, "\x52\x54\x00\x00\x02\x07", 6);
    for (i = 0; i < 4; i++) {
        frame[VNET + 59] = i;
        ck_assert(qdes_fabric_send(ports[0]->fabric, &iov, 1, now));
    }
    qdes_fabric_flush(ports[0]->fabric, now);
    WAIT(ports, 2, ports[1]->frames->len == 1);
    qdes_fabric_set_port(ports[1]->fabric, &(QdesPort) { 0 });
    ports[1]->verdict = QDES_DELIVERED;
    qdes_fabric_resume(ports[1]->fabric, now);
    WAIT(ports, 2, ports[1]->frames->len == 4);
    for (i = 1; i < 4; i++) {
        frame[VNET + 59] = i;
        ck_assert_uint_eq(g_bytes_get_size(ports[1]->frames->pdata[i]), 60);
        ck_assert_mem_eq(g_bytes_get_data(ports[1]->frames->pdata[i], NULL),
                         frame + VNET, 60);
    }
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* What no kernel can do, or not now: it goes datagram by datagram. */
START_TEST(test_no_trains)
{
    static const int errors[] = { EIO, EINVAL, EMSGSIZE, EOPNOTSUPP };
    Port *ports[] = { open_cutting("a"), port_open("b") };
    uint64_t frames;
    int round;

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    meet(ports[0], ports[1], 0);
    fault.err = errors[_i];
    fault.only_trains = true;
    fault.times = 1;
    for (round = 0; round < 3; round++) {
        make_kind(0);
        frames = C(ports[1], rx_frames);
        ck_assert(send_sample(ports[0]));
        qdes_fabric_flush(ports[0]->fabric, now);
        WAIT(ports, 2, C(ports[1], rx_frames) == frames + sample.n);
        expect(ports[1], 0);
        g_ptr_array_set_size(ports[1]->frames, 0);
    }
    /* For good where the path takes none. */
    ck_assert_int_eq(fault.trains > 0, fault.err != EIO);
    ck_assert_uint_eq(C(ports[0], tx_drop_error) +
                      C(ports[0], tx_drop_too_big), 0);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/*
 * The socket is full after @after calls: nothing is lost, nothing comes twice
 * or in another order.
 */
static void check_blocked(Port **ports, int kind, int after, bool small_first)
{
    uint64_t frames = C(ports[1], rx_frames);
    int writable_before = ports[0]->writable;
    unsigned want;
    bool taken;

    if (small_first) {
        make_kind(6);
        ck_assert(send_sample(ports[0]));
        frames++;
    }
    make_kind(kind);
    fault.err = EAGAIN;
    fault.after = after;
    fault.times = -1;
    taken = send_sample(ports[0]);
    qdes_fabric_flush(ports[0]->fabric, now);
    fault.err = 0;
    if (!taken) {
        /* Not before the host is told. */
        ck_assert(!send_sample(ports[0]));
        WAIT(ports, 2, ports[0]->writable > writable_before);
        ck_assert(send_sample(ports[0]));
        qdes_fabric_flush(ports[0]->fabric, now);
    }
    want = frames + sample.n;
    WAIT(ports, 2, C(ports[1], rx_frames) == want);
    if (small_first) {
        g_ptr_array_remove_index(ports[1]->frames, 0);
    }
    expect(ports[1], 0);
    g_ptr_array_set_size(ports[1]->frames, 0);
    ck_assert_uint_eq(C(ports[0], tx_drop_nobufs), 0);
}

START_TEST(test_blocked)
{
    QdesOptions options = { .name = "a", .has_superframes = true,
                            .has_gso = true, .gso = _i > 0 };
    Port *ports[] = { port_open_with(&options, _i == 2), port_open("b") };
    int kind, after;

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    meet(ports[0], ports[1], 0);
    for (kind = 0; kind < (int)G_N_ELEMENTS(kinds) - 1; kind++) {
        for (after = 0; after < 5; after++) {
            check_blocked(ports, kind, after, false);
            check_blocked(ports, kind, after, true);
        }
    }
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* The socket is full; its peer leaves before it has room again. */
START_TEST(test_peer_leaves_while_blocked)
{
    Port *ports[] = { open_cutting("a"), port_open("b"), port_open("c") };

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    meet(ports[0], ports[1], 0);
    WAIT(ports, 3, C(ports[0], rx_hello) >= 2 && ports[2]->frames->len == 1);
    g_ptr_array_set_size(ports[2]->frames, 0);
    make_kind(7);
    fault.err = EAGAIN;
    fault.times = -1;
    ck_assert(send_sample(ports[0]));
    qdes_fabric_flush(ports[0]->fabric, now);
    ck_assert_uint_eq(C(ports[0], tx_frames), 0);
    fault.err = 0;
    port_close(ports[1]);
    /* Flooded then, and its checksum finished. */
    ports[1] = ports[2];
    fault.err = EAGAIN;
    fault.times = 3;
    WAIT(ports, 2, C(ports[0], peers_bye) == 1);
    fault.err = 0;
    WAIT(ports, 2, ports[1]->frames->len == 1);
    expect(ports[1], 0);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* An error that is about the peer itself: what is under way floods. */
START_TEST(test_peer_unreachable)
{
    Port *ports[] = { open_cutting("a"), port_open("b") };

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    meet(ports[0], ports[1], 0);
    make_kind(_i);
    fault.err = EHOSTUNREACH;
    fault.times = 2;
    ck_assert(send_sample(ports[0]));
    qdes_fabric_flush(ports[0]->fabric, now);
    WAIT(ports, 2, C(ports[1], rx_frames) == sample.n);
    expect(ports[1], 0);
    ck_assert_uint_eq(C(ports[0], peers_unreachable), 1);
    ck_assert_uint_eq(C(ports[0], tx_flooded), sample.n);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* An error for good: all frames are counted, and the next ones go. */
START_TEST(test_error)
{
    Port *ports[] = { open_cutting("a"), port_open("b") };

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    meet(ports[0], ports[1], 0);
    make_kind(0);
    fault.err = EPERM;
    fault.times = -1;
    ck_assert(send_sample(ports[0]));
    make_kind(7);
    ck_assert(send_sample(ports[0]));
    qdes_fabric_flush(ports[0]->fabric, now);
    fault.err = 0;
    make_kind(0);
    ck_assert_uint_eq(C(ports[0], tx_drop_denied), sample.n + 1);
    ck_assert(send_sample(ports[0]));
    WAIT(ports, 2, C(ports[1], rx_frames) == sample.n);
    expect(ports[1], 0);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* An error of one datagram costs that one, though it was one of a train. */
START_TEST(test_error_in_train)
{
    QdesOptions options = { .name = "a", .has_gso = true, .gso = false };
    Port *ports[] = { port_open_with(&options, _i), port_open("b") };
    unsigned i;

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    meet(ports[0], ports[1], 0);
    make_kind(7);
    for (i = 0; i < 40; i++) {
        ck_assert(send_sample(ports[0]));
    }
    fault.err = ENOBUFS;
    fault.after = 2;
    fault.times = 3;
    qdes_fabric_flush(ports[0]->fabric, now);
    ck_assert_uint_eq(C(ports[0], tx_drop_nobufs), 3);
    ck_assert_uint_eq(C(ports[0], tx_unicast), 37);
    WAIT(ports, 2, C(ports[1], rx_frames) == 37);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* Small frames of a turn leave together, as one train. */
START_TEST(test_batch)
{
    Port *ports[] = { open_cutting("a"), port_open("b") };
    int i;

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    meet(ports[0], ports[1], 0);
    make_kind(7);
    fault.calls = 0;
    for (i = 0; i < 64; i++) {
        ck_assert(send_sample(ports[0]));
    }
    ck_assert_int_eq(fault.calls, 0);
    qdes_fabric_flush(ports[0]->fabric, now);
    ck_assert_int_eq(fault.calls, 1);
    ck_assert_int_eq(fault.trains, 1);
    WAIT(ports, 2, C(ports[1], rx_frames) == 64);
    ck_assert_uint_le(C(ports[1], rx_trains), 1);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* A frame from @p to the MAC address that ends in @mac leaves. */
static bool send_to(Port *p, uint8_t mac)
{
    uint8_t data[VNET + 60] = { 0 };
    struct iovec iov = { data, sizeof(data) };

    memcpy(data + VNET, "\x52\x54\x00\x00\x01", 5);
    data[VNET + 5] = mac;
    memcpy(data + VNET + 6, "\x52\x54\x00\x00\x02\x01", 6);
    ck_assert(qdes_fabric_send(p->fabric, &iov, 1, now));
    qdes_fabric_flush(p->fabric, now);
    return true;
}

/*
 * A train that is delivered in parts, as the port is full: meanwhile, its
 * sender has gone.  The rest of it leads nobody to where there is no peer.
 */
START_TEST(test_peer_gone_while_full)
{
    enum { N = 3 * QDES_COALESCE_QUEUE, SIZE = QDES_WIRE_HEADER_SIZE + 60 };
    Port *port = port_open("a");
    int fd = open_peer(port, 0, 0);
    uint8_t train[N][SIZE] = { 0 };
    int segment = SIZE;
    int i;

    qdes_fabric_set_port(port->fabric, &all_offloads);
    for (i = 0; i < N; i++) {
        qdes_wire_encode_header(train[i], QDES_WIRE_DATA, 0, 0);
        memset(train[i] + 8, 0xff, 6);
        memcpy(train[i] + 14, "\x52\x54\x00\x00\x01\x07", 6);
        train[i][19] += i >= 2 * QDES_COALESCE_QUEUE;
    }
    port->verdict = QDES_DELIVERED_FULL;
    if (setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)) < 0) {
        close(fd);
        port_close(port);
        return;
    }
    ck_assert_int_eq(send(fd, train, sizeof(train), 0), sizeof(train));
    WAIT(&port, 1, port->frames->len == 2);
    close(fd);
    WAIT(&port, 1, send_to(port, 7) && C(port, peers_unreachable) == 1);
    port->verdict = QDES_DELIVERED;
    qdes_fabric_resume(port->fabric, now);
    WAIT(&port, 1, C(port, rx_frames) == 1 + N);
    ck_assert_uint_le(C(port, rx_trains), 1);
    send_to(port, 8);
    port_close(port);
}
END_TEST

/* A train is counted once, however full the queue is when it comes. */
START_TEST(test_trains_are_counted)
{
    enum { N = 10, LENGTH = 5, SIZE = QDES_WIRE_HEADER_SIZE + 60 };
    Port *port = port_open("a");
    int fd = open_peer(port, 0, 0);
    uint8_t train[LENGTH][SIZE] = { 0 };
    int segment = SIZE;
    int i;

    for (i = 0; i < LENGTH; i++) {
        qdes_wire_encode_header(train[i], QDES_WIRE_DATA, 0, 0);
        memset(train[i] + 8, 0xff, 6);
        memcpy(train[i] + 14, "\x52\x54\x00\x00\x01\x07", 6);
    }
    if (setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)) == 0) {
        for (i = 0; i < N; i++) {
            ck_assert_int_eq(send(fd, train, sizeof(train), 0), sizeof(train));
        }
        WAIT(&port, 1, C(port, rx_frames) == 1 + N * LENGTH);
        ck_assert_uint_le(C(port, rx_trains), N);
    }
    close(fd);
    port_close(port);
}
END_TEST

/* A superframe is counted once, also if it is not taken at first. */
START_TEST(test_superframes_are_counted)
{
    Port *ports[] = { open_cutting("a"), port_open("b") };

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    meet(ports[0], ports[1], 0);
    make_kind(0);
    fault.err = EAGAIN;
    fault.times = -1;
    ck_assert(!send_sample(ports[0]));
    fault.err = 0;
    WAIT(ports, 2, ports[0]->writable == 1);
    ck_assert(send_sample(ports[0]));
    WAIT(ports, 2, C(ports[1], rx_frames) == sample.n);
    ck_assert_uint_eq(C(ports[0], tx_superframes), 1);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* Whatever a peer says that it takes, it cannot have its frames be cut to
 * crumbs, nor to what the path does not carry. */
START_TEST(test_absurd_mtu)
{
    static const uint32_t mtus[] = { 1, 14, 55, UINT32_MAX, UINT32_MAX - 7,
                                     UINT32_MAX - 8 };
    Port *port = port_open("a");
    int fd = open_peer(port, 1, mtus[_i]);

    qdes_fabric_set_port(port->fabric, &all_offloads);
    make_kind(0);
    ck_assert(send_sample(port));
    qdes_fabric_flush(port->fabric, now);
    if (_i < 3) {
        ck_assert_uint_gt(C(port, tx_unicast), sample.n);
        ck_assert_uint_lt(C(port, tx_unicast), 150);
    } else {
        ck_assert_uint_eq(C(port, tx_unicast), sample.n);
    }
    /* They are trains in any case: they fit. */
    ck_assert_uint_gt(C(port, tx_trains), 0);
    close(fd);
    port_close(port);
}
END_TEST

/* A peer that takes no unfinished checksums any more gets none, also of what
 * was queued before. */
START_TEST(test_capability_goes)
{
    QdesWireHello hello = { .instance = 7 };
    Port *port = port_open("a");
    int fd = open_peer(port, 1, 0);
    uint8_t data[2048];
    ssize_t size;
    int i;

    qdes_fabric_set_port(port->fabric, &all_offloads);
    make_kind(7);
    ck_assert(send_sample(port));
    ck_assert(send_sample(port));
    /* Restarted or not: frames in the queue go on to the endpoint. */
    hello.instance += _i;
    size = qdes_wire_encode_hello(data, QDES_WIRE_HELLO, 0, &hello);
    ck_assert_int_eq(send(fd, data, size, 0), size);
    WAIT(&port, 1, C(port, rx_hello) == 2);
    qdes_fabric_flush(port->fabric, now);
    for (i = 0; i < 2; i++) {
        size = recv(fd, data, sizeof(data), 0);
        if (_i && (data[2] & 15) == QDES_WIRE_HELLO) {
            size = recv(fd, data, sizeof(data), 0); /* for who restarted */
        }
        ck_assert_int_eq(size, 8 + (ssize_t)sample.sizes[0]);
        ck_assert_uint_eq(data[3], 0);
        ck_assert_mem_eq(data + 8, sample.frames, size - 8);
    }
    close(fd);
    port_close(port);
}
END_TEST

/* What has nowhere to go any more is counted once. */
START_TEST(test_way_is_lost_in_queue)
{
    QdesOptions options = { .name = "a", .unknown_unicast = "drop" };
    Port *port = port_open_with(&options, false);
    QdesWireHello bye = { .instance = 7 };
    int fd = open_peer(port, 1, 0);
    uint8_t data[QDES_WIRE_HELLO_SIZE] = { 0 };
    struct iovec iov = { data, VNET + 60 };
    ssize_t size;

    qdes_fabric_set_port(port->fabric, &all_offloads);
    memset(data + VNET, 0xff, 6);
    ck_assert(qdes_fabric_send(port->fabric, &iov, 1, now));
    make_kind(7);
    ck_assert(send_sample(port));
    size = qdes_wire_encode_hello(data, QDES_WIRE_BYE, 0, &bye);
    ck_assert_int_eq(send(fd, data, size, 0), size);
    WAIT(&port, 1, C(port, peers_bye) == 1);
    qdes_fabric_flush(port->fabric, now);
    ck_assert_uint_eq(C(port, tx_flooded), 1);
    ck_assert_uint_eq(C(port, tx_drop_unknown), 1);
    ck_assert_uint_eq(C(port, tx_frames), 2);
    close(fd);
    port_close(port);
}
END_TEST

/* The link goes down while the socket is full: nothing leaves after that. */
START_TEST(test_link_down_while_blocked)
{
    Port *ports[] = { open_cutting("a"), port_open("b") };

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    meet(ports[0], ports[1], 0);
    make_kind(7);
    fault.err = EAGAIN;
    fault.times = -1;
    ck_assert(send_sample(ports[0]));
    qdes_fabric_flush(ports[0]->fabric, now);
    qdes_fabric_set_link(ports[0]->fabric, false, now);
    fault.err = 0;
    ck_assert_uint_eq(C(ports[0], tx_drop_link), 1);
    WAIT(ports, 2, ports[0]->writable == 1);
    ck_assert_uint_eq(C(ports[0], tx_unicast) + C(ports[0], tx_flooded), 0);
    qdes_fabric_set_link(ports[0]->fabric, true, now);
    ck_assert(send_sample(ports[0]));
    qdes_fabric_flush(ports[0]->fabric, now);
    WAIT(ports, 2, ports[1]->frames->len == 1);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("offload");
    TCase *tc = tcase_create("offload");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_loop_test(tc, test_pairs, 0, ALL_WAYS);
    tcase_add_loop_test(tc, test_features, 0, 4);
    tcase_add_test(tc, test_bad_vnet);
    tcase_add_loop_test(tc, test_capabilities, 0, 2);
    tcase_add_test(tc, test_peer_mtu);
    tcase_add_loop_test(tc, test_bad_partial, 0, 2);
    tcase_add_test(tc, test_full);
    tcase_add_test(tc, test_port_changes);
    tcase_add_test(tc, test_plain_frames_outlive_change);
    tcase_add_loop_test(tc, test_no_trains, 0, 4);
    tcase_add_loop_test(tc, test_blocked, 0, 3);
    tcase_add_test(tc, test_peer_leaves_while_blocked);
    tcase_add_loop_test(tc, test_peer_unreachable, 0, 3);
    tcase_add_test(tc, test_error);
    tcase_add_loop_test(tc, test_error_in_train, 0, 2);
    tcase_add_test(tc, test_batch);
    tcase_add_test(tc, test_peer_gone_while_full);
    tcase_add_test(tc, test_trains_are_counted);
    tcase_add_test(tc, test_superframes_are_counted);
    tcase_add_loop_test(tc, test_absurd_mtu, 0, 6);
    tcase_add_loop_test(tc, test_capability_goes, 0, 2);
    tcase_add_test(tc, test_way_is_lost_in_queue);
    tcase_add_test(tc, test_link_down_while_blocked);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
