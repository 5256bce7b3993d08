/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ports of a sealed fabric, and frames with numbers
 *
 * The clock has to move a little before a port can tell that what comes is
 * newer than itself.
 */

#ifndef QDES_SEALED_PORT_H
#define QDES_SEALED_PORT_H

#include "offload-port.h"

#include "qdes/seal.h"

static const char *const secrets[] = {
    "the first secret of all", "the second secret of all",
    "a secret of somebody else",
};

static inline QdesSecret secret(int i)
{
    if (i < 0) {
        return (QdesSecret) { NULL, 0 };
    }
    return (QdesSecret) { secrets[i], strlen(secrets[i]) };
}

static QdesSealLimits limits;

/* QdesConfig.seal_limits is for tests: no option sets it. */
static inline Port *open_with(QdesOptions *options, bool plain_io)
{
    QdesConfig config;
    Port *p;

    port_config(&config, options, plain_io);
    config.seal_limits = limits;
    p = port_open_config(&config);
    now += 10;
    return p;
}

static inline Port *open_sealed(const char *name, int new, int old)
{
    QdesOptions options = {
        .name = name, .secret = secret(new), .secret_old = secret(old),
    };

    return open_with(&options, false);
}

static inline void begin(void)
{
    setup();
    now = 1000000;
    memset(&limits, 0, sizeof(limits));
}

/* A frame with a number in it; @dst 0: to all. */
static inline bool send_number(Port *p, uint32_t dst, uint32_t src,
                               uint32_t number, size_t size)
{
    uint8_t frame[2000] = { 0 };
    struct iovec iov = { frame, size };
    bool sent;

    memset(frame, 0xff, 6);
    if (dst) {
        unit_mac(frame, dst);
    }
    unit_mac(frame + 6, src);
    frame[12] = 0x88;
    frame[13] = 0xb5;
    qdes_put_be32(frame + 14, number);
    sent = qdes_fabric_send(p->fabric, &iov, 1, now);
    qdes_fabric_flush(p->fabric, now);
    return sent;
}

static inline bool flood(Port *p, uint32_t src, uint32_t number)
{
    return send_number(p, 0, src, number, 60);
}

/* How often @p got the frame with this number. */
static inline unsigned got(Port *p, uint32_t number)
{
    unsigned n = 0;
    guint i;

    for (i = 0; i < p->frames->len; i++) {
        const uint8_t *frame = g_bytes_get_data(p->frames->pdata[i], NULL);

        n += qdes_get_be32(frame + 14) == number;
    }
    return n;
}

static inline void tick(Port **ports, int n, int64_t ms)
{
    int i;

    now += ms;
    for (i = 0; i < n; i++) {
        qdes_fabric_tick(ports[i]->fabric, now);
    }
}

static inline bool all_proven(Port **ports, int n)
{
    int i;

    for (i = 0; i < n; i++) {
        if (C(ports[i], peers_proven) < (unsigned)n - 1) {
            return false;
        }
    }
    return true;
}

static inline void ck_clean(Port *p)
{
    ck_assert_uint_eq(C(p, rx_drop_seal), 0);
    ck_assert_uint_eq(C(p, rx_drop_replay), 0);
    ck_assert_uint_eq(C(p, rx_drop_session), 0);
    ck_assert_uint_eq(C(p, rx_drop_plain), 0);
    ck_assert_uint_eq(C(p, rx_drop_tlv), 0);
}

static inline void close_all(Port **ports, int n)
{
    int i;

    for (i = 0; i < n; i++) {
        port_close(ports[i]);
    }
}

#endif
