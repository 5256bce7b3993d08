/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sandbox bites: what each process can still do, and what ends it. */

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "landlock.h"
#include "sandbox.h"
#include "syscallfilter.h"

#define NOT_CONFINED 99         /* exit statuses of the process that tries */
#define WENT_WELL 98
#define NO_ERRNO 97

static char directory[] = "/tmp/qdes-sandbox-XXXXXX";

/* Each returns as system calls do. */

static int do_execve(void)
{
    char *argv[] = { (char *)"true", NULL };

    return execv("/bin/true", argv);
}

static int do_fork(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        _exit(0);
    }
    return pid < 0 ? -1 : 0;
}

static int do_read_file(void)
{
    int fd = open("/etc/passwd", O_RDONLY);

    return fd < 0 ? -1 : close(fd);
}

static int do_write_file(void)
{
    g_autofree char *path = g_build_filename(directory, "file", NULL);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);

    return fd < 0 ? -1 : close(fd);
}

static int do_stat(void)
{
    struct stat st;

    return stat("/", &st);
}

static int do_unlink(void)
{
    return unlink("/nonexistent");
}

static int do_mkdir(void)
{
    return mkdir("/nonexistent/directory", 0700);
}

static int do_tcp_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) < 0 ? -1 : 0;
}

static int do_packet_socket(void)
{
    return socket(AF_PACKET, SOCK_RAW, 0) < 0 ? -1 : 0;
}

static int do_unix_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0) < 0 ? -1 : 0;
}

static int do_netlink(void)
{
    struct ifaddrs *all;

    if (getifaddrs(&all) < 0) {
        return -1;
    }
    freeifaddrs(all);
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE) < 0 ? -1
                                                                          : 0;
}

static int do_other_netlink(void)
{
    return socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT) < 0 ? -1 : 0;
}

static int do_udp_socket(void)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t len = sizeof(to);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    char byte;

    if (fd < 0 || bind(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
        getsockname(fd, (struct sockaddr *)&to, &len) < 0 ||
        sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)) != 1 ||
        recv(fd, &byte, 1, 0) != 1) {
        return -1;
    }
    return close(fd);
}

static int do_interface(void)
{
    return if_nametoindex("lo") ? 0 : -1;
}

static int do_kill(void)
{
    return kill(getppid(), 0);
}

static int do_ptrace(void)
{
    return ptrace(PTRACE_ATTACH, getppid(), 0, 0);
}

static int do_code(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return page == MAP_FAILED ? -1 : 0;
}

static int do_make_code(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static int do_unshare(void)
{
    return unshare(CLONE_NEWUSER);
}

static int do_persist(void)
{
    return ioctl(0, TUNSETPERSIST, 1);
}

static int do_dumpable(void)
{
    return prctl(PR_SET_DUMPABLE, 1);
}

static void *thread(void *opaque)
{
    return opaque;
}

static int do_thread(void)
{
    GThread *made = g_thread_new("thread", thread, NULL);

    return g_thread_join(made) == NULL ? 0 : -1;
}

/* The C library asks how much memory there is before it sorts so many. */
static int compare(const void *a, const void *b)
{
    return *(const char *)a - *(const char *)b;
}

static int do_sort(void)
{
    g_autofree char *many = g_malloc0(1 << 20);

    qsort(many, 1 << 20, 1, compare);
    return 0;
}

static int do_read_limit(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_NOFILE, &limit);
}

static int do_set_limit(void)
{
    struct rlimit limit = { 10, 10 };

    return setrlimit(RLIMIT_NOFILE, &limit);
}

static int do_abort(void)
{
    abort();
}

typedef struct Case {
    const char *name;
    int (*call)(void);
    int wanted;                 /* -1: SIGSYS; -SIGABRT; 0; or an errno */
    bool relaxed;               /* AddressSanitizer makes it itself */
} Case;

#define DIES -1

static const Case port_cases[] = {
    { "execve", do_execve, DIES },
    { "fork", do_fork, DIES, true },
    { "read a file", do_read_file, EACCES, true },
    { "write a file", do_write_file, EACCES, true },
    { "stat", do_stat, EACCES, true },
    { "unlink", do_unlink, DIES },
    { "mkdir", do_mkdir, DIES },
    { "TCP", do_tcp_socket, DIES },
    { "packet socket", do_packet_socket, DIES },
    { "Unix socket", do_unix_socket, EACCES },
    { "netlink", do_netlink, 0 },
    { "other netlink", do_other_netlink, DIES },
    { "UDP", do_udp_socket, 0 },
    { "interface", do_interface, 0 },
    { "kill", do_kill, DIES, true },
    { "ptrace", do_ptrace, DIES, true },
    { "code", do_code, DIES, true },
    { "make code", do_make_code, DIES, true },
    { "unshare", do_unshare, DIES },
    { "ioctl", do_persist, DIES },
    { "prctl", do_dumpable, DIES, true },
    { "thread", do_thread, 0 },
    { "sort", do_sort, 0 },
    { "read a limit", do_read_limit, 0 },
    { "set a limit", do_set_limit, DIES, true },
    { "abort", do_abort, -SIGABRT },
};

