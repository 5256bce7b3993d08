/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONTROL_RETRY_MS 1000       /* until the next accept() after ENFILE */

typedef struct Client {
    Control *control;
    int fd;                         /* -1: gone, an answer is being made */
    LoopTimer *timeout;
    size_t filled;                  /* bytes of @request */
    bool eof;                       /* it will not send any more */
    bool busy;                      /* a thread makes @answer */
    bool last;                      /* close after @answer */
    char *answer;                   /* being written, NULL: none */
    size_t size, written;           /* bytes of @answer */
    char request[REQUEST_MAX];
} Client;

struct Control {
    Loop *loop;
    UnixListener listener;
    char *id;
    ControlStatusFunc *status;
    ControlChangeFunc *change;
    void *opaque;
    Client *clients[CONTROL_CLIENTS]; /* NULL: a free place */
    GThreadPool *pool;              /* one thread, which makes answers */
    guint n_jobs;                   /* answers that are being made */
    GAsyncQueue *done;              /* jobs that are */
    int done_fd;                    /* readable when there may be such */
    LoopTimer *retry;               /* accept, after there was no room */
};

/* What the thread needs to make an answer. */
typedef struct Job {
    RequestCommand command;
    const char *id;
    QdesStatus *status;
    Client *client;                 /* not the thread's to touch */
    char *answer;
} Job;

static void client_ready(void *opaque, int fd, int events, int64_t now);
static void client_continue(Client *client);

static void client_free(Client *client)
{
    loop_timer_free(client->timeout);
    g_free(client->answer);
    g_free(client);
}

/* The place of @client; with NULL a free one, or NULL when there is none. */
static Client **find_place(Control *control, const Client *client)
{
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(control->clients); i++) {
        if (control->clients[i] == client) {
            return &control->clients[i];
        }
    }
    return NULL;
}

static void client_close(Client *client)
{
    Control *control = client->control;

    loop_watch(control->loop, client->fd, QDES_WATCH_NONE, NULL, NULL);
    loop_timer_stop(client->timeout);
    close(client->fd);
    client->fd = -1;
    *find_place(control, client) = NULL;
    if (!client->busy) {
        client_free(client);
    }
}

static void client_timeout(void *opaque, int64_t now)
{
    client_close(opaque);
}

static void client_wait(Client *client, int events)
{
    loop_watch(client->control->loop, client->fd, events, client_ready,
               client);
}

static void client_set_answer(Client *client, char *answer)
{
    client->answer = answer;
    client->size = strlen(answer);
    client->written = 0;
    loop_timer_set(client->timeout, loop_now() + CONTROL_TIMEOUT_MS);
}

/* In the thread. */
static void job_run(void *opaque, void *pool_data)
{
    Job *job = opaque;
    Control *control = pool_data;
    uint64_t one = 1;
    ssize_t ret;

    job->answer = request_answer(job->command, job->id, job->status);
    g_async_queue_push(control->done, job);
    ret = write(control->done_fd, &one, sizeof(one));
    g_assert(ret == sizeof(one));
}

static void job_done(Control *control, Job *job)
{
    Client *client = job->client;

    client->busy = false;
    control->n_jobs--;
    if (client->fd < 0) {
        g_free(job->answer);
        client_free(client);
    } else {
        client_set_answer(client, job->answer);
        client_continue(client);
    }
    qdes_status_free(job->status);
    g_free(job);
}

static void control_jobs_done(void *opaque, int fd, int events, int64_t now)
{
    Control *control = opaque;
    uint64_t count;
    Job *job;

    if (read(fd, &count, sizeof(count)) < 0) {
        return;
    }
    while ((job = g_async_queue_try_pop(control->done)) != NULL) {
        job_done(control, job);
    }
}

static void client_start_job(Client *client, RequestCommand command)
{
    Control *control = client->control;
    Job *job = g_new0(Job, 1);

    job->command = command;
    job->id = control->id;
    job->status = control->status(control->opaque);
    job->client = client;
    client->busy = true;
    control->n_jobs++;
    loop_timer_stop(client->timeout);
    client_wait(client, QDES_WATCH_NONE);
    g_thread_pool_push(control->pool, job, NULL);
}

/* After the end of what the client sends, the rest is a line too. */
static bool client_has_line(const Client *client)
{
    return memchr(client->request, '\n', client->filled) ||
           (client->eof && client->filled > 0);
}

/* Take the first line off what was read; returns its length. */
static size_t client_take_line(Client *client, char line[REQUEST_MAX])
{
    char *newline = memchr(client->request, '\n', client->filled);
    size_t size = newline ? (size_t)(newline - client->request)
                          : client->filled;
    size_t taken = newline ? size + 1 : size;

    memcpy(line, client->request, size);
    client->filled -= taken;
    memmove(client->request, client->request + taken, client->filled);
    qdes_wipe(client->request + client->filled, taken);
    return size;
}

/* Have something changed; returns the answer. */
static char *client_change(Client *client, const Request *request)
{
    Control *control = client->control;
    GError *err = NULL;
    size_t n = 0;
    char *answer;

    if (control->change(control->opaque, request, &n, &err)) {
        return request_done(request->command, n);
    }
    answer = request_error("GenericError", err->message);
    g_error_free(err);
    return answer;
}

static void client_next_request(Client *client)
{
    char line[REQUEST_MAX];
    char *answer = NULL;
    Request request;
    size_t size;

    if (client_has_line(client)) {
        size = client_take_line(client, line);
        if (request_parse(&request, line, size, &answer) ==
            REQUEST_INVALID) {
            client_set_answer(client, answer);
        } else if (request_shows(request.command)) {
            client_start_job(client, request.command);
        } else {
            client_set_answer(client, client_change(client, &request));
        }
        request_clear(&request);
        qdes_wipe(line, size);  /* it may have had a secret */
    } else if (client->filled == REQUEST_MAX) {
        client->last = true;
        client_set_answer(client, request_error("GenericError",
                          "the request is too long; at most "
                          G_STRINGIFY(REQUEST_MAX) " bytes"));
    }
}

