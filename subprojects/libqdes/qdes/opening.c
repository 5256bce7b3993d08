/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A sealed fabric: sessions and their proof, and the way in.
 *
 *   qdes_sealing_open() -> open_accepted(), or open_other() -> ask(), hold()
 *   qdes_sealing_next_held(): what was held, once its session is accepted
 */

#include "qdes/sealing-private.h"

#define MAX_PENDING 256         /* sessions */
#define MAX_UNKNOWN 20000       /* datagrams of such that are tried, a second */
#define MAX_CHALLENGES 20000    /* a second */
#define MAX_RESPONSES 20000     /* a second */
#define ASK_AGAIN_MS 100        /* CHALLENGEs about one session */
#define ANSWER_MS 5000          /* how long a CHALLENGE can be answered */
#define SILENT_MS 3600000       /* sessions that are not heard so long go */
#define AGE_EVERY_MS 60000
#define HELD_MS 1000

/* Begin, end, go on */

void qdes_opening_start(QdesFabric *f, int64_t now)
{
    QdesOpening *in = &f->sealing->in;

    in->started = now;
    in->next_age = now + AGE_EVERY_MS;
    in->nonce_key[0] = f->host->random(f->opaque);
    in->nonce_key[1] = f->host->random(f->opaque);
    in->sessions = qdes_seal_sessions_new(2 * QDES_MAX_PEERS, MAX_PENDING);
    in->held = qdes_held_new();
    qdes_storm_init(&in->unknown, MAX_UNKNOWN, now);
    qdes_storm_init(&in->challenges, MAX_CHALLENGES, now);
    qdes_storm_init(&in->responses, MAX_RESPONSES, now);
}

void qdes_opening_stop(QdesFabric *f)
{
    qdes_seal_sessions_free(f->sealing->in.sessions);
    qdes_held_free(f->sealing->in.held);
}

void qdes_opening_forget_key(QdesFabric *f, uint32_t pseudonym, int64_t now)
{
    qdes_seal_sessions_forget(f->sealing->in.sessions, pseudonym, now);
}

static void expire_held(QdesFabric *f, int64_t now)
{
    unsigned n = qdes_held_expire(f->sealing->in.held, now - HELD_MS);

    QDES_COUNT_ADD(&f->stats, rx_datagrams, n);
    QDES_COUNT_ADD(&f->stats, rx_drop_session, n);
}

void qdes_opening_tick(QdesFabric *f, int64_t now)
{
    QdesOpening *in = &f->sealing->in;

    if (now >= in->next_age) {
        qdes_seal_sessions_age(in->sessions, SILENT_MS, now);
        in->next_age = now + AGE_EVERY_MS;
    }
    if (qdes_held_size(in->held) && !in->n_handed) {
        expire_held(f, now);
        if (qdes_held_size(in->held)) {
            qdes_fabric_arm(f, now + HELD_MS);
        }
    }
}

/* CHALLENGE and RESPONSE */

static void make_nonce_key(const QdesOpening *in, uint64_t session,
                           uint64_t key[2])
{
    key[0] = in->nonce_key[0] ^ session;
    key[1] = in->nonce_key[1];
}

/*
 * Ask whether the sender of @session is there.  Never with more bytes than
 * those @size that made us ask.
 */
