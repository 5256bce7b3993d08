/* SPDX-License-Identifier: GPL-2.0-or-later */
/* relay and detour: who gets whose frames, and who asks whom for that. */

#include "unit.h"

#include "qdes/detour.h"
#include "qdes/relay.h"
#include "qdes/wire.h"

#define ASKERS 40
#define INSTANCES 30

/* Who wants the frames of @instance, a bit for each; nobody comes twice. */
static uint64_t wanted_by(const QdesRelay *relay, uint64_t instance,
                          int64_t now)
{
    uint64_t askers = 0;
    uint32_t asker, at = 0;

    while ((asker = qdes_relay_next(relay, instance, &at, now)) !=
           QDES_RELAY_NOBODY) {
        ck_assert_uint_le(asker, ASKERS);
        ck_assert_msg(!(askers >> asker & 1), "%u twice", asker);
        askers |= (uint64_t)1 << asker;
    }
    return askers;
}

START_TEST(test_asking)
{
    QdesRelay *relay = qdes_relay_new(ASKERS, 7);
    uint64_t list[] = { 5, 6, 0, 5 };
    uint32_t changes;

    ck_assert_uint_eq(wanted_by(relay, 5, 0), 0);
    ck_assert_uint_eq(qdes_relay_ask(relay, 1, list, 4, 100, 0), 0);
    ck_assert_uint_eq(qdes_relay_size(relay), 2);   /* 0 is nobody */
    ck_assert_uint_eq(wanted_by(relay, 0, 0), 0);
    ck_assert_uint_eq(qdes_relay_ask(relay, 2, list, 1, 200, 0), 0);
    ck_assert_uint_eq(wanted_by(relay, 5, 0), 1 << 1 | 1 << 2);
    ck_assert_uint_eq(wanted_by(relay, 6, 99), 1 << 1);
    /* A list ends by itself, */
    ck_assert_uint_eq(wanted_by(relay, 5, 100), 1 << 2);
    /* gives way to the next, */
    changes = qdes_relay_changes(relay);
    ck_assert_uint_eq(qdes_relay_ask(relay, 2, list + 1, 1, 300, 0), 0);
    ck_assert_uint_ne(qdes_relay_changes(relay), changes);
    ck_assert_uint_eq(wanted_by(relay, 5, 150), 0);
    ck_assert_uint_eq(wanted_by(relay, 6, 150), 1 << 2);
    /* and goes with its asker. */
    qdes_relay_forget(relay, 2);
    qdes_relay_forget(relay, 3);
    ck_assert_uint_eq(wanted_by(relay, 6, 50), 1 << 1);
    qdes_relay_free(relay);
}
END_TEST

/* The table is full: nobody loses a place but who is out of date. */
START_TEST(test_full)
{
    enum { FULL = QDES_RELAY_PAIRS / QDES_WIRE_RELAY_MAX };
    QdesRelay *relay = qdes_relay_new(FULL + 1, 7);
    uint64_t list[QDES_WIRE_RELAY_MAX];
    uint32_t asker, at = 0;
    unsigned i;

    for (asker = 1; asker <= FULL; asker++) {
        for (i = 0; i < QDES_WIRE_RELAY_MAX; i++) {
            list[i] = 1000 * asker + i;
        }
        ck_assert_uint_eq(qdes_relay_ask(relay, asker, list,
                                         QDES_WIRE_RELAY_MAX, 1000 + asker,
                                         0), 0);
    }
    ck_assert_uint_eq(qdes_relay_size(relay), QDES_RELAY_PAIRS);
    list[0] = 1;
    ck_assert_uint_eq(qdes_relay_ask(relay, FULL + 1, list, 2, 5000, 1000),
                      2);
    ck_assert_uint_eq(qdes_relay_ask(relay, FULL + 1, list, 2, 5000, 1001),
                      0);
    ck_assert_uint_eq(qdes_relay_size(relay),
                      QDES_RELAY_PAIRS - QDES_WIRE_RELAY_MAX + 2);
    ck_assert_uint_eq(qdes_relay_next(relay, 1, &at, 1001), FULL + 1);
    at = 0;
    ck_assert_uint_eq(qdes_relay_next(relay, 2000, &at, 1001), 2);
    qdes_relay_free(relay);
}
END_TEST

/* Against sets of bits. */
START_TEST(test_random_lists)
{
    QdesRelay *relay = qdes_relay_new(ASKERS, 7);
    GRand *rng = unit_rand("test_random_lists");
    uint64_t list[QDES_WIRE_RELAY_MAX];
    uint32_t wants[ASKERS + 1] = { 0 };
    int64_t until[ASKERS + 1] = { 0 };
    uint64_t want;
    int64_t now;
    unsigned i, j, n, asker;

    for (now = 0; now < 5000; now++) {
        asker = g_rand_int_range(rng, 1, ASKERS + 1);
        wants[asker] = 0;
        n = g_rand_int_range(rng, 0, 20);
        for (i = 0; i < n; i++) {
            list[i] = g_rand_int_range(rng, 0, INSTANCES);
            wants[asker] |= list[i] ? 1u << list[i] : 0;
        }
        until[asker] = now + g_rand_int_range(rng, 0, 100);
        if (n == 0 && g_rand_boolean(rng)) {
            qdes_relay_forget(relay, asker);
        } else {
            qdes_relay_ask(relay, asker, list, n, until[asker], now);
        }
        for (i = 0; i < INSTANCES; i++) {
            want = 0;
            for (j = 1; j <= ASKERS; j++) {
                if (wants[j] >> i & 1 && until[j] > now) {
                    want |= (uint64_t)1 << j;
                }
            }
            ck_assert_uint_eq(wanted_by(relay, i, now), want);
        }
    }
    g_rand_free(rng);
    qdes_relay_free(relay);
}
END_TEST

