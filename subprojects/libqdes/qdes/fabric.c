/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The fabric: one port of a distributed Ethernet switch. */

#include "qdes/fabric.h"

#include "qdes/fabric-private.h"
#include "qdes/snapshot.h"

#define SETTLE_MS 200           /* interfaces change in bursts: look once */

void qdes_fabric_say(QdesFabric *f, QdesLogLevel level,
                                    const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    f->host->log(f->opaque, level, text);
}

bool qdes_fabric_first(QdesFabric *f, QdesSaid what)
{
    bool is_first = !(f->said & what);

    f->said |= what;
    return is_first;
}

void qdes_fabric_say_of(QdesFabric *f, QdesSaid what, const QdesAddr *from,
                        const char *text)
{
    char addr[QDES_ADDR_STRLEN];

    if (qdes_fabric_first(f, what)) {
        qdes_fabric_say(f, QDES_LOG_WARNING, "%s %s",
                        qdes_addr_format(from, addr), text);
    }
}

void qdes_fabric_arm(QdesFabric *f, int64_t when)
{
    if (when < f->timer) {
        f->timer = when;
        f->host->set_timer(f->opaque, when);
    }
}

void qdes_fabric_watch(QdesFabric *f)
{
    int read = f->paused ? QDES_WATCH_NONE : QDES_WATCH_READ;
    int write = f->blocked ? QDES_WATCH_WRITE : QDES_WATCH_NONE;

    if (qdes_underlay_group_fd(f->underlay) >= 0) {
        f->host->watch(f->opaque, qdes_underlay_group_fd(f->underlay), read);
    }
    f->host->watch(f->opaque, qdes_underlay_unicast_fd(f->underlay),
                   read | write);
}

void qdes_fabric_ready(QdesFabric *f, int fd, int events, int64_t now)
{
    if (fd == qdes_underlay_monitor_fd(f->underlay)) {
        qdes_underlay_drain_monitor(f->underlay);
        f->refresh_at = MIN(f->refresh_at, now + SETTLE_MS);
        qdes_fabric_arm(f, f->refresh_at);
        return;
    }
    if (qdes_fabric_take_answers(f, fd, now)) {
        return;
    }
    if ((events & QDES_WATCH_READ) && !f->paused) {
        qdes_fabric_receive(f, fd, now);
    }
    if ((events & QDES_WATCH_WRITE) && f->blocked) {
        f->blocked = false;
        if (qdes_fabric_send_queue(f, now)) {
            qdes_fabric_watch(f);
            f->host->writable(f->opaque);
        }
    }
}

void qdes_fabric_resume(QdesFabric *f, int64_t now)
{
    if (f->paused) {
        f->paused = false;
        qdes_peers_excuse(f->peers, now - f->paused_at);
        qdes_fabric_work_off(f, now);
        qdes_fabric_watch(f);
    }
}

void qdes_fabric_set_port(QdesFabric *f, const QdesPort *port)
{
    bool csum = port->vnet_size && port->csum;
    QdesCoalesceFeatures features = {
        .tcp4 = csum && port->tso4,
        .tcp6 = csum && port->tso6,
        .udp4 = csum && port->uso4,
        .udp6 = csum && port->uso6,
        .ecn = csum && port->ecn,
    };

    f->port = (QdesPort) {
        .vnet_size = port->vnet_size,
        .vnet_big_endian = port->vnet_big_endian,
        .csum = csum,
        .tso4 = features.tcp4,
        .tso6 = features.tcp6,
        .uso4 = features.udp4,
        .uso6 = features.udp6,
        .ecn = features.ecn,
    };
    qdes_coalesce_set_features(f->rx.coalescer, &features);
}

bool qdes_fabric_has_batch(const QdesFabric *f)
{
    return !qdes_txq_is_empty(&f->tx.queue);
}

void qdes_fabric_flush(QdesFabric *f, int64_t now)
{
    if (!f->blocked) {
        qdes_fabric_send_queue(f, now);
    }
}

/* Life */

void qdes_fabric_tick(QdesFabric *f, int64_t now)
{
    f->timer = INT64_MAX;
    if (f->sealing) {
        qdes_sealing_tick(f, now);
    }
    if (now >= f->refresh_at) {
        qdes_fabric_refresh(f, now);
    }
    if (now >= f->next_hello) {
        qdes_fabric_refresh(f, now);
        qdes_fabric_say_hello(f, now);
    }
    if (!f->paused && now >= f->next_expiry) {
        qdes_fabric_expire(f, now);
    }
    qdes_fabric_tend_mesh(f, now);
    qdes_fdb_age(f->fdb, now);
    qdes_fabric_look_up_seeds(f, now);
    qdes_fabric_guard(f, now);

    qdes_fabric_arm(f, f->next_hello);
    qdes_fabric_arm(f, f->refresh_at);
    if (qdes_peers_size(f->peers) || qdes_fdb_size(f->fdb)) {
        qdes_fabric_arm(f, now + QDES_TICK_MS);
    }
}

void qdes_fabric_set_link(QdesFabric *f, bool up, int64_t now)
{
    if (up == f->link_up) {
        return;
    }
    if (!up) {
        qdes_fabric_send_queue(f, now);
        qdes_fabric_drop_queue(f);
        qdes_fabric_say_bye(f);
        if (f->portsec) {
            /* Something else may be plugged in next. */
            qdes_portsec_forget(f->portsec, NULL);
        }
    }
    f->link_up = up;
    if (up) {
        qdes_fabric_say_hello(f, now);
        qdes_fabric_hurry(f, now);
        qdes_fabric_suspect(f, now);
    } else {
        qdes_fabric_guard(f, now);
    }
    f->host->changed(f->opaque);
}

