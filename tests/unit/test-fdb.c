/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FDB: ageing, moves, limits and fairness with a moved clock, and long random
 * runs against a naive model.
 */

#include "unit.h"

#include "qdes/fdb.h"

#define AGEING 300000

static QdesFdbChange learn(QdesFdb *fdb, uint32_t mac, uint32_t owner,
                           int64_t now)
{
    uint32_t old_owner;
    uint8_t buf[6];

    return qdes_fdb_learn(fdb, unit_mac(buf, mac), owner, now, &old_owner);
}

/* The owner of @mac, or -1. */
static int owner_of(QdesFdb *fdb, uint32_t mac, int64_t now)
{
    uint8_t buf[6];
    const QdesFdbEntry *entry = qdes_fdb_lookup(fdb, unit_mac(buf, mac), now);

    return entry ? (int)entry->owner : -1;
}

START_TEST(test_learn_and_move)
{
    QdesFdb *fdb = qdes_fdb_new(8, 4, AGEING, 1);
    uint32_t old_owner = 99;
    uint8_t mac[6];

    ck_assert_int_eq(owner_of(fdb, 1, 0), -1);
    ck_assert_int_eq(learn(fdb, 1, 2, 0), QDES_FDB_LEARNED);
    ck_assert_int_eq(learn(fdb, 1, 2, 5), QDES_FDB_REFRESHED);
    ck_assert_int_eq(owner_of(fdb, 1, 5), 2);
    ck_assert_int_eq(qdes_fdb_learn(fdb, unit_mac(mac, 1), 3, 6, &old_owner),
                     QDES_FDB_MOVED);
    ck_assert_uint_eq(old_owner, 2);
    ck_assert_int_eq(owner_of(fdb, 1, 6), 3);
    ck_assert_uint_eq(qdes_fdb_lookup(fdb, mac, 6)->moves, 1);
    ck_assert_uint_eq(qdes_fdb_size(fdb), 1);
    ck_assert_uint_eq(qdes_fdb_owner_size(fdb, 2), 0);
    ck_assert_uint_eq(qdes_fdb_owner_size(fdb, 3), 1);
    qdes_fdb_free(fdb);
}
END_TEST

START_TEST(test_ageing)
{
    QdesFdb *fdb = qdes_fdb_new(8, 4, AGEING, 1);

    learn(fdb, 1, 1, 0);
    learn(fdb, 2, 1, 1000);
    ck_assert_int_eq(owner_of(fdb, 1, AGEING - 1), 1);
    ck_assert_int_eq(owner_of(fdb, 1, AGEING), -1);
    ck_assert_uint_eq(qdes_fdb_size(fdb), 2);
    ck_assert_uint_eq(qdes_fdb_age(fdb, AGEING), 1);
    ck_assert_uint_eq(qdes_fdb_size(fdb), 1);

    /* Refreshed, it lives on; a refresh is not lost to the granularity. */
    learn(fdb, 2, 1, 1000 + QDES_FDB_GRANULARITY_MS);
    ck_assert_uint_eq(qdes_fdb_age(fdb, 1000 + AGEING), 0);
    ck_assert_int_eq(owner_of(fdb, 2, 1000 + AGEING), 1);
    ck_assert_uint_eq(qdes_fdb_age(fdb, 1000 + QDES_FDB_GRANULARITY_MS +
                                   AGEING), 1);

    /* Heard again after ageing, but before its removal: new, not moved. */
    learn(fdb, 3, 1, 0);
    ck_assert_int_eq(learn(fdb, 3, 2, AGEING), QDES_FDB_LEARNED);
    ck_assert_uint_eq(qdes_fdb_totals(fdb)->aged, 3);
    ck_assert_uint_eq(qdes_fdb_totals(fdb)->moved, 0);
    qdes_fdb_free(fdb);
}
END_TEST

