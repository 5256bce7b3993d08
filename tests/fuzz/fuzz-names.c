/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing text that users write and that peers send: endpoints, seeds, MAC
 * addresses, names.  What is understood is written as text that means the
 * same.
 */

#include "fuzz.h"

#include "qdes/config.h"
#include "qdes/eth.h"
#include "qdes/name.h"
#include "qdes/seeds.h"

static void check_error(bool ok, GError **err)
{
    fuzz_check(ok == !*err, "an error without a message");
    g_clear_error(err);
}

static void check_addr(const char *text)
{
    char buf[QDES_ADDR_STRLEN];
    QdesAddr addr, again;
    GError *err = NULL;
    bool ok = qdes_addr_parse(&addr, text, 9, &err);

    check_error(ok, &err);
    if (ok) {
        fuzz_check(addr.port != 0, "an address without a port");
        qdes_addr_format(&addr, buf);
        fuzz_check(strlen(buf) < sizeof(buf) &&
                   qdes_addr_parse(&again, buf, 0, NULL) &&
                   qdes_addr_equal(&addr, &again), "an address changed");
    }
}

static void check_seed(const char *text)
{
    QdesSeedSpec spec, again;
    QdesSeeds *seeds;
    GError *err = NULL;
    bool ok = qdes_seed_parse(&spec, text, 9, &err);

    check_error(ok, &err);
    if (!ok) {
        return;
    }
    fuzz_check(spec.kind == QDES_SEED_ADDRESS ? qdes_seed_is_host(&spec.addr)
                                              : spec.host[0] != '\0',
               "a seed is nowhere");
    if (spec.kind != QDES_SEED_ADDRESS) {
        fuzz_check(qdes_seed_parse(&again, spec.host, spec.addr.port, NULL) &&
                   strcmp(spec.host, again.host) == 0, "a name changed");
    }
    seeds = qdes_seeds_new(1);
    fuzz_check(qdes_seeds_add(seeds, text, &spec, 1) == QDES_SEED_ADDED &&
               qdes_seeds_add(seeds, text, &spec, 1) ==
               QDES_SEED_DUPLICATE && qdes_seeds_del(seeds, &spec) &&
               qdes_seeds_size(seeds) == 0, "a seed is not found again");
    qdes_seeds_free(seeds);
}

static void check_mac(const char *text)
{
    uint8_t mac[QDES_MAC_SIZE], again[QDES_MAC_SIZE];
    char buf[QDES_MAC_STRLEN];

    if (qdes_mac_parse(mac, text)) {
        fuzz_check(qdes_mac_parse(again, qdes_mac_format(mac, buf)) &&
                   memcmp(mac, again, sizeof(mac)) == 0,
                   "a MAC address changed");
    }
}

static void check_name(const char *data, size_t size)
{
    char name[QDES_NAME_MAX + 1], again[QDES_NAME_MAX + 1];

    qdes_name_clean(name, data, size);
    fuzz_check(strlen(name) <= QDES_NAME_MAX &&
               g_utf8_validate(name, -1, NULL), "a name is not UTF-8");
    qdes_name_clean(again, name, strlen(name));
    fuzz_check(strcmp(name, again) == 0, "a clean name is not clean");
}

static void check_config(const char *text, unsigned which)
{
    QdesOptions options = { .mcast = NULL };
    QdesConfig config;
    GError *err = NULL;

    switch (which % 6) {
    case 0:
        options.mcast = text;
        break;
    case 1:
        options.localaddr = text;
        break;
    case 2:
        options.iface = text;
        break;
    case 3:
        options.encap = text;
        break;
    case 4:
        options.storm_control = text;
        break;
    case 5:
        options.name = text;
        break;
    }
    check_error(qdes_config_init(&config, &options, &err), &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = NULL;

    if (size == 0) {
        return 0;
    }
    text = g_strndup((const char *)data + 1, size - 1);
    check_addr(text);
    check_seed(text);
    check_mac(text);
    check_name((const char *)data + 1, size - 1);
    check_config(text, data[0]);
    return 0;
}
