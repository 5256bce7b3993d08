/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * MSS clamp: TCP is told what the path carries
 *
 * When a TCP connection opens, each side says how much payload it takes in
 * one segment (RFC 9293, 3.7.1).  Lowered to what fits one datagram of the
 * path, the connection never sends a frame that would have to be cut.
 *
 * Pure.
 */

#ifndef QDES_MSS_H
#define QDES_MSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * If the whole frame of @size bytes opens a TCP connection and says more than
 * fits a frame of @max_frame bytes, lower that and see to the checksum, which
 * is finished or @partial.  Returns whether it was lowered.
 */
bool qdes_mss_clamp(uint8_t *frame, size_t size, size_t max_frame,
                    bool partial);

#endif
