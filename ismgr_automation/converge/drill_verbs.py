"""From the steps of a recovery plan to verbs: whom each one is done to, over which engine, and which safety rules it is
judged by. Nothing is done here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from ismgr_automation.converge.drill_field import Field
from ismgr_automation.converge.fleet import probe
from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.machines import access, machine_of
from ismgr_automation.converge.report import failed_checks
from ismgr_automation.converge.requests import at_hand, playbook_request, stack_request
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.verify import suites_of
from ismgr_automation.core.errors import Cancelled, InputError, IsmgrError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.core.spans import from_nanoseconds
from ismgr_automation.estate.order import Step
from ismgr_automation.estate.recovery import (
    DemoteStep,
    DnsStep,
    FenceStep,
    FenceWay,
    FunctionStep,
    HaproxyStep,
    PlayStep,
    PromoteStep,
    RecoveryPlan,
    RejoinStep,
    StackStep,
    UnfenceStep,
    VerifyStep,
)
from ismgr_automation.estate.resolve import duration
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.recovery import (
    Acted,
    BackendRequest,
    FenceRequest,
    FunctionCall,
    NameRequest,
    Seen,
    Sight,
    Verb,
    Witness,
)
from ismgr_automation.ports.verification import CheckResult
from ismgr_automation.recovery.path import Leg, Task
from ismgr_automation.recovery.rules import Act


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What verbs are made from: where the drill takes place, and in which leg."""

    scope: Scope
    ground: Ground
    field: Field
    leg: Leg
    proven: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Who is known to have connected to the old side before its fence was raised, and in how many milliseconds, for
    whoever resumes."""
    cut_off: bool = False
    """A fault has cut off the old side's site: what is silent for those outside may be well, so that they are no
    witnesses of its fence."""


BOOT = timedelta(minutes=5)
"""What a machine that is given back may take at least, from its power to an answer."""

MOMENT = timedelta(seconds=1)
"""What the work of another engine is given at least."""

TRIES = 3
"""How often a suite is asked after a move."""

ACTS: Mapping[type[Step], Act] = {
    FenceStep: Act.FENCE,
    DemoteStep: Act.DEMOTE,
    PromoteStep: Act.PROMOTE,
    HaproxyStep: Act.SWITCH,
    DnsStep: Act.SWITCH,
    UnfenceStep: Act.UNFENCE,
    RejoinStep: Act.REJOIN,
    VerifyStep: Act.OTHER,
    PlayStep: Act.OTHER,
    StackStep: Act.OTHER,
    FunctionStep: Act.OTHER,
}
"""What a step is, as far as safety is concerned."""


def verb_of(task: Task, kit: Kit) -> Verb:
    """The verb of a task. Raises ``InputError`` for what cannot be asked for."""
    switches, context = kit.scope.engines.recovery.switches, kit.scope.context
    match task.step:
        case FenceStep() | UnfenceStep() | DemoteStep() | PromoteStep() | RejoinStep():
            return _of_a_member(task.step, kit)
        case HaproxyStep() as step:
            return switches.backend(backend_request(step, kit), context)
        case DnsStep() as step:
            return switches.name(name_request(step, kit), context)
        case VerifyStep() | PlayStep() | StackStep() | FunctionStep():
            return Cold(partial(_work, task.step, kit), kit.scope.engines.recovery.clock)


def switch_of_all(task: Task, kit: Kit) -> Verb:
    """The verb of a switch that no balancer may have missed."""
    if isinstance(task.step, HaproxyStep):
        request = backend_request(task.step, kit)
        return kit.scope.engines.recovery.switches.backend(
            replace(request, enough=len(request.fleet.names)), kit.scope.context
        )
    return verb_of(task, kit)


def _of_a_member(step: FenceStep | UnfenceStep | DemoteStep | PromoteStep | RejoinStep, kit: Kit) -> Verb:
    engines, context = kit.scope.engines.recovery, kit.scope.context
    within, sides = duration(step.deadline), kit.leg.sides
    cluster = replace(kit.field.cluster, deadline=within)
    match step:
        case FenceStep():
            return engines.fences.fence(fence_request(step, kit), context)
        case UnfenceStep():
            fence = fence_of(kit.field.document)
            request = fence_request(fence, kit)
            if fence.way is FenceWay.POWER:
                return engines.fences.unfence(replace(request, deadline=within), context)
            # behind its packet filter the old primary still runs, and must not be let out as one
            retire = engines.standby.retire(replace(cluster, deadline=within / 2), sides.old, context)
            return Both(retire, engines.fences.unfence(replace(request, deadline=within / 2), context))
        case DemoteStep():
            return engines.standby.demote(cluster, sides.old, sides.new, context)
        case PromoteStep():
            return engines.standby.promote(cluster, sides.new, context)
        case RejoinStep():
            return engines.standby.rejoin(cluster, sides.old, sides.new, step.way, context)


def _work(step: VerifyStep | PlayStep | StackStep | FunctionStep, kit: Kit) -> tuple[str, str]:
    match step:
        case VerifyStep():
            return _verified(step, kit)
        case PlayStep():
            return _played(step, kit)
        case StackStep():
            return _provisioned(step, kit)
        case FunctionStep():
            return _called(step, kit)


def witness_of(task: Task, kit: Kit) -> Witness | None:
    """Who confirms what a task has done; None where nobody has to."""
    if not isinstance(task.step, FenceStep):
        return None
    return kit.scope.engines.recovery.fences.witness(fence_request(task.step, kit), kit.scope.context)


def fence_request(step: FenceStep, kit: Kit) -> FenceRequest:
    """The fence of the leg's old side, or of what was the old side when it was raised."""
    old = kit.leg.sides.old
    ground, scope = kit.ground, kit.scope
    known = next(one for one in ground.fleet.hosts if one.name == old)
    groups = [name for group in step.witnesses for name in ground.fleet.membership.get(group, ())]
    witnesses = tuple(dict.fromkeys(name for name in (groups or [kit.leg.sides.new]) if name != old))
    if kit.cut_off:
        witnesses = _inside(witnesses, known.site, kit)
    found = machine_of(scope, known)
    bmc = access(scope, ground, old) if step.way is FenceWay.POWER else None
    if step.way is FenceWay.POWER and bmc is None:
        raise InputError(
            f"The power of {old} cannot be cut: nobody knows on which machine of a Site it runs.",
            next_step="Name its machine in a Site document, or fence it with `way: network`.",
        )
    addresses = found[1].addresses if found is not None else {}
    return FenceRequest(
        host=old,
        fleet=at_hand(scope, ground.fleet, [old, *witnesses]),
        port=kit.field.cluster.port,
        deadline=duration(step.deadline),
        bmc=bmc,
        spared=(known.address,),
        witnesses=witnesses,
        proven=kit.proven,
        address=str(addresses.get(step.network.replace("{site}", known.site), known.address)),
    )


