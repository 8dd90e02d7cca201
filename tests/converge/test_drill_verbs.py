"""What verbs are asked for with: the deadline of each step's own, which plans, runbooks and windows reckon with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ismgr_automation.converge.drill_field import field_of
from ismgr_automation.converge.drill_verbs import ACTS, BOOT, MOMENT, Cold, Kit, giving_back, verb_of
from ismgr_automation.converge.ground import whole_ground
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.order import Step
from ismgr_automation.estate.recovery import (
    DemoteStep,
    DnsStep,
    FenceStep,
    FunctionStep,
    HaproxyStep,
    PlayStep,
    PromoteStep,
    RejoinStep,
    StackStep,
    UnfenceStep,
    VerifyStep,
)
from ismgr_automation.estate.resolve import duration
from ismgr_automation.recovery.path import Task, legs
from tests.drills import Drills, drills
from tests.rehearsal import names_program


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
    engines, recovery = scope.engines, scope.engines.recovery
    recovery = replace(
        recovery,
        fences=Noting(recovery.fences, noted),
        standby=Noting(recovery.standby, noted),
        switches=Noting(recovery.switches, noted),
        functions=Noting(recovery.functions, noted),
    )
    engines = replace(
        engines,
        recovery=recovery,
        playbooks=Noting(engines.playbooks, noted),
        stacks=Noting(engines.stacks, noted),
        verifier=Noting(engines.verifier, noted),
    )
    scope = replace(scope, engines=engines)
    ground = whole_ground(scope)
    noted.clear()  # stacks were looked at
    field = field_of(scope, ground, "records")
    (leg, *_) = legs(field.document, DrillMode.FAILOVER, field.sides)
    return Kit(scope=scope, ground=ground, field=field, leg=leg)


def step(kind: type[Step], **more: Any) -> Step:
    """One of that kind, with a deadline of its own."""
    do = kind.model_fields["do"].annotation.__args__[0]  # type: ignore[union-attr]
    return kind.model_validate({"name": "it", "do": do, "deadline": "17s", **more})


STEPS = (
    step(FenceStep),
    step(DemoteStep),
    step(PromoteStep),
    step(HaproxyStep, group="edges", backend="db"),
    step(
        DnsStep,
        server="192.0.2.5",
        zone="example.org",
        record="db",
        values={"dc1": ["192.0.2.20"], "dc2": ["192.0.2.21"]},
        key_name="key",
        key_secret={"secret": "env:APP"},
    ),
    step(VerifyStep, group="webs"),
    step(PlayStep, group="webs"),
    step(StackStep, stack="names"),
    step(FunctionStep, file="play.yml", function="go"),
    step(UnfenceStep),
    step(RejoinStep),
)


def task(one: Step) -> Task:
    """That step, which waits for nobody."""
    return Task(name=one.name, step=one, needs=frozenset(), deadline=duration(one.deadline))


def test_every_kind_of_step_has_its_case() -> None:
    assert {type(one) for one in STEPS} == set(ACTS)


@pytest.mark.parametrize("one", STEPS, ids=lambda one: one.do)
def test_an_engine_is_asked_with_the_deadline_of_its_step(clinic: Drills, one: Step) -> None:
    clinic.files["stacks.yaml"] = "kind: Stack\nname: names\nprogram: stacks/names\nconfig: {to: here}\n"
    clinic.files["stacks/names/Pulumi.yaml"] = "name: names\n"
    clinic.world.programs["names"] = names_program
    noted: list[timedelta] = []
    kit = kit_of(clinic, noted)
    with closing(verb_of(task(one), kit)) as verb:
        if isinstance(verb, Cold):
            verb.act()  # only then it asks
    assert noted == [timedelta(seconds=17)]


@pytest.mark.parametrize("kind", [VerifyStep, PlayStep])
def test_a_shorter_deadline_of_the_group_holds_as_well(clinic: Drills, kind: type[Step]) -> None:
    clinic.edit("groups.yaml", "name: webs\n", "name: webs\ndeadline: 9s\n")
    noted: list[timedelta] = []
    kit = kit_of(clinic, noted)
    verb_of(task(step(kind, group="webs")), kit).act()
    assert noted == [timedelta(seconds=9)]


def test_a_suite_that_is_asked_again_has_what_is_left(clinic: Drills) -> None:
    clinic.world.unhealthy.add("web1")
    noted: list[timedelta] = []
    kit = kit_of(clinic, noted)
    slow = count(0, 100 * 10**9)
    recovery = replace(kit.scope.engines.recovery, clock=lambda: next(slow))
    kit = replace(kit, scope=replace(kit.scope, engines=replace(kit.scope.engines, recovery=recovery)))
    one = step(VerifyStep, group="webs", deadline="5m")
    acted = verb_of(task(one), kit).act()
    assert not acted.ok
    assert noted == [timedelta(seconds=200), MOMENT]


def test_what_lies_behind_a_packet_filter_is_stopped_and_let_out_within_one_deadline(clinic: Drills) -> None:
    clinic.edit("recovery.yaml", "way: power", "way: network, witnesses: [edges]")
    noted: list[timedelta] = []
    kit = kit_of(clinic, noted)
    verb_of(task(step(UnfenceStep)), kit).close()
    assert noted == [timedelta(seconds=8.5)] * 2


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
