/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * query-qdes and "info qdes", and the commands that change the FDB and the
 * list of peers
 *
 * The first two show the QdesStatus of each qdes netdev, the one in QAPI's
 * form, the other as libqdes writes it for people.  What changes
 * something is checked by libqdes, too.
 */

#include "qemu/osdep.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "net/qdes.h"
#include "net/qdes-compat.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-qdes.h"
#include "qapi/util.h"

/* Call @func with each qdes netdev and its status. */
static void net_qdes_foreach(void (*func)(NetClientState *nc,
                                          const QdesStatus *status,
                                          void *opaque),
                             void *opaque)
{
    int count = qemu_find_net_clients_except(NULL, NULL,
                                             NET_CLIENT_DRIVER_NIC, 0);
    g_autofree NetClientState **ncs = g_new(NetClientState *, count);
    int i;

    qemu_find_net_clients_except(NULL, ncs, NET_CLIENT_DRIVER_NIC, count);
    for (i = 0; i < count; i++) {
        QdesStatus *status = net_qdes_status(ncs[i]);

        if (status) {
            func(ncs[i], status, opaque);
            qdes_status_free(status);
        }
    }
}

static char *addr_str(const QdesAddr *addr)
{
    char buf[QDES_ADDR_STRLEN];

    return g_strdup(qdes_addr_format(addr, buf));
}

