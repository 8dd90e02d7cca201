"""How bad a vulnerability is said to be: CVSS vectors are scored by a library, words are translated by tables. Nothing
is guessed: what nobody rated has no rating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from cvss import CVSS2, CVSS3, CVSS4, CVSSError  # type: ignore[import-untyped]

BANDS = ((9.0, "critical"), (7.0, "high"), (4.0, "medium"), (0.1, "low"), (0.0, "negligible"))
"""The qualitative scale of the CVSS standard; its ``none`` is our ``negligible``."""

WORSE = ("", "negligible", "low", "medium", "high", "critical")
"""From good to bad."""

WORDS: Mapping[str, str] = {
    "critical": "critical",
    "high": "high",
    "important": "high",
    "medium": "medium",
    "moderate": "medium",
    "low": "low",
    "negligible": "negligible",
    "unimportant": "negligible",
}
"""Words of databases, Debian's urgencies among them. ``not yet assigned``, ``end-of-life`` and what is not here say
nothing about how bad it is."""

URGENCY, WORD = 0, 1
"""Ranks below the versions of CVSS, which are their own: 2, 3, 4. Debian's urgency yields to all."""

_SCORERS = {"CVSS_V2": (2, CVSS2), "CVSS_V3": (3, CVSS3), "CVSS_V4": (4, CVSS4)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """One rating: the highest ``rank`` counts, and of equal ranks the worst."""

    rank: int
    severity: str
    score: float | None = None
    vector: str = ""

    @property
    def weight(self) -> tuple[int, float, int, str]:
        """Whatever weighs more, counts."""
        return self.rank, self.score or 0.0, WORSE.index(self.severity), self.vector


def band(score: float) -> str:
    """The word for a base score.

    >>> band(9.0), band(8.9), band(0.0)
    ('critical', 'high', 'negligible')
    """
    return next(word for least, word in BANDS if score >= least)


def word(text: str, rank: int = WORD) -> Rating | None:
    """The rating of a word; Debian marks some of its own with asterisks.

    >>> word("Moderate").severity
    'medium'
    >>> word("not yet assigned")
    """
    severity = WORDS.get(text.strip().rstrip("*").lower(), "")
    return Rating(rank=rank, severity=severity) if severity else None


@lru_cache(maxsize=4096)
def scored(kind: str, text: str) -> Rating | None:
    """The rating of an entry of OSV's ``severity``; None for a kind that rates by something else than CVSS and words.

    Raises ``ValueError`` for a vector that is none.
    """
    if kind not in _SCORERS:
        return word(text)
    version, scorer = _SCORERS[kind]
    try:
        base = scorer(text).base_score
    except (CVSSError, ArithmeticError, LookupError, TypeError, ValueError) as problem:
        raise ValueError(f"no vector of {kind}: {problem}") from problem
    score = float(Decimal(str(base)))
    return Rating(rank=version, severity=band(score), score=score, vector=text)
