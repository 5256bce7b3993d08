/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdes-tap: a TAP device as a port of a QDES fabric
 *
 * The order of things: check every option, so that nothing is begun that
 * cannot be finished; open the TAP, the only thing that may need root; become
 * the user; open what is left; drop every privilege, and whatever else is not
 * needed; be ready; forward until a signal comes; leave the fabric with a BYE
 * and take away what was made.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "capture.h"
#include "control.h"
#include "helper.h"
#include "log.h"
#include "loop.h"
#include "notify.h"
#include "options.h"
#include "port.h"
#include "privileges.h"
#include "sandbox.h"
#include "secretfile.h"
#include "statusclient.h"
#include "tap.h"

enum {
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
};

/* All that is open while the port runs. */
typedef struct Program {
    Loop *loop;
    int signals;
    Tap tap;
    PrivilegesUser user;
    SandboxMode sandbox;
    Helper *helper;
    QdesConfig config;
    Control *control;
    Capture *capture;
    Port *port;
} Program;

/*
 * A descriptor that is opened must not become 0, 1 or 2: what is printed
 * there would end up in it.
 */
static void occupy_standard_fds(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        close(fd);
    }
}

/*
 * libqdes knows options without the dashes, by the names that QEMU has for
 * them, and what can be repeated here is a list with numbers there.  Returns
 * how many bytes of @message are an option, 0: it begins with none, and the
 * option that this is here, for the caller to free.
 */
static size_t find_option(const char *message, char **option)
{
    static const char *const others[][2] = {
        { "peers", "peer" },
        { "secret", "secret-file" },
        { "secret-old", "secret-old-file" },
    };
    size_t length = strspn(message, "abcdefghijklmnopqrstuvwxyz-");
    size_t i;

    *option = g_strndup(message, length);
    for (i = 0; i < G_N_ELEMENTS(others); i++) {
        if (g_str_equal(*option, others[i][0])) {
            g_free(*option);
            *option = g_strdup(others[i][1]);
            break;
        }
    }
    length += strspn(message + length, ".0123456789");
    return message[length] == '=' || message[length] == ':' ? length : 0;
}

/* Tell what is wrong with the command line or what it asks for. */
static int fail(GError *err)
{
    int status = EXIT_FAILED;
    char *option;
    size_t length = find_option(err->message, &option);

    if (g_error_matches(err, OPTIONS_ERROR, OPTIONS_ERROR_USAGE)) {
        log_error("%s; see qdes-tap --help", err->message);
        status = EXIT_USAGE;
    } else if (err->domain == QDES_ERROR && length > 0) {
        log_error("--%s%s", option, err->message + length);
    } else {
        log_error("%s", err->message);
    }
    g_free(option);
    g_error_free(err);
    return status;
}

static bool read_secrets(const Options *options, QdesSecret *secret,
                         QdesSecret *secret_old, GError **errp)
{
    return secret_read(secret, "secret-file", options->secret_file, errp) &&
           secret_read(secret_old, "secret-old-file",
                       options->secret_old_file, errp);
}

/* Check all that can be checked without beginning anything. */
static bool check_options(Program *program, Options *options, GError **errp)
{
    char host[256] = "localhost";
    char name[QDES_NAME_MAX + 1];
    bool ok;

    if (!tap_check_name(options->tap, errp) ||
        !read_secrets(options, &options->fabric.secret,
                      &options->fabric.secret_old, errp)) {
        return false;
    }
    if (gethostname(host, sizeof(host)) == 0) {
        host[sizeof(host) - 1] = '\0';
    }
    options_default_name(name, host, options->tap);
    options->fabric.default_name = name;
    options->fabric.default_loop_guard = true;
    ok = qdes_config_init(&program->config, &options->fabric, errp);
    options->fabric.default_name = NULL;
    if (!ok) {
        return false;
    }
    program->config.plain_io = options->plain_io;
    if (strcmp(program->config.iface, options->tap) == 0) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION, "iface=%s: this is "
                    "the TAP device, whose frames are to be carried; give "
                    "the interface that carries them", options->tap);
        return false;
    }
    if (!sandbox_parse(&program->sandbox, options->sandbox, errp) ||
        !privileges_find_user(&program->user, options->user, errp)) {
        return false;
    }
    if (options->pcap) {
        program->capture = capture_new(options->pcap_filter, errp);
    }
    return !options->pcap || program->capture;
}

