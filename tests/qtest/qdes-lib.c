/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the qtests of -netdev qdes share, see qdes-lib.h
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qemu/sockets.h"
#include "qdes-lib.h"

const uint8_t mac_all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
const uint8_t mac_guest[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
const uint8_t mac_a[6] = { 0x02, 0, 0, 0, 0, 0x0a };
const uint8_t mac_b[6] = { 0x02, 0, 0, 0, 0, 0x0b };

int64_t now_ms(void)
{
    return g_get_monotonic_time() / 1000;
}

bool readable(int fd, int ms)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };

    return poll(&pfd, 1, ms) == 1;
}

/* --- Frames ------------------------------------------------------------- */

Frame *make_frame(const uint8_t *dst, const uint8_t *src, uint32_t serial,
                  size_t size)
{
    Frame *frame = g_new0(Frame, 1);
    size_t i;

    g_assert(size >= 18 && size <= sizeof(frame->data));
    memcpy(frame->data, dst, 6);
    memcpy(frame->data + 6, src, 6);
    stw_be_p(frame->data + 12, ETHERTYPE);
    stl_be_p(frame->data + 14, serial);
    for (i = 18; i < size; i++) {
        frame->data[i] = serial + i;
    }
    frame->size = size;
    return frame;
}

void assert_frame(const Frame *frame, const void *data, size_t size)
{
    g_assert_cmpmem(data, size, frame->data, frame->size);
}

/* --- A fabric ----------------------------------------------------------- */

Fabric *fabric_new(void)
{
    Fabric *fabric = g_new0(Fabric, 1);
    uint32_t host = 0xefc00000 | g_random_int_range(1, 0xffff);
    uint16_t port = g_random_int_range(10000, 30000);

    fabric->group.sin_family = AF_INET;
    fabric->group.sin_addr.s_addr = htonl(host);
    fabric->group.sin_port = htons(port);
    fabric->mcast = g_strdup_printf("%s:%d",
                                    inet_ntoa(fabric->group.sin_addr), port);
    return fabric;
}

void fabric_free(Fabric *fabric)
{
    g_free(fabric->mcast);
    g_free(fabric);
}

/* --- A station: the other end of the wire ------------------------------- */

Station *station_new(const Fabric *fabric, uint32_t netid,
                            const char *name)
{
    Station *st = g_new0(Station, 1);
    struct in_addr lo = { .s_addr = htonl(INADDR_LOOPBACK) };
    struct ip_mreq mreq = {
        .imr_multiaddr = fabric->group.sin_addr,
        .imr_interface = lo,
    };
    socklen_t len = sizeof(st->addr);
    int size = 1 << 20;
    int one = 1;

    st->name = name;
    st->netid = netid;
    st->instance = ((uint64_t)g_random_int() << 32) | g_random_int() | 1;
    st->group = fabric->group;

    st->group_fd = qemu_socket(AF_INET, SOCK_DGRAM, 0);
    g_assert_cmpint(st->group_fd, >=, 0);
    g_assert(!setsockopt(st->group_fd, SOL_SOCKET, SO_REUSEADDR, &one,
                         sizeof(one)));
    g_assert(!setsockopt(st->group_fd, SOL_SOCKET, SO_RCVBUF, &size,
                         sizeof(size)));
    g_assert(!bind(st->group_fd, (struct sockaddr *)&st->group,
                   sizeof(st->group)));
    g_assert(!setsockopt(st->group_fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mreq,
                         sizeof(mreq)));

    st->fd = qemu_socket(AF_INET, SOCK_DGRAM, 0);
    g_assert_cmpint(st->fd, >=, 0);
    st->addr.sin_family = AF_INET;
    st->addr.sin_addr = lo;
    g_assert(!bind(st->fd, (struct sockaddr *)&st->addr, sizeof(st->addr)));
    g_assert(!getsockname(st->fd, (struct sockaddr *)&st->addr, &len));
    g_assert(!setsockopt(st->fd, IPPROTO_IP, IP_MULTICAST_IF, &lo,
                         sizeof(lo)));
    return st;
}

