/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The Internet checksum (RFC 1071)
 *
 * Sums are of 16-bit words in the order of the wire, and may be added up in
 * parts: qdes_csum_add() takes a sum over what comes before and returns one
 * over all, as long as each part but the last has an even size.  A sum is a
 * plain number, to which words in host byte order may be added as well.  It
 * is folded to 16 bits in the end, and the checksum of a header is its
 * complement.
 *
 * Pure.
 */

#ifndef QDES_CSUM_H
#define QDES_CSUM_H

#include <stddef.h>
#include <stdint.h>

/* @sum plus the words of the @size bytes at @data; any alignment.  An odd last
 * byte counts as followed by a zero. */
uint64_t qdes_csum_add(uint64_t sum, const void *data, size_t size);

/* The 16-bit sum, in host byte order; not inverted. */
uint16_t qdes_csum_fold(uint64_t sum);

/* The checksum field, in host byte order, for what sums up to @sum.  It is not
 * 0, which would say that there is none (RFC 768). */
uint16_t qdes_csum_finish(uint64_t sum);

/*
 * The checksum field @field (host byte order) after a 16-bit word that it
 * covers changed from @from to @to (RFC 1624, equation 3).
 */
uint16_t qdes_csum_update(uint16_t field, uint16_t from, uint16_t to);

#endif
