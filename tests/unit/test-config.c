/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config: defaults, limits, and what the errors say. */

#include "unit.h"

#include "qdes/encap.h"

START_TEST(test_defaults)
{
    QdesOptions options = { .default_name = "vm1" };
    char buf[QDES_ADDR_STRLEN];
    QdesConfig config;

    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert_str_eq(qdes_addr_format(&config.group, buf),
                     "239.192.81.68:20804");
    ck_assert_uint_eq(config.netid, 0);
    ck_assert(qdes_addr_is_any(&config.local));
    ck_assert(qdes_addr_is_v4(&config.local));
    ck_assert_uint_eq(config.local.port, 0);
    ck_assert_str_eq(config.iface, "");
    ck_assert_uint_eq(config.ttl, 1);
    ck_assert_str_eq(config.name, "vm1");
    ck_assert_int_eq(config.ageing_ms, 300000);
    ck_assert_uint_eq(config.max_macs, 32768);
    ck_assert(config.learning);
    ck_assert(config.flood_unknown);
    ck_assert_uint_eq(config.storm, 100000);
    ck_assert(!config.loop_guard);
    ck_assert_int_eq(config.sndbuf, 0);
    ck_assert_uint_eq(config.n_macs, 0);
    ck_assert_uint_eq(config.max_local_macs, 0);
    ck_assert(!config.learn_none);
    ck_assert(qdes_config_is_exposed(&config));
    ck_assert_int_eq(config.rcvbuf, 0);
    ck_assert(!config.plain_io);
}
END_TEST

#define MACS(...) \
    .macs = (const char *const []) { __VA_ARGS__ }, \
    .n_macs = sizeof((const char *const []) { __VA_ARGS__ }) / sizeof(char *)

START_TEST(test_all_options)
{
    QdesOptions options = {
        .mcast = "[ff15::1]:4000", .localaddr = "[::1]:4001", .iface = "lo",
        .encap = "qdes", .name = "käse", .unknown_unicast = "drop",
        .has_netid = true, .netid = 4294967295LL,
        .has_ttl = true, .ttl = 255,
        .has_ageing = true, .ageing = 10,
        .has_max_macs = true, .max_macs = 1,
        .has_learning = true, .learning = true,
        .has_sndbuf = true, .sndbuf = 4096,
        .has_rcvbuf = true, .rcvbuf = 1 << 20,
        MACS("52:54:00:12:34:56", "52-54-00-12-34-5F"),
        .has_max_local_macs = true, .max_local_macs = 65536,
        .mac_violation = "learn-none",
        .default_name = "not this",
    };
    char buf[QDES_ADDR_STRLEN];
    QdesConfig config;

    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert_str_eq(qdes_addr_format(&config.group, buf), "[ff15::1]:4000");
    ck_assert_str_eq(qdes_addr_format(&config.local, buf), "[::1]:4001");
    ck_assert_str_eq(config.iface, "lo");
    ck_assert_uint_eq(config.netid, 4294967295U);
    ck_assert_uint_eq(config.ttl, 255);
    ck_assert_str_eq(config.name, "käse");
    ck_assert_int_eq(config.ageing_ms, 10000);
    ck_assert_uint_eq(config.max_macs, 1);
    ck_assert(!config.flood_unknown);
    ck_assert_uint_eq(config.n_macs, 2);
    ck_assert_str_eq(config.macs[1], "52-54-00-12-34-5F");
    ck_assert_uint_eq(config.max_local_macs, 65536);
    ck_assert(config.learn_none);
    ck_assert(!qdes_config_is_exposed(&config));
    ck_assert_int_eq(config.sndbuf, 4096);
    ck_assert_int_eq(config.rcvbuf, 1 << 20);
}
END_TEST