/* The two ends choose the same, and pairs share the work. */
START_TEST(test_score)
{
    enum { RELAYS = 8, PAIRS = 4000 };
    GRand *rng = unit_rand("test_score");
    unsigned chosen[RELAYS] = { 0 };
    uint64_t relays[RELAYS];
    uint64_t a, b;
    unsigned i, j, best;

    /* docs/protocol.md has it, as tests/functional/test_protocol.py checks. */
    ck_assert_uint_eq(qdes_detour_score(1, 2, 3), 0x088edae5);
    for (i = 0; i < RELAYS; i++) {
        relays[i] = (uint64_t)g_rand_int(rng) << 32 | g_rand_int(rng);
    }
    for (i = 0; i < PAIRS; i++) {
        a = (uint64_t)g_rand_int(rng) << 32 | g_rand_int(rng);
        b = (uint64_t)g_rand_int(rng) << 32 | g_rand_int(rng);
        best = 0;
        for (j = 0; j < RELAYS; j++) {
            ck_assert_uint_eq(qdes_detour_score(a, b, relays[j]),
                              qdes_detour_score(b, a, relays[j]));
            if (qdes_detour_score(a, b, relays[j]) >
                qdes_detour_score(a, b, relays[best])) {
                best = j;
            }
        }
        chosen[best]++;
    }
    for (j = 0; j < RELAYS; j++) {
        ck_assert_uint_ge(chosen[j], PAIRS / RELAYS / 2);
        ck_assert_uint_le(chosen[j], PAIRS / RELAYS * 2);
    }
    g_rand_free(rng);
}
END_TEST

START_TEST(test_detours)
{
    QdesDetours d = { 0 };
    QdesAddr addr = { .port = 1 };
    QdesAddr other = { .port = 2 };
    uint64_t better = 11, worse = 12;
    uint64_t list[2];
    uint64_t i;

    if (qdes_detour_score(1, 5, worse) > qdes_detour_score(1, 5, better)) {
        better = 12;
        worse = 11;
    }
    ck_assert_uint_eq(qdes_detours_told(&d, 1, 5, &addr, better), 0);
    ck_assert_ptr_null(qdes_detours_find(&d, 5));
    ck_assert(qdes_detours_miss(&d, 5, &addr));
    ck_assert(!qdes_detours_miss(&d, 5, &addr));
    d.round = 3;
    /* Somebody who does not relay tells of it; then the worse, the better. */
    qdes_detours_told(&d, 1, 5, &other, 0);
    ck_assert_uint_eq(d.all[0].told, 3);
    ck_assert_uint_eq(d.all[0].addr.port, 2);
    ck_assert_uint_eq(d.all[0].relay, 0);
    ck_assert_uint_eq(qdes_detours_told(&d, 1, 5, &addr, worse), 0);
    ck_assert_uint_eq(d.all[0].relay, worse);
    ck_assert_uint_eq(qdes_detours_told(&d, 1, 5, &addr, better), worse);
    ck_assert_uint_eq(d.all[0].relay, better);
    d.round = 4;
    ck_assert_uint_eq(qdes_detours_told(&d, 1, 5, &addr, worse), better);
    ck_assert_uint_eq(d.all[0].relay, better);
    ck_assert_uint_eq(d.all[0].vouched, 3);
    qdes_detours_told(&d, 1, 5, &addr, better);
    ck_assert_uint_eq(d.all[0].vouched, 4);
    ck_assert_uint_eq(qdes_detours_list(&d, better, list, 2), 1);
    ck_assert_uint_eq(list[0], 5);
    ck_assert_uint_eq(qdes_detours_list(&d, worse, list, 2), 0);

    for (i = 100; d.n < QDES_DETOURS_MAX; i++) {
        ck_assert(qdes_detours_miss(&d, i, &addr));
        qdes_detours_told(&d, 1, i, &addr, better);
    }
    ck_assert(!qdes_detours_miss(&d, i, &addr));
    ck_assert_uint_eq(qdes_detours_list(&d, better, list, 2), 2);
    qdes_detours_remove(&d, qdes_detours_find(&d, 5));
    ck_assert_ptr_null(qdes_detours_find(&d, 5));
    ck_assert_ptr_nonnull(qdes_detours_find(&d, i - 1));
    ck_assert(qdes_detours_miss(&d, i, &addr));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("relay");
    TCase *tc = tcase_create("relay");

    tcase_add_test(tc, test_asking);
    tcase_add_test(tc, test_full);
    tcase_add_test(tc, test_random_lists);
    tcase_add_test(tc, test_score);
    tcase_add_test(tc, test_detours);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
