/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qdes-tap's command line: what is understood, and what is refused how. */

#include "unit.h"

#include <errno.h>

#include "options.h"

/* Parse @line, which is split at spaces. */
static bool parse(Options *options, const char *line, GError **errp)
{
    char **argv = g_strsplit(line, " ", -1);
    bool ok = options_parse(options, g_strv_length(argv), argv, errp);

    g_strfreev(argv);
    return ok;
}

START_TEST(test_least)
{
    Options options;

    ck_assert(parse(&options, "qdes-tap --tap tap0", NULL));
    ck_assert_int_eq(options.mode, OPTIONS_RUN);
    ck_assert_str_eq(options.tap, "tap0");
    ck_assert_ptr_null(options.fabric.mcast);
    ck_assert_ptr_null(options.control);
    ck_assert_ptr_null(options.pcap);
    ck_assert_ptr_null(options.user);
    ck_assert(!options.fabric.has_netid);
    ck_assert(!options.fabric.has_learning);
    ck_assert(!options.fabric.has_mss_clamp);
    ck_assert(!options.fabric.has_vnet_hdr);
    ck_assert(!options.fabric.has_gso);
    ck_assert(!options.fabric.has_superframes);
    ck_assert(!options.fabric.has_max_local_macs);
    ck_assert_uint_eq(options.fabric.n_macs, 0);
    ck_assert_ptr_null(options.fabric.mac_violation);
    ck_assert(!options.plain_io);
    ck_assert(!options.quiet);
    options_clear(&options);
}
END_TEST

START_TEST(test_every_option)
{
    Options o;

    ck_assert(parse(&o, "qdes-tap --tap tap7 --mcast 239.1.1.1:9 --netid 0x2a "
                    "--localaddr=10.0.0.1 --iface eth0 --ttl 3 --encap qdes "
                    "--name n\xc3\xa4me --ageing 60 --max-macs=7 --learning "
                    "off --unknown-unicast drop --sndbuf 64k --rcvbuf 5000 "
                    "--mss-clamp off --vnet-hdr=off --gso off "
                    "--superframes=off --relay on "
                    "--superframes=off --mac 02::1 --max-local-macs 9 "
                    "--mac=m --mac-violation learn-none "
                    "--control /c --pcap - --pcap-filter arp --user me "
                    "--plain-io --quiet", NULL));
    ck_assert_str_eq(o.tap, "tap7");
    ck_assert_str_eq(o.fabric.mcast, "239.1.1.1:9");
    ck_assert(o.fabric.has_netid);
    ck_assert_int_eq(o.fabric.netid, 42);
    ck_assert_str_eq(o.fabric.localaddr, "10.0.0.1");
    ck_assert_str_eq(o.fabric.iface, "eth0");
    ck_assert(o.fabric.has_ttl);
    ck_assert_int_eq(o.fabric.ttl, 3);
    ck_assert_str_eq(o.fabric.encap, "qdes");
    ck_assert_str_eq(o.fabric.name, "n\xc3\xa4me");
    ck_assert(o.fabric.has_ageing);
    ck_assert_int_eq(o.fabric.ageing, 60);
    ck_assert(o.fabric.has_max_macs);
    ck_assert_int_eq(o.fabric.max_macs, 7);
    ck_assert(o.fabric.has_learning);
    ck_assert(!o.fabric.learning);
    ck_assert_str_eq(o.fabric.unknown_unicast, "drop");
    ck_assert(o.fabric.has_sndbuf);
    ck_assert_int_eq(o.fabric.sndbuf, 65536);
    ck_assert(o.fabric.has_rcvbuf);
    ck_assert_int_eq(o.fabric.rcvbuf, 5000);
    ck_assert(o.fabric.has_mss_clamp);
    ck_assert(!o.fabric.mss_clamp);
    ck_assert(o.fabric.has_vnet_hdr);
    ck_assert(!o.fabric.vnet_hdr);
    ck_assert(o.fabric.has_gso);
    ck_assert(!o.fabric.gso);
    ck_assert(o.fabric.has_superframes);
    ck_assert(!o.fabric.superframes);
    ck_assert(o.fabric.has_relay);
    ck_assert(o.fabric.relay);
    ck_assert_uint_eq(o.fabric.n_macs, 2);
    ck_assert_str_eq(o.fabric.macs[0], "02::1");
    ck_assert_str_eq(o.fabric.macs[1], "m");
    ck_assert(o.fabric.has_max_local_macs);
    ck_assert_int_eq(o.fabric.max_local_macs, 9);
    ck_assert_str_eq(o.fabric.mac_violation, "learn-none");
    ck_assert_str_eq(o.control, "/c");
    ck_assert_str_eq(o.pcap, "-");
    ck_assert_str_eq(o.pcap_filter, "arp");
    ck_assert_str_eq(o.user, "me");
    ck_assert(o.plain_io);
    ck_assert(o.quiet);
    options_clear(&o);
}
END_TEST

