/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The last part of the way out: where a frame goes, the batch, and trains
 * that leave, are counted, or lose their way.
 *
 *   qdes_fabric_send_queue() -> collect() -> qdes_fabric_send_trains()
 */

#include "qdes/fabric-private.h"

#include <errno.h>

void qdes_fabric_drop_frame(QdesFabric *f, QdesCounter counter)
{
    QDES_COUNT(&f->stats, tx_frames);
    f->stats.value[counter]++;
}

bool qdes_fabric_may_flood(QdesFabric *f, int64_t now)
{
    if (qdes_storm_allows(&f->storm, now)) {
        return true;
    }
    qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_storm);
    if (qdes_fabric_first(f, QDES_SAID_STORM)) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "more than %u broadcast, multicast and unknown "
                        "frames per second from this port: the rest is "
                        "dropped (tx-drop-storm); is there a loop behind it? "
                        "storm-control= sets the limit", f->storm.rate);
    }
    return false;
}

QdesWay qdes_fabric_find_way(QdesFabric *f, const uint8_t *dst, int64_t now,
                             uint32_t *slot)
{
    const QdesFdbEntry *entry;
    const QdesStatic *fixed;

    if (qdes_mac_is_group(dst)) {
        return QDES_WAY_FLOOD;
    }
    fixed = qdes_statics_find(f->statics, dst);
    if (fixed && !fixed->local) {
        *slot = qdes_peers_find(f->peers, &fixed->peer);
        if (*slot != QDES_PEER_NONE) {
            return QDES_WAY_PEER;
        }
    }
    entry = fixed ? NULL : qdes_fdb_lookup(f->fdb, dst, now);
    if (!entry && !(fixed && fixed->local)) {
        if (!f->config.flood_unknown) {
            qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_unknown);
            return QDES_WAY_DROP;
        }
        return QDES_WAY_FLOOD;
    }
    if (!entry || entry->owner == QDES_FDB_LOCAL) {
        qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_local);
        return QDES_WAY_DROP;
    }
    *slot = entry->owner;
    return QDES_WAY_PEER;
}

/* Count @n frames that the socket would not take. */
void qdes_fabric_count_error(QdesFabric *f, int err, unsigned n)
{
    QDES_COUNT_ADD(&f->stats, tx_frames, n);
    switch (err) {
    case ENODEV:
        QDES_COUNT_ADD(&f->stats, tx_drop_no_group, n);
        break;
    case ENOBUFS:
    case ENOMEM:
        QDES_COUNT_ADD(&f->stats, tx_drop_nobufs, n);
        break;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL:
        QDES_COUNT_ADD(&f->stats, tx_drop_unreachable, n);
        break;
    case EPERM:
    case EACCES:
        QDES_COUNT_ADD(&f->stats, tx_drop_denied, n);
        if (qdes_fabric_first(f, QDES_SAID_DENIED)) {
            qdes_fabric_say(f, QDES_LOG_WARNING,
                            "a firewall of this host forbids sending; such "
                            "frames are dropped (tx-drop-denied)");
        }
        break;
    case EMSGSIZE:
        QDES_COUNT_ADD(&f->stats, tx_drop_too_big, n);
        break;
    default:
        QDES_COUNT_ADD(&f->stats, tx_drop_error, n);
        break;
    }
}

static bool is_unreachable(int err)
{
    return err == ENETUNREACH || err == EHOSTUNREACH || err == ECONNREFUSED;
}

bool qdes_fabric_may_be_late(int err)
{
    return err != EAGAIN && err != ENOBUFS && err != ENOMEM &&
           err != EPERM && err != ENODEV;
}

