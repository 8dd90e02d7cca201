"""Looking at stacks: what the engine remembers of them, and previews in the order of their outputs. Touches nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ismgr_automation.converge.parallel import each
from ismgr_automation.converge.requests import references, stack_content, stack_request
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Address, stack
from ismgr_automation.core.errors import EngineError, EngineMissing, IsmgrError
from ismgr_automation.core.events import ObservationFinished, ObservationStarted
from ismgr_automation.core.json import digest
from ismgr_automation.planning.change import Finding, Level
from ismgr_automation.planning.defer import Known, deferred_stack, missing_outputs, unknown_outputs
from ismgr_automation.planning.graph import levels
from ismgr_automation.planning.observation import StackSight
from ismgr_automation.ports.stacks import StackPreview, StackState

Seen = TypeVar("Seen")
NOTHING = StackState(outputs={}, resources=0, state_digest=digest({}))
"""Stands for a state that could not be read; the stack then has a problem."""


def watched(scope: Scope, subject: Address, how: str, look: Callable[[], Seen], found: Callable[[Seen], str]) -> Seen:
    """Run one look between its two events."""
    scope.context.emit(ObservationStarted(subject=subject, how=how))
    began = time.monotonic()
    outcome = "failed"
    try:
        seen = look()
        outcome = found(seen)
        return seen
    finally:
        scope.context.emit(
            ObservationFinished(subject=subject, how=how, found=outcome, seconds=time.monotonic() - began)
        )


def read_states(scope: Scope) -> Mapping[Address, StackState]:
    """What the engine remembers of every stack of the estate. Raises ``EngineError`` for the first that cannot be
    read."""
    names = sorted(scope.estate.stacks)
    found = each(names, lambda name: scope.engines.stacks.state(stack_request(scope, name)), workers=scope.workers)
    return {stack(name): state for name, state in zip(names, found, strict=True)}


def readable_states(scope: Scope) -> tuple[Mapping[Address, StackState], Mapping[Address, Finding]]:
    """The same for a look at everything: a state that cannot be read is a finding, so that the rest is still shown."""

    def look(name: str) -> StackState | Finding:
        try:
            return scope.engines.stacks.state(stack_request(scope, name))
        except EngineMissing:
            raise
        except EngineError as error:
            return problem(stack(name), error)

    names = sorted(scope.estate.stacks)
    found = {stack(name): one for name, one in zip(names, each(names, look, workers=scope.workers), strict=True)}
    states = {address: NOTHING if isinstance(one, Finding) else one for address, one in found.items()}
    return states, {address: one for address, one in found.items() if isinstance(one, Finding)}


def known(states: Mapping[Address, StackState], sights: Mapping[Address, StackSight]) -> Known:
    """What can be told of outputs after some stacks were looked at."""
    return Known(
        states=states,
        previews={address: sight.preview for address, sight in sights.items() if sight.preview is not None},
        waiting=frozenset(address for address, sight in sights.items() if sight.preview is None),
    )


def look_at_stacks(
    scope: Scope,
    wanted: frozenset[Address],
    states: Mapping[Address, StackState],
    before: Mapping[Address, StackSight],
) -> dict[Address, StackSight]:
    """Preview the wanted stacks, those that others refer to first; ``before`` are those that were looked at already."""
    mine = {address: [stack(one.stack) for one in references(scope, address.name)] for address in wanted}
    sights = dict(before)
    for level in levels(mine):
        found = each(level, partial(_look_at_stack, scope, known(states, sights)), workers=scope.workers)
        sights |= {one.address: one for one in found}
    return {address: sights[address] for address in wanted}


def _look_at_stack(scope: Scope, seen: Known, address: Address) -> StackSight:
    content = stack_content(scope, address.name)
    sight = StackSight(address=address, inputs=content, content=content, state=seen.states[address])
    outputs = references(scope, address.name)
    wrong = missing_outputs(address, outputs, seen)
    if wrong is not None:
        return replace(sight, problem=wrong)
    unknown = unknown_outputs(outputs, seen)
    if unknown:
        at_most = scope.estate.stacks[address.name].at_most
        return replace(sight, deferred=deferred_stack(address, unknown, content, at_most))
    request = stack_request(scope, address.name)
    try:
        preview = watched(
            scope, address, "preview", lambda: scope.engines.stacks.preview(request, scope.context), _previewed
        )
    except EngineMissing:
        raise
    except EngineError as error:
        return replace(sight, problem=problem(address, error))
    return replace(sight, preview=preview)


def state_moved(address: Address, planned: str, scope: Scope) -> bool:
    """Whether a stack's state has another digest than ``planned``. A state that cannot be read counts as moved."""
    try:
        return scope.engines.stacks.state(stack_request(scope, address.name)).state_digest != planned
    except IsmgrError:
        return True


def _previewed(preview: StackPreview) -> str:
    counts: dict[str, int] = {}
    for step in preview.steps:
        counts[step.operation] = counts.get(step.operation, 0) + 1
    return ", ".join(f"{count} to {operation}" for operation, count in sorted(counts.items())) or "nothing to do"


def problem(address: Address, error: EngineError) -> Finding:
    """An engine's failure as a finding: the plan cannot be applied, and the rest of it is still shown."""
    detail = f": {error.detail}" if error.detail else ""
    return Finding(level=Level.DENY, subject=address, summary=f"{error.summary}{detail}", next_step=error.next_step)