static const Case helper_cases[] = {
    { "execve", do_execve, DIES },
    { "fork", do_fork, EPERM, true },
    { "read a file", do_read_file, 0 },
    { "write a file", do_write_file, EPERM, true },
    { "mkdir", do_mkdir, EPERM },
    { "packet socket", do_packet_socket, EPERM },
    { "TCP", do_tcp_socket, 0 },
    { "Unix socket", do_unix_socket, 0 },
    { "netlink", do_netlink, 0 },
    { "UDP", do_udp_socket, 0 },
    { "kill", do_kill, EPERM, true },
    { "ptrace", do_ptrace, DIES, true },
    { "unshare", do_unshare, DIES },
    { "thread", do_thread, 0 },
    { "abort", do_abort, -SIGABRT },
};

/* What became of @call in a process of its own, confined by @filter. */
static int attempt(int (*call)(void), int (*filter)(bool), bool log_only)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (filter(log_only) != 0) {
            _exit(NOT_CONFINED);
        }
        if (call() >= 0) {
            _exit(WENT_WELL);
        }
        _exit(errno && errno < NO_ERRNO ? errno : NO_ERRNO);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static void check_case(const Case *c, int (*filter)(bool))
{
    int status;

    if (SANITIZED && c->relaxed) {
        return;
    }
    status = attempt(c->call, filter, false);
    if (c->wanted < 0) {
        ck_assert_msg(WIFSIGNALED(status), "%s: no signal, but %d", c->name,
                      WEXITSTATUS(status));
        ck_assert_msg(WTERMSIG(status) ==
                      (c->wanted == DIES ? SIGSYS : -c->wanted),
                      "%s: signal %d", c->name, WTERMSIG(status));
    } else {
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) ==
                      (c->wanted ? c->wanted : WENT_WELL), "%s: status 0x%x",
                      c->name, status);
    }
}

START_TEST(test_port)
{
    check_case(&port_cases[_i], syscall_filter_port);
}
END_TEST

START_TEST(test_helper)
{
    check_case(&helper_cases[_i], syscall_filter_helper);
}
END_TEST

START_TEST(test_log_only)
{
    /* the program that is run ends the process with 0 */
    ck_assert_int_eq(attempt(do_execve, syscall_filter_port, true), 0);
    ck_assert_int_eq(attempt(do_execve, syscall_filter_helper, true), 0);
    ck_assert_int_eq(WEXITSTATUS(attempt(do_read_file, syscall_filter_port,
                                         true)), WENT_WELL);
}
END_TEST

/* Returns the errno of what is tried, as the exit status. */
static int in_landlock(const LandlockExceptions *exceptions,
                       int (*call)(const char *path), const char *path)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (landlock_confine(exceptions) != 0) {
            _exit(NOT_CONFINED);
        }
        _exit(call(path) < 0 ? errno : 0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int open_to_read(const char *path)
{
    return open(path, O_RDONLY);
}

static int open_to_write(const char *path)
{
    return open(path, O_WRONLY);
}

START_TEST(test_landlock)
{
    const LandlockExceptions nothing = { 0 };
    const char *const readable[] = { directory, "/nonexistent", NULL };
    const LandlockExceptions reading = { .read = readable };
    const LandlockExceptions removing = { .remove = directory };
    g_autofree char *path = g_build_filename(directory, "precious", NULL);

    ck_assert(g_file_set_contents(path, "text", -1, NULL));
    if (in_landlock(&nothing, open_to_read, path) == NOT_CONFINED) {
        fprintf(stderr, "this kernel has no Landlock: nothing to be seen\n");
        return;
    }
    ck_assert_int_eq(in_landlock(&nothing, open_to_read, path), EACCES);
    ck_assert_int_eq(in_landlock(&nothing, unlink, path), EACCES);
    ck_assert_int_eq(in_landlock(&reading, open_to_read, path), 0);
    ck_assert_int_eq(in_landlock(&reading, open_to_write, path), EACCES);
    ck_assert_int_eq(in_landlock(&reading, unlink, path), EACCES);
    ck_assert_int_eq(in_landlock(&reading, open_to_read, "/etc/passwd"),
                     EACCES);
    ck_assert_int_eq(in_landlock(&removing, open_to_read, path), EACCES);
    ck_assert_int_eq(in_landlock(&removing, unlink, path), 0);
    ck_assert(!g_file_test(path, G_FILE_TEST_EXISTS));
}
END_TEST

START_TEST(test_mode)
{
    static const struct {
        const char *text;
        SandboxMode mode;
    } good[] = {
        { NULL, SANDBOX_ON }, { "on", SANDBOX_ON }, { "off", SANDBOX_OFF },
        { "log", SANDBOX_LOG },
    };
    static const char *const bad[] = { "", "On", "yes", "on " };
    GError *err = NULL;
    SandboxMode mode;
    size_t i;

    for (i = 0; i < G_N_ELEMENTS(good); i++) {
        ck_assert(sandbox_parse(&mode, good[i].text, &err));
        ck_assert_int_eq(mode, good[i].mode);
    }
    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        ck_assert(!sandbox_parse(&mode, bad[i], &err));
        ck_assert(g_str_has_prefix(err->message, "--sandbox="));
        g_clear_error(&err);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tap-sandbox");
    TCase *tcase = tcase_create("sandbox");
    int status;

    if (!mkdtemp(directory)) {
        perror(directory);
        return EXIT_FAILURE;
    }
    tcase_add_loop_test(tcase, test_port, 0, G_N_ELEMENTS(port_cases));
    tcase_add_loop_test(tcase, test_helper, 0, G_N_ELEMENTS(helper_cases));
    tcase_add_test(tcase, test_log_only);
    tcase_add_test(tcase, test_landlock);
    tcase_add_test(tcase, test_mode);
    suite_add_tcase(suite, tcase);
    status = unit_main(suite);
    rmdir(directory);
    return status;
}
