/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "request.h"

#include <inttypes.h>
#include <string.h>

#include <json-glib/json-glib.h>

#include "secretfile.h"

enum {
    ARG_MAC = 1,
    ARG_PEER = 2,
    ARG_STATIC = 4,
    ARG_SECRET = 8,
    ARG_SECRET_OLD = 16,
};

static const struct {
    const char *name;
    int which;                  /* ARG_ */
    GType type;
} arguments[] = {
    { "mac", ARG_MAC, G_TYPE_STRING },
    { "peer", ARG_PEER, G_TYPE_STRING },
    { "static", ARG_STATIC, G_TYPE_BOOLEAN },
    { "secret", ARG_SECRET, G_TYPE_STRING },
    { "secret-old", ARG_SECRET_OLD, G_TYPE_STRING },
};

static const struct {
    const char *name;
    int takes, needs;           /* masks of ARG_ */
} commands[] = {
    [REQUEST_QUERY_QDES] = { "query-qdes" },
    [REQUEST_INFO_QDES] = { "info-qdes" },
    [REQUEST_FDB_ADD] = { "qdes-fdb-add", ARG_MAC | ARG_PEER, ARG_MAC },
    [REQUEST_FDB_DEL] = { "qdes-fdb-del", ARG_MAC, ARG_MAC },
    [REQUEST_FDB_FLUSH] = { "qdes-fdb-flush",
                            ARG_MAC | ARG_PEER | ARG_STATIC, 0 },
    [REQUEST_PEER_ADD] = { "qdes-peer-add", ARG_PEER, ARG_PEER },
    [REQUEST_PEER_DEL] = { "qdes-peer-del", ARG_PEER, ARG_PEER },
    [REQUEST_SET_SECRET] = { "qdes-set-secret", ARG_SECRET | ARG_SECRET_OLD,
                             ARG_SECRET },
};

static void add_string(JsonBuilder *b, const char *name, const char *value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_string_value(b, value);
}

static void add_int(JsonBuilder *b, const char *name, int64_t value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_int_value(b, value);
}

static void add_bool(JsonBuilder *b, const char *name, bool value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_boolean_value(b, value);
}

static void add_addr(JsonBuilder *b, const char *name, const QdesAddr *addr)
{
    char buf[QDES_ADDR_STRLEN];

    add_string(b, name, qdes_addr_format(addr, buf));
}

