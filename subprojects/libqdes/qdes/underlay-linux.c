/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What Linux can do better: a filter in the kernel, ICMP errors with the
 * address they are about, drop counts, and news of changed interfaces.  Each
 * is optional: where the kernel refuses, the fabric works as it does with
 * plain sockets.
 */

#include "qdes/underlay-linux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "qdes/bytes.h"
#include "qdes/encap.h"

#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29   /* Linux 4.20 */
#endif

#define LOOPBACK_INDEX 1        /* of lo, in every network namespace */
#define UDP_HEADER_SIZE 8       /* bytes; a UDP filter starts at the header */

static void set_int(int fd, int level, int option, int value)
{
    setsockopt(fd, level, option, &value, sizeof(value));
}

static void prepare_group(int fd, bool v4)
{
    if (v4) {
        set_int(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
    } else {
        set_int(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
    }
}

static void prepare_unicast(int fd, bool v4, bool v6)
{
    if (v4) {
        /* It may be bound to a port that a group of others has. */
        set_int(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
        set_int(fd, IPPROTO_IP, IP_RECVERR, 1);
        /* A frame too big for some link is cut there, not lost. */
        set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
    }
    if (v6) {
        set_int(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
        set_int(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
    }
}

/*
 * The filter is a list of tests, each of which either goes on or leaves for
 * one of two ends: drop or pass.  Jump distances are filled in at the end.
 */
typedef struct Filter {
    struct sock_filter insn[32];
    unsigned len;
} Filter;

enum { GO_ON, DROP, PASS, SKIP };   /* SKIP + n: over the next n */

static void load(Filter *f, uint16_t code, uint32_t offset)
{
    f->insn[f->len++] = (struct sock_filter) BPF_STMT(BPF_LD | code, offset);
}

static void compute(Filter *f, uint16_t code, uint32_t value)
{
    f->insn[f->len++] = (struct sock_filter) BPF_STMT(BPF_ALU | code | BPF_K,
                                                      value);
}

static void test(Filter *f, uint16_t code, uint32_t value, uint8_t if_true,
                 uint8_t if_false)
{
    f->insn[f->len++] = (struct sock_filter)
        BPF_JUMP(BPF_JMP | code | BPF_K, value, if_true, if_false);
}

/* From number @at to where @way leads; the ends are at @end. */
static uint8_t distance(uint8_t way, unsigned at, unsigned end)
{
    switch (way) {
    case DROP:
        return end - at - 1;
    case PASS:
        return end - at;
    default:
        return way == GO_ON ? 0 : way - SKIP;
    }
}

static void finish(Filter *f)
{
    struct sock_filter *insn;
    unsigned i;

    for (i = 0; i < f->len; i++) {
        insn = &f->insn[i];
        if (BPF_CLASS(insn->code) == BPF_JMP) {
            insn->jt = distance(insn->jt, i, f->len);
            insn->jf = distance(insn->jf, i, f->len);
        }
    }
    f->insn[f->len++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, 0);
    f->insn[f->len++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K,
                                                      UINT32_MAX);
}

/*
 * What is sound but of another network, and what this port sent itself, is
 * dropped here.  What is malformed passes, to be counted.
 */
static void filter_group(int fd, const QdesConfig *config,
                         const QdesAddr *own, unsigned index)
{
    const QdesEncapsulation *encap = config->encap;
    const int payload = UDP_HEADER_SIZE;
    struct sock_fprog prog;
    Filter f = { .len = 0 };
    int i;

    /* Whatever any socket of this host has joined on any interface comes to
     * all of them: IPV6_MULTICAST_ALL tells groups apart, not interfaces. */
    load(&f, BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_IFINDEX);
    test(&f, BPF_JEQ, index, GO_ON, DROP);

    load(&f, BPF_W | BPF_LEN, 0);
    test(&f, BPF_JGE, UDP_HEADER_SIZE + QDES_WIRE_HEADER_SIZE, GO_ON, PASS);
    load(&f, BPF_W | BPF_ABS, payload);
    compute(&f, BPF_AND, encap->head_mask);
    test(&f, BPF_JEQ, encap->head, GO_ON, PASS);
    load(&f, BPF_W | BPF_ABS, payload + 4);
    compute(&f, BPF_RSH, encap->netid_shift);
    for (i = 0; i < (int)config->n_pseudonyms; i++) {
        test(&f, BPF_JEQ, config->pseudonyms[i],
             SKIP + config->n_pseudonyms - i, GO_ON);
    }
    test(&f, BPF_JEQ, config->netid, GO_ON, DROP);

    /* Own: from our port, and looped back by this host. */
    load(&f, BPF_H | BPF_ABS, 0);
    test(&f, BPF_JEQ, own->port, GO_ON, PASS);
    if (!qdes_addr_is_any(own)) {
        /* Another port of this host may have this number on another
         * address: compare the source address in the IP header. */
        for (i = qdes_addr_is_v4(own) ? 12 : 0; i < 16; i += 4) {
            load(&f, BPF_W | BPF_ABS,
                 SKF_NET_OFF + (qdes_addr_is_v4(own) ? 12 : 8 + i));
            test(&f, BPF_JEQ, qdes_get_be32(own->ip + i), GO_ON, PASS);
        }
    }
    load(&f, BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_PKTTYPE);
    test(&f, BPF_JEQ, PACKET_LOOPBACK, DROP, GO_ON);
    /* On lo there is no looping back: it comes in as from outside. */
    load(&f, BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_IFINDEX);
    test(&f, BPF_JEQ, LOOPBACK_INDEX, DROP, PASS);
    finish(&f);
    g_assert(f.len <= G_N_ELEMENTS(f.insn));

    prog.len = f.len;
    prog.filter = f.insn;
    setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
}

/* As connect() finds it: the route's, or what ICMP has told (ip(7)). */
static int path_mtu(const QdesAddr *to)
{
    bool v4 = qdes_addr_is_v4(to);
    struct sockaddr_storage ss;
    socklen_t len = qdes_addr_to_sockaddr(to, &ss);
    int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int mtu = 0;

    if (fd < 0) {
        return 0;
    }
    if (connect(fd, (struct sockaddr *)&ss, len) == 0) {
        len = sizeof(mtu);
        if (getsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6,
                       v4 ? IP_MTU : IPV6_MTU, &mtu, &len) < 0) {
            mtu = 0;
        }
    }
    close(fd);
    return mtu;
}

/* The kernel doubles the value for its own bookkeeping (man 7 socket). */
static int set_buffer(int fd, int option, int bytes)
{
    int force = option == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE;
    socklen_t len = sizeof(bytes);

    if (setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof(bytes)) < 0) {
        setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof(bytes));
    }
    return getsockopt(fd, SOL_SOCKET, option, &bytes, &len) == 0 ? bytes / 2
                                                                 : 0;
}

static bool means_unreachable(const struct sock_extended_err *ee)
{
    return (ee->ee_origin == SO_EE_ORIGIN_ICMP ||
            ee->ee_origin == SO_EE_ORIGIN_ICMP6) &&
           (ee->ee_errno == ECONNREFUSED || ee->ee_errno == EHOSTUNREACH ||
            ee->ee_errno == ENETUNREACH || ee->ee_errno == EHOSTDOWN ||
            ee->ee_errno == ENOPROTOOPT || ee->ee_errno == EACCES);
}

static bool unreachable(int fd, QdesAddr *peer)
{
    union {
        struct cmsghdr align;
        char buf[512];
    } control;
    struct sockaddr_storage ss;
    struct msghdr msg;
    struct cmsghdr *cmsg;
    struct sock_extended_err ee;
    bool found;

    do {
        msg = (struct msghdr) {
            .msg_name = &ss,
            .msg_namelen = sizeof(ss),
            .msg_control = &control,
            .msg_controllen = sizeof(control),
        };
        if (recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
            return false;
        }
        found = false;
        for (cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
            if ((cmsg->cmsg_level == IPPROTO_IP &&
                 cmsg->cmsg_type == IP_RECVERR) ||
                (cmsg->cmsg_level == IPPROTO_IPV6 &&
                 cmsg->cmsg_type == IPV6_RECVERR)) {
                memcpy(&ee, CMSG_DATA(cmsg), sizeof(ee));
                found = means_unreachable(&ee);
            }
        }
    } while (!found || !qdes_addr_from_sockaddr(peer, (struct sockaddr *)&ss));
    return true;
}

static uint32_t drops(int fd)
{
    uint32_t info[SK_MEMINFO_VARS] = { 0 };
    socklen_t len = sizeof(info);

    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) < 0) {
        return 0;
    }
    return info[SK_MEMINFO_DROPS];
}

