/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Datagrams from the underlay to the port: check, learn, coalesce, deliver.
 *
 *   qdes_fabric_receive() -> qdes_fabric_work_off() -> input(), take_frame()
 *                                                   -> deliver_first()
 *
 * Of a port that relays, take_frame() also sends on: relaying.c.
 */

#include "qdes/fabric-private.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "qdes/bytes.h"
#include "qdes/eth.h"
#include "qdes/probe.h"

/* Drop one datagram. */
void qdes_fabric_drop_datagram(QdesFabric *f, QdesCounter counter)
{
    QDES_COUNT(&f->stats, rx_datagrams);
    f->stats.value[counter]++;
}

/* Does the port take what lacks this? */
static bool port_takes(const QdesPort *port, const QdesVnet *vnet, bool v6)
{
    if ((vnet->needs_csum && !port->csum) || (vnet->ecn && !port->ecn)) {
        return false;
    }
    switch (vnet->gso) {
    case QDES_GSO_NONE:
        return true;
    case QDES_GSO_TCP4:
        return port->tso4;
    case QDES_GSO_TCP6:
        return port->tso6;
    default:
        return v6 ? port->uso6 : port->uso4;
    }
}

/* It may have changed since the frame came. */
static bool is_accepted(const QdesFabric *f, const QdesSuperframe *frame)
{
    return port_takes(&f->port, &frame->vnet, frame->v6) &&
           (frame->iovcnt == 2 || f->port.vnet_size > 0);
}

QdesDelivery qdes_fabric_deliver(QdesFabric *f, const QdesVnet *vnet,
                                 struct iovec *iov, int iovcnt, size_t size,
                                 size_t headroom)
{
    size_t vnet_size = f->port.vnet_size;

    if (!vnet_size) {
        return f->host->deliver(f->opaque, iov + 1, iovcnt - 1, size);
    }
    if (iovcnt == 2 && headroom >= vnet_size) {
        /* In one piece, which spares who wants it so a copy. */
        iov[1].iov_base = (uint8_t *)iov[1].iov_base - vnet_size;
        iov[1].iov_len += vnet_size;
        qdes_vnet_encode(vnet, iov[1].iov_base, vnet_size,
                         f->port.vnet_big_endian);
        return f->host->deliver(f->opaque, iov + 1, 1, vnet_size + size);
    }
    qdes_vnet_encode(vnet, f->rx.vnet, vnet_size, f->port.vnet_big_endian);
    iov[0].iov_base = f->rx.vnet;
    iov[0].iov_len = vnet_size;
    return f->host->deliver(f->opaque, iov, iovcnt, vnet_size + size);
}

void qdes_fabric_pause(QdesFabric *f, int64_t now)
{
    QDES_COUNT(&f->stats, rx_paused);
    f->paused = true;
    f->paused_at = now;
}

/*
 * Hand on the superframe that came first.  Its datagrams are counted here:
 * while they wait, they are not in the books.
 */
static void deliver_first(QdesFabric *f, QdesSuperframe *frame, int64_t now)
{
    QdesDelivery delivery;

    QDES_COUNT_ADD(&f->stats, rx_datagrams, frame->frames);
    if (!f->link_up) {
        QDES_COUNT_ADD(&f->stats, rx_drop_link, frame->frames);
        qdes_coalesce_pop(f->rx.coalescer);
        return;
    }
    if (!is_accepted(f, frame)) {
        QDES_COUNT_ADD(&f->stats, rx_drop_port, frame->frames);
        qdes_coalesce_pop(f->rx.coalescer);
        return;
    }
    delivery = qdes_fabric_deliver(f, &frame->vnet, frame->iov, frame->iovcnt,
                                   frame->size, frame->headroom);
    if (delivery == QDES_REFUSED) {
        QDES_COUNT_ADD(&f->stats, rx_drop_port, frame->frames);
    } else {
        QDES_COUNT_ADD(&f->stats, rx_frames, frame->frames);
        QDES_COUNT_ADD(&f->stats, rx_bytes, frame->frame_bytes);
        if (frame->frames > 1 || frame->vnet.gso) {
            QDES_COUNT(&f->stats, rx_superframes);
        }
    }
    qdes_coalesce_pop(f->rx.coalescer);
    if (delivery == QDES_DELIVERED_FULL) {
        qdes_fabric_pause(f, now);
    }
}

