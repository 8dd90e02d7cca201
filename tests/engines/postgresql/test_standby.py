"""A recovery on a real pair: quick looks, a promotion while clients write, the old primary back by every way, and a
controller that dies anywhere. No acknowledged write that had arrived is lost, and there are never two primaries."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest

from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.engines.postgresql import PostgresqlStandby
from ismgr_automation.engines.postgresql.rejoining import Rejoining, Way
from ismgr_automation.engines.postgresql.watching import WarmMembers, Watch
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.engines.ssh.warm import Warm
from ismgr_automation.ports.recovery import Acted, Seen, Sight, Standing, Verb
from ismgr_automation.ports.upkeep import Part
from tests.engines.postgresql.conftest import FIRST, SECOND, Pair, Writer

BOTH = [Part.PRIMARY, Part.STANDBY]
SWAPPED = [Part.STANDBY, Part.PRIMARY]


@pytest.fixture
def standby(pair: Pair) -> Iterator[PostgresqlStandby]:
    with PostgresqlStandby(pair.loopback.store, pair.layout()) as one:
        yield one


def look(pair: Pair, standby: PostgresqlStandby) -> dict[str, Standing]:
    return {one.host: one for one in standby.look(pair.cluster, pair.context)}


def until_parts(pair: Pair, standby: PostgresqlStandby, wanted: list[Part]) -> dict[str, Standing]:
    seen: dict[str, Standing] = {}

    def holds() -> bool:
        seen.update(look(pair, standby))
        return [seen[name].part for name in (FIRST, SECOND)] == wanted

    pair.until(f"{wanted}", holds)
    return seen


def postmaster(pair: Pair, name: str) -> int:
    return int((pair.base / name / "data" / "postmaster.pid").read_text().splitlines()[0])


def kill(pair: Pair, name: str) -> None:
    """Gone when this returns: a backend that is still at work acknowledges no write any more."""
    server = psutil.Process(postmaster(pair, name))
    family = [server, *server.children(recursive=True)]
    server.kill()
    pair.until(f"{name} is dead", lambda: not any(map(_lives, family)))


def _lives(one: psutil.Process) -> bool:
    try:
        return one.is_running() and one.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start(pair: Pair, name: str) -> None:
    """Once the processes of a server that was killed are gone."""

    def starts() -> bool:
        try:
            pair.act(name, "start")
        except subprocess.CalledProcessError:
            return False
        return True

    pair.until(f"{name} starts", starts)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for these looks, and a machine with much else to do may answer late."""
    monkeypatch.setitem(Watch.look.__kwdefaults__, "within", timedelta(seconds=20))


def done(verb: Verb) -> Acted:
    acted = verb.act()
    assert acted.ok, acted.words
    assert verb.observe().sight is Sight.DONE
    verb.close()
    return acted


def ready(verb: Verb) -> Seen:
    seen = verb.stage()
    assert seen.sight is Sight.NOT_DONE, seen.words
    return seen


def ms(acted: Acted) -> float:
    return round((acted.ended_ns - acted.began_ns) / 1e6, 1)


@contextmanager
def writing(pair: Pair, *names: str) -> Iterator[dict[str, Writer]]:
    writers = {name: Writer(pair=pair, name=name, offset=n * 10**9) for n, name in enumerate(names)}
    threads = [threading.Thread(target=one.run) for one in writers.values()]
    for one in threads:
        one.start()
    try:
        pair.until("the first takes writes", lambda: len(writers[names[0]].acknowledged) > 50)
        yield writers
    finally:
        for one in writers.values():
            one.stop.set()
        for one in threads:
            one.join(20)


def kept(pair: Pair, name: str) -> set[int]:
    return {int(line) for line in pair.sql(name, "SELECT id FROM written").splitlines()}


def fail_over(pair: Pair, standby: PostgresqlStandby) -> None:
    """The primary crashes, and the standby takes its place and one write."""
    pair.sql(FIRST, "INSERT INTO written VALUES (1)")
    pair.until("it has arrived", lambda: kept(pair, SECOND) == {1})
    kill(pair, FIRST)
    done(standby.promote(pair.cluster, SECOND, pair.context))
    pair.sql(SECOND, "INSERT INTO written VALUES (2)")


