/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Probes: their layout, and the proof. */

#include "qdes/probe.h"

#include "qdes/bytes.h"
#include "qdes/siphash.h"

#define ETHERTYPE 0x88b6        /* IEEE 802: local experiments, the second */
#define MAGIC 0x51444c50        /* "QDLP" */
#define VERSION 1
#define FLAG_ASKS 1

/* The second half of the key, one for each use. */
#define KEY_PROOF 0x70726f6f66ULL
#define KEY_SOURCE 0x736f75726365ULL

/* Offsets in the frame. */
enum {
    AT_TYPE = 12,
    AT_MAGIC = 14,
    AT_VERSION = 18,
    AT_FLAGS = 19,
    AT_NETID = 20,
    AT_NONCE = 24,
    AT_PROOF = 32,
    END = 40,
};

static uint64_t prove(const QdesProbe *probe, uint64_t instance)
{
    uint64_t key[2] = { instance, KEY_PROOF };
    uint64_t words[2] = {
        (uint64_t)probe->netid << 8 | probe->asks, probe->nonce,
    };

    return qdes_siphash(key, words, G_N_ELEMENTS(words));
}

void qdes_probe_encode(uint8_t data[QDES_PROBE_SIZE], const QdesProbe *probe,
                       uint64_t instance)
{
    uint64_t key[2] = { instance, KEY_SOURCE };
    uint8_t source[8];

    memset(data, 0, QDES_PROBE_SIZE);
    memcpy(data, qdes_probe_group, QDES_MAC_SIZE);
    qdes_put_be64(source, qdes_siphash(key, NULL, 0));
    source[0] = (source[0] & 0xfc) | 2; /* locally administered, unicast */
    memcpy(data + QDES_MAC_SIZE, source, QDES_MAC_SIZE);
    qdes_put_be16(data + AT_TYPE, ETHERTYPE);
    qdes_put_be32(data + AT_MAGIC, MAGIC);
    data[AT_VERSION] = VERSION;
    data[AT_FLAGS] = probe->asks ? FLAG_ASKS : 0;
    qdes_put_be32(data + AT_NETID, probe->netid);
    qdes_put_be64(data + AT_NONCE, probe->nonce);
    qdes_put_be64(data + AT_PROOF, prove(probe, instance));
}

bool qdes_probe_decode(QdesProbe *probe, const uint8_t *data, size_t size)
{
    if (size < END || !qdes_probe_is(data) ||
        qdes_get_be16(data + AT_TYPE) != ETHERTYPE ||
        qdes_get_be32(data + AT_MAGIC) != MAGIC ||
        data[AT_VERSION] != VERSION) {
        return false;
    }
    probe->netid = qdes_get_be32(data + AT_NETID);
    probe->asks = data[AT_FLAGS] & FLAG_ASKS;
    probe->nonce = qdes_get_be64(data + AT_NONCE);
    probe->proof = qdes_get_be64(data + AT_PROOF);
    return true;
}

bool qdes_probe_is_of(const QdesProbe *probe, uint64_t instance)
{
    return probe->proof == prove(probe, instance);
}
