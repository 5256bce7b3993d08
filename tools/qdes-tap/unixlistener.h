/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A listening Unix socket that is ours alone
 *
 * The socket is a file: others may have one at the same path, dead processes
 * leave theirs behind, and two programs may start at the same time.  A socket
 * where nobody listens any more is replaced; one where somebody does is in
 * use, and so is anything that is not a socket.  At the end the file is
 * removed, if it is still the one that was made.
 *
 * Only the user that the program runs as, and root, can connect: the mode is
 * 0600 from the first moment on.
 */

#ifndef QDES_TAP_UNIXLISTENER_H
#define QDES_TAP_UNIXLISTENER_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct UnixListener {
    int fd;                     /* non-blocking; -1: not open */
    char *path;
    bool bound;                 /* @path was made, as this file: */
    dev_t dev;
    ino_t ino;
} UnixListener;

#define UNIX_LISTENER_ERROR (unix_listener_error_quark())
GQuark unix_listener_error_quark(void);

/*
 * Make the socket @path, which the option --control has named.  Not to be
 * called when there are threads, as the file mode mask changes meanwhile.
 * unix_listener_close() is needed after an error, too.
 */
bool unix_listener_open(UnixListener *listener, const char *path,
                        GError **errp);

/* Remove the file, if it is still ours. */
void unix_listener_remove(const UnixListener *listener);

/* Somebody else is to remove the file. */
void unix_listener_disown(UnixListener *listener);

/* Close and remove the socket; does nothing when it was never opened. */
void unix_listener_close(UnixListener *listener);

#endif
