/* SPDX-License-Identifier: GPL-2.0-or-later */
/* storm: the bucket by hand, and long random runs against a naive model. */

#include "unit.h"

#include "qdes/storm.h"

/* How many of @n frames pass at @now. */
static int offer(QdesStorm *storm, int n, int64_t now)
{
    int passed = 0;

    while (n-- > 0) {
        if (qdes_storm_allows(storm, now)) {
            qdes_storm_charge(storm, 1);
            passed++;
        }
    }
    return passed;
}

START_TEST(test_off)
{
    QdesStorm storm;

    qdes_storm_init(&storm, 0, 0);
    ck_assert_int_eq(offer(&storm, 1000, 0), 1000);
    qdes_storm_charge(&storm, UINT32_MAX);
    ck_assert(qdes_storm_allows(&storm, 0));
}
END_TEST

START_TEST(test_bucket)
{
    QdesStorm storm;

    qdes_storm_init(&storm, 10, 1000);
    ck_assert_int_eq(offer(&storm, 30, 1000), 10);
    ck_assert_int_eq(offer(&storm, 30, 1099), 0);
    ck_assert_int_eq(offer(&storm, 30, 1100), 1);
    ck_assert_int_eq(offer(&storm, 30, 1600), 5);
    /* A pause fills it once, however long. */
    ck_assert_int_eq(offer(&storm, 30, INT64_MAX / 2), 10);
}
END_TEST

/* One token is enough for many frames, which are paid for afterwards. */
START_TEST(test_debt)
{
    QdesStorm storm;

    qdes_storm_init(&storm, 10, 0);
    ck_assert_int_eq(offer(&storm, 9, 0), 9);
    ck_assert(qdes_storm_allows(&storm, 0));
    qdes_storm_charge(&storm, 45);
    ck_assert(!qdes_storm_allows(&storm, 4499));
    ck_assert(qdes_storm_allows(&storm, 4500));
}
END_TEST

START_TEST(test_clock_goes_back)
{
    QdesStorm storm;

    qdes_storm_init(&storm, 10, 5000);
    ck_assert_int_eq(offer(&storm, 20, 5000), 10);
    ck_assert_int_eq(offer(&storm, 20, 0), 0);
    ck_assert_int_eq(offer(&storm, 20, 1000), 10);
}
END_TEST

/*
 * The model counts in real numbers.  In plain C: libcheck notes each assertion
 * in a file, and these are many.
 */
START_TEST(test_model)
{
    static const uint32_t rates[] = { 1, 2, 7, 100, 999, 100000,
                                      QDES_STORM_MAX };
    GRand *rand = unit_rand("test_model");
    uint32_t rate = rates[_i];
    double tokens = rate;
    int64_t now = 0;
    bool same = true;
    QdesStorm storm;
    uint32_t cost;
    int step;

    qdes_storm_init(&storm, rate, now);
    for (step = 0; step < 200000 && same; step++) {
        int64_t elapsed = g_rand_int_range(rand, 0, 10) ? 0 :
                          g_rand_int_range(rand, 0, 3000);

        now += elapsed;
        tokens = MIN(tokens + elapsed * (double)rate / 1000, rate);
        /* Thousandths are exact on one side only. */
        same = qdes_storm_allows(&storm, now) == (tokens > 1 - 1e-6);
        if (tokens > 1 - 1e-6) {
            cost = g_rand_int_range(rand, 0, 20) ? 1 :
                   g_rand_int_range(rand, 1, 50);
            qdes_storm_charge(&storm, cost);
            tokens -= cost;
        }
    }
    ck_assert_msg(same, "step %d", step);
    g_rand_free(rand);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("storm-control");
    TCase *tc = tcase_create("storm-control");

    tcase_add_test(tc, test_off);
    tcase_add_test(tc, test_bucket);
    tcase_add_test(tc, test_debt);
    tcase_add_test(tc, test_clock_goes_back);
    tcase_add_loop_test(tc, test_model, 0, 7);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
