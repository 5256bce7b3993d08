/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Head-end replication: what is flooded goes to some peers as copies.
 *
 * The peers are sockets that only listen.  They are put into the port's table
 * here, so that nothing but the way of frames is tested.
 */

#include "offload-port.h"

#include "qdes/fabric-private.h"

#define PEERS 70                /* more than two batches of trains */
#define MAX_GOT 4096            /* frames of one test */

static struct {
    int fd;
    uint32_t slot;
    unsigned n;                 /* datagrams */
    uint32_t numbers[MAX_GOT];  /* of the frames in them, see number() */
} peers[PEERS];

static unsigned n_peers;

static void add_peers(Port *p, unsigned n)
{
    struct sockaddr_storage ss;
    bool added, evicted;
    socklen_t len;
    QdesAddr addr;
    int size = 4 << 20;

    for (n_peers = 0; n_peers < n; n_peers++) {
        ck_assert(qdes_addr_parse(&addr, loopback, 0, NULL));
        len = qdes_addr_to_sockaddr(&addr, &ss);
        peers[n_peers].n = 0;
        peers[n_peers].fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        setsockopt(peers[n_peers].fd, SOL_SOCKET, SO_RCVBUF, &size,
                   sizeof(size));
        ck_assert_int_eq(bind(peers[n_peers].fd, (struct sockaddr *)&ss, len),
                         0);
        len = sizeof(ss);
        getsockname(peers[n_peers].fd, (struct sockaddr *)&ss, &len);
        ck_assert(qdes_addr_from_sockaddr(&addr, (struct sockaddr *)&ss));
        peers[n_peers].slot = qdes_peers_heard(p->fabric->peers, &addr, now,
                                               &added, &evicted);
        qdes_peers_set_copy(p->fabric->peers, peers[n_peers].slot, true);
    }
}

static void close_peers(void)
{
    while (n_peers > 0) {
        close(peers[--n_peers].fd);
    }
}

/* A broadcast of @size bytes with a number in it. */
static bool send_flood(Port *p, uint32_t number, size_t size)
{
    uint8_t frame[2048] = { 0 };
    struct iovec iov = { frame, size };

    memset(frame, 0xff, 6);
    memcpy(frame + 6, "\x52\x54\x00\x00\x02\x01", 6);
    frame[12] = 0x88;
    frame[13] = 0xb5;
    qdes_put_be32(frame + 14, number);
    return qdes_fabric_send(p->fabric, &iov, 1, now);
}

/* Read what has come; loopback has it there when the call returns. */
static void collect_all(void)
{
    uint8_t data[65536];
    ssize_t size;
    unsigned i;

    for (i = 0; i < n_peers; i++) {
        while ((size = recv(peers[i].fd, data, sizeof(data), 0)) > 0) {
            ck_assert_int_ge(size, QDES_WIRE_HEADER_SIZE + 18);
            ck_assert_int_eq(data[3], 0);
            ck_assert_uint_lt(peers[i].n, MAX_GOT);
            peers[i].numbers[peers[i].n++] =
                qdes_get_be32(data + QDES_WIRE_HEADER_SIZE + 14);
        }
    }
}

static Port *open_port(bool has_group, bool plain)
{
    QdesOptions options = { .name = "a" };
    Port *p = port_open_with(&options, plain);

    p->fabric->config.has_group = has_group;
    return p;
}

enum { PLAIN = 1, GROUP = 2, ALL_WAYS = 4 };

/* Everyone gets each frame once, in order; the group, too. */
START_TEST(test_small)
{
    static const size_t sizes[] = { 60, 60, 60, 1500, 90, 90, 60 };
    Port *ports[] = { open_port(_i & GROUP, _i & PLAIN), port_open("b") };
    uint64_t n = G_N_ELEMENTS(sizes);
    unsigned i, j;

    add_peers(ports[0], PEERS);
    for (i = 0; i < n; i++) {
        ck_assert(send_flood(ports[0], i, sizes[i]));
    }
    qdes_fabric_flush(ports[0]->fabric, now);
    collect_all();
    for (i = 0; i < n_peers; i++) {
        ck_assert_uint_eq(peers[i].n, n);
        for (j = 0; j < n; j++) {
            ck_assert_uint_eq(peers[i].numbers[j], j);
        }
    }
    ck_assert_uint_eq(C(ports[0], tx_flooded), n);
    ck_assert_uint_eq(C(ports[0], tx_frames), n);
    ck_assert_uint_eq(C(ports[0], tx_bytes), 3 * 60 + 1500 + 2 * 90 + 60);
    ck_assert_uint_eq(C(ports[0], tx_copies), n * PEERS);
    ck_assert_uint_eq(C(ports[0], tx_copy_errors), 0);
    ck_assert(!qdes_fabric_has_batch(ports[0]->fabric));
    if (!(_i & PLAIN)) {
        /* Frames of one size are a train for each peer. */
        ck_assert_int_ge(fault.trains, 2 * PEERS);
    }
    if (_i & GROUP) {
        WAIT(ports, 2, ports[1]->frames->len == n);
    }
    close_peers();
    port_close(ports[0]);
    port_close(ports[1]);
}
END_TEST

