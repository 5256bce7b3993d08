/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The inner side of a fabric
 *
 * What fabric.c, the way of frames, and presence.c, the coming and going of
 * peers and interfaces, share.  No other file looks into a QdesFabric.
 */

#ifndef QDES_FABRIC_PRIVATE_H
#define QDES_FABRIC_PRIVATE_H

#include "qdes/claims.h"
#include "qdes/fabric.h"
#include "qdes/fdb.h"
#include "qdes/peer.h"
#include "qdes/underlay.h"
#include "qdes/wire.h"

#define QDES_RX_SIZE 65536      /* bytes, no datagram is larger */
#define QDES_DEPARTED 16        /* endpoints that said BYE of late */
#define QDES_TICK_MS 1000       /* how late ageing and expiry may come */

/* What is said at most once. */
typedef enum QdesSaid {
    QDES_SAID_DUPLICATE = 1 << 0,
    QDES_SAID_VERSION = 1 << 1,
    QDES_SAID_SEALED = 1 << 2,
    QDES_SAID_DENIED = 1 << 3,
    QDES_SAID_PEERS_FULL = 1 << 4,
} QdesSaid;

struct QdesFabric {
    QdesConfig config;
    const QdesHost *host;
    void *opaque;
    QdesUnderlay *underlay;
    QdesFdb *fdb;
    QdesPeers *peers;
    QdesStats stats;
    QdesPort port;
    uint64_t instance;
    unsigned said;

    bool link_up;
    bool paused;                /* the port is full */
    bool blocked;               /* the unicast socket is full */
    int64_t paused_at;

    int64_t answers_from;       /* the second that answers are counted in */
    unsigned answers;

    int64_t next_hello;
    int64_t refresh_at;
    int64_t timer;              /* what the host was told */

    struct {
        QdesAddr addr;
        int64_t when;           /* ms, 0: not in use */
    } departed[QDES_DEPARTED];
    unsigned next_departed;

    QdesClaims claims;          /* on MAC addresses of this side */

    uint8_t header[QDES_WIRE_HEADER_SIZE]; /* of each DATA datagram */
    uint8_t rx[QDES_RX_SIZE];
    uint8_t tx[QDES_FRAME_MAX]; /* a frame in too many pieces, joined */
};

/* A line for the log. */
void qdes_fabric_say(QdesFabric *f, QdesLogLevel level, const char *format,
                     ...) G_GNUC_PRINTF(3, 4);

/* Is this the first time that @what is to be said? */
bool qdes_fabric_first(QdesFabric *f, QdesSaid what);

/* Have qdes_fabric_tick() called at @when at the latest. */
void qdes_fabric_arm(QdesFabric *f, int64_t when);

/*
 * Something valid came from @from.  Returns its slot, or QDES_PEER_NONE when
 * it said BYE just now: what it sent before may be read after that.
 */
uint32_t qdes_fabric_hear(QdesFabric *f, const QdesAddr *from, int64_t now);

/*
 * Can @err, of sending, be about an earlier datagram?  What is surely about
 * this one may come when the ports of this host have had their copy of a
 * flood already: to try again would give them another.
 */
bool qdes_fabric_may_be_late(int err);

/* The peer in @slot is gone, and all that leads to it. */
void qdes_fabric_forget(QdesFabric *f, uint32_t slot);

/* Forget all peers that the network has reported unreachable. */
void qdes_fabric_forget_unreachable(QdesFabric *f);

/* Forget all peers that were silent for too long. */
void qdes_fabric_expire(QdesFabric *f, int64_t now);

/* Say HELLO to all if the link is up, and plan the next. */
void qdes_fabric_say_hello(QdesFabric *f, int64_t now);

void qdes_fabric_say_bye(QdesFabric *f);

/* A HELLO or BYE came; @by_group: by the group socket. */
void qdes_fabric_take_control(QdesFabric *f, const QdesWireHeader *header,
                              const QdesAddr *from, bool by_group,
                              int64_t now);

/* Log where the group is joined. */
void qdes_fabric_report_group(QdesFabric *f);

/* Interfaces, addresses or routes may have changed. */
void qdes_fabric_refresh(QdesFabric *f, int64_t now);

#endif
