"""Selectors: CEL expressions over one host, the commonest of them answered without the evaluator. What is an error in
one is told by ``expressions``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ismgr_automation.estate.expressions import (
    LONGEST,
    SELECTOR,
    Expression,
    Flaw,
    Given,
    described,
    not_compiled,
    parsed,
)
from ismgr_automation.ports.hosts import Host

if TYPE_CHECKING:
    import cel

__all__ = ["FIELDS", "LONGEST", "Flaw", "Selector", "compiled", "described"]

FIELDS = SELECTOR.fields("host")
"""What a selector can ask of ``host``."""

_EQUAL = re.compile(
    r"\s*host\.(?:labels\.(?P<label>[A-Za-z_]\w*)|(?P<field>name|address|site|machine|user))\s*==\s*"
    r"(?P<text>\"[^\"\\\n]*\"|'[^'\\\n]*')\s*(?P<end>&&)?",
    re.ASCII,
)
"""One comparison of a text, and whether another one must hold as well."""


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
        raise not_compiled(source, SELECTOR, found)

    def matches(self, host: Host) -> bool:
        """Whether a host is selected. A host without a label that is asked for is not.

        Raises ``InputError`` when the answer is not a truth value or cannot be computed.
        """
        if self.equals:
            return all(
                host.labels.get(key) == text if field == "labels" else getattr(host, field) == text
                for field, key, text in self.equals
            )
        return Expression(self.source, SELECTOR, self.program).holds(Given.of(f"host {host.name}", host=host))


def compiled(source: str) -> Selector | tuple[Flaw, ...]:
    """The selector, or everything that is wrong with it as far as that can be told without hosts."""
    program = parsed(source, SELECTOR)
    return program if isinstance(program, tuple) else Selector(source, program, _equals(source))


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
