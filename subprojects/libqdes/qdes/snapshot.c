/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Taking a snapshot for status. */

#include "qdes/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "qdes/encap.h"

static int compare_peers(const void *a, const void *b)
{
    const QdesStatusPeer *x = a;
    const QdesStatusPeer *y = b;
    int diff = strcmp(x->name, y->name);

    if (!diff) {
        diff = memcmp(x->address.ip, y->address.ip, sizeof(x->address.ip));
    }
    return diff ? diff : x->address.port - y->address.port;
}

static int compare_macs(const void *a, const void *b)
{
    return memcmp(((const QdesStatusMac *)a)->mac,
                  ((const QdesStatusMac *)b)->mac, QDES_MAC_SIZE);
}

static void copy_peers(QdesStatus *status, const QdesPeers *peers,
                       const QdesFdb *fdb, bool group, int64_t now)
{
    uint32_t slot = QDES_PEER_NONE;
    const QdesPeer *peer;
    QdesStatusPeer *out;

    status->peers = g_new0(QdesStatusPeer, qdes_peers_size(peers));
    while ((slot = qdes_peers_next(peers, slot)) != QDES_PEER_NONE) {
        peer = qdes_peers_get(peers, slot);
        out = &status->peers[status->n_peers++];
        g_strlcpy(out->name, peer->name, sizeof(out->name));
        out->address = peer->addr;
        out->hello = peer->alive;
        out->last_heard_ms = now - peer->heard;
        out->macs = qdes_fdb_owner_size(fdb, slot);
        out->seed = peer->seed;
        out->proven = peer->proven;
        out->by_group = group && qdes_peers_is_reached(peers, slot, now);
        out->copy = peer->copy;
        out->rtt_us = peer->rtt_us;
        out->rtt_var_us = peer->rtt_var_us;
        out->echo_sent = peer->echo_sent;
        out->echo_lost = peer->echo_lost;
    }
    /* An empty table has no array, which qsort() would have to be given. */
    if (status->n_peers) {
        qsort(status->peers, status->n_peers, sizeof(*status->peers),
              compare_peers);
    }
}

typedef struct CopyEntry {
    QdesStatus *status;
    const QdesPeers *peers;
    int64_t now;
} CopyEntry;

static void copy_entry(const QdesFdbEntry *entry, void *opaque)
{
    CopyEntry *copy = opaque;
    QdesStatusMac *mac = &copy->status->fdb[copy->status->n_macs++];

    memcpy(mac->mac, entry->mac, sizeof(mac->mac));
    mac->local = entry->owner == QDES_FDB_LOCAL;
    if (!mac->local) {
        mac->peer = qdes_peers_get(copy->peers, entry->owner)->addr;
    }
    mac->age_ms = copy->now - entry->heard;
    mac->moves = entry->moves;
}

static void copy_static(QdesStatus *status, const QdesStatic *entry)
{
    QdesStatusMac *mac = &status->fdb[status->n_macs++];

    memcpy(mac->mac, entry->mac, sizeof(mac->mac));
    mac->fixed = true;
    mac->local = entry->local;
    mac->peer = entry->peer;
}

static void copy_fdb(QdesStatus *status, const QdesPeers *peers,
                     const QdesFdb *fdb, const QdesStatics *statics,
                     int64_t now)
{
    CopyEntry copy = { .status = status, .peers = peers, .now = now };
    unsigned i;

    status->fdb = g_new0(QdesStatusMac, qdes_fdb_size(fdb) + statics->size);
    qdes_fdb_foreach(fdb, now, copy_entry, &copy);
    for (i = 0; i < statics->size; i++) {
        copy_static(status, &statics->entries[i]);
    }
    if (status->n_macs) {
        qsort(status->fdb, status->n_macs, sizeof(*status->fdb),
              compare_macs);
    }
}

static void add_totals(QdesStats *stats, const QdesFdbTotals *totals)
{
    QDES_COUNT_ADD(stats, fdb_learned, totals->learned);
    QDES_COUNT_ADD(stats, fdb_moved, totals->moved);
    QDES_COUNT_ADD(stats, fdb_aged, totals->aged);
    QDES_COUNT_ADD(stats, fdb_evicted, totals->evicted);
    QDES_COUNT_ADD(stats, fdb_flushed, totals->flushed);
}

