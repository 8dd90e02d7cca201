"""Fences a machine by its BMC, which cuts the power, over a connection that was opened before. Asks nobody first, the
operating system neither."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from threading import Event
from time import monotonic, monotonic_ns

from ismgr_automation.core.errors import Cancelled, EngineError, InputError
from ismgr_automation.engines.fences.standing import LOOK, WORDS, Standing, standing_of
from ismgr_automation.engines.redfish import Bmc, Power, System, Timeouts, connect
from ismgr_automation.engines.ssh.warm import Warm
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.recovery import Acted, FenceRequest, Seen, Sight
from ismgr_automation.ports.secrets import SecretStore

POLL = timedelta(milliseconds=5)
"""Between two looks at the power state; each look is a request, which takes longer than that."""

LOOKING = timedelta(seconds=5)
"""For logging in to a machine and looking at its PostgreSQL."""

PAUSE = timedelta(milliseconds=100)
"""Between two tries to log in to a machine that boots."""

CUT = timedelta(seconds=30)
"""For cutting the power of a machine that may not be let out."""

PATIENCE = timedelta(seconds=30)
"""The longest that one request to a BMC is repeated: a deadline may be long because a machine boots for so long."""

_STANDING = f"""{LOOK}
standing "$1"
"""
_STARTS = f"""{LOOK}
starts "$1"
"""


class PowerFence:
    """Implements ``ports.recovery.Verb``: the machine is off, as its BMC says."""

    def __init__(self, request: FenceRequest, store: SecretStore, context: Context) -> None:
        """Raises ``InputError`` for a password that is not there."""
        self._machine = _Machine(request, store, context)
        self._request, self._store, self._context = request, store, context

    def stage(self) -> Seen:
        """Log in to the BMC, and keep the connection open. Where the machine answers, look as well what its PostgreSQL
        would be after a boot (the reading ``boots``): once it has no power nobody can look before it has some again."""
        seen = self.observe()
        with Warm(self._request.fleet, self._store, self._context.cancelled) as warm:
            found = _asked(warm, self._request, _STARTS, LOOKING)
        if not isinstance(found, Standing):
            return replace(seen, words=f"{seen.words}; what it does after a boot was not looked at ({found})")
        words = seen.words if found.safe else f"{seen.words}; after a boot {WORDS[found]}"
        return replace(seen, words=words, readings={**seen.readings, "boots": found.value})

    def observe(self) -> Seen:
        """The power state: one request."""
        return _seen(self._machine, Power.OFF)

    def act(self) -> Acted:
        """Cut the power, and return when the BMC says Off. It is not asked first: that would take as long again."""
        began, end = monotonic_ns(), monotonic() + self._request.deadline.total_seconds()
        while True:
            try:
                self._machine.system().cut(timedelta(seconds=max(0.0, end - monotonic())))
            except EngineError as error:
                self._machine.close()
                if monotonic() > end:
                    return Acted(ok=False, began_ns=began, ended_ns=monotonic_ns(), words=error.summary)
                self._context.cancelled.wait(PAUSE.total_seconds())
            else:
                return Acted(ok=True, began_ns=began, ended_ns=monotonic_ns(), words="its BMC says Off")

    def close(self) -> None:
        """Give the connection back."""
        self._machine.close()


class PowerUnfence:
    """Implements ``ports.recovery.Verb``: the machine is on and answers, and its PostgreSQL is no primary.

    What a machine without power will do cannot be looked at before it has some. So it is looked at as soon as it
    answers, and one whose PostgreSQL came up as a primary, or would, loses its power again. So does one that does not
    answer before the deadline, unless it is given back: its PostgreSQL may come up once nobody looks any more.
    """

    def __init__(self, request: FenceRequest, store: SecretStore, context: Context) -> None:
        """Raises ``InputError`` for a password that is not there, or a host that cannot be connected to."""
        self._machine = _Machine(request, store, context)
        self._request, self._store, self._context = request, store, context
        self._warm = Warm(request.fleet, store, context.cancelled)
        self._warm.__enter__()

    def stage(self) -> Seen:
        """Log in to the BMC; and to the machine, where it is on."""
        return self.observe()

    def observe(self) -> Seen:
        """The power state, and where it is on whether it answers and what its PostgreSQL is."""
        seen = _seen(self._machine, Power.ON)
        if seen.sight is not Sight.DONE:
            return seen
        found = _asked(self._warm, self._request, _STANDING, LOOKING)
        if not isinstance(found, Standing):
            return replace(seen, sight=Sight.NOT_DONE, words=f"it is on, and cannot be reached: {found}")
        sight = Sight.DONE if self._goes(found) else Sight.NOT_DONE
        return replace(seen, sight=sight, words=WORDS[found], readings={**seen.readings, "postgresql": found.value})

    def act(self) -> Acted:
        """Power it on, wait until it answers SSH, and look at its PostgreSQL. The power of a machine that was on before
        is not cut, whatever is found there. Raises ``Cancelled``, after the power was cut again."""
        began, end = monotonic_ns(), monotonic() + self._request.deadline.total_seconds()
        try:
            before = self._machine.system().power()
        except EngineError as error:
            return _acted(began, error.summary)
        ours = before is not Power.ON
        try:
            found = self._switched_on(end)
        except Cancelled:
            if ours and not self._request.giving_back:
                self._cut()
            raise
        if isinstance(found, Standing):
            if self._goes(found):
                return _acted(began, WORDS[found], ok=True)
            stays, why = False, WORDS[found]
        else:
            stays, why = self._request.giving_back, found
        if not ours or stays:
            return _acted(began, f"{'it has power now' if ours else 'it was on before'}: {why}")
        trouble = self._cut()
        return _acted(began, f"{trouble or 'it is off again'}: {why}")

    def close(self) -> None:
        """Let go of the connections."""
        self._machine.close()
        self._warm.close()

    def _goes(self, found: Standing) -> bool:
        return found.goes(giving_back=self._request.giving_back)

    def _switched_on(self, end: float) -> Standing | str:
        """What its PostgreSQL is, once it has power and answers; why nobody can say, when the time is over."""
        try:
            self._machine.system().switch(Power.ON)
        except EngineError as error:
            return error.summary
        while True:
            left = timedelta(seconds=max(0.5, end - monotonic()))
            found = _asked(self._warm, self._request, _STANDING, min(left, LOOKING))
            if isinstance(found, Standing):
                return found
            if monotonic() > end:
                within = f"{self._request.deadline.total_seconds():g} s"
                return f"it did not answer within {within}, which must be enough for it to boot ({found})"
            if self._context.cancelled.wait(PAUSE.total_seconds()):
                raise Cancelled(f"Waiting for {self._request.host} was stopped on request.")

    def _cut(self) -> str:
        """Why it is not off. Over a connection of its own, which nobody can cancel: what has power and is not looked at
        may become a second primary at any time."""
        machine = _Machine(replace(self._request, deadline=CUT), self._store, replace(self._context, cancelled=Event()))
        try:
            machine.system().cut(CUT)
        except EngineError as error:
            return f"it may be on, and become a second primary: {error.summary}"
        finally:
            machine.close()
        return ""


class _Machine:
    """The machine behind its BMC: connected while it can be, and again after a failure."""

    def __init__(self, request: FenceRequest, store: SecretStore, context: Context) -> None:
        bmc = request.bmc
        if bmc is None:
            raise InputError(f"{request.host} has no BMC that could cut its power.")
        wait, patience = request.deadline, min(request.deadline, PATIENCE)
        self._bmc = Bmc(
            subject=bmc.machine,
            url=bmc.address.rstrip("/"),
            username=bmc.username,
            password=store.open(bmc.password),
            ca=bmc.ca,
            system=bmc.system,
            timeouts=Timeouts(connect=min(wait, timedelta(seconds=5)), change=wait, patience=patience, poll=POLL),
        )
        self._cancelled = context.cancelled
        self._system: System | None = None

    def system(self) -> System:
        if self._system is None:
            self._system = connect(self._bmc, self._cancelled)
        return self._system

    def close(self) -> None:
        if self._system is not None:
            self._system.close()
            self._system = None


def _acted(began: int, words: str, *, ok: bool = False) -> Acted:
    return Acted(ok=ok, began_ns=began, ended_ns=monotonic_ns(), words=words)


def _asked(warm: Warm, request: FenceRequest, script: str, within: timedelta) -> Standing | str:
    """What its PostgreSQL is, or would be; why nobody can say, where the machine does not answer."""
    answer = warm.run(request.host, script, (str(request.port),), within)
    if answer.reach is not Reach.OK:
        return f"{answer.reach}: {answer.detail}"
    return standing_of(answer.output) if not answer.code else Standing.UNKNOWN


def _seen(machine: _Machine, wanted: Power) -> Seen:
    try:
        power = machine.system().power()
    except EngineError as error:
        machine.close()
        return Seen(sight=Sight.UNKNOWN, words=error.summary)
    sight = Sight.DONE if power is wanted else Sight.NOT_DONE
    return Seen(sight=sight, words=f"its BMC says {power}", readings={"power": power.value})
