/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ports with encap=vxlan and encap=vxvde; see fabric-port.h for how ports are
 * tested, and tests/functional/test_vxlan.py for how with kernels and others.
 */

#include "fabric-port.h"
#include "packets.h"

#include "qdes/encap.h"

#define FRAME 60                /* bytes */

static const uint8_t broadcast[6] = { 255, 255, 255, 255, 255, 255 };
static const char *const names[] = { "vxlan", "vxvde" };

static Port *open_at(const char *encap, const char *localaddr, bool plain)
{
    QdesOptions options = { .encap = encap, .localaddr = localaddr,
                            .has_netid = true, .netid = 5 };

    return port_open_with(&options, plain);
}

static void send_frame(Port *p, const uint8_t *dst, uint32_t src)
{
    uint8_t frame[FRAME] = { 0 };
    struct iovec iov = { frame, sizeof(frame) };

    memcpy(frame, dst, 6);
    unit_mac(frame + 6, src);
    ck_assert(qdes_fabric_send(p->fabric, &iov, 1, now));
    qdes_fabric_flush(p->fabric, now);
}

static void send_to(Port *p, uint32_t dst, uint32_t src)
{
    uint8_t mac[6];

    send_frame(p, unit_mac(mac, dst), src);
}

/* A socket on ADDR[:PORT], for who is no port of ours. */
static int open_socket(const char *at, QdesAddr *bound)
{
    struct sockaddr_storage ss;
    socklen_t len;
    int fd;

    ck_assert(qdes_addr_parse(bound, at, 0, NULL));
    len = qdes_addr_to_sockaddr(bound, &ss);
    fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&ss, len), 0);
    len = sizeof(ss);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
    qdes_addr_from_sockaddr(bound, (struct sockaddr *)&ss);
    return fd;
}

static uint16_t group_port(void)
{
    return atoi(strrchr(group, ':') + 1);
}

static QdesAddr local_of(Port *p)
{
    QdesStatus *status = qdes_fabric_status(p->fabric, now);
    QdesAddr local = status->local;

    qdes_status_free(status);
    return local;
}

static void send_bytes(int fd, const QdesAddr *to, const void *data,
                       size_t size)
{
    struct sockaddr_storage ss;
    socklen_t len = qdes_addr_to_sockaddr(to, &ss);

    ck_assert_int_eq(sendto(fd, data, size, 0, (struct sockaddr *)&ss, len),
                     size);
}

/* A datagram of network @vni with a frame from MAC number @src. */
static size_t make(uint8_t *data, uint32_t vni, uint32_t src)
{
    memset(data, 0, 8 + FRAME);
    qdes_encap_vxlan.encode(data, 0, vni);
    memset(data + 8, 0xff, 6);
    unit_mac(data + 8 + 6, src);
    return 8 + FRAME;
}

/* Floods reach all others and nobody twice, unicast only the one; nobody says
 * HELLO, and all are alive. */
START_TEST(test_three_ports)
{
    const char *encap = names[_i & 1];
    bool plain = _i & 2;
    Port *ports[] = {
        open_at(encap, "127.0.0.1", plain), open_at(encap, "127.0.0.2", plain),
        open_at(encap, "127.0.0.3", plain),
    };
    QdesStatus *status;
    unsigned i;

    send_frame(ports[0], broadcast, 1);
    WAIT(ports, 3, ports[1]->frames->len && ports[2]->frames->len);
    send_to(ports[1], 1, 2);
    WAIT(ports, 3, ports[0]->frames->len);
    ck_assert_uint_eq(C(ports[1], tx_unicast), 1);
    send_frame(ports[2], broadcast, 3);
    WAIT(ports, 3, ports[0]->frames->len == 2 && ports[1]->frames->len == 2);
    ck_assert_uint_eq(ports[2]->frames->len, 1);

    status = qdes_fabric_status(ports[0]->fabric, now);
    ck_assert_str_eq(status->encap, encap);
    ck_assert_uint_eq(status->n_peers, 2);
    for (i = 0; i < 2; i++) {
        ck_assert_str_eq(qdes_status_peer_state(&status->peers[i]), "alive");
        ck_assert_int_eq(status->peers[i].address.port == group_port(),
                         !(_i & 1));
    }
    qdes_status_free(status);
    for (i = 0; i < 3; i++) {
        qdes_fabric_set_link(ports[i]->fabric, false, now);
        qdes_fabric_set_link(ports[i]->fabric, true, now);
        ck_assert_uint_eq(C(ports[i], tx_hello), 0);
        ck_assert_uint_eq(C(ports[i], tx_bye), 0);
        ck_assert_uint_eq(C(ports[i], tx_control_errors), 0);
        ck_assert_uint_eq(C(ports[i], rx_drop_own) > 0,
                          plain && C(ports[i], tx_flooded) > 0);
    }
    for (i = 0; i < 3; i++) {
        port_close(ports[i]);
    }
}
END_TEST

