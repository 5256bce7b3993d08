/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Trains: datagrams that leave in one call. */

#include "qdes/train.h"

int qdes_train_slice(const QdesTrain *train, size_t offset, size_t size,
                     struct iovec *out, int max)
{
    size_t part;
    int n = 0;
    int i;

    for (i = 0; i < train->iovcnt && size > 0; i++) {
        if (offset >= train->iov[i].iov_len) {
            offset -= train->iov[i].iov_len;
            continue;
        }
        if (n == max) {
            return -1;
        }
        part = MIN(train->iov[i].iov_len - offset, size);
        out[n].iov_base = (uint8_t *)train->iov[i].iov_base + offset;
        out[n++].iov_len = part;
        size -= part;
        offset = 0;
    }
    return n;
}

uint8_t *qdes_txq_room(QdesTxQueue *q, size_t size)
{
    if (qdes_txq_is_empty(q)) {
        q->head = q->tail = 0;
        q->used = 0;
    }
    if (q->tail == QDES_TXQ_FRAMES || size > QDES_TXQ_BYTES - q->used) {
        return NULL;
    }
    return q->bytes + q->used;
}

void qdes_txq_add(QdesTxQueue *q, const QdesTxFrame *frame)
{
    QdesTxFrame *to = &q->frames[q->tail++];

    *to = *frame;
    to->offset = q->used;
    q->used += frame->size;
}

static bool goes_with(const QdesTxFrame *first, const QdesTxFrame *frame)
{
    return frame->slot == first->slot && frame->flood == first->flood &&
           frame->copy == first->copy &&
           frame->relayed == first->relayed &&
           frame->group_done == first->group_done &&
           frame->size <= first->size &&
           frame->header_size == first->header_size &&
           (first->flood || qdes_addr_equal(&frame->to, &first->to));
}

unsigned qdes_txq_train(const QdesTxQueue *q, unsigned from, QdesTrain *train,
                        struct iovec *iov)
{
    const QdesTxFrame *first = &q->frames[from];
    size_t size = first->size;
    unsigned next = from + 1;

    /* What does not fit its path is cut by IP, which no train survives. */
    if (first->size <= first->room) {
        while (next < q->tail && next - from < QDES_TRAIN_MAX &&
               q->frames[next - 1].size == first->size &&
               goes_with(first, &q->frames[next]) &&
               size + q->frames[next].size <= QDES_TRAIN_BYTES) {
            size += q->frames[next++].size;
        }
    }
    iov->iov_base = (uint8_t *)q->bytes + first->offset;
    iov->iov_len = size;
    *train = (QdesTrain) {
        .to = first->to,
        .flood = first->flood,
        .copy = first->copy,
        .relayed = first->relayed,
        .fits = first->size <= first->room,
        .slot = first->slot,
        .header_size = first->header_size,
        .iov = iov,
        .iovcnt = 1,
        .size = size,
        .segment = first->size,
    };
    return next;
}

void qdes_txq_done(QdesTxQueue *q, unsigned upto)
{
    q->head = upto;
}
