/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sandbox: what is left to a process without capabilities, taken away
 *
 * Four layers, each by itself, and each as far as the system grants it:
 *
 *   - own namespaces for IPC, the host's name, and mounts, and in the last an
 *     empty file system as root (where the process is not root, by way of a
 *     user namespace); the network's stays
 *   - Landlock: no file, no TCP, no signals (landlock.h)
 *   - the list of system calls (syscallfilter.h)
 *   - one process that has no file, another that has no packet (helper.h)
 *
 * What cannot be had is said, in one line, and the port works on; a warning it
 * is where the list of system calls is missing, as that alone closes files.
 *
 * With AddressSanitizer there is no Landlock and no empty root: it looks for
 * leaks with the help of /proc.
 *
 * Threads: no other may exist.
 */

#ifndef QDES_TAP_SANDBOX_H
#define QDES_TAP_SANDBOX_H

#include <glib.h>
#include <stdbool.h>

typedef enum SandboxMode {
    SANDBOX_ON,
    SANDBOX_LOG,                /* other system calls are logged and done */
    SANDBOX_OFF,
} SandboxMode;

#define SANDBOX_ERROR (sandbox_error_quark())
GQuark sandbox_error_quark(void);

/* @text: of --sandbox; NULL: the default. */
bool sandbox_parse(SandboxMode *mode, const char *text, GError **errp);

/* Take the namespaces, before the last capabilities go. */
void sandbox_isolate(void);

/* The rest, after they have gone; then say what the sandbox is made of. */
void sandbox_enter(SandboxMode mode);

/* The same for the helper, whose own @directory (NULL: none) is where files
 * can be removed.  It says nothing: the port has the same system. */
void sandbox_enter_helper(const char *directory, bool log_only);

#endif
