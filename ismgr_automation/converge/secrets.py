"""Which secrets a plan is made from, and their versions. No secret is opened here: versions come from the store.

===================================================  ==================  ========================================
where a reference stands                             input of a plan     why
===================================================  ==================  ========================================
config of a stack, as a value of its own             yes                 the program gets the value
variables of a host group                            yes                 tasks write the value to hosts
variables of a host, but those named ``ansible_*``   yes                 the same
variables of a host named ``ansible_*``              no                  they log in or become somebody
deep inside a stack's config, ``{site: NAME}``       no                  the program passes the reference on, and a
                                                                         provider opens it to log in somewhere
``ssh.key``, ``ssh.become_password``                 no                  they log in
passphrase, database password, runner key            no                  they open what is ours
tokens and passwords of backends                     no                  they open the backends
``snapshots.secrets`` of a baseline                  no                  they log in to whoever makes snapshots
===================================================  ==================  ========================================

What only opens doors may be rotated at any time: no plan becomes stale by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ismgr_automation.core.address import Address, group, host, stack
from ismgr_automation.core.errors import CredentialRejected, EngineError, InputError
from ismgr_automation.core.secret import SecretRef, references_in
from ismgr_automation.estate.documents import Environment, PlanCredentials
from ismgr_automation.estate.fields import SecretValue
from ismgr_automation.estate.model import Estate
from ismgr_automation.planning.change import Finding, Level
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.secrets import SecretStore

_LOGIN = "ansible_"
"""Variables that begin so say how to connect and to become somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """Of each secret that a plan uses, by its reference; and what could not be looked at."""

    by_reference: Mapping[str, str]
    findings: tuple[Finding, ...]


def used_by(
    estate: Estate, stacks: Iterable[str], groups: Iterable[str], hosts: Iterable[Host]
) -> Mapping[SecretRef, Address]:
    """The secrets whose values these stacks, host groups and hosts are made from, each with the first that uses it.
    Pure."""
    found: dict[SecretRef, Address] = {}
    for user, ref in _uses(estate, sorted(stacks), sorted(groups), sorted(hosts, key=lambda one: one.name)):
        found.setdefault(ref, user)
    return found


def versions(used: Mapping[SecretRef, Address], store: SecretStore) -> Versions:
    """What the store says of each. A secret that cannot be looked at makes the plan one that cannot be applied: better
    than a run that stops half-way at the task which needs it."""
    known: dict[str, str] = {}
    findings: list[Finding] = []
    for ref, user in sorted(used.items()):
        try:
            known[str(ref)] = store.version(ref)
        except (InputError, EngineError) as error:
            findings.append(Finding(level=Level.DENY, subject=user, summary=error.summary, next_step=error.next_step))
    return Versions(by_reference=known, findings=tuple(findings))


