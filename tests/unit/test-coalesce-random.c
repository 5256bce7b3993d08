/* SPDX-License-Identifier: GPL-2.0-or-later */
/* coalesce: random traffic, of which the superframes are cut again */

#include "coalesce-kinds.h"
#include "coalesce-check.h"

#define FLOWS 8

static int dice(GRand *rand, int sides)
{
    return g_rand_int_range(rand, 0, sides);
}

static Packet random_flow(GRand *rand, int i)
{
    static const unsigned sizes[] = { 1, 2, 7, 100, 536, 1448, 9000 };
    Packet p = packet_of(dice(rand, KINDS));
    unsigned n;

    p.host = 1 + dice(rand, 2);
    p.port = 1000 + i / 2;
    p.tags = dice(rand, 4) ? 0 : 1 + dice(rand, 2);
    p.vid = dice(rand, 2);
    p.id = g_rand_int(rand);
    p.frag = dice(rand, 2) ? 0x4000 : 0;
    p.seq = g_rand_int(rand);
    p.payload = sizes[dice(rand, G_N_ELEMENTS(sizes))];
    p.csum = dice(rand, 2) ? PACKET_PARTIAL : PACKET_FULL;
    p.options_size = p.udp ? 0 : 4 * dice(rand, 5);
    for (n = 0; n < p.options_size; n++) {
        p.options[n] = g_rand_int(rand);
    }
    return p;
}

/* Something is unusual about one frame, or about all that follow. */
static void disturb(GRand *rand, Packet *flow, Packet *p)
{
    Packet *q = dice(rand, 2) ? flow : p;

    switch (dice(rand, 24)) {
    case 0:
        p->payload = 0;
        break;
    case 1:
        p->payload = 1 + dice(rand, p->payload + 5);
        break;
    case 2:
        p->padding = dice(rand, 40);
        break;
    case 3:
        p->csum = dice(rand, 5);
        break;
    case 4:
        p->flags = g_rand_int(rand);
        break;
    case 5:
        p->flags |= PACKET_PSH;
        break;
    case 6:
        p->flags |= PACKET_FIN;
        break;
    case 7:
        p->flags |= PACKET_CWR;
        break;
    case 8:
        q->flags ^= PACKET_ECE;
        break;
    case 9:
        q->ttl ^= 1;
        break;
    case 10:
        q->tos ^= 3;
        break;
    case 11:
        q->label ^= 0x80001;
        break;
    case 12:
        q->ack++;
        break;
    case 13:
        q->window++;
        break;
    case 14:
        q->options[dice(rand, 40)]++;
        break;
    case 15:
        q->options_size = p->udp ? 0 : 4 * dice(rand, 11);
        break;
    case 16:
        q->frag ^= 0x4000;
        break;
    case 17:
        p->frag = g_rand_int(rand);
        break;
    case 18:
        q->id = g_rand_int(rand);
        break;
    case 19:
        p->ip_options = 4 * dice(rand, 11);
        break;
    case 20:
        p->ext = 8 * dice(rand, 4);
        break;
    case 21:
        p->wrong_ip_sum = true;
        break;
    case 22:
        q->mac ^= 1;
        break;
    case 23:
        q->vid ^= 1;
        break;
    }
}

/* Frames as they arrive: some are lost, come twice, or overtake others. */
static unsigned random_traffic(GRand *rand, CheckFrame *in, uint8_t *buf)
{
    unsigned n = 1 + dice(rand, 160);
    unsigned flows = 1 + dice(rand, FLOWS);
    int trouble = dice(rand, 3) ? 1 + dice(rand, 30) : 1 << 20;
    int burst = 1 + dice(rand, 40);
    Packet flow[FLOWS];
    CheckFrame swapped;
    unsigned i, j, f = 0;
    uint8_t *frame;
    Packet p;

    for (i = 0; i < flows; i++) {
        flow[i] = random_flow(rand, i);
    }
    for (i = 0; i < n; i++) {
        if (dice(rand, burst) == 0) {
            f = dice(rand, flows);
        }
        p = flow[f];
        flow[f] = packet_after(&p);
        if (dice(rand, trouble) == 0) {
            disturb(rand, &flow[f], &p);
            flow[f].seq = p.seq + p.payload;
        }
        in[i].frame = buf;
        in[i].size = packet_write(&p, buf);
        in[i].partial = is_partial(&p);
        in[i].last = dice(rand, 100) == 0;
        frame = buf;
        buf += in[i].size;
        switch (dice(rand, trouble + 5)) {
        case 0:
            flow[f].seq += p.payload;
            break;
        case 1:
            flow[f] = p;
            break;
        case 2:
            j = dice(rand, i + 1);
            swapped = in[i];
            in[i] = in[j];
            in[j] = swapped;
            break;
        case 3:
            /* Nothing that is understood. */
            frame[naive_l3(frame) - 2] ^= 0x40;
            break;
        }
    }
    return n;
}

START_TEST(test_random)
{
    GRand *rand = unit_rand("test_random");
    uint8_t *buf = g_malloc(CHECK_FRAMES_MAX * 9200);
    CheckFrame in[CHECK_FRAMES_MAX];
    QdesCoalesceFeatures features;
    unsigned frames = 0, merged = 0;
    unsigned n, superframes;
    const char *failure;
    int round;

    for (round = 0; round < 3000; round++) {
        n = random_traffic(rand, in, buf);
        features = all_features;
        if (dice(rand, 4) == 0) {
            features.tcp4 = dice(rand, 2);
            features.tcp6 = dice(rand, 2);
            features.udp4 = dice(rand, 2);
            features.udp6 = dice(rand, 2);
            features.ecn = dice(rand, 2);
        }
        failure = coalesce_check(in, n, &features, &superframes);
        ck_assert_msg(!failure, "round %d: %s", round, failure);
        frames += n;
        merged += superframes;
    }
    /* It is not that nothing was ever merged. */
    ck_assert_uint_gt(merged, frames / 40);
    g_free(buf);
    g_rand_free(rand);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("coalesce-random");
    TCase *tc = tcase_create("coalesce-random");

    tcase_add_test(tc, test_random);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
