"""Windows and freezes: nothing is begun outside of them, and who overrides them must be allowed to, on record."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.approval.safeguards import Safeguards
from ismgr_automation.converge.patch import plan_rollback
from ismgr_automation.converge.plan import plan as plan_apply
from ismgr_automation.core.address import Kind
from ismgr_automation.core.errors import ExitCode, NotApproved, OutsideWindow
from ismgr_automation.estate.load import load
from ismgr_automation.planning.change import Level
from ismgr_automation.planning.plan import Plan
from ismgr_automation.planning.planfile import read
from ismgr_automation.planning.timing import Calendar
from ismgr_automation.ports.approvals import NAMESPACE, Approval, Permission
from ismgr_automation.ports.history import COMMIT_NAMESPACE
from ismgr_automation.ports.memory import (
    Death,
    Killed,
    MemoryApprovals,
    MemoryHistory,
    MemoryPins,
    MemorySignatures,
    MemorySigner,
)
from ismgr_automation.ports.signing import AllowedSigner
from ismgr_automation.ports.trust import Pin
from tests.approval.cast import public
from tests.converge.patched import (
    NEW,
    effects,
    exactly,
    on_new,
    patch,
    patched,
    plan,
    planned_moves,
    today,
    versions,
)
from tests.rehearsal import NOON, Rehearsal

CLOSED, OPEN = timedelta(days=3), timedelta(hours=-1)
TEAM = f"""\
kind: Team
name: platform
members:
- {{name: Ada, roles: [author], ssh_keys: [{public("ada")}]}}
- {{name: ben, roles: [approver], ssh_keys: [{public("ben")}]}}
"""


@pytest.fixture
def clinic(tmp_path: Path) -> Rehearsal:
    site = patched(tmp_path)
    site.edit("baseline.yaml", "rings:", "windows: [nights]\nrings:")
    opens(site, OPEN)
    return site


def opens(site: Rehearsal, when: timedelta, lasts: str = "6h") -> None:
    """The window opens once, so long from now."""
    start = datetime.now(UTC) + when
    site.files["window.yaml"] = f"""\
