# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs under test: started with their log kept, watched, and ended.

Every program dies with the test run (PDEATHSIG), however the run ends.  What
a program writes goes to one log file, so that a failed test can show it and
every test can check it for lines that nobody expected.
"""

import ctypes
import os
import re
import signal
import subprocess
import time

# On a slow machine, or with sanitizers, set QDES_PATIENCE=3 in the environment
# to wait three times as long everywhere.
PATIENCE = float(os.environ.get('QDES_PATIENCE', '1'))

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

# What a log must not hold unless a test says so.
TROUBLE = re.compile(
    r'\b(warn|warning|err|error|crit|critical|fatal|assertion|panic|abort)\b|'
    r'sanitizer|runtime error|GLib-', re.IGNORECASE)

# What AddressSanitizer says of every QEMU, whose coroutines it does not know.
HARMLESS = re.compile(r"WARNING: ASan doesn't fully support makecontext")


def wait_for(condition, deadline=5.0, what=None, interval=0.01):
    """Call CONDITION until it gives something true, and return that.

    Fails the test when that took more than DEADLINE seconds (see PATIENCE).
    WHAT says what was waited for; it may be a function that is called for the
    message.
    """
    deadline *= PATIENCE
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            if callable(what):
                what = what()
            what = what or getattr(condition, '__name__', 'a condition')
            raise AssertionError(f'waited {deadline} s in vain for {what}')
        time.sleep(interval)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Process:
    """A program that runs beside the test."""

    def __init__(self, argv, log, env=None, stdin=subprocess.DEVNULL,
                 stdout=None, pass_fds=()):
        self.argv = [str(a) for a in argv]
        self.log_path = log
        self.ended_by_test = False
        with open(log, 'ab') as out:
            self.popen = subprocess.Popen(
                self.argv, stdin=stdin, stdout=stdout or out,
                stderr=out, pass_fds=pass_fds,
                env={**os.environ, 'LC_ALL': 'C', **(env or {})},
                preexec_fn=_die_with_parent)

    @property
    def pid(self):
        return self.popen.pid

    @property
    def running(self):
        return self.popen.poll() is None

    @property
    def log(self):
        with open(self.log_path, encoding='utf-8', errors='replace') as file:
            return file.read()

    def wait_log(self, pattern, deadline=5.0):
        """Wait for a match of PATTERN in the log and return it."""
        regex = re.compile(pattern, re.MULTILINE)

        def found():
            match = regex.search(self.log)
            if not match and not self.running:
                match = regex.search(self.log)
                assert match, (f'{self.argv[0]} ended ({self.popen.poll()}) '
                               f'without {pattern!r} in its log:\n{self.log}')
            return match
        return wait_for(found, deadline,
                        lambda: f'{pattern!r} in the log:\n{self.log}')

    def send(self, number):
        self.popen.send_signal(number)

    def stop(self, number=signal.SIGTERM, deadline=10.0):
        """End the program with signal NUMBER and return its exit status."""
        self.ended_by_test = True
        deadline *= PATIENCE
        if self.running:
            self.popen.send_signal(number)
        try:
            return self.popen.wait(deadline)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f'{self.argv[0]} did not end within {deadline} s of '
                f'signal {number}:\n{self.log}') from None

    def kill(self):
        """End the program at once, without a chance to say goodbye."""
        self.ended_by_test = True
        if self.running:
            self.popen.kill()
        return self.popen.wait(10)

    def wait(self, deadline=10.0):
        """Wait for the program to end by itself; return its exit status."""
        self.ended_by_test = True
        deadline *= PATIENCE
        try:
            return self.popen.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f'{self.argv} still runs after {deadline} '
                                 f's:\n{self.log}') from None

    def memory(self):
        """Bytes of RAM in use now."""
        with open(f'/proc/{self.pid}/statm', encoding='ascii') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')

    def cpu_seconds(self):
        """Processor time used until now, by all threads."""
        with open(f'/proc/{self.pid}/stat', encoding='ascii') as file:
            fields = file.read().rpartition(')')[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks / os.sysconf('SC_CLK_TCK')

    def thread_cpu_seconds(self):
        """The same for the main thread alone (QEMU's main loop)."""
        with open(f'/proc/{self.pid}/task/{self.pid}/stat',
                  encoding='ascii') as file:
            fields = file.read().rpartition(')')[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks / os.sysconf('SC_CLK_TCK')


class LogCheck:
    """Which troubling lines a log may hold, and that it does hold them.

    Lines are looked at once: check() judges what came since the last one.
    """

    def __init__(self, process, name):
        self.process = process
        self.name = name
        self.seen = 0
        self.expected = []
        self.optional = []

    def expect(self, pattern):
        """A line with PATTERN has to be there, and is no trouble."""
        self.expected.append(re.compile(pattern))

    def allow(self, pattern):
        """A line with PATTERN may be there."""
        self.optional.append(re.compile(pattern))

    def check(self):
        """Return what is wrong as a list of texts, and start anew."""
        lines = self.process.log.splitlines()
        lines, self.seen = lines[self.seen:], len(lines)
        wrong = []
        met = set()
        for line in lines:
            known = [e for e in self.expected if e.search(line)]
            met.update(known)
            if known or any(o.search(line) for o in self.optional):
                continue
            if TROUBLE.search(line) and not HARMLESS.search(line):
                wrong.append(f'{self.name} said unexpectedly: {line}')
        for regex in self.expected:
            if regex not in met:
                wrong.append(f'{self.name} did not say: {regex.pattern}')
        self.expected = []
        self.optional = []
        return wrong