/* Hand on what is left of the superframe that had to be cut. */
static void deliver_cut(QdesFabric *f, int64_t now)
{
    QdesReceive *rx = &f->rx;
    QdesSegmenter *cut = &rx->cut;
    QdesVnet vnet = { .needs_csum = false };
    QdesDelivery delivery = QDES_DELIVERED;
    struct iovec iov[3];
    size_t size;
    int count;

    while (cut->frames > 0 && !f->paused) {
        size = qdes_segment_next(cut, rx->headers, &iov[2], 1, &count);
        iov[1] = (struct iovec) { rx->headers, cut->headers_size };
        delivery = f->link_up ? qdes_fabric_deliver(f, &vnet, iov, 2 + count,
                                                    size, 0) : QDES_REFUSED;
        rx->refused |= delivery == QDES_REFUSED;
        if (delivery == QDES_DELIVERED_FULL) {
            qdes_fabric_pause(f, now);
        }
    }
    if (cut->frames == 0) {
        QDES_COUNT(&f->stats, rx_datagrams);
        if (!f->link_up) {
            QDES_COUNT(&f->stats, rx_drop_link);
        } else if (rx->refused) {
            QDES_COUNT(&f->stats, rx_drop_port);
        } else {
            QDES_COUNT(&f->stats, rx_frames);
            QDES_COUNT_ADD(&f->stats, rx_bytes, rx->whole.iov_len);
        }
    }
}

/* A frame was taken: its sender has the address that it is from. */
static void learn_source(QdesFabric *f, const QdesEthHeader *eth,
                         const QdesAddr *from, size_t size, int64_t now)
{
    const uint8_t *src = eth->src;
    QdesReceive *rx = &f->rx;

    if (!rx->src) {
        rx->slot = qdes_fabric_hear(f, from, rx->by_group, size, now,
                                    &rx->teaches);
        if (!rx->by_group && qdes_mac_is_group(eth->dst)) {
            qdes_fabric_hear_copy(f, rx->slot, now);
        }
    }
    if (!rx->teaches) {
        QDES_COUNT(&f->stats, rx_unproven);
        rx->src = src;
        return;
    }
    if (!rx->src || memcmp(rx->src, src, QDES_MAC_SIZE) != 0) {
        rx->src = src;
        if (rx->slot != QDES_PEER_NONE) {
            qdes_fabric_learn(f, src, rx->slot, now);
        }
    }
}

/*
 * Send the frame in the datagram at @data on to those that asked for its
 * sender's; once, though it may come here again.  Returns whether it is for
 * the port as well.
 */
static bool send_on(QdesFabric *f, const uint8_t *data, uint8_t *frame,
                    size_t size, const QdesAddr *from, int64_t now)
{
    const QdesEthHeader *eth = (const QdesEthHeader *)frame;
    QdesReceive *rx = &f->rx;
    uint32_t slot = rx->src ? rx->slot : qdes_peers_find(f->peers, from);
    uint16_t segment_size = qdes_get_be16(data + QDES_WIRE_HEADER_SIZE);

    if (rx->passed == data || slot == QDES_PEER_NONE) {
        return true;
    }
    rx->passed = data;
    if (qdes_fabric_relay(f, slot, frame, size, &rx->decoded, segment_size,
                          now)) {
        return true;
    }
    qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_relayed);
    learn_source(f, eth, from, size, now);
    return false;
}

/*
 * Take a superframe that its sender left whole; cut it if the port takes none.
 * Returns false when what came before has to leave first.
 */
