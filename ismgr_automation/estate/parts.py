"""Taking an expression apart by its text: what of it concerns the host alone. With a doubt nothing is said apart, and
the whole is evaluated for every host: slower, and as right."""

from __future__ import annotations

import re
from collections.abc import Sequence

_UNSURE = re.compile(r"//|\"\"|[rRbB]\"")
"""In an expression without its texts: comments, and texts in three quotes or with a prefix. An empty text is unsure as
well: three quotes begin like it."""
_HOST = re.compile(r"(?<![\w.])host\b")
_FIELD = re.compile(
    r"(?<![\w.])host\.(?:(labels)\.([A-Za-z_]\w*)\b(?!\s*\()|(name|address|site|machine|user|port|groups|labels)\b)"
)


def host_part(source: str, bare: str, variables: Sequence[str]) -> tuple[str, str]:
    """All parts joined by ``&&`` that ask only for the host, and all others, where no other asks for it too; two empty
    texts where that is not so.

    ``bare`` is the source with its texts blanked out.

    >>> text = 'host.site == "a" && cve == "b"'
    >>> host_part(text, 'host.site == " " && cve == " "', ["host", "cve"])
    ('host.site == "a"', 'cve == "b"')
    """
    if _UNSURE.search(bare):
        return "", ""
    found: list[str] = []
    others: list[str] = []
    for start, end in _pieces(bare):
        asked = {name for name in variables if re.search(rf"(?<![\w.]){name}\b", bare[start:end])}
        if asked != {"host"} and "host" in asked:
            return "", ""
        (found if "host" in asked else others).append(source[start:end].strip())
    return " && ".join(found), " && ".join(others)


def host_fields(bare: str) -> tuple[str, ...]:
    """What of the host an expression looks at; an empty name when that cannot be told. Nothing: it does not.

    >>> host_fields('host.labels.role == package.name || host.site == " "')
    ('labels.role', 'site')
    """
    found = [f"{match[1]}.{match[2]}" if match[1] else match[3] for match in _FIELD.finditer(bare)]
    if len(found) != len(_HOST.findall(bare)):
        return ("",)
    return tuple(sorted(set(found)))


def _pieces(bare: str) -> list[tuple[int, int]]:
    """Where the parts between ``&&`` are; one part where anything binds less tightly than that."""
    depth = start = 0
    found: list[tuple[int, int]] = []
    for at, character in enumerate(bare):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and (character == "?" or bare.startswith("||", at)):
            return [(0, len(bare))]
        elif depth == 0 and bare.startswith("&&", at):
            found.append((start, at))
            start = at + 2
    return [*found, (start, len(bare))]
