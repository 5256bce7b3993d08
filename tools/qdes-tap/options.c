/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "options.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define HELP_INDENT 26          /* columns before the explanation */
#define HELP_WIDTH 79           /* columns */

typedef enum OptionKind {
    KIND_SECTION,               /* a headline of --help, no option */
    KIND_TEXT,
    KIND_LIST,                  /* may be given again, for one more */
    KIND_NUMBER,
    KIND_SIZE,                  /* a number of bytes */
    KIND_SWITCH,                /* on or off */
    KIND_FLAG,                  /* takes no value */
} OptionKind;

typedef struct OptionDef {
    OptionKind kind;
    const char *name;
    const char *arg;
    size_t value;               /* offset in Options */
    size_t given;               /* offset in Options of the has_, 0: none */
    const char *help;
    const char *what;           /* what is missing without it; NULL: nothing */
} OptionDef;

#define AT(member) offsetof(Options, member)
#define FABRIC(member) AT(fabric.member)

/* What all sub-commands that change something have, and the table's end. */
#define CHANGE_OPTIONS                                                  \
    { KIND_TEXT, "control", "PATH", AT(control), 0,                     \
      "the socket of the port (default: as for status)" },              \
    { KIND_FLAG, "help", NULL, AT(help), 0, NULL },                     \
    { 0 }

