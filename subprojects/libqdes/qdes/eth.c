/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ethernet: addresses and the header of a frame. */

#include "qdes/eth.h"

#include <glib.h>
#include <string.h>

G_STATIC_ASSERT(sizeof(QdesEthHeader) == QDES_ETH_HEADER_SIZE);

bool qdes_mac_is_zero(const uint8_t *mac)
{
    static const uint8_t zero[QDES_MAC_SIZE];

    return memcmp(mac, zero, sizeof(zero)) == 0;
}

bool qdes_mac_parse(uint8_t mac[QDES_MAC_SIZE], const char *text)
{
    int high, low;
    int i;

    for (i = 0; i < QDES_MAC_SIZE; i++, text += 3) {
        high = g_ascii_xdigit_value(text[0]);
        low = high < 0 ? -1 : g_ascii_xdigit_value(text[1]);
        if (low < 0) {
            return false;
        }
        mac[i] = high << 4 | low;
        if (i == QDES_MAC_SIZE - 1) {
            return text[2] == '\0';
        }
        if (text[2] != ':' && text[2] != '-') {
            return false;
        }
    }
    return false;
}

char *qdes_mac_format(const uint8_t mac[QDES_MAC_SIZE],
                      char buf[QDES_MAC_STRLEN])
{
    g_snprintf(buf, QDES_MAC_STRLEN, "%02x:%02x:%02x:%02x:%02x:%02x",
               mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    return buf;
}

size_t qdes_eth_head(uint8_t *head, size_t max, const struct iovec *iov,
                     int iovcnt)
{
    size_t size = 0;
    size_t part;
    int i;

    for (i = 0; i < iovcnt && size < max; i++) {
        if (iov[i].iov_len > 0) {
            part = MIN(iov[i].iov_len, max - size);
            memcpy(head + size, iov[i].iov_base, part);
            size += part;
        }
    }
    return size;
}

size_t qdes_eth_peek(QdesEthHeader *header, const struct iovec *iov,
                     int iovcnt)
{
    size_t size = 0;
    int i;

    qdes_eth_head((uint8_t *)header, sizeof(*header), iov, iovcnt);
    for (i = 0; i < iovcnt; i++) {
        size += iov[i].iov_len;
    }
    return size;
}
