"""Hosts and when they may be worked on, as far as documents alone tell: machines of sites. What stacks and inventories
know is not asked for here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.diagnostic import Diagnostic, did_you_mean
from ismgr_automation.core.errors import InputError
from ismgr_automation.estate.maintenance import Scope
from ismgr_automation.estate.model import Estate
from ismgr_automation.estate.selector import Selector
from ismgr_automation.planning.fleet import Fleet, Sighting
from ismgr_automation.planning.timing import Work
from ismgr_automation.ports.hosts import Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a question about time is about: one work for each choice of windows, and what was left out, in sentences."""

    works: tuple[Work, ...]
    notes: tuple[str, ...] = ()


def asked(
    estate: Estate, targets: Sequence[str], windows: Sequence[str] = (), *, scope: Scope, needs: timedelta
) -> Asked:
    """Work on targets (``host/NAME``, ``group/NAME``, ``stack/NAME``) in these windows, or for patches in those that
    the baselines of the hosts ask for. Raises ``InputError`` for a target or window that is not there."""
    _refuse_unknown(estate, windows)
    hosts, notes = _hosts(estate, targets)
    baselines = [(Selector.compile(one.selector), one.windows) for one in estate.baselines.values()]
    by_windows: dict[tuple[str, ...], list[Host]] = {}
    for host in hosts:
        theirs = [names for select, names in baselines if select.matches(host)] if scope is Scope.PATCH else []
        for wanted in [tuple(windows)] if windows else theirs or [()]:
            by_windows.setdefault(wanted, []).append(host)
    works = [Work(scope=scope, hosts=who, windows=names, needs=needs) for names, who in sorted(by_windows.items())]
    if not works:
        works = [Work(scope=scope, windows=tuple(windows), needs=needs)]
    return Asked(works=tuple(works), notes=tuple(notes))


def machines(estate: Estate) -> tuple[Host, ...]:
    """The machines of all sites as hosts, with the groups that select them."""
    return fleet_of(estate).hosts


def fleet_of(estate: Estate) -> Fleet:
    """The machines of all sites as a fleet."""
    found = [
        Host(
            name=f"{one.name.removesuffix(f'.{site.name}')}.{site.name}",
            address=one.address,
            origin=f"site/{site.name}",
            labels=one.labels,
            site=site.name,
            machine=one.name,
        )
        for site in estate.sites.values()
        for one in site.machines
    ]
    chosen = {name: Selector.compile(group.selector) for name, group in estate.groups.items()}
    return Fleet(
        sightings=tuple(Sighting(host=one) for one in found),
        membership={
            name: tuple(host.name for host in found if select.matches(host)) for name, select in chosen.items()
        },
        unbounded=(),
    )


def _hosts(estate: Estate, targets: Sequence[str]) -> tuple[list[Host], list[str]]:
    known = machines(estate) if targets else ()
    found: dict[str, Host] = {}
    notes: list[str] = []
    for text in targets:
        address = _address(estate, text)
        if address.kind is Kind.GROUP:
            members = [one for one in known if address.name in one.groups]
        else:
            members = [one for one in known if address == Address(Kind.HOST, one.name)]
        found |= {one.name: one for one in members}
        if not members:
            notes.append(f"No Site document has a machine for {address}: only freezes for everybody count for it.")
    if not targets:
        notes.append("No host was named: only freezes for everybody count.")
    return list(found.values()), notes


def _address(estate: Estate, text: str) -> Address:
    known = [*(f"group/{one}" for one in estate.groups), *(f"stack/{one}" for one in estate.stacks)]
    try:
        address = Address.parse(text)
    except ValueError:
        address = None
    if address is None or (address.kind is not Kind.HOST and text not in known):
        wrong = Diagnostic(
            summary=f"there is no {text!r}",
            expected="host/NAME, group/NAME or stack/NAME",
            suggestion=did_you_mean(text, known),
        )
        raise InputError(f"{text} is not in this estate.", diagnostics=[wrong])
    return address


def _refuse_unknown(estate: Estate, windows: Sequence[str]) -> None:
    wrong = [
        Diagnostic(
            summary=f"there is no window {one!r}",
            expected=", ".join(sorted(estate.windows)) or "a document of kind MaintenanceWindow",
            suggestion=did_you_mean(one, estate.windows),
        )
        for one in windows
        if one not in estate.windows
    ]
    if wrong:
        raise InputError("There is no such window in this estate.", diagnostics=wrong)
