"""A machine's firmware over Redfish: read, compare, act, verify by reading. It changes the one component that it is
asked for, and the power state where an update or its caller needs that."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from ismgr_automation.core.diagnostic import did_you_mean
from ismgr_automation.core.errors import Cancelled, EngineError, EngineTimedOut, Throttled, Unreachable
from ismgr_automation.engines.redfish import Bmc, Power, System, Timeouts
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.secrets import SecretStore
from ismgr_automation.ports.upkeep import BmcAccess, FirmwareItem, FirmwareResult, FirmwareUpdate

POLL = timedelta(seconds=1)
"""Between two looks at a task, unless the BMC asks for another time."""

POLITE = timedelta(seconds=20)
"""How long a machine that is power-cycled may take to shut down by itself before power is cut."""

WORKS = frozenset({"New", "Starting", "Running", "Pending", "Service", "Stopping", "Cancelling", "Suspended", ""})
"""States of a task that is not at its end; every other one but ``Completed`` is a failure."""

ACTION = "#UpdateService.SimpleUpdate"
GRACEFUL, SHUTDOWN = "GracefulRestart", "GracefulShutdown"
"""Resets that ask the operating system."""
RESTARTS = (GRACEFUL, "ForceRestart")
_RESET_ASKED = re.compile(r"(Reset|Reboot|Restart|PowerCycle)(Is)?Required|AwaitToActivate")
"""In the MessageId of a task's messages: DMTF's own, and those that makers use."""

_AWAY = (Unreachable, EngineTimedOut, Throttled)
"""A BMC that updates itself is not there for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """How a task ended. ``words`` are its last message."""

    ok: bool
    words: str
    wants_reset: bool = False


class RedfishUpkeep:
    """Implements ``ports.upkeep.MachineUpkeep``. Raises ``CredentialRejected``, ``Unreachable``, ``Throttled``,
    ``EngineTimedOut``, ``EngineFailed``, ``Cancelled``, and ``InputError`` for a password that is not there."""

    def __init__(self, store: SecretStore, timeouts: Timeouts | None = None) -> None:
        self._store = store
        self._timeouts = timeouts or Timeouts()

    def inventory(self, bmc: BmcAccess, context: Context) -> Sequence[FirmwareItem]:
        """What firmware the machine has; one request for each entry."""
        with self._connect(bmc, context) as machine:
            return tuple(item for _, item in machine.firmware())

    def update(self, update: FirmwareUpdate, context: Context) -> FirmwareResult:
        """Bring one component to one version; nothing is done where it has that already.

        The image is fetched by the BMC itself. The task is followed to its end, through a BMC that is away meanwhile;
        the machine is restarted only where the task asks for it and the machine is on. An update that fails is a
        result; so is one that the BMC calls complete and whose version does not follow before the deadline.
        """
        began = monotonic()
        with self._connect(update.bmc, context) as machine:
            return _Update(machine, update, context, began).run()

    def restart(self, bmc: BmcAccess, within: timedelta, context: Context) -> str:
        """Order a GracefulRestart; where the BMC offers none, a GracefulShutdown and, when that is over, On. Never a
        reset that asks nobody. ``within`` bounds each wait for a power state."""
        with self._connect(bmc, context, shutdown=within, change=within) as machine:
            return f"{machine.restart_gracefully()} through the BMC of {bmc.machine}"

    def power_cycle(self, bmc: BmcAccess, within: timedelta, context: Context) -> str:
        """Off - asked for first, cut after a while - and on again; returns how it went, in words."""
        polite = min(POLITE, within / 4)
        with self._connect(bmc, context, shutdown=polite, change=within) as machine:
            began = monotonic()
            before = machine.power()
            if before is not Power.OFF:
                machine.switch(Power.OFF)
            off = monotonic() - began
            machine.switch(Power.ON)
            on = monotonic() - began
        return f"{bmc.machine} was {before}, off after {off:.1f} s, on again after {on:.1f} s"

    def _connect(self, bmc: BmcAccess, context: Context, **waits: timedelta) -> _Machine:
        return _Machine(
            Bmc(
                subject=bmc.machine,
                url=bmc.address.rstrip("/"),
                username=bmc.username,
                password=self._store.open(bmc.password),
                ca=bmc.ca,
                system=bmc.system,
                timeouts=replace(self._timeouts, **waits),
            ),
            context.cancelled,
        )


