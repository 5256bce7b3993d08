/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Resolver: the thread that waits for answers, so that nobody else has to. */

#include "qdes/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "qdes/config.h"

/* What the thread and its resolver share. */
typedef struct Shared {
    gint refs;
    GMutex lock;                /* of all that follows */
    GCond more;                 /* there is something to do */
    GQueue questions;           /* QdesSeedQuestion */
    GQueue answers;             /* QdesAnswer */
    bool busy;                  /* a lookup is under way */
    bool quit;                  /* nobody waits for answers any more */
    int wake_fd;                /* a byte here: answers are there */
} Shared;

struct QdesResolver {
    Shared *shared;
    GThread *thread;            /* NULL: not needed yet */
    int fd;
    unsigned pending;           /* asked and not taken */
    bool v4, v6;
    QdesLookup *lookup;
    void *opaque;
};

/* What the thread is given of its own. */
typedef struct Job {
    Shared *shared;
    bool v4, v6;
    QdesLookup *lookup;
    void *opaque;
} Job;

void qdes_answer_clear(QdesAnswer *answer)
{
    g_clear_pointer(&answer->error, g_free);
    if (answer->endpoints) {
        g_array_free(answer->endpoints, true);
        answer->endpoints = NULL;
    }
}

void qdes_answer_add(QdesAnswer *answer, const QdesAddr *addr)
{
    if (answer->endpoints->len < QDES_RESOLVER_ANSWER_MAX &&
        qdes_seed_is_host(addr)) {
        g_array_append_val(answer->endpoints, *addr);
    }
}

static void free_answer(gpointer data)
{
    qdes_answer_clear(data);
    g_free(data);
}

static void unref(Shared *shared)
{
    if (g_atomic_int_dec_and_test(&shared->refs)) {
        g_queue_clear_full(&shared->questions, g_free);
        g_queue_clear_full(&shared->answers, free_answer);
        g_cond_clear(&shared->more);
        g_mutex_clear(&shared->lock);
        g_free(shared);
    }
}

/* With the lock held. */
static void deliver(Shared *shared, QdesAnswer *answer)
{
    ssize_t ret;

    if (g_queue_is_empty(&shared->answers)) {
        do {
            ret = write(shared->wake_fd, "", 1);
        } while (ret < 0 && errno == EINTR);
    }
    g_queue_push_tail(&shared->answers, answer);
}

static QdesAnswer *make_answer(const Job *job,
                               const QdesSeedQuestion *question)
{
    QdesAnswer *answer = g_new0(QdesAnswer, 1);

    answer->id = question->id;
    answer->ttl = QDES_RESOLVER_TTL;
    answer->endpoints = g_array_new(false, false, sizeof(QdesAddr));
    job->lookup(question, job->v4, job->v6, answer, job->opaque);
    if (!answer->error && answer->endpoints->len == 0) {
        answer->error = g_strdup("it has no address that a peer can have");
    }
    return answer;
}

static gpointer run(gpointer data)
{
    Job *job = data;
    Shared *shared = job->shared;
    QdesSeedQuestion *question;
    QdesAnswer *answer;

    g_mutex_lock(&shared->lock);
    while (!shared->quit) {
        question = g_queue_pop_head(&shared->questions);
        if (!question) {
            g_cond_wait(&shared->more, &shared->lock);
            continue;
        }
        shared->busy = true;
        g_mutex_unlock(&shared->lock);
        answer = make_answer(job, question);
        g_free(question);
        g_mutex_lock(&shared->lock);
        shared->busy = false;
        if (shared->quit) {
            free_answer(answer);
        } else {
            deliver(shared, answer);
        }
    }
    g_mutex_unlock(&shared->lock);
    unref(shared);
    g_free(job);
    return NULL;
}

static bool open_pipe(int fds[2])
{
    int i;

    if (pipe(fds) < 0) {
        return false;
    }
    for (i = 0; i < 2; i++) {
        fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK);
        fcntl(fds[i], F_SETFD, FD_CLOEXEC);
    }
    return true;
}

QdesResolver *qdes_resolver_new(bool v4, bool v6, QdesLookup *lookup,
                                void *opaque, GError **errp)
{
    QdesResolver *r;
    int fds[2];

    if (!open_pipe(fds)) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM, "pipe: %s",
                    g_strerror(errno));
        return NULL;
    }
    r = g_new0(QdesResolver, 1);
    r->v4 = v4;
    r->v6 = v6;
    r->lookup = lookup ? lookup : qdes_lookup_system;
    r->opaque = opaque;
    r->fd = fds[0];
    r->shared = g_new0(Shared, 1);
    r->shared->refs = 1;
    r->shared->wake_fd = fds[1];
    g_mutex_init(&r->shared->lock);
    g_cond_init(&r->shared->more);
    return r;
}

void qdes_resolver_free(QdesResolver *r)
{
    bool busy;

    if (!r) {
        return;
    }
    g_mutex_lock(&r->shared->lock);
    r->shared->quit = true;
    busy = r->shared->busy;
    close(r->shared->wake_fd);
    g_cond_signal(&r->shared->more);
    g_mutex_unlock(&r->shared->lock);
    close(r->fd);
    if (r->thread && busy) {
        g_thread_unref(r->thread); /* it goes when it can */
    } else if (r->thread) {
        g_thread_join(r->thread);
    }
    unref(r->shared);
    g_free(r);
}

int qdes_resolver_fd(const QdesResolver *r)
{
    return r->fd;
}

bool qdes_resolver_has_room(const QdesResolver *r)
{
    return r->pending < QDES_RESOLVER_PENDING;
}

/* Signals are for the threads that were there before. */
static GThread *start_thread(QdesResolver *r, GError **errp)
{
    Job *job = g_new0(Job, 1);
    sigset_t all, before;
    GThread *thread;

    *job = (Job) { r->shared, r->v4, r->v6, r->lookup, r->opaque };
    g_atomic_int_inc(&r->shared->refs);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread = g_thread_try_new("qdes-resolver", run, job, errp);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!thread) {
        g_atomic_int_add(&r->shared->refs, -1);
        g_free(job);
    }
    return thread;
}

void qdes_resolver_ask(QdesResolver *r, const QdesSeedQuestion *question)
{
    g_autoptr(GError) err = NULL;
    QdesSeedQuestion *copy;
    QdesAnswer *answer;

    g_assert(qdes_resolver_has_room(r));
    r->pending++;
    if (!r->thread) {
        r->thread = start_thread(r, &err);
    }
    g_mutex_lock(&r->shared->lock);
    if (r->thread) {
        copy = g_new(QdesSeedQuestion, 1);
        *copy = *question;
        g_queue_push_tail(&r->shared->questions, copy);
        g_cond_signal(&r->shared->more);
    } else {
        answer = g_new0(QdesAnswer, 1);
        answer->id = question->id;
        answer->error = g_strdup(err->message);
        deliver(r->shared, answer);
    }
    g_mutex_unlock(&r->shared->lock);
}

bool qdes_resolver_take(QdesResolver *r, QdesAnswer *answer)
{
    QdesAnswer *first;
    char buf[8];

    g_mutex_lock(&r->shared->lock);
    first = g_queue_pop_head(&r->shared->answers);
    if (g_queue_is_empty(&r->shared->answers)) {
        while (read(r->fd, buf, sizeof(buf)) > 0) {
            /* until it is empty */
        }
    }
    g_mutex_unlock(&r->shared->lock);
    if (!first) {
        return false;
    }
    r->pending--;
    *answer = *first;
    g_free(first);
    return true;
}
