/* SPDX-License-Identifier: GPL-2.0-or-later */
/* resolve, seeding: a lookup that does as it is told, alone and in a port. */

#include "fabric-port.h"

#include <signal.h>

#include "qdes/resolve.h"

/* What the lookup is to answer, and what it was asked. */
typedef struct Oracle {
    GMutex lock;
    GCond changed;
    bool hang;                  /* until this is cleared */
    unsigned n;                 /* addresses of each name, from 10.0.0.1 on */
    uint32_t ttl;
    const char *error;
    unsigned asked;
    unsigned done;
    bool v4, v6;                /* as asked last */
    bool signals;               /* some were not blocked */
    char host[QDES_SEED_HOST_MAX + 1];
} Oracle;

static QdesAddr addr_of(uint32_t n, uint16_t port)
{
    QdesAddr addr = qdes_addr_any(true, port);

    addr.ip[12] = 10;
    addr.ip[13] = n >> 16;
    addr.ip[14] = n >> 8;
    addr.ip[15] = n;
    return addr;
}

static void look_up(const QdesSeedQuestion *question, bool v4, bool v6,
                    QdesAnswer *answer, void *opaque)
{
    Oracle *o = opaque;
    sigset_t blocked;
    QdesAddr addr;
    unsigned i;

    g_mutex_lock(&o->lock);
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    o->signals |= !sigismember(&blocked, SIGTERM) ||
                  !sigismember(&blocked, SIGALRM) ||
                  !sigismember(&blocked, SIGPIPE);
    o->asked++;
    o->v4 = v4;
    o->v6 = v6;
    g_strlcpy(o->host, question->host, sizeof(o->host));
    g_cond_broadcast(&o->changed);
    while (o->hang) {
        g_cond_wait(&o->changed, &o->lock);
    }
    answer->error = g_strdup(o->error);
    for (i = 0; i < o->n; i++) {
        addr = addr_of(i + 1, question->port);
        qdes_answer_add(answer, &addr);
    }
    if (o->ttl) {
        answer->ttl = o->ttl;
    }
    o->done++;
    g_cond_broadcast(&o->changed);
    g_mutex_unlock(&o->lock);
}

static Oracle oracle;

static void set_up(void)
{
    choose_group();
    g_mutex_init(&oracle.lock);
    g_cond_init(&oracle.changed);
}

static void await(const unsigned *value, unsigned least)
{
    int64_t end = g_get_monotonic_time() + WAIT_S * G_USEC_PER_SEC;

    g_mutex_lock(&oracle.lock);
    while (*value < least) {
        ck_assert(g_cond_wait_until(&oracle.changed, &oracle.lock, end));
    }
    g_mutex_unlock(&oracle.lock);
}

static void let_go(void)
{
    g_mutex_lock(&oracle.lock);
    oracle.hang = false;
    g_cond_broadcast(&oracle.changed);
    g_mutex_unlock(&oracle.lock);
}

static QdesResolver *new_resolver(void)
{
    QdesResolver *r = qdes_resolver_new(true, false, look_up, &oracle, NULL);

    ck_assert_ptr_nonnull(r);
    return r;
}

static void ask(QdesResolver *r, uint64_t id)
{
    QdesSeedQuestion q = { .id = id, .kind = QDES_SEED_NAME, .port = 7,
                           .host = "name" };

    ck_assert(qdes_resolver_has_room(r));
    qdes_resolver_ask(r, &q);
}

static QdesAnswer take(QdesResolver *r)
{
    struct pollfd pfd = { .fd = qdes_resolver_fd(r), .events = POLLIN };
    QdesAnswer answer;

    while (!qdes_resolver_take(r, &answer)) {
        ck_assert_int_eq(poll(&pfd, 1, WAIT_S * 1000), 1);
    }
    return answer;
}

static bool is_readable(QdesResolver *r)
{
    struct pollfd pfd = { .fd = qdes_resolver_fd(r), .events = POLLIN };

    return poll(&pfd, 1, 0) == 1;
}

