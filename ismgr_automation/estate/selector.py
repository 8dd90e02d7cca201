"""Selectors: CEL expressions over one host. Compiled once, evaluated many times. A field that no host has, or an answer
that is not a truth value, is an error and never a silent no; only labels may be absent."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ismgr_automation.core.diagnostic import Diagnostic, did_you_mean
from ismgr_automation.core.errors import InputError
from ismgr_automation.ports.hosts import Host

if TYPE_CHECKING:
    import cel

FIELDS = ("name", "address", "site", "labels", "groups", "machine", "user", "port")
"""What a selector can ask of ``host``."""

LONGEST = 4096
"""Characters of an expression; there is no cost limit inside the evaluator."""

_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_FIELD = re.compile(r"(?<![\w.\"'])host\s*\.\s*([A-Za-z_]\w*)")
_TEXT = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")
_EQUAL = re.compile(
    r"\s*host\.(?:labels\.(?P<label>[A-Za-z_]\w*)|(?P<field>name|address|site|machine|user))\s*==\s*"
    r"(?P<text>\"[^\"\\\n]*\"|'[^'\\\n]*')\s*(?P<end>&&)?",
    re.ASCII,
)
"""One comparison of a text, and whether another one must hold as well."""
_TRIAL = Host(name="trial", address="192.0.2.1", origin="", labels={}, groups=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Why an expression does not work; ``line`` and ``column`` count from 1 inside the expression."""

    line: int
    column: int
    summary: str
    expected: str = ""
    suggestion: str = ""


@dataclass(frozen=True, slots=True)
class Selector:
    """A compiled selector.

    >>> select = Selector.compile('host.labels.role == "db"')
    >>> select.matches(Host(name="db1", address="192.0.2.1", origin="", labels={"role": "db"}))
    True
    """

    source: str
    program: cel.Program
    equals: tuple[tuple[str, str, str], ...] = ()
    """What is compared, if all that the expression does is to compare texts: ``("labels", "role", "db")`` or
    ``("name", "", "db1")``. Answered here: with thousands of hosts the evaluator is most of what a plan costs."""

    @classmethod
    def compile(cls, source: str) -> Selector:
        """Compile; raises ``InputError`` with what is wrong, and where in the expression."""
        found = compiled(source)
        if isinstance(found, Selector):
            return found
        diagnostics = [
            Diagnostic(
                summary=f"at {one.line}:{one.column} of the selector: {one.summary}",
                expected=one.expected,
                suggestion=one.suggestion,
            )
            for one in found
        ]
        raise InputError(f"The selector {source!r} does not compile.", diagnostics=diagnostics)

    def matches(self, host: Host) -> bool:
        """Whether a host is selected. A host without a label that is asked for is not.

        Raises ``InputError`` when the answer is not a truth value or cannot be computed.
        """
        if self.equals:
            return all(
                host.labels.get(key) == text if field == "labels" else getattr(host, field) == text
                for field, key, text in self.equals
            )
        try:
            answer = self.program.execute({"host": described(host)})
        except KeyError:
            return False
        except (RuntimeError, TypeError, ValueError) as problem:
            why = str(problem).splitlines()[0].rstrip(".")
            raise InputError(f"The selector {self.source!r} fails on host {host.name}: {why}.") from None
        if not isinstance(answer, bool):
            raise InputError(
                f"The selector {self.source!r} gives {type(answer).__name__} for host {host.name}, not true or false.",
                next_step='Compare something: host.labels.role == "db".',
            )
        return answer


def compiled(source: str) -> Selector | tuple[Flaw, ...]:
    """The selector, or everything that is wrong with it as far as that can be told without hosts."""
    if len(source) > LONGEST:
        return (Flaw(line=1, column=1, summary="the selector is too long", expected=f"at most {LONGEST} characters"),)
    try:
        program = _library().compile(source)
    except ValueError as problem:
        return (_syntax(source, str(problem)),)
    flaws = (*_names(source, program), *_functions(source, program))
    if flaws:
        return flaws
    selector = Selector(source, program, _equals(source))
    return _trial(selector) or selector


def _equals(source: str) -> tuple[tuple[str, str, str], ...]:
    """The comparisons of an expression that is nothing but texts compared and joined with ``&&``; else nothing."""
    found: list[tuple[str, str, str]] = []
    at = 0
    while match := _EQUAL.match(source, at):
        label, field, text, end = match["label"], match["field"], match["text"], match["end"]
        found.append(("labels", label, text[1:-1]) if label else (field, "", text[1:-1]))
        at = match.end()
        if not end:
            return tuple(found) if at == len(source) else ()
    return ()


def described(host: Host) -> Mapping[str, Any]:
    """A host as selectors see it."""
    return {
        "name": host.name,
        "address": host.address,
        "site": host.site,
        "labels": dict(host.labels),
        "groups": list(host.groups),
        "machine": host.machine,
        "user": host.user,
        "port": host.port,
    }


