"""What a validation library found, said for people: our own sentences, the place of the guilty key or value, what was
expected, what was probably meant. Its own words never leave this file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ismgr_automation.core.diagnostic import Diagnostic, Position, did_you_mean
from ismgr_automation.estate.draft import wrong
from ismgr_automation.estate.fields import OWN_WORDS, PATTERNS
from ismgr_automation.estate.marks import Marked

TYPES: Mapping[str, str] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "date_type": "a date such as 2027-01-31",
    "date_parsing": "a date such as 2027-01-31",
    "date_from_datetime_parsing": "a date such as 2027-01-31",
    "date_from_datetime_inexact": "a date such as 2027-01-31",
    "datetime_type": "a date and time such as 2027-01-31T01:00:00",
    "datetime_parsing": "a date and time such as 2027-01-31T01:00:00",
    "datetime_from_date_parsing": "a date and time such as 2027-01-31T01:00:00",
    "timezone_naive": "a time without an offset, such as 2027-01-31T01:00:00",
    "timezone_aware": "a time with its offset from UTC, such as 2027-01-31T01:00:00+01:00",
    "none_required": "nothing",
    "finite_number": "a finite number",
}
"""What a value of the wrong type should have been."""

LIMITS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda context: f"more than {context['gt']:g}",
    "greater_than_equal": lambda context: f"at least {context['ge']:g}",
    "less_than": lambda context: f"less than {context['lt']:g}",
    "less_than_equal": lambda context: f"at most {context['le']:g}",
    "string_too_long": lambda context: f"at most {context['max_length']} characters",
    "string_too_short": lambda context: f"at least {_count(context['min_length'], 'character')}",
    "too_short": lambda context: f"at least {_count(context['min_length'], 'entry')}",
    "too_long": lambda context: f"at most {_count(context['max_length'], 'entry')}",
}
"""What a value that is too large, small, long or short should have been."""

_LONGEST_SHOWN = 60


def translate(label: str, model: type[BaseModel], marked: Marked, errors: Iterable[ErrorDetails]) -> list[Diagnostic]:
    """One diagnostic for each mistake in a document; ``label`` names the document, such as ``HostGroup 'webs'``."""
    said = [_Mistake(label, model, marked, one) for one in errors]
    meant = {(one.parent, one.suggestion) for one in said if one.type == "extra_forbidden" and one.suggestion}
    kept = [one for one in said if not (one.type == "missing" and (one.parent, one.last) in meant)]
    by_place: dict[tuple[str | int, ...], list[_Mistake]] = {}
    for one in kept:
        # the branches of a union complain one by one about the same value
        by_place.setdefault((*one.path, *(("\0", one.last) if one.type == "missing" else ())), []).append(one)
    return [_join([one.say() for one in group]) for group in by_place.values()]


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case Mapping():
            return "a mapping"
        case _:
            return "a list"


def _count(number: int, noun: str) -> str:
    many = noun.removesuffix("y") + "ies" if noun.endswith("y") else noun + "s"
    return f"{number} {noun if number == 1 else many}"


def _join(group: list[Diagnostic]) -> Diagnostic:
    first = group[0]
    expected = " or ".join(dict.fromkeys(one.expected for one in group if one.expected))
    return Diagnostic(summary=first.summary, position=first.position, expected=expected, suggestion=first.suggestion)


class _Mistake:
    """One error of the validator, with its location turned into a path of the document."""

    def __init__(self, label: str, model: type[BaseModel], marked: Marked, error: ErrorDetails) -> None:
        self.label = label
        self.marked = marked
        self.type: str = error["type"]
        self.context: Mapping[str, Any] = error.get("ctx", {})
        self.message = error["msg"]
        location = error["loc"]
        self.is_key = bool(location) and location[-1] == "[key]"
        self.last = str(location[-1]) if location else ""
        self.value = error["input"]
        self.path = self._real(location[:-1] if self.is_key else location)
        self.parent = self.path if self.type == "missing" else self.path[:-1]
        self.models = _models_at(model, location[:-1]) if self.type in {"missing", "extra_forbidden"} else []
        known = sorted({name for one in self.models for name in one.model_fields})
        self.suggestion = did_you_mean(self.last, known) if self.type == "extra_forbidden" else ""
        self.known = known

    def _real(self, location: tuple[str | int, ...]) -> tuple[str | int, ...]:
        """The location without the names of union branches, which are no keys of the document."""
        path: list[str | int] = []
        spot = self.marked.spot
        for part in location:
            if part in spot.children:
                path.append(part)
                spot = spot.children[part]
        return tuple(path)

    def say(self) -> Diagnostic:
        """The mistake as a diagnostic."""
        if self.type in TYPES:
            return self._at_value(f"{self._subject()} is {kind_of(self.value)}", TYPES[self.type])
        if self.type in LIMITS:
            return self._at_value(f"{self._subject()} {self._degree()}", LIMITS[self.type](self.context))
        sayings: Mapping[str, Callable[[], Diagnostic]] = {
            "missing": self._missing,
            "extra_forbidden": self._extra,
            "enum": lambda: self._choice(str(self.context.get("expected", ""))),
            "literal_error": lambda: self._choice(str(self.context.get("expected", ""))),
            "union_tag_invalid": self._tag,
            "union_tag_not_found": self._no_tag,
            "string_pattern_mismatch": self._malformed,
            OWN_WORDS: lambda: self._at_value(f"{self._subject()}: {self.message}", str(self.context["expected"])),
        }
        saying = sayings.get(self.type)
        return saying() if saying else self._at_value(f"{self._subject()} cannot be used as it is")

    def _missing(self) -> Diagnostic:
        place = self.marked.key(*self.path) if self.path else self._start()
        return wrong(place, f"{self._owner(self.path)} has no {self.last!r}", self._promise())

    def _extra(self) -> Diagnostic:
        summary = f"unknown key {self.last!r} in {self._owner(self.path[:-1])}"
        expected = "" if self.suggestion else "one of " + ", ".join(self.known)
        return wrong(self.marked.key(*self.path), summary, expected, self.suggestion)

    def _tag(self) -> Diagnostic:
        self.value = self.context["tag"]
        self.path = (*self.path, str(self.context["discriminator"]).strip("'"))
        return self._choice(str(self.context["expected_tags"]))

    def _no_tag(self) -> Diagnostic:
        tag = str(self.context["discriminator"]).strip("'")
        return wrong(self.marked.key(*self.path), f"{self._owner(self.path)} has no {tag!r}")

    def _malformed(self) -> Diagnostic:
        shown = f" {self.value!r}" if len(str(self.value)) <= _LONGEST_SHOWN else ""
        what = f"the key{shown}" if self.is_key else f"{self._subject()}{shown}"
        place = self.marked.key(*self.path) if self.is_key else self.marked.at(*self.path)
        return wrong(place, f"{what} is not well formed", PATTERNS.get(str(self.context["pattern"]), ""))

    def _choice(self, listed: str) -> Diagnostic:
        words = re.findall(r"'([^']*)'", listed)
        found = repr(self.value) if isinstance(self.value, str) else kind_of(self.value)
        suggestion = did_you_mean(self.value, words) if isinstance(self.value, str) else ""
        place = self.marked.at(*self.path)
        return wrong(place, f"{self._subject()} is {found}", "one of " + ", ".join(filter(None, words)), suggestion)

    def _at_value(self, summary: str, expected: str = "") -> Diagnostic:
        return wrong(self.marked.at(*self.path), summary, expected)

    def _start(self) -> Position:
        """A document's own mistakes are shown at its kind: the line that everybody looks for."""
        return self.marked.key("kind")

    def _subject(self) -> str:
        return self._name(self.path) if self.path else self.label

    def _owner(self, path: tuple[str | int, ...]) -> str:
        return f"{self._name(path)} of {self.label}" if path else self.label

    def _name(self, path: tuple[str | int, ...]) -> str:
        last = path[-1]
        if isinstance(last, int):
            return f"item {last + 1} of {self._name(path[:-1])}" if len(path) > 1 else f"item {last + 1}"
        return repr(last)

    def _degree(self) -> str:
        if self.type in {"string_too_short", "too_short"}:
            return "is empty" if self.context["min_length"] == 1 else "is too short"
        return "is too long" if self.type in {"string_too_long", "too_long"} else f"is {self.value}"

    def _promise(self) -> str:
        """What the key is for: the beginning of its description."""
        for model in self.models:
            if self.last in model.model_fields:
                text = " ".join((model.model_fields[self.last].description or "").replace("``", "").split())
                short = re.split(r"\. |: | \(", text.rstrip("."))[0]
                return short[:1].lower() + short[1:]
        return ""


