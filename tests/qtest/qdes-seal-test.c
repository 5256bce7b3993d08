/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest of the sealed fabrics of -netdev qdes
 *
 * What QEMU adds to libqdes: secret objects, options, commands and status.
 * Two QEMUs are on the fabric, and beside them a Station that has no secret:
 * it sees what anybody sees, and sends what nobody is to take.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/sockets.h"
#include "qdes-lib.h"

#define NETID 42
#define SECRET "sixteen bytes 16"
#define KEY_ID "083681cf"       /* docs/protocol/sealed.json: netid-42 */

#define FLAG_SEALED 2
#define SEAL_OVERHEAD 32        /* bytes of a datagram */
#define NUMBER_AT 16            /* the packet number, 8 bytes */

static const uint8_t mac_c[6] = { 0x02, 0, 0, 0, 0, 0x0c };

/* Objects that tests refer to: k1 and k2 are good. */
#define OBJECTS \
    "-object secret,id=k1,data='" SECRET "' " \
    "-object secret,id=k1again,data='" SECRET "' " \
    "-object secret,id=k2,data=AnotherSecretOfBytes " \
    "-object secret,id=k64,data=c2l4dGVlbiBieXRlcyAxNg==,format=base64 " \
    "-object secret,id=brief,data=fifteen_bytes15 " \
    "-object rng-builtin,id=rng0 "

/* --- Options ------------------------------------------------------------ */

static const BadOption bad_options[] = {
    { "'secret': 'nosuch'", "secret=nosuch",
      "secret=nosuch: No secret with id 'nosuch'; give the id of an -object "
      "secret,id=ID,file=FILE" },
    { "'secret': ''", "secret=", "secret=: " },
    { "'secret': 'rng0'", "secret=rng0", "secret=rng0: Object with id 'rng0' "
      "is not a secret; give the id of an -object secret,id=ID,file=FILE" },
    { "'secret': 'brief'", "secret=brief",
      "secret=brief: has 15 bytes, must have 16 to 4096; make one with head "
      "-c 32 /dev/urandom | base64" },
    { "'secret': 'k1', 'secret-old': 'brief'", "secret=k1,secret-old=brief",
      "secret-old=brief: has 15 bytes, must have 16 to 4096" },
    { "'secret': 'k1', 'secret-old': 'nosuch'", "secret=k1,secret-old=nosuch",
      "secret-old=nosuch: No secret with id 'nosuch'; give" },
    { "'secret-old': 'k1'", "secret-old=k1",
      "secret-old=k1: there is no new secret; give that, too" },
    { "'secret': 'k1', 'secret-old': 'k1again'",
      "secret=k1,secret-old=k1again",
      "secret-old=k1again: is the same as the new secret; leave it out" },
    { "'encap': 'vxlan', 'secret': 'k1'", "encap=vxlan,secret=k1",
      "secret=k1: VXLAN cannot be sealed; leave it out, or use encap=qdes" },
    { "'encap': 'vxvde', 'secret': 'k1'", "encap=vxvde,secret=k1",
      "secret=k1: VXVDE cannot be sealed; leave it out, or use encap=qdes" },
    { "'cipher': 'aes-256-gcm'", "cipher=aes-256-gcm",
      "cipher=aes-256-gcm: without a secret nothing is sealed" },
    { "'secret': 'k1', 'cipher': 'rot13'", "secret=k1,cipher=rot13",
      "cipher=rot13: must be auto, aes-256-gcm or chacha20-poly1305" },
    { "'secret': 'k1', 'cipher': ''", "secret=k1,cipher=",
      "cipher=: must be auto" },
};

static void test_errors_qmp(void)
{
    QTestState *qts = qtest_init("-M none -nodefaults " OBJECTS);

    assert_bad_qmp(qts, bad_options, ARRAY_SIZE(bad_options));
    qtest_quit(qts);
}

/* And secrets are not for logs. */
static void test_errors_cli(void)
{
    assert_bad_cli(OBJECTS, bad_options, ARRAY_SIZE(bad_options),
                   "fifteen_bytes");
}

/* What query-qdes says of netdev @id has to be this; @old and @cipher may be
 * NULL. */
static void assert_seal(QTestState *qts, const char *id, const char *key,
                        const char *old, const char *cipher)
{
    QDict *port = port_status(qts, id);
    QDict *seal = qdict_get_qdict(port, "seal");

    g_assert_nonnull(seal);
    if (key) {
        g_assert_cmpstr(qdict_get_str(seal, "key"), ==, key);
    }
    g_assert_cmpstr(qdict_get_try_str(seal, "old-key"), ==, old);
    if (cipher) {
        g_assert_cmpstr(qdict_get_str(seal, "cipher"), ==, cipher);
    }
    qobject_unref(port);
}

