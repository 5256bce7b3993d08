/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Interfaces, addresses and routes come and go: the group is joined elsewhere,
 * and peers are told where this port is now.  Which interface it is to be is
 * netif.c's, the sockets are underlay.c's.
 */

#include "qdes/fabric-private.h"

#define REFRESH_AGAIN_MS 1000   /* when the system did not tell */

void qdes_fabric_report_group(QdesFabric *f)
{
    const QdesNetif *netif = qdes_underlay_netif(f->underlay);
    QdesAddr local = qdes_underlay_local(f->underlay);
    char group[QDES_ADDR_STRLEN];
    char from[QDES_ADDR_STRLEN];

    qdes_addr_format(&f->config.group, group);
    qdes_addr_format(&local, from);
    if (!f->config.has_group) {
        qdes_fabric_say(f, QDES_LOG_INFO, "no group; peers find this port at "
                        "%s", from);
    } else if (!netif->index) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "no interface can join the group %s now; waiting for "
                        "one%s",
                        group, qdes_addr_is_v4(&f->config.group) ? "" :
                        " (for peers on this host only, an IPv4 group needs "
                        "none)");
    } else if (netif->fallback) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "no route for the group %s: joined on %s, for peers "
                        "on this host only; add a route or give iface=",
                        group, netif->name);
    } else {
        qdes_fabric_say(f, QDES_LOG_INFO,
                        "joined the group %s on %s, from %s",
                        group, netif->name, from);
    }
}

/* Where an address cannot be sent from any more, let routes say. */
static void forget_from(QdesFabric *f)
{
    uint32_t slot = QDES_PEER_NONE;
    const QdesAddr *at;

    while ((slot = qdes_peers_next(f->peers, slot)) != QDES_PEER_NONE) {
        at = qdes_peers_at(f->peers, slot);
        if (at && !qdes_underlay_sends_from(f->underlay, at)) {
            qdes_peers_set_at(f->peers, slot, NULL, 0);
        }
    }
}

void qdes_fabric_refresh(QdesFabric *f, int64_t now)
{
    QdesRefresh result = qdes_underlay_refresh(f->underlay);

    f->refresh_at = INT64_MAX;
    f->paths++;
    if (result == QDES_REFRESH_SAME) {
        return;
    }
    if (result == QDES_REFRESH_UNKNOWN) {
        f->refresh_at = now + REFRESH_AGAIN_MS;
        qdes_fabric_arm(f, f->refresh_at);
        return;
    }
    qdes_fabric_rescope_seeds(f, now);
    forget_from(f);
    if (result == QDES_REFRESH_ELSEWHERE) {
        return;
    }
    if (result == QDES_REFRESH_JOINED) {
        QDES_COUNT(&f->stats, rejoined);
    }
    if (result != QDES_REFRESH_HOST) {
        qdes_fabric_report_group(f);
    }
    f->host->changed(f->opaque);
    qdes_fabric_say_hello(f, now);
    qdes_fabric_hurry(f, now);
}
