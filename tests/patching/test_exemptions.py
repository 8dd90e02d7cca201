"""Which exemptions hold, and what is wrong with exemptions."""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.estate.maintenance import Severity
from ismgr_automation.patching.exemptions import NOTHING, Met, Waived, Waivers, approvers, findings
from tests.patching.cases import DAY, HOST, TEAM, exemption, installed, waivers

DEMO = installed("1.0-1")
ENDLESS = {"issued": date(2026, 11, 1), "expires": date(2027, 11, 1)}


def _of(*documents, cve="CVE-2026-1", severity=Severity.HIGH, host=HOST):
    found = waivers(*documents)
    return found.of(found.seat(host), DEMO, cve, severity)


def test_an_exemption_holds_inside_its_scope_only():
    document = exemption(scope='host.site == "dc1" && package.source == "demo-src" && cve.startsWith("CVE-2026-")')
    assert _of(document).hold == ("carried",)
    assert _of(document, cve="CVE-2025-1") == NOTHING


@pytest.mark.parametrize(
    "fields",
    [
        {"expires": date(2026, 11, 19)},
        {"issued": date(2026, 11, 21)},
        {"approver": "Bob"},
        {"approver": "Nobody"},
        {"issued": date(2026, 8, 21), "expires": date(2026, 12, 1)},
    ],
    ids=["over", "not begun", "approved by an author", "approved by a stranger", "longer than ninety days"],
)
def test_an_exemption_that_does_not_hold_is_still_known_to_cover(fields):
    assert _of(exemption(**fields)) == Waived(lapsed=("carried",))


def test_an_approver_may_be_named_by_his_address():
    assert _of(exemption(approver="ada@example.org")).hold == ("carried",)
    assert approvers({"operations": TEAM}) == {"Ada", "ada@example.org"}


def test_how_long_an_exemption_holds_depends_on_the_severity():
    document = exemption(issued=date(2026, 10, 1), expires=date(2027, 1, 1))
    assert _of(document, severity=Severity.HIGH).hold == ("carried",)
    assert _of(document, severity=Severity.CRITICAL).lapsed == ("carried",)
    assert _of(document, severity=Severity.UNKNOWN).lapsed == ("carried",)


def test_a_scope_that_fails_holds_nothing_and_the_others_still_hold():
    found = _of(exemption(name="odd", scope="int(host.labels.role) > 1"), exemption(name="whole"))
    assert found.hold == ("whole",)
    assert [name for name, _ in found.faults] == ["odd"]


def test_a_scope_that_does_not_compile_raises():
    with pytest.raises(InputError, match="a package has no 'origin'"):
        waivers(exemption(scope='package.origin == "Debian"'))


@pytest.mark.parametrize(
    ("fields", "met", "told"),
    [
        ({}, [(Severity.HIGH, Waived(hold=("carried",)))], []),
        ({}, [], ["exemption carried of operations covers nothing*"]),
        (
            {"expires": date(2026, 11, 19)},
            [(Severity.HIGH, Waived(lapsed=("carried",)))],
            ["*is over since 2026-11-19: it still covers something, which counts again"],
        ),
        ({"expires": date(2026, 11, 19)}, [], ["*is over since 2026-11-19: it covers nothing any more"]),
        (
            {"approver": "Bob"},
            [(Severity.HIGH, Waived(lapsed=("carried",)))],
            ["*does not hold: Bob, who approved it, is no approver*"],
        ),
        (
            ENDLESS,
            [(Severity.LOW, Waived(hold=("carried",))), (Severity.CRITICAL, Waived(hold=("carried",)))],
            ["*lasts 365 days, and for critical vulnerabilities 30 are allowed: for these it holds until 2026-12-01"],
        ),
        (ENDLESS, [(Severity.LOW, Waived(hold=("carried",)))], []),
        (
            {},
            [
                (Severity.LOW, Waived(hold=("carried",), faults=(("odd", "b"),))),
                (Severity.LOW, Waived(faults=(("odd", "a"),))),
            ],
            ["exemption odd cannot be judged, and does not hold: a"],
        ),
    ],
    ids=["well", "orphaned", "over", "over and orphaned", "no approver", "too long", "long enough", "not judged"],
)
def test_what_is_wrong_with_an_exemption_is_a_finding(fields, met, told):
    found = findings(waivers(exemption(**fields)), [Met(severity=severity, waived=one) for severity, one in met])
    assert len(found) == len(told)
    assert all(fnmatchcase(one.summary, pattern) for one, pattern in zip(found, told, strict=True))
    assert all(one.subject.kind == "exemption" and one.next_step for one in found)


def test_who_did_not_see_everything_calls_no_exemption_orphaned():
    unseen = waivers(exemption())
    assert findings(unseen, ())
    assert findings(unseen, (), whole=False) == ()
    (over,) = findings(waivers(exemption(expires=date(2026, 11, 1))), (), whole=False)
    assert "whether it still covers anything was not seen" in over.summary


NARROW = 'cve == "CVE-2026-2"'
EVERYWHERE = exemption()


def _against(base, proposed, cve="CVE-2026-1"):
    """What a proposal says of one CVE where something else was agreed on."""
    named = [{one.name: one for one in listed} for listed in (base, proposed)]
    teams = {TEAM.name: TEAM}
    found = Waivers(named[1], teams, DAY, before=Waivers(named[0], teams, DAY))
    return found.of(found.seat(HOST), DEMO, cve, Severity.HIGH)


@pytest.mark.parametrize(
    ("base", "proposed", "said"),
    [
        ([], [EVERYWHERE], Waived(proposed=("carried",))),
        ([exemption(scope=NARROW)], [EVERYWHERE], Waived(proposed=("carried",))),
        ([exemption(expires=date(2026, 11, 19))], [EVERYWHERE], Waived(proposed=("carried",))),
        ([exemption(approver="Bob")], [EVERYWHERE], Waived(proposed=("carried",))),
        ([EVERYWHERE], [EVERYWHERE], Waived(hold=("carried",))),
        ([EVERYWHERE], [exemption(name="renamed")], Waived(hold=("renamed",))),
        ([EVERYWHERE], [exemption(scope=NARROW)], NOTHING),
        ([EVERYWHERE], [], NOTHING),
        ([EVERYWHERE], [exemption(expires=date(2026, 11, 19))], Waived(lapsed=("carried",))),
    ],
    ids=["brought", "widened", "prolonged", "signed by another", "kept", "renamed", "narrowed", "removed", "ended"],
)
def test_what_is_waived_must_be_so_by_what_was_agreed_on_and_by_what_is_proposed(base, proposed, said):
    assert _against(base, proposed) == said


def test_what_a_widened_exemption_covered_before_it_covers_still():
    assert _against([exemption(scope=NARROW)], [EVERYWHERE], cve="CVE-2026-2").hold == ("carried",)


def test_an_exemption_that_is_only_proposed_is_a_finding_that_says_how_it_comes_to_hold():
    met = [Met(severity=Severity.HIGH, waived=Waived(proposed=("carried",)))]
    (found,) = findings(waivers(EVERYWHERE), met)
    assert found.summary.startswith(
        "proposed exemption carried of operations: what it covers is left alone, and counts"
    )
    assert "approved and applied" in found.next_step
