/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* UDP endpoints: IPv4 and IPv6 behind one type. */

#include "qdes/addr.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

#include "qdes/config.h"
#include "qdes/hash.h"

static const uint8_t v4_prefix[12] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff
};

static void set_v4(QdesAddr *addr, const void *ip)
{
    memcpy(addr->ip, v4_prefix, sizeof(v4_prefix));
    memcpy(addr->ip + sizeof(v4_prefix), ip, 4);
}

static bool is_v6_link_local(const uint8_t *ip)
{
    return (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80) ||
           (ip[0] == 0xff && ((ip[1] & 0x0f) == 1 || (ip[1] & 0x0f) == 2));
}

/* The IP address in @host, which is cut out of @text for this purpose. */
static bool parse_host(QdesAddr *addr, char *host, const char *text,
                       GError **errp)
{
    char *scope = strchr(host, '%');
    struct in_addr v4;

    if (scope) {
        *scope++ = '\0';
    } else if (inet_pton(AF_INET, host, &v4) == 1) {
        set_v4(addr, &v4);
        return true;
    }
    if (inet_pton(AF_INET6, host, addr->ip) != 1) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION,
                    "'%s' is not an IP address; write ADDR, ADDR:PORT or "
                    "[V6ADDR]:PORT, in numbers", text);
        return false;
    }
    if (scope) {
        if (!is_v6_link_local(addr->ip)) {
            g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION,
                        "'%s' has an interface but is not link-local; leave "
                        "out '%%%s'", text, scope);
            return false;
        }
        addr->scope = if_nametoindex(scope);
        if (!addr->scope) {
            g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION,
                        "there is no interface '%s'; 'ip link' lists them",
                        scope);
            return false;
        }
    }
    return true;
}

bool qdes_addr_parse_port(uint16_t *port, const char *digits,
                          const char *text, GError **errp)
{
    guint64 value;

    if (!g_ascii_string_to_unsigned(digits, 10, 1, 65535, &value, NULL)) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION,
                    "'%s' in '%s' is not a UDP port; use 1 to 65535", digits,
                    text);
        return false;
    }
    *port = value;
    return true;
}

bool qdes_addr_parse(QdesAddr *addr, const char *text, uint16_t default_port,
                     GError **errp)
{
    g_autofree char *host = g_strdup(text);
    const char *port = NULL;
    char *end;

    memset(addr, 0, sizeof(*addr));
    addr->port = default_port;

    if (text[0] == '[') {
        end = strchr(host, ']');
        if (!end || (end[1] != '\0' && end[1] != ':')) {
            g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION,
                        "'%s' has no closing bracket before its port; write "
                        "[V6ADDR]:PORT", text);
            return false;
        }
        port = end[1] == ':' ? end + 2 : NULL;
        *end = '\0';
        memmove(host, host + 1, end - host);
    } else {
        end = strchr(host, ':');
        /* More than one colon without brackets is an IPv6 address. */
        if (end && !strchr(end + 1, ':')) {
            *end = '\0';
            port = end + 1;
        }
    }
    return parse_host(addr, host, text, errp) &&
           (!port || qdes_addr_parse_port(&addr->port, port, text, errp));
}

char *qdes_addr_format(const QdesAddr *addr, char buf[QDES_ADDR_STRLEN])
{
    char host[INET6_ADDRSTRLEN];
    char iface[IF_NAMESIZE];
    char scope[IF_NAMESIZE + 12] = "";

    if (qdes_addr_is_v4(addr)) {
        inet_ntop(AF_INET, addr->ip + sizeof(v4_prefix), host, sizeof(host));
    } else {
        inet_ntop(AF_INET6, addr->ip, host, sizeof(host));
        if (addr->scope && if_indextoname(addr->scope, iface)) {
            g_snprintf(scope, sizeof(scope), "%%%s", iface);
        } else if (addr->scope) {
            g_snprintf(scope, sizeof(scope), "%%%" G_GUINT32_FORMAT,
                       addr->scope);
        }
    }
    if (!addr->port) {
        g_snprintf(buf, QDES_ADDR_STRLEN, "%s%s", host, scope);
    } else if (qdes_addr_is_v4(addr)) {
        g_snprintf(buf, QDES_ADDR_STRLEN, "%s:%u", host, addr->port);
    } else {
        g_snprintf(buf, QDES_ADDR_STRLEN, "[%s%s]:%u", host, scope,
                   addr->port);
    }
    return buf;
}