static const OptionDef run_options[] = {
    { KIND_SECTION, .help = "The port" },
    { KIND_TEXT, "tap", "NAME", AT(tap), 0,
      "the TAP device, made if there is none",
      "TAP device" },
    { KIND_TEXT, "name", "TEXT", FABRIC(name), 0,
      "how peers' tables show this port (default: HOSTNAME:NAME)" },
    { KIND_TEXT, "user", "NAME", AT(user), 0,
      "once the TAP is open, be this user and no longer root" },
    { KIND_TEXT, "sandbox", "on|off|log", AT(sandbox), 0,
      "take from the running port what it does not need; log: tell the kernel "
      "log what it asks for beyond that, and let it (default: on)" },

    { KIND_SECTION, .help = "The fabric" },
    { KIND_TEXT, "mcast", "ADDR[:PORT]", FABRIC(mcast), 0,
      "multicast group to join, or off (default: " QDES_DEFAULT_GROUP ":"
      G_STRINGIFY(QDES_DEFAULT_PORT) ")" },
    { KIND_LIST, "peer", "HOST[:PORT]", AT(peers), 0,
      "a peer that the group does not reach, by address or name; repeatable "
      "(default port: " G_STRINGIFY(QDES_DEFAULT_PORT) ")" },
    { KIND_NUMBER, "netid", "N", FABRIC(netid), FABRIC(has_netid),
      "network ID, 0 to 4294967295 (default: 0)" },
    { KIND_TEXT, "localaddr", "ADDR[:PORT]", FABRIC(localaddr), 0,
      "local address for all traffic (default: by route)" },
    { KIND_TEXT, "iface", "NAME", FABRIC(iface), 0,
      "interface for the group (default: by local address or route)" },
    { KIND_NUMBER, "ttl", "N", FABRIC(ttl), FABRIC(has_ttl),
      "hops that multicast may go, 1 to 255 (default: "
      G_STRINGIFY(QDES_DEFAULT_TTL) ")" },
    { KIND_TEXT, "encap", "qdes|vxlan|vxvde", FABRIC(encap), 0,
      "how frames are wrapped (default: qdes)" },
    { KIND_TEXT, "secret-file", "FILE", AT(secret_file), 0,
      "seal the fabric with what is in FILE, 16 to 4096 bytes" },
    { KIND_TEXT, "secret-old-file", "FILE", AT(secret_old_file), 0,
      "the secret before that, while a fleet changes it" },
    { KIND_TEXT, "cipher", "NAME", FABRIC(cipher), 0,
      "seal by aes-256-gcm or chacha20-poly1305 (default: auto, as the "
      "processor has it)" },
    { KIND_SIZE, "sndbuf", "BYTES", FABRIC(sndbuf), FABRIC(has_sndbuf),
      "send buffer of the sockets, like 512k (default: the system's)" },
    { KIND_SIZE, "rcvbuf", "BYTES", FABRIC(rcvbuf), FABRIC(has_rcvbuf),
      "receive buffer of the sockets (default: 4 MiB, or what is granted)" },
    { KIND_SWITCH, "mss-clamp", "on|off", FABRIC(mss_clamp),
      FABRIC(has_mss_clamp),
      "have TCP send no more at once than the path carries (default: on)" },
    { KIND_SWITCH, "vnet-hdr", "on|off", FABRIC(vnet_hdr),
      FABRIC(has_vnet_hdr),
      "pass superframes between kernel and port (default: on)" },
    { KIND_SWITCH, "gso", "on|off", FABRIC(gso), FABRIC(has_gso),
      "many datagrams in one socket call (default: on)" },
    { KIND_SWITCH, "superframes", "on|off", FABRIC(superframes),
      FABRIC(has_superframes),
      "leave superframes whole where the path has room (default: on with "
      "--encap qdes, else off)" },
    { KIND_SWITCH, "relay", "on|off", FABRIC(relay), FABRIC(has_relay),
      "pass frames between peers that cannot reach each other (default: "
      "off)" },
    { KIND_FLAG, "plain-io", NULL, AT(plain_io), 0,
      "use only portable socket calls" },

    { KIND_SECTION, .help = "Forwarding" },
    { KIND_NUMBER, "ageing", "SECONDS", FABRIC(ageing), FABRIC(has_ageing),
      "forget a MAC address not heard for so long (default: "
      G_STRINGIFY(QDES_DEFAULT_AGEING) ")" },
    { KIND_NUMBER, "max-macs", "N", FABRIC(max_macs), FABRIC(has_max_macs),
      "MAC addresses to remember (default: "
      G_STRINGIFY(QDES_DEFAULT_MAX_MACS) ")" },
    { KIND_SWITCH, "learning", "on|off", FABRIC(learning),
      FABRIC(has_learning),
      "learn where MAC addresses are, or always flood (default: on)" },
    { KIND_TEXT, "unknown-unicast", "flood|drop", FABRIC(unknown_unicast), 0,
      "what to do with a frame to an unknown MAC address (default: flood)" },
    { KIND_TEXT, "storm-control", "N|off", FABRIC(storm_control), 0,
      "broadcast, multicast and unknown frames to flood per second "
      "(default: " G_STRINGIFY(QDES_DEFAULT_STORM) ", off with --learning "
      "off)" },
    { KIND_SWITCH, "loop-guard", "on|off", FABRIC(loop_guard),
      FABRIC(has_loop_guard),
      "block the port when another one is on the same LAN (default: on with "
      "--encap qdes, else off)" },

    { KIND_SECTION, .help = "Port security" },
    { KIND_LIST, "mac", "MAC", AT(macs), 0,
      "a MAC address that frames from the TAP may have, and no peer; "
      "repeatable (default: they may have any)" },
    { KIND_NUMBER, "max-local-macs", "N", FABRIC(max_local_macs),
      FABRIC(has_max_local_macs),
      "how many MAC addresses there may be at the TAP, those of --mac and the "
      "first others (default: no limit, or those of --mac)" },
    { KIND_TEXT, "mac-violation", "drop|learn-none", FABRIC(mac_violation), 0,
      "drop frames of other MAC addresses, or learn nothing of them (default: "
      "drop)" },

    { KIND_SECTION, .help = "Watching" },
    { KIND_TEXT, "control", "PATH", AT(control), 0,
      "answer \"qdes-tap status\" and the like on this Unix socket" },
    { KIND_TEXT, "pcap", "FILE|-", AT(pcap), 0,
      "write the frames that cross the port to FILE or stdout" },
    { KIND_TEXT, "pcap-filter", "EXPR", AT(pcap_filter), 0,
      "only those that match, see pcap-filter(7)" },
    { KIND_FLAG, "quiet", NULL, AT(quiet), 0,
      "log warnings and errors only" },
    { KIND_FLAG, "help", NULL, AT(help), 0, "show this and exit" },
    { KIND_FLAG, "version", NULL, AT(version), 0,
      "show the version and exit" },
    { 0 }
};

