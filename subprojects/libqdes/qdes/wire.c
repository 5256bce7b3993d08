/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The QDES encapsulation, version 1; docs/protocol.md is the norm. */

#include "qdes/wire.h"

#include <string.h>

#include "qdes/bytes.h"
#include "qdes/name.h"
#include "qdes/tlv.h"

/* What only sealed fabrics have, is never there without a seal. */
static bool is_known_type(unsigned type, uint8_t flags)
{
    return type <= QDES_WIRE_PEERS ||
           (type <= QDES_WIRE_RESPONSE && flags & QDES_WIRE_FLAG_SEALED);
}

QdesWireResult qdes_wire_decode(QdesWireHeader *header, const uint8_t *data,
                                size_t size)
{
    size_t header_size = QDES_WIRE_HEADER_SIZE;
    uint8_t flags;

    if (size < QDES_WIRE_HEADER_SIZE) {
        return QDES_WIRE_SHORT;
    }
    if (qdes_get_be16(data) != QDES_WIRE_MAGIC) {
        return QDES_WIRE_BAD_MAGIC;
    }
    if (data[2] >> 4 != QDES_WIRE_VERSION) {
        return QDES_WIRE_BAD_VERSION;
    }
    if (!is_known_type(data[2] & 0x0f, data[3])) {
        return QDES_WIRE_BAD_TYPE;
    }
    flags = data[3];
    if (flags & ~(QDES_WIRE_FLAG_CSUM_PARTIAL | QDES_WIRE_FLAG_SEALED |
                  QDES_WIRE_FLAG_SUPERFRAME | QDES_WIRE_FLAG_RELAYED) ||
        (flags & (QDES_WIRE_FLAG_CSUM_PARTIAL | QDES_WIRE_FLAG_RELAYED) &&
         (data[2] & 0x0f) != QDES_WIRE_DATA) ||
        (flags & QDES_WIRE_FLAG_SUPERFRAME &&
         !(flags & QDES_WIRE_FLAG_CSUM_PARTIAL))) {
        return QDES_WIRE_BAD_FLAGS;
    }
    header->type = data[2] & 0x0f;
    header->csum_partial = flags & QDES_WIRE_FLAG_CSUM_PARTIAL;
    header->superframe = flags & QDES_WIRE_FLAG_SUPERFRAME;
    header->relayed = flags & QDES_WIRE_FLAG_RELAYED;
    header->segment_size = 0;
    header->netid = qdes_get_be32(data + 4);
    header->payload = data + QDES_WIRE_HEADER_SIZE;
    header->payload_size = size - QDES_WIRE_HEADER_SIZE;
    if (flags & QDES_WIRE_FLAG_SEALED) {
        return QDES_WIRE_SEALED;
    }
    if (header->type != QDES_WIRE_DATA) {
        return size <= QDES_WIRE_CONTROL_MAX ? QDES_WIRE_OK
                                             : QDES_WIRE_BAD_TLV;
    }
    if (header->superframe) {
        header_size = QDES_WIRE_SUPERFRAME_SIZE;
    }
    if (size < header_size + QDES_FRAME_MIN) {
        return QDES_WIRE_FRAME_SHORT;
    }
    if (size > QDES_WIRE_HEADER_SIZE + QDES_FRAME_MAX) {
        return QDES_WIRE_FRAME_LONG;
    }
    if (header->superframe) {
        header->segment_size = qdes_get_be16(data + QDES_WIRE_HEADER_SIZE);
    }
    header->payload = data + header_size;
    header->payload_size = size - header_size;
    return QDES_WIRE_OK;
}

void qdes_wire_encode_header(uint8_t data[QDES_WIRE_HEADER_SIZE],
                             QdesWireType type, uint8_t flags,
                             uint32_t netid)
{
    qdes_put_be16(data, QDES_WIRE_MAGIC);
    data[2] = QDES_WIRE_VERSION << 4 | type;
    data[3] = flags;
    qdes_put_be32(data + 4, netid);
}

void qdes_wire_encode_superframe(uint8_t data[QDES_WIRE_SUPERFRAME_SIZE],
                                 uint8_t flags, uint16_t segment_size,
                                 uint32_t netid)
{
    qdes_wire_encode_header(data, QDES_WIRE_DATA,
                            flags | QDES_WIRE_FLAG_CSUM_PARTIAL |
                            QDES_WIRE_FLAG_SUPERFRAME, netid);
    qdes_put_be16(data + QDES_WIRE_HEADER_SIZE, segment_size);
}

