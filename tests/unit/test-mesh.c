/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mesh: how long it takes until all ports know all, and what that costs
 *
 *   test-mesh                  the tests
 *   test-mesh rates N...       packet and byte rates of fabrics of N ports, as
 *                              a table
 *   test-mesh start N...       only how long it takes until all know all
 *   test-mesh sample N...      the same as rates, of REALS ports that join
 *                              N - REALS others, which are no more than a
 *                              model of what the protocol says: for fabrics
 *                              that are too large to be simulated whole
 */

#include "mesh-sim.h"

#include <inttypes.h>

#include "qdes/control.h"
#include "qdes/gossip.h"

#define REALS 32                /* ports of a sample; one more is late */
#define ASKS (REALS + 1)        /* a timer that is about no real */

static void reset_counts(void)
{
    guint i;

    for (i = 0; i < sim.nodes->len; i++) {
        node(i)->sent = node(i)->sent_bytes = 0;
        node(i)->most = 0;
    }
}

typedef struct Rates {
    double join_s;              /* until all know all */
    unsigned join_most;         /* datagrams in a second, of any port */
    double packets, bytes;      /* a second, of a port, when settled */
    unsigned most;
    double late_s;              /* until a newcomer knows all, and they it */
    unsigned late_most;
} Rates;

static unsigned most_sent(void)
{
    unsigned most = 0;
    guint i;

    for (i = 0; i < sim.nodes->len; i++) {
        if (node(i)->fabric) {
            most = MAX(most, node(i)->most);
        }
    }
    return most;
}

static Rates measure_start(unsigned n)
{
    int64_t interval = interval_us(n);
    Rates r = { 0 };
    int64_t took;

    start_all(n);
    took = wait_known(n - 1, 2 * interval);
    ck_assert_msg(took >= 0, "%u ports do not know each other after %"
                  PRIi64 " s", n, 2 * interval / SECOND);
    r.join_s = took / 1e6 + 1;
    r.join_most = most_sent();
    return r;
}

static Rates measure(unsigned n)
{
    Rates r = measure_start(n);
    int64_t interval = interval_us(n);
    uint64_t packets = 0, bytes = 0;
    int64_t took;
    guint i;

    sim_run(sim.now + 2 * interval);
    reset_counts();
    sim_run(sim.now + 2 * interval);
    ck_assert(all_know(n - 1));
    for (i = 0; i < n; i++) {
        packets += node(i)->sent;
        bytes += node(i)->sent_bytes;
    }
    r.packets = packets * 1e6 / n / (2 * interval);
    r.bytes = bytes * 1e6 / n / (2 * interval);
    r.most = most_sent();

    reset_counts();
    start_node(add_node(), node(0));
    took = wait_known(n, 2 * interval);
    ck_assert_msg(took >= 0, "number %u is not known after %" PRIi64 " s",
                  n + 1, 2 * interval / SECOND);
    r.late_s = took / 1e6;
    r.late_most = most_sent();
    return r;
}

static const unsigned sizes[] = { 2, 10, 100 };

/* Every port finds all others, leaves cleanly, and is missed in time. */
START_TEST(test_finding)
{
    unsigned n = sizes[_i];
    Rates r;
    guint i;

    sim_begin("test_finding");
    r = measure(n);
    /*
     * No storm: in a second at most 500 replies, 100 lists, 50 ECHOs to
     * candidates with as many HELLOs, 50 to seeds, turns of 20; settled, a
     * HELLO, an ECHO and a reply for each peer and interval.
     */
    ck_assert_uint_le(r.join_most, 850);
    ck_assert_uint_le(r.late_most, 850);
    ck_assert_uint_le(r.most, 20 + 2 * n);
    ck_assert(r.packets <= 3.2 * n / (interval_us(n) / 1e6) + 1);
    for (i = 0; i <= n; i++) {
        ck_assert_uint_eq(copies(node(i)), n);
    }

    stop_node(node(n));
    sim_run(sim.now + SECOND);
    ck_assert(all_know(n - 1));
    kill_node(node(1));
    sim_run(sim.now + 2 * interval_us(n));
    ck_assert(!all_know(n - 2));
    sim_run(sim.now + 2 * interval_us(n));
    ck_assert(all_know(n - 2));
    sim_end();
}
END_TEST

