# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest and a qdes-tap in one sealed fabric.

What the user guide says of sealed fabrics is typed here, line by line, in its
order: "alice$ …" and "bob# …" on these hosts, and QMP in between in alice's
QEMU.

    alice: QEMU, 10.8.0.1    bob: qdes-tap, 10.8.0.2
"""

import json
import re
import shlex

import pytest
from guests import GuestPort
from ports import QDES_TAP, ROOT
from procs import PATIENCE, wait_for
from taptool import run
from traffic import Dialogue

PAGE = ROOT / 'docs/user-guide.md'
CONTROL = 'tap0.control'        # as the page has it
ECHO = 'socat TCP-LISTEN:7,reuseaddr,fork PIPE'


def typed_lines():
    """(who, what) of the page's chapter."""
    chapter = re.search(r'^## Sealed fabrics\n(.*?)^## ',
                        PAGE.read_text(encoding='utf-8'), re.M | re.S)[1]
    found = []
    for line in chapter.splitlines():
        if match := re.fullmatch(r'    (alice|bob)[$#] (.*)', line):
            found.append((match[1], match[2]))
        elif line.startswith('    {'):
            found.append(('qmp', line))
        else:
            assert not line.startswith('    '), f'not typed: {line}'
    return found


class Lab:
    """The two, in a folder that both have."""

    def __init__(self, net, boot):
        self.boot = boot
        self.alice, self.bob = net.hosts(2)
        self.guest = self.port = None

    def start_guest(self, words):
        self.guest = self.boot(self.alice, netdevs=(), extra=words,
                               addresses=['10.8.0.1/24'])
        self.port = GuestPort(self.guest, 'n')

    def type(self, who, line):
        host = self.bob if who == 'bob' else self.alice
        if who == 'qmp':
            message = json.loads(line)
            self.guest.qmp(message['execute'], **message['arguments'])
        elif line.startswith('qemu-system-x86_64 '):
            self.start_guest(shlex.split(line)[1:])
        elif line.startswith('qdes-tap --tap '):
            self.start_tap(*shlex.split(line)[1:])
        elif line.startswith('qdes-tap '):
            done = run(host, *shlex.split(line)[1:])
            assert done.returncode == 0, done.stderr
        else:
            host.run(['sh', '-c', line])

    def start_tap(self, *args):
        self.tap = self.bob.start([QDES_TAP, *args], 'qdes-tap')
        self.tap.wait_log(r'is ready', 10)

    def seals(self):
        """What both say of the seal: the guest's port, the host's."""
        done = run(self.bob, 'status', '--json', '--control', CONTROL)
        return self.port.status()['seal'], json.loads(done.stdout)['seal']

    def status_text(self):
        return (self.guest.hmp('info qdes'),
                run(self.bob, 'status', '--control', CONTROL).stdout)

    def tap_counters(self):
        done = run(self.bob, 'status', '--json', '--control', CONTROL)
        return json.loads(done.stdout)['counters']


@pytest.fixture(name='lab')
def fixture_lab(net, boot, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Lab(net, boot)


def test_user_guide(lab, tmp_path):
    """A key, a fabric, another key; a TCP connection sees nothing of it."""
    lines = typed_lines()
    changed = next(i for i, (_, line) in enumerate(lines) if 'new.key' in line)
    for who, line in lines[:changed]:
        lab.type(who, line)
    assert (tmp_path / 'fabric.key').stat().st_mode & 0o777 == 0o600
    guest, bob = lab.guest, lab.bob
    guest.wait_ready()
    lab.port.wait_peers(1)
    guest.assert_ping('10.8.0.2')
    bob.assert_ping('10.8.0.1', size=8000)
    first, tap_first = lab.seals()
    assert first['key'] == tap_first['key']
    assert 'old-key' not in first
    for text in lab.status_text():
        assert f'sealed by {first["cipher"]}, key {first["key"]};' in text

    guest.background(ECHO)
    guest.wait_until('netstat -ltn | grep -q :7')
    dialogue = Dialogue(bob, '10.8.0.1', 7)
    wait_for(lambda: dialogue.lines > 20)
    seen = []
    for who, line in lines[changed:]:
        if who == 'qmp' and '"secret": "new"}' in line:
            # "When all have it": nothing goes by the old one any more.
            wait_for(lambda: not any(s['flooding-old'] for s in lab.seals()))
            assert not any('floods go by it' in text
                           for text in lab.status_text())
        lab.type(who, line)
        seen.append([(s['key'], s.get('old-key')) for s in lab.seals()])
        told = dialogue.lines
        wait_for(lambda n=told: dialogue.lines > n + 20)
        assert guest.ping('10.8.0.2'), guest.last_ping
    wait_for(lambda: dialogue.lines > 200)
    dialogue.finish()
    assert dialogue.longest < PATIENCE, f'TCP stood still for {dialogue.longest} s'

    new = lab.seals()[0]['key']
    old = first['key']
    assert new != old
    plain, both, alone = (old, None), (new, old), (new, None)
    assert [plain, plain] in seen and [both, plain] in seen
    assert [both, both] in seen and [alone, both] in seen
    assert seen[-1] == [alone, alone]
    for counters in lab.port.counters, lab.tap_counters():
        # Not rx-drop-replay: before they know each other well, floods come
        # by the group and as copies.
        for name in 'peers-expired', 'rx-drop-seal', 'rx-drop-plain':
            assert counters[name] == 0, (name, counters)


GUEST = ['-object', 'secret,id=k,file=one.key', '-netdev',
         'qdes,id=n,netid=7,secret=k,peers.0=%s:20805', '-device',
         'virtio-net-pci,netdev=n,mac=52:54:00:00:00:01']


def test_wrong_secret(lab, tmp_path):
    """What one sees then, and that the right one mends it at run time."""
    for name in 'one', 'two':
        path = tmp_path / f'{name}.key'
        path.write_text(f'the secret number {name}\n')
        path.chmod(0o600)
    lab.start_guest([word.replace('%s', lab.bob.address) for word in GUEST])
    lab.start_tap('--tap', 'tap0', '--netid', '7', '--localaddr',
                  f'{lab.bob.address}:20805', '--secret-file', 'two.key',
                  '--control', CONTROL)
    lab.bob.ip('addr add 10.8.0.2/24 dev tap0')
    lab.guest.wait_ready()
    lab.tap.wait_log(r"sends what this port's secret does not open", 30)
    wait_for(lambda: lab.tap_counters()['rx-drop-netid'] > 0)
    assert not lab.guest.ping('10.8.0.2', count=1, wait=1)
    assert lab.port.peers == []
    guest, tap = lab.seals()
    assert guest['key'] != tap['key']

    done = run(lab.bob, 'set-secret', '--secret-file', 'one.key', '--control',
               CONTROL)
    assert done.returncode == 0, done.stderr
    lab.guest.wait_ping('10.8.0.2', 20)
    guest, tap = lab.seals()
    assert guest['key'] == tap['key']
