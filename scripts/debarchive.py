#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetch source and binary packages from the Debian archive, privately.

The machine's own apt configuration is read, never written: its entries for
this release tell which mirror to ask and which keyring to trust, and all
indexes, locks and downloads live in a folder of ours.  So this works for an
ordinary user, on a machine whose sources carry no deb-src, and for suites
the machine does not use at all.  Proxies and mirror credentials configured
for apt apply as usual, and apt checks signatures and hashes as usual.
"""

import argparse
import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / '.cache'

# Where a version that neither the machine's release nor stable has is looked
# for, in this order.
LATER = ('testing', 'unstable')


class ArchiveError(Exception):
    """Something a person has to read; no traceback needed."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def codename():
    """The release this machine runs, as its mirrors call it."""
    fields = {}
    for line in Path('/etc/os-release').read_text().splitlines():
        key, eq, value = line.partition('=')
        if eq:
            fields[key] = value.strip('"\'')
    name = fields.get('VERSION_CODENAME')
    if not name:
        raise ArchiveError('/etc/os-release names no VERSION_CODENAME: '
                           'cannot tell which Debian release this is')
    return name


def read_deb822(text):
    """Entries of a .sources file, as (uris, suites, components, options)."""
    lines = [line for line in text.splitlines()
             if not line.startswith('#')]
    for block in re.split(r'\n\s*\n', '\n'.join(lines)):
        fields, last = {}, None
        for line in block.splitlines():
            if line[:1] in (' ', '\t') and last:
                fields[last] += '\n' + line.strip()
            elif ':' in line:
                key, _, value = line.partition(':')
                last = key.strip().lower()
                fields[last] = value.strip()
        if (fields.get('enabled', 'yes').lower() in ('no', 'false', '0')
                or not fields.get('uris')):
            continue
        keep = {}
        # A key given in the file itself stays out: it would have to be
        # carried over line by line, and Debian's keyring does as well.
        signed = fields.get('signed-by', '')
        if signed and '\n' not in signed and 'BEGIN' not in signed:
            keep['Signed-By'] = signed
        for option in ('Trusted', 'Check-Valid-Until', 'Check-Date'):
            if option.lower() in fields:
                keep[option] = fields[option.lower()]
        yield (fields['uris'].split(), fields.get('suites', '').split(),
               fields.get('components', '').split(), keep)


def read_oneline(text):
    """The same of the older `deb [options] URI SUITE COMPONENT…` format."""
    names = {'signed-by': 'Signed-By', 'trusted': 'Trusted',
             'check-valid-until': 'Check-Valid-Until',
             'check-date': 'Check-Date'}
    pattern = re.compile(r'^\s*deb(?:-src)?\s+(?:\[([^]]*)\]\s*)?'
                         r'(\S+)\s+(\S+)\s*([^#]*)')
    for line in text.splitlines():
        match = pattern.match(line)
        if not match:
            continue
        keep = {}
        for option in (match[1] or '').split():
            key, eq, value = option.partition('=')
            if eq and key.lower() in names:
                keep[names[key.lower()]] = value.replace(',', ' ')
        yield [match[2]], [match[3]], match[4].split(), keep


def machine_entries(etc=Path('/etc/apt')):
    """Every entry of the machine's sources, whatever the format."""
    files = [etc / 'sources.list']
    with contextlib.suppress(OSError):
        files += sorted((etc / 'sources.list.d').iterdir())
    for path in files:
        try:
            text = path.read_text(errors='replace')
        except OSError:
            continue
        if path.suffix == '.sources':
            yield from read_deb822(text)
        elif path.suffix == '.list':
            yield from read_oneline(text)


def archive_entries(release, entries):
    """(URI, options) of the archive proper and of its security archive.

    Third parties use Debian's suite names too; what tells Debian's own
    mirrors is how every one of them ends its path."""
    main = security = None
    for uris, suites, components, keep in entries:
        for uri in uris:
            if uri.startswith('cdrom:') or 'main' not in components:
                continue
            path = uri.rstrip('/').removesuffix('.list')
            if (release + '-security' in suites
                    and path.endswith('debian-security')):
                security = security or (uri, keep)
            elif release in suites and path.endswith('/debian'):
                main = main or (uri, keep)
    if not main:
        raise ArchiveError(f'no source of Debian {release} main in /etc/apt, '
                           'from which to know a mirror; add one')
    uri, keep = main
    # Most mirrors have the security archive beside the archive proper.
    return main, security or (uri.rstrip('/') + '-security', keep)


