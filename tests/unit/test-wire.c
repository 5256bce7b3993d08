/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire: against the protocol's test vectors, cut at every length, and there
 * and back.  docs/protocol.md tells the form of the vectors' file.
 *
 * Every datagram is handed over in a heap buffer of exactly its size, so that
 * AddressSanitizer sees a read past its end.
 */

#include "unit.h"

#include <inttypes.h>

#include <json-glib/json-glib.h>

#include "qdes/bytes.h"
#include "qdes/control.h"
#include "qdes/fabric.h"
#include "qdes/gossip.h"
#include "qdes/segment.h"
#include "qdes/wire.h"

#define N_RANDOM 20000

typedef struct Vector {
    char *name;
    uint8_t *data;
    size_t size;
    QdesWireResult result;
    bool sound;                 /* type and netid are meant */
    bool canonical;
    QdesWireType type;
    uint32_t netid;
    size_t frame_size;
    bool superframe;
    unsigned segment_size;
    unsigned packets;           /* that it stands for */
    QdesWireHello hello;
    QdesEcho echo;
    bool is_request;
    QdesDigest digest;
    QdesKnown known;
    uint8_t filter[QDES_KNOWN_MAX];
    unsigned n_entries;
    QdesEntry entries[QDES_ENTRIES_MAX];
} Vector;

static const char *const result_names[] = {
    [QDES_WIRE_OK] = "ok",
    [QDES_WIRE_SHORT] = "short",
    [QDES_WIRE_BAD_MAGIC] = "bad-magic",
    [QDES_WIRE_BAD_VERSION] = "bad-version",
    [QDES_WIRE_BAD_TYPE] = "bad-type",
    [QDES_WIRE_BAD_FLAGS] = "bad-flags",
    [QDES_WIRE_SEALED] = "sealed",
    [QDES_WIRE_FRAME_SHORT] = "frame-short",
    [QDES_WIRE_FRAME_LONG] = "frame-long",
    [QDES_WIRE_BAD_TLV] = "bad-tlv",
};

static const char *const type_names[] = {
    [QDES_WIRE_DATA] = "data",
    [QDES_WIRE_HELLO] = "hello",
    [QDES_WIRE_BYE] = "bye",
    [QDES_WIRE_ECHO] = "echo",
    [QDES_WIRE_ECHO_REPLY] = "echo-reply",
    [QDES_WIRE_PEERS] = "peers",
    [QDES_WIRE_CHALLENGE] = "challenge",
    [QDES_WIRE_RESPONSE] = "response",
};

static Vector *vectors;
static int n_vectors;
static int *taken;              /* indices of those with QDES_WIRE_OK */
static int n_taken;

/* Reading the file: what is wrong with it ends the program. */

static void G_GNUC_NORETURN G_GNUC_PRINTF(1, 2) bail_out(const char *format,
                                                         ...)
{
    va_list ap;

    printf("Bail out! ");
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    printf("\n");
    exit(EXIT_FAILURE);
}

static int index_of(const char *const *names, size_t n, const char *name)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (g_strcmp0(names[i], name) == 0) {
            return i;
        }
    }
    bail_out("no result or type is called %s", name);
}

static void read_bytes(Vector *v, JsonObject *object)
{
    const char *hex = json_object_get_string_member(object, "hex");
    GByteArray *bytes = g_byte_array_new();
    JsonObject *repeat;
    uint8_t byte;
    gint64 i;

    while (*hex) {
        if (*hex == ' ') {
            hex++;
            continue;
        }
        if (!g_ascii_isxdigit(hex[0]) || !g_ascii_isxdigit(hex[1])) {
            bail_out("%s: bad hex at \"%s\"", v->name, hex);
        }
        byte = g_ascii_xdigit_value(hex[0]) << 4 |
               g_ascii_xdigit_value(hex[1]);
        g_byte_array_append(bytes, &byte, 1);
        hex += 2;
    }
    if (json_object_has_member(object, "repeat")) {
        repeat = json_object_get_object_member(object, "repeat");
        byte = strtoul(json_object_get_string_member(repeat, "byte"), NULL,
                       16);
        for (i = json_object_get_int_member(repeat, "count"); i > 0; i--) {
            g_byte_array_append(bytes, &byte, 1);
        }
    }
    v->size = bytes->len;
    v->data = g_byte_array_free(bytes, FALSE);
}

