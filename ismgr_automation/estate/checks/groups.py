"""Checks of host groups and services: selectors, waves, availability, endpoints. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.estate.documents import HostGroup, Service
from ismgr_automation.estate.draft import Draft, Entry, wrong
from ismgr_automation.estate.selector import Flaw, Selector, compiled

Path = tuple[str | int, ...]

_PERCENT = re.compile(r"(\d{1,3})%\Z")


def selectors(draft: Draft) -> Iterator[Diagnostic]:
    """Selectors that compile; mistakes are shown at their place inside the expression."""
    for entry, group in draft.each(HostGroup):
        yield from selector(entry, ("selector",), group.selector, entry.label)


def waves(draft: Draft) -> Iterator[Diagnostic]:
    """Wave sizes are counts from 1 or percentages from 1% to 100%."""
    for entry, group in draft.each(HostGroup):
        yield from wave_sizes(entry, ("waves",), group.waves, entry.label)


def availability(draft: Draft) -> Iterator[Diagnostic]:
    """A group must be able to spare a member, or nothing of it could ever be changed."""
    for entry, group in draft.each(HostGroup):
        most = group.at_most
        if most is None:
            continue
        if group.minimum_available >= most:
            summary = (
                f"{entry.label} has at most {most} members and {group.minimum_available} must always be up: "
                "none could ever be touched"
            )
            yield wrong(entry.marked.at("minimum_available"), summary, f"at most {most - 1}")
        elif group.quorum and most < 3:  # noqa: PLR2004  more than half of 1 or 2 is all of them
            summary = f"{entry.label} has at most {most} members: without one of them there is no quorum"
            yield wrong(entry.marked.at("quorum"), summary, "at_most: 3 or more, or no quorum")


def endpoints(draft: Draft) -> Iterator[Diagnostic]:
    """Endpoints are URLs with a scheme and a host."""
    for entry, service in draft.each(Service):
        if service.endpoint and not _is_url(service.endpoint):
            place = entry.marked.at("endpoint")
            yield wrong(
                place, f"the endpoint of {entry.label} is not a URL", "a URL such as https://records.example.org/"
            )


def selector(entry: Entry, path: Path, source: str, whose: str) -> Iterator[Diagnostic]:
    """What is wrong with the selector at a path of a document."""
    found = compiled(source)
    if not isinstance(found, Selector):
        for flaw in found:
            place = inside(entry, flaw, path)
            yield wrong(place, f"selector of {whose}: {flaw.summary}", flaw.expected, flaw.suggestion)


def wave_sizes(entry: Entry, path: Path, sizes: Sequence[int | str], whose: str) -> Iterator[Diagnostic]:
    """What is wrong with the list of wave sizes at a path of a document."""
    if not sizes:
        yield wrong(entry.marked.at(*path), f"{whose} has no waves", 'at least one size, such as "100%"')
    for index, size in enumerate(sizes):
        if not _is_size(size):
            summary = f"wave {index + 1} of {whose} has the size {size!r}"
            yield wrong(entry.marked.at(*path, index), summary, 'a count such as 1, or a percentage such as "50%"')


def inside(entry: Entry, flaw: Flaw, path: Path = ("selector",)) -> Position:
    """Where a flaw of the expression at a path stands in the file."""
    spot = entry.marked.find(path)
    start = Position(entry.marked.path, spot.line, spot.column)
    if spot.style in {"|", ">"}:
        lines = entry.marked.text.splitlines()
        # a folded text counts as one line to the expression: then the first line is as near as can be
        line = spot.line + (flaw.line if spot.style == "|" else 1)
        indent = len(lines[line - 1]) - len(lines[line - 1].lstrip()) if line <= len(lines) else 0
        return Position(entry.marked.path, line, indent + (flaw.column if spot.style == "|" else 1))
    quote = 1 if spot.style else 0
    return Position(entry.marked.path, start.line, start.column + quote + flaw.column - 1) if flaw.line == 1 else start


def _is_size(size: int | str) -> bool:
    if isinstance(size, int):
        return size >= 1
    match = _PERCENT.match(size)
    return match is not None and 1 <= int(match[1]) <= 100  # noqa: PLR2004  per cent


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.scheme and parts.hostname) and parts.port != 0 and " " not in text
    except ValueError:
        return False
