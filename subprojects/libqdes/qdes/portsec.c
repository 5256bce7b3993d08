/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Port security: the listed addresses are a sorted array; those that were
 * heard are in an FDB of one owner, which is kept from ever being full, so
 * that nothing gives way in it.
 */

#include "qdes/portsec.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "qdes/fdb.h"

typedef struct Listed {
    uint8_t mac[QDES_MAC_SIZE];
    bool here;                  /* heard here since a peer claimed it */
} Listed;

struct QdesPortsec {
    Listed *listed;
    unsigned n_listed;
    uint32_t max_heard;
    QdesFdb *heard;             /* NULL: there is no room for any */
};

static int compare(const void *a, const void *b)
{
    return memcmp(((const Listed *)a)->mac, ((const Listed *)b)->mac,
                  QDES_MAC_SIZE);
}

static Listed *find(const QdesPortsec *ps, const uint8_t *mac)
{
    Listed key;

    if (!ps->n_listed) {
        return NULL;
    }
    memcpy(key.mac, mac, QDES_MAC_SIZE);
    return bsearch(&key, ps->listed, ps->n_listed, sizeof(key), compare);
}

QdesPortsec *qdes_portsec_new(const uint8_t (*listed)[QDES_MAC_SIZE],
                              unsigned n, uint32_t max, int64_t ageing_ms,
                              uint64_t seed)
{
    QdesPortsec *ps = g_new0(QdesPortsec, 1);
    unsigned i;

    g_assert(n <= QDES_PORTSEC_LISTED && max <= QDES_PORTSEC_MAX);
    ps->listed = g_new0(Listed, n);
    for (i = 0; i < n; i++) {
        memcpy(ps->listed[i].mac, listed[i], QDES_MAC_SIZE);
    }
    if (n) {
        qsort(ps->listed, n, sizeof(*ps->listed), compare);
    }
    for (i = 0; i < n; i++) {
        if (!i || compare(&ps->listed[i - 1], &ps->listed[i]) != 0) {
            ps->listed[ps->n_listed++] = ps->listed[i];
        }
    }
    if (max > ps->n_listed) {
        ps->max_heard = max - ps->n_listed;
        /* One owner has no more than half of an FDB. */
        ps->heard = qdes_fdb_new(2 * ps->max_heard, 1, ageing_ms, seed);
    }
    return ps;
}

void qdes_portsec_free(QdesPortsec *ps)
{
    if (ps) {
        qdes_fdb_free(ps->heard);
        g_free(ps->listed);
        g_free(ps);
    }
}

QdesPortsecVerdict qdes_portsec_check(QdesPortsec *ps,
                                      const uint8_t mac[QDES_MAC_SIZE],
                                      int64_t now)
{
    Listed *entry = find(ps, mac);
    uint32_t old_owner;

    if (entry) {
        if (entry->here) {
            return QDES_PORTSEC_ALLOWED;
        }
        entry->here = true;
        return QDES_PORTSEC_BACK;
    }
    if (!ps->heard || !qdes_mac_is_source(mac)) {
        return QDES_PORTSEC_VIOLATION;
    }
    if (qdes_fdb_size(ps->heard) >= ps->max_heard &&
        !qdes_fdb_lookup(ps->heard, mac, now)) {
        qdes_fdb_age(ps->heard, now);
        if (qdes_fdb_size(ps->heard) >= ps->max_heard) {
            return QDES_PORTSEC_VIOLATION;
        }
    }
    qdes_fdb_learn(ps->heard, mac, 0, now, &old_owner);
    return QDES_PORTSEC_ALLOWED;
}

QdesPortsecClaim qdes_portsec_claim(QdesPortsec *ps,
                                    const uint8_t mac[QDES_MAC_SIZE])
{
    Listed *entry = find(ps, mac);

    if (!entry) {
        return QDES_PORTSEC_FREE;
    }
    if (!entry->here) {
        return QDES_PORTSEC_SPOOFED;
    }
    entry->here = false;
    return QDES_PORTSEC_CONTESTED;
}

bool qdes_portsec_lists(const QdesPortsec *ps,
                        const uint8_t mac[QDES_MAC_SIZE])
{
    return find(ps, mac) != NULL;
}

void qdes_portsec_forget(QdesPortsec *ps, const uint8_t mac[QDES_MAC_SIZE])
{
    if (!ps->heard) {
        return;
    }
    if (mac) {
        qdes_fdb_flush_mac(ps->heard, mac);
    } else {
        qdes_fdb_flush(ps->heard);
    }
}

uint32_t qdes_portsec_max(const QdesPortsec *ps)
{
    return ps->n_listed + ps->max_heard;
}

static void count(const QdesFdbEntry *entry G_GNUC_UNUSED, void *opaque)
{
    ++*(uint32_t *)opaque;
}

uint32_t qdes_portsec_size(const QdesPortsec *ps, int64_t now)
{
    uint32_t n = ps->n_listed;

    if (ps->heard) {
        qdes_fdb_foreach(ps->heard, now, count, &n);
    }
    return n;
}

unsigned qdes_portsec_n_listed(const QdesPortsec *ps)
{
    return ps->n_listed;
}

const uint8_t *qdes_portsec_listed(const QdesPortsec *ps, unsigned i)
{
    return ps->listed[i].mac;
}
