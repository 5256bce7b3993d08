/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Interfaces: which one has the group, and which addresses are ours
 *
 * The interface of the group is, in this order: the one that iface= names;
 * the one that owns the address of localaddr=; the one to which the route for
 * the group points; and where there is no such route, loopback, so that the
 * ports of one host still meet.  (Not so for IPv6: Linux carries no IPv6
 * multicast on loopback unless root adds a local route for the group.)
 *
 * Where there is no group, it is the one that owns the local address, if that
 * is not the wildcard.
 *
 * A socket that is connected to the group tells the address that its route
 * gives; the interface is the one that has this address.  That is wrong where
 * several have it, or where a host has one address, on loopback, for all its
 * interfaces; so a system that tells the route itself is believed first.
 *
 * Asks the system anew at each call and keeps nothing; portable.
 */

#ifndef QDES_NETIF_H
#define QDES_NETIF_H

#include "qdes/config.h"

typedef struct QdesNetif {
    unsigned index;             /* 0: there is none */
    char name[QDES_IFNAME_SIZE];
    bool fallback;              /* loopback, for want of a route */
    QdesAddr addr;              /* that the group sees, or the wildcard */
    int mtu;                    /* bytes; 0: not known */
} QdesNetif;

/*
 * The interface of the group, as things are now.  @route is the index of the
 * interface to which the route for the group leads, 0: there is none, -1: not
 * known.  @own is filled with all IP addresses of this host (QdesAddr, port
 * 1 if its interface is running, else 0).  Returns false when the system does
 * not tell, as it has no descriptor or memory left: then neither means much.
 */
bool qdes_netif_find(QdesNetif *netif, const QdesConfig *config, int route,
                     GArray *own);

/* The same interface and address?  The MTU may differ. */
bool qdes_netif_equal(const QdesNetif *a, const QdesNetif *b);

#endif
