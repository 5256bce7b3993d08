/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Relaying: frames of one peer are sent on to others that asked for them.
 *
 *   receive.c -> qdes_fabric_relay() -> pass_on(), to each of them
 *             -> qdes_fabric_send_on(), the way out of the port's own frames
 *
 * What was relayed says so, and is never relayed again: so there is no loop,
 * and both ends have to reach the same relay.
 */

#include "qdes/fabric-private.h"

#include <string.h>

#include "qdes/bytes.h"
#include "qdes/eth.h"
#include "qdes/packet.h"

bool qdes_fabric_relays(const QdesFabric *f)
{
    return f->relay && f->link_up && !f->loop.blocked;
}

/* Of several endpoints of one instance, the one that asked last counts: it
 * is to get each frame once. */
static void forget_others(QdesFabric *f, uint32_t slot)
{
    uint32_t other = QDES_PEER_NONE;

    while ((other = qdes_peers_next_same(f->peers, slot, other)) !=
           QDES_PEER_NONE) {
        qdes_relay_forget(f->relay, other);
    }
}

void qdes_fabric_take_relay_for(QdesFabric *f, uint32_t slot,
                                const QdesWireHello *hello, int64_t now)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, slot);
    uint64_t instances[QDES_WIRE_RELAY_MAX];
    unsigned i;

    if (!f->relay || !peer->proven) {
        QDES_COUNT_ADD(&f->stats, relay_refused, hello->n_relay_for);
        return;
    }
    if (hello->n_relay_for) {
        forget_others(f, slot);
    }
    for (i = 0; i < hello->n_relay_for; i++) {
        instances[i] = qdes_get_be64(hello->relay_for + 8 * i);
    }
    QDES_COUNT_ADD(&f->stats, relay_refused,
                   qdes_relay_ask(f->relay, slot, instances,
                                  hello->n_relay_for, now + peer->hold_ms,
                                  now));
}

/* A frame that is to be sent on. */
typedef struct Passing {
    QdesVnet vnet;
    uint8_t *data;
    size_t size;
    uint64_t source;            /* the instance that it came from */
} Passing;

/* What the frame lacks.  Returns false where it is not what it claims to be,
 * which is for the port to count. */
static bool describe(QdesVnet *vnet, const uint8_t *data, size_t size,
                     const QdesWireHeader *header, uint16_t segment_size)
{
    QdesPacket packet;
    bool v6;

    if (header->superframe) {
        return qdes_segment_describe(vnet, &v6, data, size, segment_size);
    }
    *vnet = (QdesVnet) { .needs_csum = header->csum_partial };
    if (!header->csum_partial) {
        return true;
    }
    if (!qdes_packet_find(&packet, data, size, size, false)) {
        return false;
    }
    vnet->csum_start = packet.l4;
    vnet->csum_offset = qdes_packet_csum_field(&packet) - packet.l4;
    return true;
}

static bool can_have(const QdesFabric *f, uint32_t asker,
                     const Passing *passing)
{
    const QdesPeer *peer = qdes_peers_get(f->peers, asker);

    return peer->proven && peer->alive && peer->instance != passing->source;
}

/* To all that asked.  When sending shows that one is gone, the rest is not
 * known any more, and loses this one frame. */
static void flood(QdesFabric *f, const Passing *passing, int64_t now)
{
    uint32_t changes = qdes_relay_changes(f->relay);
    uint32_t asker, at = 0;

    while (changes == qdes_relay_changes(f->relay) &&
           (asker = qdes_relay_next(f->relay, passing->source, &at, now)) !=
           QDES_RELAY_NOBODY) {
        if (!can_have(f, asker, passing)) {
            continue;
        }
        if (!qdes_storm_allows(&f->relay_storm, now)) {
            QDES_COUNT(&f->stats, relay_drop_storm);
            continue;
        }
        qdes_storm_charge(&f->relay_storm, 1);
        qdes_fabric_send_on(f, asker, &passing->vnet, passing->data,
                            passing->size, now);
    }
}

/* To the one that has the frame's destination, by whichever endpoint it
 * asked.  Returns false when it did not. */
static bool pass_on(QdesFabric *f, const Passing *passing, uint32_t owner,
                    int64_t now)
{
    uint64_t instance = qdes_peers_get(f->peers, owner)->instance;
    uint32_t asker, at = 0;

    while ((asker = qdes_relay_next(f->relay, passing->source, &at, now)) !=
           QDES_RELAY_NOBODY) {
        if (can_have(f, asker, passing) &&
            qdes_peers_get(f->peers, asker)->instance == instance) {
            qdes_fabric_send_on(f, asker, &passing->vnet, passing->data,
                                passing->size, now);
            return true;
        }
    }
    return false;
}

bool qdes_fabric_relay(QdesFabric *f, uint32_t slot, uint8_t *data,
                       size_t size, const QdesWireHeader *header,
                       uint16_t segment_size, int64_t now)
{
    const QdesPeer *sender = qdes_peers_get(f->peers, slot);
    Passing passing = {
        .data = data, .size = size, .source = sender->instance,
    };
    uint32_t owner, at = 0;

    if (!qdes_fabric_relays(f) || !sender->proven || !sender->alive ||
        qdes_relay_next(f->relay, sender->instance, &at, now) ==
        QDES_RELAY_NOBODY ||
        !describe(&passing.vnet, data, size, header, segment_size)) {
        return true;
    }
    if (qdes_mac_is_group(data) ||
        !qdes_fabric_find_owner(f, data, now, &owner)) {
        flood(f, &passing, now);
        return true;
    }
    return owner == QDES_FDB_LOCAL || !pass_on(f, &passing, owner, now);
}
