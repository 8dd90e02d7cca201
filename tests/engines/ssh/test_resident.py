"""A program that stays on a host and answers line by line, over a real OpenSSH server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.engines.ssh.remote import Rights
from ismgr_automation.engines.ssh.resident import resident
from ismgr_automation.engines.ssh.warm import Warm
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.packages import Fleet
from tests.engines.loopback import Loopback

WITHIN = timedelta(seconds=10)
COUNTS = """
import sys
print("ready", flush=True)
for number, line in enumerate(sys.stdin):
    if line == "end\\n":
        sys.exit()
    print(f"{sys.argv[1]} {number} {line.strip()}", flush=True)
"""


@pytest.fixture
def warm(loopback: Loopback) -> Iterator[Warm]:
    fleet = Fleet(hosts=[loopback.host("one")], names=["one"], ssh=loopback.ssh)
    with Warm(fleet, loopback.store, threading.Event()) as connections:
        yield connections


def test_it_is_started_once_and_answers_every_line(warm: Warm) -> None:
    loaded = warm.load("one", resident(COUNTS, ("it's $HOME",), Rights.USER))
    assert loaded.lost is None
    said = [loaded.go(WITHIN, line) for line in ("first", "`second`", "third")]
    assert [one.output for one in said] == ["it's $HOME 0 first", "it's $HOME 1 `second`", "it's $HOME 2 third"]
    assert {one.code for one in said} == {0}


def test_a_program_that_ends_is_an_answer(warm: Warm) -> None:
    loaded = warm.load("one", resident(COUNTS, ("x",), Rights.USER))
    answer = loaded.go(WITHIN, "end")
    assert (answer.reach, answer.code, answer.detail) == (Reach.OK, 4, "the program has ended")


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "print('not yet')", "this is no Python"])
def test_a_program_that_does_not_begin_is_lost_with_why(warm: Warm, program: str) -> None:
    loaded = warm.load("one", resident(program, ()))
    assert loaded.lost is not None
    assert "the program did not begin" in loaded.lost.detail


def test_it_ends_with_the_connection(warm: Warm, tmp_path: Path) -> None:
    here = "import os, sys\nopen(sys.argv[1], 'w').write(str(os.getpid()))\n" + COUNTS
    assert warm.load("one", resident(here, (str(tmp_path / "pid"),))).lost is None
    pid = (tmp_path / "pid").read_text()
    warm.close()
    end = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
