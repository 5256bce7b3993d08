/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "helper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qdes/config.h"

#include "log.h"
#include "privileges.h"
#include "sandbox.h"

#define HELPER_FD 3             /* the socket, in the helper */
#define HELPER_ERROR_MAX 256    /* bytes of an error's text */

typedef enum HelperCommand {
    HELPER_LOOKUP = 1,
    HELPER_REMOVE = 2,
} HelperCommand;

/* Both processes are one program: what they say needs no format. */
typedef struct HelperRequest {
    uint32_t command;
    bool v4, v6;
    QdesSeedQuestion question;
} HelperRequest;

/* Followed by @n_endpoints QdesAddr. */
typedef struct HelperReply {
    uint32_t n_endpoints;
    uint32_t ttl;
    char error[HELPER_ERROR_MAX]; /* empty: none */
} HelperReply;

struct Helper {
    pid_t pid;
    int fd;
};

/*
 * There is one at most, and it is never freed: a lookup that hangs may still
 * look at it when the port has ended.
 */
static Helper the_helper = { .fd = -1 };

static bool write_all(int fd, const void *data, size_t size)
{
    const char *at = data;
    ssize_t ret;

    while (size > 0) {
        ret = send(fd, at, size, MSG_NOSIGNAL);
        if (ret < 0 && errno != EINTR) {
            return false;
        }
        if (ret > 0) {
            at += ret;
            size -= ret;
        }
    }
    return true;
}

static bool read_all(int fd, void *data, size_t size)
{
    char *at = data;
    ssize_t ret;

    while (size > 0) {
        ret = recv(fd, at, size, MSG_WAITALL);
        if (ret == 0 || (ret < 0 && errno != EINTR)) {
            return false;
        }
        if (ret > 0) {
            at += ret;
            size -= ret;
        }
    }
    return true;
}

/* In the helper */

static void answer_request(const HelperRequest *request)
{
    HelperReply reply = { .ttl = QDES_RESOLVER_TTL };
    QdesAnswer answer = {
        .ttl = QDES_RESOLVER_TTL,
        .endpoints = g_array_new(false, false, sizeof(QdesAddr)),
    };

    qdes_lookup_system(&request->question, request->v4, request->v6, &answer,
                       NULL);
    if (answer.error) {
        g_strlcpy(reply.error, answer.error, sizeof(reply.error));
        g_array_set_size(answer.endpoints, 0);
    }
    reply.n_endpoints = answer.endpoints->len;
    reply.ttl = answer.ttl;
    if (write_all(HELPER_FD, &reply, sizeof(reply))) {
        write_all(HELPER_FD, answer.endpoints->data,
                  answer.endpoints->len * sizeof(QdesAddr));
    }
    qdes_answer_clear(&answer);
}

/* A lookup may take long, and what else is asked must not wait for it. */
static void *lookup_thread(void *opaque)
{
    GAsyncQueue *requests = opaque;
    HelperRequest *request;

    while ((request = g_async_queue_pop(requests)) != NULL) {
        answer_request(request);
        g_free(request);
    }
    return NULL;
}

static void serve(const UnixListener *listener)
{
    GAsyncQueue *requests = g_async_queue_new();
    GThread *thread = g_thread_try_new("lookup", lookup_thread, requests,
                                       NULL);
    HelperRequest request;

    while (read_all(HELPER_FD, &request, sizeof(request))) {
        request.question.host[QDES_SEED_HOST_MAX] = '\0';
        if (request.command == HELPER_LOOKUP && !thread) {
            answer_request(&request);   /* then the rest has to wait */
        } else if (request.command == HELPER_LOOKUP) {
            g_async_queue_push(requests, g_memdup2(&request, sizeof(request)));
        } else if (request.command == HELPER_REMOVE && listener) {
            unix_listener_remove(listener);
        }
    }
}

/*
 * All that is the port's alone: also a pipe that its capture is written to.
 * First, as there may be no more descriptors to be had.
 */
static bool drop_descriptors(int fd)
{
    int null;

    if (dup2(fd, HELPER_FD) < 0) {
        return false;
    }
    closefrom(HELPER_FD + 1);
    null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(null, STDOUT_FILENO) < 0) {
        return false;
    }
    close(null);
    return true;
}

static void G_GNUC_NORETURN run(int fd, pid_t parent,
                                const UnixListener *listener, bool log_only)
{
    char *directory = listener ? g_path_get_dirname(listener->path) : NULL;
    GError *err = NULL;

    prctl(PR_SET_NAME, "qdes-tap-helper");
    if (!drop_descriptors(fd) || !privileges_drop(&err)) {
        _exit(EXIT_FAILURE);
    }
    /* after the capabilities: that they change makes the kernel forget it */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) {
        sandbox_enter_helper(directory, log_only);
        serve(listener);
    }
    _exit(EXIT_SUCCESS);
}

/* In the port */

Helper *helper_start(const UnixListener *listener, bool log_only,
                     GError **errp)
{
    Helper *helper = &the_helper;
    pid_t parent = getpid();
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM, "cannot make a "
                    "socket for the process that looks names up: %s",
                    g_strerror(errno));
        return NULL;
    }
    helper->pid = fork();
    if (helper->pid == 0) {
        run(fds[1], parent, listener, log_only);
    }
    close(fds[1]);
    if (helper->pid < 0) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM, "cannot start the "
                    "process that looks names up: %s; --sandbox=off needs "
                    "none", g_strerror(errno));
        close(fds[0]);
        return NULL;
    }
    helper->fd = fds[0];
    return helper;
}

/* Returns false when the helper is gone, or not what it was. */
static bool ask(Helper *helper, const HelperRequest *request,
                QdesAnswer *answer)
{
    HelperReply reply;
    QdesAddr addr;
    uint32_t i;

    if (!write_all(helper->fd, request, sizeof(*request)) ||
        !read_all(helper->fd, &reply, sizeof(reply)) ||
        reply.n_endpoints > QDES_RESOLVER_ANSWER_MAX) {
        return false;
    }
    reply.error[sizeof(reply.error) - 1] = '\0';
    for (i = 0; i < reply.n_endpoints; i++) {
        if (!read_all(helper->fd, &addr, sizeof(addr))) {
            return false;
        }
        qdes_answer_add(answer, &addr);
    }
    answer->ttl = reply.ttl;
    if (*reply.error) {
        answer->error = g_strdup(reply.error);
    }
    return true;
}

void helper_lookup(const QdesSeedQuestion *question, bool v4, bool v6,
                   QdesAnswer *answer, void *opaque)
{
    HelperRequest request = { HELPER_LOOKUP, v4, v6, *question };

    if (!ask(opaque, &request, answer)) {
        answer->error = g_strdup("the process that looks names up has ended; "
                                 "restart the port");
        shutdown(((Helper *)opaque)->fd, SHUT_RDWR);
    }
}

void helper_stop(Helper *helper, bool remove)
{
    HelperRequest request = { .command = HELPER_REMOVE };

    if (!helper) {
        return;
    }
    if (remove && !write_all(helper->fd, &request, sizeof(request))) {
        log_warning("the control socket stays, as the process that should "
                    "remove it has ended; the next start replaces it");
    }
    /* it takes what was sent, then sees the end */
    shutdown(helper->fd, SHUT_RDWR);
    while (waitpid(helper->pid, NULL, 0) < 0 && errno == EINTR) {
        /* until it has ended */
    }
}
