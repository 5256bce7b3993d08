/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Detours in a fabric: which ports are missed, which relays are asked for
 * them, and when.
 *
 * Whoever stays silent when the quick ECHOs to it are through is missed.  Then
 * all peers that relay are asked whom they know, one after the other and in
 * each round anew; the one that is chosen for somebody finds that in the
 * HELLOs to it, at once and in each interval.  The missed one is tried as long
 * as anybody tells of it, as every candidate is, and once it is proven needs no
 * relay.
 */

#include "qdes/fabric-private.h"

#define ASK_MS 250              /* from one relay to the next */
#define GATHER_MS (QDES_ANSWER_EVERY_MS + 500) /* from one round of questions
                                   to another: no relay answers sooner */
#define GREET_MS 100            /* changes that are told together */

/* Its endpoint that the relay is asked at; QDES_PEER_NONE: it is gone, or
 * relays no longer. */
static uint32_t find_relay(const QdesFabric *f, uint64_t relay)
{
    uint32_t slot = qdes_peers_find_instance(f->peers, relay);

    return slot != QDES_PEER_NONE && qdes_peers_get(f->peers, slot)->
           capabilities & QDES_WIRE_CAP_RELAY ? slot : QDES_PEER_NONE;
}

/* Is there another way to @instance? */
static bool is_reached(const QdesFabric *f, uint64_t instance, int64_t now)
{
    uint32_t slot = qdes_peers_find_alive(f->peers, instance);

    return qdes_peers_find_instance(f->peers, instance) != QDES_PEER_NONE ||
           (slot != QDES_PEER_NONE && qdes_fabric_has_group(f) &&
            qdes_peers_is_reached(f->peers, slot, now));
}

static void ask_soon(QdesFabric *f, int64_t now)
{
    QdesDetouring *d = &f->detouring;

    d->ask_slot = QDES_PEER_NONE;
    d->next_ask = MAX(now, d->asked + GATHER_MS);
    if (d->next_round == INT64_MAX) {
        d->next_round = now + qdes_fabric_interval(f);
    }
    qdes_fabric_arm(f, d->next_ask);
}

/*
 * What @relay, 0: nobody, relays changes.  MAC addresses that are there may
 * be the other end's, for which there is another way now: they flood, and are
 * learned anew.
 */
static void leave_relay(QdesFabric *f, uint64_t relay, int64_t now)
{
    QdesDetouring *d = &f->detouring;
    uint32_t slot = qdes_peers_find_instance(f->peers, relay);

    if (relay && slot != QDES_PEER_NONE) {
        qdes_fdb_flush_owner(f->fdb, slot);
        if (d->n_left < QDES_DETOUR_LEFT) {
            d->left[d->n_left++] = relay;
        }
    }
    d->greet_at = MIN(d->greet_at, now + GREET_MS);
    qdes_fabric_arm(f, d->greet_at);
}

static void end_detour(QdesFabric *f, QdesDetour *detour, int64_t now)
{
    uint64_t relay = detour->relay;

    qdes_detours_remove(&f->detours, detour);
    if (relay) {
        leave_relay(f, relay, now);
    }
}

void qdes_fabric_miss(QdesFabric *f, uint64_t instance, const QdesAddr *addr,
                      int64_t now)
{
    if (instance && instance != f->instance && !is_reached(f, instance, now) &&
        qdes_detours_miss(&f->detours, instance, addr)) {
        ask_soon(f, now);
    }
}

bool qdes_fabric_told_of_missed(QdesFabric *f, uint32_t teller,
                                const QdesEntry *entry, int64_t now)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, teller);
    QdesDetour *detour;
    uint64_t before;

    if (!f->detours.n) {
        return false;
    }
    before = qdes_detours_told(&f->detours, f->instance, entry->instance,
                               &entry->addr, peer->alive &&
                               peer->capabilities & QDES_WIRE_CAP_RELAY ?
                               peer->instance : 0);
    detour = qdes_detours_find(&f->detours, entry->instance);
    if (detour && detour->relay != before) {
        leave_relay(f, before, now);
    }
    return detour != NULL;
}

void qdes_fabric_found(QdesFabric *f, uint64_t instance, int64_t now)
{
    QdesDetour *detour = qdes_detours_find(&f->detours, instance);

    if (detour) {
        end_detour(f, detour, now);
    }
}

void qdes_fabric_lose_relay(QdesFabric *f, uint64_t relay)
{
    bool is_lost = false;
    unsigned i;

    if (!f->detours.n || !relay || find_relay(f, relay) != QDES_PEER_NONE) {
        return;
    }
    for (i = 0; i < f->detours.n; i++) {
        if (f->detours.all[i].relay == relay) {
            f->detours.all[i].relay = 0;
            is_lost = true;
        }
    }
    if (is_lost) {
        ask_soon(f, f->detouring.asked);
    }
}

