"""Hosts outside, and this controller, that ask for the old primary as clients do, before a fault and after it. They
change nothing; who got no answer before cannot tell a fault from a way that never was."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from importlib import resources

from ismgr_automation.engines.faults import asking
from ismgr_automation.engines.faults.servers import cluster_of
from ismgr_automation.engines.ssh.remote import Answer, Rights
from ismgr_automation.engines.ssh.resident import resident
from ismgr_automation.engines.ssh.warm import Loaded, Warm
from ismgr_automation.ports.faults import FaultRequest
from ismgr_automation.ports.hosts import Reach

CONTROLLER = "this controller"

FIRST = timedelta(seconds=1)
"""How long an answer may take before there is a fault ..."""
LEAST = timedelta(milliseconds=300)
ROUND_TRIPS = 20
"""... and after it: so many times what it took before, and not less than that."""
TELLING = timedelta(seconds=1)
"""How much longer than both of its patiences a witness may take to tell."""


class Watchers:
    """Who asks at the address of clients; nobody where the request names none."""

    def __init__(self, request: FaultRequest, warm: Warm) -> None:
        """Asks nobody yet."""
        self._request, self._warm = request, warm
        self._asked: dict[str, Loaded] = {}
        self._patience = LEAST
        self.proven: tuple[str, ...] = ()
        """Who had an answer before the fault."""

    @property
    def place(self) -> str:
        """Where they ask."""
        return f"{self._request.address} port {cluster_of(self._request).port}"

    def stage(self) -> tuple[str, ...]:
        """Let everybody ask once; who had an answer. Raises ``Cancelled``."""
        if not self._request.address or self._request.cluster is None:
            return ()
        program = resources.files(asking.__package__ or "").joinpath("asking.py").read_text(encoding="utf-8")
        load = resident(program, (self._request.address, str(self._request.cluster.port)), Rights.USER)
        loading = {name: self._warm.begin_load(name, load) for name in self._request.witnesses}
        self._asked = {name: done() for name, done in loading.items()}
        met = self._round((*self._request.witnesses, CONTROLLER), FIRST)
        self.proven = tuple(name for name, (word, _) in met.items() if word == asking.ANSWERS)
        slowest = max((seconds for word, seconds in met.values() if word == asking.ANSWERS), default=0.0)
        self._patience = max(LEAST, min(FIRST, ROUND_TRIPS * timedelta(seconds=slowest)))
        return self.proven

    def meet(self) -> dict[str, str]:
        """What each of the proven meets now, but those who can tell nothing. Raises ``Cancelled``."""
        met = self._round(self.proven, self._patience)
        return {name: word for name, (word, _) in met.items() if word != asking.LOST}

    def _round(self, names: Sequence[str], patience: timedelta) -> dict[str, tuple[str, float]]:
        line = f"{patience.total_seconds():f}"
        asked = {name: self._asked[name].begin(2 * patience + TELLING, line) for name in names if name != CONTROLLER}
        here = self._here(patience) if CONTROLLER in names else None
        found = {name: _read(answer()) for name, answer in asked.items()}
        return found | ({CONTROLLER: here()} if here else {})

    def _here(self, patience: timedelta) -> Callable[[], tuple[str, float]]:
        met: list[tuple[str, float]] = []
        place = (self._request.address, cluster_of(self._request).port)
        work = threading.Thread(
            target=lambda: met.append(asking.ask(*place, patience.total_seconds())), name="ismgr-asking", daemon=True
        )
        work.start()

        def wait() -> tuple[str, float]:
            work.join()
            return met[0] if met else (asking.LOST, 0.0)

        return wait


def _read(answer: Answer) -> tuple[str, float]:
    if answer.reach is not Reach.OK or answer.code:
        return asking.LOST, 0.0
    told = json.loads(answer.output)
    return str(told["met"]), float(told["seconds"])
