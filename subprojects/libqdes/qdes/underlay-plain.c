/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What every host can do: plain sockets.  Other networks' floods and own
 * ones are dropped by the fabric after they were read; an unreachable peer is
 * noticed by its silence; changes of interfaces are looked for from time to
 * time.
 */

#include "qdes/underlay.h"

static void prepare(int fd G_GNUC_UNUSED, bool v4 G_GNUC_UNUSED)
{
}

static void filter_group(int fd G_GNUC_UNUSED, uint32_t netid G_GNUC_UNUSED,
                         const QdesAddr *own G_GNUC_UNUSED,
                         unsigned index G_GNUC_UNUSED)
{
}

static int set_buffer(int fd, int option, int bytes)
{
    socklen_t len = sizeof(bytes);

    setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof(bytes));
    return getsockopt(fd, SOL_SOCKET, option, &bytes, &len) == 0 ? bytes : 0;
}

static bool unreachable(int fd G_GNUC_UNUSED, QdesAddr *peer G_GNUC_UNUSED)
{
    return false;
}

static uint32_t drops(int fd G_GNUC_UNUSED)
{
    return 0;
}

static int group_route(const QdesAddr *group G_GNUC_UNUSED)
{
    return -1;
}

static int monitor_open(void)
{
    return -1;
}

static void monitor_drain(int fd G_GNUC_UNUSED)
{
}

const QdesUnderlayOs qdes_underlay_plain = {
    .prepare_group = prepare,
    .prepare_unicast = prepare,
    .filter_group = filter_group,
    .set_buffer = set_buffer,
    .unreachable = unreachable,
    .drops = drops,
    .group_route = group_route,
    .monitor_open = monitor_open,
    .monitor_drain = monitor_drain,
};