/* The interface in the answer to a question for a route. */
static int route_index(const struct nlmsghdr *nh, size_t size)
{
    const struct rtmsg *rtm = NLMSG_DATA(nh);
    const struct nlmsgerr *error = NLMSG_DATA(nh);
    const struct rtattr *rta = RTM_RTA(rtm);
    size_t left;
    int index;

    if (!NLMSG_OK(nh, size)) {
        return -1;
    }
    if (nh->nlmsg_type == NLMSG_ERROR) {
        return error->error == -ENETUNREACH || error->error == -EHOSTUNREACH
               ? 0 : -1;
    }
    if (nh->nlmsg_type != RTM_NEWROUTE) {
        return -1;
    }
    if (rtm->rtm_type != RTN_UNICAST && rtm->rtm_type != RTN_LOCAL &&
        rtm->rtm_type != RTN_MULTICAST) {
        return 0;
    }
    left = RTM_PAYLOAD(nh);
    for (; RTA_OK(rta, left); rta = RTA_NEXT(rta, left)) {
        if (rta->rta_type == RTA_OIF && RTA_PAYLOAD(rta) == sizeof(index)) {
            memcpy(&index, RTA_DATA(rta), sizeof(index));
            return index;
        }
    }
    return -1;
}

static int group_route(const QdesAddr *group)
{
    bool v4 = qdes_addr_is_v4(group);
    size_t ip_size = v4 ? 4 : 16;
    struct {
        struct nlmsghdr nh;
        struct rtmsg rtm;
        struct rtattr rta;
        uint8_t ip[16];
    } request = {
        .nh = {
            .nlmsg_len = offsetof(typeof(request), ip) + ip_size,
            .nlmsg_type = RTM_GETROUTE,
            .nlmsg_flags = NLM_F_REQUEST,
        },
        .rtm = {
            .rtm_family = v4 ? AF_INET : AF_INET6,
            .rtm_dst_len = 8 * ip_size,
        },
        .rta = {
            .rta_type = RTA_DST,
            .rta_len = RTA_LENGTH(ip_size),
        },
    };
    union {
        struct nlmsghdr nh;
        char buf[4096];
    } answer;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    int index = -1;
    ssize_t size;

    if (fd < 0) {
        return -1;
    }
    memcpy(request.ip, group->ip + sizeof(group->ip) - ip_size, ip_size);
    if (send(fd, &request, request.nh.nlmsg_len, 0) >= 0) {
        /* The kernel has answered before send() returns. */
        size = recv(fd, &answer, sizeof(answer), MSG_DONTWAIT);
        index = size > 0 ? route_index(&answer.nh, size) : -1;
    }
    close(fd);
    return index;
}

static int monitor_open(void)
{
    struct sockaddr_nl addr = {
        .nl_family = AF_NETLINK,
        .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                     RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
    };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC,
                    NETLINK_ROUTE);

    if (fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Bounded: the fabric looks at the state itself, not at the messages. */
static void monitor_drain(int fd)
{
    char buf[8192];
    int i;

    for (i = 0; i < QDES_BUDGET; i++) {
        if (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) < 0 && errno != ENOBUFS) {
            return;
        }
    }
}

const QdesUnderlayOs qdes_underlay_linux = {
    .prepare_group = prepare_group,
    .prepare_unicast = prepare_unicast,
    .filter_group = filter_group,
    .io_open = qdes_mmsg_open,
    .io_close = qdes_mmsg_close,
    .tell_at = qdes_mmsg_tell_at,
    .put_from = qdes_mmsg_put_from,
    .send = qdes_mmsg_send,
    .receive = qdes_mmsg_receive,
    .path_mtu = path_mtu,
    .set_buffer = set_buffer,
    .unreachable = unreachable,
    .drops = drops,
    .group_route = group_route,
    .monitor_open = monitor_open,
    .monitor_drain = monitor_drain,
};
