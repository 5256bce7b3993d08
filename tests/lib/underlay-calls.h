/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The calls of an underlay, as programs define them that put their own
 * network under a port: the linker wraps them (see meson.build).
 */

#ifndef QDES_UNDERLAY_CALLS_H
#define QDES_UNDERLAY_CALLS_H

#include "qdes/underlay.h"

QdesUnderlay *__wrap_qdes_underlay_new(const QdesConfig *config,
                                       const QdesHost *host, void *opaque,
                                       GError **errp);
void __wrap_qdes_underlay_free(QdesUnderlay *u);
int __wrap_qdes_underlay_group_fd(const QdesUnderlay *u);
int __wrap_qdes_underlay_unicast_fd(const QdesUnderlay *u);
int __wrap_qdes_underlay_monitor_fd(const QdesUnderlay *u);
QdesRefresh __wrap_qdes_underlay_refresh(QdesUnderlay *u);
const QdesNetif *__wrap_qdes_underlay_netif(const QdesUnderlay *u);
QdesAddr __wrap_qdes_underlay_local(const QdesUnderlay *u);
int __wrap_qdes_underlay_send(QdesUnderlay *u, QdesTrain *trains, int n);
int __wrap_qdes_underlay_send_one(QdesUnderlay *u, const QdesAddr *to,
                                  const QdesAddr *from, const void *data,
                                  size_t size);
int __wrap_qdes_underlay_receive(QdesUnderlay *u, int fd,
                                 QdesRxTrain *trains, int max, bool *more);
size_t __wrap_qdes_underlay_room(const QdesUnderlay *u, const QdesAddr *to);
bool __wrap_qdes_underlay_segments(const QdesUnderlay *u);
bool __wrap_qdes_underlay_is_own(const QdesUnderlay *u, const QdesAddr *from);
bool __wrap_qdes_underlay_reaches(const QdesUnderlay *u, const QdesAddr *to);
bool __wrap_qdes_underlay_is_broadcast(const QdesAddr *addr);
bool __wrap_qdes_underlay_unreachable(QdesUnderlay *u, QdesAddr *peer);
uint64_t __wrap_qdes_underlay_drops(QdesUnderlay *u);

#endif
