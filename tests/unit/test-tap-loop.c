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
    LoopTimer *limit = loop_timer_new(give_up, event);
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

    event.timer = loop_timer_new(expired, &event);
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

int main(void)
{
    Suite *suite = suite_create("tap-loop");
    TCase *tc = tcase_create("loop");

    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, test_watch);
    tcase_add_test(tc, test_hangup_is_read);
    tcase_add_test(tc, test_fd_number_again);
    tcase_add_test(tc, test_timer);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
