/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Linux: UDP_SEGMENT, UDP_GRO (udp(7)), IP_PKTINFO (ip(7)), sendmmsg(),
 * recvmmsg(). */

#include "qdes/underlay-linux.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103         /* Linux 4.18 */
#endif
#ifndef UDP_GRO
#define UDP_GRO 104             /* Linux 5.0 */
#endif

/*
 * A train is some 64 KiB: with few buffers they stay in the cache.  Where
 * datagrams come singly, more of them are worth a call.
 */
#define LONG_BATCH 4
#define LONG_BYTES (QDES_RX_SIZE / 4)

typedef union Control {
    struct cmsghdr align;
    char buf[QDES_CONTROL_SIZE];
} Control;

typedef struct Batch {
    struct mmsghdr msg[MAX(QDES_TX_BATCH, QDES_RX_BATCH)];
    struct sockaddr_storage addr[MAX(QDES_TX_BATCH, QDES_RX_BATCH)];
    Control control[MAX(QDES_TX_BATCH, QDES_RX_BATCH)];
    struct iovec iov[QDES_RX_BATCH];
} Batch;

struct QdesMmsg {
    Batch tx;
    Batch rx;                   /* ready for the next call */
};

/* What a call leaves behind is how much it wrote. */
static void make_ready(Batch *rx, int i)
{
    rx->msg[i].msg_hdr.msg_namelen = sizeof(rx->addr[i]);
    rx->msg[i].msg_hdr.msg_controllen = sizeof(rx->control[i]);
}

static void prepare_rx(QdesUnderlayIo *io)
{
    Batch *rx = &io->mmsg->rx;
    int i;

    for (i = 0; i < QDES_RX_BATCH; i++) {
        rx->iov[i].iov_base = qdes_underlay_io_rx(io, i);
        rx->iov[i].iov_len = QDES_RX_SIZE;
        rx->msg[i].msg_hdr = (struct msghdr) {
            .msg_name = &rx->addr[i],
            .msg_iov = &rx->iov[i],
            .msg_iovlen = 1,
            .msg_control = &rx->control[i],
        };
        make_ready(rx, i);
    }
}

void qdes_mmsg_open(QdesUnderlayIo *io, int unicast_fd, int group_fd, bool gso)
{
    int off = 0;
    int on = 1;

    io->mmsg = g_new0(struct QdesMmsg, 1);
    prepare_rx(io);
    if (gso) {
        io->segment = setsockopt(unicast_fd, SOL_UDP, UDP_SEGMENT, &off,
                                 sizeof(off)) == 0;
        setsockopt(unicast_fd, SOL_UDP, UDP_GRO, &on, sizeof(on));
        if (group_fd >= 0) {
            setsockopt(group_fd, SOL_UDP, UDP_GRO, &on, sizeof(on));
        }
    }
}

void qdes_mmsg_close(QdesUnderlayIo *io)
{
    g_free(io->mmsg);
}

/* Behind @used bytes of control data; returns the bytes used then. */
static size_t put(struct msghdr *msg, size_t used, int level, int type,
                  const void *data, size_t size)
{
    struct cmsghdr *cmsg = (void *)((uint8_t *)msg->msg_control + used);

    cmsg->cmsg_level = level;
    cmsg->cmsg_type = type;
    cmsg->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(cmsg), data, size);
    memset(CMSG_DATA(cmsg) + size, 0, CMSG_SPACE(size) - CMSG_LEN(size));
    return used + CMSG_SPACE(size);
}

/* An IPv6 socket takes IPv4 addresses here as it does everywhere. */
size_t qdes_mmsg_put_from(struct msghdr *msg, size_t used, bool v6,
                          const QdesAddr *from)
{
    struct in6_pktinfo info6 = { .ipi6_ifindex = from->scope };
    struct in_pktinfo info = { .ipi_ifindex = 0 };

    if (v6) {
        memcpy(&info6.ipi6_addr, from->ip, sizeof(info6.ipi6_addr));
        return put(msg, used, IPPROTO_IPV6, IPV6_PKTINFO, &info6,
                   sizeof(info6));
    }
    memcpy(&info.ipi_spec_dst, from->ip + 12, sizeof(info.ipi_spec_dst));
    return put(msg, used, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
}

void qdes_mmsg_tell_at(int fd, bool v6, bool on)
{
    int value = on;

    if (v6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &value, sizeof(value));
    } else {
        setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &value, sizeof(value));
    }
}

/* May @train leave in one call? */
static bool is_whole(const QdesUnderlayIo *io, const QdesTrain *train)
{
    return train->sent == 0 &&
           (train->size <= train->segment || (io->segment && train->fits));
}

static bool is_about_segment(int err)
{
    return err == EIO || err == EINVAL || err == EMSGSIZE ||
           err == EOPNOTSUPP || err == ENOPROTOOPT;
}

