/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fuzzer without libFuzzer: run-corpus [--random=N] [FILE|DIRECTORY]...
 *
 * Runs the fuzzer that it is linked with over each file, then over N random
 * inputs.  QDES_SEED=N repeats those.  What is wrong ends it.
 */

#include "fuzz.h"

static bool run_file(const char *path)
{
    g_autofree char *data = NULL;
    g_autoptr(GError) error = NULL;
    gsize size;

    if (!g_file_get_contents(path, &data, &size, &error)) {
        fprintf(stderr, "run-corpus: %s\n", error->message);
        return false;
    }
    fprintf(stderr, "%s\n", path);
    LLVMFuzzerTestOneInput((const uint8_t *)data, size);
    return true;
}

static bool run_directory(const char *path)
{
    g_autoptr(GError) error = NULL;
    GDir *dir = g_dir_open(path, 0, &error);
    bool ok = true;
    const char *name;

    if (!dir) {
        fprintf(stderr, "run-corpus: %s\n", error->message);
        return false;
    }
    while ((name = g_dir_read_name(dir)) && ok) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        ok = run_file(file);
    }
    g_dir_close(dir);
    return ok;
}

/* Mostly short inputs, in which small numbers are frequent. */
static void run_random(unsigned n)
{
    const char *text = g_getenv("QDES_SEED");
    guint32 seed = text ? (guint32)g_ascii_strtoull(text, NULL, 10)
                        : g_random_int();
    GRand *rand = g_rand_new_with_seed(seed);
    uint8_t data[512];
    size_t size, i;

    fprintf(stderr, "random inputs: QDES_SEED=%u\n", seed);
    while (n-- > 0) {
        size = g_rand_int_range(rand, 0, 1 << g_rand_int_range(rand, 1, 10));
        for (i = 0; i < size; i++) {
            data[i] = g_rand_int(rand) >> g_rand_int_range(rand, 0, 32);
        }
        LLVMFuzzerTestOneInput(data, size);
    }
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    unsigned n_random = 0;
    bool ok = true;
    int i;

    for (i = 1; i < argc && ok; i++) {
        if (g_str_has_prefix(argv[i], "--random=")) {
            n_random = g_ascii_strtoull(argv[i] + 9, NULL, 10);
        } else if (g_file_test(argv[i], G_FILE_TEST_IS_DIR)) {
            ok = run_directory(argv[i]);
        } else {
            ok = run_file(argv[i]);
        }
    }
    run_random(n_random);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
