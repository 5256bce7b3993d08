# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benchmark measures in a lab.

Every measure returns a dict of numbers.  "cpu" is the processor time of the
programs that carry the frames, all their threads, user and system; for what
the kernel does on behalf of nobody "busy" is there too: everything that the
whole machine did, the traffic's own source and sink included.
"""

import contextlib
import json
import os
import re
import statistics
import subprocess
import time

from guest import GuestError
from procs import wait_for

TICK = os.sysconf('SC_CLK_TCK')


class MeasureError(Exception):
    """There is no figure, and this is why."""


def process_seconds(pid):
    """Processor time of a process so far, all threads, also ended ones.

    /proc/PID/stat counts in steps of 10 ms, by which a hundred idle ports
    could look like ports that cost nothing; this clock counts nanoseconds.
    Its number is what clock_getcpuclockid(3) would give.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        raise MeasureError(f'process {pid} has ended') from None


def main_thread_seconds(pid):
    """The same for the first thread alone: in QEMU, the main loop."""
    try:
        with open(f'/proc/{pid}/task/{pid}/schedstat',
                  encoding='ascii') as file:
            return int(file.read().split()[0]) * 1e-9
    except FileNotFoundError:
        pass        # a kernel without these; or the process is gone
    try:
        with open(f'/proc/{pid}/task/{pid}/stat', encoding='ascii',
                  errors='replace') as file:
            fields = file.read().rpartition(')')[2].split()
    except FileNotFoundError:
        raise MeasureError(f'process {pid} has ended') from None
    return (int(fields[11]) + int(fields[12])) / TICK


def busy_seconds():
    """Time that all processors have not been idle so far."""
    with open('/proc/stat', encoding='ascii') as file:
        user, nice, system, _idle, _wait, irq, softirq = \
            [int(f) for f in file.readline().split()[1:8]]
    return (user + nice + system + irq + softirq) / TICK


def others_seconds():
    """Processor time so far of programs that are not this one's children.

    It should be next to nothing: it is what disturbs the measurements.
    """
    parents, times = {}, {}
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{name}/stat', encoding='ascii',
                      errors='replace') as file:
                fields = file.read().rpartition(')')[2].split()
        except OSError:
            continue
        parents[int(name)] = int(fields[1])
        # What its ended children took is there too.
        times[int(name)] = sum(int(f) for f in fields[11:15]) / TICK
    total = 0
    for pid, seconds in times.items():
        line = {pid}
        while pid in parents and parents[pid] not in line:
            pid = parents[pid]
            line.add(pid)
        # 2 is the parent of the kernel's own threads.
        if not line & {os.getpid(), 2}:
            total += seconds
    return total


class Meter:
    """Processor time spent between its making and read()."""

    def __init__(self, lab):
        self.pids = lab.forwarders
        self.before = self._now()

    def _now(self):
        return (sum(process_seconds(p) for p in self.pids),
                sum(main_thread_seconds(p) for p in self.pids),
                busy_seconds())

    def read(self):
        return [now - then for now, then in zip(self._now(), self.before)]


