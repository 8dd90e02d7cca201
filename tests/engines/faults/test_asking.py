"""Whoever asks a server tells an answer from silence, and both from a refusal."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from ismgr_automation.engines.faults import asking
from tests.engines.loopback import free_port


@pytest.fixture
def door() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


def test_a_server_that_answers_is_heard(door):
    def serve() -> None:
        one, _ = door.accept()
        with one:
            assert one.recv(8) == asking.QUESTION
            one.sendall(b"N")

    thread = threading.Thread(target=serve)
    thread.start()
    assert asking.ask("127.0.0.1", door.getsockname()[1], 10)[0] == asking.ANSWERS
    thread.join(10)


def test_a_server_that_is_frozen_lets_in_and_says_nothing(door):
    """The kernel takes the connection; nobody accepts it."""
    assert asking.ask("127.0.0.1", door.getsockname()[1], 0.05)[0] == asking.MUTE


def test_a_closed_port_refuses():
    assert asking.ask("127.0.0.1", free_port(), 10)[0] == asking.REFUSED


def test_a_server_that_hangs_up_refuses(door):
    def hang_up() -> None:
        door.accept()[0].close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    assert asking.ask("127.0.0.1", door.getsockname()[1], 10)[0] == asking.REFUSED
    thread.join(10)


def test_a_name_that_is_none_is_no_answer_of_anybody():
    assert asking.ask("nowhere.invalid", 5432, 1)[0] == asking.LOST
