/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QTest of -netdev qdes: what it is told, and what it tells */

#include "qemu/osdep.h"
#include "qdes-lib.h"

/* --- Options ------------------------------------------------------------ */

static void test_defaults(void)
{
    QTestState *qts = qtest_init("-M none -nodefaults "
                                 "-netdev qdes,id=q0,localaddr=127.0.0.1");
    QDict *port = port_status(qts, "q0");

    assert_option(port, "name", "q0");
    assert_option(port, "encap", "qdes");
    assert_option(port, "group", "239.192.81.68:20804");
    assert_option(port, "iface", "lo");
    g_assert_cmpint(qdict_get_int(port, "netid"), ==, 0);
    g_assert(qdict_get_bool(port, "link-up"));
    g_assert(!qdict_get_bool(port, "paused"));
    g_assert(g_str_has_prefix(qdict_get_str(port, "local"), "127.0.0.1:"));
    qobject_unref(port);
    qtest_quit(qts);

    qts = qtest_init("-M none -nodefaults -name vm1 "
                     "-netdev qdes,id=q0,localaddr=127.0.0.1");
    port = port_status(qts, "q0");
    assert_option(port, "name", "vm1");
    qobject_unref(port);
    qtest_quit(qts);
}

/* All options, in every way that they can be given. */
static void test_forms(void)
{
    Fabric *fabric = fabric_new();
    g_autofree char *all = g_strdup_printf(
        "localaddr=127.0.0.1,iface=lo,mcast=%s,netid=4294967295,ttl=255,"
        "encap=qdes,name=left,,right,ageing=10,max-macs=1048576,learning=on,"
        "unknown-unicast=drop,storm-control=1,loop-guard=off,"
        "max-local-macs=65536,mac-violation=learn-none,"
        "mss-clamp=off,vnet-hdr=off,gso=off,"
        "superframes=off,sndbuf=1M,rcvbuf=4096", fabric->mcast);
    QTestState *qts = qtest_initf(
        "-M none -nodefaults -netdev qdes,id=key,%s "
        "-netdev '{\"type\": \"qdes\", \"id\": \"json\", \"netid\": "
        "4294967295, \"mcast\": \"%s\", \"localaddr\": \"127.0.0.1\", "
        "\"iface\": \"lo\", \"ttl\": 1, \"encap\": \"qdes\", \"name\": "
        "\"left,right\", \"ageing\": 1000000, \"max-macs\": 1, \"learning\": "
        "false, \"unknown-unicast\": \"flood\", \"storm-control\": \"off\", "
        "\"loop-guard\": true, \"mac\": [\"52:54:00:12:34:56\"], "
        "\"max-local-macs\": 1, \"mac-violation\": \"drop\", "
        "\"mss-clamp\": false, "
        "\"vnet-hdr\": false, \"gso\": false, \"superframes\": false, "
        "\"sndbuf\": 1048576}' ",
        all, fabric->mcast);
    static const char *const ids[] = { "key", "json", "qmp", "hmp" };
    g_autofree char *answer = NULL;
    int i;

    QMP(qts, "{ 'execute': 'netdev_add', 'arguments': { 'type': 'qdes', "
        "'id': 'qmp', 'netid': 4294967295, 'mcast': %s, 'name': 'left,right', "
        "'localaddr': '127.0.0.1', 'learning': true, 'unknown-unicast': "
        "'drop', 'rcvbuf': 65536 } }", fabric->mcast);
    answer = qtest_hmp(qts, "netdev_add qdes,id=hmp,%s", all);
    g_assert_cmpstr(answer, ==, "");

    for (i = 0; i < ARRAY_SIZE(ids); i++) {
        QDict *port = port_status(qts, ids[i]);

        assert_option(port, "group", fabric->mcast);
        assert_option(port, "name", "left,right");
        assert_option(port, "iface", "lo");
        g_assert_cmpint(qdict_get_int(port, "netid"), ==, 4294967295);
        qobject_unref(port);
    }
    g_assert_cmpint(count_ports(qts), ==, ARRAY_SIZE(ids));
    for (i = 0; i < ARRAY_SIZE(ids); i++) {
        QMP(qts, "{ 'execute': 'netdev_del', 'arguments': { 'id': %s } }",
            ids[i]);
        g_assert_cmpint(count_ports(qts), ==, ARRAY_SIZE(ids) - 1 - i);
    }
    qtest_quit(qts);
    fabric_free(fabric);
}

