/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Keeping in touch with those whom the group does not reach: who is sent a
 * HELLO, an ECHO or a question for peers, and when.
 *
 * Everything that goes to many goes one by one, at its own time: the interval
 * of a round is divided by the number of those in it, and a cursor goes
 * through their slots.  What comes in is handled by exchange.c.
 */

#include "qdes/fabric-private.h"

#include <string.h>

#include "qdes/gossip.h"

#define PER_PEER_MS 50          /* of the interval of a round */
#define MAX_INTERVAL_MS 200000
#define NAT_INTERVAL_MS 15000   /* mappings hold for 30 s at the least */
#define HURRY_MS 20             /* from one to the next, where there is news */
#define COUNT_MS 1000           /* how late changes by mere time may come ... */
#define COUNT_SLOTS 2048        /* for each of so many peers */
#define LATE_MAX 5              /* turns made up for in one go */
#define SEED_MIN_MS 1000        /* from the first round of seeds to the next */
#define SEED_SKIPS 256          /* seeds looked at in one go */
#define FIRST_REQUEST_MS 100
#define REQUESTS_SPARE 3        /* two that may stay without an answer, and one
                                   without a filter */
#define REQUEST_BUSY 32         /* candidates that are to be tried first */

int64_t qdes_fabric_now_us(const QdesFabric *f, int64_t now)
{
    return f->host->now_us ? f->host->now_us(f->opaque) : now * 1000;
}

bool qdes_fabric_has_group(const QdesFabric *f)
{
    return f->config.has_group &&
           qdes_underlay_netif(f->underlay)->index != 0;
}

/* The interval of a round of @n peers, in ms. */
static int64_t interval_of(uint32_t n)
{
    return CLAMP((int64_t)n * PER_PEER_MS, QDES_HELLO_MS, MAX_INTERVAL_MS);
}

int64_t qdes_fabric_interval(const QdesFabric *f)
{
    return interval_of(f->mesh.n_unicast);
}

int64_t qdes_fabric_jitter(const QdesFabric *f, int64_t ms)
{
    return ms - ms / 10 + f->host->random(f->opaque) % (ms / 5 + 1);
}

/* Does the peer in @slot hear of us by unicast only? */
static bool is_unicast(const QdesFabric *f, uint32_t slot, int64_t now)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);

    return f->config.encap->control && peer->proven &&
           (!qdes_fabric_has_group(f) ||
            !qdes_peers_is_reached(f->peers, slot, now));
}

bool qdes_fabric_send_echo(QdesFabric *f, const QdesAddr *to, int64_t now)
{
    QdesEcho echo = { .observed = *to };
    uint8_t data[QDES_ECHO_SIZE];
    uint32_t slot;
    size_t size;

    echo.nonce = qdes_nonce_make(f->mesh.key, to, qdes_fabric_now_us(f, now));
    size = qdes_control_encode_echo(data, QDES_WIRE_ECHO, f->config.netid,
                                    &echo);
    if (!qdes_fabric_send_control(f, to, data, size)) {
        return false;
    }
    QDES_COUNT(&f->stats, tx_echo);
    slot = qdes_peers_find(f->peers, to);
    if (slot != QDES_PEER_NONE) {
        qdes_peers_echo_sent(f->peers, slot);
    }
    return true;
}

void qdes_fabric_greet(QdesFabric *f, uint32_t slot, int64_t now)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);
    QdesGroupHeard heard = QDES_GROUP_UNSAID;
    QdesAddr to = peer->addr;

    if (qdes_peers_hears_group(f->peers, slot, now) &&
        qdes_fabric_has_group(f)) {
        heard = QDES_GROUP_HEARD;
    } else if (!qdes_fabric_has_group(f) ||
               now - peer->met > QDES_HELLO_MS + QDES_HELLO_MS / 5) {
        /* Its HELLOs to all would have come by now. */
        heard = QDES_GROUP_NOT_HEARD;
    }
    qdes_peers_set_greeted(f->peers, slot, now);
    /* Who is proven and says nothing may not know that we forgot it. */
    qdes_fabric_send_hello(f, &to, !peer->alive, heard);
}

