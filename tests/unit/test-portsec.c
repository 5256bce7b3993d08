/* SPDX-License-Identifier: GPL-2.0-or-later */
/* portsec: the limit, ageing, claims, and a long random run against a model. */

#include "unit.h"

#include "qdes/portsec.h"

#define AGEING 10000            /* ms */
#define MODEL_MACS 40
#define MODEL_LISTED 5

static uint8_t (*list_of(int first, int n))[QDES_MAC_SIZE]
{
    static uint8_t listed[QDES_PORTSEC_LISTED][QDES_MAC_SIZE];
    int i;

    for (i = 0; i < n; i++) {
        unit_mac(listed[i], first + i);
    }
    return listed;
}

static QdesPortsec *portsec_of(int n, uint32_t max)
{
    return qdes_portsec_new((const uint8_t (*)[QDES_MAC_SIZE])list_of(0, n),
                            n, max, AGEING, 1);
}

static QdesPortsecVerdict check(QdesPortsec *ps, uint32_t mac, int64_t now)
{
    uint8_t buf[6];

    return qdes_portsec_check(ps, unit_mac(buf, mac), now);
}

static QdesPortsecClaim claim(QdesPortsec *ps, uint32_t mac)
{
    uint8_t buf[6];

    return qdes_portsec_claim(ps, unit_mac(buf, mac));
}

START_TEST(test_listed_only)
{
    QdesPortsec *ps = portsec_of(2, 0);
    uint8_t buf[6];

    ck_assert_int_eq(check(ps, 0, 0), QDES_PORTSEC_BACK);
    ck_assert_int_eq(check(ps, 0, 1), QDES_PORTSEC_ALLOWED);
    ck_assert_int_eq(check(ps, 1, 1), QDES_PORTSEC_BACK);
    ck_assert_int_eq(check(ps, 2, 1), QDES_PORTSEC_VIOLATION);
    ck_assert_int_eq(check(ps, 0, 100 * AGEING), QDES_PORTSEC_ALLOWED);
    ck_assert(qdes_portsec_lists(ps, unit_mac(buf, 1)));
    ck_assert(!qdes_portsec_lists(ps, unit_mac(buf, 2)));
    ck_assert_uint_eq(qdes_portsec_max(ps), 2);
    ck_assert_uint_eq(qdes_portsec_size(ps, 0), 2);
    ck_assert_uint_eq(qdes_portsec_n_listed(ps), 2);
    ck_assert_mem_eq(qdes_portsec_listed(ps, 1), unit_mac(buf, 1), 6);
    qdes_portsec_forget(ps, NULL);
    ck_assert_int_eq(check(ps, 0, 1), QDES_PORTSEC_ALLOWED);
    qdes_portsec_free(ps);
    qdes_portsec_free(NULL);
}
END_TEST

/* The first to come, until one of them is silent for long enough. */
START_TEST(test_first_come)
{
    QdesPortsec *ps = portsec_of(1, 3);
    static const uint8_t none[2][6] = { { 0 }, { 1 } };
    uint8_t buf[6];

    ck_assert_int_eq(check(ps, 7, 0), QDES_PORTSEC_ALLOWED);
    ck_assert_int_eq(check(ps, 8, 1000), QDES_PORTSEC_ALLOWED);
    ck_assert_int_eq(check(ps, 9, 1000), QDES_PORTSEC_VIOLATION);
    ck_assert_int_eq(check(ps, 0, 1000), QDES_PORTSEC_BACK);
    ck_assert_uint_eq(qdes_portsec_size(ps, 1000), 3);
    ck_assert_uint_eq(qdes_portsec_max(ps), 3);
    /* Nobody's address never takes a place. */
    qdes_portsec_forget(ps, unit_mac(buf, 8));
    ck_assert_int_eq(qdes_portsec_check(ps, none[0], 1000),
                     QDES_PORTSEC_VIOLATION);
    ck_assert_int_eq(qdes_portsec_check(ps, none[1], 1000),
                     QDES_PORTSEC_VIOLATION);
    ck_assert_int_eq(check(ps, 8, 1000), QDES_PORTSEC_ALLOWED);
    /* 7 ages out; who is refused keeps nobody's place. */
    ck_assert_int_eq(check(ps, 9, AGEING - 1), QDES_PORTSEC_VIOLATION);
    ck_assert_uint_eq(qdes_portsec_size(ps, AGEING), 2);
    ck_assert_int_eq(check(ps, 9, AGEING), QDES_PORTSEC_ALLOWED);
    ck_assert_int_eq(check(ps, 7, AGEING), QDES_PORTSEC_VIOLATION);
    qdes_portsec_forget(ps, NULL);
    ck_assert_uint_eq(qdes_portsec_size(ps, AGEING), 1);
    ck_assert_int_eq(check(ps, 7, AGEING), QDES_PORTSEC_ALLOWED);
    qdes_portsec_free(ps);
}
END_TEST

