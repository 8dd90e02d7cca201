"""Sends a backend's clients to one server, at every balancer at once, through the runtime socket over warm SSH
connections. No configuration is touched: a reload keeps what was said, a boot does not (see the role haproxy)."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from time import monotonic, monotonic_ns

from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.engines.haproxy import MAINT, NAME, READY, STATES, STATISTICS, admin_of, table
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.engines.ssh.resident import resident
from ismgr_automation.engines.ssh.warm import Loaded, Warm
from ismgr_automation.engines.switches import teller
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.recovery import Acted, BackendRequest, Reading, Seen, Sight
from ismgr_automation.ports.secrets import SecretStore

PAUSE = timedelta(milliseconds=3)
"""Between two looks at a balancer that is not there yet."""

GRACE = timedelta(milliseconds=200)
"""How long balancers that have not answered are waited for, once enough have done it."""

LOOK = timedelta(milliseconds=50)
"""Between two looks whether somebody cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Balancer:
    """What one balancer says. ``why`` is empty where it is as asked for."""

    sight: Sight
    why: str = ""


class BackendSwitch:
    """Implements ``ports.recovery.Verb``.

    It is done where the server is ready and up, every other one of the backend is in maintenance, and nobody else
    listens where the balancer does. ``enough`` balancers must be so, and none that can be reached may be otherwise.
    Sessions of the others are cut, and not counted afterwards: HAProxy keeps some whose client has gone and whose
    server is too dead to say goodbye, and nothing passes through those.
    """

    def __init__(self, request: BackendRequest, store: SecretStore, context: Context) -> None:
        """Raises ``InputError`` for names that HAProxy cannot have, or a balancer that cannot be connected to."""
        for what, name in (("backend", request.backend), ("server", request.server)):
            if not NAME.fullmatch(name):
                raise InputError(f"{name!r} cannot be the name of a {what} in HAProxy.")
        if not 0 < request.enough <= len(request.fleet.names):
            raise InputError(f"{request.enough} of {len(request.fleet.names)} balancers cannot be enough.")
        self._request = request
        self._cancelled = context.cancelled
        self._warm = Warm(request.fleet, store, context.cancelled)
        self._warm.__enter__()
        self._loaded: dict[str, Loaded] = {}
        self._threads: list[threading.Thread] = []

    def stage(self) -> Seen:
        """Connect to every balancer, and let a program wait there that has asked HAProxy once."""
        return self.observe()

    def observe(self) -> Seen:
        """Ask every balancer. Raises ``Cancelled``."""
        found: dict[str, _Balancer] = {}
        asking = self._each(lambda name: found.__setitem__(name, self._ask(name, "look")))
        for one in asking:
            one.join()
        if self._cancelled.is_set():
            raise Cancelled("Asking balancers was stopped on request.")
        return self._seen(found)

    def act(self) -> Acted:
        """Say it to all at once. Returns when all have done it or the deadline is over; and once enough have done it,
        the others get ``GRACE`` more: one that is lost must not hold up clients of the others. Raises ``Cancelled``."""
        round_ = _Round(self._request, self._cancelled)
        self._each(lambda name: round_.one(name, self._ask))
        round_.wait()
        seen = self._seen(round_.found)
        return Acted(
            ok=seen.sight is Sight.DONE,
            began_ns=round_.began,
            ended_ns=monotonic_ns(),
            words=seen.words,
            readings=round_.readings,
        )

    def close(self) -> None:
        """Let the balancers go. Safe to call twice."""
        self._warm.close()
        for one in self._threads:
            one.join(timeout=1)

    def _each(self, work: Callable[[str], None]) -> list[threading.Thread]:
        """Begin the work for each balancer, in a thread of its own: none waits for another."""

        def quietly(name: str) -> None:
            # stopped on request, or closed while somebody was not there yet
            with contextlib.suppress(Cancelled, futures.CancelledError):
                work(name)

        names = self._request.fleet.names
        threads = [threading.Thread(target=quietly, args=(name,), name="ismgr-balancer", daemon=True) for name in names]
        self._threads += threads
        for one in threads:
            one.start()
        return threads

    def _ask(self, name: str, command: str) -> _Balancer:
        """Ask one, over a new connection where the old one is lost."""
        loaded = self._loaded.get(name)
        if loaded is None or loaded.lost is not None:
            request = self._request
            program = resources.files(teller.__package__ or "").joinpath("teller.py").read_text(encoding="utf-8")
            load = resident(program, (request.socket, request.backend, request.server))
            loaded = self._loaded[name] = self._warm.load(name, load)
        return self._read(loaded.go(self._request.deadline, command))

    def _read(self, answer: Answer) -> _Balancer:
        if answer.reach is not Reach.OK:
            return _Balancer(sight=Sight.UNKNOWN, why=f"cannot be reached ({answer.reach}): {answer.detail}")
        if answer.code:
            return _Balancer(sight=Sight.UNKNOWN, why=answer.detail or f"its program ended with {answer.code}")
        told = json.loads(answer.output)
        if "trouble" in told:
            return _Balancer(sight=Sight.UNKNOWN, why=str(told["trouble"]))
        if told["rivals"]:
            return _Balancer(sight=Sight.UNKNOWN, why="; ".join(told["rivals"]))
        why = self._differs(str(told["tables"]))
        if why and told["said"]:
            why += f" (HAProxy says: {told['said']})"
        return _Balancer(sight=Sight.NOT_DONE if why else Sight.DONE, why=why)

    def _differs(self, text: str) -> str:
        """Why the backend is not as asked for; empty: it is."""
        backend, server = self._request.backend, self._request.server
        if STATES not in text or STATISTICS not in text:
            return f"it knows no backend {backend!r}: {' '.join(text.split())[:200]}"
        states, _, statistics = text.partition(STATISTICS)
        admin = {
            row["srv_name"]: admin_of(int(row["srv_admin_state"])) for row in table(states[states.index(STATES) :])
        }
        if server not in admin:
            return f"backend {backend!r} has no server {server!r}; there are: {', '.join(sorted(admin))}"
        numbers = {row["svname"]: row for row in csv.DictReader(io.StringIO(f"pxname,{statistics}"))}
        wrong = [f"{name} is {state}" for name, state in admin.items() if state != (READY if name == server else MAINT)]
        status = numbers[server]["status"]
        if not wrong and not status.startswith("UP") and status != "no check":
            wrong.append(f"{server} is {status}")
        return ", ".join(wrong)

    def _seen(self, found: Mapping[str, _Balancer]) -> Seen:
        silent = _Balancer(sight=Sight.UNKNOWN, why="has not answered yet")
        all_ = {name: found.get(name, silent) for name in self._request.fleet.names}
        done = [name for name, one in all_.items() if one.sight is Sight.DONE]
        said = f"sends clients to {self._request.server}"
        words = "; ".join(f"{name}: {one.why or said}" for name, one in all_.items())
        readings: dict[str, Reading] = {"balancers done": len(done)}
        known = [one for one in all_.values() if one.sight is not Sight.UNKNOWN]
        if len(known) < self._request.enough:
            return Seen(sight=Sight.UNKNOWN, words=words, readings=readings)
        sight = Sight.DONE if len(done) == len(known) else Sight.NOT_DONE
        return Seen(sight=sight, words=words, readings=readings)


