"""What a host said of how it could be hurt, and what follows from it. A table of harms, each with the module that knows
it, and of ways, each with the scripts that mend and look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ismgr_automation.engines.faults.deadman import Scripts
from ismgr_automation.engines.faults.undo import Hurt
from ismgr_automation.ports.faults import FaultRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """How one host will be hurt: ``hurt`` is what a journal keeps, ``scripts`` do it, ``words`` are for people."""

    hurt: Hurt
    scripts: Scripts
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Craft:
    """A harm: ``probe`` is a script with its arguments that prints lines ``NAME VALUE`` of what a host could do, and
    fails where it can do nothing; ``means`` chooses from them."""

    probe: Callable[[FaultRequest, str], tuple[str, tuple[str, ...]]]
    means: Callable[[FaultRequest, Mapping[str, str]], Means]


def said(output: str) -> dict[str, str]:
    r"""The lines of a probe; what is said again is added to what was.

    >>> said("way signal\ndevice a\ndevice b\n")
    {'way': 'signal', 'device': 'a b'}
    """
    found: dict[str, str] = {}
    for line in output.splitlines():
        name, _, value = line.partition(" ")
        if name:
            found[name] = f"{found[name]} {value}" if name in found else value
    return found
