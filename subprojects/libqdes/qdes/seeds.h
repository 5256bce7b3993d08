/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Seeds: the peers that the user listed, and where they are now
 *
 * A seed is an address, a name with all its addresses, or a service whose SRV
 * records name hosts and ports.  What is listed is a seed; where it is are its
 * endpoints.  An address has one endpoint, itself.  A name has those of the
 * last answer; until there is one, none.  A lookup that fails changes nothing
 * but the state: what was known stays.
 *
 * Names are not looked up here.  qdes_seeds_take_due() hands out the question
 * that is due, and the answer, whenever it comes, goes to qdes_seeds_answer()
 * or qdes_seeds_fail(); an answer to a question about a seed that was removed
 * meanwhile is ignored.  A name is due again when its answer has expired.
 *
 * Several seeds may lead to the same endpoint: it is one, and stays as long as
 * one of them does.  Endpoints have slots, which do not change while they are
 * there; so a cursor over them stays good whatever happens in between.
 *
 * Pure: no socket, no clock, no log.  Times are milliseconds of the host's
 * monotonic clock.
 *
 * Limits: QDES_SEEDS_MAX seeds, QDES_SEED_ENDPOINTS_MAX endpoints of one and
 * QDES_SEEDS_ENDPOINTS_MAX of all; what an answer has above that is counted
 * and left out; what is known already goes first, then the answer's order.
 */

#ifndef QDES_SEEDS_H
#define QDES_SEEDS_H

#include "qdes/addr.h"

#define QDES_SEEDS_MAX 1024
#define QDES_SEED_ENDPOINTS_MAX 4096
#define QDES_SEEDS_ENDPOINTS_MAX 16384
#define QDES_SEED_HOST_MAX 254  /* bytes, with a dot at the end: RFC 1035 */
#define QDES_SEED_MIN_TTL 5     /* seconds from an answer to a question */
#define QDES_SEED_MAX_TTL 300
#define QDES_SEED_RETRY_MS 5000 /* after a failure; doubles ... */
#define QDES_SEED_MAX_RETRY_MS 60000 /* ... up to this */

typedef struct QdesSeeds QdesSeeds;

typedef enum QdesSeedKind {
    QDES_SEED_ADDRESS,
    QDES_SEED_NAME,             /* A and AAAA records */
    QDES_SEED_SERVICE,          /* SRV records */
} QdesSeedKind;

typedef enum QdesSeedState {
    QDES_SEED_PENDING,          /* no answer yet */
    QDES_SEED_RESOLVED,
    QDES_SEED_FAILING,          /* the last lookup failed */
} QdesSeedState;

/* What a user wrote, taken apart. */
typedef struct QdesSeedSpec {
    QdesSeedKind kind;
    QdesAddr addr;              /* of an address; else only its port counts,
                                   and that is 0 for a service */
    char host[QDES_SEED_HOST_MAX + 1]; /* in lower case; empty: an address */
} QdesSeedSpec;

/* One seed, for status; borrowed until the seeds change. */
typedef struct QdesSeedInfo {
    const char *spec;           /* as the user wrote it */
    QdesSeedKind kind;
    QdesSeedState state;
    const char *error;          /* why it is failing, else NULL */
    int64_t since;              /* ms when it came into this state */
    uint32_t n_endpoints;
    uint32_t left_out;          /* of the last answer, above the limits */
} QdesSeedInfo;

/* A name to be looked up. */
typedef struct QdesSeedQuestion {
    uint64_t id;                /* to be handed back with the answer */
    QdesSeedKind kind;          /* not QDES_SEED_ADDRESS */
    uint16_t port;              /* of the endpoints; 0: SRV tells */
    char host[QDES_SEED_HOST_MAX + 1];
} QdesSeedQuestion;

