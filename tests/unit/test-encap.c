/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * encap: the headers of VXLAN byte by byte, and what all have in common.
 *
 * Every datagram is handed over in a heap buffer of its size, so that
 * AddressSanitizer sees a read past its end.
 */

#include "unit.h"

#include "qdes/bytes.h"
#include "qdes/encap.h"

static const QdesEncapsulation *const encaps[] = {
    &qdes_encap_qdes, &qdes_encap_vxlan, &qdes_encap_vxvde,
};

/* A VXLAN header, how many bytes of frame follow it, and what comes out. */
static const struct {
    uint8_t header[QDES_WIRE_HEADER_SIZE];
    size_t size;                /* bytes, header included */
    QdesWireResult result;
    uint32_t vni;
} vectors[] = {
    { { 0x08, 0, 0, 0, 0, 0, 0x05, 0 }, 68, QDES_WIRE_OK, 5 },
    { { 0x08, 0, 0, 0, 0, 0, 0, 0 }, 68, QDES_WIRE_OK, 0 },
    { { 0x08, 0, 0, 0, 0xff, 0xff, 0xff, 0 }, 68, QDES_WIRE_OK, 0xffffff },
    { { 0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0 }, 68, QDES_WIRE_OK, 0x123456 },
    /* What is reserved, or an extension's (GBP), is not looked at. */
    { { 0x08, 0xff, 0xff, 0xff, 0, 0, 1, 0xff }, 68, QDES_WIRE_OK, 1 },
    { { 0xff, 0, 0, 0, 0, 0, 1, 0 }, 68, QDES_WIRE_OK, 1 },
    { { 0x88, 0x48, 0xab, 0xcd, 0, 0, 1, 0 }, 68, QDES_WIRE_OK, 1 },
    /* There is no VNI. */
    { { 0x00, 0, 0, 0, 0, 0, 1, 0 }, 68, QDES_WIRE_BAD_FLAGS, 0 },
    { { 0xf7, 0xff, 0xff, 0xff, 0, 0, 1, 0 }, 68, QDES_WIRE_BAD_FLAGS, 0 },
    { { 0x51, 0x44, 0x10, 0, 0, 0, 0, 1 }, 68, QDES_WIRE_BAD_FLAGS, 0 },
    /* Lengths. */
    { { 0x08 }, 0, QDES_WIRE_SHORT, 0 },
    { { 0x08 }, 1, QDES_WIRE_SHORT, 0 },
    { { 0x08 }, 7, QDES_WIRE_SHORT, 0 },
    { { 0x08, 0, 0, 0, 0, 0, 1, 0 }, 8, QDES_WIRE_FRAME_SHORT, 1 },
    { { 0x08, 0, 0, 0, 0, 0, 1, 0 }, 8 + 13, QDES_WIRE_FRAME_SHORT, 1 },
    { { 0x08, 0, 0, 0, 0, 0, 1, 0 }, 8 + 14, QDES_WIRE_OK, 1 },
    { { 0x08, 0, 0, 0, 0, 0, 1, 0 }, 8 + QDES_FRAME_MAX, QDES_WIRE_OK, 1 },
    { { 0x08, 0, 0, 0, 0, 0, 1, 0 }, 8 + QDES_FRAME_MAX + 1,
      QDES_WIRE_FRAME_LONG, 1 },
};

static void check_vector(const QdesEncapsulation *encap, int i)
{
    g_autofree uint8_t *data = g_malloc0(MAX(vectors[i].size, 1));
    QdesWireHeader header = { 0 };

    memcpy(data, vectors[i].header,
           MIN(sizeof(vectors[i].header), vectors[i].size));
    ck_assert_int_eq(encap->decode(&header, data, vectors[i].size),
                     vectors[i].result);
    if (vectors[i].result == QDES_WIRE_OK ||
        vectors[i].result >= QDES_WIRE_FRAME_SHORT) {
        ck_assert_int_eq(header.type, QDES_WIRE_DATA);
        ck_assert_uint_eq(header.netid, vectors[i].vni);
        ck_assert(!header.csum_partial);
        ck_assert(!header.superframe);
        ck_assert_ptr_eq(header.payload, data + 8);
        ck_assert_uint_eq(header.payload_size, vectors[i].size - 8);
    }
}

START_TEST(test_vectors)
{
    check_vector(&qdes_encap_vxlan, _i);
    check_vector(&qdes_encap_vxvde, _i);
}
END_TEST

START_TEST(test_encode)
{
    static const uint8_t golden[] = { 0x08, 0, 0, 0, 0xab, 0xcd, 0xef, 0 };
    static const uint8_t ours[] = { 0x51, 0x44, 0x10, 1, 0, 0xab, 0xcd, 0xef };
    uint8_t data[QDES_WIRE_HEADER_SIZE];

    memset(data, 0xa5, sizeof(data));
    qdes_encap_vxlan.encode(data, 0, 0xabcdef);
    ck_assert_mem_eq(data, golden, sizeof(data));
    memset(data, 0xa5, sizeof(data));
    qdes_encap_vxvde.encode(data, 0, 0xabcdef);
    ck_assert_mem_eq(data, golden, sizeof(data));
    qdes_encap_qdes.encode(data, QDES_WIRE_FLAG_CSUM_PARTIAL, 0xabcdef);
    ck_assert_mem_eq(data, ours, sizeof(data));
}
END_TEST

/* What is written is read, and is what a filter looks for; what one of
 * another kind writes is not. */
START_TEST(test_there_and_back)
{
    const uint32_t netids[] = { 0, 1, 0x800000, encaps[_i]->max_netid };
    uint8_t data[QDES_WIRE_HEADER_SIZE + QDES_FRAME_MIN] = { 0 };
    QdesWireHeader header;
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(netids); i++) {
        encaps[_i]->encode(data, 0, netids[i]);
        ck_assert_int_eq(encaps[_i]->decode(&header, data, sizeof(data)),
                         QDES_WIRE_OK);
        ck_assert_uint_eq(header.netid, netids[i]);
        ck_assert_uint_eq(qdes_get_be32(data) & encaps[_i]->head_mask,
                          encaps[_i]->head);
        ck_assert_uint_eq(qdes_get_be32(data + 4) >> encaps[_i]->netid_shift,
                          netids[i]);
    }
    for (i = 0; i < G_N_ELEMENTS(encaps); i++) {
        if (encaps[i]->control != encaps[_i]->control) {
            encaps[i]->encode(data, 0, 1);
            ck_assert_int_ne(encaps[_i]->decode(&header, data, sizeof(data)),
                             QDES_WIRE_OK);
        }
    }
}
END_TEST

START_TEST(test_find)
{
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(encaps); i++) {
        ck_assert_ptr_eq(qdes_encap_find(encaps[i]->name), encaps[i]);
    }
    ck_assert_ptr_null(qdes_encap_find("gre"));
    ck_assert_ptr_null(qdes_encap_find("VXLAN"));
    ck_assert_ptr_null(qdes_encap_find(""));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("encap");
    TCase *tc = tcase_create("encap");

    tcase_add_loop_test(tc, test_vectors, 0, G_N_ELEMENTS(vectors));
    tcase_add_test(tc, test_encode);
    tcase_add_loop_test(tc, test_there_and_back, 0, G_N_ELEMENTS(encaps));
    tcase_add_test(tc, test_find);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