/* A list, in every way that it can be given. */
static void test_peers(void)
{
    static const char *const ids[] = { "key", "json", "qmp", "hmp" };
    static const char *const peers[] = { "127.0.0.2:7", "::1", "127.0.0.3" };
    static const char *const addresses[] = {
        "127.0.0.2:7", "[::1]:20804", "127.0.0.3:20804",
    };
    QTestState *qts = qtest_init(
        "-M none -nodefaults -netdev qdes,id=key,mcast=off,"
        "peers.0=127.0.0.2:7,peers.1=::1,peers.2=127.0.0.3 "
        "-netdev '{\"type\": \"qdes\", \"id\": \"json\", \"mcast\": "
        "\"off\", \"peers\": [\"127.0.0.2:7\", \"::1\", "
        "\"127.0.0.3\"]}'");
    g_autofree char *answer = NULL;
    const QListEntry *entry;
    QDict *port;
    int i, j;

    QMP(qts, "{ 'execute': 'netdev_add', 'arguments': { 'type': 'qdes', "
        "'id': 'qmp', 'mcast': 'off', 'peers': [ '127.0.0.2:7', '::1', "
        "'127.0.0.3' ] } }");
    /* The monitor's own parser keeps but the last of many. */
    answer = qtest_hmp(qts, "netdev_add qdes,id=hmp,mcast=off,"
                       "peers=127.0.0.2:7");
    /* Not bound to loopback, it says whom to trust. */
    g_assert(g_str_has_prefix(answer, "info: netdev hmp: this fabric is not "
                              "sealed: "));
    g_assert(strchr(answer, '\n') == answer + strlen(answer) - 1);

    for (i = 0; i < ARRAY_SIZE(ids); i++) {
        int n = strcmp(ids[i], "hmp") == 0 ? 1 : ARRAY_SIZE(peers);
        QList *seeds;

        port = port_status(qts, ids[i]);
        seeds = qdict_get_qlist(port, "seeds");
        entry = qlist_first(seeds);
        assert_option(port, "group", "");
        g_assert_cmpint(qlist_size(seeds), ==, n);
        for (j = 0; j < n; j++) {
            QDict *seed = qobject_to(QDict, qlist_entry_obj(entry));
            QList *found = qdict_get_qlist(seed, "addresses");

            assert_option(seed, "peer", peers[j]);
            assert_option(seed, "state", "resolved");
            g_assert_cmpint(qlist_size(found), ==, 1);
            g_assert_cmpstr(qstring_get_str(qobject_to(QString,
                                            qlist_peek(found))),
                            ==, addresses[j]);
            entry = qlist_next(entry);
        }
        qobject_unref(port);
    }

    QMP(qts, "{ 'execute': 'qdes-peer-del', 'arguments': { 'id': 'qmp', "
        "'peer': '[::1]:20804' } }");
    QMP(qts, "{ 'execute': 'qdes-peer-add', 'arguments': { 'id': 'qmp', "
        "'peer': '127.0.0.4' } }");
    QMP(qts, "{ 'execute': 'qdes-peer-add', 'arguments': { 'id': 'qmp', "
        "'peer': '127.0.0.4:20804' } }");
    port = port_status(qts, "qmp");
    g_assert_cmpint(qlist_size(qdict_get_qlist(port, "seeds")), ==, 3);
    entry = qlist_first(qdict_get_qlist(port, "seeds"));
    assert_option(qobject_to(QDict, qlist_entry_obj(qlist_next(entry))),
                  "peer", "127.0.0.3");
    qobject_unref(port);
    qtest_quit(qts);
}