static const OptionDef status_options[] = {
    { KIND_SECTION, .help = "qdes-tap status" },
    { KIND_FLAG, "json", NULL, AT(json), 0,
      "as JSON, with the fields of QMP's query-qdes" },
    { KIND_TEXT, "control", "PATH", AT(control), 0,
      "the socket of the port (default: the only one in /run/qdes-tap or "
      "$XDG_RUNTIME_DIR/qdes-tap)" },
    { KIND_FLAG, "help", NULL, AT(help), 0, NULL },
    { 0 }
};

static const OptionDef fdb_add_options[] = {
    { KIND_SECTION, .help = "qdes-tap fdb-add" },
    { KIND_TEXT, "mac", "MAC", AT(request.mac), 0,
      "the MAC address whose place is known",
      "MAC address" },
    { KIND_TEXT, "peer", "ADDR:PORT", AT(request.peer), 0,
      "the peer that has it (default: it is on this side)" },
    CHANGE_OPTIONS
};

static const OptionDef fdb_del_options[] = {
    { KIND_SECTION, .help = "qdes-tap fdb-del" },
    { KIND_TEXT, "mac", "MAC", AT(request.mac), 0,
      "the MAC address that fdb-add was told",
      "MAC address" },
    CHANGE_OPTIONS
};

static const OptionDef fdb_flush_options[] = {
    { KIND_SECTION, .help = "qdes-tap fdb-flush" },
    { KIND_TEXT, "mac", "MAC", AT(request.mac), 0,
      "only this MAC address (default: all)" },
    { KIND_TEXT, "peer", "ADDR:PORT", AT(request.peer), 0,
      "only those of this peer" },
    { KIND_FLAG, "static", NULL, AT(request.statics), 0,
      "what fdb-add was told, too" },
    CHANGE_OPTIONS
};

static const OptionDef peer_add_options[] = {
    { KIND_SECTION, .help = "qdes-tap peer-add" },
    { KIND_TEXT, "peer", "HOST[:PORT]", AT(request.peer), 0,
      "a peer to list, as when the port is started",
      "peer" },
    CHANGE_OPTIONS
};

static const OptionDef peer_del_options[] = {
    { KIND_SECTION, .help = "qdes-tap peer-del" },
    { KIND_TEXT, "peer", "HOST[:PORT]", AT(request.peer), 0,
      "a listed peer to strike off the list",
      "peer" },
    CHANGE_OPTIONS
};

static const OptionDef set_secret_options[] = {
    { KIND_SECTION, .help = "qdes-tap set-secret" },
    { KIND_TEXT, "secret-file", "FILE", AT(secret_file), 0,
      "what seals the fabric from now on",
      "secret" },
    { KIND_TEXT, "secret-old-file", "FILE", AT(secret_old_file), 0,
      "what seals it for those that have no other yet" },
    CHANGE_OPTIONS
};

static const struct {
    const char *name;
    OptionsMode mode;
    RequestCommand command;
    const OptionDef *table;
} subcommands[] = {
    { "status", OPTIONS_STATUS, REQUEST_INVALID, status_options },
    { "fdb-add", OPTIONS_CHANGE, REQUEST_FDB_ADD, fdb_add_options },
    { "fdb-del", OPTIONS_CHANGE, REQUEST_FDB_DEL, fdb_del_options },
    { "fdb-flush", OPTIONS_CHANGE, REQUEST_FDB_FLUSH, fdb_flush_options },
    { "peer-add", OPTIONS_CHANGE, REQUEST_PEER_ADD, peer_add_options },
    { "peer-del", OPTIONS_CHANGE, REQUEST_PEER_DEL, peer_del_options },
    { "set-secret", OPTIONS_CHANGE, REQUEST_SET_SECRET, set_secret_options },
};

