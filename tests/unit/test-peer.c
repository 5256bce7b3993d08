/* SPDX-License-Identifier: GPL-2.0-or-later */
/* peer: meeting, hold times, limits and fairness with a moved clock. */

#include "unit.h"

#include "qdes/fabric.h"
#include "qdes/peer.h"

static QdesAddr addr_of(uint32_t n)
{
    QdesAddr addr = { .port = 20804 };

    memset(addr.ip + 10, 0xff, 2);
    addr.ip[12] = 10;
    addr.ip[13] = n >> 16;
    addr.ip[14] = n >> 8;
    addr.ip[15] = n;
    return addr;
}

static uint32_t heard(QdesPeers *peers, uint32_t n, int64_t now)
{
    QdesAddr addr = addr_of(n);
    bool added, evicted;

    return qdes_peers_heard(peers, &addr, now, &added, &evicted);
}

static bool known(QdesPeers *peers, uint32_t n)
{
    QdesAddr addr = addr_of(n);

    return qdes_peers_find(peers, &addr) != QDES_PEER_NONE;
}

static QdesPeerNews hello(QdesPeers *peers, uint32_t slot, uint64_t instance,
                          uint16_t hold_time)
{
    QdesWireHello msg = { .instance = instance, .hold_time = hold_time };

    return qdes_peers_hello(peers, slot, &msg);
}

START_TEST(test_news)
{
    QdesPeers *peers = qdes_peers_new(4, 1);
    bool added, evicted;
    QdesAddr addr = addr_of(1);
    uint32_t slot = qdes_peers_heard(peers, &addr, 0, &added, &evicted);

    ck_assert(added && !evicted);
    ck_assert_uint_ne(slot, QDES_PEER_NONE);
    ck_assert(!qdes_peers_get(peers, slot)->alive);
    ck_assert_uint_eq(qdes_peers_heard(peers, &addr, 1, &added, &evicted),
                      slot);
    ck_assert(!added && !evicted);
    ck_assert_int_eq(hello(peers, slot, 7, 0), QDES_PEER_MET);
    ck_assert(qdes_peers_get(peers, slot)->alive);
    ck_assert_int_eq(hello(peers, slot, 7, 0), QDES_PEER_SAME);
    ck_assert_int_eq(hello(peers, slot, 8, 0), QDES_PEER_RESTARTED);
    ck_assert_uint_eq(qdes_peers_size(peers), 1);
    qdes_peers_remove(peers, slot);
    ck_assert_uint_eq(qdes_peers_size(peers), 0);
    ck_assert(!known(peers, 1));
    qdes_peers_free(peers);
}
END_TEST

static const struct {
    uint16_t said;
    int64_t held_ms;
} holds[] = {
    { 0, QDES_HOLD_MS }, { 1, 3000 }, { 3, 3000 }, { 20, 20000 },
    { 600, 600000 }, { 65535, 600000 },
};

START_TEST(test_hold_time)
{
    QdesPeers *peers = qdes_peers_new(4, 1);
    uint32_t slot = heard(peers, 1, 1000);

    ck_assert(!qdes_peers_is_expired(peers, slot, 1000 + QDES_HOLD_MS - 1));
    ck_assert(qdes_peers_is_expired(peers, slot, 1000 + QDES_HOLD_MS));
    hello(peers, slot, 7, holds[_i].said);
    ck_assert(!qdes_peers_is_expired(peers, slot,
                                     1000 + holds[_i].held_ms - 1));
    ck_assert(qdes_peers_is_expired(peers, slot, 1000 + holds[_i].held_ms));
    heard(peers, 1, 2000);
    ck_assert(!qdes_peers_is_expired(peers, slot, 1000 + holds[_i].held_ms));
    qdes_peers_excuse(peers, 5000);
    ck_assert(!qdes_peers_is_expired(peers, slot, 6999 + holds[_i].held_ms));
    ck_assert(qdes_peers_is_expired(peers, slot, 7000 + holds[_i].held_ms));
    qdes_peers_free(peers);
}
END_TEST