def test_a_look_tells_who_takes_writes_and_how_far_the_standby_is(pair, standby, record_property):
    seen = look(pair, standby)
    assert [one.part for one in seen.values()] == BOTH
    assert [one.writable for one in seen.values()] == [True, False]
    assert all(one.streaming and one.timeline == 1 for one in seen.values())
    assert seen[SECOND].detail == "receives from 127.0.0.1"
    pair.sql(SECOND, "SELECT pg_wal_replay_pause()")
    pair.sql(FIRST, "INSERT INTO written SELECT generate_series(1, 1000)")
    assert look(pair, standby)[SECOND].lag_bytes > 10_000
    pair.sql(SECOND, "SELECT pg_wal_replay_resume()")
    pair.until("it has replayed", lambda: look(pair, standby)[SECOND].lag_bytes == 0)
    assert 0 <= (look(pair, standby)[SECOND].lag_seconds or -1) < 60
    pair.sql(FIRST, "ALTER SYSTEM SET default_transaction_read_only = on")
    pair.sql(FIRST, "SELECT pg_reload_conf()")
    pair.until("it is read-only", lambda: not look(pair, standby)[FIRST].writable)
    took = []
    for _ in range(20):
        began = time.monotonic()
        look(pair, standby)
        took.append((time.monotonic() - began) * 1000)
    record_property("ms for a look at two members, median", round(sorted(took)[10], 1))
    record_property("load average", os.getloadavg()[0])


def test_a_look_waits_for_nobody_who_does_not_answer(pair, standby, monkeypatch):
    monkeypatch.setitem(Watch.look.__kwdefaults__, "within", timedelta(seconds=1))
    look(pair, standby)
    server = psutil.Process(postmaster(pair, FIRST))
    frozen = [server, *server.children(recursive=True)]
    for one in frozen:
        one.suspend()
    try:
        began = time.monotonic()
        look(pair, standby)
        assert time.monotonic() - began < 15
        until_parts(pair, standby, [Part.UNKNOWN, Part.STANDBY])
    finally:
        for one in frozen:
            one.resume()
    until_parts(pair, standby, BOTH)
    server.suspend()  # who is connected is served, and nobody else
    try:
        seen = until_parts(pair, standby, [Part.UNKNOWN, Part.STANDBY])
        assert "stopped by a signal" in seen[FIRST].detail
    finally:
        server.resume()
    kill(pair, FIRST)
    seen = until_parts(pair, standby, [Part.DOWN, Part.STANDBY])
    assert "it would start as a primary" in seen[FIRST].detail
    start(pair, FIRST)
    until_parts(pair, standby, BOTH)


def test_an_unreachable_member_is_unknown(pair, standby):
    hosts = [pair.loopback.host(FIRST, port=1), pair.loopback.host(SECOND)]
    cluster = replace(pair.cluster, fleet=replace(pair.cluster.fleet, hosts=hosts))
    seen = standby.look(cluster, pair.context)
    assert [one.part for one in seen] == [Part.UNKNOWN, Part.STANDBY]
    assert "refused" in seen[0].detail


def test_a_crash_under_load_loses_nothing_that_had_arrived_and_the_old_primary_is_rewound(
    pair, standby, record_property
):
    promote = standby.promote(pair.cluster, SECOND, pair.context)
    ready(promote)
    with writing(pair, FIRST, SECOND) as writers:
        kill(pair, FIRST)
        promoted = promote.act()
        assert promoted.ok, promoted.words
        again = promote.act()
        assert again.ok, again.words
        assert (
            pair.sql(SECOND, "SELECT timeline_id FROM pg_control_checkpoint()") == "2"
            or again.readings["timeline"] == 2
        )
        pair.until("the second takes writes", lambda: len(writers[SECOND].acknowledged) > 50)
        rejoined = done(standby.rejoin(pair.cluster, FIRST, SECOND, "rewind", pair.context))
        assert rejoined.readings["way"] == "rewind"
    old, new = writers[FIRST].acknowledged, writers[SECOND].acknowledged
    assert max(old.values()) < min(new.values())
    assert set(new) <= kept(pair, SECOND)
    # asynchronous: what was acknowledged in the last moment may not have arrived, and all before it has
    lost = set(old) - kept(pair, SECOND)
    assert not lost or min(lost) > max(set(old) - lost)
    pair.until("both are the same", lambda: kept(pair, FIRST) == kept(pair, SECOND))
    until_parts(pair, standby, SWAPPED)
    promote.close()
    record_property("ms, promote", ms(promoted))
    record_property("ms, promote again", ms(again))
    record_property("s, rewind until streaming, under load", round(ms(rejoined) / 1000, 2))
    record_property("load average", os.getloadavg()[0])


