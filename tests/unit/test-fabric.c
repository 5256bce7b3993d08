/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fabric: see fabric-port.h for how ports are tested. */

#include "fabric-port.h"

static const uint8_t broadcast[6] = { 255, 255, 255, 255, 255, 255 };

/* A frame of @size bytes from MAC number @src to @dst. */
static bool send_frame(Port *p, const uint8_t *dst, uint32_t src, size_t size)
{
    g_autofree uint8_t *frame = g_malloc0(size);
    struct iovec iov = { frame, size };
    bool sent;

    memcpy(frame, dst, MIN(size, 6));
    if (size >= 12) {
        unit_mac(frame + 6, src);
    }
    sent = qdes_fabric_send(p->fabric, &iov, 1, now);
    qdes_fabric_flush(p->fabric, now);
    return sent;
}

static bool send_to(Port *p, uint32_t dst, uint32_t src)
{
    uint8_t mac[6];

    return send_frame(p, unit_mac(mac, dst), src, 60);
}

static void set_up(void)
{
    now = 1000000;
    choose_group();
}

/* Three ports: a flood reaches both others, unicast only the one. */
static void flood_then_unicast(bool plain)
{
    QdesOptions a = { .name = "a" }, b = { .name = "b" }, c = { .name = "c" };
    Port *ports[3] = {
        port_open_with(&a, plain), port_open_with(&b, plain),
        port_open_with(&c, plain),
    };
    int i;

    ck_assert(send_frame(ports[0], broadcast, 1, 60));
    WAIT(ports, 3, ports[1]->frames->len && ports[2]->frames->len);
    ck_assert(send_to(ports[1], 1, 2));
    WAIT(ports, 3, ports[0]->frames->len);
    ck_assert_uint_eq(C(ports[1], tx_unicast), 1);
    ck_assert_uint_eq(C(ports[1], tx_flooded), 0);

    /* A third port's socket sees nothing of it: what comes next there is
     * the flood that was sent after it. */
    ck_assert(send_to(ports[0], 2, 1));
    ck_assert(send_frame(ports[0], broadcast, 1, 61));
    WAIT(ports, 3, ports[1]->frames->len == 3 && ports[2]->frames->len == 2);
    ck_assert_uint_eq(g_bytes_get_size(ports[2]->frames->pdata[1]), 61);
    ck_assert_uint_eq(C(ports[2], rx_frames), 2);
    ck_assert_uint_eq(ports[0]->frames->len, 1);
    for (i = 0; i < 3; i++) {
        port_close(ports[i]);
    }
}

START_TEST(test_flood_then_unicast)
{
    flood_then_unicast(_i & 1);
}
END_TEST

