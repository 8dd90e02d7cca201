"""Draining, switching over and restarting on machines that the shipped roles configured, and what the roles say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.haproxy import HaproxyBalancer
from ismgr_automation.engines.postgresql import PostgresqlManager
from ismgr_automation.engines.redfish_firmware import RedfishUpkeep
from ismgr_automation.engines.restart import SystemdRestarter
from ismgr_automation.engines.secrets import Backends, PrivateFiles
from ismgr_automation.lab import Lab
from ismgr_automation.lab.topology import Segment
from ismgr_automation.ports.hosts import Ssh
from ismgr_automation.ports.packages import Boot, Fleet, Restart
from ismgr_automation.ports.upkeep import BmcAccess, Cluster, Part, Pool
from tests.fixtures_lab import switch_on
from tests.playbooks.world import World

pytestmark = pytest.mark.lab

STORE = Backends.from_json({})
WITHIN = timedelta(seconds=60)


@pytest.fixture(scope="module")
def world(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # a socket's path must be short
    with TemporaryDirectory(prefix="h-") as work:
        switch_on(lab, *(machine.name for machine in lab.topology.servers))
        one = World(lab=lab, estate=tmp_path_factory.mktemp("estate") / "two-sites", work=Path(work))
        for group in ("databases", "webs", "edges"):
            assert not one.play(group).failed
        yield one


def fleet(world: World, *names: str) -> Fleet:
    return Fleet(hosts=world.hosts(), names=names, ssh=Ssh(key_file=world.lab.folder.operator_key))


def cluster(world: World) -> Cluster:
    members = fleet(world, "db1.dc1", "db1.dc2")
    return Cluster(fleet=members, version="15", name="main", port=5432, deadline=WITHIN)


def sql(world: World, name: str, text: str) -> str:
    done = world.lab.run(name, ["sh", "-c", f'cd / && runuser -u postgres -- psql -qXAtc "{text}"'])
    assert done.code == 0, done.stderr
    return done.stdout.strip()


def test_a_web_host_is_drained_at_every_edge_and_put_back(world: World) -> None:
    pool = Pool(
        fleet=fleet(world, "edge1.dc1", "edge1.dc2"),
        backend="web",
        server="web1.dc1",
        socket="/run/haproxy/admin.sock",
        deadline=WITHIN,
    )
    balancer = HaproxyBalancer(STORE)
    drained = balancer.drain(pool, world.context())
    assert [(one.ok, one.before, one.detail) for one in drained] == [(True, "ready", "")] * 2
    assert [one.before for one in balancer.states(pool, world.context())] == ["drain", "drain"]
    edge = f"http://{world.lab.machine('edge1.dc1').address(Segment.DC1)}/healthz"
    asked = world.lab.run("client", ["curl", "--silent", "--show-error", "--fail", "--max-time", "10", edge])
    assert asked.code == 0, asked.stderr
    restored = balancer.restore(pool, world.context())
    assert [(one.ok, one.before, one.detail) for one in restored] == [(True, "drain", "")] * 2


def test_the_primary_moves_and_the_role_agrees_only_when_git_does(world: World) -> None:
    manager, pair = PostgresqlManager(STORE), cluster(world)
    sql(world, "db1.dc1", "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS id")
    there = manager.switchover(pair, "db1.dc2", world.context())
    assert (there.ok, there.primary, there.detail) == (True, "db1.dc2", "")
    assert [one.part for one in manager.members(pair, world.context())] == [Part.STANDBY, Part.PRIMARY]
    # Git still names the old primary: the role touches nothing and says what to do
    refused = world.play("databases")
    assert "this cluster is a standby" in refused.failed["db1.dc1"]
    assert "If it is the primary now, name it in postgresql_primary" in refused.failed["db1.dc2"]
    assert not refused.changed
    # the one way: Git follows
    followed = world.play("databases", extra={"postgresql_primary": "db1.dc2"})
    assert not followed.failed
    assert sql(world, "db1.dc1", "SELECT status FROM pg_stat_wal_receiver") == "streaming"
    # the other way: back to where Git is
    back = manager.switchover(pair, "db1.dc1", world.context())
    assert (back.ok, back.primary, back.detail) == (True, "db1.dc1", "")
    assert not world.play("databases").failed
    assert not world.verify("databases")
    assert not world.play("databases").changed
    assert sql(world, "db1.dc2", "SELECT count(*) FROM kept") == "1000"


def test_there_and_back_at_once_leaves_nothing_for_the_role_to_do(world: World) -> None:
    manager, pair = PostgresqlManager(STORE), cluster(world)
    for to in ("db1.dc2", "db1.dc1"):
        done = manager.switchover(pair, to, world.context())
        assert (done.ok, done.detail) == (True, "")
    assert not world.play("databases").changed
    assert not world.verify("databases")


def test_a_machine_is_restarted_with_proof_and_only_once(world: World) -> None:
    restarter = SystemdRestarter(STORE)
    request = Restart(fleet=fleet(world, "web1.dc2"), boots={}, within=WITHIN)
    (first,) = restarter.reboot(request, world.context())
    assert (first.ok, first.detail) == (True, "")
    assert first.proof.startswith("PID 1 started at tick ")
    assert first.boot is not None
    earlier = Boot(boot_id=first.boot.boot_id, init_started=first.boot.init_started - 1)
    (again,) = restarter.reboot(replace(request, boots={"web1.dc2": earlier}), world.context())
    assert again.boot == first.boot
    units = {"web1.dc2": ("ssh.service", "cron.service-that-is-not-there")}
    (services,) = restarter.services(replace(request, units=units, within=timedelta(seconds=10)), world.context())
    assert not services.ok
    assert "cron.service-that-is-not-there" in services.detail
    (services,) = restarter.services(replace(request, units={"web1.dc2": ("ssh.service",)}), world.context())
    assert (services.ok, services.proof) == (True, "active: ssh.service")


def test_a_machine_is_restarted_by_its_bmc_and_its_boot_proves_it(world: World, tmp_path: Path) -> None:
    user, password = world.lab.bmc_credential("web1.dc2")
    kept = tmp_path / "secrets"
    kept.mkdir(mode=0o700)
    (kept / "bmc").write_text(password)
    (kept / "bmc").chmod(0o600)
    access = BmcAccess(
        machine="web1.dc2",
        address=world.lab.bmc_url("web1.dc2"),
        username=user,
        password=SecretRef.parse("file:bmc"),
        ca=world.lab.folder.authority,
    )
    upkeep = RedfishUpkeep(Backends({"file": PrivateFiles(root=kept)}))
    restarter = SystemdRestarter(STORE)
    request = Restart(fleet=fleet(world, "web1.dc2"), boots={}, within=WITHIN)
    (here,) = restarter.services(replace(request, units={"web1.dc2": ("ssh.service",)}), world.context())
    assert here.boot is not None
    said = upkeep.restart(access, WITHIN, world.context())
    assert said == "GracefulRestart through the BMC of web1.dc2"
    (back,) = restarter.await_back(replace(request, boots={"web1.dc2": here.boot}), world.context())
    assert (back.ok, back.detail) == (True, "")
    assert back.proof.startswith("PID 1 started at tick ")
    assert back.boot is not None
    assert back.boot.after(here.boot)
