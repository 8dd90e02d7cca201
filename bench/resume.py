"""A whole resume of a run whose process was killed: the records are those that users have (SQLite, DBOS, files of
evidence), engines are doubles. ``python -m bench.resume FOLDER`` resumes the run that ``killed`` left there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.measure import Failed
from ismgr_automation.ports.memory import Boundary, Death
from ismgr_automation.ports.runs import RunState


def killed(folder: Path) -> None:
    """Leave a run whose process got SIGKILL once its first unit was written down as started. Its lease is broken, as
    somebody does who does not want to wait for its end. Raises ``Failed`` when the run came to an end."""
    from tests.runs.harness import run
    from tests.runs.test_killed_for_real import LOADED, apply_or_resume, free_lease

    folder.mkdir()
    ended = run(apply_or_resume, {"folder": str(folder)}, nth=1, only=Boundary.AFTER_STARTED, preload=LOADED)
    if not ended.killed:
        raise Failed("the run that was to be killed was not", ended.trace)
    free_lease(folder)


def resumed(folder: Path) -> int:
    """Go on with it to its end; how many changes landed. Raises ``RuntimeError`` when not all did."""
    from tests.runs.test_killed_for_real import Lasting

    site = Lasting(folder, Death())
    (left,) = (one for one in site.database.runs.runs() if one.state is RunState.RUNNING)
    with site.open() as estate:
        report = estate.resume(left.id)
    if not report.ok:
        raise RuntimeError(f"the resumed run did not end well: {report.stopped}")
    return len(report.outcomes)


def main() -> None:
    """Resume, and print how much there was to do as JSON."""
    json.dump({"changes": resumed(Path(sys.argv[1]))}, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
