"""From an observation to a plan: which changes, in which waves, what is deferred, what drifted. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from ismgr_automation.core.address import Address, host
from ismgr_automation.planning.change import (
    OUTPUT,
    Action,
    Certainty,
    Change,
    Deferred,
    Drift,
    Finding,
    Level,
    Reason,
    Step,
)
from ismgr_automation.planning.defer import boundless, group_behind, stack_behind
from ismgr_automation.planning.graph import Graph, ancestors, levels
from ismgr_automation.planning.observation import GroupSight, Observation, StackSight
from ismgr_automation.planning.plan import Beside, Plan, Purpose
from ismgr_automation.planning.unplanned import tasks_of, tasks_of_each
from ismgr_automation.planning.waves import apart, obstacle, shards
from ismgr_automation.ports.hosts import PlaybookResult, Status, TaskResult
from ismgr_automation.ports.stacks import Operation, ResourceStep

ACTIONS: Mapping[Operation, Action] = {
    Operation.CREATE: Action.CREATE,
    Operation.UPDATE: Action.UPDATE,
    Operation.REPLACE: Action.REPLACE,
    Operation.DELETE: Action.DELETE,
    Operation.IMPORT: Action.CREATE,
    Operation.READ: Action.UPDATE,
}
"""A resource's operation as the action of a step. SAME never becomes a step, DRIFT is kept apart."""


def compose(seen: Observation, *, estate: str, environment: str, beside: Beside) -> Plan:
    """Compose the plan of an observation. The same observation always gives the same digest."""
    graph = seen.graph
    changes = [*_stack_changes(seen), *_group_changes(seen)]
    deferred = {one.address: one for one in _deferred(seen)}
    changes, deferred = _push_back(changes, deferred, graph, seen)
    findings = (*seen.findings, *_findings(seen))
    errored = any(one.level is Level.DENY for one in findings)
    return Plan(
        estate=estate,
        environment=environment,
        purpose=Purpose.APPLY,
        inputs=seen.inputs,
        changes=tuple(changes),
        waves=apart(waves(changes, graph), names_of(changes), seen.guards, seen.sick),
        deferred=tuple(deferred[key] for key in sorted(deferred)),
        drift=tuple(_drift(seen)),
        findings=findings,
        complete=not errored and not deferred,
        errored=errored,
        beside=replace(beside, sidecars=_sidecars(changes, seen)),
    )


def names_of(changes: Iterable[Change]) -> dict[str, tuple[str, ...]]:
    """The hosts of each change by its key; stacks have none."""
    return {one.key: tuple(target.name for target in one.targets) for one in changes}


def waves(changes: Iterable[Change], graph: Graph) -> tuple[tuple[str, ...], ...]:
    """Keys of changes that may run together, in order: after everything that they need, batch after batch."""
    listed = list(changes)
    by_address: dict[Address, list[Change]] = {}
    for one in listed:
        by_address.setdefault(one.address, []).append(one)
    edges: dict[str, set[str]] = {}
    for one in listed:
        before = {other.key for need in ancestors(graph, [one.address]) for other in by_address.get(need, ())}
        before |= {other.key for other in by_address[one.address] if _turn(other) < _turn(one)}
        edges[one.key] = before
    return levels(edges)


def _turn(change: Change) -> int:
    """When a change comes among those of its address; changes without a batch come one after the other."""
    return change.batch or change.part


def _sidecars(changes: Iterable[Change], seen: Observation) -> Mapping[str, str]:
    """The engines' own plans of what will be applied, as they were sealed."""
    previews = {one.address: seen.stacks[one.address].preview for one in changes if one.address in seen.stacks}
    plans = {str(address): preview.update_plan for address, preview in previews.items() if preview is not None}
    return {address: plan.sealed for address, plan in sorted(plans.items()) if plan is not None}


def _stack_changes(seen: Observation) -> Iterable[Change]:
    for address in sorted(seen.stacks):
        sight = seen.stacks[address]
        if sight.differs and sight.deferred is None:
            yield stack_change(sight)


