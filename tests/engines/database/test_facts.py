"""Readings as JSON: whatever a host may say comes back as it was, and what we did not write is told."""

from __future__ import annotations

import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.core.json import canonical
from ismgr_automation.engines.database.facts import FORMAT, facts_json, moves_text, pack, read_facts, read_moves, unpack
from ismgr_automation.ports.packages import Boot, HostFacts, Installed, Mapped, Move, Need, Offered, Stale

ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=ZONES)  # noqa: DTZ001
TYPES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=5),
    int: st.integers(0, 2**53 - 1),
    float: st.floats(0, allow_nan=False),
    bool: st.booleans(),
    datetime: MOMENTS,
    datetime | None: st.none() | MOMENTS,
    Need: st.sampled_from(Need),
}


def whole(kind: type) -> st.SearchStrategy[Any]:
    """Values with every field filled: a field that is added later and forgotten in the JSON is found."""
    return st.builds(kind, **{name: TYPES[hint] for name, hint in get_type_hints(kind).items()})


def several(one: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(one, max_size=2).map(tuple)


TYPES[tuple[str, ...]] = several(TYPES[str])
TYPES[Boot] = whole(Boot)
TYPES[tuple[Installed, ...]] = several(whole(Installed))
TYPES[tuple[Offered, ...]] = several(whole(Offered))
TYPES[tuple[Stale, ...]] = several(whole(Stale))
TYPES[tuple[Mapped, ...] | None] = st.none() | several(whole(Mapped))


@given(whole(HostFacts))
def test_a_reading_comes_back_as_it_was(facts: HostFacts) -> None:
    assert unpack(pack(facts), facts.host, "here") == facts


@given(several(whole(Move)))
def test_moves_come_back_as_they_were(moves: tuple[Move, ...]) -> None:
    assert read_moves(moves_text(moves)) == moves


FACTS = HostFacts(
    host="web1.dc1",
    read_at=datetime(2026, 11, 2, 12, tzinfo=UTC),
    distribution="debian",
    release="12",
    codename="bookworm",
    kernel="6.1.0-26-amd64",
    kernel_installed="",
    boot=Boot(boot_id="b", init_started=7),
    installed=(),
    offered=(),
    seconds=0.25,
)


def test_a_reading_says_of_what_format_it_is_and_holds_no_fraction() -> None:
    body = facts_json(FACTS)
    assert (body["format"], body["read_at"], body["seconds"]) == ("ismgr.facts/1", "2026-11-02T12:00:00Z", "0.25")


def test_a_reading_from_before_anybody_looked_at_what_runs_says_that_nobody_did() -> None:
    body = facts_json(replace(FACTS, mapped=(Mapped(unit="init", packages=("systemd",)),)))
    del body["mapped"]
    assert read_facts(body).mapped is None


def test_a_reading_of_a_later_format_is_told_as_such() -> None:
    later = zlib.compress(canonical({**facts_json(FACTS), "format": "ismgr.facts/2", "new": 1}))
    with pytest.raises(EngineFailed, match=rf"web1\.dc1 has the format 'ismgr\.facts/2'.*knows '{FORMAT}'") as caught:
        unpack(later, "web1.dc1", "here")
    assert "newer ismgr" in caught.value.next_step


@pytest.mark.parametrize(
    "column",
    [
        b"",
        b"no compression",
        pack(FACTS)[:-9],
        zlib.compress(b"no json"),
        zlib.compress(b"[]"),
        zlib.compress(b"{}"),
        zlib.compress(b"\xff"),
        zlib.compress(canonical({**facts_json(FACTS), "installed": [["bash"]]})),
        zlib.compress(canonical({**facts_json(FACTS), "reboot": "perhaps"})),
        zlib.compress(canonical({**facts_json(FACTS), "read_at": "noon"})),
    ],
)
def test_a_damaged_reading_names_its_host_and_what_helps(column: bytes) -> None:
    with pytest.raises(EngineFailed, match=r"reading of web1\.dc1 in the database here is damaged") as caught:
        unpack(column, "web1.dc1", "here")
    assert "Read web1.dc1 again" in caught.value.next_step
