/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Candidates: a chained hash over an array.  Those that have had the same
 * number of ECHOs wait for the same time, and so form a queue.
 */

#include "qdes/candidates.h"

#include <string.h>

#include "qdes/chain.h"
#include "qdes/control.h"
#include "qdes/hash.h"

#define NIL QDES_CHAIN_NIL
#define BUCKETS 1024
#define HOSTS 4096
#define MAX_CREDIT (1 << 20)    /* bytes */
#define NOBODY 0                /* its teller: it came by itself */
#define MAX_REWARDS 50

/* The queues: by the number of ECHOs sent, and two more. */
enum {
    READY = QDES_CANDIDATE_TRIES + 1, /* it had to wait for credit, and has */
    WAITING,                    /* for credit */
    N_QUEUES
};

/* The rates, and the queues that are subject to each: from @first on, but for
 * WAITING. */
typedef enum Pace { ALL, SELF, N_PACES } Pace;

static const struct {
    unsigned first;
    int64_t spacing;            /* ms */
} paces[N_PACES] = {
    [ALL] = { 0, 1000 / QDES_CANDIDATE_RATE },
    [SELF] = { READY, 1000 / QDES_CANDIDATE_SELF_RATE },
};

typedef struct Candidate {
    QdesAddr addr;
    uint64_t instance;          /* as was said last, 0: it was not */
    uint32_t teller;
    uint32_t credit;            /* bytes that may be sent to it */
    uint8_t tries;              /* ECHOs sent */
    uint8_t queue;
    bool used;
    int64_t since;              /* ms, in its queue; of WAITING, when the last
                                   ECHO was sent, 0: none */
    uint32_t hash_next;
} Candidate;

typedef struct Remembered {
    QdesAddr addr;
    int64_t until;              /* ms, 0: not in use */
    int64_t next;
} Remembered;

struct QdesCandidates {
    uint64_t seed;
    int64_t interval;
    int64_t allowed[N_PACES];   /* when the next ECHO would be on time */
    unsigned rewards;           /* ECHOs at the pace of SELF */
    uint32_t size;
    uint32_t max_tellers;
    uint32_t *count;            /* of each teller; the last are gone */
    uint16_t told[HOSTS];       /* of those told of, by the hash of the host */
    uint64_t answered[HOSTS];   /* the hash of a host that did */
    uint32_t buckets[BUCKETS];
    Candidate all[QDES_MAX_CANDIDATES];
    QdesLink links[QDES_MAX_CANDIDATES];      /* of the queues, and unused */
    QdesLink self_links[QDES_MAX_CANDIDATES];
    QdesChain queues[N_QUEUES];
    QdesChain unused;
    QdesChain self;             /* teller NOBODY, in the order they came */
    Remembered remembered[QDES_REMEMBERED];
    int64_t remembered_due;
};

QdesCandidates *qdes_candidates_new(uint32_t max_tellers, uint64_t seed)
{
    QdesCandidates *c = g_new0(QdesCandidates, 1);
    uint32_t i;

    c->seed = seed;
    c->interval = QDES_HELLO_MS;
    c->max_tellers = max_tellers;
    c->count = g_new0(uint32_t, max_tellers + 2);
    c->unused = c->self = QDES_CHAIN_EMPTY;
    c->remembered_due = INT64_MAX;
    for (i = 0; i < N_QUEUES; i++) {
        c->queues[i] = QDES_CHAIN_EMPTY;
    }
    for (i = 0; i < BUCKETS; i++) {
        c->buckets[i] = NIL;
    }
    for (i = 0; i < QDES_MAX_CANDIDATES; i++) {
        qdes_chain_append(&c->unused, c->links, i);
    }
    return c;
}

void qdes_candidates_free(QdesCandidates *c)
{
    if (c) {
        g_free(c->count);
        g_free(c);
    }
}

void qdes_candidates_set_interval(QdesCandidates *c, int64_t ms)
{
    c->interval = ms;
}

static uint32_t *bucket_of(QdesCandidates *c, const QdesAddr *addr)
{
    return &c->buckets[qdes_addr_hash(addr, c->seed) % BUCKETS];
}

static uint32_t find(QdesCandidates *c, const QdesAddr *addr)
{
    uint32_t i = *bucket_of(c, addr);

    while (i != NIL && !qdes_addr_equal(&c->all[i].addr, addr)) {
        i = c->all[i].hash_next;
    }
    return i;
}

