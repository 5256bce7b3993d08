/* SPDX-License-Identifier: GPL-2.0-or-later */
/* name: what comes in, and what may go to a terminal. */

#include "unit.h"

#include "qdes/name.h"

static const struct {
    const char *in, *out;
} names[] = {
    { "", "" },
    { "vm1", "vm1" },
    { "k\303\244se \360\237\247\200", "k\303\244se \360\237\247\200" },
    { "\033[2J", "?[2J" },
    { "a\tb\nc\177", "a?b?c?" },
    { "\302\205", "?" },                /* U+0085, a control character */
    { "\377\376", "??" },
    { "\303", "?" },                    /* cut in a character */
    { "\303(", "?(" },
    { "\355\240\200", "???" },          /* a surrogate is not UTF-8 */
};

START_TEST(test_clean)
{
    char name[QDES_NAME_MAX + 1];

    memset(name, 'x', sizeof(name));
    qdes_name_clean(name, names[_i].in, strlen(names[_i].in));
    ck_assert_str_eq(name, names[_i].out);
}
END_TEST

START_TEST(test_zero_and_end)
{
    char name[QDES_NAME_MAX + 1];
    char text[200];
    int i;

    qdes_name_clean(name, "a\0b", 3);
    ck_assert_str_eq(name, "a?b");

    /* Too long: cut at a whole character. */
    for (i = 0; i < 200; i += 2) {
        memcpy(text + i, "\303\244", 2);
    }
    qdes_name_clean(name, text, sizeof(text));
    ck_assert_uint_eq(strlen(name), 62);
    ck_assert(g_utf8_validate(name, -1, NULL));
}
END_TEST

/* Whatever comes in, what comes out is UTF-8 that fits. */
START_TEST(test_random)
{
    GRand *rand = unit_rand("test_name_random");
    char name[QDES_NAME_MAX + 1];
    char text[100];
    const char *p;
    int i, j, size;

    for (i = 0; i < 50000; i++) {
        size = g_rand_int_range(rand, 0, sizeof(text));
        for (j = 0; j < size; j++) {
            text[j] = g_rand_int(rand);
        }
        qdes_name_clean(name, text, size);
        ck_assert_uint_le(strlen(name), QDES_NAME_MAX);
        ck_assert(g_utf8_validate(name, -1, NULL));
        for (p = name; *p; p = g_utf8_next_char(p)) {
            ck_assert(!g_unichar_iscntrl(g_utf8_get_char(p)));
        }
    }
    g_rand_free(rand);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("name");
    TCase *tc = tcase_create("name");

    tcase_add_loop_test(tc, test_clean, 0, G_N_ELEMENTS(names));
    tcase_add_test(tc, test_zero_and_end);
    tcase_add_test(tc, test_random);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