START_TEST(test_flush_owner)
{
    QdesFdb *fdb = qdes_fdb_new(100, 4, AGEING, 1);
    uint32_t i;

    for (i = 0; i < 60; i++) {
        learn(fdb, i, 1 + i % 3, i);
    }
    ck_assert_uint_eq(qdes_fdb_flush_owner(fdb, 2), 20);
    ck_assert_uint_eq(qdes_fdb_flush_owner(fdb, 2), 0);
    ck_assert_uint_eq(qdes_fdb_size(fdb), 40);
    for (i = 0; i < 60; i++) {
        ck_assert_int_eq(owner_of(fdb, i, 60),
                         i % 3 == 1 ? -1 : (int)(1 + i % 3));
    }
    qdes_fdb_free(fdb);
}
END_TEST

/* All of one owner's go to another, which keeps no more than it may have. */
START_TEST(test_move_owner)
{
    QdesFdb *fdb = qdes_fdb_new(100, 4, AGEING, 1);
    uint32_t i;

    for (i = 0; i < 60; i++) {
        learn(fdb, i, 1 + i % 3, i);
    }
    qdes_fdb_move_owner(fdb, 2, 1);
    qdes_fdb_move_owner(fdb, 2, 1);
    qdes_fdb_move_owner(fdb, 0, 1);     /* who never had any */
    ck_assert_uint_eq(qdes_fdb_owner_size(fdb, 1), 40);
    ck_assert_uint_eq(qdes_fdb_owner_size(fdb, 2), 0);
    for (i = 0; i < 60; i++) {
        ck_assert_int_eq(owner_of(fdb, i, 60), i % 3 == 2 ? 3 : 1);
    }
    ck_assert_uint_eq(qdes_fdb_totals(fdb)->moved, 20);
    qdes_fdb_move_owner(fdb, 1, 3);
    ck_assert_uint_eq(qdes_fdb_owner_size(fdb, 3), 50);
    ck_assert_uint_eq(qdes_fdb_size(fdb), 50);
    ck_assert_uint_eq(qdes_fdb_totals(fdb)->evicted, 10);
    /* As old as they were. */
    ck_assert_uint_eq(qdes_fdb_age(fdb, AGEING + 60), 50);
    qdes_fdb_free(fdb);
}
END_TEST

/* Whoever invents addresses pushes out its own, never those of others. */
START_TEST(test_fairness)
{
    QdesFdb *fdb = qdes_fdb_new(64, 8, AGEING, 1);
    uint32_t i;

    for (i = 0; i < 10; i++) {
        learn(fdb, i, 1, 0);
        learn(fdb, 100 + i, 2, 0);
    }
    for (i = 0; i < 100000; i++) {
        learn(fdb, 1000 + i, 3, 1 + i);
    }
    for (i = 0; i < 10; i++) {
        ck_assert_int_eq(owner_of(fdb, i, 1000), 1);
        ck_assert_int_eq(owner_of(fdb, 100 + i, 1000), 2);
    }
    /* It has half the table, and what it said last. */
    ck_assert_uint_eq(qdes_fdb_owner_size(fdb, 3), 32);
    for (i = 0; i < 32; i++) {
        ck_assert_int_eq(owner_of(fdb, 1000 + 99999 - i, 100000), 3);
    }
    ck_assert_uint_eq(qdes_fdb_totals(fdb)->evicted, 100000 - 32);
    qdes_fdb_free(fdb);
}
END_TEST

#define SHARE_MAX 8192          /* entries */
#define HONEST 50               /* owners, of which each has ... */
#define HONEST_MACS 20          /* ... so many addresses */

/* How many addresses of the honest are where they were. */
static int honest_left(QdesFdb *fdb, int64_t now)
{
    int left = 0;
    uint32_t i;

    for (i = 0; i < HONEST * HONEST_MACS; i++) {
        left += owner_of(fdb, i, now) == (int)(i % HONEST);
    }
    return left;
}

/*
 * One attacker poses as many peers, up to as many as there can be besides the
 * honest ones, and invents addresses for each.  Nobody who has no more than
 * its share, the table's size by the number of owners, loses one.
 */