static void enqueue(QdesCandidates *c, uint32_t i, uint8_t queue, int64_t now)
{
    c->all[i].queue = queue;
    c->all[i].since = now;
    qdes_chain_append(&c->queues[queue], c->links, i);
}

static void dequeue(QdesCandidates *c, uint32_t i)
{
    qdes_chain_remove(&c->queues[c->all[i].queue], c->links, i);
}

/* Never 0. */
static uint64_t hash_host(const QdesCandidates *c, const QdesAddr *addr)
{
    uint64_t high, low;

    memcpy(&high, addr->ip, 8);
    memcpy(&low, addr->ip + 8, 8);
    return qdes_hash_mix(qdes_hash_mix(high ^ c->seed) ^ addr->scope ^
                         (qdes_addr_is_v4(addr) ? low : 0)) | 1;
}

static unsigned place_of(uint64_t host)
{
    return (host >> 1) % HOSTS;
}

/* How many were told of that are on the host of @addr, or seem to be. */
static uint16_t *told_at(QdesCandidates *c, const QdesAddr *addr)
{
    return &c->told[place_of(hash_host(c, addr))];
}

static void set_teller(QdesCandidates *c, uint32_t i, uint32_t teller)
{
    if (c->all[i].teller == NOBODY) {
        qdes_chain_remove(&c->self, c->self_links, i);
        ++*told_at(c, &c->all[i].addr);
    }
    c->count[c->all[i].teller]--;
    c->all[i].teller = teller;
    c->count[teller]++;
}

static void drop(QdesCandidates *c, uint32_t i)
{
    uint32_t *next = bucket_of(c, &c->all[i].addr);

    while (*next != i) {
        next = &c->all[*next].hash_next;
    }
    *next = c->all[i].hash_next;
    dequeue(c, i);
    if (c->all[i].teller == NOBODY) {
        qdes_chain_remove(&c->self, c->self_links, i);
    } else {
        --*told_at(c, &c->all[i].addr);
    }
    c->count[c->all[i].teller]--;
    c->all[i].used = false;
    qdes_chain_append(&c->unused, c->links, i);
    c->size--;
}

/* One of the teller that has the most, who has more than @teller. */
static uint32_t find_victim(const QdesCandidates *c, uint32_t teller)
{
    uint32_t most = c->count[teller] + 1;
    uint32_t victim = NIL;
    uint32_t i;

    for (i = 0; i < QDES_MAX_CANDIDATES; i++) {
        if (c->all[i].used && c->count[c->all[i].teller] > most) {
            most = c->count[c->all[i].teller];
            victim = i;
        }
    }
    return victim;
}

/* A place for one of @teller's; NIL: there is none. */
static uint32_t take_place(QdesCandidates *c, uint32_t teller)
{
    uint32_t i;

    if (c->count[teller] >= QDES_CANDIDATES_EACH) {
        if (teller != NOBODY) {
            return NIL;
        }
        drop(c, c->self.head);
    } else if (c->size == QDES_MAX_CANDIDATES) {
        i = find_victim(c, teller);
        if (i == NIL) {
            return NIL;
        }
        drop(c, i);
    }
    i = c->unused.head;
    qdes_chain_remove(&c->unused, c->links, i);
    return i;
}

static uint32_t add(QdesCandidates *c, const QdesAddr *addr, uint32_t teller)
{
    uint32_t i = take_place(c, teller);
    uint32_t *bucket = bucket_of(c, addr);

    if (i == NIL) {
        return NIL;
    }
    c->all[i] = (Candidate) {
        .addr = *addr, .teller = teller, .used = true, .hash_next = *bucket,
    };
    *bucket = i;
    c->count[teller]++;
    c->size++;
    if (teller == NOBODY) {
        qdes_chain_append(&c->self, c->self_links, i);
    } else {
        ++*told_at(c, addr);
    }
    return i;
}

void qdes_candidates_heard(QdesCandidates *c, const QdesAddr *addr,
                           size_t bytes, int64_t now)
{
    uint32_t i = find(c, addr);
    Candidate *candidate;

    if (i == NIL) {
        i = add(c, addr, NOBODY);
        if (i == NIL) {
            return;
        }
        enqueue(c, i, WAITING, 0);
    }
    candidate = &c->all[i];
    candidate->credit = MIN(candidate->credit + MIN(bytes, MAX_CREDIT),
                            MAX_CREDIT);
    if (candidate->queue == WAITING && candidate->credit >= QDES_ECHO_SIZE &&
        (candidate->since == 0 || now - candidate->since >= 1000)) {
        dequeue(c, i);
        enqueue(c, i, READY, now);
    }
}