QdesFabric *qdes_fabric_new(const QdesConfig *config, const QdesHost *host,
                            void *opaque, int64_t now, GError **errp)
{
    QdesUnderlay *underlay = qdes_underlay_new(config, host, opaque, errp);
    QdesFabric *f;

    if (!underlay) {
        return NULL;
    }
    f = g_new0(QdesFabric, 1);
    f->config = *config;
    f->host = host;
    f->opaque = opaque;
    f->underlay = underlay;
    f->fdb = qdes_fdb_new(config->max_macs, QDES_MAX_PEERS + 1,
                          config->ageing_ms, host->random(opaque));
    f->peers = qdes_peers_new(QDES_MAX_PEERS, host->random(opaque));
    f->statics = qdes_statics_new(host->random(opaque));
    qdes_storm_init(&f->storm, config->storm, now);
    if (config->relay) {
        f->relay = qdes_relay_new(QDES_MAX_PEERS, host->random(opaque));
        qdes_storm_init(&f->relay_storm,
                        config->learning ? QDES_DEFAULT_STORM : 0, now);
    }
    qdes_fabric_secure_port(f, config);
    f->instance = host->random(opaque) | 1; /* 0 is no instance */
    f->link_up = true;
    f->timer = INT64_MAX;
    f->refresh_at = INT64_MAX;
    f->paths = 1;
    f->rx.coalescer = qdes_coalescer_new();
    if (!qdes_sealing_start(f, config, now, errp) ||
        !qdes_fabric_start_seeds(f, config, now, errp)) {
        f->link_up = false;     /* nobody has heard of it */
        qdes_fabric_free(f);
        return NULL;
    }

    qdes_fabric_report_group(f);
    if (qdes_config_is_exposed(config)) {
        qdes_fabric_say(f, QDES_LOG_NOTICE,
                        "this fabric is not sealed: whoever reaches it by "
                        "network can read it, join it and forge frames; netid "
                        "separates, and does not protect");
    }
    qdes_fabric_watch(f);
    if (qdes_underlay_monitor_fd(underlay) >= 0) {
        host->watch(opaque, qdes_underlay_monitor_fd(underlay),
                    QDES_WATCH_READ);
    }
    qdes_fabric_say_hello(f, now);
    qdes_fabric_start_mesh(f, now);
    qdes_fabric_guard_init(f, now);
    return f;
}

void qdes_fabric_free(QdesFabric *f)
{
    int monitor_fd;

    if (!f) {
        return;
    }
    if (f->link_up) {
        qdes_fabric_send_queue(f, 0);
        qdes_fabric_say_bye(f);
    }
    if (qdes_underlay_group_fd(f->underlay) >= 0) {
        f->host->watch(f->opaque, qdes_underlay_group_fd(f->underlay),
                       QDES_WATCH_NONE);
    }
    f->host->watch(f->opaque, qdes_underlay_unicast_fd(f->underlay),
                   QDES_WATCH_NONE);
    monitor_fd = qdes_underlay_monitor_fd(f->underlay);
    if (monitor_fd >= 0) {
        f->host->watch(f->opaque, monitor_fd, QDES_WATCH_NONE);
    }
    qdes_fabric_stop_mesh(f);
    qdes_fabric_stop_seeds(f);
    qdes_sealing_stop(f);
    qdes_underlay_free(f->underlay);
    qdes_coalescer_free(f->rx.coalescer);
    qdes_relay_free(f->relay);
    qdes_peers_free(f->peers);
    qdes_statics_free(f->statics);
    qdes_portsec_free(f->portsec);
    qdes_fdb_free(f->fdb);
    g_free(f);
}

/* Status */

char *qdes_fabric_summary(const QdesFabric *f)
{
    const QdesNetif *netif = qdes_underlay_netif(f->underlay);
    QdesAddr local = qdes_underlay_local(f->underlay);
    char group[QDES_ADDR_STRLEN];
    char from[QDES_ADDR_STRLEN];

    if (!f->config.has_group) {
        return g_strdup_printf("%s: netid=%u, no group, local %s%s%s",
                               f->config.encap->name, f->config.netid,
                               qdes_addr_format(&local, from),
                               f->link_up ? "" : ", link down",
                               f->loop.blocked ? ", blocked by a loop" : "");
    }
    return g_strdup_printf("%s: netid=%u, group %s on %s, local %s%s%s",
                           f->config.encap->name, f->config.netid,
                           qdes_addr_format(&f->config.group, group),
                           netif->index ? netif->name : "no interface",
                           qdes_addr_format(&local, from),
                           f->link_up ? "" : ", link down",
                           f->loop.blocked ? ", blocked by a loop" : "");
}

QdesStatus *qdes_fabric_status(const QdesFabric *f, int64_t now)
{
    QdesStatus *status = qdes_status_new(&f->config, f->underlay, f->peers,
                                         f->fdb, f->statics, &f->stats,
                                         now);

    qdes_status_add_seeds(status, f->seeds, now);
    qdes_sealing_status(f, &status->seal);
    qdes_status_add_missed(status, &f->detours, f->peers);
    status->relay = f->relay != NULL;
    status->relay_pairs = f->relay ? qdes_relay_size(f->relay) : 0;
    status->link_up = f->link_up;
    status->paused = f->paused;
    status->vnet_hdr = f->port.vnet_size > 0;
    status->blocked_by_loop = f->loop.blocked;
    g_strlcpy(status->loop_name, f->loop.name, sizeof(status->loop_name));
    status->loop_addr = f->loop.addr;
    status->gso = qdes_underlay_segments(f->underlay);
    if (f->portsec) {
        qdes_status_add_portsec(status, f->portsec, f->config.learn_none,
                                now);
    }
    return status;
}
