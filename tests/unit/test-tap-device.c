/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of TAP devices, what their errors say, and the journal's stream. */

#include "unit.h"

#include <errno.h>

#include "log.h"
#include "tap.h"

static const struct {
    const char *name;
    bool good;
} names[] = {
    { "tap0", true },
    { "a", true },
    { "tap%d", true },
    { "fifteen-chars-x", true },
    { "br_1.2-x", true },
    { "", false },
    { "sixteen-chars-xy", false },
    { ".", false },
    { "..", false },
    { "a/b", false },
    { "a:1", false },
    { "a b", false },
    { "a\tb", false },
    { "\xc3\xa4", false },
    { "tap%s", false },
    { "tap%", false },
    { "%d%d", false },
    { "%d%", false },
};

START_TEST(test_name)
{
    GError *err = NULL;
    char *start = g_strdup_printf("--tap=%s: ", names[_i].name);

    ck_assert_int_eq(tap_check_name(names[_i].name, &err), names[_i].good);
    if (!names[_i].good) {
        ck_assert(g_str_has_prefix(err->message, start));
        g_error_free(err);
    }
    g_free(start);
}
END_TEST

static const struct {
    int err;
    bool exists;
    const char *text;           /* has to be in the explanation */
} explanations[] = {
    { EPERM, false, "sudo ip tuntap add dev tap0 mode tap user $USER" },
    { EPERM, true, "another user" },
    { EBUSY, true, "in use by another program" },
    { EINVAL, true, "not a TAP device" },
    { EINVAL, false, "Invalid argument" },
    { ENOMEM, false, "Cannot allocate memory" },
};

START_TEST(test_explain)
{
    char *text = tap_explain("tap0", explanations[_i].exists,
                             explanations[_i].err);

    ck_assert(g_str_has_prefix(text, "--tap=tap0: "));
    ck_assert_msg(strstr(text, explanations[_i].text) != NULL, "%s", text);
    g_free(text);
}
END_TEST

START_TEST(test_journal_stream)
{
    struct stat st = { .st_dev = 8, .st_ino = 1234567890123 };

    ck_assert(log_is_journal("8:1234567890123", &st));
    ck_assert(!log_is_journal("8:1234567890124", &st));
    ck_assert(!log_is_journal("9:1234567890123", &st));
    ck_assert(!log_is_journal("", &st));
    ck_assert(!log_is_journal(NULL, &st));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tap-device");
    TCase *tc = tcase_create("device");

    tcase_add_loop_test(tc, test_name, 0, G_N_ELEMENTS(names));
    tcase_add_loop_test(tc, test_explain, 0, G_N_ELEMENTS(explanations));
    tcase_add_test(tc, test_journal_stream);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