static bool may_be_told(QdesCandidates *c, const QdesAddr *addr)
{
    uint64_t host = hash_host(c, addr);

    return *told_at(c, addr) < QDES_CANDIDATES_HOST ||
           c->answered[place_of(host)] == host;
}

bool qdes_candidates_told(QdesCandidates *c, const QdesAddr *addr,
                          uint64_t instance, uint32_t teller, int64_t now)
{
    uint32_t i = find(c, addr);

    g_assert(teller != NOBODY && teller <= c->max_tellers);
    if (i != NIL) {
        c->all[i].instance = instance;
        if (c->all[i].teller == NOBODY &&
            c->count[teller] < QDES_CANDIDATES_EACH &&
            may_be_told(c, addr)) {
            set_teller(c, i, teller);
            if (c->all[i].queue == WAITING) {
                dequeue(c, i);
                enqueue(c, i, c->all[i].tries, now);
            }
        }
        return true;
    }
    i = may_be_told(c, addr) ? add(c, addr, teller) : NIL;
    if (i == NIL) {
        return false;
    }
    c->all[i].instance = instance;
    enqueue(c, i, 0, now);
    return true;
}

void qdes_candidates_answered(QdesCandidates *c, const QdesAddr *addr)
{
    uint64_t host = hash_host(c, addr);

    c->answered[place_of(host)] = host;
}

void qdes_candidates_teller_gone(QdesCandidates *c, uint32_t teller)
{
    uint32_t i;

    for (i = 0; i < QDES_MAX_CANDIDATES && c->count[teller] > 0; i++) {
        if (c->all[i].used && c->all[i].teller == teller) {
            set_teller(c, i, c->max_tellers + 1);
        }
    }
}

uint64_t qdes_candidates_instance(QdesCandidates *c, const QdesAddr *addr,
                                  bool *silent)
{
    uint32_t i = find(c, addr);

    *silent = i != NIL && c->all[i].tries > QDES_CANDIDATE_QUICK;
    return i == NIL ? 0 : c->all[i].instance;
}

bool qdes_candidates_pay(QdesCandidates *c, const QdesAddr *addr, size_t bytes)
{
    uint32_t i = find(c, addr);

    if (i == NIL || c->all[i].credit < bytes) {
        return false;
    }
    c->all[i].credit -= bytes;
    return true;
}

void qdes_candidates_reward(QdesCandidates *c)
{
    c->rewards = MIN(c->rewards + 1, MAX_REWARDS);
}

static void find_remembered_due(QdesCandidates *c)
{
    int i;

    c->remembered_due = INT64_MAX;
    for (i = 0; i < QDES_REMEMBERED; i++) {
        if (c->remembered[i].until) {
            c->remembered_due = MIN(c->remembered_due, c->remembered[i].next);
        }
    }
}

void qdes_candidates_failed(QdesCandidates *c, const QdesAddr *addr)
{
    uint32_t i = find(c, addr);

    if (i != NIL) {
        drop(c, i);
    }
}

void qdes_candidates_remove(QdesCandidates *c, const QdesAddr *addr)
{
    int j;

    qdes_candidates_failed(c, addr);
    for (j = 0; j < QDES_REMEMBERED; j++) {
        if (c->remembered[j].until &&
            qdes_addr_equal(&c->remembered[j].addr, addr)) {
            c->remembered[j].until = 0;
            find_remembered_due(c);
        }
    }
}

void qdes_candidates_remember(QdesCandidates *c, const QdesAddr *addr,
                              int64_t now)
{
    Remembered *place = &c->remembered[0];
    int i;

    for (i = 0; i < QDES_REMEMBERED; i++) {
        if (c->remembered[i].until &&
            qdes_addr_equal(&c->remembered[i].addr, addr)) {
            place = &c->remembered[i];
            break;
        }
        if (c->remembered[i].until < place->until) {
            place = &c->remembered[i];
        }
    }
    *place = (Remembered) {
        .addr = *addr,
        .until = now + QDES_REMEMBERED_FOR_MS,
        .next = now + QDES_REMEMBERED_MS,
    };
    find_remembered_due(c);
}

