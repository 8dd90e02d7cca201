"""The library's front door: open an estate at a revision, and plan, apply, drift, verify, list or destroy it."""

from __future__ import annotations

import shutil
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from ismgr_automation.api_drills import EstateDrills
from ismgr_automation.approval.judge import Verdict
from ismgr_automation.converge import patching
from ismgr_automation.converge.destroy import plan_destroy
from ismgr_automation.converge.drill import plan_drill
from ismgr_automation.converge.fleet import meet
from ismgr_automation.converge.gate import proposal, refuse_unsigned, weigh
from ismgr_automation.converge.held import Held, Names, Pair
from ismgr_automation.converge.patch import plan_patch, plan_rollback
from ismgr_automation.converge.patching import Standing
from ismgr_automation.converge.plan import plan
from ismgr_automation.converge.report import Report
from ismgr_automation.converge.scope import Mode, Scope, Selection
from ismgr_automation.converge.stacks import read_states
from ismgr_automation.converge.unit import Workbench
from ismgr_automation.converge.upkeep import Reading
from ismgr_automation.converge.verify import verify
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.diagnostic import Diagnostic, Severity, did_you_mean
from ismgr_automation.core.errors import EngineFailed, EstateError, InputError, PlanFileError
from ismgr_automation.core.events import Emit, EstateLoaded, Event, ignore
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.load import load
from ismgr_automation.estate.model import Estate as Documents
from ismgr_automation.estate.resolve import duration
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.planning.plan import Plan
from ismgr_automation.planning.planfile import read
from ismgr_automation.planning.timing import Calendar
from ismgr_automation.ports.approvals import Approval
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import PackageResult
from ismgr_automation.ports.patching import Exchanged, Patched, VersionKey, Waiting
from ismgr_automation.ports.runs import Run
from ismgr_automation.ports.sequencer import Work
from ismgr_automation.ports.source import Source, Tree
from ismgr_automation.ports.verification import CheckResult

if TYPE_CHECKING:
    from ismgr_automation.runs.keeper import Kept


