/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Coalescing: frames of one flow become a superframe again
 *
 * What the kernel's GRO does, without touching the payload: frames that came
 * in one batch are queued in the order of their arrival; one that goes on
 * exactly where an open superframe of its flow ends is appended to that.
 *
 *   frames       headers | payload[0]    headers | payload[1]    ...
 *   superframe   headers'| payload[0] payload[1] ...     (as an iovec)
 *
 * Only what a receiver cannot tell from separate frames is merged.  Same in
 * both: Ethernet header and VLAN tags, addresses and ports, TTL, traffic
 * class, flow label, DF; TCP options byte by byte, acknowledgment number,
 * window, ECE; whether the checksum is unfinished.  There are neither IPv4
 * options, nor IPv6 extension headers, nor padding.  TCP: the sequence number
 * goes on; only ACK and ECE are set, FIN and PSH in the last frame, CWR in
 * the first (with ECN accepted).  UDP: the checksum is used.  IPv4
 * identifications go on by one, or DF makes them meaningless (RFC 6864).
 * All frames but the last have the same payload size, the last is not longer
 * and not empty; PSH or FIN or a shorter frame closes a superframe.
 * Checksums, also that of the IPv4 header, are verified before a frame is
 * merged: no error is papered over.
 *
 * Order: frames of one flow (the same addresses, ports and protocol) leave in
 * the order in which they came; what is not understood leaves after all that
 * came before it, and before all that came after it.  Nothing waits: who
 * filled the queue empties it before it looks for more frames.
 *
 * Ownership: frames are borrowed until the superframe that they are part of
 * was popped, and not written to.
 *
 * Limits: QDES_COALESCE_QUEUE superframes; each is of at most
 * QDES_COALESCE_FRAMES frames and, unless of one, QDES_COALESCE_MAX bytes.
 * All memory is in the queue itself, about 25 KiB.
 *
 * Pure.
 */

#ifndef QDES_COALESCE_H
#define QDES_COALESCE_H

#include <sys/uio.h>

#include "qdes/packet.h"
#include "qdes/vnet.h"

#define QDES_COALESCE_QUEUE 16
#define QDES_COALESCE_FRAMES 64
#define QDES_COALESCE_MAX (14 + 65535) /* what a virtio driver has room for,
                                          VLAN tags or not (5.1.6.3.1) */

typedef struct QdesCoalescer QdesCoalescer;

/* What the port accepts. */
typedef struct QdesCoalesceFeatures {
    bool tcp4, tcp6, udp4, udp6;
    bool ecn;                   /* CWR in the first frame of a superframe */
} QdesCoalesceFeatures;

/* A frame, or several as one. */
typedef struct QdesSuperframe {
    QdesVnet vnet;              /* what it lacks */
    bool v6;                    /* of several frames: over IPv6 */
    unsigned frames;            /* that it was made of */
    size_t size;                /* bytes, without iov[0] */
    size_t frame_bytes;         /* of all the frames that it was made of */
    size_t headroom;            /* bytes before iov[1] that may be written */
    int iovcnt;                 /* with iov[0] */
    struct iovec iov[1 + 1 + QDES_COALESCE_FRAMES]; /* iov[0] is empty, left
                                   for the port's virtio_net_hdr */
} QdesSuperframe;

/* Nothing is merged until features are set. */
QdesCoalescer *qdes_coalescer_new(void);
void qdes_coalescer_free(QdesCoalescer *c);

/* Has an effect on frames added from now on. */
void qdes_coalesce_set_features(QdesCoalescer *c,
                                const QdesCoalesceFeatures *features);

typedef enum QdesCoalesceResult {
    QDES_COALESCE_TAKEN,
    QDES_COALESCE_FULL,         /* pop the first, and try again */
    QDES_COALESCE_BAD,          /* @partial, but neither TCP nor UDP */
} QdesCoalesceResult;

/*
 * Add a frame of 14 to QDES_FRAME_MAX bytes; @partial: its TCP or UDP checksum
 * is not finished.  @headroom: bytes before it that nobody needs.
 */
QdesCoalesceResult qdes_coalesce_add(QdesCoalescer *c, const uint8_t *frame,
                                     size_t size, bool partial,
                                     size_t headroom);

/* Add one that is a superframe already, to leave as it is: TAKEN or FULL. */
QdesCoalesceResult qdes_coalesce_add_whole(QdesCoalescer *c,
                                           const uint8_t *frame, size_t size,
                                           const QdesVnet *vnet, bool v6,
                                           size_t headroom);

/*
 * The superframe to leave first, with its headers finished, or NULL; nothing
 * is appended to it any more.  The caller may write to iov[0].  It stays
 * valid until it is popped.
 */
QdesSuperframe *qdes_coalesce_first(QdesCoalescer *c);
void qdes_coalesce_pop(QdesCoalescer *c);

#endif
