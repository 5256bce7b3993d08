/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SipHash-2-4: a short keyed hash that cannot be foretold without its key
 *
 * Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012.  For what is
 * checked in a hurry; it is not for sealing.
 *
 * Pure.
 */

#ifndef QDES_SIPHASH_H
#define QDES_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/* Of the @size bytes at @data, with the 128-bit key @k0, @k1 (its first and
 * its second half, as little-endian numbers). */
uint64_t qdes_siphash(uint64_t k0, uint64_t k1, const void *data, size_t size);

#endif
