"""`ismgr audit show | verify | export`: what was done, whether the record of it is whole, and a copy for an auditor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.kept import audited, kept, refuse_unknown_run, with_results
from ismgr_automation.cli.options import Ref
from ismgr_automation.cli.plan import looked_up
from ismgr_automation.core.errors import ExitCode, IsmgrError, SettingsError
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from ismgr_automation.api import Estate
    from ismgr_automation.evidence.audit import Audit, AuditedRun
    from ismgr_automation.evidence.chain import Record
    from ismgr_automation.recovery.sign_offs import Weighed
    from ismgr_automation.wiring_records import Records

TOPIC_EPILOG = """Examples:

  ismgr audit show                                       the runs, and how each ended

  ismgr audit show 20261122T081500-3f9a                  every record of one run

  ismgr audit verify                                     is the evidence whole?

  ismgr audit export 20261122T081500-3f9a -o run.zip     for an auditor, with how to check it by hand
"""

SHOW_EPILOG = """Examples:

  ismgr audit show                            the runs of this environment

  ismgr audit show 20261122T081500-3f9a       every record of one run

  ismgr -e production --json audit show       for pipelines
"""

VERIFY_EPILOG = """Examples:

  ismgr audit verify                     this environment

  ismgr -e production audit verify       another one

Every byte that was flipped, every record that was dropped, repeated, moved or put between others is found, and every
closing signature that is missing or of nobody with role runner; so is a kept result of a drill, or a finding, a
statement or a sign-off about one, that is not the one on record.
What no anchor covers is said to be unproven. Whoever may write to the log, and has no key, can put a refusal or a run
without an end after the last signature, or cut off what no anchor covers: a run that is said to be unfinished, and has
ended by `ismgr runs`, was tampered with.

Exit codes: 0 whole (parts may be unproven, and are named), 6 something is wrong with it, 4 it cannot be read.
"""

EXPORT_EPILOG = """Examples:

  ismgr audit export 20261122T081500-3f9a --out run.zip       one file

  ismgr audit export 20261122T081500-3f9a --out folder        a folder

The README inside says how to check all of it with sha256sum and ssh-keygen.
"""

Run = Annotated[str, typer.Argument(metavar="RUN", help="The run's name, as `ismgr audit show` lists it.")]


def register(app: typer.Typer) -> None:
    """Add `ismgr audit`."""
    topic = typer.Typer(
        no_args_is_help=True,
        help="What was done, and proof of it.",
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=TOPIC_EPILOG,
    )
    topic.callback()(_topic)
    topic.command("show", epilog=SHOW_EPILOG)(show)
    topic.command("verify", epilog=VERIFY_EPILOG)(verify)
    topic.command("export", epilog=EXPORT_EPILOG)(export)
    app.add_typer(topic, name="audit")


def _topic() -> None:
    """What was done, and proof of it."""


def show(
    ctx: typer.Context,
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="One run; all runs otherwise.", show_default=False)
    ] = None,
    ref: Ref = "HEAD",
) -> int:
    """List the runs of an environment, or every record of one of them."""
    from ismgr_automation.evidence.chain import parse

    face: Face = ctx.obj
    with kept(face, ref) as records:
        if run is None:
            audit = audited(records, list(records.log.read()))
            body: JsonObject = {"type": "audit-runs", "runs": [_run_json(one) for one in audit.runs]}
            face.result(body, lambda console: _show_runs(audit, console))
            return int(ExitCode.DONE)
        refuse_unknown_run(records, run)
        lines = list(records.log.read(run))
    found: list[Record] = []
    unreadable = 0
    for line in lines:
        try:
            found.append(parse(line))
        except ValueError:
            unreadable += 1
    face.result(_records_json(run, found, unreadable), lambda console: _show_records(found, unreadable, console))
    return int(ExitCode.DONE)


def verify(ctx: typer.Context, ref: Ref = "HEAD") -> int:
    """Check the evidence of an environment: chain, signatures, anchors, and the kept results of drills against it.
    Touches nothing."""
    face: Face = ctx.obj
    with kept(face, ref) as records:
        lines = list(records.log.read())
        audit = with_results(records, lines, audited(records, lines))
        anchored = records.anchor is not None
    code = ExitCode.DONE if audit.ok else ExitCode.OBJECTIVE_MISSED
    face.result(
        {
            "type": "audit-verify",
            "exit_code": int(code),
            "ok": audit.ok,
            "records": audit.head.sequence,
            "head": audit.head.digest,
            "proven": audit.proven,
            "problems": [
                {"fault": str(one.fault), "line": one.line, "run": one.run, "summary": one.summary}
                for one in audit.problems
            ],
            "remarks": [{"doubt": str(one.doubt), "run": one.run, "summary": one.summary} for one in audit.remarks],
            "runs": [_run_json(one) for one in audit.runs],
        },
        lambda console: _show_audit(audit, console, anchored=anchored),
    )
    return int(code)


def export(
    ctx: typer.Context,
    run: Run,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FILE.zip|DIR", help="A zip file, or a folder that is made.")
    ],
    ref: Ref = "HEAD",
) -> int:
    """Copy a run's records, signatures, plan and approvals for an auditor, with how to check them by hand."""
    face: Face = ctx.obj
    if out.exists():
        raise SettingsError(f"{out} is there already.", next_step="Name another file or folder with --out.")
    with kept(face, ref) as records:
        refuse_unknown_run(records, run)
    with looked_up(face, ref) as estate:
        sign_offs = _sign_offs(estate, run)
    with kept(face, ref) as records:
        files = _files(records, run, sign_offs)
    try:
        _write(out, files)
    except OSError as problem:
        raise SettingsError(
            f"Cannot write {out}: {problem.strerror or problem}.", next_step="Name a place that you may write to."
        ) from None
    face.result(
        {"type": "audit-export", "run": run, "out": str(out), "files": sorted(files)},
        lambda console: console.print(
            f"Wrote {len(files)} files of run {run} to {out}. Its README.md says how to check them by hand.",
            markup=False,
        ),
    )
    return int(ExitCode.DONE)