/* What an answer, or its failing to come, has changed. */
typedef enum QdesSeedNews {
    QDES_SEED_NEWS_ENDPOINTS = 1 << 0, /* there are others now */
    QDES_SEED_NEWS_FAILING = 1 << 1, /* it had not failed before */
    QDES_SEED_NEWS_WORKS = 1 << 2, /* it had failed before */
    QDES_SEED_NEWS_LEFT_OUT = 1 << 3, /* for the first time of this seed */
} QdesSeedNews;

typedef enum QdesSeedAdd {
    QDES_SEED_ADDED,
    QDES_SEED_DUPLICATE,        /* it is listed already: nothing done */
    QDES_SEED_REFUSED,          /* there are QDES_SEEDS_MAX */
} QdesSeedAdd;

/*
 * Parse HOST[:PORT]: an address (V6 with a port in brackets), a name, or
 * _service._udp.name without a port.  The error in @errp quotes @text.  Asks
 * the system for an interface that a scope names, and for nothing else.
 */
bool qdes_seed_parse(QdesSeedSpec *spec, const char *text,
                     uint16_t default_port, GError **errp);

/* Can a peer be at @addr?  Not with a multicast, broadcast or wildcard
 * address, nor with a link-local one of no interface. */
bool qdes_seed_is_host(const QdesAddr *addr);

/* @secret makes the table's order unforeseeable. */
QdesSeeds *qdes_seeds_new(uint64_t secret);
void qdes_seeds_free(QdesSeeds *seeds);

/* Changes */

QdesSeedAdd qdes_seeds_add(QdesSeeds *seeds, const char *text,
                           const QdesSeedSpec *spec, int64_t now);

/* Returns false when there is no such seed. */
bool qdes_seeds_del(QdesSeeds *seeds, const QdesSeedSpec *spec);

/* Lookups */

/* When the next name is due, INT64_MAX: none ever is.  Those whose answer is
 * being waited for do not count. */
int64_t qdes_seeds_deadline(const QdesSeeds *seeds);

/* Take the question that is due longest.  Returns false when none is. */
bool qdes_seeds_take_due(QdesSeeds *seeds, int64_t now,
                         QdesSeedQuestion *question);

/* Take back a question that cannot be asked now; it is due at @when. */
void qdes_seeds_postpone(QdesSeeds *seeds, uint64_t id, int64_t when);

/*
 * The answer to question @id: @n endpoints, good for @ttl seconds.  Returns a
 * mask of QdesSeedNews.
 */
unsigned qdes_seeds_answer(QdesSeeds *seeds, uint64_t id,
                           const QdesAddr *endpoints, size_t n, uint32_t ttl,
                           int64_t now);

/* There is none, and @error says why.  Returns a mask of QdesSeedNews. */
unsigned qdes_seeds_fail(QdesSeeds *seeds, uint64_t id, const char *error,
                         int64_t now);

/* What is there */

/*
 * The next endpoint, in the order of slots, and never one twice.  *@cursor is
 * 0 for the first and is moved on.  Returns false after the last.
 */
bool qdes_seeds_next(const QdesSeeds *seeds, uint32_t *cursor,
                     QdesAddr *endpoint);

/* Does a seed lead to @endpoint? */
bool qdes_seeds_has(const QdesSeeds *seeds, const QdesAddr *endpoint);

uint32_t qdes_seeds_n_endpoints(const QdesSeeds *seeds);

/* Seeds are numbered from 0 in the order in which they were listed; removing
 * one moves up those after it. */
uint32_t qdes_seeds_size(const QdesSeeds *seeds);
void qdes_seeds_info(const QdesSeeds *seeds, uint32_t n, QdesSeedInfo *info);

/* The @i-th endpoint of seed number @n. */
QdesAddr qdes_seeds_endpoint(const QdesSeeds *seeds, uint32_t n, uint32_t i);

/* The number of the seed that question @id is about, or -1. */
int64_t qdes_seeds_find_question(const QdesSeeds *seeds, uint64_t id);

/* The number of a seed that leads to @endpoint, or -1. */
int64_t qdes_seeds_find_endpoint(const QdesSeeds *seeds,
                                 const QdesAddr *endpoint);

#endif
