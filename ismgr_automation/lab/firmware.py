"""The firmware of one machine as its BMC keeps it: an inventory, and updates that a task fetches, verifies and applies.
What a new BIOS waits for - the next boot - is told by the BMC; nothing here resets a machine."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

from ismgr_automation.lab.faults import Fault, Kind

FORMAT = "ismgr.firmware/1"
VERSIONS: Mapping[str, str] = MappingProxyType({"BIOS": "2.17.0", "BMC": "4.40.10", "NIC.1": "22.00.6"})
"""What a new machine has, by the Id in the inventory."""
NAMES: Mapping[str, str] = MappingProxyType({"BIOS": "System BIOS", "BMC": "Management controller", "NIC.1": "NIC"})
AT_NEXT_BOOT = frozenset({"BIOS"})
_STEP_SECONDS = 0.3
"""How long each of the steps of an update takes."""
_HEARD_SECONDS = 3.0
"""How long whoever ordered an update of the BMC itself has to hear that it was done."""
_BMC_RESTART_SECONDS = 6.0
_FETCH_SECONDS = 5
_KEPT_TASKS = 20
UPDATE_FAULTS = (Kind.FAILS_UPDATE, Kind.KEEPS_VERSION, Kind.GOES_AWAY)


class State(StrEnum):
    """The states of a Redfish task that happen here."""

    RUNNING = "Running"
    COMPLETED = "Completed"
    EXCEPTION = "Exception"


class Busy(Exception):
    """Another update is under way."""


class Keeps(Protocol):
    """What remembers values when the power is off (``bmc.Memory``)."""

    def get(self, name: str) -> Any:
        """A value."""
        ...

    def set(self, **values: Any) -> None:
        """Remember values."""
        ...


class _Refused(Exception):
    """An image that is not taken: a message of Redfish's update registry, and a sentence."""

    def __init__(self, message_id: str, text: str) -> None:
        super().__init__(text)
        self.message_id = message_id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    component: str
    version: str


def image(component: str, version: str) -> str:
    """A firmware image: JSON that names its component and version, and the SHA-256 of its payload."""
    payload = f"{component} {version}"
    digest = hashlib.sha256(payload.encode()).hexdigest()
    body = {"format": FORMAT, "component": component, "version": version, "payload": payload, "sha256": digest}
    return json.dumps(body, indent=2) + "\n"


