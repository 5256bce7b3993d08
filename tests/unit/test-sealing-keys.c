/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sealing: keys change, and sessions end, while frames pass. */

#include "sealed-port.h"

static void change(Port *p, int new, int old)
{
    QdesSecret n = secret(new), o = secret(old);
    GError *err = NULL;

    ck_assert_msg(qdes_fabric_set_secrets(p->fabric, &n, &o, now, &err),
                  "%s", err ? err->message : "");
}

static uint32_t next_number = 5000;

/* Floods and unicast from all to all, none lost, none twice. */
static void pass_all(Port **ports, int n)
{
    uint32_t begin = next_number;
    uint32_t number;
    int i, j;

    for (i = 0; i < n; i++) {
        ck_assert(flood(ports[i], 1 + i, next_number++));
        for (j = 0; j < n; j++) {
            if (j != i) {
                ck_assert(send_number(ports[i], 1 + j, 1 + i, next_number++,
                                      60));
            }
        }
    }
    for (i = 0, number = begin; i < n; i++) {
        for (j = 0; j < n; j++) {
            if (j != i) {
                WAIT(ports, n, got(ports[j], number));
                ck_assert_uint_eq(got(ports[j], number), 1);
            }
        }
        number++;
        for (j = 0; j < n; j++) {
            if (j != i) {
                WAIT(ports, n, got(ports[j], number));
                ck_assert_uint_eq(got(ports[j], number), 1);
                number++;
            }
        }
    }
}

/* A fleet of three changes its key, one port after the other. */
START_TEST(test_change_of_keys)
{
    Port *ports[3] = { open_sealed("a", 0, -1), open_sealed("b", 0, -1),
                       open_sealed("c", 0, -1) };
    QdesStatus *status;
    int i, j;

    WAIT(ports, 3, all_proven(ports, 3));
    pass_all(ports, 3);
    for (i = 0; i < 6; i++) {
        pass_all(ports, 3);
        change(ports[i % 3], 1, i < 3 ? 0 : -1);
        pass_all(ports, 3);
        for (j = 0; j < 5; j++) {
            tick(ports, 3, 250);
            serve(ports, 3);
            pass_all(ports, 3);
        }
        status = qdes_fabric_status(ports[0]->fabric, now);
        ck_assert_int_eq(status->seal.changing, i < 3);
        ck_assert_int_eq(status->seal.flooding_old, i < 2);
        qdes_status_free(status);
    }
    for (j = 0; j < 20; j++) {
        tick(ports, 3, 250);
        pass_all(ports, 3);
    }
    for (i = 0; i < 3; i++) {
        ck_clean(ports[i]);
        ck_assert_uint_eq(C(ports[i], peers_expired), 0);
        status = qdes_fabric_status(ports[i]->fabric, now);
        ck_assert_uint_eq(status->seal.sessions, 2);
        qdes_status_free(status);
    }
    close_all(ports, 3);
}
END_TEST

/* A port that comes late meets those that are in the midst of it. */
START_TEST(test_late_comers)
{
    Port *ports[4] = { open_sealed("both", 1, 0), open_sealed("too", 1, 0) };

    WAIT(ports, 2, all_proven(ports, 2));
    ports[2] = open_sealed("old", 0, -1);
    WAIT(ports, 3, all_proven(ports, 3));
    tick(ports, 3, 1000);
    serve(ports, 3);
    pass_all(ports, 3);
    port_close(ports[2]);
    serve(ports, 2);
    tick(ports, 2, 1000);
    ports[2] = open_sealed("new", 1, -1);
    WAIT(ports, 3, C(ports[2], peers_proven) == 2 &&
                   C(ports[0], peers_proven) == 3);
    tick(ports, 3, 1000);
    pass_all(ports, 3);
    close_all(ports, 3);
}
END_TEST

START_TEST(test_bad_changes)
{
    QdesSecret none = secret(-1), a = secret(0), b = secret(1);
    QdesSecret brief = { "short", 5 };
    QdesOptions options = { .name = "plain" };
    Port *p = open_sealed("a", 0, -1);
    Port *plain = open_with(&options, false);
    const struct {
        Port *port;
        QdesSecret *new, *old;
        const char *says;
    } cases[] = {
        { plain, &a, NULL, "start it with secret=" },
        { p, &none, NULL, "must be given" },
        { p, &brief, NULL, "must have 16 to 4096" },
        { p, &b, &brief, "must have 16 to 4096" },
        { p, &a, &a, "is the same" },
    };
    QdesStatus *status = qdes_fabric_status(p->fabric, now);
    uint32_t id = status->seal.key_id;
    size_t i;

    qdes_status_free(status);
    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        GError *err = NULL;

        ck_assert(!qdes_fabric_set_secrets(cases[i].port->fabric,
                                           cases[i].new, cases[i].old, now,
                                           &err));
        ck_assert_msg(strstr(err->message, cases[i].says) != NULL, "%s",
                      err->message);
        g_error_free(err);
    }
    status = qdes_fabric_status(p->fabric, now);
    ck_assert_uint_eq(status->seal.key_id, id);
    qdes_status_free(status);
    port_close(p);
    port_close(plain);
}
END_TEST

/* Sessions end, by number, bytes or time, and frames go on. */
START_TEST(test_rekey)
{
    Port *ports[3];
    int i;

    limits = (QdesSealLimits) { .datagrams = _i == 0 ? 60 : 0,
                                .bytes = _i == 1 ? 5000 : 0,
                                .ms = _i == 2 ? 5000 : 0 };
    ports[0] = open_sealed("a", 0, -1);
    ports[1] = open_sealed("b", 0, -1);
    ports[2] = open_sealed("c", 0, -1);
    WAIT(ports, 3, all_proven(ports, 3));
    pass_all(ports, 3);
    for (i = 0; i < 60; i++) {
        tick(ports, 3, 500);
        pass_all(ports, 3);
    }
    for (i = 0; i < 3; i++) {
        ck_assert_uint_ge(C(ports[i], tx_rekeyed), 2);
        ck_assert_uint_ge(C(ports[i], sessions_accepted), 6);
        ck_clean(ports[i]);
        ck_assert_uint_eq(C(ports[i], tx_drop_error), 0);
    }
    close_all(ports, 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sealing-keys");
    TCase *tc = tcase_create("sealing-keys");

    tcase_add_checked_fixture(tc, begin, NULL);
    tcase_add_test(tc, test_change_of_keys);
    tcase_add_test(tc, test_late_comers);
    tcase_add_test(tc, test_bad_changes);
    tcase_add_loop_test(tc, test_rekey, 0, 3);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