/* Own floods do not come back, with the kernel's filter and without. */
START_TEST(test_own_traffic)
{
    QdesOptions options = { .name = "a" };
    Port *ports[2];

    ports[0] = port_open_with(&options, _i & 1);
    ports[1] = port_open("b");
    ck_assert(send_frame(ports[0], broadcast, 1, 60));
    WAIT(ports, 2, ports[1]->frames->len == 1);
    ck_assert(send_frame(ports[1], broadcast, 2, 60));
    WAIT(ports, 2, ports[0]->frames->len == 1);
    if (_i & 1) {
        ck_assert_uint_ge(C(ports[0], rx_drop_own), 1);
    } else {
        ck_assert_uint_eq(C(ports[0], rx_drop_own), 0);
        ck_assert_uint_ge(C(ports[0], rx_drop_kernel), 1);
    }
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

START_TEST(test_networks_are_apart)
{
    QdesOptions options = { .has_netid = true, .netid = 7 };
    Port *ports[3];

    ports[0] = port_open("a");
    ports[1] = port_open("b");
    ports[2] = port_open_with(&options, _i & 1);
    ck_assert(send_frame(ports[0], broadcast, 1, 60));
    WAIT(ports, 3, ports[1]->frames->len == 1);
    if (_i & 1) {
        WAIT(ports, 3, C(ports[2], rx_drop_netid) >= 1);
    } else {
        WAIT(ports, 3, C(ports[2], rx_drop_kernel) >= 1);
        ck_assert_uint_eq(C(ports[2], rx_drop_netid), 0);
    }
    ck_assert_uint_eq(ports[2]->frames->len, 0);
    port_close(ports[0]);
    port_close(ports[1]);
    port_close(ports[2]);
}
END_TEST

/* Newcomers and old hands know each other's names after one HELLO. */
START_TEST(test_hello_and_bye)
{
    Port *ports[2];
    QdesStatus *status;

    ports[0] = port_open("first");
    ports[1] = port_open("second");
    WAIT(ports, 2, C(ports[0], rx_hello) == 1 && C(ports[1], rx_hello) == 1);
    /* The newcomer's HELLO was answered; the answer was not. */
    ck_assert_uint_eq(C(ports[0], tx_hello), 2);
    ck_assert_uint_eq(C(ports[1], tx_hello), 1);
    status = qdes_fabric_status(ports[0]->fabric, now + 1500);
    ck_assert_uint_eq(status->n_peers, 1);
    ck_assert_str_eq(status->peers[0].name, "second");
    ck_assert_str_eq(qdes_status_peer_state(&status->peers[0]), "alive");
    ck_assert_int_eq(status->peers[0].last_heard_ms, 1500);
    qdes_status_free(status);

    ck_assert(send_frame(ports[1], broadcast, 2, 60));
    WAIT(ports, 2, C(ports[0], fdb_learned) == 1);
    port_close(ports[1]);
    WAIT(ports, 1, C(ports[0], peers_bye) == 1);
    ck_assert_uint_eq(C(ports[0], fdb_flushed), 1);
    ck_assert(send_to(ports[0], 2, 1));
    ck_assert_uint_eq(C(ports[0], tx_flooded), 1);
    port_close(ports[0]);
}
END_TEST

/*
 * A frame that was sent before a BYE and is read after it: delivered, but no
 * reason to send to who is gone.
 */
START_TEST(test_frame_after_bye)
{
    Port *p = port_open("a");
    uint8_t data[QDES_WIRE_HEADER_SIZE + 60] = { 0 };
    uint8_t control[QDES_WIRE_HELLO_SIZE];
    QdesWireHello hello = { .instance = 7 };
    QdesStatus *status = qdes_fabric_status(p->fabric, now);
    struct sockaddr_storage ss;
    socklen_t len = qdes_addr_to_sockaddr(&status->local, &ss);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    size_t size;

    qdes_status_free(status);
    qdes_wire_encode_header(data, QDES_WIRE_DATA, 0, 0);
    memcpy(data + 8, broadcast, 6);
    unit_mac(data + 14, 2);
    prove(p, fd, &hello);
    sendto(fd, data, sizeof(data), 0, (struct sockaddr *)&ss, len);
    WAIT(&p, 1, C(p, fdb_learned) == 1);
    size = qdes_wire_encode_hello(control, QDES_WIRE_BYE, 0, &hello);
    sendto(fd, control, size, 0, (struct sockaddr *)&ss, len);
    sendto(fd, data, sizeof(data), 0, (struct sockaddr *)&ss, len);
    WAIT(&p, 1, p->frames->len == 2);
    ck_assert_uint_eq(C(p, peers_bye), 1);
    ck_assert_uint_eq(C(p, fdb_learned), 1);
    ck_assert_uint_eq(C(p, peers_added), 1);
    ck_assert(send_to(p, 2, 1));
    ck_assert_uint_eq(C(p, tx_flooded), 1);

    /* HELLO says that it is back; so does a frame some seconds later. */
    hello.instance = 8;
    prove(p, fd, &hello);
    sendto(fd, data, sizeof(data), 0, (struct sockaddr *)&ss, len);
    WAIT(&p, 1, p->frames->len == 3);
    ck_assert_uint_eq(C(p, peers_added), 2);
    ck_assert_uint_eq(C(p, fdb_learned), 3); /* with this side's own */
    size = qdes_wire_encode_hello(control, QDES_WIRE_BYE, 0, &hello);
    sendto(fd, control, size, 0, (struct sockaddr *)&ss, len);
    WAIT(&p, 1, C(p, peers_bye) == 2);
    now += 2000;
    sendto(fd, data, sizeof(data), 0, (struct sockaddr *)&ss, len);
    WAIT(&p, 1, p->frames->len == 4);
    ck_assert_uint_eq(C(p, peers_added), 3);
    close(fd);
    port_close(p);
}
END_TEST

/* Newcomers without number do not make a port send without bound. */
START_TEST(test_answers_are_bounded)
{
    Port *p = port_open("a");
    uint8_t data[QDES_WIRE_HELLO_PADDED];
    QdesWireHello hello = { .instance = 1 };
    struct sockaddr_storage ss;
    struct ip_mreqn lo = { .imr_ifindex = 1 };
    QdesAddr to;
    socklen_t len;
    size_t size;
    int fd, i;

    ck_assert(qdes_addr_parse(&to, group, 0, NULL));
    len = qdes_addr_to_sockaddr(&to, &ss);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    ck_assert_int_eq(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &lo,
                                sizeof(lo)), 0);
    for (i = 1; i <= 500; i++) {
        hello.instance = i;
        size = qdes_wire_encode_hello(data, QDES_WIRE_HELLO, 0, &hello);
        size = qdes_wire_pad(data, size, QDES_WIRE_HELLO_PADDED);
        ck_assert_int_eq(sendto(fd, data, size, 0, (struct sockaddr *)&ss,
                                len), size);
        WAIT(&p, 1, C(p, rx_hello) == (uint64_t)i);
    }
    ck_assert_uint_eq(C(p, tx_hello), 1 + 16);
    now += 1000;
    hello.instance = 501;
    size = qdes_wire_encode_hello(data, QDES_WIRE_HELLO, 0, &hello);
    size = qdes_wire_pad(data, size, QDES_WIRE_HELLO_PADDED);
    ck_assert_int_eq(sendto(fd, data, size, 0, (struct sockaddr *)&ss, len),
                     size);
    WAIT(&p, 1, C(p, rx_hello) == 501);
    ck_assert_uint_eq(C(p, tx_hello), 1 + 17);
    close(fd);
    port_close(p);
}
END_TEST

