# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/qemu-overlay on the files of a real QEMU.

The tree is taken from QDES_QEMU_SRC, or else is the first one that
scripts/get-qemu has brought; only the files that the overlay adds lines to
are copied, and the tree itself stays as it is.
"""

import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'scripts/qemu-overlay'
HOOKS = ROOT / 'scripts/qemuhooks.py'


def load():
    """The script as a module, with nothing written beside it."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(SCRIPT.parent))
    loader = importlib.machinery.SourceFileLoader('qemu_overlay', str(SCRIPT))
    spec = importlib.util.spec_from_loader('qemu_overlay', loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


overlay = load()
FILES = sorted({hook.file for hook in overlay.HOOKS})


def source():
    named = os.environ.get('QDES_QEMU_SRC')
    if named:
        return Path(named)
    for tree in sorted((ROOT / '.cache').glob('qemu-*')):
        if (tree / 'VERSION').is_file():
            return tree
    return None


def run(*args, script=SCRIPT):
    return subprocess.run(['/usr/bin/python3', str(script), *map(str, args)],
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60, check=False)


def ok(*args, **kwargs):
    done = run(*args, **kwargs)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    return done.stdout


def contents(tree):
    """Everything below TREE: path -> bytes, or where a link points to."""
    found = {}
    for path in tree.rglob('*'):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


@pytest.fixture(name='tree')
def fixture_tree(tmp_path):
    """A tree without the overlay, of the files that it touches."""
    src = source()
    if src is None:
        pytest.skip('no QEMU source tree: run scripts/get-qemu, or set '
                    'QDES_QEMU_SRC')
    tree = tmp_path / 'qemu'
    for name in [*FILES, 'VERSION', overlay.RECORD]:
        if (src / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(src / name, tree / name)
    for name in overlay.LINKS:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
    ok(tree, '--undo')
    assert not any(b'qdes' in data for data in contents(tree).values())
    return tree


def test_apply_twice(tree):
    assert 'is applied' in ok(tree)
    assert 'applied and complete' in ok(tree, '--check')
    before = {name: (tree / name).lstat().st_mtime_ns
              for name in contents(tree)}
    assert set(overlay.LINKS) < set(before)
    for name in overlay.LINKS:
        assert (tree / name).samefile(ROOT / name)

    assert 'applied already' in ok(tree)
    assert before == {name: (tree / name).lstat().st_mtime_ns
                      for name in contents(tree)}


def test_every_file_is_hooked(tree):
    before = contents(tree)
    ok(tree)
    after = contents(tree)
    for name in FILES:
        assert after[name] != before[name]
        assert b'qdes' in after[name].lower()


def test_undo(tree):
    before = contents(tree)
    modes = {name: (tree / name).stat().st_mode for name in FILES}
    ok(tree)
    assert contents(tree) != before
    assert 'is removed' in ok(tree, '--undo')
    assert contents(tree) == before
    assert modes == {name: (tree / name).stat().st_mode for name in FILES}
    assert 'was not applied' in ok(tree, '--undo')


def test_undo_keeps_the_work_of_others(tree):
    ok(tree)
    path = tree / 'net/net.c'
    path.write_text('/* first */\n' + path.read_text() + '/* last */\n')
    ok(tree)
    ok(tree, '--undo')
    text = path.read_text()
    assert text.startswith('/* first */\n') and text.endswith('/* last */\n')
    assert 'qdes' not in text


def test_check(tree):
    before = contents(tree)
    done = run(tree, '--check')
    assert done.returncode == 1
    assert 'not applied' in done.stderr
    assert contents(tree) == before

    ok(tree)
    (tree / 'net/qdes.c').unlink()
    done = run(tree, '--check')
    assert done.returncode == 1
    assert 'net/qdes.c' in done.stderr

    ok(tree)
    path = tree / 'net/clients.h'
    path.write_bytes(before['net/clients.h'])
    done = run(tree, '--check')
    assert done.returncode == 1
    assert 'net/clients.h: hooks are missing' in done.stderr

    ok(tree)
    ok(tree, '--check')


def test_diff(tree, tmp_path):
    pristine = contents(tree)
    patch = ok(tree, '--diff')
    assert patch.count('new file mode 100644') > len(overlay.LINKS)
    assert contents(tree) == pristine
    ok(tree)
    assert ok(tree, '--diff') == patch
    applied = contents(tree)

    for tool in (['patch', '-p1', '--fuzz=0'], ['git', 'apply', '-']):
        patched = tmp_path / tool[0]
        ok(tree, '--undo')
        shutil.copytree(tree, patched)
        subprocess.run(tool, input=patch, text=True, cwd=patched, check=True,
                       stdout=subprocess.DEVNULL, timeout=60,
                       env={**os.environ, 'GIT_CEILING_DIRECTORIES':
                            str(tmp_path)})
        result = contents(patched)
        for name in FILES:
            assert result[name] == applied[name], name
        for name in overlay.LINKS:
            ours = ROOT / name
            for file in [ours] if ours.is_file() else ours.rglob('*'):
                if file.is_file() and overlay.is_source(file):
                    name = str(file.relative_to(ROOT))
                    assert result[name] == file.read_bytes(), name
        assert not list(patched.rglob('*.orig'))

    # A tree that has the patch already is told from one with the overlay.
    done = run(tmp_path / 'patch')
    assert done.returncode == 1
    assert 'already' in done.stderr


def anchor_used(tree, hook):
    text = (tree / hook.file).read_text()
    for way in hook.ways:
        if overlay.count_lines(text, way.anchor) == 1 and (
                not way.given or overlay.count_lines(text, way.given)):
            return way.anchor
    raise AssertionError(f'{hook.file}: nothing fits')


@pytest.mark.parametrize('hook', overlay.HOOKS, ids=lambda hook: (
    f"{hook.file}:{hook.ways[0].anchor.split(chr(10))[0].strip()}"))
def test_missing_anchor(tree, hook):
    """Whichever place is missing, it is named and nothing is changed."""
    path = tree / hook.file
    for way in hook.ways:
        text = path.read_text()
        first = way.anchor.splitlines()[0]
        path.write_text(text.replace(first, first + ' /* changed */'))
    before = contents(tree)
    for what in ([], ['--check'], ['--diff']):
        done = run(tree, *what)
        assert done.returncode == 1
        assert done.stdout == ''
        assert f'{path}: cannot hook in; looked for exactly' in done.stderr
        for line in hook.ways[0].anchor.splitlines():
            assert line in done.stderr
        assert contents(tree) == before


@pytest.mark.parametrize('hook', overlay.HOOKS[:1])
def test_anchor_twice(tree, hook):
    """A place that is there twice is as bad as one that is missing."""
    path = tree / hook.file
    path.write_text(path.read_text() + anchor_used(tree, hook))
    before = contents(tree)
    done = run(tree)
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert contents(tree) == before


def test_file_in_the_way(tree):
    (tree / 'net/qdes.c').write_text('mine\n')
    before = contents(tree)
    done = run(tree)
    assert done.returncode == 1
    assert f"{tree / 'net/qdes.c'}: is there already" in done.stderr
    assert contents(tree) == before
    ok(tree, '--undo')
    assert contents(tree) == before


def test_another_version_of_the_overlay(tree, tmp_path):
    """What an older checkout put there, a newer one replaces or removes."""
    before = contents(tree)
    old = tmp_path / 'old'
    (old / 'scripts').mkdir(parents=True)
    shutil.copy(SCRIPT, old / 'scripts')
    text = HOOKS.read_text()
    assert 'void hmp_info_qdes' in text
    (old / 'scripts/qemuhooks.py').write_text(
        text.replace('void hmp_info_qdes', 'void hmp_info_qdes_of_old')
        .replace("    'net/qdes.c',\n", "    'net/qdes.c',\n"
                 "    'net/qdes-of-old.c',\n"))
    for name in [*overlay.LINKS, 'net/qdes-of-old.c']:
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_text('old\n')

    ok(tree, script=old / 'scripts/qemu-overlay')
    assert 'of_old' in (tree / 'include/monitor/hmp.h').read_text()
    assert (tree / 'net/qdes-of-old.c').is_symlink()
    ok(tree)
    ok(tree, '--check')
    assert 'of_old' not in (tree / 'include/monitor/hmp.h').read_text()
    assert not (tree / 'net/qdes-of-old.c').is_symlink()
    assert (tree / 'net/qdes.c').samefile(ROOT / 'net/qdes.c')

    ok(tree, script=old / 'scripts/qemu-overlay')
    ok(tree, '--undo')
    assert contents(tree) == before


def test_interrupted(tree):
    """The record is written first; a run that ends there does no harm."""
    before = contents(tree)
    ok(tree)
    record = (tree / overlay.RECORD).read_bytes()
    ok(tree, '--undo')
    (tree / overlay.RECORD).write_bytes(record)
    assert run(tree, '--check').returncode == 1
    ok(tree, '--undo')
    assert contents(tree) == before
    (tree / overlay.RECORD).write_bytes(record)
    ok(tree)
    ok(tree, '--check')


def test_no_tree(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 1
    assert f'{tmp_path}: no QEMU source tree' in done.stderr
