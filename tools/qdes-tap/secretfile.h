/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Secrets in files
 *
 * A secret is never on a command line, where all of the host can read it.  A
 * file that others may read is taken, with a warning: who has put it there may
 * have done worse already, but is to know.
 *
 * Ownership: who read a secret wipes it with secret_wipe().
 */

#ifndef QDES_TAP_SECRETFILE_H
#define QDES_TAP_SECRETFILE_H

#include "qdes/config.h"

/*
 * Read @path, which the option @option names and which has to last as long as
 * @secret; NULL gives no secret.  Returns false with @errp set when it cannot
 * be read; whether it makes a secret is for qdes_config_check_secrets() to
 * say.
 */
bool secret_read(QdesSecret *secret, const char *option, const char *path,
                 GError **errp);

/* Make @secret a copy of @size bytes at @data.  Returns false when that are
 * more than a secret can have. */
bool secret_copy(QdesSecret *secret, const void *data, size_t size);

/* Accepts one without data. */
void secret_wipe(QdesSecret *secret);

#endif