class _Machine(System):
    """A system with its firmware. Answers are read as JSON: sushy's task monitor forgets the task, and with it how it
    ended, as soon as the BMC stops to answer 202."""

    def firmware(self) -> tuple[tuple[str, FirmwareItem], ...]:
        """Each entry after its path."""
        with self._translated():
            service = self._service()
            listed = self._json(service["FirmwareInventory"]["@odata.id"])
            paths = [str(one["@odata.id"]) for one in listed["Members"]]
            return tuple((path, _item(self._json(path))) for path in paths)

    def component(self, name: str) -> tuple[str, FirmwareItem]:
        """The entry with this id, or with this name, and its path."""
        found = self.firmware()
        for path, item in found:
            if name in {item.id, item.name}:
                return path, item
        known = [item.id for _, item in found]
        close = did_you_mean(name, known)
        hint = f" (did you mean {close!r}?)" if close else f"; there are: {', '.join(known) or 'none'}"
        raise self._failed(f"knows no firmware {name!r}{hint}", "Correct the component.")

    def begin(self, image: str, target: str) -> str | None:
        """Order the update; where its task can be followed, None when the BMC has done it at once. Never repeated."""
        with self._translated():
            action = self._service()["Actions"].get(ACTION)
            if not action:
                raise self._failed("offers no SimpleUpdate", "Update this machine by hand.")
            body = {"ImageURI": image, "TransferProtocol": urlsplit(image).scheme.upper(), "Targets": [target]}
            answer = self._connector.post(action["target"], data=body)
            told = _object(answer)
            where = answer.headers.get("Location") or told.get("@odata.id") or told.get("TaskMonitor")
            return str(where) if where else None

    def look(self, task: str) -> _End | None:
        """How a task ended; None while it works."""
        with self._translated():
            answer = self._connector.get(task)
            told = _object(answer)
        state = str(told.get("TaskState") or "")
        if answer.status_code == HTTPStatus.ACCEPTED or ("TaskState" in told and state in WORKS):
            return None
        messages = [one for one in told.get("Messages") or () if isinstance(one, Mapping)]
        asked = any(_RESET_ASKED.search(str(one.get("MessageId"))) for one in messages)
        words = next((str(one["Message"]) for one in reversed(messages) if one.get("Message")), "")
        # a monitor may answer with what the action itself would have: then it is done
        ended = state in {"", "Completed"}
        return _End(ok=ended, words=words or f"the task is {state or 'over'}", wants_reset=asked)

    def restart(self) -> bool:
        """Restart a machine that is on, once; whether it was on."""
        if self.power() is not Power.ON:
            return False
        with self._translated():
            allowed = {kind.value: kind for kind in self._system.get_allowed_reset_system_values()}
        kind = next((allowed[name] for name in RESTARTS if name in allowed), None)
        if kind is None:
            self.switch(Power.OFF)
            self.switch(Power.ON)
            return True
        with self._translated(), self._raw():
            self._system.reset_system(kind)
        return True

    def restart_gracefully(self) -> str:
        """Ask a machine that is on to restart, once; returns the reset that was ordered."""
        with self._translated():
            allowed = {kind.value: kind for kind in self._system.get_allowed_reset_system_values()}
        found = self.power()
        if found is not Power.ON:
            raise self._failed(f"says that the machine is {found}", "Switch it on: what does not run cannot restart.")
        if GRACEFUL in allowed:
            with self._translated(), self._raw():
                self._system.reset_system(allowed[GRACEFUL])
            return GRACEFUL
        if not {SHUTDOWN, "On"} <= set(allowed):
            offers = ", ".join(sorted(allowed)) or "none"
            raise self._failed(
                f"offers no reset that asks the operating system first: it offers {offers}",
                "Restart the host `through: systemd`, or by hand.",
            )
        self._reset_until(Power.OFF, (SHUTDOWN,), self._bmc.timeouts.shutdown)
        self.switch(Power.ON)
        return f"{SHUTDOWN} and On"

    def _service(self) -> dict[str, Any]:
        path = self._root.json.get("UpdateService", {}).get("@odata.id")
        if not path:
            raise self._failed("has no update service", "Update this machine by hand.")
        return self._json(path)

    def _json(self, path: str) -> dict[str, Any]:
        return _object(self._connector.get(path))