static bool take_superframe(QdesFabric *f, uint8_t *frame, size_t size,
                            uint16_t segment_size, size_t headroom,
                            const QdesAddr *from, int64_t now)
{
    const QdesEthHeader *eth = (const QdesEthHeader *)frame;
    QdesReceive *rx = &f->rx;
    QdesVnet vnet;
    bool v6;

    if (!qdes_segment_describe(&vnet, &v6, frame, size, segment_size)) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_superframe);
        return true;
    }
    if (port_takes(&f->port, &vnet, v6)) {
        if (qdes_coalesce_add_whole(rx->coalescer, frame, size, &vnet, v6,
                                    headroom) == QDES_COALESCE_FULL) {
            return false;
        }
        learn_source(f, eth, from, size, now);
        return true;
    }
    if (qdes_coalesce_first(rx->coalescer)) {
        return false;
    }
    rx->whole = (struct iovec) { frame, size };
    if (qdes_segment_begin(&rx->cut, &vnet, &rx->whole, 1, size,
                           QDES_FRAME_MAX, false, 0) != QDES_SEGMENT_CUT) {
        rx->cut.frames = 0;
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_superframe);
        return true;
    }
    learn_source(f, eth, from, size, now);
    rx->refused = false;
    deliver_cut(f, now);
    return true;
}

/*
 * The frame has an unfinished checksum: is it a superframe that a kernel, from
 * the network namespace next door, has not cut either?  Only of TCP, which may
 * be cut anywhere, can one be told from a long frame.  Returns the bytes of
 * payload that fit the path in one packet; 0: no.
 */
static uint16_t guess_segment(QdesFabric *f, const uint8_t *frame, size_t size,
                              const QdesAddr *from)
{
    size_t room = qdes_fabric_room(f, qdes_peers_find(f->peers, from)) -
                  QDES_WIRE_HEADER_SIZE;
    uint16_t segment_size;
    QdesPacket packet;
    QdesVnet vnet;
    bool v6;

    if (size <= room ||
        !qdes_packet_find(&packet, frame, size, size, false) ||
        packet.proto != IPPROTO_TCP) {
        return 0;
    }
    segment_size = room - packet.payload;
    return qdes_segment_describe(&vnet, &v6, frame, size, segment_size) ?
           segment_size : 0;
}

/*
 * Take the frame in the datagram at @data.  Returns false when there is no
 * room for it before another left.
 */
static bool take_frame(QdesFabric *f, uint8_t *data, size_t size,
                       const QdesAddr *from, int64_t now)
{
    QdesReceive *rx = &f->rx;
    bool partial = rx->decoded.csum_partial;
    bool superframe = rx->decoded.superframe;
    size_t header_size = superframe ? QDES_WIRE_SUPERFRAME_SIZE :
                                      QDES_WIRE_HEADER_SIZE;
    uint8_t *frame = data + header_size;
    const QdesEthHeader *eth = (const QdesEthHeader *)frame;
    size_t headroom = rx->alone ? QDES_RX_HEADROOM + header_size : 0;
    uint16_t segment_size;

    size -= header_size;
    if (f->loop.blocked) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_loop);
        return true;
    }
    if (qdes_probe_is(eth->dst)) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_probe);
        return true;
    }
    if (!qdes_mac_is_source(eth->src)) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_source);
        return true;
    }
    if (f->portsec && qdes_fabric_is_spoofed(f, eth->src, from, now)) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_spoofed);
        return true;
    }
    if (f->relay && !rx->decoded.relayed &&
        !send_on(f, data, frame, size, from, now)) {
        return true;
    }
    if (superframe) {
        return take_superframe(f, frame, size,
                               qdes_get_be16(data + QDES_WIRE_HEADER_SIZE),
                               headroom, from, now);
    }
    if (f->config.encap->guess_partial) {
        partial = qdes_packet_is_partial(frame, size);
        segment_size = partial ? guess_segment(f, frame, size, from) : 0;
        if (segment_size) {
            return take_superframe(f, frame, size, segment_size, headroom,
                                   from, now);
        }
    }
    if (partial && !f->port.csum) {
        if (!qdes_packet_finish(frame, size)) {
            qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_csum);
            return true;
        }
        /* It may come here again. */
        data[3] &= ~QDES_WIRE_FLAG_CSUM_PARTIAL;
        rx->header = NULL;
        partial = false;
    }
    switch (qdes_coalesce_add(rx->coalescer, frame, size, partial,
                              headroom)) {
    case QDES_COALESCE_FULL:
        return false;
    case QDES_COALESCE_BAD:
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_csum);
        return true;
    case QDES_COALESCE_TAKEN:
        break;
    }
    learn_source(f, eth, from, size, now);
    return true;
}