kind: MaintenanceWindow
name: nights
time_zone: UTC
start: {start:%Y-%m-%dT%H:%M:%S}
duration: {lasts}
"""


def frozen(site: Rehearsal, begins: timedelta = OPEN, selector: str = "true") -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    site.files["freeze.yaml"] = f"""\
kind: Freeze
name: quarter
reason: the books are closed
owner: platform
begins: {(now + begins).isoformat()}
ends: {(now + begins + timedelta(days=2)).isoformat()}
selector: '{selector}'
"""


def test_inside_a_window_hosts_are_patched(clinic: Rehearsal) -> None:
    planned = today(clinic)
    assert [one for one in planned.findings if one.subject.kind is Kind.WINDOW] == []
    assert exactly(clinic, planned).ok


def test_a_plan_can_be_made_at_any_time_and_says_that_now_is_not_the_time(clinic: Rehearsal) -> None:
    opens(clinic, CLOSED)
    (said,) = [one for one in today(clinic).findings if one.subject.kind is Kind.WINDOW]
    assert said.level is Level.ADVISE
    assert said.summary.startswith("now is not the time: window/nights is closed; it opens next at")


def test_outside_of_its_window_nothing_is_begun_and_the_rule_is_named(clinic: Rehearsal) -> None:
    opens(clinic, CLOSED)
    planned = today(clinic)
    with pytest.raises(OutsideWindow, match="window/nights is closed") as refused:
        exactly(clinic, planned)
    assert refused.value.exit_code is ExitCode.REFUSED
    assert effects(clinic) == []
    assert clinic.runs.runs() == ()


def test_what_cannot_be_over_in_time_is_not_begun(clinic: Rehearsal) -> None:
    opens(clinic, OPEN, "80m")
    with pytest.raises(OutsideWindow, match="window/nights closes too soon: the work needs 30m"):
        exactly(clinic, today(clinic))
    assert effects(clinic) == []


def test_a_freeze_holds_hosts_up_and_says_who_asked_for_it(clinic: Rehearsal) -> None:
    frozen(clinic)
    with pytest.raises(OutsideWindow, match=r"freeze/quarter holds until .*: the books are closed"):
        exactly(clinic, today(clinic))
    assert effects(clinic) == []


def test_a_freeze_for_hosts_that_are_not_touched_holds_nobody_up(clinic: Rehearsal) -> None:
    frozen(clinic, selector='host.name == "lb1"')
    assert exactly(clinic, today(clinic)).ok


def test_a_freeze_for_later_rings_stops_the_run_before_them(clinic: Rehearsal) -> None:
    frozen(clinic, selector='host.name == "db1"')
    report = exactly(clinic, today(clinic))
    assert "freeze/quarter holds" in report.stopped
    assert on_new(clinic) == ["db2", "web1", "web2", "web3"]


def _later(known: Calendar) -> Calendar:
    """Time has passed: windows are another night."""
    late = timedelta(days=30)
    moved = {name: one.model_copy(update={"start": one.start + late}) for name, one in known.windows.items()}
    return replace(known, windows=moved)


def test_a_window_that_closes_during_a_run_stops_it_before_the_next_wave(clinic: Rehearsal) -> None:
    passed: list[str] = []
    clinic.packages.watch.append(lambda call: passed.append(call) if call == "apply web1" else None)
    clinic.calendar = lambda known: _later(known) if passed else known
    report = exactly(clinic, today(clinic))
    assert "window/nights is closed" in report.stopped
    assert (report.reason, report.exit_code) == ("outside-window", ExitCode.PARTLY_APPLIED)
    assert on_new(clinic) == ["web1"]
    rest = read(report.rest, "rest")
    assert rest.purpose == "patch"
    assert set(planned_moves(rest)) == {f"{name} tool:amd64" for name in ("db1", "db2", "web2", "web3")}
    passed.clear()
    assert exactly(clinic, rest).ok
    assert set(versions(clinic).values()) == {NEW}


def test_a_way_back_waits_for_a_window_as_well(clinic: Rehearsal) -> None:
    run = patch(clinic).run
    opens(clinic, CLOSED)
    with pytest.raises(OutsideWindow):
        exactly(clinic, plan_rollback(clinic.scope(), datetime.now(UTC), run))
    assert set(versions(clinic).values()) == {NEW}


def test_a_host_that_a_dead_process_left_drained_is_put_back_though_the_window_has_closed(clinic: Rehearsal) -> None:
    def mortal(call: str) -> None:
        clinic.death.at(call)

    clinic.service.watch.append(mortal)
    clinic.packages.watch.append(mortal)
    planned = plan(clinic)
    clinic.death = Death(nth=1, only="apply web1")
    with pytest.raises(Killed):
        patch(clinic, planned)
    assert clinic.service.servers["lb1", "web/web1"] == "drain"
    opens(clinic, CLOSED)
    report = clinic.resume()
    assert report.reason == "outside-window"
    assert clinic.service.servers["lb1", "web/web1"] == "ready"


class Asked:
    """A clinic that is pinned, and whose environment has rules for approvals, before and after a commit."""

    def __init__(self, site: Rehearsal, before: str, after: str) -> None:
        self.site, self.store, self.history = site, MemoryApprovals(), MemoryHistory()
        site.files["team.yaml"] = TEAM
        plain = site.files["estate.yaml"]
        site.files["estate.yaml"] = plain.replace("lab: {", f"lab: {{approvals: [{before}], ")
        tree = site.source(site.folder).checkout("HEAD", site.folder / "base")
        documents, diagnostics = load(tree.root, tree.objects)
        assert documents is not None, diagnostics
        pins = MemoryPins()
        site.safeguards = Safeguards(
            history=self.history,
            pins=pins,
            verifier=lambda _revoked: MemorySignatures(),
            stores=(self.store,),
            documents=lambda _commit: documents,
        )
        base = self.history.commit(tree.revision.commit)
        signers = tuple(
            AllowedSigner(principal=name, key=public(name), namespaces=(NAMESPACE, COMMIT_NAMESPACE))
            for name in ("ada", "ben")
        )
        pins.write(Pin(estate="clinic", folder="", commit=base, signers=signers))
        site.files["estate.yaml"] = plain.replace("lab: {", f"lab: {{approvals: [{after}], ") + "# proposed\n"
        self.history.commit(site.scope().tree.revision.commit, base, key=public("ada"))

    def sign(self, planned: Plan) -> None:
        said = Permission(
            estate="clinic",
            environment="lab",
            digest=planned.digest,
            not_after=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1),
            nonce=f"{1:032x}",
        )
        signature = MemorySigner(public("ben")).sign(said.to_bytes(), NAMESPACE)
        self.store.add(Approval(permission=said, signature=signature))


URGENT = "{urgent: true}"


@pytest.mark.parametrize(
    ("before", "after", "whose"),
    [
        ("{count: 1}", "{count: 1}", "what was applied last and what is proposed has"),
        ("{count: 1}", URGENT, "what was applied last has"),
        (URGENT, "{count: 1}", "what is proposed has"),
    ],
)
def test_nobody_overrides_windows_who_is_not_named_for_it_before_and_after(
    clinic: Rehearsal, before: str, after: str, whose: str
) -> None:
    opens(clinic, CLOSED)
    asked = Asked(clinic, before, after)
    planned = today(clinic, urgent="it is exploited")
    asked.sign(planned)
    with pytest.raises(NotApproved, match=whose):
        exactly(clinic, planned)
    assert effects(clinic) == []


def test_without_any_rule_nothing_is_urgent(clinic: Rehearsal) -> None:
    with pytest.raises(NotApproved, match="has no approval rule with `urgent: true`"):
        exactly(clinic, today(clinic, urgent="it is exploited"))
    with pytest.raises(NotApproved, match="urgent: true"):
        exactly(clinic, plan_apply(clinic.scope(), datetime.now(UTC), urgent="now"))


def test_urgent_work_that_was_approved_passes_by_windows_and_freezes_on_record(clinic: Rehearsal) -> None:
    opens(clinic, CLOSED)
    frozen(clinic)
    asked = Asked(clinic, URGENT, URGENT)
    planned = today(clinic, urgent="it is exploited")
    with pytest.raises(NotApproved, match="windows and freezes are overridden"):
        exactly(clinic, planned)
    asked.sign(planned)
    report = exactly(clinic, planned)
    assert report.ok, report.stopped
    noticed = [json.loads(line) for line in clinic.evidence.read() if b"overridden" in _bytes(line)]
    words = json.dumps(noticed)
    assert "overridden: window/nights is closed" in words
    assert "overridden: freeze/quarter holds until" in words


def _bytes(line: str | bytes) -> bytes:
    return line if isinstance(line, bytes) else line.encode()


def test_a_rule_for_urgent_work_asks_nobody_about_other_work(clinic: Rehearsal) -> None:
    Asked(clinic, URGENT, URGENT)
    assert exactly(clinic, today(clinic)).ok


@pytest.mark.parametrize("rule", ["{groups: [databases]}", "{data_classes: [phi]}"])
def test_patching_a_group_or_what_holds_data_is_approved_as_any_other_work_on_it(clinic: Rehearsal, rule: str) -> None:
    clinic.files["service.yaml"] = "kind: Service\nname: records\nowner: platform\ngroups: [databases]\n"
    clinic.files["service.yaml"] += "data_classes: [phi]\n"
    asked = Asked(clinic, rule, rule)
    planned = today(clinic)
    with pytest.raises(NotApproved):
        exactly(clinic, planned)
    asked.sign(planned)
    assert exactly(clinic, planned).ok


def test_what_does_not_touch_the_group_needs_no_approval_of_it(clinic: Rehearsal) -> None:
    Asked(clinic, "{groups: [balancers]}", "{groups: [balancers]}")
    assert exactly(clinic, today(clinic)).ok
    assert plan(clinic, NOON).empty
