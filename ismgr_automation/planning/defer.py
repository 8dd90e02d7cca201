"""Why something cannot be looked at yet, and the bounds that it gets instead: pure decisions about deferral."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ismgr_automation.core.address import Address, host, stack
from ismgr_automation.estate.documents import HostGroup
from ismgr_automation.planning.change import Action, Deferred, Envelope, Finding, Level
from ismgr_automation.planning.fleet import Sighting
from ismgr_automation.ports.hosts import Reach, Reachability
from ismgr_automation.ports.stacks import OutputRef, StackPreview, StackState

CREATING = (Action.CREATE, Action.UPDATE)
CONFIGURING = (Action.CONFIGURE,)


def unknown_outputs(
    references: Sequence[OutputRef],
    states: Mapping[Address, StackState],
    previews: Mapping[Address, StackPreview | None],
) -> tuple[OutputRef, ...]:
    """The outputs among ``references`` that nobody can tell yet: never applied, or about to change."""
    return tuple(one for one in references if not _settled(one, states, previews))


def _settled(
    reference: OutputRef, states: Mapping[Address, StackState], previews: Mapping[Address, StackPreview | None]
) -> bool:
    owner = stack(reference.stack)
    state = states.get(owner)
    if state is None or reference.output not in state.outputs:
        return False
    preview = previews.get(owner)
    if preview is None or not preview.steps:
        return True
    coming = preview.outputs.get(reference.output)
    # a secret's value is not shown to us; a stack that changes may change it
    return coming is not None and coming.known and not coming.secret and coming == state.outputs[reference.output]


def deferred_stack(address: Address, unknown: Sequence[OutputRef], content: str) -> Deferred:
    """A stack that waits for outputs."""
    names = tuple(sorted(f"{one.stack}.{one.output}" for one in unknown))
    return Deferred(
        address=address,
        waits_for=tuple(sorted({stack(one.stack) for one in unknown})),
        why=f"needs {', '.join(names)}, not known yet",
        expected=(),
        envelope=Envelope(content=content, at_most=0, unknown=names, actions=CREATING),
    )


def behind(address: Address, waits_for: Collection[Address], steps: int, content: str) -> Deferred:
    """A stack that could be previewed, and runs after something that is deferred."""
    waits = tuple(sorted(waits_for))
    return Deferred(
        address=address,
        waits_for=waits,
        why=f"runs after {', '.join(map(str, waits))}; {steps} resource{'s' if steps != 1 else ''} previewed",
        expected=(),
        envelope=Envelope(content=content, at_most=steps, unknown=(), actions=CREATING),
    )


def group_waits(
    members: Sequence[Sighting],
    reachability: Mapping[str, Reachability],
    moving: Collection[Address],
) -> tuple[Address, ...]:
    """The stacks that must move before the members of a group can be looked at; empty when they can be now."""
    return tuple(
        sorted(
            {
                one.stack
                for one in members
                if one.stack is not None and one.stack in moving and (one.pending or not _ok(one, reachability))
            }
        )
    )


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
) -> Deferred | Finding:
    """A group that waits for its hosts. ``unbounded``: a stack's list of hosts is wholly unknown, so the group must say
    ``at_most`` itself, or it cannot be planned."""
    if unbounded and group.at_most is None:
        return Finding(
            level=Level.DENY,
            subject=address,
            summary=f"nobody can tell how many hosts {address} will have",
            next_step="Give the group `at_most`, or let the program export host names that do not depend on unknowns.",
        )
    bound = group.at_most if group.at_most is not None else len(members)
    return Deferred(
        address=address,
        waits_for=tuple(waits_for),
        why=f"its hosts come with {', '.join(map(str, waits_for))}",
        expected=tuple(host(one.host.name) for one in members),
        envelope=Envelope(content=content, at_most=bound, unknown=_unknown(members), actions=CONFIGURING),
    )


def _unknown(members: Sequence[Sighting]) -> tuple[str, ...]:
    return tuple(f"{one.host.name}: {one.pending}" for one in members if one.pending)
