"""Which hosts are kept whole, and whether one is what it was before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ismgr_automation.estate.documents import HostGroup
from ismgr_automation.estate.maintenance import BaselineRule, PatchBaseline, RollbackPolicy, Snapshots, Switchover
from ismgr_automation.patching.snapshots import kept_whole, not_former
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.packages import Boot, HostFacts, Installed, Move

HOSTS = tuple(
    Host(name=name, address="192.0.2.1", origin="", labels={"role": name[:-1]}) for name in ("db1", "db2", "web1")
)
GROUPS = {
    name: HostGroup(kind="HostGroup", name=name, selector="true", playbook="play.yml", switchover=switchover)
    for name, switchover in (("databases", Switchover()), ("webs", None), ("spare", Switchover()))
}
MEMBERSHIP = {"databases": ("db1", "db2"), "webs": ("web1",), "spare": ()}


def chosen(rollback: RollbackPolicy = RollbackPolicy.ON_FAILURE, **snapshots: Any) -> set[str]:
    document = PatchBaseline(
        kind="PatchBaseline",
        name="all",
        selector="true",
        rules=(BaselineRule(name="all", when="true"),),
        rollback=rollback,
        snapshots=Snapshots(command=("keep",), **snapshots),
    )
    return set(kept_whole(document, HOSTS, GROUPS, MEMBERSHIP))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"web1"}),
        ({"databases": ("databases",)}, {"db1", "db2", "web1"}),
        ({"databases": ("spare",)}, {"web1"}),
        ({"databases": ("databases",), "selector": 'host.name == "db2"'}, {"db2"}),
        ({"selector": 'host.labels.role == "db"'}, set()),
        ({"rollback": RollbackPolicy.REQUIRED}, {"web1"}),
        ({"rollback": RollbackPolicy.NEVER, "databases": ("databases",)}, set()),
    ],
)
def test_databases_are_kept_whole_by_the_name_of_their_group_only(asked: dict[str, Any], expected: set[str]) -> None:
    assert chosen(**asked) == expected


def facts(*installed: tuple[str, str, str]) -> HostFacts:
    return HostFacts(
        host="web1",
        read_at=datetime(2026, 11, 2, tzinfo=UTC),
        distribution="debian",
        release="12",
        codename="bookworm",
        kernel="6.1",
        kernel_installed="",
        boot=Boot(boot_id="a", init_started=1),
        installed=tuple(
            Installed(
                name=name,
                architecture="amd64",
                version=version,
                source=name,
                source_version=version,
                status=status,
            )
            for name, version, status in installed
        ),
        offered=(),
    )


def move(before: str = "1.0", after: str = "1.1", architecture: str = "amd64") -> Move:
    return Move(name="tool", architecture=architecture, before=before, after=after)


@pytest.mark.parametrize(
    ("there", "moved", "wrong"),
    [
        ([("tool", "1.0", "ii")], move(), ()),
        ([("tool", "1.0", "hi"), ("other", "9", "iF")], move(), ()),
        ([("tool", "1.1", "ii")], move(), ("tool is 1.1",)),
        ([("tool", "1.0", "iF")], move(), ("tool is 1.0 and iF",)),
        ([], move(), ("tool is not installed",)),
        ([("tool", "1.0", "ii")], move(architecture="i386"), ("tool is not installed",)),
        ([], move(before=""), ()),
        ([("tool", "1.1", "ii")], move(before=""), ("tool is 1.1",)),
    ],
)
def test_a_host_is_what_it_was_when_every_package_that_moved_is(
    there: list[tuple[str, str, str]], moved: Move, wrong: tuple[str, ...]
) -> None:
    assert not_former(facts(*there), [moved]) == wrong
