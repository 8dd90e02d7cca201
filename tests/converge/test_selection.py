"""Targets and exclusions: what a run covers, and that nothing else is asked or touched."""

from __future__ import annotations

import pytest

from ismgr_automation.converge.verify import verify
from ismgr_automation.core.errors import InputError
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.memory import Desired
from tests.rehearsal import Rehearsal


def spoil(running: Rehearsal) -> None:
    """Something to do everywhere."""
    for values in running.world.values.values():
        values["install"] = "0"
    running.world.actual["names"]["www"] = {"to": "elsewhere"}


CASES: list[tuple[tuple[str, ...], tuple[str, ...], list[str]]] = [
    ((), (), ["run databases", "run databases", "run webs", "run edges", "up names"]),
    (("stack/names",), (), ["up names"]),
    (("group/edges",), (), ["run edges", "up names"]),
    (("group/webs",), (), ["run webs", "run edges", "up names"]),
    (("stack/dc2-servers",), (), ["run databases", "run databases", "run webs", "run edges", "up names"]),
    (("host/web1.dc1",), (), ["run webs"]),
    (("group/webs", "host/web1.dc1"), (), ["run webs", "up names"]),
    ((), ("group/webs",), ["run databases", "run databases"]),
    ((), ("stack/dc1-servers",), []),
    ((), ("stack/names",), ["run databases", "run databases", "run webs", "run edges"]),
    (("group/webs",), ("group/edges",), ["run webs"]),
    ((), ("host/db1.dc1", "host/edge1.dc1"), ["run databases", "run webs", "up names"]),
]


@pytest.mark.parametrize(("targets", "excludes", "effects"), CASES, ids=str)
def test_a_run_covers_what_was_asked_and_what_depends_on_it(
    running: Rehearsal, targets: tuple[str, ...], excludes: tuple[str, ...], effects: list[str]
) -> None:
    spoil(running)
    plan = running.plan(targets=targets, excludes=excludes)
    report = running.apply(plan, scope=running.scope(targets=targets, excludes=excludes))
    assert report.ok
    assert running.world.effects() == effects


def test_only_the_chosen_hosts_are_asked_and_worked_on(running: Rehearsal) -> None:
    spoil(running)
    running.world.reach["db1.dc2"] = Reach.TIMEOUT
    plan = running.plan(targets=("host/web1.dc1",))
    assert plan.findings == ()
    assert not [one for one in running.world.calls if one.startswith("preview")]
    running.apply(plan, scope=running.scope(targets=("host/web1.dc1",)))
    assert [limit for _verb, _name, limit in running.world.limits] == [("web1.dc1",), ("web1.dc1",)]


def test_a_host_that_is_left_out_does_not_stand_in_the_way(running: Rehearsal) -> None:
    running.world.reach["db1.dc2"] = Reach.AUTH
    plan = running.plan(excludes=("host/db1.dc2",))
    assert (plan.errored, plan.empty, plan.findings) == (False, True, ())


def test_a_part_of_a_group_is_not_remembered_as_the_whole(running: Rehearsal) -> None:
    spoil(running)
    before = dict(running.ledgers["lab"].rows)
    running.versions["playbooks/web.yml"] = "edited"
    scope = running.scope(targets=("host/web1.dc1",))
    assert running.apply(running.plan(targets=("host/web1.dc1",)), scope=scope).ok
    assert running.ledgers["lab"].rows == before


@pytest.mark.parametrize("asked", ["host/web1.dc", "host/wbe1.dc1"])
def test_a_host_that_nobody_knows_is_refused_with_a_near_name(running: Rehearsal, asked: str) -> None:
    for chosen in ({"targets": (asked,)}, {"excludes": (asked,)}):
        with pytest.raises(InputError, match=r"did you mean 'web1\.dc"):
            running.plan(**chosen)
    assert running.world.effects() == []


def test_a_target_on_a_fresh_site_takes_along_what_its_hosts_belong_to(site: Rehearsal) -> None:
    targets = ("stack/dc1-servers",)
    plan = site.plan(targets=targets)
    assert [one.key for one in plan.changes] == ["stack/dc1-servers"]
    assert [str(one.address) for one in plan.deferred] == [
        "group/databases",
        "group/edges",
        "group/webs",
        "stack/names",
    ]
    assert site.apply(plan, scope=site.scope(targets=targets)).ok
    assert "up dc2-servers" not in site.world.effects()


