/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Options of a port, checked in one place for every front end. */

#include "qdes/config.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

#include "qdes/encap.h"
#include "qdes/eth.h"
#include "qdes/name.h"
#include "qdes/portsec.h"
#include "qdes/seeds.h"
#include "qdes/storm.h"

GQuark qdes_error_quark(void)
{
    return g_quark_from_static_string("qdes-error-quark");
}

#define OPTION_ERROR(errp, ...) \
    g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION, __VA_ARGS__)

static bool check_range(const char *option, int64_t value, int64_t min,
                        int64_t max, const char *unit, GError **errp)
{
    if (value < min || value > max) {
        OPTION_ERROR(errp, "%s=%" G_GINT64_FORMAT ": must be %" G_GINT64_FORMAT
                     " to %" G_GINT64_FORMAT "%s%s", option, value, min, max,
                     *unit ? " " : "", unit);
        return false;
    }
    return true;
}

static bool parse_addr(QdesAddr *addr, const char *option, const char *text,
                       uint16_t default_port, GError **errp)
{
    g_autoptr(GError) err = NULL;

    if (!qdes_addr_parse(addr, text, default_port, &err)) {
        OPTION_ERROR(errp, "%s=%s: %s", option, text, err->message);
        return false;
    }
    return true;
}

/* Is @option @wanted, and not to be had with @encap for the reason @why? */
static bool lacks(const QdesEncapsulation *encap, bool wanted,
                  const char *option, const char *why, GError **errp)
{
    if (wanted && !encap->control) {
        OPTION_ERROR(errp, "%s=on: %s %s; leave it out, or use encap=qdes",
                     option, encap->title, why);
        return true;
    }
    return false;
}

static bool check_encap(QdesConfig *config, const QdesOptions *options,
                        GError **errp)
{
    const char *name = options->encap ? options->encap : qdes_encap_qdes.name;
    const QdesEncapsulation *encap = qdes_encap_find(name);
    bool relay = options->has_relay && options->relay;

    if (!encap) {
        OPTION_ERROR(errp, "encap=%s: must be qdes, vxlan or vxvde", name);
        return false;
    }
    if (lacks(encap, options->has_superframes && options->superframes,
              "superframes", "cannot carry them", errp) ||
        lacks(encap, options->has_loop_guard && options->loop_guard,
              "loop-guard", "does not have the HELLOs by which it tells its "
              "own kind", errp) ||
        lacks(encap, relay, "relay", "does not have the HELLOs in which peers "
              "ask for it", errp)) {
        return false;
    }
    config->encap = encap;
    config->relay = relay;
    config->superframes = encap->control &&
                          (!options->has_superframes || options->superframes);
    return true;
}

static bool check_netid(QdesConfig *config, const QdesOptions *options,
                        GError **errp)
{
    const QdesEncapsulation *encap = config->encap;

    config->netid = options->has_netid ? options->netid : encap->netid;
    if (options->has_netid && options->netid > encap->max_netid &&
        options->netid <= UINT32_MAX) {
        OPTION_ERROR(errp, "netid=%" G_GINT64_FORMAT ": must be 0 to %"
                     G_GUINT32_FORMAT " with encap=%s, whose network IDs have "
                     "24 bits", options->netid, encap->max_netid,
                     encap->name);
        return false;
    }
    return !options->has_netid ||
           check_range("netid", options->netid, 0, encap->max_netid, "",
                       errp);
}

static bool check_group(QdesConfig *config, const char *mcast, GError **errp)
{
    const QdesEncapsulation *encap = config->encap;

    if (!mcast) {
        mcast = encap->group;
    }
    if (strcmp(mcast, "off") == 0) {
        config->group = qdes_addr_any(false, 0);
        return true;
    }
    if (!parse_addr(&config->group, "mcast", mcast, encap->port, errp)) {
        return false;
    }
    config->has_group = true;
    if (!qdes_addr_is_multicast(&config->group)) {
        OPTION_ERROR(errp, "mcast=%s: not a multicast address; use one of "
                     "224.0.0.0 to 239.255.255.255 or ff00::/8, such as %s",
                     mcast, encap->group);
        return false;
    }
    return true;
}

bool qdes_config_reaches(const QdesConfig *config, const QdesAddr *addr)
{
    return config->dual ||
           qdes_addr_is_v4(addr) == qdes_addr_is_v4(&config->local);
}