/*
 * A sample of a large fabric: REALS ports of the real code among extras.
 *
 * An extra does what the protocol asks of a port that is settled, and no more:
 * it knows all extras, answers ECHOs, proves reals that said HELLO to it by an
 * ECHO of its own, and then says HELLO; sends each HELLO and ECHO once in T;
 * asks one peer in T; answers questions.  What goes from one extra to another
 * is not simulated.  No extra is told of a real by others: so each has to be
 * found by the real itself, which is the longest that it can take.
 */
typedef struct Extra {
    uint64_t instance;
    struct {
        bool said_hello, proven;
        int64_t tried, answered; /* us, 0: not yet */
    } of[REALS + 1];
} Extra;

static GPtrArray *reals;
static QdesDigest extras;       /* of all of them */

static int64_t extra_interval(void)
{
    return interval_us(sim.nodes->len - 1);
}

static Node *real(unsigned i)
{
    return reals->pdata[i];
}

static QdesEntry entry_of(const Node *n)
{
    QdesEntry entry = { .addr = n->addr };

    entry.instance = n->extra ? n->extra->instance : n->fabric->instance;
    return entry;
}

static void toggle(QdesDigest *digest, const Node *n)
{
    QdesEntry entry = entry_of(n);

    digest->bucket[qdes_gossip_bucket(entry.instance)] ^=
        qdes_gossip_hash(&entry);
}

static bool extra_knows(const Node *n, unsigned i)
{
    return n->extra->of[i].said_hello && n->extra->of[i].proven;
}

/* Whom an extra would tell real number @i of. */
static QdesDigest extra_digest(const Node *n, unsigned i)
{
    QdesDigest digest = extras;
    guint j;

    toggle(&digest, n);
    for (j = 0; j < reals->len; j++) {
        if (j != i && extra_knows(n, j)) {
            toggle(&digest, real(j));
        }
    }
    return digest;
}

static void extra_hello(Node *n, unsigned i)
{
    QdesWireHello hello = {
        .instance = n->extra->instance,
        .capabilities = QDES_WIRE_CAP_CSUM_PARTIAL | QDES_WIRE_CAP_ECHO |
                        QDES_WIRE_CAP_SUPERFRAME,
        .mtu = QDES_FRAME_MAX,
        .hold_time = QDES_HOLDS * extra_interval() / SECOND,
        .group_heard = QDES_GROUP_NOT_HEARD,
        .name = "node",
    };
    uint8_t data[QDES_WIRE_HELLO_SIZE];

    transmit(n, &real(i)->addr, data,
             qdes_wire_encode_hello(data, QDES_WIRE_HELLO, 0, &hello));
}

static void extra_echo(Node *n, unsigned i, QdesWireType type, uint64_t nonce)
{
    QdesEcho echo = { .nonce = nonce, .observed = real(i)->addr };
    uint8_t data[QDES_ECHO_SIZE];

    transmit(n, &real(i)->addr, data,
             qdes_control_encode_echo(data, type, 0, &echo));
}

static void extra_list(Node *n, unsigned i, const QdesPeersMessage *asked)
{
    QdesDigest ours = extra_digest(n, i);
    uint64_t differ = qdes_gossip_differ(&ours, &asked->digest);
    QdesEntry entries[QDES_ENTRIES_MAX];
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    guint begin = g_rand_int_range(sim.rng, 0, sim.nodes->len);
    unsigned filled = 0, sent = 0;
    const Node *other;
    guint j;

    for (j = 0; differ && j < sim.nodes->len && sent < 6; j++) {
        other = node((begin + j) % sim.nodes->len);
        if (other != n && other != real(i) &&
            (other->extra || extra_knows(n, other->real))) {
            entries[filled] = entry_of(other);
            filled +=
                differ >> qdes_gossip_bucket(entries[filled].instance) & 1 &&
                (!asked->known.size ||
                 qdes_gossip_is_news(&asked->known, &entries[filled]));
        }
        if (filled == QDES_ENTRIES_MAX ||
            (filled && j == sim.nodes->len - 1)) {
            transmit(n, &real(i)->addr, data,
                     qdes_control_encode_list(data, 0, entries, filled));
            filled = 0;
            sent++;
        }
    }
}

