"""Pointing a name elsewhere at a real Knot server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.secrets import Backends, PrivateFiles
from ismgr_automation.engines.switches import ClientSwitches, secondaries
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import NameRequest, Sight, Verb
from tests.engines.loopback import free_port
from tests.provider import knot

pytestmark = pytest.mark.skipif(not Path(knot.KNOTD).exists(), reason="the package knot is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[knot.Knot]:
    with knot.running(tmp_path_factory.mktemp("knot")) as running:
        yield running


@pytest.fixture
def request_(server: knot.Knot) -> NameRequest:
    return NameRequest(
        server="127.0.0.1",
        port=server.port,
        zone=knot.ZONE,
        record="records",
        type="A",
        ttl=5,
        values=("192.0.2.20",),
        key_name=knot.KEY,
        key=SecretRef.parse("file:tsig"),
        deadline=timedelta(seconds=5),
    )


@pytest.fixture
def switch(tmp_path: Path) -> Callable[[NameRequest], Verb]:
    kept = tmp_path / "secrets"
    kept.mkdir(mode=0o700)
    (kept / "tsig").touch(mode=0o600)
    (kept / "tsig").write_text(knot.SECRET)
    (kept / "wrong").touch(mode=0o600)
    (kept / "wrong").write_text("d3Jvbmcgc2VjcmV0IG9mIHRoZSB0ZXN0cw==")
    switches = ClientSwitches(Backends({"file": PrivateFiles(root=kept)}))
    return lambda request: switches.name(request, Context(work=tmp_path))


def test_a_name_is_pointed_there_and_back_and_the_server_shows_it(
    switch: Callable[[NameRequest], Verb], request_: NameRequest
) -> None:
    there, back = switch(request_), switch(replace(request_, values=("192.0.2.30", "192.0.2.31")))
    assert there.act().ok
    staged = back.stage()
    assert (staged.sight, staged.words) == (Sight.NOT_DONE, "records.two-sites.test. A is 192.0.2.20 (ttl 5)")
    acted = back.act()
    assert (acted.ok, acted.words) == (True, "records.two-sites.test. A is 192.0.2.30, 192.0.2.31 (ttl 5)")
    assert back.observe().sight is Sight.DONE
    assert there.observe().sight is Sight.NOT_DONE
    assert back.act().ok
    back.close()
    back.close()


def test_whoever_changed_it_meanwhile_is_overruled(
    switch: Callable[[NameRequest], Verb], request_: NameRequest
) -> None:
    mine, theirs = (
        switch(replace(request_, record="race")),
        switch(replace(request_, record="race", values=("192.0.2.77",), ttl=60)),
    )
    mine.stage()
    assert theirs.act().ok
    assert mine.act().ok
    assert theirs.observe().sight is Sight.NOT_DONE
    assert mine.observe().sight is Sight.DONE


def test_an_alias_is_not_silently_left_as_it_is(switch: Callable[[NameRequest], Verb], request_: NameRequest) -> None:
    verb = switch(replace(request_, record="alias", deadline=timedelta(seconds=3)))
    acted = verb.act()
    assert not acted.ok
    assert "still shows" in acted.words
    assert verb.observe().sight is Sight.NOT_DONE


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key": SecretRef.parse("file:wrong")}, "does not accept our TSIG key"),
        ({"port": free_port()}, "refused the connection"),
        ({"zone": "elsewhere.test"}, "records.elsewhere.test"),
    ],
)
def test_a_server_that_does_not_let_us_is_unknown_while_staging(
    switch: Callable[[NameRequest], Verb], request_: NameRequest, change: dict[str, object], words: str
) -> None:
    verb = switch(replace(request_, deadline=timedelta(seconds=2), **change))  # type: ignore[arg-type]
    staged = verb.stage()
    assert staged.sight is Sight.UNKNOWN
    assert words in staged.words
    acted = verb.act()
    assert not acted.ok
    assert acted.words


@pytest.mark.parametrize("change", [{"values": ("here",)}, {"values": ()}, {"record": "www.elsewhere.test."}])
def test_what_is_no_record_is_refused(
    switch: Callable[[NameRequest], Verb], request_: NameRequest, change: dict[str, object]
) -> None:
    with pytest.raises(InputError):
        switch(replace(request_, **change))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[knot.Knot]:
    """Another server of the zone, which nobody transfers it to."""
    with knot.running(tmp_path_factory.mktemp("other")) as running:
        yield running


def test_a_server_that_shows_the_old_records_is_waited_for_and_one_that_is_silent_is_told(
    switch: Callable[[NameRequest], Verb],
    request_: NameRequest,
    other: knot.Knot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(secondaries, "ANSWER", timedelta(seconds=2))
    behind, silent = f"127.0.0.1:{other.port}", f"127.0.0.1:{free_port()}"
    asked = replace(request_, record="both", secondaries=(behind, silent), deadline=timedelta(seconds=6))
    acted = switch(asked).act()
    assert not acted.ok
    assert f"{behind} shows nothing" in acted.words
    assert switch(asked).observe().sight is Sight.NOT_DONE
    assert switch(replace(asked, port=other.port, secondaries=())).act().ok
    acted = switch(asked).act()
    assert acted.ok
    assert f"{silent} does not answer" in acted.words
    assert behind not in acted.words
    assert switch(asked).observe().sight is Sight.DONE
