/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stats: the table of counters, and its two sums. */

#include "unit.h"

#include "qdes/stats.h"

START_TEST(test_names)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    const char *name;
    const char *p;
    int i;

    for (i = 0; i < QDES_COUNTER__MAX; i++) {
        name = qdes_counter_name(i);
        ck_assert_msg(g_hash_table_add(seen, (void *)name), "%s twice", name);
        for (p = name; *p; p++) {
            ck_assert_msg(g_ascii_islower(*p) || *p == '-', "%s", name);
        }
        ck_assert_uint_gt(strlen(qdes_counter_help(i)), 5);
    }
    ck_assert_str_eq(qdes_counter_name(QDES_COUNTER_rx_drop_frame_short),
                     "rx-drop-frame-short");
}
END_TEST

/* Each counter that is part of a sum upsets it alone. */
START_TEST(test_balance)
{
    QdesStats stats = { { 0 } };
    int i;

    ck_assert(qdes_stats_balanced(&stats));
    for (i = 0; i < QDES_COUNTER__MAX; i++) {
        stats.value[i] = 1;
        ck_assert_int_eq(qdes_stats_balanced(&stats),
                         qdes_counter_group(i) == QDES_COUNTER_GROUP_NOTE);
        stats.value[i] = 0;
    }
    QDES_COUNT_ADD(&stats, tx_frames, 3);
    QDES_COUNT_ADD(&stats, tx_flooded, 2);
    QDES_COUNT(&stats, tx_drop_short);
    QDES_COUNT(&stats, rx_datagrams);
    QDES_COUNT(&stats, rx_drop_own);
    ck_assert(qdes_stats_balanced(&stats));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stats");
    TCase *tc = tcase_create("stats");

    tcase_add_test(tc, test_names);
    tcase_add_test(tc, test_balance);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
