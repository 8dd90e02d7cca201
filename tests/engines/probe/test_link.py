"""What a client may believe of an answer: every way in which a server, or what stands before it, can answer one write.
The server here speaks the protocol and says what the test tells it; real ones are in the files beside."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from ismgr_automation.core.secret import Secret
from ismgr_automation.engines.probe.link import Access, Door, Unusable
from ismgr_automation.ports.recovery import Outcome
from tests.engines.probe.cases import wait_until

WITHIN = timedelta(seconds=20)
SSL_REQUEST = 80877103
ACKED, FAILED, UNKNOWN = Outcome.ACKED, Outcome.FAILED, Outcome.UNKNOWN


def message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def said(kind: str, severity: str, state: str, words: str = "so it is") -> bytes:
    fields = (("S", f"in another language {severity}"), ("V", severity), ("C", state), ("M", words))
    return message(kind, b"".join(f"{code}{text}\0".encode() for code, text in fields) + b"\0")


def error(state: str, severity: str = "ERROR") -> bytes:
    return said("E", severity, state)


READY = message("Z", b"I")
BOUND = message("1") + message("2") + message("n")
DONE = BOUND + message("C", b"INSERT 0 1\0")
HELLO = message("R", struct.pack("!i", 0)) + READY


@contextmanager
def answering(*answers: bytes, hang_up: bool = True):
    """A server for one client: after its greeting it gives an answer to each write, and hangs up or waits for us."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_serve, args=(listening, answers, hang_up, over))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            thread.join()


def _serve(listening: socket.socket, answers: Sequence[bytes], hang_up: bool, over: threading.Event) -> None:
    client, _ = listening.accept()
    with client:
        while True:
            (length,) = struct.unpack("!i", client.recv(4, socket.MSG_WAITALL))
            body = client.recv(length - 4, socket.MSG_WAITALL)
            if struct.unpack("!i", body[:4]) != (SSL_REQUEST,):
                break
            client.sendall(b"N")
        client.sendall(HELLO)
        for answer in answers:
            while client.recv(1, socket.MSG_WAITALL) not in {b"S", b""}:
                (length,) = struct.unpack("!i", client.recv(4, socket.MSG_WAITALL))
                client.recv(length - 4, socket.MSG_WAITALL)
            client.recv(4, socket.MSG_WAITALL)
            client.sendall(answer)
        if not hang_up:
            over.wait()


def door(port: int, patience: timedelta = WITHIN) -> Door:
    return Door(
        Access(
            endpoints=(f"127.0.0.1:{port}",),
            database="app",
            user="probe",
            password=Secret("canary-of-no-server"),
            patience=patience,
        )
    )


WARNED = said("N", "WARNING", "01000", "canceling wait for synchronous replication due to user request")
CASES = {
    "done": (DONE + READY, ACKED, "", True),
    "done, with a notice": (said("N", "NOTICE", "00000") + DONE + READY, ACKED, "", True),
    "done, with a warning before": (WARNED + DONE + READY, UNKNOWN, "canceling wait", True),
    "done, with a warning at the commit": (DONE + WARNED + READY, UNKNOWN, "canceling wait", True),
    "refused": (BOUND + error("23505") + READY, FAILED, "so it is (23505)", True),
    "refused at the commit": (DONE + error("40001") + READY, FAILED, "so it is (40001)", True),
    "a standby": (BOUND + error("25006") + READY, FAILED, "so it is (25006)", False),
    "a pooler that lost the server": (error("08006") + READY, UNKNOWN, "so it is (08006)", False),
    "a pooler that says it does not know": (error("40003") + READY, UNKNOWN, "so it is (40003)", False),
    "an error that has no state": (error("") + READY, UNKNOWN, "so it is", False),
    "the session was ended, says one that goes on": (error("57P01", "FATAL") + READY, UNKNOWN, "(57P01)", False),
    "the session was ended": (error("57P01", "FATAL"), UNKNOWN, "so it is", False),
    "the server broke down": (BOUND + error("XX000", "PANIC"), UNKNOWN, "so it is", False),
    "an error, and gone before it was ready": (BOUND + error("23505"), UNKNOWN, "so it is", False),
    "done, and gone before the commit was": (DONE, UNKNOWN, "", False),
    "gone without a word": (b"", UNKNOWN, "", False),
    "half a word": (DONE[:-3], UNKNOWN, "", False),
}