bool qdes_config_parse_peer(const QdesConfig *config, QdesSeedSpec *spec,
                            const char *text, GError **errp)
{
    const QdesEncapsulation *encap = config->encap;
    uint16_t port = encap->one_port ? config->local.port : encap->port;

    if (!qdes_seed_parse(spec, text, port, errp)) {
        return false;
    }
    if (encap->one_port && spec->addr.port != port) {
        OPTION_ERROR(errp, "'%s' has a port of its own%s, but with encap=%s "
                     "all peers take frames at the fabric's, which is %u; "
                     "leave it out, or set that by mcast= or localaddr=",
                     text, spec->kind == QDES_SEED_SERVICE ?
                     " in its SRV records" : "", encap->name, port);
        return false;
    }
    return true;
}

static bool check_peers(QdesConfig *config, const QdesOptions *options,
                        GError **errp)
{
    g_autoptr(GError) err = NULL;
    QdesSeedSpec spec;
    size_t i;

    if (options->n_peers > QDES_SEEDS_MAX) {
        OPTION_ERROR(errp, "peers: %zu are listed, at most %d can be; list a "
                     "DNS name whose addresses they are", options->n_peers,
                     QDES_SEEDS_MAX);
        return false;
    }
    for (i = 0; i < options->n_peers; i++) {
        if (!qdes_config_parse_peer(config, &spec, options->peers[i],
                                    &err)) {
            OPTION_ERROR(errp, "peers.%zu=%s: %s", i, options->peers[i],
                         err->message);
            return false;
        }
        if (spec.kind == QDES_SEED_ADDRESS &&
            !qdes_config_reaches(config, &spec.addr)) {
            OPTION_ERROR(errp, "peers.%zu=%s: localaddr= is not of the same "
                         "family; give an %s address, or leave out "
                         "localaddr=", i, options->peers[i],
                         qdes_addr_is_v4(&config->local) ? "IPv4" : "IPv6");
            return false;
        }
    }
    config->peers = options->peers;
    config->n_peers = options->n_peers;
    return true;
}

static bool check_local(QdesConfig *config, const char *localaddr,
                        size_t n_peers, GError **errp)
{
    bool v4 = qdes_addr_is_v4(&config->group);

    /* Where all take frames at one port, that is the group's if there is one,
     * else the one here. */
    uint16_t port = !config->encap->one_port ? 0 :
                    config->has_group ? config->group.port :
                    config->encap->port;

    if (!localaddr) {
        config->dual = n_peers || !config->has_group;
        config->local = qdes_addr_any(v4 && !config->dual, port);
        return true;
    }
    if (!parse_addr(&config->local, "localaddr", localaddr, port, errp)) {
        return false;
    }
    if (port && config->has_group && config->local.port != port) {
        OPTION_ERROR(errp, "localaddr=%s: with encap=%s all peers take "
                     "frames at one UDP port, that of mcast=, which is %u; "
                     "leave out the port here, or give it there", localaddr,
                     config->encap->name, port);
        return false;
    }
    if (qdes_addr_is_multicast(&config->local)) {
        OPTION_ERROR(errp, "localaddr=%s: a multicast address cannot be "
                     "bound to; give an address of this host, or use mcast=",
                     localaddr);
        return false;
    }
    if (qdes_addr_needs_scope(&config->local) && !config->local.scope) {
        OPTION_ERROR(errp, "localaddr=%s: a link-local address is one "
                     "interface's; name it, as in fe80::1%%eth0", localaddr);
        return false;
    }
    if (qdes_addr_is_any(&config->local) &&
        !qdes_addr_is_v4(&config->local)) {
        config->dual = true;
        return true;
    }
    if (config->has_group && qdes_addr_is_v4(&config->local) != v4) {
        OPTION_ERROR(errp, "localaddr=%s: not of the same family as the "
                     "group; give an %s address", localaddr,
                     v4 ? "IPv4" : "IPv6");
        return false;
    }
    return true;
}

static bool is_loopback(const char *iface)
{
    struct ifaddrs *all = NULL;
    const struct ifaddrs *ifa;
    bool ret = false;

    if (getifaddrs(&all) < 0) {
        return true;            /* not known to be none */
    }
    for (ifa = all; ifa; ifa = ifa->ifa_next) {
        if (strcmp(ifa->ifa_name, iface) == 0) {
            ret = ifa->ifa_flags & IFF_LOOPBACK;
        }
    }
    freeifaddrs(all);
    return ret;
}

