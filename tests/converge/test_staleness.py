"""Plans that are kept: what was planned is done, or refused with the name of each thing that moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ismgr_automation.api import Estate
from ismgr_automation.converge import looked
from ismgr_automation.core.errors import EngineFailed, InputError, PlanFileError, StalePlan
from ismgr_automation.core.events import Event, ObservationStarted
from ismgr_automation.planning.freshness import moved
from ismgr_automation.planning.plan import Plan
from ismgr_automation.planning.planfile import write
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.memory import Desired, stacks
from ismgr_automation.ports.stacks import Output
from tests.rehearsal import Rehearsal, host_entry, servers


def _documents(site: Rehearsal) -> None:
    site.edit("team.yaml", "name: platform", "name: platform\ndescription: New words.")


def _content(site: Rehearsal) -> None:
    site.versions["stacks/names"] = "edited"


def _suites(site: Rehearsal) -> None:
    site.versions["verify/web"] = "edited"


def _roles(site: Rehearsal) -> None:
    site.versions["ismgr:playbooks/roles"] = "edited"


def _state(site: Rehearsal) -> None:
    site.world.state["dc2-servers"] = {**site.world.state["dc2-servers"], "extra": {}}
    site.world.actual["dc2-servers"]["extra"] = {}


def _inventory(site: Rehearsal) -> None:
    hosts = [host_entry("db1.dc2", address="192.0.2.250"), host_entry("web1.dc2")]
    moved = replace(servers("db1.dc2", "web1.dc2"), outputs={"hosts": hosts, "edge": "192.0.2.20"})
    site.world.programs["dc2-servers"] = lambda _config, _made: moved
    site.world.outputs["dc2-servers"]["hosts"] = Output(value=hosts)


def _more(site: Rehearsal) -> None:
    site.world.values["db1.dc1"]["tune"] = "slow"


def _less(site: Rehearsal) -> None:
    site.world.values["edge1.dc1"]["install"] = "3"


def _other(site: Rehearsal) -> None:
    site.world.values["edge1.dc1"]["install"] = "7"


def _deferred(site: Rehearsal) -> None:
    site.world.actual["dc2-servers"]["web1.dc2"] = {"power": "off"}


MOVES: list[tuple[Callable[[Rehearsal], None], str]] = [
    (_documents, "document team.yaml changed"),
    (_content, "content of stack/names changed"),
    (_suites, "content of group/webs suites changed"),
    (_roles, "content of group/webs changed"),
    (_state, "state of stack/dc2-servers changed"),
    (_inventory, "the inventory changed"),
    (_more, "group/databases#1 would change now"),
    (_less, "group/edges#1 has nothing to do any more"),
    (_other, "group/edges#1 would do something else now"),
    (_deferred, "what is deferred differs"),
]


@pytest.fixture
def pending(running: Rehearsal) -> Rehearsal:
    """A running site with one thing to do."""
    running.world.values["edge1.dc1"]["install"] = "0"
    return running


@pytest.mark.parametrize(("move", "words"), MOVES, ids=[one.__name__.strip("_") for one, _ in MOVES])
def test_a_plan_is_refused_when_anything_moved_and_nothing_is_touched(
    pending: Rehearsal, move: Callable[[Rehearsal], None], words: str
) -> None:
    with pending.open() as estate:
        plan = estate.plan()
    move(pending)
    with pending.open() as estate, pytest.raises(StalePlan) as caught:
        estate.apply(plan)
    assert words in caught.value.moved
    assert pending.world.effects() == []


def test_another_version_of_an_engine_is_named(pending: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    with pending.open() as estate:
        plan = estate.plan()
        monkeypatch.setattr(stacks, "ENGINE", "memory-stacks 2")
        with pytest.raises(StalePlan, match="engine of stack/names changed"):
            estate.apply(plan)


def test_a_plan_of_another_environment_is_refused(pending: Rehearsal) -> None:
    with pending.open() as estate:
        plan = estate.plan()
    with (
        Estate.open(pending.folder, environment="other", wiring=pending) as estate,
        pytest.raises(StalePlan, match="it is a plan for something else"),
    ):
        estate.apply(plan)


@pytest.mark.parametrize(
    "alter",
    [
        lambda plan: replace(plan, waves=(*plan.waves[::-1], ())),
        lambda plan: replace(plan, estate="another"),
        lambda plan: replace(plan, inputs=replace(plan.inputs, selection=("stack/names",))),
        lambda plan: replace(plan, changes=(replace(plan.changes[0], precondition="x"),)),
        lambda plan: replace(plan, changes=(replace(plan.changes[0], targets=()),)),
        lambda plan: replace(plan, inputs=replace(plan.inputs, engines={})),
    ],
)
def test_whatever_changes_the_digest_is_named(pending: Rehearsal, alter: Callable[[Plan], Plan]) -> None:
    plan = pending.plan()
    other = alter(plan)
    assert other.digest != plan.digest
    assert list(moved(plan, other))


def test_a_plan_is_applied_when_nothing_moved_whoever_opens_it_and_when(pending: Rehearsal, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    with pending.open() as estate:
        path.write_text(write(estate.plan()))
    pending.files["README.md"] = "an unrelated commit"
    with pending.open() as estate:
        report = estate.apply(estate.read_plan(path))
    assert report.ok
    assert pending.world.effects() == ["run edges"]


def test_the_plan_of_a_fresh_site_survives_being_kept(site: Rehearsal) -> None:
    with site.open() as estate:
        assert estate.apply(estate.plan()).ok
        assert estate.plan().empty


def test_a_plan_of_a_destruction_is_applied_as_one(running: Rehearsal) -> None:
    with running.open() as estate:
        plan = estate.plan_destroy(["stack/names"])
        assert estate.apply(plan).ok
        assert running.world.effects() == ["destroy names"]
        with pytest.raises(StalePlan, match="state of stack/names changed"):
            estate.apply(plan)


def test_a_plan_with_errors_is_not_applied(pending: Rehearsal) -> None:
    pending.world.reach["db1.dc1"] = Reach.TIMEOUT
    with pending.open() as estate:
        plan = estate.plan()
        with pytest.raises(EngineFailed, match="part of the world could not be looked at"):
            estate.apply(plan)
        with estate.hold() as held, pytest.raises(EngineFailed, match="part of the world could not be looked at"):
            held.apply(held.plan())
    assert pending.world.effects() == []


def test_a_plan_is_not_applied_when_a_host_has_gone_since(pending: Rehearsal) -> None:
    with pending.open() as estate:
        plan = estate.plan()
        pending.world.reach["db1.dc1"] = Reach.TIMEOUT
        with pytest.raises(EngineFailed):
            estate.apply(plan)
    assert pending.world.effects() == []


def test_what_was_planned_under_the_lease_is_applied_at_once_without_another_look(pending: Rehearsal) -> None:
    with pending.open() as estate, estate.hold() as held:
        plan = held.plan()
        pending.world.calls.clear()
        assert held.apply(plan).ok
    assert [one for one in pending.world.calls if one.startswith(("preview", "check"))] == []


def test_a_host_that_moves_while_somebody_reads_a_plan_makes_it_stale(
    pending: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looked, "FRESH_NS", 0)
    with pending.open() as estate, estate.hold() as held:
        plan = held.plan()
        _more(pending)
        with pytest.raises(StalePlan, match="group/databases#1 would change now"):
            held.apply(plan)
    assert pending.world.effects() == []
    assert b'"kind":"refused"' in pending.evidence.lines[-1][1]


def test_a_plan_is_applied_unseen_only_once(pending: Rehearsal) -> None:
    pending.world.breaks["edge1.dc1", "install"] = "no"
    with pending.open() as estate, estate.hold() as held:
        plan = held.plan()
        assert not held.apply(plan).ok
        _more(pending)
        with pytest.raises(StalePlan, match="group/databases#1 would change now"):
            held.apply(plan)


def test_a_plan_file_that_is_not_there_is_an_input_error(running: Rehearsal, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with running.open() as estate:
        for path in (tmp_path / "none", tmp_path, tmp_path / "binary"):
            with pytest.raises(PlanFileError, match="cannot be read"):
                estate.read_plan(path)


def test_an_estate_leaves_nothing_behind_and_only_removes_what_is_its_own(running: Rehearsal) -> None:
    with running.open() as estate:
        root = estate.tree.root
        estate.plan()
        left = sorted(path.name for path in root.parent.iterdir())
    assert left == ["tree"]
    assert not root.parent.exists()
    assert running.folder.exists()
    with pytest.raises(InputError, match="closed"):
        estate.plan()


def test_a_watcher_that_raises_does_not_end_a_run(site: Rehearsal) -> None:
    seen: list[Event] = []

    def watch(event: Event) -> None:
        seen.append(event)
        if isinstance(event, ObservationStarted):
            raise BrokenPipeError

    with (
        pytest.warns(RuntimeWarning, match="a watcher failed"),
        Estate.open(site.folder, wiring=site, emit=watch) as estate,
    ):
        assert estate.apply(estate.plan()).ok
    assert len([one for one in seen if isinstance(one, ObservationStarted)]) <= 2


def test_a_full_disk_is_an_engine_failure(site: Rehearsal) -> None:
    site.world.faults["state names"] = OSError(28, "No space left on device")
    with site.open() as estate, pytest.raises(EngineFailed, match="No space left on device"):
        estate.plan()


def test_a_work_folder_that_cannot_be_made_is_an_engine_failure(
    site: Rehearsal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not-there"))
    with pytest.raises(EngineFailed, match="This machine failed"):
        site.open()


@pytest.mark.parametrize("name", ["stack/nmes", "names", "group/", "host/", "site/dc1", ""])
def test_a_target_that_is_not_in_the_estate_is_refused(running: Rehearsal, name: str) -> None:
    with running.open() as estate, pytest.raises(InputError) as caught:
        estate.plan([name])
    assert caught.value.diagnostics


def test_the_fleet_has_every_host_with_its_groups(running: Rehearsal) -> None:
    with running.open() as estate:
        fleet = estate.fleet()
    assert {one.name: one.groups for one in fleet.hosts} == {
        "db1.dc1": ("databases",),
        "db1.dc2": ("databases",),
        "edge1.dc1": ("edges",),
        "web1.dc1": ("webs",),
        "web1.dc2": ("webs",),
    }


def test_drift_is_found_without_touching_anything(running: Rehearsal) -> None:
    running.world.actual["names"]["www"] = {"to": "elsewhere"}
    with running.open() as estate:
        drifted = estate.drift()
    assert drifted.found
    assert [one.target for one in drifted.plan.drift] == ["www"]
    assert running.world.effects() == []


def test_a_program_of_another_mind_is_a_change(running: Rehearsal) -> None:
    running.world.programs["names"] = lambda config, _made: Desired(
        resources={"www": {"to": config["to"]}, "ftp": {"to": config["to"]}}
    )
    with running.open() as estate:
        assert estate.apply(estate.plan()).ok
    assert set(running.world.actual["names"]) == {"www", "ftp"}
