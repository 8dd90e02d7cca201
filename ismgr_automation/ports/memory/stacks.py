"""A provisioning engine in memory. Compares what a program asks for with what the world has; starts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ismgr_automation.core.json import Json, JsonObject, digest
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory.world import UNKNOWN, Desired, MemoryWorld
from ismgr_automation.ports.stacks import (
    Operation,
    Output,
    OutputRef,
    ResourceStep,
    StackPreview,
    StackRequest,
    StackResult,
    StackState,
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
        return StackState(outputs=outputs, resources=len(resources), state_digest=_digest(resources))

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
        return StackPreview(
            steps=steps,
            drift=tuple(_drifted(one) for one in drift),
            outputs=_outputs(wanted),
            state_digest=_digest(known),
            unchanged=len(wanted.resources) - len(steps),
            engine=ENGINE,
        )

    def up(self, request: StackRequest, context: Context) -> StackResult:
        """Make it so."""
        name = request.address.name
        with self.world.lock:
            self.world.called("up", name, context)
            actual = self.world.actual.setdefault(name, {})
            wanted = self.world.programs[name](self._config(request), True)  # noqa: FBT003  see Program
            steps = _compare(actual, wanted.resources, self.world.replacing)
            for step in steps:
                self._make(name, step, wanted.resources)
            self.world.state[name] = dict(actual)
            self.world.outputs[name] = _outputs(wanted)
        return StackResult(
            steps=steps, failed=(), outputs=_outputs(wanted), state_digest=_digest(self.world.state[name])
        )

    def destroy(self, request: StackRequest, context: Context) -> StackResult:
        """Take all of it away."""
        name = request.address.name
        with self.world.lock:
            self.world.called("destroy", name, context)
            steps = _compare(self.world.actual.get(name, {}), {}, self.world.replacing)
            for step in steps:
                self._make(name, step, {})
            self.world.state.pop(name, None)
            self.world.outputs.pop(name, None)
        return StackResult(steps=steps, failed=(), outputs={}, state_digest=_digest({}))

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


def _digest(resources: Mapping[str, JsonObject]) -> str:
    return digest({"resources": resources})


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


def _drifted(step: ResourceStep) -> ResourceStep:
    return ResourceStep(
        name=step.name,
        type=step.type,
        operation=Operation.DRIFT,
        changed=step.changed,
        before=step.before,
        after=step.after,
    )
