/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "log.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>

static bool log_quiet;
static bool log_journal;

bool log_is_journal(const char *journal_stream, const struct stat *st)
{
    char *mine;
    bool same;

    if (!journal_stream) {
        return false;
    }
    mine = g_strdup_printf("%ju:%ju", (uintmax_t)st->st_dev,
                           (uintmax_t)st->st_ino);
    same = g_str_equal(mine, journal_stream);
    g_free(mine);
    return same;
}

void log_init(bool quiet)
{
    struct stat st;

    log_quiet = quiet;
    log_journal = fstat(STDERR_FILENO, &st) == 0 &&
                  log_is_journal(getenv("JOURNAL_STREAM"), &st);
}

static void G_GNUC_PRINTF(3, 0) log_line(int priority, const char *label,
                                         const char *format, va_list ap)
{
    char *text = g_strdup_vprintf(format, ap);

    if (log_journal) {
        fprintf(stderr, "<%d>%s\n", priority, text);
    } else {
        fprintf(stderr, "qdes-tap: %s%s\n", label, text);
    }
    g_free(text);
}

void log_info(const char *format, ...)
{
    va_list ap;

    if (log_quiet) {
        return;
    }
    va_start(ap, format);
    log_line(LOG_INFO, "", format, ap);
    va_end(ap);
}

void log_warning(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    log_line(LOG_WARNING, "warning: ", format, ap);
    va_end(ap);
}

void log_error(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    log_line(LOG_ERR, "", format, ap);
    va_end(ap);
}
