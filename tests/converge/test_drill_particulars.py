"""What a drill's result says of its circumstances: people as commit and evidence know them, scope and scenario as the
documents have them, and nothing that nobody knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ismgr_automation.converge.run import Granted, perform
from ismgr_automation.converge.scope import Recovery
from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.core.json import digest
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.evidence.entries import UsedApproval
from ismgr_automation.evidence.results import altered, recorded
from ismgr_automation.ports.approvals import Permission
from ismgr_automation.ports.memory import Death, Killed
from ismgr_automation.recovery.particulars import Extent, Scenario
from ismgr_automation.recovery.result import read_result, result_json
from tests.drills import BY_NETWORK, Drills, arrive, drill, drills, plan, result
from tests.rehearsal import HOLDER, NOON

ADA = "Ada <ada@example.org>"
WHO = f"{HOLDER.user}@{HOLDER.host}"
NOBODY = EngineFailed("There is no Git.", engine="git")


@dataclass(slots=True, kw_only=True)
class Signed(Drills):
    """Its commits were made by somebody, or Git cannot tell."""

    git: str | EngineFailed = ADA

    def recovery(self) -> Recovery:
        """With who made a commit."""

        def author(_commit: str) -> str:
            if isinstance(self.git, EngineFailed):
                raise self.git
            return self.git

        return replace(Drills.recovery(self), author=author)


@pytest.fixture
def clinic(tmp_path: Path) -> Signed:
    known = drills(tmp_path)
    site = Signed(folder=tmp_path, world=known.world, files=known.files, pair=known.pair)
    site.pair.each_tick.append(lambda: arrive(site.pair))
    return site


def approval(site: Drills, digest_: str) -> UsedApproval:
    permission = Permission(
        estate="clinic", environment="lab", digest=digest_, not_after=NOON, nonce="0123456789abcdef0123456789abcdef"
    )
    return UsedApproval(principal="bob@example.org", permission=permission, signature="-", key="ssh-ed25519 AAAA")


def run_of(site: Drills, mode: DrillMode, *, death: Death | None = None) -> None:
    """A drill that somebody approved."""
    planned, scope = plan(site, mode), site.scope()
    site.death = death or Death()
    with site.tenure(scope) as tenure:
        perform(planned, scope, tenure, Granted(approvals=(approval(site, planned.digest),)))


def test_people_are_those_of_the_commit_and_of_the_evidence(clinic: Signed) -> None:
    run_of(clinic, DrillMode.SWITCHOVER)
    people = result(clinic).people
    assert (people.planned, people.approved, people.ran) == ((ADA,), ("bob@example.org",), (WHO,))
    assert people.apart


def test_who_takes_over_a_drill_is_among_those_who_ran_it_and_its_approvals_stay(clinic: Signed) -> None:
    with pytest.raises(Killed):
        run_of(clinic, DrillMode.SWITCHOVER, death=Death(nth=2))
    clinic.resume()
    people = result(clinic).people
    assert (people.approved, people.ran) == (("bob@example.org",), (WHO,))


@pytest.mark.parametrize("git", ["", NOBODY])
def test_an_author_whom_nobody_knows_is_left_out(clinic: Signed, git: str | EngineFailed) -> None:
    clinic.git = git
    drill(clinic)
    assert (result(clinic).people.planned, result(clinic).people.approved) == ((), ())


def test_what_is_on_record_is_the_result_with_all_its_people(clinic: Signed) -> None:
    run_of(clinic, DrillMode.FAILOVER)
    on_record = recorded(clinic.evidence.read())
    kept = {run: body for run, (_plan, body) in clinic.results.kept.items()}
    assert on_record == {run: digest(body) for run, body in kept.items()}
    (run,) = kept
    forged = result_json(replace(read_result(kept[run]), people=replace(result(clinic).people, approved=("Mallory",))))
    assert [one.run for one in altered(on_record, {run: forged})] == [run]


def test_scope_is_what_the_documents_say(clinic: Signed) -> None:
    clinic.edit("service.yaml", "owner: platform\n", "owner: platform\ntier: 0\ndata_classes: [phi]\n")
    drill(clinic)
    assert result(clinic).extent == Extent(
        hosts=("db1", "db2", "lb1", "lb2", "web1", "web2"),
        groups=("databases", "webs", "edges"),
        sites=("dc1", "dc2"),
        data_classes=("phi",),
        tier=0,
    )


def test_a_scenario_is_what_the_plan_says_and_nothing_where_it_says_nothing(clinic: Signed) -> None:
    drill(clinic)
    assert result(clinic).scenario == Scenario()
    clinic.edit(
        "recovery.yaml",
        "ready: {lag: 50}\n",
        "ready: {lag: 50}\nscenario: {threat: fire at dc1, severity: high, left_out: ['archive: has its own']}\n",
    )
    drill(clinic)
    assert result(clinic).scenario == Scenario(
        threat="fire at dc1", severity="high", left_out=("archive: has its own",)
    )


def test_how_was_measured_with_what_and_who_confirmed_the_fence_is_said(clinic: Signed) -> None:
    clinic.edit("recovery.yaml", *BY_NETWORK)
    drill(clinic)
    found = result(clinic)
    assert found.method is not None
    assert (found.method.every_ms, found.method.endpoints) == (5.0, ("192.0.2.30:5432",))
    assert {"ismgr", "python", "kernel"} <= set(found.tools)
    assert [(one.leg, one.ok) for one in found.confirmations] == [("failover", True)]
    assert found.confirmations[0].by
    assert found.steady is True
    # the client's log is placed beside the spans by this moment
    first = next(one for one in found.tasks if one.leg == "failover")
    assert (first.began_ms, found.start_ns is not None) == (0.0, True)


def test_an_unsteady_drill_says_that_it_was(clinic: Signed) -> None:
    clinic.pair.each_tick.remove(clinic.pair.write)
    drill(clinic)
    assert result(clinic).steady is False
