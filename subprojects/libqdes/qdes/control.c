/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All control messages but HELLO and BYE; docs/protocol.md is the norm. */

#include "qdes/control.h"

#include <string.h>

#include "qdes/tlv.h"

#define ENDPOINT_SIZE 18        /* bytes: address and port */
#define DIGEST_SIZE (4 * QDES_DIGEST_BUCKETS)
#define KNOWN_HEAD_SIZE 6       /* bytes in front of the filter */

G_STATIC_ASSERT(QDES_WIRE_HEADER_SIZE + QDES_TLV_HEADER_SIZE +
                QDES_ENTRIES_MAX * QDES_ENTRY_SIZE <= QDES_WIRE_CONTROL_MAX);
G_STATIC_ASSERT(QDES_WIRE_HEADER_SIZE + QDES_TLV_HEADER_SIZE + DIGEST_SIZE +
                QDES_TLV_HEADER_SIZE + KNOWN_HEAD_SIZE + QDES_KNOWN_MAX <=
                QDES_WIRE_CONTROL_MAX);

static void put_endpoint(uint8_t *p, const QdesAddr *addr)
{
    memcpy(p, addr->ip, sizeof(addr->ip));
    qdes_put_be16(p + sizeof(addr->ip), addr->port);
}

static QdesAddr get_endpoint(const uint8_t *p)
{
    QdesAddr addr = { .scope = 0 };

    memcpy(addr.ip, p, sizeof(addr.ip));
    addr.port = qdes_get_be16(p + sizeof(addr.ip));
    return addr;
}

/* A TLV that a message has to have, once. */
typedef struct Field {
    QdesWireTlv type;
    size_t size;                /* bytes of its value */
} Field;

/* Find the values of @fields in the TLVs of a message; others are skipped. */
static QdesWireResult read_fields(const uint8_t **values, const Field *fields,
                                  size_t n, const QdesWireHeader *header)
{
    QdesTlv tlv = { .next = header->payload, .left = header->payload_size };
    size_t i;

    memset(values, 0, n * sizeof(*values));
    while (tlv.left > 0) {
        if (!qdes_tlv_read(&tlv)) {
            return QDES_WIRE_BAD_TLV;
        }
        for (i = 0; i < n; i++) {
            if (tlv.type == fields[i].type) {
                if (values[i] || tlv.size != fields[i].size) {
                    return QDES_WIRE_BAD_TLV;
                }
                values[i] = tlv.value;
            }
        }
    }
    for (i = 0; i < n; i++) {
        if (!values[i]) {
            return QDES_WIRE_BAD_TLV;
        }
    }
    return QDES_WIRE_OK;
}

QdesWireResult qdes_control_decode_echo(QdesEcho *echo,
                                        const QdesWireHeader *header)
{
    static const Field fields[] = {
        { QDES_WIRE_TLV_NONCE, 8 },
        { QDES_WIRE_TLV_OBSERVED, ENDPOINT_SIZE },
    };
    const uint8_t *values[G_N_ELEMENTS(fields)];
    QdesWireResult result;

    memset(echo, 0, sizeof(*echo));
    if (header->type == QDES_WIRE_ECHO &&
        header->payload_size < QDES_ECHO_SIZE - QDES_WIRE_HEADER_SIZE) {
        return QDES_WIRE_BAD_TLV;
    }
    result = read_fields(values, fields, G_N_ELEMENTS(fields), header);
    if (result == QDES_WIRE_OK) {
        echo->nonce = qdes_get_be64(values[0]);
        echo->observed = get_endpoint(values[1]);
    }
    return result;
}

size_t qdes_control_encode_echo(uint8_t data[QDES_ECHO_SIZE],
                                QdesWireType type, uint32_t netid,
                                const QdesEcho *echo)
{
    uint8_t *p = data + QDES_WIRE_HEADER_SIZE;

    qdes_wire_encode_header(data, type, 0, netid);
    p = qdes_tlv_put(p, QDES_WIRE_TLV_NONCE, 8);
    qdes_put_be64(p, echo->nonce);
    p = qdes_tlv_put(p + 8, QDES_WIRE_TLV_OBSERVED, ENDPOINT_SIZE);
    put_endpoint(p, &echo->observed);
    p += ENDPOINT_SIZE;
    return type == QDES_WIRE_ECHO ?
           qdes_wire_pad(data, p - data, QDES_ECHO_SIZE) : (size_t)(p - data);
}

