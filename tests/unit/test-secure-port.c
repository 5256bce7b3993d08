/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Port security in the fabric: what a port may send from, what peers may not,
 * what is said once, and what an attacker's invented addresses cost others.
 */

#include "fabric-port.h"

#define LISTED "52:54:00:00:00:00" /* unit_mac(0) */
#define HONEST 50               /* peers, of which each has ... */
#define HONEST_MACS 4           /* ... so many addresses */
#define INVENTED 20000          /* addresses of the attacker, about */

static uint8_t frame[60];

/* A frame from @src to @dst, -1: to all. */
static void write_frame(int64_t dst, uint32_t src)
{
    memset(frame, 0xff, 6);
    if (dst >= 0) {
        unit_mac(frame, dst);
    }
    unit_mac(frame + 6, src);
    frame[12] = 0x88;
    frame[13] = 0xb5;
}

static void send_from(Port *p, int64_t dst, uint32_t src)
{
    struct iovec iov = { frame, sizeof(frame) };

    write_frame(dst, src);
    ck_assert(qdes_fabric_send(p->fabric, &iov, 1, now));
    qdes_fabric_flush(p->fabric, now);
}

/* A peer that is a socket; @p believes it. */
static int open_peer(Port *p)
{
    QdesStatus *status = qdes_fabric_status(p->fabric, now);
    struct sockaddr_storage ss;
    socklen_t len = qdes_addr_to_sockaddr(&status->local, &ss);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&ss, len), 0);
    qdes_status_free(status);
    trust(p, fd);
    return fd;
}

static void inject(int fd, int64_t dst, uint32_t src)
{
    uint8_t data[QDES_WIRE_HEADER_SIZE + sizeof(frame)];

    write_frame(dst, src);
    qdes_wire_encode_header(data, QDES_WIRE_DATA, 0, 0);
    memcpy(data + QDES_WIRE_HEADER_SIZE, frame, sizeof(frame));
    ck_assert_int_eq(send(fd, data, sizeof(data), 0), sizeof(data));
}

/* The same, and wait until @p has dropped or taken it. */
static void inject_and_wait(Port *p, int fd, int64_t dst, uint32_t src)
{
    uint64_t before = C(p, rx_frames) + C(p, rx_drop_spoofed);

    inject(fd, dst, src);
    WAIT(&p, 1, C(p, rx_frames) + C(p, rx_drop_spoofed) == before + 1);
}

/* How often @text is in the log of @p. */
static unsigned said(Port *p, const char *text)
{
    const char *at = p->log->str;
    unsigned n = 0;

    while ((at = strstr(at, text))) {
        n++;
        at++;
    }
    return n;
}

static bool knows(Port *p, uint32_t mac)
{
    uint8_t buf[6];

    return qdes_fdb_lookup(p->fabric->fdb, unit_mac(buf, mac), now) != NULL;
}

static Port *open_listed(int64_t max, const char *violation)
{
    static const char *const macs[] = { LISTED };
    QdesOptions options = {
        .name = "p", .macs = macs, .n_macs = 1,
        .has_max_local_macs = max > 0, .max_local_macs = max,
        .mac_violation = violation,
    };

    return port_open_with(&options, false);
}

START_TEST(test_drop)
{
    Port *p, *q, *ports[2];
    const char *line;
    int i;

    choose_group();
    p = ports[0] = open_listed(0, NULL);
    q = ports[1] = port_open("q");
    WAIT(ports, 2, C(q, peers_added) == 1);
    for (i = 0; i < 5; i++) {
        send_from(p, -1, 7 + i);
        send_from(p, 100, 7);
    }
    ck_assert_uint_eq(C(p, tx_drop_mac), 10);
    ck_assert(!knows(p, 7));
    send_from(p, -1, 0);
    WAIT(ports, 2, q->frames->len == 1);
    ck_assert_uint_eq(C(p, tx_flooded), 1);
    ck_assert(knows(q, 0));
    ck_assert(!knows(q, 7));
    /* Once, with the address and the remedy. */
    ck_assert_uint_eq(said(p, "warning: "), 1);
    line = strstr(p->log->str, "warning: port security: ");
    ck_assert_ptr_nonnull(line);
    ck_assert_ptr_nonnull(strstr(line, "52:54:00:00:00:07"));
    ck_assert_ptr_nonnull(strstr(line, "1 other MAC address only"));
    ck_assert_ptr_nonnull(strstr(line, "tx-drop-mac"));
    /* What is here need not leave, though it was never heard again. */
    now += 1000 * 1000;
    qdes_fabric_tick(p->fabric, now);
    send_from(p, 0, 0);
    ck_assert_uint_eq(C(p, tx_drop_local), 1);
    port_close(p);
    port_close(q);
}
END_TEST

