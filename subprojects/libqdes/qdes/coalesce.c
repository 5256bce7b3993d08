/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Coalescing: a ring of entries, in the order in which they leave.
 *
 * An entry begins with one frame, and is open as long as another one could go
 * on where it ends; of each flow at most one is open, and it is the last of
 * that flow.  A flow is told by its addresses, ports and protocol alone, so
 * that whatever else differs keeps the order, too.
 *
 * Frames are compared with the first one of the entry, where it is; new
 * headers are written only when the entry is to leave.
 */

#include "qdes/coalesce.h"

#include <glib.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

#include "qdes/bytes.h"
#include "qdes/csum.h"
#include "qdes/hash.h"

#define IP4_SIZE 20             /* bytes, without options */
#define IP6_SIZE 40
#define UDP_SIZE 8
#define IP4_DF 0x4000           /* in the 16 bits of flags and offset */

#define TCP_FIN 0x01
#define TCP_PSH 0x08
#define TCP_ACK 0x10
#define TCP_ECE 0x40
#define TCP_CWR 0x80
#define TCP_FLAGS 13            /* offset of the flags in the header */

G_STATIC_ASSERT((QDES_COALESCE_QUEUE & (QDES_COALESCE_QUEUE - 1)) == 0);
G_STATIC_ASSERT(QDES_COALESCE_QUEUE <= 32);

typedef struct Entry {
    const uint8_t *frame;       /* the first */
    QdesPacket packet;          /* where its headers are, if that is known */
    bool partial;               /* only with @packet known */
    bool verified;              /* the checksums of the first are right */
    bool finished;              /* @super is ready to leave */
    uint8_t last_flags;         /* FIN and PSH of the last frame */
    uint16_t gso_size;          /* bytes of payload in the first */
    uint16_t last_id;           /* of the last frame: IPv4 identification */
    uint32_t next_seq;          /* with which TCP would go on */
    uint16_t pseudo_sum;        /* without a length; set when @verified */
    uint16_t ip_sum;            /* IPv4: of what differs between the frames */
    QdesSuperframe super;
    uint8_t headers[QDES_HEADERS_MAX];
} Entry;

struct QdesCoalescer {
    QdesCoalesceFeatures features;
    bool merges;                /* at least one kind of packet */
    unsigned head;              /* slot of the entry to leave first */
    unsigned count;             /* entries, in slots from there on */
    unsigned last;              /* slot that was opened or appended to last */
    uint32_t open;              /* a bit for each slot */
    uint32_t flow[QDES_COALESCE_QUEUE]; /* hashes, of the open slots */
    Entry entry[QDES_COALESCE_QUEUE];
};

QdesCoalescer *qdes_coalescer_new(void)
{
    return g_new0(QdesCoalescer, 1);
}

void qdes_coalescer_free(QdesCoalescer *c)
{
    g_free(c);
}

void qdes_coalesce_set_features(QdesCoalescer *c,
                                const QdesCoalesceFeatures *features)
{
    c->features = *features;
    c->merges = features->tcp4 || features->tcp6 ||
                features->udp4 || features->udp6;
    c->open = 0;
}

static uint32_t flow_hash(const QdesPacket *p, const uint8_t *frame)
{
    const uint8_t *ip = frame + p->l3;
    uint64_t key = qdes_get_be32(frame + p->l4) | (uint64_t)p->proto << 32;

    if (p->v6) {
        key ^= qdes_hash_mix(qdes_get_be64(ip + 8) ^ qdes_get_be64(ip + 24));
        key ^= qdes_hash_mix(qdes_get_be64(ip + 16) + qdes_get_be64(ip + 32));
    } else {
        key ^= qdes_hash_mix(qdes_get_be64(ip + 12));
    }
    return qdes_hash_mix(key) >> 32;
}

static bool is_same_flow(const Entry *e, const QdesPacket *p,
                         const uint8_t *frame)
{
    const QdesPacket *first = &e->packet;

    if (p->v6 != first->v6 || p->proto != first->proto ||
        memcmp(frame + p->l4, e->frame + first->l4, 4) != 0) {
        return false;
    }
    return p->v6 ? memcmp(frame + p->l3 + 8, e->frame + first->l3 + 8, 32) == 0
                 : memcmp(frame + p->l3 + 12, e->frame + first->l3 + 12,
                          8) == 0;
}

/* The slot of the flow's open entry, or -1. */
static int find_open(const QdesCoalescer *c, uint32_t hash,
                     const QdesPacket *p, const uint8_t *frame)
{
    uint32_t set = c->open;
    int slot;

    /* Most frames follow one of their own flow. */
    if ((set >> c->last & 1) && c->flow[c->last] == hash &&
        is_same_flow(&c->entry[c->last], p, frame)) {
        return (int)c->last;
    }
    while (set) {
        slot = ffs((int)set) - 1;
        set &= set - 1;
        if (c->flow[slot] == hash &&
            is_same_flow(&c->entry[slot], p, frame)) {
            return slot;
        }
    }
    return -1;
}