/* Returns false when the client is gone. */
static bool client_write(Client *client)
{
    ssize_t ret = send(client->fd, client->answer + client->written,
                       client->size - client->written, MSG_NOSIGNAL);

    if (ret < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return true;
        }
        client_close(client);
        return false;
    }
    client->written += ret;
    loop_timer_set(client->timeout, loop_now() + CONTROL_TIMEOUT_MS);
    if (client->written == client->size) {
        g_clear_pointer(&client->answer, g_free);
        if (client->last) {
            client_close(client);
            return false;
        }
    }
    return true;
}

/* Returns false when the client is gone. */
static bool client_read(Client *client)
{
    ssize_t ret = recv(client->fd, client->request + client->filled,
                       REQUEST_MAX - client->filled, 0);

    if (ret < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return true;
        }
        client_close(client);
        return false;
    }
    client->eof = ret == 0;
    client->filled += ret;
    return true;
}

/*
 * Do what can be done now, then wait for what has to come next.  A client
 * whose answers fit into its socket could go on for ever: one step each turn.
 */
static void client_continue(Client *client)
{
    if (!client->answer && !client->busy) {
        client_next_request(client);
    }
    if (client->busy) {
        return;
    }
    if (client->answer && !client_write(client)) {
        return;
    }
    if (client->answer || client_has_line(client)) {
        client_wait(client, QDES_WATCH_WRITE);
    } else if (!client->eof) {
        client_wait(client, QDES_WATCH_READ);
    } else {
        client_close(client);
    }
}

static void client_ready(void *opaque, int fd, int events, int64_t now)
{
    Client *client = opaque;

    if (!client->answer && !client->eof && client->filled < REQUEST_MAX &&
        (events & QDES_WATCH_READ) && !client_read(client)) {
        return;
    }
    client_continue(client);
}

static Client *client_new(Control *control, int fd)
{
    Client *client = g_new0(Client, 1);

    client->control = control;
    client->fd = fd;
    client->timeout = loop_timer_new(control->loop, client_timeout, client);
    loop_timer_set(client->timeout, loop_now() + CONTROL_TIMEOUT_MS);
    client_wait(client, QDES_WATCH_READ);
    return client;
}

/* There are too many clients: say so, and do not care whether it is read. */
static void client_refuse(int fd)
{
    char *answer = request_error("GenericError", "too many clients; try "
                                 "again later");

    if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0) {
        /* it has gone already */
    }
    g_free(answer);
    close(fd);
}

static void control_ready(void *opaque, int fd, int events, int64_t now)
{
    Control *control = opaque;
    Client **place = find_place(control, NULL);
    int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (client < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            /* no descriptor or memory left: the client stays ready, so that
             * trying at once would turn into a busy loop */
            loop_watch(control->loop, fd, QDES_WATCH_NONE, NULL, NULL);
            loop_timer_set(control->retry, now + CONTROL_RETRY_MS);
        }
        return;
    }
    if (place) {
        *place = client_new(control, client);
    } else {
        client_refuse(client);
    }
}

static void control_accept(void *opaque, int64_t now)
{
    Control *control = opaque;

    loop_watch(control->loop, control->listener.fd, QDES_WATCH_READ,
               control_ready, control);
}

Control *control_new(Loop *loop, const char *path, GError **errp)
{
    Control *control = g_new0(Control, 1);

    control->loop = loop;
    control->retry = loop_timer_new(loop, control_accept, control);
    control->done_fd = -1;
    if (!unix_listener_open(&control->listener, path, errp)) {
        control_free(control);
        return NULL;
    }
    control->done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (control->done_fd < 0) {
        g_set_error(errp, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "--control=%s: eventfd: %s", path, g_strerror(errno));
        control_free(control);
        return NULL;
    }
    return control;
}

void control_start(Control *control, const char *id,
                   ControlStatusFunc *status, ControlChangeFunc *change,
                   void *opaque)
{
    control->id = g_strdup(id);
    control->status = status;
    control->change = change;
    control->opaque = opaque;
    control->done = g_async_queue_new();
    control->pool = g_thread_pool_new(job_run, control, 1, false, NULL);
    loop_watch(control->loop, control->done_fd, QDES_WATCH_READ,
               control_jobs_done, control);
    control_accept(control, loop_now());
}

UnixListener *control_listener(Control *control)
{
    return &control->listener;
}

void control_free(Control *control)
{
    size_t i;

    if (!control) {
        return;
    }
    for (i = 0; i < G_N_ELEMENTS(control->clients); i++) {
        if (control->clients[i]) {
            client_close(control->clients[i]);
        }
    }
    if (control->listener.fd >= 0) {
        loop_watch(control->loop, control->listener.fd, QDES_WATCH_NONE, NULL,
                   NULL);
    }
    unix_listener_close(&control->listener);
    while (control->n_jobs > 0) {
        job_done(control, g_async_queue_pop(control->done));
    }
    if (control->pool) {
        g_thread_pool_free(control->pool, false, true);
        g_async_queue_unref(control->done);
        loop_watch(control->loop, control->done_fd, QDES_WATCH_NONE, NULL,
                   NULL);
    }
    if (control->done_fd >= 0) {
        close(control->done_fd);
    }
    loop_timer_free(control->retry);
    g_free(control->id);
    g_free(control);
}
