"""Approvals in the contract of apply: nothing is touched without them, and what was used is used up and recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.api import Estate
from ismgr_automation.approval.safeguards import Safeguards
from ismgr_automation.cli.main import run
from ismgr_automation.converge.gate import granted, proposal
from ismgr_automation.core.errors import NotApproved, NotSigned
from ismgr_automation.core.events import OutputSeen
from ismgr_automation.evidence.audit import Claims, verify
from ismgr_automation.planning.plan import Plan
from ismgr_automation.ports.approvals import NAMESPACE, Approval, Permission
from ismgr_automation.ports.history import COMMIT_NAMESPACE
from ismgr_automation.ports.memory import (
    Boundary,
    Death,
    Killed,
    MemoryApprovals,
    MemoryHistory,
    MemoryPins,
    MemorySignatures,
    MemorySigner,
)
from ismgr_automation.ports.runs import RunState
from ismgr_automation.ports.signing import AllowedSigner
from ismgr_automation.ports.trust import Pin
from tests.approval.cast import public
from tests.rehearsal import Rehearsal

NOW = datetime.now(UTC).replace(microsecond=0)
TEAM = f"""\
kind: Team
name: platform
members:
- {{name: ada, roles: [author, approver], ssh_keys: [{public("ada")}]}}
- {{name: ben, roles: [approver], ssh_keys: [{public("ben")}]}}
- {{name: eve, roles: [break-glass], ssh_keys: [{public("eve")}]}}
"""


class Guarded:
    """A site whose environment asks for an approver, with its documents pinned."""

    def __init__(self, folder: Path, asks: str) -> None:
        self.site = Rehearsal(folder=folder)
        self.site.edit("estate.yaml", "  lab: {", f"  lab: {{{asks}, ")
        self.site.files["team.yaml"] = TEAM
        self.history, self.store, self.pins = MemoryHistory(), MemoryApprovals(), MemoryPins()
        base = self.site.open()
        self.site.safeguards = Safeguards(
            history=self.history,
            pins=self.pins,
            verifier=lambda _revoked: MemorySignatures(),
            stores=(self.store,),
            documents=lambda _commit: base.documents,
        )
        commit = self.history.commit(base.tree.revision.commit)
        spaces = (NAMESPACE, COMMIT_NAMESPACE)
        signers = tuple(
            AllowedSigner(principal=name, key=public(name), namespaces=spaces) for name in ("ada", "ben", "eve")
        )
        self.pins.write(Pin(estate="two-sites", folder="", commit=commit, signers=signers))
        self.base = commit

    def propose(self, *, key: str) -> Estate:
        """A commit on top of the pinned one, by a key (empty: unsigned)."""
        self.site.files["README.md"] = f"by {key}"
        estate = self.site.open()
        self.history.commit(estate.tree.revision.commit, self.base, key=public(key) if key else "")
        return estate

    def sign(self, name: str, plan: Plan, number: int = 1, **more: object) -> Approval:
        given: dict[str, object] = {"estate": plan.estate, "environment": plan.environment, "digest": plan.digest}
        given |= {"not_after": datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1), "nonce": f"{number:032x}"}
        said = Permission(**{**given, **more})  # type: ignore[arg-type]
        approval = Approval(permission=said, signature=MemorySigner(public(name)).sign(said.to_bytes(), NAMESPACE))
        self.store.add(approval)
        return approval

    @property
    def begun(self) -> dict:
        """The record that began the newest run."""
        lines = [json.loads(line) for line in self.site.evidence.read()]
        return [one for one in lines if "run-started" in json.dumps(one)][-1]


@pytest.fixture
def guarded(tmp_path):
    return Guarded(tmp_path, "approvals: [{count: 1}], break_glass: true")


def test_nothing_is_touched_without_an_approval_and_then_it_is_used_up(guarded):
    estate = guarded.propose(key="ada")
    plan = estate.plan()
    with pytest.raises(NotApproved) as error:
        estate.apply(plan)
    assert error.value.missing == ("1 approver, because something changes: 0 signed (still asked: ben)",)
    guarded.sign("ada", plan)
    with pytest.raises(NotApproved, match="this person made a commit"):
        estate.apply(plan)
    assert guarded.site.world.effects() == []
    used = guarded.sign("ben", plan, 2)
    assert estate.apply(plan).ok
    (begun,) = guarded.site.runs.runs("lab")
    assert guarded.site.runs.nonces(begun.id) == (used.permission.nonce,)
    assert used.permission.nonce in json.dumps(guarded.begun)
    assert used.signature.armored in json.dumps(guarded.begun)


def test_an_approval_that_was_used_is_used_for_every_later_run_but_its_own(guarded):
    estate = guarded.propose(key="ada")
    plan = estate.plan()
    guarded.sign("ben", plan)
    assert estate.apply(plan).ok
    (done,) = guarded.site.runs.runs("lab")
    scope = guarded.site.scope()
    with pytest.raises(NotApproved, match="an earlier run has used it"):
        granted(plan, scope, NOW)
    assert granted(plan, scope, NOW, run=done).nonces == (f"{1:032x}",)
    # what was applied is the base from now on
    assert proposal(scope).last == done.commit == scope.tree.revision.commit


def test_a_run_of_a_part_leaves_the_base_where_it_was_and_its_author_an_author(guarded):
    estate = guarded.propose(key="ada")
    part = estate.plan(["stack/dc1-servers"])
    guarded.sign("ben", part)
    assert estate.apply(part).ok
    assert proposal(guarded.site.scope()).last == ""
    rest = estate.plan()
    guarded.sign("ada", rest, 2)
    with pytest.raises(NotApproved, match="this person made a commit"):
        estate.apply(rest)


def test_a_plan_that_does_nothing_begins_no_run_and_leaves_the_base_where_it_was(guarded):
    estate = guarded.propose(key="ada")
    plan = estate.plan()
    guarded.sign("ben", plan)
    assert estate.apply(plan).ok
    (done,) = guarded.site.runs.runs("lab")
    recorded = list(guarded.site.evidence.read())
    later = guarded.propose(key="dot")
    nothing = later.plan()
    assert nothing.empty
    report = later.apply(nothing)
    assert (report.ok, report.run, report.rounds) == (True, "", 0)
    assert guarded.site.runs.runs("lab") == (done,)
    assert list(guarded.site.evidence.read()) == recorded
    assert proposal(guarded.site.scope()).last == done.commit != later.tree.revision.commit


def test_a_night_of_failed_runs_makes_neither_the_base_nor_used_approvals_forgotten(guarded):
    estate = guarded.propose(key="ada")
    plan = estate.plan()
    guarded.sign("ben", plan)
    assert estate.apply(plan).ok
    (done,) = guarded.site.runs.runs("lab")
    for number in range(60):
        failed = replace(done, id=f"{done.id}-{number}", state=RunState.STOPPED, digest="", commit="c")
        guarded.site.runs.rows[failed.id] = replace(failed, started_at=done.started_at + timedelta(minutes=number))
    found = proposal(guarded.site.scope(), plan)
    assert (found.last, found.used) == (done.commit, {f"{1:032x}"})


def test_approvals_that_are_handed_over_count_as_well(guarded):
    estate = guarded.propose(key="ada")
    plan = estate.plan()
    mine = guarded.sign("ben", plan)
    guarded.store.kept.clear()
    with pytest.raises(NotApproved):
        estate.apply(plan)
    assert estate.apply(plan, approvals=[mine]).ok


def test_broken_glass_stands_in_the_evidence(guarded):
    estate = guarded.propose(key="ada")
    plan = estate.plan()
    guarded.sign("eve", plan, break_glass=True, reason="disk full")
    assert estate.apply(plan).ok
    assert "disk full" in json.dumps(guarded.begun)
    assert "BREAK-GLASS" in json.dumps(guarded.begun)


def left_behind(guarded: Guarded, signed_for: timedelta) -> tuple[Estate, Plan, str]:
    """An estate, its plan, and the run of it that died in its middle; its approval was good for so long."""
    estate = guarded.propose(key="ada")
    plan = estate.plan()
    guarded.sign("ben", plan, 1, not_after=NOW + signed_for)
    guarded.site.death = Death(nth=1, only=Boundary.BEFORE_FINISHED)
    with pytest.raises(Killed):
        estate.apply(plan)
    return estate, plan, guarded.site.let_go().id


def lapse(guarded: Guarded) -> None:
    """The first approval is over: as if its hour had passed."""
    (old,) = guarded.store.kept
    said = replace(old.permission, not_after=NOW - timedelta(hours=1))
    signature = MemorySigner(public("ben")).sign(said.to_bytes(), NAMESPACE)
    guarded.store.kept[:] = [replace(old, permission=said, signature=signature)]


def test_approvals_that_are_over_are_given_anew_for_a_resume_and_used_up_by_it(guarded):
    estate, plan, left = left_behind(guarded, timedelta(hours=1))
    lapse(guarded)
    with pytest.raises(NotApproved) as refused:
        estate.resume(left)
    assert f"ismgr runs show {left} --plan" in refused.value.next_step
    assert f"ismgr resume {left} --plan" in refused.value.next_step
    assert refused.value.missing
    assert guarded.site.runs.nonces(left) == (f"{1:032x}",)
    guarded.sign("ben", plan, 2)
    fresh = guarded.store.kept.pop()
    assert estate.resume(left, approvals=[fresh]).ok
    assert guarded.site.runs.nonces(left) == (f"{1:032x}", f"{2:032x}")
    lines = [json.loads(line) for line in guarded.site.evidence.read()]
    (resumed,) = [one for one in lines if one["kind"] == "resumed"]
    assert fresh.signature.armored in json.dumps(resumed)
    used = [one["body"]["nonce"] for one in lines if one["kind"] == "approval-used"]
    assert used == [f"{1:032x}", f"{2:032x}"]
    # and nobody else can use it
    with pytest.raises(NotApproved, match="an earlier run has used it"):
        granted(plan, guarded.site.scope(), NOW, [fresh])


def test_a_resume_under_the_approvals_that_it_has_uses_nothing_more(guarded):
    estate, _, left = left_behind(guarded, timedelta(hours=1))
    assert estate.resume(left).ok
    assert guarded.site.runs.nonces(left) == (f"{1:032x}",)
    fates = [json.loads(line)["body"].get("fate") for line in guarded.site.evidence.read() if b'"lease"' in line]
    assert fates == ["taken", "lost", "taken"]


def test_a_refused_apply_of_a_plan_is_on_record_and_leaves_evidence_whole(guarded):
    estate = guarded.propose(key="ada")
    plan = estate.plan()
    with pytest.raises(NotApproved):
        estate.apply(plan)
    lines = list(guarded.site.evidence.read())
    (refused,) = [json.loads(line) for line in lines]
    assert (refused["kind"], refused["body"]["reason"]) == ("refused", "not-approved")
    assert refused["body"]["digest"] == plan.digest
    assert guarded.site.evidence.closes == 1
    guarded.sign("ben", plan)
    assert estate.apply(plan).ok
    whole = verify(list(guarded.site.evidence.read()), Claims(environment="lab"), MemorySignatures())
    assert whole.problems == ()


def test_a_refusal_that_cannot_be_recorded_is_still_that_refusal(guarded):
    estate = guarded.propose(key="ada")
    guarded.site.evidence.full = True
    plan = estate.plan()
    with pytest.raises(NotApproved):
        estate.apply(plan)
    assert [one for one in guarded.site.events if isinstance(one, OutputSeen) and "not on record" in one.text]


def test_people_are_told_with_a_plan_which_approvals_are_missing(guarded, capsys):
    guarded.propose(key="ada")
    assert run(["-C", str(guarded.site.folder), "plan"], wiring=guarded.site) == 2
    assert "needs approval: 1 approver, because something changes: 0 signed" in capsys.readouterr().out


def test_unsigned_code_is_neither_planned_nor_applied(tmp_path):
    guarded = Guarded(tmp_path, "signed_commits: true")
    signed = guarded.propose(key="ada")
    plan = signed.plan()
    hidden = guarded.propose(key="")
    guarded.site.world.calls.clear()
    for look in (hidden.plan, hidden.verify, hidden.plan_destroy, lambda: hidden.apply(plan)):
        with pytest.raises(NotSigned, match="it is not signed"):
            look()
    assert [one for one in guarded.site.world.calls if "preview" in one or "check" in one] == []
    assert guarded.site.world.effects() == []


def test_runs_can_be_looked_up_from_a_commit_that_must_not_be_run(tmp_path):
    guarded = Guarded(tmp_path, "signed_commits: true")
    signed = guarded.propose(key="ada")
    report = signed.apply(signed.plan())
    hidden = guarded.propose(key="")
    assert hidden.run(report.run).digest == report.digest
    assert [one.id for one in hidden.runs()] == [report.run]


def test_a_worktree_is_refused_where_approvals_are_asked(guarded):
    estate = guarded.propose(key="ada")
    plan = estate.plan()
    guarded.sign("ben", plan)
    with pytest.raises(NotApproved, match="working tree"):
        estate.apply(replace(plan, beside=replace(plan.beside, worktree=True)))
    assert guarded.site.world.effects() == []
