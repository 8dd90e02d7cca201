"""Whether a host must be restarted, by a baseline's policy and what was read of it after its packages moved. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from ismgr_automation.estate.maintenance import RebootPolicy
from ismgr_automation.planning.timing import usual
from ismgr_automation.ports.packages import HostFacts, Need

SHORTEST = timedelta(minutes=1)
"""A host is never given up sooner, whatever its history says."""

PATIENCE = 3.0
"""How many times as long as it usually takes a host may take to come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is restarted on one host: all of it, or services, and why."""

    reboot: bool
    services: tuple[str, ...] = ()
    why: str = ""


def due(policy: RebootPolicy, facts: HostFacts) -> Due:
    """What a policy does about a host. Where nobody can tell whether a reboot is needed it is one: a library that is
    still in use is as vulnerable as before."""
    reasons = "; ".join(facts.reboot_why)
    match policy:
        case RebootPolicy.NEVER:
            return Due(reboot=False, services=facts.services, why=reasons)
        case RebootPolicy.ALWAYS:
            return Due(reboot=True, why=reasons or "the baseline says always")
        case RebootPolicy.IF_NEEDED:
            match facts.reboot:
                case Need.YES:
                    return Due(reboot=True, why=reasons or "the host asks for it")
                case Need.UNKNOWN:
                    return Due(reboot=True, why=reasons or "nobody can tell whether it is needed")
                case Need.NO:
                    return Due(reboot=False, services=facts.services, why=reasons)


def patience(history: Sequence[timedelta], otherwise: timedelta) -> timedelta:
    """How long to wait for a host to come back: three times the 95th percentile of what it took before, and at least
    a minute; ``otherwise`` as long as there is no history.

    >>> patience([timedelta(seconds=40)] * 5, timedelta(minutes=10))
    datetime.timedelta(seconds=120)
    """
    if not history:
        return otherwise
    return max(usual(history) * PATIENCE, SHORTEST)
