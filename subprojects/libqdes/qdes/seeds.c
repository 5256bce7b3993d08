/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Seeds: the peers that the user listed, and where they are now. */

#include "qdes/seeds.h"

#include <string.h>

#include "qdes/config.h"

#define N_BUCKETS 4096
#define NO_SLOT UINT16_MAX
#define LABEL_MAX 63            /* bytes, RFC 1035 2.3.4 */

/* An endpoint; chained in its bucket, or unused when nobody refers to it. */
typedef struct Endpoint {
    QdesAddr addr;
    uint16_t refs;              /* seeds that lead here */
    uint16_t next;
} Endpoint;

typedef struct Seed {
    uint64_t id;
    char *text;
    QdesSeedSpec spec;
    QdesSeedState state;
    char *error;
    int64_t since;
    bool asked;                 /* its answer is being waited for */
    bool said_left_out;
    bool said_failing;          /* of this failure */
    int64_t may_say;            /* ms, when the next failure is news */
    unsigned failures;          /* in a row */
    int64_t due;
    GArray *slots;              /* uint16_t, of its endpoints, ascending */
    uint32_t left_out;
} Seed;

struct QdesSeeds {
    GPtrArray *list;            /* Seed */
    GArray *endpoints;          /* Endpoint */
    uint32_t n_endpoints;       /* in use */
    uint32_t first_free;        /* none before it is */
    uint64_t last_id;
    uint64_t secret;
    uint16_t buckets[N_BUCKETS];
};

/* What the user wrote */

static bool spec_error(const char *text, const char *why, GError **errp)
{
    g_set_error(errp, QDES_ERROR, QDES_ERROR_OPTION, "'%s' %s", text, why);
    return false;
}

static bool is_broadcast(const QdesAddr *addr)
{
    static const uint8_t broadcast[] = { 255, 255, 255, 255 };

    return qdes_addr_is_v4(addr) &&
           memcmp(addr->ip + 12, broadcast, sizeof(broadcast)) == 0;
}

bool qdes_seed_is_host(const QdesAddr *addr)
{
    return !qdes_addr_is_multicast(addr) && !is_broadcast(addr) &&
           !qdes_addr_is_any(addr) &&
           (addr->scope || !qdes_addr_needs_scope(addr));
}

static bool check_address(const QdesAddr *addr, const char *text,
                          GError **errp)
{
    if (qdes_addr_is_multicast(addr)) {
        return spec_error(text, "is a multicast address; mcast= takes those, "
                          "a peer is one host", errp);
    }
    if (is_broadcast(addr)) {
        return spec_error(text, "is a broadcast address; give a host's, or "
                          "use mcast=", errp);
    }
    if (qdes_addr_is_any(addr)) {
        return spec_error(text, "is no host's address; give the one that "
                          "the peer is reached at", errp);
    }
    if (qdes_addr_needs_scope(addr) && !addr->scope) {
        return spec_error(text, "is a link-local address, which needs its "
                          "interface, as in fe80::1%eth0", errp);
    }
    return true;
}

/* Letters, digits, '-' and '_' in labels of 1 to 63, that begin with no '-', as
 * options do; a dot may end it. */
static bool is_name(const char *host)
{
    size_t size = strlen(host);
    size_t label = 0;
    size_t i;

    if (size > 0 && host[size - 1] == '.') {
        size--;
    }
    if (size == 0 || size > QDES_SEED_HOST_MAX - 1) {
        return false;
    }
    for (i = 0; i < size; i++) {
        if (host[i] == '.' && label > 0) {
            label = 0;
        } else if (++label > LABEL_MAX ||
                   (!g_ascii_isalnum(host[i]) && host[i] != '_' &&
                    (host[i] != '-' || label == 1))) {
            return false;
        }
    }
    return label > 0;
}

static bool parse_name(QdesSeedSpec *spec, const char *host, const char *port,
                       const char *text, uint16_t default_port, GError **errp)
{
    const char *dot = strchr(host, '.');
    g_autofree char *lower = g_ascii_strdown(host, -1);

    if (!is_name(host)) {
        return spec_error(text, "is neither an address nor a DNS name; write "
                          "HOST, HOST:PORT, [V6ADDR]:PORT or "
                          "_service._udp.NAME", errp);
    }
    g_strlcpy(spec->host, lower, sizeof(spec->host));
    spec->kind = QDES_SEED_NAME;
    spec->addr.port = default_port;
    if (host[0] == '_') {
        if (!dot || g_ascii_strncasecmp(dot, "._udp.", 6) != 0) {
            return spec_error(text, "is not a service over UDP; write "
                              "_service._udp.NAME", errp);
        }
        if (port) {
            return spec_error(text, "has a port, but SRV records tell it; "
                              "leave it out", errp);
        }
        spec->kind = QDES_SEED_SERVICE;
        spec->addr.port = 0;
    }
    return !port || qdes_addr_parse_port(&spec->addr.port, port, text, errp);
}

