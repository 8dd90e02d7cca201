"""Warm connections to a real sshd: a script that waits is quick, a lost connection is an answer, nothing is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from statistics import median

import psutil
import pytest

from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.ssh.remote import Rights
from ismgr_automation.engines.ssh.warm import Load, Warm
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.packages import Fleet
from tests.engines.loopback import Loopback, serve

SOON = timedelta(seconds=10)
MINE = Rights.USER


@pytest.fixture(name="server")
def own_server(tmp_path: Path) -> Iterator[Loopback]:
    """One that a test may break."""
    with serve(tmp_path / "own") as server:
        yield server


@contextmanager
def warm(server: Loopback, *names: str, **more: object) -> Iterator[Warm]:
    hosts = [server.host(name, **more) for name in names]
    with Warm(Fleet(hosts=hosts, names=names, ssh=server.ssh), server.store, threading.Event()) as one:
        yield one


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def sessions(server: Loopback) -> list[psutil.Process]:
    """The server's own processes, one or two for each connection."""
    return psutil.Process(server.pid).children(recursive=True)


def cut(server: Loopback) -> None:
    for process in sessions(server):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def lives(pid: str) -> bool:
    return psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE


def test_a_loaded_script_runs_as_often_as_it_is_told_to_and_keeps_what_was_set_up(loopback):
    load = Load(
        script='echo "$greeting $1 $line $input"; cat; echo "odd" >&2; exit 3',
        arguments=("x y",),
        before="greeting=hello",
        input=("a secret", " and more"),
        rights=MINE,
    )
    with warm(loopback, "one") as connections:
        loaded = connections.load("one", load)
        assert loaded.lost is None
        for line in ("first", " * $HOME"):
            answer = loaded.go(SOON, line)
            assert answer.output == f"hello x y {line} a secret\n and more\n\n"
            assert (answer.reach, answer.code, answer.detail, answer.begun) == (Reach.OK, 3, "odd", True)


def test_a_line_is_answered_in_milliseconds(loopback, record_property):
    with warm(loopback, "one") as connections:
        loaded = connections.load("one", Load(script=":", rights=MINE))
        took = [loaded.go(SOON).seconds * 1000 for _ in range(50)]
        runs = [connections.run("one", ":", (), SOON, MINE).seconds for _ in range(2)]
    record_property("ms for a line on an open connection, median", round(median(took), 1))
    record_property("load average", os.getloadavg()[0])
    assert all(runs)
    assert median(took) < 1000


def test_many_hosts_are_asked_at_the_same_time(loopback):
    names = [f"host{number}" for number in range(8)]
    with warm(loopback, *names) as connections:
        assert {one.reach for one in connections.open(*names)} == {Reach.OK}
        assert all(connections.alive(name) for name in names)
        # every one waits until all of them have begun
        script = f'mkdir "$1/$2"; until [ "$(ls "$1" | wc -l)" = {len(names)} ]; do sleep 0.01; done'
        folder = loopback.folder / "together"
        folder.mkdir()
        asked = [connections.begin_run(name, script, (str(folder), name), SOON, MINE) for name in names]
        assert {done().code for done in asked} == {0}


def test_a_long_answer_arrives_whole(loopback):
    script = "i=0; while [ $i -lt 60000 ]; do echo 'fifty characters in a line, thousands of them'; i=$((i+1)); done"
    with warm(loopback, "one") as connections:
        answer = connections.run("one", script, (), timedelta(minutes=2), MINE)
    assert len(answer.output.splitlines()) == 60000


def test_a_script_that_does_not_end_is_given_up_and_the_next_one_is_answered_at_once(loopback):
    with warm(loopback, "one") as connections:
        loaded = connections.load("one", Load(script="exec sleep 30", rights=MINE))
        answer = loaded.go(timedelta(milliseconds=200))
        assert (answer.reach, answer.begun, answer.detail) == (Reach.TIMEOUT, True, "no end after 0.2 s")
        assert loaded.go(SOON).detail == "no end after 0.2 s"
        assert connections.alive("one")
        assert connections.run("one", "echo here", (), SOON, MINE).output == "here\n"


def test_a_lost_connection_is_an_answer_and_only_who_asks_gets_a_new_one(server):
    with warm(server, "one") as connections:
        loaded = connections.load("one", Load(script="echo here", rights=MINE))
        cut(server)
        until(lambda: not connections.alive("one"))
        answer = loaded.go(SOON)
        assert (answer.reach, answer.detail) == (Reach.REFUSED, "the connection was lost")
        assert not answer.begun
        assert loaded.anew().go(SOON).output == "here\n"
        assert connections.alive("one")


