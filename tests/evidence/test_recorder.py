"""What a recorder writes, in which order, and what it says when it cannot."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from ismgr_automation.core.address import stack
from ismgr_automation.core.errors import EngineError, EngineFailed
from ismgr_automation.evidence.chain import Kind, parse
from ismgr_automation.evidence.entries import Intent, Recovered, RunClosed, Verified
from ismgr_automation.evidence.recorder import ChainRecorder
from ismgr_automation.ports.evidence import Head, line_digest
from ismgr_automation.ports.memory.evidence import MemoryAnchor, MemoryEvidenceLog
from ismgr_automation.ports.runs import RunState
from ismgr_automation.ports.signing import Signature

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DONE = RunClosed(state=RunState.DONE, exit_code=0, landed=1)


@dataclass(slots=True)
class Pen:
    """A signer that notes what it signed."""

    signed: list[tuple[bytes, str]] = field(default_factory=list)
    broken: bool = False

    def sign(self, data: bytes, namespace: str) -> Signature:
        if self.broken:
            raise EngineFailed("The agent is gone.", engine="ssh-keygen", next_step="Start it.")
        self.signed.append((data, namespace))
        return Signature(armored="armored", key="ssh-ed25519 AAAA")


def recorder(log: MemoryEvidenceLog, run: str = "run-1", **more: object) -> ChainRecorder:
    return ChainRecorder(log=log, environment="lab", run=run, clock=lambda: NOON, **more)  # type: ignore[arg-type]


def intent(key: str = "stack/a") -> Intent:
    return Intent(round=1, key=key, address=stack("a"), action="create")


def test_records_follow_each_other_from_run_to_run() -> None:
    log = MemoryEvidenceLog()
    first = recorder(log)
    first.write(intent(), intent("stack/b"))
    first.close(DONE)
    recorder(log, "run-2").write(intent())
    lines = list(log.read())
    records = [parse(line) for line in lines]
    assert [one.sequence for one in records] == [1, 2, 3, 4]
    assert [one.previous for one in records] == ["", *map(line_digest, lines[:-1])]
    assert [one.kind for one in records] == [Kind.INTENT, Kind.INTENT, Kind.RUN_CLOSED, Kind.INTENT]
    assert log.segments() == ("run-1", "run-2")


def test_the_last_record_is_signed_and_the_head_is_remembered_elsewhere() -> None:
    log, pen, anchor = MemoryEvidenceLog(), Pen(), MemoryAnchor()
    closing = recorder(log, signer=pen, anchor=anchor).close(DONE)
    [line] = log.read()
    assert pen.signed == [(line, "ismgr-evidence@v1")]
    assert log.signatures() == {"run-1": Signature(armored="armored", key="ssh-ed25519 AAAA")}
    assert anchor.heads("lab") == ((closing.head, "run-1"),)
    assert closing.head == Head(sequence=1, digest=line_digest(line))
    assert closing.key == "ssh-ed25519 AAAA"
    assert closing.anchored
    assert parse(line).body["signed"] is True


def test_a_run_that_nobody_signs_says_so() -> None:
    log = MemoryEvidenceLog()
    closing = recorder(log).close(DONE)
    [line] = log.read()
    assert parse(line).body["signed"] is False
    assert (closing.key, closing.anchored, closing.trouble) == ("", "", ())


def test_a_missing_signature_is_told_and_what_was_done_stays_recorded() -> None:
    log = MemoryEvidenceLog()
    closing = recorder(log, signer=Pen(broken=True)).close(DONE)
    assert "The agent is gone." in closing.trouble[0]
    [line] = log.read()
    assert parse(line).body["signed"] is False


def test_nothing_is_said_to_be_written_when_it_is_not() -> None:
    log = MemoryEvidenceLog(full=True)
    mine = recorder(log)
    with pytest.raises(EngineError, match="no room"):
        mine.write(intent())
    log.full = False
    mine.write(intent())
    assert [parse(line).sequence for line in log.read()] == [1]


def test_half_a_line_that_was_cut_off_is_told_first() -> None:
    class Torn(MemoryEvidenceLog):
        def head(self) -> Head:
            found = MemoryEvidenceLog.head(self)
            return Head(sequence=found.sequence, digest=found.digest, cut_bytes=17)

    log = Torn()
    mine = recorder(log)
    mine.write(intent())
    mine.write(intent())
    assert [parse(line).kind for line in log.read()] == [Kind.RECOVERED, Kind.INTENT, Kind.INTENT]
    assert parse(next(log.read())).body == Recovered(cut_bytes=17).body


def test_threads_share_calls_of_the_log_and_every_entry_is_there_once() -> None:
    class Slow(MemoryEvidenceLog):
        def append(self, run: str, lines: Sequence[bytes], signature: Signature | None = None) -> None:
            if self.appends == 0:
                entered.set()
                assert go.wait(10)
            MemoryEvidenceLog.append(self, run, lines, signature)

    entered, go = threading.Event(), threading.Event()
    log = Slow()
    mine = recorder(log)
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(mine.write, intent("stack/first"))
        assert entered.wait(10)
        rest = [pool.submit(mine.write, intent(f"stack/{number}")) for number in range(19)]
        until = time.monotonic() + 10
        while len(mine._waiting) < 19:
            assert time.monotonic() < until
            time.sleep(0.001)
        go.set()
        for one in [first, *rest]:
            one.result(10)
    assert log.appends == 2
    keys = [parse(line).body["key"] for line in log.read()]
    assert sorted(keys) == sorted(["stack/first", *(f"stack/{number}" for number in range(19))])


def test_everybody_who_waits_hears_that_nothing_was_written() -> None:
    log = MemoryEvidenceLog(full=True)
    mine = recorder(log)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(mine.write, intent()) for _ in range(8)]
    assert all(isinstance(one.exception(), EngineError) for one in asked)
    assert not log.lines


def test_an_entry_holds_only_what_json_can_say() -> None:
    body = Verified(subject=stack("a"), passed=2).body
    assert body == {"subject": "stack/a", "passed": 2, "skipped": 0, "failed": [], "round": 0, "wave": 0}
    with pytest.raises(TypeError, match="cannot hold"):
        _ = Intent(round=1, key=object(), address=stack("a"), action="create").body  # type: ignore[arg-type]