/* A peer that stays silent is forgotten, and only then. */
START_TEST(test_silent_peer)
{
    Port *ports[2];

    ports[0] = port_open("a");
    ports[1] = port_open("b");
    WAIT(ports, 2, C(ports[0], rx_hello) == 1);
    ck_assert(send_frame(ports[1], broadcast, 2, 60));
    WAIT(ports, 2, C(ports[0], fdb_learned) == 1);
    now += QDES_HOLD_MS - 1;
    qdes_fabric_tick(ports[0]->fabric, now);
    ck_assert(send_to(ports[0], 2, 1));
    ck_assert_uint_eq(C(ports[0], tx_unicast), 1);
    now += 1;
    ck_assert_int_le(ports[0]->timer, now + 1000);
    qdes_fabric_tick(ports[0]->fabric, now);
    ck_assert_uint_eq(C(ports[0], peers_expired), 1);
    ck_assert(send_to(ports[0], 2, 1));
    ck_assert_uint_eq(C(ports[0], tx_flooded), 1);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* While the port is full nothing is read, and nobody is blamed for it. */
START_TEST(test_backpressure)
{
    Port *ports[2];
    int i;

    ports[0] = port_open("a");
    ports[1] = port_open("b");
    WAIT(ports, 2, C(ports[0], rx_hello) == 1);
    ports[0]->verdict = QDES_DELIVERED_FULL;
    for (i = 0; i < 5; i++) {
        ck_assert(send_frame(ports[1], broadcast, 2, 60));
    }
    WAIT(ports, 2, ports[0]->frames->len == 1);
    serve(ports, 2);
    ck_assert_uint_eq(ports[0]->frames->len, 1);
    ck_assert_uint_eq(C(ports[0], rx_paused), 1);

    now += 10 * QDES_HOLD_MS;
    qdes_fabric_tick(ports[0]->fabric, now);
    ck_assert_uint_eq(C(ports[0], peers_expired), 0);
    ports[0]->verdict = QDES_DELIVERED;
    qdes_fabric_resume(ports[0]->fabric, now);
    qdes_fabric_tick(ports[0]->fabric, now);
    ck_assert_uint_eq(C(ports[0], peers_expired), 0);
    WAIT(ports, 2, ports[0]->frames->len == 5);

    ports[0]->verdict = QDES_REFUSED;
    ck_assert(send_frame(ports[1], broadcast, 2, 60));
    WAIT(ports, 2, C(ports[0], rx_drop_port) == 1);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

START_TEST(test_move_and_duplicate)
{
    Port *ports[2];

    ports[0] = port_open("a");
    ports[1] = port_open("b");

    /* A guest that moves once, there and later back, is no duplicate. */
    ck_assert(send_frame(ports[0], broadcast, 5, 60));
    WAIT(ports, 2, ports[1]->frames->len == 1);
    ck_assert(send_frame(ports[1], broadcast, 5, 60));
    WAIT(ports, 2, ports[0]->frames->len == 1);
    ck_assert_uint_eq(C(ports[0], fdb_moved), 1);
    now += 11000;
    ck_assert(send_frame(ports[0], broadcast, 5, 60));
    ck_assert_uint_eq(C(ports[0], mac_duplicate), 0);
    ck_assert_uint_eq(C(ports[0], fdb_moved), 2);
    WAIT(ports, 2, ports[1]->frames->len == 2);

    /* One that is used on both sides is: warned of once, counted always. */
    ck_assert(send_frame(ports[1], broadcast, 5, 60));
    WAIT(ports, 2, ports[0]->frames->len == 2);
    ck_assert(send_frame(ports[0], broadcast, 5, 60));
    WAIT(ports, 2, ports[1]->frames->len == 3);
    ck_assert(send_frame(ports[1], broadcast, 5, 60));
    WAIT(ports, 2, ports[0]->frames->len == 3);
    ck_assert(send_frame(ports[0], broadcast, 5, 60));
    ck_assert_uint_eq(C(ports[0], mac_duplicate), 2);
    ck_assert_ptr_nonnull(strstr(ports[0]->log->str,
                                 "duplicate MAC address 52:54:00:00:00:05"));
    ck_assert_ptr_null(strstr(strstr(ports[0]->log->str, "duplicate") + 1,
                              "duplicate"));
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

START_TEST(test_forwarding_options)
{
    QdesOptions hub = { .has_learning = true, .learning = false };
    QdesOptions strict = { .unknown_unicast = "drop" };
    Port *ports[3];

    ports[0] = port_open_with(&hub, false);
    ports[1] = port_open_with(&strict, false);
    ports[2] = port_open("c");
    ck_assert(send_frame(ports[2], broadcast, 3, 60));
    WAIT(ports, 3, ports[0]->frames->len && ports[1]->frames->len);
    ck_assert(send_to(ports[0], 3, 1));
    ck_assert_uint_eq(C(ports[0], tx_flooded), 1);
    ck_assert(send_to(ports[1], 9, 2));
    ck_assert_uint_eq(C(ports[1], tx_drop_unknown), 1);
    ck_assert(send_to(ports[1], 3, 2));
    ck_assert_uint_eq(C(ports[1], tx_unicast), 1);

    /* To an address on its own side, nothing leaves. */
    ck_assert(send_frame(ports[1], broadcast, 4, 60));
    ck_assert(send_to(ports[1], 4, 2));
    ck_assert_uint_eq(C(ports[1], tx_drop_local), 1);
    port_close(ports[0]);
    port_close(ports[1]);
    port_close(ports[2]);
}
END_TEST

START_TEST(test_link)
{
    Port *ports[2];

    ports[0] = port_open("a");
    ports[1] = port_open("b");
    WAIT(ports, 2, C(ports[1], rx_hello) == 1);
    qdes_fabric_set_link(ports[0]->fabric, false, now);
    WAIT(ports, 2, C(ports[1], peers_bye) == 1);
    ck_assert(send_frame(ports[0], broadcast, 1, 60));
    ck_assert_uint_eq(C(ports[0], tx_drop_link), 1);
    ck_assert(send_frame(ports[1], broadcast, 2, 60));
    WAIT(ports, 2, C(ports[0], rx_drop_link) == 1);
    qdes_fabric_set_link(ports[0]->fabric, true, now);
    qdes_fabric_set_link(ports[0]->fabric, true, now);
    WAIT(ports, 2, C(ports[1], rx_hello) == 2);
    ck_assert_int_eq(ports[0]->changed, 2);
    ck_assert(send_frame(ports[1], broadcast, 2, 60));
    WAIT(ports, 2, ports[0]->frames->len == 1);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

START_TEST(test_frame_sizes)
{
    Port *ports[2];
    uint8_t byte[3] = { 0x52, 0x54, 0xaa };
    struct iovec many[200];
    uint8_t mac[6];
    int i;

    ports[0] = port_open("a");
    ports[1] = port_open("b");
    ck_assert(send_frame(ports[0], broadcast, 1, 13));
    ck_assert_uint_eq(C(ports[0], tx_drop_short), 1);
    ck_assert(send_frame(ports[0], broadcast, 1, QDES_FRAME_MAX + 1));
    ck_assert_uint_eq(C(ports[0], tx_drop_long), 1);
    ck_assert(send_frame(ports[0], broadcast, 1, QDES_FRAME_MAX));
    ck_assert(send_frame(ports[0], broadcast, 1, QDES_FRAME_MIN));
    WAIT(ports, 2, ports[1]->frames->len == 2);
    ck_assert_uint_eq(g_bytes_get_size(ports[1]->frames->pdata[0]),
                      QDES_FRAME_MAX);
    ck_assert_uint_eq(g_bytes_get_size(ports[1]->frames->pdata[1]),
                      QDES_FRAME_MIN);

    /* More pieces than one call takes. */
    for (i = 0; i < 200; i++) {
        many[i] = (struct iovec) { &byte[(i >= 6) + (i >= 12)], 1 };
    }
    ck_assert(qdes_fabric_send(ports[0]->fabric, many, 200, now));
    qdes_fabric_flush(ports[0]->fabric, now);
    WAIT(ports, 2, ports[1]->frames->len == 3);
    ck_assert_uint_eq(g_bytes_get_size(ports[1]->frames->pdata[2]), 200);
    memset(mac, 0x52, sizeof(mac));
    ck_assert_mem_eq(g_bytes_get_data(ports[1]->frames->pdata[2], NULL), mac,
                     6);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* A peer that is gone without a word: the network tells, the frame floods. */
START_TEST(test_unreachable)
{
    Port *ports[1];
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    uint8_t data[QDES_WIRE_HEADER_SIZE + 60] = { 0 };
    QdesStatus *status;
    QdesAddr addr;
    int fd;

    ports[0] = port_open("a");
    status = qdes_fabric_status(ports[0]->fabric, now);
    addr = status->local;
    qdes_status_free(status);

    /* A peer made by hand, so that it can vanish without BYE. */
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    len = qdes_addr_to_sockaddr(&addr, &ss);
    qdes_wire_encode_header(data, QDES_WIRE_DATA, 0, 0);
    memcpy(data + 8, broadcast, 6);
    unit_mac(data + 14, 2);
    prove(ports[0], fd, &(QdesWireHello) { .instance = 7 });
    ck_assert_int_eq(sendto(fd, data, sizeof(data), 0,
                            (struct sockaddr *)&ss, len), sizeof(data));
    WAIT(ports, 1, C(ports[0], fdb_learned) == 1);
    close(fd);

    ck_assert(send_to(ports[0], 2, 1));
    ck_assert_uint_eq(C(ports[0], tx_unicast), 1);
    WAIT(ports, 1, C(ports[0], peers_unreachable) == 1);
    ck_assert(send_to(ports[0], 2, 1));
    ck_assert_uint_eq(C(ports[0], tx_flooded), 1);
    port_close(ports[0]);
}
END_TEST

/* The same, but the error is met by the next send rather than by reading; a
 * frame to another peer is not held responsible. */
START_TEST(test_unreachable_on_send)
{
    Port *ports[2];
    struct sockaddr_storage ss;
    socklen_t len;
    uint8_t data[QDES_WIRE_HEADER_SIZE + 60] = { 0 };
    struct pollfd pfd = { .events = POLLIN };
    QdesStatus *status;
    QdesAddr addr;
    int fd, i;

    ports[0] = port_open("a");
    ports[1] = port_open("b");
    ck_assert(send_frame(ports[1], broadcast, 3, 60));
    status = qdes_fabric_status(ports[0]->fabric, now);
    addr = status->local;
    qdes_status_free(status);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    len = qdes_addr_to_sockaddr(&addr, &ss);
    qdes_wire_encode_header(data, QDES_WIRE_DATA, 0, 0);
    memcpy(data + 8, broadcast, 6);
    unit_mac(data + 14, 2);
    prove(ports[0], fd, &(QdesWireHello) { .instance = 7 });
    ck_assert_int_eq(sendto(fd, data, sizeof(data), 0,
                            (struct sockaddr *)&ss, len), sizeof(data));
    WAIT(ports, 2, C(ports[0], fdb_learned) == 2);
    close(fd);

    ck_assert(send_to(ports[0], 2, 1));
    for (i = 0; i < ports[0]->n_fds; i++) {
        pfd.fd = ports[0]->fds[i].fd;
        if (poll(&pfd, 1, 100) == 1 && (pfd.revents & POLLERR)) {
            break;
        }
    }
    ck_assert(pfd.revents & POLLERR);
    ck_assert(send_to(ports[0], 3, 1));
    ck_assert_uint_eq(C(ports[0], peers_unreachable), 1);
    ck_assert_uint_eq(C(ports[0], tx_unicast), 2);
    ck_assert(send_to(ports[0], 2, 1));
    ck_assert_uint_eq(C(ports[0], tx_flooded), 1);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* A peer that ends must not take the port's own HELLO or BYE with it. */
START_TEST(test_control_after_error)
{
    Port *p = port_open("a");
    struct sockaddr_storage ss;
    socklen_t len;
    uint8_t data[QDES_WIRE_HEADER_SIZE + 60] = { 0 };
    struct pollfd pfd = { .events = POLLIN };
    QdesStatus *status = qdes_fabric_status(p->fabric, now);
    QdesAddr addr = status->local;
    int fd, i;

    qdes_status_free(status);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    len = qdes_addr_to_sockaddr(&addr, &ss);
    qdes_wire_encode_header(data, QDES_WIRE_DATA, 0, 0);
    memcpy(data + 8, broadcast, 6);
    unit_mac(data + 14, 2);
    prove(p, fd, &(QdesWireHello) { .instance = 7 });
    ck_assert_int_eq(sendto(fd, data, sizeof(data), 0,
                            (struct sockaddr *)&ss, len), sizeof(data));
    WAIT(&p, 1, C(p, fdb_learned) == 1);
    close(fd);

    ck_assert(send_to(p, 2, 1));
    for (i = 0; i < p->n_fds; i++) {
        pfd.fd = p->fds[i].fd;
        if (poll(&pfd, 1, 100) == 1 && (pfd.revents & POLLERR)) {
            break;
        }
    }
    ck_assert(pfd.revents & POLLERR);
    qdes_fabric_set_link(p->fabric, false, now);
    ck_assert_uint_eq(C(p, tx_bye), 1);
    ck_assert_uint_eq(C(p, tx_control_errors), 0);
    ck_assert_uint_eq(C(p, peers_unreachable), 1);
    port_close(p);
}
END_TEST

/* More than any system grants, for two sockets, is one warning. */
START_TEST(test_buffer_not_granted)
{
    QdesOptions options = { .has_rcvbuf = true, .rcvbuf = QDES_MAX_SOCKBUF };
    Port *p = port_open_with(&options, false);
    const char *said = strstr(p->log->str, "warning: rcvbuf=1073741824: ");

    ck_assert_ptr_nonnull(said);
    ck_assert_ptr_null(strstr(said + 20, "rcvbuf="));
    port_close(p);
}
END_TEST

START_TEST(test_summary_and_text)
{
    Port *ports[2];
    g_autofree char *summary = NULL;
    g_autofree char *text = NULL;
    g_autofree char *local = g_strdup_printf(" on lo, local %s:", loopback);
    QdesStatus *status;

    ports[0] = port_open("a");
    ports[1] = port_open("b");
    ck_assert(send_frame(ports[1], broadcast, 3, 60));
    WAIT(ports, 2, ports[0]->frames->len == 1);
    summary = qdes_fabric_summary(ports[0]->fabric);
    ck_assert_ptr_nonnull(strstr(summary, group));
    ck_assert_ptr_nonnull(strstr(summary, "netid=0"));
    ck_assert_ptr_nonnull(strstr(summary, local));
    status = qdes_fabric_status(ports[0]->fabric, now);
    text = qdes_status_text(status, "> ");
    qdes_status_free(status);
    ck_assert(g_str_has_prefix(text, "> name a, netid 0, "));
    ck_assert_ptr_nonnull(strstr(text, "52:54:00:00:00:03"));
    ck_assert_ptr_nonnull(strstr(text, "rx-frames"));
    ck_assert_ptr_null(strstr(text, "rx-drop-magic"));
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* HELLOs keep coming at their interval, give or take a tenth. */
START_TEST(test_hello_interval)
{
    Port *p = port_open("a");
    int64_t at;
    int i;

    for (i = 0; i < 50; i++) {
        at = p->timer;
        ck_assert_int_ge(at - now, QDES_HELLO_MS * 9 / 10);
        ck_assert_int_le(at - now, QDES_HELLO_MS * 11 / 10);
        now = at;
        qdes_fabric_tick(p->fabric, now);
        ck_assert_uint_eq(C(p, tx_hello), i + 2);
    }
    port_close(p);
}
END_TEST

/* A socket that is not shared, an address that is not here. */
START_TEST(test_refusals)
{
    QdesOptions options = { .localaddr = "192.0.2.1" };
    struct sockaddr_storage ss;
    socklen_t len;
    QdesConfig config;
    GError *err = NULL;
    Port p = { .log = g_string_new(NULL) };
    int fd;

    options.mcast = group;
    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert_ptr_null(qdes_fabric_new(&config, &host, &p, now, &err));
    ck_assert_msg(g_str_has_prefix(err->message, "localaddr=192.0.2.1: not an "
                                   "address of this host"), "%s",
                  err->message);
    g_clear_error(&err);

    fd = socket(AF_INET, SOCK_DGRAM, 0);
    len = qdes_addr_to_sockaddr(&config.group, &ss);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&ss, len), 0);
    options.localaddr = NULL;
    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert_ptr_null(qdes_fabric_new(&config, &host, &p, now, &err));
    ck_assert_msg(g_str_has_prefix(err->message, "mcast=239.") &&
                  strstr(err->message, group) &&
                  strstr(err->message, "choose another port"), "%s",
                  err->message);
    g_clear_error(&err);
    close(fd);
    ck_assert_int_eq(p.n_fds, 0);
    g_string_free(p.log, true);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fabric");
    TCase *tc = tcase_create("fabric");

    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, set_up, NULL);
    tcase_add_loop_test(tc, test_flood_then_unicast, 0, 2);
    tcase_add_loop_test(tc, test_own_traffic, 0, 2);
    tcase_add_loop_test(tc, test_networks_are_apart, 0, 2);
    tcase_add_test(tc, test_hello_and_bye);
    tcase_add_test(tc, test_frame_after_bye);
    tcase_add_test(tc, test_answers_are_bounded);
    tcase_add_test(tc, test_silent_peer);
    tcase_add_test(tc, test_backpressure);
    tcase_add_test(tc, test_move_and_duplicate);
    tcase_add_test(tc, test_forwarding_options);
    tcase_add_test(tc, test_link);
    tcase_add_test(tc, test_frame_sizes);
    tcase_add_test(tc, test_unreachable);
    tcase_add_test(tc, test_unreachable_on_send);
    tcase_add_test(tc, test_control_after_error);
    tcase_add_test(tc, test_buffer_not_granted);
    tcase_add_test(tc, test_summary_and_text);
    tcase_add_test(tc, test_hello_interval);
    tcase_add_test(tc, test_refusals);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
