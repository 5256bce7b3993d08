/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all unit tests share: libcheck with TAP on stdout, and seeds
 *
 * A random test draws its seed anew on each run and prints it; QDES_SEED=N
 * repeats a run.
 */

#ifndef QDES_UNIT_H
#define QDES_UNIT_H

#include <check.h>
#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline int unit_main(Suite *suite)
{
    SRunner *sr = srunner_create(suite);
    int n_failed;

    srunner_set_tap(sr, "-");
    srunner_run_all(sr, CK_SILENT);
    n_failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static inline GRand *unit_rand(const char *test)
{
    const char *text = g_getenv("QDES_SEED");
    guint32 seed = text ? (guint32)g_ascii_strtoull(text, NULL, 10)
                        : g_random_int();

    fprintf(stderr, "%s: QDES_SEED=%u\n", test, seed);
    return g_rand_new_with_seed(seed);
}

/* A MAC address that stands for the number @n. */
static inline const uint8_t *unit_mac(uint8_t mac[6], uint32_t n)
{
    mac[0] = 0x52;
    mac[1] = 0x54;
    mac[2] = n >> 24;
    mac[3] = n >> 16;
    mac[4] = n >> 8;
    mac[5] = n;
    return mac;
}

#endif
