/* SPDX-License-Identifier: GPL-2.0-or-later */
/* guard: who blocks, when probes are due, and the bounds. */

#include "unit.h"

#include "qdes/guard.h"

static bool all(uint64_t instance, void *opaque)
{
    return instance && !opaque;
}

/* All but the one that @opaque points to. */
static bool others(uint64_t instance, void *opaque)
{
    return instance != *(uint64_t *)opaque;
}

/* Of any number of ports on one LAN, all but one block, on the lowest. */
START_TEST(test_one_is_left)
{
    GRand *rand = unit_rand("test_one_is_left");
    int n = 2 + _i, i, j, open = 0;
    uint64_t instances[40];
    QdesGuard guard;
    uint64_t found, lowest = UINT64_MAX;

    for (i = 0; i < n; i++) {
        instances[i] = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand) | 1;
        lowest = MIN(lowest, instances[i]);
    }
    for (i = 0; i < n; i++) {
        memset(&guard, 0, sizeof(guard));
        for (j = 0; j < n; j++) {
            if (j != i) {
                qdes_guard_hear(&guard, instances[j], 5);
            }
        }
        found = qdes_guard_find(&guard, instances[i], 6, all, NULL);
        open += !found;
        ck_assert(found == (instances[i] == lowest ? 0 : lowest));
    }
    ck_assert_int_eq(open, 1);
    g_rand_free(rand);
}
END_TEST

START_TEST(test_out_of_date)
{
    QdesGuard guard = { { { 0 } } };
    uint64_t gone = 3;

    ck_assert(qdes_guard_hear(&guard, 3, 0));
    ck_assert(qdes_guard_hear(&guard, 5, 10));
    ck_assert(!qdes_guard_hear(&guard, 3, 0));
    ck_assert_uint_eq(qdes_guard_find(&guard, 9, 10, all, NULL), 3);
    ck_assert_uint_eq(qdes_guard_find(&guard, 9, 10, others, &gone), 5);
    ck_assert_uint_eq(qdes_guard_find(&guard, 9, QDES_GUARD_HOLD_MS, all,
                                      NULL), 5);
    ck_assert_uint_eq(qdes_guard_find(&guard, 9, QDES_GUARD_HOLD_MS + 10, all,
                                      NULL), 0);
    qdes_guard_hear(&guard, 3, QDES_GUARD_HOLD_MS + 10);
    ck_assert_uint_eq(qdes_guard_find(&guard, 9, QDES_GUARD_HOLD_MS + 10, all,
                                      NULL), 3);
    qdes_guard_forget(&guard);
    ck_assert_uint_eq(qdes_guard_find(&guard, 9, QDES_GUARD_HOLD_MS + 10, all,
                                      NULL), 0);
}
END_TEST

/* More than there is room for: higher ones cannot push out the lowest, those
 * that are out of date make room first. */
START_TEST(test_bound)
{
    QdesGuard guard = { { { 0 } } };
    int i;

    qdes_guard_hear(&guard, 2, 0);
    for (i = 0; i < 1000; i++) {
        qdes_guard_hear(&guard, 100 + i * 7 % 1000, 0);
    }
    ck_assert_uint_eq(qdes_guard_find(&guard, 99, 0, all, NULL), 2);
    qdes_guard_hear(&guard, 1, 0);
    ck_assert_uint_eq(qdes_guard_find(&guard, 99, 0, all, NULL), 1);
    qdes_guard_hear(&guard, 5000, QDES_GUARD_HOLD_MS);
    ck_assert_uint_eq(qdes_guard_find(&guard, 6000, QDES_GUARD_HOLD_MS, all,
                                      NULL), 5000);
}
END_TEST

START_TEST(test_when)
{
    QdesGuard guard = { { { 0 } } };
    int64_t last = 1000;
    int64_t next;
    int i;

    /* At once, then ever more rarely, up to the interval. */
    ck_assert_int_eq(qdes_guard_suspect(&guard, 1000), 1000);
    for (i = QDES_GUARD_FIRST_MS; i < QDES_GUARD_MS; i *= 2) {
        ck_assert(guard.asks);
        next = qdes_guard_sent(&guard, last);
        ck_assert_int_eq(next - last, i);
        last = next;
    }
    qdes_guard_sent(&guard, last);
    ck_assert(!guard.asks);
    ck_assert_int_eq(guard.next - last, QDES_GUARD_MS);

    /* An answer is due at once, but does not ask in its turn. */
    last += 5;
    ck_assert_int_eq(qdes_guard_answer(&guard, last),
                     last - 5 + QDES_GUARD_MIN_MS);
    last += 5000;
    ck_assert_int_eq(qdes_guard_answer(&guard, last),
                     last - 5005 + QDES_GUARD_MIN_MS);
    qdes_guard_sent(&guard, last);
    ck_assert(!guard.asks);
    /* Whatever asks, and however often. */
    for (i = 0; i < 1000; i++) {
        ck_assert_int_ge(qdes_guard_answer(&guard, last + i / 100),
                         last + QDES_GUARD_MIN_MS);
        ck_assert_int_eq(qdes_guard_suspect(&guard, last + i / 100),
                         last + QDES_GUARD_MIN_MS);
    }
    ck_assert(guard.asks);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("guard");
    TCase *tc = tcase_create("guard");

    tcase_add_loop_test(tc, test_one_is_left, 0, QDES_GUARD_HEARD);
    tcase_add_test(tc, test_out_of_date);
    tcase_add_test(tc, test_bound);
    tcase_add_test(tc, test_when);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
