/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sealed datagrams: what a sender seals, and what a receiver takes of it
 *
 * docs/protocol.md, "Sealed fabrics", is the norm.  A sealed datagram is
 *
 *   header, SEALED, pseudonym | session | packet number | ciphertext | tag
 *         8 bytes             |    8    |       8       |            |  16
 *
 * Everything here works in place: the plain datagram stands QDES_SEAL_LEAD
 * bytes behind the beginning of the sealed one, so that its payload never
 * moves, and the packet number takes the place of the plain header.
 *
 * A sender draws a session, whose key nobody else has, and numbers what it
 * seals: two kinds, each from 1 on, what is flooded and all else.  Invariant:
 * no two datagrams are sealed under one key with the same number; so numbers
 * never go back, and a sender that would come to QDES_SEAL_HARD_STOP seals
 * nothing.
 *
 * A receiver keeps, of each session, which numbers were taken: one window for
 * each kind.  A session is pending until its sender has proved to be there
 * (accepted); nothing of it is marked before.  Bounds: @max_accepted and
 * @max_pending; of the accepted the one silent for the longest time gives way,
 * of the pending the oldest.
 *
 * Ownership: what has ciphers is ended by the call that is named so, which
 * wipes keys.
 *
 * Pure: times are milliseconds of the caller's monotonic clock, randomness is
 * passed in.
 */

#ifndef QDES_SEAL_H
#define QDES_SEAL_H

#include <glib.h>
#include <gnutls/crypto.h>

#include "qdes/sealkey.h"

#define QDES_SEAL_LEAD 16       /* bytes before the plain datagram */
#define QDES_SEAL_TAG 16        /* bytes behind it */
#define QDES_SEAL_OVERHEAD (QDES_SEAL_LEAD + QDES_SEAL_TAG)
#define QDES_SEAL_HEADER 24     /* bytes before the ciphertext */
#define QDES_SEAL_MIN (QDES_SEAL_HEADER + QDES_SEAL_TAG)

#define QDES_SEAL_WINDOW 2048   /* numbers */
#define QDES_SEAL_HARD_STOP (UINT64_C(1) << 36) /* datagrams of a session */
#define QDES_SEAL_MEMORY_MS 1000 /* how far back a sender knows its numbers */

typedef enum QdesSealKind {
    QDES_SEAL_UNICAST,
    QDES_SEAL_FLOODED,          /* to the group, or a copy of that */
    QDES_SEAL_KINDS
} QdesSealKind;

/* The cipher that a session has by its number. */
QdesSealChoice qdes_seal_choice(uint64_t session);

typedef struct QdesSealCipher {
    gnutls_aead_cipher_hd_t handle;
    uint8_t iv[QDES_SEAL_IV_SIZE];
} QdesSealCipher;

/* Senders */

#define QDES_SEAL_SAMPLES 256   /* 4 ms each */

typedef struct QdesSealSender {
    uint64_t session;           /* 0: none */
    uint32_t pseudonym;
    QdesSealCipher cipher;
    uint64_t next[QDES_SEAL_KINDS]; /* number */
    uint64_t bytes;
    int64_t born;               /* ms */
    unsigned n_samples;
    struct {                    /* what the numbers were when */
        int64_t when;
        uint64_t next[QDES_SEAL_KINDS];
    } samples[QDES_SEAL_SAMPLES];
} QdesSealSender;

/*
 * Begin a session under @key, whose number is made of @random.  Returns false,
 * with @sender as if ended, where the library has no such cipher.
 */
bool qdes_seal_sender_begin(QdesSealSender *sender, const QdesSealKey *key,
                            QdesSealChoice choice, uint64_t random,
                            int64_t now);
void qdes_seal_sender_end(QdesSealSender *sender);

bool qdes_seal_sender_is_due(const QdesSealSender *sender,
                             const QdesSealLimits *limits, int64_t now);

/*
 * Seal the plain datagram of @size bytes at @data + QDES_SEAL_LEAD; there is
 * room for QDES_SEAL_TAG bytes behind it.  @data has @size +
 * QDES_SEAL_OVERHEAD bytes then.  Should it ever fail, all of that is zero and
 * it returns false.
 */
