/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Port: the TAP device on one side, the fabric on the other
 *
 *   TAP -> port -> capture, qdes_fabric_send()
 *   QdesHost.deliver -> port -> TAP, capture
 *
 * Frames are handed on as they come, with the TAP's virtio_net_hdr if there is
 * one; those of one turn of the loop leave together at its end, but for one
 * that comes alone.  Nothing queues here.  When the fabric's socket has no
 * room, the one frame at hand is kept and the TAP is not read until there is:
 * the kernel's queue of the TAP fills, and whoever sends into it feels that.
 * A frame that the TAP does not take (its link is down, the kernel has no
 * memory) is refused, and libqdes counts it.
 *
 * The TAP's link is the port's: set down, peers are told BYE; set up, HELLO.
 */

#ifndef QDES_TAP_PORT_H
#define QDES_TAP_PORT_H

#include "qdes/status.h"

#include "capture.h"
#include "loop.h"
#include "request.h"
#include "tap.h"

typedef struct Port Port;

/*
 * Join @tap, which is open, to the fabric of @config, and begin to forward.
 * @capture may be NULL.  All are borrowed and have to outlive the port.  When
 * the TAP is deleted, the port says so and ends the loop with status 1.
 * Returns NULL with @errp set when the fabric cannot be joined.
 */
Port *port_new(Loop *loop, Tap *tap, Capture *capture,
               const QdesConfig *config, GError **errp);

/* A snapshot; free it with qdes_status_free(). */
QdesStatus *port_status(Port *port);

/* Do what @request asks to be changed; *@n is how many entries that were. */
bool port_change(Port *port, const Request *request, size_t *n, GError **errp);

/* One line for people; g_free() it. */
char *port_summary(Port *port);

/* Leave the fabric, with a BYE.  Accepts NULL. */
void port_free(Port *port);

#endif
