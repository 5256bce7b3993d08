/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The FDB as users change it: static entries, flushing. */

#include "qdes/fabric-private.h"

#define FDB_ERROR(errp, ...) \
    g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION, __VA_ARGS__)

static bool parse_mac(uint8_t mac[QDES_MAC_SIZE], const char *text,
                      GError **errp)
{
    if (!qdes_mac_parse(mac, text)) {
        FDB_ERROR(errp, "mac=%s: not a MAC address; give one like "
                  "52:54:00:12:34:56", text);
        return false;
    }
    if (!qdes_mac_is_source(mac)) {
        FDB_ERROR(errp, "mac=%s: nobody can have this address; give that of "
                  "one network card, neither a group's nor zero", text);
        return false;
    }
    return true;
}

static bool parse_peer(QdesAddr *peer, const char *text, GError **errp)
{
    g_autoptr(GError) err = NULL;

    if (!qdes_addr_parse(peer, text, 0, &err)) {
        FDB_ERROR(errp, "peer=%s: %s", text, err->message);
        return false;
    }
    if (!peer->port || !qdes_seed_is_host(peer)) {
        FDB_ERROR(errp, "peer=%s: not the endpoint of one peer; give its "
                  "address and port as status shows them, such as "
                  "192.0.2.1:20804", text);
        return false;
    }
    return true;
}

bool qdes_fabric_add_fdb(QdesFabric *f, const char *mac, const char *peer,
                         GError **errp)
{
    QdesStatic entry = { .local = !peer };

    if (!parse_mac(entry.mac, mac, errp) ||
        (peer && !parse_peer(&entry.peer, peer, errp))) {
        return false;
    }
    if (peer && f->portsec && qdes_portsec_lists(f->portsec, entry.mac)) {
        FDB_ERROR(errp, "mac=%s: the port was opened with this MAC address as "
                  "one of its own; leave peer out, or open it without", mac);
        return false;
    }
    if (peer && qdes_underlay_is_own(f->underlay, &entry.peer)) {
        FDB_ERROR(errp, "peer=%s: this is the port itself; leave peer out for "
                  "a MAC address on this side", peer);
        return false;
    }
    if (!qdes_statics_put(f->statics, &entry)) {
        FDB_ERROR(errp, "mac=%s: there are %d static entries already, which "
                  "is the limit; delete some", mac, QDES_STATICS_MAX);
        return false;
    }
    qdes_fdb_flush_mac(f->fdb, entry.mac);
    return true;
}

bool qdes_fabric_del_fdb(QdesFabric *f, const char *mac, GError **errp)
{
    uint8_t bytes[QDES_MAC_SIZE];

    if (!parse_mac(bytes, mac, errp)) {
        return false;
    }
    if (!qdes_statics_remove(f->statics, bytes)) {
        FDB_ERROR(errp, "mac=%s: there is no such static entry; what was "
                  "learned is flushed, not deleted", mac);
        return false;
    }
    return true;
}

bool qdes_fabric_flush_fdb(QdesFabric *f, const QdesFlush *what, size_t *n,
                           GError **errp)
{
    uint8_t mac[QDES_MAC_SIZE];
    QdesAddr peer;
    uint32_t slot;

    *n = 0;
    if (what->mac && what->peer) {
        FDB_ERROR(errp, "mac=%s, peer=%s: give one of the two", what->mac,
                  what->peer);
        return false;
    }
    if (what->mac) {
        if (!parse_mac(mac, what->mac, errp)) {
            return false;
        }
        *n = qdes_fdb_flush_mac(f->fdb, mac);
        if (f->portsec) {
            qdes_portsec_forget(f->portsec, mac);
        }
        if (what->statics) {
            *n += qdes_statics_remove(f->statics, mac);
        }
        return true;
    }
    if (what->peer) {
        if (!parse_peer(&peer, what->peer, errp)) {
            return false;
        }
        slot = qdes_peers_find(f->peers, &peer);
        if (slot != QDES_PEER_NONE) {
            *n = qdes_fdb_flush_owner(f->fdb, slot);
        }
    } else {
        *n = qdes_fdb_flush(f->fdb);
        if (f->portsec) {
            qdes_portsec_forget(f->portsec, NULL);
        }
    }
    if (what->statics) {
        *n += qdes_statics_flush(f->statics, what->peer ? &peer : NULL);
    }
    return true;
}
