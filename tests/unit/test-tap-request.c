/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control socket's questions and answers, as JSON. */

#include "unit.h"

#include <json-glib/json-glib.h>

#include "request.h"

#define ASSERT_TEXT(object, name, want) \
    ck_assert_str_eq(json_object_get_string_member(object, name), want)

static const struct {
    const char *line;
    RequestCommand command;
    const char *mac, *peer;
    bool statics;
} good[] = {
    { "{\"execute\": \"query-qdes\"}", REQUEST_QUERY_QDES, "", "" },
    { "{\"execute\":\"info-qdes\"}", REQUEST_INFO_QDES, "", "" },
    { "  { \"execute\" : \"query-qdes\" } \r", REQUEST_QUERY_QDES, "", "" },
    { "{\"arguments\": {}, \"execute\": \"query-qdes\"}",
      REQUEST_QUERY_QDES, "", "" },
    { "{\"execute\": \"qdes-fdb-add\", \"arguments\": {\"mac\": \"m\"}}",
      REQUEST_FDB_ADD, "m", "" },
    { "{\"execute\": \"qdes-fdb-add\", \"arguments\": {\"mac\": \"m\", "
      "\"peer\": \"p \\\"\"}}", REQUEST_FDB_ADD, "m", "p \"" },
    { "{\"execute\": \"qdes-fdb-del\", \"arguments\": {\"mac\": \"\"}}",
      REQUEST_FDB_DEL, "", "" },
    { "{\"execute\": \"qdes-fdb-flush\"}", REQUEST_FDB_FLUSH, "", "" },
    { "{\"execute\": \"qdes-fdb-flush\", \"arguments\": {\"static\": true, "
      "\"peer\": \"p\"}}", REQUEST_FDB_FLUSH, "", "p", true },
    { "{\"execute\": \"qdes-fdb-flush\", \"arguments\": "
      "{\"static\": false, \"mac\": \"m\"}}", REQUEST_FDB_FLUSH, "m", "" },
};

START_TEST(test_good)
{
    char *answer = NULL;
    Request request;
    char *line;

    ck_assert_int_eq(request_parse(&request, good[_i].line,
                                   strlen(good[_i].line), &answer),
                     good[_i].command);
    ck_assert_int_eq(request.command, good[_i].command);
    ck_assert_ptr_null(answer);
    ck_assert_str_eq(request.mac ? request.mac : "", good[_i].mac);
    ck_assert_str_eq(request.peer ? request.peer : "", good[_i].peer);
    ck_assert(request.statics == good[_i].statics);

    /* What it is made into again means the same. */
    line = request_line(&request);
    request_clear(&request);
    ck_assert_int_eq(request_parse(&request, line, strlen(line), &answer),
                     good[_i].command);
    ck_assert_str_eq(request.mac ? request.mac : "", good[_i].mac);
    ck_assert_str_eq(request.peer ? request.peer : "", good[_i].peer);
    ck_assert(request.statics == good[_i].statics);
    request_clear(&request);
    g_free(line);
}
END_TEST

/* The object that an answer is; it has to be one line. */
static JsonObject *parse_answer(JsonParser *parser, const char *answer)
{
    char *newline = strchr(answer, '\n');

    ck_assert_ptr_nonnull(newline);
    ck_assert_str_eq(newline, "\n");
    ck_assert(g_utf8_validate(answer, -1, NULL));
    ck_assert(json_parser_load_from_data(parser, answer, -1, NULL));
    return json_node_get_object(json_parser_get_root(parser));
}

#define BAD(line, class) { line, sizeof(line) - 1, class }

