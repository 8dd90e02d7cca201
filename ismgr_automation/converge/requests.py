"""From documents to requests: what exactly an engine is asked, and the digest of what Git says about it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Address, group, stack
from ismgr_automation.core.errors import InputError
from ismgr_automation.core.json import Json, digest
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.estate.documents import HostGroup, Stack
from ismgr_automation.estate.fields import OutputValue, SecretValue, SiteValue
from ismgr_automation.estate.order import each_step
from ismgr_automation.estate.resolve import as_user, become_password, duration, reference
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.ports import packages
from ismgr_automation.ports.hosts import PlaybookRequest
from ismgr_automation.ports.stacks import ConfigValue, OutputRef, StackRequest, StackState
from ismgr_automation.ports.verification import SuiteRequest

SHIPPED_ROLES = "ismgr:playbooks/roles"
"""Always on the roles path, after the estate's own."""


def stack_request(scope: Scope, name: str) -> StackRequest:
    """The request for one stack."""
    document = scope.estate.stacks[name]
    return StackRequest(
        address=stack(name),
        program=scope.engines.content.path(document.program),
        stack=name,
        state=scope.state,
        passphrase=reference(scope.environment.passphrase),
        config={key: _config(scope, value) for key, value in document.config.items()},
        secret_backends=scope.secret_backends,
        deadline=duration(document.deadline),
    )


def references(scope: Scope, name: str) -> tuple[OutputRef, ...]:
    """The outputs of other stacks that a stack's config needs."""
    values = stack_request(scope, name).config.values()
    return tuple(one for one in values if isinstance(one, OutputRef))


def stack_content(scope: Scope, name: str) -> str:
    """Digest of all that Git says about a stack: program and configuration, secrets as references."""
    document: Stack = scope.estate.stacks[name]
    config = {key: _described(_config(scope, value)) for key, value in document.config.items()}
    return digest({"program": scope.engines.content.digest(document.program), "config": config})


def playbook_request(
    scope: Scope, name: str, fleet: Fleet, limit: Sequence[str], states: Mapping[Address, StackState]
) -> PlaybookRequest:
    """The request for one host group, on the hosts in ``limit``."""
    document = scope.estate.groups[name]
    settings = scope.estate.document.ssh
    return PlaybookRequest(
        address=group(name),
        playbook=scope.engines.content.path(document.playbook),
        root=scope.tree.root,
        inventory=as_user(fleet.hosts, scope.credentials),
        groups=fleet.ansible_groups,
        limit=tuple(limit),
        variables=group_variables(scope, name, states),
        ssh=scope.ssh,
        become=settings.become if document.become is None else document.become,
        become_password=become_password(settings, scope.credentials),
        roles_path=roles_path(scope),
        collections_path=(scope.galaxy,) if scope.galaxy is not None else (),
        deadline=duration(document.deadline),
        forks=scope.estate.document.ansible.forks,
        fence=scope.lease,
    )


def at_hand(scope: Scope, fleet: Fleet, names: Iterable[str]) -> packages.Fleet:
    """Hosts to work on without Ansible, and how to log in to them. Bastions are along."""
    settings = scope.estate.document.ssh
    return packages.Fleet(
        hosts=as_user(fleet.hosts, scope.credentials),
        names=tuple(names),
        ssh=scope.ssh,
        become_password=become_password(settings, scope.credentials),
    )


def roles_path(scope: Scope) -> tuple[Path, ...]:
    """Where roles are looked for, besides beside the playbook: the estate's folders, locked Galaxy content, ours."""
    own = [scope.engines.content.path(path) for path in scope.estate.document.ansible.roles_path]
    locked = [scope.galaxy / "roles"] if scope.galaxy is not None else []
    return (*own, *locked, scope.engines.content.path(SHIPPED_ROLES))


def group_content(scope: Scope, name: str) -> str:
    """Digest of all that Git says about a host group, besides who its hosts are."""
    document: HostGroup = scope.estate.groups[name]
    variables = {key: _described(_variable(value)) for key, value in document.variables.items()}
    paths = [*scope.estate.document.ansible.roles_path, SHIPPED_ROLES]
    roles = {path: scope.engines.content.digest(path) for path in paths}
    playbook = scope.engines.content.digest(document.playbook)
    # the installed content lies in a folder named by the digest of its lock
    galaxy = {"galaxy": scope.galaxy.name} if scope.galaxy is not None else {}
    return digest({"playbook": playbook, "variables": variables, "roles": roles, **galaxy})


def group_inputs(scope: Scope, name: str, fleet: Fleet) -> str:
    """Digest of all that a host group is made from: its content and, since roles look at other hosts, all hosts."""
    return digest({"content": group_content(scope, name), "inventory": fleet.digest})


