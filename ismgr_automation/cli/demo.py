"""`ismgr demo`: the main job on this machine - a lab, an estate in Git, a plan, an apply, a verified service."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ismgr_automation.cli.face import Face
from ismgr_automation.core.errors import SettingsError
from ismgr_automation.core.events import StepReported
from ismgr_automation.core.json import JsonObject

if TYPE_CHECKING:
    from rich.console import Console

    from ismgr_automation.lab import Lab

EPILOG = """Examples:

  ismgr demo                     in build/demo; a second time it finds nothing to do

  ismgr demo /tmp/two-sites      somewhere else

  ismgr lab down                 removes the machines again
"""

GENERATED = ("pulumi/passphrase", "postgresql/app", "postgresql/replication")
"""Secrets that the estate needs and no lab makes, below ``.secrets``."""

RUNNER = """\
# The account that applies: the end of each run's record is signed with its key.
kind: Team
name: runners
members:
  - name: runner
    roles: [runner]
    ssh_keys: ["{key}"]
"""

PAGE = "http://records.two-sites.test/"
"""The service's name, as a client inside the lab's wide area network resolves it."""

WHO = ("-c", "user.name=ismgr demo", "-c", "user.email=demo@localhost")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", epilog=EPILOG)(demo)


def demo(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the demo's estate is made.")] = Path(
        "build/demo"
    ),
) -> int:
    """Run two sites of real Debian machines here: power on, configure, verify, serve a page."""
    from ismgr_automation.cli.apply import apply
    from ismgr_automation.cli.progress import progress
    from ismgr_automation.lab.topology import Segment

    face: Face = ctx.obj
    began = time.monotonic()
    with progress(face):
        lab = _machines(face)
        with _step(face, "estate"):
            made = prepare(lab, folder)
    face.directory = folder
    with _step(face, "plan, apply, verify"):
        code = apply(ctx, plan_file=None, yes=True)
    if code:
        return code
    with _step(face, "page"):
        answer = lab.run("client", ["curl", "--silent", "--show-error", "--fail", "--max-time", "10", PAGE])
    if answer.code != 0:
        raise SettingsError(
            f"The service does not answer at {PAGE}: {answer.stderr.strip()}.",
            untouched="The machines stay as they are.",
            next_step=f"Look with `ismgr -C {folder} verify` and `ismgr lab ssh client`.",
        )
    seconds = time.monotonic() - began
    service = f"http://{lab.machine('edge1.dc1').address(Segment.DC1)}/"
    body: JsonObject = {
        "type": "demo",
        "exit_code": 0,
        "commit": made,
        "folder": str(folder),
        "page": PAGE,
        "service": service,
        "seconds": seconds,
    }
    face.result(body, lambda console: _summary(console, folder, service, seconds))
    return 0


def _machines(face: Face) -> Lab:
    """The engine and the lab, at the same time: both may take minutes the first time."""
    from ismgr_automation.engines.pulumi.build import install
    from ismgr_automation.engines.pulumi.locate import settings
    from ismgr_automation.lab import Lab

    with _step(face, "engine and lab"), ThreadPoolExecutor(max_workers=2) as pool:
        engine = pool.submit(install, settings(), face.emit, face.cancelled)
        lab = pool.submit(Lab.up, "demo", face.emit, face.cancelled)
        engine.result()
        return lab.result()


def prepare(lab: Lab, folder: Path, moved: Callable[[str], str] = str) -> str:
    """The example estate as a repository of its own, with this lab's machines and fresh secrets; returns its commit.

    ``moved`` rewrites its documents for a lab at other addresses. What is there already stays as it is.
    """
    from ismgr_automation import shipped

    if not (folder / "estate.yaml").exists():
        shutil.copytree(shipped.root() / "examples" / "two-sites", folder, dirs_exist_ok=True)
        for path in folder.glob("*.yaml"):
            path.write_text(moved(path.read_text(encoding="utf-8")), encoding="utf-8")
    lab.write(folder)
    for name in GENERATED:
        _secret(folder / ".secrets" / name)
    _runner(folder)
    if not (folder / ".git").exists():
        _git(folder, "init", "--quiet", "--initial-branch=main")
    return commit(folder, "Describe the machines of this lab")


def commit(folder: Path, message: str) -> str:
    """Commit what has changed in the demo's estate, if anything has; returns the last commit."""
    if _git(folder, "status", "--porcelain"):
        _git(folder, "add", "--all")
        _git(folder, *WHO, "commit", "--quiet", "--message", message)
    return _git(folder, "rev-parse", "HEAD")


def _runner(folder: Path) -> None:
    """The key that signs the end of each run, and the Team that says whose it is."""
    from ismgr_automation.lab.keys import ssh_key_pair

    key = folder / ".secrets" / "runner" / "key"
    if key.exists():
        return
    pair = ssh_key_pair("runner")
    key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key.touch(mode=0o600)
    key.write_text(pair.private, encoding="utf-8")
    text = RUNNER.format(key=pair.public)
    (folder / "runner.yaml").write_text(text, encoding="utf-8")


def _secret(path: Path) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_text(secrets.token_urlsafe(24) + "\n", encoding="utf-8")


def _git(folder: Path, *arguments: str) -> str:
    from ismgr_automation.engines.process import run

    done = run(["git", "-C", str(folder), *arguments], engine="git", subject=str(folder), deadline=timedelta(minutes=1))
    if done.code != 0:
        raise SettingsError(
            f"git {arguments[0]} failed in {folder}: {done.stderr.strip()}",
            next_step="Put the repository there in order, or name another folder: `ismgr demo DIR`.",
        )
    return done.stdout.strip()


@contextmanager
def _step(face: Face, name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds = time.monotonic() - began
    face.emit(StepReported(step=name, detail="done", seconds=seconds))
    if face.watch is None and not face.json and not face.quiet:
        face.errors.print(f"{name} done [dim]{seconds:.1f} s[/]")


def _summary(console: Console, folder: Path, service: str, seconds: float) -> None:
    console.print(f"\n[bold green]Two sites are up, configured and verified[/] ({seconds:.0f} s).\n")
    console.print(f"  the service     {service}  in a browser of this host (inside the lab: {PAGE})")
    console.print(f"  the estate      {folder}, a Git repository: everything you see comes from its last commit")
    console.print("\nTry next:")
    for line in (
        f"ismgr -C {folder} plan                    nothing to do, exit code 0",
        f"ismgr -C {folder} drift                   after you changed something by hand on a machine",
        f"ismgr -C {folder} report                  what was done, as one page for a browser",
        f"ismgr -C {folder} audit verify            that nobody altered the record of it",
        "ismgr lab ssh db1.dc1                     a shell on the primary database",
        f"$EDITOR {folder}/groups.yaml, git commit, ismgr -C {folder} plan",
        "ismgr lab down                            take it all away",
    ):
        console.print(f"  {line}", markup=False)
