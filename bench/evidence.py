"""How many records a second the evidence takes: entries in, chained, on disk. By itself: `python -m bench.evidence`."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ismgr_automation.core.address import group, host
from ismgr_automation.engines.evidence_files import FileEvidenceLog
from ismgr_automation.evidence.audit import Audit, Claims, verify
from ismgr_automation.evidence.entries import Intent, Noticed
from ismgr_automation.evidence.recorder import ChainRecorder
from ismgr_automation.planning.change import Level
from ismgr_automation.ports.signing import AllowedSigner, Signature

RECORDS = 5000
HOSTS = tuple(host(f"web{number}.dc1") for number in range(10))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many records in so many seconds."""

    name: str
    records: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Records a second."""
        return self.records / self.seconds


class Nobody:
    """A verifier for what nobody signed."""

    def verify(
        self,
        data: bytes,  # noqa: ARG002  the port's
        signature: Signature,  # noqa: ARG002  the port's
        namespace: str,  # noqa: ARG002  the port's
        signers: tuple[AllowedSigner, ...],  # noqa: ARG002  the port's
    ) -> str | None:
        """Nobody's."""
        return None


def measure(scratch: Path, records: int = RECORDS) -> tuple[Rate, ...]:
    """One writer, one record a call; 64 writers at once; a wave a call; and checking all of it."""
    found = []
    for name, write, share in (
        ("1 thread, a record a call", _one_by_one, 10),
        ("64 threads, a record a call", _together, 1),
        ("1 thread, 100 records a call", _waves, 1),
    ):
        count = records // share
        seconds = _timed(lambda write=write, name=name, count=count: write(_recorder(scratch, name), count))  # type: ignore[misc]
        found.append(Rate(name=name, records=count, seconds=seconds))
    log = FileEvidenceLog(scratch, "bench")
    lines = len(list(log.read()))
    seconds = _timed(lambda: _check(log))
    return (*found, Rate(name="audit verify", records=lines, seconds=seconds))


def _recorder(scratch: Path, name: str) -> ChainRecorder:
    run = name.replace(" ", "-").replace(",", "")
    recorder = ChainRecorder(
        log=FileEvidenceLog(scratch, "bench"), environment="bench", run=run, clock=lambda: datetime.now(UTC)
    )
    # what a run begins with: an intent alone begins none
    recorder.write(Noticed(level=Level.ADVISE, subject=group("webs"), summary=name))
    return recorder


def _intent(number: int) -> Intent:
    return Intent(round=1, key=f"group/webs#{number}", address=group("webs"), action="configure", targets=HOSTS)


def _one_by_one(recorder: ChainRecorder, count: int) -> None:
    for number in range(count):
        recorder.write(_intent(number))
    recorder.abandon()


def _together(recorder: ChainRecorder, count: int) -> None:
    with ThreadPoolExecutor(64) as pool:
        for done in [pool.submit(recorder.write, _intent(number)) for number in range(count)]:
            done.result()
    recorder.abandon()


def _waves(recorder: ChainRecorder, count: int) -> None:
    for first in range(0, count, 100):
        recorder.write(*map(_intent, range(first, min(first + 100, count))))
    recorder.abandon()


def _check(log: FileEvidenceLog) -> Audit:
    audit = verify(log.read(), Claims(environment="bench"), Nobody())
    if not audit.ok:
        raise AssertionError(audit.problems)
    return audit


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Print a line for each way of writing."""
    with tempfile.TemporaryDirectory(prefix="ismgr-bench-", dir=os.environ.get("BENCH_DISK")) as scratch:
        for rate in measure(Path(scratch)):
            print(f"{rate.name:<32}{rate.records:>7} records {rate.seconds:>7.2f} s {rate.per_second:>9.0f}/s")  # noqa: T201


if __name__ == "__main__":
    main()