START_TEST(test_many_faces)
{
    static const uint32_t faces[] = { 1, 2, 10, 100, 350, 4000 };
    uint32_t n = faces[_i];
    QdesFdb *fdb = qdes_fdb_new(SHARE_MAX, 4097, AGEING, 1);
    uint32_t share = SHARE_MAX / (HONEST + n);
    uint32_t i;

    for (i = 0; i < HONEST * HONEST_MACS; i++) {
        learn(fdb, i, i % HONEST, 0);
    }
    for (i = 0; i < 200000; i++) {
        learn(fdb, 10000 + i, HONEST + i % n, 1 + i / 1000);
    }
    ck_assert_uint_eq(qdes_fdb_size(fdb),
                      n == 1 ? SHARE_MAX / 2 + HONEST * HONEST_MACS :
                      SHARE_MAX);
    for (i = 0; i < HONEST; i++) {
        ck_assert_uint_ge(qdes_fdb_owner_size(fdb, i),
                          MIN(share, HONEST_MACS));
    }
    if (share >= HONEST_MACS) {
        ck_assert_int_eq(honest_left(fdb, 300), HONEST * HONEST_MACS);
    } else {
        /* It does cost them what is above their share. */
        ck_assert_int_lt(honest_left(fdb, 300), HONEST * HONEST_MACS);
    }
    qdes_fdb_free(fdb);
}
END_TEST

/*
 * At random, with shares that do not come out even: who has no more than its
 * share loses nothing, whoever learns.
 */
START_TEST(test_share)
{
    GRand *rand = unit_rand("test_share");
    uint32_t max = 2 + _i;
    uint32_t n = 2 + _i % 7;
    QdesFdb *fdb = qdes_fdb_new(max, n, AGEING, 1);
    size_t before[9];
    bool kept = true;
    uint32_t owner, i;
    int step;

    for (step = 0; step < 20000 && kept; step++) {
        for (i = 0; i < n; i++) {
            before[i] = qdes_fdb_owner_size(fdb, i);
        }
        owner = g_rand_int_range(rand, 0, n);
        learn(fdb, 1000 + step, owner, step);
        for (i = 0; i < n; i++) {
            kept &= i == owner || before[i] > max / n ||
                    qdes_fdb_owner_size(fdb, i) >= before[i];
        }
    }
    ck_assert_msg(kept, "step %d", step);
    qdes_fdb_free(fdb);
    g_rand_free(rand);
}
END_TEST

/* Two that flood fill the table; then the larger of them gives way. */
START_TEST(test_largest_gives_way)
{
    QdesFdb *fdb = qdes_fdb_new(64, 8, AGEING, 1);
    uint32_t i;

    for (i = 0; i < 32; i++) {
        learn(fdb, 1000 + i, 1, i);
    }
    for (i = 0; i < 31; i++) {
        learn(fdb, 2000 + i, 2, 100 + i);
    }
    learn(fdb, 3000, 3, 200);
    ck_assert_uint_eq(qdes_fdb_size(fdb), 64);
    learn(fdb, 3001, 3, 201);
    ck_assert_uint_eq(qdes_fdb_size(fdb), 64);
    ck_assert_int_eq(owner_of(fdb, 1000, 201), -1);
    ck_assert_int_eq(owner_of(fdb, 2000, 201), 2);
    ck_assert_int_eq(owner_of(fdb, 3000, 201), 3);
    ck_assert_int_eq(owner_of(fdb, 3001, 201), 3);
    qdes_fdb_free(fdb);
}
END_TEST

