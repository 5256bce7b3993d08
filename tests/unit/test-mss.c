/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qdes/mss.h"
#include "qdes/bytes.h"
#include "unit.h"

#define ETH 14
#define IP4 20
#define IP6 40

/* The checksum over @size bytes from @start on, as RFC 1071 has it. */
static uint16_t sum_of(const uint8_t *p, size_t size, uint32_t sum)
{
    size_t i;

    for (i = 0; i < size; i++) {
        sum += i & 1 ? p[i] : p[i] << 8;
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

typedef struct Syn {
    uint8_t frame[200];
    size_t size, l3, l4;
    bool v6;
} Syn;

static uint32_t pseudo(const Syn *s)
{
    size_t addrs = s->v6 ? 32 : 8;

    return sum_of(s->frame + s->l3 + (s->v6 ? 8 : 12), addrs, 6) +
           (s->size - s->l4);
}

/* A segment with @flags and these options, 4-byte aligned. */
static void make(Syn *s, bool v6, int vlans, uint8_t flags,
                 const uint8_t *options, size_t n)
{
    uint8_t *p = s->frame;
    int i;

    memset(s, 0, sizeof(*s));
    s->v6 = v6;
    p += 12;
    for (i = 0; i < vlans; i++) {
        qdes_put_be16(p, 0x8100);
        p += 4;
    }
    qdes_put_be16(p, v6 ? 0x86dd : 0x0800);
    p += 2;
    s->l3 = p - s->frame;
    s->l4 = s->l3 + (v6 ? IP6 : IP4);
    s->size = s->l4 + 20 + n;
    if (v6) {
        p[0] = 0x60;
        qdes_put_be16(p + 4, 20 + n);
        p[6] = 6;
        p[7] = 64;
        memset(p + 8, 0xfd, 32);
    } else {
        p[0] = 0x45;
        qdes_put_be16(p + 2, 40 + n);
        p[8] = 64;
        p[9] = 6;
        memset(p + 12, 10, 8);
    }
    p = s->frame + s->l4;
    qdes_put_be16(p, 4711);
    qdes_put_be16(p + 2, 80);
    p[12] = (20 + n) / 4 << 4;
    p[13] = flags;
    memcpy(p + 20, options, n);
    qdes_put_be16(p + 16, ~sum_of(p, s->size - s->l4, pseudo(s)));
}

static void check(const Syn *s)
{
    ck_assert_uint_eq(sum_of(s->frame + s->l4, s->size - s->l4, pseudo(s)),
                      0xffff);
}

static const uint8_t plain[] = { 2, 4, 0x05, 0xb4 };        /* 1460 */
static const uint8_t odd[] = { 1, 2, 4, 0x05, 0xb4, 1, 0, 0 };
static const uint8_t late[] = { 3, 3, 7, 4, 2, 2, 4, 0x22, 0x00, 1, 1, 0 };

START_TEST(test_lowered)
{
    static const struct {
        const uint8_t *options;
        size_t n, at;
    } cases[] = {
        { plain, sizeof(plain), 2 },
        { odd, sizeof(odd), 3 },
        { late, sizeof(late), 7 },
    };
    size_t i;
    Syn s;
    int v6, vlans;

    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (v6 = 0; v6 < 2; v6++) {
            for (vlans = 0; vlans < 3; vlans++) {
                make(&s, v6, vlans, 0x12, cases[i].options, cases[i].n);
                check(&s);
                ck_assert(qdes_mss_clamp(s.frame, s.size, 1464, false));
                ck_assert_uint_eq(qdes_get_be16(s.frame + s.l4 + 20 +
                                                cases[i].at),
                                  1464 - s.l4 - 20);
                check(&s);
                /* Once is enough. */
                ck_assert(!qdes_mss_clamp(s.frame, s.size, 1464, false));
            }
        }
    }
}
END_TEST

START_TEST(test_unfinished_checksum)
{
    Syn s;
    uint16_t field;

    make(&s, false, 0, 0x02, plain, sizeof(plain));
    field = sum_of(NULL, 0, pseudo(&s));
    qdes_put_be16(s.frame + s.l4 + 16, field);
    ck_assert(qdes_mss_clamp(s.frame, s.size, 1464, true));
    ck_assert_uint_eq(qdes_get_be16(s.frame + s.l4 + 16), field);
}
END_TEST

START_TEST(test_left_alone)
{
    static const uint8_t none[] = { 1, 1, 1, 0 };
    static const uint8_t cut_off[] = { 1, 1, 2, 4 };
    static const uint8_t wrong_size[] = { 2, 3, 0x05, 0xb4 };
    static const uint8_t endless[] = { 5, 0, 2, 4, 0x05, 0xb4, 0, 0 };
    static const uint8_t ended[] = { 0, 2, 4, 0x05, 0xb4, 0, 0, 0 };
    uint8_t before[200];
    Syn s;

#define LEFT_ALONE(flags, options, max) do { \
        make(&s, false, 0, flags, options, sizeof(options)); \
        memcpy(before, s.frame, sizeof(before)); \
        ck_assert(!qdes_mss_clamp(s.frame, s.size, max, false)); \
        ck_assert_mem_eq(before, s.frame, sizeof(before)); \
    } while (0)

    LEFT_ALONE(0x10, plain, 1464);      /* no SYN */
    LEFT_ALONE(0x02, plain, 1514);      /* fits */
    LEFT_ALONE(0x02, plain, 200);       /* nothing sensible would be left */
    LEFT_ALONE(0x02, plain, 0);
    LEFT_ALONE(0x02, none, 1464);
    LEFT_ALONE(0x02, cut_off, 1464);
    LEFT_ALONE(0x02, wrong_size, 1464);
    LEFT_ALONE(0x02, endless, 1464);
    LEFT_ALONE(0x02, ended, 1464);

    make(&s, false, 0, 0x02, plain, sizeof(plain));
    s.frame[s.l3 + 9] = 17;
    ck_assert(!qdes_mss_clamp(s.frame, s.size, 1464, false));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mss");
    TCase *tc = tcase_create("mss");

    tcase_add_test(tc, test_lowered);
    tcase_add_test(tc, test_unfinished_checksum);
    tcase_add_test(tc, test_left_alone);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
