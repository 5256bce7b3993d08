/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing the requests of qdes-tap's control socket: anything is answered,
 * and what is understood is asked with the same words again.
 */

#include "fuzz.h"

#include "request.h"

static void check_answer(const char *answer)
{
    size_t size = strlen(answer);

    fuzz_check(g_utf8_validate(answer, -1, NULL), "an answer is not UTF-8");
    fuzz_check(size > 1 && strchr(answer, '\n') == answer + size - 1,
               "an answer is not one line");
    fuzz_check(g_str_has_prefix(answer, "{\"error\":"),
               "an error is not called so");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = fuzz_copy(data, MIN(size, REQUEST_MAX));
    Request request, again;
    RequestCommand command;
    char *answer = NULL, *line;

    size = MIN(size, REQUEST_MAX);
    command = request_parse(&request, (char *)copy, size, &answer);
    if (command == REQUEST_INVALID) {
        fuzz_check(answer != NULL, "no answer");
        check_answer(answer);
    } else {
        fuzz_check(!answer && request.command == command, "two answers");
        line = request_line(&request);
        fuzz_check(request_parse(&again, line, strlen(line), &answer) ==
                   command && g_strcmp0(again.mac, request.mac) == 0 &&
                   g_strcmp0(again.peer, request.peer) == 0 &&
                   again.statics == request.statics, "a request changed");
        request_clear(&again);
        g_free(line);
    }
    request_clear(&request);
    g_free(answer);
    g_free(copy);
    return 0;
}
