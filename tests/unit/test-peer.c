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
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
