/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Frames from the port to the underlay: learn, look up, cut, queue, send.
 *
 *   qdes_fabric_send() -> forward() -> depart() -> enqueue(), the batch
 *                                               -> send_cut(), a superframe
 *
 *   qdes_fabric_send_on() -> depart(), a frame that came from another peer
 *
 * batch.c and dispatch.c are where they leave.
 */

#include "qdes/fabric-private.h"

#include <errno.h>
#include <string.h>

#include "qdes/eth.h"
#include "qdes/mss.h"
#include "qdes/probe.h"

#define OWN_MS 1000             /* between two peers that are lost by routes */
#define COPY_MAX 2048           /* bytes; longer frames are not worth copying */

/* A frame from the port. */
typedef struct Frame {
    QdesEthHeader eth;
    QdesVnet vnet;
    size_t size;                /* bytes, without its virtio_net_hdr */
    int iovcnt;
    struct iovec iov[QDES_PIECES_MAX];
} Frame;

/* The flags of a DATA datagram. */
static uint8_t flags_of(const QdesTxFrame *to, bool partial)
{
    return (partial ? QDES_WIRE_FLAG_CSUM_PARTIAL : 0) |
           (to->relayed ? QDES_WIRE_FLAG_RELAYED : 0);
}

/*
 * Room for a datagram of @size bytes in the queue, and for its seal, which may
 * have to leave for that; NULL: it cannot.
 */
static uint8_t *make_room(QdesFabric *f, size_t size, int64_t now)
{
    uint8_t *room;

    size += f->overhead;
    room = qdes_txq_room(&f->tx.queue, size);
    if (!room && qdes_fabric_send_queue(f, now)) {
        room = qdes_txq_room(&f->tx.queue, size);
    }
    return room && f->sealing ? room + QDES_SEAL_LEAD : room;
}

/* Queue the datagram whose frame of @size bytes is in @datagram already. */
static void enqueue(QdesFabric *f, QdesTxFrame *to, uint8_t *datagram,
                    size_t size, bool partial)
{
    size_t header_size = QDES_WIRE_HEADER_SIZE + f->overhead;

    f->config.encap->encode(datagram, flags_of(to, partial), f->config.netid);
    if (f->config.mss_clamp &&
        qdes_mss_clamp(datagram + QDES_WIRE_HEADER_SIZE, size,
                       to->room - header_size, partial)) {
        QDES_COUNT(&f->stats, tx_mss_clamped);
    }
    to->header_size = header_size;
    to->size = header_size + size;
    to->sealed = false;
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

static void count_drop(QdesFabric *f, const QdesTxFrame *to,
                       QdesCounter counter)
{
    if (to->copy) {
        qdes_fabric_lose_copies(f, to->relayed, 1);
    } else {
        qdes_fabric_drop_frame(f, counter);
    }
}

/* Superframes, and what is too long to be copied */

/* The header of the datagrams that are cut. */
static void encode_cut_header(const QdesFabric *f, const QdesTxFrame *to,
                              uint8_t *header, bool partial)
{
    if (f->tx.cut.segment_size) {
        qdes_wire_encode_superframe(header, flags_of(to, true),
                                    f->tx.cut.segment_size, f->config.netid);
    } else {
        f->config.encap->encode(header, flags_of(to, partial),
                                f->config.netid);
    }
}

/* A train to where @to goes, of datagrams of @size bytes, @around of them
 * around the frame; it is empty as yet. */
static QdesTrain begin_train(const QdesFabric *f, const QdesTxFrame *to,
                             size_t around, size_t size,
                             const struct iovec *iov)
{
    return (QdesTrain) {
        .to = to->to,
        .from = qdes_peers_at(f->peers, to->slot),
        .flood = to->flood,
        .copy = to->copy,
        .relayed = to->relayed,
        .fits = size <= to->room,
        .slot = to->slot,
        .header_size = around,
        .iov = iov,
        .segment = size,
    };
}

/*
 * The trains are laid out in plain pieces, though as long as they are when
 * sealed.  Gather each where it is sealed, datagram by datagram, so that it
 * leaves in one piece.
 */
static void seal_trains(QdesFabric *f, unsigned n, int64_t now)
{
    QdesTransmit *tx = &f->tx;
    uint8_t *at = qdes_sealing_bounce(f);
    const struct iovec *piece;
    struct iovec *whole;
    QdesTrain *train;
    uint8_t *end;
    uint8_t *to;
    size_t left;
    size_t size;

    for (train = tx->trains; train < tx->trains + n; train++) {
        piece = train->iov;
        whole = &tx->pieces[piece - tx->pieces];
        end = at;
        for (left = train->size; left > 0; left -= size) {
            size = MIN(train->segment, left);
            to = end + QDES_SEAL_LEAD;
            end += size;
            for (; to < end - QDES_SEAL_TAG; piece++) {
                to = gather(to, piece, 1);
            }
            qdes_sealing_seal(f, train->flood, train->slot, end - size,
                              size - QDES_SEAL_OVERHEAD, now);
        }
        *whole = (struct iovec) { at, train->size };
        train->iovcnt = 1;
        at = end;
    }
}

/* Lay out the next trains of the superframe under the knife. */
static unsigned lay_out(QdesFabric *f, const QdesTxFrame *to, bool partial,
                        int64_t now)
{
    QdesTransmit *tx = &f->tx;
    QdesSegmenter *cut = &tx->cut;
    unsigned frames = 0;
    unsigned pieces = 0;
    unsigned n = 0;
    size_t header_size = cut->segment_size ? QDES_WIRE_SUPERFRAME_SIZE :
                                             QDES_WIRE_HEADER_SIZE;
    size_t around = header_size + f->overhead;
    uint8_t *header;
    QdesTrain *train;
    unsigned in_train;
    size_t size;
    int count;

    while (cut->frames > 0 && frames < QDES_POOL_FRAMES &&
           n < QDES_TX_BATCH) {
        train = &tx->trains[n];
        *train = begin_train(f, to, around, around + cut->frame_size,
                             &tx->pieces[pieces]);
        for (in_train = 0;
             cut->frames > 0 && frames < QDES_POOL_FRAMES &&
             in_train < QDES_TRAIN_MAX && pieces < QDES_POOL_PIECES &&
             (in_train == 0 ||
              train->size + train->segment <= QDES_TRAIN_BYTES);
             in_train++) {
            header = tx->headers[frames];
            size = qdes_segment_next(cut, header + header_size,
                                     &tx->pieces[pieces + 1],
                                     QDES_POOL_PIECES - pieces - 1, &count);
            if (size == 0) {
                break;
            }
            encode_cut_header(f, to, header, partial);
            tx->pieces[pieces].iov_base = header;
            tx->pieces[pieces].iov_len = header_size + cut->headers_size;
            pieces += 1 + count;
            train->iovcnt += 1 + count;
            train->size += around + size;
            frames++;
        }
        if (in_train == 0) {
            break;
        }
        n++;
    }
    if (f->sealing) {
        seal_trains(f, n, now);
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
            count_drop(f, to, QDES_COUNTER_tx_drop_nobufs);
            continue;
        }
        gather(room, iov, n);
        to->header_size = train->header_size;
        to->size = size;
        to->sealed = f->sealing != NULL;
        qdes_txq_add(&f->tx.queue, to);
    }
}

