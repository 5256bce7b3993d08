# SPDX-License-Identifier: GPL-2.0-or-later
"""Defaults are in config.h; every text that tells one tells that."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = (ROOT / 'subprojects/libqdes/qdes/config.h').read_text()
DEFAULTS = {'ttl': 'TTL', 'ageing': 'AGEING', 'max-macs': 'MAX_MACS',
            'storm-control': 'STORM'}


def words(name):
    """The text of a file in one line, without the marks of comments."""
    return ' '.join((ROOT / name).read_text().replace('\n#', '\n').split())


def manual(option):
    """Of qdes-tap: from the option's paragraph on."""
    return words('docs/qdes-tap.1').partition(
        r'.BI \-\-' + option.replace('-', r'\-') + ' ')[2], 'The default is '


def qapi(option):
    return words('qapi/qdes.json').partition(f' @{option}: ')[2], 'default: '


def guide(option):
    return words('docs/user-guide.md').partition(f'| `{option}=')[2], r'\| '


def netdev_manual(option):
    return words('scripts/qemuhooks.py').partition(
        f'``{option}=')[2], 'Default is '


def netdev_help(option):
    """The option as its user writes it, in quotes, then its default."""
    text = words('scripts/qemuhooks.py').replace('\\n" "', '')
    return re.split(rf" '{option}=[a-z]+' ", text)[1], r'\(default='


@pytest.mark.parametrize('option', DEFAULTS)
@pytest.mark.parametrize('text', [manual, qapi, guide, netdev_manual,
                                  netdev_help])
def test_documented_default(text, option):
    value = re.search(rf'^#define QDES_DEFAULT_{DEFAULTS[option]} +(\d+)',
                      CONFIG, re.MULTILINE)[1]
    after, mark = text(option)
    assert re.search(mark + r'(\d+)', after)[1] == value


def test_documented_request():
    """The manual tells how long a request of the control socket may be."""
    header = (ROOT / 'tools/qdes-tap/request.h').read_text()
    value = re.search(r'^#define REQUEST_MAX (\d+)', header, re.MULTILINE)[1]
    assert re.search(r'one line, of at most (\d+) bytes',
                     words('docs/qdes-tap.1'))[1] == value