/* All have been counted. */
static void end_count(QdesFabric *f)
{
    QdesMesh *mesh = &f->mesh;
    int64_t interval;

    mesh->n_unicast = mesh->count.n_unicast;
    mesh->n_group = mesh->count.n_group;
    memset(&mesh->count, 0, sizeof(mesh->count));
    interval = qdes_fabric_interval(f);
    qdes_candidates_set_interval(mesh->candidates, interval);
    qdes_peers_set_patience(f->peers, interval > QDES_HELLO_MS ?
                                      QDES_HOLDS * interval : 0);
}

/* What depends on time alone: whom the group reaches, and how many. */
static void take_count(QdesFabric *f, int64_t now)
{
    bool seeds = qdes_seeds_n_endpoints(f->seeds) > 0;
    QdesMesh *mesh = &f->mesh;
    const QdesPeer *peer;
    uint32_t slot;
    int i;

    mesh->next_count = now + COUNT_MS;
    for (i = 0; i < COUNT_SLOTS; i++) {
        slot = qdes_peers_next(f->peers, mesh->count.slot);
        if (slot == QDES_PEER_NONE) {
            end_count(f);
            return;
        }
        mesh->count.slot = slot;
        peer = qdes_peers_get(f->peers, slot);
        qdes_peers_set_seed(f->peers, slot, seeds &&
                            qdes_seeds_has(f->seeds, &peer->addr));
        qdes_peers_decide_copy(f->peers, slot, now, qdes_fabric_has_group(f));
        if (is_unicast(f, slot, now)) {
            mesh->count.n_unicast++;
        } else if (peer->proven) {
            mesh->count.n_group++;
        }
    }
}

/* The next proven peer after *@cursor, round and round, that is reached by
 * unicast only, or not so; QDES_PEER_NONE: there is none. */
static uint32_t next_of(QdesFabric *f, uint32_t *cursor, bool unicast,
                        int64_t now)
{
    uint32_t slot = *cursor;
    bool again = false;

    for (;;) {
        slot = qdes_peers_next(f->peers, slot);
        if (slot == QDES_PEER_NONE) {
            if (again) {
                return QDES_PEER_NONE;
            }
            again = true;
        } else if (again && slot > *cursor) {
            return QDES_PEER_NONE;
        } else if (qdes_peers_get(f->peers, slot)->proven &&
                   is_unicast(f, slot, now) == unicast) {
            *cursor = slot;
            return slot;
        }
    }
}

/* A peer's turn, of those that hear of us by unicast only. */
static void take_unicast_turn(QdesFabric *f, int64_t now)
{
    QdesMesh *mesh = &f->mesh;
    int64_t interval = qdes_fabric_interval(f);
    int64_t period = mesh->behind_nat ? MIN(interval, NAT_INTERVAL_MS)
                                      : interval;
    uint32_t slot = next_of(f, &mesh->unicast_slot, true, now);
    const QdesPeer *peer;
    QdesAddr to;

    if (slot == QDES_PEER_NONE) {
        mesh->next_unicast = INT64_MAX;
        mesh->hurry = 0;
        return;
    }
    peer = qdes_peers_get(f->peers, slot);
    to = peer->addr;
    if (mesh->hurry || now - peer->greeted + period / 2 >= interval) {
        qdes_fabric_greet(f, slot, now);
    }
    if (!f->paused) {
        qdes_fabric_send_echo(f, &to, now);
    }
    if (mesh->hurry) {
        mesh->hurry--;
        mesh->next_unicast = MAX(mesh->next_unicast, now - HURRY_MS) +
                             HURRY_MS;
        return;
    }
    mesh->next_unicast = MAX(mesh->next_unicast, now - MAX_INTERVAL_MS /
                             QDES_MAX_PEERS * LATE_MAX) +
                         qdes_fabric_jitter(f, period /
                                               MAX(mesh->n_unicast, 1));
}

