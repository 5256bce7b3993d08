# SPDX-License-Identifier: GPL-2.0-or-later
"""What every functional test gets, and what every one is judged by.

A test that passes by itself still fails when one of its ports has died, has
said something troubling that the test did not expect, or cannot balance its
books (see tests/lib/ports.py).  A test that fails shows the logs of all its
programs.

    net, tap, boot      a Network, and makers of qdes-tap ports and guests
    module_net, module_tap, module_boot
                        the same, shared by the tests of a module
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / 'tests/lib'), str(ROOT / 'tests/guest')]

import netns                                            # noqa: E402
from netns import Network                               # noqa: E402
from guests import Machine, why_not as why_no_guest     # noqa: E402
from ports import QDES_TAP, Registry, TapPort           # noqa: E402
from procs import PATIENCE                              # noqa: E402

# A test that hangs is ended after so many seconds, and fails.
LIMIT = round(120 * PATIENCE)

# With sanitizers, freed memory would be kept, and fail tests that bound it.
os.environ.setdefault('ASAN_OPTIONS', 'quarantine_size_mb=1')

# The networks that exist now, of the running test and of its module.
networks = []


def _terminated(_number, _frame):
    raise KeyboardInterrupt('SIGTERM')


def pytest_configure():
    # What the tests are started by may have them ignored, and that is
    # inherited: by nohup(1), or in the background of a shell.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminated)


def pytest_sessionstart():
    if os.geteuid() == 0:
        netns.sweep()


def pytest_unconfigure():
    if os.geteuid() == 0:
        netns.sweep(os.getpid())


def _limited(what):
    def expired(_number, _frame):
        raise AssertionError(f'{what} takes more than {LIMIT} s')
    signal.signal(signal.SIGALRM, expired)
    signal.alarm(LIMIT)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    _limited(f'the setup of {item.name}')
    yield
    signal.alarm(0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    _limited(item.name)
    yield
    signal.alarm(0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when == 'call':
        # Always asked, so that a failed test leaves nothing for the next.
        wrong = [text for network in networks
                 for text in network.registry.check()]
        if report.passed and wrong:
            report.outcome = 'failed'
            report.longrepr = '\n'.join(wrong)
    if report.failed:
        for network in networks:
            for process in network.processes:
                report.sections.append((
                    f'log of {" ".join(process.argv)}',
                    process.log[-20000:]))


def _need_namespaces():
    if os.geteuid() != 0:
        pytest.skip('needs root, for network namespaces')
    for tool in ('ip', 'ping', 'tcpdump', 'nft', 'tc'):
        if not shutil.which(tool):
            pytest.skip(f'needs the program {tool}')
    if netns.command(['unshare', '--net', 'true'], check=False).returncode:
        pytest.skip('the kernel gives no network namespaces')


def _need_tap():
    if not os.path.exists('/dev/net/tun'):
        pytest.skip('needs /dev/net/tun')
    if not os.access(QDES_TAP, os.X_OK):
        pytest.skip(f'{QDES_TAP} is not built (or set QDES_TAP)')


def _network(log_dir):
    _need_namespaces()
    network = Network(str(log_dir))
    network.registry = Registry()
    networks.append(network)
    try:
        yield network
    finally:
        networks.remove(network)
        network.close()


@pytest.fixture
def net(tmp_path):
    yield from _network(tmp_path)


@pytest.fixture(scope='module')
def module_net(tmp_path_factory, request):
    yield from _network(tmp_path_factory.mktemp(request.module.__name__))


def _maker(network):
    _need_tap()

    def make(host, tap='tap0', ready=True, **options):
        port = TapPort(network.registry, host, tap, **options)
        return port.wait_ready() if ready else port
    return make


@pytest.fixture
def tap(net):
    """Start a qdes-tap in a namespace: tap(host, [TAP], **options)."""
    return _maker(net)


@pytest.fixture(scope='module')
def module_tap(module_net):
    return _maker(module_net)


def _boot(network):
    if why_no_guest():
        pytest.skip(why_no_guest())
    return lambda *args, **options: Machine(network, *args, **options)


@pytest.fixture
def boot(net):
    """Start a guest: boot(host, [netdevs], **options of Guest)."""
    return _boot(net)


@pytest.fixture(scope='module')
def module_boot(module_net):
    return _boot(module_net)
