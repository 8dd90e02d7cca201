"""Who confirms a fence: real connections between namespaces, and what must never count as one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from ismgr_automation.core.errors import Cancelled, InputError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.fences import knock
from ismgr_automation.engines.fences.witness import CONTROLLER
from ismgr_automation.ports.recovery import FenceRequest, Sight, Witness
from ismgr_automation.ports.upkeep import BmcAccess
from tests.engines.fences.conftest import MEMBER, OTHER, PORT, Country, Machine, until
from tests.engines.loopback import free_port

QUICK = timedelta(milliseconds=500)
DROP = (
    "add table inet t; add chain inet t i { type filter hook input priority 0; }; add rule inet t i tcp dport 5432 drop"
)


@contextlib.contextmanager
def witnessing(country: Country, **more: object) -> Iterator[Witness]:
    request = replace(country.with_witnesses(OTHER), **more)  # type: ignore[arg-type]
    one = country.fences.witness(request, country.context)
    try:
        yield one
    finally:
        one.close()


def by_power(request: FenceRequest) -> BmcAccess:
    return BmcAccess(
        machine=request.host, address="https://127.0.0.1", username="admin", password=SecretRef.parse("file:x")
    )


def test_a_fence_is_confirmed_by_who_could_connect_before(country: Country) -> None:
    country.member.serve()
    fence = country.fences.fence(country.request, country.context)
    with contextlib.closing(fence), witnessing(country) as witness:
        staged = witness.stage()
        assert (staged.sight, staged.words) == (Sight.NOT_DONE, "can connect to 192.0.2.1 port 5432: db1.dc2")
        assert fence.act().ok
        told = witness.confirm()
    assert told.ok
    assert told.by == "db1.dc2 by connecting to 192.0.2.1 port 5432"
    assert told.words.startswith("db1.dc2 is refused (")
    assert told.ended_ns > 0


def test_a_fence_that_does_nothing_is_not_confirmed(country: Country) -> None:
    country.member.serve()
    with witnessing(country, deadline=QUICK) as witness:
        witness.stage()
        told = witness.confirm()
    assert (told.ok, told.words) == (False, "db1.dc2 gets through")


def test_it_waits_for_a_fence_that_is_being_raised(country: Country) -> None:
    country.member.serve()
    fence = country.fences.fence(country.request, country.context)
    with contextlib.closing(fence), witnessing(country) as witness:
        witness.stage()
        fence.stage()
        raising = threading.Timer(0.2, fence.act)
        raising.start()
        told = witness.confirm()
        raising.join()
    assert told.ok


def test_who_could_not_connect_before_is_no_witness(country: Country) -> None:
    with witnessing(country, deadline=QUICK) as witness:
        staged = witness.stage()
        assert staged.sight is Sight.UNKNOWN
        assert "db1.dc2 is refused" in staged.words
        told = witness.confirm()
    assert not told.ok
    assert "there is no witness" in told.words


def test_who_connected_before_the_controller_died_is_still_a_witness(country: Country) -> None:
    country.member.serve()
    fence = country.fences.fence(country.request, country.context)
    with contextlib.closing(fence), witnessing(country) as witness:
        kept = witness.stage().readings
        assert fence.act().ok
    assert set(kept) == {OTHER}
    with witnessing(country, deadline=QUICK) as forgetful:
        assert forgetful.stage().sight is Sight.UNKNOWN
        assert not forgetful.confirm().ok
    with witnessing(country, proven=kept) as resumed:
        assert resumed.stage().sight is Sight.NOT_DONE
        assert resumed.confirm().ok
    with witnessing(country, proven={"somebody else": 1.0}, deadline=QUICK) as other:
        assert not other.stage().readings


def test_how_long_a_machine_without_power_was_silent_is_not_taken_for_the_length_of_the_way(country: Country) -> None:
    country.member.serve()
    with witnessing(country) as witness:
        kept = witness.stage().readings
    country.member.run("nft", DROP)
    with witnessing(country, proven=kept, bmc=by_power(country.request)) as resumed:
        assert resumed.stage().readings == kept
        assert resumed.confirm().ok


def test_silence_could_be_a_broken_way_and_does_not_confirm_a_network_fence(country: Country) -> None:
    country.member.serve()
    with witnessing(country, deadline=QUICK) as witness:
        assert witness.stage().sight is Sight.NOT_DONE
        country.member.run("nft", DROP)
        told = witness.confirm()
    assert not told.ok
    assert "gets no answer" in told.words


def test_silence_of_all_confirms_a_machine_without_power(country: Country) -> None:
    country.member.serve()
    with witnessing(country, bmc=by_power(country.request)) as witness:
        witness.stage()
        country.member.run("nft", DROP)
        told = witness.confirm()
    assert told.ok
    assert "gets no answer" in told.words


def test_a_refusal_comes_from_a_machine_that_has_power(country: Country) -> None:
    country.member.serve()
    with witnessing(country, bmc=by_power(country.request), deadline=QUICK) as witness:
        witness.stage()
        country.member.run("nft", DROP.replace(" drop", " reject with tcp reset"))
        told = witness.confirm()
    assert not told.ok
    assert "is refused" in told.words


def test_who_watches_a_power_cut_has_seen_the_silence_when_he_is_asked(country: Country) -> None:
    country.member.serve()
    with witnessing(country, bmc=by_power(country.request)) as witness:
        witness.stage()
        witness.watch()
        country.member.run("nft", DROP)
        until("the silence was seen", lambda: "ismgr-witness" not in {one.name for one in threading.enumerate()})
        asked = time.monotonic_ns()
        told = witness.confirm()
    assert told.ok
    assert told.ended_ns < asked


def test_who_watched_a_power_cut_that_did_nothing_does_not_confirm_it(country: Country) -> None:
    country.member.serve()
    with witnessing(country, bmc=by_power(country.request), deadline=QUICK) as witness:
        witness.stage()
        witness.watch()
        told = witness.confirm()
    assert (told.ok, told.words) == (False, "db1.dc2 gets through")


def test_who_watches_a_power_cut_stops_on_request(country: Country) -> None:
    country.member.serve()
    with witnessing(country, bmc=by_power(country.request), deadline=timedelta(minutes=1)) as witness:
        witness.stage()
        witness.watch()
        threading.Timer(0.2, country.context.cancelled.set).start()
        began = time.monotonic()
        with pytest.raises(Cancelled):
            witness.confirm()
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("break_it", ["link set eth0 down", "route flush dev eth0"])
def test_a_witness_without_a_way_of_its_own_cannot_say(country: Country, break_it: str) -> None:
    country.member.serve()
    with witnessing(country, bmc=by_power(country.request), deadline=QUICK) as witness:
        witness.stage()
        country.other.run("ip", *break_it.split())
        told = witness.confirm()
    assert (told.ok, told.words) == (False, "db1.dc2 cannot say: it has no way there")


def test_a_witness_that_is_lost_confirms_nothing(country: Country) -> None:
    country.member.serve()
    dead = replace(country.other.host, port=1)
    fleet = replace(country.request.fleet, hosts=[country.member.host, dead])
    with witnessing(country, fleet=fleet, deadline=QUICK) as witness:
        staged = witness.stage()
        assert staged.sight is Sight.UNKNOWN
        assert "db1.dc2 cannot say" in staged.words
        assert not witness.confirm().ok


def lose(machine: Machine) -> None:
    """All that runs there, and every connection to it, ends."""
    listed = subprocess.run(["ip", "netns", "pids", machine.namespace], check=True, capture_output=True, text=True)
    for pid in listed.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


@contextlib.contextmanager
def falls_silent() -> Iterator[socket.socket]:
    """A server here that lets one in: nobody takes him from its queue, and all who come after him hear nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        yield server