/* The same, of those that the group reaches: only to know how far they are. */
static void take_group_turn(QdesFabric *f, int64_t now)
{
    QdesMesh *mesh = &f->mesh;
    uint32_t slot = next_of(f, &mesh->group_slot, false, now);
    int64_t period = interval_of(mesh->n_group);
    QdesAddr to;

    if (slot == QDES_PEER_NONE) {
        mesh->next_group = INT64_MAX;
        return;
    }
    if (!f->paused) {
        to = qdes_peers_get(f->peers, slot)->addr;
        qdes_fabric_send_echo(f, &to, now);
    }
    mesh->next_group = now + qdes_fabric_jitter(f, period /
                                                   MAX(mesh->n_group, 1));
}

/* Send an ECHO to one who is not known to be there; or who has not said HELLO
 * yet, perhaps because ours was lost. */
static bool try_endpoint(QdesFabric *f, const QdesAddr *to, int64_t now)
{
    uint32_t slot = qdes_peers_find(f->peers, to);

    if (slot != QDES_PEER_NONE && qdes_peers_get(f->peers, slot)->proven) {
        qdes_fabric_greet(f, slot, now);
    }
    return qdes_fabric_send_echo(f, to, now);
}

/* A candidate's turn.  One that was told of and cannot be sent to, or does
 * not answer, is missed. */
static void take_candidate_turn(QdesFabric *f, const QdesAddr *to, int64_t now)
{
    bool silent;
    uint64_t instance = qdes_candidates_instance(f->mesh.candidates, to,
                                                 &silent);

    if (!try_endpoint(f, to, now)) {
        silent = true;
        qdes_candidates_failed(f->mesh.candidates, to);
    }
    if (silent) {
        qdes_fabric_miss(f, instance, to, now);
    }
}

/*
 * A seed's turn.  Those that are alive have theirs as peers; all others get an
 * ECHO: in each interval, and more often as long as nobody is known.
 */
static void take_seed_turn(QdesFabric *f, int64_t now)
{
    QdesMesh *mesh = &f->mesh;
    const QdesPeer *peer;
    uint32_t slot;
    QdesAddr addr;
    int i;

    for (i = 0; i < SEED_SKIPS; i++) {
        if (!qdes_seeds_next(f->seeds, &mesh->seed_cursor, &addr)) {
            mesh->seed_cursor = 0;
            if (qdes_seeds_n_endpoints(f->seeds) == 0) {
                mesh->next_seed = INT64_MAX;
                return;
            }
            mesh->seed_round = MAX(mesh->seed_round + mesh->seed_wait, now);
            mesh->next_seed = mesh->seed_round;
            mesh->seed_wait = MIN(2 * mesh->seed_wait,
                                  qdes_fabric_interval(f));
            return;
        }
        slot = qdes_peers_find(f->peers, &addr);
        peer = slot == QDES_PEER_NONE ? NULL : qdes_peers_get(f->peers, slot);
        if (!f->config.encap->control) {
            if (!peer && !qdes_underlay_is_own(f->underlay, &addr)) {
                qdes_fabric_presume_seed(f, &addr, now);
            }
            continue;
        }
        if ((!peer || !peer->proven || !peer->alive) &&
            !qdes_underlay_is_own(f->underlay, &addr)) {
            try_endpoint(f, &addr, now);
            break;
        }
    }
    mesh->next_seed = now + HURRY_MS;
}

void qdes_fabric_contact_seeds(QdesFabric *f, int64_t now)
{
    f->mesh.seed_cursor = 0;
    f->mesh.seed_wait = SEED_MIN_MS;
    f->mesh.seed_round = now;
    f->mesh.next_seed = now;
    qdes_fabric_arm_mesh(f, now);
}