class Firmware:
    """The versions of one machine, and the tasks that change them, one at a time."""

    def __init__(self, memory: Keeps) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        self._away_until = 0.0
        self._never = threading.Event()
        for task in self.tasks():
            # a BMC that was restarted does not go on with what it had begun
            if task["TaskState"] == State.RUNNING:
                self._end(task["Id"], State.EXCEPTION, "Update.1.0.ApplyFailed", "The BMC restarted during the update.")

    def versions(self) -> Mapping[str, str]:
        """What runs, by component."""
        return {**VERSIONS, **self._memory.get("firmware")}

    def boots(self) -> None:
        """The machine begins to boot: what waited for that takes effect."""
        pending = self._memory.get("firmware_pending")
        if pending:
            self._memory.set(firmware={**self._memory.get("firmware"), **pending}, firmware_pending={})

    def away(self) -> bool:
        """Whether the BMC answers nobody at the moment."""
        return time.monotonic() < self._away_until

    def tasks(self) -> list[dict[str, Any]]:
        """The tasks that are remembered, as Redfish tells them, the oldest first."""
        found: list[dict[str, Any]] = self._memory.get("tasks")
        return found

    def begin(self, url: str, fault: Fault | None) -> str:
        """Begin an update from an image and return the Id of its task; raises ``Busy``."""
        with self._lock:
            tasks = self.tasks()
            if any(task["TaskState"] == State.RUNNING for task in tasks):
                raise Busy
            number = 1 + max((int(task["Id"].removeprefix("JID_")) for task in tasks), default=0)
            task = _task(f"JID_{number:06}")
            self._memory.set(tasks=[*tasks, task][-_KEPT_TASKS:])
        threading.Thread(target=self._work, args=(task["Id"], url, fault), daemon=True).start()
        return str(task["Id"])

    def _work(self, task: str, url: str, fault: Fault | None) -> None:
        try:
            self._say(task, 10, "Update.1.0.TransferringToComponent", f"Fetching {url}.")
            self._pause()
            wanted = _verified(_fetch(url))
            self._say(task, 50, "Update.1.0.VerifyingAtComponent", f"The image is {_words(wanted)}.")
            self._pause()
            self._commit(fault)
            self._say(task, 80, "Update.1.0.ApplyingOnComponent", f"Writing {_words(wanted)}.")
            self._pause()
            self._apply(task, wanted, keep=fault is not None and fault.kind is Kind.KEEPS_VERSION)
        except _Refused as refused:
            self._end(task, State.EXCEPTION, refused.message_id, str(refused))
        except Exception as problem:
            self._end(task, State.EXCEPTION, "Update.1.0.ApplyFailed", f"{type(problem).__name__}: {problem}")
            raise

    def _commit(self, fault: Fault | None) -> None:
        """Break off as a test ordered, if it did."""
        if fault is not None and fault.kind is Kind.FAILS_UPDATE:
            raise _Refused("Update.1.0.ApplyFailed", "The image could not be written, as a test ordered.")
        if fault is not None and fault.kind is Kind.GOES_AWAY:
            self._leave(fault.seconds)
            raise _Refused("Update.1.0.ApplyFailed", "The BMC restarted during the update.")

    def _apply(self, task: str, wanted: _Image, *, keep: bool) -> None:
        place = "firmware_pending" if wanted.component in AT_NEXT_BOOT else "firmware"
        if not keep:
            self._memory.set(**{place: {**self._memory.get(place), wanted.component: wanted.version}})
        if wanted.component in AT_NEXT_BOOT:
            self._say(task, 90, "Update.1.0.AwaitToActivate", f"{_words(wanted)} is active with the next boot.")
            ending = ("Base.1.8.ResetRequired", "A reset of the system is needed to complete the update.")
        else:
            ending = ("Update.1.0.UpdateSuccessful", f"{_words(wanted)} was installed.")
        self._end(task, State.COMPLETED, *ending)
        if wanted.component == "BMC":
            self._never.wait(_HEARD_SECONDS)
            self._leave(_BMC_RESTART_SECONDS)

    def _leave(self, seconds: float) -> None:
        self._away_until = time.monotonic() + seconds
        self._never.wait(seconds)

    def _pause(self) -> None:
        self._never.wait(_STEP_SECONDS)

    def _say(self, identity: str, percent: int, message_id: str, text: str) -> None:
        self._change(identity, PercentComplete=percent, Messages=[_message(message_id, text, "OK")])

    def _end(self, identity: str, state: State, message_id: str, text: str) -> None:
        health = "OK" if state is State.COMPLETED else "Critical"
        self._change(
            identity,
            TaskState=str(state),
            TaskStatus=health,
            PercentComplete=100,
            EndTime=_now(),
            Messages=[_message(message_id, text, health)],
        )

    def _change(self, identity: str, **values: Any) -> None:
        with self._lock:
            tasks = self.tasks()
            for task in tasks:
                if task["Id"] == identity:
                    values["Messages"] = task["Messages"] + values["Messages"]
                    task.update(values)
            self._memory.set(tasks=tasks)


def _task(identity: str) -> dict[str, Any]:
    return {
        "@odata.type": "#Task.v1_4_3.Task",
        "@odata.id": f"/redfish/v1/TaskService/Tasks/{identity}",
        "Id": identity,
        "Name": "Firmware update",
        "TaskMonitor": f"/redfish/v1/TaskService/TaskMonitors/{identity}",
        "TaskState": str(State.RUNNING),
        "TaskStatus": "OK",
        "PercentComplete": 0,
        "StartTime": _now(),
        "Messages": [],
    }


def _message(message_id: str, text: str, severity: str) -> dict[str, str]:
    return {"MessageId": message_id, "Message": text, "Severity": severity, "Resolution": "None"}


def _fetch(url: str) -> str:
    import requests

    session = requests.Session()
    # a BMC knows nothing of the proxies of this host
    session.trust_env = False
    try:
        answer = session.get(url, timeout=_FETCH_SECONDS, allow_redirects=False)
    except (requests.RequestException, ValueError) as problem:
        raise _Refused("Update.1.0.TransferFailed", f"{url} cannot be fetched: {type(problem).__name__}.") from problem
    if answer.status_code != requests.codes.ok:
        raise _Refused("Update.1.0.TransferFailed", f"{url} answers {answer.status_code}.")
    return answer.text


def _verified(text: str) -> _Image:
    try:
        body = json.loads(text)
        found = _Image(component=body["component"], version=body["version"])
        sound = body["format"] == FORMAT and body["sha256"] == hashlib.sha256(body["payload"].encode()).hexdigest()
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise _Refused("Update.1.0.VerificationFailed", "This is no firmware image.") from problem
    if not sound:
        raise _Refused("Update.1.0.VerificationFailed", f"The image of {_words(found)} is damaged.")
    if found.component not in VERSIONS:
        raise _Refused("Update.1.0.VerificationFailed", f"This machine has no {found.component}.")
    return found


def _words(one: _Image) -> str:
    return f"{one.component} {one.version}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