START_TEST(test_last_one_counts)
{
    Options options;

    ck_assert(parse(&options, "qdes-tap --netid 1 --tap a --netid 2 --tap b "
                    "--learning off --learning on", NULL));
    ck_assert_int_eq(options.fabric.netid, 2);
    ck_assert_str_eq(options.tap, "b");
    ck_assert(options.fabric.learning);
    options_clear(&options);
}
END_TEST

/* What is out of range is a number all the same: libqdes judges it. */
START_TEST(test_range_is_not_checked_here)
{
    Options options;

    ck_assert(parse(&options, "qdes-tap --tap t --netid 4294967296 --ttl -1",
                    NULL));
    ck_assert_int_eq(options.fabric.netid, 4294967296);
    ck_assert_int_eq(options.fabric.ttl, -1);
    options_clear(&options);
}
END_TEST

static const struct {
    const char *line;
    OptionsMode mode;
    bool json;
    const char *control;
} modes[] = {
    { "qdes-tap --help", OPTIONS_HELP },
    { "qdes-tap -h", OPTIONS_HELP },
    { "qdes-tap --version", OPTIONS_VERSION },
    { "qdes-tap status --help", OPTIONS_HELP },
    { "qdes-tap status", OPTIONS_STATUS },
    { "qdes-tap status --json", OPTIONS_STATUS, true },
    { "qdes-tap status --control=/c", OPTIONS_STATUS, false, "/c" },
    { "qdes-tap status --control /c --json", OPTIONS_STATUS, true, "/c" },
    { "qdes-tap --tap status", OPTIONS_RUN },
    { "qdes-tap --tap fdb-add", OPTIONS_RUN },
    { "qdes-tap fdb-add --help", OPTIONS_HELP },
    { "qdes-tap fdb-add --mac m --control /c", OPTIONS_CHANGE, false, "/c" },
    { "qdes-tap fdb-del --mac m", OPTIONS_CHANGE },
    { "qdes-tap fdb-flush", OPTIONS_CHANGE },
};

START_TEST(test_change)
{
    Options options;

    ck_assert(parse(&options, "qdes-tap fdb-add --mac m --peer p", NULL));
    ck_assert_int_eq(options.request.command, REQUEST_FDB_ADD);
    ck_assert_str_eq(options.request.mac, "m");
    ck_assert_str_eq(options.request.peer, "p");
    options_clear(&options);
    ck_assert(parse(&options, "qdes-tap fdb-del --mac m", NULL));
    ck_assert_int_eq(options.request.command, REQUEST_FDB_DEL);
    options_clear(&options);
    ck_assert(parse(&options, "qdes-tap fdb-flush --static", NULL));
    ck_assert_int_eq(options.request.command, REQUEST_FDB_FLUSH);
    ck_assert(options.request.statics);
    ck_assert_ptr_null(options.request.mac);
    options_clear(&options);
}
END_TEST

START_TEST(test_mode)
{
    Options options;

    ck_assert(parse(&options, modes[_i].line, NULL));
    ck_assert_int_eq(options.mode, modes[_i].mode);
    ck_assert_int_eq(options.json, modes[_i].json);
    ck_assert_pstr_eq(options.control, modes[_i].control);
    options_clear(&options);
}
END_TEST

