# SPDX-License-Identifier: GPL-2.0-or-later
"""From the samples of a run to its tables, and to its verdicts.

A sample is what one measure gave for one kind in one round: a dict with
kind, round, measure, and either values (name -> number) or error.
"""

import statistics

# Measure -> the columns its table has: value, heading, digits.
COLUMNS = {
    'tcp': [('gbps', 'Gb/s', 2), ('cpu_per_gb', 'CPU s/GB', 3),
            ('main_thread_per_gb', 'main thread s/GB', 3),
            ('busy_per_gb', 'machine s/GB', 3)],
    'tcp4': [('gbps', 'Gb/s', 2), ('cpu_per_gb', 'CPU s/GB', 3),
             ('busy_per_gb', 'machine s/GB', 3)],
    'bidir': [('gbps', 'Gb/s, sum', 2), ('there', 'there', 2),
              ('back', 'back', 2), ('cpu_per_gb', 'CPU s/GB', 3)],
    'small': [('kpps', 'kpps received', 1), ('sent_kpps', 'kpps sent', 1),
              ('cpu_us_per_packet', 'CPU us/packet', 2),
              ('busy_us_per_packet', 'machine us/packet', 2)],
    'rtt': [('median_us', 'median us', 0), ('p99_us', 'p99 us', 0),
            ('max_us', 'max us', 0), ('lost_percent', 'lost %', 1)],
    'rtt-load': [('median_us', 'median us', 0), ('p99_us', 'p99 us', 0),
                 ('max_us', 'max us', 0), ('lost_percent', 'lost %', 1),
                 ('beside_gbps', 'Gb/s beside', 2)],
    'rtt-same': [('median_us', 'median us', 0), ('p99_us', 'p99 us', 0),
                 ('max_us', 'max us', 0), ('lost_percent', 'lost %', 1),
                 ('beside_gbps', 'Gb/s beside', 2)],
    'flood': [('delivered_percent', 'delivered %', 1),
              ('cpu_ms_per_frame', 'CPU ms/frame', 3),
              ('cpu_us_per_delivery', 'CPU us/delivery', 2),
              ('busy_us_per_delivery', 'machine us/delivery', 2)],
}

TITLES = {
    'tcp': 'TCP, one stream',
    'tcp4': 'TCP, four streams',
    'bidir': 'TCP, both directions at once',
    'small': 'Small packets (UDP, 18 bytes)',
    'rtt': 'Round trip, idle',
    'rtt-load': 'Round trip, a bulk TCP flow beside',
    'rtt-same': 'Round trip, 0.3 Gb/s of TCP beside',
    'flood': 'Flood: bursts of broadcast frames',
}


def least(ratio):
    return lambda value: value >= ratio, f'at least {ratio:g}'


def most(ratio, text=None):
    return lambda value: value <= ratio, f'at most {text or f"{ratio:g}"}'


