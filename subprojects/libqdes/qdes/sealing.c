/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A sealed fabric: keys and their change, and the way out.
 *
 *   qdes_sealing_seal(), _seal_queued() -> qdes_seal()
 *   qdes_sealing_send_control() -> send_under() -> _send_by() -> qdes_seal()
 */

#include "qdes/sealing-private.h"

#include <string.h>

#include "qdes/bytes.h"

#define SWITCH_MS 3000          /* from telling of a session to its use */
#define SWITCH_PEER_MS 20       /* more for each peer that is told alone */
#define RETIRE_MS 3000          /* how long a key is accepted that is no more */

#define MAX_DATAGRAMS (UINT64_C(1) << 32) /* of a session; see docs/security */
#define MAX_BYTES (UINT64_C(1) << 40)
#define MAX_MS (12 * 3600 * INT64_C(1000))

/* Keys */

static QdesKey *key_new(QdesFabric *f, const QdesSecret *secret, int64_t now,
                        GError **errp)
{
    QdesSealing *s = f->sealing;
    QdesKey *key = g_new0(QdesKey, 1);

    if (!qdes_seal_key_init(&key->key, secret->data, secret->size,
                            f->config.netid) ||
        !qdes_seal_sender_begin(&key->sender, &key->key, s->choice,
                                f->host->random(f->opaque), now)) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_SYSTEM, "secret: GnuTLS on "
                    "this host has no %s, or no HKDF; is there a policy that "
                    "forbids them?", qdes_seal_choice_name(s->choice));
        qdes_seal_key_wipe(&key->key);
        g_free(key);
        return NULL;
    }
    return key;
}

static void key_free(QdesKey *key)
{
    if (key) {
        qdes_seal_sender_end(&key->sender);
        qdes_seal_sender_end(&key->next);
        qdes_seal_key_wipe(&key->key);
        g_free(key);
    }
}

/* Let floods through the kernel's filter as the keys are now. */
static void set_filter(QdesFabric *f)
{
    uint32_t pseudonyms[QDES_KEYS];
    unsigned n = 0;
    int i;

    for (i = 0; i < QDES_KEYS; i++) {
        if (f->sealing->keys[i]) {
            pseudonyms[n++] = f->sealing->keys[i]->key.pseudonym;
        }
    }
    qdes_underlay_set_pseudonyms(f->underlay, pseudonyms, n);
}

static bool lists(const QdesPeer *peer, uint32_t id)
{
    unsigned i;

    for (i = 0; i < peer->n_keys; i++) {
        if (peer->keys[i] == id) {
            return true;
        }
    }
    return false;
}

/* Does the peer accept the new key? */
static bool accepts_new(const QdesSealing *s, const QdesPeer *peer)
{
    uint32_t id = s->keys[QDES_KEY_NEW]->key.id;

    return peer->n_keys ? lists(peer, id) : peer->heard_key == id;
}

/* Which key goes to @peer. */
static unsigned key_for(const QdesSealing *s, const QdesPeer *peer)
{
    return !s->keys[QDES_KEY_OLD] || accepts_new(s, peer) ? QDES_KEY_NEW
                                                          : QDES_KEY_OLD;
}

/* Floods go by the new key as soon as all that are alive accept it. */
static void choose_flood_key(QdesFabric *f)
{
    QdesSealing *s = f->sealing;
    uint32_t slot = QDES_PEER_NONE;
    const QdesPeer *peer;

    s->flood_key = QDES_KEY_NEW;
    if (!s->keys[QDES_KEY_OLD]) {
        return;
    }
    while ((slot = qdes_peers_next(f->peers, slot)) != QDES_PEER_NONE) {
        peer = qdes_peers_get(f->peers, slot);
        if (peer->alive && !accepts_new(s, peer)) {
            s->flood_key = QDES_KEY_OLD;
            return;
        }
    }
}

void qdes_sealing_note_hello(QdesFabric *f, uint32_t slot)
{
    QdesSealing *s = f->sealing;

    if (s->keys[QDES_KEY_OLD] &&
        !accepts_new(s, qdes_peers_get(f->peers, slot))) {
        s->flood_key = QDES_KEY_OLD;
    }
}

