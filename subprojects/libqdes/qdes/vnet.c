/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The virtio_net_hdr: what a frame still lacks. */

#include "qdes/vnet.h"

#include <glib.h>
#include <string.h>

/* Offsets of the fields, and bits in them (virtio 1.2, 5.1.6). */
enum {
    AT_FLAGS = 0,
    AT_GSO_TYPE = 1,
    AT_HDR_LEN = 2,
    AT_GSO_SIZE = 4,
    AT_CSUM_START = 6,
    AT_CSUM_OFFSET = 8,
    AT_NUM_BUFFERS = 10,

    F_NEEDS_CSUM = 0x01,
    F_DATA_VALID = 0x02,
    GSO_ECN = 0x80,
};

static uint16_t get16(const uint8_t *p, bool big_endian)
{
    return big_endian ? p[0] << 8 | p[1] : p[1] << 8 | p[0];
}

static void put16(uint8_t *p, uint16_t v, bool big_endian)
{
    p[!big_endian] = v >> 8;
    p[big_endian] = v;
}

void qdes_vnet_decode(QdesVnet *vnet, const uint8_t data[QDES_VNET_MIN],
                      bool big_endian)
{
    *vnet = (QdesVnet) {
        .needs_csum = data[AT_FLAGS] & F_NEEDS_CSUM,
        .csum_valid = data[AT_FLAGS] & F_DATA_VALID,
        .gso = data[AT_GSO_TYPE] & ~GSO_ECN,
        .ecn = data[AT_GSO_TYPE] & GSO_ECN,
        .gso_size = get16(data + AT_GSO_SIZE, big_endian),
        .csum_start = get16(data + AT_CSUM_START, big_endian),
        .csum_offset = get16(data + AT_CSUM_OFFSET, big_endian),
    };
}

void qdes_vnet_encode(const QdesVnet *vnet, uint8_t *data, size_t size,
                      bool big_endian)
{
    g_assert(size >= QDES_VNET_MIN && size <= QDES_VNET_MAX);
    memset(data, 0, size);
    data[AT_FLAGS] = (vnet->needs_csum ? F_NEEDS_CSUM : 0) |
                     (vnet->csum_valid ? F_DATA_VALID : 0);
    data[AT_GSO_TYPE] = vnet->gso;
    if (vnet->ecn && vnet->gso != QDES_GSO_NONE) {
        data[AT_GSO_TYPE] |= GSO_ECN;
    }
    put16(data + AT_HDR_LEN, vnet->hdr_len, big_endian);
    put16(data + AT_GSO_SIZE, vnet->gso_size, big_endian);
    put16(data + AT_CSUM_START, vnet->csum_start, big_endian);
    put16(data + AT_CSUM_OFFSET, vnet->csum_offset, big_endian);
    if (size >= AT_NUM_BUFFERS + 2) {
        put16(data + AT_NUM_BUFFERS, 1, big_endian);
    }
}