# Number of the target, what, measure, value, kind, compared with, and the
# ratio that is needed; the second one, if any, is the aim.
TARGETS = [
    (1, 'TCP', 'tcp', 'gbps', 'qdes', 'vxvde', least(10), None),
    (1, 'TCP', 'tcp', 'gbps', 'qdes', 'vxlan', least(0.4), least(0.6)),
    (2, 'TCP of guests', 'tcp', 'gbps', 'guest-qdes', 'guest-bridge',
     least(0.95), least(1)),
    (2, 'TCP of guests', 'tcp', 'gbps', 'guest-qdes', 'guest-socket',
     least(3.5), None),
    (2, "CPU per GB of QEMU's main loop", 'tcp', 'main_thread_per_gb',
     'guest-qdes', 'guest-bridge', None, most(1)),
    (3, 'small packets', 'small', 'kpps', 'qdes', 'vxvde', least(2),
     least(3)),
    (3, 'small packets', 'small', 'kpps', 'hub-qdes', 'hub-socket', least(2),
     None),
    (3, 'small packets', 'small', 'kpps', 'qdes', 'vxlan', None, least(0.8)),
    (4, 'RTT median, idle', 'rtt', 'median_us', 'qdes', 'vxvde', most(1),
     None),
    (4, 'RTT p99, idle', 'rtt', 'p99_us', 'qdes', 'vxvde', most(1), None),
    (4, 'RTT median, loaded', 'rtt-load', 'median_us', 'qdes', 'vxvde',
     most(1), None),
    (4, 'RTT p99, loaded', 'rtt-load', 'p99_us', 'qdes', 'vxvde', most(1),
     None),
    (4, 'RTT median, same load', 'rtt-same', 'median_us', 'qdes', 'vxvde',
     None, most(1)),
    (4, 'RTT p99, same load', 'rtt-same', 'p99_us', 'qdes', 'vxvde', None,
     most(1)),
    (5, 'CPU per GB', 'tcp', 'cpu_per_gb', 'qdes', 'vxvde',
     most(1 / 6, '1/6'), None),
    (5, 'whole machine per GB', 'tcp', 'busy_per_gb', 'qdes', 'vxvde', None,
     most(1 / 6, '1/6')),
    (6, 'TCP, many peers', 'tcp', 'gbps', 'many-1000', 'many-1', least(0.9),
     None),
    (6, 'small packets, many peers', 'small', 'kpps', 'many-1000', 'many-1',
     least(0.9), None),
    (7, 'TCP', 'tcp', 'gbps', 'qdes-gso-off', 'vxvde', least(1), None),
    (7, 'small packets', 'small', 'kpps', 'qdes-gso-off', 'vxvde', least(1),
     None),
    (7, 'TCP', 'tcp', 'gbps', 'qdes-vnet-off', 'vxvde', least(1), None),
    (7, 'small packets', 'small', 'kpps', 'qdes-vnet-off', 'vxvde', least(1),
     None),
    (7, 'TCP', 'tcp', 'gbps', 'qdes-plain', 'vxvde', least(1), None),
    (7, 'small packets', 'small', 'kpps', 'qdes-plain', 'vxvde', least(1),
     None),
    (7, 'TCP of guests without TSO', 'tcp', 'gbps', 'guest-qdes-notso',
     'guest-vde', least(1), None),
    (7, 'TCP of guests with e1000', 'tcp', 'gbps', 'guest-qdes-e1000',
     'guest-vde-e1000', least(1), None),
    (8, 'TCP, sealed', 'tcp', 'gbps', 'qdes-sealed', 'fastd-sealed', least(4),
     None),
    (8, 'TCP, sealed', 'tcp', 'gbps', 'qdes-sealed', 'qdes', least(0.5),
     least(0.8)),
]


def summarize(samples):
    """(kind, measure) -> value name -> median, min, max, n, by round."""
    summary = {}
    for sample in samples:
        if 'values' not in sample:
            continue
        entry = summary.setdefault((sample['kind'], sample['measure']), {})
        for name, value in sample['values'].items():
            entry.setdefault(name, {})[sample['round']] = value
    for entry in summary.values():
        for name, rounds in entry.items():
            values = list(rounds.values())
            entry[name] = {'median': statistics.median(values),
                           'min': min(values), 'max': max(values),
                           'n': len(values), 'rounds': rounds}
    return summary


def why_none(result, kind, measure):
    """Why there is no figure for a measure of a kind."""
    if result['kinds'].get(kind, {}).get('unavailable'):
        return result['kinds'][kind]['unavailable']
    for sample in result['samples']:
        if (sample['kind'], sample['measure']) == (kind, measure) \
                and 'error' in sample:
            return f'failed: {sample["error"]}'
    return 'not asked for'


def judge(result):
    """Every target: the ratio of the medians, and what it means."""
    summary = summarize(result['samples'])
    judged = []
    for number, what, measure, value, kind, other, must, aim in TARGETS:
        line = {'target': number, 'what': what, 'kind': kind, 'other': other,
                'measure': measure, 'value': value,
                'needed': must[1] if must else None,
                'aim': aim[1] if aim else None}
        judged.append(line)
        stats = [summary.get((k, measure), {}).get(value)
                 for k in (kind, other)]
        absent = [k for k, s in zip((kind, other), stats) if not s]
        if absent:
            line['verdict'] = 'not measured'
            line['why'] = f'{absent[0]}: ' + why_none(result, absent[0],
                                                      measure)
            continue
        mine, its = stats
        if not its['median']:
            line['verdict'] = 'not measured'
            line['why'] = f'{other}: {value} is 0'
            continue
        line['ratio'] = mine['median'] / its['median']
        pairs = [mine['rounds'][r] / its['rounds'][r] for r in mine['rounds']
                 if its['rounds'].get(r)]
        line['ratio_min'] = min(pairs, default=line['ratio'])
        line['ratio_max'] = max(pairs, default=line['ratio'])
        line['rounds'] = min(mine['n'], its['n'])
        if must:
            met = must[0](line['ratio'])
            line['verdict'] = 'met' if met else 'NOT MET'
            if any(must[0](pair) != met for pair in pairs):
                line['verdict'] += (' (not in every round)' if met else
                                    ' (but in some rounds)')
        if aim:
            line['aim_verdict'] = ('reached' if aim[0](line['ratio'])
                                   else 'not reached')
    return judged