static void test_short_forms(void)
{
    static const char *const forms[] = { "-nic", "-net" };
    Fabric *fabric = fabric_new();
    QTestState *qts;
    QDict *port;
    int i;

    if (!has_pc_and("virtio-net-pci")) {
        fabric_free(fabric);
        return;
    }
    for (i = 0; i < ARRAY_SIZE(forms); i++) {
        qts = qtest_initf("-M pc -net none %s qdes,localaddr=127.0.0.1,"
                          "mcast=%s", forms[i], fabric->mcast);
        g_assert_cmpint(count_ports(qts), ==, 1);
        qtest_quit(qts);
    }
    qts = qtest_init("-M pc -net none -nic qdes,id=n,mcast=off,"
                     "peers=127.0.0.2:7,peers=::1");
    port = port_status(qts, "n");
    g_assert_cmpint(qlist_size(qdict_get_qlist(port, "seeds")), ==, 2);
    qobject_unref(port);
    qtest_quit(qts);
    fabric_free(fabric);
}

#define LONG_NAME "0123456789abcdef0123456789abcdef" \
                  "0123456789abcdef0123456789abcdef"

static const BadOption bad_options[] = {
    { "'mcast': '10.0.0.1'", "mcast=10.0.0.1",
      "mcast=10.0.0.1: not a multicast address" },
    { "'mcast': 'nonsense'", "mcast=nonsense", "mcast=nonsense: " },
    { "'mcast': ''", "mcast=", "mcast=: " },
    { "'mcast': '239.1.1.1:0'", "mcast=239.1.1.1:0", "mcast=239.1.1.1:0: " },
    { "'mcast': '239.1.1.1:65536'", "mcast=239.1.1.1:65536",
      "mcast=239.1.1.1:65536: " },
    { "'mcast': 'off', 'iface': 'lo'", "mcast=off,iface=lo",
      "iface=lo: with mcast=off" },
    { "'peers': ['h:1', 'h:0']", "peers.0=h:1,peers.1=h:0",
      "peers.1=h:0: '0' in 'h:0' is not a UDP port" },
    { "'peers': ['239.1.1.1']", "peers.0=239.1.1.1",
      "peers.0=239.1.1.1: '239.1.1.1' is a multicast address" },
    { "'peers': ['']", "peers.0=", "peers.0=: '' is neither" },
    { "'localaddr': '127.0.0.1', 'peers': ['2001:db8::1']",
      "localaddr=127.0.0.1,peers.0=2001:db8::1", "give an IPv4 address" },
    { "'mcast': 'off', 'peers': ['127.255.255.255']",
      "mcast=off,peers.0=127.255.255.255", "is a broadcast address" },
    { "'netid': -1", "netid=-1", "netid=-1: must be 0 to 4294967295" },
    { "'netid': 4294967296", "netid=4294967296",
      "netid=4294967296: must be 0 to 4294967295" },
    { "'localaddr': '127.0.0.1.2'", "localaddr=127.0.0.1.2",
      "localaddr=127.0.0.1.2: " },
    { "'localaddr': '127.0.0.1:70000'", "localaddr=127.0.0.1:70000",
      "localaddr=127.0.0.1:70000: " },
    { "'localaddr': '239.1.1.1'", "localaddr=239.1.1.1",
      "localaddr=239.1.1.1: a multicast address" },
    { "'localaddr': '::1'", "localaddr=::1",
      "localaddr=::1: not of the same family" },
    { "'localaddr': '192.0.2.1'", "localaddr=192.0.2.1",
      "localaddr=192.0.2.1: " },
    { "'iface': 'nosuch0'", "iface=nosuch0",
      "iface=nosuch0: there is no such interface" },
    { "'ttl': 0", "ttl=0", "ttl=0: must be 1 to 255" },
    { "'ttl': 256", "ttl=256", "ttl=256: must be 1 to 255" },
    { "'encap': 'gre'", "encap=gre", "gre" },
    { "'name': '" LONG_NAME "'", "name=" LONG_NAME, "must have 1 to 63" },
    { "'name': ''", "name=", "name=: must have 1 to 63" },
    { "'ageing': 9", "ageing=9", "ageing=9: must be 10 to 1000000" },
    { "'ageing': 1000001", "ageing=1000001",
      "ageing=1000001: must be 10 to 1000000" },
    { "'max-macs': 0", "max-macs=0", "max-macs=0: must be 1 to 1048576" },
    { "'max-macs': 1048577", "max-macs=1048577",
      "max-macs=1048577: must be 1 to 1048576" },
    { "'mac': ['52:54:00:12:34:56', '01:00:5e:00:00:01']",
      "mac.0=52:54:00:12:34:56,mac.1=01:00:5e:00:00:01",
      "mac.1=01:00:5e:00:00:01: nobody can have this address" },
    { "'mac': ['52:54']", "mac.0=52:54", "mac.0=52:54: not a MAC address" },
    { "'max-local-macs': 0", "max-local-macs=0",
      "max-local-macs=0: must be 1 to 65536" },
    { "'mac-violation': 'drop'", "mac-violation=drop",
      "mac-violation=drop: every MAC address is allowed" },
    { "'mac-violation': 'shutdown'", "mac-violation=shutdown", "shutdown" },
    { "'learning': false, 'unknown-unicast': 'drop'",
      "learning=off,unknown-unicast=drop",
      "unknown-unicast=drop: with learning=off" },
    { "'storm-control': 'much'", "storm-control=much",
      "storm-control=much: must be off, or 1 to 10000000" },
    { "'loop-guard': 1", "loop-guard=maybe", "loop-guard" },
    { "'unknown-unicast': 'maybe'", "unknown-unicast=maybe", "maybe" },
    { "'sndbuf': 4095", "sndbuf=4095",
      "sndbuf=4095: must be 4096 to 1073741824" },
    { "'rcvbuf': 2147483648", "rcvbuf=2G",
      "rcvbuf=2147483648: must be 4096 to 1073741824" },
    { "'sndbuf': 18446744073709551615", "sndbuf=18446744073709551615",
      "sndbuf=9223372036854775807: must be" },
    { "'gso': 1", "gso=maybe", "gso" },
    { "'relay': 1", "relay=maybe", "relay" },
    { "'superframes': 1", "superframes=maybe", "superframes" },
    { "'nosuch': 1", "nosuch=1", "nosuch" },
};

