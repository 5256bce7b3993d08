# SPDX-License-Identifier: GPL-2.0-or-later
"""What is made from the table of counters is what the table says."""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_written_from_the_table():
    done = subprocess.run(['/usr/bin/python3', ROOT / 'scripts/gen-counters',
                           '--check'], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
