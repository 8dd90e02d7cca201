"""Reads which new packages ``work.sh`` says that moves would bring, and what needs them. Lines in, values out: no
clock, no host, and nothing is guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ismgr_automation.engines.apt.reading import Sections, offered_of, records_of
from ismgr_automation.ports.packages import Brought, Move, Offered

_WIDTH = 3
"""Name, architecture and version of a new package."""


def brought_of(sections: Sections, moves: Sequence[Move]) -> tuple[Brought, ...]:
    """The new packages, by name; none at all where what is told of one of them cannot be read, or no index has it."""
    rows = [row for line in sections.get("brings", ()) if len(row := line.split("\t")) == _WIDTH]
    if not rows:
        return ()
    try:
        offered = list(offered_of(sections))
        records = records_of(sections["records"])
    except (ValueError, IndexError, KeyError):
        return ()
    asked = {(one.name, one.after) for one in moves} | {(name, version) for name, _, version in rows}
    known = {key: record for key, record in records.items() if (key[0], key[2]) in asked}
    found = tuple(_brought(row, offered, known) for row in sorted(rows))
    return found if all(one.offers for one in found) else ()


_Records = Mapping[tuple[str, str, str], Mapping[str, str]]


def _brought(row: Sequence[str], offered: Sequence[Offered], records: _Records) -> Brought:
    name, architecture, version = row
    own = records.get((name, architecture, version), {})
    names = {name, *_named(own, "Provides")}
    needing = {key[0] for key, record in records.items() if names & set(_named(record, "Depends", "Pre-Depends"))}
    return Brought(
        name=name,
        architecture=architecture,
        version=version,
        offers=tuple(
            one for one in offered if (one.name, one.architecture, one.version) == (name, architecture, version)
        ),
        needed_by=tuple(sorted(needing - {name})),
    )


def _named(record: Mapping[str, str], *fields: str) -> Iterator[str]:
    """The packages that relations of a record name, alternatives as well."""
    # heavy, and only a host with something new asks for it
    from debian.deb822 import PkgRelation

    for field in fields:
        if field in record:
            yield from (one["name"] for choice in PkgRelation.parse_relations(record[field]) for one in choice)
