/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of ports. */

#include "qdes/name.h"

#include <string.h>

void qdes_name_clean(char name[QDES_NAME_MAX + 1], const char *text,
                     size_t size)
{
    const char *end = text + size;
    const char *next;
    size_t used = 0;
    size_t part;
    gunichar c;

    for (; text < end; text = next) {
        c = g_utf8_get_char_validated(text, end - text);
        next = text + 1;
        part = 1;
        if (c != (gunichar)-1 && c != (gunichar)-2) {
            next = g_utf8_next_char(text);
            part = g_unichar_iscntrl(c) ? 1 : next - text;
        }
        if (used + part > QDES_NAME_MAX) {
            break;
        }
        if (part == 1 && (*text & 0x80 || g_ascii_iscntrl(*text))) {
            name[used] = '?';
        } else {
            memcpy(name + used, text, part);
        }
        used += part;
    }
    name[used] = '\0';
}
