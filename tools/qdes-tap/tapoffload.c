/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tapoffload.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include "qdes/vnet.h"

/* Linux 6.2; headers of distributions are older */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#endif
#ifndef TUN_F_USO6
#define TUN_F_USO6 0x40
#endif

#define TSO (TUN_F_TSO4 | TUN_F_TSO6)
#define USO (TUN_F_USO4 | TUN_F_USO6)

/* Best first; an unknown bit makes the kernel refuse all. */
static const unsigned ladder[] = {
    TUN_F_CSUM | TSO | TUN_F_TSO_ECN | USO,
    TUN_F_CSUM | TSO | TUN_F_TSO_ECN,
    TUN_F_CSUM | TSO,
    TUN_F_CSUM,
    0,
};

/* Any header does that libqdes can read: each begins with the same bytes. */
static bool agree_on_form(QdesPort *port, int fd, bool shared, TapIoctl *call)
{
    bool big_endian = G_BYTE_ORDER == G_BIG_ENDIAN;
    int size = QDES_VNET_MIN;
    int little = !big_endian;

    /* the kernels that do not know these have this size and order only */
    if (!shared) {
        call(fd, TUNSETVNETHDRSZ, (uintptr_t)&size);
        call(fd, TUNSETVNETLE, (uintptr_t)&little);
    }
    if (call(fd, TUNGETVNETHDRSZ, (uintptr_t)&size) < 0) {
        size = QDES_VNET_MIN;
    }
    if (call(fd, TUNGETVNETLE, (uintptr_t)&little) == 0 && little) {
        big_endian = false;
    }
    *port = (QdesPort) { .vnet_size = 0 };
    if (size < QDES_VNET_MIN || size > QDES_VNET_MAX) {
        return false;
    }
    port->vnet_size = size;
    port->vnet_big_endian = big_endian;
    return true;
}

bool tap_offload_begin(QdesPort *port, int fd, bool shared, TapIoctl *call)
{
    size_t i;

    if (!agree_on_form(port, fd, shared, call)) {
        return false;
    }
    for (i = 0; !shared && i < G_N_ELEMENTS(ladder); i++) {
        if (call(fd, TUNSETOFFLOAD, ladder[i]) == 0) {
            port->csum = ladder[i] & TUN_F_CSUM;
            port->tso4 = ladder[i] & TUN_F_TSO4;
            port->tso6 = ladder[i] & TUN_F_TSO6;
            port->ecn = ladder[i] & TUN_F_TSO_ECN;
            port->uso4 = ladder[i] & TUN_F_USO4;
            port->uso6 = ladder[i] & TUN_F_USO6;
            break;
        }
    }
    return true;
}

bool tap_offload_end(int fd, TapIoctl *call)
{
    return call(fd, TUNSETOFFLOAD, 0) == 0;
}

bool tap_offload_refused(QdesPort *port, const uint8_t *vnet, int err)
{
    QdesVnet header;

    /*
     * TCP's superframes every kernel takes that has a header at all.  UDP's
     * are newer, and some kernels are stricter about them than others.
     */
    qdes_vnet_decode(&header, vnet, port->vnet_big_endian);
    if (err != EINVAL || header.gso != QDES_GSO_UDP ||
        !(port->uso4 || port->uso6)) {
        return false;
    }
    port->uso4 = false;
    port->uso6 = false;
    return true;
}