static const struct {
    const char *line;
    size_t size;
    const char *class;
} bad[] = {
    BAD("", "GenericError"),
    BAD(" ", "GenericError"),
    BAD("query-qdes", "GenericError"),
    BAD("42", "GenericError"),
    BAD("null", "GenericError"),
    BAD("[]", "GenericError"),
    BAD("[\"execute\"]", "GenericError"),
    BAD("\"execute\"", "GenericError"),
    BAD("{", "GenericError"),
    BAD("{}", "GenericError"),
    BAD("{\"execute\": 1}", "GenericError"),
    BAD("{\"execute\": null}", "GenericError"),
    BAD("{\"execute\": {}}", "GenericError"),
    BAD("{\"execute\": [\"query-qdes\"]}", "GenericError"),
    BAD("{\"execute\": \"query-qdes\", \"x\": 1}", "GenericError"),
    BAD("{\"execute\": \"query-qdes\"} {", "GenericError"),
    BAD("{\"execute\": \"query-qdes\", \"arguments\": 1}", "GenericError"),
    BAD("{\"execute\": \"query-qdes\", \"arguments\": {}, \"x\": 1}",
        "GenericError"),
    BAD("{\"execute\": \"query-qdes\", \"arguments\": {\"mac\": \"m\"}}",
        "GenericError"),
    BAD("{\"execute\": \"qdes-fdb-add\"}", "GenericError"),
    BAD("{\"execute\": \"qdes-peer-add\"}", "GenericError"),
    BAD("{\"execute\": \"qdes-peer-add\", \"arguments\": {\"mac\": \"m\"}}",
        "GenericError"),
    BAD("{\"execute\": \"qdes-peer-del\", \"arguments\": {\"peer\": 1}}",
        "GenericError"),
    BAD("{\"execute\": \"qdes-fdb-add\", \"arguments\": {\"peer\": \"p\"}}",
        "GenericError"),
    BAD("{\"execute\": \"qdes-fdb-add\", \"arguments\": {\"mac\": 1}}",
        "GenericError"),
    BAD("{\"execute\": \"qdes-fdb-add\", \"arguments\": {\"mac\": null}}",
        "GenericError"),
    BAD("{\"execute\": \"qdes-fdb-del\", \"arguments\": {\"mac\": \"m\", "
        "\"peer\": \"p\"}}", "GenericError"),
    BAD("{\"execute\": \"qdes-fdb-flush\", \"arguments\": {\"mac\": \"m\", "
        "\"static\": 1}}", "GenericError"),
    BAD("{\"execute\": \"quit\"}", "CommandNotFound"),
    BAD("{\"execute\": \"\"}", "CommandNotFound"),
    BAD("{\"execute\": \"\\n\\u0007\\\"\"}", "CommandNotFound"),
    BAD("{\"execute\": \"QUERY-QDES\"}", "CommandNotFound"),
    BAD("{\"execute\": \"query-qdes\"}\0", "GenericError"),
    BAD("\0\0\0", "GenericError"),
    BAD("\xff\xfe{}", "GenericError"),
    BAD("{\"execute\": \"\xc3\"}", "GenericError"),
};

START_TEST(test_bad)
{
    JsonParser *parser = json_parser_new();
    JsonObject *object;
    char *answer = NULL;
    Request request;

    ck_assert_int_eq(request_parse(&request, bad[_i].line, bad[_i].size,
                                   &answer), REQUEST_INVALID);
    request_clear(&request);
    object = json_object_get_object_member(parse_answer(parser, answer),
                                           "error");
    ASSERT_TEXT(object, "class", bad[_i].class);
    ck_assert_uint_gt(strlen(json_object_get_string_member(object, "desc")),
                      10);
    g_free(answer);
    g_object_unref(parser);
}
END_TEST

/* As deep as a request can nest: the parser must not run out of stack. */
START_TEST(test_deep)
{
    char *opening = g_strnfill(REQUEST_MAX, _i ? '[' : '{');
    char *answer = NULL;
    Request request;

    ck_assert_int_eq(request_parse(&request, opening, REQUEST_MAX, &answer),
                     REQUEST_INVALID);
    request_clear(&request);
    g_free(answer);
    g_free(opening);
}
END_TEST

START_TEST(test_random_bytes)
{
    GRand *rng = unit_rand("random_bytes");
    static const char alphabet[] = "{}[]\":,execut\\ -qd0\x80\x01";
    int i, j;

    for (i = 0; i < 20000; i++) {
        size_t size = g_rand_int_range(rng, 0, 60);
        char *line = g_malloc(size + 1);    /* never NULL, and ASan looks */
        char *answer = NULL;
        Request request;

        for (j = 0; j < (int)size; j++) {
            line[j] = alphabet[g_rand_int_range(rng, 0,
                                                sizeof(alphabet) - 1)];
        }
        if (request_parse(&request, line, size, &answer) ==
            REQUEST_INVALID) {
            ck_assert(g_str_has_prefix(answer, "{\"error\":"));
        }
        request_clear(&request);
        g_free(answer);
        g_free(line);
    }
    g_rand_free(rng);
}
END_TEST

static void parse_addr(QdesAddr *addr, const char *text)
{
    ck_assert(qdes_addr_parse(addr, text, 0, NULL));
}

