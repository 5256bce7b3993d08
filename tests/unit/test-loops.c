/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fabric: ports of one LAN, what users put into the FDB, and storm control
 *
 * See fabric-port.h for how ports are tested.  A LAN is played by giving each
 * frame that a port delivers to all the others of that LAN.
 */

#include "fabric-port.h"
#include "packets.h"

#include "qdes/guard.h"
#include "qdes/probe.h"
#include "qdes/statics.h"

static const uint8_t broadcast[6] = { 255, 255, 255, 255, 255, 255 };

static void set_up(void)
{
    now = 1000000;
    choose_group();
}

static bool send_frame(Port *p, const uint8_t *dst, uint32_t src)
{
    uint8_t frame[60] = { 0 };
    struct iovec iov = { frame, sizeof(frame) };
    bool sent;

    memcpy(frame, dst, 6);
    unit_mac(frame + 6, src);
    sent = qdes_fabric_send(p->fabric, &iov, 1, now);
    qdes_fabric_flush(p->fabric, now);
    return sent;
}

static bool send_to(Port *p, uint32_t dst, uint32_t src)
{
    uint8_t mac[6];

    return send_frame(p, unit_mac(mac, dst), src);
}

static Port *open_guarded(const char *name, uint32_t netid)
{
    QdesOptions options = { .name = name, .has_netid = true, .netid = netid,
                            .has_loop_guard = true, .loop_guard = true };

    return port_open_with(&options, false);
}

/* Carry what was delivered to the others of the LAN; returns how much. */
static int carry(Port **ports, int n)
{
    int carried = 0;
    GBytes *frame;
    int i, j;

    for (i = 0; i < n; i++) {
        while (ports[i]->frames->len > 0) {
            frame = g_bytes_ref(ports[i]->frames->pdata[0]);
            g_ptr_array_remove_index(ports[i]->frames, 0);
            for (j = 0; j < n; j++) {
                struct iovec iov = {
                    (void *)g_bytes_get_data(frame, NULL),
                    g_bytes_get_size(frame),
                };

                if (j != i) {
                    qdes_fabric_send(ports[j]->fabric, &iov, 1, now);
                    qdes_fabric_flush(ports[j]->fabric, now);
                }
            }
            g_bytes_unref(frame);
            carried++;
        }
    }
    return carried;
}

static void tick(Port **ports, int n)
{
    int i;

    for (i = 0; i < n; i++) {
        if (now >= ports[i]->timer) {
            qdes_fabric_tick(ports[i]->fabric, now);
        }
    }
}

/* Let @ms pass on the LAN, in steps of 100. */
static void pass(Port **ports, int n, int ms)
{
    for (; ms > 0; ms -= 100) {
        now += 100;
        tick(ports, n);
        serve(ports, n);
        carry(ports, n);
    }
}

static bool is_blocked(Port *p)
{
    QdesStatus *status = qdes_fabric_status(p->fabric, now);
    bool blocked = status->blocked_by_loop;

    qdes_status_free(status);
    return blocked;
}

/* How many are; *@open is one that is not. */
static int count_blocked(Port **ports, int n, int *open)
{
    int blocked = 0;
    int i;

    for (i = 0; i < n; i++) {
        if (is_blocked(ports[i])) {
            blocked++;
        } else {
            *open = i;
        }
    }
    return blocked;
}

static bool meet(Port **ports, int n)
{
    QdesStatus *status;
    bool met = true;
    int i;

    for (i = 0; i < n; i++) {
        status = qdes_fabric_status(ports[i]->fabric, now);
        met &= status->n_peers == (size_t)n - 1;
        qdes_status_free(status);
    }
    return met;
}

