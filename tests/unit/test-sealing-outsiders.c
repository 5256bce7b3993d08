/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sealing: with a member that the test plays itself, who knows the secret and
 * does what no port would do; and with such as have no secret, or another one
 */

#include "sealed-port.h"

/* What the test itself sends and hears */

typedef struct Outsider {
    int fd;
    QdesSealKey key;
    QdesSealSender sender;
    unsigned challenges;        /* that it got */
    QdesChallenge challenge;    /* the last one */
} Outsider;

static void outsider_open(Outsider *o, int which, uint64_t session)
{
    struct sockaddr_in to = { .sin_family = AF_INET };
    QdesSecret s = secret(which);

    memset(o, 0, sizeof(*o));
    o->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    to.sin_addr.s_addr = inet_addr(loopback);
    ck_assert_int_eq(bind(o->fd, (struct sockaddr *)&to, sizeof(to)), 0);
    ck_assert(qdes_seal_key_init(&o->key, s.data, s.size, 0));
    ck_assert(qdes_seal_sender_begin(&o->sender, &o->key,
                                     QDES_SEAL_AES_256_GCM, session, now));
}

static void outsider_close(Outsider *o)
{
    close(o->fd);
    qdes_seal_sender_end(&o->sender);
}

static void send_raw(Outsider *o, Port *p, const void *data, size_t size)
{
    QdesAddr local = qdes_underlay_local(p->fabric->underlay);
    struct sockaddr_storage ss;
    socklen_t len = qdes_addr_to_sockaddr(&local, &ss);

    ck_assert_int_eq(sendto(o->fd, data, size, 0, (struct sockaddr *)&ss,
                            len), size);
}

/* Seal the plain datagram in @data, and send it to @p. */
static size_t send_sealed(Outsider *o, Port *p, uint8_t *data, size_t size)
{
    ck_assert(qdes_seal(&o->sender, QDES_SEAL_UNICAST, data, size, now));
    send_raw(o, p, data, size + QDES_SEAL_OVERHEAD);
    return size + QDES_SEAL_OVERHEAD;
}

/* A sealed DATA with a number; returns its bytes. */
static size_t send_data(Outsider *o, Port *p, uint8_t data[200],
                        uint32_t number)
{
    uint8_t *plain = data + QDES_SEAL_LEAD;

    memset(data, 0, 200);
    qdes_wire_encode_header(plain, QDES_WIRE_DATA, 0, 0);
    memset(plain + 8, 0xff, 6);
    unit_mac(plain + 14, 99);
    qdes_put_be32(plain + 8 + 14, number);
    return send_sealed(o, p, data, 68);
}

/* Open what came for @o; counts CHALLENGEs. */
static void outsider_read(Outsider *o, Port *p)
{
    QdesSealSessions *sessions = qdes_seal_sessions_new(4, 4);
    uint8_t data[2000];
    QdesWireHeader header;
    QdesSealHead head;
    ssize_t size;

    serve(&p, 1);
    while ((size = recv(o->fd, data, sizeof(data), 0)) > 0) {
        ck_assert_int_ge(size, QDES_SEAL_MIN);
        qdes_seal_read_head(&head, data);
        ck_assert(qdes_seal_sessions_find(sessions, &head) ||
                  qdes_seal_sessions_try(sessions, &o->key, &head, data, size,
                                         0, now));
        header.type = data[2] & 15;
        header.payload = data + QDES_SEAL_HEADER;
        header.payload_size = size - QDES_SEAL_MIN;
        if (header.type == QDES_WIRE_CHALLENGE) {
            ck_assert_int_eq(qdes_control_decode_challenge(&o->challenge,
                                                           &header),
                             QDES_WIRE_OK);
            o->challenges++;
        }
        qdes_seal_sessions_free(sessions);
        sessions = qdes_seal_sessions_new(4, 4);
    }
    qdes_seal_sessions_free(sessions);
}

static void respond(Outsider *o, Port *p, uint64_t floor)
{
    QdesChallenge response = {
        .nonce = o->challenge.nonce, .numbers = { floor, 0 },
    };
    uint8_t data[200];

    qdes_control_encode_challenge(data + QDES_SEAL_LEAD, QDES_WIRE_RESPONSE,
                                  0, &response);
    send_sealed(o, p, data, QDES_RESPONSE_SIZE);
}

#define READ(o, p, cond) UNTIL(cond, outsider_read(o, p))

