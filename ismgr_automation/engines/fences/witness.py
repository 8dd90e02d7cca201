"""Confirms a fence from elsewhere: hosts, and this controller, try to connect to the fenced member as clients do. It
changes nothing, and never asks over the way by which the fence was raised."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from ipaddress import ip_address
from time import monotonic, monotonic_ns

from ismgr_automation.core.errors import Cancelled, InputError, IsmgrError
from ismgr_automation.engines.fences import knock
from ismgr_automation.engines.ssh.remote import Answer, Rights
from ismgr_automation.engines.ssh.resident import resident
from ismgr_automation.engines.ssh.warm import Loaded, Warm
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.recovery import Confirmation, FenceRequest, Reading, Seen, Sight
from ismgr_automation.ports.secrets import SecretStore

CONTROLLER = "this controller"

FIRST = timedelta(seconds=1)
"""How long silence is waited for where nobody knows the way yet."""

LEAST_PATIENCE = timedelta(milliseconds=100)
"""How long after the last of three tries silence is taken for an answer, where the way is short ..."""
ROUND_TRIPS = 20
"""... and so many times what a connection took before, where it is long."""

ANSWER = timedelta(milliseconds=500)
"""How much longer than its patience a witness may take to tell; then it is lost."""

PAUSE = timedelta(milliseconds=3)
"""Between two rounds, while somebody still gets through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Met:
    """What one witness met. ``word`` is one of ``knock``'s; ``LOST``: it cannot say."""

    word: str
    seconds: float = 0.0
    why: str = ""


