/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The QDES encapsulation, version 1: headers and TLVs
 *
 * docs/protocol.md is the norm; this module, with control.h for what is neither
 * DATA nor HELLO nor BYE, is its one implementation in C.
 * A datagram is an 8-byte header followed by one Ethernet frame (DATA) or by
 * TLVs (control messages).  All fields are big-endian.
 *
 * Decoding reads nothing past the length it is given and either accepts a
 * datagram whole or names the one reason for which it is dropped.  Encoding
 * never fails: buffers have the sizes stated here.
 *
 * Pure.  Decoded views point into the caller's buffer.
 */

#ifndef QDES_WIRE_H
#define QDES_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qdes/config.h"

#define QDES_WIRE_MAGIC 0x5144
#define QDES_WIRE_VERSION 1
#define QDES_WIRE_HEADER_SIZE 8         /* bytes */
#define QDES_WIRE_SUPERFRAME_SIZE 10    /* bytes, header with segment size */
#define QDES_WIRE_CONTROL_MAX 1200      /* bytes of a control message, whole */
#define QDES_WIRE_HELLO_SIZE 128        /* bytes that hold any HELLO of ours,
                                           but for RELAY-FOR */
#define QDES_WIRE_KEYS_MAX 2            /* key IDs in a HELLO */
#define QDES_WIRE_HELLO_PADDED 224      /* bytes of one to the group */
#define QDES_WIRE_RELAY_MAX 64          /* instances in a RELAY-FOR */
#define QDES_WIRE_HELLO_MAX (QDES_WIRE_HELLO_SIZE + 4 + \
                             8 * QDES_WIRE_RELAY_MAX)

typedef enum QdesWireType {
    QDES_WIRE_DATA = 0,
    QDES_WIRE_HELLO = 1,
    QDES_WIRE_BYE = 2,
    QDES_WIRE_ECHO = 3,         /* these three: control.h */
    QDES_WIRE_ECHO_REPLY = 4,
    QDES_WIRE_PEERS = 5,
    QDES_WIRE_CHALLENGE = 6,    /* these two are always sealed */
    QDES_WIRE_RESPONSE = 7,
} QdesWireType;

enum {
    QDES_WIRE_FLAG_CSUM_PARTIAL = 0x01,
    QDES_WIRE_FLAG_SEALED = 0x02,
    QDES_WIRE_FLAG_SUPERFRAME = 0x04,
    QDES_WIRE_FLAG_RELAYED = 0x08,
};

enum {
    QDES_WIRE_CAP_CSUM_PARTIAL = 0x00000001,
    QDES_WIRE_CAP_SUPERFRAME = 0x00000002,
    QDES_WIRE_CAP_ECHO = 0x00000004,    /* ECHO, ECHO-REPLY and PEERS */
    QDES_WIRE_CAP_RELAY = 0x00000008,   /* offers to relay */
};

typedef enum QdesWireTlv {
    QDES_WIRE_TLV_INSTANCE = 1,         /* 8 bytes, not 0; mandatory */
    QDES_WIRE_TLV_CAPABILITIES = 2,     /* 4 bytes, a mask */
    QDES_WIRE_TLV_MTU = 3,              /* 4 bytes, largest frame accepted */
    QDES_WIRE_TLV_NAME = 4,             /* 1 to 63 bytes of UTF-8 */
    QDES_WIRE_TLV_HOLD_TIME = 5,        /* 2 bytes, seconds */
    QDES_WIRE_TLV_PEERS = 6,            /* n x 26 bytes */
    QDES_WIRE_TLV_NONCE = 7,            /* 8 bytes */
    QDES_WIRE_TLV_OBSERVED = 8,         /* 18 bytes, an endpoint */
    QDES_WIRE_TLV_PADDING = 9,          /* any */
    QDES_WIRE_TLV_GROUP_HEARD = 10,     /* 1 byte, 0 or 1 */
    QDES_WIRE_TLV_DIGEST = 11,          /* 256 bytes */
    QDES_WIRE_TLV_RELAY_FOR = 12,       /* n x 8 bytes */
    QDES_WIRE_TLV_KNOWN = 13,           /* 7 to 906 bytes */
    QDES_WIRE_TLV_SESSION = 16,         /* 8 bytes */
    QDES_WIRE_TLV_KEYS = 17,            /* 4 or 8 bytes, key IDs */
    QDES_WIRE_TLV_AGE = 18,             /* 4 bytes, milliseconds */
    QDES_WIRE_TLV_NUMBERS = 19,         /* 16 bytes, two packet numbers */
} QdesWireTlv;