static void check_encap(const QdesOptions *options,
                        const QdesEncapsulation *encap,
                        const char *group, const char *local, uint32_t netid,
                        bool superframes)
{
    char buf[QDES_ADDR_STRLEN];
    QdesConfig config;

    ck_assert(qdes_config_init(&config, options, NULL));
    ck_assert_ptr_eq(config.encap, encap);
    ck_assert_str_eq(qdes_addr_format(&config.group, buf), group);
    ck_assert_str_eq(qdes_addr_format(&config.local, buf), local);
    ck_assert_uint_eq(config.netid, netid);
    ck_assert_int_eq(config.superframes, superframes);
}

/* What goes without saying depends on the encapsulation. */
START_TEST(test_encaps)
{
    check_encap(&(QdesOptions) { .encap = "qdes" }, &qdes_encap_qdes,
                "239.192.81.68:20804", "0.0.0.0", 0, true);
    check_encap(&(QdesOptions) { .encap = "vxlan" }, &qdes_encap_vxlan,
                "239.192.81.68:4789", "0.0.0.0:4789", 0, false);
    check_encap(&(QdesOptions) {
                    .encap = "vxlan", .mcast = "[ff15::1]:8472",
                    .localaddr = "::1", .has_netid = true, .netid = 0xffffff,
                    .has_superframes = true, .superframes = false,
                }, &qdes_encap_vxlan, "[ff15::1]:8472", "[::1]:8472",
                0xffffff, false);
    check_encap(&(QdesOptions) {
                    .encap = "vxlan", .mcast = "239.1.1.1:8472",
                    .localaddr = "127.0.0.1:8472",
                }, &qdes_encap_vxlan, "239.1.1.1:8472", "127.0.0.1:8472", 0,
                false);
    check_encap(&(QdesOptions) { .encap = "vxvde" }, &qdes_encap_vxvde,
                "239.0.0.1:14789", "0.0.0.0", 1, false);
    check_encap(&(QdesOptions) {
                    .encap = "vxvde", .mcast = "239.1.1.1:5000",
                    .localaddr = "127.0.0.1:4000", .has_netid = true,
                    .netid = 0,
                }, &qdes_encap_vxvde, "239.1.1.1:5000", "127.0.0.1:4000", 0,
                false);
}
END_TEST

#define LONG_NAME \
    "0123456789012345678901234567890123456789012345678901234567890123"

#define PEERS(...) \
    .peers = (const char *const []) { __VA_ARGS__ }, \
    .n_peers = sizeof((const char *const []) { __VA_ARGS__ }) / sizeof(char *)

#define SECRET(text, name) { text, sizeof(text) - 1, name }

static const char long_secret[QDES_SECRET_MAX + 2];

