"""Debian's releases: codenames and numbers. From the list of the package distro-info-data where it is installed; a
table of ours otherwise. Knows no dates and does not say which release is supported."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

INSTALLED = Path("/usr/share/distro-info/debian.csv")
"""Where distro-info-data puts the list."""

KNOWN: Mapping[str, str] = {
    "7": "wheezy",
    "8": "jessie",
    "9": "stretch",
    "10": "buster",
    "11": "bullseye",
    "12": "bookworm",
    "13": "trixie",
    "14": "forky",
    "15": "duke",
}
"""Taken from distro-info-data of Debian 12, for machines that have no such list."""


def codenames(installed: Path = INSTALLED) -> Mapping[str, str]:
    """Codenames by release number, and by themselves: whichever a source uses.

    >>> codenames(Path("no-such-list.csv"))["12"]
    'bookworm'
    """
    found = dict(KNOWN)
    with (
        suppress(OSError, KeyError, csv.Error, UnicodeDecodeError),
        installed.open(encoding="utf-8", newline="") as file,
    ):
        found |= {row["version"]: row["series"] for row in csv.DictReader(file) if row["version"] and row["series"]}
    return found | {name: name for name in found.values()}


def releases_of(ecosystem: str, wanted: Iterable[str], known: Mapping[str, str]) -> tuple[str, ...]:
    """Which of the wanted codenames an OSV ecosystem means. ``Debian`` alone means each of them.

    >>> releases_of("Debian:12", ["bookworm", "trixie"], codenames())
    ('bookworm',)
    >>> releases_of("PyPI", ["bookworm"], codenames())
    ()
    """
    family, _, release = ecosystem.partition(":")
    if family != "Debian":
        return ()
    return tuple(one for one in wanted if not release or known.get(release, release) == one)
