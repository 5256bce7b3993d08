/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The seeds of a fabric: listed at its start and while it runs, looked up. */

#include "qdes/fabric-private.h"

static bool add_seed(QdesFabric *f, const char *text, int64_t now,
                     GError **errp)
{
    QdesSeedSpec spec;

    if (!qdes_config_parse_peer(&f->config, &spec, text, errp)) {
        return false;
    }
    if (spec.kind == QDES_SEED_ADDRESS) {
        if (!qdes_underlay_reaches(f->underlay, &spec.addr)) {
            g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION,
                        "'%s' is not of the family that this port's socket "
                        "is of; start it with localaddr=[::] for both", text);
            return false;
        }
        if (qdes_underlay_is_broadcast(&spec.addr)) {
            g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION,
                        "'%s' is a broadcast address; give a host's, or use "
                        "mcast=", text);
            return false;
        }
    }
    switch (qdes_seeds_add(f->seeds, text, &spec, now)) {
    case QDES_SEED_ADDED:
        break;
    case QDES_SEED_DUPLICATE:
        qdes_fabric_say(f, QDES_LOG_INFO, "peer %s: listed already", text);
        return true;
    case QDES_SEED_REFUSED:
        g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION,
                    "'%s' is one too many: %d are listed; list a DNS name "
                    "whose addresses they are", text, QDES_SEEDS_MAX);
        return false;
    }
    if (spec.kind == QDES_SEED_ADDRESS &&
        qdes_underlay_is_own(f->underlay, &spec.addr)) {
        qdes_fabric_say(f, QDES_LOG_INFO, "peer %s: this port itself, left "
                        "alone", text);
    }
    /* Not at once: a host may still have rights that no thread should get. */
    qdes_fabric_arm(f, now);
    return true;
}

bool qdes_fabric_start_seeds(QdesFabric *f, const QdesConfig *config,
                             int64_t now, GError **errp)
{
    g_autoptr(GError) err = NULL;
    size_t i;

    f->seeds = qdes_seeds_new(f->host->random(f->opaque));
    for (i = 0; i < config->n_peers; i++) {
        if (!add_seed(f, config->peers[i], now, &err)) {
            g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION,
                        "peers.%zu=%s: %s", i, config->peers[i],
                        err->message);
            return false;
        }
    }
    /* Theirs who called. */
    f->config.peers = NULL;
    f->config.n_peers = 0;
    return true;
}

void qdes_fabric_stop_seeds(QdesFabric *f)
{
    if (f->resolver) {
        f->host->watch(f->opaque, qdes_resolver_fd(f->resolver),
                       QDES_WATCH_NONE);
        qdes_resolver_free(f->resolver);
    }
    qdes_seeds_free(f->seeds);
}

/* Lookups */

static bool open_resolver(QdesFabric *f, GError **errp)
{
    QdesAddr v4 = qdes_addr_any(true, 0);
    QdesAddr v6 = qdes_addr_any(false, 0);

    if (!f->resolver) {
        f->resolver =
            qdes_resolver_new(qdes_underlay_reaches(f->underlay, &v4),
                              qdes_underlay_reaches(f->underlay, &v6),
                              f->config.lookup, f->config.lookup_opaque,
                              errp);
        if (f->resolver) {
            f->host->watch(f->opaque, qdes_resolver_fd(f->resolver),
                           QDES_WATCH_READ);
        }
    }
    return f->resolver;
}

static void report(QdesFabric *f, int64_t n, unsigned news)
{
    QdesSeedInfo info;

    if (n < 0) {
        return;
    }
    qdes_seeds_info(f->seeds, n, &info);
    if (news & QDES_SEED_NEWS_FAILING) {
        qdes_fabric_say(f, QDES_LOG_WARNING, "peer %s: %s; it is looked up "
                        "again from time to time%s", info.spec, info.error,
                        info.n_endpoints ? ", and what was known stays" : "");
    }
    if (news & QDES_SEED_NEWS_WORKS) {
        qdes_fabric_say(f, QDES_LOG_INFO, "peer %s: found now, at %"
                        G_GUINT32_FORMAT " addresses", info.spec,
                        info.n_endpoints);
    }
    if (news & QDES_SEED_NEWS_LEFT_OUT) {
        qdes_fabric_say(f, QDES_LOG_WARNING, "peer %s: %" G_GUINT32_FORMAT
                        " of its addresses are too many and left out; a "
                        "name can have %d, and all together %d", info.spec,
                        info.left_out, QDES_SEED_ENDPOINTS_MAX,
                        QDES_SEEDS_ENDPOINTS_MAX);
    }
}