def test_there_and_back_by_plan_loses_nothing(pair, standby, record_property):
    with writing(pair, FIRST, SECOND) as writers:
        for host, to in ((FIRST, SECOND), (SECOND, FIRST)):
            demote = standby.demote(pair.cluster, host, to, pair.context)
            promote = standby.promote(pair.cluster, to, pair.context)
            ready(demote)
            ready(promote)
            before = len(writers[to].acknowledged)
            demoted, promoted = demote.act(), promote.act()
            assert demoted.ok, demoted.words
            assert promoted.ok, promoted.words
            assert demote.observe().sight is promote.observe().sight is Sight.DONE
            assert demote.act().ok
            assert promote.act().ok
            pair.until(f"{to} takes writes", lambda to=to, before=before: len(writers[to].acknowledged) > before + 20)
            last = max(list(writers[host].acknowledged.values()))
            gap = min(at for at in list(writers[to].acknowledged.values()) if at > last) - last
            record_property(f"ms, demote {host}", ms(demoted))
            record_property(f"ms, of these until it was stopped, {host}", round(float(demoted.readings["stop_ms"]), 1))
            record_property(f"ms, promote {to}", ms(promoted))
            record_property(f"ms, clients without a primary, {host}", round(gap * 1000, 1))
            rejoined = done(standby.rejoin(pair.cluster, host, to, "auto", pair.context))
            assert rejoined.readings["way"] == "follow"
            record_property(f"s, follow until streaming, {host}", round(ms(rejoined) / 1000, 2))
            demote.close()
            promote.close()
    record_property("load average", os.getloadavg()[0])
    acknowledged = set(writers[FIRST].acknowledged) | set(writers[SECOND].acknowledged)
    assert acknowledged <= kept(pair, FIRST)
    until_parts(pair, standby, BOTH)
    assert not list((pair.base / FIRST).glob("etc/conf.d/00-*"))


def test_an_old_primary_that_wrote_on_behind_its_fence_is_stopped_and_rewound_to_what_the_new_one_has(pair, standby):
    promote = standby.promote(pair.cluster, SECOND, pair.context)
    ready(promote)
    assert promote.act().ok
    promote.close()
    # nobody but its own host reaches it: what it writes now, no client was ever told of
    pair.sql(FIRST, "CREATE TABLE behind_the_fence AS SELECT 1 AS one")
    done(standby.retire(pair.cluster, FIRST, pair.context))
    rejoined = done(standby.rejoin(pair.cluster, FIRST, SECOND, "auto", pair.context))
    assert rejoined.readings["way"] == "rewind"
    until_parts(pair, standby, SWAPPED)
    assert pair.sql(FIRST, "SELECT to_regclass('behind_the_fence') IS NULL") == "t"


@pytest.mark.parametrize("way", ["rewind", "rebuild", "auto"])
def test_an_old_primary_that_was_killed_streams_again(pair, standby, way, record_property):
    pair.sql(SECOND, "SELECT pg_wal_replay_pause()")
    pair.sql(SECOND, "SELECT pg_wal_replay_resume()")
    fail_over(pair, standby)
    # it also wrote something that never arrived
    start(pair, FIRST)
    pair.sql(FIRST, "INSERT INTO written SELECT generate_series(100, 5000)")
    kill(pair, FIRST)
    rejoin = standby.rejoin(pair.cluster, FIRST, SECOND, way, pair.context)
    ready(rejoin)
    rejoined = done(rejoin)
    assert rejoined.readings["way"] == {"auto": "rewind"}.get(way, way)
    assert done(rejoin).readings["way"] == "nothing"
    pair.until("it has the other's writes and not its own", lambda: kept(pair, FIRST) == {1, 2})
    assert [path.name for path in (pair.base / FIRST).glob("data*")] == ["data"]
    until_parts(pair, standby, SWAPPED)
    record_property(f"s, {way} until streaming", round(ms(rejoined) / 1000, 2))
    record_property("load average", os.getloadavg()[0])


