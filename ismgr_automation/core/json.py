"""The JSON type, canonical bytes (RFC 8785) and digests over them. No file is read or written here."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

import rfc8785

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
JsonObject = Mapping[str, Json]

_EXACT = 2**53


def canonical(value: Json) -> bytes:
    """The one byte string of a JSON value: RFC 8785, so equal values give equal bytes on every machine.

    Integers beyond 2**53 are the nearest double, as they are to every other reader of JSON. Half characters (lone
    surrogates, from bytes that are no text) are written as escapes. Raises ``ValueError`` for NaN and infinities.

    >>> canonical({"b": 1, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    # most of what there is needs nothing of what the standard adds to plain JSON, and C is 20 times faster
    if _simple(value):
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False)
        return text.encode()
    return rfc8785.dumps(_plain(value))


def digest(value: Json) -> str:
    """``sha256:`` and the 64 hexadecimal digits over the canonical bytes.

    >>> digest({})
    'sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'
    """
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def keyed_digest(key: bytes, value: Json) -> str:
    """``hmac-sha256:`` and 64 digits: stands for a value that must not be guessed from its digest."""
    return "hmac-sha256:" + hmac.new(key, canonical(value), hashlib.sha256).hexdigest()


def _simple(value: Any) -> bool:
    """Whether plain JSON with sorted keys is canonical already: no fractions, no big numbers, no half characters, keys
    that sort alike as bytes and as UTF-16, and none but the plain containers."""
    kind = type(value)
    if kind is str:
        return bool(value.isascii() or value.isprintable())
    if kind is dict:
        return all(type(key) is str and key.isascii() and _simple(item) for key, item in value.items())
    if kind is list or kind is tuple:
        return all(map(_simple, value))
    if kind is int:
        return bool(-_EXACT < value < _EXACT)
    return value is None or kind is bool


def _plain(value: Json) -> Any:
    """rfc8785 accepts dict and list only; tuples and mappings are as good to us."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_plain(item) for item in value]
    if isinstance(value, int) and abs(value) >= _EXACT:
        return _double(value)
    return value


def _double(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError("an integer is larger than any JSON number") from None
