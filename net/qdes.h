/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -netdev qdes, as seen by the monitor
 *
 * net/qdes.c is the backend: it connects QEMU's net queues, main loop and
 * options on one side with libqdes on the other.  net/qdes-monitor.c shows
 * what the backends of this QEMU know.  net_init_qdes() is declared in
 * net/clients.h, hmp_info_qdes() in monitor/hmp.h, like those of the others.
 */

#ifndef NET_QDES_H
#define NET_QDES_H

#include "net/net.h"
#include "qdes/fabric.h"
#include "qdes/status.h"

/*
 * Take a snapshot of @nc; the caller frees it with qdes_status_free().
 * Returns NULL where @nc is no qdes netdev, or one that is being deleted.
 */
QdesStatus *net_qdes_status(NetClientState *nc);

/*
 * The fabric of the netdev @id, to change something in it; NULL with @errp set
 * where @id is no qdes netdev.
 */
QdesFabric *net_qdes_find(const char *id, Error **errp);

/*
 * Fill @secret with a copy of the secret object @id, if that is not NULL; to
 * be given to net_qdes_free_secret() before @id goes.  @option is what asks
 * for it.
 */
bool net_qdes_get_secret(QdesSecret *secret, const char *option,
                         const char *id, Error **errp);

/* Overwrites it, too; accepts one without data. */
void net_qdes_free_secret(QdesSecret *secret);

/* The time, as fabrics have it. */
int64_t net_qdes_now(void);

#endif
