"""Secret backends: environment variables and private files. Opens references; never writes, prints or keeps a value."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import InputError, SettingsError
from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.core.secret import Secret, SecretRef

VARIABLE = "ISMGR_SECRET_BACKENDS"
"""The environment variable that carries ``to_json()`` to providers and plug-ins; there is no secret in it."""

LARGEST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentVariables:
    """``env:NAME`` reads the variable ``prefix + NAME`` of this process."""

    prefix: str = ""

    def to_json(self) -> JsonObject:
        """The description that ``Backends.from_json`` reads."""
        return {"kind": "environment", "prefix": self.prefix}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateFiles:
    """``file:PATH`` reads ``root/PATH``: a file of ours (or of root) that nobody else may read."""

    root: Path

    def to_json(self) -> JsonObject:
        """The description that ``Backends.from_json`` reads."""
        return {"kind": "file", "root": str(self.root)}


Backend = EnvironmentVariables | PrivateFiles


class Backends:
    """All secret backends of an estate behind one door; implements ``ports.secrets.SecretStore``.

    The backend ``env`` (environment variables, no prefix) is always there.
    """

    __slots__ = ("_backends", "_environment")

    def __init__(
        self, backends: Mapping[str, Backend] | None = None, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._backends: dict[str, Backend] = {"env": EnvironmentVariables(), **(backends or {})}
        self._environment = os.environ if environment is None else environment

    @classmethod
    def from_json(cls, description: JsonObject) -> Backends:
        """Read ``{"name": {"kind": "environment", "prefix": ""} | {"kind": "file", "root": "/absolute"}}``.

        Raises ``SettingsError`` naming the backend that is described wrongly.
        """
        return cls({name: _backend(name, body) for name, body in description.items()})

    def to_json(self) -> JsonObject:
        """The description of every backend; it holds no secret."""
        return {name: backend.to_json() for name, backend in sorted(self._backends.items())}

    def open(self, ref: SecretRef) -> Secret:
        """The secret; raises ``InputError`` naming the reference and the place looked at, never the value."""
        backend = self._backends.get(ref.backend)
        match backend:
            case EnvironmentVariables():
                return self._from_environment(ref, backend)
            case PrivateFiles():
                return _from_file(ref, backend)
            case None:
                near = did_you_mean(ref.backend, self._backends)
                hint = f" Did you mean {near!r}?" if near else ""
                known = ", ".join(sorted(self._backends))
                raise InputError(
                    f"Secret {ref}: there is no backend {ref.backend!r}; known are {known}.{hint}",
                    next_step="Name it under 'secrets' in the Estate document.",
                )

    def _from_environment(self, ref: SecretRef, backend: EnvironmentVariables) -> Secret:
        name = backend.prefix + ref.path
        value = self._environment.get(name)
        if value is None:
            raise InputError(
                f"Secret {ref}: the environment variable {name} is not set.", next_step=f"Set {name} and run again."
            )
        return _box(ref, value, f"the environment variable {name}")


def _backend(name: str, body: Json) -> Backend:
    match body:
        case {"kind": "environment", **rest} if set(rest) <= {"prefix"} and isinstance(rest.get("prefix", ""), str):
            return EnvironmentVariables(prefix=str(rest.get("prefix", "")))
        case {"kind": "file", "root": str(root), **rest} if not rest:
            if not Path(root).is_absolute():
                raise SettingsError(
                    f"Secret backend {name!r}: the root {root!r} is not an absolute path.",
                    next_step="Write the whole path, beginning with a slash.",
                )
            return PrivateFiles(root=Path(root))
        case _:
            raise SettingsError(
                f"Secret backend {name!r} is described wrongly.",
                next_step='Write {"kind": "environment", "prefix": ""} or {"kind": "file", "root": "/absolute/path"}.',
            )


def _from_file(ref: SecretRef, backend: PrivateFiles) -> Secret:
    place = backend.root / ref.path
    try:
        real = place.resolve(strict=True)
        if not real.is_relative_to(backend.root.resolve()):
            raise InputError(f"Secret {ref}: {place} leads out of {backend.root}.")
        handle = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(
            f"Secret {ref}: cannot read {place}: {error.strerror or error}.",
            next_step="Put the secret there, in a file with mode 600.",
        ) from error
    except RuntimeError as error:
        raise InputError(f"Secret {ref}: {place} is a loop of links.") from error
    try:
        _require_private(ref, place, os.fstat(handle))
        content = _read(handle)
    finally:
        os.close(handle)
    if len(content) > LARGEST_BYTES:
        raise InputError(f"Secret {ref}: {place} is larger than {LARGEST_BYTES} bytes; that is no secret.")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        # the error's own text would quote the bytes
        raise InputError(f"Secret {ref}: {place} is not UTF-8 text.") from None
    return _box(ref, text.removesuffix("\n"), str(place))


def _read(handle: int) -> bytes:
    """At most one byte more than is allowed."""
    content = b""
    while len(content) <= LARGEST_BYTES and (part := os.read(handle, LARGEST_BYTES + 1 - len(content))):
        content += part
    return content


def _require_private(ref: SecretRef, place: Path, status: os.stat_result) -> None:
    """Checked on the open file, so that nobody can swap it in between."""
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"Secret {ref}: {place} is not a regular file.")
    if status.st_mode & 0o077:
        raise InputError(
            f"Secret {ref}: {place} has mode {stat.S_IMODE(status.st_mode):03o}, so others may read it.",
            next_step=f"Run: chmod 600 {place} (and think about whether it has leaked).",
        )
    if status.st_uid not in {0, os.geteuid()}:
        raise InputError(f"Secret {ref}: {place} belongs to user id {status.st_uid}, neither to us nor to root.")


def _box(ref: SecretRef, value: str, place: str) -> Secret:
    if not value.strip():
        raise InputError(f"Secret {ref}: {place} is empty.")
    return Secret(value)
