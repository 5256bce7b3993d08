/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sealed datagrams: senders, windows, sessions heard. */

#include "qdes/seal.h"

#include <string.h>
#ifdef __aarch64__
#include <sys/auxv.h>
#endif

#include "qdes/bytes.h"
#include "qdes/wire.h"

#define FLOODED (UINT64_C(1) << 63) /* of a packet number */
#define CHACHA UINT64_C(1)      /* of a session */
#define SAMPLE_MS (QDES_SEAL_MEMORY_MS / (QDES_SEAL_SAMPLES - 6))

G_STATIC_ASSERT(QDES_WIRE_HEADER_SIZE + QDES_SEAL_LEAD == QDES_SEAL_HEADER);
G_STATIC_ASSERT(SAMPLE_MS * (QDES_SEAL_SAMPLES - 1) >= QDES_SEAL_MEMORY_MS);

/* Ciphers */

QdesSealChoice qdes_seal_choice(uint64_t session)
{
    return session & CHACHA ? QDES_SEAL_CHACHA20_POLY1305
                            : QDES_SEAL_AES_256_GCM;
}

/* Without them AES is slower than ChaCha20, and its time tells of the key. */
static bool has_aes_instructions(void)
{
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__) && defined(__linux__)
    return getauxval(AT_HWCAP) & (1 << 3);  /* HWCAP_AES */
#else
    return false;
#endif
}

static bool cipher_begin(QdesSealCipher *cipher, const QdesSealKey *key,
                         uint64_t session)
{
    uint8_t material[QDES_SEAL_KEY_SIZE + QDES_SEAL_IV_SIZE];
    gnutls_datum_t datum = { material, QDES_SEAL_KEY_SIZE };
    bool ok;

    ok = qdes_seal_key_session(key, session, material) &&
         gnutls_aead_cipher_init(&cipher->handle, session & CHACHA ?
                                 GNUTLS_CIPHER_CHACHA20_POLY1305 :
                                 GNUTLS_CIPHER_AES_256_GCM, &datum) == 0;
    if (ok) {
        memcpy(cipher->iv, material + QDES_SEAL_KEY_SIZE,
               QDES_SEAL_IV_SIZE);
    } else {
        cipher->handle = NULL;
    }
    qdes_wipe(material, sizeof(material));
    return ok;
}

static void cipher_end(QdesSealCipher *cipher)
{
    if (cipher->handle) {
        gnutls_aead_cipher_deinit(cipher->handle); /* which wipes its key */
    }
    qdes_wipe(cipher, sizeof(*cipher));
}

static void make_nonce(uint8_t nonce[QDES_SEAL_IV_SIZE],
                       const QdesSealCipher *cipher, uint64_t field)
{
    const uint8_t *iv = cipher->iv;

    memcpy(nonce, iv, 4);
    qdes_put_be64(nonce + 4, qdes_get_be64(iv + 4) ^ field);
}

/* Senders */

static void take_sample(QdesSealSender *s, int64_t now)
{
    unsigned last = (s->n_samples - 1) % QDES_SEAL_SAMPLES;
    unsigned i = s->n_samples % QDES_SEAL_SAMPLES;

    if (s->n_samples && now < s->samples[last].when + SAMPLE_MS) {
        return;
    }
    s->samples[i].when = now;
    memcpy(s->samples[i].next, s->next, sizeof(s->next));
    s->n_samples++;
}

bool qdes_seal_sender_begin(QdesSealSender *s, const QdesSealKey *key,
                            QdesSealChoice choice, uint64_t random,
                            int64_t now)
{
    int i;

    memset(s, 0, sizeof(*s));
    if (choice == QDES_SEAL_AUTO) {
        choice = has_aes_instructions() ? QDES_SEAL_AES_256_GCM
                                        : QDES_SEAL_CHACHA20_POLY1305;
    }
    s->session = choice == QDES_SEAL_AES_256_GCM ? random & ~CHACHA
                                                 : random | CHACHA;
    if (!s->session) {
        s->session = 2;         /* 0 is no session */
    }
    s->pseudonym = key->pseudonym;
    s->born = now;
    for (i = 0; i < QDES_SEAL_KINDS; i++) {
        s->next[i] = 1;
    }
    if (!cipher_begin(&s->cipher, key, s->session)) {
        qdes_seal_sender_end(s);
        return false;
    }
    return true;
}

void qdes_seal_sender_end(QdesSealSender *s)
{
    cipher_end(&s->cipher);
    memset(s, 0, sizeof(*s));
}

/* Datagrams that were sealed. */
static uint64_t count(const QdesSealSender *s)
{
    return s->next[QDES_SEAL_UNICAST] + s->next[QDES_SEAL_FLOODED] - 2;
}

bool qdes_seal_sender_is_due(const QdesSealSender *s,
                             const QdesSealLimits *limits, int64_t now)
{
    return count(s) >= limits->datagrams || s->bytes >= limits->bytes ||
           now - s->born >= limits->ms;
}