class _Round:
    """One ``act``: what each balancer has come to, and when nobody needs to wait any more."""

    def __init__(self, request: BackendRequest, cancelled: threading.Event) -> None:
        self._request, self._cancelled = request, cancelled
        self._news = threading.Condition()
        self._over = False
        self.began = monotonic_ns()
        self._end = monotonic() + request.deadline.total_seconds()
        self.found: dict[str, _Balancer] = {}
        self.readings: dict[str, Reading] = {}

    def one(self, name: str, ask: Callable[[str, str], _Balancer]) -> None:
        """Tell one balancer, and look until it is so or nobody waits."""
        command = "switch"
        while not self._over:
            met = ask(name, command)
            with self._news:
                if self._over:
                    return
                self.found = {**self.found, name: met}
                if met.sight is Sight.DONE:
                    self.readings[f"{name} ms"] = round((monotonic_ns() - self.began) / 1e6, 3)
                self._news.notify()
            if met.sight is Sight.DONE or self._cancelled.wait(PAUSE.total_seconds()):
                return
            command = "switch" if met.sight is Sight.UNKNOWN else "look"

    def wait(self) -> None:
        """Until all have done it, or enough have and the grace is over, or the deadline is."""
        until = self._end
        with self._news:
            while True:
                done = sum(one.sight is Sight.DONE for one in self.found.values())
                if done >= self._request.enough:
                    until = min(until, monotonic() + GRACE.total_seconds()) if until == self._end else until
                left = until - monotonic()
                if done == len(self._request.fleet.names) or left <= 0:
                    self._over = True
                    return
                if self._cancelled.is_set():
                    self._over = True
                    raise Cancelled("Switching a backend was stopped on request.")
                self._news.wait(min(left, LOOK.total_seconds()))
