"""The runbook of a recovery plan, from the documents and the hosts behind them. Hosts are not asked: what is written
down must hold on a day when nobody answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ismgr_automation.converge.drill_field import Field, field_of
from ismgr_automation.converge.drill_orders import Writer, clients_of, place_of
from ismgr_automation.converge.drill_told import goals_of
from ismgr_automation.converge.ground import Ground, whole_ground
from ismgr_automation.converge.machines import access, machine_of
from ismgr_automation.converge.requests import at_hand, recovery_content
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.errors import InputError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.order import Step, each_step
from ismgr_automation.estate.recovery import DnsStep, FenceStep, HaproxyStep
from ismgr_automation.ports.hosts import Host
from ismgr_automation.recovery.path import Leg, legs
from ismgr_automation.recovery.runbook import Contact, Head, Hidden, Place, Runbook, compose, fingerprint

SSH_PORT = 22


def runbook(scope: Scope, plan: str, mode: DrillMode) -> Runbook:
    """What people do on the day when nothing of ours runs. Raises ``InputError`` for a recovery plan that there is not,
    or that cannot be carried out by hand."""
    paper = scope.engines.recovery.paper
    if paper is None:
        raise InputError("Nothing here knows how the steps of a recovery are done by hand.")
    ground = whole_ground(scope)
    field = field_of(scope, ground, plan)
    wanted = legs(field.document, mode, field.sides)
    if not wanted:
        raise InputError(
            f"A drill of mode {mode} moves nobody: there is no runbook for it.",
            next_step="Name a mode that moves the service: failover, switchover or return.",
        )
    hosts = _hosts(ground, field, wanted)
    authorities = {}
    for name in field.cluster.fleet.names:
        bmc = access(scope, ground, name)
        if bmc is not None and bmc.ca is not None:
            authorities[bmc.machine] = bmc.ca.read_text(encoding="utf-8").strip()
    fleet = at_hand(scope, ground.fleet, [one.name for one in hosts])
    named = [one for one in fleet.hosts if one.name in fleet.names]
    desk = paper.desk(replace(fleet, hosts=named), authorities)
    head = _head(scope, ground, field, mode, hosts)
    writer = Writer(scope=scope, ground=ground, field=field, wanted=wanted, paper=paper)
    return compose(head, desk, wanted, writer.orders)


def _head(scope: Scope, ground: Ground, field: Field, mode: DrillMode, hosts: Sequence[Host]) -> Head:
    document = field.document
    return Head(
        plan=document.name,
        description=document.description,
        service=document.service,
        mode=mode,
        estate=scope.estate.document.name,
        environment=scope.environment_name,
        commit=scope.tree.revision.commit,
        digest=recovery_content(scope, document.name),
        goals=goals_of(document, mode, scope),
        home=field.sides.old,
        away=field.sides.new,
        endpoints=document.probe.endpoints,
        contacts=tuple(_contacts(scope, field)),
        places=tuple(_place(scope, ground, field, one) for one in hosts),
        secrets=tuple(dict.fromkeys(_secrets(scope, ground, field, hosts))),
    )


def _contacts(scope: Scope, field: Field) -> Iterator[Contact]:
    service = scope.estate.services[field.document.service]
    asked = (
        (f"the service {service.name}", service.owner),
        (f"the estate {scope.estate.document.name}", scope.estate.document.owner),
    )
    for what, name in asked:
        team = scope.estate.teams.get(name)
        people = tuple(
            " ".join(filter(None, [one.name, f"<{one.email}>" if one.email else "", f"({', '.join(one.roles)})"]))
            for one in (team.members if team is not None else ())
        )
        yield Contact(what=what, team=name, on_call=team.on_call if team is not None else "", people=people)


def _place(scope: Scope, ground: Ground, field: Field, host: Host) -> Place:
    found = machine_of(scope, host)
    return Place(
        name=host.name,
        site=host.site,
        login=f"{host.user}@{host.address}" + (f" port {host.port}" if host.port != SSH_PORT else ""),
        clients=clients_of(host.name, field, scope, ground),
        bmc=found[1].bmc.address if found is not None else "",
        keys=tuple(map(fingerprint, host.host_keys)),
    )


def _secrets(scope: Scope, ground: Ground, field: Field, hosts: Sequence[Host]) -> Iterator[Hidden]:
    ssh = scope.estate.document.ssh
    if scope.ssh.key is not None:
        yield Hidden(what="the private key to log in with", where=place_of(scope, scope.ssh.key))
    if ssh.become_password is not None:
        yield Hidden(what="the password of sudo", where=place_of(scope, SecretRef.parse(ssh.become_password.secret)))
    for one in hosts:
        bmc = access(scope, ground, one.name)
        if bmc is not None and one.name in field.cluster.fleet.names:
            yield Hidden(
                what=f"the password of {bmc.username} at the BMC of {one.name}", where=place_of(scope, bmc.password)
            )
    for step in each_step(field.document):
        if isinstance(step[2], DnsStep):
            key = SecretRef.parse(step[2].key_secret.secret)
            yield Hidden(what=f"the key {step[2].key_name} of {step[2].zone}", where=place_of(scope, key))


def _hosts(ground: Ground, field: Field, wanted: Sequence[Leg]) -> tuple[Host, ...]:
    """The hosts that the procedure speaks of, bastions included, in the order of their names."""
    names = set(field.cluster.fleet.names)
    for leg in wanted:
        for task in leg.tasks:
            names |= _named(task.step, ground)
    by_name = {one.name: one for one in ground.fleet.hosts}
    todo = list(names)
    while todo:
        bastion = by_name[todo.pop()].bastion
        if bastion and bastion not in names:
            names.add(bastion)
            todo.append(bastion)
    return tuple(by_name[name] for name in sorted(names))


def _named(step: Step, ground: Ground) -> set[str]:
    match step:
        case HaproxyStep():
            groups: tuple[str, ...] = (step.group,)
        case FenceStep():
            groups = step.witnesses
        case _:
            groups = ()
    return {name for group in groups for name in ground.fleet.membership.get(group, ())}
