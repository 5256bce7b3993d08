/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qdes-tap's event loop: watches and timers, also from their own callbacks. */

#include "unit.h"

#include <sys/socket.h>
#include <unistd.h>

#include "loop.h"

typedef struct Event {
    Loop *loop;
    int calls;
    int events;                 /* all that came */
    int64_t now;                /* of the last call */
    int64_t again;              /* for the timer */
    LoopTimer *timer;
} Event;

/* Every test ends after so long, whatever happens. */
static void give_up(void *opaque, int64_t now)
{
    Event *event = opaque;

    loop_quit(event->loop, 99);
}

static int run(Event *event, int ms)
{
    LoopTimer *limit = loop_timer_new(event->loop, give_up, event);
    int status;

    loop_timer_set(limit, loop_now() + ms);
    status = loop_run(event->loop);
    loop_timer_free(limit);
    return status;
}

static void ready(void *opaque, int fd, int events, int64_t now)
{
    Event *event = opaque;

    event->calls++;
    event->events |= events;
    event->now = now;
    loop_watch(event->loop, fd, QDES_WATCH_NONE, NULL, NULL);
    loop_quit(event->loop, 7);
}

START_TEST(test_watch)
{
    Event event = { .loop = loop_new() };
    int64_t start = loop_now();
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);

    /* nothing to read */
    loop_watch(event.loop, fds[0], QDES_WATCH_READ, ready, &event);
    ck_assert_int_eq(run(&event, 50), 99);
    ck_assert_int_eq(event.calls, 0);

    /* the mask changes to what is there */
    loop_watch(event.loop, fds[0], QDES_WATCH_WRITE, ready, &event);
    ck_assert_int_eq(run(&event, 5000), 7);
    ck_assert_int_eq(event.events, QDES_WATCH_WRITE);
    ck_assert_int_ge(event.now, start);
    ck_assert_int_le(event.now, loop_now());

    /* it was removed by the callback: no call */
    ck_assert_int_eq(run(&event, 50), 99);
    ck_assert_int_eq(event.calls, 1);

    /* both at once */
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    loop_watch(event.loop, fds[0], QDES_WATCH_READ | QDES_WATCH_WRITE, ready,
               &event);
    ck_assert_int_eq(run(&event, 5000), 7);
    ck_assert_int_eq(event.events, QDES_WATCH_READ | QDES_WATCH_WRITE);

    close(fds[0]);
    close(fds[1]);
    loop_free(event.loop);
}
END_TEST

START_TEST(test_hangup_is_read)
{
    Event event = { .loop = loop_new() };
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    loop_watch(event.loop, fds[0], QDES_WATCH_READ, ready, &event);
    close(fds[1]);
    ck_assert_int_eq(run(&event, 5000), 7);
    ck_assert_int_eq(event.events, QDES_WATCH_READ);

    /* an error of the writing end of a pipe, also without READ asked for */
    event.events = 0;
    ck_assert_int_eq(pipe(fds + 0), 0);
    close(fds[0]);
    loop_watch(event.loop, fds[1], QDES_WATCH_WRITE, ready, &event);
    ck_assert_int_eq(run(&event, 5000), 7);
    ck_assert_int_eq(event.events & QDES_WATCH_READ, QDES_WATCH_READ);
    close(fds[1]);
    loop_free(event.loop);
}
END_TEST

/* The same number is another file later: the old watch must not linger. */
START_TEST(test_fd_number_again)
{
    Event old = { .loop = loop_new() };
    Event new = { .loop = old.loop };
    int fds[2];
    int fd;

    ck_assert_int_eq(pipe(fds), 0);
    fd = fds[0];
    loop_watch(old.loop, fd, QDES_WATCH_READ, ready, &old);
    loop_watch(old.loop, fd, QDES_WATCH_NONE, NULL, NULL);
    close(fds[0]);
    close(fds[1]);
    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(fds[0], fd);
    loop_watch(new.loop, fd, QDES_WATCH_READ, ready, &new);
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    ck_assert_int_eq(run(&new, 5000), 7);
    ck_assert_int_eq(new.calls, 1);
    ck_assert_int_eq(old.calls, 0);
    close(fds[0]);
    close(fds[1]);
    loop_free(new.loop);
}
END_TEST

static void expired(void *opaque, int64_t now)
{
    Event *event = opaque;

    event->calls++;
    event->now = now;
    if (event->again) {
        loop_timer_set(event->timer, now + event->again);
        event->again = 0;
    } else {
        loop_quit(event->loop, 7);
    }
}

