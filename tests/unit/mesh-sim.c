/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Simulated fabrics: their clock, their ports, and what those know. */

#include "mesh-sim.h"

#include "qdes/status.h"

Sim sim;

Node *node(unsigned i)
{
    return sim.nodes->pdata[i];
}

int64_t sim_ms(void)
{
    return sim.now / 1000;
}

uint64_t counter(const Node *n, QdesCounter which)
{
    return n->fabric->stats.value[which];
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

void sim_push(Event e)
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
    sim_push((Event) {
        .when = MAX(deadline * 1000, sim.now), .node = n->index });
}

static void host_log(void *opaque, QdesLogLevel level, const char *text)
{
}

static void host_changed(void *opaque)
{
}

uint64_t sim_random(void *opaque)
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
    .random = sim_random, .now_us = host_now_us,
};

/* Running it */

QdesAddr addr_of(unsigned net, unsigned i)
{
    QdesAddr addr = { .port = PORT };

    memset(addr.ip + 10, 0xff, 2);
    addr.ip[12] = net;
    addr.ip[13] = i >> 16;
    addr.ip[14] = i >> 8;
    addr.ip[15] = i;
    return addr;
}

void sim_begin(const char *test)
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

Node *add_node(void)
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

void put_behind_nat(Node *n, Nat nat)
{
    n->nat = nat;
    n->inside = addr_of(192, 168 << 8 | (n->index + 1));
}

void start_node(Node *n, const Node *seed)
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
    n->fabric = qdes_fabric_new(&config, &sim_host, n, sim_ms(), NULL);
    ck_assert_ptr_nonnull(n->fabric);
}

void stop_node(Node *n)
{
    QdesFabric *fabric = n->fabric;

    n->fabric = NULL;
    qdes_fabric_free(fabric);
}

void kill_node(Node *n)
{
    n->fabric->link_up = false;
    stop_node(n);
}

void sim_end(void)
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
    g_rand_free(sim.rng);
}

void sim_run(int64_t until)
{
    Node *n;
    Event e;

    while (sim.heap->len && at(0)->when <= until) {
        e = pop();
        sim.now = MAX(sim.now, e.when);
        n = node(e.node);
        if (n->fabric && !e.data && sim_ms() >= n->timer) {
            n->timer = INT64_MAX;
            qdes_fabric_tick(n->fabric, sim_ms());
        } else if (n->fabric && e.data) {
            sim.reading = &e;
            qdes_fabric_ready(n->fabric, e.by_group ? GROUP_FD(e.node)
                                                    : UNICAST_FD(e.node),
                              QDES_WATCH_READ, sim_ms());
            sim.reading = NULL;
        } else if (n->extra && e.data) {
            sim.take(n, &e);
        } else if (n->extra) {
            sim.tend(n, e.about);
        }
        g_free(e.data);
    }
    sim.now = until;
}

unsigned n_known(const Node *n)
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

bool all_know(unsigned others)
{
    guint i;

    for (i = 0; i < sim.nodes->len; i++) {
        if (node(i)->fabric && n_known(node(i)) != others) {
            return false;
        }
    }
    return true;
}

unsigned copies(const Node *n)
{
    return qdes_peers_copies(n->fabric->peers);
}

int64_t wait_known(unsigned others, int64_t limit)
{
    int64_t start_at = sim.now;

    while (!all_know(others)) {
        if (sim.now - start_at > limit) {
            return -1;
        }
        sim_run(sim.now + SECOND / 10);
    }
    return sim.now - start_at;
}

int64_t interval_us(unsigned n)
{
    return CLAMP((int64_t)n * 50, QDES_HELLO_MS, 200000) * 1000;
}

void start_all(unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++) {
        add_node();
    }
    start_node(node(0), NULL);
    for (i = 1; i < n; i++) {
        sim_run(sim.now + SECOND / n);
        start_node(node(i), node(0));
    }
}