int qdes_mmsg_send(QdesUnderlayIo *io, int fd, QdesTrain *trains, int n)
{
    Batch *m = &io->mmsg->tx;
    struct msghdr *msg;
    uint16_t segment;
    socklen_t len;
    size_t used;
    int ret;
    int i;

    /*
     * Behind one that has left, sendmmsg() keeps an error to itself, and we
     * would try again.  A flood that fails may have reached the ports of this
     * host: it must be known of, so it leaves alone.
     */
    for (i = 0; i < MIN(n, QDES_TX_BATCH) && is_whole(io, &trains[i]); i++) {
        if (i > 0 && (trains[0].flood || trains[i].flood)) {
            break;
        }
        len = qdes_underlay_io_to(io, &trains[i], &m->addr[i]);
        if (len == 0) {
            break;
        }
        msg = &m->msg[i].msg_hdr;
        *msg = (struct msghdr) {
            .msg_name = &m->addr[i],
            .msg_namelen = len,
            .msg_iov = (struct iovec *)trains[i].iov,
            .msg_iovlen = trains[i].iovcnt,
            .msg_control = &m->control[i],
        };
        used = 0;
        if (trains[i].size > trains[i].segment) {
            segment = trains[i].segment;
            used = put(msg, used, SOL_UDP, UDP_SEGMENT, &segment,
                       sizeof(segment));
        }
        used = qdes_underlay_io_from(io, &trains[i], msg, used);
        msg->msg_controllen = used;
        if (!used) {
            msg->msg_control = NULL;
        }
    }
    if (i == 0) {
        ret = qdes_underlay_io_send_each(io, fd, &trains[0]);
        return ret < 0 ? ret : 1;
    }
    do {
        ret = sendmmsg(fd, m->msg, i, 0);
    } while (ret < 0 && errno == EINTR);
    if (ret >= 0) {
        for (i = 0; i < ret; i++) {
            trains[i].sent = trains[i].size;
        }
        return ret;
    }
    ret = -errno;
    trains[0].failed = trains[0].size;
    if (ret == -EINVAL && trains[0].from) {
        return ret;             /* most likely it is gone */
    }
    if (trains[0].size <= trains[0].segment) {
        return qdes_underlay_io_refused(io, &trains[0], -ret);
    }
    if (is_about_segment(-ret)) {
        /*
         * EIO: this route's device or policy takes no trains, now or ever.
         * Else the path's MTU has shrunk, which only this train is about.
         */
        if (ret == -EIO) {
            io->segment = false;
        }
        trains[0].fits = false;
        ret = qdes_underlay_io_send_each(io, fd, &trains[0]);
        return ret < 0 ? ret : 1;
    }
    return ret;
}

static void get_at(QdesAddr *at, const struct cmsghdr *cmsg)
{
    struct in6_pktinfo info6;
    struct in_pktinfo info;

    if (cmsg->cmsg_level == IPPROTO_IPV6) {
        memcpy(&info6, CMSG_DATA(cmsg), sizeof(info6));
        memcpy(at->ip, &info6.ipi6_addr, sizeof(at->ip));
        if (qdes_addr_needs_scope(at)) {
            at->scope = info6.ipi6_ifindex;
        }
    } else {
        memcpy(&info, CMSG_DATA(cmsg), sizeof(info));
        *at = qdes_addr_any(true, 0);
        memcpy(at->ip + 12, &info.ipi_addr, sizeof(info.ipi_addr));
    }
}

/* What the kernel says about a train. */
static void get_control(QdesRxTrain *train, struct msghdr *msg)
{
    struct cmsghdr *cmsg;
    int segment = 0;

    memset(&train->at, 0, sizeof(train->at));
    for (cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
        if (cmsg->cmsg_level == SOL_UDP && cmsg->cmsg_type == UDP_GRO) {
            memcpy(&segment, CMSG_DATA(cmsg), sizeof(segment));
        } else if ((cmsg->cmsg_level == IPPROTO_IPV6 &&
                    cmsg->cmsg_type == IPV6_PKTINFO) ||
                   (cmsg->cmsg_level == IPPROTO_IP &&
                    cmsg->cmsg_type == IP_PKTINFO)) {
            get_at(&train->at, cmsg);
        }
    }
    train->segment = segment > 0 ? (size_t)segment : train->size;
}

int qdes_mmsg_receive(QdesUnderlayIo *io, int fd, QdesRxTrain *trains,
                      int max, bool *more)
{
    Batch *m = &io->mmsg->rx;
    bool is_long = false;
    int ret;
    int n = 0;
    int i;

    max = MIN(max, io->long_rx ? LONG_BATCH : QDES_RX_BATCH);
    do {
        ret = recvmmsg(fd, m->msg, max, MSG_DONTWAIT, NULL);
    } while (ret < 0 && errno == EINTR);
    if (ret < 0) {
        return -errno;
    }
    for (i = 0; i < ret; i++) {
        if (qdes_addr_from_sockaddr(&trains[n].from,
                                    (struct sockaddr *)&m->addr[i])) {
            trains[n].data = m->iov[i].iov_base;
            trains[n].size = m->msg[i].msg_len;
            get_control(&trains[n], &m->msg[i].msg_hdr);
            is_long |= trains[n].size >= LONG_BYTES;
            n++;
        }
        make_ready(m, i);
    }
    io->long_rx = is_long;
    *more = ret == max;
    return n;
}