def test_a_connection_that_is_lost_while_a_script_runs_says_that_it_had_begun(server, tmp_path):
    with warm(server, "one") as connections:
        loaded = connections.load("one", Load(script='touch "$1"; sleep 30', arguments=(f"{tmp_path}/b",), rights=MINE))
        waiting = loaded.begin(timedelta(seconds=30))
        until((tmp_path / "b").exists)
        cut(server)
        answer = waiting()
        assert (answer.reach, answer.begun) == (Reach.REFUSED, True)


def test_a_silent_connection_is_noticed(server):
    """As when the power is cut: nothing is closed, and nobody answers."""
    with warm(server, "one") as connections:
        loaded = connections.load("one", Load(script="echo here", rights=MINE))
        frozen = sessions(server)
        for process in frozen:
            process.send_signal(signal.SIGSTOP)
        try:
            answer = loaded.go(timedelta(milliseconds=100))
            assert answer.reach is Reach.TIMEOUT
            until(lambda: not connections.alive("one"))
        finally:
            for process in frozen:
                process.send_signal(signal.SIGCONT)


def test_shells_end_with_the_connections(loopback):
    with warm(loopback, "one") as connections:
        loaded = connections.load("one", Load(script="echo $PPID; echo $$", rights=MINE))
        pids = loaded.go(SOON).output.split()
        assert all(lives(pid) for pid in pids)
    until(lambda: not any(lives(pid) for pid in pids))
    assert "closed" in loaded.go(SOON).detail
    assert "closed" in connections.run("one", ":", (), SOON, MINE).detail
    connections.close()


def test_what_does_not_load_says_why(loopback):
    (loopback.folder / "secrets" / "become2").write_text("secret-of-sudo\n")
    (loopback.folder / "secrets" / "become2").chmod(0o600)
    good, closed, unknown = loopback.host("good"), loopback.host("closed", port=1), loopback.host("un", host_keys=())
    fleet = Fleet(
        hosts=[good, closed, unknown],
        names=[],
        ssh=replace(loopback.ssh, connect_timeout=timedelta(seconds=30)),
        become_password=SecretRef.parse("file:become2"),
    )
    with Warm(fleet, loopback.store, threading.Event()) as connections:
        loaded = connections.load("good", Load(script=":", before="echo 'no room' >&2; exit 7", rights=MINE))
        assert (loaded.go(SOON).reach, loaded.go(SOON).code, loaded.go(SOON).detail) == (Reach.OK, 7, "no room")
        assert connections.load("closed", Load(script=":")).go(SOON).reach is Reach.REFUSED
        assert connections.run("closed", ":", (), SOON).reach is Reach.REFUSED
        assert connections.load("un", Load(script=":")).go(SOON).reach is Reach.HOST_KEY
        assert [one.reach for one in connections.open("un", "closed")] == [Reach.HOST_KEY, Reach.REFUSED]
        with pytest.raises(InputError, match="no host of this name"):
            connections.run("nobody", ":", (), SOON)
        with pytest.raises(InputError, match="one line"):
            loaded.go(SOON, "two\nlines")
        # a password that nobody asks for is not taken for the script's own lines
        rights = Rights.ROOT if os.geteuid() == 0 else MINE
        one = connections.load("good", Load(script='echo "$input$line"', input=("in",), rights=rights))
        assert one.go(SOON, "line").output == "in\nline\n"


def test_a_host_behind_a_bastion_is_reached_and_the_bastion_made_anew(server):
    hosts = [server.host("gate"), server.host("inner", bastion="gate")]
    with Warm(Fleet(hosts=hosts, names=["inner"], ssh=server.ssh), server.store, threading.Event()) as connections:
        loaded = connections.load("inner", Load(script="echo here", rights=MINE))
        assert loaded.go(SOON).output == "here\n"
        cut(server)
        until(lambda: not connections.alive("inner"))
        assert loaded.anew().go(SOON).output == "here\n"


def test_who_waits_is_let_go_on_request(loopback):
    cancelled = threading.Event()
    fleet = Fleet(hosts=[loopback.host("one")], names=["one"], ssh=loopback.ssh)
    with Warm(fleet, loopback.store, cancelled) as connections:
        loaded = connections.load("one", Load(script="sleep 30", rights=MINE))
        waiting = loaded.begin(timedelta(seconds=30))
        cancelled.set()
        with pytest.raises(Cancelled):
            waiting()
