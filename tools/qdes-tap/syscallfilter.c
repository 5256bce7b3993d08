/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "syscallfilter.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* The type of a socket, without SOCK_CLOEXEC and SOCK_NONBLOCK. */
#define SOCKET_TYPE 0xf

/* What an open() that only reads has none of. */
#define OPEN_WRITES (O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))

/*
 * Names, as not every architecture and version of libseccomp has them all:
 * those that are not there are left out.
 */
static const char *const both[] = {
    /* memory */
    "brk", "madvise", "mremap", "munmap",
    /* threads */
    "exit", "exit_group", "futex", "futex_time64", "get_robust_list",
    "getpid", "gettid", "restart_syscall", "rseq", "rt_sigaction",
    "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sched_getattr",
    "sched_setattr", "sched_yield", "set_robust_list", "set_tid_address",
    "sigaltstack", "sigreturn",
    /* what is so, and no secret: qsort() asks how much memory there is */
    "getcpu", "getegid", "getegid32", "geteuid", "geteuid32", "getgid",
    "getgid32", "getuid", "getuid32", "membarrier", "sched_getparam",
    "sched_getscheduler", "sysinfo", "uname",
    /* time, and numbers that nobody can guess */
    "clock_getres", "clock_gettime", "clock_gettime64", "clock_nanosleep",
    "clock_nanosleep_time64", "getrandom", "gettimeofday", "nanosleep",
    "time",
    /* what is open */
    "_llseek", "close", "fcntl", "fcntl64", "fstat", "fstat64", "lseek",
    "poll", "ppoll", "ppoll_time64", "read", "readv", "write", "writev",
    /* sockets */
    "bind", "connect", "getpeername", "getsockname", "getsockopt", "recv",
    "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg",
    "sendmsg", "sendto", "setsockopt", "shutdown",
    NULL
};

static const char *const port_only[] = {
    "accept", "accept4", "epoll_ctl", "epoll_pwait", "epoll_pwait2",
    "epoll_wait", "ftruncate", "ftruncate64", "pipe", "pipe2", "wait4",
    "waitpid", "waitid",
    NULL
};

/* Libraries have these for what they can do without. */
static const char *const port_refused[] = {
    "access", "faccessat", "faccessat2", "fstatat64", "getcwd", "getdents",
    "getdents64", "lstat", "lstat64", "newfstatat", "open", "openat",
    "openat2", "readlink", "readlinkat", "stat", "stat64", "statfs",
    "statfs64", "statx",
    NULL
};

static const char *const helper_only[] = {
    "access", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait",
    "eventfd2", "faccessat", "faccessat2", "flock", "fstatat64", "fstatfs",
    "fstatfs64", "getcwd", "getdents", "getdents64", "getresgid",
    "getresuid", "getrlimit", "ioctl", "lstat", "lstat64", "newfstatat",
    "pipe2", "pread64", "pselect6", "readlink", "readlinkat", "select",
    "_newselect", "stat", "stat64", "statfs", "statfs64", "statx",
    "ugetrlimit", "unlink", "unlinkat",
    NULL
};

static const char *const helper_deadly[] = {
    "bpf", "execve", "execveat", "init_module", "kexec_load", "mount",
    "pidfd_getfd", "process_vm_readv", "process_vm_writev", "ptrace",
    "setns", "unshare", "userfaultfd",
    NULL
};

#if SANITIZED
/* Reports, with symbols, and the search for leaks at the end. */
static const char *const sanitizers[] = {
    "access", "arch_prctl", "clone", "clone3", "dup", "dup2", "fstatat64",
    "getcwd", "getdents", "getdents64", "geteuid", "getppid", "getrlimit",
    "getuid", "kill", "lstat", "mmap", "mmap2", "mprotect", "newfstatat",
    "open", "openat", "prctl", "prlimit64", "process_vm_readv", "ptrace",
    "readlink", "readlinkat", "stat", "statx", "sysinfo", "tgkill", "tkill",
    "uname", "wait4", "waitpid",
    NULL
};
#else
static const char *const sanitizers[] = { NULL };
#endif

/* Interfaces and the TAP device, after both are set up. */
static const unsigned long port_ioctls[] = {
    SIOCGIFFLAGS, SIOCGIFINDEX, SIOCGIFMTU, SIOCGIFNAME, TUNGETIFF,
    TUNSETCARRIER, TUNSETOFFLOAD,
};

#define MASKED(arg, mask, value) SCMP_CMP64(arg, SCMP_CMP_MASKED_EQ, \
                                            mask, value)
#define IS(arg, value) SCMP_CMP64(arg, SCMP_CMP_EQ, value)

/* Keeps the first error in @err, so that one look at the end is enough. */
typedef struct Filter {
    scmp_filter_ctx ctx;
    bool log_only;
    int err;
} Filter;

static bool is_listed(const char *const *list, const char *name)
{
    return g_strv_contains(list, name);
}

/* With up to two conditions, which both have to hold. */
static void rule(Filter *f, uint32_t action, const char *name, unsigned n,
                 const struct scmp_arg_cmp *args)
{
    int number = seccomp_syscall_resolve_name(name);
    int ret;

    /* Under AddressSanitizer, what it needs is allowed without conditions. */
    if (number == __NR_SCMP_ERROR ||
        (f->log_only && action != SCMP_ACT_ALLOW) ||
        ((n > 0 || action != SCMP_ACT_ALLOW) && is_listed(sanitizers, name))) {
        return;
    }
    ret = seccomp_rule_add_array(f->ctx, action, number, n, args);
    /* -EACCES: it is the default anyway; -EEXIST: it is there already */
    if (ret < 0 && ret != -EACCES && ret != -EEXIST && !f->err) {
        f->err = -ret;
    }
}