def table(rows):
    """A Markdown table that reads well as plain text, too."""
    rows = [[str(cell).replace('|', '/') for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(cells):
        return '| ' + ' | '.join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths))) + ' |'
    rule = ['-' * width for width in widths]
    return '\n'.join([line(rows[0]), '|-' + '-|-'.join(rule) + '-|',
                      *map(line, rows[1:])])


def cell(stats, digits):
    if not stats:
        return '-'
    if stats['n'] == 1:
        return f'{stats["median"]:.{digits}f}'
    return (f'{stats["median"]:.{digits}f} '
            f'({stats["min"]:.{digits}f}-{stats["max"]:.{digits}f})')


def measure_table(result, summary, measure):
    columns = COLUMNS[measure]
    rows, notes = [['kind', *(heading for _, heading, _ in columns)]], []
    for kind, about in result['kinds'].items():
        if measure not in about['measures']:
            continue
        entry = summary.get((kind, measure))
        if entry:
            rows.append([about['title'], *(cell(entry.get(value), digits)
                                           for value, _, digits in columns)])
            lost = [s for s in result['samples'] if 'error' in s and
                    (s['kind'], s['measure']) == (kind, measure)]
            notes += [f'- {about["title"]}, round {s["round"]}: failed: '
                      f'{s["error"]}' for s in lost]
        else:
            rows.append([about['title'], 'none'] + [''] * (len(columns) - 1))
            notes.append(f'- {about["title"]}: '
                         f'{why_none(result, kind, measure)}')
    if len(rows) == 1:
        return ''
    if notes:
        notes.insert(0, '')
    return '\n'.join([f'\n## {TITLES[measure]}\n', table(rows), *notes])


def target_table(result):
    rows = [['target', 'compared', 'needed', 'measured', 'by round', '']]
    for line in judge(result):
        compared = f'{line["kind"]} / {line["other"]}'
        needed = '; '.join(filter(None, [
            line['needed'], line['aim'] and f'aim: {line["aim"]}']))
        if 'ratio' not in line:
            rows.append([f'{line["target"]}. {line["what"]}', compared,
                         needed, '-', '', f'not measured: {line["why"]}'])
            continue
        verdict = '; '.join(filter(None, [
            line.get('verdict'),
            line['aim'] and f'aim {line["aim_verdict"]}']))
        rows.append([f'{line["target"]}. {line["what"]}', compared, needed,
                     f'{line["ratio"]:.3g}',
                     f'{line["ratio_min"]:.3g}-{line["ratio_max"]:.3g}',
                     verdict])
    return '\n## Targets (ratios of medians)\n\n' + table(rows)


def text(result):
    """Everything, for people."""
    summary = summarize(result['samples'])
    machine = result['machine']
    lines = [f'# QDES and its peers, {result["date"]}', '']
    lines += [f'- {name}: {value}' for name, value in machine.items()]
    lines += [f'- {name}: {value}'
              for name, value in result['versions'].items()]
    options = result['options']
    lines.append(f'- run: {options["rounds"]} interleaved rounds, '
                 f'{options["seconds"]} s per stream, {options["pings"]} '
                 f'pings, underlay MTU {options["underlay_mtu"]}; '
                 f'{result["seconds"]:.0f} s in all'
                 + (' (ended early)' if result.get('interrupted') else ''))
    lines += [f'- with --{name.replace("_", "-")}={options[name]}'
              for name in ('qdes_args', 'netdev_args', 'congestion')
              if options.get(name)]
    others = [s['others_percent'] for s in result['samples']
              if 'others_percent' in s]
    if others:
        lines.append('- disturbance: other programs took '
                     f'{statistics.mean(others):.1f} % of the machine, at '
                     f'most {max(others):.0f} % during a measurement')
    lines += ['', 'Figures are medians, with the least and the most of all '
              'rounds. CPU is the time of the programs that', 'carry the '
              'frames, machine that of everything, traffic sources included.']
    if options['rounds'] < 5:
        lines += ['', 'Fewer than 5 rounds: good for a look, not for a '
                  'comparison.']
    text_of = '\n'.join(lines) + '\n'
    for measure in COLUMNS:
        part = measure_table(result, summary, measure)
        text_of += part + '\n' if part else ''
    return text_of + target_table(result) + '\n'