def _inside(names: Sequence[str], site: str, kit: Kit) -> tuple[str, ...]:
    sites = {one.name: one.site for one in kit.ground.fleet.hosts}
    found = tuple(one for one in names if sites[one] == site)
    if not found:
        raise InputError(
            f"Nobody at site {site} could confirm a fence there while the site is cut off.",
            next_step="Name `witnesses` of the fence, a HostGroup with a host at that site.",
        )
    return found


def giving_back(kit: Kit) -> Verb:
    """The verb that lets a failover's old side out to be the primary again. A machine is given the time to boot."""
    request = replace(fence_request(fence_of(kit.field.document), kit), giving_back=True)
    if request.bmc is not None:
        unfences = [one for one in kit.field.document.reprotect if isinstance(one, UnfenceStep)]
        request = replace(request, deadline=max([BOOT, *(duration(one.deadline) for one in unfences)]))
    return kit.scope.engines.recovery.fences.unfence(request, kit.scope.context)


def fence_of(document: RecoveryPlan) -> FenceStep:
    """The fence that a failover of this plan raises."""
    return next(one for one in document.failover if isinstance(one, FenceStep))


def backend_request(step: HaproxyStep, kit: Kit) -> BackendRequest:
    """Whom the balancers of a step send clients to in a leg."""
    return BackendRequest(
        fleet=at_hand(kit.scope, kit.ground.fleet, kit.ground.fleet.membership.get(step.group, ())),
        backend=step.backend,
        server=step.server.replace("{host}", kit.leg.sides.new),
        socket=step.socket,
        deadline=duration(step.deadline),
    )


def name_request(step: DnsStep, kit: Kit) -> NameRequest:
    """What the name of a step points to after a leg."""
    return NameRequest(
        server=step.server,
        port=step.port,
        zone=step.zone,
        record=step.record,
        type=step.type,
        ttl=step.ttl,
        values=step.values[kit.leg.sides.new_site],
        key_name=step.key_name,
        key=SecretRef.parse(step.key_secret.secret),
        deadline=duration(step.deadline),
        secondaries=step.secondaries,
    )


@dataclass(slots=True)
class Cold:
    """A verb that nobody waits for: work of the other engines, done anew whenever it is asked for. The work returns
    what went wrong, and words for people."""

    work: Callable[[], tuple[str, str]]
    clock: Callable[[], int]

    def stage(self) -> Seen:
        """There is nothing to make ready."""
        return Seen(sight=Sight.NOT_DONE)

    def observe(self) -> Seen:
        """Nothing tells that it was done: doing it again is harmless."""
        return Seen(sight=Sight.NOT_DONE)

    def act(self) -> Acted:
        """Do it."""
        began = self.clock()
        try:
            trouble, words = self.work()
        except Cancelled:
            raise
        except IsmgrError as problem:
            trouble, words = problem.summary, ""
        return Acted(ok=not trouble, began_ns=began, ended_ns=self.clock(), words=trouble or words)

    def close(self) -> None:
        """There is nothing to let go of."""


