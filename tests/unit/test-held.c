/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * held: the store against a list, at random
 */

#include "unit.h"

#include "qdes/held.h"

#define STEPS 50000
#define SIZE_MAX_HERE 9000
#define SESSIONS 4

typedef struct Model {
    uint32_t number;            /* what its bytes tell */
    uint64_t session;
    bool by_group;
    int64_t when;
    size_t size;
    QdesHeldState state;
} Model;

static void fill(uint8_t *data, const Model *model)
{
    size_t i;

    for (i = 0; i < model->size; i++) {
        data[i] = model->number * 31 + i;
    }
}

static void ck_same(const QdesHeld *held, const Model *model)
{
    static uint8_t data[SIZE_MAX_HERE];

    fill(data, model);
    ck_assert_uint_eq(held->head.session, model->session);
    ck_assert_int_eq(held->by_group, model->by_group);
    ck_assert_uint_eq(held->size, model->size);
    ck_assert_mem_eq(held->data, data, model->size);
}

static size_t bytes_of(const GArray *list)
{
    size_t bytes = 0;
    guint i;

    for (i = 0; i < list->len; i++) {
        bytes += g_array_index(list, Model, i).size;
    }
    return bytes;
}

static unsigned remove_from(GArray *list, QdesHeldState state, int64_t before)
{
    unsigned removed = 0;
    guint i;

    for (i = list->len; i-- > 0;) {
        const Model *model = &g_array_index(list, Model, i);

        if (model->state == state && model->when <= before) {
            g_array_remove_index(list, i);
            removed++;
        }
    }
    return removed;
}

static void add(QdesHeldStore *store, GArray *list, const Model *model)
{
    static uint8_t data[SIZE_MAX_HERE];
    QdesHeld held = {
        .head.session = model->session,
        .by_group = model->by_group,
        .when = model->when,
        .data = data,
        .size = model->size,
    };
    bool has_room = list->len < QDES_HELD_MAX &&
                    bytes_of(list) + model->size <= QDES_HELD_BYTES;

    fill(data, model);
    ck_assert_int_eq(qdes_held_add(store, &held), has_room);
    if (has_room) {
        g_array_append_val(list, *model);
    }
}

/* Take some as a batch, all by one socket, in the order in which they came. */
static void take(QdesHeldStore *store, GArray *list, unsigned most)
{
    const QdesHeld *first = NULL;
    const QdesHeld *held;
    const Model *like = NULL;
    guint i;

    for (i = 0; i < list->len && most > 0; i++) {
        Model *model = &g_array_index(list, Model, i);

        if (model->state != QDES_HELD_READY ||
            (like && model->by_group != like->by_group)) {
            continue;
        }
        held = qdes_held_take(store, first);
        ck_assert_ptr_nonnull(held);
        ck_same(held, model);
        model->state = QDES_HELD_TAKEN;
        first = first ? first : held;
        like = like ? like : model;
        most--;
    }
    if (most > 0) {
        ck_assert_ptr_null(qdes_held_take(store, first));
    }
    qdes_held_remove_taken(store);
    remove_from(list, QDES_HELD_TAKEN, INT64_MAX);
}

START_TEST(test_model)
{
    GRand *rng = unit_rand("test_model");
    QdesHeldStore *store = qdes_held_new();
    GArray *list = g_array_new(false, false, sizeof(Model));
    uint64_t session;
    int64_t now = 0;
    uint32_t step;
    guint i;

    for (step = 0; step < STEPS; step++) {
        now += g_rand_int_range(rng, 0, 3);
        session = g_rand_int_range(rng, 0, SESSIONS);
        switch (g_rand_int_range(rng, 0, 200)) {
        case 0:
            qdes_held_make_ready(store, session);
            for (i = 0; i < list->len; i++) {
                Model *model = &g_array_index(list, Model, i);

                if (model->session == session) {
                    model->state = QDES_HELD_READY;
                }
            }
            break;
        case 1:
            ck_assert_uint_eq(qdes_held_expire(store, now - 100),
                              remove_from(list, QDES_HELD_WAITING,
                                          now - 100));
            break;
        case 2: case 3:
            take(store, list, g_rand_int_range(rng, 1, 40));
            break;
        default:
            add(store, list, &(Model) {
                .number = step,
                .session = session,
                .by_group = g_rand_boolean(rng),
                .when = now,
                /* Now bytes are short, and now entries. */
                .size = g_rand_int_range(rng, 1, step % 1000 < 500 ?
                                         SIZE_MAX_HERE : 500),
            });
        }
        ck_assert_uint_eq(qdes_held_size(store), list->len);
    }
    g_array_free(list, true);
    qdes_held_free(store);
    g_rand_free(rng);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("held");
    TCase *tc = tcase_create("held");

    tcase_add_test(tc, test_model);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