def test_the_selection_is_an_input_of_the_plan(running: Rehearsal) -> None:
    plan = running.plan(targets=("stack/names",), excludes=("host/db1.dc1",))
    assert plan.inputs.selection == ("-host/db1.dc1", "stack/names")
    assert plan.digest != running.plan(targets=("stack/names",)).digest


def test_verification_runs_the_suites_of_what_is_covered(running: Rehearsal) -> None:
    assert {one.host for one in verify(running.scope())} == {"db1.dc1", "db1.dc2", "web1.dc1", "web1.dc2"}
    assert {one.host for one in verify(running.scope(targets=("host/web1.dc1",)))} == {"web1.dc1"}
    assert {one.host for one in verify(running.scope(excludes=("group/databases",)))} == set()
    with pytest.raises(InputError):
        verify(running.scope(targets=("host/nobody",)))


def test_destroying_goes_from_the_last_to_the_first(running: Rehearsal) -> None:
    plan = running.plan_destroy()
    assert plan.waves == (("stack/names",), ("stack/dc1-servers", "stack/dc2-servers"))
    assert running.destroy(plan).ok
    first, *rest = running.world.effects()
    assert (first, sorted(rest)) == ("destroy names", ["destroy dc1-servers", "destroy dc2-servers"])
    assert running.world.state == {}
    assert running.ledgers["lab"].rows == {}
    assert running.plan_destroy().empty


@pytest.mark.parametrize(
    ("targets", "excludes", "gone"),
    [
        (("stack/names",), (), ["names"]),
        (("stack/dc1-servers",), (), ["names", "dc1-servers"]),
        (("stack/dc2-servers",), (), ["names", "dc2-servers"]),
        (("group/edges",), (), ["names"]),
        ((), ("stack/names",), []),
        ((), ("stack/dc2-servers",), ["names", "dc1-servers"]),
    ],
)
def test_what_is_kept_keeps_what_it_needs(
    running: Rehearsal, targets: tuple[str, ...], excludes: tuple[str, ...], gone: list[str]
) -> None:
    plan = running.plan_destroy(targets=targets, excludes=excludes)
    assert [key.removeprefix("stack/") for wave in plan.waves for key in wave] == gone


@pytest.mark.parametrize("chosen", [{"targets": ("host/db1.dc1",)}, {"excludes": ("host/db1.dc1",)}])
def test_a_host_cannot_be_destroyed_or_kept_alone(running: Rehearsal, chosen: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(InputError, match="they come and go with their stacks"):
        running.plan_destroy(**chosen)


def test_a_destruction_that_fails_keeps_what_the_rest_stands_on(running: Rehearsal) -> None:
    running.world.faults["destroy names"] = RuntimeError("a bug")
    report = running.destroy()
    assert running.world.effects() == ["destroy names"]
    assert [str(one.fate) for one in report.outcomes] == ["unknown", "not-started", "not-started"]


def test_a_stack_that_moved_since_is_not_destroyed(running: Rehearsal) -> None:
    plan = running.plan_destroy()
    running.world.state["names"] = {"other": {}}
    report = running.destroy(plan)
    assert running.world.effects() == []
    assert "somebody wrote to its state" in report.stopped


def test_cancelling_a_destruction_ends_it_between_levels(running: Rehearsal) -> None:
    plan = running.plan_destroy()
    scope = running.scope()
    running.world.watch.append(lambda call: scope.context.cancelled.set() if call == "forget names" else None)
    report = running.apply(plan, scope=scope)
    assert running.world.effects() == ["destroy names"]
    assert report.cancelled


def test_after_destruction_everything_is_new_again(running: Rehearsal) -> None:
    running.destroy()
    running.world.programs["names"] = lambda config, _made: Desired(resources={"www": {"to": config["to"]}})
    assert running.apply().ok
    assert running.plan().empty


def test_a_host_that_its_stack_has_yet_to_make_is_not_called_a_slip_of_the_pen(site: Rehearsal) -> None:
    with pytest.raises(InputError) as refused:
        site.plan(targets=("host/db1.dc1",))
    assert "Hosts of stack/dc1-servers, stack/dc2-servers are known once it is applied" in refused.value.next_step
    site.settle()
    site.plan(targets=("host/db1.dc1",))
    with pytest.raises(InputError) as wrong:
        site.plan(targets=("host/db9.dc1",))
    assert wrong.value.next_step == ""
