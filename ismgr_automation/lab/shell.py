"""How the lab runs the commands of its host (podman, ip, nft): argument lists, a deadline, one kind of error."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ismgr_automation.core.errors import EngineFailed, EngineTimedOut
from ismgr_automation.engines import process
from ismgr_automation.engines.process import Finished

ENGINE = "lab"
SHORT = timedelta(seconds=60)


def attempt(*argv: str, deadline: timedelta = SHORT, stdin: bytes | None = None) -> Finished:
    """Run a command and give back how it ended, also when it failed. Daemons that it leaves behind are the lab."""
    return process.run(argv, engine=ENGINE, subject=argv[0], deadline=deadline, stdin=stdin, leashed=False)


def command(*argv: str, deadline: timedelta = SHORT, stdin: bytes | None = None) -> str:
    """Run a command that must succeed; gives back what it printed, raises ``EngineFailed`` with its words."""
    finished = attempt(*argv, deadline=deadline, stdin=stdin)
    if finished.code != 0:
        raise EngineFailed(
            f"`{' '.join(argv[:4])} ...` failed with exit code {finished.code}.",
            engine=ENGINE,
            subject=argv[0],
            detail=(finished.stderr or finished.stdout).strip(),
            next_step="`ismgr lab down` removes what is there; then try again.",
        )
    return finished.stdout


def podman(*arguments: str, deadline: timedelta = SHORT) -> str:
    """Run podman; see ``command``."""
    return command("podman", *arguments, deadline=deadline)


def podman_json(*arguments: str) -> Any:
    """Run a podman command that prints JSON; an empty answer is an empty list."""
    return json.loads(podman(*arguments) or "[]")


def wait_until(what: str, holds: Callable[[], bool], deadline: timedelta, pause: timedelta) -> None:
    """Look until something holds; raises ``EngineTimedOut`` that names it."""
    end = time.monotonic() + deadline.total_seconds()
    while not holds():
        if time.monotonic() >= end:
            raise EngineTimedOut(
                f"Waited {deadline.total_seconds():.0f} s in vain: {what}.",
                engine=ENGINE,
                subject=what,
                next_step="`ismgr lab status` shows the lab; its folder holds the supervisor's log.",
            )
        time.sleep(pause.total_seconds())