static const struct {
    const char *line;
    OptionsError code;
    const char *text;           /* has to be in the message */
} bad_lines[] = {
    { "qdes-tap", OPTIONS_ERROR_USAGE, "--tap" },
    { "qdes-tap tap0", OPTIONS_ERROR_USAGE, "tap0" },
    { "qdes-tap --tap", OPTIONS_ERROR_USAGE, "--tap" },
    { "qdes-tap --tap t --bogus", OPTIONS_ERROR_USAGE, "--bogus" },
    { "qdes-tap --tap t --netid", OPTIONS_ERROR_USAGE, "--netid" },
    { "qdes-tap --tap t extra", OPTIONS_ERROR_USAGE, "extra" },
    { "qdes-tap --tap t status", OPTIONS_ERROR_USAGE, "status" },
    { "qdes-tap --tap t --json", OPTIONS_ERROR_USAGE, "--json" },
    { "qdes-tap --tap t --pcap-filter arp", OPTIONS_ERROR_USAGE, "--pcap" },
    { "qdes-tap status --tap t", OPTIONS_ERROR_USAGE, "--tap" },
    { "qdes-tap status x", OPTIONS_ERROR_USAGE, "x" },
    { "qdes-tap status --mac m", OPTIONS_ERROR_USAGE, "--mac" },
    { "qdes-tap fdb-add", OPTIONS_ERROR_USAGE, "--mac" },
    { "qdes-tap fdb-del", OPTIONS_ERROR_USAGE, "--mac" },
    { "qdes-tap fdb-del --mac m --peer p", OPTIONS_ERROR_USAGE, "--peer" },
    { "qdes-tap fdb-flush m", OPTIONS_ERROR_USAGE, "m" },
    { "qdes-tap fdb-flush --json", OPTIONS_ERROR_USAGE, "--json" },
    { "qdes-tap --tap t --static", OPTIONS_ERROR_USAGE, "--static" },
    { "qdes-tap --tap t --loop-guard yes", OPTIONS_ERROR_VALUE,
      "--loop-guard=yes: " },
    { "qdes-tap --tap t --netid=x", OPTIONS_ERROR_VALUE, "--netid=x: " },
    { "qdes-tap --tap t --netid=", OPTIONS_ERROR_VALUE, "--netid=: " },
    { "qdes-tap --tap t --ttl 1.5", OPTIONS_ERROR_VALUE, "--ttl=1.5: " },
    { "qdes-tap --tap t --netid 99999999999999999999", OPTIONS_ERROR_VALUE,
      "--netid=99999999999999999999: too large" },
    { "qdes-tap --tap t --ttl 1k", OPTIONS_ERROR_VALUE, "--ttl=1k: " },
    { "qdes-tap --tap t --sndbuf 1x", OPTIONS_ERROR_VALUE, "--sndbuf=1x: " },
    { "qdes-tap --tap t --rcvbuf 9999999999999999g", OPTIONS_ERROR_VALUE,
      "too large" },
    { "qdes-tap --tap t --learning yes", OPTIONS_ERROR_VALUE,
      "--learning=yes: " },
};

START_TEST(test_bad_line)
{
    Options options;
    GError *err = NULL;

    ck_assert(!parse(&options, bad_lines[_i].line, &err));
    ck_assert(g_error_matches(err, OPTIONS_ERROR, bad_lines[_i].code));
    ck_assert_msg(strstr(err->message, bad_lines[_i].text) != NULL,
                  "%s: '%s'", bad_lines[_i].line, err->message);
    g_error_free(err);
    options_clear(&options);
}
END_TEST

static const struct {
    const char *text;
    int err;
    int64_t value;
} numbers[] = {
    { "0", 0, 0 },
    { "42", 0, 42 },
    { "-1", 0, -1 },
    { "-0", 0, 0 },
    { "0x0", 0, 0 },
    { "0xFf", 0, 255 },
    { "0X10", 0, 16 },
    { "9223372036854775807", 0, INT64_MAX },
    { "9223372036854775808", ERANGE },
    { "-9223372036854775809", ERANGE },
    { "0x8000000000000000", ERANGE },
    { "", EINVAL },
    { "-", EINVAL },
    { "--1", EINVAL },
    { "+1", EINVAL },
    { " 1", EINVAL },
    { "1 ", EINVAL },
    { "1x", EINVAL },
    { "1k", EINVAL },
    { "1e3", EINVAL },
    { "0x", EINVAL },
    { "0xg", EINVAL },
    { "0x-1", EINVAL },
    { "010", EINVAL },
    { "00", EINVAL },
    { "ff", EINVAL },
};

