/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clocks that jump: a host that slept, whose clock went on or stood still
 * meanwhile, and one whose clock is set back
 *
 * Ports promise nothing about a clock that goes back (fabric.h), but have to
 * get over it.  All of it in plain and in sealed fabrics: what is accepted
 * there depends on times as well.
 */

#include "fabric-port.h"

#define HOUR (3600 * INT64_C(1000))
#define STEP 100                /* ms */
#define ALONE (5 * 60 * 1000)   /* ms: until the other is long forgotten */
#define AGAIN 12000             /* ms: after which all have said HELLO */

enum { A, B, N_PORTS };

static Port *ports[N_PORTS];
static int64_t clocks[N_PORTS];
static uint32_t last_number;

static void begin(bool sealed)
{
    static const char text[] = "a secret that nobody guesses";
    int i;

    now = 1000 * HOUR;
    last_number = 0;
    choose_group();
    for (i = 0; i < N_PORTS; i++) {
        QdesOptions options = { .name = i == A ? "a" : "b" };

        if (sealed) {
            options.secret = (QdesSecret) { text, strlen(text) };
        }
        clocks[i] = now;
        ports[i] = port_open_with(&options, false);
        now += 10;
    }
}

static void end(void)
{
    int i;

    for (i = 0; i < N_PORTS; i++) {
        now = clocks[i];
        port_close(ports[i]);
    }
}

/* Each port by its own clock, which goes on by @ms. */
static void go_on(int64_t ms)
{
    int i;

    for (i = 0; i < N_PORTS; i++) {
        now = clocks[i] += ms;
        qdes_fabric_tick(ports[i]->fabric, now);
        serve(&ports[i], 1);
    }
}

static void send_number(int from, uint32_t number, bool to_all)
{
    uint8_t frame[60] = { 0 };
    struct iovec iov = { frame, sizeof(frame) };

    memset(frame, 0xff, 6);
    if (!to_all) {
        unit_mac(frame, 1 + !from);
    }
    unit_mac(frame + 6, 1 + from);
    frame[12] = 0x88;
    frame[13] = 0xb5;
    qdes_put_be32(frame + 14, number);
    now = clocks[from];
    qdes_fabric_send(ports[from]->fabric, &iov, 1, now);
    qdes_fabric_flush(ports[from]->fabric, now);
}

/* How often the port got the frame with this number. */
static unsigned got(int port, uint32_t number)
{
    unsigned n = 0;
    guint i;

    for (i = 0; i < ports[port]->frames->len; i++) {
        const uint8_t *frame =
            g_bytes_get_data(ports[port]->frames->pdata[i], NULL);

        n += qdes_get_be32(frame + 14) == number;
    }
    return n;
}

/* Frames of each port arrive at the other within @ms of their clocks. */
static void assert_traffic(int64_t ms)
{
    bool there[N_PORTS] = { false, false };
    int64_t left = ms;
    uint32_t first = last_number + 1;
    uint32_t i;

    while (!there[A] || !there[B]) {
        ck_assert_msg(left >= 0, "a %d, b %d", there[A], there[B]);
        last_number++;
        send_number(A, last_number, last_number % 2);
        send_number(B, last_number, last_number % 2);
        left -= STEP;
        go_on(STEP);
        there[A] = got(B, last_number) > 0;
        there[B] = got(A, last_number) > 0;
    }
    go_on(STEP);
    for (i = first; i <= last_number; i++) {
        ck_assert_uint_le(got(A, i), 1);
        ck_assert_uint_le(got(B, i), 1);
    }
}

static void meet(bool sealed)
{
    int64_t left;

    begin(sealed);
    for (left = AGAIN; C(ports[A], peers_proven) == 0 ||
         C(ports[B], peers_proven) == 0; left -= STEP) {
        ck_assert(left >= 0);
        go_on(STEP);
    }
    assert_traffic(AGAIN);
    assert_traffic(STEP);
}

/* Nothing that was delivered is delivered a second time. */
static void assert_once(void)
{
    uint32_t i;

    for (i = 1; i <= last_number; i++) {
        ck_assert_uint_le(got(A, i), 1);
        ck_assert_uint_le(got(B, i), 1);
    }
}

/* Both were away, and their clocks went on. */
START_TEST(test_both_slept)
{
    meet(_i);
    clocks[A] += 13 * HOUR;     /* more than a sealed session lasts */
    clocks[B] += 13 * HOUR;
    assert_traffic(AGAIN);
    assert_once();
    end();
}
END_TEST

/* One was away, while the other forgot it; its own clock went on. */
static void leave_alone(int port)
{
    int64_t left;

    for (left = ALONE; left > 0; left -= 1000) {
        now = clocks[port] += 1000;
        qdes_fabric_tick(ports[port]->fabric, now);
        serve(&ports[port], 1);
    }
    ck_assert_uint_gt(C(ports[port], peers_expired), 0);
}

START_TEST(test_one_slept)
{
    meet(_i);
    leave_alone(A);
    clocks[B] += ALONE;
    assert_traffic(AGAIN);
    assert_once();
    end();
}
END_TEST

/* As CLOCK_MONOTONIC does while a Linux host sleeps: it stands still. */
START_TEST(test_one_slept_without_its_clock)
{
    meet(_i);
    leave_alone(A);
    assert_traffic(AGAIN);
    assert_once();
    end();
}
END_TEST

START_TEST(test_clock_set_back)
{
    meet(_i);
    clocks[B] -= 10 * 60 * 1000;
    assert_traffic(AGAIN);
    clocks[A] -= HOUR;
    assert_traffic(AGAIN);
    assert_once();
    end();
}
END_TEST

/* Forwards and backwards, many times. */
START_TEST(test_clock_that_is_mad)
{
    GRand *rnd = unit_rand("clock");
    int i;

    meet(_i);
    for (i = 0; i < 200; i++) {
        clocks[g_rand_int_range(rnd, 0, N_PORTS)] +=
            g_rand_int_range(rnd, -60000, 60000);
        last_number++;
        send_number(A, last_number, i % 2);
        send_number(B, last_number, i % 2);
        go_on(STEP);
    }
    /* From here on it goes as it should. */
    assert_traffic(2 * 60000 + AGAIN);
    assert_once();
    g_rand_free(rnd);
    end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("clock");
    TCase *tc = tcase_create("clock");

    tcase_add_loop_test(tc, test_both_slept, 0, 2);
    tcase_add_loop_test(tc, test_one_slept, 0, 2);
    tcase_add_loop_test(tc, test_one_slept_without_its_clock, 0, 2);
    tcase_add_loop_test(tc, test_clock_set_back, 0, 2);
    tcase_add_loop_test(tc, test_clock_that_is_mad, 0, 2);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
