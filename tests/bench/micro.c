/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What single parts of libqdes cost: micro [--json] [NAME]...
 *
 * Each is repeated for at least 20 ms of processor time, 9 times over, and the
 * fastest counts: what else the machine does can only add to it.  The data is
 * in the CPU's caches: these are figures to compare one revision with the
 * next, not forecasts.
 */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../unit/packets.h"

#include "qdes/coalesce.h"
#include "qdes/csum.h"
#include "qdes/fdb.h"
#include "qdes/peer.h"
#include "qdes/portsec.h"
#include "qdes/segment.h"

#define ROUNDS 9
#define ROUND_NS 20e6
#define ADDRESSES 10000
#define MSS 1448                /* bytes of payload in frames of 1500 */

/* What is measured works on this. */
typedef struct Bench {
    unsigned entries;           /* in the FDB, peers in the fabric */
    QdesFdb *fdb;
    uint8_t (*macs)[QDES_MAC_SIZE];
    QdesPeers *peers;
    QdesAddr *addrs;
    QdesPortsec *portsec;
    unsigned at;
    int64_t now;

    uint8_t *buf;
    uint8_t *frame[64];
    size_t size[64];
    unsigned frames;
    bool partial;
    QdesVnet vnet;
    QdesSegmenter segmenter;
    QdesCoalescer *coalescer;
    uint64_t sink;              /* so that no work is left out */
} Bench;

static void fdb_setup(Bench *b, size_t n)
{
    uint32_t old_owner;
    unsigned i;

    b->entries = n;
    b->fdb = qdes_fdb_new(2 * ADDRESSES, 4, 300000, 1);
    b->macs = g_malloc_n(n, QDES_MAC_SIZE);
    for (i = 0; i < n; i++) {
        /* As if at random, so that order does not help. */
        memcpy(b->macs[i], "\x52\x54", 2);
        naive_put32(b->macs[i] + 2, i * 2654435761U);
        qdes_fdb_learn(b->fdb, b->macs[i], 1, 0, &old_owner);
    }
}

static void fdb_lookup(Bench *b)
{
    const QdesFdbEntry *entry = qdes_fdb_lookup(b->fdb, b->macs[b->at],
                                                b->now);

    b->sink += entry->owner;
    b->at = b->at + 1 == b->entries ? 0 : b->at + 1;
}

/* A refresh, as all but a few are; time goes on as at 1 Mpps. */
static void fdb_learn(Bench *b)
{
    uint32_t old_owner;

    b->sink += qdes_fdb_learn(b->fdb, b->macs[b->at], 1, b->now / 1000,
                              &old_owner);
    b->now++;
    b->at = b->at + 1 == b->entries ? 0 : b->at + 1;
}

static void peers_setup(Bench *b, size_t n)
{
    bool added, evicted;
    unsigned i;
    char *text;

    b->entries = n;
    b->peers = qdes_peers_new(2 * n, 1);
    b->addrs = g_new0(QdesAddr, n);
    for (i = 0; i < n; i++) {
        text = g_strdup_printf("10.%u.%u.%u:%u", i % 7, i / 256, i % 256,
                               20000 + i);
        if (!qdes_addr_parse(&b->addrs[i], text, 0, NULL)) {
            fprintf(stderr, "micro: %s is no address\n", text);
            exit(EXIT_FAILURE);
        }
        g_free(text);
        qdes_peers_heard(b->peers, &b->addrs[i], 0, &added, &evicted);
    }
}

static void peers_find(Bench *b)
{
    b->sink += qdes_peers_find(b->peers, &b->addrs[b->at]);
    b->at = b->at + 1 == b->entries ? 0 : b->at + 1;
}

/* Half of the addresses are listed, the other half heard. */
static void portsec_setup(Bench *b, size_t n)
{
    unsigned i;

    b->entries = n;
    b->macs = g_malloc0_n(n, QDES_MAC_SIZE);
    for (i = 0; i < n; i++) {
        memcpy(b->macs[i], "\x52\x54", 2);
        naive_put32(b->macs[i] + 2, i * 2654435761U);
    }
    b->portsec = qdes_portsec_new((const uint8_t (*)[QDES_MAC_SIZE])b->macs,
                                  (n + 1) / 2, n, 300000, 1);
}

static void portsec_check(Bench *b)
{
    b->sink += qdes_portsec_check(b->portsec, b->macs[b->at], b->now / 1000);
    b->now++;
    b->at = b->at + 1 == b->entries ? 0 : b->at + 1;
}

static void csum_setup(Bench *b, size_t size)
{
    b->size[0] = size;
    b->buf = g_malloc(size);
    memset(b->buf, 0xa5, size);
}

static void csum_add(Bench *b)
{
    b->sink += qdes_csum_add(b->sink & 0xffff, b->buf, b->size[0]);
}

