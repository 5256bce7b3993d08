/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing a whole port: datagrams of anybody, in any order, at any time, and
 * whatever else happens to it.  Its sockets are replaced, call by call (see
 * meson.build); all above them is what runs in QEMU and qdes-tap.
 *
 * Whatever happens:
 *  - to who is not proven goes no more than came from there, but for the ECHOs
 *    that a listing, a proven teller or a peer that fell silent accounts for;
 *  - no frame is delivered twice, and every datagram is in the books;
 *  - the timer does not turn into a busy loop, the log does not grow;
 *  - nothing is left when the port is closed.
 */

#include "fuzz.h"
#include "../lib/underlay-calls.h"

#include <errno.h>

#include "qdes/bytes.h"
#include "qdes/control.h"
#include "qdes/fabric-private.h"
#include "qdes/probe.h"
#include "qdes/status.h"

#define ENDPOINTS 16            /* that speak; the last two are seeds */
#define INSTANCES 6
#define PEERS 64                /* that the port has room for */
#define MAX_DATAGRAM 2048
#define TRAIN_DATAGRAMS 3
#define MAX_TICKS 200           /* at one moment */
#define GROUP_FD 5
#define UNICAST_FD 6
#define FIRST_MS 10000000

/* What is known of who may be sent to. */
typedef struct Account {
    int64_t may;                /* bytes */
    bool was_proven;
    uint64_t nonce;             /* of the last ECHO that went there */
} Account;

static struct {
    QdesFabric *fabric;
    int64_t now, timer;
    QdesAddr own;
    QdesNetif netif;
    GHashTable *accounts;       /* QdesAddr -> Account */
    uint64_t random;
    uint8_t buf[QDES_RX_HEADROOM + TRAIN_DATAGRAMS * MAX_DATAGRAM];
    QdesRxTrain train;
    uint8_t *read;              /* where @train is */
    bool waits;                 /* @train is to be read */
    int error;                  /* of sending, from now on */
    QdesRefresh refresh;
    QdesAddr unreachable;
    bool has_unreachable;
    QdesDelivery verdict;
    uint64_t sent_in;           /* frames that came, at most */
    uint64_t delivered;
    unsigned lines, lines_allowed;
} t;

/* The network */

static guint hash_addr(gconstpointer key)
{
    return qdes_addr_hash(key, 1);
}

static gboolean same_addr(gconstpointer a, gconstpointer b)
{
    return qdes_addr_equal(a, b);
}

static Account *account(const QdesAddr *addr)
{
    Account *a = g_hash_table_lookup(t.accounts, addr);

    if (!a) {
        QdesAddr *key = g_new(QdesAddr, 1);

        *key = *addr;
        a = g_new0(Account, 1);
        g_hash_table_insert(t.accounts, key, a);
    }
    return a;
}

static QdesAddr stranger(unsigned n)
{
    QdesAddr addr = { .port = 1 + n % 7 };

    memset(addr.ip + 10, 0xff, 2);
    addr.ip[12] = 11;
    addr.ip[13] = n >> 16;
    addr.ip[14] = n >> 8;
    addr.ip[15] = n;
    return addr;
}

static QdesAddr endpoint(unsigned n)
{
    QdesAddr addr = { .port = 20804 };

    n %= ENDPOINTS;
    if (n % 8 == 6) {
        addr.ip[0] = 0x20;
    } else if (n % 8 == 5) {
        addr.ip[0] = 0xfe;
        addr.ip[1] = 0x80;
        addr.scope = 2;
    } else {
        memset(addr.ip + 10, 0xff, 2);
        addr.ip[12] = n % 8 == 4 ? 127 : 10;
        addr.port += n % 2;
    }
    addr.ip[15] = 2 + n;
    return addr;
}

static bool is_seed(const QdesAddr *addr)
{
    unsigned n;
    QdesAddr seed;

    for (n = ENDPOINTS - 2; n < ENDPOINTS; n++) {
        seed = endpoint(n);
        if (qdes_addr_equal(addr, &seed)) {
            return true;
        }
    }
    return false;
}

