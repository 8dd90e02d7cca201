"""What a probe sees when its server dies, takes no writes, does not answer, or confirms what it should not."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import tempfile
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from ismgr_automation.core.errors import Unreachable
from ismgr_automation.engines.probe import PostgresqlProbe
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import Manners, Outcome, Sight
from ismgr_automation.recovery.measure import downtime, losses, steady
from ismgr_automation.recovery.telling_fault import CANCELLED
from tests.engines.probe.cases import OneSecret, owned, request, wait_until
from tests.fixtures_canaries import search_now
from tests.fixtures_postgres import _free_port, restart_postgres, start_postgres

MANY = 60
SLACK = 1000
"""However busy the machine that runs the tests is: only what failed is an outage here."""
MICROSECOND = 1000


@pytest.fixture
def server():
    """One that a test may kill. What it confirms is on the disk, as far as this machine knows."""
    folder = Path(tempfile.mkdtemp(prefix="ismgr-pg-"))
    server = start_postgres(folder)
    server.run("ALTER DATABASE postgres SET synchronous_commit = on")
    yield server
    for one in psutil.process_iter(["cmdline"]):
        if str(server.data) in (one.info["cmdline"] or []):
            one.send_signal(signal.SIGQUIT)
            wait_until(lambda one=one: not one.is_running() or one.status() == psutil.STATUS_ZOMBIE, "its end")
    search_now(folder)
    shutil.rmtree(folder)


@pytest.fixture
def client(server):
    return PostgresqlProbe(store=OneSecret(server.password))


@pytest.fixture
def context(tmp_path):
    return Context(work=tmp_path)


def kill(server):
    """All of it at once, as a machine that loses its power."""
    server.process.send_signal(signal.SIGSTOP)  # or it would begin to mend what follows
    family = [*psutil.Process(server.process.pid).children(recursive=True), psutil.Process(server.process.pid)]
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    server.process.wait(30)


def acknowledged(running, count):
    return sum(one.outcome is Outcome.ACKED for one in running.attempts()) >= count


def check_by_rows(server, found, measured):
    """The server's own clock says the same: each row has the time of its transaction, which lies between the sending
    and the end of its attempt."""
    by_number = {one.number: one for one in found}
    before, after = by_number[measured.outages[0].before], by_number[measured.outages[-1].after]
    written = dict(server.run("SELECT number, extract(epoch FROM at) FROM ismgr_probe"))
    rows = int((written[after.number] - written[before.number]) * 1_000_000_000)
    rto = measured.ended_ns - measured.began_ns
    assert rows - (before.ended_ns - before.sent_ns) - MICROSECOND <= rto
    assert rto <= rows + (after.ended_ns - after.sent_ns) + MICROSECOND


def test_the_outage_of_a_server_that_was_killed_is_what_its_rows_say(server, client, context, tmp_path):
    asked = request(tmp_path, [server.port])
    running = client.start(asked, context)
    wait_until(lambda: acknowledged(running, MANY), "steady writes")
    found = running.attempts()
    assert steady(found, found[5].sent_ns, found[-1].ended_ns, asked.every, SLACK) is None
    kill(server)
    wait_until(lambda: running.attempts()[-1].outcome is Outcome.FAILED, "the outage")
    before = sum(one.outcome is Outcome.ACKED for one in running.attempts())
    server = restart_postgres(server)
    wait_until(lambda: acknowledged(running, before + MANY), "steady writes again")
    found = running.stop()
    measured = downtime(found, found[MANY].sent_ns, asked.every, settled=timedelta(milliseconds=100), slack=SLACK)
    assert measured is not None
    assert measured.rto is not None
    assert measured.blind_ns < measured.ended_ns - measured.began_ns
    check_by_rows(server, found, measured)
    told = losses(found, client.held(asked, context))
    assert (told.lost, told.contradictions) == ((), ())
    assert measured.outages[0].failed > 0
    assert any("refused" in one.cause for one in found)


def test_the_outage_is_measured_whole_though_the_drill_dies_in_the_middle_of_it(server, client, context, tmp_path):
    asked = request(tmp_path, [server.port])
    with owned(asked, server.password) as (owner, _):
        kill(server)
        owner.kill()
        owner.wait()
        running = client.resume(asked, context)
        wait_until(lambda: running.attempts()[-1].outcome is Outcome.FAILED, "the outage")
        server = restart_postgres(server)
        back = len(running.attempts())
        wait_until(
            lambda: acknowledged(running, back + 1) or running.attempts()[-1].outcome is Outcome.ACKED, "service"
        )
        found = running.stop()
    measured = downtime(found, found[0].ended_ns, asked.every, slack=SLACK)
    assert measured is not None
    assert measured.rto is not None
    check_by_rows(server, found, measured)
    assert [one.number for one in found] == list(range(1, len(found) + 1))


def test_a_commit_whose_wait_for_a_standby_was_cancelled_is_unknown(server, client, context, tmp_path):
    asked = request(tmp_path, [server.port], patience=timedelta(seconds=60))
    running = client.start(asked, context)
    server.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    server.run("SELECT pg_reload_conf()")
    waiting = "SELECT pid FROM pg_stat_activity WHERE application_name = 'ismgr probe' AND wait_event = 'SyncRep'"
    wait_until(lambda: server.run(waiting), "a commit that waits for nobody")
    server.run("ALTER SYSTEM RESET synchronous_standby_names")
    server.run(waiting.replace("pid", "pg_cancel_backend(pid)"))
    server.run("SELECT pg_reload_conf()")
    wait_until(lambda: running.attempts()[-1].outcome is Outcome.ACKED, "service again")
    found = running.stop()
    (unknown,) = [one for one in found if one.outcome is not Outcome.ACKED]
    assert unknown.outcome is Outcome.UNKNOWN
    assert unknown.cause.startswith("canceling wait for synchronous replication")
    # the server has it, and a standby that took over now would not
    assert losses(found, client.held(asked, context)).unknown_held == (unknown.number,)


def test_a_client_that_cancels_commits_is_never_told_that_they_are_safe(server, client, context, tmp_path):
    asked = request(tmp_path, [server.port], patience=timedelta(seconds=4), manners=Manners.CANCELS_COMMITS)
    running = client.start(asked, context)
    server.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    server.run("SELECT pg_reload_conf()")
    wait_until(lambda: sum(CANCELLED in one.cause for one in running.attempts()) > 1, "two cancelled commits")
    found = running.stop()
    server.run("ALTER SYSTEM RESET synchronous_standby_names")
    server.run("SELECT pg_reload_conf()")
    cancelled = [one for one in found if CANCELLED in one.cause]
    assert {one.outcome for one in cancelled} == {Outcome.UNKNOWN}
    told = losses(found, client.held(asked, context))
    assert {one.number for one in cancelled} <= set(told.unknown_held)
    assert told.lost == ()


def test_a_detector_sees_who_takes_writes_and_leaves_the_runs_rows_alone(server, client, context, tmp_path):
    asked = request(tmp_path, [server.port, _free_port()], every=timedelta(milliseconds=20))
    running = client.start(asked, context)
    quick = dataclasses.replace(asked, patience=timedelta(seconds=2))
    assert [client.sees(quick, context).sight for _ in range(2)] == [Sight.DONE, Sight.DONE]
    # says that it is a primary, and takes no write in time
    server.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    server.run("SELECT pg_reload_conf()")
    seen = client.sees(quick, context)
    assert seen.sight is Sight.NOT_DONE
    assert "no answer in time" in seen.words
    server.run("ALTER SYSTEM RESET synchronous_standby_names")
    server.run("SELECT pg_reload_conf()")
    wait_until(lambda: client.sees(quick, context).sight is Sight.DONE, "service again")
    found = running.stop()
    assert losses(found, client.held(asked, context)).contradictions == ()
    kill(server)
    assert client.sees(quick, context).sight is Sight.NOT_DONE


@contextmanager
def standby(server):
    """Hot, and following nobody: a copy of a server that was stopped."""
    server.run("CHECKPOINT")
    server.process.send_signal(signal.SIGINT)
    server.process.wait(60)
    folder = Path(tempfile.mkdtemp(prefix="ismgr-pg-", dir=server.data.parent))
    shutil.copystat(server.data.parent, folder)
    shutil.chown(folder, server.data.owner(), server.data.group())
    copy = shutil.copytree(server.data, folder / "data", copy_function=shutil.copy2)
    for one in (copy, *copy.rglob("*")):
        shutil.chown(one, server.data.owner(), server.data.group())
    (copy / "standby.signal").touch()
    made = restart_postgres(dataclasses.replace(server, data=copy, sockets=folder, port=_free_port()))
    try:
        yield made
    finally:
        made.stop()


def test_a_standby_refuses_and_the_next_endpoint_is_used(server, client, context, tmp_path):
    client.start(request(tmp_path / "before", [server.port]), context).stop()
    with standby(server) as reading:
        server = restart_postgres(server)
        asked = request(tmp_path, [reading.port, server.port], run="run-2")
        running = client.start(asked, context)
        wait_until(lambda: acknowledged(running, MANY), "writes to the primary")
        found = running.stop()
        first = found[0]
        assert (first.outcome, first.endpoint) == (Outcome.FAILED, asked.endpoints[0])
        assert "25006" in first.cause
        assert {(one.outcome, one.endpoint) for one in found[1:]} == {(Outcome.ACKED, asked.endpoints[1])}
        assert client.held(asked, context) == {one.number for one in found[1:]}
        with pytest.raises(Unreachable, match="takes no writes"):
            client.start(request(tmp_path / "other", [reading.port]), context)


def test_a_standby_that_is_promoted_takes_the_writes(server, client, context, tmp_path):
    client.start(request(tmp_path / "before", [server.port]), context).stop()
    with standby(server) as reading:
        primary = restart_postgres(server)
        asked = request(tmp_path, [primary.port, reading.port], run="run-2")
        running = client.start(asked, context)
        wait_until(lambda: acknowledged(running, MANY), "writes to the primary")
        kill(primary)
        wait_until(lambda: any("25006" in one.cause for one in running.attempts()), "writes that the standby refuses")
        reading.run("SELECT pg_promote()")
        wait_until(lambda: running.attempts()[-1].outcome is Outcome.ACKED, "writes to the new primary")
        found = running.stop()
        assert found[-1].endpoint == asked.endpoints[1]
        told = losses(found, client.held(asked, context))
        # it follows nobody: all that the old primary had taken is lost
        lost = [one.number for one in found if one.outcome is Outcome.ACKED and one.endpoint == asked.endpoints[0]]
        assert (told.lost, told.contradictions) == (tuple(lost), ())