class Wiring(Protocol):
    """What stands behind an estate's ports; the module ``wiring`` is the real one. Tests of an estate give another,
    with the doubles of ``ports.memory``."""

    def source(self, directory: Path) -> Source:
        """Where the estate in a folder comes from."""
        ...

    def wire(
        self,
        estate: Documents,
        tree: Tree,
        *,
        directory: Path,
        environment: str | None,
        context: Context,
        selection: Selection,
        mode: Mode = Mode.PLAN,
    ) -> Scope:
        """Everything that a verb needs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifted:
    """What ``drift`` found: ``plan.drift`` is what somebody changed by hand, ``plan.changes`` what apply would do."""

    plan: Plan

    @property
    def found(self) -> bool:
        """Whether the world differs from what was applied."""
        return bool(self.plan.drift)


class Estate(EstateDrills):
    """An estate at one revision, laid out in a private folder that is removed by ``close`` (use ``with``).

    >>> with Estate.open("infra", ref="main") as estate:  # doctest: +SKIP
    ...     plan = estate.plan()
    ...     report = estate.apply(plan)
    """

    def __init__(
        self,
        directory: Path,
        tree: Tree,
        documents: Documents,
        *,
        work: Path,
        environment: str | None,
        emit: Emit,
        wiring: Wiring,
    ) -> None:
        self.directory = directory
        self.tree = tree
        self.documents = documents
        self.cancelled = threading.Event()
        """Set it from any thread, and the run stops: nothing new is started, engines are told to end."""
        self._environment = environment
        self._emit = emit
        self._wiring = wiring
        self._work = work
        # only ever the folder that we made ourselves
        self._remove = weakref.finalize(self, shutil.rmtree, work, ignore_errors=True)

    @classmethod
    def open(
        cls,
        directory: str | Path = ".",
        *,
        ref: str | None = "HEAD",
        worktree: bool = False,
        environment: str | None = None,
        emit: Emit = ignore,
        wiring: Wiring | None = None,
    ) -> Self:
        """Read the estate in ``directory`` at the commit ``ref``; with ``worktree`` the files as they lie there.

        ``emit`` is called from several threads at once; one that raises is not called again. Raises ``EstateError``
        with every mistake at once, ``InputError`` for a folder or ref that is not there, ``EngineFailed`` when this
        machine has no room.
        """
        folder = Path(directory).resolve()
        if not folder.is_dir():
            raise InputError(f"There is no folder {directory}.", next_step="Name the estate's folder, with -C or here.")
        chosen = wiring if wiring is not None else _real()
        with _this_machine():
            work = Path(tempfile.mkdtemp(prefix="ismgr-"))
        try:
            with _this_machine():
                tree, documents = _read_documents(chosen.source(folder), None if worktree else ref, work)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        told = _Watcher(emit)
        told(EstateLoaded(name=documents.document.name, commit=tree.revision.commit, documents=documents.size))
        return cls(folder, tree, documents, work=work, environment=environment, emit=told, wiring=chosen)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the private folder. Safe to call twice."""
        self._remove()

    def plan(self, targets: Names = (), excludes: Names = (), *, urgent: str = "") -> Plan:
        """What would have to change. Touches nothing. ``urgent`` says why freezes should not hold it up; who may say
        so is a rule of approval."""
        with self._scope(targets, excludes) as scope:
            return plan(scope, datetime.now(UTC), urgent=urgent)

    def plan_patch(self, targets: Names = (), excludes: Names = (), *, urgent: str = "") -> Plan:
        """Which packages and firmware would be brought to which exact versions, host by host, ring by ring. Hosts are
        read and asked, and nothing is changed there."""
        with self._scope(targets, excludes) as scope:
            return plan_patch(scope, datetime.now(UTC), urgent=urgent)

    def plan_rollback(self, run: str, targets: Names = (), excludes: Names = (), *, urgent: str = "") -> Plan:
        """The way back from what a run installed, to the exact versions of before. Raises ``InputError`` for a run that
        installed nothing."""
        with self._scope(targets, excludes) as scope:
            return plan_rollback(scope, datetime.now(UTC), run, urgent=urgent)

    def plan_drill(self, name: str, mode: DrillMode, *, urgent: str = "", fault: str = "") -> Plan:
        """What a drill of a RecoveryPlan would do on the live service; ``fault`` names one of its own. The cluster is
        looked at, nothing is changed."""
        with self._scope((), ()) as scope:
            return plan_drill(scope, datetime.now(UTC), name, mode, urgent=urgent, fault=fault)

    def patch_status(self, targets: Names = (), excludes: Names = (), *, read: bool = True) -> Standing:
        """What is due on which hosts, since when, by when it must be gone. Without ``read`` by the last readings."""
        with self._scope(targets, excludes) as scope:
            return patching.standing(scope, datetime.now(UTC), read=read)

    def facts(self, targets: Names = (), excludes: Names = (), *, read: bool = True) -> Reading:
        """What hosts with a baseline are like: packages, offers, restarts that are due. What is read is kept."""
        with self._scope(targets, excludes) as scope:
            return patching.facts(scope, datetime.now(UTC), read=read)

    def refresh(self, targets: Names = (), excludes: Names = ()) -> tuple[PackageResult, ...]:
        """Let hosts read the indexes of their repositories anew. No package is touched."""
        with self._scope(targets, excludes, Mode.APPLY) as scope:
            return patching.refresh(scope)

    def waiting(self) -> tuple[Waiting, ...]:
        """Hosts that could not be reached when it was their turn to be patched."""
        with self._looked_up() as scope:
            return patching.waiting(scope)

    def leave_queue(self, hosts: Sequence[str]) -> None:
        """Take hosts out of the queue: they answered, and nothing was left to do there."""
        with self._looked_up() as scope:
            patching.leave_queue(scope, hosts)

    def patched(self, host: str | None = None, limit: int = 200) -> tuple[Patched, ...]:
        """What runs installed, the newest first."""
        with self._looked_up() as scope:
            return patching.history(scope, host, limit)

    def first_seen(self) -> Mapping[VersionKey, datetime]:
        """Since when which versions are known to this estate, as `refs/ismgr/first-seen` has it."""
        with self._looked_up() as scope:
            return scope.engines.upkeep.first_seen.everything()

    def share_first_seen(self, remote: str = "origin") -> Exchanged:
        """Join `refs/ismgr/first-seen` with that of a remote, without force: of each version the earlier time, on both
        sides. Raises ``SettingsError`` for a remote that is not there, and ``EngineError`` when it cannot be had."""
        with self._looked_up() as scope:
            return scope.engines.upkeep.first_seen.exchange(remote, scope.context.emit)

    def open_vex(self, author: str) -> JsonObject:
        """The exemptions that hold and what they cover, as an OpenVEX document."""
        with self._scope((), ()) as scope:
            return patching.open_vex(scope, author, datetime.now(UTC))

    def read_plan(self, path: str | Path) -> Plan:
        """Read a plan file; raises ``PlanFileError``."""
        return read_plan(Path(path))

    def apply(self, plan: Plan, *, wait: timedelta | None = None, approvals: Sequence[Approval] = ()) -> Report:
        """Do exactly what the plan says, under the environment's lease. Everything is looked at again first. A plan
        that does nothing begins no run: its report names none.

        ``wait`` is how long to wait for a lease that somebody else holds. ``approvals`` are taken besides those that
        the estate's own stores hold. Raises ``LeaseHeld``, ``StalePlan`` when anything differs, ``NotApproved``,
        ``NotSigned``, and ``EngineFailed`` when part of the world cannot be looked at, all before anything was
        touched.
        """
        with self.hold(wait=wait) as held:
            return held.apply(plan, approvals=approvals)

    @contextmanager
    def hold(self, purpose: str = "apply", *, wait: timedelta | None = None) -> Iterator[Held]:
        """Hold the environment's lease: nobody else applies until the end of the ``with``.

        What is planned inside may be applied inside without another look, within a minute. Raises ``LeaseHeld``.
        """
        from ismgr_automation.runs.keeper import hold, this_process

        with self._scope((), (), Mode.APPLY) as scope:
            name, store, ttl = scope.lease, scope.engines.leases, duration(scope.environment.lease_ttl)
        leash = self._work / "leash"
        with hold(
            store, name, this_process(purpose), ttl, wait=wait, leash=leash, emit=self._emit, cancelled=self.cancelled
        ) as kept:
            yield Held(self, kept, partial(self._scopes, kept, leash))

    def resume(self, run: str, *, wait: timedelta | None = None, approvals: Sequence[Approval] = ()) -> Report:
        """Go on with a run whose process died, from what the journal and the world say. The estate must be open at the
        run's commit. Raises ``InputError`` for a run that is not there or has ended, ``StalePlan`` when its inputs have
        changed, and what ``apply`` raises."""
        with self.hold(f"resume {run}", wait=wait) as held:
            return held.resume(run, approvals=approvals)

    def run(self, run: str) -> Run:
        """What is recorded of a run. Raises ``InputError`` naming near ones when there is no such run."""
        with self._looked_up() as scope:
            return scope.engines.runs.run(run)

    def runs(self, limit: int = 50) -> tuple[Run, ...]:
        """The newest runs of this environment first."""
        with self._looked_up() as scope:
            return scope.engines.runs.runs(scope.environment_name, limit)

    def approvals(self, plan: Plan, approvals: Sequence[Approval] = ()) -> Verdict:
        """Which approvals a plan needs, who signed, and what is missing; ``approvals`` are looked at besides those that
        the estate's own stores hold. Raises ``NotApproved`` when nothing is pinned."""
        with self._scope_of(plan) as scope:
            return weigh(proposal(scope, plan), plan, datetime.now(UTC), approvals)

    def work_for(
        self, run: str, *, executor: str = "", leash: Path | None = None, ours: Callable[[], bool] | None = None
    ) -> Work:
        """What does the units of one run in this process, on behalf of whoever holds its lease. The estate must be open
        at the run's commit, and stay open while it works. ``executor`` is the name for the journal, ``leash`` the file
        with the moment until which engines may run; ``ours`` is asked before the end of a unit is written down."""
        with self._scope((), ()) as scope:
            known = scope.engines.runs.run(run)
        planned = read(known.plan, f"run {run}")
        context = Context(
            work=self._work, emit=self._emit, cancelled=self.cancelled, leash=leash, token=known.token, run=run
        )
        scope = self._wired(self._selection(*_selected(planned)), context, Mode.APPLY)
        name = executor or scope.engines.executor
        return Workbench(
            scope=scope,
            run=run,
            purpose=planned.purpose,
            undoes=planned.undoes,
            mode=planned.mode,
            planned_with=planned.inputs.engines,
            executor=name,
            ours=ours or _always,
        ).work

    def drift(self, targets: Names = (), excludes: Names = ()) -> Drifted:
        """How the world differs from what was applied, over stacks and hosts. Touches nothing."""
        return Drifted(plan=self.plan(targets, excludes))

    def verify(self, targets: Names = (), excludes: Names = ()) -> tuple[CheckResult, ...]:
        """Run the verification suites of the selected groups against their hosts."""
        with self._scope(targets, excludes) as scope:
            return verify(scope)

    def fleet(self) -> Fleet:
        """All hosts as the stacks' states and the inventories know them, with their groups."""
        with self._scope((), ()) as scope:
            return meet(scope, {}, read_states(scope))

    def calendar(self, now: datetime | None = None) -> Calendar:
        """All windows and freezes, with what the calendars of windows hold from ``now`` on: what ``planning.timing``
        asks. Reads documents only; raises ``InputError`` for a calendar that cannot be read."""
        from ismgr_automation import wiring

        return wiring.timetable(self.documents, self.tree.root, now or datetime.now(UTC))

    def inventory(self) -> JsonObject:
        """The hosts and groups as an inventory for plain ``ansible-playbook``; secrets are lookups, never values."""
        from ismgr_automation import wiring

        with self._scope((), ()) as scope:
            states = read_states(scope)
            return wiring.inventory(scope, meet(scope, {}, states), states)

    def write_inventory(self, folder: str | Path) -> tuple[Path, ...]:
        """Write the inventory with SSH configuration, pinned host keys and ``ansible.cfg``; returns the files.

        ``cd FOLDER && ansible-playbook PLAYBOOK`` then works without us. There is no secret in any of them.
        """
        from ismgr_automation import wiring

        with self._scope((), ()) as scope:
            states = read_states(scope)
            return wiring.write_inventory(scope, meet(scope, {}, states), states, Path(folder))

    def plan_destroy(self, targets: Names = (), excludes: Names = ()) -> Plan:
        """The plan that deletes the selected stacks and what depends on them."""
        with self._scope(targets, excludes) as scope:
            return plan_destroy(scope, datetime.now(UTC))

    @contextmanager
    def _scope_of(self, plan: Plan, mode: Mode = Mode.PLAN) -> Iterator[Scope]:
        targets, excludes = _selected(plan)
        with self._scope(targets, excludes, mode) as scope:
            yield scope

    @contextmanager
    def _scopes(self, kept: Kept, leash: Path, plan: Plan) -> Iterator[Pair]:
        """To look with and to work with, for one plan under a lease."""
        with self._scope_of(plan, Mode.PLAN) as looking, self._scope_of(plan, Mode.APPLY) as working:
            context = replace(working.context, leash=leash, token=kept.lease.token)
            yield looking, replace(working, context=context)

    @contextmanager
    def _scope(self, targets: Names, excludes: Names, mode: Mode = Mode.PLAN) -> Iterator[Scope]:
        with self._looked_up(targets, excludes, mode) as scope:
            _refuse_unsigned(scope)
            yield scope

    @contextmanager
    def _looked_up(self, targets: Names = (), excludes: Names = (), mode: Mode = Mode.PLAN) -> Iterator[Scope]:
        """A scope that runs no code of the estate, so that nobody asks who signed it: it looks up what was done."""
        if not self._remove.alive:
            raise InputError("This estate was closed.", next_step="Open it again.")
        selection = self._selection(targets, excludes)
        with (
            _this_machine(),
            tempfile.TemporaryDirectory(prefix="run-", dir=self._work, ignore_cleanup_errors=True) as work,
        ):
            context = Context(work=Path(work), emit=self._emit, cancelled=self.cancelled)
            yield self._wired(selection, context, mode)

    def _wired(self, selection: Selection, context: Context, mode: Mode) -> Scope:
        return self._wiring.wire(
            self.documents,
            self.tree,
            directory=self.directory,
            environment=self._environment,
            context=context,
            selection=selection,
            mode=mode,
        )

    def _selection(self, targets: Names, excludes: Names) -> Selection:
        wrong: list[Diagnostic] = []
        chosen = [tuple(self._address(one, wrong) for one in names) for names in (targets, excludes)]
        if wrong:
            raise InputError("A target or exclusion is not in this estate.", diagnostics=wrong)
        return Selection(targets=chosen[0], excludes=chosen[1])

    def _address(self, name: str | Address, wrong: list[Diagnostic]) -> Address:
        known = {
            **{f"stack/{one}": Kind.STACK for one in self.documents.stacks},
            **{f"group/{one}": Kind.GROUP for one in self.documents.groups},
            **{f"baseline/{one}": Kind.BASELINE for one in self.documents.baselines},
        }
        text = str(name)
        if text.removeprefix("host/") not in {"", text} or text in known:
            return Address.parse(text)
        summary = f"there is no {text!r}"
        expected = "stack/NAME, group/NAME or host/NAME"
        wrong.append(Diagnostic(summary=summary, expected=expected, suggestion=did_you_mean(text, known)))
        return Address(Kind.HOST, text)


