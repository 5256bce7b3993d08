/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The sockets of a port: opening, binding, and what keeps them from it. */

#include "qdes/underlay-sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "qdes/encap.h"

#define DEFAULT_RCVBUF (4 << 20) /* bytes: dozens of trains in flight */

static bool system_error(GError **errp, const char *option, const char *value,
                         const char *what)
{
    int err = errno;

    g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM, "%s=%s: %s: %s", option,
                value, what, g_strerror(err));
    return false;
}

static bool set_int(int fd, int at, int option, int value)
{
    return setsockopt(fd, at, option, &value, sizeof(value)) == 0;
}

static int open_socket(bool v4, bool dual)
{
    int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);

    if (fd >= 0) {
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        if (!v4) {
            set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, !dual);
        }
    }
    return fd;
}

static bool open_group(QdesSockets *s, const QdesConfig *config,
                       const QdesUnderlayOs *os, GError **errp)
{
    QdesAddr addr = config->group;
    bool v4 = qdes_addr_is_v4(&addr);
    char text[QDES_ADDR_STRLEN];
    struct sockaddr_storage ss;
    socklen_t len;
    int fd;

    qdes_addr_format(&addr, text);
    fd = s->group = open_socket(v4, false);
    if (fd < 0) {
        return system_error(errp, "mcast", text, "cannot open a socket");
    }
    set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
#if defined(SO_REUSEPORT) && !defined(__linux__)
    /* On BSDs, sharing a multicast port takes this one. */
    set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
#endif
    os->prepare_group(fd, v4);
    if (qdes_addr_needs_scope(&addr)) {
        /* Bound to such a group, a socket would be tied to one interface. */
        addr = qdes_addr_any(false, addr.port);
    }
    len = qdes_addr_to_sockaddr(&addr, &ss);
    if (bind(fd, (struct sockaddr *)&ss, len) == 0) {
        return true;
    }
    if (errno == EADDRINUSE) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM,
                    "mcast=%s: UDP port %u is held by a program that does "
                    "not share it; end it or choose another port", text,
                    addr.port);
        return false;
    }
    return system_error(errp, "mcast", text, "cannot bind to it");
}

/* A socket can be bound to one, but only connected with SO_BROADCAST. */
bool qdes_underlay_is_broadcast(const QdesAddr *addr)
{
    struct sockaddr_storage ss;
    QdesAddr to = *addr;
    socklen_t len;
    bool ret;
    int fd;

    to.port = 9;                /* none is sent to, but 0 is no port */
    len = qdes_addr_to_sockaddr(&to, &ss);
    fd = socket(ss.ss_family, SOCK_DGRAM, 0);
    ret = fd >= 0 && qdes_addr_is_v4(addr) &&
          connect(fd, (struct sockaddr *)&ss, len) < 0 && errno == EACCES;
    if (fd >= 0) {
        close(fd);
    }
    return ret;
}

/* All ports of a host have the same UDP port: only their addresses differ. */
static void port_in_use(const QdesConfig *config, GError **errp)
{
    QdesAddr local = config->local;
    uint16_t port = local.port;
    char text[QDES_ADDR_STRLEN];

    local.port = 0;
    g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM,
                "localaddr=%s: UDP port %u, at which encap=%s takes frames, is "
                "held here already: by another port, or by a vxlan device of "
                "the kernel. Ports share it when each has a localaddr= of its "
                "own (such as one more address of the interface); a kernel's "
                "device does not: give another port by mcast=ADDR:PORT, or "
                "use a network namespace",
                qdes_addr_format(&local, text), port, config->encap->name);
}

static bool set_ttl(const QdesConfig *config, int fd)
{
    bool v4 = qdes_addr_is_v4(&config->group);

    return !config->has_group ||
           set_int(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6,
                   v4 ? IP_MULTICAST_TTL : IPV6_MULTICAST_HOPS, config->ttl);
}

/*
 * A socket of both families, if asked for and if this host has such: without
 * IPv6, or where an IPv6 socket sends to no IPv4 group, it is one of IPv4.
 */
static int open_sender(QdesConfig *c, const QdesUnderlayOs *os)
{
    bool v4 = qdes_addr_is_v4(&c->local);
    int fd = open_socket(v4, c->dual);

    if (c->dual && (fd < 0 || !set_ttl(c, fd))) {
        if (fd >= 0) {
            close(fd);
        }
        v4 = !c->has_group || qdes_addr_is_v4(&c->group);
        c->dual = false;
        c->local = qdes_addr_any(v4, c->local.port);
        fd = open_socket(v4, false);
    }
    if (fd >= 0) {
        os->prepare_unicast(fd, v4 || c->dual, !v4);
    }
    return fd;
}

