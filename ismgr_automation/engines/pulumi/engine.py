"""``ports.stacks.StackEngine`` by Pulumi: each operation a worker process of its own, looked at through the engine's
event log. It computes and applies; what is planned, approved or retried is decided elsewhere."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import Cancelled, EngineFailed, EngineTimedOut, InputError, LeaseLost
from ismgr_automation.core.json import Json
from ismgr_automation.core.secret import Redactor, Secret, SecretRef
from ismgr_automation.engines.pulumi import environment, errors, fence, recovery
from ismgr_automation.engines.pulumi.backend import Asked, Backend, Files, StackId, ensure_folder
from ismgr_automation.engines.pulumi.locate import Engine
from ismgr_automation.engines.pulumi.project import read_project
from ismgr_automation.engines.pulumi.run import Run, Told, files_of, private_folder
from ismgr_automation.engines.pulumi.state import NEVER, UNKNOWN, Checkpoint, Pending
from ismgr_automation.engines.pulumi.table import explain
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.secrets import SecretStore
from ismgr_automation.ports.stacks import (
    Operation,
    Output,
    OutputRef,
    Recovery,
    ResourceStep,
    StackPreview,
    StackRequest,
    StackResult,
    StackState,
    UpdatePlan,
)


class PulumiEngine:
    """Runs stacks with the Pulumi engine that ``locate`` gives (asked once, when first needed).

    ``store`` opens the passphrase and secret configuration, as late as can be; a request without a passphrase uses an
    empty one, so its state holds secrets encrypted under a key that is no secret. ``estate_root`` is the folder of the
    laid-out estate: programs and providers find it in ``ISMGR_ESTATE_ROOT``.
    """

    def __init__(self, locate: Callable[[], Engine], store: SecretStore, estate_root: Path) -> None:
        self._locate = locate
        self._store = store
        self._estate_root = estate_root
        self._once = threading.Lock()

    def state(self, request: StackRequest) -> StackState:
        """Read outputs and digest; with state in files this starts no process at all."""
        files = files_of(request.state)
        if files is not None:
            return files.read(StackId(project=read_project(request.program).name, name=request.stack)).state
        import tempfile

        with (
            tempfile.TemporaryDirectory(prefix="ismgr-") as work,
            self._run(request, Context(work=Path(work))) as run,
        ):
            return self._backend(run).read(run.stack).state

    def preview(self, request: StackRequest, context: Context) -> StackPreview:
        """Look at the world and run the program, on a copy of the state: nothing can be written."""
        with self._run(request, context) as run:
            backend = self._backend(run)
            checkpoint = backend.read(run.stack)
            values = self._config(run, backend)
            self._borrow(run, backend, checkpoint)
            self._set_config(run, values, checkpoint)
            told = self._preview(run, "--run-program")
            if told.story.unlooked:
                told = self._preview(run)
        story = told.story
        return StackPreview(
            steps=story.planned,
            drift=(*story.drift, *map(_unfinished, checkpoint.pending)),
            outputs=story.outputs,
            state_digest=checkpoint.digest,
            unchanged=story.unchanged,
            engine="; ".join([f"pulumi {run.engine.version}", *sorted(story.providers)]),
            update_plan=told.plan,
        )

    def up(self, request: StackRequest, context: Context, update_plan: UpdatePlan | None = None) -> StackResult:
        """Refresh, then make the world as the program says, and nothing that the update plan does not hold. Failed and
        refused resources are in the result. Raises ``PlanFileError`` when the update plan cannot be opened."""
        with self._run(request, context) as run:
            backend = self._backend(run)
            values = self._config(run, backend)
            plan = None if update_plan is None else run.open_plan(update_plan)
            self._enter(run, backend)
            checkpoint = backend.read(run.stack)
            if checkpoint is NEVER:
                self._begin(run, backend)
                checkpoint = backend.read(run.stack)
            self._set_config(run, values, checkpoint)
            told = self._act(run, "up", "--refresh", "--yes", "--skip-preview", program=True, plan=plan)
            after = backend.read(run.stack)
            if told.code == 0 and after.pending:
                # the engine remembers operations that died until it is told to forget them; the plan has shown them
                self._act(run, "refresh", "--yes", "--skip-preview", "--clear-pending-creates", program=False)
                after = backend.read(run.stack)
            return self._result(run, told, after)

    def recover(self, request: StackRequest, context: Context) -> Recovery:
        """Mend what a dead run left behind. Locks are seen where state is kept in files; with any other backend the
        engine itself says who holds the stack when it is used."""
        with self._run(request, context) as run:
            backend = self._backend(run)
            if isinstance(backend, Files):
                fence.check(backend, run.stack, context)
                cleared, left = recovery.locks(backend, run.stack)
                if left:
                    return Recovery(cleared=cleared, open=left)
                self._enter(run, backend)
                cleared += recovery.notes(backend, run.stack)
            else:
                cleared = ()
            checkpoint = backend.read(run.stack)
            run.write_config({}, checkpoint)
            resolved, unknown = recovery.pending(run, checkpoint)
            return Recovery(cleared=cleared, resolved=resolved, open=unknown)

    def destroy(self, request: StackRequest, context: Context) -> StackResult:
        """Delete every resource, then the stack's record; the program does not run."""
        with self._run(request, context) as run:
            backend = self._backend(run)
            self._enter(run, backend)
            checkpoint = backend.read(run.stack)
            if checkpoint is NEVER:
                return StackResult(steps=(), failed=(), outputs={}, state_digest=NEVER.digest)
            run.write_config({}, checkpoint)
            told = self._act(run, "destroy", "--yes", "--skip-preview", "--remove", program=False)
            return self._result(run, told, backend.read(run.stack))

    @cached_property
    def _engine(self) -> Engine:
        with self._once:
            return self._locate()

    @contextlib.contextmanager
    def _run(self, request: StackRequest, context: Context) -> Iterator[Run]:
        project = read_project(request.program)
        redactor = Redactor()
        password = urlsplit(request.state).password
        if password:
            redactor.learn(Secret(password))
            redactor.learn(Secret(unquote(password)))
        opened = None if request.passphrase is None else redactor.learn(self._store.open(request.passphrase))
        with private_folder(context, str(request.address)) as folder:
            yield Run(
                request=request,
                context=context,
                engine=self._engine,
                project=project,
                folder=folder,
                estate_root=self._estate_root,
                passphrase="" if opened is None else opened.reveal(),
                backend=request.state,
                redactor=redactor,
            )

    @staticmethod
    def _backend(run: Run) -> Backend:
        return files_of(run.request.state) or Asked(run.cli)

    @staticmethod
    def _enter(run: Run, backend: Backend) -> None:
        """Nobody who holds a later lease may have been here; other backends than files cannot be asked."""
        if isinstance(backend, Files):
            ensure_folder(backend.root)
            fence.enter(backend, run.stack, run.context)

    def _config(self, run: Run, backend: Backend) -> Mapping[str, Any]:
        """Plain values by full key; secret ones are opened and kept in ``run.secrets``."""
        plain: dict[str, Any] = {}
        for name, value in run.request.config.items():
            key = run.project.key(name)
            if isinstance(value, SecretRef):
                run.secrets[key] = run.redactor.learn(self._store.open(value)).reveal()
                run.opened.add(run.secrets[key])
            elif isinstance(value, OutputRef):
                self._other_output(run, backend, key, value, plain)
            elif value is not None:
                plain[key] = environment.plain(value)
        return plain

    @staticmethod
    def _other_output(run: Run, backend: Backend, key: str, ref: OutputRef, plain: dict[str, Any]) -> None:
        stack = _the_stack(run, backend, ref)
        output = _the_output(run, backend.read(stack).outputs, ref)
        if not output.secret:
            plain[key] = environment.plain(output.value)
            return
        text = run.cli("stack", "output", ref.output, "--json", "--show-secrets", "--stack", str(stack))
        value: Json = json.loads(text or "null")
        run.secrets[key] = run.redactor.learn(Secret(environment.as_text(value))).reveal()
        run.opened.add(run.secrets[key])

    @staticmethod
    def _set_config(run: Run, values: Mapping[str, Any], checkpoint: Checkpoint) -> None:
        """Write plain values. Secrets of the program stay in memory; those that the engine itself must know, for a
        provider or because the project declares them, it encrypts in the run's own file."""
        run.write_config(values, checkpoint)
        own = f"{run.project.name}:"
        for key in [key for key in run.secrets if not key.startswith(own) or key in run.project.declared]:
            file = f"--config-file={run.config_file}"
            run.cli("config", "set", "--secret", key, file, "--stack", str(run.stack), stdin=run.secrets.pop(key))

    @staticmethod
    def _borrow(run: Run, backend: Backend, checkpoint: Checkpoint) -> None:
        """Point the run at a copy of the state; a backend that is no folder is used itself once the stack is there,
        since a preview writes nothing."""
        if isinstance(backend, Files) or checkpoint is NEVER:
            copy = run.folder / "state"
            files = backend if isinstance(backend, Files) else Files(run.folder / "nothing")
            files.snapshot(run.stack, checkpoint, copy)
            run.backend = f"file://{copy}"

    @staticmethod
    def _begin(run: Run, backend: Backend) -> None:
        if isinstance(backend, Files):
            ensure_folder(backend.root)
        run.write_config({}, NEVER)
        run.cli("stack", "init", str(run.stack), "--no-select")

    def _preview(self, run: Run, *more: str) -> Told:
        told = run.operate("preview", "--refresh", *more, program=True)
        if told.code != 0:
            raise self._explained(run, told)
        return told

    @staticmethod
    def _act(run: Run, verb: str, *flags: str, program: bool, plan: str | None = None) -> Told:
        """An operation that changes the world: when it is stopped, say how far it had come."""
        heard: list[Told] = []
        try:
            return run.operate(verb, *flags, program=program, plan=plan, heard=heard.append)
        except (EngineTimedOut, EngineFailed) as problem:
            raise type(problem)(
                f"{problem.summary} {_how_far(heard)}",
                engine=problem.engine,
                subject=problem.subject,
                next_step=problem.next_step,
                detail=problem.detail,
            ) from problem
        except LeaseLost as problem:
            raise LeaseLost(problem.summary, untouched=_how_far(heard), next_step=problem.next_step) from problem
        except Cancelled as problem:
            if not heard:
                raise
            raise Cancelled(
                f"{problem.summary} {_how_far(heard)}", next_step="Plan again before you go on."
            ) from problem

    def _result(self, run: Run, told: Told, checkpoint: Checkpoint) -> StackResult:
        story = told.story
        failed = story.failures
        unplanned = story.unplanned(checkpoint.urns)
        if told.code != 0 and not failed and not unplanned:
            problem = self._explained(run, told)
            if not story.landed:
                raise problem
            # part of it landed: the caller needs what, more than an exception
            failed = (f"{run.project.name}: {problem}",)
        return StackResult(
            steps=story.landed,
            failed=failed,
            outputs=checkpoint.outputs,
            state_digest=checkpoint.digest,
            unplanned=unplanned,
        )

    def _explained(self, run: Run, told: Told) -> Exception:
        files = files_of(run.request.state)
        return explain(
            errors.Said(
                subject=run.subject,
                code=told.code or 0,
                stderr="\n".join(told.stderr),
                errors=tuple(told.story.errors),
                failures=told.story.failures,
                problem=told.problem,
                program=run.project.folder,
                root=self._estate_root,
                locks=files.locks(run.stack) if files is not None else (),
                touched=bool(told.story.landed),
            )
        )


