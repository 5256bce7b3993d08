/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The last part of the way out: where a frame goes, and trains that leave,
 * are counted, or lose their way.
 */

#include "qdes/fabric-private.h"

#include <errno.h>

void qdes_fabric_drop_frame(QdesFabric *f, QdesCounter counter)
{
    QDES_COUNT(&f->stats, tx_frames);
    f->stats.value[counter]++;
}

static QdesWay flood(QdesFabric *f, int64_t now)
{
    if (qdes_storm_allows(&f->storm, now)) {
        return QDES_WAY_FLOOD;
    }
    qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_storm);
    if (qdes_fabric_first(f, QDES_SAID_STORM)) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "more than %u broadcast, multicast and unknown "
                        "frames per second from this port: the rest is "
                        "dropped (tx-drop-storm); is there a loop behind it? "
                        "storm-control= sets the limit", f->storm.rate);
    }
    return QDES_WAY_DROP;
}

bool qdes_fabric_find_owner(const QdesFabric *f, const uint8_t *dst,
                            int64_t now, uint32_t *owner)
{
    const QdesFdbEntry *entry;
    const QdesStatic *fixed;

    *owner = QDES_FDB_LOCAL;
    if (f->portsec && qdes_portsec_lists(f->portsec, dst)) {
        return true;
    }
    fixed = qdes_statics_find(f->statics, dst);
    if (fixed) {
        if (!fixed->local) {
            *owner = qdes_peers_find(f->peers, &fixed->peer);
        }
        return fixed->local || *owner != QDES_PEER_NONE;
    }
    entry = qdes_fdb_lookup(f->fdb, dst, now);
    if (entry) {
        *owner = entry->owner;
    }
    return entry != NULL;
}

QdesWay qdes_fabric_find_way(QdesFabric *f, const uint8_t *dst, int64_t now,
                             uint32_t *slot)
{
    if (qdes_mac_is_group(dst)) {
        return flood(f, now);
    }
    if (!qdes_fabric_find_owner(f, dst, now, slot)) {
        if (!f->config.flood_unknown) {
            qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_unknown);
            return QDES_WAY_DROP;
        }
        return flood(f, now);
    }
    if (*slot == QDES_FDB_LOCAL) {
        qdes_fabric_drop_frame(f, QDES_COUNTER_tx_drop_local);
        return QDES_WAY_DROP;
    }
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

    if (train->relayed) {
        QDES_COUNT_ADD(&f->stats, relay_frames, n);
        QDES_COUNT_ADD(&f->stats, relay_bytes, size - n * train->header_size);
    } else if (train->copy) {
        QDES_COUNT_ADD(&f->stats, tx_copies, n);
    } else {
        QDES_COUNT_ADD(&f->stats, tx_frames, n);
        if (train->flood) {
            QDES_COUNT_ADD(&f->stats, tx_flooded, n);
        } else {
            QDES_COUNT_ADD(&f->stats, tx_unicast, n);
        }
        QDES_COUNT_ADD(&f->stats, tx_bytes, size - n * train->header_size);
    }
    if (n > 1 && train->fits && qdes_underlay_segments(f->underlay)) {
        QDES_COUNT(&f->stats, tx_trains);
    }
}

void qdes_fabric_count_copied(QdesFabric *f, unsigned n, size_t bytes)
{
    QDES_COUNT_ADD(&f->stats, tx_frames, n);
    if (qdes_peers_copies(f->peers)) {
        QDES_COUNT_ADD(&f->stats, tx_flooded, n);
        QDES_COUNT_ADD(&f->stats, tx_bytes, bytes);
    } else {
        QDES_COUNT_ADD(&f->stats, tx_drop_no_group, n);
    }
}

void qdes_fabric_lose_copies(QdesFabric *f, bool relayed, unsigned n)
{
    if (relayed) {
        QDES_COUNT_ADD(&f->stats, relay_errors, n);
    } else {
        QDES_COUNT_ADD(&f->stats, tx_copy_errors, n);
    }
}

/* Count the part of @train that an error is about. */
static void count_failed(QdesFabric *f, const QdesTrain *train, int err)
{
    unsigned n = qdes_train_count(train, train->failed);

    if (train->copy) {
        qdes_fabric_lose_copies(f, train->relayed, n);
    } else if (train->flood && err == ENODEV) {
        qdes_fabric_count_copied(f, n, train->failed - n * train->header_size);
    } else {
        qdes_fabric_count_error(f, err, n);
    }
}

bool qdes_fabric_is_known(const QdesFabric *f, uint32_t slot,
                          const QdesAddr *addr)
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
            if (tries == 2 && train->from) {
                /* Perhaps it left this host. */
                qdes_fabric_forget_from(f, train->slot, &train->to);
                train->from = NULL;
                tries = 0;
            } else if (!train->flood) {
                if (tries == 2 && is_unreachable(-ret) &&
                    qdes_fabric_is_known(f, train->slot, &train->to)) {
                    qdes_fabric_lose(f, train->slot);
                }
                if (!train->copy &&
                    !qdes_fabric_is_known(f, train->slot, &train->to)) {
                    return QDES_SENT_LOST_WAY;
                }
            }
            continue;
        }
        count_failed(f, train, -ret);
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

uint32_t qdes_fabric_room(QdesFabric *f, uint32_t slot)
{
    QdesTransmit *tx = &f->tx;
    const QdesPeer *peer;

    if (slot == QDES_PEER_NONE) {
        if (tx->group_room_as_of != f->paths) {
            tx->group_room = qdes_underlay_room(f->underlay, NULL);
            tx->group_room_as_of = f->paths;
        }
        return tx->group_room;
    }
    peer = qdes_peers_get(f->peers, slot);
    if (peer->room_as_of != f->paths) {
        qdes_peers_set_room(f->peers, slot,
                            qdes_underlay_room(f->underlay, &peer->addr),
                            f->paths);
    }
    return peer->room;
}

/* The group, or the peer in @slot. */
void qdes_fabric_set_destination(QdesFabric *f, QdesTxFrame *to, QdesWay way,
                                 uint32_t slot)
{
    const QdesPeer *peer;

    to->flood = way == QDES_WAY_FLOOD;
    to->copy = false;
    to->relayed = false;
    to->group_done = to->flood && !f->config.has_group;
    to->sealed = false;
    to->copied = QDES_PEER_NONE;
    to->run_end = 0;
    to->slot = to->flood ? QDES_PEER_NONE : slot;
    to->room = qdes_fabric_room(f, to->slot);
    if (to->flood) {
        return;
    }
    peer = qdes_peers_get(f->peers, slot);
    to->to = peer->addr;
    if (peer->mtu) {
        to->room = MIN(to->room, peer->mtu + QDES_WIRE_HEADER_SIZE +
                                 f->overhead);
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