class View:
    """A private apt that knows the given suites of one package type."""

    def __init__(self, name, kind, suites, entries=None):
        self.dir = CACHE / 'apt' / name
        self.suites = suites
        release = codename()
        main, security = archive_entries(
            release, machine_entries() if entries is None else entries)
        for part in ('lists/partial', 'cache/archives/partial', 'sources'):
            (self.dir / part).mkdir(parents=True, exist_ok=True)
        text = ''
        for suite in suites:
            uri, keep = security if suite.endswith('-security') else main
            text += (f'Types: {kind}\nURIs: {uri}\nSuites: {suite}\n'
                     'Components: main\n')
            text += ''.join(f'{k}: {v}\n' for k, v in keep.items()) + '\n'
        (self.dir / 'sources' / 'archive.sources').write_text(text)
        self.conf = self.dir / 'apt.conf'
        # The hooks other packages hang on apt are meant for the machine's
        # state and may need root; preferences (pins) are meant for its
        # upgrades.
        self.conf.write_text(f'''\
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{self.dir}/sources";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "{self.dir}/lists";
Dir::Cache "{self.dir}/cache";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
#clear Acquire::IndexTargets::deb::DEP-11;
''')
        (self.dir / 'lock').touch()

    @contextlib.contextmanager
    def locked(self):
        with open(self.dir / 'lock', 'w', encoding='ascii') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def run(self, tool, *args, cwd=None, capture=False):
        """An apt tool under our configuration; its chatter goes to stderr."""
        return subprocess.run(
            [tool, '-c', str(self.conf), *args], cwd=cwd, check=False,
            env={**os.environ, 'LC_ALL': 'C.UTF-8'}, text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else sys.stderr)

    def update(self):
        say(f'reading the package lists of {", ".join(self.suites)}')
        # A suite that a mirror lacks is no reason to give up on the others;
        # what could be read decides.
        self.run('apt-get', '-qq', 'update')

    def sources(self, package):
        """Versions on offer of a source package, as [(version, suite)]."""
        out = self.run('apt-cache', 'madison', package, capture=True).stdout
        found = []
        for line in out.splitlines():
            _, version, where = (part.strip() for part in line.split('|'))
            if not where.endswith('Sources'):
                continue
            found.append((version, where.split()[1].partition('/')[0]))
        return found

    def field(self, package, name):
        """One field of a binary package's newest version."""
        out = self.run('apt-cache', '--no-all-versions', 'show', package,
                       capture=True).stdout
        match = re.search(rf'^{name}: (.*)$', out, re.MULTILINE)
        if not match:
            raise ArchiveError(
                f'no package {package} in {", ".join(self.suites)}: is the '
                'mirror of /etc/apt reachable?')
        return match[1]


def newest(versions):
    """The highest of several Debian version strings."""
    best = versions[0]
    for version in versions[1:]:
        if subprocess.run(['dpkg', '--compare-versions', version, 'gt', best],
                          check=False).returncode == 0:
            best = version
    return best


def upstream(version):
    """1:10.0.2+ds-2+deb13u1~bpo12+1 -> 10.0.2"""
    return re.match(r'(?:\d+:)?([0-9.]*[0-9])', version)[1]


def fits(version, wanted):
    """Is this Debian version one of the upstream series asked for?"""
    up = upstream(version)
    return wanted is None or up == wanted or up.startswith(wanted + '.')


def own_suites(release):
    return [release, release + '-updates', release + '-security']


def source_candidates(package, wanted):
    """Yield (view, version, suite), the most fitting first.

    The release's own newest comes first, then backports, then what later
    releases carry: the closer to the machine, the likelier it builds."""
    release = codename()
    stages = [('src-' + release, own_suites(release))]
    if wanted is not None:
        stages += [('src-backports', [release + '-backports'])]
        stages += [('src-stable', own_suites('stable'))]
        stages += [('src-' + suite, [suite]) for suite in LATER]
    for name, suites in stages:
        view = View(name, 'deb-src', suites)
        with view.locked():
            view.update()
            versions = [v for v, _ in view.sources(package)
                        if fits(v, wanted)]
        if versions:
            best = newest(versions)
            yield view, best, suites[0]
        else:
            say(f'{suites[0]} has no {package} {wanted or ""}'.rstrip())


