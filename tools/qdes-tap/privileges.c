/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <unistd.h>

GQuark privileges_error_quark(void)
{
    return g_quark_from_static_string("qdes-tap-privileges");
}

bool privileges_find_user(PrivilegesUser *user, const char *name,
                          GError **errp)
{
    struct passwd *pw;

    *user = (PrivilegesUser){ .name = name };
    if (!name) {
        return true;
    }
    pw = getpwnam(name);
    if (!pw) {
        g_set_error(errp, PRIVILEGES_ERROR, ENOENT, "--user=%s: there is no "
                    "such user; make one with: sudo adduser --system %s",
                    name, name);
        return false;
    }
    user->uid = pw->pw_uid;
    user->gid = pw->pw_gid;
    if (geteuid() != 0 && user->uid != geteuid()) {
        g_set_error(errp, PRIVILEGES_ERROR, EPERM, "--user=%s: only root can "
                    "become another user; leave --user out, or run as root",
                    name);
        return false;
    }
    return true;
}

/*
 * The bounding set is only root's to shrink; where we may not, it does no
 * harm: without new privileges to come it bounds nothing.
 */
static bool may_shrink_bounds(void)
{
    capng_get_caps_process();
    return capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP);
}

/* What the sandbox is made with, and nothing else; files know nothing of it. */
static void keep_for_sandbox(bool had)
{
    if (had) {
        capng_updatev(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED,
                      CAP_SYS_ADMIN, -1);
    }
}

bool privileges_become(const PrivilegesUser *user, GError **errp)
{
    int flags = CAPNG_DROP_SUPP_GRP;
    bool admin;
    int ret;

    if (!user->name || geteuid() != 0 || user->uid == 0) {
        return true;
    }
    if (may_shrink_bounds()) {
        flags |= CAPNG_CLEAR_BOUNDING;
    }
    admin = capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_ADMIN);
    capng_clear(CAPNG_SELECT_ALL);
    keep_for_sandbox(admin);
    ret = capng_change_id(user->uid, user->gid, flags);
    if (ret != 0 || geteuid() != user->uid || getegid() != user->gid) {
        g_set_error(errp, PRIVILEGES_ERROR, EPERM, "--user=%s: cannot become "
                    "this user (step %d of libcap-ng failed)", user->name,
                    -ret);
        return false;
    }
    return true;
}

bool privileges_has_admin(void)
{
    capng_get_caps_process();
    return capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_ADMIN);
}

bool privileges_drop(GError **errp)
{
    bool bounds;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        g_set_error(errp, PRIVILEGES_ERROR, errno, "cannot forbid new "
                    "privileges: %s", g_strerror(errno));
        return false;
    }
    bounds = may_shrink_bounds();
    capng_clear(CAPNG_SELECT_ALL);
    if ((bounds && capng_apply(CAPNG_SELECT_BOUNDS) != 0) ||
        capng_apply(CAPNG_SELECT_CAPS | CAPNG_SELECT_AMBIENT) != 0 ||
        capng_get_caps_process() != 0 ||
        capng_have_capabilities(CAPNG_SELECT_CAPS) != CAPNG_NONE) {
        g_set_error(errp, PRIVILEGES_ERROR, EPERM, "cannot drop the "
                    "capabilities of the process");
        return false;
    }
    return true;
}
