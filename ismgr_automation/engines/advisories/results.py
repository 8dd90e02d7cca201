"""Findings and answers as plain JSON and back, so that a source is parsed once. The shape may change at any time: then
``FORMAT`` does, and what was kept is read anew from the sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Generic, TypeVar

from ismgr_automation.core.json import digest
from ismgr_automation.engines.advisories.findings import Findings, Key, Said
from ismgr_automation.engines.advisories.ratings import Rating
from ismgr_automation.ports.advisories import Fix, Vulnerability

FORMAT = 1
DAMAGED = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What reading a kept result raises that is not what we wrote."""

Made = TypeVar("Made")


def key_of(*parts: Any) -> str:
    """The name under which a result is kept."""
    return digest([FORMAT, *parts]).removeprefix("sha256:")


class Rows(Mapping[str, Made], Generic[Made]):
    """Values that are made of their rows when somebody asks: of 50,000 vulnerabilities a site asks for some hundred."""

    def __init__(self, rows: Mapping[str, Any], make: Callable[[str, Any], Made]) -> None:
        self._rows = rows
        self._make = make
        self._made: dict[str, Made] = {}

    def __getitem__(self, key: str) -> Made:
        if key not in self._made:
            self._made[key] = self._make(key, self._rows[key])
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Rows({dict(self)!r})"


def findings_out(one: Findings) -> Any:
    """What one source says."""
    return {
        "rank": one.rank,
        "entries": one.entries,
        "dated": _out(one.dated),
        "fixes": [[*key, fix.fixed, fix.affected, fix.urgency] for key, fix in one.fixes.items()],
        "said": [[cve, said.summary, _rating_out(said.rating), _out(said.published)] for cve, said in one.said.items()],
    }


def findings_in(rows: Any) -> Findings:
    """What one source said. Raises one of ``DAMAGED``."""
    fixes = {
        Key(source, cve, release): Fix(
            cve=cve, source=source, release=release, fixed=fixed, affected=affected, urgency=urgency
        )
        for source, cve, release, fixed, affected, urgency in rows["fixes"]
    }
    said = {
        cve: Said(summary=summary, rating=_rating_in(rating), published=_day(published))
        for cve, summary, rating, published in rows["said"]
    }
    return Findings(
        rank=int(rows["rank"]), entries=int(rows["entries"]), dated=_moment(rows["dated"]), fixes=fixes, said=said
    )


def fixes_out(fixes: Mapping[str, Sequence[Fix]]) -> Any:
    """Fixes by source package."""
    return {
        source: [[one.cve, one.release, one.fixed, one.affected, one.urgency] for one in some]
        for source, some in fixes.items()
    }


def fixes_in(rows: Any) -> Mapping[str, tuple[Fix, ...]]:
    """Fixes by source package."""
    return Rows(dict(rows), _fixes)


def vulnerabilities_out(some: Mapping[str, Vulnerability]) -> Any:
    """Vulnerabilities by CVE."""
    return {
        cve: [
            *(one.summary, one.severity, one.score, one.vector),
            *(_out(one.published), _out(one.exploited), _out(one.exploited_due), one.epss),
        ]
        for cve, one in some.items()
    }


def vulnerabilities_in(rows: Any) -> Mapping[str, Vulnerability]:
    """Vulnerabilities by CVE."""
    return Rows(dict(rows), _vulnerability)


def _fixes(source: str, rows: Any) -> tuple[Fix, ...]:
    return tuple(
        Fix(cve=cve, source=source, release=release, fixed=fixed, affected=affected, urgency=urgency)
        for cve, release, fixed, affected, urgency in rows
    )


def _vulnerability(cve: str, row: Any) -> Vulnerability:
    summary, severity, score, vector, published, exploited, due, epss = row
    return Vulnerability(
        cve=cve,
        summary=summary,
        severity=severity,
        score=score,
        vector=vector,
        published=_day(published),
        exploited=_day(exploited),
        exploited_due=_day(due),
        epss=epss,
    )


def _rating_out(one: Rating | None) -> Any:
    return None if one is None else [one.rank, one.severity, one.score, one.vector]


def _rating_in(row: Any) -> Rating | None:
    return None if row is None else Rating(rank=row[0], severity=row[1], score=row[2], vector=row[3])


def _out(day: date | datetime | None) -> str | None:
    return None if day is None else day.isoformat()


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
