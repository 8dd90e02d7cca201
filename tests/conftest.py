"""What all tests share: the order of the suite and hypothesis' profile. Fixtures live in the plugins named below."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent

# each is a room's own; a checkout without the room still runs its other tests
pytest_plugins = [
    f"tests.{name}"
    for name in ("fixtures_canaries", "fixtures_engine", "fixtures_lab", "fixtures_postgres")
    if (TESTS / f"{name}.py").exists()
]

# the same examples on every run, and no time limit: a slow machine is no bug
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
# new examples on every run, for the desk: HYPOTHESIS_PROFILE=explore
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


# cases are what tests read, and no tests
collect_ignore = ["cases"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long stories on real machines come first: with workers, the short tests fill what is left of the time. Of
    them, those about the lab itself want machines as they were made, and come before those that configure some."""

    def turn(item: pytest.Item) -> int:
        if item.get_closest_marker("lab") is None:
            return 2
        return 0 if TESTS / "lab" in item.path.parents else 1

    items.sort(key=turn)