START_TEST(test_answers)
{
    QdesResolver *r = new_resolver();
    QdesAddr first = addr_of(1, 7);
    QdesAnswer answer;

    ck_assert(!qdes_resolver_take(r, &answer));
    ck_assert(!is_readable(r));
    oracle.n = 3;
    ask(r, 42);
    answer = take(r);
    ck_assert_uint_eq(answer.id, 42);
    ck_assert_ptr_null(answer.error);
    ck_assert_uint_eq(answer.ttl, QDES_RESOLVER_TTL);
    ck_assert_uint_eq(answer.endpoints->len, 3);
    ck_assert(qdes_addr_equal(&g_array_index(answer.endpoints, QdesAddr, 0),
                              &first));
    qdes_answer_clear(&answer);
    ck_assert(!is_readable(r));
    ck_assert(oracle.v4 && !oracle.v6);
    ck_assert(!oracle.signals);

    oracle.ttl = 99;
    oracle.error = "bad weather";
    ask(r, 43);
    answer = take(r);
    ck_assert_uint_eq(answer.id, 43);
    ck_assert_str_eq(answer.error, "bad weather");
    qdes_answer_clear(&answer);

    /* Nothing is no answer. */
    oracle.n = 0;
    oracle.error = NULL;
    ask(r, 44);
    answer = take(r);
    ck_assert_uint_eq(answer.ttl, 99);
    ck_assert(strstr(answer.error, "no address"));
    qdes_answer_clear(&answer);

    /* As many as there may be of a name are taken, and some more. */
    oracle.n = 100000;
    ask(r, 45);
    answer = take(r);
    ck_assert_uint_eq(answer.endpoints->len, QDES_RESOLVER_ANSWER_MAX);
    qdes_answer_clear(&answer);
    qdes_resolver_free(r);
}
END_TEST

START_TEST(test_pending)
{
    QdesResolver *r = new_resolver();
    QdesAnswer answer;
    unsigned i;

    oracle.n = 1;
    oracle.hang = true;
    for (i = 0; i < QDES_RESOLVER_PENDING; i++) {
        ask(r, i);
    }
    ck_assert(!qdes_resolver_has_room(r));
    await(&oracle.asked, 1);
    ck_assert(!is_readable(r));
    let_go();
    await(&oracle.done, QDES_RESOLVER_PENDING);
    /* What was not taken counts. */
    ck_assert(!qdes_resolver_has_room(r));
    for (i = 0; i < QDES_RESOLVER_PENDING; i++) {
        answer = take(r);
        ck_assert_uint_eq(answer.id, i);
        qdes_answer_clear(&answer);
        ck_assert(qdes_resolver_has_room(r));
    }
    ck_assert(!is_readable(r));
    qdes_resolver_free(r);
}
END_TEST

/* To free is not to wait: neither for the lookup that hangs nor the next. */
START_TEST(test_free_while_hanging)
{
    QdesResolver *r = new_resolver();

    oracle.n = 2;
    oracle.hang = true;
    ask(r, 1);
    ask(r, 2);
    await(&oracle.asked, 1);
    qdes_resolver_free(r);
    ck_assert_uint_eq(oracle.done, 0);
    let_go();
    await(&oracle.done, 1);
    ck_assert_uint_eq(oracle.asked, 1);
}
END_TEST

START_TEST(test_free_with_answers)
{
    QdesResolver *r = new_resolver();

    qdes_resolver_free(r);
    r = new_resolver();
    oracle.n = 2;
    ask(r, 1);
    ask(r, 2);
    await(&oracle.done, 2);
    qdes_resolver_free(r);
    qdes_resolver_free(NULL);
}
END_TEST

/* What no peer can have is left out. */
START_TEST(test_hosts_only)
{
    static const char *const texts[] = {
        "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255",
        "fe80::1", "192.0.2.1", "2001:db8::1", "127.0.0.1",
    };
    QdesAnswer answer = {
        .endpoints = g_array_new(false, false, sizeof(QdesAddr)),
    };
    QdesAddr addr;
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(texts); i++) {
        ck_assert(qdes_addr_parse(&addr, texts[i], 7, NULL));
        qdes_answer_add(&answer, &addr);
    }
    ck_assert_uint_eq(answer.endpoints->len, 3);
    qdes_answer_clear(&answer);
}
END_TEST

/* Every host knows one name without asking the network. */
START_TEST(test_system)
{
    static const struct {
        bool v4, v6;
    } families[] = { { true, false }, { true, true } };
    QdesSeedQuestion q = { .id = 1, .kind = QDES_SEED_NAME, .port = 9,
                           .host = "localhost" };
    QdesResolver *r = qdes_resolver_new(families[_i].v4, families[_i].v6,
                                        NULL, NULL, NULL);
    bool v4 = false;
    QdesAnswer answer;
    QdesAddr addr;
    guint i;

    qdes_resolver_ask(r, &q);
    answer = take(r);
    ck_assert_msg(!answer.error, "%s", answer.error);
    ck_assert_uint_ge(answer.endpoints->len, 1);
    for (i = 0; i < answer.endpoints->len; i++) {
        addr = g_array_index(answer.endpoints, QdesAddr, i);
        ck_assert(qdes_addr_is_loopback(&addr));
        ck_assert_uint_eq(addr.port, 9);
        ck_assert(qdes_addr_is_v4(&addr) || families[_i].v6);
        v4 |= qdes_addr_is_v4(&addr);
    }
    ck_assert(v4);
    qdes_answer_clear(&answer);
    qdes_resolver_free(r);
}
END_TEST

