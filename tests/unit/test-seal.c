/* SPDX-License-Identifier: GPL-2.0-or-later */
/* seal, sealkey: known answers, windows against a model, sessions. */

#include "unit.h"

#include <inttypes.h>
#include <time.h>

#include "qdes/bytes.h"
#include "qdes/seal.h"
#include "qdes/wire.h"

#define NETID 42

static QdesSealKey key;

static void setup(void)
{
    uint8_t secret[32];
    int i;

    for (i = 0; i < 32; i++) {
        secret[i] = i;
    }
    ck_assert(qdes_seal_key_init(&key, secret, sizeof(secret), NETID));
}

static void ck_hex(const void *data, size_t size, const char *expected)
{
    g_autoptr(GString) text = g_string_new(NULL);
    size_t i;

    for (i = 0; i < size; i++) {
        g_string_append_printf(text, "%02x", ((const uint8_t *)data)[i]);
    }
    ck_assert_str_eq(text->str, expected);
}

/* The plain datagram of @size bytes, as it is before it is sealed. */
static void put_plain(uint8_t *data, size_t size)
{
    size_t i;

    qdes_wire_encode_header(data + QDES_SEAL_LEAD, QDES_WIRE_DATA, 0, NETID);
    for (i = QDES_WIRE_HEADER_SIZE; i < size; i++) {
        data[QDES_SEAL_LEAD + i] = 32 + i;
    }
}

/* All expected values were computed by Python's hashlib and cryptography. */

START_TEST(test_keys)
{
    ck_hex(key.network, sizeof(key.network), "dcb98d684a9d2d00f34555e68ff6f05f"
           "9e250a3c308ec3c43bab64b2c2b172d9");
    ck_assert_uint_eq(key.pseudonym, 0xe585cdf6);
    ck_assert_uint_eq(key.id, 0xe8a8e8b9);
}
END_TEST

START_TEST(test_session_keys)
{
    uint8_t material[QDES_SEAL_KEY_SIZE + QDES_SEAL_IV_SIZE];

    ck_assert(qdes_seal_key_session(&key, 0x0123456789abcdee, material));
    ck_hex(material, sizeof(material), "b666f07cadcfcc43ef619ecbde99b426c2f8db"
           "3891d68720d34999fee644e6bec2c1038b3be1f28590548fa1");
}
END_TEST

START_TEST(test_key_depends_on_all)
{
    QdesSealKey other;

    ck_assert(qdes_seal_key_init(&other, "0123456789abcdef", 16, NETID));
    ck_assert_uint_ne(other.pseudonym, key.pseudonym);
    ck_assert(qdes_seal_key_init(&key, "0123456789abcdef", 16, NETID + 1));
    ck_assert_uint_ne(other.pseudonym, key.pseudonym);
    ck_assert_uint_ne(other.id, key.id);
}
END_TEST

START_TEST(test_key_wiped)
{
    static const QdesSealKey zero;

    qdes_seal_key_wipe(&key);
    ck_assert_mem_eq(&key, &zero, sizeof(key));
}
END_TEST

START_TEST(test_known_datagrams)
{
    static const struct {
        QdesSealChoice choice;
        uint64_t random;
        QdesSealKind kind;
        uint64_t number;
        const char *hex;
    } cases[] = {
        { QDES_SEAL_AES_256_GCM, 0x0123456789abcdef, QDES_SEAL_UNICAST, 1,
          "51441002e585cdf60123456789abcdee00000000000000019a8ae5e075bd34d468"
          "de9ed809332b8d816bfe8a89610f99961fbd2cb692a76fb49354d1" },
        { QDES_SEAL_CHACHA20_POLY1305, 0x0123456789abcdee, QDES_SEAL_FLOODED,
          7,
          "51441002e585cdf60123456789abcdef80000000000000074d9d38e16bbad648f7"
          "afc0bd4ddde9246c97d01a1fbbb5ebeca6db1908062ed40889ca8d" },
    };
    uint8_t data[60];
    QdesSealSender sender;
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        ck_assert(qdes_seal_sender_begin(&sender, &key, cases[i].choice,
                                         cases[i].random, 0));
        sender.next[cases[i].kind] = cases[i].number;
        put_plain(data, 28);
        ck_assert(qdes_seal(&sender, cases[i].kind, data, 28, 0));
        ck_hex(data, sizeof(data), cases[i].hex);
        qdes_seal_sender_end(&sender);
    }
}
END_TEST

