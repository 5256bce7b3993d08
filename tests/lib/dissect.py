# SPDX-License-Identifier: GPL-2.0-or-later
"""What Wireshark makes of a capture, with this project's dissector.

    for packet in dissect('/tmp/x.pcap', fields=['icmp.type']):
        if packet.get('qdes.netid') == ['42']:
            print(packet['number'], packet['info'])

The result does not depend on who runs the test: tshark gets a home of its own,
so that no preference, profile or installed plugin of the user is read, and it
runs as "nobody" when the test is root: it warns root, and may refuse to load
Lua scripts (run_user_scripts_when_superuser in Wireshark's init.lua; Debian
12's loads them).
"""

import contextlib
import functools
import json
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / 'scripts/wireshark/qdes.lua'

# What tshark says for no fault of a dissector.
HARMLESS = ('Running as user',)


@functools.lru_cache(maxsize=None)
def why_not():
    """Why this machine cannot dissect, for pytest.skip(); None if it can."""
    if not shutil.which('tshark'):
        return 'needs the program tshark'
    version = subprocess.run(['tshark', '--version'], text=True,
                             stdout=subprocess.PIPE, check=True,
                             stderr=subprocess.DEVNULL).stdout
    if 'with Lua' not in ' '.join(version.split()):
        return 'this tshark was built without Lua'
    return None


def _identities():
    """Whom to run tshark as, best first."""
    if os.geteuid() == 0:
        with contextlib.suppress(KeyError):
            nobody = pwd.getpwnam('nobody')
            yield {'user': nobody.pw_uid, 'group': nobody.pw_gid,
                   'extra_groups': []}
    yield {}


def run(*args, stdin=None, script=SCRIPT, plugin=False, timeout=100):
    """Run tshark with the dissector; returns what it printed.

    STDIN is an open file.  PLUGIN: put the script into the personal plugin
    folder, as docs/wireshark.md tells users to, and not on the command line.
    """
    with tempfile.TemporaryDirectory(prefix='qdes-tshark-') as home:
        plugins = Path(home, '.local/lib/wireshark/plugins')
        plugins.mkdir(parents=True)
        copy = (plugins if plugin else Path(home)) / 'qdes.lua'
        copy.write_bytes(script.read_bytes())
        for path in [Path(home), *Path(home).rglob('*')]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        # -G has to be the first option.
        argv = ['tshark', *(str(a) for a in args),
                *([] if plugin else ['-X', f'lua_script:{copy}'])]
        env = {'PATH': os.environ['PATH'], 'HOME': home, 'LC_ALL': 'C.UTF-8',
               'TZ': 'UTC', 'WIRESHARK_CONFIG_DIR': f'{home}/.config/wireshark'}
        for identity in _identities():
            try:
                done = subprocess.run(
                    argv, stdin=stdin or subprocess.DEVNULL, cwd=home, env=env,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    timeout=timeout, **identity)
                break
            except OSError:
                # A user namespace may know no user but root.
                if not identity:
                    raise
    said = [line for line in done.stderr.decode(errors='replace').splitlines()
            if line.strip() and not line.startswith(HARMLESS)]
    if done.returncode or said:
        raise AssertionError(f'{" ".join(argv)}: exit status '
                             f'{done.returncode}\n' + '\n'.join(said))
    return done.stdout.decode(errors='replace')


@functools.lru_cache(maxsize=None)
def known_fields():
    """The fields that the dissector registers, {name: (label, type)}."""
    found, info = {}, '_ws.col.Info'
    for line in run('-G', 'fields').splitlines():
        kind, label, name, *rest = line.split('\t')
        if kind == 'F' and name.startswith('qdes.'):
            found[name] = (label, rest[0])
        elif kind == 'F' and name == '_ws.col.info':
            info = name         # as it is called since Wireshark 4.2
    assert found, 'tshark did not load the dissector'
    return found, info


def dissect(pcap, fields=(), options=()):
    """The packets of a capture file, as a list of dictionaries.

    Of each packet: 'number', 'info' (the column), 'protocols' (a list, outer
    ones first), and under its filter name every field of the dissector and of
    FIELDS that the packet has, as a list of all its values, which are texts.
    OPTIONS are more arguments for tshark.

    A Lua error in any packet is an AssertionError.
    """
    names, info = known_fields()
    wanted = ['frame.number', 'frame.protocols', info, '_ws.lua.error',
              *names, *fields]
    args = ['-r', '-', '-T', 'json', '-n', *options]
    for name in wanted:
        args += ['-e', name]
    with open(pcap, 'rb') as file:
        text = run(*args, stdin=file)
    packets = []
    for packet in json.loads(text):
        found = packet['_source']['layers']
        number = int(found.pop('frame.number')[0])
        assert '_ws.lua.error' not in found, (
            f'packet {number} of {pcap}: {found["_ws.lua.error"]}')
        found['number'] = number
        found['protocols'] = found.pop('frame.protocols')[0].split(':')
        found['info'] = found.pop(info, [''])[0]
        packets.append(found)
    return packets