/* In a port */

static QdesFabric *open_fabric(Port *p, const char *const *peers, size_t n,
                               const char *localaddr, GError **errp)
{
    QdesOptions options = { .mcast = "off", .localaddr = localaddr,
                            .peers = peers, .n_peers = n };
    QdesConfig config;

    memset(p, 0, sizeof(*p));
    p->frames = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    p->log = g_string_new(NULL);
    p->seed = 1;
    if (!qdes_config_init(&config, &options, errp)) {
        return NULL;
    }
    config.lookup = look_up;
    config.lookup_opaque = &oracle;
    p->fabric = qdes_fabric_new(&config, &host, p, now, errp);
    return p->fabric;
}

static void close_fabric(Port *p)
{
    int i;

    qdes_fabric_free(p->fabric);
    for (i = 0; i < p->n_fds; i++) {
        ck_assert_int_eq(p->fds[i].events, 0);
    }
    g_ptr_array_free(p->frames, true);
    g_string_free(p->log, true);
}

/* "SPEC STATE N", and the next one, if any. */
static const char *seeds_of(Port *p)
{
    static char text[256];
    QdesStatus *status = qdes_fabric_status(p->fabric, now);
    size_t used = 0;
    size_t i;

    text[0] = '\0';
    for (i = 0; i < status->n_seeds; i++) {
        used += g_snprintf(text + used, sizeof(text) - used, "%s%s %s %zu",
                           i ? ", " : "", status->seeds[i].spec,
                           status->seeds[i].state,
                           status->seeds[i].n_addresses);
    }
    qdes_status_free(status);
    return text;
}

static void wait_for_seeds(Port *p, const char *expected)
{
    WAIT(&p, 1, strcmp(seeds_of(p), expected) == 0);
}

static void move_clock(Port *p, int64_t ms)
{
    now += ms;
    qdes_fabric_tick(p->fabric, now);
}

START_TEST(test_port_looks_up)
{
    const char *peers[] = { "10.9.9.9", "a", "10.9.9.9:20804" };
    Port p;

    ck_assert_ptr_nonnull(open_fabric(&p, peers, 3, "127.0.0.1", NULL));
    ck_assert_str_eq(seeds_of(&p), "10.9.9.9 resolved 1, a pending 0");
    ck_assert_msg(strstr(p.log->str, "peer 10.9.9.9:20804: listed already"),
                  "%s", p.log->str);
    /* Not before the host's loop runs. */
    ck_assert_uint_eq(oracle.asked, 0);
    ck_assert_int_le(p.timer, now);
    oracle.n = 5;
    oracle.ttl = 60;
    move_clock(&p, 0);
    wait_for_seeds(&p, "10.9.9.9 resolved 1, a resolved 5");
    ck_assert(oracle.v4 && !oracle.v6);

    move_clock(&p, 59999);
    ck_assert_uint_eq(oracle.asked, 1);
    oracle.n = 2;
    move_clock(&p, 1);
    wait_for_seeds(&p, "10.9.9.9 resolved 1, a resolved 2");

    /* What fails keeps what it had, and is said once. */
    oracle.error = "server is on fire";
    move_clock(&p, 60000);
    wait_for_seeds(&p, "10.9.9.9 resolved 1, a failing 2");
    ck_assert_msg(strstr(p.log->str, "warning: peer a: server is on fire"),
                  "%s", p.log->str);
    g_string_truncate(p.log, 0);
    move_clock(&p, 5000);
    await(&oracle.done, 4);
    oracle.error = NULL;
    oracle.n = 3;
    WAIT((Port *[]) { &p }, 1, (move_clock(&p, 1000), oracle.asked == 5));
    wait_for_seeds(&p, "10.9.9.9 resolved 1, a resolved 3");
    ck_assert_ptr_null(strstr(p.log->str, "warning"));
    ck_assert_msg(strstr(p.log->str, "peer a: found now, at 3"), "%s",
                  p.log->str);
    close_fabric(&p);
}
END_TEST

START_TEST(test_port_with_many_names)
{
    enum { N = 5 * QDES_RESOLVER_PENDING };
    const char *peers[N];
    QdesStatus *status;
    Port p, *ports[] = { &p };
    int i;

    for (i = 0; i < N; i++) {
        peers[i] = g_strdup_printf("n%d", i);
    }
    oracle.n = 1;
    ck_assert_ptr_nonnull(open_fabric(&p, peers, N, "127.0.0.1", NULL));
    move_clock(&p, 0);
    WAIT(ports, 1, oracle.done == N);
    status = qdes_fabric_status(p.fabric, now);
    ck_assert_uint_eq(status->n_seeds, N);
    qdes_status_free(status);
    close_fabric(&p);
    for (i = 0; i < N; i++) {
        g_free((char *)peers[i]);
    }
}
END_TEST

