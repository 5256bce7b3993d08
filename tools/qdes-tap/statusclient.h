/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sub-commands: ask a running port, print what it says
 *
 * The port may be stuck, and anybody may have made the socket: what comes is
 * waited for and read within bounds, and shown only when it is an answer.
 */

#ifndef QDES_TAP_STATUSCLIENT_H
#define QDES_TAP_STATUSCLIENT_H

#include <stdbool.h>

#include "request.h"

/*
 * Ask the port at @path (NULL: the only one in the usual directories) and
 * print its status to stdout, as JSON or as text.  Returns the exit status.
 */
int status_client(const char *path, bool json);

/* The same to have something changed. */
int change_client(const char *path, const Request *request);

#endif
