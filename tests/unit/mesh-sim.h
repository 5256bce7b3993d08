/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole fabrics in one process, over a network and a clock that are simulated
 *
 * The underlay is replaced call by call (see meson.build); everything above it
 * is what runs in QEMU and qdes-tap.  Nothing but the seed is random, which is
 * printed.
 */

#ifndef QDES_MESH_SIM_H
#define QDES_MESH_SIM_H

#include "unit.h"

#include "qdes/fabric-private.h"

#define PORT 20804
#define SECOND 1000000          /* in the time of the simulation */
#define GROUP_FD(i) (2 * (i))
#define UNICAST_FD(i) (2 * (i) + 1)

typedef enum Nat {
    NAT_NONE, NAT_FULL_CONE, NAT_RESTRICTED, NAT_SYMMETRIC
} Nat;

/* What a symmetric NAT shows of a node to one endpoint. */
typedef struct Mapping {
    QdesAddr outside;
    QdesAddr to;
    struct Node *node;
} Mapping;

typedef struct Node {
    unsigned index;
    QdesFabric *fabric;         /* NULL: not there, or killed */
    QdesAddr addr;              /* as others see it */
    QdesAddr inside;            /* as it sees itself */
    QdesNetif netif;
    unsigned island;            /* hears the group of those in it; 0: none */
    unsigned part;              /* reaches those in the same by unicast */
    Nat nat;
    GHashTable *holes;          /* endpoints that it has sent to */
    int64_t timer;              /* ms */
    uint64_t sent, sent_bytes;
    unsigned in_second;         /* datagrams sent in this second */
    int64_t second;
    unsigned most;              /* datagrams sent in any second */
    GHashTable *mappings;       /* endpoint -> Mapping, of a symmetric NAT */
    bool relay;
    unsigned frames;            /* that its port got */
    GByteArray *frame;          /* the last of them */
    unsigned real;              /* its number in a sample */
    struct Extra *extra;        /* it is one of the others there */
} Node;

typedef struct Event {
    int64_t when;               /* us */
    uint64_t order;
    unsigned node;
    uint8_t *data;              /* NULL: its timer */
    size_t size;
    QdesAddr from;
    bool by_group;
    unsigned about;             /* what a timer of an extra is for */
} Event;

typedef struct Sim {
    int64_t now;                /* us */
    uint64_t order;
    GArray *heap;
    GPtrArray *nodes;
    GHashTable *by_addr;
    GHashTable *by_mapping;     /* outside -> Mapping */
    uint16_t next_port;
    GRand *rng;
    const Event *reading;
    bool fuzzed;                /* addresses of nobody are kept count of */
    GHashTable *ledger;         /* address -> bytes that it may be sent */
    unsigned loss;              /* of 1000 datagrams */
    /* What extras do, if there are any. */
    void (*take)(Node *n, const Event *e);
    void (*tend)(Node *n, unsigned about);
} Sim;

extern Sim sim;


void sim_begin(const char *test);
void sim_end(void);

/* Until @until, in us. */
void sim_run(int64_t until);
void sim_push(Event e);
int64_t sim_ms(void);
uint64_t sim_random(void *opaque);

/* Those that are added are numbered; none has a port yet. */
Node *node(unsigned i);
Node *add_node(void);
void put_behind_nat(Node *n, Nat nat);

/* It starts, with @seed listed. */
void start_node(Node *n, const Node *seed);
void stop_node(Node *n);

/* It ends without a word. */
void kill_node(Node *n);

/* All start within a second and know one. */
void start_all(unsigned n);

/* A datagram; @to NULL: to the group. */
int transmit(Node *n, const QdesAddr *to, const void *data, size_t size);

/* Of networks 10 and 192 are nodes. */
QdesAddr addr_of(unsigned net, unsigned i);
guint hash_addr(gconstpointer key);
gboolean same_addr(gconstpointer a, gconstpointer b);

/* Peers of @n that are there for it. */
unsigned n_known(const Node *n);

/* Does every port know @others others?  Then none misses one. */
bool all_know(unsigned others);

/* Returns the us that it took until all knew @others, or -1. */
int64_t wait_known(unsigned others, int64_t limit);
unsigned copies(const Node *n);
uint64_t counter(const Node *n, QdesCounter which);

/* Between two HELLOs, in a fabric of @n. */
int64_t interval_us(unsigned n);

#endif
