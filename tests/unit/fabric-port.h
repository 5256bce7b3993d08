/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ports of one process that talk over real sockets on loopback, with a moved
 * clock
 *
 * Each test has a group and a loopback address of its own, so that tests may
 * run side by side: what is sent to a socket that is gone must not come to
 * somebody else's that has got its port by now.  The clock stands still unless
 * a test moves it; only the waiting for datagrams, which take their time even
 * on loopback, is real.
 * IPv6 groups need an interface other than loopback: tests/functional has it.
 */

#ifndef QDES_FABRIC_PORT_H
#define QDES_FABRIC_PORT_H

#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "qdes/bytes.h"
#include "qdes/control.h"
#include "qdes/fabric-private.h"
#include "qdes/status.h"
#include "qdes/wire.h"

#define MAX_FDS 4
#define WAIT_S 10               /* until a test gives up waiting */

static int64_t now = 1000000;

typedef struct Port {
    QdesFabric *fabric;
    struct pollfd fds[MAX_FDS];
    int n_fds;
    int64_t timer;
    GPtrArray *frames;          /* GBytes, as delivered */
    GString *log;
    int changed, writable;
    QdesDelivery verdict;       /* for the next frames */
    uint64_t seed;
} Port;

static inline QdesDelivery deliver(void *opaque, const struct iovec *iov,
                                   int iovcnt, size_t size)
{
    Port *p = opaque;
    GByteArray *frame = g_byte_array_new();
    int i;

    for (i = 0; i < iovcnt; i++) {
        g_byte_array_append(frame, iov[i].iov_base, iov[i].iov_len);
    }
    ck_assert_uint_eq(frame->len, size);
    if (p->verdict != QDES_REFUSED) {
        g_ptr_array_add(p->frames, g_byte_array_free_to_bytes(frame));
    } else {
        g_byte_array_free(frame, true);
    }
    return p->verdict;
}

static inline void writable(void *opaque)
{
    ((Port *)opaque)->writable++;
}

static inline void watch(void *opaque, int fd, int events)
{
    Port *p = opaque;
    int i;

    for (i = 0; i < p->n_fds && p->fds[i].fd != fd; i++) {
    }
    ck_assert_int_lt(i, MAX_FDS);
    p->fds[i].fd = fd;
    p->fds[i].events = (events & QDES_WATCH_READ ? POLLIN : 0) |
                       (events & QDES_WATCH_WRITE ? POLLOUT : 0);
    p->n_fds = MAX(p->n_fds, i + 1);
}

static inline void set_timer(void *opaque, int64_t deadline)
{
    ((Port *)opaque)->timer = deadline;
}

static inline void log_line(void *opaque, QdesLogLevel level, const char *text)
{
    g_string_append_printf(((Port *)opaque)->log, "%s: %s\n",
                           level == QDES_LOG_WARNING ? "warning" : "info",
                           text);
}

static inline void changed(void *opaque)
{
    ((Port *)opaque)->changed++;
}

static inline uint64_t draw(void *opaque)
{
    return ++((Port *)opaque)->seed * 0x9e3779b97f4a7c15ULL;
}

static const QdesHost host = {
    .deliver = deliver,
    .writable = writable,
    .watch = watch,
    .set_timer = set_timer,
    .log = log_line,
    .changed = changed,
    .random = draw,
};

/* The group of a test, and the address of its ports. */
static char group[64];
static char loopback[16];

static inline void choose_group(void)
{
    unsigned pid = getpid();
    QdesAddr addr;
    struct sockaddr_storage ss;
    socklen_t len;
    int fd;

    g_snprintf(loopback, sizeof(loopback), "127.%u.%u.%u",
               64 + (pid >> 16) % 64, (pid >> 8) % 256, pid % 256);
    ck_assert(qdes_addr_parse(&addr, loopback, 0, NULL));
    len = qdes_addr_to_sockaddr(&addr, &ss);
    fd = socket(ss.ss_family, SOCK_DGRAM, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&ss, len), 0);
    len = sizeof(ss);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
    close(fd);
    qdes_addr_from_sockaddr(&addr, (struct sockaddr *)&ss);
    g_snprintf(group, sizeof(group), "239.%u.%u.%u:%u",
               128 + (pid >> 16) % 64, (pid >> 8) % 256, pid % 256,
               addr.port);
}

static uint64_t next_seed;

/* What @options say, in the test's group. */
static inline void port_config(QdesConfig *config, QdesOptions *options,
                               bool plain)
{
    GError *err = NULL;

    options->mcast = group;
    if (!options->localaddr) {
        options->localaddr = loopback;
    }
    ck_assert_msg(qdes_config_init(config, options, &err), "%s",
                  err ? err->message : "");
    config->plain_io = plain;
}