/* Any number of ports on one LAN: one is left, and when it goes, another. */
START_TEST(test_one_is_left)
{
    static const char *const names[] = { "p0", "p1", "p2", "p3", "p4" };
    int n = 2 + _i, i, open = 0, blocked = 0;
    Port *ports[5], *left;
    QdesStatus *status;

    for (i = 0; i < n; i++) {
        ports[i] = open_guarded(names[i], 0);
    }
    WAIT(ports, n, meet(ports, n));
    WAIT(ports, n, (pass(ports, n, 100),
                    count_blocked(ports, n, &open) == n - 1));
    for (i = 0; i < n; i++) {
        if (i == open) {
            ck_assert_uint_eq(C(ports[i], loop_blocked), 0);
            ck_assert(strstr(ports[i]->log->str, "warning: loop: "));
            continue;
        }
        blocked = i;
        status = qdes_fabric_status(ports[i]->fabric, now);
        ck_assert_str_eq(status->loop_name, names[open]);
        qdes_status_free(status);
        ck_assert_msg(strstr(ports[i]->log->str, names[i]) &&
                      strstr(ports[i]->log->str, names[open]), "%s",
                      ports[i]->log->str);
    }
    /* What it floods nobody gets; what is flooded it does not deliver. */
    ck_assert(send_frame(ports[blocked], broadcast, 1));
    ck_assert_uint_eq(C(ports[blocked], tx_drop_loop), 1);
    ck_assert(send_frame(ports[open], broadcast, 2));
    WAIT(ports, n, C(ports[blocked], rx_drop_loop) == 1);
    ck_assert_uint_eq(ports[blocked]->frames->len, 0);
    ck_assert_uint_eq(C(ports[open], rx_frames), 0);

    /* It goes with a BYE. */
    left = ports[open];
    ports[open] = ports[--n];
    port_close(left);
    WAIT(ports, n, (pass(ports, n, 100),
                    count_blocked(ports, n, &open) == n - 1));
    ck_assert(strstr(ports[open]->log->str, "no loop with"));
    for (i = 0; i < n; i++) {
        port_close(ports[i]);
    }
}
END_TEST

