# SPDX-License-Identifier: GPL-2.0-or-later
"""The form of the sources: what a reviewer should not have to look for."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get('QDES_BUILD', ROOT / 'build'))
C_DIRS = ('net/', 'subprojects/libqdes/', 'tools/', 'tests/unit/',
          'tests/qtest/', 'tests/fuzz/', 'tests/bench/')

# Texts of other people's, and forms that have no comments; also all of
# tests/fuzz/corpus.
NO_TAG = {'COPYING', 'subprojects/libqdes/COPYING.LIB', '.gitignore',
          'docs/protocol/vectors.json', 'docs/protocol/sealed.json'}


def git_files():
    out = subprocess.run(['git', '-C', ROOT, 'ls-files', '-z'], check=True,
                         capture_output=True, text=True).stdout
    return [f for f in out.split('\0') if f and (ROOT / f).is_file()]


FILES = git_files()
SOURCES = [f for f in FILES if f.startswith(C_DIRS)
           and f.endswith(('.c', '.h', '.def'))]
HEADERS = [f for f in SOURCES if f.endswith('.h')
           and f.startswith(('subprojects/libqdes/', 'tools/'))]
SHELL = [f for f in FILES
         if (ROOT / f).read_bytes()[:20].split(b'\n')[0] in
         (b'#!/bin/bash', b'#!/bin/sh', b'#!/usr/bin/env bash')]


def tool(name):
    path = shutil.which(name)
    if not path:
        pytest.skip(f'{name} is not installed')
    return path


@pytest.mark.parametrize('name', FILES)
def test_licence_tag(name):
    if name in NO_TAG or name.startswith('tests/fuzz/corpus/'):
        return
    head = (ROOT / name).read_text(errors='replace')[:600]
    licence = 'GPL-2.0-or-later'
    if name.startswith('subprojects/libqdes/'):
        licence = 'LGPL-2.1-or-later'
    assert f'SPDX-License-Identifier: {licence}' in head


@pytest.mark.parametrize('name', SOURCES)
def test_layout(name):
    """QEMU's: 80 columns, spaces, no blanks at the end of a line."""
    text = (ROOT / name).read_text()
    bad = [f'{number}: {line}'
           for number, line in enumerate(text.split('\n'), 1)
           if len(line) > 80 or '\t' in line or line != line.rstrip()]
    assert not bad
    assert text.endswith('\n') and not text.endswith('\n\n')


@pytest.mark.parametrize('name', SOURCES)
def test_braces(name):
    """QEMU's: every if, for and while has them."""
    text = (ROOT / name).read_text()
    bad = [line for line in text.split('\n')
           if re.match(r'\s*(if|for|while) \(.*\)$', line)
           and line.count('(') == line.count(')')]
    assert not bad


@pytest.mark.parametrize('name', [f for f in SOURCES if f.startswith(
    'subprojects/libqdes/qdes/')])
def test_library_keeps_to_itself(name):
    """libqdes reads no clock, keeps no globals, and never ends a program."""
    text = (ROOT / name).read_text()
    assert not re.search(r'(?<![\w>.])(exit|abort|time|clock_gettime|gettimeofday|'
                         r'g_get_monotonic_time|rand|random|printf|malloc)\(',
                         text)
    assert not re.search(r'^static (?!const\b|inline\b)[\w ]+\**\w+'
                         r'(\[\w*\])?( =.*)?;', text, re.M)


@pytest.mark.parametrize('name', HEADERS)
def test_header_stands_alone(name, tmp_path):
    source = tmp_path / 'alone.c'
    header = name.removeprefix('subprojects/libqdes/')
    header = header.removeprefix('tools/qdes-tap/')
    source.write_text(f'#include "{header}"\n#include "{header}"\n')
    flags = subprocess.run(
        [tool('pkg-config'), '--cflags', 'glib-2.0', 'json-glib-1.0'],
        check=True, capture_output=True, text=True).stdout.split()
    subprocess.run([tool('cc'), '-fsyntax-only', '-Wall', '-Wextra',
                    '-Werror', '-D_GNU_SOURCE', '-I',
                    ROOT / 'subprojects/libqdes', '-I',
                    ROOT / 'tools/qdes-tap', *flags, source], check=True)


@pytest.mark.parametrize('name', HEADERS)
def test_header_tells_what_it_models(name):
    """After the tag, an essay: a title, a blank line, and more."""
    text = (ROOT / name).read_text()
    assert re.match(r'/\* SPDX[^\n]*\n/\*\n \* [^\n]+\n( \* [^\n]+\n)* \*\n'
                    r' \* ', text)


@pytest.mark.parametrize('name', SHELL)
def test_shell(name):
    subprocess.run([tool('shellcheck'), '-x', '-P', 'SCRIPTDIR', ROOT / name],
                   check=True)


@pytest.mark.parametrize('name', [f for f in SOURCES if f.endswith('.c')
                                  and not f.startswith(('net/', 'tests/'))])
def test_clang_tidy(name):
    if not (BUILD / 'compile_commands.json').exists():
        pytest.skip(f'{BUILD} is not configured; run ./configure')
    out = subprocess.run([tool('clang-tidy'), '--quiet', '-p', BUILD,
                          ROOT / name], capture_output=True, text=True)
    assert out.returncode == 0, out.stdout


@pytest.mark.parametrize('name', FILES)
def test_nothing_is_left_undone(name):
    words = 'TO' 'DO|FIX' 'ME|XX' 'X'
    assert not re.search(rf'\b({words})\b',
                         (ROOT / name).read_text(errors='replace'))
