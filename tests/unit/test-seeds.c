/* SPDX-License-Identifier: GPL-2.0-or-later */
/* seeds: what may be listed, answers and failures, limits; a moved clock. */

#include "unit.h"

#include "qdes/seeds.h"

#define SECRET 1

static const struct {
    const char *text;
    QdesSeedKind kind;
    const char *means;          /* endpoint, or host; the port is apart */
    uint16_t port;
} good[] = {
    { "192.0.2.1", QDES_SEED_ADDRESS, "192.0.2.1:20804", 20804 },
    { "192.0.2.1:7", QDES_SEED_ADDRESS, "192.0.2.1:7", 7 },
    { "2001:db8::1", QDES_SEED_ADDRESS, "[2001:db8::1]:20804", 20804 },
    { "[2001:db8::1]", QDES_SEED_ADDRESS, "[2001:db8::1]:20804", 20804 },
    { "[2001:db8::1]:7", QDES_SEED_ADDRESS, "[2001:db8::1]:7", 7 },
    { "fe80::1%lo", QDES_SEED_ADDRESS, "[fe80::1%lo]:20804", 20804 },
    { "[fe80::1%lo]:7", QDES_SEED_ADDRESS, "[fe80::1%lo]:7", 7 },
    { "127.0.0.1", QDES_SEED_ADDRESS, "127.0.0.1:20804", 20804 },
    { "host", QDES_SEED_NAME, "host", 20804 },
    { "Host.Example.org.", QDES_SEED_NAME, "host.example.org.", 20804 },
    { "1.pool.example:65535", QDES_SEED_NAME, "1.pool.example", 65535 },
    { "a_b-c:1", QDES_SEED_NAME, "a_b-c", 1 },
    { "_qdes._udp.example.org", QDES_SEED_SERVICE, "_qdes._udp.example.org",
      0 },
    { "_QDES._UDP.svc", QDES_SEED_SERVICE, "_qdes._udp.svc", 0 },
};

START_TEST(test_good)
{
    char text[QDES_ADDR_STRLEN];
    g_autoptr(GError) err = NULL;
    QdesSeedSpec spec;

    ck_assert_msg(qdes_seed_parse(&spec, good[_i].text, 20804, &err),
                  "%s: %s", good[_i].text, err ? err->message : "");
    ck_assert_int_eq(spec.kind, good[_i].kind);
    ck_assert_uint_eq(spec.addr.port, good[_i].port);
    ck_assert_str_eq(spec.kind == QDES_SEED_ADDRESS
                     ? qdes_addr_format(&spec.addr, text) : spec.host,
                     good[_i].means);
}
END_TEST

static const struct {
    const char *text;
    const char *error;          /* a part of it */
} bad[] = {
    { "", "neither an address nor a DNS name" },
    { ":20804", "neither an address nor a DNS name" },
    { "192.0.2.1:0", "use 1 to 65535" },
    { "192.0.2.1:65536", "use 1 to 65535" },
    { "192.0.2.1:", "use 1 to 65535" },
    { "host:0", "use 1 to 65535" },
    { "host:x", "use 1 to 65535" },
    { "192.0.2", "not an IP address" },
    { "192.0.2.256", "not an IP address" },
    { "[2001:db8::1", "closing bracket" },
    { "[host]:1", "not an IP address" },
    { "2001:db8::g", "not an IP address" },
    { "fe80::1", "needs its interface" },
    { "fe80::1%nosuch", "no interface 'nosuch'" },
    { "2001:db8::1%lo", "not link-local" },
    { "239.192.81.68:20804", "multicast" },
    { "ff02::1%lo", "multicast" },
    { "255.255.255.255", "broadcast" },
    { "0.0.0.0", "no host's address" },
    { "::", "no host's address" },
    { "a..b", "neither an address nor a DNS name" },
    { ".", "not an IP address" },
    { "a b", "neither an address nor a DNS name" },
    { "--quiet", "neither an address nor a DNS name" },
    { "a.-b", "neither an address nor a DNS name" },
    { "h\xc3\xb6st", "neither an address nor a DNS name" },
    { "_qdes._tcp.example", "not a service over UDP" },
    { "_qdes", "not a service over UDP" },
    { "_qdes._udp.example:1", "SRV records tell it" },
};

