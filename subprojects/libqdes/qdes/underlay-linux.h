/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Batches by Linux' own system calls
 *
 * Private to the underlay, and what underlay-io.h says of it: QdesUnderlayOs'
 * io_open, io_close, send and receive, with UDP_SEGMENT, UDP_GRO, sendmmsg()
 * and recvmmsg().
 */

#ifndef QDES_UNDERLAY_LINUX_H
#define QDES_UNDERLAY_LINUX_H

#include "qdes/underlay-io.h"

void qdes_mmsg_open(QdesUnderlayIo *io, int unicast_fd, int group_fd,
                    bool gso);
void qdes_mmsg_close(QdesUnderlayIo *io);
int qdes_mmsg_send(QdesUnderlayIo *io, int fd, QdesTrain *trains, int n);
int qdes_mmsg_receive(QdesUnderlayIo *io, int fd, QdesRxTrain *trains,
                      int max, bool *more);

#endif