def stack_change(sight: StackSight) -> Change:
    """The change of a stack whose preview found something to do."""
    preview = sight.preview
    assert preview is not None  # noqa: S101  the caller looked
    # engines work in parallel: the order in which they speak is not part of what will be done
    ordered = sorted(preview.steps, key=lambda one: (one.name, one.type, one.operation))
    # outputs follow from resources; they are steps of their own only where nothing else tells of the change
    steps = tuple(map(resource_step, ordered)) or tuple(_output(name, sight) for name in sight.changed_outputs)
    fresh = sight.state.resources == 0 and not sight.state.outputs
    drifted = {one.name for one in preview.drift}
    only_drift = bool(drifted) and all(one.target in drifted for one in steps)
    return Change(
        address=sight.address,
        part=0,
        action=_overall(steps, fresh=fresh),
        reason=Reason.NEW if fresh else Reason.DRIFT if only_drift else Reason.INPUTS,
        steps=steps,
        targets=(),
        inputs=sight.inputs,
        precondition=preview.state_digest,
        constraint=preview.update_plan.digest if preview.update_plan is not None else "",
    )


def _overall(steps: tuple[Step, ...], *, fresh: bool) -> Action:
    if fresh:
        return Action.CREATE
    actions = {one.action for one in steps}
    return actions.pop() if len(actions) == 1 else Action.UPDATE


def resource_step(step: ResourceStep) -> Step:
    """A resource of a stack as a step."""
    return Step(
        target=step.name,
        what=step.type,
        action=ACTIONS[step.operation],
        why=", ".join(step.changed),
        before=step.before,
        after=step.after,
    )


def _output(name: str, sight: StackSight) -> Step:
    before = sight.state.outputs.get(name)
    after = sight.preview.outputs.get(name) if sight.preview is not None else None
    action = Action.CREATE if before is None else Action.DELETE if after is None else Action.UPDATE
    return Step(
        target=name,
        what=OUTPUT,
        action=action,
        before=before.value if before is not None else None,
        after=after.value if after is not None else None,
    )


def _group_changes(seen: Observation) -> Iterable[Change]:
    for address in sorted(seen.groups):
        sight = seen.groups[address]
        if sight.checked is not None and sight.deferred is None:
            yield from _shards(sight, sight.checked, seen)


def _shards(sight: GroupSight, checked: PlaybookResult, seen: Observation) -> Iterable[Change]:
    """The hosts that have something to do, cut into shards: a canary must be a host that is worked on."""
    same_inputs = sight.applied == sight.inputs
    cut = shards(_todo(sight, checked), sight.sizes, seen.guards, seen.sick)
    for shard, tasks in zip(cut, tasks_of_each((one.names for one in cut), checked), strict=True):
        yield Change(
            address=sight.address,
            part=shard.part,
            batch=shard.batch,
            action=Action.CONFIGURE,
            reason=Reason.NEW if sight.applied is None else Reason.DRIFT if same_inputs else Reason.INPUTS,
            steps=tuple(task_step(one) for one in tasks if one.status is Status.CHANGED or one.unpredictable),
            targets=tuple(map(host, shard.names)),
            inputs=sight.inputs,
        )


def _todo(sight: GroupSight, checked: PlaybookResult) -> tuple[str, ...]:
    """The members that have something to do. What nobody can tell counts only when Git asks for something new."""
    same_inputs = sight.applied == sight.inputs
    todo = {
        task.host
        for task in tasks_of(sight.members, checked)
        if (task.unpredictable and not same_inputs) or (task.status is Status.CHANGED and not task.unpredictable)
    }
    return tuple(name for name in sight.members if name in todo)


def task_step(task: TaskResult) -> Step:
    """A task on a host as a step. Its place is its identity: later results are compared with it."""
    return Step(
        target=task.host,
        what=f"{task.role} : {task.task}" if task.role else task.task,
        action=Action.CONFIGURE,
        certainty=Certainty.UNPREDICTABLE if task.unpredictable else Certainty.CHANGES,
        why=task.unpredictable,
        where=task.path,
        before=task.before or None,
        after=task.after or None,
    )


def _deferred(seen: Observation) -> Iterable[Deferred]:
    sights: list[StackSight | GroupSight] = [*seen.stacks.values(), *seen.groups.values()]
    yield from (sight.deferred for sight in sights if sight.deferred is not None)


