"""One stack, applied or destroyed exactly as planned: what it stands on is looked at again before its engine begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ismgr_automation.converge.outcome import Done
from ismgr_automation.converge.requests import stack_request
from ismgr_automation.converge.scope import Scope
from ismgr_automation.planning.change import Action, Change, Step
from ismgr_automation.planning.compose import resource_step, stack_change
from ismgr_automation.planning.freshness import other_engine
from ismgr_automation.planning.observation import StackSight
from ismgr_automation.planning.plan import step_json
from ismgr_automation.ports.stacks import StackRequest, StackResult, StackState, UpdatePlan

HALVES: Mapping[Action, frozenset[Action]] = {
    Action.CREATE: frozenset({Action.CREATE, Action.UPDATE}),
    Action.UPDATE: frozenset({Action.UPDATE}),
    Action.REPLACE: frozenset({Action.REPLACE, Action.CREATE, Action.DELETE, Action.UPDATE}),
    Action.DELETE: frozenset({Action.DELETE}),
    Action.CONFIGURE: frozenset({Action.CONFIGURE}),
}
"""What may be left to do of a planned step after a run that died in its middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackWork:
    """What is asked: the change, its sealed update plan, and what is known. ``engine``: what it was planned with, empty
    where nothing was. ``again``: somebody began it and died. ``looked``: it was previewed under this lease a moment
    ago, and nothing has happened since."""

    change: Change
    sealed: str
    engine: str
    before: StackState
    again: bool
    looked: bool


def apply_stack(work: StackWork, scope: Scope) -> Done:
    """Bring the stack to what was planned and to nothing else. Raises ``EngineError``."""
    request = stack_request(scope, work.change.address.name)
    open_ends = _mended(work, request, scope)
    if open_ends is not None:
        return open_ends
    plan = UpdatePlan(digest=work.change.constraint, sealed=work.sealed) if work.sealed else None
    if work.again or not work.looked or (work.change.constraint and plan is None):
        preview = scope.engines.stacks.preview(request, scope.context)
        before = scope.engines.stacks.state(request) if work.again else work.before
        sight = StackSight(address=work.change.address, inputs="", content="", state=before, preview=preview)
        if work.again and not sight.differs:
            return Done(changed=0, post_state=before.state_digest)
        wrong = _outside(work, sight)
        if wrong:
            return Done(trouble="; ".join(wrong), unplanned=wrong, touched=work.again, stops=True)
        plan = preview.update_plan if work.again or plan is None else plan
    return _done(scope.engines.stacks.up(request, scope.context, plan))


def destroy_stack(work: StackWork, scope: Scope) -> Done:
    """Delete every resource of the stack. Raises ``EngineError``."""
    request = stack_request(scope, work.change.address.name)
    open_ends = _mended(work, request, scope)
    if open_ends is not None:
        return open_ends
    if work.again and (now := scope.engines.stacks.state(request)).resources == 0:
        return Done(changed=0, post_state=now.state_digest)
    return _done(scope.engines.stacks.destroy(request, scope.context))


def _mended(work: StackWork, request: StackRequest, scope: Scope) -> Done | None:
    """Why nothing may be done to the stack, if there is a reason; what a dead run left behind is mended first."""
    if not work.again:
        if work.change.precondition and work.before.state_digest != work.change.precondition:
            return Done(trouble="somebody wrote to its state since it was planned", touched=False, stops=True)
        return None
    found = scope.engines.stacks.recover(request, scope.context)
    return Done(trouble="; ".join(found.open), unsure=True, stops=True) if found.open else None


def _outside(work: StackWork, sight: StackSight) -> tuple[str, ...]:
    """What the stack would do now that was not planned."""
    address, preview = work.change.address, sight.preview
    if not sight.differs or preview is None:
        return (f"{address} has nothing to do any more",)
    other = other_engine(work.engine, preview.engine)
    if other:
        return (f"{address}: {other}",)
    now = stack_change(sight)
    if work.again:
        allowed = {(step.target, step.what, half) for step in work.change.steps for half in HALVES[step.action]}
        over = [step for step in now.steps if (step.target, step.what, step.action) not in allowed]
        return tuple(
            f"{address} would {step.action} {step.target} ({step.what}), which was not planned" for step in over
        )
    # the engine's plan says what will be, our steps also what it is now
    same = now.constraint == work.change.constraint and _steps(now.steps) == _steps(work.change.steps)
    return () if same else (f"{address} would do something else now",)


def _steps(steps: tuple[Step, ...]) -> list[object]:
    return [step_json(one) for one in steps]


def _done(result: StackResult) -> Done:
    wrong = (*result.failed, *result.unplanned)
    return Done(
        changed=len(result.steps),
        trouble="; ".join(wrong),
        # the engine refuses what its plan does not hold; then it may have done nothing at all
        touched=bool(result.steps or result.failed) or not wrong,
        stops=bool(result.unplanned),
        unplanned=result.unplanned,
        applied=tuple(map(resource_step, result.steps)),
        post_state=result.state_digest,
    )
