/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vnet: the fields of a virtio_net_hdr, in both byte orders. */

#include "unit.h"

#include "qdes/vnet.h"

static const uint8_t little[] = {
    0x01, 0x81, 0x42, 0x01, 0xa8, 0x05, 0x22, 0x03, 0x10, 0x04, 0x01, 0x00,
};
static const uint8_t big[] = {
    0x01, 0x81, 0x01, 0x42, 0x05, 0xa8, 0x03, 0x22, 0x04, 0x10, 0x00, 0x01,
};
static const QdesVnet plain = {
    .needs_csum = true, .gso = QDES_GSO_TCP4, .ecn = true, .hdr_len = 0x142,
    .gso_size = 0x5a8, .csum_start = 0x322, .csum_offset = 0x410,
};

START_TEST(test_encode)
{
    static const uint8_t zeros[QDES_VNET_MAX];
    uint8_t data[QDES_VNET_MAX + 1];
    size_t size;

    for (size = QDES_VNET_MIN; size <= QDES_VNET_MAX; size++) {
        memset(data, 0xa5, sizeof(data));
        qdes_vnet_encode(&plain, data, size, false);
        ck_assert_mem_eq(data, little, size < 12 ? QDES_VNET_MIN : 12);
        if (size > 12) {
            ck_assert_mem_eq(data + 12, zeros, size - 12);
        }
        ck_assert_uint_eq(data[size], 0xa5);
    }
    qdes_vnet_encode(&plain, data, 12, true);
    ck_assert_mem_eq(data, big, 12);
}
END_TEST

START_TEST(test_decode)
{
    const uint8_t *data[] = { little, big };
    QdesVnet vnet;
    int i;

    for (i = 0; i < 2; i++) {
        memset(&vnet, 0xa5, sizeof(vnet));
        qdes_vnet_decode(&vnet, data[i], i);
        ck_assert(vnet.needs_csum && !vnet.csum_valid && vnet.ecn);
        ck_assert_uint_eq(vnet.gso, QDES_GSO_TCP4);
        ck_assert_uint_eq(vnet.gso_size, 0x5a8);
        ck_assert_uint_eq(vnet.csum_start, 0x322);
        ck_assert_uint_eq(vnet.csum_offset, 0x410);
        ck_assert_uint_eq(vnet.hdr_len, 0);
    }
}
END_TEST

/* What is not known is kept, for whoever looks at it to refuse. */
START_TEST(test_odd_types)
{
    uint8_t data[QDES_VNET_MIN] = { 0 };
    QdesVnet vnet;
    int type;

    for (type = 0; type < 256; type++) {
        data[0] = type;
        data[1] = type;
        qdes_vnet_decode(&vnet, data, false);
        ck_assert_uint_eq(vnet.gso, type & 0x7f);
        ck_assert_int_eq(vnet.ecn, type >> 7);
        ck_assert_int_eq(vnet.needs_csum, type & 1);
        ck_assert_int_eq(vnet.csum_valid, type >> 1 & 1);
    }
}
END_TEST

/* A kernel refuses ECN without a superframe. */
START_TEST(test_ecn_alone)
{
    QdesVnet vnet = { .ecn = true, .csum_valid = true };
    uint8_t data[QDES_VNET_MIN];

    qdes_vnet_encode(&vnet, data, sizeof(data), false);
    ck_assert_uint_eq(data[0], 2);
    ck_assert_uint_eq(data[1], 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vnet");
    TCase *tc = tcase_create("vnet");

    tcase_add_test(tc, test_encode);
    tcase_add_test(tc, test_decode);
    tcase_add_test(tc, test_odd_types);
    tcase_add_test(tc, test_ecn_alone);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