static QdesStatus *make_status(void)
{
    QdesStatus *status = g_new0(QdesStatus, 1);
    int i;

    strcpy(status->name, "k\xc3\xa4se \"1\"");
    status->netid = UINT32_MAX;
    status->encap = "qdes";
    parse_addr(&status->local, "10.0.0.1:4000");
    status->has_group = true;
    parse_addr(&status->group, "[ff15::5144]:20804");
    strcpy(status->iface, "eth0");
    status->link_up = true;
    status->vnet_hdr = true;
    status->n_peers = 2;
    status->peers = g_new0(QdesStatusPeer, 2);
    strcpy(status->peers[0].name, "other");
    parse_addr(&status->peers[0].address, "10.0.0.2:4001");
    status->peers[0].hello = true;
    status->peers[0].last_heard_ms = 1234567890123;
    status->peers[0].macs = 1;
    status->peers[0].proven = true;
    status->peers[0].copy = true;
    status->peers[0].rtt_us = 1234;
    status->peers[0].echo_sent = 10;
    status->peers[0].echo_lost = 2;
    parse_addr(&status->peers[1].address, "10.0.0.3:4002");
    status->n_seeds = 2;
    status->seeds = g_new0(QdesStatusSeed, 2);
    status->seeds[0].spec = g_strdup("10.0.0.2:4001");
    status->seeds[0].state = "resolved";
    status->seeds[0].since_ms = 7;
    status->seeds[0].n_addresses = 1;
    status->seeds[0].addresses = g_new(QdesAddr, 1);
    status->seeds[0].addresses[0] = status->peers[0].address;
    status->seeds[1].spec = g_strdup("pool.example");
    status->seeds[1].state = "failing";
    status->seeds[1].error = g_strdup("no such name");
    status->relay = true;
    status->relay_pairs = 5;
    status->n_missed = 2;
    status->missed = g_new0(QdesStatusMissed, 2);
    status->missed[0].instance = 0x123456789abcdef;
    parse_addr(&status->missed[0].address, "10.0.0.7:1");
    status->missed[0].relayed = true;
    status->missed[0].relay = status->peers[0].address;
    status->missed[1].instance = 1;
    parse_addr(&status->missed[1].address, "[2001:db8::1]:2");
    status->n_macs = 2;
    status->fdb = g_new0(QdesStatusMac, 2);
    memcpy(status->fdb[0].mac, "\x52\x54\x00\x00\x00\x01", 6);
    status->fdb[0].local = true;
    status->fdb[0].age_ms = 5;
    memcpy(status->fdb[1].mac, "\x52\x54\x00\xab\xcd\xef", 6);
    status->fdb[1].peer = status->peers[0].address;
    status->fdb[1].moves = 3;
    status->fdb[1].fixed = true;
    for (i = 0; i < QDES_COUNTER__MAX; i++) {
        status->counters.value[i] = (uint64_t)i << 40 | i;
    }
    return status;
}

/* Exactly these members, in any order. */
static void assert_members(JsonObject *object, const char *names)
{
    char **list = g_strsplit(names, " ", -1);
    guint i;

    for (i = 0; list[i]; i++) {
        ck_assert_msg(json_object_has_member(object, list[i]), "no %s",
                      list[i]);
    }
    ck_assert_uint_eq(json_object_get_size(object), i);
    g_strfreev(list);
}

