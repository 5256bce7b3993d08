/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A doorbell that rings when interfaces change
 *
 * The kernel tells of every interface that is set up or down, renamed,
 * deleted or moved (rtnetlink(7)).  Messages can get lost when there are
 * many, so none is believed: each only means that it is time to look again.
 */

#ifndef QDES_TAP_LINKWATCH_H
#define QDES_TAP_LINKWATCH_H

#include "loop.h"

typedef struct LinkWatch LinkWatch;
typedef void LinkWatchFunc(void *opaque, int64_t now);

/* Returns NULL with errno set when the kernel refuses. */
LinkWatch *link_watch_new(Loop *loop, LinkWatchFunc *changed, void *opaque);

/* Accepts NULL. */
void link_watch_free(LinkWatch *watch);

#endif