/* In every way that a secret, and its use, can be given. */
static void test_forms(void)
{
    Fabric *fabric = fabric_new();
    g_autofree char *path = NULL;
    g_autofree char *answer = NULL;
    g_autofree char *text = NULL;
    g_autoptr(GError) err = NULL;
    int fd = g_file_open_tmp("qdes-secret-XXXXXX", &path, &err);
    QTestState *qts;
    QDict *port, *seal;

    g_assert_cmpint(fd, >=, 0);
    /* A newline at the end does not count. */
    g_assert_cmpint(qemu_write_full(fd, SECRET "\n", sizeof(SECRET)), ==,
                    sizeof(SECRET));
    close(fd);
    qts = qtest_initf(
        "-M none -nodefaults " OBJECTS "-object secret,id=kf,file=%s "
        "-netdev qdes,id=key,localaddr=127.0.0.1,mcast=%s,netid=42,secret=k1,"
        "secret-old=k2,cipher=chacha20-poly1305 "
        "-netdev '{\"type\": \"qdes\", \"id\": \"json\", \"mcast\": \"off\", "
        "\"netid\": 42, \"secret\": \"k64\", \"cipher\": \"aes-256-gcm\"}' "
        "-netdev qdes,id=file,mcast=off,netid=42,secret=kf "
        "-netdev qdes,id=plain,mcast=off,localaddr=127.0.0.1,netid=42 ",
        path, fabric->mcast);
    QMP(qts, "{ 'execute': 'netdev_add', 'arguments': { 'type': 'qdes', "
        "'id': 'qmp', 'netid': 42, 'mcast': 'off', 'secret': 'k1', "
        "'cipher': 'auto' } }");
    answer = qtest_hmp(qts, "netdev_add qdes,id=hmp,mcast=off,netid=42,"
                       "secret=k1");
    /* It is sealed: there is nothing to be warned of. */
    g_assert_cmpstr(answer, ==, "");

    assert_seal(qts, "json", KEY_ID, NULL, "aes-256-gcm");
    assert_seal(qts, "file", KEY_ID, NULL, NULL);
    assert_seal(qts, "qmp", KEY_ID, NULL, NULL);
    assert_seal(qts, "hmp", KEY_ID, NULL, NULL);
    port = port_status(qts, "key");
    seal = qdict_get_qdict(port, "seal");
    g_assert_cmpstr(qdict_get_str(seal, "key"), ==, KEY_ID);
    g_assert_cmpstr(qdict_get_str(seal, "cipher"), ==, "chacha20-poly1305");
    g_assert_cmpuint(strlen(qdict_get_str(seal, "old-key")), ==, 8);
    g_assert_cmpstr(qdict_get_str(seal, "old-key"), !=, KEY_ID);
    qobject_unref(port);
    port = port_status(qts, "plain");
    g_assert(!qdict_haskey(port, "seal"));
    qobject_unref(port);
    text = qtest_hmp(qts, "info qdes");
    g_assert_nonnull(strstr(text, KEY_ID));
    g_assert_null(strstr(text, SECRET));
    qtest_quit(qts);
    unlink(path);
    fabric_free(fabric);
}

/* --- Frames ------------------------------------------------------------- */

typedef struct Sealed {
    Fabric *fabric;
    Station *spy;               /* has no secret */
    Hub a, b;
} Sealed;

/* Wait until @hub has a peer alive whose session it has accepted. */
static void wait_session(Hub *hub)
{
    int64_t end = now_ms() + WAIT_MS;
    bool ready = false;

    while (!ready) {
        QDict *port = port_status(hub->qts, "q0");
        QDict *peer = find_entry(port, "peers", "state", "alive");

        ready = peer && qdict_get_bool(peer, "proven") &&
                qdict_get_int(qdict_get_qdict(port, "seal"), "sessions") >= 1;
        qobject_unref(port);
        g_assert_cmpint(now_ms(), <, end);
        if (!ready) {
            g_usleep(POLL_US);
        }
    }
}

static void sealed_start(Sealed *s, const char *options)
{
    s->fabric = fabric_new();
    s->spy = station_new(s->fabric, NETID, "spy");
    s->a = hub_start(s->fabric, NETID, options, OBJECTS);
    s->b = hub_start(s->fabric, NETID, options, OBJECTS);
    wait_session(&s->a);
    wait_session(&s->b);
}

static void sealed_stop(Sealed *s)
{
    hub_stop(&s->a);
    hub_stop(&s->b);
    station_free(s->spy);
    fabric_free(s->fabric);
}

