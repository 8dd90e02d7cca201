"""Runs for reports: one that went well, one that stopped half-way under break-glass, one full of hostile texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ismgr_automation.converge.report import Fate, Outcome, Report, report_json
from ismgr_automation.core.address import Address, group, host, stack
from ismgr_automation.evidence.chain import follow, parse
from ismgr_automation.evidence.entries import (
    ApprovalUsed,
    BreakGlass,
    Entry,
    Intent,
    LeaseChanged,
    LeaseFate,
    Noticed,
    RoundOpened,
    RunClosed,
    RunStarted,
    UsedApproval,
    Verified,
)
from ismgr_automation.evidence.entries import Outcome as Ended
from ismgr_automation.planning.change import (
    Action,
    Certainty,
    Change,
    Deferred,
    Drift,
    Envelope,
    Finding,
    Level,
    Reason,
    Step,
)
from ismgr_automation.planning.plan import Beside, Inputs, Plan, Purpose, change_json
from ismgr_automation.planning.planfile import write
from ismgr_automation.ports.approvals import Permission
from ismgr_automation.ports.evidence import EMPTY
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.runs import Round, Run, RunState, StepRecord, Unit
from ismgr_automation.ports.verification import CheckResult, Verdict
from ismgr_automation.reports.story import Proof, Story

NOON = datetime(2026, 11, 22, 8, 15, tzinfo=UTC)
RUN = "20261122T081500-3f9a"
ADA = Holder(user="ada", host="runner1.dc1", pid=4711, started=1.0, boot="b", purpose="apply")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ"
CONFIG = """\
listen_addresses = '*'
port = 5432
max_connections = {connections}
shared_buffers = 256MB
wal_level = replica
max_wal_senders = {senders}
hot_standby = on
"""


def stack_step(target: str, what: str, action: Action, before: object = None, after: object = None) -> Step:
    return Step(target=target, what=what, action=action, before=before, after=after)  # type: ignore[arg-type]


def task(target: str, what: str, before: object = None, after: object = None, why: str = "") -> Step:
    return Step(
        target=target,
        what=what,
        action=Action.CONFIGURE,
        certainty=Certainty.UNPREDICTABLE if why else Certainty.CHANGES,
        why=why,
        where="playbooks/roles/postgresql/tasks/main.yml:14",
        before=before,  # type: ignore[arg-type]
        after=after,  # type: ignore[arg-type]
    )


def change(
    address: Address, steps: Sequence[Step], *, action: Action, part: int = 0, targets: Sequence[str] = ()
) -> Change:
    return Change(
        address=address,
        part=part,
        action=action,
        reason=Reason.INPUTS,
        steps=tuple(steps),
        targets=tuple(map(host, targets)),
        inputs="sha256:aa",
        precondition="sha256:bb" if not targets else "",
        batch=part,
    )


def database_tasks(name: str) -> list[Step]:
    return [
        task(
            name,
            "postgresql : write the configuration",
            CONFIG.format(connections=100, senders=5),
            CONFIG.format(connections=400, senders=10),
        ),
        task(name, "postgresql : install the package", {"postgresql-15": "15.8-0"}, {"postgresql-15": "15.10-0"}),
        task(name, "postgresql : restart when needed", why="depends on a registered result"),
    ]


FIRST: tuple[Change, ...] = (
    change(
        stack("dc1-servers"),
        [
            stack_step("db3.dc1", "ismgr:redfish:Machine", Action.CREATE, None, {"power": "on", "boot": "disk"}),
            stack_step("edge1.dc1", "ismgr:redfish:Machine", Action.UPDATE, {"boot": "pxe"}, {"boot": "disk"}),
        ],
        action=Action.UPDATE,
    ),
    change(
        stack("dc2-servers"),
        [stack_step("web9.dc2", "ismgr:redfish:Machine", Action.DELETE, {"power": "on"})],
        action=Action.UPDATE,
    ),
    change(group("databases"), database_tasks("db1.dc1"), action=Action.CONFIGURE, part=1, targets=["db1.dc1"]),
    change(
        group("databases"),
        [*database_tasks("db2.dc1"), *database_tasks("db1.dc2")],
        action=Action.CONFIGURE,
        part=2,
        targets=["db2.dc1", "db1.dc2"],
    ),
)
FIRST_WAVES = (("stack/dc1-servers", "stack/dc2-servers"), ("group/databases#1",), ("group/databases#2",))
SECOND: tuple[Change, ...] = (
    change(group("edges"), [task("edge1.dc1", "haproxy : fresh", why="the host has just come up")],
           action=Action.CONFIGURE, part=1, targets=["edge1.dc1"]),
    change(stack("names"), [stack_step("www.example.test", "ismgr:dns:RecordSet", Action.UPDATE,
           {"values": ["192.0.2.10"], "ttl": 300}, {"values": ["192.0.2.20"], "ttl": 60})], action=Action.UPDATE),
)  # fmt: skip
SECOND_WAVES = (("group/edges#1",), ("stack/names",))

FINDINGS = (
    Finding(
        level=Level.WARN,
        subject=host("web2.dc1"),
        summary="The host does not answer: connection refused.",
        next_step="Look at its console, or leave it out with --exclude host/web2.dc1.",
    ),
    Finding(level=Level.ADVISE, subject=stack("names"), summary="The time to live is below a minute."),
)
DRIFT = (
    Drift(
        address=group("databases"),
        target="db1.dc1",
        what="postgresql : write the configuration",
        before=CONFIG.format(connections=100, senders=5),
        after=CONFIG.format(connections=120, senders=5),
    ),
)


def plan() -> Plan:
    return Plan(
        estate="two-sites",
        environment="production",
        purpose=Purpose.APPLY,
        inputs=Inputs(documents={"estate.yaml": "1"}, content={}, inventory="i", states={}, engines={}, selection=()),
        changes=FIRST,
        waves=FIRST_WAVES,
        deferred=(
            Deferred(
                address=stack("names"),
                waits_for=(group("edges"),),
                why="needs an output of stack/dc1-servers",
                expected=(),
                envelope=Envelope(content="c", at_most=4, unknown=("edge",), actions=(Action.CREATE,)),
            ),
        ),
        drift=DRIFT,
        findings=FINDINGS,
        complete=True,
        errored=False,
        beside=Beside(commit="c0ffee" * 6 + "c0ff", ref="main", worktree=False, created_at=NOON),
    )


def check(name: str, what: str, verdict: Verdict = Verdict.PASSED, message: str = "") -> CheckResult:
    return CheckResult(
        host=name,
        suite="verify/database/test_database.py",
        check=what,
        verdict=verdict,
        seconds=0.4,
        message=message,
    )


CHECKS = tuple(
    check(name, what)
    for name in ("db1.dc1", "db2.dc1", "db1.dc2")
    for what in ("is_running", "answers_queries", "replicates")
)


def approval(who: str, number: int) -> UsedApproval:
    permission = Permission(
        estate="two-sites",
        environment="production",
        digest=plan().digest,
        not_after=NOON + timedelta(hours=8),
        nonce=f"{number:032x}",
    )
    return UsedApproval(principal=who, permission=permission, signature="armored", key=KEY)


def used(who: str, number: int) -> ApprovalUsed:
    return ApprovalUsed(principal=who, nonce=f"{number:032x}", not_after=at(28800), rule="2 of role approver")


def landed(one: Change, seconds: float, **more: object) -> Outcome:
    fields = {
        "key": one.key,
        "address": one.address,
        "fate": Fate.LANDED,
        "changed": len(one.steps),
        "seconds": seconds,
        "touched": True,
        **more,
    }
    return Outcome(**fields)  # type: ignore[arg-type]


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def step(round_: int, one: Outcome, began: float, ended: float | None, attempt: int = 1) -> StepRecord:
    from ismgr_automation.converge.report import outcome_json

    return StepRecord(
        unit=Unit(run=RUN, round=round_, key=one.key, attempt=attempt),
        executor="runner1-4711-a1b2c3",
        token=12,
        started_at=at(began),
        finished_at=at(ended) if ended is not None else None,
        outcome=outcome_json(one) if ended is not None else None,
    )


def started(glass: BreakGlass | None = None, approvals: tuple[UsedApproval, ...] = ()) -> RunStarted:
    return RunStarted(
        estate="two-sites",
        digest=plan().digest,
        purpose="apply",
        commit=plan().beside.commit,
        holder=ADA,
        token=12,
        changes=4,
        deferred=1,
        approvals=approvals,
        break_glass=glass,
        version="0.1.0",
    )


def story(
    outcomes: Sequence[tuple[int, Outcome, float, float | None]],
    entries: Sequence[tuple[float, Entry]],
    *,
    report: Report | None,
    state: RunState,
    proof: Proof,
    rounds: tuple[Round, ...],
) -> Story:
    made = plan()
    lines, head = [], EMPTY
    for seconds, entry in entries:
        more, head = follow(head, "production", RUN, [entry.at(at(seconds))])
        lines += more
    run = Run(
        id=RUN,
        estate="two-sites",
        environment="production",
        digest=made.digest,
        purpose="apply",
        commit=made.beside.commit,
        plan=write(made),
        token=12,
        holder=ADA,
        started_at=NOON,
        state=state,
        finished_at=at(report.seconds) if report is not None else None,
        report=report_json(report) if report is not None else None,
    )
    return Story(
        run=run,
        plan=made,
        rounds=rounds,
        steps=tuple(step(*one) for one in outcomes),
        records=tuple(map(parse, lines)),
        proof=replace(proof, head=head.digest),
        now=at(900),
    )


ROUNDS = (
    Round(number=1, changes=tuple(map(change_json, FIRST)), waves=FIRST_WAVES),
    Round(number=2, changes=tuple(map(change_json, SECOND)), waves=SECOND_WAVES),
)


def done() -> Story:
    """Everything landed, two people signed."""
    names, moments = (*FIRST, *SECOND), ((0.8, 42.5), (0.9, 31.0), (45, 121.5), (123, 255), (262, 301), (302.5, 309))
    outcomes = [
        (1 if number < len(FIRST) else 2, landed(one, end - began, checks=CHECKS if number == 3 else ()), began, end)
        for number, (one, (began, end)) in enumerate(zip(names, moments, strict=True))
    ]
    entries: list[tuple[float, Entry]] = [
        (0.1, started(approvals=(approval("ben@example.org", 1), approval("cleo@example.org", 2)))),
        *((0.2, used(who, number)) for number, who in enumerate(("ben@example.org", "cleo@example.org"), start=1)),
        (0.3, LeaseChanged(fate=LeaseFate.TAKEN, name="two-sites/production", token=12, holder=ADA)),
        (0.4, RoundOpened(round=1, waves=FIRST_WAVES, changes="sha256:22")),
    ]  # fmt: skip
    for round_, one, began, end in outcomes:
        entries.append((began, Intent(round=round_, key=one.key, address=one.address, action="configure")))
        entries.append((end, Ended(round=round_, key=one.key, address=one.address, fate="landed", changed=one.changed)))
    entries.append((256, Verified(subject=group("databases"), passed=9)))
    entries.append((310, RunClosed(state=RunState.DONE, exit_code=0, landed=6, signed=True)))
    report = Report(
        run=RUN,
        digest=plan().digest,
        outcomes=tuple(one for _round, one, _began, _end in outcomes),
        checks=CHECKS,
        rounds=2,
        seconds=310.0,
    )
    proof = Proof(whole=True, closed=True, signed_by="runner1@example.org", anchored=True)
    return story(outcomes, entries, report=report, state=RunState.DONE, proof=proof, rounds=ROUNDS)


def stopped(glass: BreakGlass | None = None) -> Story:
    """A wave failed: what landed stays, the rest was never begun."""
    failure = Outcome(
        key=FIRST[2].key,
        address=FIRST[2].address,
        fate=Fate.FAILED,
        changed=2,
        seconds=76.5,
        summary="db1.dc1: postgresql : restart when needed failed: Job for postgresql@15-main.service failed\n"
        "FATAL:  could not map anonymous shared memory: Cannot allocate memory",
        touched=True,
        unplanned=("db1.dc1: postgresql : create the cluster changed, and was not in the plan",),
        leftovers=("db1.dc1 pid 2231: /usr/lib/postgresql/15/bin/pg_ctl start",),
        troubled=("db1.dc1",),
        applied=(task("db1.dc1", "postgresql : create the cluster", None, {"cluster": "15/main"}),),
    )
    bad = (
        check("db1.dc1", "is_running", Verdict.FAILED, "assert service.is_running\nE  assert False\n  " + "x" * 300),
        *CHECKS[1:3],
    )
    rest = Outcome(key=FIRST[3].key, address=FIRST[3].address, fate=Fate.NOT_STARTED)
    begun = [
        (1, landed(FIRST[0], 41.7), 0.8, 42.5),
        (1, landed(FIRST[1], 30.1), 0.9, 31.0),
        (1, failure, 45.0, 121.5),
    ]
    report = Report(
        run=RUN,
        digest=plan().digest,
        outcomes=(*(one for _round, one, _began, _end in begun), rest),
        checks=bad,
        rounds=1,
        seconds=122.0,
        stopped="the failure budget of 0 is spent: group/databases#1 failed",
        waiting=plan().deferred,
        rest="{}",
        warnings=("the records of this run are not signed: The agent is gone.",),
    )
    entries = [
        (0.1, started(glass, (approval("ben@example.org", 1),))),
        (45.0, Intent(round=1, key=failure.key, address=failure.address, action="configure")),
        (50.0, Noticed(level=Level.DENY, subject=group("databases"), summary="The budget is spent.")),
        (121.5, Ended(round=1, key=failure.key, address=failure.address, fate="failed", summary=failure.summary)),
        (122.0, RunClosed(state=RunState.STOPPED, exit_code=5, landed=2, failed=1, not_started=1)),
    ]
    proof = Proof(whole=True, closed=True, remarks=("run was closed without a signature",))
    return story(begun, entries, report=report, state=RunState.STOPPED, proof=proof, rounds=ROUNDS[:1])


def glass() -> Story:
    """One person alone let it pass."""
    return stopped(BreakGlass(by="ben@example.org", reason="INC-4711: the edge of dc1 answers nobody"))


def running() -> Story:
    """It has begun, and nobody knows how it goes on."""
    begun = [
        (1, landed(FIRST[0], 41.7), 0.8, 42.5),
        (1, landed(FIRST[1], 30.1), 0.9, 31.0),
        (1, landed(FIRST[2], 1.0), 45.0, None),
    ]
    entries = [
        (0.1, started()),
        (45.0, Intent(round=1, key=FIRST[2].key, address=FIRST[2].address, action="configure")),
    ]
    proof = Proof(whole=False, closed=False, problems=("record #2 does not hold the digest of the line before it",))
    return story(begun, entries, report=None, state=RunState.RUNNING, proof=proof, rounds=ROUNDS[:1])