class _Update:
    """One update of one component."""

    def __init__(self, machine: _Machine, update: FirmwareUpdate, context: Context, began: float) -> None:
        self.machine, self.update, self.context, self.began = machine, update, context, began
        self.path, self.found = machine.component(update.component)
        self.reset = False
        self.unread = ""
        """Why the version could not be read when it was looked at last."""

    def run(self) -> FirmwareResult:
        """Compare, act, verify."""
        update, found = self.update, self.found
        if found.version == update.version:
            return self._result(ok=True, after=found.version, detail="it has this version already")
        if not found.updateable:
            return self._result(ok=False, after=found.version, detail="the BMC says that it cannot be updated")
        task = self._begin()
        end = self._follow(task) if task else _End(ok=True, words="the BMC answered that it is done")
        if end is None:
            return self._result(ok=False, after=self._version(), detail=f"the task {task} works still")
        if not end.ok:
            return self._result(ok=False, after=self._version(), detail=f"the task failed: {end.words}")
        if end.wants_reset and self._version() != update.version:
            refused = self._restart()
            if refused:
                return self._result(ok=False, after=self._version(), detail=f"{end.words} {refused}".strip())
        return self._verify(end)

    def _begin(self) -> str | None:
        """Order it. A BMC that is busy, perhaps with the same order of somebody who died, did not take the order."""
        while True:
            try:
                return self.machine.begin(self.update.image, self.path)
            except Throttled:
                if self._late():
                    raise
            self._wait()
            if self._version() == self.update.version:
                return None

    def _restart(self) -> str:
        """Restart the machine; why it was not, empty when it was."""
        try:
            self.reset = self.machine.restart()
        except EngineError as error:
            return f"The machine could not be restarted: {error.summary}"
        return "" if self.reset else "The machine is off, and takes it over when it is started."

    def _follow(self, task: str) -> _End | None:
        """The end of the task, None when it does not come before the deadline."""
        while True:
            try:
                end = self.machine.look(task)
            except _AWAY:
                end = None
            except EngineError as error:
                # a BMC that restarted may have forgotten its tasks: the version tells
                return _End(ok=True, words=f"the task cannot be followed: {error.summary}")
            if end is not None or self._late():
                return end
            self._wait()

    def _verify(self, end: _End) -> FirmwareResult:
        """Read until it is so: a new version may show only when the machine or its BMC is up again."""
        while True:
            after = self._version()
            if after == self.update.version:
                return self._result(ok=True, after=after, detail=end.words)
            if self._late():
                seen = f"the BMC still shows {after!r}" if after else f"the version cannot be read: {self.unread}"
                return self._result(ok=False, after=after, detail=f"{end.words} - {seen}")
            self._wait()

    def _version(self) -> str:
        """As the BMC tells it now; empty while it is away."""
        try:
            return self.machine.component(self.update.component)[1].version
        except EngineError as error:
            self.unread = error.summary
            return ""

    def _late(self) -> bool:
        return monotonic() - self.began > self.update.deadline.total_seconds()

    def _wait(self) -> None:
        if self.context.cancelled.wait(POLL.total_seconds()):
            raise Cancelled(
                f"Stopped by request while {self.update.component} of {self.update.bmc.machine} was updated; the BMC "
                "goes on with it."
            )

    def _result(self, *, ok: bool, after: str, detail: str) -> FirmwareResult:
        return FirmwareResult(
            machine=self.update.bmc.machine,
            ok=ok,
            before=self.found.version,
            after=after,
            detail=detail,
            reset=self.reset,
            seconds=round(monotonic() - self.began, 3),
        )


def _item(told: Mapping[str, Any]) -> FirmwareItem:
    return FirmwareItem(
        id=str(told["Id"]),
        name=str(told.get("Name") or told["Id"]),
        version=str(told.get("Version") or ""),
        updateable=told.get("Updateable") is not False,
    )


def _object(answer: Any) -> dict[str, Any]:
    """The JSON object of an answer; empty when it has none."""
    told = answer.json() if answer.content else {}
    return told if isinstance(told, dict) else {}
