/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The batch: frames wait in a queue, and leave as trains.
 *
 *   qdes_fabric_send_queue() -> collect() -> qdes_fabric_send_trains()
 *
 * A frame that is flooded leaves for the group first.  Then it, and what waits
 * right behind it and is like it, are copied to one peer after the other.
 */

#include "qdes/fabric-private.h"

static bool is_superframe(const QdesFabric *f, const QdesTxFrame *frame)
{
    return frame->header_size == QDES_WIRE_SUPERFRAME_SIZE + f->overhead;
}

/* The datagram of a frame in the queue, as long as it is not sealed. */
static uint8_t *plain_datagram(QdesFabric *f, const QdesTxFrame *frame)
{
    return f->tx.queue.bytes + frame->offset +
           (f->sealing ? QDES_SEAL_LEAD : 0);
}

/* Must the frame in the queue go another way than was planned? */
static bool has_lost_way(const QdesFabric *f, const QdesTxFrame *frame)
{
    return !frame->flood &&
           (!qdes_fabric_is_known(f, frame->slot, &frame->to) ||
            (is_superframe(f, frame) &&
             !qdes_fabric_takes_superframes(f, frame)));
}

/*
 * Look up anew.  Returns false when there is nowhere to go, which is counted:
 * a superframe only its own peer was known to take, and what is sealed already
 * cannot be looked into.
 */
static bool redirect(QdesFabric *f, QdesTxFrame *frame, int64_t now)
{
    const uint8_t *datagram = plain_datagram(f, frame);
    uint32_t slot = QDES_PEER_NONE;
    QdesWay way;

    if (frame->copy) {
        qdes_fabric_lose_copies(f, frame->relayed, 1);
        return false;
    }
    if (is_superframe(f, frame) || frame->sealed) {
        qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_unreachable);
        return false;
    }
    way = qdes_fabric_find_way(f, datagram + QDES_WIRE_HEADER_SIZE, now,
                               &slot);
    if (way == QDES_WAY_DROP) {
        return false;
    }
    if (way == QDES_WAY_FLOOD) {
        qdes_storm_charge(&f->storm, 1);
    }
    qdes_fabric_set_destination(f, frame, way, slot);
    return true;
}

static void finish_queued(QdesFabric *f, const QdesTxFrame *frame)
{
    uint8_t *datagram = plain_datagram(f, frame);

    if (frame->sealed) {
        return;                 /* every port that opens it finishes it */
    }
    if (datagram[3] & QDES_WIRE_FLAG_CSUM_PARTIAL) {
        qdes_packet_finish(datagram + QDES_WIRE_HEADER_SIZE,
                           frame->size - frame->header_size);
        f->config.encap->encode(datagram,
                                datagram[3] & QDES_WIRE_FLAG_RELAYED,
                                f->config.netid);
    }
}

/*
 * The frames that are copied together with number @at, as a train to nobody.
 * They stay the same: nothing is queued behind them before they have left.
 */
static void begin_run(QdesFabric *f, unsigned at, QdesTrain *run,
                      struct iovec *iov, int64_t now)
{
    QdesTxFrame *frame = &f->tx.queue.frames[at];
    unsigned end = qdes_txq_train(&f->tx.queue, at, run, iov);
    unsigned n = end - at;

    run->flood = false;
    run->copy = true;
    if (!frame->run_end && !f->config.has_group) {
        qdes_fabric_count_copied(f, n, run->size - n * run->header_size);
    }
    frame->run_end = end;
    if (f->sealing) {
        qdes_sealing_seal_queued(f, at, end, now);
    }
}

/*
 * Lay out copies of the run that begins with number *@at, as far as they go
 * into the batch.  When they all do, *@at is behind it.
 */
static unsigned lay_out_copies(QdesFabric *f, unsigned *at, unsigned n,
                               int64_t now)
{
    QdesTransmit *tx = &f->tx;
    QdesTxFrame *frame = &tx->queue.frames[*at];
    uint32_t slot = frame->copied;
    QdesTrain run;
    QdesTxFrame to;

    begin_run(f, *at, &run, &tx->pieces[n], now);
    while (n < QDES_TX_BATCH) {
        slot = qdes_peers_next_copy(f->peers, slot);
        if (slot == QDES_PEER_NONE) {
            *at = frame->run_end;
            if (n > 0) {
                tx->marks[n - 1].head = *at;
                tx->marks[n - 1].copied = QDES_PEER_NONE;
            } else {
                qdes_txq_done(&tx->queue, *at);
            }
            break;
        }
        qdes_fabric_set_destination(f, &to, QDES_WAY_PEER, slot);
        run.to = to.to;
        run.from = qdes_peers_at(f->peers, slot);
        run.slot = slot;
        run.fits = run.segment <= to.room;
        tx->trains[n] = run;
        tx->marks[n].head = *at;
        tx->marks[n].group_done = 0;
        tx->marks[n++].copied = slot;
    }
    return n;
}

