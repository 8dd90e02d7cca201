"""The kinds of secret backends as values: where secrets are and which references open the door. No secret is in any of
them, and nothing is opened here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.core.secret import SecretRef

LARGEST_BYTES = 1024 * 1024
"""More than this is no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentVariables:
    """``env:NAME`` reads the variable ``prefix + NAME`` of this process."""

    prefix: str = ""

    @property
    def needs(self) -> tuple[SecretRef, ...]:
        """References that must be opened before this backend can be."""
        return ()

    def to_json(self) -> JsonObject:
        """The description that ``Backends.from_json`` reads."""
        return {"kind": "environment", "prefix": self.prefix}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateFiles:
    """``file:PATH`` reads ``root/PATH``: a file of ours (or of root) that nobody else may read."""

    root: Path

    @property
    def needs(self) -> tuple[SecretRef, ...]:
        """References that must be opened before this backend can be."""
        return ()

    def to_json(self) -> JsonObject:
        """The description that ``Backends.from_json`` reads."""
        return {"kind": "file", "root": str(self.root)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsibleVault:
    """``NAME:key.below`` reads a key of YAML files that ``ansible-vault`` encrypted, whole or value by value; of two
    files that have the key, the last wins. ``passwords`` are those of other vault ids, by their label."""

    files: tuple[Path, ...]
    password: SecretRef
    passwords: Mapping[str, SecretRef] = field(default_factory=dict)

    @property
    def needs(self) -> tuple[SecretRef, ...]:
        """References that must be opened before this backend can be."""
        return (self.password, *self.passwords.values())

    def to_json(self) -> JsonObject:
        """The description that ``Backends.from_json`` reads."""
        others: dict[str, Json] = {label: _secret(ref) for label, ref in sorted(self.passwords.items())}
        return {
            "kind": "ansible-vault",
            "files": [str(path) for path in self.files],
            "password": _secret(self.password),
            **({"passwords": others} if others else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HashicorpVault:
    """``NAME:path/to/secret#field`` reads a field from a key-value engine, version 2, of a Vault or OpenBao server.

    Either ``token``, or ``role_id`` and ``secret_id`` to log in as an AppRole. ``ca`` is a PEM file; without it the
    system's authorities count. ``deadline`` is for one answer of the server.
    """

    address: str
    token: SecretRef | None = None
    role_id: str = ""
    secret_id: SecretRef | None = None
    approle: str = "approle"
    mount: str = "secret"
    namespace: str = ""
    ca: Path | None = None
    deadline: timedelta = timedelta(seconds=10)

    @property
    def needs(self) -> tuple[SecretRef, ...]:
        """References that must be opened before this backend can be."""
        return tuple(one for one in (self.token, self.secret_id) if one is not None)

    def to_json(self) -> JsonObject:
        """The description that ``Backends.from_json`` reads."""
        login: dict[str, Json] = {"role_id": self.role_id, "approle": self.approle} if self.role_id else {}
        return {
            "kind": "vault",
            "address": self.address,
            "mount": self.mount,
            "namespace": self.namespace,
            "deadline_seconds": self.deadline.total_seconds(),
            **login,
            **({"token": _secret(self.token)} if self.token is not None else {}),
            **({"secret_id": _secret(self.secret_id)} if self.secret_id is not None else {}),
            **({"ca": str(self.ca)} if self.ca is not None else {}),
        }


Backend = EnvironmentVariables | PrivateFiles | AnsibleVault | HashicorpVault


def _secret(ref: SecretRef) -> Json:
    """A reference as documents write it, so that whoever searches for references finds those of backends too."""
    return {"secret": str(ref)}
