"""Faults on machines that the shipped roles configured: each bites, is lifted and leaves nothing; what nobody lifts
lifts itself; what a run has left is lifted by the words of its journal."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import threading
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.queues import Queue
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.faults import MachineFaults
from ismgr_automation.engines.secrets import Backends, PrivateFiles
from ismgr_automation.lab import Lab
from ismgr_automation.lab.topology import Segment
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.faults import Direction, FaultRequest, Harm, Injection
from ismgr_automation.ports.hosts import Ssh
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import Sight
from ismgr_automation.ports.upkeep import BmcAccess, Cluster
from tests.fixtures_lab import answers_ssh, switch_on, until
from tests.playbooks.world import World

pytestmark = pytest.mark.lab

OLD, NEW, GATEWAY = "db1.dc1", "db1.dc2", "gw1.dc1"
LONG = timedelta(minutes=10)
SHORT = timedelta(seconds=8)
WAYS = {
    Harm.FREEZE: "signal",
    Harm.PARTITION: "filter",
    Harm.ROLLING: "filter",
    Harm.SLOW_LINK: "queue",
    Harm.DISK_FULL: "limit",
    Harm.READ_ONLY: "settings",
}
"""What machines of a lab can do, which may neither mount nor write control groups."""

ON_GATEWAYS = {Harm.PARTITION, Harm.ROLLING, Harm.SLOW_LINK}


@pytest.fixture(scope="module")
def world(fresh_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # a socket's path must be short
    with TemporaryDirectory(prefix="h-") as work:
        switch_on(fresh_lab, GATEWAY, "gw1.dc2", OLD, NEW)
        one = World(lab=fresh_lab, estate=tmp_path_factory.mktemp("estate") / "two-sites", work=Path(work))
        assert not one.play("databases").failed
        yield one


def store(estate: Path) -> Backends:
    return Backends({"file": PrivateFiles(root=estate / ".secrets")})


@pytest.fixture
def faults(world: World) -> MachineFaults:
    return MachineFaults(store(world.estate))


@pytest.fixture(autouse=True)
def _whole(world: World, faults: MachineFaults) -> Iterator[None]:
    """Nothing is left, and the old primary serves before the next test."""
    yield
    assert faults.left(everywhere(world), world.context()) == ()
    world.lab.run(OLD, ["systemctl", "start", "postgresql@15-main.service"])
    until("the old primary takes writes again", lambda: writes(world))


def fleet(world: World, *names: str) -> Fleet:
    return Fleet(hosts=world.hosts(), names=names, ssh=Ssh(key_file=world.lab.folder.operator_key))


def everywhere(world: World) -> Fleet:
    return fleet(world, OLD, NEW, GATEWAY)


def request(world: World, harm: Harm, **more: Any) -> FaultRequest:
    lab = world.lab
    pair = Cluster(fleet=fleet(world, OLD, NEW), version="15", name="main", port=5432, deadline=timedelta(seconds=30))
    given = {
        "run": "r1",
        "lifetime": LONG,
        "networks": (str(lab.topology.network(Segment.DC1)),),
        "peers": (str(lab.topology.network(Segment.DC2)),),
        "lead": timedelta(milliseconds=200),
    }
    return FaultRequest(
        name=harm.value,
        harm=harm,
        fleet=fleet(world, OLD),
        hosts=(GATEWAY,) if harm in ON_GATEWAYS else (OLD,),
        cluster=pair,
        bmc=BmcAccess(
            machine=OLD,
            address=lab.bmc_url(OLD),
            username=lab.bmc_credential(OLD)[0],
            password=SecretRef.parse(f"file:bmc/{OLD}"),
            ca=lab.folder.authority,
        ),
        address=str(lab.machine(OLD).address(Segment.DC1)),
        witnesses=(NEW,),
        **(given | more),
    )


@contextlib.contextmanager
def staged(world: World, faults: MachineFaults, harm: Harm, **more: Any) -> Iterator[Injection]:
    injection = faults.fault(request(world, harm, **more), world.context())
    try:
        seen = injection.stage()
        assert seen.sight is Sight.NOT_DONE, seen.words
        yield injection
    finally:
        injection.close()


def writes(world: World) -> bool:
    words = 'cd / && runuser -u postgres -- psql -qXAtc "SET statement_timeout = \'2s\'" -c "CREATE TABLE t ()"'
    done = world.lab.run(OLD, ["sh", "-c", f"{words} -c 'DROP TABLE t'"])
    return done.code == 0


@pytest.mark.parametrize("harm", WAYS)
def test_each_fault_bites_is_lifted_and_leaves_nothing(world: World, faults: MachineFaults, harm: Harm) -> None:
    with staged(world, faults, harm) as injection:
        assert {hurt["way"] for hurt in _hosts(injection)} == {WAYS[harm]}
        acted = injection.act()
        assert acted.ok, acted.words
        told = injection.bitten()
        assert told.ok, told.words
        assert NEW in told.by
        assert faults.left(everywhere(world), world.context())
        assert not injection.lifted().ok
        # whoever mends still gets there
        assert answers_ssh(world.lab, OLD)
        assert injection.renew()
        if harm is Harm.ROLLING:
            first, second = acted.readings["replication_ns"], acted.readings["site_ns"]
            assert acted.began_ns < first < second <= acted.ended_ns
        for _ in range(2):
            lifted = injection.lift()
            assert lifted.ok, lifted.words
        assert injection.lifted().ok
        assert not injection.renew()


@pytest.mark.parametrize("direction", [Direction.IN, Direction.OUT])
def test_a_partition_in_one_direction_is_a_partition(world: World, faults: MachineFaults, direction: Direction) -> None:
    with staged(world, faults, Harm.PARTITION, direction=direction) as injection:
        assert injection.act().ok
        told = injection.bitten()
        assert (told.ok, "has no answer" in told.words) == (True, True), told.words
        rules = world.lab.run(GATEWAY, ["nft", "list", "table", "inet", "ismgr_fault_r1_partition"]).stdout
        ends = {Direction.IN: "ip daddr", Direction.OUT: "ip saddr", Direction.BOTH: ""}
        assert [word for word in ends.values() if word and word in rules] == [ends[direction]]
        assert injection.lift().ok


@pytest.mark.parametrize("harm", [Harm.FREEZE, Harm.PARTITION, Harm.READ_ONLY])
def test_what_nobody_lifts_lifts_itself(world: World, faults: MachineFaults, harm: Harm) -> None:
    with staged(world, faults, harm, lifetime=SHORT) as injection:
        assert injection.act().ok
        assert injection.renew()
    until("it has lifted itself", lambda: faults.left(everywhere(world), world.context()) == ())
    assert writes(world)
    with staged(world, faults, harm, lifetime=SHORT) as injection:
        assert injection.act().ok
        until("it has lifted itself", lambda: injection.lifted().ok)
        assert not injection.renew()
        assert injection.lift().ok


def _break(asked: FaultRequest, estate: Path, work: Path, said: Queue[tuple[bool, str]]) -> None:
    injection = MachineFaults(store(estate)).fault(asked, Context(work=work))
    injection.stage()
    acted = injection.act()
    said.put((acted.ok, acted.words))
    threading.Event().wait()


def test_a_fault_whose_controller_was_killed_lifts_itself_without_ssh(
    world: World, faults: MachineFaults, tmp_path: Path
) -> None:
    spawn = multiprocessing.get_context("spawn")
    said: Any = spawn.Queue()
    asked = request(world, Harm.FREEZE, lifetime=timedelta(seconds=5))
    controller = spawn.Process(target=_break, args=(asked, world.estate, tmp_path, said))
    controller.start()
    try:
        assert said.get(timeout=60) == (True, "it stands")
    finally:
        controller.kill()
        controller.join(30)
    try:
        assert world.lab.run(OLD, ["systemctl", "stop", "ssh.service"]).code == 0
        assert not answers_ssh(world.lab, OLD)
        until("it has lifted itself", lambda: writes(world))
    finally:
        world.lab.run(OLD, ["systemctl", "start", "ssh.service"])
    until("its SSH server is back", lambda: answers_ssh(world.lab, OLD))


def test_a_queue_of_somebody_else_is_left_alone(world: World, faults: MachineFaults) -> None:
    assert world.lab.run(GATEWAY, ["tc", "qdisc", "add", "dev", "site0", "root", "pfifo", "limit", "100"]).code == 0
    try:
        with staged(world, faults, Harm.SLOW_LINK) as injection:
            assert [hurt["way"] for hurt in _hosts(injection)] == ["policer"]
            assert injection.act().ok
            told = injection.bitten()
            assert told.ok, told.words
            assert injection.lift().ok
            assert "pfifo" in world.lab.run(GATEWAY, ["tc", "qdisc", "show", "dev", "site0"]).stdout
    finally:
        world.lab.run(GATEWAY, ["tc", "qdisc", "del", "dev", "site0", "root"])


def _lift(undo: str, estate: Path, fleet: Fleet, work: Path, said: Queue[tuple[bool, str]]) -> None:
    acted = MachineFaults(store(estate)).lift(json.loads(undo), fleet, Context(work=work))
    said.put((acted.ok, acted.words))


@pytest.mark.parametrize("harm", [Harm.FREEZE, Harm.SLOW_LINK, Harm.POWER_OFF])
def test_another_process_lifts_by_the_words_of_the_journal(
    world: World, faults: MachineFaults, tmp_path: Path, harm: Harm
) -> None:
    with staged(world, faults, harm) as injection:
        undo = json.dumps(injection.undo())
        assert injection.act().ok
        told = injection.bitten()
        assert told.ok, told.words
    assert faults.left(everywhere(world), world.context())
    spawn = multiprocessing.get_context("spawn")
    said: Any = spawn.Queue()
    other = spawn.Process(target=_lift, args=(undo, world.estate, fleet(world), tmp_path, said))
    other.start()
    ok, words = said.get(timeout=120)
    other.join(30)
    assert ok, words


def test_hosts_know_how_their_faults_are_lifted_when_no_journal_is_left(world: World, faults: MachineFaults) -> None:
    for harm in (Harm.FREEZE, Harm.PARTITION):
        with staged(world, faults, harm) as injection:
            assert injection.act().ok
    found = faults.found(everywhere(world), world.context())
    assert {str(one["do"]) for one in found} == {"freeze", "partition"}
    assert all(faults.lift(one, fleet(world), world.context()).ok for one in found)


def test_a_stale_primary_comes_back_as_one_and_is_stopped_again(world: World, faults: MachineFaults) -> None:
    with staged(world, faults, Harm.STALE_PRIMARY) as injection:
        assert injection.act().ok
        told = injection.bitten()
        assert told.ok, told.words
        back = injection.come_back()
        assert back.ok, back.words
        assert writes(world)
        assert injection.renew()
        assert not injection.lifted().ok
        for _ in range(2):
            lifted = injection.lift()
            assert lifted.ok, lifted.words
        assert injection.lifted().ok
        assert not writes(world)


def test_a_stale_primary_that_somebody_started_anew_is_left_alone(world: World, faults: MachineFaults) -> None:
    with staged(world, faults, Harm.STALE_PRIMARY) as injection:
        assert injection.act().ok
        assert injection.come_back().ok
        world.lab.run(OLD, ["systemctl", "restart", "postgresql@15-main.service"])
        assert injection.lift().ok
        assert writes(world)


UNDONE: dict[Harm, tuple[str, list[str]]] = {
    Harm.FREEZE: (OLD, ["pkill", "-CONT", "-x", "postgres"]),
    Harm.PARTITION: (GATEWAY, ["nft", "flush", "ruleset"]),
    Harm.SLOW_LINK: (GATEWAY, ["tc", "qdisc", "del", "dev", "site0", "root"]),
}
"""What somebody else does to a fault that has just been done."""


@pytest.mark.parametrize("harm", UNDONE)
def test_a_fault_that_somebody_took_back_has_not_bitten(world: World, faults: MachineFaults, harm: Harm) -> None:
    with staged(world, faults, harm, deadline=timedelta(seconds=2)) as injection:
        assert injection.act().ok
        host, command = UNDONE[harm]
        done = world.lab.run(host, command)
        assert done.code == 0, done.stderr
        told = injection.bitten()
        assert not told.ok, told.words
        assert injection.lift().ok


def test_what_cannot_be_done_is_said_before(world: World, faults: MachineFaults) -> None:
    world.lab.run(OLD, ["systemctl", "stop", "postgresql@15-main.service"])
    injection = faults.fault(request(world, Harm.FREEZE), world.context())
    try:
        seen = injection.stage()
        assert (seen.sight, seen.words) == (Sight.UNKNOWN, f"{OLD}: no server runs there")
        with pytest.raises(InputError, match="was not staged"):
            injection.act()
    finally:
        injection.close()


def _hosts(injection: Injection) -> list[Any]:
    hosts: Any = injection.undo()["hosts"]
    return list(hosts.values())
