"""What kinds of drills there are: apart from documents, for a command line that has no time to load their classes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ismgr_automation.estate.recovery import RecoveryPlan


class DrillMode(StrEnum):
    """What a drill is."""

    SWITCHOVER = "switchover"
    """The live service moves to the other site by plan, and back."""
    FAILOVER = "failover"
    """The live service's site is declared lost; it moves, redundancy is restored, and it moves back."""
    ISOLATED = "isolated"
    """A clone of the standby is promoted and checked where it can reach nobody; the live service is not touched."""
    RETURN = "return"
    """Home again after a drill or a recovery that was broken off: redundancy first, then the service moves back."""
    RESTORE = "restore"
    """A backup is restored where no client reaches it, and asked what it holds. The service stays where it is."""


class PaperMode(StrEnum):
    """A drill that touches no machine, and that no plan carries out: it can be looked at, and never be run."""

    TABLETOP = "tabletop"
    """People walk through the runbook."""


def windows_of(plan: RecoveryPlan, mode: DrillMode) -> Sequence[str]:
    """The MaintenanceWindows that a drill waits for, none where it waits for none: a restore takes nothing from the
    service, and one in isolation touches nothing that clients use."""
    match mode:
        case DrillMode.RESTORE:
            return ()
        case DrillMode.ISOLATED:
            return plan.windows if plan.bubble is not None and plan.bubble.in_windows else ()
        case DrillMode.SWITCHOVER | DrillMode.FAILOVER | DrillMode.RETURN:
            return plan.windows