/* As in a datagram. */
static void read_relay_for(QdesWireHello *hello, JsonArray *array)
{
    uint8_t *value;
    unsigned i;

    hello->n_relay_for = json_array_get_length(array);
    value = g_malloc(8 * hello->n_relay_for);
    for (i = 0; i < hello->n_relay_for; i++) {
        qdes_put_be64(value + 8 * i, g_ascii_strtoull(
            json_array_get_string_element(array, i), NULL, 16));
    }
    hello->relay_for = value;
}

static void read_hello(QdesWireHello *hello, JsonObject *object)
{
    const char *name;

    hello->instance = g_ascii_strtoull(
        json_object_get_string_member(object, "instance"), NULL, 16);
    hello->capabilities = json_object_get_int_member_with_default(
        object, "capabilities", 0);
    hello->mtu = json_object_get_int_member_with_default(object, "mtu", 0);
    hello->hold_time = json_object_get_int_member_with_default(
        object, "hold-time", 0);
    name = json_object_get_string_member_with_default(object, "name", "");
    g_strlcpy(hello->name, name, sizeof(hello->name));
    if (json_object_has_member(object, "group-heard")) {
        hello->group_heard = json_object_get_boolean_member(
            object, "group-heard") ? QDES_GROUP_HEARD : QDES_GROUP_NOT_HEARD;
    }
    if (json_object_has_member(object, "relay-for")) {
        read_relay_for(hello, json_object_get_array_member(object,
                                                           "relay-for"));
    }
}

static uint64_t read_hex(JsonObject *object, const char *member)
{
    return g_ascii_strtoull(json_object_get_string_member(object, member),
                            NULL, 16);
}

static QdesAddr read_endpoint(JsonObject *object, const char *member)
{
    QdesAddr addr;

    if (!qdes_addr_parse(&addr, json_object_get_string_member(object, member),
                         0, NULL)) {
        bail_out("%s is no endpoint", member);
    }
    return addr;
}

/* The numbers of the bits that are set. */
static void read_bits(uint8_t filter[QDES_KNOWN_MAX], JsonObject *object)
{
    JsonArray *array = json_object_get_array_member(object, "bits");
    unsigned i;

    for (i = 0; i < json_array_get_length(array); i++) {
        int64_t bit = json_array_get_int_element(array, i);

        if (bit < 0 || bit >= 8 * QDES_KNOWN_MAX) {
            bail_out("%" PRIi64 " is no bit of a filter", bit);
        }
        filter[bit / 8] |= 1 << bit % 8;
    }
}

static void read_exchange(Vector *v, JsonObject *object)
{
    JsonObject *member;
    JsonArray *array;
    char number[8];
    unsigned i;

    if (json_object_has_member(object, "echo")) {
        member = json_object_get_object_member(object, "echo");
        v->echo.nonce = read_hex(member, "nonce");
        v->echo.observed = read_endpoint(member, "observed");
    }
    if (json_object_has_member(object, "digest")) {
        v->is_request = true;
        member = json_object_get_object_member(object, "digest");
        for (i = 0; i < QDES_DIGEST_BUCKETS; i++) {
            g_snprintf(number, sizeof(number), "%u", i);
            if (json_object_has_member(member, number)) {
                v->digest.bucket[i] = read_hex(member, number);
            }
        }
    }
    if (json_object_has_member(object, "known")) {
        member = json_object_get_object_member(object, "known");
        v->known.parts = json_object_get_int_member(member, "parts");
        v->known.part = json_object_get_int_member(member, "part");
        v->known.salt = read_hex(member, "salt");
        v->known.size = json_object_get_int_member(member, "size");
        v->known.bits = v->filter;
        read_bits(v->filter, member);
    }
    if (json_object_has_member(object, "entries")) {
        array = json_object_get_array_member(object, "entries");
        v->n_entries = json_array_get_length(array);
        for (i = 0; i < v->n_entries; i++) {
            member = json_array_get_object_element(array, i);
            v->entries[i].addr = read_endpoint(member, "endpoint");
            v->entries[i].instance = read_hex(member, "instance");
        }
    }
}