START_TEST(test_bad)
{
    g_autoptr(GError) err = NULL;
    QdesSeedSpec spec;

    ck_assert_msg(!qdes_seed_parse(&spec, bad[_i].text, 20804, &err), "%s",
                  bad[_i].text);
    ck_assert_ptr_nonnull(err);
    ck_assert_msg(strstr(err->message, bad[_i].error), "%s", err->message);
}
END_TEST

START_TEST(test_long_names)
{
    g_autofree char *label = g_strnfill(63, 'a');
    g_autofree char *name = g_strdup_printf("%s.%s.%s.%.61s", label, label,
                                            label, label);
    g_autofree char *dotted = g_strconcat(name, ".", NULL);
    g_autofree char *over = g_strconcat(name, "b", NULL);
    g_autofree char *label64 = g_strnfill(64, 'a');
    QdesSeedSpec spec;

    ck_assert_uint_eq(strlen(name), 253);
    ck_assert(qdes_seed_parse(&spec, label, 1, NULL));
    ck_assert(!qdes_seed_parse(&spec, label64, 1, NULL));
    ck_assert(qdes_seed_parse(&spec, name, 1, NULL));
    ck_assert_str_eq(spec.host, name);
    ck_assert(qdes_seed_parse(&spec, dotted, 1, NULL));
    ck_assert_str_eq(spec.host, dotted);
    ck_assert(!qdes_seed_parse(&spec, over, 1, NULL));
}
END_TEST

static QdesSeedAdd add(QdesSeeds *s, const char *text, int64_t now)
{
    QdesSeedSpec spec;

    ck_assert(qdes_seed_parse(&spec, text, 20804, NULL));
    return qdes_seeds_add(s, text, &spec, now);
}

static bool del(QdesSeeds *s, const char *text)
{
    QdesSeedSpec spec;

    ck_assert(qdes_seed_parse(&spec, text, 20804, NULL));
    return qdes_seeds_del(s, &spec);
}

static QdesAddr addr_of(uint32_t n)
{
    QdesAddr addr = qdes_addr_any(true, 20804);

    addr.ip[12] = 10;
    addr.ip[13] = n >> 16;
    addr.ip[14] = n >> 8;
    addr.ip[15] = n;
    return addr;
}

static bool has(QdesSeeds *s, uint32_t n)
{
    QdesAddr addr = addr_of(n);

    return qdes_seeds_has(s, &addr);
}

/* The number of endpoints that a walk meets, each once and each known. */
static uint32_t walk(QdesSeeds *s)
{
    GHashTable *met = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                            NULL);
    char text[QDES_ADDR_STRLEN];
    uint32_t cursor = 0;
    uint32_t n = 0;
    QdesAddr addr;

    while (qdes_seeds_next(s, &cursor, &addr)) {
        ck_assert(qdes_seeds_has(s, &addr));
        ck_assert(g_hash_table_add(met,
                                   g_strdup(qdes_addr_format(&addr, text))));
        n++;
    }
    ck_assert_uint_eq(n, qdes_seeds_n_endpoints(s));
    g_hash_table_destroy(met);
    return n;
}

/* Answers what is due with the endpoints from @first on. */
static unsigned answer(QdesSeeds *s, uint32_t first, uint32_t n, uint32_t ttl,
                       int64_t now)
{
    g_autofree QdesAddr *addrs = g_new0(QdesAddr, n);
    QdesSeedQuestion q;
    uint32_t i;

    for (i = 0; i < n; i++) {
        addrs[i] = addr_of(first + i);
    }
    ck_assert(qdes_seeds_take_due(s, now, &q));
    return qdes_seeds_answer(s, q.id, addrs, n, ttl, now);
}

static unsigned answer_none(QdesSeeds *s, int64_t now)
{
    QdesSeedQuestion q;

    ck_assert(qdes_seeds_take_due(s, now, &q));
    return qdes_seeds_fail(s, q.id, "no such name", now);
}

