"""`ismgr trust`: the root of trust of an estate, pinned on this machine and outside of the repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.cli.options import Ref, Yes
from ismgr_automation.cli.plan import looked_up
from ismgr_automation.core.errors import ExitCode, SettingsError
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from ismgr_automation.approval.people import Register
    from ismgr_automation.ports.history import CommitSignature
    from ismgr_automation.ports.signing import AllowedSigner
    from ismgr_automation.ports.trust import Pin

EPILOG = """Examples:

  ismgr trust pin --ref v1.0                  trust this commit, its Teams and their keys

  ismgr trust pin --keyring forge.asc         and the OpenPGP keys in this file, under commits

  ismgr trust show                            what is pinned on this machine

  ismgr trust verify --ref feature            who signed the commits since then
"""


def register(app: typer.Typer) -> None:
    """Add `ismgr trust`."""
    topic = typer.Typer(
        no_args_is_help=True,
        help="What signatures are checked against: pinned here, outside of the repository.",
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    topic.callback()(_topic)
    for name, command in (("pin", pin), ("show", show), ("verify", verify)):
        topic.command(name, epilog=EPILOG)(command)
    app.add_typer(topic, name="trust")


def _topic() -> None:
    """What signatures are checked against: pinned here, outside of the repository."""


def pin(
    ctx: typer.Context,
    ref: Ref = "HEAD",
    keyring: Annotated[
        list[Path] | None,
        typer.Option("--keyring", metavar="FILE", help="OpenPGP public keys whose commits count."),
    ] = None,
    yes: Yes = False,
) -> int:
    """Trust a commit that you have looked at: its rules, its Teams and their keys; no longer what was pinned before."""
    from ismgr_automation import wiring
    from ismgr_automation.approval.people import register as people_of
    from ismgr_automation.cli.apply import confirm
    from ismgr_automation.ports.trust import Pin

    face: Face = ctx.obj
    keys = tuple(_key(one) for one in keyring or ())
    with looked_up(face, ref) as estate:
        documents, commit = estate.documents, estate.tree.revision.commit
    people = people_of(documents.teams)
    safeguards = wiring.safeguards(face.directory)
    chosen = Pin(
        estate=documents.document.name,
        folder=safeguards.folder,
        commit=commit,
        signers=tuple(_signers(people)),
    )
    if not chosen.signers:
        raise SettingsError(
            "No member of a Team has an SSH key at this commit: nobody could sign anything.",
            next_step="Write ssh_keys and roles of members into a Team document, commit, and pin that commit.",
        )
    if not face.json:
        _show_people(face.console, chosen, people)
    confirm(face, f"Trust commit {commit[:12]} and these keys?", yes=yes)
    written = safeguards.pins.write(chosen, keys)
    face.result(
        {"type": "trust-pin", "exit_code": int(ExitCode.DONE), **_pin_json(written)},
        lambda console: console.print(f"Pinned in {written.place}. Keep that folder yours alone.", markup=False),
    )
    return int(ExitCode.DONE)


def show(ctx: typer.Context) -> int:
    """Show what is pinned on this machine."""
    from ismgr_automation.engines.signing.pins import FilePins

    face: Face = ctx.obj
    found = FilePins().all()
    body: JsonObject = {"type": "trust", "exit_code": int(ExitCode.DONE), "pins": [_pin_json(one) for one in found]}
    face.result(body, lambda console: _show_pins(console, found))
    return int(ExitCode.DONE)


def verify(ctx: typer.Context, ref: Ref = "HEAD") -> int:
    """Check the signature of every commit since the pinned one, merges and what they brought in included."""
    from ismgr_automation import wiring
    from ismgr_automation.converge.gate import Proposal, commits, stand, unfit
    from ismgr_automation.estate.resolve import environment as choose

    face: Face = ctx.obj
    with looked_up(face, ref) as estate:
        documents, revision = estate.documents, estate.tree.revision
    found = Proposal(
        safeguards=wiring.safeguards(face.directory),
        revision=revision,
        documents=documents,
        environment=choose(documents.document, face.environment).name,
    )
    ground = stand(found)
    if ground.pin is None:
        raise SettingsError(
            f"Nothing is pinned for {documents.document.name} on this machine.",
            next_step="Run `ismgr trust pin` first.",
        )
    rows = [(one, unfit(one, ground.people)) for one in commits(found, ground)]
    bad = sum(bool(why) for _, why in rows)
    code = ExitCode.REFUSED if bad else ExitCode.DONE
    body: JsonObject = {
        "type": "trust-verify",
        "exit_code": int(code),
        "base": ground.base,
        "commit": revision.commit,
        "commits": [_commit_json(one, why, ground.people) for one, why in rows],
    }
    face.result(body, lambda console: _show_commits(console, rows, ground.people, ground.base))
    return int(code)


def _key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise SettingsError(f"{path} cannot be read: {problem.strerror}.", next_step="Name another file.") from None


def _signers(people: Register) -> Iterator[AllowedSigner]:
    """Every key of the Teams. What its owner may do is for the roles to say; the file says whose it is."""
    from ismgr_automation.estate.documents import Role
    from ismgr_automation.ports import evidence
    from ismgr_automation.ports.approvals import NAMESPACE
    from ismgr_automation.ports.history import COMMIT_NAMESPACE
    from ismgr_automation.ports.signing import AllowedSigner
    from ismgr_automation.recovery.particulars import SIGN_OFF_NAMESPACE

    for print_, line in sorted(people.lines.items(), key=lambda one: (people.principal(one[0]), one[0])):
        runs = people.holds(print_, Role.RUNNER)
        namespaces = (COMMIT_NAMESPACE, NAMESPACE, evidence.NAMESPACE if runs else SIGN_OFF_NAMESPACE)
        yield AllowedSigner(principal=people.principal(print_), key=line, namespaces=namespaces)


def _pin_json(one: Pin) -> JsonObject:
    from ismgr_automation.ports.signing import fingerprint

    return {
        "estate": one.estate,
        "folder": one.folder,
        "commit": one.commit,
        "place": one.place,
        "signers": [
            {"principal": signer.principal, "key": fingerprint(signer.key), "namespaces": list(signer.namespaces)}
            for signer in one.signers
        ],
        "keyring": [path.name for path in _files(one)],
        "revoked": str(one.revoked) if one.revoked else None,
    }


def _commit_json(one: CommitSignature, why: str, people: Register) -> JsonObject:
    return {
        "commit": one.commit,
        "title": one.title,
        "merge": one.merge,
        "key": one.key,
        "signer": _who(one, people),
        "good": not why,
        "why": why,
    }


def _files(one: Pin) -> Sequence[Path]:
    return sorted(one.keyring.iterdir()) if one.keyring is not None else []


def _who(one: CommitSignature, people: Register) -> str:
    return people.principal(one.key) or ", ".join(one.emails) or one.key


def _show_people(console: Console, chosen: Pin, people: Register) -> None:
    from rich.table import Table

    console.print(f"Estate {chosen.estate} at commit {chosen.commit}", markup=False)
    table = Table("person", "team", "roles", box=None, pad_edge=False)
    table.add_column("keys", overflow="fold", no_wrap=False)
    for one in people.entries:
        table.add_row(one.name, one.team, ", ".join(sorted(one.roles)), "\n".join(sorted(one.keys)))
    console.print(table)


def _show_pins(console: Console, found: Sequence[Pin]) -> None:
    from ismgr_automation.ports.signing import fingerprint

    if not found:
        console.print("Nothing is pinned on this machine. `ismgr trust pin` does it.", markup=False)
    for one in found:
        console.print(f"{one.estate}  commit {one.commit[:12]}  {one.place}", markup=False)
        for signer in one.signers:
            console.print(f"  {signer.principal}  {fingerprint(signer.key)}", markup=False)
        for path in _files(one):
            console.print(f"  OpenPGP {path.name}", markup=False)
        if one.revoked:
            console.print(f"  revoked: {one.revoked}", markup=False)


def _show_commits(console: Console, rows: Sequence[tuple[CommitSignature, str]], people: Register, base: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        console.print(f"No commits since {base[:12]}.")
        return
    table = Table("commit", "title", "signed by", "", box=None, pad_edge=False)
    for one, why in rows:
        shown = f"[red]{escape(why)}[/]" if why else "[green]good[/]"
        title = f"{one.title}{' (merge)' * one.merge}"
        table.add_row(one.commit[:12], escape(title), escape(_who(one, people)), shown)
    console.print(table)
    bad = sum(bool(why) for _, why in rows)
    console.print(f"{len(rows) - bad} of {len(rows)} commits since {base[:12]} are good.")
