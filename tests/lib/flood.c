/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Datagrams that an enemy might send, as fast as one core makes them:
 *
 *   flood ADDRESS PORT SECONDS SEED NETWORK TEMPLATES KIND...
 *
 * Each goes to ADDRESS:PORT, from an address in NETWORK (its first two bytes
 * stay, the third is never 0) and a port that are random as well: the IP
 * header is ours, so this takes CAP_NET_RAW.  TEMPLATES is a file of datagrams, each behind its size
 * in two bytes, big-endian.  The KINDs, of which each datagram is one:
 *
 *   random     noise of any length
 *   replay     a template as it is
 *   flip       a template with some bits flipped
 *   cut        a template that ends early
 *   session    a template with another session, where sealed ones have it
 *   checksum   a template whose UDP checksum is wrong, not a short one: such
 *              end in the kernel before it looks for their socket
 *
 * Prints what the kernel took, and of how much: "KIND N" for each, then
 * "bytes N" and "ms N".
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 64
#define MAX_TEMPLATES 65536
#define MAX_KINDS 16
#define PAYLOAD 1472            /* so that none is cut on its way */
#define LONG 128                /* over Linux' CHECKSUM_BREAK */
#define HEADERS (sizeof(struct iphdr) + sizeof(struct udphdr))

typedef enum Kind { RANDOM, REPLAY, FLIP, CUT, SESSION, CHECKSUM } Kind;

static const char *const kind_names[] = {
    [RANDOM] = "random", [REPLAY] = "replay", [FLIP] = "flip", [CUT] = "cut",
    [SESSION] = "session", [CHECKSUM] = "checksum",
};

#define N_KINDS (sizeof(kind_names) / sizeof(kind_names[0]))

typedef struct Template {
    uint16_t size;
    uint8_t *data;
} Template;

typedef struct Packet {
    struct iphdr ip;
    struct udphdr udp;
    uint8_t data[PAYLOAD];
} Packet;

static Template *templates;
static unsigned n_templates;
static uint64_t state;