/* Only what goes to and fro is contested. */
START_TEST(test_claims)
{
    QdesPortsec *ps = portsec_of(2, 5);

    ck_assert_int_eq(claim(ps, 0), QDES_PORTSEC_SPOOFED);
    ck_assert_int_eq(check(ps, 0, 0), QDES_PORTSEC_BACK);
    ck_assert_int_eq(claim(ps, 0), QDES_PORTSEC_CONTESTED);
    ck_assert_int_eq(claim(ps, 0), QDES_PORTSEC_SPOOFED);
    ck_assert_int_eq(check(ps, 0, 0), QDES_PORTSEC_BACK);
    ck_assert_int_eq(check(ps, 0, 0), QDES_PORTSEC_ALLOWED);
    ck_assert_int_eq(claim(ps, 1), QDES_PORTSEC_SPOOFED);
    /* What was heard only may move. */
    ck_assert_int_eq(check(ps, 3, 0), QDES_PORTSEC_ALLOWED);
    ck_assert_int_eq(claim(ps, 3), QDES_PORTSEC_FREE);
    qdes_portsec_free(ps);
}
END_TEST

START_TEST(test_limits)
{
    QdesPortsec *ps = portsec_of(QDES_PORTSEC_LISTED, QDES_PORTSEC_MAX);
    uint32_t left = QDES_PORTSEC_MAX - QDES_PORTSEC_LISTED;
    uint32_t allowed = 0;
    uint32_t i;

    for (i = 0; i < QDES_PORTSEC_MAX + 10; i++) {
        allowed += check(ps, i, 0) != QDES_PORTSEC_VIOLATION;
    }
    ck_assert_uint_eq(allowed, QDES_PORTSEC_MAX);
    ck_assert_uint_eq(qdes_portsec_size(ps, 0), QDES_PORTSEC_MAX);
    qdes_portsec_forget(ps, NULL);
    ck_assert_uint_eq(qdes_portsec_size(ps, 0), QDES_PORTSEC_MAX - left);
    qdes_portsec_free(ps);

    /* Each once, in their order, whatever the order of the list. */
    ps = qdes_portsec_new((const uint8_t [3][6]) { { 4 }, { 2 }, { 4 } }, 3,
                          0, AGEING, 1);
    ck_assert_uint_eq(qdes_portsec_n_listed(ps), 2);
    ck_assert_uint_eq(qdes_portsec_listed(ps, 0)[0], 2);
    ck_assert_uint_eq(qdes_portsec_listed(ps, 1)[0], 4);
    qdes_portsec_free(ps);
}
END_TEST

/* Those heard, with the time; -1: not. */
static uint32_t count_model(const int64_t *heard, int64_t now)
{
    uint32_t n = 0;
    int i;

    for (i = 0; i < MODEL_MACS; i++) {
        n += heard[i] >= 0 && now - heard[i] < AGEING;
    }
    return n;
}

START_TEST(test_model)
{
    GRand *rand = unit_rand("test_model");
    uint32_t max = _i;
    uint32_t heard_max = max > MODEL_LISTED ? max - MODEL_LISTED : 0;
    QdesPortsec *ps = portsec_of(MODEL_LISTED, max);
    bool here[MODEL_LISTED] = { false };
    int64_t heard[MODEL_MACS];
    int64_t now = 0;
    bool same = true;
    uint8_t buf[6];
    int step, mac;

    memset(heard, 0xff, sizeof(heard));
    for (step = 0; step < 50000 && same; step++) {
        QdesPortsecVerdict verdict = QDES_PORTSEC_VIOLATION;
        QdesPortsecClaim claimed = QDES_PORTSEC_FREE;

        /* Whole steps of the time that the table keeps. */
        now += g_rand_int_range(rand, 0, 4) ? 0 :
               100 * g_rand_int_range(rand, 0, 20);
        mac = g_rand_int_range(rand, 0, MODEL_MACS);
        switch (g_rand_int_range(rand, 0, 200)) {
        case 0:
            qdes_portsec_forget(ps, NULL);
            memset(heard, 0xff, sizeof(heard));
            break;
        case 1:
            qdes_portsec_forget(ps, unit_mac(buf, mac));
            heard[mac] = -1;
            break;
        case 2 ... 40:
            if (mac < MODEL_LISTED) {
                claimed = here[mac] ? QDES_PORTSEC_CONTESTED
                                    : QDES_PORTSEC_SPOOFED;
                here[mac] = false;
            }
            same = claim(ps, mac) == claimed;
            break;
        default:
            if (mac < MODEL_LISTED) {
                verdict = here[mac] ? QDES_PORTSEC_ALLOWED
                                    : QDES_PORTSEC_BACK;
                here[mac] = true;
            } else if ((heard[mac] >= 0 && now - heard[mac] < AGEING) ||
                       count_model(heard, now) < heard_max) {
                verdict = QDES_PORTSEC_ALLOWED;
                heard[mac] = now;
            }
            same = check(ps, mac, now) == verdict;
            break;
        }
        same &= qdes_portsec_size(ps, now) ==
                MODEL_LISTED + count_model(heard, now);
    }
    ck_assert_msg(same, "step %d", step);
    qdes_portsec_free(ps);
    g_rand_free(rand);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("portsec");
    TCase *tc = tcase_create("portsec");

    tcase_add_test(tc, test_listed_only);
    tcase_add_test(tc, test_first_come);
    tcase_add_test(tc, test_claims);
    tcase_add_test(tc, test_limits);
    tcase_add_loop_test(tc, test_model, 5, 20);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
