/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mesh: networks that lose, that part, and that let not all through. */

#include "mesh-sim.h"

/* One datagram of ten is lost. */
START_TEST(test_loss)
{
    sim_begin("test_loss");
    sim.loss = 100;
    start_all(30);
    /* Mostly two, hardly ever four; each more is ten times as rare. */
    ck_assert_int_ge(wait_known(29, 12 * interval_us(30)), 0);
    sim_end();
}
END_TEST

/* A group for some, unicast for all: each gets floods once. */
START_TEST(test_mixed)
{
    unsigned i;

    sim_begin("test_mixed");
    for (i = 0; i < 12; i++) {
        add_node()->island = i < 5 ? 1 : i < 9 ? 2 : 0;
    }
    /* Of each island, only one knows somebody elsewhere. */
    start_node(node(0), NULL);
    for (i = 1; i < 12; i++) {
        start_node(node(i), i == 5 || i >= 9 ? node(0) : NULL);
    }
    /* The others of an island are told as they draw who knows more. */
    ck_assert_int_ge(wait_known(11, 6 * interval_us(12)), 0);
    sim_run(sim.now + 2 * interval_us(12));
    ck_assert(all_know(11));
    for (i = 0; i < 12; i++) {
        ck_assert_uint_eq(copies(node(i)), i < 5 ? 7 : i < 9 ? 8 : 11);
    }
    /* The second island loses its group. */
    for (i = 5; i < 9; i++) {
        node(i)->island = 0;
        node(i)->netif.index = 0;
    }
    sim_run(sim.now + 4 * interval_us(12));
    ck_assert(all_know(11));
    for (i = 5; i < 9; i++) {
        ck_assert_uint_eq(copies(node(i)), 11);
    }
    sim_end();
}
END_TEST

/* The network is parted and comes together; nobody is restarted. */
START_TEST(test_split)
{
    const unsigned n = 20;
    unsigned i;

    sim_begin("test_split");
    start_all(n);
    ck_assert_int_ge(wait_known(n - 1, 2 * interval_us(n)), 0);
    for (i = 0; i < n; i++) {
        node(i)->part = i % 2;
    }
    sim_run(sim.now + 120 * SECOND);
    for (i = 0; i < n; i++) {
        ck_assert_uint_eq(n_known(node(i)), n / 2 - 1);
    }
    /* Meanwhile, one goes and one comes, who knows only its own side. */
    stop_node(node(3));
    add_node()->part = 1;
    start_node(node(n), node(1));
    sim_run(sim.now + 60 * SECOND);
    for (i = 0; i <= n; i++) {
        node(i)->part = 0;
    }
    ck_assert_int_ge(wait_known(n - 1, 2 * QDES_REMEMBERED_MS * 1000), 0);
    sim_end();
}
END_TEST

/* Two behind NATs find each other by one who is not. */
START_TEST(test_nat)
{
    unsigned i;

    sim_begin("test_nat");
    for (i = 0; i < 5; i++) {
        add_node();
        if (i > 0) {
            put_behind_nat(node(i), _i ? NAT_RESTRICTED : NAT_FULL_CONE);
        }
    }
    start_node(node(0), NULL);
    for (i = 1; i < 5; i++) {
        start_node(node(i), node(0));
        sim_run(sim.now + SECOND);
    }
    ck_assert_int_ge(wait_known(4, 3 * interval_us(5)), 0);
    for (i = 1; i < 5; i++) {
        ck_assert(node(i)->fabric->mesh.behind_nat);
    }
    sim_run(sim.now + 300 * SECOND);
    ck_assert(all_know(4));
    sim_end();
}
END_TEST

/* RTT and loss are what the network makes them. */
START_TEST(test_rtt)
{
    const QdesPeer *peer;

    sim_begin("test_rtt");
    start_all(2);
    sim_run(sim.now + 200 * SECOND);
    peer = qdes_peers_get(node(1)->fabric->peers,
                          qdes_peers_next(node(1)->fabric->peers, 0));
    ck_assert_uint_ge(peer->rtt_us, 400);
    ck_assert_uint_le(peer->rtt_us, 40400);
    ck_assert_uint_ge(peer->echo_sent, 15);
    ck_assert_uint_eq(peer->echo_lost, 0);
    node(0)->part = 1;
    sim_run(sim.now + 25 * SECOND);
    ck_assert_uint_ge(peer->echo_lost, 1);
    sim_end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mesh-faults");
    TCase *tc = tcase_create("mesh-faults");

    tcase_set_timeout(tc, 100);
    tcase_add_test(tc, test_loss);
    tcase_add_test(tc, test_mixed);
    tcase_add_test(tc, test_split);
    tcase_add_loop_test(tc, test_nat, 0, 2);
    tcase_add_test(tc, test_rtt);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
