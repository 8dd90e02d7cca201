"""What earlier drills say of the next one: how long its steps took, and at which load. Only drills that passed count,
and the newest of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.recovery.path import Leg
from ismgr_automation.recovery.result import DrillResult, TaskResult, Verdict

COUNTED = 10
"""The newest drills of which the median is taken: a machine that was replaced is forgotten at some time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What the steps of one leg took: the median of ``drills`` drills, by the names of its tasks. ``loads`` are the
    least and the most load of the machines that measured; None where nobody read it."""

    takes: Mapping[str, timedelta]
    drills: int
    loads: tuple[float, float] | None = None

    def __str__(self) -> str:
        many = f"{self.drills} drill{'s' if self.drills != 1 else ''}"
        if self.loads is None:
            return f"{many}, load not read"
        low, high = self.loads
        return f"{many} at load {low:.1f}" + (f" to {high:.1f}" if f"{high:.1f}" != f"{low:.1f}" else "")


def past_of(leg: Leg, results: Sequence[DrillResult]) -> Past | None:
    """What a leg took in the past, from results, the newest first; None where no drill that passed did all of it.

    What was done already when a drill came, or was done by somebody else, was not measured. Legs are told apart by
    their names: the way back is another one than the way there.
    """
    wanted = {one.name for one in leg.tasks}
    found: list[tuple[DrillResult, dict[str, TaskResult]]] = []
    for one in results:
        done = dict(_measured(one, leg.name))
        # what people said took so long was not measured
        if one.verdict is Verdict.PASSED and isinstance(one.mode, DrillMode) and wanted and wanted <= set(done):
            found.append((one, done))
    found = found[:COUNTED]
    if not found:
        return None
    loads = [one.load_average[0] for one, _ in found if one.load_average is not None]
    return Past(
        takes={
            name: timedelta(milliseconds=median(done[name].ended_ms - done[name].began_ms for _, done in found))
            for name in sorted(wanted)
        },
        drills=len(found),
        loads=(min(loads), max(loads)) if loads else None,
    )


def _measured(result: DrillResult, leg: str) -> Iterator[tuple[str, TaskResult]]:
    for one in result.tasks:
        if one.leg == leg and one.ok and not one.found and not one.rule:
            yield one.name, one