/* Invented sources push out each other, not those that take part. */
START_TEST(test_fairness)
{
    QdesPeers *peers = qdes_peers_new(16, 1);
    uint32_t i;

    for (i = 0; i < 10; i++) {
        hello(peers, heard(peers, i, i), 1 + i, 0);
    }
    for (i = 0; i < 10000; i++) {
        heard(peers, 1000 + i, 100 + i);
    }
    ck_assert_uint_eq(qdes_peers_size(peers), 16);
    for (i = 0; i < 10; i++) {
        ck_assert(known(peers, i));
    }
    for (i = 0; i < 6; i++) {
        ck_assert(known(peers, 1000 + 9999 - i));
    }
    qdes_peers_free(peers);
}
END_TEST

/* Where all said HELLO, the one heard longest ago gives way. */
START_TEST(test_oldest_gives_way)
{
    QdesPeers *peers = qdes_peers_new(4, 1);
    QdesAddr addr = addr_of(9);
    bool added, evicted;
    uint32_t i, old_slot;

    for (i = 0; i < 4; i++) {
        hello(peers, heard(peers, i, i), 1 + i, 0);
    }
    heard(peers, 0, 10);
    addr = addr_of(1);
    old_slot = qdes_peers_find(peers, &addr);
    addr = addr_of(9);
    ck_assert_uint_eq(qdes_peers_heard(peers, &addr, 11, &added, &evicted),
                      old_slot);
    ck_assert(added && evicted);
    ck_assert(!known(peers, 1));
    ck_assert(known(peers, 0) && known(peers, 2) && known(peers, 3));
    ck_assert(!qdes_peers_get(peers, old_slot)->alive);
    ck_assert_str_eq(qdes_peers_get(peers, old_slot)->name, "");
    qdes_peers_free(peers);
}
END_TEST

/* Long random runs against a set kept by GLib. */
START_TEST(test_model)
{
    GRand *rand = unit_rand("test_peer_model");
    QdesPeers *peers = qdes_peers_new(64, 99);
    g_autoptr(GHashTable) model = g_hash_table_new(NULL, NULL);
    uint32_t n, slot, count;
    QdesAddr addr;
    int step;

    for (step = 0; step < 100000; step++) {
        n = g_rand_int_range(rand, 1, 60);
        addr = addr_of(n);
        slot = qdes_peers_find(peers, &addr);
        ck_assert_int_eq(slot != QDES_PEER_NONE,
                         g_hash_table_contains(model, GUINT_TO_POINTER(n)));
        if (slot != QDES_PEER_NONE && g_rand_boolean(rand)) {
            qdes_peers_remove(peers, slot);
            g_hash_table_remove(model, GUINT_TO_POINTER(n));
        } else {
            slot = heard(peers, n, step);
            g_hash_table_add(model, GUINT_TO_POINTER(n));
            ck_assert(qdes_addr_equal(&qdes_peers_get(peers, slot)->addr,
                                      &addr));
            if (g_rand_boolean(rand)) {
                hello(peers, slot, n, 0);
            }
        }
        ck_assert_uint_eq(qdes_peers_size(peers), g_hash_table_size(model));
    }
    for (count = 0, slot = QDES_PEER_NONE;
         (slot = qdes_peers_next(peers, slot)) != QDES_PEER_NONE; count++) {
        ck_assert(g_hash_table_contains(model, GUINT_TO_POINTER(
            (uint32_t)qdes_peers_get(peers, slot)->addr.ip[15])));
        qdes_peers_remove(peers, slot);
    }
    ck_assert_uint_eq(count, g_hash_table_size(model));
    ck_assert_uint_eq(qdes_peers_size(peers), 0);
    qdes_peers_free(peers);
    qdes_peers_free(NULL);
    g_rand_free(rand);
}
END_TEST

/* A proven and alive peer with @instance, met long ago. */
static uint32_t member(QdesPeers *peers, uint32_t n, uint64_t instance,
                       int64_t now)
{
    uint32_t slot = heard(peers, n, 1000);

    qdes_peers_prove(peers, slot, now);
    hello(peers, slot, instance, 0);
    heard(peers, n, now);
    return slot;
}

static bool gets_copies(QdesPeers *peers, uint32_t slot, int64_t now,
                        bool group)
{
    qdes_peers_decide_copy(peers, slot, now, group);
    return qdes_peers_get(peers, slot)->copy;
}

