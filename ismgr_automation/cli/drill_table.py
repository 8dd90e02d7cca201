"""`ismgr drill tabletop`: people walk through the runbook of a recovery plan, and what they say is kept as a drill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.apply import held, waiting
from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref, Wait, Worktree
from ismgr_automation.cli.plan import opened
from ismgr_automation.core.errors import ExitCode, InputError, SettingsError
from ismgr_automation.estate.drill_mode import DrillMode

if TYPE_CHECKING:
    from ismgr_automation.recovery.runbook import PaperStep, Runbook
    from ismgr_automation.recovery.tabletop import Said

EPILOG = """Examples:

  ismgr drill tabletop records --people "ada,bob"                  asks for each step of the runbook

  ismgr drill tabletop records --people "ada,bob" --notes day.yaml takes what was written down at the table

Notes are a list below `steps`, one for each step: `{step: failover/fence, person: ada, began: 2026-11-27T09:00:00Z,
ended: 2026-11-27T09:04:00Z, outcome: done, remark: ""}`. Outcomes are done, note (it can be done, and something must
change) and not-possible; the last two want a remark.

Exit codes: 0 every step could be done, 6 one could not, or the walk was broken off, 1 notes do not hold together.
"""

Plan = Annotated[str, typer.Argument(metavar="PLAN", help="The name of a RecoveryPlan.")]
Mode = Annotated[DrillMode, typer.Option("--mode", help="Which runbook is walked through.")]
People = Annotated[str, typer.Option("--people", metavar="NAMES", help="Who takes part, with commas between.")]
Notes = Annotated[
    Path | None, typer.Option("--notes", metavar="FILE", help="What was written down, as YAML.", dir_okay=False)
]

ANSWERS = "d/n/x/q"


def tabletop(
    ctx: typer.Context,
    name: Plan,
    people: People,
    mode: Mode = DrillMode.FAILOVER,
    notes: Notes = None,
    ref: Ref = "HEAD",
    worktree: Worktree = False,
    wait: Wait = None,
) -> int:
    """Walk through the runbook on paper, and keep who said what of which step, and when. No machine is touched."""
    from ismgr_automation.cli.drill_views import show_result
    from ismgr_automation.converge.run import new_name
    from ismgr_automation.recovery.result import Verdict, result_json
    from ismgr_automation.recovery.tabletop import exercise

    face: Face = ctx.obj
    names = tuple(filter(None, (one.strip() for one in people.split(","))))
    with opened(face, ref, worktree=worktree) as estate:
        book = estate.runbook(name, mode)
        said = read_notes(notes) if notes is not None else _asked(face, book, names)
        try:
            found = exercise(book, new_name(datetime.now(UTC)), names, said)
        except ValueError as problem:
            raise InputError(
                f"This is no paper run of {name}: {problem}.", next_step="Put the notes right, and give them again."
            ) from problem
        with held(face, estate, f"tabletop {name}", waiting(wait)):
            estate.keep_exercise(found)
    face.result(result_json(found), lambda console: show_result(found, console))
    return int(ExitCode.DONE if found.verdict is Verdict.PASSED else ExitCode.OBJECTIVE_MISSED)


def read_notes(path: Path) -> tuple[Said, ...]:
    """What was written down at a table. Raises ``InputError``."""
    import yaml
    from pydantic import BaseModel, ConfigDict, ValidationError

    from ismgr_automation.recovery.tabletop import Answer, Said

    class Line(BaseModel):
        model_config = ConfigDict(extra="forbid")
        step: str
        person: str
        began: datetime
        ended: datetime
        outcome: Answer
        remark: str = ""

    class Notes(BaseModel):
        model_config = ConfigDict(extra="forbid")
        steps: tuple[Line, ...]

    step = "`ismgr drill tabletop --help` shows how they are written."
    try:
        found = Notes.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as problem:
        raise InputError(f"The notes {path} cannot be read: {problem.strerror}.", next_step=step) from problem
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise InputError(f"The notes {path} are no YAML: {problem}.", next_step=step) from problem
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"The notes {path} cannot be used: {where}: {first['msg']}.", next_step=step) from problem
    return tuple(
        Said(
            step=one.step,
            person=one.person,
            began=_utc(one.began),
            ended=_utc(one.ended),
            answer=one.outcome,
            remark=one.remark.strip(),
        )
        for one in found.steps
    )


def _utc(moment: datetime) -> datetime:
    """A time without a zone is one of UTC, as everywhere."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Table:
    """Who is asked, and how. ``show`` prints, ``ask`` returns what was typed for a question with a default."""

    show: Callable[[str], None]
    ask: Callable[[str, str], str]
    now: Callable[[], datetime]


def _asked(face: Face, book: Runbook, names: Sequence[str]) -> tuple[Said, ...]:
    if face.json or not face.console.is_terminal:
        raise SettingsError("There is nobody to ask here.", next_step="Give --notes FILE with what was written down.")
    table = Table(
        show=lambda text: face.console.print(text, markup=False, highlight=False),
        ask=lambda question, default: str(typer.prompt(question, default=default, err=True)),
        now=lambda: datetime.now(UTC),
    )
    face.asking = True
    try:
        return walk(book, names, table)
    finally:
        face.asking = False


def walk(book: Runbook, people: Sequence[str], table: Table) -> tuple[Said, ...]:
    """Go through the steps, one after the other, until the last one or until somebody breaks it off. The time of a step
    is from when it is shown until it was answered."""
    from ismgr_automation.recovery.tabletop import Answer, Said

    answers = {"d": Answer.DONE, "n": Answer.NOTE, "x": Answer.NOT_POSSIBLE}
    said: list[Said] = []
    person = next(iter(people), "")
    for leg, step in book.steps:
        began = table.now()
        _show(leg, step, table)
        typed = _one_of("d: done, n: done, with a note, x: not possible, q: stop here", (*answers, "q"), table)
        if typed == "q":
            break
        person = _one_of(f"who ({', '.join(people)})", people, table, person) if len(people) > 1 else person
        remark = ""
        while typed != "d" and not remark:
            remark = table.ask("remark", "").strip()
        said.append(
            Said(
                step=f"{leg}/{step.name}",
                person=person,
                began=began,
                ended=table.now(),
                answer=answers[typed],
                remark=remark,
            )
        )
    return tuple(said)


def _one_of(question: str, allowed: Sequence[str], table: Table, default: str = "d") -> str:
    while True:
        typed = table.ask(question, default).strip()
        if typed in allowed:
            return typed
        table.show(f"One of {', '.join(allowed)}.")


def _show(leg: str, step: PaperStep, table: Table) -> None:
    table.show(f"\n{leg}/{step.name}: {step.title} (within {step.deadline.total_seconds():g} s)")
    table.show(f"  {step.why}")
    for order in step.orders:
        who = f" [{order.who}]" if order.who else ""
        table.show(f"  - {order.title}{who}: must say {order.sees}")