def test_only_those_who_are_named_confirm_and_what_keeps_this_controller_out_does_not(country: Country) -> None:
    with falls_silent() as server:
        port = server.getsockname()[1]
        country.other.serve(port)
        request = {"address": "127.0.0.1", "port": port, "bmc": by_power(country.request), "deadline": QUICK}
        with witnessing(country, **request) as witness:
            assert set(witness.stage().readings) == {OTHER, CONTROLLER}
            told = witness.confirm()
            assert (told.ok, told.words.split(";")[0]) == (False, f"{OTHER} gets through")
            lose(country.other)
            told = witness.confirm()
    assert f"{OTHER} cannot say" in told.words
    assert f"{CONTROLLER} gets no answer" in told.words
    assert not told.ok


def test_a_refusal_that_only_this_controller_hears_does_not_confirm_a_network_fence(country: Country) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        country.other.serve(port)
        with witnessing(country, address="127.0.0.1", port=port, deadline=QUICK) as witness:
            assert set(witness.stage().readings) == {OTHER, CONTROLLER}
            server.close()
            country.other.run("nft", DROP.replace("5432", f"{port}"))
            told = witness.confirm()
    assert f"{OTHER} gets no answer" in told.words
    assert f"{CONTROLLER} is refused" in told.words
    assert not told.ok


def test_a_stopped_witness_says_so(country: Country) -> None:
    country.member.serve()
    with witnessing(country) as witness:
        witness.stage()
        asking = threading.Timer(0.2, country.context.cancelled.set)
        asking.start()
        with pytest.raises(Cancelled):
            witness.confirm()


@pytest.mark.parametrize(
    ("more", "words"),
    [({"address": "db1.example"}, "is not an address"), ({"witnesses": (MEMBER,)}, "witness of its own fence")],
)
def test_what_could_not_be_believed_is_refused(country: Country, more: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words), witnessing(country, **more):
        pass


def test_the_program_ends_with_the_connection(country: Country) -> None:
    country.member.serve()
    with witnessing(country) as witness:
        witness.stage()
        assert "ISuc" in country.other.run(
            "sh", "-c", f"ip netns pids {country.other.namespace} | xargs ps -o args= -p"
        )
    until(
        "the program is gone",
        lambda: (
            "ISuc"
            not in country.other.run("sh", "-c", f"ip netns pids {country.other.namespace} | xargs ps -o args= -p")
        ),
    )


def test_a_knock_says_what_it_met() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert knock.knock("127.0.0.1", server.getsockname()[1], 1.0)[0] == knock.OPEN
    assert knock.knock("127.0.0.1", free_port(), 1.0)[0] == knock.REFUSED
    assert knock.knock("::1", free_port(), 1.0)[0] in {knock.REFUSED, knock.LOST}
    assert PORT