static void signal_ready(void *opaque, int fd, int events, int64_t now)
{
    Program *program = opaque;
    struct signalfd_siginfo info;

    if (read(fd, &info, sizeof(info)) == sizeof(info)) {
        log_info("%s: leaving the fabric", strsignal(info.ssi_signo));
        loop_quit(program->loop, EXIT_SUCCESS);
    }
}

/*
 * From here on a signal waits until the loop can take it.  SIGHUP says that
 * the terminal is gone, unless nohup(1) has it ignored.
 */
static void take_signals(Program *program)
{
    struct sigaction hangup;
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigaction(SIGHUP, NULL, &hangup) == 0 &&
        hangup.sa_handler != SIG_IGN) {
        sigaddset(&set, SIGHUP);
    }
    sigprocmask(SIG_BLOCK, &set, NULL);
    program->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (program->signals < 0) {
        log_error("signalfd: %s", g_strerror(errno));
        exit(EXIT_FAILED);
    }
    loop_watch(program->loop, program->signals, QDES_WATCH_READ, signal_ready,
               program);
}

static bool open_tap(Program *program, const Options *options, GError **errp)
{
    Tap *tap = &program->tap;

    if (!tap_open(tap, options->tap, program->config.vnet_hdr, errp)) {
        return false;
    }
    if (options->fabric.has_vnet_hdr && options->fabric.vnet_hdr &&
        !tap->port.vnet_size) {
        log_info("--vnet-hdr=on: %s can have no virtio_net_hdr; it is slower "
                 "without", tap->name);
    }
    if (!tap_bring_up(tap)) {
        if (errno == EPERM) {
            log_warning("%s is down, and setting it up takes root; run: sudo "
                        "ip link set %s up", tap->name, tap->name);
        } else {
            log_warning("%s is down, and setting it up failed: %s; run: sudo "
                        "ip link set %s up", tap->name, g_strerror(errno),
                        tap->name);
        }
    }
    if (tap->multi_queue) {
        log_info("%s has several queues; frames in those of other programs "
                 "are not seen here", tap->name);
    }
    return true;
}

/* The fabric keeps what it derived from them. */
static void wipe_secrets(Options *options)
{
    secret_wipe(&options->fabric.secret);
    secret_wipe(&options->fabric.secret_old);
}

/* The sandbox has no files; where such are needed later, this helps. */
static bool start_helper(Program *program, const Options *options,
                         GError **errp)
{
    UnixListener *listener = program->control ?
                             control_listener(program->control) : NULL;

    if (program->sandbox == SANDBOX_OFF ||
        (!listener && options->fabric.n_peers == 0)) {
        return true;
    }
    program->helper = helper_start(listener, program->sandbox == SANDBOX_LOG,
                                   errp);
    if (!program->helper) {
        return false;
    }
    program->config.lookup = helper_lookup;
    program->config.lookup_opaque = program->helper;
    if (listener) {
        unix_listener_disown(listener);
    }
    return true;
}

/* Everything is open: give up what else there is. */
static bool confine(const Program *program, GError **errp)
{
    bool sandbox = program->sandbox != SANDBOX_OFF;

    if (sandbox) {
        sandbox_isolate();
    }
    if (!privileges_drop(errp)) {
        return false;
    }
    if (sandbox) {
        sandbox_enter(program->sandbox);
    } else {
        log_warning("--sandbox=off: who gets into this process by a flaw of "
                    "it can do all that its user may");
    }
    return true;
}

/* Open everything; the order is privileges.h's. */
static bool start(Program *program, Options *options, GError **errp)
{
    if (!open_tap(program, options, errp) ||
        !privileges_become(&program->user, errp)) {
        return false;
    }
    if (options->control) {
        program->control = control_new(program->loop, options->control, errp);
        if (!program->control) {
            return false;
        }
    }
    if (program->capture &&
        !capture_open(program->capture, options->pcap, errp)) {
        return false;
    }
    if (!start_helper(program, options, errp)) {
        return false;
    }
    program->port = port_new(program->loop, &program->tap, program->capture,
                             &program->config, errp);
    wipe_secrets(options);
    return program->port && confine(program, errp);
}

