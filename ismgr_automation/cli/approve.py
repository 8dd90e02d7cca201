"""`ismgr approve` and `ismgr approvals`: sign a plan's digest, and see who signed and who is asked."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Yes
from ismgr_automation.cli.plan import opened
from ismgr_automation.core.errors import ExitCode, IsmgrError, NotApproved, SettingsError
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from rich.console import Console

    from ismgr_automation.approval.judge import Verdict
    from ismgr_automation.planning.plan import Plan
    from ismgr_automation.ports.approvals import Approval, ApprovalStore, Permission
    from ismgr_automation.ports.signing import Signer

EPILOG = """Examples:

  ismgr approve plan.json                            with the key that your Git signs with

  ismgr approve plan.json --key ~/.ssh/id_ed25519    with this key file

  ismgr approve plan.json --agent-key id_sk.pub      with a key of your agent, or a hardware key

  ismgr approve plan.json --to git                   keep it on refs/ismgr/approvals, and push that

  ismgr approve plan.json --break-glass --reason "database full, on-call alone"
"""

EPILOG_APPROVALS = """Examples:

  ismgr approvals plan.json                 who signed, who is asked, what is missing

  ismgr --json approvals plan.json | jq .   for pipelines

Exit codes: 0 approved (or nothing is asked), 3 something is missing.
"""

PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="A file from `ismgr plan --out`.")]


class Keep(StrEnum):
    """Where an approval is kept."""

    FILE = "file"
    GIT = "git"


def register(app: typer.Typer) -> None:
    """Add both commands."""
    app.command("approve", epilog=EPILOG)(approve)
    app.command("approvals", epilog=EPILOG_APPROVALS)(approvals)


def approve(
    ctx: typer.Context,
    plan_file: PlanFile,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Sign with this private key (or its public half).")
    ] = None,
    agent_key: Annotated[
        str | None, typer.Option("--agent-key", metavar="PUB", help="Sign with this key of your ssh-agent.")
    ] = None,
    valid: Annotated[
        str, typer.Option("--valid", metavar="TIME", help="How long it is good for (30m, 24h, 7d).")
    ] = "24h",
    to: Annotated[Keep, typer.Option("--to", help="Beside the plan, or on refs/ismgr/approvals.")] = Keep.FILE,
    break_glass: Annotated[
        bool, typer.Option("--break-glass", help="Let it pass alone, with role break-glass; needs --reason.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why the glass is broken.")] = "",
    yes: Yes = False,
) -> int:
    """Look at a plan and sign its digest: this plan, in this environment, once."""
    from ismgr_automation.cli.apply import confirm
    from ismgr_automation.ports.approvals import NAMESPACE, Approval

    face: Face = ctx.obj
    plan = _read(face, plan_file)
    permission = _permission(plan, valid, break_glass=break_glass, reason=reason)
    signer = chosen_signer(face, key, agent_key)
    if not face.json:
        _show(face, plan, plan_file)
    confirm(face, "Break the glass for this plan?" if break_glass else "Sign this plan?", yes=yes)
    signature = signer.sign(permission.to_bytes(), NAMESPACE)
    where = _store(face, plan_file, to).add(Approval(permission=permission, signature=signature))
    face.result(
        _kept(permission, signature.key, where),
        lambda console: _tell(console, permission, where, signature.key, to),
    )
    return int(ExitCode.DONE)


def approvals(ctx: typer.Context, plan_file: PlanFile) -> int:
    """Show which approvals a plan needs, who signed, and what is missing."""
    face: Face = ctx.obj
    plan = _read(face, plan_file)
    verdict = _verdict(face, plan, plan_file)
    code = ExitCode.DONE if verdict.met else ExitCode.REFUSED
    face.result(verdict_json(verdict, plan, code), lambda console: show_verdict(verdict, console))
    return int(code)


def verdict_json(verdict: Verdict, plan: Plan, code: ExitCode) -> JsonObject:
    """A verdict as a result."""
    return {
        "type": "approvals",
        "exit_code": int(code),
        "digest": plan.digest,
        "met": verdict.met,
        "requirements": [
            {
                "count": one.requirement.count,
                "role": str(one.requirement.role),
                "team": one.requirement.team,
                "because": one.requirement.because,
                "signed": list(one.people),
                "met": one.met,
            }
            for one in verdict.answers
        ],
        "missing": list(verdict.missing),
        "refused": list(verdict.refused),
        "break_glass": verdict.break_glass,
    }


def show_verdict(verdict: Verdict, console: Console) -> None:
    """Each requirement with who signed, what does not count and why, and one line that sums it up."""
    from rich.markup import escape

    for one in verdict.answers:
        if one.met:
            console.print(f"[green]met[/] {escape(str(one.requirement))}: {escape(', '.join(one.people))}")
        elif verdict.break_glass:
            console.print(f"[red]passed over[/] {escape(str(one.requirement))}")
    for line in verdict.refused:
        console.print(f"[yellow]does not count[/] {escape(line)}")
    if verdict.break_glass:
        console.print(f"[bold red]{escape(verdict.break_glass)}[/]")
    for line in verdict.missing:
        console.print(f"[red]missing[/] {escape(line)}")
    if not verdict.answers:
        console.print("[green]No approval is asked for this plan.[/]")
    elif verdict.met:
        console.print("[green]Approved.[/]" if not verdict.break_glass else "[bold red]The glass is broken.[/]")
    else:
        console.print("[red]Not approved.[/]")


def _read(face: Face, path: Path) -> Plan:
    from ismgr_automation.api import read_plan

    plan = read_plan(path)
    if face.environment not in {None, plan.environment}:
        raise SettingsError(
            f"The plan is for environment {plan.environment}, not {face.environment}.", next_step="Leave out -e."
        )
    face.environment = plan.environment
    return plan


def _permission(plan: Plan, valid: str, *, break_glass: bool, reason: str) -> Permission:
    from ismgr_automation.estate.fields import DURATION, PATTERNS
    from ismgr_automation.estate.resolve import duration
    from ismgr_automation.ports.approvals import Permission

    if plan.empty:
        raise SettingsError(
            "This plan does nothing: there is nothing to approve.", next_step="Plan again if it should."
        )
    if plan.beside.worktree:
        raise NotApproved(
            "This plan is of a working tree: nobody can tell who made it, and no approval counts for it.",
            next_step="Commit, signed, and plan that commit.",
        )
    if break_glass is not bool(reason.strip()):
        raise SettingsError(
            "Break-glass needs a reason, and a reason is for break-glass only.",
            next_step='Write --break-glass --reason "what happened".',
        )
    if not re.fullmatch(DURATION, valid):
        raise SettingsError(f"{valid!r} is not a time.", next_step=f"Write --valid with {PATTERNS[DURATION]}.")
    try:
        not_after = (datetime.now(UTC) + duration(valid)).replace(microsecond=0)
    except OverflowError:
        raise SettingsError(f"{valid} is too long.", next_step="Write --valid with a time such as 24h.") from None
    return Permission(
        estate=plan.estate,
        environment=plan.environment,
        digest=plan.digest,
        not_after=not_after,
        nonce=secrets.token_hex(16),
        break_glass=break_glass,
        reason=reason.strip(),
    )


def chosen_signer(face: Face, key: Path | None, agent_key: str | None) -> Signer:
    """The key that was named, else the one that this user's Git signs with."""
    from ismgr_automation.engines.git.commits import signing_key
    from ismgr_automation.engines.signing import AgentSigner, FileSigner

    def tell(line: str) -> None:
        face.errors.print(line, markup=False)

    if key is not None and agent_key is not None:
        raise SettingsError("--key and --agent-key are two ways to sign.", next_step="Give one of them.")
    if key is not None:
        return FileSigner(key.expanduser(), tell)
    if agent_key is not None:
        return AgentSigner(_public(agent_key), None, tell)
    named = signing_key(face.directory)
    if not named:
        raise SettingsError(
            "It is not said which key to sign with.",
            next_step="Give --key FILE or --agent-key FILE.pub, or set gpg.format to ssh and user.signingkey in Git.",
        )
    if named.startswith(("ssh-", "ecdsa-", "sk-")):
        return AgentSigner(named, None, tell)
    return FileSigner(Path(named).expanduser(), tell)


