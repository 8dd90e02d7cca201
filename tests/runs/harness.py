"""Kill -9 at every boundary: runs an entry in a process of its own that sends itself SIGKILL at the n-th one.

An entry is a function of a module, ``entry(death, arguments)``: it wraps its journal and ledger so that they pass the
boundaries of ``death`` (``MortalJournal``, ``MortalLedger``, ``death.around("anchor")``), and returns JSON. Processes
are forked from one that has imported everything, so each costs little. Nothing of this is known to the library.

    whole = run(entry, arguments(folder))               # whole.passed: the boundaries of an undisturbed run
    for nth in range(1, len(whole.passed) + 1):
        died = run(entry, arguments(other), nth=nth)
        assert died.killed
        again = run(resume, arguments(other))           # a new process, which nobody kills
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ismgr_automation.ports.memory import Boundary, Death

Arguments = Mapping[str, Any]
Entry = Callable[[Death, Arguments], Any]

PATIENCE_S = 120.0
PRELOADED = ["tests.runs.harness", "sqlalchemy", "tests.rehearsal", "ismgr_automation.engines.database"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process ended: its exit code (-9: SIGKILL), the boundaries that it passed, what the entry returned, and the
    trace of what it raised."""

    code: int | None
    passed: tuple[str, ...] = ()
    result: Any = None
    trace: str = ""

    @property
    def killed(self) -> bool:
        """Whether it died of SIGKILL, as it was told to."""
        return self.code == -signal.SIGKILL


def run(
    entry: Entry, arguments: Arguments, *, nth: int = 0, only: Boundary | str = "", preload: Sequence[str] = ()
) -> Ended:
    """Run ``entry`` in a new process, which is killed at the ``nth`` boundary, or at the nth passing of ``only``; 0:
    never. Fails when it does not end in time. ``preload``: modules that are imported once for all processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, *preload])
    with tempfile.TemporaryDirectory(prefix="ismgr-harness-") as folder:
        told = Path(folder) / "told.json"
        process = context.Process(target=_live, args=(entry, dict(arguments), nth, str(only), told), daemon=True)
        process.start()
        process.join(PATIENCE_S)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"{entry.__name__} did not end in {PATIENCE_S:g} s")
        body = json.loads(told.read_text()) if told.exists() else {}
    return Ended(
        code=process.exitcode,
        passed=tuple(body.get("passed", ())),
        result=body.get("result"),
        trace=body.get("trace", ""),
    )


def kill_oneself() -> None:
    """Die here, as a process dies that nobody can warn."""
    os.kill(os.getpid(), signal.SIGKILL)


def _live(entry: Entry, arguments: Arguments, nth: int, only: str, told: Path) -> None:
    death = Death(nth=nth, only=only, act=kill_oneself)
    body: dict[str, Any] = {}
    try:
        body["result"] = entry(death, arguments)
    except BaseException:
        body["trace"] = traceback.format_exc()
        raise
    finally:
        told.write_text(json.dumps({**body, "passed": death.passed}))