static void read_vector(Vector *v, JsonObject *object)
{
    v->name = g_strdup(json_object_get_string_member(object, "name"));
    read_bytes(v, object);
    v->result = index_of(result_names, G_N_ELEMENTS(result_names),
                         json_object_get_string_member(object, "result"));
    v->canonical = json_object_get_boolean_member_with_default(
        object, "canonical", FALSE);
    v->sound = json_object_has_member(object, "type");
    if (v->sound) {
        v->type = index_of(type_names, G_N_ELEMENTS(type_names),
                           json_object_get_string_member(object, "type"));
        v->netid = json_object_get_int_member(object, "netid");
    }
    v->frame_size = json_object_get_int_member_with_default(
        object, "frame-size", 0);
    v->superframe = json_object_has_member(object, "segment-size");
    if (v->superframe) {
        v->segment_size = json_object_get_int_member(object, "segment-size");
        v->packets = json_object_get_int_member(object, "packets");
    }
    if (json_object_has_member(object, "hello")) {
        read_hello(&v->hello, json_object_get_object_member(object, "hello"));
    }
    read_exchange(v, object);
}

static void load_vectors(const char *path)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GError) error = NULL;
    JsonArray *array;
    JsonObject *root;
    int i;

    if (!json_parser_load_from_file(parser, path, &error)) {
        bail_out("%s", error->message);
    }
    root = json_node_get_object(json_parser_get_root(parser));
    array = json_object_get_array_member(root, "vectors");
    n_vectors = json_array_get_length(array);
    vectors = g_new0(Vector, n_vectors);
    taken = g_new0(int, n_vectors);
    for (i = 0; i < n_vectors; i++) {
        read_vector(&vectors[i], json_array_get_object_element(array, i));
        if (vectors[i].result == QDES_WIRE_OK) {
            taken[n_taken++] = i;
        }
    }
}

/* Bytes before the payload. */
static size_t header_size(const Vector *v)
{
    return v->superframe ? QDES_WIRE_SUPERFRAME_SIZE : QDES_WIRE_HEADER_SIZE;
}

static void free_vectors(void)
{
    int i;

    for (i = 0; i < n_vectors; i++) {
        g_free(vectors[i].name);
        g_free(vectors[i].data);
        g_free((void *)vectors[i].hello.relay_for);
    }
    g_free(vectors);
    g_free(taken);
}

/* A copy of exactly @size bytes; malloc(), as g_malloc(0) gives NULL. */
static uint8_t *exact_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size);

    ck_assert(copy != NULL || size == 0);
    if (size) {
        memcpy(copy, data, size);
    }
    return copy;
}

/* Of the last ECHO, ECHO-REPLY or PEERS that was decoded. */
static QdesEcho got_echo;
static QdesPeersMessage got_peers;

static void assert_same_exchange(const Vector *v)
{
    QdesEntry entry;
    unsigned i;

    if (v->type != QDES_WIRE_PEERS) {
        ck_assert_uint_eq(got_echo.nonce, v->echo.nonce);
        ck_assert(qdes_addr_equal(&got_echo.observed, &v->echo.observed));
        return;
    }
    ck_assert_int_eq(got_peers.is_request, v->is_request);
    ck_assert_mem_eq(&got_peers.digest, &v->digest, sizeof(v->digest));
    ck_assert_uint_eq(got_peers.known.size, v->known.size);
    if (v->known.size) {
        ck_assert_uint_eq(got_peers.known.parts, v->known.parts);
        ck_assert_uint_eq(got_peers.known.part, v->known.part);
        ck_assert_uint_eq(got_peers.known.salt, v->known.salt);
        ck_assert_mem_eq(got_peers.known.bits, v->filter, v->known.size);
    }
    ck_assert_uint_eq(got_peers.n_entries, v->n_entries);
    for (i = 0; i < v->n_entries; i++) {
        entry = qdes_control_entry(&got_peers, i);
        ck_assert_uint_eq(entry.instance, v->entries[i].instance);
        ck_assert(qdes_addr_equal(&entry.addr, &v->entries[i].addr));
    }
}

static size_t encode_exchange(uint8_t data[QDES_WIRE_CONTROL_MAX],
                              const Vector *v)
{
    if (v->type != QDES_WIRE_PEERS) {
        return qdes_control_encode_echo(data, v->type, v->netid, &v->echo);
    }
    return v->is_request ?
           qdes_control_encode_request(data, v->netid, &v->digest,
                                       &v->known) :
           qdes_control_encode_list(data, v->netid, v->entries,
                                    v->n_entries);
}