def _models_at(model: type[BaseModel], location: Iterable[str | int]) -> list[type[BaseModel]]:
    """The models that may stand at a location; a union's tag narrows them."""
    current: list[Any] = [model]
    for part in location:
        following: list[Any] = []
        for one in current:
            if isinstance(one, type) and issubclass(one, BaseModel):
                if part in one.model_fields:
                    following += _parts(one.model_fields[str(part)].annotation)
                elif part in _tags(one):
                    following.append(one)
            elif get_origin(one) is tuple:
                following += _parts(get_args(one)[0])
            elif get_origin(one) is not None and get_args(one):
                following += _parts(get_args(one)[-1])
        current = following or current
    return [one for one in current if isinstance(one, type) and issubclass(one, BaseModel)]


def _parts(annotation: Any) -> list[Any]:
    """The members of a union, without Annotated and None."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) is not None and (type(None) in get_args(annotation) or _is_union(annotation)):
        return [part for one in get_args(annotation) if one is not type(None) for part in _parts(one)]
    return [annotation]


def _is_union(annotation: Any) -> bool:
    return str(get_origin(annotation)) in {"typing.Union", "<class 'types.UnionType'>"}


def _tags(model: type[BaseModel]) -> tuple[str, ...]:
    for name in ("kind", "do"):
        told = model.model_fields.get(name)
        if told is not None and get_origin(told.annotation) is Literal:
            return tuple(get_args(told.annotation))
    return tuple(model.model_fields) if len(model.model_fields) == 1 else ()
