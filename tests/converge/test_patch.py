"""Plans of patches: exact, repeatable, judged by the day that was signed, and refused when the world has moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ismgr_automation.converge.patching import standing
from ismgr_automation.core.address import Kind
from ismgr_automation.core.errors import EngineFailed, EstateError, ExitCode, PolicyDenied, StalePlan
from ismgr_automation.core.events import PlanComposed
from ismgr_automation.patching.seen import version_key
from ismgr_automation.patching.status import rows
from ismgr_automation.planning.change import Action, Level
from ismgr_automation.planning.plan import Purpose
from ismgr_automation.planning.planfile import read, write
from ismgr_automation.ports.advisories import Advisories, Basis, Fix, SourceRead, Vulnerability
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.memory import MemoryAdvisories
from tests.converge.patched import (
    NEW,
    OLD,
    days,
    effects,
    exactly,
    fates,
    offer,
    on_new,
    package,
    patch,
    patched,
    plan,
    planned_moves,
    today,
    versions,
)
from tests.converge.test_promises import pinned
from tests.rehearsal import NOON, Rehearsal


@pytest.fixture
def clinic(tmp_path: Path) -> Rehearsal:
    return patched(tmp_path)


def test_a_plan_names_exact_versions_on_every_host_that_a_baseline_selects(clinic: Rehearsal) -> None:
    found = plan(clinic)
    assert found.purpose is Purpose.PATCH
    assert planned_moves(found) == {f"{name} tool:amd64": (OLD, NEW) for name in ("db1", "db2", "web1", "web2", "web3")}
    (step,) = [one for one in found.changes[0].steps if one.action is Action.UPDATE]
    assert (step.target, step.after["digest"], step.after["ring"]) == ("web1", "sha256:1.1-1", "canary")
    assert found.complete
    assert effects(clinic) == []


def test_what_goes_with_the_packages_of_a_host_stands_in_the_plan(clinic: Rehearsal) -> None:
    found = {step.target: set() for change in plan(clinic).changes for step in change.steps}
    for change in plan(clinic).changes:
        for step in change.steps:
            found[step.target].add(step.what)
    assert found["web2"] == {"tool:amd64", "drain and restore", "reboot"}
    assert found["db1"] == {"tool:amd64", "postgresql switchover", "reboot"}


def test_the_same_plan_twice_has_one_digest(clinic: Rehearsal) -> None:
    first, second = plan(clinic), plan(clinic, NOON + days(0.4))
    assert first.digest == second.digest
    assert read(write(first), "plan").digest == first.digest


def test_rings_go_first_standbys_before_primaries_and_each_step_knows_its_ring(clinic: Rehearsal) -> None:
    found = plan(clinic)
    batches = [sorted(one.name for key in wave for one in found.change(key).targets) for wave in found.waves]
    assert batches == [["web1"], ["db2", "web2", "web3"], ["db1"]]


def test_a_primary_that_waits_for_its_standby_belongs_to_the_ring_that_it_is_patched_with(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", 'host.name == "web1"', """'host.name in ["web1", "db1"]'""")
    found = plan(clinic)
    rings = {
        step.target: step.after["ring"] for one in found.changes for step in one.steps if step.action is Action.UPDATE
    }
    assert rings == {"web1": "canary", "db1": "rest", "db2": "rest", "web2": "rest", "web3": "rest"}


def test_a_plan_of_yesterday_is_judged_by_the_day_that_was_signed(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", 'when: "true"}', 'when: "true", after: 3d}')
    now = datetime.now(UTC)
    clinic.first_seen.entries[version_key(offer(NEW))] = now - days(3)
    clinic.edit("baseline.yaml", "after: 3d", "after: 4d")
    assert plan(clinic, now).empty
    clinic.edit("baseline.yaml", "after: 4d", "after: 2d")
    yesterday = plan(clinic, now - days(1))
    assert not yesterday.empty
    assert plan(clinic, now).day != yesterday.day
    assert exactly(clinic, yesterday).ok
    assert set(versions(clinic).values()) == {NEW}


def test_a_version_that_came_of_age_since_is_not_smuggled_into_a_signed_plan(clinic: Rehearsal) -> None:
    clinic.edit("baseline.yaml", 'when: "true"}', 'when: "true", after: 3d}')
    now = datetime.now(UTC)
    clinic.packages.repository.append(offer("2.0-1"))
    for machine in clinic.packages.machines.values():
        clinic.packages.read_lists(machine)
    clinic.first_seen.entries[version_key(offer(NEW))] = now - days(10)
    clinic.first_seen.entries[version_key(offer("2.0-1"))] = now - days(3)
    yesterday = plan(clinic, now - days(1))
    assert set(planned_moves(yesterday).values()) == {(OLD, NEW)}
    assert set(planned_moves(plan(clinic, now)).values()) == {(OLD, "2.0-1")}
    assert exactly(clinic, yesterday).ok
    assert set(versions(clinic).values()) == {NEW}


def _vanish(clinic: Rehearsal) -> None:
    clinic.packages.repository.remove(offer(NEW))


def _other_file(clinic: Rehearsal) -> None:
    clinic.packages.repository.remove(offer(NEW))
    clinic.packages.repository.append(offer(NEW, digest="other"))
    clinic.packages.read_lists(clinic.packages.machines["web2"])


def _by_hand(clinic: Rehearsal) -> None:
    clinic.packages.machines["web2"].installed["tool"] = package("1.0-2")


def _newer(clinic: Rehearsal) -> None:
    clinic.packages.repository.append(offer("1.2-1"))
    clinic.packages.read_lists(clinic.packages.machines["web2"])


@pytest.mark.parametrize(
    ("moves", "named"),
    [
        (_vanish, r"web2 would not be patched as its baseline asks \(vanished\): tool 1.1-1"),
        (
            _other_file,
            r"tool:amd64 on web2: 1.0-1 to 1.1-1 \(sha256:1.1-1\) was signed, and now 1.0-1 to 1.1-1 \(sha256:other\)",
        ),
        (_by_hand, r"tool:amd64 on web2: 1.0-1 to 1.1-1 \(sha256:1.1-1\) was signed, and now 1.0-2 to 1.1-1"),
        (_newer, r"tool:amd64 on web2: 1.0-1 to 1.1-1 \(sha256:1.1-1\) was signed, and now 1.0-1 to 1.2-1"),
    ],
)
def test_a_repository_or_a_host_that_moved_is_a_stale_plan_that_says_so(
    clinic: Rehearsal, moves: Callable[[Rehearsal], None], named: str
) -> None:
    planned = today(clinic)
    moves(clinic)
    with pytest.raises(StalePlan, match=named) as refused:
        exactly(clinic, planned)
    assert refused.value.exit_code is ExitCode.REFUSED
    assert effects(clinic) == []
    assert clinic.runs.runs() == ()


def test_what_moves_after_the_last_look_stops_the_run_before_that_host_is_touched(clinic: Rehearsal) -> None:
    planned = today(clinic)

    def meddle(call: str) -> None:
        if call == "apply web1":
            _by_hand(clinic)

    clinic.packages.watch.append(meddle)
    report = exactly(clinic, planned)
    assert report.stopped.startswith("baseline/all#2 failed: web2 refused (moved): tool is 1.0-2")
    assert (report.reason, report.exit_code) == ("world-moved", ExitCode.PARTLY_APPLIED)
    assert on_new(clinic) == ["web1"]


def test_what_apt_would_do_besides_is_not_signed(clinic: Rehearsal) -> None:
    clinic.packages.wider["tool"] = "libtool"
    found = plan(clinic)
    assert found.empty
    assert {one.level for one in found.findings} == {Level.WARN}
    assert "web1 would not be patched as its baseline asks (wider): libtool" in [one.summary for one in found.findings]


def test_two_baselines_for_one_host_are_refused(clinic: Rehearsal) -> None:
    clinic.files["second.yaml"] = clinic.files["baseline.yaml"].replace("name: all", "name: other")
    with pytest.raises(EstateError, match="cannot be told apart"):
        plan(clinic)


@pytest.mark.parametrize(
    ("targets", "who"),
    [
        (("host/web2",), {"web2"}),
        (("group/databases",), {"db1", "db2"}),
        (("baseline/all",), {"db1", "db2", "web1", "web2", "web3"}),
    ],
)
def test_a_selection_takes_hosts_groups_and_baselines(
    clinic: Rehearsal, targets: tuple[str, ...], who: set[str]
) -> None:
    assert {one.partition(" ")[0] for one in planned_moves(plan(clinic, targets=targets))} == who


def test_every_host_is_patched_and_the_next_plan_is_empty(clinic: Rehearsal) -> None:
    report = exactly(clinic, today(clinic))
    assert report.ok, report.stopped
    assert set(versions(clinic).values()) == {NEW}
    found = plan(clinic)
    assert (found.empty, found.complete) == (True, True)
    assert clinic.ledgers["lab"].rows == {}


def waive(site: Rehearsal) -> None:
    """Leave web2 unpatched for a while."""
    day = NOON.date()
    site.files["exemption.yaml"] = f"""\
