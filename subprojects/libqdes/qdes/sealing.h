/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A sealed fabric: what the fabric's parts call to seal and to open
 *
 * Only for fabrics that have a secret: QdesFabric.sealing is NULL for all
 * others, and none of this is called but for starting and stopping.
 *
 * Keys: secret, secret-old, and for some seconds one that is retiring: what is
 * on its way under it is still opened.  Of each there is a sender with one
 * session, and a second one while sessions change.
 *
 * Sessions heard are pending until their sender has answered a CHALLENGE.
 * What came of them until then is held, opened, and goes the way of all
 * datagrams as soon as what was read with the answer is done.
 *
 * The inner side of a fabric (fabric-private.h) includes this.
 */

#ifndef QDES_SEALING_H
#define QDES_SEALING_H

#include "qdes/fabric.h"
#include "qdes/seal.h"
#include "qdes/wire.h"

typedef struct QdesSealing QdesSealing;

/* Begin, if @config has a secret. */
bool qdes_sealing_start(QdesFabric *f, const QdesConfig *config, int64_t now,
                        GError **errp);
void qdes_sealing_stop(QdesFabric *f);

/* Do what is due. */
void qdes_sealing_tick(QdesFabric *f, int64_t now);

/* Where the datagrams of a superframe are sealed: room for all of them. */
uint8_t *qdes_sealing_bounce(QdesFabric *f);

/*
 * Seal the plain datagram of @size bytes at @data + QDES_SEAL_LEAD, flooded or
 * for the peer in @slot.
 */
void qdes_sealing_seal(QdesFabric *f, bool flood, uint32_t slot,
                       uint8_t *data, size_t size, int64_t now);

/* Seal the frames of the queue from number @from up to @end, but for those
 * that are. */
void qdes_sealing_seal_queued(QdesFabric *f, unsigned from, unsigned end,
                              int64_t now);

/* Send a plain control message as qdes_fabric_send_control() does. */
bool qdes_sealing_send_control(QdesFabric *f, const QdesAddr *to,
                               const uint8_t *data, size_t size);

typedef enum QdesOpened {
    QDES_OPENED,                /* the plain datagram is to be taken */
    QDES_OPENED_DONE,           /* nothing is left to do: it is dropped and
                                   counted, or held, or was about sealing */
    QDES_OPENED_NOT_SEALED,     /* it is none that is sealed */
} QdesOpened;

/* Open the datagram of @size bytes at @data, which came from @from. */
QdesOpened qdes_sealing_open(QdesFabric *f, uint8_t *data, size_t size,
                             const QdesAddr *from, int64_t now);

/*
 * What was read is done: lay out what was held and may be taken now as if it
 * had been read.  Returns false when there is nothing.
 */
bool qdes_sealing_next_held(QdesFabric *f, int64_t now);

/* Fill in the keys that this port accepts. */
void qdes_sealing_fill_hello(const QdesFabric *f, QdesWireHello *hello);

/* The peer in @slot has said HELLO. */
void qdes_sealing_note_hello(QdesFabric *f, uint32_t slot);

/* In probes, in place of the network ID: ours, and is @number one of ours? */
uint32_t qdes_sealing_probe_id(const QdesFabric *f);
bool qdes_sealing_is_probe_id(const QdesFabric *f, uint32_t number);

#endif
