/* SPDX-License-Identifier: GPL-2.0-or-later */
/* csum: against the definition, at any alignment, in any parts. */

#include "unit.h"

#include "qdes/csum.h"

/* RFC 1071, 1: the ones' complement sum, word by word. */
static uint16_t naive_sum(uint32_t sum, const uint8_t *data, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++) {
        sum += i % 2 ? data[i] : data[i] << 8;
        if (sum > 0xffff) {
            sum -= 0xffff;
        }
    }
    return sum;
}

/* The numbers in RFC 1071, 3. */
START_TEST(test_rfc1071)
{
    static const uint8_t data[] = { 0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7 };

    ck_assert_uint_eq(qdes_csum_fold(qdes_csum_add(0, data, 8)), 0xddf2);
    ck_assert_uint_eq(qdes_csum_fold(qdes_csum_add(0, data, 3)), 0xf201);
    ck_assert_uint_eq(qdes_csum_fold(qdes_csum_add(0, data, 0)), 0);
    ck_assert_uint_eq(qdes_csum_fold(qdes_csum_add(0, NULL, 0)), 0);
}
END_TEST

/* Only nothing at all sums to 0: 0xffff is the other zero. */
START_TEST(test_fold)
{
    ck_assert_uint_eq(qdes_csum_fold(0), 0);
    ck_assert_uint_eq(qdes_csum_fold(0xffff), 0xffff);
    ck_assert_uint_eq(qdes_csum_fold(0x10000), 1);
    ck_assert_uint_eq(qdes_csum_fold(0x1fffe), 0xffff);
    ck_assert_uint_eq(qdes_csum_fold(UINT64_MAX), 0xffff);
    ck_assert_uint_eq(qdes_csum_fold(UINT64_MAX - 1), 0xfffe);
    ck_assert_uint_eq(qdes_csum_fold((uint64_t)1 << 32), 1);
}
END_TEST

/* All sizes up to some cache lines, all alignments. */
START_TEST(test_sizes)
{
    GRand *rand = unit_rand("csum sizes");
    uint8_t data[208];
    size_t align, i, size;

    for (i = 0; i < sizeof(data); i++) {
        data[i] = g_rand_int(rand);
    }
    for (align = 0; align < 8; align++) {
        for (size = 0; size <= 200; size++) {
            ck_assert_uint_eq(
                qdes_csum_fold(qdes_csum_add(0, data + align, size)),
                naive_sum(0, data + align, size));
        }
    }
    g_rand_free(rand);
}
END_TEST

START_TEST(test_ones)
{
    size_t size = 1 << 20;
    uint8_t *data = g_malloc(size);

    memset(data, 0xff, size);
    ck_assert_uint_eq(qdes_csum_fold(qdes_csum_add(0, data, size)), 0xffff);
    ck_assert_uint_eq(qdes_csum_fold(qdes_csum_add(1, data, size)), 1);
    ck_assert_uint_eq(qdes_csum_fold(qdes_csum_add(0, data, size - 1)), 0xff00);
    g_free(data);
}
END_TEST

START_TEST(test_parts)
{
    GRand *rand = unit_rand("csum parts");
    g_autofree uint8_t *data = g_malloc(70000);
    size_t at, i, part, size;
    uint32_t start;
    uint64_t sum;
    int round;

    for (round = 0; round < 500; round++) {
        size = g_rand_int_range(rand, 0, round % 10 ? 3000 : 70000);
        start = g_rand_int(rand) & 0xffff;
        for (i = 0; i < size; i++) {
            data[i] = g_rand_int(rand);
        }
        sum = start;
        for (at = 0; at < size; at += part) {
            part = 2 * g_rand_int_range(rand, 0, 1 + size / 4);
            part = part > size - at || !part ? size - at : part;
            sum = qdes_csum_add(sum, data + at, part);
        }
        ck_assert_uint_eq(qdes_csum_fold(sum), naive_sum(start, data, size));
    }
    g_rand_free(rand);
}
END_TEST

/* RFC 1624, 4, and what a whole new sum gives. */
START_TEST(test_update)
{
    GRand *rand = unit_rand("csum update");
    uint8_t data[20];
    uint16_t before, from, to;
    int i, round;

    ck_assert_uint_eq(qdes_csum_update(0xdd2f, 0x5555, 0x3285), 0);

    for (round = 0; round < 10000; round++) {
        for (i = 0; i < 20; i++) {
            data[i] = g_rand_int(rand);
        }
        data[0] = 0x45;
        before = ~naive_sum(0, data, 20);
        from = data[4] << 8 | data[5];
        to = round % 3 ? (uint16_t)g_rand_int(rand) : from + 1;
        data[4] = to >> 8;
        data[5] = to;
        ck_assert_uint_eq(qdes_csum_update(before, from, to),
                          (uint16_t)~naive_sum(0, data, 20));
    }
    g_rand_free(rand);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("csum");
    TCase *tc = tcase_create("csum");

    tcase_add_test(tc, test_rfc1071);
    tcase_add_test(tc, test_fold);
    tcase_add_test(tc, test_sizes);
    tcase_add_test(tc, test_ones);
    tcase_add_test(tc, test_parts);
    tcase_add_test(tc, test_update);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
