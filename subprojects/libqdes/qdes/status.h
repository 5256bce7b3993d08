/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Status: the truth about a port, at one moment
 *
 * A QdesStatus is a snapshot: who the port is, whom it knows, where the MAC
 * addresses are, and every counter.  QMP query-qdes, qdes-tap's JSON and the
 * text for people are all made from it and from nothing else, so they cannot
 * disagree.  The field names below, with '-' for '_', are those of QMP and
 * JSON.
 *
 * A snapshot owns all its memory and is independent of the fabric once it is
 * made.  Peers come in the order of their names and addresses, FDB entries in
 * the order of their MAC addresses.
 */

#ifndef QDES_STATUS_H
#define QDES_STATUS_H

#include "qdes/eth.h"
#include "qdes/fabric.h"

typedef struct QdesStatusPeer {
    char name[QDES_NAME_MAX + 1]; /* empty: not known */
    QdesAddr address;
    bool hello;                 /* state: "alive"; else "heard": frames only,
                                   though its kind says HELLO */
    int64_t last_heard_ms;      /* ago */
    uint32_t macs;              /* FDB entries that point to it */
    bool seed;                  /* the user listed it */
    bool proven;                /* it returned a nonce of ours */
    bool by_group;              /* floods to the group reach it */
    bool copy;                  /* it gets a copy of each flood instead */
    uint32_t rtt_us;            /* smoothed round trip, 0: unknown */
    uint32_t rtt_var_us;        /* its variation */
    uint32_t echo_sent;         /* ECHOs to it, and those without a reply */
    uint32_t echo_lost;
} QdesStatusPeer;

/* A peer that the user listed. */
typedef struct QdesStatusSeed {
    char *spec;                 /* as it was listed */
    const char *state;          /* static: "pending", "resolved", "failing" */
    char *error;                /* NULL: it is not failing */
    int64_t since_ms;           /* in this state, ago */
    size_t n_addresses;
    QdesAddr *addresses;
    uint32_t left_out;          /* addresses that are too many */
} QdesStatusSeed;

/* A port that is there, as peers say, and out of reach. */
typedef struct QdesStatusMissed {
    uint64_t instance;
    QdesAddr address;           /* where it was said to be last */
    bool relayed;               /* by @relay; else nobody is known that could */
    QdesAddr relay;
} QdesStatusMissed;

typedef struct QdesStatusMac {
    uint8_t mac[6];
    bool local;                 /* on this side of the port; no peer then */
    QdesAddr peer;
    bool fixed;                 /* static: a user said so; the next are 0 */
    int64_t age_ms;             /* since it was heard last */
    uint32_t moves;
} QdesStatusMac;

/* How a fabric is sealed; all zero: it is not. */
typedef struct QdesStatusSeal {
    bool sealed;
    const char *cipher;         /* that this port seals with; static */
    uint32_t key_id;
    bool changing;              /* there is an old key, too: */
    uint32_t old_key_id;
    bool flooding_old;          /* floods go by that */
    uint32_t sessions;          /* of peers that are accepted */
    uint32_t pending;           /* that are not accepted yet */
} QdesStatusSeal;

/* Which MAC addresses may be on this side of the port. */
typedef struct QdesStatusPortsec {
    size_t n_macs;
    uint8_t (*macs)[QDES_MAC_SIZE]; /* those that were listed */
    uint32_t max_local_macs;
    uint32_t local_macs;        /* those that are: listed, or heard */
    const char *violation;      /* static: "drop" or "learn-none" */
} QdesStatusPortsec;

typedef struct QdesStatus {
    char name[QDES_NAME_MAX + 1];
    uint32_t netid;
    const char *encap;          /* static */
    QdesAddr local;             /* where peers send unicast to */
    bool has_group;
    QdesAddr group;
    char iface[QDES_IFNAME_SIZE]; /* that has the group; empty: none */
    bool loopback;              /* @iface is loopback for want of a route */
    bool link_up;
    bool paused;                /* the port is full, nothing is read */
    bool vnet_hdr;              /* offloads are agreed on with the port */
    bool gso;                   /* datagrams leave in trains */
    bool blocked_by_loop;       /* the loop guard has blocked the port, as */
    char loop_name[QDES_NAME_MAX + 1]; /* this peer is on the same LAN */
    QdesAddr loop_addr;
    QdesStatusSeal seal;
    QdesStatusPortsec *portsec; /* NULL: any may be */
    size_t n_peers;
    QdesStatusPeer *peers;
    size_t n_seeds;
    QdesStatusSeed *seeds;
    size_t n_missed;
    QdesStatusMissed *missed;
    bool relay;                 /* it relays, for peers that cannot reach */
    uint32_t relay_pairs;       /* each other, so many pairs of them */
    size_t n_macs;
    QdesStatusMac *fdb;
    QdesStats counters;
} QdesStatus;

/* Take a snapshot; the caller frees it with qdes_status_free(). */
QdesStatus *qdes_fabric_status(const QdesFabric *fabric, int64_t now);

void qdes_status_free(QdesStatus *status);

/* "alive" or "heard"; static. */
const char *qdes_status_peer_state(const QdesStatusPeer *peer);

/*
 * For people: several lines, each ending in a newline and beginning with
 * @indent.  Counters that are 0 are left out.  The caller frees it.
 */
char *qdes_status_text(const QdesStatus *status, const char *indent);

#endif
