/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define CAPTURE_SNAPLEN 262144      /* bytes, more than any frame has */
#define CAPTURE_RECORD 16           /* bytes before each frame in the file */

struct Capture {
    pcap_t *pcap;
    struct bpf_program filter;
    bool filtered;
    char *target;
    int fd;
    bool created;               /* there was no such file */
    bool regular;               /* a file that can be emptied */
    pcap_dumper_t *dumper;      /* writes into @fill */
    GThread *thread;
    uint64_t frames;
    uint64_t dropped;           /* left out, the buffer was full */
    uint8_t joined[CAPTURE_FRAME_MAX]; /* a frame that came in pieces */

    GMutex lock;                /* for what follows */
    GCond wake;                 /* the thread has something to do */
    GCond idle;                 /* @ended has become true */
    GByteArray *fill;           /* waits to be written */
    GByteArray *drain;          /* is being written, the thread's alone */
    bool stop;                  /* write what waits, then end */
    bool ended;                 /* the thread has closed the file */
    int err;                    /* why, 0: it was told to */
};

GQuark capture_error_quark(void)
{
    return g_quark_from_static_string("qdes-tap-capture");
}

Capture *capture_new(const char *filter, GError **errp)
{
    Capture *capture = g_new0(Capture, 1);

    capture->fd = -1;
    capture->fill = g_byte_array_new();
    capture->drain = g_byte_array_new();
    g_mutex_init(&capture->lock);
    g_cond_init(&capture->wake);
    g_cond_init(&capture->idle);
    capture->pcap = pcap_open_dead_with_tstamp_precision(
        DLT_EN10MB, CAPTURE_SNAPLEN, PCAP_TSTAMP_PRECISION_NANO);
    if (!capture->pcap) {
        g_set_error(errp, CAPTURE_ERROR, ENOMEM, "--pcap: libpcap: %s",
                    g_strerror(ENOMEM));
        capture_free(capture);
        return NULL;
    }
    if (filter) {
        if (pcap_compile(capture->pcap, &capture->filter, filter, 1,
                         PCAP_NETMASK_UNKNOWN) != 0) {
            g_set_error(errp, CAPTURE_ERROR, EINVAL, "--pcap-filter=%s: %s; "
                        "write it as pcap-filter(7) says, like 'arp or icmp'",
                        filter, pcap_geterr(capture->pcap));
            capture_free(capture);
            return NULL;
        }
        capture->filtered = true;
    }
    return capture;
}

/* What stdio writes of the dumper goes into the buffer. */
static ssize_t capture_fill(void *opaque, const char *data, size_t size)
{
    Capture *capture = opaque;

    g_mutex_lock(&capture->lock);
    g_byte_array_append(capture->fill, (const guint8 *)data, size);
    g_cond_signal(&capture->wake);
    g_mutex_unlock(&capture->lock);
    return size;
}

static bool capture_open_stdout(Capture *capture, GError **errp)
{
    int null;
    bool ok;

    if (isatty(STDOUT_FILENO)) {
        g_set_error(errp, CAPTURE_ERROR, ENOTTY, "--pcap=-: stdout is a "
                    "terminal; pipe it, as in: qdes-tap ... --pcap - | "
                    "wireshark -k -i -");
        return false;
    }
    /* take stdout over, so that nothing else can ever write into the pcap */
    capture->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    ok = capture->fd >= 0 && null >= 0 && dup2(null, STDOUT_FILENO) >= 0;
    if (!ok) {
        g_set_error(errp, CAPTURE_ERROR, errno, "--pcap=-: cannot use stdout: "
                    "%s", g_strerror(errno));
    }
    if (null >= 0) {
        close(null);
    }
    return ok;
}

/* Nothing is emptied here: the program may not get as far as capturing. */
static bool capture_open_file(Capture *capture, const char *path,
                              GError **errp)
{
    /* O_NONBLOCK: a FIFO that nobody reads is an error, not a long wait */
    int flags = O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    int err;

    capture->fd = open(path, flags);
    if (capture->fd < 0 && errno == ENOENT) {
        capture->fd = open(path, flags | O_CREAT | O_EXCL, 0666);
        capture->created = capture->fd >= 0;
    }
    if (capture->fd < 0 || fcntl(capture->fd, F_SETFL, 0) < 0) {
        err = errno;
        g_set_error(errp, CAPTURE_ERROR, err, "--pcap=%s: cannot write it: "
                    "%s; %s", path, g_strerror(err),
                    err == ENXIO ? "start the program that reads it first"
                                 : "give a file in a directory that exists "
                                   "and is yours to write");
        return false;
    }
    return true;
}

bool capture_open(Capture *capture, const char *target, GError **errp)
{
    cookie_io_functions_t into_buffer = { .write = capture_fill };
    bool to_stdout = g_str_equal(target, "-");
    struct stat st;
    FILE *file;

    if (!(to_stdout ? capture_open_stdout(capture, errp)
                    : capture_open_file(capture, target, errp))) {
        return false;
    }
    capture->regular = fstat(capture->fd, &st) == 0 && S_ISREG(st.st_mode);
    capture->target = g_strdup(to_stdout ? "stdout" : target);
    file = fopencookie(capture, "w", into_buffer);
    capture->dumper = file ? pcap_dump_fopen(capture->pcap, file) : NULL;
    if (!capture->dumper) {
        g_set_error(errp, CAPTURE_ERROR, ENOMEM, "--pcap=%s: libpcap: %s",
                    target, file ? pcap_geterr(capture->pcap)
                                 : g_strerror(errno));
        if (file) {
            fclose(file);
        }
        return false;
    }
    /* the file header, at once: a reader wants to see it */
    pcap_dump_flush(capture->dumper);
    return true;
}