/* What a receiver makes of the whole datagram. */
static QdesWireResult decode(QdesWireHeader *header, QdesWireHello *hello,
                             const uint8_t *data, size_t size)
{
    QdesWireResult result;

    /* What is not written by the decoder must not look as if it were. */
    memset(header, 0xa5, sizeof(*header));
    memset(hello, 0xa5, sizeof(*hello));
    result = qdes_wire_decode(header, data, size);
    if (result != QDES_WIRE_OK) {
        return result;
    }
    switch (header->type) {
    case QDES_WIRE_DATA:
        return result;
    case QDES_WIRE_HELLO:
    case QDES_WIRE_BYE:
        return qdes_wire_decode_hello(hello, header);
    case QDES_WIRE_ECHO:
    case QDES_WIRE_ECHO_REPLY:
        return qdes_control_decode_echo(&got_echo, header);
    case QDES_WIRE_PEERS:
        return qdes_control_decode_peers(&got_peers, header);
    case QDES_WIRE_CHALLENGE:   /* never without a seal */
    case QDES_WIRE_RESPONSE:
        return QDES_WIRE_BAD_TYPE;
    }
    return result;
}

static void assert_result(const char *name, size_t size, QdesWireResult got,
                          QdesWireResult want)
{
    ck_assert_msg(got == want, "%s, %zu bytes: %s, not %s", name, size,
                  result_names[got], result_names[want]);
}

static void assert_same_hello(const QdesWireHello *got,
                              const QdesWireHello *want, QdesWireType type)
{
    ck_assert_uint_eq(got->instance, want->instance);
    if (type == QDES_WIRE_BYE) {
        return;
    }
    ck_assert_uint_eq(got->capabilities, want->capabilities);
    ck_assert_uint_eq(got->mtu, want->mtu);
    ck_assert_uint_eq(got->hold_time, want->hold_time);
    ck_assert_int_eq(got->group_heard, want->group_heard);
    ck_assert_uint_eq(got->n_relay_for, want->n_relay_for);
    if (want->n_relay_for) {
        ck_assert_mem_eq(got->relay_for, want->relay_for,
                         8 * want->n_relay_for);
    }
    ck_assert_str_eq(got->name, want->name);
}

START_TEST(test_vector)
{
    const Vector *v = &vectors[_i];
    uint8_t *data = exact_copy(v->data, v->size);
    QdesWireHeader header;
    QdesWireHello hello;

    assert_result(v->name, v->size,
                  decode(&header, &hello, data, v->size), v->result);
    if (v->sound) {
        ck_assert_msg(header.type == v->type, "%s: type %d", v->name,
                      header.type);
        ck_assert_msg(header.netid == v->netid, "%s: netid %u", v->name,
                      header.netid);
    }
    if (v->result == QDES_WIRE_OK) {
        ck_assert_ptr_eq(header.payload, data + header_size(v));
        ck_assert_uint_eq(header.payload_size, v->size - header_size(v));
        ck_assert_int_eq(header.superframe, v->superframe);
        ck_assert_uint_eq(header.segment_size, v->segment_size);
        if (v->type == QDES_WIRE_DATA) {
            ck_assert_uint_eq(header.payload_size, v->frame_size);
            ck_assert_int_eq(header.csum_partial, v->data[3] & 1);
            ck_assert_int_eq(header.relayed, v->data[3] >> 3 & 1);
        } else if (v->type >= QDES_WIRE_ECHO) {
            assert_same_exchange(v);
        } else {
            assert_same_hello(&hello, &v->hello, v->type);
        }
    }
    free(data);
}
END_TEST

/* A superframe stands for the packets that the vector tells of. */
START_TEST(test_describe_vector)
{
    const Vector *v = &vectors[taken[_i]];
    uint8_t *frame;
    QdesPacket packet;
    QdesVnet vnet;
    unsigned n = 1;
    bool v6;

    if (!v->superframe) {
        return;
    }
    frame = exact_copy(v->data + header_size(v), v->frame_size);
    ck_assert_msg(qdes_segment_describe(&vnet, &v6, frame, v->frame_size,
                                        v->segment_size), "%s", v->name);
    ck_assert(qdes_packet_find(&packet, frame, v->frame_size, v->frame_size,
                               false));
    if (vnet.gso != QDES_GSO_NONE) {
        n = (packet.end - packet.payload - 1) / vnet.gso_size + 1;
    }
    ck_assert_msg(n == v->packets, "%s: %u packets", v->name, n);
    free(frame);
}
END_TEST

