"""Drills in isolation from their plan to their result: nothing gets out, production is left alone, and whatever goes
wrong on the way is told and taken away."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import ExitCode, InputError, OutsideWindow
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.isolation import CloneState
from ismgr_automation.ports.memory import Boundary, Death, Killed
from ismgr_automation.ports.recovery import Outcome
from ismgr_automation.ports.runs import RunState
from ismgr_automation.recovery.isolated import IsolationTold
from ismgr_automation.recovery.result import DrillResult, Verdict
from tests.bubbles import COUNT, FAR_GATEWAY, GATEWAY, ISOLATED, SPARE, Isolated, isolated
from tests.drills import AWAY, HOME, drill, exactly, is_home, is_safe, plan
from tests.drills import result as measured

PASSED, FAILED, INVALID = Verdict.PASSED, Verdict.FAILED, Verdict.INVALID
ORDER = ["shut", "knock", "take", "promote", "remove", "lift"]


@pytest.fixture
def clinic(tmp_path: Path) -> Isolated:
    return isolated(tmp_path)


def acts(site: Isolated) -> list[str]:
    found = [one.split()[0] for one in site.pair.calls if not one.endswith(" done")]
    return [one for one in found if one in {*ORDER, "fence", "demote", "rejoin", "backend"}]


def told(found: DrillResult) -> IsolationTold:
    assert found.isolation is not None
    return found.isolation


def is_clean(site: Isolated) -> bool:
    """Nothing is left of it, and production is as it was."""
    return site.bubbles.clone is CloneState.ABSENT and not site.bubbles.closed and is_home(site) and is_safe(site)


def test_a_clone_is_tried_and_taken_away_and_production_is_not_touched(clinic: Isolated) -> None:
    report = drill(clinic, ISOLATED)
    assert (report.ok, report.exit_code) == (True, ExitCode.DONE), report.stopped
    assert acts(clinic) == ORDER
    found = measured(clinic)
    assert (found.verdict, found.reasons, found.left, found.outages) == (PASSED, (), (), ())
    assert found.steady is True
    assert is_clean(clinic)
    assert clinic.bubbles.exposed == []
    assert clinic.pair.promoted == []
    assert all(one.outcome is Outcome.ACKED for one in clinic.pair.attempts)
    assert report.outcomes[0].applied == plan(clinic, ISOLATED).changes[0].steps


def test_what_is_told_has_the_counters_the_clone_and_what_production_saw(clinic: Isolated) -> None:
    drill(clinic, ISOLATED)
    found = told(measured(clinic))
    assert (found.network, found.gateways, found.spare, found.source) == ("198.51.100.0/24", (GATEWAY,), SPARE, AWAY)
    assert (found.passed_out, found.passed_in) == (0, 0)
    assert found.knocked == found.dropped_out == len(found.tried or ()) >= 3
    assert set((found.tried or {}).values()) == {"silent"}
    assert found.database_bytes == 50_000_000
    assert found.longest_gap_ms == pytest.approx(5, abs=5)
    took = {one.name: one.ended_ms - one.began_ms for one in measured(clinic).tasks}
    assert took == {"isolate": 30, "clone": 400, "prove": 1, "promote": 20, "check": 0, "remove": 50, "open": 10}
    assert (found.took_ms or 0) >= sum(took.values()) - 1  # tries from inside go on while it is copied
    # those of clients before the drill are along in memory
    assert (found.held_rows or 0) >= found.expected_rows > 100
    assert [(one.name, one.ok, one.found) for one in found.checks] == [("patients", True, "7")]


def test_a_plan_says_every_step_and_touches_neither_the_cluster_nor_its_balancers(clinic: Isolated) -> None:
    planned = plan(clinic, ISOLATED)
    (change,) = planned.changes
    assert [one.what.removeprefix("isolated: ") for one in change.steps] == [
        "isolate", "prove", "clone", "promote", "check", "remove", "open",
    ]  # fmt: skip
    assert sorted(one.name for one in change.targets) == [GATEWAY, SPARE]
    assert planned.digest != plan(clinic, DrillMode.FAILOVER).digest
    assert {one.split()[0] for one in clinic.pair.calls} == {"look"}


def _passing(site: Isolated) -> None:
    site.bubbles.passing = 3


def _elsewhere(site: Isolated) -> None:
    site.bubbles.elsewhere = True


def _flushed(site: Isolated) -> None:
    site.pair.watch.append(lambda call: site.bubbles.closed.clear() if call == f"promote {SPARE} done" else None)


def _flushed_early(site: Isolated) -> None:
    site.pair.watch.append(lambda call: site.bubbles.closed.clear() if call == f"take {SPARE} done" else None)


def _reached(site: Isolated) -> None:
    site.bubbles.reached.add("192.0.2.30:5432")


def _empty(site: Isolated) -> None:
    site.bubbles.empty = True


def _wrong_answer(site: Isolated) -> None:
    site.bubbles.answers[COUNT] = "6"


def _no_answer(site: Isolated) -> None:
    site.bubbles.answers.clear()


def _broken(verb: str) -> Callable[[Isolated], None]:
    return lambda site: site.bubbles.broken.update({verb: "it does not work"})


def _outage(site: Isolated) -> None:
    site.pair.watch.append(lambda call: site.pair.kill(HOME) if call == f"promote {SPARE}" else None)
    site.pair.watch.append(lambda call: site.pair.start(HOME) if call == f"remove {SPARE}" else None)


def _unfollowed(site: Isolated) -> None:
    site.pair.watch.append(lambda call: site.pair.kill(AWAY) if call == f"promote {SPARE}" else None)


PLANTED = {
    "a packet that gets out": (_passing, "fault", FAILED, "packets went through the closed gateways"),
    "rules on the wrong network": (_elsewhere, "fault", INVALID, "the rules were not seen to bite"),
    "a ruleset that somebody flushes": (_flushed, "fault", INVALID, "the gateways' counters are not of one piece"),
    "a ruleset that is flushed early": (_flushed_early, "recovery", FAILED, "by the rule closed-before-clone"),
    "production that can be reached": (_reached, "fault", FAILED, "production was reached from inside: 192.0.2.30"),
    "an empty clone": (_empty, "recovery", FAILED, "acknowledged before the copy are not in the clone"),
    "a check with another answer": (_wrong_answer, "recovery", FAILED, "check patients of the clone: '6', and '7'"),
    "a check without an answer": (_no_answer, "recovery", FAILED, "check patients of the clone: no such table"),
    "a copy that breaks off": (_broken("take"), "recovery", FAILED, "step clone did not end well"),
    "a promotion that fails": (_broken("promote"), "recovery", FAILED, "step promote did not end well"),
    "gateways that do not close": (_broken("shut"), "recovery", FAILED, "step isolate did not end well"),
    "a clone that stays": (_broken("remove"), "cleanup", FAILED, "the clone was not seen to be removed"),
    "rules that stay": (_broken("lift"), "cleanup", FAILED, "the rules of the drill may still be on the gateways"),
    "an outage of production": (_outage, "recovery", FAILED, "writes in production did not go well meanwhile"),
    "a standby that falls off": (_unfollowed, "cleanup", FAILED, "production's standby does not stream at the end"),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_defect_is_caught(clinic: Isolated, case: str) -> None:
    plant, part, verdict, words = PLANTED[case]
    planned = plan(clinic, ISOLATED)
    plant(clinic)
    clinic.apply(planned)
    found = measured(clinic)
    assert found.verdicts[part] is verdict, found.reasons
    assert any(one.startswith(f"{part}: ") and words in one for one in found.reasons), found.reasons
    assert found.verdict is not PASSED


@pytest.mark.parametrize("case", sorted(set(PLANTED) - {"a clone that stays", "rules that stay"}))
def test_whatever_goes_wrong_the_clone_and_the_rules_are_gone_afterwards(clinic: Isolated, case: str) -> None:
    planned = plan(clinic, ISOLATED)
    PLANTED[case][0](clinic)
    clinic.apply(planned)
    assert clinic.bubbles.clone is CloneState.ABSENT
    assert clinic.bubbles.closed == {}


def test_the_gateways_stay_closed_while_a_clone_is_left(clinic: Isolated) -> None:
    planned = plan(clinic, ISOLATED)
    clinic.bubbles.broken["remove"] = "it does not work"
    report = clinic.apply(planned)
    assert not report.ok
    assert clinic.bubbles.closed != {}
    assert "lift" not in acts(clinic)
    assert clinic.bubbles.exposed == []
    (refused,) = [one for one in measured(clinic).tasks if one.rule]
    assert (refused.name, refused.rule) == ("open", "clone-gone-before-opening")


def test_what_an_earlier_drill_left_is_removed_first(clinic: Isolated) -> None:
    clinic.bubbles.clone, clinic.bubbles.closed = CloneState.PROMOTED, {GATEWAY: "an-older-run"}
    assert drill(clinic, ISOLATED).ok
    assert measured(clinic).verdict is PASSED
    assert is_clean(clinic)


def test_nothing_is_begun_where_the_spare_host_could_not_take_it(clinic: Isolated) -> None:
    planned = plan(clinic, ISOLATED)
    clinic.bubbles.broken["stage clone"] = "spare1 has 3 bytes free"
    report = clinic.apply(planned)
    assert not report.ok
    assert acts(clinic) == []
    assert any("spare1 has 3 bytes free" in one for one in measured(clinic).reasons)


@pytest.mark.parametrize("call", ["shut 198.51.100.0/24 done", f"take {SPARE} done", f"promote {SPARE} done"])
def test_a_drill_that_is_cancelled_takes_everything_away(clinic: Isolated, call: str) -> None:
    planned = plan(clinic, ISOLATED)
    working = clinic.scope()
    clinic.pair.watch.append(lambda made: working.context.cancelled.set() if made == call else None)
    clinic.apply(planned, scope=working)
    assert is_clean(clinic)
    assert measured(clinic).verdict is Verdict.ABORTED


WRONG = {
    "a gateway without an address there": ("sites.yaml", "bubble: 198.51.100.1", "", "nobody could close it"),
    "a spare host without an address there": ("sites.yaml", "bubble: 198.51.100.50", "", "nothing can be closed"),
    "a member as the spare host": ("recovery.yaml", "group: spares", "group: databases", "is a member of the cluster"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_plan_is_refused_where_nothing_could_be_closed(clinic: Isolated, case: str) -> None:
    path, before, after, words = WRONG[case]
    clinic.edit(path, before, after)
    with pytest.raises(InputError, match=words):
        plan(clinic, ISOLATED)


def test_a_plan_without_a_bubble_says_what_to_add(clinic: Isolated) -> None:
    text = clinic.files["recovery.yaml"]
    clinic.edit("recovery.yaml", text, text.partition("bubble:")[0])
    with pytest.raises(InputError, match="does not say where a clone could be tried"):
        plan(clinic, ISOLATED)


def test_the_gateway_of_the_other_site_is_left_alone(clinic: Isolated) -> None:
    drill(clinic, ISOLATED)
    assert FAR_GATEWAY not in told(measured(clinic)).gateways


WINDOW = """\
---
kind: MaintenanceWindow
name: nights
time_zone: Europe/Berlin
start: 2020-01-01T01:00:00
rule: FREQ=YEARLY
duration: 1h
"""


@pytest.mark.parametrize(("more", "waits"), [("", False), ("  in_windows: true\n", True)])
def test_windows_of_live_drills_hold_only_where_the_document_says_so(
    clinic: Isolated, more: str, *, waits: bool
) -> None:
    text = clinic.files["recovery.yaml"]
    clinic.edit("recovery.yaml", text, text.replace("ready:", "windows: [nights]\nready:") + more + WINDOW)
    planned = plan(clinic, ISOLATED, now=datetime.now(UTC) + timedelta())
    if waits:
        with pytest.raises(OutsideWindow):
            exactly(clinic, planned)
        return
    assert exactly(clinic, planned).ok


def test_a_freeze_of_the_gateway_holds(clinic: Isolated) -> None:
    text = clinic.files["groups.yaml"]
    freeze = """\