static QdesSeedInfo info(QdesSeeds *s, uint32_t n)
{
    QdesSeedInfo ret;

    qdes_seeds_info(s, n, &ret);
    return ret;
}

START_TEST(test_addresses)
{
    QdesSeeds *s = qdes_seeds_new(SECRET);
    QdesSeedQuestion q;

    ck_assert_uint_eq(walk(s), 0);
    ck_assert_int_eq(add(s, "10.0.0.1", 5), QDES_SEED_ADDED);
    ck_assert_int_eq(add(s, "10.0.0.1:20804", 5), QDES_SEED_DUPLICATE);
    ck_assert_int_eq(add(s, "10.0.0.1:1", 5), QDES_SEED_ADDED);
    ck_assert_int_eq(add(s, "2001:db8::1", 5), QDES_SEED_ADDED);
    ck_assert_int_eq(add(s, "[2001:DB8:0::1]:20804", 5),
                     QDES_SEED_DUPLICATE);
    ck_assert_uint_eq(walk(s), 3);
    ck_assert(has(s, 1));
    ck_assert(!has(s, 2));
    ck_assert_int_eq(qdes_seeds_deadline(s), INT64_MAX);
    ck_assert(!qdes_seeds_take_due(s, INT64_MAX - 1, &q));
    ck_assert_int_eq(info(s, 0).state, QDES_SEED_RESOLVED);
    ck_assert_str_eq(info(s, 0).spec, "10.0.0.1");
    ck_assert_uint_eq(info(s, 0).n_endpoints, 1);

    ck_assert(!del(s, "10.0.0.2"));
    ck_assert(del(s, "10.0.0.1:20804"));
    ck_assert(!del(s, "10.0.0.1"));
    ck_assert(!has(s, 1));
    ck_assert_uint_eq(walk(s), 2);
    ck_assert_uint_eq(qdes_seeds_size(s), 2);
    qdes_seeds_free(s);
}
END_TEST

START_TEST(test_name)
{
    QdesSeeds *s = qdes_seeds_new(SECRET);
    QdesSeedQuestion q, again;
    QdesAddr addr = addr_of(3);

    ck_assert_int_eq(add(s, "Pool.example:7", 100), QDES_SEED_ADDED);
    ck_assert_int_eq(add(s, "pool.example:7", 100), QDES_SEED_DUPLICATE);
    ck_assert_int_eq(add(s, "pool.example:8", 200), QDES_SEED_ADDED);
    ck_assert_int_eq(info(s, 0).state, QDES_SEED_PENDING);
    ck_assert_int_eq(qdes_seeds_deadline(s), 100);
    ck_assert(!qdes_seeds_take_due(s, 99, &q));
    ck_assert(qdes_seeds_take_due(s, 100, &q));
    ck_assert_str_eq(q.host, "pool.example");
    ck_assert_uint_eq(q.port, 7);
    ck_assert_int_eq(q.kind, QDES_SEED_NAME);
    /* What is asked already is not due. */
    ck_assert_int_eq(qdes_seeds_deadline(s), 200);
    ck_assert(!qdes_seeds_take_due(s, 199, &again));
    qdes_seeds_postpone(s, q.id, 150);
    ck_assert_int_eq(qdes_seeds_deadline(s), 150);

    ck_assert_uint_eq(answer(s, 1, 3, 60, 1000), QDES_SEED_NEWS_ENDPOINTS);
    ck_assert_uint_eq(answer(s, 3, 3, 60, 1000), QDES_SEED_NEWS_ENDPOINTS);
    ck_assert_uint_eq(walk(s), 5);
    ck_assert_int_eq(qdes_seeds_deadline(s), 61000);
    ck_assert_int_eq(qdes_seeds_find_endpoint(s, &addr), 0);
    ck_assert(del(s, "pool.example:7"));
    /* The other one leads there, too. */
    ck_assert(has(s, 3));
    ck_assert(!has(s, 2));
    ck_assert_uint_eq(walk(s), 3);
    ck_assert_int_eq(qdes_seeds_find_endpoint(s, &addr), 0);
    ck_assert_int_eq(info(s, 0).since, 1000);
    ck_assert_uint_eq(info(s, 0).n_endpoints, 3);
    addr = qdes_seeds_endpoint(s, 0, 0);
    ck_assert(qdes_seeds_has(s, &addr));

    /* The same in another order is no news. */
    ck_assert_uint_eq(answer(s, 3, 3, 60, 61000), 0);
    ck_assert_uint_eq(answer(s, 4, 2, 60, 121000), QDES_SEED_NEWS_ENDPOINTS);
    ck_assert(!has(s, 3));
    ck_assert_uint_eq(walk(s), 2);
    /* As many, but others. */
    ck_assert_uint_eq(answer(s, 8, 2, 60, 181000), QDES_SEED_NEWS_ENDPOINTS);
    ck_assert(has(s, 9) && !has(s, 4));
    ck_assert_uint_eq(walk(s), 2);
    qdes_seeds_free(s);
}
END_TEST