/* In place is as good as not: for each length, against the library itself. */
START_TEST(test_in_place)
{
    QdesSealChoice choice = _i ? QDES_SEAL_CHACHA20_POLY1305
                               : QDES_SEAL_AES_256_GCM;
    uint8_t material[QDES_SEAL_KEY_SIZE + QDES_SEAL_IV_SIZE];
    gnutls_datum_t datum = { material, QDES_SEAL_KEY_SIZE };
    gnutls_aead_cipher_hd_t handle;
    uint8_t data[1700], plain[1700], expected[1700];
    uint8_t nonce[QDES_SEAL_IV_SIZE];
    QdesSealSender sender;
    QdesSealHead head;
    size_t size, sealed;

    ck_assert(qdes_seal_sender_begin(&sender, &key, choice, 99, 0));
    ck_assert(qdes_seal_key_session(&key, sender.session, material));
    ck_assert_int_eq(gnutls_aead_cipher_init(&handle, _i ?
        GNUTLS_CIPHER_CHACHA20_POLY1305 : GNUTLS_CIPHER_AES_256_GCM,
        &datum), 0);
    for (size = QDES_WIRE_HEADER_SIZE; size < 1600; size++) {
        put_plain(data, size);
        memcpy(plain, data + QDES_SEAL_HEADER, size - 8);
        ck_assert(qdes_seal(&sender, QDES_SEAL_UNICAST, data, size, 0));
        memcpy(nonce, material + QDES_SEAL_KEY_SIZE, sizeof(nonce));
        qdes_put_be64(nonce + 4, qdes_get_be64(nonce + 4) ^ (size - 7));
        sealed = sizeof(expected);
        ck_assert_int_eq(gnutls_aead_cipher_encrypt(
            handle, nonce, sizeof(nonce), data, 24, 16, plain, size - 8,
            expected, &sealed), 0);
        ck_assert_mem_eq(data + 24, expected, sealed);
        qdes_seal_read_head(&head, data);
        ck_assert(qdes_seal_open(&sender.cipher, &head, data, size + 32,
                                 NETID));
        ck_assert_mem_eq(data + QDES_SEAL_HEADER, plain, size - 8);
    }
    gnutls_aead_cipher_deinit(handle);
    qdes_seal_sender_end(&sender);
}
END_TEST

START_TEST(test_choice)
{
    QdesSealSender sender;

    ck_assert(qdes_seal_sender_begin(&sender, &key, QDES_SEAL_AES_256_GCM, 1,
                                     0));
    ck_assert_uint_ne(sender.session, 0);
    ck_assert_int_eq(qdes_seal_choice(sender.session), QDES_SEAL_AES_256_GCM);
    qdes_seal_sender_end(&sender);
    ck_assert(qdes_seal_sender_begin(&sender, &key,
                                     QDES_SEAL_CHACHA20_POLY1305, 2, 0));
    ck_assert_int_eq(qdes_seal_choice(sender.session),
                     QDES_SEAL_CHACHA20_POLY1305);
    qdes_seal_sender_end(&sender);
    ck_assert(qdes_seal_sender_begin(&sender, &key, QDES_SEAL_AUTO, 2, 0));
    qdes_seal_sender_end(&sender);
}
END_TEST

/* Every bit counts, those that anybody can read, too. */
START_TEST(test_forged)
{
    uint8_t data[80], sealed[80];
    QdesSealSender sender;
    QdesSealHead head;
    unsigned bit;

    ck_assert(qdes_seal_sender_begin(&sender, &key, QDES_SEAL_AES_256_GCM, 4,
                                     0));
    put_plain(data, 48);
    ck_assert(qdes_seal(&sender, QDES_SEAL_UNICAST, data, 48, 0));
    memcpy(sealed, data, sizeof(data));
    for (bit = 0; bit < 8 * sizeof(data); bit++) {
        memcpy(data, sealed, sizeof(data));
        data[bit / 8] ^= 1 << bit % 8;
        qdes_seal_read_head(&head, data);
        ck_assert(!qdes_seal_open(&sender.cipher, &head, data, sizeof(data),
                                  NETID));
    }
    memcpy(data, sealed, sizeof(data));
    ck_assert(!qdes_seal_open(&sender.cipher, &head, data, sizeof(data) - 1,
                              NETID));
    qdes_seal_sender_end(&sender);
}
END_TEST

