"""The small world that all doubles share: what exists, what is remembered, what goes wrong. Opens no file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, Reach
from ismgr_automation.ports.stacks import Output

UNKNOWN = "<unknown>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What a program asks for: properties of resources by name, and outputs (plain JSON, or an ``Output``)."""

    resources: Mapping[str, JsonObject]
    outputs: Mapping[str, Json | Output] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackLock:
    """A lock on a stack; ``dead`` None when nobody can tell whether its owner lives."""

    owner: str = "alice@elsewhere, process 4711"
    since: str = "2026-11-22T08:00:00Z"
    dead: bool | None = None


Program = Callable[[Mapping[str, Json], bool], Desired]
"""A stack's program. It is given its config (secrets as ``"<secret>"``, outputs of others as values) and whether its
resources are made; while they are not, it writes ``"<unknown>"`` into outputs that only the world can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of a playbook: it sets ``name`` to ``value`` on a host (a text, or a function of the group's variables
    and the host). ``unpredictable`` says why check mode cannot tell; such a task is run each time and changes nothing
    when the value is there."""

    name: str
    value: str | Callable[[Mapping[str, object], Host], str]
    unpredictable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryWorld:
    """All that there is. ``state`` is what the stack engine remembers, ``actual`` what is really there (resource
    properties by stack and name): change ``actual`` and there is drift. A host answers when its resource exists and its
    property ``power`` is not ``off``; ``reach`` overrules that. A new host refuses ``boot_probes`` probes first."""

    programs: dict[str, Program] = field(default_factory=dict)
    """By stack."""
    playbooks: dict[str, Sequence[Task]] = field(default_factory=dict)
    """By the playbook's file name."""
    inventories: dict[str, tuple[Host, ...]] = field(default_factory=dict)
    """Hosts that no stack made, by the inventory's file name."""
    state: dict[str, dict[str, JsonObject]] = field(default_factory=dict)
    outputs: dict[str, dict[str, Output]] = field(default_factory=dict)
    actual: dict[str, dict[str, JsonObject]] = field(default_factory=dict)
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    """What tasks have set, by host and task."""
    reach: dict[str, Reach] = field(default_factory=dict)
    booting: dict[str, int] = field(default_factory=dict)
    """How many more probes a host refuses."""
    settings: dict[str, int] = field(default_factory=lambda: {"boot_probes": 0})
    replacing: set[str] = field(default_factory=lambda: {"image"})
    """Properties that cannot be updated in place."""
    faults: dict[str, BaseException] = field(default_factory=dict)
    """Raised when the call of this name is made: ``up names``, ``run webs``, ``verify webs``."""
    dies: dict[tuple[str, str], Reach] = field(default_factory=dict)
    """A host that goes away when it comes to a task, and what it answers from then on."""
    breaks: dict[tuple[str, str], str] = field(default_factory=dict)
    """A task that fails on a host, with its message."""
    surprises: set[tuple[str, str]] = field(default_factory=set)
    """Tasks, by host and name, that a run changes although check mode says that there is nothing to do."""
    idle: set[tuple[str, str]] = field(default_factory=set)
    """Tasks, by host and name, that check mode says would change something, and that a run finds done."""
    fences: dict[tuple[str, str], int] = field(default_factory=dict)
    """The largest fencing token that a host has seen, by host and name of the lease."""
    leftovers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What still runs on a host after a run that did not end well, a command each; a sweep ends it."""
    immortal: set[str] = field(default_factory=set)
    """Commands of ``leftovers`` that no sweep can end."""
    locks: dict[str, StackLock] = field(default_factory=dict)
    """Who has locked a stack."""
    pending: dict[str, dict[str, bool]] = field(default_factory=dict)
    """By stack: resources with an operation whose end nobody saw, and whether a look at the world tells it."""
    crashes: dict[tuple[str, str], BaseException] = field(default_factory=dict)
    """By stack and resource: raised once, when the resource has landed and the engine has not heard of it yet, such as
    ``Killed``. It leaves the lock of a dead owner and a pending operation, as a killed engine does."""
    stack_fences: dict[str, int] = field(default_factory=dict)
    """The largest token that each stack's state has seen."""
    unhealthy: set[str] = field(default_factory=set)
    """Hosts whose verification fails."""
    calls: list[str] = field(default_factory=list)
    """Everything that was asked of the engines, in order."""
    limits: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    """Verb, group and hosts of each check and run."""
    watch: list[Callable[[str], None]] = field(default_factory=list)
    """Called with each call before it is made: the place to cancel or to move the world in the middle of a run."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def called(self, verb: str, name: str, context: Context | None = None) -> None:
        """Note a call and raise its fault, if it has one, or ``Cancelled``."""
        text = f"{verb} {name}"
        self.calls.append(text)
        for one in self.watch:
            one(text)
        if context is not None and context.cancelled.is_set():
            raise Cancelled(f"{text} was stopped.", next_step="Run it again.")
        if text in self.faults:
            raise self.faults[text]

    def answer(self, name: str) -> Reach:
        """What a host answers now."""
        if name in self.reach:
            return self.reach[name]
        mine = [resources[name] for resources in self.actual.values() if name in resources]
        made = [one.name for hosts in self.inventories.values() for one in hosts]
        if name not in made and (not mine or mine[0].get("power") == "off"):
            return Reach.TIMEOUT
        return Reach.OK

    def effects(self) -> list[str]:
        """The calls that change something, in order."""
        return [one for one in self.calls if one.split()[0] in {"up", "run", "destroy"}]
