"""Databases of steps and the processes around them. Every process that a test starts is ended with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.engines.steps.rows import Place
from ismgr_automation.engines.steps.sequencer import DbosSequencer
from ismgr_automation.ports.sequencer import Work
from tests.engines.steps.shared import HOLDER, Site

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    if request.param == "sqlite":
        return Site(Place(url=f"sqlite:///{tmp_path}/ismgr-steps.db"), tmp_path)
    name = request.getfixturevalue("postgres_database")
    server = request.getfixturevalue("postgres")
    return Site(Place(url=server.url(name), password=server.password), tmp_path)


@pytest.fixture
def sqlite_site(tmp_path: Path) -> Site:
    return Site(Place(url=f"sqlite:///{tmp_path}/ismgr-steps.db"), tmp_path)


Sequence = Callable[..., DbosSequencer]


@pytest.fixture
def sequence() -> Iterator[Sequence]:
    """Make a sequencer of this process; it is closed at the end of the test, whatever happens."""
    made: list[DbosSequencer] = []

    def make(
        site: Site, work: Work | None = None, *, name: str = "us", at_once: int = 4, ttl: float = 10
    ) -> DbosSequencer:
        sequencer = DbosSequencer(
            site.place,
            executor=name,
            holder=HOLDER,
            executors=site.executors,
            work=work or (lambda unit: site.work(unit, name)),
            at_once=at_once,
            ttl=timedelta(seconds=ttl),
        )
        made.append(sequencer)
        return sequencer

    yield make
    for one in made:
        one.close()


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start ``process.py`` with some orders."""
    started: list[subprocess.Popen[str]] = []

    def begin(site: Site, **orders: object) -> subprocess.Popen[str]:
        given = {"url": site.place.url, "folder": str(site.folder), "ttl": 10.0, "at_once": 4, "run": "run-1", **orders}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.engines.steps.process", json.dumps(given)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        assert process.stdin is not None
        # neither the command line nor the environment may hold it
        process.stdin.write(f"{site.place.password.reveal() if site.place.password is not None else ''}\n")
        process.stdin.flush()
        return process

    yield begin
    for one in started:
        if one.poll() is None:
            one.kill()
        one.communicate()
