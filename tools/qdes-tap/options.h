/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line of qdes-tap
 *
 * Tables, one for running a port and one for each sub-command, say
 * everything about each option: name, argument, where its value goes, help,
 * and whether it has to be given.  Parsing and --help both come from them; a
 * test holds the man page against --help.
 *
 * Only the form of a value is checked here (a number is a number, a switch is
 * on or off).  Which numbers and addresses make sense is libqdes' business,
 * so that -netdev qdes and qdes-tap cannot differ.
 *
 * Pure: nothing is opened, looked up or printed.
 */

#ifndef QDES_TAP_OPTIONS_H
#define QDES_TAP_OPTIONS_H

#include "qdes/config.h"

#include "request.h"

typedef enum OptionsMode {
    OPTIONS_RUN,                /* be a port */
    OPTIONS_STATUS,             /* ask a running one */
    OPTIONS_CHANGE,             /* have a running one change something */
    OPTIONS_HELP,
    OPTIONS_VERSION,
} OptionsMode;

typedef struct Options {
    OptionsMode mode;
    QdesOptions fabric;
    const char *tap;
    const char *control;
    const char *pcap;
    const char *pcap_filter;
    const char *user;
    const char *secret_file;    /* of OPTIONS_RUN, or of the change */
    const char *secret_old_file;
    const char *sandbox;
    bool plain_io;
    bool quiet;
    bool json;                  /* of OPTIONS_STATUS */
    Request request;            /* of OPTIONS_CHANGE; borrows its strings */
    bool help;
    bool version;
    GPtrArray *peers;           /* of fabric.peers */
    GPtrArray *macs;            /* of fabric.macs */
    GPtrArray *strings;         /* owns what the pointers above point to */
} Options;

/*
 * Two kinds of errors: OPTIONS_ERROR_USAGE, when the command line cannot be
 * understood, and OPTIONS_ERROR_VALUE, when one value is not of its kind.
 */
#define OPTIONS_ERROR (options_error_quark())
typedef enum OptionsError {
    OPTIONS_ERROR_USAGE,
    OPTIONS_ERROR_VALUE,
} OptionsError;
GQuark options_error_quark(void);

/*
 * Parse a command line.  @argv is not changed.  On error, returns false with
 * @errp set; options_clear() is needed in both cases.
 */
bool options_parse(Options *options, int argc, char **argv, GError **errp);

void options_clear(Options *options);

/* The text of --help, with lines of at most 79 columns; g_free() it. */
char *options_help(void);

/*
 * A decimal number, or a hexadecimal one after "0x", with nothing before or
 * after it but a minus sign.  Returns false with errno ERANGE for a number
 * that does not fit, EINVAL for what is none.
 */
bool options_parse_number(const char *text, int64_t *value);

/* The same for bytes, with k, M or G (powers of 1024) behind it or not. */
bool options_parse_size(const char *text, int64_t *value);

/*
 * "HOST:TAP", as peers' tables show this port by default: the host part is
 * cut where that is needed to fit, and what is not printable ASCII in it
 * becomes '?'.
 */
void options_default_name(char name[QDES_NAME_MAX + 1], const char *host,
                          const char *tap);

#endif