/* Each breaks one option; the message names it, its value, what is right. */
static const struct {
    QdesOptions options;
    const char *begins, *says;
} bad[] = {
    { { .mcast = "10.0.0.1" }, "mcast=10.0.0.1:", "239.192.81.68" },
    { { .mcast = "2001:db8::1" }, "mcast=2001:db8::1:", "ff00::/8" },
    { { .mcast = "off", .iface = "lo" }, "iface=lo:", "mcast=off" },
    { { .mcast = "off", .has_ttl = true, .ttl = 4 }, "ttl=4:", "mcast=off" },
    { { .mcast = "off", .localaddr = "239.1.1.2" }, "localaddr=239.1.1.2:",
      "this host" },
    { { PEERS("h1", "h2:0") }, "peers.1=h2:0:", "1 to 65535" },
    { { PEERS("") }, "peers.0=:", "DNS name" },
    { { PEERS("239.1.1.1") }, "peers.0=239.1.1.1:", "mcast=" },
    { { PEERS("255.255.255.255") }, "peers.0=255.255.255.255:", "broadcast" },
    { { .localaddr = "127.0.0.1", PEERS("2001:db8::1") },
      "peers.0=2001:db8::1:", "IPv4" },
    { { .mcast = "off", .localaddr = "::1", PEERS("192.0.2.1") },
      "peers.0=192.0.2.1:", "IPv6" },
    { { .n_peers = 10000 }, "peers: 10000 are listed", "at most 1024" },
    { { .n_peers = 1025 }, "peers: 1025 are listed", "DNS name" },
    { { .mcast = "239.1.1.1:0" }, "mcast=239.1.1.1:0:", "1 to 65535" },
    { { .mcast = "239.1.1.1:65536" }, "mcast=239.1.1.1:65536:",
      "1 to 65535" },
    { { .mcast = "nowhere" }, "mcast=nowhere:", "ADDR:PORT" },
    { { .mcast = "ff02::1%lo", .iface = "eth9" }, "iface=eth9:",
      "leave out one" },
    { { .has_netid = true, .netid = -1 }, "netid=-1:", "0 to 4294967295" },
    { { .has_netid = true, .netid = 4294967296LL }, "netid=4294967296:",
      "0 to 4294967295" },
    { { .localaddr = "0.0.0.0:0" }, "localaddr=0.0.0.0:0:", "1 to 65535" },
    { { .localaddr = "239.1.1.2" }, "localaddr=239.1.1.2:", "this host" },
    { { .localaddr = "::1" }, "localaddr=::1:", "IPv4" },
    { { .mcast = "ff15::1", .localaddr = "127.0.0.1" },
      "localaddr=127.0.0.1:", "IPv6" },
    { { .iface = "nosuchif" }, "iface=nosuchif:", "ip link" },
    { { .iface = "" }, "iface=:", "ip link" },
    { { .has_ttl = true, .ttl = 0 }, "ttl=0:", "1 to 255" },
    { { .has_ttl = true, .ttl = 256 }, "ttl=256:", "1 to 255" },
    { { .encap = "gre" }, "encap=gre:", "qdes, vxlan or vxvde" },
    { { .encap = "" }, "encap=:", "qdes, vxlan or vxvde" },
    { { .encap = "vxlan", .has_netid = true, .netid = 1 << 24 },
      "netid=16777216:", "0 to 16777215 with encap=vxlan" },
    { { .encap = "vxvde", .has_netid = true, .netid = UINT32_MAX },
      "netid=4294967295:", "0 to 16777215 with encap=vxvde" },
    { { .encap = "vxlan", .has_netid = true, .netid = 1LL << 32 },
      "netid=4294967296:", "0 to 16777215" },
    { { .encap = "vxlan", .has_netid = true, .netid = -1 },
      "netid=-1:", "0 to 16777215" },
    { { .encap = "vxlan", .has_superframes = true, .superframes = true },
      "superframes=on: VXLAN", "encap=qdes" },
    { { .encap = "vxvde", .has_superframes = true, .superframes = true },
      "superframes=on: VXVDE", "encap=qdes" },
    { { .encap = "vxlan", .has_loop_guard = true, .loop_guard = true },
      "loop-guard=on:", "VXLAN" },
    { { .encap = "vxlan", .peers = (const char *[]) { "10.0.0.1:5000" },
        .n_peers = 1 }, "peers.0=10.0.0.1:5000:", "4789" },
    { { .encap = "vxlan", .peers = (const char *[]) { "_a._udp.b.org" },
        .n_peers = 1 }, "peers.0=_a._udp.b.org:", "SRV" },
    { { .encap = "vxlan", .mcast = "10.0.0.1" }, "mcast=10.0.0.1:",
      "239.192.81.68" },
    { { .encap = "vxvde", .mcast = "10.0.0.1" }, "mcast=10.0.0.1:",
      "239.0.0.1" },
    { { .encap = "vxlan", .localaddr = "127.0.0.1:4790" },
      "localaddr=127.0.0.1:4790:", "4789" },
    { { .encap = "vxlan", .mcast = "239.1.1.1:8472",
        .localaddr = "127.0.0.1:4789" },
      "localaddr=127.0.0.1:4789:", "8472" },
    { { .name = "" }, "name=:", "1 to 63" },
    { { .name = LONG_NAME }, "name=" LONG_NAME ":", "1 to 63" },
    { { .name = "a\nb" }, "name=a?b:", "control" },
    { { .name = "\xff" }, "name=?:", "UTF-8" },
    { { .has_ageing = true, .ageing = 9 }, "ageing=9:", "10 to 1000000" },
    { { .has_ageing = true, .ageing = 1000001 }, "ageing=1000001:",
      "seconds" },
    { { .has_max_macs = true, .max_macs = 0 }, "max-macs=0:",
      "1 to 1048576" },
    { { MACS("52:54:00:12:34:56", "52:54:00:12:34") },
      "mac.1=52:54:00:12:34:", "give one like 52:54:00:12:34:56" },
    { { MACS("") }, "mac.0=:", "not a MAC address" },
    { { MACS("01:54:00:12:34:56") }, "mac.0=01:54:00:12:34:56:",
      "one network card" },
    { { MACS("00:00:00:00:00:00") }, "mac.0=00:00:00:00:00:00:", "zero" },
    { { MACS("52:54:00:12:34:5a", "52:54:00:12:34:56", "52-54-00-12-34-5A") },
      "mac.2=52-54-00-12-34-5A:", "as 52:54:00:12:34:5a" },
    { { .macs = (const char *const [1025]) { "52:54:00:12:34:56" },
        .n_macs = 1025 }, "mac: 1025", "at most 1024" },
    { { .has_max_local_macs = true, .max_local_macs = 0 },
      "max-local-macs=0:", "1 to 65536" },
    { { .has_max_local_macs = true, .max_local_macs = 65537 },
      "max-local-macs=65537:", "1 to 65536" },
    { { MACS("52:54:00:12:34:56", "52:54:00:12:34:57"),
        .has_max_local_macs = true, .max_local_macs = 1 },
      "max-local-macs=1:", "2 MAC addresses are listed" },
    { { MACS("52:54:00:12:34:56"), .mac_violation = "shutdown" },
      "mac-violation=shutdown:", "drop or learn-none" },
    { { .mac_violation = "drop" }, "mac-violation=drop:", "max-local-macs" },
    { { .has_max_macs = true, .max_macs = 1048577 }, "max-macs=1048577:",
      "1 to 1048576" },
    { { .unknown_unicast = "maybe" }, "unknown-unicast=maybe:",
      "flood or drop" },
    { { .has_learning = true, .learning = false, .unknown_unicast = "drop" },
      "unknown-unicast=drop:", "learning=off" },
    { { .encap = "vxlan", .has_relay = true, .relay = true },
      "relay=on:", "use encap=qdes" },
    { { .encap = "vxvde", .has_relay = true, .relay = true },
      "relay=on:", "VXVDE does not have" },
    { { .storm_control = "0" }, "storm-control=0:", "off, or 1 to" },
    { { .storm_control = "10000001" }, "storm-control=10000001:",
      "1 to 10000000" },
    { { .storm_control = "1k" }, "storm-control=1k:", "frames per second" },
    { { .storm_control = "" }, "storm-control=:", "off" },
    { { .secret = SECRET("fifteen bytes15", "k") }, "secret=k: has 15 bytes",
      "16 to 4096; make one with head -c 32 /dev/urandom | base64" },
    { { .secret = SECRET("fifteen bytes15\n", NULL) },
      "secret: has 15 bytes", "make one" },
    { { .secret = SECRET("", "k") }, "secret=k: has 0 bytes", "make one" },
    { { .secret = { long_secret, QDES_SECRET_MAX + 1, "k" } },
      "secret=k: has more than 4096 bytes", "16 to 4096" },
    { { .secret = SECRET("sixteen bytes 16", "k"),
        .secret_old = SECRET("too short", "o") },
      "secret-old=o: has 9 bytes", "make one" },
    { { .secret_old = SECRET("sixteen bytes 16", "o") },
      "secret-old=o: there is no new secret", "the one that it replaces" },
    { { .secret = SECRET("sixteen bytes 16", "k"),
        .secret_old = SECRET("sixteen bytes 16\n", "o") },
      "secret-old=o: is the same as the new secret", "leave it out" },
    { { .encap = "vxlan", .secret = SECRET("sixteen bytes 16", "k") },
      "secret=k: VXLAN cannot be sealed", "encap=qdes" },
    { { .encap = "vxvde", .secret = SECRET("sixteen bytes 16", NULL) },
      "secret: VXVDE cannot be sealed", "leave it out" },
    { { .cipher = "auto" }, "cipher=auto: without a secret", "leave it out" },
    { { .secret = SECRET("sixteen bytes 16", "k"), .cipher = "AES" },
      "cipher=AES: must be auto", "aes-256-gcm or chacha20-poly1305" },
    { { .has_sndbuf = true, .sndbuf = 4095 }, "sndbuf=4095:",
      "4096 to 1073741824" },
    { { .has_rcvbuf = true, .rcvbuf = 1073741825 }, "rcvbuf=1073741825:",
      "4096 to 1073741824" },
};