def _public(text: str) -> str:
    """A public key, given as a file or as the line itself."""
    from ismgr_automation.ports.signing import fingerprint

    line = text
    if not fingerprint(text):
        try:
            line = Path(text).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            line = ""
    if not fingerprint(line):
        raise SettingsError(f"{text} is no public key.", next_step="Name a file such as ~/.ssh/id_ed25519.pub.")
    return line


def _store(face: Face, plan_file: Path, to: Keep) -> ApprovalStore:
    from ismgr_automation.engines.git.approvals import GitApprovals
    from ismgr_automation.engines.signing.files import FileApprovals

    return GitApprovals(face.directory) if to is Keep.GIT else FileApprovals(plan_file)


def _verdict(face: Face, plan: Plan, plan_file: Path) -> Verdict:
    with opened(face, plan.beside.commit, worktree=plan.beside.worktree) as estate:
        return estate.approvals(plan, _beside(plan, plan_file))


def _beside(plan: Plan, plan_file: Path) -> tuple[Approval, ...]:
    from ismgr_automation.engines.signing.files import FileApprovals

    return FileApprovals(plan_file).find(plan.digest)


def _show(face: Face, plan: Plan, plan_file: Path) -> None:
    """The plan, then what it needs. A person may sign on a machine that cannot tell, so that is no reason to stop."""
    from ismgr_automation.cli.view import show_plan

    show_plan(plan, face.console)
    face.console.print("\n[bold]approvals[/]")
    try:
        show_verdict(_verdict(face, plan, plan_file), face.console)
    except IsmgrError as problem:
        face.console.print(f"What is needed cannot be told here: {problem.summary}", markup=False)
        face.console.print(f"  {problem.next_step}", markup=False)


