/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * seal, sealkey against docs/protocol/sealed.json, which another
 * implementation, with another library's ciphers, wrote and checks.
 */

#include "unit.h"

#include <json-glib/json-glib.h>

#include "qdes/bytes.h"
#include "qdes/seal.h"
#include "qdes/wire.h"

static JsonParser *parser;
static JsonArray *keys;
static JsonArray *datagrams;

static void read_file(void)
{
    GError *err = NULL;
    JsonObject *root;

    parser = json_parser_new();
    if (!json_parser_load_from_file(parser, g_getenv("QDES_SEALED_VECTORS"),
                                    &err)) {
        printf("Bail out! %s\n", err->message);
        exit(EXIT_FAILURE);
    }
    root = json_node_get_object(json_parser_get_root(parser));
    keys = json_object_get_array_member(root, "keys");
    datagrams = json_object_get_array_member(root, "datagrams");
}

static const char *text_of(JsonObject *object, const char *member)
{
    const char *text = json_object_get_string_member(object, member);

    ck_assert_msg(text != NULL, "no member %s", member);
    return text;
}

/* The bytes of a member, which the caller frees. */
static uint8_t *bytes_of(JsonObject *object, const char *member, size_t *size)
{
    const char *hex = text_of(object, member);
    uint8_t *bytes = g_malloc(strlen(hex) / 2 + 1);
    size_t i;

    *size = strlen(hex) / 2;
    for (i = 0; i < *size; i++) {
        bytes[i] = g_ascii_xdigit_value(hex[2 * i]) << 4 |
                   g_ascii_xdigit_value(hex[2 * i + 1]);
    }
    return bytes;
}

static uint64_t number_of(JsonObject *object, const char *member)
{
    return g_ascii_strtoull(text_of(object, member), NULL, 16);
}

static void ck_bytes(JsonObject *object, const char *member, const void *data,
                     size_t size)
{
    size_t expected_size;
    g_autofree uint8_t *expected = bytes_of(object, member, &expected_size);

    ck_assert_msg(size == expected_size, "%s: %zu bytes, not %zu",
                  text_of(object, "name"), size, expected_size);
    ck_assert_msg(memcmp(data, expected, size) == 0, "%s: wrong %s",
                  text_of(object, "name"), member);
}

static void make_key(QdesSealKey *key, JsonObject *object)
{
    size_t size;
    g_autofree uint8_t *secret = bytes_of(object, "secret", &size);

    ck_assert(qdes_seal_key_init(key, secret, size,
                                 json_object_get_int_member(object,
                                                            "netid")));
}

/* The one that is called @name; fills @netid. */
static void find_key(QdesSealKey *key, const char *name, uint32_t *netid)
{
    JsonObject *object;
    unsigned i;

    for (i = 0; i < json_array_get_length(keys); i++) {
        object = json_array_get_object_element(keys, i);
        if (strcmp(text_of(object, "name"), name) == 0) {
            *netid = json_object_get_int_member(object, "netid");
            make_key(key, object);
            return;
        }
    }
    ck_abort_msg("no key %s", name);
}

START_TEST(test_key)
{
    JsonObject *object = json_array_get_object_element(keys, _i);
    JsonArray *sessions = json_object_get_array_member(object, "sessions");
    uint8_t material[QDES_SEAL_KEY_SIZE + QDES_SEAL_IV_SIZE];
    g_autofree uint8_t *expected = NULL;
    g_autofree uint8_t *iv = NULL;
    JsonObject *session;
    QdesSealKey key;
    uint64_t id;
    size_t size;
    unsigned i;

    make_key(&key, object);
    ck_bytes(object, "network-key", key.network, sizeof(key.network));
    ck_assert_uint_eq(key.pseudonym, number_of(object, "pseudonym"));
    ck_assert_uint_eq(key.id, number_of(object, "key-id"));
    ck_assert_uint_gt(json_array_get_length(sessions), 0);
    for (i = 0; i < json_array_get_length(sessions); i++) {
        session = json_array_get_object_element(sessions, i);
        id = number_of(session, "session");
        ck_assert(qdes_seal_key_session(&key, id, material));
        g_free(expected);
        expected = bytes_of(session, "key", &size);
        ck_assert_mem_eq(material, expected, QDES_SEAL_KEY_SIZE);
        g_free(iv);
        iv = bytes_of(session, "iv", &size);
        ck_assert_mem_eq(material + QDES_SEAL_KEY_SIZE, iv,
                         QDES_SEAL_IV_SIZE);
        ck_assert_str_eq(qdes_seal_choice_name(qdes_seal_choice(id)),
                         text_of(session, "cipher"));
    }
    qdes_seal_key_wipe(&key);
}
END_TEST

