/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Segmentation: a superframe is cut into frames
 *
 * What the kernel's GSO does, with the payload left where it is: each frame
 * gets headers of its own, written aside, and pieces of the superframe's
 * payload to go behind them.
 *
 *   superframe   headers | payload .......................................
 *   frames       headers'| payload[0]    headers'| payload[1]    ...
 *
 * TCP (RFC 9293): the sequence number goes on, and the urgent pointer keeps
 * pointing where it did; FIN and PSH stay with the last frame, CWR (RFC 3168,
 * 6.1.2) with the first; options are in all of them.
 * UDP: each frame is a datagram of its own.  The IPv4 identification goes on
 * by one.  VLAN tags are in all of them.
 *
 * Also a frame that is no superframe can be cut, when it is a TCP segment too
 * long for its path (and not SYN, RST or urgent), or just be given its
 * checksum, wherever that is.
 *
 * Checksums: with "partial", each frame has the sum of its pseudo-header in
 * the checksum field; otherwise the finished checksum (0 as 0xffff).  A
 * checksum that was finished before is verified before a frame is cut, and a
 * frame whose checksum is wrong is not cut: no error is ever papered over.
 *
 * Invariant: the payloads of all frames, joined, are the superframe's; all
 * frames but the last have the same size, the last is not larger.  Padding
 * stays with a frame that is not cut.
 *
 * A superframe can also be cut into smaller superframes, of several packets
 * each, when who gets them takes that: a path may carry more than its sender's
 * MTU allows.
 *
 * Pure; no memory of its own.  Frames are borrowed until the last piece was
 * taken.
 */

#ifndef QDES_SEGMENT_H
#define QDES_SEGMENT_H

#include <sys/uio.h>

#include "qdes/packet.h"
#include "qdes/vnet.h"

#define QDES_SEGMENT_PACKETS 128 /* in one of the smaller superframes */

typedef enum QdesSegmentResult {
    QDES_SEGMENT_WHOLE,         /* to be carried as it is, no work left */
    QDES_SEGMENT_CUT,           /* to be taken with qdes_segment_next() */
    QDES_SEGMENT_BAD,           /* its virtio_net_hdr contradicts it */
} QdesSegmentResult;

/* A frame under the knife. */
typedef struct QdesSegmenter {
    bool partial;               /* frames need their checksum finished */
    unsigned frames;            /* that are left to take */
    size_t frame_size;          /* bytes of each frame but the last */
    size_t headers_size;        /* bytes of each frame before its payload */
    uint16_t segment_size;      /* bytes of payload in each packet, when the
                                   frames are superframes; else 0 */

    /* Private. */
    bool plain;                 /* one frame, whose headers are finished */
    QdesPacket packet;
    uint8_t headers[QDES_HEADERS_MAX]; /* what all frames have in common */
    uint32_t seq;               /* of the next frame */
    uint16_t id;                /* of the next frame, IPv4 */
    uint16_t packets;           /* in each frame but the last */
    uint8_t flags;              /* TCP flags that are left to give */
    uint16_t urgent;            /* TCP: bytes up to the end of urgent data */
    uint32_t ip_sum;            /* IPv4: of the header in @headers */
    uint32_t pseudo_sum;        /* of all but the length */
    size_t gso_size;            /* bytes of payload in each but the last */
    size_t left;                /* bytes of payload */
    const struct iovec *iov;    /* where the payload goes on */
    size_t iov_offset;
} QdesSegmenter;

/*
 * Begin with the frame of @size bytes in @iov, of which @vnet tells what it
 * lacks.  No frame cut from it is larger than @max_frame bytes, where that is
 * possible: UDP is never cut smaller than its sender did.  @partial: whoever
 * gets the frames accepts unfinished checksums.  @max_super: the largest
 * superframe that it takes, in bytes; 0 for none, and without @partial.
 *
 * QDES_SEGMENT_WHOLE: the frame has all that it needs and is not larger than
 * @max_frame, or cannot be cut; the segmenter is not to be used.
 * QDES_SEGMENT_BAD: an offset outside of the frame, or of its first
 * QDES_HEADERS_MAX bytes where no TCP or UDP was found; a type that is not
 * known or not the frame's, a gso_size of 0 or too large for IP, a superframe
 * that is SYN or RST; to be dropped.
 */
QdesSegmentResult qdes_segment_begin(QdesSegmenter *s, const QdesVnet *vnet,
                                     const struct iovec *iov, int iovcnt,
                                     size_t size, size_t max_frame,
                                     bool partial, size_t max_super);

/*
 * What is to be known of the superframe of @size bytes at @frame, which came
 * from somewhere with @segment_size and its checksum unfinished: @vnet, and
 * whether it is IPv6.  False: it is none; what is needed is TCP or UDP, whole,
 * of at most QDES_SEGMENT_PACKETS packets, not SYN or RST if more than one.
 */
bool qdes_segment_describe(QdesVnet *vnet, bool *v6, const uint8_t *frame,
                           size_t size, uint16_t segment_size);

/*
 * Take the next frame, of which there must be one: its @headers_size bytes of
 * headers are written to @headers, @payload gets up to @max pieces of payload,
 * none of them empty, and *@count their number.  Returns the frame's size in
 * bytes; 0 when @max pieces do not suffice, and the frame is still to be
 * taken.
 */
size_t qdes_segment_next(QdesSegmenter *s, uint8_t *headers,
                         struct iovec *payload, int max, int *count);

#endif