bool qdes_seed_parse(QdesSeedSpec *spec, const char *text,
                     uint16_t default_port, GError **errp)
{
    const char *colon = strchr(text, ':');
    size_t host_size = colon ? (size_t)(colon - text) : strlen(text);
    g_autofree char *host = g_strndup(text, host_size);
    bool is_v6 = text[0] == '[' || strchr(text, '%') ||
                 (colon && strchr(colon + 1, ':'));

    memset(spec, 0, sizeof(*spec));
    if (is_v6 || (host_size > 0 &&
                  strspn(text, "0123456789.") == host_size)) {
        spec->kind = QDES_SEED_ADDRESS;
        return qdes_addr_parse(&spec->addr, text, default_port, errp) &&
               check_address(&spec->addr, text, errp);
    }
    return parse_name(spec, host, colon ? colon + 1 : NULL, text,
                      default_port, errp);
}

static bool same_spec(const QdesSeedSpec *a, const QdesSeedSpec *b)
{
    return a->kind == b->kind && qdes_addr_equal(&a->addr, &b->addr) &&
           strcmp(a->host, b->host) == 0;
}

/* Endpoints */

static Endpoint *endpoint_at(const QdesSeeds *s, uint32_t slot)
{
    return &g_array_index(s->endpoints, Endpoint, slot);
}

static uint32_t bucket_of(const QdesSeeds *s, const QdesAddr *addr)
{
    return qdes_addr_hash(addr, s->secret) % N_BUCKETS;
}

static uint16_t find_slot(const QdesSeeds *s, const QdesAddr *addr)
{
    uint16_t slot = s->buckets[bucket_of(s, addr)];

    while (slot != NO_SLOT &&
           !qdes_addr_equal(&endpoint_at(s, slot)->addr, addr)) {
        slot = endpoint_at(s, slot)->next;
    }
    return slot;
}

/* NO_SLOT: there are too many. */
static uint16_t ref_endpoint(QdesSeeds *s, const QdesAddr *addr)
{
    uint32_t bucket = bucket_of(s, addr);
    uint16_t slot = find_slot(s, addr);
    Endpoint *endpoint;
    uint32_t i = s->first_free;

    if (slot != NO_SLOT) {
        endpoint_at(s, slot)->refs++;
        return slot;
    }
    if (s->n_endpoints == QDES_SEEDS_ENDPOINTS_MAX) {
        return NO_SLOT;
    }
    while (i < s->endpoints->len && endpoint_at(s, i)->refs) {
        i++;
    }
    if (i == s->endpoints->len) {
        g_array_set_size(s->endpoints, i + 1);
    }
    s->first_free = i + 1;
    endpoint = endpoint_at(s, i);
    endpoint->addr = *addr;
    endpoint->refs = 1;
    endpoint->next = s->buckets[bucket];
    s->buckets[bucket] = i;
    s->n_endpoints++;
    return i;
}

static void unref_endpoint(QdesSeeds *s, uint16_t slot)
{
    Endpoint *endpoint = endpoint_at(s, slot);
    uint16_t *link;

    if (--endpoint->refs == 0) {
        link = &s->buckets[bucket_of(s, &endpoint->addr)];
        while (*link != slot) {
            link = &endpoint_at(s, *link)->next;
        }
        *link = endpoint->next;
        s->n_endpoints--;
        s->first_free = MIN(s->first_free, slot);
    }
}

static void unref_all(QdesSeeds *s, GArray *slots)
{
    guint i;

    for (i = 0; i < slots->len; i++) {
        unref_endpoint(s, g_array_index(slots, uint16_t, i));
    }
}

