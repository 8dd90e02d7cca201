"""Hosts as outputs tell of them: sightings and groups."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.address import group, stack
from ismgr_automation.core.diagnostic import Position
from ismgr_automation.core.json import Json
from ismgr_automation.estate.documents import SshSettings
from ismgr_automation.planning.fleet import (
    UNKNOWN,
    Fleet,
    Sighting,
    ansible_groups,
    sightings,
    telling,
    twice,
    with_groups,
)
from ismgr_automation.ports.hosts import Host

OWNER = stack("dc1")
SSH = SshSettings(user="debian", port=2222, bastion="gate")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(UNKNOWN) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "address", "labels", "host_keys", "port", "groups", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


def seen(value: Json) -> tuple[tuple[Sighting, ...], tuple[str, ...]]:
    found, wrong = sightings(value, OWNER, SSH, Position("a.yaml", 1, 1))
    return found, tuple(one.summary for one in wrong)


@given(JSON)
def test_no_output_whatsoever_breaks_the_reading_of_hosts(value: Json) -> None:
    found, wrong = seen(value)
    assert telling(value) in (True, False)
    assert all(one.host.name and one.host.name != UNKNOWN for one in found)
    if isinstance(value, list):
        skipped = [one for one in value if one == UNKNOWN or (isinstance(one, dict) and one.get("name") == UNKNOWN)]
        assert len(found) + len(wrong) + len(skipped) == len(value)


def test_a_host_takes_from_the_settings_what_it_does_not_say() -> None:
    (one,), wrong = seen([{"name": "db1", "address": "192.0.2.1"}])
    assert wrong == ()
    assert (one.host.user, one.host.port, one.host.bastion, one.host.origin) == ("debian", 2222, "gate", "stack/dc1")
    assert (one.pending, one.stack) == ("", OWNER)


def test_a_host_says_everything_that_it_says() -> None:
    entry = {
        "name": "db1",
        "address": "192.0.2.1",
        "user": "root",
        "port": 22.0,
        "bastion": "jump",
        "labels": {"role": "db", "rank": 1},
        "groups": ["old"],
        "host_keys": ["ssh-ed25519 AAAA"],
        "site": "dc1",
        "machine": "db1.dc1",
        "addresses": {"wan": "198.51.100.1"},
    }
    (one,), _ = seen([entry])
    assert (one.host.user, one.host.port, one.host.bastion) == ("root", 22, "jump")
    assert one.host.labels == {"role": "db", "rank": "1"}
    assert (one.host.groups, one.host.site, one.host.machine) == (("old",), "dc1", "db1.dc1")
    assert one.host.variables["addresses"] == {"wan": "198.51.100.1"}


@pytest.mark.parametrize(
    ("more", "pending"),
    [
        ({"address": UNKNOWN}, "address not known yet"),
        ({"host_keys": [UNKNOWN]}, "host_keys not known yet"),
        ({"host_keys": UNKNOWN, "address": UNKNOWN}, "address, host_keys not known yet"),
        ({"addresses": {"wan": UNKNOWN}}, "addresses not known yet"),
        ({}, ""),
    ],
)
def test_what_is_not_known_yet_is_pending_and_never_taken_for_a_value(more: dict[str, Json], pending: str) -> None:
    (one,), _ = seen([{"name": "db1", "address": "192.0.2.1", **more}])
    assert one.pending == pending
    assert UNKNOWN not in one.host.host_keys


@pytest.mark.parametrize(
    ("value", "tells"),
    [
        ([], True),
        (None, False),
        (UNKNOWN, False),
        ([UNKNOWN], False),
        ([{"name": UNKNOWN}], False),
        ([{"name": "a", "labels": {"role": UNKNOWN}}], False),
        ([{"name": "a", "address": UNKNOWN, "host_keys": UNKNOWN}], True),
    ],
)
def test_hosts_can_be_counted_when_names_and_labels_are_there(value: Json, tells: bool) -> None:
    assert telling(value) is tells


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("db1", "is not a list"),
        ([1], "an entry 0 that is not an object"),
        ([{"name": "a", "address": "x"}, {"address": "y"}], "an entry 1 that has no name"),
        ([{"name": "a"}], "has no address (a)"),
        ([{"name": "a", "address": ""}], "has no address (a)"),
    ],
)
def test_a_malformed_entry_is_a_diagnostic_that_counts_from_zero(value: Json, words: str) -> None:
    _, (wrong,) = seen(value)
    assert words in wrong
    assert "stack/dc1" in wrong


def _host(name: str, origin: str = "stack/a", **more: object) -> Host:
    return Host(name=name, address="192.0.2.1", origin=origin, **more)  # type: ignore[arg-type]


def test_a_name_that_two_claim_is_told_with_both() -> None:
    found = [Sighting(host=_host("x")), Sighting(host=_host("x", "inventory/old")), Sighting(host=_host("y"))]
    assert twice(found) == ("x (stack/a and inventory/old)",)


def test_ansible_groups_come_from_groups_labels_sites_and_inventories() -> None:
    hosts = [_host("db1", labels={"role": "db"}, site="dc1", groups=("old-ones",)), _host("db2", labels={"role": "db"})]
    assert ansible_groups(hosts, {"data.bases": ["db1"], "data-bases": ["db2"]}) == {
        "data_bases": ("db1", "db2"),
        "old_ones": ("db1",),
        "role_db": ("db1", "db2"),
        "site_dc1": ("db1",),
    }


def test_hosts_carry_the_groups_that_they_belong_to() -> None:
    (one,) = with_groups([_host("db1", groups=("old",))], {"databases": ["db1"], "webs": ["web1"]})
    assert one.groups == ("databases", "old")


def test_a_fleet_knows_its_makers_and_the_order_of_a_group() -> None:
    fleet = Fleet(
        sightings=(
            Sighting(host=_host("b"), stack=stack("two")),
            Sighting(host=_host("a"), stack=stack("one")),
            Sighting(host=_host("c")),
        ),
        membership={"all": ("b", "a", "c"), "none": ()},
        unbounded=(),
    )
    assert fleet.makers == {group("all"): {stack("one"), stack("two")}, group("none"): frozenset()}
    assert [one.host.name for one in fleet.of("all")] == ["a", "b", "c"]
