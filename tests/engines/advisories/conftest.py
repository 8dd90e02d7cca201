"""What the tests of advisories share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ismgr_automation.engines.advisories import FileAdvisories, Limits
from tests.engines.advisories.site import Clock, Site, serve


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as one:
        yield one


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(tmp_path: Path, clock: Clock) -> FileAdvisories:
    return FileAdvisories(tmp_path / "cache", now=clock, limits=Limits(file_bytes=200_000), installed=tmp_path / "none")
