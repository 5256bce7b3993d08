/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Frames from the port to the underlay: learn, look up, cut, queue, send.
 *
 *   qdes_fabric_send() -> forward() -> depart() -> enqueue(), the batch
 *                                               -> send_cut(), a superframe
 *   qdes_fabric_flush() -> qdes_fabric_send_queue() -> send_trains()
 */

#include "qdes/fabric-private.h"

#include <errno.h>
#include <string.h>

#include "qdes/eth.h"
#include "qdes/mss.h"

#define COPY_MAX 2048           /* bytes; longer frames are not worth copying */

/* A frame from the port. */
typedef struct Frame {
    QdesEthHeader eth;
    QdesVnet vnet;
    size_t size;                /* bytes, without its virtio_net_hdr */
    int iovcnt;
    struct iovec iov[QDES_PIECES_MAX];
} Frame;

/* The address @mac of this side was heard from @slot, and is here again. */
static void check_duplicate(QdesFabric *f, const uint8_t *mac,
                            uint32_t slot, int64_t now)
{
    unsigned claims = qdes_claims_count(&f->claims, mac, now);
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);
    char addr[QDES_ADDR_STRLEN];
    char text[QDES_MAC_STRLEN];

    if (claims > 0) {
        QDES_COUNT(&f->stats, mac_duplicate);
    }
    if (claims > 1 && qdes_fabric_first(f, QDES_SAID_DUPLICATE)) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "duplicate MAC address %s: used here and by the peer "
                        "%s (%s); give each guest an address of its own",
                        qdes_mac_format(mac, text), peer->name,
                        qdes_addr_format(&peer->addr, addr));
    }
}

void qdes_fabric_learn(QdesFabric *f, const uint8_t *mac, uint32_t owner,
                       int64_t now)
{
    uint32_t old_owner = QDES_FDB_LOCAL;

    if (!f->config.learning) {
        return;
    }
    switch (qdes_fdb_learn(f->fdb, mac, owner, now, &old_owner)) {
    case QDES_FDB_REFRESHED:
        break;
    case QDES_FDB_LEARNED:
        qdes_fabric_arm(f, now + QDES_TICK_MS);
        break;
    case QDES_FDB_MOVED:
        if (old_owner == QDES_FDB_LOCAL) {
            qdes_claims_add(&f->claims, mac, now);
        } else if (owner == QDES_FDB_LOCAL) {
            check_duplicate(f, mac, old_owner, now);
        }
        break;
    }
}

static void drop(QdesFabric *f, QdesCounter counter)
{
    QDES_COUNT(&f->stats, tx_frames);
    f->stats.value[counter]++;
}

typedef enum Way {
    WAY_DROP,                   /* counted already */
    WAY_FLOOD,
    WAY_PEER,
} Way;

static Way find_way(QdesFabric *f, const uint8_t *dst, int64_t now,
                    uint32_t *slot)
{
    const QdesFdbEntry *entry;

    if (qdes_mac_is_group(dst)) {
        return WAY_FLOOD;
    }
    entry = qdes_fdb_lookup(f->fdb, dst, now);
    if (!entry) {
        if (!f->config.flood_unknown) {
            drop(f, QDES_COUNTER_tx_drop_unknown);
            return WAY_DROP;
        }
        return WAY_FLOOD;
    }
    if (entry->owner == QDES_FDB_LOCAL) {
        drop(f, QDES_COUNTER_tx_drop_local);
        return WAY_DROP;
    }
    *slot = entry->owner;
    return WAY_PEER;
}

/* Count @n frames that the socket would not take. */
static void count_error(QdesFabric *f, int err, unsigned n)
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
    QDES_COUNT_ADD(&f->stats, tx_bytes, size - n * QDES_WIRE_HEADER_SIZE);
    if (n > 1 && train->fits && qdes_underlay_segments(f->underlay)) {
        QDES_COUNT(&f->stats, tx_trains);
    }
}

static bool is_known(const QdesFabric *f, uint32_t slot, const QdesAddr *addr)
{
    return qdes_peers_find(f->peers, addr) == slot;
}

typedef enum Sent {
    SENT,                       /* all that could be; the rest is counted */
    SENT_BLOCKED,               /* the socket is full */
    SENT_LOST_WAY,              /* the peer of the next train is gone */
} Sent;

