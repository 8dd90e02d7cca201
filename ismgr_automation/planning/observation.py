"""What was seen before a plan is composed: stamped readings as values, never called "current"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ismgr_automation.core.address import Address
from ismgr_automation.planning.change import Deferred, Finding
from ismgr_automation.planning.fleet import Sighting
from ismgr_automation.planning.graph import Graph
from ismgr_automation.planning.plan import Inputs
from ismgr_automation.planning.waves import Guard, Sick
from ismgr_automation.ports.hosts import PlaybookResult, Reachability
from ismgr_automation.ports.stacks import StackPreview, StackState


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSight:
    """One stack: what its state holds, what a preview said, or why there is none (``deferred`` or ``problem``)."""

    address: Address
    inputs: str
    content: str
    state: StackState
    preview: StackPreview | None = None
    deferred: Deferred | None = None
    problem: Finding | None = None

    @property
    def moves(self) -> bool:
        """Whether applying it would do something, or might."""
        return self.deferred is not None or self.problem is not None or self.differs

    @property
    def differs(self) -> bool:
        """Whether its preview found something to do: a resource, or only an output."""
        return self.preview is not None and bool(self.preview.steps or self.changed_outputs)

    @property
    def changed_outputs(self) -> tuple[str, ...]:
        """Outputs that will not be what the state holds, sorted.

        Values of secret ones are not shown to us: of them only coming and going counts.
        """
        return changed_outputs(self.preview, self.state) if self.preview is not None else ()


def changed_outputs(preview: StackPreview, state: StackState) -> tuple[str, ...]:
    """Names of outputs that differ between a preview and the state, sorted."""
    names = sorted({*preview.outputs, *state.outputs})
    return tuple(name for name in names if preview.outputs.get(name) != state.outputs.get(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSight:
    """One host group: its members, what check mode said, or why it was not asked."""

    address: Address
    inputs: str
    content: str
    members: tuple[str, ...]
    """Those that the selection takes, in order."""
    sizes: tuple[int | str, ...] = ("100%",)
    """Of its waves, as the document says."""
    applied: str | None = None
    """Digest of the inputs that were applied last."""
    checked: PlaybookResult | None = None
    unreachable: tuple[Reachability, ...] = ()
    deferred: Deferred | None = None
    problem: Finding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything that was seen for one plan."""

    graph: Graph
    """All needs of the estate, those of groups on the makers of their hosts among them."""
    stacks: Mapping[Address, StackSight]
    groups: Mapping[Address, GroupSight]
    hosts: tuple[Sighting, ...]
    reachability: Mapping[str, Reachability]
    inputs: Inputs
    findings: tuple[Finding, ...] = ()
    guards: tuple[Guard, ...] = ()
    """How many members of each host group must always be up."""
    sick: Mapping[str, Sick] = field(default_factory=dict)
    """Hosts that are not, and why."""
