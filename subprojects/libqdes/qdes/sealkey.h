/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is derived from a secret: a network's key, and all that comes of it
 *
 * HKDF (RFC 5869) with SHA-256, by GnuTLS.  Who has the secret can derive
 * everything; from what is on the wire (the pseudonym) nothing can be.
 * docs/protocol.md, "Sealed fabrics", is the norm.
 *
 *   secret -> PRK -> key of the network -> pseudonym, in place of the ID
 *                                       -> key ID, by which peers name it
 *                                       -> key and IV of each session
 *
 * Ownership: a QdesSealKey is a plain value that is secret: whoever has one
 * wipes it with qdes_seal_key_wipe().
 *
 * Pure.
 */

#ifndef QDES_SEALKEY_H
#define QDES_SEALKEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QDES_SECRET_MIN 16      /* bytes */
#define QDES_SECRET_MAX 4096    /* bytes */
#define QDES_SEAL_KEY_SIZE 32   /* bytes, of a network's key and a cipher's */
#define QDES_SEAL_IV_SIZE 12    /* bytes */

typedef enum QdesSealChoice {
    QDES_SEAL_AUTO,             /* AES where the processor helps */
    QDES_SEAL_AES_256_GCM,
    QDES_SEAL_CHACHA20_POLY1305,
} QdesSealChoice;

/* As options have it. */
const char *qdes_seal_choice_name(QdesSealChoice choice);

/* When a session is due to end. */
typedef struct QdesSealLimits {
    uint64_t datagrams;
    uint64_t bytes;
    int64_t ms;
} QdesSealLimits;

typedef struct QdesSealKey {
    uint8_t network[QDES_SEAL_KEY_SIZE];
    uint32_t pseudonym;
    uint32_t id;
} QdesSealKey;

/* Derive @key of @size bytes of @secret.  Returns false where the library has
 * no such hash, which a FIPS mode or a policy may bring about. */
bool qdes_seal_key_init(QdesSealKey *key, const void *secret, size_t size,
                        uint32_t netid);

void qdes_seal_key_wipe(QdesSealKey *key);

/* Derive key and IV of @session into @material, which the caller wipes. */
bool qdes_seal_key_session(const QdesSealKey *key, uint64_t session,
                           uint8_t material[QDES_SEAL_KEY_SIZE +
                                            QDES_SEAL_IV_SIZE]);

/* Overwrite @size bytes at @data so that no compiler leaves it out. */
void qdes_wipe(void *data, size_t size);

#endif
