/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Status: the text for people. */

#include "qdes/status.h"

#include <inttypes.h>

void qdes_status_free(QdesStatus *status)
{
    size_t i;

    if (status) {
        for (i = 0; i < status->n_seeds; i++) {
            g_free(status->seeds[i].spec);
            g_free(status->seeds[i].error);
            g_free(status->seeds[i].addresses);
        }
        if (status->portsec) {
            g_free(status->portsec->macs);
            g_free(status->portsec);
        }
        g_free(status->seeds);
        g_free(status->missed);
        g_free(status->peers);
        g_free(status->fdb);
        g_free(status);
    }
}

const char *qdes_status_peer_state(const QdesStatusPeer *peer)
{
    return peer->hello ? "alive" : "heard";
}

static void add_head(GString *text, const QdesStatus *s, const char *indent)
{
    char addr[QDES_ADDR_STRLEN];

    g_string_append_printf(text, "%sname %s, netid %" G_GUINT32_FORMAT
                           ", encapsulation %s, link %s%s\n", indent,
                           *s->name ? s->name : "-", s->netid, s->encap,
                           s->link_up ? "up" : "down",
                           s->paused ? ", waiting for the port" : "");
    if (s->has_group) {
        g_string_append_printf(text, "%sgroup %s on %s%s\n", indent,
                               qdes_addr_format(&s->group, addr),
                               *s->iface ? s->iface : "no interface",
                               s->loopback ?
                               " (no route: this host only)" : "");
    } else {
        g_string_append_printf(text, "%sno group\n", indent);
    }
    g_string_append_printf(text, "%slocal %s\n", indent,
                           qdes_addr_format(&s->local, addr));
    g_string_append_printf(text, "%svnet-hdr %s, gso %s\n", indent,
                           s->vnet_hdr ? "on" : "off", s->gso ? "on" : "off");
}

static void add_seal(GString *text, const QdesStatusSeal *s,
                     const char *indent)
{
    if (!s->sealed) {
        return;
    }
    g_string_append_printf(text, "%ssealed by %s, key %08" PRIx32, indent,
                           s->cipher, s->key_id);
    if (s->changing) {
        g_string_append_printf(text, ", old key %08" PRIx32 "%s",
                               s->old_key_id, s->flooding_old ?
                               " (floods go by it)" : "");
    }
    g_string_append_printf(text, "; sessions %" G_GUINT32_FORMAT, s->sessions);
    if (s->pending) {
        g_string_append_printf(text, ", %" G_GUINT32_FORMAT " not accepted",
                               s->pending);
    }
    g_string_append_c(text, '\n');
}

static void add_seeds(GString *text, const QdesStatus *s, const char *indent)
{
    const QdesStatusSeed *seed;
    char addr[QDES_ADDR_STRLEN];
    size_t i, j;

    if (s->n_seeds) {
        g_string_append_printf(text, "%slisted peers: %zu\n", indent,
                               s->n_seeds);
    }
    for (i = 0; i < s->n_seeds; i++) {
        seed = &s->seeds[i];
        g_string_append_printf(text, "%s  %s %s for %.1f s%s%s, %zu addresses",
                               indent, seed->spec, seed->state,
                               seed->since_ms / 1000.0,
                               seed->error ? ": " : "",
                               seed->error ? seed->error : "",
                               seed->n_addresses);
        if (seed->left_out) {
            g_string_append_printf(text, " (%" G_GUINT32_FORMAT " more are "
                                   "too many)", seed->left_out);
        }
        g_string_append_c(text, '\n');
        for (j = 0; j < seed->n_addresses; j++) {
            g_string_append_printf(text, "%s    %s\n", indent,
                                   qdes_addr_format(&seed->addresses[j],
                                                    addr));
        }
    }
}

static void add_loop(GString *text, const QdesStatus *s, const char *indent)
{
    char addr[QDES_ADDR_STRLEN];

    if (s->blocked_by_loop) {
        g_string_append_printf(text, "%sBLOCKED BY A LOOP: %s (%s) is on the "
                               "same LAN\n", indent, s->loop_name,
                               qdes_addr_format(&s->loop_addr, addr));
    }
}

static void add_portsec(GString *text, const QdesStatus *s, const char *indent)
{
    const QdesStatusPortsec *portsec = s->portsec;
    char mac[QDES_MAC_STRLEN];
    size_t i;

    if (!portsec) {
        return;
    }
    g_string_append_printf(text, "%sport security: %" G_GUINT32_FORMAT " of %"
                           G_GUINT32_FORMAT " MAC addresses here, others: "
                           "%s\n", indent, portsec->local_macs,
                           portsec->max_local_macs, portsec->violation);
    for (i = 0; i < portsec->n_macs; i++) {
        g_string_append_printf(text, "%s  %s listed\n", indent,
                               qdes_mac_format(portsec->macs[i], mac));
    }
}

