/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "statusclient.h"

#include <errno.h>
#include <glob.h>
#include <json-glib/json-glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"

#define STATUS_TIMEOUT_S 10
#define STATUS_MAX (512 * 1024 * 1024)  /* bytes: the largest FDB has 110 M */

/* Add the sockets of the pattern DIRECTORY/NAME/control. */
static void find_sockets(GPtrArray *found, const char *directory)
{
    char *pattern = g_build_filename(directory, "qdes-tap", "*", "control",
                                     NULL);
    glob_t paths;
    size_t i;

    if (glob(pattern, 0, NULL, &paths) == 0) {
        for (i = 0; i < paths.gl_pathc; i++) {
            struct stat st;

            if (stat(paths.gl_pathv[i], &st) == 0 && S_ISSOCK(st.st_mode)) {
                g_ptr_array_add(found, g_strdup(paths.gl_pathv[i]));
            }
        }
        globfree(&paths);
    }
    g_free(pattern);
}

/* The one socket that there is; NULL after telling why there is none. */
static char *find_socket(void)
{
    GPtrArray *found = g_ptr_array_new_with_free_func(g_free);
    const char *runtime = g_getenv("XDG_RUNTIME_DIR");
    char *path = NULL;
    char *list;

    find_sockets(found, "/run");
    if (runtime && g_path_is_absolute(runtime)) {
        find_sockets(found, runtime);
    }
    if (found->len == 1) {
        path = g_strdup(g_ptr_array_index(found, 0));
    } else if (found->len == 0) {
        log_error("no port found in /run/qdes-tap or $XDG_RUNTIME_DIR/"
                  "qdes-tap; give the --control PATH that it was started "
                  "with");
    } else {
        g_ptr_array_add(found, NULL);
        list = g_strjoinv(" ", (char **)found->pdata);
        log_error("several ports found; give the --control PATH of one of "
                  "them: %s", list);
        g_free(list);
    }
    g_ptr_array_unref(found);
    return path;
}

static const char *explain(int err)
{
    switch (err) {
    case ENOENT:
    case ENOTDIR:
        return "there is no such socket; is qdes-tap running with this "
               "--control?";
    case ECONNREFUSED:
        return "nobody listens there; the qdes-tap that made it has died";
    case EACCES:
        return "only the user that qdes-tap runs as, and root, may ask";
    case EAGAIN:
        return "no answer; is qdes-tap stopped?";
    default:
        return g_strerror(err);
    }
}