def read_approvals(path: Path) -> tuple[Approval, ...]:
    """Approvals that lie in the folder beside a plan file."""
    from ismgr_automation import wiring

    return wiring.approvals_beside(path).find(read_plan(path).digest)


def read_plan(path: Path) -> Plan:
    """Read a plan file; raises ``PlanFileError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanFileError(
            f"The plan file {path} cannot be read: {error}.", next_step="Make one with `ismgr plan --out FILE`."
        ) from None
    return read(text, str(path))


def _refuse_unsigned(scope: Scope) -> None:
    """Raise ``NotSigned`` before any program or playbook of unsigned code runs, where the environment says so, or said
    so at the revision that is trusted."""
    if scope.environment.signed_commits or scope.safeguards.pins.all():
        refuse_unsigned(proposal(scope))


def _selected(plan: Plan) -> tuple[list[str], list[str]]:
    """The targets and exclusions that a plan was made with."""
    texts = plan.inputs.selection
    return (
        [one for one in texts if not one.startswith("-")],
        [one.removeprefix("-") for one in texts if one.startswith("-")],
    )


def _always() -> bool:
    return True


class _Watcher:
    """Whoever watches cannot steer: one that raises (a closed pipe, a slip in a callback) is not called again."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit

    def __call__(self, event: Event) -> None:
        """Pass an event on."""
        try:
            self._emit(event)
        except Exception as problem:  # noqa: BLE001  a run does not end because somebody looks away
            self._emit = ignore
            warnings.warn(f"a watcher failed and is not called again: {problem!r}", RuntimeWarning, stacklevel=2)