/* A kernel sends from a port that tells the flow, and listens at another. */
START_TEST(test_where_answers_go)
{
    Port *port = open_at(names[_i], "127.0.0.1", false);
    QdesAddr to = local_of(port), listening, sending;
    g_autofree char *at = g_strdup_printf("127.0.0.4:%u", group_port());
    int listener = open_socket(at, &listening);
    int sender = open_socket("127.0.0.4", &sending);
    uint8_t data[8 + FRAME];
    uint8_t expected[8] = { 8, 0, 0, 0, 0, 0, 5, 0 };
    QdesStatus *status;
    ssize_t n;

    send_bytes(sender, &to, data, make(data, 5, 7));
    WAIT(&port, 1, port->frames->len == 1);
    status = qdes_fabric_status(port->fabric, now);
    ck_assert_uint_eq(status->n_peers, 1);
    ck_assert(qdes_addr_equal(&status->peers[0].address,
                              _i == 0 ? &listening : &sending));
    qdes_status_free(status);

    send_to(port, 7, 1);
    ck_assert_uint_eq(C(port, tx_unicast), 1);
    n = recv(_i == 0 ? listener : sender, data, sizeof(data), 0);
    ck_assert_int_eq(n, 8 + FRAME);
    ck_assert_mem_eq(data, expected, sizeof(expected));
    ck_assert_int_lt(recv(_i == 0 ? sender : listener, data, sizeof(data), 0),
                     0);
    close(listener);
    close(sender);
    port_close(port);
}
END_TEST

/* What is wrong is counted under its own name. */
START_TEST(test_wrong)
{
    Port *port = open_at(names[_i & 1], "127.0.0.1", _i & 2);
    QdesAddr to, from;
    int fd = open_socket("127.0.0.4", &from);
    uint8_t data[8 + FRAME];
    size_t size = make(data, 6, 7);
    bool by_group = _i & 4;

    if (by_group) {
        ck_assert(qdes_addr_parse(&to, group, 0, NULL));
    } else {
        to = local_of(port);
    }
    send_bytes(fd, &to, data, size);
    if (by_group && !(_i & 2)) {
        WAIT(&port, 1, C(port, rx_drop_kernel) == 1);
    } else {
        WAIT(&port, 1, C(port, rx_drop_netid) == 1);
    }
    make(data, 5, 7);
    data[0] = 0;
    send_bytes(fd, &to, data, size);
    WAIT(&port, 1, C(port, rx_drop_flags) == 1);
    make(data, 5, 7);
    send_bytes(fd, &to, data, 7);
    WAIT(&port, 1, C(port, rx_drop_short) == 1);
    send_bytes(fd, &to, data, 8 + 13);
    WAIT(&port, 1, C(port, rx_drop_frame_short) == 1);
    memset(data + 8 + 6, 0xff, 6);
    send_bytes(fd, &to, data, size);
    WAIT(&port, 1, C(port, rx_drop_source) == 1);
    ck_assert_uint_eq(port->frames->len, 0);

    /* All that is reserved is set: nobody minds. */
    make(data, 5, 7);
    memset(data, 0xff, 4);
    data[7] = 0xff;
    send_bytes(fd, &to, data, size);
    WAIT(&port, 1, port->frames->len == 1);
    close(fd);
    port_close(port);
}
END_TEST

