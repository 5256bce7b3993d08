/* SPDX-License-Identifier: GPL-2.0-or-later */
/* candidates: when, how many, for whom; with a moved clock. */

#include "unit.h"

#include "qdes/candidates.h"
#include "qdes/control.h"

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

static bool told(QdesCandidates *c, uint32_t n, uint32_t teller, int64_t now)
{
    QdesAddr addr = addr_of(n);

    return qdes_candidates_told(c, &addr, 1, teller, now);
}

static void heard(QdesCandidates *c, uint32_t n, size_t bytes, int64_t now)
{
    QdesAddr addr = addr_of(n);

    qdes_candidates_heard(c, &addr, bytes, now);
}

static bool pay(QdesCandidates *c, uint32_t n, size_t bytes)
{
    QdesAddr addr = addr_of(n);

    return qdes_candidates_pay(c, &addr, bytes);
}

/* One that is told of: each ECHO at its time, then no more. */
START_TEST(test_times)
{
    static const int64_t want[] = { 0, 1000, 2000, 4000, 8000, 20000, 32000,
                                    44000, 56000, 68000, 80000 };
    QdesCandidates *c = qdes_candidates_new(9, 1);
    QdesAddr addr;
    unsigned i;

    G_STATIC_ASSERT(G_N_ELEMENTS(want) == QDES_CANDIDATE_TRIES);
    qdes_candidates_set_interval(c, 12000);
    ck_assert_int_eq(qdes_candidates_due(c), INT64_MAX);
    ck_assert(told(c, 1, 1, 5000));
    ck_assert_uint_eq(qdes_candidates_fresh(c), 1);
    for (i = 0; i < G_N_ELEMENTS(want); i++) {
        ck_assert_int_eq(qdes_candidates_due(c), 5000 + want[i]);
        ck_assert(!qdes_candidates_next(c, 5000 + want[i] - 1, &addr));
        ck_assert(qdes_candidates_next(c, 5000 + want[i], &addr));
        ck_assert_uint_eq(addr.ip[15], 1);
        ck_assert(!qdes_candidates_next(c, 5000 + want[i], &addr));
    }
    ck_assert_uint_eq(qdes_candidates_fresh(c), 0);
    ck_assert(!qdes_candidates_next(c, 5000 + 92000, &addr));
    ck_assert_uint_eq(qdes_candidates_size(c), 0);
    ck_assert_int_eq(qdes_candidates_due(c), INT64_MAX);
    qdes_candidates_free(c);
    qdes_candidates_free(NULL);
}
END_TEST

/* One that came by itself gets no more than it sent. */
START_TEST(test_credit)
{
    QdesCandidates *c = qdes_candidates_new(9, 1);
    QdesAddr addr;

    ck_assert(!pay(c, 1, 1));
    heard(c, 1, 95, 1000);
    ck_assert_int_eq(qdes_candidates_due(c), INT64_MAX);
    heard(c, 1, 2, 1000);
    ck_assert(qdes_candidates_next(c, 1000, &addr));
    ck_assert(!pay(c, 1, 2));
    ck_assert(pay(c, 1, 1));
    ck_assert(!qdes_candidates_next(c, 9000, &addr));
    heard(c, 1, 138, 9000);
    ck_assert(pay(c, 1, 42));
    ck_assert(qdes_candidates_next(c, 9000, &addr));
    ck_assert(!pay(c, 1, 1));
    /* Somebody vouches for it: now it is sent to in any case. */
    ck_assert(!qdes_candidates_next(c, 20000, &addr));
    ck_assert(told(c, 1, 3, 20000));
    ck_assert(qdes_candidates_next(c, 30000, &addr));
    ck_assert(!pay(c, 1, 1));
    qdes_candidates_free(c);
}
END_TEST