START_TEST(test_timer)
{
    Event event = { .loop = loop_new() };
    int64_t start = loop_now();

    event.timer = loop_timer_new(event.loop, expired, &event);
    /* a new timer is not running */
    ck_assert_int_eq(run(&event, 20), 99);

    /* the second time replaces the first, and the callback sets a third */
    loop_timer_set(event.timer, start);
    loop_timer_set(event.timer, loop_now() + 30);
    event.again = 20;
    start = loop_now();
    ck_assert_int_eq(run(&event, 5000), 7);
    ck_assert_int_eq(event.calls, 2);
    ck_assert_int_ge(event.now, start + 50);

    /* once means once */
    ck_assert_int_eq(run(&event, 50), 99);
    ck_assert_int_eq(event.calls, 2);

    loop_timer_set(event.timer, loop_now() + 10);
    loop_timer_stop(event.timer);
    ck_assert_int_eq(run(&event, 50), 99);
    ck_assert_int_eq(event.calls, 2);

    /* times before and beyond everything */
    loop_timer_set(event.timer, INT64_MAX);
    ck_assert_int_eq(run(&event, 50), 99);
    loop_timer_set(event.timer, -5);
    ck_assert_int_eq(run(&event, 5000), 7);
    loop_timer_free(event.timer);
    loop_timer_free(NULL);
    loop_free(event.loop);
}
END_TEST

/* Two ends of a socket with something to read at @fds[0]. */
static void open_ready(int fds[2])
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
}