def test_one_that_cannot_be_rewound_is_copied_anew(pair, standby):
    own = pair.base / FIRST / "etc" / "conf.d" / "ismgr.conf"
    own.write_text(own.read_text().replace("wal_log_hints = on", "wal_log_hints = off"))
    fail_over(pair, standby)
    start(pair, FIRST)
    kill(pair, FIRST)
    refused = standby.rejoin(pair.cluster, FIRST, SECOND, "rewind", pair.context).stage()
    assert (refused.sight, "neither wal_log_hints nor data checksums" in refused.words) == (Sight.UNKNOWN, True)
    assert done(standby.rejoin(pair.cluster, FIRST, SECOND, "auto", pair.context)).readings["way"] == "rebuild"


def test_one_with_a_new_disk_is_copied_anew(pair, standby):
    fail_over(pair, standby)
    pair.until("it is gone", lambda: gone(pair, FIRST))
    shutil.rmtree(pair.base / FIRST / "data")
    refused = standby.rejoin(pair.cluster, FIRST, SECOND, "rewind", pair.context)
    assert (refused.stage().words, refused.act().ok) == ("there is no data on db1.dc1", False)
    assert done(standby.rejoin(pair.cluster, FIRST, SECOND, "auto", pair.context)).readings["way"] == "rebuild"
    pair.until("it has all", lambda: kept(pair, FIRST) == {1, 2})
    assert [path.name for path in (pair.base / FIRST).glob("data*")] == ["data"]


def gone(pair: Pair, name: str) -> bool:
    """Whether no process works in the folder of a server that was killed."""
    data = str(pair.base / name / "data")
    return all(one.info["cwd"] != data for one in psutil.process_iter(["cwd"]))


def start_it(pair: Pair) -> None:
    start(pair, FIRST)


def make_the_other_read_only(pair: Pair) -> None:
    pair.sql(SECOND, "ALTER SYSTEM SET default_transaction_read_only = on")
    pair.sql(SECOND, "SELECT pg_reload_conf()")


def bar_the_way(pair: Pair) -> None:
    (pair.base / SECOND / "etc" / "pg_hba.conf").write_text("local all postgres peer\n")
    pair.sql(SECOND, "SELECT pg_reload_conf()")


def name_another_primary(pair: Pair) -> None:
    (pair.base / FIRST / "etc" / "conf.d" / "zz.conf").write_text("primary_conninfo = 'host=192.0.2.7'\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (start_it, "db1.dc1 is a primary itself: fence or stop it first; nothing was changed"),
        (make_the_other_read_only, "db1.dc2 is not the one primary that takes writes"),
        (bar_the_way, "db1.dc1 cannot connect to db1.dc2 to follow it"),
        (name_another_primary, "its own settings name another primary"),
    ],
)
def test_a_rejoin_is_refused_before_any_data_is_touched(pair, standby, spoil: Callable[[Pair], None], words: str):
    fail_over(pair, standby)
    spoil(pair)
    refused = standby.rejoin(pair.cluster, FIRST, SECOND, "rebuild", pair.context).act()
    assert not refused.ok
    assert words in refused.words
    assert [path.name for path in (pair.base / FIRST).glob("data*")] == ["data"]
    assert not (pair.base / FIRST / "data" / "standby.signal").exists()
    if spoil is not start_it:
        start(pair, FIRST)
    assert kept(pair, FIRST) == {1}


class NeedsMuch(Rejoining):
    room = 10.0**9


def test_a_copy_for_which_there_is_no_room_is_not_begun(pair, standby):
    fail_over(pair, standby)
    with Warm(pair.cluster.fleet, pair.loopback.store, threading.Event()) as warm:
        members = WarmMembers(pair.cluster, pair.layout(), pair.loopback.store, warm)
        rejoin = NeedsMuch(Watch(members), FIRST, SECOND, Way.REBUILD, pair.context)
        assert "are free" in rejoin.stage().words
        assert not rejoin.act().ok
    assert [path.name for path in (pair.base / FIRST).glob("data*")] == ["data"]