static const struct {
    uint32_t ttl;
    int64_t wait;
} ttls[] = {
    { 0, 5000 }, { 1, 5000 }, { 5, 5000 }, { 30, 30000 }, { 300, 300000 },
    { 86400, 300000 }, { UINT32_MAX, 300000 },
};

START_TEST(test_ttl)
{
    QdesSeeds *s = qdes_seeds_new(SECRET);

    add(s, "name", 0);
    answer(s, 1, 1, ttls[_i].ttl, 1000);
    ck_assert_int_eq(qdes_seeds_deadline(s), 1000 + ttls[_i].wait);
    qdes_seeds_free(s);
}
END_TEST

/* A server that answers and fails by turns does not fill the log. */
START_TEST(test_flapping)
{
    QdesSeeds *s = qdes_seeds_new(SECRET);
    unsigned n_failing = 0, n_works = 0;
    int64_t now = 1000;
    unsigned i;

    add(s, "name", 0);
    for (i = 0; i < 1000; i++) {
        now = MAX(now, qdes_seeds_deadline(s));
        n_failing += answer_none(s, now) == QDES_SEED_NEWS_FAILING;
        now = qdes_seeds_deadline(s);
        n_works += !!(answer(s, 1, 2, 5, now) & QDES_SEED_NEWS_WORKS);
    }
    ck_assert_int_gt(now, 9000000);
    ck_assert_uint_ge(n_failing, 10);
    ck_assert_uint_le(n_failing, 20);
    ck_assert_uint_eq(n_works, n_failing);
    qdes_seeds_free(s);
}
END_TEST

START_TEST(test_failure)
{
    static const int64_t waits[] = { 5000, 10000, 20000, 40000, 60000, 60000 };
    QdesSeeds *s = qdes_seeds_new(SECRET);
    int64_t now = 1000;
    int64_t since;
    unsigned i;

    add(s, "name", 0);
    ck_assert_uint_eq(answer_none(s, now), QDES_SEED_NEWS_FAILING);
    ck_assert_int_eq(info(s, 0).state, QDES_SEED_FAILING);
    ck_assert_str_eq(info(s, 0).error, "no such name");
    now = qdes_seeds_deadline(s);
    ck_assert_uint_eq(answer(s, 1, 2, 60, now),
                      QDES_SEED_NEWS_WORKS | QDES_SEED_NEWS_ENDPOINTS);
    ck_assert_ptr_null(info(s, 0).error);

    now += QDES_SEED_SAY_MS;
    since = now;
    for (i = 0; i < G_N_ELEMENTS(waits); i++) {
        ck_assert_uint_eq(answer_none(s, now),
                          i == 0 ? QDES_SEED_NEWS_FAILING : 0);
        ck_assert_int_eq(qdes_seeds_deadline(s), now + waits[i]);
        /* What was known stays. */
        ck_assert_uint_eq(walk(s), 2);
        ck_assert_int_eq(info(s, 0).since, since);
        now = qdes_seeds_deadline(s);
    }
    ck_assert_uint_eq(answer(s, 1, 2, 60, now), QDES_SEED_NEWS_WORKS);
    now += QDES_SEED_SAY_MS;
    ck_assert_uint_eq(answer_none(s, now), QDES_SEED_NEWS_FAILING);
    ck_assert_int_eq(qdes_seeds_deadline(s), now + 5000);
    qdes_seeds_free(s);
}
END_TEST

