"""Expressions of documents: CEL over hosts, packages and CVEs, compiled once and evaluated many times. A field that
nothing has, or an answer that is not a truth value, is an error and never a silent no; only labels may be absent."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ismgr_automation.core.diagnostic import Diagnostic, did_you_mean
from ismgr_automation.core.errors import InputError
from ismgr_automation.estate.parts import host_fields, host_part
from ismgr_automation.ports.hosts import Host

if TYPE_CHECKING:
    import cel

LONGEST = 4096
"""Characters of an expression; there is no cost limit inside the evaluator."""

_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_TEXT = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")
_FAILURES = (RuntimeError, TypeError, ValueError, ArithmeticError, IndexError)
"""What the evaluator raises when there is no answer; a ``KeyError`` is a label that is absent."""
_PACKAGE, _STAND_IN = "package", "pkg____"
"""``package`` is a reserved word of CEL: the evaluator gets a name of the same length, so that every place stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Why an expression does not work; ``line`` and ``column`` count from 1 inside the expression."""

    line: int
    column: int
    summary: str
    expected: str = ""
    suggestion: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one kind of expression may speak of: variables with an example each, on which it is tried."""

    noun: str
    """What such an expression is called: ``selector``."""
    trial: Mapping[str, Mapping[str, object] | str]
    example: str

    def fields(self, variable: str) -> tuple[str, ...]:
        """What can be asked of a variable; nothing of a text."""
        value = self.trial.get(variable, "")
        return tuple(value) if isinstance(value, Mapping) else ()


def described(host: Host) -> Mapping[str, Any]:
    """A host as expressions see it."""
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


_HOST = described(Host(name="trial", address="192.0.2.1", origin="", labels={}, groups=()))
_NAMED = {"name": "trial", "source": "trial", "version": "2-1"}
SELECTOR = Dialect(noun="selector", trial={"host": _HOST}, example='a comparison such as host.labels.role == "db"')
RULE = Dialect(
    noun="rule",
    trial={
        "host": _HOST,
        _PACKAGE: {
            **_NAMED,
            "installed": "1-1",
            "section": "libs",
            "origin": "Debian",
            "suite": "stable-security",
            "severity": "unknown",
            "cves": ["CVE-2026-0001"],
            "security": True,
            "exploited": False,
            "epss": 0.0,
            "age_days": 0,
            "downgrade": False,
        },
    },
    example='a comparison such as package.severity == "critical"',
)
SCOPE = Dialect(
    noun="scope",
    trial={"host": _HOST, _PACKAGE: _NAMED, "cve": "CVE-2026-0001"},
    example='a comparison such as cve == "CVE-2026-0001"',
)