static size_t encode_hello(uint8_t *data, const Vector *v)
{
    size_t size = qdes_wire_encode_hello(data, v->type, v->netid, &v->hello);
    uint64_t instances[QDES_WIRE_RELAY_MAX];
    unsigned i;

    for (i = 0; i < v->hello.n_relay_for; i++) {
        instances[i] = qdes_get_be64(v->hello.relay_for + 8 * i);
    }
    return v->hello.n_relay_for ?
           qdes_wire_add_relay_for(data, size, instances, i) : size;
}

START_TEST(test_encode_vector)
{
    const Vector *v = &vectors[taken[_i]];
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    QdesWireHeader header;
    QdesWireHello hello;
    size_t size = QDES_WIRE_HEADER_SIZE;

    if (v->superframe) {
        qdes_wire_encode_superframe(data, v->data[3] & QDES_WIRE_FLAG_RELAYED,
                                    v->segment_size, v->netid);
        ck_assert_mem_eq(data, v->data, header_size(v));
        return;
    }
    if (v->type == QDES_WIRE_DATA) {
        qdes_wire_encode_header(data, v->type, v->data[3], v->netid);
        ck_assert_mem_eq(data, v->data, size);
        return;
    }
    size = v->type >= QDES_WIRE_ECHO ? encode_exchange(data, v) :
           encode_hello(data, v);
    ck_assert_uint_le(size, sizeof(data));
    if (v->canonical) {
        ck_assert_msg(size == v->size && memcmp(data, v->data, size) == 0,
                      "%s: other bytes", v->name);
    }
    assert_result(v->name, size, decode(&header, &hello, data, size),
                  QDES_WIRE_OK);
    ck_assert_uint_eq(header.type, v->type);
    ck_assert_uint_eq(header.netid, v->netid);
    if (v->type >= QDES_WIRE_ECHO) {
        assert_same_exchange(v);
    } else {
        assert_same_hello(&hello, &v->hello, v->type);
    }
}
END_TEST

/* Mark where a control message may end: behind a TLV, the mandatory ones
 * seen. */
static void find_ends(const Vector *v, bool *may_end)
{
    size_t at = QDES_WIRE_HEADER_SIZE;
    uint32_t seen = 0;

    while (at < v->size) {
        if (v->data[at] == 0 && v->data[at + 1] < 32) {
            seen |= 1u << v->data[at + 1];
        }
        at += 4 + (v->data[at + 2] << 8 | v->data[at + 3]);
        switch (v->type) {
        case QDES_WIRE_ECHO:
            may_end[at] = (seen & 0x180) == 0x180 && at >= QDES_ECHO_SIZE;
            break;
        case QDES_WIRE_ECHO_REPLY:
            may_end[at] = (seen & 0x180) == 0x180;
            break;
        case QDES_WIRE_PEERS:
            may_end[at] = seen & 0x840;
            break;
        default:
            may_end[at] = seen & 2;
        }
    }
}

START_TEST(test_truncation)
{
    const Vector *v = &vectors[taken[_i]];
    bool *may_end = g_new0(bool, v->size + 1);
    QdesWireResult want;
    QdesWireHeader header;
    QdesWireHello hello;
    uint8_t *data;
    size_t size;

    if (v->type != QDES_WIRE_DATA) {
        find_ends(v, may_end);
    }
    for (size = 0; size < v->size; size++) {
        /* In the middle of a long frame, one byte is like the next. */
        if (size == 2048 && v->size > 4096) {
            size = v->size - 64;
        }
        if (size < QDES_WIRE_HEADER_SIZE) {
            want = QDES_WIRE_SHORT;
        } else if (v->type != QDES_WIRE_DATA) {
            want = may_end[size] ? QDES_WIRE_OK : QDES_WIRE_BAD_TLV;
        } else if (size < header_size(v) + QDES_FRAME_MIN) {
            want = QDES_WIRE_FRAME_SHORT;
        } else {
            want = QDES_WIRE_OK;
        }
        data = exact_copy(v->data, size);
        assert_result(v->name, size, decode(&header, &hello, data, size),
                      want);
        free(data);
    }
    g_free(may_end);
}
END_TEST

START_TEST(test_header_bytes)
{
    static const uint8_t want[] = {
        0x51, 0x44, 0x12, 0x00, 0xfe, 0xdc, 0xba, 0x98
    };
    uint8_t data[QDES_WIRE_HEADER_SIZE];

    memset(data, 0xff, sizeof(data));
    qdes_wire_encode_header(data, QDES_WIRE_BYE, 0, 0xfedcba98);
    ck_assert_mem_eq(data, want, sizeof(want));
}
END_TEST

