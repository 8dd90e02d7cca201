"""What a look through an open session is read as, and what the port is told of it."""

from __future__ import annotations

import json

import pytest

from ismgr_automation.engines.postgresql.watching import Glance, read, standings
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.ports.hosts import Host, Reach
from ismgr_automation.ports.upkeep import Part

ONE = Host(name="db1", address="192.0.2.1", origin="stack/test")
TWO = Host(name="db2", address="192.0.2.2", origin="stack/test")
CONTROL = """control Database cluster state:               in production
control Latest checkpoint location:           0/3000060
control Latest checkpoint's TimeLineID:       2
"""
SAYS: dict[str, object] = {
    "recovery": False,
    "readonly": False,
    "timeline": 2,
    "position": 100,
    "received": None,
    "age": None,
    "receiving": "",
    "source": "",
    "senders": [{"name": "db2", "address": "192.0.2.2", "state": "streaming", "slot": "db2", "lag": 0}],
}
FOLLOWS = SAYS | {"recovery": True, "position": 60, "received": 90, "age": 1.5, "receiving": "streaming", "senders": []}


def answer(text: str, **more: object) -> Answer:
    return Answer(**({"host": "db1", "reach": Reach.OK, "output": text} | more))  # type: ignore[arg-type]


def running(host: Host, **says: object) -> Glance:
    return read(host, answer("sql " + json.dumps(SAYS | says)))


def test_a_primary_takes_writes_unless_it_is_told_not_to():
    assert running(ONE).writable
    assert running(ONE).feeds(TWO)
    assert not running(TWO).feeds(ONE)
    assert not running(ONE, readonly=True).writable
    assert not running(ONE, recovery=True).writable
    assert running(ONE, recovery=True).part is Part.STANDBY


@pytest.mark.parametrize(
    ("said", "part", "words"),
    [
        (answer("", reach=Reach.TIMEOUT, detail="no answer in time"), Part.UNKNOWN, "cannot be reached (timeout)"),
        (answer("", code=1, detail="there is no cluster in /x"), Part.UNKNOWN, "there is no cluster"),
        (answer("", code=1), Part.UNKNOWN, "it runs and does not answer"),
        (answer("", detail="pg_controldata: not found"), Part.UNKNOWN, "not found"),
        (answer(CONTROL), Part.DOWN, "in production; it would start as a primary"),
        (answer(f"follows\n{CONTROL}"), Part.DOWN, "it would start as a standby"),
        (answer("gone\nsql " + json.dumps(FOLLOWS)), Part.STANDBY, ""),
    ],
)
def test_down_unknown_and_running_are_told_apart(said, part, words):
    seen = read(ONE, said)
    assert seen.part is part
    assert words in seen.detail
    assert not seen.writable


def test_only_one_that_was_shut_down_is_clean():
    assert not read(ONE, answer(CONTROL)).clean
    for state in ("shut down", "shut down in recovery"):
        seen = read(ONE, answer(CONTROL.replace("in production", state)))
        assert (seen.clean, seen.timeline, seen.position) == (True, 2, 0x3000060)


def test_a_standby_is_behind_by_what_the_one_primary_has_written_or_else_by_what_it_received():
    primary, follower = running(ONE), read(TWO, answer("sql " + json.dumps(FOLLOWS)))
    first, second = standings((primary, follower))
    assert (first.streaming, first.lag_bytes, first.lag_seconds) == (True, 0, None)
    assert (second.streaming, second.lag_bytes, second.lag_seconds) == (True, 40, 1.5)
    down = read(ONE, answer(CONTROL))
    assert standings((down, follower))[1].lag_bytes == 30
    assert standings((primary, running(ONE, position=500), follower))[2].lag_bytes == 30
