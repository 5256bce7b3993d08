/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing the table of peers and the gossip about it: what two ports tell each
 * other by digests and lists is what they know, and no bookkeeping breaks.
 */

#include "fuzz.h"

#include "qdes/gossip.h"
#include "qdes/peer.h"

#define PEERS 64

static QdesAddr addr_of(unsigned n)
{
    QdesAddr addr = { .port = 20804 };

    if (n % 4 == 3) {
        addr.ip[0] = 0xfe;      /* link-local, of one of two interfaces */
        addr.ip[1] = 0x80;
        addr.scope = 1 + n / 4 % 2;
    } else if (n % 16 != 2) {
        memset(addr.ip + 10, 0xff, 2);
        addr.ip[12] = n % 16 == 1 ? 127 : 10;
    }
    addr.ip[15] = n;
    return addr;
}

/* What is told to the peer in @partner of all that differs. */
static void check_lists(QdesPeers *peers, uint32_t partner)
{
    QdesEntry entries[QDES_ENTRIES_MAX];
    uint32_t slot = QDES_PEER_NONE;
    QdesDigest digest, told = { { 0 } };
    QdesKnown known = { .size = 0 };
    uint8_t bits[QDES_KNOWN_MAX];
    unsigned n, i;

    qdes_gossip_digest(&digest, peers, partner);
    while ((n = qdes_gossip_list(peers, partner, UINT64_MAX, &known, &slot,
                                 entries, QDES_ENTRIES_MAX)) > 0) {
        for (i = 0; i < n; i++) {
            fuzz_check(entries[i].addr.scope == 0, "a scope is told");
            told.bucket[qdes_gossip_bucket(entries[i].instance)] ^=
                qdes_gossip_hash(&entries[i]);
        }
    }
    fuzz_check(qdes_gossip_differ(&digest, &told) == 0,
               "the lists are not what the digest says");
    /* Who knows all is told nothing. */
    known.parts = qdes_gossip_parts(peers);
    known.salt = partner;
    qdes_gossip_known(&known, bits, peers, partner);
    slot = QDES_PEER_NONE;
    fuzz_check(qdes_gossip_list(peers, partner, UINT64_MAX, &known, &slot,
                                entries, QDES_ENTRIES_MAX) == 0,
               "what is known is told");
}

static void check_copies(const QdesPeers *peers)
{
    uint32_t slot = QDES_PEER_NONE, copy = QDES_PEER_NONE;
    unsigned n = 0, size = 0;

    while ((slot = qdes_peers_next(peers, slot)) != QDES_PEER_NONE) {
        size++;
        if (qdes_peers_get(peers, slot)->copy) {
            n++;
            copy = qdes_peers_next_copy(peers, copy);
            fuzz_check(copy == slot, "a copy is left out");
        }
    }
    fuzz_check(qdes_peers_next_copy(peers, copy) == QDES_PEER_NONE &&
               qdes_peers_copies(peers) == n, "copies are miscounted");
    fuzz_check(qdes_peers_size(peers) == size && size <= PEERS,
               "peers are miscounted");
}

static void change(QdesPeers *peers, Input *in, int64_t *now)
{
    uint8_t op = input_byte(in);
    uint8_t n = input_byte(in);
    QdesWireHello hello = {
        .instance = 1 + n % 8, .hold_time = op,
        .group_heard = op % 3, .capabilities = n, .mtu = n * op,
    };
    QdesAddr addr = addr_of(op % 16 == 0 ? n : n % (PEERS + 8));
    uint32_t slot = qdes_peers_find(peers, &addr);
    bool added, evicted;

    *now += op / 16;
    if (slot == QDES_PEER_NONE || op % 16 == 0) {
        slot = qdes_peers_heard(peers, &addr, *now, &added, &evicted);
    }
    switch (op % 16) {
    case 1:
    case 2:
    case 3:
        qdes_peers_hello(peers, slot, &hello);
        qdes_peers_decide_copy(peers, slot, *now, n & 1);
        break;
    case 4:
    case 5:
        qdes_peers_prove(peers, slot, *now);
        qdes_peers_decide_copy(peers, slot, *now, n & 1);
        break;
    case 6:
        qdes_peers_remove(peers, slot);
        break;
    case 7:
        qdes_peers_set_seed(peers, slot, n & 1);
        break;
    case 8:
        qdes_peers_heard_group(peers, slot, *now);
        break;
    case 9:
        qdes_peers_echo_sent(peers, slot);
        break;
    case 10:
        qdes_peers_echo_returned(peers, slot, n << op / 16);
        break;
    case 11:
        *now += 1000 * n;
        qdes_peers_excuse(peers, n);
        break;
    case 12:
        qdes_peers_set_patience(peers, n * 1000);
        if (qdes_peers_is_expired(peers, slot, *now)) {
            qdes_peers_remove(peers, slot);
        }
        break;
    case 13:
        if (!qdes_peers_get(peers, slot)->alive) {
            qdes_peers_presume_alive(peers, slot, 1000 * n, *now);
        }
        break;
    case 14:
        qdes_peers_decide_copy(peers, slot, *now, n & 1);
        break;
    case 15:
        check_lists(peers, slot);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input in = { data, size };
    QdesPeers *peers = qdes_peers_new(PEERS, 5);
    uint32_t slot = QDES_PEER_NONE;
    int64_t now = 1000000;

    while (in.size > 0) {
        change(peers, &in, &now);
        check_copies(peers);
    }
    while ((slot = qdes_peers_next(peers, slot)) != QDES_PEER_NONE) {
        check_lists(peers, slot);
        qdes_peers_remove(peers, slot);
    }
    fuzz_check(qdes_peers_size(peers) == 0 && qdes_peers_copies(peers) == 0,
               "some are left");
    qdes_peers_free(peers);
    return 0;
}
