"""Why something cannot be looked at yet, and the bounds that it gets instead: pure decisions about deferral."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ismgr_automation.core.address import Address, host, stack
from ismgr_automation.estate.documents import HostGroup
from ismgr_automation.planning.change import Action, Change, Deferred, Envelope, Finding, Level
from ismgr_automation.planning.envelope import resources
from ismgr_automation.planning.fleet import Sighting
from ismgr_automation.ports.hosts import Reach, Reachability
from ismgr_automation.ports.stacks import OutputRef, StackPreview, StackState

CREATING = (Action.CREATE, Action.UPDATE)
CONFIGURING = (Action.CONFIGURE,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of stacks when somebody asks for an output: their states, the previews that were made, and those
    that could not be previewed although the run covers them."""

    states: Mapping[Address, StackState]
    previews: Mapping[Address, StackPreview]
    waiting: Collection[Address]


def unknown_outputs(references: Sequence[OutputRef], known: Known) -> tuple[OutputRef, ...]:
    """The outputs among ``references`` that nobody can tell yet: never applied, or about to change."""
    return tuple(one for one in references if not _settled(one, known))


def missing_outputs(address: Address, references: Sequence[OutputRef], known: Known) -> Finding | None:
    """What is wrong when an output will not come in this run either: its stack is done, or left out."""
    for one in references:
        owner = stack(one.stack)
        state, preview = known.states.get(owner), known.previews.get(owner)
        exists = state is not None and one.output in state.outputs
        comes = preview is not None and (bool(preview.steps) or one.output in preview.outputs)
        if exists or comes or owner in known.waiting:
            continue
        has = f"it has {', '.join(sorted(state.outputs))}" if state is not None and state.outputs else "it has none"
        left_out = preview is None
        return Finding(
            level=Level.DENY,
            subject=address,
            summary=f"{address} needs the output {one.stack}.{one.output}, which {owner} does not have; {has}",
            next_step=f"Apply {owner} first, or leave {address} out."
            if left_out
            else f"Export {one.output} from the program of {owner}, or name another output.",
        )
    return None


def _settled(reference: OutputRef, known: Known) -> bool:
    owner = stack(reference.stack)
    state = known.states.get(owner)
    if state is None or reference.output not in state.outputs or owner in known.waiting:
        return False
    preview = known.previews.get(owner)
    if preview is None:
        return True
    coming = preview.outputs.get(reference.output)
    if not preview.steps:
        return coming == state.outputs[reference.output]
    # a secret's value is not shown to us; a stack that changes may change it
    return coming is not None and coming.known and not coming.secret and coming == state.outputs[reference.output]


def deferred_stack(
    address: Address, unknown: Sequence[OutputRef], content: str, at_most: int | None = None
) -> Deferred:
    """A stack that waits for outputs. Nobody can tell how many resources it has: its document says ``at_most``, or the
    envelope has no bound (0) and the plan a warning."""
    names = tuple(sorted(f"{one.stack}.{one.output}" for one in unknown))
    return Deferred(
        address=address,
        waits_for=tuple(sorted({stack(one.stack) for one in unknown})),
        why=f"needs {', '.join(names)}, not known yet",
        expected=(),
        envelope=Envelope(content=content, at_most=at_most or 0, unknown=names, actions=CREATING),
    )


def boundless(deferred: Deferred) -> Finding | None:
    """What is to be said of an envelope without a bound."""
    if deferred.envelope.at_most:
        return None
    return Finding(
        level=Level.WARN,
        subject=deferred.address,
        summary=f"nobody can tell how many resources {deferred.address} will touch, and its envelope has no bound",
        next_step="Give the stack `at_most`: a run that would touch more stops there.",
    )


def stack_behind(change: Change, waits_for: Collection[Address], content: str) -> Deferred:
    """A stack that could be previewed, and runs after something that is deferred. What the preview showed is said, so
    it may be done."""
    actions = {*CREATING, *(one.action for one in change.steps)}
    size = resources(change)
    return Deferred(
        address=change.address,
        waits_for=tuple(sorted(waits_for)),
        why=f"{_after(waits_for)}; {size} resource{'s' if size != 1 else ''} previewed",
        expected=(),
        # a bound of 0 would be none
        envelope=Envelope(
            content=content, at_most=size or 1, unknown=(), actions=tuple(one for one in Action if one in actions)
        ),
    )


def group_behind(address: Address, names: Sequence[str], waits_for: Collection[Address], content: str) -> Deferred:
    """A group that could be looked at, and runs after something that is deferred, on any of its hosts."""
    return Deferred(
        address=address,
        waits_for=tuple(sorted(waits_for)),
        why=_after(waits_for),
        expected=tuple(map(host, names)),
        there=tuple(map(host, names)),
        envelope=Envelope(content=content, at_most=len(names), unknown=(), actions=CONFIGURING),
    )


def _after(waits_for: Collection[Address]) -> str:
    return f"runs after {', '.join(map(str, sorted(waits_for)))}"


def group_waits(
    members: Sequence[Sighting],
    reachability: Mapping[str, Reachability],
    moving: Collection[Address],
    makers: Mapping[str, Address],
) -> tuple[Address, ...]:
    """The stacks that must move before the members of a group can be looked at; empty when they can be now. ``makers``
    has the stack of each host: a host may be out of reach because its bastion is."""
    away = [one.host for one in members if one.pending or not _ok(one, reachability)]
    made_by = {makers.get(name) for one in away for name in (one.name, one.bastion)}
    return tuple(sorted(one for one in made_by if one is not None and one in moving))


def _ok(one: Sighting, reachability: Mapping[str, Reachability]) -> bool:
    found = reachability.get(one.host.name)
    return found is not None and found.reach is Reach.OK


def deferred_group(
    address: Address,
    group: HostGroup,
    members: Sequence[Sighting],
    waits_for: Sequence[Address],
    content: str,
    *,
    unbounded: bool,
    outputs: Sequence[OutputRef] = (),
    there: Collection[str] = (),
) -> Deferred | Finding:
    """A group that waits for its hosts, or for ``outputs`` that its variables need. ``unbounded``: the hosts of a stack
    cannot be counted, so the group must say ``at_most`` itself, or it cannot be planned. ``there``: who answers now."""
    if unbounded and group.at_most is None:
        return Finding(
            level=Level.DENY,
            subject=address,
            summary=f"nobody can tell how many hosts {address} will have",
            next_step="Give the group `at_most`, or let the program export host names that do not depend on unknowns.",
        )
    if group.at_most is not None and len(members) > group.at_most:
        return Finding(
            level=Level.DENY,
            subject=address,
            summary=f"{address} would have {len(members)} hosts, and says `at_most: {group.at_most}`",
            next_step="Raise `at_most`, or narrow the selector.",
        )
    bound = group.at_most if group.at_most is not None else len(members)
    named = tuple(sorted(f"{one.stack}.{one.output}" for one in outputs))
    needs = f"needs {', '.join(named)}, not known yet" if named else ""
    return Deferred(
        address=address,
        waits_for=tuple(waits_for),
        why=needs or f"its hosts come with {', '.join(map(str, waits_for))}",
        expected=tuple(host(one.host.name) for one in members),
        there=tuple(host(one.host.name) for one in members if one.host.name in there),
        envelope=Envelope(content=content, at_most=bound, unknown=(*named, *_unknown(members)), actions=CONFIGURING),
    )


def _unknown(members: Sequence[Sighting]) -> tuple[str, ...]:
    return tuple(f"{one.host.name}: {one.pending}" for one in members if one.pending)