static void die(const char *what)
{
    fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* xorshift64*: quick, and the same for the same seed. */
static uint64_t draw(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(0x2545f4914f6cdd1d);
}

static unsigned below(unsigned n)
{
    return (draw() >> 32) * n >> 32;
}

static void noise(uint8_t *to, unsigned size)
{
    uint64_t value;
    unsigned i;

    for (i = 0; i < size; i += sizeof(value)) {
        value = draw();
        memcpy(to + i, &value,
               size - i < sizeof(value) ? size - i : sizeof(value));
    }
}

static void load(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t head[2];
    Template *t;

    templates = calloc(MAX_TEMPLATES, sizeof(*templates));
    if (!file || !templates) {
        die(path);
    }
    while (n_templates < MAX_TEMPLATES && fread(head, 2, 1, file) == 1) {
        t = &templates[n_templates];
        t->size = head[0] << 8 | head[1];
        t->data = malloc(t->size + 1);
        if (!t->data || fread(t->data, 1, t->size, file) != t->size) {
            die(path);
        }
        if (t->size <= PAYLOAD) {
            n_templates++;
        } else {
            free(t->data);
        }
    }
    fclose(file);
    if (!n_templates) {
        errno = EINVAL;
        die(path);
    }
}

/* Returns the size of the payload that was made. */
static unsigned make(uint8_t *to, Kind kind)
{
    const Template *t = &templates[below(n_templates)];
    unsigned size = t->size;
    unsigned i;

    if (kind == RANDOM) {
        size = below(PAYLOAD + 1);
        noise(to, size);
        return size;
    }
    memcpy(to, t->data, size);
    switch (kind) {
    case FLIP:
        for (i = 0; size && i <= below(8); i++) {
            to[below(size)] ^= 1 << below(8);
        }
        break;
    case CUT:
        size = below(size + 1);
        break;
    case SESSION:
        if (size >= 16) {
            noise(to + 8, 8);
        }
        break;
    case CHECKSUM:
        if (size < LONG) {
            noise(to + size, LONG - size);
            size = LONG;
        }
        break;
    default:
        break;
    }
    return size;
}

static void fill(Packet *packet, struct iovec *iov, Kind kind,
                 const struct sockaddr_in *to, uint32_t network)
{
    unsigned size = make(packet->data, kind);

    packet->ip = (struct iphdr) {
        .version = 4, .ihl = 5, .ttl = 8, .protocol = IPPROTO_UDP,
        .saddr = htonl(network | (0x100 + below(0xfe00))),
        .daddr = to->sin_addr.s_addr,
    };
    packet->udp = (struct udphdr) {
        .uh_sport = htons(1024 + below(60000)),
        .uh_dport = to->sin_port,
        .uh_ulen = htons(sizeof(packet->udp) + size),
        /* None, which IPv4 allows; or most likely a wrong one. */
        .uh_sum = kind == CHECKSUM ? htons(1 + below(0xffff)) : 0,
    };
    iov->iov_base = packet;
    iov->iov_len = HEADERS + size;
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

static Kind kind_of(const char *name)
{
    unsigned i;

    for (i = 0; i < N_KINDS; i++) {
        if (strcmp(kind_names[i], name) == 0) {
            return i;
        }
    }
    errno = EINVAL;
    die(name);
    return RANDOM;
}

int main(int argc, char **argv)
{
    static Packet packets[BATCH];
    static struct iovec iov[BATCH];
    static Kind kinds[BATCH];
    struct mmsghdr msg[BATCH];
    Kind wanted[MAX_KINDS];
    struct sockaddr_in to = { .sin_family = AF_INET };
    uint64_t counts[N_KINDS] = { 0 };
    uint64_t bytes = 0;
    struct in_addr network;
    int64_t start, end;
    unsigned n_kinds = argc - 7;
    int room = 8 << 20;
    unsigned i;
    int fd, n;

    if (argc < 8 || argc > 7 + MAX_KINDS ||
        inet_pton(AF_INET, argv[1], &to.sin_addr) != 1 ||
        inet_pton(AF_INET, argv[5], &network) != 1) {
        fprintf(stderr, "usage: flood ADDRESS PORT SECONDS SEED NETWORK "
                "TEMPLATES KIND...\n");
        return 2;
    }
    to.sin_port = htons(atoi(argv[2]));
    state = strtoull(argv[4], NULL, 0) * 2 + 1;
    network.s_addr &= htonl(0xffff0000);
    load(argv[6]);
    for (i = 0; i < n_kinds; i++) {
        wanted[i] = kind_of(argv[7 + i]);
    }
    fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
    if (fd < 0) {
        die("socket");
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
    memset(msg, 0, sizeof(msg));
    for (i = 0; i < BATCH; i++) {
        msg[i].msg_hdr.msg_name = &to;
        msg[i].msg_hdr.msg_namelen = sizeof(to);
        msg[i].msg_hdr.msg_iovlen = 1;
    }
    start = now_ms();
    end = start + 1000 * atoll(argv[3]);
    while (now_ms() < end) {
        for (i = 0; i < BATCH; i++) {
            kinds[i] = wanted[below(n_kinds)];
            fill(&packets[i], &iov[i], kinds[i], &to, ntohl(network.s_addr));
            msg[i].msg_hdr.msg_iov = &iov[i];
        }
        n = sendmmsg(fd, msg, BATCH, 0);
        if (n < 0) {
            if (errno == EINTR || errno == ENOBUFS || errno == EAGAIN) {
                continue;
            }
            die("sendmmsg");
        }
        for (i = 0; i < (unsigned)n; i++) {
            counts[kinds[i]]++;
            bytes += iov[i].iov_len;
        }
    }
    for (i = 0; i < N_KINDS; i++) {
        printf("%s %llu\n", kind_names[i], (unsigned long long)counts[i]);
    }
    printf("bytes %llu\nms %lld\n", (unsigned long long)bytes,
           (long long)(now_ms() - start));
    return 0;
}