static bool is_proven(const QdesAddr *addr)
{
    uint32_t slot = qdes_peers_find(t.fabric->peers, addr);

    return slot != QDES_PEER_NONE &&
           qdes_peers_get(t.fabric->peers, slot)->proven;
}

static void account_for(const QdesAddr *to, const uint8_t *data, size_t size)
{
    Account *a = account(to);
    QdesWireHeader header;
    QdesEcho echo;

    fuzz_check(qdes_wire_decode(&header, data, size) == QDES_WIRE_OK,
               "our own datagram is not understood");
    if (header.type == QDES_WIRE_ECHO &&
        qdes_control_decode_echo(&echo, &header) == QDES_WIRE_OK) {
        a->nonce = echo.nonce;
    }
    if (is_proven(to)) {
        return;
    }
    /* One that was proven may be remembered; seeds are tried for ever. */
    if (header.type == QDES_WIRE_ECHO && (a->was_proven || is_seed(to))) {
        return;
    }
    a->may -= size;
    fuzz_check(a->may >= 0, "more was sent to a stranger than came");
}

QdesPeers *__wrap_qdes_peers_new(uint32_t max_peers, uint64_t seed);
QdesPeers *__real_qdes_peers_new(uint32_t max_peers, uint64_t seed);

/* A table that is soon full. */
QdesPeers *__wrap_qdes_peers_new(uint32_t max_peers G_GNUC_UNUSED,
                                 uint64_t seed)
{
    return __real_qdes_peers_new(PEERS, seed);
}

QdesUnderlay *__wrap_qdes_underlay_new(const QdesConfig *config G_GNUC_UNUSED,
                                       const QdesHost *host G_GNUC_UNUSED,
                                       void *opaque,
                                       GError **errp G_GNUC_UNUSED)
{
    return opaque;
}

void __wrap_qdes_underlay_free(QdesUnderlay *u G_GNUC_UNUSED)
{
}

int __wrap_qdes_underlay_group_fd(const QdesUnderlay *u G_GNUC_UNUSED)
{
    return GROUP_FD;
}

int __wrap_qdes_underlay_unicast_fd(const QdesUnderlay *u G_GNUC_UNUSED)
{
    return UNICAST_FD;
}

int __wrap_qdes_underlay_monitor_fd(const QdesUnderlay *u G_GNUC_UNUSED)
{
    return -1;
}

QdesRefresh __wrap_qdes_underlay_refresh(QdesUnderlay *u G_GNUC_UNUSED)
{
    QdesRefresh refresh = t.refresh;

    t.refresh = QDES_REFRESH_SAME;
    if (refresh != QDES_REFRESH_SAME) {
        t.netif.index = refresh != QDES_REFRESH_LOST;
        t.lines_allowed++;
    }
    return refresh;
}

const QdesNetif *__wrap_qdes_underlay_netif(
    const QdesUnderlay *u G_GNUC_UNUSED)
{
    return &t.netif;
}

QdesAddr __wrap_qdes_underlay_local(const QdesUnderlay *u G_GNUC_UNUSED)
{
    return t.own;
}

int __wrap_qdes_underlay_send(QdesUnderlay *u G_GNUC_UNUSED,
                              QdesTrain *trains, int n)
{
    int i;

    if (t.error) {
        trains[0].failed = MIN(trains[0].segment,
                               trains[0].size - trains[0].sent);
        return -t.error;
    }
    for (i = 0; i < n; i++) {
        trains[i].sent = trains[i].size;
    }
    return n;
}

int __wrap_qdes_underlay_send_one(QdesUnderlay *u G_GNUC_UNUSED,
                                  const QdesAddr *to,
                                  const QdesAddr *from G_GNUC_UNUSED,
                                  const void *data, size_t size)
{
    if (t.error) {
        return -t.error;
    }
    if (to) {
        account_for(to, data, size);
    } else if (!t.netif.index) {
        return -ENODEV;
    }
    return 0;
}

