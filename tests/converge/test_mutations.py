"""Whatever moves between a plan and its apply is refused before the first effect, or stops the run before the next one.
Together with the moves of ``test_staleness`` these are the mutations that the contract names."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ismgr_automation.converge.report import Fate, Report
from ismgr_automation.core.errors import EngineFailed, ExitCode, IsmgrError, LeaseHeld, PlanFileError, StalePlan
from ismgr_automation.core.json import digest
from ismgr_automation.planning.plan import Plan
from ismgr_automation.planning.planfile import read, write
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.memory import Task, hosts, stacks
from ismgr_automation.ports.stacks import Output
from tests.rehearsal import HOLDER, Rehearsal, host_entry, servers

Move = Callable[[Rehearsal], None]


@pytest.fixture
def pending(running: Rehearsal) -> Rehearsal:
    """A running site with something to do for a stack, and for three hosts of two groups."""
    running.world.actual["names"]["www"] = {"to": "192.0.2.99"}
    running.world.values["edge1.dc1"]["install"] = "0"
    running.world.values["db1.dc1"]["tune"] = "slow"
    running.world.values["db1.dc2"]["tune"] = "slow"
    return running


def _group_added(site: Rehearsal) -> None:
    site.files["more.yaml"] = (
        "kind: HostGroup\nname: all-webs\nselector: host.labels.role == 'web'\nplaybook: playbooks/web.yml\n"
    )


def _group_removed(site: Rehearsal) -> None:
    document = site.files["groups.yaml"].rpartition("---\n")[0]
    site.files["groups.yaml"] = document
    site.edit("stacks.yaml", "needs: [group/edges]\n", "")


def _waves(site: Rehearsal) -> None:
    site.edit("groups.yaml", 'waves: [1, "100%"]', 'waves: ["100%"]')


def _variable(site: Rehearsal) -> None:
    site.edit("groups.yaml", '{secret: "env:APP"}', '{secret: "env:OTHER"}')
    site.secrets.values["env:OTHER"] = "app-password"  # type: ignore[index]


def _needs(site: Rehearsal) -> None:
    site.edit("groups.yaml", "needs: [group/webs]\n", "")


def _environment(site: Rehearsal) -> None:
    site.edit("estate.yaml", "passphrase: {secret: ", "failure_budget: 5, passphrase: {secret: ")


def _policy_added(site: Rehearsal) -> None:
    site.files["policies/deny.yaml"] = "# no kind yet\n"


def _secret_rotated(site: Rehearsal) -> None:
    site.secrets.values["env:APP"] = "another password"  # type: ignore[index]


def _playbook(site: Rehearsal) -> None:
    site.versions["playbooks/edge.yml"] = "edited"


def _host_key(site: Rehearsal) -> None:
    entries = [host_entry("db1.dc2", host_keys=["ssh-ed25519 BBBB"]), host_entry("web1.dc2")]
    made = replace(servers("db1.dc2", "web1.dc2"), outputs={"hosts": entries, "edge": "192.0.2.20"})
    site.world.programs["dc2-servers"] = lambda _config, _made: made
    site.world.outputs["dc2-servers"]["hosts"] = Output(value=entries)


def _host_gone(site: Rehearsal) -> None:
    entries = [host_entry("db1.dc2")]
    made = replace(servers("db1.dc2", "web1.dc2"), outputs={"hosts": entries, "edge": "192.0.2.20"})
    site.world.programs["dc2-servers"] = lambda _config, _made: made
    site.world.outputs["dc2-servers"]["hosts"] = Output(value=entries)


def _drift_elsewhere(site: Rehearsal) -> None:
    site.world.actual["dc1-servers"]["edge1.dc1"] = {"power": "on", "image": "other"}


def _other_drift(site: Rehearsal) -> None:
    site.world.actual["names"]["www"] = {"to": "192.0.2.98"}


def _drift_healed(site: Rehearsal) -> None:
    site.world.actual["names"]["www"] = dict(site.world.state["names"]["www"])


def _task_added(site: Rehearsal) -> None:
    site.world.playbooks["edge.yml"] = (*site.world.playbooks["edge.yml"], Task(name="reload", value="1"))


def _unpredictable_now(site: Rehearsal) -> None:
    site.world.playbooks["edge.yml"] = (Task(name="install", value="3", unpredictable="command"),)


REFUSED: list[tuple[Move, str]] = [
    (_group_added, "document more.yaml changed"),
    (_group_removed, "document groups.yaml changed"),
    (_waves, "document groups.yaml changed"),
    (_variable, "content of group/webs changed"),
    (_needs, "document groups.yaml changed"),
    (_environment, "document estate.yaml changed"),
    (_policy_added, "policy policies/deny.yaml changed"),
    (_secret_rotated, "secret env:APP changed"),
    (_playbook, "content of group/edges changed"),
    (_host_key, "the inventory changed"),
    (_host_gone, "the inventory changed"),
    (_drift_elsewhere, "stack/dc1-servers would change now"),
    (_other_drift, "stack/names would do something else now"),
    (_drift_healed, "stack/names has nothing to do any more"),
    (_task_added, "group/edges#1 would do something else now"),
    (_unpredictable_now, "group/edges#1 has nothing to do any more"),
]


@pytest.mark.parametrize(("move", "words"), REFUSED, ids=[one.__name__.strip("_") for one, _ in REFUSED])
def test_what_moved_after_the_plan_is_named_and_nothing_is_touched(pending: Rehearsal, move: Move, words: str) -> None:
    with pending.open() as estate:
        plan = estate.plan()
    move(pending)
    with pending.open() as estate, pytest.raises(StalePlan) as caught:
        estate.apply(plan)
    assert words in caught.value.moved
    assert caught.value.exit_code is ExitCode.REFUSED
    assert pending.world.effects() == []


@pytest.mark.parametrize("engine", [stacks, hosts])
def test_another_version_of_either_engine_is_refused(
    pending: Rehearsal, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    with pending.open() as estate:
        plan = estate.plan()
        monkeypatch.setattr(engine, "ENGINE", "another 2")
        with pytest.raises(StalePlan, match=r"engine of (stack|group)/"):
            estate.apply(plan)
    assert pending.world.effects() == []


def test_a_plan_that_is_too_old_is_refused(pending: Rehearsal) -> None:
    with pending.open() as estate:
        plan = estate.plan()
        assert plan.beside.expires_at is not None
        old = replace(plan, beside=replace(plan.beside, expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        with pytest.raises(StalePlan, match="it expired at"):
            estate.apply(old)
    assert pending.world.effects() == []


def test_a_host_that_cannot_be_looked_at_any_more_ends_the_apply_before_it_begins(pending: Rehearsal) -> None:
    with pending.open() as estate:
        plan = estate.plan()
        pending.world.reach["edge1.dc1"] = Reach.HOST_KEY
        with pytest.raises((EngineFailed, StalePlan)):
            estate.apply(plan)
    assert pending.world.effects() == []


def test_somebody_else_who_applies_is_named_and_nothing_is_touched(pending: Rehearsal) -> None:
    with pending.open() as estate:
        plan = estate.plan()
        pending.leases.acquire("two-sites/lab", HOLDER, timedelta(minutes=5))
        with pytest.raises(LeaseHeld, match="ada@ops1"):
            estate.apply(plan)
    assert pending.world.effects() == []


def _flip(body: dict[str, Any]) -> None:
    body["intent"]["changes"][0]["inputs"] = "sha256:" + "0" * 64


def _late(body: dict[str, Any]) -> None:
    body["beside"]["expires_at"] = "2999-01-01T00:00:00+00:00"


def _sidecar(body: dict[str, Any]) -> None:
    body["beside"]["sidecars"] = {"stack/names": "another"}


def _dropped(body: dict[str, Any]) -> None:
    body["intent"]["changes"].pop()


@pytest.mark.parametrize("alter", [_flip, _late, _sidecar, _dropped])
def test_a_plan_file_that_was_altered_is_no_plan(
    pending: Rehearsal, tmp_path: Path, alter: Callable[[dict[str, Any]], None]
) -> None:
    with pending.open() as estate:
        body = json.loads(write(estate.plan()))
    alter(body)
    (tmp_path / "plan.json").write_text(json.dumps(body))
    with pending.open() as estate, pytest.raises(PlanFileError, match="altered"):
        estate.read_plan(tmp_path / "plan.json")


@pytest.mark.parametrize("alter", [_flip, _dropped])
def test_a_forged_plan_whose_digests_fit_is_stale(pending: Rehearsal, alter: Callable[[dict[str, Any]], None]) -> None:
    with pending.open() as estate:
        forged = json.loads(write(estate.plan()))
    alter(forged)
    kept = {one["address"] + (f"#{one['part']}" if one["part"] else "") for one in forged["intent"]["changes"]}
    forged["intent"]["waves"] = [[key for key in wave if key in kept] for wave in forged["intent"]["waves"]]
    forged["beside"]["reasons"] = {key: why for key, why in forged["beside"]["reasons"].items() if key in kept}
    forged["digest"] = digest(forged["intent"])
    forged["checksum"] = digest({key: value for key, value in forged.items() if key != "checksum"})
    plan: Plan = read(json.dumps(forged), "forged")
    with pending.open() as estate, pytest.raises(StalePlan):
        estate.apply(plan)
    assert pending.world.effects() == []


def test_an_update_plan_that_was_swapped_does_not_bind_another_change(pending: Rehearsal) -> None:
    with pending.open() as estate:
        plan = estate.plan()
        sealed = json.dumps(["names", [["www", "delete", {}]]])
        swapped = replace(plan, beside=replace(plan.beside, sidecars={"stack/names": sealed}))
        assert swapped.digest == plan.digest
        report = _told(lambda: estate.apply(swapped))
    assert not isinstance(report, Report) or not report.ok
    assert pending.world.actual["names"] == {"www": {"to": "192.0.2.99"}}


def _told(act: Callable[[], Report]) -> Report | IsmgrError:
    try:
        return act()
    except IsmgrError as error:
        return error


def _meanwhile(site: Rehearsal, after: str, move: Move) -> None:
    """Let the world move once, right after a call."""
    done: list[str] = []

    def watch(call: str) -> None:
        if call == after:
            done.append(call)
        elif done and done != ["moved"]:
            done[:] = ["moved"]
            move(site)

    site.world.watch.append(watch)


def _state_moved(site: Rehearsal) -> None:
    site.world.state["names"] = {"www": {"to": "192.0.2.1"}}


def _host_left(site: Rehearsal) -> None:
    entry = host_entry("edge1.dc1", labels={"role": "gone"})
    site.world.outputs["dc1-servers"]["hosts"] = Output(value=[host_entry("db1.dc1"), entry, host_entry("web1.dc1")])


def _host_moved(site: Rehearsal) -> None:
    site.world.values["db1.dc2"]["install"] = "16"


def _host_other(site: Rehearsal) -> None:
    site.world.values["db1.dc2"]["tune"] = "slower"


DURING: list[tuple[str, Move, str, str]] = [
    ("verify db1.dc1", _host_moved, "group/databases#2", "would change now, and the plan says that it would not"),
    ("verify db1.dc1", _host_other, "group/databases#2", "would change something else now than what the plan says"),
    ("run databases", _host_left, "group/edges#1", "edge1.dc1 no longer belongs to group/edges"),
    ("run edges", _state_moved, "stack/names", "somebody wrote to its state since it was planned"),
    ("run edges", _other_drift, "stack/names", "stack/names would do something else now"),
    ("run edges", _drift_healed, "stack/names", "stack/names has nothing to do any more"),
]


@pytest.mark.parametrize(
    ("after", "move", "key", "words"), DURING, ids=[f"{one[1].__name__.strip('_')}" for one in DURING]
)
def test_a_world_that_moves_during_the_run_stops_it_before_the_next_change(
    pending: Rehearsal, after: str, move: Move, key: str, words: str
) -> None:
    plan = pending.plan()
    _meanwhile(pending, after, move)
    report = pending.apply(plan)
    late = next(one for one in report.outcomes if one.key == key)
    assert (late.fate, late.touched, late.stops) == (Fate.FAILED, False, True)
    assert words in report.stopped
    assert report.reason in {"unplanned-change", "world-moved"}
    assert report.exit_code is ExitCode.PARTLY_APPLIED
    assert report.outcomes[-1] is late or report.outcomes[-1].fate is Fate.NOT_STARTED


def test_an_unplanned_change_fails_the_run_and_is_named(pending: Rehearsal) -> None:
    pending.world.surprises.add(("db1.dc1", "install"))
    report = pending.apply()
    first = report.outcomes[0]
    assert (first.key, first.fate, first.touched) == ("group/databases#1", Fate.FAILED, True)
    assert report.reason == "unplanned-change"
    assert "db1.dc1: memory : install" in first.unplanned[0]
    assert report.of(Fate.LANDED) == ()
    assert report.exit_code is ExitCode.PARTLY_APPLIED


def test_a_planned_change_that_was_not_needed_is_told_and_lands(pending: Rehearsal) -> None:
    pending.world.idle.add(("edge1.dc1", "install"))
    report = pending.apply()
    edges = next(one for one in report.outcomes if one.key == "group/edges#1")
    assert edges.fate is Fate.LANDED
    assert "edge1.dc1: memory : install" in edges.spared[0]
