"""A provisioning engine in memory. Compares what a program asks for with what the world has; starts nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ismgr_automation.core.errors import EngineFailed, InputError, LeaseLost
from ismgr_automation.core.json import Json, JsonObject, digest
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory.world import UNKNOWN, Desired, MemoryWorld, StackLock
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

ENGINE = "memory-stacks 1"


@dataclass(frozen=True, slots=True)
class MemoryStackEngine:
    """``ports.stacks.StackEngine``."""

    world: MemoryWorld

    def state(self, request: StackRequest) -> StackState:
        """What is remembered."""
        name = request.address.name
        with self.world.lock:
            self.world.called("state", name)
            resources = self.world.state.get(name, {})
            outputs = dict(self.world.outputs.get(name, {}))
            state_digest = self._state_digest(name)
        return StackState(outputs=outputs, resources=len(resources), state_digest=state_digest)

    def preview(self, request: StackRequest, context: Context) -> StackPreview:
        """Refresh and compare, keep nothing."""
        name = request.address.name
        with self.world.lock:
            self.world.called("preview", name, context)
            known, actual = self.world.state.get(name, {}), self.world.actual.get(name, {})
            drift = [step for step in _compare(known, actual, self.world.replacing) if step.name in known]
            config = self._config(request)
            wanted = self.world.programs[name](config, not self._fresh(name, config))
            steps = _compare(actual, wanted.resources, self.world.replacing)
            pending = sorted(self.world.pending.get(name, {}))
        return StackPreview(
            steps=steps,
            drift=(*map(_drifted, drift), *map(_interrupted, pending)),
            outputs=_outputs(wanted),
            state_digest=_digest(known, pending),
            unchanged=len(wanted.resources) - len(steps),
            engine=ENGINE,
            update_plan=_plan(name, steps),
        )

    def up(self, request: StackRequest, context: Context, update_plan: UpdatePlan | None = None) -> StackResult:
        """Make it so, one resource after the other; the first that a plan does not hold ends it."""
        name = request.address.name
        with self.world.lock:
            self._enter("up", name, context)
            actual = self.world.actual.setdefault(name, {})
            wanted = self.world.programs[name](self._config(request), True)  # noqa: FBT003  see Program
            steps = _compare(actual, wanted.resources, self.world.replacing)
            unplanned = [] if update_plan is None else _unplanned(_unsealed(name, update_plan), steps)
            landed = list(itertools.takewhile(lambda one: all(name != one.name for name, _ in unplanned), steps))
            self._land(name, landed, wanted.resources)
            if not unplanned:
                self.world.outputs[name] = _outputs(wanted)
                self.world.pending.pop(name, None)
        return StackResult(
            steps=tuple(landed),
            failed=(),
            outputs=dict(self.world.outputs.get(name, {})),
            state_digest=self._state_digest(name),
            unplanned=tuple(f"{step}: {why}" for step, why in unplanned),
        )

    def recover(self, request: StackRequest, context: Context) -> Recovery:
        """Clear the lock of a dead owner, then see which pending operations the world tells the end of."""
        name = request.address.name
        with self.world.lock:
            self.world.called("recover", name, context)
            lock = self.world.locks.get(name)
            if lock is not None and not lock.dead:
                return Recovery(open=(f"the lock of {lock.owner}, since {lock.since}: see whether it still runs",))
            cleared = () if lock is None else (f"the lock of {lock.owner}, since {lock.since}",)
            self.world.locks.pop(name, None)
            pending = self.world.pending.pop(name, {})
            resolved, actual = [], self.world.actual.get(name, {})
            for resource in sorted(one for one, tells in pending.items() if tells):
                known = self.world.state.setdefault(name, {})
                known.pop(resource, None)
                known.update({resource: actual[resource]} if resource in actual else {})
                resolved.append(f"{resource}: {'it is there' if resource in actual else 'it is not there'}")
            left = {one: False for one, tells in pending.items() if not tells}
            self.world.pending.update({name: left} if left else {})
        return Recovery(
            cleared=cleared,
            resolved=tuple(resolved),
            open=tuple(f"{one}: nobody knows whether it was made" for one in sorted(left)),
        )

    def destroy(self, request: StackRequest, context: Context) -> StackResult:
        """Take all of it away."""
        name = request.address.name
        with self.world.lock:
            self._enter("destroy", name, context)
            steps = _compare(self.world.actual.get(name, {}), {}, self.world.replacing)
            self._land(name, steps, {})
            self.world.state.pop(name, None)
            self.world.outputs.pop(name, None)
        return StackResult(steps=steps, failed=(), outputs={}, state_digest=_digest({}))

    def _enter(self, verb: str, name: str, context: Context) -> None:
        self.world.called(verb, name, context)
        seen = self.world.stack_fences.get(name, 0)
        if 0 < context.token < seen:
            raise LeaseLost(
                f"stack/{name}: its state has seen token {seen}, and ours is {context.token}.",
                next_step="Look who holds the lease now.",
            )
        self.world.stack_fences[name] = max(seen, context.token)
        lock = self.world.locks.get(name)
        if lock is not None:
            raise EngineFailed(
                f"stack/{name}: the stack is locked by {lock.owner}, since {lock.since}.",
                engine=ENGINE,
                subject=f"stack/{name}",
                untouched="Nothing was touched.",
                next_step="Recover the stack, or wait.",
            )

    def _land(self, name: str, steps: Sequence[ResourceStep], wanted: Mapping[str, JsonObject]) -> None:
        """Carry out steps; the state knows of each once it is done. Resources that were there all along are adopted."""
        known = self.world.state.setdefault(name, {})
        actual = self.world.actual.setdefault(name, {})
        coming = {one.name for one in steps}
        known.update({one: value for one, value in actual.items() if one not in coming})
        for step in steps:
            self._make(name, step, wanted)
            crash = self.world.crashes.pop((name, step.name), None)
            if crash is not None:
                self.world.locks[name] = StackLock(owner="us@here, process 1", dead=True)
                self.world.pending.setdefault(name, {})[step.name] = True
                raise crash
            known.pop(step.name, None)
            known.update({step.name: actual[step.name]} if step.name in actual else {})
        for gone in set(known) - set(actual):
            known.pop(gone)

    def _state_digest(self, name: str) -> str:
        return _digest(self.world.state.get(name, {}), sorted(self.world.pending.get(name, {})))

    def _make(self, stack: str, step: ResourceStep, wanted: Mapping[str, JsonObject]) -> None:
        actual = self.world.actual[stack]
        if step.operation in (Operation.DELETE, Operation.REPLACE):
            actual.pop(step.name)
            self.world.values.pop(step.name, None)
        if step.operation is not Operation.DELETE:
            if actual.get(step.name, {"power": "off"}).get("power") == "off":
                self.world.booting[step.name] = self.world.settings["boot_probes"]
            actual[step.name] = wanted[step.name]

    def _fresh(self, name: str, config: Mapping[str, Json]) -> bool:
        """Whether something that the program asks for is not made yet."""
        wanted = self.world.programs[name](config, True).resources  # noqa: FBT003  see Program
        made = self.world.actual.get(name, {})
        steps = _compare(made, wanted, self.world.replacing)
        return any(one.operation in (Operation.CREATE, Operation.REPLACE) for one in steps)

    def _config(self, request: StackRequest) -> Mapping[str, Json]:
        found: dict[str, Json] = {}
        for key, value in request.config.items():
            if isinstance(value, OutputRef):
                output = self.world.outputs.get(value.stack, {}).get(value.output)
                found[key] = output.value if output is not None else UNKNOWN
            else:
                found[key] = "<secret>" if isinstance(value, SecretRef) else value
        return found


def _digest(resources: Mapping[str, JsonObject], pending: Sequence[str] = ()) -> str:
    return digest({"resources": resources, **({"pending": list(pending)} if pending else {})})


def _plan(stack: str, steps: Sequence[ResourceStep]) -> UpdatePlan:
    """The steps as they are: nobody hides anything here."""
    rows: list[Json] = [[one.name, one.operation.value, one.after] for one in steps]
    return UpdatePlan(digest=digest([stack, rows]), sealed=json.dumps([stack, rows]))


def _unsealed(stack: str, plan: UpdatePlan) -> Mapping[str, tuple[str, JsonObject]]:
    """Operation and properties of each planned step."""
    made_for, rows = json.loads(plan.sealed)
    if made_for != stack or digest([stack, rows]) != plan.digest:
        raise InputError(f"stack/{stack}: the update plan is not the one that its digest says.")
    return {name: (operation, after or {}) for name, operation, after in rows}


def _unplanned(plan: Mapping[str, tuple[str, JsonObject]], steps: Sequence[ResourceStep]) -> list[tuple[str, str]]:
    """Resources with a step that the plan does not hold, and why not."""
    found = []
    for step in steps:
        operation, after = plan.get(step.name, ("", {}))
        if not operation:
            found.append((step.name, f"{step.operation} is not in the plan"))
        elif operation != step.operation:
            found.append((step.name, f"{step.operation}, and the plan holds {operation}"))
        else:
            moved = [key for key, value in (step.after or {}).items() if after.get(key, None) not in (value, UNKNOWN)]
            found += [(step.name, f"other values than in the plan: {', '.join(moved)}")] if moved else []
    return found


def _outputs(wanted: Desired) -> dict[str, Output]:
    return {
        name: value if isinstance(value, Output) else Output(value=value, known=value != UNKNOWN)
        for name, value in wanted.outputs.items()
    }


def _compare(
    old: Mapping[str, JsonObject], new: Mapping[str, JsonObject], replacing: set[str]
) -> tuple[ResourceStep, ...]:
    found = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        keys = sorted(
            key for key in {*(before or {}), *(after or {})} if (before or {}).get(key) != (after or {}).get(key)
        )
        operation = Operation.REPLACE if replacing & set(keys) else Operation.UPDATE
        operation = Operation.CREATE if before is None else Operation.DELETE if after is None else operation
        found.append(
            ResourceStep(
                name=name,
                type="memory:Thing",
                operation=operation,
                changed=tuple(keys),
                before=None if before is None else {key: before[key] for key in keys if key in before},
                after=None if after is None else {key: after[key] for key in keys if key in after},
            )
        )
    return tuple(found)


def _interrupted(resource: str) -> ResourceStep:
    return ResourceStep(
        name=resource,
        type="memory:Thing",
        operation=Operation.DRIFT,
        changed=("<interrupted>",),
        before={"<interrupted>": "creating"},
        after={"<interrupted>": UNKNOWN},
    )


def _drifted(step: ResourceStep) -> ResourceStep:
    return ResourceStep(
        name=step.name,
        type=step.type,
        operation=Operation.DRIFT,
        changed=step.changed,
        before=step.before,
        after=step.after,
    )
