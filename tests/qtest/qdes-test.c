/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest of -netdev qdes
 *
 * Its offloads and sealed fabrics have tests of their own,
 * qdes-offload-test.c and qdes-seal-test.c.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qemu/sockets.h"
#include "qdes-lib.h"

/* --- Options ------------------------------------------------------------ */

static void assert_option(QDict *port, const char *key, const char *value)
{
    g_assert_cmpstr(qdict_get_str(port, key), ==, value);
}

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

/* --- Frames ------------------------------------------------------------- */

/* A guest's hello, frames in both directions, nothing changed on the way. */
static void test_frames_hub(void)
{
    static const size_t sizes[] = { 60, 61, 1514, 9014, FRAME_MAX };
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    Hub hub = hub_start(fabric, 7, ",name=guest", "");
    struct sockaddr_in port = port_endpoint(hub.qts, "q0");
    g_autofree Datagram *dg = g_new(Datagram, 1);
    uint64_t instance;
    int i;

    station_wait(a, a->group_fd, HELLO, dg);
    g_assert_cmpstr(dg->name, ==, "guest");
    g_assert_cmpmem(&dg->from, 8, &port, 8);
    instance = dg->instance;

    /* A port that comes later is told at once. */
    station_control(a, NULL, HELLO);
    station_wait(a, a->fd, HELLO, dg);
    g_assert_cmpstr(dg->name, ==, "guest");
    g_assert_cmpuint(dg->instance, ==, instance);

    for (i = 0; i < ARRAY_SIZE(sizes); i++) {
        g_autofree Frame *out = make_frame(mac_all, mac_guest, i, sizes[i]);
        g_autofree Frame *in = make_frame(mac_guest, mac_a, i, sizes[i]);

        hub_send(hub.fd, out);
        station_expect(a, a->group_fd, out);
        station_frame(a, NULL, in);
        hub_expect(hub.fd, in);
        station_frame(a, &port, in);
        hub_expect(hub.fd, in);
    }
    g_assert_cmpuint(port_count(hub.qts, "q0", "tx-flooded"), ==,
                     ARRAY_SIZE(sizes));
    g_assert_cmpuint(port_count(hub.qts, "q0", "rx-frames"), ==,
                     2 * ARRAY_SIZE(sizes));

    assert_books(hub.qts, "q0");
    qtest_quit(hub.qts);
    close(hub.fd);
    station_wait(a, a->group_fd, BYE, dg);
    g_assert_cmpuint(dg->instance, ==, instance);
    station_free(a);
    fabric_free(fabric);
}

/* Frames that are too short or too long are counted and do no harm. */
static void test_frame_limits(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    Hub hub = hub_start(fabric, 7, "", "");
    g_autofree Frame *frame = make_frame(mac_all, mac_guest, 1, FRAME_MAX);
    g_autofree Frame *tiny = make_frame(mac_guest, mac_a, 2, 18);
    uint8_t data[60];
    size_t size;

    /* What comes first after these two is the third. */
    frame->size = FRAME_MAX + 1;
    hub_send(hub.fd, frame);
    frame->size = 13;
    hub_send(hub.fd, frame);
    frame->size = FRAME_MAX;
    hub_send(hub.fd, frame);
    station_expect(a, a->group_fd, frame);
    g_assert_cmpuint(port_count(hub.qts, "q0", "tx-drop-long"), ==, 1);
    g_assert_cmpuint(port_count(hub.qts, "q0", "tx-drop-short"), ==, 1);

    /* Short ones come padded to those that want them so. */
    station_frame(a, NULL, tiny);
    size = hub_receive(hub.fd, data);
    g_assert_cmpuint(size, ==, 60);
    g_assert_cmpmem(data, tiny->size, tiny->data, tiny->size);
    g_assert(buffer_is_zero(data + tiny->size, size - tiny->size));

    hub_stop(&hub);
    station_free(a);
    fabric_free(fabric);
}

static void test_frames_virtio(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree Datagram *dg = g_new(Datagram, 1);
    QTestState *qts;
    Nic *nic;
    int i;

    if (!has_pc_and("virtio-net-pci")) {
        goto out;
    }
    qts = pc_start(fabric, 7, "", "virtio-net-pci", "");
    nic = nic_new(qts);
    nic_drive(nic, NIC_PLAIN);
    nic_add_buffers(nic, 32);
    for (i = 0; i < 16; i++) {
        g_autofree Frame *out = make_frame(mac_all, mac_guest, i, 60 + 90 * i);
        g_autofree Frame *in = make_frame(mac_guest, mac_a, i, 18 + 90 * i);

        nic_send(nic, out);
        station_expect(a, a->group_fd, out);
        station_frame(a, NULL, in);
        nic_expect(nic, in);
    }

    /* As after a migration: the guest's address is announced. */
    QMP(qts, "{ 'execute': 'announce-self', 'arguments': { 'initial': 50, "
        "'max': 50, 'rounds': 1, 'step': 0 } }");
    station_wait(a, a->group_fd, DATA, dg);
    g_assert_cmpuint(dg->size, >=, 42);
    g_assert_cmpmem(dg->payload, 6, mac_all, 6);
    g_assert_cmpmem(dg->payload + 6, 6, mac_guest, 6);
    g_assert_cmphex(lduw_be_p(dg->payload + 12), ==, 0x8035); /* RARP */

    assert_books(qts, "q0");
    nic_free(nic);
    qtest_quit(qts);
    station_wait(a, a->group_fd, BYE, dg);
out:
    station_free(a);
    fabric_free(fabric);
}

