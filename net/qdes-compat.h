/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What differs between the versions of QEMU that -netdev qdes builds in
 *
 * From QEMU 7.2 on.  All differences are here, none elsewhere as an #if; a
 * tree that carries the backend itself needs the newest branch of each alone.
 */

#ifndef NET_QDES_COMPAT_H
#define NET_QDES_COMPAT_H

#include "net/net.h"
#include "standard-headers/linux/virtio_net.h"

/* 10.0 moved this header. */
#if __has_include("system/system.h")
#include "system/system.h"
#else
#include "sysemu/sysemu.h"
#endif

#define QDES_QEMU_SINCE(major, minor)                                   \
    (QEMU_VERSION_MAJOR > (major) ||                                    \
     (QEMU_VERSION_MAJOR == (major) && QEMU_VERSION_MINOR >= (minor)))

/* An optional string or struct of a QAPI type, or string as argument of a
 * command: up to 7.2 it has a flag beside it. */
#if !QDES_QEMU_SINCE(8, 0)
#define QDES_QAPI_SET(object, member, value) \
    ((object)->has_##member = true, (object)->member = (value))
#define QDES_QAPI_OPTIONAL_STR(name) bool has_##name, const char *name
#else
#define QDES_QAPI_SET(object, member, value) \
    ((object)->member = (value))
#define QDES_QAPI_OPTIONAL_STR(name) const char *name
#endif

/*
 * Was @nc deleted by the user?  A netdev that a NIC uses lives on until the
 * NIC goes.  QEMU 7.2 cleans it up at once, 10.0 does not and does not tell
 * it either, but marks the NIC in both.
 */
static inline bool qdes_compat_is_deleted(NetClientState *nc)
{
    return nc->peer && nc->peer->info->type == NET_CLIENT_DRIVER_NIC &&
           qemu_get_nic(nc->peer)->peer_deleted;
}

/*
 * Offloads: has_uso and set_offload are written for the newest version.
 * QDES_COMPAT_OFFLOADS() defines what older ones call instead, and
 * QDES_COMPAT_OFFLOAD_HOOKS() is their part of the NetClientInfo.
 *
 * 10.2 gathers the arguments of set_offload in a struct; 8.2 added USO.
 */
#if QDES_QEMU_SINCE(10, 2)

#define QDES_COMPAT_OFFLOADS(set_offload_)
#define QDES_COMPAT_OFFLOAD_HOOKS(has_uso_, set_offload_)               \
    .has_uso = has_uso_,                                                \
    .set_offload = set_offload_,

#else

typedef struct NetOffloads {
    bool csum, tso4, tso6, ecn, ufo, uso4, uso6;
} NetOffloads;

#if QDES_QEMU_SINCE(8, 2)
#define QDES_COMPAT_OFFLOADS(set_offload_)                              \
    static void set_offload_##_old(NetClientState *nc, int csum,        \
                                   int tso4, int tso6, int ecn,         \
                                   int ufo, int uso4, int uso6)         \
    {                                                                   \
        NetOffloads ol = { csum, tso4, tso6, ecn, ufo, uso4, uso6 };    \
                                                                        \
        set_offload_(nc, &ol);                                          \
    }
#define QDES_COMPAT_USO(has_uso_) .has_uso = has_uso_,
#else
#define QDES_COMPAT_OFFLOADS(set_offload_)                              \
    static void set_offload_##_old(NetClientState *nc, int csum,        \
                                   int tso4, int tso6, int ecn, int ufo) \
    {                                                                   \
        NetOffloads ol = { csum, tso4, tso6, ecn, ufo, false, false };  \
                                                                        \
        set_offload_(nc, &ol);                                          \
    }
#define QDES_COMPAT_USO(has_uso_)
#endif

/* From 8.0 to 9.0, it is the backend that is asked what was agreed on. */
#if QDES_QEMU_SINCE(8, 0) && !QDES_QEMU_SINCE(9, 1)
static inline int qdes_compat_get_vnet_hdr_len(NetClientState *nc)
{
    return nc->vnet_hdr_len;
}

static inline bool qdes_compat_get_using_vnet_hdr(NetClientState *nc)
{
    return nc->vnet_hdr_len;
}

#define QDES_COMPAT_GET                                                 \
    .get_vnet_hdr_len = qdes_compat_get_vnet_hdr_len,                   \
    .get_using_vnet_hdr = qdes_compat_get_using_vnet_hdr,
#else
#define QDES_COMPAT_GET
#endif

/*
 * A NIC's announcement comes without a virtio_net_hdr, also when all its
 * frames have one.  From 9.1 on, the network layer adds it.
 */
#if !QDES_QEMU_SINCE(9, 1)
static inline ssize_t qdes_compat_receive_raw(NetClientState *nc,
                                              const uint8_t *buf, size_t size)
{
    struct virtio_net_hdr_v1_hash none = { };
    struct iovec iov[] = {
        { .iov_base = &none, .iov_len = nc->vnet_hdr_len },
        { .iov_base = (void *)buf, .iov_len = size },
    };

    return nc->info->receive_iov(nc, iov, ARRAY_SIZE(iov));
}

#define QDES_COMPAT_RAW .receive_raw = qdes_compat_receive_raw,
#else
#define QDES_COMPAT_RAW
#endif

#define QDES_COMPAT_OFFLOAD_HOOKS(has_uso_, set_offload_)               \
    .set_offload = set_offload_##_old,                                  \
    QDES_COMPAT_USO(has_uso_)                                           \
    QDES_COMPAT_GET                                                     \
    QDES_COMPAT_RAW

#endif

#endif
