/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nonce */
#include "unit.h"
int main(void) { return unit_main(suite_create("nonce")); }