void qdes_sealing_fill_hello(const QdesFabric *f, QdesWireHello *hello)
{
    const QdesSealing *s = f->sealing;
    int i;

    for (i = QDES_KEY_NEW; i <= QDES_KEY_OLD; i++) {
        if (s->keys[i]) {
            hello->keys[hello->n_keys++] = s->keys[i]->key.id;
        }
    }
}

uint32_t qdes_sealing_probe_id(const QdesFabric *f)
{
    return f->sealing->keys[f->sealing->flood_key]->key.pseudonym;
}

QdesKey *qdes_sealing_find_key(const QdesSealing *s, uint32_t pseudonym)
{
    int i;

    for (i = 0; i < QDES_KEYS; i++) {
        if (s->keys[i] && s->keys[i]->key.pseudonym == pseudonym) {
            return s->keys[i];
        }
    }
    return NULL;
}

bool qdes_sealing_is_probe_id(const QdesFabric *f, uint32_t number)
{
    return qdes_sealing_find_key(f->sealing, number) != NULL;
}

bool qdes_sealing_start(QdesFabric *f, const QdesConfig *config, int64_t now,
                        GError **errp)
{
    const QdesSealLimits *limits = &config->seal_limits;
    QdesSealing *s;

    /* They are the caller's. */
    memset(&f->config.secret, 0, sizeof(f->config.secret));
    memset(&f->config.secret_old, 0, sizeof(f->config.secret_old));
    if (!config->secret.data) {
        return true;
    }
    s = f->sealing = g_new0(QdesSealing, 1);
    s->choice = config->cipher;
    s->limits.datagrams = limits->datagrams ? limits->datagrams
                                            : MAX_DATAGRAMS;
    s->limits.bytes = limits->bytes ? limits->bytes : MAX_BYTES;
    s->limits.ms = limits->ms ? limits->ms : MAX_MS;
    s->now = now;
    qdes_opening_start(f, now);
    s->keys[QDES_KEY_NEW] = key_new(f, &config->secret, now, errp);
    if (s->keys[QDES_KEY_NEW] && config->secret_old.data) {
        s->keys[QDES_KEY_OLD] = key_new(f, &config->secret_old, now, errp);
    }
    if (!s->keys[QDES_KEY_NEW] ||
        (config->secret_old.data && !s->keys[QDES_KEY_OLD])) {
        qdes_sealing_stop(f);
        return false;
    }
    f->overhead = QDES_SEAL_OVERHEAD;
    choose_flood_key(f);
    set_filter(f);
    return true;
}

void qdes_sealing_stop(QdesFabric *f)
{
    QdesSealing *s = f->sealing;
    int i;

    if (!s) {
        return;
    }
    qdes_opening_stop(f);
    f->sealing = NULL;
    for (i = 0; i < QDES_KEYS; i++) {
        key_free(s->keys[i]);
    }
    qdes_wipe(s, sizeof(*s));
    g_free(s);
}

/* Forget @key and all that was heard under it. */
static void drop_key(QdesFabric *f, int which, int64_t now)
{
    QdesSealing *s = f->sealing;
    QdesKey *key = s->keys[which];

    if (key) {
        qdes_opening_forget_key(f, key->key.pseudonym, now);
        if (s->key == key) {
            s->key = NULL;
        }
        s->keys[which] = NULL;
        key_free(key);
    }
}

/* @key, or in its place the same that is in use, which leaves its place. */
static QdesKey *prefer_known(QdesSealing *s, QdesKey *key)
{
    QdesKey *known;
    int i;

    for (i = 0; i < QDES_KEYS; i++) {
        known = s->keys[i];
        if (key && known && gnutls_memcmp(known->key.network, key->key.network,
                                   sizeof(key->key.network)) == 0) {
            key_free(key);
            s->keys[i] = NULL;
            return known;
        }
    }
    return key;
}

