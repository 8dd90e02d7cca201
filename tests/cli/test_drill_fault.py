"""Faults on the command line: `--fault` of a drill, and `ismgr drill faults` for what is left of any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ismgr_automation.converge.drill import plan_drill
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.memory import Death, Killed
from tests.cli.conftest import Say
from tests.converge.test_drill_fault_resume import Mortal, died, mortal
from tests.drills import AWAY, HOME, acts, is_home


@pytest.fixture
def site(tmp_path: Path) -> Mortal:
    return mortal(tmp_path)


def test_a_fault_is_planned_by_its_name(site: Mortal, say: Say) -> None:
    said = say("drill", "plan", "records", "--fault", "cut", "--full")
    assert said.code == ExitCode.CHANGES, said.err
    for step in ("fault: cut", "fault: detect", "failover: fence", "lift: cut"):
        assert step in said.out
    assert acts(site) == []


def test_an_unknown_fault_is_said_with_the_one_that_was_meant(site: Mortal, say: Say) -> None:
    said = say("drill", "run", "records", "--mode", "failover", "--fault", "cutt", "--yes")
    assert said.code == ExitCode.INPUT
    assert "Did you mean 'cut'?" in said.err


def test_a_drill_with_a_fault_shows_who_noticed_it(site: Mortal, say: Say) -> None:
    said = say("drill", "run", "records", "--mode", "failover", "--fault", "cut", "--yes")
    assert said.code == ExitCode.DONE, said.err
    text = " ".join(said.out.split())
    assert "fault cut (partition): bitten after" in text
    assert "3 looks of the detector" in text
    assert is_home(site)


def broken(site: Mortal, fault: str, call: str) -> None:
    """By a controller that died there, and never comes back."""
    planned = plan_drill(site.scope(), datetime.now(UTC), "records", DrillMode.FAILOVER, fault=fault)
    site.death = Death(only=f"call {call}", nth=1)
    with pytest.raises(Killed):
        site.apply(planned)
    site.let_go()


def test_nothing_is_left_where_nothing_was_broken(site: Mortal, say: Say) -> None:
    said = say("drill", "faults")
    assert (said.code, "nothing is left" in said.out) == (ExitCode.DONE, True), said.err
    assert died(site, "cut", 0) == ""
    assert say("drill", "faults", "records").code == ExitCode.DONE


@pytest.mark.parametrize("fault", ["cut", "frozen", "dark"])
def test_what_a_dead_controller_has_left_is_lifted_by_hosts_and_journals(site: Mortal, say: Say, fault: str) -> None:
    broken(site, fault, f"break {fault} done")
    said = say("drill", "faults", "records")
    assert said.code == ExitCode.CHANGES
    assert len(site.pair.damage.broken) == 1
    said = say("drill", "faults", "records", "--lift")
    assert said.code == ExitCode.DONE, said.out
    assert "lifted" in said.out
    assert site.pair.damage.broken == {}
    if fault == "dark":
        site.pair.start(HOME)
    assert site.pair.writable() == (HOME,)


def test_power_is_not_given_to_an_old_primary_beside_a_new_one(site: Mortal, say: Say) -> None:
    broken(site, "dark", "backend db2 done")
    site.pair.advance(2)
    said = say("--json", "drill", "faults", "records", "--lift")
    assert said.code == ExitCode.CHANGES
    (one,) = said.result["plans"]
    assert "the rule lift-behind-fence says no" in one["kept"][0]
    assert "ismgr drill return records" in one["kept"][0]
    assert site.pair.writable() == (AWAY,)


def unmanaged(site: Mortal) -> None:
    site.pair.unmanaged.add(AWAY)


UNSAFE: Mapping[str, tuple[str, Callable[[Mortal], object], str]] = {
    "nobody sees the other side": ("break dark done", unmanaged, "nobody can tell whether db2 takes writes"),
    "nobody sees a new primary": ("backend db2 done", unmanaged, "db2 was asked to take the role"),
    "a new primary has crashed": (
        "backend db2 done",
        lambda site: site.pair.kill(AWAY),
        "db2 was asked to take the role",
    ),
    "a promotion may still land": ("promote db2", lambda _site: None, "db2 was asked to take the role"),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_power_is_not_given_to_an_old_primary_while_the_other_side_may_have_followed(
    site: Mortal, say: Say, case: str
) -> None:
    call, happens, words = UNSAFE[case]
    broken(site, "dark", call)
    happens(site)
    said = say("--json", "drill", "faults", "records", "--lift")
    (one,) = said.result["plans"]
    assert (said.code, one["lifted"]) == (ExitCode.CHANGES, [])
    assert words in one["kept"][0]
    (run,) = site.runs.runs()
    assert f"`ismgr drill resume {run.id}` goes on with its drill" in one["kept"][0]
    assert not site.pair.members[HOME].powered


def test_what_was_not_lifted_is_lifted_once_the_other_side_is_seen(site: Mortal, say: Say) -> None:
    broken(site, "dark", "break dark done")
    unmanaged(site)
    assert say("drill", "faults", "records", "--lift").code == ExitCode.CHANGES
    site.pair.unmanaged.clear()
    assert say("drill", "faults", "records", "--lift").code == ExitCode.DONE
    site.pair.start(HOME)
    assert is_home(site)


def test_what_was_not_lifted_before_a_return_is_lifted_after_it(site: Mortal, say: Say) -> None:
    broken(site, "dark", "promote db2")
    assert say("drill", "faults", "records", "--lift").code == ExitCode.CHANGES
    say("drill", "return", "records", "--yes")
    assert is_home(site)
    said = say("drill", "faults", "records", "--lift")
    assert said.code == ExitCode.DONE, said.out
    assert is_home(site)


def test_a_fault_of_a_run_that_is_known_elsewhere_is_lifted_beside_a_standby_only(site: Mortal, say: Say) -> None:
    broken(site, "frozen", "break frozen done")
    site.journals.clear()
    site.pair.kill(AWAY)
    said = say("--json", "drill", "faults", "records", "--lift")
    (one,) = said.result["plans"]
    assert "db2 was asked to take the role, or may have been" in one["kept"][0]
    site.pair.start(AWAY)
    assert say("drill", "faults", "records", "--lift").code == ExitCode.DONE
    assert is_home(site)
