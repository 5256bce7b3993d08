/* SPDX-License-Identifier: GPL-2.0-or-later */
/* probe: the layout, and what is refused; and SipHash as published. */

#include "unit.h"

#include "qdes/probe.h"
#include "qdes/siphash.h"

/* The paper's key; messages 00 01 02 ... of whole words. */
START_TEST(test_siphash)
{
    static const uint64_t key[2] = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 };
    static const uint64_t words[] = { 0x0706050403020100 };

    ck_assert_uint_eq(qdes_siphash(key, NULL, 0), 0x726fdb47dd0e0e31);
    ck_assert_uint_eq(qdes_siphash(key, words, 1), 0x93f5f5799a932462);
}
END_TEST

START_TEST(test_layout)
{
    static const uint8_t start[] = { 0x03, 'Q', 'D', 'E', 'S', 0x01 };
    static const uint8_t rest[] = {
        0x88, 0xb6, 'Q', 'D', 'L', 'P', 1, 1, 0, 0, 0, 42,
        1, 2, 3, 4, 5, 6, 7, 8,
    };
    QdesProbe probe = { .netid = 42, .asks = true,
                        .nonce = 0x0102030405060708ULL };
    uint8_t data[QDES_PROBE_SIZE], other[QDES_PROBE_SIZE];
    QdesProbe got;

    qdes_probe_encode(data, &probe, 77);
    ck_assert(memcmp(data, start, sizeof(start)) == 0);
    ck_assert(memcmp(data + 12, rest, sizeof(rest)) == 0);
    /* A card of nobody's: local, of one sender, and the same each time. */
    ck_assert_int_eq(data[6] & 3, 2);
    probe.nonce++;
    qdes_probe_encode(other, &probe, 77);
    ck_assert(memcmp(data + 6, other + 6, 6) == 0);
    qdes_probe_encode(other, &probe, 78);
    ck_assert(memcmp(data + 6, other + 6, 6) != 0);

    ck_assert(qdes_probe_decode(&got, data, sizeof(data)));
    ck_assert_uint_eq(got.netid, 42);
    ck_assert(got.asks);
    ck_assert(qdes_probe_is_of(&got, 77));
    ck_assert(!qdes_probe_is_of(&got, 78));
}
END_TEST

/* No byte of it can be changed, but its padding and its sender's address. */
START_TEST(test_forgery)
{
    QdesProbe probe = { .netid = 42, .nonce = 5 };
    uint8_t data[QDES_PROBE_SIZE];
    QdesProbe got;
    size_t i;
    int bit;

    qdes_probe_encode(data, &probe, 77);
    for (i = 0; i < 40; i++) {
        for (bit = 0; bit < 8; bit++) {
            bool free = (i >= 6 && i < 12) || (i == 19 && bit > 0);

            data[i] ^= 1 << bit;
            ck_assert_int_eq(qdes_probe_decode(&got, data, sizeof(data)) &&
                             qdes_probe_is_of(&got, 77), free);
            data[i] ^= 1 << bit;
        }
    }
    for (i = 0; i < 40; i++) {
        ck_assert(!qdes_probe_decode(&got, data, i));
    }
    ck_assert(qdes_probe_decode(&got, data, 40));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("probe");
    TCase *tc = tcase_create("probe");

    tcase_add_test(tc, test_siphash);
    tcase_add_test(tc, test_layout);
    tcase_add_test(tc, test_forgery);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
