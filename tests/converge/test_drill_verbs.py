"""What verbs are asked for with: the deadline of each step's own, which plans, runbooks and windows reckon with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ismgr_automation.converge.drill_field import field_of
from ismgr_automation.converge.drill_verbs import BOOT, Kit, giving_back, verb_of
from ismgr_automation.converge.ground import whole_ground
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.recovery.path import Task, legs
from tests.drills import Drills, drills


@dataclass(slots=True)
class Noting:
    """Stands before an engine, and notes every deadline that it is asked with."""

    engine: Any
    noted: list[timedelta]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """The engine's own method."""
        method = getattr(self.engine, name)

        def called(*arguments: Any) -> Any:
            self.noted.extend(one.deadline for one in arguments if hasattr(one, "deadline"))
            return method(*arguments)

        return called


@pytest.fixture
def clinic(tmp_path: Path) -> Drills:
    return drills(tmp_path)


def kit_of(site: Drills, noted: list[timedelta]) -> Kit:
    """What the verbs of a failover are made from, by engines whose deadlines are noted."""
    scope = site.scope()
    recovery = replace(scope.engines.recovery, fences=Noting(scope.engines.recovery.fences, noted))
    scope = replace(scope, engines=replace(scope.engines, recovery=recovery))
    ground = whole_ground(scope)
    field = field_of(scope, ground, "records")
    (leg, *_) = legs(field.document, DrillMode.FAILOVER, field.sides)
    return Kit(scope=scope, ground=ground, field=field, leg=leg)


def task_of(kit: Kit, name: str) -> Task:
    """The step of that name in a failover drill."""
    found = legs(kit.field.document, DrillMode.FAILOVER, kit.field.sides)
    return next(task for leg in found for task in leg.tasks if task.name == name)


def test_a_fence_is_lifted_within_the_deadline_of_the_step_that_lifts_it(clinic: Drills) -> None:
    clinic.edit("recovery.yaml", "do: unfence", "do: unfence, deadline: 7m")
    noted: list[timedelta] = []
    kit = kit_of(clinic, noted)
    verb_of(task_of(kit, "out"), kit).close()
    assert noted == [timedelta(minutes=7)]


@pytest.mark.parametrize(
    ("lifted", "by_network", "expected"),
    [
        ("60s", False, BOOT),
        ("15m", False, timedelta(minutes=15)),
        ("15m", True, timedelta(seconds=2)),
    ],
    ids=["a boot at least", "as long as the step that lifts it", "nothing boots behind a packet filter"],
)
def test_a_machine_that_is_given_back_has_time_to_boot(
    clinic: Drills, lifted: str, by_network: bool, expected: timedelta
) -> None:
    clinic.edit("recovery.yaml", "do: unfence", f"do: unfence, deadline: {lifted}")
    if by_network:
        clinic.edit("recovery.yaml", "way: power", "way: network, witnesses: [edges]")
    noted: list[timedelta] = []
    giving_back(kit_of(clinic, noted)).close()
    assert noted == [expected]
