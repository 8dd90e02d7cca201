"""The runbook of a recovery plan, from the documents and the hosts behind them. Hosts are not asked: what is written
down must hold on a day when nobody answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from ismgr_automation.converge.drill_field import Field, field_of
from ismgr_automation.converge.drill_told import goals_of
from ismgr_automation.converge.drill_verbs import Kit, backend_request, fence_of, fence_request, name_request
from ismgr_automation.converge.ground import Ground, whole_ground
from ismgr_automation.converge.machines import access, machine_of
from ismgr_automation.converge.requests import at_hand, recovery_content
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.errors import InputError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.order import Step, each_step
from ismgr_automation.estate.recovery import (
    DemoteStep,
    DnsStep,
    FenceStep,
    FunctionStep,
    HaproxyStep,
    PlayStep,
    PromoteStep,
    RejoinStep,
    StackStep,
    UnfenceStep,
    VerifyStep,
)
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.paper import Order, Paper, Return
from ismgr_automation.recovery.path import Leg, LegKind, Task, legs
from ismgr_automation.recovery.runbook import Contact, Head, Hidden, Place, Runbook, compose, fingerprint


def runbook(scope: Scope, plan: str, mode: DrillMode) -> Runbook:
    """What people do on the day when nothing of ours runs. Raises ``InputError`` for a recovery plan that there is not,
    or that cannot be carried out by hand."""
    paper = scope.engines.recovery.paper
    if paper is None:
        raise InputError("Nothing here knows how the steps of a recovery are done by hand.")
    ground = whole_ground(scope)
    field = field_of(scope, ground, plan)
    wanted = legs(field.document, mode, field.sides)
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
    return compose(head, desk, wanted, partial(_orders, scope, ground, field, wanted, paper))


def _orders(
    scope: Scope, ground: Ground, field: Field, wanted: Sequence[Leg], paper: Paper, leg: Leg, task: Task
) -> Sequence[Order]:
    """The commands of one task."""
    kit = Kit(scope=scope, ground=ground, field=field, leg=leg)
    cluster, sides = field.cluster, leg.sides
    match task.step:
        case FenceStep() as step:
            request = fence_request(step, kit)
            return paper.fence(request, access(scope, ground, sides.old) if request.bmc is None else None)
        case UnfenceStep():
            return paper.unfence(fence_request(fence_of(field.document), kit), cluster)
        case DemoteStep():
            return paper.demote(cluster, sides.old, sides.new)
        case PromoteStep():
            return paper.promote(cluster, sides.new)
        case RejoinStep() as step:
            return paper.rejoin(
                Return(
                    cluster=cluster,
                    host=sides.old,
                    to=sides.new,
                    address=_clients(scope, ground, field, sides.new),
                    planned=_moved_by(wanted, leg) is LegKind.SWITCHOVER,
                    way=step.way,
                )
            )
        case HaproxyStep() as step:
            return paper.backend(backend_request(step, kit))
        case DnsStep() as step:
            change = name_request(step, kit)
            return paper.name(change, _place_of(scope, change.key))
        case VerifyStep() | PlayStep() | StackStep() | FunctionStep() as step:
            return _cold(step, kit)


def _cold(step: VerifyStep | PlayStep | StackStep | FunctionStep, kit: Kit) -> Sequence[Order]:
    """Steps of other engines: from a checkout of the estate, on any machine that has those engines."""
    at = 'cd "${RUNBOOK_ESTATE:?name a checkout of the estate first}" && '
    match step:
        case VerifyStep():
            # who needs this group is verified with it, and is not asked for here
            others = "".join(f" -x group/{name}" for name in sorted(kit.scope.estate.groups) if name != step.group)
            title, command = f"Run the suites of group/{step.group}", f"ismgr verify -t group/{step.group}{others}"
        case PlayStep():
            playbook = kit.scope.estate.groups[step.group].playbook
            title = f"Apply {playbook}"
            shipped = "$(python3 -c 'from ismgr_automation import shipped; print(shipped.root())')"
            path = f"{shipped}/{playbook[6:]}" if playbook.startswith("ismgr:") else f"$RUNBOOK_ESTATE/{playbook}"
            command = (
                'ismgr inventory --write "$OLDPWD/runbook/ansible" && cd "$OLDPWD/runbook/ansible" && '
                f'ansible-playbook --limit {step.group} "{path}"'
            )
        case StackStep():
            title, command = f"Apply stack/{step.stack}", f"ismgr apply -t stack/{step.stack}"
        case FunctionStep():
            sides = kit.leg.sides
            arguments = {
                "plan": kit.field.document.name,
                "leg": kit.leg.name,
                "old": sides.old,
                "new": sides.new,
                "old_site": sides.old_site,
                "new_site": sides.new_site,
            }
            title = f"Call {step.function}"
            program = f"import runpy; print(runpy.run_path({step.file!r})[{step.function!r}]({arguments!r}))"
            command = f'python3 -c "{program}"'
    script = f"({at}{command}) && echo DONE"
    fails = "This needs a checkout of the estate (`RUNBOOK_ESTATE`) and the tools that are named; clients do not wait for it."
    return (Order(title=title, script=script, sees="DONE", fails=fails),)


def _moved_by(wanted: Sequence[Leg], leg: Leg) -> LegKind:
    """How the service was moved before a leg. A return begins after a failover that was broken off."""
    before = [one.kind for one in wanted[: wanted.index(leg)] if one.kind.hot]
    return before[-1] if before else LegKind.FAILOVER


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
        goals=goals_of(document, scope),
        endpoints=document.probe.endpoints,
        contacts=tuple(_contacts(scope, field)),
        places=tuple(_place(scope, ground, field, one) for one in hosts),
        secrets=tuple(dict.fromkeys(_secrets(scope, ground, field, hosts))),
    )


def _contacts(scope: Scope, field: Field) -> Iterator[Contact]:
    service = scope.estate.services[field.document.service]
    asked = ((f"the service {service.name}", service.owner), (f"the estate {scope.estate.document.name}", scope.estate.document.owner))
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
        login=f"{host.user}@{host.address}" + (f" port {host.port}" if host.port != SSH else ""),
        clients=_clients(scope, ground, field, host.name),
        bmc=found[1].bmc.address if found is not None else "",
        keys=tuple(map(fingerprint, host.host_keys)),
    )


SSH = 22


def _clients(scope: Scope, ground: Ground, field: Field, name: str) -> str:
    """Where clients reach a host: on the network that the plan's fence names, as a fence does."""
    host = next(one for one in ground.fleet.hosts if one.name == name)
    found = machine_of(scope, host)
    addresses = found[1].addresses if found is not None else {}
    fence = next((one for one in field.document.failover if isinstance(one, FenceStep)), None)
    network = fence.network if fence is not None else "{site}"
    return str(addresses.get(network.replace("{site}", host.site), host.address))


