/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "log.h"

#define LOOP_EVENTS 64          /* descriptors served in each turn; the kernel
                                   takes turns among more */
#define NEVER INT64_MAX

/* Who is called for a descriptor, which is the index in Loop.watches. */
typedef struct Watch {
    LoopFdFunc *func;           /* NULL: nobody */
    void *opaque;
    uint32_t events;            /* EPOLLIN, EPOLLOUT */
    uint32_t generation;        /* of the descriptor's number */
} Watch;

struct LoopTimer {
    Loop *loop;
    LoopTimer *next;            /* of Loop.timers */
    LoopTimerFunc *func;
    void *opaque;
    int64_t deadline;
    uint64_t turn;              /* in which it was called */
};

struct Loop {
    int epoll;
    GArray *watches;
    unsigned n_watches;         /* that are somebody's */
    LoopTimer *timers;
    uint64_t turn;
    bool quit;
    int status;
};

Loop *loop_new(void)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    Loop *loop;

    if (epoll < 0) {
        return NULL;
    }
    loop = g_new0(Loop, 1);
    loop->epoll = epoll;
    loop->watches = g_array_new(false, true, sizeof(Watch));
    return loop;
}

void loop_free(Loop *loop)
{
    g_assert(loop->n_watches == 0 && !loop->timers);
    g_array_unref(loop->watches);
    close(loop->epoll);
    g_free(loop);
}

int64_t loop_now(void)
{
    return g_get_monotonic_time() / 1000;
}

/* Milliseconds until the next timer, as epoll_wait() wants them. */
static int time_left(const Loop *loop, int64_t now)
{
    const LoopTimer *timer;
    int64_t next = NEVER;

    for (timer = loop->timers; timer; timer = timer->next) {
        next = MIN(next, timer->deadline);
    }
    if (next == NEVER) {
        return -1;
    }
    return next <= now ? 0 : MIN(next - now, INT_MAX);
}

static void serve_fd(Loop *loop, const struct epoll_event *event, int64_t now)
{
    int fd = (uint32_t)event->data.u64;
    Watch watch = g_array_index(loop->watches, Watch, fd);
    int events = 0;

    /* It may have been removed, or be another file, since the wait. */
    if (!watch.func || watch.generation != event->data.u64 >> 32) {
        return;
    }
    if (event->events & (EPOLLERR | EPOLLHUP | (watch.events & EPOLLIN))) {
        events |= QDES_WATCH_READ;
    }
    if (event->events & watch.events & EPOLLOUT) {
        events |= QDES_WATCH_WRITE;
    }
    if (events) {
        watch.func(watch.opaque, fd, events, now);
    }
}

/* One that is due and was not called in this turn yet. */
static LoopTimer *due_timer(const Loop *loop, int64_t now)
{
    LoopTimer *timer = loop->timers;

    while (timer && (timer->deadline > now || timer->turn == loop->turn)) {
        timer = timer->next;
    }
    return timer;
}

static void serve_timers(Loop *loop, int64_t now)
{
    LoopTimer *timer;

    /* Any call may change the list: begin anew after each. */
    while ((timer = due_timer(loop, now)) != NULL) {
        timer->turn = loop->turn;
        timer->deadline = NEVER;
        timer->func(timer->opaque, now);
    }
}

int loop_run(Loop *loop)
{
    struct epoll_event events[LOOP_EVENTS];
    int64_t now = loop_now();
    int n;
    int i;

    while (!loop->quit) {
        n = epoll_wait(loop->epoll, events, LOOP_EVENTS,
                       time_left(loop, now));
        g_assert(n >= 0 || errno == EINTR);
        now = loop_now();
        loop->turn++;
        for (i = 0; i < n; i++) {
            serve_fd(loop, &events[i], now);
        }
        serve_timers(loop, now);
    }
    loop->quit = false;
    return loop->status;
}

void loop_quit(Loop *loop, int status)
{
    loop->status = status;
    loop->quit = true;
}

/* A port that is deaf to a descriptor is none: it ends, and says so. */
static void give_up(Loop *loop, Watch *watch, int err)
{
    if (watch->func) {
        watch->func = NULL;
        loop->n_watches--;
    }
    if (!loop->quit || loop->status == 0) {
        log_error("epoll_ctl: %s; the port ends. If there is no room, raise "
                  "fs.epoll.max_user_watches (sysctl), or give it more memory",
                  g_strerror(err));
    }
    loop_quit(loop, 1);
}

bool loop_is_ending(const Loop *loop)
{
    return loop->quit;
}

void loop_watch(Loop *loop, int fd, int events, LoopFdFunc *func,
                void *opaque)
{
    struct epoll_event event = { .events = 0 };
    int op = EPOLL_CTL_MOD;
    Watch *watch;

    if ((guint)fd >= loop->watches->len) {
        g_array_set_size(loop->watches, fd + 1);
    }
    watch = &g_array_index(loop->watches, Watch, fd);
    if (events & QDES_WATCH_READ) {
        event.events |= EPOLLIN;
    }
    if (events & QDES_WATCH_WRITE) {
        event.events |= EPOLLOUT;
    }
    if (event.events == (watch->func ? watch->events : 0)) {
        return;
    }
    if (!watch->func) {
        op = EPOLL_CTL_ADD;
        watch->func = func;
        watch->opaque = opaque;
        watch->generation++;
        loop->n_watches++;
    } else if (!event.events) {
        op = EPOLL_CTL_DEL;
        watch->func = NULL;
        loop->n_watches--;
    }
    watch->events = event.events;
    event.data.u64 = (uint64_t)watch->generation << 32 | (uint32_t)fd;
    if (epoll_ctl(loop->epoll, op, fd, &event) < 0 && op != EPOLL_CTL_DEL) {
        give_up(loop, watch, errno);
    }
}

LoopTimer *loop_timer_new(Loop *loop, LoopTimerFunc *func, void *opaque)
{
    LoopTimer *timer = g_new0(LoopTimer, 1);

    timer->loop = loop;
    timer->func = func;
    timer->opaque = opaque;
    timer->deadline = NEVER;
    timer->next = loop->timers;
    loop->timers = timer;
    return timer;
}

void loop_timer_set(LoopTimer *timer, int64_t deadline)
{
    timer->deadline = deadline;
}

void loop_timer_stop(LoopTimer *timer)
{
    timer->deadline = NEVER;
}

void loop_timer_free(LoopTimer *timer)
{
    LoopTimer **link;

    if (!timer) {
        return;
    }
    for (link = &timer->loop->timers; *link != timer;) {
        link = &(*link)->next;
    }
    *link = timer->next;
    g_free(timer);
}
