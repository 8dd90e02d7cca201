"""The calendar of drills: when which recovery plan is rehearsed, and when never. Shapes and single-field rules only;
what spans documents is in ``consistency``."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import NaiveDatetime

from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.fields import Document, Duration, Name


class Days(Document):
    """Whole days in a row, on the clock of the schedule."""

    begins: date
    ends: date
    """The last of them."""
    reason: str = ""


class Blackout(Document):
    """When no drill of a schedule begins, besides the freezes that hold up drills on its hosts anyway."""

    dates: tuple[date, ...] = ()
    """Whole days in ``time_zone``."""
    ranges: tuple[Days, ...] = ()
    windows: tuple[Name, ...] = ()
    """MaintenanceWindows: while one is open, its hosts are worked on."""
    freezes: tuple[Name, ...] = ()
    """Freezes that are meant for other work or other hosts, and hold up these drills all the same."""


class DrillSchedule(Document):
    """When a recovery plan is rehearsed: ``ismgr drill due`` tells what is due, and records what was not done."""

    kind: Literal["DrillSchedule"]
    name: Name
    description: str = ""
    plan: Name
    """The RecoveryPlan. One of its ``windows`` must be open, if it has any and the mode waits for them."""
    mode: DrillMode = DrillMode.SWITCHOVER
    time_zone: str
    """An IANA name such as Europe/Berlin: ``start`` and ``rule`` are wall-clock time there."""
    start: NaiveDatetime
    """The first occurrence, as ``2026-01-04T01:00:00``."""
    rule: str = ""
    """A recurrence rule of iCalendar, such as ``FREQ=MONTHLY;BYDAY=1SU``; without one it is due once."""
    except_dates: tuple[date, ...] = ()
    """Days (in ``time_zone``) on which there is no occurrence at all. A drill that is left out by ``blackout`` is on
    record as skipped, one that is excepted was never planned."""
    within: Duration = "2h"
    """How long after its time a drill may still begin, in elapsed time, and at most until the next one has its time.
    What did not begin by then is on record as skipped."""
    jitter: Duration = "0s"
    """At most so much is added to each time: a part of it that follows from the schedule's name and the occurrence, so
    that all controllers agree."""
    blackout: Blackout = Blackout()
    alarm_after: Duration | None = None
    """Without a drill of this plan and mode that passed for so long, ``ismgr drill due`` raises the alarm. Drills that
    people start count as well."""
