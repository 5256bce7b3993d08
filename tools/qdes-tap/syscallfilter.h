/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System call filter: the calls that are needed, and no other
 *
 * Two lists (seccomp(2)), one for each process.
 *
 * The port's has no call that opens, looks at, makes or removes a file, starts
 * a program or a process, or touches another one: what it works with is open.
 * Sockets can be UDP ones and netlink's route ones; memory can never become
 * code.  Libraries try to open files that they can do without: that is refused
 * (EACCES).  Any other call ends the process with SIGSYS, as nothing but an
 * attack, or a library that this list does not know, can make it.
 *
 * The helper's lets libraries look names up, whatever the system is configured
 * to use for that: files can be read, shared objects loaded, every socket but
 * packet sockets opened.  As any module may be among these, what is not on
 * the list is refused (EPERM); only running a program, or reaching into
 * another, is the end.
 *
 * A build with AddressSanitizer needs more (it reads /proc, and looks at its
 * own threads from outside), so its list has more.
 *
 * Threads: only the one that calls is confined, and those that it starts.
 */

#ifndef QDES_TAP_SYSCALLFILTER_H
#define QDES_TAP_SYSCALLFILTER_H

#include <stdbool.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/*
 * Confine the calling thread for good; no_new_privs has to be set.  With
 * @log_only, what is not on the list is written to the kernel's audit log and
 * done all the same.  Returns 0, or an errno where the kernel has no seccomp,
 * or whoever confined us before does not allow it.
 */
int syscall_filter_port(bool log_only);

int syscall_filter_helper(bool log_only);

#endif
