"""Patching in rings and waves: canaries first, soaking between rings, one failure budget, and no promise broken."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.converge.report import Fate, failed_checks
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.verify import verify
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.core.events import BudgetSpent, SoakFinished, SoakStarted, StepReported, WaveStarted
from ismgr_automation.planning.planfile import read
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.memory import MemoryVerifier
from ismgr_automation.ports.upkeep import Part
from ismgr_automation.ports.verification import CheckResult, SuiteRequest, Verdict
from tests.converge.patched import (
    NEW,
    OLD,
    effects,
    exactly,
    fates,
    offer,
    on_new,
    order,
    patch,
    patched,
    plan,
    planned_moves,
    today,
    versions,
)
from tests.rehearsal import Rehearsal


@pytest.fixture
def clinic(tmp_path: Path) -> Rehearsal:
    return patched(tmp_path)


def test_a_canary_that_fails_costs_one_host(clinic: Rehearsal) -> None:
    clinic.world.unhealthy.add("web1")
    report = patch(clinic)
    assert fates(report) == {
        "baseline/all#1": Fate.FAILED,
        "baseline/all#2": Fate.NOT_STARTED,
        "baseline/all#3": Fate.NOT_STARTED,
    }
    assert "web1: 1 of 1 checks did not pass, first is_healthy" in report.stopped
    assert report.exit_code is ExitCode.PARTLY_APPLIED
    assert [one for one in effects(clinic) if one.split()[1] not in {"web1", "web/web1"}] == []


def test_what_is_left_is_a_plan_of_patches(clinic: Rehearsal) -> None:
    clinic.world.unhealthy.add("web1")
    rest = read(patch(clinic).rest, "rest")
    assert rest.purpose == "patch"
    assert set(planned_moves(rest)) == {f"{name} tool:amd64" for name in ("db1", "db2", "web1", "web2", "web3")}


def test_a_failure_within_the_budget_does_not_stop_the_others(tmp_path: Path) -> None:
    clinic = patched(tmp_path, budget=1)
    clinic.world.unhealthy.add("web1")
    report = patch(clinic)
    assert (report.stopped, report.exit_code) == ("", ExitCode.PARTLY_APPLIED)
    assert on_new(clinic) == ["db1", "db2", "web2", "web3"]
    assert report.outcomes[0].troubled == ("web1",)


def test_one_failure_more_than_the_budget_stops_before_the_next_wave(tmp_path: Path) -> None:
    clinic = patched(tmp_path, budget=1)
    clinic.world.unhealthy.update({"web1", "web2"})
    report = patch(clinic)
    assert "2 failed, could not be reached or did not verify (web1, web2)" in report.stopped
    assert on_new(clinic) == ["db2", "web3"]
    assert [one for one in clinic.events if isinstance(one, BudgetSpent)]
    assert "switchover db2" not in clinic.service.calls


def test_a_ring_soaks_and_is_looked_at_again_before_the_next_one(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", '{name: canary, selector: host.name == "web1"}', _ring("1h"))
    planned = today(clinic)
    scope = clinic.scope()
    waited: list[float] = []
    scope.context.cancelled.wait = lambda timeout=None: waited.append(timeout) or False  # type: ignore[method-assign]
    report = clinic.apply(planned, scope=scope)
    assert report.ok, report.stopped
    (begun,) = [one for one in clinic.events if isinstance(one, SoakStarted)]
    assert str(begun.subject) == "baseline/all"
    assert 0 < begun.seconds <= 3600
    assert waited == [begun.seconds]
    assert [one for one in clinic.events if isinstance(one, SoakFinished)]
    assert clinic.world.calls.count("verify web1") == 2


def test_a_ring_that_does_not_stay_well_stops_the_run(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", '{name: canary, selector: host.name == "web1"}', _ring("1h"))
    planned, scope = today(clinic), clinic.scope()

    def worse(timeout: float | None = None) -> bool:
        clinic.world.unhealthy.add("web1")
        return False

    scope.context.cancelled.wait = worse  # type: ignore[method-assign]
    report = clinic.apply(planned, scope=scope)
    assert report.stopped == "baseline/all did not stay well for 3600 s: is_healthy on web1"
    assert on_new(clinic) == ["web1"]


def _ring(soak: str) -> str:
    return f'{{name: canary, selector: host.name == "web1", soak: {soak}}}'


def test_a_ring_has_waves_of_its_own(clinic: Rehearsal) -> None:
    whole = """{name: webs, selector: host.labels.role == "web", waves: [1, 1, "100%"]}"""
    clinic.edit("baseline.yaml", '{name: canary, selector: host.name == "web1"}', whole)
    assert patch(clinic).ok
    waves = [one for one in clinic.events if isinstance(one, WaveStarted)]
    assert len(waves) == 5
    applied = [one.split()[1] for one in clinic.packages.calls if one.startswith("apply ")]
    assert applied == ["web1", "web2", "web3", "db2", "db1"]


def test_the_standby_goes_first_then_the_role_then_the_old_primary_and_the_role_goes_back(clinic: Rehearsal) -> None:
    with order(clinic) as calls:
        assert patch(clinic).ok
    mine = [one for one in calls if one in {"apply db1", "apply db2", "switchover db1", "switchover db2"}]
    assert mine == ["apply db2", "switchover db2", "apply db1", "switchover db1"]
    assert clinic.service.primaries() == ["db1"]


def test_the_role_goes_back_unless_somebody_says_otherwise(clinic: Rehearsal) -> None:
    clinic.edit("groups.yaml", "switchover: {back: true}", "switchover: {}")
    assert patch(clinic).ok
    assert clinic.service.primaries() == ["db1"]


def strict(site: Rehearsal) -> Scope:
    """A scope whose suite of the databases fails where the variables name another primary than there is."""

    class Strict(MemoryVerifier):
        def verify(self, request: SuiteRequest, context: Context) -> tuple[CheckResult, ...]:
            named = request.variables.get("postgresql_primary")
            wrong = named is not None and [named] != site.service.primaries()
            verdict = Verdict.FAILED if wrong else Verdict.PASSED
            return tuple(replace(one, verdict=verdict) for one in super().verify(request, context))

    scope = site.scope()
    return replace(scope, engines=replace(scope.engines, verifier=Strict(site.world)))


def test_where_the_role_stays_suites_are_told_who_has_it_and_people_that_git_must_follow(clinic: Rehearsal) -> None:
    named = "switchover: {back: false}\nvariables: {postgresql_primary: db1}"
    clinic.edit("groups.yaml", "switchover: {back: true}", named)
    report = clinic.apply(plan(clinic), scope=strict(clinic))
    assert report.ok, report.stopped
    assert clinic.service.primaries() == ["db2"]
    assert set(versions(clinic).values()) == {NEW}
    said = [one.detail for one in clinic.events if isinstance(one, StepReported)]
    assert "it stays on db2: let postgresql_primary say so in Git" in said
    # whoever only looks is still held to what Git says
    assert failed_checks(verify(strict(clinic)))
    # and the next run begins from where the role is
    clinic.packages.repository.append(offer("1.2-1"))
    for machine in clinic.packages.machines.values():
        clinic.packages.read_lists(machine)
    report = clinic.apply(plan(clinic), scope=strict(clinic))
    assert report.ok, report.stopped
    assert clinic.service.primaries() == ["db1"]


def test_where_the_role_goes_back_suites_hold_hosts_to_what_git_says(clinic: Rehearsal) -> None:
    named = "switchover: {back: true}\nvariables: {postgresql_primary: db2}"
    clinic.edit("groups.yaml", "switchover: {back: true}", named)
    report = clinic.apply(plan(clinic), scope=strict(clinic))
    assert not report.ok
    assert versions(clinic)["db2"] == OLD


def test_a_primary_without_a_successor_is_not_touched_and_told(clinic: Rehearsal) -> None:
    clinic.service.lagging.add("db2")
    report = patch(clinic)
    assert "db1 is the primary of group/databases, and no standby elsewhere streams from it" in report.stopped
    assert on_new(clinic) == ["db2", "web1", "web2", "web3"]
    assert "apply db1" not in clinic.packages.calls


def test_a_switchover_that_fails_leaves_the_primary_unpatched(clinic: Rehearsal) -> None:
    clinic.service.stuck.add("db1")
    report = patch(clinic)
    assert "the primary of group/databases could not be moved to db2: db1 does not follow db2" in report.stopped
    assert "apply db1" not in clinic.packages.calls


def test_a_role_that_cannot_go_back_is_told_and_the_host_is_patched(clinic: Rehearsal) -> None:
    def behind(call: str) -> None:
        if call == "apply db1":
            clinic.service.lagging.add("db1")

    clinic.packages.watch.append(behind)
    report = patch(clinic)
    assert "the primary of group/databases stays on db2: db1 does not stream" in report.stopped
    assert versions(clinic)["db1"] == NEW


def test_a_pair_of_which_one_failed_is_not_gone_on_with_whatever_the_budget(tmp_path: Path) -> None:
    clinic = patched(tmp_path, budget=5)
    clinic.world.unhealthy.add("db2")
    report = patch(clinic)
    assert report.refused
    assert "group/databases" in report.stopped
    assert versions(clinic)["db1"] == OLD
    assert "switchover db2" not in clinic.service.calls


def test_the_plan_of_what_is_left_after_a_run_is_applied_in_the_end(tmp_path: Path) -> None:
    clinic = patched(tmp_path)
    clinic.world.unhealthy.add("web1")
    rest = read(patch(clinic).rest, "rest")
    clinic.world.unhealthy.clear()
    assert exactly(clinic, rest).ok
    assert set(versions(clinic).values()) == {NEW}


@st.composite
def bad_days(draw: st.DrawFn) -> dict[str, object]:
    names = [f"db{number}" for number in range(1, draw(st.integers(2, 5)) + 1)]
    some = st.sets(st.sampled_from([*names, "web1", "web2"]), max_size=3)
    return {
        "names": names,
        "primary": draw(st.sampled_from(["", *names])),
        "minimum": draw(st.integers(1, len(names) - 1)),
        "budget": draw(st.integers(0, 4)),
        "lagging": draw(st.sets(st.sampled_from(names), max_size=2)),
        **{fault: draw(some) for fault in ("unhealthy", "locked", "full", "away", "down", "dying")},
        "broken": draw(st.booleans()),
        "policy": draw(st.sampled_from(["never", "if-needed", "always"])),
        "rings": draw(st.sampled_from(["db1", "web1", names[-1]])),
    }


@given(day=bad_days())
def test_no_group_ever_has_fewer_members_up_than_it_promises(day: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert not _wrong_on(Path(folder), day)


def _wrong_on(folder: Path, day: dict) -> list[str]:
    """What breaks a promise on such a day, in words."""
    clinic = patched(folder, budget=day["budget"], hosts=(*day["names"], "lb1", "web1", "web2"))
    clinic.edit("groups.yaml", "minimum_available: 1", f"minimum_available: {day['minimum']}")
    clinic.edit("baseline.yaml", "if-needed", day["policy"])
    clinic.edit("baseline.yaml", "web1", day["rings"])
    clinic.service.parts.update(dict.fromkeys(day["names"], Part.STANDBY))
    if day["primary"]:
        clinic.service.parts[day["primary"]] = Part.PRIMARY
    clinic.service.lagging.update(day["lagging"])
    clinic.world.unhealthy.update(day["unhealthy"])
    clinic.packages.locked.update(day["locked"])
    clinic.packages.full.update(day["full"])
    clinic.packages.stays_down.update(day["down"])
    clinic.packages.dies.update(dict.fromkeys(day["dying"], 0))
    if day["broken"]:
        clinic.packages.broken.add(("tool", NEW))
    clinic.world.reach.update(dict.fromkeys(day["away"], Reach.TIMEOUT))
    planned = today(clinic)
    if planned.refused or planned.empty:
        return []
    members, busy = set(day["names"]), set[str]()
    most = len(members) - day["minimum"]

    def working(call: str) -> None:
        verb, _, host = call.partition(" ")
        if verb not in {"apply", "reboot", "rollback"} or host not in members:
            return
        # of those who are worked on now, and those who failed or are away, not more than the group can spare
        if verb == "reboot" and host in day["down"]:
            bad.add(host)
        if verb == "rollback":
            back.add(host)
        if verb == "apply":
            # who was put back as he was and is well is up again
            done = {one for one in busy if (versions(clinic)[one] == NEW or one in back) and one not in bad}
            busy.difference_update(done)
            busy.add(host)
        primaries = [one for one in clinic.service.primaries() if one == host]
        wrong.extend(f"{host} was worked on while it was the primary" for _ in primaries)
        if len(busy | (day["away"] & members)) > most:
            wrong.append(f"{call}: {busy} are down, and {day['away'] & members} are away")

    # a run survives whatever is raised in it, so what is wrong is told at the end
    wrong: list[str] = []
    bad, back = set(day["unhealthy"]), set[str]()
    clinic.packages.watch.append(working)
    report = clinic.apply(planned)
    clinic.packages.watch.remove(working)
    assert report.outcomes
    # somebody is always the primary, and nobody twice
    assert len(clinic.service.primaries()) == bool(day["primary"])
    return wrong


def test_a_ring_without_a_soak_is_not_waited_for(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", '{name: canary, selector: host.name == "web1"}', _ring("0s"))
    assert patch(clinic).ok
    assert not [one for one in clinic.events if isinstance(one, SoakStarted)]


def test_a_balancer_is_worked_on_when_nothing_is_drained_at_it(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", 'host.labels.role != "lb"', '"true"')
    turns = [{one.name for one in change.targets} for change in today(clinic).changes]
    (turn,) = [one for one in turns if "lb1" in one]
    assert not {name for name in turn if name.startswith("web")}


def test_a_host_that_was_put_back_and_is_well_counts_as_up(tmp_path: Path) -> None:
    clinic = patched(tmp_path, budget=1)
    clinic.edit("groups.yaml", "drain:", "minimum_available: 2\ndrain:")

    def breaks_on_one(call: str) -> None:
        if call.startswith("apply "):
            clinic.packages.broken.clear()
            clinic.packages.broken.update({("tool", NEW)} if call == "apply web1" else ())

    clinic.packages.watch.append(breaks_on_one)
    report = patch(clinic)
    assert [one.undone for one in report.outcomes if one.troubled] == [("web1",)]
    assert not report.stopped
    assert on_new(clinic) == ["db1", "db2", "web2", "web3"]


def test_a_primary_has_its_role_again_when_it_is_checked(clinic: Rehearsal) -> None:
    seen: list[Part] = []

    def look(call: str) -> None:
        if call == "verify db1":
            seen.append(clinic.service.parts["db1"])

    clinic.world.watch.append(look)
    assert patch(clinic).ok
    assert seen == [Part.PRIMARY]
    assert [one for one in effects(clinic) if one.startswith("switchover")] == ["switchover db2", "switchover db1"]
