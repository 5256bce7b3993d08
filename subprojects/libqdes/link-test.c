/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Links the whole library against GLib alone; to run it proves no more. */

#include "qdes/fabric.h"

int main(void)
{
    qdes_fabric_free(NULL);
    return 0;
}
