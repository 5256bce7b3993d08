/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Encapsulations: our own, VXLAN (RFC 7348), and VDE's way of that. */

#include "qdes/encap.h"

#include <string.h>

#include "qdes/bytes.h"

#define VXLAN_I 0x08            /* in the first byte: there is a VNI */
#define VXLAN_MAX_VNI 0xffffff

static void qdes_encode(uint8_t data[QDES_WIRE_HEADER_SIZE], uint8_t flags,
                        uint32_t netid)
{
    qdes_wire_encode_header(data, QDES_WIRE_DATA, flags, netid);
}

/* All that is reserved is 0. */
static void vxlan_encode(uint8_t data[QDES_WIRE_HEADER_SIZE], uint8_t flags,
                         uint32_t vni)
{
    g_assert(flags == 0);
    qdes_put_be32(data, (uint32_t)VXLAN_I << 24);
    qdes_put_be32(data + 4, vni << 8);
}

/* What is reserved is not looked at (RFC 7348, section 5). */
static QdesWireResult vxlan_decode(QdesWireHeader *header,
                                   const uint8_t *data, size_t size)
{
    if (size < QDES_WIRE_HEADER_SIZE) {
        return QDES_WIRE_SHORT;
    }
    if (!(data[0] & VXLAN_I)) {
        return QDES_WIRE_BAD_FLAGS;
    }
    *header = (QdesWireHeader) {
        .type = QDES_WIRE_DATA,
        .netid = qdes_get_be32(data + 4) >> 8,
        .payload = data + QDES_WIRE_HEADER_SIZE,
        .payload_size = size - QDES_WIRE_HEADER_SIZE,
    };
    if (header->payload_size < QDES_FRAME_MIN) {
        return QDES_WIRE_FRAME_SHORT;
    }
    if (header->payload_size > QDES_FRAME_MAX) {
        return QDES_WIRE_FRAME_LONG;
    }
    return QDES_WIRE_OK;
}

const QdesEncapsulation qdes_encap_qdes = {
    .name = "qdes",
    .title = "QDES",
    .group = QDES_DEFAULT_GROUP,
    .port = QDES_DEFAULT_PORT,
    .max_netid = UINT32_MAX,
    .control = true,
    .head_mask = 0xfffff000,
    .head = (uint32_t)QDES_WIRE_MAGIC << 16 | QDES_WIRE_VERSION << 12,
    .encode = qdes_encode,
    .decode = qdes_wire_decode,
};

const QdesEncapsulation qdes_encap_vxlan = {
    .name = "vxlan",
    .title = "VXLAN",
    .group = QDES_DEFAULT_GROUP,
    .port = 4789,               /* by IANA */
    .max_netid = VXLAN_MAX_VNI,
    .one_port = true,
    .guess_partial = true,
    .head_mask = (uint32_t)VXLAN_I << 24,
    .head = (uint32_t)VXLAN_I << 24,
    .netid_shift = 8,
    .encode = vxlan_encode,
    .decode = vxlan_decode,
};

/* The defaults are those of libvdeplug_vxvde(1). */
const QdesEncapsulation qdes_encap_vxvde = {
    .name = "vxvde",
    .title = "VXVDE",
    .group = "239.0.0.1",
    .port = 14789,
    .netid = 1,
    .max_netid = VXLAN_MAX_VNI,
    .guess_partial = true,
    .head_mask = (uint32_t)VXLAN_I << 24,
    .head = (uint32_t)VXLAN_I << 24,
    .netid_shift = 8,
    .encode = vxlan_encode,
    .decode = vxlan_decode,
};

const QdesEncapsulation *qdes_encap_find(const char *name)
{
    static const QdesEncapsulation *const all[] = {
        &qdes_encap_qdes, &qdes_encap_vxlan, &qdes_encap_vxvde,
    };
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(all); i++) {
        if (strcmp(all[i]->name, name) == 0) {
            return all[i];
        }
    }
    return NULL;
}