/* And the VM goes on as if nothing was. */
static void test_errors_qmp(void)
{
    QTestState *qts = qtest_init("-M none -nodefaults");

    assert_bad_qmp(qts, bad_options, ARRAY_SIZE(bad_options));
    QMP(qts, "{ 'execute': 'netdev_add', 'arguments': { 'type': 'qdes', "
        "'id': 'q0', 'localaddr': '127.0.0.1' } }");
    g_assert_cmpint(count_ports(qts), ==, 1);
    qtest_quit(qts);
}

static void test_errors_cli(void)
{
    assert_bad_cli("", bad_options, ARRAY_SIZE(bad_options), NULL);
}

static void test_help(void)
{
    g_autofree char *backends = NULL;
    g_autofree char *manual = NULL;
    int status;

    backends = run_qemu("-M none -netdev help", &status);
    g_assert_cmpint(status, ==, 0);
    g_assert(strstr(backends, "\nqdes\n"));

    manual = run_qemu("-help", &status);
    g_assert_cmpint(status, ==, 0);
    g_assert(strstr(manual, "\n-netdev qdes,id=str[,mcast="));
    g_assert(strstr(manual, "[,unknown-unicast=flood|drop]"));
}

/* --- What it tells ------------------------------------------------------ */

static void test_status(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "station a");
    Station *b = station_new(fabric, 7, "b");
    g_autofree char *addr_a = station_endpoint(a);
    g_autofree char *addr_b = station_endpoint(b);
    Hub hub = hub_start(fabric, 7, ",name=guest", "");
    g_autofree Frame *from_a = make_frame(mac_all, mac_a, 1, 60);
    g_autofree Frame *from_b = make_frame(mac_all, mac_b, 2, 60);
    g_autofree Frame *out = make_frame(mac_all, mac_guest, 3, 60);
    g_autofree char *info = NULL;
    g_autofree char *network = NULL;
    QDict *port, *entry;

    hub_send(hub.fd, out);
    station_expect(a, a->group_fd, out);
    station_control(a, NULL, HELLO);
    station_frame(a, NULL, from_a);
    hub_expect(hub.fd, from_a);
    station_frame(b, NULL, from_b);
    hub_expect(hub.fd, from_b);

    port = port_status(hub.qts, "q0");
    assert_option(port, "id", "q0");
    assert_option(port, "name", "guest");
    assert_option(port, "encap", "qdes");
    assert_option(port, "group", fabric->mcast);
    assert_option(port, "iface", "lo");
    g_assert_cmpint(qdict_get_int(port, "netid"), ==, 7);
    g_assert(!qdict_get_bool(port, "loopback"));
    g_assert(qdict_get_bool(port, "link-up"));
    g_assert(!qdict_get_bool(port, "paused"));

    g_assert_cmpuint(qlist_size(qdict_get_qlist(port, "peers")), ==, 2);
    entry = find_entry(port, "peers", "address", addr_a);
    g_assert(entry);
    assert_option(entry, "name", "station a");
    assert_option(entry, "state", "alive");
    g_assert_cmpint(qdict_get_int(entry, "macs"), ==, 1);
    g_assert_cmpint(qdict_get_int(entry, "last-heard-ms"), <, WAIT_MS);
    entry = find_entry(port, "peers", "address", addr_b);
    g_assert(entry);
    assert_option(entry, "name", "");
    assert_option(entry, "state", "heard");

    g_assert_cmpuint(qlist_size(qdict_get_qlist(port, "fdb")), ==, 3);
    entry = find_entry(port, "fdb", "mac", "02:00:00:00:00:0a");
    g_assert(entry);
    g_assert(!qdict_get_bool(entry, "local"));
    assert_option(entry, "peer", addr_a);
    g_assert_cmpint(qdict_get_int(entry, "age-ms"), <, WAIT_MS);
    g_assert_cmpint(qdict_get_int(entry, "moves"), ==, 0);
    entry = find_entry(port, "fdb", "mac", "52:54:00:12:34:56");
    g_assert(entry);
    g_assert(qdict_get_bool(entry, "local"));
    g_assert(!qdict_haskey(entry, "peer"));
    qobject_unref(port);

    info = qtest_hmp(hub.qts, "info qdes");
    g_assert(g_str_has_prefix(info, "q0:"));
    g_assert(strstr(info, "netid 7"));
    g_assert(strstr(info, fabric->mcast));
    g_assert(strstr(info, "station a"));
    g_assert(strstr(info, addr_a));
    g_assert(strstr(info, addr_b));
    g_assert(strstr(info, "02:00:00:00:00:0b"));
    g_assert(strstr(info, "rx-frames"));

    network = qtest_hmp(hub.qts, "info network");
    g_assert(strstr(network, "type=qdes"));
    g_assert(strstr(network, fabric->mcast));
    g_assert(strstr(network, "netid=7"));
    g_assert(!strstr(network, "link down"));
    set_link(hub.qts, "q0", false);
    WAIT_FOR(!port_flag(hub.qts, "q0", "link-up"));
    g_free(network);
    network = qtest_hmp(hub.qts, "info network");
    g_assert(strstr(network, "link down"));

    hub_stop(&hub);
    station_free(a);
    station_free(b);
    fabric_free(fabric);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("/qdes/options/defaults", test_defaults);
    qtest_add_func("/qdes/options/forms", test_forms);
    qtest_add_func("/qdes/options/peers", test_peers);
    qtest_add_func("/qdes/options/short-forms", test_short_forms);
    qtest_add_func("/qdes/options/errors-qmp", test_errors_qmp);
    qtest_add_func("/qdes/options/errors-cli", test_errors_cli);
    qtest_add_func("/qdes/options/help", test_help);
    qtest_add_func("/qdes/status", test_status);

    return g_test_run();
}
