"""What no machine can know of a drill, and in which role people sign it off: apart from its other particulars, for a
command line that has no time to load them."""

from __future__ import annotations

from enum import StrEnum


class Topic(StrEnum):
    """What no machine can know of a drill, and a person may state afterwards."""

    OBSERVERS = "observers"
    NOTICE = "notice"
    """Who was called when, and when they answered."""
    RISK = "risk"
    """Where the risk assessment is."""
    CAPACITY = "capacity"
    BACKUPS = "backups"
    """How old the newest backup was when the drill began."""
    DRIFT = "drift"
    """What differed from the documents when it began."""
    CHECKSUMS = "checksums"
    """That the service's own data was compared, and how."""
    DEGRADED = "degraded"
    """Which functions ran degraded meanwhile."""
    ACCESS = "access"
    """How access was controlled meanwhile."""
    REVIEW = "review"
    """That somebody went through the result, and what came of it."""
    RETENTION = "retention"
    """Until when the record is kept, and where."""


class SignRole(StrEnum):
    """For whom somebody signs a drill off."""

    OWNER = "owner"
    """The Team that owns the service."""
    MANAGEMENT = "management"
    """Those who answer for the whole: members with that role, of whatever Team."""