static bool read_known(QdesKnown *known, const QdesTlv *tlv)
{
    if (known->size || tlv->size <= KNOWN_HEAD_SIZE ||
        tlv->size > KNOWN_HEAD_SIZE + QDES_KNOWN_MAX) {
        return false;
    }
    known->parts = tlv->value[0];
    known->part = tlv->value[1];
    known->salt = qdes_get_be32(tlv->value + 2);
    known->size = tlv->size - KNOWN_HEAD_SIZE;
    known->bits = tlv->value + KNOWN_HEAD_SIZE;
    return true;
}

QdesWireResult qdes_control_decode_peers(QdesPeersMessage *message,
                                         const QdesWireHeader *header)
{
    QdesTlv tlv = { .next = header->payload, .left = header->payload_size };
    bool found = false;
    int i;

    memset(message, 0, sizeof(*message));
    while (tlv.left > 0) {
        if (!qdes_tlv_read(&tlv)) {
            return QDES_WIRE_BAD_TLV;
        }
        if (tlv.type == QDES_WIRE_TLV_KNOWN &&
            !read_known(&message->known, &tlv)) {
            return QDES_WIRE_BAD_TLV;
        }
        if (tlv.type != QDES_WIRE_TLV_PEERS &&
            tlv.type != QDES_WIRE_TLV_DIGEST) {
            continue;
        }
        if (found) {
            return QDES_WIRE_BAD_TLV;
        }
        found = true;
        message->is_request = tlv.type == QDES_WIRE_TLV_DIGEST;
        if (message->is_request) {
            if (tlv.size != DIGEST_SIZE) {
                return QDES_WIRE_BAD_TLV;
            }
            for (i = 0; i < QDES_DIGEST_BUCKETS; i++) {
                message->digest.bucket[i] = qdes_get_be32(tlv.value + 4 * i);
            }
        } else {
            if (tlv.size == 0 || tlv.size % QDES_ENTRY_SIZE != 0) {
                return QDES_WIRE_BAD_TLV;
            }
            message->entries = tlv.value;
            message->n_entries = tlv.size / QDES_ENTRY_SIZE;
        }
    }
    if (!found || (message->known.size && !message->is_request)) {
        return QDES_WIRE_BAD_TLV;
    }
    return QDES_WIRE_OK;
}

QdesEntry qdes_control_entry(const QdesPeersMessage *message, unsigned i)
{
    const uint8_t *p = message->entries + i * QDES_ENTRY_SIZE;
    QdesEntry entry = { .addr = get_endpoint(p) };

    g_assert(i < message->n_entries);
    entry.instance = qdes_get_be64(p + ENDPOINT_SIZE);
    return entry;
}

void qdes_control_put_entry(uint8_t p[QDES_ENTRY_SIZE], const QdesEntry *entry)
{
    put_endpoint(p, &entry->addr);
    qdes_put_be64(p + ENDPOINT_SIZE, entry->instance);
}

size_t qdes_control_encode_request(uint8_t data[QDES_WIRE_CONTROL_MAX],
                                   uint32_t netid, const QdesDigest *digest,
                                   const QdesKnown *known)
{
    uint8_t *p = data + QDES_WIRE_HEADER_SIZE;
    int i;

    qdes_wire_encode_header(data, QDES_WIRE_PEERS, 0, netid);
    p = qdes_tlv_put(p, QDES_WIRE_TLV_DIGEST, DIGEST_SIZE);
    for (i = 0; i < QDES_DIGEST_BUCKETS; i++) {
        qdes_put_be32(p, digest->bucket[i]);
        p += 4;
    }
    if (known->size) {
        g_assert(known->size <= QDES_KNOWN_MAX);
        p = qdes_tlv_put(p, QDES_WIRE_TLV_KNOWN,
                         KNOWN_HEAD_SIZE + known->size);
        p[0] = known->parts;
        p[1] = known->part;
        qdes_put_be32(p + 2, known->salt);
        memcpy(p + KNOWN_HEAD_SIZE, known->bits, known->size);
        p += KNOWN_HEAD_SIZE + known->size;
    }
    return p - data;
}