static QdesStatus *get_status(void *opaque)
{
    return port_status(opaque);
}

static bool change(void *opaque, const Request *request, size_t *n,
                   GError **errp)
{
    return port_change(opaque, request, n, errp);
}

static void log_ready(Program *program)
{
    QdesStatus *status = port_status(program->port);
    char group[QDES_ADDR_STRLEN];
    char local[QDES_ADDR_STRLEN];

    g_autofree char *where =
        !status->has_group ? g_strdup("no group") :
        g_strdup_printf("group %s on %s",
                        qdes_addr_format(&status->group, group),
                        *status->iface ? status->iface : "no interface yet");

    log_info("%s%s is ready: network ID %u, name \"%s\", %s, local address "
             "%s", program->tap.name, program->tap.created ? " (new)" : "",
             status->netid, status->name, where,
             qdes_addr_format(&status->local, local));
    qdes_status_free(status);
}

static int run(Program *program)
{
    char *summary;

    if (program->capture) {
        capture_start(program->capture);
    }
    if (program->control) {
        control_start(program->control, program->tap.name, get_status,
                      change, program->port);
    }
    if (loop_is_ending(program->loop)) {
        return loop_run(program->loop); /* it has said why */
    }
    summary = port_summary(program->port);
    notify_ready(summary);
    g_free(summary);
    log_ready(program);
    return loop_run(program->loop);
}

static void stop(Program *program)
{
    bool has_socket = program->control;

    port_free(program->port);
    control_free(program->control);
    helper_stop(program->helper, has_socket);
    capture_free(program->capture);
    tap_close(&program->tap);
    loop_watch(program->loop, program->signals, QDES_WATCH_NONE, NULL, NULL);
    close(program->signals);
    loop_free(program->loop);
}

static int run_port(Options *options)
{
    Program program = { .tap = { .fd = -1 } };
    GError *err = NULL;
    int status;

    if (!check_options(&program, options, &err)) {
        capture_free(program.capture);
        return fail(err);
    }
    program.loop = loop_new();
    if (!program.loop) {
        log_error("epoll_create1: %s", g_strerror(errno));
        capture_free(program.capture);
        return EXIT_FAILED;
    }
    take_signals(&program);
    notify_open();
    if (start(&program, options, &err)) {
        status = run(&program);
    } else {
        status = fail(err);
    }
    notify_stopping();
    notify_close();
    stop(&program);
    return status;
}

/* What a port would refuse is refused here, where files have names. */
static int change_port(Options *options)
{
    Request *request = &options->request;
    GError *err = NULL;
    int status;

    if (read_secrets(options, &request->secret, &request->secret_old, &err) &&
        qdes_config_check_secrets(&request->secret, &request->secret_old,
                                  &err)) {
        status = change_client(options->control, request);
    } else {
        status = fail(err);
    }
    secret_wipe(&request->secret);
    secret_wipe(&request->secret_old);
    return status;
}

static int print(const char *text)
{
    if (fputs(text, stdout) == EOF || fflush(stdout) == EOF) {
        log_error("cannot write to stdout: %s", g_strerror(errno));
        return EXIT_FAILED;
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    Options options;
    GError *err = NULL;
    char *help;
    int status = EXIT_FAILED;

    occupy_standard_fds();
    log_init(false);
    if (!options_parse(&options, argc, argv, &err)) {
        status = fail(err);
        options_clear(&options);
        return status;
    }
    log_init(options.quiet);
    switch (options.mode) {
    case OPTIONS_HELP:
        help = options_help();
        status = print(help);
        g_free(help);
        break;
    case OPTIONS_VERSION:
        status = print("qdes-tap " QDES_VERSION "\n");
        break;
    case OPTIONS_STATUS:
        signal(SIGPIPE, SIG_IGN);
        status = status_client(options.control, options.json);
        break;
    case OPTIONS_CHANGE:
        signal(SIGPIPE, SIG_IGN);
        status = change_port(&options);
        break;
    case OPTIONS_RUN:
        status = run_port(&options);
        wipe_secrets(&options);
        break;
    }
    options_clear(&options);
    return status;
}
