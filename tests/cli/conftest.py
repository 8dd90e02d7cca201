"""The command line over a rehearsal: the same arguments that a person types, no process, no engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ismgr_automation.cli.main import run
from tests.rehearsal import Rehearsal


@dataclass(frozen=True, slots=True)
class Said:
    """What one command line gave: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines of stdout."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def result(self) -> dict[str, Any]:
        """The last JSON line."""
        return self.lines[-1]


Say = Callable[..., Said]


@pytest.fixture
def site(tmp_path: Path) -> Rehearsal:
    """Two sites, all machines off."""
    return Rehearsal(folder=tmp_path)


@pytest.fixture
def running(site: Rehearsal) -> Rehearsal:
    """Two sites that are up."""
    site.settle()
    return site


@pytest.fixture
def say(site: Rehearsal, capsys: pytest.CaptureFixture[str]) -> Say:
    """Type a command line in the estate's folder."""

    def typed(*arguments: str | Path, at: bool = True) -> Said:
        place = ["-C", str(site.folder)] if at else []
        code = run([*place, *map(str, arguments)], wiring=site)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return typed