unsigned qdes_fabric_list_detours(const QdesFabric *f, uint32_t slot,
                                  uint64_t *instances)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);

    /* Anybody can say that he is the relay: that one has returned a nonce. */
    if (!f->detours.n || !peer->proven ||
        !(peer->capabilities & QDES_WIRE_CAP_RELAY)) {
        return 0;
    }
    return qdes_detours_list(&f->detours, peer->instance, instances,
                             QDES_WIRE_RELAY_MAX);
}

/* A HELLO to a relay, with what it is to relay, or no longer. */
static void greet_relay(QdesFabric *f, uint64_t relay, int64_t now)
{
    uint32_t slot = qdes_peers_find_instance(f->peers, relay);

    if (slot != QDES_PEER_NONE) {
        qdes_fabric_greet(f, slot, now);
    }
}

static void greet_relays(QdesFabric *f, int64_t now)
{
    QdesDetouring *d = &f->detouring;
    uint64_t relays[QDES_DETOURS_MAX + QDES_DETOUR_LEFT];
    unsigned n = 0;
    unsigned i, j;

    /* Sending may show that one is gone, which changes the table. */
    for (i = 0; i < f->detours.n; i++) {
        relays[n++] = f->detours.all[i].relay;
    }
    for (i = 0; i < d->n_left; i++) {
        relays[n++] = d->left[i];
    }
    d->n_left = 0;
    d->greet_at = n ? now + qdes_fabric_interval(f) : INT64_MAX;
    for (i = 0; i < n; i++) {
        for (j = 0; j < i && relays[j] != relays[i]; j++) {
        }
        if (relays[i] && j == i) {
            greet_relay(f, relays[i], now);
        }
    }
}

/* Forget what is out of date, and begin anew. */
static void begin_round(QdesFabric *f, int64_t now)
{
    QdesDetours *detours = &f->detours;
    QdesDetour *detour;
    uint64_t relay;
    unsigned i;

    detours->round++;
    for (i = detours->n; i-- > 0;) {
        detour = &detours->all[i];
        relay = detour->relay;
        if (detours->round - detour->told > QDES_DETOUR_ROUNDS ||
            is_reached(f, detour->instance, now)) {
            end_detour(f, detour, now);
        } else if (relay && (find_relay(f, relay) == QDES_PEER_NONE ||
                             detours->round - detour->vouched >
                             QDES_DETOUR_ROUNDS)) {
            detour->relay = 0;
            leave_relay(f, relay, now);
        }
    }
    f->detouring.next_round = INT64_MAX;
    if (detours->n) {
        ask_soon(f, now);
    }
}

/* The next peer that relays; it is asked whom it knows. */
static void ask_next(QdesFabric *f, int64_t now)
{
    QdesDetouring *d = &f->detouring;
    const QdesPeer *peer;

    while (f->detours.n && (d->ask_slot = qdes_peers_next(f->peers,
                                                         d->ask_slot)) !=
           QDES_PEER_NONE) {
        peer = qdes_peers_get(f->peers, d->ask_slot);
        if (peer->proven && peer->alive &&
            find_relay(f, peer->instance) == d->ask_slot) {
            d->asked = now;
            d->next_ask = now + ASK_MS;
            qdes_fabric_ask_peer(f, d->ask_slot, now);
            return;
        }
    }
    d->next_ask = INT64_MAX;
    /* However many there are, each is asked in each round. */
    d->next_round = MAX(d->next_round, now + ASK_MS);
}

int64_t qdes_fabric_detours_due(const QdesFabric *f)
{
    const QdesDetouring *d = &f->detouring;

    /* A round begins when the one before has asked everybody. */
    return MIN(d->greet_at, d->next_ask != INT64_MAX ? d->next_ask
                                                     : d->next_round);
}

void qdes_fabric_tend_detours(QdesFabric *f, int64_t now)
{
    QdesDetouring *d = &f->detouring;

    if (now >= d->next_ask) {
        ask_next(f, now);
    } else if (now >= d->next_round && d->next_ask == INT64_MAX) {
        begin_round(f, now);
    }
    if (now >= d->greet_at) {
        greet_relays(f, now);
    }
}

void qdes_fabric_start_detours(QdesFabric *f)
{
    f->detouring.greet_at = INT64_MAX;
    f->detouring.next_ask = INT64_MAX;
    f->detouring.next_round = INT64_MAX;
}