int __wrap_qdes_underlay_receive(QdesUnderlay *u G_GNUC_UNUSED,
                                 int fd G_GNUC_UNUSED, QdesRxTrain *trains,
                                 int max G_GNUC_UNUSED, bool *more)
{
    *more = false;
    if (!t.waits) {
        return -EAGAIN;
    }
    t.waits = false;
    trains[0] = t.train;
    return 1;
}

size_t __wrap_qdes_underlay_room(const QdesUnderlay *u G_GNUC_UNUSED,
                                 const QdesAddr *to)
{
    return to && to->ip[15] % 2 ? 1472 : 8972;
}

bool __wrap_qdes_underlay_segments(const QdesUnderlay *u G_GNUC_UNUSED)
{
    return true;
}

bool __wrap_qdes_underlay_is_own(const QdesUnderlay *u G_GNUC_UNUSED,
                                 const QdesAddr *from)
{
    return qdes_addr_equal(from, &t.own);
}

bool __wrap_qdes_underlay_reaches(const QdesUnderlay *u G_GNUC_UNUSED,
                                  const QdesAddr *to G_GNUC_UNUSED)
{
    return true;
}

bool __wrap_qdes_underlay_is_broadcast(const QdesAddr *addr G_GNUC_UNUSED)
{
    return false;
}

bool __wrap_qdes_underlay_unreachable(QdesUnderlay *u G_GNUC_UNUSED,
                                      QdesAddr *peer)
{
    bool has = t.has_unreachable;

    *peer = t.unreachable;
    t.has_unreachable = false;
    return has;
}

uint64_t __wrap_qdes_underlay_drops(QdesUnderlay *u G_GNUC_UNUSED)
{
    return 0;
}

/* The host */

static QdesDelivery host_deliver(void *opaque G_GNUC_UNUSED,
                                 const struct iovec *iov, int iovcnt,
                                 size_t size)
{
    QdesEthHeader eth;
    size_t whole = qdes_eth_peek(&eth, iov, iovcnt);

    fuzz_check(whole == size && size >= QDES_FRAME_MIN &&
               size <= QDES_SUPERFRAME_MAX + QDES_VNET_MAX,
               "a frame's size cannot be");
    if (t.fabric->port.vnet_size == 0 && !qdes_probe_is(eth.dst)) {
        fuzz_check(qdes_mac_is_source(eth.src), "a frame of nobody");
        t.delivered++;
    }
    return t.verdict;
}

static void host_writable(void *opaque G_GNUC_UNUSED)
{
}

static void host_watch(void *opaque G_GNUC_UNUSED, int fd, int events)
{
    fuzz_check((fd == GROUP_FD || fd == UNICAST_FD) && (events & ~3) == 0,
               "a strange descriptor");
}

static void host_set_timer(void *opaque G_GNUC_UNUSED, int64_t deadline)
{
    t.timer = deadline;
}

static void host_log(void *opaque G_GNUC_UNUSED,
                     QdesLogLevel level G_GNUC_UNUSED, const char *text)
{
    fuzz_check(g_utf8_validate(text, -1, NULL) && !strchr(text, '\n'),
               "a line of the log is none");
    t.lines++;
}

static void host_changed(void *opaque G_GNUC_UNUSED)
{
}

static uint64_t host_random(void *opaque G_GNUC_UNUSED)
{
    return ++t.random * 0x9e3779b97f4a7c15ULL;
}

static const QdesHost host = {
    .deliver = host_deliver, .writable = host_writable, .watch = host_watch,
    .set_timer = host_set_timer, .log = host_log, .changed = host_changed,
    .random = host_random,
};

/* What happens */

static void tick(void)
{
    unsigned n = 0;

    while (t.timer <= t.now) {
        t.timer = INT64_MAX;
        qdes_fabric_tick(t.fabric, t.now);
        fuzz_check(++n < MAX_TICKS, "the timer is a busy loop");
    }
}

static uint8_t *datagram(void)
{
    return t.buf + QDES_RX_HEADROOM;
}

