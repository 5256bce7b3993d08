#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sum up the results of suites: summary.py DIR SUITE...

Of each suite there are DIR/SUITE.status, the exit status of what ran it, and
DIR/SUITE.junit.xml, unless the suite is one test.  Lists what failed and what
was skipped with its reason, and ends with "N passed, N failed, N skipped".
A suite without results counts as a failure, as does one that has nothing but
passes in its results and yet ended with an error: a test that crashes after
its last check, or whose sanitizer objects at the end, is such a one.
"""

import collections
import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def cases(path):
    """Each test's name, and 'passed', 'failed' or 'skipped' with the why."""
    for case in ET.parse(path).iter('testcase'):
        name = f'{case.get("classname", "")} {case.get("name")}'.strip()
        verdict, why = 'passed', ''
        for child in case:
            if child.tag in ('failure', 'error'):
                verdict, why = 'failed', child.get('message') or ''
            elif child.tag == 'skipped' and verdict == 'passed':
                verdict = 'skipped'
                why = child.get('message') or child.text or 'no reason given'
        yield name, verdict, why.strip().split('\n')[0][:200]


def results_of(directory, suite):
    """All cases of a suite."""
    try:
        status = int((directory / f'{suite}.status').read_text())
        path = directory / f'{suite}.junit.xml'
        if not path.exists():
            return [(suite, 'failed' if status else 'passed',
                     f'ended with status {status}')]
        results = list(cases(path))
    except (OSError, ValueError, ET.ParseError) as err:
        return [(suite, 'failed', f'no results: {err}')]
    if not results:
        results = [(suite, 'failed', 'not one test ran')]
    if status and all(verdict != 'failed' for _, verdict, _ in results):
        results.append((suite, 'failed', f'ended with status {status}'))
    return results


def main():
    directory = Path(sys.argv[1])
    totals = collections.Counter()
    for suite in sys.argv[2:]:
        counts = collections.Counter()
        results = results_of(directory, suite)
        for name, verdict, why in results:
            counts[verdict] += 1
            if verdict != 'passed':
                print(f'{verdict}: {suite}: {name}: {why}')
        print(f'{suite}: ' + ', '.join(
            f'{counts[v]} {v}' for v in ('passed', 'failed', 'skipped')))
        totals += counts
    print(f'{totals["passed"]} passed, {totals["failed"]} failed, '
          f'{totals["skipped"]} skipped')
    return 1 if totals['failed'] else 0


if __name__ == '__main__':
    sys.exit(main())