@pytest.mark.parametrize("case", CASES)
def test_an_answer_is_believed_as_far_as_it_goes(case):
    answer, outcome, words, usable = CASES[case]
    with answering(answer, hang_up=not answer.endswith(READY)) as port, closing(door(port).open(0)) as link:
        found = link.write(b"INSERT INTO t VALUES ($1, $2)", ("run", "1"), WITHIN)
        assert (found.outcome, found.usable) == (outcome, usable)
        assert words in found.cause
        assert bool(found.cause) == (outcome is not ACKED)
        assert "\n" not in found.cause


def test_a_warning_of_one_write_is_not_held_against_the_next():
    with answering(DONE + WARNED + READY, DONE + READY, hang_up=False) as port, closing(door(port).open(0)) as link:
        found = [link.write(b"INSERT", (), WITHIN).outcome for _ in range(2)]
    assert found == [UNKNOWN, ACKED]


def test_no_answer_in_time_is_unknown_and_the_connection_is_not_used_again():
    with answering(b"", hang_up=False) as port, closing(door(port).open(0)) as link:
        found = link.write(b"INSERT", (), timedelta(milliseconds=50))
        assert (found.outcome, found.usable, found.cause) == (UNKNOWN, False, "no answer in time")
        assert link.waits()


@pytest.mark.parametrize(("last", "hang_up"), [(b"", True), (error("57P01", "FATAL"), False)])
def test_a_server_that_goes_away_between_two_writes_is_noticed_before_the_next_one_is_sent(last, hang_up):
    with answering(DONE + READY + last, hang_up=hang_up) as port, closing(door(port).open(0)) as link:
        assert link.write(b"INSERT", (), WITHIN).outcome is ACKED
        wait_until(lambda: not link.lives(), "the connection is known to be gone")
        assert not link.waits()


def test_a_connection_that_is_gone_before_the_write_is_a_write_that_was_not_sent():
    with answering(DONE + READY) as port, closing(door(port).open(0)) as link:
        assert link.write(b"INSERT", (), WITHIN).outcome is ACKED
        wait_until(lambda: not link.lives(), "the connection is known to be gone")
        assert link.write(b"INSERT", (), WITHIN).outcome is FAILED


def test_a_server_that_takes_the_connection_and_says_nothing_costs_the_patience():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        patience = timedelta(milliseconds=80)
        with pytest.raises(Unusable, match="no connection in time"):
            door(silent.getsockname()[1], patience).open(0)


def test_nobody_waits_for_a_connection_that_is_not_wanted_any_more():
    stopping, stop = socket.socketpair()
    with stopping, stop, socket.create_server(("127.0.0.1", 0)) as silent:
        stop.send(b"x")
        access = door(silent.getsockname()[1])._access
        with pytest.raises(Unusable):
            Door(access, stopping.fileno()).open(0)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_client_that_ignores_how_long_a_name_is_good_for_goes_where_it_once_led(keeps):
    with answering(DONE + READY) as port:
        access = Access(
            endpoints=(f"localhost:{port}",),
            database="postgres",
            user="ismgr",
            password=Secret("-"),
            patience=WITHIN,
            keeps_addresses=keeps,
        )
        stubborn = Door(access)
        stubborn.open_at(0).close()
    # what somebody else would be told now
    known = stubborn._names._known["localhost"]
    assert "127.0.0.1" in known.addresses
    stubborn._names._known["localhost"] = replace(known, addresses=("192.0.2.1",))
    assert (stubborn._addresses("localhost") == ("192.0.2.1",)) == keeps
