/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Resolver: names to endpoints, without anybody waiting
 *
 * A lookup may take many seconds, and there is no portable way to have it not
 * block; so it has a thread of its own, which starts with the first question.
 * Questions are answered in the order they came, one at a time.  Where an
 * answer is ready, a descriptor is readable.
 *
 * The system's lookup asks as the host is configured to: /etc/hosts, DNS, and
 * what else there is, for all addresses of a name.  Where libresolv is there,
 * DNS tells how long the answer is good, and SRV records are followed: each
 * target's addresses come with the record's port, whatever its priority and
 * weight, as all of them are peers.
 *
 * Freeing a resolver does not wait for a lookup that hangs: its thread owns a
 * share of the state, drops the answer and goes when the lookup is over.
 *
 * Threads: all functions are one thread's, but for the QdesLookup, which runs
 * in the resolver's, with all signals blocked.
 *
 * Limits: QDES_RESOLVER_PENDING questions at a time; an answer has at most
 * QDES_RESOLVER_ANSWER_MAX endpoints, the rest is left out and not counted.
 * Of a service, 256 hosts are looked up whose addresses did not come along
 * with the answer.
 */

#ifndef QDES_RESOLVE_H
#define QDES_RESOLVE_H

#include "qdes/seeds.h"

#define QDES_RESOLVER_PENDING 32
#define QDES_RESOLVER_ANSWER_MAX (4 * QDES_SEED_ENDPOINTS_MAX)
#define QDES_RESOLVER_TTL 30    /* seconds, where nobody tells */

typedef struct QdesResolver QdesResolver;

/* What became of a question.  To be cleared with qdes_answer_clear(). */
typedef struct QdesAnswer {
    uint64_t id;                /* of the question */
    char *error;                /* there is no answer, and this is why */
    GArray *endpoints;          /* QdesAddr, else */
    uint32_t ttl;               /* seconds that they are good for */
} QdesAnswer;

/*
 * Look up @question, among the addresses of IPv4 and IPv6 as asked for, and
 * append to @answer->endpoints, or set @answer->error.
 */
typedef void QdesLookup(const QdesSeedQuestion *question, bool v4, bool v6,
                        QdesAnswer *answer, void *opaque);

/* @lookup: NULL: the system's.  Returns NULL with @errp set when there is no
 * descriptor left. */
QdesResolver *qdes_resolver_new(bool v4, bool v6, QdesLookup *lookup,
                                void *opaque, GError **errp);
void qdes_resolver_free(QdesResolver *resolver);

/* Readable when there is an answer. */
int qdes_resolver_fd(const QdesResolver *resolver);

/* Does it take another question? */
bool qdes_resolver_has_room(const QdesResolver *resolver);

/* There has to be room. */
void qdes_resolver_ask(QdesResolver *resolver,
                       const QdesSeedQuestion *question);

/* Take an answer.  Returns false when there is none yet. */
bool qdes_resolver_take(QdesResolver *resolver, QdesAnswer *answer);

void qdes_answer_clear(QdesAnswer *answer);

/* Append @addr, unless no peer can be there. */
void qdes_answer_add(QdesAnswer *answer, const QdesAddr *addr);

/* The system's QdesLookup. */
void qdes_lookup_system(const QdesSeedQuestion *question, bool v4, bool v6,
                        QdesAnswer *answer, void *opaque);

#endif
