/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The virtio_net_hdr: what a frame still lacks
 *
 * Before a frame that passes between a port and its fabric may stand a
 * virtio_net_hdr (virtio 1.2, 5.1.6; Linux, linux/virtio_net.h).  It says
 * that the frame's checksum is not finished yet, or that the frame is a
 * superframe: one set of headers with the payload of many frames behind it,
 * to be cut to @gso_size bytes of payload each.
 *
 * A QdesVnet is its content as plain numbers.  What comes from a port is as
 * trustworthy as the port: decoding checks nothing, and all offsets are
 * checked against the frame where they are used.  @hdr_len is not kept, as
 * kernels have been known to give a wrong one: lengths of headers are read
 * from the headers.
 *
 * Pure.
 */

#ifndef QDES_VNET_H
#define QDES_VNET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QDES_VNET_MIN 10        /* bytes; longer ones begin with these */
#define QDES_VNET_MAX 24        /* bytes of the longest one */

typedef enum QdesGso {
    QDES_GSO_NONE = 0,
    QDES_GSO_TCP4 = 1,
    QDES_GSO_TCP6 = 4,
    QDES_GSO_UDP = 5,           /* IPv4 or IPv6; not the fragmenting UFO */
} QdesGso;

typedef struct QdesVnet {
    bool needs_csum;            /* sum from csum_start on, store the result */
    bool csum_valid;            /* the checksum was verified */
    uint8_t gso;                /* a QdesGso, or what else the port wrote */
    bool ecn;                   /* TCP superframe: CWR in the first only */
    uint16_t gso_size;          /* bytes of payload in each frame */
    uint16_t csum_start;        /* from the frame's first byte on */
    uint16_t csum_offset;       /* of the checksum field, from csum_start on */
    uint16_t hdr_len;           /* when encoding: bytes of all headers */
} QdesVnet;

/* Read the QDES_VNET_MIN bytes at @data, big-endian or little-endian. */
void qdes_vnet_decode(QdesVnet *vnet, const uint8_t data[QDES_VNET_MIN],
                      bool big_endian);

/*
 * Write @size bytes, QDES_VNET_MIN to QDES_VNET_MAX.  From 12 bytes on, the
 * field num_buffers (virtio 1.2, 5.1.6.4) is 1; what follows it is 0.
 */
void qdes_vnet_encode(const QdesVnet *vnet, uint8_t *data, size_t size,
                      bool big_endian);

#endif
