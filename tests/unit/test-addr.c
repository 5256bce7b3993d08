/* SPDX-License-Identifier: GPL-2.0-or-later */
/* addr: parsing, printing, comparing, and the kernel's form. */

#include "unit.h"

#include <netinet/in.h>

#include "qdes/addr.h"

static const struct {
    const char *text, *out;
    bool v4, multicast, any, loopback;
} good[] = {
    { "239.1.1.1", "239.1.1.1:7", true, true, false, false },
    { "239.1.1.1:20804", "239.1.1.1:20804", true, true, false, false },
    { "0.0.0.0:1", "0.0.0.0:1", true, false, true, false },
    { "127.0.0.1:65535", "127.0.0.1:65535", true, false, false, true },
    { "ff15::5144", "[ff15::5144]:7", false, true, false, false },
    { "[ff15::5144]", "[ff15::5144]:7", false, true, false, false },
    { "[ff15::5144]:20804", "[ff15::5144]:20804", false, true, false, false },
    { "::", "[::]:7", false, false, true, false },
    { "[::1]:9", "[::1]:9", false, false, false, true },
    { "[fe80::1%lo]:9", "[fe80::1%lo]:9", false, false, false, false },
    { "::ffff:10.0.0.1", "10.0.0.1:7", true, false, false, false },
};

START_TEST(test_good)
{
    char buf[QDES_ADDR_STRLEN];
    QdesAddr addr, again;
    GError *err = NULL;

    ck_assert_msg(qdes_addr_parse(&addr, good[_i].text, 7, &err), "%s: %s",
                  good[_i].text, err ? err->message : "");
    ck_assert_str_eq(qdes_addr_format(&addr, buf), good[_i].out);
    ck_assert_int_eq(qdes_addr_is_v4(&addr), good[_i].v4);
    ck_assert_int_eq(qdes_addr_is_multicast(&addr), good[_i].multicast);
    ck_assert_int_eq(qdes_addr_is_any(&addr), good[_i].any);
    ck_assert_int_eq(qdes_addr_is_loopback(&addr), good[_i].loopback);
    ck_assert(qdes_addr_parse(&again, buf, 0, NULL));
    ck_assert(qdes_addr_equal(&addr, &again));
}
END_TEST

/* What is wrong, and the word of the message that tells. */
static const char *const bad[][2] = {
    { "", "not an IP address" },
    { "localhost", "not an IP address" },
    { "1.2.3", "not an IP address" },
    { "1.2.3.4.5", "not an IP address" },
    { "1.2.3.4:", "not a UDP port" },
    { "1.2.3.4:0", "1 to 65535" },
    { "1.2.3.4:65536", "1 to 65535" },
    { "1.2.3.4:-1", "1 to 65535" },
    { "1.2.3.4:+1", "1 to 65535" },
    { "1.2.3.4: 1", "1 to 65535" },
    { "1.2.3.4:80x", "1 to 65535" },
    { "[::1]:0", "1 to 65535" },
    { "[::1", "closing bracket" },
    { "[::1]x", "closing bracket" },
    { "[]:1", "not an IP address" },
    { "[1.2.3.4]x:1", "closing bracket" },
    { ":::1", "not an IP address" },
    { "fe80::1%nosuchif", "no interface 'nosuchif'" },
    { "2001:db8::1%lo", "not link-local" },
    { "1.2.3.4%lo", "not an IP address" },
};

START_TEST(test_bad)
{
    GError *err = NULL;
    QdesAddr addr;

    ck_assert_msg(!qdes_addr_parse(&addr, bad[_i][0], 7, &err), "%s",
                  bad[_i][0]);
    ck_assert_msg(strstr(err->message, bad[_i][1]), "%s: %s", bad[_i][0],
                  err->message);
    g_error_free(err);
}
END_TEST

START_TEST(test_sockaddr)
{
    struct sockaddr_storage ss;
    struct sockaddr_in6 mapped = {
        .sin6_family = AF_INET6,
        .sin6_port = htons(20804),
    };
    struct sockaddr unix_addr = { .sa_family = AF_UNIX };
    QdesAddr addr, again;
    int i;

    for (i = 0; i < (int)G_N_ELEMENTS(good); i++) {
        ck_assert(qdes_addr_parse(&addr, good[i].text, 7, NULL));
        ck_assert_uint_eq(qdes_addr_to_sockaddr(&addr, &ss),
                          good[i].v4 ? sizeof(struct sockaddr_in)
                                     : sizeof(struct sockaddr_in6));
        ck_assert_int_eq(ss.ss_family, good[i].v4 ? AF_INET : AF_INET6);
        ck_assert(qdes_addr_from_sockaddr(&again, (struct sockaddr *)&ss));
        ck_assert(qdes_addr_equal(&addr, &again));
    }

    /* The same endpoint, told by the other family. */
    ck_assert(qdes_addr_parse(&addr, "10.1.2.3:20804", 0, NULL));
    memcpy(&mapped.sin6_addr, addr.ip, 16);
    ck_assert(qdes_addr_from_sockaddr(&again, (struct sockaddr *)&mapped));
    ck_assert(qdes_addr_equal(&addr, &again));

    /* A scope that the kernel gives to a global address means nothing. */
    ck_assert(qdes_addr_parse(&addr, "[2001:db8::1]:1", 0, NULL));
    qdes_addr_to_sockaddr(&addr, &ss);
    ((struct sockaddr_in6 *)&ss)->sin6_scope_id = 3;
    ck_assert(qdes_addr_from_sockaddr(&again, (struct sockaddr *)&ss));
    ck_assert(qdes_addr_equal(&addr, &again));

    ck_assert(!qdes_addr_from_sockaddr(&addr, &unix_addr));
}
END_TEST

START_TEST(test_compare)
{
    QdesAddr a, b;

    ck_assert(qdes_addr_parse(&a, "10.0.0.1:1", 0, NULL));
    ck_assert(qdes_addr_parse(&b, "10.0.0.1:2", 0, NULL));
    ck_assert(!qdes_addr_equal(&a, &b));
    ck_assert(qdes_addr_same_host(&a, &b));
    ck_assert_uint_ne(qdes_addr_hash(&a, 1), qdes_addr_hash(&b, 1));
    ck_assert_uint_ne(qdes_addr_hash(&a, 1), qdes_addr_hash(&a, 2));
    ck_assert_uint_eq(qdes_addr_hash(&a, 1), qdes_addr_hash(&a, 1));
    b = a;
    b.scope = 1;
    ck_assert(!qdes_addr_equal(&a, &b));
    ck_assert(!qdes_addr_same_host(&a, &b));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("addr");
    TCase *tc = tcase_create("addr");

    tcase_add_loop_test(tc, test_good, 0, G_N_ELEMENTS(good));
    tcase_add_loop_test(tc, test_bad, 0, G_N_ELEMENTS(bad));
    tcase_add_test(tc, test_sockaddr);
    tcase_add_test(tc, test_compare);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
