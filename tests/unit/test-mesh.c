/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mesh: whole fabrics without number in one process, over a network and a
 * clock that are simulated
 *
 * The underlay is replaced call by call (see meson.build); everything above it
 * is what runs in QEMU and qdes-tap.  Nothing but the seed is random, which is
 * printed.
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

#include "unit.h"
#include "../lib/underlay-calls.h"

#include <errno.h>
#include <inttypes.h>

#include "qdes/bytes.h"
#include "qdes/control.h"
#include "qdes/fabric-private.h"
#include "qdes/gossip.h"
#include "qdes/status.h"

#define PORT 20804
#define SECOND 1000000          /* in the time of the simulation */
#define GROUP_FD(i) (2 * (i))
#define UNICAST_FD(i) (2 * (i) + 1)
#define REALS 32                /* ports of a sample; one more is late */

typedef enum Nat {
    NAT_NONE, NAT_FULL_CONE, NAT_RESTRICTED, NAT_SYMMETRIC
} Nat;

/* What a symmetric NAT shows of a node to one endpoint. */
typedef struct Mapping {
    QdesAddr outside;
    QdesAddr to;
    struct Node *node;
} Mapping;

typedef struct Node {
    unsigned index;
    QdesFabric *fabric;         /* NULL: not there, or killed */
    QdesAddr addr;              /* as others see it */
    QdesAddr inside;            /* as it sees itself */
    QdesNetif netif;
    unsigned island;            /* hears the group of those in it; 0: none */
    unsigned part;              /* reaches those in the same by unicast */
    Nat nat;
    GHashTable *holes;          /* endpoints that it has sent to */
    int64_t timer;              /* ms */
    int64_t joined;
    uint64_t sent, sent_bytes;
    unsigned in_second;         /* datagrams sent in this second */
    int64_t second;
    unsigned most;              /* datagrams sent in any second */
    uint64_t hellos;
    GHashTable *mappings;       /* endpoint -> Mapping, of a symmetric NAT */
    bool relay;
    unsigned frames;            /* that its port got */
    GByteArray *frame;          /* the last of them */
    unsigned real;              /* its number in a sample */
    struct Extra *extra;        /* it is one of the others there */
} Node;

typedef struct Event {
    int64_t when;               /* us */
    uint64_t order;
    unsigned node;
    uint8_t *data;              /* NULL: its timer */
    size_t size;
    QdesAddr from;
    bool by_group;
    unsigned about;             /* of a timer of an extra: whom it is about;
                                   REALS + 1: it is to ask for peers */
} Event;

static struct {
    int64_t now;                /* us */
    uint64_t order;
    GArray *heap;
    GPtrArray *nodes;
    GHashTable *by_addr;
    GHashTable *by_mapping;     /* outside -> Mapping */
    uint16_t next_port;
    GRand *rng;
    const Event *reading;
    bool fuzzed;                /* addresses of nobody are kept count of */
    GHashTable *ledger;         /* address -> bytes that it may be sent */
    unsigned loss;              /* of 1000 datagrams */
    GPtrArray *reals;           /* of a sample */
    QdesDigest digest;          /* of its extras */
} sim;

static Node *node(unsigned i)
{
    return sim.nodes->pdata[i];
}

static int64_t ms(void)
{
    return sim.now / 1000;
}

/* The queue of events: a heap. */

static bool is_before(const Event *a, const Event *b)
{
    return a->when != b->when ? a->when < b->when : a->order < b->order;
}

static Event *at(guint i)
{
    return &g_array_index(sim.heap, Event, i);
}

static void exchange(guint i, guint j)
{
    Event e = *at(i);

    *at(i) = *at(j);
    *at(j) = e;
}