/* Is there nothing in the frame, looked at alone, that would get lost? */
static bool is_mergeable(const QdesCoalesceFeatures *features,
                         const QdesPacket *p, const uint8_t *frame,
                         size_t size, bool partial)
{
    const uint8_t *ip = frame + p->l3;
    const uint8_t *l4 = frame + p->l4;

    if (p->payload == p->end || p->end != size) {
        return false;
    }
    /* No options, no extension headers, no flag but DF. */
    if (p->v6 ? p->l4 != p->l3 + IP6_SIZE
              : p->l4 != p->l3 + IP4_SIZE ||
                (qdes_get_be16(ip + 6) & ~IP4_DF) != 0) {
        return false;
    }
    if (p->proto == IPPROTO_TCP) {
        return (p->v6 ? features->tcp6 : features->tcp4) &&
               (l4[TCP_FLAGS] & ~(TCP_PSH | TCP_FIN | TCP_ECE | TCP_CWR)) ==
               TCP_ACK;
    }
    return (p->v6 ? features->udp6 : features->udp4) &&
           qdes_get_be16(l4 + 4) == p->end - p->l4 &&
           (partial || qdes_get_be16(l4 + 6) != 0);
}

/* May other frames follow a mergeable one? */
static bool may_begin(const QdesCoalesceFeatures *features,
                      const QdesPacket *p, const uint8_t *frame)
{
    uint8_t flags;

    if (p->proto == IPPROTO_UDP) {
        return true;
    }
    flags = frame[p->l4 + TCP_FLAGS];
    return !(flags & (TCP_PSH | TCP_FIN)) &&
           (!(flags & TCP_CWR) || features->ecn);
}

/* Do the headers of a mergeable frame go on where the entry's end? */
static bool goes_on(const Entry *e, const QdesPacket *p, const uint8_t *frame,
                    bool partial)
{
    const QdesPacket *first = &e->packet;
    const uint8_t *ip = frame + p->l3;
    const uint8_t *ip0 = e->frame + p->l3;
    const uint8_t *l4 = frame + p->l4;
    const uint8_t *l40 = e->frame + p->l4;

    if (p->l3 != first->l3 || p->payload != first->payload ||
        partial != e->partial || memcmp(frame, e->frame, p->l3) != 0) {
        return false;
    }
    if (p->v6) {
        /* Version, traffic class and flow label; next header, hop limit. */
        if (memcmp(ip, ip0, 4) != 0 || memcmp(ip + 6, ip0 + 6, 2) != 0) {
            return false;
        }
    } else {
        /* Version and type of service; flags; TTL and protocol. */
        if (memcmp(ip, ip0, 2) != 0 || memcmp(ip + 6, ip0 + 6, 4) != 0) {
            return false;
        }
        if (!(qdes_get_be16(ip + 6) & IP4_DF) &&
            qdes_get_be16(ip + 4) != (uint16_t)(e->last_id + 1)) {
            return false;
        }
    }
    if (p->proto == IPPROTO_UDP) {
        return true;
    }
    /* CWR only in the first; all flags but FIN and PSH as there. */
    if (qdes_get_be32(l4 + 4) != e->next_seq ||
        (l4[TCP_FLAGS] & TCP_CWR) != 0 ||
        ((l4[TCP_FLAGS] ^ l40[TCP_FLAGS]) &
         ~(TCP_FIN | TCP_PSH | TCP_CWR)) != 0) {
        return false;
    }
    /* Acknowledgment and header size; window; urgent pointer and options. */
    return memcmp(l4 + 8, l40 + 8, 5) == 0 &&
           memcmp(l4 + 14, l40 + 14, 2) == 0 &&
           memcmp(l4 + 18, l40 + 18, p->payload - p->l4 - 18) == 0;
}

/* The sum of those fields of an IPv4 header that differ between the frames of
 * an entry: length, identification, checksum. */
static uint16_t ip4_sum(const uint8_t *ip)
{
    return qdes_csum_fold((uint32_t)qdes_get_be16(ip + 2) +
                          qdes_get_be16(ip + 4) + qdes_get_be16(ip + 10));
}

/* Is the TCP or UDP checksum right? */
static bool verify_l4(const Entry *e, const QdesPacket *p,
                      const uint8_t *frame)
{
    size_t l4_size = p->end - p->l4;
    uint32_t sum = e->pseudo_sum + (uint32_t)l4_size;

    if (e->partial) {
        return qdes_get_be16(frame + qdes_packet_csum_field(p)) ==
               qdes_csum_fold(sum);
    }
    return qdes_csum_fold(qdes_csum_add(sum, frame + p->l4, l4_size)) ==
           0xffff;
}

