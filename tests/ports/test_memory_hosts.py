"""The double of a configuration engine: unplanned changes, moving predictions, fences and what is left running."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.address import group
from ismgr_automation.core.errors import LeaseLost
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, PlaybookRequest, PlaybookResult, Reach, Ssh
from ismgr_automation.ports.memory import MemoryPlaybookEngine, MemoryWorld
from ismgr_automation.ports.memory.world import Task

WEBS = tuple(Host(name=name, address=name, origin="hosts.yml") for name in ("web1", "web2"))
REQUEST = PlaybookRequest(
    address=group("webs"),
    playbook=Path("web.yml"),
    root=Path(),
    inventory=WEBS,
    groups={},
    limit=("web1", "web2"),
    variables={},
    ssh=Ssh(),
    become=False,
    become_password=None,
    roles_path=(),
    deadline=timedelta(minutes=1),
    fence="two-sites/production",
)


@pytest.fixture
def world() -> MemoryWorld:
    return MemoryWorld(
        playbooks={"web.yml": [Task(name="page", value="new"), Task(name="mode", value="0644")]},
        inventories={"hosts.yml": WEBS},
        values={name: {"page": "old", "mode": "0644"} for name in ("web1", "web2")},
    )


def context(token: int = 0) -> Context:
    return Context(work=Path("work"), token=token, run="run-1")


def told(result: PlaybookResult) -> list[tuple[str, str]]:
    return [(one.host, one.path) for one in result.tasks]


def test_a_task_can_change_though_check_mode_said_no_and_be_done_though_it_said_yes(world: MemoryWorld) -> None:
    engine = MemoryPlaybookEngine(world)
    world.surprises.add(("web1", "mode"))
    world.idle.add(("web2", "page"))
    assert told(engine.check(REQUEST, context())) == [("web1", "web.yml:1"), ("web2", "web.yml:1")]
    assert told(engine.run(REQUEST, context())) == [("web1", "web.yml:1"), ("web1", "web.yml:2")]


def test_what_check_mode_says_moves_with_the_world(world: MemoryWorld) -> None:
    engine = MemoryPlaybookEngine(world)
    engine.run(REQUEST, context())
    assert engine.check(REQUEST, context()).tasks == ()
    world.values["web2"]["mode"] = "0777"
    assert told(engine.check(REQUEST, context())) == [("web2", "web.yml:2")]


def test_a_host_that_knows_a_larger_token_refuses_and_nothing_runs_anywhere(world: MemoryWorld) -> None:
    engine = MemoryPlaybookEngine(world)
    world.fences["web2", "two-sites/production"] = 8
    with pytest.raises(LeaseLost, match="web2 has seen token 8"):
        engine.run(REQUEST, context(token=7))
    assert world.values["web1"]["page"] == "old"
    engine.check(REQUEST, context(token=7))
    engine.run(replace(REQUEST, fence="other/test"), context(token=7))
    engine.run(REQUEST, context(token=8))
    assert world.fences["web1", "two-sites/production"] == 8


def test_a_sweep_ends_what_it_can_and_tells_the_rest(world: MemoryWorld) -> None:
    engine = MemoryPlaybookEngine(world)
    world.leftovers["web1"] = ("apt-get install", "dpkg --configure")
    world.immortal.add("dpkg --configure")
    world.reach["web2"] = Reach.TIMEOUT
    assert engine.sweep(REQUEST, context()) == (
        "web1: pid 1 still runs: dpkg --configure",
        "web2: what runs there is not known (timeout)",
    )
    assert world.leftovers == {"web1": ("dpkg --configure",)}
    world.immortal.clear()
    assert engine.sweep(replace(REQUEST, limit=("web1",)), context()) == ()
