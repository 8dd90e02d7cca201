"""What a fault is to a drill: whether the site is lost by it, and when a detector has seen enough. Pure decisions: what
is broken, and how, is behind ``ports.faults``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.recovery import (
    ClientFault,
    DiskFault,
    Fault,
    FreezeFault,
    PartitionFault,
    PowerFault,
    RollingFault,
    SlowFault,
    StaleFault,
)

FAULT, DETECT, LIFT, COME_BACK, WATCH = "fault", "detect", "lift", "come-back", "watch"
"""The names of a fault's own legs and steps, in plans and in results."""
PATIENCE = 10
"""How many times the time that a detector needs it may take to declare a site lost; and how many times that long a
fault is watched that a service is to survive."""


class Course(StrEnum):
    """What a drill does with a fault."""

    LOST = "lost"
    """The old side cannot serve any more: the detector must say so, and the service moves."""
    SURVIVED = "survived"
    """The service goes on: the detector must stay quiet, and nothing moves."""
    CLIENT = "client"
    """Nothing is broken: the client that measures misbehaves while the site is declared lost."""


def course_of(fault: Fault) -> Course:
    """What a drill does with it."""
    match fault:
        case PowerFault() | FreezeFault() | PartitionFault() | RollingFault() | DiskFault() | StaleFault():
            return Course.LOST
        case SlowFault():
            return Course.SURVIVED
        case ClientFault():
            return Course.CLIENT


def takes_power(fault: Fault) -> bool:
    """Whether it takes the machine's power: then no packet filter can be its fence, and lifting it lets it out."""
    return isinstance(fault, PowerFault | StaleFault)


def ends_with_power(fault: Fault) -> bool:
    """Whether it lies on the old primary's own machine, and so is gone when that loses its power."""
    return isinstance(fault, PowerFault | StaleFault | FreezeFault | DiskFault)


def may_follow(entries: Iterable[JsonObject]) -> bool:
    """Whether the other side was asked to take the role, by the journals of drills in their order: what was begun may
    have been done, or be done later. Not once the role was given back, or the other side was made a standby anew."""
    asked = False
    for one in entries:
        match one["what"], one.get("leg"):
            case "task-began", "failover" | "switchover" if one["action"] == "promote":
                asked = True
            case "given-back", "failover" | "switchover" | "give-back" if one["ok"]:
                asked = False
            case "task-ended", "reprotect-home" if one["action"] == "rejoin" and one["ok"] and not one["found"]:
                asked = False
    return asked


def cuts_replication(fault: Fault) -> bool:
    """Whether no standby can follow the old primary while it stands. A server that can write no more is still
    followed."""
    return isinstance(fault, PowerFault | StaleFault | FreezeFault | PartitionFault | RollingFault)


@dataclass(slots=True, kw_only=True)
class Lookout:
    """A detector's count: a site is lost after ``misses`` looks in a row that found no primary.

    >>> lookout = Lookout(misses=2)
    >>> [lookout.saw(found=found) for found in (False, True, False, False)]
    [False, False, False, True]
    """

    misses: int
    looks: int = 0
    missed: int = 0
    """In a row."""

    def saw(self, *, found: bool) -> bool:
        """Count one look; whether the site is lost."""
        self.looks += 1
        self.missed = 0 if found else self.missed + 1
        return self.missed >= self.misses
