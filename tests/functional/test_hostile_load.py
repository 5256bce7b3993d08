# SPDX-License-Identifier: GPL-2.0-or-later
"""A flood as fast as one core makes it: the port serves on, and counts all.

tests/bench/hostile does the same for as long as one likes, and reports.
"""

import pytest
from hostile import PLAIN, SEALED, set_up, siege
from packets import seeded
from traffic import tcp_transfer

SECONDS = 3


@pytest.mark.parametrize('kinds', [PLAIN, SEALED], ids=['plain', 'sealed'])
def test_flood(net, tap, tmp_path, kinds):
    *hosts, enemy = net.hosts(4)
    # Without trains, of which the kernel counts each as one datagram.
    ports = set_up(tap, hosts, tmp_path / 'secret' if kinds is SEALED else None,
                   gso='off')
    report = siege(ports, enemy, kinds, SECONDS, seeded().number, tmp_path)
    # The rest of the machine decides how much is left; never nothing.
    assert report.share > 0.02
    # And all are well: in both directions, with all their bytes.
    tcp_transfer(ports[0].host, ports[2].host, '10.81.0.3', 1 << 20)
    tcp_transfer(ports[2].host, ports[0].host, '10.81.0.1', 1 << 20)