typedef enum Departure {
    DEPARTED,                   /* sent */
    DEPARTED_QUEUED,            /* in the batch, for all that it is for */
    DEPARTED_DROPPED,           /* and counted */
    DEPARTED_NOT,               /* not taken: the socket is full */
    DEPARTED_LOST_WAY,          /* not sent: look up anew */
} Departure;

/*
 * Send the trains laid out, and lay out more until the superframe has left.
 * It is borrowed: when the socket fills up in its midst, the rest is copied.
 */
static Departure send_laid_out(QdesFabric *f, QdesTxFrame *to, unsigned n,
                               bool partial, int64_t now)
{
    QdesTrain *trains = f->tx.trains;
    bool begun = false;
    unsigned next;
    unsigned i;
    QdesSent sent;

    while (n > 0) {
        next = 0;
        sent = qdes_fabric_send_trains(f, trains, n, &next);
        begun |= sent == QDES_SENT || next > 0 || trains[next].sent > 0;
        if (!begun) {
            if (sent == QDES_SENT_BLOCKED) {
                qdes_fabric_block(f);
                return DEPARTED_NOT;
            }
            return DEPARTED_LOST_WAY;
        }
        if (sent == QDES_SENT_LOST_WAY) {
            for (i = next; i < n; i++) {
                qdes_fabric_count_error(f, EHOSTUNREACH,
                            qdes_train_count(&trains[i], trains[i].size -
                                                         trains[i].sent));
            }
            qdes_fabric_count_error(f, EHOSTUNREACH, f->tx.cut.frames);
            return DEPARTED;
        }
        if (sent == QDES_SENT_BLOCKED) {
            qdes_fabric_block(f);
        }
        do {
            for (i = next; i < n; i++) {
                keep(f, to, &trains[i]);
            }
            n = lay_out(f, to, partial, now);
            next = 0;
        } while (f->blocked && n > 0);
    }
    return DEPARTED;
}

