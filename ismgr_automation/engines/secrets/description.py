"""From the JSON description of backends to values: it holds places and references, never a secret. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from ismgr_automation.core.errors import SettingsError
from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.secrets.kinds import (
    AnsibleVault,
    Backend,
    EnvironmentVariables,
    HashicorpVault,
    PrivateFiles,
)

VARIABLE = "ISMGR_SECRET_BACKENDS"
"""The environment variable that carries ``to_json()`` to providers and plug-ins; there is no secret in it."""

ALWAYS: Mapping[str, Backend] = {"env": EnvironmentVariables()}
"""Backends of every estate."""

SHAPES = (
    '{"kind": "environment", "prefix": ""}, {"kind": "file", "root": "/absolute/path"}, '
    '{"kind": "ansible-vault", "files": ["/absolute/path"], "password": {"secret": "backend:path"}} or '
    '{"kind": "vault", "address": "https://vault:8200", "token": {"secret": "backend:path"}}'
)


def read(description: JsonObject) -> dict[str, Backend]:
    """All backends by name. Raises ``SettingsError`` naming the one that is described wrongly, and for backends that
    would need each other to be opened."""
    found = {**ALWAYS, **{name: _backend(name, body) for name, body in description.items()}}
    circle = circle_of({name: [ref.backend for ref in backend.needs] for name, backend in found.items()})
    if circle:
        raise SettingsError(
            f"Secret backends need each other to be opened: {' needs '.join(circle)}.",
            next_step="Keep the password or token of one of them elsewhere, such as in an environment variable.",
        )
    return found


def own_references(names: Iterable[str], description: JsonObject) -> tuple[SecretRef, ...]:
    """The references that must be openable, too, for secrets of these backends to be opened, sorted: a server's token,
    the password of vault files. Whoever starts a process that opens references must see to them."""
    backends = read(description)
    found: set[SecretRef] = set()
    todo = list(names)
    while todo:
        backend = backends.get(todo.pop())
        new = set(backend.needs) - found if backend is not None else set()
        found |= new
        todo += [ref.backend for ref in new]
    return tuple(sorted(found))


def circle_of(needs: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Names that need each other, the first again at the end; empty when there is no circle.

    >>> circle_of({"a": ["b"], "b": ["env"], "env": []})
    ()
    >>> circle_of({"a": ["b"], "b": ["a"]})
    ('a', 'b', 'a')
    """
    try:
        TopologicalSorter({name: sorted(needs[name]) for name in sorted(needs)}).prepare()
    except CycleError as found:
        return tuple(reversed(found.args[1]))
    return ()


def _backend(name: str, body: Json) -> Backend:
    try:
        rest = dict(body) if isinstance(body, Mapping) else {}
        reader, keys = _KINDS.get(str(rest.pop("kind", "")), (_nothing, frozenset[str]()))
        return reader(name, rest) if set(rest) <= keys else _nothing(name, rest)
    except ValueError:
        # the value is not quoted: somebody may have put the secret itself there
        raise SettingsError(
            f"Secret backend {name!r} is described wrongly.", next_step=f"Write one of {SHAPES}."
        ) from None


def _nothing(name: str, body: JsonObject) -> Backend:
    raise ValueError(name, body.keys())


def _environment(_name: str, body: JsonObject) -> EnvironmentVariables:
    return EnvironmentVariables(prefix=_text(body, "prefix"))


def _files(name: str, body: JsonObject) -> PrivateFiles:
    if "root" not in body:
        raise ValueError
    return PrivateFiles(root=_absolute(name, _text(body, "root")))


def _ansible_vault(name: str, body: JsonObject) -> AnsibleVault:
    files, others = body.get("files"), body.get("passwords", {})
    password = _reference(body.get("password"))
    if not isinstance(files, list | tuple) or not files or not isinstance(others, Mapping) or password is None:
        raise ValueError
    return AnsibleVault(
        files=tuple(_absolute(name, one) for one in _texts(files)),
        password=password,
        passwords={label: ref for label, value in others.items() if (ref := _reference(value)) is not None},
    )


def _vault(name: str, body: JsonObject) -> HashicorpVault:
    token, secret_id = _reference(body.get("token")), _reference(body.get("secret_id"))
    role, ca, seconds = _text(body, "role_id"), _text(body, "ca"), body.get("deadline_seconds", 10.0)
    if not _text(body, "address").startswith(("https://", "http://")) or not isinstance(seconds, int | float):
        raise ValueError
    if (token is None) == (secret_id is None) or (secret_id is not None) != bool(role):
        raise SettingsError(
            f"Secret backend {name!r} must log in either with a token or as an AppRole.",
            next_step="Write token, or role_id and secret_id.",
        )
    return HashicorpVault(
        address=_text(body, "address"),
        token=token,
        role_id=role,
        secret_id=secret_id,
        approle=_text(body, "approle") or "approle",
        mount=_text(body, "mount") or "secret",
        namespace=_text(body, "namespace"),
        ca=_absolute(name, ca) if ca else None,
        deadline=timedelta(seconds=seconds),
    )


def _text(body: JsonObject, key: str) -> str:
    value = body.get(key, "")
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004  the caller tells what is wrong
    return value


def _texts(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004  the caller tells what is wrong
        yield value


def _reference(value: Json) -> SecretRef | None:
    match value:
        case None:
            return None
        case {"secret": str(text), **rest} if not rest:
            return SecretRef.parse(text)
        case _:
            raise ValueError


def _absolute(name: str, path: str) -> Path:
    if not Path(path).is_absolute():
        raise SettingsError(
            f"Secret backend {name!r}: {path!r} is not an absolute path.",
            next_step="Write the whole path, beginning with a slash.",
        )
    return Path(path)


_OF_VAULT = frozenset(
    {"address", "token", "role_id", "secret_id", "approle", "mount", "namespace", "ca", "deadline_seconds"}
)
_KINDS: Mapping[str, tuple[Callable[[str, JsonObject], Backend], frozenset[str]]] = {
    "environment": (_environment, frozenset({"prefix"})),
    "file": (_files, frozenset({"root"})),
    "ansible-vault": (_ansible_vault, frozenset({"files", "password", "passwords"})),
    "vault": (_vault, _OF_VAULT),
}
"""How each kind is read, and the keys that it may have."""
