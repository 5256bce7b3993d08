# SPDX-License-Identifier: GPL-2.0-or-later
"""Ten hosts on one switch: everybody reaches everybody."""

from concurrent.futures import ThreadPoolExecutor

COUNT = 10


def test_full_mesh(net, tap):
    hosts = net.hosts(COUNT)
    ports = [tap(host) for host in hosts]
    for number, port in enumerate(ports, 1):
        port.configure(f'10.81.0.{number}/24')
    for port in ports:
        port.wait_peers(COUNT - 1)

    def ping_all(host, number):
        for other in range(1, COUNT + 1):
            if other != number:
                host.assert_ping(f'10.81.0.{other}', count=2)
    with ThreadPoolExecutor(COUNT) as pool:
        jobs = [pool.submit(ping_all, host, number)
                for number, host in enumerate(hosts, 1)]
        for job in jobs:
            job.result()

    where = {port.mac: port.address for port in ports}
    assert len(set(where.values())) == COUNT
    for port in ports:
        status = port.status()
        assert {e['mac']: e.get('peer', port.address)
                for e in status['fdb']} == where
        assert {p['name'] for p in status['peers']} == \
            {p.name for p in ports if p is not port}
        assert all(p['macs'] == 1 for p in status['peers'])