static void take_extra(Node *n, const Event *e)
{
    Node *from = g_hash_table_lookup(sim.by_addr, &e->from);
    unsigned i = from->real;
    QdesPeersMessage message;
    QdesWireHeader header;
    QdesEcho echo;

    ck_assert_int_eq(qdes_wire_decode(&header, e->data + QDES_RX_HEADROOM,
                                      e->size), QDES_WIRE_OK);
    if (header.type == QDES_WIRE_HELLO) {
        n->extra->of[i].said_hello = true;
    } else if (header.type == QDES_WIRE_ECHO) {
        qdes_control_decode_echo(&echo, &header);
        extra_echo(n, i, QDES_WIRE_ECHO_REPLY, echo.nonce);
    } else if (header.type == QDES_WIRE_ECHO_REPLY) {
        if (!n->extra->of[i].proven) {
            n->extra->of[i].proven = true;
            extra_hello(n, i);
            sim_push((Event) {
                .node = n->index, .about = i, .when = sim.now +
                g_rand_double(sim.rng) * extra_interval() });
        }
    } else if (header.type == QDES_WIRE_PEERS) {
        ck_assert_int_eq(qdes_control_decode_peers(&message, &header),
                         QDES_WIRE_OK);
        if (message.is_request && n->extra->of[i].proven &&
            (!n->extra->of[i].answered ||
             sim.now - n->extra->of[i].answered >= 2 * SECOND)) {
            n->extra->of[i].answered = sim.now;
            extra_list(n, i, &message);
        }
    }
    /* It has paid for an ECHO by then. */
    if (n->extra->of[i].said_hello && !n->extra->of[i].proven &&
        (!n->extra->of[i].tried ||
         sim.now - n->extra->of[i].tried >= SECOND)) {
        n->extra->of[i].tried = sim.now;
        extra_echo(n, i, QDES_WIRE_ECHO, 1);
    }
}

static void extra_ask(Node *n)
{
    Node *drawn = node(g_rand_int_range(sim.rng, 0, sim.nodes->len));
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    QdesKnown nothing = { .size = 0 };
    QdesDigest digest;

    if (drawn->fabric && extra_knows(n, drawn->real)) {
        digest = extra_digest(n, drawn->real);
        transmit(n, &drawn->addr, data,
                 qdes_control_encode_request(data, 0, &digest, &nothing));
    }
}

static void tend_extra(Node *n, unsigned about)
{
    if (about == ASKS) {
        extra_ask(n);
    } else {
        extra_hello(n, about);
        extra_echo(n, about, QDES_WIRE_ECHO, 1);
    }
    sim_push((Event) { .node = n->index, .about = about,
                   .when = sim.now + extra_interval() });
}

static void start_real(void)
{
    Node *n = add_node();

    n->real = reals->len;
    g_ptr_array_add(reals, n);
    start_node(n, node(0));
}

/* Do all reals know all, and all extras all reals? */
static bool sample_knows(void)
{
    guint i, j;

    if (!all_know(sim.nodes->len - 1)) {
        return false;
    }
    for (i = 0; i < sim.nodes->len; i++) {
        for (j = 0; node(i)->extra && j < reals->len; j++) {
            if (!extra_knows(node(i), j)) {
                return false;
            }
        }
    }
    return true;
}

static double wait_sample(void)
{
    int64_t from = sim.now;

    while (!sample_knows()) {
        ck_assert_msg(sim.now - from <= 2 * extra_interval(),
                      "they do not know each other after two intervals");
        sim_run(sim.now + SECOND / 10);
    }
    return (sim.now - from) / 1e6;
}

