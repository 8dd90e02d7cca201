"""How sources become one answer: the same in any order, cautious where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime

from hypothesis import given
from hypothesis import strategies as some

from ismgr_automation.engines.advisories.findings import Findings, Key, Said, fixes_of, vulnerabilities_of
from ismgr_automation.engines.advisories.ratings import WORSE, Rating
from ismgr_automation.engines.advisories.results import findings_in, findings_out
from ismgr_automation.ports.advisories import Fix

CVES = ("CVE-2026-0001", "CVE-2026-0002")
VERSIONS = ("", "1.0", "1.0-0", "1.0~rc1", "1:0.1", "1.0+deb12u1", "1.00")
days = some.none() | some.dates(date(2026, 1, 1), date(2026, 1, 4))
ratings = some.builds(
    Rating,
    rank=some.integers(0, 4),
    severity=some.sampled_from(WORSE[1:]),
    score=some.none() | some.sampled_from([0.0, 5.0, 9.8]),
    vector=some.sampled_from(["", "a", "b"]),
)
said = some.builds(
    Said,
    summary=some.sampled_from(["", "a", "b"]),
    rating=some.none() | ratings,
    published=days,
    exploited=days,
    exploited_due=days,
    epss=some.none() | some.sampled_from([0.0, 0.1, 0.9]),
    epss_at=some.sampled_from([datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)]),
)
fixes = some.builds(
    Fix,
    cve=some.sampled_from(CVES),
    source=some.sampled_from(["openssl", "nginx"]),
    release=some.sampled_from(["bookworm", "trixie"]),
    fixed=some.sampled_from(VERSIONS),
    affected=some.booleans(),
    urgency=some.sampled_from(["", "low", "high", "not yet assigned", "low**"]),
)


def findings(rank: int, some_fixes: list[Fix], some_said: Mapping[str, Said]) -> Findings:
    keyed = {Key(one.source, one.cve, one.release): one for one in some_fixes}
    return Findings(rank=rank, entries=len(keyed), fixes=keyed, said=some_said)


sources = some.builds(
    findings,
    some.integers(0, 3),
    some.lists(fixes, max_size=6),
    some.dictionaries(some.sampled_from(CVES), said, max_size=2),
)


@given(data=some.data(), several=some.lists(sources, max_size=5))
def test_sources_in_any_order_give_the_same_answer(data: some.DataObject, several: list[Findings]) -> None:
    other = data.draw(some.permutations(several))
    assert fixes_of(several) == fixes_of(other)
    assert list(fixes_of(several)) == list(fixes_of(other))
    assert vulnerabilities_of(CVES, several) == vulnerabilities_of(CVES, other)


@given(several=some.lists(sources, max_size=4))
def test_a_source_that_is_read_twice_says_nothing_new(several: list[Findings]) -> None:
    assert fixes_of(several) == fixes_of(several * 2)
    assert vulnerabilities_of(CVES, several) == vulnerabilities_of(CVES, several * 2)


@given(some_fixes=some.lists(fixes, max_size=6), some_said=some.dictionaries(some.sampled_from(CVES), said))
def test_what_is_kept_of_a_source_is_what_was_read(some_fixes: list[Fix], some_said: dict[str, Said]) -> None:
    plain = {
        cve: Said(summary=one.summary, rating=one.rating, published=one.published) for cve, one in some_said.items()
    }
    one = findings(2, some_fixes, plain)
    assert findings_in(findings_out(one)) == one


def fix(**more: object) -> Fix:
    fields: dict[str, object] = {"cve": CVES[0], "source": "nginx", "release": "bookworm"}
    return Fix(**(fields | more))  # type: ignore[arg-type]


def together(*ranked: tuple[int, Fix]) -> Fix:
    ((kept,),) = fixes_of([findings(rank, [one], {}) for rank, one in ranked]).values()
    return kept


def test_debian_has_the_last_word_on_its_own_packages() -> None:
    assert together((3, fix(affected=False)), (2, fix(fixed="2.0"))) == fix(affected=False)


def test_of_two_fixes_the_higher_version_counts_by_debians_rules() -> None:
    assert together((2, fix(fixed="1.10")), (2, fix(fixed="1.9"))).fixed == "1.10"
    assert together((2, fix(fixed="1.0~rc1")), (2, fix(fixed="1.0"))).fixed == "1.0"
    assert together((2, fix(fixed="1:0.1")), (2, fix(fixed="2.0"))).fixed == "1:0.1"
    assert together((2, fix(fixed="1.0-1+deb12u10")), (2, fix(fixed="1.0-1+deb12u9"))).fixed == "1.0-1+deb12u10"


def test_affected_outweighs_not_affected_and_the_worse_urgency_is_kept() -> None:
    both = together((2, fix(affected=False, urgency="high")), (2, fix(urgency="low")))
    assert both == fix(affected=True, urgency="high")
    assert together((2, fix(affected=False, fixed="1.0")), (2, fix())) == fix()


def test_the_newer_probability_counts_though_it_is_lower() -> None:
    old = Said(epss=0.9, epss_at=datetime(2026, 1, 1, tzinfo=UTC))
    new = Said(epss=0.1, epss_at=datetime(2026, 1, 2, tzinfo=UTC))
    several = [findings(0, [], {CVES[0]: one}) for one in (old, new)]
    assert vulnerabilities_of(CVES[:1], several)[CVES[0]].epss == 0.1


def test_the_earliest_advisory_and_the_earliest_day_of_exploitation_count() -> None:
    early = Said(published=date(2026, 1, 1), exploited=date(2026, 1, 2))
    late = Said(published=date(2026, 1, 3), exploited=date(2026, 1, 3), exploited_due=date(2026, 1, 9))
    one = vulnerabilities_of(CVES[:1], [findings(1, [], {CVES[0]: each}) for each in (late, early)])[CVES[0]]
    assert (one.published, one.exploited, one.exploited_due) == (date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 9))
