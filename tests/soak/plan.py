# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens in a soak run, and when: all of it comes from a seed.

A plan knows no network: the same seed gives the same plan on every machine,
however long each event takes there.  Each kind of event comes once before any
comes twice, so that short runs have them all, too.
"""

import random
from dataclasses import dataclass, field

# What cuts a port off for a while; nothing else happens to its host then.
CUTS = ('kill', 'stop', 'unplug', 'cable', 'silent', 'firewall', 'tapdown')
KINDS = CUTS + ('pair', 'renumber', 'remap', 'move', 'move', 'rekey',
                'peer', 'flush', 'reconnect')

CUT_AT_ONCE = 3         # ports that are cut off at the same time
LONG = 45               # seconds: longer than a peer's hold time


@dataclass(frozen=True)
class Host:
    """A host with a port, as a plan knows it."""

    name: str
    nat: bool = False       # what its router does happens to it
    fixed: bool = False     # others list its address
    guest: bool = False     # its port is a guest's, and has no stations


@dataclass(frozen=True)
class Event:
    """KIND happens AT a time, to a host, for so many seconds."""

    at: float
    kind: str
    host: str = ''
    seconds: float = 0.0
    args: tuple = field(default=())

    def __str__(self):
        words = [self.kind, self.host, *map(str, self.args)]
        if self.seconds:
            words.append(f'for {self.seconds:.1f} s')
        return ' '.join(w for w in words if w)


class Plan:
    """Events, round by round."""

    def __init__(self, seed, hosts, stations, flows):
        self.seed = seed
        self.hosts = hosts
        self.stations = stations
        self.flows = flows

    def round(self, number, seconds, long=False):
        """The events of a round.

        With LONG, some last longer than peers are waited for, and some leave
        behind what only the end of a hold time clears.
        """
        rnd = random.Random(f'{self.seed}/{number}')
        events, deck = [], []
        busy = {}           # host -> until when
        rekeyed = 0
        renumbered = set()
        at = rnd.uniform(0.1, 0.6)
        while at < seconds:
            free = [h for h in self.hosts if busy.get(h.name, 0) <= at]
            cut = sum(until > at for until in busy.values())
            if not deck:
                deck = rnd.sample(KINDS, len(KINDS))
            # What cannot be now is the first to be tried next time.
            for kind in deck:
                able = free
                if kind == 'kill' and not long:
                    # Silence alone would tell that it is gone from there.
                    able = [h for h in free if h.name not in renumbered]
                event = None
                if kind != 'rekey' or at >= rekeyed:
                    event = self._event(rnd, kind, at, able, cut, long)
                if event:
                    break
            else:
                deck += rnd.sample(KINDS, len(KINDS))
                at += 0.1
                continue
            deck.remove(kind)
            events.append(event)
            if kind in CUTS or kind == 'pair':
                busy[event.host] = at + event.seconds + 0.5
            if kind == 'pair':
                busy[event.args[0]] = busy[event.host]
            if kind == 'renumber':
                renumbered.add(event.host)
            if kind == 'rekey':
                rekeyed = at + event.seconds + 0.5
            at += rnd.uniform(0.2, 1)
        return events

    def _event(self, rnd, kind, at, free, cut, long):
        """One of that KIND, or None where nobody is free for it."""
        seconds = round(rnd.uniform(0.5, 6), 1)
        if long and rnd.random() < 0.08:
            seconds = LONG
        if kind in CUTS or kind == 'pair':
            if cut + (kind == 'pair') >= CUT_AT_ONCE:
                return None
        if kind == 'firewall' or kind == 'pair':
            free = [h for h in free if not h.nat]
        elif kind == 'renumber':
            free = [h for h in free if not h.nat and not h.fixed]
            seconds = 0
        elif kind == 'remap':
            free = [h for h in free if h.nat]
            seconds = 0
        if len(free) < 1 + (kind == 'pair'):
            return None
        host = rnd.choice(free).name
        args = ()
        if kind == 'pair':
            args = (rnd.choice([h.name for h in free if h.name != host]),)
        elif kind == 'move':
            places = [h.name for h in self.hosts if not h.guest]
            args, host = (rnd.choice(self.stations), rnd.choice(places)), ''
            seconds = 0
        elif kind == 'rekey':
            order = [h.name for h in self.hosts]
            rnd.shuffle(order)
            args, host = (','.join(order),), ''
        elif kind == 'peer':
            args = (rnd.choice(['listed', 'listed6', 'nobody']),)
        elif kind == 'flush':
            args = (rnd.choice(['all', rnd.choice(self.stations)]),)
            seconds = 0
        elif kind == 'reconnect':
            args = (rnd.randrange(self.flows),
                    *rnd.sample(self.stations, 2), rnd.choice([4, 6]))
            host, seconds = '', 0
        return Event(at, kind, host, seconds, args)