/* Once it is known where an address is, nobody else is bothered. */
static void test_learning(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    Station *b = station_new(fabric, 7, "b");
    Hub hub = hub_start(fabric, 7, "", "");
    g_autofree Frame *from_a = make_frame(mac_all, mac_a, 1, 60);
    g_autofree Frame *from_b = make_frame(mac_all, mac_b, 2, 60);
    g_autofree Frame *to_a = make_frame(mac_a, mac_guest, 3, 60);
    g_autofree Frame *to_b = make_frame(mac_b, mac_guest, 4, 60);
    g_autofree Frame *to_all = make_frame(mac_all, mac_guest, 5, 60);
    g_autofree Frame *moved = make_frame(mac_all, mac_a, 6, 60);

    /* Unknown: everybody gets it. */
    hub_send(hub.fd, to_a);
    station_expect(a, a->group_fd, to_a);
    station_expect(b, b->group_fd, to_a);

    station_frame(a, NULL, from_a);
    hub_expect(hub.fd, from_a);
    station_expect(b, b->group_fd, from_a);
    station_frame(b, NULL, from_b);
    hub_expect(hub.fd, from_b);
    station_expect(a, a->group_fd, from_b);

    hub_send(hub.fd, to_a);
    hub_send(hub.fd, to_b);
    hub_send(hub.fd, to_all);
    station_expect(a, a->fd, to_a);
    station_expect(b, b->fd, to_b);
    station_expect(a, a->group_fd, to_all);
    station_expect(b, b->group_fd, to_all);

    /* A guest that moved is found at once. */
    station_frame(b, NULL, moved);
    hub_expect(hub.fd, moved);
    station_expect(a, a->group_fd, moved);
    hub_send(hub.fd, to_a);
    hub_send(hub.fd, to_all);
    station_expect(b, b->fd, to_a);
    station_expect(a, a->group_fd, to_all);
    g_assert(!readable(a->fd, 0));
    g_assert_cmpuint(port_count(hub.qts, "q0", "fdb-moved"), ==, 1);
    g_assert_cmpuint(port_count(hub.qts, "q0", "tx-unicast"), ==, 3);

    /* A peer that leaves is forgotten with its addresses. */
    station_expect(b, b->group_fd, to_all);
    station_control(b, NULL, HELLO);
    WAIT_FOR(port_count(hub.qts, "q0", "rx-hello") == 1);
    station_control(b, NULL, BYE);
    WAIT_FOR(port_count(hub.qts, "q0", "peers-bye") == 1);
    hub_send(hub.fd, to_a);
    station_expect(a, a->group_fd, to_a);

    hub_stop(&hub);
    station_free(a);
    station_free(b);
    fabric_free(fabric);
}

static void test_no_learning(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    Hub hub = hub_start(fabric, 7, ",learning=off", "");
    g_autofree Frame *from_a = make_frame(mac_all, mac_a, 1, 60);
    g_autofree Frame *to_a = make_frame(mac_a, mac_guest, 2, 60);

    station_frame(a, NULL, from_a);
    hub_expect(hub.fd, from_a);
    hub_send(hub.fd, to_a);
    station_expect(a, a->group_fd, to_a);
    hub_stop(&hub);
    station_free(a);
    fabric_free(fabric);
}

static void test_unknown_unicast(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    Hub hub = hub_start(fabric, 7, ",unknown-unicast=drop", "");
    g_autofree Frame *from_a = make_frame(mac_all, mac_a, 1, 60);
    g_autofree Frame *to_a = make_frame(mac_a, mac_guest, 2, 60);
    g_autofree Frame *to_all = make_frame(mac_all, mac_guest, 3, 60);

    hub_send(hub.fd, to_a);
    hub_send(hub.fd, to_all);
    station_expect(a, a->group_fd, to_all);
    g_assert_cmpuint(port_count(hub.qts, "q0", "tx-drop-unknown"), ==, 1);
    station_frame(a, NULL, from_a);
    hub_expect(hub.fd, from_a);
    hub_send(hub.fd, to_a);
    station_expect(a, a->fd, to_a);
    hub_stop(&hub);
    station_free(a);
    fabric_free(fabric);
}

/* Networks of one group do not hear each other. */
static void test_netid(void)
{
    Fabric *fabric = fabric_new();
    Station *same = station_new(fabric, 7, "same");
    Station *other = station_new(fabric, 8, "other");
    Hub hub = hub_start(fabric, 7, "", "");
    struct sockaddr_in port = port_endpoint(hub.qts, "q0");
    g_autofree Frame *foreign = make_frame(mac_all, mac_b, 1, 60);
    g_autofree Frame *in = make_frame(mac_all, mac_a, 2, 60);
    g_autofree Frame *out = make_frame(mac_all, mac_guest, 3, 60);
    g_autofree Datagram *dg = g_new(Datagram, 1);

    station_control(other, NULL, HELLO);
    station_frame(other, NULL, foreign);
    station_frame(other, &port, foreign);
    station_frame(same, NULL, in);
    hub_expect(hub.fd, in);
    /* The kernel may have dropped the two to the group before. */
    WAIT_FOR(port_count(hub.qts, "q0", "rx-drop-netid") >= 1);
    g_assert_cmpint(port_peers(hub.qts, "q0"), ==, 1);

    /* What the port sends, it sends with its own network's ID alone. */
    hub_send(hub.fd, out);
    station_expect(same, same->group_fd, out);
    g_assert(!station_read(other, other->group_fd, dg, 0));
    g_assert(!station_read(other, other->fd, dg, 0));

    hub_stop(&hub);
    station_free(same);
    station_free(other);
    fabric_free(fabric);
}

