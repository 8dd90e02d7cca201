"""`ismgr demo-patch`: the demo's second act - updates for its machines, one of them bad, brought to all in waves."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.demo import commit
from ismgr_automation.cli.demo_stage import curtain, first_act, opened, say, still_answers
from ismgr_automation.cli.face import Face
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from ismgr_automation.converge.report import Report
    from ismgr_automation.patching.status import Row, Status
    from ismgr_automation.planning.plan import Plan

EPILOG = """Examples:

  ismgr demo-patch               makes the first act if there is none, then patches its machines

  ismgr lab patches --reset      the versions from before, to see it again
"""

HOLDS = 'holds: ["linux-image-*"]'
"""The line of the example's baseline after which the bad version is denied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One plan that was applied, and how long it took."""

    plan: Plan
    report: Report
    seconds: float


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo-patch", epilog=EPILOG)(demo_patch)


def demo_patch(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the demo's estate is.")] = Path("build/demo"),
) -> int:
    """Patch the demo's machines in waves: one update is too young, one exempted, a bad one stops at the first host."""
    from ismgr_automation.cli.progress import progress
    from ismgr_automation.lab import Lab, patches

    face: Face = ctx.obj
    code = first_act(ctx, folder)
    if code:
        return code
    lab = Lab.find("demo")
    began = time.monotonic()
    say(face, "\n[bold]Updates are published[/]: six packages, in the lab's own signed repository.")
    lab.publish_patches()
    before = _status(face, folder)
    say(face, "\n[bold]What is due, and why[/]")
    _show(face, before)
    bad = f"{patches.BROKEN}={next(one.version for one in patches.SECOND if one.name == patches.BROKEN)}"
    acts: list[Act] = []
    with progress(face):
        acts.append(_apply(face, folder))
    _tell(face, acts[-1])
    if not acts[-1].report.ok and deny(folder, bad):
        say(face, f"\n[bold]One line in Git[/]: [bold]deny: ['{bad}'][/], and again, from the first host on.")
        with progress(face):
            acts.append(_apply(face, folder))
        _tell(face, acts[-1])
    after = _status(face, folder)
    say(face, "\n[bold]What is left, and why[/]")
    _show(face, after)
    seconds = time.monotonic() - began
    still_answers(lab, "`ismgr patch history` lists what was installed, `ismgr patch rollback RUN` takes it back.")
    body: JsonObject = {
        "type": "demo-patch",
        "exit_code": 0 if acts[-1].report.ok else 1,
        "folder": str(folder),
        "breaches_before": before.total.breaches,
        "breaches_after": after.total.breaches,
        "runs": [
            {"run": one.report.run, "digest": one.plan.digest, "ok": one.report.ok, "seconds": one.seconds}
            for one in acts
        ],
        "seconds": seconds,
    }
    words = f"Patched in {seconds:.0f} s: {before.total.breaches} breaches before, {after.total.breaches} after."
    tips = (
        f"ismgr -C {folder} patch status             what is due where",
        f"ismgr -C {folder} patch history            what runs installed; `patch rollback RUN` takes it back",
        f"ismgr -C {folder} audit verify             that nobody altered the record of it",
        "ismgr lab patches --reset                    and once more",
    )
    face.result(body, lambda console: curtain(console, words, tips))
    return 0 if acts[-1].report.ok else 1


def deny(folder: Path, version: str) -> bool:
    """Deny a version in the demo's baseline, and commit that. False when it stands there already."""
    path = folder / "patching.yaml"
    text = path.read_text(encoding="utf-8")
    if version in text or HOLDS not in text:
        return False
    path.write_text(
        text.replace(HOLDS, f'{HOLDS}\ndeny: ["{version}"]  # it cannot be configured', 1), encoding="utf-8"
    )
    commit(folder, f"Deny {version}, which cannot be configured")
    return True


def _status(face: Face, folder: Path) -> Status:
    with opened(face, folder) as estate:
        estate.refresh()
        return estate.patch_status().status


def _apply(face: Face, folder: Path) -> Act:
    began = time.monotonic()
    with opened(face, folder) as estate, estate.hold() as held:
        plan = held.plan_patch()
        report = held.apply(plan)
    return Act(plan=plan, report=report, seconds=time.monotonic() - began)


# what people see


def _show(face: Face, status: Status) -> None:
    from ismgr_automation.patching.status import rows

    for alike in _alike(rows(status)):
        one = alike[0]
        due = min((row.due.isoformat() for row in alike if row.due), default="")
        hosts = one.host if len(alike) == 1 else f"{len(alike)} hosts"
        state = f"{one.cve} {one.severity}, {one.state}" if one.cve else "mends nothing"
        versions = f"{one.installed} -> {one.target or one.newest}"
        words = f"{one.package:<15} {hosts:<9} {versions:<27} {state}"
        say(face, f"  {words}{f', due {due}' if due else ''}")
        if not one.target:
            say(face, f"{'':<18}[yellow]stays: {one.why}[/]")


def _alike(found: Iterable[Row]) -> list[list[Row]]:
    """Rows that say the same of several hosts."""
    kinds: dict[tuple[str, ...], list[Row]] = {}
    for one in found:
        kinds.setdefault((one.package, one.cve, one.target, str(one.state), one.why, one.installed), []).append(one)
    return [kinds[key] for key in sorted(kinds)]


def _tell(face: Face, act: Act) -> None:
    hosts = sorted({one.target for outcome in act.report.outcomes for one in outcome.applied})
    undone = sorted({name for one in act.report.outcomes for name in one.undone})
    words = [f"\n[bold]{len(act.plan.waves)} waves planned[/], {act.seconds:.0f} s with the plan:"]
    words.append(f"{len(hosts) - len(undone)} hosts patched")
    say(face, " ".join(words) + (f", {', '.join(undone)} rolled back to the versions before." if undone else "."))
    for line in _pith(act.report.stopped):
        say(face, f"  {line}")


def _pith(stopped: str) -> list[str]:
    """Of a long story that a package manager tells: what stopped the run, and what its package said."""
    lines = stopped.splitlines()
    return [lines[0], *(line for line in lines[1:] if "records-broken: " in line or "back at" in line)] if lines else []
