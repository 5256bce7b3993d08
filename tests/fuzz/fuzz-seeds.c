/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing the seeds: listed, struck off, answered, failing, in any order; the
 * endpoints are those of the seeds, none twice, and the limits hold.
 */

#include "fuzz.h"

#include "qdes/seeds.h"

static QdesAddr addr_of(unsigned n)
{
    QdesAddr addr = { .port = 20804 };

    memset(addr.ip + 10, 0xff, 2);
    addr.ip[12] = 10;
    addr.ip[14] = n >> 8;
    addr.ip[15] = n;
    return addr;
}

static void make_spec(QdesSeedSpec *spec, char text[32], uint8_t n)
{
    if (n % 3 == 0) {
        snprintf(text, 32, "10.0.0.%u", n % 16);
    } else {
        snprintf(text, 32, n % 3 == 1 ? "n%u.example" : "_q._udp.n%u.example",
                 n % 16);
    }
    fuzz_check(qdes_seed_parse(spec, text, 20804, NULL), "a good seed");
}

/* Those of all seeds are those of the table. */
static void check(const QdesSeeds *s)
{
    g_autofree uint8_t *seen = g_malloc0(65536);
    uint32_t cursor = 0, n = 0, i, j;
    QdesSeedInfo info;
    QdesAddr addr;
    unsigned at;

    while (qdes_seeds_next(s, &cursor, &addr)) {
        at = addr.ip[14] << 8 | addr.ip[15];
        fuzz_check(!seen[at], "an endpoint is there twice");
        fuzz_check(qdes_seeds_has(s, &addr), "an endpoint is not found");
        fuzz_check(qdes_seeds_find_endpoint(s, &addr) >= 0,
                   "an endpoint of nobody");
        seen[at] = 1;
        n++;
    }
    fuzz_check(n == qdes_seeds_n_endpoints(s) &&
               n <= QDES_SEEDS_ENDPOINTS_MAX, "endpoints are miscounted");
    for (i = 0; i < qdes_seeds_size(s); i++) {
        qdes_seeds_info(s, i, &info);
        fuzz_check(info.n_endpoints <= QDES_SEED_ENDPOINTS_MAX &&
                   (info.state == QDES_SEED_FAILING) == !!info.error,
                   "a seed's state");
        for (j = 0; j < info.n_endpoints; j++) {
            addr = qdes_seeds_endpoint(s, i, j);
            fuzz_check(seen[addr.ip[14] << 8 | addr.ip[15]],
                       "a seed leads to nowhere");
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = { data, size };
    QdesSeeds *s = qdes_seeds_new(9);
    QdesSeedQuestion question;
    uint64_t asked[16] = { 0 };
    QdesSeedSpec spec;
    QdesAddr *addrs;
    int64_t now = 1000;
    unsigned i, n, step;
    char text[32];
    uint8_t op;

    while (in.size > 0) {
        op = input_byte(&in);
        n = input_byte(&in);
        switch (op % 8) {
        case 0:
            make_spec(&spec, text, n);
            qdes_seeds_add(s, text, &spec, now);
            break;
        case 1:
            make_spec(&spec, text, n);
            qdes_seeds_del(s, &spec);
            break;
        case 2:
        case 3:
            if (qdes_seeds_take_due(s, now, &question)) {
                asked[n % 16] = question.id;
            }
            break;
        case 4:
        case 5:
            n = n % 4 == 0 ? n * 17 : n;
            step = 1 + input_byte(&in) % 5;
            addrs = g_new(QdesAddr, n + 1);
            for (i = 0; i < n; i++) {
                addrs[i] = addr_of(op * 64 + i * step);
            }
            qdes_seeds_answer(s, asked[op / 8 % 16], addrs, n,
                              input_u16(&in) - 5, now);
            g_free(addrs);
            break;
        case 6:
            if (n % 2) {
                qdes_seeds_fail(s, asked[n % 16], "no", now);
            } else {
                qdes_seeds_postpone(s, asked[n % 16], now + n);
            }
            break;
        case 7:
            now += n * 1000;
            break;
        }
    }
    check(s);
    fuzz_check(qdes_seeds_deadline(s) > 0, "a deadline cannot be");
    qdes_seeds_free(s);
    return 0;
}