START_TEST(test_table_of_one)
{
    QdesFdb *fdb = qdes_fdb_new(1, 3, AGEING, 1);

    learn(fdb, 1, 1, 0);
    learn(fdb, 2, 1, 1);
    ck_assert_int_eq(owner_of(fdb, 1, 1), -1);
    ck_assert_int_eq(owner_of(fdb, 2, 1), 1);
    learn(fdb, 2, 2, 2);
    learn(fdb, 3, 2, 3);
    ck_assert_int_eq(owner_of(fdb, 2, 3), -1);
    ck_assert_int_eq(owner_of(fdb, 3, 3), 2);
    ck_assert_uint_eq(qdes_fdb_size(fdb), 1);
    qdes_fdb_free(fdb);
}
END_TEST

/* The naive model: an array that is searched from end to end. */

#define MODEL_MACS 48
#define MODEL_OWNERS 5

typedef struct ModelEntry {
    bool used;
    uint32_t owner, moves;
    int64_t heard;
    uint64_t touched;           /* order among equal times */
} ModelEntry;

typedef struct Model {
    uint32_t max;
    ModelEntry entry[MODEL_MACS];
    uint64_t clock;
} Model;

static unsigned model_count(const Model *m, int owner)
{
    unsigned n = 0;
    int i;

    for (i = 0; i < MODEL_MACS; i++) {
        n += m->entry[i].used &&
             (owner < 0 || (int)m->entry[i].owner == owner);
    }
    return n;
}

static void model_age(Model *m, int64_t now)
{
    int i;

    for (i = 0; i < MODEL_MACS; i++) {
        if (m->entry[i].used && now - m->entry[i].heard >= AGEING) {
            m->entry[i].used = false;
        }
    }
}

static void model_evict(Model *m, uint32_t owner)
{
    ModelEntry *oldest = NULL;
    int i;

    for (i = 0; i < MODEL_MACS; i++) {
        if (m->entry[i].used && m->entry[i].owner == owner &&
            (!oldest || m->entry[i].touched < oldest->touched)) {
            oldest = &m->entry[i];
        }
    }
    oldest->used = false;
}

/*
 * Which of several owners with equally many entries gives way is arbitrary:
 * the model is told whom the table chose, and checks that it was one of them.
 */
static void model_make_room(Model *m, uint32_t owner, bool is_new,
                            QdesFdb *fdb)
{
    unsigned most = 0;
    uint32_t i;

    if (model_count(m, owner) >= MAX(m->max / 2, 1)) {
        model_evict(m, owner);
        return;
    }
    if (!is_new || model_count(m, -1) < m->max) {
        return;
    }
    for (i = 0; i < MODEL_OWNERS; i++) {
        most = MAX(most, model_count(m, i));
    }
    if (model_count(m, owner) == most) {
        model_evict(m, owner);
        return;
    }
    for (i = 0; i < MODEL_OWNERS; i++) {
        if (model_count(m, i) == most &&
            qdes_fdb_owner_size(fdb, i) + 1 == most) {
            model_evict(m, i);
            return;
        }
    }
    ck_abort_msg("the table evicted from an owner with fewer entries");
}

static void model_learn(Model *m, uint32_t mac, uint32_t owner, int64_t now,
                        QdesFdb *fdb)
{
    ModelEntry *e = &m->entry[mac];

    if (e->used && now - e->heard >= AGEING) {
        e->used = false;
    }
    if (!e->used) {
        model_make_room(m, owner, true, fdb);
        *e = (ModelEntry) { true, owner, 0, now, ++m->clock };
    } else if (e->owner != owner) {
        e->used = false;
        model_make_room(m, owner, false, fdb);
        *e = (ModelEntry) { true, owner, e->moves + 1, now, ++m->clock };
    } else if (now - e->heard >= QDES_FDB_GRANULARITY_MS) {
        e->heard = now;
        e->touched = ++m->clock;
    }
}

