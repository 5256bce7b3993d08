/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The inner side of a fabric
 *
 * What these share, and no other file looks into:
 *
 *   transmit.c   frames from the port: take, cut, queue
 *   batch.c      where small ones wait, and copies are made
 *   dispatch.c   where they go, and how they leave
 *   receive.c    datagrams from the underlay to the port
 *   learn.c      who has which MAC address
 *   fdbadmin.c   the same, as users say
 *   loops.c      the loop guard
 *   presence.c   the coming and going of peers
 *   interfaces.c the same, of interfaces and addresses
 *   mesh.c       keeping in touch with those that the group does not reach
 *   exchange.c   what those send: ECHO, ECHO-REPLY, PEERS
 *   relaying.c   peers' frames that are sent on to other peers
 *   detouring.c  ports that are reached by such a relay only
 *   seeding.c    the peers that the user listed
 *   sealing.c    sealing, where there is a secret, and keys
 *   opening.c    opening what is sealed, and proof of sessions
 *   fabric.c     the rest: life, events, status
 */

#ifndef QDES_FABRIC_PRIVATE_H
#define QDES_FABRIC_PRIVATE_H

#include "qdes/candidates.h"
#include "qdes/claims.h"
#include "qdes/coalesce.h"
#include "qdes/control.h"
#include "qdes/detour.h"
#include "qdes/encap.h"
#include "qdes/fabric.h"
#include "qdes/fdb.h"
#include "qdes/guard.h"
#include "qdes/nonce.h"
#include "qdes/peer.h"
#include "qdes/portsec.h"
#include "qdes/relay.h"
#include "qdes/sealing.h"
#include "qdes/seeds.h"
#include "qdes/segment.h"
#include "qdes/statics.h"
#include "qdes/status.h"
#include "qdes/storm.h"
#include "qdes/train.h"
#include "qdes/underlay.h"
#include "qdes/wire.h"

#define QDES_POOL_FRAMES 96     /* of a superframe, in one call */
#define QDES_POOL_PIECES 384    /* of which they consist */
#define QDES_PIECES_MAX 64      /* of a frame from the port; more are joined */
#define QDES_DEPARTED 16        /* endpoints that said BYE of late */
#define QDES_HOLDS 3            /* intervals that a hold time is long */
#define QDES_ANSWER_LISTS 64    /* lists in one answer, at most */
#define QDES_ANSWER_EVERY_MS 2000 /* lists of peers for one asker */
#define QDES_DETOUR_LEFT 16     /* relays that were left of late */
#define QDES_TICK_MS 1000       /* how late ageing and expiry may come */

/* What is said at most once. */
typedef enum QdesSaid {
    QDES_SAID_DUPLICATE = 1 << 0,
    QDES_SAID_VERSION = 1 << 1,
    QDES_SAID_SEALED = 1 << 2,
    QDES_SAID_DENIED = 1 << 3,
    QDES_SAID_PEERS_FULL = 1 << 4,
    QDES_SAID_STORM = 1 << 8,
    QDES_SAID_LOOP = 1 << 9,
    QDES_SAID_VIOLATION = 1 << 10,
    QDES_SAID_RECURSION = 1 << 11,
    QDES_SAID_PLAIN = 1 << 16,
    QDES_SAID_WRONG_KEY = 1 << 17,
} QdesSaid;

/* On the way out. */
typedef struct QdesTransmit {
    int64_t next_own;           /* ms, when an own datagram that comes back may
                                   cost a peer again */
    QdesTxQueue queue;          /* small frames, copied */
    QdesTrain trains[QDES_TX_BATCH];
    struct {                    /* what the queue is like after it has left */
        unsigned head;
        unsigned group_done;    /* up to this number, the group has them */
        uint32_t copied;        /* slot of the copy of those at the head */
    } marks[QDES_TX_BATCH];
    uint32_t group_room;        /* bytes, as QdesPeer has it */
    uint32_t group_room_as_of;

    /* A superframe: its frames' headers, and where their payload is. */
    QdesSegmenter cut;
    uint8_t headers[QDES_POOL_FRAMES][QDES_WIRE_SUPERFRAME_SIZE +
                                      QDES_HEADERS_MAX];
    struct iovec pieces[QDES_POOL_PIECES];

    uint8_t joined[QDES_SUPERFRAME_MAX + QDES_VNET_MAX]; /* a frame that came
                                   in too many pieces */
} QdesTransmit;

