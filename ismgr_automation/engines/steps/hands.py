"""DBOS in this process, which carries units out: one at a time, launched late, silent, and it takes up nothing but the
queues that it was told to listen to. Knows nothing of what a unit does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from ismgr_automation.core.errors import EngineError, InternalError, Refused
from ismgr_automation.engines.steps.letters import Kind, Letter, error_letter
from ismgr_automation.engines.steps.rows import APPLICATION, PROTOCOL, SELDOM_S, WORKFLOW, Rows, hush, queue_of
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.runs import Executors, Unit
from ismgr_automation.ports.sequencer import Work

if TYPE_CHECKING:
    from dbos import DBOSConfig

WAKE_S = 0.25
"""How often DBOS's listener for messages looks whether it should end."""
ENDING_S = 10.0
MOMENT_S = 0.02

_lock = threading.Lock()
_live: Hands | None = None
_registered = False


class Hands:
    """What this process carries out, as executor ``name``. ``work`` does a unit; ``may_begin`` is asked before
    each one.

    Only one can be open in a process, because DBOS is one per process: ``open`` raises ``Refused`` for a second one.
    """

    def __init__(self, rows: Rows, name: str, work: Work, may_begin: Callable[[Unit], bool], at_once: int) -> None:
        self.rows = rows
        self.name = name
        self.in_hand: dict[str, Unit] = {}
        self.given_up: set[str] = set()
        """Units whose work was stopped on our own account: their outcome is nobody's last word."""
        self.raised: dict[str, BaseException] = {}
        """What the work of a unit raised here, by the unit's id."""
        self.moved = threading.Event()
        """Set whenever a unit ended here."""
        self.troubled = threading.Event()
        """Set when the work of a unit raised something here."""
        self._work = work
        self._may_begin = may_begin
        self._slots = threading.BoundedSemaphore(max(1, at_once))
        self._listening: tuple[str, ...] = ()
        self._begun: set[str] = set()
        self._killed: set[str] = set()
        self._closing = False

    @property
    def listening(self) -> tuple[str, ...]:
        """The runs whose units are taken."""
        return self._listening

    def open(self) -> None:
        """Become the one of this process."""
        global _live  # noqa: PLW0603  DBOS is one per process, and so is this
        with _lock:
            if _live is not None and _live is not self:
                raise Refused(
                    "Another run is being carried out in this process, and only one can be.",
                    next_step="Wait for its end, or start this one in another process.",
                )
            _live = self

    def listen(self, runs: Sequence[str]) -> None:
        """Take units of these runs from now on, and of no others. Units in hand are waited for when the runs change."""
        if self._listening == tuple(runs):
            return
        self._silence()
        if not runs:
            return
        self.rows.open()
        if self.rows.taken_by(self.name):
            # DBOS would take them up again at once, before anybody looked at lease and approvals
            raise InternalError(f"The name {self.name} was an executor before; each one needs a name of its own.")
        from dbos import DBOS

        _register()
        hush()
        DBOS(config=self._config())
        DBOS.listen_queues([queue_of(run) for run in runs])
        with self.rows.failing("be listened to"):
            try:
                DBOS.launch()
            except BaseException:
                DBOS.destroy()
                raise
        self._listening = tuple(runs)

    def close(self) -> None:
        """End DBOS in this process, once the units in hand have ended."""
        global _live  # noqa: PLW0603
        self._silence()
        with _lock:
            if _live is self:
                _live = None

    def carry(self, unit: Unit) -> Letter:
        """Carry one unit out, in a thread of DBOS."""
        self.in_hand[unit.id] = unit
        self.raised.pop(unit.id, None)
        try:
            with self._slots:
                if self._closing or not self._may_begin(unit):
                    return Letter(kind=Kind.NOT_BEGUN, body={})
                self._begun.add(unit.id)
                outcome = self._work(unit)
            letter = Letter(kind=Kind.OUTCOME, body=outcome)
        except Exception as error:  # noqa: BLE001  told to whoever waits for the unit, which may be another process
            self._trouble(unit, error)
            letter = error_letter(error)
        except BaseException as end:
            self._killed.add(unit.id)
            self._trouble(unit, end)
            raise
        finally:
            self.in_hand.pop(unit.id, None)
            self.moved.set()
        return Letter(kind=Kind.GIVEN_UP, body={}) if unit.id in self.given_up else letter

    def _trouble(self, unit: Unit, error: BaseException) -> None:
        self.raised[unit.id] = error
        self.troubled.set()

    def _config(self) -> DBOSConfig:
        from dbos import DBOSPortableJSONSerializer

        return {
            "name": APPLICATION,
            "system_database_url": self.rows.secret_url,
            "dbos_system_schema": self.rows.place.schema,
            "application_version": PROTOCOL,
            "executor_id": self.name,
            # no pickled objects: a row must not be able to run code in whoever reads it
            "serializer": DBOSPortableJSONSerializer(),
            "enable_otlp": False,
            "run_migrations": False,
            "scheduler_polling_interval_sec": SELDOM_S,
            "notification_listener_polling_interval_sec": WAKE_S,
            "log_level": "WARNING",
        }

    def _silence(self) -> None:
        """Take no more units, wait for those in hand, and end DBOS. What it had claimed and not begun goes back."""
        if not self._listening:
            return
        from dbos import DBOS

        self._closing = True
        try:
            self._until(lambda: not self.in_hand, float("inf"))
            with suppress(EngineError):  # without a database nothing more can be written
                self._until(lambda: not self._unwritten(), ENDING_S)
        finally:
            self._listening = ()
            DBOS.destroy()
            self._until(lambda: not any(one.name.startswith("dbos-") for one in threading.enumerate()), ENDING_S)
            self._closing = False
        for unit in self.rows.taken_by(self.name):
            if unit.id not in self._begun:
                self.rows.put_back(unit)

    def _unwritten(self) -> bool:
        """Whether the end of a unit that was carried out here is still on its way into the database."""
        ended = self._begun - self._killed
        return any(unit.id in ended for unit in self.rows.taken_by(self.name))

    def _until(self, condition: Callable[[], bool], patience_s: float) -> None:
        end = time.monotonic() + patience_s
        while not condition() and time.monotonic() < end:
            self.moved.wait(MOMENT_S)
            self.moved.clear()


