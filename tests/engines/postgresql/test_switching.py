"""Switchovers on a real pair: nothing acknowledged is lost, never two primaries, and every way to break off is safe."""

from __future__ import annotations

import re
import subprocess
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.engines.postgresql import layout
from ismgr_automation.engines.postgresql.switching import Members, Switchover
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.upkeep import Part, Switched
from tests.engines.postgresql.conftest import FIRST, SECOND, Pair, Writer

SLOTS = "SELECT count(*) FROM pg_replication_slots"


def switch(pair: Pair, to: str, **more: str) -> Switched:
    return pair.manager(**more).switchover(pair.cluster, to, pair.context)


def parts(pair: Pair) -> list[Part]:
    members = pair.members()
    return [members[FIRST].part, members[SECOND].part]


def test_members_are_told_apart(pair: Pair) -> None:
    members = pair.members()
    assert (members[FIRST].part, members[SECOND].part) == (Part.PRIMARY, Part.STANDBY)
    assert members[FIRST].timeline == members[SECOND].timeline == 1
    assert members[FIRST].streaming
    assert members[SECOND].streaming
    assert members[FIRST].position >= members[SECOND].position > 0
    pair.act(SECOND, "stop")
    members = pair.members()
    assert members[SECOND].part is Part.DOWN
    assert "would start as a standby" in members[SECOND].detail
    assert not members[FIRST].streaming


def test_there_and_back_under_load_without_losing_one_acknowledged_write(pair: Pair, record_property) -> None:
    writers = {name: Writer(pair=pair, name=name, offset=n * 10**9) for n, name in enumerate((FIRST, SECOND))}
    threads = [threading.Thread(target=one.run) for one in writers.values()]
    for one in threads:
        one.start()
    try:
        pair.until("the first takes writes", lambda: len(writers[FIRST].acknowledged) > 50)
        there = switch(pair, SECOND)
        assert (there.ok, there.primary, there.detail) == (True, SECOND, "")
        assert parts(pair) == [Part.STANDBY, Part.PRIMARY]
        pair.until("the second takes writes", lambda: len(writers[SECOND].acknowledged) > 50)
        before = dict(writers[FIRST].acknowledged)
        assert max(before.values()) < min(dict(writers[SECOND].acknowledged).values())  # they go on writing
        back = switch(pair, FIRST)
        assert (back.ok, back.primary, back.detail) == (True, FIRST, "")
        pair.until("the first takes writes again", lambda: len(writers[FIRST].acknowledged) > len(before) + 50)
        later = [at for number, at in dict(writers[FIRST].acknowledged).items() if number not in before]
        assert max(dict(writers[SECOND].acknowledged).values()) < min(later)
    finally:
        for one in writers.values():
            one.stop.set()
        for one in threads:
            one.join(20)
    kept = {int(line) for line in pair.sql(FIRST, "SELECT id FROM written").splitlines()}
    acknowledged = set(writers[FIRST].acknowledged) | set(writers[SECOND].acknowledged)
    assert acknowledged <= kept
    assert parts(pair) == [Part.PRIMARY, Part.STANDBY]
    record_property("seconds without a primary, there", there.without_primary.total_seconds())
    record_property("seconds without a primary, back", back.without_primary.total_seconds())
    assert min(there.without_primary, back.without_primary) > timedelta()
    assert not list((pair.base / FIRST).glob("etc/conf.d/00-*"))
    assert pair.sql(SECOND, SLOTS) == "0"


def test_a_switchover_that_is_done_does_nothing(pair: Pair) -> None:
    log = (pair.base / FIRST / "log").read_text()
    done = switch(pair, FIRST)
    assert (done.ok, done.steps) == (True, (f"{FIRST} is the primary already",))
    assert (pair.base / FIRST / "log").read_text() == log


def stop_the_standby(pair: Pair) -> None:
    pair.act(SECOND, "stop")


def pause_the_replay(pair: Pair) -> None:
    pair.sql(SECOND, "SELECT pg_wal_replay_pause()")


def promote_the_standby(pair: Pair) -> None:
    pair.sql(SECOND, "SELECT pg_promote()")


def freeze_the_standby(pair: Pair) -> None:
    """Somebody else's server is there and does not let us in."""
    (pair.base / SECOND / "etc" / "pg_hba.conf").write_text("local all all reject\n")
    pair.sql(SECOND, "SELECT pg_reload_conf()")


def bar_the_way_back(pair: Pair) -> None:
    (pair.base / SECOND / "etc" / "pg_hba.conf").write_text("local all postgres peer\n")
    pair.sql(SECOND, "SELECT pg_reload_conf()")


def name_another_primary(pair: Pair) -> None:
    (pair.base / FIRST / "etc" / "conf.d" / "zz.conf").write_text("primary_conninfo = 'host=192.0.2.7'\n")