/* What GOption passes through to the callback. */
typedef struct ParseState {
    Options *options;
    const OptionDef *table;
} ParseState;

GQuark options_error_quark(void)
{
    return g_quark_from_static_string("qdes-tap-options");
}

static bool is_end(const OptionDef *def)
{
    return def->kind == KIND_SECTION && !def->help;
}

/* A number and where it ends. */
static bool parse_number(const char *text, int64_t *value, char **end)
{
    const char *digits = *text == '-' ? text + 1 : text;
    bool hex = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');

    errno = EINVAL;
    if (hex ? !g_ascii_isxdigit(digits[2]) : !g_ascii_isdigit(digits[0])) {
        return false;
    }
    /* 010 is 8 to some programs and 10 to others: do not guess */
    if (!hex && digits[0] == '0' && g_ascii_isdigit(digits[1])) {
        return false;
    }
    errno = 0;
    *value = g_ascii_strtoll(text, end, hex ? 16 : 10);
    return errno == 0;
}

bool options_parse_number(const char *text, int64_t *value)
{
    char *end;

    if (!parse_number(text, value, &end)) {
        return false;
    }
    errno = *end ? EINVAL : 0;
    return *end == '\0';
}

bool options_parse_size(const char *text, int64_t *value)
{
    static const char units[] = "kmg";
    const char *unit;
    char *end;
    int64_t factor = 1;

    if (!parse_number(text, value, &end)) {
        return false;
    }
    if (*end) {
        unit = strchr(units, g_ascii_tolower(*end));
        if (!unit || end[1]) {
            errno = EINVAL;
            return false;
        }
        factor = (int64_t)1 << (10 * (unit - units + 1));
    }
    if (*value > INT64_MAX / factor || *value < INT64_MIN / factor) {
        errno = ERANGE;
        return false;
    }
    *value *= factor;
    return true;
}

void options_default_name(char name[QDES_NAME_MAX + 1], const char *host,
                          const char *tap)
{
    size_t tap_len = MIN(strlen(tap), (size_t)QDES_NAME_MAX - 2);
    size_t host_len = MIN(strlen(host), QDES_NAME_MAX - 1 - tap_len);
    size_t i;

    for (i = 0; i < host_len; i++) {
        name[i] = g_ascii_isgraph(host[i]) ? host[i] : '?';
    }
    name[host_len] = ':';
    memcpy(name + host_len + 1, tap, tap_len);
    name[host_len + 1 + tap_len] = '\0';
}

static const OptionDef *find_option(const OptionDef *table, const char *name)
{
    for (; !is_end(table); table++) {
        if (table->name && g_str_equal(table->name, name)) {
            return table;
        }
    }
    g_assert_not_reached();
}

static bool bad_number(const char *option, const char *text,
                       const char *example, GError **errp)
{
    g_set_error(errp, OPTIONS_ERROR, OPTIONS_ERROR_VALUE,
                "%s=%s: %s; give one like %s", option, text,
                errno == ERANGE ? "too large a number" : "not a number",
                example);
    return false;
}

static char *keep(Options *options, const char *text)
{
    char *copy = g_strdup(text);

    g_ptr_array_add(options->strings, copy);
    return copy;
}

static gboolean take_value(const char *option, const char *text, void *data,
                           GError **errp)
{
    ParseState *state = data;
    const char *name = g_str_equal(option, "-h") ? "help" : option + 2;
    const OptionDef *def = find_option(state->table, name);
    char *at = (char *)state->options + def->value;

    switch (def->kind) {
    case KIND_TEXT:
        *(const char **)at = keep(state->options, text);
        break;
    case KIND_LIST:
        g_ptr_array_add(*(GPtrArray **)at, keep(state->options, text));
        break;
    case KIND_NUMBER:
        if (!options_parse_number(text, (int64_t *)at)) {
            return bad_number(option, text, "42 or 0x2a", errp);
        }
        break;
    case KIND_SIZE:
        if (!options_parse_size(text, (int64_t *)at)) {
            return bad_number(option, text, "262144 or 256k", errp);
        }
        break;
    case KIND_SWITCH:
        if (!g_str_equal(text, "on") && !g_str_equal(text, "off")) {
            g_set_error(errp, OPTIONS_ERROR, OPTIONS_ERROR_VALUE,
                        "%s=%s: not a switch; give on or off", option, text);
            return false;
        }
        *(bool *)at = g_str_equal(text, "on");
        break;
    case KIND_FLAG:
        *(bool *)at = true;
        break;
    case KIND_SECTION:
        g_assert_not_reached();
    }
    if (def->given) {
        *(bool *)((char *)state->options + def->given) = true;
    }
    return true;
}