static void say_version(QdesFabric *f, const QdesAddr *from, unsigned version)
{
    char text[QDES_ADDR_STRLEN];

    if (qdes_fabric_first(f, QDES_SAID_VERSION)) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "%s speaks version %u of the protocol, this port %d: "
                        "nothing passes between them",
                        qdes_addr_format(from, text), version,
                        QDES_WIRE_VERSION);
    }
}

/* Returns false when the datagram has to wait. */
static bool input_plain(QdesFabric *f, uint8_t *data, size_t size,
                        const QdesAddr *from, int64_t now)
{
    QdesReceive *rx = &f->rx;
    QdesWireHeader *header = &rx->decoded;
    QdesWireResult result;

    /* In a train, as a rule, all headers are the same. */
    if (rx->header && size >= QDES_WIRE_SUPERFRAME_SIZE + QDES_FRAME_MIN &&
        size <= QDES_WIRE_HEADER_SIZE + QDES_FRAME_MAX &&
        memcmp(data, rx->header, QDES_WIRE_HEADER_SIZE) == 0) {
        return take_frame(f, data, size, from, now);
    }

    rx->header = NULL;
    result = f->config.encap->decode(header, data, size);
    switch (result) {
    case QDES_WIRE_SHORT:
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_short);
        return true;
    case QDES_WIRE_BAD_MAGIC:
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_magic);
        return true;
    case QDES_WIRE_BAD_VERSION:
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_version);
        say_version(f, from, data[2] >> 4);
        return true;
    case QDES_WIRE_BAD_TYPE:
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_type);
        return true;
    case QDES_WIRE_BAD_FLAGS:
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_flags);
        return true;
    case QDES_WIRE_SEALED:
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_sealed);
        qdes_fabric_say_of(f, QDES_SAID_SEALED, from, "seals what it sends, "
                           "and this port has no key: nothing passes between "
                           "them");
        return true;
    case QDES_WIRE_OK:
    case QDES_WIRE_FRAME_SHORT:
    case QDES_WIRE_FRAME_LONG:
    case QDES_WIRE_BAD_TLV:
        break;
    }

    if (f->sealing && !rx->opened) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_plain);
        qdes_fabric_say_of(f, QDES_SAID_PLAIN, from, "does not seal what it "
                           "sends, and this port has a secret: nothing passes "
                           "between them");
    } else if (header->netid != f->config.netid) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_netid);
    } else if (qdes_underlay_is_own(f->underlay, from)) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_own);
    } else if (result == QDES_WIRE_FRAME_SHORT) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_frame_short);
    } else if (result == QDES_WIRE_FRAME_LONG) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_frame_long);
    } else if (result == QDES_WIRE_BAD_TLV) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_tlv);
    } else if (header->type == QDES_WIRE_DATA) {
        rx->header = data;
        return take_frame(f, data, size, from, now);
    } else {
        QDES_COUNT(&f->stats, rx_datagrams);
        qdes_fabric_take_control(f, header, from, rx->by_group, now);
        rx->src = NULL;         /* its sender may have another slot now */
    }
    return true;
}