def read_no_files(pair: Pair) -> None:
    main = pair.base / FIRST / "etc" / "postgresql.conf"
    main.write_text(main.read_text().replace("include_dir", "# include_dir"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (stop_the_standby, "db1.dc2 does not receive|db1.dc2 is down .*, not a standby"),
        (pause_the_replay, "its replay is paused"),
        (promote_the_standby, "there are 2 primaries: db1.dc1, db1.dc2"),
        (freeze_the_standby, "db1.dc2 is .*does not answer.*it could be a primary"),
        (bar_the_way_back, "db1.dc1 cannot connect to db1.dc2 to follow it: .*no pg_hba.conf entry"),
        (name_another_primary, r"zz\.conf names another primary; nothing was stopped"),
        (read_no_files, "it does not read 00-ismgr-standby.conf"),
    ],
)
def test_it_is_refused_before_anything_is_done(pair: Pair, spoil, words: str) -> None:
    started = pair.sql(FIRST, "SELECT pg_postmaster_start_time()")
    spoil(pair)
    refused = switch(pair, SECOND)
    assert not refused.ok
    assert re.search(words, refused.detail), refused.detail
    assert pair.sql(FIRST, "SELECT pg_postmaster_start_time()") == started
    assert not (pair.base / FIRST / "etc" / "conf.d" / "00-ismgr-standby.conf").exists()


class Dies(Exception):
    """The controller is gone."""


class DiesBeforePromoting(Switchover):
    def _promote(self, *_words: object) -> None:
        raise Dies


class DiesBeforeFollowing(Switchover):
    def _follow(self, *_words: object) -> None:
        raise Dies


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        (DiesBeforePromoting, [Part.DOWN, Part.STANDBY]),
        (DiesBeforeFollowing, [Part.DOWN, Part.PRIMARY]),
    ],
)
def test_a_switchover_whose_controller_died_is_finished_by_the_next(pair: Pair, kind, left: list[Part]) -> None:
    pair.sql(FIRST, "INSERT INTO written VALUES (1)")
    members = Members(pair.cluster, pair.layout(), pair.loopback.store)
    with pytest.raises(Dies):
        kind(members, SECOND, pair.context).run()
    assert parts(pair) == left
    # whoever starts the old primary now does not get a second one
    assert (pair.base / FIRST / "data" / "standby.signal").exists()
    again = switch(pair, SECOND)
    assert (again.ok, again.primary, again.detail) == (True, SECOND, "")
    assert parts(pair) == [Part.STANDBY, Part.PRIMARY]
    assert pair.sql(FIRST, "SELECT id FROM written") == "1"


class Deaf(Members):
    """The connection is lost after the first script of each kind; ``never`` is one whose answers never come."""

    def __init__(self, pair: Pair, never: str = "", **more: object) -> None:
        super().__init__(replace(pair.cluster, **more), pair.layout(), pair.loopback.store)  # type: ignore[arg-type]
        object.__setattr__(self, "heard", {})
        object.__setattr__(self, "never", never)

    def on(self, name: str, script: str, *arguments: str, **more: object) -> Answer:
        answer = super().on(name, script, *arguments, **more)  # type: ignore[arg-type]
        self.heard[script] = self.heard.get(script, 0) + 1
        critical = script in {layout.STOP, layout.PROMOTE, layout.FOLLOW}
        if critical and (self.heard[script] == 1 or script == self.never):
            return Answer(host=name, reach=Reach.TIMEOUT, detail="the connection was lost")
        return answer


class CancelledInTheMiddle(Switchover):
    """Somebody wants it stopped when there is no primary."""

    def _stop(self, old: str) -> int:
        self.context.cancelled.set()
        return super()._stop(old)


def test_lost_answers_and_a_request_to_stop_do_not_leave_it_without_a_primary(pair: Pair) -> None:
    members = Deaf(pair)
    done = CancelledInTheMiddle(members, SECOND, pair.context).run()
    assert (done.ok, done.primary, done.detail) == (True, SECOND, "")
    assert [members.heard[one] for one in (layout.STOP, layout.PROMOTE, layout.FOLLOW)] == [2, 2, 2]
    pair.context.cancelled.clear()
    assert parts(pair) == [Part.STANDBY, Part.PRIMARY]


def test_the_old_primary_is_not_started_again_while_a_promotion_may_still_come(pair: Pair) -> None:
    members = Deaf(pair, never=layout.PROMOTE, deadline=timedelta(seconds=10))
    failed = Switchover(members, SECOND, pair.context).run()
    assert not failed.ok
    assert "was not started again, because two primaries would lose writes" in failed.detail
    assert pair.members()[FIRST].part is Part.DOWN
    again = switch(pair, SECOND)
    assert (again.ok, again.primary) == (True, SECOND)


class CancelledBeforeTheStop(Switchover):
    def checkpoint(self, old: str) -> None:
        self.context.cancelled.set()
        super().checkpoint(old)


