"""Fences, their witnesses and switches on machines that the shipped roles configured: power by a BMC, a packet filter,
two balancers, a name."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.fences import HostFences
from ismgr_automation.engines.secrets import Backends, PrivateFiles
from ismgr_automation.engines.switches import ClientSwitches
from ismgr_automation.lab import Lab
from ismgr_automation.lab.topology import TSIG_KEY, ZONE, Segment
from ismgr_automation.ports.hosts import Ssh
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import BackendRequest, FenceRequest, NameRequest, Sight, Verb, Witness
from ismgr_automation.ports.upkeep import BmcAccess
from tests.fixtures_lab import answers_ssh, switch_on, until
from tests.playbooks.world import SECRETS, World

pytestmark = pytest.mark.lab

WITHIN = timedelta(seconds=60)
OLD, NEW = "db1.dc1", "db1.dc2"
EDGES = ("edge1.dc1", "edge1.dc2")
WITNESSES = ("db1.dc2", "web1.dc1")


@pytest.fixture(scope="module")
def world(fresh_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # a socket's path must be short
    with TemporaryDirectory(prefix="h-") as work:
        switch_on(fresh_lab, *(machine.name for machine in fresh_lab.topology.servers))
        one = World(lab=fresh_lab, estate=tmp_path_factory.mktemp("estate") / "two-sites", work=Path(work))
        for group in ("nameservers", "databases", "webs", "edges"):
            assert not one.play(group).failed
        yield one


@pytest.fixture
def store(world: World) -> Backends:
    return Backends({"file": PrivateFiles(root=world.estate / ".secrets")})


@pytest.fixture(autouse=True)
def _whole(world: World) -> Iterator[None]:
    """The pair is as Git says before the next test."""
    yield
    assert not world.play("databases").failed


def fleet(world: World, *names: str) -> Fleet:
    return Fleet(hosts=world.hosts(), names=names, ssh=Ssh(key_file=world.lab.folder.operator_key))


def request(world: World, bmc: BmcAccess | None = None) -> FenceRequest:
    management = str(world.lab.topology.network(Segment.MANAGEMENT))
    return FenceRequest(
        host=OLD,
        fleet=fleet(world, OLD),
        port=5432,
        deadline=WITHIN,
        bmc=bmc,
        spared=(management,),
        witnesses=WITNESSES,
        address=str(world.lab.machine(OLD).address(Segment.DC1)),
    )


def bmc(world: World) -> BmcAccess:
    return BmcAccess(
        machine=OLD,
        address=world.lab.bmc_url(OLD),
        username=world.lab.bmc_credential(OLD)[0],
        password=SecretRef.parse(f"file:bmc/{OLD}"),
        ca=world.lab.folder.authority,
    )


@contextlib.contextmanager
def closing(*verbs: Verb | Witness) -> Iterator[None]:
    try:
        yield
    finally:
        for verb in verbs:
            verb.close()


def ask(world: World, edge: str, text: str = "SELECT pg_is_in_recovery()") -> str:
    """What a client of the database reads through an edge; empty when it gets no connection."""
    address = world.lab.machine(edge).address(Segment(edge.partition(".")[2]))
    where = f"host={address} user=records dbname=records connect_timeout=5"
    command = ["env", f"PGPASSWORD={SECRETS['postgresql/app']}", "psql", "-XAtq", where, "-c", text]
    return world.lab.run("client", command).stdout.strip()


def sql(world: World, name: str, text: str) -> str:
    done = world.lab.run(name, ["sh", "-c", f'cd / && runuser -u postgres -- psql -qXAtc "{text}"'])
    assert done.code == 0, done.stderr
    return done.stdout.strip()


def tell(what: str, **nanoseconds: int) -> None:
    """Times are for people who read along (``--log-cli-level=info``); nothing depends on them."""
    words = ", ".join(f"{name} {value / 1e6:.0f} ms" for name, value in nanoseconds.items())
    logging.getLogger(__name__).info("%s: %s, load %.1f", what, words, os.getloadavg()[0])


def test_the_packet_filter_fences_a_primary_and_lets_it_out_when_it_is_none(world: World, store: Backends) -> None:
    fences, asked = HostFences(store), request(world)
    fence, unfence, witness = (make(asked, world.context()) for make in (fences.fence, fences.unfence, fences.witness))
    with closing(fence, unfence, witness):
        assert fence.stage().sight is Sight.NOT_DONE
        staged = witness.stage()
        assert (staged.sight, set(WITNESSES) <= set(staged.words.replace(",", "").split())) == (Sight.NOT_DONE, True)
        assert [ask(world, edge) for edge in EDGES] == ["f", "f"]
        began = time.monotonic_ns()
        acted = fence.act()
        told = witness.confirm()
        tell("network fence", raised=acted.ended_ns - acted.began_ns, confirmed=told.ended_ns - began)
        assert (acted.ok, told.ok) == (True, True), (acted.words, told.words)
        assert told.words.count("is refused") == len(WITNESSES)
        assert [ask(world, edge) for edge in EDGES] == ["", ""]
        assert answers_ssh(world.lab, OLD)
        # what the host itself can still write reaches nobody
        sql(world, OLD, "CREATE TABLE alone ()")
        receiving = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"
        until("the stream is cut", lambda: sql(world, NEW, receiving) == "0")
        assert sql(world, NEW, "SELECT to_regclass('alone') IS NULL") == "t"
        # still a primary: it stays where it is
        refused = unfence.act()
        assert (refused.ok, refused.words) == (False, "it stays fenced: its PostgreSQL runs as a primary")
        world.lab.run(OLD, ["pg_ctlcluster", "15", "main", "stop"])
        lifted = unfence.act()
        assert lifted.ok, lifted.words
        assert fence.observe().sight is Sight.NOT_DONE


def test_power_fences_a_primary_and_the_machine_comes_back_without_one(world: World, store: Backends) -> None:
    fences, asked = HostFences(store), request(world, bmc(world))
    fence, unfence, witness = (make(asked, world.context()) for make in (fences.fence, fences.unfence, fences.witness))
    with closing(fence, unfence, witness):
        assert fence.stage().sight is Sight.NOT_DONE
        assert witness.stage().sight is Sight.NOT_DONE
        began = time.monotonic_ns()
        acted = fence.act()
        told = witness.confirm()
        tell("power fence", raised=acted.ended_ns - acted.began_ns, confirmed=told.ended_ns - began)
        assert (acted.ok, told.ok) == (True, True), (acted.words, told.words)
        assert not answers_ssh(world.lab, OLD)
        assert unfence.stage().sight is Sight.NOT_DONE
        lifted = unfence.act()
        tell("power on again", answered=lifted.ended_ns - lifted.began_ns)
        assert (lifted.ok, lifted.words) == (True, "its PostgreSQL is down and starts only when somebody starts it")
        assert fence.observe().sight is Sight.NOT_DONE


def test_a_fence_that_somebody_flushed_is_not_confirmed(world: World, store: Backends) -> None:
    fences, asked = HostFences(store), replace(request(world), deadline=timedelta(seconds=2))
    fence, witness = fences.fence(asked, world.context()), fences.witness(asked, world.context())
    with closing(fence, witness):
        witness.stage()
        assert fence.act().ok
        assert world.lab.run(OLD, ["nft", "delete", "table", "inet", "ismgr_fence"]).code == 0
        told = witness.confirm()
        assert (told.ok, told.words) == (False, "db1.dc2 gets through; web1.dc1 gets through")
        assert fence.observe().sight is Sight.NOT_DONE


def test_both_edges_send_clients_to_the_other_database_and_back(world: World, store: Backends) -> None:
    switches = ClientSwitches(store)

    def backend(server: str) -> Verb:
        asked = BackendRequest(
            fleet=fleet(world, *EDGES),
            backend="databases",
            server=server,
            socket="/run/haproxy/admin.sock",
            deadline=WITHIN,
            enough=2,
        )
        return switches.backend(asked, world.context())

    there, back = backend(NEW), backend(OLD)
    with closing(there, back):
        assert there.stage().sight is Sight.NOT_DONE
        assert back.stage().sight is Sight.DONE
        acted = there.act()
        tell("backend", switched=acted.ended_ns - acted.began_ns)
        assert acted.ok, acted.words
        assert [ask(world, edge) for edge in EDGES] == ["t", "t"]
        # a reload and a restart of the service keep it
        for verb in ("reload", "restart"):
            done = world.lab.run(EDGES[0], ["systemctl", verb, "haproxy"])
            assert done.code == 0, done.stderr
            assert ask(world, EDGES[0]) == "t", verb
        assert there.observe().sight is Sight.DONE
        assert any("sent_to_the_primary" in check for check in world.verify("edges"))
        assert back.act().ok
        assert [ask(world, edge) for edge in EDGES] == ["f", "f"]
        assert not world.verify("edges")


def test_a_name_of_the_zone_points_elsewhere_at_once(world: World, store: Backends) -> None:
    switches = ClientSwitches(store)
    machine = world.lab.machine("ns")

    def name(*values: str) -> Verb:
        asked = NameRequest(
            server=str(machine.address(Segment.WAN)),
            port=53,
            zone=ZONE,
            record="drill",
            type="A",
            ttl=1,
            values=values,
            key_name=TSIG_KEY,
            key=SecretRef.parse("file:dns/tsig"),
            deadline=WITHIN,
        )
        return switches.name(asked, world.context())

    for value in ("192.0.2.1", "192.0.2.2"):
        verb = name(value)
        with closing(verb):
            assert verb.stage().sight is Sight.NOT_DONE
            acted = verb.act()
            tell("name", switched=acted.ended_ns - acted.began_ns)
            assert acted.ok, acted.words
            assert verb.observe().sight is Sight.DONE
