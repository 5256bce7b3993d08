/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What qdes-tap agrees on with kernels of different ages, and their TAPs. */

#include "unit.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include "qdes/vnet.h"
#include "tapoffload.h"

#define USO4 0x20
#define USO6 0x40
#define UP_TO_ECN (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)
#define NATIVE_LITTLE (G_BYTE_ORDER == G_LITTLE_ENDIAN)

/* A kernel, and the one device that it has. */
typedef struct Kernel {
    bool no_offloads;
    bool no_size;               /* as before Linux 3.8 */
    bool no_order;              /* as before Linux 4.1 */
    unsigned offloads;          /* that it knows */
    int fixed_size;             /* of the header, 0: can be set */
    int size;
    int little;
    unsigned set;
    int set_calls;
} Kernel;

static Kernel kernel;

static int kernel_ioctl(int fd, unsigned long request, uintptr_t arg)
{
    ck_assert_int_eq(fd, 5);
    errno = EINVAL;
    switch (request) {
    case TUNSETVNETHDRSZ:
        if (kernel.no_size || kernel.fixed_size) {
            return -1;
        }
        kernel.size = *(int *)arg;
        return 0;
    case TUNGETVNETHDRSZ:
        if (kernel.no_size) {
            return -1;
        }
        *(int *)arg = kernel.fixed_size ? kernel.fixed_size : kernel.size;
        return 0;
    case TUNSETVNETLE:
        if (kernel.no_order) {
            return -1;
        }
        kernel.little = *(int *)arg;
        return 0;
    case TUNGETVNETLE:
        if (kernel.no_order) {
            return -1;
        }
        *(int *)arg = kernel.little;
        return 0;
    case TUNSETOFFLOAD:
        kernel.set_calls++;
        if (kernel.no_offloads || arg & ~(uintptr_t)kernel.offloads) {
            return -1;
        }
        kernel.set = arg;
        return 0;
    default:
        ck_abort_msg("an ioctl that the kernel does not know");
    }
}

static const struct {
    unsigned known;             /* to the kernel */
    unsigned agreed;
} ladders[] = {
    { UP_TO_ECN | USO4 | USO6, UP_TO_ECN | USO4 | USO6 },
    /* what nobody asks for changes nothing */
    { 0xffff, UP_TO_ECN | USO4 | USO6 },
    /* before Linux 6.2 */
    { UP_TO_ECN | TUN_F_UFO, UP_TO_ECN },
    { TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
      TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 },
    { TUN_F_CSUM | TUN_F_TSO4, TUN_F_CSUM },
    { TUN_F_CSUM, TUN_F_CSUM },
    { 0, 0 },
};

START_TEST(test_ladder)
{
    unsigned agreed = ladders[_i].agreed;
    QdesPort port;

    kernel = (Kernel) { .offloads = ladders[_i].known, .set = 0xdead };
    ck_assert(tap_offload_begin(&port, 5, false, kernel_ioctl));
    ck_assert_uint_eq(kernel.set, agreed);
    ck_assert_uint_eq(port.vnet_size, 10);
    ck_assert_int_eq(port.vnet_big_endian, !NATIVE_LITTLE);
    ck_assert_int_eq(port.csum, (agreed & TUN_F_CSUM) != 0);
    ck_assert_int_eq(port.tso4, (agreed & TUN_F_TSO4) != 0);
    ck_assert_int_eq(port.tso6, (agreed & TUN_F_TSO6) != 0);
    ck_assert_int_eq(port.ecn, (agreed & TUN_F_TSO_ECN) != 0);
    ck_assert_int_eq(port.uso4, (agreed & USO4) != 0);
    ck_assert_int_eq(port.uso6, (agreed & USO6) != 0);

    ck_assert(tap_offload_end(5, kernel_ioctl));
    ck_assert_uint_eq(kernel.set, 0);
}
END_TEST

/* A kernel that knows nothing of it: there is a header all the same. */
START_TEST(test_no_offloads)
{
    QdesPort port = { .csum = true, .uso6 = true };

    kernel = (Kernel) { .no_offloads = true };
    ck_assert(tap_offload_begin(&port, 5, false, kernel_ioctl));
    ck_assert_uint_eq(port.vnet_size, 10);
    ck_assert(!port.csum && !port.tso4 && !port.uso6);
    ck_assert(!tap_offload_end(5, kernel_ioctl));
}
END_TEST

