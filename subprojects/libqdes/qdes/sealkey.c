/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is derived from a secret. */

#include "qdes/sealkey.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

#include "qdes/bytes.h"

#define SALT "QDES sealed fabric, version 1"
#define HASH GNUTLS_MAC_SHA256
#define HASH_SIZE 32            /* bytes */

static gnutls_datum_t datum(const void *data, size_t size)
{
    return (gnutls_datum_t) { (unsigned char *)data, size };
}

/* HKDF-Expand of @key, with the text @label and @size bytes at @more. */
static bool expand(const uint8_t key[HASH_SIZE], const char *label,
                   const void *more, size_t more_size, void *out,
                   size_t out_size)
{
    gnutls_datum_t prk = datum(key, HASH_SIZE);
    size_t label_size = strlen(label);
    uint8_t text[32] = { 0 };
    gnutls_datum_t info = datum(text, label_size + more_size);
    size_t i;

    g_assert(info.size <= sizeof(text));
    for (i = 0; i < label_size; i++) {
        text[i] = label[i];
    }
    if (more_size) {
        memcpy(text + label_size, more, more_size);
    }
    return gnutls_hkdf_expand(HASH, &prk, &info, out, out_size) == 0;
}

void qdes_wipe(void *data, size_t size)
{
    gnutls_memset(data, 0, size);
}

const char *qdes_seal_choice_name(QdesSealChoice choice)
{
    switch (choice) {
    case QDES_SEAL_AES_256_GCM:
        return "aes-256-gcm";
    case QDES_SEAL_CHACHA20_POLY1305:
        return "chacha20-poly1305";
    default:
        return "auto";
    }
}

bool qdes_seal_key_init(QdesSealKey *key, const void *secret, size_t size,
                        uint32_t netid)
{
    gnutls_datum_t ikm = datum(secret, size);
    gnutls_datum_t salt = datum(SALT, strlen(SALT));
    uint8_t prk[HASH_SIZE];
    uint8_t number[4];
    uint8_t pseudonym[4], id[4];
    bool ok;

    qdes_put_be32(number, netid);
    ok = gnutls_hkdf_extract(HASH, &ikm, &salt, prk) == 0 &&
         expand(prk, "qdes network", number, sizeof(number), key->network,
                sizeof(key->network)) &&
         expand(key->network, "qdes pseudonym", NULL, 0, pseudonym,
                sizeof(pseudonym)) &&
         expand(key->network, "qdes key id", NULL, 0, id, sizeof(id));
    qdes_wipe(prk, sizeof(prk));
    if (!ok) {
        qdes_seal_key_wipe(key);
        return false;
    }
    key->pseudonym = qdes_get_be32(pseudonym);
    key->id = qdes_get_be32(id);
    return true;
}

void qdes_seal_key_wipe(QdesSealKey *key)
{
    qdes_wipe(key, sizeof(*key));
}

bool qdes_seal_key_session(const QdesSealKey *key, uint64_t session,
                           uint8_t material[QDES_SEAL_KEY_SIZE +
                                            QDES_SEAL_IV_SIZE])
{
    uint8_t number[8];

    qdes_put_be64(number, session);
    return expand(key->network, "qdes session", number, sizeof(number),
                  material, QDES_SEAL_KEY_SIZE + QDES_SEAL_IV_SIZE);
}
