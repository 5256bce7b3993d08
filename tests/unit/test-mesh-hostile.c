/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mesh: what forgers, and peers that mean no good, can have a port do. */

#include "mesh-sim.h"

#include "qdes/control.h"

/* Anything, said to come from addresses of nobody. */
static size_t forge(uint8_t *data, const Node *n)
{
    QdesWireHello hello = { .instance = 1 + g_rand_int(sim.rng) % 50,
                            .capabilities = QDES_WIRE_CAP_ECHO, };
    QdesEcho echo = { .nonce = g_rand_int(sim.rng), .observed = n->addr };
    QdesDigest digest = { { g_rand_int(sim.rng) } };
    QdesKnown known = { .part = g_rand_int(sim.rng) % 2, .size = 1,
                        .bits = (const uint8_t *)"" };
    QdesEntry entries[QDES_ENTRIES_MAX];
    unsigned i;
    size_t size;

    switch (g_rand_int_range(sim.rng, 0, 7)) {
    case 0:
        return qdes_control_encode_echo(data, QDES_WIRE_ECHO, 0, &echo);
    case 1:
        return qdes_control_encode_echo(data, QDES_WIRE_ECHO_REPLY, 0, &echo);
    case 2:
        return qdes_control_encode_request(data, 0, &digest, &known);
    case 3:
        for (i = 0; i < QDES_ENTRIES_MAX; i++) {
            entries[i].addr = addr_of(99, g_rand_int(sim.rng) % 1000);
            entries[i].instance = 1 + g_rand_int(sim.rng);
        }
        return qdes_control_encode_list(data, 0, entries, QDES_ENTRIES_MAX);
    case 4:
        return qdes_wire_encode_hello(data, QDES_WIRE_BYE, 0, &hello);
    case 5:
        qdes_wire_encode_header(data, QDES_WIRE_DATA, 0, 0);
        memset(data + 8, 0x52, 60);
        return 68;
    default:
        size = qdes_wire_encode_hello(data, QDES_WIRE_HELLO, 0, &hello);
        return g_rand_boolean(sim.rng) ? size :
               qdes_wire_pad(data, size, QDES_WIRE_HELLO_PADDED);
    }
}

/* @e comes, with @data; so much may go back. */
static void push_forged(Event e, const uint8_t *data)
{
    int64_t *may = g_hash_table_lookup(sim.ledger, &e.from);

    if (!may) {
        may = g_new0(int64_t, 1);
        g_hash_table_insert(sim.ledger, g_memdup2(&e.from, sizeof(e.from)),
                            may);
    }
    *may += e.size;
    e.data = g_malloc(QDES_RX_HEADROOM + e.size);
    memcpy(e.data + QDES_RX_HEADROOM, data, e.size);
    sim_push(e);
}

/* To nobody's address goes more than came from there. */
START_TEST(test_forged_sources)
{
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    int i;

    sim_begin("test_forged_sources");
    for (i = 0; i < 4; i++) {
        add_node()->island = 1;
        start_node(node(i), NULL);
    }
    sim.fuzzed = true;
    for (i = 0; i < 20000; i++) {
        Event e = {
            .when = sim.now, .node = g_rand_int(sim.rng) % 4,
            .from = addr_of(77, g_rand_int(sim.rng) % (_i ? 20 : 5000)),
            .by_group = g_rand_boolean(sim.rng),
        };

        e.size = forge(data, node(e.node));
        push_forged(e, data);
        sim_run(sim.now + g_rand_int_range(sim.rng, 0, 4000));
    }
    for (i = 0; i < 4; i++) {
        ck_assert_uint_gt(counter(node(i), QDES_COUNTER_tx_echo), 10);
        ck_assert_uint_gt(counter(node(i), QDES_COUNTER_peers_unanswered), 10);
        ck_assert_uint_gt(counter(node(i), QDES_COUNTER_echo_stray), 10);
        ck_assert_uint_eq(n_known(node(i)), 3);
        ck_assert(qdes_stats_balanced(&node(i)->fabric->stats));
    }
    sim_end();
}
END_TEST

