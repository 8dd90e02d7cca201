"""One operation on one stack: its private folder, environment, configuration and child processes, all gone after it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.core.events import OutputSeen
from ismgr_automation.core.secret import Redactor
from ismgr_automation.engines import process
from ismgr_automation.engines.pulumi import environment, errors
from ismgr_automation.engines.pulumi.backend import Files, StackId
from ismgr_automation.engines.pulumi.locate import Engine
from ismgr_automation.engines.pulumi.project import Project
from ismgr_automation.engines.pulumi.state import Checkpoint
from ismgr_automation.engines.pulumi.story import Story
from ismgr_automation.engines.pulumi.table import explain
from ismgr_automation.engines.pulumi.update_plan import keys, opened
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.stacks import StackRequest, UpdatePlan

NO_SUCH_STACK = 6
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(slots=True, kw_only=True)
class Run:
    """Everything of one operation. ``folder`` is private and removed; secrets are in ``secrets`` and in the
    environment of the engine process only."""

    request: StackRequest
    context: Context
    engine: Engine
    project: Project
    folder: Path
    estate_root: Path
    passphrase: str
    backend: str
    """The URL of the state backend that this run's processes use."""
    redactor: Redactor
    started: float = field(default_factory=time.monotonic)
    secrets: dict[str, str] = field(default_factory=dict)
    """Secret values of the project's own configuration: they go to the program in memory."""
    opened: set[str] = field(default_factory=set)
    """Every secret value of the configuration."""

    @property
    def subject(self) -> str:
        """What errors call it."""
        return str(self.request.address)

    @property
    def stack(self) -> StackId:
        """The stack in its backend."""
        return StackId(project=self.project.name, name=self.request.stack)

    @property
    def config_file(self) -> Path:
        """The run's own stack configuration; the user's is never written."""
        return self.folder / f"Pulumi.{self.request.stack}.yaml"

    def left(self) -> timedelta:
        """What is left of the deadline; a second at the least, so that the error comes from one place."""
        return max(self.request.deadline - timedelta(seconds=time.monotonic() - self.started), timedelta(seconds=1))

    def write_config(self, values: Mapping[str, Any], checkpoint: Checkpoint) -> None:
        """Lay out the project and its configuration in the run's folder: the user's own file, and ours over it."""
        (self.folder / "Pulumi.yaml").write_text(self.project.text, encoding="utf-8")
        base = {**checkpoint.encryption, **self.project.stack_config(self.request.stack)}
        config = {**(base.get("config") or {}), **values}
        for key in self.secrets:
            config.pop(key, None)
        self.config_file.write_text(yaml.safe_dump({**base, "config": config}, sort_keys=True), encoding="utf-8")
        self.config_file.chmod(0o600)

    def cli(self, *arguments: str, stdin: str | None = None) -> str | None:
        """Run the engine once in the run's folder; its standard output, or None when there is no such stack."""
        done = process.run(
            [str(self.engine.path), *arguments, "--non-interactive", "--color", "never"],
            engine=errors.ENGINE,
            subject=self.subject,
            deadline=self.left(),
            cwd=self.folder,
            env=self.environment(),
            stdin=None if stdin is None else stdin.encode(),
            cancelled=self.context.cancelled,
            leash=self.context.leash,
            clean=self.redactor.clean,
        )
        if done.code == 0:
            return done.stdout
        if done.code == NO_SUCH_STACK:
            return None
        raise explain(
            errors.Said(subject=self.subject, code=done.code, stderr=self.redactor.clean(done.stderr), program=None)
        )

    def operate(
        self,
        verb: str,
        *flags: str,
        program: bool,
        plan: str | None = None,
        heard: Callable[[Told], None] = lambda _told: None,
    ) -> Told:
        """Run one operation of the engine in a worker process, with the program if it takes one, and listen.

        A preview saves its plan; ``plan`` is the text of one that the engine must not go beyond.
        ``heard`` gets what is being told as soon as there is a worker, for a caller who must know how far it came.
        """
        acting = verb != "preview"
        story = Story(subject=self.request.address, emit=self.context.emit, clean=self.redactor.clean, acting=acting)
        told = Told(story=story, clean=self.redactor.clean)
        heard(told)
        body = self._order(verb, flags, program=program)
        body["plan"] = {"use": plan} if plan is not None else {} if acting else self._plan_to_save()
        try:
            done = process.run(
                [sys.executable, "-m", "ismgr_automation.engines.pulumi.worker"],
                engine=errors.ENGINE,
                subject=self.subject,
                deadline=self.left(),
                cwd=self.folder,
                env=self.own_environment(),
                stdin=json.dumps(body).encode(),
                on_stdout=told.hear,
                on_stderr=self._show,
                cancelled=self.context.cancelled,
                leash=self.context.leash,
                clean=self.redactor.clean,
            )
        finally:
            if told.code is None or told.code < 0:
                self._give_back_lock(told.engine)
        if told.code is None:
            raise errors.died(self.subject, "worker", done.code, self.redactor.clean(done.stderr[-4000:]))
        if told.code < 0:
            raise errors.died(self.subject, "engine", told.code, "\n".join(told.stderr))
        return told

    def open_plan(self, plan: UpdatePlan) -> str:
        """The text of a saved plan; raises ``PlanFileError``."""
        return opened(plan, str(self.stack), keys(self.passphrase, str(self.stack), self.opened))

    def _order(self, verb: str, flags: tuple[str, ...], *, program: bool) -> dict[str, Any]:
        """What the worker is told to do; it has secrets in it and goes through a pipe."""
        scratch = Path(tempfile.mkdtemp(dir=self.folder))
        argv = [str(self.engine.path), verb, *flags, "--stack", str(self.stack), "--non-interactive", "--color=never"]
        return {
            "argv": [*argv, f"--config-file={self.config_file}"],
            "cwd": str(self.project.folder if program else self.folder),
            "environment": self.environment(),
            "events": str(scratch / "events"),
            "program": str(self.project.folder),
            "main": str(self.project.main) if program else "",
            "secrets": self.secrets,
        }

    def _plan_to_save(self) -> Mapping[str, Any]:
        asked = {"stack": str(self.stack), "passphrase": self.passphrase, "known": sorted(self.opened)}
        return {"save": asked}

    def own_environment(self) -> dict[str, str]:
        """What the worker, and with it the program, sees."""
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        return {
            **environment.allowed(os.environ),
            **environment.referred(self.request.config, self.request.secret_backends, os.environ),
            "ISMGR_SECRET_BACKENDS": environment.described(self.request.secret_backends),
            "ISMGR_ESTATE_ROOT": str(self.estate_root),
            "TMPDIR": str(temporary),
            "GRPC_VERBOSITY": "NONE",
        }

    def environment(self) -> dict[str, str]:
        """What the engine, and with it each provider, sees."""
        home = self.folder / "home"
        if not home.exists():
            home.mkdir()
            plugins = Path(os.environ.get("PULUMI_HOME") or "~/.pulumi").expanduser() / "plugins"
            if plugins.is_dir():  # shared: they are large; nothing is installed there by a run
                (home / "plugins").symlink_to(plugins)
        return {
            **self.own_environment(),
            "PULUMI_HOME": str(home),
            "PULUMI_BACKEND_URL": self.backend,
            "PULUMI_CONFIG_PASSPHRASE": self.passphrase,
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "PULUMI_AUTOMATION_API": "true",
            "PULUMI_DEBUG_COMMANDS": "true",  # --event-log is hidden behind it
            "PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }

    def _show(self, line: str) -> None:
        if line.strip():
            self.context.emit(OutputSeen(subject=self.request.address, text=self.redactor.clean(line)))

    def _give_back_lock(self, engine: int) -> None:
        """We stopped the engine: a lock that it could not give back any more would only mislead."""
        root = None if not engine else files_of(self.request.state)
        if root is not None:
            root.release(self.stack, engine)


@dataclass(slots=True)
class Told:
    """What the worker told: the story of the events, the engine's process and exit code, the program's problem."""

    story: Story
    clean: Callable[[str], str]
    engine: int = 0
    code: int | None = None
    problem: errors.Problem | None = None
    plan: UpdatePlan | None = None
    stderr: list[str] = field(default_factory=list)

    def hear(self, line: str) -> None:
        """Take in one line of the worker."""
        body = json.loads(line)
        match body:
            case {"event": event}:
                self.story.hear(event)
            case {"said": text}:
                self.stderr.append(self.clean(text))
            case {"problem": problem}:
                self.problem = errors.read_problem(problem, self.clean)
            case {"refused": {"resource": resource, "why": why}}:
                self.story.refuse(resource, self.clean(why))
            case {"plan": {"digest": bound, "sealed": text}}:
                self.plan = UpdatePlan(digest=bound, sealed=text)
            case {"engine": pid}:
                self.engine = pid
            case {"exit": code}:
                self.code = code
            case _:
                raise EngineFailed(
                    f"The worker said what nobody understands: {sorted(body)}.",
                    engine=errors.ENGINE,
                    next_step="Install ismgr_automation again: its parts are of different versions.",
                )


def files_of(state: str) -> Files | None:
    """The backend when it is a folder."""
    from ismgr_automation.engines.pulumi.backend import folder_of

    root = folder_of(state)
    return None if root is None else Files(root)


@contextlib.contextmanager
def private_folder(context: Context, subject: str) -> Iterator[Path]:
    """A folder of ours alone below the run's work folder, removed at the end. A full disk is an ``EngineFailed``."""
    folder: Path | None = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="pulumi-", dir=context.work))
        yield folder
    except OSError as problem:
        if problem.errno not in FULL:
            raise
        raise EngineFailed(
            f"{subject}: the disk of the work folder {context.work} is full ({problem.strerror}).",
            engine=errors.ENGINE,
            subject=subject,
            untouched="The world and the state are as they were before this write.",
            next_step="Free some space there, or set TMPDIR to a folder on a larger disk.",
        ) from problem
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=False)
