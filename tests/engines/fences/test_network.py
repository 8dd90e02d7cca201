"""A network fence on a real packet filter in a namespace of its own, raised and lifted over real SSH."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.fences.network import ruleset
from ismgr_automation.ports.recovery import Sight, Verb
from tests.engines.fences.conftest import ADDRESS, CLIENT, PORT, SPARED, Country, cluster, folder

ABSENT = "its packet filter lets clients in"


@contextlib.contextmanager
def closing(verb: Verb) -> Iterator[Verb]:
    try:
        yield verb
    finally:
        verb.close()


def tables(country: Country) -> str:
    return country.member.run("nft", "list", "tables")


def test_what_is_staged_changes_nothing_and_what_is_raised_refuses_clients(country: Country) -> None:
    country.member.serve()
    with closing(country.fences.fence(country.request, country.context)) as fence:
        staged = fence.stage()
        assert (staged.sight, staged.words) == (Sight.NOT_DONE, ABSENT)
        assert tables(country) == ""
        assert country.other.gets_through()
        acted = fence.act()
        assert acted.ok, acted.words
        assert acted.began_ns < acted.ended_ns
        assert not country.other.gets_through()
        assert not country.member.gets_through("127.0.0.1")
        seen = fence.observe()
        assert seen.sight is Sight.DONE
        assert seen.readings["refused packets"] == 2


def test_it_replaces_itself_and_touches_no_other_table(country: Country) -> None:
    country.member.run(
        "nft", "add table inet base; add chain inet base input { type filter hook input priority 0; policy drop; }"
    )
    before = country.member.run("nft", "list", "table", "inet", "base")
    with closing(country.fences.fence(country.request, country.context)) as fence:
        assert fence.act().ok
        assert fence.act().ok
    assert tables(country).splitlines() == ["table inet base", "table inet ismgr_fence"]
    assert country.member.run("nft", "list", "table", "inet", "base") == before


@pytest.mark.parametrize("delay", [0.0, 0.05], ids=["between two requests", "while it waits for an answer"])
def test_a_client_that_was_connected_learns_it_before_it_would_send_again(country: Country, delay: float) -> None:
    country.member.serve(delay=delay)
    client = country.other.start(CLIENT, ADDRESS, str(PORT))
    with closing(country.fences.fence(country.request, country.context)) as fence:
        fence.stage()
        assert fence.act().ok
        assert client.stdout is not None
        assert float(client.stdout.readline()) > 0
        readings = fence.observe().readings
    # a client that must send again, because nobody told it, is counted on both ways
    assert bool(readings["refused packets"]) != bool(readings["withheld packets"])


def test_an_answer_that_was_being_made_does_not_arrive(country: Country) -> None:
    country.member.serve(delay=3)
    client = country.other.start(CLIENT, ADDRESS, str(PORT))
    with closing(country.fences.fence(country.request, country.context)) as fence:
        assert fence.act().ok
        assert client.stdout is not None
        # the request had arrived before the fence: its answer is what breaks the connection
        assert float(client.stdout.readline()) > 0
        assert int(fence.observe().readings["withheld packets"]) >= 1


def test_a_spared_network_and_other_ports_stay_open(country: Country) -> None:
    country.member.serve()
    country.member.serve(PORT + 1)
    country.other.serve(PORT)
    with closing(country.fences.fence(country.request, country.context)) as fence:
        assert fence.act().ok
    assert country.other.gets_through(SPARED)
    assert country.other.gets_through(ADDRESS, PORT + 1)
    # the member's own connections to another member are what rewinds it
    assert country.member.gets_through("192.0.2.2", PORT)


def test_a_fence_outlives_the_connection_that_raised_it_and_is_seen_by_the_next(country: Country) -> None:
    with closing(country.fences.fence(country.request, country.context)) as fence:
        assert fence.act().ok
    with closing(country.fences.fence(country.request, country.context)) as again:
        assert again.observe().sight is Sight.DONE
    with closing(country.fences.fence(replace(country.request, port=PORT + 1), country.context)) as other:
        assert other.observe().sight is Sight.NOT_DONE


def test_a_host_that_cannot_be_reached_is_unknown_and_not_fenced(country: Country) -> None:
    gone = replace(country.member.host, port=1)
    request = replace(country.request, fleet=replace(country.request.fleet, hosts=[gone]))
    with closing(country.fences.fence(request, country.context)) as fence:
        assert fence.stage().sight is Sight.UNKNOWN
    with closing(country.fences.unfence(request, country.context)) as unfence:
        assert unfence.observe().sight is Sight.UNKNOWN


def test_a_ruleset_that_the_kernel_would_not_take_is_found_while_staging(country: Country) -> None:
    wrong = replace(country.request, port=70000)
    with closing(country.fences.fence(wrong, country.context)) as fence:
        staged = fence.stage()
        assert staged.sight is Sight.UNKNOWN
        assert "out of range" in staged.words
        assert not fence.act().ok
    assert tables(country) == ""


@pytest.mark.parametrize("spared", ["management", "10.40.0.0/33", ""])
def test_what_is_no_network_cannot_be_spared(spared: str) -> None:
    with pytest.raises(InputError, match="is not a network that a fence could spare"):
        ruleset(PORT, (spared,))


def test_both_families_are_spared_by_their_own_rules() -> None:
    rules = ruleset(PORT, ("10.40.0.7/24", "2001:db8::/64", "10.41.0.0/24"))
    assert "ip daddr { 10.40.0.0/24, 10.41.0.0/24 } accept" in rules
    assert "ip6 saddr { 2001:db8::/64 } accept" in rules


def test_a_standby_is_let_out(country: Country, tmp_path: Path) -> None:
    country.member.serve(cwd=folder(tmp_path / "data", "standby.signal"))
    with closing(country.fences.fence(country.request, country.context)) as fence:
        assert fence.act().ok
    with closing(country.fences.unfence(country.request, country.context)) as unfence:
        staged = unfence.stage()
        assert (staged.sight, staged.readings["postgresql"]) == (Sight.NOT_DONE, "standby")
        assert not country.other.gets_through()
        assert unfence.act().ok
        assert unfence.observe().sight is Sight.DONE
        assert unfence.act().ok
    assert tables(country) == ""
    assert country.other.gets_through()


def test_a_primary_stays_fenced(country: Country, tmp_path: Path) -> None:
    country.member.serve(cwd=folder(tmp_path / "data"))
    with closing(country.fences.fence(country.request, country.context)) as fence:
        assert fence.act().ok
        with closing(country.fences.unfence(country.request, country.context)) as unfence:
            acted = unfence.act()
            assert (acted.ok, acted.words) == (False, "it stays fenced: its PostgreSQL runs as a primary")
        assert fence.observe().sight is Sight.DONE
    assert not country.other.gets_through()


def test_a_primary_that_is_given_back_is_let_out(country: Country, tmp_path: Path) -> None:
    country.member.serve(cwd=folder(tmp_path / "data"))
    with closing(country.fences.fence(country.request, country.context)) as fence:
        assert fence.act().ok
    with closing(country.fences.unfence(replace(country.request, giving_back=True), country.context)) as unfence:
        acted = unfence.act()
        assert (acted.ok, acted.words) == (True, "no fence; its PostgreSQL runs as a primary")
    assert country.other.gets_through()


@pytest.mark.parametrize(
    ("start", "files", "let_out"),
    [
        ("manual", (), "manual"),
        ("disabled", (), "manual"),
        ("auto", ("standby.signal",), "waits"),
        ("auto", (), ""),
        ("", (), ""),
    ],
)
def test_a_database_that_is_down_is_let_out_when_it_cannot_come_up_as_a_primary(
    country: Country, tmp_path: Path, start: str, files: tuple[str, ...], let_out: str
) -> None:
    cluster(country, folder(tmp_path / "data", *files), start)
    with closing(country.fences.fence(country.request, country.context)) as fence:
        assert fence.act().ok
    with closing(country.fences.unfence(country.request, country.context)) as unfence:
        acted = unfence.act()
        assert acted.ok == bool(let_out)
        assert acted.readings["postgresql"] == (let_out or "automatic")


def test_what_is_no_database_stays_fenced(country: Country, tmp_path: Path) -> None:
    country.member.serve(cwd=tmp_path)
    with closing(country.fences.fence(country.request, country.context)) as fence:
        assert fence.act().ok
    with closing(country.fences.unfence(country.request, country.context)) as unfence:
        assert not unfence.act().ok