---
kind: Freeze
name: holidays
reason: nobody is there
owner: platform
begins: 2020-01-01T00:00:00+01:00
ends: 2099-01-01T00:00:00+01:00
selector: host.labels.role == "gw"
"""
    clinic.edit("groups.yaml", text, text + freeze)
    with pytest.raises(OutsideWindow):
        exactly(clinic, plan(clinic, ISOLATED))


def mortal(folder: Path) -> Isolated:
    site = isolated(folder, mortal=True)
    site.pair.watch.append(lambda call: site.death.at(f"call {call}"))
    return site


def test_a_drill_killed_anywhere_is_resumed_and_ends_clean(tmp_path: Path) -> None:
    whole = mortal(tmp_path / "whole")
    planned = plan(whole, ISOLATED)
    whole.death = Death()
    assert whole.apply(planned).ok
    passed = list(map(str, whole.death.passed))
    assert {
        "call take spare1",
        "call promote spare1 done",
        "before write counted",
        "call lift 198.51.100.0/24 done",
    } <= {*passed}
    for nth in range(1, len(passed) + 1):
        site = mortal(tmp_path / f"died-{nth}")
        planned = plan(site, ISOLATED)
        site.death = Death(nth=nth)
        with pytest.raises(Killed):
            site.apply(planned)
        where = (nth, str(site.death.passed[nth - 1]))
        site.death = Death()
        if where[1] == Boundary.BEFORE_BEGIN:
            assert acts(site) == []
            continue
        (run,) = site.runs.runs()
        if run.state is RunState.RUNNING:
            report = site.resume()
            assert report.ok, (where, report.stopped)
        assert is_clean(site), where
        assert site.bubbles.exposed == [], where
        found = measured(site)
        assert (found.verdict, found.reasons) == (Verdict.PASSED, ()), where
        assert site.pair.calls.count("promote spare1") <= 2, where


def test_a_clone_whose_walls_fell_while_nobody_was_there_is_removed_and_proves_nothing(tmp_path: Path) -> None:
    site = mortal(tmp_path)
    planned = plan(site, ISOLATED)
    site.death = Death(only="call promote spare1 done", nth=1)
    with pytest.raises(Killed):
        site.apply(planned)
    site.bubbles.closed.clear()
    site.death = Death()
    assert not site.resume().ok
    assert is_clean(site)
    found = measured(site)
    assert found.verdict is INVALID
    assert any("were found open when the drill went on" in one for one in found.reasons)


def test_a_clone_is_removed_also_where_the_drill_that_goes_on_cannot_look_at_its_walls(tmp_path: Path) -> None:
    site = mortal(tmp_path)
    planned = plan(site, ISOLATED)
    site.death = Death(only="call promote spare1 done", nth=1)
    with pytest.raises(Killed):
        site.apply(planned)
    site.death = Death()
    site.pair.faults["stage 198.51.100.0/24"] = InputError("There is no secret env:GATEWAY.")
    report = site.resume()
    assert "There is no secret env:GATEWAY." in report.stopped
    assert is_clean(site)
    assert any("There is no secret env:GATEWAY." in one for one in measured(site).reasons)