static int compare_slots(gconstpointer a, gconstpointer b)
{
    return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

static bool same_slots(const GArray *a, const GArray *b)
{
    return a->len == b->len &&
           (a->len == 0 ||
            memcmp(a->data, b->data, a->len * sizeof(uint16_t)) == 0);
}

static bool has_slot(const uint8_t *seen, uint16_t slot)
{
    return slot != NO_SLOT && (seen[slot / 8] & (1 << slot % 8));
}

/* @seed leads to these now.  Returns whether that is news. */
static bool set_endpoints(QdesSeeds *s, Seed *seed, const QdesAddr *addrs,
                          size_t n)
{
    GArray *slots = g_array_new(false, false, sizeof(uint16_t));
    uint8_t seen[QDES_SEEDS_ENDPOINTS_MAX / 8] = { 0 };
    uint16_t slot;
    bool changed;
    size_t i;

    /* What stays keeps its slot; what goes makes room for what comes. */
    for (i = 0; i < n; i++) {
        slot = find_slot(s, &addrs[i]);
        if (slot != NO_SLOT && !has_slot(seen, slot) &&
            slots->len < QDES_SEED_ENDPOINTS_MAX) {
            ref_endpoint(s, &addrs[i]);
            seen[slot / 8] |= 1 << slot % 8;
            g_array_append_val(slots, slot);
        }
    }
    g_array_sort(slots, compare_slots);
    changed = !same_slots(slots, seed->slots);
    unref_all(s, seed->slots);
    g_array_free(seed->slots, true);
    seed->slots = slots;
    seed->left_out = 0;
    for (i = 0; i < n; i++) {
        if (has_slot(seen, find_slot(s, &addrs[i]))) {
            continue;
        }
        slot = slots->len < QDES_SEED_ENDPOINTS_MAX
               ? ref_endpoint(s, &addrs[i]) : NO_SLOT;
        if (slot == NO_SLOT) {
            seed->left_out++;
            continue;
        }
        seen[slot / 8] |= 1 << slot % 8;
        g_array_append_val(slots, slot);
        changed = true;
    }
    g_array_sort(slots, compare_slots);
    return changed;
}

/* Seeds */

static void free_seed(gpointer data)
{
    Seed *seed = data;

    g_array_free(seed->slots, true);
    g_free(seed->text);
    g_free(seed->error);
    g_free(seed);
}

QdesSeeds *qdes_seeds_new(uint64_t secret)
{
    QdesSeeds *s = g_new0(QdesSeeds, 1);

    s->list = g_ptr_array_new_with_free_func(free_seed);
    s->endpoints = g_array_new(false, true, sizeof(Endpoint));
    s->secret = secret;
    memset(s->buckets, 0xff, sizeof(s->buckets));
    return s;
}

void qdes_seeds_free(QdesSeeds *s)
{
    if (s) {
        g_ptr_array_free(s->list, true);
        g_array_free(s->endpoints, true);
        g_free(s);
    }
}

static Seed *seed_at(const QdesSeeds *s, uint32_t n)
{
    return g_ptr_array_index(s->list, n);
}

static int64_t find_spec(const QdesSeeds *s, const QdesSeedSpec *spec)
{
    guint i;

    for (i = 0; i < s->list->len; i++) {
        if (same_spec(&seed_at(s, i)->spec, spec)) {
            return i;
        }
    }
    return -1;
}

QdesSeedAdd qdes_seeds_add(QdesSeeds *s, const char *text,
                           const QdesSeedSpec *spec, int64_t now)
{
    Seed *seed;

    if (find_spec(s, spec) >= 0) {
        return QDES_SEED_DUPLICATE;
    }
    if (s->list->len >= QDES_SEEDS_MAX) {
        return QDES_SEED_REFUSED;
    }
    seed = g_new0(Seed, 1);
    seed->id = ++s->last_id;
    seed->text = g_strdup(text);
    seed->spec = *spec;
    seed->since = seed->due = now;
    seed->slots = g_array_new(false, false, sizeof(uint16_t));
    if (spec->kind == QDES_SEED_ADDRESS) {
        seed->state = QDES_SEED_RESOLVED;
        seed->due = INT64_MAX;
        set_endpoints(s, seed, &spec->addr, 1);
    }
    g_ptr_array_add(s->list, seed);
    return QDES_SEED_ADDED;
}

bool qdes_seeds_del(QdesSeeds *s, const QdesSeedSpec *spec)
{
    int64_t n = find_spec(s, spec);

    if (n < 0) {
        return false;
    }
    unref_all(s, seed_at(s, n)->slots);
    g_ptr_array_remove_index(s->list, n);
    return true;
}

/* Lookups */

int64_t qdes_seeds_deadline(const QdesSeeds *s)
{
    int64_t deadline = INT64_MAX;
    guint i;

    for (i = 0; i < s->list->len; i++) {
        if (!seed_at(s, i)->asked) {
            deadline = MIN(deadline, seed_at(s, i)->due);
        }
    }
    return deadline;
}

bool qdes_seeds_take_due(QdesSeeds *s, int64_t now, QdesSeedQuestion *question)
{
    Seed *seed = NULL;
    guint i;

    for (i = 0; i < s->list->len; i++) {
        if (!seed_at(s, i)->asked && seed_at(s, i)->due <= now &&
            (!seed || seed_at(s, i)->due < seed->due)) {
            seed = seed_at(s, i);
        }
    }
    if (!seed) {
        return false;
    }
    seed->asked = true;
    question->id = seed->id;
    question->kind = seed->spec.kind;
    question->port = seed->spec.addr.port;
    memcpy(question->host, seed->spec.host, sizeof(question->host));
    return true;
}

int64_t qdes_seeds_find_question(const QdesSeeds *s, uint64_t id)
{
    guint i;

    for (i = 0; i < s->list->len; i++) {
        if (seed_at(s, i)->id == id) {
            return i;
        }
    }
    return -1;
}

/* NULL: it is not there any more, or nothing was asked. */
static Seed *take_asked(QdesSeeds *s, uint64_t id)
{
    int64_t n = qdes_seeds_find_question(s, id);

    if (n < 0 || !seed_at(s, n)->asked) {
        return NULL;
    }
    seed_at(s, n)->asked = false;
    return seed_at(s, n);
}

void qdes_seeds_postpone(QdesSeeds *s, uint64_t id, int64_t when)
{
    Seed *seed = take_asked(s, id);

    if (seed) {
        seed->due = when;
    }
}

static void set_state(Seed *seed, QdesSeedState state, const char *error,
                      int64_t now)
{
    if (seed->state != state) {
        seed->state = state;
        seed->since = now;
    }
    g_free(seed->error);
    seed->error = g_strdup(error);
}

unsigned qdes_seeds_answer(QdesSeeds *s, uint64_t id,
                           const QdesAddr *endpoints, size_t n, uint32_t ttl,
                           int64_t now)
{
    Seed *seed = take_asked(s, id);
    unsigned news = 0;

    if (!seed) {
        return 0;
    }
    if (seed->said_failing) {
        seed->said_failing = false;
        news |= QDES_SEED_NEWS_WORKS;
    }
    set_state(seed, QDES_SEED_RESOLVED, NULL, now);
    seed->failures = 0;
    seed->due = now + 1000 * (int64_t)CLAMP(ttl, QDES_SEED_MIN_TTL,
                                            QDES_SEED_MAX_TTL);
    if (set_endpoints(s, seed, endpoints, n)) {
        news |= QDES_SEED_NEWS_ENDPOINTS;
    }
    if (seed->left_out && !seed->said_left_out) {
        seed->said_left_out = true;
        news |= QDES_SEED_NEWS_LEFT_OUT;
    }
    return news;
}

unsigned qdes_seeds_fail(QdesSeeds *s, uint64_t id, const char *error,
                         int64_t now)
{
    Seed *seed = take_asked(s, id);
    unsigned news = 0;
    int64_t wait;

    if (!seed) {
        return 0;
    }
    if (!seed->said_failing && now >= seed->may_say) {
        seed->said_failing = true;
        seed->may_say = now + QDES_SEED_SAY_MS;
        news |= QDES_SEED_NEWS_FAILING;
    }
    set_state(seed, QDES_SEED_FAILING, error, now);
    wait = (int64_t)QDES_SEED_RETRY_MS << MIN(seed->failures, 8);
    seed->due = now + MIN(wait, QDES_SEED_MAX_RETRY_MS);
    seed->failures++;
    return news;
}

/* What is there */

bool qdes_seeds_next(const QdesSeeds *s, uint32_t *cursor, QdesAddr *endpoint)
{
    const Endpoint *e;

    while (*cursor < s->endpoints->len) {
        e = endpoint_at(s, (*cursor)++);
        if (e->refs) {
            *endpoint = e->addr;
            return true;
        }
    }
    return false;
}

bool qdes_seeds_has(const QdesSeeds *s, const QdesAddr *endpoint)
{
    return find_slot(s, endpoint) != NO_SLOT;
}

uint32_t qdes_seeds_n_endpoints(const QdesSeeds *s)
{
    return s->n_endpoints;
}

uint32_t qdes_seeds_size(const QdesSeeds *s)
{
    return s->list->len;
}

void qdes_seeds_info(const QdesSeeds *s, uint32_t n, QdesSeedInfo *info)
{
    const Seed *seed = seed_at(s, n);

    *info = (QdesSeedInfo) {
        .spec = seed->text,
        .kind = seed->spec.kind,
        .state = seed->state,
        .error = seed->error,
        .since = seed->since,
        .n_endpoints = seed->slots->len,
        .left_out = seed->left_out,
    };
}

QdesAddr qdes_seeds_endpoint(const QdesSeeds *s, uint32_t n, uint32_t i)
{
    return endpoint_at(s, g_array_index(seed_at(s, n)->slots, uint16_t,
                                        i))->addr;
}

int64_t qdes_seeds_find_endpoint(const QdesSeeds *s, const QdesAddr *endpoint)
{
    uint16_t slot = find_slot(s, endpoint);
    const GArray *slots;
    guint i, j;

    for (i = 0; slot != NO_SLOT && i < s->list->len; i++) {
        slots = seed_at(s, i)->slots;
        for (j = 0; j < slots->len; j++) {
            if (g_array_index(slots, uint16_t, j) == slot) {
                return i;
            }
        }
    }
    return -1;
}