/* Which flags go together, with which type, and how long the frame may be. */
START_TEST(test_superframe_flag)
{
    enum { ALL = QDES_WIRE_HEADER_SIZE + QDES_FRAME_MAX };
    uint8_t *data = calloc(1, ALL + 1);
    QdesWireHeader header;
    int type, flags;

    for (type = QDES_WIRE_DATA; type <= QDES_WIRE_BYE; type++) {
        for (flags = 0; flags < 256; flags++) {
            /* SUPERFRAME not without CSUM_PARTIAL. */
            bool good = flags == 0 || flags == 2 ||
                        (type == QDES_WIRE_DATA && flags < 16 &&
                         (flags & 5) != 4);

            qdes_wire_encode_header(data, type, flags, 0);
            ck_assert_int_eq(qdes_wire_decode(&header, data, 100) !=
                             QDES_WIRE_BAD_FLAGS, good);
        }
    }
    qdes_wire_encode_superframe(data, 0, 0xfedc, 7);
    ck_assert_mem_eq(data, "\x51\x44\x10\x05\0\0\0\x07\xfe\xdc", 10);
    ck_assert_int_eq(qdes_wire_decode(&header, data, 23),
                     QDES_WIRE_FRAME_SHORT);
    ck_assert_int_eq(qdes_wire_decode(&header, data, ALL + 1),
                     QDES_WIRE_FRAME_LONG);
    ck_assert_int_eq(qdes_wire_decode(&header, data, ALL), QDES_WIRE_OK);
    ck_assert_uint_eq(header.payload_size, QDES_FRAME_MAX - 2);
    ck_assert_int_eq(qdes_wire_decode(&header, data, 24), QDES_WIRE_OK);
    ck_assert_uint_eq(header.segment_size, 0xfedc);
    ck_assert_ptr_eq(header.payload, data + 10);
    ck_assert_uint_eq(header.payload_size, 14);
    ck_assert(header.csum_partial && header.superframe);
    free(data);
}
END_TEST

/* The longest HELLO fits, and leaves alone what is behind it. */
START_TEST(test_longest_hello)
{
    QdesWireHello hello = {
        .instance = UINT64_MAX,
        .capabilities = UINT32_MAX,
        .mtu = UINT32_MAX,
        .hold_time = UINT16_MAX,
        .group_heard = QDES_GROUP_HEARD,
    };
    uint8_t *data = malloc(QDES_WIRE_HELLO_SIZE);
    QdesWireHeader header;
    QdesWireHello got;
    size_t size;

    memset(hello.name, 'n', QDES_NAME_MAX);
    memset(data, 0x5a, QDES_WIRE_HELLO_SIZE);
    size = qdes_wire_encode_hello(data, QDES_WIRE_HELLO, 7, &hello);
    ck_assert_uint_eq(size, 8 + 12 + 8 + 8 + 4 + QDES_NAME_MAX + 6 + 5);
    ck_assert_uint_eq(decode(&header, &got, data, size), QDES_WIRE_OK);
    assert_same_hello(&got, &hello, QDES_WIRE_HELLO);
    for (; size < QDES_WIRE_HELLO_SIZE; size++) {
        ck_assert_uint_eq(data[size], 0x5a);
    }
    free(data);
}
END_TEST

/* A BYE says who ends, and nothing else. */
START_TEST(test_bye_has_the_instance_alone)
{
    QdesWireHello hello = {
        .instance = 1, .capabilities = 1, .mtu = 1, .hold_time = 1,
        .name = "vm1",
    };
    uint8_t data[QDES_WIRE_HELLO_SIZE];

    ck_assert_uint_eq(qdes_wire_encode_hello(data, QDES_WIRE_BYE, 0, &hello),
                      8 + 12);
}
END_TEST

/* Random numbers, some of them with few bits. */
static uint64_t draw(GRand *rng, unsigned bits)
{
    uint64_t value = (uint64_t)g_rand_int(rng) << 32 | g_rand_int(rng);

    switch (g_rand_int_range(rng, 0, 4)) {
    case 0:
        return 0;
    case 1:
        value &= 0xff;
        break;
    default:
        break;
    }
    return bits == 64 ? value : value & ((UINT64_C(1) << bits) - 1);
}