/* Somebody who knows others, drawn by lot; one who is silent, if all are. */
static uint32_t draw_peer(QdesFabric *f, int64_t now)
{
    uint32_t silent = QDES_PEER_NONE;
    uint32_t start = f->host->random(f->opaque) % QDES_MAX_PEERS;
    uint32_t tries = qdes_peers_size(f->peers);
    uint32_t slot = start % (tries + 1);
    const QdesPeer *peer;

    while (tries-- > 0) {
        slot = qdes_peers_next(f->peers, slot);
        if (slot == QDES_PEER_NONE) {
            slot = qdes_peers_next(f->peers, slot);
        }
        peer = qdes_peers_get(f->peers, slot);
        if (peer->proven && peer->alive &&
            peer->capabilities & QDES_WIRE_CAP_ECHO) {
            if (!qdes_peers_is_silent(f->peers, slot, now)) {
                return slot;
            }
            silent = slot;
        }
    }
    return silent;
}

static void send_request(QdesFabric *f, uint32_t slot, const QdesKnown *known,
                         int64_t now)
{
    QdesAddr to = qdes_peers_get(f->peers, slot)->addr;
    uint8_t data[QDES_WIRE_CONTROL_MAX];
    QdesDigest digest;
    size_t size;

    qdes_gossip_digest(&digest, f->peers, slot);
    size = qdes_control_encode_request(data, f->config.netid, &digest, known);
    if (qdes_fabric_send_control(f, &to, data, size)) {
        QDES_COUNT(&f->stats, tx_peers);
        f->mesh.asked_slot = slot;
        f->mesh.asked_at = now;
        f->mesh.lists_due = QDES_ANSWER_LISTS;
    }
}

void qdes_fabric_ask_peer(QdesFabric *f, uint32_t slot, int64_t now)
{
    QdesKnown all = { .size = 0 };

    send_request(f, slot, &all, now);
}

/* The filter of the next part.  There is none where nothing new was told of
 * late, nor in the last request of a sweep, as filters err. */
static void make_filter(QdesFabric *f, QdesKnown *known,
                        uint8_t bits[QDES_KNOWN_MAX], uint32_t partner)
{
    QdesMesh *mesh = &f->mesh;

    known->size = 0;
    if (mesh->sweep) {
        mesh->sweep--;
    }
    if (mesh->sweep) {
        known->parts = qdes_gossip_parts(f->peers);
        known->part = mesh->part++ % known->parts;
        known->salt = f->host->random(f->opaque);
        qdes_gossip_known(known, bits, f->peers, partner);
    }
}

static void ask_for_peers(QdesFabric *f, int64_t now)
{
    uint8_t bits[QDES_KNOWN_MAX];
    QdesMesh *mesh = &f->mesh;
    QdesKnown known;
    int64_t interval;
    uint32_t slot;

    if (qdes_candidates_fresh(mesh->candidates) > REQUEST_BUSY) {
        mesh->next_request = now + COUNT_MS;
        return;
    }
    slot = draw_peer(f, now);
    if (slot == QDES_PEER_NONE) {
        mesh->next_request = INT64_MAX;
        mesh->has_asked = false;
        return;
    }
    make_filter(f, &known, bits, slot);
    send_request(f, slot, &known, now);
    if (mesh->sweep) {
        mesh->next_request = now + COUNT_MS;
    } else {
        interval = qdes_fabric_interval(f);
        mesh->next_request = now + qdes_fabric_jitter(
            f, mesh->has_asked ? interval : interval / 2);
        mesh->has_asked = true;
    }
}

/*
 * A port that is proven at another endpoint than before may have moved: its
 * address has changed, or its NAT's mapping.  Its new place is sure, the old
 * one may be nobody's; so its MAC addresses are there from now on, also those
 * that have nothing to say as long as nothing comes to them.
 */
static void follow(QdesFabric *f, uint32_t slot)
{
    uint32_t other = QDES_PEER_NONE;

    while ((other = qdes_peers_next_same(f->peers, slot, other)) !=
           QDES_PEER_NONE) {
        qdes_fdb_move_owner(f->fdb, other, slot);
    }
}