START_TEST(test_limits)
{
    const QdesSealLimits limits = { 10, 2000, 5000 };
    QdesSealSender sender;
    uint8_t data[1100];
    int i;

    ck_assert(qdes_seal_sender_begin(&sender, &key, QDES_SEAL_AUTO, 4, 100));
    ck_assert(!qdes_seal_sender_is_due(&sender, &limits, 5099));
    ck_assert(qdes_seal_sender_is_due(&sender, &limits, 5100));
    for (i = 0; i < 10; i++) {
        ck_assert(!qdes_seal_sender_is_due(&sender, &limits, 100));
        put_plain(data, 20);
        ck_assert(qdes_seal(&sender, i % 2, data, 20, 100));
    }
    ck_assert(qdes_seal_sender_is_due(&sender, &limits, 100));
    qdes_seal_sender_end(&sender);

    ck_assert(qdes_seal_sender_begin(&sender, &key, QDES_SEAL_AUTO, 4, 100));
    for (i = 0; i < 2; i++) {
        ck_assert(!qdes_seal_sender_is_due(&sender, &limits, 100));
        put_plain(data, 1000);
        ck_assert(qdes_seal(&sender, 0, data, 1000, 100));
    }
    ck_assert(qdes_seal_sender_is_due(&sender, &limits, 100));
    qdes_seal_sender_end(&sender);
}
END_TEST

START_TEST(test_hard_stop)
{
    static const uint8_t zero[60];
    QdesSealSender sender;
    uint8_t data[60];

    ck_assert(qdes_seal_sender_begin(&sender, &key, QDES_SEAL_AUTO, 4, 0));
    sender.next[QDES_SEAL_UNICAST] = QDES_SEAL_HARD_STOP;
    put_plain(data, 28);
    ck_assert(qdes_seal(&sender, QDES_SEAL_FLOODED, data, 28, 0));
    put_plain(data, 28);
    ck_assert(!qdes_seal(&sender, QDES_SEAL_FLOODED, data, 28, 0));
    ck_assert_mem_eq(data, zero, sizeof(data));
    qdes_seal_sender_end(&sender);
    put_plain(data, 28);
    ck_assert(!qdes_seal(&sender, QDES_SEAL_FLOODED, data, 28, 0));
    ck_assert_mem_eq(data, zero, sizeof(data));
}
END_TEST

/* What was sent before a time has numbers that are not above the floors. */
START_TEST(test_floors)
{
    GRand *rand = unit_rand("test_floors");
    int64_t now = 5000, age;
    uint64_t floors[QDES_SEAL_KINDS];
    QdesSealSender sender;
    uint8_t data[60];
    static struct {
        int64_t when;
        uint64_t number;
        int kind;
    } sent[1000];
    int n, i;

    ck_assert(qdes_seal_sender_begin(&sender, &key, QDES_SEAL_AUTO, 4, now));
    qdes_seal_sender_floors(&sender, 1000, now, floors);
    ck_assert_uint_eq(floors[0], 0);
    for (n = 0; n < 1000; n++) {
        now += g_rand_boolean(rand) ? 0 : g_rand_int_range(rand, 0, 20);
        sent[n].when = now;
        sent[n].kind = g_rand_int_range(rand, 0, 2);
        sent[n].number = sender.next[sent[n].kind];
        put_plain(data, 28);
        ck_assert(qdes_seal(&sender, sent[n].kind, data, 28, now));
        age = g_rand_int_range(rand, 0, QDES_SEAL_MEMORY_MS + 1);
        qdes_seal_sender_floors(&sender, age, now, floors);
        for (i = MAX(0, n - 300); i <= n; i++) {
            if (sent[i].when <= now - age) {
                ck_assert_uint_le(sent[i].number, floors[sent[i].kind]);
            } else if (sent[i].when > now - age + 8) {
                /* It is not much more than those. */
                ck_assert_uint_gt(sent[i].number, floors[sent[i].kind]);
            }
        }
    }
    qdes_seal_sender_end(&sender);
    g_rand_free(rand);
}
END_TEST

/* Windows */

#define NUMBERS 40000