/* The UDP port is nobody else's, or else there is an address for each. */
START_TEST(test_port_in_use)
{
    static const struct {
        const char *first, *second;
        bool works;
    } cases[] = {
        { "127.0.0.1", "127.0.0.1", false },
        { "127.0.0.1", "127.0.0.2", true },
        { "0.0.0.0", "0.0.0.0", false },
        { "0.0.0.0", "127.0.0.1", false },
        { "127.0.0.1", "0.0.0.0", false },
    };
    Port *port = open_at("vxlan", cases[_i].first, false);
    QdesOptions options = {
        .encap = "vxlan", .localaddr = cases[_i].second, .mcast = group,
    };
    g_autoptr(GError) err = NULL;
    g_autofree char *begins =
        g_strdup_printf("localaddr=%s: UDP port %u, ", cases[_i].second,
                        group_port());
    QdesConfig config;
    Port *other;

    if (cases[_i].works) {
        other = open_at("vxlan", cases[_i].second, false);
        port_close(other);
    } else {
        ck_assert(qdes_config_init(&config, &options, NULL));
        ck_assert_ptr_null(qdes_fabric_new(&config, &host, NULL, now, &err));
        ck_assert_msg(g_str_has_prefix(err->message, begins), "%s",
                      err->message);
        ck_assert_ptr_nonnull(strstr(err->message, "localaddr= of its own"));
    }
    port_close(port);
}
END_TEST

/* A kernel's device has the port for all addresses, and shares it not. */
START_TEST(test_kernel_has_port)
{
    g_autofree char *at = g_strdup_printf("0.0.0.0:%u", group_port());
    QdesOptions options = {
        .encap = "vxlan", .localaddr = "127.0.0.1", .mcast = group,
    };
    g_autoptr(GError) err = NULL;
    QdesConfig config;
    QdesAddr bound;
    int fd = open_socket(at, &bound);

    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert_ptr_null(qdes_fabric_new(&config, &host, NULL, now, &err));
    ck_assert_ptr_nonnull(strstr(err->message, "vxlan device"));
    ck_assert_ptr_nonnull(strstr(err->message, "mcast=ADDR:PORT"));
    close(fd);
}
END_TEST

/* A peer lives as long as it is heard: for the time that MACs age. */
START_TEST(test_silence)
{
    QdesOptions options = { .encap = names[_i], .has_netid = true, .netid = 5,
                            .has_ageing = true, .ageing = 100 };
    Port *port = port_open_with(&options, false);
    QdesAddr to = local_of(port), from;
    int fd = open_socket("127.0.0.4", &from);
    uint8_t data[8 + FRAME];

    send_bytes(fd, &to, data, make(data, 5, 7));
    WAIT(&port, 1, port->frames->len == 1);
    now += 99000;
    qdes_fabric_tick(port->fabric, now);
    ck_assert_uint_eq(C(port, peers_expired), 0);
    send_bytes(fd, &to, data, make(data, 5, 7));
    WAIT(&port, 1, port->frames->len == 2);
    now += 99000;
    qdes_fabric_tick(port->fabric, now);
    ck_assert_uint_eq(C(port, peers_expired), 0);
    now += 1000;
    qdes_fabric_tick(port->fabric, now);
    ck_assert_uint_eq(C(port, peers_expired), 1);
    send_to(port, 7, 1);
    ck_assert_uint_eq(C(port, tx_flooded), 1);
    close(fd);
    port_close(port);
}
END_TEST

static bool gets_copies(Port *p)
{
    QdesStatus *status = qdes_fabric_status(p->fabric, now);
    bool copy;

    ck_assert_uint_eq(status->n_peers, 1);
    copy = status->peers[0].copy;
    qdes_status_free(status);
    return copy;
}

