/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "secretfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

#define ROOM (QDES_SECRET_MAX + 2) /* bytes: a newline, and one too many,
                                      which shows that there are more */
#define MAPPED (16 * 1024)      /* bytes: pages of their own */

static bool failed(const char *option, const char *path, int err,
                   GError **errp)
{
    g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM, "%s=%s: cannot be read: "
                "%s; give a file of %d to %d bytes", option, path,
                g_strerror(err), QDES_SECRET_MIN, QDES_SECRET_MAX);
    return false;
}

static void *map(void)
{
    void *data = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (data == MAP_FAILED) {
        g_error("mmap: %s", g_strerror(errno));
    }
    return data;
}

bool secret_copy(QdesSecret *secret, const void *data, size_t size)
{
    secret_wipe(secret);
    if (size > MAPPED) {
        return false;
    }
    *secret = (QdesSecret) { memcpy(map(), data, size), size };
    return true;
}

bool secret_read(QdesSecret *secret, const char *option, const char *path,
                 GError **errp)
{
    uint8_t *data;
    struct stat st;
    size_t size = 0;
    ssize_t ret;
    int fd;

    *secret = (QdesSecret) { NULL, 0 };
    if (!path) {
        return true;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return failed(option, path, errno, errp);
    }
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 077)) {
        log_warning("--%s=%s: others than its owner can get at it; run: "
                    "chmod 600 %s", option, path, path);
    }
    data = map();
    /* No other process gets it, and no core dump. */
    madvise(data, MAPPED, MADV_WIPEONFORK);
    madvise(data, MAPPED, MADV_DONTDUMP);
    do {
        ret = read(fd, data + size, ROOM - size);
        size += MAX(ret, 0);
    } while ((ret < 0 && errno == EINTR) || (ret > 0 && size < ROOM));
    *secret = (QdesSecret) { data, size, path };
    if (ret < 0) {
        failed(option, path, errno, errp);
        secret_wipe(secret);
    }
    close(fd);
    return ret >= 0;
}

void secret_wipe(QdesSecret *secret)
{
    void *data = (void *)secret->data;

    if (data) {
        qdes_wipe(data, MAPPED);
        munmap(data, MAPPED);
    }
    *secret = (QdesSecret) { NULL, 0 };
}
