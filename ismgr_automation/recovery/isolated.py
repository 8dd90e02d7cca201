"""A drill in isolation: its steps in their order, the rules that are asked before each, and what is told of it. Pure:
nobody is asked anything here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ismgr_automation.ports.isolation import CloneState, Counted

LEG = "isolated"
"""The name of the leg that these steps are in the journal and in results."""


class Step(StrEnum):
    """One step, in the order in which they are done."""

    ISOLATE = "isolate"
    """The gateways are closed."""
    PROVE = "prove"
    """From inside, production cannot be reached, and the gateways have seen the tries."""
    CLONE = "clone"
    PROMOTE = "promote"
    CHECK = "check"
    REMOVE = "remove"
    """The clone is removed."""
    OPEN = "open"
    """The gateways are as they were."""


WORDS: Mapping[Step, str] = {
    Step.ISOLATE: "close the network on its gateways",
    Step.PROVE: "try from inside to reach production, and see that it fails",
    Step.CLONE: "copy the member to the spare host, and start it as a server that follows nobody",
    Step.PROMOTE: "promote the clone",
    Step.CHECK: "ask the clone what must be true of it",
    Step.REMOVE: "remove the clone",
    Step.OPEN: "remove the rules from the gateways",
}
"""What each step does, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """What is known at one moment. ``counted`` is None where the gateways did not say; ``proven``: tries from inside
    were seen to fail, by the gateways too."""

    counted: Counted | None
    proven: bool
    clone: CloneState


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A rule said no."""

    rule: str
    why: str


def closed_first(step: Step, now: Inside) -> str:
    """Nothing of production is copied into, started or promoted in a network that is not closed."""
    if step not in {Step.CLONE, Step.PROMOTE, Step.PROVE}:
        return ""
    if now.counted is None:
        return "nobody can say whether the gateways are closed"
    return "" if now.counted.whole else now.counted.words or "the gateways are not closed"


def nothing_passed(step: Step, now: Inside) -> str:
    """A clone is not brought up further where something has got through."""
    if step not in {Step.CLONE, Step.PROMOTE} or now.counted is None:
        return ""
    count = now.counted.passed_out + now.counted.passed_in
    return f"{count} packets went through the closed gateways" if count else ""


def proven_first(step: Step, now: Inside) -> str:
    """No clone is promoted before it was seen that it could not reach production."""
    if step is not Step.PROMOTE or now.proven:
        return ""
    return "it was not seen that production cannot be reached from inside"


def clone_first(step: Step, now: Inside) -> str:
    """The gateways are opened only when nothing of the clone is left."""
    if step is not Step.OPEN or now.clone is CloneState.ABSENT:
        return ""
    return f"the clone is {now.clone}"


RULES: Mapping[str, Callable[[Step, Inside], str]] = {
    "closed-before-clone": closed_first,
    "nothing-passed": nothing_passed,
    "proven-before-promotion": proven_first,
    "clone-gone-before-opening": clone_first,
}
"""Every rule by its name, in the order in which they are asked."""


def refusal(step: Step, now: Inside) -> Refusal | None:
    """The first rule that says no to a step, or None.

    >>> refusal(Step.OPEN, Inside(counted=None, proven=True, clone=CloneState.PROMOTED)).rule
    'clone-gone-before-opening'
    """
    for name, rule in RULES.items():
        if why := rule(step, now):
            return Refusal(rule=name, why=why)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTold:
    """One check of the clone."""

    name: str
    ok: bool
    expected: str = ""
    found: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationTold:
    """What a drill in isolation was. Counters are those of the gateways' packet filters at its end; None where they
    could not be read, or were not of one piece: then nobody can say what got out."""

    network: str
    gateways: tuple[str, ...]
    spare: str
    source: str
    dropped_out: int | None = None
    dropped_in: int | None = None
    passed_out: int | None = None
    passed_in: int | None = None
    knocked: int = 0
    """Packets of the tries from inside that the gateways' rules met."""
    tried: Mapping[str, str] | None = None
    """What a try from inside met, by the place of production."""
    database_bytes: int = 0
    """Of the clone on its disk."""
    took_ms: float | None = None
    """From closing the gateways until they were open again."""
    longest_gap_ms: float | None = None
    """The longest time without an acknowledged write in production while the drill was at work."""
    errors: int = 0
    """Writes in production that failed, or whose outcome is unknown, meanwhile."""
    expected_rows: int = 0
    """Rows of the production client that were acknowledged before the copy was begun."""
    held_rows: int | None = None
    """How many of these the clone has."""
    behind_ms: float | None = None
    """How long before the copy was begun the newest of them was acknowledged."""
    checks: tuple[CheckTold, ...] = ()