bool qdes_fabric_set_secrets(QdesFabric *f, const QdesSecret *secret,
                             const QdesSecret *secret_old, int64_t now,
                             GError **errp)
{
    QdesSecret both[2] = { *secret };
    QdesKey *keys[2] = { NULL, NULL };
    QdesSealing *s = f->sealing;
    int i;

    if (secret_old) {
        both[QDES_KEY_OLD] = *secret_old;
    }
    if (!s) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION, "secret%s%s: this "
                    "port was started without one, and cannot be sealed while "
                    "it runs; start it with secret=",
                    secret->name ? "=" : "", secret->name ? secret->name : "");
        return false;
    }
    if (!both[QDES_KEY_NEW].data) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION, "secret: must be "
                    "given; a sealed port does not become a plain one while "
                    "it runs");
        return false;
    }
    if (!qdes_config_check_secrets(&both[QDES_KEY_NEW], &both[QDES_KEY_OLD],
                                   errp)) {
        return false;
    }
    qdes_fabric_send_queue(f, now);
    keys[QDES_KEY_NEW] = key_new(f, &both[QDES_KEY_NEW], now, errp);
    if (!keys[QDES_KEY_NEW]) {
        return false;
    }
    if (both[QDES_KEY_OLD].data) {
        keys[QDES_KEY_OLD] = key_new(f, &both[QDES_KEY_OLD], now, errp);
        if (!keys[QDES_KEY_OLD]) {
            key_free(keys[QDES_KEY_NEW]);
            return false;
        }
    }
    for (i = QDES_KEY_NEW; i <= QDES_KEY_OLD; i++) {
        keys[i] = prefer_known(s, keys[i]);
    }
    /* There is one place for what retires: it is the last one sent by. */
    for (i = QDES_KEY_OLD; i >= QDES_KEY_NEW; i--) {
        if (s->keys[i]) {
            drop_key(f, QDES_KEY_RETIRING, now);
            s->keys[QDES_KEY_RETIRING] = s->keys[i];
            s->retire_at = now + RETIRE_MS;
            qdes_fabric_arm(f, s->retire_at);
        }
        s->keys[i] = keys[i];
    }
    choose_flood_key(f);
    set_filter(f);
    if (f->link_up) {
        qdes_fabric_say_hello(f, now);
        qdes_fabric_hurry(f, now);
    }
    f->host->changed(f->opaque);
    return true;
}

/* A session's end */

/* Tell of the next one: whoever hears of it asks for proof. */
static void tell_of_next(QdesFabric *f, QdesKey *key, int64_t now)
{
    QdesSealing *s = f->sealing;

    if (!qdes_seal_sender_begin(&key->next, &key->key, s->choice,
                                f->host->random(f->opaque), now)) {
        return;                 /* it worked before; the next tick tries */
    }
    QDES_COUNT(&f->stats, tx_rekeyed);
    key->switch_at = now + SWITCH_MS +
                     (int64_t)SWITCH_PEER_MS * f->mesh.n_unicast;
    if (f->link_up) {
        qdes_fabric_say_hello(f, now);
        qdes_fabric_hurry(f, now);
    }
}

static void tend_key(QdesFabric *f, QdesKey *key, int64_t now)
{
    if (!key->next.session) {
        if (qdes_seal_sender_is_due(&key->sender, &f->sealing->limits, now)) {
            tell_of_next(f, key, now);
        }
    } else if (now >= key->switch_at) {
        qdes_seal_sender_end(&key->sender);
        key->sender = key->next;
        qdes_wipe(&key->next, sizeof(key->next));
    }
    if (key->next.session) {
        qdes_fabric_arm(f, key->switch_at);
    }
}

void qdes_sealing_tick(QdesFabric *f, int64_t now)
{
    QdesSealing *s = f->sealing;
    int i;

    s->now = MAX(s->now, now);
    for (i = QDES_KEY_NEW; i <= QDES_KEY_OLD; i++) {
        if (s->keys[i]) {
            tend_key(f, s->keys[i], now);
        }
    }
    if (s->keys[QDES_KEY_RETIRING]) {
        if (now >= s->retire_at) {
            drop_key(f, QDES_KEY_RETIRING, now);
            set_filter(f);
        } else {
            qdes_fabric_arm(f, s->retire_at);
        }
    }
    if (s->keys[QDES_KEY_OLD]) {
        choose_flood_key(f);
    }
    qdes_opening_tick(f, now);
}

/* The way out */

