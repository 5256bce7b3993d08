/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The TAP device
 *
 * A TAP is an Ethernet interface of the kernel whose cable ends in a file
 * descriptor: what the kernel sends is read(), what is written it receives,
 * one frame for each call.
 *
 * A device that does not exist is created, which takes CAP_NET_ADMIN, and
 * vanishes when it is closed.  A device that exists is opened, which takes
 * CAP_NET_ADMIN or being its owner; it stays when it is closed.  Only one
 * program at a time can hold a TAP (a multi-queue one: one program for each
 * queue).  An interface that is down neither gives nor takes frames; that is
 * a state, not an error.  A device that is deleted under us is gone for good.
 *
 * With a virtio_net_hdr before each frame, superframes pass as well, see
 * tapoffload.h.  Header and offloads are the device's, not the descriptor's:
 * where other programs have queues of it already, both are left as they are.
 *
 * Linux only.
 */

#ifndef QDES_TAP_TAP_H
#define QDES_TAP_TAP_H

#include <glib.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "qdes/fabric.h"

typedef struct Tap {
    int fd;                     /* non-blocking; -1: not open */
    char name[IFNAMSIZ];        /* as the kernel calls it */
    bool created;               /* it did not exist before */
    bool multi_queue;
    bool shared;                /* other programs have queues of it */
    QdesPort port;              /* how frames pass, and what it accepts */
} Tap;

typedef enum TapState {
    TAP_UP,
    TAP_DOWN,
    TAP_GONE,
} TapState;

#define TAP_ERROR (tap_error_quark())
GQuark tap_error_quark(void);

/*
 * Can an interface have this name?  A name with "%d" lets the kernel choose
 * a number.  Touches nothing.
 */
bool tap_check_name(const char *name, GError **errp);

/*
 * Open or create the device @name; with @vnet_hdr, frames have a
 * virtio_net_hdr if that is possible.  On error, returns false.
 */
bool tap_open(Tap *tap, const char *name, bool vnet_hdr, GError **errp);

/* Set the interface up.  Returns false with errno set when it stays down. */
bool tap_bring_up(Tap *tap);

/* How the device is now; its name is read anew, as users may change it. */
TapState tap_state(Tap *tap);

/* Is the device a port of a bridge that lets frames pass as soon as the link is
 * up? */
bool tap_is_bridged(const Tap *tap);

/*
 * Switch the carrier, as if the cable were pulled and plugged in: a bridge
 * forgets what is behind it.  Needs no privileges.  Returns false where the
 * kernel cannot.
 */
bool tap_set_carrier(Tap *tap, bool on);

/* Is the carrier there, as far as others have noticed? */
bool tap_has_carrier(const Tap *tap);

/*
 * Read one frame, with its header.  Returns the size of both, or -1 with
 * errno set: EAGAIN when there is none; tap_state() tells what else is meant.
 */
ssize_t tap_read(Tap *tap, void *frame, size_t size);

/*
 * Write one frame, with its header.  Returns false with errno set when the
 * device did not take it.
 */
bool tap_write(Tap *tap, const struct iovec *iov, int iovcnt);

/* Close the device; if it stays, it stays without offloads. */
void tap_close(Tap *tap);

/*
 * What the errno @err of TUNSETIFF on @name means and what to do about it;
 * @exists: there was such an interface before.  g_free() it.
 */
char *tap_explain(const char *name, bool exists, int err);

#endif
