/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The network of simulated fabrics, and the underlay that is put onto it. */

#include "mesh-sim.h"
#include "../lib/underlay-calls.h"

#include <errno.h>
#include <inttypes.h>

guint hash_addr(gconstpointer key)
{
    return qdes_addr_hash(key, 1);
}

gboolean same_addr(gconstpointer a, gconstpointer b)
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
    sim_push(e);
}

static void count_sent(Node *n, size_t size)
{
    n->sent++;
    n->sent_bytes += size;
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

int transmit(Node *n, const QdesAddr *to, const void *data, size_t size)
{
    const QdesAddr *seen;
    Node *other;
    guint i;

    if (!to) {
        if (!n->island) {
            return -ENODEV;
        }
        count_sent(n, size);
        for (i = 0; i < sim.nodes->len; i++) {
            if (i != n->index && node(i)->fabric &&
                node(i)->island == n->island) {
                deliver_to(node(i), &n->addr, data, size, true);
            }
        }
        return 0;
    }
    count_sent(n, size);
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
