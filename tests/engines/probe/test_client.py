"""A probe at work on a server that is well; what it is refused; and who may own it."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled, EngineFailed, Refused, Unreachable
from ismgr_automation.core.secret import Secret
from ismgr_automation.engines.probe import PostgresqlProbe
from ismgr_automation.engines.probe.link import MOST_GIVEN_UP
from ismgr_automation.engines.probe.log import LogReader, boot, born, in_use
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory import MemorySecretStore
from ismgr_automation.ports.recovery import Outcome, ProbeClient, Sight
from ismgr_automation.recovery.measure import losses, outages
from tests.engines.probe.cases import OneSecret, owned, request, wait_until

MANY = 60


@pytest.fixture
def client(postgres):
    return PostgresqlProbe(store=OneSecret(postgres.password))


@pytest.fixture
def asked(postgres, postgres_database, tmp_path):
    return request(tmp_path, [postgres.port], postgres_database)


@pytest.fixture
def context(tmp_path):
    return Context(work=tmp_path)


def numbers(postgres, database):
    return {int(row[0]) for row in postgres.run("SELECT number FROM ismgr_probe WHERE run = 'run-1'", database)}


def gone(pid):
    return not Path(f"/proc/{pid}").exists() or not born(pid)


def test_a_probe_writes_a_row_at_each_turn_and_the_database_holds_what_was_acknowledged(
    client: ProbeClient, asked, context, postgres, postgres_database
):
    running = client.start(asked, context)
    wait_until(lambda: len(running.attempts()) >= MANY, f"{MANY} writes")
    found = running.stop()
    assert {one.outcome for one in found} == {Outcome.ACKED}
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    assert all(earlier.ended_ns <= later.sent_ns for earlier, later in pairwise(found))
    assert {one.endpoint for one in found} == set(asked.endpoints)
    assert client.held(asked, context) == numbers(postgres, postgres_database) == {one.number for one in found}
    assert running.stop() == found
    assert not in_use(asked.folder / "probe.log")


def test_rows_of_older_runs_are_removed_and_the_table_may_have_been_made_by_somebody_else(
    client, asked, context, postgres, postgres_database
):
    made = "CREATE TABLE ismgr_probe (run text, number bigint, at timestamptz DEFAULT now(), PRIMARY KEY (run, number))"
    postgres.run(made, postgres_database)
    postgres.run("INSERT INTO ismgr_probe VALUES ('run-0', 7)", postgres_database)
    # one that may write there, and may make nothing
    postgres.run("CREATE ROLE writer LOGIN PASSWORD 'canary-writer-of-rows'")
    try:
        postgres.run("GRANT SELECT, INSERT, DELETE ON ismgr_probe TO writer", postgres_database)
        writer = PostgresqlProbe(store=OneSecret(Secret("canary-writer-of-rows")))
        asked = request(asked.folder, [postgres.port], postgres_database, user="writer")
        writer.start(asked, context).stop()
        assert postgres.run("SELECT DISTINCT run FROM ismgr_probe", postgres_database) == [("run-1",)]
    finally:
        postgres.run("DROP OWNED BY writer", postgres_database)
        postgres.run("DROP ROLE writer")


def test_what_the_database_holds_is_read_in_pages(client, asked, context, postgres, postgres_database):
    client.start(asked, context).stop()
    postgres.run("INSERT INTO ismgr_probe SELECT 'run-1', n FROM generate_series(1001, 24000) n", postgres_database)
    assert client.held(asked, context) == numbers(postgres, postgres_database)


def test_a_turn_that_passed_while_a_write_waited_is_left_out(client, asked, context, postgres, postgres_database):
    import psycopg

    patient = request(asked.folder, [postgres.port], postgres_database, patience=timedelta(seconds=60))
    running = client.start(patient, context)
    with psycopg.connect(postgres.open_url(postgres_database)) as other:
        other.execute("LOCK TABLE ismgr_probe IN EXCLUSIVE MODE")
        before = len(running.attempts())
        wait_until(lambda: waiting(postgres, postgres_database), "a write that waits for the lock")
        (since,) = other.execute("SELECT clock_timestamp()").fetchone()
        wait_until(
            lambda: other.execute("SELECT clock_timestamp() - %s > interval '0.3 s'", (since,)).fetchone()[0], "0.3 s"
        )
    wait_until(lambda: len(running.attempts()) > before + MANY, "writes after it")
    found = running.stop()
    assert {one.outcome for one in found} == {Outcome.ACKED}
    turns = (found[-1].sent_ns - found[0].sent_ns) // 5_000_000 + 1
    assert len(found) <= turns - 300 // 5 + 2
    assert outages(found, patient.every)


def waiting(postgres, database):
    return postgres.run(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'", database
    )


def test_a_write_that_the_client_gave_up_is_unknown_and_may_arrive_later(
    client, asked, context, postgres, postgres_database
):
    import psycopg

    hasty = request(asked.folder, [postgres.port], postgres_database, patience=timedelta(seconds=1))
    running = client.start(hasty, context)
    with psycopg.connect(postgres.open_url(postgres_database)) as other:
        other.execute("LOCK TABLE ismgr_probe IN EXCLUSIVE MODE")
        wait_until(lambda: running.attempts()[-1].outcome is Outcome.UNKNOWN, "a write that was given up")
    wait_until(lambda: running.attempts()[-1].outcome is Outcome.ACKED, "service again")
    wait_until(lambda: not waiting(postgres, postgres_database), "the end of all that waited")
    found = losses(running.stop(), client.held(asked, context))
    assert (found.lost, found.contradictions) == ((), ())
    assert found.unknown_held
    assert {one.cause for one in running.attempts() if one.outcome is Outcome.UNKNOWN} == {"no answer in time"}


def test_a_client_that_gives_up_leaves_no_more_than_a_few_sessions_behind(
    client, asked, context, postgres, postgres_database
):
    import psycopg

    hasty = request(asked.folder, [postgres.port], postgres_database, patience=timedelta(seconds=1))
    running = client.start(hasty, context)
    with psycopg.connect(postgres.open_url(postgres_database)) as other:
        other.execute("LOCK TABLE ismgr_probe IN EXCLUSIVE MODE")
        wait_until(lambda: "still wait there" in running.attempts()[-1].cause, "too many that were given up")
        # whoever was given up last may not have reached its lock yet
        wait_until(lambda: len(waiting(postgres, postgres_database)) == MOST_GIVEN_UP, "all of them wait")
    wait_until(lambda: running.attempts()[-1].outcome is Outcome.ACKED, "service again")
    found = losses(running.stop(), client.held(asked, context))
    assert (found.lost, found.contradictions) == ((), ())
    assert len(found.unknown_held) >= MOST_GIVEN_UP


def test_a_session_that_is_ended_costs_no_acknowledged_write(client, asked, context, postgres, postgres_database):
    running = client.start(asked, context)
    for _ in range(3):
        before = len(running.attempts())
        postgres.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'ismgr probe'",
            postgres_database,
        )
        wait_until(
            lambda before=before: any(one.outcome is Outcome.ACKED for one in running.attempts()[before + 2 :]),
            "service again",
        )
    found = losses(running.stop(), client.held(asked, context))
    assert (found.lost, found.contradictions) == ((), ())


def test_a_run_that_has_begun_is_not_begun_again(client, asked, context):
    client.start(asked, context).stop()
    with pytest.raises(Refused, match="has a log already"):
        client.start(asked, context)


def test_a_table_of_somebody_elses_is_left_alone(client, asked, context, postgres, postgres_database):
    postgres.run("CREATE TABLE ismgr_probe (run text, patient text)", postgres_database)
    postgres.run("INSERT INTO ismgr_probe VALUES ('run-0', 'kept')", postgres_database)
    with pytest.raises(EngineFailed, match="is no probe's"):
        client.start(asked, context)
    assert postgres.run("SELECT patient FROM ismgr_probe", postgres_database) == [("kept",)]


def test_an_endpoint_that_nobody_can_use_is_told_without_the_password(asked, context):
    client = PostgresqlProbe(store=OneSecret(Secret("canary-wrong-password")))
    with pytest.raises(Unreachable, match="password authentication failed") as told:
        client.start(asked, context)
    assert "canary" not in str(told.value)
    with pytest.raises(Unreachable, match="password authentication failed"):
        client.held(asked, context)


def test_a_password_is_opened_once_for_all_looks_of_a_run(tmp_path, context):
    store, nobody = MemorySecretStore({"file:probe": "canary-of-a-look"}), request(tmp_path, [1])
    client = PostgresqlProbe(store=store)
    for _ in range(2):
        assert client.sees(nobody, context).sight is Sight.NOT_DONE
    assert store.opened == [nobody.password]


def test_whoever_cancels_gets_no_probe(client, asked, context):
    context.cancelled.set()
    with pytest.raises(Cancelled):
        client.start(asked, context)
    assert not in_use(asked.folder / "probe.log")


def test_what_our_own_environment_says_of_postgresql_is_not_meant_for_the_probe(client, asked, context, monkeypatch):
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    assert client.start(asked, context).stop()[0].outcome is Outcome.ACKED


def test_a_process_that_does_not_begin_is_told(client, asked, context, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EngineFailed, match="did not begin"):
        client.start(asked, context)


def test_lost_writes_are_counted_as_many_as_were_taken_away(client, asked, context, postgres, postgres_database):
    running = client.start(asked, context)
    wait_until(lambda: len(running.attempts()) >= 260, "260 writes")
    found = running.stop()
    postgres.run("DELETE FROM ismgr_probe WHERE number BETWEEN 31 AND 229", postgres_database)
    told = losses(found, client.held(asked, context))
    assert (told.lost, told.contradictions) == (tuple(range(31, 230)), ())
    assert len(told.lost) == 199


@contextmanager
def swallowing():
    """A port that answers nobody: its queue is full, and the kernel drops what comes."""
    with socket.socket() as listening, socket.socket() as first, socket.socket() as second:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for one in (first, second):
            one.settimeout(0)
            one.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def test_an_endpoint_that_does_not_answer_costs_its_patience_and_no_more(
    client, asked, context, postgres, postgres_database
):
    with swallowing() as dead:
        patience = timedelta(milliseconds=500)
        asked = request(asked.folder, [dead, postgres.port], postgres_database, patience=patience)
        running = client.start(asked, context)
        wait_until(lambda: len(running.attempts()) >= 3, "writes through the second endpoint")
        found = [one for one in running.stop() if one.outcome is Outcome.ACKED]
        assert {one.endpoint for one in found} == {asked.endpoints[1]}
        assert found[0].ended_ns - found[0].sent_ns >= 500_000_000
        assert client.held(asked, context) >= {one.number for one in found}


def test_a_name_that_leads_nowhere_is_one_endpoint_that_fails(client, asked, context, postgres):
    named = replace(asked, endpoints=("db.invalid:5432", f"localhost:{postgres.port}"))
    running = client.start(named, context)
    wait_until(lambda: len(running.attempts()) >= 3, "writes through the second endpoint")
    assert running.stop()[-1].endpoint == named.endpoints[1]
    nowhere = replace(named, endpoints=named.endpoints[:1], folder=asked.folder / "other")
    with pytest.raises(Unreachable, match=r"db\.invalid:5432: "):
        client.start(nowhere, context)


def test_the_password_is_in_no_argument_no_variable_and_no_file(client, asked, context, postgres):
    running = client.start(asked, context)
    password, pid = postgres.password.reveal().encode(), running.log.pid
    try:
        for name in ("cmdline", "environ"):
            assert password not in Path(f"/proc/{pid}/{name}").read_bytes()
        assert b"run-1" in Path(f"/proc/{pid}/cmdline").read_bytes()
    finally:
        running.stop()
    files = [one for one in asked.folder.rglob("*") if one.is_file()]
    assert [one.name for one in files] == ["probe.log"]
    assert password not in files[0].read_bytes()
    assert files[0].stat().st_mode & 0o077 == 0


def test_a_probe_whose_owner_is_killed_goes_on_and_is_adopted(client, asked, context, postgres):
    with owned(asked, postgres.password) as (owner, pid):
        owner.kill()
        owner.wait()
        running = client.resume(asked, context)
        before = len(running.attempts())
        wait_until(lambda: len(running.attempts()) > before + MANY, "writes for the new owner")
        assert running.log.pid == pid
        found = running.stop()
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    assert {one.outcome for one in found} == {Outcome.ACKED}
    assert running.log.ended == "it was stopped"
    assert gone(pid)


def test_a_probe_that_nobody_adopts_ends_by_itself(asked, postgres, postgres_database):
    short = request(asked.folder, [postgres.port], postgres_database, linger=timedelta(seconds=0.3))
    with owned(short, postgres.password) as (owner, pid):
        owner.kill()
        owner.wait()
        wait_until(lambda: gone(pid), "the end of the probe")
    log = LogReader(asked.folder / "probe.log")
    log.read()
    assert log.ended == "its owner was gone for 0.3 s, and nobody adopted it"
    assert not in_use(log.path)


def test_a_probe_is_not_taken_from_an_owner_that_lives(client, asked, context, postgres):
    with owned(asked, postgres.password) as (owner, _):
        with pytest.raises(EngineFailed, match="belongs to another process"):
            client.resume(asked, context)
        owner.kill()
        owner.wait()
        client.resume(asked, context).stop()


def test_a_probe_that_died_too_is_begun_anew_with_the_next_number(client, asked, context, postgres):
    with owned(asked, postgres.password) as (owner, pid):
        os.kill(pid, signal.SIGKILL)
        owner.kill()
        owner.wait()
        wait_until(lambda: gone(pid), "the end of the probe")
        log = asked.folder / "probe.log"
        whole = log.read_bytes()
        log.write_bytes(whole + b'{"number":')
        running = client.resume(asked, context)
        wait_until(lambda: len(running.attempts()) > whole.count(b"\n") + MANY, "writes of the new one")
        found = running.stop()
    assert running.log.pid != pid
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    (unknown,) = [one for one in found if one.outcome is not Outcome.ACKED]
    assert (unknown.outcome, unknown.number) == (Outcome.UNKNOWN, whole.count(b"\n"))
    assert "was killed" in unknown.cause
    told = losses(found, client.held(asked, context))
    assert (told.lost, told.contradictions) == ((), ())


def test_a_probe_that_is_killed_under_its_owner_has_a_log_that_says_so(client, asked, context):
    running = client.start(asked, context)
    os.kill(running.log.pid, signal.SIGKILL)
    found = running.stop()
    assert (found[-1].outcome, running.log.ended) == (Outcome.UNKNOWN, "it was killed")


def test_a_probe_that_was_to_begin_when_its_owner_died_is_begun(client, asked, context):
    (asked.folder / "probe.log").touch()
    assert client.resume(asked, context).stop()[0].outcome is Outcome.ACKED


def test_after_the_machine_was_restarted_the_log_begins_anew_and_no_number_is_used_twice(client, asked, context):
    found = client.start(asked, context).stop()
    log = asked.folder / "probe.log"
    log.write_text(log.read_text().replace(boot(), "another"))
    before = log.read_text()
    running = client.resume(asked, context)
    wait_until(running.attempts, "a write")
    again = running.stop()
    assert again[0].number == 1_000_001
    assert (asked.folder / "probe.log.another").read_text() == before
    assert client.held(asked, context) == {one.number for one in (*found, *again)}