/* What is no QDES, or broken, is dropped, and its counter says why. */
static void test_malformed(void)
{
    static const struct {
        const char *counter;
        const char *data;
        size_t size;
    } bad[] = {
#define BAD(counter, data) { counter, data, sizeof(data) - 1 }
#define NETID "\0\0\0\7"
#define FRAME "\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x0a\x88\xb5"
#define INSTANCE "\0\1\0\x08\1\2\3\4\5\6\7\x08"
        BAD("rx-drop-short", ""),
        BAD("rx-drop-short", "\x51\x44\x10\0\0\0\0"),
        BAD("rx-drop-magic", "\x51\x45\x10\0" NETID FRAME),
        BAD("rx-drop-version", "\x51\x44\x20\0" NETID FRAME),
        BAD("rx-drop-version", "\x51\x44\0\0" NETID FRAME),
        BAD("rx-drop-type", "\x51\x44\x16\0" NETID),
        BAD("rx-drop-tlv", "\x51\x44\x13\0" NETID),
        BAD("rx-drop-type", "\x51\x44\x1f\0" NETID),
        BAD("rx-drop-csum", "\x51\x44\x10\1" NETID FRAME),
        BAD("rx-drop-flags", "\x51\x44\x10\x04" NETID FRAME),
        BAD("rx-drop-flags", "\x51\x44\x11\1" NETID INSTANCE),
        BAD("rx-drop-sealed", "\x51\x44\x10\2" NETID FRAME FRAME FRAME),
        BAD("rx-drop-netid", "\x51\x44\x10\0\0\0\0\x08" FRAME),
        BAD("rx-drop-frame-short", "\x51\x44\x10\0" NETID),
        BAD("rx-drop-frame-short", "\x51\x44\x10\0" NETID "0123456789abc"),
        BAD("rx-drop-source", "\x51\x44\x10\0" NETID
            "\xff\xff\xff\xff\xff\xff\x03\0\0\0\0\x0a\x88\xb5"),
        BAD("rx-drop-source", "\x51\x44\x10\0" NETID
            "\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\x88\xb5"),
        BAD("rx-drop-tlv", "\x51\x44\x11\0" NETID),
        BAD("rx-drop-tlv", "\x51\x44\x12\0" NETID "\0\1\0"),
        BAD("rx-drop-tlv", "\x51\x44\x11\0" NETID
            "\0\1\0\x09\1\2\3\4\5\6\7\x08"),
        BAD("rx-drop-tlv", "\x51\x44\x11\0" NETID INSTANCE INSTANCE),
        BAD("rx-drop-tlv", "\x51\x44\x11\0" NETID INSTANCE "\0\4\0\0"),
#undef BAD
#undef NETID
#undef FRAME
#undef INSTANCE
    };
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    Hub hub = hub_start(fabric, 7, "", "");
    struct sockaddr_in port = port_endpoint(hub.qts, "q0");
    g_autofree Frame *good = make_frame(mac_guest, mac_a, 1, 60);
    int i;

    for (i = 0; i < ARRAY_SIZE(bad); i++) {
        uint64_t before = port_count(hub.qts, "q0", bad[i].counter);

        station_send(a, &port, bad[i].data, bad[i].size);
        WAIT_FOR(port_count(hub.qts, "q0", bad[i].counter) == before + 1);
    }
    g_assert_cmpint(port_peers(hub.qts, "q0"), ==, 0);
    g_assert_cmpuint(port_count(hub.qts, "q0", "rx-frames"), ==, 0);
    station_frame(a, &port, good);
    hub_expect(hub.fd, good);

    hub_stop(&hub);
    station_free(a);
    fabric_free(fabric);
}

/* Ports of one QEMU are as far from each other as any. */
static void test_several(void)
{
    Fabric *fabric = fabric_new();
    Station *third = station_new(fabric, 8, "third");
    static const uint32_t netids[] = { 7, 7, 8 };
    int fd[3], their_fd[3];
    g_autoptr(GString) args = g_string_new("-M none -nodefaults ");
    g_autofree Frame *all = make_frame(mac_all, mac_a, 1, 60);
    g_autofree Frame *back = make_frame(mac_a, mac_b, 2, 60);
    g_autofree Frame *forth = make_frame(mac_b, mac_a, 3, 60);
    g_autofree Frame *alone = make_frame(mac_all, mac_guest, 4, 60);
    QTestState *qts;
    int i;

    for (i = 0; i < 3; i++) {
        g_autofree char *port = hub_args(i, fabric, netids[i], "", &fd[i],
                                         &their_fd[i]);

        g_string_append(args, port);
    }
    qts = qtest_init(args->str);
    for (i = 0; i < 3; i++) {
        close(their_fd[i]);
    }

    hub_send(fd[0], all);
    hub_expect(fd[1], all);
    hub_send(fd[1], back);
    hub_expect(fd[0], back);
    hub_send(fd[0], forth);
    hub_expect(fd[1], forth);
    g_assert_cmpuint(port_count(qts, "q0", "tx-unicast"), ==, 1);
    g_assert_cmpuint(port_count(qts, "q1", "tx-unicast"), ==, 1);
    /* None gets its own back, and the third is on its own. */
    g_assert(!readable(fd[0], 0));
    g_assert(!readable(fd[1], 0));
    station_frame(third, NULL, alone);
    hub_expect(fd[2], alone);
    g_assert_cmpuint(port_count(qts, "q2", "rx-frames"), ==, 1);

    for (i = 0; i < 3; i++) {
        g_autofree char *id = g_strdup_printf("q%d", i);

        assert_books(qts, id);
        close(fd[i]);
    }
    qtest_quit(qts);
    station_free(third);
    fabric_free(fabric);
}

static bool has_ipv6_loopback(void)
{
    struct sockaddr_in6 addr = {
        .sin6_family = AF_INET6,
        .sin6_addr = IN6ADDR_LOOPBACK_INIT,
    };
    int fd = qemu_socket(AF_INET6, SOCK_DGRAM, 0);
    bool has = fd >= 0 && !bind(fd, (struct sockaddr *)&addr, sizeof(addr));

    if (fd >= 0) {
        close(fd);
    }
    return has;
}

/* An IPv6 group needs an interface, and the loopback is none for it. */
static void test_no_interface(void)
{
    g_autofree char *args = NULL;
    g_autofree char *network = NULL;
    g_autofree Frame *frame = make_frame(mac_all, mac_guest, 1, 60);
    QTestState *qts;
    QDict *port;
    int sv[2];

    if (!has_ipv6_loopback()) {
        g_test_skip("this machine has no IPv6");
        return;
    }
    g_assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
    qemu_set_cloexec(sv[0]);
    qts = qtest_initf("-M none -nodefaults -netdev qdes,id=q0,localaddr=::1,"
                      "iface=lo,mcast=[ff15::5144]:20805 "
                      "-netdev hubport,id=h0,hubid=0,netdev=q0 "
                      "-netdev socket,id=s0,fd=%d "
                      "-netdev hubport,id=h1,hubid=0,netdev=s0 ", sv[1]);
    close(sv[1]);
    port = port_status(qts, "q0");
    assert_option(port, "group", "[ff15::5144]:20805");
    assert_option(port, "iface", "");
    qobject_unref(port);
    network = qtest_hmp(qts, "info network");
    g_assert(strstr(network, "no interface"));

    hub_send(sv[0], frame);
    WAIT_FOR(port_count(qts, "q0", "tx-drop-no-group") == 1);
    assert_books(qts, "q0");
    qtest_quit(qts);
    close(sv[0]);
}

