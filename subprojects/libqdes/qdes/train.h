/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Trains: datagrams that leave in one call
 *
 * A train is a row of datagrams to one destination, laid end to end in an
 * iovec: all have the same size but the last, which may be shorter.  A kernel
 * with UDP_SEGMENT (udp(7)) takes it as it is; others are given its datagrams
 * one by one.  A single datagram is a train of one.
 *
 * QdesTxQueue collects copies of small frames until they leave, end to end,
 * so that frames of one size to one peer are a train without further work.
 * Trains leave in the order in which their frames came.
 *
 * Limits: QDES_TRAIN_MAX datagrams (the kernel's UDP_MAX_SEGMENTS) and
 * QDES_TRAIN_BYTES bytes in a train; QDES_TXQ_FRAMES and QDES_TXQ_BYTES in
 * the queue, which has all its memory in itself.
 *
 * Ownership: a train borrows its iovec and what that points to.
 *
 * Pure.
 */

#ifndef QDES_TRAIN_H
#define QDES_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "qdes/addr.h"

#define QDES_TRAIN_MAX 64       /* datagrams */
#define QDES_TRAIN_BYTES 65507  /* the longest payload of UDP over IPv4 */
#define QDES_TXQ_FRAMES 256
#define QDES_TXQ_BYTES (128 * 1024)

typedef struct QdesTrain {
    QdesAddr to;                /* not used with @flood */
    const QdesAddr *from;       /* the address of this host that it leaves
                                   from; NULL: as routes say */
    bool flood;                 /* to the group */
    bool copy;                  /* of what is flooded, to one peer */
    bool relayed;               /* such a copy, of a frame from another peer */
    bool fits;                  /* no datagram is longer than the path's MTU */
    uint32_t slot;              /* of the peer */
    uint32_t header_size;       /* bytes around each frame */
    const struct iovec *iov;
    int iovcnt;
    size_t size;                /* bytes in all */
    size_t segment;             /* bytes of each datagram but the last */
    size_t sent;                /* bytes of those that have left */
    size_t failed;              /* bytes of those that an error is about */
} QdesTrain;

/* Datagrams among @size bytes of a train that begin with one. */
static inline unsigned qdes_train_count(const QdesTrain *train, size_t size)
{
    return (size + train->segment - 1) / train->segment;
}

/*
 * The @size bytes from @offset on, as pieces in @out.  Returns their number,
 * or -1 when @max do not suffice.
 */
int qdes_train_slice(const QdesTrain *train, size_t offset, size_t size,
                     struct iovec *out, int max);

typedef struct QdesTxFrame {
    QdesAddr to;
    bool flood;                 /* to the group, and copies to some peers */
    bool copy;                  /* one of those copies */
    bool sealed;                /* it is; else it stands behind the room for
                                   that, if the fabric seals */
    bool relayed;               /* it came from another peer */
    bool group_done;            /* flood: only copies are left to send */
    uint32_t copied;            /* the slot that got the last of them */
    unsigned run_end;           /* frames up to this number are copied together
                                   with it; 0: not known yet */
    uint32_t slot;
    uint32_t header_size;       /* bytes around the frame */
    uint32_t offset, size;      /* of the datagram, in bytes[] */
    uint32_t room;              /* bytes of the path's largest datagram */
} QdesTxFrame;

typedef struct QdesTxQueue {
    unsigned head, tail;        /* frames from head up to tail wait */
    uint32_t used;              /* bytes */
    QdesTxFrame frames[QDES_TXQ_FRAMES];
    uint8_t bytes[QDES_TXQ_BYTES];
} QdesTxQueue;

static inline bool qdes_txq_is_empty(const QdesTxQueue *q)
{
    return q->head == q->tail;
}

/* Room for a datagram of @size bytes, or NULL.  It counts only when
 * qdes_txq_add() follows. */
uint8_t *qdes_txq_room(QdesTxQueue *q, size_t size);

/* Add the datagram written there; @frame tells all but its offset. */
void qdes_txq_add(QdesTxQueue *q, const QdesTxFrame *frame);

/*
 * The longest train that begins with the frame number @from (the queue's head
 * or later); @iov holds its one piece.  Returns the number of the frame
 * behind it.
 */
unsigned qdes_txq_train(const QdesTxQueue *q, unsigned from, QdesTrain *train,
                        struct iovec *iov);

/* Frames before number @upto have left, or were given up. */
void qdes_txq_done(QdesTxQueue *q, unsigned upto);

#endif
