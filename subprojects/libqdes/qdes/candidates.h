/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Candidates: endpoints that are to be proven by an ECHO
 *
 * A candidate was told of by a peer, or sent something itself.  It gets an
 * ECHO at once, after 1, 2, 4 and 8 s and then once per interval, six times;
 * so two ports behind NATs, each told of the other at its own time, send long
 * enough to open both.  Then it is dropped.
 *
 * Credit: to an address that nobody but itself vouches for, never more bytes
 * are sent than came from it, as it may be forged.  Its ECHO waits until
 * enough came; qdes_candidates_pay() answers for all other messages.
 *
 * Endpoints of peers that fell silent are remembered too: the last
 * QDES_REMEMBERED of them get an ECHO each QDES_REMEMBERED_MS for an hour, so
 * that an underlay that was parted finds together again.
 *
 * Limits and fairness: QDES_MAX_CANDIDATES in all.  One teller has at most
 * QDES_CANDIDATES_EACH; the table being full, one of the teller with the most
 * gives way to one of a teller with fewer.  Of those that came by themselves
 * there are as many, and the one that came first gives way.  All of them
 * together get at most QDES_CANDIDATE_RATE ECHOs in a second.
 *
 * Where all others of a large fabric know one port only, that one must not
 * hold up everybody: each proof allows one more ECHO to somebody who just came
 * and has paid for it, up to QDES_CANDIDATE_SELF_RATE in a second.  Invented
 * addresses prove nothing, and so bring no ECHOs beyond those of all.
 *
 * Cost: constant time, but where somebody has to give way.  All memory is
 * taken at creation.
 *
 * Pure: times are milliseconds of the caller's monotonic clock, which begins
 * above 0.
 */

#ifndef QDES_CANDIDATES_H
#define QDES_CANDIDATES_H

#include "qdes/addr.h"

typedef struct QdesCandidates QdesCandidates;

#define QDES_MAX_CANDIDATES 1024
#define QDES_CANDIDATES_EACH 256        /* of one teller */
#define QDES_CANDIDATE_TRIES 11         /* ECHOs to one */
#define QDES_CANDIDATE_QUICK 5          /* of them before the intervals */
#define QDES_CANDIDATE_RATE 50          /* ECHOs in a second */
#define QDES_CANDIDATE_SELF_RATE 200    /* ... more, as others were proven */
#define QDES_CANDIDATE_BURST 5          /* of them at once */
#define QDES_REMEMBERED 64
#define QDES_REMEMBERED_MS 30000
#define QDES_REMEMBERED_FOR_MS 3600000

/* @max_tellers: tellers are numbers from 1 to it. */
QdesCandidates *qdes_candidates_new(uint32_t max_tellers, uint64_t seed);
void qdes_candidates_free(QdesCandidates *candidates);

/* The interval between the later ECHOs, in milliseconds. */
void qdes_candidates_set_interval(QdesCandidates *candidates, int64_t ms);

/* @bytes came from @addr, which is not proven. */
void qdes_candidates_heard(QdesCandidates *candidates, const QdesAddr *addr,
                           size_t bytes, int64_t now);

/* @teller says that @instance is at @addr.  Returns false when there is no
 * place for it. */
bool qdes_candidates_told(QdesCandidates *candidates, const QdesAddr *addr,
                          uint64_t instance, uint32_t teller, int64_t now);

/* Who is said to be at @addr; 0: nobody said so.  *@silent: the quick ECHOs
 * to it had no answer, and now the slow ones are sent. */
uint64_t qdes_candidates_instance(QdesCandidates *candidates,
                                  const QdesAddr *addr, bool *silent);

/* Can @bytes be sent to @addr, which is not proven?  Then they are taken as
 * sent. */
bool qdes_candidates_pay(QdesCandidates *candidates, const QdesAddr *addr,
                         size_t bytes);

/* Somebody was proven. */
void qdes_candidates_reward(QdesCandidates *candidates);

/* It was proven, or said BYE. */
void qdes_candidates_remove(QdesCandidates *candidates, const QdesAddr *addr);

/* A proven peer fell silent. */
void qdes_candidates_remember(QdesCandidates *candidates,
                              const QdesAddr *addr, int64_t now);

/* The network has changed: those that fell silent may be back, try them soon.
 */
void qdes_candidates_hurry(QdesCandidates *candidates, int64_t now);

/* Is an ECHO to somebody due?  Then *@addr is who, and it is taken as sent. */
bool qdes_candidates_next(QdesCandidates *candidates, int64_t now,
                          QdesAddr *addr);

/* When to call qdes_candidates_next() again; INT64_MAX: nothing is to come. */
int64_t qdes_candidates_due(const QdesCandidates *candidates);

uint32_t qdes_candidates_size(const QdesCandidates *candidates);

/* How many were told of, and still wait for their first ECHO. */
uint32_t qdes_candidates_fresh(const QdesCandidates *candidates);

#endif
