"""YAML with the place of every key and value. Text in, plain JSON values and places out; nothing is executed, no file
is opened, and no input, however hostile, raises.

Values follow YAML 1.2 (``on`` and dates are text) and what other tools read differently is refused with a sentence.
The tree is built from the C parser's events, without recursion: nesting, aliases and merge keys are counted before
they are expanded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.json import Json
from ismgr_automation.estate.scalars import plain

MOST_BYTES = 4 * 1024 * 1024
MOST_NODES = 200_000
"""How many values a document may have once its aliases are written out."""
DEEPEST = 64

_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:str", "!")
_PROBLEMS: Mapping[str, tuple[str, str]] = {
    "mapping values are not allowed in this context": (
        "a colon stands where no key can be",
        "the same indentation as the keys beside it, or quotes around a text that holds ': '",
    ),
    "found unexpected end of stream": ("the text ends inside quotes", "a closing quote"),
    "did not find expected key": ("this line does not fit the keys above it", "the indentation of the keys beside it"),
    "did not find expected '-' indicator": ("this line does not fit the list above it", "an item that begins with '-'"),
    "did not find expected ',' or ']'": ("a list in brackets is not closed", "',' or ']'"),
    "did not find expected ',' or '}'": ("a mapping in braces is not closed", "',' or '}'"),
    "did not find expected <document start>": ("a second document begins without a line '---'", "a line '---'"),
    "found unknown escape character": ("a backslash in double quotes escapes nothing known", "single quotes"),
    "found undefined alias": ("the alias has no anchor above it", "an anchor with '&' before it is used with '*'"),
    "found a tab character where an indentation space is expected": ("a tab cannot indent YAML", "spaces"),
    "found a tab character that violates indentation": ("a tab cannot indent YAML", "spaces"),
    "could not find expected ':'": ("this line is neither a key nor an item", "'key: value' or '- item'"),
}
_START = "found character that cannot start any token"


class Spot(NamedTuple):
    """Where one value stands; lines and columns count from 1. ``key`` is the place of its key or, in a list, of the
    item. ``style`` is the quote or block sign that the value was written with."""

    line: int
    column: int
    key_line: int
    key_column: int
    style: str
    children: Mapping[str | int, Spot]


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """One YAML document: its value, the places of its parts, and the text that it was read from."""

    path: str
    value: Json
    spot: Spot
    text: str

    def find(self, path: tuple[str | int, ...]) -> Spot:
        """The spot at a path of keys and indices, or of its deepest part that exists."""
        spot = self.spot
        for part in path:
            spot = spot.children.get(part, spot)
        return spot

    def at(self, *path: str | int) -> Position:
        """The place of a value."""
        spot = self.find(path)
        return Position(self.path, spot.line, spot.column)

    def key(self, *path: str | int) -> Position:
        """The place of a value's key."""
        spot = self.find(path)
        return Position(self.path, spot.key_line, spot.key_column)


def parse(path: str, content: bytes) -> tuple[tuple[Marked, ...], tuple[Diagnostic, ...]]:
    """All documents of a file as far as it can be read, and what is wrong with it. Empty documents are left out."""
    if len(content) > MOST_BYTES:
        summary = "the file is larger than documents ever are"
        return (), (Diagnostic(summary=summary, position=Position(path, 1, 1), expected=f"at most {MOST_BYTES} bytes"),)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        before = content[: problem.start]
        place = Position(path, before.count(b"\n") + 1, problem.start - before.rfind(b"\n"))
        return (), (Diagnostic(summary="the file is not UTF-8 text", position=place, expected="UTF-8"),)
    builder = _Builder(path, text)
    builder.run()
    return tuple(builder.documents), tuple(builder.diagnostics)


class _TooMuch(Exception):
    """Stops the building of a file whose diagnostics already say why."""


class _Frame:
    """A mapping or list that is still open."""

    __slots__ = ("anchor", "children", "column", "height", "is_map", "key", "line", "merges", "value", "weight")

    def __init__(self, is_map: bool, line: int, column: int, anchor: str | None) -> None:
        self.is_map = is_map
        self.line = line
        self.column = column
        self.anchor = anchor
        self.value: Any = {} if is_map else []
        self.children: dict[str | int, Spot] = {}
        self.key: tuple[str | None, int, int] | None = None
        self.merges: list[tuple[Any, Spot]] = []
        self.weight = 1
        self.height = 1