/* The port works off all that it has read. */
static void settle(void)
{
    while (t.fabric->paused) {
        t.verdict = QDES_DELIVERED;
        qdes_fabric_resume(t.fabric, t.now);
    }
    g_clear_pointer(&t.read, g_free);
}

/* @size bytes in datagram() come from @from, @segment in each. */
static void feed(const QdesAddr *from, size_t size, size_t segment,
                 bool by_group)
{
    /* Nothing is read while the port is full. */
    settle();
    /* In memory of its own, past whose end nothing may be read. */
    t.read = fuzz_copy(t.buf, QDES_RX_HEADROOM + size);
    t.train = (QdesRxTrain) {
        .data = t.read + QDES_RX_HEADROOM, .size = size, .segment = segment,
        .from = *from,
    };
    t.waits = true;
    if (!qdes_addr_equal(from, &t.own)) {
        account(from)->may += size;
    }
    t.sent_in += (size + segment - 1) / segment;
    qdes_fabric_ready(t.fabric, by_group ? GROUP_FD : UNICAST_FD,
                      QDES_WATCH_READ, t.now);
    t.waits = false;
    account(from)->was_proven |= is_proven(from);
}

static void poke(Input *in, size_t size)
{
    unsigned n = input_byte(in) % 4;

    while (n-- > 0) {
        datagram()[input_u16(in) % size] = input_byte(in);
    }
}

static size_t make_raw(Input *in)
{
    const uint8_t *data;
    size_t size = input_bytes(in, &data, MAX_DATAGRAM);

    memcpy(datagram(), data, size);
    return MAX(size, 1);
}

static size_t make_hello(Input *in, QdesWireType type, uint8_t bits)
{
    QdesWireHello hello = {
        .instance = 1 + (bits >> 1) % INSTANCES,
        .capabilities = input_byte(in),
        .mtu = input_byte(in) << 8,
        .hold_time = input_byte(in),
        .group_heard = input_byte(in) % 3,
        .name = "p",
    };
    size_t size;

    if (bits / 16 == 15) {
        hello.instance = t.fabric->instance;
    }
    size = qdes_wire_encode_hello(datagram(), type, 0, &hello);
    if (bits & 1) {
        size = qdes_wire_pad(datagram(), size, QDES_WIRE_HELLO_PADDED);
    }
    return size;
}

static size_t make_echo(Input *in, QdesWireType type, const QdesAddr *from)
{
    uint8_t bits = input_byte(in);
    QdesEcho echo = {
        .nonce = bits & 1 ? input_u16(in) : account(from)->nonce,
        .observed = bits & 2 ? endpoint(bits >> 2) : t.own,
    };

    return qdes_control_encode_echo(datagram(), type, 0, &echo);
}

static size_t make_request(Input *in)
{
    QdesDigest digest = { { 0 } };
    const uint8_t *bits;
    QdesKnown known = { .parts = 1 + input_byte(in) % 4, .salt = 5 };

    known.part = input_byte(in) % known.parts;
    known.size = input_bytes(in, &bits, 64);
    known.bits = bits;
    digest.bucket[input_byte(in) % QDES_DIGEST_BUCKETS] = input_u16(in);
    return qdes_control_encode_request(datagram(), 0, &digest, &known);
}

static size_t make_list(Input *in)
{
    QdesEntry entries[QDES_ENTRIES_MAX];
    unsigned n = 1 + input_byte(in) % QDES_ENTRIES_MAX;
    unsigned first = input_u16(in);
    uint8_t bits = input_byte(in);
    unsigned i;

    for (i = 0; i < n; i++) {
        entries[i].addr = bits & 1 ? endpoint(first + i) :
                          bits & 2 ? stranger(7 * first) :
                          stranger(first + i);
        if (bits & 2) {
            entries[i].addr.port = 1 + i;
        }
        entries[i].instance = bits & 4 ? 1 + i % INSTANCES : 1000 + first + i;
        entries[i].addr.scope = 0;
    }
    return qdes_control_encode_list(datagram(), 0, entries, n);
}