void station_free(Station *st)
{
    close(st->group_fd);
    close(st->fd);
    g_free(st);
}

char *station_endpoint(const Station *st)
{
    return g_strdup_printf("127.0.0.1:%d", ntohs(st->addr.sin_port));
}

void station_send(Station *st, const struct sockaddr_in *to,
                  const void *data, size_t size)
{
    ssize_t ret = sendto(st->fd, data, size, 0,
                         (const struct sockaddr *)(to ?: &st->group),
                         sizeof(*to));

    g_assert_cmpint(ret, ==, size);
}

static size_t put_header(const Station *st, uint8_t *p, int type)
{
    stw_be_p(p, 0x5144);
    p[2] = 0x10 | type;
    p[3] = 0;
    stl_be_p(p + 4, st->netid);
    return HEADER_SIZE;
}

void station_frame(Station *st, const struct sockaddr_in *to,
                   const Frame *frame)
{
    g_autofree uint8_t *buf = g_malloc(HEADER_SIZE + frame->size);

    put_header(st, buf, DATA);
    memcpy(buf + HEADER_SIZE, frame->data, frame->size);
    station_send(st, to, buf, HEADER_SIZE + frame->size);
}

void station_superframe(Station *st, const struct sockaddr_in *to,
                        const Frame *frame, uint16_t segment_size)
{
    g_autofree uint8_t *buf = g_malloc(HEADER_SIZE + 2 + frame->size);

    put_header(st, buf, DATA);
    buf[3] = FLAG_CSUM_PARTIAL | FLAG_SUPERFRAME;
    stw_be_p(buf + HEADER_SIZE, segment_size);
    memcpy(buf + HEADER_SIZE + 2, frame->data, frame->size);
    station_send(st, to, buf, HEADER_SIZE + 2 + frame->size);
}

void station_control(Station *st, const struct sockaddr_in *to, int type)
{
    uint8_t buf[HELLO_SIZE] = { 0 };
    size_t n = put_header(st, buf, type);
    size_t len = strlen(st->name);

    stw_be_p(buf + n, TLV_INSTANCE);
    stw_be_p(buf + n + 2, 8);
    stq_be_p(buf + n + 4, st->instance);
    n += 12;
    if (type == HELLO) {
        if (st->capabilities) {
            stw_be_p(buf + n, TLV_CAPABILITIES);
            stw_be_p(buf + n + 2, 4);
            stl_be_p(buf + n + 4, st->capabilities);
            n += 8;
        }
        stw_be_p(buf + n, TLV_MTU);
        stw_be_p(buf + n + 2, 4);
        stl_be_p(buf + n + 4, FRAME_MAX);
        n += 8;
        stw_be_p(buf + n, TLV_NAME);
        stw_be_p(buf + n + 2, len);
        memcpy(buf + n + 4, st->name, len);
        n += 4 + len;
        /* A port answers with no more than it got. */
        stw_be_p(buf + n, TLV_PADDING);
        stw_be_p(buf + n + 2, sizeof(buf) - n - 4);
        n = sizeof(buf);
    }
    station_send(st, to, buf, n);
}

/* Prove to be who the sender of the ECHO in @dg takes us for. */
static void answer_echo(Station *st, const Datagram *dg)
{
    uint8_t buf[HEADER_SIZE + 12 + 22] = { 0 };
    uint8_t *p = buf + put_header(st, buf, ECHO_REPLY);

    /* NONCE comes first. */
    memcpy(p, dg->buf + HEADER_SIZE, 12);
    p += 12;
    stw_be_p(p, TLV_OBSERVED);
    stw_be_p(p + 2, 18);
    memset(p + 14, 0xff, 2);
    memcpy(p + 16, &dg->from.sin_addr, 4);
    memcpy(p + 20, &dg->from.sin_port, 2);
    station_send(st, &dg->from, buf, sizeof(buf));
}

