/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing what a name server answers.  libresolv's and libc's questions are
 * answered by the input: what res_nsearch() is told is any bytes, what
 * getaddrinfo() is told any addresses.
 */

#include "fuzz.h"

#include <netdb.h>
#include <resolv.h>

#include "qdes/resolve.h"

static Input input;
static unsigned lookups;
static int64_t clock_us;

int __wrap_res_nsearch(res_state state, const char *name, int class, int type,
                       unsigned char *answer, int max);
int __wrap___res_ninit(res_state state);
void __wrap___res_nclose(res_state state);
int __wrap_getaddrinfo(const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **list);
void __wrap_freeaddrinfo(struct addrinfo *list);
gint64 __wrap_g_get_monotonic_time(void);

gint64 __wrap_g_get_monotonic_time(void)
{
    return clock_us;
}

int __wrap___res_ninit(res_state state G_GNUC_UNUSED)
{
    return (input_byte(&input) & 15) == 15 ? -1 : 0;
}

void __wrap___res_nclose(res_state state G_GNUC_UNUSED)
{
}

int __wrap_res_nsearch(res_state state, const char *name G_GNUC_UNUSED,
                       int class G_GNUC_UNUSED, int type G_GNUC_UNUSED,
                       unsigned char *answer, int max)
{
    const uint8_t *data;
    size_t size = input_bytes(&input, &data, 65535);

    if (size == 0) {
        state->res_h_errno = TRY_AGAIN;
        return -1;
    }
    fuzz_check(size <= (size_t)max, "an answer does not fit");
    memcpy(answer, data, size);
    /* A long one is cut, and its whole length returned. */
    return size % 7 ? (int)size : (int)size + 70000;
}

int __wrap_getaddrinfo(const char *host G_GNUC_UNUSED,
                       const char *service G_GNUC_UNUSED,
                       const struct addrinfo *hints, struct addrinfo **list)
{
    static const int errors[] = { EAI_AGAIN, EAI_NONAME, EAI_FAIL,
                                  EAI_MEMORY };
    unsigned n = input_byte(&input);
    struct sockaddr_in6 *to;
    struct addrinfo *ai;

    fuzz_check(clock_us < 20 * G_USEC_PER_SEC, "all other names wait");
    lookups++;
    /* A server may take long for nothing. */
    clock_us += n % 2 ? n * 50000 : n;
    *list = NULL;
    if (n >= 250) {
        return errors[n % G_N_ELEMENTS(errors)];
    }
    for (; n > 0; n--) {
        ai = g_new0(struct addrinfo, 1);
        to = g_new0(struct sockaddr_in6, 1);
        ai->ai_addr = (struct sockaddr *)to;
        ai->ai_next = *list;
        *list = ai;
        ai->ai_family = hints->ai_family == AF_UNSPEC ?
                        (n % 2 ? AF_INET6 : AF_INET) : hints->ai_family;
        ai->ai_addr->sa_family = n % 16 ? ai->ai_family : AF_UNIX;
        if (ai->ai_family == AF_INET) {
            ((struct sockaddr_in *)to)->sin_addr.s_addr =
                htonl((uint32_t)input_u16(&input) << 16 | n);
        } else {
            to->sin6_addr.s6_addr[0] = input_byte(&input);
            to->sin6_addr.s6_addr[1] = input_byte(&input);
            to->sin6_addr.s6_addr[15] = n;
        }
    }
    return 0;
}

void __wrap_freeaddrinfo(struct addrinfo *list)
{
    struct addrinfo *next;

    for (; list; list = next) {
        next = list->ai_next;
        g_free(list->ai_addr);
        g_free(list);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    QdesSeedQuestion question = { .id = 1, .host = "_q._udp.example.net" };
    QdesAnswer answer = { .ttl = QDES_RESOLVER_TTL };
    const QdesAddr *addr;
    uint8_t bits;
    guint i;

    input = (Input) { data, size };
    lookups = 0;
    clock_us = 0;
    bits = input_byte(&input);
    question.kind = bits & 1 ? QDES_SEED_SERVICE : QDES_SEED_NAME;
    question.port = bits & 1 ? 0 : 20804;
    answer.endpoints = g_array_new(false, false, sizeof(QdesAddr));
    qdes_lookup_system(&question, !(bits & 2), (bits & 2) || (bits & 4),
                       &answer, NULL);
    fuzz_check(lookups <= 256, "it goes on and on");
    fuzz_check(answer.endpoints->len <= QDES_RESOLVER_ANSWER_MAX,
               "too many endpoints");
    for (i = 0; i < answer.endpoints->len; i++) {
        addr = &g_array_index(answer.endpoints, QdesAddr, i);
        fuzz_check(qdes_seed_is_host(addr) && addr->port != 0,
                   "an endpoint where nobody can be");
        fuzz_check(qdes_addr_is_v4(addr) ? !(bits & 2) :
                   (bits & 2) || (bits & 4),
                   "an endpoint of the wrong family");
    }
    qdes_answer_clear(&answer);
    return 0;
}