START_TEST(test_late_answer)
{
    QdesSeeds *s = qdes_seeds_new(SECRET);
    QdesAddr addr = addr_of(1);
    QdesSeedQuestion q;

    add(s, "name", 0);
    ck_assert(qdes_seeds_take_due(s, 0, &q));
    ck_assert(del(s, "name"));
    add(s, "name", 0);
    ck_assert_uint_eq(qdes_seeds_answer(s, q.id, &addr, 1, 60, 1), 0);
    ck_assert_uint_eq(qdes_seeds_fail(s, q.id, "late", 1), 0);
    ck_assert_uint_eq(walk(s), 0);
    ck_assert_int_eq(info(s, 0).state, QDES_SEED_PENDING);
    ck_assert(qdes_seeds_take_due(s, 0, &q));
    ck_assert_uint_eq(qdes_seeds_answer(s, q.id, &addr, 1, 60, 1),
                      QDES_SEED_NEWS_ENDPOINTS);
    /* An answer is taken once. */
    ck_assert_uint_eq(qdes_seeds_fail(s, q.id, "late", 1), 0);
    ck_assert_int_eq(info(s, 0).state, QDES_SEED_RESOLVED);
    qdes_seeds_free(s);
}
END_TEST

START_TEST(test_limits)
{
    QdesSeeds *s = qdes_seeds_new(SECRET);
    g_autofree char *text = NULL;
    QdesAddr addrs[QDES_SEED_ENDPOINTS_MAX];
    QdesSeedQuestion q;
    uint32_t i;

    for (i = 0; i < QDES_SEEDS_MAX; i++) {
        g_free(text);
        text = g_strdup_printf("n%u", i);
        ck_assert_int_eq(add(s, text, i), QDES_SEED_ADDED);
    }
    ck_assert_int_eq(add(s, "more", 0), QDES_SEED_REFUSED);
    ck_assert_int_eq(add(s, "n3", 0), QDES_SEED_DUPLICATE);

    /* One name has its share, and says once that it has more. */
    ck_assert_uint_eq(answer(s, 0, QDES_SEED_ENDPOINTS_MAX + 6, 300, 10000),
                      QDES_SEED_NEWS_ENDPOINTS | QDES_SEED_NEWS_LEFT_OUT);
    ck_assert_uint_eq(info(s, 0).n_endpoints, QDES_SEED_ENDPOINTS_MAX);
    ck_assert_uint_eq(info(s, 0).left_out, 6);
    for (i = 1; i < 4; i++) {
        ck_assert_uint_eq(answer(s, 10000 * i, QDES_SEED_ENDPOINTS_MAX, 300,
                                 10000),
                          QDES_SEED_NEWS_ENDPOINTS);
    }
    ck_assert_uint_eq(walk(s), QDES_SEEDS_ENDPOINTS_MAX);
    ck_assert_uint_eq(answer(s, 60000, 2, 300, 10000),
                      QDES_SEED_NEWS_LEFT_OUT);
    ck_assert_uint_eq(info(s, 4).n_endpoints, 0);
    /* But what is there already may be shared. */
    ck_assert_uint_eq(answer(s, 10000, 2, 300, 10000),
                      QDES_SEED_NEWS_ENDPOINTS);
    ck_assert_uint_eq(info(s, 5).n_endpoints, 2);

    /* The first moves, in whole: what goes makes room. */
    do {
        ck_assert(qdes_seeds_take_due(s, 310000, &q));
    } while (strcmp(q.host, "n0") != 0);
    for (i = 0; i < G_N_ELEMENTS(addrs); i++) {
        addrs[i] = addr_of(70000 + i);
    }
    ck_assert_uint_eq(qdes_seeds_answer(s, q.id, addrs, G_N_ELEMENTS(addrs),
                                        300, 310000),
                      QDES_SEED_NEWS_ENDPOINTS);
    ck_assert(has(s, 70000) && has(s, 69999 + QDES_SEED_ENDPOINTS_MAX));
    ck_assert(!has(s, 0));
    ck_assert_uint_eq(walk(s), QDES_SEEDS_ENDPOINTS_MAX);
    qdes_seeds_free(s);
}
END_TEST