static void ask(QdesFabric *f, QdesSealSession *session, const QdesAddr *to,
                size_t size, int64_t now)
{
    QdesSealing *s = f->sealing;
    QdesOpening *in = &s->in;
    int64_t since = MAX(in->started, qdes_seal_sessions_forgot(in->sessions));
    QdesChallenge challenge = {
        .session = session->id,
        /* Of two times that were rounded down, less may have passed. */
        .age = CLAMP(now - since - 1, 0, QDES_SEAL_MEMORY_MS),
    };
    uint32_t where = qdes_addr_hash(to, in->nonce_key[1]);
    uint8_t data[QDES_CHALLENGE_SIZE];
    uint64_t key[2];

    /* Who replays from elsewhere must not keep us from asking here. */
    if (!f->link_up || size < QDES_CHALLENGE_SIZE + QDES_SEAL_OVERHEAD ||
        (session->challenged && session->challenged_at == where &&
         now - session->challenged < ASK_AGAIN_MS) ||
        !qdes_storm_allows(&in->challenges, now)) {
        return;
    }
    qdes_storm_charge(&in->challenges, 1);
    session->challenged = now;
    session->challenged_at = where;
    make_nonce_key(in, session->id, key);
    challenge.nonce = qdes_nonce_make(key, to, qdes_fabric_now_us(f, now));
    qdes_control_encode_challenge(data, QDES_WIRE_CHALLENGE, f->config.netid,
                                  &challenge);
    if (qdes_sealing_send_by(f, &s->key->sender, to, data, sizeof(data))) {
        QDES_COUNT(&f->stats, tx_challenge);
    }
}

/* Say that we are there, if it is asked about a session of ours.  Returns
 * whether we did. */
static bool take_challenge(QdesFabric *f, const QdesWireHeader *header,
                           const QdesAddr *from, int64_t now)
{
    QdesSealing *s = f->sealing;
    QdesOpening *in = &s->in;
    QdesSealSender *sender = NULL;
    uint8_t data[QDES_RESPONSE_SIZE];
    QdesChallenge challenge;
    QdesChallenge response;

    if (qdes_control_decode_challenge(&challenge, header) != QDES_WIRE_OK) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_tlv);
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
        !qdes_storm_allows(&in->responses, now)) {
        QDES_COUNT(&f->stats, challenge_unanswered);
        return false;
    }
    qdes_storm_charge(&in->responses, 1);
    response.nonce = challenge.nonce;
    qdes_seal_sender_floors(sender, MIN(challenge.age, QDES_SEAL_MEMORY_MS),
                            now, response.numbers);
    qdes_control_encode_challenge(data, QDES_WIRE_RESPONSE, f->config.netid,
                                  &response);
    if (qdes_sealing_send_by(f, sender, from, data, sizeof(data))) {
        QDES_COUNT(&f->stats, tx_response);
    }
    return true;
}

static void take_response(QdesFabric *f, QdesSealSession *session,
                          const QdesSealHead *head,
                          const QdesWireHeader *header,
                          const QdesAddr *from, int64_t now)
{
    QdesOpening *in = &f->sealing->in;
    QdesChallenge response;
    uint64_t key[2];
    int64_t age_us;

    if (qdes_control_decode_challenge(&response, header) != QDES_WIRE_OK) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_tlv);
        return;
    }
    make_nonce_key(in, session->id, key);
    if (!qdes_nonce_check(key, from, qdes_fabric_now_us(f, now),
                          response.nonce, &age_us) ||
        age_us > ANSWER_MS * 1000) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_session);
        return;
    }
    if (!session->accepted) {
        /* Of what was forgotten after the question, the answer may not tell. */
        if (now - age_us / 1000 <= qdes_seal_sessions_forgot(in->sessions) ||
            head->kind != QDES_SEAL_UNICAST ||
            response.numbers[QDES_SEAL_UNICAST] >= head->number) {
            qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_session);
            return;
        }
        qdes_seal_sessions_accept(in->sessions, session, response.numbers,
                                  now);
        qdes_seal_window_take(&session->windows[head->kind], head->number);
        QDES_COUNT(&f->stats, sessions_accepted);
        qdes_held_make_ready(in->held, session->id);
    }
    QDES_COUNT(&f->stats, rx_datagrams);
    QDES_COUNT(&f->stats, rx_response);
    qdes_fabric_take_proof(f, from, age_us, now);
}

/* What is held */

/* Keep the datagram, which is open, until its session is accepted. */
static void hold(QdesFabric *f, const QdesSealHead *head,
                 uint8_t *data, size_t size, const QdesAddr *from,
                 int64_t now)
{
    QdesHeld held = {
        .head = *head,
        .from = *from,
        .at = f->rx.train->at,
        .by_group = f->rx.by_group,
        .when = now,
        .data = data,
        .size = size,
    };

    if (!qdes_held_add(f->sealing->in.held, &held)) {
        expire_held(f, now);
        if (!qdes_held_add(f->sealing->in.held, &held)) {
            qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_session);
            return;
        }
    }
    qdes_fabric_arm(f, now + HELD_MS);
}