START_TEST(test_learn_none)
{
    Port *p, *q, *ports[2];

    choose_group();
    p = ports[0] = open_listed(2, "learn-none");
    q = ports[1] = port_open("q");
    WAIT(ports, 2, C(q, peers_added) == 1);
    send_from(p, -1, 0);
    send_from(p, -1, 5);
    send_from(p, -1, 6);
    send_from(p, -1, 6);
    WAIT(ports, 2, q->frames->len == 4);
    ck_assert_uint_eq(C(p, tx_unlearned), 2);
    ck_assert_uint_eq(C(p, tx_drop_mac), 0);
    ck_assert(knows(p, 0));
    ck_assert(knows(p, 5));
    ck_assert(!knows(p, 6));
    ck_assert_uint_eq(said(p, "warning: port security: "), 1);
    ck_assert_uint_eq(said(p, "2 other MAC addresses only"), 1);
    /* Nor does it move what a peer has. */
    send_from(q, -1, 9);
    WAIT(ports, 2, knows(p, 9));
    send_from(p, -1, 9);
    WAIT(ports, 2, q->frames->len == 5);
    ck_assert_uint_eq(C(p, fdb_moved), 0);
    port_close(p);
    port_close(q);
}
END_TEST

/* The first to come, until the link goes down, or the user has them flushed. */
START_TEST(test_first_come)
{
    QdesOptions options = { .name = "p", .has_max_local_macs = true,
                            .max_local_macs = 2, .has_learning = _i != 0,
                            .learning = false };
    QdesFlush all = { .statics = false };
    QdesFlush one = { .mac = "52:54:00:00:00:03" };
    QdesStatus *status;
    size_t n;
    Port *p;

    choose_group();
    p = port_open_with(&options, false);
    send_from(p, -1, 1);
    send_from(p, -1, 2);
    send_from(p, -1, 3);
    ck_assert_uint_eq(C(p, tx_drop_mac), 1);
    ck_assert(qdes_fabric_flush_fdb(p->fabric, &all, &n, NULL));
    send_from(p, -1, 3);
    send_from(p, -1, 1);
    send_from(p, -1, 2);
    ck_assert_uint_eq(C(p, tx_drop_mac), 2);
    ck_assert(qdes_fabric_flush_fdb(p->fabric, &one, &n, NULL));
    send_from(p, -1, 2);
    ck_assert_uint_eq(C(p, tx_drop_mac), 2);
    qdes_fabric_set_link(p->fabric, false, now);
    qdes_fabric_set_link(p->fabric, true, now);
    status = qdes_fabric_status(p->fabric, now);
    ck_assert_uint_eq(status->portsec->max_local_macs, 2);
    ck_assert_uint_eq(status->portsec->local_macs, 0);
    ck_assert_uint_eq(status->portsec->n_macs, 0);
    ck_assert_str_eq(status->portsec->violation, "drop");
    qdes_status_free(status);
    send_from(p, -1, 4);
    send_from(p, -1, 5);
    ck_assert_uint_eq(C(p, tx_drop_mac), 2);
    port_close(p);
}
END_TEST

/* A group's address, or none, is nobody's. */
START_TEST(test_no_source)
{
    static uint8_t bad[2][60];
    struct iovec iov = { NULL, sizeof(bad[0]) };
    QdesOptions options = { .name = "p", .has_max_local_macs = true,
                            .max_local_macs = 2 };
    Port *p;
    int i;

    choose_group();
    p = port_open_with(&options, false);
    memset(bad[0], 0xff, 12);
    memset(bad[1], 0xff, 6);
    for (i = 0; i < 2; i++) {
        iov.iov_base = bad[i];
        ck_assert(qdes_fabric_send(p->fabric, &iov, 1, now));
    }
    ck_assert_uint_eq(C(p, tx_drop_mac), 2);
    port_close(p);
}
END_TEST