static void parse_tlvs(Datagram *dg)
{
    const uint8_t *p = dg->payload;
    size_t left = dg->size;

    dg->instance = 0;
    dg->name[0] = '\0';
    while (left) {
        size_t len;

        g_assert_cmpuint(left, >=, 4);
        len = lduw_be_p(p + 2);
        g_assert_cmpuint(len, <=, left - 4);
        if (lduw_be_p(p) == TLV_INSTANCE) {
            g_assert_cmpuint(len, ==, 8);
            dg->instance = ldq_be_p(p + 4);
        } else if (lduw_be_p(p) == TLV_NAME) {
            g_assert_cmpuint(len, >=, 1);
            g_assert_cmpuint(len, <=, 63);
            memcpy(dg->name, p + 4, len);
            dg->name[len] = '\0';
        }
        p += 4 + len;
        left -= 4 + len;
    }
    g_assert_cmpuint(dg->instance, !=, 0);
}

bool station_read(Station *st, int fd, Datagram *dg, int ms)
{
    int64_t end = now_ms() + ms;
    int allowed = (st->capabilities & CAP_CSUM_PARTIAL ? FLAG_CSUM_PARTIAL
                                                       : 0) |
                  (st->capabilities & CAP_SUPERFRAME ? FLAG_SUPERFRAME : 0);

    while (readable(fd, MAX(end - now_ms(), 0))) {
        socklen_t len = sizeof(dg->from);
        ssize_t size = recvfrom(fd, dg->buf, sizeof(dg->buf), 0,
                                (struct sockaddr *)&dg->from, &len);

        g_assert_cmpint(size, >=, HEADER_SIZE);
        g_assert_cmphex(lduw_be_p(dg->buf), ==, 0x5144);
        g_assert_cmphex(dg->buf[2] >> 4, ==, 1);
        g_assert_cmphex(dg->buf[3] & ~allowed, ==, 0);
        if (ldl_be_p(dg->buf + 4) != st->netid ||
            dg->from.sin_port == st->addr.sin_port) {
            continue;
        }
        dg->type = dg->buf[2] & 0xf;
        dg->flags = dg->buf[3];
        if (dg->type == ECHO) {
            answer_echo(st, dg);
        }
        if (dg->type > BYE) {
            g_assert_cmpint(dg->type, <=, PEERS);
            continue;
        }
        dg->payload = dg->buf + HEADER_SIZE;
        dg->size = size - HEADER_SIZE;
        dg->segment_size = 0;
        if (dg->flags & FLAG_SUPERFRAME) {
            dg->segment_size = lduw_be_p(dg->payload);
            dg->payload += 2;
            dg->size -= 2;
        }
        if (dg->type != DATA) {
            g_assert_cmphex(dg->flags, ==, 0);
            parse_tlvs(dg);
        }
        return true;
    }
    return false;
}

void station_wait(Station *st, int fd, int type, Datagram *dg)
{
    int64_t end = now_ms() + WAIT_MS;

    do {
        if (!station_read(st, fd, dg, end - now_ms())) {
            g_error("%s waited in vain for type %d", st->name, type);
        }
    } while (dg->type != type);
}

void station_expect(Station *st, int fd, const Frame *frame)
{
    g_autofree Datagram *dg = g_new(Datagram, 1);

    station_wait(st, fd, DATA, dg);
    assert_frame(frame, dg->payload, dg->size);
}

/* --- QEMU --------------------------------------------------------------- */

QDict *qmp_ok(QTestState *qts, const char *fmt, ...)
{
    QDict *response;
    va_list ap;

    va_start(ap, fmt);
    response = qtest_vqmp(qts, fmt, ap);
    va_end(ap);
    if (qdict_haskey(response, "error")) {
        g_error("%s: %s", fmt,
                qdict_get_str(qdict_get_qdict(response, "error"), "desc"));
    }
    return response;
}

void qmp_refused(QTestState *qts, const char *command, const char *error)
{
    g_autofree char *json = g_strdelimit(g_strdup(command), "'", '"');
    QDict *response;
    const char *desc;

    qtest_qmp_send_raw(qts, "%s", json);
    response = qtest_qmp_receive(qts);
    if (!qdict_haskey(response, "error")) {
        g_error("%s was accepted", command);
    }
    desc = qdict_get_str(qdict_get_qdict(response, "error"), "desc");
    if (!strstr(desc, error)) {
        g_error("%s: %s, not %s", command, desc, error);
    }
    qobject_unref(response);
}