START_TEST(test_port_gone_while_hanging)
{
    const char *peers[] = { "a" };
    Port p;

    oracle.hang = true;
    ck_assert_ptr_nonnull(open_fabric(&p, peers, 1, "127.0.0.1", NULL));
    move_clock(&p, 0);
    await(&oracle.asked, 1);
    close_fabric(&p);
    ck_assert_uint_eq(oracle.done, 0);
    let_go();
    await(&oracle.done, 1);
}
END_TEST

START_TEST(test_add_and_del)
{
    GError *err = NULL;
    Port p;

    oracle.n = 2;
    ck_assert_ptr_nonnull(open_fabric(&p, NULL, 0, "127.0.0.1", NULL));
    ck_assert(qdes_fabric_add_peer(p.fabric, "10.9.9.9", now, NULL));
    ck_assert(qdes_fabric_add_peer(p.fabric, "a:7", now, NULL));
    ck_assert(qdes_fabric_add_peer(p.fabric, "A:7", now, NULL));
    ck_assert_int_le(p.timer, now);
    move_clock(&p, 0);
    wait_for_seeds(&p, "10.9.9.9 resolved 1, a:7 resolved 2");

    ck_assert(!qdes_fabric_add_peer(p.fabric, "b:0", now, &err));
    ck_assert_msg(g_str_has_prefix(err->message, "peer b:0: "), "%s",
                  err->message);
    g_clear_error(&err);
    ck_assert(!qdes_fabric_add_peer(p.fabric, "2001:db8::1", now, &err));
    ck_assert_msg(strstr(err->message, "localaddr=[::]"), "%s", err->message);
    g_clear_error(&err);
    ck_assert(!qdes_fabric_add_peer(p.fabric, "127.255.255.255", now, &err));
    ck_assert_msg(strstr(err->message, "broadcast"), "%s", err->message);
    g_clear_error(&err);
    ck_assert(!qdes_fabric_del_peer(p.fabric, "b", now, &err));
    ck_assert_msg(strstr(err->message, "not listed"), "%s", err->message);
    g_clear_error(&err);
    ck_assert(!qdes_fabric_del_peer(p.fabric, "10.0.0.2:7", now, &err));
    ck_assert_msg(strstr(err->message, "an address of a:7"), "%s",
                  err->message);
    g_clear_error(&err);

    ck_assert(qdes_fabric_del_peer(p.fabric, "10.9.9.9:20804", now, NULL));
    ck_assert_str_eq(seeds_of(&p), "a:7 resolved 2");
    ck_assert(qdes_fabric_del_peer(p.fabric, "a:7", now, NULL));
    ck_assert_str_eq(seeds_of(&p), "");
    close_fabric(&p);
}
END_TEST

/* A port that lists itself, or a network's broadcast address. */
START_TEST(test_self_and_broadcast)
{
    const char *peers[] = { "127.0.0.1:20899", "127.255.255.255" };
    GError *err = NULL;
    Port p;

    ck_assert_ptr_null(open_fabric(&p, peers + 1, 1, "127.0.0.1", &err));
    ck_assert_msg(g_str_has_prefix(err->message, "peers.0=127.255.255.255: ")
                  && strstr(err->message, "broadcast"), "%s", err->message);
    g_clear_error(&err);
    close_fabric(&p);
    if (!open_fabric(&p, peers, 1, "127.0.0.1:20899", &err)) {
        /* Somebody has this port. */
        ck_assert_msg(strstr(err->message, "in use"), "%s", err->message);
        g_clear_error(&err);
    } else {
        ck_assert_msg(strstr(p.log->str, "127.0.0.1:20899: this port itself"),
                      "%s", p.log->str);
    }
    close_fabric(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resolve");
    TCase *tc = tcase_create("resolve");

    tcase_add_checked_fixture(tc, set_up, NULL);
    tcase_add_test(tc, test_answers);
    tcase_add_test(tc, test_pending);
    tcase_add_test(tc, test_free_while_hanging);
    tcase_add_test(tc, test_free_with_answers);
    tcase_add_test(tc, test_hosts_only);
    tcase_add_loop_test(tc, test_system, 0, 2);
    tcase_add_test(tc, test_port_looks_up);
    tcase_add_test(tc, test_port_with_many_names);
    tcase_add_test(tc, test_port_gone_while_hanging);
    tcase_add_test(tc, test_add_and_del);
    tcase_add_test(tc, test_self_and_broadcast);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
