/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Like most calls that came after 2019, these have one number everywhere. */
#ifndef __NR_landlock_create_ruleset
#define __NR_landlock_create_ruleset 444
#define __NR_landlock_add_rule 445
#define __NR_landlock_restrict_self 446
#endif

#define CREATE_VERSION 1U       /* a flag: tell the version only */
#define RULE_PATH_BENEATH 1

enum {
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_REMOVE_FILE = 1 << 5,
};

enum {
    NET_BIND_TCP = 1 << 0,
    NET_CONNECT_TCP = 1 << 1,
};

/* How many rights to files there are, by version. */
static const int n_fs_rights[] = { 0, 13, 14, 15, 15, 16 };

#define VERSION_NET 4           /* the first that knows TCP */
#define VERSION_SCOPED 6        /* abstract sockets and signals */
#define SCOPED_BOTH 3

struct ruleset_attr {
    uint64_t fs;
    uint64_t net;
    uint64_t scoped;
};

struct path_beneath_attr {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

static int except(int ruleset, const char *path, uint64_t allowed)
{
    struct path_beneath_attr rule = { .allowed = allowed };
    struct stat st;
    int err = 0;

    rule.parent = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent < 0) {
        return errno == ENOENT ? 0 : errno;
    }
    if (fstat(rule.parent, &st) == 0 && !S_ISDIR(st.st_mode)) {
        rule.allowed &= FS_READ_FILE;
    }
    if (syscall(__NR_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule,
                0) < 0) {
        err = errno;
    }
    close(rule.parent);
    return err;
}

static int add_exceptions(int ruleset, const LandlockExceptions *exceptions)
{
    const char *const *path;
    int err = 0;

    for (path = exceptions->read; path && *path && !err; path++) {
        err = except(ruleset, *path, FS_READ_FILE | FS_READ_DIR);
    }
    if (exceptions->remove && !err) {
        err = except(ruleset, exceptions->remove, FS_REMOVE_FILE);
    }
    return err;
}

int landlock_confine(const LandlockExceptions *exceptions)
{
    long version = syscall(__NR_landlock_create_ruleset, NULL, 0,
                           CREATE_VERSION);
    struct ruleset_attr attr = { 0 };
    size_t size = sizeof(attr.fs);
    int ruleset;
    int err;

    if (version < 1) {
        return version < 0 ? errno : ENOSYS;
    }
    attr.fs = (UINT64_C(1) << n_fs_rights[MIN(version, 5)]) - 1;
    if (version >= VERSION_NET) {
        attr.net = NET_BIND_TCP;
        attr.net |= exceptions->connect_tcp ? 0 : NET_CONNECT_TCP;
        size = offsetof(struct ruleset_attr, scoped);
    }
    if (version >= VERSION_SCOPED) {
        attr.scoped = SCOPED_BOTH;
        size = sizeof(attr);
    }
    ruleset = syscall(__NR_landlock_create_ruleset, &attr, size, 0);
    if (ruleset < 0) {
        return errno;
    }
    err = add_exceptions(ruleset, exceptions);
    if (!err && syscall(__NR_landlock_restrict_self, ruleset, 0) < 0) {
        err = errno;
    }
    close(ruleset);
    return err;
}