/* The interface may also come with a link-local group, which needs one. */
static bool check_iface(QdesConfig *config, const char *iface, GError **errp)
{
    char scope[IF_NAMESIZE];
    char text[QDES_ADDR_STRLEN];

    if (config->group.scope && if_indextoname(config->group.scope, scope)) {
        if (iface && strcmp(iface, scope) != 0) {
            OPTION_ERROR(errp, "iface=%s: the group names the interface %s; "
                         "leave out one of the two", iface, scope);
            return false;
        }
        iface = scope;
        config->group.scope = 0;
    }
    if (iface && !config->has_group) {
        OPTION_ERROR(errp, "iface=%s: with mcast=off there is no group to "
                     "join on it; leave it out, or give an address of it as "
                     "localaddr=", iface);
        return false;
    }
    if (!iface) {
        if (qdes_addr_needs_scope(&config->group)) {
            config->group.port = 0;
            OPTION_ERROR(errp, "mcast=%s: a link-local group is one "
                         "interface's; add iface=",
                         qdes_addr_format(&config->group, text));
            return false;
        }
        return true;
    }
    if (!if_nametoindex(iface)) {
        OPTION_ERROR(errp, "iface=%s: there is no such interface; 'ip link' "
                     "lists them", iface);
        return false;
    }
    if (qdes_addr_is_loopback(&config->local) && !is_loopback(iface)) {
        config->local.port = 0;
        OPTION_ERROR(errp, "localaddr=%s: nothing is sent from there by "
                     "iface=%s; leave out one of the two",
                     qdes_addr_format(&config->local, text), iface);
        return false;
    }
    g_strlcpy(config->iface, iface, sizeof(config->iface));
    return true;
}

static bool check_no_ttl(const QdesConfig *config, const QdesOptions *options,
                         GError **errp)
{
    if (options->has_ttl && !config->has_group) {
        OPTION_ERROR(errp, "ttl=%" G_GINT64_FORMAT ": limits the hops of "
                     "multicast, and with mcast=off there is none; leave it "
                     "out", options->ttl);
        return false;
    }
    return true;
}

static bool check_name(QdesConfig *config, const QdesOptions *options,
                       GError **errp)
{
    const char *name = options->name;
    size_t size;

    if (!name) {
        name = options->default_name ? options->default_name : "";
        qdes_name_clean(config->name, name, strlen(name));
        return true;
    }
    size = strlen(name);
    if (size < 1 || size > QDES_NAME_MAX) {
        OPTION_ERROR(errp, "name=%s: must have 1 to %d bytes", name,
                     QDES_NAME_MAX);
        return false;
    }
    qdes_name_clean(config->name, name, size);
    if (strcmp(config->name, name) != 0) {
        OPTION_ERROR(errp, "name=%s: must be UTF-8 without control "
                     "characters", config->name);
        return false;
    }
    return true;
}

static bool check_forwarding(QdesConfig *config, const QdesOptions *options,
                             GError **errp)
{
    const char *unknown = options->unknown_unicast;

    config->learning = !options->has_learning || options->learning;
    config->flood_unknown = !unknown || strcmp(unknown, "flood") == 0;
    if (!config->flood_unknown && strcmp(unknown, "drop") != 0) {
        OPTION_ERROR(errp, "unknown-unicast=%s: must be flood or drop",
                     unknown);
        return false;
    }
    if (!config->flood_unknown && !config->learning) {
        OPTION_ERROR(errp, "unknown-unicast=drop: with learning=off every "
                     "unicast frame would be dropped; use one of the two");
        return false;
    }
    return true;
}

/* Where everything is flooded, a limit for floods would be one for all. */
static bool check_storm(QdesConfig *config, const char *text, GError **errp)
{
    guint64 rate;

    if (!text) {
        config->storm = config->learning ? QDES_DEFAULT_STORM : 0;
        return true;
    }
    if (strcmp(text, "off") == 0) {
        config->storm = 0;
        return true;
    }
    if (!g_ascii_string_to_unsigned(text, 10, 1, QDES_STORM_MAX, &rate,
                                    NULL)) {
        OPTION_ERROR(errp, "storm-control=%s: must be off, or 1 to %d frames "
                     "per second", text, QDES_STORM_MAX);
        return false;
    }
    config->storm = rate;
    return true;
}