/* Returns 0 or the errno. */
static int capture_write(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t ret = write(fd, data, size);

        if (ret > 0) {
            data += ret;
            size -= ret;
        } else if (ret == 0 || errno != EINTR) {
            return ret == 0 ? EIO : errno;
        }
    }
    return 0;
}

static void *capture_thread(void *opaque)
{
    Capture *capture = opaque;

    g_mutex_lock(&capture->lock);
    while (!capture->err && (capture->fill->len > 0 || !capture->stop)) {
        GByteArray *full = capture->fill;
        int err;

        if (full->len == 0) {
            g_cond_wait(&capture->wake, &capture->lock);
            continue;
        }
        capture->fill = capture->drain;
        capture->drain = full;
        g_mutex_unlock(&capture->lock);
        err = capture_write(capture->fd, full->data, full->len);
        g_byte_array_set_size(full, 0);
        g_mutex_lock(&capture->lock);
        capture->err = err;
    }
    if (capture->err) {
        log_warning("capture to %s ends: %s; the port works on",
                    capture->target, g_strerror(capture->err));
    }
    close(capture->fd);
    capture->ended = true;
    g_cond_signal(&capture->idle);
    g_mutex_unlock(&capture->lock);
    return NULL;
}

void capture_start(Capture *capture)
{
    GError *err = NULL;

    if (capture->regular && ftruncate(capture->fd, 0) < 0) {
        log_warning("capture to %s: cannot empty it: %s", capture->target,
                    g_strerror(errno));
    }
    capture->thread = g_thread_try_new("capture", capture_thread, capture,
                                       &err);
    if (!capture->thread) {
        log_warning("capture to %s ends: %s; the port works on",
                    capture->target, err->message);
        g_error_free(err);
        close(capture->fd);
        capture->fd = -1;
        capture->ended = true;
    }
}

/* Returns the frame in one piece, without its first @skip bytes. */
static const uint8_t *join(Capture *capture, const struct iovec *iov,
                           int iovcnt, size_t skip, size_t *size)
{
    size_t part;
    int i;

    for (i = 0; skip >= iov[i].iov_len && i + 1 < iovcnt; i++) {
        skip -= iov[i].iov_len;
    }
    if (i + 1 == iovcnt) {
        *size = iov[i].iov_len - skip;
        return (uint8_t *)iov[i].iov_base + skip;
    }
    for (*size = 0; i < iovcnt; i++) {
        part = iov[i].iov_len - skip;
        g_assert(part <= sizeof(capture->joined) - *size);
        memcpy(capture->joined + *size, (uint8_t *)iov[i].iov_base + skip,
               part);
        *size += part;
        skip = 0;
    }
    return capture->joined;
}

void capture_frame(Capture *capture, const struct iovec *iov, int iovcnt,
                   size_t skip)
{
    struct pcap_pkthdr header = { 0 };
    const uint8_t *frame;
    struct timespec now;
    size_t size;
    bool ended;
    bool room;

    frame = join(capture, iov, iovcnt, skip, &size);
    header.caplen = size;
    header.len = size;
    if (capture->filtered &&
        !pcap_offline_filter(&capture->filter, &header, frame)) {
        return;
    }
    g_mutex_lock(&capture->lock);
    ended = capture->ended;
    room = capture->fill->len + CAPTURE_RECORD + size <= CAPTURE_BUFFER;
    g_mutex_unlock(&capture->lock);
    if (ended) {
        return;
    }
    if (!room) {
        if (capture->dropped++ == 0) {
            log_warning("capture to %s: its reader is too slow, frames are "
                        "left out of it; filter them with --pcap-filter",
                        capture->target);
        }
        return;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    header.ts.tv_sec = now.tv_sec;
    header.ts.tv_usec = now.tv_nsec;    /* the file says: nanoseconds */
    pcap_dump((u_char *)capture->dumper, &header, frame);
    pcap_dump_flush(capture->dumper);
    capture->frames++;
}

/* Let the thread end.  Returns false when it is stuck in a write. */
static bool capture_join(Capture *capture)
{
    gint64 deadline = g_get_monotonic_time() +
                      CAPTURE_FLUSH_MS * G_TIME_SPAN_MILLISECOND;
    bool ended;

    g_mutex_lock(&capture->lock);
    capture->stop = true;
    g_cond_signal(&capture->wake);
    while (!capture->ended &&
           g_cond_wait_until(&capture->idle, &capture->lock, deadline)) {
        /* woken for no reason */
    }
    ended = capture->ended;
    g_mutex_unlock(&capture->lock);
    if (ended) {
        g_thread_join(capture->thread);
    }
    return ended;
}

void capture_free(Capture *capture)
{
    if (!capture) {
        return;
    }
    if (capture->thread) {
        bool whole = capture_join(capture);

        if (!whole) {
            log_warning("capture to %s: nobody reads the last frames of it",
                        capture->target);
            return;             /* the thread still uses it, until exit() */
        }
        if (!capture->err) {
            log_info("capture to %s: frames: %" G_GUINT64_FORMAT ", left out: "
                     "%" G_GUINT64_FORMAT, capture->target, capture->frames,
                     capture->dropped);
        }
    } else if (capture->fd >= 0) {
        close(capture->fd);
        if (capture->created) {
            unlink(capture->target);
        }
    }
    if (capture->dumper) {
        pcap_dump_close(capture->dumper);
    }
    if (capture->filtered) {
        pcap_freecode(&capture->filter);
    }
    if (capture->pcap) {
        pcap_close(capture->pcap);
    }
    g_byte_array_unref(capture->fill);
    g_byte_array_unref(capture->drain);
    g_mutex_clear(&capture->lock);
    g_cond_clear(&capture->wake);
    g_cond_clear(&capture->idle);
    g_free(capture->target);
    g_free(capture);
}