/* What a HELLO tells its receiver about the receiver's own HELLOs. */
typedef enum QdesGroupHeard {
    QDES_GROUP_UNSAID,
    QDES_GROUP_NOT_HEARD,       /* they do not reach it by the group */
    QDES_GROUP_HEARD,           /* they do */
} QdesGroupHeard;

/* What a datagram is, or why it is dropped. */
typedef enum QdesWireResult {
    QDES_WIRE_OK,
    QDES_WIRE_SHORT,            /* shorter than the header */
    QDES_WIRE_BAD_MAGIC,
    QDES_WIRE_BAD_VERSION,
    QDES_WIRE_BAD_TYPE,
    QDES_WIRE_BAD_FLAGS,
    QDES_WIRE_SEALED,           /* valid, but not to be read without a key */
    QDES_WIRE_FRAME_SHORT,
    QDES_WIRE_FRAME_LONG,
    QDES_WIRE_BAD_TLV,          /* control message: TLVs or length */
} QdesWireResult;

typedef struct QdesWireHeader {
    QdesWireType type;
    bool csum_partial;
    bool superframe;
    bool relayed;               /* its sender is not who it is from */
    uint16_t segment_size;      /* of a superframe: bytes in each packet */
    uint32_t netid;
    const uint8_t *payload;     /* the frame, or the TLVs */
    size_t payload_size;
} QdesWireHeader;

/* A HELLO or BYE; of a BYE, only @instance counts. */
typedef struct QdesWireHello {
    uint64_t instance;          /* drawn at random when the port starts */
    uint32_t capabilities;      /* 0 when the TLV is absent */
    uint32_t mtu;               /* bytes, 0 when absent */
    uint16_t hold_time;         /* seconds, 0 when absent */
    QdesGroupHeard group_heard;
    unsigned n_keys;            /* 0 when absent: not sealed */
    uint32_t keys[QDES_WIRE_KEYS_MAX];
    unsigned n_relay_for;       /* instances, when decoding ... */
    const uint8_t *relay_for;   /* ... in the datagram, 8 bytes each */
    char name[QDES_NAME_MAX + 1]; /* valid UTF-8 without control characters */
} QdesWireHello;

/*
 * Check the @size bytes at @data: header, and for DATA the frame's length.
 * On QDES_WIRE_OK, @header is filled.  From QDES_WIRE_FRAME_SHORT on in
 * QdesWireResult, and for QDES_WIRE_SEALED, the header itself is sound and
 * @header->type and @header->netid are valid too.
 */
QdesWireResult qdes_wire_decode(QdesWireHeader *header, const uint8_t *data,
                                size_t size);

/* Write a header. */
void qdes_wire_encode_header(uint8_t data[QDES_WIRE_HEADER_SIZE],
                             QdesWireType type, uint8_t flags,
                             uint32_t netid);

/* Write the header of a superframe, which has more flags than @flags. */
void qdes_wire_encode_superframe(uint8_t data[QDES_WIRE_SUPERFRAME_SIZE],
                                 uint8_t flags, uint16_t segment_size,
                                 uint32_t netid);

/*
 * Read the TLVs of a HELLO or BYE.  Unknown TLVs are skipped.  Returns
 * QDES_WIRE_OK or QDES_WIRE_BAD_TLV.
 */
QdesWireResult qdes_wire_decode_hello(QdesWireHello *hello,
                                      const QdesWireHeader *header);

/*
 * Write a whole HELLO (all TLVs whose value is not 0 or empty) or a whole BYE
 * (the instance alone).  Returns the bytes used of @data.
 */
size_t qdes_wire_encode_hello(uint8_t data[QDES_WIRE_HELLO_SIZE],
                              QdesWireType type, uint32_t netid,
                              const QdesWireHello *hello);

/*
 * Add a RELAY-FOR with 1 to QDES_WIRE_RELAY_MAX instances to the HELLO of
 * @size bytes at @data.  Returns its bytes.
 */
size_t qdes_wire_add_relay_for(uint8_t data[QDES_WIRE_HELLO_MAX], size_t size,
                               const uint64_t *instances, unsigned n);

/*
 * Lengthen the control message of @size bytes at @data to @to bytes, by a
 * PADDING; it stays as it is where one does not fit.  Returns its bytes.
 */
size_t qdes_wire_pad(uint8_t *data, size_t size, size_t to);

#endif