void qdes_fabric_note_proven(QdesFabric *f, uint32_t slot, int64_t now)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);
    QdesMesh *mesh = &f->mesh;

    follow(f, slot);
    if (is_unicast(f, slot, now)) {
        mesh->n_unicast++;
        if (mesh->next_unicast == INT64_MAX) {
            mesh->next_unicast = now + qdes_fabric_jitter(f, QDES_HELLO_MS);
        }
    } else if (mesh->next_group == INT64_MAX) {
        mesh->next_group = now + qdes_fabric_jitter(f, QDES_HELLO_MS);
    }
    if (peer->alive && mesh->next_request == INT64_MAX) {
        mesh->next_request = now + qdes_fabric_jitter(f, FIRST_REQUEST_MS);
    }
    if (peer->alive) {
        qdes_fabric_found(f, peer->instance, now);
    }
    qdes_fabric_arm_mesh(f, now);
}

void qdes_fabric_note_list(QdesFabric *f, int64_t now)
{
    /* There may be more: ask until all parts bring nothing new. */
    f->mesh.sweep = qdes_gossip_parts(f->peers) + REQUESTS_SPARE;
    f->mesh.next_request = MIN(f->mesh.next_request, now + COUNT_MS);
    qdes_fabric_arm_mesh(f, now);
}

void qdes_fabric_hurry(QdesFabric *f, int64_t now)
{
    if (f->mesh.n_unicast) {
        f->mesh.hurry = f->mesh.n_unicast;
        f->mesh.next_unicast = now;
    }
    qdes_candidates_hurry(f->mesh.candidates, now);
    qdes_fabric_contact_seeds(f, now);
}

void qdes_fabric_arm_mesh(QdesFabric *f, int64_t now)
{
    const QdesMesh *mesh = &f->mesh;
    int64_t due = MIN(mesh->next_unicast, mesh->next_group);

    due = MIN(due, MIN(mesh->next_seed, mesh->next_request));
    due = MIN(due, qdes_candidates_due(mesh->candidates));
    due = MIN(due, qdes_fabric_detours_due(f));
    if (!f->link_up || due == INT64_MAX) {
        return;
    }
    qdes_fabric_arm(f, MAX(due, now + (f->paused ? COUNT_MS : 0)));
}

void qdes_fabric_tend_mesh(QdesFabric *f, int64_t now)
{
    QdesMesh *mesh = &f->mesh;
    QdesAddr to;
    int i;

    if (now >= mesh->next_count) {
        take_count(f, now);
    }
    if (!f->link_up) {
        return;
    }
    for (i = 0; i < LATE_MAX && now >= mesh->next_unicast; i++) {
        take_unicast_turn(f, now);
    }
    if (now >= mesh->next_group) {
        take_group_turn(f, now);
    }
    if (!f->paused) {
        while (qdes_candidates_next(mesh->candidates, now, &to)) {
            take_candidate_turn(f, &to, now);
        }
        if (now >= mesh->next_seed) {
            take_seed_turn(f, now);
        }
        if (now >= mesh->next_request) {
            ask_for_peers(f, now);
        }
        qdes_fabric_tend_detours(f, now);
    }
    qdes_fabric_arm_mesh(f, now);
}

void qdes_fabric_start_mesh(QdesFabric *f, int64_t now)
{
    QdesMesh *mesh = &f->mesh;

    mesh->candidates = qdes_candidates_new(QDES_MAX_PEERS,
                                           f->host->random(f->opaque));
    mesh->key[0] = f->host->random(f->opaque);
    mesh->key[1] = f->host->random(f->opaque);
    mesh->next_unicast = INT64_MAX;
    mesh->next_group = INT64_MAX;
    mesh->next_request = INT64_MAX;
    mesh->sweep = 1 + REQUESTS_SPARE;
    mesh->next_seed = INT64_MAX;
    qdes_fabric_start_detours(f);
    if (qdes_seeds_n_endpoints(f->seeds)) {
        qdes_fabric_contact_seeds(f, now);
    }
}

void qdes_fabric_stop_mesh(QdesFabric *f)
{
    qdes_candidates_free(f->mesh.candidates);
}
