/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What every host can do: plain sockets, one call for each datagram.  Other
 * networks' floods and own ones are dropped by the fabric after they were
 * read; an unreachable peer is noticed by its silence; changes of interfaces
 * are looked for from time to time.
 */

#include "qdes/underlay-io.h"

#include <errno.h>
#include <string.h>

static void prepare_group(int fd G_GNUC_UNUSED, bool v4 G_GNUC_UNUSED)
{
}

static void prepare_unicast(int fd G_GNUC_UNUSED, bool v4 G_GNUC_UNUSED,
                            bool v6 G_GNUC_UNUSED)
{
}

static void filter_group(int fd G_GNUC_UNUSED,
                         const QdesConfig *config G_GNUC_UNUSED,
                         const QdesAddr *own G_GNUC_UNUSED,
                         unsigned index G_GNUC_UNUSED)
{
}

static void io_open(QdesUnderlayIo *io G_GNUC_UNUSED,
                    int unicast_fd G_GNUC_UNUSED, int group_fd G_GNUC_UNUSED,
                    bool gso G_GNUC_UNUSED)
{
}

static void io_close(QdesUnderlayIo *io G_GNUC_UNUSED)
{
}

static void tell_at(int fd G_GNUC_UNUSED, bool v6 G_GNUC_UNUSED,
                    bool on G_GNUC_UNUSED)
{
}

/* Routes choose the address.  (It is only asked for where one was told.) */
static size_t put_from(struct msghdr *msg G_GNUC_UNUSED, size_t used,
                       bool v6 G_GNUC_UNUSED,
                       const QdesAddr *from G_GNUC_UNUSED)
{
    return used;
}

static int io_send(QdesUnderlayIo *io, int fd, QdesTrain *trains,
                   int n G_GNUC_UNUSED)
{
    int ret = qdes_underlay_io_send_each(io, fd, trains);

    return ret < 0 ? ret : 1;
}

static int io_receive(QdesUnderlayIo *io, int fd, QdesRxTrain *trains, int max,
                      bool *more)
{
    struct sockaddr_storage ss = { 0 };
    QdesRxTrain *train;
    socklen_t len;
    ssize_t ret = -1;
    int n;

    for (n = 0; n < MIN(max, QDES_RX_BATCH); n++) {
        train = &trains[n];
        train->data = qdes_underlay_io_rx(io, n);
        do {
            len = sizeof(ss);
            ret = recvfrom(fd, train->data, QDES_RX_SIZE, 0,
                           (struct sockaddr *)&ss, &len);
        } while (ret < 0 && errno == EINTR);
        if (ret < 0 ||
            !qdes_addr_from_sockaddr(&train->from, (struct sockaddr *)&ss)) {
            break;
        }
        train->size = train->segment = ret;
        memset(&train->at, 0, sizeof(train->at));
    }
    *more = n == MIN(max, QDES_RX_BATCH);
    return n > 0 ? n : ret < 0 ? -errno : -EAFNOSUPPORT;
}

static int path_mtu(const QdesAddr *to G_GNUC_UNUSED)
{
    return 0;
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
    .prepare_group = prepare_group,
    .prepare_unicast = prepare_unicast,
    .filter_group = filter_group,
    .io_open = io_open,
    .io_close = io_close,
    .tell_at = tell_at,
    .put_from = put_from,
    .send = io_send,
    .receive = io_receive,
    .path_mtu = path_mtu,
    .set_buffer = set_buffer,
    .unreachable = unreachable,
    .drops = drops,
    .group_route = group_route,
    .monitor_open = monitor_open,
    .monitor_drain = monitor_drain,
};
