# SPDX-License-Identifier: GPL-2.0-or-later
"""Our files compile without a warning, wherever they are built.

Each is compiled again as it was in the build, with warnings made errors: so
QEMU's own files, which newer compilers may complain about, are left alone.
"""

import json
import os
import pathlib
import shlex
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get('QDES_BUILD', ROOT / 'build'))
DATABASE = 'compile_commands.json'


def ours():
    """(where it is built, name, folder, command) of each of our C files."""
    for build in (BUILD, BUILD / 'qemu'):
        if not (build / DATABASE).exists():
            continue
        for entry in json.loads((build / DATABASE).read_text()):
            folder = pathlib.Path(entry['directory'])
            # In QEMU's tree they are links to where they belong.
            path = (folder / entry['file']).resolve()
            for part in ('net', 'subprojects/libqdes', 'tests', 'tools'):
                if path.is_relative_to(ROOT / part):
                    yield (build.name, str(path.relative_to(ROOT)), folder,
                           shlex.split(entry['command']))


CASES = list(ours())


def test_the_build_is_known():
    if not (BUILD / DATABASE).exists():
        pytest.skip(f'{BUILD} is not configured; run ./configure')
    assert len(CASES) > 40


@pytest.mark.parametrize('folder, command', [case[2:] for case in CASES],
                         ids=[f'{case[0]}-{case[1]}' for case in CASES])
def test_compiles_without_warning(folder, command, tmp_path):
    command = command.copy()
    for option, name in (('-o', 'out.o'), ('-MF', 'out.d')):
        command[command.index(option) + 1] = str(tmp_path / name)
    subprocess.run([*command, '-Wall', '-Werror'], cwd=folder, check=True)
