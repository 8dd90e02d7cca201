"""Who the hosts are and whether they answer: from stacks and inventories to a fleet, probes, and waiting for a boot.
Touches nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Address, Kind, host, stack
from ismgr_automation.core.diagnostic import Diagnostic, did_you_mean
from ismgr_automation.core.errors import EstateError, InputError
from ismgr_automation.core.events import ObservationFinished, ObservationStarted
from ismgr_automation.estate.documents import SshSettings
from ismgr_automation.estate.resolve import as_user, duration
from ismgr_automation.estate.selector import Selector
from ismgr_automation.planning.fleet import Fleet, Sighting, members, sightings, telling, twice
from ismgr_automation.planning.observation import StackSight
from ismgr_automation.ports.hosts import Host, Reach, Reachability
from ismgr_automation.ports.stacks import StackState

COMING_UP = (Reach.DNS, Reach.REFUSED, Reach.TIMEOUT, Reach.AUTH)
"""What a host may answer while it boots (logins are refused until the boot is done); the rest is final."""

BETWEEN_PROBES_S = 0.5

LOGINS_OPEN_S = 60.0
"""How long after a host's first refusal of a login the end of its boot may be the reason."""


def meet(scope: Scope, stacks: Mapping[Address, StackSight], states: Mapping[Address, StackState]) -> Fleet:
    """Everybody who is known: from previews where there are some, from states otherwise, and from inventories. Raises
    ``EstateError`` for two hosts with one name."""
    found: list[Sighting] = []
    wrong: list[Diagnostic] = []
    unbounded: list[Address] = []
    for name, document in sorted(scope.estate.stacks.items()):
        if not document.hosts:
            continue
        address = stack(name)
        sight = stacks.get(address)
        preview = sight.preview if sight is not None and sight.differs else None
        outputs = preview.outputs if preview is not None else states[address].outputs
        output = outputs.get(document.hosts)
        value = output.value if output is not None else None
        place = scope.estate.fields.get((address, "hosts"))
        here, diagnostics = sightings(value, address, scope.estate.document.ssh, place)
        found += here
        wrong += diagnostics
        if sight is not None and sight.moves and not telling(value):
            unbounded.append(address)
    for path in scope.estate.document.inventories:
        hosts = scope.engines.playbooks.read_inventory(scope.engines.content.path(path), scope.tree.root)
        found += [Sighting(host=_with_login(replace(one, origin=path), scope.estate.document.ssh)) for one in hosts]
    wrong += [Diagnostic(summary=f"two hosts have one name: {claim}") for claim in twice(found)]
    if wrong:
        raise EstateError("The hosts of this estate cannot be told.", diagnostics=wrong)
    membership = {
        name: tuple(one.host.name for one in members(found, Selector.compile(document.selector).matches))
        for name, document in sorted(scope.estate.groups.items())
    }
    return Fleet(sightings=tuple(found), membership=membership, unbounded=tuple(unbounded))


def _with_login(known: Host, ssh: SshSettings) -> Host:
    """A host of an inventory with the estate's user where it names none. A default is not forced on it: without
    ``ssh.user`` in the estate, Ansible's own settings decide."""
    return replace(known, user=ssh.user) if not known.user and "user" in ssh.model_fields_set else known


def check_selection(scope: Scope, fleet: Fleet, states: Mapping[Address, StackState]) -> None:
    """Raise ``InputError`` when a target or an exclusion names a host that nobody knows: a slip of the pen must not
    leave out less, or do less, than was meant. Stacks that were never applied may be the reason, and are named."""
    if fleet.unbounded:
        return
    names = {one.host.name for one in fleet.sightings}
    asked = [one for one in (*scope.selection.targets, *scope.selection.excludes) if one.kind is Kind.HOST]
    wrong = [
        Diagnostic(summary=f"there is no host {one.name!r}", suggestion=did_you_mean(one.name, names))
        for one in asked
        if one.name not in names
    ]
    if not wrong:
        return
    stacks = scope.estate.stacks
    unmade = [
        str(one) for one in sorted(states) if (made := stacks[one.name].hosts) and made not in states[one].outputs
    ]
    hint = f"Hosts of {', '.join(unmade)} are known once it is applied: name the stack instead." if unmade else ""
    raise InputError("A target or exclusion is not in this estate.", diagnostics=wrong, next_step=hint)


def probe(scope: Scope, hosts: Sequence[Host], fleet: Fleet) -> dict[str, Reachability]:
    """Who of the hosts can be worked on, by name. The bastions that lead to them are probed along."""
    if not hosts:
        return {}
    wanted = {one.name for one in hosts}
    bastions = {one.bastion for one in fleet.hosts} - wanted
    everybody = as_user([*hosts, *(one for one in fleet.hosts if one.name in bastions)], scope.credentials)
    become = scope.estate.document.ssh.become
    found = scope.engines.prober.probe(everybody, scope.ssh, become, scope.context)
    return {one.host: one for one in found if one.host in wanted}


def await_hosts(scope: Scope, hosts: Sequence[Host], fleet: Fleet) -> dict[str, Reachability]:
    """Probe until each host gives a final answer, the time that a boot may take is over, or somebody cancels."""
    began = time.monotonic()
    until = began + duration(scope.estate.document.ssh.boot_timeout).total_seconds()
    found = probe(scope, hosts, fleet)
    refused: dict[str, float] = {}
    booting = {one.name for one in hosts if found[one.name].reach in COMING_UP}
    for name in sorted(booting):
        scope.context.emit(ObservationStarted(subject=host(name), how="boot"))
    while True:
        now = time.monotonic()
        refused |= {name: now for name, one in found.items() if one.reach is Reach.AUTH and name not in refused}
        coming = [one for one in hosts if _coming_up(found[one.name], now - refused.get(one.name, now))]
        over = not coming or now > until or scope.context.cancelled.is_set()
        for name in sorted(booting - (set() if over else {one.name for one in coming})):
            booting.remove(name)
            words = "it answers" if found[name].reach is Reach.OK else str(found[name].reach)
            scope.context.emit(ObservationFinished(subject=host(name), how="boot", found=words, seconds=now - began))
        if over or scope.context.cancelled.wait(BETWEEN_PROBES_S):
            return found
        found |= probe(scope, coming, fleet)


def _coming_up(one: Reachability, refused_s: float) -> bool:
    return one.reach in COMING_UP and refused_s <= LOGINS_OPEN_S


def unreachable(found: Mapping[str, Reachability]) -> list[str]:
    """One line for each host that cannot be worked on."""
    return [f"{name} ({one.reach}) {one.detail}".rstrip() for name, one in found.items() if one.reach is not Reach.OK]