def quantile(values, share):
    """The smallest of the values that SHARE of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]


# --- What runs where --------------------------------------------------------

class HostEnds:
    """The two ends of the overlay are namespaces."""

    def __init__(self, lab):
        self.lab = lab

    @staticmethod
    def congestion(options):
        return ['-C', options.congestion] if options.congestion else []

    def iperf3(self, extra, options):
        """Run iperf3 across; what its client says, as JSON."""
        lab, port, seconds = self.lab, self.lab.port(), options.seconds
        if '-u' not in extra:
            extra = [*extra, *self.congestion(options)]
        server = lab.b.start(['iperf3', '-s', '-1', '-p', port,
                              '--forceflush'], 'iperf3')
        server.wait_log('Server listening', 10)
        try:
            done = lab.a.run(['iperf3', '-c', lab.far, '-p', port, '-J', '-i',
                              '0', '-t', seconds, *extra], check=False,
                             timeout=seconds + 20)
        finally:
            server.kill()
        return done.stdout

    def ping(self, count):
        """Round-trip times in milliseconds."""
        done = self.lab.a.run(['ping', '-n', '-c', count, '-i', '0.002', '-W',
                               '1', self.lab.far], check=False, timeout=60)
        return done.stdout

    @contextlib.contextmanager
    def bulk(self, extra, options):
        """A TCP flow beside; calling what this gives tells its Gb/s."""
        lab, port = self.lab, self.lab.port()
        server = lab.b.start(['iperf3', '-s', '-1', '-p', port,
                              '--forceflush'], 'iperf3')
        server.wait_log('Server listening', 10)
        client = lab.a.start(['iperf3', '-c', lab.far, '-p', port, '-t', 60,
                              *extra, *self.congestion(options)], 'bulk')
        try:
            first = lab.received()
            wait_for(lambda: lab.received() - first > 4 << 20, 10,
                     'the bulk flow to start')
            start, begun = lab.received(), time.monotonic()

            def rate():
                if not client.running:
                    raise MeasureError(f'the bulk flow ended: {client.log}')
                return ((lab.received() - start) * 8e-9 /
                        (time.monotonic() - begun))
            yield rate
        finally:
            client.kill()
            server.kill()


class GuestEnds:
    """The two ends are guests."""

    def __init__(self, lab):
        self.lab = lab

    def iperf3(self, extra, options):
        here, there = self.lab.guests
        port, seconds = self.lab.port(), options.seconds
        job = there.background(f'iperf3 -s -1 -p {port}')
        there.wait_until(f'netstat -ltn | grep -q :{port}', 10)
        try:
            return here.run(f'iperf3 -c {self.lab.far} -p {port} -J -i 0 '
                            f'-t {seconds} {" ".join(extra)}',
                            timeout=seconds + 20)[1]
        finally:
            there.run('killall iperf3')
            there.wait_for(job)

    def ping(self, count):
        return self.lab.guests[0].run(
            f'ping -c {count} -i 0.004 -W 1 {self.lab.far} | '
            "sed 's/.*\\(time=.*\\)/\\1/'", timeout=60)[1]


def ends(lab):
    return GuestEnds(lab) if hasattr(lab, 'guests') else HostEnds(lab)


# --- The measures -----------------------------------------------------------

def run_iperf3(lab, extra, options):
    """The results of a run, and the processor time it took."""
    meter = Meter(lab)
    text = ends(lab).iperf3(extra, options)
    spent = meter.read()
    try:
        report = json.loads(text)
    except ValueError:
        raise MeasureError(f'iperf3: {text.strip()[-200:] or "no output"}') \
            from None
    if report.get('error'):
        raise MeasureError(f'iperf3: {report["error"]}')
    return report['end'], spent


def with_cost(lab, values, spent, size):
    """The same values and what a gigabyte cost, SIZE bytes having come."""
    if not size:
        raise MeasureError('nothing was received')
    cpu, main, busy = (seconds * 1e9 / size for seconds in spent)
    values['busy_per_gb'] = busy
    if lab.forwarders:      # else the kernel does it
        values['cpu_per_gb'] = cpu
    if hasattr(lab, 'guests'):
        values['main_thread_per_gb'] = main
    return values


def one_way(lab, extra, options):
    end, spent = run_iperf3(lab, extra, options)
    received = end['sum_received']
    return with_cost(lab, {'gbps': received['bits_per_second'] / 1e9}, spent,
                     received['bytes'])


def tcp(lab, options):
    return one_way(lab, [], options)


def tcp4(lab, options):
    return one_way(lab, ['-P', '4'], options)


def bidir(lab, options):
    """Both directions at once; the figure is their sum."""
    end, spent = run_iperf3(lab, ['--bidir'], options)
    there, back = end['sum_received'], end['sum_received_bidir_reverse']
    rates = [d['bits_per_second'] / 1e9 for d in (there, back)]
    return with_cost(lab, {'gbps': sum(rates), 'there': rates[0],
                           'back': rates[1]}, spent,
                     there['bytes'] + back['bytes'])


def small(lab, options):
    """Datagrams of 18 bytes, which make frames of 60, as fast as can be."""
    end, spent = run_iperf3(lab, ['-u', '-b', '0', '-l', '18'], options)
    total = end.get('sum_received', end['sum'])
    count = total['packets'] - total['lost_packets']
    if count <= 0:
        raise MeasureError('nothing was received')
    values = {'kpps': count / total['seconds'] / 1e3,
              'sent_kpps': end['sum']['packets'] / end['sum']['seconds'] / 1e3,
              'busy_us_per_packet': spent[2] * 1e6 / count}
    if lab.forwarders:
        values['cpu_us_per_packet'] = spent[0] * 1e6 / count
    return values


def round_trips(lab, options):
    count = options.pings
    if hasattr(lab, 'guests'):
        count = max(1, count // 2)      # a guest takes longer for each
    text = ends(lab).ping(count)
    times = [float(t) for t in re.findall(r'time=([0-9.]+) ms', text)]
    if len(times) < count / 2:
        raise MeasureError(f'{len(times)} of {count} pings answered: '
                           f'{text.strip()[-100:]}')
    return {'median_us': statistics.median(times) * 1e3,
            'p99_us': quantile(times, 0.99) * 1e3,
            'max_us': max(times) * 1e3, 'samples': len(times),
            'lost_percent': 100 * (1 - len(times) / count)}


def rtt(lab, options):
    return round_trips(lab, options)


def loaded_round_trips(lab, options, extra):
    with ends(lab).bulk(extra, options) as rate:
        values = round_trips(lab, options)
        values['beside_gbps'] = rate()
    return values


def rtt_load(lab, options):
    """Beside a flow as fast as it goes: who carries more, has more load."""
    return loaded_round_trips(lab, options, [])


def rtt_same(lab, options):
    """Beside a flow that all kinds are able to carry."""
    return loaded_round_trips(lab, options, ['-b', '300M'])


def flood(lab, options):
    """Bursts of broadcast frames: what they cost, how many come."""
    bursts, size = options.bursts, 100
    before = lab.counts()
    meter = Meter(lab)
    for _ in range(bursts):
        next_burst = time.monotonic() + 0.2
        for _ in range(size):
            lab.sender.send(lab.frame)
        time.sleep(max(0, next_burst - time.monotonic()))
    last = None
    end = time.monotonic() + 10
    while last != (last := lab.counts()) and time.monotonic() < end:
        time.sleep(0.2)
    cpu, _, busy = meter.read()
    lab.check()
    came = sum(last[tap] - before[tap] for tap in last if tap != 'tap0')
    wanted = bursts * size * (len(lab.ports) - 1)
    if not came:
        raise MeasureError('nothing was received')
    return {'delivered_percent': 100 * came / wanted,
            'cpu_ms_per_frame': cpu * 1e3 / (bursts * size),
            'cpu_us_per_delivery': cpu * 1e6 / came,
            'busy_us_per_delivery': busy * 1e6 / came}


MEASURES = {'tcp': tcp, 'tcp4': tcp4, 'bidir': bidir, 'small': small,
            'rtt': rtt, 'rtt-load': rtt_load, 'rtt-same': rtt_same,
            'flood': flood}

# What may go wrong while measuring, and is then the result.
FAILURES = (MeasureError, AssertionError, GuestError, OSError, KeyError,
            subprocess.SubprocessError)