/* A frame each way; those to a MAC address that was learned go by unicast. */
static void assert_exchange(Sealed *s, uint32_t serial, size_t size)
{
    g_autofree Frame *all = make_frame(mac_all, mac_a, serial, size);
    g_autofree Frame *back = make_frame(mac_a, mac_b, serial + 1, size);
    g_autofree Frame *there = make_frame(mac_b, mac_a, serial + 2, size);

    hub_send(s->a.fd, all);
    hub_expect(s->b.fd, all);
    hub_send(s->b.fd, back);
    hub_expect(s->a.fd, back);
    hub_send(s->a.fd, there);
    hub_expect(s->b.fd, there);
}

static bool contains(const uint8_t *data, size_t size, const void *what,
                     size_t len)
{
    return memmem(data, size, what, len) != NULL;
}

/* All that has come to the spy is sealed; returns how many datagrams of DATA
 * there were. */
static int assert_nothing_readable(Station *spy, int fd)
{
    uint8_t netid[4], ethertype[2];
    uint8_t buf[65536];
    int n = 0;

    stl_be_p(netid, NETID);
    stw_be_p(ethertype, ETHERTYPE);
    while (readable(fd, 0)) {
        ssize_t size = recv(fd, buf, sizeof(buf), 0);

        g_assert_cmpint(size, >=, HEADER_SIZE + SEAL_OVERHEAD);
        g_assert_cmphex(lduw_be_p(buf), ==, 0x5144);
        g_assert_cmphex(buf[3] & FLAG_SEALED, ==, FLAG_SEALED);
        g_assert(memcmp(buf + 4, netid, 4) != 0);
        g_assert(!contains(buf, size, mac_a, 6));
        g_assert(!contains(buf, size, mac_b, 6));
        g_assert(!contains(buf, size, "vm-of-test", 10));
        g_assert(!contains(buf, size, "plain as can be", 15));
        n += (buf[2] & 0xf) == DATA;
    }
    return n;
}

static void test_frames(const void *options)
{
    static const size_t sizes[] = { 60, 1514, 1515, 9000, FRAME_MAX - 32 };
    g_autofree char *text = NULL;
    g_autofree Frame *frame = make_frame(mac_all, mac_a, 99, 200);
    g_autofree char *listed = NULL;
    g_autofree char *endpoint = NULL;
    Sealed s;
    int i;

    s.fabric = fabric_new();
    s.spy = station_new(s.fabric, NETID, "spy");
    /* The spy is listed, so that it gets unicast, too. */
    endpoint = station_endpoint(s.spy);
    listed = g_strdup_printf("%s,name=vm-of-test,peers.0=%s",
                             (const char *)options, endpoint);
    s.a = hub_start(s.fabric, NETID, listed, OBJECTS);
    s.b = hub_start(s.fabric, NETID, options, OBJECTS);
    wait_session(&s.a);
    wait_session(&s.b);

    for (i = 0; i < ARRAY_SIZE(sizes); i++) {
        assert_exchange(&s, i * 10, sizes[i]);
    }
    memcpy(frame->data + 30, "plain as can be", 15);
    hub_send(s.a.fd, frame);
    hub_expect(s.b.fd, frame);
    g_assert_cmpint(assert_nothing_readable(s.spy, s.spy->group_fd), >=, 1);
    WAIT_FOR(readable(s.spy->fd, 0));
    assert_nothing_readable(s.spy, s.spy->fd);

    /* The learned ones did not go to the group. */
    g_assert_cmpuint(port_count(s.a.qts, "q0", "tx-unicast"), ==,
                     ARRAY_SIZE(sizes));
    g_assert_cmpuint(port_count(s.b.qts, "q0", "rx-drop-seal"), ==, 0);
    assert_seal(s.a.qts, "q0", KEY_ID, NULL, NULL);
    text = qtest_hmp(s.b.qts, "info qdes");
    g_assert_nonnull(strstr(text, "vm-of-test"));
    sealed_stop(&s);
}