/* Are the checksums of the first frame right? */
static bool verify_first(Entry *e)
{
    const QdesPacket *p = &e->packet;
    const uint8_t *ip = e->frame + p->l3;

    if (!p->v6) {
        if (qdes_csum_fold(qdes_csum_add(0, ip, IP4_SIZE)) != 0xffff) {
            return false;
        }
        e->ip_sum = ip4_sum(ip);
    }
    e->pseudo_sum = qdes_packet_pseudo_sum(p, e->frame, 0);
    e->verified = verify_l4(e, p, e->frame);
    return e->verified;
}

/* Are those of one that goes on there?  The rest of its headers is the same,
 * and was summed up once. */
static bool verify_next(const Entry *e, const QdesPacket *p,
                        const uint8_t *frame)
{
    return (p->v6 || ip4_sum(frame + p->l3) == e->ip_sum) &&
           verify_l4(e, p, frame);
}

static void take_note(Entry *e, const QdesPacket *p, const uint8_t *frame)
{
    if (!p->v6) {
        e->last_id = qdes_get_be16(frame + p->l3 + 4);
    }
    if (p->proto == IPPROTO_TCP) {
        e->next_seq = qdes_get_be32(frame + p->l4 + 4) + p->end - p->payload;
        e->last_flags = frame[p->l4 + TCP_FLAGS] & (TCP_FIN | TCP_PSH);
    }
}

/* Append a mergeable frame of the same flow, if it can be; and close the
 * entry, unless still more can be appended. */
static bool append(QdesCoalescer *c, unsigned slot, const QdesPacket *p,
                   const uint8_t *frame, size_t size, bool partial)
{
    Entry *e = &c->entry[slot];
    QdesSuperframe *super = &e->super;
    size_t payload = p->end - p->payload;

    c->open &= ~(1U << slot);
    if (payload > e->gso_size || super->size + payload > QDES_COALESCE_MAX ||
        !goes_on(e, p, frame, partial)) {
        return false;
    }
    if ((!e->verified && !verify_first(e)) || !verify_next(e, p, frame)) {
        return false;
    }
    if (super->frames == 1) {
        super->iov[1] = (struct iovec) { e->headers, p->payload };
        super->iov[2] = (struct iovec) { (uint8_t *)e->frame + p->payload,
                                         e->gso_size };
        super->iovcnt = 3;
    }
    super->iov[super->iovcnt++] =
        (struct iovec) { (uint8_t *)frame + p->payload, payload };
    super->frames++;
    super->size += payload;
    super->frame_bytes += size;
    take_note(e, p, frame);
    if (payload == e->gso_size && !e->last_flags &&
        super->frames < QDES_COALESCE_FRAMES) {
        c->open |= 1U << slot;
        c->last = slot;
    }
    return true;
}

/* The next entry of the ring, made of one frame. */
static Entry *begin_entry(QdesCoalescer *c, const uint8_t *frame, size_t size,
                          size_t headroom)
{
    Entry *e = &c->entry[(c->head + c->count++) % QDES_COALESCE_QUEUE];

    e->frame = frame;
    e->verified = false;
    e->finished = false;
    e->last_flags = 0;
    e->super.frames = 1;
    e->super.size = size;
    e->super.frame_bytes = size;
    e->super.headroom = headroom;
    e->super.iovcnt = 2;
    e->super.iov[0] = (struct iovec) { NULL, 0 };
    e->super.iov[1] = (struct iovec) { (uint8_t *)frame, size };
    return e;
}

QdesCoalesceResult qdes_coalesce_add_whole(QdesCoalescer *c,
                                           const uint8_t *frame, size_t size,
                                           const QdesVnet *vnet, bool v6,
                                           size_t headroom)
{
    Entry *e;

    if (c->count == QDES_COALESCE_QUEUE) {
        return QDES_COALESCE_FULL;
    }
    /* Nothing that comes later may leave as a part of what came before. */
    c->open = 0;
    e = begin_entry(c, frame, size, headroom);
    e->super.vnet = *vnet;
    e->super.v6 = v6;
    e->finished = true;
    return QDES_COALESCE_TAKEN;
}

