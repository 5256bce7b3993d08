/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Links the whole library against GLib alone; running it proves nothing more. */

#include "qdes/fabric.h"

int main(void)
{
    qdes_fabric_free(NULL);
    return 0;
}
