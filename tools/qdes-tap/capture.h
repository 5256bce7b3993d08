/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Capture: what crosses the port, as a pcap file
 *
 * Frames of both directions that match the filter are written in libpcap's
 * format, with nanosecond timestamps.  The bridge never waits for it: frames
 * go into a bounded buffer in memory, and a thread writes the buffer out.
 * When who reads (or the disk) is so slow that the buffer is full, frames are
 * left out of the capture, and counted.  When nobody reads any more, or the
 * disk is full, the capture ends with one line in the log.
 *
 * Frames are written as they cross the port: superframes in one piece, and
 * checksums that are left to the receiver unfinished, as tcpdump(8) shows
 * them at the device.
 *
 * Three steps, because privileges change in between: capture_new() checks the
 * filter and touches nothing, capture_open() opens the file, capture_start()
 * makes the thread.
 *
 * Threads: all functions are the main thread's.
 */

#ifndef QDES_TAP_CAPTURE_H
#define QDES_TAP_CAPTURE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define CAPTURE_FRAME_MAX 65664     /* bytes */
#define CAPTURE_BUFFER (8 * 1024 * 1024)    /* bytes that wait; twice that is
                                               the most there is in memory */
#define CAPTURE_FLUSH_MS 2000               /* to write the rest at the end */

typedef struct Capture Capture;

#define CAPTURE_ERROR (capture_error_quark())
GQuark capture_error_quark(void);

/*
 * A capture of the frames that match @filter (pcap-filter(7)), NULL: of all.
 * Returns NULL with @errp set when the filter is wrong.
 */
Capture *capture_new(const char *filter, GError **errp);

/*
 * Open @target, a file to be made, one that exists, a FIFO, or "-" for
 * stdout.  A capture that is freed without being started leaves no trace.
 */
bool capture_open(Capture *capture, const char *target, GError **errp);

/* Empty the file, and write from now on. */
void capture_start(Capture *capture);

/*
 * A frame crosses the port; the first @skip bytes of @iov, its header for the
 * device, are left out.  No frame has more than CAPTURE_FRAME_MAX bytes.
 */
void capture_frame(Capture *capture, const struct iovec *iov, int iovcnt,
                   size_t skip);

/* Write out what waits, but for no longer than CAPTURE_FLUSH_MS, say how many
 * frames there were, and close the file.  Accepts NULL. */
void capture_free(Capture *capture);

#endif
