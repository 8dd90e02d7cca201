"""The paper procedure of a recovery plan, as a value: the same legs and tasks as a drill, with the commands of a person
instead of verbs. How it looks on paper is not known here, and nothing is opened or asked."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never

from ismgr_automation.core.json import Json, digest
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.order import Step
from ismgr_automation.ports.paper import Order
from ismgr_automation.recovery.path import Leg, LegKind, Task, budget
from ismgr_automation.recovery.result import Goals

FORMAT = "ismgr.runbook/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Who answers for something, and where to reach them. ``people`` are names with their roles."""

    what: str
    team: str
    on_call: str
    people: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A host that the procedure speaks of. ``clients`` is where clients reach it, ``keys`` are the fingerprints of its
    pinned host keys."""

    name: str
    site: str
    login: str
    clients: str = ""
    bmc: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """A secret that is needed, by what it is for and where it lies; never what it is."""

    what: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperStep:
    """One step: why, after which others, the rules that it must keep, and the commands."""

    name: str
    title: str
    why: str
    after: tuple[str, ...]
    rules: tuple[str, ...]
    orders: tuple[Order, ...]
    fails: str
    deadline: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One leg. ``at_most``: how long its longest chain may take by its deadlines."""

    name: str
    title: str
    purpose: str
    at_most: timedelta
    steps: tuple[PaperStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a runbook says of itself and of the service. ``digest`` is that of all that Git says about the plan."""

    plan: str
    description: str
    service: str
    mode: DrillMode
    estate: str
    environment: str
    commit: str
    digest: str
    goals: Goals
    home: str
    away: str
    """The members of the cluster at either site."""
    endpoints: tuple[str, ...] = ()
    contacts: tuple[Contact, ...] = ()
    places: tuple[Place, ...] = ()
    secrets: tuple[Hidden, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Runbook:
    """A whole procedure. ``desk`` is what is made ready before the first step."""

    head: Head
    desk: tuple[Order, ...]
    sections: tuple[Section, ...]

    @property
    def steps(self) -> tuple[tuple[str, PaperStep], ...]:
        """Every step with its leg, in the order in which they are done."""
        return tuple((section.name, step) for section in self.sections for step in section.steps)

    @property
    def content(self) -> str:
        """The digest of all that stands on the paper but the commit: a commit that changes nothing here makes no paper
        out of date."""
        return digest(_plain(self))


def compose(
    head: Head, desk: Sequence[Order], legs: Sequence[Leg], orders: Callable[[Leg, Task], Sequence[Order]]
) -> Runbook:
    """The procedure for some legs. ``orders`` gives the commands of a task."""
    return Runbook(head=head, desk=tuple(desk), sections=tuple(_section(leg, orders) for leg in legs if leg.tasks))


def fingerprint(key: str) -> str:
    """A host key as OpenSSH shows it when it asks.

    >>> fingerprint("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINwh+XUHfch18syUqnWCHUtGuLPa7U0X80+IghCJVrvw")
    'ED25519 SHA256:AYUKB69qEAi3FDNsgPBOC1JmvNDKuwsq9HykhBiXOHg'
    """
    kind, blob, *_ = key.split()
    found = base64.b64encode(hashlib.sha256(base64.b64decode(blob)).digest()).decode().rstrip("=")
    return f"{kind.removeprefix('ssh-').upper()} SHA256:{found}"


RULES: Mapping[str, str] = {
    "never-two-primaries": "Nobody is promoted while another member takes writes, or may.",
    "confirmed-fence": "Nobody is promoted before the fence of the old side is up and somebody else has confirmed it.",
    "clean-handover": "Nobody is promoted before the old primary has stopped cleanly and all of it has arrived.",
    "never-zero": "The primary is not taken away while there is nobody to follow it.",
    "caught-up": "Nothing begins towards a side that did not stream, or was too far behind.",
    "clients-to-the-primary": "Clients are sent to a member that takes writes, and to no other.",
    "no-return-as-primary": "A fence is lifted only when there is another primary for the member to follow.",
    "rejoin-the-loser": "Data is overwritten only on a member that takes no writes, and only by the one primary.",
}
"""The safety rules, by the names under which a drill refuses, as a person keeps them."""


def rules_of(step: Step, kind: LegKind) -> tuple[str, ...]:
    """The names of the rules that a step must keep."""
    match step.do:
        case "fence" | "demote":
            return ("never-zero", "caught-up")
        case "promote":
            return ("never-two-primaries", "confirmed-fence" if kind is LegKind.FAILOVER else "clean-handover")
        case "haproxy" | "dns":
            return ("clients-to-the-primary",)
        case "unfence":
            return ("no-return-as-primary",)
        case "rejoin":
            return ("rejoin-the-loser",)
        case "verify" | "play" | "stack" | "function":
            return ()
        case _:
            assert_never(step)


def _section(leg: Leg, orders: Callable[[Leg, Task], Sequence[Order]]) -> Section:
    title, purpose = _purpose(leg)
    return Section(
        name=leg.name,
        title=title,
        purpose=purpose,
        at_most=budget(leg, {}).at_most,
        steps=tuple(_step(leg, task, tuple(orders(leg, task))) for task in leg.tasks),
    )


def _step(leg: Leg, task: Task, orders: tuple[Order, ...]) -> PaperStep:
    title, why = _words(task.step, leg)
    return PaperStep(
        name=task.name,
        title=title,
        why=why,
        after=tuple(sorted(task.needs)),
        rules=rules_of(task.step, leg.kind),
        orders=orders,
        fails=_fails(leg),
        deadline=task.deadline,
    )


def _purpose(leg: Leg) -> tuple[str, str]:
    old, new = f"{leg.sides.old} ({leg.sides.old_site})", f"{leg.sides.new} ({leg.sides.new_site})"
    match leg.kind:
        case LegKind.FAILOVER:
            return f"Failover to {leg.sides.new_site}", f"{old} is lost, or is treated as lost. {new} takes over."
        case LegKind.SWITCHOVER:
            return f"Planned move to {leg.sides.new_site}", f"Both sides are well. {new} takes over from {old}."
        case LegKind.REPROTECT:
            return f"Redundancy: {leg.sides.old_site} follows", f"Clients are served. {old} becomes a standby of {new}."
        case LegKind.AFTER:
            return f"Proof that the service is well at {leg.sides.new_site}", "Clients are served; this shows how well."
        case _:
            assert_never(leg.kind)


def _words(step: Step, leg: Leg) -> tuple[str, str]:  # noqa: PLR0911  a sentence for each step
    """What a step does, and why."""
    match step.do:
        case "fence" | "demote" | "promote" | "unfence" | "rejoin":
            return _MEMBERS[step.do][0].format(leg.sides), _MEMBERS[step.do][1].format(leg.sides)
        case "haproxy":
            why = f"The balancers of group/{step.group} lead to the primary, and to nobody else."
            return f"Send clients to {leg.sides.new}", why
        case "dns":
            return f"Point {step.record}.{step.zone} to {leg.sides.new_site}", "Clients find the service by this name."
        case "verify":
            return f"Verify group/{step.group}", "What proves that the service is well for those who use it."
        case "play":
            return f"Apply the playbook of group/{step.group}", "It brings its hosts to what the estate says."
        case "stack":
            return f"Apply stack/{step.stack}", "It brings its resources to what the estate says."
        case "function":
            return f"Call {step.function} of {step.file}", "A step of this estate's own."
        case _:
            assert_never(step)


_MEMBERS: Mapping[str, tuple[str, str]] = {
    "fence": ("Fence {0.old}", "Two sides that take writes lose data that nobody can put together again."),
    "demote": ("Stop {0.old} cleanly", "Who has stopped cleanly, with all of it on the other side, loses nothing."),
    "promote": ("Promote {0.new}", "{0.new} takes writes from now on."),
    "unfence": ("Let {0.old} out of its fence", "It comes back as a member that follows {0.new}."),
    "rejoin": ("Make {0.old} a standby of {0.new}", "Until somebody follows the primary there is one copy only."),
}
"""Steps that are done to a member of the cluster: titles and reasons."""


def _fails(leg: Leg) -> str:
    """What to do when a step does not end well, by what its leg may leave behind."""
    match leg.kind:
        case LegKind.FAILOVER:
            return (
                f"As long as {leg.sides.new} was not promoted, {leg.sides.old} may be let out of its fence and serve "
                "again. After that there is no way back but forward."
            )
        case LegKind.SWITCHOVER:
            return (
                f"As long as {leg.sides.new} was not promoted, {leg.sides.old} may be started again as the primary: "
                "remove its standby.signal first. After that there is no way back but forward."
            )
        case LegKind.REPROTECT | LegKind.AFTER:
            return "Clients are served: there is time. Stop, and call whoever is named above."
        case _:
            assert_never(leg.kind)


def _plain(runbook: Runbook) -> Json:
    from pydantic import TypeAdapter

    body: dict[str, Json] = TypeAdapter(Runbook).dump_python(runbook, mode="json")
    head = body["head"]
    assert isinstance(head, dict)  # noqa: S101  for the type checker
    return {"format": FORMAT, **body, "head": {name: value for name, value in head.items() if name != "commit"}}