void set_link(QTestState *qts, const char *name, bool up)
{
    QMP(qts, "{ 'execute': 'set_link', 'arguments': { 'name': %s, "
        "'up': %i } }", name, up);
}

int count_ports(QTestState *qts)
{
    QDict *response = qmp_ok(qts, "{ 'execute': 'query-qdes' }");
    int n = qlist_size(qdict_get_qlist(response, "return"));

    qobject_unref(response);
    return n;
}

QDict *port_status(QTestState *qts, const char *id)
{
    QDict *response = qmp_ok(qts, "{ 'execute': 'query-qdes' }");
    QDict *found = NULL;
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(response, "return"), entry) {
        QDict *port = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(port, "id"), id)) {
            g_assert(!found);
            found = port;
        }
    }
    g_assert(found);
    qobject_ref(found);
    qobject_unref(response);
    return found;
}

uint64_t port_count(QTestState *qts, const char *id, const char *name)
{
    QDict *port = port_status(qts, id);
    QDict *counters = qdict_get_qdict(port, "counters");
    uint64_t value;

    g_assert(qdict_haskey(counters, name));
    value = qdict_get_int(counters, name);
    qobject_unref(port);
    return value;
}

bool port_flag(QTestState *qts, const char *id, const char *name)
{
    QDict *port = port_status(qts, id);
    bool value = qdict_get_bool(port, name);

    qobject_unref(port);
    return value;
}

struct sockaddr_in port_endpoint(QTestState *qts, const char *id)
{
    struct sockaddr_in addr = { .sin_family = AF_INET };
    QDict *port = port_status(qts, id);
    g_auto(GStrv) parts = g_strsplit(qdict_get_str(port, "local"), ":", 2);

    g_assert(inet_aton(parts[0], &addr.sin_addr));
    addr.sin_port = htons(atoi(parts[1]));
    qobject_unref(port);
    return addr;
}

QDict *find_entry(QDict *port, const char *list, const char *key,
                         const char *value)
{
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(port, list), entry) {
        QDict *dict = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(dict, key), value)) {
            return dict;
        }
    }
    return NULL;
}

int port_peers(QTestState *qts, const char *id)
{
    QDict *port = port_status(qts, id);
    int n = qlist_size(qdict_get_qlist(port, "peers"));

    qobject_unref(port);
    return n;
}

void assert_option(QDict *port, const char *key, const char *value)
{
    g_assert_cmpstr(qdict_get_str(port, key), ==, value);
}

void assert_books(QTestState *qts, const char *id)
{
    QDict *port = port_status(qts, id);
    QDict *counters = qdict_get_qdict(port, "counters");
    uint64_t tx = 0, rx = 0;
    const QDictEntry *e;

    for (e = qdict_first(counters); e; e = qdict_next(counters, e)) {
        const char *name = qdict_entry_key(e);
        uint64_t value = qdict_get_int(counters, name);

        if (g_str_has_prefix(name, "tx-drop-") ||
            g_str_equal(name, "tx-unicast") ||
            g_str_equal(name, "tx-flooded")) {
            tx += value;
        }
        if ((g_str_has_prefix(name, "rx-drop-") &&
             !g_str_equal(name, "rx-drop-kernel")) ||
            g_str_equal(name, "rx-frames") ||
            g_str_equal(name, "rx-hello") ||
            g_str_equal(name, "rx-bye") ||
            g_str_equal(name, "rx-echo") ||
            g_str_equal(name, "rx-echo-reply") ||
            g_str_equal(name, "rx-peers") ||
            g_str_equal(name, "rx-challenge") ||
            g_str_equal(name, "rx-response")) {
            rx += value;
        }
    }
    g_assert_cmpuint(qdict_get_int(counters, "tx-frames"), ==, tx);
    g_assert_cmpuint(qdict_get_int(counters, "rx-datagrams"), ==, rx);
    qobject_unref(port);
}