QdesWireResult qdes_wire_decode_hello(QdesWireHello *hello,
                                      const QdesWireHeader *header)
{
    enum {
        INSTANCE, CAPABILITIES, MTU, NAME, HOLD_TIME, GROUP_HEARD, RELAY_FOR,
        KEYS, N
    };
    static const QdesTlvRule rules[N] = {
        [INSTANCE] = { QDES_WIRE_TLV_INSTANCE, 8, 8, .mandatory = true },
        [CAPABILITIES] = { QDES_WIRE_TLV_CAPABILITIES, .min = 4, .max = 4 },
        [MTU] = { QDES_WIRE_TLV_MTU, .min = 4, .max = 4 },
        [NAME] = { QDES_WIRE_TLV_NAME, .min = 1, .max = QDES_NAME_MAX },
        [HOLD_TIME] = { QDES_WIRE_TLV_HOLD_TIME, .min = 2, .max = 2 },
        [GROUP_HEARD] = { QDES_WIRE_TLV_GROUP_HEARD, .min = 1, .max = 1 },
        [RELAY_FOR] = { QDES_WIRE_TLV_RELAY_FOR, 8, 8 * QDES_WIRE_RELAY_MAX,
                        .unit = 8 },
        [KEYS] = { QDES_WIRE_TLV_KEYS, 4, 4 * QDES_WIRE_KEYS_MAX,
                   .unit = 4 },
    };
    QdesTlv tlvs[N];
    unsigned i;

    memset(hello, 0, sizeof(*hello));
    if (!qdes_tlv_read(tlvs, rules, N, header->payload,
                       header->payload_size)) {
        return QDES_WIRE_BAD_TLV;
    }
    hello->instance = qdes_get_be64(tlvs[INSTANCE].value);
    if (tlvs[CAPABILITIES].value) {
        hello->capabilities = qdes_get_be32(tlvs[CAPABILITIES].value);
    }
    if (tlvs[MTU].value) {
        hello->mtu = qdes_get_be32(tlvs[MTU].value);
    }
    if (tlvs[NAME].value) {
        qdes_name_clean(hello->name, (const char *)tlvs[NAME].value,
                        tlvs[NAME].size);
    }
    if (tlvs[HOLD_TIME].value) {
        hello->hold_time = qdes_get_be16(tlvs[HOLD_TIME].value);
    }
    if (tlvs[GROUP_HEARD].value) {
        hello->group_heard = *tlvs[GROUP_HEARD].value ? QDES_GROUP_HEARD
                                                      : QDES_GROUP_NOT_HEARD;
    }
    hello->n_relay_for = tlvs[RELAY_FOR].size / 8;
    hello->relay_for = tlvs[RELAY_FOR].value;
    hello->n_keys = tlvs[KEYS].size / 4;
    for (i = 0; i < hello->n_keys; i++) {
        hello->keys[i] = qdes_get_be32(tlvs[KEYS].value + 4 * i);
    }
    return hello->instance ? QDES_WIRE_OK : QDES_WIRE_BAD_TLV;
}

size_t qdes_wire_encode_hello(uint8_t data[QDES_WIRE_HELLO_SIZE],
                              QdesWireType type, uint32_t netid,
                              const QdesWireHello *hello)
{
    uint8_t *p = data + QDES_WIRE_HEADER_SIZE;
    size_t name_size = strlen(hello->name);
    unsigned i;

    /* The longest HELLO, should a TLV ever be added without a look here. */
    G_STATIC_ASSERT(QDES_WIRE_HEADER_SIZE + 7 * QDES_TLV_HEADER_SIZE + 8 +
                    4 + 4 + QDES_NAME_MAX + 2 + 1 + 4 * QDES_WIRE_KEYS_MAX <=
                    QDES_WIRE_HELLO_SIZE);

    qdes_wire_encode_header(data, type, 0, netid);
    p = qdes_tlv_put(p, QDES_WIRE_TLV_INSTANCE, 8);
    qdes_put_be64(p, hello->instance);
    p += 8;
    if (type == QDES_WIRE_BYE) {
        return p - data;
    }
    if (hello->capabilities) {
        p = qdes_tlv_put(p, QDES_WIRE_TLV_CAPABILITIES, 4);
        qdes_put_be32(p, hello->capabilities);
        p += 4;
    }
    if (hello->mtu) {
        p = qdes_tlv_put(p, QDES_WIRE_TLV_MTU, 4);
        qdes_put_be32(p, hello->mtu);
        p += 4;
    }
    if (name_size) {
        p = qdes_tlv_put(p, QDES_WIRE_TLV_NAME, name_size);
        memcpy(p, hello->name, name_size);
        p += name_size;
    }
    if (hello->hold_time) {
        p = qdes_tlv_put(p, QDES_WIRE_TLV_HOLD_TIME, 2);
        qdes_put_be16(p, hello->hold_time);
        p += 2;
    }
    if (hello->group_heard != QDES_GROUP_UNSAID) {
        p = qdes_tlv_put(p, QDES_WIRE_TLV_GROUP_HEARD, 1);
        *p++ = hello->group_heard == QDES_GROUP_HEARD;
    }
    if (hello->n_keys) {
        p = qdes_tlv_put(p, QDES_WIRE_TLV_KEYS, 4 * hello->n_keys);
        for (i = 0; i < hello->n_keys; i++) {
            qdes_put_be32(p, hello->keys[i]);
            p += 4;
        }
    }
    return p - data;
}

size_t qdes_wire_add_relay_for(uint8_t data[QDES_WIRE_HELLO_MAX], size_t size,
                               const uint64_t *instances, unsigned n)
{
    uint8_t *p = qdes_tlv_put(data + size, QDES_WIRE_TLV_RELAY_FOR, 8 * n);
    unsigned i;

    for (i = 0; i < n; i++, p += 8) {
        qdes_put_be64(p, instances[i]);
    }
    return p - data;
}

size_t qdes_wire_pad(uint8_t *data, size_t size, size_t to)
{
    uint8_t *p;

    if (size + QDES_TLV_HEADER_SIZE > to) {
        return size;
    }
    p = qdes_tlv_put(data + size, QDES_WIRE_TLV_PADDING,
                     to - size - QDES_TLV_HEADER_SIZE);
    memset(p, 0, data + to - p);
    return to;
}