def _unfinished(pending: Pending) -> ResourceStep:
    """An operation whose engine died: the next apply does it again, and nobody knows whether it had happened."""
    return ResourceStep(
        name=pending.resource,
        type=pending.type,
        operation=Operation.DRIFT,
        changed=("<interrupted>",),
        before={"<interrupted>": pending.operation},
        after={"<interrupted>": UNKNOWN},
    )


def _how_far(heard: list[Told]) -> str:
    if not heard:
        return "Nothing was touched."
    landed = [step.name for step in heard[0].story.landed]
    flying = heard[0].story.in_flight
    done = f"Landed before: {', '.join(landed)}." if landed else "Nothing had landed."
    return f"{done} Unknown: {', '.join(flying)}." if flying else done


def _the_stack(run: Run, backend: Backend, ref: OutputRef) -> StackId:
    found = backend.named(ref.stack)
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"{run.subject}: its config needs the output {ref.output} of stack {ref.stack}, which was never applied.",
            next_step=f"Apply stack/{ref.stack} first.",
        )
    where = ", ".join(one.project for one in found)
    raise InputError(f"{run.subject}: there are several stacks {ref.stack} in this state backend: projects {where}.")


def _the_output(run: Run, outputs: Mapping[str, Output], ref: OutputRef) -> Output:
    if ref.output in outputs:
        return outputs[ref.output]
    near = did_you_mean(ref.output, outputs)
    hint = f" Did you mean {near!r}?" if near else ""
    raise InputError(
        f"{run.subject}: stack {ref.stack} has no output {ref.output!r}; it has {', '.join(outputs) or 'none'}.{hint}",
        next_step=f"Apply stack/{ref.stack} again if its program exports it by now.",
    )
