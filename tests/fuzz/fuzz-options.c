/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing qdes-tap's command line, one argument on each line of the input:
 * it is understood, or one message says why not.
 */

#include "fuzz.h"

#include "options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autofree char *line = g_strconcat("qdes-tap\n", text, NULL);
    char **argv = g_strsplit(line, "\n", 64);
    char name[QDES_NAME_MAX + 1];
    Options options;
    QdesConfig config;
    GError *err = NULL;
    int64_t value;
    bool ok;

    ok = options_parse(&options, g_strv_length(argv), argv, &err);
    fuzz_check(ok == !err, "an error without a message");
    if (ok && options.mode == OPTIONS_RUN) {
        fuzz_check(options.tap != NULL, "a port without a TAP");
        ok = qdes_config_init(&config, &options.fabric, &err);
        fuzz_check(ok == !err, "an error without a message");
    }
    g_clear_error(&err);
    options_clear(&options);
    fuzz_check(!options_parse_number(text, &value) ||
               (options_parse_size(text, &value) || errno == ERANGE ||
                value < 0), "a number is no size");
    options_default_name(name, text, "tap0");
    fuzz_check(g_str_is_ascii(name) && strlen(name) <= QDES_NAME_MAX,
               "a name that cannot be");
    g_strfreev(argv);
    return 0;
}