/* What is listed is never learned from a peer, and its frames are dropped. */
START_TEST(test_spoof)
{
    Port *p;
    int fd, i;

    choose_group();
    p = open_listed(0, NULL);
    fd = open_peer(p);
    inject_and_wait(p, fd, -1, 0);
    inject_and_wait(p, fd, 0, 0);
    ck_assert_uint_eq(C(p, rx_drop_spoofed), 2);
    ck_assert_uint_eq(p->frames->len, 0);
    ck_assert_uint_eq(C(p, fdb_learned), 0);
    inject_and_wait(p, fd, 0, 9);
    ck_assert_uint_eq(p->frames->len, 1);
    ck_assert(knows(p, 9));
    /* Nor taken away from where it is. */
    send_from(p, -1, 0);
    inject_and_wait(p, fd, -1, 0);
    ck_assert_uint_eq(C(p, fdb_moved), 0);
    ck_assert_uint_eq(p->frames->len, 1);
    send_from(p, 0, 0);
    ck_assert_uint_eq(C(p, tx_drop_local), 1);
    /* A guest that moves here or away is no reason to warn; two that use the
     * address in turn are, once. */
    ck_assert_uint_eq(said(p, "warning: "), 0);
    for (i = 0; i < 3; i++) {
        inject_and_wait(p, fd, -1, 0);
        send_from(p, -1, 0);
    }
    ck_assert_uint_eq(C(p, mac_duplicate), 4);
    ck_assert_uint_eq(said(p, "warning: "), 1);
    ck_assert_uint_eq(said(p, "warning: duplicate MAC address " LISTED), 1);
    close(fd);
    port_close(p);
}
END_TEST

/* A user cannot say two things of one address. */
START_TEST(test_static_elsewhere)
{
    GError *err = NULL;
    Port *p;

    choose_group();
    p = open_listed(0, NULL);
    ck_assert(!qdes_fabric_add_fdb(p->fabric, LISTED, "127.0.0.1:9", &err));
    ck_assert_msg(strstr(err->message, "mac=" LISTED ": ") == err->message &&
                  strstr(err->message, "leave peer out"), "%s", err->message);
    g_error_free(err);
    ck_assert(qdes_fabric_add_fdb(p->fabric, LISTED, NULL, NULL));
    ck_assert(qdes_fabric_add_fdb(p->fabric, "52:54:00:00:00:01",
                                  "127.0.0.1:9", NULL));
    port_close(p);
}
END_TEST

/*
 * A peer invents addresses as fast as it can, at a table with room for all of
 * the others and hardly more.  None of theirs is lost: to each, frames go to
 * the one peer that has it.
 */
START_TEST(test_exhaustion)
{
    QdesOptions options = { .name = "p", .has_max_macs = true,
                            .max_macs = HONEST_MACS * (HONEST + 2) };
    int fds[HONEST], evil;
    uint64_t heard, sent;
    int i, j, n = 0;
    Port *p;

    choose_group();
    p = port_open_with(&options, false);
    for (i = 0; i < HONEST; i++) {
        fds[i] = open_peer(p);
        for (j = 0; j < HONEST_MACS; j++) {
            inject_and_wait(p, fds[i], -1, i * HONEST_MACS + j);
        }
    }
    evil = open_peer(p);
    heard = C(p, rx_frames);
    for (i = 0; i < INVENTED || n < INVENTED / 2; i++) {
        inject(evil, -1, 100000 + i);
        if (i % 32 == 31) {
            serve(&p, 1);
            g_ptr_array_set_size(p->frames, 0);
            n = C(p, rx_frames) - heard;
        }
    }
    ck_assert_uint_ge(C(p, fdb_evicted), INVENTED / 2 - options.max_macs / 2);
    sent = C(p, tx_unicast);
    for (i = 0; i < HONEST * HONEST_MACS; i++) {
        ck_assert_msg(knows(p, i), "%d was forgotten", i);
        send_from(p, i, 90000);
    }
    ck_assert_uint_eq(C(p, tx_unicast), sent + HONEST * HONEST_MACS);
    ck_assert_uint_eq(C(p, tx_flooded), 0);
    for (i = 0; i < HONEST; i++) {
        close(fds[i]);
    }
    close(evil);
    port_close(p);
}
END_TEST

/* What can leave the host says so; what cannot, is no matter of trust. */
START_TEST(test_not_sealed)
{
    QdesOptions options = { .name = "p", .localaddr = _i ? "0.0.0.0"
                                                         : "127.0.0.1" };
    Port *p;

    choose_group();
    p = port_open_with(&options, false);
    ck_assert_uint_eq(said(p, "not sealed"), _i);
    qdes_fabric_tick(p->fabric, now + 20000);
    ck_assert_uint_eq(said(p, "not sealed"), _i);
    port_close(p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("secure-port");
    TCase *tc = tcase_create("secure-port");

    tcase_add_test(tc, test_drop);
    tcase_add_test(tc, test_learn_none);
    tcase_add_loop_test(tc, test_first_come, 0, 2);
    tcase_add_test(tc, test_no_source);
    tcase_add_test(tc, test_spoof);
    tcase_add_test(tc, test_static_elsewhere);
    tcase_add_test(tc, test_exhaustion);
    tcase_add_loop_test(tc, test_not_sealed, 0, 2);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
