"""In which order hosts are patched."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.estate.documents import HostGroup
from ismgr_automation.patching.rings import REST, Phase, Roles, members_in_order, phases, ring_of, roles
from ismgr_automation.planning.waves import shards
from ismgr_automation.ports.hosts import Host
from tests.patching.cases import baseline

RINGS = [
    {"name": "test", "selector": 'host.labels.ring == "test"', "soak": "1h"},
    {"name": "first", "selector": 'host.site == "dc1"', "waves": [1, "50%"], "soak": "30m"},
]


def _host(name, ring="", site=""):
    return Host(name=name, address="192.0.2.1", origin="", labels={"ring": ring} if ring else {}, site=site)


HOSTS = (_host("a", site="dc1"), _host("b", "test", "dc1"), _host("c", site="dc1"), _host("d"), _host("e", "test"))
RINGED = baseline(rings=RINGS)


def _names(found):
    return [(one.ring, one.hosts) for one in found]


def test_a_host_is_in_the_first_ring_that_selects_it_and_the_rest_come_last():
    assert _names(phases(RINGED, HOSTS)) == [("test", ("b", "e")), ("first", ("a", "c")), (REST, ("d",))]
    assert ring_of(RINGED, HOSTS)["b"] == "test"


def test_a_ring_has_its_own_waves_and_soak():
    found = phases(RINGED, HOSTS)
    assert [one.sizes for one in found] == [(1, "100%"), (1, "50%"), ("100%",)]
    assert [one.soak for one in found] == [timedelta(hours=1), timedelta(minutes=30), timedelta()]


def test_a_ring_without_hosts_is_left_out():
    assert _names(phases(RINGED, [_host("d")])) == [(REST, ("d",))]
    assert phases(RINGED, []) == ()


def test_without_rings_one_host_goes_first():
    (one,) = phases(baseline(), HOSTS)
    assert one == Phase(ring=REST, hosts=("a", "b", "c", "d", "e"), sizes=(1, "100%"), soak=timedelta())
    assert [shard.names for shard in shards(one.hosts, one.sizes)] == [("a",), ("b", "c", "d", "e")]


def test_a_primary_comes_after_its_standbys_and_only_then_the_ring_soaks():
    cluster = Roles(group="dbs", members=frozenset(["a", "c"]), primary="a")
    found = phases(RINGED, HOSTS, [cluster])
    assert _names(found) == [("test", ("b", "e")), ("first", ("c",)), ("first", ("a",)), (REST, ("d",))]
    assert [one.soak for one in found[1:3]] == [timedelta(), timedelta(minutes=30)]


def test_a_primary_of_an_early_ring_waits_for_a_standby_of_a_later_one():
    cluster = Roles(group="dbs", members=frozenset(["b", "d"]), primary="b")
    assert _names(phases(RINGED, HOSTS, [cluster])) == [
        ("test", ("e",)),
        ("first", ("a", "c")),
        (REST, ("d",)),
        (REST, ("b",)),
    ]


def test_a_primary_of_a_late_ring_stays_in_it():
    cluster = Roles(group="dbs", members=frozenset(["b", "d"]), primary="d")
    assert _names(phases(RINGED, HOSTS, [cluster])) == _names(phases(RINGED, HOSTS))


def test_where_nobody_knows_the_primary_no_two_members_go_together():
    cluster = Roles(group="dbs", members=frozenset(["a", "c", "d"]))
    assert _names(phases(baseline(), HOSTS, [cluster])) == [
        (REST, ("a", "b", "e")),
        (REST, ("c",)),
        (REST, ("d",)),
    ]


def test_members_that_are_not_patched_hold_nobody_up():
    cluster = Roles(group="dbs", members=frozenset(["a", "z"]), primary="a")
    assert len(phases(baseline(), HOSTS, [cluster])) == 1
    assert len(phases(baseline(), HOSTS, [Roles(group="dbs", members=frozenset(["a", "z"]), primary="z")])) == 1


def test_two_that_wait_for_each_other_go_one_after_the_other():
    one = Roles(group="one", members=frozenset(["a", "c"]), primary="a")
    two = Roles(group="two", members=frozenset(["a", "c"]), primary="c")
    found = phases(baseline(), HOSTS, [one, two])
    assert all(not {"a", "c"} <= set(phase.hosts) for phase in found)
    assert sorted(name for phase in found for name in phase.hosts) == ["a", "b", "c", "d", "e"]


def test_only_groups_with_a_switchover_are_clusters():
    body = {"kind": "HostGroup", "selector": "true", "playbook": "playbooks/db.yml"}
    groups = {
        "dbs": HostGroup.model_validate({**body, "name": "dbs", "switchover": {}}),
        "webs": HostGroup.model_validate({**body, "name": "webs"}),
    }
    found = roles(groups, {"dbs": ["a", "b"], "webs": ["c"]}, {"dbs": "a"})
    assert found == (Roles(group="dbs", members=frozenset(["a", "b"]), primary="a"),)
    assert members_in_order(found[0]) == ("b", "a")


NAMES = st.sampled_from([f"h{n}" for n in range(8)])
CLUSTERS = st.lists(st.tuples(st.sets(NAMES, min_size=1, max_size=4), NAMES | st.just("")), max_size=3)


@given(st.lists(st.sampled_from(["test", "", "dc1"]), min_size=8, max_size=8), CLUSTERS)
def test_everybody_is_patched_once_and_never_beside_or_before_his_primary(places, clusters):
    hosts = [_host(f"h{n}", place if place == "test" else "", place) for n, place in enumerate(places)]
    known = [Roles(group=f"g{n}", members=frozenset(who), primary=one) for n, (who, one) in enumerate(clusters)]
    found = phases(RINGED, hosts, known)
    assert sorted(name for one in found for name in one.hosts) == sorted(one.name for one in hosts)
    at = {name: index for index, one in enumerate(found) for name in one.hosts}
    for one in known:
        if one.primary in one.members:
            others = one.members - {one.primary}
            assert all(at[name] != at[one.primary] for name in others)
            # two clusters of the same hosts may each want to be before the other
            if len(known) == 1:
                assert all(at[name] < at[one.primary] for name in others)
        else:
            assert len({at[name] for name in one.members}) == len(one.members)