void qdes_candidates_hurry(QdesCandidates *c, int64_t now)
{
    int i;

    for (i = 0; i < QDES_REMEMBERED; i++) {
        c->remembered[i].next = MIN(c->remembered[i].next, now);
    }
    find_remembered_due(c);
}

/* How long one waits that has had @tries ECHOs. */
static int64_t wait_after(const QdesCandidates *c, unsigned tries)
{
    static const int16_t first[QDES_CANDIDATE_QUICK] = {
        0, 1000, 1000, 2000, 4000,
    };

    return tries < G_N_ELEMENTS(first) ? first[tries] : c->interval;
}

/* The queue of @pace whose head is due first, and when; N_QUEUES: none. */
static unsigned first_queue(const QdesCandidates *c, Pace pace, int64_t *due)
{
    unsigned i, first = N_QUEUES;
    int64_t when;

    *due = INT64_MAX;
    for (i = paces[pace].first; i < WAITING; i++) {
        if (c->queues[i].head != NIL) {
            when = c->all[c->queues[i].head].since +
                   (i == READY ? 0 : wait_after(c, i));
            if (when < *due) {
                *due = when;
                first = i;
            }
        }
    }
    return first;
}

static bool next_remembered(QdesCandidates *c, int64_t now, QdesAddr *addr)
{
    Remembered *r;
    int i;

    if (c->remembered_due > now) {
        return false;
    }
    for (i = 0; i < QDES_REMEMBERED; i++) {
        r = &c->remembered[i];
        if (r->until && r->next <= now) {
            *addr = r->addr;
            r->next = now + QDES_REMEMBERED_MS;
            if (r->next > r->until) {
                r->until = 0;
            }
            break;
        }
    }
    find_remembered_due(c);
    return i < QDES_REMEMBERED;
}

static bool next_candidate(QdesCandidates *c, Pace pace, int64_t now,
                           QdesAddr *addr)
{
    Candidate *candidate;
    unsigned queue;
    int64_t due;
    uint32_t i;

    for (;;) {
        queue = first_queue(c, pace, &due);
        if (queue == N_QUEUES || due > now) {
            return false;
        }
        i = c->queues[queue].head;
        candidate = &c->all[i];
        if (candidate->tries == QDES_CANDIDATE_TRIES) {
            drop(c, i);
            continue;
        }
        if (candidate->teller == NOBODY &&
            candidate->credit < QDES_ECHO_SIZE) {
            int64_t sent = candidate->since;

            dequeue(c, i);
            enqueue(c, i, WAITING, candidate->tries ? sent : 0);
            continue;
        }
        if (candidate->teller == NOBODY) {
            candidate->credit -= QDES_ECHO_SIZE;
        }
        *addr = candidate->addr;
        dequeue(c, i);
        candidate->tries++;
        enqueue(c, i, candidate->tries, now);
        return true;
    }
}

bool qdes_candidates_next(QdesCandidates *c, int64_t now, QdesAddr *addr)
{
    Pace pace;

    for (pace = ALL; pace < N_PACES; pace++) {
        if (c->allowed[pace] - (QDES_CANDIDATE_BURST - 1) *
            paces[pace].spacing > now || (pace == SELF && !c->rewards)) {
            continue;
        }
        if ((pace == ALL && next_remembered(c, now, addr)) ||
            next_candidate(c, pace, now, addr)) {
            c->allowed[pace] = MAX(c->allowed[pace], now) +
                               paces[pace].spacing;
            c->rewards -= pace == SELF;
            return true;
        }
    }
    return false;
}

int64_t qdes_candidates_due(const QdesCandidates *c)
{
    int64_t all, self = INT64_MAX;

    first_queue(c, ALL, &all);
    all = MIN(all, c->remembered_due);
    if (all != INT64_MAX) {
        all = MAX(all, c->allowed[ALL]);
    }
    if (c->rewards && first_queue(c, SELF, &self) != N_QUEUES) {
        self = MAX(self, c->allowed[SELF]);
    }
    return MIN(all, self);
}

uint32_t qdes_candidates_size(const QdesCandidates *c)
{
    return c->size;
}

uint32_t qdes_candidates_fresh(const QdesCandidates *c)
{
    uint32_t i, n = 0;

    for (i = c->queues[0].head; i != NIL; i = c->links[i].next) {
        n++;
    }
    return n;
}