/* What a proven peer tells of, in the datagram of @size bytes as it is at last,
 * may be sent the ECHOs for that. */
static void account_told(const QdesAddr *from, size_t size)
{
    QdesPeersMessage message;
    QdesWireHeader header;
    QdesAddr told;
    unsigned i;

    if (!is_proven(from) ||
        qdes_wire_decode(&header, datagram(), size) != QDES_WIRE_OK ||
        header.type != QDES_WIRE_PEERS ||
        qdes_control_decode_peers(&message, &header) != QDES_WIRE_OK ||
        message.is_request) {
        return;
    }
    for (i = 0; i < message.n_entries; i++) {
        told = qdes_control_entry(&message, i).addr;
        if (qdes_addr_needs_scope(&told)) {
            told.scope = from->scope;
        }
        account(&told)->may += QDES_CANDIDATE_TRIES * QDES_ECHO_SIZE;
    }
}

static size_t make_data(Input *in, uint8_t bits)
{
    Packet p = { PACKET_DEFAULT };
    uint8_t *buf = g_malloc(PACKET_MAX);
    uint8_t flags = bits & 2 ? QDES_WIRE_FLAG_CSUM_PARTIAL : 0;
    size_t header = QDES_WIRE_HEADER_SIZE;
    unsigned n;
    size_t size;

    for (n = bits / 16 % 4; n > 0; n--) {
        input_change(in, &p, input_byte(in));
    }
    if (bits & 2) {
        p.csum = PACKET_PARTIAL;
    }
    size = packet_write(&p, buf);
    buf[11] = bits / 64;
    if (bits & 4) {
        flags |= QDES_WIRE_FLAG_SUPERFRAME | QDES_WIRE_FLAG_CSUM_PARTIAL;
        qdes_put_be16(datagram() + header, input_u16(in));
        header = QDES_WIRE_SUPERFRAME_SIZE;
    }
    if (t.fabric->config.encap->control) {
        qdes_wire_encode_header(datagram(), QDES_WIRE_DATA, flags, 0);
    } else {
        t.fabric->config.encap->encode(datagram(), 0, t.fabric->config.netid);
    }
    size = MIN(size, MAX_DATAGRAM - header);
    memcpy(datagram() + header, buf, size);
    g_free(buf);
    return header + size;
}

static void receive(Input *in, unsigned what)
{
    uint8_t bits = input_byte(in);
    QdesAddr from = endpoint(bits % ENDPOINTS);
    bool by_group = bits & 16;
    size_t size;

    if (bits / 32 == 7) {
        from = bits & 1 ? t.own : stranger(input_u16(in));
    }
    switch (what) {
    case 0:
        size = make_raw(in);
        break;
    case 1:
        size = make_hello(in, QDES_WIRE_HELLO, input_byte(in));
        break;
    case 2:
        size = make_hello(in, QDES_WIRE_BYE, input_byte(in));
        break;
    case 3:
        size = make_echo(in, QDES_WIRE_ECHO, &from);
        break;
    case 4:
        size = make_echo(in, QDES_WIRE_ECHO_REPLY, &from);
        break;
    case 5:
        size = make_request(in);
        break;
    case 6:
        size = make_list(in);
        break;
    default:
        size = make_data(in, input_byte(in));
        break;
    }
    if (bits & 128 && bits / 32 != 7) {
        poke(in, size);
    }
    account_told(&from, size);
    feed(&from, size, size, by_group);
}

static void receive_train(Input *in)
{
    QdesAddr from = endpoint(input_byte(in));
    size_t size = make_data(in, input_byte(in));
    uint8_t bits = input_byte(in);
    unsigned n;

    for (n = 1; n < TRAIN_DATAGRAMS; n++) {
        memcpy(datagram() + n * size, datagram(), size);
        datagram()[n * size + QDES_WIRE_HEADER_SIZE + 11] = n;
    }
    if (bits & 1) {
        poke(in, n * size);
    }
    feed(&from, n * size - (bits & 2 ? size / 2 : 0), size, bits & 4);
}

