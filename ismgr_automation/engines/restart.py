"""Restarts hosts and services through systemd over SSH, and proves it by the boot before and after. It starts nothing
that was not asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.engines.ssh.remote import Answer, Job, Rights, Targets, run_on
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.packages import Boot, Restart, RestartResult
from ismgr_automation.ports.secrets import SecretStore

POLL = (0.5, 0.5, 1.0, 1.0, 2.0, 3.0, 5.0)
"""Seconds between two looks at hosts that are on their way; the last one repeats."""

SETTLED = frozenset({"running", "degraded"})
"""What ``systemctl is-system-running`` says of a host that has come up."""

_FIRST = """
export LC_ALL=C
boot() {
  echo "boot $(cat /proc/sys/kernel/random/boot_id)"
  set -- $(sed 's/.*) //' /proc/1/stat)
  echo "init ${20}"
}
"""

_LOOK = f"""{_FIRST}
boot
state=$(systemctl is-system-running 2>/dev/null)
echo "state $state"
if [ "$state" = degraded ]; then
  systemctl list-units --failed --plain --no-legend --no-pager | while read -r unit _; do echo "failed $unit"; done
fi
exit 0
"""

_REBOOT = f"""{_FIRST}
boot
command -v systemctl >/dev/null 2>&1 || {{ echo 'no systemctl: systemd does not run this host' >&2; exit 3; }}
# a second later, so that this connection ends well before the host goes down
setsid sh -c 'sleep 1; exec systemctl reboot' >/dev/null 2>&1 </dev/null &
"""

_SERVICES = f"""{_FIRST}
boot
seconds=$1; shift
said=$(systemctl restart -- "$@" 2>&1) || echo "$said" >&2
end=$(($(date +%s) + seconds))
for unit; do
  while state=$(systemctl show -p ActiveState --value -- "$unit"); [ "$state" = activating ]; do
    [ "$(date +%s)" -lt "$end" ] || break
    sleep 0.2
  done
  # a unit that runs once and ends well is inactive afterwards
  if [ "$state" = inactive ] && [ "$(systemctl show -p Type --value -- "$unit")" = oneshot ] &&
     [ "$(systemctl show -p Result --value -- "$unit")" = success ]; then state=active; fi
  echo "unit $unit $state"
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Life:
    """A host as it answers now."""

    boot: Boot
    state: str = ""
    failed: tuple[str, ...] = ()


