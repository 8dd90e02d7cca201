"""A reader of facts, a package manager and a restarter in memory, over a small world of hosts with packages, what
repositories offer them, and what goes wrong. No package is installed anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach, Reachability
from ismgr_automation.ports.memory.package_world import MemoryMachine, MemoryPackageWorld, life
from ismgr_automation.ports.packages import (
    Brought,
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
        coming = {needed for names in self.world.needs.values() for needed in names}

        def has(offer: Offered) -> str:
            return there[offer.name].version if offer.name in there else ""

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
            offered=tuple(
                one for one in machine.lists if (one.name in there or one.name in coming) and one.version != has(one)
            ),
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
        brings = self._brings(machine, todo) if verb != "rollback" else ()
        trouble, detail = self._refusal(verb, name, todo)
        if trouble is Trouble.NONE and brings:
            trouble, detail = Trouble.WIDER, ",".join(f"{one.name}={one.version}" for one in brings)
        elif trouble is not Trouble.NONE:
            brings = ()
        if trouble is not Trouble.NONE:
            return PackageResult(
                host=name,
                fate=PackageFate.REFUSED,
                trouble=trouble,
                detail=detail,
                broken=_broken(machine),
                brings=brings if verb == "check" else (),
            )
        if verb == "check":
            return PackageResult(host=name, fate=PackageFate.DONE if todo else PackageFate.NOTHING)
        missing = self._keep(machine, todo) if verb == "apply" and request.keep_former else []
        if missing and request.former_required:
            trouble, detail = Trouble.NO_FORMER, f"{missing[0].name} {missing[0].before}"
            return PackageResult(host=name, fate=PackageFate.REFUSED, trouble=trouble, detail=detail)
        return self._make(verb, name, request, todo)

    @staticmethod
    def _keep(machine: MemoryMachine, todo: Sequence[Move]) -> list[Move]:
        """Keep the files of former versions; returns the moves whose file cannot be had."""
        offered = {(one.name, one.version) for one in machine.lists}
        replaced = [one for one in todo if one.before]
        machine.kept.update({(one.name, one.before) for one in replaced} & offered)
        return [one for one in replaced if (one.name, one.before) not in machine.kept]

    def _brings(self, machine: MemoryMachine, todo: Sequence[Move]) -> tuple[Brought, ...]:
        """What is needed, not installed and not asked for, with what that needs in turn."""
        asked = {one.name for one in todo}
        found: dict[str, Offered] = {}
        needed_by: dict[str, set[str]] = {}
        left = [(one.name, one.after) for one in todo]
        for key in left:
            for name in self.world.needs.get(key, ()):
                if name in machine.installed or name in asked:
                    continue
                needed_by.setdefault(name, set()).add(key[0])
                if name not in found:
                    found[name] = next(one for one in reversed(machine.lists) if one.name == name)
                    left.append((name, found[name].version))
        return tuple(
            Brought(
                name=name,
                architecture=one.architecture,
                version=one.version,
                offers=(one,),
                needed_by=tuple(sorted(needed_by[name])),
            )
            for name, one in sorted(found.items())
        )

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
        if there is None and not move.before:
            return self._unavailable(verb, machine, move)
        # half-installed at the version that is wanted is nobody else's doing
        known = {move.before} if there is None or there.well else {move.before, move.after}
        if there is None or (there.version not in known and (verb != "rollback" or there.well)):
            return Trouble.MOVED, f"{move.name} is {there.version if there else 'not installed'}"
        if verb == "rollback" and (move.name, move.after) in machine.kept:
            return None
        return self._unavailable(verb, machine, move)

    def _unavailable(self, verb: str, machine: MemoryMachine, move: Move) -> tuple[Trouble, str] | None:
        """Why the file of a version cannot be had from the repository, or None."""
        if (offer := self._offer(machine, move)) is None:
            return Trouble.NO_FORMER if verb == "rollback" else Trouble.VANISHED, f"{move.name} {move.after}"
        if move.digest not in {"", offer.digest}:
            return Trouble.DIGEST, f"{move.name} {move.after} is offered as {offer.digest}"
        return None

    def _offer(self, machine: MemoryMachine, move: Move) -> Offered | None:
        """What the host has read of a version that the repository still has."""
        known = (one for one in machine.lists if (one.name, one.version) == (move.name, move.after))
        return next((one for one in known if one in self.world.repository), None)

    def _make(self, verb: str, name: str, request: PackageRequest, todo: Sequence[Move]) -> PackageResult:
        machine = self.world.machines[name]
        moves = request.moves.get(name, ())
        mine = machine.made.setdefault(request.run, set())
        new = machine.brought.setdefault(request.run, set())
        new.update(one.name for one in todo if not one.before)
        if verb == "rollback":
            for stray in [one for one in new if one in machine.installed and not machine.installed[one].well]:
                del machine.installed[stray]
        fate, trouble, headline = PackageFate.DONE, Trouble.NONE, ""
        for number, move in enumerate((*todo, None)):
            if self.world.dies.get(name) == number:
                del self.world.dies[name]
                return PackageResult(host=name, fate=PackageFate.UNKNOWN, detail="the connection was lost")
            if move is None:
                break
            mine.add((move.name, move.after))
            if not self._install(machine, move):
                fate, trouble = PackageFate.FAILED, Trouble.BROKEN
                headline = f"installed {move.name} package post-installation script subprocess returned error"
                break
        made = tuple(one for one in moves if (one.name, one.after) in mine and _is_there(machine, one))
        machine.pins.update({one.name: one.after for one in moves if _is_there(machine, one)})
        return PackageResult(
            host=name,
            fate=PackageFate.NOTHING if fate is PackageFate.DONE and not made else fate,
            trouble=trouble,
            detail=f"{headline}\nE: Sub-process dpkg returned an error code (1)" if headline else "",
            headline=headline,
            made=made,
            broken=_broken(machine),
            former=tuple(one.name for one in moves if (one.name, one.before) in machine.kept),
        )

    def _install(self, machine: MemoryMachine, move: Move) -> bool:
        well = (move.name, move.after) not in self.world.broken
        new = next((one for one in machine.lists if (one.name, one.version) == (move.name, move.after)), None)
        machine.installed[move.name] = replace(
            machine.installed.get(move.name) or _named(move),
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
            machine.lives.append(life(len(machine.lives) + 1))
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


def _fence(machine: MemoryMachine, request: PackageRequest, context: Context) -> bool:
    """Whether our token is not too small; the host keeps it."""
    if not request.fence or not context.token:
        return True
    if machine.fences.get(request.fence, 0) > context.token:
        return False
    machine.fences[request.fence] = context.token
    return True


def _named(move: Move) -> Installed:
    """A package that was not there."""
    return Installed(name=move.name, architecture=move.architecture, version="", source=move.name, source_version="")


def _is_there(machine: MemoryMachine, move: Move) -> bool:
    there = machine.installed.get(move.name)
    return there is not None and there.version == move.after and there.well


def _broken(machine: MemoryMachine) -> tuple[str, ...]:
    return tuple(f"{name}: half configured" for name, one in sorted(machine.installed.items()) if not one.well)