/* A receiver opens it, or not, as the file says. */
START_TEST(test_open)
{
    JsonObject *object = json_array_get_object_element(datagrams, _i);
    QdesSealSessions *sessions = qdes_seal_sessions_new(4, 4);
    bool sound = strcmp(text_of(object, "result"), "ok") == 0;
    size_t size;
    g_autofree uint8_t *data = bytes_of(object, "sealed", &size);
    QdesSealSession *session;
    QdesSealHead head;
    QdesSealKey key;
    uint32_t netid;

    find_key(&key, text_of(object, "key"), &netid);
    ck_assert_uint_ge(size, QDES_SEAL_MIN);
    qdes_seal_read_head(&head, data);
    ck_assert_uint_eq(head.pseudonym, key.pseudonym);
    session = qdes_seal_sessions_try(sessions, &key, &head, data, size,
                                     netid, 1);
    ck_assert_msg(!!session == sound, "%s: %s", text_of(object, "name"),
                  session ? "it opens" : "it does not open");
    if (sound) {
        ck_assert_uint_eq(head.session, number_of(object, "session"));
        ck_assert_uint_eq(head.number,
                          json_object_get_int_member(object, "number"));
        ck_assert(head.kind == (json_object_get_boolean_member(object,
                                                               "flooded") ?
                                QDES_SEAL_FLOODED : QDES_SEAL_UNICAST));
        ck_bytes(object, "plain", data + QDES_SEAL_LEAD,
                 size - QDES_SEAL_OVERHEAD);
    }
    qdes_seal_sessions_free(sessions);
    qdes_seal_key_wipe(&key);
}
END_TEST

/* A sender with that session and number makes the same bytes. */
START_TEST(test_seal)
{
    JsonObject *object = json_array_get_object_element(datagrams, _i);
    QdesSealKind kind = json_object_get_boolean_member(object, "flooded") ?
                        QDES_SEAL_FLOODED : QDES_SEAL_UNICAST;
    uint64_t id = number_of(object, "session");
    g_autofree uint8_t *plain = NULL;
    g_autofree uint8_t *data = NULL;
    QdesSealSender sender;
    QdesSealKey key;
    uint32_t netid;
    size_t size;

    if (strcmp(text_of(object, "result"), "ok") != 0) {
        return;                 /* nobody seals such a thing */
    }
    find_key(&key, text_of(object, "key"), &netid);
    ck_assert(qdes_seal_sender_begin(&sender, &key, qdes_seal_choice(id), id,
                                     1));
    ck_assert_uint_eq(sender.session, id);
    sender.next[kind] = json_object_get_int_member(object, "number");
    plain = bytes_of(object, "plain", &size);
    data = g_malloc0(size + QDES_SEAL_OVERHEAD);
    memcpy(data + QDES_SEAL_LEAD, plain, size);
    ck_assert(qdes_seal(&sender, kind, data, size, 1));
    ck_bytes(object, "sealed", data, size + QDES_SEAL_OVERHEAD);
    qdes_seal_sender_end(&sender);
    qdes_seal_key_wipe(&key);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("seal-vectors");
    TCase *tcase = tcase_create("vectors");
    int ret;

    read_file();
    tcase_add_loop_test(tcase, test_key, 0, json_array_get_length(keys));
    tcase_add_loop_test(tcase, test_open, 0,
                        json_array_get_length(datagrams));
    tcase_add_loop_test(tcase, test_seal, 0,
                        json_array_get_length(datagrams));
    suite_add_tcase(suite, tcase);
    ret = unit_main(suite);
    g_object_unref(parser);
    return ret;
}