/* Superframes and long frames are cut for each, checksums finished. */
START_TEST(test_long)
{
    Port *p = open_port(_i & GROUP, _i & PLAIN);
    uint8_t data[65536];
    const uint8_t *want;
    unsigned i, j, k;
    ssize_t size;

    qdes_fabric_set_port(p->fabric, &all_offloads);
    add_peers(p, 3);
    for (k = 0; k < G_N_ELEMENTS(kinds); k++) {
        make_kind(k);
        memset(sample_frame(), 0xff, 6);
        for (j = 0, want = sample.frames; j < sample.n; j++) {
            memset((uint8_t *)want, 0xff, 6);
            want += sample.sizes[j];
        }
        ck_assert(send_sample(p));
        qdes_fabric_flush(p->fabric, now);
        for (i = 0; i < n_peers; i++) {
            for (j = 0, want = sample.frames; j < sample.n; j++) {
                size = recv(peers[i].fd, data, sizeof(data), 0);
                ck_assert_int_eq(size, 8 + sample.sizes[j]);
                ck_assert_int_eq(data[3], 0);
                ck_assert_mem_eq(data + 8, want, sample.sizes[j]);
                want += sample.sizes[j];
            }
            ck_assert_int_lt(recv(peers[i].fd, data, sizeof(data), 0), 0);
        }
    }
    close_peers();
    port_close(p);
}
END_TEST

/* With neither group nor peers, there is nobody to send to. */
START_TEST(test_nobody)
{
    Port *p = open_port(false, false);

    ck_assert(send_flood(p, 1, 60));
    ck_assert(send_flood(p, 2, 2048));
    qdes_fabric_flush(p->fabric, now);
    ck_assert_uint_eq(C(p, tx_drop_no_group), 2);
    ck_assert_uint_eq(C(p, tx_flooded), 0);
    ck_assert_uint_eq(C(p, tx_copies), 0);
    port_close(p);
}
END_TEST

/* Link down while copies wait: each frame is in the books once. */
START_TEST(test_link_down)
{
    Port *p = open_port(_i & GROUP, _i & PLAIN);

    add_peers(p, 10);
    fault.err = EAGAIN;
    fault.times = -1;
    fault.after = 5;
    ck_assert(send_flood(p, 1, 60));
    ck_assert(send_flood(p, 2, 1000));
    ck_assert(send_flood(p, 3, 60));
    qdes_fabric_flush(p->fabric, now);
    qdes_fabric_set_link(p->fabric, false, now);
    fault.err = 0;
    ck_assert_uint_eq(C(p, tx_frames), 3);
    ck_assert_uint_eq(C(p, tx_flooded) + C(p, tx_drop_link), 3);
    close_peers();
    port_close(p);
}
END_TEST

/*
 * The socket fills up at any moment, peers come into and drop out of the set:
 * who stays in it gets each frame once, whoever does not gets none twice.
 */
START_TEST(test_storm)
{
    GRand *r = unit_rand("copies");
    Port *p = open_port(_i & GROUP, _i & PLAIN);
    unsigned always = PEERS / 2;
    unsigned i, j, round;
    uint32_t number = 0;

    add_peers(p, PEERS);
    for (round = 0; round < 150; round++) {
        fault.err = EAGAIN;
        fault.after = g_rand_int_range(r, 0, 120);
        fault.times = g_rand_int_range(r, 0, 6);
        for (i = g_rand_int_range(r, 1, 12); i > 0; i--) {
            if (send_flood(p, number, g_rand_boolean(r) ? 60 : 200)) {
                number++;
            }
            if (g_rand_int_range(r, 0, 4) == 0) {
                qdes_fabric_flush(p->fabric, now);
            }
            j = g_rand_int_range(r, always, PEERS);
            qdes_peers_set_copy(p->fabric->peers, peers[j].slot,
                                g_rand_boolean(r));
        }
        qdes_fabric_flush(p->fabric, now);
        if (g_rand_boolean(r)) {
            serve(&p, 1);
        }
        collect_all();
    }
    fault.err = 0;
    qdes_fabric_flush(p->fabric, now);
    WAIT(&p, 1, !qdes_fabric_has_batch(p->fabric));
    collect_all();
    for (i = 0; i < PEERS; i++) {
        for (j = 1; j < peers[i].n; j++) {
            ck_assert_uint_lt(peers[i].numbers[j - 1], peers[i].numbers[j]);
        }
        if (i < always && !(_i & PLAIN)) {
            ck_assert_uint_eq(peers[i].n, number);
        }
    }
    ck_assert_uint_eq(C(p, tx_frames), number);
    ck_assert_uint_eq(C(p, tx_flooded), number);
    for (i = j = 0; i < PEERS; i++) {
        j += peers[i].n;
    }
    ck_assert_uint_eq(C(p, tx_copies), j);
    close_peers();
    port_close(p);
    g_rand_free(r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("copies");
    TCase *tc = tcase_create("copies");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_loop_test(tc, test_small, 0, ALL_WAYS);
    tcase_add_loop_test(tc, test_long, 0, ALL_WAYS);
    tcase_add_test(tc, test_nobody);
    tcase_add_loop_test(tc, test_link_down, 0, ALL_WAYS);
    tcase_add_loop_test(tc, test_storm, 0, ALL_WAYS);
    suite_add_tcase(s, tc);
    return unit_main(s);
}