/* Lay out as many trains as can leave in one call. */
static unsigned collect(QdesFabric *f, int64_t now)
{
    QdesTransmit *tx = &f->tx;
    QdesTxQueue *queue = &tx->queue;
    unsigned at = queue->head;
    QdesTxFrame *frame;
    unsigned end;
    unsigned i;
    unsigned n = 0;

    while (at < queue->tail && n < QDES_TX_BATCH) {
        frame = &queue->frames[at];
        if (frame->flood && frame->group_done) {
            n = lay_out_copies(f, &at, n, now);
            continue;
        }
        if (has_lost_way(f, frame)) {
            if (n > 0) {
                break;          /* what comes before it first */
            }
            if (!redirect(f, frame, now)) {
                qdes_txq_done(queue, ++at);
                continue;
            }
        }
        end = qdes_txq_train(queue, at, &tx->trains[n], &tx->pieces[n]);
        tx->trains[n].from = qdes_peers_at(f->peers, frame->slot);
        if (!qdes_fabric_takes_partial(f, frame)) {
            /* Its peer may have accepted them when they were queued. */
            for (i = at; i < end; i++) {
                finish_queued(f, &queue->frames[i]);
            }
        }
        if (f->sealing) {
            qdes_sealing_seal_queued(f, at, end, now);
        }
        tx->marks[n].copied = QDES_PEER_NONE;
        tx->marks[n].group_done = 0;
        if (frame->flood && qdes_peers_copies(f->peers)) {
            tx->marks[n].head = at;
            tx->marks[n++].group_done = end;
            break;              /* the copies next */
        }
        at = end;
        tx->marks[n++].head = at;
    }
    return n;
}

static void mark_group_done(QdesTxQueue *queue, unsigned end)
{
    unsigned at;

    for (at = queue->head; at < end; at++) {
        queue->frames[at].group_done = true;
    }
}

/* The first @n trains have left. */
static void take_off(QdesFabric *f, unsigned n)
{
    QdesTransmit *tx = &f->tx;
    QdesTxQueue *queue = &tx->queue;

    if (n > 0) {
        qdes_txq_done(queue, tx->marks[n - 1].head);
        mark_group_done(queue, tx->marks[n - 1].group_done);
        if (tx->marks[n - 1].copied) {
            queue->frames[queue->head].copied = tx->marks[n - 1].copied;
        }
    }
}

/* A part of train number @n has left, which is the next. */
static void take_off_part(QdesFabric *f, unsigned n)
{
    QdesTransmit *tx = &f->tx;
    const QdesTrain *train = &tx->trains[n];
    QdesTxQueue *queue = &tx->queue;
    unsigned part = qdes_train_count(train, train->sent);

    if (part == 0) {
        return;
    }
    if (train->copy && queue->frames[queue->head].flood) {
        /* Of a copy, what is left is lost: it is not worth its state. */
        qdes_fabric_lose_copies(f, train->relayed,
                                qdes_train_count(train, train->size) - part);
        take_off(f, n + 1);
    } else if (tx->marks[n].group_done) {
        mark_group_done(queue, queue->head + part);
    } else {
        qdes_txq_done(queue, queue->head + part);
    }
}

bool qdes_fabric_send_queue(QdesFabric *f, int64_t now)
{
    unsigned next;
    unsigned n;
    QdesSent sent;

    while ((n = collect(f, now)) > 0) {
        next = 0;
        sent = qdes_fabric_send_trains(f, f->tx.trains, n, &next);
        take_off(f, next);
        if (sent != QDES_SENT) {
            take_off_part(f, next);
        }
        if (sent == QDES_SENT_BLOCKED) {
            qdes_fabric_block(f);
            return false;
        }
    }
    return true;
}

void qdes_fabric_drop_queue(QdesFabric *f)
{
    QdesTxQueue *queue = &f->tx.queue;
    const QdesTxFrame *frame;

    while (!qdes_txq_is_empty(queue)) {
        frame = &queue->frames[queue->head];
        if (frame->run_end) {
            qdes_txq_done(queue, frame->run_end);   /* counted already */
            continue;
        }
        if (frame->copy) {
            qdes_fabric_lose_copies(f, frame->relayed, 1);
        } else if (!frame->group_done || !f->config.has_group) {
            qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_link);
        }
        qdes_txq_done(queue, queue->head + 1);
    }
}
