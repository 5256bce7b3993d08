/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Detours: ports that are there and out of reach, and who relays for each
 *
 * An instance that peers tell of and that answers no ECHO is missed.  Of the
 * peers that relay, those that tell of it know it, so that they can: the one
 * with the highest score is chosen.  The score is of all three and the same
 * from both ends, which therefore choose the same relay as soon as both were
 * told by it, and different pairs choose different ones.
 *
 * Time goes in rounds, in each of which every relay is asked whom it knows.
 * What nobody tells of in QDES_DETOUR_ROUNDS of them is forgotten, a relay
 * that does not is chosen no longer.
 *
 * Limits: QDES_DETOURS_MAX in all; of one relay's, the first
 * QDES_WIRE_RELAY_MAX fit a message.
 *
 * A plain value that begins as zero.  Pure.
 */

#ifndef QDES_DETOUR_H
#define QDES_DETOUR_H

#include "qdes/addr.h"

#define QDES_DETOURS_MAX 256
#define QDES_DETOUR_ROUNDS 3

typedef struct QdesDetour {
    uint64_t instance;          /* who is missed */
    QdesAddr addr;              /* where it was said to be last */
    uint64_t relay;             /* the instance that relays; 0: there is none */
    uint32_t told;              /* the round when it was told of last */
    uint32_t vouched;           /* the same, by the relay */
} QdesDetour;

typedef struct QdesDetours {
    unsigned n;
    uint32_t round;
    QdesDetour all[QDES_DETOURS_MAX];
} QdesDetours;

/* How good @relay is for a pair of instances: the 32 bits of FNV-1a over
 * (@one xor @other) and @relay. */
uint32_t qdes_detour_score(uint64_t one, uint64_t other, uint64_t relay);

/* Is @instance missed? */
QdesDetour *qdes_detours_find(QdesDetours *detours, uint64_t instance);

/* @instance, said to be at @addr, is missed.  Returns whether that is new, and
 * there is a place for it. */
bool qdes_detours_miss(QdesDetours *detours, uint64_t instance,
                       const QdesAddr *addr);

/*
 * Somebody tells @self that @instance is at @addr.  @relay: his instance if he
 * relays, else 0.  Returns the relay before, if another one is chosen now;
 * else the one that is.
 */
uint64_t qdes_detours_told(QdesDetours *detours, uint64_t self,
                           uint64_t instance, const QdesAddr *addr,
                           uint64_t relay);

/* @detour is not needed any longer, or out of date. */
void qdes_detours_remove(QdesDetours *detours, QdesDetour *detour);

/* What @relay is to relay: up to @max instances.  Returns their number. */
unsigned qdes_detours_list(const QdesDetours *detours, uint64_t relay,
                           uint64_t *instances, unsigned max);

#endif