/* Nor because it says that it is a relay, which has much to do. */
START_TEST(test_forged_relay)
{
    QdesWireHello hello = {
        .capabilities = QDES_WIRE_CAP_ECHO | QDES_WIRE_CAP_RELAY,
    };
    uint8_t data[QDES_WIRE_HELLO_PADDED];
    QdesDetours *detours;
    QdesAddr missed;
    uint64_t sent;
    int i;

    sim_begin("test_forged_relay");
    for (i = 0; i < 2; i++) {
        add_node()->island = 1;
        node(i)->relay = i == 0;
        start_node(node(i), NULL);
    }
    ck_assert_int_ge(wait_known(1, 20 * SECOND), 0);
    hello.instance = node(0)->fabric->instance;
    detours = &node(1)->fabric->detours;
    for (i = 0; i < QDES_WIRE_RELAY_MAX; i++) {
        missed = addr_of(78, i);
        ck_assert(qdes_detours_miss(detours, 1000 + i, &missed));
        detours->all[i].relay = hello.instance;
    }
    sim.fuzzed = true;
    sent = counter(node(1), QDES_COUNTER_tx_hello);
    for (i = 0; i < 20; i++) {
        Event e = {
            .when = sim.now, .node = 1, .from = addr_of(77, i),
            .by_group = true,
        };

        e.size = qdes_wire_encode_hello(data, QDES_WIRE_HELLO, 0, &hello);
        e.size = qdes_wire_pad(data, e.size, QDES_WIRE_HELLO_PADDED);
        push_forged(e, data);
        sim_run(sim.now + SECOND / 5);
    }
    ck_assert_uint_ge(counter(node(1), QDES_COUNTER_tx_hello), sent + 20);
    sim_end();
}
END_TEST

/* A proven peer tells of what cannot be, of too many, and of itself. */
START_TEST(test_absurd_lists)
{
    static const char *const bad[] = {
        "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:9", "127.0.0.1:5",
        "[::1]:7", "[ff02::1]:7", "10.0.0.1:20804" /* the port itself */,
    };
    QdesEntry entries[QDES_ENTRIES_MAX];
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    QdesStats *stats;
    uint64_t echoes;
    unsigned i, j;
    size_t size;

    sim_begin("test_absurd_lists");
    start_all(2);
    ck_assert_int_ge(wait_known(1, 20 * SECOND), 0);
    stats = &node(0)->fabric->stats;
    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        ck_assert(qdes_addr_parse(&entries[i].addr, bad[i], 1, NULL));
        entries[i].addr.scope = 0;
        entries[i].instance = 1000 + i;
    }
    entries[i].addr = addr_of(10, 77);
    entries[i++].instance = node(0)->fabric->instance;
    entries[i].addr = addr_of(10, 77);
    entries[i++].instance = 0;
    entries[i].addr = addr_of(10, 77);
    entries[i].addr.port = 0;
    entries[i++].instance = 1;
    size = qdes_control_encode_list(data, 0, entries, i);
    transmit(node(1), &node(0)->addr, data, size);
    sim_run(sim.now + SECOND);
    ck_assert_uint_eq(stats->value[QDES_COUNTER_candidates_refused], i);
    ck_assert_uint_eq(qdes_candidates_size(
        node(0)->fabric->mesh.candidates), 0);

    echoes = stats->value[QDES_COUNTER_tx_echo];
    for (i = 0; i < 100; i++) {
        for (j = 0; j < QDES_ENTRIES_MAX; j++) {
            entries[j].addr = addr_of(66, QDES_ENTRIES_MAX * i + j);
            entries[j].instance = 2000 + QDES_ENTRIES_MAX * i + j;
        }
        size = qdes_control_encode_list(data, 0, entries, QDES_ENTRIES_MAX);
        transmit(node(1), &node(0)->addr, data, size);
    }
    sim_run(sim.now + SECOND);
    ck_assert_uint_eq(qdes_candidates_size(
        node(0)->fabric->mesh.candidates), QDES_CANDIDATES_EACH);
    sim_run(sim.now + 9 * SECOND);
    echoes = stats->value[QDES_COUNTER_tx_echo] - echoes;
    ck_assert_uint_gt(echoes, QDES_CANDIDATES_EACH);
    ck_assert_uint_le(echoes, 10 * QDES_CANDIDATE_RATE + 10);
    sim_run(sim.now + 100 * SECOND);
    ck_assert_uint_eq(qdes_candidates_size(
        node(0)->fabric->mesh.candidates), 0);
    sim_end();
}
END_TEST

