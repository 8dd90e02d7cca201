"""Where names lead, told by a real Knot server, and what is kept of it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.secret import Secret
from ismgr_automation.engines.dns import Key, Server, put, record_set
from ismgr_automation.engines.probe.names import Names, Unresolved
from tests.engines.probe.cases import wait_until
from tests.provider import knot

pytestmark = pytest.mark.skipif(not Path(knot.KNOTD).exists(), reason="the package knot is not installed")

PATIENCE = timedelta(seconds=5)
NAME = f"db.{knot.ZONE}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[knot.Knot]:
    with knot.running(tmp_path_factory.mktemp("knot")) as running:
        yield running


def points(server: knot.Knot, *addresses: str, ttl: int) -> None:
    key = Key(name=knot.KEY, secret=Secret(knot.SECRET))
    found = Server(subject="a test", address="127.0.0.1", port=server.port, key=key)
    put(found, record_set(zone=knot.ZONE, name="db", type="A", ttl=ttl, records=addresses))


@pytest.fixture
def resolvers(server: knot.Knot) -> tuple[str, ...]:
    return (f"127.0.0.1:{server.port}",)


def test_an_answer_is_kept_for_its_time_to_live_and_no_longer(server: knot.Knot, resolvers: tuple[str, ...]) -> None:
    points(server, "192.0.2.1", ttl=1)
    names = Names(resolvers, PATIENCE)
    asked = time.monotonic()
    assert names.addresses(NAME) == ("192.0.2.1",)
    points(server, "192.0.2.2", "192.0.2.3", ttl=1)
    wait_until(lambda: names.addresses(NAME) != ("192.0.2.1",), "the new address")
    assert time.monotonic() - asked >= 1
    assert set(names.addresses(NAME)) == {"192.0.2.2", "192.0.2.3"}


def test_what_is_good_for_no_time_is_asked_for_anew_and_what_is_good_for_long_is_not(
    server: knot.Knot, resolvers: tuple[str, ...]
) -> None:
    for ttl, then in ((0, ("192.0.2.2",)), (3600, ("192.0.2.1",))):
        points(server, "192.0.2.1", ttl=ttl)
        names = Names(resolvers, PATIENCE)
        assert names.addresses(NAME) == ("192.0.2.1",)
        points(server, "192.0.2.2", ttl=ttl)
        assert names.addresses(NAME) == then


def test_who_ignores_how_long_it_is_good_for_keeps_it(server: knot.Knot, resolvers: tuple[str, ...]) -> None:
    points(server, "192.0.2.1", ttl=0)
    names = Names(resolvers, PATIENCE, keeps=True)
    names.addresses(NAME)
    points(server, "192.0.2.2", ttl=0)
    assert names.addresses(NAME) == ("192.0.2.1",)


def test_a_resolver_that_is_silent_leaves_time_for_the_next(server: knot.Knot, resolvers: tuple[str, ...]) -> None:
    points(server, "192.0.2.1", ttl=0)
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        both = (f"127.0.0.1:{silent.getsockname()[1]}", *resolvers)
        assert Names(both, timedelta(seconds=1)).addresses(NAME) == ("192.0.2.1",)
        with pytest.raises(Unresolved, match="lifetime expired"):
            Names(both[:1], timedelta(milliseconds=200)).addresses(NAME)


def test_a_name_that_there_is_not_leads_nowhere_and_an_address_to_itself(resolvers: tuple[str, ...]) -> None:
    names = Names(resolvers, PATIENCE)
    with pytest.raises(Unresolved, match="does not exist"):
        names.addresses(f"nobody.{knot.ZONE}")
    assert names.addresses("192.0.2.7") == ("192.0.2.7",)