START_TEST(test_query)
{
    QdesStatus *status = make_status();
    JsonParser *parser = json_parser_new();
    char *answer = request_answer(REQUEST_QUERY_QDES, "tap0", status);
    JsonObject *all = parse_answer(parser, answer);
    JsonObject *object;
    JsonArray *array;
    int i;

    assert_members(all, "return");
    all = json_object_get_object_member(all, "return");
    /* QdesInfo of qapi/qdes.json */
    assert_members(all, "id name netid encap local group iface loopback "
                   "link-up paused vnet-hdr gso relay relay-pairs seeds "
                   "peers unreachable fdb counters");
    ASSERT_TEXT(all, "id", "tap0");
    ASSERT_TEXT(all, "name", "k\xc3\xa4se \"1\"");
    ck_assert_int_eq(json_object_get_int_member(all, "netid"), UINT32_MAX);
    ASSERT_TEXT(all, "local", "10.0.0.1:4000");
    ASSERT_TEXT(all, "group", "[ff15::5144]:20804");
    ASSERT_TEXT(all, "iface", "eth0");
    ck_assert(!json_object_get_boolean_member(all, "loopback"));
    ck_assert(json_object_get_boolean_member(all, "link-up"));
    ck_assert(!json_object_get_boolean_member(all, "paused"));
    ck_assert(json_object_get_boolean_member(all, "vnet-hdr"));
    ck_assert(!json_object_get_boolean_member(all, "gso"));

    array = json_object_get_array_member(all, "seeds");
    ck_assert_uint_eq(json_array_get_length(array), 2);
    object = json_array_get_object_element(array, 0);
    assert_members(object, "peer state since-ms addresses left-out");
    ASSERT_TEXT(object, "peer", "10.0.0.2:4001");
    ASSERT_TEXT(object, "state", "resolved");
    ck_assert_int_eq(json_object_get_int_member(object, "since-ms"), 7);
    ck_assert_str_eq(json_array_get_string_element(
                         json_object_get_array_member(object, "addresses"),
                         0), "10.0.0.2:4001");
    object = json_array_get_object_element(array, 1);
    assert_members(object, "peer state error since-ms addresses left-out");
    ASSERT_TEXT(object, "error", "no such name");

    ck_assert(json_object_get_boolean_member(all, "relay"));
    ck_assert_int_eq(json_object_get_int_member(all, "relay-pairs"), 5);
    array = json_object_get_array_member(all, "unreachable");
    ck_assert_uint_eq(json_array_get_length(array), 2);
    object = json_array_get_object_element(array, 0);
    assert_members(object, "instance address relay");
    ASSERT_TEXT(object, "instance", "0123456789abcdef");
    ASSERT_TEXT(object, "address", "10.0.0.7:1");
    ASSERT_TEXT(object, "relay", "10.0.0.2:4001");
    assert_members(json_array_get_object_element(array, 1),
                   "instance address");

    array = json_object_get_array_member(all, "peers");
    ck_assert_uint_eq(json_array_get_length(array), 2);
    object = json_array_get_object_element(array, 0);
    assert_members(object, "name address state last-heard-ms macs seed proven "
                   "by-group copy rtt-us rtt-var-us echo-sent echo-lost");
    ASSERT_TEXT(object, "name", "other");
    ASSERT_TEXT(object, "address", "10.0.0.2:4001");
    ASSERT_TEXT(object, "state", "alive");
    ck_assert_int_eq(json_object_get_int_member(object, "last-heard-ms"),
                     1234567890123);
    ck_assert_int_eq(json_object_get_int_member(object, "macs"), 1);
    ck_assert(json_object_get_boolean_member(object, "proven"));
    ck_assert(json_object_get_boolean_member(object, "copy"));
    ck_assert(!json_object_get_boolean_member(object, "by-group"));
    ck_assert(!json_object_get_boolean_member(object, "seed"));
    ck_assert_int_eq(json_object_get_int_member(object, "rtt-us"), 1234);
    ck_assert_int_eq(json_object_get_int_member(object, "echo-sent"), 10);
    ck_assert_int_eq(json_object_get_int_member(object, "echo-lost"), 2);
    object = json_array_get_object_element(array, 1);
    ASSERT_TEXT(object, "name", "");
    ASSERT_TEXT(object, "state", "heard");

    array = json_object_get_array_member(all, "fdb");
    ck_assert_uint_eq(json_array_get_length(array), 2);
    object = json_array_get_object_element(array, 0);
    assert_members(object, "mac local static age-ms moves");
    ck_assert(json_object_get_boolean_member(object, "local"));
    ASSERT_TEXT(object, "mac", "52:54:00:00:00:01");
    ck_assert_int_eq(json_object_get_int_member(object, "age-ms"), 5);
    object = json_array_get_object_element(array, 1);
    assert_members(object, "mac local static peer age-ms moves");
    ck_assert(!json_object_get_boolean_member(object, "local"));
    ASSERT_TEXT(object, "peer", "10.0.0.2:4001");
    ck_assert_int_eq(json_object_get_int_member(object, "moves"), 3);
    ck_assert(json_object_get_boolean_member(object, "static"));

    object = json_object_get_object_member(all, "counters");
    ck_assert_uint_eq(json_object_get_size(object), QDES_COUNTER__MAX);
    for (i = 0; i < QDES_COUNTER__MAX; i++) {
        ck_assert_int_eq(json_object_get_int_member(object,
                                                    qdes_counter_name(i)),
                         (int64_t)((uint64_t)i << 40 | i));
    }
    g_free(answer);
    g_object_unref(parser);
    qdes_status_free(status);
}
END_TEST