static int bind_to(int fd, const QdesAddr *local)
{
    struct sockaddr_storage ss;
    socklen_t len = qdes_addr_to_sockaddr(local, &ss);

    return bind(fd, (struct sockaddr *)&ss, len);
}

/*
 * A port without a group is to be found where others list it: at the usual
 * port if that is free.
 */
static int bind_unicast(const QdesConfig *config, int fd)
{
    QdesAddr local = config->local;

    if (!config->has_group && !local.port) {
        local.port = config->encap->port;
        if (bind_to(fd, &local) == 0) {
            /* Only groups' sockets share it: what is bound to be alone, as
             * this was, is refused. */
            set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
            return 0;
        }
    }
    return bind_to(fd, &config->local);
}

static bool open_unicast(QdesSockets *s, QdesConfig *config,
                         const QdesUnderlayOs *os, GError **errp)
{
    char text[QDES_ADDR_STRLEN];
    struct sockaddr_storage ss;
    socklen_t len;
    int fd;

    qdes_addr_format(&config->local, text);
    fd = s->unicast = open_sender(config, os);
    if (fd < 0) {
        return system_error(errp, "localaddr", text, "cannot open a socket");
    }
    if (!set_ttl(config, fd)) {
        return system_error(errp, "localaddr", text, "cannot set the TTL");
    }
    if (bind_unicast(config, fd) < 0) {
        switch (errno) {
        case EADDRNOTAVAIL:
            g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM,
                        "localaddr=%s: not an address of this host; "
                        "'ip address' lists them", text);
            return false;
        case EADDRINUSE:
            if (config->encap->one_port) {
                port_in_use(config, errp);
                return false;
            }
            g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM,
                        "localaddr=%s: UDP port %u is in use; choose another "
                        "or leave it out", text, config->local.port);
            return false;
        default:
            return system_error(errp, "localaddr", text, "cannot bind to it");
        }
    }
    if (qdes_underlay_is_broadcast(&config->local)) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM,
                    "localaddr=%s: a broadcast address, which nobody can "
                    "answer to; give an address of this host", text);
        return false;
    }
    if (config->encap->one_port) {
        /* Groups' sockets may have it from now on. */
        set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    }
    len = sizeof(ss);
    if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0 ||
        !qdes_addr_from_sockaddr(&s->bound, (struct sockaddr *)&ss)) {
        return system_error(errp, "localaddr", text, "cannot be read back");
    }
    return true;
}

bool qdes_sockets_open(QdesSockets *s, QdesConfig *config,
                       const QdesUnderlayOs *os, GError **errp)
{
    s->group = s->unicast = -1;
    if (config->encap->one_port) {
        /* Who has the fabric's UDP port already, though with groups' sockets,
         * is noticed by one that does not share it yet. */
        return open_unicast(s, config, os, errp) &&
               (!config->has_group || open_group(s, config, os, errp));
    }
    return (!config->has_group || open_group(s, config, os, errp)) &&
           open_unicast(s, config, os, errp);
}

void qdes_sockets_close(const QdesSockets *s)
{
    if (s->group >= 0) {
        close(s->group);
    }
    if (s->unicast >= 0) {
        close(s->unicast);
    }
}

static void say_granted(const char *option, int asked, int granted,
                        const char *limit, const QdesHost *host, void *opaque)
{
    g_autofree char *text = NULL;

    if (granted < asked) {
        text = g_strdup_printf("%s=%d: the system grants %d bytes; its limit "
                               "is %s", option, asked, granted, limit);
        host->log(opaque, QDES_LOG_WARNING, text);
    }
}

void qdes_sockets_set_buffers(const QdesSockets *s, const QdesConfig *config,
                              const QdesUnderlayOs *os, const QdesHost *host,
                              void *opaque)
{
    int rcvbuf = config->rcvbuf ? config->rcvbuf : DEFAULT_RCVBUF;
    int granted;

    if (config->sndbuf) {
        granted = os->set_buffer(s->unicast, SO_SNDBUF, config->sndbuf);
        say_granted("sndbuf", config->sndbuf, granted, "net.core.wmem_max",
                    host, opaque);
    }
    granted = os->set_buffer(s->unicast, SO_RCVBUF, rcvbuf);
    if (s->group >= 0) {
        granted = MIN(granted, os->set_buffer(s->group, SO_RCVBUF, rcvbuf));
    }
    if (config->rcvbuf) {
        say_granted("rcvbuf", config->rcvbuf, granted, "net.core.rmem_max",
                    host, opaque);
    }
}
