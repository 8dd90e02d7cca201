"""A reader of facts, a package manager and a restarter in memory, over a small world of hosts with packages, what
repositories offer them, and what goes wrong. No package is installed anywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach, Reachability
from ismgr_automation.ports.packages import (
    Boot,
    Fleet,
    HostFacts,
    Installed,
    Mapped,
    Move,
    Need,
    Offered,
    PackageFate,
    PackageRequest,
    PackageResult,
    Restart,
    RestartResult,
    Trouble,
)

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
    lives: list[Boot] = field(default_factory=lambda: [_life(1)])
    """The present one is the last."""
    reboot_why: list[str] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    """Units that run on replaced files."""
    made: dict[str, set[Key]] = field(default_factory=dict)
    """What each run installed."""

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


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """``ports.packages.FactsReader``."""

    world: MemoryPackageWorld

    def read(self, fleet: Fleet, context: Context) -> tuple[HostFacts | Reachability, ...]:
        """What the machines are like."""
        with self.world.lock:
            return tuple(self._one(name, context) for name in fleet.names)

    def _one(self, name: str, context: Context) -> HostFacts | Reachability:
        self.world.called("facts", name, context)
        if (reach := self.world.answers(name)) is not Reach.OK:
            return Reachability(host=name, reach=reach)
        machine = self.world.machines[name]
        there = machine.installed
        unknown = name in self.world.unknown_reboot
        return HostFacts(
            host=name,
            read_at=self.world.clock(),
            distribution="debian",
            release="12",
            codename="bookworm",
            kernel="6.1.0-18-amd64",
            kernel_installed="6.1.0-18-amd64",
            boot=machine.boot,
            installed=tuple(there[one] for one in sorted(there)),
            offered=tuple(one for one in machine.lists if one.name in there and one.version != there[one.name].version),
            broken=_broken(machine),
            lists_read_at=machine.reads[-1] if machine.reads else None,
            reboot=Need.YES if machine.reboot_why else Need.UNKNOWN if unknown else Need.NO,
            reboot_why=tuple(machine.reboot_why) or (("nobody can tell",) if unknown else ()),
            services=tuple(sorted(machine.services)),
            mapped=self._mapped(),
            free_bytes=0 if name in self.world.full else 10 * 2**30,
        )

    def _mapped(self) -> tuple[Mapped, ...] | None:
        known = self.world.mapped
        return tuple(Mapped(unit=one, packages=known[one]) for one in sorted(known)) if known else None


@dataclass(frozen=True, slots=True)
class MemoryPackages:
    """``ports.packages.PackageManager``."""

    world: MemoryPackageWorld

    def refresh(self, fleet: Fleet, deadline: timedelta, context: Context) -> tuple[PackageResult, ...]:  # noqa: ARG002  the port's
        """Hosts see what the repository offers by now."""
        with self.world.lock:
            return tuple(self._refresh(name, context) for name in fleet.names)

    def check(self, request: PackageRequest, context: Context) -> tuple[PackageResult, ...]:
        """Compare, change nothing."""
        return self._each("check", request, context)

    def apply(self, request: PackageRequest, context: Context) -> tuple[PackageResult, ...]:
        """Make the moves."""
        return self._each("apply", request, context)

    def rollback(self, request: PackageRequest, context: Context) -> tuple[PackageResult, ...]:
        """Make them from kept files or the repository."""
        return self._each("rollback", request, context)

    def _refresh(self, name: str, context: Context) -> PackageResult:
        self.world.called("refresh", name, context)
        if (reach := self.world.answers(name)) is not Reach.OK:
            return PackageResult(host=name, fate=PackageFate.UNREACHABLE, detail=str(reach))
        self.world.read_lists(self.world.machines[name])
        return PackageResult(host=name, fate=PackageFate.DONE)

    def _each(self, verb: str, request: PackageRequest, context: Context) -> tuple[PackageResult, ...]:
        with self.world.lock:
            return tuple(self._one(verb, name, request, context) for name in request.fleet.names)

    def _one(self, verb: str, name: str, request: PackageRequest, context: Context) -> PackageResult:
        self.world.called(verb, name, context)
        if (reach := self.world.answers(name)) is not Reach.OK:
            return PackageResult(host=name, fate=PackageFate.UNREACHABLE, detail=str(reach))
        machine, moves = self.world.machines[name], request.moves.get(name, ())
        if verb != "check" and not _fence(machine, request, context):
            return PackageResult(host=name, fate=PackageFate.REFUSED, trouble=Trouble.FENCED)
        todo = [one for one in moves if not _is_there(machine, one)]
        trouble, detail = self._refusal(verb, name, todo)
        if trouble is not Trouble.NONE:
            return PackageResult(
                host=name, fate=PackageFate.REFUSED, trouble=trouble, detail=detail, broken=_broken(machine)
            )
        if verb == "check":
            return PackageResult(host=name, fate=PackageFate.DONE if todo else PackageFate.NOTHING)
        missing = self._keep(machine, todo) if verb == "apply" and request.keep_former else []
        if missing and request.former_required:
            trouble, detail = Trouble.NO_FORMER, f"{missing[0].name} {missing[0].before}"
            return PackageResult(host=name, fate=PackageFate.REFUSED, trouble=trouble, detail=detail)
        return self._make(name, request, todo)

    @staticmethod
    def _keep(machine: MemoryMachine, todo: Sequence[Move]) -> list[Move]:
        """Keep the files of former versions; returns the moves whose file cannot be had."""
        offered = {(one.name, one.version) for one in machine.lists}
        machine.kept.update({(one.name, one.before) for one in todo} & offered)
        return [one for one in todo if (one.name, one.before) not in machine.kept]

    def _refusal(self, verb: str, name: str, todo: Sequence[Move]) -> tuple[Trouble, str]:
        if todo and name in self.world.locked:
            return Trouble.LOCKED, "Could not get lock /var/lib/dpkg/lock-frontend"
        if todo and name in self.world.full:
            return Trouble.NO_ROOM, "0 KiB are free"
        machine, asked = self.world.machines[name], {one.name for one in todo}
        told = (self._obstacle(verb, machine, move) for move in todo)
        wider = (self.world.wider[one] for one in sorted(asked & self.world.wider.keys()))
        extra = [(Trouble.WIDER, other) for other in wider if other not in asked]
        return next((one for one in (*told, *extra) if one is not None), (Trouble.NONE, ""))

    def _obstacle(self, verb: str, machine: MemoryMachine, move: Move) -> tuple[Trouble, str] | None:
        """Why one move cannot be made, or None."""
        there = machine.installed.get(move.name)
        # half-installed at the version that is wanted is nobody else's doing
        known = {move.before} if there is None or there.well else {move.before, move.after}
        if there is None or (there.version not in known and (verb != "rollback" or there.well)):
            return Trouble.MOVED, f"{move.name} is {there.version if there else 'not installed'}"
        if verb == "rollback" and (move.name, move.after) in machine.kept:
            return None
        if (offer := self._offer(machine, move)) is None:
            return Trouble.NO_FORMER if verb == "rollback" else Trouble.VANISHED, f"{move.name} {move.after}"
        if move.digest not in {"", offer.digest}:
            return Trouble.DIGEST, f"{move.name} {move.after} is offered as {offer.digest}"
        return None

    def _offer(self, machine: MemoryMachine, move: Move) -> Offered | None:
        """What the host has read of a version that the repository still has."""
        known = (one for one in machine.lists if (one.name, one.version) == (move.name, move.after))
        return next((one for one in known if one in self.world.repository), None)

    def _make(self, name: str, request: PackageRequest, todo: Sequence[Move]) -> PackageResult:
        machine = self.world.machines[name]
        moves = request.moves.get(name, ())
        mine = machine.made.setdefault(request.run, set())
        fate, trouble = PackageFate.DONE, Trouble.NONE
        for number, move in enumerate((*todo, None)):
            if self.world.dies.get(name) == number:
                del self.world.dies[name]
                return PackageResult(host=name, fate=PackageFate.UNKNOWN, detail="the connection was lost")
            if move is None:
                break
            mine.add((move.name, move.after))
            if not self._install(machine, move):
                fate, trouble = PackageFate.FAILED, Trouble.BROKEN
                break
        made = tuple(one for one in moves if (one.name, one.after) in mine and _is_there(machine, one))
        machine.pins.update({one.name: one.after for one in moves if _is_there(machine, one)})
        return PackageResult(
            host=name,
            fate=PackageFate.NOTHING if fate is PackageFate.DONE and not made else fate,
            trouble=trouble,
            made=made,
            broken=_broken(machine),
            former=tuple(one.name for one in moves if (one.name, one.before) in machine.kept),
        )

    def _install(self, machine: MemoryMachine, move: Move) -> bool:
        well = (move.name, move.after) not in self.world.broken
        there = machine.installed[move.name]
        new = next((one for one in machine.lists if (one.name, one.version) == (move.name, move.after)), None)
        machine.installed[move.name] = replace(
            there,
            version=move.after,
            source_version=new.source_version if new else move.after,
            status="ii" if well else "iF",
        )
        if well and (why := self.world.reboots.get(move.name)) and why not in machine.reboot_why:
            machine.reboot_why.append(why)
        if well and move.name in self.world.restarts:
            machine.services.add(self.world.restarts[move.name])
        return well


@dataclass(frozen=True, slots=True)
class MemoryRestarter:
    """``ports.packages.Restarter``."""

    world: MemoryPackageWorld

    def reboot(self, request: Restart, context: Context) -> tuple[RestartResult, ...]:
        """A new life for each host that still has the one before."""
        with self.world.lock:
            return tuple(self._reboot(name, request, context) for name in request.fleet.names)

    def services(self, request: Restart, context: Context) -> tuple[RestartResult, ...]:
        """The units run on the new files."""
        with self.world.lock:
            return tuple(self._services(name, request, context) for name in request.fleet.names)

    def await_back(self, request: Restart, context: Context) -> tuple[RestartResult, ...]:
        """Whether each host has another life."""
        with self.world.lock:
            return tuple(self._back("await", name, request, context) for name in request.fleet.names)

    def _reboot(self, name: str, request: Restart, context: Context) -> RestartResult:
        machine = self.world.machines[name]
        before = request.boots.get(name)
        if self.world.answers(name) is Reach.OK and (before is None or not machine.boot.after(before)):
            self.begin_life(name)
        return self._back("reboot", name, request, context)

    def begin_life(self, name: str) -> None:
        """Restart a machine, as a BMC would."""
        machine = self.world.machines[name]
        if name not in self.world.stays_down:
            machine.lives.append(_life(len(machine.lives) + 1))
            machine.reboot_why.clear()
            machine.services.clear()

    def _back(self, verb: str, name: str, request: Restart, context: Context) -> RestartResult:
        self.world.called(verb, name, context)
        boot, before = self.world.machines[name].boot, request.boots.get(name)
        if self.world.answers(name) is not Reach.OK or name in self.world.stays_down:
            return RestartResult(host=name, ok=False, detail="it did not come back in time")
        ok = before is None or boot.after(before)
        proof = f"{before.boot_id if before else '?'} became {boot.boot_id}" if ok else ""
        return RestartResult(
            host=name, ok=ok, boot=boot, proof=proof, detail="" if ok else "it still has the life before"
        )

    def _services(self, name: str, request: Restart, context: Context) -> RestartResult:
        self.world.called("services", name, context)
        if (reach := self.world.answers(name)) is not Reach.OK:
            return RestartResult(host=name, ok=False, detail=str(reach))
        machine, units = self.world.machines[name], request.units.get(name, ())
        machine.services.difference_update(set(units) - self.world.stubborn)
        left = sorted(set(units) & self.world.stubborn)
        return RestartResult(
            host=name,
            ok=not left,
            boot=machine.boot,
            proof=f"active: {', '.join(units)}" if not left else "",
            detail=f"not active: {', '.join(left)}" if left else "",
        )


def _life(number: int) -> Boot:
    return Boot(boot_id=f"boot-{number}", init_started=number)


def _fence(machine: MemoryMachine, request: PackageRequest, context: Context) -> bool:
    """Whether our token is not too small; the host keeps it."""
    if not request.fence or not context.token:
        return True
    if machine.fences.get(request.fence, 0) > context.token:
        return False
    machine.fences[request.fence] = context.token
    return True


def _is_there(machine: MemoryMachine, move: Move) -> bool:
    there = machine.installed.get(move.name)
    return there is not None and there.version == move.after and there.well


def _broken(machine: MemoryMachine) -> tuple[str, ...]:
    return tuple(f"{name}: half configured" for name, one in sorted(machine.installed.items()) if not one.well)
