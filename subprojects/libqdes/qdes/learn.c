/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Learning who has which MAC address, and noticing that two have one. */

#include "qdes/fabric-private.h"

#include "qdes/eth.h"

/* The address @mac of this side was heard from @slot, and is here again. */
static void check_duplicate(QdesFabric *f, const uint8_t *mac,
                            uint32_t slot, int64_t now)
{
    unsigned claims = qdes_claims_count(&f->claims, mac, now);
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);
    char addr[QDES_ADDR_STRLEN];
    char text[QDES_MAC_STRLEN];

    if (claims > 0) {
        QDES_COUNT(&f->stats, mac_duplicate);
    }
    if (claims > 1 && qdes_fabric_first(f, QDES_SAID_DUPLICATE)) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "duplicate MAC address %s: used here and by the peer "
                        "%s (%s); give each guest an address of its own, or "
                        "end the loop, if both ports are on one LAN",
                        qdes_mac_format(mac, text), peer->name,
                        qdes_addr_format(&peer->addr, addr));
    }
}

void qdes_fabric_learn(QdesFabric *f, const uint8_t *mac, uint32_t owner,
                       int64_t now)
{
    uint32_t old_owner = QDES_FDB_LOCAL;

    if (!f->config.learning || qdes_statics_find(f->statics, mac)) {
        return;
    }
    switch (qdes_fdb_learn(f->fdb, mac, owner, now, &old_owner)) {
    case QDES_FDB_REFRESHED:
        break;
    case QDES_FDB_LEARNED:
        qdes_fabric_arm(f, now + QDES_TICK_MS);
        break;
    case QDES_FDB_MOVED:
        if (old_owner == QDES_FDB_LOCAL) {
            qdes_claims_add(&f->claims, mac, now);
            qdes_fabric_suspect(f, now);
        } else if (owner == QDES_FDB_LOCAL) {
            check_duplicate(f, mac, old_owner, now);
        }
        break;
    }
}