START_TEST(test_bad)
{
    GError *err = NULL;
    QdesConfig config;

    ck_assert_msg(!qdes_config_init(&config, &bad[_i].options, &err), "%s",
                  bad[_i].begins);
    ck_assert_msg(g_str_has_prefix(err->message, bad[_i].begins) &&
                  strstr(err->message, bad[_i].says), "%s", err->message);
    g_error_free(err);
}
END_TEST

/* Where all is flooded, only who asks for it gets a limit. */
START_TEST(test_storm_control)
{
    QdesOptions options = { .has_learning = true, .learning = false };
    QdesConfig config;

    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert_uint_eq(config.storm, 0);
    options.storm_control = "1";
    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert_uint_eq(config.storm, 1);
    options.storm_control = "off";
    options.learning = true;
    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert_uint_eq(config.storm, 0);
}
END_TEST

START_TEST(test_loop_guard)
{
    QdesOptions options = { .default_loop_guard = true };
    QdesConfig config;

    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert(config.loop_guard);
    options.has_loop_guard = true;
    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert(!config.loop_guard);
}
END_TEST

/* What is taken is borrowed, without a newline at its end. */
START_TEST(test_secrets)
{
    QdesOptions options = {
        .secret = SECRET("sixteen bytes 16\n", "new"),
        .secret_old = { long_secret, QDES_SECRET_MAX, "old" },
        .cipher = "chacha20-poly1305",
    };
    QdesConfig config;

    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert_ptr_eq(config.secret.data, options.secret.data);
    ck_assert_uint_eq(config.secret.size, 16);
    ck_assert_uint_eq(config.secret_old.size, QDES_SECRET_MAX);
    ck_assert_int_eq(config.cipher, QDES_SEAL_CHACHA20_POLY1305);
    ck_assert(!qdes_config_is_exposed(&config));

    /* A newline may be the byte that is one too many. */
    options.secret_old = (QdesSecret) { NULL, 0, NULL };
    options.secret = (QdesSecret) {
        g_strnfill(QDES_SECRET_MAX + 1, '\n'), QDES_SECRET_MAX + 1, "new" };
    options.cipher = "aes-256-gcm";
    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert_uint_eq(config.secret.size, QDES_SECRET_MAX);
    ck_assert_ptr_null(config.secret_old.data);
    ck_assert_int_eq(config.cipher, QDES_SEAL_AES_256_GCM);
    g_free((void *)options.secret.data);

    options.secret = (QdesSecret) { "sixteen bytes 16", 16, NULL };
    options.cipher = NULL;
    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert_int_eq(config.cipher, QDES_SEAL_AUTO);
}
END_TEST