/* Of one host, which is none of ours, many ports are told, again and again. */
START_TEST(test_victim)
{
    QdesEntry entries[QDES_ENTRIES_MAX];
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    uint64_t echoes;
    unsigned i, j;
    size_t size;

    sim_begin("test_victim");
    start_all(2);
    ck_assert_int_ge(wait_known(1, 20 * SECOND), 0);
    echoes = counter(node(0), QDES_COUNTER_tx_echo);
    for (i = 0; i < 600; i++) {
        for (j = 0; j < QDES_ENTRIES_MAX; j++) {
            entries[j].addr = addr_of(66, 1);
            entries[j].addr.port = 1 + QDES_ENTRIES_MAX * i + j;
            entries[j].instance = 2000 + QDES_ENTRIES_MAX * i + j;
        }
        size = qdes_control_encode_list(data, 0, entries, QDES_ENTRIES_MAX);
        transmit(node(1), &node(0)->addr, data, size);
        sim_run(sim.now + SECOND / 10);
    }
    echoes = counter(node(0), QDES_COUNTER_tx_echo) - echoes;
    ck_assert_uint_gt(echoes, QDES_CANDIDATES_HOST);
    ck_assert_uint_lt(echoes, 2 * 60);
    sim_end();
}
END_TEST

/* Those that nobody knows do not use up what peers get. */
START_TEST(test_strangers)
{
    uint8_t data[QDES_RX_HEADROOM + QDES_WIRE_CONTROL_MAX];
    QdesEcho echo = { .nonce = 1 };
    uint64_t replies;
    size_t size;
    unsigned i;

    sim_begin("test_strangers");
    start_all(2);
    ck_assert_int_ge(wait_known(1, 20 * SECOND), 0);
    sim_run(sim.now + 2 * SECOND);
    size = qdes_control_encode_echo(data, QDES_WIRE_ECHO, 0, &echo);
    for (i = 0; i < 3000; i++) {
        Event e = { .when = sim.now, .from = addr_of(77, i), .size = size };

        e.data = g_malloc0(QDES_RX_HEADROOM + size);
        memcpy(e.data + QDES_RX_HEADROOM, data, size);
        sim_push(e);
    }
    sim_run(sim.now + SECOND / 100);
    replies = counter(node(0), QDES_COUNTER_tx_echo_reply);
    ck_assert_uint_gt(counter(node(0), QDES_COUNTER_echo_unanswered), 2000);
    /* In the same second, and the network takes its time. */
    transmit(node(1), &node(0)->addr, data, size);
    sim_run(sim.now + SECOND / 5);
    ck_assert_uint_gt(counter(node(0), QDES_COUNTER_tx_echo_reply), replies);
    sim_end();
}
END_TEST

/* Nobody has this port compare, or look into lists, all day. */
START_TEST(test_busy_peers)
{
    QdesEntry entry = { .addr = addr_of(66, 1), .instance = 1 };
    QdesDigest digest = { { 1 } };
    QdesKnown known = { .size = 0 };
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    uint64_t before;
    QdesStats *stats;
    size_t size;
    unsigned i;

    sim_begin("test_busy_peers");
    start_all(200);
    ck_assert_int_ge(wait_known(199, 100 * SECOND), 0);
    sim_run(sim.now + 20 * SECOND);
    stats = &node(0)->fabric->stats;
    before = stats->value[QDES_COUNTER_peers_unanswered];
    size = qdes_control_encode_request(data, 0, &digest, &known);
    for (i = 1; i < 200; i++) {
        transmit(node(i), &node(0)->addr, data, size);
    }
    sim_run(sim.now + SECOND / 10);
    ck_assert_uint_ge(stats->value[QDES_COUNTER_peers_unanswered] - before,
                      99);
    before = stats->value[QDES_COUNTER_candidates_refused];
    size = qdes_control_encode_list(data, 0, &entry, 1);
    for (i = 0; i < 5000; i++) {
        transmit(node(1 + i % 199), &node(0)->addr, data, size);
    }
    sim_run(sim.now + SECOND / 10);
    ck_assert_uint_gt(stats->value[QDES_COUNTER_candidates_refused] - before,
                      4500);
    sim_end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mesh-hostile");
    TCase *tc = tcase_create("mesh-hostile");

    tcase_set_timeout(tc, 100);
    tcase_add_loop_test(tc, test_forged_sources, 0, 2);
    tcase_add_test(tc, test_forged_relay);
    tcase_add_test(tc, test_absurd_lists);
    tcase_add_test(tc, test_victim);
    tcase_add_test(tc, test_strangers);
    tcase_add_test(tc, test_busy_peers);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
