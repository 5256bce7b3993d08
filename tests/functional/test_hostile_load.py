# SPDX-License-Identifier: GPL-2.0-or-later
"""A flood as fast as one core makes it: the port serves on, and counts all.

tests/bench/hostile does the same for as long as one likes, and reports.
"""

import pytest
from hostile import PLAIN, SEALED, siege
from packets import seeded
from traffic import tcp_transfer

SECONDS = 4
# What the flood makes every port say, once.
SAID = [r'speaks version \d+', 'and this port has no key',
        'does not seal what it sends', 'secret does not open',
        'twice the same']


@pytest.mark.parametrize('sealed', [False, True], ids=['plain', 'sealed'])
def test_flood(net, tap, tmp_path, sealed):
    options = {'gso': 'off', 'netid': 42}
    if sealed:
        secret = tmp_path / 'secret'
        secret.write_text('a secret that nobody guesses')
        secret.chmod(0o600)
        options['secret_file'] = secret
    *hosts, enemy = net.hosts(4)
    ports = [tap(host, **options) for host in hosts]
    for number, port in enumerate(ports, 1):
        port.configure(f'10.81.0.{number}/24')
    for port in ports:
        port.wait_peers(2)
        for text in SAID:
            port.logs.allow(text)
    report = siege(ports, enemy, SEALED if sealed else PLAIN, SECONDS,
                   seeded().number, tmp_path)
    # The rest of the machine decides how much is left; never nothing.
    assert report.share > 0.01
    assert report.after > 0.5 * report.before
    # And all are well: in both directions, with all their bytes.
    tcp_transfer(ports[0].host, ports[2].host, '10.81.0.3', 1 << 20)
    tcp_transfer(ports[2].host, ports[0].host, '10.81.0.1', 1 << 20)