/* Count what is in @size bytes of @train, which have left. */
static void count_sent(QdesFabric *f, const QdesTrain *train, size_t size)
{
    unsigned n = qdes_train_count(train, size);

    QDES_COUNT_ADD(&f->stats, tx_frames, n);
    if (train->flood) {
        QDES_COUNT_ADD(&f->stats, tx_flooded, n);
    } else {
        QDES_COUNT_ADD(&f->stats, tx_unicast, n);
    }
    QDES_COUNT_ADD(&f->stats, tx_bytes, size - n * train->header_size);
    if (n > 1 && train->fits && qdes_underlay_segments(f->underlay)) {
        QDES_COUNT(&f->stats, tx_trains);
    }
}

static bool is_known(const QdesFabric *f, uint32_t slot, const QdesAddr *addr)
{
    return qdes_peers_find(f->peers, addr) == slot;
}

/*
 * Send trains from *@next to @n, and count them.  A socket also reports errors
 * of earlier datagrams: after the first error, what they tell is taken note
 * of and there is a second try.  If that shows its peer itself to be out of
 * reach, the peer is as good as gone, and its frames may find their way by the
 * group.  Any other error costs what it is about, and not the rest.
 */
QdesSent qdes_fabric_send_trains(QdesFabric *f, QdesTrain *trains, unsigned n,
                                 unsigned *next)
{
    QdesTrain *train;
    unsigned tries = 0;
    size_t before;
    bool fitted;
    int ret;

    while (*next < n) {
        train = &trains[*next];
        fitted = train->fits;
        before = train->sent;
        ret = qdes_underlay_send(f->underlay, train, n - *next);
        if (fitted && !train->fits) {
            f->paths++;         /* what is known of paths is out of date */
        }
        count_sent(f, train, train->sent - before);
        if (train->sent > before) {
            tries = 0;
        }
        if (ret > 0) {
            while (--ret > 0) {
                train = &trains[++*next];
                count_sent(f, train, train->size);
            }
            (*next)++;
            continue;
        }
        if (ret == -EAGAIN) {
            return QDES_SENT_BLOCKED;
        }
        if (ret == -EMSGSIZE) {
            f->paths++;
        }
        if (qdes_fabric_may_be_late(-ret) && ++tries < 3) {
            qdes_fabric_forget_unreachable(f);
            if (!train->flood) {
                if (tries == 2 && is_unreachable(-ret) &&
                    is_known(f, train->slot, &train->to)) {
                    QDES_COUNT(&f->stats, peers_unreachable);
                    qdes_fabric_forget(f, train->slot);
                }
                if (!is_known(f, train->slot, &train->to)) {
                    return QDES_SENT_LOST_WAY;
                }
            }
            continue;
        }
        qdes_fabric_count_error(f, -ret,
                                qdes_train_count(train, train->failed));
        train->sent += train->failed;
        *next += train->sent == train->size;
        tries = 0;
    }
    return QDES_SENT;
}

void qdes_fabric_block(QdesFabric *f)
{
    QDES_COUNT(&f->stats, tx_blocked);
    f->blocked = true;
    qdes_fabric_watch(f);
}

/* The group, or the peer in @slot. */
void qdes_fabric_set_destination(QdesFabric *f, QdesTxFrame *to, QdesWay way,
                                 uint32_t slot)
{
    QdesTransmit *tx = &f->tx;
    const QdesPeer *peer;

    to->flood = way == QDES_WAY_FLOOD;
    if (to->flood) {
        if (tx->group_room_as_of != f->paths) {
            tx->group_room = qdes_underlay_room(f->underlay, NULL);
            tx->group_room_as_of = f->paths;
        }
        to->slot = QDES_PEER_NONE;
        to->room = tx->group_room;
        return;
    }
    peer = qdes_peers_get(f->peers, slot);
    if (peer->room_as_of != f->paths) {
        qdes_peers_set_room(f->peers, slot,
                            qdes_underlay_room(f->underlay, &peer->addr),
                            f->paths);
    }
    to->slot = slot;
    to->to = peer->addr;
    to->room = peer->room;
    if (peer->mtu) {
        to->room = MIN(to->room, peer->mtu + QDES_WIRE_HEADER_SIZE);
    }
}

