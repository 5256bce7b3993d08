/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing the headers of all encapsulations, and HELLO and BYE: what is
 * accepted lies within the datagram, and is written as it was read.
 */

#include "fuzz.h"

#include "qdes/encap.h"
#include "qdes/name.h"

static const char *const encaps[] = { "qdes", "vxlan", "vxvde" };

static void check_name(const char *name)
{
    size_t size = strlen(name);
    size_t i;

    fuzz_check(size <= QDES_NAME_MAX && g_utf8_validate(name, size, NULL),
               "a name is not UTF-8, or too long");
    for (i = 0; i < size; i++) {
        fuzz_check(!g_ascii_iscntrl(name[i]), "a control character");
    }
}

static void check_hello(const QdesWireHeader *header)
{
    uint8_t data[QDES_WIRE_HELLO_PADDED];
    QdesWireHello hello, again;
    QdesWireHeader own;
    size_t size, padded;

    if (qdes_wire_decode_hello(&hello, header) != QDES_WIRE_OK) {
        return;
    }
    fuzz_check(hello.instance != 0, "no instance");
    check_name(hello.name);
    size = qdes_wire_encode_hello(data, header->type, header->netid, &hello);
    fuzz_check(size <= QDES_WIRE_HELLO_SIZE, "a HELLO is too long");
    padded = qdes_wire_pad(data, size, QDES_WIRE_HELLO_PADDED);
    fuzz_check(padded == QDES_WIRE_HELLO_PADDED, "a HELLO is not padded");
    fuzz_check(qdes_wire_decode(&own, data, padded) == QDES_WIRE_OK &&
               own.type == header->type && own.netid == header->netid &&
               qdes_wire_decode_hello(&again, &own) == QDES_WIRE_OK,
               "our own HELLO is not understood");
    if (header->type == QDES_WIRE_BYE) {
        fuzz_check(again.instance == hello.instance, "another instance");
        return;
    }
    fuzz_check(again.instance == hello.instance &&
               again.capabilities == hello.capabilities &&
               again.mtu == hello.mtu &&
               again.hold_time == hello.hold_time &&
               again.group_heard == hello.group_heard &&
               strcmp(again.name, hello.name) == 0, "a HELLO changed");
    fuzz_check(again.n_keys == hello.n_keys &&
               memcmp(again.keys, hello.keys, sizeof(hello.keys)) == 0,
               "its keys changed");
    /* What is to be relayed is put in by who sends it. */
    fuzz_check(hello.n_relay_for == 0 ||
               (hello.relay_for >= header->payload &&
                hello.relay_for + 8 * hello.n_relay_for <=
                header->payload + header->payload_size),
               "what is to be relayed leaves the datagram");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const QdesEncapsulation *encap;
    QdesWireHeader header = { 0 };
    uint8_t *copy;
    size_t front;

    if (size == 0) {
        return 0;
    }
    encap = qdes_encap_find(encaps[data[0] % G_N_ELEMENTS(encaps)]);
    size--;
    copy = fuzz_copy(data + 1, size);
    if (encap->decode(&header, copy, size) == QDES_WIRE_OK) {
        front = header.payload - copy;
        fuzz_check(header.netid <= encap->max_netid, "a netid is too large");
        fuzz_check(front == QDES_WIRE_HEADER_SIZE ||
                   front == QDES_WIRE_SUPERFRAME_SIZE,
                   "the payload begins elsewhere");
        fuzz_check(front + header.payload_size == size,
                   "the payload ends elsewhere");
        fuzz_check(encap->control || header.type == QDES_WIRE_DATA,
                   "a message that this encapsulation has not");
        if (header.type == QDES_WIRE_DATA) {
            fuzz_check(header.payload_size >= QDES_FRAME_MIN &&
                       header.payload_size <= QDES_FRAME_MAX,
                       "a frame's size cannot be");
        } else if (header.type <= QDES_WIRE_BYE) {
            check_hello(&header);
        }
    }
    g_free(copy);
    return 0;
}