def test_a_request_to_stop_before_the_primary_is_stopped_leaves_nothing_behind(pair: Pair) -> None:
    started = pair.sql(FIRST, "SELECT pg_postmaster_start_time()")
    members = Members(pair.cluster, pair.layout(), pair.loopback.store)
    with pytest.raises(Cancelled):
        CancelledBeforeTheStop(members, SECOND, pair.context).run()
    assert pair.sql(FIRST, "SELECT pg_postmaster_start_time()") == started
    assert pair.sql(SECOND, SLOTS) == "0"
    assert not list((pair.base / FIRST).glob("etc/conf.d/00-*"))


class PromotedBySomebodyElse(Switchover):
    """The standby is promoted by hand, and the old primary takes one more write, just before it is stopped."""

    pair: Pair

    def _stop(self, old: str) -> int:
        self.pair.sql(SECOND, "SELECT pg_promote()")
        self.pair.sql(FIRST, "INSERT INTO written VALUES (3)")
        return super()._stop(old)


def test_a_new_primary_that_lacks_a_write_is_noticed_and_the_write_is_kept(pair: Pair) -> None:
    PromotedBySomebodyElse.pair = pair
    members = Members(pair.cluster, pair.layout(), pair.loopback.store)
    failed = PromotedBySomebodyElse(members, SECOND, pair.context).run()
    assert (failed.ok, failed.primary) == (False, SECOND)
    assert "somebody else promoted db1.dc2 before it had all of db1.dc1" in failed.detail
    assert parts(pair) == [Part.DOWN, Part.PRIMARY]
    (pair.base / FIRST / "data" / "standby.signal").unlink()
    pair.act(FIRST, "start")
    assert pair.sql(FIRST, "SELECT id FROM written") == "3"


class ReplayStops(Switchover):
    """The standby stops to replay in the moment in which the primary is stopped."""

    pair: Pair

    def _stop(self, old: str) -> int:
        self.pair.sql(SECOND, "SELECT pg_wal_replay_pause()")
        self.pair.sql(FIRST, "INSERT INTO written VALUES (2)")
        return super()._stop(old)


def test_a_standby_that_does_not_catch_up_is_not_promoted_and_the_primary_runs_again(pair: Pair) -> None:
    cluster = replace(pair.cluster, deadline=timedelta(seconds=10))
    one = ReplayStops(Members(cluster, pair.layout(), pair.loopback.store), SECOND, pair.context)
    ReplayStops.pair = pair
    failed = one.run()
    assert (failed.ok, failed.primary) == (False, FIRST)
    assert "did not replay the last record" in failed.detail
    assert "Now: db1.dc1 is a primary" in failed.detail
    assert parts(pair) == [Part.PRIMARY, Part.STANDBY]
    assert pair.sql(FIRST, "SELECT id FROM written") == "2"
    assert pair.sql(SECOND, SLOTS) == "0"


@pytest.mark.parametrize(
    ("change", "words"),
    [("exit 1", "could not be stopped"), ("immediate", "was not stopped cleanly; db1.dc1 was started again")],
)
def test_a_primary_that_does_not_stop_cleanly_stays_the_primary(pair: Pair, change: str, words: str) -> None:
    stop = change if change == "exit 1" else pair.layout().stop.replace("fast", "immediate")
    failed = switch(pair, SECOND, stop=stop)
    assert (failed.ok, failed.primary) == (False, FIRST)
    assert words in failed.detail
    pair.until("all is as before", pair.streams)
    assert parts(pair) == [Part.PRIMARY, Part.STANDBY]


def test_an_old_primary_that_does_not_start_is_told_and_nothing_is_lost(pair: Pair) -> None:
    failed = switch(pair, SECOND, start="exit 1")
    assert (failed.ok, failed.primary) == (False, SECOND)
    assert "db1.dc1 is down (shut down) and would start as a standby" in failed.detail
    assert switch(pair, SECOND).ok


def crash(pair: Pair) -> None:
    stop = pair.layout().stop.replace("fast", "immediate").format(host=FIRST)
    subprocess.run(["sh", "-c", stop], check=True, cwd="/", stdout=subprocess.DEVNULL)


def write_more_and_stop(pair: Pair) -> None:
    pair.sql(FIRST, "INSERT INTO written VALUES (4)")
    pair.act(FIRST, "stop")


@pytest.mark.parametrize("end", [crash, write_more_and_stop])
def test_an_old_primary_that_may_have_more_than_the_new_one_is_not_started(pair: Pair, end) -> None:
    pair.sql(SECOND, "SELECT pg_promote()")
    end(pair)
    failed = switch(pair, SECOND)
    assert (failed.ok, failed.primary) == (False, SECOND)
    assert "pg_rewind" in failed.detail
    assert not Path(pair.base / FIRST / "data" / "standby.signal").exists()
    assert parts(pair) == [Part.DOWN, Part.PRIMARY]
