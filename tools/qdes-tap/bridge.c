/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bridge.h"

#include <glib.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINK_ROOM 32768         /* bytes: all that the kernel tells of a link */

/* The attribute @type of those in @size bytes, or NULL. */
static const struct rtattr *find(const struct rtattr *attr, size_t size,
                                 unsigned type)
{
    for (; RTA_OK(attr, size); attr = RTA_NEXT(attr, size)) {
        if ((attr->rta_type & NLA_TYPE_MASK) == type) {
            return attr;
        }
    }
    return NULL;
}

static const struct rtattr *find_in(const struct rtattr *nest, unsigned type)
{
    return nest ? find(RTA_DATA(nest), RTA_PAYLOAD(nest), type) : NULL;
}

/* What the kernel tells of an interface, its attribute @type; NULL: none. */
static const struct rtattr *ask(int fd, unsigned index, unsigned type,
                                void *room)
{
    struct {
        struct nlmsghdr header;
        struct ifinfomsg info;
    } request = {
        .header = {
            .nlmsg_len = sizeof(request),
            .nlmsg_type = RTM_GETLINK,
            .nlmsg_flags = NLM_F_REQUEST,
        },
        .info = { .ifi_index = index },
    };
    const struct nlmsghdr *reply = room;
    ssize_t size;

    if (send(fd, &request, sizeof(request), 0) < 0) {
        return NULL;
    }
    /* the kernel has answered by now */
    size = recv(fd, room, LINK_ROOM, MSG_DONTWAIT);
    if (size < (ssize_t)NLMSG_LENGTH(sizeof(struct ifinfomsg)) ||
        !NLMSG_OK(reply, (size_t)size) || reply->nlmsg_type != RTM_NEWLINK) {
        return NULL;
    }
    return find(IFLA_RTA(NLMSG_DATA(reply)), IFLA_PAYLOAD(reply), type);
}

static bool get_u32(const struct rtattr *attr, uint32_t *value)
{
    if (!attr || RTA_PAYLOAD(attr) < sizeof(*value)) {
        return false;
    }
    memcpy(value, RTA_DATA(attr), sizeof(*value));
    return true;
}

bool bridge_passes_at_once(unsigned index)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    void *room = g_malloc(LINK_ROOM);
    const struct rtattr *link, *kind, *data;
    uint32_t master;
    uint32_t stp = 1;

    if (fd >= 0 && get_u32(ask(fd, index, IFLA_MASTER, room), &master)) {
        link = ask(fd, master, IFLA_LINKINFO, room);
        kind = find_in(link, IFLA_INFO_KIND);
        data = find_in(link, IFLA_INFO_DATA);
        if (kind && RTA_PAYLOAD(kind) == sizeof("bridge") &&
            memcmp(RTA_DATA(kind), "bridge", sizeof("bridge")) == 0) {
            get_u32(find_in(data, IFLA_BR_STP_STATE), &stp);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    g_free(room);
    return stp == 0;
}
