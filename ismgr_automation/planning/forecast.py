"""What is foretold of a plan's changes: how long they take and what they ask of hosts. It varies with what we remember
and have read, so it stands beside the digest; nothing is decided from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from ismgr_automation.core.json import JsonObject
from ismgr_automation.ports.packages import Need


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How long something takes, and where that comes from: ``p95 of 12 runs``, ``no history: the deadline``."""

    span: timedelta
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostForecast:
    """What is expected of one host: whether it must be restarted (``unknown`` is never no) and why, which services
    otherwise (None: nobody can say), and what the baseline's policy makes of it, in words."""

    host: str
    reboot: Need
    why: tuple[str, ...] = ()
    services: tuple[str, ...] | None = None
    then: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """One change. ``soak`` is how long the ring before it must have been well until it may begin."""

    takes: Estimate
    soak: timedelta = timedelta()
    hosts: tuple[HostForecast, ...] = ()


def forecast_json(one: Forecast) -> JsonObject:
    """A forecast as JSON, in whole seconds, rounded up."""
    return {
        "takes_seconds": _seconds(one.takes.span),
        "source": one.takes.source,
        "soak_seconds": _seconds(one.soak),
        "hosts": [
            {
                "host": host.host,
                "reboot": str(host.reboot),
                "why": list(host.why),
                "services": list(host.services) if host.services is not None else None,
                "then": host.then,
            }
            for host in one.hosts
        ],
    }


def _seconds(span: timedelta) -> int:
    return ceil(span.total_seconds())
