"""A configuration engine, a prober and a verifier in memory. They work on the values of hosts; nobody logs in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ismgr_automation.core.errors import LeaseLost
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import (
    Host,
    PlaybookRequest,
    PlaybookResult,
    Reach,
    Reachability,
    Ssh,
    Status,
    TaskResult,
)
from ismgr_automation.ports.memory.world import MemoryWorld, Task
from ismgr_automation.ports.verification import CheckResult, SuiteRequest, Verdict

ENGINE = "memory-playbooks 1"


@dataclass(frozen=True, slots=True)
class MemoryPlaybookEngine:
    """``ports.hosts.PlaybookEngine``."""

    world: MemoryWorld

    def check(self, request: PlaybookRequest, context: Context) -> PlaybookResult:
        """Compare, set nothing."""
        return self._play("check", request, context)

    def run(self, request: PlaybookRequest, context: Context) -> PlaybookResult:
        """Set the values."""
        return self._play("run", request, context)

    def sweep(self, request: PlaybookRequest, context: Context) -> tuple[str, ...]:  # noqa: ARG002  the port's
        """End ``MemoryWorld.leftovers``; a sentence for each that is ``immortal`` or on a host that does not answer."""
        told: list[str] = []
        with self.world.lock:
            self.world.called("sweep", request.address.name)
            for name in request.limit:
                if self.world.answer(name) is not Reach.OK:
                    told.append(f"{name}: what runs there is not known ({self.world.answer(name)})")
                    continue
                kept = tuple(one for one in self.world.leftovers.pop(name, ()) if one in self.world.immortal)
                told += [f"{name}: pid {number} still runs: {one}" for number, one in enumerate(kept, start=1)]
                if kept:
                    self.world.leftovers[name] = kept
        return tuple(told)

    def read_inventory(self, path: Path, root: Path) -> tuple[Host, ...]:  # noqa: ARG002  the port's
        """The hosts of ``MemoryWorld.inventories``."""
        self.world.called("inventory", path.name)
        return self.world.inventories[path.name]

    def _play(self, verb: str, request: PlaybookRequest, context: Context) -> PlaybookResult:
        with self.world.lock:
            self.world.called(verb, request.address.name, context)
            self.world.limits.append((verb, request.address.name, request.limit))
            if verb == "run":
                self._fence(request, context)
            known = {one.name: one for one in request.inventory}
            tasks = [
                result
                for name in request.limit
                for result in self._host(known[name], request, verb == "run")
                if result.status is not Status.OK or result.unpredictable
            ]
        counts: dict[str, dict[Status, int]] = {name: {} for name in request.limit}
        for one in tasks:
            counts[one.host][one.status] = counts[one.host].get(one.status, 0) + 1
        lost = [one.host for one in tasks if one.status is Status.UNREACHABLE]
        return PlaybookResult(
            tasks=tuple(tasks),
            counts=counts,
            unreachable=tuple(Reachability(host=name, reach=self.world.answer(name)) for name in lost),
            failed=tuple(one.host for one in tasks if one.status is Status.FAILED),
            engine=ENGINE,
        )

    def _fence(self, request: PlaybookRequest, context: Context) -> None:
        if not request.fence or not context.token:
            return
        there = [name for name in request.limit if self.world.answer(name) is Reach.OK]
        for name in there:
            known = self.world.fences.get((name, request.fence), 0)
            if known > context.token:
                raise LeaseLost(
                    f"{name} has seen token {known} of {request.fence}; ours is {context.token}.",
                    next_step="Look with `ismgr runs` who works there now.",
                )
        self.world.fences.update({(name, request.fence): context.token for name in there})

    def _host(self, host: Host, request: PlaybookRequest, really: bool) -> Sequence[TaskResult]:
        found: list[TaskResult] = []
        values = self.world.values.setdefault(host.name, {}) if really else self.world.values.get(host.name, {})
        for line, task in enumerate(self.world.playbooks[request.playbook.name], start=1):
            place = f"{request.playbook.name}:{line}"
            if really and (host.name, task.name) in self.world.dies:
                self.world.reach[host.name] = self.world.dies[host.name, task.name]
            if self.world.answer(host.name) is not Reach.OK:
                return [*found, self._result(host, task, place, Status.UNREACHABLE)]
            if really and (host.name, task.name) in self.world.breaks:
                message = self.world.breaks[host.name, task.name]
                return [*found, self._result(host, task, place, Status.FAILED, message=message)]
            wanted, had = _wanted(task, request.variables, host), values.get(task.name, "")
            if task.unpredictable and not really:
                found.append(self._result(host, task, place, Status.SKIPPED, unpredictable=task.unpredictable))
            elif self._changes(host.name, task.name, wanted != had, really):
                found.append(self._result(host, task, place, Status.CHANGED, before=had, after=wanted))
            if really:
                values[task.name] = wanted
        return found

    def _changes(self, host: str, task: str, differs: bool, really: bool) -> bool:
        if really:
            return (differs or (host, task) in self.world.surprises) and (host, task) not in self.world.idle
        return (differs or (host, task) in self.world.idle) and (host, task) not in self.world.surprises

    @staticmethod
    def _result(
        host: Host,
        task: Task,
        place: str,
        status: Status,
        *,
        unpredictable: str = "",
        before: str = "",
        after: str = "",
        message: str = "",
    ) -> TaskResult:
        return TaskResult(
            host=host.name,
            task=task.name,
            role="memory",
            status=status,
            unpredictable=unpredictable,
            before=before,
            after=after,
            message=message,
            path=place,
        )


def _wanted(task: Task, variables: Mapping[str, object], host: Host) -> str:
    if isinstance(task.value, str):
        return task.value
    seen = {key: "<secret>" if isinstance(value, SecretRef) else value for key, value in variables.items()}
    return task.value(seen, host)


@dataclass(frozen=True, slots=True)
class MemoryProber:
    """``ports.hosts.Prober``."""

    world: MemoryWorld

    def probe(
        self,
        hosts: Sequence[Host],
        ssh: Ssh,  # noqa: ARG002  the port's
        become: bool,  # noqa: ARG002  the port's
        context: Context,
    ) -> tuple[Reachability, ...]:
        """What each host answers; one that boots refuses, and is nearer to being up afterwards."""
        with self.world.lock:
            self.world.called("probe", ",".join(one.name for one in hosts), context)
            return tuple(self._one(one.name) for one in hosts)

    def _one(self, name: str) -> Reachability:
        reach = self.world.answer(name)
        left = self.world.booting.get(name, 0)
        if reach is Reach.OK and left > 0:
            self.world.booting[name] = left - 1
            return Reachability(host=name, reach=Reach.REFUSED, detail="it is booting")
        return Reachability(host=name, reach=reach)


@dataclass(frozen=True, slots=True)
class MemoryVerifier:
    """``ports.verification.Verifier``. Each suite is one check: the host answers and is not ``unhealthy``."""

    world: MemoryWorld

    def verify(self, request: SuiteRequest, context: Context) -> tuple[CheckResult, ...]:
        """One result for each host and suite."""
        with self.world.lock:
            names = sorted(one.name for one in request.hosts)
            self.world.called("verify", ",".join(names), context)
            found = [self._check(name, path.name) for name in names for path in request.suites]
        return tuple(sorted(found, key=lambda one: (one.host, one.suite, one.check)))

    def _check(self, name: str, suite: str) -> CheckResult:
        verdict, message = Verdict.PASSED, ""
        if self.world.answer(name) is not Reach.OK:
            verdict, message = Verdict.ERROR, "the host does not answer"
        elif name in self.world.unhealthy:
            verdict, message = Verdict.FAILED, "it is not healthy"
        return CheckResult(host=name, suite=suite, check="is_healthy", verdict=verdict, seconds=0.0, message=message)