bool qdes_addr_same_host(const QdesAddr *a, const QdesAddr *b)
{
    return memcmp(a->ip, b->ip, sizeof(a->ip)) == 0 && a->scope == b->scope;
}

bool qdes_addr_equal(const QdesAddr *a, const QdesAddr *b)
{
    return a->port == b->port && qdes_addr_same_host(a, b);
}

uint32_t qdes_addr_hash(const QdesAddr *addr, uint64_t seed)
{
    uint64_t words[2];

    memcpy(words, addr->ip, sizeof(words));
    seed = qdes_hash_mix(seed ^ words[0]);
    seed = qdes_hash_mix(seed ^ words[1]);
    return qdes_hash_mix(seed ^ ((uint64_t)addr->scope << 16 | addr->port));
}

bool qdes_addr_is_v4(const QdesAddr *addr)
{
    return memcmp(addr->ip, v4_prefix, sizeof(v4_prefix)) == 0;
}

bool qdes_addr_is_multicast(const QdesAddr *addr)
{
    if (qdes_addr_is_v4(addr)) {
        return (addr->ip[12] & 0xf0) == 0xe0;
    }
    return addr->ip[0] == 0xff;
}

bool qdes_addr_is_loopback(const QdesAddr *addr)
{
    if (qdes_addr_is_v4(addr)) {
        return addr->ip[12] == 127;
    }
    return memcmp(addr->ip, &in6addr_loopback, sizeof(addr->ip)) == 0;
}

bool qdes_addr_needs_scope(const QdesAddr *addr)
{
    return !qdes_addr_is_v4(addr) && is_v6_link_local(addr->ip);
}

bool qdes_addr_is_any(const QdesAddr *addr)
{
    QdesAddr any = qdes_addr_any(qdes_addr_is_v4(addr), 0);

    return memcmp(addr->ip, any.ip, sizeof(any.ip)) == 0;
}

QdesAddr qdes_addr_any(bool v4, uint16_t port)
{
    QdesAddr addr = { .port = port };

    if (v4) {
        memcpy(addr.ip, v4_prefix, sizeof(v4_prefix));
    }
    return addr;
}

bool qdes_addr_from_sockaddr(QdesAddr *addr, const struct sockaddr *sa)
{
    struct sockaddr_in sin;
    struct sockaddr_in6 sin6;

    memset(addr, 0, sizeof(*addr));
    switch (sa->sa_family) {
    case AF_INET:
        memcpy(&sin, sa, sizeof(sin));
        set_v4(addr, &sin.sin_addr);
        addr->port = ntohs(sin.sin_port);
        return true;
    case AF_INET6:
        memcpy(&sin6, sa, sizeof(sin6));
        memcpy(addr->ip, &sin6.sin6_addr, sizeof(addr->ip));
        addr->port = ntohs(sin6.sin6_port);
        if (is_v6_link_local(addr->ip)) {
            addr->scope = sin6.sin6_scope_id;
        }
        return true;
    default:
        return false;
    }
}

socklen_t qdes_addr_to_sockaddr(const QdesAddr *addr,
                                struct sockaddr_storage *ss)
{
    struct sockaddr_in sin = { .sin_family = AF_INET };

    if (!qdes_addr_is_v4(addr)) {
        return qdes_addr_to_sockaddr6(addr, ss);
    }
    sin.sin_port = htons(addr->port);
    memcpy(&sin.sin_addr, addr->ip + sizeof(v4_prefix), 4);
    memcpy(ss, &sin, sizeof(sin));
    return sizeof(sin);
}

socklen_t qdes_addr_to_sockaddr6(const QdesAddr *addr,
                                 struct sockaddr_storage *ss)
{
    struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6 };

    sin6.sin6_port = htons(addr->port);
    sin6.sin6_scope_id = addr->scope;
    memcpy(&sin6.sin6_addr, addr->ip, sizeof(addr->ip));
    memcpy(ss, &sin6, sizeof(sin6));
    return sizeof(sin6);
}
