"""Checks of secret backends: how they log in, that none needs itself to be opened, and what planning replaces. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from ipaddress import ip_address
from urllib.parse import urlsplit

from ismgr_automation.core.diagnostic import Diagnostic, Severity
from ismgr_automation.estate.checks.names import ALWAYS_THERE
from ismgr_automation.estate.documents import (
    AnsibleVaultBackend,
    Backend,
    EnvironmentBackend,
    EstateDocument,
    FileBackend,
    HashicorpVaultBackend,
)
from ismgr_automation.estate.draft import Draft, Entry, unknown, wrong
from ismgr_automation.estate.fields import SecretValue

Where = tuple[str, ...]
"""The keys that lead to a mapping of backends."""


def logins(draft: Draft) -> Iterator[Diagnostic]:
    """A Vault server is logged in to in exactly one way, and not in clear text over a network."""
    for entry, estate in draft.each(EstateDocument):
        for where, name, backend in backends_of(estate):
            if isinstance(backend, HashicorpVaultBackend):
                yield from _login(entry, (*where, name), name, backend)


def circles(draft: Draft) -> Iterator[Diagnostic]:
    """The password or token of a backend is not kept in a backend that needs it to be opened."""
    for entry, estate in draft.each(EstateDocument):
        said: set[frozenset[str]] = set()
        for where, backends in _worlds(estate):
            needs = {name: [ref.partition(":")[0] for ref in _needs(one)] for name, one in backends.items()}
            while found := circle(needs):
                # each circle once, and what leads into it is not wrong as well
                needs = {name: others for name, others in needs.items() if name not in found}
                if frozenset(found) in said:
                    continue
                said.add(frozenset(found))
                own = next((one for one in found if one in _inside(estate, where)), found[0])
                place = where if own in _inside(estate, where) else ("secrets",)
                yield wrong(
                    entry.marked.key(*place, own),
                    f"secret backends need each other to be opened: {' needs '.join(found)}",
                    "the password or token of one of them elsewhere, such as in an environment variable",
                )


def replacements(draft: Draft) -> Iterator[Diagnostic]:
    """What planning replaces is a backend of the estate."""
    for entry, estate in draft.each(EstateDocument):
        known = frozenset(estate.secrets) | {ALWAYS_THERE}
        for where, name, _ in backends_of(estate):
            if where != ("secrets",) and name not in known:
                yield unknown("secret backend", name, known, entry.marked.key(*where, name), entry.label)


def circle(needs: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Names that need each other, the first again at the end; empty when there is no circle.

    >>> circle({"a": ["b"], "b": ["env"], "env": []}), circle({"a": ["b"], "b": ["a"]})
    ((), ('a', 'b', 'a'))
    """
    try:
        TopologicalSorter({name: sorted(set(needs[name]) & set(needs)) for name in sorted(needs)}).prepare()
    except CycleError as found:
        return tuple(reversed(found.args[1]))
    return ()


def _login(entry: Entry, where: Where, name: str, backend: HashicorpVaultBackend) -> Iterator[Diagnostic]:
    approle = bool(backend.role_id) and backend.secret_id is not None
    half = bool(backend.role_id) != (backend.secret_id is not None)
    if half or approle == (backend.token is not None):
        summary = f"the secret backend {name!r} must log in with a token or as an AppRole, and with one of them only"
        yield wrong(entry.marked.key(*where), summary, "token, or role_id and secret_id")
    if backend.address.startswith("http://") and not _is_here(urlsplit(backend.address).hostname or ""):
        yield Diagnostic(
            summary=f"the token of secret backend {name!r} and its secrets cross the network in clear text",
            position=entry.marked.at(*where, "address"),
            expected="an address that begins with https://",
            severity=Severity.WARNING,
        )


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def backends_of(estate: EstateDocument) -> Iterator[tuple[Where, str, Backend]]:
    """Every secret backend of an estate, those of plan credentials included: where, its name, itself."""
    yield from ((("secrets",), name, backend) for name, backend in estate.secrets.items())
    for environment, chosen in estate.environments.items():
        if chosen.plan_credentials is not None:
            where = ("environments", environment, "plan_credentials", "secrets")
            yield from ((where, name, backend) for name, backend in chosen.plan_credentials.secrets.items())


def _worlds(estate: EstateDocument) -> Iterator[tuple[Where, Mapping[str, Backend]]]:
    """All backends as they are for an apply, and as they are while each environment is planned."""
    yield ("secrets",), estate.secrets
    for environment, chosen in estate.environments.items():
        if chosen.plan_credentials is not None:
            where = ("environments", environment, "plan_credentials", "secrets")
            yield where, {**estate.secrets, **chosen.plan_credentials.secrets}


def _inside(estate: EstateDocument, where: Where) -> frozenset[str]:
    return frozenset(name for place, name, _ in backends_of(estate) if place == where)


def _needs(backend: Backend) -> tuple[str, ...]:
    """The references that must be opened before this backend can be."""
    match backend:
        case EnvironmentBackend() | FileBackend():
            return ()
        case AnsibleVaultBackend():
            return _texts(backend.password, *backend.passwords.values())
        case HashicorpVaultBackend():
            return _texts(backend.token, backend.secret_id)


def _texts(*values: SecretValue | None) -> tuple[str, ...]:
    return tuple(value.secret for value in values if value is not None)