START_TEST(test_number)
{
    int64_t value = 7;

    errno = 0;
    ck_assert_int_eq(options_parse_number(numbers[_i].text, &value),
                     numbers[_i].err == 0);
    ck_assert_int_eq(errno, numbers[_i].err);
    if (!numbers[_i].err) {
        ck_assert_int_eq(value, numbers[_i].value);
    }
}
END_TEST

static const struct {
    const char *text;
    int err;
    int64_t value;
} sizes[] = {
    { "4096", 0, 4096 },
    { "64k", 0, 65536 },
    { "64K", 0, 65536 },
    { "3M", 0, 3 << 20 },
    { "1g", 0, 1 << 30 },
    { "0x10k", 0, 16384 },
    { "-1k", 0, -1024 },
    { "8589934591g", 0, 8589934591LL << 30 },
    { "8589934592g", ERANGE },
    { "k", EINVAL },
    { "1kk", EINVAL },
    { "1kB", EINVAL },
    { "1t", EINVAL },
    { "1 k", EINVAL },
    { "", EINVAL },
};

START_TEST(test_size)
{
    int64_t value = 7;

    errno = 0;
    ck_assert_int_eq(options_parse_size(sizes[_i].text, &value),
                     sizes[_i].err == 0);
    ck_assert_int_eq(errno, sizes[_i].err);
    if (!sizes[_i].err) {
        ck_assert_int_eq(value, sizes[_i].value);
    }
}
END_TEST

START_TEST(test_default_name)
{
    char name[QDES_NAME_MAX + 1];
    char *host = g_strnfill(200, 'h');

    options_default_name(name, "box", "tap0");
    ck_assert_str_eq(name, "box:tap0");
    options_default_name(name, "a\tb\xff", "t");
    ck_assert_str_eq(name, "a?b?:t");
    options_default_name(name, "", "tap0");
    ck_assert_str_eq(name, ":tap0");

    /* the host's part gives way, the device's does not */
    options_default_name(name, host, "tap4567890abcde");
    ck_assert_uint_eq(strlen(name), QDES_NAME_MAX);
    ck_assert(g_str_has_suffix(name, "hh:tap4567890abcde"));
    g_free(host);
}
END_TEST

START_TEST(test_help)
{
    static const char *const some[] = {
        "  --tap NAME", "  --netid N", "  --pcap-filter EXPR", "  --json",
        "  --learning on|off", "239.192.81.68:20804", "qdes-tap status",
    };
    char *help = options_help();
    char **lines = g_strsplit(help, "\n", -1);
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(some); i++) {
        ck_assert_msg(strstr(help, some[i]) != NULL, "no '%s'", some[i]);
    }
    for (i = 0; lines[i]; i++) {
        ck_assert_uint_le(strlen(lines[i]), 79);
        ck_assert(!g_str_has_suffix(lines[i], " "));
    }
    g_strfreev(lines);
    g_free(help);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tap-options");
    TCase *tc = tcase_create("options");

    tcase_add_test(tc, test_least);
    tcase_add_test(tc, test_every_option);
    tcase_add_test(tc, test_last_one_counts);
    tcase_add_test(tc, test_range_is_not_checked_here);
    tcase_add_test(tc, test_change);
    tcase_add_loop_test(tc, test_mode, 0, G_N_ELEMENTS(modes));
    tcase_add_loop_test(tc, test_bad_line, 0, G_N_ELEMENTS(bad_lines));
    tcase_add_loop_test(tc, test_number, 0, G_N_ELEMENTS(numbers));
    tcase_add_loop_test(tc, test_size, 0, G_N_ELEMENTS(sizes));
    tcase_add_test(tc, test_default_name);
    tcase_add_test(tc, test_help);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
