/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing the candidates: whatever is heard, told and asked in whatever order,
 * by a clock that jumps, nobody unheard of gets more than the tellers' ECHOs,
 * and the limits hold.
 */

#include "fuzz.h"

#include "qdes/candidates.h"
#include "qdes/control.h"

#define ADDRS 512
#define TELLERS 9

typedef struct Model {
    QdesCandidates *c;
    int64_t now;
    int64_t may[ADDRS];         /* bytes that may go there */
} Model;

static QdesAddr addr_of(unsigned n)
{
    QdesAddr addr = { .port = 1 + n % 64 };

    memset(addr.ip + 10, 0xff, 2);
    addr.ip[12] = 10;
    addr.ip[15] = n / 64;
    return addr;
}

static unsigned number_of(const QdesAddr *addr)
{
    return addr->ip[15] * 64 + addr->port - 1;
}

static void spend(Model *m, unsigned n, size_t bytes)
{
    m->may[n] -= bytes;
    fuzz_check(m->may[n] >= 0, "more is sent than came");
}

static void drain(Model *m)
{
    QdesAddr addr;
    unsigned n = 0;

    while (qdes_candidates_next(m->c, m->now, &addr)) {
        spend(m, number_of(&addr), QDES_ECHO_SIZE);
        fuzz_check(++n <= 2 * QDES_CANDIDATE_BURST, "too many at once");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Model model;
    Input in = { data, size };
    Model *m = &model;
    unsigned n, i;
    QdesAddr addr;
    uint8_t op;

    memset(m, 0, sizeof(*m));
    m->now = 1000000;
    m->c = qdes_candidates_new(TELLERS, 3);
    while (in.size > 0) {
        op = input_byte(&in);
        n = input_u16(&in);
        addr = addr_of(n % ADDRS);
        switch (op % 11) {
        case 0:
            qdes_candidates_heard(m->c, &addr, op, m->now);
            m->may[n % ADDRS] += op;
            break;
        case 1:
            if (qdes_candidates_told(m->c, &addr, n, 1 + op % TELLERS,
                                     m->now)) {
                m->may[n % ADDRS] += QDES_CANDIDATE_TRIES * QDES_ECHO_SIZE;
            }
            break;
        case 2:
            if (qdes_candidates_pay(m->c, &addr, op)) {
                spend(m, n % ADDRS, op);
            }
            break;
        case 3:
            qdes_candidates_remove(m->c, &addr);
            break;
        case 4:
            qdes_candidates_remember(m->c, &addr, m->now);
            m->may[n % ADDRS] += QDES_ECHO_SIZE *
                                 (1 + QDES_REMEMBERED_FOR_MS /
                                      QDES_REMEMBERED_MS);
            break;
        case 5:
            m->now += n;
            drain(m);
            break;
        case 6:
            for (i = 0; i < op; i++) {
                m->now = MAX(m->now + 1, MIN(qdes_candidates_due(m->c),
                                             m->now + 200000));
                drain(m);
            }
            break;
        case 7:
            m->now = MAX(1, m->now + (int16_t)n * 1000);
            break;
        case 8:
            /* All ports of a host, each teller at his turn. */
            for (i = 0; i < 64; i++) {
                addr.port = 1 + i;
                if (qdes_candidates_told(m->c, &addr, n, 1 + i % TELLERS,
                                         m->now)) {
                    m->may[number_of(&addr)] += QDES_CANDIDATE_TRIES *
                                                QDES_ECHO_SIZE;
                }
            }
            break;
        case 9:
            qdes_candidates_answered(m->c, &addr);
            qdes_candidates_reward(m->c);
            break;
        case 10:
            qdes_candidates_teller_gone(m->c, 1 + op % TELLERS);
            qdes_candidates_failed(m->c, &addr);
            qdes_candidates_set_interval(m->c, 10000 + n);
            break;
        }
        fuzz_check(qdes_candidates_size(m->c) <= QDES_MAX_CANDIDATES &&
                   qdes_candidates_fresh(m->c) <= qdes_candidates_size(m->c),
                   "there are too many");
    }
    /* All come to an end. */
    for (n = 0; n < ADDRS; n++) {
        addr = addr_of(n);
        qdes_candidates_remove(m->c, &addr);
    }
    fuzz_check(qdes_candidates_size(m->c) == 0 &&
               qdes_candidates_due(m->c) == INT64_MAX, "some are left");
    qdes_candidates_free(m->c);
    return 0;
}