/* Let GOption take @args (NULL-terminated) apart by @table. */
static bool parse_by_table(Options *options, const OptionDef *table,
                           char **args, GError **errp)
{
    ParseState state = { options, table };
    GArray *entries = g_array_new(true, true, sizeof(GOptionEntry));
    GOptionContext *context = g_option_context_new(NULL);
    GOptionGroup *group = g_option_group_new("qdes-tap", "", "", &state, NULL);
    char **rest = g_strdupv(args);
    GError *err = NULL;
    bool ok;

    for (; !is_end(table); table++) {
        if (table->name) {
            /* values are bytes: GOption must not convert them to UTF-8 */
            GOptionEntry entry = {
                .long_name = table->name,
                .short_name = g_str_equal(table->name, "help") ? 'h' : 0,
                .flags = table->arg ? G_OPTION_FLAG_FILENAME
                                    : G_OPTION_FLAG_NO_ARG,
                .arg = G_OPTION_ARG_CALLBACK,
                .arg_data = take_value,
            };
            g_array_append_val(entries, entry);
        }
    }
    g_option_group_add_entries(group, (GOptionEntry *)entries->data);
    g_option_context_set_main_group(context, group);
    g_option_context_set_help_enabled(context, false);
    ok = g_option_context_parse_strv(context, &rest, &err);
    if (ok && rest[0] && rest[1]) {
        err = g_error_new(OPTIONS_ERROR, OPTIONS_ERROR_USAGE,
                          "unexpected argument '%s'", rest[1]);
        ok = false;
    }
    if (err && err->domain == G_OPTION_ERROR) {
        g_set_error_literal(errp, OPTIONS_ERROR, OPTIONS_ERROR_USAGE,
                            err->message);
        g_error_free(err);
    } else if (err) {
        g_propagate_error(errp, err);
    }
    g_strfreev(rest);
    g_option_context_free(context);
    g_array_free(entries, true);
    return ok;
}

static bool check_mandatory(const Options *options, const OptionDef *table,
                            GError **errp)
{
    for (; !is_end(table); table++) {
        if (table->what &&
            !*(const char *const *)((const char *)options + table->value)) {
            g_set_error(errp, OPTIONS_ERROR, OPTIONS_ERROR_USAGE,
                        "which %s? give --%s %s", table->what, table->name,
                        table->arg);
            return false;
        }
    }
    return true;
}

bool options_parse(Options *options, int argc, char **argv, GError **errp)
{
    const OptionDef *table = run_options;
    bool is_sub = false;
    size_t i;

    memset(options, 0, sizeof(*options));
    options->peers = g_ptr_array_new();
    options->macs = g_ptr_array_new();
    options->mode = OPTIONS_RUN;
    options->request.command = REQUEST_INVALID;
    for (i = 0; argc > 1 && i < G_N_ELEMENTS(subcommands); i++) {
        if (g_str_equal(argv[1], subcommands[i].name)) {
            is_sub = true;
            table = subcommands[i].table;
            options->mode = subcommands[i].mode;
            options->request.command = subcommands[i].command;
        }
    }
    options->strings = g_ptr_array_new_with_free_func(g_free);
    if (!parse_by_table(options, table, argv + is_sub, errp)) {
        return false;
    }
    if (options->help) {
        options->mode = OPTIONS_HELP;
        return true;
    }
    if (options->version) {
        options->mode = OPTIONS_VERSION;
        return true;
    }
    options->fabric.peers = (const char *const *)options->peers->pdata;
    options->fabric.n_peers = options->peers->len;
    options->fabric.macs = (const char *const *)options->macs->pdata;
    options->fabric.n_macs = options->macs->len;
    if (!check_mandatory(options, table, errp)) {
        return false;
    }
    if (options->pcap_filter && !options->pcap) {
        g_set_error(errp, OPTIONS_ERROR, OPTIONS_ERROR_USAGE,
                    "--pcap-filter=%s: filters nothing without --pcap FILE",
                    options->pcap_filter);
        return false;
    }
    return true;
}

