/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdes-tap's capture: what is written is a pcap file, and whoever reads it,
 * slowly or not at all, does not hold the port up.
 */

#include "unit.h"

#include <fcntl.h>
#include <pcap/pcap.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "capture.h"

#define FRAME 1000                  /* bytes of a frame of these tests */
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_TEST 0x88b5

static void make_frame(uint8_t frame[FRAME], int number, int ethertype)
{
    memset(frame, number, FRAME);
    unit_mac(frame, 1);
    unit_mac(frame + 6, number);
    frame[12] = ethertype >> 8;
    frame[13] = ethertype & 0xff;
}

static void add_frame(Capture *capture, const uint8_t frame[FRAME])
{
    struct iovec iov = { .iov_base = (void *)frame, .iov_len = FRAME };

    capture_frame(capture, &iov, 1, 0);
}

static Capture *begin(const char *filter, const char *target)
{
    Capture *capture = capture_new(filter, NULL);

    ck_assert_ptr_nonnull(capture);
    ck_assert(capture_open(capture, target, NULL));
    capture_start(capture);
    return capture;
}

/* Read a pcap from @file and check its frames; returns their number, and the
 * number in the last one. */
static int read_back(FILE *file, int *last)
{
    char text[PCAP_ERRBUF_SIZE];
    pcap_t *pcap = pcap_fopen_offline_with_tstamp_precision(
        file, PCAP_TSTAMP_PRECISION_NANO, text);
    struct pcap_pkthdr *header;
    const u_char *data;
    uint8_t frame[FRAME];
    int64_t before = 0;
    int count = 0;
    int ret;

    ck_assert_msg(pcap != NULL, "%s", text);
    ck_assert_int_eq(pcap_datalink(pcap), DLT_EN10MB);
    while ((ret = pcap_next_ex(pcap, &header, &data)) == 1) {
        int64_t time = header->ts.tv_sec * 1000000000LL + header->ts.tv_usec;

        ck_assert_uint_eq(header->caplen, FRAME);
        ck_assert_uint_eq(header->len, FRAME);
        ck_assert_int_ge(time, before);
        before = time;
        *last = data[8] << 24 | data[9] << 16 | data[10] << 8 | data[11];
        make_frame(frame, *last, data[12] << 8 | data[13]);
        ck_assert_mem_eq(frame, data, FRAME);
        count++;
    }
    ck_assert_int_eq(ret, PCAP_ERROR_BREAK);        /* the end, not an error */
    ck_assert_int_le(ABS(before / 1000 - g_get_real_time()), 60000000);
    pcap_close(pcap);
    return count;
}

START_TEST(test_file)
{
    char path[] = "/tmp/qdes-unit-XXXXXX";
    int fd = mkstemp(path);
    uint8_t frame[FRAME];
    Capture *capture;
    int last = -1;
    int i;

    ck_assert_int_ge(fd, 0);
    /* what was in the file before goes */
    ck_assert_int_eq(write(fd, path, sizeof(path)), sizeof(path));
    close(fd);
    capture = begin(NULL, path);
    for (i = 0; i < 100; i++) {
        make_frame(frame, i, ETHERTYPE_TEST);
        add_frame(capture, frame);
    }
    capture_free(capture);
    ck_assert_int_eq(read_back(fopen(path, "r"), &last), 100);
    ck_assert_int_eq(last, 99);
    unlink(path);
}
END_TEST

static const struct {
    size_t pieces[5];           /* bytes, with the header before the frame */
    size_t skip;
} pieces[] = {
    { { FRAME }, 0 },
    { { 10 + FRAME }, 10 },
    { { 10, FRAME }, 10 },
    { { 12, 54, FRAME - 54 }, 12 },
    { { 4, 8, 1, 2, FRAME - 3 }, 12 },
    { { 5, 6, FRAME - 1 }, 10 },
    { { 500, FRAME - 500 }, 0 },
};

