"""The probe's log, as it is written and as it is found."""

from __future__ import annotations

import os

import pytest

from ismgr_automation.engines.probe.log import LogReader, LogWriter, boot, born, in_use, lives
from ismgr_automation.ports.recovery import Attempt, Outcome

FIRST = Attempt(number=1, sent_ns=10, ended_ns=20, outcome=Outcome.ACKED, endpoint="db:5432")
SECOND = Attempt(number=2, sent_ns=30, ended_ns=40, outcome=Outcome.FAILED, endpoint="", cause="refused")


def read(path):
    log = LogReader(path)
    log.read()
    return log


@pytest.fixture
def path(tmp_path):
    return tmp_path / "probe.log"


@pytest.fixture
def writer(path):
    writer = LogWriter(path)
    yield writer
    writer.close()


def test_what_is_written_is_read_while_it_is_written(path, writer):
    log = LogReader(path)
    log.read()
    assert (log.attempts, log.run) == ([], "")
    writer.begun("run-1", "7:7")
    writer.attempt(FIRST)
    log.read()
    assert (log.attempts, log.run, log.owner, log.pid, log.boot) == ([FIRST], "run-1", "7:7", os.getpid(), boot())
    writer.attempt(SECOND)
    writer.adopted("8:8")
    log.read()
    assert (log.attempts, log.owner, log.last, log.ended) == ([FIRST, SECOND], "8:8", 2, "")
    writer.ended("it was stopped")
    log.read()
    assert (len(log.attempts), log.ended) == (2, "it was stopped")


def test_a_torn_line_is_none_wherever_it_was_torn(path, writer):
    writer.begun("run-1", "7:7")
    writer.attempt(FIRST)
    whole = path.read_bytes()
    writer.attempt(SECOND)
    both = path.read_bytes()
    for length in range(len(whole), len(both)):
        path.write_bytes(both[:length])
        assert read(path).attempts == [FIRST]


def test_a_log_that_a_killed_writer_left_is_mended(path, writer):
    writer.begun("run-1", "7:7")
    writer.attempt(FIRST)
    with path.open("ab") as file:
        file.write(b'{"number":2,"sent')
    writer.mend(read(path), 99)
    writer.begun("run-1", "8:8")
    writer.attempt(Attempt(number=3, sent_ns=100, ended_ns=101, outcome=Outcome.ACKED, endpoint="db:5432"))
    found = read(path)
    assert [(one.number, one.outcome) for one in found.attempts] == [
        (1, Outcome.ACKED),
        (2, Outcome.UNKNOWN),
        (3, Outcome.ACKED),
    ]
    # nobody watched between 20 and 99, and the log must not say that somebody did
    assert (found.attempts[1].sent_ns, found.attempts[1].ended_ns) == (99, 99)


def test_a_log_that_was_ended_needs_no_mending(path, writer):
    writer.begun("run-1", "7:7")
    writer.attempt(FIRST)
    writer.ended("it was stopped")
    before = path.read_bytes()
    writer.mend(read(path), 99)
    assert path.read_bytes() == before


def test_one_process_writes_to_a_log(path, writer):
    assert in_use(path)
    with pytest.raises(BlockingIOError):
        LogWriter(path)
    writer.close()
    assert not in_use(path)
    writer._file = os.open(path, os.O_RDONLY)  # for the fixture to close


def test_a_process_is_known_by_its_number_and_birth():
    us = born(os.getpid())
    assert lives(us)
    assert not lives(us + "0")
    assert not lives("")
    assert not born(1 << 22)


def test_a_log_that_begins_anew_goes_on_counting(path, writer):
    writer.begun("run-1", "7:7", 41)
    assert read(path).last == 41
    writer.mend(read(path), 99)
    assert [(one.number, one.outcome) for one in read(path).attempts] == [(42, Outcome.UNKNOWN)]
