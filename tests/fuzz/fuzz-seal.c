/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing sealed datagrams: what a sender sealed comes out as it was, in any
 * order, each but once; what was changed, cut or invented does not come out.
 */

#include "fuzz.h"

#include "qdes/bytes.h"
#include "qdes/seal.h"
#include "qdes/wire.h"

#define NETID 7
#define SENT 64
#define ACCEPTED 3
#define PENDING 2

typedef struct Sealed {
    uint8_t *data;              /* as sealed; NULL: not yet */
    size_t size;                /* of it */
    bool taken;
} Sealed;

static uint8_t plain_byte(unsigned n, size_t i)
{
    return n * 31 + i;
}

static void make(QdesSealSender *sender, Sealed *sealed, unsigned n,
                 uint8_t bits, int64_t now)
{
    size_t size = QDES_WIRE_HEADER_SIZE + bits;
    size_t i;

    g_free(sealed->data);
    sealed->data = g_malloc0(size + QDES_SEAL_OVERHEAD);
    qdes_wire_encode_header(sealed->data + QDES_SEAL_LEAD, QDES_WIRE_DATA,
                            bits & QDES_WIRE_FLAG_CSUM_PARTIAL, NETID);
    for (i = QDES_WIRE_HEADER_SIZE; i < size; i++) {
        sealed->data[QDES_SEAL_LEAD + i] = plain_byte(n, i);
    }
    sealed->taken = false;
    sealed->size = size + QDES_SEAL_OVERHEAD;
    fuzz_check(qdes_seal(sender, bits % 2, sealed->data, size, now),
               "it cannot be sealed");
}

static void check_plain(const uint8_t *data, size_t size, unsigned n)
{
    QdesWireHeader header;
    size_t i;

    fuzz_check(size >= QDES_WIRE_HEADER_SIZE &&
               (qdes_wire_decode(&header, data, size) == QDES_WIRE_OK ||
                header.type == QDES_WIRE_DATA) && header.netid == NETID,
               "a header changed");
    for (i = QDES_WIRE_HEADER_SIZE; i < size; i++) {
        fuzz_check(data[i] == plain_byte(n, i), "a byte changed");
    }
}

/* Receive @size bytes; returns whether they came out as sent by number @n. */
static bool take(QdesSealSessions *sessions, const QdesSealKey *key,
                 const uint8_t *data, size_t size, unsigned n, int64_t now)
{
    static const uint64_t floors[QDES_SEAL_KINDS] = { 0 };
    uint8_t *copy = fuzz_copy(data, size);
    QdesSealSession *session;
    QdesSealHead head;
    bool ok = false;

    if (size >= QDES_SEAL_MIN) {
        qdes_seal_read_head(&head, copy);
        session = qdes_seal_sessions_find(sessions, &head);
        if (session && session->accepted) {
            if (qdes_seal_window_has_room(&session->windows[head.kind],
                                          head.number) &&
                qdes_seal_open(&session->cipher, &head, copy, size, NETID)) {
                qdes_seal_window_take(&session->windows[head.kind],
                                      head.number);
                ok = true;
            }
        } else if (session) {
            ok = qdes_seal_open(&session->cipher, &head, copy, size, NETID);
        } else {
            session = qdes_seal_sessions_try(sessions, key, &head, copy, size,
                                             NETID, now);
            ok = session != NULL;
        }
        if (ok && !session->accepted) {
            qdes_seal_sessions_accept(sessions, session, floors, now);
            qdes_seal_window_take(&session->windows[head.kind], head.number);
        }
    }
    if (ok) {
        check_plain(copy + QDES_SEAL_LEAD, size - QDES_SEAL_OVERHEAD, n);
    }
    g_free(copy);
    return ok;
}

/* A datagram that is none of the sender's. */
static void take_bad(QdesSealSessions *sessions, const QdesSealKey *key,
                     Input *in, const Sealed *like, int64_t now)
{
    uint8_t bits = input_byte(in);
    const uint8_t *bytes;
    size_t size, i;
    uint8_t change, diff = 0;
    uint8_t *data;

    if (!like->data || bits & 1) {
        size = input_bytes(in, &bytes, 512);
        fuzz_check(!take(sessions, key, bytes, size, 0, now),
                   "what was invented came out");
        return;
    }
    size = bits & 2 ? like->size - 1 - input_byte(in) % like->size
                    : like->size;
    data = fuzz_copy(like->data, size);
    for (i = 0; i < bits / 64 && size > 0; i++) {
        data[input_u16(in) % size] ^= input_byte(in);
    }
    /* Not memcmp(), by which libFuzzer would learn a whole good datagram. */
    for (i = 0; i < size; i++) {
        change = data[i] ^ like->data[i];
        diff |= change;
    }
    fuzz_check((size == like->size && !diff) ||
               !take(sessions, key, data, size, 0, now),
               "what was changed came out");
    g_free(data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = { data, size };
    QdesSealSessions *sessions = qdes_seal_sessions_new(ACCEPTED, PENDING);
    QdesSealSender sender;
    Sealed sealed[SENT] = { { NULL, 0, false } };
    unsigned n, begun = 1;
    int64_t now = 1000;
    QdesSealKey key;
    uint8_t op;

    fuzz_check(qdes_seal_key_init(&key, "0123456789abcdef", 16, NETID) &&
               qdes_seal_sender_begin(&sender, &key,
                                      input_byte(&in) & 1 ?
                                      QDES_SEAL_AES_256_GCM :
                                      QDES_SEAL_CHACHA20_POLY1305, 1, now),
               "there are no ciphers");
    while (in.size > 0) {
        op = input_byte(&in);
        n = input_byte(&in) % SENT;
        switch (op % 6) {
        case 0:
        case 1:
            make(&sender, &sealed[n], n, input_byte(&in), now);
            break;
        case 2:
        case 3:
            if (sealed[n].data &&
                take(sessions, &key, sealed[n].data, sealed[n].size, n,
                     now)) {
                fuzz_check(!sealed[n].taken, "a datagram came out twice");
                sealed[n].taken = true;
            }
            break;
        case 4:
            take_bad(sessions, &key, &in, &sealed[n], now);
            break;
        case 5:
            now += n * 100;
            if (op / 6 % 8 == 0 && begun < ACCEPTED) {
                qdes_seal_sender_end(&sender);
                fuzz_check(qdes_seal_sender_begin(&sender, &key,
                                                  QDES_SEAL_AUTO, ++begun,
                                                  now), "no second session");
            }
            break;
        }
        fuzz_check(qdes_seal_sessions_accepted(sessions) <= ACCEPTED &&
                   qdes_seal_sessions_pending(sessions) <= PENDING,
                   "too many sessions");
    }
    for (n = 0; n < SENT; n++) {
        g_free(sealed[n].data);
    }
    qdes_seal_sender_end(&sender);
    qdes_seal_key_wipe(&key);
    qdes_seal_sessions_free(sessions);
    return 0;
}
