/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "loop.h"

struct Loop {
    GMainLoop *main;
    GHashTable *watches;        /* fd -> FdSource */
    int status;
};

typedef struct FdSource {
    GSource source;
    gpointer tag;
    int fd;
    LoopFdFunc *func;
    void *opaque;
} FdSource;

struct LoopTimer {
    GSource source;
    LoopTimerFunc *func;
    void *opaque;
};

static gboolean fd_dispatch(GSource *source, GSourceFunc callback,
                            gpointer data)
{
    FdSource *watch = (FdSource *)source;
    GIOCondition ready = g_source_query_unix_fd(source, watch->tag);
    int events = 0;

    if (ready & (G_IO_IN | G_IO_ERR | G_IO_HUP | G_IO_NVAL)) {
        events |= QDES_WATCH_READ;
    }
    if (ready & G_IO_OUT) {
        events |= QDES_WATCH_WRITE;
    }
    if (events) {
        watch->func(watch->opaque, watch->fd, events,
                    g_source_get_time(source) / 1000);
    }
    return G_SOURCE_CONTINUE;
}

static gboolean timer_dispatch(GSource *source, GSourceFunc callback,
                               gpointer data)
{
    LoopTimer *timer = (LoopTimer *)source;

    g_source_set_ready_time(source, -1);
    timer->func(timer->opaque, g_source_get_time(source) / 1000);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs fd_funcs = { .dispatch = fd_dispatch };
static GSourceFuncs timer_funcs = { .dispatch = timer_dispatch };

Loop *loop_new(void)
{
    Loop *loop = g_new0(Loop, 1);

    loop->main = g_main_loop_new(NULL, false);
    loop->watches = g_hash_table_new(NULL, NULL);
    return loop;
}

void loop_free(Loop *loop)
{
    g_assert(g_hash_table_size(loop->watches) == 0);
    g_hash_table_unref(loop->watches);
    g_main_loop_unref(loop->main);
    g_free(loop);
}

int loop_run(Loop *loop)
{
    g_main_loop_run(loop->main);
    return loop->status;
}

void loop_quit(Loop *loop, int status)
{
    loop->status = status;
    g_main_loop_quit(loop->main);
}

int64_t loop_now(void)
{
    return g_get_monotonic_time() / 1000;
}

void loop_watch(Loop *loop, int fd, int events, LoopFdFunc *func,
                void *opaque)
{
    FdSource *watch = g_hash_table_lookup(loop->watches, GINT_TO_POINTER(fd));
    GIOCondition condition = 0;

    if (events & QDES_WATCH_READ) {
        condition |= G_IO_IN;
    }
    if (events & QDES_WATCH_WRITE) {
        condition |= G_IO_OUT;
    }
    if (watch && condition) {
        g_source_modify_unix_fd(&watch->source, watch->tag, condition);
    } else if (watch) {
        g_hash_table_remove(loop->watches, GINT_TO_POINTER(fd));
        g_source_destroy(&watch->source);
        g_source_unref(&watch->source);
    } else if (condition) {
        watch = (FdSource *)g_source_new(&fd_funcs, sizeof(*watch));
        watch->fd = fd;
        watch->func = func;
        watch->opaque = opaque;
        watch->tag = g_source_add_unix_fd(&watch->source, fd, condition);
        g_source_attach(&watch->source, NULL);
        g_hash_table_insert(loop->watches, GINT_TO_POINTER(fd), watch);
    }
}

LoopTimer *loop_timer_new(LoopTimerFunc *func, void *opaque)
{
    GSource *source = g_source_new(&timer_funcs, sizeof(LoopTimer));
    LoopTimer *timer = (LoopTimer *)source;

    timer->func = func;
    timer->opaque = opaque;
    g_source_attach(source, NULL);
    return timer;
}

void loop_timer_set(LoopTimer *timer, int64_t deadline)
{
    /* GLib counts microseconds; a time beyond its range never comes */
    g_source_set_ready_time(&timer->source,
                            deadline > G_MAXINT64 / 1000
                            ? -1 : MAX(deadline, 0) * 1000);
}

void loop_timer_stop(LoopTimer *timer)
{
    g_source_set_ready_time(&timer->source, -1);
}

void loop_timer_free(LoopTimer *timer)
{
    if (timer) {
        g_source_destroy(&timer->source);
        g_source_unref(&timer->source);
    }
}