/* The same; where there is a secret, it is opened first, and only once. */
static bool input(QdesFabric *f, uint8_t *data, size_t size,
                  const QdesAddr *from, int64_t now)
{
    QdesReceive *rx = &f->rx;

    if (!f->sealing) {
        return input_plain(f, data, size, from, now);
    }
    if (rx->opened != data) {
        rx->opened = NULL;
        switch (qdes_sealing_open(f, data, size, from, now)) {
        case QDES_OPENED:
            rx->opened = data;
            break;
        case QDES_OPENED_DONE:
            rx->src = NULL;     /* its sender may be known, or proven now */
            return true;
        case QDES_OPENED_NOT_SEALED:
            rx->header = NULL;
            return input_plain(f, data, size, from, now);
        }
    }
    if (!input_plain(f, data + QDES_SEAL_LEAD, size - QDES_SEAL_OVERHEAD,
                     from, now)) {
        return false;
    }
    rx->opened = NULL;
    return true;
}

/* Deliver the first that waits.  Returns false when nothing does. */
static bool deliver_next(QdesFabric *f, int64_t now)
{
    QdesSuperframe *frame = qdes_coalesce_first(f->rx.coalescer);

    if (frame) {
        deliver_first(f, frame, now);
    }
    return frame != NULL;
}

static void work_off_trains(QdesFabric *f, int64_t now)
{
    QdesReceive *rx = &f->rx;
    QdesRxTrain *train;
    size_t size;

    /* While the port was full, its peer may have been forgotten. */
    rx->src = NULL;
    if (rx->cut.frames > 0) {
        deliver_cut(f, now);
    }
    while (!f->paused && rx->next < rx->n) {
        train = &rx->trains[rx->next];
        g_assert(train->data != NULL);
        if (rx->offset == 0) {
            rx->header = NULL;
            rx->src = NULL;
            rx->alone = train->size <= train->segment;
        }
        rx->train = train;
        do {
            size = MIN(train->segment, train->size - rx->offset);
            if (!input(f, train->data + rx->offset, size, &train->from,
                       now)) {
                break;
            }
            rx->offset += size;
        } while (rx->offset < train->size && !f->paused);
        if (rx->offset < train->size) {
            if (!f->paused) {
                deliver_next(f, now);
            }
        } else {
            if (train->size > train->segment) {
                QDES_COUNT(&f->stats, rx_trains);
            }
            rx->next++;
            rx->offset = 0;
        }
    }
    rx->train = NULL;
    while (!f->paused && deliver_next(f, now)) {
        /* Nothing waits for more to come. */
    }
    if (f->relay) {
        qdes_fabric_flush(f, now);
    }
}

void qdes_fabric_work_off(QdesFabric *f, int64_t now)
{
    do {
        work_off_trains(f, now);
    } while (f->sealing && !f->paused && qdes_sealing_next_held(f, now));
}

void qdes_fabric_receive(QdesFabric *f, int fd, int64_t now)
{
    QdesReceive *rx = &f->rx;
    int left = QDES_BUDGET;
    bool more = true;
    int n;

    while (more && left > 0 && !f->paused) {
        /* What was held may have come by the other socket. */
        rx->by_group = fd == qdes_underlay_group_fd(f->underlay);
        n = qdes_underlay_receive(f->underlay, fd, rx->trains,
                                  MIN(left, QDES_RX_BATCH), &more);
        if (n >= 0) {
            rx->n = n;
            rx->next = 0;
            rx->passed = NULL;
            rx->offset = 0;
            left -= MAX(n, 1);
            qdes_fabric_work_off(f, now);
            continue;
        }
        if (n != -EAGAIN) {
            QDES_COUNT(&f->stats, rx_errors);
            left--;
        }
        /* An error of an earlier datagram may be all that woke us up. */
        if (!rx->by_group && (n != -EAGAIN || left == QDES_BUDGET)) {
            qdes_fabric_forget_unreachable(f);
        }
        if (n == -EAGAIN) {
            break;
        }
    }
    if (f->paused) {
        qdes_fabric_watch(f);
    }
}