bool qdes_fabric_takes_partial(const QdesFabric *f, const QdesTxFrame *to)
{
    return !to->flood && qdes_peers_get(f->peers, to->slot)->capabilities &
                         QDES_WIRE_CAP_CSUM_PARTIAL;
}

bool qdes_fabric_takes_superframes(const QdesFabric *f, const QdesTxFrame *to)
{
    return f->config.superframes && qdes_fabric_takes_partial(f, to) &&
           qdes_peers_get(f->peers, to->slot)->capabilities &
           QDES_WIRE_CAP_SUPERFRAME;
}

/* The queue */

static bool is_superframe(const QdesTxFrame *frame)
{
    return frame->header_size == QDES_WIRE_SUPERFRAME_SIZE;
}

/* Must the frame in the queue go another way than was planned? */
static bool has_lost_way(const QdesFabric *f, const QdesTxFrame *frame)
{
    return !frame->flood &&
           (!is_known(f, frame->slot, &frame->to) ||
            (is_superframe(frame) &&
             !qdes_fabric_takes_superframes(f, frame)));
}

/*
 * Look up anew.  Returns false when there is nowhere to go, which is counted:
 * a superframe only its own peer was known to take.
 */
static bool redirect(QdesFabric *f, QdesTxFrame *frame, int64_t now)
{
    const uint8_t *datagram = f->tx.queue.bytes + frame->offset;
    uint32_t slot = QDES_PEER_NONE;
    QdesWay way;

    if (is_superframe(frame)) {
        qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_unreachable);
        return false;
    }
    way = qdes_fabric_find_way(f, datagram + QDES_WIRE_HEADER_SIZE, now,
                               &slot);
    if (way == QDES_WAY_DROP ||
        (way == QDES_WAY_FLOOD && !qdes_fabric_may_flood(f, now))) {
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
    uint8_t *datagram = f->tx.queue.bytes + frame->offset;

    if (datagram[3] & QDES_WIRE_FLAG_CSUM_PARTIAL) {
        qdes_packet_finish(datagram + QDES_WIRE_HEADER_SIZE,
                           frame->size - QDES_WIRE_HEADER_SIZE);
        qdes_wire_encode_header(datagram, QDES_WIRE_DATA, 0, f->config.netid);
    }
}

/* Lay out as many trains as can leave in one call. */
static unsigned collect(QdesFabric *f, int64_t now)
{
    QdesTransmit *tx = &f->tx;
    QdesTxQueue *queue = &tx->queue;
    unsigned at = queue->head;
    QdesTxFrame *frame;
    unsigned end;
    unsigned n = 0;

    while (at < queue->tail && n < QDES_TX_BATCH) {
        frame = &queue->frames[at];
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
        if (!qdes_fabric_takes_partial(f, frame)) {
            /* Its peer may have accepted them when they were queued. */
            for (; at < end; at++) {
                finish_queued(f, &queue->frames[at]);
            }
        }
        tx->ends[n++] = at = end;
    }
    return n;
}

bool qdes_fabric_send_queue(QdesFabric *f, int64_t now)
{
    QdesTransmit *tx = &f->tx;
    QdesTrain *train;
    unsigned next;
    unsigned n;
    QdesSent sent;

    while ((n = collect(f, now)) > 0) {
        next = 0;
        sent = qdes_fabric_send_trains(f, tx->trains, n, &next);
        if (next > 0) {
            qdes_txq_done(&tx->queue, tx->ends[next - 1]);
        }
        if (sent != QDES_SENT) {
            /* A part of a train may have left. */
            train = &tx->trains[next];
            qdes_txq_done(&tx->queue, tx->queue.head +
                          qdes_train_count(train, train->sent));
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

    for (; !qdes_txq_is_empty(queue); qdes_txq_done(queue, queue->head + 1)) {
        qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_link);
    }
}
