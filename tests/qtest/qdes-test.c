/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest of -netdev qdes: frames, and where MAC addresses are
 *
 * Its options and status, what happens while it runs, its offloads and sealed
 * fabrics have tests of their own, the other qdes-*-test.c.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qemu/sockets.h"
#include "qdes-lib.h"

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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

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
    qtest_add_func("/qdes/fdb-commands", test_fdb_commands);
    qtest_add_func("/qdes/storm-control", test_storm_control);
    qtest_add_func("/qdes/port-security", test_port_security);
    qtest_add_func("/qdes/loop-guard", test_loop_guard);

    return g_test_run();
}
