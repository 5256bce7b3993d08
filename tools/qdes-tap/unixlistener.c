/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unixlistener.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"

#define LISTENER_BACKLOG 64         /* connections that wait for accept() */
#define LISTENER_LOCK_MS 2000       /* another program checks the directory */

GQuark unix_listener_error_quark(void)
{
    return g_quark_from_static_string("qdes-tap-listener");
}

static bool set_error(GError **errp, const char *path, const char *format,
                      ...) G_GNUC_PRINTF(3, 4);

static bool set_error(GError **errp, const char *path, const char *format, ...)
{
    va_list ap;
    char *text;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_set_error(errp, UNIX_LISTENER_ERROR, 0, "--control=%s: %s", path, text);
    g_free(text);
    return false;
}

static bool fill_address(struct sockaddr_un *addr, const char *path,
                         GError **errp)
{
    *addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (*path == '\0' || strlen(path) >= sizeof(addr->sun_path)) {
        return set_error(errp, path, "the path of a Unix socket has 1 to %zu "
                         "bytes", sizeof(addr->sun_path) - 1);
    }
    strcpy(addr->sun_path, path);
    return true;
}

/*
 * Two programs that start at the same time must not both find the same stale
 * socket.  Returns the locked directory, or -1 when it cannot be locked, which
 * is not worth an error.
 */
static int lock_directory(const char *path)
{
    char *name = g_path_get_dirname(path);
    int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int64_t deadline = g_get_monotonic_time() +
                     LISTENER_LOCK_MS * G_TIME_SPAN_MILLISECOND;

    g_free(name);
    while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 &&
           errno == EWOULDBLOCK && g_get_monotonic_time() < deadline) {
        g_usleep(10000);
    }
    return fd;
}

/* Make room for the socket where that destroys nothing. */
static bool remove_stale(const struct sockaddr_un *addr, GError **errp)
{
    const char *path = addr->sun_path;
    struct stat st;
    int fd;
    int err;

    if (lstat(path, &st) < 0) {
        return true;                /* let bind() find out what is wrong */
    }
    if (!S_ISSOCK(st.st_mode)) {
        return set_error(errp, path, "in use: this exists and is not a "
                         "socket; give another path");
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return set_error(errp, path, "%s", g_strerror(errno));
    }
    err = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0
          ? errno : 0;
    close(fd);
    if (err != ECONNREFUSED) {
        return set_error(errp, path, "in use: %s; give another path",
                         err == 0 || err == EAGAIN
                         ? "another program listens there" : g_strerror(err));
    }
    if (unlink(path) < 0) {
        return set_error(errp, path, "in use by a dead program, and cannot be "
                         "removed: %s", g_strerror(errno));
    }
    return true;
}

static bool bind_and_listen(UnixListener *listener,
                            const struct sockaddr_un *addr, GError **errp)
{
    struct stat st;
    mode_t mask;
    int ret;
    int err;

    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                         0);
    if (listener->fd < 0) {
        return set_error(errp, listener->path, "%s", g_strerror(errno));
    }
    /* mode 0600 from the first moment on */
    mask = umask(0177);
    ret = bind(listener->fd, (const struct sockaddr *)addr, sizeof(*addr));
    err = errno;
    umask(mask);
    if (ret < 0) {
        return set_error(errp, listener->path, "cannot make the socket: %s; "
                         "give a path in a directory that exists and is yours "
                         "to write", g_strerror(err));
    }
    if (lstat(listener->path, &st) < 0) {
        return set_error(errp, listener->path, "%s", g_strerror(errno));
    }
    listener->bound = true;
    listener->dev = st.st_dev;
    listener->ino = st.st_ino;
    if (listen(listener->fd, LISTENER_BACKLOG) < 0) {
        return set_error(errp, listener->path, "%s", g_strerror(errno));
    }
    return true;
}

bool unix_listener_open(UnixListener *listener, const char *path,
                        GError **errp)
{
    struct sockaddr_un addr;
    int lock;
    bool ok;

    *listener = (UnixListener){ .fd = -1, .path = g_strdup(path) };
    if (!fill_address(&addr, path, errp)) {
        return false;
    }
    lock = lock_directory(path);
    ok = remove_stale(&addr, errp) && bind_and_listen(listener, &addr, errp);
    if (lock >= 0) {
        close(lock);
    }
    return ok;
}

void unix_listener_remove(const UnixListener *listener)
{
    struct stat st;

    if (listener->bound && lstat(listener->path, &st) == 0 &&
        st.st_dev == listener->dev && st.st_ino == listener->ino &&
        unlink(listener->path) < 0) {
        log_warning("the control socket %s stays: %s; the next start replaces "
                    "it", listener->path, g_strerror(errno));
    }
}

void unix_listener_disown(UnixListener *listener)
{
    listener->bound = false;
}

void unix_listener_close(UnixListener *listener)
{
    if (!listener->path) {
        return;
    }
    if (listener->fd >= 0) {
        close(listener->fd);
        listener->fd = -1;
    }
    unix_listener_remove(listener);
    g_clear_pointer(&listener->path, g_free);
}
