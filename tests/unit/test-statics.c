/* SPDX-License-Identifier: GPL-2.0-or-later */
/* statics: the limit, flushing, and a long random run against a model. */

#include "unit.h"

#include "qdes/statics.h"

#define MODEL_MACS 1400         /* more than there is room for */
#define MODEL_PEERS 5           /* number 0 is this side */

static QdesStatic entry_of(uint32_t mac, int peer)
{
    QdesStatic entry = { .local = peer == 0 };
    char text[32];

    unit_mac(entry.mac, mac);
    if (peer) {
        g_snprintf(text, sizeof(text), "192.0.2.%d", peer);
        ck_assert(qdes_addr_parse(&entry.peer, text, 20804, NULL));
    }
    return entry;
}

static bool put(QdesStatics *statics, uint32_t mac, int peer)
{
    QdesStatic entry = entry_of(mac, peer);

    return qdes_statics_put(statics, &entry);
}

static const QdesStatic *find(QdesStatics *statics, uint32_t mac)
{
    uint8_t buf[6];

    return qdes_statics_find(statics, unit_mac(buf, mac));
}

static bool take_out(QdesStatics *statics, uint32_t mac)
{
    uint8_t buf[6];

    return qdes_statics_remove(statics, unit_mac(buf, mac));
}

START_TEST(test_put_and_remove)
{
    QdesStatics *statics = qdes_statics_new(1);

    ck_assert_ptr_null(find(statics, 1));
    ck_assert(!take_out(statics, 1));
    ck_assert(put(statics, 1, 1));
    ck_assert(put(statics, 2, 0));
    ck_assert(!find(statics, 1)->local);
    ck_assert(find(statics, 2)->local);
    ck_assert_ptr_null(find(statics, 3));
    /* What is said again takes the place of what was said. */
    ck_assert(put(statics, 1, 0));
    ck_assert_uint_eq(statics->size, 2);
    ck_assert(find(statics, 1)->local);
    ck_assert(take_out(statics, 1));
    ck_assert_ptr_null(find(statics, 1));
    ck_assert(find(statics, 2) != NULL);
    qdes_statics_free(statics);
}
END_TEST

START_TEST(test_limit)
{
    QdesStatics *statics = qdes_statics_new(1);
    int i;

    for (i = 0; i < QDES_STATICS_MAX; i++) {
        ck_assert(put(statics, i, 1));
    }
    ck_assert(!put(statics, QDES_STATICS_MAX, 1));
    ck_assert_ptr_null(find(statics, QDES_STATICS_MAX));
    ck_assert(put(statics, 0, 0));
    ck_assert(take_out(statics, 5));
    ck_assert(put(statics, QDES_STATICS_MAX, 1));
    qdes_statics_free(statics);
    qdes_statics_free(NULL);
}
END_TEST

/* The peer of each MAC address; -1: no entry. */
static bool differs(QdesStatics *statics, const int *model)
{
    const QdesStatic *entry;
    unsigned n = 0;
    int i;

    for (i = 0; i < MODEL_MACS; i++) {
        entry = find(statics, i);
        if (!entry != (model[i] < 0)) {
            return true;
        }
        n += entry != NULL;
        if (entry) {
            QdesStatic want = entry_of(i, model[i]);

            if (entry->local != want.local ||
                memcmp(entry->mac, want.mac, 6) != 0 ||
                !qdes_addr_equal(&entry->peer, &want.peer)) {
                return true;
            }
        }
    }
    return n != statics->size;
}

START_TEST(test_model)
{
    GRand *rand = unit_rand("test_model");
    QdesStatics *statics = qdes_statics_new(g_rand_int(rand));
    int model[MODEL_MACS];
    unsigned size = 0, flushed;
    bool right = true;
    int step, mac, peer, i, what;

    for (i = 0; i < MODEL_MACS; i++) {
        model[i] = -1;
    }
    for (step = 0; step < 20000 && right; step++) {
        mac = g_rand_int_range(rand, 0, MODEL_MACS);
        peer = g_rand_int_range(rand, 0, MODEL_PEERS);
        what = g_rand_int_range(rand, 0, 5000);
        if (what < 4000) {
            bool fits = model[mac] >= 0 || size < QDES_STATICS_MAX;

            right &= put(statics, mac, peer) == fits;
            if (fits) {
                size += model[mac] < 0;
                model[mac] = peer;
            }
        } else if (what < 4998) {
            right &= take_out(statics, mac) == (model[mac] >= 0);
            size -= model[mac] >= 0;
            model[mac] = -1;
        } else {
            QdesStatic of = entry_of(0, peer);

            /* Of this side there is no endpoint: peer 0 stands for all. */
            flushed = 0;
            for (i = 0; i < MODEL_MACS; i++) {
                if (model[i] >= 0 && (!peer || model[i] == peer)) {
                    model[i] = -1;
                    flushed++;
                }
            }
            size -= flushed;
            right &= qdes_statics_flush(statics, peer ? &of.peer : NULL) ==
                     flushed;
        }
        if (step % 97 == 0 || what >= 4998) {
            right &= !differs(statics, model);
        }
    }
    ck_assert_msg(right, "step %d", step);
    ck_assert(!differs(statics, model));
    qdes_statics_free(statics);
    g_rand_free(rand);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("statics");
    TCase *tc = tcase_create("statics");

    tcase_add_test(tc, test_put_and_remove);
    tcase_add_test(tc, test_limit);
    tcase_add_test(tc, test_model);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