class Pulse:
    """Says that an executor lives, from a thread of its own, until it is closed."""

    def __init__(self, executors: Executors, name: str, holder: Holder, ttl: timedelta) -> None:
        self._executors = executors
        self._name = name
        self._holder = holder
        self._ttl = ttl
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.until_ns = 0
        """Until when others certainly count it as living (nanoseconds of ``CLOCK_BOOTTIME``), with an eighth taken off
        for clocks of different speed and for what takes time to end."""

    def start(self) -> None:
        """Beat once, and go on beating. Raises ``EngineError`` when the first beat fails."""
        if self._thread is None:
            self._once()
            self._thread = threading.Thread(target=self._beat, name="ismgr-pulse", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Beat no more, and say so."""
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._thread = None
            with suppress(EngineError):  # its time will be over all the same
                self._executors.gone(self._name)

    def _beat(self) -> None:
        while not self._over.wait(self._ttl.total_seconds() / 3):
            with suppress(EngineError):  # the next beat may be heard; when none is, others take over
                self._once()

    def _once(self) -> None:
        asked_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._executors.beat(self._name, self._holder, self._ttl)
        self.until_ns = asked_ns + round(self._ttl.total_seconds() * 7 / 8 * 1e9)


def _unit(run: str, round: int, key: str, attempt: int) -> dict[str, object]:  # noqa: A002  as it stands in rows
    """The workflow: carries out one unit in whatever is open in this process."""
    if _live is None:
        raise InternalError("A unit came to a process that carries nothing out.")
    return _live.carry(Unit(run=run, round=round, key=key, attempt=attempt)).to_json()


def _register() -> None:
    global _registered  # noqa: PLW0603  DBOS keeps its list of workflows for the life of the process
    if not _registered:
        from dbos import DBOS, WorkflowSerializationFormat

        DBOS.workflow(name=WORKFLOW, serialization_type=WorkflowSerializationFormat.PORTABLE)(_unit)
        _registered = True
