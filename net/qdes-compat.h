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

/* 10.0 moved this header. */
#if __has_include("system/system.h")
#include "system/system.h"
#else
#include "sysemu/sysemu.h"
#endif

/* An optional string of a QAPI type: up to 7.2 it has a flag beside it. */
#if QEMU_VERSION_MAJOR < 8
#define QDES_QAPI_SET_STR(object, member, value) \
    ((object)->has_##member = true, (object)->member = (value))
#else
#define QDES_QAPI_SET_STR(object, member, value) \
    ((object)->member = (value))
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

#endif
