/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Landlock: the kernel's own way for a process to give up files
 *
 * Everything that this kernel's Landlock knows is refused from then on: files
 * and directories in every way, TCP, abstract Unix sockets and signals to who
 * is outside.  What was opened before works on, and UDP is not concerned.  The
 * exceptions are given as paths.
 *
 * Written for the system calls themselves, as the C library has nothing for
 * them, and with an own copy of the kernel's structures, so that a build on an
 * old system uses what a newer kernel has.
 *
 * Threads: only the one that calls is confined, and those that it starts.
 */

#ifndef QDES_TAP_LANDLOCK_H
#define QDES_TAP_LANDLOCK_H

#include <stdbool.h>

typedef struct LandlockExceptions {
    const char *const *read;    /* NULL-terminated: files below can be read */
    const char *remove;         /* files in it can be removed; NULL: none */
    bool connect_tcp;
} LandlockExceptions;

/*
 * Confine the calling thread for good; no_new_privs has to be set.  Paths that
 * do not exist are left out.  Returns 0, or an errno: ENOSYS or EOPNOTSUPP
 * where the kernel has no Landlock or is started without.
 */
int landlock_confine(const LandlockExceptions *exceptions);

#endif
