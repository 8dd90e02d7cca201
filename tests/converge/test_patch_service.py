"""Hosts out of service while they are patched, and back in it whatever happens: failures, cancelling, death."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ismgr_automation.converge.patch import plan_rollback
from ismgr_automation.converge.report import Fate
from ismgr_automation.core.errors import EngineFailed, ExitCode, StalePlan
from ismgr_automation.core.events import StepReported
from ismgr_automation.planning.plan import Plan
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.memory import Boundary, Death, Killed
from ismgr_automation.ports.runs import RunState
from ismgr_automation.ports.upkeep import Part
from tests.converge.patched import HOSTS, NEW, OLD, effects, fates, on_new, order, patch, patched, plan, versions
from tests.rehearsal import NOON, Rehearsal

FAILED = EngineFailed("The engine fell over.", engine="apt", next_step="Look at it.")


@pytest.fixture
def clinic(tmp_path: Path) -> Rehearsal:
    return patched(tmp_path)


def drained(site: Rehearsal) -> list[str]:
    """Servers that are not in service."""
    return [server for (_, server), state in sorted(site.service.servers.items()) if state != "ready"]


def test_a_host_is_drained_before_its_packages_move_and_put_back_after_its_checks(clinic: Rehearsal) -> None:
    with order(clinic) as calls:
        clinic.world.watch.append(calls.append)
        assert patch(clinic).ok
    mine = [one for one in calls if one in {"drain web/web1", "apply web1", "verify web1", "restore web/web1"}]
    assert mine == ["drain web/web1", "apply web1", "verify web1", "restore web/web1"]
    assert drained(clinic) == []


def test_sessions_that_were_cut_off_are_told(clinic: Rehearsal) -> None:
    clinic.service.sessions["lb1", "web/web1"] = 3
    assert patch(clinic).ok
    (told,) = [one for one in clinic.events if isinstance(one, StepReported) and one.step == "drain web1"]
    assert told.detail == "3 sessions were cut off at the deadline"


def test_what_somebody_else_had_drained_stays_drained(clinic: Rehearsal) -> None:
    clinic.service.servers["lb1", "web/web2"] = "maint"
    clinic.service.servers["lb1", "web/web3"] = "drain"
    assert patch(clinic).ok
    assert clinic.service.servers["lb1", "web/web2"] == "maint"
    assert clinic.service.servers["lb1", "web/web3"] == "drain"


def test_a_host_that_cannot_be_drained_is_not_worked_on(clinic: Rehearsal) -> None:
    clinic.service.faults["drain web/web1"] = FAILED
    report = patch(clinic)
    assert "The engine fell over." in report.stopped
    assert "apply web1" not in clinic.packages.calls
    assert drained(clinic) == []


def test_a_balancer_that_does_not_answer_costs_the_hosts_behind_it(tmp_path: Path) -> None:
    clinic = patched(tmp_path, budget=5)
    clinic.service = type(clinic.service)(
        parts=clinic.service.parts, answers=lambda name: Reach.TIMEOUT if name == "lb1" else Reach.OK
    )
    report = patch(clinic)
    assert on_new(clinic) == ["db1", "db2"]
    assert "web1 cannot be taken out of service: lb1: cannot be reached (timeout)" in report.outcomes[0].summary


def test_a_backend_without_balancers_is_a_mistake_that_is_told(clinic: Rehearsal) -> None:
    clinic.edit("groups.yaml", 'host.labels.role == "lb"', 'host.labels.role == "nobody"')
    report = patch(clinic)
    assert "web1 cannot be taken out of service: no balancer of backend web is known" in report.stopped
    assert versions(clinic)["web1"] == OLD


def test_hosts_of_one_shard_are_drained_at_once(tmp_path: Path) -> None:
    import threading

    clinic = patched(tmp_path)
    both = threading.Barrier(2, timeout=10)

    class Waiting(type(clinic.scope().engines.upkeep.balancer)):  # type: ignore[misc]
        def drain(self, pool, context):
            if pool.server in {"web2", "web3"}:
                both.wait()
            return super().drain(pool, context)

    planned, scope = plan(clinic), clinic.scope()
    object.__setattr__(scope.engines.upkeep, "balancer", Waiting(clinic.service))
    assert clinic.apply(planned, scope=scope).ok


@pytest.mark.parametrize(
    "spoil",
    [
        lambda site: site.packages.broken.add(("tool", NEW)),
        lambda site: site.packages.locked.add("web1"),
        lambda site: site.packages.full.add("web1"),
        lambda site: site.packages.dies.update({"web1": 1}),
        lambda site: site.world.unhealthy.add("web1"),
        lambda site: site.world.faults.update({"verify web1": FAILED}),
        lambda site: site.world.faults.update({"verify web1": KeyError("a bug")}),
    ],
    ids=["broken", "locked", "full", "dies", "unhealthy", "verifier", "bug"],
)
def test_a_host_is_put_back_whatever_goes_wrong_with_it(clinic: Rehearsal, spoil) -> None:
    spoil(clinic)
    patch(clinic)
    assert "drain web/web1" in clinic.service.calls
    assert drained(clinic) == []


def test_a_host_that_is_not_back_in_service_counts_as_failed(clinic: Rehearsal) -> None:
    clinic.service.unhealthy.add("web1")
    report = patch(clinic)
    assert "web1 is not back in service: lb1: it is ready, and its check says DOWN" in report.stopped
    assert fates(report)["baseline/all#1"] is Fate.FAILED
    assert versions(clinic)["web1"] == NEW


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (FAILED, "The engine fell over."),
        (OSError(28, "No space left on device"), "this machine failed: [Errno 28] No space left on device"),
    ],
    ids=["engine", "machine"],
)
def test_a_balancer_that_falls_over_does_not_keep_the_others_out(tmp_path: Path, fault: Exception, words: str) -> None:
    clinic = patched(tmp_path, budget=1)
    clinic.service.faults["restore web/web2"] = fault
    report = patch(clinic)
    assert f"web2 is not back in service: {words}" in report.outcomes[1].summary
    assert drained(clinic) == ["web/web2"]


def test_a_balancer_that_falls_over_at_the_end_of_a_failure_does_not_hide_it(tmp_path: Path) -> None:
    def fall_over(call: str) -> None:
        if call == "apply web2":
            raise KeyError("the first bug")

    clinic = patched(tmp_path, budget=1)
    clinic.packages.watch.append(fall_over)
    clinic.service.faults["restore web/web2"] = OSError(28, "No space left on device")
    late = patch(clinic).outcomes[1]
    assert "the first bug" in late.summary
    assert late.fate is Fate.UNKNOWN


@pytest.mark.parametrize("call", ["drain web/web2", "check web2", "apply web2", "facts web3", "restore web/web2"])
def test_cancelling_at_any_moment_puts_hosts_back(clinic: Rehearsal, call: str) -> None:
    scope, planned = clinic.scope(), plan(clinic)
    watch = lambda now: scope.context.cancelled.set() if now == call and "apply web1" in clinic.packages.calls else None  # noqa: E731
    clinic.packages.watch.append(watch)
    clinic.service.watch.append(watch)
    report = clinic.apply(planned, scope=scope)
    assert report.cancelled
    assert report.exit_code is ExitCode.CANCELLED
    assert drained(clinic) == []


def test_what_was_made_before_somebody_cancelled_is_remembered_for_the_way_back(clinic: Rehearsal) -> None:
    scope, planned = clinic.scope(), plan(clinic)

    def late(call: str) -> None:
        if call == "verify web1":
            scope.context.cancelled.set()

    clinic.world.watch.append(late)
    assert clinic.apply(planned, scope=scope).cancelled
    assert [(one.host, one.moves[0].after) for one in clinic.patches.patched()] == [("web1", NEW)]


def end_of(site: Rehearsal) -> Mapping[str, object]:
    return {
        "versions": versions(site),
        "servers": {key: state for key, state in site.service.servers.items() if state != "ready"},
        "primaries": site.service.primaries(),
        "lives": {name: len(one.lives) for name, one in site.packages.machines.items()},
        "waiting": site.patches.waiting(),
        "patched": {one.host: [move.after for move in one.moves] for one in site.patches.patched()},
    }


def mortal(folder: Path, nth: int = 0) -> Rehearsal:
    """A clinic whose process dies at the nth boundary, among them every call to a host or a balancer."""
    site = patched(folder)
    site.packages.reboots["tool"] = "PID 1 has mapped what was replaced"
    site.death = Death(nth=nth)
    site.packages.watch.append(lambda call: site.death.at(f"before {call}"))
    site.service.watch.append(lambda call: site.death.at(f"before {call}"))
    return site


def boundaries(folder: Path) -> tuple[list[str], Mapping[str, object]]:
    site = mortal(folder)
    planned = plan(site)
    site.death.passed.clear()
    assert site.apply(planned).ok
    return site.death.passed, end_of(site)


def crashed(folder: Path, nth: int) -> Rehearsal:
    site = mortal(folder)
    planned = plan(site)
    site.death = Death(nth=nth)
    with pytest.raises(Killed):
        site.apply(planned)
    return site


def test_a_run_of_patches_that_dies_anywhere_goes_on_to_the_same_end(tmp_path: Path) -> None:
    passed, expected = boundaries(tmp_path / "whole")
    assert {"before drain web/web1", "before apply web1", "before reboot db1", "before switchover db1"} <= set(passed)
    for nth, where in enumerate(passed, start=1):
        site = crashed(tmp_path / f"died-{nth}", nth)
        if where == Boundary.BEFORE_BEGIN:
            assert effects(site) == []
            continue
        (run,) = site.runs.runs()
        if run.state is RunState.RUNNING:
            report = site.resume()
            assert report.ok, (nth, where, report.stopped)
        assert end_of(site) == expected, (nth, where)


def test_a_way_back_that_dies_anywhere_goes_on_to_the_same_end(tmp_path: Path) -> None:
    def back(folder: Path, nth: int) -> tuple[Rehearsal, str]:
        site = mortal(folder)
        run = patch(site).run
        planned = plan_rollback(site.scope(), NOON, run)
        site.death = Death(nth=nth)
        return site, run if _dies(site, planned) else ""

    whole, _ = back(tmp_path / "whole", 0)
    expected, count = end_of(whole), len(whole.death.passed)
    for nth in range(2, count + 1, 3):
        site, run = back(tmp_path / f"died-{nth}", nth)
        assert run
        if site.runs.runs()[0].state is RunState.RUNNING:
            report = site.resume(site.runs.runs()[0].id)
            assert report.ok, (nth, report.stopped)
        assert end_of(site) == expected, nth
        assert all(one.rolled_back for one in site.patches.patched(run=run)), nth


def _dies(site: Rehearsal, planned: Plan) -> bool:
    try:
        site.apply(planned)
    except Killed:
        return True
    return False


@pytest.fixture
def left(tmp_path: Path) -> Rehearsal:
    """A process died between taking two hosts out of service and patching them, and a document was edited since."""
    passed, _ = boundaries(tmp_path / "whole")
    site = crashed(tmp_path / "died", 1 + passed.index("before apply web2"))
    site.let_go()
    assert drained(site) == ["web/web2", "web/web3"]
    site.edit("baseline.yaml", "rings:", "holds: [other]\nrings:")
    site.service.calls.clear()
    site.packages.calls.clear()
    site.world.calls.clear()
    return site


def test_a_resume_that_is_refused_puts_hosts_back_and_does_nothing_else(left: Rehearsal) -> None:
    run = left.runs.runs()[0].id
    before = versions(left)
    with left.open() as estate, pytest.raises(StalePlan, match=r"baseline\.yaml changed") as caught:
        estate.resume(run)
    assert caught.value.exit_code is ExitCode.REFUSED
    assert caught.value.untouched.startswith(f"web2, web3 are back in service where run {run} had drained them")
    assert drained(left) == []
    assert left.service.calls == ["restore web/web2", "restore web/web3"]
    assert (left.packages.calls, versions(left)) == ([], before)
    assert left.runs.run(run).state is RunState.RUNNING


def test_what_somebody_else_had_drained_stays_so_after_a_refusal(left: Rehearsal) -> None:
    left.service.servers["lb1", "web/web3"] = "maint"
    with left.open() as estate, pytest.raises(StalePlan):
        estate.resume(left.runs.runs()[0].id)
    assert drained(left) == ["web/web3"]


def test_hosts_that_a_refusal_could_not_put_back_are_named_with_the_command_that_tries_again(left: Rehearsal) -> None:
    run = left.runs.runs()[0].id
    left.service.faults["restore web/web2"] = FAILED
    with left.open() as estate, pytest.raises(StalePlan) as caught:
        estate.resume(run)
    assert caught.value.untouched.startswith("web3 is back in service")
    assert f"`ismgr resume {run}` tries again to put back: web2 is not back in service" in caught.value.next_step
    assert drained(left) == ["web/web2"]
    left.service.faults.clear()
    with left.open() as estate, pytest.raises(StalePlan):
        estate.resume(run)
    assert drained(left) == []


def test_a_refusal_that_cannot_put_anything_back_is_still_the_refusal(left: Rehearsal) -> None:
    left.service.faults.update({f"restore web/web{number}": KeyError("a bug") for number in (2, 3)})
    with left.open() as estate, pytest.raises(StalePlan) as caught:
        estate.resume(left.runs.runs()[0].id)
    assert caught.value.untouched == "Nothing was touched."
    assert "tries again to put back: web2 is not back in service: a bug in ismgr" in caught.value.next_step
    assert "web3 is not back in service: a bug in ismgr" in caught.value.next_step


def test_a_refused_resume_of_a_run_that_had_drained_nobody_touches_nothing(tmp_path: Path) -> None:
    passed, _ = boundaries(tmp_path / "whole")
    site = crashed(tmp_path / "died", 1 + passed.index("before drain web/web1"))
    site.let_go()
    site.edit("baseline.yaml", "rings:", "holds: [other]\nrings:")
    with site.open() as estate, pytest.raises(StalePlan):
        estate.resume(site.runs.runs()[0].id)
    assert drained(site) == []


def told_of_the_primary(site: Rehearsal) -> list[str]:
    return [
        one.detail
        for one in site.events
        if isinstance(one, StepReported) and one.step.startswith("switchover ") and "->" not in one.detail
    ]


@pytest.mark.parametrize(
    ("call", "cancels", "back", "words"),
    [
        ("apply db1", False, "true", "db1 has not got it back"),
        ("apply db1", True, "true", "db1 has not got it back"),
        ("switchover db1", True, "true", "db1 has not got it back"),
        ("apply db1", True, "false", "it stays on db2: let postgresql_primary say so in Git"),
    ],
)
def test_a_role_that_stays_away_when_the_work_is_stopped_is_told(
    clinic: Rehearsal, call: str, cancels: bool, back: str, words: str
) -> None:
    clinic.edit("groups.yaml", "back: true", f"back: {back}")
    scope, planned = clinic.scope(), plan(clinic)

    def stops(now: str) -> None:
        if now == call and cancels:
            scope.context.cancelled.set()
        elif now == call:
            raise FAILED

    clinic.packages.watch.append(stops)
    clinic.service.watch.append(stops)
    report = clinic.apply(planned, scope=scope)
    assert report.cancelled is cancels
    assert clinic.service.primaries() == ["db2"]
    assert told_of_the_primary(clinic) == [words]


def test_a_role_that_was_moved_before_another_could_not_be_is_told(tmp_path: Path) -> None:
    clinic = patched(tmp_path, hosts=(*HOSTS, "st1", "st2"))
    _, _, databases = clinic.files["groups.yaml"].split("---\n")
    clinic.files["groups.yaml"] += "---\n" + databases.replace("databases", "stores").replace('"db"', '"st"')
    clinic.service.parts.update({"st1": Part.PRIMARY, "st2": Part.STANDBY})
    clinic.service.faults["switchover st2"] = FAILED
    report = patch(clinic)
    assert "The engine fell over." in report.stopped
    assert clinic.service.primaries() == ["db2", "st1"]
    assert told_of_the_primary(clinic) == ["db1 has not got it back"]