/* One TCP superframe of 64 KiB, cut to frames of 1514 bytes. */
static void segment_setup(Bench *b, size_t partial)
{
    Packet p = { PACKET_DEFAULT, .options_size = 12, .csum = PACKET_PARTIAL };

    p.payload = 45 * MSS;
    b->partial = partial;
    b->buf = g_malloc(PACKET_MAX);
    b->size[0] = packet_write(&p, b->buf);
    b->vnet = (QdesVnet) {
        .needs_csum = true, .gso = QDES_GSO_TCP4, .gso_size = MSS,
        .csum_start = 34, .csum_offset = 16,
    };
}

static void segment(Bench *b)
{
    struct iovec iov = { b->buf, b->size[0] };
    struct iovec payload[4];
    uint8_t headers[QDES_HEADERS_MAX];
    int count;

    if (qdes_segment_begin(&b->segmenter, &b->vnet, &iov, 1, b->size[0],
                           SIZE_MAX, b->partial, 0) != QDES_SEGMENT_CUT) {
        abort();
    }
    while (b->segmenter.frames > 0) {
        b->sink += qdes_segment_next(&b->segmenter, headers, payload, 4,
                                     &count);
    }
}

/* One behind the other, as the kernel delivers a train. */
static void add_frame(Bench *b, const Packet *p)
{
    unsigned i = b->frames++;

    b->frame[i] = i ? b->frame[i - 1] + b->size[i - 1] + 8 : b->buf;
    b->size[i] = packet_write(p, b->frame[i]);
}

static void coalesce_setup(Bench *b)
{
    static const QdesCoalesceFeatures features = {
        true, true, true, true, true,
    };

    b->buf = g_malloc(64 * 2048);
    b->coalescer = qdes_coalescer_new();
    qdes_coalesce_set_features(b->coalescer, &features);
}

/* What a superframe of 64 KiB was cut to. */
static void stream_setup(Bench *b, size_t partial)
{
    Packet p = { PACKET_DEFAULT, .options_size = 12,
                 .csum = partial ? PACKET_PARTIAL : PACKET_FULL };
    int i;

    coalesce_setup(b);
    p.payload = MSS;
    b->partial = partial;
    for (i = 0; i < 45; i++) {
        add_frame(b, &p);
        p.seq += p.payload;
    }
}

static void acks_setup(Bench *b, size_t partial)
{
    Packet p = { PACKET_DEFAULT, .options_size = 12,
                 .csum = partial ? PACKET_PARTIAL : PACKET_FULL };
    int i;

    coalesce_setup(b);
    p.payload = 0;
    b->partial = partial;
    for (i = 0; i < 64; i++) {
        add_frame(b, &p);
        p.ack += 100;
    }
}

/* Each of a flow of its own: could go on, but does not. */
static void datagrams_setup(Bench *b, size_t partial)
{
    Packet p = { PACKET_DEFAULT, .udp = true,
                 .csum = partial ? PACKET_PARTIAL : PACKET_FULL };
    int i;

    coalesce_setup(b);
    p.payload = 18;
    b->partial = partial;
    for (i = 0; i < 64; i++) {
        add_frame(b, &p);
        p.port++;
    }
}

static void take(Bench *b)
{
    b->sink += qdes_coalesce_first(b->coalescer)->size;
    qdes_coalesce_pop(b->coalescer);
}

/* All frames in one batch. */
static void coalesce(Bench *b)
{
    unsigned i;

    for (i = 0; i < b->frames; i++) {
        while (qdes_coalesce_add(b->coalescer, b->frame[i], b->size[i],
                                 b->partial, 0) != QDES_COALESCE_TAKEN) {
            take(b);
        }
    }
    while (qdes_coalesce_first(b->coalescer)) {
        take(b);
    }
}

/* One after the other. */
static void coalesce_singly(Bench *b)
{
    unsigned i;

    for (i = 0; i < b->frames; i++) {
        qdes_coalesce_add(b->coalescer, b->frame[i], b->size[i], b->partial, 0);
        take(b);
    }
}

typedef struct Case {
    const char *name;
    void (*setup)(Bench *b, size_t arg);
    void (*run)(Bench *b);
    size_t arg;
    unsigned operations;        /* that one run counts as */
    size_t bytes;               /* in one run, 0 where it does not matter */
} Case;