static void rules(Filter *f, uint32_t action, const char *const *names)
{
    for (; *names; names++) {
        rule(f, action, *names, 0, NULL);
    }
}

static void allow_if(Filter *f, const char *name, struct scmp_arg_cmp a)
{
    rule(f, SCMP_ACT_ALLOW, name, 1, &a);
}

static void allow_if_both(Filter *f, const char *name, struct scmp_arg_cmp a,
                          struct scmp_arg_cmp b)
{
    struct scmp_arg_cmp args[] = { a, b };

    rule(f, SCMP_ACT_ALLOW, name, G_N_ELEMENTS(args), args);
}

/* Threads, but no processes; an abort(), but no signal to anybody else. */
static void allow_threads(Filter *f)
{
    const uint64_t thread = CLONE_THREAD | CLONE_VM | CLONE_SIGHAND;

    allow_if(f, "clone", MASKED(0, thread, thread));
    /* its flags are in memory, where no filter can look: clone() is used */
    rule(f, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, NULL);
    allow_if(f, "tgkill", IS(0, getpid()));
    allow_if(f, "prctl", IS(0, PR_SET_NAME));
    /* to read our own limits, not to set them */
    allow_if_both(f, "prlimit64", IS(0, 0), IS(2, 0));
}

static void allow_udp(Filter *f, int family)
{
    allow_if_both(f, "socket", IS(0, family),
                  MASKED(1, SOCKET_TYPE, SOCK_DGRAM));
}

static void allow_data_only(Filter *f, const char *name)
{
    allow_if(f, name, MASKED(2, PROT_EXEC, 0));
}

static void list_port(Filter *f)
{
    struct scmp_arg_cmp unix_socket = IS(0, AF_UNIX);
    size_t i;

    rules(f, SCMP_ACT_ALLOW, both);
    rules(f, SCMP_ACT_ALLOW, port_only);
    rules(f, SCMP_ACT_ERRNO(EACCES), port_refused);
    allow_threads(f);
    allow_data_only(f, "mmap");
    allow_data_only(f, "mmap2");
    allow_data_only(f, "mprotect");
    allow_udp(f, AF_INET);
    allow_udp(f, AF_INET6);
    allow_if_both(f, "socket", IS(0, AF_NETLINK), IS(2, NETLINK_ROUTE));
    /* if_nametoindex() takes another family then */
    rule(f, SCMP_ACT_ERRNO(EACCES), "socket", 1, &unix_socket);
    for (i = 0; i < G_N_ELEMENTS(port_ioctls); i++) {
        allow_if(f, "ioctl", MASKED(1, UINT32_MAX, port_ioctls[i]));
    }
}

static void list_helper(Filter *f)
{
    static const int families[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };
    size_t i;

    rules(f, SCMP_ACT_ALLOW, both);
    rules(f, SCMP_ACT_ALLOW, helper_only);
    rules(f, SCMP_ACT_KILL_PROCESS, helper_deadly);
    allow_threads(f);
    rule(f, SCMP_ACT_ALLOW, "mmap", 0, NULL);
    rule(f, SCMP_ACT_ALLOW, "mmap2", 0, NULL);
    rule(f, SCMP_ACT_ALLOW, "mprotect", 0, NULL);
    allow_if(f, "open", MASKED(1, OPEN_WRITES, O_RDONLY));
    allow_if(f, "openat", MASKED(2, OPEN_WRITES, O_RDONLY));
    for (i = 0; i < G_N_ELEMENTS(families); i++) {
        allow_if(f, "socket", IS(0, families[i]));
    }
}

/* A filter whose default is @action. */
static int load(uint32_t action, void (*list)(Filter *f), bool log_only)
{
    Filter f = {
        .ctx = seccomp_init(log_only ? SCMP_ACT_LOG : action),
        .log_only = log_only,
    };

    if (!f.ctx) {
        return ENOMEM;
    }
    /* privileges.h has done it, and says what fails */
    f.err = -seccomp_attr_set(f.ctx, SCMP_FLTATR_CTL_NNP, 0);
    /* calls of another architecture than ours */
    if (!f.err && !log_only) {
        f.err = -seccomp_attr_set(f.ctx, SCMP_FLTATR_ACT_BADARCH,
                                  SCMP_ACT_KILL_PROCESS);
    }
    /* nobody's code runs in here but ours: no need for a slower processor */
    seccomp_attr_set(f.ctx, SCMP_FLTATR_CTL_SSB, 1);
    list(&f);
    rules(&f, SCMP_ACT_ALLOW, sanitizers);
    if (!f.err) {
        f.err = -seccomp_load(f.ctx);
    }
    seccomp_release(f.ctx);
    return f.err;
}

int syscall_filter_port(bool log_only)
{
    return load(SCMP_ACT_KILL_PROCESS, list_port, log_only);
}

int syscall_filter_helper(bool log_only)
{
    return load(SCMP_ACT_ERRNO(EPERM), list_helper, log_only);
}