/* A default name is made to fit; nobody wrote it, so nobody is blamed. */
START_TEST(test_default_name)
{
    QdesOptions options = { .default_name = NULL };
    QdesConfig config;

    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert_str_eq(config.name, "");

    options.default_name = "\xff" "a\nb\x01";
    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert(g_utf8_validate(config.name, -1, NULL));
    ck_assert_ptr_null(strpbrk(config.name, "\n\x01"));

    /* 32 characters of two bytes do not fit, and none is cut in two. */
    options.default_name = "ääääääääääääääääääääääääääääääää";
    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert_uint_eq(strlen(config.name), 62);
    ck_assert(g_utf8_validate(config.name, -1, NULL));
}
END_TEST

/* A link-local group names its interface, as good as iface= does. */
START_TEST(test_group_scope)
{
    QdesOptions options = { .mcast = "[ff02::5144%lo]:1" };
    QdesConfig config;
    GError *err = NULL;

    ck_assert(qdes_config_init(&config, &options, NULL));
    ck_assert_str_eq(config.iface, "lo");
    ck_assert_uint_eq(config.group.scope, 0);

    options.mcast = "ff02::5144";
    ck_assert(!qdes_config_init(&config, &options, &err));
    ck_assert_msg(strstr(err->message, "mcast=ff02::5144: ") &&
                  strstr(err->message, "iface="), "%s", err->message);
    g_error_free(err);
}
END_TEST