/* On the way in: what was read and is still to be worked off. */
typedef struct QdesReceive {
    QdesRxTrain trains[QDES_RX_BATCH];
    int n, next;                /* trains */
    size_t offset;              /* in the next one */
    bool by_group;
    const QdesRxTrain *train;   /* which is worked off now, or NULL */
    bool alone;                 /* it is a single datagram */
    uint32_t slot;              /* of its sender, if known already */
    bool teaches;               /* that one, where MAC addresses are */
    const uint8_t *header;      /* of a DATA datagram in it that was valid */
    QdesWireHeader decoded;     /* that header, not what it is followed by */
    const uint8_t *src;         /* the last MAC address learned of it */
    const uint8_t *passed;      /* the datagram that was sent on last */
    const uint8_t *opened;      /* a sealed datagram that was opened, and is
                                   not taken yet */
    QdesCoalescer *coalescer;
    uint8_t vnet[QDES_VNET_MAX];

    /* A superframe that the port does not take: what is left of it. */
    QdesSegmenter cut;
    struct iovec whole;
    bool refused;               /* the port, a packet of it */
    uint8_t headers[QDES_HEADERS_MAX];
} QdesReceive;

/* So many in this second. */
typedef struct QdesRate {
    int64_t from;               /* ms */
    unsigned n;
} QdesRate;

/* Keeping in touch.  Times are ms, INT64_MAX: not at all. */
typedef struct QdesMesh {
    QdesCandidates *candidates;
    uint64_t key[2];            /* of the nonces */
    uint32_t n_unicast;         /* proven peers that hear of us by unicast
                                   only, as counted last */
    uint32_t n_group;           /* all other proven ones */
    struct {
        uint32_t slot;          /* the last one counted */
        uint32_t n_unicast, n_group; /* so far */
    } count;
    int64_t next_count;
    int64_t next_unicast;       /* a turn of the first kind of peers ... */
    uint32_t unicast_slot;      /* after this slot */
    uint32_t hurry;             /* this many in quick succession */
    int64_t next_group;         /* ... and of the other */
    uint32_t group_slot;
    int64_t next_seed;
    int64_t seed_round;         /* when this round began */
    int64_t seed_wait;          /* from it to the next */
    uint32_t seed_cursor;
    int64_t next_request;
    bool has_asked;             /* since there is anybody to be asked */
    uint32_t asked_slot;        /* who was asked last */
    int64_t asked_at;
    unsigned lists_due;         /* how many may still come for an answer */
    unsigned sweep;             /* so many more requests with a filter */
    uint8_t part;               /* of the next one of those */
    QdesRate replies;           /* to strangers, to proven peers */
    QdesRate peer_replies;
    QdesRate lists;
    QdesRate asked;
    QdesRate unasked;           /* lists that came so */
    bool behind_nat;            /* peers see us at an address that we lack */
} QdesMesh;

/* Asking relays.  Times are ms, INT64_MAX: not at all. */
typedef struct QdesDetouring {
    int64_t asked;              /* when one was asked last */
    int64_t next_ask;
    uint32_t ask_slot;          /* after this slot */
    int64_t next_round;
    int64_t greet_at;           /* when the relays are told the news */
    uint64_t left[QDES_DETOUR_LEFT]; /* relays that have less to do */
    unsigned n_left;
} QdesDetouring;

struct QdesFabric {
    QdesConfig config;
    const QdesHost *host;
    void *opaque;
    QdesUnderlay *underlay;
    QdesFdb *fdb;
    QdesPeers *peers;
    QdesSeeds *seeds;
    QdesResolver *resolver;     /* NULL: nothing was to be looked up */
    QdesStats stats;
    QdesPort port;
    uint64_t instance;
    unsigned said;

    bool link_up;
    bool paused;                /* the port is full */
    bool blocked;               /* the unicast socket is full */
    int64_t paused_at;

