"""What documents leave open, filled in: which environment, where its state is, how to log in. Pure: no file is opened
and nothing is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from ismgr_automation.core.diagnostic import Diagnostic, did_you_mean
from ismgr_automation.core.errors import SettingsError
from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.estate.documents import (
    Environment,
    EnvironmentBackend,
    EstateDocument,
    SecretValue,
    SshSettings,
)
from ismgr_automation.ports.hosts import Ssh

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


def secret_backends(estate: EstateDocument, folder: Path) -> JsonObject:
    """The description of all secret backends: kinds and places, no secret; ``env`` is always among them."""
    found: dict[str, Json] = {"env": {"kind": "environment", "prefix": ""}}
    for name, backend in sorted(estate.secrets.items()):
        if isinstance(backend, EnvironmentBackend):
            found[name] = {"kind": "environment", "prefix": backend.prefix}
        else:
            found[name] = {"kind": "file", "root": str((folder / backend.root).absolute())}
    return found


def ssh(settings: SshSettings, known_hosts: str) -> Ssh:
    """How to log in; ``known_hosts`` is the text of the file that the settings name, empty without one."""
    return Ssh(
        key=reference(settings.key),
        known_hosts=known_hosts,
        connect_timeout=duration(settings.connect_timeout),
    )


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