/* What the last user of a device has set is set anew. */
START_TEST(test_form_is_set)
{
    QdesPort port;

    kernel = (Kernel) { .size = 12, .little = !NATIVE_LITTLE };
    ck_assert(tap_offload_begin(&port, 5, false, kernel_ioctl));
    ck_assert_int_eq(kernel.size, 10);
    ck_assert_uint_eq(port.vnet_size, 10);
    ck_assert_int_eq(kernel.little, NATIVE_LITTLE);
    ck_assert_int_eq(port.vnet_big_endian, !NATIVE_LITTLE);
}
END_TEST

START_TEST(test_form_of_old_kernels)
{
    QdesPort port;

    kernel = (Kernel) { .no_size = true, .no_order = true };
    ck_assert(tap_offload_begin(&port, 5, false, kernel_ioctl));
    ck_assert_uint_eq(port.vnet_size, 10);
    ck_assert_int_eq(port.vnet_big_endian, !NATIVE_LITTLE);
}
END_TEST

static const struct {
    int size;
    bool good;
} sizes[] = { { 10, true }, { 12, true }, { 20, true }, { 24, true },
              { 25, false }, { 9, false }, { 4096, false } };

START_TEST(test_size_that_stays)
{
    QdesPort port;

    kernel = (Kernel) { .fixed_size = sizes[_i].size, .offloads = UP_TO_ECN };
    ck_assert_int_eq(tap_offload_begin(&port, 5, false, kernel_ioctl),
                     sizes[_i].good);
    ck_assert_uint_eq(port.vnet_size, sizes[_i].good ? sizes[_i].size : 0);
    ck_assert_int_eq(port.csum, sizes[_i].good);
    ck_assert_int_eq(kernel.set_calls > 0, sizes[_i].good);
}
END_TEST

/* Others use the device too: what they have set is not changed. */
START_TEST(test_shared)
{
    QdesPort port;

    kernel = (Kernel) { .size = 12, .little = !NATIVE_LITTLE,
                        .offloads = UP_TO_ECN, .set = TUN_F_CSUM };
    ck_assert(tap_offload_begin(&port, 5, true, kernel_ioctl));
    ck_assert_int_eq(kernel.size, 12);
    ck_assert_int_eq(kernel.little, !NATIVE_LITTLE);
    ck_assert_int_eq(kernel.set_calls, 0);
    ck_assert_uint_eq(port.vnet_size, 12);
    ck_assert(!port.csum && !port.tso4);
}
END_TEST

static const struct {
    uint8_t gso;
    int err;
    bool uso;                   /* what the port has */
    bool less;                  /* what is to be said */
} refusals[] = {
    { QDES_GSO_UDP, EINVAL, true, true },
    { QDES_GSO_UDP, EINVAL, false, false },
    { QDES_GSO_UDP, EIO, true, false },         /* it is down */
    { QDES_GSO_UDP, ENOBUFS, true, false },
    { QDES_GSO_TCP4, EINVAL, true, false },
    { QDES_GSO_TCP6, EINVAL, true, false },
    { QDES_GSO_NONE, EINVAL, true, false },
};

START_TEST(test_refused)
{
    uint8_t vnet[10] = { 1, refusals[_i].gso };
    QdesPort port = { .vnet_size = 10, .csum = true, .tso4 = true,
                      .tso6 = true, .uso4 = refusals[_i].uso,
                      .uso6 = refusals[_i].uso };

    ck_assert_int_eq(tap_offload_refused(&port, vnet, refusals[_i].err),
                     refusals[_i].less);
    ck_assert_int_eq(port.uso4, refusals[_i].uso && !refusals[_i].less);
    ck_assert_int_eq(port.uso6, refusals[_i].uso && !refusals[_i].less);
    ck_assert(port.csum && port.tso4 && port.tso6);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tap-offload");
    TCase *tc = tcase_create("offload");

    tcase_add_loop_test(tc, test_ladder, 0, G_N_ELEMENTS(ladders));
    tcase_add_test(tc, test_no_offloads);
    tcase_add_test(tc, test_form_is_set);
    tcase_add_test(tc, test_form_of_old_kernels);
    tcase_add_loop_test(tc, test_size_that_stays, 0, G_N_ELEMENTS(sizes));
    tcase_add_test(tc, test_shared);
    tcase_add_loop_test(tc, test_refused, 0, G_N_ELEMENTS(refusals));
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