kind: Exemption
name: carried
scope: host.name == "web2"
owner: platform
approver: Ada
reason: the vendor is asked
issued: {day - days(5)}
expires: {day + days(5)}
"""


def shown(site: Rehearsal) -> list[tuple[str, str, tuple[str, ...]]]:
    """How web2 stands: decided how, in which state, by which exemptions."""
    found = rows(standing(site.scope(), NOON).status)
    return [(one.standing, str(one.state), one.exemptions) for one in found if one.host == "web2"]


@pytest.fixture
def exposed(clinic: Rehearsal) -> Rehearsal:
    """What is offered mends a vulnerability that was due long ago."""
    source = "https://tracker.example/debian.json"
    clinic.edit("baseline.yaml", "rings:", f'advisories: [{{format: debian, source: "{source}"}}]\nrings:')
    mended = Fix(cve="CVE-2026-1", source="tool", release="bookworm", fixed=NEW)
    hole = Vulnerability(cve="CVE-2026-1", severity="critical", published=NOON.date() - days(300))
    known = Advisories(fixes={"tool": (mended,)}, vulnerabilities={"CVE-2026-1": hole})
    clinic.advisories = MemoryAdvisories(known=known)
    return clinic


def test_an_exempted_package_is_left_alone_and_shown(exposed: Rehearsal) -> None:
    waive(exposed)
    found = plan(exposed)
    assert "web2 tool:amd64" not in planned_moves(found)
    assert len(planned_moves(found)) == 4
    assert shown(exposed) == [("exempt", "excepted", ("carried",))]


def test_an_exemption_that_only_the_proposal_brings_hides_no_breach_until_it_was_applied(exposed: Rehearsal) -> None:
    pinned(exposed)
    assert shown(exposed) == [("approve", "breached", ())]
    waive(exposed)
    found = plan(exposed)
    assert "web2 tool:amd64" not in planned_moves(found)
    (said,) = [one for one in found.findings if one.subject.kind is Kind.EXEMPTION]
    assert said.summary.startswith("proposed exemption carried of platform")
    assert shown(exposed) == [("exempt", "breached", ())]
    pinned(exposed)
    assert not [one for one in plan(exposed).findings if one.subject.kind is Kind.EXEMPTION]
    assert shown(exposed) == [("exempt", "excepted", ("carried",))]


def test_exemptions_that_are_over_or_cover_nothing_are_findings_of_the_plan(clinic: Rehearsal) -> None:
    day = NOON.date()
    for name, scope, ends in (("late", 'host.name == "web2"', -1), ("lost", 'host.name == "gone"', 5)):
        clinic.files[f"{name}.yaml"] = f"""\
