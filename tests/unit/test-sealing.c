/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sealing: what goes between the ports of a sealed fabric. */

#include "sealed-port.h"

enum { PLAIN_A = 1, PLAIN_B = 2, CHACHA = 4, ALL_PAIRS = 8 };

START_TEST(test_pairs)
{
    QdesOptions a = { .name = "a", .secret = secret(0),
                      .cipher = _i & CHACHA ? "chacha20-poly1305" : NULL };
    QdesOptions b = { .name = "b", .secret = secret(0),
                      .cipher = "aes-256-gcm" };
    Port *ports[2] = { open_with(&a, _i & PLAIN_A),
                       open_with(&b, _i & PLAIN_B) };
    QdesStatus *status;
    g_autofree char *text = NULL;
    int i;

    WAIT(ports, 2, all_proven(ports, 2));
    ck_assert(flood(ports[0], 1, 100));
    ck_assert(flood(ports[1], 2, 200));
    WAIT(ports, 2, got(ports[0], 200) && got(ports[1], 100));
    for (i = 0; i < 300; i++) {
        ck_assert(send_number(ports[0], 2, 1, 1000 + i, 60 + 4 * i));
        ck_assert(send_number(ports[1], 1, 2, 2000 + i, 60 + 4 * i));
        WAIT(ports, 2, got(ports[0], 2000 + i) && got(ports[1], 1000 + i));
    }
    ck_assert_uint_eq(C(ports[0], tx_unicast), 300);
    ck_assert_uint_eq(C(ports[0], sessions_accepted), 1);
    ck_assert_uint_eq(C(ports[1], sessions_accepted), 1);
    ck_clean(ports[0]);
    ck_clean(ports[1]);
    status = qdes_fabric_status(ports[1]->fabric, now);
    ck_assert(status->seal.sealed && !status->seal.changing);
    ck_assert_uint_eq(status->seal.sessions, 1);
    text = qdes_status_text(status, "");
    ck_assert(strstr(text, "sealed by aes-256-gcm, key "));
    qdes_status_free(status);
    close_all(ports, 2);
}
END_TEST

/* A train, and one that is cut by a port that becomes full in its midst. */
START_TEST(test_trains)
{
    Port *ports[2] = { open_sealed("a", 0, -1), open_sealed("b", 0, -1) };
    uint8_t frame[100] = { 0 };
    struct iovec iov = { frame, sizeof(frame) };
    int i;

    WAIT(ports, 2, all_proven(ports, 2));
    ck_assert(flood(ports[1], 2, 1));
    WAIT(ports, 2, got(ports[0], 1));
    unit_mac(frame, 2);
    unit_mac(frame + 6, 1);
    for (i = 0; i < 60; i++) {
        qdes_put_be32(frame + 14, 1000 + i);
        ck_assert(qdes_fabric_send(ports[0]->fabric, &iov, 1, now));
    }
    ports[1]->verdict = _i ? QDES_DELIVERED_FULL : QDES_DELIVERED;
    qdes_fabric_flush(ports[0]->fabric, now);
    if (_i) {
        for (i = 0; i < 60; i++) {
            WAIT(ports, 2, ports[1]->frames->len == (guint)i + 1);
            qdes_fabric_resume(ports[1]->fabric, now);
        }
    }
    WAIT(ports, 2, ports[1]->frames->len == 60);
    for (i = 0; i < 60; i++) {
        ck_assert_uint_eq(got(ports[1], 1000 + i), 1);
    }
    ck_assert_uint_ge(C(ports[0], tx_trains), 1);
    ck_clean(ports[1]);
    close_all(ports, 2);
}
END_TEST

START_TEST(test_superframes)
{
    Port *ports[2] = { open_sealed("a", 0, -1), open_sealed("b", 0, -1) };
    bool takes = _i & 1;
    int i;

    ports[0]->fabric->config.superframes = _i & 2;
    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    if (takes) {
        qdes_fabric_set_port(ports[1]->fabric, &all_offloads);
    }
    WAIT(ports, 2, all_proven(ports, 2));
    meet(ports[0], ports[1], takes ? VNET : 0);
    for (i = 0; i < (int)G_N_ELEMENTS(kinds); i++) {
        make_kind(i);
        g_ptr_array_set_size(ports[1]->frames, 0);
        ck_assert(send_sample(ports[0]));
        qdes_fabric_flush(ports[0]->fabric, now);
        serve(ports, 2);
        serve(ports, 2);
        expect(ports[1], takes ? VNET : 0);
    }
    ck_clean(ports[1]);
    close_all(ports, 2);
}
END_TEST