static void add_peers(JsonBuilder *b, const QdesStatus *status)
{
    size_t i;

    json_builder_set_member_name(b, "peers");
    json_builder_begin_array(b);
    for (i = 0; i < status->n_peers; i++) {
        const QdesStatusPeer *peer = &status->peers[i];

        json_builder_begin_object(b);
        add_string(b, "name", peer->name);
        add_addr(b, "address", &peer->address);
        add_string(b, "state", qdes_status_peer_state(peer));
        add_int(b, "last-heard-ms", peer->last_heard_ms);
        add_int(b, "macs", peer->macs);
        add_bool(b, "seed", peer->seed);
        add_bool(b, "proven", peer->proven);
        add_bool(b, "by-group", peer->by_group);
        add_bool(b, "copy", peer->copy);
        add_int(b, "rtt-us", peer->rtt_us);
        add_int(b, "rtt-var-us", peer->rtt_var_us);
        add_int(b, "echo-sent", peer->echo_sent);
        add_int(b, "echo-lost", peer->echo_lost);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

static void add_seeds(JsonBuilder *b, const QdesStatus *status)
{
    char buf[QDES_ADDR_STRLEN];
    size_t i, j;

    json_builder_set_member_name(b, "seeds");
    json_builder_begin_array(b);
    for (i = 0; i < status->n_seeds; i++) {
        const QdesStatusSeed *seed = &status->seeds[i];

        json_builder_begin_object(b);
        add_string(b, "peer", seed->spec);
        add_string(b, "state", seed->state);
        if (seed->error) {
            add_string(b, "error", seed->error);
        }
        add_int(b, "since-ms", seed->since_ms);
        json_builder_set_member_name(b, "addresses");
        json_builder_begin_array(b);
        for (j = 0; j < seed->n_addresses; j++) {
            json_builder_add_string_value(
                b, qdes_addr_format(&seed->addresses[j], buf));
        }
        json_builder_end_array(b);
        add_int(b, "left-out", seed->left_out);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

static void add_missed(JsonBuilder *b, const QdesStatus *status)
{
    char instance[17];
    size_t i;

    json_builder_set_member_name(b, "unreachable");
    json_builder_begin_array(b);
    for (i = 0; i < status->n_missed; i++) {
        const QdesStatusMissed *missed = &status->missed[i];

        json_builder_begin_object(b);
        g_snprintf(instance, sizeof(instance), "%016" G_GINT64_MODIFIER "x",
                   missed->instance);
        add_string(b, "instance", instance);
        add_addr(b, "address", &missed->address);
        if (missed->relayed) {
            add_addr(b, "relay", &missed->relay);
        }
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

static void add_portsec(JsonBuilder *b, const QdesStatusPortsec *portsec)
{
    char buf[QDES_MAC_STRLEN];
    size_t i;

    json_builder_set_member_name(b, "port-security");
    json_builder_begin_object(b);
    json_builder_set_member_name(b, "mac");
    json_builder_begin_array(b);
    for (i = 0; i < portsec->n_macs; i++) {
        json_builder_add_string_value(b, qdes_mac_format(portsec->macs[i],
                                                         buf));
    }
    json_builder_end_array(b);
    add_int(b, "max-local-macs", portsec->max_local_macs);
    add_int(b, "local-macs", portsec->local_macs);
    add_string(b, "mac-violation", portsec->violation);
    json_builder_end_object(b);
}

static void add_fdb(JsonBuilder *b, const QdesStatus *status)
{
    size_t i;

    json_builder_set_member_name(b, "fdb");
    json_builder_begin_array(b);
    for (i = 0; i < status->n_macs; i++) {
        const QdesStatusMac *entry = &status->fdb[i];
        char buf[QDES_MAC_STRLEN];

        json_builder_begin_object(b);
        add_string(b, "mac", qdes_mac_format(entry->mac, buf));
        add_bool(b, "local", entry->local);
        add_bool(b, "static", entry->fixed);
        if (!entry->local) {
            add_addr(b, "peer", &entry->peer);
        }
        add_int(b, "age-ms", entry->age_ms);
        add_int(b, "moves", entry->moves);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

static void add_counters(JsonBuilder *b, const QdesStats *stats)
{
    int i;

    json_builder_set_member_name(b, "counters");
    json_builder_begin_object(b);
    for (i = 0; i < QDES_COUNTER__MAX; i++) {
        add_int(b, qdes_counter_name(i), stats->value[i]);
    }
    json_builder_end_object(b);
}

static void add_key(JsonBuilder *b, const char *name, uint32_t id)
{
    char *text = g_strdup_printf("%08" PRIx32, id);

    add_string(b, name, text);
    g_free(text);
}

static void add_seal(JsonBuilder *b, const QdesStatusSeal *seal)
{
    json_builder_set_member_name(b, "seal");
    json_builder_begin_object(b);
    add_string(b, "cipher", seal->cipher);
    add_key(b, "key", seal->key_id);
    if (seal->changing) {
        add_key(b, "old-key", seal->old_key_id);
    }
    add_bool(b, "flooding-old", seal->flooding_old);
    add_int(b, "sessions", seal->sessions);
    add_int(b, "pending", seal->pending);
    json_builder_end_object(b);
}

static void add_status(JsonBuilder *b, const char *id,
                       const QdesStatus *status)
{
    json_builder_begin_object(b);
    add_string(b, "id", id);
    add_string(b, "name", status->name);
    add_int(b, "netid", status->netid);
    add_string(b, "encap", status->encap);
    add_addr(b, "local", &status->local);
    if (status->has_group) {
        add_addr(b, "group", &status->group);
    } else {
        add_string(b, "group", "");
    }
    add_string(b, "iface", status->iface);
    add_bool(b, "loopback", status->loopback);
    add_bool(b, "link-up", status->link_up);
    add_bool(b, "paused", status->paused);
    add_bool(b, "vnet-hdr", status->vnet_hdr);
    add_bool(b, "gso", status->gso);
    if (status->seal.sealed) {
        add_seal(b, &status->seal);
    }
    if (status->blocked_by_loop) {
        add_string(b, "blocked-by-loop", status->loop_name);
    }
    add_bool(b, "relay", status->relay);
    add_int(b, "relay-pairs", status->relay_pairs);
    if (status->portsec) {
        add_portsec(b, status->portsec);
    }
    add_seeds(b, status);
    add_peers(b, status);
    add_missed(b, status);
    add_fdb(b, status);
    add_counters(b, &status->counters);
    json_builder_end_object(b);
}

static void add_text(JsonBuilder *b, const char *id, const QdesStatus *status)
{
    char *lines = qdes_status_text(status, "  ");
    char *text = g_strdup_printf("%s:\n%s", id, lines);

    json_builder_add_string_value(b, text);
    g_free(text);
    g_free(lines);
}

/* The line of what @b has built, which ends with @b. */
static char *finish(JsonBuilder *b)
{
    JsonNode *root = json_builder_get_root(b);
    char *json = json_to_string(root, false);
    char *line = g_strconcat(json, "\n", NULL);

    g_free(json);
    json_node_unref(root);
    g_object_unref(b);
    return line;
}

char *request_answer(RequestCommand command, const char *id,
                     const QdesStatus *status)
{
    JsonBuilder *b = json_builder_new();

    json_builder_begin_object(b);
    json_builder_set_member_name(b, "return");
    if (command == REQUEST_QUERY_QDES) {
        add_status(b, id, status);
    } else {
        add_text(b, id, status);
    }
    json_builder_end_object(b);
    return finish(b);
}

char *request_error(const char *class, const char *desc)
{
    JsonBuilder *b = json_builder_new();
    /* It may repeat what was asked, whose escapes can make any bytes. */
    char *valid = g_utf8_make_valid(desc, -1);

    json_builder_begin_object(b);
    json_builder_set_member_name(b, "error");
    json_builder_begin_object(b);
    add_string(b, "class", class);
    add_string(b, "desc", valid);
    g_free(valid);
    json_builder_end_object(b);
    json_builder_end_object(b);
    return finish(b);
}

/* The value of "execute", or NULL with *@why set. */
static const char *find_execute(JsonNode *root, const char **why)
{
    JsonObject *object;
    JsonNode *node;

    if (!root || !JSON_NODE_HOLDS_OBJECT(root)) {
        *why = "not a JSON object";
        return NULL;
    }
    object = json_node_get_object(root);
    node = json_object_get_member(object, "execute");
    if (!node || !JSON_NODE_HOLDS_VALUE(node) ||
        json_node_get_value_type(node) != G_TYPE_STRING) {
        *why = "there is no \"execute\" with the name of a command";
        return NULL;
    }
    if (json_object_get_size(object) !=
        1u + json_object_has_member(object, "arguments")) {
        *why = "besides \"execute\" and \"arguments\", nothing is understood";
        return NULL;
    }
    return json_node_get_string(node);
}

static bool holds(JsonNode *node, GType type)
{
    /* json-glib takes octal escapes, too, which make any bytes. */
    return JSON_NODE_HOLDS_VALUE(node) &&
           json_node_get_value_type(node) == type &&
           (type != G_TYPE_STRING ||
            g_utf8_validate(json_node_get_string(node), -1, NULL));
}

static bool take_secret(QdesSecret *secret, JsonNode *value)
{
    gsize size;
    guchar *data = g_base64_decode(json_node_get_string(value), &size);
    bool ok = secret_copy(secret, data, size);

    qdes_wipe(data, size);
    g_free(data);
    return ok;
}

static bool take_value(Request *request, int which, JsonNode *value)
{
    switch (which) {
    case ARG_MAC:
        request->mac = json_node_dup_string(value);
        return true;
    case ARG_PEER:
        request->peer = json_node_dup_string(value);
        return true;
    case ARG_STATIC:
        request->statics = json_node_get_boolean(value);
        return true;
    case ARG_SECRET:
        return take_secret(&request->secret, value);
    case ARG_SECRET_OLD:
        return take_secret(&request->secret_old, value);
    default:
        g_assert_not_reached();
    }
}

/* Take one argument.  Returns which, or 0 when it is none of @takes. */
static int take_argument(Request *request, int takes, const char *name,
                         JsonNode *value)
{
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(arguments); i++) {
        if ((takes & arguments[i].which) &&
            g_str_equal(name, arguments[i].name) &&
            holds(value, arguments[i].type) &&
            take_value(request, arguments[i].which, value)) {
            return arguments[i].which;
        }
    }
    return 0;
}

/* Returns false with *@answer set when they are not what is needed. */
static bool take_arguments(Request *request, RequestCommand command,
                           JsonObject *object, char **answer)
{
    JsonNode *node = json_object_get_member(object, "arguments");
    int given = 0;
    JsonObjectIter iter;
    const char *name;
    JsonNode *value;
    char *desc = NULL;
    int taken;
    size_t i;

    if (node && !JSON_NODE_HOLDS_OBJECT(node)) {
        desc = g_strdup("\"arguments\" is not an object");
    } else if (node) {
        json_object_iter_init(&iter, json_node_get_object(node));
        while (!desc && json_object_iter_next(&iter, &name, &value)) {
            taken = take_argument(request, commands[command].takes, name,
                                  value);
            if (!taken) {
                desc = g_strdup_printf("%s: the argument '%s' is unknown or "
                                       "of the wrong type",
                                       commands[command].name, name);
            }
            given |= taken;
        }
    }
    for (i = 0; i < G_N_ELEMENTS(arguments) && !desc; i++) {
        if (commands[command].needs & ~given & arguments[i].which) {
            desc = g_strdup_printf("%s: the argument '%s' is missing",
                                   commands[command].name, arguments[i].name);
        }
    }
    if (desc) {
        *answer = request_error("GenericError", desc);
        g_free(desc);
    }
    return !desc;
}

/* What is said of @name, which is no command; to be freed. */
static char *unknown_command(const char *name)
{
    GString *desc = g_string_new(NULL);
    size_t i;

    g_string_printf(desc, "there is no command '%s', but", name);
    for (i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_string_append_printf(desc, "%s %s", i == 0 ? "" :
                               i + 1 < G_N_ELEMENTS(commands) ? "," : " and",
                               commands[i].name);
    }
    return g_string_free(desc, false);
}

RequestCommand request_parse(Request *request, const char *line, size_t size,
                             char **answer)
{
    JsonParser *parser = json_parser_new();
    RequestCommand command = REQUEST_INVALID;
    const char *why = NULL;
    const char *name = NULL;
    GError *err = NULL;
    char *desc;
    size_t i;

    *request = (Request) { .command = REQUEST_INVALID };
    if (!g_utf8_validate(line, size, NULL)) {
        why = "not UTF-8";
    } else if (!json_parser_load_from_data(parser, line, size, &err)) {
        why = err->message;
    } else {
        name = find_execute(json_parser_get_root(parser), &why);
    }
    if (name) {
        for (i = 0; i < G_N_ELEMENTS(commands); i++) {
            if (g_str_equal(name, commands[i].name)) {
                command = i;
            }
        }
    }
    if (!name) {
        desc = g_strdup_printf("%s; ask like {\"execute\": \"query-qdes\"}",
                               why);
        *answer = request_error("GenericError", desc);
        g_free(desc);
    } else if (command == REQUEST_INVALID) {
        desc = unknown_command(name);
        *answer = request_error("CommandNotFound", desc);
        g_free(desc);
    } else if (!take_arguments(request, command, json_node_get_object(
                                   json_parser_get_root(parser)), answer)) {
        command = REQUEST_INVALID;
    }
    request->command = command;
    g_clear_error(&err);
    g_object_unref(parser);
    return command;
}

void request_clear(Request *request)
{
    g_clear_pointer(&request->mac, g_free);
    g_clear_pointer(&request->peer, g_free);
    secret_wipe(&request->secret);
    secret_wipe(&request->secret_old);
}

static void add_secret(JsonBuilder *b, const char *name,
                       const QdesSecret *secret)
{
    char *text;

    if (secret->data) {
        text = g_base64_encode(secret->data, secret->size);
        add_string(b, name, text);
        qdes_wipe(text, strlen(text));
        g_free(text);
    }
}

char *request_line(const Request *request)
{
    JsonBuilder *b = json_builder_new();

    json_builder_begin_object(b);
    add_string(b, "execute", commands[request->command].name);
    if (!request_shows(request->command)) {
        json_builder_set_member_name(b, "arguments");
        json_builder_begin_object(b);
        if (request->mac) {
            add_string(b, "mac", request->mac);
        }
        if (request->peer) {
            add_string(b, "peer", request->peer);
        }
        if (request->statics) {
            add_bool(b, "static", true);
        }
        add_secret(b, "secret", &request->secret);
        add_secret(b, "secret-old", &request->secret_old);
        json_builder_end_object(b);
    }
    json_builder_end_object(b);
    return finish(b);
}

bool request_shows(RequestCommand command)
{
    return command == REQUEST_QUERY_QDES || command == REQUEST_INFO_QDES;
}

char *request_done(RequestCommand command, size_t n)
{
    JsonBuilder *b = json_builder_new();

    json_builder_begin_object(b);
    json_builder_set_member_name(b, "return");
    json_builder_begin_object(b);
    if (command == REQUEST_FDB_FLUSH) {
        add_int(b, "flushed", n);
    }
    json_builder_end_object(b);
    json_builder_end_object(b);
    return finish(b);
}
