"""All secret backends of an estate behind one door. Opens references; never writes or prints a value, and keeps none
but the token of a login and the key of versions."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import assert_never

from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import InputError
from ismgr_automation.core.json import JsonObject, keyed_digest
from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.engines.secrets.description import ALWAYS, read
from ismgr_automation.engines.secrets.files import box, open_file
from ismgr_automation.engines.secrets.hashicorp import Server
from ismgr_automation.engines.secrets.keys import derive
from ismgr_automation.engines.secrets.kinds import (
    AnsibleVault,
    Backend,
    EnvironmentVariables,
    HashicorpVault,
    PrivateFiles,
)

VERSIONS = "ismgr secret version/1"
"""What the key of versions is for; another purpose has another key."""


class Backends:
    """Implements ``ports.secrets.SecretStore``; used by several threads at once.

    The backend ``env`` (environment variables, no prefix) is always there. ``key`` refers to the estate's passphrase:
    versions of secrets are digests under a key that is made from it.
    """

    __slots__ = ("_backends", "_digest_key", "_environment", "_key", "_lock", "_servers")

    def __init__(
        self,
        backends: Mapping[str, Backend] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        key: SecretRef | None = None,
    ) -> None:
        self._backends: dict[str, Backend] = {**ALWAYS, **(backends or {})}
        self._environment = os.environ if environment is None else environment
        self._key = key
        self._digest_key: bytes | None = None
        self._servers: dict[str, Server] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_json(cls, description: JsonObject, *, key: SecretRef | None = None) -> Backends:
        """Read what ``to_json`` gives: kinds and places by name, such as ``{"x": {"kind": "file", "root": "/a"}}``.

        Raises ``SettingsError`` naming the backend that is described wrongly, or those that need each other.
        """
        return cls(read(description), key=key)

    def to_json(self) -> JsonObject:
        """The description of every backend; it holds no secret."""
        return {name: backend.to_json() for name, backend in sorted(self._backends.items())}

    def open(self, ref: SecretRef) -> Secret:
        """The secret.

        Raises ``InputError`` naming the reference and the place looked at, never the value, when it is not there;
        ``EngineError`` when a server does not answer, or refuses us.
        """
        backend = self._backend(ref)
        match backend:
            case EnvironmentVariables():
                return self._from_environment(ref, backend)
            case PrivateFiles():
                return open_file(ref, backend)
            case AnsibleVault():
                from ismgr_automation.engines.secrets.vault_files import open_key

                passwords = {label: self.open(password) for label, password in backend.passwords.items()}
                return open_key(ref, backend.files, self.open(backend.password), passwords)
            case HashicorpVault():
                return self._server(ref, backend).open(ref)
            case _:
                assert_never(backend)

    def version(self, ref: SecretRef) -> str:
        """What changes when the secret does and tells nothing of it: ``v3 of TIME`` from a server that counts versions,
        else a keyed digest of reference and value; empty without a key. Raises as ``open`` does."""
        backend = self._backend(ref)
        if isinstance(backend, HashicorpVault):
            return self._server(ref, backend).version(ref)
        key = self._digesting()
        # the reference is digested with it: two equal secrets must not look equal
        return keyed_digest(key, [str(ref), self.open(ref).reveal()]) if key is not None else ""

    def _backend(self, ref: SecretRef) -> Backend:
        backend = self._backends.get(ref.backend)
        if backend is None:
            near = did_you_mean(ref.backend, self._backends)
            hint = f" Did you mean {near!r}?" if near else ""
            known = ", ".join(sorted(self._backends))
            raise InputError(
                f"Secret {ref}: there is no backend {ref.backend!r}; known are {known}.{hint}",
                next_step="Name it under 'secrets' in the Estate document.",
            )
        return backend

    def _server(self, ref: SecretRef, backend: HashicorpVault) -> Server:
        with self._lock:
            # one login for all references, and for all threads
            return self._servers.setdefault(ref.backend, Server(ref.backend, backend, self.open))

    def _digesting(self) -> bytes | None:
        if self._key is None:
            return None
        if self._digest_key is None:
            self._digest_key = derive(self.open(self._key), VERSIONS)
        return self._digest_key

    def _from_environment(self, ref: SecretRef, backend: EnvironmentVariables) -> Secret:
        name = backend.prefix + ref.path
        value = self._environment.get(name)
        if value is None:
            raise InputError(
                f"Secret {ref}: the environment variable {name} is not set.", next_step=f"Set {name} and run again."
            )
        return box(ref, value, f"the environment variable {name}")
