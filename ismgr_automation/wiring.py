"""The only place that names engines: from an estate and its settings to everything that stands behind a port."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ismgr_automation import shipped
from ismgr_automation.converge.requests import duration, group_variables
from ismgr_automation.converge.scope import Engines, Scope, Selection
from ismgr_automation.core.address import Address
from ismgr_automation.core.diagnostic import Diagnostic, did_you_mean
from ismgr_automation.core.errors import InputError, SettingsError
from ismgr_automation.core.json import Json, JsonObject, digest
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.estate.documents import Environment, EnvironmentBackend, SecretValue
from ismgr_automation.estate.model import Estate
from ismgr_automation.planning.fleet import Fleet, ansible_groups
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Ssh
from ismgr_automation.ports.source import Source, Tree
from ismgr_automation.ports.stacks import StackState

if TYPE_CHECKING:
    from ismgr_automation.engines.sqlite import SqliteLedger


def source(directory: Path) -> Source:
    """Where the estate in this folder comes from: the Git repository around it."""
    from ismgr_automation.engines.git import GitSource

    return GitSource(directory)


@dataclass(frozen=True, kw_only=True)
class TreeContent:
    """``ports.content.Content`` over a laid-out tree and what ships with ismgr."""

    tree: Tree

    def path(self, name: str) -> Path:
        """Where the file or folder lies; raises ``InputError`` for a name that leaves its folder."""
        try:
            return shipped.resolve(name, self.tree.root)
        except ValueError as error:
            raise InputError(f"{error}") from None

    def digest(self, name: str) -> str:
        """Digest of the folder (for a playbook: of the folder around it, where its roles and templates are)."""
        path = self.path(name)
        if shipped.is_shipped(name):
            return self._shipped(path if path.is_dir() else path.parent)
        folder = name if path.is_dir() else str(Path(name).parent)
        inside = "" if folder == "." else folder.rstrip("/") + "/"
        below = {key: blob for key, blob in self._objects.items() if key.startswith(inside)}
        return digest(dict(below))

    @cached_property
    def _objects(self) -> Mapping[str, Json]:
        return dict(self.tree.objects)

    @staticmethod
    def _shipped(folder: Path) -> str:
        found = {inner.as_posix(): sha256((folder / inner).read_bytes()).hexdigest() for inner in shipped.files(folder)}
        return digest(found)


def environment_of(estate: Estate, wanted: str | None) -> tuple[str, Environment]:
    """The environment that was asked for, the estate's default, or its only one. Raises ``SettingsError``."""
    known = estate.document.environments
    name = wanted or estate.document.default_environment or (next(iter(known)) if len(known) == 1 else None)
    if name is None:
        raise SettingsError(
            "This estate has several environments and no default.",
            next_step=f"Name one with -e: {', '.join(sorted(known))}.",
        )
    if name not in known:
        wrong = Diagnostic(
            summary=f"there is no environment {name!r}",
            expected="one of " + ", ".join(sorted(known)),
            suggestion=did_you_mean(name, known),
        )
        raise SettingsError("The environment is not known.", diagnostics=[wrong])
    return name, known[name]


def wire(
    estate: Estate, tree: Tree, *, directory: Path, environment: str | None, context: Context, selection: Selection
) -> Scope:
    """Everything that a verb needs. ``directory`` is the estate's own folder: what is kept between runs (state,
    secrets, database) is relative to it, never to the laid-out tree."""
    from ismgr_automation.engines.ansible.engine import AnsibleEngine
    from ismgr_automation.engines.pulumi.engine import PulumiEngine
    from ismgr_automation.engines.pulumi.locate import find
    from ismgr_automation.engines.secrets import Backends
    from ismgr_automation.engines.ssh import SshProber
    from ismgr_automation.engines.testinfra.verifier import TestinfraVerifier

    name, settings = environment_of(estate, environment)
    backends = secret_backends(estate, directory)
    store = Backends.from_json(backends)
    engines = Engines(
        stacks=PulumiEngine(find, store, tree.root),
        playbooks=AnsibleEngine(store),
        prober=SshProber(store, _reference(estate.document.ssh.become_password)),
        verifier=TestinfraVerifier(store),
        ledger=_ledger(settings, name, directory),
        content=TreeContent(tree=tree),
    )
    return Scope(
        estate=estate,
        tree=tree,
        environment_name=name,
        environment=settings,
        state=_state(settings.state, directory),
        ssh=_ssh(estate, tree),
        secret_backends=backends,
        engines=engines,
        context=context,
        selection=selection,
        workers=max(2, os.cpu_count() or 2),
    )


def inventory(scope: Scope, fleet: Fleet, states: Mapping[Address, StackState]) -> JsonObject:
    """The inventory that plain ``ansible-playbook`` reads; it holds references instead of secrets."""
    from ismgr_automation.engines.ansible.inventory import render

    settings = scope.estate.document.ssh
    return render(
        fleet.hosts,
        ansible_groups(fleet.hosts, fleet.membership),
        group_variables={name: group_variables(scope, name, states) for name in sorted(scope.estate.groups)},
        become_password=_reference(settings.become_password),
    )


def secret_backends(estate: Estate, directory: Path) -> JsonObject:
    """The estate's secret backends as JSON, file roots made absolute. Holds no secret."""
    found: dict[str, Json] = {}
    for name, backend in estate.document.secrets.items():
        if isinstance(backend, EnvironmentBackend):
            found[name] = {"kind": "environment", "prefix": backend.prefix}
        else:
            found[name] = {"kind": "file", "root": str((directory / backend.root).resolve())}
    return found


def _state(url: str, directory: Path) -> str:
    """A relative file URL is relative to the estate's folder."""
    if not url.startswith("file://"):
        return url
    path = (directory / url.removeprefix("file://")).resolve()
    path.mkdir(parents=True, exist_ok=True)
    return f"file://{path}"


def _ledger(settings: Environment, name: str, directory: Path) -> SqliteLedger:
    from ismgr_automation.engines.sqlite import SqliteLedger

    parts = urlsplit(settings.database)
    if parts.scheme != "sqlite":
        raise SettingsError(
            f"The database {settings.database!r} of environment {name} is not supported yet.",
            next_step="Write sqlite:///PATH, relative to the estate's folder, or sqlite:////PATH.",
        )
    path = parts.path.removeprefix("/")
    return SqliteLedger((directory / path).resolve(), name)


def _ssh(estate: Estate, tree: Tree) -> Ssh:
    settings = estate.document.ssh
    known = (tree.root / settings.known_hosts).read_text(encoding="utf-8") if settings.known_hosts else ""
    return Ssh(
        key=_reference(settings.key),
        known_hosts=known,
        connect_timeout=duration(settings.connect_timeout),
    )


def _reference(value: SecretValue | None) -> SecretRef | None:
    return SecretRef.parse(value.secret) if value is not None else None
