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

G_STATIC_ASSERT(QDES_WIRE_HEADER_SIZE + QDES_TLV_HEADER_SIZE + 8 +
                QDES_TLV_HEADER_SIZE + ENDPOINT_SIZE == QDES_ECHO_REPLY_SIZE);

/* What goes to the group pays for an answer and an ECHO from each. */
G_STATIC_ASSERT(QDES_WIRE_HELLO_SIZE + QDES_ECHO_SIZE <=
                QDES_WIRE_HELLO_PADDED);

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

QdesWireResult qdes_control_decode_echo(QdesEcho *echo,
                                        const QdesWireHeader *header)
{
    enum { NONCE, OBSERVED, N };
    static const QdesTlvRule rules[N] = {
        [NONCE] = { QDES_WIRE_TLV_NONCE, 8, 8, .mandatory = true },
        [OBSERVED] = { QDES_WIRE_TLV_OBSERVED, ENDPOINT_SIZE, ENDPOINT_SIZE,
                       .mandatory = true },
    };
    QdesTlv tlvs[N];

    if (header->type == QDES_WIRE_ECHO &&
        header->payload_size < QDES_ECHO_SIZE - QDES_WIRE_HEADER_SIZE) {
        return QDES_WIRE_BAD_TLV;
    }
    if (!qdes_tlv_read(tlvs, rules, N, header->payload,
                       header->payload_size)) {
        return QDES_WIRE_BAD_TLV;
    }
    echo->nonce = qdes_get_be64(tlvs[NONCE].value);
    echo->observed = get_endpoint(tlvs[OBSERVED].value);
    return QDES_WIRE_OK;
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

QdesWireResult qdes_control_decode_peers(QdesPeersMessage *message,
                                         const QdesWireHeader *header)
{
    enum { LIST, DIGEST, KNOWN, N };
    static const QdesTlvRule rules[N] = {
        [LIST] = { QDES_WIRE_TLV_PEERS, QDES_ENTRY_SIZE,
                   QDES_ENTRIES_MAX * QDES_ENTRY_SIZE,
                   .unit = QDES_ENTRY_SIZE },
        [DIGEST] = { QDES_WIRE_TLV_DIGEST, .min = DIGEST_SIZE,
                     .max = DIGEST_SIZE },
        [KNOWN] = { QDES_WIRE_TLV_KNOWN, .min = KNOWN_HEAD_SIZE + 1,
                    .max = KNOWN_HEAD_SIZE + QDES_KNOWN_MAX },
    };
    const uint8_t *known;
    QdesTlv tlvs[N];
    int i;

    memset(message, 0, sizeof(*message));
    if (!qdes_tlv_read(tlvs, rules, N, header->payload,
                       header->payload_size) ||
        !tlvs[LIST].value == !tlvs[DIGEST].value ||
        (tlvs[KNOWN].value && !tlvs[DIGEST].value)) {
        return QDES_WIRE_BAD_TLV;
    }
    message->entries = tlvs[LIST].value;
    message->n_entries = tlvs[LIST].size / QDES_ENTRY_SIZE;
    if (!tlvs[DIGEST].value) {
        return QDES_WIRE_OK;
    }
    message->is_request = true;
    for (i = 0; i < QDES_DIGEST_BUCKETS; i++) {
        message->digest.bucket[i] = qdes_get_be32(tlvs[DIGEST].value + 4 * i);
    }
    known = tlvs[KNOWN].value;
    if (known) {
        message->known = (QdesKnown) {
            .parts = known[0],
            .part = known[1],
            .salt = qdes_get_be32(known + 2),
            .size = tlvs[KNOWN].size - KNOWN_HEAD_SIZE,
            .bits = known + KNOWN_HEAD_SIZE,
        };
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
    enum { NONCE, SESSION, AGE, N_CHALLENGE };
    enum { NUMBERS = 1, N_RESPONSE };
    static const QdesTlvRule challenge_rules[N_CHALLENGE] = {
        [NONCE] = { QDES_WIRE_TLV_NONCE, 8, 8, .mandatory = true },
        [SESSION] = { QDES_WIRE_TLV_SESSION, 8, 8, .mandatory = true },
        [AGE] = { QDES_WIRE_TLV_AGE, 4, 4, .mandatory = true },
    };
    static const QdesTlvRule response_rules[N_RESPONSE] = {
        [NONCE] = { QDES_WIRE_TLV_NONCE, 8, 8, .mandatory = true },
        [NUMBERS] = { QDES_WIRE_TLV_NUMBERS, 16, 16, .mandatory = true },
    };
    bool is_response = header->type == QDES_WIRE_RESPONSE;
    QdesTlv tlvs[N_CHALLENGE];

    memset(challenge, 0, sizeof(*challenge));
    if (!qdes_tlv_read(tlvs, is_response ? response_rules : challenge_rules,
                       is_response ? N_RESPONSE : N_CHALLENGE,
                       header->payload, header->payload_size)) {
        return QDES_WIRE_BAD_TLV;
    }
    challenge->nonce = qdes_get_be64(tlvs[NONCE].value);
    if (is_response) {
        challenge->numbers[0] = qdes_get_be64(tlvs[NUMBERS].value);
        challenge->numbers[1] = qdes_get_be64(tlvs[NUMBERS].value + 8);
    } else {
        challenge->session = qdes_get_be64(tlvs[SESSION].value);
        challenge->age = qdes_get_be32(tlvs[AGE].value);
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