class SystemdRestarter:
    """Implements ``ports.packages.Restarter``."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def reboot(self, request: Restart, context: Context) -> tuple[RestartResult, ...]:
        """Order the restart, and wait until each host answers in another life and systemd has started all it is to.

        A host that has another life than ``request.boots`` says is not restarted again. One that is ``degraded``
        afterwards is back, with the units that failed in ``detail``. Raises ``InputError`` for hosts that cannot be
        connected to by their description, ``Cancelled``: an order that was given stays given.
        """
        work = _Work(request, self._store, context)
        work.look(request.fleet.names)
        known = [name for name in request.fleet.names if name in work.lives or name in request.boots]
        work.before |= {name: work.lives[name].boot for name in known if name not in work.before}
        again = [name for name in known if name in work.lives and not work.in_another_life(name)]
        work.order(again)
        return work.back([name for name in known if name not in work.refused])

    def await_back(self, request: Restart, context: Context) -> tuple[RestartResult, ...]:
        """Wait, as ``reboot`` does, for hosts that somebody else restarts; ``request.boots`` must know each of them.

        Raises ``InputError`` for hosts that cannot be connected to by their description, ``Cancelled``.
        """
        work = _Work(request, self._store, context)
        return work.back([name for name in request.fleet.names if name in work.before])

    def services(self, request: Restart, context: Context) -> tuple[RestartResult, ...]:
        """Restart the units of each host, and see that they are active; a host without units is left alone.

        Raises ``InputError`` for hosts that cannot be connected to by their description, ``Cancelled``.
        """
        wanted: dict[tuple[str, ...], list[str]] = {}
        for name in request.fleet.names:
            wanted.setdefault(tuple(request.units.get(name, ())), []).append(name)
        found: dict[str, RestartResult] = {name: RestartResult(host=name, ok=True) for name in wanted.pop((), [])}
        seconds = str(int(request.within.total_seconds()))
        for units, names in wanted.items():
            work = _Work(request, self._store, context)
            answers = work.run(names, _SERVICES, seconds, *units, deadline=request.within + timedelta(seconds=30))
            found |= {one.host: _services_of(one, work.seconds()) for one in answers}
        return tuple(found[name] for name in request.fleet.names)


class _Work:
    """One call on hosts that restart: what each was before, and what was seen of it last."""

    def __init__(self, request: Restart, store: SecretStore, context: Context) -> None:
        self.request, self.store, self.context = request, store, context
        self.before: dict[str, Boot] = dict(request.boots)
        self.lives: dict[str, _Life] = {}
        self.silent: dict[str, str] = {}
        """Why a host did not answer when it was looked at last."""
        self.refused: dict[str, str] = {}
        """Hosts that would not take the order."""
        self.began = monotonic()

    def seconds(self) -> float:
        return round(monotonic() - self.began, 3)

    def in_another_life(self, name: str) -> bool:
        return name in self.lives and self.lives[name].boot.after(self.before[name])

    def run(self, names: Sequence[str], script: str, *arguments: str, deadline: timedelta) -> tuple[Answer, ...]:
        fleet = self.request.fleet
        job = Job(
            script=script,
            arguments=arguments,
            rights=Rights.ROOT,
            become_password=fleet.become_password,
            deadline=deadline,
        )
        return run_on(Targets(hosts=fleet.hosts, names=names, ssh=fleet.ssh), job, self.store, self.context.cancelled)

    def look(self, names: Sequence[str]) -> None:
        for answer in self.run(names, _LOOK, deadline=timedelta(seconds=15)):
            life = _read(answer)
            if isinstance(life, _Life):
                self.lives[answer.host] = life
                self.silent.pop(answer.host, None)
            else:
                self.silent[answer.host] = life

    def order(self, names: Sequence[str]) -> None:
        for answer in self.run(names, _REBOOT, deadline=timedelta(seconds=15)):
            # a host that breaks the connection is going down: whether it does is seen by looking
            if answer.reach is Reach.SUDO or (answer.reach is Reach.OK and answer.code):
                self.refused[answer.host] = answer.detail or f"the order ended with {answer.code}"

    def back(self, names: Sequence[str]) -> tuple[RestartResult, ...]:
        """Look until all of these are up in another life, or the time is over."""
        came: dict[str, float] = {}
        end = monotonic() + self.request.within.total_seconds()
        waiting = list(names)
        for pause in _pauses():
            self.look(waiting)
            came |= {name: self.seconds() for name in waiting if self._settled(name)}
            waiting = [name for name in waiting if name not in came]
            if not waiting or monotonic() > end:
                break
            _sleep(self.context.cancelled, min(pause, max(0.0, end - monotonic())))
        return tuple(self._result(name, came) for name in self.request.fleet.names)

    def _settled(self, name: str) -> bool:
        return name not in self.silent and self.in_another_life(name) and self.lives[name].state in SETTLED

    def _result(self, name: str, came: Mapping[str, float]) -> RestartResult:
        life = self.lives.get(name)
        if name in self.refused:
            return RestartResult(host=name, ok=False, detail=f"it does not take the order: {self.refused[name]}")
        if name not in self.before:
            why = self.silent.get(name, "nobody knows its life before")
            return RestartResult(host=name, ok=False, detail=f"nothing was ordered: {why}")
        seconds = came.get(name, self.seconds())
        if life is None or not self.in_another_life(name):
            why = self.silent.get(name, "it answers in the same life as before")
            detail = f"not back after {seconds:.0f} s: {why}"
            boot = life.boot if life else None
            return RestartResult(host=name, ok=False, boot=boot, detail=detail, seconds=seconds)
        failed = f"degraded, failed: {', '.join(life.failed) or 'nobody says what'}" if life.state == "degraded" else ""
        late = f"in another life, and after {seconds:.0f} s {self.silent.get(name) or f'still {life.state!r}'}"
        return RestartResult(
            host=name,
            ok=name in came,
            boot=life.boot,
            proof=_proof(self.before[name], life.boot),
            detail=failed if name in came else late,
            seconds=seconds,
        )


def _read(answer: Answer) -> _Life | str:
    if answer.reach is not Reach.OK:
        return f"cannot be reached ({answer.reach}): {answer.detail}"
    boot = _boot(answer.output)
    if boot is None:
        return f"it does not say when it was started: {answer.detail}"
    state = next(iter(_rows(answer.output, "state")), "")
    return _Life(boot=boot, state=state or "unknown", failed=tuple(_rows(answer.output, "failed")))


def _boot(output: str) -> Boot | None:
    ids, started = _rows(output, "boot"), _rows(output, "init")
    if not ids or not started or not started[0].isdigit():
        return None
    return Boot(boot_id=ids[0], init_started=int(started[0]))


def _rows(output: str, word: str) -> list[str]:
    return [line.removeprefix(f"{word} ").strip() for line in output.splitlines() if line.startswith(f"{word} ")]


def _services_of(answer: Answer, seconds: float) -> RestartResult:
    if answer.reach is not Reach.OK:
        detail = f"cannot be reached ({answer.reach}): {answer.detail}"
        return RestartResult(host=answer.host, ok=False, detail=detail, seconds=seconds)
    rows = (row.partition(" ") for row in _rows(answer.output, "unit"))
    states = {unit: state or "unknown" for unit, _, state in rows}
    wrong = [f"{unit} is {state}" for unit, state in states.items() if state not in {"active", "reloading"}]
    detail = "; ".join([*wrong, answer.detail] if wrong else [])
    return RestartResult(
        host=answer.host,
        ok=bool(states) and not wrong,
        boot=_boot(answer.output),
        proof="active: " + ", ".join(unit for unit in states) if states and not wrong else "",
        detail=detail.removesuffix("; ") if states else f"systemd did not say how its units are: {answer.detail}",
        seconds=seconds,
    )


def _proof(before: Boot, now: Boot) -> str:
    if before.boot_id != now.boot_id:
        return f"boot id {before.boot_id} before, {now.boot_id} now"
    if before.init_started != now.init_started:
        return f"PID 1 started at tick {before.init_started} before, {now.init_started} now"
    return ""


def _pauses() -> Iterator[float]:
    yield from POLL
    while True:
        yield POLL[-1]


def _sleep(cancelled: threading.Event, seconds: float) -> None:
    if cancelled.wait(seconds):
        raise Cancelled("Waiting for hosts to come back was stopped on request.")