/* Join the group, to see what is flooded. */
static int sniff(void)
{
    struct sockaddr_storage ss;
    struct ip_mreqn mreq = { .imr_ifindex = 1 };
    QdesAddr addr;
    socklen_t len;
    int one = 1;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    ck_assert(qdes_addr_parse(&addr, group, 0, NULL));
    len = qdes_addr_to_sockaddr(&addr, &ss);
    mreq.imr_multiaddr = ((struct sockaddr_in *)&ss)->sin_addr;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&ss, len), 0);
    ck_assert_int_eq(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mreq,
                                sizeof(mreq)), 0);
    return fd;
}

/* Tests */

/* What was recorded before a receiver started is not taken by it, nor what it
 * has taken before, whether to the group or to it alone. */
START_TEST(test_replay)
{
    Port *ports[2] = { open_sealed("a", 0, -1), open_sealed("b", 0, -1) };
    static struct {
        uint8_t data[2000];
        ssize_t size;
    } heard[50];
    struct sockaddr_storage ss;
    QdesAddr addr;
    socklen_t len;
    Outsider o;
    int n = 0, i, fd = sniff();
    uint64_t before;

    outsider_open(&o, 2, 77);
    WAIT(ports, 2, all_proven(ports, 2));
    for (i = 0; i < 20; i++) {
        ck_assert(flood(ports[0], 1, 100 + i));
    }
    WAIT(ports, 2, got(ports[1], 119));
    while (n < 50 && (heard[n].size = recv(fd, heard[n].data, 2000, 0)) > 0) {
        n++;
    }
    ck_assert_int_ge(n, 20);

    ck_assert(qdes_addr_parse(&addr, group, 0, NULL));
    len = qdes_addr_to_sockaddr(&addr, &ss);
    before = C(ports[1], rx_drop_replay);
    for (i = 0; i < n; i++) {
        sendto(o.fd, heard[i].data, heard[i].size, 0, (struct sockaddr *)&ss,
               len);
        send_raw(&o, ports[1], heard[i].data, heard[i].size);
    }
    /* Those of the port itself count as such. */
    WAIT(ports, 2, C(ports[1], rx_drop_replay) + C(ports[1], rx_drop_own) ==
                   before + 2 * n);
    ck_assert_uint_ge(C(ports[1], rx_drop_replay), 40);
    for (i = 0; i < 20; i++) {
        ck_assert_uint_eq(got(ports[1], 100 + i), 1);
    }

    /* A new port: the sender is alive, and what it is asked about now is what
     * it sent then. */
    port_close(ports[1]);
    now += 100;
    ports[1] = open_sealed("b", 0, -1);
    for (i = 0; i < n; i++) {
        send_raw(&o, ports[1], heard[i].data, heard[i].size);
    }
    serve(ports, 2);
    ck_assert(flood(ports[0], 1, 500));
    WAIT(ports, 2, got(ports[1], 500));
    for (i = 0; i < 20; i++) {
        ck_assert_uint_eq(got(ports[1], 100 + i), 0);
    }
    ck_assert_uint_ge(C(ports[1], rx_drop_replay), 20);
    tick(ports, 2, 2000);
    ck_assert_uint_eq(C(ports[1], sessions_accepted), 1);
    outsider_close(&o);
    close(fd);
    close_all(ports, 2);
}
END_TEST