def _library() -> ModuleType:
    """The evaluator without the package around it, whose import also loads an interactive shell: 0.4 s for nothing."""
    name = "cel.cel"
    if name not in sys.modules:
        package = importlib.util.find_spec("cel")
        spec = importlib.machinery.PathFinder.find_spec(name, package.submodule_search_locations) if package else None
        if spec is None or spec.loader is None:
            return importlib.import_module("cel")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        # whoever imports the whole package later must get this one: it cannot be loaded twice
        sys.modules[name] = module
    return sys.modules[name]


def _syntax(source: str, message: str) -> Flaw:
    match = _PLACE.search(message)
    if match is None:
        return Flaw(line=1, column=1, summary="the selector cannot be read")
    line, column, words = int(match[1]), int(match[2]), match[3]
    lines = source.splitlines() or [""]
    rest = lines[line - 1][column - 1 :] if line <= len(lines) else ""
    if rest.startswith("=") and not rest.startswith("=="):
        return Flaw(line=line, column=column, summary="a single '=' compares nothing", expected="'=='")
    if rest[:1] in {'"', "'"} and "token recognition" in words:
        return Flaw(line=line, column=column, summary="the text is not closed", expected="a closing quote")
    if not rest.strip():
        return Flaw(line=line, column=column, summary="the selector ends too early", expected="a value or a bracket")
    if ".?" in words:
        return Flaw(line=line, column=column, summary="optional fields ('.?') are not supported", expected="has(...)")
    return Flaw(line=line, column=column, summary=f"the selector cannot be read at {rest.split()[0]!r}")


def _names(source: str, program: cel.Program) -> tuple[Flaw, ...]:
    """Variables that nobody defines, and fields that no host has."""
    bare = _blank_texts(source)
    bound = set(re.findall(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,", bare))
    found: list[Flaw] = []
    for name in program.variables():
        if name == "host" or name in bound or name in _TYPES:
            continue
        summary = f"{name!r} is not defined"
        suggestion = did_you_mean(name, ["host"])
        expected = "" if suggestion else "host"
        found.append(_flaw(bare, _position(bare, rf"(?<![\w.]){name}\b"), summary, expected, suggestion))
    for match in _FIELD.finditer(bare):
        if match[1] not in FIELDS and not re.match(r"\s*\(", bare[match.end() :]):
            suggestion = did_you_mean(match[1], FIELDS)
            expected = "" if suggestion else "one of " + ", ".join(FIELDS)
            found.append(_flaw(bare, match.start(1), f"a host has no {match[1]!r}", expected, suggestion))
    return tuple(found)


_FUNCTIONS = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "has", "all", "exists", "exists_one", "map", "filter"}
    | {"string", "int", "uint", "double", "bytes", "type", "dyn", "duration", "timestamp"}
    | {f"get{part}" for part in ("FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear")}
    | {f"get{part}" for part in ("Hours", "Minutes", "Seconds", "Milliseconds")}
)
_TYPES = frozenset(["string", "int", "uint", "double", "bool", "bytes", "list", "map", "null_type", "type"])
"""Type names are variables to the parser: ``type(host.port) == int``."""


def _functions(source: str, program: cel.Program) -> tuple[Flaw, ...]:
    bare = _blank_texts(source)
    named = [one for one in program.functions() if one.isidentifier() and not one.startswith("_")]
    found: list[Flaw] = []
    for name in named:
        if name not in _FUNCTIONS:
            offset = _position(bare, rf"\b{name}\s*\(")
            suggestion = did_you_mean(name, _FUNCTIONS)
            found.append(_flaw(bare, offset, f"there is no function {name!r}", "", suggestion))
    return tuple(found)


def _trial(selector: Selector) -> tuple[Flaw, ...]:
    """What can only be seen by evaluating: a constant or a field is no answer to yes or no."""
    try:
        answer = selector.program.execute({"host": described(_TRIAL)})
    except (KeyError, ValueError):
        return ()  # the trial host has no labels; real ones may
    except (RuntimeError, TypeError) as problem:
        why = str(problem).splitlines()[0].rstrip(".")
        if isinstance(problem, RuntimeError) and "not a valid regex" not in why:
            return ()  # depends on the host: int(host.name)
        summary = "a text that 'matches' is given is not a regular expression"
        return (Flaw(line=1, column=1, summary=summary if isinstance(problem, RuntimeError) else why),)
    if isinstance(answer, bool):
        return ()
    summary = "the selector does not give true or false"
    return (Flaw(line=1, column=1, summary=summary, expected='a comparison such as host.labels.role == "db"'),)


def _blank_texts(source: str) -> str:
    """The expression with its quoted texts blanked out, every character in its old place."""
    return _TEXT.sub(lambda match: '"' + " " * (len(match[0]) - 2) + '"', source)


def _position(source: str, pattern: str) -> int:
    match = re.search(pattern, source)
    return match.start() if match else 0


def _flaw(source: str, offset: int, summary: str, expected: str, suggestion: str) -> Flaw:
    before = source[:offset]
    return Flaw(
        line=before.count("\n") + 1,
        column=offset - before.rfind("\n"),
        summary=summary,
        expected=expected,
        suggestion=suggestion,
    )
