/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "linkwatch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINK_WATCH_BUDGET 64    /* messages for each call */

struct LinkWatch {
    Loop *loop;
    int fd;
    LinkWatchFunc *changed;
    void *opaque;
};

static void link_watch_ready(void *opaque, int fd, int events, int64_t now)
{
    LinkWatch *watch = opaque;
    char rest[64];
    int i;

    for (i = 0; i < LINK_WATCH_BUDGET; i++) {
        if (recv(fd, rest, sizeof(rest), 0) < 0 && errno != ENOBUFS) {
            break;
        }
    }
    watch->changed(watch->opaque, now);
}

LinkWatch *link_watch_new(Loop *loop, LinkWatchFunc *changed, void *opaque)
{
    struct sockaddr_nl local = {
        .nl_family = AF_NETLINK,
        .nl_groups = RTMGRP_LINK,
    };
    LinkWatch *watch;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC,
                    NETLINK_ROUTE);
    int err;

    if (fd < 0) {
        return NULL;
    }
    if (bind(fd, (struct sockaddr *)&local, sizeof(local)) < 0) {
        err = errno;
        close(fd);
        errno = err;
        return NULL;
    }
    watch = g_new0(LinkWatch, 1);
    watch->loop = loop;
    watch->fd = fd;
    watch->changed = changed;
    watch->opaque = opaque;
    loop_watch(loop, fd, QDES_WATCH_READ, link_watch_ready, watch);
    return watch;
}

void link_watch_free(LinkWatch *watch)
{
    if (watch) {
        loop_watch(watch->loop, watch->fd, QDES_WATCH_NONE, NULL, NULL);
        close(watch->fd);
        g_free(watch);
    }
}
