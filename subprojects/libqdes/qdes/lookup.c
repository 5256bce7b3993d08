/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The system's lookup: getaddrinfo() for addresses, and, where it is there,
 * libresolv for what getaddrinfo() does not tell: SRV records, and how long
 * an answer is good.
 */

#include "qdes/resolve.h"

#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

#ifdef QDES_HAVE_RESOLV
#include <arpa/nameser.h>
#include <resolv.h>
#endif

#define MAX_TARGETS 256         /* of a service, to be looked up apart */
#define MAX_TARGETS_US (20 * G_USEC_PER_SEC) /* no other is begun after that:
                                   other names wait for their turn */

static int family_of(bool v4, bool v6)
{
    return v4 && v6 ? AF_UNSPEC : v4 ? AF_INET : AF_INET6;
}

/* Returns an error of getaddrinfo(), or 0. */
static int add_addresses(const char *host, uint16_t port, bool v4, bool v6,
                         QdesAnswer *answer)
{
    struct addrinfo hints = {
        .ai_family = family_of(v4, v6),
        .ai_socktype = SOCK_DGRAM,
    };
    struct addrinfo *list = NULL;
    const struct addrinfo *ai;
    QdesAddr addr;
    int ret = getaddrinfo(host, NULL, &hints, &list);

    if (ret) {
        return ret;
    }
    for (ai = list; ai; ai = ai->ai_next) {
        if (qdes_addr_from_sockaddr(&addr, ai->ai_addr)) {
            addr.port = port;
            qdes_answer_add(answer, &addr);
        }
    }
    freeaddrinfo(list);
    return 0;
}

static void set_error(QdesAnswer *answer, const char *host, int err)
{
    if (!answer->error) {
        answer->error = host ? g_strdup_printf("%s: %s", host,
                                               gai_strerror(err))
                             : g_strdup(gai_strerror(err));
    }
}

#ifdef QDES_HAVE_RESOLV

#define DNS_SIZE 65536          /* bytes, no message is larger */

typedef struct Dns {
    struct __res_state state;
    uint8_t data[DNS_SIZE];
    ns_msg msg;
} Dns;

/* The answer to a question for @type, in @dns->msg.  Returns false, and sets
 * h_errno, when there is none. */
static bool ask_dns(Dns *dns, const char *host, int type)
{
    int size = res_nsearch(&dns->state, host, ns_c_in, type, dns->data,
                           sizeof(dns->data));

    return size > 0 &&
           ns_initparse(dns->data, MIN(size, DNS_SIZE), &dns->msg) == 0;
}

static Dns *dns_new(void)
{
    Dns *dns = g_new0(Dns, 1);

    if (res_ninit(&dns->state) < 0) {
        g_free(dns);
        return NULL;
    }
    return dns;
}

static void dns_free(Dns *dns)
{
    res_nclose(&dns->state);
    g_free(dns);
}

/* The shortest time that any record of the answer is good. */
static void shorten_ttl(Dns *dns, uint32_t *ttl)
{
    ns_rr rr;
    int i;

    for (i = 0; i < ns_msg_count(dns->msg, ns_s_an); i++) {
        if (ns_parserr(&dns->msg, ns_s_an, i, &rr) == 0) {
            *ttl = MIN(*ttl, ns_rr_ttl(rr));
        }
    }
}

static bool has_family(const QdesAnswer *answer, bool v4)
{
    guint i;

    for (i = 0; i < answer->endpoints->len; i++) {
        if (qdes_addr_is_v4(&g_array_index(answer->endpoints, QdesAddr,
                                           i)) == v4) {
            return true;
        }
    }
    return false;
}

/* What is not from DNS keeps its default. */
static void set_ttl(const char *host, QdesAnswer *answer)
{
    Dns *dns = dns_new();
    uint32_t ttl = UINT32_MAX;

    if (!dns) {
        return;
    }
    if (has_family(answer, true) && ask_dns(dns, host, ns_t_a)) {
        shorten_ttl(dns, &ttl);
    }
    if (has_family(answer, false) && ask_dns(dns, host, ns_t_aaaa)) {
        shorten_ttl(dns, &ttl);
    }
    if (ttl != UINT32_MAX) {
        answer->ttl = ttl;
    }
    dns_free(dns);
}

/* The addresses of @target that came along with the answer.  Returns whether
 * there were any. */
