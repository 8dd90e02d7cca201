"""Planned moves of packages and firmware for people: a line for each, host by host. Values in, text out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from rich.markup import escape

from ismgr_automation.core.address import Kind
from ismgr_automation.core.json import Json
from ismgr_automation.patching.steps import MOVING
from ismgr_automation.planning.change import Action, Certainty, Change, Step
from ismgr_automation.planning.firmware import WHAT as FIRMWARE
from ismgr_automation.planning.firmware import is_firmware

CVES_SHOWN = 3
"""A kernel mends hundreds at once; all of them are in the JSON."""

WORST_FIRST = ("critical", "high", "unknown", "medium", "low", "negligible")
"""Severities as people look at them; what nobody rated stands where it cannot be overlooked."""

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
    found = [step for one in changes for step in one.steps if step.action in MOVING]
    firmware = sum(is_firmware([one]) for one in found)
    packages = len(found) - firmware
    hosts = len({one.target for one in found})
    words = [f"{packages} package{'s' * (packages != 1)}"] if packages or not firmware else []
    words += [f"{firmware} firmware"] if firmware else []
    return f"{', '.join(words)} on {hosts} host{'s' * (hosts != 1)}"


def move_lines(change: Change, most: int | None = None) -> Iterator[str]:
    """The lines of a change, marked up: hosts, below them their moves with the worst first (``most`` of them), and what
    goes with them. Hosts that would have the same lines share them: a fleet is read in one look."""
    by_host = {host: list(steps) for host, steps in groupby(change.steps, key=lambda one: one.target)}
    alike: dict[tuple[str, ...], list[str]] = {}
    for host, steps in by_host.items():
        # also what is not shown must be the same
        alike.setdefault(tuple(_host_lines(steps, None)), []).append(host)
    for hosts in alike.values():
        count = f" [dim]({len(hosts)} hosts)[/]" if len(hosts) > 1 else ""
        yield f"[bold]{escape(', '.join(hosts))}[/]{count}"
        yield from _host_lines(by_host[hosts[0]], most)


def _host_lines(steps: Sequence[Step], most: int | None) -> Iterator[str]:
    moves = sorted((one for one in steps if one.action in MOVING), key=_rank)
    names = Counter(_name(one) for one in moves)
    for one in moves[:most]:
        # two architectures of one package are told apart, one alone needs no name
        yield f"  {_move(one, one.what if names[_name(one)] > 1 else _name(one))}"
    if most is not None and len(moves) > most:
        yield f"  [dim]and {len(moves) - most} more; --full shows all[/]"
    besides = ", ".join(_beside(one) for one in steps if one.action not in MOVING)
    if besides:
        yield f"  [dim]{besides}[/]"


def _rank(step: Step) -> tuple[int, str, str]:
    """The worst first, of these what is due first; what mends nothing comes last."""
    severity = _text(step.after, "severity")
    worst = WORST_FIRST.index(severity) if severity in WORST_FIRST else len(WORST_FIRST)
    return worst, _text(step.after, "due") or "9999", step.what


def _name(step: Step) -> str:
    return step.what.removeprefix(FIRMWARE) if is_firmware([step]) else step.what.rpartition(":")[0]


def _move(step: Step, name: str) -> str:
    before = "new" if step.action is Action.CREATE else escape(_text(step.before, "version"))
    arrow = f"{escape(name)} {before} -> {escape(_text(step.after, 'version'))}"
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
