/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The fabric: one port of a distributed Ethernet switch
 *
 * A QdesFabric is one port of one network.  It takes Ethernet frames from its
 * port (a guest's NIC, a TAP device), looks their destination up in the FDB
 * and sends them to the one peer that owns it, or to the group where nobody
 * or everybody does.  From the sockets it takes datagrams, checks them,
 * learns who is where, and hands the frames to the port.
 *
 *   port -> qdes_fabric_send() -> FDB -> segment -> wire -> underlay
 *   underlay -> qdes_fabric_ready() -> wire -> learn -> coalesce
 *            -> QdesHost.deliver
 *
 * A port may have a virtio_net_hdr before each frame (qdes_fabric_set_port()).
 * Then superframes and frames with unfinished checksums pass in both
 * directions, as far as the port accepts them, and are cut, rebuilt and
 * summed here.
 *
 * What comes from the fabric is never sent into the fabric again, so no loop
 * can arise inside it.  Where two ports sit on one LAN, the loop guard blocks
 * one of them (loops.c).  A peer that says BYE, that the network reports
 * unreachable or that is not heard for its hold time is forgotten with all
 * its MAC addresses; the next frame to one of them floods.
 *
 * The host (QEMU, qdes-tap, a test) owns event loop, clock, randomness and
 * log, and passes them in through QdesHost.  The fabric tells it which
 * descriptors to watch and when to call back.  Several fabrics in one process
 * know nothing of each other.
 *
 * Times: @now is milliseconds of a monotonic clock that the host reads once
 * per event; it begins above 0.
 *
 * Batches: frames that were sent leave together, at the latest when the host
 * calls qdes_fabric_flush(), which it does at the end of each turn of its
 * loop.  No frame ever waits for a timer.
 *
 * Ownership: frames are borrowed during the call, in both directions.
 *
 * Limits: a frame has 14 to QDES_FRAME_MAX bytes, a superframe up to
 * QDES_SUPERFRAME_MAX; QDES_MAX_PEERS peers and
 * QdesConfig.max_macs MAC addresses, both evicting fairly; one event reads at
 * most QDES_BUDGET datagrams per descriptor.
 *
 * Threads: none; all calls on one fabric come from one thread at a time.  No
 * callback may call back into the fabric, but for qdes_fabric_status() and
 * qdes_fabric_summary(), and qdes_fabric_send() from QdesHost.writable.
 */

#ifndef QDES_FABRIC_H
#define QDES_FABRIC_H

#include <sys/uio.h>

#include "qdes/addr.h"
#include "qdes/config.h"
#include "qdes/stats.h"

typedef struct QdesFabric QdesFabric;

#define QDES_BUDGET 64          /* datagrams per descriptor and event; a train
                                   that the kernel hands over is one */
#define QDES_SUPERFRAME_MAX 65600 /* bytes: IP's largest packet, Ethernet */

typedef enum QdesWatch {
    QDES_WATCH_NONE = 0,        /* stop watching: the fd may be closed next */
    QDES_WATCH_READ = 1,
    QDES_WATCH_WRITE = 2,
} QdesWatch;

typedef enum QdesLogLevel {
    QDES_LOG_INFO,              /* what a user may want to read once */
    QDES_LOG_NOTICE,            /* what a user should, though nothing is wrong;
                                   a host that shows no INFO at start shows
                                   this */
    QDES_LOG_WARNING,           /* what hurts; each kind is said once */
} QdesLogLevel;

typedef enum QdesDelivery {
    QDES_DELIVERED,             /* the port took the frame */
    QDES_DELIVERED_FULL,        /* it took it, but no more for now: reading
                                   stops until qdes_fabric_resume() */
    QDES_REFUSED,               /* the port dropped it */
} QdesDelivery;

/*
 * How frames pass between a port and its fabric.  All zero, as a fabric
 * starts: whole frames with finished checksums, and nothing before them.
 */
typedef struct QdesPort {
    size_t vnet_size;           /* bytes of virtio_net_hdr before each frame:
                                   0, or QDES_VNET_MIN to QDES_VNET_MAX */
    bool vnet_big_endian;
    /* What the port accepts; without a virtio_net_hdr, nothing. */
    bool csum;                  /* unfinished checksums; all others need it */
    bool tso4, tso6;            /* TCP superframes */
    bool ecn;                   /* TCP superframes with CWR */
    bool uso4, uso6;            /* UDP superframes */
} QdesPort;

/* What a fabric needs of the program that it lives in.  All are mandatory but
 * the last two. */
typedef struct QdesHost {
    /*
     * Hand a frame to the port, in pieces, @size bytes in all.  It begins with
     * the virtio_net_hdr if the port has one, all of it in the first piece.
     */
    QdesDelivery (*deliver)(void *opaque, const struct iovec *iov, int iovcnt,
                            size_t size);

    /*
     * There is room in the socket again after it was full.  That was noticed
     * by a qdes_fabric_send() that returned false, or by the batch when it was
     * to leave: then no frame was refused.  Called from qdes_fabric_ready() as
     * its very last act, so that qdes_fabric_send() may be called here.
     */
    void (*writable)(void *opaque);

    /* Watch @fd for @events, a mask of QdesWatch, from now on. */
    void (*watch)(void *opaque, int fd, int events);

    /* Call qdes_fabric_tick() at @deadline; replaces the time set before. */
    void (*set_timer)(void *opaque, int64_t deadline);

    /* A line for the log, without a newline. */
    void (*log)(void *opaque, QdesLogLevel level, const char *text);

    /* What qdes_fabric_summary() says has changed. */
    void (*changed)(void *opaque);

    /* 64 bits that nobody can foretell. */
    uint64_t (*random)(void *opaque);

    /*
     * Frames circled in a loop that was broken since: what learns addresses
     * on the port's side has learned wrong ones.  May be NULL.
     */
    void (*relearn)(void *opaque);

    /* Microseconds of a monotonic clock, for how far away peers are.  May be
     * NULL: then that is known to the millisecond. */
    int64_t (*now_us)(void *opaque);
} QdesHost;

/*
 * Open the sockets, join the group, and say HELLO.  @config is copied, @host
 * and @opaque have to outlive the fabric.  Where no interface has a route for
 * the group, the fabric starts on loopback and says so in the log.  Returns
 * NULL with @errp set when the configuration cannot work at all.
 */
QdesFabric *qdes_fabric_new(const QdesConfig *config, const QdesHost *host,
                            void *opaque, int64_t now, GError **errp);

/* Say BYE, stop watching, close the sockets.  Accepts NULL. */
void qdes_fabric_free(QdesFabric *fabric);

/* Frames are passed as @port says from now on.  Those that were read already
 * and wait for the port to have room may be dropped, and are counted then. */
void qdes_fabric_set_port(QdesFabric *fabric, const QdesPort *port);

/*
 * Send the frame in @iov, which begins with the port's virtio_net_hdr if it
 * has one.  Returns false when the socket has no room: the frame was not
 * taken, and QdesHost.writable will be called.  Returns true when the frame
 * was dealt with: sent, or put into the batch, or dropped and counted.
 */
bool qdes_fabric_send(QdesFabric *fabric, const struct iovec *iov, int iovcnt,
                      int64_t now);

/* Is there a batch that waits for qdes_fabric_flush()? */
bool qdes_fabric_has_batch(const QdesFabric *fabric);

/* Have the batch leave.  To be called at the end of each turn of the loop in
 * which frames were sent; without any, it does nothing. */
void qdes_fabric_flush(QdesFabric *fabric, int64_t now);

/* A watched descriptor is ready; an error or hang-up counts as READ. */
void qdes_fabric_ready(QdesFabric *fabric, int fd, int events, int64_t now);

/* The time that QdesHost.set_timer was told has come; calls too early or too
 * late do no harm. */
void qdes_fabric_tick(QdesFabric *fabric, int64_t now);

/*
 * The port has room again after QDES_DELIVERED_FULL.  What was read already is
 * delivered now, within this call, which may make the port full again.  Without
 * a QDES_DELIVERED_FULL before, it does nothing.
 */
void qdes_fabric_resume(QdesFabric *fabric, int64_t now);

/*
 * The port's link goes down or up.  Down: the batch leaves as far as the socket
 * has room, peers are told BYE, and from then on frames are dropped in both
 * directions; up: HELLO.  A fabric starts with its link up.
 */
void qdes_fabric_set_link(QdesFabric *fabric, bool up, int64_t now);

/*
 * List the peer @text, HOST[:PORT] as in the configuration; one that is
 * listed already is no error.  Or strike it off the list, by what was listed:
 * what the name of one leads to can not be struck off apart.  Both return
 * false with one message in @errp.
 */
bool qdes_fabric_add_peer(QdesFabric *fabric, const char *text, int64_t now,
                          GError **errp);
bool qdes_fabric_del_peer(QdesFabric *fabric, const char *text, int64_t now,
                          GError **errp);

/*
 * Change the secrets of a sealed fabric.  For a fleet to change without an
 * outage, give each port in turn the new one with the old one as @secret_old,
 * and then each the new one alone (@secret_old NULL).
 */
bool qdes_fabric_set_secrets(QdesFabric *fabric, const QdesSecret *secret,
                             const QdesSecret *secret_old, int64_t now,
                             GError **errp);

/*
 * Something changed on the port's side, such as what its TAP is bridged to:
 * the loop guard looks at once whether another port of the fabric is there.
 */
void qdes_fabric_suspect(QdesFabric *fabric, int64_t now);

/*
 * Say where a MAC address is: at the endpoint @peer, or on this side of the
 * port where that is NULL.  Such an entry takes the place of what was learned
 * or said before, and stays until it is deleted.  As long as nobody is known at
 * @peer, frames to @mac are flooded.
 */
bool qdes_fabric_add_fdb(QdesFabric *fabric, const char *mac,
                         const char *peer, GError **errp);

/* Delete what qdes_fabric_add_fdb() said. */
bool qdes_fabric_del_fdb(QdesFabric *fabric, const char *mac, GError **errp);

/* What to forget.  All zero: everything that was learned. */
typedef struct QdesFlush {
    const char *mac;            /* NULL, or only this one */
    const char *peer;           /* NULL, or only what is at this endpoint */
    bool statics;               /* static entries as well */
} QdesFlush;

/* Forget, and tell in *@n how many entries that were. */
bool qdes_fabric_flush_fdb(QdesFabric *fabric, const QdesFlush *what,
                           size_t *n, GError **errp);

/*
 * One line that stays true until QdesHost.changed, for "info network"; the
 * caller frees it with g_free().
 */
char *qdes_fabric_summary(const QdesFabric *fabric);

#endif