@dataclass(frozen=True, slots=True)
class Both:
    """A verb that is two, the second only after the first."""

    first: Verb
    then: Verb

    def stage(self) -> Seen:
        """Make both ready."""
        return _worse(self.first.stage(), self.then.stage())

    def observe(self) -> Seen:
        """Whether both are done."""
        return _worse(self.first.observe(), self.then.observe())

    def act(self) -> Acted:
        """Do the first, and where it ended well the second."""
        one = self.first.act()
        if not one.ok:
            return one
        other = self.then.act()
        words = "; ".join(filter(None, [one.words, other.words]))
        return replace(other, began_ns=one.began_ns, words=words, readings={**one.readings, **other.readings})

    def close(self) -> None:
        """Let go of both."""
        self.first.close()
        self.then.close()


def _worse(one: Seen, other: Seen) -> Seen:
    order = (Sight.UNKNOWN, Sight.NOT_DONE, Sight.DONE)
    return min((one, other), key=lambda seen: order.index(seen.sight))


def _time_left(step: VerifyStep | PlayStep, kit: Kit) -> Callable[[], timedelta]:
    """What is left of a step's deadline, which counts from now; never less than ``MOMENT``."""
    clock = kit.scope.engines.recovery.clock
    began, deadline = clock(), duration(step.deadline)
    return lambda: max(MOMENT, deadline - from_nanoseconds(clock() - began))


def _up(group: str, kit: Kit) -> tuple[str, ...]:
    """The hosts of a group that answer now: those of a lost site cannot be asked anything."""
    members = kit.ground.fleet.membership.get(group, ())
    hosts = [one for one in kit.ground.fleet.hosts if one.name in members]
    found = probe(kit.scope, hosts, kit.ground.fleet)
    return tuple(name for name, one in found.items() if one.reach is Reach.OK)


def _verified(step: VerifyStep, kit: Kit) -> tuple[str, str]:
    """Programs that were connected to the old side notice it with their next request only, so that a suite which does
    not pass right after a move is asked again."""
    scope, ground, left = kit.scope, kit.ground, _time_left(step, kit)
    pause = scope.engines.recovery.pause.total_seconds()
    for tried in range(1, TRIES + 1):
        names = _up(step.group, kit)
        request = suites_of(scope, step.group, ground.fleet, ground.states, names) if names else None
        checks: Sequence[CheckResult] = ()
        if request is not None:
            request = replace(request, deadline=min(request.deadline, left()))
            checks = scope.engines.verifier.verify(request, scope.context)
        bad, over = failed_checks(checks), tried == TRIES or left() <= MOMENT
        if (names and not bad) or over or scope.context.cancelled.wait(pause):
            break
    if not names:
        return f"no host of group/{step.group} answers", ""
    if bad:
        first = f"{bad[0].check} on {bad[0].host}"
        return f"{len(bad)} of {len(checks)} checks did not pass, first {first}", ""
    again = f", when asked {tried} times" if tried > 1 else ""
    return "", f"{len(checks)} checks passed on {', '.join(names)}{again}"


def _played(step: PlayStep, kit: Kit) -> tuple[str, str]:
    left = _time_left(step, kit)
    names = _up(step.group, kit)
    if not names:
        return f"no host of group/{step.group} answers", ""
    request = playbook_request(kit.scope, step.group, kit.ground.fleet, names, kit.ground.states)
    request = replace(request, deadline=min(request.deadline, left()))
    result = kit.scope.engines.playbooks.run(request, kit.scope.context)
    lost = [f"{one.host} unreachable ({one.reach})" for one in result.unreachable]
    trouble = "; ".join([*(f"{name} failed" for name in result.failed), *lost])
    return trouble, f"on {', '.join(names)}"


def _provisioned(step: StackStep, kit: Kit) -> tuple[str, str]:
    request = stack_request(kit.scope, step.stack)
    request = replace(request, deadline=min(request.deadline, duration(step.deadline)))
    result = kit.scope.engines.stacks.up(request, kit.scope.context)
    return "; ".join((*result.failed, *result.unplanned)), f"{len(result.steps)} resources changed"


def arguments_of(kit: Kit) -> dict[str, str]:
    """What a function of the estate is told of its step."""
    sides = kit.leg.sides
    return {
        "plan": kit.field.document.name,
        "leg": kit.leg.name,
        "old": sides.old,
        "new": sides.new,
        "old_site": sides.old_site,
        "new_site": sides.new_site,
    }


def _called(step: FunctionStep, kit: Kit) -> tuple[str, str]:
    call = FunctionCall(
        file=kit.scope.engines.content.path(step.file),
        function=step.function,
        arguments=arguments_of(kit),
        subject=f"step {step.name}",
        deadline=duration(step.deadline),
    )
    return "", kit.scope.engines.recovery.functions.call(call, kit.scope.context)
