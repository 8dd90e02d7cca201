"""A process that dies anywhere in a run: whoever resumes gets the same end as if nobody had died, and nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from ismgr_automation.converge.report import Fate
from ismgr_automation.core.errors import InputError, StalePlan
from ismgr_automation.planning.planfile import read
from ismgr_automation.ports.memory import Boundary, Death, Killed, hosts, stacks
from ismgr_automation.ports.runs import RunState
from ismgr_automation.ports.stacks import Output
from tests.rehearsal import Rehearsal, host_entry


def end_of(site: Rehearsal) -> Mapping[str, object]:
    """Everything that a user would look at afterwards."""
    world = site.world
    return {
        "actual": {name: dict(one) for name, one in world.actual.items()},
        "state": {name: dict(one) for name, one in world.state.items()},
        "values": {name: dict(one) for name, one in world.values.items()},
        "applied": {str(key): row[0] for key, row in site.ledgers["lab"].rows.items()},
    }


def boundaries(folder: Path) -> tuple[list[str], Mapping[str, object]]:
    """The boundaries of a whole run, and how the world looks after it."""
    site = Rehearsal(folder=folder)
    site.death = Death()
    assert site.apply().ok
    return site.death.passed, end_of(site)


def crashed(folder: Path, nth: int) -> Rehearsal:
    """A fresh site whose run died at the nth boundary."""
    site = Rehearsal(folder=folder)
    plan = site.plan()
    site.death = Death(nth=nth)
    with pytest.raises(Killed):
        site.apply(plan)
    return site


def test_a_run_that_dies_at_any_boundary_goes_on_to_the_same_end(tmp_path: Path) -> None:
    passed, expected = boundaries(tmp_path / "whole")
    assert len(passed) > 40
    assert set(passed) >= {str(one) for one in Boundary} - {"before take over", "after take over"}
    for nth, where in enumerate(passed, start=1):
        site = crashed(tmp_path / f"died-{nth}", nth)
        if where == Boundary.BEFORE_BEGIN:
            assert site.runs.runs() == ()
            assert site.world.effects() == []
            continue
        (run,) = site.runs.runs()
        if run.state is RunState.RUNNING:
            report = site.resume()
            assert report.ok, (nth, where, report.stopped)
            assert len(report.outcomes) == 7, (nth, where)
        assert end_of(site) == expected, (nth, where)
        assert site.runs.run(run.id).state is RunState.DONE, (nth, where)


def test_a_run_that_dies_again_and_again_comes_to_its_end(tmp_path: Path) -> None:
    _, expected = boundaries(tmp_path / "whole")
    site = crashed(tmp_path / "died", 12)
    deaths = 0
    while site.runs.runs()[0].state is RunState.RUNNING and deaths < 30:
        deaths += 1
        try:
            site.resume(death=Death(nth=9 + deaths % 5))
        except Killed:
            continue
    assert deaths > 2
    assert end_of(site) == expected


def test_what_landed_before_the_crash_is_not_done_again(tmp_path: Path) -> None:
    passed, _ = boundaries(tmp_path / "whole")
    nth = max(index for index, where in enumerate(passed, start=1) if where == Boundary.AFTER_FINISHED)
    site = crashed(tmp_path / "died", nth)
    before = Counter(site.world.effects())
    assert site.resume().ok
    assert Counter(site.world.effects()) == before


def test_what_was_begun_is_looked_at_before_it_is_done_again(tmp_path: Path) -> None:
    passed, _ = boundaries(tmp_path / "whole")
    nth = 1 + passed.index(Boundary.BEFORE_FINISHED)
    site = crashed(tmp_path / "died", nth)
    (begun,) = [one for one in site.journal.steps(site.runs.runs()[0].id) if one.outcome is None][:1]
    name = begun.unit.key.removeprefix("stack/")
    site.world.calls.clear()
    assert site.resume().ok
    calls = [one for one in site.world.calls if one.endswith(f" {name}")]
    assert calls.index(f"recover {name}") < calls.index(f"preview {name}")
    assert f"up {name}" not in calls  # it had been done, only its end was not written down


@pytest.mark.parametrize("boundary", [Boundary.AFTER_BEGIN, Boundary.BEFORE_ROUND, Boundary.AFTER_ROUND])
def test_a_host_that_drifts_before_a_run_is_resumed_is_seen_before_it_is_touched(
    running: Rehearsal, boundary: Boundary
) -> None:
    running.world.values["db1.dc1"]["tune"] = "slow"
    plan = running.plan()
    running.death = Death(nth=1, only=boundary)
    with pytest.raises(Killed):
        running.apply(plan)
    running.world.values["db1.dc1"]["install"] = "16"
    report = running.resume()
    assert report.reason == "unplanned-change", report.stopped
    assert running.world.effects() == []


def test_a_stack_that_drifts_before_a_run_is_resumed_is_seen_before_it_is_touched(running: Rehearsal) -> None:
    running.world.actual["names"]["www"] = {"to": "elsewhere"}
    plan = running.plan()
    running.death = Death(nth=1, only=Boundary.AFTER_BEGIN)
    with pytest.raises(Killed):
        running.apply(plan)
    running.world.actual["names"]["www"] = {"to": "somewhere else"}
    report = running.resume()
    assert report.stopped == "stack/names failed: stack/names would do something else now"
    assert running.world.effects() == []


def test_a_run_whose_playbook_was_edited_meanwhile_is_not_resumed(tmp_path: Path) -> None:
    passed, _ = boundaries(tmp_path / "whole")
    site = crashed(tmp_path / "died", 1 + passed.index(Boundary.BEFORE_FINISHED))
    site.versions["playbooks/edge.yml"] = "edited"
    left = site.let_go()
    with site.open() as estate, pytest.raises(StalePlan, match="content of group/edges changed"):
        estate.resume(left.id)
    assert site.runs.run(left.id).state is RunState.RUNNING


def test_a_state_that_somebody_else_wrote_meanwhile_stops_the_resume(tmp_path: Path) -> None:
    passed, _ = boundaries(tmp_path / "whole")
    last = max(index for index, where in enumerate(passed, start=1) if where == Boundary.BEFORE_STARTED)
    site = crashed(tmp_path / "died", last)
    site.world.state["dc2-servers"] = {}
    left = site.let_go()
    with site.open() as estate, pytest.raises(StalePlan, match="state of stack/dc2-servers changed, and not by this"):
        estate.resume(left.id)


def _secret(site: Rehearsal) -> None:
    site.secrets.values["env:APP"] = "another password"  # type: ignore[index]


def _hosts(site: Rehearsal) -> None:
    site.world.outputs["dc2-servers"]["hosts"] = Output(value=[host_entry("db1.dc2", address="192.0.2.250")])


def _weeks(site: Rehearsal) -> None:
    (run, *_) = site.runs.runs()
    site.runs.rows[run.id] = replace(run, started_at=run.started_at - timedelta(weeks=3))


@pytest.mark.parametrize(
    ("meanwhile", "words"),
    [
        (_secret, "secret env:APP changed"),
        (_hosts, "the inventory changed"),
        (_weeks, "its run was begun at .*, and could go on until"),
    ],
    ids=["secret", "hosts", "weeks"],
)
def test_a_run_goes_on_only_as_what_was_signed(
    running: Rehearsal, meanwhile: Callable[[Rehearsal], None], words: str
) -> None:
    left = died_before_its_first_change(running)
    meanwhile(running)
    with running.open() as estate, pytest.raises(StalePlan, match=words):
        estate.resume(left)
    assert running.world.effects() == []
    assert running.runs.run(left).state is RunState.RUNNING


def test_a_run_goes_on_when_nothing_has_moved_though_its_plan_expired_in_the_middle(running: Rehearsal) -> None:
    left = died_before_its_first_change(running)
    expires_at = read(running.runs.run(left).plan, "run").beside.expires_at
    assert expires_at is not None
    assert expires_at < datetime.now(UTC)
    with running.open() as estate:
        assert estate.resume(left).ok
    assert running.world.effects() == ["run edges"]


def died_before_its_first_change(site: Rehearsal) -> str:
    """A run whose process died when it had just begun; a host is to be configured."""
    site.world.values["edge1.dc1"]["install"] = "0"
    plan = site.plan()
    site.death = Death(nth=1, only=Boundary.AFTER_ROUND)
    with pytest.raises(Killed):
        site.apply(plan)
    return site.let_go().id


@pytest.mark.parametrize(("engine", "address"), [(stacks, "stack/names"), (hosts, "group/edges")])
def test_a_run_does_not_go_on_with_an_engine_that_did_not_plan_it(
    running: Rehearsal, monkeypatch: pytest.MonkeyPatch, engine: ModuleType, address: str
) -> None:
    running.edit("stacks.yaml", "needs: [group/edges]", "needs: [dc1-servers]")
    running.world.actual["names"]["www"] = {"to": "elsewhere"}
    left, before = died_before_its_first_change(running), engine.ENGINE
    monkeypatch.setattr(engine, "ENGINE", "another 2")
    report = running.resume(left)
    assert f"{address}: another 2 would do it now; it was planned with {before}" in report.stopped
    assert [one.fate for one in report.outcomes if str(one.address) == address] == [Fate.FAILED]
    assert not [one for one in running.world.effects() if one.endswith(address.partition("/")[2])]


def test_a_run_that_has_ended_is_not_resumed(running: Rehearsal) -> None:
    run = running.runs.runs()[0]
    with running.open() as estate, pytest.raises(InputError, match="has ended: it is done"):
        estate.resume(run.id)


def test_another_apply_does_not_pick_up_what_somebody_left(tmp_path: Path) -> None:
    passed, _ = boundaries(tmp_path / "whole")
    site = crashed(tmp_path / "died", 1 + passed.index(Boundary.BEFORE_FINISHED))
    left = site.runs.runs()[0]
    site.death = Death()
    site.apply(site.plan())
    assert site.runs.run(left.id).state is RunState.RUNNING
