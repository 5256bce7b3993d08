/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qdes/train.h"
#include "unit.h"

static QdesTxQueue queue;

static QdesTxFrame frame_to(uint32_t slot, uint32_t room)
{
    QdesTxFrame frame = {
        .flood = slot == 0,
        .slot = slot,
        .room = room,
        .to = qdes_addr_any(true, 1000 + slot),
    };

    return frame;
}

/* Queue @size bytes, all of them @byte; false when there is no room. */
static bool add(uint32_t slot, size_t size, uint8_t byte)
{
    QdesTxFrame frame = frame_to(slot, 1472);
    uint8_t *room = qdes_txq_room(&queue, size);

    if (!room) {
        return false;
    }
    memset(room, byte, size);
    frame.size = size;
    qdes_txq_add(&queue, &frame);
    return true;
}

static void setup(void)
{
    memset(&queue, 0, sizeof(queue));
}

/* The next trains are these: slot, datagrams, size of the first, of the last */
static void expect(const unsigned (*trains)[4], int n)
{
    unsigned at = queue.head;
    struct iovec iov;
    QdesTrain train;
    int i;

    for (i = 0; i < n; i++) {
        at = qdes_txq_train(&queue, at, &train, &iov);
        ck_assert_uint_eq(train.slot, trains[i][0]);
        ck_assert_uint_eq(qdes_train_count(&train, train.size), trains[i][1]);
        ck_assert_uint_eq(train.segment, trains[i][2]);
        ck_assert_uint_eq(train.size, trains[i][2] * (trains[i][1] - 1) +
                          trains[i][3]);
        ck_assert_int_eq(train.flood, trains[i][0] == 0);
        ck_assert_uint_eq(train.sent, 0);
        ck_assert_ptr_eq(train.iov, &iov);
        ck_assert_uint_eq(iov.iov_len, train.size);
    }
    ck_assert_uint_eq(at, queue.tail);
    qdes_txq_done(&queue, at);
    ck_assert(qdes_txq_is_empty(&queue));
}

START_TEST(test_trains)
{
    static const unsigned trains[][4] = {
        { 1, 3, 100, 50 },      /* a shorter one is the last */
        { 1, 1, 100, 100 },     /* a longer one begins another */
        { 2, 1, 100, 100 },     /* another peer */
        { 0, 2, 100, 100 },     /* the group */
        { 2, 1, 60, 60 },
        { 1, 1, 1473, 1473 },   /* IP has to cut these */
        { 1, 1, 1473, 1473 },
        { 1, 2, 1472, 60 },
    };

    add(1, 100, 0);
    add(1, 100, 1);
    add(1, 50, 2);
    add(1, 100, 3);
    add(2, 100, 4);
    add(0, 100, 5);
    add(0, 100, 6);
    add(2, 60, 7);
    add(1, 1473, 8);
    add(1, 1473, 9);
    add(1, 1472, 10);
    add(1, 60, 11);
    expect(trains, G_N_ELEMENTS(trains));
}
END_TEST

/* A peer's slot may be another's by now: the address tells. */
START_TEST(test_address_counts)
{
    QdesTxFrame frame = frame_to(1, 1472);
    QdesTrain train;
    struct iovec iov;

    add(1, 100, 0);
    frame.to.port = 1;
    frame.size = 100;
    ck_assert(qdes_txq_room(&queue, 100) != NULL);
    qdes_txq_add(&queue, &frame);
    ck_assert_uint_eq(qdes_txq_train(&queue, 0, &train, &iov), 1);
    ck_assert_uint_eq(qdes_txq_train(&queue, 1, &train, &iov), 2);
    ck_assert(qdes_addr_equal(&train.to, &frame.to));
}
END_TEST

START_TEST(test_limits)
{
    static const unsigned many[][4] = {
        { 1, QDES_TRAIN_MAX, 60, 60 }, { 1, 1, 60, 60 },
    };
    static const unsigned large[][4] = {
        { 1, 44, 1472, 1472 }, { 1, 2, 1472, 1472 },
    };
    unsigned i;

    for (i = 0; i < QDES_TRAIN_MAX + 1; i++) {
        ck_assert(add(1, 60, i));
    }
    expect(many, 2);
    for (i = 0; i < 46; i++) {
        ck_assert(add(1, 1472, i));
    }
    expect(large, 2);

    for (i = 0; i < QDES_TXQ_FRAMES; i++) {
        ck_assert(add(1, 60, i));
    }
    ck_assert(!add(1, 60, i));
    qdes_txq_done(&queue, queue.tail);
    ck_assert(add(1, QDES_TXQ_BYTES, 1));
    ck_assert(!add(1, 1, 1));
    qdes_txq_done(&queue, queue.tail);
    ck_assert(add(1, 1, 1));
    ck_assert_uint_eq(queue.used, 1);
}
END_TEST

START_TEST(test_slice)
{
    static char bytes[] = "abcdefghij";
    struct iovec iov[] = {
        { bytes, 3 }, { bytes, 0 }, { bytes + 3, 1 }, { bytes + 4, 6 },
    };
    QdesTrain train = {
        .iov = iov, .iovcnt = G_N_ELEMENTS(iov), .size = 10, .segment = 4,
    };
    struct iovec out[4];
    char joined[16];
    size_t offset, size;
    size_t at;
    int n, i;

    for (offset = 0; offset <= 10; offset++) {
        for (size = 0; offset + size <= 10; size++) {
            n = qdes_train_slice(&train, offset, size, out, 4);
            ck_assert_int_ge(n, 0);
            for (i = 0, at = 0; i < n; at += out[i++].iov_len) {
                memcpy(joined + at, out[i].iov_base, out[i].iov_len);
            }
            ck_assert_uint_eq(at, size);
            ck_assert_mem_eq(joined, bytes + offset, size);
        }
    }
    ck_assert_int_eq(qdes_train_slice(&train, 2, 3, out, 2), -1);
    ck_assert_uint_eq(qdes_train_count(&train, 10), 3);
    ck_assert_uint_eq(qdes_train_count(&train, 8), 2);
    ck_assert_uint_eq(qdes_train_count(&train, 0), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("train");
    TCase *tc = tcase_create("train");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, test_trains);
    tcase_add_test(tc, test_address_counts);
    tcase_add_test(tc, test_limits);
    tcase_add_test(tc, test_slice);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