QdesCoalesceResult qdes_coalesce_add(QdesCoalescer *c, const uint8_t *frame,
                                     size_t size, bool partial,
                                     size_t headroom)
{
    QdesPacket packet;
    bool known = false;
    bool mergeable = false;
    uint32_t hash = 0;
    unsigned slot;
    int found;
    Entry *e;

    if (c->merges || partial) {
        known = qdes_packet_find(&packet, frame, size, size, false);
    }
    if (known) {
        mergeable = is_mergeable(&c->features, &packet, frame, size, partial);
        if (mergeable || c->open) {
            hash = flow_hash(&packet, frame);
            found = find_open(c, hash, &packet, frame);
            if (found >= 0 && !mergeable) {
                c->open &= ~(1U << found);
            } else if (found >= 0 && append(c, found, &packet, frame, size,
                                            partial)) {
                return QDES_COALESCE_TAKEN;
            }
        }
    } else if (partial) {
        return QDES_COALESCE_BAD;
    } else {
        c->open = 0;
    }

    if (c->count == QDES_COALESCE_QUEUE) {
        return QDES_COALESCE_FULL;
    }
    slot = (c->head + c->count) % QDES_COALESCE_QUEUE;
    e = begin_entry(c, frame, size, headroom);
    e->partial = partial;
    if (known) {
        e->packet = packet;
    }
    if (mergeable && may_begin(&c->features, &packet, frame)) {
        e->gso_size = packet.end - packet.payload;
        take_note(e, &packet, frame);
        c->flow[slot] = hash;
        c->open |= 1U << slot;
        c->last = slot;
    }
    return QDES_COALESCE_TAKEN;
}

/* One frame, as it came. */
static void finish_frame(Entry *e)
{
    const QdesPacket *p = &e->packet;
    QdesSuperframe *super = &e->super;
    uint16_t field;
    uint64_t sum;

    super->vnet = (QdesVnet) { 0 };
    if (!e->partial) {
        return;
    }
    field = qdes_packet_csum_field(p);
    if (p->end == super->size) {
        super->vnet.needs_csum = true;
        super->vnet.csum_start = p->l4;
        super->vnet.csum_offset = field - p->l4;
        super->vnet.hdr_len = p->payload;
        return;
    }
    /* The receiver would sum up to the end of the frame, padding included:
     * it gets headers with the checksum finished. */
    sum = qdes_csum_add(0, e->frame + p->l4, p->end - p->l4);
    memcpy(e->headers, e->frame, p->payload);
    qdes_put_be16(e->headers + field, qdes_csum_finish(sum));
    super->iov[1] = (struct iovec) { e->headers, p->payload };
    super->iov[2] = (struct iovec) { (uint8_t *)e->frame + p->payload,
                                     super->size - p->payload };
    super->iovcnt = 3;
}

/* Several frames as one: the headers of the first, with the lengths of all
 * and the flags of the last. */
static void finish_superframe(Entry *e)
{
    const QdesPacket *p = &e->packet;
    QdesSuperframe *super = &e->super;
    uint8_t *ip = e->headers + p->l3;
    uint8_t *l4 = e->headers + p->l4;
    size_t l4_size = super->size - p->l4;
    uint16_t field = qdes_packet_csum_field(p);

    memcpy(e->headers, e->frame, p->payload);
    super->v6 = p->v6;
    super->vnet = (QdesVnet) {
        .needs_csum = true,
        .gso_size = e->gso_size,
        .csum_start = p->l4,
        .csum_offset = field - p->l4,
        .hdr_len = p->payload,
    };
    if (p->v6) {
        qdes_put_be16(ip + 4, l4_size);
    } else {
        qdes_put_be16(ip + 2, IP4_SIZE + l4_size);
        qdes_put_be16(ip + 10, 0);
        qdes_put_be16(ip + 10, ~qdes_csum_fold(qdes_csum_add(0, ip,
                                                             IP4_SIZE)));
    }
    if (p->proto == IPPROTO_TCP) {
        super->vnet.gso = p->v6 ? QDES_GSO_TCP6 : QDES_GSO_TCP4;
        super->vnet.ecn = (l4[TCP_FLAGS] & TCP_CWR) != 0;
        l4[TCP_FLAGS] |= e->last_flags;
    } else {
        super->vnet.gso = QDES_GSO_UDP;
        qdes_put_be16(l4 + 4, l4_size);
    }
    qdes_put_be16(e->headers + field,
                  qdes_packet_pseudo_sum(p, e->headers, l4_size));
}

QdesSuperframe *qdes_coalesce_first(QdesCoalescer *c)
{
    Entry *e = &c->entry[c->head];

    if (c->count == 0) {
        return NULL;
    }
    if (!e->finished) {
        e->finished = true;
        c->open &= ~(1U << c->head);
        if (e->super.frames > 1) {
            finish_superframe(e);
        } else {
            finish_frame(e);
        }
    }
    return &e->super;
}

void qdes_coalesce_pop(QdesCoalescer *c)
{
    g_return_if_fail(c->count > 0);
    c->open &= ~(1U << c->head);
    c->head = (c->head + 1) % QDES_COALESCE_QUEUE;
    c->count--;
}