/* Nobody is told more bytes than came, and nobody is believed before. */
START_TEST(test_challenge)
{
    Port *p = open_sealed("a", 0, -1);
    uint8_t data[200], copy[200];
    Outsider o, other;
    size_t size;

    outsider_open(&o, 0, 1000);
    outsider_open(&other, 0, 2000);
    size = send_data(&o, p, data, 1);
    memcpy(copy, data, size);
    READ(&o, p, o.challenges == 1);
    ck_assert_uint_eq(o.challenge.session, o.sender.session);
    ck_assert_uint_eq(o.challenge.age, 9);    /* that have surely passed */
    ck_assert_uint_eq(p->frames->len, 0);

    /* Asked once, for all that comes at once. */
    send_data(&o, p, data, 2);
    send_data(&o, p, data, 3);
    outsider_read(&o, p);
    outsider_read(&o, p);
    outsider_read(&o, p);
    ck_assert_uint_eq(o.challenges, 1);

    /* Another nonce, and a right one from another endpoint. */
    o.challenge.nonce ^= 1;
    respond(&o, p, 0);
    o.challenge.nonce ^= 1;
    READ(&o, p, C(p, rx_drop_session) == 1);
    other.sender.session = o.sender.session;
    other.challenge = o.challenge;
    qdes_seal_sender_end(&other.sender);
    ck_assert(qdes_seal_sender_begin(&other.sender, &other.key,
                                     QDES_SEAL_AES_256_GCM, 1000, now));
    other.sender.next[QDES_SEAL_UNICAST] = 100;
    respond(&other, p, 0);
    READ(&o, p, C(p, rx_drop_session) == 2);
    /* One that contradicts itself, and a late one. */
    respond(&o, p, 1000);
    READ(&o, p, C(p, rx_drop_session) == 3);
    now += 5001;
    respond(&o, p, 0);
    READ(&o, p, C(p, rx_drop_session) == 4);
    ck_assert_uint_eq(C(p, sessions_accepted), 0);
    ck_assert_uint_eq(p->frames->len, 0);
    qdes_fabric_tick(p->fabric, now);
    ck_assert_uint_eq(C(p, rx_drop_session), 7);    /* those held, too */

    /* The right one; numbers up to 8 were used before it began to listen. */
    send_data(&o, p, data, 9);
    READ(&o, p, o.challenges == 2);
    ck_assert_uint_eq(o.challenge.age, 1000);
    respond(&o, p, 6);
    READ(&o, p, C(p, sessions_accepted) == 1);
    ck_assert_uint_eq(C(p, rx_response), 1);
    ck_assert_uint_eq(C(p, peers_proven), 1);
    ck_assert_uint_eq(got(p, 9), 1);
    ck_assert_uint_eq(p->frames->len, 1);

    /* And what is older is not taken any more. */
    send_raw(&o, p, copy, size);
    READ(&o, p, C(p, rx_drop_replay) == 1);
    send_data(&o, p, data, 10);
    READ(&o, p, got(p, 10) == 1);
    send_raw(&o, p, data, 100);
    READ(&o, p, C(p, rx_drop_replay) == 2);
    ck_assert_uint_eq(C(p, rx_drop_seal), 0);
    outsider_close(&o);
    outsider_close(&other);
    port_close(p);
}
END_TEST

/* What is too short to pay for a CHALLENGE gets none. */
START_TEST(test_no_amplifier)
{
    Port *p = open_sealed("a", 0, -1);
    uint8_t data[200] = { 0 };
    Outsider o;

    outsider_open(&o, 0, 1000);
    qdes_wire_encode_header(data + QDES_SEAL_LEAD, QDES_WIRE_DATA, 0, 0);
    send_sealed(&o, p, data, QDES_CHALLENGE_SIZE - 1);
    while (C(p, sessions_accepted) == 0 &&
           p->fabric->rx.n == 0) {
        outsider_read(&o, p);
    }
    outsider_read(&o, p);
    ck_assert_uint_eq(C(p, tx_challenge), 0);
    memset(data, 0, sizeof(data));
    qdes_wire_encode_header(data + QDES_SEAL_LEAD, QDES_WIRE_DATA, 0, 0);
    send_sealed(&o, p, data, QDES_CHALLENGE_SIZE);
    READ(&o, p, o.challenges == 1);
    outsider_close(&o);
    qdes_fabric_tick(p->fabric, now += 2000);
    port_close(p);
}
END_TEST

/* Who sends again what a port asked that is gone gets no more than he sent. */
START_TEST(test_no_amplifier_of_questions)
{
    Port *p = open_sealed("a", 0, -1);
    QdesChallenge challenge = { .nonce = 1 };
    uint8_t data[200], answer[200];
    QdesSealHead head;
    ssize_t got_bytes = 0;
    Outsider o, gone;
    ssize_t size;

    outsider_open(&o, 0, 1000);
    outsider_open(&gone, 0, 2000);
    send_data(&o, p, data, 1);
    while (C(p, tx_challenge) == 0) {
        serve(&p, 1);
    }
    ck_assert_int_ge(recv(o.fd, answer, sizeof(answer), 0), QDES_SEAL_MIN);
    qdes_seal_read_head(&head, answer);

    challenge.session = head.session;
    qdes_control_encode_challenge(data + QDES_SEAL_LEAD, QDES_WIRE_CHALLENGE,
                                  0, &challenge);
    send_sealed(&gone, p, data, QDES_CHALLENGE_SIZE);
    READ(&o, p, C(p, rx_challenge) == 1);
    while ((size = recv(gone.fd, answer, sizeof(answer), 0)) > 0) {
        got_bytes += size;
    }
    ck_assert_int_eq(got_bytes, QDES_CHALLENGE_SIZE + QDES_SEAL_OVERHEAD);
    ck_assert_uint_eq(C(p, tx_response), 1);

    /* If it is about nobody, it is as all else is. */
    challenge.session ^= 2;
    qdes_control_encode_challenge(data + QDES_SEAL_LEAD, QDES_WIRE_CHALLENGE,
                                  0, &challenge);
    send_sealed(&gone, p, data, QDES_CHALLENGE_SIZE);
    READ(&o, p, C(p, challenge_unanswered) == 1);
    ck_assert_uint_eq(C(p, tx_challenge), 2);
    outsider_close(&o);
    outsider_close(&gone);
    qdes_fabric_tick(p->fabric, now += 2000);
    port_close(p);
}
END_TEST

