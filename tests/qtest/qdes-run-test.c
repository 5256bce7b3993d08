/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QTest of -netdev qdes: frames that have to wait, and changes at run time */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qdes-lib.h"

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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

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

    return g_test_run();
}