@dataclass(frozen=True, slots=True)
class Given:
    """Values that expressions are evaluated on, made once for many of them; ``about`` names them in errors."""

    context: cel.Context
    about: str

    @classmethod
    def of(
        cls,
        about: str,
        *,
        host: Host | None = None,
        package: Mapping[str, object] | None = None,
        cve: str | None = None,
    ) -> Given:
        """What is known of a host, a package and a CVE, as far as there is any."""
        values: dict[str, object] = {}
        if host is not None:
            values["host"] = described(host)
        if package is not None:
            values[_STAND_IN] = dict(package)
        if cve is not None:
            values["cve"] = cve
        return cls(library().Context(variables=values), about)


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression.

    >>> rule = Expression.compile('package.security && host.labels.role == "db"', RULE)
    >>> db = Host(name="db1", address="192.0.2.1", origin="", labels={"role": "db"})
    >>> rule.holds(Given.of("openssl on db1", host=db, package={"security": True}))
    True
    """

    source: str
    dialect: Dialect
    program: cel.Program
    part: cel.Program | None = None
    """All that is asked of the host, where that can be told apart from the rest: ``host.labels.role == "db"``."""
    rest: Expression | None = None
    """Then all else, if there is anything: the whole is true where both are."""
    fields: tuple[str, ...] = ()
    """Otherwise what of the host is looked at: ``("labels.role", "site")``; ``("",)``: nobody can tell."""

    @classmethod
    def compile(cls, source: str, dialect: Dialect) -> Expression:
        """Compile; raises ``InputError`` with what is wrong, and where in the expression."""
        found = compiled(source, dialect)
        if isinstance(found, Expression):
            return found
        raise not_compiled(source, dialect, found)

    def holds(self, given: Given) -> bool:
        """Whether it is true. It is not where a label is asked for that the host does not have.

        Raises ``InputError`` when the answer is not a truth value or cannot be computed.
        """
        try:
            answer = self.program.execute(given.context)
        except KeyError:
            return False
        except _FAILURES as problem:
            raise InputError(
                f"The {self.dialect.noun} {self.source!r} fails on {given.about}: {_why(problem)}."
            ) from None
        if not isinstance(answer, bool):
            summary = f"The {self.dialect.noun} {self.source!r} gives {type(answer).__name__} for {given.about}"
            raise InputError(f"{summary}, not true or false.", next_step=f"Compare something: {self.dialect.example}.")
        return answer

    def standpoint(self, host: Host, given: Given | None = None) -> Hashable:
        """What of a host the answer depends on: for all hosts with an equal standpoint one answer is enough.

        ``given`` has the host already, for whoever asks many expressions.
        """
        if self.part is not None:
            given = given or Given.of(f"host {host.name}", host=host)
            try:
                answer = self.part.execute(given.context)
            except KeyError:
                return None  # not false: what else is asked may fail, and then nobody can tell
            except _FAILURES:
                return host.name
            return answer if isinstance(answer, bool) else host.name
        return tuple(_looked_at(host, field) for field in self.fields)

    def never(self, standpoint: Hashable) -> bool:
        """Whether it cannot hold for hosts with that standpoint, whatever else is given."""
        return self.part is not None and (standpoint is False or standpoint is None)

    @property
    def asks_for_host(self) -> bool:
        """Whether any of it depends on the host."""
        return self.part is not None or bool(self.fields)

    def holds_for(self, standpoint: Hashable, hostless: Given, whole: Callable[[], Given]) -> bool:
        """What ``holds`` says of ``whole``, which has a host with that standpoint. It is made only where ``hostless``,
        the same without the host, is not enough: a host is dear to hand over, and many ask of the same package."""
        if isinstance(standpoint, bool) and (self.rest is None or not standpoint):
            return standpoint
        asked = self.rest if standpoint is True else None if self.asks_for_host else self
        try:
            return self.holds(whole()) if asked is None else asked.holds(hostless)
        except InputError:
            # asked again as a whole: that error names the host
            return self.holds(whole())


def compiled(source: str, dialect: Dialect) -> Expression | tuple[Flaw, ...]:
    """The expression, or everything that is wrong with it as far as that can be told without real values."""
    program = parsed(source, dialect)
    if isinstance(program, tuple):
        return program
    bare = blank_texts(source)
    asked, others = host_part(source, bare, tuple(dialect.trial))
    if not asked:
        return Expression(source, dialect, program, fields=host_fields(bare))
    rest = Expression(source, dialect, library().compile(_renamed(others))) if others else None
    return Expression(source, dialect, program, library().compile(asked), rest)


def parsed(source: str, dialect: Dialect) -> cel.Program | tuple[Flaw, ...]:
    """The evaluator's program, or everything that is wrong with the expression."""
    noun = dialect.noun
    if len(source) > LONGEST:
        return (Flaw(line=1, column=1, summary=f"the {noun} is too long", expected=f"at most {LONGEST} characters"),)
    try:
        program: cel.Program = library().compile(_renamed(source))
    except ValueError as problem:
        return (_syntax(source, noun, str(problem)),)
    flaws = (*_names(source, program, dialect), *_functions(source, program))
    return flaws or _trial(program, dialect) or program


def not_compiled(source: str, dialect: Dialect, flaws: Sequence[Flaw]) -> InputError:
    """The error for an expression that has flaws."""
    diagnostics = [
        Diagnostic(
            summary=f"at {one.line}:{one.column} of the {dialect.noun}: {one.summary}",
            expected=one.expected,
            suggestion=one.suggestion,
        )
        for one in flaws
    ]
    return InputError(f"The {dialect.noun} {source!r} does not compile.", diagnostics=diagnostics)


def library() -> ModuleType:
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


def blank_texts(source: str) -> str:
    """The expression with its quoted texts blanked out, every character in its old place."""
    return _TEXT.sub(lambda match: '"' + " " * (len(match[0]) - 2) + '"', source)


def _renamed(source: str) -> str:
    bare = blank_texts(source)
    found = list(source)
    for match in re.finditer(rf"(?<![\w.]){_PACKAGE}(?!\w)", bare):
        found[match.start() : match.end()] = _STAND_IN
    return "".join(found)


def _looked_at(host: Host, field: str) -> Hashable:
    name, _, label = field.partition(".")
    if not name:
        return host.name
    if name == "labels":
        return host.labels.get(label) if label else tuple(sorted(host.labels.items()))
    value: Hashable = getattr(host, name)
    return value


def _why(problem: Exception) -> str:
    return str(problem).splitlines()[0].rstrip(".").replace(_STAND_IN, _PACKAGE)


