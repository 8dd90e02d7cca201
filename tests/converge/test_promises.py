"""Promises of groups by the base and the proposed revision: a commit cannot lower the promise that it would break."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ismgr_automation.estate.load import load
from ismgr_automation.estate.model import Estate
from ismgr_automation.ports.memory import MemoryPins
from ismgr_automation.ports.trust import Pin
from tests.converge.test_waves import DATABASES, fleet, promise, worked_on
from tests.rehearsal import Rehearsal

__all__ = ["fleet"]

KEPT = "waves: ['100%']\nminimum_available: 3"


def pinned(site: Rehearsal) -> None:
    """Trust the documents as they stand now."""
    tree = site.source(site.folder).checkout("HEAD", site.folder / "pinned")
    documents, _ = load(tree.root, tree.objects)
    assert documents is not None
    known: dict[str, Estate] = {tree.revision.commit: documents}
    name = documents.document.name
    pin = Pin(estate=name, folder="", commit=tree.revision.commit, signers=())
    site.safeguards = replace(site.safeguards, pins=MemoryPins({name: pin}), documents=lambda commit: known[commit])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("minimum_available: 3", "minimum_available: 0", id="lowered"),
        pytest.param("\nminimum_available: 3", "", id="taken away"),
    ],
)
def test_a_promise_that_the_same_commit_lowers_still_holds(fleet: Rehearsal, old: str, new: str) -> None:
    promise(fleet, KEPT)
    pinned(fleet)
    fleet.edit("groups.yaml", old, new)
    planned = fleet.plan()
    sizes = [len(change.targets) for change in planned.changes if change.address.name == "databases"]
    assert sizes
    assert set(sizes) == {1}
    assert max(sum(len(planned.change(key).targets) for key in wave) for wave in planned.waves) == 1
    assert fleet.apply(planned).ok
    assert worked_on(fleet) == [(name,) for name in DATABASES[: len(sizes)]]


def test_members_that_a_commit_takes_out_of_a_group_still_count_for_its_promise(fleet: Rehearsal) -> None:
    promise(fleet, KEPT)
    pinned(fleet)
    fleet.edit("groups.yaml", "minimum_available: 3", "minimum_available: 0")
    fleet.edit("groups.yaml", 'host.labels.role == "db"', 'host.name in ["db1.dc1", "db2.dc1"]')
    planned = fleet.plan()
    assert [change.targets[0].name for change in planned.changes if change.address.name == "databases"] == [
        "db1.dc1",
        "db2.dc1",
    ]


def test_a_promise_that_the_same_commit_raises_holds_at_once(fleet: Rehearsal) -> None:
    promise(fleet, "waves: ['100%']\nminimum_available: 1")
    pinned(fleet)
    fleet.edit("groups.yaml", "minimum_available: 1", "minimum_available: 3")
    assert fleet.apply().ok
    assert worked_on(fleet) == [(name,) for name in DATABASES]


def test_a_lowered_promise_counts_once_its_commit_is_pinned(fleet: Rehearsal) -> None:
    promise(fleet, KEPT)
    pinned(fleet)
    fleet.edit("groups.yaml", "minimum_available: 3", "minimum_available: 0")
    pinned(fleet)
    assert fleet.apply().ok
    assert worked_on(fleet) == [DATABASES]


def test_without_a_pin_the_proposed_promise_is_the_only_one(fleet: Rehearsal) -> None:
    promise(fleet, "waves: ['100%']\nminimum_available: 0")
    assert fleet.apply().ok
    assert worked_on(fleet) == [DATABASES]