static bool check_mac(const QdesOptions *options, size_t i, GError **errp)
{
    const char *text = options->macs[i];
    uint8_t other[QDES_MAC_SIZE];
    uint8_t mac[QDES_MAC_SIZE];
    size_t j;

    if (!qdes_mac_parse(mac, text)) {
        OPTION_ERROR(errp, "mac.%zu=%s: not a MAC address; give one like "
                     "52:54:00:12:34:56", i, text);
        return false;
    }
    if (!qdes_mac_is_source(mac)) {
        OPTION_ERROR(errp, "mac.%zu=%s: nobody can have this address; give "
                     "that of one network card, neither a group's nor zero",
                     i, text);
        return false;
    }
    for (j = 0; j < i; j++) {
        qdes_mac_parse(other, options->macs[j]);
        if (memcmp(mac, other, sizeof(mac)) == 0) {
            OPTION_ERROR(errp, "mac.%zu=%s: listed already, as %s; leave out "
                         "one of the two", i, text, options->macs[j]);
            return false;
        }
    }
    return true;
}

static bool check_port_security(QdesConfig *config, const QdesOptions *options,
                                GError **errp)
{
    const char *violation = options->mac_violation;
    size_t i;

    if (options->n_macs > QDES_PORTSEC_LISTED) {
        OPTION_ERROR(errp, "mac: %zu are listed, at most %d can be; where a "
                     "number will do, give max-local-macs=", options->n_macs,
                     QDES_PORTSEC_LISTED);
        return false;
    }
    for (i = 0; i < options->n_macs; i++) {
        if (!check_mac(options, i, errp)) {
            return false;
        }
    }
    if (options->has_max_local_macs &&
        !check_range("max-local-macs", options->max_local_macs, 1,
                     QDES_PORTSEC_MAX, "MAC addresses", errp)) {
        return false;
    }
    if (options->has_max_local_macs &&
        options->max_local_macs < (int64_t)options->n_macs) {
        OPTION_ERROR(errp, "max-local-macs=%" G_GINT64_FORMAT ": %zu MAC "
                     "addresses are listed by mac already; give their number "
                     "or more, or leave it out", options->max_local_macs,
                     options->n_macs);
        return false;
    }
    config->learn_none = violation && strcmp(violation, "learn-none") == 0;
    if (violation && !config->learn_none && strcmp(violation, "drop") != 0) {
        OPTION_ERROR(errp, "mac-violation=%s: must be drop or learn-none",
                     violation);
        return false;
    }
    if (violation && !options->n_macs && !options->has_max_local_macs) {
        OPTION_ERROR(errp, "mac-violation=%s: every MAC address is allowed; "
                     "give mac or max-local-macs, too, or leave it out",
                     violation);
        return false;
    }
    config->macs = options->macs;
    config->n_macs = options->n_macs;
    config->max_local_macs = options->has_max_local_macs ?
                             options->max_local_macs : 0;
    return true;
}

bool qdes_config_is_exposed(const QdesConfig *config)
{
    return !config->secret.data && !qdes_addr_is_loopback(&config->local);
}

/* Never says more of a secret than what it is called. */
static void secret_error(GError **errp, const char *option,
                         const QdesSecret *secret, const char *what)
{
    OPTION_ERROR(errp, "%s%s%s: %s", option, secret->name ? "=" : "",
                 secret->name ? secret->name : "", what);
}

static bool check_secret(const char *option, QdesSecret *secret, GError **errp)
{
    const char *bytes = secret->data;
    g_autofree char *what = NULL;

    if (!bytes) {
        return true;
    }
    if (secret->size > 0 && bytes[secret->size - 1] == '\n') {
        secret->size--;
    }
    if (secret->size >= QDES_SECRET_MIN && secret->size <= QDES_SECRET_MAX) {
        return true;
    }
    what = g_strdup_printf("has %s%zu bytes, must have %d to %d; make one with "
                           "head -c 32 /dev/urandom | base64",
                           secret->size > QDES_SECRET_MAX ? "more than " : "",
                           MIN(secret->size, QDES_SECRET_MAX), QDES_SECRET_MIN,
                           QDES_SECRET_MAX);
    secret_error(errp, option, secret, what);
    return false;
}

