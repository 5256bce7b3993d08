/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log: one line on stderr for each event
 *
 * For people, a line is "qdes-tap: text".  When stderr is the journal's
 * stream (JOURNAL_STREAM names it), a line is "<N>text" instead, N being the
 * syslog priority: the journal knows the program and the time itself.
 *
 * Each function writes its line in one piece and may be called from any
 * thread; stdout is never touched.
 */

#ifndef QDES_TAP_LOG_H
#define QDES_TAP_LOG_H

#include <glib.h>
#include <stdbool.h>
#include <sys/stat.h>

/* Look where stderr leads to; @quiet leaves out log_info()'s lines. */
void log_init(bool quiet);

/* What happened, for who wants to know. */
void log_info(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* What hurts, but is survived. */
void log_warning(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Why the program ends. */
void log_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Is the file of @st the one that @journal_stream ("DEVICE:INODE") names? */
bool log_is_journal(const char *journal_stream, const struct stat *st);

#endif