def fetch_source(package, wanted, choose_dest):
    """Unpack a source package with Debian's patches; give its directory.

    choose_dest(version) says where it goes."""
    if not shutil.which('dpkg-source'):
        raise ArchiveError('dpkg-source is not installed: it is in the '
                           'package dpkg-dev (scripts/install-deps '
                           '--for=qemu)')
    for view, version, suite in source_candidates(package, wanted):
        say(f'fetching {package} {version} from {suite}')
        with view.locked():
            tmp = view.dir / 'source'
            shutil.rmtree(tmp, ignore_errors=True)
            tmp.mkdir()
            done = view.run('apt-get', '-q', 'source', '--download-only',
                            '--only-source', f'{package}={version}', cwd=tmp)
            dsc = next(tmp.glob('*.dsc'), None)
            if done.returncode or not dsc:
                say(f'{package} {version} of {suite} cannot be fetched; '
                    'trying the next')
                shutil.rmtree(tmp)
                continue
            dest = choose_dest(version)
            part = dest.with_name(dest.name + '.part')
            shutil.rmtree(part, ignore_errors=True)
            dest.parent.mkdir(parents=True, exist_ok=True)
            say(f'unpacking into {dest}')
            subprocess.run(['dpkg-source', '-q', '--no-check', '--no-copy',
                            '-x', str(dsc), str(part)],
                           check=True, stdout=sys.stderr)
            # The name appears only when the tree is whole.
            part.rename(dest)
            shutil.rmtree(tmp)
        return dest, version
    raise ArchiveError(f'no suite offers {package} {wanted or ""} to fetch: '
                       'see the messages above, or unpack a tree yourself '
                       'and give it with --qemu-src=DIR')


def fetch_binary(package, dest, suites=None, unpack=True):
    """Put one binary package at dest: unpacked into a folder, or as the
    .deb file.  It is not installed."""
    release = codename()
    suites = suites or own_suites(release)
    view = View('bin-' + suites[0], 'deb', suites)
    with view.locked():
        view.update()
        version = view.field(package, 'Version')
        say(f'fetching {package} {version}')
        tmp = view.dir / 'binary'
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir()
        done = view.run('apt-get', '-q', 'download', f'{package}={version}',
                        cwd=tmp)
        deb = next(tmp.glob('*.deb'), None)
        if done.returncode or not deb:
            raise ArchiveError(f'{package} {version} cannot be fetched: is '
                               'the mirror of /etc/apt reachable?')
        dest = Path(dest)
        dest.parent.mkdir(parents=True, exist_ok=True)
        if unpack:
            part = dest.with_name(dest.name + '.part')
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            subprocess.run(['dpkg-deb', '-x', str(deb), str(part)],
                           check=True)
            shutil.rmtree(dest, ignore_errors=True)
            part.rename(dest)
        else:
            shutil.move(deb, dest)
        shutil.rmtree(tmp)
    return version


def dependency(package, pattern, suites=None):
    """The first dependency of a package whose name matches."""
    release = codename()
    suites = suites or own_suites(release)
    view = View('bin-' + suites[0], 'deb', suites)
    with view.locked():
        view.update()
        for item in view.field(package, 'Depends').split(','):
            name = item.split()[0]
            if re.fullmatch(pattern, name):
                return name
    raise ArchiveError(f'{package} depends on nothing like {pattern}')


def main():
    parser = argparse.ArgumentParser(
        description='Fetch a binary package from the Debian archive and '
        'unpack it into a folder, without installing it.')
    parser.add_argument('package')
    parser.add_argument('dest', help='folder to unpack into (replaced)')
    parser.add_argument('--suite', help='another suite than the one of this '
                        'machine; "backports" means its backports')
    parser.add_argument('--dependency', metavar='REGEX', help='not PACKAGE '
                        'itself but the package it depends on whose name '
                        'matches (for packages that only point at another)')
    args = parser.parse_args()
    suites = None
    if args.suite:
        suites = [codename() + '-backports' if args.suite == 'backports'
                  else args.suite]
    try:
        package = args.package
        if args.dependency:
            package = dependency(package, args.dependency, suites)
        fetch_binary(package, args.dest, suites)
    except (ArchiveError, OSError, subprocess.CalledProcessError) as err:
        sys.exit(f'debarchive: {err}')


if __name__ == '__main__':
    main()
