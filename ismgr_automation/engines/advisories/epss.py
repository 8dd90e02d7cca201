"""FIRST's exploit prediction scores: a probability for nearly every CVE, computed each day."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import datetime
from itertools import islice
from pathlib import Path

from ismgr_automation.engines.advisories.findings import NEVER, Findings, Said, combine
from ismgr_automation.engines.advisories.limits import Limits
from ismgr_automation.engines.advisories.moments import moment
from ismgr_automation.engines.advisories.places import wrong, wrong_on
from ismgr_automation.engines.advisories.unpack import text_of

RANK = 0
_DATE = "score_date:"


def read(path: Path, name: str, limits: Limits) -> Findings:
    """All scores. Raises ``InputError`` with line and column for what is not their CSV."""
    lines = text_of(path, name, limits).splitlines()
    comments = [line for line in islice(lines, 0, 10) if line.startswith("#")]
    dated = _dated(comments, name)
    said: dict[str, Said] = {}
    rows = csv.reader(lines[len(comments) :])
    try:
        header = next(rows, [])
        if header[:2] != ["cve", "epss"]:
            raise wrong_on(name, len(comments) + 1, 1, "expected a line of headings that begins with cve,epss")
        for row in rows:
            if row:
                one = Said(epss=_probability(row, name, len(comments) + rows.line_num), epss_at=dated or NEVER)
                said[row[0]] = combine(said[row[0]], one) if row[0] in said else one
    except csv.Error as problem:
        raise wrong_on(name, len(comments) + rows.line_num, 1, f"no CSV: {problem}") from problem
    return Findings(rank=RANK, entries=len(said), dated=dated, said=said)


def _probability(row: list[str], name: str, line: int) -> float:
    try:
        value = float(row[1])
    except (IndexError, ValueError):
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise wrong_on(name, line, len(row[0]) + 2, "expected a probability between 0 and 1")
    return value


def _dated(comments: Iterable[str], name: str) -> datetime | None:
    """From ``#model_version:v2025.03.14,score_date:2026-11-25T12:55:00Z``."""
    for part in ",".join(comments).lstrip("#").split(","):
        if part.strip().startswith(_DATE):
            try:
                return moment(part.strip().removeprefix(_DATE))
            except ValueError:
                raise wrong(name, f"its {_DATE} is no time") from None
    return None
