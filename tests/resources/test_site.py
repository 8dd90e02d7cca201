"""Reading a Site document in a program, and the entries of a hosts output."""

from __future__ import annotations

import pytest

from ismgr_automation.estate.documents import Site
from ismgr_automation.resources.site import server_args, site_facts
from ismgr_automation.resources.zone import records_of

BMC = {
    "address": "https://10.40.0.114",
    "username": "admin",
    "password": {"secret": "file:bmc/db1.dc1"},
    "ca": "trust/bmc-ca.pem",
}
MACHINE = {
    "name": "db1",
    "address": "10.40.0.14",
    "bmc": BMC,
    "labels": {"role": "db", "site": "dc1"},
    "host_keys": ["ssh-ed25519 AAAA"],
    "addresses": {"management": "10.40.0.14", "dc1": "10.41.0.40"},
}


def document(**changes):
    """As the engine hands it over: the Site document, dumped."""
    site = Site.model_validate(
        {"kind": "Site", "name": "dc1", "time_zone": "Europe/Berlin", "machines": [MACHINE | changes]}
    )
    return site.model_dump(mode="json")


def test_a_site_document_is_read_as_it_is_dumped():
    facts = site_facts(document(asset_tag="A-17", port=2222))
    (machine,) = facts.machines
    assert (machine.host, machine.name, machine.site) == ("db1.dc1", "db1", "dc1")
    assert (machine.bmc.password_ref, machine.bmc.ca) == ("file:bmc/db1.dc1", "trust/bmc-ca.pem")
    assert (machine.port, machine.asset_tag) == (2222, "A-17")


def test_a_machine_that_is_named_with_its_site_is_not_named_twice():
    (machine,) = site_facts(document(name="db1.dc1")).machines
    assert machine.host == "db1.dc1"


def test_machines_are_selected_by_all_labels():
    facts = site_facts(document())
    assert len(facts.having({})) == 1
    assert len(facts.having({"role": "db", "site": "dc1"})) == 1
    assert facts.having({"role": "db", "site": "dc2"}) == ()


def test_what_is_no_site_is_named_field_by_field():
    with pytest.raises(ValueError, match=r"machines\.0\.bmc\.password") as caught:
        site_facts({"machines": [{"name": "db1", "bmc": {"address": "https://x", "username": "a"}}]})
    assert "name: Field required" in str(caught.value)


def test_the_arguments_of_a_server_come_from_its_machine():
    args = server_args(site_facts(document()).machines[0])
    assert (args.endpoint, args.username, args.password_ref) == (BMC["address"], "admin", "file:bmc/db1.dc1")
    assert (args.ca, args.power_state, args.asset_tag, args.system) == ("trust/bmc-ca.pem", "On", None, None)


def test_records_are_read_from_a_list_and_from_a_map():
    entry = {"type": "a", "ttl": 60, "values": ["192.0.2.1"]}
    listed = records_of([{"name": "www", **entry}, {"name": "www", "type": "AAAA", "records": ["2001:db8::1"]}])
    assert [(one.name, one.type, one.ttl) for one in listed] == [("www", "A", 60), ("www", "AAAA", 300)]
    assert records_of({"www": entry}) == listed[:1]


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"www": {"type": "A"}}, r"www\.records"),
        ([{"name": "www", "type": "A", "records": []}], r"0\.records"),
        ([{"name": "www", "type": "A", "records": ["x"], "tll": 3}], r"0\.tll"),
        ([{"name": "w", "type": t, "records": ["x"]} for t in ("A", "a")], "twice"),
        ("www", "records"),
    ],
)
def test_wrong_records_are_named(config, complaint):
    with pytest.raises(ValueError, match=complaint):
        records_of(config)
