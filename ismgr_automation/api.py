"""The library's front door: open an estate at a revision, and plan, apply, drift, verify, list or destroy it."""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from ismgr_automation.converge.apply import apply
from ismgr_automation.converge.destroy import destroy, plan_destroy
from ismgr_automation.converge.fleet import meet
from ismgr_automation.converge.plan import plan, refuse_if_stale
from ismgr_automation.converge.report import Report
from ismgr_automation.converge.scope import Scope, Selection
from ismgr_automation.converge.stacks import read_states
from ismgr_automation.converge.verify import verify
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.diagnostic import Diagnostic, Severity, did_you_mean
from ismgr_automation.core.errors import EstateError, InputError, PlanFileError, Refused
from ismgr_automation.core.events import Emit, EstateLoaded, ignore
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.load import load
from ismgr_automation.estate.model import Estate as Documents
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.planning.plan import Plan, Purpose
from ismgr_automation.planning.planfile import read
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.source import Tree
from ismgr_automation.ports.verification import CheckResult

Names = Sequence[str | Address]
"""Addresses, or their texts: ``stack/NAME``, ``group/NAME``, ``host/NAME``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifted:
    """What ``drift`` found: ``plan.drift`` is what somebody changed by hand, ``plan.changes`` what apply would do."""

    plan: Plan

    @property
    def found(self) -> bool:
        """Whether the world differs from what was applied."""
        return bool(self.plan.drift)


class Estate:
    """An estate at one revision, laid out in a private folder that is removed by ``close`` (use ``with``).

    >>> with Estate.open("infra", ref="main") as estate:  # doctest: +SKIP
    ...     plan = estate.plan()
    ...     report = estate.apply(plan)
    """

    def __init__(
        self, directory: Path, tree: Tree, documents: Documents, *, environment: str | None, emit: Emit
    ) -> None:
        self.directory = directory
        self.tree = tree
        self.documents = documents
        self.cancelled = threading.Event()
        """Set it from any thread, and the run stops: nothing new is started, engines are told to end."""
        self._environment = environment
        self._emit = emit
        self._remove = weakref.finalize(self, shutil.rmtree, tree.root.parent, ignore_errors=True)

    @classmethod
    def open(
        cls,
        directory: str | Path = ".",
        *,
        ref: str | None = "HEAD",
        worktree: bool = False,
        environment: str | None = None,
        emit: Emit = ignore,
    ) -> Self:
        """Read the estate in ``directory`` at the commit ``ref``; with ``worktree`` the files as they lie there.

        Raises ``EstateError`` with every mistake at once, ``InputError`` for a folder or ref that is not there.
        """
        folder = Path(directory).resolve()
        if not folder.is_dir():
            raise InputError(f"There is no folder {directory}.", next_step="Name the estate's folder, with -C or here.")
        work = Path(tempfile.mkdtemp(prefix="ismgr-"))
        try:
            tree, documents = read_documents(folder, None if worktree else ref, work)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        emit(EstateLoaded(name=documents.document.name, commit=tree.revision.commit, documents=documents.size))
        return cls(folder, tree, documents, environment=environment, emit=emit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the private folder. Safe to call twice."""
        self._remove()

    def plan(self, targets: Names = (), excludes: Names = ()) -> Plan:
        """What would have to change. Touches nothing."""
        with self._scope(targets, excludes) as scope:
            return plan(scope, datetime.now(UTC))

    def read_plan(self, path: str | Path) -> Plan:
        """Read a plan file; raises ``PlanFileError``."""
        return read_plan(Path(path))

    def apply(self, plan: Plan) -> Report:
        """Do exactly what the plan says. The plan may be a moment old: everything is looked at again first.

        Raises ``StalePlan`` when anything differs and ``Refused`` when the plan may not be applied, both before
        anything was touched.
        """
        with self._scope_of(plan) as scope:
            refuse_if_stale(plan, self._again(plan, scope))
        return self.apply_now(plan)

    def apply_now(self, plan: Plan) -> Report:
        """Apply a plan that was composed a moment ago, without looking at everything again first."""
        if plan.errored:
            raise Refused(
                "This plan has errors: part of the world could not be looked at.",
                next_step="Mend what its findings name, or leave it out with --exclude, and plan again.",
            )
        with self._scope_of(plan) as scope:
            return destroy(plan, scope) if plan.purpose is Purpose.DESTROY else apply(plan, scope)

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

    def inventory(self) -> JsonObject:
        """The hosts and groups as an inventory for plain ``ansible-playbook``; secrets are lookups, never values."""
        from ismgr_automation import wiring

        with self._scope((), ()) as scope:
            states = read_states(scope)
            return wiring.inventory(scope, meet(scope, {}, states), states)

    def plan_destroy(self, targets: Names = (), excludes: Names = ()) -> Plan:
        """The plan that deletes the selected stacks and what depends on them."""
        with self._scope(targets, excludes) as scope:
            return plan_destroy(scope, datetime.now(UTC))

    def _again(self, planned: Plan, scope: Scope) -> Plan:

        again = plan_destroy if planned.purpose is Purpose.DESTROY else plan
        return again(scope, datetime.now(UTC))

    @contextmanager
    def _scope_of(self, plan: Plan) -> Iterator[Scope]:
        texts = plan.inputs.selection
        targets = [one for one in texts if not one.startswith("-")]
        excludes = [one.removeprefix("-") for one in texts if one.startswith("-")]
        with self._scope(targets, excludes) as scope:
            yield scope

    @contextmanager
    def _scope(self, targets: Names, excludes: Names) -> Iterator[Scope]:
        from ismgr_automation import wiring

        selection = self._selection(targets, excludes)
        with tempfile.TemporaryDirectory(prefix="run-", dir=self.tree.root.parent, ignore_cleanup_errors=True) as work:
            context = Context(work=Path(work), emit=self._emit, cancelled=self.cancelled)
            yield wiring.wire(
                self.documents,
                self.tree,
                directory=self.directory,
                environment=self._environment,
                context=context,
                selection=selection,
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
        }
        text = str(name)
        if text.startswith("host/") or text in known:
            return Address.parse(text)
        summary = f"there is no {text!r}"
        expected = "stack/NAME, group/NAME or host/NAME"
        wrong.append(Diagnostic(summary=summary, expected=expected, suggestion=did_you_mean(text, known)))
        return Address(Kind.HOST, text)


def read_plan(path: Path) -> Plan:
    """Read a plan file; raises ``PlanFileError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanFileError(
            f"The plan file {path} cannot be read: {error}.", next_step="Make one with `ismgr plan --out FILE`."
        ) from None
    return read(text, str(path))


def read_documents(folder: Path, ref: str | None, work: Path) -> tuple[Tree, Documents]:
    """Lay out the tree below ``work`` and read its documents; raises ``EstateError`` with every mistake."""
    from ismgr_automation import wiring

    tree = wiring.source(folder).checkout(ref, work / "tree")
    documents, diagnostics = load(tree.root, tree.objects)
    raise_errors(diagnostics)
    if documents is None:
        raise EstateError("There is no estate here.", diagnostics=diagnostics)
    return tree, documents


def raise_errors(diagnostics: Sequence[Diagnostic]) -> None:
    """Raise ``EstateError`` with all diagnostics when one of them is an error."""
    errors = [one for one in diagnostics if one.severity is Severity.ERROR]
    if errors:
        count = f"{len(errors)} mistake{'s' if len(errors) != 1 else ''}"
        raise EstateError(f"The estate has {count}.", diagnostics=diagnostics)
