"""The double of the client that measures follows its script and refuses as the real one does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled, EngineTimedOut, Refused, Unreachable
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory import MemoryProbe, MemoryProbeWorld
from ismgr_automation.ports.recovery import Outcome, ProbeClient, ProbeRequest
from tests.recovery.logs import EVERY, MS, log

ASKED = ProbeRequest(
    run="run-1",
    endpoints=("db:5432",),
    database="app",
    user="probe",
    password=SecretRef.parse("file:probe"),
    table="ismgr_probe",
    every=EVERY,
    patience=timedelta(seconds=1),
)
CONTEXT = Context(work=Path("unused"))


def test_attempts_come_as_time_goes_by_until_the_probe_is_stopped():
    clock = [12 * MS]
    world = MemoryProbeWorld(script=log("aaafu" + "a" * 10), now=lambda: clock[0], lost={2}, kept={4, 15})
    client: ProbeClient = MemoryProbe(world)
    running = client.start(ASKED, CONTEXT)
    assert [one.number for one in running.attempts()] == [1, 2, 3]
    clock[0] = 31 * MS
    assert [one.outcome for one in running.stop()][3:] == [
        Outcome.FAILED,
        Outcome.UNKNOWN,
        Outcome.ACKED,
        Outcome.ACKED,
    ]
    clock[0] = 500 * MS
    assert len(running.attempts()) == 7
    assert client.held(ASKED, CONTEXT) == {1, 3, 4, 6, 7}
    assert len(client.resume(ASKED, CONTEXT).attempts()) == 15
    assert world.calls == ["start run-1", "held run-1", "resume run-1"]


def test_a_double_refuses_and_fails_as_a_real_probe_does():
    fault = Unreachable("No way.", engine="probe", subject="app", cause="refused", next_step="Make one.")
    world = MemoryProbeWorld(script=log("aa"), faults={"held": fault})
    client = MemoryProbe(world)
    client.start(ASKED, CONTEXT)
    with pytest.raises(Refused):
        client.start(ASKED, CONTEXT)
    with pytest.raises(Unreachable):
        client.held(ASKED, CONTEXT)
    with pytest.raises(EngineTimedOut):
        MemoryProbe(MemoryProbeWorld(script=log("fff"))).start(ASKED, CONTEXT)
    stopped = Context(work=Path("unused"))
    stopped.cancelled.set()
    with pytest.raises(Cancelled):
        client.resume(ASKED, stopped)
