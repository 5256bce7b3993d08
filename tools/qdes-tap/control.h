/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control: a Unix socket that tells the status of the port, and changes it
 *
 * What can be asked, and how, is request.h's matter; this module keeps a
 * client, stuck or hostile, from harming the port:
 *
 *   - CONTROL_CLIENTS at a time, the next ones are told so and closed;
 *   - a request has at most REQUEST_MAX bytes, or the client is closed;
 *   - a client that lets CONTROL_TIMEOUT_MS pass without sending a whole
 *     request, or without taking anything of an answer, is closed;
 *   - the next request of a client is read when the last answer is gone, so
 *     there is one answer in memory for each client;
 *   - the event loop only takes the snapshot; its JSON, which is long when
 *     the FDB is, is made by another thread.
 *
 * The socket itself, and who can connect to it, is unixlistener.h's matter.
 *
 * Threads: all functions are the main thread's.
 */

#ifndef QDES_TAP_CONTROL_H
#define QDES_TAP_CONTROL_H

#include "qdes/status.h"

#include "loop.h"
#include "request.h"
#include "unixlistener.h"

#define CONTROL_CLIENTS 16
#define CONTROL_TIMEOUT_MS 10000

typedef struct Control Control;

/* Take a snapshot that the caller frees with qdes_status_free(). */
typedef QdesStatus *ControlStatusFunc(void *opaque);

/* Do what @request asks to be changed; *@n is how many entries that were. */
typedef bool ControlChangeFunc(void *opaque, const Request *request,
                               size_t *n, GError **errp);

/*
 * Make the socket @path.  Clients wait until control_start().  Not to be
 * called when there are threads.
 */
Control *control_new(Loop *loop, const char *path, GError **errp);

/* Answer from now on; @id is what the port is called. */
void control_start(Control *control, const char *id,
                   ControlStatusFunc *status, ControlChangeFunc *change,
                   void *opaque);

/* Where clients connect; the caller may have its file disowned. */
UnixListener *control_listener(Control *control);

/* Close and remove the socket, if it is still ours.  Accepts NULL. */
void control_free(Control *control);

#endif
