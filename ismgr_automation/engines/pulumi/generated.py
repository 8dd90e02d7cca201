"""Names that an engine makes up for new resources, a random part behind the resource's own name: each preview has
others, so they must be told from values that mean something. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ismgr_automation.core.json import Json

_RANDOM = r"-[0-9a-f]{7}"


@dataclass(frozen=True, slots=True)
class Generated:
    """The names that were made up, each with what stands for it."""

    names: tuple[tuple[str, str], ...]

    @classmethod
    def among(cls, made: Iterable[tuple[str, Any]]) -> Generated:
        """From the new resources: each one's own name and its properties.

        >>> Generated.among([("web", {"name": "web-0a1b2c3", "size": 1})]).masked({"bucket": "arn:web-0a1b2c3"})
        {'bucket': 'arn:web-<generated>'}
        """
        found: dict[str, str] = {}
        for own, properties in made:
            shape = re.compile(re.escape(own) + _RANDOM)
            found |= {text: f"{own}-<generated>" for text in _texts(properties) if shape.fullmatch(text)}
        return cls(tuple(sorted(found.items(), key=lambda one: (-len(one[0]), one[0]))))

    def masked(self, value: Any) -> Any:
        """The value with each of the names replaced, wherever it stands."""
        match value:
            case str():
                for name, instead in self.names:
                    value = value.replace(name, instead)
                return value
            case dict():
                return {key: self.masked(item) for key, item in value.items()}
            case list():
                return [self.masked(item) for item in value]
            case _:
                return value

    def within(self, value: Json) -> bool:
        """Whether one of the names stands anywhere in the value."""
        return any(name in text for text in _texts(value) for name, _ in self.names)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
        case _:
            return
