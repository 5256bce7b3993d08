#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A fabric that lives through all that happens to fabrics; see --help."""

import argparse
import contextlib
import heapq
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / 'tests/lib'), str(ROOT / 'tests/guest'),
                str(Path(__file__).resolve().parent)]

# With sanitizers, freed memory would be kept, and look like lost memory.
os.environ.setdefault('ASAN_OPTIONS', 'quarantine_size_mb=1')

import netns                                            # noqa: E402
import guests                                           # noqa: E402
from fleet import (EXPECTED, FLOWS, GUESTS, REKEYED,    # noqa: E402
                   SPECS, STATIONS, Fleet)
from plan import Plan                                   # noqa: E402
from ports import QDES_TAP, unbalanced                  # noqa: E402
from procs import PATIENCE, wait_for                    # noqa: E402

ROUND = 40              # seconds of events, then all has to be well again
FORGOTTEN = 150         # seconds until the last trace of the dead is gone: a
                        # hold time, and rounds of asking for relays
LATE = 150              # seconds until TCP has tried again
PROGRESS = 100000       # bytes that each side gets then
LASTING = 120           # seconds of a run that has time for all of it
TELL = 8                # seconds of waiting until it is said what for
LOG_LIMIT = 200         # lines of one port's life
GROWTH = 3 << 20        # bytes that a port may need more than at first
MEMORY = 32 << 20       # bytes that it may need at all