bool qdes_seal(QdesSealSender *s, QdesSealKind kind, uint8_t *data,
               size_t size, int64_t now)
{
    uint8_t *payload = data + QDES_SEAL_HEADER;
    size_t payload_size = size - QDES_WIRE_HEADER_SIZE;
    size_t sealed_size = payload_size + QDES_SEAL_TAG;
    uint8_t nonce[QDES_SEAL_IV_SIZE];
    uint64_t field;

    g_assert(size >= QDES_WIRE_HEADER_SIZE);
    if (!s->session || count(s) >= QDES_SEAL_HARD_STOP) {
        goto fail;
    }
    take_sample(s, now);
    field = s->next[kind]++ | (kind == QDES_SEAL_FLOODED ? FLOODED : 0);
    s->bytes += size;
    memcpy(data, data + QDES_SEAL_LEAD, 4);
    data[3] |= QDES_WIRE_FLAG_SEALED;
    qdes_put_be32(data + 4, s->pseudonym);
    qdes_put_be64(data + 8, s->session);
    qdes_put_be64(data + 16, field);
    make_nonce(nonce, &s->cipher, field);
    if (gnutls_aead_cipher_encrypt(s->cipher.handle, nonce, sizeof(nonce),
                                   data, QDES_SEAL_HEADER, QDES_SEAL_TAG,
                                   payload, payload_size, payload,
                                   &sealed_size) == 0) {
        return true;
    }
fail:
    memset(data, 0, size + QDES_SEAL_OVERHEAD);
    return false;
}

void qdes_seal_sender_floors(const QdesSealSender *s, int64_t age,
                             int64_t now, uint64_t floors[QDES_SEAL_KINDS])
{
    unsigned n = MIN(s->n_samples, QDES_SEAL_SAMPLES);
    const uint64_t *next = s->next;
    unsigned i, at;
    int kind;

    /* The first sample that is surely no older; "ms" are rounded down. */
    for (i = 1; i <= n; i++) {
        at = (s->n_samples - i) % QDES_SEAL_SAMPLES;
        if (s->samples[at].when <= now - age) {
            break;
        }
        next = s->samples[at].next;
    }
    for (kind = 0; kind < QDES_SEAL_KINDS; kind++) {
        floors[kind] = next[kind] - 1;
    }
}

/* Windows */

void qdes_seal_window_init(QdesSealWindow *w, uint64_t floor)
{
    memset(w, 0, sizeof(*w));
    w->floor = floor;
    w->highest = floor;
}

static uint64_t *word_of(QdesSealWindow *w, uint64_t number)
{
    return &w->taken[number / 64 % QDES_SEAL_WORDS];
}

bool qdes_seal_window_has_room(const QdesSealWindow *w, uint64_t number)
{
    if (number > w->highest) {
        return true;
    }
    return number > w->floor && w->highest - number < QDES_SEAL_WINDOW &&
           !(w->taken[number / 64 % QDES_SEAL_WORDS] &
             UINT64_C(1) << number % 64);
}

void qdes_seal_window_take(QdesSealWindow *w, uint64_t number)
{
    uint64_t word = w->highest / 64;

    if (number > w->highest) {
        if (number / 64 - word >= QDES_SEAL_WORDS) {
            memset(w->taken, 0, sizeof(w->taken));
        } else {
            while (word < number / 64) {
                *word_of(w, ++word * 64) = 0;
            }
        }
        w->highest = number;
    }
    *word_of(w, number) |= UINT64_C(1) << number % 64;
}

/* Receivers */

struct QdesSealSessions {
    GHashTable *table;          /* QdesSealSession, by @id */
    unsigned max_accepted, max_pending;
    unsigned n_accepted;
    GQueue pending;             /* of them, the oldest first */
    int64_t forgot;             /* ms */
    QdesSealSession *last;      /* found */
};

static void session_free(gpointer data)
{
    QdesSealSession *session = data;

    cipher_end(&session->cipher);
    g_free(session);
}

QdesSealSessions *qdes_seal_sessions_new(unsigned max_accepted,
                                         unsigned max_pending)
{
    QdesSealSessions *s = g_new0(QdesSealSessions, 1);

    s->table = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                     session_free);
    s->max_accepted = max_accepted;
    s->max_pending = max_pending;
    g_queue_init(&s->pending);
    s->forgot = INT64_MIN;
    return s;
}

void qdes_seal_sessions_free(QdesSealSessions *s)
{
    if (s) {
        g_hash_table_destroy(s->table);
        g_free(s);
    }
}

void qdes_seal_read_head(QdesSealHead *head, const uint8_t *data)
{
    uint64_t field = qdes_get_be64(data + 16);

    head->pseudonym = qdes_get_be32(data + 4);
    head->session = qdes_get_be64(data + 8);
    head->kind = field & FLOODED ? QDES_SEAL_FLOODED : QDES_SEAL_UNICAST;
    head->number = field & ~FLOODED;
}

QdesSealSession *qdes_seal_sessions_find(QdesSealSessions *s,
                                         const QdesSealHead *head)
{
    QdesSealSession *session = s->last;

    if (!session || session->id != head->session) {
        session = g_hash_table_lookup(s->table, &head->session);
        if (session) {
            s->last = session;
        }
    }
    return session;
}

