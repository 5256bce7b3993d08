/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The control messages ECHO, ECHO-REPLY, PEERS, CHALLENGE and RESPONSE
 *
 * An ECHO asks whoever is at an endpoint to return a nonce; the ECHO-REPLY
 * with it proves that somebody is there, and takes time that tells how far
 * away.  PEERS asks a peer whom it knows (with a digest of whom the asker
 * knows, and perhaps a filter that finds each of those in it), or tells of
 * them (with a list).  docs/protocol.md is the norm.
 *
 * In a sealed fabric, a CHALLENGE asks the sender of a session that is not
 * known whether it is there, and a RESPONSE, which is as long, says so.
 *
 * An ECHO is longer than what it is answered with, so that an address that
 * somebody invents is never sent more than came in its name.
 *
 * The header has been read by qdes_wire_decode(); everything else about
 * wire.h holds here too.  Pure.
 */

#ifndef QDES_CONTROL_H
#define QDES_CONTROL_H

#include "qdes/wire.h"

#define QDES_ECHO_SIZE 96       /* bytes of an ECHO, whole */
#define QDES_ECHO_REPLY_SIZE 42 /* bytes of an ECHO-REPLY, whole */
#define QDES_CHALLENGE_SIZE 40  /* bytes of a CHALLENGE, whole, and plain */
#define QDES_RESPONSE_SIZE 40   /* bytes of a RESPONSE */
#define QDES_DIGEST_BUCKETS 64
#define QDES_ENTRY_SIZE 26      /* bytes of an entry of a list */
#define QDES_ENTRIES_MAX 45     /* of one datagram */
#define QDES_KNOWN_MAX 900      /* bytes of a filter */

/* An ECHO or ECHO-REPLY. */
typedef struct QdesEcho {
    uint64_t nonce;
    QdesAddr observed;          /* of an ECHO: whom it is sent to; of an
                                   ECHO-REPLY: who the ECHO came from */
} QdesEcho;

/* Somebody that a PEERS tells of. */
typedef struct QdesEntry {
    QdesAddr addr;              /* without scope */
    uint64_t instance;
} QdesEntry;

/* Of sets of peers: each bucket is 0 without any, and changes with each. */
typedef struct QdesDigest {
    uint32_t bucket[QDES_DIGEST_BUCKETS];
} QdesDigest;

/* A Bloom filter of those that the asker knows, of a part of all there are. */
typedef struct QdesKnown {
    uint8_t parts;              /* in how many all are divided */
    uint8_t part;               /* which one this is */
    uint32_t salt;              /* so that the next filter errs with others */
    uint16_t size;              /* bytes of @bits, 1 to QDES_KNOWN_MAX; 0: there
                                   is no filter */
    const uint8_t *bits;        /* borrowed */
} QdesKnown;

typedef struct QdesPeersMessage {
    bool is_request;
    QdesDigest digest;          /* of a request */
    QdesKnown known;            /* the same, in the datagram */
    unsigned n_entries;         /* else */
    const uint8_t *entries;     /* in the datagram */
} QdesPeersMessage;

/* A CHALLENGE or RESPONSE. */
typedef struct QdesChallenge {
    uint64_t nonce;
    uint64_t session;           /* of a CHALLENGE: which one it asks about */
    uint32_t age;               /* of a CHALLENGE: ms, since when its sender
                                   has surely taken nothing of that */
    uint64_t numbers[2];        /* of a RESPONSE: the highest number of each
                                   kind that was used before that */
} QdesChallenge;

/* Read the TLVs of an ECHO or ECHO-REPLY: QDES_WIRE_OK or QDES_WIRE_BAD_TLV. */
QdesWireResult qdes_control_decode_echo(QdesEcho *echo,
                                        const QdesWireHeader *header);

/* Write a whole ECHO or ECHO-REPLY.  Returns its bytes. */
size_t qdes_control_encode_echo(uint8_t data[QDES_ECHO_SIZE],
                                QdesWireType type, uint32_t netid,
                                const QdesEcho *echo);

/* Read the TLVs of a PEERS: QDES_WIRE_OK or QDES_WIRE_BAD_TLV. */
QdesWireResult qdes_control_decode_peers(QdesPeersMessage *message,
                                         const QdesWireHeader *header);

/* The entry number @i of a list. */
QdesEntry qdes_control_entry(const QdesPeersMessage *message, unsigned i);

/* Write a whole PEERS: a request, or a list of 1 to QDES_ENTRIES_MAX entries.
 * Returns its bytes. */
size_t qdes_control_encode_request(uint8_t data[QDES_WIRE_CONTROL_MAX],
                                   uint32_t netid, const QdesDigest *digest,
                                   const QdesKnown *known);
size_t qdes_control_encode_list(uint8_t data[QDES_WIRE_CONTROL_MAX],
                                uint32_t netid, const QdesEntry *entries,
                                unsigned n);

/* Read the TLVs of a CHALLENGE or RESPONSE. */
QdesWireResult qdes_control_decode_challenge(QdesChallenge *challenge,
                                             const QdesWireHeader *header);

/* Write a whole CHALLENGE or RESPONSE.  Returns its bytes. */
size_t qdes_control_encode_challenge(uint8_t data[QDES_CHALLENGE_SIZE],
                                     QdesWireType type, uint32_t netid,
                                     const QdesChallenge *challenge);

/* An entry as it is in a list. */
void qdes_control_put_entry(uint8_t p[QDES_ENTRY_SIZE],
                            const QdesEntry *entry);

#endif
