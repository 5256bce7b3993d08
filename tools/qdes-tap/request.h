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
 *   anything else             -> {"error": {"class": "...", "desc": "..."}}
 *
 * Pure.  Answers end in a newline; the caller frees them with g_free().  They
 * are made from a snapshot and nothing else, so any thread may make them.
 */

#ifndef QDES_TAP_REQUEST_H
#define QDES_TAP_REQUEST_H

#include "qdes/status.h"

#define REQUEST_MAX 4096        /* bytes of a request, its newline included */

typedef enum RequestCommand {
    REQUEST_QUERY_QDES,
    REQUEST_INFO_QDES,
    REQUEST_INVALID,
} RequestCommand;

/*
 * Understand the request of @size bytes at @line.  When that fails, *@answer
 * says why.
 */
RequestCommand request_parse(const char *line, size_t size, char **answer);

/* The answer to a valid request. */
char *request_answer(RequestCommand command, const char *id,
                     const QdesStatus *status);

/* The answer that something is wrong. */
char *request_error(const char *class, const char *desc);

#endif