START_TEST(test_window_model)
{
    GRand *rand = unit_rand("test_window_model");
    static bool taken[NUMBERS + 6000];
    QdesSealWindow w;
    uint64_t floor = g_rand_int_range(rand, 0, 3000);
    uint64_t highest = floor;
    uint64_t number;
    bool expected;
    int i;

    qdes_seal_window_init(&w, floor);
    for (i = 0; i < 400000 && highest < NUMBERS; i++) {
        switch (g_rand_int_range(rand, 0, 40)) {
        case 0:                 /* a leap */
            number = highest + g_rand_int_range(rand, 1, 5000);
            break;
        case 1 ... 8:
            number = highest + 1;
            break;
        case 9:                 /* about where the window ends */
            number = highest - QDES_SEAL_WINDOW +
                     g_rand_int_range(rand, -3, 4);
            break;
        default:
            number = highest + 20 - g_rand_int_range(rand, 0, 3000);
            break;
        }
        if ((int64_t)number <= 0) {
            continue;
        }
        expected = number > floor && !taken[number] &&
                   (number > highest || highest - number < QDES_SEAL_WINDOW);
        ck_assert_msg(qdes_seal_window_has_room(&w, number) == expected,
                      "%" G_GUINT64_FORMAT " with %" G_GUINT64_FORMAT,
                      number, highest);
        if (expected) {
            qdes_seal_window_take(&w, number);
            taken[number] = true;
            highest = MAX(highest, number);
        }
    }
    g_rand_free(rand);
}
END_TEST

START_TEST(test_window_ends)
{
    QdesSealWindow w;

    qdes_seal_window_init(&w, 0);
    ck_assert(!qdes_seal_window_has_room(&w, 0));
    ck_assert(qdes_seal_window_has_room(&w, 1));
    qdes_seal_window_take(&w, INT64_MAX);
    ck_assert(!qdes_seal_window_has_room(&w, INT64_MAX));
    ck_assert(!qdes_seal_window_has_room(&w, 1));
    ck_assert(qdes_seal_window_has_room(&w, INT64_MAX - 1));
    ck_assert(qdes_seal_window_has_room(&w,
                                        INT64_MAX - QDES_SEAL_WINDOW + 1));
    ck_assert(!qdes_seal_window_has_room(&w, INT64_MAX - QDES_SEAL_WINDOW));
}
END_TEST

/* Sessions */

static QdesSealSession *hear(QdesSealSessions *sessions, uint64_t random,
                             int64_t now)
{
    QdesSealSender sender;
    QdesSealSession *session;
    QdesSealHead head;
    uint8_t data[60];

    ck_assert(qdes_seal_sender_begin(&sender, &key, QDES_SEAL_AES_256_GCM,
                                     random << 1, now));
    put_plain(data, 28);
    ck_assert(qdes_seal(&sender, 0, data, 28, now));
    qdes_seal_read_head(&head, data);
    session = qdes_seal_sessions_find(sessions, &head);
    if (!session) {
        session = qdes_seal_sessions_try(sessions, &key, &head, data, 60,
                                         NETID, now);
        ck_assert_ptr_eq(qdes_seal_sessions_find(sessions, &head), session);
    }
    qdes_seal_sender_end(&sender);
    return session;
}

static bool is_there(QdesSealSessions *sessions, uint64_t random)
{
    QdesSealHead head = { .session = random << 1 };

    return qdes_seal_sessions_find(sessions, &head) != NULL;
}

START_TEST(test_sessions_bounded)
{
    static const uint64_t floors[QDES_SEAL_KINDS];
    QdesSealSessions *sessions = qdes_seal_sessions_new(4, 3);
    QdesSealSession *session;
    int i;

    /* Of the pending, the oldest goes, though it was heard again. */
    for (i = 1; i <= 3; i++) {
        hear(sessions, i, i);
    }
    hear(sessions, 1, 4);
    hear(sessions, 4, 5);
    ck_assert(!is_there(sessions, 1));
    ck_assert(is_there(sessions, 2) && is_there(sessions, 4));
    ck_assert_uint_eq(qdes_seal_sessions_pending(sessions), 3);
    ck_assert_int_eq(qdes_seal_sessions_forgot(sessions), INT64_MIN);

    /* Of the accepted, the one silent for longest. */
    for (i = 11; i <= 14; i++) {
        session = hear(sessions, i, i);
        qdes_seal_sessions_accept(sessions, session, floors, i);
    }
    hear(sessions, 11, 20)->heard = 20;
    session = hear(sessions, 15, 21);
    qdes_seal_sessions_accept(sessions, session, floors, 21);
    ck_assert(is_there(sessions, 11));
    ck_assert(!is_there(sessions, 12));
    ck_assert_uint_eq(qdes_seal_sessions_accepted(sessions), 4);
    ck_assert_int_eq(qdes_seal_sessions_forgot(sessions), 21);

    qdes_seal_sessions_age(sessions, 5, 21);
    ck_assert_uint_eq(qdes_seal_sessions_accepted(sessions), 2);
    qdes_seal_sessions_forget(sessions, key.pseudonym + 1, 22);
    ck_assert_uint_eq(qdes_seal_sessions_accepted(sessions), 2);
    qdes_seal_sessions_forget(sessions, key.pseudonym, 22);
    ck_assert_uint_eq(qdes_seal_sessions_accepted(sessions), 0);
    ck_assert_uint_eq(qdes_seal_sessions_pending(sessions), 0);
    qdes_seal_sessions_free(sessions);
}
END_TEST

