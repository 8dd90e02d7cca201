"""What documents leave open, filled in: which environment, where its state is, how to log in. Pure: no file is opened
and nothing is looked up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import assert_never
from urllib.parse import urlsplit

from ismgr_automation import shipped
from ismgr_automation.core.diagnostic import Diagnostic, did_you_mean
from ismgr_automation.core.errors import SettingsError
from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.estate.documents import (
    AnsibleVaultBackend,
    Backend,
    Environment,
    EnvironmentBackend,
    EstateDocument,
    FileBackend,
    HashicorpVaultBackend,
    PlanCredentials,
    SshSettings,
)
from ismgr_automation.estate.fields import SecretValue
from ismgr_automation.ports.hosts import Host, Ssh

_UNITS: Mapping[str, float] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The environment that a run works in."""

    name: str
    environment: Environment


def environment(estate: EstateDocument, name: str | None) -> Chosen:
    """The named environment, else the estate's default, else its only one. Raises ``SettingsError``."""
    known = sorted(estate.environments)
    wanted = name or estate.default_environment or (known[0] if len(known) == 1 else None)
    if wanted is None:
        raise SettingsError(
            f"Estate {estate.name} has the environments {', '.join(known)} and no default.",
            next_step="Choose one with --environment, or write default_environment into estate.yaml.",
        )
    if wanted not in estate.environments:
        wrong = Diagnostic(
            summary=f"there is no environment {wanted!r}",
            expected="one of " + ", ".join(known),
            suggestion=did_you_mean(wanted, known),
        )
        raise SettingsError(f"Estate {estate.name} has no environment {wanted}.", diagnostics=[wrong])
    return Chosen(name=wanted, environment=estate.environments[wanted])


def state_url(chosen: Environment, folder: Path) -> str:
    """The URL of the state backend; a relative ``file://`` URL is below the estate's working folder.

    >>> state_url(Environment(), Path("/srv/estate"))
    'file:///srv/estate/.ismgr/state'
    """
    return _absolute(chosen.state, "file://", folder)


def database_url(chosen: Environment, folder: Path) -> str:
    """The URL of the database; a relative SQLite path is below the estate's working folder.

    >>> database_url(Environment(), Path("/srv/estate"))
    'sqlite:////srv/estate/.ismgr/ismgr.db'
    """
    return _absolute(chosen.database, "sqlite:///", folder)


def evidence_folder(chosen: Environment, folder: Path) -> Path:
    """Where the evidence lies; a relative ``file://`` URL is below the estate's working folder.

    >>> evidence_folder(Environment(), Path("/srv/estate"))
    PosixPath('/srv/estate/.ismgr/evidence')
    """
    return Path(_absolute(chosen.evidence.log, "file://", folder).removeprefix("file://"))


def secret_backends(
    estate: EstateDocument, folder: Path, credentials: PlanCredentials | None = None, *, tree: Path | None = None
) -> JsonObject:
    """The description of all secret backends: kinds and places, no secret; ``env`` is always among them.

    ``folder`` is the estate's working folder, where private files are kept; ``tree`` the estate as Git has it (the
    same folder unless said), where encrypted files and authorities are.
    """
    backends: dict[str, Backend] = {**estate.secrets, **(credentials.secrets if credentials is not None else {})}
    found: dict[str, Json] = {"env": {"kind": "environment", "prefix": ""}}
    for name, backend in sorted(backends.items()):
        found[name] = _described(backend, folder, tree or folder)
    return found


def ssh(settings: SshSettings, known_hosts: str, credentials: PlanCredentials | None = None) -> Ssh:
    """How to log in; ``known_hosts`` is the text of the file that the settings name, empty without one."""
    own = credentials.key if credentials is not None else None
    return Ssh(
        key=reference(own or settings.key),
        known_hosts=known_hosts,
        connect_timeout=duration(settings.connect_timeout),
    )


def as_user(hosts: Iterable[Host], credentials: PlanCredentials | None) -> tuple[Host, ...]:
    """The hosts with the user that these credentials log in as, bastions included: one key opens all of them."""
    if credentials is None or not credentials.user:
        return tuple(hosts)
    return tuple(replace(host, user=credentials.user, variables=_without_login(host.variables)) for host in hosts)


def become_password(settings: SshSettings, credentials: PlanCredentials | None = None) -> SecretRef | None:
    """The password for sudo: that of the user who logs in."""
    if credentials is not None and (credentials.user or credentials.become_password is not None):
        return reference(credentials.become_password)
    return reference(settings.become_password)


def reference(value: SecretValue | None) -> SecretRef | None:
    """A document's secret as a reference."""
    return SecretRef.parse(value.secret) if value is not None else None


def duration(text: str) -> timedelta:
    """Read a duration of a document.

    >>> duration("15m")
    datetime.timedelta(seconds=900)
    """
    unit = text.lstrip("0123456789.")
    return timedelta(seconds=float(text.removesuffix(unit)) * _UNITS[unit])


def _absolute(url: str, scheme: str, folder: Path) -> str:
    rest = url.removeprefix(scheme)
    if not url.startswith(scheme) or rest.startswith(("/", "~")) or urlsplit(rest).scheme:
        return url
    return f"{scheme}{(folder / rest).absolute()}"


def _described(backend: Backend, folder: Path, tree: Path) -> Json:
    match backend:
        case EnvironmentBackend():
            return {"kind": "environment", "prefix": backend.prefix}
        case FileBackend():
            return {"kind": "file", "root": str((folder / backend.root).absolute())}
        case AnsibleVaultBackend():
            others: dict[str, Json] = {label: _secret(one) for label, one in sorted(backend.passwords.items())}
            return {
                "kind": "ansible-vault",
                "files": [str(_place(name, tree)) for name in backend.files],
                "password": _secret(backend.password),
                **({"passwords": others} if others else {}),
            }
        case HashicorpVaultBackend():
            return _vault(backend, tree)
        case _:
            assert_never(backend)


def _vault(backend: HashicorpVaultBackend, tree: Path) -> Json:
    login: dict[str, Json] = {"role_id": backend.role_id, "approle": backend.approle} if backend.role_id else {}
    return {
        "kind": "vault",
        "address": backend.address,
        "mount": backend.mount,
        "namespace": backend.namespace,
        "deadline_seconds": duration(backend.deadline).total_seconds(),
        **login,
        **({"token": _secret(backend.token)} if backend.token is not None else {}),
        **({"secret_id": _secret(backend.secret_id)} if backend.secret_id is not None else {}),
        **({"ca": str(_place(backend.ca, tree))} if backend.ca is not None else {}),
    }


def _secret(value: SecretValue) -> Json:
    return {"secret": value.secret}


def _place(name: str, tree: Path) -> Path:
    # documents were checked: no name leads out of its folder
    return shipped.resolve(name, tree).absolute()


_LOGIN = frozenset(
    {
        *("ansible_user", "ansible_ssh_user", "ansible_password", "ansible_ssh_pass", "ansible_ssh_password"),
        *("ansible_ssh_private_key_file", "ansible_private_key_file"),
        *("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass"),
    }
)


def _without_login(variables: Mapping[str, Json | SecretRef]) -> Mapping[str, Json | SecretRef]:
    """Variables of an inventory that would log in as somebody else, or with a secret of his, are left out."""
    return {name: value for name, value in variables.items() if name not in _LOGIN}