/* However many there are, ECHOs are spaced. */
START_TEST(test_rate)
{
    QdesCandidates *c = qdes_candidates_new(9, 1);
    unsigned i, n = 0;
    QdesAddr addr;
    int64_t now;

    for (i = 0; i < 1000; i++) {
        told(c, i, 1 + i % 9, 1000);
    }
    for (now = 1000; now < 11000; now++) {
        i = 0;
        while (qdes_candidates_next(c, now, &addr)) {
            n++;
            i++;
        }
        ck_assert_uint_le(i, QDES_CANDIDATE_BURST);
        ck_assert_int_gt(qdes_candidates_due(c), now);
    }
    ck_assert_uint_ge(n, 10 * QDES_CANDIDATE_RATE);
    ck_assert_uint_le(n, 10 * QDES_CANDIDATE_RATE + QDES_CANDIDATE_BURST);
    qdes_candidates_free(c);
}
END_TEST

/* One teller cannot push out what others tell of; nor can who was not told
 * of at all. */
START_TEST(test_fairness)
{
    QdesCandidates *c = qdes_candidates_new(9, 1);
    unsigned i, n;

    for (i = 0; i < 1000; i++) {
        ck_assert_int_eq(told(c, i, 1, 1000), i < QDES_CANDIDATES_EACH);
    }
    ck_assert_uint_eq(qdes_candidates_size(c), QDES_CANDIDATES_EACH);
    for (i = 0; i < 5000; i++) {
        heard(c, 10000 + i, 68, 1000);
    }
    ck_assert_uint_eq(qdes_candidates_size(c), 2 * QDES_CANDIDATES_EACH);
    ck_assert(!pay(c, 10000, 1));
    ck_assert(pay(c, 14999, 68));
    for (i = 0; i < 2 * QDES_CANDIDATES_EACH; i++) {
        ck_assert(told(c, 20000 + i, 2 + i % 2, 1000));
    }
    ck_assert_uint_eq(qdes_candidates_size(c), QDES_MAX_CANDIDATES);
    /* The table is full; a sixth still gets its share. */
    for (i = n = 0; i < QDES_CANDIDATES_EACH; i++) {
        n += told(c, 30000 + i, 4, 1000);
    }
    ck_assert_uint_ge(n, QDES_MAX_CANDIDATES / 5 - 1);
    ck_assert_uint_eq(qdes_candidates_size(c), QDES_MAX_CANDIDATES);
    qdes_candidates_free(c);
}
END_TEST

START_TEST(test_remembered)
{
    QdesCandidates *c = qdes_candidates_new(9, 1);
    QdesAddr addr = addr_of(1), got;
    int64_t now = 1000;
    unsigned i;

    qdes_candidates_remember(c, &addr, now);
    qdes_candidates_remember(c, &addr, now);
    for (i = 0; i < QDES_REMEMBERED_FOR_MS / QDES_REMEMBERED_MS; i++) {
        now += QDES_REMEMBERED_MS;
        ck_assert_int_eq(qdes_candidates_due(c), now);
        ck_assert(!qdes_candidates_next(c, now - 1, &got));
        ck_assert(qdes_candidates_next(c, now, &got));
        ck_assert(qdes_addr_equal(&got, &addr));
        ck_assert(!qdes_candidates_next(c, now, &got));
    }
    ck_assert_int_eq(qdes_candidates_due(c), INT64_MAX);

    /* The last ones are; but not who came back. */
    for (i = 0; i < 100; i++) {
        addr = addr_of(i);
        qdes_candidates_remember(c, &addr, now + i);
    }
    qdes_candidates_remove(c, &addr);
    now += QDES_REMEMBERED_MS + 100;
    for (i = 0; i < QDES_REMEMBERED - 1; i++) {
        now = MAX(now, qdes_candidates_due(c));
        ck_assert(qdes_candidates_next(c, now, &got));
        ck_assert_uint_ge(got.ip[15], 100 - QDES_REMEMBERED);
        ck_assert_uint_lt(got.ip[15], 99);
    }
    ck_assert_int_gt(qdes_candidates_due(c), now + QDES_REMEMBERED_MS / 2);
    qdes_candidates_free(c);
}
END_TEST

/* Long random runs: bytes out never more than in, nothing told of is lost,
 * the table agrees with a naive one. */
