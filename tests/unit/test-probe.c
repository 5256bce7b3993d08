/* SPDX-License-Identifier: GPL-2.0-or-later */
/* probe: the layout, and what is refused. */

#include "unit.h"

#include "qdes/probe.h"

START_TEST(test_layout)
{
    /* Mark and proof are by another library, Python's hmac. */
    static const uint8_t bytes[] = {
        0x03, 'Q', 'D', 'E', 'S', 0x01,
        0x6e, 0x8e, 0xb6, 0x87, 0x39, 0x09,
        0x88, 0xb6, 'Q', 'D', 'L', 'P', 1, 1, 0, 0, 0, 42,
        1, 2, 3, 4, 5, 6, 7, 8,
        0x88, 0xc9, 0xff, 0x16, 0x0b, 0xde, 0x5e, 0xd9,
    };
    QdesProbe probe = { .netid = 42, .asks = true,
                        .nonce = 0x0102030405060708ULL };
    uint8_t data[QDES_PROBE_SIZE], other[QDES_PROBE_SIZE];
    QdesProbe got;

    qdes_probe_encode(data, &probe, 77);
    ck_assert_mem_eq(data, bytes, sizeof(bytes));
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
    ck_assert_uint_eq(got.mark, qdes_probe_mark(77));
    ck_assert(qdes_probe_is_of(&got, 77));
    ck_assert(!qdes_probe_is_of(&got, 78));
}
END_TEST

/* No bit of it can be changed, but its padding. */
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
            data[i] ^= 1 << bit;
            ck_assert(!qdes_probe_decode(&got, data, sizeof(data)) ||
                      !qdes_probe_is_of(&got, 77));
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

    tcase_add_test(tc, test_layout);
    tcase_add_test(tc, test_forgery);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