def _secrets(scope: Scope, ground: Ground, field: Field, hosts: Sequence[Host]) -> Iterator[Hidden]:
    ssh = scope.estate.document.ssh
    if scope.ssh.key is not None:
        yield Hidden(what="the private key to log in with", where=_place_of(scope, scope.ssh.key))
    if ssh.become_password is not None:
        yield Hidden(what="the password of sudo", where=_place_of(scope, SecretRef.parse(ssh.become_password.secret)))
    for one in hosts:
        bmc = access(scope, ground, one.name)
        if bmc is not None and one.name in field.cluster.fleet.names:
            yield Hidden(what=f"the password of {bmc.username} at the BMC of {one.name}", where=_place_of(scope, bmc.password))
    for step in each_step(field.document):
        if isinstance(step[2], DnsStep):
            key = SecretRef.parse(step[2].key_secret.secret)
            yield Hidden(what=f"the key {step[2].key_name} of {step[2].zone}", where=_place_of(scope, key))


def _place_of(scope: Scope, ref: SecretRef) -> str:
    """Where a secret lies, for a person who has to find it."""
    backend = scope.estate.document.secrets.get(ref.backend)
    if backend is None:
        return f"{ref} (the environment variable {ref.path})"
    match backend.kind:
        case "file":
            return f"{ref} (the file {backend.root}/{ref.path} beside the estate)"
        case _:
            return f"{ref} (a backend of kind {backend.kind}, described in estate.yaml)"


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