static void tell(QdesPeers *peers, uint32_t n, uint64_t instance,
                 QdesGroupHeard told, int64_t now)
{
    QdesWireHello msg = { .instance = instance, .group_heard = told };

    qdes_peers_hello(peers, heard(peers, n, now), &msg);
}

/* Who gets copies: each condition by itself. */
START_TEST(test_copies)
{
    QdesPeers *peers = qdes_peers_new(8, 1);
    int64_t now = 100000;
    uint32_t slot = heard(peers, 1, now);

    hello(peers, slot, 7, 0);
    ck_assert(!gets_copies(peers, slot, now, false));   /* not proven */
    qdes_peers_prove(peers, slot, now);
    ck_assert(!gets_copies(peers, slot, now, true));    /* just met */
    ck_assert(gets_copies(peers, slot, now, false));
    now += QDES_PEER_SETTLE_MS;
    ck_assert(gets_copies(peers, slot, now, true));
    qdes_peers_heard_group(peers, slot, now);
    ck_assert(!gets_copies(peers, slot, now + QDES_HOLD_MS - 1, true));
    ck_assert(gets_copies(peers, slot, now + QDES_HOLD_MS, true));
    tell(peers, 1, 7, QDES_GROUP_NOT_HEARD, now);
    ck_assert(gets_copies(peers, slot, now, true));
    tell(peers, 1, 7, QDES_GROUP_UNSAID, now);
    ck_assert(gets_copies(peers, slot, now, true));
    now += 2 * QDES_HOLD_MS;
    tell(peers, 1, 7, QDES_GROUP_HEARD, now);
    ck_assert(!gets_copies(peers, slot, now, true));
    ck_assert(gets_copies(peers, slot, now + QDES_HOLD_MS, true));
    ck_assert(!gets_copies(peers, slot, now, true));
    /* Restarted: what it said is void. */
    tell(peers, 1, 8, QDES_GROUP_UNSAID, now);
    ck_assert(gets_copies(peers, slot, now, true));
    qdes_peers_remove(peers, slot);
    ck_assert_uint_eq(qdes_peers_copies(peers), 0);
    qdes_peers_free(peers);
}
END_TEST

/* Of one instance's endpoints, one. */
START_TEST(test_one_of_an_instance)
{
    QdesPeers *peers = qdes_peers_new(8, 1);
    int64_t now = 100000;
    uint32_t a = member(peers, 1, 7, now);
    uint32_t b = member(peers, 2, 7, now + 1);
    uint32_t c = member(peers, 3, 9, now);

    ck_assert(!gets_copies(peers, a, now + 2, true));
    ck_assert(gets_copies(peers, b, now + 2, true));
    ck_assert(gets_copies(peers, c, now + 2, true));
    ck_assert_uint_eq(qdes_peers_copies(peers), 2);
    ck_assert_uint_ne(qdes_peers_find_instance(peers, 7), QDES_PEER_NONE);
    ck_assert_uint_eq(qdes_peers_find_instance(peers, 8), QDES_PEER_NONE);
    ck_assert_uint_eq(qdes_peers_next_same(peers, a, QDES_PEER_NONE), b);
    ck_assert_uint_eq(qdes_peers_next_same(peers, a, b), QDES_PEER_NONE);
    ck_assert_uint_eq(qdes_peers_next_same(peers, b, QDES_PEER_NONE), a);
    ck_assert_uint_eq(qdes_peers_next_same(peers, c, QDES_PEER_NONE),
                      QDES_PEER_NONE);
    qdes_peers_heard_group(peers, a, now + 2);
    ck_assert(!gets_copies(peers, b, now + 2, true));
    ck_assert(!gets_copies(peers, a, now + 2, true));
    qdes_peers_remove(peers, a);
    ck_assert(gets_copies(peers, b, now + 2, true));
    hello(peers, b, 9, 0);
    ck_assert(gets_copies(peers, b, now + 2, true));
    ck_assert(!qdes_peers_get(peers, c)->copy);
    ck_assert_uint_eq(qdes_peers_find_instance(peers, 7), QDES_PEER_NONE);
    qdes_peers_free(peers);
}
END_TEST