static inline Port *port_open_config(const QdesConfig *config)
{
    Port *p = g_new0(Port, 1);
    GError *err = NULL;

    p->frames = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    p->log = g_string_new(NULL);
    p->seed = ++next_seed * 1000;
    p->fabric = qdes_fabric_new(config, &host, p, now, &err);
    ck_assert_msg(p->fabric != NULL, "%s", err ? err->message : "");
    return p;
}

static inline Port *port_open_with(QdesOptions *options, bool plain)
{
    QdesConfig config;

    port_config(&config, options, plain);
    return port_open_config(&config);
}

static inline Port *port_open(const char *name)
{
    QdesOptions options = { .name = name };

    return port_open_with(&options, false);
}

static inline void port_close(Port *p)
{
    QdesStatus *status = qdes_fabric_status(p->fabric, now);
    int i;

    ck_assert(qdes_stats_balanced(&status->counters));
    qdes_status_free(status);
    qdes_fabric_free(p->fabric);
    for (i = 0; i < p->n_fds; i++) {
        ck_assert_int_eq(p->fds[i].events, 0);
    }
    g_ptr_array_free(p->frames, true);
    g_string_free(p->log, true);
    g_free(p);
}

/* Serve what is ready at each of the @n ports. */
static inline void serve(Port **ports, int n)
{
    int i, j, events;
    Port *p;

    for (i = 0; i < n; i++) {
        p = ports[i];
        if (poll(p->fds, p->n_fds, 1) <= 0) {
            continue;
        }
        for (j = 0; j < p->n_fds; j++) {
            events = (p->fds[j].revents & ~POLLOUT ? QDES_WATCH_READ : 0) |
                     (p->fds[j].revents & POLLOUT ? QDES_WATCH_WRITE : 0);
            if (events && p->fds[j].events) {
                qdes_fabric_ready(p->fabric, p->fds[j].fd, events, now);
            }
        }
    }
}

static inline uint64_t counter(Port *p, QdesCounter which)
{
    QdesStatus *status = qdes_fabric_status(p->fabric, now);
    uint64_t value = status->counters.value[which];

    qdes_status_free(status);
    return value;
}

/* Do @step, again and again, until @cond holds. */
#define UNTIL(cond, step) \
    do { \
        int64_t end_ = g_get_monotonic_time() + WAIT_S * G_USEC_PER_SEC; \
        while (!(cond)) { \
            ck_assert_msg(g_get_monotonic_time() < end_, "waited for: %s", \
                          #cond); \
            step; \
        } \
    } while (0)

#define WAIT(ports, n, cond) UNTIL(cond, serve(ports, n))

/* Have @p take the connected socket @fd for a proven peer. */
static inline void trust(Port *p, int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    bool added, evicted;
    QdesAddr addr;

    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
    ck_assert(qdes_addr_from_sockaddr(&addr, (struct sockaddr *)&ss));
    qdes_peers_prove(p->fabric->peers,
                     qdes_peers_heard(p->fabric->peers, &addr, now, &added,
                                      &evicted), now);
}

/*
 * The socket @fd says HELLO to @p with @hello and more until that has sent an
 * ECHO, and returns its nonce.
 */
static inline void prove(Port *p, int fd, QdesWireHello *hello)
{
    int64_t end = g_get_monotonic_time() + WAIT_S * G_USEC_PER_SEC;
    uint64_t proven = counter(p, QDES_COUNTER_peers_proven);
    QdesStatus *status = qdes_fabric_status(p->fabric, now);
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    struct sockaddr_storage ss;
    socklen_t len = qdes_addr_to_sockaddr(&status->local, &ss);
    QdesWireHeader header;
    QdesEcho echo;
    ssize_t size;

    qdes_status_free(status);
    hello->capabilities |= QDES_WIRE_CAP_ECHO;
    size = qdes_wire_encode_hello(data, QDES_WIRE_HELLO, 0, hello);
    size = qdes_wire_pad(data, size, QDES_WIRE_HELLO_PADDED);
    ck_assert_int_eq(sendto(fd, data, size, 0, (struct sockaddr *)&ss, len),
                     size);
    while (counter(p, QDES_COUNTER_peers_proven) == proven) {
        ck_assert(g_get_monotonic_time() < end);
        serve(&p, 1);
        qdes_fabric_tick(p->fabric, now);
        size = recv(fd, data, sizeof(data), MSG_DONTWAIT);
        if (size > 0 && qdes_wire_decode(&header, data, size) ==
            QDES_WIRE_OK && header.type == QDES_WIRE_ECHO) {
            ck_assert_int_eq(qdes_control_decode_echo(&echo, &header),
                             QDES_WIRE_OK);
            size = qdes_control_encode_echo(data, QDES_WIRE_ECHO_REPLY, 0,
                                            &echo);
            sendto(fd, data, size, 0, (struct sockaddr *)&ss, len);
        }
    }
}

#define C(port, name) counter(port, QDES_COUNTER_##name)

#endif
