"""The doubles of what takes hosts out of service: they refuse, remember and fail as the real ones do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled, EngineFailed, Unreachable
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, Reach, Ssh
from ismgr_automation.ports.memory import MemoryBalancer, MemoryCluster, MemoryMachineUpkeep, MemoryUpkeepWorld
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.upkeep import (
    Balancer,
    BmcAccess,
    Cluster,
    ClusterManager,
    FirmwareUpdate,
    MachineUpkeep,
    Part,
    Pool,
)

EDGES, DATABASES = ("edge1", "edge2"), ("db1", "db2")


def fleet(names: tuple[str, ...]) -> Fleet:
    return Fleet(hosts=[Host(name=one, address=one, origin="hosts.yml") for one in names], names=names, ssh=Ssh())


POOL = Pool(fleet=fleet(EDGES), backend="web", server="web1", socket="/run/x", deadline=timedelta(seconds=1))
CLUSTER = Cluster(fleet=fleet(DATABASES), version="15", name="main", port=5432, deadline=timedelta(seconds=1))
BMC = BmcAccess(machine="db1", address="https://192.0.2.1", username="admin", password=SecretRef.parse("file:bmc"))
BIOS = FirmwareUpdate(
    bmc=BMC, component="BIOS", version="2", image="https://192.0.2.9/b", deadline=timedelta(seconds=1)
)


@pytest.fixture
def context() -> Context:
    return Context(work=Path("work"))


@pytest.fixture
def world() -> MemoryUpkeepWorld:
    parts = {"db1": Part.PRIMARY, "db2": Part.STANDBY}
    return MemoryUpkeepWorld(parts=parts, firmware={"db1": {"BIOS": "1", "NIC": "7"}})


def test_each_double_stands_at_its_port(world: MemoryUpkeepWorld) -> None:
    balancer: Balancer = MemoryBalancer(world)
    manager: ClusterManager = MemoryCluster(world)
    machines: MachineUpkeep = MemoryMachineUpkeep(world)
    assert all((balancer, manager, machines))


def test_what_was_drained_is_put_back_and_what_somebody_else_drained_stays(world, context) -> None:
    world.servers["edge2", "web/web1"] = "maint"
    world.sessions["edge1", "web/web1"] = 3
    balancer = MemoryBalancer(world)
    ours, other = balancer.drain(POOL, context)
    assert (ours.before, ours.sessions, other.before) == ("ready", 3, "maint")
    assert "somebody else" in other.detail
    assert [one.before for one in balancer.drain(POOL, context)] == ["ready", "maint"]
    assert [one.before for one in balancer.restore(POOL, context)] == ["drain", "maint"]
    assert [one.before for one in balancer.states(POOL, context)] == ["ready", "maint"]
    world.unhealthy.add("web1")
    assert [one.ok for one in balancer.restore(POOL, context)] == [False, True]


def test_a_balancer_that_does_not_answer_is_a_result(world, context) -> None:
    answers = {"edge1": Reach.TIMEOUT}
    balancer = MemoryBalancer(replace(world, answers=lambda name: answers.get(name, Reach.OK)))
    assert [(one.balancer, one.ok) for one in balancer.drain(POOL, context)] == [("edge1", False), ("edge2", True)]


def test_a_switchover_moves_the_primary_and_its_repetition_does_nothing(world, context) -> None:
    cluster = MemoryCluster(world)
    done = cluster.switchover(CLUSTER, "db2", context)
    assert (done.ok, done.primary, world.primaries()) == (True, "db2", ["db2"])
    assert cluster.switchover(CLUSTER, "db2", context).steps == ("db2 is the primary already",)
    assert [one.part for one in cluster.members(CLUSTER, context)] == [Part.STANDBY, Part.PRIMARY]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"lagging": {"db2"}}, "db2 does not stream"),
        ({"parts": {"db1": Part.PRIMARY, "db2": Part.PRIMARY}}, "there are 2 primaries"),
        ({"parts": {"db1": Part.DOWN, "db2": Part.STANDBY}}, "there are 0 primaries"),
        ({"answers": lambda name: Reach.OK if name == "db2" else Reach.REFUSED}, "nobody can tell what db1 is"),
    ],
)
def test_an_unsafe_switchover_is_refused_and_moves_nothing(world, context, change, why: str) -> None:
    world = replace(world, **change)
    before = dict(world.parts)
    refused = MemoryCluster(world).switchover(CLUSTER, "db2", context)
    assert not refused.ok
    assert why in refused.detail
    assert world.parts == before


def test_an_old_primary_that_is_stuck_leaves_one_primary(world, context) -> None:
    world.stuck.add("db1")
    failed = MemoryCluster(world).switchover(CLUSTER, "db2", context)
    assert (failed.ok, failed.primary, world.primaries()) == (False, "db2", ["db2"])


def test_firmware_is_compared_first_and_a_version_that_does_not_come_is_a_result(world, context) -> None:
    machines = MemoryMachineUpkeep(world)
    first, again = (machines.update(BIOS, context) for _ in range(2))
    assert (first.ok, first.before, first.after, first.reset) == (True, "1", "2", True)
    assert (again.ok, again.detail, again.reset) == (True, "it has this version already", False)
    world.keeps.add(("db1", "NIC"))
    kept = machines.update(replace(BIOS, component="NIC"), context)
    assert (kept.ok, kept.after) == (False, "7")
    assert [(one.id, one.version) for one in machines.inventory(BMC, context)] == [("BIOS", "2"), ("NIC", "7")]
    with pytest.raises(EngineFailed, match="knows no firmware 'GPU'"):
        machines.update(replace(BIOS, component="GPU"), context)
    machines.power_cycle(BMC, timedelta(seconds=1), context)
    assert world.cycled == ["db1"]


def test_faults_silence_and_a_cancelled_context_are_raised(world, context) -> None:
    machines = MemoryMachineUpkeep(replace(world, answers=lambda _name: Reach.TIMEOUT))
    with pytest.raises(Unreachable):
        machines.inventory(BMC, context)
    world.faults["switchover db2"] = EngineFailed("no", engine="memory")
    with pytest.raises(EngineFailed):
        MemoryCluster(world).switchover(CLUSTER, "db2", context)
    context.cancelled.set()
    with pytest.raises(Cancelled):
        MemoryBalancer(world).drain(POOL, context)
