/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Options of a port, what they mean, and the limits that every port has
 *
 * A front end (-netdev qdes, qdes-tap) fills a QdesOptions with what its user
 * wrote; qdes_config_init() checks the whole of it and makes the QdesConfig
 * that a fabric takes.  So both front ends have the same options, defaults,
 * limits and error texts.  Every error names the option, the value and what
 * would be right.
 *
 * Options are borrowed during the call; a QdesConfig is a plain value that
 * owns nothing: its @peers and secrets are those of the options, and have to
 * be there until a fabric is made of it, which keeps no secret but only keys.
 * Besides asking the system for the interface
 * that iface= (or the scope of an address) names, nothing is looked up.
 */

#ifndef QDES_CONFIG_H
#define QDES_CONFIG_H

#include "qdes/resolve.h"
#include "qdes/sealkey.h"

typedef struct QdesEncapsulation QdesEncapsulation;

#define QDES_DEFAULT_GROUP "239.192.81.68"  /* RFC 2365: organization-local */
#define QDES_DEFAULT_PORT 20804             /* 0x5144, "QD" */
#define QDES_DEFAULT_TTL 1                  /* hops */
#define QDES_DEFAULT_AGEING 300             /* seconds, IEEE 802.1Q 8.8.3 */
#define QDES_MIN_AGEING 10                  /* seconds, IEEE 802.1Q 8.8.3 */
#define QDES_MAX_AGEING 1000000             /* seconds, IEEE 802.1Q 8.8.3 */
#define QDES_DEFAULT_STORM 100000           /* flooded frames per second */
#define QDES_DEFAULT_MAX_MACS 32768         /* entries: two of each peer */
#define QDES_MAX_MAX_MACS 1048576           /* entries */
#define QDES_MAX_PEERS 16384                /* peers */
#define QDES_FRAME_MIN 14       /* bytes: two addresses and a type */
#define QDES_FRAME_MAX 65499    /* bytes: 65535 less IPv4, UDP, our headers */
#define QDES_HELLO_MS 10000     /* from one HELLO to the next */
#define QDES_HOLD_MS 30000      /* a peer that stays silent so long is gone */
#define QDES_NAME_MAX 63                    /* bytes of UTF-8 */
#define QDES_MIN_SOCKBUF 4096               /* bytes */
#define QDES_MAX_SOCKBUF (1 << 30)          /* bytes */
#define QDES_IFNAME_SIZE 16                 /* bytes, IFNAMSIZ */
#define QDES_PSEUDONYMS_MAX 3               /* of a network, at once */

/* Bytes that nobody else is to know.  NULL: there are none. */
typedef struct QdesSecret {
    const void *data;
    size_t size;                /* QDES_SECRET_MIN to QDES_SECRET_MAX; one
                                   newline at the end does not count */
    const char *name;           /* what the user calls it, for messages; or
                                   NULL */
} QdesSecret;

/* What the user wrote.  NULL, or a has_ that is false: the default. */
typedef struct QdesOptions {
    const char *mcast;          /* ADDR[:PORT], or "off" */
    const char *const *peers;   /* HOST[:PORT] each */
    size_t n_peers;
    const char *localaddr;      /* ADDR[:PORT] */
    const char *iface;          /* name of an interface */
    const char *encap;          /* "qdes", "vxlan" or "vxvde" */
    const char *name;           /* how peers' tables show this port */
    const char *unknown_unicast; /* "flood" or "drop" */
    const char *storm_control;  /* frames per second, or "off" */
    const char *const *macs;    /* MAC addresses on this side of the port */
    size_t n_macs;
    const char *mac_violation;  /* "drop" or "learn-none" */
    bool has_netid, has_ttl, has_ageing, has_max_macs, has_learning;
    bool has_sndbuf, has_rcvbuf, has_mss_clamp, has_vnet_hdr, has_gso;
    bool has_superframes, has_loop_guard, has_relay, has_max_local_macs;
    int64_t netid;              /* 0 to 4294967295; VXLAN: to 16777215 */
    int64_t ttl;                /* hops, 1 to 255 */
    int64_t ageing;             /* seconds */
    int64_t max_macs;           /* entries */
    int64_t max_local_macs;     /* MAC addresses on this side, @macs too */
    bool learning;
    int64_t sndbuf, rcvbuf;     /* bytes of the sockets' buffers */
    bool mss_clamp;             /* fit TCP's segments to the path */
    bool vnet_hdr;              /* let the front end offer offloads */
    bool gso;                   /* use UDP_SEGMENT and UDP_GRO */
    bool superframes;           /* as one datagram, where the path has room */
    bool loop_guard;            /* look for other ways into the fabric */
    bool default_loop_guard;    /* taken when there is no @loop_guard */
    bool relay;                 /* between those that do not reach each other */
    const char *default_name;   /* taken when @name is NULL */
    QdesSecret secret;          /* seals the fabric */
    QdesSecret secret_old;      /* the one before, while keys are changed */
    const char *cipher;         /* "auto", or one that it sends by */
} QdesOptions;