static bool add_glue(Dns *dns, const char *target, uint16_t port, bool v4,
                     bool v6, QdesAnswer *answer, uint32_t *ttl)
{
    bool found = false;
    QdesAddr addr;
    ns_rr rr;
    int i;

    for (i = 0; i < ns_msg_count(dns->msg, ns_s_ar); i++) {
        if (ns_parserr(&dns->msg, ns_s_ar, i, &rr) < 0 ||
            g_ascii_strcasecmp(ns_rr_name(rr), target) != 0) {
            continue;
        }
        if (ns_rr_type(rr) == ns_t_a && ns_rr_rdlen(rr) == 4 && v4) {
            addr = qdes_addr_any(true, port);
            memcpy(addr.ip + 12, ns_rr_rdata(rr), 4);
        } else if (ns_rr_type(rr) == ns_t_aaaa && ns_rr_rdlen(rr) == 16 &&
                   v6) {
            addr = qdes_addr_any(false, port);
            memcpy(addr.ip, ns_rr_rdata(rr), 16);
        } else {
            continue;
        }
        *ttl = MIN(*ttl, ns_rr_ttl(rr));
        qdes_answer_add(answer, &addr);
        found = true;
    }
    return found;
}

/*
 * A target that does not exist is none; one that cannot be looked up now is
 * an error of the whole: what is known must not shrink for it.
 */
static void add_target(Dns *dns, ns_rr *rr, bool v4, bool v6,
                       QdesAnswer *answer, uint32_t *ttl, unsigned *apart,
                       int64_t until)
{
    const uint8_t *data = ns_rr_rdata(*rr);
    char target[NS_MAXDNAME];
    uint16_t port;
    int err;

    if (ns_rr_rdlen(*rr) < 7 ||
        dn_expand(ns_msg_base(dns->msg), ns_msg_end(dns->msg), data + 6,
                  target, sizeof(target)) < 0 || target[0] == '\0') {
        return;
    }
    port = data[4] << 8 | data[5];
    if (!port || add_glue(dns, target, port, v4, v6, answer, ttl) ||
        *apart == 0) {
        return;
    }
    if (g_get_monotonic_time() >= until) {
        answer->error = g_strdup("to find the addresses of its targets takes "
                                 "too long");
        return;
    }
    --*apart;
    err = add_addresses(target, port, v4, v6, answer);
    if (err && err != EAI_NONAME
#ifdef EAI_NODATA
        && err != EAI_NODATA
#endif
#ifdef EAI_ADDRFAMILY
        && err != EAI_ADDRFAMILY
#endif
        ) {
        set_error(answer, target, err);
    }
}

static void look_up_service(const QdesSeedQuestion *question, bool v4,
                            bool v6, QdesAnswer *answer)
{
    unsigned apart = MAX_TARGETS;
    Dns *dns = dns_new();
    uint32_t ttl = UINT32_MAX;
    bool any = false;
    int64_t until;
    ns_rr rr;
    int i;

    if (!dns) {
        set_error(answer, NULL, EAI_FAIL);
        return;
    }
    if (!ask_dns(dns, question->host, ns_t_srv)) {
        answer->error = g_strdup(hstrerror(dns->state.res_h_errno));
        dns_free(dns);
        return;
    }
    shorten_ttl(dns, &ttl);
    until = g_get_monotonic_time() + MAX_TARGETS_US;
    for (i = 0; i < ns_msg_count(dns->msg, ns_s_an) && !answer->error; i++) {
        if (ns_parserr(&dns->msg, ns_s_an, i, &rr) == 0 &&
            ns_rr_type(rr) == ns_t_srv) {
            add_target(dns, &rr, v4, v6, answer, &ttl, &apart, until);
            any = true;
        }
    }
    if (!any && !answer->error) {
        answer->error = g_strdup("it has no SRV record");
    }
    if (ttl != UINT32_MAX) {
        answer->ttl = ttl;
    }
    dns_free(dns);
}

#else

static void set_ttl(const char *host G_GNUC_UNUSED,
                    QdesAnswer *answer G_GNUC_UNUSED)
{
}

static void look_up_service(const QdesSeedQuestion *question G_GNUC_UNUSED,
                            bool v4 G_GNUC_UNUSED, bool v6 G_GNUC_UNUSED,
                            QdesAnswer *answer)
{
    answer->error = g_strdup("SRV records need libresolv, which this build "
                             "lacks; give a name that has addresses");
}

#endif

void qdes_lookup_system(const QdesSeedQuestion *question, bool v4, bool v6,
                        QdesAnswer *answer, void *opaque G_GNUC_UNUSED)
{
    int err;

    if (question->kind == QDES_SEED_SERVICE) {
        look_up_service(question, v4, v6, answer);
        return;
    }
    err = add_addresses(question->host, question->port, v4, v6, answer);
    if (err) {
        set_error(answer, NULL, err);
    } else {
        set_ttl(question->host, answer);
    }
}