class Soak:
    """A run: rounds of events, and of looking whether all is well."""

    def __init__(self, args, net, output=sys.stdout):
        self.args, self.net, self.output = args, net, output
        self.begin = time.monotonic()
        self.fleet = Fleet(net, args.seed, args.guests)
        self.plan = make_plan(args)
        self.ends = []          # what is to be ended, by its time
        self.number = 0
        self.counts = {}
        self.skipped = 0
        # Then nobody waits until traces of those who moved are gone.
        self.is_short = args.seconds < LASTING
        self.settled = []       # seconds each round took to be well again
        self.judged = set()     # lives that are over and were looked at

    def say(self, text):
        print(f'{time.monotonic() - self.begin:7.1f}  {text}',
              file=self.output, flush=True)

    # --- Events -------------------------------------------------------------

    def end_due(self, now):
        while self.ends and self.ends[0][0] <= now:
            _, _, what, how = heapq.heappop(self.ends)
            how()
            self.say(f'  {what}')

    def wait_until(self, then):
        """What ends until then is ended."""
        while True:
            self.end_due(time.monotonic())
            self.look_at_flows()
            left = then - time.monotonic()
            if left <= 0:
                return
            if self.ends:
                left = min(left, max(0, self.ends[0][0] - time.monotonic()))
            time.sleep(min(left, 0.2))

    def happen(self, event):
        ends = self.fleet.event(event)
        if ends is None:
            self.skipped += 1
            self.say(f'{event}: not now')
            return
        self.counts[event.kind] = self.counts.get(event.kind, 0) + 1
        self.say(str(event))
        now = time.monotonic()
        for seconds, what, how in ends:
            self.number += 1
            heapq.heappush(self.ends, (now + seconds, self.number, what, how))

    def round(self, number, seconds, long):
        """Events, each when the plan has it, or as soon as that is done."""
        begin = time.monotonic()
        for event in self.plan.round(number, seconds, long):
            self.wait_until(begin + event.at)
            self.happen(event)
        while self.ends:
            self.wait_until(self.ends[0][0])

    # --- Truth --------------------------------------------------------------

    def look_at_flows(self):
        traffic = self.fleet.traffic
        for flow in list(traffic.flows):
            assert not flow.error, f'connection {flow.name}: {flow.error}'
            if flow.done:
                traffic.drop(flow)
        assert traffic.is_alive(), 'what moves the connections has failed'
        for node in self.fleet.nodes:
            assert not node.port.died, \
                f'{node} ended by itself, {node.port.process.popen.returncode}'

    def wait(self, wrong, deadline, what):
        """Until WRONG() finds nothing."""
        found = []
        told = time.monotonic()

        def well():
            nonlocal told
            self.look_at_flows()
            found[:] = wrong()
            if found and time.monotonic() > told + TELL:
                told += TELL
                self.say(f'  not yet well: {"; ".join(found)}')
            return not found
        wait_for(well, deadline, lambda: f'{what}: ' + '; '.join(found),
                 interval=0.2)

    def states(self):
        return {node: node.port.status() for node in self.fleet.nodes}

    def wrong_peers(self):
        """Each knows the others, all of them, nobody else, and each once."""
        states = self.states()
        wrong = []
        for node, state in states.items():
            names = {n.name for n in states if n is not node}
            met = {peer['name'] for peer in state['peers']}
            relayed, missed = self.missed(node, state, states)
            wrong += missed
            wrong += [f'{node} does not know {n}'
                      for n in names - met - relayed]
            wrong += [f'{node} knows {n} and misses it'
                      for n in met & relayed]
            for peer in state['peers']:
                who = self.fleet.by_name.get(peer['name'])
                where = f'{node} has {peer["name"]} at {peer["address"]}'
                if not who or who is node:
                    wrong.append(f'{where}, who is nobody')
                elif not who.owns(peer['address'], states[who]['local']):
                    if not (self.is_short and who.left(peer['address']) and
                            not peer['macs']):
                        wrong.append(f'{where}, where it is not')
                elif peer['state'] != 'alive':
                    wrong.append(f'{where}, {peer["state"]}')
            for name in names & met:
                who = self.fleet.by_name[name]
                mine = [p for p in state['peers'] if p['name'] == name and
                        who.owns(p['address'], states[who]['local'])]
                if not any(p['proven'] for p in mine):
                    wrong.append(f'{node} has no proof of {name}')
                ways = sum(p['copy'] for p in mine) + \
                    any(p['by-group'] for p in mine)
                if ways != 1:
                    wrong.append(f'{node} floods {ways} times to {name}')
            wrong += self.wrong_seal(node, state, states, len(relayed))
        return wrong

    def missed(self, node, state, states):
        """Whom a port reaches by the relay, as may be; and what is wrong."""
        relayed, wrong = set(), []
        for entry in state['unreachable']:
            who = [n for n in states if n is not node and
                   n.owns(entry['address'], states[n]['local'])]
            relay, = [n for n in states if n.is_relay]
            if (len(who) == 1 and node.may_miss(who[0]) and 'relay' in entry
                    and relay.owns(entry['relay'], states[relay]['local'])):
                relayed.add(who[0].name)
            else:
                wrong.append(f'{node} misses {entry}')
        return relayed, wrong

    def wrong_seal(self, node, state, states, relayed):
        seal = state['seal']
        keys = {s['seal']['key'] for s in states.values()}
        wrong = []
        if len(keys) != 1 or 'old-key' in seal or seal['flooding-old']:
            wrong.append(f'{node} seals with {seal}, all with {keys}')
        if seal['sessions'] < len(states) - 1 - relayed:
            wrong.append(f'{node} has {seal["sessions"]} sessions')
        return wrong

    def ways(self, node, state, states, place):
        """Who may have the MAC addresses of PLACE, as a port sees it."""
        if place.name in self.missed(node, state, states)[0]:
            return [n for n in states if n.is_relay]
        return [place]

    def wrong_fdb(self):
        """Every station is where it is, for everybody; nobody else is."""
        states = self.states()
        stations = {s.mac: s for s in self.fleet.stations + self.fleet.guests}
        wrong = []
        for node, state in states.items():
            table = {entry['mac']: entry for entry in state['fdb']}
            wrong += [f'{node} has {m}, which nobody has'
                      for m in table.keys() - stations.keys()]
            for address, station in stations.items():
                entry = table.get(address)
                if not entry:
                    wrong.append(f'{node} does not know {station}')
                elif station.place is node:
                    if not entry['local']:
                        wrong.append(f'{node} has its own {station} at '
                                     f'{entry["peer"]}')
                elif entry['local'] or not any(
                        n.owns(entry['peer'], states[n]['local'])
                        for n in self.ways(node, state, states,
                                           station.place)):
                    wrong.append(f'{node} has {station} at '
                                 f'{entry.get("peer", "itself")}, which is '
                                 f'at {station.place}')
        return wrong

    def shout(self):
        """What one says to all, all get, and nobody gets it twice."""
        stations = self.fleet.stations
        for guest in self.fleet.guests:
            guest.announce()
        for station in stations:
            station.socket.pending()
        said = {station: station.shout() for station in stations}
        heard = {station: [] for station in stations}

        def missing():
            for station, frames in heard.items():
                frames += station.socket.pending()
            return [f'{here} has not heard {there}'
                    for here, frames in heard.items()
                    for there, data in said.items()
                    if here is not there and data not in frames]
        try:
            self.wait(missing, 5, 'a broadcast')
        finally:
            for here, frames in heard.items():
                for there, data in said.items():
                    assert frames.count(data) <= (here is not there), \
                        f'{here} has heard {there} {frames.count(data)} times'

    def reach_all(self):
        everybody = self.fleet.stations + self.fleet.guests
        for here in everybody:
            for there in everybody:
                if here is not there:
                    address = there.address6 if self.number % 2 else \
                        there.address
                    self.number += 1
                    wait_for(lambda h=here, a=address: h.ping(a), LATE,
                             lambda h=here: h.last_ping)

    def wrong_books(self):
        wrong = []
        for node, state in self.states().items():
            c = state['counters']
            wrong += [f'{node}: {text}' for text in unbalanced(c)]
            for what, there, added, *gone in (
                    ('peers', len(state['peers']), 'peers-added', 'peers-bye',
                     'peers-unreachable', 'peers-expired', 'peers-evicted'),
                    ('MAC addresses', len(state['fdb']), 'fdb-learned',
                     'fdb-aged', 'fdb-evicted', 'fdb-flushed')):
                left = c[added] - sum(c[name] for name in gone)
                if left != there:
                    wrong.append(f'{node} has {there} {what}, but counted '
                                 f'{left}: {c}')
        return wrong

    def wrong_resources(self):
        """Memory stays flat, and so do descriptors; the log stays small."""
        wrong = []
        for node in self.fleet.nodes:
            port = node.port
            files = len(os.listdir(f'/proc/{port.process.pid}/fd'))
            port.memories.append((port.process.memory(), files))
            now, first = port.memories[-1], port.memories[0]
            if self.args.sanitized:
                continue
            if node.spec.guest:
                pass            # its memory is the guest's
            elif now[0] > MEMORY or now[0] - first[0] > GROWTH:
                wrong.append(f'{node} has {now[0]} bytes of memory, at first '
                             f'{first[0]}')
            if files > first[1] + 2:
                wrong.append(f'{node} has {files} descriptors, at first '
                             f'{first[1]}')
            left = node.host.network.namespaces
            pids = netns.command(['ip', 'netns', 'pids', node.host.full_name])
            if len(pids.stdout.split()) > 2:
                wrong.append(f'{node} has left processes: {pids.stdout} '
                             f'{left}')
        return wrong

    def wrong_logs(self):
        wrong = []
        for node in self.fleet.nodes:
            for life in node.lives:
                if life in self.judged:
                    continue
                if not life.alive:
                    self.judged.add(life)
                expected = EXPECTED + (REKEYED if 'rekey' in self.counts
                                       else [])
                for pattern in expected:
                    life.logs.allow(pattern)
                wrong += life.logs.check()
                lines = life.process.log.count('\n')
                if lines > LOG_LIMIT:
                    wrong.append(f'{node} has said {lines} lines')
        return wrong

    def progress(self):
        traffic = self.fleet.traffic
        before = {f: list(f.received) for f in traffic.flows if not f.ending}

        def stuck():
            return [f'{f.name} got {f.received}, before {then}'
                    for f, then in before.items()
                    if any(n < b + PROGRESS
                           for n, b in zip(f.received, then))] + \
                   [f'{f.name} does not end' for f in traffic.flows
                    if f.ending and not f.done]
        self.wait(stuck, LATE, 'connections')

    def settle(self):
        """After some quiet, every table has the truth."""
        begin = time.monotonic()
        self.wait(self.wrong_peers, FORGOTTEN, 'peers')
        self.reach_all()
        self.shout()
        self.wait(self.wrong_fdb, 10, 'FDBs')
        self.progress()
        for check in self.wrong_books, self.wrong_resources, self.wrong_logs:
            wrong = check()
            assert not wrong, '\n'.join(wrong)
        self.settled.append(time.monotonic() - begin)
        self.say(f'all is well again after {self.settled[-1]:.1f} s')

    def finish(self):
        """Each connection ends with as many bytes as were sent."""
        traffic = self.fleet.traffic
        for flow in traffic.flows:
            flow.ending = True
        self.wait(lambda: [f.name for f in traffic.flows if not f.done], LATE,
                  'connections to end')
        self.look_at_flows()
        for node in self.fleet.nodes:
            node.port.stop()
        wrong = self.wrong_logs()
        assert not wrong, '\n'.join(wrong)

    def summary(self):
        traffic = self.fleet.traffic
        done = ', '.join(f'{count} {kind}' for kind, count in
                         sorted(self.counts.items()))
        nodes = [node for node in self.fleet.nodes if not node.spec.guest]
        boots = sum(len(guest.lives) for guest in self.fleet.guests)
        lives = [life for node in nodes for life in node.lives]
        grown = [life.memories[-1][0] - life.memories[0][0]
                 for life in lives if life.memories]
        most = max((m[0] for life in lives for m in life.memories), default=0)
        return [
            f'seed {self.args.seed}: {sum(self.counts.values())} events '
            f'({done}; {self.skipped} not possible when due)',
            f'{len(self.settled)} rounds; well again after '
            f'{max(self.settled, default=0):.1f} s at most',
            f'{traffic.connections} TCP connections, {traffic.total >> 20} '
            'MiB, every byte as it was sent; the longest stall '
            f'{traffic.worst:.1f} s',
            f'{len(lives)} lives of {len(nodes)} qdes-taps; at most '
            f'{most >> 10} KiB of memory, grown by '
            f'{max(grown, default=0) >> 10} KiB at most',
            f'{boots} boots of {len(self.fleet.guests)} guests']

    def run(self):
        self.say(f'seed {self.args.seed}; hosts '
                 f'{", ".join(self.fleet.by_name)}: each has a guest, or '
                 'qdes-tap, a bridge, and stations')
        self.settle()
        end = self.begin + self.args.seconds
        number = 0
        while not number or time.monotonic() < end:
            seconds = min(ROUND, max(end - time.monotonic(), 5))
            self.round(number, seconds, not self.is_short)
            self.settle()
            number += 1
        self.finish()