/* Returns a connected socket, or -1 with errno set. */
static int connect_to(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct timeval limit = { .tv_sec = STATUS_TIMEOUT_S };
    int fd;
    int err;

    if (strlen(path) >= sizeof(addr.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(addr.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
        connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        err = errno;
        close(fd);
        errno = err;
        return -1;
    }
    return fd;
}

/* Ask, and return the line of the answer, or NULL with errno set. */
static GString *ask(const char *path, const char *request)
{
    gint64 deadline = g_get_monotonic_time() +
                      STATUS_TIMEOUT_S * G_TIME_SPAN_SECOND;
    int fd = connect_to(path);
    GString *answer;
    int err = 0;

    if (fd < 0) {
        return NULL;
    }
    answer = g_string_new(NULL);
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0 &&
        errno != EPIPE) {
        err = errno;
    }
    while (!err && (answer->len == 0 ||
                    answer->str[answer->len - 1] != '\n')) {
        char buf[65536];
        ssize_t ret = recv(fd, buf, sizeof(buf), 0);

        if (ret > 0) {
            g_string_append_len(answer, buf, ret);
        } else {
            err = ret == 0 ? ECONNRESET : errno;
        }
        if (answer->len > STATUS_MAX) {
            err = EMSGSIZE;
        } else if (g_get_monotonic_time() > deadline) {
            err = EAGAIN;
        }
    }
    close(fd);
    if (err) {
        g_string_free(answer, true);
        errno = err;
        return NULL;
    }
    return answer;
}

static bool print_text(const char *text)
{
    if (fputs(text, stdout) == EOF || fflush(stdout) == EOF) {
        log_error("cannot write the status to stdout: %s", g_strerror(errno));
        return false;
    }
    return true;
}

/* Print the @value that was returned. */
static bool print_value(JsonNode *value, bool json)
{
    char *text;
    char *line;
    bool ok;

    if (!json) {
        return print_text(json_node_get_string(value));
    }
    text = json_to_string(value, true);
    line = g_strconcat(text, "\n", NULL);
    ok = print_text(line);
    g_free(line);
    g_free(text);
    return ok;
}

/* What an {"error": ...} says, or NULL. */
static const char *error_desc(JsonObject *object)
{
    JsonNode *node = json_object_get_member(object, "error");

    if (!node || !JSON_NODE_HOLDS_OBJECT(node)) {
        return NULL;
    }
    return json_object_get_string_member_with_default(
        json_node_get_object(node), "desc", NULL);
}

/* What was asked for, for printing. */
typedef enum Answer {
    ANSWER_TEXT,
    ANSWER_JSON,
    ANSWER_CHANGE,
} Answer;

static bool is_expected(JsonNode *value, Answer kind)
{
    return kind == ANSWER_TEXT ? JSON_NODE_HOLDS_VALUE(value) &&
                                 json_node_get_string(value) :
                                 JSON_NODE_HOLDS_OBJECT(value);
}

/* How many entries were flushed, where that was asked for. */
static bool print_change(JsonNode *value)
{
    JsonObject *object = json_node_get_object(value);
    int64_t n = json_object_get_int_member_with_default(object, "flushed", -1);
    char *text;
    bool ok;

    if (n < 0) {
        return true;
    }
    text = g_strdup_printf("%" G_GINT64_FORMAT " MAC addresses forgotten\n",
                           n);
    ok = print_text(text);
    g_free(text);
    return ok;
}

static bool print_answer(const char *path, const GString *answer, Answer kind)
{
    JsonParser *parser = json_parser_new();
    JsonNode *root;
    JsonNode *value = NULL;
    const char *desc = NULL;
    bool ok = false;

    if (g_utf8_validate(answer->str, answer->len, NULL) &&
        json_parser_load_from_data(parser, answer->str, answer->len, NULL) &&
        (root = json_parser_get_root(parser)) &&
        JSON_NODE_HOLDS_OBJECT(root)) {
        value = json_object_get_member(json_node_get_object(root), "return");
        desc = error_desc(json_node_get_object(root));
    }
    if (!value || !is_expected(value, kind)) {
        log_error("--control=%s: %s", path,
                  desc ? desc : "the answer makes no sense; is this the "
                                "socket of a qdes-tap?");
    } else if (kind == ANSWER_CHANGE) {
        ok = print_change(value);
    } else {
        ok = print_value(value, kind == ANSWER_JSON);
    }
    g_object_unref(parser);
    return ok;
}

/* Ask, and print the answer.  Returns the exit status. */
static int client(const char *path, const char *request, Answer kind)
{
    char *found = path ? NULL : find_socket();
    GString *answer;
    bool ok;

    if (!path && !found) {
        return 1;
    }
    path = path ? path : found;
    answer = ask(path, request);
    if (answer) {
        ok = print_answer(path, answer, kind);
        g_string_free(answer, true);
    } else {
        ok = false;
        log_error("--control=%s: %s", path, explain(errno));
    }
    g_free(found);
    return ok ? 0 : 1;
}

int status_client(const char *path, bool json)
{
    Request request = {
        .command = json ? REQUEST_QUERY_QDES : REQUEST_INFO_QDES,
    };
    char *line = request_line(&request);
    int status = client(path, line, json ? ANSWER_JSON : ANSWER_TEXT);

    g_free(line);
    return status;
}

int change_client(const char *path, const Request *request)
{
    char *line;
    int status;

    if ((request->mac && !g_utf8_validate(request->mac, -1, NULL)) ||
        (request->peer && !g_utf8_validate(request->peer, -1, NULL))) {
        log_error("--mac or --peer is not UTF-8; give addresses");
        return 1;
    }
    line = request_line(request);
    status = client(path, line, ANSWER_CHANGE);
    qdes_wipe(line, strlen(line));
    g_free(line);
    return status;
}