/* What has no seal, or a wrong one, is dropped and counted. */
static void test_outsider(void)
{
    g_autofree Frame *forged = make_frame(mac_all, mac_c, 1, 60);
    g_autofree uint8_t *junk = g_malloc0(200);
    g_autofree uint8_t *buf = g_malloc(65536);
    struct sockaddr_in port;
    uint64_t replays;
    ssize_t size;
    QDict *status;
    Sealed s;
    int i;

    sealed_start(&s, ",secret=k1");
    port = port_endpoint(s.a.qts, "q0");

    station_control(s.spy, &port, HELLO);
    WAIT_FOR(port_count(s.a.qts, "q0", "rx-drop-plain") == 1);
    for (i = 0; i < 10; i++) {
        station_frame(s.spy, &port, forged);
    }
    station_control(s.spy, &port, BYE);
    WAIT_FOR(port_count(s.a.qts, "q0", "rx-drop-plain") == 12);

    /* The pseudonym is not secret: take it, and a session, from the group.
     * A HELLO may be of either port, DATA is of the first one. */
    assert_exchange(&s, 10, 100);
    do {
        g_assert(readable(s.spy->group_fd, 0));
        size = recv(s.spy->group_fd, buf, 65536, 0);
        g_assert_cmpint(size, >=, HEADER_SIZE + SEAL_OVERHEAD);
    } while ((buf[2] & 0xf) != DATA);
    memcpy(junk, buf, HEADER_SIZE);
    memset(junk + HEADER_SIZE, 0x5a, 16);
    station_send(s.spy, &port, junk, 200);
    WAIT_FOR(port_count(s.a.qts, "q0", "rx-drop-seal") == 1);
    /*
     * It was taken before, maybe twice: until ports know each other well,
     * floods go to the group and as copies.  And with another packet number it
     * is broken.
     */
    port = port_endpoint(s.b.qts, "q0");
    replays = port_count(s.b.qts, "q0", "rx-drop-replay");
    station_send(s.spy, &port, buf, size);
    WAIT_FOR(port_count(s.b.qts, "q0", "rx-drop-replay") == replays + 1);
    buf[NUMBER_AT + 6] ^= 1;
    station_send(s.spy, &port, buf, size);
    WAIT_FOR(port_count(s.b.qts, "q0", "rx-drop-seal") == 1);

    status = port_status(s.a.qts, "q0");
    g_assert_cmpint(qlist_size(qdict_get_qlist(status, "peers")), ==, 1);
    g_assert_null(find_entry(status, "fdb", "mac", "02:00:00:00:00:0c"));
    qobject_unref(status);
    assert_exchange(&s, 20, 100);
    sealed_stop(&s);
}

/* Without the secret, with another one, in another network: nobody is there. */
static void test_apart(void)
{
    static const char *const others[] = { "", ",secret=k2" };
    g_autofree Frame *frame = make_frame(mac_all, mac_b, 1, 60);
    Fabric *fabric = fabric_new();
    Hub a = hub_start(fabric, NETID, ",secret=k1", OBJECTS);
    Hub c = hub_start(fabric, NETID + 1, ",secret=k1", OBJECTS);
    g_autofree Frame *marker = make_frame(mac_all, mac_c, 2, 60);
    struct sockaddr_in port;
    int i;

    for (i = 0; i < ARRAY_SIZE(others); i++) {
        g_autofree char *to_a = NULL;
        g_autofree char *options = NULL;
        Hub b;

        /* Listed, so that it is no filter that keeps them apart. */
        port = port_endpoint(a.qts, "q0");
        to_a = g_strdup_printf("%s,peers.0=127.0.0.1:%d", others[i],
                               ntohs(port.sin_port));
        b = hub_start(fabric, NETID, to_a, OBJECTS);
        hub_send(b.fd, frame);
        if (i == 0) {
            WAIT_FOR(port_count(a.qts, "q0", "rx-drop-plain") >= 1);
        } else {
            WAIT_FOR(port_count(a.qts, "q0", "rx-drop-netid") >= 1);
        }
        g_assert_cmpint(port_peers(a.qts, "q0"), ==, 0);
        g_assert_cmpint(port_peers(b.qts, "q0"), ==, 0);
        hub_stop(&b);
    }
    hub_send(c.fd, marker);
    WAIT_FOR(port_count(c.qts, "q0", "tx-flooded") == 1);
    g_assert_cmpuint(port_count(a.qts, "q0", "rx-frames"), ==, 0);
    g_assert(!readable(a.fd, 0));
    hub_stop(&a);
    hub_stop(&c);
    fabric_free(fabric);
}

/* --- At run time -------------------------------------------------------- */

#define SET(hub, args) \
    QMP((hub).qts, "{ 'execute': 'qdes-set-secret', 'arguments': " \
        "{ 'id': 'q0', " args " } }")