/* The time of 300 that are pending, beyond those that there is room for. */
static int64_t time_of_pending(QdesSealSessions *sessions, uint64_t random)
{
    clock_t best = 0;
    clock_t begun;
    int i, round;

    for (round = 0; round < 3; round++) {
        begun = clock();
        for (i = 0; i < 300; i++) {
            hear(sessions, random++, 0);
        }
        begun = clock() - begun;
        best = round ? MIN(best, begun) : begun;
    }
    return best;
}

/* Whoever sends recordings again must not have us search among the members. */
START_TEST(test_pending_in_no_time)
{
    static const uint64_t floors[QDES_SEAL_KINDS];
    QdesSealSessions *sessions = qdes_seal_sessions_new(20000, 8);
    int64_t few, many;
    int i;

    few = time_of_pending(sessions, 1000000);
    for (i = 1; i <= 20000; i++) {
        qdes_seal_sessions_accept(sessions, hear(sessions, i, i), floors, i);
    }
    many = time_of_pending(sessions, 2000000);
    ck_assert_msg(many < 4 * few, "%" PRId64 " us, and %" PRId64 " us with "
                  "many sessions", few, many);
    qdes_seal_sessions_free(sessions);
}
END_TEST

START_TEST(test_session_refused)
{
    QdesSealSessions *sessions = qdes_seal_sessions_new(4, 3);
    QdesSealSender sender;
    QdesSealKey other;
    QdesSealHead head;
    uint8_t data[60];

    ck_assert(qdes_seal_key_init(&other, "0123456789abcdef", 16, NETID));
    ck_assert(qdes_seal_sender_begin(&sender, &other, QDES_SEAL_AUTO, 8, 0));
    put_plain(data, 28);
    ck_assert(qdes_seal(&sender, 0, data, 28, 0));
    qdes_seal_read_head(&head, data);
    ck_assert_uint_eq(head.number, 1);
    ck_assert_int_eq(head.kind, QDES_SEAL_UNICAST);
    ck_assert_ptr_null(qdes_seal_sessions_try(sessions, &key, &head, data, 60,
                                              NETID, 0));
    head.session = 0;
    ck_assert_ptr_null(qdes_seal_sessions_try(sessions, &other, &head, data,
                                              60, NETID, 0));
    ck_assert_uint_eq(qdes_seal_sessions_pending(sessions), 0);
    qdes_seal_sender_end(&sender);
    qdes_seal_sessions_free(sessions);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("seal");
    TCase *tc = tcase_create("seal");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, test_keys);
    tcase_add_test(tc, test_session_keys);
    tcase_add_test(tc, test_key_depends_on_all);
    tcase_add_test(tc, test_key_wiped);
    tcase_add_test(tc, test_known_datagrams);
    tcase_add_loop_test(tc, test_in_place, 0, 2);
    tcase_add_test(tc, test_choice);
    tcase_add_test(tc, test_forged);
    tcase_add_test(tc, test_limits);
    tcase_add_test(tc, test_hard_stop);
    tcase_add_test(tc, test_floors);
    tcase_add_test(tc, test_window_model);
    tcase_add_test(tc, test_window_ends);
    tcase_add_test(tc, test_sessions_bounded);
    tcase_add_test(tc, test_pending_in_no_time);
    tcase_add_test(tc, test_session_refused);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