def moved(planned: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The references whose version is another one, as lines for ``StalePlan``. Pure."""
    names = sorted({*planned, *now})
    return tuple(f"secret {name} changed" for name in names if planned.get(name) != now.get(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One reference and whether it can be opened. ``problem`` is empty when it can; ``counted``: it cannot, but its
    version is known, which is enough while nothing needs the value."""

    reference: SecretRef
    purpose: str
    problem: str = ""
    next_step: str = ""
    reason: str = ""
    counted: bool = False


def check(
    estate: Estate, environment: Environment, credentials: PlanCredentials | None, store: SecretStore
) -> tuple[Looked, ...]:
    """Open every reference that the documents name, and forget the value at once. ``credentials`` are those of a plan,
    None for an apply; the store's backends must be theirs."""
    used = {ref: f"value for {user}" for ref, user in used_by(estate, estate.stacks, estate.groups, hosts=()).items()}
    # what is both a value and a key is told as a value: then a plan moves with it
    named = {**doors(estate, environment, credentials), **used}
    return tuple(_look(ref, purpose, store) for ref, purpose in sorted(named.items()))


def _look(ref: SecretRef, purpose: str, store: SecretStore) -> Looked:
    try:
        store.open(ref)
    except (InputError, EngineError) as error:
        return Looked(
            reference=ref,
            purpose=purpose,
            problem=error.summary,
            next_step=error.next_step,
            reason=error.reason,
            counted=isinstance(error, CredentialRejected) and _has_version(ref, store),
        )
    return Looked(reference=ref, purpose=purpose)


def _has_version(ref: SecretRef, store: SecretStore) -> bool:
    try:
        return bool(store.version(ref))
    except (InputError, EngineError):
        return False


def unprotected(name: str, environment: Environment, subject: Address) -> Finding | None:
    """The warning for an environment without a passphrase; None when it has one. ``subject`` is what it is shown at."""
    if environment.passphrase is not None:
        return None
    return Finding(
        level=Level.WARN,
        subject=subject,
        summary=f"environment {name} has no passphrase: whoever reads its state can read the secrets in it, and a "
        "plan does not notice when a secret was changed",
        next_step="Write `passphrase: {secret: BACKEND:PATH}` into the environment in estate.yaml.",
    )


def unsigned(name: str, environment: Environment, subject: Address) -> Finding | None:
    """The advice for an environment without a runner key; None when it has one."""
    if environment.evidence.runner_key is not None or environment.evidence.runner_agent is not None:
        return None
    return Finding(
        level=Level.ADVISE,
        subject=subject,
        summary=f"environment {name} has no runner key: the evidence of its runs is chained and not signed",
        next_step="Write `evidence: {runner_key: {secret: BACKEND:PATH}}` into the environment in estate.yaml.",
    )


def doors(estate: Estate, environment: Environment, credentials: PlanCredentials | None) -> Mapping[SecretRef, str]:
    """Every secret that opens something for this estate, with what it is for, in words. Pure.

    ``credentials`` are those that replace the estate's own while planning, None for an apply.
    """
    settings = estate.document.ssh
    own_user = credentials is not None and bool(credentials.user or credentials.become_password)
    plan = credentials or PlanCredentials()
    named: list[tuple[str, SecretValue | None]] = [
        ("passphrase of the state", environment.passphrase),
        ("password of the database", environment.database_password),
        ("key to log in to hosts", plan.key or settings.key),
        ("password for sudo", plan.become_password if own_user else settings.become_password),
        *(
            (f"password of the BMC of {machine.name}", machine.bmc.password)
            for site in estate.sites.values()
            for machine in site.machines
        ),
    ]
    if credentials is None:
        named += [
            (f"{variable} for snapshots of baseline/{name}", value)
            for name, document in estate.baselines.items()
            if document.snapshots is not None
            for variable, value in document.snapshots.secrets.items()
        ]
        named.append(("key that signs the evidence", environment.evidence.runner_key))
    found: dict[SecretRef, str] = {}
    for what, value in named:
        if value is not None:
            found.setdefault(SecretRef.parse(value.secret), what)
    for name, document in estate.stacks.items():
        for held in document.config.values():
            if not isinstance(held, SecretValue):
                for ref in references_in(held):
                    found.setdefault(ref, f"passed on by stack/{name}")
    return found


def _uses(
    estate: Estate, stacks: Iterable[str], groups: Iterable[str], hosts: Iterable[Host]
) -> Iterator[tuple[Address, SecretRef]]:
    for name in stacks:
        for value in estate.stacks[name].config.values():
            if isinstance(value, SecretValue):
                yield stack(name), SecretRef.parse(value.secret)
    for name in groups:
        for variable in estate.groups[name].variables.values():
            if isinstance(variable, SecretValue):
                yield group(name), SecretRef.parse(variable.secret)
    for one in hosts:
        for key, held in one.variables.items():
            if isinstance(held, SecretRef) and not key.startswith(_LOGIN):
                yield host(one.name), held
