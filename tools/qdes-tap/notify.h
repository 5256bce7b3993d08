/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What systemd is told about us, see sd_notify(3)
 *
 * Does nothing when the program was not started as a service of Type=notify.
 */

#ifndef QDES_TAP_NOTIFY_H
#define QDES_TAP_NOTIFY_H

/* Connect to systemd, while that can be done.  To be called once. */
void notify_open(void);
void notify_close(void);

/* The port works from now on; @status is a line for "systemctl status". */
void notify_ready(const char *status);

/* Another line for "systemctl status". */
void notify_status(const char *status);

/* The program has begun to end. */
void notify_stopping(void);

#endif