def _push_back(
    changes: list[Change], deferred: dict[Address, Deferred], graph: Graph, seen: Observation
) -> tuple[list[Change], dict[Address, Deferred]]:
    """What runs after something deferred is deferred as well: its wave cannot be known to be the right one."""
    kept: list[Change] = []
    pushed: dict[Address, list[Change]] = {}
    for one in changes:
        waits = ancestors(graph, [one.address]) & set(deferred)
        (pushed.setdefault(one.address, []) if waits else kept).append(one)
    late = {
        address: _pushed(parts[0], ancestors(graph, [address]) & set(deferred), seen)
        for address, parts in pushed.items()
    }
    return kept, {**deferred, **late}


def _pushed(change: Change, waits: Collection[Address], seen: Observation) -> Deferred:
    address = change.address
    if address in seen.stacks:
        return stack_behind(change, waits, seen.stacks[address].content)
    sight = seen.groups[address]
    return group_behind(address, sight.members, waits, sight.content)


def _drift(seen: Observation) -> Iterable[Drift]:
    for address in sorted(seen.stacks):
        preview = seen.stacks[address].preview
        for one in sorted(preview.drift, key=lambda one: (one.name, one.type)) if preview else ():
            yield Drift(address=address, target=one.name, what=one.type, before=one.before, after=one.after)
    for address in sorted(seen.groups):
        sight = seen.groups[address]
        if sight.checked is None or sight.applied != sight.inputs:
            continue
        for task in sorted(sight.checked.tasks, key=lambda one: one.host):
            if task.status is Status.CHANGED and not task.unpredictable:
                yield Drift(
                    address=host(task.host),
                    target=task.host,
                    what=task.task,
                    before=task.before or None,
                    after=task.after or None,
                )


def _findings(seen: Observation) -> Iterable[Finding]:
    for address in sorted({**seen.stacks, **seen.groups}):
        problem = seen.stacks[address].problem if address in seen.stacks else seen.groups[address].problem
        if problem is not None:
            yield problem
    for address in sorted(seen.stacks):
        waiting = seen.stacks[address].deferred
        open_ended = boundless(waiting) if waiting is not None else None
        if open_ended is not None:
            yield open_ended
        yield from _all_gone(seen.stacks[address])
    for address in sorted(seen.groups):
        yield from _promises(seen.groups[address], seen)
    for address in sorted(seen.groups):
        sight = seen.groups[address]
        for one in sight.unreachable if sight.deferred is None and sight.problem is None else ():
            yield Finding(
                level=Level.DENY,
                subject=host(one.host),
                summary=f"{one.host} cannot be worked on ({one.reach}): {one.detail}",
                next_step=f"Mend it, or leave it out with --exclude host/{one.host}.",
            )
        for name in sight.checked.failed if sight.checked is not None and sight.deferred is None else ():
            yield Finding(
                level=Level.DENY,
                subject=host(name),
                summary=f"check mode failed on {name}: {_failure(sight, name)}",
                next_step=f"Run the playbook of {address} in check mode by hand, or mend the task.",
            )


def _all_gone(sight: StackSight) -> Iterable[Finding]:
    """Whoever may not read any more often gets the answer that nothing is there."""
    gone = {one.name for one in sight.preview.drift if one.after is None} if sight.preview is not None else set()
    if len(gone) > 1 and len(gone) >= sight.state.resources:
        yield Finding(
            level=Level.WARN,
            subject=sight.address,
            summary=f"all {len(gone)} resources of {sight.address} look gone",
            next_step="Look whether its credentials may still read them before they are made a second time.",
        )


def _promises(sight: GroupSight, seen: Observation) -> Iterable[Finding]:
    """Hosts that have something to do and can never be worked on without breaking what a host group promises."""
    if sight.checked is None or sight.deferred is not None:
        return
    wrong = obstacle(_todo(sight, sight.checked), seen.guards, seen.sick)
    if wrong is not None:
        yield Finding(
            level=Level.DENY, subject=sight.address, summary=wrong.summary, next_step=wrong.next_step, refuses=True
        )


def _failure(sight: GroupSight, name: str) -> str:
    tasks = sight.checked.tasks if sight.checked is not None else ()
    failed = [one for one in tasks if one.host == name and one.status is Status.FAILED]
    return f"{failed[-1].task}: {failed[-1].message}" if failed else "no task was reached"
