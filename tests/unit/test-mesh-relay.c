/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mesh: relays
 *
 * Numbers 0 and 1 are public, and relay; 2 is public and does not; 3 to 5 are
 * behind symmetric NATs.
 */

#include "mesh-sim.h"

enum { RELAY_NODES = 6, HOME = 3 };

static const uint8_t *mac_of(unsigned i)
{
    static uint8_t macs[RELAY_NODES + 1][6];

    ck_assert_uint_le(i, RELAY_NODES);
    return unit_mac(macs[i], 100 + i);
}

static void forget_frames(void)
{
    guint i;

    for (i = 0; i < sim.nodes->len; i++) {
        node(i)->frames = 0;
    }
}

/* Number @from sends a frame to @dst, and it arrives. */
static void send_frame(unsigned from, const uint8_t *dst)
{
    uint8_t frame[60] = { 0 };
    struct iovec iov = { frame, sizeof(frame) };

    memcpy(frame, dst, 6);
    memcpy(frame + 6, mac_of(from), 6);
    frame[12] = 0x88;
    frame[13] = 0xb5;
    frame[14] = g_rand_int(sim.rng);
    forget_frames();
    ck_assert(qdes_fabric_send(node(from)->fabric, &iov, 1, sim_ms()));
    qdes_fabric_flush(node(from)->fabric, sim_ms());
    sim_run(sim.now + SECOND / 5);
}

/* Those who got it once, a bit for each; nobody gets it twice. */
static unsigned got_frame(void)
{
    unsigned who = 0;
    guint i;

    for (i = 0; i < sim.nodes->len; i++) {
        ck_assert_uint_le(node(i)->frames, 1);
        who |= node(i)->frames << i;
    }
    return who;
}

/* All floods come to all who are there, once. */
static void assert_floods(unsigned there)
{
    static const uint8_t broadcast[6] = { 255, 255, 255, 255, 255, 255 };
    unsigned i;

    for (i = 0; i < RELAY_NODES; i++) {
        if (there >> i & 1) {
            send_frame(i, broadcast);
            ck_assert_msg(got_frame() == (there & ~(1u << i)),
                          "%x of %x got what %u flooded", got_frame(), there,
                          i);
        }
    }
}

/* The number of who relays between numbers @a and @b. */
static unsigned relay_between(unsigned a, unsigned b)
{
    QdesDetour *there = qdes_detours_find(&node(a)->fabric->detours,
                                          node(b)->fabric->instance);
    QdesDetour *back = qdes_detours_find(&node(b)->fabric->detours,
                                         node(a)->fabric->instance);
    unsigned i;

    ck_assert_ptr_nonnull(there);
    ck_assert_ptr_nonnull(back);
    for (i = 0; i < 2; i++) {
        if (node(i)->fabric && there->relay == node(i)->fabric->instance) {
            ck_assert_uint_eq(back->relay, there->relay);
            return i;
        }
    }
    ck_abort_msg("nobody relays between %u and %u", a, b);
    return 0;
}

static void start_relays(bool relay)
{
    unsigned i;

    for (i = 0; i < RELAY_NODES; i++) {
        add_node()->relay = relay && i < 2;
        if (i >= HOME) {
            put_behind_nat(node(i), NAT_SYMMETRIC);
        }
        start_node(node(i), i ? node(0) : NULL);
        sim_run(sim.now + SECOND);
    }
    sim_run(sim.now + 60 * SECOND);
    for (i = 0; i < RELAY_NODES; i++) {
        ck_assert_uint_eq(n_known(node(i)), i < HOME ? 5 : 3);
        ck_assert_uint_eq(node(i)->fabric->detours.n, i < HOME ? 0 : 2);
    }
}

