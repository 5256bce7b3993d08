/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event loop: descriptors and timers on one epoll descriptor
 *
 * What libqdes asks of its host: watch this descriptor, call me back then.
 * It is on the way of every frame, and so does less than GLib's main loop
 * does for each event: no list of all descriptors for the kernel, and no
 * locks.  Nothing here runs GLib's main loop.
 *
 * In each turn, every descriptor that is ready and every timer that is due is
 * served once: no traffic can starve the control socket or a SIGTERM.
 *
 * Times are milliseconds of GLib's monotonic clock, read once for each turn.
 *
 * Threads: none.  Callbacks may change or remove any watch or timer, their
 * own included.
 *
 * Linux only.
 */

#ifndef QDES_TAP_LOOP_H
#define QDES_TAP_LOOP_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "qdes/fabric.h"

typedef struct Loop Loop;
typedef struct LoopTimer LoopTimer;

/* @events is a mask of QdesWatch; an error or hang-up counts as READ. */
typedef void LoopFdFunc(void *opaque, int fd, int events, int64_t now);
typedef void LoopTimerFunc(void *opaque, int64_t now);

/* Returns NULL with errno set when the kernel gives no descriptor. */
Loop *loop_new(void);

/* All watches have to be removed and all timers freed before. */
void loop_free(Loop *loop);

/* Returns the status that loop_quit() was or is told. */
int loop_run(Loop *loop);
void loop_quit(Loop *loop, int status);
bool loop_is_ending(const Loop *loop);

/* For calls from outside of callbacks. */
int64_t loop_now(void);

/*
 * Watch @fd for @events from now on; QDES_WATCH_NONE ends it, and has to come
 * before @fd is closed.  @func and @opaque are taken when a watch begins.
 * Where the kernel has no room for one more, the loop ends, with status 1.
 */
void loop_watch(Loop *loop, int fd, int events, LoopFdFunc *func,
                void *opaque);

LoopTimer *loop_timer_new(Loop *loop, LoopTimerFunc *func, void *opaque);

/* Call once when @deadline has come; replaces the time set before. */
void loop_timer_set(LoopTimer *timer, int64_t deadline);
void loop_timer_stop(LoopTimer *timer);

/* Accepts NULL. */
void loop_timer_free(LoopTimer *timer);

#endif