/* Each kind of wrong datagram has its counter, and is said once. */
START_TEST(test_wrong)
{
    Port *p = open_sealed("a", 0, -1);
    uint8_t data[200], plain[68] = { 0 };
    uint32_t pseudonym;
    Outsider o, stranger;
    int i;

    outsider_open(&o, 0, 1000);
    outsider_open(&stranger, 2, 1000);
    pseudonym = o.key.pseudonym;

    for (i = 0; i < 2; i++) {
        qdes_wire_encode_header(plain, QDES_WIRE_DATA, 0, 0);
        send_raw(&o, p, plain, sizeof(plain));
        send_data(&stranger, p, data, 1);
    }
    READ(&o, p, C(p, rx_drop_plain) == 2 && C(p, rx_drop_netid) == 2);
    ck_assert(strstr(p->log->str, "does not seal what it sends"));
    ck_assert(strstr(p->log->str, "secret does not open"));

    /* Its name without its key. */
    qdes_seal_sender_end(&o.sender);
    stranger.key.pseudonym = pseudonym;
    ck_assert(qdes_seal_sender_begin(&o.sender, &stranger.key,
                                     QDES_SEAL_AES_256_GCM, 3000, now));
    send_data(&o, p, data, 1);
    READ(&o, p, C(p, rx_drop_seal) == 1);
    send_raw(&o, p, data, QDES_SEAL_MIN - 1);
    READ(&o, p, C(p, rx_drop_seal) == 2);
    send_raw(&o, p, "QD\x16\x00....", 8);
    READ(&o, p, C(p, rx_drop_magic) + C(p, rx_drop_type) +
                C(p, rx_drop_version) == 1);
    ck_assert_uint_eq(p->frames->len, 0);
    ck_assert_uint_eq(C(p, tx_challenge), 0);
    outsider_close(&o);
    outsider_close(&stranger);
    port_close(p);
}
END_TEST

/* A datagram that is not sealed, in the midst of those that are, with their
 * header. */
START_TEST(test_plain_among_sealed)
{
    Port *p = open_sealed("a", 0, -1);
    uint8_t data[200], plain[100] = { 0 };
    Outsider o;

    outsider_open(&o, 0, 1000);
    send_data(&o, p, data, 1);
    READ(&o, p, o.challenges == 1);
    respond(&o, p, 0);
    READ(&o, p, got(p, 1) == 1);
    qdes_wire_encode_header(plain, QDES_WIRE_DATA, 0, 0);
    memset(plain + 8, 0xff, 6);
    unit_mac(plain + 14, 98);
    send_data(&o, p, data, 2);
    send_raw(&o, p, plain, sizeof(plain));
    send_data(&o, p, data, 3);
    READ(&o, p, got(p, 2) == 1 && got(p, 3) == 1);
    ck_assert_uint_eq(p->frames->len, 3);
    ck_assert_uint_eq(C(p, rx_drop_plain), 1);
    outsider_close(&o);
    port_close(p);
}
END_TEST