static Rates measure_sample(unsigned n)
{
    int64_t interval = interval_us(n);
    Rates r = { 0 };
    Node *extra;
    unsigned i;

    ck_assert_uint_gt(n, REALS);
    reals = g_ptr_array_new();
    memset(&extras, 0, sizeof(extras));
    sim.take = take_extra;
    sim.tend = tend_extra;
    for (i = 0; i < n - REALS; i++) {
        extra = add_node();
        extra->extra = g_new0(Extra, 1);
        extra->extra->instance = sim_random(NULL);
        toggle(&extras, extra);
        sim_push((Event) { .node = i, .about = ASKS, .when = sim.now +
                       g_rand_double(sim.rng) * interval });
    }
    for (i = 0; i < REALS; i++) {
        start_real();
        sim_run(sim.now + SECOND / REALS);
    }
    r.join_s = wait_sample() + 1;
    r.join_most = most_sent();

    sim_run(sim.now + 2 * interval);
    reset_counts();
    sim_run(sim.now + 2 * interval);
    ck_assert(sample_knows());
    for (i = 0; i < REALS; i++) {
        r.packets += real(i)->sent * 1e6 / REALS / (2 * interval);
        r.bytes += real(i)->sent_bytes * 1e6 / REALS / (2 * interval);
    }
    r.most = most_sent();

    reset_counts();
    start_real();
    r.late_s = wait_sample();
    r.late_most = most_sent();
    g_ptr_array_free(reals, true);
    return r;
}

/* What test-mesh sample does. */
START_TEST(test_sample)
{
    Rates r;

    sim_begin("test_sample");
    r = measure_sample(300);
    ck_assert(r.packets > 58 && r.packets < 62);
    ck_assert(r.join_s < 12);
    ck_assert(r.late_s < 12);
    sim_end();
}
END_TEST

static char **rate_sizes;
static Rates (*rate_measure)(unsigned n);

START_TEST(test_rates)
{
    Rates r;
    int i;

    printf("| ports | all know all after | most datagrams of one port in a "
           "second until then |%s\n",
           rate_measure == measure_start ? "\n|---|---|---|" :
           " settled: datagrams/s | bytes/s | most of one port in a second | "
           "one more is known to all after |\n|---|---|---|---|---|---|---|");
    for (i = 0; rate_sizes[i]; i++) {
        sim_begin("rates");
        r = rate_measure(strtoul(rate_sizes[i], NULL, 10));
        if (rate_measure == measure_start) {
            printf("| %s | %.1f s | %u |\n", rate_sizes[i], r.join_s,
                   r.join_most);
            fflush(stdout);
            sim_end();
            continue;
        }
        printf("| %s | %.1f s | %u | %.1f | %.0f | %u | %.1f s |\n",
               rate_sizes[i], r.join_s, r.join_most, r.packets, r.bytes,
               r.most, r.late_s);
        fflush(stdout);
        sim_end();
    }
}
END_TEST

static int print_rates(void)
{
    Suite *suite = suite_create("rates");
    TCase *tc = tcase_create("rates");
    SRunner *sr;
    int failed;

    tcase_add_test(tc, test_rates);
    suite_add_tcase(suite, tc);
    sr = srunner_create(suite);
    srunner_set_fork_status(sr, CK_NOFORK);
    srunner_run_all(sr, CK_SILENT);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    Suite *suite = suite_create("mesh");
    TCase *tc = tcase_create("mesh");

    if (argc > 2) {
        rate_sizes = argv + 2;
        rate_measure = g_str_equal(argv[1], "rates") ? measure :
                       g_str_equal(argv[1], "start") ? measure_start :
                       g_str_equal(argv[1], "sample") ? measure_sample : NULL;
    }
    if (rate_measure) {
        return print_rates();
    }
    tcase_set_timeout(tc, 100);
    tcase_add_loop_test(tc, test_finding, 0, G_N_ELEMENTS(sizes));
    tcase_add_test(tc, test_sample);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