/* What the unicast socket is bound to, by group, peers and local address. */
static const struct {
    QdesOptions options;
    bool has_group, dual;
    const char *local;
} sockets[] = {
    { { .mcast = NULL }, true, false, "0.0.0.0" },
    { { .mcast = "ff15::1" }, true, false, "::" },
    { { PEERS("host") }, true, true, "::" },
    { { .mcast = "ff15::1", PEERS("192.0.2.1") }, true, true, "::" },
    { { .mcast = "off" }, false, true, "::" },
    { { .mcast = "off", PEERS("host", "192.0.2.1:7", "2001:db8::1") }, false,
      true, "::" },
    { { .mcast = "off", .localaddr = "[::]:7" }, false, true, "[::]:7" },
    { { .localaddr = "[::]:7" }, true, true, "[::]:7" },
    { { .mcast = "off", .localaddr = "0.0.0.0:7" }, false, false,
      "0.0.0.0:7" },
    { { .mcast = "off", .localaddr = "127.0.0.1" }, false, false,
      "127.0.0.1" },
    { { .mcast = "off", .localaddr = "::1", PEERS("2001:db8::1", "host") },
      false, false, "::1" },
    { { .localaddr = "127.0.0.1", PEERS("192.0.2.1") }, true, false,
      "127.0.0.1" },
};

START_TEST(test_sockets)
{
    char text[QDES_ADDR_STRLEN];
    GError *err = NULL;
    QdesConfig config;
    QdesAddr v4 = qdes_addr_any(true, 1);
    QdesAddr v6 = qdes_addr_any(false, 1);
    bool local_v4;

    ck_assert_msg(qdes_config_init(&config, &sockets[_i].options, &err), "%s",
                  err ? err->message : "");
    ck_assert(config.has_group == sockets[_i].has_group);
    ck_assert(config.dual == sockets[_i].dual);
    ck_assert_str_eq(qdes_addr_format(&config.local, text),
                     sockets[_i].local);
    ck_assert_uint_eq(config.n_peers, sockets[_i].options.n_peers);
    local_v4 = qdes_addr_is_v4(&config.local);
    ck_assert(qdes_config_reaches(&config, &v4) == (config.dual || local_v4));
    ck_assert(qdes_config_reaches(&config, &v6) == (config.dual || !local_v4));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tc = tcase_create("config");

    tcase_add_test(tc, test_defaults);
    tcase_add_test(tc, test_all_options);
    tcase_add_test(tc, test_encaps);
    tcase_add_loop_test(tc, test_bad, 0, G_N_ELEMENTS(bad));
    tcase_add_loop_test(tc, test_sockets, 0, G_N_ELEMENTS(sockets));
    tcase_add_test(tc, test_storm_control);
    tcase_add_test(tc, test_loop_guard);
    tcase_add_test(tc, test_secrets);
    tcase_add_test(tc, test_default_name);
    tcase_add_test(tc, test_group_scope);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