class ConnectingWitness:
    """Implements ``ports.recovery.Witness``.

    Who could not connect while it was staged is no witness: a way that never was looks like a fence. After that

    - nobody may get through, by whatever way the fence was raised;
    - a network fence answers: so at least one witness must hear a refusal. Silence alone could be a broken way;
    - a machine without power cannot answer: there silence of all is enough, and a refusal is too much.

    A witness that is lost on the way is told, and does not count; without any left nothing is confirmed. Where hosts
    are named it is they who confirm, and this controller can only object: what keeps it out may be what broke the site.
    """

    def __init__(self, request: FenceRequest, store: SecretStore, context: Context) -> None:
        """Raises ``InputError`` for an address that is none, or a host that cannot be connected to by its
        description."""
        try:
            self._address = str(ip_address(request.address))
        except ValueError:
            raise InputError(f"{request.address!r} is not an address at which a fence can be looked at.") from None
        if request.host in request.witnesses:
            raise InputError(f"{request.host} cannot be a witness of its own fence.")
        self._request = request
        self._cancelled = context.cancelled
        self._warm = Warm(request.fleet, store, context.cancelled)
        self._warm.__enter__()
        self._asked: dict[str, Loaded] = {}
        self._proven: dict[str, float] = {}
        """Who has connected before, and in how many seconds."""
        self._nobody_waits = threading.Event()
        self._early: threading.Thread | None = None
        self._found: Confirmation | None = None
        """What was found while the fence was being raised."""

    def stage(self) -> Seen:
        """Let every witness connect once. NOT_DONE: at least one could, or is known to have been able to before, and so
        can tell a fence; the readings are their names, with the milliseconds that it took. DONE is never said, because
        a fence that stands cannot be told from a way that never was. Raises ``Cancelled``."""
        program = resources.files(knock.__package__ or "").joinpath("knock.py").read_text(encoding="utf-8")
        load = resident(program, (self._address, str(self._request.port)), Rights.USER)
        loading = {name: self._warm.begin_load(name, load) for name in self._request.witnesses}
        self._asked = {name: done() for name, done in loading.items()}
        known = {name: milliseconds / 1000 for name, milliseconds in self._request.proven.items()}
        # who resumes behind a fence meets silence, and clients wait already: as long as before it was raised will do
        met = self._round([*self._request.witnesses, CONTROLLER], _patience(known) if known else FIRST, FIRST + ANSWER)
        self._proven = {name: one.seconds for name, one in met.items() if one.word == knock.OPEN}
        # how long silence took says nothing of the way
        shut = {name for name, one in met.items() if one.word not in (knock.OPEN, knock.LOST)}
        self._proven |= {name: seconds for name, seconds in known.items() if name in shut}
        readings: dict[str, Reading] = {name: _ms(seconds) for name, seconds in self._proven.items()}
        named = [name for name in self._proven if name != CONTROLLER]
        useless = [f"{name} {_said(met[name])}" for name in self._request.witnesses if name not in self._proven]
        if not self._proven or (self._request.witnesses and not named):
            words = f"nobody who was named can connect to {self._place}: {'; '.join(useless) or 'nobody was named'}"
            return Seen(sight=Sight.UNKNOWN, words=words, readings=readings)
        words = f"can connect to {self._place}: {', '.join(self._proven)}"
        if useless:
            words += f"; no witness is {', nor '.join(useless)}"
        return Seen(sight=Sight.NOT_DONE, words=words, readings=readings)

    def watch(self) -> None:
        """Begin to look. A machine falls silent when its power is cut, some time before its BMC says so, and silence
        takes its time to be sure of. A packet filter answers at once where it stands: nothing is gained there."""
        if self._request.bmc is not None and self._early is None:
            self._early = threading.Thread(target=self._watched, name="ismgr-witness", daemon=True)
            self._early.start()

    def confirm(self) -> Confirmation:
        """Look until nobody gets through, or the deadline is over. Raises ``Cancelled``."""
        end = monotonic() + self._request.deadline.total_seconds()
        if self._early is not None:
            self._early.join(self._request.deadline.total_seconds())
            self._nobody_waits.set()
            self._early.join()
            self._early, found = None, self._found
            if found is not None and found.ok:
                return found
        while True:
            found = self._looked()
            if found.ok or not self._proven or monotonic() > end:
                return found
            if self._cancelled.wait(PAUSE.total_seconds()):
                raise Cancelled("Looking at a fence was stopped on request.")

    def close(self) -> None:
        """Let the witnesses go. Safe to call twice."""
        self._nobody_waits.set()
        if self._early is not None:
            self._early.join()
        self._warm.close()

    def _watched(self) -> None:
        # whatever is wrong here ``confirm`` meets as well, and says
        with suppress(IsmgrError):
            while not self._cancelled.is_set() and not self._nobody_waits.wait(PAUSE.total_seconds()):
                self._found = self._looked()
                if self._found.ok:
                    return

    def _looked(self) -> Confirmation:
        """One look of everybody."""
        if not self._proven:
            return self._not_confirmed("nobody had been able to connect before: there is no witness")
        patience = _patience(self._proven)
        met = self._round(list(self._proven), patience, patience + ANSWER)
        heard = {name: one for name, one in met.items() if one.word != knock.LOST}
        words = "; ".join(f"{name} {_said(one)}" for name, one in met.items())
        if not self._holds(heard):
            return self._not_confirmed(words)
        by = f"{', '.join(self._telling(heard))} by connecting to {self._place}"
        return Confirmation(ok=True, by=by, words=words, ended_ns=monotonic_ns())

    @property
    def _place(self) -> str:
        return f"{self._address} port {self._request.port}"

    def _telling(self, heard: Mapping[str, _Met]) -> list[str]:
        """Those who can confirm it."""
        return [name for name in heard if name != CONTROLLER or not self._request.witnesses]

    def _holds(self, heard: Mapping[str, _Met]) -> bool:
        telling = self._telling(heard)
        words = {one.word for one in heard.values()}
        if not telling or knock.OPEN in words:
            return False
        if self._request.bmc is not None:
            return knock.REFUSED not in words
        return any(heard[name].word == knock.REFUSED for name in telling)

    def _not_confirmed(self, words: str) -> Confirmation:
        by = f"{', '.join(self._proven) or 'nobody'} by connecting to {self._place}"
        return Confirmation(ok=False, by=by, words=words, ended_ns=monotonic_ns())

    def _round(self, names: list[str], patience: timedelta, within: timedelta) -> dict[str, _Met]:
        """Let all of them knock at the same time, with that patience, and tell within a time."""
        line = f"{patience.total_seconds():f}"
        asked = {name: self._asked[name].begin(within, line) for name in names if name != CONTROLLER}
        here = self._here(patience) if CONTROLLER in names else None
        found = {name: _read(answer()) for name, answer in asked.items()}
        return found | ({CONTROLLER: here()} if here else {})

    def _here(self, patience: timedelta) -> Callable[[], _Met]:
        met: list[_Met] = []

        def work() -> None:
            with suppress(OSError):
                word, seconds = knock.knock(self._address, self._request.port, patience.total_seconds())
                met.append(_Met(word=word, seconds=seconds))

        thread = threading.Thread(target=work, name="ismgr-witness", daemon=True)
        thread.start()

        def wait() -> _Met:
            thread.join()
            return met[0] if met else _Met(word=knock.LOST)

        return wait


def _patience(proven: Mapping[str, float]) -> timedelta:
    return max(LEAST_PATIENCE, ROUND_TRIPS * timedelta(seconds=max(proven.values())))


def _read(answer: Answer) -> _Met:
    if answer.reach is not Reach.OK or answer.code:
        return _Met(word=knock.LOST, why=answer.detail)
    told = json.loads(answer.output)
    return _Met(word=str(told["met"]), seconds=float(told["seconds"]))


def _said(met: _Met) -> str:
    if met.word == knock.LOST:
        return f"cannot say ({met.why})" if met.why else "cannot say: it has no way there"
    return {
        knock.OPEN: "gets through",
        knock.REFUSED: f"is refused ({_ms(met.seconds):g} ms)",
        knock.SILENT: f"gets no answer ({_ms(met.seconds):g} ms)",
        knock.UNREACHABLE: f"is told that it is not there ({_ms(met.seconds):g} ms)",
    }[met.word]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
