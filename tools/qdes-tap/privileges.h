/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Privileges: giving them up, in three steps
 *
 * Only the TAP device may need root.  Once it is open:
 *
 *   1. with --user, the process becomes that user, with the user's own group
 *      and no other, so that what is opened later is opened with the user's
 *      rights and belongs to the user;
 *   2. the rest is opened (control socket, capture, UDP sockets); of root's
 *      capabilities only CAP_SYS_ADMIN is left, for the sandbox's namespaces;
 *   3. every capability goes, from all sets, and execve() gives none back.
 *
 * What is left to a process without capabilities, sandbox.h takes away.
 *
 * Step 3 is taken whoever started the program.  Root without --user stays
 * user 0, so that it can still reach its own files, but cannot do more with
 * the system than any user.
 *
 * Threads: capabilities belong to threads, so no thread may exist before
 * step 3.
 */

#ifndef QDES_TAP_PRIVILEGES_H
#define QDES_TAP_PRIVILEGES_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct PrivilegesUser {
    const char *name;           /* NULL: stay who we are */
    uid_t uid;
    gid_t gid;
} PrivilegesUser;

#define PRIVILEGES_ERROR (privileges_error_quark())
GQuark privileges_error_quark(void);

/* Look @name up and check that we may become that user; NULL is nobody. */
bool privileges_find_user(PrivilegesUser *user, const char *name,
                          GError **errp);

/* Step 1. */
bool privileges_become(const PrivilegesUser *user, GError **errp);

/* Does the process have CAP_SYS_ADMIN still? */
bool privileges_has_admin(void);

/* Step 3. */
bool privileges_drop(GError **errp);

#endif
