"""Sends a backend's clients to one server, at every balancer at once, through the runtime socket over warm SSH
connections. No configuration is touched: a reload keeps what was said, a boot does not (see the role haproxy)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
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

    def stage(self) -> Seen:
        """Connect to every balancer, and let a program wait there that has asked HAProxy once."""
        return self.observe()

    def observe(self) -> Seen:
        """Ask every balancer."""
        return self._seen(self._ask("look", self._request.fleet.names))

    def act(self) -> Acted:
        """Say it to all at once, and look until it is so or the deadline is over. Raises ``Cancelled``."""
        began, end = monotonic_ns(), monotonic() + self._request.deadline.total_seconds()
        readings: dict[str, Reading] = {}
        found: dict[str, _Balancer] = {}
        waiting, command = list(self._request.fleet.names), "switch"
        while True:
            looked = self._ask(command, waiting)
            now = round((monotonic_ns() - began) / 1e6, 3)
            readings |= {f"{name} ms": now for name, one in looked.items() if one.sight is Sight.DONE}
            found |= looked
            waiting = [name for name in waiting if found[name].sight is not Sight.DONE]
            lost = all(found[name].sight is Sight.UNKNOWN for name in waiting)
            seen = self._seen(found)
            if not waiting or (lost and seen.sight is Sight.DONE) or monotonic() > end:
                break
            if self._cancelled.wait(PAUSE.total_seconds()):
                raise Cancelled("Switching a backend was stopped on request.")
            command = "switch" if lost else "look"
        ok = seen.sight is Sight.DONE
        return Acted(ok=ok, began_ns=began, ended_ns=monotonic_ns(), words=seen.words, readings=readings)

    def close(self) -> None:
        """Let the balancers go. Safe to call twice."""
        self._warm.close()

    def _ask(self, command: str, names: Sequence[str]) -> dict[str, _Balancer]:
        """Ask these at once, over new connections where old ones are lost."""
        missing = [name for name in names if name not in self._loaded or self._loaded[name].lost is not None]
        if missing:
            request = self._request
            program = resources.files(teller.__package__ or "").joinpath("teller.py").read_text(encoding="utf-8")
            load = resident(program, (request.socket, request.backend, request.server))
            loading = {name: self._warm.begin_load(name, load) for name in missing}
            self._loaded |= {name: done() for name, done in loading.items()}
        asked = {name: self._loaded[name].begin(self._request.deadline, command) for name in names}
        return {name: self._read(answer()) for name, answer in asked.items()}

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
        done = [name for name, one in found.items() if one.sight is Sight.DONE]
        words = "; ".join(
            f"{name}: {one.why or f'sends clients to {self._request.server}'}" for name, one in found.items()
        )
        readings: dict[str, Reading] = {"balancers done": len(done)}
        known = [one for one in found.values() if one.sight is not Sight.UNKNOWN]
        if len(known) < self._request.enough:
            return Seen(sight=Sight.UNKNOWN, words=words, readings=readings)
        sight = Sight.DONE if len(done) == len(known) else Sight.NOT_DONE
        return Seen(sight=sight, words=words, readings=readings)
