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

/* One TLV; false when its length or value cannot be. */
static bool read_tlv(QdesWireHello *hello, const QdesTlv *tlv)
{
    unsigned i;

    switch (tlv->type) {
    case QDES_WIRE_TLV_INSTANCE:
        if (tlv->size != 8) {
            return false;
        }
        hello->instance = qdes_get_be64(tlv->value);
        return hello->instance != 0;
    case QDES_WIRE_TLV_CAPABILITIES:
        if (tlv->size != 4) {
            return false;
        }
        hello->capabilities = qdes_get_be32(tlv->value);
        return true;
    case QDES_WIRE_TLV_MTU:
        if (tlv->size != 4) {
            return false;
        }
        hello->mtu = qdes_get_be32(tlv->value);
        return true;
    case QDES_WIRE_TLV_NAME:
        if (tlv->size < 1 || tlv->size > QDES_NAME_MAX) {
            return false;
        }
        qdes_name_clean(hello->name, (const char *)tlv->value, tlv->size);
        return true;
    case QDES_WIRE_TLV_HOLD_TIME:
        if (tlv->size != 2) {
            return false;
        }
        hello->hold_time = qdes_get_be16(tlv->value);
        return true;
    case QDES_WIRE_TLV_GROUP_HEARD:
        if (tlv->size != 1) {
            return false;
        }
        hello->group_heard = *tlv->value ? QDES_GROUP_HEARD
                                         : QDES_GROUP_NOT_HEARD;
        return true;
    case QDES_WIRE_TLV_RELAY_FOR:
        hello->n_relay_for = tlv->size / 8;
        hello->relay_for = tlv->value;
        return tlv->size % 8 == 0 && hello->n_relay_for > 0 &&
               hello->n_relay_for <= QDES_WIRE_RELAY_MAX;
    case QDES_WIRE_TLV_KEYS:
        if (tlv->size != 4 && tlv->size != 8) {
            return false;
        }
        hello->n_keys = tlv->size / 4;
        for (i = 0; i < hello->n_keys; i++) {
            hello->keys[i] = qdes_get_be32(tlv->value + 4 * i);
        }
        return true;
    default:
        return true;
    }
}

QdesWireResult qdes_wire_decode_hello(QdesWireHello *hello,
                                      const QdesWireHeader *header)
{
    static const uint32_t once = 1u << QDES_WIRE_TLV_INSTANCE |
                                 1u << QDES_WIRE_TLV_CAPABILITIES |
                                 1u << QDES_WIRE_TLV_MTU |
                                 1u << QDES_WIRE_TLV_NAME |
                                 1u << QDES_WIRE_TLV_HOLD_TIME |
                                 1u << QDES_WIRE_TLV_GROUP_HEARD |
                                 1u << QDES_WIRE_TLV_RELAY_FOR |
                                 1u << QDES_WIRE_TLV_KEYS;
    QdesTlv tlv = { .next = header->payload, .left = header->payload_size };
    uint32_t seen = 0;

    memset(hello, 0, sizeof(*hello));
    while (tlv.left > 0) {
        if (!qdes_tlv_read(&tlv)) {
            return QDES_WIRE_BAD_TLV;
        }
        if (tlv.type < 32 && once & 1u << tlv.type) {
            if (seen & 1u << tlv.type) {
                return QDES_WIRE_BAD_TLV;
            }
            seen |= 1u << tlv.type;
        }
        if (!read_tlv(hello, &tlv)) {
            return QDES_WIRE_BAD_TLV;
        }
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
