/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A sealed fabric: keys and their change, sessions and their proof.
 *
 *   qdes_sealing_seal(), _seal_queued(), _send_control() -> pick(), qdes_seal()
 *   qdes_sealing_open() -> open_accepted(), or open_other() -> hold(), ask()
 */

#include "qdes/fabric-private.h"

#include <string.h>

#include "qdes/bytes.h"

#define MAX_PENDING 256         /* sessions */
#define MAX_UNKNOWN 20000       /* datagrams of such that are tried, a second */
#define MAX_CHALLENGES 20000    /* a second */
#define MAX_RESPONSES 20000     /* a second */
#define ASK_AGAIN_MS 100        /* CHALLENGEs about one session */
#define ANSWER_MS 5000          /* how long a CHALLENGE can be answered */
#define SWITCH_MS 3000          /* from telling of a session to its use */
#define SWITCH_PEER_MS 20       /* more for each peer that is told alone */
#define RETIRE_MS 3000          /* how long a key is accepted that is no more */
#define SILENT_MS 3600000       /* sessions that are not heard so long go */
#define AGE_EVERY_MS 60000

#define HELD_MAX 128            /* datagrams */
#define HELD_BYTES (256 * 1024)
#define HELD_MS 1000

#define MAX_DATAGRAMS (UINT64_C(1) << 32) /* of a session; see docs/security */
#define MAX_BYTES (UINT64_C(1) << 40)
#define MAX_MS (12 * 3600 * INT64_C(1000))

#define BOUNCE_SIZE (128 * 1024)

G_STATIC_ASSERT(BOUNCE_SIZE >= QDES_SUPERFRAME_MAX + QDES_POOL_FRAMES *
                (QDES_SEAL_OVERHEAD + QDES_WIRE_SUPERFRAME_SIZE +
                 QDES_HEADERS_MAX));

enum { NEW, OLD, RETIRING };

typedef struct Key {
    QdesSealKey key;
    QdesSealSender sender;
    QdesSealSender next;        /* whose session peers are told of */
    int64_t switch_at;          /* ms, when that takes over */
} Key;

typedef struct Held {
    QdesSealHead head;
    QdesAddr from, at;          /* as QdesRxTrain has them */
    bool by_group;
    bool is_ready;              /* its session is accepted */
    bool handed;                /* laid out as if it had been read */
    int64_t when;
    uint32_t offset, size;      /* in held_bytes */
} Held;

struct QdesSealing {
    QdesSealChoice choice;
    QdesSealLimits limits;
    Key *keys[QDES_SEALING_KEYS]; /* NULL: none */
    int64_t retire_at;
    unsigned flood_key;         /* NEW or OLD: which all accept */
    int64_t started;
    int64_t now;                /* the last time that is known */
    uint64_t nonce_key[2];
    int64_t next_age;

    QdesSealSessions *sessions;
    QdesStorm unknown, challenges, responses;

    /* Of the datagram that is being worked off. */
    const QdesAddr *from;       /* who sent it, or NULL */
    Key *key;                   /* that opened it */

    Held held[HELD_MAX];
    unsigned n_held;
    unsigned n_ready;
    bool handing;               /* some of them are laid out */
    unsigned handed[QDES_RX_BATCH];
    uint32_t held_used;
    uint8_t *held_bytes;        /* NULL: nothing was ever held */

    uint8_t bounce[BOUNCE_SIZE];
};

static void drop(QdesFabric *f, QdesCounter counter)
{
    QDES_COUNT(&f->stats, rx_datagrams);
    f->stats.value[counter]++;
}

/* Keys */