/* In plain C: libcheck notes each assertion in a file, and these are many. */
static bool differs(const Model *m, QdesFdb *fdb, int64_t now)
{
    const QdesFdbTotals *t = qdes_fdb_totals(fdb);
    const QdesFdbEntry *entry;
    const ModelEntry *e;
    bool differ = false;
    uint8_t mac[6];
    unsigned i;

    differ |= qdes_fdb_size(fdb) != model_count(m, -1);
    differ |= qdes_fdb_size(fdb) !=
              t->learned - t->aged - t->evicted - t->flushed;
    for (i = 0; i < MODEL_OWNERS; i++) {
        differ |= qdes_fdb_owner_size(fdb, i) != model_count(m, i);
    }
    for (i = 0; i < MODEL_MACS; i++) {
        e = &m->entry[i];
        entry = qdes_fdb_lookup(fdb, unit_mac(mac, i), now);
        if (e->used && now - e->heard < AGEING) {
            differ |= !entry || entry->owner != e->owner ||
                      entry->moves != e->moves || entry->heard != e->heard;
        } else {
            differ |= entry != NULL;
        }
    }
    return differ;
}

START_TEST(test_model)
{
    static const uint32_t sizes[] = { 1, 2, 3, 7, 16, 40, MODEL_MACS };
    GRand *rand = unit_rand("test_model");
    Model m = { .max = sizes[_i] };
    QdesFdb *fdb = qdes_fdb_new(m.max, MODEL_OWNERS, AGEING, 42);
    int64_t now = 0;
    uint32_t mac, owner;
    int step, i, what;

    for (step = 0; step < 60000; step++) {
        what = g_rand_int_range(rand, 0, 1000);
        /* Mostly moments; now and then so long that entries age. */
        now += what < 5 ? g_rand_int_range(rand, 0, AGEING)
                        : g_rand_int_range(rand, 0, 300);
        if (what < 980) {
            mac = g_rand_int_range(rand, 0, MODEL_MACS);
            owner = g_rand_boolean(rand) ? 1
                    : g_rand_int_range(rand, 0, MODEL_OWNERS);
            learn(fdb, mac, owner, now);
            model_learn(&m, mac, owner, now, fdb);
        } else if (what < 990) {
            qdes_fdb_age(fdb, now);
            model_age(&m, now);
        } else {
            owner = g_rand_int_range(rand, 0, MODEL_OWNERS);
            ck_assert_uint_eq(qdes_fdb_flush_owner(fdb, owner),
                              model_count(&m, owner));
            for (i = 0; i < MODEL_MACS; i++) {
                m.entry[i].used &= m.entry[i].owner != owner;
            }
        }
        ck_assert_msg(!differs(&m, fdb, now), "step %d", step);
    }
    qdes_fdb_free(fdb);
    g_rand_free(rand);
}
END_TEST

static void count_entry(const QdesFdbEntry *entry, void *opaque)
{
    int64_t *last = opaque;

    ck_assert_int_ge(entry->heard, last[0]);
    last[0] = entry->heard;
    last[1]++;
}

START_TEST(test_foreach)
{
    QdesFdb *fdb = qdes_fdb_new(16, 2, AGEING, 1);
    int64_t last[2] = { 0, 0 };
    int i;

    for (i = 0; i < 8; i++) {
        learn(fdb, i, 1, i * 1000);
    }
    learn(fdb, 0, 1, 9000);
    qdes_fdb_foreach(fdb, AGEING + 1000, count_entry, last);
    ck_assert_int_eq(last[1], 7);
    ck_assert_int_eq(last[0], 9000);
    qdes_fdb_free(fdb);
    qdes_fdb_free(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fdb");
    TCase *tc = tcase_create("fdb");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_learn_and_move);
    tcase_add_test(tc, test_ageing);
    tcase_add_test(tc, test_flush_owner);
    tcase_add_test(tc, test_move_owner);
    tcase_add_test(tc, test_fairness);
    tcase_add_loop_test(tc, test_many_faces, 0, 6);
    tcase_add_loop_test(tc, test_share, 0, 30);
    tcase_add_test(tc, test_largest_gives_way);
    tcase_add_test(tc, test_table_of_one);
    tcase_add_loop_test(tc, test_model, 0, 7);
    tcase_add_test(tc, test_foreach);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