bool qdes_config_check_secrets(QdesSecret *secret, QdesSecret *secret_old,
                               GError **errp)
{
    if (!check_secret("secret", secret, errp) ||
        !check_secret("secret-old", secret_old, errp)) {
        return false;
    }
    if (secret_old->data && !secret->data) {
        secret_error(errp, "secret-old", secret_old, "there is no new "
                     "secret; give that, too, and here the one that it "
                     "replaces");
        return false;
    }
    if (secret->data && secret_old->data &&
        secret->size == secret_old->size &&
        memcmp(secret->data, secret_old->data, secret->size) == 0) {
        secret_error(errp, "secret-old", secret_old, "is the same as "
                     "the new secret; leave it out");
        return false;
    }
    return true;
}

static bool check_seal(QdesConfig *config, const QdesOptions *options,
                       GError **errp)
{
    static const QdesSealChoice choices[] = {
        QDES_SEAL_AUTO, QDES_SEAL_AES_256_GCM, QDES_SEAL_CHACHA20_POLY1305,
    };
    g_autofree char *what = NULL;
    size_t i;

    config->secret = options->secret;
    config->secret_old = options->secret_old;
    if (!qdes_config_check_secrets(&config->secret, &config->secret_old,
                                   errp)) {
        return false;
    }
    if (config->secret.data && !config->encap->control) {
        what = g_strdup_printf("%s cannot be sealed; leave it out, or use "
                               "encap=qdes", config->encap->title);
        secret_error(errp, "secret", &config->secret, what);
        return false;
    }
    if (!options->cipher) {
        return true;
    }
    if (!config->secret.data) {
        OPTION_ERROR(errp, "cipher=%s: without a secret nothing is sealed; "
                     "leave it out, or give one", options->cipher);
        return false;
    }
    for (i = 0; i < G_N_ELEMENTS(choices); i++) {
        if (strcmp(options->cipher, qdes_seal_choice_name(choices[i])) == 0) {
            config->cipher = choices[i];
            return true;
        }
    }
    OPTION_ERROR(errp, "cipher=%s: must be auto, aes-256-gcm or "
                 "chacha20-poly1305", options->cipher);
    return false;
}

bool qdes_config_init(QdesConfig *config, const QdesOptions *options,
                      GError **errp)
{
    int64_t ttl = options->has_ttl ? options->ttl : QDES_DEFAULT_TTL;
    int64_t ageing = options->has_ageing ? options->ageing
                                         : QDES_DEFAULT_AGEING;
    int64_t max_macs = options->has_max_macs ? options->max_macs
                                             : QDES_DEFAULT_MAX_MACS;

    memset(config, 0, sizeof(*config));

    if (!check_encap(config, options, errp) ||
        !check_seal(config, options, errp) ||
        !check_group(config, options->mcast, errp) ||
        !check_netid(config, options, errp) ||
        !check_local(config, options->localaddr, options->n_peers, errp) ||
        !check_iface(config, options->iface, errp) ||
        !check_peers(config, options, errp) ||
        !check_range("ttl", ttl, 1, 255, "hops", errp) ||
        !check_no_ttl(config, options, errp) ||
        !check_name(config, options, errp) ||
        !check_range("ageing", ageing, QDES_MIN_AGEING, QDES_MAX_AGEING,
                     "seconds", errp) ||
        !check_range("max-macs", max_macs, 1, QDES_MAX_MAX_MACS,
                     "MAC addresses", errp) ||
        !check_forwarding(config, options, errp) ||
        !check_storm(config, options->storm_control, errp) ||
        !check_port_security(config, options, errp)) {
        return false;
    }
    if ((options->has_sndbuf &&
         !check_range("sndbuf", options->sndbuf, QDES_MIN_SOCKBUF,
                      QDES_MAX_SOCKBUF, "bytes", errp)) ||
        (options->has_rcvbuf &&
         !check_range("rcvbuf", options->rcvbuf, QDES_MIN_SOCKBUF,
                      QDES_MAX_SOCKBUF, "bytes", errp))) {
        return false;
    }

    config->ttl = ttl;
    config->ageing_ms = ageing * 1000;
    config->max_macs = max_macs;
    config->sndbuf = options->has_sndbuf ? options->sndbuf : 0;
    config->rcvbuf = options->has_rcvbuf ? options->rcvbuf : 0;
    config->mss_clamp = !options->has_mss_clamp || options->mss_clamp;
    config->vnet_hdr = !options->has_vnet_hdr || options->vnet_hdr;
    config->gso = !options->has_gso || options->gso;
    config->loop_guard = config->encap->control &&
                         (options->has_loop_guard ? options->loop_guard :
                          options->default_loop_guard);
    return true;
}