/* Each port in turn gets both, then each the new one alone. */
static void test_change(void)
{
    QDict *port;
    g_autofree char *key = NULL;
    Sealed s;

    sealed_start(&s, ",secret=k1");
    assert_exchange(&s, 0, 100);
    /* The port has what it needs; and k2 comes later in real life. */
    QMP(s.a.qts, "{ 'execute': 'object-del', 'arguments': { 'id': 'k2' } }");
    assert_exchange(&s, 10, 100);
    QMP(s.a.qts, "{ 'execute': 'object-add', 'arguments': { 'qom-type': "
        "'secret', 'id': 'k2', 'data': 'AnotherSecretOfBytes' } }");

    SET(s.a, "'secret': 'k2', 'secret-old': 'k1'");
    port = port_status(s.a.qts, "q0");
    key = g_strdup(qdict_get_str(qdict_get_qdict(port, "seal"), "key"));
    /* The other one has no other yet. */
    g_assert(qdict_get_bool(qdict_get_qdict(port, "seal"), "flooding-old"));
    qobject_unref(port);
    assert_seal(s.a.qts, "q0", key, KEY_ID, NULL);
    assert_exchange(&s, 20, 100);
    QMP(s.a.qts, "{ 'execute': 'object-del', 'arguments': { 'id': 'k1' } }");
    SET(s.b, "'secret': 'k2', 'secret-old': 'k1'");
    assert_exchange(&s, 30, 100);
    SET(s.a, "'secret': 'k2'");
    assert_exchange(&s, 40, 100);
    SET(s.b, "'secret': 'k2'");
    assert_exchange(&s, 50, 9000);
    assert_seal(s.a.qts, "q0", key, NULL, NULL);
    assert_seal(s.b.qts, "q0", key, NULL, NULL);
    sealed_stop(&s);
}

/* A change that cannot be leaves things as they are. */
static void test_change_errors(void)
{
    static const struct {
        const char *arguments, *error;
    } bad[] = {
        { "'id': 'nosuch', 'secret': 'k1'",
          "id=nosuch: there is no qdes netdev of this name" },
        { "'id': 'q0', 'secret': 'nosuch'",
          "secret=nosuch: No secret with id 'nosuch'; give" },
        { "'id': 'q0', 'secret': 'brief'",
          "secret=brief: has 15 bytes, must have 16 to 4096" },
        { "'id': 'q0', 'secret': 'k2', 'secret-old': 'brief'",
          "secret-old=brief: has 15 bytes" },
        { "'id': 'q0', 'secret': 'k2', 'secret-old': 'rng0'",
          "secret-old=rng0: Object with id 'rng0' is not a secret" },
        { "'id': 'q0', 'secret': 'k1', 'secret-old': 'k1again'",
          "secret-old=k1again: is the same as the new secret" },
        { "'id': 'q0'", "secret" },
        { "'id': 'q0', 'secret-old': 'k1'", "secret" },
        { "'id': 'bare', 'secret': 'k1'",
          "secret=k1: this port was started without one, and cannot be sealed "
          "while it runs; start it with secret=" },
    };
    Sealed s;
    int i;

    sealed_start(&s, ",secret=k1");
    QMP(s.a.qts, "{ 'execute': 'netdev_add', 'arguments': { 'type': 'qdes', "
        "'id': 'bare', 'mcast': 'off', 'localaddr': '127.0.0.1' } }");
    for (i = 0; i < ARRAY_SIZE(bad); i++) {
        g_autofree char *command = g_strdup_printf(
            "{ 'execute': 'qdes-set-secret', 'arguments': { %s } }",
            bad[i].arguments);

        qmp_refused(s.a.qts, command, bad[i].error);
        assert_seal(s.a.qts, "q0", KEY_ID, NULL, NULL);
    }
    assert_exchange(&s, 0, 100);
    sealed_stop(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("/qdes-seal/options/errors-qmp", test_errors_qmp);
    qtest_add_func("/qdes-seal/options/errors-cli", test_errors_cli);
    qtest_add_func("/qdes-seal/options/forms", test_forms);
    qtest_add_data_func("/qdes-seal/frames/auto", ",secret=k1", test_frames);
    qtest_add_data_func("/qdes-seal/frames/aes",
                        ",secret=k1,cipher=aes-256-gcm", test_frames);
    qtest_add_data_func("/qdes-seal/frames/chacha",
                        ",secret=k1,cipher=chacha20-poly1305", test_frames);
    qtest_add_data_func("/qdes-seal/frames/plain-io",
                        ",secret=k1,gso=off,superframes=off,vnet-hdr=off",
                        test_frames);
    qtest_add_func("/qdes-seal/frames/outsider", test_outsider);
    qtest_add_func("/qdes-seal/frames/apart", test_apart);
    qtest_add_func("/qdes-seal/change", test_change);
    qtest_add_func("/qdes-seal/change-errors", test_change_errors);

    return g_test_run();
}