def _syntax(source: str, noun: str, message: str) -> Flaw:
    match = _PLACE.search(message)
    if match is None:
        return Flaw(line=1, column=1, summary=f"the {noun} cannot be read")
    line, column, words = int(match[1]), int(match[2]), match[3]
    lines = source.splitlines() or [""]
    rest = lines[line - 1][column - 1 :] if line <= len(lines) else ""
    if rest.startswith("=") and not rest.startswith("=="):
        return Flaw(line=line, column=column, summary="a single '=' compares nothing", expected="'=='")
    if rest[:1] in {'"', "'"} and "token recognition" in words:
        return Flaw(line=line, column=column, summary="the text is not closed", expected="a closing quote")
    if not rest.strip():
        return Flaw(line=line, column=column, summary=f"the {noun} ends too early", expected="a value or a bracket")
    if ".?" in words:
        return Flaw(line=line, column=column, summary="optional fields ('.?') are not supported", expected="has(...)")
    return Flaw(line=line, column=column, summary=f"the {noun} cannot be read at {rest.split()[0]!r}")


def _names(source: str, program: cel.Program, dialect: Dialect) -> tuple[Flaw, ...]:
    """Variables that nobody defines, and fields that nothing has."""
    bare = blank_texts(source)
    bound = set(re.findall(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,", bare))
    renamed = {_STAND_IN: _PACKAGE} if re.search(rf"(?<![\w.]){_PACKAGE}\b", bare) else {}
    found: list[Flaw] = []
    for name in (renamed.get(one, one) for one in program.variables()):
        if name in dialect.trial or name in bound or name in _TYPES:
            continue
        suggestion = did_you_mean(name, dialect.trial)
        expected = "" if suggestion else " or ".join(dialect.trial)
        offset = _position(bare, rf"(?<![\w.]){name}\b")
        found.append(_flaw(bare, offset, f"{name!r} is not defined", expected, suggestion))
    for variable in dialect.trial:
        known = dialect.fields(variable)
        for offset, field in _fields(source, bare, variable) if known else ():
            if field not in known:
                suggestion = did_you_mean(field, known)
                expected = "" if suggestion else "one of " + ", ".join(known)
                found.append(_flaw(bare, offset, f"a {variable} has no {field!r}", expected, suggestion))
    return tuple(found)


def _fields(source: str, bare: str, variable: str) -> Iterator[tuple[int, str]]:
    """Where which fields of a variable are asked for, as ``host.name`` or ``host["name"]``; methods are none."""
    for match in re.finditer(rf"(?<![\w.\"']){variable}\s*\.\s*([A-Za-z_]\w*)\b(?!\s*\()", bare):
        yield match.start(1), match[1]
    for match in re.finditer(rf"(?<![\w.]){variable}\s*\[\s*\"( *)\"\s*\]", bare):
        yield match.start(1), source[match.start(1) : match.end(1)]


_FUNCTIONS = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "has", "all", "exists", "exists_one", "map", "filter"}
    | {"string", "int", "uint", "double", "bytes", "type", "dyn", "duration", "timestamp"}
    | {f"get{part}" for part in ("FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear")}
    | {f"get{part}" for part in ("Hours", "Minutes", "Seconds", "Milliseconds")}
)
_TYPES = frozenset(["string", "int", "uint", "double", "bool", "bytes", "list", "map", "null_type", "type"])
"""Type names are variables to the parser: ``type(host.port) == int``."""


def _functions(source: str, program: cel.Program) -> tuple[Flaw, ...]:
    bare = blank_texts(source)
    named = [one for one in program.functions() if one.isidentifier() and not one.startswith("_")]
    found: list[Flaw] = []
    for name in named:
        if name not in _FUNCTIONS:
            offset = _position(bare, rf"\b{name}\s*\(")
            suggestion = did_you_mean(name, _FUNCTIONS)
            found.append(_flaw(bare, offset, f"there is no function {name!r}", "", suggestion))
    return tuple(found)


def _trial(program: cel.Program, dialect: Dialect) -> tuple[Flaw, ...]:
    """What can only be seen by evaluating: a constant or a field is no answer to yes or no."""
    values = {_STAND_IN if name == _PACKAGE else name: value for name, value in dialect.trial.items()}
    try:
        answer = program.execute(values)
    except (KeyError, IndexError, ValueError, ArithmeticError):
        return ()  # the trial host has no labels and no groups; real ones may
    except (RuntimeError, TypeError) as problem:
        why = _why(problem)
        if isinstance(problem, RuntimeError) and "not a valid regex" not in why:
            return ()  # depends on the host: int(host.name)
        summary = "a text that 'matches' is given is not a regular expression"
        return (Flaw(line=1, column=1, summary=summary if isinstance(problem, RuntimeError) else why),)
    if isinstance(answer, bool):
        return ()
    return (
        Flaw(line=1, column=1, summary=f"the {dialect.noun} does not give true or false", expected=dialect.example),
    )


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
