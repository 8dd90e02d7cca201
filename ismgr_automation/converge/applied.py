"""What we remember between runs of what was applied: written when it landed, forgotten when it was destroyed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ismgr_automation.converge.ground import ground_of
from ismgr_automation.converge.outcome import told
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.planning.change import Change
from ismgr_automation.planning.plan import PATCHING, Purpose


def remember(
    changes: Sequence[Change], wave: Sequence[Change], landed: Collection[str], purpose: Purpose, scope: Scope
) -> str:
    """Record what is applied now: addresses of this wave all of whose parts among ``changes`` have landed, on all of
    their hosts. Says what went wrong, or nothing: what landed must be told, whatever happens here. What was patched is
    recorded by host and version elsewhere: nothing of it is done once and for all."""
    if purpose in PATCHING:
        return ""
    missing = {one.address for one in changes if one.key not in landed}
    whole = {one.address: one.inputs for one in wave if one.address not in missing}
    try:
        if purpose is Purpose.DESTROY:
            _forget(whole, scope)
            return ""
        for address, inputs in whole.items():
            if _everybody(address, wave, scope):
                scope.engines.ledger.record(address, inputs, scope.tree.revision.commit)
    except Exception as problem:  # noqa: BLE001  what landed must be told
        return f"what landed could not be recorded: {told(problem, scope)}"
    return ""


def _everybody(address: Address, wave: Sequence[Change], scope: Scope) -> bool:
    """Whether the selection left out no host of a group; only then all of it is applied."""
    if address.kind is not Kind.GROUP or not scope.selection.names_hosts:
        return True
    return all(map(scope.selection.takes_host, ground_of(wave, scope).fleet.membership.get(address.name, ())))


def _forget(gone: Collection[Address], scope: Scope) -> None:
    """Hosts went with their stacks: what had been applied to groups is no longer anywhere to be found."""
    hosts = any(scope.estate.stacks[one.name].hosts for one in gone)
    groups = [Address(Kind.GROUP, name) for name in scope.estate.groups] if hosts else []
    for one in (*gone, *groups):
        scope.engines.ledger.forget(one)