/* The socket fills up in the midst of superframes, and of the batch. */
START_TEST(test_full_sockets)
{
    QdesOptions a = { .name = "a", .secret = secret(0), .has_gso = true,
                      .gso = _i == 0 };
    Port *ports[2] = { open_with(&a, false), open_sealed("b", 0, -1) };
    int i;

    qdes_fabric_set_port(ports[0]->fabric, &all_offloads);
    qdes_fabric_set_port(ports[1]->fabric, &all_offloads);
    WAIT(ports, 2, all_proven(ports, 2));
    meet(ports[0], ports[1], VNET);
    /* But for the crumbs, for which there is no room to wait. */
    for (i = 0; i < (int)G_N_ELEMENTS(kinds) - 1; i++) {
        make_kind(i);
        g_ptr_array_set_size(ports[1]->frames, 0);
        ports[0]->fabric->config.superframes = false;
        fault.err = EAGAIN;
        fault.after = 7 * _i;
        fault.times = 1;
        while (!send_sample(ports[0])) {
            WAIT(ports, 2, ports[0]->writable > 0);
            ports[0]->writable = 0;
        }
        qdes_fabric_flush(ports[0]->fabric, now);
        WAIT(ports, 2, !ports[0]->fabric->blocked &&
                       !qdes_fabric_has_batch(ports[0]->fabric));
        serve(ports, 2);
        serve(ports, 2);
        expect(ports[1], VNET);
        fault.times = 0;
        fault.err = 0;
    }
    ck_assert_uint_ge(C(ports[0], tx_blocked), 1);
    ck_clean(ports[1]);
    close_all(ports, 2);
}
END_TEST

/* Each gets a frame once, be it by the group or as a copy. */
START_TEST(test_copies)
{
    Port *ports[4] = {
        open_sealed("a", 0, -1), open_sealed("b", 0, -1),
        open_sealed("c", 0, -1), open_sealed("d", 0, -1),
    };
    uint32_t slot = QDES_PEER_NONE;
    int i, j;

    WAIT(ports, 4, all_proven(ports, 4));
    ports[0]->fabric->config.has_group = false;
    while ((slot = qdes_peers_next(ports[0]->fabric->peers, slot)) !=
           QDES_PEER_NONE) {
        qdes_peers_set_copy(ports[0]->fabric->peers, slot, true);
    }
    for (i = 0; i < 20; i++) {
        ck_assert(send_number(ports[0], 0, 1, i + 1, i % 3 ? 60 : 1400));
    }
    for (i = 0; i < 20; i++) {
        for (j = 1; j < 4; j++) {
            WAIT(ports, 4, got(ports[j], i + 1));
            ck_assert_uint_eq(got(ports[j], i + 1), 1);
        }
    }
    ck_assert_uint_eq(C(ports[0], tx_copies), 60);
    for (j = 1; j < 4; j++) {
        ck_clean(ports[j]);
    }
    close_all(ports, 4);
}
END_TEST

/* What comes before a session is accepted is held, and not lost. */
START_TEST(test_held)
{
    Port *a = open_sealed("a", 0, -1);
    Port *ports[2] = { a, NULL };
    int i;

    ports[1] = open_sealed("b", 0, -1);
    /* Nobody has read anything yet. */
    for (i = 0; i < 40; i++) {
        ck_assert(flood(ports[1], 2, 1 + i));
    }
    for (i = 0; i < 40; i++) {
        WAIT(ports, 2, got(a, 1 + i));
        ck_assert_uint_eq(got(a, 1 + i), 1);
    }
    ck_assert_uint_eq(C(a, rx_drop_session), 0);
    ck_assert_uint_eq(C(a, rx_drop_replay), 0);
    WAIT(ports, 2, all_proven(ports, 2));
    close_all(ports, 2);
}
END_TEST

/* The same, into a port that takes one frame at a time. */
START_TEST(test_held_and_full)
{
    Port *ports[2] = { open_sealed("a", 0, -1), open_sealed("b", 0, -1) };
    int i;

    ports[0]->verdict = QDES_DELIVERED_FULL;
    for (i = 0; i < 40; i++) {
        ck_assert(send_number(ports[1], 0, 2, 1 + i, i % 2 ? 60 : 1000));
    }
    for (i = 0; i < 40; i++) {
        WAIT(ports, 2, ports[0]->frames->len == (guint)i + 1);
        qdes_fabric_resume(ports[0]->fabric, now);
    }
    for (i = 0; i < 40; i++) {
        ck_assert_uint_eq(got(ports[0], 1 + i), 1);
    }
    close_all(ports, 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sealing");
    TCase *tc = tcase_create("sealing");

    tcase_add_checked_fixture(tc, begin, NULL);
    tcase_add_loop_test(tc, test_pairs, 0, ALL_PAIRS);
    tcase_add_loop_test(tc, test_trains, 0, 2);
    tcase_add_loop_test(tc, test_superframes, 0, 4);
    tcase_add_loop_test(tc, test_full_sockets, 0, 4);
    tcase_add_test(tc, test_copies);
    tcase_add_test(tc, test_held);
    tcase_add_test(tc, test_held_and_full);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