static void add_peers(GString *text, const QdesStatus *s, const char *indent)
{
    const QdesStatusPeer *peer;
    char addr[QDES_ADDR_STRLEN];
    size_t i;

    g_string_append_printf(text, "%speers: %zu\n", indent, s->n_peers);
    for (i = 0; i < s->n_peers; i++) {
        peer = &s->peers[i];
        g_string_append_printf(text, "%s  %-24s %-28s %-5s heard %.1f s ago, "
                               "%" G_GUINT32_FORMAT " MACs", indent,
                               *peer->name ? peer->name : "-",
                               qdes_addr_format(&peer->address, addr),
                               qdes_status_peer_state(peer),
                               peer->last_heard_ms / 1000.0, peer->macs);
        g_string_append(text, peer->copy ? ", gets copies" :
                        peer->by_group ? ", by group" : "");
        if (!peer->proven) {
            g_string_append(text, ", not proven");
        }
        if (peer->rtt_us) {
            g_string_append_printf(text, ", RTT %.1f ms",
                                   peer->rtt_us / 1000.0);
        }
        if (peer->echo_lost) {
            g_string_append_printf(text, ", %" G_GUINT32_FORMAT " of %"
                                   G_GUINT32_FORMAT " echoes lost",
                                   peer->echo_lost, peer->echo_sent);
        }
        g_string_append(text, peer->seed ? ", listed\n" : "\n");
    }
}

static void add_relaying(GString *text, const QdesStatus *s,
                         const char *indent)
{
    char addr[QDES_ADDR_STRLEN];
    size_t i;

    if (s->relay) {
        g_string_append_printf(text, "%srelay for %" G_GUINT32_FORMAT
                               " wishes of peers\n", indent, s->relay_pairs);
    }
    if (s->n_missed) {
        g_string_append_printf(text, "%sout of reach: %zu\n", indent,
                               s->n_missed);
    }
    for (i = 0; i < s->n_missed; i++) {
        g_string_append_printf(text, "%s  %016" G_GINT64_MODIFIER "x at %s, ",
                               indent, s->missed[i].instance,
                               qdes_addr_format(&s->missed[i].address, addr));
        g_string_append_printf(text, "%s%s\n", s->missed[i].relayed ?
                               "relayed by " : "no relay knows it",
                               s->missed[i].relayed ?
                               qdes_addr_format(&s->missed[i].relay, addr) :
                               "");
    }
}

static void add_fdb(GString *text, const QdesStatus *s, const char *indent)
{
    const QdesStatusMac *entry;
    char addr[QDES_ADDR_STRLEN];
    char mac[QDES_MAC_STRLEN];
    size_t i;

    g_string_append_printf(text, "%sFDB: %zu MAC addresses\n", indent,
                           s->n_macs);
    for (i = 0; i < s->n_macs; i++) {
        entry = &s->fdb[i];
        g_string_append_printf(text, "%s  %s at %-28s ", indent,
                               qdes_mac_format(entry->mac, mac),
                               entry->local ? "this port" :
                               qdes_addr_format(&entry->peer, addr));
        if (entry->fixed) {
            g_string_append(text, "static\n");
        } else {
            g_string_append_printf(text, "age %.1f s, %" G_GUINT32_FORMAT
                                   " moves\n", entry->age_ms / 1000.0,
                                   entry->moves);
        }
    }
}

char *qdes_status_text(const QdesStatus *s, const char *indent)
{
    GString *text = g_string_new(NULL);
    int i;

    add_head(text, s, indent);
    add_seal(text, &s->seal, indent);
    add_loop(text, s, indent);
    add_portsec(text, s, indent);
    add_seeds(text, s, indent);
    add_peers(text, s, indent);
    add_relaying(text, s, indent);
    add_fdb(text, s, indent);
    g_string_append_printf(text, "%scounters:\n", indent);
    for (i = 0; i < QDES_COUNTER__MAX; i++) {
        if (s->counters.value[i]) {
            g_string_append_printf(text, "%s  %-20s %" G_GUINT64_FORMAT "\n",
                                   indent, qdes_counter_name(i),
                                   s->counters.value[i]);
        }
    }
    return g_string_free(text, false);
}
