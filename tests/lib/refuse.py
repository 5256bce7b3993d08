# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a program where the kernel refuses some system calls, as containers do.

    refuse.py CALL[,CALL...] PROGRAM [ARGUMENT]...

Each CALL fails with EPERM, for the program and all that it starts.  The
filter is made here, of the kernel's own instructions, so that nothing of what
is tested is used to test it.
"""

import ctypes
import os
import platform
import struct
import sys

NUMBERS = {
    'x86_64': {'unshare': 272, 'prctl': 157, 'seccomp': 317},
    'aarch64': {'unshare': 97, 'prctl': 167, 'seccomp': 277},
}
LANDLOCK = {'landlock_create_ruleset': 444}     # the same everywhere
EPERM = 1
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7fff0000, 0x00050000
AT_NUMBER, AT_FIRST_ARGUMENT = 0, 16


def instruction(code, value, if_true=0, if_false=0):
    return struct.pack('HBBI', code, if_true, if_false, value)


def rules(call, number):
    """Of prctl(), only what sets a filter is refused."""
    refused = instruction(RETURN, ERRNO | EPERM)
    if call != 'prctl':
        return [instruction(LOAD, AT_NUMBER),
                instruction(EQUAL, number, 0, 1), refused]
    return [instruction(LOAD, AT_NUMBER), instruction(EQUAL, number, 0, 3),
            instruction(LOAD, AT_FIRST_ARGUMENT),
            instruction(EQUAL, PR_SET_SECCOMP, 0, 1), refused]


def refuse(calls):
    numbers = {**NUMBERS[platform.machine()], **LANDLOCK}
    program = b''.join(
        [part for call in calls for part in rules(call, numbers[call])]
        + [instruction(RETURN, ALLOW)])
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(program)
    head = struct.pack('HxxxxxxP', len(program) // 8,
                       ctypes.addressof(buffer))
    for args in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                 (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, head, 0, 0)):
        if libc.prctl(*args):
            raise OSError(ctypes.get_errno(), 'prctl')


if __name__ == '__main__':
    refuse(sys.argv[1].split(','))
    os.execvp(sys.argv[2], sys.argv[2:])