class _Node(NamedTuple):
    """A finished value with what it would weigh if it were written out where an alias stands."""

    value: Any
    spot: Spot
    weight: int
    height: int


class _Builder:
    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.documents: list[Marked] = []
        self.diagnostics: list[Diagnostic] = []
        self._anchors: dict[str, _Node | None] = {}
        self._stack: list[_Frame] = []

    def run(self) -> None:
        try:
            for event in self._events():
                take = _TAKERS.get(type(event))
                if take is not None:
                    take(self, event)
        except yaml.MarkedYAMLError as problem:
            self._syntax(problem)
        except yaml.reader.ReaderError as problem:
            before = self.text[: int(problem.position)]
            line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
            self._say(line, column, "a control character stands here", "printable text")
        except _TooMuch:
            return

    def _events(self) -> Iterator[Any]:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return iter(yaml.parse(self.text, Loader=loader))

    def _say(self, line: int, column: int, summary: str, expected: str = "", suggestion: str = "") -> None:
        place = Position(self.path, line, column)
        self.diagnostics.append(Diagnostic(summary=summary, position=place, expected=expected, suggestion=suggestion))

    def _scalar_event(self, event: Any) -> None:
        self._scalar(event, event.start_mark.line + 1, event.start_mark.column + 1)

    def _alias_event(self, event: Any) -> None:
        self._alias(str(event.anchor), event.start_mark.line + 1, event.start_mark.column + 1)

    def _open_event(self, event: Any) -> None:
        self._open(event, event.start_mark.line + 1, event.start_mark.column + 1)

    def _close_event(self, _event: Any) -> None:
        self._close()

    def _document_event(self, _event: Any) -> None:
        self._anchors.clear()

    def _open(self, event: Any, line: int, column: int) -> None:
        if event.tag is not None and event.tag not in _TAGS:
            self._tag(event.tag, line, column)
        if len(self._stack) >= DEEPEST:
            self._say(line, column, f"values are nested more than {DEEPEST} deep here", "flatter values")
            raise _TooMuch
        if event.anchor:
            self._anchors[event.anchor] = None
        self._stack.append(_Frame(isinstance(event, yaml.MappingStartEvent), line, column, event.anchor))

    def _close(self) -> None:
        frame = self._stack.pop()
        self._merge(frame)
        spot = Spot(frame.line, frame.column, frame.line, frame.column, "", frame.children)
        node = _Node(frame.value, spot, frame.weight, frame.height)
        if frame.anchor:
            self._anchors[frame.anchor] = node
        self._add(node, frame.line, frame.column)

    def _scalar(self, event: Any, line: int, column: int) -> None:
        value: Json = event.value
        tag = event.tag
        awaits_key = bool(self._stack) and self._stack[-1].is_map and self._stack[-1].key is None
        if tag is not None and tag not in _TAGS:
            self._tag(tag, line, column)
        elif event.implicit[0] and not awaits_key:
            value, complaint = plain(event.value)
            if complaint:
                self._say(line, column, complaint.summary, complaint.expected)
        elif event.implicit[0] and (found := plain(event.value)[0]) is not None and not isinstance(found, str | bool):
            self._say(line, column, f"the key {event.value} is a number", "text; put it in quotes")
        node = _Node(value, Spot(line, column, line, column, event.style or "", {}), 1, 1)
        if event.anchor:
            self._anchors[event.anchor] = node
        self._add(node, line, column, plain_key=bool(event.implicit[0]))

    def _alias(self, name: str, line: int, column: int) -> None:
        if name not in self._anchors:
            self._say(line, column, f"the alias *{name} has no anchor above it", f"&{name} before it is used")
            raise _TooMuch
        node = self._anchors[name]
        if node is None:
            self._say(line, column, f"the anchor &{name} contains itself", "an alias to something that is complete")
            raise _TooMuch
        self._add(node, line, column)

    def _add(self, node: _Node, line: int, column: int, *, plain_key: bool = False) -> None:
        if not self._stack:
            if node.value is not None:
                self.documents.append(Marked(path=self.path, value=node.value, spot=node.spot, text=self.text))
            return
        frame = self._stack[-1]
        if frame.is_map and frame.key is None:
            frame.key = (self._key(node, line, column, plain_key), line, column)
            return
        frame.weight += node.weight
        frame.height = max(frame.height, node.height + 1)
        if frame.weight > MOST_NODES or len(self._stack) + frame.height > 2 * DEEPEST:
            self._say(line, column, "aliases make this document grow without bounds", "fewer or flatter aliases")
            raise _TooMuch
        if not frame.is_map:
            frame.children[len(frame.value)] = node.spot
            frame.value.append(node.value)
            return
        assert frame.key is not None  # noqa: S101  a key was read before its value
        key, key_line, key_column = frame.key
        frame.key = None
        spot = node.spot._replace(key_line=key_line, key_column=key_column)
        if key is None:
            frame.merges.append((node.value, spot))
        elif key in frame.value:
            first = frame.children[key].key_line
            self._say(key_line, key_column, f"the key {key!r} is already there, on line {first}", "each key once")
        else:
            frame.value[key] = node.value
            frame.children[key] = spot

    def _key(self, node: _Node, line: int, column: int, plain_key: bool) -> str | None:
        """The key; None is the merge key."""
        if isinstance(node.value, str):
            return None if plain_key and node.value == "<<" else node.value
        self._say(line, column, "a key is a list or a mapping", "text")
        return f"\0key at {line}:{column}"

    def _merge(self, frame: _Frame) -> None:
        for value, spot in frame.merges:
            many = value if isinstance(value, list) else [value]
            for index, one in enumerate(many):
                if not isinstance(one, dict):
                    self._say(spot.line, spot.column, "only mappings can be merged with '<<'", "an alias to a mapping")
                    continue
                places = spot.children[index].children if isinstance(value, list) else spot.children
                for key, item in one.items():
                    if key not in frame.value:
                        frame.value[key] = item
                        frame.children[key] = places[key]

    def _tag(self, tag: str, line: int, column: int) -> None:
        shown = "!!" + tag.removeprefix("tag:yaml.org,2002:") if tag.startswith("tag:") else tag
        self._say(line, column, f"the tag {shown} means nothing here", "a plain value without a tag")

    def _syntax(self, problem: yaml.MarkedYAMLError) -> None:
        mark = problem.problem_mark or problem.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        words = problem.problem or ""
        summary, expected = _PROBLEMS.get(words, (f"the YAML cannot be read here: {words}", ""))
        lines = self.text.splitlines()
        rest = lines[line - 1][column - 1 :] if line <= len(lines) else ""
        if words == _START:
            summary, expected = (
                ("a tab cannot indent YAML", "spaces")
                if rest.startswith("\t")
                else (f"a value cannot begin with {rest[:1]!r}", "quotes around the text")
            )
        if words == "found unexpected end of stream" and problem.context_mark:
            line, column = problem.context_mark.line + 1, problem.context_mark.column + 1
        self._say(line, column, summary, expected)