bool qdes_seal(QdesSealSender *sender, QdesSealKind kind, uint8_t *data,
               size_t size, int64_t now);

/* Numbers of each kind that were not used @age ms ago yet are above these. */
void qdes_seal_sender_floors(const QdesSealSender *sender, int64_t age,
                             int64_t now, uint64_t floors[QDES_SEAL_KINDS]);

/* Windows */

#define QDES_SEAL_WORDS (2 * QDES_SEAL_WINDOW / 64)

typedef struct QdesSealWindow {
    uint64_t floor;             /* this one and all before are refused */
    uint64_t highest;           /* that was taken, or @floor */
    uint64_t taken[QDES_SEAL_WORDS];
} QdesSealWindow;

/* Nothing was taken yet of what is above @floor. */
void qdes_seal_window_init(QdesSealWindow *window, uint64_t floor);
bool qdes_seal_window_has_room(const QdesSealWindow *window, uint64_t number);
void qdes_seal_window_take(QdesSealWindow *window, uint64_t number);

/* Receivers */

typedef struct QdesSealSession {
    uint64_t id;
    uint32_t pseudonym;
    bool accepted;
    QdesSealCipher cipher;
    int64_t heard;              /* ms, when used last */
    int64_t challenged;         /* ms, of a pending one; 0: never */
    uint32_t challenged_at;     /* where, as a hash */
    QdesSealWindow windows[QDES_SEAL_KINDS]; /* of an accepted one */
    GList link;                 /* among the pending, as long as it is */
} QdesSealSession;

typedef struct QdesSealSessions QdesSealSessions;

/* What stands before the ciphertext. */
typedef struct QdesSealHead {
    uint32_t pseudonym;
    uint64_t session;
    QdesSealKind kind;
    uint64_t number;
} QdesSealHead;

/* Read it of a datagram of QDES_SEAL_MIN bytes at least. */
void qdes_seal_read_head(QdesSealHead *head, const uint8_t *data);

QdesSealSessions *qdes_seal_sessions_new(unsigned max_accepted,
                                         unsigned max_pending);
void qdes_seal_sessions_free(QdesSealSessions *sessions);

/* The session that @head tells, or NULL. */
QdesSealSession *qdes_seal_sessions_find(QdesSealSessions *sessions,
                                         const QdesSealHead *head);

/*
 * Open the sealed datagram of @size bytes at @data.  On success, the plain one
 * stands at @data + QDES_SEAL_LEAD with @size - QDES_SEAL_OVERHEAD bytes, of
 * the network @netid.  Else its ciphertext is lost.
 */
bool qdes_seal_open(QdesSealCipher *cipher, const QdesSealHead *head,
                    uint8_t *data, size_t size, uint32_t netid);

/*
 * The same of a session that is not in the table.  When it opens, the session
 * is there and pending, and returned; else NULL.
 */
QdesSealSession *qdes_seal_sessions_try(QdesSealSessions *sessions,
                                        const QdesSealKey *key,
                                        const QdesSealHead *head,
                                        uint8_t *data, size_t size,
                                        uint32_t netid, int64_t now);

/* The sender of the pending @session is there, and has used numbers up to
 * @floors when nothing was taken of it yet.  It may make another go. */
void qdes_seal_sessions_accept(QdesSealSessions *sessions,
                               QdesSealSession *session,
                               const uint64_t floors[QDES_SEAL_KINDS],
                               int64_t now);

/* Forget those under @pseudonym; those that were silent for @ms. */
void qdes_seal_sessions_forget(QdesSealSessions *sessions, uint32_t pseudonym,
                               int64_t now);
void qdes_seal_sessions_age(QdesSealSessions *sessions, int64_t ms,
                            int64_t now);

/* When an accepted session was forgotten last; INT64_MIN: never. */
int64_t qdes_seal_sessions_forgot(const QdesSealSessions *sessions);

unsigned qdes_seal_sessions_accepted(const QdesSealSessions *sessions);
unsigned qdes_seal_sessions_pending(const QdesSealSessions *sessions);

#endif
