"""A drill as a report: what stands in which section, in words and figures. No markup here, and nothing is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ismgr_automation.ports.recovery import Attempt
from ismgr_automation.recovery.clauses import Case
from ismgr_automation.recovery.result import DrillResult, TaskResult, Verdict
from ismgr_automation.recovery.verdict import late, whole_s
from ismgr_automation.reports import drill_charts as charts
from ismgr_automation.reports import drill_record as record
from ismgr_automation.reports.drill_views import Cell, DrillPage, Section, Sentence, Table
from ismgr_automation.reports.views import Tile, Tone

TONES = {
    Verdict.PASSED: Tone.GOOD,
    Verdict.FAILED: Tone.BAD,
    Verdict.INVALID: Tone.WARN,
    Verdict.ABORTED: Tone.WARN,
    Verdict.SKIPPED: Tone.CALM,
}
LEADS = {
    Verdict.PASSED: "Every objective was reached, and all is as it was before.",
    Verdict.FAILED: "An objective was missed, or not all is as it was before.",
    Verdict.INVALID: "It proves nothing: what was measured cannot be relied on.",
    Verdict.ABORTED: "It was broken off.",
    Verdict.SKIPPED: "It was due, and was not begun.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a report is made of. ``digest`` is that of the result as it is kept; ``made`` is when, None in a copy that
    must be the same each time."""

    case: Case
    attempts: Sequence[Attempt]
    digest: str
    made: datetime | None = None

    @property
    def result(self) -> DrillResult:
        """What was measured."""
        return self.case.result


def compose(told: Told) -> DrillPage:
    """The report of a drill."""
    one = told.result
    return DrillPage(
        title=f"{one.estate} / {one.environment}: {one.mode} drill of {one.plan}",
        verdict=str(one.verdict).capitalize(),
        tone=TONES[one.verdict],
        lead=" ".join(filter(None, [LEADS[one.verdict], _way(one)])),
        reasons=one.reasons,
        tiles=tuple(_tiles(told.case)),
        sections=(
            _drill(one),
            _verdicts(one),
            _client(told),
            _time(one),
            _point(one),
            _trend(told.case),
            _steps(one),
            record.readings(one),
            *record.elsewhere(one),
            record.circumstances(one),
            record.standards(told.case),
            record.findings(told.case),
            record.evidence(told.case, told.digest),
        ),
        made=f"on {told.made:%Y-%m-%d %H:%M} UTC " if told.made is not None else "",
    )


def _way(one: DrillResult) -> str:
    """Where it went; empty for one that was never begun."""
    if one.verdict is Verdict.SKIPPED:
        return ""
    if one.isolation is not None:
        return f"A clone of {one.isolation.source} on {one.isolation.spare}, apart from everybody."
    if one.table is not None:
        return f"On paper, by {', '.join(one.table.people)}."
    if one.restore is not None:
        return f"From a backup on {one.restore.host}, beside the service."
    return f"{one.home} → {one.away} → {one.home}."


def _tiles(case: Case) -> Iterator[Tile]:
    one = case.result
    first = one.outages[0] if one.outages else None
    met = _met(case)
    yield Tile(
        label="Client's outage",
        value=first.figure if first is not None else "not measured",
        note="; ".join([f"objective {_seconds(one.goals.rto)}", *_later(one)]),
        tone=met["RTO"],
    )
    writes = one.writes
    yield Tile(
        label="Lost writes",
        value=f"{writes.lost} of {writes.acked}" if writes is not None else "not counted",
        note=f"objective {_seconds(one.goals.rpo)}",
        tone=met["RPO"],
    )
    unknown = writes.unknown_held + writes.unknown_gone if writes is not None else None
    yield Tile(
        label="Outcome unknown", value=record.NOT_KNOWN if unknown is None else str(unknown), note="writes, set apart"
    )
    alone = one.without_redundancy_s
    yield Tile(label="Without redundancy", value=f"{alone:.1f} s" if alone is not None else "not measured")
    label = "Until all was as before" if one.outages else "All of it took"
    yield Tile(label=label, value=f"{_took(one):.0f} s", note=f"tolerable {_seconds(one.goals.mtd)}", tone=met["MTD"])
    load = one.load_average
    yield Tile(
        label="Load", value=f"{load[0]:.1f}" if load is not None else "not read", note="of the machine that measured"
    )


