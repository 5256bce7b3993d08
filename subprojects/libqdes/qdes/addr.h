/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * UDP endpoints: IPv4 and IPv6 behind one type
 *
 * A QdesAddr is an IP address with a UDP port.  IPv4 is held as the
 * v4-mapped IPv6 address (RFC 4291, 2.5.5.2), so that no code outside this
 * module asks for the family: comparing, hashing and printing are the same
 * for both.  Link-local IPv6 addresses carry the index of their interface as
 * scope; for every other address the scope is 0.
 *
 * Invariants: @port is in host byte order; two addresses that name the same
 * endpoint are equal byte for byte in @ip, @port and @scope.
 *
 * Pure: no name lookup, no socket.  Plain values, nothing to free.
 */

#ifndef QDES_ADDR_H
#define QDES_ADDR_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

typedef struct QdesAddr {
    uint8_t ip[16];             /* network byte order, IPv4 as ::ffff:a.b.c.d */
    uint16_t port;              /* host byte order, 0: none */
    uint32_t scope;             /* interface index of a link-local address */
} QdesAddr;

/* Room for "[v6%scope]:port" and its terminating NUL, in bytes. */
#define QDES_ADDR_STRLEN 80

/*
 * Parse "ADDR", "ADDR:PORT", "V6", "[V6]" or "[V6]:PORT"; a link-local V6 may
 * end in "%INTERFACE".  Without a port, @default_port is taken.  Numeric
 * addresses only.  Returns false and says in @errp what is wrong with @text;
 * port 0 is an error here.
 */
bool qdes_addr_parse(QdesAddr *addr, const char *text, uint16_t default_port,
                     GError **errp);

/* The port in @digits, which are part of @text; 0 is none. */
bool qdes_addr_parse_port(uint16_t *port, const char *digits,
                          const char *text, GError **errp);

/*
 * Write @addr as text that qdes_addr_parse() reads back.  The port is left
 * out when it is 0.  Returns @buf.
 */
char *qdes_addr_format(const QdesAddr *addr, char buf[QDES_ADDR_STRLEN]);

bool qdes_addr_equal(const QdesAddr *a, const QdesAddr *b);

/* The same IP address (and scope); ports are not looked at. */
bool qdes_addr_same_host(const QdesAddr *a, const QdesAddr *b);

/* A hash that cannot be foretold without @seed. */
uint32_t qdes_addr_hash(const QdesAddr *addr, uint64_t seed);

bool qdes_addr_is_v4(const QdesAddr *addr);
bool qdes_addr_is_multicast(const QdesAddr *addr);
bool qdes_addr_is_loopback(const QdesAddr *addr);

/* Link-local (or interface-local) IPv6: an interface goes with it. */
bool qdes_addr_needs_scope(const QdesAddr *addr);

/* Anything but ::, which here means that there is none. */
static inline bool qdes_addr_is_set(const QdesAddr *addr)
{
    uint64_t half[2];

    memcpy(half, addr->ip, sizeof(half));
    return (half[0] | half[1]) != 0;
}

/* 0.0.0.0 or ::, whatever the port. */
bool qdes_addr_is_any(const QdesAddr *addr);

/* The wildcard address of @v4 or IPv6, with @port. */
QdesAddr qdes_addr_any(bool v4, uint16_t port);

/*
 * From and to the kernel's form.  qdes_addr_from_sockaddr() returns false for
 * a family that is not AF_INET or AF_INET6.  qdes_addr_to_sockaddr() returns
 * the length used of @ss: an AF_INET address for IPv4, else AF_INET6.
 */
bool qdes_addr_from_sockaddr(QdesAddr *addr, const struct sockaddr *sa);
socklen_t qdes_addr_to_sockaddr(const QdesAddr *addr,
                                struct sockaddr_storage *ss);

/* The same for a socket of both families: AF_INET6 always. */
socklen_t qdes_addr_to_sockaddr6(const QdesAddr *addr,
                                 struct sockaddr_storage *ss);

#endif
