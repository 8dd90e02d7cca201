"""By when a vulnerability must be gone, and how it stands on a day. What nobody knows counts as breach, everywhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Literal

from ismgr_automation.estate.maintenance import Severity, Sla
from ismgr_automation.estate.resolve import duration

PROFILES: Mapping[Literal["cis", "hipaa-2025", "custom"], Mapping[Severity, int]] = {
    "cis": {
        Severity.CRITICAL: 14,
        Severity.HIGH: 30,
        Severity.MEDIUM: 90,
        Severity.LOW: 90,
        Severity.NEGLIGIBLE: 90,
    },
    "hipaa-2025": {Severity.CRITICAL: 15, Severity.HIGH: 30},
    "custom": {},
}
"""Days by severity. A severity without days has no due date; ``unknown`` never has days unless a document gives them,
and even then its state stays unknown until they are over."""


class State(StrEnum):
    """How a vulnerability stands."""

    OK = "ok"
    DUE_SOON = "due-soon"
    BREACHED = "breached"
    EXCEPTED = "excepted"
    """An exemption holds. It is shown, and no breach."""
    UNKNOWN = "unknown"
    """Nobody rated it, or nobody knows since when it is known. Counts as breach."""


WORST: tuple[State, ...] = (State.BREACHED, State.UNKNOWN, State.DUE_SOON, State.EXCEPTED, State.OK)
"""From the worst to the best."""
BREACHES: frozenset[State] = frozenset({State.BREACHED, State.UNKNOWN})
"""What must not be there when somebody asks whether all is well."""


def worst(states: Iterable[State]) -> State:
    """The worst of several; ok where there is none.

    >>> worst([State.OK, State.UNKNOWN, State.DUE_SOON]).value
    'unknown'
    """
    return min(states, key=WORST.index, default=State.OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a vulnerability's time."""

    severity: Severity
    published: date | None = None
    first_seen: date | None = None
    """When we first saw a version in which it is mended."""
    exploited: date | None = None


def due(sla: Sla, data_classes: Collection[str], known: Known) -> date | None:
    """The last day (UTC) on which it may still be there; None where no rule gives one.

    Days count from the advisory or from when we first saw a mended version, whichever of those that are known is
    earlier. For hosts of services with data classes the shortest time counts. What is known to be exploited is due
    ``exploited`` days after it entered the catalog, or as its severity says if that is earlier.
    """
    found: list[date] = []
    begins = [one for one in (known.published, known.first_seen) if one is not None]
    days = days_for(sla, data_classes, known.severity)
    if begins and days is not None:
        found.append(min(begins) + timedelta(days=days))
    if known.exploited is not None and sla.exploited is not None:
        found.append(known.exploited + timedelta(days=sla.exploited))
    return min(found, default=None)


def days_for(sla: Sla, data_classes: Collection[str], severity: Severity) -> int | None:
    """Days for a severity on hosts of such services; None: no rule says any.

    >>> days_for(Sla(profile="hipaa-2025", data_classes={"phi": {Severity.CRITICAL: 7}}), ["phi"], Severity.CRITICAL)
    7
    """
    base = {**PROFILES[sla.profile], **sla.days}
    found = [base.get(severity), *(sla.data_classes.get(one, {}).get(severity) for one in data_classes)]
    return min((one for one in found if one is not None), default=None)


def state(sla: Sla, known: Known, due_on: date | None, day: date, *, excepted: bool = False) -> State:
    """How a vulnerability stands on a day. It is breached from the day after it was due."""
    if excepted:
        return State.EXCEPTED
    if due_on is not None and day > due_on:
        return State.BREACHED
    if known.severity is Severity.UNKNOWN or (due_on is None and known.published is None and known.first_seen is None):
        return State.UNKNOWN
    if due_on is not None and due_on - day <= duration(sla.due_soon):
        return State.DUE_SOON
    return State.OK
