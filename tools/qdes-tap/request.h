/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can be asked on the control socket, and the answers
 *
 * The form is QMP's, without its greeting: one JSON object on one line asks,
 * one JSON object on one line answers.
 *
 *   {"execute": "query-qdes"} -> {"return": {...}}, the fields of QdesInfo in
 *                                qapi/qdes.json, "id" being the TAP's name
 *   {"execute": "info-qdes"}  -> {"return": "..."}, the text for people
 *   {"execute": "qdes-fdb-add", "arguments": {"mac": "...", "peer": "..."}}
 *   {"execute": "qdes-fdb-del", "arguments": {"mac": "..."}}
 *                             -> {"return": {}}
 *   {"execute": "qdes-fdb-flush", "arguments": {"mac": "...", "peer": "...",
 *                                               "static": false}}
 *                             -> {"return": {"flushed": N}}
 *   {"execute": "qdes-peer-add", "arguments": {"peer": "..."}}
 *   {"execute": "qdes-peer-del", "arguments": {"peer": "..."}}
 *                             -> {"return": {}}
 *   {"execute": "qdes-set-secret", "arguments": {"secret": "...",
 *                                                "secret-old": "..."}}
 *                             -> {"return": {}}
 *   anything else             -> {"error": {"class": "...", "desc": "..."}}
 *
 * Arguments are those of the commands in qapi/qdes.json, but for "id", and for
 * secrets, which are themselves here, in base64.
 *
 * Pure.  Answers end in a newline; the caller frees them with g_free().  They
 * are made from a snapshot and nothing else, so any thread may make them.
 */

#ifndef QDES_TAP_REQUEST_H
#define QDES_TAP_REQUEST_H

#include "qdes/status.h"

#define REQUEST_MAX 12288       /* bytes of a request, its newline included */

typedef enum RequestCommand {
    REQUEST_QUERY_QDES,
    REQUEST_INFO_QDES,
    REQUEST_FDB_ADD,
    REQUEST_FDB_DEL,
    REQUEST_FDB_FLUSH,
    REQUEST_PEER_ADD,
    REQUEST_PEER_DEL,
    REQUEST_SET_SECRET,
    REQUEST_INVALID,
} RequestCommand;

/* What was asked, or is to be.  Strings are NULL where there are none. */
typedef struct Request {
    RequestCommand command;
    char *mac;
    char *peer;
    bool statics;               /* "static" */
    QdesSecret secret;          /* they are the request's, too */
    QdesSecret secret_old;
} Request;

/*
 * Understand the request of @size bytes at @line.  When that fails, the
 * command is REQUEST_INVALID, and *@answer says why.  request_clear() is
 * needed in both cases.
 */
RequestCommand request_parse(Request *request, const char *line, size_t size,
                             char **answer);

void request_clear(Request *request);

/* The line that asks @request. */
char *request_line(const Request *request);

/* Does it ask for something to be shown, and not to be changed? */
bool request_shows(RequestCommand command);

/* The answer that something was changed; @n entries by REQUEST_FDB_FLUSH. */
char *request_done(RequestCommand command, size_t n);

/* The answer to a valid request that shows something. */
char *request_answer(RequestCommand command, const char *id,
                     const QdesStatus *status);

/* The answer that something is wrong. */
char *request_error(const char *class, const char *desc);

#endif