def _met(case: Case) -> dict[str, Tone]:
    """Whether each objective was reached, by its name; calm where there is none, or nothing was measured."""
    one, goals = case.result, case.result.goals
    found = dict.fromkeys(("RTO", "RPO", "MTD"), Tone.CALM)
    writes = one.writes
    if one.outages and goals.rto is not None:
        found["RTO"] = record.tone_of(not late(goals, one.outages))
    if writes is not None and goals.rpo is not None:
        found["RPO"] = record.tone_of(not writes.lost or (goals.rpo > 0 and writes.lost_span_ms <= goals.rpo * 1000))
    if goals.mtd is not None:
        found["MTD"] = record.tone_of(_took(one) <= goals.mtd)
    return found


def _later(one: DrillResult) -> Iterator[str]:
    """The moves after the first that missed the RTO, whose figures stand nowhere else at the top."""
    return (f"missed by {each.leg}, {each.figure}" for each in late(one.goals, one.outages[1:]))


def _took(one: DrillResult) -> float:
    """In seconds: the recovery, where there was one; else all of it."""
    return whole_s(one.tasks) if one.outages else (one.ended_at - one.began_at).total_seconds()


def _seconds(figure: float | None) -> str:
    return f"{figure:g} s" if figure is not None else "none"


def _drill(one: DrillResult) -> Section:
    facts = (
        ("Run", one.run),
        ("Plan", f"{one.plan}, of service {one.service}"),
        ("Mode", str(one.mode)),
        ("Commit", one.commit),
        ("Digest of what was planned", one.digest),
        ("Began", f"{one.began_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Ended", f"{one.ended_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Resumed", f"{one.resumed} times" if one.resumed else "never"),
    )
    return Section(anchor="drill", title="The drill", tables=(record.facts(facts),))


def _verdicts(one: DrillResult) -> Section:
    rows = tuple((Cell(text=part), Cell(text=str(found), tone=TONES[found])) for part, found in one.verdicts.items())
    return Section(
        anchor="verdicts",
        title="Verdicts",
        sentences=tuple(Sentence(text=why, word="why", tone=TONES[one.verdict]) for why in one.reasons)
        or (Sentence(text="Nothing stands against it."),),
        tables=(Table(heads=("part", "verdict"), rows=rows),),
    )


def _client(told: Told) -> Section:
    one = told.result
    drawings = [charts.client(one, outage, told.attempts) for outage in one.outages]
    method = one.method
    sentences = [Sentence(text=f"{outage.leg}: clients waited {outage.figure}.") for outage in one.outages]
    if not one.outages:
        sentences.append(Sentence(text="No outage was measured.", word="missing", tone=Tone.WARN))
    elif not any(drawings):
        words = "The client's log is not on this machine any more, or does not reach so far: nothing can be drawn."
        sentences.append(Sentence(text=words))
    if method is not None:
        sentences.append(
            Sentence(
                text=f"Measured by {method.client} at {', '.join(method.endpoints)}, one every {method.every_ms:g} ms, "
                f"by {method.clock}; ± is how far a figure may be off."
            )
        )
    return Section(
        anchor="client",
        title="What the client saw",
        sentences=tuple(sentences),
        drawings=tuple(drawing for drawing in drawings if drawing is not None),
    )


def _time(one: DrillResult) -> Section:
    falls = [found for outage in one.outages if (found := charts.fall(outage)) is not None]
    wrong = [outage for outage in one.outages if outage.waterfall and not outage.explained]
    return Section(
        anchor="time",
        title="Where the time went",
        sentences=tuple(
            Sentence(text=f"{outage.leg}: the steps do not explain all of it.", word="unexplained", tone=Tone.WARN)
            for outage in wrong
        )
        if falls
        else (Sentence(text="No outage was cut into steps."),),
        drawings=tuple(falls),
    )