static void receive_strangers(Input *in)
{
    uint8_t n = input_byte(in);
    unsigned first = input_u16(in);
    QdesAddr from;
    unsigned i;
    size_t size;

    for (i = 0; i < n; i++) {
        QdesWireHello hello = {
            .instance = n & 1 ? 1 : 1 + first + i,
            .capabilities = QDES_WIRE_CAP_ECHO, .hold_time = 600,
        };

        from = stranger(first + i);
        size = qdes_wire_encode_hello(datagram(), QDES_WIRE_HELLO, 0, &hello);
        feed(&from, size, size, n & 2);
    }
}

static void send_frame(Input *in)
{
    Packet p = { PACKET_DEFAULT };
    uint8_t *buf = g_malloc0(PACKET_MAX + QDES_VNET_MAX);
    size_t front = t.fabric->port.vnet_size;
    uint8_t bits = input_byte(in);
    struct iovec iov[2];
    size_t size;

    input_change(in, &p, input_byte(in));
    size = packet_write(&p, buf + front);
    memset(buf, 0, front);
    buf[front] = bits & 1;
    buf[front + 5] = bits / 64;
    buf[front + 11] = bits / 4 % 8;
    if (bits & 2) {
        QdesProbe probe = { .asks = bits & 1, .nonce = bits };

        /* Of a peer, or of this port itself. */
        qdes_probe_encode(buf + front, &probe, bits / 16 == 15 ?
                          t.fabric->instance : 1U + bits / 16 % INSTANCES);
        if (bits & 4) {
            buf[front + 12 + input_byte(in) % 48] = input_byte(in);
        }
        size = QDES_PROBE_SIZE;
    }
    size = MIN(size, 9000) + front;
    iov[0] = (struct iovec) { buf, MIN(size, 20) };
    iov[1] = (struct iovec) { buf + 20, size - MIN(size, 20) };
    qdes_fabric_send(t.fabric, iov, 2, t.now);
    if (bits & 8) {
        qdes_fabric_flush(t.fabric, t.now);
    }
    g_free(buf);
}

static void change_list(Input *in)
{
    uint8_t bits = input_byte(in);
    QdesAddr addr = endpoint(ENDPOINTS - 2 + (bits & 1));
    char text[QDES_ADDR_STRLEN];

    qdes_addr_format(&addr, text);
    t.lines_allowed++;
    if (bits & 2) {
        qdes_fabric_add_peer(t.fabric, text, t.now, NULL);
    } else {
        qdes_fabric_del_peer(t.fabric, text, t.now, NULL);
    }
}

static void change_fdb(Input *in)
{
    uint8_t bits = input_byte(in);
    QdesAddr addr = endpoint(bits / 16);
    char peer[QDES_ADDR_STRLEN];
    char mac[QDES_MAC_STRLEN];
    uint8_t bytes[QDES_MAC_SIZE] = { 0x52, 0x54, 0, 0, 0, bits / 64 };
    QdesFlush flush = { .statics = bits & 4 };
    size_t n;

    qdes_mac_format(bytes, mac);
    qdes_addr_format(&addr, peer);
    switch (bits % 4) {
    case 0:
        qdes_fabric_add_fdb(t.fabric, mac, bits & 8 ? peer : NULL, NULL);
        break;
    case 1:
        qdes_fabric_del_fdb(t.fabric, mac, NULL);
        break;
    case 2:
        flush.peer = bits & 8 ? peer : NULL;
        qdes_fabric_flush_fdb(t.fabric, &flush, &n, NULL);
        break;
    default:
        flush.mac = mac;
        qdes_fabric_flush_fdb(t.fabric, &flush, &n, NULL);
        break;
    }
}

static void change_port(Input *in)
{
    uint8_t bits = input_byte(in);
    QdesPort port = {
        .vnet_size = bits & 1 ? QDES_VNET_MAX : 0, .csum = bits & 2,
        .tso4 = bits & 4, .tso6 = bits & 4, .uso4 = bits & 8,
        .uso6 = bits & 8, .ecn = bits & 16,
    };

    qdes_fabric_set_port(t.fabric, &port);
}