    QdesRate answers;           /* HELLOs to newcomers */
    QdesMesh mesh;

    int64_t next_hello;
    int64_t next_expiry;        /* nobody expires before */
    int64_t refresh_at;
    int64_t timer;              /* what the host was told */

    struct {
        QdesAddr addr;
        int64_t when;           /* ms, 0: not in use */
    } departed[QDES_DEPARTED];
    unsigned next_departed;

    QdesClaims claims;          /* on MAC addresses of this side */
    QdesStatics *statics;       /* before @fdb */
    QdesPortsec *portsec;       /* NULL: any MAC address may be here */
    QdesAddr spoofer;           /* whose frame had one of its addresses last */
    QdesStorm storm;            /* of what the port floods */
    QdesRelay *relay;           /* NULL: relay=off */
    QdesStorm relay_storm;      /* of what it floods for others */
    QdesDetours detours;
    QdesDetouring detouring;

    struct {
        QdesGuard guard;
        uint64_t mark;          /* of our own probes */
        QdesStorm checks;       /* of probes that are heard */
        QdesStorm marks;        /* of peers that are made */
        bool blocked;
        char name[QDES_NAME_MAX + 1]; /* of the peer that blocks this port */
        QdesAddr addr;
        int64_t next_echo;      /* ms, to that one */
        int64_t relearn_at;     /* ms, 0: nothing to forget */
    } loop;

    QdesSealing *sealing;       /* NULL: not sealed */
    uint32_t overhead;          /* bytes that sealing adds to a datagram */
    uint32_t paths;             /* changes with what is known of paths */
    QdesTransmit tx;
    QdesReceive rx;
};

/* A line for the log. */
void qdes_fabric_say(QdesFabric *f, QdesLogLevel level, const char *format,
                     ...) G_GNUC_PRINTF(3, 4);

/* Is this the first time that @what is to be said? */
bool qdes_fabric_first(QdesFabric *f, QdesSaid what);

/* Warn once of what @text says the one at @from does. */
void qdes_fabric_say_of(QdesFabric *f, QdesSaid what, const QdesAddr *from,
                        const char *text);

/* Watch the sockets for what the fabric waits for. */
void qdes_fabric_watch(QdesFabric *f);

/* A frame with @mac as its source comes from @owner. */
void qdes_fabric_learn(QdesFabric *f, const uint8_t *mac, uint32_t owner,
                       int64_t now);

/* The next two: only where there is port security. */

/* May a frame from the port have @src as its source?  Warns where not. */
bool qdes_fabric_admits(QdesFabric *f, const uint8_t *src, int64_t now);

/* Is @src, in a frame from @from, an address that is listed as here? */
bool qdes_fabric_is_spoofed(QdesFabric *f, const uint8_t *src,
                            const QdesAddr *from, int64_t now);

/* Take the listed MAC addresses from @config. */
void qdes_fabric_secure_port(QdesFabric *f, const QdesConfig *config);

typedef enum QdesWay {
    QDES_WAY_DROP,              /* counted already */
    QDES_WAY_FLOOD,
    QDES_WAY_PEER,
} QdesWay;

/* Where the user or the FDB has @dst: a slot, or QDES_FDB_LOCAL.  Returns false
 * where nobody knows. */
bool qdes_fabric_find_owner(const QdesFabric *f, const uint8_t *dst,
                            int64_t now, uint32_t *owner);

/*
 * Where a frame to @dst goes; QDES_WAY_PEER: to the one in *@slot.  Where it is
 * QDES_WAY_FLOOD, storm control allows it, and qdes_storm_charge() is due when
 * it has left.
 */
QdesWay qdes_fabric_find_way(QdesFabric *f, const uint8_t *dst, int64_t now,
                             uint32_t *slot);

/* Bytes of the longest datagram that the path to the peer in @slot carries in
 * one piece; QDES_PEER_NONE: to the group. */
uint32_t qdes_fabric_room(QdesFabric *f, uint32_t slot);

