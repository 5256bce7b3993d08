/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The seeds of a fabric: listed at its start and while it runs. */

#include "qdes/fabric-private.h"

/* Returns whether it is new. */
static bool add_seed(QdesFabric *f, const char *text, const QdesSeedSpec *spec,
                     int64_t now)
{
    switch (qdes_seeds_add(f->seeds, text, spec, now)) {
    case QDES_SEED_ADDED:
        break;
    case QDES_SEED_DUPLICATE:
        qdes_fabric_say(f, QDES_LOG_INFO, "peer %s: listed already, ignored",
                        text);
        return false;
    case QDES_SEED_REFUSED:
        return false;           /* the configuration was checked for that */
    }
    if (spec->kind == QDES_SEED_ADDRESS &&
        qdes_underlay_is_own(f->underlay, &spec->addr)) {
        qdes_fabric_say(f, QDES_LOG_INFO, "peer %s: this port itself, not "
                        "contacted", text);
    }
    return true;
}

void qdes_fabric_start_seeds(QdesFabric *f, const QdesConfig *config,
                             int64_t now)
{
    QdesSeedSpec spec;
    size_t i;

    f->seeds = qdes_seeds_new(f->host->random(f->opaque));
    for (i = 0; i < config->n_peers; i++) {
        if (qdes_seed_parse(&spec, config->peers[i], QDES_DEFAULT_PORT,
                            NULL)) {
            add_seed(f, config->peers[i], &spec, now);
        }
    }
    /* Theirs who called. */
    f->config.peers = NULL;
    f->config.n_peers = 0;
}

void qdes_fabric_stop_seeds(QdesFabric *f)
{
    qdes_seeds_free(f->seeds);
}