void qdes_status_add_seeds(QdesStatus *status, const QdesSeeds *seeds,
                           int64_t now)
{
    static const char *const states[] = {
        [QDES_SEED_PENDING] = "pending",
        [QDES_SEED_RESOLVED] = "resolved",
        [QDES_SEED_FAILING] = "failing",
    };
    QdesStatusSeed *out;
    QdesSeedInfo info;
    size_t i;

    status->n_seeds = qdes_seeds_size(seeds);
    status->seeds = g_new0(QdesStatusSeed, status->n_seeds);
    for (i = 0; i < status->n_seeds; i++) {
        out = &status->seeds[i];
        qdes_seeds_info(seeds, i, &info);
        out->spec = g_strdup(info.spec);
        out->state = states[info.state];
        out->error = g_strdup(info.error);
        out->since_ms = now - info.since;
        out->left_out = info.left_out;
        out->addresses = g_new(QdesAddr, info.n_endpoints);
        while (out->n_addresses < info.n_endpoints) {
            out->addresses[out->n_addresses] =
                qdes_seeds_endpoint(seeds, i, out->n_addresses);
            out->n_addresses++;
        }
    }
}

void qdes_status_add_missed(QdesStatus *status, const QdesDetours *detours,
                            const QdesPeers *peers)
{
    const QdesDetour *detour;
    QdesStatusMissed *out;
    uint32_t slot;
    unsigned i;

    status->missed = g_new0(QdesStatusMissed, detours->n);
    for (i = 0; i < detours->n; i++) {
        detour = &detours->all[i];
        out = &status->missed[status->n_missed++];
        out->instance = detour->instance;
        out->address = detour->addr;
        slot = qdes_peers_find_instance(peers, detour->relay);
        out->relayed = detour->relay && slot != QDES_PEER_NONE;
        if (out->relayed) {
            out->relay = qdes_peers_get(peers, slot)->addr;
        }
    }
}

void qdes_status_add_portsec(QdesStatus *status, const QdesPortsec *portsec,
                             bool learn_none, int64_t now)
{
    QdesStatusPortsec *out = g_new0(QdesStatusPortsec, 1);
    size_t i;

    out->n_macs = qdes_portsec_n_listed(portsec);
    out->macs = g_malloc_n(out->n_macs, sizeof(*out->macs));
    for (i = 0; i < out->n_macs; i++) {
        memcpy(out->macs[i], qdes_portsec_listed(portsec, i),
               sizeof(out->macs[i]));
    }
    out->max_local_macs = qdes_portsec_max(portsec);
    out->local_macs = qdes_portsec_size(portsec, now);
    out->violation = learn_none ? "learn-none" : "drop";
    status->portsec = out;
}

QdesStatus *qdes_status_new(const QdesConfig *config, QdesUnderlay *underlay,
                            const QdesPeers *peers, const QdesFdb *fdb,
                            const QdesStatics *statics,
                            const QdesStats *stats, int64_t now)
{
    const QdesNetif *netif = qdes_underlay_netif(underlay);
    QdesStatus *status = g_new0(QdesStatus, 1);

    g_strlcpy(status->name, config->name, sizeof(status->name));
    status->netid = config->netid;
    status->encap = config->encap->name;
    status->local = qdes_underlay_local(underlay);
    status->has_group = config->has_group;
    status->group = config->group;
    g_strlcpy(status->iface, netif->name, sizeof(status->iface));
    status->loopback = netif->fallback;
    copy_peers(status, peers, fdb, config->has_group && netif->index != 0,
               now);
    copy_fdb(status, peers, fdb, statics, now);
    status->counters = *stats;
    add_totals(&status->counters, qdes_fdb_totals(fdb));
    QDES_COUNT_ADD(&status->counters, rx_drop_kernel,
                   qdes_underlay_drops(underlay));
    return status;
}
