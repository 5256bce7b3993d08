/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "request.h"

#include <json-glib/json-glib.h>

static const char *const command_names[] = {
    [REQUEST_QUERY_QDES] = "query-qdes",
    [REQUEST_INFO_QDES] = "info-qdes",
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
    add_seeds(b, status);
    add_peers(b, status);
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

    json_builder_begin_object(b);
    json_builder_set_member_name(b, "error");
    json_builder_begin_object(b);
    add_string(b, "class", class);
    add_string(b, "desc", desc);
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
    if (json_object_get_size(object) != 1) {
        *why = "besides \"execute\", nothing is understood";
        return NULL;
    }
    return json_node_get_string(node);
}

RequestCommand request_parse(const char *line, size_t size, char **answer)
{
    JsonParser *parser = json_parser_new();
    RequestCommand command = REQUEST_INVALID;
    const char *why = NULL;
    const char *name = NULL;
    GError *err = NULL;
    char *desc;
    size_t i;

    if (!g_utf8_validate(line, size, NULL)) {
        why = "not UTF-8";
    } else if (!json_parser_load_from_data(parser, line, size, &err)) {
        why = err->message;
    } else {
        name = find_execute(json_parser_get_root(parser), &why);
    }
    if (name) {
        for (i = 0; i < G_N_ELEMENTS(command_names); i++) {
            if (g_str_equal(name, command_names[i])) {
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
        desc = g_strdup_printf("there is no command '%s', but query-qdes and "
                               "info-qdes", name);
        *answer = request_error("CommandNotFound", desc);
        g_free(desc);
    }
    g_clear_error(&err);
    g_object_unref(parser);
    return command;
}