def _kept(permission: Permission, key: str, where: str) -> JsonObject:
    from ismgr_automation.ports.signing import fingerprint

    return {
        "type": "approved",
        "exit_code": int(ExitCode.DONE),
        "estate": permission.estate,
        "environment": permission.environment,
        "digest": permission.digest,
        "nonce": permission.nonce,
        "not_after": permission.not_after.isoformat(),
        "break_glass": permission.break_glass,
        "key": fingerprint(key),
        "where": where,
    }


def _tell(console: Console, permission: Permission, where: str, key: str, to: Keep) -> None:
    from ismgr_automation.ports.signing import fingerprint

    console.print(
        f"Signed with {fingerprint(key)}, good until {permission.not_after:%Y-%m-%d %H:%M} UTC.", markup=False
    )
    console.print(f"Kept at {where}", markup=False)
    for line in _by_hand(permission.estate, where, fingerprint(key), to):
        console.print(f"  {line}", markup=False)


def _by_hand(estate: str, where: str, key: str, to: Keep) -> Iterator[str]:
    """How to check the signature without us."""
    from ismgr_automation.ports.approvals import NAMESPACE

    who, signers = _pinned(estate, key)
    stem = where.removesuffix(".json")
    signature, said = f"{stem}.sig", f"{stem}.json"
    if to is Keep.GIT:
        yield "Push it: git push origin refs/ismgr/approvals"
        yield f"git show {signature} > approval.sig && git show {said} > approval.json"
        signature, said = "approval.sig", "approval.json"
    yield f"Check it: ssh-keygen -Y verify -n {NAMESPACE} -I {who} -f {signers} -s {signature} < {said}"


def _pinned(estate: str, key: str) -> tuple[str, str]:
    """What the pin calls the owner of a key, and its allowed-signers file; words in their place without a pin."""
    from ismgr_automation.engines.signing.pins import FilePins
    from ismgr_automation.ports.signing import fingerprint

    pin = next((one for one in FilePins().all() if one.estate == estate), None)
    if pin is None:
        return "WHO", "allowed_signers"
    who = next((one.principal for one in pin.signers if fingerprint(one.key) == key), "WHO")
    return who, f"{pin.place}/allowed_signers"
