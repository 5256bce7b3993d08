/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The loop guard's memory. */

#include "qdes/guard.h"

#include <glib.h>
#include <string.h>

bool qdes_guard_hear(QdesGuard *guard, uint64_t instance, int64_t now)
{
    unsigned place = QDES_GUARD_HEARD;
    bool is_news;
    unsigned i;

    for (i = 0; i < QDES_GUARD_HEARD; i++) {
        if (guard->heard[i].instance == instance) {
            is_news = now - guard->heard[i].when >= QDES_GUARD_HOLD_MS;
            guard->heard[i].when = now;
            return is_news;
        }
        if (!guard->heard[i].instance ||
            now - guard->heard[i].when >= QDES_GUARD_HOLD_MS) {
            place = i;
        }
    }
    if (place == QDES_GUARD_HEARD) {
        /* The highest gives way: the lowest decides. */
        for (place = 0, i = 1; i < QDES_GUARD_HEARD; i++) {
            if (guard->heard[i].instance > guard->heard[place].instance) {
                place = i;
            }
        }
        if (guard->heard[place].instance < instance) {
            return false;
        }
    }
    guard->heard[place].instance = instance;
    guard->heard[place].when = now;
    return true;
}

void qdes_guard_forget(QdesGuard *guard)
{
    memset(guard->heard, 0, sizeof(guard->heard));
}

uint64_t qdes_guard_find(const QdesGuard *guard, uint64_t own, int64_t now,
                         bool (*is_there)(uint64_t instance, void *opaque),
                         void *opaque)
{
    uint64_t lowest = own;
    unsigned i;

    for (i = 0; i < QDES_GUARD_HEARD; i++) {
        if (guard->heard[i].instance && guard->heard[i].instance < lowest &&
            now - guard->heard[i].when < QDES_GUARD_HOLD_MS &&
            is_there(guard->heard[i].instance, opaque)) {
            lowest = guard->heard[i].instance;
        }
    }
    return lowest == own ? 0 : lowest;
}

/* The first moment from @now on that a probe may be sent at. */
static int64_t soon(const QdesGuard *guard, int64_t now)
{
    return guard->sent ? MAX(now, guard->last + QDES_GUARD_MIN_MS) : now;
}

int64_t qdes_guard_suspect(QdesGuard *guard, int64_t now)
{
    guard->asks = true;
    guard->interval = QDES_GUARD_FIRST_MS;
    guard->next = soon(guard, now);
    return guard->next;
}

int64_t qdes_guard_answer(QdesGuard *guard, int64_t now)
{
    guard->next = MIN(guard->next, soon(guard, now));
    return guard->next;
}

int64_t qdes_guard_sent(QdesGuard *guard, int64_t now)
{
    guard->sent = true;
    guard->last = now;
    guard->asks &= guard->interval < QDES_GUARD_MS;
    guard->next = now + guard->interval;
    guard->interval = MIN(2 * guard->interval, QDES_GUARD_MS);
    return guard->next;
}
