"""Planned moves of packages and firmware for people: a line for each, host by host. Values in, text out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from rich.markup import escape

from ismgr_automation.core.address import Kind
from ismgr_automation.core.json import Json
from ismgr_automation.planning.change import Action, Certainty, Change, Step
from ismgr_automation.planning.firmware import WHAT as FIRMWARE
from ismgr_automation.planning.firmware import is_firmware

CVES_SHOWN = 3
"""A kernel mends hundreds at once; all of them are in the JSON."""

COLORS: Mapping[str, str] = {"critical": "red", "high": "red", "unknown": "magenta", "medium": "yellow"}
"""Severities that stand out."""


def moves_packages(change: Change) -> bool:
    """Whether a change moves packages or firmware, so that the views here fit it."""
    return change.address.kind in {Kind.BASELINE, Kind.MACHINE}


def counted(changes: Sequence[Change]) -> str:
    """How much would move, in words.

    >>> counted([])
    '0 packages on 0 hosts'
    """
    found = [step for one in changes for step in one.steps if step.action is Action.UPDATE]
    firmware = sum(is_firmware([one]) for one in found)
    packages = len(found) - firmware
    hosts = len({one.target for one in found})
    words = [f"{packages} package{'s' * (packages != 1)}"] if packages or not firmware else []
    words += [f"{firmware} firmware"] if firmware else []
    return f"{', '.join(words)} on {hosts} host{'s' * (hosts != 1)}"


def move_lines(change: Change) -> Iterator[str]:
    """The lines of a change, marked up: hosts, below each its moves, and what goes with them."""
    for host, found in groupby(change.steps, key=lambda one: one.target):
        steps = list(found)
        moves = [one for one in steps if one.action is Action.UPDATE]
        names = Counter(_name(one) for one in moves)
        yield f"[bold]{escape(host)}[/]"
        for one in moves:
            # two architectures of one package are told apart, one alone needs no name
            yield f"  {_move(one, one.what if names[_name(one)] > 1 else _name(one))}"
        besides = ", ".join(_beside(one) for one in steps if one.action is not Action.UPDATE)
        if besides:
            yield f"  [dim]{besides}[/]"


def _name(step: Step) -> str:
    return step.what.removeprefix(FIRMWARE) if is_firmware([step]) else step.what.rpartition(":")[0]


def _move(step: Step, name: str) -> str:
    arrow = f"{escape(name)} {escape(_text(step.before, 'version'))} -> {escape(_text(step.after, 'version'))}"
    words = ", ".join(_words(step))
    return f"{arrow}  {words}" if words else arrow


def _words(step: Step) -> Iterator[str]:
    """Why a move is made: how bad it is, by when it must be there, what it mends, which rule lets it."""
    if is_firmware([step]):
        yield f"firmware [dim]from {escape(_text(step.after, 'image'))}[/]"
        return
    severity, due = _text(step.after, "severity"), _text(step.after, "due")
    if severity:
        color = COLORS.get(severity)
        yield f"[{color}]{severity}[/]" if color else escape(severity)
    if due:
        yield f"due {escape(due)}"
    cves = _texts(step.after, "cves")
    yield from map(escape, cves[:CVES_SHOWN])
    if len(cves) > CVES_SHOWN:
        yield f"and {len(cves) - CVES_SHOWN} more"
    if not cves:
        yield f"[dim]{escape(step.why)}[/]"


def _beside(step: Step) -> str:
    unsure = " if it is needed" if step.certainty is Certainty.UNPREDICTABLE and step.what == "reboot" else ""
    where = f" ({escape(step.where)})" if step.where else ""
    return f"{escape(step.what)}{unsure}{where}"


def _text(values: Json, key: str) -> str:
    found = values.get(key) if isinstance(values, Mapping) else None
    return found if isinstance(found, str) else ""


def _texts(values: Json, key: str) -> list[str]:
    found = values.get(key) if isinstance(values, Mapping) else None
    return [str(one) for one in found] if isinstance(found, Sequence) and not isinstance(found, str) else []