/* Fill @to with the group, or the peer in @slot. */
void qdes_fabric_set_destination(QdesFabric *f, QdesTxFrame *to, QdesWay way,
                                 uint32_t slot);

/* Is the peer in @slot still the one at @addr? */
bool qdes_fabric_is_known(const QdesFabric *f, uint32_t slot,
                          const QdesAddr *addr);

/* The address of ours from which the peer in @slot is sent to, if it is still
 * the one at @to, may be gone: routes shall say. */
static inline void qdes_fabric_forget_from(QdesFabric *f, uint32_t slot,
                                           const QdesAddr *to)
{
    if (qdes_peers_find(f->peers, to) == slot) {
        qdes_peers_set_at(f->peers, slot, NULL, 0);
    }
}

/* Does who is there accept unfinished checksums? */
bool qdes_fabric_takes_partial(const QdesFabric *f, const QdesTxFrame *to);

/* Does it accept superframes? */
bool qdes_fabric_takes_superframes(const QdesFabric *f,
                                   const QdesTxFrame *to);

/* Count a datagram that is dropped. */
void qdes_fabric_drop_datagram(QdesFabric *f, QdesCounter counter);

/* Count a frame from the port that is dropped. */
void qdes_fabric_drop_frame(QdesFabric *f, QdesCounter counter);

/* Count @n frames that the socket would not take. */
void qdes_fabric_count_error(QdesFabric *f, int err, unsigned n);

/* Count @n frames of @bytes in all that are flooded by copies alone. */
void qdes_fabric_count_copied(QdesFabric *f, unsigned n, size_t bytes);

/* Count @n copies of frames, of the port or @relayed, that could not be
 * sent. */
void qdes_fabric_lose_copies(QdesFabric *f, bool relayed, unsigned n);

/* Send the frame of @size bytes at @data, which is a peer's and lacks what
 * @vnet says, on to the peer in @slot.  Any peer may be gone after that. */
void qdes_fabric_send_on(QdesFabric *f, uint32_t slot, const QdesVnet *vnet,
                         uint8_t *data, size_t size, int64_t now);

typedef enum QdesSent {
    QDES_SENT,                  /* all that could be; the rest is counted */
    QDES_SENT_BLOCKED,          /* the socket is full */
    QDES_SENT_LOST_WAY,         /* the peer of the next train is gone */
} QdesSent;

/* Send trains from *@next to @n, and count them. */
QdesSent qdes_fabric_send_trains(QdesFabric *f, QdesTrain *trains, unsigned n,
                                 unsigned *next);

/* The socket is full: wait for room. */
void qdes_fabric_block(QdesFabric *f);

/*
 * Send what waits, as far as the socket has room; where it has not, the
 * fabric is blocked.  Returns whether all has left.
 */
bool qdes_fabric_send_queue(QdesFabric *f, int64_t now);

/* Drop what waits to be sent: the link is down. */
void qdes_fabric_drop_queue(QdesFabric *f);

/* The port is full: read nothing until it has room. */
void qdes_fabric_pause(QdesFabric *f, int64_t now);

/*
 * Hand a frame of @size bytes to the port: @iov[0] is left for its
 * virtio_net_hdr, which is written in front of @iov[1] instead where that is
 * all of the frame and has @headroom for it.
 */
QdesDelivery qdes_fabric_deliver(QdesFabric *f, const QdesVnet *vnet,
                                 struct iovec *iov, int iovcnt, size_t size,
                                 size_t headroom);

/* Read from the socket @fd, and deliver. */
void qdes_fabric_receive(QdesFabric *f, int fd, int64_t now);

/* Deliver what was read and is still to be worked off, until the port is
 * full. */
void qdes_fabric_work_off(QdesFabric *f, int64_t now);

/* Have qdes_fabric_tick() called at @when at the latest. */
void qdes_fabric_arm(QdesFabric *f, int64_t when);

/*
 * A frame came from @from, with @bytes around it.  Returns its slot, or
 * QDES_PEER_NONE when it said BYE just now: what it sent before may be read
 * after that.  *@teaches: it is proven, or heard by the group, so that MAC
 * addresses may be learned from it.
 */