/* The header is no part of the frame, in however many pieces both come. */
START_TEST(test_pieces)
{
    char path[] = "/tmp/qdes-unit-XXXXXX";
    int fd = mkstemp(path);
    uint8_t data[12 + FRAME];
    struct iovec iov[5];
    Capture *capture;
    size_t at = 0;
    int last = -1;
    int i;

    ck_assert_int_ge(fd, 0);
    close(fd);
    memset(data, 0xee, sizeof(data));
    make_frame(data + pieces[_i].skip, 7, ETHERTYPE_ARP);
    for (i = 0; i < 5 && at < pieces[_i].skip + FRAME; i++) {
        /* each piece in memory of its own: the sanitizer sees its end */
        iov[i].iov_len = pieces[_i].pieces[i];
        iov[i].iov_base = g_memdup2(data + at, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    ck_assert_uint_eq(at, pieces[_i].skip + FRAME);
    capture = begin("arp", path);
    capture_frame(capture, iov, i, pieces[_i].skip);
    capture_free(capture);
    while (i > 0) {
        g_free(iov[--i].iov_base);
    }
    ck_assert_int_eq(read_back(fopen(path, "r"), &last), 1);
    ck_assert_int_eq(last, 7);
    unlink(path);
}
END_TEST

START_TEST(test_largest_frame)
{
    char path[] = "/tmp/qdes-unit-XXXXXX";
    char text[PCAP_ERRBUF_SIZE];
    int fd = mkstemp(path);
    uint8_t *frame = g_malloc(CAPTURE_FRAME_MAX);
    struct iovec iov[2] = {
        { frame, 1 },
        { frame + 1, CAPTURE_FRAME_MAX - 1 },
    };
    struct pcap_pkthdr header;
    Capture *capture;
    const u_char *data;
    pcap_t *pcap;

    ck_assert_int_ge(fd, 0);
    close(fd);
    memset(frame, 0x5a, CAPTURE_FRAME_MAX);
    capture = begin(NULL, path);
    capture_frame(capture, iov, 2, 0);
    capture_free(capture);
    pcap = pcap_open_offline(path, text);
    ck_assert_msg(pcap != NULL, "%s", text);
    data = pcap_next(pcap, &header);
    ck_assert_ptr_nonnull(data);
    ck_assert_uint_eq(header.caplen, CAPTURE_FRAME_MAX);
    ck_assert_uint_eq(header.len, CAPTURE_FRAME_MAX);
    ck_assert_mem_eq(data, frame, CAPTURE_FRAME_MAX);
    pcap_close(pcap);
    g_free(frame);
    unlink(path);
}
END_TEST

START_TEST(test_filter)
{
    char path[] = "/tmp/qdes-unit-XXXXXX";
    int fd = mkstemp(path);
    uint8_t frame[FRAME];
    Capture *capture;
    int last = -1;
    int i;

    ck_assert_int_ge(fd, 0);
    close(fd);
    capture = begin("arp", path);
    for (i = 0; i < 10; i++) {
        make_frame(frame, i, i == 7 ? ETHERTYPE_ARP : ETHERTYPE_TEST);
        add_frame(capture, frame);
    }
    capture_free(capture);
    ck_assert_int_eq(read_back(fopen(path, "r"), &last), 1);
    ck_assert_int_eq(last, 7);
    unlink(path);
}
END_TEST

START_TEST(test_bad_filter)
{
    GError *err = NULL;

    ck_assert_ptr_null(capture_new("no such thing", &err));
    ck_assert(g_str_has_prefix(err->message, "--pcap-filter=no such thing: "));
    g_error_free(err);
}
END_TEST

START_TEST(test_unwritable_file)
{
    Capture *capture = capture_new(NULL, NULL);
    GError *err = NULL;

    ck_assert(!capture_open(capture, "/nonexistent/x.pcap", &err));
    ck_assert(g_str_has_prefix(err->message, "--pcap=/nonexistent/x.pcap: "));
    g_error_free(err);
    capture_free(capture);
}
END_TEST

START_TEST(test_fifo_without_reader)
{
    char directory[] = "/tmp/qdes-unit-XXXXXX";
    Capture *capture = capture_new(NULL, NULL);
    GError *err = NULL;
    char *path;

    ck_assert_ptr_nonnull(mkdtemp(directory));
    path = g_build_filename(directory, "fifo", NULL);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert(!capture_open(capture, path, &err));
    ck_assert_ptr_nonnull(strstr(err->message, "reads"));
    g_error_free(err);
    capture_free(capture);
    unlink(path);
    rmdir(directory);
    g_free(path);
}
END_TEST

/* Open the writing end of a new pipe for a capture; returns the other one. */
static int open_pipe(char path[40])
{
    int fds[2];

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    snprintf(path, 40, "/proc/self/fd/%d", fds[1]);
    return fds[0];
}

static void close_writing_end(const char path[40])
{
    close((int)g_ascii_strtoll(path + strlen("/proc/self/fd/"), NULL, 10));
}

static void *copy_all(void *opaque)
{
    int fd = GPOINTER_TO_INT(opaque);
    FILE *copy = tmpfile();
    char buf[65536];
    ssize_t ret;

    while ((ret = read(fd, buf, sizeof(buf))) > 0) {
        ck_assert_uint_eq(fwrite(buf, 1, ret, copy), ret);
    }
    ck_assert_int_eq(ret, 0);
    rewind(copy);
    return copy;
}

/* Nobody reads: frames are left out, nothing waits; what is kept is whole. */
START_TEST(test_slow_reader)
{
    int sent = 4 * CAPTURE_BUFFER / FRAME;
    char path[40];
    int fd = open_pipe(path);
    Capture *capture = begin(NULL, path);
    int64_t start = g_get_monotonic_time();
    uint8_t frame[FRAME];
    GThread *reader;
    int got;
    int last;
    int i;

    close_writing_end(path);
    for (i = 0; i < sent; i++) {
        make_frame(frame, i, ETHERTYPE_TEST);
        add_frame(capture, frame);
    }
    ck_assert_int_lt(g_get_monotonic_time() - start, 10 * G_TIME_SPAN_SECOND);

    /* the reader comes to life when the capture ends, and gets what is left */
    reader = g_thread_new("reader", copy_all, GINT_TO_POINTER(fd));
    capture_free(capture);
    got = read_back(g_thread_join(reader), &last);
    ck_assert_int_lt(got, sent);
    ck_assert_int_lt(last, sent - 1);
    /* one buffer waits to be written, and one is being written */
    ck_assert_int_ge(got, CAPTURE_BUFFER / FRAME / 2);
    ck_assert_int_le((long)got * FRAME, 2L * CAPTURE_BUFFER + (1 << 20));
    close(fd);
}
END_TEST

/* A reader that never reads again does not keep the program from ending. */
START_TEST(test_stuck_reader)
{
    char path[40];
    int fd = open_pipe(path);
    Capture *capture = begin(NULL, path);
    uint8_t frame[FRAME];
    int64_t start;
    int64_t taken;
    int i;

    for (i = 0; i < 1000; i++) {
        make_frame(frame, i, ETHERTYPE_TEST);
        add_frame(capture, frame);
    }
    start = g_get_monotonic_time();
    capture_free(capture);
    taken = (g_get_monotonic_time() - start) / G_TIME_SPAN_MILLISECOND;
    ck_assert_int_ge(taken, CAPTURE_FLUSH_MS);
    ck_assert_int_lt(taken, CAPTURE_FLUSH_MS + 5000);
    close(fd);
    close_writing_end(path);
}
END_TEST

/* A reader that is gone ends the capture, and nothing else. */
START_TEST(test_closed_pipe)
{
    char path[40];
    int fd = open_pipe(path);
    Capture *capture = begin(NULL, path);
    uint8_t frame[FRAME];
    int i;

    close_writing_end(path);
    close(fd);
    for (i = 0; i < 1000; i++) {
        make_frame(frame, i, ETHERTYPE_TEST);
        add_frame(capture, frame);
    }
    capture_free(capture);
}
END_TEST

START_TEST(test_full_disk)
{
    Capture *capture = begin(NULL, "/dev/full");
    uint8_t frame[FRAME];
    int i;

    for (i = 0; i < 1000; i++) {
        make_frame(frame, i, ETHERTYPE_TEST);
        add_frame(capture, frame);
    }
    capture_free(capture);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tap-capture");
    TCase *tc = tcase_create("capture");

    signal(SIGPIPE, SIG_IGN);       /* as the program has it */
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, test_file);
    tcase_add_loop_test(tc, test_pieces, 0, G_N_ELEMENTS(pieces));
    tcase_add_test(tc, test_largest_frame);
    tcase_add_test(tc, test_filter);
    tcase_add_test(tc, test_bad_filter);
    tcase_add_test(tc, test_unwritable_file);
    tcase_add_test(tc, test_fifo_without_reader);
    tcase_add_test(tc, test_slow_reader);
    tcase_add_test(tc, test_stuck_reader);
    tcase_add_test(tc, test_closed_pipe);
    tcase_add_test(tc, test_full_disk);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
