#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sum up the results of suites: summary.py DIR SUITE...

Reads DIR/SUITE.junit.xml of each, lists what failed and what was skipped with
its reason, and ends with "N passed, N failed, N skipped".  A suite without
results counts as a failure: it did not even start, or did not end.
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


def main():
    directory = Path(sys.argv[1])
    totals = collections.Counter()
    for suite in sys.argv[2:]:
        counts = collections.Counter()
        try:
            results = list(cases(directory / f'{suite}.junit.xml'))
        except (OSError, ET.ParseError) as err:
            results = [(suite, 'failed', f'no results: {err}')]
        if not results:
            results = [(suite, 'failed', 'not one test ran')]
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
