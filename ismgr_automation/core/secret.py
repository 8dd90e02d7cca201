"""Secret references travel; secrets stay in an opaque box that only an engine opens."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn


@dataclass(frozen=True, slots=True, order=True)
class SecretRef:
    """Where a secret is kept, never what it is: ``backend:path``, for example ``file:bmc/db1.dc1``."""

    backend: str
    path: str

    def __str__(self) -> str:
        return f"{self.backend}:{self.path}"

    @classmethod
    def parse(cls, text: str) -> SecretRef:
        """Read ``backend:path``; raises ``ValueError`` when a part is missing or the path climbs out with ``..``."""
        backend, colon, path = text.partition(":")
        if not colon or not backend or not path:
            raise ValueError(f"{text!r} is not a secret reference; write backend:path, for example env:BMC_PASSWORD")
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"the path of secret reference {text!r} must stay inside its backend")
        return cls(backend, path)


def references_in(value: object) -> Iterator[SecretRef]:
    """References inside plain JSON, ``{"secret": "backend:path"}`` or the text of a key that ends in ``_ref``: programs
    hand them to providers as they are.

    >>> list(references_in({"bmc": {"password": {"secret": "env:BMC"}}, "key_ref": "file:dns"}))
    [SecretRef(backend='env', path='BMC'), SecretRef(backend='file', path='dns')]
    """
    match value:
        case {"secret": str(text), **rest} if not rest:
            try:
                yield SecretRef.parse(text)
            except ValueError:
                return
        case Mapping():
            for name, item in value.items():
                # programs hand such strings on as they are: ``key_secret_ref: env:DNS_KEY``
                named = str(name).endswith(("_ref", "Ref")) and isinstance(item, str)
                yield from references_in({"secret": item} if named else item)
        case list() | tuple():
            for item in value:
                yield from references_in(item)
        case _:
            return


class Secret:
    """An opened secret. It is not a string: printing, formatting, comparing or pickling it never shows the value.

    >>> print(Secret("hunter2"))
    <secret>
    >>> f"{Secret('hunter2')}"
    '<secret>'
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The value in clear. Called inside engines only, as late as can be."""
        return self.__value

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


SHORTEST = 4
"""Shorter secrets are not searched for: replacing every ``a`` would hide more than it protects."""


class Redactor:
    """Takes opened secrets out of text that an engine printed, before the text leaves the engine."""

    __slots__ = ("__values",)

    def __init__(self) -> None:
        self.__values: set[str] = set()

    def learn(self, secret: Secret) -> Secret:
        """Remember a secret, each line of one with several lines, and how JSON would write it; returns it unchanged."""
        value = secret.reveal()
        parts = {value, *value.splitlines(), json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
        self.__values |= {part.strip() for part in parts if len(part.strip()) >= SHORTEST}
        return secret

    def clean(self, text: str) -> str:
        """The text with every learnt secret replaced, the longest first."""
        for value in sorted(self.__values, key=len, reverse=True):
            text = text.replace(value, "<secret>")
        return text

    def __repr__(self) -> str:
        return f"<redactor of {len(self.__values)} values>"