def _point(one: DrillResult) -> Section:
    found, lag = one.writes, charts.lag(one)
    if found is None:
        return Section(
            anchor="writes",
            title="Lost writes, and the lag beside them",
            sentences=(Sentence(text="Lost writes were not counted.", word="missing", tone=Tone.WARN),),
            drawings=(lag,) if lag is not None else (),
        )
    rows = (
        ("written", found.written, None),
        ("acknowledged", found.acked, None),
        ("acknowledged and lost", found.lost, Tone.BAD if found.lost else Tone.GOOD),
        ("refused", found.failed, None),
        ("of unknown outcome, there", found.unknown_held, None),
        ("of unknown outcome, not there", found.unknown_gone, None),
        ("refused, and there all the same", found.contradictions, Tone.BAD if found.contradictions else None),
    )
    table = Table(
        heads=("writes", "count"),
        rows=tuple((Cell(text=name), Cell(text=str(count), tone=tone)) for name, count, tone in rows),
        numbers=frozenset({"count"}),
    )
    span = f"The lost ones were written within {found.lost_span_ms:.0f} ms."
    return Section(
        anchor="writes",
        title="Lost writes, and the lag beside them",
        sentences=(Sentence(text=span, word="lost", tone=Tone.BAD),) if found.lost else (),
        tables=(table,),
        drawings=(lag,) if lag is not None else (),
    )


def _trend(case: Case) -> Section:
    found = case.trend
    drawing = charts.line(found)
    first, *rest = found.words
    word, tone = ("worse", Tone.BAD) if found.worse else ("trend", Tone.CALM)
    rows = tuple(
        (
            Cell(text=one.run),
            Cell(text=str(one.verdict), tone=TONES[one.verdict]),
            Cell(text=f"{one.rto_ms:.0f} ± {max(1.0, one.resolution_ms):.0f} ms" if one.rto_ms is not None else "-"),
            Cell(text=str(one.lost) if one.lost is not None else "-"),
            Cell(text=f"{one.load:.1f}" if one.load is not None else "-"),
        )
        for one in reversed(found.points)
    )
    return Section(
        anchor="trend",
        title="Beside the drills before it",
        sentences=(
            Sentence(text=first, word=word, tone=tone),
            *(Sentence(text=one) for one in rest),
            *((Sentence(text=f"The next one is due: {case.seal.next_due}."),) if case.seal.next_due else ()),
        ),
        drawings=(drawing,) if drawing is not None else (),
        tables=(
            Table(
                heads=("run", "verdict", "outage", "lost", "load"),
                rows=rows,
                numbers=frozenset({"outage", "lost", "load"}),
            ),
        ),
    )


def _steps(one: DrillResult) -> Section:
    rows = tuple(
        (
            Cell(text=task.leg),
            Cell(text=task.name),
            Cell(text=task.action),
            Cell(text=f"{task.began_ms:.1f}"),
            Cell(text=f"{task.ended_ms - task.began_ms:.1f}"),
            _fate(task),
            Cell(text=task.words),
        )
        for task in one.tasks
    )
    return Section(
        anchor="steps",
        title="Steps",
        sentences=() if rows else (Sentence(text="No step was begun."),),
        tables=(
            Table(
                heads=("move", "step", "action", "began (ms)", "took (ms)", "result", "says"),
                rows=rows,
                numbers=frozenset({"began (ms)", "took (ms)"}),
            ),
        )
        if rows
        else (),
    )


def _fate(task: TaskResult) -> Cell:
    if task.rule:
        return Cell(text=f"refused by {task.rule}", tone=Tone.WARN)
    if not task.ok:
        return Cell(text="failed", tone=Tone.BAD)
    return Cell(text="was done already" if task.found else "done", tone=Tone.GOOD)
