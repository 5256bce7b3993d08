/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "landlock.h"
#include "log.h"
#include "privileges.h"
#include "syscallfilter.h"

/* A directory that is there, as the TAP's device node is in it. */
#define MOUNT_POINT "/dev"

#define ROOT_FLAGS (MS_NOSUID | MS_NODEV | MS_NOEXEC)

/* What the sandbox is made of, for one line of the log. */
typedef struct Report {
    GString *has;
    GString *lacks;
} Report;

static Report report;

GQuark sandbox_error_quark(void)
{
    return g_quark_from_static_string("qdes-tap-sandbox");
}

bool sandbox_parse(SandboxMode *mode, const char *text, GError **errp)
{
    if (!text || g_str_equal(text, "on")) {
        *mode = SANDBOX_ON;
    } else if (g_str_equal(text, "log")) {
        *mode = SANDBOX_LOG;
    } else if (g_str_equal(text, "off")) {
        *mode = SANDBOX_OFF;
    } else {
        g_set_error(errp, SANDBOX_ERROR, EINVAL, "--sandbox=%s: give on, off, "
                    "or log", text);
        return false;
    }
    return true;
}

/* @err: 0 when it could be had. */
static void note(const char *what, int err)
{
    GString *list;

    if (!report.has) {
        report.has = g_string_new(NULL);
        report.lacks = g_string_new(NULL);
    }
    list = err ? report.lacks : report.has;
    g_string_append_printf(list, "%s%s", list->len ? ", " : "", what);
    if (err) {
        g_string_append_printf(list, " (%s)", g_strerror(err));
    }
}

/* Fails where there is no /proc; then nobody knows who we are, as good. */
static void write_proc(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        if (write(fd, text, strlen(text)) < 0) {
            /* mounting says what is wrong then */
        }
        close(fd);
    }
}

static void map_ids(uid_t uid, gid_t gid)
{
    g_autofree char *uids = g_strdup_printf("%u %u 1", uid, uid);
    g_autofree char *gids = g_strdup_printf("%u %u 1", gid, gid);

    write_proc("/proc/self/setgroups", "deny");
    write_proc("/proc/self/uid_map", uids);
    write_proc("/proc/self/gid_map", gids);
}

/* Returns 0 or an errno. */
static int take_namespaces(void)
{
    int flags = CLONE_NEWIPC | CLONE_NEWUTS | (SANITIZED ? 0 : CLONE_NEWNS);
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (privileges_has_admin() && unshare(flags) == 0) {
        return 0;
    }
    /* in an own user namespace everybody may do this */
    if (unshare(CLONE_NEWUSER | flags) < 0) {
        return errno;
    }
    map_ids(uid, gid);
    return 0;
}

/*
 * Nothing is to be seen of what was mounted, and no path leads there, so it
 * can be let go of.  What is open works on.  Returns 0 or an errno.
 */
static int empty_root(void)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("qdes-tap", MOUNT_POINT, "tmpfs", ROOT_FLAGS,
              "mode=0555,size=4k,nr_inodes=2") < 0 ||
        chdir(MOUNT_POINT) < 0 ||
        syscall(SYS_pivot_root, ".", ".") < 0 ||
        umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ||
        mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | ROOT_FLAGS,
              NULL) < 0) {
        return errno;
    }
    return 0;
}

void sandbox_isolate(void)
{
    int err = take_namespaces();

    note("own namespaces", err);
    if (!SANITIZED) {
        note("empty root", err ? err : empty_root());
    }
}

void sandbox_enter(SandboxMode mode)
{
    const LandlockExceptions none = { 0 };
    int err;

    if (!SANITIZED) {
        note("Landlock", landlock_confine(&none));
    }
    err = syscall_filter_port(mode == SANDBOX_LOG);
    note(mode == SANDBOX_LOG ? "system calls logged" : "system call filter",
         err);
    if (err) {
        log_warning("sandbox: no %s; have: %s; in a container, allow "
                    "seccomp(2)", report.lacks->str,
                    report.has->len ? report.has->str : "nothing");
    } else {
        log_info("sandbox: %s%s%s", report.has->str,
                 report.lacks->len ? "; not granted: " : "",
                 report.lacks->str);
    }
    g_string_free(report.has, true);
    g_string_free(report.lacks, true);
    report = (Report){ NULL, NULL };
}

void sandbox_enter_helper(const char *directory, bool log_only)
{
    /* what the C library and its modules for names read, and are themselves */
    static const char *const readable[] = {
        "/etc", "/gnu/store", "/lib", "/lib64", "/nix/store", "/run", "/usr",
        "/var", NULL
    };
    const LandlockExceptions names = {
        .read = readable,
        .remove = directory,
        .connect_tcp = true,        /* DNS with long answers */
    };

    if (!SANITIZED) {
        landlock_confine(&names);
    }
    syscall_filter_helper(log_only);
}
