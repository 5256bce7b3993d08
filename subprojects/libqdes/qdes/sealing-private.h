/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What sealing.c and opening.c share, and no other file looks into
 *
 *   sealing.c    keys and their change, the way out
 *   opening.c    sessions and their proof, the way in
 */

#ifndef QDES_SEALING_PRIVATE_H
#define QDES_SEALING_PRIVATE_H

#include "qdes/fabric-private.h"
#include "qdes/held.h"

enum {
    QDES_KEY_NEW,
    QDES_KEY_OLD,
    QDES_KEY_RETIRING,
    QDES_KEYS
};

G_STATIC_ASSERT(QDES_KEYS <= QDES_PSEUDONYMS_MAX);

typedef struct QdesKey {
    QdesSealKey key;
    QdesSealSender sender;
    QdesSealSender next;        /* whose session peers are told of */
    int64_t switch_at;          /* ms, when that takes over */
} QdesKey;

#define QDES_BOUNCE_SIZE (128 * 1024)

G_STATIC_ASSERT(QDES_BOUNCE_SIZE >= QDES_SUPERFRAME_MAX + QDES_POOL_FRAMES *
                (QDES_SEAL_OVERHEAD + QDES_WIRE_SUPERFRAME_SIZE +
                 QDES_HEADERS_MAX));

/* The way in: what opening.c alone changes. */
typedef struct QdesOpening {
    int64_t started;            /* ms */
    int64_t next_age;
    uint64_t nonce_key[2];
    QdesSealSessions *sessions;
    QdesStorm unknown, challenges, responses;

    QdesHeldStore *held;
    unsigned n_handed;          /* laid out as if they had been read */
    const QdesHeld *handed[QDES_RX_BATCH];
} QdesOpening;

struct QdesSealing {
    QdesSealChoice choice;
    QdesSealLimits limits;
    QdesKey *keys[QDES_KEYS]; /* NULL: none */
    int64_t retire_at;
    unsigned flood_key;         /* NEW or OLD: which all accept */
    int64_t now;                /* the last time that is known */

    /* Of the datagram that is being worked off. */
    const QdesAddr *from;       /* who sent it, or NULL */
    QdesKey *key;        /* that opened it */

    QdesOpening in;
    uint8_t bounce[QDES_BOUNCE_SIZE];
};

/* The key that goes by @pseudonym, or NULL. */
QdesKey *qdes_sealing_find_key(const QdesSealing *s,
                                      uint32_t pseudonym);

/* Send @size bytes of a plain control message to @to, or the group, of the
 * session of @sender.  Returns whether it left. */
bool qdes_sealing_send_by(QdesFabric *f, QdesSealSender *sender,
                          const QdesAddr *to, const uint8_t *data,
                          size_t size);

void qdes_opening_start(QdesFabric *f, int64_t now);
void qdes_opening_stop(QdesFabric *f);

/* Do what is due. */
void qdes_opening_tick(QdesFabric *f, int64_t now);

/* A key is gone. */
void qdes_opening_forget_key(QdesFabric *f, uint32_t pseudonym, int64_t now);

#endif
