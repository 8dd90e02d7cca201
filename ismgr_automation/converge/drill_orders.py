"""The commands of the steps of a runbook: the same requests that verbs are made from, written down instead of carried
out. Hosts are not asked."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ismgr_automation.converge.drill_field import Field
from ismgr_automation.converge.drill_verbs import (
    Kit,
    arguments_of,
    backend_request,
    fence_of,
    fence_request,
    name_request,
)
from ismgr_automation.converge.ground import Ground
from ismgr_automation.converge.machines import access, machine_of
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.secret import SecretRef
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
from ismgr_automation.ports.paper import Order, Paper, Return
from ismgr_automation.recovery.path import Leg, LegKind, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Who writes the commands of some legs."""

    scope: Scope
    ground: Ground
    field: Field
    wanted: Sequence[Leg]
    paper: Paper

    def orders(self, leg: Leg, task: Task) -> Sequence[Order]:
        """The commands of one task. Raises ``InputError`` for what cannot be asked for."""
        kit = Kit(scope=self.scope, ground=self.ground, field=self.field, leg=leg)
        match task.step:
            case FenceStep() | UnfenceStep() | DemoteStep() | PromoteStep() | RejoinStep() as step:
                return self._of_a_member(step, kit)
            case HaproxyStep() as step:
                return self.paper.backend(backend_request(step, kit))
            case DnsStep() as step:
                change = name_request(step, kit)
                return self.paper.name(change, place_of(self.scope, change.key))
            case VerifyStep() | PlayStep() | StackStep() | FunctionStep() as step:
                return _cold(step, kit)

    def _of_a_member(
        self, step: FenceStep | UnfenceStep | DemoteStep | PromoteStep | RejoinStep, kit: Kit
    ) -> Sequence[Order]:
        cluster, sides = self.field.cluster, kit.leg.sides
        match step:
            case FenceStep():
                request = fence_request(step, kit)
                instead = access(self.scope, self.ground, sides.old) if request.bmc is None else None
                return self.paper.fence(request, instead)
            case UnfenceStep():
                return self.paper.unfence(fence_request(fence_of(self.field.document), kit), cluster)
            case DemoteStep():
                return self.paper.demote(cluster, sides.old, sides.new)
            case PromoteStep():
                return self.paper.promote(cluster, sides.new)
            case RejoinStep():
                planned = _moved_by(self.wanted, kit.leg) is LegKind.SWITCHOVER
                address = clients_of(sides.new, self.field, self.scope, self.ground)
                return self.paper.rejoin(
                    Return(
                        cluster=cluster, host=sides.old, to=sides.new, address=address, planned=planned, way=step.way
                    )
                )


def clients_of(name: str, field: Field, scope: Scope, ground: Ground) -> str:
    """Where clients reach a host: on the network that the plan's fence names, as a fence does."""
    host = next(one for one in ground.fleet.hosts if one.name == name)
    found = machine_of(scope, host)
    addresses = found[1].addresses if found is not None else {}
    fence = next((one for one in field.document.failover if isinstance(one, FenceStep)), None)
    network = fence.network if fence is not None else "{site}"
    return str(addresses.get(network.replace("{site}", host.site), host.address))


def place_of(scope: Scope, ref: SecretRef) -> str:
    """Where a secret lies, for a person who has to find it."""
    backend = scope.estate.document.secrets.get(ref.backend)
    if backend is None:
        return f"{ref} (the environment variable {ref.path})"
    match backend.kind:
        case "file":
            return f"{ref} (the file {backend.root}/{ref.path} beside the estate)"
        case _:
            return f"{ref} (a backend of kind {backend.kind}, described in estate.yaml)"


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
            title = f"Call {step.function}"
            program = f"import runpy; print(runpy.run_path({step.file!r})[{step.function!r}]({arguments_of(kit)!r}))"
            command = f"python3 -c {shlex.quote(program)}"
    script = f"({at}{command}) && echo DONE"
    fails = "It needs a checkout of the estate (`RUNBOOK_ESTATE`) and the tools that are named."
    return (Order(title=title, script=script, sees="DONE", fails=fails),)


def _moved_by(wanted: Sequence[Leg], leg: Leg) -> LegKind:
    """How the service was moved before a leg. A return begins after a failover that was broken off."""
    before = [one.kind for one in wanted[: wanted.index(leg)] if one.kind.hot]
    return before[-1] if before else LegKind.FAILOVER