_TAKERS: Mapping[type, Callable[[_Builder, Any], None]] = {
    yaml.ScalarEvent: _Builder._scalar_event,  # noqa: SLF001  a table of the class above
    yaml.AliasEvent: _Builder._alias_event,  # noqa: SLF001
    yaml.MappingStartEvent: _Builder._open_event,  # noqa: SLF001
    yaml.SequenceStartEvent: _Builder._open_event,  # noqa: SLF001
    yaml.MappingEndEvent: _Builder._close_event,  # noqa: SLF001
    yaml.SequenceEndEvent: _Builder._close_event,  # noqa: SLF001
    yaml.DocumentStartEvent: _Builder._document_event,  # noqa: SLF001
}
"""By exact type: a thousand documents are fifty thousand events."""

_CLAIM = re.compile(r"^(kind|name):[ \t]*['\"]?([A-Za-z0-9.-]+)", re.MULTILINE)


def claims(text: str) -> tuple[tuple[str, str], ...]:
    """(kind, name) pairs that an unreadable text seems to hold, so that one broken file is not reported a second time
    as a hundred unknown names."""
    found: list[tuple[str, str]] = []
    for part in re.split(r"^---", text, flags=re.MULTILINE):
        words = dict(reversed(_CLAIM.findall(part)))
        if "kind" in words and "name" in words:
            found.append((words["kind"], words["name"]))
    return tuple(found)
