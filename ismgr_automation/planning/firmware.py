"""Firmware that differs from what a baseline asks, as steps of a plan. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ismgr_automation.core.json import Json
from ismgr_automation.estate.maintenance import Firmware
from ismgr_automation.planning.change import Action, Step
from ismgr_automation.ports.upkeep import FirmwareItem

WHAT = "firmware "
"""What the name of such a step begins with."""

RING = "ring"
"""The field of ``after`` that says in which ring its host is, as that of a package's step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One component to one version; ``component`` is its id in the machine's inventory."""

    component: str
    before: str
    version: str
    image: str
    baseline: str


def firmware_steps(
    host: str, baseline: str, wanted: Sequence[Firmware], seen: Sequence[FirmwareItem]
) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """Steps for what differs, and a sentence for each component that the machine does not have or cannot update."""
    steps: list[Step] = []
    said: list[str] = []
    for one in wanted:
        item = next((item for item in seen if one.component in {item.id, item.name}), None)
        if item is None:
            known = ", ".join(sorted(item.id for item in seen)) or "nothing"
            said.append(f"{host} has no firmware component {one.component!r}; its BMC lists {known}")
        elif item.version != one.version and not item.updateable:
            said.append(f"{item.id} of {host} is {item.version} and cannot be updated through its BMC")
        elif item.version != one.version:
            after = {"version": one.version, "image": one.image, "baseline": baseline}
            before = {"version": item.version}
            steps.append(Step(target=host, what=f"{WHAT}{item.id}", action=Action.UPDATE, before=before, after=after))
    return tuple(sorted(steps, key=lambda step: step.what)), tuple(said)


def in_ring(steps: Iterable[Step], ring: str) -> tuple[Step, ...]:
    """The steps of one host, which say in which ring it is: a soak is between rings."""
    return tuple(
        replace(one, after={**one.after, RING: ring} if isinstance(one.after, Mapping) else one.after) for one in steps
    )


def wanted_of(step: Step) -> Wanted:
    """A step of ``firmware_steps`` as a value. Raises ``ValueError`` for another step."""
    before, after = step.before, step.after
    if not step.what.startswith(WHAT) or not isinstance(before, Mapping) or not isinstance(after, Mapping):
        raise ValueError(f"{step.what!r} is no firmware step")
    return Wanted(
        component=step.what.removeprefix(WHAT),
        before=_text(before, "version"),
        version=_text(after, "version"),
        image=_text(after, "image"),
        baseline=_text(after, "baseline"),
    )


def is_firmware(steps: Iterable[Step]) -> bool:
    """Whether these are steps of firmware."""
    return any(one.what.startswith(WHAT) for one in steps)


def _text(values: Mapping[str, Json], key: str) -> str:
    return str(values[key])
