/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Taking a snapshot for status
 *
 * The inner side of status.h: what the fabric calls to have its parts copied.
 */

#ifndef QDES_SNAPSHOT_H
#define QDES_SNAPSHOT_H

#include "qdes/detour.h"
#include "qdes/fdb.h"
#include "qdes/peer.h"
#include "qdes/portsec.h"
#include "qdes/seeds.h"
#include "qdes/statics.h"
#include "qdes/status.h"
#include "qdes/underlay.h"

/* All but the seeds, detours, port security, the switches and the loop, which
 * only the fabric itself knows. */
QdesStatus *qdes_status_new(const QdesConfig *config, QdesUnderlay *underlay,
                            const QdesPeers *peers, const QdesFdb *fdb,
                            const QdesStatics *statics,
                            const QdesStats *stats, int64_t now);

/* Put the listed peers into @status. */
void qdes_status_add_seeds(QdesStatus *status, const QdesSeeds *seeds,
                           int64_t now);

/* Put those out of reach into @status. */
void qdes_status_add_missed(QdesStatus *status, const QdesDetours *detours,
                            const QdesPeers *peers);

/* Put what port security allows into @status. */
void qdes_status_add_portsec(QdesStatus *status, const QdesPortsec *portsec,
                             bool learn_none, int64_t now);

#endif