static Departure send_cut(QdesFabric *f, QdesTxFrame *to, bool partial,
                          int64_t now)
{
    bool is_superframe = f->tx.cut.frames > 1 || f->tx.cut.segment_size;
    Departure departure;

    if (!qdes_fabric_send_queue(f, now)) {
        return DEPARTED_NOT;
    }
    if (to->group_done) {
        return DEPARTED;        /* there is no group, only copies */
    }
    departure = send_laid_out(f, to, lay_out(f, to, partial, now), partial,
                              now);
    if (is_superframe && departure == DEPARTED && !to->copy) {
        QDES_COUNT(&f->stats, tx_superframes);
    }
    return departure;
}

/* As it is, in one datagram. */
static Departure send_long(QdesFabric *f, QdesTxFrame *to, const Frame *frame,
                           int64_t now)
{
    QdesTransmit *tx = &f->tx;
    size_t around = QDES_WIRE_HEADER_SIZE + f->overhead;
    size_t size = around + frame->size;

    if (!qdes_fabric_send_queue(f, now)) {
        return DEPARTED_NOT;
    }
    if (to->group_done) {
        return DEPARTED;
    }
    tx->cut.frames = 0;
    f->config.encap->encode(tx->headers[0], flags_of(to, false),
                            f->config.netid);
    tx->pieces[0].iov_base = tx->headers[0];
    tx->pieces[0].iov_len = QDES_WIRE_HEADER_SIZE;
    memcpy(&tx->pieces[1], frame->iov, frame->iovcnt * sizeof(*frame->iov));
    tx->trains[0] = begin_train(f, to, around, size, tx->pieces);
    tx->trains[0].iovcnt = 1 + frame->iovcnt;
    tx->trains[0].size = size;
    if (f->sealing) {
        seal_trains(f, 1, now);
    }
    return send_laid_out(f, to, 1, false, now);
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
    return DEPARTED_QUEUED;
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
    return DEPARTED_QUEUED;
}

static Departure depart(QdesFabric *f, QdesTxFrame *to, const Frame *frame,
                        int64_t now)
{
    QdesSegmenter *cut = &f->tx.cut;
    size_t max_frame = to->room - QDES_WIRE_HEADER_SIZE - f->overhead;
    bool partial = qdes_fabric_takes_partial(f, to);
    size_t max_super = qdes_fabric_takes_superframes(f, to) ?
                       to->room - QDES_WIRE_SUPERFRAME_SIZE - f->overhead : 0;

    if (!frame->vnet.needs_csum && !frame->vnet.gso &&
        frame->size <= MIN(max_frame, COPY_MAX)) {
        return send_small(f, to, frame, now);
    }
    switch (qdes_segment_begin(cut, &frame->vnet, frame->iov, frame->iovcnt,
                               frame->size, max_frame, partial,
                               max_super)) {
    case QDES_SEGMENT_BAD:
        count_drop(f, to, QDES_COUNTER_tx_drop_offload);
        return DEPARTED_DROPPED;
    case QDES_SEGMENT_CUT:
        partial = cut->partial;
        if (cut->frames == 1 && cut->frame_size <= COPY_MAX &&
            !cut->segment_size) {
            return send_small_cut(f, to, partial, now);
        }
        if (QDES_WIRE_HEADER_SIZE + f->overhead + cut->frame_size >
            QDES_TRAIN_BYTES) {
            break;              /* only what could not be cut to fit */
        }
        return send_cut(f, to, partial, now);
    case QDES_SEGMENT_WHOLE:
        if (frame->size > QDES_FRAME_MAX - f->overhead) {
            break;
        }
        if (frame->size <= COPY_MAX) {
            return send_small(f, to, frame, now);
        }
        return send_long(f, to, frame, now);
    }
    count_drop(f, to, QDES_COUNTER_tx_drop_long);
    return DEPARTED_DROPPED;
}

/* Send one peer a copy, which cannot be refused any more, nor wait for room:
 * where the socket is full, it is lost, as in any switch. */
static void send_copy(QdesFabric *f, uint32_t slot, const Frame *frame,
                      bool relayed, int64_t now)
{
    QdesTxFrame to;

    qdes_fabric_set_destination(f, &to, QDES_WAY_PEER, slot);
    to.copy = true;
    to.relayed = relayed;
    switch (f->blocked ? DEPARTED_NOT : depart(f, &to, frame, now)) {
    case DEPARTED:
    case DEPARTED_QUEUED:
    case DEPARTED_DROPPED:
        break;
    case DEPARTED_NOT:
    case DEPARTED_LOST_WAY:
        qdes_fabric_lose_copies(f, relayed, 1);
        break;
    }
}

/*
 * Copies of a flooded frame that is too long for the batch: cut anew for each
 * peer, as each path has a size of its own.  It has left for the group.
 */