def baseline_content(scope: Scope, name: str) -> str:
    """Digest of all that Git says about a baseline, with what its commands are made of. Exemptions, windows and freezes
    have documents of their own, which are inputs as well."""
    document = scope.estate.baselines[name]
    words = [posixpath.normpath(word) for word in (document.snapshots.command if document.snapshots else ())]
    code = {word: scope.engines.content.digest(word) for word in words if word in scope.tree.objects}
    return digest({"document": document.model_dump(mode="json"), "code": code})


def recovery_content(scope: Scope, name: str) -> str:
    """Digest of all that Git says about a recovery plan: its document, its cluster's, and what its steps run."""
    document = scope.estate.recoveries[name]
    run: dict[str, Json] = {}
    for path, _, step in each_step(document):
        match step.do:
            case "play":
                run[f"{path} {step.name}"] = group_content(scope, step.group)
            case "stack":
                run[f"{path} {step.name}"] = stack_content(scope, step.stack)
            case "function":
                run[f"{path} {step.name}"] = scope.engines.content.digest(step.file)
            case "verify":
                run[f"{path} {step.name}"] = suites_content(scope, step.group)
            case _:
                pass
    cluster = scope.estate.groups[document.cluster].model_dump(mode="json", include={"selector", "switchover"})
    return digest({"document": document.model_dump(mode="json"), "cluster": cluster, "run": run})


def suites_content(scope: Scope, name: str) -> str:
    """Digest of a host group's verification suites."""
    return digest({path: scope.engines.content.digest(path) for path in scope.estate.groups[name].verify})


def policies_content(scope: Scope) -> Mapping[str, str]:
    """The blob ids of the files below ``policies/``: whatever judges a plan is an input of it."""
    return {path: blob for path, blob in scope.tree.objects.items() if path.startswith("policies/")}


def variable_references(scope: Scope, name: str) -> tuple[OutputRef, ...]:
    """The outputs of stacks that a host group's variables need."""
    values = map(_variable, scope.estate.groups[name].variables.values())
    return tuple(one for one in values if isinstance(one, OutputRef))


def suite_request(
    scope: Scope, name: str, fleet: Fleet, limit: Sequence[str], states: Mapping[Address, StackState]
) -> SuiteRequest:
    """The request to verify one host group."""
    document = scope.estate.groups[name]
    settings = scope.estate.document.ssh
    return SuiteRequest(
        suites=tuple(scope.engines.content.path(one) for one in document.verify),
        hosts=as_user((one for one in fleet.hosts if one.name in limit), scope.credentials),
        inventory=as_user(fleet.hosts, scope.credentials),
        variables=group_variables(scope, name, states),
        ssh=scope.ssh,
        become=settings.become if document.become is None else document.become,
        root=scope.tree.root,
        deadline=duration(document.deadline),
    )


def group_variables(scope: Scope, name: str, states: Mapping[Address, StackState]) -> Mapping[str, Json | SecretRef]:
    """A group's variables with outputs of other stacks filled in; secrets stay references."""
    found: dict[str, Json | SecretRef] = {}
    for key, value in scope.estate.groups[name].variables.items():
        variable = _variable(value)
        found[key] = _output(variable, name, key, states) if isinstance(variable, OutputRef) else variable
    return found


def _output(reference: OutputRef, name: str, key: str, states: Mapping[Address, StackState]) -> Json:
    state = states.get(stack(reference.stack))
    output = state.outputs.get(reference.output) if state is not None else None
    if output is None or not output.known:
        raise InputError(
            f"Variable {key} of group/{name} needs the output {reference.stack}.{reference.output}, "
            "which does not exist.",
            next_step=f"Apply stack/{reference.stack} first.",
        )
    if output.secret:
        raise InputError(
            f"Variable {key} of group/{name} cannot take the secret output {reference.stack}.{reference.output}: "
            "a secret output never leaves its stack as a value.",
            next_step="Keep the secret in a backend and name it with {secret: backend:path} in both places.",
        )
    return output.value


def _config(scope: Scope, value: SecretValue | OutputValue | SiteValue | JsonValue) -> ConfigValue:
    if isinstance(value, SecretValue):
        return SecretRef.parse(value.secret)
    if isinstance(value, OutputValue):
        return _output_reference(value)
    if isinstance(value, SiteValue):
        return scope.estate.sites[value.site].model_dump(mode="json")
    return value


def _variable(value: SecretValue | OutputValue | JsonValue) -> Json | SecretRef | OutputRef:
    if isinstance(value, SecretValue):
        return SecretRef.parse(value.secret)
    if isinstance(value, OutputValue):
        return _output_reference(value)
    return value


def _output_reference(value: OutputValue) -> OutputRef:
    owner, _, output = value.output.rpartition(".")
    return OutputRef(stack=owner, output=output)


def _described(value: ConfigValue) -> Json:
    match value:
        case SecretRef():
            return {"secret": str(value)}
        case OutputRef():
            return {"output": f"{value.stack}.{value.output}"}
        case _:
            return value
