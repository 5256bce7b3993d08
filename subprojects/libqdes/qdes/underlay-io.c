/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What both ways of sending have in common. */

#include "qdes/underlay-io.h"

#include <errno.h>
#include <string.h>

#define IOV_PIECES 128          /* of one datagram */

socklen_t qdes_underlay_io_sockaddr(const QdesUnderlayIo *io,
                                    const QdesAddr *addr,
                                    struct sockaddr_storage *ss)
{
    return io->dual ? qdes_addr_to_sockaddr6(addr, ss)
                    : qdes_addr_to_sockaddr(addr, ss);
}

socklen_t qdes_underlay_io_to(const QdesUnderlayIo *io, const QdesTrain *train,
                              struct sockaddr_storage *to)
{
    if (train->flood) {
        memcpy(to, &io->group, sizeof(*to));
        return io->group_len;
    }
    return qdes_underlay_io_sockaddr(io, &train->to, to);
}

size_t qdes_underlay_io_from(const QdesUnderlayIo *io, const QdesTrain *train,
                             struct msghdr *msg, size_t used)
{
    if (train->flood) {
        return qdes_addr_is_any(&io->group_from) ? used :
               io->os->put_from(msg, used, io->dual, &io->group_from);
    }
    return train->from
           ? io->os->put_from(msg, used, io->dual ||
                              !qdes_addr_is_v4(&train->to), train->from)
           : used;
}

int qdes_underlay_io_refused(const QdesUnderlayIo *io, const QdesTrain *train,
                             int err)
{
    /* The interface has lost the address, which we are about to be told. */
    return err == EINVAL && train->flood && !qdes_addr_is_any(&io->group_from)
           ? -ENODEV : -err;
}

int qdes_underlay_io_send_each(QdesUnderlayIo *io, int fd, QdesTrain *train)
{
    struct sockaddr_storage to;
    struct iovec iov[IOV_PIECES];
    union {
        struct cmsghdr align;
        char buf[QDES_CONTROL_SIZE];
    } control;
    struct msghdr msg = {
        .msg_name = &to,
        .msg_namelen = qdes_underlay_io_to(io, train, &to),
        .msg_iov = iov,
        .msg_control = &control,
    };
    size_t size;
    ssize_t ret;
    int pieces;

    if (msg.msg_namelen == 0) {
        train->failed = train->size - train->sent;
        return -ENODEV;
    }
    msg.msg_controllen = qdes_underlay_io_from(io, train, &msg, 0);
    if (!msg.msg_controllen) {
        msg.msg_control = NULL;
    }
    while (train->sent < train->size) {
        size = train->failed = MIN(train->segment, train->size - train->sent);
        pieces = qdes_train_slice(train, train->sent, size, iov, IOV_PIECES);
        g_assert(pieces > 0);
        msg.msg_iovlen = pieces;
        do {
            ret = sendmsg(fd, &msg, 0);
        } while (ret < 0 && errno == EINTR);
        if (ret < 0) {
            return qdes_underlay_io_refused(io, train, errno);
        }
        train->sent += size;
    }
    return 0;
}
