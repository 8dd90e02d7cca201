"""What host groups promise, by the base revision and the proposed one, both: a commit cannot lower the promise that it
would break. Looks at documents only."""

from __future__ import annotations

from dataclasses import replace

from ismgr_automation.converge.scope import Scope
from ismgr_automation.estate.model import Estate
from ismgr_automation.estate.selector import Selector
from ismgr_automation.planning.fleet import Fleet, members
from ismgr_automation.planning.waves import Guard, guards
from ismgr_automation.ports.history import History
from ismgr_automation.ports.runs import RunState, Sought
from ismgr_automation.ports.trust import Pin


def promises(scope: Scope, fleet: Fleet) -> tuple[Guard, ...]:
    """The promises of all groups. Where a root of trust is pinned those of the base hold as well, for the members that
    the base selects: a promise that was lowered or taken away counts once its commit is applied, or pinned."""
    proposed = guards(scope.estate.groups, fleet.membership)
    before = base_documents(scope)
    if before is None:
        return proposed
    selectors = {name: Selector.compile(one.selector).matches for name, one in before.groups.items()}
    membership = {
        name: tuple(one.host.name for one in members(fleet.sightings, match)) for name, match in selectors.items()
    }
    return stricter(proposed, guards(before.groups, membership))


def stricter(proposed: tuple[Guard, ...], base: tuple[Guard, ...]) -> tuple[Guard, ...]:
    """Both hold; of two with the same members only the one that promises more.

    >>> from ismgr_automation.core.address import group
    >>> both = [Guard(group=group("dbs"), members=frozenset(["a", "b"]), floor=floor) for floor in (0, 1)]
    >>> [one.floor for one in stricter((both[0],), (both[1],))]
    [1]
    """
    found: dict[tuple[str, frozenset[str]], Guard] = {}
    for one in (*proposed, *base):
        key = (one.group.name, one.members)
        known = found.get(key)
        found[key] = one if known is None else replace(known, floor=max(known.floor, one.floor))
    return tuple(found.values())


def last_applied(scope: Scope) -> str:
    """The commit of the last run of this environment that applied all of one and ended well, however long ago; empty
    before the first. Runs of a part, of patches and of drills do not count: of what else their commit holds nobody
    was asked."""
    wanted = Sought(estate=scope.estate.document.name, state=RunState.DONE, whole=True)
    return next((one.commit for one in scope.engines.runs.runs(scope.environment_name, 1, wanted)), "")


def base_commit(history: History, last: str, pin: Pin) -> str:
    """The base revision under a pin: what was applied last, as long as that comes from the pinned commit."""
    return last if last and history.descends(last, pin.commit) else pin.commit


def base_documents(scope: Scope) -> Estate | None:
    """The documents of the base; None where nothing is pinned, or the base is what is proposed. A pin that does not fit
    is refused elsewhere, by whoever asks for signatures."""
    pin = next((one for one in scope.safeguards.pins.all() if one.estate == scope.estate.document.name), None)
    if pin is None or pin.folder != scope.safeguards.folder:
        return None
    commit = base_commit(scope.safeguards.history, last_applied(scope), pin)
    revision = scope.tree.revision
    if commit == revision.commit and not revision.worktree:
        return None
    return scope.safeguards.documents(commit)
