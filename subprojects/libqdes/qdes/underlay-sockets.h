/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The sockets of a port: opening them, and who else may have their UDP ports
 *
 * Private to the underlay, whose header tells what the two are for.  The group
 * socket shares its address and port with those of other ports of this host,
 * as each of them gets a copy of what is sent to the group.  The unicast
 * socket shares its own with groups' sockets at most: of two that are alike
 * the kernel would give each datagram to one.
 *
 * What a socket has joined, and who its owner is to others, changes while it
 * lives, and is underlay.c's matter.
 *
 * Ownership: qdes_sockets_close() is needed after an error, too.
 */

#ifndef QDES_UNDERLAY_SOCKETS_H
#define QDES_UNDERLAY_SOCKETS_H

#include "qdes/underlay.h"

typedef struct QdesSockets {
    int group;                  /* -1: none */
    int unicast;
    QdesAddr bound;             /* where the unicast socket is */
} QdesSockets;

/*
 * Open the sockets that @config asks for.  On a host without IPv6, where it
 * asks for both families, @config becomes one of IPv4.  Returns false with
 * @errp set, which names the option that it is about.
 */
bool qdes_sockets_open(QdesSockets *sockets, QdesConfig *config,
                       const QdesUnderlayOs *os, GError **errp);

/* As @config says; @host's log tells of what was asked but not granted. */
void qdes_sockets_set_buffers(const QdesSockets *sockets,
                              const QdesConfig *config,
                              const QdesUnderlayOs *os, const QdesHost *host,
                              void *opaque);

void qdes_sockets_close(const QdesSockets *sockets);

#endif