void qdes_fabric_look_up_seeds(QdesFabric *f, int64_t now)
{
    g_autoptr(GError) err = NULL;
    QdesSeedQuestion question;
    unsigned news;

    while ((!f->resolver || qdes_resolver_has_room(f->resolver)) &&
           qdes_seeds_take_due(f->seeds, now, &question)) {
        if (open_resolver(f, &err)) {
            qdes_resolver_ask(f->resolver, &question);
        } else {
            news = qdes_seeds_fail(f->seeds, question.id, err->message, now);
            report(f, qdes_seeds_find_question(f->seeds, question.id), news);
            g_clear_error(&err);
        }
    }
    /* While there is no room, the next answer brings us here again. */
    if (!f->resolver || qdes_resolver_has_room(f->resolver)) {
        qdes_fabric_arm(f, qdes_seeds_deadline(f->seeds));
    }
}

bool qdes_fabric_take_answers(QdesFabric *f, int fd, int64_t now)
{
    QdesAnswer answer;
    bool changed = false;
    unsigned news;

    if (!f->resolver || fd != qdes_resolver_fd(f->resolver)) {
        return false;
    }
    while (qdes_resolver_take(f->resolver, &answer)) {
        if (answer.error) {
            news = qdes_seeds_fail(f->seeds, answer.id, answer.error, now);
        } else {
            news = qdes_seeds_answer(f->seeds, answer.id,
                                     (QdesAddr *)answer.endpoints->data,
                                     answer.endpoints->len, answer.ttl, now);
        }
        changed |= news & QDES_SEED_NEWS_ENDPOINTS;
        report(f, qdes_seeds_find_question(f->seeds, answer.id), news);
        qdes_answer_clear(&answer);
    }
    if (changed) {
        qdes_fabric_contact_seeds(f, now);
    }
    qdes_fabric_look_up_seeds(f, now);
    return true;
}

static bool rescope(QdesFabric *f, uint32_t n, int64_t now)
{
    QdesSeedSpec spec, old;
    QdesSeedInfo info;
    g_autofree char *text = NULL;

    qdes_seeds_info(f->seeds, n, &info);
    if (info.kind != QDES_SEED_ADDRESS || info.n_endpoints != 1) {
        return false;
    }
    old = (QdesSeedSpec) {
        .kind = QDES_SEED_ADDRESS, .addr = qdes_seeds_endpoint(f->seeds, n, 0),
    };
    /* As long as the interface is gone, the old index does no harm. */
    if (!qdes_addr_needs_scope(&old.addr) ||
        !qdes_config_parse_peer(&f->config, &spec, info.spec, NULL) ||
        spec.addr.scope == old.addr.scope) {
        return false;
    }
    text = g_strdup(info.spec);
    qdes_seeds_del(f->seeds, &old);
    qdes_seeds_add(f->seeds, text, &spec, now);
    return true;
}

void qdes_fabric_rescope_seeds(QdesFabric *f, int64_t now)
{
    uint32_t left = qdes_seeds_size(f->seeds);
    uint32_t n = 0;

    while (left-- > 0) {
        /* One that has changed is the last now. */
        n += !rescope(f, n, now);
    }
}

/* While the port runs */

bool qdes_fabric_add_peer(QdesFabric *f, const char *text, int64_t now,
                          GError **errp)
{
    g_autoptr(GError) err = NULL;

    if (!add_seed(f, text, now, &err)) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION, "peer %s: %s", text,
                    err->message);
        return false;
    }
    qdes_fabric_contact_seeds(f, now);
    return true;
}

bool qdes_fabric_del_peer(QdesFabric *f, const char *text,
                          int64_t now G_GNUC_UNUSED, GError **errp)
{
    g_autoptr(GError) err = NULL;
    QdesSeedSpec spec;
    QdesSeedInfo info;
    int64_t n;

    if (!qdes_config_parse_peer(&f->config, &spec, text, &err)) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION, "peer %s: %s", text,
                    err->message);
        return false;
    }
    if (qdes_seeds_del(f->seeds, &spec)) {
        return true;
    }
    n = spec.kind == QDES_SEED_ADDRESS
        ? qdes_seeds_find_endpoint(f->seeds, &spec.addr) : -1;
    if (n >= 0) {
        qdes_seeds_info(f->seeds, n, &info);
        g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION, "peer %s: it is "
                    "there as an address of %s; remove that one", text,
                    info.spec);
    } else {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION, "peer %s: not "
                    "listed; the status shows those that are", text);
    }
    return false;
}