char *run_qemu(const char *args, int *status)
{
    g_autofree char *command = g_strdup_printf(
        "timeout 60 %s %s 2>&1 | grep -v '==WARNING: ASan'; "
        "exit ${PIPESTATUS[0]}", getenv("QTEST_QEMU_BINARY"), args);
    const char *argv[] = { "/bin/bash", "-c", command, NULL };
    g_autoptr(GError) err = NULL;
    char *output;

    if (!g_spawn_sync(NULL, (char **)argv, NULL, 0, NULL, NULL, &output,
                      NULL, status, &err)) {
        g_error("%s", err->message);
    }
    return output;
}

void assert_bad_qmp(QTestState *qts, const BadOption *bad, int n)
{
    int i;

    for (i = 0; i < n; i++) {
        g_autofree char *command = g_strdup_printf(
            "{ 'execute': 'netdev_add', 'arguments': { 'type': 'qdes', "
            "'id': 'q0', %s } }", bad[i].json);

        qmp_refused(qts, command, bad[i].error);
        g_assert_cmpint(count_ports(qts), ==, 0);
    }
}

void assert_bad_cli(const char *args, const BadOption *bad, int n,
                    const char *secret)
{
    int i;

    for (i = 0; i < n; i++) {
        g_autofree char *all = g_strdup_printf(
            "-M none -display none -nodefaults %s -netdev qdes,id=q0,%s",
            args, bad[i].keys);
        g_autofree char *output = NULL;
        int status;

        output = run_qemu(all, &status);
        g_assert(WIFEXITED(status));
        g_assert_cmpint(WEXITSTATUS(status), ==, 1);
        if (!strstr(output, bad[i].error) ||
            strchr(output, '\n') != output + strlen(output) - 1) {
            g_error("%s: %s", bad[i].keys, output);
        }
        g_assert(!secret || !strstr(output, secret));
    }
}

/* --- The guest's end: a hub --------------------------------------------- */