/* Only of a port that is. */
START_TEST(test_blocked)
{
    QdesStatus *status = make_status();
    JsonParser *parser = json_parser_new();
    JsonObject *object;
    char *answer;
    char *text;

    status->blocked_by_loop = true;
    strcpy(status->loop_name, "that \"one\"");
    parse_addr(&status->loop_addr, "10.0.0.9:4009");
    answer = request_answer(REQUEST_QUERY_QDES, "tap0", status);
    object = json_object_get_object_member(parse_answer(parser, answer),
                                           "return");
    ASSERT_TEXT(object, "blocked-by-loop", "that \"one\"");
    text = qdes_status_text(status, "  ");
    ck_assert_msg(strstr(text, "\n  BLOCKED BY A LOOP: that \"one\" "
                         "(10.0.0.9:4009) "), "%s", text);
    g_free(text);
    g_free(answer);
    g_object_unref(parser);
    qdes_status_free(status);
}
END_TEST

/* The same. */
START_TEST(test_port_security)
{
    QdesStatus *status = make_status();
    JsonParser *parser = json_parser_new();
    QdesStatusPortsec *portsec = g_new0(QdesStatusPortsec, 1);
    JsonObject *object;
    JsonArray *array;
    char *answer;
    char *text;

    status->portsec = portsec;
    portsec->n_macs = 2;
    portsec->macs = g_malloc0_n(2, sizeof(*portsec->macs));
    portsec->macs[1][5] = 0x5a;
    portsec->max_local_macs = 7;
    portsec->local_macs = 3;
    portsec->violation = "learn-none";
    answer = request_answer(REQUEST_QUERY_QDES, "tap0", status);
    object = json_object_get_object_member(parse_answer(parser, answer),
                                           "return");
    object = json_object_get_object_member(object, "port-security");
    assert_members(object, "mac max-local-macs local-macs mac-violation");
    ck_assert_int_eq(json_object_get_int_member(object, "max-local-macs"), 7);
    ck_assert_int_eq(json_object_get_int_member(object, "local-macs"), 3);
    ASSERT_TEXT(object, "mac-violation", "learn-none");
    array = json_object_get_array_member(object, "mac");
    ck_assert_uint_eq(json_array_get_length(array), 2);
    ck_assert_str_eq(json_array_get_string_element(array, 1),
                     "00:00:00:00:00:5a");
    text = qdes_status_text(status, "  ");
    ck_assert_msg(strstr(text, "\n  port security: 3 of 7 MAC addresses here, "
                         "others: learn-none\n    00:00:00:00:00:00 listed\n"
                         "    00:00:00:00:00:5a listed\n"), "%s", text);
    g_free(text);
    g_free(answer);
    g_object_unref(parser);
    qdes_status_free(status);
}
END_TEST

START_TEST(test_done)
{
    char *answer = request_done(REQUEST_FDB_FLUSH, 7);

    ck_assert_str_eq(answer, "{\"return\":{\"flushed\":7}}\n");
    g_free(answer);
    answer = request_done(REQUEST_FDB_ADD, 0);
    ck_assert_str_eq(answer, "{\"return\":{}}\n");
    g_free(answer);
}
END_TEST

START_TEST(test_info)
{
    QdesStatus *status = make_status();
    JsonParser *parser = json_parser_new();
    char *answer = request_answer(REQUEST_INFO_QDES, "tap0", status);
    char *text = qdes_status_text(status, "  ");
    const char *said;

    said = json_object_get_string_member(parse_answer(parser, answer),
                                         "return");
    ck_assert(g_str_has_prefix(said, "tap0:\n"));
    ck_assert_str_eq(said + strlen("tap0:\n"), text);
    g_free(text);
    g_free(answer);
    g_object_unref(parser);
    qdes_status_free(status);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tap-request");
    TCase *tc = tcase_create("request");

    tcase_add_loop_test(tc, test_good, 0, G_N_ELEMENTS(good));
    tcase_add_loop_test(tc, test_bad, 0, G_N_ELEMENTS(bad));
    tcase_add_loop_test(tc, test_deep, 0, 2);
    tcase_add_test(tc, test_random_bytes);
    tcase_add_test(tc, test_query);
    tcase_add_test(tc, test_blocked);
    tcase_add_test(tc, test_port_security);
    tcase_add_test(tc, test_done);
    tcase_add_test(tc, test_info);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
