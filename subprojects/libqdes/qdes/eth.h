/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ethernet: addresses and the header of a frame
 *
 * A MAC address is six bytes in the order of the wire.  The group bit (IEEE
 * 802-2014, 8.2.2) tells broadcast and multicast from unicast.
 *
 * Pure; every accessor checks its bounds.
 */

#ifndef QDES_ETH_H
#define QDES_ETH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define QDES_MAC_SIZE 6         /* bytes */
#define QDES_ETH_HEADER_SIZE 14 /* bytes */

/* Room for "aa:bb:cc:dd:ee:ff" and its terminating NUL, in bytes. */
#define QDES_MAC_STRLEN 18

/* The header as it is on the wire; @type may be that of a VLAN tag. */
typedef struct QdesEthHeader {
    uint8_t dst[QDES_MAC_SIZE];
    uint8_t src[QDES_MAC_SIZE];
    uint8_t type[2];
} QdesEthHeader;

/* Broadcast or multicast? */
static inline bool qdes_mac_is_group(const uint8_t *mac)
{
    return mac[0] & 1;
}

bool qdes_mac_is_zero(const uint8_t *mac);

/* May a frame come from @mac?  Neither a group's address nor zero. */
static inline bool qdes_mac_is_source(const uint8_t *mac)
{
    return !qdes_mac_is_group(mac) && !qdes_mac_is_zero(mac);
}

/* Read "aa:bb:cc:dd:ee:ff", or with '-' between the bytes, in either case.
 * Returns false where it is none. */
bool qdes_mac_parse(uint8_t mac[QDES_MAC_SIZE], const char *text);

/* Returns @buf. */
char *qdes_mac_format(const uint8_t mac[QDES_MAC_SIZE],
                      char buf[QDES_MAC_STRLEN]);

/* Copy the first @max bytes of a frame in pieces to @head, or all if it has
 * less.  Returns how many those are. */
size_t qdes_eth_head(uint8_t *head, size_t max, const struct iovec *iov,
                     int iovcnt);

/*
 * Copy the header out of a frame in pieces.  Returns the size of the whole
 * frame in bytes; @header is valid when that is at least
 * QDES_ETH_HEADER_SIZE.
 */
size_t qdes_eth_peek(QdesEthHeader *header, const struct iovec *iov,
                     int iovcnt);

#endif