def show_logs(net):
    """The ends of all logs, for who has to find out."""
    for process in net.processes:
        print(f'--- log of {" ".join(process.argv)}\n'
              f'{process.log[-4000:]}')


def is_sanitized(program):
    with open(program, 'rb') as file:
        return b'__asan_init' in file.read()


def parse(argv):
    parser = argparse.ArgumentParser(
        prog='scripts/soak', formatter_class=argparse.RawTextHelpFormatter,
        description='''\
Let a sealed fabric live through what happens to fabrics, and look whether it
is well. As root; all is in network namespaces that the run makes, and removes
however it ends.

Six hosts with qdes-tap: one that all others list, and that relays; three in a
multicast group; one that lists the first by IPv6; one behind NAT. Stations
behind them have TCP connections to each other, by IPv4 and IPv6, in both
directions, which nothing may break. And two guests, in QEMU, which send back
what stations send them; their connections end with them only. At random, ports
are killed and ended, and started again; stations move from one port to another;
hosts are cut off (cable, link, firewall, silence, or just from one another)
and get new addresses; the NAT forgets; peers are listed and struck off; FDBs
are flushed; and the whole fleet changes its secret. All of it follows from
the seed.

After each round of 40 s, all is to be well again: each port knows all others
and nobody else, each once and proven; each MAC address is where it is, for
all; a broadcast comes once; counters add up; all TCP goes on, no byte lost,
changed or doubled; memory and logs are small; nobody warns of what nobody
did. (A run of less than 120 s does not wait until the last trace of an old
address is gone, which a peer's hold time of 30 s keeps.)''',
        epilog='''\
QDES_TAP says which qdes-tap is meant (scripts/soak builds one without it),
QDES_QEMU which QEMU, QDES_GUEST which folder of tests/guest/build.
QDES_PATIENCE=3 allows three times as long for everything.''')
    parser.add_argument('--seconds', type=int, default=600, metavar='N',
                        help='how long things happen; some time to settle is '
                        'added\n(default: 600)')
    parser.add_argument('--seed', metavar='TEXT',
                        help='what follows from it, happens again')
    parser.add_argument('--plan', action='store_true',
                        help='show what would happen in the first round, and '
                        'do not')
    parser.add_argument('--logs', metavar='DIR',
                        help='keep the logs of all programs there (a failed '
                        'run\nkeeps them anyway, and says where)')
    parser.add_argument('--guests', choices=('on', 'off'),
                        help='with guests (default: on if there is a QEMU '
                        'that has QDES)')
    args = parser.parse_args(argv)
    if not 1 <= args.seconds <= 86400:
        parser.error(f'--seconds={args.seconds}: must be 1 to 86400')
    if args.seed is None:
        args.seed = secrets.token_hex(4)
    args.no_guests = guests.why_not()
    if args.guests == 'on' and args.no_guests and not args.plan:
        parser.error(f'--guests=on: {args.no_guests}')
    args.guests = (not args.no_guests if args.guests is None
                   else args.guests == 'on')
    return args