static QdesPeerInfoList *peers_info(const QdesStatus *status)
{
    QdesPeerInfoList *list = NULL, **tail = &list;
    size_t i;

    for (i = 0; i < status->n_peers; i++) {
        const QdesStatusPeer *peer = &status->peers[i];
        QdesPeerInfo *info = g_new0(QdesPeerInfo, 1);

        info->name = g_strdup(peer->name);
        info->address = addr_str(&peer->address);
        info->state = qapi_enum_parse(&QdesPeerState_lookup,
                                      qdes_status_peer_state(peer), -1,
                                      &error_abort);
        info->last_heard_ms = peer->last_heard_ms;
        info->macs = peer->macs;
        info->seed = peer->seed;
        info->proven = peer->proven;
        info->by_group = peer->by_group;
        info->copy = peer->copy;
        info->rtt_us = peer->rtt_us;
        info->rtt_var_us = peer->rtt_var_us;
        info->echo_sent = peer->echo_sent;
        info->echo_lost = peer->echo_lost;
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

static QdesListedPeerList *seeds_info(const QdesStatus *status)
{
    QdesListedPeerList *list = NULL, **tail = &list;
    size_t i, j;

    for (i = 0; i < status->n_seeds; i++) {
        const QdesStatusSeed *seed = &status->seeds[i];
        QdesListedPeer *info = g_new0(QdesListedPeer, 1);
        strList **addresses = &info->addresses;

        info->peer = g_strdup(seed->spec);
        info->state = qapi_enum_parse(&QdesListedState_lookup, seed->state, -1,
                                      &error_abort);
        if (seed->error) {
            QDES_QAPI_SET(info, error, g_strdup(seed->error));
        }
        info->since_ms = seed->since_ms;
        for (j = 0; j < seed->n_addresses; j++) {
            QAPI_LIST_APPEND(addresses, addr_str(&seed->addresses[j]));
        }
        info->left_out = seed->left_out;
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

static QdesSealInfo *seal_info(const QdesStatusSeal *seal)
{
    QdesSealInfo *info = g_new0(QdesSealInfo, 1);

    info->cipher = g_strdup(seal->cipher);
    info->key = g_strdup_printf("%08" PRIx32, seal->key_id);
    if (seal->changing) {
        QDES_QAPI_SET(info, old_key,
                          g_strdup_printf("%08" PRIx32, seal->old_key_id));
    }
    info->flooding_old = seal->flooding_old;
    info->sessions = seal->sessions;
    info->pending = seal->pending;
    return info;
}

static QdesUnreachableList *missed_info(const QdesStatus *status)
{
    QdesUnreachableList *list = NULL, **tail = &list;
    size_t i;

    for (i = 0; i < status->n_missed; i++) {
        const QdesStatusMissed *missed = &status->missed[i];
        QdesUnreachable *info = g_new0(QdesUnreachable, 1);

        info->instance = g_strdup_printf("%016" PRIx64, missed->instance);
        info->address = addr_str(&missed->address);
        if (missed->relayed) {
            QDES_QAPI_SET(info, relay, addr_str(&missed->relay));
        }
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

static QdesPortSecurity *portsec_info(const QdesStatusPortsec *portsec)
{
    QdesPortSecurity *info = g_new0(QdesPortSecurity, 1);
    strList **tail = &info->mac;
    char buf[QDES_MAC_STRLEN];
    size_t i;

    for (i = 0; i < portsec->n_macs; i++) {
        QAPI_LIST_APPEND(tail, g_strdup(qdes_mac_format(portsec->macs[i],
                                                        buf)));
    }
    info->max_local_macs = portsec->max_local_macs;
    info->local_macs = portsec->local_macs;
    info->mac_violation = qapi_enum_parse(&QdesMacViolation_lookup,
                                          portsec->violation, -1,
                                          &error_abort);
    return info;
}

static QdesMacInfoList *fdb_info(const QdesStatus *status)
{
    QdesMacInfoList *list = NULL, **tail = &list;
    size_t i;

    for (i = 0; i < status->n_macs; i++) {
        const QdesStatusMac *entry = &status->fdb[i];
        QdesMacInfo *info = g_new0(QdesMacInfo, 1);
        char buf[QDES_MAC_STRLEN];

        info->mac = g_strdup(qdes_mac_format(entry->mac, buf));
        info->local = entry->local;
        info->q_static = entry->fixed;
        if (!entry->local) {
            QDES_QAPI_SET(info, peer, addr_str(&entry->peer));
        }
        info->age_ms = entry->age_ms;
        info->moves = entry->moves;
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

static QdesCounters *counters_info(const QdesStats *stats)
{
    QdesCounters *info = g_new0(QdesCounters, 1);

#define QDES_COUNTER(name, group, help) \
    info->name = stats->value[QDES_COUNTER_##name];
#include "qdes/stats.def"
#undef QDES_COUNTER
    return info;
}

static void query_one(NetClientState *nc, const QdesStatus *status,
                      void *opaque)
{
    QdesInfoList ***tail = opaque;
    QdesInfo *info = g_new0(QdesInfo, 1);

    info->id = g_strdup(nc->name);
    info->name = g_strdup(status->name);
    info->netid = status->netid;
    info->encap = qapi_enum_parse(&QdesEncap_lookup, status->encap, -1,
                                  &error_abort);
    info->local = addr_str(&status->local);
    info->group = status->has_group ? addr_str(&status->group) : g_strdup("");
    info->iface = g_strdup(status->iface);
    info->loopback = status->loopback;
    info->link_up = status->link_up;
    info->paused = status->paused;
    info->vnet_hdr = status->vnet_hdr;
    info->gso = status->gso;
    if (status->blocked_by_loop) {
        QDES_QAPI_SET(info, blocked_by_loop,
                          g_strdup(status->loop_name));
    }
    if (status->seal.sealed) {
        QDES_QAPI_SET(info, seal, seal_info(&status->seal));
    }
    info->relay = status->relay;
    info->relay_pairs = status->relay_pairs;
    if (status->portsec) {
        QDES_QAPI_SET(info, port_security, portsec_info(status->portsec));
    }
    info->seeds = seeds_info(status);
    info->unreachable = missed_info(status);
    info->peers = peers_info(status);
    info->fdb = fdb_info(status);
    info->counters = counters_info(&status->counters);
    QAPI_LIST_APPEND(*tail, info);
}

QdesInfoList *qmp_query_qdes(Error **errp)
{
    QdesInfoList *list = NULL, **tail = &list;

    net_qdes_foreach(query_one, &tail);
    return list;
}

/* Pass on the error of libqdes. */
static void pass_error(Error **errp, GError *err)
{
    error_setg(errp, "%s", err->message);
    g_error_free(err);
}

void qmp_qdes_fdb_add(const char *id, const char *mac,
                      QDES_QAPI_OPTIONAL_STR(peer), Error **errp)
{
    QdesFabric *fabric = net_qdes_find(id, errp);
    GError *err = NULL;

    if (fabric && !qdes_fabric_add_fdb(fabric, mac, peer, &err)) {
        pass_error(errp, err);
    }
}

void qmp_qdes_fdb_del(const char *id, const char *mac, Error **errp)
{
    QdesFabric *fabric = net_qdes_find(id, errp);
    GError *err = NULL;

    if (fabric && !qdes_fabric_del_fdb(fabric, mac, &err)) {
        pass_error(errp, err);
    }
}

QdesFlushed *qmp_qdes_fdb_flush(const char *id, QDES_QAPI_OPTIONAL_STR(mac),
                                QDES_QAPI_OPTIONAL_STR(peer), bool has_static,
                                bool statics, Error **errp)
{
    QdesFabric *fabric = net_qdes_find(id, errp);
    QdesFlush what = {
        .mac = mac,
        .peer = peer,
        .statics = has_static && statics,
    };
    QdesFlushed *flushed;
    GError *err = NULL;
    size_t n;

    if (!fabric) {
        return NULL;
    }
    if (!qdes_fabric_flush_fdb(fabric, &what, &n, &err)) {
        pass_error(errp, err);
        return NULL;
    }
    flushed = g_new0(QdesFlushed, 1);
    flushed->flushed = n;
    return flushed;
}

void qmp_qdes_peer_add(const char *id, const char *peer, Error **errp)
{
    QdesFabric *fabric = net_qdes_find(id, errp);
    GError *err = NULL;

    if (fabric && !qdes_fabric_add_peer(fabric, peer, net_qdes_now(), &err)) {
        pass_error(errp, err);
    }
}

void qmp_qdes_peer_del(const char *id, const char *peer, Error **errp)
{
    QdesFabric *fabric = net_qdes_find(id, errp);
    GError *err = NULL;

    if (fabric && !qdes_fabric_del_peer(fabric, peer, net_qdes_now(), &err)) {
        pass_error(errp, err);
    }
}

void qmp_qdes_set_secret(const char *id, const char *secret,
                         QDES_QAPI_OPTIONAL_STR(secret_old), Error **errp)
{
    QdesFabric *fabric = net_qdes_find(id, errp);
    QdesSecret both[2] = { { .data = NULL }, { .data = NULL } };
    GError *err = NULL;

    if (fabric && net_qdes_get_secret(&both[0], "secret", secret, errp) &&
        net_qdes_get_secret(&both[1], "secret-old", secret_old, errp) &&
        !qdes_fabric_set_secrets(fabric, &both[0], &both[1], net_qdes_now(),
                                 &err)) {
        pass_error(errp, err);
    }
    net_qdes_free_secret(&both[0]);
    net_qdes_free_secret(&both[1]);
}

static void print_one(NetClientState *nc, const QdesStatus *status,
                      void *opaque)
{
    g_autofree char *text = qdes_status_text(status, "  ");

    monitor_printf(opaque, "%s:\n%s", nc->name, text);
}

void hmp_info_qdes(Monitor *mon, const QDict *qdict)
{
    net_qdes_foreach(print_one, mon);
}