void options_clear(Options *options)
{
    g_ptr_array_unref(options->peers);
    g_ptr_array_unref(options->macs);
    g_ptr_array_unref(options->strings);
}

/* Append @words, broken into lines that start at HELP_INDENT. */
static void help_wrap(GString *help, size_t column, const char *words)
{
    char **list = g_strsplit(words, " ", -1);
    size_t i;

    for (i = 0; list[i]; i++) {
        if (column + 1 + strlen(list[i]) > HELP_WIDTH) {
            g_string_append_c(help, '\n');
            column = 0;
        }
        if (column < HELP_INDENT) {
            g_string_append_printf(help, "%*s", (int)(HELP_INDENT - column),
                                   "");
            column = HELP_INDENT;
        } else {
            g_string_append_c(help, ' ');
            column++;
        }
        g_string_append(help, list[i]);
        column += strlen(list[i]);
    }
    g_string_append_c(help, '\n');
    g_strfreev(list);
}

static void help_table(GString *help, const OptionDef *table)
{
    for (; !is_end(table); table++) {
        size_t start = help->len;
        size_t column;
        char *text;

        if (table->kind == KIND_SECTION) {
            g_string_append_printf(help, "\n%s:\n", table->help);
            continue;
        }
        if (!table->help) {
            continue;
        }
        g_string_append_printf(help, "  --%s%s%s", table->name,
                               table->arg ? " " : "",
                               table->arg ? table->arg : "");
        column = help->len - start;
        if (column + 2 > HELP_INDENT) {
            g_string_append_c(help, '\n');
            column = 0;
        }
        text = g_strconcat(table->help, table->what ? "; mandatory" : NULL,
                           NULL);
        help_wrap(help, column, text);
        g_free(text);
    }
}

char *options_help(void)
{
    GString *help = g_string_new(
        "Usage: qdes-tap --tap NAME [OPTION]...\n"
        "       qdes-tap status [--json] [--control PATH]\n"
        "       qdes-tap fdb-add --mac MAC [--peer ADDR:PORT] "
        "[--control PATH]\n"
        "       qdes-tap fdb-del --mac MAC [--control PATH]\n"
        "       qdes-tap fdb-flush [--mac MAC | --peer ADDR:PORT] [--static]\n"
        "                          [--control PATH]\n"
        "       qdes-tap peer-add --peer HOST[:PORT] [--control PATH]\n"
        "       qdes-tap peer-del --peer HOST[:PORT] [--control PATH]\n"
        "       qdes-tap set-secret --secret-file FILE "
        "[--secret-old-file FILE]\n"
        "                           [--control PATH]\n"
        "Join a TAP device to a QDES fabric, a distributed Ethernet switch;\n"
        "or show what a running port knows; or change that.\n");
    size_t i;

    help_table(help, run_options);
    for (i = 0; i < G_N_ELEMENTS(subcommands); i++) {
        help_table(help, subcommands[i].table);
    }
    g_string_append(help, "\nExamples:\n"
        "  qdes-tap --tap tap0 --netid 42\n"
        "  qdes-tap --tap tap0 --mcast off --peer fabric.example.org\n"
        "  qdes-tap --tap tap0 --pcap - | wireshark -k -i -\n");
    return g_string_free(help, false);
}