size_t qdes_control_encode_list(uint8_t data[QDES_WIRE_CONTROL_MAX],
                                uint32_t netid, const QdesEntry *entries,
                                unsigned n)
{
    uint8_t *p = data + QDES_WIRE_HEADER_SIZE;
    unsigned i;

    g_assert(n >= 1 && n <= QDES_ENTRIES_MAX);
    qdes_wire_encode_header(data, QDES_WIRE_PEERS, 0, netid);
    p = qdes_tlv_put(p, QDES_WIRE_TLV_PEERS, n * QDES_ENTRY_SIZE);
    for (i = 0; i < n; i++) {
        qdes_control_put_entry(p, &entries[i]);
        p += QDES_ENTRY_SIZE;
    }
    return p - data;
}

G_STATIC_ASSERT(QDES_WIRE_HEADER_SIZE + 3 * QDES_TLV_HEADER_SIZE + 8 + 8 + 4 ==
                QDES_CHALLENGE_SIZE);
G_STATIC_ASSERT(QDES_WIRE_HEADER_SIZE + 2 * QDES_TLV_HEADER_SIZE + 8 + 16 ==
                QDES_RESPONSE_SIZE);

QdesWireResult qdes_control_decode_challenge(QdesChallenge *challenge,
                                             const QdesWireHeader *header)
{
    static const Field asks[] = {
        { QDES_WIRE_TLV_NONCE, 8 },
        { QDES_WIRE_TLV_SESSION, 8 },
        { QDES_WIRE_TLV_AGE, 4 },
    };
    static const Field answers[] = {
        { QDES_WIRE_TLV_NONCE, 8 },
        { QDES_WIRE_TLV_NUMBERS, 16 },
    };
    bool is_response = header->type == QDES_WIRE_RESPONSE;
    const uint8_t *values[MAX(G_N_ELEMENTS(asks), G_N_ELEMENTS(answers))];
    QdesWireResult result =
        is_response ? read_fields(values, answers, G_N_ELEMENTS(answers),
                                  header)
                    : read_fields(values, asks, G_N_ELEMENTS(asks), header);

    memset(challenge, 0, sizeof(*challenge));
    if (result != QDES_WIRE_OK) {
        return result;
    }
    challenge->nonce = qdes_get_be64(values[0]);
    if (is_response) {
        challenge->numbers[0] = qdes_get_be64(values[1]);
        challenge->numbers[1] = qdes_get_be64(values[1] + 8);
    } else {
        challenge->session = qdes_get_be64(values[1]);
        challenge->age = qdes_get_be32(values[2]);
    }
    return QDES_WIRE_OK;
}

size_t qdes_control_encode_challenge(uint8_t data[QDES_CHALLENGE_SIZE],
                                     QdesWireType type, uint32_t netid,
                                     const QdesChallenge *challenge)
{
    uint8_t *p = data + QDES_WIRE_HEADER_SIZE;

    qdes_wire_encode_header(data, type, 0, netid);
    p = qdes_tlv_put(p, QDES_WIRE_TLV_NONCE, 8);
    qdes_put_be64(p, challenge->nonce);
    p += 8;
    if (type == QDES_WIRE_RESPONSE) {
        p = qdes_tlv_put(p, QDES_WIRE_TLV_NUMBERS, 16);
        qdes_put_be64(p, challenge->numbers[0]);
        qdes_put_be64(p + 8, challenge->numbers[1]);
        return p + 16 - data;
    }
    p = qdes_tlv_put(p, QDES_WIRE_TLV_SESSION, 8);
    qdes_put_be64(p, challenge->session);
    p = qdes_tlv_put(p + 8, QDES_WIRE_TLV_AGE, 4);
    qdes_put_be32(p, challenge->age);
    return p + 4 - data;
}