static void send_copies(QdesFabric *f, const Frame *frame, int64_t now)
{
    uint32_t slot = QDES_PEER_NONE;

    if (!f->config.has_group) {
        qdes_fabric_count_copied(f, 1, frame->size);
    }
    while ((slot = qdes_peers_next_copy(f->peers, slot)) != QDES_PEER_NONE) {
        send_copy(f, slot, frame, false, now);
    }
}

void qdes_fabric_send_on(QdesFabric *f, uint32_t slot, const QdesVnet *vnet,
                         uint8_t *data, size_t size, int64_t now)
{
    Frame frame;

    frame.vnet = *vnet;
    frame.size = size;
    frame.iovcnt = 1;
    frame.iov[0] = (struct iovec) { data, size };
    send_copy(f, slot, &frame, true, now);
}

/* As how many frames it leaves, about. */
static uint32_t count_frames(const Frame *frame)
{
    return frame->vnet.gso && frame->vnet.gso_size ?
           (frame->size + frame->vnet.gso_size - 1) / frame->vnet.gso_size : 1;
}

/* Look up and send.  Returns false when the frame was not taken. */
static bool forward(QdesFabric *f, const Frame *frame, int64_t now)
{
    uint32_t slot = QDES_PEER_NONE;
    Departure departure;
    QdesTxFrame to;
    QdesWay way;

    /* Each time that the way is lost, a peer is forgotten: it ends. */
    do {
        way = qdes_fabric_find_way(f, frame->eth.dst, now, &slot);
        if (way == QDES_WAY_DROP) {
            return true;
        }
        qdes_fabric_set_destination(f, &to, way, slot);
        departure = depart(f, &to, frame, now);
    } while (departure == DEPARTED_LOST_WAY);
    if (way == QDES_WAY_FLOOD && departure != DEPARTED_NOT) {
        qdes_storm_charge(&f->storm, count_frames(frame));
    }
    if (departure == DEPARTED && to.flood &&
        (qdes_peers_copies(f->peers) || !f->config.has_group)) {
        send_copies(f, frame, now);
    }
    return departure != DEPARTED_NOT;
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
        qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_link);
        return false;
    }
    if (size < skip + QDES_FRAME_MIN) {
        qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_short);
        return false;
    }
    if (size > skip + QDES_SUPERFRAME_MAX) {
        qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_long);
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

/*
 * Is it a datagram that this port itself sent?  Then the host's route to a peer
 * leads into the fabric, and what is sent to it would come back as a frame
 * again and again: nobody is reached there.
 */
static bool is_own_datagram(QdesFabric *f, const Frame *frame, int64_t now)
{
    const uint8_t *head = frame->iov[0].iov_base;
    size_t size = MIN(frame->size, QDES_ENDS_MAX);
    uint8_t copy[QDES_ENDS_MAX];
    QdesAddr from, to;
    uint32_t slot;

    if (frame->iov[0].iov_len < size) {
        qdes_eth_head(copy, size, frame->iov, frame->iovcnt);
        head = copy;
    }
    if (!qdes_packet_ends(&from, &to, head, size) ||
        !qdes_underlay_is_own(f->underlay, &from)) {
        return false;
    }
    qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_own);
    qdes_fabric_say_of(f, QDES_SAID_RECURSION, &to, "is reached by this "
                       "fabric itself, into which this host's route to it "
                       "leads: correct the route, or the list of peers");
    slot = qdes_peers_find(f->peers, &to);
    /* Who forges such frames must not keep us from all peers. */
    if (slot != QDES_PEER_NONE && now >= f->tx.next_own) {
        f->tx.next_own = now + OWN_MS;
        qdes_fabric_lose(f, slot);
    }
    return true;
}

bool qdes_fabric_send(QdesFabric *f, const struct iovec *iov, int iovcnt,
                      int64_t now)
{
    bool admitted = true;
    Frame frame;
    bool taken;

    if (f->blocked) {
        return false;
    }
    if (!take(f, &frame, iov, iovcnt)) {
        return true;
    }
    if (qdes_probe_is(frame.eth.dst)) {
        qdes_fabric_take_probe(f, frame.iov, frame.iovcnt, now);
        return true;
    }
    if (f->loop.blocked) {
        qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_loop);
        return true;
    }
    if (is_own_datagram(f, &frame, now)) {
        return true;
    }
    if (f->portsec) {
        admitted = qdes_fabric_admits(f, frame.eth.src, now);
        if (!admitted && !f->config.learn_none) {
            qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_mac);
            return true;
        }
    }
    if (admitted && qdes_mac_is_source(frame.eth.src)) {
        qdes_fabric_learn(f, frame.eth.src, QDES_FDB_LOCAL, now);
    }
    taken = forward(f, &frame, now);
    if (!admitted && taken) {
        QDES_COUNT(&f->stats, tx_unlearned);
    }
    return taken;
}
