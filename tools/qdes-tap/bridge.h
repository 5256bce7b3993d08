/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Linux bridge that the TAP may be a port of
 *
 * Asked for by netlink, as a port that runs may have no files.
 */

#ifndef QDES_TAP_BRIDGE_H
#define QDES_TAP_BRIDGE_H

#include <stdbool.h>

/*
 * Is the interface @index a port of a bridge that lets frames pass as soon as
 * the link is up?  With STP it waits for half a minute.
 */
bool bridge_passes_at_once(unsigned index);

#endif