uint8_t *qdes_sealing_bounce(QdesFabric *f)
{
    return f->sealing->bounce;
}

void qdes_sealing_seal(QdesFabric *f, bool flood, uint32_t slot,
                       uint8_t *data, size_t size, int64_t now)
{
    QdesSealing *s = f->sealing;
    unsigned which = s->flood_key;

    if (!flood) {
        which = key_for(s, qdes_peers_get(f->peers, slot));
    }
    s->now = MAX(s->now, now);
    qdes_seal(&s->keys[which]->sender,
              flood ? QDES_SEAL_FLOODED : QDES_SEAL_UNICAST, data, size,
              s->now);
}

void qdes_sealing_seal_queued(QdesFabric *f, unsigned from, unsigned end,
                              int64_t now)
{
    QdesTxQueue *queue = &f->tx.queue;
    QdesTxFrame *frame;

    for (; from < end; from++) {
        frame = &queue->frames[from];
        if (!frame->sealed) {
            qdes_sealing_seal(f, frame->flood, frame->slot,
                              queue->bytes + frame->offset,
                              frame->size - QDES_SEAL_OVERHEAD, now);
            frame->sealed = true;
        }
    }
}

bool qdes_sealing_send_by(QdesFabric *f, QdesSealSender *sender,
                          const QdesAddr *to, const uint8_t *data, size_t size)
{
    uint8_t sealed[QDES_WIRE_CONTROL_MAX + QDES_SEAL_OVERHEAD];

    memcpy(sealed + QDES_SEAL_LEAD, data, size);
    return qdes_seal(sender, to ? QDES_SEAL_UNICAST : QDES_SEAL_FLOODED,
                     sealed, size, f->sealing->now) &&
           qdes_fabric_send_datagram(f, to, sealed,
                                     size + QDES_SEAL_OVERHEAD);
}

/* Send under @key; a HELLO is what tells of a new session. */
static bool send_under(QdesFabric *f, QdesKey *key, const QdesAddr *to,
                       const uint8_t *data, size_t size)
{
    bool is_hello = (data[2] & 0x0f) == QDES_WIRE_HELLO;

    return qdes_sealing_send_by(f, is_hello && key->next.session
                                       ? &key->next : &key->sender,
                                to, data, size);
}

bool qdes_sealing_send_control(QdesFabric *f, const QdesAddr *to,
                               const uint8_t *data, size_t size)
{
    QdesSealing *s = f->sealing;
    const QdesPeer *peer = NULL;
    QdesKey *key = NULL;
    uint32_t slot;
    bool sent;

    if (!s->keys[QDES_KEY_OLD]) {
        return send_under(f, s->keys[QDES_KEY_NEW], to, data, size);
    }
    if (to) {
        slot = qdes_peers_find(f->peers, to);
        peer = slot == QDES_PEER_NONE ? NULL : qdes_peers_get(f->peers, slot);
        if (peer && (peer->n_keys || peer->heard_key)) {
            key = s->keys[key_for(s, peer)];
        } else if (s->key && s->from && qdes_addr_equal(s->from, to)) {
            key = s->key;
        }
    }
    if (key) {
        return send_under(f, key, to, data, size);
    }
    sent = send_under(f, s->keys[QDES_KEY_OLD], to, data, size);
    return send_under(f, s->keys[QDES_KEY_NEW], to, data, size) || sent;
}

/* Status */

void qdes_sealing_status(const QdesFabric *f, QdesStatusSeal *status)
{
    const QdesSealing *s = f->sealing;

    if (!s) {
        return;
    }
    status->sealed = true;
    status->cipher = qdes_seal_choice_name(
        qdes_seal_choice(s->keys[QDES_KEY_NEW]->sender.session));
    status->key_id = s->keys[QDES_KEY_NEW]->key.id;
    status->changing = s->keys[QDES_KEY_OLD] != NULL;
    if (status->changing) {
        status->old_key_id = s->keys[QDES_KEY_OLD]->key.id;
        status->flooding_old = s->flood_key == QDES_KEY_OLD;
    }
    status->sessions = qdes_seal_sessions_accepted(s->in.sessions);
    status->pending = qdes_seal_sessions_pending(s->in.sessions);
}