bool qdes_seal_open(QdesSealCipher *cipher, const QdesSealHead *head,
                    uint8_t *data, size_t size, uint32_t netid)
{
    uint8_t *payload = data + QDES_SEAL_HEADER;
    size_t plain_size = size - QDES_SEAL_MIN;
    uint8_t nonce[QDES_SEAL_IV_SIZE];

    g_assert(size >= QDES_SEAL_MIN);
    make_nonce(nonce, cipher, head->number |
               (head->kind == QDES_SEAL_FLOODED ? FLOODED : 0));
    if (gnutls_aead_cipher_decrypt(cipher->handle, nonce, sizeof(nonce), data,
                                   QDES_SEAL_HEADER, QDES_SEAL_TAG, payload,
                                   size - QDES_SEAL_HEADER, payload,
                                   &plain_size) < 0) {
        return false;
    }
    memcpy(data + QDES_SEAL_LEAD, data, 4);
    data[QDES_SEAL_LEAD + 3] &= ~QDES_WIRE_FLAG_SEALED;
    qdes_put_be32(data + QDES_SEAL_LEAD + 4, netid);
    return true;
}

/* It leaves the table next. */
static void count_out(QdesSealSessions *s, QdesSealSession *session,
                      int64_t now)
{
    if (session->accepted) {
        s->n_accepted--;
        s->forgot = MAX(s->forgot, now);
    } else {
        g_queue_unlink(&s->pending, &session->link);
    }
    s->last = NULL;
}

static void forget(QdesSealSessions *s, QdesSealSession *session, int64_t now)
{
    count_out(s, session, now);
    g_hash_table_remove(s->table, &session->id);
}

/*
 * The accepted one that was silent for the longest time.  Only a member brings
 * about this search; what is pending can be anybody's recordings, thousands a
 * second, and has its order.
 */
static QdesSealSession *most_silent(const QdesSealSessions *s)
{
    QdesSealSession *found = NULL;
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, s->table);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        QdesSealSession *session = value;

        if (session->accepted &&
            (!found || session->heard < found->heard)) {
            found = session;
        }
    }
    return found;
}

QdesSealSession *qdes_seal_sessions_try(QdesSealSessions *s,
                                        const QdesSealKey *key,
                                        const QdesSealHead *head,
                                        uint8_t *data, size_t size,
                                        uint32_t netid, int64_t now)
{
    QdesSealCipher cipher = { .handle = NULL };
    QdesSealSession *session;

    if (!head->session || !cipher_begin(&cipher, key, head->session)) {
        return NULL;
    }
    if (!qdes_seal_open(&cipher, head, data, size, netid)) {
        cipher_end(&cipher);
        return NULL;
    }
    if (s->pending.length == s->max_pending) {
        forget(s, s->pending.head->data, now);
    }
    session = g_new0(QdesSealSession, 1);
    session->id = head->session;
    session->pseudonym = head->pseudonym;
    session->cipher = cipher;
    session->heard = now;       /* of a pending one it stays so */
    qdes_wipe(&cipher, sizeof(cipher));
    session->link.data = session;
    g_queue_push_tail_link(&s->pending, &session->link);
    g_hash_table_insert(s->table, &session->id, session);
    return session;
}

void qdes_seal_sessions_accept(QdesSealSessions *s, QdesSealSession *session,
                               const uint64_t floors[QDES_SEAL_KINDS],
                               int64_t now)
{
    int kind;

    g_assert(!session->accepted);
    if (s->n_accepted == s->max_accepted) {
        forget(s, most_silent(s), now);
    }
    g_queue_unlink(&s->pending, &session->link);
    s->n_accepted++;
    session->accepted = true;
    session->heard = now;
    for (kind = 0; kind < QDES_SEAL_KINDS; kind++) {
        qdes_seal_window_init(&session->windows[kind], floors[kind]);
    }
}

/* Forget those of @pseudonym, and those heard last before @before. */
static void forget_all(QdesSealSessions *s, bool by_time, uint32_t pseudonym,
                       int64_t before, int64_t now)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, s->table);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        QdesSealSession *session = value;

        if (by_time ? session->heard < before
                    : session->pseudonym == pseudonym) {
            count_out(s, session, now);
            g_hash_table_iter_remove(&iter);
        }
    }
}

void qdes_seal_sessions_forget(QdesSealSessions *s, uint32_t pseudonym,
                               int64_t now)
{
    forget_all(s, false, pseudonym, 0, now);
}

void qdes_seal_sessions_age(QdesSealSessions *s, int64_t ms, int64_t now)
{
    forget_all(s, true, 0, now - ms, now);
}

int64_t qdes_seal_sessions_forgot(const QdesSealSessions *s)
{
    return s->forgot;
}

unsigned qdes_seal_sessions_accepted(const QdesSealSessions *s)
{
    return s->n_accepted;
}

unsigned qdes_seal_sessions_pending(const QdesSealSessions *s)
{
    return s->pending.length;
}
