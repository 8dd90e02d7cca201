"""What a plan touches, as far as the documents and what is known of hosts can tell. Where they cannot, more rather than
less: an approval too many costs a minute, one too few a hospital's records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ismgr_automation.core.address import Kind
from ismgr_automation.estate.documents import HostGroup, Service
from ismgr_automation.estate.model import Estate
from ismgr_automation.planning.change import Action, Change
from ismgr_automation.planning.plan import Plan, Purpose

_DESTROYING = frozenset({Action.DELETE, Action.REPLACE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """Names of stacks and host groups, data classes of services that run on them, and whether anything is destroyed
    (deleted or replaced). ``anything`` is false for a plan that does nothing."""

    anything: bool = False
    stacks: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    data_classes: frozenset[str] = frozenset()
    destroys: bool = False
    urgent: bool = False
    """Whether windows and freezes are overridden."""
    judges: bool = False
    """Whether it changes by what, or by whom, the next plans are judged."""

    def __or__(self, other: Touched) -> Touched:
        """What either touches."""
        return Touched(
            anything=self.anything or other.anything,
            stacks=self.stacks | other.stacks,
            groups=self.groups | other.groups,
            data_classes=self.data_classes | other.data_classes,
            destroys=self.destroys or other.destroys,
            urgent=self.urgent or other.urgent,
            judges=self.judges or other.judges,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """What a fleet knows beyond the documents: hosts of each group, and the stack that made each host (both by name).
    Empty where nothing is known; it only ever adds to what a plan touches."""

    members: Mapping[str, frozenset[str]] = field(default_factory=dict)
    makers: Mapping[str, str] = field(default_factory=dict)


def touched(plan: Plan, estate: Estate, known: Whereabouts | None = None) -> Touched:
    """What a plan touches, by the documents of one revision."""
    known = known or Whereabouts()
    addresses = [*(one.address for one in plan.changes), *(one.address for one in plan.deferred)]
    stacks = frozenset(one.name for one in addresses if one.kind is Kind.STACK)
    broken = frozenset(one.address.name for one in plan.changes if destroys(one) and one.address.kind is Kind.STACK)
    hosts = frozenset(one.name for change in plan.changes for one in change.targets)
    named = frozenset(one.name for one in addresses if one.kind is Kind.GROUP)
    # a group that loses hosts, or has hosts that another group's playbook changes, is touched as well
    losing = frozenset(name for name in estate.groups if makers(name, estate, known) & broken)
    sharing = frozenset(name for name, members in known.members.items() if members & hosts)
    groups = named | losing | sharing
    return Touched(
        anything=not plan.empty,
        stacks=stacks,
        groups=groups,
        data_classes=frozenset(_data_classes(estate, stacks, groups, known)),
        destroys=plan.purpose is Purpose.DESTROY or any(destroys(one) for one in plan.changes),
        urgent=bool(plan.urgent),
    )


def covered(hosts: frozenset[str], estate: Estate, known: Whereabouts) -> Touched:
    """What is touched where hosts are to be left unpatched: who is asked before they are changed is asked here too."""
    groups = frozenset(name for name, members in known.members.items() if members & hosts)
    classes = frozenset(_data_classes(estate, frozenset(), groups, known))
    return Touched(groups=groups, data_classes=classes)


def reworded(before: Estate, after: Estate, environment: str, known: Whereabouts) -> Touched:
    """What is touched by documents alone that are to be the base: groups and data classes that are no longer what they
    were, whatever happens to their hosts now, and people, rules and settings of the environment."""
    groups = frozenset(name for name, one in before.groups.items() if _members(one) != _members(after.groups.get(name)))
    services = [one for name, one in before.services.items() if _holds(one) != _holds(after.services.get(name))]
    classes = frozenset(_data_classes(before, frozenset(), groups, known))
    return Touched(
        groups=groups,
        data_classes=classes.union(*(one.data_classes for one in services)),
        judges=_judges(before, environment) != _judges(after, environment),
    )


def _members(group: HostGroup | None) -> object:
    return (group.selector, group.needs) if group is not None else None


def _holds(service: Service | None) -> object:
    return (service.groups, service.data_classes) if service is not None else None


def _judges(estate: Estate, environment: str) -> object:
    people = {name: team.members for name, team in estate.teams.items()}
    return people, estate.document.environments.get(environment)


def destroys(change: Change) -> bool:
    """Whether a change deletes or replaces anything."""
    return change.action in _DESTROYING or any(step.action in _DESTROYING for step in change.steps)


def makers(group: str, estate: Estate, known: Whereabouts) -> frozenset[str]:
    """The stacks that may make a group's hosts: those that its document needs, and those that are known to have made
    some; where neither says anything, every stack that makes hosts."""
    making = frozenset(name for name, stack in estate.stacks.items() if stack.hosts)
    needs = estate.groups[group].needs if group in estate.groups else ()
    found = frozenset(one.removeprefix("stack/") for one in needs) & making
    found |= {known.makers[host] for host in known.members.get(group, ()) if host in known.makers}
    return found or making


def _data_classes(estate: Estate, stacks: frozenset[str], groups: frozenset[str], known: Whereabouts) -> Iterator[str]:
    for service in estate.services.values():
        if any(name in groups or makers(name, estate, known) & stacks for name in service.groups):
            yield from service.data_classes