bool qdes_sealing_next_held(QdesFabric *f, int64_t now)
{
    QdesSealing *s = f->sealing;
    QdesOpening *in = &s->in;
    QdesReceive *rx = &f->rx;
    const QdesHeld *held;
    unsigned n = 0;

    if (in->n_handed) {
        qdes_held_remove_taken(in->held);
        in->n_handed = 0;
    }
    while (n < QDES_RX_BATCH &&
           (held = qdes_held_take(in->held, n ? in->handed[0] : NULL))) {
        in->handed[n] = held;
        rx->trains[n++] = (QdesRxTrain) {
            .data = held->data,
            .size = held->size,
            .segment = held->size,
            .from = held->from,
            .at = held->at,
        };
    }
    if (n == 0) {
        return false;
    }
    in->n_handed = n;
    rx->by_group = in->handed[0]->by_group;
    rx->n = n;
    rx->next = 0;
    rx->offset = 0;
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

    if (s->keys[QDES_KEY_OLD]) {
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
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_replay);
        return false;
    }
    qdes_seal_window_take(window, head->number);
    return true;
}

static QdesOpened open_held(QdesFabric *f, const QdesAddr *from)
{
    QdesSealing *s = f->sealing;
    QdesOpening *in = &s->in;
    const QdesHeld *held = s->in.handed[f->rx.next];
    QdesSealSession *session = qdes_seal_sessions_find(in->sessions,
                                                       &held->head);

    s->key = qdes_sealing_find_key(s, held->head.pseudonym);
    if (!s->key || !session || !session->accepted) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_session);
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
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_tlv);
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
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_replay);
        return QDES_OPENED_DONE;
    }
    if (!qdes_seal_open(&session->cipher, head, data, size,
                        f->config.netid)) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_seal);
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
    QdesOpening *in = &s->in;

    if (qdes_underlay_is_own(f->underlay, from)) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_own);
        return QDES_OPENED_DONE;
    }
    if (!session) {
        if (!qdes_storm_allows(&in->unknown, now)) {
            qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_session);
            return QDES_OPENED_DONE;
        }
        qdes_storm_charge(&in->unknown, 1);
        session = qdes_seal_sessions_try(in->sessions, &s->key->key, head,
                                         data, size, f->config.netid, now);
    } else if (!qdes_seal_open(&session->cipher, head, data, size,
                               f->config.netid)) {
        session = NULL;
    }
    if (!session) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_seal);
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

    for (i = 0; i < QDES_KEYS; i++) {
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
    QdesOpening *in = &s->in;
    QdesSealSession *session;
    QdesWireHeader header;
    QdesSealHead head;

    s->now = MAX(s->now, now);
    s->from = from;
    if (s->in.n_handed) {
        return open_held(f, from);
    }
    if (qdes_wire_decode(&header, data, size) != QDES_WIRE_SEALED) {
        return QDES_OPENED_NOT_SEALED;
    }
    s->key = qdes_sealing_find_key(s, header.netid);
    if (!s->key) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_netid);
        if (!f->rx.by_group) {
            say_wrong_key(f, from);
        }
        return QDES_OPENED_DONE;
    }
    if (size < QDES_SEAL_MIN) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_seal);
        return QDES_OPENED_DONE;
    }
    qdes_seal_read_head(&head, data);
    session = qdes_seal_sessions_find(in->sessions, &head);
    if (session && session->pseudonym != head.pseudonym) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_seal);
        return QDES_OPENED_DONE;
    }
    if (session && session->accepted) {
        return open_accepted(f, session, &head, data, size, from, now);
    }
    if (is_own(s, head.session)) {
        qdes_fabric_drop_datagram(f, QDES_COUNTER_rx_drop_own);
        return QDES_OPENED_DONE;
    }
    return open_other(f, session, &head, data, size, from, now);
}
