/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Probes: their layout, and the proof. */

#include "qdes/probe.h"

#include <gnutls/crypto.h>

#include "qdes/bytes.h"

#define ETHERTYPE 0x88b6        /* IEEE 802: local experiments, the second */
#define MAGIC 0x51444c50        /* "QDLP" */
#define VERSION 1
#define FLAG_ASKS 1

/* Offsets in the frame. */
enum {
    AT_TYPE = 12,
    AT_MAGIC = 14,
    AT_VERSION = 18,
    AT_FLAGS = 19,
    AT_NETID = 20,
    AT_NONCE = 24,
    AT_PROOF = QDES_PROBE_PROVEN,
    END = AT_PROOF + 8,
};

/* The first eight bytes of the HMAC of @size bytes, as a number. */
static uint64_t hash(uint64_t instance, const void *message, size_t size)
{
    uint8_t digest[32];
    uint8_t key[8];
    int ret;

    qdes_put_be64(key, instance);
    ret = gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, sizeof(key), message, size,
                           digest);
    /* Only a library without SHA-256 fails, and GnuTLS refuses to start so. */
    g_assert(ret == 0);
    return qdes_get_be64(digest);
}

uint64_t qdes_probe_mark(uint64_t instance)
{
    /* A locally administered address of one card. */
    return (hash(instance, "mark", 4) >> 16 & ~(UINT64_C(1) << 40)) |
           UINT64_C(2) << 40;
}

void qdes_probe_encode(uint8_t data[QDES_PROBE_SIZE], const QdesProbe *probe,
                       uint64_t instance)
{
    uint64_t mark = qdes_probe_mark(instance);

    memset(data, 0, QDES_PROBE_SIZE);
    memcpy(data, qdes_probe_group, QDES_MAC_SIZE);
    qdes_put_be16(data + QDES_MAC_SIZE, mark >> 32);
    qdes_put_be32(data + QDES_MAC_SIZE + 2, mark);
    qdes_put_be16(data + AT_TYPE, ETHERTYPE);
    qdes_put_be32(data + AT_MAGIC, MAGIC);
    data[AT_VERSION] = VERSION;
    data[AT_FLAGS] = probe->asks ? FLAG_ASKS : 0;
    qdes_put_be32(data + AT_NETID, probe->netid);
    qdes_put_be64(data + AT_NONCE, probe->nonce);
    qdes_put_be64(data + AT_PROOF, hash(instance, data, QDES_PROBE_PROVEN));
}

bool qdes_probe_decode(QdesProbe *probe, const uint8_t *data, size_t size)
{
    if (size < END || !qdes_probe_is(data) ||
        qdes_get_be16(data + AT_TYPE) != ETHERTYPE ||
        qdes_get_be32(data + AT_MAGIC) != MAGIC ||
        data[AT_VERSION] != VERSION) {
        return false;
    }
    probe->mark = (uint64_t)qdes_get_be16(data + QDES_MAC_SIZE) << 32 |
                  qdes_get_be32(data + QDES_MAC_SIZE + 2);
    probe->netid = qdes_get_be32(data + AT_NETID);
    probe->asks = data[AT_FLAGS] & FLAG_ASKS;
    probe->nonce = qdes_get_be64(data + AT_NONCE);
    probe->proof = qdes_get_be64(data + AT_PROOF);
    memcpy(probe->proven, data, sizeof(probe->proven));
    return true;
}

bool qdes_probe_is_of(const QdesProbe *probe, uint64_t instance)
{
    uint64_t proof = hash(instance, probe->proven, sizeof(probe->proven));

    return gnutls_memcmp(&proof, &probe->proof, sizeof(proof)) == 0;
}
