/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The helper: a second process, for what needs files
 *
 * A port that runs needs files for two things only: looking names up, with all
 * the files and modules that the system's configuration names, and removing
 * its control socket at the end.  A process of its own does both, so that the
 * one that reads what comes from the network can be left without any file.
 *
 * It can be asked for nothing else: there is no path in a request, and what
 * is removed is known from the start.  It reads no packet, has none of the
 * port's sockets or devices, and ends when the port does, however that ends.
 * It is sandboxed itself, as far as looking names up allows.
 *
 * Threads: to be started and stopped by the only thread there is; the lookups
 * are the resolver's, in its thread, one at a time.
 */

#ifndef QDES_TAP_HELPER_H
#define QDES_TAP_HELPER_H

#include "qdes/resolve.h"

#include "unixlistener.h"

typedef struct Helper Helper;

/* @listener: whose socket is to be removed one day; NULL: none. */
Helper *helper_start(const UnixListener *listener, bool log_only,
                     GError **errp);

/* A QdesLookup; @opaque is a Helper. */
void helper_lookup(const QdesSeedQuestion *question, bool v4, bool v6,
                   QdesAnswer *answer, void *opaque);

/*
 * Have the socket removed, if @remove is set, and wait for the helper's end.
 * Lookups under way fail.  Accepts NULL.
 */
void helper_stop(Helper *helper, bool remove);

#endif
