# SPDX-License-Identifier: GPL-2.0-or-later
"""Live migration from host to host while a third port talks to the guest.

    h1: QEMU, source      h2: QEMU, destination      h3: qdes-tap
"""

import re

from procs import wait_for
from traffic import Dialogue


def gaps(text):
    """Seconds between one answer of a ping -D and the next."""
    times = [float(t) for t in re.findall(r'^\[([0-9.]+)\] .*icmp_seq',
                                          text, re.MULTILINE)]
    return [after - before for before, after in zip(times, times[1:])]


def test_live_migration(net, tap, boot):
    hosts = net.hosts(3)
    third = tap(hosts[2]).configure('10.81.0.9/24')
    options = {'name': 'mover', 'addresses': ['10.81.0.1/24']}
    source = boot(hosts[0], **options)
    target = boot(hosts[1], incoming=True, **options)
    assert source.mac == target.mac
    source.wait_ready()
    source.background('socat TCP-LISTEN:7,reuseaddr,fork PIPE')
    source.wait_until('netstat -ltn | grep -q :7')
    old, new = source.port.address, target.port.address

    dialogue = Dialogue(hosts[2], '10.81.0.1', 7)
    ping = hosts[2].start(['ping', '-D', '-n', '-i', '0.02', '10.81.0.1'],
                          'ping')
    ping.wait_log('icmp_seq=20 ')
    wait_for(lambda: dialogue.lines > 20)
    assert third.fdb[source.mac]['peer'] == old
    before = third.counters

    source.migrate_to(target.guest)
    lines = dialogue.lines
    # The new host announces the guest: nobody has to wait for its frames.
    wait_for(lambda: third.peer_of(source.mac) == new, 2)
    wait_for(lambda: dialogue.lines > lines + 50, 20)
    source.quit()
    seen = int(re.findall('icmp_seq=([0-9]+)', ping.log)[-1])
    ping.wait_log(f'icmp_seq={seen + 50} ')
    ping.stop()
    dialogue.finish()

    assert dialogue.longest < 5, f'TCP stood still for {dialogue.longest} s'
    assert max(gaps(ping.log)) < 3, f'{max(gaps(ping.log))} s without answer'
    changes = third.changes(before)
    assert third.fdb[source.mac]['moves'] == 1
    assert changes['fdb-moved'] == 1
    assert changes['peers-bye'] == 1
    assert third.count('mac-duplicate') == 0
    assert target.check('cat /proc/sys/kernel/hostname') == 'mover\n'
    assert target.port.fdb[source.mac]['local'] is True
    target.assert_ping('10.81.0.9')
