/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The underlay's input and output: batches of datagrams
 *
 * Private to the underlay: how trains leave a socket and batches come out of
 * it, in two ways of doing the same.  underlay-plain.c takes one call for
 * each datagram; underlay-mmsg.c (Linux) sends a train with UDP_SEGMENT, many
 * trains with sendmmsg(), and reads many datagrams or whole trains (UDP_GRO)
 * with recvmmsg().  What a kernel refuses is switched off while running, and
 * never on again.
 *
 * All buffers are taken when the port is opened.
 */

#ifndef QDES_UNDERLAY_IO_H
#define QDES_UNDERLAY_IO_H

#include <sys/socket.h>

#include "qdes/train.h"
#include "qdes/underlay.h"

#define QDES_RX_SIZE 65536      /* bytes, no datagram and no train is larger */
#define QDES_RX_STRIDE (QDES_RX_HEADROOM + QDES_RX_SIZE)

typedef struct QdesUnderlayIo {
    bool segment;               /* UDP_SEGMENT works, as far as is known */
    bool dual;                  /* IPv4 goes by an IPv6 socket */
    bool tells_at;              /* the unicast socket, to which address what
                                   it receives was sent */
    const QdesUnderlayOs *os;
    struct sockaddr_storage group;
    socklen_t group_len;        /* 0: no interface has it */
    QdesAddr group_from;        /* where floods leave from; the wildcard: as
                                   routes have it */
    uint8_t *rx;                /* QDES_RX_BATCH times QDES_RX_STRIDE bytes */
    bool long_rx;               /* the last batch had long datagrams */
    struct QdesMmsg *mmsg;      /* underlay-mmsg.c's own */
} QdesUnderlayIo;

/* The buffer number @n. */
static inline uint8_t *qdes_underlay_io_rx(const QdesUnderlayIo *io, int n)
{
    return io->rx + n * QDES_RX_STRIDE + QDES_RX_HEADROOM;
}

/* @addr, as the unicast socket takes it; returns its length. */
socklen_t qdes_underlay_io_sockaddr(const QdesUnderlayIo *io,
                                    const QdesAddr *addr,
                                    struct sockaddr_storage *ss);

/* Room for control data: a number (UDP_SEGMENT, UDP_GRO) and an address. */
#define QDES_CONTROL_SIZE (CMSG_SPACE(sizeof(int)) + CMSG_SPACE(20))

/* Write to @msg, with @used bytes of control data, where @train leaves from;
 * returns the bytes used then. */
size_t qdes_underlay_io_from(const QdesUnderlayIo *io, const QdesTrain *train,
                             struct msghdr *msg, size_t used);

/* What it means that a datagram of @train was refused with @err: a negative
 * errno. */
int qdes_underlay_io_refused(const QdesUnderlayIo *io, const QdesTrain *train,
                             int err);

/* The destination of @train; returns its length, 0: there is none. */
socklen_t qdes_underlay_io_to(const QdesUnderlayIo *io, const QdesTrain *train,
                              struct sockaddr_storage *to);

/* Send @train from train->sent on, datagram by datagram.  Returns 0 or a
 * negative errno. */
int qdes_underlay_io_send_each(QdesUnderlayIo *io, int fd, QdesTrain *train);

#endif