static void close_both(int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

typedef struct Pair {
    Loop *loop;
    int fds[2][2];
    int calls[2];
    int calls_of_new;
    bool reopen;
} Pair;

static void new_ready(void *opaque, int fd, int events, int64_t now)
{
    Pair *pair = opaque;

    pair->calls_of_new++;
    loop_watch(pair->loop, fd, QDES_WATCH_NONE, NULL, NULL);
    loop_quit(pair->loop, 7);
}

/* Whichever of two is called first ends the other one's watch. */
static void one_of_two(void *opaque, int fd, int events, int64_t now)
{
    Pair *pair = opaque;
    int self = fd == pair->fds[1][0];
    int other = pair->fds[!self][0];

    pair->calls[self]++;
    loop_watch(pair->loop, other, QDES_WATCH_NONE, NULL, NULL);
    if (pair->reopen) {
        ck_assert_int_eq(dup2(fd, other), other);
        loop_watch(pair->loop, other, QDES_WATCH_READ, new_ready, pair);
    } else {
        loop_quit(pair->loop, 7);
    }
    loop_watch(pair->loop, fd, QDES_WATCH_NONE, NULL, NULL);
}

/* Both were ready in one turn, one is removed before its turn has come; and
 * perhaps another file has got its number, and is ready too. */
START_TEST(test_removed_in_the_same_turn)
{
    Pair pair = { .loop = loop_new(), .reopen = _i };
    Event event = { .loop = pair.loop };
    int i;

    for (i = 0; i < 2; i++) {
        open_ready(pair.fds[i]);
        loop_watch(pair.loop, pair.fds[i][0], QDES_WATCH_READ, one_of_two,
                   &pair);
    }
    ck_assert_int_eq(run(&event, 5000), 7);
    ck_assert_int_eq(pair.calls[0] + pair.calls[1], 1);
    ck_assert_int_eq(pair.calls_of_new, _i);
    close_both(pair.fds[0]);
    close_both(pair.fds[1]);
    loop_free(pair.loop);
}
END_TEST

static void count_call(void *opaque, int fd, int events, int64_t now)
{
    Event *event = opaque;

    event->calls++;
}

static void again_at_once(void *opaque, int64_t now)
{
    Event *event = opaque;

    loop_timer_set(event->timer, now);
    if (event->calls >= 100) {
        loop_quit(event->loop, 7);
    }
}

/* What is always due, or always ready, lets everything else have its turn. */
START_TEST(test_nobody_starves)
{
    Event event = { .loop = loop_new() };
    Event other = { .loop = event.loop };
    int fds[2][2];
    int i;

    open_ready(fds[0]);
    open_ready(fds[1]);
    loop_watch(event.loop, fds[0][0], QDES_WATCH_READ, count_call, &event);
    loop_watch(event.loop, fds[1][0], QDES_WATCH_READ, count_call, &other);
    event.timer = loop_timer_new(event.loop, again_at_once, &event);
    loop_timer_set(event.timer, 0);
    ck_assert_int_eq(run(&event, 5000), 7);
    ck_assert_int_eq(event.calls, 100);
    ck_assert_int_eq(other.calls, 100);
    loop_timer_free(event.timer);
    for (i = 0; i < 2; i++) {
        loop_watch(event.loop, fds[i][0], QDES_WATCH_NONE, NULL, NULL);
        close_both(fds[i]);
    }
    loop_free(event.loop);
}
END_TEST

/* More are ready than are served in one turn. */
START_TEST(test_many)
{
    Loop *loop = loop_new();
    Event limit = { .loop = loop };
    Event events[200];
    int fds[200][2];
    int i;

    for (i = 0; i < 200; i++) {
        events[i] = (Event) { .loop = loop };
        open_ready(fds[i]);
        loop_watch(loop, fds[i][0], QDES_WATCH_READ, count_call, &events[i]);
    }
    ck_assert_int_eq(run(&limit, 200), 99);
    for (i = 0; i < 200; i++) {
        ck_assert_int_ge(events[i].calls, 1);
        loop_watch(loop, fds[i][0], QDES_WATCH_NONE, NULL, NULL);
        close_both(fds[i]);
    }
    loop_free(loop);
}
END_TEST

static void free_both(void *opaque, int64_t now)
{
    LoopTimer **timers = opaque;

    loop_timer_free(timers[0]);
    loop_timer_free(timers[1]);
    timers[0] = NULL;
}

/* Two are due, and the first that is called frees both. */
START_TEST(test_timer_frees_timers)
{
    Loop *loop = loop_new();
    Event limit = { .loop = loop };
    LoopTimer *timers[2];
    int i;

    for (i = 0; i < 2; i++) {
        timers[i] = loop_timer_new(loop, free_both, timers);
        loop_timer_set(timers[i], 0);
    }
    ck_assert_int_eq(run(&limit, 20), 99);
    ck_assert_ptr_null(timers[0]);
    loop_free(loop);
}
END_TEST

/* What has to end before it began is not forgotten. */
START_TEST(test_quit_before_run)
{
    Event event = { .loop = loop_new() };

    loop_quit(event.loop, 3);
    ck_assert_int_eq(run(&event, 5000), 3);
    ck_assert_int_eq(run(&event, 20), 99);
    loop_free(event.loop);
}
END_TEST

/* A descriptor that somebody closed ends the watch, or the loop, in order. */
START_TEST(test_closed_descriptor)
{
    Event event = { .loop = loop_new() };
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    loop_watch(event.loop, fds[0], QDES_WATCH_READ, ready, &event);
    close(fds[0]);
    close(fds[1]);
    ck_assert_int_eq(run(&event, 20), 99);
    ck_assert_int_eq(event.calls, 0);
    loop_watch(event.loop, fds[0], QDES_WATCH_NONE, NULL, NULL);
    ck_assert(!loop_is_ending(event.loop));

    /* What cannot be watched: nobody must think that it is. */
    loop_watch(event.loop, fds[0], QDES_WATCH_READ, ready, &event);
    ck_assert(loop_is_ending(event.loop));
    ck_assert_int_eq(run(&event, 5000), 1);
    loop_watch(event.loop, fds[0], QDES_WATCH_NONE, NULL, NULL);
    loop_free(event.loop);
}
END_TEST

/* As above, of one that is watched for something else. */
START_TEST(test_closed_descriptor_changed)
{
    Event event = { .loop = loop_new() };
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    loop_watch(event.loop, fds[1], QDES_WATCH_READ, ready, &event);
    close(fds[0]);
    close(fds[1]);
    loop_watch(event.loop, fds[1], QDES_WATCH_WRITE, ready, &event);
    ck_assert_int_eq(run(&event, 5000), 1);
    loop_free(event.loop);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tap-loop");
    TCase *tc = tcase_create("loop");

    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, test_watch);
    tcase_add_test(tc, test_hangup_is_read);
    tcase_add_test(tc, test_fd_number_again);
    tcase_add_loop_test(tc, test_removed_in_the_same_turn, 0, 2);
    tcase_add_test(tc, test_timer);
    tcase_add_test(tc, test_timer_frees_timers);
    tcase_add_test(tc, test_nobody_starves);
    tcase_add_test(tc, test_many);
    tcase_add_test(tc, test_quit_before_run);
    tcase_add_test(tc, test_closed_descriptor);
    tcase_add_test(tc, test_closed_descriptor_changed);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
