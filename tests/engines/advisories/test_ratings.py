"""Ratings: bands of CVSS, words of databases, and whose word counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ismgr_automation.engines.advisories.ratings import BANDS, URGENCY, WORSE, Rating, band, scored, word
from ismgr_automation.estate.maintenance import Severity

BAD = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (10.0, "critical"),
        (9.0, "critical"),
        (8.9, "high"),
        (7.0, "high"),
        (6.9, "medium"),
        (4.0, "medium"),
        (3.9, "low"),
        (0.1, "low"),
        (0.0, "negligible"),
    ],
)
def test_bands_are_those_of_the_standard(score: float, expected: str) -> None:
    assert band(score) == expected


@pytest.mark.parametrize(
    ("kind", "vector", "score", "severity"),
    [
        ("CVSS_V2", "AV:N/AC:L/Au:N/C:P/I:P/A:P", 7.5, "high"),
        ("CVSS_V3", BAD, 9.8, "critical"),
        ("CVSS_V3", "CVSS:3.0/AV:L/AC:H/PR:H/UI:R/S:U/C:N/I:N/A:L", 1.8, "low"),
        ("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0, "negligible"),
        ("CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 9.3, "critical"),
    ],
)
def test_a_vector_is_scored(kind: str, vector: str, score: float, severity: str) -> None:
    rating = scored(kind, vector)
    assert rating is not None
    assert (rating.score, rating.severity, rating.vector) == (score, severity, vector)


def attempted(kind: str, text: str) -> float:
    """The score; 0 where the vector was refused."""
    try:
        rating = scored(kind, text)
    except ValueError:
        return 0.0
    return rating.score or 0.0 if rating else -1.0


@pytest.mark.parametrize("kind", ["CVSS_V2", "CVSS_V3", "CVSS_V4"])
@given(text=some.text(max_size=60) | some.from_regex(r"\ACVSS:[34]\.[01](/[A-Z]{1,3}:[A-Z]){0,11}\Z"))
def test_what_is_no_vector_is_a_value_error_and_nothing_else(kind: str, text: str) -> None:
    assert 0.0 <= attempted(kind, text) <= 10.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MODERATE", "medium"),
        ("Important", "high"),
        ("CRITICAL", "critical"),
        ("unimportant", "negligible"),
        ("low**", "low"),
        ("not yet assigned", ""),
        ("end-of-life", ""),
        ("", ""),
        ("severe", ""),
    ],
)
def test_words_are_translated_and_never_guessed(text: str, expected: str) -> None:
    rating = word(text)
    assert (rating.severity if rating else "") == expected


def test_a_severity_of_ubuntus_own_kind_is_a_word() -> None:
    assert scored("Ubuntu", "high") == Rating(rank=1, severity="high")
    assert scored("SSVC", "act") is None


def test_later_versions_of_cvss_outweigh_earlier_ones_then_words_then_debians_urgency() -> None:
    by_weight = [
        word("high", URGENCY),
        word("low"),
        scored("CVSS_V2", "AV:N/AC:L/Au:N/C:C/I:C/A:C"),
        scored("CVSS_V3", "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:N/I:N/A:L"),
        scored("CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:L/SC:N/SI:N/SA:N"),
    ]
    ratings = [one for one in by_weight if one is not None]
    assert len(ratings) == len(by_weight)
    assert sorted(ratings, key=lambda one: one.weight, reverse=True) == ratings[::-1]


def test_of_two_vectors_of_one_version_the_worse_counts() -> None:
    mild, bad = scored("CVSS_V3", "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:N/I:N/A:L"), scored("CVSS_V3", BAD)
    assert mild is not None
    assert bad is not None
    assert bad.weight > mild.weight


def test_every_word_is_a_severity_of_the_estate() -> None:
    assert set(WORSE) - {""} == set(Severity) - {Severity.UNKNOWN}
    assert {name for _least, name in BANDS} <= set(Severity)
