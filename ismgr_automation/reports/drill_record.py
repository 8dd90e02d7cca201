"""A drill as a report, the part that is for the record: readings, circumstances, what standards ask for, what people
wrote down, evidence. No markup here, and nothing is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ismgr_automation.recovery.clauses import CLAUSES, Case, Coverage, Held
from ismgr_automation.recovery.coverage import coverage, held
from ismgr_automation.recovery.result import DrillResult
from ismgr_automation.recovery.topics import SignRole
from ismgr_automation.reports.drill_views import Cell, Section, Sentence, Table
from ismgr_automation.reports.views import Tone

NOT_KNOWN = "not known"


def readings(one: DrillResult) -> Section:
    """What was seen of members before each move, and who looked at the fence."""
    members = tuple(
        (
            Cell(text=found.at),
            Cell(text=each.host),
            Cell(text=str(each.part)),
            Cell(text="yes" if each.writable else "no"),
            Cell(text="yes" if each.streaming else "no"),
            Cell(text=f"{each.lag_bytes:,}"),
            Cell(text=f"{each.lag_seconds * 1000:.0f}" if each.lag_seconds is not None else "-"),
            Cell(text=str(each.timeline)),
        )
        for found in one.readings
        for each in found.standings
    )
    heads = ("before", "member", "role", "writable", "streaming", "lag (bytes)", "age (ms)", "timeline")
    numbers = frozenset({"lag (bytes)", "age (ms)", "timeline"})
    tables = [Table(heads=heads, rows=members, numbers=numbers)] if members else []
    looks = tuple(
        (
            Cell(text=each.leg),
            Cell(text=each.by),
            Cell(text="confirmed" if each.ok else "not confirmed", tone=tone_of(each.ok)),
            Cell(text=f"{each.at_ms:.1f}"),
            Cell(text=each.words),
        )
        for each in one.confirmations
    )
    if looks:
        seen = ("move", "by", "fence", "at (ms)", "says")
        tables.append(Table(heads=seen, rows=looks, numbers=frozenset({"at (ms)"}), name="Who looked at the fence"))
    steady = {
        True: "Every write was acknowledged before anything was done.",
        False: "The service was not steady before.",
    }
    return Section(
        anchor="readings",
        title="Readings",
        sentences=(Sentence(text=steady[one.steady]),) if one.steady is not None else (),
        tables=tuple(tables),
    )


def elsewhere(one: DrillResult) -> tuple[Section, ...]:
    """What a drill in isolation, or one on paper, was besides."""
    found: list[Section] = []
    if one.isolation is not None:
        apart = one.isolation
        counts = (
            ("Packets that got out", apart.passed_out),
            ("Packets that got in", apart.passed_in),
            ("Packets that were dropped on the way out", apart.dropped_out),
            ("Longest gap in production (ms)", apart.longest_gap_ms),
            ("Writes in production that failed", apart.errors),
            ("Rows that the clone must have", apart.expected_rows),
            ("Rows that it has", apart.held_rows),
            ("All of it took (ms)", apart.took_ms),
        )
        known = facts((name, f"{count:g}" if count is not None else "") for name, count in counts)
        checks = tuple(
            (
                Cell(text=each.name),
                Cell(text="good" if each.ok else "bad", tone=tone_of(each.ok)),
                Cell(text=each.words),
            )
            for each in apart.checks
        )
        tables = (known, Table(heads=("check", "result", "says"), rows=checks)) if checks else (known,)
        found.append(Section(anchor="isolation", title="In isolation", tables=tables))
    if one.table is not None:
        seats = tuple(
            (Cell(text=each.step), Cell(text=each.person), Cell(text=str(each.answer)), Cell(text=each.remark))
            for each in one.table.seats
        )
        table = Table(heads=("step", "person", "answer", "remark"), rows=seats)
        found.append(Section(anchor="table", title="On paper", tables=(table,)))
    return tuple(found)


def circumstances(one: DrillResult) -> Section:
    """Who took part, what was drilled, what it stands for, and with what."""
    people, extent, scenario = one.people, one.extent, one.scenario
    lists = (
        ("Planned by", people.planned),
        ("Approved by", people.approved),
        ("Run by", people.ran),
        ("Systems", extent.hosts),
        ("Groups", extent.groups),
        ("Sites", extent.sites),
        ("Data classes", extent.data_classes),
        ("Criticality", (f"tier {extent.tier}",) if extent.tier is not None else ()),
        ("Threat", (scenario.threat,)),
        ("Severity", (scenario.severity,)),
        ("Assumptions", scenario.assumptions),
        ("Third parties", scenario.third_parties),
        ("Left out", scenario.left_out),
        ("Business impact analysis", (scenario.bia,)),
        ("Tools", tuple(f"{name} {version}" for name, version in one.tools.items())),
    )
    known = ((name, ", ".join(filter(None, values))) for name, values in lists)
    return Section(anchor="circumstances", title="People, scope, scenario, tools", tables=(facts(known),))


def standards(case: Case) -> Section:
    """What the record has of what standards ask for."""
    found, fields = coverage(case), held(case)
    marks = Table(
        heads=("standard", "mark", "fields", "missing"), rows=tuple(map(_mark, found)), numbers=frozenset({"fields"})
    )
    rows = tuple((Cell(text=str(one.field)), _state(one), Cell(text=_clauses(one))) for one in fields)
    return Section(
        anchor="standards",
        title="What standards ask for",
        sentences=(
            Sentence(text="Whether the record holds what a clause asks to be on record; not whether it is met."),
            Sentence(text="The mark is withheld where anything that a standard asks for is missing."),
        ),
        tables=(marks, Table(heads=("field", "here", "asked for by"), rows=rows, name="Field by field")),
    )


def findings(case: Case) -> Section:
    """What people wrote down afterwards."""
    rows = tuple(
        (
            Cell(text=one.text),
            Cell(text=one.cause or NOT_KNOWN),
            Cell(text=one.owner),
            Cell(text=f"{one.due:%Y-%m-%d}"),
            Cell(text=f"{one.at:%Y-%m-%d} by {one.by}"),
        )
        for one in case.findings
    )
    stated = tuple(
        (
            Cell(text=str(one.topic)),
            Cell(text=one.text),
            Cell(text=one.person),
            Cell(text=f"{one.at:%Y-%m-%d} by {one.by}"),
        )
        for one in case.statements
    )
    tables = []
    if rows:
        tables.append(Table(heads=("finding", "cause", "owner", "due", "written down"), rows=rows))
    if stated:
        heads = ("about", "says", "person", "written down")
        tables.append(Table(heads=heads, rows=stated, name="What people state"))
    words = "Written down after the drill: records of their own in the evidence, beside that of the result."
    return Section(
        anchor="findings",
        title="Findings, and what people state",
        sentences=(Sentence(text=words),) if tables else (Sentence(text="Nobody wrote anything down yet."),),
        tables=tuple(tables),
    )


def evidence(case: Case, digest: str) -> Section:
    """What the chain of evidence says of it, and how to ask it."""
    seal, run, environment = case.seal, case.result.run, case.result.environment
    if seal.recorded:
        first = Sentence(text="The chain of evidence holds the digest of this result.", word="recorded", tone=Tone.GOOD)
    else:
        words = seal.trouble or "The chain of evidence is not whole, or does not hold the digest of this result."
        first = Sentence(text=words, word="not proven", tone=Tone.BAD)
    signed = Sentence(text=f"The end of the run is signed by {seal.signed_by}.", word="signed", tone=Tone.GOOD)
    unsigned = Sentence(text="No runner has signed the end of the run.", word="not signed", tone=Tone.WARN)
    return Section(
        anchor="evidence",
        title="Evidence",
        sentences=(
            first,
            signed if seal.signed_by else unsigned,
            *_signed_off(case),
            Sentence(text=f"Digest of the result: {digest}"),
        ),
        commands=(f"ismgr -e {environment} audit verify", f"ismgr -e {environment} audit export {run} --out {run}.zip"),
    )


def _signed_off(case: Case) -> Iterator[Sentence]:
    """Who signed it off, what of that is void and why, and for whom nobody did."""
    for one in case.sign_offs:
        words = f"{one.person} signed it off as {one.sign_off.role}, {one.sign_off.at:%Y-%m-%d %H:%M} UTC"
        if one.counts:
            yield Sentence(text=f"{words}.", word="signed off", tone=Tone.GOOD)
        else:
            yield Sentence(text=f"{words}; that is void: {one.void}.", word="void", tone=Tone.BAD)
    counting = {one.sign_off.role for one in case.sign_offs if one.counts}
    for role in SignRole:
        if role not in counting:
            yield Sentence(text=f"Nobody has signed it off as {role}.", word="missing", tone=Tone.WARN)


def facts(pairs: Iterable[tuple[str, str]], name: str = "") -> Table:
    """Names with what is known of them; what is empty is said not to be known."""
    rows = tuple((Cell(text=key), Cell(text=value or NOT_KNOWN)) for key, value in pairs)
    return Table(heads=("what", "value"), rows=rows, name=name)


def tone_of(good: bool) -> Tone:
    """How a yes or no is to be taken."""
    return Tone.GOOD if good else Tone.BAD


def _mark(one: Coverage) -> tuple[Cell, ...]:
    word = Cell(text="complete", tone=Tone.GOOD) if one.complete else Cell(text="withheld", tone=Tone.WARN)
    missing = "; ".join(", ".join(each.missing) for each in one.missing)
    whole = len(one.covered) + len(one.missing)
    return (Cell(text=str(one.standard)), word, Cell(text=f"{len(one.covered)} of {whole}"), Cell(text=missing or "-"))


def _state(one: Held) -> Cell:
    if not one.asked:
        return Cell(text="no place in such a drill", tone=Tone.CALM)
    if one.covered:
        return Cell(text="covered", tone=Tone.GOOD)
    return Cell(text=f"missing: {', '.join(one.missing)}", tone=Tone.WARN)


def _clauses(one: Held) -> str:
    return "; ".join(f"{standard} {', '.join(clauses)}" for standard, clauses in CLAUSES[one.field].items())
