/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Underlay: the UDP sockets of a port
 *
 * Two sockets.  The group socket receives what is sent to the group; it is
 * bound to the group's address and port, which all ports of the host share.
 * A port without a group has none.  The unicast socket has a port of its own,
 * sends everything and receives what is meant for this port alone; so a
 * datagram's source is its peer.  Where peers may be of both families, it is
 * an IPv6 socket that carries IPv4, too (RFC 3493, 3.7).  (Where the
 * encapsulation has all peers at one UDP port, both sockets have that, and a
 * peer is its source's address at that port.)
 *
 * A third descriptor, the monitor, becomes readable when interfaces,
 * addresses or routes change; then, and from time to time for hosts that have
 * no monitor, qdes_underlay_refresh() joins the group where it belongs.
 *
 * Datagrams go out and come in as trains (train.h), several at a time.
 *
 * What only one system can do (trains, batches, socket filters, error queues,
 * change notification) is behind QdesUnderlayOs: underlay-linux.c with
 * underlay-mmsg.c, and for every host, underlay-plain.c.
 *
 * Limits: up to QDES_RX_BATCH buffers of 64 KiB for what is read, of which
 * the system backs as much as the longest datagrams have used.
 *
 * All descriptors are non-blocking and closed on exec.  Errors of sending and
 * receiving are returned as negative errno values and never end a socket.
 */

#ifndef QDES_UNDERLAY_H
#define QDES_UNDERLAY_H

#include <sys/types.h>

#include "qdes/fabric.h"
#include "qdes/netif.h"
#include "qdes/train.h"

typedef struct QdesUnderlay QdesUnderlay;
typedef struct QdesUnderlayIo QdesUnderlayIo;

#define QDES_TX_BATCH 32        /* trains in one call */
#define QDES_RX_BATCH 16        /* trains in one call */
#define QDES_RX_HEADROOM 64     /* bytes before each that nobody uses */

/* What was read by one call: a datagram, or several of one sender that the
 * kernel put together.  All have @segment bytes, the last may be shorter. */
typedef struct QdesRxTrain {
    uint8_t *data;
    size_t size;                /* bytes in all */
    size_t segment;
    QdesAddr from;
    QdesAddr at;                /* the address of this host that it was sent
                                   to, without a port; ::, if that was not
                                   asked for */
} QdesRxTrain;

/* What a system may do better than plain sockets. */
typedef struct QdesUnderlayOs {
    /* Receive only what this socket joined itself. */
    void (*prepare_group)(int fd, bool v4);

    /* Receive no group of others; report ICMP errors; leave fragmenting to
     * the network.  It may be a socket of both families. */
    void (*prepare_unicast)(int fd, bool v4, bool v6);

    /*
     * Drop in the kernel: other networks than that of @config and what its
     * pseudonyms stand for, what @own sent,
     * and what came in by another interface than the one with this @index.
     */
    void (*filter_group)(int fd, const QdesConfig *config,
                         const QdesAddr *own, unsigned index);

    /* Get ready for send and receive, with UDP_SEGMENT and UDP_GRO if @gso. */
    void (*io_open)(QdesUnderlayIo *io, int unicast_fd, int group_fd,
                    bool gso);
    void (*io_close)(QdesUnderlayIo *io);

    /* Have receive tell to which address datagrams were sent, or not. */
    void (*tell_at)(int fd, bool v6, bool on);

    /*
     * Write to @msg's control data, of which @used bytes are taken, that it
     * leaves from @from, by a socket that is an IPv6 one if @v6.  There is
     * room for it.  Returns the bytes taken now.
     */
    size_t (*put_from)(struct msghdr *msg, size_t used, bool v6,
                       const QdesAddr *from);

    /* As qdes_underlay_send() and qdes_underlay_receive(). */
    int (*send)(QdesUnderlayIo *io, int fd, QdesTrain *trains, int n);
    int (*receive)(QdesUnderlayIo *io, int fd, QdesRxTrain *trains, int max,
                   bool *more);

    /* The MTU of the path to @to, as far as this host knows it, in bytes of IP
     * packets; 0: the system does not tell. */
    int (*path_mtu)(const QdesAddr *to);

    /* A socket buffer of @bytes; returns what was granted. */
    int (*set_buffer)(int fd, int option, int bytes);

    /* Take one peer that the network reported unreachable, if any. */
    bool (*unreachable)(int fd, QdesAddr *peer);

    /* Datagrams dropped by the kernel at this socket so far, modulo 2^32. */
    uint32_t (*drops)(int fd);

    /*
     * The interface to which the route for @group leads, 0: there is no such
     * route, -1: the system does not tell.
     */
    int (*group_route)(const QdesAddr *group);

    /* A descriptor that tells of changes; -1: there is none. */
    int (*monitor_open)(void);

    /* Read it empty. */
    void (*monitor_drain)(int fd);
} QdesUnderlayOs;

extern const QdesUnderlayOs qdes_underlay_linux;
extern const QdesUnderlayOs qdes_underlay_plain;

typedef enum QdesRefresh {
    QDES_REFRESH_SAME,
    QDES_REFRESH_ADDRESS,       /* the same interface, another address */
    QDES_REFRESH_ELSEWHERE,     /* what peers need not know of */
    QDES_REFRESH_HOST,          /* unicast: other addresses of this host, or
                                   interfaces that came or went */
    QDES_REFRESH_JOINED,        /* the group was joined elsewhere */
    QDES_REFRESH_LOST,          /* no interface can have the group now */
    QDES_REFRESH_UNKNOWN,       /* the system does not tell; all is as it was */
} QdesRefresh;

/*
 * Open the sockets and join the group where that is possible now.  @host's
 * log tells of what was asked but not granted.
 */
QdesUnderlay *qdes_underlay_new(const QdesConfig *config, const QdesHost *host,
                                void *opaque, GError **errp);
void qdes_underlay_free(QdesUnderlay *underlay);

/* Descriptors to watch; the group's and the monitor may be -1. */
int qdes_underlay_group_fd(const QdesUnderlay *underlay);
int qdes_underlay_unicast_fd(const QdesUnderlay *underlay);
int qdes_underlay_monitor_fd(const QdesUnderlay *underlay);

/* Something changed, or may have: join the group where it belongs now. */
QdesRefresh qdes_underlay_refresh(QdesUnderlay *underlay);
void qdes_underlay_drain_monitor(QdesUnderlay *underlay);

/* The interface that has the group; its index is 0 when none has. */
const QdesNetif *qdes_underlay_netif(const QdesUnderlay *underlay);

/* From now on floods for these @n pseudonyms are let through. */
void qdes_underlay_set_pseudonyms(QdesUnderlay *underlay,
                                  const uint32_t *pseudonyms, unsigned n);

/* Where peers send unicast to. */
QdesAddr qdes_underlay_local(const QdesUnderlay *underlay);

/*
 * Send @n trains in order, at least 1, as far as the socket has room.  Returns
 * how many have left, or, when not even the first has as a whole, a negative
 * errno (-ENODEV: to the group, and no interface has it).  Each train's @sent
 * tells how much of it has left, the first one's @failed what an error is
 * about, and @fits is cleared when it turned out not to.
 */
int qdes_underlay_send(QdesUnderlay *underlay, QdesTrain *trains, int n);

/* Send one datagram to @to, NULL: to the group; from @from, NULL: as routes
 * say.  Returns 0 or a negative errno. */
int qdes_underlay_send_one(QdesUnderlay *underlay, const QdesAddr *to,
                           const QdesAddr *from, const void *data,
                           size_t size);

/*
 * Read up to @max trains from one of the sockets.  Returns their number or a
 * negative errno; *@more tells whether there may be more to read.  They are
 * valid until the next call.
 */
int qdes_underlay_receive(QdesUnderlay *underlay, int fd, QdesRxTrain *trains,
                          int max, bool *more);

/*
 * The bytes of the longest datagram that is carried in one piece to @to,
 * NULL: to the group, as far as is known.
 */
size_t qdes_underlay_room(const QdesUnderlay *underlay, const QdesAddr *to);

/* Do trains leave as such? */
bool qdes_underlay_segments(const QdesUnderlay *underlay);

/* Is @addr of a family that the unicast socket sends by? */
bool qdes_underlay_reaches(const QdesUnderlay *underlay,
                           const QdesAddr *addr);

/* An IPv4 address to which this host may only send as a broadcast? */
bool qdes_underlay_is_broadcast(const QdesAddr *addr);

/* Is @addr, without a port, an address of this host that is not of a dead
 * link? */
bool qdes_underlay_sends_from(const QdesUnderlay *underlay,
                              const QdesAddr *addr);

/* Did this port itself send what comes from @from? */
bool qdes_underlay_is_own(const QdesUnderlay *underlay, const QdesAddr *from);

/* Take one peer that the network reported unreachable, if any. */
bool qdes_underlay_unreachable(QdesUnderlay *underlay, QdesAddr *peer);

/* Datagrams that the kernel dropped at the sockets. */
uint64_t qdes_underlay_drops(QdesUnderlay *underlay);

#endif