uint32_t qdes_fabric_hear(QdesFabric *f, const QdesAddr *from, bool by_group,
                          size_t bytes, int64_t now, bool *teaches);

/*
 * The peer in @slot, if any, sent by unicast what is for all.  Without HELLOs
 * that is all that tells that it is not in the group any more.
 */
void qdes_fabric_hear_copy(QdesFabric *f, uint32_t slot, int64_t now);

/* Something else that is valid came from @from.  Returns as qdes_fabric_hear()
 * does. */
uint32_t qdes_fabric_hear_again(QdesFabric *f, const QdesAddr *from,
                                int64_t now);

/* Did @addr say BYE just now? */
bool qdes_fabric_has_departed(const QdesFabric *f, const QdesAddr *addr,
                              int64_t now);

/* Send a control message to @to, NULL: to the group.  Returns false, and has
 * counted it, when it cannot be sent. */
bool qdes_fabric_send_control(QdesFabric *f, const QdesAddr *to,
                              const uint8_t *data, size_t size);

/* The same, of a datagram that is as it is to be. */
bool qdes_fabric_send_datagram(QdesFabric *f, const QdesAddr *to,
                               const uint8_t *data, size_t size);

/* Send a HELLO to @to, NULL: to the group.  @asks: for one in return. */
void qdes_fabric_send_hello(QdesFabric *f, const QdesAddr *to, bool asks,
                            QdesGroupHeard group_heard);

/*
 * Can @err, of sending, be about an earlier datagram?  What is surely about
 * this one may come when the ports of this host have had their copy of a
 * flood already: to try again would give them another.
 */
bool qdes_fabric_may_be_late(int err);

/* The peer in @slot is gone, and all that leads to it. */
void qdes_fabric_forget(QdesFabric *f, uint32_t slot);

/* The peer in @slot cannot be reached: forget it, but for where it was. */
void qdes_fabric_lose(QdesFabric *f, uint32_t slot);

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

/* List the peers of @config.  Names are looked up from the first tick on. */
bool qdes_fabric_start_seeds(QdesFabric *f, const QdesConfig *config,
                             int64_t now, GError **errp);
void qdes_fabric_stop_seeds(QdesFabric *f);

/* Have looked up what is due. */
void qdes_fabric_look_up_seeds(QdesFabric *f, int64_t now);

/* Interfaces may have other indices: link-local seeds go by their names. */
void qdes_fabric_rescope_seeds(QdesFabric *f, int64_t now);

/* If @fd is about that, take the answers and return true. */
bool qdes_fabric_take_answers(QdesFabric *f, int fd, int64_t now);

/* A seed that says no HELLO, and is not heard yet, is a peer. */
void qdes_fabric_presume_seed(QdesFabric *f, const QdesAddr *addr,
                              int64_t now);

/* Keep in touch with peers: begin, end. */
void qdes_fabric_start_mesh(QdesFabric *f, int64_t now);
void qdes_fabric_stop_mesh(QdesFabric *f);

/* Send what is due, and have it go on. */
void qdes_fabric_tend_mesh(QdesFabric *f, int64_t now);

/* Have the timer called when something is due. */
void qdes_fabric_arm_mesh(QdesFabric *f, int64_t now);

/* The seeds, or where they are, have changed: contact them. */
void qdes_fabric_contact_seeds(QdesFabric *f, int64_t now);

/* There is news about this port for all peers that it reaches by unicast. */
void qdes_fabric_hurry(QdesFabric *f, int64_t now);

/* Send an ECHO to @to.  Returns false when it cannot be sent. */
bool qdes_fabric_send_echo(QdesFabric *f, const QdesAddr *to, int64_t now);

/* Send the peer in @slot a HELLO of its own.  It may be gone after that. */
void qdes_fabric_greet(QdesFabric *f, uint32_t slot, int64_t now);

/* The peer in @slot is proven or, being so, alive, which it was not before. */
void qdes_fabric_note_proven(QdesFabric *f, uint32_t slot, int64_t now);

/* A list of peers told something new. */
void qdes_fabric_note_list(QdesFabric *f, int64_t now);