static const Case cases[] = {
    { "fdb lookup, 1 entry", fdb_setup, fdb_lookup, 1, 1, 0 },
    { "fdb lookup, 10000 entries", fdb_setup, fdb_lookup, ADDRESSES, 1, 0 },
    { "fdb learn, 1 entry", fdb_setup, fdb_learn, 1, 1, 0 },
    { "fdb learn, 10000 entries", fdb_setup, fdb_learn, ADDRESSES, 1, 0 },
    { "port security, 1 address", portsec_setup, portsec_check, 1, 1, 0 },
    { "port security, 1000 addresses", portsec_setup, portsec_check, 1000, 1,
      0 },
    { "peers find, 1 peer", peers_setup, peers_find, 1, 1, 0 },
    { "peers find, 1000 peers", peers_setup, peers_find, 1000, 1, 0 },
    { "checksum, 64 bytes", csum_setup, csum_add, 64, 1, 64 },
    { "checksum, 1500 bytes", csum_setup, csum_add, 1500, 1, 1500 },
    { "checksum, 64 KiB", csum_setup, csum_add, 65536, 1, 65536 },
    { "segment, 45 frames, partial", segment_setup, segment, true, 45,
      45 * MSS },
    { "segment, 45 frames, full", segment_setup, segment, false, 45,
      45 * MSS },
    { "coalesce, 45 frames, partial", stream_setup, coalesce, true, 45,
      45 * MSS },
    { "coalesce, 45 frames, full", stream_setup, coalesce, false, 45,
      45 * MSS },
    { "coalesce, 64 ACKs, partial", acks_setup, coalesce, true, 64, 0 },
    { "coalesce, 64 ACKs, full", acks_setup, coalesce, false, 64, 0 },
    { "coalesce, 64 datagrams, partial", datagrams_setup, coalesce, true, 64,
      0 },
    { "coalesce, 64 datagrams, full", datagrams_setup, coalesce, false, 64,
      0 },
    { "coalesce, 1 ACK", acks_setup, coalesce_singly, false, 64, 0 },
    { "coalesce, 1 datagram", datagrams_setup, coalesce_singly, false, 64,
      0 },
};

static void cleanup(Bench *b)
{
    if (b->fdb) {
        qdes_fdb_free(b->fdb);
    }
    if (b->peers) {
        qdes_peers_free(b->peers);
    }
    qdes_coalescer_free(b->coalescer);
    qdes_portsec_free(b->portsec);
    g_free(b->macs);
    g_free(b->addrs);
    g_free(b->buf);
}

static double cpu_time_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

/* Nanoseconds for one operation. */
static double measure(const Case *c)
{
    Bench b = { 0 };
    double best = INFINITY;
    double start, took;
    uint64_t runs = 1;
    uint64_t i;
    int round;

    c->setup(&b, c->arg);
    for (round = 0; round < ROUNDS; round++) {
        for (;;) {
            start = cpu_time_ns();
            for (i = 0; i < runs; i++) {
                c->run(&b);
            }
            took = cpu_time_ns() - start;
            if (took >= ROUND_NS) {
                break;
            }
            runs *= 2;
        }
        best = MIN(best, took / runs / c->operations);
    }
    cleanup(&b);
    return best;
}

static bool is_wanted(const Case *c, int argc, char **argv)
{
    bool any = false;
    int i;

    for (i = 1; i < argc; i++) {
        if (argv[i][0] != '-') {
            if (strstr(c->name, argv[i])) {
                return true;
            }
            any = true;
        }
    }
    return !any;
}

static void usage(FILE *to)
{
    fputs("Usage: micro [--json] [NAME]...\n\n"
          "Measure parts of libqdes: those whose name contains a NAME, or"
          " all.\n\n"
          "  --json      print a JSON array instead of a table\n"
          "  -h, --help  this text\n", to);
}

int main(int argc, char **argv)
{
    const char *separator = "";
    bool json = false;
    double ns, rate;
    size_t i;
    int j;

    for (j = 1; j < argc; j++) {
        if (strcmp(argv[j], "--json") == 0) {
            json = true;
        } else if (strcmp(argv[j], "-h") == 0 ||
                   strcmp(argv[j], "--help") == 0) {
            usage(stdout);
            return EXIT_SUCCESS;
        } else if (argv[j][0] == '-') {
            fprintf(stderr, "micro: unknown option %s\n", argv[j]);
            usage(stderr);
            return EXIT_FAILURE;
        }
    }
    if (json) {
        printf("[");
    } else {
        printf("%-34s %10s %8s\n", "", "ns each", "GB/s");
    }
    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        if (!is_wanted(&cases[i], argc, argv)) {
            continue;
        }
        ns = measure(&cases[i]);
        rate = cases[i].bytes / (ns * cases[i].operations);
        if (json) {
            printf("%s\n {\"name\": \"%s\", \"ns\": %.2f", separator,
                   cases[i].name, ns);
            if (cases[i].bytes) {
                printf(", \"gb_per_s\": %.3f", rate);
            }
            printf("}");
            separator = ",";
        } else if (cases[i].bytes) {
            printf("%-34s %10.1f %8.2f\n", cases[i].name, ns, rate);
        } else {
            printf("%-34s %10.1f\n", cases[i].name, ns);
        }
        fflush(stdout);
    }
    if (json) {
        printf("\n]\n");
    }
    return EXIT_SUCCESS;
}