static Key *key_new(QdesFabric *f, const QdesSecret *secret, int64_t now,
                    GError **errp)
{
    QdesSealing *s = f->sealing;
    Key *key = g_new0(Key, 1);

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

static void key_free(Key *key)
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
    uint32_t pseudonyms[QDES_SEALING_KEYS];
    unsigned n = 0;
    int i;

    for (i = 0; i < QDES_SEALING_KEYS; i++) {
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
    uint32_t id = s->keys[NEW]->key.id;

    return peer->n_keys ? lists(peer, id) : peer->heard_key == id;
}

/* Floods go by the new key as soon as all that are alive accept it. */
static void choose_flood_key(QdesFabric *f)
{
    QdesSealing *s = f->sealing;
    uint32_t slot = QDES_PEER_NONE;
    const QdesPeer *peer;

    s->flood_key = NEW;
    if (!s->keys[OLD]) {
        return;
    }
    while ((slot = qdes_peers_next(f->peers, slot)) != QDES_PEER_NONE) {
        peer = qdes_peers_get(f->peers, slot);
        if (peer->alive && !accepts_new(s, peer)) {
            s->flood_key = OLD;
            return;
        }
    }
}

void qdes_sealing_note_hello(QdesFabric *f, uint32_t slot)
{
    QdesSealing *s = f->sealing;

    if (s->keys[OLD] && !accepts_new(s, qdes_peers_get(f->peers, slot))) {
        s->flood_key = OLD;
    }
}

void qdes_sealing_fill_hello(const QdesFabric *f, QdesWireHello *hello)
{
    const QdesSealing *s = f->sealing;
    int i;

    for (i = NEW; i <= OLD; i++) {
        if (s->keys[i]) {
            hello->keys[hello->n_keys++] = s->keys[i]->key.id;
        }
    }
}

uint32_t qdes_sealing_probe_id(const QdesFabric *f)
{
    return f->sealing->keys[f->sealing->flood_key]->key.pseudonym;
}

static Key *find_key(const QdesSealing *s, uint32_t pseudonym)
{
    int i;

    for (i = 0; i < QDES_SEALING_KEYS; i++) {
        if (s->keys[i] && s->keys[i]->key.pseudonym == pseudonym) {
            return s->keys[i];
        }
    }
    return NULL;
}

bool qdes_sealing_is_probe_id(const QdesFabric *f, uint32_t number)
{
    return find_key(f->sealing, number) != NULL;
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
    s->started = s->now = now;
    s->next_age = now + AGE_EVERY_MS;
    s->nonce_key[0] = f->host->random(f->opaque);
    s->nonce_key[1] = f->host->random(f->opaque);
    s->sessions = qdes_seal_sessions_new(2 * QDES_MAX_PEERS, MAX_PENDING);
    qdes_storm_init(&s->unknown, MAX_UNKNOWN, now);
    qdes_storm_init(&s->challenges, MAX_CHALLENGES, now);
    qdes_storm_init(&s->responses, MAX_RESPONSES, now);
    s->keys[NEW] = key_new(f, &config->secret, now, errp);
    if (s->keys[NEW] && config->secret_old.data) {
        s->keys[OLD] = key_new(f, &config->secret_old, now, errp);
    }
    if (!s->keys[NEW] || (config->secret_old.data && !s->keys[OLD])) {
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
    f->sealing = NULL;
    for (i = 0; i < QDES_SEALING_KEYS; i++) {
        key_free(s->keys[i]);
    }
    qdes_seal_sessions_free(s->sessions);
    if (s->held_bytes) {
        qdes_wipe(s->held_bytes, HELD_BYTES);
        g_free(s->held_bytes);
    }
    qdes_wipe(s, sizeof(*s));
    g_free(s);
}

/* Forget @key and all that was heard under it. */
static void drop_key(QdesFabric *f, int which, int64_t now)
{
    QdesSealing *s = f->sealing;
    Key *key = s->keys[which];

    if (key) {
        qdes_seal_sessions_forget(s->sessions, key->key.pseudonym, now);
        if (s->key == key) {
            s->key = NULL;
        }
        s->keys[which] = NULL;
        key_free(key);
    }
}

/* @key, or in its place the same that is in use, which leaves its place. */
static Key *prefer_known(QdesSealing *s, Key *key)
{
    Key *known;
    int i;

    for (i = 0; i < QDES_SEALING_KEYS; i++) {
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
    Key *keys[2] = { NULL, NULL };
    QdesSealing *s = f->sealing;
    int i;

    if (secret_old) {
        both[OLD] = *secret_old;
    }
    if (!s) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION, "secret%s%s: this "
                    "port was started without one, and cannot be sealed while "
                    "it runs; start it with secret=",
                    secret->name ? "=" : "", secret->name ? secret->name : "");
        return false;
    }
    if (!both[NEW].data) {
        g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION, "secret: must be "
                    "given; a sealed port does not become a plain one while "
                    "it runs");
        return false;
    }
    if (!qdes_config_check_secrets(&both[NEW], &both[OLD], errp)) {
        return false;
    }
    qdes_fabric_send_queue(f, now);
    keys[NEW] = key_new(f, &both[NEW], now, errp);
    if (!keys[NEW]) {
        return false;
    }
    if (both[OLD].data) {
        keys[OLD] = key_new(f, &both[OLD], now, errp);
        if (!keys[OLD]) {
            key_free(keys[NEW]);
            return false;
        }
    }
    for (i = NEW; i <= OLD; i++) {
        keys[i] = prefer_known(s, keys[i]);
    }
    /* There is one place for what retires: it is the last one sent by. */
    for (i = OLD; i >= NEW; i--) {
        if (s->keys[i]) {
            drop_key(f, RETIRING, now);
            s->keys[RETIRING] = s->keys[i];
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
static void tell_of_next(QdesFabric *f, Key *key, int64_t now)
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

static void tend_key(QdesFabric *f, Key *key, int64_t now)
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

static void remove_held(QdesFabric *f, bool handed, int64_t before);

void qdes_sealing_tick(QdesFabric *f, int64_t now)
{
    QdesSealing *s = f->sealing;
    int i;

    s->now = MAX(s->now, now);
    for (i = NEW; i <= OLD; i++) {
        if (s->keys[i]) {
            tend_key(f, s->keys[i], now);
        }
    }
    if (s->keys[RETIRING]) {
        if (now >= s->retire_at) {
            drop_key(f, RETIRING, now);
            set_filter(f);
        } else {
            qdes_fabric_arm(f, s->retire_at);
        }
    }
    if (s->keys[OLD]) {
        choose_flood_key(f);
    }
    if (now >= s->next_age) {
        qdes_seal_sessions_age(s->sessions, SILENT_MS, now);
        s->next_age = now + AGE_EVERY_MS;
    }
    if (s->n_held && !s->handing) {
        remove_held(f, false, now - HELD_MS);
        if (s->n_held) {
            qdes_fabric_arm(f, now + HELD_MS);
        }
    }
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
    unsigned which = NEW;

    if (s->keys[OLD]) {
        which = flood ? s->flood_key :
                accepts_new(s, qdes_peers_get(f->peers, slot)) ? NEW : OLD;
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

static bool send_sealed(QdesFabric *f, QdesSealSender *sender,
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
static bool send_under(QdesFabric *f, Key *key, const QdesAddr *to,
                       const uint8_t *data, size_t size)
{
    bool is_hello = (data[2] & 0x0f) == QDES_WIRE_HELLO;

    return send_sealed(f, is_hello && key->next.session ? &key->next
                                                        : &key->sender,
                       to, data, size);
}

bool qdes_sealing_send_control(QdesFabric *f, const QdesAddr *to,
                               const uint8_t *data, size_t size)
{
    QdesSealing *s = f->sealing;
    const QdesPeer *peer = NULL;
    Key *key = NULL;
    uint32_t slot;
    bool sent;

    if (!s->keys[OLD]) {
        return send_under(f, s->keys[NEW], to, data, size);
    }
    if (to) {
        slot = qdes_peers_find(f->peers, to);
        peer = slot == QDES_PEER_NONE ? NULL : qdes_peers_get(f->peers, slot);
        if (peer && (peer->n_keys || peer->heard_key)) {
            key = s->keys[accepts_new(s, peer) ? NEW : OLD];
        } else if (s->key && s->from && qdes_addr_equal(s->from, to)) {
            key = s->key;
        }
    }
    if (key) {
        return send_under(f, key, to, data, size);
    }
    sent = send_under(f, s->keys[OLD], to, data, size);
    return send_under(f, s->keys[NEW], to, data, size) || sent;
}

/* CHALLENGE and RESPONSE */

static void make_nonce_key(const QdesSealing *s, uint64_t session,
                           uint64_t key[2])
{
    key[0] = s->nonce_key[0] ^ session;
    key[1] = s->nonce_key[1];
}

/*
 * Ask whether the sender of @session is there.  Never with more bytes than
 * those @size that made us ask.
 */
static void ask(QdesFabric *f, QdesSealSession *session, const QdesAddr *to,
                size_t size, int64_t now)
{
    QdesSealing *s = f->sealing;
    int64_t since = MAX(s->started, qdes_seal_sessions_forgot(s->sessions));
    QdesChallenge challenge = {
        .session = session->id,
        /* Of two times that were rounded down, less may have passed. */
        .age = CLAMP(now - since - 1, 0, QDES_SEAL_MEMORY_MS),
    };
    uint32_t where = qdes_addr_hash(to, s->nonce_key[1]);
    uint8_t data[QDES_CHALLENGE_SIZE];
    uint64_t key[2];

    /* Who replays from elsewhere must not keep us from asking here. */
    if (!f->link_up || size < QDES_CHALLENGE_SIZE + QDES_SEAL_OVERHEAD ||
        (session->challenged && session->challenged_at == where &&
         now - session->challenged < ASK_AGAIN_MS) ||
        !qdes_storm_allows(&s->challenges, now)) {
        return;
    }
    qdes_storm_charge(&s->challenges, 1);
    session->challenged = now;
    session->challenged_at = where;
    make_nonce_key(s, session->id, key);
    challenge.nonce = qdes_nonce_make(key, to, qdes_fabric_now_us(f, now));
    qdes_control_encode_challenge(data, QDES_WIRE_CHALLENGE, f->config.netid,
                                  &challenge);
    if (send_sealed(f, &s->key->sender, to, data, sizeof(data))) {
        QDES_COUNT(&f->stats, tx_challenge);
    }
}

/* Say that we are there, if it is asked about a session of ours.  Returns
 * whether we did. */
static bool take_challenge(QdesFabric *f, const QdesWireHeader *header,
                           const QdesAddr *from, int64_t now)
{
    QdesSealing *s = f->sealing;
    QdesSealSender *sender = NULL;
    uint8_t data[QDES_RESPONSE_SIZE];
    QdesChallenge challenge;
    QdesChallenge response;

    if (qdes_control_decode_challenge(&challenge, header) != QDES_WIRE_OK) {
        drop(f, QDES_COUNTER_rx_drop_tlv);
        return false;
    }
    QDES_COUNT(&f->stats, rx_datagrams);
    QDES_COUNT(&f->stats, rx_challenge);
    if (challenge.session == s->key->sender.session) {
        sender = &s->key->sender;
    } else if (challenge.session == s->key->next.session) {
        sender = &s->key->next;
    }
    if (!sender || !challenge.session || !f->link_up ||
        !qdes_storm_allows(&s->responses, now)) {
        QDES_COUNT(&f->stats, challenge_unanswered);
        return false;
    }
    qdes_storm_charge(&s->responses, 1);
    response.nonce = challenge.nonce;
    qdes_seal_sender_floors(sender, MIN(challenge.age, QDES_SEAL_MEMORY_MS),
                            now, response.numbers);
    qdes_control_encode_challenge(data, QDES_WIRE_RESPONSE, f->config.netid,
                                  &response);
    if (send_sealed(f, sender, from, data, sizeof(data))) {
        QDES_COUNT(&f->stats, tx_response);
    }
    return true;
}

static void make_ready(QdesSealing *s, uint64_t session)
{
    unsigned i;

    for (i = 0; i < s->n_held; i++) {
        if (s->held[i].head.session == session && !s->held[i].is_ready) {
            s->held[i].is_ready = true;
            s->n_ready++;
        }
    }
}

static void take_response(QdesFabric *f, QdesSealSession *session,
                          const QdesSealHead *head,
                          const QdesWireHeader *header,
                          const QdesAddr *from, int64_t now)
{
    QdesSealing *s = f->sealing;
    QdesChallenge response;
    uint64_t key[2];
    int64_t age_us;

    if (qdes_control_decode_challenge(&response, header) != QDES_WIRE_OK) {
        drop(f, QDES_COUNTER_rx_drop_tlv);
        return;
    }
    make_nonce_key(s, session->id, key);
    if (!qdes_nonce_check(key, from, qdes_fabric_now_us(f, now),
                          response.nonce, &age_us) ||
        age_us > ANSWER_MS * 1000) {
        drop(f, QDES_COUNTER_rx_drop_session);
        return;
    }
    if (!session->accepted) {
        /* Of what was forgotten after the question, the answer may not tell. */
        if (now - age_us / 1000 <= qdes_seal_sessions_forgot(s->sessions) ||
            head->kind != QDES_SEAL_UNICAST ||
            response.numbers[QDES_SEAL_UNICAST] >= head->number) {
            drop(f, QDES_COUNTER_rx_drop_session);
            return;
        }
        qdes_seal_sessions_accept(s->sessions, session, response.numbers,
                                  now);
        qdes_seal_window_take(&session->windows[head->kind], head->number);
        QDES_COUNT(&f->stats, sessions_accepted);
        make_ready(s, session->id);
    }
    QDES_COUNT(&f->stats, rx_datagrams);
    QDES_COUNT(&f->stats, rx_response);
    qdes_fabric_take_proof(f, from, age_us, now);
}

/* What is held */

/* Remove those that were handed out, or else those that came before. */
static void remove_held(QdesFabric *f, bool handed, int64_t before)
{
    QdesSealing *s = f->sealing;
    unsigned n = 0;
    unsigned i;

    for (i = 0; i < s->n_held; i++) {
        if (s->held[i].handed) {
            s->n_ready--;
        } else if (!handed && !s->held[i].is_ready &&
                   s->held[i].when <= before) {
            drop(f, QDES_COUNTER_rx_drop_session);
        } else {
            s->held[n++] = s->held[i];
        }
    }
    s->n_held = n;
    if (n == 0) {
        s->held_used = 0;
    }
}

/* What is left moves to the front; they are in the order of their offsets. */
static void pack_held(QdesSealing *s)
{
    uint32_t used = 0;
    unsigned i;

    for (i = 0; i < s->n_held; i++) {
        memmove(s->held_bytes + used, s->held_bytes + s->held[i].offset,
                s->held[i].size);
        s->held[i].offset = used;
        used += s->held[i].size;
    }
    s->held_used = used;
}

/* Keep the datagram, which is open, until its session is accepted. */
static void hold(QdesFabric *f, const QdesSealHead *head,
                 const uint8_t *data, size_t size, const QdesAddr *from,
                 int64_t now)
{
    QdesSealing *s = f->sealing;
    Held *held;

    if (!s->held_bytes) {
        s->held_bytes = g_malloc(HELD_BYTES);
    }
    if (s->n_held == HELD_MAX || size > HELD_BYTES - s->held_used) {
        remove_held(f, false, now - HELD_MS);
        pack_held(s);
        if (s->n_held == HELD_MAX || size > HELD_BYTES - s->held_used) {
            drop(f, QDES_COUNTER_rx_drop_session);
            return;
        }
    }
    held = &s->held[s->n_held++];
    *held = (Held) {
        .head = *head,
        .from = *from,
        .at = f->rx.train->at,
        .by_group = f->rx.by_group,
        .when = now,
        .offset = s->held_used,
        .size = size,
    };
    memcpy(s->held_bytes + held->offset, data, size);
    s->held_used += size;
    qdes_fabric_arm(f, now + HELD_MS);
}

bool qdes_sealing_next_held(QdesFabric *f, int64_t now)
{
    QdesSealing *s = f->sealing;
    QdesReceive *rx = &f->rx;
    QdesRxTrain *train;
    Held *held;
    unsigned i;
    int n = 0;

    if (s->handing) {
        s->handing = false;
        remove_held(f, true, 0);
    }
    if (!s->n_ready) {
        return false;
    }
    for (i = 0; i < s->n_held && n < QDES_RX_BATCH; i++) {
        held = &s->held[i];
        if (!held->is_ready || (n && held->by_group != rx->by_group)) {
            continue;
        }
        rx->by_group = held->by_group;
        held->handed = true;
        s->handed[n] = i;
        train = &rx->trains[n++];
        *train = (QdesRxTrain) {
            .data = s->held_bytes + held->offset,
            .size = held->size,
            .segment = held->size,
            .from = held->from,
            .at = held->at,
        };
    }
    rx->n = n;
    rx->next = 0;
    rx->offset = 0;
    s->handing = true;
    s->now = MAX(s->now, now);
    return true;
}

/* The way in */

static void say_wrong_key(QdesFabric *f, const QdesAddr *from)
{
    qdes_fabric_say_of(f, QDES_SAID_WRONG_KEY, from, "sends what this port's "
                       "secret does not open: another secret, another netid, "
                       "or somebody who has none; nothing passes between "
                       "them");
}

/* It may be taken: whoever learns from it knows by which key. */
static QdesOpened opened(QdesFabric *f, const QdesAddr *from)
{
    QdesSealing *s = f->sealing;
    uint32_t slot;

    if (s->keys[OLD]) {
        slot = qdes_peers_find(f->peers, from);
        if (slot != QDES_PEER_NONE) {
            qdes_peers_set_heard_key(f->peers, slot, s->key->key.id);
        }
    }
    return QDES_OPENED;
}

/* Returns whether @head was not taken before, and takes note of it. */
static bool take_number(QdesFabric *f, QdesSealSession *session,
                        const QdesSealHead *head)
{
    QdesSealWindow *window = &session->windows[head->kind];

    if (!qdes_seal_window_has_room(window, head->number)) {
        drop(f, QDES_COUNTER_rx_drop_replay);
        return false;
    }
    qdes_seal_window_take(window, head->number);
    return true;
}

static QdesOpened open_held(QdesFabric *f, const QdesAddr *from)
{
    QdesSealing *s = f->sealing;
    const Held *held = &s->held[s->handed[f->rx.next]];
    QdesSealSession *session = qdes_seal_sessions_find(s->sessions,
                                                       &held->head);

    s->key = find_key(s, held->head.pseudonym);
    if (!s->key || !session || !session->accepted) {
        drop(f, QDES_COUNTER_rx_drop_session);
        return QDES_OPENED_DONE;
    }
    return take_number(f, session, &held->head) ? opened(f, from)
                                                : QDES_OPENED_DONE;
}

/* CHALLENGE and RESPONSE, which are about sealing alone. */
static bool is_about_sealing(const uint8_t *data)
{
    return (data[2] & 0x0f) >= QDES_WIRE_CHALLENGE;
}

static void take_about_sealing(QdesFabric *f, QdesSealSession *session,
                               const QdesSealHead *head, uint8_t *data,
                               size_t size, const QdesAddr *from, int64_t now)
{
    QdesWireHeader header = {
        .type = data[2] & 0x0f,
        .payload = data + QDES_SEAL_HEADER,
        .payload_size = size - QDES_SEAL_MIN,
    };

    if (header.payload_size > QDES_WIRE_CONTROL_MAX - QDES_WIRE_HEADER_SIZE) {
        drop(f, QDES_COUNTER_rx_drop_tlv);
    } else if (header.type == QDES_WIRE_RESPONSE) {
        take_response(f, session, head, &header, from, now);
    } else if (!take_challenge(f, &header, from, now) && !session->accepted) {
        /* Both would be more bytes than those that came: it says more soon. */
        ask(f, session, from, size, now);
    }
}

static QdesOpened open_accepted(QdesFabric *f, QdesSealSession *session,
                                const QdesSealHead *head, uint8_t *data,
                                size_t size, const QdesAddr *from,
                                int64_t now)
{
    if (!qdes_seal_window_has_room(&session->windows[head->kind],
                                   head->number)) {
        drop(f, QDES_COUNTER_rx_drop_replay);
        return QDES_OPENED_DONE;
    }
    if (!qdes_seal_open(&session->cipher, head, data, size,
                        f->config.netid)) {
        drop(f, QDES_COUNTER_rx_drop_seal);
        say_wrong_key(f, from);
        return QDES_OPENED_DONE;
    }
    qdes_seal_window_take(&session->windows[head->kind], head->number);
    session->heard = now;
    if (is_about_sealing(data)) {
        take_about_sealing(f, session, head, data, size, from, now);
        return QDES_OPENED_DONE;
    }
    return opened(f, from);
}

/* Of a session that is pending, or was never heard of. */
static QdesOpened open_other(QdesFabric *f, QdesSealSession *session,
                             const QdesSealHead *head, uint8_t *data,
                             size_t size, const QdesAddr *from, int64_t now)
{
    QdesSealing *s = f->sealing;

    if (qdes_underlay_is_own(f->underlay, from)) {
        drop(f, QDES_COUNTER_rx_drop_own);
        return QDES_OPENED_DONE;
    }
    if (!session) {
        if (!qdes_storm_allows(&s->unknown, now)) {
            drop(f, QDES_COUNTER_rx_drop_session);
            return QDES_OPENED_DONE;
        }
        qdes_storm_charge(&s->unknown, 1);
        session = qdes_seal_sessions_try(s->sessions, &s->key->key, head,
                                         data, size, f->config.netid, now);
    } else if (!qdes_seal_open(&session->cipher, head, data, size,
                               f->config.netid)) {
        session = NULL;
    }
    if (!session) {
        drop(f, QDES_COUNTER_rx_drop_seal);
        say_wrong_key(f, from);
        return QDES_OPENED_DONE;
    }
    if (is_about_sealing(data)) {
        take_about_sealing(f, session, head, data, size, from, now);
    } else {
        ask(f, session, from, size, now);
        hold(f, head, data, size, from, now);
    }
    return QDES_OPENED_DONE;
}

static bool is_own(const QdesSealing *s, uint64_t session)
{
    int i;

    for (i = 0; i < QDES_SEALING_KEYS; i++) {
        if (s->keys[i] && (s->keys[i]->sender.session == session ||
                           s->keys[i]->next.session == session)) {
            return true;
        }
    }
    return false;
}

QdesOpened qdes_sealing_open(QdesFabric *f, uint8_t *data, size_t size,
                             const QdesAddr *from, int64_t now)
{
    QdesSealing *s = f->sealing;
    QdesSealSession *session;
    QdesWireHeader header;
    QdesSealHead head;

    s->now = MAX(s->now, now);
    s->from = from;
    if (s->handing) {
        return open_held(f, from);
    }
    if (qdes_wire_decode(&header, data, size) != QDES_WIRE_SEALED) {
        return QDES_OPENED_NOT_SEALED;
    }
    s->key = find_key(s, header.netid);
    if (!s->key) {
        drop(f, QDES_COUNTER_rx_drop_netid);
        if (!f->rx.by_group) {
            say_wrong_key(f, from);
        }
        return QDES_OPENED_DONE;
    }
    if (size < QDES_SEAL_MIN) {
        drop(f, QDES_COUNTER_rx_drop_seal);
        return QDES_OPENED_DONE;
    }
    qdes_seal_read_head(&head, data);
    session = qdes_seal_sessions_find(s->sessions, &head);
    if (session && session->pseudonym != head.pseudonym) {
        drop(f, QDES_COUNTER_rx_drop_seal);
        return QDES_OPENED_DONE;
    }
    if (session && session->accepted) {
        return open_accepted(f, session, &head, data, size, from, now);
    }
    if (is_own(s, head.session)) {
        drop(f, QDES_COUNTER_rx_drop_own);
        return QDES_OPENED_DONE;
    }
    return open_other(f, session, &head, data, size, from, now);
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
        qdes_seal_choice(s->keys[NEW]->sender.session));
    status->key_id = s->keys[NEW]->key.id;
    status->changing = s->keys[OLD] != NULL;
    if (status->changing) {
        status->old_key_id = s->keys[OLD]->key.id;
        status->flooding_old = s->flood_key == OLD;
    }
    status->sessions = qdes_seal_sessions_accepted(s->sessions);
    status->pending = qdes_seal_sessions_pending(s->sessions);
}