def test_a_rebuild_that_broke_off_anywhere_is_finished_and_what_was_there_is_kept_till_then(pair, standby):
    fail_over(pair, standby)
    data = pair.base / FIRST / "data"
    copy, old = data.with_name("data.ismgr-copy"), data.with_name("data.ismgr-old")
    rejoin = standby.rejoin(pair.cluster, FIRST, SECOND, "rebuild", pair.context)
    # while it was copied
    copy.mkdir()
    (copy / "half").touch()
    shutil.chown(copy, "postgres", "postgres")
    # between the two renames, with a copy that is not whole: what was there is put back
    data.rename(old)
    assert rejoin.stage().sight is Sight.NOT_DONE
    assert data.exists()
    done(rejoin)
    assert not old.exists()
    assert not copy.exists()
    # after the renames, before it was started
    pair.act(FIRST, "stop")
    shutil.copytree(data, old, symlinks=True)
    (data / "ismgr.copied").touch()
    assert done(rejoin).readings["way"] == "follow"
    assert not old.exists()
    until_parts(pair, standby, SWAPPED)


class Dies(BaseException):
    """The controller is gone."""


class Mortal(WarmMembers):
    """The controller dies right after script ``number`` of a rejoin, which is before the next."""

    def __init__(self, pair: Pair, warm: Warm, number: int) -> None:
        super().__init__(pair.cluster, pair.layout(), pair.loopback.store, warm)
        object.__setattr__(self, "left", number)

    def on(self, *words: str, **more: Any) -> Answer:
        answer = super().on(*words, **more)
        object.__setattr__(self, "left", self.left - 1)
        if self.left == 0:
            raise Dies
        return answer


@pytest.mark.parametrize("way", ["rewind", "rebuild"])
def test_a_rejoin_whose_controller_died_between_any_two_steps_is_finished_by_the_next(pair, way):
    with PostgresqlStandby(pair.loopback.store, pair.layout()) as standby:
        fail_over(pair, standby)
    died = 0
    for number in range(1, 30):
        with Warm(pair.cluster.fleet, pair.loopback.store, threading.Event()) as warm:
            rejoin = Rejoining(Watch(Mortal(pair, warm, number)), FIRST, SECOND, Way(way), pair.context)
            try:
                acted = rejoin.act()
            except Dies:
                died += 1
                assert [one.part for one in pair.members().values()].count(Part.PRIMARY) == 1
                continue
            assert acted.ok, acted.words
            break
    assert died >= 5
    with PostgresqlStandby(pair.loopback.store, pair.layout()) as standby:
        until_parts(pair, standby, SWAPPED)
    assert kept(pair, SECOND) == {1, 2}
    assert [path.name for path in (pair.base / FIRST).glob("data*")] == ["data"]


def test_a_switchover_whose_controller_died_between_any_two_steps_is_finished_by_the_next(pair):
    pair.sql(FIRST, "INSERT INTO written VALUES (1)")
    steps = 0
    for stop_after in range(6):
        with PostgresqlStandby(pair.loopback.store, pair.layout()) as standby:
            demote = standby.demote(pair.cluster, FIRST, SECOND, pair.context)
            promote = standby.promote(pair.cluster, SECOND, pair.context)
            rejoin = standby.rejoin(pair.cluster, FIRST, SECOND, "auto", pair.context)
            todo = [demote.stage, demote.act, promote.stage, promote.act, rejoin.act]
            for step in todo[:stop_after]:
                result = step()
                assert not isinstance(result, Acted) or result.ok, result.words
                steps += 1
        assert [one.part for one in pair.members().values()].count(Part.PRIMARY) <= 1
    assert steps == 15
    with PostgresqlStandby(pair.loopback.store, pair.layout()) as standby:
        until_parts(pair, standby, SWAPPED)
    assert kept(pair, FIRST) == {1}


FOR_EVER = "-c wal_sender_timeout=0"
"""The server never ends the session of somebody who says nothing."""