START_TEST(test_relay)
{
    unsigned way, there, i, j;
    Node *hostile;

    sim_begin("test_relay");
    start_relays(true);
    assert_floods(0x3f);
    ck_assert_uint_eq(counter(node(2), QDES_COUNTER_relay_frames), 0);

    /* Unicast goes by the one relay, and to nobody else. */
    for (i = HOME; i < RELAY_NODES; i++) {
        for (j = HOME; j < RELAY_NODES; j++) {
            if (i == j) {
                continue;
            }
            way = relay_between(i, j);
            node(way)->fabric->stats.value[QDES_COUNTER_rx_relayed] = 0;
            node(way)->fabric->stats.value[QDES_COUNTER_rx_datagrams] = 0;
            send_frame(i, mac_of(j));
            ck_assert_uint_eq(got_frame(), 1u << j);
            ck_assert_mem_eq(node(j)->frame->data + 6, mac_of(i), 6);
            ck_assert_uint_eq(counter(node(way), QDES_COUNTER_rx_relayed), 1);
        }
    }
    send_frame(HOME, mac_of(RELAY_NODES));  /* which nobody has */
    ck_assert_uint_eq(got_frame(), 0x37);

    /* Who is not proven asks in vain; who is, gets what it asked for only. */
    hostile = add_node();
    hostile->part = node(0)->part;
    {
        QdesWireHello hello = { .instance = 4711, .hold_time = 600 };
        uint64_t wants[] = { node(HOME)->fabric->instance };
        uint8_t data[QDES_WIRE_HELLO_MAX];
        size_t size = qdes_wire_encode_hello(data, QDES_WIRE_HELLO, 0,
                                             &hello);

        size = qdes_wire_add_relay_for(data, size, wants, 1);
        i = qdes_relay_size(node(0)->fabric->relay);
        transmit(hostile, &node(0)->addr, data, size);
        transmit(hostile, &node(2)->addr, data, size);
        sim_run(sim.now + SECOND / 5);
        ck_assert_uint_eq(qdes_relay_size(node(0)->fabric->relay), i);
        ck_assert_uint_eq(counter(node(0), QDES_COUNTER_relay_refused), 1);
        ck_assert_uint_eq(counter(node(2), QDES_COUNTER_relay_refused), 1);
    }

    /* A relay is killed: the other does it. */
    way = relay_between(HOME, HOME + 1);
    kill_node(node(way));
    there = 0x3f & ~(1u << way);
    sim_run(sim.now + 90 * SECOND);
    ck_assert_uint_eq(relay_between(HOME, HOME + 1), 1 - way);
    assert_floods(there);
    send_frame(HOME, mac_of(HOME + 1));
    ck_assert_uint_eq(got_frame(), 1u << (HOME + 1));

    /* The other, too: the rest goes on. */
    kill_node(node(1 - way));
    sim_run(sim.now + 90 * SECOND);
    send_frame(HOME, mac_of(HOME + 1));
    ck_assert_uint_eq(got_frame(), 1u << 2);
    send_frame(2, mac_of(HOME));
    ck_assert_uint_eq(got_frame(), 1u << HOME);
    sim_end();
}
END_TEST

/* They reach each other one day: the relay has nothing to do any more. */
START_TEST(test_relay_no_longer)
{
    unsigned i;

    sim_begin("test_relay_no_longer");
    start_relays(true);
    assert_floods(0x3f);
    for (i = HOME; i < RELAY_NODES; i++) {
        node(i)->nat = NAT_NONE;
    }
    sim_run(sim.now + 200 * SECOND);
    for (i = 0; i < RELAY_NODES; i++) {
        ck_assert_uint_eq(n_known(node(i)), 5);
        ck_assert_uint_eq(node(i)->fabric->detours.n, 0);
    }
    ck_assert_uint_eq(qdes_relay_size(node(0)->fabric->relay), 0);
    ck_assert_uint_eq(qdes_relay_size(node(1)->fabric->relay), 0);
    assert_floods(0x3f);
    send_frame(HOME, mac_of(HOME + 1));
    ck_assert_uint_eq(got_frame(), 1u << (HOME + 1));
    sim_end();
}
END_TEST

START_TEST(test_relay_off)
{
    static const uint8_t broadcast[6] = { 255, 255, 255, 255, 255, 255 };

    sim_begin("test_relay_off");
    start_relays(false);
    send_frame(HOME, broadcast);
    ck_assert_uint_eq(got_frame(), 0x07);
    send_frame(2, broadcast);
    ck_assert_uint_eq(got_frame(), 0x3b);
    ck_assert_uint_eq(node(HOME)->fabric->detours.all[0].relay, 0);
    sim_end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mesh-relay");
    TCase *tc = tcase_create("mesh-relay");

    tcase_set_timeout(tc, 100);
    tcase_add_test(tc, test_relay);
    tcase_add_test(tc, test_relay_no_longer);
    tcase_add_test(tc, test_relay_off);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