/* @bytes came from @from, which is not proven. */
void qdes_fabric_credit(QdesFabric *f, const QdesAddr *from, size_t bytes,
                        int64_t now);

/* An ECHO, ECHO-REPLY or PEERS came. */
void qdes_fabric_take_exchange(QdesFabric *f, const QdesWireHeader *header,
                               const QdesAddr *from, int64_t now);

/* Who is at @from has returned a nonce, after @age_us.  Returns its slot, or
 * QDES_PEER_NONE. */
uint32_t qdes_fabric_take_proof(QdesFabric *f, const QdesAddr *from,
                                int64_t age_us, int64_t now);

/* Ask the peer in @slot whom it knows. */
void qdes_fabric_ask_peer(QdesFabric *f, uint32_t slot, int64_t now);

/* Does this port relay now? */
bool qdes_fabric_relays(const QdesFabric *f);

/* The peer in @slot said by unicast whose frames it wants. */
void qdes_fabric_take_relay_for(QdesFabric *f, uint32_t slot,
                                const QdesWireHello *hello, int64_t now);

/*
 * The frame of @size bytes at @data came from the peer in @slot, as @header
 * says: send it on to those that asked for it.  Any peer may be gone after
 * that.  Returns whether it is for the port, too.
 */
bool qdes_fabric_relay(QdesFabric *f, uint32_t slot, uint8_t *data,
                       size_t size, const QdesWireHeader *header,
                       uint16_t segment_size, int64_t now);

/* Who should be at @addr, @instance, cannot be reached there. */
void qdes_fabric_miss(QdesFabric *f, uint64_t instance, const QdesAddr *addr,
                      int64_t now);

/* The peer in slot @teller told of somebody.  Returns whether that one is
 * missed. */
bool qdes_fabric_told_of_missed(QdesFabric *f, uint32_t teller,
                                const QdesEntry *entry, int64_t now);

/* @instance was proven to be at an endpoint, and said HELLO from there. */
void qdes_fabric_found(QdesFabric *f, uint64_t instance, int64_t now);

/* An endpoint of @relay is gone. */
void qdes_fabric_lose_relay(QdesFabric *f, uint64_t relay);

/* What the peer in @slot is to relay, up to QDES_WIRE_RELAY_MAX instances.
 * Returns their number. */
unsigned qdes_fabric_list_detours(const QdesFabric *f, uint32_t slot,
                                  uint64_t *instances);

/* Ask relays: begin; do what is due, and when that is. */
void qdes_fabric_start_detours(QdesFabric *f);
void qdes_fabric_tend_detours(QdesFabric *f, int64_t now);
int64_t qdes_fabric_detours_due(const QdesFabric *f);

/* Tell of sealing in @status. */
void qdes_sealing_status(const QdesFabric *f, QdesStatusSeal *status);

/* Can floods leave by the group? */
bool qdes_fabric_has_group(const QdesFabric *f);

/* The interval of HELLOs to peers that are reached by unicast only, in ms. */
int64_t qdes_fabric_interval(const QdesFabric *f);

/* @ms, but up to 10 % more or less, lest ports fall in step. */
int64_t qdes_fabric_jitter(const QdesFabric *f, int64_t ms);

int64_t qdes_fabric_now_us(const QdesFabric *f, int64_t now);

/* One more of what is limited to @max in a second? */
bool qdes_rate_take(QdesRate *rate, unsigned max, int64_t now);

/* Deal with a probe that came from the port, and count it. */
void qdes_fabric_take_probe(QdesFabric *f, const struct iovec *iov, int iovcnt,
                            int64_t now);

/* Begin to guard, if it is to be. */
void qdes_fabric_guard_init(QdesFabric *f, int64_t now);

/* Send the probe that is due, and forget what is out of date. */
void qdes_fabric_guard(QdesFabric *f, int64_t now);

/* A peer is gone; it may be the one that blocks this port. */
void qdes_fabric_guard_lost(QdesFabric *f);

/* Log where the group is joined. */
void qdes_fabric_report_group(QdesFabric *f);

/* Interfaces, addresses or routes may have changed. */
void qdes_fabric_refresh(QdesFabric *f, int64_t now);

#endif
