/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Batches by Linux' own system calls
 *
 * Private to the underlay, and what underlay-io.h says of it: QdesUnderlayOs'
 * io_open, io_close, tell_at, put_from, send and receive, with UDP_SEGMENT,
 * UDP_GRO, IP_PKTINFO, IPV6_PKTINFO, sendmmsg() and recvmmsg().
 */

#ifndef QDES_UNDERLAY_LINUX_H
#define QDES_UNDERLAY_LINUX_H

#include "qdes/underlay-io.h"

void qdes_mmsg_open(QdesUnderlayIo *io, int unicast_fd, int group_fd,
                    bool gso);
void qdes_mmsg_close(QdesUnderlayIo *io);
void qdes_mmsg_tell_at(int fd, bool v6, bool on);
size_t qdes_mmsg_put_from(struct msghdr *msg, size_t used, bool v6,
                          const QdesAddr *from);
int qdes_mmsg_send(QdesUnderlayIo *io, int fd, QdesTrain *trains, int n);
int qdes_mmsg_receive(QdesUnderlayIo *io, int fd, QdesRxTrain *trains,
                      int max, bool *more);

#endif
