"""A recovery on machines that the shipped role configured: the power of the primary's is cut, it comes back by every
way, and the role has nothing to do when all is as Git says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ismgr_automation.engines.postgresql import PostgresqlStandby
from ismgr_automation.engines.secrets import Backends
from ismgr_automation.lab import Lab
from ismgr_automation.ports.hosts import Ssh
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import Acted, Sight, Verb
from ismgr_automation.ports.upkeep import Cluster, Part
from tests.fixtures_lab import switch_off, switch_on
from tests.playbooks.world import World

pytestmark = pytest.mark.lab

STORE = Backends.from_json({})
WITHIN = timedelta(seconds=90)
FIRST, SECOND = "db1.dc1", "db1.dc2"


@pytest.fixture(scope="module")
def world(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # a socket's path must be short
    with TemporaryDirectory(prefix="h-") as work:
        switch_on(lab, "gw1.dc1", "gw1.dc2", FIRST, SECOND)
        one = World(lab=lab, estate=tmp_path_factory.mktemp("estate") / "two-sites", work=Path(work))
        assert not one.play("databases").failed
        yield one


def sql(world: World, name: str, text: str) -> str:
    done = world.lab.run(name, ["sh", "-c", f'cd / && runuser -u postgres -- psql -qXAtc "{text}"'])
    assert done.code == 0, done.stderr
    return done.stdout.strip()


def done(verb: Verb) -> Acted:
    staged = verb.stage()
    assert staged.sight is Sight.NOT_DONE, staged.words
    acted = verb.act()
    assert acted.ok, acted.words
    assert verb.observe().sight is Sight.DONE
    verb.close()
    return acted


def test_the_power_is_cut_and_the_old_primary_comes_back_by_every_way(world: World, record_property) -> None:
    members = Fleet(hosts=world.hosts(), names=(FIRST, SECOND), ssh=Ssh(key_file=world.lab.folder.operator_key))
    pair = Cluster(fleet=members, version="15", name="main", port=5432, deadline=WITHIN)
    context = world.context()
    sql(world, FIRST, "CREATE TABLE survives AS SELECT generate_series(1, 1000) AS id")

    def took(what: str, acted: Acted) -> None:
        record_property(f"ms, {what}", round((acted.ended_ns - acted.began_ns) / 1e6, 1))
        record_property(f"load average at {what}", os.getloadavg()[0])

    with PostgresqlStandby(STORE) as standby:
        assert [one.part for one in standby.look(pair, context)] == [Part.PRIMARY, Part.STANDBY]
        switch_off(world.lab, FIRST)
        took("promote", done(standby.promote(pair, SECOND, context)))
        sql(world, SECOND, "INSERT INTO survives VALUES (1001)")
        assert [one.part for one in standby.look(pair, context)] == [Part.UNKNOWN, Part.PRIMARY]
        switch_on(world.lab, FIRST)
        rewound = done(standby.rejoin(pair, FIRST, SECOND, "rewind", context))
        assert rewound.readings["way"] == "rewind"
        took("rewind", rewound)
        assert not world.play("databases", extra={"postgresql_primary": SECOND}).failed
        # home again by plan
        demote, promote = standby.demote(pair, SECOND, FIRST, context), standby.promote(pair, FIRST, context)
        assert demote.stage().sight is promote.stage().sight is Sight.NOT_DONE
        demoted, promoted = demote.act(), promote.act()
        assert (demoted.ok, promoted.ok) == (True, True), (demoted.words, promoted.words)
        took("demote", demoted)
        took("promote at home", promoted)
        demote.close()
        followed = done(standby.rejoin(pair, SECOND, FIRST, "auto", context))
        assert followed.readings["way"] == "follow"
        took("follow", followed)
        world.lab.run(SECOND, ["systemctl", "stop", "postgresql@15-main.service"])
        took("rebuild", done(standby.rejoin(pair, SECOND, FIRST, "rebuild", context)))
    assert sql(world, SECOND, "SELECT count(*) FROM survives") == "1001"
    assert not world.play("databases").failed
    assert not world.play("databases").changed
    assert not world.verify("databases")
