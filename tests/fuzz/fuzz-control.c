/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing ECHO, ECHO-REPLY, PEERS, CHALLENGE and RESPONSE: the input is a type
 * and TLVs.  What is accepted is written as it was read.
 */

#include "fuzz.h"

#include "qdes/control.h"
#include "qdes/nonce.h"

static const uint64_t key[2] = { 1, 2 };

/* Read what we wrote ourselves. */
static QdesWireHeader read_own(const uint8_t *data, size_t size)
{
    QdesWireHeader header;
    QdesWireResult result = qdes_wire_decode(&header, data, size);

    /* Sealed only: then the header is sound, and the payload what follows. */
    fuzz_check(result == QDES_WIRE_OK || result == QDES_WIRE_SEALED,
               "our own message is not understood");
    header.payload = data + QDES_WIRE_HEADER_SIZE;
    header.payload_size = size - QDES_WIRE_HEADER_SIZE;
    return header;
}

static void check_echo(const QdesWireHeader *header)
{
    uint8_t data[QDES_ECHO_SIZE];
    QdesWireHeader own;
    QdesEcho echo, again;
    int64_t age;
    size_t size;

    if (qdes_control_decode_echo(&echo, header) != QDES_WIRE_OK) {
        return;
    }
    size = qdes_control_encode_echo(data, header->type, 7, &echo);
    fuzz_check(size == (header->type == QDES_WIRE_ECHO ?
                        QDES_ECHO_SIZE : QDES_ECHO_REPLY_SIZE),
               "an ECHO has the wrong size");
    fuzz_check(header->type != QDES_WIRE_ECHO ||
               size <= QDES_WIRE_HEADER_SIZE + header->payload_size,
               "an ECHO is shorter than its answer");
    own = read_own(data, size);
    fuzz_check(qdes_control_decode_echo(&again, &own) == QDES_WIRE_OK &&
               again.nonce == echo.nonce &&
               qdes_addr_equal(&again.observed, &echo.observed),
               "an ECHO changed");
    if (qdes_nonce_check(key, &echo.observed, 3600000000, echo.nonce, &age)) {
        fuzz_check(qdes_nonce_make(key, &echo.observed, 3600000000 - age) ==
                   echo.nonce, "a nonce that is none of ours");
    }
}

static void check_request(const QdesPeersMessage *message)
{
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    const QdesKnown *known = &message->known;
    QdesPeersMessage again;
    QdesWireHeader own;
    size_t size = qdes_control_encode_request(data, 7, &message->digest,
                                              known);

    fuzz_check(size <= sizeof(data), "a request's size");
    own = read_own(data, size);
    fuzz_check(qdes_control_decode_peers(&again, &own) == QDES_WIRE_OK &&
               again.is_request &&
               memcmp(&again.digest, &message->digest,
                      sizeof(again.digest)) == 0 &&
               again.known.size == known->size, "a request changed");
    fuzz_check(known->size == 0 ||
               (again.known.part == known->part &&
                again.known.parts == known->parts &&
                again.known.salt == known->salt &&
                memcmp(again.known.bits, known->bits, known->size) == 0),
               "a filter changed");
}

static void check_list(const QdesPeersMessage *message,
                       const QdesWireHeader *header)
{
    QdesEntry entries[QDES_ENTRIES_MAX];
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    QdesPeersMessage again;
    QdesWireHeader own;
    unsigned i;
    size_t size;

    fuzz_check(message->n_entries > 0 &&
               message->n_entries <= QDES_ENTRIES_MAX, "a list's size");
    fuzz_check(message->entries >= header->payload &&
               message->entries + message->n_entries * QDES_ENTRY_SIZE <=
               header->payload + header->payload_size,
               "a list leaves its datagram");
    for (i = 0; i < message->n_entries; i++) {
        entries[i] = qdes_control_entry(message, i);
    }
    size = qdes_control_encode_list(data, 7, entries, message->n_entries);
    own = read_own(data, size);
    fuzz_check(qdes_control_decode_peers(&again, &own) == QDES_WIRE_OK &&
               !again.is_request && again.n_entries == message->n_entries &&
               memcmp(again.entries, message->entries,
                      again.n_entries * QDES_ENTRY_SIZE) == 0,
               "a list changed");
}

static void check_challenge(const QdesWireHeader *header)
{
    uint8_t data[QDES_CHALLENGE_SIZE];
    QdesChallenge challenge, again;
    QdesWireHeader own;
    size_t size;

    if (qdes_control_decode_challenge(&challenge, header) != QDES_WIRE_OK) {
        return;
    }
    size = qdes_control_encode_challenge(data, header->type, 7, &challenge);
    fuzz_check(size <= sizeof(data), "a CHALLENGE's size");
    data[3] |= QDES_WIRE_FLAG_SEALED;
    own = read_own(data, size);
    fuzz_check(qdes_control_decode_challenge(&again, &own) == QDES_WIRE_OK &&
               again.nonce == challenge.nonce &&
               again.session == challenge.session &&
               again.age == challenge.age &&
               memcmp(again.numbers, challenge.numbers,
                      sizeof(again.numbers)) == 0, "a CHALLENGE changed");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    QdesWireHeader header;
    QdesPeersMessage message;
    QdesWireType type;
    uint8_t *copy;

    if (size == 0) {
        return 0;
    }
    size = QDES_WIRE_HEADER_SIZE + size - 1;
    copy = g_malloc(size);
    type = QDES_WIRE_ECHO + data[0] % 5;
    qdes_wire_encode_header(copy, type, type >= QDES_WIRE_CHALLENGE ?
                            QDES_WIRE_FLAG_SEALED : 0, 7);
    memcpy(copy + QDES_WIRE_HEADER_SIZE, data + 1,
           size - QDES_WIRE_HEADER_SIZE);
    if (size > QDES_WIRE_CONTROL_MAX) {
        g_free(copy);
        return 0;
    }
    header = read_own(copy, size);
    if (header.type >= QDES_WIRE_CHALLENGE) {
        check_challenge(&header);
    } else if (header.type != QDES_WIRE_PEERS) {
        check_echo(&header);
    } else if (qdes_control_decode_peers(&message, &header) ==
               QDES_WIRE_OK) {
        if (message.is_request) {
            check_request(&message);
        } else {
            check_list(&message, &header);
        }
    }
    g_free(copy);
    return 0;
}