/*
 * Send trains from *@next to @n, and count them.  A socket also reports errors
 * of earlier datagrams: after the first error, what they tell is taken note
 * of and there is a second try.  If that shows its peer itself to be out of
 * reach, the peer is as good as gone, and its frames may find their way by the
 * group.  Any other error costs what it is about, and not the rest.
 */
static Sent send_trains(QdesFabric *f, QdesTrain *trains, unsigned n,
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
            return SENT_BLOCKED;
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
                    return SENT_LOST_WAY;
                }
            }
            continue;
        }
        count_error(f, -ret, qdes_train_count(train, train->failed));
        train->sent += train->failed;
        *next += train->sent == train->size;
        tries = 0;
    }
    return SENT;
}

static void block(QdesFabric *f)
{
    QDES_COUNT(&f->stats, tx_blocked);
    f->blocked = true;
    qdes_fabric_watch(f);
}

/* The group, or the peer in @slot. */
static void set_destination(QdesFabric *f, QdesTxFrame *to, Way way,
                            uint32_t slot)
{
    QdesTransmit *tx = &f->tx;
    const QdesPeer *peer;

    to->flood = way == WAY_FLOOD;
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

static bool takes_partial(const QdesFabric *f, const QdesTxFrame *to)
{
    return !to->flood && qdes_peers_get(f->peers, to->slot)->capabilities &
                         QDES_WIRE_CAP_CSUM_PARTIAL;
}

/* The queue */

/*
 * The peer of a frame in the queue has gone: look up anew.  Returns false
 * when there is nowhere to go, which is counted.
 */
static bool redirect(QdesFabric *f, QdesTxFrame *frame, int64_t now)
{
    const uint8_t *datagram = f->tx.queue.bytes + frame->offset;
    uint32_t slot = QDES_PEER_NONE;
    Way way = find_way(f, datagram + QDES_WIRE_HEADER_SIZE, now, &slot);

    if (way == WAY_DROP) {
        return false;
    }
    set_destination(f, frame, way, slot);
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
        if (!frame->flood && !is_known(f, frame->slot, &frame->to)) {
            if (n > 0) {
                break;          /* what comes before it first */
            }
            if (!redirect(f, frame, now)) {
                qdes_txq_done(queue, ++at);
                continue;
            }
        }
        end = qdes_txq_train(queue, at, &tx->trains[n], &tx->pieces[n]);
        if (!takes_partial(f, frame)) {
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
    Sent sent;

    while ((n = collect(f, now)) > 0) {
        next = 0;
        sent = send_trains(f, tx->trains, n, &next);
        if (next > 0) {
            qdes_txq_done(&tx->queue, tx->ends[next - 1]);
        }
        if (sent != SENT) {
            /* A part of a train may have left. */
            train = &tx->trains[next];
            qdes_txq_done(&tx->queue, tx->queue.head +
                          qdes_train_count(train, train->sent));
        }
        if (sent == SENT_BLOCKED) {
            block(f);
            return false;
        }
    }
    return true;
}

void qdes_fabric_drop_queue(QdesFabric *f)
{
    QdesTxQueue *queue = &f->tx.queue;

    for (; !qdes_txq_is_empty(queue); qdes_txq_done(queue, queue->head + 1)) {
        drop(f, QDES_COUNTER_tx_drop_link);
    }
}

/*
 * Room for a datagram of @size bytes in the queue, which may have to leave for
 * that; NULL: it cannot.
 */
static uint8_t *make_room(QdesFabric *f, size_t size, int64_t now)
{
    uint8_t *room = qdes_txq_room(&f->tx.queue, size);

    if (!room && qdes_fabric_send_queue(f, now)) {
        room = qdes_txq_room(&f->tx.queue, size);
    }
    return room;
}

/* Queue the datagram whose frame of @size bytes is in @datagram already. */
static void enqueue(QdesFabric *f, QdesTxFrame *to, uint8_t *datagram,
                    size_t size, bool partial)
{
    qdes_wire_encode_header(datagram, QDES_WIRE_DATA,
                            partial ? QDES_WIRE_FLAG_CSUM_PARTIAL : 0,
                            f->config.netid);
    if (f->config.mss_clamp &&
        qdes_mss_clamp(datagram + QDES_WIRE_HEADER_SIZE, size,
                       to->room - QDES_WIRE_HEADER_SIZE, partial)) {
        QDES_COUNT(&f->stats, tx_mss_clamped);
    }
    to->size = QDES_WIRE_HEADER_SIZE + size;
    qdes_txq_add(&f->tx.queue, to);
}

static uint8_t *gather(uint8_t *to, const struct iovec *iov, int iovcnt)
{
    int i;

    for (i = 0; i < iovcnt; i++) {
        memcpy(to, iov[i].iov_base, iov[i].iov_len);
        to += iov[i].iov_len;
    }
    return to;
}

/* Superframes, and what is too long to be copied */

/* Lay out the next trains of the superframe under the knife. */
static unsigned lay_out(QdesFabric *f, const QdesTxFrame *to, bool partial)
{
    QdesTransmit *tx = &f->tx;
    QdesSegmenter *cut = &tx->cut;
    unsigned frames = 0;
    unsigned pieces = 0;
    unsigned n = 0;
    uint8_t *header;
    QdesTrain *train;
    unsigned in_train;
    size_t size;
    int count;

    while (cut->frames > 0 && frames < QDES_POOL_FRAMES &&
           n < QDES_TX_BATCH) {
        train = &tx->trains[n];
        *train = (QdesTrain) {
            .to = to->to,
            .flood = to->flood,
            .slot = to->slot,
            .iov = &tx->pieces[pieces],
            .segment = QDES_WIRE_HEADER_SIZE + cut->frame_size,
        };
        train->fits = train->segment <= to->room;
        for (in_train = 0;
             cut->frames > 0 && frames < QDES_POOL_FRAMES &&
             in_train < QDES_TRAIN_MAX && pieces < QDES_POOL_PIECES &&
             (in_train == 0 ||
              train->size + train->segment <= QDES_TRAIN_BYTES);
             in_train++) {
            header = tx->headers[frames];
            size = qdes_segment_next(cut, header + QDES_WIRE_HEADER_SIZE,
                                     &tx->pieces[pieces + 1],
                                     QDES_POOL_PIECES - pieces - 1, &count);
            if (size == 0) {
                break;
            }
            qdes_wire_encode_header(header, QDES_WIRE_DATA,
                                    partial ? QDES_WIRE_FLAG_CSUM_PARTIAL : 0,
                                    f->config.netid);
            tx->pieces[pieces].iov_base = header;
            tx->pieces[pieces].iov_len = QDES_WIRE_HEADER_SIZE +
                                         cut->headers_size;
            pieces += 1 + count;
            train->iovcnt += 1 + count;
            train->size += QDES_WIRE_HEADER_SIZE + size;
            frames++;
        }
        if (in_train == 0) {
            break;
        }
        n++;
    }
    return n;
}

/* Copy the datagrams of @train that have not left into the queue. */
static void keep(QdesFabric *f, QdesTxFrame *to, const QdesTrain *train)
{
    struct iovec iov[QDES_PIECES_MAX + 2];
    size_t offset = train->sent;
    uint8_t *room;
    size_t size;
    int n;

    for (; offset < train->size; offset += size) {
        size = MIN(train->segment, train->size - offset);
        room = qdes_txq_room(&f->tx.queue, size);
        n = qdes_train_slice(train, offset, size, iov, G_N_ELEMENTS(iov));
        if (!room || n < 0) {
            drop(f, QDES_COUNTER_tx_drop_nobufs);
            continue;
        }
        gather(room, iov, n);
        to->size = size;
        qdes_txq_add(&f->tx.queue, to);
    }
}

typedef enum Departure {
    DEPARTED,                   /* sent, queued, or counted as dropped */
    DEPARTED_NOT,               /* not taken: the socket is full */
    DEPARTED_LOST_WAY,          /* not sent: look up anew */
} Departure;

/*
 * Send the trains laid out, and lay out more until the superframe has left.
 * It is borrowed: when the socket fills up in its midst, the rest is copied.
 */
static Departure send_laid_out(QdesFabric *f, QdesTxFrame *to, unsigned n,
                               bool partial)
{
    QdesTrain *trains = f->tx.trains;
    bool begun = false;
    unsigned next;
    unsigned i;
    Sent sent;

    while (n > 0) {
        next = 0;
        sent = send_trains(f, trains, n, &next);
        begun |= sent == SENT || next > 0 || trains[next].sent > 0;
        if (!begun) {
            if (sent == SENT_BLOCKED) {
                block(f);
                return DEPARTED_NOT;
            }
            return DEPARTED_LOST_WAY;
        }
        if (sent == SENT_LOST_WAY) {
            for (i = next; i < n; i++) {
                count_error(f, EHOSTUNREACH,
                            qdes_train_count(&trains[i], trains[i].size -
                                                         trains[i].sent));
            }
            count_error(f, EHOSTUNREACH, f->tx.cut.frames);
            return DEPARTED;
        }
        if (sent == SENT_BLOCKED) {
            block(f);
        }
        do {
            for (i = next; i < n; i++) {
                keep(f, to, &trains[i]);
            }
            n = lay_out(f, to, partial);
            next = 0;
        } while (f->blocked && n > 0);
    }
    return DEPARTED;
}

static Departure send_cut(QdesFabric *f, QdesTxFrame *to, bool partial,
                          int64_t now)
{
    bool is_superframe = f->tx.cut.frames > 1;
    Departure departure;

    if (!qdes_fabric_send_queue(f, now)) {
        return DEPARTED_NOT;
    }
    departure = send_laid_out(f, to, lay_out(f, to, partial), partial);
    if (is_superframe && departure == DEPARTED) {
        QDES_COUNT(&f->stats, tx_superframes);
    }
    return departure;
}

/* As it is, in one datagram. */
static Departure send_long(QdesFabric *f, QdesTxFrame *to, const Frame *frame,
                           int64_t now)
{
    QdesTransmit *tx = &f->tx;
    size_t size = QDES_WIRE_HEADER_SIZE + frame->size;

    if (!qdes_fabric_send_queue(f, now)) {
        return DEPARTED_NOT;
    }
    tx->cut.frames = 0;
    qdes_wire_encode_header(tx->headers[0], QDES_WIRE_DATA, 0,
                            f->config.netid);
    tx->pieces[0].iov_base = tx->headers[0];
    tx->pieces[0].iov_len = QDES_WIRE_HEADER_SIZE;
    memcpy(&tx->pieces[1], frame->iov, frame->iovcnt * sizeof(*frame->iov));
    tx->trains[0] = (QdesTrain) {
        .to = to->to,
        .flood = to->flood,
        .fits = size <= to->room,
        .slot = to->slot,
        .iov = tx->pieces,
        .iovcnt = 1 + frame->iovcnt,
        .size = size,
        .segment = size,
    };
    return send_laid_out(f, to, 1, false);
}

static Departure send_small(QdesFabric *f, QdesTxFrame *to, const Frame *frame,
                            int64_t now)
{
    uint8_t *room = make_room(f, QDES_WIRE_HEADER_SIZE + frame->size, now);

    if (!room) {
        return DEPARTED_NOT;
    }
    gather(room + QDES_WIRE_HEADER_SIZE, frame->iov, frame->iovcnt);
    enqueue(f, to, room, frame->size, false);
    return DEPARTED;
}

/* One frame that only lacked its checksum. */
static Departure send_small_cut(QdesFabric *f, QdesTxFrame *to, bool partial,
                                int64_t now)
{
    QdesSegmenter *cut = &f->tx.cut;
    struct iovec *pieces = f->tx.pieces;
    uint8_t *room = make_room(f, QDES_WIRE_HEADER_SIZE + cut->frame_size, now);
    size_t size;
    int count;

    if (!room) {
        return DEPARTED_NOT;
    }
    size = qdes_segment_next(cut, room + QDES_WIRE_HEADER_SIZE, pieces,
                             QDES_POOL_PIECES, &count);
    gather(room + QDES_WIRE_HEADER_SIZE + cut->headers_size, pieces, count);
    enqueue(f, to, room, size, partial);
    return DEPARTED;
}

static Departure depart(QdesFabric *f, QdesTxFrame *to, const Frame *frame,
                        int64_t now)
{
    QdesSegmenter *cut = &f->tx.cut;
    size_t max_frame = to->room - QDES_WIRE_HEADER_SIZE;
    bool partial = takes_partial(f, to);

    if (!frame->vnet.needs_csum && !frame->vnet.gso &&
        frame->size <= MIN(max_frame, COPY_MAX)) {
        return send_small(f, to, frame, now);
    }
    switch (qdes_segment_begin(cut, &frame->vnet, frame->iov, frame->iovcnt,
                               frame->size, max_frame, partial)) {
    case QDES_SEGMENT_BAD:
        drop(f, QDES_COUNTER_tx_drop_offload);
        return DEPARTED;
    case QDES_SEGMENT_CUT:
        partial = cut->partial;
        if (cut->frames == 1 && cut->frame_size <= COPY_MAX) {
            return send_small_cut(f, to, partial, now);
        }
        if (QDES_WIRE_HEADER_SIZE + cut->frame_size > QDES_TRAIN_BYTES) {
            break;
        }
        return send_cut(f, to, partial, now);
    case QDES_SEGMENT_WHOLE:
        if (frame->size > QDES_FRAME_MAX) {
            break;
        }
        if (frame->size <= COPY_MAX) {
            return send_small(f, to, frame, now);
        }
        return send_long(f, to, frame, now);
    }
    drop(f, QDES_COUNTER_tx_drop_long);
    return DEPARTED;
}

/* Look up and send.  Returns false when the frame was not taken. */
static bool forward(QdesFabric *f, const Frame *frame, int64_t now)
{
    uint32_t slot = QDES_PEER_NONE;
    Departure departure;
    QdesTxFrame to;
    Way way;

    /* Each time that the way is lost, a peer is forgotten: it ends. */
    do {
        way = find_way(f, frame->eth.dst, now, &slot);
        if (way == WAY_DROP) {
            return true;
        }
        set_destination(f, &to, way, slot);
        departure = depart(f, &to, frame, now);
    } while (departure == DEPARTED_LOST_WAY);
    return departure == DEPARTED;
}

/*
 * Sort out what the port handed over.  Returns false when it is no frame that
 * can be sent, which is counted.
 */
static bool take(QdesFabric *f, Frame *frame, const struct iovec *iov,
                 int iovcnt)
{
    size_t skip = f->port.vnet_size;
    size_t size = 0;
    size_t part;
    int i;

    for (i = 0; i < iovcnt; i++) {
        size += iov[i].iov_len;
    }
    if (!f->link_up) {
        drop(f, QDES_COUNTER_tx_drop_link);
        return false;
    }
    if (size < skip + QDES_FRAME_MIN) {
        drop(f, QDES_COUNTER_tx_drop_short);
        return false;
    }
    if (size > skip + QDES_SUPERFRAME_MAX) {
        drop(f, QDES_COUNTER_tx_drop_long);
        return false;
    }
    frame->size = size - skip;
    if (iovcnt > QDES_PIECES_MAX) {
        gather(f->tx.joined, iov, iovcnt);
        frame->iov[0].iov_base = f->tx.joined;
        frame->iov[0].iov_len = size;
        frame->iovcnt = 1;
    } else {
        memcpy(frame->iov, iov, iovcnt * sizeof(*iov));
        frame->iovcnt = iovcnt;
    }
    frame->vnet = (QdesVnet) { .needs_csum = false };
    if (skip) {
        uint8_t vnet[QDES_VNET_MAX];
        size_t got = 0;

        for (i = 0; got < skip; i++) {
            part = MIN(skip - got, frame->iov[i].iov_len);
            memcpy(vnet + got, frame->iov[i].iov_base, part);
            frame->iov[i].iov_base = (uint8_t *)frame->iov[i].iov_base + part;
            frame->iov[i].iov_len -= part;
            got += part;
        }
        qdes_vnet_decode(&frame->vnet, vnet, f->port.vnet_big_endian);
    }
    memset(&frame->eth, 0, sizeof(frame->eth));
    qdes_eth_peek(&frame->eth, frame->iov, frame->iovcnt);
    return true;
}

bool qdes_fabric_send(QdesFabric *f, const struct iovec *iov, int iovcnt,
                      int64_t now)
{
    Frame frame;

    if (f->blocked) {
        return false;
    }
    if (!take(f, &frame, iov, iovcnt)) {
        return true;
    }
    if (qdes_mac_is_source(frame.eth.src)) {
        qdes_fabric_learn(f, frame.eth.src, QDES_FDB_LOCAL, now);
    }
    return forward(f, &frame, now);
}