static void push(Event e)
{
    guint i = sim.heap->len;

    e.order = sim.order++;
    g_array_append_val(sim.heap, e);
    while (i > 0 && is_before(at(i), at((i - 1) / 2))) {
        exchange(i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
}

static Event pop(void)
{
    Event first = *at(0);
    guint i = 0, child;

    *at(0) = *at(sim.heap->len - 1);
    g_array_set_size(sim.heap, sim.heap->len - 1);
    while ((child = 2 * i + 1) < sim.heap->len) {
        if (child + 1 < sim.heap->len && is_before(at(child + 1), at(child))) {
            child++;
        }
        if (!is_before(at(child), at(i))) {
            break;
        }
        exchange(i, child);
        i = child;
    }
    return first;
}

/* The network */

static guint hash_addr(gconstpointer key)
{
    return qdes_addr_hash(key, 1);
}

static gboolean same_addr(gconstpointer a, gconstpointer b)
{
    return qdes_addr_equal(a, b);
}

/* What @to sees of @n. */
static const QdesAddr *seen_by(Node *n, const QdesAddr *to)
{
    Mapping *mapping;

    if (n->nat != NAT_SYMMETRIC) {
        return &n->addr;
    }
    mapping = g_hash_table_lookup(n->mappings, to);
    if (!mapping) {
        mapping = g_new0(Mapping, 1);
        mapping->outside = n->addr;
        mapping->outside.port = ++sim.next_port;
        mapping->to = *to;
        mapping->node = n;
        g_hash_table_insert(n->mappings, &mapping->to, mapping);
        g_hash_table_insert(sim.by_mapping, &mapping->outside, mapping);
    }
    return &mapping->outside;
}

/* Who gets what @from sends to @to; NULL: nobody. */
static Node *find_node(const QdesAddr *to, const QdesAddr *from)
{
    Mapping *mapping = g_hash_table_lookup(sim.by_mapping, to);
    Node *n = g_hash_table_lookup(sim.by_addr, to);

    if (mapping && mapping->node->nat == NAT_SYMMETRIC) {
        return qdes_addr_equal(&mapping->to, from) ? mapping->node : NULL;
    }
    return n && n->nat != NAT_SYMMETRIC ? n : NULL;
}

static void deliver_to(Node *to, const QdesAddr *from, const uint8_t *data,
                       size_t size, bool by_group)
{
    Event e = {
        .when = sim.now + 200 + g_rand_int_range(sim.rng, 0, 20000),
        .node = to->index, .size = size, .by_group = by_group,
        .from = *from,
    };

    if (g_rand_int_range(sim.rng, 0, 1000) < (int)sim.loss) {
        return;
    }
    if (to->nat == NAT_RESTRICTED &&
        !g_hash_table_contains(to->holes, from)) {
        return;
    }
    e.data = g_malloc(QDES_RX_HEADROOM + size);
    memcpy(e.data + QDES_RX_HEADROOM, data, size);
    push(e);
}

static void count_sent(Node *n, const uint8_t *data, size_t size)
{
    n->sent++;
    n->sent_bytes += size;
    n->hellos += data[2] == (QDES_WIRE_VERSION << 4 | QDES_WIRE_HELLO);
    if (sim.now / SECOND != n->second) {
        n->second = sim.now / SECOND;
        n->in_second = 0;
    }
    n->most = MAX(n->most, ++n->in_second);
}

static void spend(const QdesAddr *to, size_t size)
{
    int64_t *may = g_hash_table_lookup(sim.ledger, to);

    ck_assert_msg(may != NULL, "sent to one who never sent");
    *may -= size;
    ck_assert_msg(*may >= 0, "%zu bytes sent, %" PRIi64 " too many", size,
                  -*may);
}

static int transmit(Node *n, const QdesAddr *to, const void *data, size_t size)
{
    const QdesAddr *seen;
    Node *other;
    guint i;

    if (!to) {
        if (!n->island) {
            return -ENODEV;
        }
        count_sent(n, data, size);
        for (i = 0; i < sim.nodes->len; i++) {
            if (i != n->index && node(i)->fabric &&
                node(i)->island == n->island) {
                deliver_to(node(i), &n->addr, data, size, true);
            }
        }
        return 0;
    }
    count_sent(n, data, size);
    if (n->nat != NAT_NONE) {
        g_hash_table_add(n->holes, g_memdup2(to, sizeof(*to)));
    }
    seen = seen_by(n, to);
    other = find_node(to, seen);
    if (!other && sim.fuzzed) {
        spend(to, size);
    }
    if (other && (other->fabric || other->extra) && other->part == n->part) {
        deliver_to(other, seen, data, size, false);
    }
    return 0;
}

/* The underlay */

static Node *of(const QdesUnderlay *u)
{
    return (Node *)u;
}

QdesUnderlay *__wrap_qdes_underlay_new(const QdesConfig *config,
                                       const QdesHost *host, void *opaque,
                                       GError **errp)
{
    return opaque;
}

void __wrap_qdes_underlay_free(QdesUnderlay *u)
{
}

int __wrap_qdes_underlay_group_fd(const QdesUnderlay *u)
{
    return GROUP_FD(of(u)->index);
}

int __wrap_qdes_underlay_unicast_fd(const QdesUnderlay *u)
{
    return UNICAST_FD(of(u)->index);
}

int __wrap_qdes_underlay_monitor_fd(const QdesUnderlay *u)
{
    return -1;
}

QdesRefresh __wrap_qdes_underlay_refresh(QdesUnderlay *u)
{
    return QDES_REFRESH_SAME;
}

const QdesNetif *__wrap_qdes_underlay_netif(const QdesUnderlay *u)
{
    return &of(u)->netif;
}

QdesAddr __wrap_qdes_underlay_local(const QdesUnderlay *u)
{
    return of(u)->inside;
}

int __wrap_qdes_underlay_send(QdesUnderlay *u, QdesTrain *trains, int n)
{
    uint8_t datagram[2048];
    struct iovec iov[8];
    uint8_t *end;
    int i, j, pieces;
    size_t size;

    for (i = 0; i < n; i++) {
        for (; trains[i].sent < trains[i].size; trains[i].sent += size) {
            size = MIN(trains[i].segment, trains[i].size - trains[i].sent);
            ck_assert_uint_le(size, sizeof(datagram));
            pieces = qdes_train_slice(&trains[i], trains[i].sent, size, iov,
                                      G_N_ELEMENTS(iov));
            ck_assert_int_ge(pieces, 1);
            end = datagram;
            for (j = 0; j < pieces; j++) {
                memcpy(end, iov[j].iov_base, iov[j].iov_len);
                end += iov[j].iov_len;
            }
            if (transmit(of(u), trains[i].flood ? NULL : &trains[i].to,
                         datagram, size) < 0) {
                return i ? i : -ENODEV;
            }
        }
    }
    return n;
}

int __wrap_qdes_underlay_send_one(QdesUnderlay *u, const QdesAddr *to,
                                  const QdesAddr *from, const void *data,
                                  size_t size)
{
    return transmit(of(u), to, data, size);
}

int __wrap_qdes_underlay_receive(QdesUnderlay *u, int fd,
                                 QdesRxTrain *trains, int max, bool *more)
{
    const Event *e = sim.reading;

    *more = false;
    if (!e) {
        return -EAGAIN;
    }
    sim.reading = NULL;
    trains[0] = (QdesRxTrain) {
        .data = e->data + QDES_RX_HEADROOM, .size = e->size,
        .segment = e->size, .from = e->from,
    };
    return 1;
}

size_t __wrap_qdes_underlay_room(const QdesUnderlay *u, const QdesAddr *to)
{
    return 1472;
}

bool __wrap_qdes_underlay_segments(const QdesUnderlay *u)
{
    return false;
}

bool __wrap_qdes_underlay_reaches(const QdesUnderlay *u, const QdesAddr *to)
{
    return qdes_addr_is_v4(to);
}

bool __wrap_qdes_underlay_is_own(const QdesUnderlay *u, const QdesAddr *from)
{
    return qdes_addr_equal(from, &of(u)->inside);
}

bool __wrap_qdes_underlay_unreachable(QdesUnderlay *u, QdesAddr *peer)
{
    return false;
}

uint64_t __wrap_qdes_underlay_drops(QdesUnderlay *u)
{
    return 0;
}

/* The host */

static QdesDelivery host_deliver(void *opaque, const struct iovec *iov,
                                 int iovcnt, size_t size)
{
    Node *n = opaque;
    int i;

    n->frames++;
    g_byte_array_set_size(n->frame, 0);
    for (i = 0; i < iovcnt; i++) {
        g_byte_array_append(n->frame, iov[i].iov_base, iov[i].iov_len);
    }
    ck_assert_uint_eq(n->frame->len, size);
    return QDES_DELIVERED;
}

static void host_writable(void *opaque)
{
}

static void host_watch(void *opaque, int fd, int events)
{
}

static void host_set_timer(void *opaque, int64_t deadline)
{
    Node *n = opaque;

    n->timer = deadline;
    push((Event) { .when = MAX(deadline * 1000, sim.now), .node = n->index });
}

static void host_log(void *opaque, QdesLogLevel level, const char *text)
{
}

static void host_changed(void *opaque)
{
}

static uint64_t host_random(void *opaque)
{
    return (uint64_t)g_rand_int(sim.rng) << 32 | g_rand_int(sim.rng);
}

static int64_t host_now_us(void *opaque)
{
    return sim.now;
}

static const QdesHost sim_host = {
    .deliver = host_deliver, .writable = host_writable, .watch = host_watch,
    .set_timer = host_set_timer, .log = host_log, .changed = host_changed,
    .random = host_random, .now_us = host_now_us,
};

/* Running it */

static QdesAddr addr_of(unsigned net, unsigned i)
{
    QdesAddr addr = { .port = PORT };

    memset(addr.ip + 10, 0xff, 2);
    addr.ip[12] = net;
    addr.ip[13] = i >> 16;
    addr.ip[14] = i >> 8;
    addr.ip[15] = i;
    return addr;
}

static void begin(const char *test)
{
    memset(&sim, 0, sizeof(sim));
    sim.rng = unit_rand(test);
    sim.now = 1000 * SECOND;
    sim.heap = g_array_new(false, false, sizeof(Event));
    sim.nodes = g_ptr_array_new_with_free_func(g_free);
    sim.by_addr = g_hash_table_new(hash_addr, same_addr);
    sim.by_mapping = g_hash_table_new(hash_addr, same_addr);
    sim.next_port = 40000;
    sim.ledger = g_hash_table_new_full(hash_addr, same_addr, g_free, g_free);
}

static Node *add_node(void)
{
    Node *n = g_new0(Node, 1);

    n->index = sim.nodes->len;
    n->addr = n->inside = addr_of(10, n->index + 1);
    n->holes = g_hash_table_new_full(hash_addr, same_addr, g_free, NULL);
    n->mappings = g_hash_table_new_full(hash_addr, same_addr, NULL, g_free);
    n->frame = g_byte_array_new();
    g_ptr_array_add(sim.nodes, n);
    g_hash_table_insert(sim.by_addr, &n->addr, n);
    return n;
}

static void put_behind_nat(Node *n, Nat nat)
{
    n->nat = nat;
    n->inside = addr_of(192, 168 << 8 | (n->index + 1));
}

/* It starts, with @seed listed. */
static void start(Node *n, const Node *seed)
{
    char text[QDES_ADDR_STRLEN];
    const char *peers[] = { text };
    QdesOptions options = { .name = "node" };
    GError *err = NULL;
    QdesConfig config;

    ck_assert_msg(qdes_config_init(&config, &options, &err), "%s",
                  err ? err->message : "");
    if (seed) {
        qdes_addr_format(&seed->addr, text);
        config.peers = peers;
        config.n_peers = 1;
    }
    config.relay = n->relay;
    config.has_group = n->island != 0;
    n->netif.index = n->island;
    n->joined = sim.now;
    n->fabric = qdes_fabric_new(&config, &sim_host, n, ms(), NULL);
    ck_assert_ptr_nonnull(n->fabric);
}

static void stop(Node *n)
{
    QdesFabric *fabric = n->fabric;

    n->fabric = NULL;
    qdes_fabric_free(fabric);
}

/* It ends without a word. */
static void kill_node(Node *n)
{
    n->fabric->link_up = false;
    stop(n);
}

static void end(void)
{
    guint i;

    while (sim.heap->len) {
        g_free(pop().data);
    }
    for (i = 0; i < sim.nodes->len; i++) {
        if (node(i)->fabric) {
            kill_node(node(i));
        }
        g_hash_table_destroy(node(i)->holes);
        g_hash_table_destroy(node(i)->mappings);
        g_byte_array_free(node(i)->frame, true);
        g_free(node(i)->extra);
    }
    while (sim.heap->len) {
        g_free(pop().data);
    }
    g_array_free(sim.heap, true);
    g_hash_table_destroy(sim.by_addr);
    g_hash_table_destroy(sim.by_mapping);
    g_hash_table_destroy(sim.ledger);
    g_ptr_array_free(sim.nodes, true);
    if (sim.reals) {
        g_ptr_array_free(sim.reals, true);
    }
    g_rand_free(sim.rng);
}

static void take_extra(Node *n, const Event *e);
static void tend_extra(Node *n, unsigned about);

/* Until @until, in us. */
static void run(int64_t until)
{
    Node *n;
    Event e;

    while (sim.heap->len && at(0)->when <= until) {
        e = pop();
        sim.now = MAX(sim.now, e.when);
        n = node(e.node);
        if (n->fabric && !e.data && ms() >= n->timer) {
            n->timer = INT64_MAX;
            qdes_fabric_tick(n->fabric, ms());
        } else if (n->fabric && e.data) {
            sim.reading = &e;
            qdes_fabric_ready(n->fabric, e.by_group ? GROUP_FD(e.node)
                                                    : UNICAST_FD(e.node),
                              QDES_WATCH_READ, ms());
            sim.reading = NULL;
        } else if (n->extra && e.data) {
            take_extra(n, &e);
        } else if (n->extra) {
            tend_extra(n, e.about);
        }
        g_free(e.data);
    }
    sim.now = until;
}

/* Peers of @n that are there for it. */
static unsigned n_known(const Node *n)
{
    uint32_t slot = QDES_PEER_NONE;
    unsigned known = 0;

    while ((slot = qdes_peers_next(n->fabric->peers, slot)) !=
           QDES_PEER_NONE) {
        known += qdes_peers_get(n->fabric->peers, slot)->alive &&
                 qdes_peers_get(n->fabric->peers, slot)->proven;
    }
    return known;
}

/* Does every port know @others others?  Then none misses one. */
static bool all_know(unsigned others)
{
    guint i;

    for (i = 0; i < sim.nodes->len; i++) {
        if (node(i)->fabric && n_known(node(i)) != others) {
            return false;
        }
    }
    return true;
}

static unsigned copies(const Node *n)
{
    return qdes_peers_copies(n->fabric->peers);
}

/* Returns the us that it took until all knew @others, or -1. */
static int64_t wait_known(unsigned others, int64_t limit)
{
    int64_t start_at = sim.now;

    while (!all_know(others)) {
        if (sim.now - start_at > limit) {
            return -1;
        }
        run(sim.now + SECOND / 10);
    }
    return sim.now - start_at;
}

static int64_t interval_us(unsigned n)
{
    return CLAMP((int64_t)n * 50, QDES_HELLO_MS, 200000) * 1000;
}

static void reset_counts(void)
{
    guint i;

    for (i = 0; i < sim.nodes->len; i++) {
        node(i)->sent = node(i)->sent_bytes = node(i)->hellos = 0;
        node(i)->most = 0;
    }
}

/* All start within a second and know one. */
static void start_all(unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++) {
        add_node();
    }
    start(node(0), NULL);
    for (i = 1; i < n; i++) {
        run(sim.now + SECOND / n);
        start(node(i), node(0));
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

    run(sim.now + 2 * interval);
    reset_counts();
    run(sim.now + 2 * interval);
    ck_assert(all_know(n - 1));
    for (i = 0; i < n; i++) {
        packets += node(i)->sent;
        bytes += node(i)->sent_bytes;
    }
    r.packets = packets * 1e6 / n / (2 * interval);
    r.bytes = bytes * 1e6 / n / (2 * interval);
    r.most = most_sent();

    reset_counts();
    start(add_node(), node(0));
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

    begin("test_finding");
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

    stop(node(n));
    run(sim.now + SECOND);
    ck_assert(all_know(n - 1));
    kill_node(node(1));
    run(sim.now + 2 * interval_us(n));
    ck_assert(!all_know(n - 2));
    run(sim.now + 2 * interval_us(n));
    ck_assert(all_know(n - 2));
    end();
}
END_TEST

/* One datagram of ten is lost. */
START_TEST(test_loss)
{
    begin("test_loss");
    sim.loss = 100;
    start_all(30);
    /* Whoever is unlucky waits for the turns of some intervals. */
    ck_assert_int_ge(wait_known(29, 9 * interval_us(30)), 0);
    end();
}
END_TEST

/* A group for some, unicast for all: each gets floods once. */
START_TEST(test_mixed)
{
    unsigned i;

    begin("test_mixed");
    for (i = 0; i < 12; i++) {
        add_node()->island = i < 5 ? 1 : i < 9 ? 2 : 0;
    }
    /* Of each island, only one knows somebody elsewhere. */
    start(node(0), NULL);
    for (i = 1; i < 12; i++) {
        start(node(i), i == 5 || i >= 9 ? node(0) : NULL);
    }
    /* The others of an island are told as they draw who knows more. */
    ck_assert_int_ge(wait_known(11, 6 * interval_us(12)), 0);
    run(sim.now + 2 * interval_us(12));
    ck_assert(all_know(11));
    for (i = 0; i < 12; i++) {
        ck_assert_uint_eq(copies(node(i)), i < 5 ? 7 : i < 9 ? 8 : 11);
    }
    /* The second island loses its group. */
    for (i = 5; i < 9; i++) {
        node(i)->island = 0;
        node(i)->netif.index = 0;
    }
    run(sim.now + 4 * interval_us(12));
    ck_assert(all_know(11));
    for (i = 5; i < 9; i++) {
        ck_assert_uint_eq(copies(node(i)), 11);
    }
    end();
}
END_TEST

/* The network is parted and comes together; nobody is restarted. */
START_TEST(test_split)
{
    const unsigned n = 20;
    unsigned i;

    begin("test_split");
    start_all(n);
    ck_assert_int_ge(wait_known(n - 1, 2 * interval_us(n)), 0);
    for (i = 0; i < n; i++) {
        node(i)->part = i % 2;
    }
    run(sim.now + 120 * SECOND);
    for (i = 0; i < n; i++) {
        ck_assert_uint_eq(n_known(node(i)), n / 2 - 1);
    }
    /* Meanwhile, one goes and one comes, who knows only its own side. */
    stop(node(3));
    add_node()->part = 1;
    start(node(n), node(1));
    run(sim.now + 60 * SECOND);
    for (i = 0; i <= n; i++) {
        node(i)->part = 0;
    }
    ck_assert_int_ge(wait_known(n - 1, 2 * QDES_REMEMBERED_MS * 1000), 0);
    end();
}
END_TEST

/* Two behind NATs find each other by one who is not. */
START_TEST(test_nat)
{
    unsigned i;

    begin("test_nat");
    for (i = 0; i < 5; i++) {
        add_node();
        if (i > 0) {
            put_behind_nat(node(i), _i ? NAT_RESTRICTED : NAT_FULL_CONE);
        }
    }
    start(node(0), NULL);
    for (i = 1; i < 5; i++) {
        start(node(i), node(0));
        run(sim.now + SECOND);
    }
    ck_assert_int_ge(wait_known(4, 3 * interval_us(5)), 0);
    for (i = 1; i < 5; i++) {
        ck_assert(node(i)->fabric->mesh.behind_nat);
    }
    run(sim.now + 300 * SECOND);
    ck_assert(all_know(4));
    end();
}
END_TEST

/* Relays: numbers 0 and 1 are public, and relay; 2 is public and does not;
 * 3 to 5 are behind symmetric NATs. */

enum { RELAY_NODES = 6, HOME = 3 };

static uint64_t counter(const Node *n, QdesCounter which)
{
    return n->fabric->stats.value[which];
}

static const uint8_t *mac_of(unsigned i)
{
    static uint8_t macs[RELAY_NODES + 1][6];

    ck_assert_uint_le(i, RELAY_NODES);
    return unit_mac(macs[i], 100 + i);
}

static void forget_frames(void)
{
    guint i;

    for (i = 0; i < sim.nodes->len; i++) {
        node(i)->frames = 0;
    }
}

/* Number @from sends a frame to @dst, and it arrives. */
static void send_frame(unsigned from, const uint8_t *dst)
{
    uint8_t frame[60] = { 0 };
    struct iovec iov = { frame, sizeof(frame) };

    memcpy(frame, dst, 6);
    memcpy(frame + 6, mac_of(from), 6);
    frame[12] = 0x88;
    frame[13] = 0xb5;
    frame[14] = g_rand_int(sim.rng);
    forget_frames();
    ck_assert(qdes_fabric_send(node(from)->fabric, &iov, 1, ms()));
    qdes_fabric_flush(node(from)->fabric, ms());
    run(sim.now + SECOND / 5);
}

/* Those who got it once, a bit for each; nobody gets it twice. */
static unsigned got_frame(void)
{
    unsigned who = 0;
    guint i;

    for (i = 0; i < sim.nodes->len; i++) {
        ck_assert_uint_le(node(i)->frames, 1);
        who |= node(i)->frames << i;
    }
    return who;
}

/* All floods come to all who are there, once. */
static void assert_floods(unsigned there)
{
    static const uint8_t broadcast[6] = { 255, 255, 255, 255, 255, 255 };
    unsigned i;

    for (i = 0; i < RELAY_NODES; i++) {
        if (there >> i & 1) {
            send_frame(i, broadcast);
            ck_assert_msg(got_frame() == (there & ~(1u << i)),
                          "%x of %x got what %u flooded", got_frame(), there,
                          i);
        }
    }
}

/* The number of who relays between numbers @a and @b. */
static unsigned relay_between(unsigned a, unsigned b)
{
    QdesDetour *there = qdes_detours_find(&node(a)->fabric->detours,
                                          node(b)->fabric->instance);
    QdesDetour *back = qdes_detours_find(&node(b)->fabric->detours,
                                         node(a)->fabric->instance);
    unsigned i;

    ck_assert_ptr_nonnull(there);
    ck_assert_ptr_nonnull(back);
    for (i = 0; i < 2; i++) {
        if (node(i)->fabric && there->relay == node(i)->fabric->instance) {
            ck_assert_uint_eq(back->relay, there->relay);
            return i;
        }
    }
    ck_abort_msg("nobody relays between %u and %u", a, b);
    return 0;
}

static void start_relays(bool relay)
{
    unsigned i;

    for (i = 0; i < RELAY_NODES; i++) {
        add_node()->relay = relay && i < 2;
        if (i >= HOME) {
            put_behind_nat(node(i), NAT_SYMMETRIC);
        }
        start(node(i), i ? node(0) : NULL);
        run(sim.now + SECOND);
    }
    run(sim.now + 60 * SECOND);
    for (i = 0; i < RELAY_NODES; i++) {
        ck_assert_uint_eq(n_known(node(i)), i < HOME ? 5 : 3);
        ck_assert_uint_eq(node(i)->fabric->detours.n, i < HOME ? 0 : 2);
    }
}

START_TEST(test_relay)
{
    unsigned way, there, i, j;
    Node *hostile;

    begin("test_relay");
    start_relays(true);
    assert_floods(0x3f);
    ck_assert_uint_eq(counter(node(2), QDES_COUNTER_relay_frames), 0);

    /* Unicast goes by the one relay, and to nobody else. */
    for (i = HOME; i < RELAY_NODES; i++) {
        for (j = HOME; j < RELAY_NODES; j++) {
            if (i == j) {
                continue;
            }
            way = relay_between(i, j);
            node(way)->fabric->stats.value[QDES_COUNTER_rx_relayed] = 0;
            node(way)->fabric->stats.value[QDES_COUNTER_rx_datagrams] = 0;
            send_frame(i, mac_of(j));
            ck_assert_uint_eq(got_frame(), 1u << j);
            ck_assert_mem_eq(node(j)->frame->data + 6, mac_of(i), 6);
            ck_assert_uint_eq(counter(node(way), QDES_COUNTER_rx_relayed), 1);
        }
    }
    send_frame(HOME, mac_of(RELAY_NODES));  /* which nobody has */
    ck_assert_uint_eq(got_frame(), 0x37);

    /* Who is not proven asks in vain; who is, gets what it asked for only. */
    hostile = add_node();
    hostile->part = node(0)->part;
    {
        QdesWireHello hello = { .instance = 4711, .hold_time = 600 };
        uint64_t wants[] = { node(HOME)->fabric->instance };
        uint8_t data[QDES_WIRE_HELLO_MAX];
        size_t size = qdes_wire_encode_hello(data, QDES_WIRE_HELLO, 0,
                                             &hello);

        size = qdes_wire_add_relay_for(data, size, wants, 1);
        i = qdes_relay_size(node(0)->fabric->relay);
        transmit(hostile, &node(0)->addr, data, size);
        transmit(hostile, &node(2)->addr, data, size);
        run(sim.now + SECOND / 5);
        ck_assert_uint_eq(qdes_relay_size(node(0)->fabric->relay), i);
        ck_assert_uint_eq(counter(node(0), QDES_COUNTER_relay_refused), 1);
        ck_assert_uint_eq(counter(node(2), QDES_COUNTER_relay_refused), 1);
    }

    /* A relay is killed: the other does it. */
    way = relay_between(HOME, HOME + 1);
    kill_node(node(way));
    there = 0x3f & ~(1u << way);
    run(sim.now + 90 * SECOND);
    ck_assert_uint_eq(relay_between(HOME, HOME + 1), 1 - way);
    assert_floods(there);
    send_frame(HOME, mac_of(HOME + 1));
    ck_assert_uint_eq(got_frame(), 1u << (HOME + 1));

    /* The other, too: the rest goes on. */
    kill_node(node(1 - way));
    run(sim.now + 90 * SECOND);
    send_frame(HOME, mac_of(HOME + 1));
    ck_assert_uint_eq(got_frame(), 1u << 2);
    send_frame(2, mac_of(HOME));
    ck_assert_uint_eq(got_frame(), 1u << HOME);
    end();
}
END_TEST

/* They reach each other one day: the relay has nothing to do any more. */
START_TEST(test_relay_no_longer)
{
    unsigned i;

    begin("test_relay_no_longer");
    start_relays(true);
    assert_floods(0x3f);
    for (i = HOME; i < RELAY_NODES; i++) {
        node(i)->nat = NAT_NONE;
    }
    run(sim.now + 200 * SECOND);
    for (i = 0; i < RELAY_NODES; i++) {
        ck_assert_uint_eq(n_known(node(i)), 5);
        ck_assert_uint_eq(node(i)->fabric->detours.n, 0);
    }
    ck_assert_uint_eq(qdes_relay_size(node(0)->fabric->relay), 0);
    ck_assert_uint_eq(qdes_relay_size(node(1)->fabric->relay), 0);
    assert_floods(0x3f);
    send_frame(HOME, mac_of(HOME + 1));
    ck_assert_uint_eq(got_frame(), 1u << (HOME + 1));
    end();
}
END_TEST

START_TEST(test_relay_off)
{
    static const uint8_t broadcast[6] = { 255, 255, 255, 255, 255, 255 };

    begin("test_relay_off");
    start_relays(false);
    send_frame(HOME, broadcast);
    ck_assert_uint_eq(got_frame(), 0x07);
    send_frame(2, broadcast);
    ck_assert_uint_eq(got_frame(), 0x3b);
    ck_assert_uint_eq(node(HOME)->fabric->detours.all[0].relay, 0);
    end();
}
END_TEST

/* Anything, said to come from addresses of nobody. */
static size_t forge(uint8_t *data, const Node *n)
{
    QdesWireHello hello = { .instance = 1 + g_rand_int(sim.rng) % 50,
                            .capabilities = QDES_WIRE_CAP_ECHO, };
    QdesEcho echo = { .nonce = g_rand_int(sim.rng), .observed = n->addr };
    QdesDigest digest = { { g_rand_int(sim.rng) } };
    QdesKnown known = { .part = g_rand_int(sim.rng) % 2, .size = 1,
                        .bits = (const uint8_t *)"" };
    QdesEntry entries[QDES_ENTRIES_MAX];
    unsigned i;
    size_t size;

    switch (g_rand_int_range(sim.rng, 0, 7)) {
    case 0:
        return qdes_control_encode_echo(data, QDES_WIRE_ECHO, 0, &echo);
    case 1:
        return qdes_control_encode_echo(data, QDES_WIRE_ECHO_REPLY, 0, &echo);
    case 2:
        return qdes_control_encode_request(data, 0, &digest, &known);
    case 3:
        for (i = 0; i < QDES_ENTRIES_MAX; i++) {
            entries[i].addr = addr_of(99, g_rand_int(sim.rng) % 1000);
            entries[i].instance = 1 + g_rand_int(sim.rng);
        }
        return qdes_control_encode_list(data, 0, entries, QDES_ENTRIES_MAX);
    case 4:
        return qdes_wire_encode_hello(data, QDES_WIRE_BYE, 0, &hello);
    case 5:
        qdes_wire_encode_header(data, QDES_WIRE_DATA, 0, 0);
        memset(data + 8, 0x52, 60);
        return 68;
    default:
        size = qdes_wire_encode_hello(data, QDES_WIRE_HELLO, 0, &hello);
        return g_rand_boolean(sim.rng) ? size :
               qdes_wire_pad(data, size, QDES_WIRE_HELLO_PADDED);
    }
}

/* To nobody's address goes more than came from there. */
START_TEST(test_forged_sources)
{
    uint8_t data[QDES_RX_HEADROOM + QDES_WIRE_CONTROL_MAX];
    int64_t *may;
    Node *n;
    int i;

    begin("test_forged_sources");
    for (i = 0; i < 4; i++) {
        add_node()->island = 1;
        start(node(i), NULL);
    }
    sim.fuzzed = true;
    for (i = 0; i < 20000; i++) {
        Event e = {
            .when = sim.now, .node = g_rand_int(sim.rng) % 4,
            .from = addr_of(77, g_rand_int(sim.rng) % (_i ? 20 : 5000)),
            .by_group = g_rand_boolean(sim.rng),
        };

        n = node(e.node);
        e.size = forge(data, n);
        e.data = g_memdup2(data, sizeof(data));
        memcpy(e.data + QDES_RX_HEADROOM, data, e.size);
        may = g_hash_table_lookup(sim.ledger, &e.from);
        if (!may) {
            may = g_new0(int64_t, 1);
            g_hash_table_insert(sim.ledger,
                                g_memdup2(&e.from, sizeof(e.from)), may);
        }
        *may += e.size;
        push(e);
        run(sim.now + g_rand_int_range(sim.rng, 0, 4000));
    }
    for (i = 0; i < 4; i++) {
        ck_assert_uint_gt(node(i)->fabric->stats.value[
            QDES_COUNTER_tx_echo], 10);
        ck_assert_uint_gt(node(i)->fabric->stats.value[
            QDES_COUNTER_peers_unanswered], 10);
        ck_assert_uint_gt(node(i)->fabric->stats.value[
            QDES_COUNTER_echo_stray], 10);
        ck_assert_uint_eq(n_known(node(i)), 3);
        ck_assert(qdes_stats_balanced(&node(i)->fabric->stats));
    }
    end();
}
END_TEST

/* A proven peer tells of what cannot be, of too many, and of itself. */
START_TEST(test_absurd_lists)
{
    static const char *const bad[] = {
        "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:9", "127.0.0.1:5",
        "[::1]:7", "[ff02::1]:7", "10.0.0.1:20804" /* the port itself */,
    };
    QdesEntry entries[QDES_ENTRIES_MAX];
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    QdesStats *stats;
    uint64_t echoes;
    unsigned i, j;
    size_t size;

    begin("test_absurd_lists");
    start_all(2);
    ck_assert_int_ge(wait_known(1, 20 * SECOND), 0);
    stats = &node(0)->fabric->stats;
    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        ck_assert(qdes_addr_parse(&entries[i].addr, bad[i], 1, NULL));
        entries[i].addr.scope = 0;
        entries[i].instance = 1000 + i;
    }
    entries[i].addr = addr_of(10, 77);
    entries[i++].instance = node(0)->fabric->instance;
    entries[i].addr = addr_of(10, 77);
    entries[i++].instance = 0;
    entries[i].addr = addr_of(10, 77);
    entries[i].addr.port = 0;
    entries[i++].instance = 1;
    size = qdes_control_encode_list(data, 0, entries, i);
    transmit(node(1), &node(0)->addr, data, size);
    run(sim.now + SECOND);
    ck_assert_uint_eq(stats->value[QDES_COUNTER_candidates_refused], i);
    ck_assert_uint_eq(qdes_candidates_size(
        node(0)->fabric->mesh.candidates), 0);

    echoes = stats->value[QDES_COUNTER_tx_echo];
    for (i = 0; i < 100; i++) {
        for (j = 0; j < QDES_ENTRIES_MAX; j++) {
            entries[j].addr = addr_of(66, QDES_ENTRIES_MAX * i + j);
            entries[j].instance = 2000 + QDES_ENTRIES_MAX * i + j;
        }
        size = qdes_control_encode_list(data, 0, entries, QDES_ENTRIES_MAX);
        transmit(node(1), &node(0)->addr, data, size);
    }
    run(sim.now + SECOND);
    ck_assert_uint_eq(qdes_candidates_size(
        node(0)->fabric->mesh.candidates), QDES_CANDIDATES_EACH);
    run(sim.now + 9 * SECOND);
    echoes = stats->value[QDES_COUNTER_tx_echo] - echoes;
    ck_assert_uint_gt(echoes, QDES_CANDIDATES_EACH);
    ck_assert_uint_le(echoes, 10 * QDES_CANDIDATE_RATE + 10);
    run(sim.now + 100 * SECOND);
    ck_assert_uint_eq(qdes_candidates_size(
        node(0)->fabric->mesh.candidates), 0);
    end();
}
END_TEST

/* Of one host, which is none of ours, many ports are told, again and again. */
START_TEST(test_victim)
{
    QdesEntry entries[QDES_ENTRIES_MAX];
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    uint64_t echoes;
    unsigned i, j;
    size_t size;

    begin("test_victim");
    start_all(2);
    ck_assert_int_ge(wait_known(1, 20 * SECOND), 0);
    echoes = node(0)->fabric->stats.value[QDES_COUNTER_tx_echo];
    for (i = 0; i < 600; i++) {
        for (j = 0; j < QDES_ENTRIES_MAX; j++) {
            entries[j].addr = addr_of(66, 1);
            entries[j].addr.port = 1 + QDES_ENTRIES_MAX * i + j;
            entries[j].instance = 2000 + QDES_ENTRIES_MAX * i + j;
        }
        size = qdes_control_encode_list(data, 0, entries, QDES_ENTRIES_MAX);
        transmit(node(1), &node(0)->addr, data, size);
        run(sim.now + SECOND / 10);
    }
    echoes = node(0)->fabric->stats.value[QDES_COUNTER_tx_echo] - echoes;
    ck_assert_uint_gt(echoes, QDES_CANDIDATES_HOST);
    ck_assert_uint_lt(echoes, 2 * 60);
    end();
}
END_TEST

/* Those that nobody knows do not use up what peers get. */
START_TEST(test_strangers)
{
    uint8_t data[QDES_RX_HEADROOM + QDES_WIRE_CONTROL_MAX];
    QdesEcho echo = { .nonce = 1 };
    uint64_t replies;
    size_t size;
    unsigned i;

    begin("test_strangers");
    start_all(2);
    ck_assert_int_ge(wait_known(1, 20 * SECOND), 0);
    run(sim.now + 2 * SECOND);
    size = qdes_control_encode_echo(data, QDES_WIRE_ECHO, 0, &echo);
    for (i = 0; i < 3000; i++) {
        Event e = { .when = sim.now, .from = addr_of(77, i), .size = size };

        e.data = g_malloc0(QDES_RX_HEADROOM + size);
        memcpy(e.data + QDES_RX_HEADROOM, data, size);
        push(e);
    }
    run(sim.now + SECOND / 100);
    replies = node(0)->fabric->stats.value[QDES_COUNTER_tx_echo_reply];
    ck_assert_uint_gt(node(0)->fabric->stats.value[
        QDES_COUNTER_echo_unanswered], 2000);
    /* In the same second, and the network takes its time. */
    transmit(node(1), &node(0)->addr, data, size);
    run(sim.now + SECOND / 5);
    ck_assert_uint_gt(node(0)->fabric->stats.value[
        QDES_COUNTER_tx_echo_reply], replies);
    end();
}
END_TEST

/* Nobody has this port compare, or look into lists, all day. */
START_TEST(test_busy_peers)
{
    QdesEntry entry = { .addr = addr_of(66, 1), .instance = 1 };
    QdesDigest digest = { { 1 } };
    QdesKnown known = { .size = 0 };
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    uint64_t before;
    QdesStats *stats;
    size_t size;
    unsigned i;

    begin("test_busy_peers");
    start_all(200);
    ck_assert_int_ge(wait_known(199, 100 * SECOND), 0);
    run(sim.now + 20 * SECOND);
    stats = &node(0)->fabric->stats;
    before = stats->value[QDES_COUNTER_peers_unanswered];
    size = qdes_control_encode_request(data, 0, &digest, &known);
    for (i = 1; i < 200; i++) {
        transmit(node(i), &node(0)->addr, data, size);
    }
    run(sim.now + SECOND / 10);
    ck_assert_uint_ge(stats->value[QDES_COUNTER_peers_unanswered] - before,
                      99);
    before = stats->value[QDES_COUNTER_candidates_refused];
    size = qdes_control_encode_list(data, 0, &entry, 1);
    for (i = 0; i < 5000; i++) {
        transmit(node(1 + i % 199), &node(0)->addr, data, size);
    }
    run(sim.now + SECOND / 10);
    ck_assert_uint_gt(stats->value[QDES_COUNTER_candidates_refused] - before,
                      4500);
    end();
}
END_TEST

/* RTT and loss are what the network makes them. */
START_TEST(test_rtt)
{
    const QdesPeer *peer;

    begin("test_rtt");
    start_all(2);
    run(sim.now + 200 * SECOND);
    peer = qdes_peers_get(node(1)->fabric->peers,
                          qdes_peers_next(node(1)->fabric->peers, 0));
    ck_assert_uint_ge(peer->rtt_us, 400);
    ck_assert_uint_le(peer->rtt_us, 40400);
    ck_assert_uint_ge(peer->echo_sent, 15);
    ck_assert_uint_eq(peer->echo_lost, 0);
    node(0)->part = 1;
    run(sim.now + 25 * SECOND);
    ck_assert_uint_ge(peer->echo_lost, 1);
    end();
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

static int64_t extra_interval(void)
{
    return interval_us(sim.nodes->len - 1);
}

static Node *real(unsigned i)
{
    return sim.reals->pdata[i];
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
    QdesDigest digest = sim.digest;
    guint j;

    toggle(&digest, n);
    for (j = 0; j < sim.reals->len; j++) {
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
            push((Event) {
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
    if (about == REALS + 1) {
        extra_ask(n);
    } else {
        extra_hello(n, about);
        extra_echo(n, about, QDES_WIRE_ECHO, 1);
    }
    push((Event) { .node = n->index, .about = about,
                   .when = sim.now + extra_interval() });
}

static void start_real(void)
{
    Node *n = add_node();

    n->real = sim.reals->len;
    g_ptr_array_add(sim.reals, n);
    start(n, node(0));
}

/* Do all reals know all, and all extras all reals? */
static bool sample_knows(void)
{
    guint i, j;

    if (!all_know(sim.nodes->len - 1)) {
        return false;
    }
    for (i = 0; i < sim.nodes->len; i++) {
        for (j = 0; node(i)->extra && j < sim.reals->len; j++) {
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
        run(sim.now + SECOND / 10);
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
    sim.reals = g_ptr_array_new();
    for (i = 0; i < n - REALS; i++) {
        extra = add_node();
        extra->extra = g_new0(Extra, 1);
        extra->extra->instance = host_random(NULL);
        toggle(&sim.digest, extra);
        push((Event) { .node = i, .about = REALS + 1, .when = sim.now +
                       g_rand_double(sim.rng) * interval });
    }
    for (i = 0; i < REALS; i++) {
        start_real();
        run(sim.now + SECOND / REALS);
    }
    r.join_s = wait_sample() + 1;
    r.join_most = most_sent();

    run(sim.now + 2 * interval);
    reset_counts();
    run(sim.now + 2 * interval);
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
    return r;
}

/* What test-mesh sample does. */
START_TEST(test_sample)
{
    Rates r;

    begin("test_sample");
    r = measure_sample(300);
    ck_assert(r.packets > 58 && r.packets < 62);
    ck_assert(r.join_s < 12);
    ck_assert(r.late_s < 12);
    end();
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
        begin("rates");
        r = rate_measure(strtoul(rate_sizes[i], NULL, 10));
        if (rate_measure == measure_start) {
            printf("| %s | %.1f s | %u |\n", rate_sizes[i], r.join_s,
                   r.join_most);
            fflush(stdout);
            end();
            continue;
        }
        printf("| %s | %.1f s | %u | %.1f | %.0f | %u | %.1f s |\n",
               rate_sizes[i], r.join_s, r.join_most, r.packets, r.bytes,
               r.most, r.late_s);
        fflush(stdout);
        end();
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
    tcase_add_test(tc, test_loss);
    tcase_add_test(tc, test_mixed);
    tcase_add_test(tc, test_split);
    tcase_add_loop_test(tc, test_nat, 0, 2);
    tcase_add_test(tc, test_relay);
    tcase_add_test(tc, test_relay_no_longer);
    tcase_add_test(tc, test_relay_off);
    tcase_add_loop_test(tc, test_forged_sources, 0, 2);
    tcase_add_test(tc, test_absurd_lists);
    tcase_add_test(tc, test_victim);
    tcase_add_test(tc, test_strangers);
    tcase_add_test(tc, test_busy_peers);
    tcase_add_test(tc, test_rtt);
    tcase_add_test(tc, test_sample);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
