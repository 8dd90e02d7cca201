"""A rehearsal for each test: its own estate, its own world."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rehearsal import Rehearsal


@pytest.fixture
def site(tmp_path: Path) -> Rehearsal:
    """Two sites, all machines off."""
    return Rehearsal(folder=tmp_path)


@pytest.fixture
def running(site: Rehearsal) -> Rehearsal:
    """Two sites that are up, configured and recorded."""
    site.settle()
    return site