START_TEST(test_model)
{
    GRand *rng = unit_rand("test_candidates_model");
    QdesCandidates *c = qdes_candidates_new(4, 7);
    int64_t credit[300] = { 0 };
    bool vouched[300] = { false };
    int64_t now = 1000;
    QdesAddr addr;
    uint32_t n;
    size_t bytes;
    int step;

    for (step = 0; step < 200000; step++) {
        n = g_rand_int_range(rng, 0, 200);
        now += g_rand_int_range(rng, 0, 40);
        bytes = g_rand_int_range(rng, 1, 200);
        switch (g_rand_int_range(rng, 0, 8)) {
        case 0:
            if (!told(c, n, 1 + n % 4, now)) {
                ck_abort_msg("there is room for all");
            }
            vouched[n] = true;
            break;
        case 1:
            addr = addr_of(n);
            qdes_candidates_remove(c, &addr);
            credit[n] = 0;
            vouched[n] = false;
            break;
        case 2:
        case 3:
            heard(c, n, bytes, now);
            credit[n] += bytes;
            break;
        case 4:
            if (pay(c, n, bytes)) {
                credit[n] -= bytes;
                ck_assert_int_ge(credit[n], 0);
            }
            break;
        default:
            ck_assert(qdes_candidates_due(c) > now ||
                      qdes_candidates_size(c) > 0);
            if (qdes_candidates_next(c, now, &addr)) {
                n = addr.ip[14] << 8 | addr.ip[15];
                if (!vouched[n]) {
                    credit[n] -= QDES_ECHO_SIZE;
                    ck_assert_int_ge(credit[n], 0);
                }
            }
        }
        ck_assert_uint_le(qdes_candidates_size(c), 200);
    }
    for (n = 0; n < 200; n++) {
        addr = addr_of(n);
        qdes_candidates_remove(c, &addr);
    }
    ck_assert_uint_eq(qdes_candidates_size(c), 0);
    ck_assert_int_eq(qdes_candidates_due(c), INT64_MAX);
    qdes_candidates_free(c);
    g_rand_free(rng);
}
END_TEST

/* How many ECHOs go out in a second to such as came and paid. */
static unsigned in_a_second(QdesCandidates *c, unsigned n, bool prove)
{
    unsigned sent = 0, i;
    int64_t now;
    QdesAddr addr;

    for (i = 0; i < n; i++) {
        addr = addr_of(i);
        qdes_candidates_heard(c, &addr, QDES_ECHO_SIZE, 1000);
    }
    for (now = 1000; now < 2000; now++) {
        while (qdes_candidates_next(c, now, &addr)) {
            sent++;
            if (prove) {
                qdes_candidates_remove(c, &addr);
                qdes_candidates_reward(c);
            }
        }
        if (qdes_candidates_due(c) <= now) {
            return 0;           /* it would be called again and again */
        }
    }
    return sent;
}

/* Those that answer are no reason for others to wait. */
START_TEST(test_rewards)
{
    const unsigned most = QDES_CANDIDATES_EACH;
    QdesCandidates *c = qdes_candidates_new(10, 1);
    unsigned sent = in_a_second(c, most, false);

    ck_assert_uint_ge(sent, QDES_CANDIDATE_RATE);
    ck_assert_uint_le(sent, QDES_CANDIDATE_RATE + QDES_CANDIDATE_BURST);
    qdes_candidates_free(c);
    c = qdes_candidates_new(10, 1);
    sent = in_a_second(c, most, true);
    ck_assert_uint_ge(sent, QDES_CANDIDATE_SELF_RATE);
    ck_assert_uint_le(sent, QDES_CANDIDATE_RATE + QDES_CANDIDATE_SELF_RATE +
                            2 * QDES_CANDIDATE_BURST);
    qdes_candidates_free(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("candidates");
    TCase *tc = tcase_create("candidates");

    tcase_add_test(tc, test_times);
    tcase_add_test(tc, test_credit);
    tcase_add_test(tc, test_rate);
    tcase_add_test(tc, test_fairness);
    tcase_add_test(tc, test_remembered);
    tcase_add_test(tc, test_model);
    tcase_add_test(tc, test_rewards);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
