/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names of ports
 *
 * A name is UTF-8 of at most QDES_NAME_MAX bytes, without control characters,
 * so that it can go to terminals, logs and JSON wherever it came from.
 *
 * Pure.
 */

#ifndef QDES_NAME_H
#define QDES_NAME_H

#include "qdes/config.h"

/*
 * Make a name of the @size bytes at @text: what is not UTF-8, and every
 * control character, becomes '?'; what does not fit is left out, at a whole
 * character.
 */
void qdes_name_clean(char name[QDES_NAME_MAX + 1], const char *text,
                     size_t size);

#endif