def make_plan(args):
    return Plan(args.seed, SPECS + (GUESTS if args.guests else []), STATIONS,
                FLOWS)


def show_plan(args):
    plan = make_plan(args)
    for event in plan.round(0, min(ROUND, args.seconds),
                            args.seconds >= LASTING):
        print(f'{event.at:7.1f}  {event}')


def check_means(args):
    """Say what is missing; the exit status then."""
    if os.geteuid() != 0:
        return 'needs root, for network namespaces: sudo scripts/soak'
    if not os.access(QDES_TAP, os.X_OK):
        return f'{QDES_TAP} is not there: build it, or set QDES_TAP'
    for tool in ('ip', 'ping', 'nft'):
        if not shutil.which(tool):
            return (f'needs the program {tool}: scripts/install-deps '
                    '--for=check')
    args.sanitized = is_sanitized(QDES_TAP)
    return None


def interrupted(number, _frame):
    raise KeyboardInterrupt(signal.Signals(number).name)


def name_guests(args):
    if args.guests or not args.no_guests:
        return 'on' if args.guests else 'off'
    return f'off: {args.no_guests}'


def live(args):
    """A run, from beginning to end; its exit status."""
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, interrupted)
    print(f'soak: seed {args.seed}, guests {name_guests(args)}', flush=True)
    if args.plan:
        show_plan(args)
        return 0
    missing = check_means(args)
    if missing:
        print(f'soak: {missing}', file=sys.stderr)
        return 2
    logs = net = soak = None
    failed = 1
    try:
        logs = args.logs or tempfile.mkdtemp(prefix='qdes-soak.')
        os.makedirs(logs, exist_ok=True)
        netns.sweep()
        net = netns.Network(logs)
        soak = Soak(args, net)
        soak.run()
        failed = 0
    except KeyboardInterrupt as signal_:
        failed = 130
        print(f'soak: ended by {signal_}', flush=True)
    except Exception as error:       # whatever it is, it is a finding
        if soak:
            soak.say(f'FAILED: {type(error).__name__}: {error}')
        if not isinstance(error, AssertionError) or not soak:
            import traceback
            traceback.print_exc(file=sys.stdout)
        if net:
            show_logs(net)
    finally:
        # Nothing is to be left, so nobody is to interrupt that.
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            signal.signal(number, signal.SIG_IGN)
        if net:
            net.close()
        netns.sweep(os.getpid())
    if soak:
        for line in soak.summary():
            print(f'soak: {line}')
    if logs and failed != 1 and not args.logs:
        shutil.rmtree(logs, ignore_errors=True)
    elif logs:
        print(f'soak: logs are in {logs}')
    print('soak: ' + {0: 'passed', 1: 'FAILED', 130: 'interrupted'}[failed] +
          f'; again with --seed={args.seed} '
          f'--guests={"on" if args.guests else "off"}', flush=True)
    return failed


def main(argv=None):
    args = parse(argv)
    try:
        return live(args)
    except KeyboardInterrupt as signal_:
        # Before there was anything.
        print(f'soak: interrupted by {signal_}', flush=True)
        return 130


if __name__ == '__main__':
    sys.exit(main())