def _real() -> Wiring:
    from ismgr_automation import wiring

    return wiring


@contextmanager
def _this_machine() -> Iterator[None]:
    """Errors of the operating system below us (a full disk, no permission) as an engine's failure."""
    try:
        yield
    except OSError as problem:
        raise EngineFailed(
            f"This machine failed: {problem}.",
            engine="this machine",
            next_step="Make room or give permission where it says, and run the command again.",
        ) from problem


def _read_documents(source: Source, ref: str | None, work: Path) -> tuple[Tree, Documents]:
    """Lay out the tree below ``work`` and read its documents; raises ``EstateError`` with every mistake."""
    tree = source.checkout(ref, work / "tree")
    documents, diagnostics = load(tree.root, tree.objects)
    _raise_errors(diagnostics)
    if documents is None:
        raise EstateError("There is no estate here.", diagnostics=diagnostics)
    return tree, documents


def _raise_errors(diagnostics: Sequence[Diagnostic]) -> None:
    """Raise ``EstateError`` with all diagnostics when one of them is an error."""
    errors = [one for one in diagnostics if one.severity is Severity.ERROR]
    if errors:
        count = f"{len(errors)} mistake{'s' if len(errors) != 1 else ''}"
        raise EstateError(f"The estate has {count}.", diagnostics=diagnostics)
