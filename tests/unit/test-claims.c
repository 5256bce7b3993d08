/* SPDX-License-Identifier: GPL-2.0-or-later */
/* claims: counting within the window, and the bound. */

#include "unit.h"

#include "qdes/claims.h"

START_TEST(test_window)
{
    QdesClaims claims = { 0 };
    uint8_t a[6], b[6];

    unit_mac(a, 1);
    unit_mac(b, 2);
    ck_assert_uint_eq(qdes_claims_count(&claims, a, 0), 0);
    qdes_claims_add(&claims, a, 1000);
    ck_assert_uint_eq(qdes_claims_count(&claims, a, 1000), 1);
    ck_assert_uint_eq(qdes_claims_count(&claims, b, 1000), 0);
    qdes_claims_add(&claims, a, 1000 + QDES_CLAIM_MS - 1);
    ck_assert_uint_eq(qdes_claims_count(&claims, a, 1000 + QDES_CLAIM_MS), 2);
    ck_assert_uint_eq(qdes_claims_count(&claims, a,
                                        1000 + 2 * QDES_CLAIM_MS - 1), 0);
    qdes_claims_add(&claims, a, 1000 + 3 * QDES_CLAIM_MS);
    ck_assert_uint_eq(qdes_claims_count(&claims, a,
                                        1000 + 3 * QDES_CLAIM_MS), 1);
}
END_TEST

START_TEST(test_bound)
{
    QdesClaims claims = { 0 };
    uint8_t mac[6];
    int i;

    for (i = 0; i < 3 * QDES_CLAIMS; i++) {
        qdes_claims_add(&claims, unit_mac(mac, i), i);
    }
    for (i = 0; i < 3 * QDES_CLAIMS; i++) {
        ck_assert_uint_eq(qdes_claims_count(&claims, unit_mac(mac, i), 100),
                          i >= 2 * QDES_CLAIMS);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("claims");
    TCase *tc = tcase_create("claims");

    tcase_add_test(tc, test_window);
    tcase_add_test(tc, test_bound);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
