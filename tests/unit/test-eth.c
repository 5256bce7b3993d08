/* SPDX-License-Identifier: GPL-2.0-or-later */
/* eth: addresses, and a header that comes in pieces. */

#include "unit.h"

#include "qdes/eth.h"

START_TEST(test_kinds)
{
    static const uint8_t broadcast[] = { 255, 255, 255, 255, 255, 255 };
    static const uint8_t group[] = { 0x33, 0x33, 0, 0, 0, 1 };
    static const uint8_t zero[] = { 0, 0, 0, 0, 0, 0 };
    static const uint8_t last[] = { 0, 0, 0, 0, 0, 1 };
    char buf[QDES_MAC_STRLEN];

    ck_assert(qdes_mac_is_group(broadcast) && !qdes_mac_is_source(broadcast));
    ck_assert(qdes_mac_is_group(group) && !qdes_mac_is_source(group));
    ck_assert(!qdes_mac_is_group(zero) && !qdes_mac_is_source(zero));
    ck_assert(qdes_mac_is_zero(zero) && !qdes_mac_is_zero(last));
    ck_assert(qdes_mac_is_source(last));
    ck_assert_str_eq(qdes_mac_format(group, buf), "33:33:00:00:00:01");
}
END_TEST

START_TEST(test_parse)
{
    static const char *const wrong[] = {
        "", ":", "52", "52:54:00:12:34", "52:54:00:12:34:", "52:54:00:12:34:5",
        "52:54:00:12:34:567", "52:54:00:12:34:56:", "52:54:00:12:34:56 ",
        " 52:54:00:12:34:56", "525400123456", "52.54.00.12.34.56",
        "5g:54:00:12:34:56", "52:5:400:12:34:56", "-1:54:00:12:34:56",
    };
    uint8_t mac[QDES_MAC_SIZE];
    char buf[QDES_MAC_STRLEN];
    size_t i;

    ck_assert(qdes_mac_parse(mac, "52:54:00:AB:cd:ff"));
    ck_assert_str_eq(qdes_mac_format(mac, buf), "52:54:00:ab:cd:ff");
    ck_assert(qdes_mac_parse(mac, "02-00-5e-10-00-01"));
    ck_assert_str_eq(qdes_mac_format(mac, buf), "02:00:5e:10:00:01");
    for (i = 0; i < G_N_ELEMENTS(wrong); i++) {
        ck_assert_msg(!qdes_mac_parse(mac, wrong[i]), "%s", wrong[i]);
    }
}
END_TEST

/* Any way of cutting a frame in three gives the same header and size. */
START_TEST(test_peek)
{
    uint8_t frame[20];
    QdesEthHeader header;
    struct iovec iov[3];
    int i, j, size;

    for (i = 0; i < (int)sizeof(frame); i++) {
        frame[i] = i + 1;
    }
    for (size = 0; size <= (int)sizeof(frame); size++) {
        for (i = 0; i <= size; i++) {
            for (j = i; j <= size; j++) {
                iov[0] = (struct iovec) { i ? frame : NULL, i };
                iov[1] = (struct iovec) { frame + i, j - i };
                iov[2] = (struct iovec) { frame + j, size - j };
                memset(&header, 0, sizeof(header));
                ck_assert_uint_eq(qdes_eth_peek(&header, iov, 3), size);
                ck_assert_mem_eq(&header, frame, MIN(size, 14));
            }
        }
    }
    ck_assert_uint_eq(qdes_eth_peek(&header, NULL, 0), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("eth");
    TCase *tc = tcase_create("eth");

    tcase_add_test(tc, test_kinds);
    tcase_add_test(tc, test_parse);
    tcase_add_test(tc, test_peek);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