kind: Exemption
name: {name}
scope: {scope}
owner: platform
approver: Ada
reason: the vendor is asked
issued: {day - days(9)}
expires: {day + days(ends)}
"""
    found = plan(clinic)
    said = {one.subject.name: one.summary for one in found.findings if one.subject.kind is Kind.EXEMPTION}
    assert said["late"].endswith("it still covers something, which counts again")
    assert said["lost"] == "exemption lost of platform covers nothing (any more)"
    assert "web2 tool:amd64" in planned_moves(found)


def test_advisories_that_cannot_be_read_are_an_error_not_good_news(clinic: Rehearsal) -> None:
    source = "https://tracker.example/debian.json"
    clinic.edit("baseline.yaml", "rings:", f'advisories: [{{format: debian, source: "{source}"}}]\nrings:')
    clinic.advisories.failing[source] = EngineFailed("There is no tracker.", engine="advisories", next_step="Fetch it.")
    found = plan(clinic)
    assert found.errored
    assert "advisories of baseline/all cannot be read: There is no tracker." in [one.summary for one in found.findings]


@pytest.mark.parametrize(
    ("read", "told", "said"),
    [
        (Basis.DATA, Basis.DATA, ""),
        (Basis.FILE, Basis.COMMIT, ""),
        (Basis.FILE, Basis.COMMIT, "advisories/debian.json is in Git since 4d, and 3d are allowed"),
        (Basis.FILE, Basis.NONE, "advisories/debian.json is undated: nobody can say whether it is older than the 3d"),
    ],
)
def test_advisories_of_the_estate_have_the_name_and_the_age_that_git_gives_them(
    clinic: Rehearsal, read: Basis, told: Basis, said: str
) -> None:
    name, now = "advisories/debian.json", datetime.now(UTC)
    clinic.files[name] = "{}"
    clinic.edit("baseline.yaml", "rings:", f"advisories: [{{format: debian, source: {name}}}]\nrings:")
    if told is Basis.COMMIT:
        clinic.committed[name] = now - days(4 if said else 2)
    scope = clinic.scope()
    source = SourceRead(
        source=str(scope.tree.root / name),
        format="debian",
        digest="sha256:0",
        dated=now if read is Basis.FILE else now - days(1),
        fetched_at=now,
        entries=1,
        basis=read,
    )
    reader = MemoryAdvisories(known=Advisories(sources=(source,)))
    upkeep = replace(scope.engines.upkeep, advisories=reader)
    found = standing(replace(scope, engines=replace(scope.engines, upkeep=upkeep)), now)
    (shown,) = found.sources
    assert (shown.source, shown.basis) == (name, told)
    assert shown.since == {Basis.DATA: now - days(1), Basis.COMMIT: clinic.committed.get(name)}.get(told)
    warned = [one.summary for one in found.findings if name in one.summary]
    assert len(warned) == bool(said)
    assert all(one.startswith(said) for one in warned)


def test_a_pair_whose_other_half_is_away_is_left_alone_and_all_others_are_patched(clinic: Rehearsal) -> None:
    clinic.world.reach["db2"] = Reach.TIMEOUT
    planned = today(clinic)
    (said,) = [one for one in planned.findings if one.subject.kind is Kind.BASELINE]
    assert said.level is Level.WARN
    assert said.summary.startswith("left out: db1; db1 cannot be worked on: ")
    assert exactly(clinic, planned).ok
    assert on_new(clinic) == ["web1", "web2", "web3"]


def test_a_promise_that_nobody_could_keep_is_refused(clinic: Rehearsal) -> None:
    clinic.edit("groups.yaml", "minimum_available: 1", "minimum_available: 2")
    planned = today(clinic)
    assert planned.refused
    with pytest.raises(PolicyDenied, match="databases"):
        exactly(clinic, planned)
    assert effects(clinic) == []


def test_watchers_hear_which_baseline_is_worked_on(clinic: Rehearsal) -> None:
    report = patch(clinic)
    assert set(fates(report)) == {"baseline/all#1", "baseline/all#2", "baseline/all#3"}
    composed = [one for one in clinic.events if isinstance(one, PlanComposed)]
    assert composed[0].changes == 3
    subjects = {str(one.subject) for one in clinic.events if getattr(one, "subject", None) is not None}
    assert "baseline/all" in subjects
