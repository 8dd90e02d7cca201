"""A run as a page: what stands in which section, in words and numbers. No markup here, and nothing is read."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, timedelta

from ismgr_automation.converge.report import Fate
from ismgr_automation.core.json import JsonObject
from ismgr_automation.evidence.chain import Kind
from ismgr_automation.evidence.telling import holder, items, number, part, parts, text, told
from ismgr_automation.planning.change import Action, Certainty, Level, Step
from ismgr_automation.ports.runs import RunState
from ismgr_automation.ports.signing import fingerprint
from ismgr_automation.reports.differences import difference
from ismgr_automation.reports.story import Story, Told
from ismgr_automation.reports.timeline import anchor, clock, span, ticks, wave_groups, waves
from ismgr_automation.reports.views import (
    FATES,
    ChangeView,
    Page,
    RecordView,
    Said,
    Signer,
    StepView,
    Suite,
    Tile,
    Tone,
)

MOST_STEPS = 200
"""Steps of one change that are shown."""
LEVELS = {Level.ADVISE: Tone.CALM, Level.WARN: Tone.WARN, Level.DENY: Tone.BAD}
SIGNS = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.REPLACE: "\N{PLUS-MINUS SIGN}",
    Action.DELETE: "-",
    Action.CONFIGURE: "~",
}


def compose(story: Story) -> Page:
    """The page of a run."""
    tone, verdict, lead = _verdict(story)
    run = story.run
    return Page(
        title=f"{run.estate} / {run.environment}",
        verdict=verdict,
        tone=tone,
        lead=lead,
        facts=_facts(story),
        tiles=_tiles(story),
        break_glass=_break_glass(story),
        stopped=text(story.report, "stopped"),
        ticks=ticks(story),
        waves=waves(story),
        changes=tuple(map(_change, story.changes)),
        findings=_findings(story),
        drift=_drift(story),
        signers=_signers(story),
        failed_checks=_failed_checks(story),
        suites=_suites(story),
        left=_left(story),
        next_steps=_next_steps(story),
        proof=_proof(story),
        records=tuple(
            RecordView(sequence=one.sequence, at=clock(one.at), kind=str(one.kind), summary=told(one))
            for one in story.records
        ),
        made=f"{story.now.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
    )


def _plural(count: float, noun: str) -> str:
    return f"{count:g} {noun}{'' if count == 1 else 's'}"


_DONE = {"destroy": "Destroyed", "patch": "Patched", "rollback": "Rolled back"}
"""What has happened, by what a run was for."""


def _verdict(story: Story) -> tuple[Tone, str, str]:
    fates = Counter(one.outcome.fate for one in story.changes)
    landed, whole = fates[Fate.LANDED], len(story.changes)
    did = f"{landed} of {_plural(whole, 'change')} landed"
    word = _DONE.get(story.run.purpose, "Applied")
    effect = landed or fates[Fate.UNKNOWN] or any(one.outcome.touched for one in story.changes)
    match story.run.state:
        case RunState.DONE:
            return Tone.GOOD, word, f"Everything that was planned is done: {did}."
        case RunState.CANCELLED:
            return Tone.WARN, "Cancelled", f"Somebody stopped it: {did}. What landed stays."
        case RunState.RUNNING:
            return Tone.WARN, "Not finished", f"It is going on, or its process died and it waits to be resumed: {did}."
        case RunState.STOPPED:
            if effect:
                return Tone.BAD, "Stopped, partly applied", f"{did[0].upper()}{did[1:]}. What landed stays."
            return Tone.BAD, "Stopped, nothing applied", "It ended before anything was changed."


def _facts(story: Story) -> tuple[tuple[str, str], ...]:
    run = story.run
    facts = {
        "Run": run.id,
        "Plan": run.digest,
        "Commit": run.commit,
        "By": str(run.holder),
        "Began": f"{run.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "Ended": f"{run.finished_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if run.finished_at else "it has not",
        "Exit code": f"{number(story.report, 'exit_code'):g}" if story.report else "none yet",
    }
    again = [("Resumed", f"{clock(one.at)} by {holder(one.body)}") for one in story.of(Kind.RESUMED)]
    return (*facts.items(), *again)


def _tiles(story: Story) -> tuple[Tile, ...]:
    changes = story.changes
    landed = sum(one.outcome.fate is Fate.LANDED for one in changes)
    checks = Counter(text(one, "verdict") for one in parts(story.report, "checks"))
    made = checks.total() - checks["skipped"]
    hosts = {host for one in changes for host in one.targets}
    approvals = len(_signers(story))
    proof = story.proof
    glass = _break_glass(story) is not None
    evidence = "broken" if not proof.whole else "signed" if proof.signed_by else "not signed"
    return (
        Tile(
            label="Changes landed",
            value=f"{landed} of {len(changes)}",
            note=f"{_plural(sum(one.outcome.changed for one in changes), 'thing')} changed",
            tone=Tone.GOOD if landed == len(changes) else Tone.BAD,
        ),
        Tile(
            label="Checks passed",
            value=f"{checks['passed']} of {made}" if made else "none made",
            note="the health gate of each wave" if made else "no suite covers what was changed",
            tone=Tone.CALM if not made else Tone.GOOD if checks["passed"] == made else Tone.BAD,
        ),
        Tile(label="Hosts", value=str(len(hosts)), note=_plural(len(wave_groups(story)), "wave")),
        Tile(label="Took", value=span(story.until - story.run.started_at), note=f"began {clock(story.run.started_at)}"),
        Tile(
            label="Approvals",
            value="break-glass" if glass else str(approvals),
            note="one person alone" if glass else "used once, by this run" if approvals else "none were asked for",
            tone=Tone.BAD if glass else Tone.GOOD if approvals else Tone.CALM,
        ),
        Tile(
            label="Evidence",
            value=evidence,
            note=f"{len(story.records)} records" + (", anchored" if proof.anchored else ", not anchored"),
            tone=Tone.BAD if not proof.whole else Tone.GOOD if proof.signed_by else Tone.WARN,
        ),
    )


def _break_glass(story: Story) -> tuple[str, str] | None:
    for record in story.of(Kind.RUN_STARTED):
        glass = part(record.body, "break_glass")
        if glass:
            return text(glass, "by"), text(glass, "reason")
    return None


def _change(one: Told) -> ChangeView:
    tone, word = FATES[one.outcome.fate]
    outcome = one.outcome
    unit = "task" if one.targets else "resource"
    facts = [_plural(len(one.planned), f"planned {unit}"), f"{outcome.changed} changed"]
    facts += [_plural(len(one.targets), "host")] if one.targets else []
    facts += [span(timedelta(seconds=outcome.seconds))] if outcome.seconds else []
    facts += [f"attempt {one.attempt}"] if one.attempt > 1 else []
    notes = {
        "Not in the plan": outcome.unplanned,
        "May still be running": outcome.leftovers,
        "Hosts in trouble": outcome.troubled,
        "As they were before": outcome.undone,
        "Turned out not to be needed": outcome.spared,
        "In the words of the engines": tuple(outcome.detail.splitlines()),
    }
    return ChangeView(
        anchor=anchor(one),
        key=one.key,
        action=one.action,
        word=word,
        tone=tone,
        summary=outcome.summary,
        facts=tuple(facts),
        notes=tuple((name, lines) for name, lines in notes.items() if lines),
        planned=tuple(map(_step, one.planned[:MOST_STEPS])),
        applied=tuple(map(_step, outcome.applied[:MOST_STEPS])),
        more=max(len(one.planned) - MOST_STEPS, 0) + max(len(outcome.applied) - MOST_STEPS, 0),
    )


def _step(one: Step) -> StepView:
    unsure = one.certainty is Certainty.UNPREDICTABLE
    return StepView(
        sign=SIGNS[one.action],
        action=str(one.action),
        target=one.target,
        what=one.what,
        where=one.where,
        unsure=f"unpredictable: {one.why}" if unsure else "",
        lines=difference(one.before, one.after),
    )


def _findings(story: Story) -> tuple[Said, ...]:
    planned = [
        Said(
            tone=LEVELS[one.level],
            word=str(one.level),
            subject=str(one.subject),
            summary=one.summary,
            detail=one.next_step,
        )
        for one in (story.plan.findings if story.plan is not None else ())
    ]
    noticed = [_noticed(one.body) for one in story.of(Kind.FINDING)]
    return (*planned, *(one for one in noticed if one not in planned))


def _noticed(body: JsonObject) -> Said:
    level = text(body, "level")
    tone = LEVELS[Level(level)] if level in set(Level) else Tone.WARN
    return Said(
        tone=tone,
        word=level,
        subject=text(body, "subject"),
        summary=text(body, "summary"),
        detail=text(body, "next_step"),
    )


def _drift(story: Story) -> tuple[Said, ...]:
    return tuple(
        Said(
            tone=Tone.WARN,
            word="drift",
            subject=str(one.address),
            summary=f"{one.target}: {one.what}",
            lines=difference(one.before, one.after),
        )
        for one in (story.plan.drift if story.plan is not None else ())
    )


def _signers(story: Story) -> tuple[Signer, ...]:
    rules: dict[str, list[str]] = {}
    for record in story.of(Kind.APPROVAL_USED):
        rules.setdefault(text(record.body, "nonce"), []).append(text(record.body, "rule"))
    found = []
    for record in story.of(Kind.RUN_STARTED):
        for one in parts(record.body, "approvals"):
            permission = part(one, "permission")
            found.append(
                Signer(
                    who=text(one, "principal"),
                    key=fingerprint(text(one, "key")),
                    until=text(permission, "not_after").replace("T", " ").replace("Z", " UTC"),
                    rule="; ".join(rules.get(text(permission, "nonce"), [])),
                )
            )
    return tuple(found)


VERDICTS = {"passed": Tone.GOOD, "failed": Tone.BAD, "error": Tone.BAD, "skipped": Tone.CALM}


def _failed_checks(story: Story) -> tuple[Said, ...]:
    return tuple(
        Said(
            tone=Tone.BAD,
            word=text(one, "verdict"),
            subject=text(one, "host"),
            summary=f"{text(one, 'check')} ({text(one, 'suite')})",
            detail=text(one, "message"),
        )
        for one in parts(story.report, "checks")
        if VERDICTS.get(text(one, "verdict"), Tone.BAD) is Tone.BAD
    )


def _suites(story: Story) -> tuple[Suite, ...]:
    hosts: dict[str, list[JsonObject]] = {}
    for one in parts(story.report, "checks"):
        hosts.setdefault(text(one, "host"), []).append(one)
    found = []
    for host, mine in sorted(hosts.items()):
        verdicts = Counter(text(one, "verdict") for one in mine)
        seconds = sum(number(one, "seconds") for one in mine)
        bad = verdicts.total() - verdicts["passed"] - verdicts["skipped"]
        found.append(
            Suite(
                host=host,
                passed=verdicts["passed"],
                failed=bad,
                skipped=verdicts["skipped"],
                seconds=span(timedelta(seconds=seconds)),
            )
        )
    return tuple(found)


def _left(story: Story) -> tuple[Said, ...]:
    open_ = [
        Said(
            tone=FATES[one.outcome.fate][0],
            word=FATES[one.outcome.fate][1],
            subject=one.key,
            summary=one.outcome.summary,
        )
        for one in story.changes
        if one.outcome.fate is not Fate.LANDED
    ]
    waiting = [
        Said(tone=Tone.CALM, word="deferred", subject=text(one, "address"), summary=text(one, "why"))
        for one in parts(story.report, "waiting")
    ]
    running = [
        Said(tone=Tone.WARN, word="may still run", subject=one.key, summary=line)
        for one in story.changes
        for line in one.outcome.leftovers
    ]
    warned = [
        Said(tone=Tone.WARN, word="warning", subject="", summary=str(one)) for one in items(story.report, "warnings")
    ]
    return (*running, *open_, *waiting, *warned)


def _next_steps(story: Story) -> tuple[tuple[str, str], ...]:
    """What to do, and the command that does it."""
    where = f"-e {story.run.environment}"
    match story.run.state:
        case RunState.DONE:
            return (("See later what somebody changed by hand:", f"ismgr {where} drift"),)
        case RunState.RUNNING:
            return (
                ("See who works on it:", f"ismgr {where} lease"),
                ("When its process is gone, go on:", f"ismgr {where} resume {story.run.id}"),
            )
        case RunState.STOPPED | RunState.CANCELLED:
            again = ("Mend what is named above, then see what is left to do:", f"ismgr {where} plan --out plan.json")
            return (again, ("Have it signed where the environment asks for it, and apply it:", "ismgr apply plan.json"))


def _proof(story: Story) -> tuple[Said, ...]:
    proof = story.proof
    problems = [Said(tone=Tone.BAD, word="broken", subject="", summary=line) for line in proof.problems]
    chain = Said(tone=Tone.GOOD, word="whole", subject="", summary="Each record holds the digest of the one before it.")
    signed = (
        Said(tone=Tone.GOOD, word="signed", subject="", summary=f"The last record is signed by {proof.signed_by}.")
        if proof.signed_by
        else Said(tone=Tone.WARN, word="not signed", subject="", summary="No runner signed the last record.")
    )
    tail = (
        Said(tone=Tone.GOOD, word="anchored", subject="", summary="Its end is remembered outside of the log.")
        if proof.anchored
        else Said(
            tone=Tone.WARN,
            word="tail unproven",
            subject="",
            summary="Its end is remembered nowhere else: records after the last one that is could have been cut off.",
        )
    )
    remarks = [Said(tone=Tone.WARN, word="note", subject="", summary=line) for line in proof.remarks]
    return (*problems, *([chain] if proof.whole else []), signed, tail, *remarks)