/* A listed peer is where its last flood came from: the group, or not. */
START_TEST(test_listed_in_group)
{
    g_autofree char *at = g_strdup_printf("127.0.0.4:%u", group_port());
    const char *const list[] = { _i == 0 ? "127.0.0.4" : at };
    QdesOptions options = { .encap = names[_i], .has_netid = true, .netid = 5,
                            .peers = list, .n_peers = 1 };
    Port *port = port_open_with(&options, false);
    QdesAddr to = local_of(port), all, from;
    int fd = open_socket(at, &from);
    uint8_t data[8 + FRAME];
    size_t size = make(data, 5, 7);
    unsigned n = 0;

    ck_assert(qdes_addr_parse(&all, group, 0, NULL));
    qdes_fabric_tick(port->fabric, now);
    ck_assert(gets_copies(port));
    send_frame(port, broadcast, 1);
    ck_assert_uint_eq(C(port, tx_copies), 1);

    send_bytes(fd, &all, data, size);
    WAIT(&port, 1, port->frames->len == n + 1);
    n++;
    ck_assert(!gets_copies(port));
    send_frame(port, broadcast, 1);
    ck_assert_uint_eq(C(port, tx_copies), 1);

    /* Unicast says nothing, nor does a copy at the same time as the group's;
     * time does not either. */
    now += 600000;
    qdes_fabric_tick(port->fabric, now);
    ck_assert(!gets_copies(port));
    unit_mac(data + 8, 1);
    send_bytes(fd, &to, data, size);
    WAIT(&port, 1, port->frames->len == n + 1);
    n++;
    ck_assert(!gets_copies(port));
    make(data, 5, 7);
    send_bytes(fd, &all, data, size);
    WAIT(&port, 1, port->frames->len == n + 1);
    n++;
    send_bytes(fd, &to, data, size);
    WAIT(&port, 1, port->frames->len == n + 1);
    n++;
    ck_assert(!gets_copies(port));

    /* Out of the group, and in again. */
    now += QDES_PEER_SETTLE_MS;
    send_bytes(fd, &to, data, size);
    WAIT(&port, 1, port->frames->len == n + 1);
    n++;
    ck_assert(gets_copies(port));
    send_frame(port, broadcast, 1);
    ck_assert_uint_eq(C(port, tx_copies), 2);
    send_bytes(fd, &all, data, size);
    WAIT(&port, 1, port->frames->len == n + 1);
    ck_assert(!gets_copies(port));
    close(fd);
    port_close(port);
}
END_TEST

/* From the network namespace next door, checksums come unfinished. */
START_TEST(test_unfinished_checksum)
{
    bool finished = _i & 1;
    bool vnet = _i & 2;
    Packet packet = { PACKET_DEFAULT, .udp = _i & 4, .v6 = _i & 8,
                      .csum = finished ? PACKET_FULL : PACKET_PARTIAL };
    Port *port = open_at("vxlan", "127.0.0.1", false);
    QdesPort offloads = { .vnet_size = QDES_VNET_MIN, .csum = true };
    size_t skip = vnet ? QDES_VNET_MIN : 0;
    QdesAddr to = local_of(port), from;
    int fd = open_socket("127.0.0.4", &from);
    uint8_t data[8 + 1500];
    const uint8_t *frame;
    gsize size;
    size_t n;

    if (vnet) {
        qdes_fabric_set_port(port->fabric, &offloads);
    }
    qdes_encap_vxlan.encode(data, 0, 5);
    n = packet_write(&packet, data + 8);
    send_bytes(fd, &to, data, 8 + n);
    WAIT(&port, 1, port->frames->len == 1);
    frame = g_bytes_get_data(port->frames->pdata[0], &size);
    ck_assert_uint_eq(size, skip + n);
    if (vnet) {
        ck_assert_uint_eq(frame[0], finished ? 0 : 1); /* NEEDS_CSUM */
    } else {
        packet.csum = PACKET_FULL;
        packet_write(&packet, data + 8);
    }
    ck_assert_mem_eq(frame + skip, data + 8, n);

    /* One that is wrong stays wrong. */
    packet.csum = PACKET_WRONG;
    packet_write(&packet, data + 8);
    send_bytes(fd, &to, data, 8 + n);
    WAIT(&port, 1, port->frames->len == 2);
    frame = g_bytes_get_data(port->frames->pdata[1], &size);
    ck_assert_mem_eq(frame + skip, data + 8, n);
    close(fd);
    port_close(port);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vxlan");
    TCase *tc = tcase_create("vxlan");

    tcase_add_checked_fixture(tc, choose_group, NULL);
    tcase_add_loop_test(tc, test_three_ports, 0, 4);
    tcase_add_loop_test(tc, test_where_answers_go, 0, 2);
    tcase_add_loop_test(tc, test_wrong, 0, 8);
    tcase_add_loop_test(tc, test_port_in_use, 0, 5);
    tcase_add_test(tc, test_kernel_has_port);
    tcase_add_loop_test(tc, test_silence, 0, 2);
    tcase_add_loop_test(tc, test_unfinished_checksum, 0, 16);
    tcase_add_loop_test(tc, test_listed_in_group, 0, 2);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
