# SPDX-License-Identifier: GPL-2.0-or-later
"""The plot of a run: one field of bars for each measure."""

import math

from report import summarize, why_none

# Measure, value, heading, logarithmic.
FIELDS = [
    ('tcp', 'gbps', 'TCP, one stream: Gb/s', False),
    ('tcp4', 'gbps', 'TCP, four streams: Gb/s', False),
    ('bidir', 'gbps', 'TCP, both directions: Gb/s', False),
    ('small', 'kpps', 'small packets: kpps received', False),
    ('tcp', 'cpu_per_gb', 'CPU seconds per GB', True),
    ('rtt', ('median_us', 'p99_us'), 'RTT, idle: us, median and p99', True),
    ('rtt-load', ('median_us', 'p99_us'), 'RTT, loaded: us, median and p99',
     True),
    ('rtt-same', ('median_us', 'p99_us'),
     'RTT, 0.3 Gb/s beside: us, median and p99', True),
    ('flood', 'cpu_us_per_delivery', 'flood: CPU us per delivery', True),
]


def why_not():
    """Why nothing can be plotted; None if it can."""
    try:
        import matplotlib   # pylint: disable=import-outside-toplevel,W0611
    except ImportError:
        return ('no plot: missing package python3-matplotlib '
                '(scripts/install-deps --for=bench)')
    return None


def bar(axes, place, height, stats, colour):
    """A bar for a median, with a whisker from the least to the most."""
    axes.barh(place, stats['median'], height=height, color=colour)
    axes.plot([stats['min'], stats['max']], [place, place], color='black',
              linewidth=1)


def field(axes, result, summary, measure, values, logarithmic):
    """One field: a row for each kind that has the measure."""
    values = [values] if isinstance(values, str) else values
    kinds = [k for k, about in result['kinds'].items()
             if measure in about['measures']]
    drawn = []
    for row, kind in enumerate(reversed(kinds)):
        entry = summary.get((kind, measure), {})
        ours = 'qdes' in kind or kind.startswith('many')
        for number, value in enumerate(values):
            stats = entry.get(value)
            if not stats or (logarithmic and stats['min'] <= 0):
                continue
            height = 0.8 / len(values)
            colour = (('tab:orange', 'moccasin') if ours else
                      ('tab:blue', 'lightsteelblue'))[number]
            bar(axes, row + 0.4 - height * (number + 0.5), height, stats,
                colour)
            drawn += [stats['min'], stats['max']]
        if values[0] not in entry:
            why = why_none(result, kind, measure).split(':')[0]
            axes.text(0.01, row, 'in the kernel' if entry else why,
                      fontsize=6, va='center',
                      transform=axes.get_yaxis_transform())
    axes.set_yticks(range(len(kinds)), reversed(kinds), fontsize=7)
    axes.tick_params(axis='x', labelsize=7)
    axes.set_ylim(-0.6, len(kinds) - 0.4)
    if logarithmic and drawn:
        axes.set_xscale('log')
        axes.set_xlim(10 ** math.floor(math.log10(min(drawn) * 0.99)),
                      10 ** math.ceil(math.log10(max(drawn))))
        axes.xaxis.set_major_formatter('{x:g}')
        axes.xaxis.set_minor_formatter('')
    axes.grid(axis='x', alpha=0.4)


def plot(result, path):
    """Draw a result; the ending of PATH says in which format."""
    import matplotlib       # pylint: disable=import-outside-toplevel
    matplotlib.use('Agg')
    # Two plots of one result are the same file, and their text is text.
    matplotlib.rcParams.update({'svg.hashsalt': 'qdes',
                                'svg.fonttype': 'none'})
    from matplotlib import pyplot   # pylint: disable=C0415

    summary = summarize(result['samples'])
    fields = [f for f in FIELDS if any(
        f[0] in about['measures'] for about in result['kinds'].values())]
    rows = (len(fields) + 1) // 2
    figure, all_axes = pyplot.subplots(rows, 2, figsize=(12, 3.6 * rows),
                                       squeeze=False)
    for axes in all_axes.flat[len(fields):]:
        axes.remove()
    for axes, (measure, values, heading, log) in zip(all_axes.flat, fields):
        axes.set_title(heading, fontsize=9)
        field(axes, result, summary, measure, values, log)
    machine = result['machine']
    figure.suptitle('QDES (orange) and its peers: medians, least to most; '
                    f'rounds: {result["options"]["rounds"]}\n'
                    f'{machine["cpu"]}, {machine["cores"]} cores, '
                    f'Linux {machine["kernel"]}, {result["date"]}',
                    fontsize=10)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.6 / (3.6 * rows)))
    svg = path.suffix == '.svg'
    figure.savefig(path, metadata={'Date': None} if svg else None)
    pyplot.close(figure)
    if svg:
        first, rest = path.read_text(encoding='utf-8').split('\n', 1)
        path.write_text(f'{first}\n<!-- {result["licence"]} -->\n{rest}',
                        encoding='utf-8')