START_TEST(test_repeated_in_answer)
{
    QdesSeeds *s = qdes_seeds_new(SECRET);
    QdesAddr addrs[] = { addr_of(1), addr_of(2), addr_of(1), addr_of(2) };
    QdesSeedQuestion q;
    int i;

    add(s, "name", 0);
    for (i = 0; i < 3; i++) {
        ck_assert(qdes_seeds_take_due(s, i * 5000, &q));
        ck_assert_uint_eq(qdes_seeds_answer(s, q.id, addrs, 4, 5, i * 5000),
                          i == 0 ? QDES_SEED_NEWS_ENDPOINTS : 0);
        ck_assert_uint_eq(walk(s), 2);
        ck_assert_uint_eq(info(s, 0).n_endpoints, 2);
        ck_assert_uint_eq(info(s, 0).left_out, 0);
    }
    ck_assert(del(s, "name"));
    ck_assert_uint_eq(walk(s), 0);
    qdes_seeds_free(s);
}
END_TEST

/* Anything, against a model that keeps sets of numbers. */
START_TEST(test_random)
{
    GRand *rand = unit_rand("seeds");
    enum { N = 8, RANGE = 40 };
    bool listed[N] = { false };
    bool leads[N][RANGE] = { { false } };
    QdesSeeds *s = qdes_seeds_new(g_rand_int(rand));
    QdesAddr addrs[RANGE * 2];
    QdesSeedQuestion q;
    char name[8];
    int64_t now = 0;
    int step, i, k, n;
    uint32_t expected;
    bool any;

    for (step = 0; step < 3000; step++) {
        i = g_rand_int_range(rand, 0, N);
        g_snprintf(name, sizeof(name), "n%d", i);
        switch (g_rand_int_range(rand, 0, 6)) {
        case 0:
            ck_assert_int_eq(add(s, name, now), listed[i] ?
                             QDES_SEED_DUPLICATE : QDES_SEED_ADDED);
            listed[i] = true;
            break;
        case 1:
            ck_assert(del(s, name) == listed[i]);
            listed[i] = false;
            memset(leads[i], 0, sizeof(leads[i]));
            break;
        default:
            now += 1000;
            if (!qdes_seeds_take_due(s, now, &q)) {
                break;
            }
            if (g_rand_int_range(rand, 0, 4) == 0) {
                qdes_seeds_fail(s, q.id, "x", now);
                break;
            }
            i = q.host[1] - '0';
            memset(leads[i], 0, sizeof(leads[i]));
            n = g_rand_int_range(rand, 0, RANGE * 2);
            for (k = 0; k < n; k++) {
                int number = g_rand_int_range(rand, 0, RANGE);

                addrs[k] = addr_of(number);
                leads[i][number] = true;
            }
            qdes_seeds_answer(s, q.id, addrs, n, 5, now);
        }
        for (k = 0, expected = 0; k < RANGE; k++) {
            for (i = 0, any = false; i < N; i++) {
                any |= leads[i][k];
            }
            ck_assert(has(s, k) == any);
            expected += any;
        }
        ck_assert_uint_eq(walk(s), expected);
    }
    qdes_seeds_free(s);
    g_rand_free(rand);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("seeds");
    TCase *tc = tcase_create("seeds");

    tcase_add_loop_test(tc, test_good, 0, G_N_ELEMENTS(good));
    tcase_add_loop_test(tc, test_bad, 0, G_N_ELEMENTS(bad));
    tcase_add_test(tc, test_long_names);
    tcase_add_test(tc, test_addresses);
    tcase_add_test(tc, test_name);
    tcase_add_loop_test(tc, test_ttl, 0, G_N_ELEMENTS(ttls));
    tcase_add_test(tc, test_failure);
    tcase_add_test(tc, test_flapping);
    tcase_add_test(tc, test_late_answer);
    tcase_add_test(tc, test_limits);
    tcase_add_test(tc, test_repeated_in_answer);
    tcase_add_test(tc, test_random);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
