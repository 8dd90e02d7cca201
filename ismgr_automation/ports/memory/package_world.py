"""The small world that the doubles of patching live in: hosts with packages, what repositories offer them, and what
goes wrong. Nothing happens in it by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.packages import Boot, Installed, Offered

Key = tuple[str, str]
"""Name and version of a package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMachine:
    """One host."""

    installed: dict[str, Installed] = field(default_factory=dict)
    """By name."""
    lists: list[Offered] = field(default_factory=list)
    """What it last read of the repositories."""
    reads: list[datetime] = field(default_factory=list)
    """When it read them."""
    kept: set[Key] = field(default_factory=set)
    """Files of former versions."""
    pins: dict[str, str] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)
    lives: list[Boot] = field(default_factory=lambda: [life(1)])
    """The present one is the last."""
    reboot_why: list[str] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    """Units that run on replaced files."""
    made: dict[str, set[Key]] = field(default_factory=dict)
    """What each run installed."""
    brought: dict[str, set[str]] = field(default_factory=dict)
    """What each run was to bring that was not there."""

    @property
    def boot(self) -> Boot:
        """Its present life."""
        return self.lives[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPackageWorld:
    """All that there is: hosts, what the repository offers, and faults by host. ``answers`` says whether a host can be
    reached; ``MemoryWorld.answer`` fits."""

    machines: dict[str, MemoryMachine] = field(default_factory=dict)
    repository: list[Offered] = field(default_factory=list)
    clock: Callable[[], datetime] = lambda: datetime(2026, 11, 26, 12, tzinfo=UTC)
    answers: Callable[[str], Reach] = lambda _: Reach.OK
    reboots: dict[str, str] = field(default_factory=dict)
    """Packages whose new version wants the host restarted, each with why."""
    restarts: dict[str, str] = field(default_factory=dict)
    """Packages whose new version leaves a unit on the old files."""
    mapped: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What each unit (``init``: PID 1) runs from on every host; empty: hosts do not tell."""
    unknown_reboot: set[str] = field(default_factory=set)
    """Hosts of which nobody can tell whether they must be restarted."""
    locked: set[str] = field(default_factory=set)
    """Hosts on which somebody else holds dpkg's lock."""
    full: set[str] = field(default_factory=set)
    wider: dict[str, str] = field(default_factory=dict)
    """Packages that apt would not change without another one, which is named."""
    needs: dict[Key, tuple[str, ...]] = field(default_factory=dict)
    """Versions that need other packages, by name: where these are not installed, apt would install what is offered."""
    broken: set[Key] = field(default_factory=set)
    """Versions whose maintainer script fails."""
    dies: dict[str, int] = field(default_factory=dict)
    """Hosts whose connection is lost, once, when so many moves were made."""
    stays_down: set[str] = field(default_factory=set)
    """Hosts that do not come back from a restart."""
    stubborn: set[str] = field(default_factory=set)
    """Units that do not run after a restart."""
    calls: list[str] = field(default_factory=list)
    """Everything that was asked for, in order: ``apply web1``."""
    watch: list[Callable[[str], None]] = field(default_factory=list)
    """Called with each call before it is made: the place to cancel or to move the world in the middle of a run."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, host: str, *installed: Installed) -> MemoryMachine:
        """A host with these packages, which has read what the repository offers now."""
        machine = MemoryMachine(installed={one.name: one for one in installed})
        self.machines[host] = machine
        self.read_lists(machine)
        return machine

    def read_lists(self, machine: MemoryMachine) -> None:
        """As ``apt-get update`` does."""
        machine.lists[:] = self.repository
        machine.reads.append(self.clock())

    def called(self, verb: str, host: str, context: Context) -> None:
        """Note a call for one host; raises ``Cancelled``."""
        text = f"{verb} {host}"
        self.calls.append(text)
        for one in self.watch:
            one(text)
        if context.cancelled.is_set():
            raise Cancelled(f"{text} was stopped.", next_step="Run it again.")


def life(number: int) -> Boot:
    """The life of a host with this number."""
    return Boot(boot_id=f"boot-{number}", init_started=number)