/* Off the LAN again, but still in the fabric: the probes are missed. */
START_TEST(test_parted)
{
    Port *ports[2] = { open_guarded("a", 0), open_guarded("b", 0) };
    int open, i;

    WAIT(ports, 2, (pass(ports, 2, 100), count_blocked(ports, 2, &open)));
    for (i = 0; i < QDES_GUARD_HOLD_MS + 2000; i += 100) {
        now += 100;
        tick(ports, 2);
        serve(ports, 2);
        g_ptr_array_set_size(ports[0]->frames, 0);
        g_ptr_array_set_size(ports[1]->frames, 0);
    }
    ck_assert_int_eq(count_blocked(ports, 2, &open), 0);
    ck_assert(meet(ports, 2));
    ck_assert(send_frame(ports[0], broadcast, 1));
    WAIT(ports, 2, ports[1]->frames->len == 1);
    /* And on it once more: what comes back to its place asks at once. */
    carry(ports, 2);
    WAIT(ports, 2, (pass(ports, 2, 100), count_blocked(ports, 2, &open)));
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* @instance said HELLO by the group, from @addr. */
static void take_hello(QdesFabric *f, const QdesAddr *addr, uint64_t instance)
{
    QdesWireHello hello = { .instance = instance };
    uint8_t data[QDES_WIRE_HELLO_SIZE];
    QdesWireHeader header;
    size_t size = qdes_wire_encode_hello(data, QDES_WIRE_HELLO, 0, &hello);

    ck_assert_int_eq(qdes_wire_decode(&header, data, size), QDES_WIRE_OK);
    QDES_COUNT(&f->stats, rx_datagrams);
    qdes_fabric_take_control(f, &header, addr, true, now);
}

/* The blocked one asks the other each second whether it is there, and goes on
 * as soon as that is forgotten. */
START_TEST(test_winner_forgotten)
{
    Port *ports[2] = { open_guarded("a", 0), open_guarded("b", 0) };
    QdesFabric *f;
    uint64_t sent[2];
    uint32_t slot;
    int open, i;

    WAIT(ports, 2, (pass(ports, 2, 100), count_blocked(ports, 2, &open)));
    for (i = 0; i < 2; i++) {
        sent[i] = C(ports[i], tx_echo);
    }
    pass(ports, 2, 10000);
    ck_assert_uint_ge(C(ports[1 - open], tx_echo) - sent[1 - open], 10);
    ck_assert_uint_le(C(ports[1 - open], tx_echo) - sent[1 - open], 14);
    ck_assert_uint_le(C(ports[open], tx_echo) - sent[open], 4);

    f = ports[1 - open]->fabric;
    slot = qdes_peers_next(f->peers, QDES_PEER_NONE);
    if (_i == 0) {
        qdes_fabric_forget(f, slot);
    } else {
        /* Another instance at its place is another port. */
        QdesAddr addr = qdes_peers_get(f->peers, slot)->addr;

        take_hello(f, &addr, 77);
    }
    ck_assert_int_le(ports[1 - open]->timer, now);
    qdes_fabric_tick(f, now);
    ck_assert(!is_blocked(ports[1 - open]));
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* What was learned on this side while frames circled is forgotten, by the one
 * that goes on, too; and what is heard then is not. */
START_TEST(test_learned_in_circles)
{
    Port *ports[2] = { open_guarded("a", 0), open_guarded("b", 0) };
    int open, i;

    for (i = 0; i < 2; i++) {
        ck_assert(send_frame(ports[i], broadcast, 1 + i));
        ck_assert_uint_eq(qdes_fdb_owner_size(ports[i]->fabric->fdb,
                                              QDES_FDB_LOCAL), 1);
    }
    WAIT(ports, 2, (pass(ports, 2, 100), count_blocked(ports, 2, &open)));
    pass(ports, 2, 300);
    ck_assert_uint_eq(qdes_fdb_size(ports[open]->fabric->fdb), 0);
    ck_assert_uint_eq(qdes_fdb_size(ports[1 - open]->fabric->fdb), 0);
    ck_assert(send_frame(ports[open], broadcast, 3));
    pass(ports, 2, 60000);
    ck_assert_uint_eq(qdes_fdb_owner_size(ports[open]->fabric->fdb,
                                          QDES_FDB_LOCAL), 1);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* A link that goes down takes its port off the LAN. */
START_TEST(test_link_down)
{
    Port *ports[2] = { open_guarded("a", 0), open_guarded("b", 0) };
    int open, i;

    WAIT(ports, 2, (pass(ports, 2, 100), count_blocked(ports, 2, &open)));
    i = 1 - open;
    qdes_fabric_set_link(ports[i]->fabric, false, now);
    ck_assert(!is_blocked(ports[i]));
    qdes_fabric_set_link(ports[i]->fabric, true, now);
    ck_assert(!is_blocked(ports[i]));
    WAIT(ports, 2, (pass(ports, 2, 100), is_blocked(ports[i])));
    ck_assert(!is_blocked(ports[open]));
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* Another network on the same LAN, and a port that does not guard. */
START_TEST(test_others)
{
    Port *ports[3] = { open_guarded("a", 1), open_guarded("b", 2),
                       port_open("c") };
    int open;

    pass(ports, 3, 15000);
    ck_assert_int_eq(count_blocked(ports, 3, &open), 0);
    ck_assert_uint_gt(C(ports[1], tx_drop_probe), 0);
    ck_assert_uint_eq(C(ports[1], loop_heard), 0);
    ck_assert_uint_gt(C(ports[2], tx_drop_probe), 0);
    ck_assert_uint_eq(C(ports[2], loop_probes), 0);
    port_close(ports[0]);
    port_close(ports[1]);
    port_close(ports[2]);
}
END_TEST

/* A forged one, one of a port that is no peer, and many of them. */
START_TEST(test_strangers)
{
    Port *ports[2] = { open_guarded("a", 0), open_guarded("b", 0) };
    uint8_t data[QDES_PROBE_SIZE];
    struct iovec iov = { data, sizeof(data) };
    QdesProbe probe = { .asks = true };
    uint64_t sent = C(ports[0], loop_probes);
    int i, open;

    WAIT(ports, 2, meet(ports, 2));
    for (i = 0; i < 10000; i++) {
        probe.nonce++;
        qdes_probe_encode(data, &probe, 1);
        ck_assert(qdes_fabric_send(ports[0]->fabric, &iov, 1, now));
        if (i % 10 == 0) {
            now++;
            tick(ports, 2);
        }
    }
    ck_assert_int_eq(count_blocked(ports, 2, &open), 0);
    ck_assert_uint_eq(C(ports[0], tx_drop_probe), 10000);
    ck_assert_uint_eq(C(ports[0], loop_heard), 0);
    ck_assert_uint_le(C(ports[0], loop_probes) - sent,
                      1000 / QDES_GUARD_MIN_MS + 2);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* More endpoints than count say that they are one port; those that count go,
 * and the one that is left sends a probe. */
START_TEST(test_one_too_many)
{
    Port *p = open_guarded("a", 0);
    uint64_t instance = _i ? UINT64_MAX : 1;
    QdesAddr addrs[QDES_PEER_ENDPOINTS + 1];
    QdesProbe probe = { .asks = true };
    uint8_t data[QDES_PROBE_SIZE];
    struct iovec iov = { data, sizeof(data) };
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(addrs); i++) {
        ck_assert(qdes_addr_parse(&addrs[i], "192.0.2.1", 1 + i, NULL));
        take_hello(p->fabric, &addrs[i], instance);
    }
    for (i = 1; i < G_N_ELEMENTS(addrs); i++) {
        qdes_fabric_forget(p->fabric, qdes_peers_find(p->fabric->peers,
                                                      &addrs[i]));
    }
    qdes_probe_encode(data, &probe, instance);
    ck_assert(qdes_fabric_send(p->fabric, &iov, 1, now));
    ck_assert_uint_eq(C(p, loop_heard), 1);
    ck_assert(!is_blocked(p));
    port_close(p);
}
END_TEST

/* Neither does a port send a probe into the fabric, nor take one out of it. */
START_TEST(test_probes_stay_outside)
{
    Port *ports[2] = { port_open("a"), port_open("b") };
    QdesProbe probe = { .asks = true };
    uint8_t data[QDES_PROBE_SIZE];
    uint8_t datagram[QDES_WIRE_HEADER_SIZE + QDES_PROBE_SIZE];
    struct iovec iov[2] = { { data, 3 }, { data + 3, sizeof(data) - 3 } };
    struct sockaddr_storage ss;
    socklen_t len;
    QdesStatus *status;
    int fd;

    qdes_probe_encode(data, &probe, 1);
    ck_assert(qdes_fabric_send(ports[0]->fabric, iov, 2, now));
    ck_assert(send_frame(ports[0], broadcast, 1));
    WAIT(ports, 2, ports[1]->frames->len == 1);
    ck_assert_uint_eq(C(ports[0], tx_drop_probe), 1);
    ck_assert_uint_eq(C(ports[0], tx_flooded), 1);

    qdes_wire_encode_header(datagram, QDES_WIRE_DATA, 0, 0);
    memcpy(datagram + QDES_WIRE_HEADER_SIZE, data, sizeof(data));
    status = qdes_fabric_status(ports[1]->fabric, now);
    len = qdes_addr_to_sockaddr(&status->local, &ss);
    qdes_status_free(status);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    ck_assert_int_eq(sendto(fd, datagram, sizeof(datagram), 0,
                            (struct sockaddr *)&ss, len), sizeof(datagram));
    WAIT(ports, 2, C(ports[1], rx_drop_probe) == 1);
    ck_assert_uint_eq(ports[1]->frames->len, 1);
    close(fd);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* A port that is full is not sent probes; one that gets full is not read. */
START_TEST(test_full_port)
{
    Port *ports[1] = { open_guarded("a", 0) };
    uint64_t probes;

    ports[0]->verdict = QDES_DELIVERED_FULL;
    pass(ports, 1, 100);
    ck_assert_uint_eq(C(ports[0], loop_probes), 1);
    ck_assert_uint_eq(C(ports[0], rx_paused), 1);
    pass(ports, 1, 15000);
    ck_assert_uint_eq(C(ports[0], loop_probes), 1);
    ports[0]->verdict = QDES_DELIVERED;
    qdes_fabric_resume(ports[0]->fabric, now);
    pass(ports, 1, 10000);
    probes = C(ports[0], loop_probes);
    ck_assert_uint_ge(probes, 2);
    ports[0]->verdict = QDES_REFUSED;
    pass(ports, 1, 15000);
    ck_assert_uint_eq(C(ports[0], loop_probes), probes);
    port_close(ports[0]);
}
END_TEST

/* The FDB as users change it */

static void add_fdb(Port *p, uint32_t mac, const char *peer)
{
    char text[QDES_MAC_STRLEN];
    GError *err = NULL;
    uint8_t buf[6];

    ck_assert_msg(qdes_fabric_add_fdb(p->fabric,
                                      qdes_mac_format(unit_mac(buf, mac),
                                                      text), peer, &err),
                  "%s", err ? err->message : "");
}

static char *local_of(Port *p)
{
    QdesStatus *status = qdes_fabric_status(p->fabric, now);
    char text[QDES_ADDR_STRLEN];
    char *local = g_strdup(qdes_addr_format(&status->local, text));

    qdes_status_free(status);
    return local;
}

START_TEST(test_static_entries)
{
    Port *ports[3] = { port_open("a"), port_open("b"), port_open("c") };
    g_autofree char *b = local_of(ports[1]);
    QdesFlush all = { .statics = false };
    GError *err = NULL;
    size_t n;
    int i;

    WAIT(ports, 3, meet(ports, 3));
    /* At b, though it never spoke, and whatever c says. */
    add_fdb(ports[0], 7, b);
    ck_assert(send_frame(ports[2], broadcast, 7));
    WAIT(ports, 3, ports[0]->frames->len == 1 && ports[1]->frames->len == 1);
    ck_assert(send_to(ports[0], 7, 1));
    WAIT(ports, 3, ports[1]->frames->len == 2);
    ck_assert_uint_eq(C(ports[0], tx_unicast), 1);
    ck_assert_uint_eq(C(ports[0], fdb_moved), 0);
    /* For ever. */
    for (i = 0; i < 400; i++) {
        now += 1000;
        serve(ports, 3);
        tick(ports, 3);
    }
    WAIT(ports, 3, meet(ports, 3));
    ck_assert(send_to(ports[0], 7, 1));
    WAIT(ports, 3, ports[1]->frames->len == 3);
    ck_assert_uint_eq(C(ports[0], tx_unicast), 2);
    /* What is not static goes; and static ones, if it is said. */
    ck_assert(qdes_fabric_flush_fdb(ports[0]->fabric, &all, &n, &err));
    ck_assert_uint_eq(n, 1);
    all.statics = true;
    ck_assert(qdes_fabric_flush_fdb(ports[0]->fabric, &all, &n, &err));
    ck_assert_uint_eq(n, 1);
    ck_assert(send_to(ports[0], 7, 1));
    WAIT(ports, 3, ports[1]->frames->len == 4);
    ck_assert_uint_eq(C(ports[0], tx_flooded), 1);
    /* On this side. */
    add_fdb(ports[0], 8, NULL);
    ck_assert(send_to(ports[0], 8, 1));
    ck_assert_uint_eq(C(ports[0], tx_drop_local), 1);
    for (i = 0; i < 3; i++) {
        port_close(ports[i]);
    }
}
END_TEST

/* Its peer is not there yet, is there, and is gone. */
START_TEST(test_static_entry_waits)
{
    QdesOptions options = { .name = "b" };
    Port *ports[2] = { port_open("a"), port_open("b") };
    g_autofree char *b = local_of(ports[1]);

    port_close(ports[1]);
    serve(ports, 1);
    add_fdb(ports[0], 7, b);
    ck_assert(send_to(ports[0], 7, 1));
    ck_assert_uint_eq(C(ports[0], tx_flooded), 1);
    options.localaddr = b;
    ports[1] = port_open_with(&options, false);
    WAIT(ports, 2, meet(ports, 2));
    ck_assert(send_to(ports[0], 7, 1));
    WAIT(ports, 2, ports[1]->frames->len == 1);
    ck_assert_uint_eq(C(ports[0], tx_unicast), 1);
    port_close(ports[1]);
    WAIT(ports, 1, meet(ports, 1));
    ck_assert(send_to(ports[0], 7, 1));
    ck_assert_uint_eq(C(ports[0], tx_flooded), 2);
    port_close(ports[0]);
}
END_TEST

static const struct {
    const char *mac, *peer, *begins, *says;
} wrong_entries[] = {
    { "52:54:00", NULL, "mac=52:54:00: ", "52:54:00:12:34:56" },
    { "ff:ff:ff:ff:ff:ff", NULL, "mac=ff:ff:ff:ff:ff:ff: ", "group" },
    { "00:00:00:00:00:00", NULL, "mac=00:00:00:00:00:00: ", "zero" },
    { "52:54:00:12:34:56", "b", "peer=b: ", "ADDR:PORT" },
    { "52:54:00:12:34:56", "192.0.2.1", "peer=192.0.2.1: ", "port" },
    { "52:54:00:12:34:56", "239.1.1.1:1", "peer=239.1.1.1:1: ", "endpoint" },
    { "52:54:00:12:34:56", "0.0.0.0:1", "peer=0.0.0.0:1: ", "endpoint" },
    { "52:54:00:12:34:56", "[::]:1", "peer=[::]:1: ", "endpoint" },
    { "52:54:00:12:34:56", "255.255.255.255:1", "peer=255.255.255.255:1: ",
      "endpoint" },
};

START_TEST(test_wrong_entries)
{
    Port *p = port_open("a");
    g_autofree char *own = local_of(p);
    QdesFlush both = { .mac = "52:54:00:12:34:56", .peer = own };
    QdesFlush flush;
    GError *err = NULL;
    size_t n;
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(wrong_entries); i++) {
        ck_assert(!qdes_fabric_add_fdb(p->fabric, wrong_entries[i].mac,
                                       wrong_entries[i].peer, &err));
        ck_assert_msg(g_str_has_prefix(err->message,
                                       wrong_entries[i].begins) &&
                      strstr(err->message, wrong_entries[i].says), "%s",
                      err->message);
        g_clear_error(&err);
        flush = (QdesFlush) {
            .mac = wrong_entries[i].peer ? NULL : wrong_entries[i].mac,
            .peer = wrong_entries[i].peer,
        };
        ck_assert(!qdes_fabric_flush_fdb(p->fabric, &flush, &n, &err));
        ck_assert_msg(g_str_has_prefix(err->message,
                                       wrong_entries[i].begins), "%s",
                      err->message);
        g_clear_error(&err);
    }
    ck_assert(!qdes_fabric_add_fdb(p->fabric, both.mac, own, &err));
    ck_assert_msg(strstr(err->message, "the port itself"), "%s", err->message);
    g_clear_error(&err);
    ck_assert(!qdes_fabric_flush_fdb(p->fabric, &both, &n, &err));
    ck_assert_msg(strstr(err->message, "one of the two"), "%s", err->message);
    g_clear_error(&err);
    ck_assert(!qdes_fabric_del_fdb(p->fabric, both.mac, &err));
    ck_assert_msg(strstr(err->message, "no such static"), "%s", err->message);
    g_clear_error(&err);
    for (i = 0; i < QDES_STATICS_MAX; i++) {
        add_fdb(p, i, NULL);
    }
    ck_assert(!qdes_fabric_add_fdb(p->fabric, both.mac, NULL, &err));
    ck_assert_msg(strstr(err->message, "1024"), "%s", err->message);
    g_clear_error(&err);
    port_close(p);
}
END_TEST

START_TEST(test_flush)
{
    Port *ports[3] = { port_open("a"), port_open("b"), port_open("c") };
    g_autofree char *b = local_of(ports[1]);
    QdesFlush one = { .mac = "52:54:00:00:00:02" };
    QdesFlush peer = { .peer = b };
    QdesFlush nobody = { .peer = "192.0.2.1:1" };
    GError *err = NULL;
    size_t n;
    int i;

    for (i = 1; i <= 4; i++) {
        ck_assert(send_frame(ports[1], broadcast, i));
    }
    ck_assert(send_frame(ports[2], broadcast, 5));
    WAIT(ports, 3, ports[0]->frames->len == 5);
    ck_assert(qdes_fabric_flush_fdb(ports[0]->fabric, &one, &n, &err));
    ck_assert_uint_eq(n, 1);
    ck_assert(qdes_fabric_flush_fdb(ports[0]->fabric, &one, &n, &err));
    ck_assert_uint_eq(n, 0);
    ck_assert(qdes_fabric_flush_fdb(ports[0]->fabric, &nobody, &n, &err));
    ck_assert_uint_eq(n, 0);
    add_fdb(ports[0], 9, b);
    ck_assert(qdes_fabric_flush_fdb(ports[0]->fabric, &peer, &n, &err));
    ck_assert_uint_eq(n, 3);
    peer.statics = true;
    ck_assert(qdes_fabric_flush_fdb(ports[0]->fabric, &peer, &n, &err));
    ck_assert_uint_eq(n, 1);
    ck_assert_uint_eq(C(ports[0], fdb_flushed), 4);
    for (i = 0; i < 3; i++) {
        port_close(ports[i]);
    }
}
END_TEST

/* Storm control */

START_TEST(test_storm_control)
{
    QdesOptions limited = { .name = "a", .storm_control = "5" };
    Port *ports[2] = { port_open_with(&limited, false), port_open("b") };
    int i;

    for (i = 0; i < 8; i++) {
        ck_assert(i & 1 ? send_frame(ports[0], broadcast, 1)
                        : send_to(ports[0], 99, 1));
    }
    WAIT(ports, 2, ports[1]->frames->len == 5);
    ck_assert_uint_eq(C(ports[0], tx_flooded), 5);
    ck_assert_uint_eq(C(ports[0], tx_drop_storm), 3);
    ck_assert(strstr(ports[0]->log->str, "storm-control="));
    g_string_truncate(ports[0]->log, 0);
    now += 200;
    ck_assert(send_frame(ports[0], broadcast, 1));
    ck_assert(send_frame(ports[0], broadcast, 1));
    ck_assert_uint_eq(C(ports[0], tx_drop_storm), 4);
    ck_assert_ptr_null(strstr(ports[0]->log->str, "storm"));
    /* What is known is not flooded, and free. */
    ck_assert(send_to(ports[1], 1, 2));
    WAIT(ports, 2, ports[0]->frames->len == 1);
    for (i = 0; i < 20; i++) {
        ck_assert(send_to(ports[0], 2, 1));
    }
    ck_assert_uint_eq(C(ports[0], tx_unicast), 20);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* A superframe passes as a whole, and is paid for as what it is cut into. */
START_TEST(test_storm_control_superframe)
{
    static uint8_t data[12 + PACKET_MAX];
    QdesPort offloads = { .vnet_size = 12, .csum = true, .tso4 = true };
    QdesVnet vnet = { .needs_csum = true, .gso = QDES_GSO_TCP4,
                      .gso_size = 1000, .csum_start = 34, .csum_offset = 16 };
    Packet packet = { PACKET_DEFAULT, .mac = 1, .csum = PACKET_PARTIAL };
    QdesOptions limited = { .name = "a", .storm_control = "5" };
    Port *ports[2] = { port_open_with(&limited, false), port_open("b") };
    struct iovec iov = { data, 0 };
    int i;

    packet.payload = 10000;
    qdes_vnet_encode(&vnet, data, 12, G_BYTE_ORDER == G_BIG_ENDIAN);
    iov.iov_len = 12 + packet_write(&packet, data + 12);
    offloads.vnet_big_endian = G_BYTE_ORDER == G_BIG_ENDIAN;
    qdes_fabric_set_port(ports[0]->fabric, &offloads);
    for (i = 0; i < 2; i++) {
        ck_assert(qdes_fabric_send(ports[0]->fabric, &iov, 1, now));
        qdes_fabric_flush(ports[0]->fabric, now);
        now += 900;
    }
    WAIT(ports, 2, ports[1]->frames->len == 10);
    ck_assert_uint_eq(C(ports[0], tx_flooded), 10);
    ck_assert_uint_eq(C(ports[0], tx_drop_storm), 1);
    now += 700;
    ck_assert(qdes_fabric_send(ports[0]->fabric, &iov, 1, now));
    ck_assert_uint_eq(C(ports[0], tx_flooded), 20);
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loops");
    TCase *tc = tcase_create("loops");

    tcase_add_checked_fixture(tc, set_up, NULL);
    tcase_add_loop_test(tc, test_one_is_left, 0, 4);
    tcase_add_test(tc, test_parted);
    tcase_add_loop_test(tc, test_winner_forgotten, 0, 2);
    tcase_add_test(tc, test_learned_in_circles);
    tcase_add_test(tc, test_link_down);
    tcase_add_test(tc, test_others);
    tcase_add_test(tc, test_strangers);
    tcase_add_loop_test(tc, test_one_too_many, 0, 2);
    tcase_add_test(tc, test_probes_stay_outside);
    tcase_add_test(tc, test_full_port);
    tcase_add_test(tc, test_static_entries);
    tcase_add_test(tc, test_static_entry_waits);
    tcase_add_test(tc, test_wrong_entries);
    tcase_add_test(tc, test_flush);
    tcase_add_test(tc, test_storm_control);
    tcase_add_test(tc, test_storm_control_superframe);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