/* What it means. */
typedef struct QdesConfig {
    const QdesEncapsulation *encap;
    QdesAddr group;             /* with its port; the scope is not used.  The
                                   wildcard where there is none */
    const char *const *peers;   /* those of the options, not a copy */
    size_t n_peers;
    QdesAddr local;             /* any: let the kernel choose; port 0: any */
    char iface[QDES_IFNAME_SIZE]; /* empty: by local address or by route */
    uint32_t netid;
    uint8_t ttl;
    bool has_group;
    bool dual;                  /* unicast by IPv4 and IPv6, @local is :: */
    char name[QDES_NAME_MAX + 1];
    int64_t ageing_ms;
    uint32_t max_macs;
    bool learning;
    bool flood_unknown;
    uint32_t storm;             /* flooded frames per second, 0: no limit */
    bool loop_guard;
    bool relay;
    const char *const *macs;    /* those of the options, not a copy; a fabric
                                   takes them, and has none here */
    size_t n_macs;
    uint32_t max_local_macs;    /* 0: no limit, or @macs alone */
    bool learn_none;            /* violations pass, but are not learned */
    int sndbuf, rcvbuf;         /* bytes, 0: the system's default */
    bool mss_clamp;
    bool vnet_hdr;              /* for the front end */
    bool gso;
    bool superframes;           /* only where the encapsulation has them */
    QdesLookup *lookup;         /* of peers' names, NULL: the system's */
    void *lookup_opaque;
    bool plain_io;              /* none of the host's own socket extras */
    QdesSecret secret, secret_old;
    QdesSealChoice cipher;
    QdesSealLimits seal_limits; /* 0 each: those of the protocol */
    uint32_t pseudonyms[QDES_PSEUDONYMS_MAX]; /* for the kernel's filter */
    unsigned n_pseudonyms;
} QdesConfig;

/*
 * Check @options and fill @config.  On error, returns false with one message
 * in @errp and leaves @config undefined.
 */
bool qdes_config_init(QdesConfig *config, const QdesOptions *options,
                      GError **errp);

/* Check the secrets of a fabric, and cut off a newline. */
bool qdes_config_check_secrets(QdesSecret *secret, QdesSecret *secret_old,
                               GError **errp);

/* Parse what lists a peer, and check that one can be there. */
bool qdes_config_parse_peer(const QdesConfig *config, QdesSeedSpec *spec,
                            const char *text, GError **errp);

/*
 * Can others than this host read what the port sends, or forge what it gets?
 * Whatever is unsealed, unless it is bound to a loopback address.
 */
bool qdes_config_is_exposed(const QdesConfig *config);

/* Is @addr of a family that the port sends unicast by? */
bool qdes_config_reaches(const QdesConfig *config, const QdesAddr *addr);

/* The error domain of libqdes; the messages carry all there is to say. */
#define QDES_ERROR (qdes_error_quark())
typedef enum QdesErrorCode {
    QDES_ERROR_OPTION,          /* an option's value */
    QDES_ERROR_SYSTEM,          /* the system refused */
} QdesErrorCode;
GQuark qdes_error_quark(void);

#endif