char *hub_args(int n, const Fabric *fabric, uint32_t netid,
               const char *options, int *fd, int *their_fd)
{
    int sv[2];

    g_assert(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
    qemu_set_cloexec(sv[0]);
    *fd = sv[0];
    *their_fd = sv[1];
    return g_strdup_printf(
        "-netdev qdes,id=q%d,localaddr=127.0.0.1,mcast=%s,netid=%u%s "
        "-netdev hubport,id=qh%d,hubid=%d,netdev=q%d "
        "-netdev socket,id=s%d,fd=%d "
        "-netdev hubport,id=sh%d,hubid=%d,netdev=s%d ",
        n, fabric->mcast, netid, options, n, n, n, n, sv[1], n, n, n);
}

Hub hub_start(const Fabric *fabric, uint32_t netid,
                     const char *options, const char *more)
{
    Hub hub;
    int their_fd;
    g_autofree char *args = hub_args(0, fabric, netid, options, &hub.fd,
                                     &their_fd);

    hub.qts = qtest_initf("-M none -nodefaults %s %s", args, more);
    close(their_fd);
    return hub;
}

void hub_stop(Hub *hub)
{
    assert_books(hub->qts, "q0");
    qtest_quit(hub->qts);
    close(hub->fd);
}

void hub_send(int fd, const Frame *frame)
{
    g_autofree uint8_t *buf = g_malloc(4 + frame->size);

    stl_be_p(buf, frame->size);
    memcpy(buf + 4, frame->data, frame->size);
    g_assert_cmpint(qemu_write_full(fd, buf, 4 + frame->size), ==,
                    4 + frame->size);
}

static void hub_read(int fd, void *data, size_t size)
{
    uint8_t *p = data;

    while (size) {
        ssize_t ret;

        g_assert(readable(fd, WAIT_MS));
        ret = read(fd, p, size);
        g_assert_cmpint(ret, >, 0);
        p += ret;
        size -= ret;
    }
}

size_t hub_receive(int fd, uint8_t *data)
{
    uint8_t len[4];
    size_t size;

    hub_read(fd, len, sizeof(len));
    size = ldl_be_p(len);
    g_assert_cmpuint(size, <=, FRAME_MAX);
    hub_read(fd, data, size);
    return size;
}

void hub_expect(int fd, const Frame *frame)
{
    g_autofree uint8_t *data = g_malloc(FRAME_MAX);
    size_t size = hub_receive(fd, data);

    assert_frame(frame, data, size);
}

/* --- The guest's end: a virtio-net driver ------------------------------- */

bool has_netdev(const char *type)
{
    g_autofree char *line = g_strdup_printf("\n%s\n", type);
    g_autofree char *list = NULL;
    int status;

    list = run_qemu("-M none -netdev help", &status);
    return strstr(list, line);
}

bool has_pc_and(const char *device)
{
    if (!qtest_has_machine("pc") || !qtest_has_device(device)) {
        g_test_skip("this QEMU has no machine pc, or not the NIC needed");
        return false;
    }
    return true;
}

Nic *nic_new(QTestState *qts)
{
    Nic *nic = g_new0(Nic, 1);

    nic->qts = qts;
    pc_alloc_init(&nic->alloc, qts, 0);
    nic->bus = qpci_new_pc(qts, &nic->alloc);
    return nic;
}

void nic_drive(Nic *nic, uint64_t features)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(NIC_SLOT, 0) };
    QVirtioDevice *vdev;

    nic->dev = virtio_pci_new(nic->bus, &addr);
    g_assert(nic->dev);
    vdev = &nic->dev->vdev;
    qvirtio_pci_device_enable(nic->dev);
    qvirtio_start_device(vdev);
    nic->offered = qvirtio_get_features(vdev);
    features |= (1ull << VIRTIO_F_VERSION_1) | (1ull << VIRTIO_NET_F_MAC) |
                (1ull << VIRTIO_NET_F_STATUS);
    features &= nic->offered;
    g_assert(features & (1ull << VIRTIO_F_VERSION_1));
    qvirtio_set_features(vdev, features);
    nic->given = 0;
    nic->n_used = 0;
    nic->rx = qvirtqueue_setup(vdev, &nic->alloc, 0);
    nic->tx = qvirtqueue_setup(vdev, &nic->alloc, 1);
    if (features & (1ull << VIRTIO_NET_F_CTRL_VQ)) {
        nic->control = qvirtqueue_setup(vdev, &nic->alloc, 2);
    }
    qvirtio_set_driver_ok(vdev);
}

void nic_undrive(Nic *nic)
{
    const QVirtioBus *bus = nic->dev->vdev.bus;

    qvirtqueue_cleanup(bus, nic->rx, &nic->alloc);
    qvirtqueue_cleanup(bus, nic->tx, &nic->alloc);
    if (nic->control) {
        qvirtqueue_cleanup(bus, nic->control, &nic->alloc);
        nic->control = NULL;
    }
    g_free(nic->dev->pdev);
    g_free(nic->dev);
    nic->dev = NULL;
}

void nic_free(Nic *nic)
{
    if (nic->dev) {
        nic_undrive(nic);
    }
    qpci_free_pc(nic->bus);
    alloc_destroy(&nic->alloc);
    g_free(nic);
}

void nic_add_buffers(Nic *nic, int n)
{
    while (n-- > 0) {
        uint64_t addr;
        uint32_t head;

        if (nic->n_used) {
            head = nic->used[--nic->n_used];
        } else {
            addr = guest_alloc(&nic->alloc, NIC_BUFFER);
            head = qvirtqueue_add(nic->qts, nic->rx, addr, NIC_BUFFER, true,
                                  false);
            nic->buffers[head] = addr;
        }
        nic->given++;
        qvirtqueue_kick(nic->qts, &nic->dev->vdev, nic->rx, head);
    }
}

void nic_fill(Nic *nic, int n)
{
    nic_add_buffers(nic, n - nic->given);
}

