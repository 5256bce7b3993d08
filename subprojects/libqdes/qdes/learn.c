/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Learning who has which MAC address, noticing that two have one, and port
 * security, which says who may.
 */

#include "qdes/fabric-private.h"

#include "qdes/eth.h"

/*
 * The address @mac, which a peer may have claimed of late, is here again.
 * Returns whether two stations have it, and nobody was told yet.
 */
static bool is_duplicate(QdesFabric *f, const uint8_t *mac, int64_t now)
{
    unsigned claims = qdes_claims_count(&f->claims, mac, now);

    if (claims > 0) {
        QDES_COUNT(&f->stats, mac_duplicate);
    }
    return claims > 1 && qdes_fabric_first(f, QDES_SAID_DUPLICATE);
}

/* The address @mac of this side was heard from @slot, and is here again. */
static void check_duplicate(QdesFabric *f, const uint8_t *mac,
                            uint32_t slot, int64_t now)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);
    char addr[QDES_ADDR_STRLEN];
    char text[QDES_MAC_STRLEN];

    if (is_duplicate(f, mac, now)) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "duplicate MAC address %s: used here and by the peer "
                        "%s (%s); give each guest an address of its own, or "
                        "end the loop, if both ports are on one LAN",
                        qdes_mac_format(mac, text), peer->name,
                        qdes_addr_format(&peer->addr, addr));
    }
}

/* The listed address @mac was heard from the spoofer, and is here again. */
static void check_contest(QdesFabric *f, const uint8_t *mac, int64_t now)
{
    char addr[QDES_ADDR_STRLEN];
    char text[QDES_MAC_STRLEN];

    if (is_duplicate(f, mac, now)) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "duplicate MAC address %s: mac lists it as here, and "
                        "the peer at %s uses it, too; its frames are dropped "
                        "(rx-drop-spoofed). Give each guest an address of its "
                        "own, or end the loop, if both ports are on one LAN",
                        qdes_mac_format(mac, text),
                        qdes_addr_format(&f->spoofer, addr));
    }
}

static void say_violation(QdesFabric *f, const uint8_t *src)
{
    uint32_t max = qdes_portsec_max(f->portsec);
    char text[QDES_MAC_STRLEN];

    if (qdes_fabric_first(f, QDES_SAID_VIOLATION)) {
        qdes_fabric_say(f, QDES_LOG_WARNING,
                        "port security: the port sends from %s, and may from "
                        "%u other MAC address%s only (mac, max-local-macs); "
                        "such frames %s", qdes_mac_format(src, text), max,
                        max == 1 ? "" : "es", f->config.learn_none ?
                        "pass, and nothing is learned of them "
                        "(tx-unlearned)" : "are dropped (tx-drop-mac)");
    }
}

bool qdes_fabric_admits(QdesFabric *f, const uint8_t *src, int64_t now)
{
    switch (qdes_portsec_check(f->portsec, src, now)) {
    case QDES_PORTSEC_VIOLATION:
        say_violation(f, src);
        return false;
    case QDES_PORTSEC_BACK:
        check_contest(f, src, now);
        break;
    case QDES_PORTSEC_ALLOWED:
        break;
    }
    return true;
}

bool qdes_fabric_is_spoofed(QdesFabric *f, const uint8_t *src,
                            const QdesAddr *from, int64_t now)
{
    switch (qdes_portsec_claim(f->portsec, src)) {
    case QDES_PORTSEC_FREE:
        return false;
    case QDES_PORTSEC_SPOOFED:
        break;
    case QDES_PORTSEC_CONTESTED:
        f->spoofer = *from;
        qdes_claims_add(&f->claims, src, now);
        qdes_fabric_suspect(f, now);
        break;
    }
    return true;
}

void qdes_fabric_secure_port(QdesFabric *f, const QdesConfig *config)
{
    uint8_t (*macs)[QDES_MAC_SIZE];
    size_t i;

    if (!config->n_macs && !config->max_local_macs) {
        return;
    }
    macs = g_malloc_n(config->n_macs, sizeof(*macs));
    for (i = 0; i < config->n_macs; i++) {
        qdes_mac_parse(macs[i], config->macs[i]);
    }
    f->portsec = qdes_portsec_new((const uint8_t (*)[QDES_MAC_SIZE])macs,
                                  config->n_macs, config->max_local_macs,
                                  config->ageing_ms,
                                  f->host->random(f->opaque));
    g_free(macs);
    /* Theirs who called. */
    f->config.macs = NULL;
    f->config.n_macs = 0;
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