@contextmanager
def somebody_who_does_not_hear(pair: Pair, **environment: str) -> Iterator[None]:
    """Receives the log of the first, and is stopped by a signal: a server that stops waits for its acknowledgement."""
    where = ["-h", pair.base / FIRST, "-p", str(pair.port)]
    command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", pair.programs / "pg_receivewal"]
    with TemporaryDirectory(dir=pair.base) as folder:
        shutil.chown(folder, "postgres", "postgres")
        told = {**os.environ, **environment}
        with subprocess.Popen([*command, "-D", folder, *where], cwd="/", env=told, stderr=subprocess.DEVNULL) as one:
            try:
                pair.until("somebody else receives", lambda: _streaming(pair) == 2)
                one.send_signal(signal.SIGSTOP)
                yield
            finally:
                one.kill()


def _streaming(pair: Pair) -> int:
    return int(pair.sql(FIRST, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"))


def test_no_client_waits_for_somebody_who_does_not_hear_the_end_of_the_old_primary(pair, standby):
    with somebody_who_does_not_hear(pair, PGOPTIONS=FOR_EVER):
        demote = standby.demote(pair.cluster, FIRST, SECOND, pair.context)
        promote = standby.promote(pair.cluster, SECOND, pair.context)
        ready(demote)
        ready(promote)
        pair.sql(FIRST, "INSERT INTO written VALUES (1)")
        done(demote)
        done(promote)
        assert psutil.pid_exists(postmaster(pair, FIRST)), "nobody held up its end: this proves nothing"
        assert look(pair, standby)[FIRST].part is Part.DOWN
        pair.sql(SECOND, "INSERT INTO written VALUES (2)")
    assert done(standby.rejoin(pair.cluster, FIRST, SECOND, "auto", pair.context)).readings["way"] == "follow"
    assert kept(pair, SECOND) == {1, 2}
    pair.until("both are the same", lambda: kept(pair, FIRST) == {1, 2})


def test_an_old_primary_that_is_still_ending_can_take_its_role_again(pair, standby):
    with somebody_who_does_not_hear(pair):
        demote = standby.demote(pair.cluster, FIRST, SECOND, pair.context)
        ready(demote)
        done(demote)
        ending = postmaster(pair, FIRST)
        assert psutil.pid_exists(ending), "nobody held up its end: this proves nothing"
        done(standby.reinstate(pair.cluster, FIRST, pair.context))
        assert postmaster(pair, FIRST) != ending
    assert until_parts(pair, standby, BOTH)[FIRST].writable


def stop_the_standby(pair: Pair) -> None:
    pair.act(SECOND, "stop")


def pause_the_replay(pair: Pair) -> None:
    pair.sql(SECOND, "SELECT pg_wal_replay_pause()")


@pytest.mark.parametrize("spoil", [stop_the_standby, pause_the_replay])
def test_a_demotion_that_would_lose_something_is_refused_and_leaves_nothing_behind(pair, standby, spoil):
    started = pair.sql(FIRST, "SELECT pg_postmaster_start_time()")
    spoil(pair)
    demote = standby.demote(pair.cluster, FIRST, SECOND, pair.context)
    assert demote.stage().sight is Sight.UNKNOWN
    demote.close()
    assert pair.sql(FIRST, "SELECT pg_postmaster_start_time()") == started
    assert not list((pair.base / FIRST).glob("etc/conf.d/00-*"))
    assert not (pair.base / FIRST / "data" / "standby.signal").exists()


def test_what_was_got_ready_and_not_used_is_put_away(pair, standby):
    demote = standby.demote(pair.cluster, FIRST, SECOND, pair.context)
    ready(demote)
    assert pair.sql(SECOND, "SELECT count(*) FROM pg_replication_slots") == "1"
    pair.act(SECOND, "stop")
    refused = demote.act()
    assert (refused.ok, "db1.dc1 was not stopped" in refused.words) == (False, True)
    start(pair, SECOND)
    demote.close()
    demote.close()
    assert pair.sql(SECOND, "SELECT count(*) FROM pg_replication_slots") == "0"
    assert not list((pair.base / FIRST).glob("etc/conf.d/00-*"))
    until_parts(pair, standby, BOTH)


def test_a_demotion_that_does_not_arrive_is_taken_back(pair):
    cluster = replace(pair.cluster, deadline=timedelta(seconds=20))
    with PostgresqlStandby(pair.loopback.store, pair.layout()) as standby:
        demote = standby.demote(cluster, FIRST, SECOND, pair.context)
        ready(demote)
        pair.sql(SECOND, "SELECT pg_wal_replay_pause()")
        pair.sql(FIRST, "INSERT INTO written VALUES (7)")
        failed = demote.act()
        assert not failed.ok
        assert "db1.dc1 was started again" in failed.words
        assert until_parts(pair, standby, BOTH)[FIRST].writable
    assert kept(pair, FIRST) == {7}


def test_a_demoted_primary_can_take_its_role_again(pair, standby):
    demote = standby.demote(pair.cluster, FIRST, SECOND, pair.context)
    ready(demote)
    done(demote)
    done(standby.reinstate(pair.cluster, FIRST, pair.context))
    assert until_parts(pair, standby, BOTH)[FIRST].writable
    assert not standby.reinstate(pair.cluster, SECOND, pair.context).act().ok


def test_what_is_got_ready_for_a_demotion_has_its_time_besides_that_of_the_stop(pair, standby):
    demote = standby.demote(replace(pair.cluster, deadline=timedelta(milliseconds=1)), FIRST, SECOND, pair.context)
    seen = demote.stage()
    demote.close()
    assert seen.sight is Sight.NOT_DONE, seen.words


def test_a_member_that_is_down_is_not_promoted_and_nothing_waits_past_its_deadline(pair):
    cluster = replace(pair.cluster, deadline=timedelta(seconds=2))
    with PostgresqlStandby(pair.loopback.store, pair.layout()) as standby:
        pair.act(SECOND, "stop")
        promote = standby.promote(cluster, SECOND, pair.context)
        assert promote.stage().sight is Sight.UNKNOWN
        began = time.monotonic()
        assert not promote.act().ok
        assert time.monotonic() - began < 20


def test_steps_with_deadlines_of_their_own_share_the_connections_of_looks(pair, standby):
    def connections() -> int:
        open_now = psutil.Process().net_connections(kind="tcp")
        return len([one for one in open_now if one.raddr and one.raddr.port == pair.loopback.port])

    look(pair, standby)
    before = connections()
    promote = standby.promote(replace(pair.cluster, deadline=timedelta(seconds=7)), SECOND, pair.context)
    ready(promote)
    assert (before, connections()) == (2, 2)
    promote.close()


def test_a_session_that_was_lost_is_no_obstacle(pair, standby):
    """Somebody restarts the standby between stage and act."""
    promote = standby.promote(pair.cluster, SECOND, pair.context)
    ready(promote)
    pair.act(SECOND, "stop")
    start(pair, SECOND)
    kill(pair, FIRST)
    assert done(promote).readings["timeline"] == 2


def test_what_cannot_be_asked_for_is_refused(pair, standby):
    with pytest.raises(InputError, match=r"did you mean 'db1\.dc[12]'"):
        standby.promote(pair.cluster, "db1.dc3", pair.context)
    with pytest.raises(InputError, match="is no way to rejoin: auto, rewind, rebuild"):
        standby.rejoin(pair.cluster, FIRST, SECOND, "magic", pair.context)
    with pytest.raises(InputError, match="with itself"):
        standby.demote(pair.cluster, FIRST, FIRST, pair.context)
    pair.context.cancelled.set()
    for verb in (
        standby.promote(pair.cluster, SECOND, pair.context),
        standby.demote(pair.cluster, FIRST, SECOND, pair.context),
        standby.rejoin(pair.cluster, FIRST, SECOND, "auto", pair.context),
    ):
        with pytest.raises(Cancelled):
            verb.act()
    pair.context.cancelled.clear()


def test_no_session_is_left_at_the_servers(pair):
    with PostgresqlStandby(pair.loopback.store, pair.layout()) as standby:
        look(pair, standby)
        ready(standby.promote(pair.cluster, SECOND, pair.context))
        assert sessions(pair) >= 2
    pair.until("they are gone", lambda: sessions(pair) == 0)


def test_many_who_look_at_once_at_a_server_whose_session_was_lost_are_all_answered(pair, standby):
    for _ in range(3):
        pair.until("a session is open", lambda: bool(look(pair, standby)) and sessions(pair) > 0)
        subprocess.run(["pkill", "-f", f"psql .*-h {pair.base}/.* -p {pair.port} -d postgres$"], check=True)
        with ThreadPoolExecutor(max_workers=6) as pool:
            seen = [one.result() for one in [pool.submit(look, pair, standby) for _ in range(6)]]
        assert all(set(one) == {FIRST, SECOND} for one in seen)


def sessions(pair: Pair) -> int:
    found = subprocess.run(
        ["pgrep", "-fc", f"psql .*-h {pair.base}/.* -p {pair.port} -d postgres$"], check=False, capture_output=True
    )
    return int(found.stdout)


@pytest.mark.parametrize("held", [True, False])
def test_a_promotion_that_nobody_has_seen_does_not_land_on_a_standby_that_was_held(pair, standby, held: bool):
    # what pg_promote does first; the signal to the server is on its way
    signal_file = pair.base / SECOND / "data" / "promote"
    signal_file.touch()
    shutil.chown(signal_file, "postgres")
    if held:
        verb = standby.hold(pair.cluster, SECOND, pair.context)
        ready(verb)
        acted = verb.act()
        assert acted.ok, acted.words
    os.kill(postmaster(pair, SECOND), signal.SIGUSR1)
    if not held:
        pair.until("it is promoted", lambda: look(pair, standby)[SECOND].part is Part.PRIMARY)
        return
    assert not signal_file.exists()
    pair.until("it streams again", pair.streams)
    assert look(pair, standby)[SECOND].part is Part.STANDBY


def test_a_shell_that_was_to_promote_finds_the_door_shut_and_the_next_one_open(pair, standby):
    late = standby.promote(pair.cluster, SECOND, pair.context)
    ready(late)
    assert standby.hold(pair.cluster, SECOND, pair.context).act().ok
    acted = late.act()
    assert not acted.ok
    assert "it was made to stay a standby meanwhile" in acted.words
    late.close()
    assert look(pair, standby)[SECOND].part is Part.STANDBY
    kill(pair, FIRST)
    wanted = standby.promote(pair.cluster, SECOND, pair.context)
    ready(wanted)
    done(wanted)


def sessions_of(pair: Pair, name: str) -> list[psutil.Process]:
    """Our ends of all sessions that are open at one member, and before them those who wait for the end of one: they
    would stop with it, and not go on with it."""
    where, found = str(pair.base / name), psutil.process_iter(["name", "cmdline"])
    mine = [one for one in found if where in (one.info["cmdline"] or ()) and one.info["name"] in {"psql", "runuser"}]
    return sorted(mine, key=lambda one: one.info["name"], reverse=True)


def unread(session: psutil.Process) -> int:
    """How many bytes it was sent and has not read."""
    with Path(f"/proc/{session.pid}/fd/0").open("rb", buffering=0) as asked:
        return int.from_bytes(fcntl.ioctl(asked, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_shell_that_stalled_over_its_promotion_goes_on_after_a_hold_and_promotes_nobody(pair, standby):
    late = standby.promote(pair.cluster, SECOND, pair.context)
    ready(late)
    stalled = sessions_of(pair, SECOND)
    with ThreadPoolExecutor(max_workers=1) as pool:
        for one in stalled:
            one.suspend()
            pair.until("it stands still", lambda one=one: one.status() == psutil.STATUS_STOPPED)
        try:
            promoting = pool.submit(late.act)
            pair.until("it is under way", lambda: any(unread(one) for one in stalled if one.info["name"] == "psql"))
            held = standby.hold(pair.cluster, SECOND, pair.context).act()
        finally:
            for one in reversed(stalled):
                one.resume()
        acted = promoting.result()
    assert (held.ok, acted.ok) == (True, False), (held.words, acted.words)
    assert pair.sql(SECOND, "SELECT pg_is_in_recovery()") == "t"
    late.close()


def test_a_standby_that_was_promoted_meanwhile_cannot_be_held(pair, standby):
    kill(pair, FIRST)
    verb = standby.hold(pair.cluster, SECOND, pair.context)
    ready(verb)
    done(standby.promote(pair.cluster, SECOND, pair.context))
    acted = verb.act()
    assert not acted.ok
    assert "it is no standby" in acted.words
    assert look(pair, standby)[SECOND].part is Part.PRIMARY
