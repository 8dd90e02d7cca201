"""What is judged from what was seen: when a switchover may begin, go on, or is refused; and odd answers of hosts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.postgresql.layout import Layout, slot_of
from ismgr_automation.engines.postgresql.seeing import (
    LAG_AT_MOST,
    Seen,
    Sender,
    Stage,
    branched_after,
    judge,
    lsn,
    position_of,
    primary_of,
    read,
)
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.ports.hosts import Host, Reach, Ssh
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.upkeep import Cluster, Part

ONE, TWO, THREE = (Host(name=name, address=name, origin="hosts.yml") for name in ("db1", "db2", "db3"))
ROW = Sender(name="db2", address="192.0.2.2", state="streaming", slot="db2", lag=0)
PRIMARY = Seen(host=ONE, part=Part.PRIMARY, timeline=1, position=200, system="7", senders=(ROW,))
STANDBY = Seen(host=TWO, part=Part.STANDBY, timeline=1, position=200, receiving="streaming", system="7")
STOPPED = Seen(host=ONE, part=Part.DOWN, timeline=1, system="7", clean=True, state="shut down", checkpoint=100)
PROMOTED = Seen(host=TWO, part=Part.PRIMARY, timeline=2, position=300, system="7")
LOST = Seen(host=THREE, part=Part.UNKNOWN, detail="cannot be reached (timeout): no answer in time")
FOLLOWER = Seen(host=THREE, part=Part.STANDBY, timeline=1, receiving="streaming", system="7")


def row(**more: object) -> Seen:
    return replace(PRIMARY, senders=(replace(ROW, **more),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "stage", "old"),
    [
        ((PRIMARY, STANDBY), Stage.RUNS, "db1"),
        ((PRIMARY, STANDBY, FOLLOWER), Stage.RUNS, "db1"),
        ((row(lag=-1), STANDBY), Stage.RUNS, "db1"),
        ((row(name="walreceiver", slot="db2"), STANDBY), Stage.RUNS, "db1"),
        ((row(name="walreceiver", slot="", address="db2"), STANDBY), Stage.RUNS, "db1"),
        ((STOPPED, replace(STANDBY, receiving="")), Stage.STOPPED, "db1"),
        ((STOPPED, PROMOTED), Stage.PROMOTED, "db1"),
        ((replace(STANDBY, host=ONE, receiving=""), PROMOTED), Stage.PROMOTED, "db1"),
        ((replace(STANDBY, host=ONE), PROMOTED), Stage.DONE, ""),
    ],
)
def test_a_switchover_goes_on_from_what_is_seen(seen: tuple[Seen, ...], stage: Stage, old: str) -> None:
    found = judge(seen, "db2")
    assert (found.stage, found.old, found.why) == (stage, old, "")


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ((PRIMARY, replace(STANDBY, host=THREE)), "'db2' is no member (did you mean 'db3'?)"),
        ((PRIMARY, STANDBY, LOST), "nobody can tell what db3 is (cannot be reached (timeout): no answer in time): it"),
        ((PRIMARY, PROMOTED), "there are 2 primaries: db1, db2"),
        ((PRIMARY, replace(STANDBY, system="8")), "system identifiers differ"),
        ((PRIMARY, replace(STANDBY, part=Part.DOWN)), "db2 is down () and would start as a primary, not a standby"),
        ((replace(PRIMARY, senders=()), STANDBY), "db2 does not receive from db1"),
        ((row(state="startup"), STANDBY), "does not stream: db1 says 'startup', it says 'streaming'"),
        ((row(state="catchup"), STANDBY), "does not stream: db1 says 'catchup'"),
        ((PRIMARY, replace(STANDBY, receiving="waiting")), "it says 'waiting'"),
        ((PRIMARY, replace(STANDBY, paused=True)), "its replay is paused"),
        ((PRIMARY, replace(STANDBY, timeline=2)), "db2 is on timeline 2, db1 on 1"),
        ((replace(PRIMARY, logical=("warehouse",)), STANDBY), "readers would miss changes: warehouse"),
        ((row(lag=LAG_AT_MOST + 1), STANDBY), f"db2 is {LAG_AT_MOST + 1} bytes behind"),
        ((replace(row(lag=-1), position=LAG_AT_MOST + 201), STANDBY), f"db2 is {LAG_AT_MOST + 1} bytes behind"),
        ((replace(STOPPED, clean=False, state="in production"), STANDBY), "there is no primary, and a planned"),
        ((STOPPED, replace(STOPPED, host=TWO)), "there is no primary, and a planned switchover needs one"),
        ((STOPPED, replace(STOPPED, host=THREE), STANDBY), "there is no primary, and a planned switchover needs one"),
        ((STOPPED, replace(STANDBY, timeline=2)), "db1 is on timeline 1, db2 on 2"),
        ((replace(STOPPED, clean=False, state="in production"), PROMOTED), "must be rewound (pg_rewind)"),
        ((STOPPED, PROMOTED, replace(STOPPED, host=THREE)), "several members do not stream: db1, db3"),
    ],
)
def test_it_is_refused_with_a_reason(seen: tuple[Seen, ...], why: str) -> None:
    found = judge(seen, "db2")
    assert found.stage is Stage.REFUSED
    assert why in found.why


@given(st.lists(st.sampled_from([PRIMARY, STANDBY, STOPPED, PROMOTED, LOST, FOLLOWER]), min_size=1, max_size=4))
def test_nothing_begins_while_somebody_is_unknown_or_two_are_primaries(seen: list[Seen]) -> None:
    unsafe = any(one.part is Part.UNKNOWN for one in seen) or sum(one.part is Part.PRIMARY for one in seen) > 1
    if unsafe:
        assert judge(seen, "db2").stage is Stage.REFUSED
        assert primary_of(seen) == ""


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_a_position_is_read_as_it_was_written(position: int) -> None:
    assert position_of(lsn(position)) == position


@pytest.mark.parametrize(
    ("history", "holds"),
    [
        ("1\t0/3000148\tno recovery target specified\n", True),
        ("1\t0/3000060\tno recovery target specified\n", False),  # branched where the checkpoint begins: without it
        ("1\t0/2000000\tbefore\n", False),
        ("2\t0/9000000\tanother timeline\n", False),
        ("1\t0/3000148\tfirst\n2\t0/4000000\tsecond\n", True),
        ("", False),
    ],
)
def test_an_old_primary_has_nothing_of_its_own_when_all_of_it_was_replayed(history: str, holds: bool) -> None:
    assert branched_after(history, 1, position_of("0/3000060")) is holds


CONTROL = """control Database system identifier:           7
control Database cluster state:               in production
control Latest checkpoint location:           0/3000060
control Latest checkpoint's TimeLineID:       1
"""


@pytest.mark.parametrize(
    ("answer", "part", "detail"),
    [
        (
            Answer(host="db1", reach=Reach.TIMEOUT, detail="no answer in time"),
            Part.UNKNOWN,
            "cannot be reached (timeout)",
        ),
        (Answer(host="db1", reach=Reach.OK, code=1, detail="there is no cluster in /x"), Part.UNKNOWN, "no cluster"),
        (Answer(host="db1", reach=Reach.OK, output=""), Part.UNKNOWN, "its data directory cannot be read"),
        (Answer(host="db1", reach=Reach.OK, output=CONTROL), Part.DOWN, ""),
        (
            Answer(host="db1", reach=Reach.OK, output=f"alive\n{CONTROL}", detail="FATAL: starting up"),
            Part.UNKNOWN,
            "it runs and does not answer: FATAL: starting up",
        ),
    ],
)
def test_down_and_unknown_are_told_apart(answer: Answer, part: Part, detail: str) -> None:
    seen = read(ONE, answer)
    assert seen.part is part
    assert detail in seen.detail


def test_a_slot_is_named_as_the_role_names_it() -> None:
    assert slot_of("db1.dc2") == "db1_dc2"


def test_a_password_in_a_connection_string_is_in_no_repr() -> None:
    assert "canary" not in repr(replace(STANDBY, conninfo="host=db1 password=canary-7"))


@pytest.mark.parametrize("word", ["15;reboot", "", "15 main", "$(id)", "../x/"])
def test_a_version_that_is_more_than_a_name_is_refused(word: str) -> None:
    fleet = Fleet(hosts=[ONE], names=["db1"], ssh=Ssh())
    cluster = Cluster(fleet=fleet, version=word, name="main", port=5432, deadline=timedelta(seconds=1))
    with pytest.raises(InputError, match="cannot be the version"):
        Layout().arguments(cluster, "db1")
