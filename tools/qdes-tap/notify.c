/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "notify.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int notify_fd = -1;

void notify_open(void)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    const char *path = getenv("NOTIFY_SOCKET");
    size_t size = path ? strlen(path) : 0;
    int fd;

    if (size < 2 || size > sizeof(addr.sun_path) ||
        (path[0] != '/' && path[0] != '@')) {
        return;
    }
    memcpy(addr.sun_path, path, size);
    if (path[0] == '@') {
        addr.sun_path[0] = '\0';    /* of no file system */
    }
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&addr,
                           offsetof(struct sockaddr_un, sun_path) + size) < 0) {
        close(fd);
        fd = -1;
    }
    notify_fd = fd;
}

void notify_close(void)
{
    if (notify_fd >= 0) {
        close(notify_fd);
        notify_fd = -1;
    }
}

static void notify(const char *text)
{
    if (notify_fd >= 0 &&
        send(notify_fd, text, strlen(text), MSG_NOSIGNAL) < 0) {
        /* it is systemd's loss */
    }
}

void notify_ready(const char *status)
{
    g_autofree char *text = g_strdup_printf("READY=1\nSTATUS=%s", status);

    notify(text);
}

void notify_status(const char *status)
{
    g_autofree char *text = g_strdup_printf("STATUS=%s", status);

    notify(text);
}

void notify_stopping(void)
{
    notify("STOPPING=1");
}