/* With and without a secret, and with another one, all in one group. */
START_TEST(test_apart)
{
    QdesOptions plain = { .name = "plain" };
    Port *ports[4] = {
        open_sealed("a", 0, -1), open_sealed("b", 0, -1),
        open_with(&plain, _i), open_sealed("other", 2, -1),
    };
    int i;

    WAIT(ports, 4, C(ports[0], peers_proven) == 1 &&
                   C(ports[1], peers_proven) == 1);
    for (i = 0; i < 4; i++) {
        ck_assert(flood(ports[i], 1 + i, 100 + i));
    }
    WAIT(ports, 4, got(ports[0], 101) && got(ports[1], 100));
    WAIT(ports, 4, C(ports[0], rx_drop_plain) >= 1);
    WAIT(ports, 4, _i ? C(ports[2], rx_drop_sealed) >= 3 :
                        C(ports[2], rx_drop_kernel) >= 3);
    ck_assert_uint_eq(ports[0]->frames->len, 1);
    ck_assert_uint_eq(ports[1]->frames->len, 1);
    ck_assert_uint_eq(ports[2]->frames->len, 0);
    ck_assert_uint_eq(ports[3]->frames->len, 0);
    ck_assert_uint_eq(C(ports[3], peers_added), 0);
    close_all(ports, 4);
}
END_TEST

/* Of floods that are recorded nothing is learned from elsewhere. */
START_TEST(test_learns_of_proven_only)
{
    Port *p = open_sealed("a", 0, -1);
    struct sockaddr_storage ss;
    uint8_t data[200];
    QdesStatus *status;
    Outsider o, thief;
    QdesAddr addr;
    socklen_t len;

    outsider_open(&o, 0, 1000);
    outsider_open(&thief, 2, 2000);
    send_data(&o, p, data, 1);
    READ(&o, p, o.challenges == 1);
    respond(&o, p, 0);
    READ(&o, p, got(p, 1) == 1);
    status = qdes_fabric_status(p->fabric, now);
    ck_assert_uint_eq(status->n_macs, 1);
    qdes_status_free(status);

    /* One that did not arrive, sent to the group by somebody else. */
    memset(data, 0, sizeof(data));
    qdes_wire_encode_header(data + QDES_SEAL_LEAD, QDES_WIRE_DATA, 0, 0);
    memset(data + QDES_SEAL_HEADER, 0xff, 6);
    unit_mac(data + QDES_SEAL_HEADER + 6, 55);
    ck_assert(qdes_seal(&o.sender, QDES_SEAL_FLOODED, data, 68, now));
    ck_assert(qdes_addr_parse(&addr, group, 0, NULL));
    len = qdes_addr_to_sockaddr(&addr, &ss);
    ck_assert_int_eq(sendto(thief.fd, data, 100, 0, (struct sockaddr *)&ss,
                            len), 100);
    READ(&o, p, p->frames->len == 2);
    ck_assert_uint_eq(C(p, rx_unproven), 1);
    status = qdes_fabric_status(p->fabric, now);
    ck_assert_uint_eq(status->n_macs, 1);
    qdes_status_free(status);
    outsider_close(&o);
    outsider_close(&thief);
    port_close(p);
}
END_TEST

/* However many sessions are made up, memory has a bound. */
START_TEST(test_flood_of_sessions)
{
    Port *p = open_sealed("a", 0, -1);
    QdesStatus *status;
    uint8_t data[200];
    Outsider o;
    int i;

    outsider_open(&o, 0, 10);
    for (i = 0; i < 1000; i++) {
        qdes_seal_sender_end(&o.sender);
        ck_assert(qdes_seal_sender_begin(&o.sender, &o.key,
                                         QDES_SEAL_AES_256_GCM, 100 + 2 * i,
                                         now));
        send_data(&o, p, data, i);
        outsider_read(&o, p);
    }
    READ(&o, p, o.challenges == 1000);
    status = qdes_fabric_status(p->fabric, now);
    ck_assert_uint_eq(status->seal.pending, 256);
    ck_assert_uint_eq(status->seal.sessions, 0);
    qdes_status_free(status);
    ck_assert_uint_eq(C(p, rx_drop_session), 1000 - 128);
    qdes_fabric_tick(p->fabric, now += 2000);
    ck_assert_uint_eq(C(p, rx_drop_session), 1000);
    ck_assert_uint_eq(p->frames->len, 0);
    outsider_close(&o);
    port_close(p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sealing-outsiders");
    TCase *tc = tcase_create("sealing-outsiders");

    tcase_add_checked_fixture(tc, begin, NULL);
    tcase_add_test(tc, test_replay);
    tcase_add_test(tc, test_challenge);
    tcase_add_test(tc, test_no_amplifier);
    tcase_add_test(tc, test_no_amplifier_of_questions);
    tcase_add_test(tc, test_wrong);
    tcase_add_test(tc, test_plain_among_sealed);
    tcase_add_loop_test(tc, test_apart, 0, 2);
    tcase_add_test(tc, test_learns_of_proven_only);
    tcase_add_test(tc, test_flood_of_sessions);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