static void test_filter_dump(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree char *dir = g_dir_make_tmp("qdes-test-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(dir, "dump.pcap", NULL);
    g_autofree char *filter = g_strdup_printf(
        "-object filter-dump,id=f0,netdev=q0,file=%s", file);
    Hub hub = hub_start(fabric, 7, "", filter);
    g_autofree Frame *out = make_frame(mac_all, mac_guest, 1, 100);
    g_autofree Frame *in = make_frame(mac_guest, mac_a, 2, 200);
    g_autofree char *dump = NULL;
    gsize size;

    hub_send(hub.fd, out);
    station_expect(a, a->group_fd, out);
    station_frame(a, NULL, in);
    hub_expect(hub.fd, in);
    hub_stop(&hub);

    g_assert(g_file_get_contents(file, &dump, &size, NULL));
    g_assert(memmem(dump, size, out->data, out->size));
    g_assert(memmem(dump, size, in->data, in->size));
    unlink(file);
    rmdir(dir);
    station_free(a);
    fabric_free(fabric);
}

/* --- Frames that have to wait ------------------------------------------- */

#define BURST 100               /* frames: less than a socket's buffer */

static void send_burst(Station *st, uint32_t first)
{
    uint32_t i;

    for (i = 0; i < BURST; i++) {
        g_autofree Frame *frame = make_frame(mac_guest, mac_a, first + i, 100);

        station_frame(st, NULL, frame);
    }
}

/* Milliseconds of processor time that the process in @pidfile has used. */
static int64_t cpu_ms(const char *pidfile)
{
    g_autofree char *pid = NULL;
    g_autofree char *path = NULL;
    g_autofree char *stat = NULL;
    unsigned long utime, stime;

    g_assert(g_file_get_contents(pidfile, &pid, NULL, NULL));
    path = g_strdup_printf("/proc/%d/stat", atoi(pid));
    if (!g_file_get_contents(path, &stat, NULL, NULL)) {
        return 0;               /* no Linux */
    }
    g_assert(sscanf(strrchr(stat, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u "
                    "%*u %*u %*u %lu %lu", &utime, &stime) == 2);
    return (utime + stime) * 1000 / sysconf(_SC_CLK_TCK);
}

/*
 * The user network on a hub answers at once: the answer is back at the port
 * before the delivery of the question has ended.
 */
static void test_answer_at_once(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree Datagram *dg = g_new(Datagram, 1);
    g_autofree Frame *question = g_new0(Frame, 1);
    uint8_t *arp = question->data + 14;
    QTestState *qts = qtest_initf(
        "-M none -nodefaults "
        "-netdev qdes,id=q0,localaddr=127.0.0.1,mcast=%s,netid=7 "
        "-netdev hubport,id=h0,hubid=0,netdev=q0 "
        "-netdev user,id=u0,restrict=on,ipv6=off "
        "-netdev hubport,id=h1,hubid=0,netdev=u0", fabric->mcast);
    int i;

    /* Who has 10.0.2.2, tell 10.0.2.15 */
    question->size = 42;
    memcpy(question->data, mac_all, 6);
    memcpy(question->data + 6, mac_a, 6);
    stw_be_p(question->data + 12, 0x0806);
    memcpy(arp, "\0\1\x08\0\6\4\0\1", 8);
    memcpy(arp + 8, mac_a, 6);
    memcpy(arp + 14, "\x0a\0\2\x0f\0\0\0\0\0\0\x0a\0\2\2", 14);

    for (i = 0; i < BURST; i++) {
        station_frame(a, NULL, question);
    }
    for (i = 0; i < BURST; i++) {
        station_wait(a, a->fd, DATA, dg);
        g_assert_cmpuint(dg->size, >=, 42);
        g_assert_cmpmem(dg->payload, 6, mac_a, 6);
        g_assert_cmphex(lduw_be_p(dg->payload + 12), ==, 0x0806);
        g_assert_cmphex(lduw_be_p(dg->payload + 20), ==, 2); /* a reply */
    }
    assert_books(qts, "q0");
    qtest_quit(qts);
    station_free(a);
    fabric_free(fabric);
}

/*
 * A stopped VM takes nothing: what comes waits in the kernel, QEMU neither
 * reads it nor spins, and afterwards all is there, in order.
 */
static void test_stopped(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree char *dir = g_dir_make_tmp("qdes-test-XXXXXX", NULL);
    g_autofree char *pidfile = g_build_filename(dir, "pid", NULL);
    g_autofree char *more = g_strdup_printf("-pidfile %s", pidfile);
    Hub hub = hub_start(fabric, 7, "", more);
    int64_t busy;
    int round, i;

    for (round = 0; round < 2; round++) {
        QMP(hub.qts, "{ 'execute': 'stop' }");
        send_burst(a, round * BURST);
        WAIT_FOR(port_flag(hub.qts, "q0", "paused"));
        g_assert_cmpuint(port_count(hub.qts, "q0", "rx-frames"), ==,
                         round * BURST + 1);

        busy = cpu_ms(pidfile);
        g_usleep(500 * 1000);
        g_assert_cmpint(cpu_ms(pidfile) - busy, <, 100);
        g_assert(port_flag(hub.qts, "q0", "paused"));
        g_assert(!readable(hub.fd, 0));

        QMP(hub.qts, "{ 'execute': 'cont' }");
        for (i = 0; i < BURST; i++) {
            g_autofree Frame *frame = make_frame(mac_guest, mac_a,
                                                 round * BURST + i, 100);

            hub_expect(hub.fd, frame);
        }
        g_assert(!port_flag(hub.qts, "q0", "paused"));
    }
    hub_stop(&hub);
    unlink(pidfile);
    rmdir(dir);
    station_free(a);
    fabric_free(fabric);
}

/* The same for a guest that gives its NIC too few buffers. */
static void test_no_buffers(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    QTestState *qts;
    Nic *nic;
    int i;

    if (!has_pc_and("virtio-net-pci")) {
        goto out;
    }
    qts = pc_start(fabric, 7, "", "virtio-net-pci", "");
    nic = nic_new(qts);
    nic_drive(nic, NIC_PLAIN);
    nic_add_buffers(nic, 4);
    send_burst(a, 0);
    WAIT_FOR(port_flag(qts, "q0", "paused"));
    g_assert_cmpuint(port_count(qts, "q0", "rx-frames"), ==, 5);
    for (i = 0; i < BURST; i++) {
        g_autofree Frame *frame = make_frame(mac_guest, mac_a, i, 100);

        nic_expect(nic, frame);
        nic_add_buffers(nic, 1);
    }
    WAIT_FOR(!port_flag(qts, "q0", "paused"));
    assert_books(qts, "q0");
    nic_free(nic);
    qtest_quit(qts);
out:
    station_free(a);
    fabric_free(fabric);
}

/*
 * A NIC that its guest does not drive takes nothing: some models have the
 * port wait until they are driven or pulled out, one drops what comes.
 */
static void test_undriven(const void *data)
{
    const char *model = data;
    bool waits = !g_str_equal(model, "rtl8139");
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree Frame *frame = make_frame(mac_guest, mac_a, 1, 60);
    QTestState *qts;

    if (!has_pc_and(model)) {
        goto out;
    }
    qts = pc_start(fabric, 7, "", model, "");
    station_frame(a, NULL, frame);
    station_frame(a, NULL, frame);
    if (waits) {
        WAIT_FOR(port_flag(qts, "q0", "paused"));
        g_assert_cmpuint(port_count(qts, "q0", "rx-frames"), ==, 1);
        g_assert_cmpuint(port_count(qts, "q0", "rx-drop-port"), ==, 0);
    } else {
        WAIT_FOR(port_count(qts, "q0", "rx-drop-port") == 2);
    }

    /* Without a NIC, there is nothing to wait for. */
    qpci_unplug_acpi_device_test(qts, "n0", NIC_SLOT);
    WAIT_FOR(!port_flag(qts, "q0", "paused"));
    station_frame(a, NULL, frame);
    WAIT_FOR(port_count(qts, "q0", "rx-drop-port") == (waits ? 2 : 3));

    /* And the next one is as the first. */
    qtest_qmp_device_add(qts, model, "n1", "{ 'netdev': 'q0', 'addr': %s }",
                         stringify(NIC_SLOT));
    station_frame(a, NULL, frame);
    if (waits) {
        WAIT_FOR(port_flag(qts, "q0", "paused"));
    } else {
        WAIT_FOR(port_count(qts, "q0", "rx-drop-port") == 4);
    }
    assert_books(qts, "q0");
    qtest_quit(qts);
out:
    station_free(a);
    fabric_free(fabric);
}

/* --- Changes at run time ------------------------------------------------ */

static void set_link(QTestState *qts, const char *name, bool up)
{
    QMP(qts, "{ 'execute': 'set_link', 'arguments': { 'name': %s, "
        "'up': %i } }", name, up);
}

static void test_link(void)
{
    static const char *const names[] = { "q0", "n0" };
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree Frame *in = make_frame(mac_guest, mac_a, 1, 60);
    g_autofree Frame *out = make_frame(mac_all, mac_guest, 2, 60);
    g_autofree Frame *lost = make_frame(mac_all, mac_guest, 3, 60);
    g_autofree Datagram *dg = g_new(Datagram, 1);
    uint64_t dropped = 0;
    QTestState *qts;
    Nic *nic;
    int i;

    if (!has_pc_and("virtio-net-pci")) {
        goto out;
    }
    qts = pc_start(fabric, 7, "", "virtio-net-pci", "");
    nic = nic_new(qts);
    nic_drive(nic, NIC_PLAIN);
    nic_add_buffers(nic, 16);
    station_wait(a, a->group_fd, HELLO, dg);

    for (i = 0; i < ARRAY_SIZE(names); i++) {
        set_link(qts, names[i], false);
        g_assert(!port_flag(qts, "q0", "link-up"));
        station_wait(a, a->group_fd, BYE, dg);
        station_frame(a, NULL, in);
        dropped++;
        WAIT_FOR(port_count(qts, "q0", "rx-drop-link") == dropped);
        nic_send(nic, lost);

        set_link(qts, names[i], true);
        g_assert(port_flag(qts, "q0", "link-up"));
        station_wait(a, a->group_fd, HELLO, dg);
        station_frame(a, NULL, in);
        nic_expect(nic, in);
        nic_send(nic, out);
        station_expect(a, a->group_fd, out);
    }

    /* The netdev takes the NIC along, whatever was before. */
    set_link(qts, "n0", false);
    station_wait(a, a->group_fd, BYE, dg);
    set_link(qts, "q0", true);
    g_assert(port_flag(qts, "q0", "link-up"));
    station_wait(a, a->group_fd, HELLO, dg);
    nic_send(nic, out);
    station_expect(a, a->group_fd, out);

    /* A NIC that is down, pulled, and replaced by one that is up. */
    set_link(qts, "n0", false);
    station_wait(a, a->group_fd, BYE, dg);
    nic_undrive(nic);
    qpci_unplug_acpi_device_test(qts, "n0", NIC_SLOT);
    qtest_qmp_device_add(qts, "virtio-net-pci", "n1", "{ 'netdev': 'q0', "
                         "'addr': %s }", stringify(NIC_SLOT));
    nic_drive(nic, NIC_PLAIN);
    nic_send(nic, out);
    station_expect(a, a->group_fd, out);
    g_assert(port_flag(qts, "q0", "link-up"));

    assert_books(qts, "q0");
    nic_free(nic);
    qtest_quit(qts);
out:
    station_free(a);
    fabric_free(fabric);
}

/* Netdevs and NICs come and go while frames flow in both directions. */
static void test_hotplug(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree Frame *in = make_frame(mac_guest, mac_a, 1, 60);
    g_autofree Frame *out = make_frame(mac_all, mac_guest, 2, 60);
    g_autofree Datagram *dg = g_new(Datagram, 1);
    QTestState *qts;
    Nic *nic;
    int round;

    if (!has_pc_and("virtio-net-pci")) {
        goto out;
    }
    qts = qtest_init(PC_ARGS);
    nic = nic_new(qts);
    for (round = 0; round < 4; round++) {
        QMP(qts, "{ 'execute': 'netdev_add', 'arguments': { 'type': 'qdes', "
            "'id': 'q0', 'localaddr': '127.0.0.1', 'mcast': %s, 'netid': 7, "
            "'name': 'plugged' } }", fabric->mcast);
        station_wait(a, a->group_fd, HELLO, dg);
        g_assert_cmpstr(dg->name, ==, "plugged");
        send_burst(a, 0);
        qtest_qmp_device_add(qts, "virtio-net-pci", "n0", "{ 'netdev': 'q0', "
                             "'addr': %s, 'mac': '52:54:00:12:34:56' }",
                             stringify(NIC_SLOT));
        nic_drive(nic, NIC_PLAIN);
        /* With and without buffers for what comes. */
        nic_add_buffers(nic, round % 2 ? 200 : 4);
        send_burst(a, 0);
        nic_send(nic, out);
        station_expect(a, a->group_fd, out);

        send_burst(a, 0);
        QMP(qts, "{ 'execute': 'netdev_del', 'arguments': { 'id': 'q0' } }");
        g_assert_cmpint(count_ports(qts), ==, 0);
        send_burst(a, 0);
        /* Some QEMUs only let the port know when the next frame comes. */
        station_wait(a, a->group_fd, BYE, dg);

        /* The NIC goes on without. */
        set_link(qts, "n0", true);
        nic_send(nic, out);
        QMP(qts, "{ 'execute': 'stop' }");
        QMP(qts, "{ 'execute': 'cont' }");
        nic_send(nic, out);
        station_frame(a, NULL, in);
        nic_undrive(nic);
        qpci_unplug_acpi_device_test(qts, "n0", NIC_SLOT);
        g_assert(!station_read(a, a->group_fd, dg, 0));
    }
    nic_free(nic);
    qtest_quit(qts);
out:
    station_free(a);
    fabric_free(fabric);
}

/* A netdev is deleted while a frame from it waits at the hub. */
static void test_deleted_waiting(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    Hub hub = hub_start(fabric, 7, "", "");
    g_autofree Frame *frame = make_frame(mac_guest, mac_a, 1, 60);
    g_autofree Datagram *dg = g_new(Datagram, 1);

    QMP(hub.qts, "{ 'execute': 'stop' }");
    station_frame(a, NULL, frame);
    WAIT_FOR(port_flag(hub.qts, "q0", "paused"));
    QMP(hub.qts, "{ 'execute': 'netdev_del', 'arguments': { 'id': 'q0' } }");
    station_wait(a, a->group_fd, BYE, dg);
    /* Starting and stopping flushes all queues. */
    QMP(hub.qts, "{ 'execute': 'cont' }");
    QMP(hub.qts, "{ 'execute': 'stop' }");
    QMP(hub.qts, "{ 'execute': 'cont' }");
    g_assert_cmpint(count_ports(hub.qts), ==, 0);
    g_assert(!readable(hub.fd, 0));
    qtest_quit(hub.qts);
    close(hub.fd);
    station_free(a);
    fabric_free(fabric);
}

/*
 * A guest that arrives: its port joins, waits, and keeps what comes for it;
 * then the guest's address moves.
 */
static void test_migration(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree char *dir = g_dir_make_tmp("qdes-test-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "migrate", NULL);
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    g_autofree char *incoming = g_strdup_printf("-incoming %s", uri);
    g_autofree Frame *before = make_frame(mac_all, mac_guest, 1, 60);
    g_autofree Frame *in = make_frame(mac_guest, mac_a, 2, 60);
    g_autofree Frame *late = make_frame(mac_all, mac_a, 3, 60);
    g_autofree Frame *after = make_frame(mac_a, mac_guest, 4, 60);
    g_autofree Datagram *dg = g_new(Datagram, 1);
    struct sockaddr_in to_addr;
    QTestState *from, *to;
    Nic *nic;

    if (!has_pc_and("virtio-net-pci")) {
        goto out;
    }
    from = pc_start(fabric, 7, "", "virtio-net-pci", "");
    nic = nic_new(from);
    nic_drive(nic, NIC_PLAIN);
    nic_add_buffers(nic, 8);
    nic_send(nic, before);
    station_expect(a, a->group_fd, before);

    to = pc_start(fabric, 7, "", "virtio-net-pci", incoming);
    to_addr = port_endpoint(to, "q0");
    station_frame(a, NULL, late);
    nic_expect(nic, late);
    WAIT_FOR(port_flag(to, "q0", "paused"));

    QMP(from, "{ 'execute': 'migrate', 'arguments': { 'uri': %s } }", uri);
    qtest_qmp_eventwait(from, "STOP");
    qtest_qmp_eventwait(to, "RESUME");
    nic->qts = nic->bus->qts = to;

    /* The announcement comes by the new port, and the guest goes on there. */
    do {
        station_wait(a, a->group_fd, DATA, dg);
    } while (dg->from.sin_port != to_addr.sin_port);
    g_assert_cmpmem(dg->payload + 6, 6, mac_guest, 6);
    nic_expect(nic, late);
    WAIT_FOR(!port_flag(to, "q0", "paused"));
    station_frame(a, &to_addr, in);
    nic_expect(nic, in);
    nic_send(nic, after);
    station_expect(a, a->fd, after);
    assert_books(from, "q0");
    assert_books(to, "q0");

    nic_free(nic);
    qtest_quit(from);
    qtest_quit(to);
    unlink(path);
out:
    rmdir(dir);
    station_free(a);
    fabric_free(fabric);
}

/* --- Where MAC addresses are, storms, loops ----------------------------- */

static const struct {
    const char *command;        /* its name, and its arguments after "id" */
    const char *error;          /* what the message has to contain */
} bad_commands[] = {
    { "'qdes-fdb-add', 'arguments': { 'id': 'no', 'mac': 'x' } }",
      "id=no: there is no qdes netdev" },
    { "'qdes-fdb-add', 'arguments': { 'id': 'qh0', 'mac': 'x' } }",
      "id=qh0: there is no qdes netdev" },
    { "'qdes-fdb-del', 'arguments': { 'id': 'no', 'mac': 'x' } }",
      "id=no: there is no qdes netdev" },
    { "'qdes-fdb-flush', 'arguments': { 'id': 'no' } }",
      "id=no: there is no qdes netdev" },
    { "'qdes-fdb-add', 'arguments': { 'id': 'q0' } }", "mac" },
    { "'qdes-fdb-add', 'arguments': { 'id': 'q0', 'mac': 'x' } }",
      "mac=x: not a MAC address" },
    { "'qdes-fdb-add', 'arguments': { 'id': 'q0', 'mac': "
      "'02:00:00:00:00:01', 'peer': 'there' } }", "peer=there: " },
    { "'qdes-fdb-del', 'arguments': { 'id': 'q0', 'mac': "
      "'02:00:00:00:00:01' } }", "there is no such static entry" },
    { "'qdes-fdb-flush', 'arguments': { 'id': 'q0', 'mac': "
      "'02:00:00:00:00:01', 'peer': '127.0.0.1:1' } }", "one of the two" },
    { "'qdes-peer-add', 'arguments': { 'id': 'no', 'peer': '127.0.0.1' } }",
      "id=no: there is no qdes netdev" },
    { "'qdes-peer-del', 'arguments': { 'id': 'no', 'peer': '127.0.0.1' } }",
      "id=no: there is no qdes netdev" },
    { "'qdes-peer-add', 'arguments': { 'id': 'q0' } }", "peer" },
    { "'qdes-peer-add', 'arguments': { 'id': 'q0', 'peer': 'h:0' } }",
      "peer h:0: " },
    { "'qdes-peer-del', 'arguments': { 'id': 'q0', 'peer': '127.0.0.9' } }",
      "peer 127.0.0.9: not listed" },
};

static int flush(QTestState *qts, const char *arguments)
{
    QDict *response;
    int n;

    qtest_qmp_send_raw(qts, "{ \"execute\": \"qdes-fdb-flush\", "
                       "\"arguments\": { \"id\": \"q0\"%s } }", arguments);
    response = qtest_qmp_receive(qts);
    g_assert(qdict_haskey(response, "return"));
    n = qdict_get_int(qdict_get_qdict(response, "return"), "flushed");
    qobject_unref(response);
    return n;
}

static void test_fdb_commands(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    Station *b = station_new(fabric, 7, "b");
    g_autofree char *addr_b = station_endpoint(b);
    Hub hub = hub_start(fabric, 7, "", "");
    g_autofree Frame *from_a = make_frame(mac_all, mac_a, 1, 60);
    g_autofree Frame *from_b = make_frame(mac_all, mac_b, 2, 60);
    g_autofree Frame *to_a = make_frame(mac_a, mac_guest, 3, 60);
    QDict *port, *entry;
    int i;

    station_frame(b, NULL, from_b);
    hub_expect(hub.fd, from_b);

    /* A user's word is worth more than a's. */
    QMP(hub.qts, "{ 'execute': 'qdes-fdb-add', 'arguments': { 'id': 'q0', "
        "'mac': '02:00:00:00:00:0a', 'peer': %s } }", addr_b);
    station_frame(a, NULL, from_a);
    hub_expect(hub.fd, from_a);
    hub_send(hub.fd, to_a);
    station_expect(b, b->group_fd, from_a);
    station_expect(b, b->fd, to_a);
    port = port_status(hub.qts, "q0");
    entry = find_entry(port, "fdb", "mac", "02:00:00:00:00:0a");
    g_assert(entry);
    g_assert(qdict_get_bool(entry, "static"));
    g_assert(!qdict_get_bool(entry, "local"));
    assert_option(entry, "peer", addr_b);
    entry = find_entry(port, "fdb", "mac", "02:00:00:00:00:0b");
    g_assert(entry);
    g_assert(!qdict_get_bool(entry, "static"));
    g_assert(!qdict_haskey(port, "blocked-by-loop"));
    qobject_unref(port);

    /* What was learned: the addresses of b and the guest. */
    g_assert_cmpint(flush(hub.qts, ", \"mac\": \"02:00:00:00:00:0b\""), ==, 1);
    g_assert_cmpint(flush(hub.qts, ""), ==, 1);
    g_assert_cmpint(flush(hub.qts, ", \"static\": true"), ==, 1);
    QMP(hub.qts, "{ 'execute': 'qdes-fdb-add', 'arguments': { 'id': 'q0', "
        "'mac': '02:00:00:00:00:0a' } }");
    hub_send(hub.fd, to_a);
    WAIT_FOR(port_count(hub.qts, "q0", "tx-drop-local") == 1);
    QMP(hub.qts, "{ 'execute': 'qdes-fdb-del', 'arguments': { 'id': 'q0', "
        "'mac': '02:00:00:00:00:0a' } }");
    hub_send(hub.fd, to_a);
    station_expect(a, a->group_fd, from_b);
    station_expect(a, a->group_fd, to_a);

    for (i = 0; i < ARRAY_SIZE(bad_commands); i++) {
        g_autofree char *command = g_strdup_printf("{ 'execute': %s",
                                                   bad_commands[i].command);
        QDict *response;
        const char *desc;

        g_strdelimit(command, "'", '"');
        qtest_qmp_send_raw(hub.qts, "%s", command);
        response = qtest_qmp_receive(hub.qts);
        g_assert(qdict_haskey(response, "error"));
        desc = qdict_get_str(qdict_get_qdict(response, "error"), "desc");
        if (!strstr(desc, bad_commands[i].error)) {
            g_error("%s: %s", command, desc);
        }
        qobject_unref(response);
    }
    hub_stop(&hub);
    station_free(a);
    station_free(b);
    fabric_free(fabric);
}

static void test_storm_control(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    Hub hub = hub_start(fabric, 7, ",storm-control=2", "");
    int i;

    for (i = 0; i < 50; i++) {
        g_autofree Frame *out = make_frame(mac_all, mac_guest, i, 60);

        hub_send(hub.fd, out);
        if (i < 2) {
            station_expect(a, a->group_fd, out);
        }
    }
    WAIT_FOR(port_count(hub.qts, "q0", "tx-frames") == 50);
    g_assert_cmpuint(port_count(hub.qts, "q0", "tx-drop-storm"), >=, 1);
    hub_stop(&hub);
    station_free(a);
    fabric_free(fabric);
}

/* The guest's own address passes, another one of its does not, and a peer's
 * frame from the guest's own neither. */
static void test_port_security(void)
{
    static const uint8_t own_mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x5a };
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    Hub hub = hub_start(fabric, 7, ",mac.0=52-54-00-12-34-5A", "");
    g_autofree Frame *other = make_frame(mac_all, mac_guest, 1, 60);
    g_autofree Frame *own = make_frame(mac_all, own_mac, 2, 60);
    g_autofree Frame *from_a = make_frame(mac_all, mac_a, 3, 60);
    QDict *port, *security;
    QList *macs;

    hub_send(hub.fd, other);
    WAIT_FOR(port_count(hub.qts, "q0", "tx-drop-mac") == 1);
    hub_send(hub.fd, own);
    station_expect(a, a->group_fd, own);
    station_frame(a, NULL, own);
    station_frame(a, NULL, from_a);
    hub_expect(hub.fd, from_a);
    g_assert_cmpint(port_count(hub.qts, "q0", "rx-drop-spoofed"), ==, 1);

    port = port_status(hub.qts, "q0");
    g_assert_null(find_entry(port, "fdb", "mac", "52:54:00:12:34:56"));
    security = qdict_get_qdict(port, "port-security");
    g_assert_nonnull(security);
    macs = qdict_get_qlist(security, "mac");
    g_assert_cmpint(qlist_size(macs), ==, 1);
    g_assert_cmpstr(qstring_get_str(qobject_to(QString,
                                               qlist_peek(macs))), ==,
                    "52:54:00:12:34:5a");
    g_assert_cmpint(qdict_get_int(security, "max-local-macs"), ==, 1);
    g_assert_cmpint(qdict_get_int(security, "local-macs"), ==, 1);
    assert_option(security, "mac-violation", "drop");
    qobject_unref(port);
    assert_books(hub.qts, "q0");
    hub_stop(&hub);
    station_free(a);
    fabric_free(fabric);
}

static bool is_blocked(QTestState *qts, const char *id)
{
    QDict *port = port_status(qts, id);
    bool blocked = qdict_haskey(port, "blocked-by-loop");

    qobject_unref(port);
    return blocked;
}

/* Two ports on one hub, which is what a guest that bridges two NICs is. */
static void test_loop_guard(void)
{
    Fabric *fabric = fabric_new();
    Station *a = station_new(fabric, 7, "a");
    g_autofree char *second = g_strdup_printf(
        "-netdev qdes,id=q1,localaddr=127.0.0.1,mcast=%s,netid=7,"
        "loop-guard=on,name=second "
        "-netdev hubport,id=qh1,hubid=0,netdev=q1", fabric->mcast);
    Hub hub = hub_start(fabric, 7, ",loop-guard=on,name=first", second);
    g_autofree Frame *out = make_frame(mac_all, mac_guest, 1, 60);
    g_autofree Frame *in = make_frame(mac_guest, mac_a, 2, 60);
    g_autofree uint8_t *data = g_malloc(FRAME_MAX);
    const char *open, *shut;
    QDict *port;
    size_t size;

    WAIT_FOR(is_blocked(hub.qts, "q0") || is_blocked(hub.qts, "q1"));
    open = is_blocked(hub.qts, "q0") ? "q1" : "q0";
    shut = is_blocked(hub.qts, "q0") ? "q0" : "q1";
    g_assert(!is_blocked(hub.qts, open));
    port = port_status(hub.qts, shut);
    assert_option(port, "blocked-by-loop",
                  g_str_equal(open, "q0") ? "first" : "second");
    qobject_unref(port);

    /* Each frame passes once. */
    hub_send(hub.fd, out);
    station_expect(a, a->group_fd, out);
    WAIT_FOR(port_count(hub.qts, shut, "tx-drop-loop") == 1);
    g_assert_cmpuint(port_count(hub.qts, open, "tx-flooded"), ==, 1);
    station_frame(a, NULL, in);
    do {
        /* The guest's LAN sees probes as well. */
        size = hub_receive(hub.fd, data);
    } while (data[0] == 3 && size == 60);
    assert_frame(in, data, size);
    /* What the open one floods comes there, too. */
    WAIT_FOR(port_count(hub.qts, shut, "rx-drop-loop") == 2);
    g_assert_cmpuint(port_count(hub.qts, open, "rx-frames"), ==, 1);

    /* The other one takes over when it is alone. */
    assert_books(hub.qts, open);
    set_link(hub.qts, open, false);
    WAIT_FOR(!is_blocked(hub.qts, shut));
    assert_books(hub.qts, "q1");
    hub_stop(&hub);
    station_free(a);
    fabric_free(fabric);
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
    qtest_add_func("/qdes/frames/hub", test_frames_hub);
    qtest_add_func("/qdes/frames/limits", test_frame_limits);
    qtest_add_func("/qdes/frames/virtio", test_frames_virtio);
    qtest_add_func("/qdes/frames/learning", test_learning);
    qtest_add_func("/qdes/frames/no-learning", test_no_learning);
    qtest_add_func("/qdes/frames/unknown-unicast", test_unknown_unicast);
    qtest_add_func("/qdes/frames/netid", test_netid);
    qtest_add_func("/qdes/frames/malformed", test_malformed);
    qtest_add_func("/qdes/frames/several", test_several);
    qtest_add_func("/qdes/frames/no-interface", test_no_interface);
    qtest_add_func("/qdes/frames/filter-dump", test_filter_dump);
    if (has_netdev("user")) {
        qtest_add_func("/qdes/frames/answer-at-once", test_answer_at_once);
    }
    qtest_add_func("/qdes/wait/stopped", test_stopped);
    qtest_add_func("/qdes/wait/no-buffers", test_no_buffers);
    qtest_add_data_func("/qdes/wait/virtio-net-pci", "virtio-net-pci",
                        test_undriven);
    qtest_add_data_func("/qdes/wait/e1000", "e1000", test_undriven);
    qtest_add_data_func("/qdes/wait/rtl8139", "rtl8139", test_undriven);
    qtest_add_func("/qdes/run-time/link", test_link);
    qtest_add_func("/qdes/run-time/hotplug", test_hotplug);
    qtest_add_func("/qdes/run-time/deleted-waiting", test_deleted_waiting);
    qtest_add_func("/qdes/run-time/migration", test_migration);
    qtest_add_func("/qdes/fdb-commands", test_fdb_commands);
    qtest_add_func("/qdes/storm-control", test_storm_control);
    qtest_add_func("/qdes/port-security", test_port_security);
    qtest_add_func("/qdes/loop-guard", test_loop_guard);
    qtest_add_func("/qdes/status", test_status);

    return g_test_run();
}
