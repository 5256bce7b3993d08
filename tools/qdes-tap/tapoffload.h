/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Offloads of a TAP: what the kernel and we leave to each other
 *
 * With a virtio_net_hdr before each frame (IFF_VNET_HDR), the kernel may hand
 * over superframes and frames with unfinished checksums, and takes them.
 * Which kinds a kernel knows it does not tell: it is asked for all, then for
 * fewer, until it agrees.  What was agreed on may turn out wrong later, and
 * is then given up, never taken up again.
 *
 * A device remembers offloads and the header's form beyond the life of its
 * descriptor, so everything is set, whoever used it before.
 */

#ifndef QDES_TAP_TAPOFFLOAD_H
#define QDES_TAP_TAPOFFLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "qdes/fabric.h"

/* ioctl(2), or what a test has in its place. */
typedef int TapIoctl(int fd, unsigned long request, uintptr_t arg);

/*
 * Agree with the kernel on the header's form and on offloads, and tell in
 * @port.  If others use the device too (@shared), nothing is changed, and the
 * port accepts no offloads.  False: the header is one that cannot be used.
 */
bool tap_offload_begin(QdesPort *port, int fd, bool shared, TapIoctl *call);

/* No offloads any more.  Returns false, with errno set, when they stay. */
bool tap_offload_end(int fd, TapIoctl *call);

/*
 * The kernel said @err to a frame with the header @vnet.  Returns true when
 * @port now accepts less than before.
 */
bool tap_offload_refused(QdesPort *port, const uint8_t *vnet, int err);

#endif