static void break_sending(Input *in)
{
    static const int errors[] = {
        0, EAGAIN, ENOBUFS, ENETUNREACH, EPERM, ECONNREFUSED, EMSGSIZE, EIO,
    };

    t.error = errors[input_byte(in) % G_N_ELEMENTS(errors)];
    if (!t.error) {
        qdes_fabric_ready(t.fabric, UNICAST_FD, QDES_WATCH_WRITE, t.now);
    }
}

static void show(void)
{
    QdesStatus *status = qdes_fabric_status(t.fabric, t.now);

    g_free(qdes_status_text(status, " "));
    g_free(qdes_fabric_summary(t.fabric));
    qdes_status_free(status);
}

static void happen(Input *in)
{
    static const int64_t units[] = { 1, 20, 100, 1000 };
    uint8_t op = input_byte(in) % 32;

    switch (op) {
    case 0: case 1: case 2: case 3: case 4: case 5: case 6: case 7:
        receive(in, op);
        break;
    case 8: case 9: case 10: case 11:
        t.now += input_byte(in) * units[op - 8];
        tick();
        break;
    case 12:
        t.now += (int64_t)input_u16(in) * 10000;
        tick();
        break;
    case 13:
        /* Before the start it never was. */
        t.now = MAX(FIRST_MS, t.now - (int64_t)input_u16(in) * 10);
        tick();
        break;
    case 14:
        t.verdict = input_byte(in) % 3;
        break;
    case 15:
        t.lines_allowed += 2;
        qdes_fabric_set_link(t.fabric, input_byte(in) & 1, t.now);
        break;
    case 16:
        change_list(in);
        break;
    case 17:
        change_fdb(in);
        break;
    case 18: case 19:
        send_frame(in);
        break;
    case 20:
        t.unreachable = endpoint(input_byte(in));
        t.has_unreachable = true;
        qdes_fabric_ready(t.fabric, UNICAST_FD, QDES_WATCH_READ, t.now);
        break;
    case 21:
        break_sending(in);
        break;
    case 22:
        change_port(in);
        break;
    case 23:
        receive_train(in);
        break;
    case 24:
        receive_strangers(in);
        break;
    case 25:
        show();
        break;
    case 26:
        t.refresh = input_byte(in) % 5;
        break;
    case 27:
        qdes_fabric_suspect(t.fabric, t.now);
        break;
    case 28:
        t.own = endpoint(input_byte(in));
        break;
    default:
        receive(in, 7);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = { data, size };
    uint8_t bits = input_byte(&in);
    QdesOptions options = {
        .name = "port", .has_max_macs = true, .max_macs = 16,
        .storm_control = bits & 4 ? "10" : NULL,
        .encap = bits & 16 ? "vxlan" : NULL,
        .has_loop_guard = !(bits & 16), .loop_guard = bits & 8,
    };
    QdesConfig config;

    memset(&t, 0, sizeof(t));
    t.now = FIRST_MS;
    t.timer = INT64_MAX;
    t.own = stranger(0xffffff);
    t.netif.index = bits & 2 ? 0 : 1;
    t.accounts = g_hash_table_new_full(hash_addr, same_addr, g_free, g_free);
    t.verdict = QDES_DELIVERED;
    t.lines_allowed = 12;
    fuzz_check(qdes_config_init(&config, &options, NULL), "the options");
    config.has_group = !(bits & 1);
    t.fabric = qdes_fabric_new(&config, &host, &t, t.now, NULL);
    while (in.size > 0) {
        happen(&in);
    }
    settle();
    show();
    fuzz_check(qdes_stats_balanced(&t.fabric->stats), "the books are wrong");
    fuzz_check(t.delivered <= t.sent_in * QDES_SEGMENT_PACKETS,
               "more was delivered than came");
    fuzz_check(t.lines <= t.lines_allowed, "the log grows");
    qdes_fabric_free(t.fabric);
    g_hash_table_destroy(t.accounts);
    return 0;
}