def _sign_offs(estate: Estate, run: str) -> Sequence[Weighed]:
    """Who signed a drill off; nobody where its result cannot be read: evidence outlives the database."""
    try:
        return estate.drill_sign_offs(run)
    except IsmgrError:
        return ()


def _files(records: Records, run: str, sign_offs: Sequence[Weighed]) -> Mapping[str, bytes]:
    from ismgr_automation.cli.drill_case import drill_files
    from ismgr_automation.evidence.bundle import Contents, bundle
    from ismgr_automation.evidence.runners import runners
    from ismgr_automation.planning.planfile import read

    lines = list(records.log.read())
    signed = [one.signed_by for one in audited(records, lines).runs if one.run == run]
    try:
        known = records.runs.run(run)
    except IsmgrError:
        known = None  # evidence outlives the database, and is worth a copy without it
    name = records.chosen.name
    return bundle(
        Contents(
            estate=records.estate.document.name,
            environment=name,
            run=run,
            lines=lines,
            signature=records.log.signatures().get(run),
            signed_by=signed[0] if signed else "",
            runners=runners(records.estate.teams),
            heads=records.anchor.heads(name) if records.anchor is not None else (),
            plan=known.plan if known is not None else "",
            intent=read(known.plan, f"run {run}").intent if known is not None else {},
            report=known.report if known is not None else None,
            drill=drill_files(records, lines, run, sign_offs),
            signatures=records.log.signatures(),
        )
    )


def _write(out: Path, files: Mapping[str, bytes]) -> None:
    import zipfile

    if out.suffix != ".zip":
        for name, data in files.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            # a fixed time: the same run gives the same file
            archive.writestr(zipfile.ZipInfo(f"{out.stem}/{name}"), data, zipfile.ZIP_DEFLATED)


def _run_json(one: AuditedRun) -> JsonObject:
    from ismgr_automation.evidence.chain import moment

    return {
        "run": one.run,
        "started_at": moment(one.started_at),
        "first": one.first,
        "last": one.last,
        "closed": one.closed,
        "state": one.state,
        "signed_by": one.signed_by,
    }


def _records_json(run: str, found: Sequence[Record], unreadable: int) -> JsonObject:
    from ismgr_automation.evidence.chain import moment

    return {
        "type": "audit-records",
        "run": run,
        "unreadable": unreadable,
        "records": [
            {"sequence": one.sequence, "at": moment(one.at), "kind": str(one.kind), "body": one.body} for one in found
        ],
    }


def _show_runs(audit: Audit, console: Console) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    if not audit.runs:
        console.print("No evidence yet: nothing was applied in this environment.")
        return
    table = Table("run", "began (UTC)", "ended as", "records", "signed by", box=box.SIMPLE)
    for one in audit.runs:
        table.add_row(
            escape(one.run),
            f"{one.started_at:%Y-%m-%d %H:%M:%S}",
            escape(one.state) or "[yellow]no end[/]",
            f"{one.first}-{one.last}",
            escape(one.signed_by) or "[yellow]nobody[/]",
        )
    console.print(table)
    if not audit.ok:
        console.print(f"[red]{len(audit.problems)} problems[/]: see `ismgr audit verify`.")


def _show_records(found: Sequence[Record], unreadable: int, console: Console) -> None:
    from rich.markup import escape

    from ismgr_automation.evidence.chain import Kind
    from ismgr_automation.evidence.telling import told

    loud = {Kind.REFUSED, Kind.CANCELLED, Kind.RECOVERED}
    for one in found:
        color = "red" if one.kind in loud or one.body.get("break_glass") else "cyan"
        console.print(
            f"[dim]{one.sequence:>6}  {one.at:%Y-%m-%d %H:%M:%S}[/]  [{color}]{one.kind:<14}[/] {escape(told(one))}"
        )
    if unreadable:
        console.print(f"[red]{unreadable} lines are no records[/]: see `ismgr audit verify`.")


def _show_audit(audit: Audit, console: Console, *, anchored: bool) -> None:
    from rich.markup import escape

    for problem in audit.problems:
        where = f"line {problem.line}: " if problem.line else ""
        console.print(f"[bold red]{problem.fault}[/] {where}{escape(problem.summary)}")
    for remark in audit.remarks:
        console.print(f"[yellow]{remark.doubt}[/] {escape(remark.summary)}")
    runs = f"{len(audit.runs)} run{'s' * (len(audit.runs) != 1)}"
    records = f"{audit.head.sequence} record{'s' * (audit.head.sequence != 1)}"
    if not audit.head.sequence and audit.ok:
        console.print("No evidence yet: nothing was applied in this environment.")
    elif audit.ok:
        signed = sum(bool(one.signed_by) for one in audit.runs)
        console.print(
            f"[green]Whole[/]: {records} of {runs}, {signed} signed by a runner, proven up to #{audit.proven}."
        )
        if audit.proven < audit.head.sequence and not anchored:
            console.print(
                "  This environment remembers no heads: `evidence: {anchor: true}` in estate.yaml changes it."
            )
    else:
        count = f"{len(audit.problems)} problem{'s' * (len(audit.problems) != 1)}"
        console.print(f"[bold red]Not whole[/]: {count} in {records} of {runs}.")
        console.print("  Keep these files as they are, and a copy of them, before anything else is applied here.")