START_TEST(test_random_hellos)
{
    GRand *rng = unit_rand("random_hellos");
    uint8_t data[QDES_WIRE_HELLO_SIZE];
    QdesWireHello hello, got;
    QdesWireHeader header;
    QdesWireType type;
    uint32_t netid;
    size_t size, n;
    int i;

    for (i = 0; i < N_RANDOM; i++) {
        memset(&hello, 0, sizeof(hello));
        hello.instance = draw(rng, 64) | 1;
        hello.capabilities = draw(rng, 32);
        hello.mtu = draw(rng, 32);
        hello.hold_time = draw(rng, 16);
        hello.group_heard = draw(rng, 16) % 3;
        n = draw(rng, 16) % (QDES_NAME_MAX + 1);
        while (n-- > 0) {
            hello.name[n] = g_rand_int_range(rng, ' ', '~' + 1);
        }
        netid = draw(rng, 32);
        type = g_rand_boolean(rng) ? QDES_WIRE_HELLO : QDES_WIRE_BYE;
        size = qdes_wire_encode_hello(data, type, netid, &hello);
        ck_assert_uint_eq(decode(&header, &got, data, size), QDES_WIRE_OK);
        ck_assert_uint_eq(header.type, type);
        ck_assert_uint_eq(header.netid, netid);
        assert_same_hello(&got, &hello, type);
    }
    g_rand_free(rng);
}
END_TEST

/*
 * Whatever becomes of a datagram on its way, the decoder reads nothing past
 * its end, names are fit to be shown, and nothing malformed is taken.
 */
START_TEST(test_random_changes)
{
    GRand *rng = unit_rand("random_changes");
    QdesWireHeader header;
    QdesWireHello hello;
    QdesWireResult result;
    const Vector *v;
    const char *p;
    uint8_t *data;
    size_t size;
    int i, n;

    for (i = 0; i < N_RANDOM; i++) {
        v = &vectors[g_rand_int_range(rng, 0, n_vectors)];
        size = v->size;
        if (g_rand_boolean(rng)) {
            size = g_rand_int_range(rng, 0, v->size + 1);
        }
        if (size > 2 * QDES_WIRE_CONTROL_MAX) {
            continue;
        }
        data = exact_copy(v->data, size);
        for (n = g_rand_int_range(rng, 0, 4); n > 0 && size > 2; n--) {
            data[g_rand_int_range(rng, 2, size)] = g_rand_int(rng);
        }
        result = decode(&header, &hello, data, size);
        ck_assert_uint_le(result, QDES_WIRE_BAD_TLV);
        if (result == QDES_WIRE_OK) {
            ck_assert_ptr_eq(header.payload + header.payload_size,
                             data + size);
            for (n = 0; header.type == QDES_WIRE_PEERS &&
                 n < (int)got_peers.n_entries; n++) {
                qdes_control_entry(&got_peers, n);
            }
            if (header.type == QDES_WIRE_HELLO ||
                header.type == QDES_WIRE_BYE) {
                ck_assert_uint_ne(hello.instance, 0);
                ck_assert(memchr(hello.name, 0, sizeof(hello.name)));
                ck_assert(g_utf8_validate(hello.name, -1, NULL));
                for (p = hello.name; *p; p = g_utf8_next_char(p)) {
                    ck_assert(!g_unichar_iscntrl(g_utf8_get_char(p)));
                }
            }
        }
        free(data);
    }
    g_rand_free(rng);
}
END_TEST

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : g_getenv("QDES_VECTORS");
    Suite *suite = suite_create("wire");
    TCase *tc;
    int status;

    if (!path) {
        bail_out("give the path of vectors.json as argument or in "
                 "QDES_VECTORS");
    }
    load_vectors(path);

    tc = tcase_create("vectors");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_vector, 0, n_vectors);
    tcase_add_loop_test(tc, test_describe_vector, 0, n_taken);
    tcase_add_loop_test(tc, test_encode_vector, 0, n_taken);
    tcase_add_loop_test(tc, test_truncation, 0, n_taken);
    suite_add_tcase(suite, tc);

    tc = tcase_create("codec");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_header_bytes);
    tcase_add_test(tc, test_superframe_flag);
    tcase_add_test(tc, test_longest_hello);
    tcase_add_test(tc, test_bye_has_the_instance_alone);
    tcase_add_test(tc, test_random_hellos);
    tcase_add_test(tc, test_random_changes);
    suite_add_tcase(suite, tc);

    status = unit_main(suite);
    free_vectors();
    return status;
}
