/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nonce: only from there, only for a while. */

#include "unit.h"

#include "qdes/nonce.h"

static const uint64_t key[2] = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 };

static QdesAddr parse(const char *text)
{
    QdesAddr addr;

    ck_assert(qdes_addr_parse(&addr, text, 1, NULL));
    return addr;
}

/* As Python's hmac and hashlib have it. */
START_TEST(test_known)
{
    QdesAddr addr = parse("192.0.2.1:5000");

    ck_assert_uint_eq(qdes_nonce_make(key, &addr, INT64_C(12345678900)),
                      UINT64_C(0x86d3c3a1a9bcd15));
}
END_TEST

START_TEST(test_age)
{
    QdesAddr addr = parse("192.0.2.1:5000");
    GRand *rng = unit_rand("test_age");
    int64_t sent, later, age;
    uint64_t nonce;
    int i;

    for (i = 0; i < 10000; i++) {
        sent = 1 + ((int64_t)g_rand_int(rng) << 12);
        later = g_rand_int_range(rng, 0, 70000000);
        nonce = qdes_nonce_make(key, &addr, sent);
        ck_assert_int_eq(qdes_nonce_check(key, &addr, sent + later, nonce,
                                          &age),
                         sent / 100 + QDES_NONCE_MS * 10 >=
                         (sent + later) / 100);
        if (later <= QDES_NONCE_MS * 1000) {
            ck_assert_int_ge(age, later - 100);
            ck_assert_int_le(age, later + 100);
        }
        /* Not before it was sent. */
        ck_assert(!qdes_nonce_check(key, &addr, sent - 200, nonce, &age));
    }
    g_rand_free(rng);
}
END_TEST

START_TEST(test_others)
{
    QdesAddr addr = parse("192.0.2.1:5000");
    QdesAddr others[] = { parse("192.0.2.1:5001"), parse("192.0.2.2:5000"),
                          parse("[fe80::1]:5000"), addr };
    const uint64_t other_key[2] = { key[0], key[1] ^ 1 };
    uint64_t nonce = qdes_nonce_make(key, &addr, 1000000);
    int64_t age;
    unsigned i;

    others[3].scope = 7;
    for (i = 0; i < G_N_ELEMENTS(others); i++) {
        ck_assert(!qdes_nonce_check(key, &others[i], 1000000, nonce, &age));
    }
    ck_assert(!qdes_nonce_check(other_key, &addr, 1000000, nonce, &age));
    for (i = 0; i < 64; i++) {
        ck_assert(!qdes_nonce_check(key, &addr, 1000000,
                                    nonce ^ UINT64_C(1) << i, &age));
    }
    ck_assert(qdes_nonce_check(key, &addr, 1000000, nonce, &age));
    ck_assert_int_eq(age, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nonce");
    TCase *tc = tcase_create("nonce");

    tcase_add_test(tc, test_known);
    tcase_add_test(tc, test_age);
    tcase_add_test(tc, test_others);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