size_t nic_receive_with(Nic *nic, struct virtio_net_hdr_mrg_rxbuf *header,
                        uint8_t *data, size_t max)
{
    size_t skip = NIC_HEADER;
    size_t size = 0;
    unsigned n = 1;
    uint32_t head, len;

    while (n--) {
        WAIT_FOR(qvirtqueue_get_buf(nic->qts, nic->rx, &head, &len));
        nic->given--;
        nic->used[nic->n_used++] = head;
        g_assert_cmpuint(len, >, skip);
        if (skip) {
            qtest_memread(nic->qts, nic->buffers[head], header, skip);
            n = lduw_le_p(&header->num_buffers) - 1;
        }
        len -= skip;
        g_assert_cmpuint(size + len, <=, max);
        qtest_memread(nic->qts, nic->buffers[head] + skip, data + size, len);
        size += len;
        skip = 0;
    }
    return size;
}

void nic_expect(Nic *nic, const Frame *frame)
{
    struct virtio_net_hdr_mrg_rxbuf header;
    uint8_t data[NIC_BUFFER];
    size_t size = nic_receive_with(nic, &header, data, sizeof(data));

    assert_frame(frame, data, size);
    g_assert_cmphex(header.hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, ==, 0);
    g_assert_cmphex(header.hdr.gso_type, ==, VIRTIO_NET_HDR_GSO_NONE);
}

void nic_send_with(Nic *nic, const struct virtio_net_hdr *header,
                   const void *data, size_t size)
{
    uint64_t addr = guest_alloc(&nic->alloc, NIC_HEADER + size);
    uint32_t head;

    qtest_memset(nic->qts, addr, 0, NIC_HEADER);
    if (header) {
        qtest_memwrite(nic->qts, addr, header, sizeof(*header));
    }
    qtest_memwrite(nic->qts, addr + NIC_HEADER, data, size);
    head = qvirtqueue_add(nic->qts, nic->tx, addr, NIC_HEADER + size, false,
                          false);
    qvirtqueue_kick(nic->qts, &nic->dev->vdev, nic->tx, head);
    WAIT_FOR(qvirtqueue_get_buf(nic->qts, nic->tx, NULL, NULL));
    guest_free(&nic->alloc, addr);
}

void nic_send(Nic *nic, const Frame *frame)
{
    nic_send_with(nic, NULL, frame->data, frame->size);
}

void nic_set_offloads(Nic *nic, uint64_t bits)
{
    struct virtio_net_ctrl_hdr command = {
        .class = VIRTIO_NET_CTRL_GUEST_OFFLOADS,
        .cmd = VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
    };
    uint64_t addr = guest_alloc(&nic->alloc, sizeof(command) + 8 + 1);
    uint64_t value = cpu_to_le64(bits);
    uint32_t head;

    qtest_memwrite(nic->qts, addr, &command, sizeof(command));
    qtest_memwrite(nic->qts, addr + sizeof(command), &value, 8);
    qtest_writeb(nic->qts, addr + sizeof(command) + 8, VIRTIO_NET_ERR);
    head = qvirtqueue_add(nic->qts, nic->control, addr, sizeof(command),
                          false, true);
    qvirtqueue_add(nic->qts, nic->control, addr + sizeof(command), 8, false,
                   true);
    qvirtqueue_add(nic->qts, nic->control, addr + sizeof(command) + 8, 1,
                   true, false);
    qvirtqueue_kick(nic->qts, &nic->dev->vdev, nic->control, head);
    WAIT_FOR(qvirtqueue_get_buf(nic->qts, nic->control, NULL, NULL));
    g_assert_cmpint(qtest_readb(nic->qts, addr + sizeof(command) + 8), ==,
                    VIRTIO_NET_OK);
    guest_free(&nic->alloc, addr);
}

QTestState *pc_start(const Fabric *fabric, uint32_t netid, const char *options,
                     const char *model, const char *more)
{
    return qtest_initf(PC_ARGS "-netdev qdes,id=q0,localaddr=127.0.0.1,"
                       "mcast=%s,netid=%u%s -device %s,netdev=q0,id=n0,"
                       "addr=%d,mac=52:54:00:12:34:56 %s", fabric->mcast,
                       netid, options, model, NIC_SLOT, more);
}