/* Which address of ours it sends to is known of a peer, not of its slot. */
START_TEST(test_at)
{
    QdesPeers *peers = qdes_peers_new(8, 1);
    QdesAddr at = qdes_addr_any(true, 0);
    uint32_t a = member(peers, 1, 7, 1000);

    at.ip[15] = 1;
    ck_assert_ptr_null(qdes_peers_at(peers, QDES_PEER_NONE));
    ck_assert_ptr_null(qdes_peers_at(peers, a));
    qdes_peers_set_at(peers, a, &at, 1001);
    ck_assert(qdes_addr_equal(qdes_peers_at(peers, a), &at));
    qdes_peers_set_at(peers, a, NULL, 0);
    ck_assert_ptr_null(qdes_peers_at(peers, a));
    qdes_peers_set_at(peers, a, &at, 1002);
    qdes_peers_remove(peers, a);
    ck_assert_ptr_null(qdes_peers_at(peers, a));
    ck_assert_uint_eq(member(peers, 2, 8, 1003), a);
    ck_assert_ptr_null(qdes_peers_at(peers, a));
    qdes_peers_free(peers);
}
END_TEST

START_TEST(test_rtt)
{
    QdesPeers *peers = qdes_peers_new(8, 1);
    uint32_t slot = heard(peers, 1, 1000);
    const QdesPeer *peer = qdes_peers_get(peers, slot);
    int i;

    qdes_peers_echo_sent(peers, slot);
    qdes_peers_echo_returned(peers, slot, 800);
    ck_assert_uint_eq(peer->rtt_us, 800);
    ck_assert_uint_eq(peer->rtt_var_us, 400);
    qdes_peers_echo_sent(peers, slot);
    qdes_peers_echo_returned(peers, slot, 1600);
    ck_assert_uint_eq(peer->rtt_us, 900);
    ck_assert_uint_eq(peer->rtt_var_us, 500);
    for (i = 0; i < 3; i++) {
        qdes_peers_echo_sent(peers, slot);
    }
    ck_assert_uint_eq(peer->echo_sent, 5);
    ck_assert_uint_eq(peer->echo_lost, 2);
    qdes_peers_echo_returned(peers, slot, UINT32_MAX);
    ck_assert_uint_lt(peer->rtt_us, QDES_PEER_MAX_RTT);
    qdes_peers_free(peers);
}
END_TEST

/* What the user listed gives way last. */
START_TEST(test_seeds_stay)
{
    QdesPeers *peers = qdes_peers_new(4, 1);
    uint32_t i;

    qdes_peers_set_seed(peers, heard(peers, 1, 1), true);
    for (i = 0; i < 100; i++) {
        hello(peers, heard(peers, 100 + i, 10 + i), 1 + i, 0);
    }
    ck_assert(known(peers, 1));
    ck_assert(known(peers, 199));
    for (i = 197; i < 200; i++) {
        QdesAddr addr = addr_of(i);

        qdes_peers_set_seed(peers, qdes_peers_find(peers, &addr), true);
    }
    heard(peers, 500, 200);
    ck_assert(!known(peers, 1));
    qdes_peers_free(peers);
}
END_TEST

START_TEST(test_patience)
{
    QdesPeers *peers = qdes_peers_new(4, 1);
    uint32_t slot = heard(peers, 1, 1000);

    qdes_peers_set_patience(peers, 90000);
    ck_assert(!qdes_peers_is_expired(peers, slot, 90999));
    ck_assert(qdes_peers_is_expired(peers, slot, 91000));
    hello(peers, slot, 1, 100);
    ck_assert_int_eq(qdes_peers_expiry(peers, slot), 101000);
    qdes_peers_free(peers);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("peer");
    TCase *tc = tcase_create("peer");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_news);
    tcase_add_loop_test(tc, test_hold_time, 0, G_N_ELEMENTS(holds));
    tcase_add_test(tc, test_fairness);
    tcase_add_test(tc, test_oldest_gives_way);
    tcase_add_test(tc, test_model);
    tcase_add_test(tc, test_copies);
    tcase_add_test(tc, test_one_of_an_instance);
    tcase_add_test(tc, test_at);
    tcase_add_test(tc, test_rtt);
    tcase_add_test(tc, test_seeds_stay);
    tcase_add_test(tc, test_patience);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
